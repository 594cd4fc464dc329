//! Cases that QEMU's own tests have for the forms of an image, rebuilt from what they assert: each names its number
//! there. QEMU makes the file, we work on it, QEMU judges.
//!
//! Needs `qemu-img` and `qemu-io` in the path: `cargo test --release --test interop_forms -- --ignored`.

#![cfg(target_os = "linux")]

#[path = "support/pool.rs"]
mod pool;
#[path = "support/qemu.rs"]
mod qemu;
#[path = "support/qemu_io.rs"]
mod qemu_io;
#[path = "support/shown.rs"]
mod shown;

use pool::{Outcome, head_of, layer_of, open, snapshot_bytes, volume_bytes};
use qemu::{Checked, Qemu};
use shown::assert_shows;
use snapgroup::format::{Extension, Header};
use snapgroup::image::{self, Image, Limits, RepairMode};
use snapgroup::query::Query;
use snapgroup::storage::{Access, BlobName, DiskStore, Store};
use snapgroup::units::HostOffset;
use snapgroup::{
    AdoptVolume, ByteCount, CreateSnapshot, DeleteMode, DeleteSnapshots, Direction, Error, Kind, LayerFormat,
    LowerLayers,
};
use std::path::Path;

fn adopt(file: &str) -> AdoptVolume {
    AdoptVolume::new(file, LayerFormat::Qcow2, "v")
}

fn header_of(path: &Path) -> Outcome<Header> {
    let bytes = std::fs::read(path)?;
    Ok(Header::parse(&bytes[..bytes.len().min(65_536)])?)
}

fn assert_clean(qemu: &Qemu, file: &str) {
    let (checked, said) = qemu.check(file);
    assert_eq!(checked, Checked::Clean, "{file}: {said}");
}

/// 031
#[test]
#[ignore = "needs qemu-img"]
fn every_extension_of_a_header_is_there_after_the_header_was_written_anew() -> Outcome {
    for form in ["compat=0.10", "compat=1.1"] {
        let home = tempfile::tempdir()?;
        let (qemu, path) = (Qemu::in_directory(home.path()), home.path().join("a.qcow2"));
        qemu.img(&["create", "-q", "-f", "raw", "base.raw", "1M"]);
        let backed = ["-b", "base.raw", "-F", "raw", "a.qcow2", "1M"];
        qemu.img(&[&["create", "-q", "-f", "qcow2", "-o", form][..], &backed].concat());
        let mut header = header_of(&path)?;
        for (kind, data) in [(0x1234_5678, &b"This is a test header extension"[..]), (0x1234_5679, b"")] {
            header.extensions.push(Extension { kind, data: data.to_vec() });
        }
        let mut bytes = std::fs::read(&path)?;
        let encoded = header.encode()?;
        bytes[..encoded.len()].copy_from_slice(&encoded);
        std::fs::write(&path, bytes)?;

        // Taken over, the header says whose layer it is; grown, how large the disk is.
        let engine = open(home.path())?;
        let volume = engine.adopt_volume(&adopt("a.qcow2"))?.uuid;
        engine.resize_volume(volume, ByteCount::mib(2))?;
        engine.open_volume(volume)?.write_at(0, &[5; 70_000])?;
        engine.close()?;
        let after = header_of(&path)?;
        for extension in &header.extensions {
            assert!(after.extensions.contains(extension), "{form}: {extension:?} is gone");
        }
        assert_eq!(after.extensions.len(), header.extensions.len() + 1, "{form}: ours came, and no other");
        assert_clean(&qemu, "a.qcow2");
    }
    Ok(())
}

/// 112
#[test]
#[ignore = "needs qemu-img"]
fn counts_of_every_width_are_kept_through_a_snapshot() -> Outcome {
    for bits in [1, 2, 4, 8, 16, 32, 64] {
        let home = tempfile::tempdir()?;
        let qemu = Qemu::in_directory(home.path());
        let form = format!("refcount_bits={bits},cluster_size=4096");
        qemu.img(&["create", "-q", "-f", "qcow2", "-o", &form, "a.qcow2", "8M"]);
        let engine = open(home.path())?;
        let volume = engine.adopt_volume(&adopt("a.qcow2"))?.uuid;
        engine.open_volume(volume)?.write_at(1000, &vec![1; 3_000_000])?;
        let snapshot = engine.create_snapshot(&CreateSnapshot::new(volume, "s"))?.uuid;
        engine.open_volume(volume)?.write_at(500_000, &vec![2; 3_000_000])?;
        let (then, now) = (snapshot_bytes(&engine, snapshot)?, volume_bytes(&engine, volume)?);
        for (file, bytes) in [(layer_of(&engine, snapshot)?, then), (head_of(&engine, volume)?, now)] {
            assert_shows(home.path(), &file, &bytes)?;
            assert_clean(&qemu, &file);
        }
        assert_eq!(header_of(&home.path().join("a.qcow2"))?.geometry.refcount_bits(), bits);
    }
    Ok(())
}

/// 126
#[test]
#[ignore = "needs qemu-img"]
fn a_colon_in_a_name_is_a_name_where_the_name_begins_with_a_dot() -> Outcome {
    let home = tempfile::tempdir()?;
    let qemu = Qemu::in_directory(home.path());
    qemu.img(&["create", "-q", "-f", "qcow2", "./base:1.qcow2", "1M"]);
    qemu.io(&["-f", "qcow2", "./base:1.qcow2"], &["write -P 7 0 128k".to_owned()]);
    qemu.img(&["create", "-q", "-f", "qcow2", "-b", "./base:1.qcow2", "-F", "qcow2", "a.qcow2"]);
    let engine = open(home.path())?;
    let volume = engine.adopt_volume(&adopt("a.qcow2"))?.uuid;
    let bytes = volume_bytes(&engine, volume)?;
    assert!(bytes[..131_072].iter().all(|byte| *byte == 7));
    engine.create_snapshot(&CreateSnapshot::new(volume, "s"))?;
    assert_shows(home.path(), &head_of(&engine, volume)?, &bytes)
}

/// 110
#[test]
#[ignore = "needs qemu-img"]
fn a_name_that_goes_through_a_directory_is_not_followed() -> Outcome {
    let home = tempfile::tempdir()?;
    let qemu = Qemu::in_directory(home.path());
    std::fs::create_dir(home.path().join("sub"))?;
    qemu.img(&["create", "-q", "-f", "qcow2", "sub/base.qcow2", "1M"]);
    qemu.img(&["create", "-q", "-f", "qcow2", "-b", "sub/base.qcow2", "-F", "qcow2", "a.qcow2"]);
    let engine = open(home.path())?;
    let Err(Error::NotAdoptable { blob, .. }) = engine.adopt_volume(&adopt("a.qcow2")) else {
        panic!("it was adopted")
    };
    assert_eq!(blob, "a.qcow2");
    Ok(())
}

/// 290
#[test]
#[ignore = "needs qemu-img and qemu-io"]
fn what_is_discarded_in_version_2_never_shows_what_is_below() -> Outcome {
    for form in ["compat=0.10", "compat=1.1"] {
        let home = tempfile::tempdir()?;
        let qemu = Qemu::in_directory(home.path());
        qemu.img(&["create", "-q", "-f", "qcow2", "base.qcow2", "1M"]);
        qemu.io(&["-f", "qcow2", "base.qcow2"], &["write -P 1 0 1M".to_owned()]);
        let backed = ["-b", "base.qcow2", "-F", "qcow2", "a.qcow2"];
        qemu.img(&[&["create", "-q", "-f", "qcow2", "-o", form][..], &backed].concat());
        qemu.io(&["-f", "qcow2", "a.qcow2"], &["write -P 2 0 256k".to_owned()]);
        let engine = open(home.path())?;
        let volume = engine.adopt_volume(&adopt("a.qcow2"))?.uuid;
        let handle = engine.open_volume(volume)?;
        handle.discard(65_536, 393_216)?;
        handle.flush()?;
        drop(handle);
        let mut expected = vec![1; 1 << 20];
        expected[..65_536].fill(2);
        expected[65_536..458_752].fill(0);
        assert!(volume_bytes(&engine, volume)? == expected, "{form}");
        assert_shows(home.path(), "a.qcow2", &expected)?;
        assert_clean(&qemu, "a.qcow2");
    }
    Ok(())
}

/// 039
#[test]
#[ignore = "needs qemu-img and qemu-io"]
fn an_image_that_a_dead_writer_left_dirty_is_repaired_before_it_is_taken_over() -> Outcome {
    let home = tempfile::tempdir()?;
    let qemu = Qemu::in_directory(home.path());
    qemu.img(&["create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", "a.qcow2", "8M"]);
    // It dies with its refcounts unwritten.
    let killed = std::process::Command::new("qemu-io")
        .args(["-f", "qcow2", "a.qcow2", "-c", "write -P 5 1M 256k", "-c", "flush", "-c", "sigraise 9"])
        .current_dir(home.path())
        .output()?;
    assert!(!killed.status.success(), "it was to die");
    let path = home.path().join("a.qcow2");
    assert!(header_of(&path)?.incompatible.is_dirty(), "it left nothing undone");
    let engine = open(home.path())?;
    let before = std::fs::read(&path)?;
    let Err(error) = engine.adopt_volume(&adopt("a.qcow2")) else { panic!("a dirty image was taken over") };
    assert!(std::fs::read(&path)? == before, "a refusal has changed it: {error}");

    repair(home.path(), "a.qcow2")?;
    assert!(!header_of(&path)?.incompatible.is_dirty());
    let volume = engine.adopt_volume(&adopt("a.qcow2"))?.uuid;
    let mut expected = vec![0; 8 << 20];
    expected[1 << 20..5 << 18].fill(5);
    assert!(volume_bytes(&engine, volume)? == expected);
    engine.open_volume(volume)?.write_at(0, &[6; 100_000])?;
    expected[..100_000].fill(6);
    engine.close()?;
    assert_shows(home.path(), "a.qcow2", &expected)?;
    assert_clean(&qemu, "a.qcow2");
    Ok(())
}

/// Mends an image, and sees that nothing is left to mend.
fn repair(directory: &Path, file: &str) -> Outcome {
    let blob = DiskStore::open(directory)?.open(&BlobName::parse(file)?, Access::Write)?;
    let repaired = image::repair(&*blob, file, RepairMode::Perform)?;
    assert!(repaired.after.is_some_and(|after| after.is_clean()), "{file} is not mended");
    Ok(())
}

/// 108
#[test]
#[ignore = "needs qemu-img and qemu-io"]
fn counts_that_lie_past_the_end_of_the_file_are_made_anew() -> Outcome {
    for bits in [1, 16, 64] {
        let home = tempfile::tempdir()?;
        let (qemu, path) = (Qemu::in_directory(home.path()), home.path().join("a.qcow2"));
        let form = format!("refcount_bits={bits},cluster_size=512");
        qemu.img(&["create", "-q", "-f", "qcow2", "-o", &form, "a.qcow2", "1M"]);
        qemu.io(&["-f", "qcow2", "a.qcow2"], &["write -P 9 0 600k".to_owned()]);
        let table = usize::try_from(header_of(&path)?.refcount_table.as_u64())?;
        let mut bytes = std::fs::read(&path)?;
        // The first block is one that the file never had; the second one is none at all.
        bytes[table..table + 8].copy_from_slice(&(1_u64 << 40).to_be_bytes());
        bytes[table + 8..table + 16].fill(0);
        std::fs::write(&path, &bytes)?;
        repair(home.path(), "a.qcow2")?;
        assert_clean(&qemu, "a.qcow2");
        let mut expected = vec![0; 1 << 20];
        expected[..600 << 10].fill(9);
        assert_shows(home.path(), "a.qcow2", &expected)?;
    }
    Ok(())
}

/// 165
#[test]
#[ignore = "needs qemu-img and qemu-io"]
fn a_bitmap_outlives_whoever_only_reads_and_says_so_of_whoever_writes() -> Outcome {
    let home = tempfile::tempdir()?;
    let qemu = Qemu::in_directory(home.path());
    qemu.img(&["create", "-q", "-f", "qcow2", "a.qcow2", "8M"]);
    qemu.img(&["bitmap", "--add", "a.qcow2", "changes"]);
    qemu.io(&["-f", "qcow2", "a.qcow2"], &["write -P 3 2M 64k".to_owned()]);
    let before = std::fs::read(home.path().join("a.qcow2"))?;
    let blob = DiskStore::open(home.path())?.open(&BlobName::parse("a.qcow2")?, Access::Read)?;
    let image = Image::open(blob, "a.qcow2", Access::Read, Limits::default())?;
    assert!(image.check()?.is_clean());
    drop(image);
    assert!(std::fs::read(home.path().join("a.qcow2"))? == before, "a reader has written");

    let engine = open(home.path())?;
    let volume = engine.adopt_volume(&adopt("a.qcow2"))?.uuid;
    engine.open_volume(volume)?.write_at(5 << 20, &[4; 65_536])?;
    engine.close()?;
    // Sound or not there, and never one that QEMU would believe and that misses our write.
    let info: serde_json::Value =
        serde_json::from_str(&qemu.img(&["info", "-f", "qcow2", "--output=json", "a.qcow2"]))?;
    let bitmaps = info["format-specific"]["data"]["bitmaps"].as_array().cloned().unwrap_or_default();
    assert_eq!(bitmaps.len(), 1, "{info:#}");
    assert!(!bitmaps[0]["flags"].to_string().contains("in-use"), "{info:#}");
    qemu.img(&["create", "-q", "-f", "qcow2", "copy.qcow2", "8M"]);
    qemu.img(&["bitmap", "--add", "copy.qcow2", "changes"]);
    qemu.img(&["bitmap", "--merge", "changes", "-b", "a.qcow2", "-F", "qcow2", "copy.qcow2", "changes"]);
    assert_clean(&qemu, "a.qcow2");
    Ok(())
}

/// 176
#[test]
#[ignore = "needs qemu-img and qemu-io"]
fn a_layer_with_a_snapshot_of_its_own_takes_what_is_merged_into_it_and_keeps_the_snapshot() -> Outcome {
    for direction in [Direction::Commit, Direction::Pull] {
        let home = tempfile::tempdir()?;
        let qemu = Qemu::in_directory(home.path());
        qemu.img(&["create", "-q", "-f", "qcow2", "a.qcow2", "4M"]);
        qemu.io(&["-f", "qcow2", "a.qcow2"], &["write -P 1 0 1M".to_owned()]);
        qemu.img(&["snapshot", "-q", "-c", "inner", "a.qcow2"]);
        let engine = open(home.path())?;
        let volume = engine.adopt_volume(&adopt("a.qcow2"))?.uuid;
        engine.open_volume(volume)?.write_at(0, &[2; 300_000])?;
        let first = engine.create_snapshot(&CreateSnapshot::new(volume, "s"))?.uuid;
        engine.open_volume(volume)?.write_at(200_000, &[3; 300_000])?;
        let expected = volume_bytes(&engine, volume)?;
        let request = DeleteSnapshots { direction, ..DeleteSnapshots::one(first) };
        let deleted = engine.delete_snapshots(&request)?;
        assert!(deleted.is_success() && deleted.owed.is_empty(), "{deleted:#?}");
        assert!(volume_bytes(&engine, volume)? == expected, "{direction:?}");
        let head = head_of(&engine, volume)?;
        engine.close()?;
        assert_shows(home.path(), &head, &expected)?;
        assert_clean(&qemu, &head);
        // Whichever way was asked for: the file that holds the snapshot stays.
        qemu.img(&["snapshot", "-q", "-a", "inner", "a.qcow2"]);
        let mut then = vec![0; 4 << 20];
        then[..1 << 20].fill(1);
        assert_shows(home.path(), "a.qcow2", &then)?;
        assert_clean(&qemu, "a.qcow2");
    }
    Ok(())
}

/// 198
#[test]
#[ignore = "needs qemu-img and qemu-io"]
fn what_is_encrypted_is_not_merged_into_a_layer_that_would_show_it_as_it_lies() -> Outcome {
    for direction in [Direction::Commit, Direction::Pull] {
        refuse_to_merge(direction)?;
    }
    Ok(())
}

fn refuse_to_merge(direction: Direction) -> Outcome {
    let home = tempfile::tempdir()?;
    let qemu = Qemu::in_directory(home.path());
    let (secret, options) =
        ("secret,id=s,data=s", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10");
    qemu.img(&["create", "-q", "-f", "qcow2", "--object", secret, "-o", options, "secret.qcow2", "2M"]);
    let image = "driver=qcow2,file.filename=secret.qcow2,encrypt.key-secret=s";
    qemu.io(&["--object", secret, "--image-opts", image], &["write -P 7 1M 64k".to_owned()]);
    qemu.img(&["create", "-q", "-f", "qcow2", "-b", "secret.qcow2", "-F", "qcow2", "-u", "top.qcow2", "2M"]);
    let engine = open(home.path())?;
    let wish = AdoptVolume { lower: LowerLayers::Snapshots, ..adopt("top.qcow2") };
    let volume = engine.adopt_volume(&wish)?.uuid;
    let snapshot = engine.query_snapshots(&Query::default())?.items[0].uuid;
    let before = std::fs::read(home.path().join("secret.qcow2"))?;
    let request =
        DeleteSnapshots { direction, mode: DeleteMode::Enforcing, ..DeleteSnapshots::one(snapshot) };
    match engine.delete_snapshots(&request) {
        Ok(deleted) => assert!(!deleted.owed.is_empty(), "{direction:?}: {deleted:#?}"),
        Err(error) => assert_ne!(error.kind(), Kind::Corrupt, "{direction:?}: {error}"),
    }
    assert!(std::fs::read(home.path().join("secret.qcow2"))? == before, "{direction:?}: it was changed");
    let handle = engine.open_volume(volume)?;
    let mut found = [0xee; 512];
    let Err(error) = handle.read_at(1 << 20, &mut found) else { panic!("ciphertext was taken for data") };
    assert!(error.to_string().contains("is encrypted"), "{error}");
    handle.read_at(0, &mut found)?;
    assert!(found == [0; 512]);
    Ok(())
}

/// 217
#[test]
#[ignore = "needs qemu-img and qemu-io"]
fn a_snapshot_of_its_own_that_was_removed_half_way_costs_room_until_a_repair() -> Outcome {
    let home = tempfile::tempdir()?;
    let (qemu, path) = (Qemu::in_directory(home.path()), home.path().join("a.qcow2"));
    qemu.img(&["create", "-q", "-f", "qcow2", "a.qcow2", "4M"]);
    qemu.io(&["-f", "qcow2", "a.qcow2"], &["write -P 1 0 1M".to_owned()]);
    qemu.img(&["snapshot", "-q", "-c", "inner", "a.qcow2"]);
    qemu.io(&["-f", "qcow2", "a.qcow2"], &["write -P 2 0 256k".to_owned()]);
    // The table is gone, and what it referred to was not counted down any more.
    let mut header = header_of(&path)?;
    (header.snapshot_count, header.snapshot_table) = (0, HostOffset::ZERO);
    let mut bytes = std::fs::read(&path)?;
    let encoded = header.encode()?;
    bytes[..encoded.len()].copy_from_slice(&encoded);
    std::fs::write(&path, bytes)?;
    assert_eq!(qemu.check("a.qcow2").0, Checked::Leaks);

    let engine = open(home.path())?;
    let volume = engine.adopt_volume(&adopt("a.qcow2"))?.uuid;
    engine.open_volume(volume)?.write_at(512 << 10, &[3; 262_144])?;
    engine.close()?;
    assert_eq!(qemu.check("a.qcow2").0, Checked::Leaks, "a leak is no damage, and writing makes none of it");
    repair(home.path(), "a.qcow2")?;
    assert_clean(&qemu, "a.qcow2");
    let mut expected = vec![0; 4 << 20];
    expected[..1 << 20].fill(1);
    expected[..256 << 10].fill(2);
    expected[512 << 10..768 << 10].fill(3);
    assert_shows(home.path(), "a.qcow2", &expected)
}

/// 271
#[test]
#[ignore = "needs qemu-img and qemu-io"]
fn subclusters_are_written_zeroed_and_given_back_each_on_its_own() -> Outcome {
    const SIZE: usize = 2 << 20;
    let home = tempfile::tempdir()?;
    let qemu = Qemu::in_directory(home.path());
    qemu.img(&["create", "-q", "-f", "qcow2", "base.qcow2", "2M"]);
    qemu.io(&["-f", "qcow2", "base.qcow2"], &["write -P 1 0 2M".to_owned()]);
    let backed = ["-b", "base.qcow2", "-F", "qcow2", "a.qcow2"];
    let form = ["create", "-q", "-f", "qcow2", "-o", "extended_l2=on"];
    qemu.img(&[&form[..], &backed].concat());
    // What QEMU leaves in them: subclusters of all three kinds, in one cluster.
    let made = ["write -P 2 6k 10k", "write -z 30k 8k", "discard 40k 4k", "write -P 3 70000 100"];
    qemu.io(&["-f", "qcow2", "a.qcow2"], &made.map(str::to_owned));
    let engine = open(home.path())?;
    let volume = engine.adopt_volume(&adopt("a.qcow2"))?.uuid;
    let mut expected = volume_bytes(&engine, volume)?;
    assert_shows(home.path(), "a.qcow2", &expected)?;
    let handle = engine.open_volume(volume)?;
    // Inside a subcluster, a whole one, across two, a cluster, across clusters: each way, over all that is there.
    let (mut at, mut step) = (0, 0);
    for (offset, length) in [(100, 900), (2048, 2048), (1500, 2100), (0, 65_536), (64_000, 70_000)] {
        for way in 0..3 {
            for kind in 0..2 {
                let begin = at + offset + 2048 * kind;
                let range = begin..(begin + length).min(SIZE);
                step += 1;
                match way {
                    0 => handle.write_at(begin as u64, &vec![step; range.len()])?,
                    1 => handle.write_zeroes(begin as u64, range.len() as u64)?,
                    _ => handle.discard(begin as u64, range.len() as u64)?,
                }
                expected[range].fill(if way == 0 { step } else { 0 });
                at = (at + 52 * 1024) % (SIZE - 150_000);
            }
        }
    }
    handle.flush()?;
    drop(handle);
    let found = volume_bytes(&engine, volume)?;
    assert_eq!(found.iter().zip(&expected).position(|(found, expected)| found != expected), None);
    engine.close()?;
    assert_shows(home.path(), "a.qcow2", &expected)?;
    assert_clean(&qemu, "a.qcow2");
    Ok(())
}
