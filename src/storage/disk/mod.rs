//! A store in one directory of a Linux file system.
//!
//! * `directory` - the one handle through which every file is reached, one component below it
//! * `base` - other directories, of which files are only read
//! * `blob` - one open file
//! * `extents` - where the data of a file lies, and copies that the kernel makes
//! * `export` - files outside of any store: made whole or not at all, or only read
//! * `lock` - the lock of the store
//! * `image_lock` - the locks that QEMU puts on images, taken and looked at
//! * `holder` - who holds a lock, for the message
//! * `descriptors` - how many files are open at once
//! * `mapped`, `bound` - frozen files read through a map, and what keeps that sound
//!
//! No other room names `std::fs` or `nix`.

mod base;
mod blob;
mod bound;
mod descriptors;
mod directory;
mod export;
mod extents;
mod holder;
mod image_lock;
mod lock;
mod mapped;

pub use export::{ExportFile, Replace, open_file};

use super::{Access, Blob, BlobName, Error, Operation, Owned, Result, Store};
use base::Base;
use blob::DiskBlob;
use bound::Bounds;
use descriptors::Descriptors;
use directory::Directory;
use image_lock::HeldLocks;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name of the lock file. It is no blob: it is not listed, cannot be opened, and its name is taken.
const LOCK_FILE: &str = "snapgroup.lock";

/// Whether blobs that are opened for reading are read through a memory map.
///
/// An example is at [`DiskOptions`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MapFrozen {
    /// Every read is a system call. A file that was cut short is an error.
    #[default]
    No,
    /// A read of a blob opened with [`Access::Read`] is a copy out of a map; where a file cannot be mapped, it is
    /// a system call as before.
    ///
    /// **A mapped file that another program truncates kills this process** (SIGBUS) at the next read past its
    /// new end, and so does a disk that fails to deliver a page. Choose this only for a directory nobody else
    /// writes to. What this store itself cuts short or punches is safe.
    Yes,
}

/// Whether the locks that QEMU puts on images are spoken.
///
/// An example is at [`DiskOptions`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageLocks {
    /// What [`Blob::hold`] asks for is taken, and what others hold is respected.
    #[default]
    Take,
    /// Nothing is taken and nobody is seen: for a file system on which locks hang or lie. Whoever opens the same
    /// images elsewhere is not noticed.
    Ignore,
}

/// How a [`DiskStore`] makes and reads its files.
///
/// ```
/// use snapgroup::storage::{DiskOptions, MapFrozen};
///
/// let options = DiskOptions::new().with_file_mode(0o640).with_map_frozen(MapFrozen::Yes);
/// # let _ = options;
/// ```
#[doc = include_str!("../examples/directories.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    file_mode: u32,
    map_frozen: MapFrozen,
    image_locks: ImageLocks,
    descriptors_max: Option<usize>,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self {
            file_mode: 0o600,
            map_frozen: MapFrozen::No,
            image_locks: ImageLocks::Take,
            descriptors_max: None,
        }
    }
}

impl DiskOptions {
    /// Files of mode 0600, no maps, image locks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The permission bits of new files, whatever the umask says; 0600 unless set.
    #[must_use]
    pub fn with_file_mode(self, file_mode: u32) -> Self {
        Self { file_mode: file_mode & 0o777, ..self }
    }

    /// Whether frozen layers are read through a map; [`MapFrozen::No`] unless set.
    #[must_use]
    pub fn with_map_frozen(self, map_frozen: MapFrozen) -> Self {
        Self { map_frozen, ..self }
    }

    /// Whether QEMU's image locks are spoken; [`ImageLocks::Take`] unless set.
    #[must_use]
    pub fn with_image_locks(self, image_locks: ImageLocks) -> Self {
        Self { image_locks, ..self }
    }

    /// How many files are open for reading at once, about, 1 at least; unless set, half of what the process may have
    /// open when the store is opened (`RLIMIT_NOFILE`).
    ///
    /// So a chain of 10,000 layers can be read. When there are more, those that were left alone for longest are closed
    /// and opened again at their next use. **While it is closed a file holds no image lock**: another program can then
    /// write to it unnoticed, unless it is still at it when the file is opened again, which is [`Error::InUse`]. Files
    /// that are open for writing are not counted and never closed.
    #[must_use]
    pub fn with_descriptors_max(self, descriptors_max: usize) -> Self {
        Self { descriptors_max: Some(descriptors_max), ..self }
    }
}

/// A store in one directory of a Linux file system.
///
/// The directory is opened once; every file is reached as one component below that handle, without following
/// any link. A file named `snapgroup.lock` appears in it with the first [`Store::lock`]; it is no blob.
///
/// ```
/// use snapgroup::storage::{BlobName, DiskStore, Store};
/// use snapgroup::units::HostOffset;
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("pool");
/// let store = DiskStore::create(&path)?;
/// let _owned = store.lock()?;
/// let blob = store.create(&BlobName::parse("disk-0.qcow2")?)?;
/// blob.write_at(HostOffset::ZERO, b"guest data")?;
/// blob.sync()?;
/// store.sync_names()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Another example is at [`DiskOptions`].
#[derive(Debug)]
pub struct DiskStore {
    path: PathBuf,
    directory: Arc<Directory>,
    /// The directories of which files are read besides, the longest path first.
    bases: Vec<Base>,
    options: DiskOptions,
    descriptors: Arc<Descriptors>,
    bounds: Arc<Bounds>,
    locks: Arc<HeldLocks>,
}

impl DiskStore {
    /// Opens the store in an existing directory.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when there is no such directory or it cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, DiskOptions::default())
    }

    /// Opens the store in an existing directory, with options.
    ///
    /// # Errors
    ///
    /// As [`DiskStore::open`].
    pub fn open_with(path: &Path, options: DiskOptions) -> Result<Self> {
        let directory = Directory::open(path)
            .map_err(|source| Error::failed(Operation::OpenStore, path.display(), source))?;
        let directory = Arc::new(directory);
        let most = options.descriptors_max.unwrap_or_else(descriptors::most_by_default);
        Ok(Self {
            path: path.to_owned(),
            descriptors: Arc::new(Descriptors::new(Arc::clone(&directory), most)),
            directory,
            bases: Vec::new(),
            options,
            bounds: Arc::default(),
            locks: Arc::default(),
        })
    }

    /// Declares base directories: of files in them, and in what is below them, images of the store may be overlays. Such
    /// a file is named by its path ([`BlobName::in_base`]), reached without following a link below the directory, only
    /// read, and neither made nor removed.
    ///
    /// A path is taken to the letter, as headers have it: an image is found by a path that begins with this one.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when a path is not absolute, has a component `..`, or is no directory that can be opened.
    pub fn with_bases<P: AsRef<Path>>(mut self, paths: impl IntoIterator<Item = P>) -> Result<Self> {
        for path in paths {
            self.bases.push(Base::open(path.as_ref())?);
        }
        self.bases.sort_by_key(|base| std::cmp::Reverse(base.path().components().count()));
        Ok(self)
    }

    /// Opens a file in a base directory.
    fn open_in_base(&self, name: &BlobName, access: Access) -> Result<directory::Opened> {
        if access == Access::Write {
            return Err(Error::ReadOnly { name: name.clone() });
        }
        match self.bases.iter().find_map(|base| base.open_file(name)) {
            Some(opened) => opened,
            None => Err(Error::NotFound { name: name.clone() }),
        }
    }

    /// Opens the store in a directory, which is made with mode 0700 when it is absent. Its parents must exist.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], also when the path is taken by something else than a directory.
    pub fn create(path: &Path) -> Result<Self> {
        Self::create_with(path, DiskOptions::default())
    }

    /// As [`DiskStore::create`], with options.
    ///
    /// # Errors
    ///
    /// As [`DiskStore::create`].
    pub fn create_with(path: &Path, options: DiskOptions) -> Result<Self> {
        Directory::make(path)
            .map_err(|source| Error::failed(Operation::OpenStore, path.display(), source))?;
        Self::open_with(path, options)
    }

    /// Where maps of files are known, when this store maps any.
    fn bounds(&self) -> Option<Arc<Bounds>> {
        match self.options.map_frozen {
            MapFrozen::No => None,
            MapFrozen::Yes => Some(Arc::clone(&self.bounds)),
        }
    }

    /// The locks of all blobs, when this store takes any.
    fn locks(&self) -> Option<Arc<HeldLocks>> {
        match self.options.image_locks {
            ImageLocks::Take => Some(Arc::clone(&self.locks)),
            ImageLocks::Ignore => None,
        }
    }

    /// Wraps a file that stays open.
    fn kept(&self, name: &BlobName, access: Access, opened: directory::Opened) -> Arc<dyn Blob> {
        Arc::new(DiskBlob::kept(name.clone(), access, opened, self.bounds(), self.locks()))
    }
}

impl Store for DiskStore {
    fn create(&self, name: &BlobName) -> Result<Arc<dyn Blob>> {
        if name.as_str() == LOCK_FILE {
            return Err(Error::Exists { name: name.clone() });
        }
        if name.is_in_base() {
            return Err(Error::ReadOnly { name: name.clone() });
        }
        Ok(self.kept(name, Access::Write, self.directory.create(name, self.options.file_mode)?))
    }

    fn open(&self, name: &BlobName, access: Access) -> Result<Arc<dyn Blob>> {
        if name.as_str() == LOCK_FILE {
            return Err(Error::NotFound { name: name.clone() });
        }
        if name.is_in_base() {
            // It may be on a file system where files are replaced: what is open is read on.
            return Ok(self.kept(name, access, self.open_in_base(name, access)?));
        }
        if access == Access::Write {
            return Ok(self.kept(name, access, self.directory.open_file(name, access)?));
        }
        let (seat, opened) = self.descriptors.open(name, self.locks())?;
        Ok(Arc::new(DiskBlob::seated(seat, &opened, self.bounds(), self.locks())))
    }

    fn remove(&self, name: &BlobName) -> Result<()> {
        if name.as_str() == LOCK_FILE {
            return Err(Error::NotFound { name: name.clone() });
        }
        if name.is_in_base() {
            return Err(Error::ReadOnly { name: name.clone() });
        }
        self.descriptors.remove(name)
    }

    fn list(&self) -> Result<Vec<BlobName>> {
        let mut names = self
            .directory
            .list()
            .map_err(|source| Error::failed(Operation::List, self.path.display(), source))?;
        names.retain(|name| name.as_str() != LOCK_FILE);
        names.sort();
        Ok(names)
    }

    fn sync_names(&self) -> Result<()> {
        self.directory
            .sync()
            .map_err(|source| Error::failed(Operation::SyncNames, self.path.display(), source))
    }

    fn lock(&self) -> Result<Box<dyn Owned>> {
        lock::own(&self.directory, &self.path)
    }

    fn location(&self, name: &BlobName) -> String {
        self.path.join(name.as_str()).display().to_string()
    }

    fn name_of(&self, path: &str) -> Option<BlobName> {
        let name = BlobName::in_base(path).ok()?;
        if let Ok(below) = Path::new(path).strip_prefix(&self.path)
            && self.path.is_absolute()
            && self.directory.is_at(&self.path)
            && let Some(Ok(own)) = below.to_str().map(BlobName::parse)
        {
            return Some(own);
        }
        self.bases.iter().any(|base| base.has(&name)).then_some(name)
    }
}
