//! Compressed clusters of QEMU and of ours, each read, written over and checked by the other one.
//!
//! Needs `qemu-img` and `qemu-io` in the path: `cargo test --release --test interop_compressed -- --ignored`.

#![expect(clippy::print_stdout, reason = "a failing test shows which shape it was")]

#[path = "support/dice.rs"]
mod dice;
#[path = "support/qemu.rs"]
mod qemu;
#[path = "support/qemu_io.rs"]
mod qemu_io;

use dice::Dice;
use qemu::{Checked, Qemu};
use snapgroup::format::{Compression, Incompatible};
use snapgroup::image::{Error, Image, Limits, NewImage, Space, Version};
use snapgroup::storage::{Access, BlobName, DiskStore, Store};
use snapgroup::units::{ByteCount, GuestOffset, HostOffset};
use std::error::Error as StdError;

type Outcome<T = ()> = Result<T, Box<dyn StdError>>;

const IMAGE: &str = "x.qcow2";
const PLAIN: &str = "plain.raw";

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

    /// An image that QEMU has compressed, with these bytes on it.
    fn compressed_by_qemu(options: &str, bytes: &[u8]) -> Outcome<Self> {
        let bench = Self::new()?;
        bench.expect(bytes)?;
        bench.qemu().img(&["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options, PLAIN, IMAGE]);
        Ok(bench)
    }

    fn made_by_us(new: &NewImage, compression: Compression) -> Outcome<Self> {
        let bench = Self::new()?;
        let blob = DiskStore::open(bench.directory.path())?.create(&BlobName::parse(IMAGE)?)?;
        new.layout(IMAGE)?.write(&*blob)?;
        if compression == Compression::Zstd {
            let mut header = Image::header_of(&*blob, IMAGE)?;
            header.compression = compression;
            header.incompatible = Incompatible::COMPRESSION_TYPE;
            blob.write_at(HostOffset::ZERO, &header.encode()?)?;
        }
        Ok(bench)
    }

    /// The bytes that QEMU is to find.
    fn expect(&self, bytes: &[u8]) -> Outcome {
        Ok(std::fs::write(self.directory.path().join(PLAIN), bytes)?)
    }

    fn open(&self, access: Access) -> Outcome<Image> {
        let blob = DiskStore::open(self.directory.path())?.open(&BlobName::parse(IMAGE)?, access)?;
        Ok(Image::open(blob, IMAGE, access, Limits::default())?)
    }

    /// Both find these bytes, and nothing wrong. Answers how many compressed clusters there are.
    fn assert_both_find(&self, bytes: &[u8], what: &str) -> Outcome<u64> {
        let image = self.open(Access::Read)?;
        assert!(read(&image, 0, bytes.len())? == bytes, "{what}: we read other bytes");
        let report = image.check()?;
        assert!(report.is_clean(), "{what}: {report}");
        let (checked, said) = self.qemu().check(IMAGE);
        assert_eq!(checked, Checked::Clean, "{what}: {said}");
        self.expect(bytes)?;
        self.qemu().img(&["compare", "-f", "raw", "-F", "qcow2", PLAIN, IMAGE]);
        Ok(report.compressed_clusters)
    }
}

fn read(image: &Image, at: usize, length: usize) -> snapgroup::image::Result<Vec<u8>> {
    let (mut found, mut holes) = (vec![0xee; length], Vec::new());
    image.read(GuestOffset::new(at as u64), &mut found, &mut holes)?;
    holes.into_iter().for_each(|hole| found[hole].fill(0));
    Ok(found)
}

/// Stretches of zeros, of text and of noise, of all lengths: some clusters compress well, some hardly, some not.
fn mixed(dice: &mut Dice, length: usize, longest: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + longest);
    while bytes.len() < length {
        let stretch = 1 + dice.roll(longest);
        let byte = |dice: &mut Dice| u8::try_from(dice.roll(256)).expect("below 256");
        match dice.roll(4) {
            0 => bytes.resize(bytes.len() + stretch, 0),
            1 => bytes.extend(b"all of one moment, ".iter().cycle().take(stretch)),
            2 => bytes.extend((0..stretch).map(|_| b'a' + byte(dice) % 16)),
            _ => bytes.extend((0..stretch).map(|_| byte(dice))),
        }
    }
    bytes.truncate(length);
    bytes
}

/// Writes and zeroes a few ranges.
fn change(image: &Image, dice: &mut Dice, model: &mut [u8], longest: usize) -> Outcome {
    for turn in 0..12u8 {
        let at = dice.roll(model.len());
        let length = 1 + dice.roll(longest.min(model.len() - at));
        let place = GuestOffset::new(at as u64);
        match dice.roll(4) {
            0 => {
                let space = if dice.roll(2) == 0 { Space::Keep } else { Space::Free };
                image.zero(place, ByteCount::of(length), space, None)?;
                model[at..at + length].fill(0);
            }
            _ => {
                image.write(place, &vec![turn + 1; length], None)?;
                model[at..at + length].fill(turn + 1);
            }
        }
        if turn == 6 {
            image.flush()?;
        }
    }
    Ok(image.flush()?)
}

/// Sizes of clusters, and of disks: some end within a cluster.
const SHAPES: [(u32, usize); 5] =
    [(9, 100 << 10), (12, (700 << 10) + 512), (16, (3 << 20) + 1024), (18, 5 << 20), (21, (9 << 20) + 512)];

#[test]
#[ignore = "needs qemu-img"]
fn what_qemu_has_compressed_is_read_and_written_over() -> Outcome {
    for (seed, (bits, size)) in SHAPES.into_iter().enumerate() {
        for kind in ["compat=0.10", "refcount_bits=1", "refcount_bits=2", "compression_type=zstd", ""] {
            let options = format!("cluster_size={},{kind}", 1 << bits);
            let options = options.trim_end_matches(',');
            println!("{options}, {size}");
            let mut dice = Dice::of(seed as u64 + 1);
            let mut model = mixed(&mut dice, size, 1 << bits);
            let bench = Bench::compressed_by_qemu(options, &model)?;
            let before = bench.assert_both_find(&model, options)?;
            assert!(before > 0, "{options}: nothing is compressed");
            change(&bench.open(Access::Write)?, &mut dice, &mut model, 3 << bits)?;
            let after = bench.assert_both_find(&model, options)?;
            assert!(after < before, "{options}: nothing was written over");
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn what_we_have_compressed_is_read_checked_and_written_over_by_qemu() -> Outcome {
    for (seed, (cluster_bits, size)) in SHAPES.into_iter().enumerate() {
        for (version, refcount_order, compression) in [
            (Version::V2, 4, Compression::Deflate),
            (Version::V3, 0, Compression::Deflate),
            (Version::V3, 1, Compression::Deflate),
            (Version::V3, 4, Compression::Deflate),
            (Version::V3, 4, Compression::Zstd),
        ] {
            let what = format!("2^{cluster_bits}, {size}, {version:?}, 2^{refcount_order}, {compression:?}");
            println!("{what}");
            let mut dice = Dice::of(seed as u64 + 100);
            let mut model = mixed(&mut dice, size, 1 << cluster_bits);
            let size = ByteCount::of(size);
            let new = NewImage { version, cluster_bits, refcount_order, ..NewImage::of_size(size) };
            let bench = Bench::made_by_us(&new, compression)?;
            let image = bench.open(Access::Write)?;
            let mut packed = 0;
            for (index, cluster) in model.chunks(1 << cluster_bits).enumerate() {
                let at = GuestOffset::new((index << cluster_bits) as u64);
                match image.write_compressed(at, cluster)? {
                    true => packed += 1,
                    false => image.write(at, cluster, None)?,
                }
            }
            image.flush()?;
            drop(image);
            assert!(packed > 0, "{what}");
            assert_eq!(bench.assert_both_find(&model, &what)?, packed, "{what}");

            // QEMU on top of ours: written over, zeroed, and compressed where it is now absent.
            let (cluster, middle) = (1 << cluster_bits, (model.len() / 2) >> cluster_bits << cluster_bits);
            let commands = [
                format!("write -P 7 300 {cluster}"),
                format!("discard {middle} {cluster}"),
                format!("write -c -P 9 {middle} {cluster}"),
            ];
            bench.qemu().io(&["-f", "qcow2", "-d", "unmap", IMAGE], &commands);
            model[300..300 + cluster].fill(7);
            model[middle..middle + cluster].fill(9);
            bench.assert_both_find(&model, &what)?;
            // And ours on top of QEMU's.
            change(&bench.open(Access::Write)?, &mut dice, &mut model, 3 << cluster_bits)?;
            bench.assert_both_find(&model, &what)?;
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn we_pack_behind_what_qemu_has_compressed() -> Outcome {
    let mut model = mixed(&mut Dice::of(5), 1 << 20, 65536);
    model[512 << 10..].fill(0);
    let bench = Bench::compressed_by_qemu("cluster_size=64k", &model)?;
    let image = bench.open(Access::Write)?;
    for index in 8..16 {
        let range = index << 16..(index + 1) << 16;
        model[range.clone()].fill(u8::try_from(index)?);
        assert!(image.write_compressed(GuestOffset::new(range.start as u64), &model[range])?);
    }
    image.flush()?;
    drop(image);
    bench.assert_both_find(&model, "behind QEMU's")?;
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn our_check_and_qemus_agree_on_what_is_wrong_with_a_compressed_cluster() -> Outcome {
    const CLUSTER: u64 = 65536;
    // QEMU lays out header, refcount table, block, L1 table; then L2 table 4 and, in 5, three compressed clusters.
    let refcount = |cluster: u64| 2 * CLUSTER + cluster * 2;
    let l2_entry = |index: u64| 4 * CLUSTER + index * 8;
    let cases: [(&str, u64, &[u8], Checked); 9] = [
        ("nothing", 4, &[0, 0, 0, 3], Checked::Clean),
        ("one reference too few", refcount(5), &[0, 2], Checked::Corrupt),
        ("one reference too many", refcount(5), &[0, 4], Checked::Leaks),
        ("marked COPIED", l2_entry(0), &[0xc0], Checked::Corrupt),
        ("an entry taken away", l2_entry(1), &[0; 8], Checked::Leaks),
        ("an entry twice", l2_entry(3), &[0x40, 0, 0, 0, 0, 5, 0, 0], Checked::Corrupt),
        (
            "sectors that reach past the end by less than a cluster",
            l2_entry(0),
            &[0x5f, 0x80],
            Checked::Clean,
        ),
        (
            "sectors that reach past the end by more than a cluster",
            l2_entry(0),
            &[0x7f, 0xc0],
            Checked::Corrupt,
        ),
        ("bytes past the end of the file", l2_entry(0) + 3, &[1], Checked::Corrupt),
    ];
    for (what, at, bytes, expected) in cases {
        let bench = Bench::new()?;
        bench.qemu().img(&["create", "-q", "-f", "qcow2", IMAGE, "1M"]);
        let commands = ["write -c -P 1 0 64k", "write -c -P 2 64k 64k", "write -c -P 3 128k 64k"];
        bench.qemu().io(&["-f", "qcow2", IMAGE], &commands.map(str::to_owned));
        let store = DiskStore::open(bench.directory.path())?;
        let blob = store.open(&BlobName::parse(IMAGE)?, Access::Write)?;
        blob.write_at(HostOffset::new(at), bytes)?;
        drop(blob);
        let (checked, said) = bench.qemu().check(IMAGE);
        assert_eq!(checked, expected, "{what}: QEMU says {said}");
        let report = bench.open(Access::Read)?.check()?;
        let ours = match (report.corruptions, report.leaks) {
            (0, 0) => Checked::Clean,
            (0, _) => Checked::Leaks,
            _ => Checked::Corrupt,
        };
        assert_eq!(ours, expected, "{what}: we say {report}");
    }
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn streams_that_qemu_does_not_read_are_not_read() -> Outcome {
    for options in ["compression_type=zlib", "compression_type=zstd"] {
        let model = vec![7; 1 << 20];
        for (what, bytes, skip) in [("broken", &[0xff; 8][..], 0), ("cut off", &[0; 500], 6)] {
            let bench = Bench::compressed_by_qemu(options, &model)?;
            let image = bench.open(Access::Read)?;
            let mapping = image.run_at(GuestOffset::ZERO, ByteCount::new(1))?.mapping;
            let snapgroup::image::Mapping::Compressed(extent) = mapping else { panic!("{mapping:?}") };
            let store = DiskStore::open(bench.directory.path())?;
            let blob = store.open(&BlobName::parse(IMAGE)?, Access::Write)?;
            blob.write_at(extent.at + ByteCount::new(skip), bytes)?;
            drop(blob);
            let Err(Error::Format { .. }) = read(&image, 0, 512) else { panic!("{options}, {what}: read") };
            let answer = std::process::Command::new("qemu-io")
                .args(["-r", "-f", "qcow2", "-c", "read 0 512", IMAGE])
                .current_dir(bench.directory.path())
                .output()?;
            let said = String::from_utf8_lossy(&[answer.stdout, answer.stderr].concat()).into_owned();
            assert!(said.contains("read failed"), "{options}, {what}: {said}");
        }
    }
    Ok(())
}
