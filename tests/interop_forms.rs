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
use snapgroup::{AdoptVolume, ByteCount, CreateSnapshot, Error, LayerFormat};
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
