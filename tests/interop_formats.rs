//! What images of QEMU's hold beside their data: kept when we write them, and listed.
//!
//! Needs `qemu-img` and `qemu-io` in the path: `cargo test --release --test interop_formats -- --ignored`.

#[path = "support/qemu.rs"]
mod qemu;
#[path = "support/qemu_io.rs"]
mod qemu_io;

use qemu::{Checked, Qemu};
use snapgroup::format::{Extension, Header};
use snapgroup::image::{Error, Image, L2Width, Limits, NewImage, Space, Version};
use snapgroup::storage::{Access, BlobName, DiskStore, MemoryStore, Store};
use snapgroup::units::{ByteCount, GuestOffset, HostOffset};
use snapgroup::{
    AdoptVolume, CreateGroup, CreateMachine, CreatePool, CreateVolume, DeleteVolume, Engine, Kind, L2Entries,
    LayerFormat, LowerLayers, Options, Present, RevertGroup,
};
use std::error::Error as StdError;
use std::path::Path;

type Outcome<T = ()> = Result<T, Box<dyn StdError>>;

const IMAGE: &str = "x.qcow2";

fn open(directory: &Path, access: Access) -> Outcome<Image> {
    let store = DiskStore::open(directory)?;
    Ok(Image::open(store.open(&BlobName::parse(IMAGE)?, access)?, IMAGE, access, Limits::default())?)
}

fn assert_clean(directory: &Path) -> Outcome {
    let (checked, said) = Qemu::in_directory(directory).check(IMAGE);
    assert_eq!(checked, Checked::Clean, "{said}");
    let report = open(directory, Access::Read)?.check()?;
    assert!(report.is_clean(), "{report}");
    Ok(())
}

fn poke(directory: &Path, at: u64, bytes: &[u8]) -> Outcome {
    use std::os::unix::fs::FileExt;
    std::fs::OpenOptions::new().write(true).open(directory.join(IMAGE))?.write_all_at(bytes, at)?;
    Ok(())
}

fn read(image: &Image, at: u64, length: usize) -> Outcome<Vec<u8>> {
    let (mut found, mut holes) = (vec![0xee; length], Vec::new());
    image.read(GuestOffset::new(at), &mut found, &mut holes)?;
    holes.into_iter().for_each(|hole| found[hole].fill(0));
    Ok(found)
}

/// The words of the tables of all bitmaps.
fn bitmap_tables(image: &Image) -> Outcome<Vec<Vec<u64>>> {
    let header = image.header();
    let extension = header.bitmaps()?.ok_or("no bitmaps")?;
    let mut directory = vec![0; extension.directory_size.as_usize()];
    image.blob().read_at(extension.directory, &mut directory)?;
    let mut tables = Vec::new();
    for bitmap in extension.parse_directory(&directory, header.geometry)? {
        let mut bytes = vec![0; usize::try_from(bitmap.table_entries)? * 8];
        image.blob().read_at(bitmap.table, &mut bytes)?;
        tables
            .push(bytes.chunks(8).map(|word| u64::from_be_bytes(word.try_into().expect("eight"))).collect());
    }
    Ok(tables)
}

fn flags(qemu: &Qemu<'_>) -> Outcome<Vec<(String, String)>> {
    let said = qemu.img(&["info", "-f", "qcow2", "--output=json", IMAGE]);
    let shown: serde_json::Value = serde_json::from_str(&said)?;
    let bitmaps = shown["format-specific"]["data"]["bitmaps"].as_array().cloned().unwrap_or_default();
    let flag =
        |one: &serde_json::Value| (one["name"].as_str().unwrap_or("").to_owned(), one["flags"].to_string());
    Ok(bitmaps.iter().map(flag).collect())
}

#[test]
#[ignore = "needs qemu-img"]
fn a_bitmap_that_follows_writes_says_after_ours_that_everything_was_written() -> Outcome {
    for l2 in ["off", "on"] {
        let directory = tempfile::tempdir()?;
        let directory = directory.path();
        let qemu = Qemu::in_directory(directory);
        qemu.img(&["create", "-q", "-f", "qcow2", "-o", &format!("extended_l2={l2}"), IMAGE, "8M"]);
        qemu.img(&["bitmap", "--add", "--enable", "-g", "64k", IMAGE, "follows"]);
        qemu.img(&["bitmap", "--add", "--disable", "-g", "512", IMAGE, "rests"]);
        qemu.io(&["-f", "qcow2", IMAGE], &["write -P 1 1M 1M".to_owned()]);
        let before = bitmap_tables(&open(directory, Access::Read)?)?;
        assert!(before[0].iter().any(|entry| *entry > 1), "QEMU has noted its write: {before:?}");

        // Opened, listed, even grown in its room, and not written: nothing changes.
        let image = open(directory, Access::Write)?;
        let listed = image.persistent_bitmaps()?;
        let shown: Vec<_> = listed
            .iter()
            .map(|one| (one.name.as_str(), one.granularity.as_u64(), one.follows_writes, one.is_in_use))
            .collect();
        assert_eq!(shown, [("follows", 65536, true, false), ("rests", 512, false, false)]);
        image.flush()?;
        assert_eq!(bitmap_tables(&image)?, before);

        image.write(GuestOffset::new(5 << 20), &[2; 1000], None)?;
        let after = bitmap_tables(&image)?;
        assert!(after[0].iter().all(|entry| *entry == 1), "all ones: {after:?}");
        assert_eq!(after[1], before[1], "what follows no writes stays as it is");
        image.flush()?;
        drop(image);
        assert_clean(directory)?;
        assert_eq!(
            flags(&qemu)?,
            [("follows".to_owned(), "[\"auto\"]".to_owned()), ("rests".to_owned(), "[]".to_owned())]
        );
        // QEMU loads them all, and changes them.
        qemu.img(&["bitmap", "--add", "--merge", "follows", "--merge", "rests", IMAGE, "both"]);
        qemu.io(&["-f", "qcow2", IMAGE], &["read -P 2 5M 1000".to_owned(), "write -P 3 0 64k".to_owned()]);
        assert_clean(directory)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn a_bitmap_that_cannot_follow_is_never_vouched_for() -> Outcome {
    let directory = tempfile::tempdir()?;
    let directory = directory.path();
    let qemu = Qemu::in_directory(directory);
    qemu.img(&["create", "-q", "-f", "qcow2", IMAGE, "8M"]);
    qemu.img(&["bitmap", "--add", "--enable", IMAGE, "follows"]);
    let extension = open(directory, Access::Read)?.header().bitmaps()?.ok_or("no bitmaps")?;
    // A flag that nobody knows.
    poke(directory, extension.directory.as_u64() + 12, &[0x80, 0, 0, 2])?;
    let image = open(directory, Access::Write)?;
    assert!(!image.header().autoclear.has_bitmaps());
    assert!(image.header().extension(Extension::BITMAPS).is_some(), "an extension is kept");
    image.write(GuestOffset::ZERO, &[1; 512], None)?;
    image.flush()?;
    assert!(image.persistent_bitmaps()?.is_empty());
    drop(image);
    assert!(flags(&qemu)?.is_empty());
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn a_disk_grows_as_far_as_its_bitmaps_have_room() -> Outcome {
    let directory = tempfile::tempdir()?;
    let directory = directory.path();
    let qemu = Qemu::in_directory(directory);
    qemu.img(&["create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", IMAGE, "8M"]);
    // One cluster of the bitmap is 4096 x 8 bits, of 512 bytes each.
    qemu.img(&["bitmap", "--add", "--enable", "-g", "512", IMAGE, "small"]);
    let image = open(directory, Access::Write)?;
    let Err(Error::Fixed { size_max, .. }) = image.grow(ByteCount::mib(17), None) else { panic!("it grew") };
    assert_eq!(size_max, ByteCount::mib(16));
    image.grow(ByteCount::mib(16), None)?;
    image.write(GuestOffset::new((16 << 20) - 512), &[7; 512], None)?;
    image.flush()?;
    drop(image);
    assert_clean(directory)?;
    qemu.io(&["-f", "qcow2", IMAGE], &["read -P 7 16776704 512".to_owned(), "write -P 3 8M 64k".to_owned()]);
    assert_eq!(flags(&qemu)?.len(), 1);
    assert_clean(directory)
}

#[test]
#[ignore = "needs qemu-img"]
fn version_2_with_internal_snapshots_does_not_grow_and_version_3_does() -> Outcome {
    for (compat, grows) in [("0.10", false), ("1.1", true)] {
        let directory = tempfile::tempdir()?;
        let directory = directory.path();
        let qemu = Qemu::in_directory(directory);
        qemu.img(&[
            "create",
            "-q",
            "-f",
            "qcow2",
            "-o",
            &format!("compat={compat},cluster_size=512"),
            IMAGE,
            "1M",
        ]);
        qemu.io(&["-f", "qcow2", IMAGE], &["write -P 1 0 1M".to_owned()]);
        qemu.img(&["snapshot", "-c", "before", IMAGE]);
        let image = open(directory, Access::Write)?;
        let grown = image.grow(ByteCount::mib(40), None);
        match grows {
            true => grown?,
            false => {
                let Err(Error::Fixed { size_max, .. }) = grown else { panic!("{grown:?}") };
                assert_eq!(size_max, ByteCount::mib(1));
                continue;
            }
        }
        image.write(GuestOffset::new(30 << 20), &[2; 100_000], None)?;
        image.write(GuestOffset::new(100), &[3; 1000], None)?;
        image.flush()?;
        drop(image);
        assert_clean(directory)?;
        qemu.img(&["snapshot", "-a", "before", IMAGE]);
        qemu.io(&["-f", "qcow2", IMAGE], &["read -P 1 0 1M".to_owned()]);
        assert_clean(directory)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn lazy_refcounts_unknown_bits_and_extensions_are_kept_as_a_writer_must() -> Outcome {
    let directory = tempfile::tempdir()?;
    let directory = directory.path();
    let qemu = Qemu::in_directory(directory);
    qemu.img(&["create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", IMAGE, "8M"]);
    qemu.img(&["bitmap", "--add", "--disable", IMAGE, "rests"]);
    let image = open(directory, Access::Read)?;
    let mut header: Header = image.header();
    let unknown = Extension { kind: 0x1234_5678, data: vec![1, 2, 3] };
    header.extensions.push(unknown.clone());
    header.compatible = snapgroup::format::Compatible::from_bits(header.compatible.bits() | 1 << 40);
    header.autoclear = snapgroup::format::Autoclear::from_bits(header.autoclear.bits() | 1 << 63);
    poke(directory, 0, &header.encode()?)?;

    let image = open(directory, Access::Write)?;
    image.write(GuestOffset::ZERO, &[1; 3 << 20], None)?;
    image.zero(GuestOffset::new(1 << 20), ByteCount::mib(1), Space::Free, None)?;
    image.flush()?;
    let now = open(directory, Access::Read)?.header();
    assert_eq!((now.compatible, now.autoclear.bits()), (header.compatible, 1));
    assert_eq!(now.extensions, header.extensions);
    assert!(now.compatible.lazy_refcounts() && !now.incompatible.is_dirty());
    drop(image);
    assert_clean(directory)?;
    qemu.io(&["-f", "qcow2", IMAGE], &["read -P 0 1M 1M".to_owned(), "write -P 2 0 4M".to_owned()]);
    assert_clean(directory)
}

#[test]
#[ignore = "needs qemu-img"]
fn tables_of_many_clusters_are_read_written_and_grown() -> Outcome {
    let last = (20u64 << 40) - (1 << 20);
    for options in
        ["cluster_size=64k", "cluster_size=64k,extended_l2=on", "cluster_size=32k,refcount_bits=64"]
    {
        let directory = tempfile::tempdir()?;
        let directory = directory.path();
        let qemu = Qemu::in_directory(directory);
        // An L1 table of 10 clusters or more in the end, of one or few at first.
        qemu.img(&["create", "-q", "-f", "qcow2", "-o", options, IMAGE, "1T"]);
        qemu.io(&["-f", "qcow2", IMAGE], &["write -P 1 1023G 1M".to_owned()]);
        let image = open(directory, Access::Write)?;
        image.grow(ByteCount::tib(20), None)?;
        image.write(GuestOffset::new(last), &[2; 1 << 20], None)?;
        image.flush()?;
        let entries = u64::from(image.header().l1_entries);
        assert!(image.geometry().clusters_for(ByteCount::new(entries * 8)).as_u64() >= 5, "{entries}");
        drop(image);
        assert_clean(directory)?;
        qemu.io(
            &["-f", "qcow2", IMAGE],
            &[
                format!("read -P 2 {last} 1M"),
                "read -P 1 1023G 1M".to_owned(),
                "write -P 3 9T 64k".to_owned(),
            ],
        );
        let image = open(directory, Access::Write)?;
        assert!(read(&image, 9 << 40, 65536)? == [3; 65536]);
        assert!(read(&image, last, 1 << 20)? == vec![2; 1 << 20]);
        image.write(GuestOffset::new(9 << 40), &[4; 100], None)?;
        image.flush()?;
        drop(image);
        assert_clean(directory)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn images_with_subclusters_of_ours_are_lawful_from_the_first_byte() -> Outcome {
    for cluster_bits in [14, 16, 21] {
        let directory = tempfile::tempdir()?;
        let directory = directory.path();
        let qemu = Qemu::in_directory(directory);
        let new = NewImage { cluster_bits, l2: L2Width::Extended, ..NewImage::of_size(ByteCount::gib(1)) };
        let blob = DiskStore::open(directory)?.create(&BlobName::parse(IMAGE)?)?;
        new.layout(IMAGE)?.write(&*blob)?;
        drop(blob);
        assert_clean(directory)?;
        let unit = 1u64 << (cluster_bits - 5);
        let image = open(directory, Access::Write)?;
        let before = std::fs::metadata(directory.join(IMAGE))?.len();
        image.write(GuestOffset::new(unit * 4 - 100), &[5; 100], None)?;
        image.flush()?;
        drop(image);
        assert!(std::fs::metadata(directory.join(IMAGE))?.len() > before);
        assert_clean(directory)?;
        qemu.io(&["-f", "qcow2", IMAGE], &[format!("read -P 5 {} 100", unit * 4 - 100)]);
        let said = qemu.img(&["map", "-f", "qcow2", "--output=json", IMAGE]);
        let stretches: Vec<serde_json::Value> = serde_json::from_str(&said)?;
        let number = |one: &serde_json::Value, key: &str| one[key].as_u64().expect("a number");
        let data: Vec<_> = stretches.iter().filter(|one| one["data"] == true).collect();
        let (first, last) = (data.first().ok_or("no data")?, data.last().ok_or("no data")?);
        let end = number(last, "start") + number(last, "length");
        assert_eq!((number(first, "start"), end), (unit * 3, unit * 4), "{said}");
    }
    for (version, cluster_bits) in [(Version::V2, 16), (Version::V3, 13)] {
        let new =
            NewImage { version, cluster_bits, l2: L2Width::Extended, ..NewImage::of_size(ByteCount::gib(1)) };
        let Err(Error::Format { .. }) = new.layout(IMAGE) else { panic!("{new:?}") };
    }
    Ok(())
}

#[test]
fn what_tables_have_past_the_end_of_the_disk_is_not_seen_when_it_grows() -> Outcome {
    for l2 in [L2Width::Standard, L2Width::Extended] {
        for cut in [0, 512, 70_144, 8 << 20] {
            let store = MemoryStore::new();
            let name = BlobName::parse(IMAGE)?;
            let blob = store.create(&name)?;
            let new = NewImage { cluster_bits: 14, l2, ..NewImage::of_size(ByteCount::mib(16)) };
            new.layout(IMAGE)?.write(&*blob)?;
            let open =
                || Image::open(store.open(&name, Access::Write)?, IMAGE, Access::Write, Limits::default());
            let image = open()?;
            image.write(GuestOffset::ZERO, &[9; 16 << 20], None)?;
            image.flush()?;
            // A disk that others have cut short, or that has the state of a machine behind its end.
            let mut header = image.header();
            header.size = ByteCount::new(cut);
            blob.write_at(HostOffset::ZERO, &header.encode()?)?;
            let image = open()?;
            image.grow(ByteCount::mib(20), None)?;
            let length = usize::try_from(cut)?;
            assert!(read(&image, 0, length)? == vec![9; length]);
            let grown = read(&image, cut, (20 << 20) - length)?;
            assert_eq!(grown.iter().position(|byte| *byte != 0), None, "{l2:?}, cut at {cut}");
            assert!(image.check()?.is_clean());
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn a_volume_with_subclusters_keeps_them_through_groups_reverts_and_clones() -> Outcome {
    let directory = tempfile::tempdir()?;
    let engine = Engine::open(directory.path().join("pool"), Options::default())?;
    let machine = engine.create_machine(&CreateMachine::new("vm"))?.uuid;
    let wish = CreateVolume {
        l2: Some(L2Entries::Extended),
        resource_uuid: Some("4b13e23059033e2dbfac63b5b16eba11".into()),
        ..CreateVolume::new("fine", ByteCount::mib(64))
    };
    let disk = engine.create_volume(&wish)?.uuid;
    assert_eq!(engine.create_volume(&wish)?.uuid, disk, "the same wish");
    assert!(engine.create_volume(&CreateVolume { l2: None, ..wish.clone() }).is_err(), "another wish");
    let small = CreateVolume { cluster_bits: Some(12), resource_uuid: None, ..wish };
    let refused = engine.create_volume(&small);
    assert_eq!(refused.map_err(|error| error.kind()), Err(Kind::Refused));
    engine.attach_volume(disk, machine, None)?;
    let handle = engine.open_volume(disk)?;
    handle.write_at(5000, &[1; 100])?;
    let group = engine.create_group(&CreateGroup::of_machine(machine, "g"))?.inventory;
    handle.write_at(70_000, &[2; 100])?;
    let clone = CreateVolume {
        snapshot: Some(group.volume_snapshot_refs[0].volume_snapshot_uuid.into()),
        ..CreateVolume { name: "clone".into(), ..Default::default() }
    };
    let clone = engine.create_volume(&clone)?.uuid;
    engine.open_volume(clone)?.write_at(9000, &[3; 100])?;
    drop(handle);
    let _ = engine.revert_group(&RevertGroup { present: Present::Kept, ..RevertGroup::new(group.uuid) })?;
    let handle = engine.open_volume(disk)?;
    handle.write_at(6000, &[4; 100])?;
    let mut found = [0xee; 1200];
    handle.read_at(4950, &mut found)?;
    let expected = [vec![0; 50], vec![1; 100], vec![0; 900], vec![4; 100], vec![0; 50]].concat();
    assert!(found[..] == expected[..]);
    drop(handle);
    assert!(engine.check()?.is_clean());
    engine.close()?;
    let qemu = Qemu::in_directory(directory.path());
    let mut images = 0;
    for entry in std::fs::read_dir(directory.path().join("pool"))? {
        let path = entry?.path();
        let name = path.to_str().ok_or("text")?;
        if name.ends_with(".qcow2") {
            images += 1;
            let shown = qemu.img(&["info", "-f", "qcow2", "--output=json", name]);
            let shown: serde_json::Value = serde_json::from_str(&shown)?;
            assert_eq!(shown["format-specific"]["data"]["extended-l2"], true, "{shown}");
            assert_eq!(qemu.check(name).0, Checked::Clean);
        }
    }
    assert_eq!(images, 4, "the first one, that of the state that was kept, the head and the clone");
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn an_encrypted_image_is_a_layer_whose_data_nobody_reads() -> Outcome {
    for method in ["encrypt.format=luks,encrypt.iter-time=10", "encrypt.format=aes"] {
        encrypted(method)?;
    }
    Ok(())
}

fn encrypted(method: &str) -> Outcome {
    let directory = tempfile::tempdir()?;
    let qemu = Qemu::in_directory(directory.path());
    let secret = "secret,id=s,data=s";
    let options = &format!("{method},encrypt.key-secret=s");
    qemu.img(&["create", "-q", "-f", "qcow2", "--object", secret, "-o", options, "secret.qcow2", "4M"]);
    let image = "driver=qcow2,file.filename=secret.qcow2,encrypt.key-secret=s";
    qemu.io(&["--object", secret, "--image-opts", image], &["write -P 7 1M 64k".to_owned()]);
    let options = Options { create: CreatePool::Here, ..Options::default() };
    let engine = Engine::open(directory.path(), options)?;
    let head = AdoptVolume::new("secret.qcow2", LayerFormat::Qcow2, "head");
    assert!(engine.adopt_volume(&head).is_err(), "a head is written, and this one cannot be");
    qemu.img(&["create", "-q", "-f", "qcow2", "-b", "secret.qcow2", "-F", "qcow2", "-u", "top.qcow2", "4M"]);
    let adopted = AdoptVolume {
        lower: LowerLayers::Snapshots,
        ..AdoptVolume::new("top.qcow2", LayerFormat::Qcow2, "top")
    };
    let disk = engine.adopt_volume(&adopted)?.uuid;
    let machine = engine.create_machine(&CreateMachine::new("vm"))?.uuid;
    engine.attach_volume(disk, machine, None)?;
    let handle = engine.open_volume(disk)?;
    handle.write_at(0, &[1; 65536])?;
    engine.create_group(&CreateGroup::of_machine(machine, "g"))?;
    let mut found = [0xee; 65536];
    handle.read_at(0, &mut found)?;
    assert!(found == [1; 65536]);
    handle.read_at(2 << 20, &mut found)?;
    assert!(found == [0; 65536], "what is nowhere is zeros");
    for refused in [handle.read_at(1 << 20, &mut found), handle.write_at((1 << 20) + 10, &[1; 10])] {
        let Err(error) = refused else { panic!("ciphertext was taken for data") };
        assert_eq!(error.kind(), Kind::Refused);
        assert!(error.to_string().contains("is encrypted"), "{error}");
    }
    handle.write_at(1 << 20, &[2; 65536])?;
    drop(handle);
    assert!(engine.check()?.is_clean());
    engine.close()?;
    qemu.img(&["check", "-q", "--object", secret, "--image-opts", image]);
    Ok(())
}

/// Where an image keeps its data is nothing to what lies above it, until that data is asked for.
#[test]
#[ignore = "needs qemu-img"]
fn an_image_with_its_data_elsewhere_is_a_layer_whose_data_nobody_reads() -> Outcome {
    for raw in ["off", "on"] {
        let directory = tempfile::tempdir()?;
        let qemu = Qemu::in_directory(directory.path());
        let options = format!("data_file=base.data,data_file_raw={raw}");
        qemu.img(&["create", "-q", "-f", "qcow2", "-o", &options, "base.qcow2", "4M"]);
        // The first cluster of the data file lies at 0, which is no place in an image.
        let written = ["write -P 6 0 64k".to_owned(), "write -P 7 1M 64k".to_owned()];
        qemu.io(&["-f", "qcow2", "base.qcow2"], &written);
        let kept = ["base.qcow2", "base.data"].map(|file| std::fs::read(directory.path().join(file)));
        let engine =
            Engine::open(directory.path(), Options { create: CreatePool::Here, ..Options::default() })?;
        let head = AdoptVolume::new("base.qcow2", LayerFormat::Qcow2, "head");
        let Err(error) = engine.adopt_volume(&head) else {
            panic!("a head is written, and this one cannot be")
        };
        assert!(error.to_string().contains("external file"), "{error}");

        // An overlay of ours above it, groups, deletions: none of that needs its data.
        let volume = CreateVolume::above("disk", "base.qcow2", LayerFormat::Qcow2);
        let disk = engine.create_volume(&volume)?.uuid;
        let machine = engine.create_machine(&CreateMachine::new("vm"))?.uuid;
        engine.attach_volume(disk, machine, None)?;
        let handle = engine.open_volume(disk)?;
        handle.write_at(65_536, &[1; 65_536])?;
        engine.create_group(&CreateGroup::of_machine(machine, "g"))?;
        let mut found = [0xee; 65_536];
        handle.read_at(65_536, &mut found)?;
        assert!(found == [1; 65_536]);
        // Of a file that is raw by itself, all of the disk is data.
        let nowhere = handle.read_at(2 << 20, &mut found);
        assert_eq!(nowhere.is_ok(), raw == "off", "{nowhere:?}");
        assert!(raw == "on" || found == [0; 65_536], "what is nowhere is zeros");
        for refused in [
            handle.read_at(0, &mut found),
            handle.read_at(1 << 20, &mut found),
            handle.write_at((1 << 20) + 10, &[1; 10]),
        ] {
            let Err(error) = refused else { panic!("the data of another file was taken for what is here") };
            assert_eq!(error.kind(), Kind::Refused);
            assert!(error.to_string().contains("keeps its data in an external file"), "{error}");
        }
        handle.write_at(1 << 20, &[2; 65_536])?;
        drop(handle);
        assert!(engine.check()?.is_clean(), "{raw}");
        let path = engine.volume(disk)?.install_path;
        let overlay = path.rsplit('/').next().unwrap_or(&path);
        qemu.io(
            &["-f", "qcow2", overlay],
            &["read -P 6 0 64k", "read -P 1 64k 64k", "read -P 2 1M 64k"].map(str::to_owned),
        );
        assert!(engine.delete_volume(&DeleteVolume::new(disk))?.is_success());
        engine.close()?;
        let now = ["base.qcow2", "base.data"].map(|file| std::fs::read(directory.path().join(file)));
        for (kept, now) in kept.into_iter().zip(now) {
            assert!(kept? == now?, "what is below was changed");
        }
        qemu.img(&["check", "-q", "base.qcow2"]);
    }
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn an_image_whose_data_file_is_not_beside_it_is_nobodys_base() -> Outcome {
    let (directory, elsewhere) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let qemu = Qemu::in_directory(directory.path());
    let foreign = elsewhere.path().join("x.data").display().to_string();
    std::fs::write(directory.path().join("target.data"), vec![0; 1 << 20])?;
    std::os::unix::fs::symlink("target.data", directory.path().join("link.data"))?;
    for data in [foreign.as_str(), "./../x.data", "link.data"] {
        let options = format!("data_file={data}");
        qemu.img(&["create", "-q", "-f", "qcow2", "-o", &options, "base.qcow2", "1M"]);
        let engine =
            Engine::open(directory.path(), Options { create: CreatePool::Here, ..Options::default() })?;
        let volume = CreateVolume::above("disk", "base.qcow2", LayerFormat::Qcow2);
        let Err(snapgroup::Error::NotAdoptable { rule, .. }) = engine.create_volume(&volume) else {
            panic!("{data}: a base for a disk")
        };
        assert!(matches!(&rule, snapgroup::AdoptRule::DataOutOfReach { .. }), "{data}: {rule}");
        engine.close()?;
    }
    Ok(())
}
