//! Pools that lose their catalogue.

use snapgroup::format::{LayerIdentity, LayerNotes};
use snapgroup::storage::{Access, BlobName, MemoryStore, Store};
use snapgroup::units::HostOffset;
use snapgroup::{
    ByteCount, Clock, CreateGroup, CreateMachine, CreateVolume, Engine, Ids, Options, RebuildOptions,
    Rebuilt, Uuid,
};
use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::sync::Arc;

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn StdError>>;

pub(crate) const CATALOGUE: &str = "snapgroup.redb";

/// Uuids that no history and no other pool with another seed has.
pub(crate) fn options(seed: u64) -> Options {
    let (clock, ids) = (Clock::Stepping(0), Ids::Seeded(seed));
    Options { chain_max: 200, clock, ids, ..Options::default() }
}

pub(crate) fn name(text: &str) -> BlobName {
    BlobName::parse(text).expect("one component")
}

pub(crate) fn bytes_of(store: &dyn Store, file: &BlobName) -> Outcome<Vec<u8>> {
    let blob = store.open(file, Access::Read)?;
    let mut bytes = vec![0; blob.length()?.as_usize()];
    blob.read_at(HostOffset::ZERO, &mut bytes)?;
    Ok(bytes)
}

/// Every file but the catalogue.
pub(crate) fn files(store: &dyn Store) -> Outcome<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for file in store.list()?.iter().filter(|file| !file.as_str().starts_with("snapgroup.")) {
        files.insert(file.to_string(), bytes_of(store, file)?);
    }
    Ok(files)
}

pub(crate) fn copy(from: &dyn Store, file: &str, to: &dyn Store, under: &str) -> Outcome {
    Ok(to.create(&name(under))?.write_at(HostOffset::ZERO, &bytes_of(from, &name(file))?)?)
}

/// Where our extension begins in the header of a file, and its payload.
pub(crate) fn extension(store: &dyn Store, file: &str) -> Outcome<(HostOffset, Vec<u8>)> {
    let bytes = bytes_of(store, &name(file))?;
    let at = bytes.windows(4).position(|word| word == b"SNAP").ok_or("it has our extension")?;
    let length = bytes[at + 4..at + 8].try_into().map(u32::from_be_bytes)?;
    let payload = bytes[at + 8..at + 8 + usize::try_from(length)?].to_vec();
    Ok((HostOffset::new(at as u64 + 8), payload))
}

/// Has a file say something else, of the same length.
pub(crate) fn tell(store: &dyn Store, file: &str, change: impl FnOnce(&mut LayerNotes)) -> Outcome {
    let (at, payload) = extension(store, file)?;
    let identity = LayerIdentity::parse(&payload)?;
    let mut notes = LayerNotes::parse(&payload).ok_or("it has notes")?;
    change(&mut notes);
    let changed = notes.encode(&identity, payload.len());
    assert_eq!(changed.len(), payload.len());
    Ok(store.open(&name(file), Access::Write)?.write_at(at, &changed)?)
}

/// Makes the catalogue anew; no other file changes.
pub(crate) fn rebuild(store: &dyn Store) -> Outcome<Rebuilt> {
    let before = files(store)?;
    let rebuilt = Engine::rebuild_on(store, &options(900), &RebuildOptions::default())?;
    assert!(before == files(store)?, "a rebuild has written to the files");
    Ok(rebuilt)
}

/// Loses the catalogue and makes it anew.
pub(crate) fn lose_and_rebuild(store: &dyn Store) -> Outcome<Rebuilt> {
    store.remove(&name(CATALOGUE))?;
    rebuild(store)
}

pub(crate) fn open(store: &MemoryStore) -> Outcome<Engine> {
    Ok(Engine::open_on(Arc::new(store.clone()), options(901))?)
}

pub(crate) fn content_of_snapshot(engine: &Engine, uuid: Uuid) -> Outcome<Vec<u8>> {
    let snapshot = engine.open_snapshot(uuid)?;
    let mut bytes = vec![0xee; snapshot.size().as_usize()];
    snapshot.read_at(0, &mut bytes)?;
    Ok(bytes)
}

pub(crate) fn content_of_volume(engine: &Engine, uuid: Uuid) -> Outcome<Vec<u8>> {
    let volume = engine.open_volume(uuid)?;
    let mut bytes = vec![0xee; volume.size().as_usize()];
    volume.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// A machine with two disks, one group of them, and something written before and since.
pub(crate) struct World {
    pub(crate) store: MemoryStore,
    pub(crate) engine: Engine,
    pub(crate) machine: Uuid,
    pub(crate) volumes: [Uuid; 2],
    pub(crate) group: Uuid,
}

pub(crate) fn world(seed: u64) -> Outcome<World> {
    let store = MemoryStore::new();
    let engine = Engine::open_on(Arc::new(store.clone()), options(seed))?;
    let machine = engine.create_machine(&CreateMachine::new("web-1"))?.uuid;
    let root = engine.create_volume(&CreateVolume::new("system", ByteCount::mib(1)).as_root())?.uuid;
    let data = engine.create_volume(&CreateVolume::new("data", ByteCount::mib(2)))?.uuid;
    for volume in [root, data] {
        engine.attach_volume(volume, machine, None)?;
        engine.open_volume(volume)?.write_at(0, b"before")?;
    }
    let group = engine.create_group(&CreateGroup::of_machine(machine, "nightly"))?.inventory.uuid;
    for volume in [root, data] {
        let volume = engine.open_volume(volume)?;
        volume.write_at(0, b"after!")?;
        volume.flush()?;
    }
    Ok(World { store, engine, machine, volumes: [root, data], group })
}
