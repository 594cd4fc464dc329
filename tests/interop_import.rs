//! Files that QEMU's own tools have made, imported. Run with `cargo test -- --ignored`.
#![cfg(target_os = "linux")]

#[path = "support/qemu.rs"]
mod qemu;
#[path = "support/qemu_io.rs"]
mod qemu_io;

use qemu::{Checked, Qemu};
use snapgroup::{Engine, ImportFrom, ImportVolume, LayerFormat, Options};
use std::error::Error;
use std::path::Path;
use tempfile::TempDir;

type Outcome = Result<(), Box<dyn Error>>;

/// The size of every disk: no whole number of clusters.
const SIZE: usize = 3_000_832;

/// Bytes of which some clusters are zeros, some are easily compressed, and some are neither.
fn content(seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = vec![0; SIZE];
    for (index, chunk) in bytes.chunks_mut(50_000).enumerate() {
        match index % 3 {
            0 => {}
            1 => chunk.fill(seed.to_be_bytes()[3]),
            _ => chunk.iter_mut().for_each(|byte| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = state.to_be_bytes()[0];
            }),
        }
    }
    bytes
}

/// What a file of this directory reads as once it is imported; QEMU finds nothing wrong with the new image.
fn imported(
    engine: &Engine,
    directory: &Path,
    file: &str,
    format: LayerFormat,
) -> Result<Vec<u8>, Box<dyn Error>> {
    let from = ImportFrom::Path(directory.join(file));
    let volume = engine.import(&ImportVolume::new(from, format, file))?;
    let disk = engine.open_volume(volume.uuid)?;
    let mut bytes = vec![0; disk.size().as_usize()];
    disk.read_at(0, &mut bytes)?;
    drop(disk);
    let (checked, said) = Qemu::in_directory(directory).check(&volume.install_path);
    assert_eq!(checked, Checked::Clean, "{file}: {said}");
    Ok(bytes)
}

#[test]
#[ignore = "needs qemu-img"]
fn every_kind_of_image_reads_the_same_once_it_is_imported() -> Outcome {
    let directory = TempDir::new()?;
    let tools = Qemu::in_directory(directory.path());
    let engine = Engine::open(directory.path().join("pool"), Options::default())?;
    let content = content(7);
    std::fs::write(directory.path().join("disk.raw"), &content)?;
    assert!(imported(&engine, directory.path(), "disk.raw", LayerFormat::Raw)? == content, "raw");
    for (file, arguments) in [
        ("v2.qcow2", &["-o", "compat=0.10"][..]),
        ("v3.qcow2", &["-o", "compat=1.1"]),
        ("small.qcow2", &["-o", "cluster_size=512"]),
        ("large.qcow2", &["-o", "cluster_size=2M"]),
        ("extended.qcow2", &["-o", "cluster_size=128k,extended_l2=on"]),
        ("narrow.qcow2", &["-o", "refcount_bits=1"]),
        ("wide.qcow2", &["-o", "refcount_bits=64"]),
        ("lazy.qcow2", &["-o", "lazy_refcounts=on"]),
        ("metadata.qcow2", &["-o", "preallocation=metadata"]),
        ("falloc.qcow2", &["-o", "preallocation=falloc"]),
        ("full.qcow2", &["-o", "preallocation=full"]),
        ("compressed.qcow2", &["-c"]),
        ("zstd.qcow2", &["-c", "-o", "compression_type=zstd"]),
    ] {
        let mut whole = vec!["convert", "-f", "raw", "-O", "qcow2"];
        whole.extend(arguments);
        whole.extend(["disk.raw", file]);
        tools.img(&whole);
        let read = imported(&engine, directory.path(), file, LayerFormat::Qcow2)
            .map_err(|error| format!("{file}: {error}"))?;
        assert!(read == content, "{file}");
    }
    Ok(())
}

#[test]
#[ignore = "needs qemu-img and qemu-io"]
fn a_chain_reads_as_its_uppermost_image_does() -> Outcome {
    let directory = TempDir::new()?;
    let tools = Qemu::in_directory(directory.path());
    let engine = Engine::open(directory.path().join("pool"), Options::default())?;
    std::fs::write(directory.path().join("base.raw"), content(9))?;
    for (below, format, above) in
        [("base.raw", "raw", "a.qcow2"), ("a.qcow2", "qcow2", "b.qcow2"), ("b.qcow2", "qcow2", "c.qcow2")]
    {
        tools.img(&["create", "-q", "-f", "qcow2", "-b", below, "-F", format, above]);
        let at = u32::from(above.as_bytes()[0] - b'a') * 500_000;
        let writes = [format!("write -q -P 5 {at} 300000"), format!("write -q -z {} 200000", at + 100_000)];
        tools.io(&["-f", "qcow2", above], &writes);
    }
    tools.img(&["convert", "-f", "qcow2", "-O", "raw", "c.qcow2", "flat.raw"]);
    let flat = std::fs::read(directory.path().join("flat.raw"))?;
    assert!(imported(&engine, directory.path(), "c.qcow2", LayerFormat::Qcow2)? == flat);
    assert_eq!(engine.check()?.layers, []);
    Ok(())
}
