//! Pools on disk beside files of QEMU, and what is read of them.

use snapgroup::{CreatePool, Engine, Options, Uuid};
use std::error::Error;
use std::path::Path;

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Opens the pool in a directory, or makes one beside what is there.
pub(crate) fn open(directory: &Path) -> Outcome<Engine> {
    Ok(Engine::open(directory, Options { create: CreatePool::Here, ..Options::default() })?)
}

/// All that a volume shows.
pub(crate) fn volume_bytes(engine: &Engine, volume: Uuid) -> Outcome<Vec<u8>> {
    let handle = engine.open_volume(volume)?;
    let mut bytes = vec![0xee; handle.size().as_usize()];
    handle.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// All that a snapshot shows.
pub(crate) fn snapshot_bytes(engine: &Engine, snapshot: Uuid) -> Outcome<Vec<u8>> {
    let handle = engine.open_snapshot(snapshot)?;
    let mut bytes = vec![0xee; handle.size().as_usize()];
    handle.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// The name of the file that a volume writes to.
pub(crate) fn head_of(engine: &Engine, volume: Uuid) -> Outcome<String> {
    Ok(file_of(&engine.volume(volume)?.install_path))
}

/// The name of the file that holds a snapshot.
pub(crate) fn layer_of(engine: &Engine, snapshot: Uuid) -> Outcome<String> {
    Ok(file_of(&engine.snapshot(snapshot)?.primary_storage_install_path))
}

fn file_of(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}
