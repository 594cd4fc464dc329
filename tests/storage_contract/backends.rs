//! One fresh store of each kind.

use snapgroup::storage::{
    Access, Blob, BlobName, FileSystem, FusedStore, Hold, Holder, Identity, MemoryStore, Owned,
    Result as Stored, SimulatedDisk, SimulatedStore, Store,
};
use snapgroup::units::{ByteCount, HostOffset};
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

#[derive(Debug)]
struct PlainStore(MemoryStore);

#[derive(Debug)]
struct PlainBlob(Arc<dyn Blob>);

impl Store for PlainStore {
    fn create(&self, name: &BlobName) -> Stored<Arc<dyn Blob>> {
        Ok(Arc::new(PlainBlob(self.0.create(name)?)))
    }

    fn open(&self, name: &BlobName, access: Access) -> Stored<Arc<dyn Blob>> {
        Ok(Arc::new(PlainBlob(self.0.open(name, access)?)))
    }

    fn remove(&self, name: &BlobName) -> Stored<()> {
        self.0.remove(name)
    }

    fn list(&self) -> Stored<Vec<BlobName>> {
        self.0.list()
    }

    fn sync_names(&self) -> Stored<()> {
        self.0.sync_names()
    }

    fn lock(&self) -> Stored<Box<dyn Owned>> {
        self.0.lock()
    }

    fn location(&self, name: &BlobName) -> String {
        self.0.location(name)
    }
}

impl Blob for PlainBlob {
    fn length(&self) -> Stored<ByteCount> {
        self.0.length()
    }

    fn read_at(&self, at: HostOffset, buffer: &mut [u8]) -> Stored<()> {
        self.0.read_at(at, buffer)
    }

    fn write_at(&self, at: HostOffset, bytes: &[u8]) -> Stored<()> {
        self.0.write_at(at, bytes)
    }

    fn set_length(&self, length: ByteCount) -> Stored<()> {
        self.0.set_length(length)
    }

    fn punch(&self, at: HostOffset, length: ByteCount) -> Stored<()> {
        self.0.punch(at, length)
    }

    fn sync(&self) -> Stored<()> {
        self.0.sync()
    }

    fn allocated(&self) -> Stored<ByteCount> {
        self.0.allocated()
    }

    fn identity(&self) -> Identity {
        self.0.identity()
    }

    fn writer_elsewhere(&self) -> Stored<Option<Holder>> {
        self.0.writer_elsewhere()
    }

    fn hold(&self, hold: Hold) -> Stored<()> {
        self.0.hold(hold)
    }
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
