//! A fuse: after a failed sync nothing more is written (invariant 6 of the crate).
//!
//! A failed sync says that something was lost, not what; on the usual file systems the next one says that all is
//! well, and reads show bytes that are not on the disk. So the first failure ends all writing through this
//! store. The way on is to open the store anew and to believe only what was durable before.
//!
//! * **F1** Once a sync failed, every later change through the store or any of its blobs is refused with
//!   [`Error::Poisoned`] and does not reach the store below.
//! * **F2** Syncs of one blob through one handle, and syncs of names, come one after another: the system tells of a
//!   failure once, and a second sync under way at the same time would be told that all is well.
//! * **F3** Reads, lists and opens go on.

use super::{Access, Blob, BlobName, Error, Hold, Holder, Identity, Owned, Result, Stamp, Store};
use crate::units::{ByteCount, HostOffset};
use parking_lot::Mutex;
use std::any::Any;
use std::error::Error as _;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// A store that refuses every change after a failed sync.
///
/// Clones share the fuse.
///
/// ```
/// use snapgroup::storage::{At, BlobName, Error, Fault, FaultKind, FusedStore, MemoryStore, Operation};
/// use snapgroup::storage::{SimulatedStore, Store};
/// use snapgroup::units::HostOffset;
/// use std::sync::Arc;
///
/// let disk = SimulatedStore::new(Arc::new(MemoryStore::new()));
/// let store = FusedStore::new(Arc::new(disk.clone()));
/// let blob = store.create(&BlobName::parse("disk-0")?)?;
///
/// disk.fail(Fault::once(At::CallOf(Operation::Sync, 1), FaultKind::EIO));
/// assert!(blob.sync().is_err());
///
/// let Err(Error::Poisoned { .. }) = blob.write_at(HostOffset::ZERO, b"late") else {
///     panic!("written after a failed sync")
/// };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Another example is at [`Fault`](crate::storage::Fault).
#[derive(Clone, Debug)]
pub struct FusedStore {
    inner: Arc<dyn Store>,
    fuse: Arc<Fuse>,
    /// Held during a sync of the names (F2).
    syncing: Arc<Mutex<()>>,
}

/// Blown once, for ever.
#[derive(Debug, Default)]
struct Fuse {
    cause: OnceLock<String>,
}

impl Fuse {
    /// Runs a change, unless the fuse is blown; blows it when the change turns out to be a failed sync (F1).
    fn guard<T>(&self, change: impl FnOnce() -> Result<T>) -> Result<T> {
        if let Some(cause) = self.cause.get() {
            return Err(Error::Poisoned { cause: cause.clone() });
        }
        change().inspect_err(|error| {
            if let Error::SyncFailed { .. } = error {
                // When two fail at once, the first to get here is the cause; both are told of their own.
                let _ = self.cause.set(describe(error));
            }
        })
    }
}

/// The message of an error and of what the system said.
fn describe(error: &Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

impl FusedStore {
    /// Puts a fuse before a store.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, fuse: Arc::default(), syncing: Arc::default() }
    }

    /// The message of the sync that failed, or `None` as long as none has.
    #[must_use]
    pub fn poisoned(&self) -> Option<String> {
        self.fuse.cause.get().cloned()
    }

    /// Puts the same fuse before a blob.
    fn fused(&self, inner: Arc<dyn Blob>) -> Arc<dyn Blob> {
        Arc::new(FusedBlob { inner, fuse: Arc::clone(&self.fuse), syncing: Mutex::new(()) })
    }
}

impl Store for FusedStore {
    fn create(&self, name: &BlobName) -> Result<Arc<dyn Blob>> {
        self.fuse.guard(|| self.inner.create(name)).map(|blob| self.fused(blob))
    }

    fn open(&self, name: &BlobName, access: Access) -> Result<Arc<dyn Blob>> {
        self.inner.open(name, access).map(|blob| self.fused(blob))
    }

    fn remove(&self, name: &BlobName) -> Result<()> {
        self.fuse.guard(|| self.inner.remove(name))
    }

    fn list(&self) -> Result<Vec<BlobName>> {
        self.inner.list()
    }

    fn sync_names(&self) -> Result<()> {
        let _alone = self.syncing.lock();
        self.fuse.guard(|| self.inner.sync_names())
    }

    fn lock(&self) -> Result<Box<dyn Owned>> {
        self.inner.lock()
    }

    fn location(&self, name: &BlobName) -> String {
        self.inner.location(name)
    }

    fn name_of(&self, path: &str) -> Option<BlobName> {
        self.inner.name_of(path)
    }
}

/// Puts a fuse of its own before a blob that belongs to no store.
#[cfg(target_os = "linux")]
pub(super) fn fused_alone(inner: Arc<dyn Blob>) -> Arc<dyn Blob> {
    Arc::new(FusedBlob { inner, fuse: Arc::default(), syncing: Mutex::new(()) })
}

/// A blob behind the fuse of its store.
#[derive(Debug)]
struct FusedBlob {
    inner: Arc<dyn Blob>,
    fuse: Arc<Fuse>,
    /// Held during a sync (F2).
    syncing: Mutex<()>,
}

impl Blob for FusedBlob {
    fn length(&self) -> Result<ByteCount> {
        self.inner.length()
    }

    fn read_at(&self, at: HostOffset, buffer: &mut [u8]) -> Result<()> {
        self.inner.read_at(at, buffer)
    }

    fn write_at(&self, at: HostOffset, bytes: &[u8]) -> Result<()> {
        self.fuse.guard(|| self.inner.write_at(at, bytes))
    }

    fn copy_from(
        &self,
        at: HostOffset,
        source: &dyn Blob,
        from: HostOffset,
        length: ByteCount,
    ) -> Result<()> {
        self.fuse.guard(|| self.inner.copy_from(at, source, from, length))
    }

    fn next_data(&self, from: HostOffset) -> Result<Option<Range<HostOffset>>> {
        self.inner.next_data(from)
    }

    fn innermost(&self) -> Option<&dyn Any> {
        self.inner.innermost()
    }

    fn set_length(&self, length: ByteCount) -> Result<()> {
        self.fuse.guard(|| self.inner.set_length(length))
    }

    fn punch(&self, at: HostOffset, length: ByteCount) -> Result<()> {
        self.fuse.guard(|| self.inner.punch(at, length))
    }

    fn sync_soon(&self) {
        self.inner.sync_soon();
    }

    fn write_back_soon(&self, at: HostOffset, length: ByteCount) {
        self.inner.write_back_soon(at, length);
    }

    fn sync(&self) -> Result<()> {
        let _alone = self.syncing.lock();
        self.fuse.guard(|| self.inner.sync())
    }

    fn allocated(&self) -> Result<ByteCount> {
        self.inner.allocated()
    }

    fn stamp(&self) -> Result<Option<Stamp>> {
        self.inner.stamp()
    }

    fn identity(&self) -> Identity {
        self.inner.identity()
    }

    fn links(&self) -> Result<u64> {
        self.inner.links()
    }

    fn writer_elsewhere(&self) -> Result<Option<Holder>> {
        self.inner.writer_elsewhere()
    }

    fn hold(&self, hold: Hold) -> Result<()> {
        self.inner.hold(hold)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::super::{At, Fault, FaultKind, MemoryStore, Operation, SimulatedStore};
    use super::*;

    #[test]
    fn a_blob_of_no_store_has_a_fuse_of_its_own() -> Result<()> {
        let disk = SimulatedStore::new(Arc::new(MemoryStore::new()));
        let names = ["one", "other"].map(|name| BlobName::parse(name).expect("one component"));
        let [one, other] = [fused_alone(disk.create(&names[0])?), fused_alone(disk.create(&names[1])?)];
        disk.fail(Fault::once(At::CallOf(Operation::Sync, 1), FaultKind::EIO));
        assert!(one.sync().is_err());
        let again = one.sync();
        let Err(Error::Poisoned { .. }) = again else { panic!("a second sync says: {again:?}") };
        other.sync()
    }
}
