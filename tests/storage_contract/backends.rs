//! One fresh store of each kind.

use snapgroup::storage::{FusedStore, MemoryStore, SimulatedStore, Store};
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

pub(crate) fn fused_over_memory() -> Made {
    gone_with_the_process(FusedStore::new(Arc::new(MemoryStore::new())))
}

#[cfg(target_os = "linux")]
pub(crate) use on_linux::{fused_over_disk, on_disk, on_disk_mapped};

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

    pub(crate) fn fused_over_disk() -> Made {
        let (store, directory) = disk(DiskOptions::new())?;
        Ok(Backend { store: Arc::new(FusedStore::new(Arc::new(store))), _directory: Some(directory) })
    }
}
