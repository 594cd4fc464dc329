//! Single images of QEMU and of ours: read, written, refused by name, and checked with the same outcome.
//!
//! Needs `qemu-img` and `qemu-io` in the path: `cargo test --release --test interop_image -- --ignored`.

#![expect(clippy::print_stdout, reason = "a failing test shows which seed and which shape it was")]

#[path = "support/qemu.rs"]
mod qemu;
#[path = "support/qemu_io.rs"]
mod qemu_io;

use qemu::{Checked, Qemu};
use snapgroup::image::{CheckReport, Error, Facts, Image, Limits, Mapping, NewImage, Space, Version};
use snapgroup::storage::{Access, BlobName, DiskStore, Store};
use snapgroup::units::{ByteCount, GuestOffset};
use std::error::Error as StdError;
use std::path::{Path, PathBuf};

type Outcome<T = ()> = Result<T, Box<dyn StdError>>;

const IMAGE: &str = "x.qcow2";

struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Outcome<Self> {
        Ok(Self { directory: tempfile::tempdir()? })
    }

    fn qemu(&self) -> Qemu<'_> {
        Qemu::in_directory(self.directory.path())
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join(IMAGE)
    }

    /// An image of QEMU's, with what these commands write.
    fn made_by_qemu(options: &str, size: &str, commands: &[&str]) -> Outcome<Self> {
        let bench = Self::new()?;
        let options = if options.is_empty() { vec![] } else { vec!["-o", options] };
        let arguments = [vec!["create", "-q", "-f", "qcow2"], options, vec![IMAGE, size]].concat();
        bench.qemu().img(&arguments);
        bench.written_by_qemu(commands);
        Ok(bench)
    }

    fn written_by_qemu(&self, commands: &[&str]) {
        let commands: Vec<String> = commands.iter().map(|command| (*command).to_owned()).collect();
        self.qemu().io(&["-f", "qcow2", "-d", "unmap", IMAGE], &commands);
    }

    fn made_by_us(new: &NewImage) -> Outcome<Self> {
        let bench = Self::new()?;
        let blob = DiskStore::open(bench.directory.path())?.create(&BlobName::parse(IMAGE)?)?;
        new.layout(IMAGE)?.write(&*blob)?;
        Ok(bench)
    }

    fn try_open(&self, access: Access) -> snapgroup::image::Result<Image> {
        let store = DiskStore::open(self.directory.path())?;
        let name = BlobName::parse(IMAGE).expect("one component");
        Image::open(store.open(&name, access)?, IMAGE, access, Limits::default())
    }

    fn open(&self, access: Access) -> Outcome<Image> {
        Ok(self.try_open(access)?)
    }

    /// Both find nothing wrong.
    fn assert_clean(&self) -> Outcome {
        let (checked, said) = self.qemu().check(IMAGE);
        assert_eq!(checked, Checked::Clean, "{said}");
        let report = self.open(Access::Read)?.check()?;
        assert!(report.is_clean(), "{report}");
        Ok(())
    }

    /// Overwrites bytes of the file.
    fn poke(&self, at: u64, bytes: &[u8]) -> Outcome {
        use std::os::unix::fs::FileExt;
        std::fs::OpenOptions::new().write(true).open(self.path())?.write_all_at(bytes, at)?;
        Ok(())
    }
}

fn read(image: &Image, at: u64, length: usize) -> snapgroup::image::Result<Vec<u8>> {
    let (mut found, mut holes) = (vec![0xee; length], Vec::new());
    image.read(GuestOffset::new(at), &mut found, &mut holes)?;
    holes.into_iter().for_each(|hole| found[hole].fill(0));
    Ok(found)
}

fn length(path: &Path) -> Outcome<u64> {
    Ok(std::fs::metadata(path)?.len())
}

// ---- Data ---------------------------------------------------------------------------------------------

#[test]
#[ignore = "needs qemu-img"]
fn what_we_write_qemu_reads_and_the_other_way_round() -> Outcome {
    for (version, orders) in [(Version::V3, vec![0, 1, 2, 3, 4, 5, 6]), (Version::V2, vec![4])] {
        for refcount_order in orders {
            for cluster_bits in [9, 12, 16, 21] {
                println!("{version:?}, cluster bits {cluster_bits}, refcount order {refcount_order}");
                let size = ByteCount::mib(5) + ByteCount::new(512);
                let new = NewImage { version, cluster_bits, refcount_order, ..NewImage::of_size(size) };
                let bench = Bench::made_by_us(&new)?;
                let image = bench.open(Access::Write)?;
                image.write(GuestOffset::new(1000), &[7; 100_000], None)?;
                image.write(GuestOffset::new((5 << 20) + 200), &[8; 312], None)?;
                image.zero(GuestOffset::new(40_000), ByteCount::new(20_000), Space::Free, None)?;
                image.flush()?;
                drop(image);
                bench.assert_clean()?;
                bench.written_by_qemu(&[
                    "read -P 0 0 1000",
                    "read -P 7 1000 39000",
                    "read -P 0 40000 20000",
                    "read -P 7 60000 41000",
                    "read -P 8 5243080 312",
                    "write -P 9 3000320 1048576",
                    "write -P 10 0 512",
                    "write -z 65536 4096",
                ]);
                bench.assert_clean()?;
                let image = bench.open(Access::Write)?;
                assert!(read(&image, 3_000_320, 1 << 20)? == vec![9; 1 << 20]);
                assert!(read(&image, 0, 1000)? == [vec![10; 512], vec![0; 488]].concat());
                assert!(read(&image, 65536, 4096)? == vec![0; 4096]);
                image.write(GuestOffset::new(65536), &[11; 4096], None)?;
                image.flush()?;
                bench.written_by_qemu(&["read -P 11 65536 4096", "read -P 7 69632 31368"]);
                bench.assert_clean()?;
            }
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn zero_clusters_with_and_without_room_are_read_and_rewritten_without_a_leak() -> Outcome {
    for rewritten_by_us in [true, false] {
        let bench = Bench::made_by_qemu(
            "",
            "1M",
            &["write -P 1 0 256k", "write -z 64k 64k", "write -z -u 128k 64k", "write -z 512k 64k"],
        )?;
        let image = bench.open(Access::Write)?;
        let mappings =
            [64, 128, 512].map(|kib| image.run_at(GuestOffset::new(kib << 10), ByteCount::kib(64)));
        for run in mappings {
            assert_eq!(run?.mapping, Mapping::Zero);
        }
        assert!(read(&image, 64 << 10, 128 << 10)? == vec![0; 128 << 10]);
        if rewritten_by_us {
            let before = length(&bench.path())?;
            image.write(GuestOffset::new((64 << 10) + 700), &[5; 1000], None)?;
            image.flush()?;
            assert_eq!(length(&bench.path())?, before, "the room that was kept is used again");
            image.write(GuestOffset::new((128 << 10) + 700), &[6; 1000], None)?;
            image.write(GuestOffset::new(512 << 10), &[7; 65536], None)?;
        } else {
            // The other way round: ours are rewritten by QEMU.
            image.zero(GuestOffset::ZERO, ByteCount::kib(64), Space::Keep, None)?;
            image.zero(GuestOffset::new(192 << 10), ByteCount::kib(64), Space::Free, None)?;
            image.flush()?;
            drop(image);
            bench.assert_clean()?;
            bench.written_by_qemu(&["read -P 0 0 1M", "write -P 5 1k 1k", "write -P 6 200k 1k"]);
            bench.written_by_qemu(&[
                "read -P 0 0 1k",
                "read -P 5 1k 1k",
                "read -P 0 2k 198k",
                "read -P 6 200k 1k",
            ]);
            bench.assert_clean()?;
            continue;
        }
        image.flush()?;
        drop(image);
        bench.written_by_qemu(&[
            "read -P 1 0 64k",
            "read -P 0 64k 700",
            "read -P 5 66236 1000",
            "read -P 0 67236 63836",
            "read -P 0 128k 700",
            "read -P 6 131772 1000",
            "read -P 7 512k 64k",
        ]);
        bench.assert_clean()?;
    }
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn a_last_cluster_that_is_cut_short_reads_as_zeros_and_is_written() -> Outcome {
    let bench = Bench::made_by_qemu("", "1M", &["write -P 1 0 64k", "write -P 2 64k 64k"])?;
    let cut = length(&bench.path())? - 65536 + 1000;
    std::fs::OpenOptions::new().write(true).open(bench.path())?.set_len(cut)?;
    bench.assert_clean()?;
    let image = bench.open(Access::Write)?;
    assert!(read(&image, 65536, 65536)? == [vec![2; 1000], vec![0; 64536]].concat());
    image.write(GuestOffset::new(65536 + 500), &[3; 100], None)?;
    image.write(GuestOffset::new(65536 + 5000), &[4; 100], None)?;
    image.write(GuestOffset::new(128 << 10), &[5; 100], None)?;
    image.flush()?;
    drop(image);
    bench.written_by_qemu(&[
        "read -P 2 65536 500",
        "read -P 3 66036 100",
        "read -P 2 66136 400",
        "read -P 0 66536 4000",
        "read -P 4 70536 100",
        "read -P 0 70636 60436",
        "read -P 5 131072 100",
        "read -P 0 131172 1000",
    ]);
    bench.assert_clean()
}

#[test]
#[ignore = "needs qemu-img"]
fn an_l1_table_of_several_clusters_is_shared_with_qemu() -> Outcome {
    let far = (9u64 << 40) - 65536;
    let write = format!("write -P 3 {far} 512");
    let bench = Bench::made_by_qemu("", "9T", &[&write, "write -P 1 0 512"])?;
    let image = bench.open(Access::Write)?;
    assert_eq!(read(&image, far, 600)?, [[3; 512].as_slice(), &[0; 88]].concat());
    image.grow(ByteCount::tib(20), None)?;
    let farther = (20u64 << 40) - 512;
    image.write(GuestOffset::new(farther), &[4; 512], None)?;
    image.flush()?;
    drop(image);
    bench.assert_clean()?;
    let reads = [format!("read -P 3 {far} 512"), format!("read -P 4 {farther} 512")];
    bench.written_by_qemu(&[&reads[0], &reads[1], "read -P 1 0 512"]);

    let bench = Bench::made_by_us(&NewImage::of_size(ByteCount::tib(64)))?;
    bench.assert_clean()?;
    bench.written_by_qemu(&[&write]);
    assert_eq!(read(&bench.open(Access::Read)?, far, 512)?, [3; 512]);
    bench.assert_clean()
}

#[test]
#[ignore = "needs qemu-img"]
fn tables_that_we_grow_are_in_order_for_qemu() -> Outcome {
    let new = NewImage { cluster_bits: 9, refcount_order: 6, ..NewImage::of_size(ByteCount::mib(3)) };
    let bench = Bench::made_by_us(&new)?;
    let image = bench.open(Access::Write)?;
    image.write(GuestOffset::ZERO, &[1; 3 << 20], None)?;
    image.grow(ByteCount::gib(1), None)?;
    image.write(GuestOffset::new(1 << 29), &[2; 5000], None)?;
    image.flush()?;
    assert!(image.header().refcount_table_clusters > 1);
    drop(image);
    bench.assert_clean()?;
    bench.written_by_qemu(&[
        "read -P 1 0 3M",
        "read -P 0 3M 1M",
        "read -P 2 536870912 5000",
        "write -P 3 5M 1M",
    ]);
    bench.assert_clean()?;

    // And those that QEMU grows are in order for us.
    let options = "cluster_size=512,refcount_bits=64";
    let bench = Bench::made_by_qemu(options, "6M", &["write -P 4 0 6M"])?;
    bench.qemu().img(&["resize", "-q", "-f", "qcow2", IMAGE, "200M"]);
    let image = bench.open(Access::Write)?;
    assert!(read(&image, 0, 6 << 20)? == vec![4; 6 << 20]);
    image.write(GuestOffset::new(100 << 20), &[5; 1 << 20], None)?;
    image.zero(GuestOffset::ZERO, ByteCount::mib(5), Space::Free, None)?;
    image.flush()?;
    drop(image);
    bench.assert_clean()?;
    bench.written_by_qemu(&["read -P 0 0 5M", "read -P 4 5M 1M", "read -P 5 100M 1M"]);
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn preallocated_tables_are_read_as_zeros_and_written_in_place() -> Outcome {
    let bench = Bench::made_by_qemu("preallocation=metadata", "4M", &[])?;
    bench.assert_clean()?;
    let image = bench.open(Access::Write)?;
    assert!(read(&image, 0, 4 << 20)? == vec![0; 4 << 20]);
    image.write(GuestOffset::new(700_000), &[1; 300_000], None)?;
    image.flush()?;
    drop(image);
    bench.written_by_qemu(&["read -P 0 0 700000", "read -P 1 700000 300000", "read -P 0 1000000 3194304"]);
    bench.assert_clean()
}

// ---- Refused by name ------------------------------------------------------------------------------------

fn assert_refused<T: std::fmt::Debug>(result: snapgroup::image::Result<T>, feature: &str) {
    let Err(Error::Unsupported { feature: found, .. }) = result else { panic!("{feature}: {result:?}") };
    assert!(found.starts_with(feature), "{found} instead of {feature}");
}

#[test]
#[ignore = "needs qemu-img"]
fn what_we_cannot_read_is_refused_by_name_and_left_alone() -> Outcome {
    let secret = Bench::new()?;
    secret.qemu().img(&[
        "create",
        "-q",
        "-f",
        "qcow2",
        "--object",
        "secret,id=s,data=s",
        "-o",
        "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10",
        IMAGE,
        "1M",
    ]);
    let data_file = Bench::made_by_qemu("data_file=x.raw", "1M", &["write -P 1 512k 64k"])?;
    let cases = [(secret, "is encrypted"), (data_file, "keeps its data in an external file")];
    for (bench, feature) in cases {
        let before = std::fs::read(bench.path())?;
        match bench.try_open(Access::Read) {
            Ok(image) => {
                assert!(!image.is_readable() && image.check()?.is_clean(), "{feature}");
                assert!(read(&image, 0, 512)? == [0; 512], "what nobody has written is no secret");
            }
            refused => assert_refused(refused, feature),
        }
        assert_refused(bench.try_open(Access::Write), feature);
        let blob = DiskStore::open(bench.directory.path())?.open(&BlobName::parse(IMAGE)?, Access::Read)?;
        assert_eq!(Facts::of(&*blob, IMAGE)?.size, ByteCount::mib(1), "its facts are known all the same");
        assert!(std::fs::read(bench.path())? == before, "{feature}: it was changed");
    }
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn what_we_cannot_write_is_read_checked_and_refused_by_name() -> Outcome {
    let dirty = Bench::made_by_qemu("lazy_refcounts=on", "1M", &["write -P 1 0 128k"])?;
    dirty.poke(79, &[1])?;
    let corrupt = Bench::made_by_qemu("", "1M", &["write -P 1 0 128k"])?;
    corrupt.poke(79, &[2])?;
    let cases = [(dirty, "is marked dirty"), (corrupt, "is marked corrupt")];
    for (bench, feature) in cases {
        let before = std::fs::read(bench.path())?;
        assert_refused(bench.try_open(Access::Write), feature);
        let image = bench.open(Access::Read)?;
        assert!(read(&image, 0, 128 << 10)? == vec![1; 128 << 10], "{feature}");
        let Err(Error::ReadOnly { .. }) = image.write(GuestOffset::ZERO, &[1], None) else {
            panic!("{feature}: written")
        };
        let report = image.check()?;
        // Nothing is wrong but what the header says of itself.
        assert!(report.is_sound() && report.leaks == 0 && !report.is_clean(), "{feature}: {report}");
        assert!(std::fs::read(bench.path())? == before, "{feature}: it was changed");
    }
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn an_unknown_incompatible_feature_is_refused() -> Outcome {
    let bench = Bench::made_by_qemu("", "1M", &[])?;
    bench.poke(79, &[0x20])?;
    let Err(Error::Format { .. }) = bench.try_open(Access::Read) else { panic!("opened") };
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn unknown_autoclear_bits_are_cleared_by_a_writer_and_left_by_a_reader() -> Outcome {
    let bench = Bench::made_by_qemu("", "1M", &["write -P 1 0 64k"])?;
    bench.poke(88, &[0x80])?;
    drop(bench.open(Access::Read)?);
    assert_eq!(std::fs::read(bench.path())?[88], 0x80);
    drop(bench.open(Access::Write)?);
    assert_eq!(std::fs::read(bench.path())?[88], 0);
    bench.written_by_qemu(&["read -P 1 0 64k"]);
    bench.assert_clean()
}

// ---- Checks agree ---------------------------------------------------------------------------------------

fn verdict(report: &CheckReport) -> Checked {
    match (report.corruptions, report.leaks) {
        (0, 0) => Checked::Clean,
        (0, _) => Checked::Leaks,
        _ => Checked::Corrupt,
    }
}

#[test]
#[ignore = "needs qemu-img"]
fn our_check_and_qemus_agree_on_what_is_wrong() -> Outcome {
    const CLUSTER: u64 = 65536;
    // QEMU lays out header, refcount table, block, L1 table; then L2 table 4 and data from 5 on.
    let refcount = |cluster: u64| 2 * CLUSTER + cluster * 2;
    let l2_entry = |index: u64| 4 * CLUSTER + index * 8;
    let cases: [(&str, u64, &[u8], Checked); 11] = [
        ("nothing", 4, &[0, 0, 0, 3], Checked::Clean),
        ("a cluster counted that nothing refers to", refcount(7), &[0, 1], Checked::Leaks),
        ("a data cluster that is not counted", refcount(5), &[0, 0], Checked::Corrupt),
        ("a data cluster counted twice", refcount(5), &[0, 2], Checked::Corrupt),
        ("an L2 table that is not counted", refcount(4), &[0, 0], Checked::Corrupt),
        ("a header that is not counted", refcount(0), &[0, 0], Checked::Corrupt),
        ("a refcount table counted twice", refcount(1), &[0, 2], Checked::Leaks),
        ("COPIED missing", l2_entry(0), &[0], Checked::Corrupt),
        ("an entry that leads past the end", l2_entry(0) + 4, &[0x7f], Checked::Corrupt),
        ("two entries for one cluster", l2_entry(1), &[0x80, 0, 0, 0, 0, 5, 0, 0], Checked::Corrupt),
        ("an entry taken away", l2_entry(1), &[0; 8], Checked::Leaks),
    ];
    for (what, at, bytes, expected) in cases {
        let bench = Bench::made_by_qemu("", "1M", &["write -P 1 0 128k"])?;
        assert_eq!(length(&bench.path())?, 7 * CLUSTER);
        // One more cluster in the file, for the leak.
        std::fs::OpenOptions::new().write(true).open(bench.path())?.set_len(8 * CLUSTER)?;
        bench.poke(at, bytes)?;
        let (checked, said) = bench.qemu().check(IMAGE);
        assert_eq!(checked, expected, "{what}: QEMU says {said}");
        let report = bench.open(Access::Read)?.check()?;
        assert_eq!(verdict(&report), expected, "{what}: we say {report}");
    }
    Ok(())
}
