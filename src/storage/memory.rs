//! A store in memory: nothing survives the process, everything else is as on disk.
//!
//! Blobs are sparse (see `storage::sparse`), so a length of a tebibyte costs nothing. [`MemoryStore::fork`] copies a
//! whole store for the price of its tables: a crash test takes one at every step and breaks it at leisure.
//!
//! Lock order: the table of names, then the bytes of one blob. No call holds two blobs.

use super::sparse::{self, LENGTH_MAX, Sparse};
use super::{
    Access, Blob, BlobName, Error, Hold, Holder, Identity, Operation, Owned, Result, Stamp, Store, copy,
};
use crate::units::{ByteCount, HostOffset};
use parking_lot::RwLock;
use std::any::Any;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A store in memory. Clones are the same store; [`MemoryStore::fork`] makes another one.
///
/// A sync does nothing and always succeeds.
///
/// ```
/// use snapgroup::storage::{BlobName, MemoryStore, Store};
/// use snapgroup::units::{ByteCount, HostOffset};
///
/// let store = MemoryStore::new();
/// let name = BlobName::parse("disk-0.qcow2")?;
/// let blob = store.create(&name)?;
/// blob.set_length(ByteCount::tib(1))?;
/// blob.write_at(HostOffset::new(4096), b"guest data")?;
/// assert_eq!(blob.allocated()?, ByteCount::kib(4));
///
/// let copy = store.fork();
/// store.remove(&name)?;
/// assert_eq!(copy.list()?, [name]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

/// What the clones of one store share.
#[derive(Default)]
struct Shared {
    names: RwLock<BTreeMap<BlobName, Arc<Content>>>,
    owned: AtomicBool,
}

/// What the handles of one blob share.
struct Content {
    /// Unlike any other blob's in this process, but for forks of this one.
    number: u64,
    bytes: RwLock<Sparse>,
}

/// The number of the next new blob.
static NUMBER_NEXT: AtomicU64 = AtomicU64::new(1);

impl MemoryStore {
    /// Makes an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes another store that holds what this one holds now, and shares nothing with it but pages nobody
    /// has written since.
    ///
    /// Blobs keep their [`Identity`], as they would in a disk image of a file system; the new store is owned by
    /// nobody. Each blob is taken at one instant; a write under way in another thread is in the copy or not.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::of(self.blobs())
    }

    /// The bytes that this store takes of the memory, without its tables: each page once, however many blobs share it.
    ///
    /// Blobs share pages after a fork of the store and after [`Blob::copy_from`], which is how layers of a pool in
    /// memory are merged and copied; so this is less than what [`Blob::allocated`] comes to for all of them. What
    /// was removed and is still open is not in it.
    ///
    /// ```
    /// use snapgroup::storage::{BlobName, MemoryStore, Store};
    /// use snapgroup::units::{ByteCount, HostOffset};
    ///
    /// let store = MemoryStore::new();
    /// let one = store.create(&BlobName::parse("one")?)?;
    /// one.write_at(HostOffset::ZERO, &[7; 65_536])?;
    /// let other = store.create(&BlobName::parse("other")?)?;
    /// other.copy_from(HostOffset::ZERO, &*one, HostOffset::ZERO, ByteCount::kib(64))?;
    /// assert_eq!((other.allocated()?, store.held()), (ByteCount::kib(64), ByteCount::kib(64)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn held(&self) -> ByteCount {
        let pages = self.map_blobs(|_, _, bytes| bytes.page_addresses().collect::<Vec<_>>());
        let distinct: HashSet<usize> = pages.into_iter().flatten().collect();
        ByteCount::of(distinct.len() * sparse::PAGE)
    }
}

impl MemoryStore {
    /// Makes a store of these blobs: the name of each, its number, its bytes.
    pub(super) fn of(blobs: impl IntoIterator<Item = (BlobName, u64, Sparse)>) -> Self {
        let blobs = blobs
            .into_iter()
            .map(|(name, number, bytes)| (name, Arc::new(Content { number, bytes: RwLock::new(bytes) })));
        let names = RwLock::new(blobs.collect());
        Self { shared: Arc::new(Shared { names, owned: AtomicBool::new(false) }) }
    }

    /// Every blob as it is now: its name, its number, its bytes, sharing pages.
    pub(super) fn blobs(&self) -> Vec<(BlobName, u64, Sparse)> {
        self.map_blobs(|name, number, bytes| (name.clone(), number, bytes.clone()))
    }

    /// Looks at every blob as it is now: its name, its number, its bytes.
    pub(super) fn map_blobs<T>(&self, look: impl Fn(&BlobName, u64, &Sparse) -> T) -> Vec<T> {
        let names = self.shared.names.read();
        names.iter().map(|(name, blob)| look(name, blob.number, &blob.bytes.read())).collect()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("blobs", &self.shared.names.read().len()).finish()
    }
}

impl Store for MemoryStore {
    fn create(&self, name: &BlobName) -> Result<Arc<dyn Blob>> {
        if name.is_in_base() {
            return Err(Error::ReadOnly { name: name.clone() });
        }
        let mut names = self.shared.names.write();
        if names.contains_key(name) {
            return Err(Error::Exists { name: name.clone() });
        }
        let number = NUMBER_NEXT.fetch_add(1, Ordering::Relaxed);
        let content = Arc::new(Content { number, bytes: RwLock::default() });
        names.insert(name.clone(), Arc::clone(&content));
        Ok(Arc::new(MemoryBlob { name: name.clone(), access: Access::Write, content }))
    }

    fn open(&self, name: &BlobName, access: Access) -> Result<Arc<dyn Blob>> {
        match self.shared.names.read().get(name) {
            Some(content) => {
                Ok(Arc::new(MemoryBlob { name: name.clone(), access, content: Arc::clone(content) }))
            }
            None => Err(Error::NotFound { name: name.clone() }),
        }
    }

    fn remove(&self, name: &BlobName) -> Result<()> {
        if name.is_in_base() {
            return Err(Error::ReadOnly { name: name.clone() });
        }
        match self.shared.names.write().remove(name) {
            Some(_) => Ok(()),
            None => Err(Error::NotFound { name: name.clone() }),
        }
    }

    fn list(&self) -> Result<Vec<BlobName>> {
        Ok(self.shared.names.read().keys().cloned().collect())
    }

    fn sync_names(&self) -> Result<()> {
        Ok(())
    }

    fn lock(&self) -> Result<Box<dyn Owned>> {
        if self.shared.owned.swap(true, Ordering::Acquire) {
            let holder = Some(Holder { process: Some(std::process::id()) });
            return Err(Error::Locked { location: "memory".to_owned(), holder });
        }
        Ok(Box::new(MemoryOwner { shared: Arc::clone(&self.shared) }))
    }

    fn location(&self, name: &BlobName) -> String {
        format!("memory:{name}")
    }
}

/// Holds the store until dropped.
struct MemoryOwner {
    shared: Arc<Shared>,
}

impl Owned for MemoryOwner {}

impl Drop for MemoryOwner {
    fn drop(&mut self) {
        self.shared.owned.store(false, Ordering::Release);
    }
}

impl fmt::Debug for MemoryOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryOwner")
    }
}

/// A handle of a blob in memory. It holds the bytes, so it stays good after its name is gone (B6).
struct MemoryBlob {
    name: BlobName,
    access: Access,
    content: Arc<Content>,
}

impl MemoryBlob {
    /// Refuses a change through a handle for reading.
    fn check_writable(&self) -> Result<()> {
        match self.access {
            Access::Write => Ok(()),
            Access::Read => Err(Error::ReadOnly { name: self.name.clone() }),
        }
    }

    /// The refusal of a length that no file could have.
    fn too_long(&self, operation: Operation) -> Error {
        Error::failed(operation, &self.name, io::Error::from(io::ErrorKind::FileTooLarge))
    }
}

impl fmt::Debug for MemoryBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBlob").field("name", &self.name).field("access", &self.access).finish()
    }
}

impl Blob for MemoryBlob {
    fn length(&self) -> Result<ByteCount> {
        Ok(ByteCount::new(self.content.bytes.read().length()))
    }

    fn read_at(&self, at: HostOffset, buffer: &mut [u8]) -> Result<()> {
        if buffer.is_empty() {
            return Ok(());
        }
        let bytes = self.content.bytes.read();
        let length = ByteCount::of(buffer.len());
        let within = at.checked_add(length).is_some_and(|end| end.as_u64() <= bytes.length());
        if !within {
            let end = ByteCount::new(bytes.length());
            return Err(Error::PastEnd { name: self.name.clone(), at, length, end });
        }
        bytes.read(at.as_u64(), buffer);
        Ok(())
    }

    fn write_at(&self, at: HostOffset, bytes: &[u8]) -> Result<()> {
        self.check_writable()?;
        if bytes.is_empty() {
            return Ok(());
        }
        let end = at.checked_add(ByteCount::of(bytes.len()));
        if end.is_none_or(|end| end.as_u64() > LENGTH_MAX) {
            return Err(self.too_long(Operation::Write));
        }
        self.content.bytes.write().write(at.as_u64(), bytes);
        Ok(())
    }

    fn copy_from(
        &self,
        at: HostOffset,
        source: &dyn Blob,
        from: HostOffset,
        length: ByteCount,
    ) -> Result<()> {
        self.check_writable()?;
        let Some(other) = source.innermost().and_then(|blob| blob.downcast_ref::<Self>()) else {
            return copy::plainly(self, at, source, from, length);
        };
        if length.is_zero() {
            return Ok(());
        }
        let end = at.checked_add(length).filter(|end| end.as_u64() <= LENGTH_MAX);
        let Some(end) = end else { return Err(self.too_long(Operation::Write)) };
        // Taken out first and let go of: no call holds two blobs, and both may be one.
        let taken = other.content.bytes.read().take(from.as_u64(), length.as_u64());
        self.content.bytes.write().put(at.as_u64()..end.as_u64(), taken);
        Ok(())
    }

    fn next_data(&self, from: HostOffset) -> Result<Option<Range<HostOffset>>> {
        let found = self.content.bytes.read().next_held(from.as_u64());
        Ok(found.map(|found| HostOffset::new(found.start)..HostOffset::new(found.end)))
    }

    fn innermost(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn set_length(&self, length: ByteCount) -> Result<()> {
        self.check_writable()?;
        if length.as_u64() > LENGTH_MAX {
            return Err(self.too_long(Operation::SetLength));
        }
        self.content.bytes.write().set_length(length.as_u64());
        Ok(())
    }

    fn punch(&self, at: HostOffset, length: ByteCount) -> Result<()> {
        self.check_writable()?;
        let end = at.as_u64().saturating_add(length.as_u64());
        self.content.bytes.write().punch(at.as_u64()..end);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn allocated(&self) -> Result<ByteCount> {
        Ok(ByteCount::new(self.content.bytes.read().allocated()))
    }

    fn stamp(&self) -> Result<Option<Stamp>> {
        Ok(Some(Stamp(self.content.bytes.read().changes())))
    }

    fn identity(&self) -> Identity {
        Identity { device: 0, number: self.content.number }
    }

    fn writer_elsewhere(&self) -> Result<Option<Holder>> {
        Ok(None)
    }

    fn hold(&self, _: Hold) -> Result<()> {
        Ok(())
    }
}
