//! What the engine leaves on disk, as QEMU's own tools see it. Run with `cargo test -- --ignored`.
#![cfg(target_os = "linux")]

#[path = "support/writer.rs"]
mod writer;

use snapgroup::query::Query;
use snapgroup::{
    AdoptVolume, BaseImage, ByteCount, CreateGroup, CreateMachine, CreatePool, CreateSnapshot, CreateVolume,
    Engine, Error, GroupOf, Kind, LayerFormat, LowerLayers, Options, Uuid, VolumeKind,
};
use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use writer::Writer;

type Outcome = Result<(), Box<dyn StdError>>;
type Made<T> = Result<T, Box<dyn StdError>>;

/// Runs a tool; what it printed, or what it complained of.
fn run(tool: &str, arguments: &[&str]) -> Made<String> {
    let output = Command::new(tool).args(arguments).output()?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{tool} {arguments:?}: {}: {complaint}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn text(path: &Path) -> Made<&str> {
    path.to_str().ok_or_else(|| "a path is text".into())
}

/// What the tool reads of an image and everything below it.
fn converted(image: &str, directory: &Path) -> Made<Vec<u8>> {
    let flat = directory.join("flat.raw");
    run("qemu-img", &["convert", "-U", "-f", "qcow2", "-O", "raw", image, text(&flat)?])?;
    let bytes = std::fs::read(&flat)?;
    std::fs::remove_file(&flat)?;
    Ok(bytes)
}

/// A pool on disk: a machine whose disks have clusters of different sizes.
fn pool(directory: &TempDir) -> Made<(Engine, Uuid, Vec<Uuid>)> {
    let options = Options { create: CreatePool::Here, ..Options::default() };
    let engine = Engine::open(directory.path(), options)?;
    let machine = CreateMachine { name: "vm".into(), ..CreateMachine::default() };
    let machine = engine.create_machine(&machine)?.uuid;
    let mut disks = Vec::new();
    for bits in [9, 12, 16, 21] {
        let wish = CreateVolume {
            name: format!("bits-{bits}"),
            kind: if bits == 9 { VolumeKind::Root } else { VolumeKind::Data },
            size: Some(ByteCount::new(5_000_192)),
            cluster_bits: Some(bits),
            ..CreateVolume::default()
        };
        let disk = engine.create_volume(&wish)?.uuid;
        engine.attach_volume(disk, machine, None)?;
        disks.push(disk);
    }
    Ok((engine, machine, disks))
}

/// Four groups with writes, zeroes and discards before each, and a disk that grows.
fn work(engine: &Engine, machine: Uuid, disks: &[Uuid]) -> Outcome {
    for round in 0..4u8 {
        for disk in disks {
            let handle = engine.open_volume(*disk)?;
            let at = u64::from(round) * 700_001;
            handle.write_at(at, &vec![round + 1; 500_000])?;
            handle.write_zeroes(at / 2, 200_000)?;
            handle.discard(at / 3, 150_000)?;
        }
        if round == 2 {
            engine.resize_volume(disks[1], ByteCount::new(6_000_128))?;
        }
        engine.create_group(&CreateGroup::new(GroupOf::Machine(machine.into()), format!("g{round}")))?;
    }
    for disk in disks {
        engine.open_volume(*disk)?.write_at(123, &[0x77; 4000])?;
    }
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn every_file_passes_the_check_of_qemu() -> Outcome {
    let directory = TempDir::new()?;
    let (engine, machine, disks) = pool(&directory)?;
    work(&engine, machine, &disks)?;
    engine.close()?;
    let mut checked = 0;
    for entry in std::fs::read_dir(directory.path())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "qcow2") {
            run("qemu-img", &["check", "-f", "qcow2", text(&path)?])?;
            checked += 1;
        }
    }
    assert_eq!(checked, 4 * 5);
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn every_chain_has_relative_names_and_said_formats() -> Outcome {
    let directory = TempDir::new()?;
    let (engine, machine, disks) = pool(&directory)?;
    work(&engine, machine, &disks)?;
    for disk in disks {
        let head = engine.volume(disk)?.install_path;
        let shown = run("qemu-img", &["info", "-U", "--backing-chain", "--output=json", &head])?;
        let shown: serde_json::Value = serde_json::from_str(&shown)?;
        let shown = shown.as_array().ok_or("a list of images")?;
        let ours = engine.chain(disk)?;
        assert_eq!(shown.len(), ours.len());
        for (depth, (shown, ours)) in shown.iter().zip(&ours).enumerate() {
            assert_eq!(shown["filename"], ours.location.as_str(), "depth {depth}");
            assert_eq!(shown["virtual-size"], ours.size.as_u64());
            match ours.backing_label.as_deref() {
                None => assert!(shown["backing-filename"].is_null(), "{shown}"),
                Some(label) => {
                    assert_eq!(shown["backing-filename"], label);
                    assert!(!label.contains('/'), "{label}");
                    assert_eq!(shown["backing-filename-format"], "qcow2");
                }
            }
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn qemu_reads_every_snapshot_and_every_head_as_we_do() -> Outcome {
    let directory = TempDir::new()?;
    let (engine, machine, disks) = pool(&directory)?;
    work(&engine, machine, &disks)?;
    let snapshots = engine.query_snapshots(&Query::all())?.items;
    assert_eq!(snapshots.len(), 16);
    for snapshot in snapshots {
        let content = engine.open_snapshot(snapshot.uuid)?;
        let mut ours = vec![0xee; content.size().as_usize()];
        content.read_at(0, &mut ours)?;
        let theirs = converted(&snapshot.primary_storage_install_path, directory.path())?;
        assert!(ours == theirs, "{} differs", snapshot.name);
    }
    for disk in disks {
        let handle = engine.open_volume(disk)?;
        handle.flush()?;
        let mut ours = vec![0xee; handle.size().as_usize()];
        handle.read_at(0, &mut ours)?;
        let head = engine.volume(disk)?.install_path;
        assert!(ours == converted(&head, directory.path())?, "{head} differs");
    }
    Ok(())
}

/// `base.raw`, above it `middle.qcow2` with large clusters, above it `top.qcow2`, all made and written by QEMU.
fn qemu_chain(directory: &Path) -> Made<PathBuf> {
    let raw: Vec<u8> = (0..3_000_320u32).map(|n| n.to_be_bytes()[2] ^ 0x5a).collect();
    std::fs::write(directory.join("base.raw"), raw)?;
    let at = |name: &str| directory.join(name);
    let (middle, top) = (at("middle.qcow2"), at("top.qcow2"));
    let create = |path: &Path, options: &str, below: &str, format: &str| -> Outcome {
        run(
            "qemu-img",
            &["create", "-q", "-f", "qcow2", "-o", options, "-b", below, "-F", format, text(path)?],
        )?;
        Ok(())
    };
    create(&middle, "cluster_size=256k", "base.raw", "raw")?;
    run(
        "qemu-io",
        &["-f", "qcow2", "-c", "write -P 0x11 100k 900k", "-c", "write -z 2M 64k", text(&middle)?],
    )?;
    create(&top, "cluster_size=4k,lazy_refcounts=on", "middle.qcow2", "qcow2")?;
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 0x22 500k 33k", "-c", "discard 1M 256k", text(&top)?])?;
    Ok(top)
}

#[test]
#[ignore = "needs qemu-img"]
fn qemu_opens_a_volume_above_a_golden_image_that_lies_elsewhere() -> Outcome {
    let (directory, golden) = (TempDir::new()?, TempDir::new()?);
    let image = qemu_chain(golden.path())?;
    let files = ["base.raw", "middle.qcow2", "top.qcow2"].map(|name| golden.path().join(name));
    let before = files.each_ref().map(std::fs::read);
    let mut expected = converted(text(&image)?, directory.path())?;
    let options = Options {
        create: CreatePool::Here,
        base_directories: vec![golden.path().to_owned()],
        ..Options::default()
    };
    let engine = Engine::open(directory.path(), options)?;
    let base = BaseImage { file: text(&image)?.to_owned(), format: LayerFormat::Qcow2 };
    let wish = CreateVolume { base: Some(base), size: None, ..CreateVolume::new("v", ByteCount::ZERO) };
    let disk = engine.create_volume(&wish)?.uuid;
    let handle = engine.open_volume(disk)?;
    for round in 0..2 {
        handle.write_at(1_234_567 + round * 100_000, &[0x33; 77_777])?;
        let at = usize::try_from(1_234_567 + round * 100_000)?;
        expected[at..at + 77_777].fill(0x33);
        engine.create_snapshot(&CreateSnapshot::new(disk, format!("s{round}")))?;
    }
    // While it is read here, QEMU reads it, too, and nobody writes to it.
    let head = engine.volume(disk)?.install_path;
    assert!(converted(&head, directory.path())? == expected);
    let refused = run("qemu-io", &["-f", "qcow2", "-c", "write 0 512", text(&image)?]);
    assert!(refused.is_err_and(|error| error.to_string().contains("lock")), "it was written to");
    let shown = run("qemu-img", &["info", "-U", "--backing-chain", "--output=json", &head])?;
    let shown: serde_json::Value = serde_json::from_str(&shown)?;
    let shown = shown.as_array().ok_or("a list of images")?;
    let found: Vec<_> = shown.iter().map(|image| image["filename"].as_str().unwrap_or_default()).collect();
    let ours: Vec<_> = engine.chain(disk)?.into_iter().map(|layer| layer.location).collect();
    assert_eq!(found, ours);
    assert_eq!(shown[2]["backing-filename"], text(&image)?);
    drop(handle);
    assert!(engine.check()?.is_clean());
    engine.close()?;
    run("qemu-img", &["check", "-f", "qcow2", &head])?;
    for (file, before) in files.iter().zip(before) {
        assert!(std::fs::read(file)? == before?, "{file:?} has changed");
    }
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn a_chain_of_qemu_is_adopted_read_and_written() -> Outcome {
    let directory = TempDir::new()?;
    let top = qemu_chain(directory.path())?;
    let mut expected = converted(text(&top)?, directory.path())?;
    let below = ["base.raw", "middle.qcow2"].map(|name| directory.path().join(name));
    let [base, middle] = below.each_ref().map(std::fs::read);
    let (engine, machine, mut disks) = pool(&directory)?;
    let wish = AdoptVolume {
        file: "top.qcow2".into(),
        name: "adopted".into(),
        lower: LowerLayers::Snapshots,
        ..AdoptVolume::default()
    };
    let disk = engine.adopt_volume(&wish)?.uuid;
    engine.attach_volume(disk, machine, None)?;
    disks.push(disk);
    let handle = engine.open_volume(disk)?;
    let mut ours = vec![0xee; handle.size().as_usize()];
    handle.read_at(0, &mut ours)?;
    assert!(ours == expected);
    handle.write_at(1_234_567, &[0x33; 77_777])?;
    expected[1_234_567..1_234_567 + 77_777].fill(0x33);
    handle.write_zeroes(300_000, 200_000)?;
    expected[300_000..500_000].fill(0);
    engine.create_group(&CreateGroup::new(GroupOf::Machine(machine.into()), "g"))?;
    assert!(converted(text(&top)?, directory.path())? == expected);
    assert!(std::fs::read(&below[0])? == base? && std::fs::read(&below[1])? == middle?);
    drop(handle);
    assert!(engine.check()?.is_clean());
    engine.close()?;
    run("qemu-img", &["check", "-f", "qcow2", text(&top)?])?;
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn a_head_that_qemu_writes_is_refused_until_it_is_let_go() -> Outcome {
    let directory = TempDir::new()?;
    let (engine, machine, disks) = pool(&directory)?;
    let group = CreateGroup::new(GroupOf::Machine(machine.into()), "g");
    let head = engine.volume(disks[2])?.install_path;
    let files = || std::fs::read_dir(directory.path()).map(Iterator::count);
    let before = files()?;
    let writer = Writer::of(&head)?;
    let taken = engine.create_group(&group);
    let Err(error @ Error::HeadInUse { volume, .. }) = &taken else { panic!("{taken:?}") };
    assert_eq!((*volume, error.code().as_str(), error.kind()), (disks[2], "SYS.1006", Kind::Refused));
    let opened = engine.open_volume(disks[2]);
    let Err(Error::HeadInUse { holder, .. }) = opened else { panic!("{opened:?}") };
    assert_eq!(holder.process, Some(writer.process()));
    assert_eq!(files()?, before);
    drop(writer);
    engine.create_group(&group)?;
    assert_eq!(files()?, before + 4);
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn qemu_continues_where_we_stopped_and_we_where_it_did() -> Outcome {
    let directory = TempDir::new()?;
    let (engine, machine, disks) = pool(&directory)?;
    work(&engine, machine, &disks)?;
    let heads: Vec<String> = disks
        .iter()
        .map(|disk| engine.volume(*disk).map(|disk| disk.install_path))
        .collect::<Result<_, _>>()?;
    engine.close()?;
    let mut contents = Vec::new();
    for head in &heads {
        run("qemu-io", &["-f", "qcow2", "-c", "write -P 0x55 2M 300k", "-c", "write -z 64k 64k", head])?;
        run("qemu-img", &["check", "-f", "qcow2", head])?;
        contents.push(converted(head, directory.path())?);
    }
    let engine = Engine::open(directory.path(), Options::default())?;
    for (disk, content) in disks.iter().zip(&contents) {
        let handle = engine.open_volume(*disk)?;
        let mut ours = vec![0xee; handle.size().as_usize()];
        handle.read_at(0, &mut ours)?;
        assert!(ours == *content);
        handle.write_at(3_000_000, &[0x66; 100_000])?;
    }
    engine.create_group(&CreateGroup::new(GroupOf::Machine(machine.into()), "after"))?;
    assert!(engine.check()?.is_clean());
    Ok(())
}
