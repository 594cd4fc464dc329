//! Files that are not what the catalogue says, under a disk that is open and under one that is not.

use snapgroup::storage::{Access, BlobName, MemoryStore, Store};
use snapgroup::units::HostOffset;
use snapgroup::{ByteCount, CreateGroup, CreateMachine, CreateVolume, Engine, Kind, Options, Uuid, Volume};
use std::sync::Arc;

type Outcome = Result<(), Box<dyn std::error::Error>>;

struct World {
    store: MemoryStore,
    engine: Engine,
    machine: Uuid,
    volume: Uuid,
    disk: Volume,
}

/// A machine whose one disk has a head above a snapshot, and is open.
fn world() -> Result<World, Box<dyn std::error::Error>> {
    let store = MemoryStore::new();
    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    let machine = engine.create_machine(&CreateMachine::new("web-1"))?.uuid;
    let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)).as_root())?.uuid;
    engine.attach_volume(volume, machine, None)?;
    let disk = engine.open_volume(volume)?;
    disk.write_at(0, b"before")?;
    engine.create_group(&CreateGroup::of_machine(machine, "first"))?;
    disk.write_at(0, b"after")?;
    disk.flush()?;
    Ok(World { store, engine, machine, volume, disk })
}

#[test]
fn a_group_of_an_open_disk_whose_backing_file_is_gone_is_refused() -> Outcome {
    let world = world()?;
    let base = world.engine.chain(world.volume)?[1].file.clone();
    world.store.remove(&BlobName::parse(&base)?)?;
    let taken = world.engine.create_group(&CreateGroup::of_machine(world.machine, "second"));
    assert!(taken.is_err(), "the group is acknowledged, and nobody can read it once the pool was closed");
    drop(world.disk);
    Ok(())
}

#[test]
fn a_group_of_an_open_disk_whose_header_names_another_backing_file_is_refused() -> Outcome {
    let world = world()?;
    let head = BlobName::parse(&world.engine.chain(world.volume)?[0].file)?;
    // As `qemu-img rebase -u -b ''` does: no backing file any more.
    world.store.open(&head, Access::Write)?.write_at(HostOffset::new(8), &[0; 12])?;
    assert!(!world.engine.check()?.is_sound(), "the check compares every file with its record");
    let taken = world.engine.create_group(&CreateGroup::of_machine(world.machine, "second"));
    assert!(taken.is_err(), "the group is acknowledged, and nobody can read it once the pool was closed");
    drop(world.disk);
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn a_head_that_became_a_link_or_a_directory_is_named_with_its_volume() -> Outcome {
    for replace in [
        |path: &std::path::Path| std::os::unix::fs::symlink("elsewhere", path),
        |path: &std::path::Path| std::fs::create_dir(path),
    ] {
        let directory = tempfile::tempdir()?;
        let engine = Engine::open(directory.path(), Options::default())?;
        let machine = engine.create_machine(&CreateMachine::new("web-1"))?.uuid;
        let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?.uuid;
        engine.attach_volume(volume, machine, None)?;
        let head = directory.path().join(&engine.chain(volume)?[0].file);
        std::fs::rename(&head, directory.path().join("elsewhere"))?;
        replace(&head)?;
        let Err(error) = engine.create_group(&CreateGroup::of_machine(machine, "group")) else {
            panic!("a link was followed")
        };
        let told = (error.code().as_str(), error.kind(), error.to_string());
        assert_eq!((told.0, told.1), ("SYS.1006", Kind::Corrupt), "{}", told.2);
        assert!(told.2.contains(&volume.simple().to_string()), "the volume is not named: {}", told.2);
    }
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn a_chain_of_more_layers_than_descriptors_is_read_and_loses_its_middle() -> Outcome {
    use snapgroup::storage::{DiskOptions, DiskStore};
    use snapgroup::{CreateSnapshot, DeleteSnapshots, Direction, ReclaimOptions};
    const LAYERS: u8 = 60;
    let home = tempfile::tempdir()?;
    let path = home.path().canonicalize()?;
    let open = || {
        let store = DiskStore::open_with(&path, DiskOptions::new().with_descriptors_max(8))?;
        Ok::<_, Box<dyn std::error::Error>>(Engine::open_on(Arc::new(store), Options::default())?)
    };
    let descriptors = || -> Result<usize, Box<dyn std::error::Error>> {
        let targets = std::fs::read_dir("/proc/self/fd")?
            .map(|descriptor| Ok(std::fs::read_link(descriptor?.path()).unwrap_or_default()));
        let targets: std::io::Result<Vec<_>> = targets.collect();
        Ok(targets?.iter().filter(|target| target.parent() == Some(&path)).count())
    };
    let engine = open()?;
    let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(8)))?.uuid;
    let disk = engine.open_volume(volume)?;
    let mut snapshots = Vec::new();
    for layer in 0..LAYERS {
        disk.write_at(u64::from(layer) * 65536, &[layer + 1; 512])?;
        snapshots.push(engine.create_snapshot(&CreateSnapshot::new(volume, "s"))?.uuid);
    }
    drop(disk);
    engine.close()?;

    let engine = open()?;
    let disk = engine.open_volume(volume)?;
    let reads_right = |disk: &Volume| -> Outcome {
        for layer in (0..LAYERS).rev() {
            let mut bytes = [0; 512];
            disk.read_at(u64::from(layer) * 65536, &mut bytes)?;
            assert_eq!(bytes, [layer + 1; 512]);
        }
        Ok(())
    };
    reads_right(&disk)?;
    // The head, the catalogue and the lock of the store stay open beside them.
    assert!(descriptors()? <= 8 + 3, "{} are open", descriptors()?);
    for middle in [30, 31, 7] {
        assert!(engine.delete_snapshots(&DeleteSnapshots::one(snapshots[middle]))?.is_success());
    }
    let (_, owed) = engine.reclaim(&ReclaimOptions::towards(Direction::Commit))?.finish()?;
    assert_eq!(owed, []);
    reads_right(&disk)?;
    drop(disk);
    assert!(engine.check()?.is_sound());
    Ok(())
}
