//! What opening a pool must never do: throw away what was acknowledged.

use snapgroup::storage::{
    Access, At, BlobName, Bounds, Fault, FaultKind, FileSystem, MemoryStore, Operation, SimulatedDisk,
    SimulatedStore, Store,
};
use snapgroup::units::HostOffset;
use snapgroup::{
    ByteCount, CreatePool, CreateSnapshot, CreateVolume, DeleteSnapshots, Direction, Engine, Options,
};
use std::sync::Arc;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn bytes_of(store: &MemoryStore, name: &str) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let blob = store.open(&BlobName::parse(name)?, Access::Read)?;
    let mut bytes = vec![0; blob.length()?.as_usize()];
    blob.read_at(HostOffset::ZERO, &mut bytes)?;
    Ok(bytes)
}

fn put(store: &MemoryStore, name: &str, bytes: &[u8]) -> Outcome {
    let name = BlobName::parse(name)?;
    drop(store.remove(&name));
    store.create(&name)?.write_at(HostOffset::ZERO, bytes)?;
    Ok(())
}

#[test]
fn a_copy_of_the_catalogue_beside_it_does_not_cost_the_catalogue() -> Outcome {
    let store = MemoryStore::new();
    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?;
    engine.close()?;
    // Somebody makes a copy of the catalogue, under the name that this crate uses for its mark.
    put(&store, "snapgroup.redb.new", &bytes_of(&store, "snapgroup.redb")?)?;
    // Refusing would do as well; forgetting everything does not.
    if let Ok(engine) = Engine::open_on(Arc::new(store), Options::default()) {
        assert!(engine.volume(volume.uuid).is_ok(), "everything that was acknowledged is forgotten");
    }
    Ok(())
}

#[test]
fn an_empty_mark_beside_a_catalogue_that_is_in_use_does_not_cost_it() -> Outcome {
    let store = MemoryStore::new();
    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?;
    engine.close()?;
    put(&store, "snapgroup.redb.new", b"")?;
    if let Ok(engine) = Engine::open_on(Arc::new(store), Options::default()) {
        assert!(engine.volume(volume.uuid).is_ok(), "everything that was acknowledged is forgotten");
    }
    Ok(())
}

#[test]
fn what_is_only_marked_is_not_made_into_a_pool_that_must_be_there() -> Outcome {
    let store = MemoryStore::new();
    put(&store, "snapgroup.redb.new", b"")?;
    let options = Options { create: CreatePool::Never, ..Options::default() };
    assert!(Engine::open_on(Arc::new(store), options).is_err(), "CreatePool::Never has made a pool");
    Ok(())
}

#[test]
fn no_file_that_a_guest_has_written_is_removed() -> Outcome {
    let store = MemoryStore::new();
    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?.uuid;
    engine.close()?;
    let older = bytes_of(&store, "snapgroup.redb")?;

    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    engine.create_snapshot(&CreateSnapshot::new(volume, "monday"))?;
    let disk = engine.open_volume(volume)?;
    disk.write_at(0, b"a year of work")?;
    disk.flush()?;
    drop(disk);
    let head = engine.chain(volume)?.remove(0).file;
    engine.close()?;

    // The catalogue comes back from a backup, the disks do not.
    put(&store, "snapgroup.redb", &older)?;
    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    assert!(engine.recovered().removed.is_empty(), "removed: {:?}", engine.recovered().removed);
    assert!(bytes_of(&store, &head).is_ok());
    Ok(())
}

#[test]
fn a_catalogue_beside_a_mark_that_cannot_be_read_just_now_is_not_removed() -> Outcome {
    let memory = MemoryStore::new();
    let engine = Engine::open_on(Arc::new(memory.clone()), Options::default())?;
    let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?;
    engine.close()?;
    put(&memory, "snapgroup.redb.new", b"")?;
    let disk = SimulatedStore::new(Arc::new(memory.clone()));
    disk.fail(Fault::once(At::CallOf(Operation::Read, 1), FaultKind::EIO));
    drop(Engine::open_on(Arc::new(disk), Options::default()));
    let engine = Engine::open_on(Arc::new(memory), Options::default())?;
    assert!(engine.volume(volume.uuid).is_ok(), "one failed read has cost the catalogue");
    Ok(())
}

#[test]
fn a_copy_of_the_catalogue_is_not_removed_as_a_mark() -> Outcome {
    let store = MemoryStore::new();
    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?;
    engine.close()?;
    let copy = bytes_of(&store, "snapgroup.redb")?;
    put(&store, "snapgroup.redb.new", &copy)?;
    drop(Engine::open_on(Arc::new(store.clone()), Options::default()));
    assert!(bytes_of(&store, "snapgroup.redb.new").is_ok_and(|left| left == copy), "a backup was removed");
    Ok(())
}

#[test]
fn a_file_whose_header_never_arrived_is_removed() -> Outcome {
    let disk = SimulatedDisk::new(FileSystem::Strict);
    let engine = Engine::open_on(Arc::new(disk.clone()), Options::default())?;
    let from = disk.position();
    engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?;
    let bounds = Bounds { exhaustive_bits: 6, pairs_max: 0, samples: 8, seed: 1 };
    let mut removed = 0;
    for state in disk.log().cuts(from).flat_map(|(_, cut)| cut.states(bounds)) {
        let engine = Engine::open_on(Arc::new(state.store()), Options::default())?;
        assert!(engine.recovered().left_alone.is_empty(), "{:?}: {:?}", state.choice(), engine.recovered());
        removed += engine.recovered().removed.len();
    }
    assert!(removed > 10, "no file was ever left");
    Ok(())
}

#[test]
fn a_large_file_without_a_header_is_nobodys_remainder() -> Outcome {
    let store = MemoryStore::new();
    Engine::open_on(Arc::new(store.clone()), Options::default())?.close()?;
    let name = "layer-00112233445566778899aabbccddeeff.qcow2";
    let mut bytes = vec![0; 300_000];
    bytes[512..].fill(7);
    put(&store, name, &bytes)?;
    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    assert_eq!(engine.recovered().left_alone, [name]);
    assert_eq!(bytes_of(&store, name)?, bytes);
    Ok(())
}

#[test]
fn a_disk_whose_header_was_left_half_way_opens() -> Outcome {
    let mut nth = 0;
    loop {
        nth += 1;
        let disk = SimulatedStore::new(Arc::new(MemoryStore::new()));
        let engine = Engine::open_on(Arc::new(disk.clone()), Options::default())?;
        let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?.uuid;
        engine.open_volume(volume)?.write_at(0, &[1; 512])?;
        let snapshot = engine.create_snapshot(&CreateSnapshot::new(volume, "monday"))?.uuid;
        let before = disk.counts().of(Operation::Write);
        disk.fail(Fault::once(At::CallOf(Operation::Write, nth), FaultKind::EIO));
        let wish = DeleteSnapshots { direction: Direction::Pull, ..DeleteSnapshots::one(snapshot) };
        // What it says is not what this is about.
        drop(engine.delete_snapshots(&wish));
        let writes = disk.counts().of(Operation::Write) - before;
        disk.heal();
        if let Ok(handle) = engine.open_volume(volume) {
            let mut found = [0; 512];
            handle.read_at(0, &mut found)?;
            assert_eq!(found, [1; 512], "write {nth} failed");
        }
        if writes < nth {
            return Ok(());
        }
    }
}
