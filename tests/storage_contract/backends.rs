//! One fresh store of each kind.

use crate::plain::PlainStore;
use snapgroup::storage::{FileSystem, FusedStore, MemoryStore, SimulatedDisk, SimulatedStore, Store};
use std::error::Error;
use std::sync::Arc;
use tempfile::TempDir;

/// A fresh store, and the directory that goes with it.
pub(crate) struct Backend {
    pub(crate) store: Arc<dyn Store>,
    _directory: Option<TempDir>,
}

type Made = Result<Backend, Box<dyn Error>>;

/// A store that leaves nothing behind.
fn gone_with_the_process(store: impl Store + 'static) -> Made {
    Ok(Backend { store: Arc::new(store), _directory: None })
}

pub(crate) fn in_memory() -> Made {
    gone_with_the_process(MemoryStore::new())
}

pub(crate) fn simulated_over_memory() -> Made {
    gone_with_the_process(SimulatedStore::new(Arc::new(MemoryStore::new())))
}

pub(crate) fn simulated_disk() -> Made {
    gone_with_the_process(SimulatedDisk::new(FileSystem::Strict))
}

pub(crate) fn simulated_over_simulated_disk() -> Made {
    gone_with_the_process(SimulatedStore::on_disk(&SimulatedDisk::new(FileSystem::Ext4Like)))
}

pub(crate) fn fused_over_memory() -> Made {
    gone_with_the_process(FusedStore::new(Arc::new(MemoryStore::new())))
}

/// A store whose blobs do only what each blob must, so that what is provided is what is tested.
pub(crate) fn plain_over_memory() -> Made {
    gone_with_the_process(PlainStore(MemoryStore::new()))
}

#[cfg(target_os = "linux")]
pub(crate) use on_linux::{fused_over_disk, on_disk, on_disk_mapped, on_disk_through_one_descriptor};

#[cfg(target_os = "linux")]
mod on_linux {
    use super::{Backend, Made};
    use snapgroup::storage::{DiskOptions, DiskStore, FusedStore, MapFrozen};
    use std::sync::Arc;
    use tempfile::TempDir;

    fn disk(options: DiskOptions) -> Result<(DiskStore, TempDir), Box<dyn std::error::Error>> {
        let directory = TempDir::new()?;
        Ok((DiskStore::open_with(directory.path(), options)?, directory))
    }

    pub(crate) fn on_disk() -> Made {
        let (store, directory) = disk(DiskOptions::new())?;
        Ok(Backend { store: Arc::new(store), _directory: Some(directory) })
    }

    pub(crate) fn on_disk_mapped() -> Made {
        let (store, directory) = disk(DiskOptions::new().with_map_frozen(MapFrozen::Yes))?;
        Ok(Backend { store: Arc::new(store), _directory: Some(directory) })
    }

    pub(crate) fn on_disk_through_one_descriptor() -> Made {
        let (store, directory) = disk(DiskOptions::new().with_descriptors_max(1))?;
        Ok(Backend { store: Arc::new(store), _directory: Some(directory) })
    }

    pub(crate) fn fused_over_disk() -> Made {
        let (store, directory) = disk(DiskOptions::new())?;
        Ok(Backend { store: Arc::new(FusedStore::new(Arc::new(store))), _directory: Some(directory) })
    }
}
