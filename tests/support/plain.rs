//! A store in memory whose blobs do only what each blob must: they know no stamps, and find no data by themselves.

use snapgroup::storage::{
    Access, Blob, BlobName, Hold, Holder, Identity, MemoryStore, Owned, Result as Stored, Store,
};
use snapgroup::units::{ByteCount, HostOffset};
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct PlainStore(pub(crate) MemoryStore);

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
