//! A store in memory whose calls on the files of layers are places where another thread may go on.

use crate::explore::pause;
use snapgroup::storage::{
    Access, Blob, BlobName, Hold, Holder, Identity, MemoryStore, Owned, Result, Stamp, Store,
};
use snapgroup::units::{ByteCount, HostOffset};
use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct PausingStore(pub(crate) MemoryStore);

#[derive(Debug)]
struct PausingBlob(Arc<dyn Blob>);

fn is_of_a_layer(name: &BlobName) -> bool {
    !name.as_str().starts_with("snapgroup")
}

fn wrapped(name: &BlobName, blob: Arc<dyn Blob>) -> Arc<dyn Blob> {
    if is_of_a_layer(name) { Arc::new(PausingBlob(blob)) } else { blob }
}

fn pause_at(name: &BlobName) {
    if is_of_a_layer(name) {
        pause();
    }
}

impl Store for PausingStore {
    fn create(&self, name: &BlobName) -> Result<Arc<dyn Blob>> {
        pause_at(name);
        Ok(wrapped(name, self.0.create(name)?))
    }

    fn open(&self, name: &BlobName, access: Access) -> Result<Arc<dyn Blob>> {
        pause_at(name);
        Ok(wrapped(name, self.0.open(name, access)?))
    }

    fn remove(&self, name: &BlobName) -> Result<()> {
        pause_at(name);
        self.0.remove(name)
    }

    fn list(&self) -> Result<Vec<BlobName>> {
        self.0.list()
    }

    fn sync_names(&self) -> Result<()> {
        self.0.sync_names()
    }

    fn lock(&self) -> Result<Box<dyn Owned>> {
        self.0.lock()
    }

    fn location(&self, name: &BlobName) -> String {
        self.0.location(name)
    }
}

impl Blob for PausingBlob {
    fn length(&self) -> Result<ByteCount> {
        self.0.length()
    }

    fn read_at(&self, at: HostOffset, buffer: &mut [u8]) -> Result<()> {
        pause();
        self.0.read_at(at, buffer)
    }

    fn write_at(&self, at: HostOffset, bytes: &[u8]) -> Result<()> {
        pause();
        self.0.write_at(at, bytes)
    }

    fn copy_from(
        &self,
        at: HostOffset,
        source: &dyn Blob,
        from: HostOffset,
        length: ByteCount,
    ) -> Result<()> {
        pause();
        self.0.copy_from(at, source, from, length)
    }

    fn next_data(&self, from: HostOffset) -> Result<Option<Range<HostOffset>>> {
        self.0.next_data(from)
    }

    fn innermost(&self) -> Option<&dyn Any> {
        self.0.innermost()
    }

    fn set_length(&self, length: ByteCount) -> Result<()> {
        pause();
        self.0.set_length(length)
    }

    fn punch(&self, at: HostOffset, length: ByteCount) -> Result<()> {
        pause();
        self.0.punch(at, length)
    }

    fn sync(&self) -> Result<()> {
        self.0.sync()
    }

    fn allocated(&self) -> Result<ByteCount> {
        self.0.allocated()
    }

    fn stamp(&self) -> Result<Option<Stamp>> {
        self.0.stamp()
    }

    fn identity(&self) -> Identity {
        self.0.identity()
    }

    fn writer_elsewhere(&self) -> Result<Option<Holder>> {
        self.0.writer_elsewhere()
    }

    fn hold(&self, hold: Hold) -> Result<()> {
        self.0.hold(hold)
    }
}
