//! A store that measures how much its images hold at the instants at which that can be the most: before a file is
//! removed.

use crate::pool::{Made, room};
use snapgroup::ByteCount;
use snapgroup::storage::{Access, Blob, BlobName, MemoryStore, Owned, Result, Store};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug)]
pub(crate) struct Watched {
    store: MemoryStore,
    most: AtomicU64,
}

impl Watched {
    pub(crate) fn of(store: &MemoryStore) -> Made<Arc<Self>> {
        let most = AtomicU64::new(room(store)?.as_u64());
        Ok(Arc::new(Self { store: store.clone(), most }))
    }

    /// The most bytes of clusters that there were.
    pub(crate) fn most(&self) -> Made<ByteCount> {
        self.measure()?;
        Ok(ByteCount::new(self.most.load(Ordering::Relaxed)))
    }

    fn measure(&self) -> Made<()> {
        self.most.fetch_max(room(&self.store)?.as_u64(), Ordering::Relaxed);
        Ok(())
    }
}

impl Store for Watched {
    fn create(&self, name: &BlobName) -> Result<Arc<dyn Blob>> {
        self.store.create(name)
    }
    fn open(&self, name: &BlobName, access: Access) -> Result<Arc<dyn Blob>> {
        self.store.open(name, access)
    }
    fn remove(&self, name: &BlobName) -> Result<()> {
        self.measure().expect("every image can be looked at before one is removed");
        self.store.remove(name)
    }
    fn list(&self) -> Result<Vec<BlobName>> {
        self.store.list()
    }
    fn sync_names(&self) -> Result<()> {
        self.store.sync_names()
    }
    fn lock(&self) -> Result<Box<dyn Owned>> {
        self.store.lock()
    }
    fn location(&self, name: &BlobName) -> String {
        self.store.location(name)
    }
}
