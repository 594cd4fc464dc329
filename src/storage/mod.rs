//! Bytes at rest: a [`Store`] of named [`Blob`]s, and what every backend promises.
//!
//! Two backends hold them: [`MemoryStore`] and, on Linux, [`DiskStore`]. Two more wrap any other one:
//! [`FusedStore`] stops writing after a failed sync, [`SimulatedStore`] counts, records and fails calls. And on one the
//! power can be cut: [`SimulatedDisk`].
//!
//! The rooms above are written against these promises and against nothing else; the one list of contract
//! tests in `tests/storage_contract.rs` runs on every backend.
//!
//! A blob:
//!
//! * **B1** A write that returned is seen by every later read, through every handle of the same blob.
//! * **B2** A read is exact: it fills the whole buffer or fails; bytes past the end are an error
//!   ([`Error::PastEnd`]), never zeros and never a short count. Reading nothing succeeds anywhere.
//! * **B3** A write past the end lengthens the blob (writing nothing does not); the gap reads as zeros. So do
//!   new bytes after [`Blob::set_length`], and a range after [`Blob::punch`], which never changes the length.
//! * **B4** Before [`Blob::sync`] nothing is promised about what a power cut leaves: each 512-byte sector of
//!   each write since the last sync is there or not, each change of length too. After it, all of them are.
//! * **B5** `sync` says nothing about the blob's *name*, nor about any other blob.
//! * **B6** A blob handle stays good after its name was removed.
//! * **B7** [`Blob::copy_from`] is a write (B1, B3, B4) of bytes that another blob holds, zeros past that one's
//!   end. It changes nothing but its range and the length; the two blobs may be one, if the ranges are disjoint.
//! * **B8** What [`Blob::next_data`] leaves out reads as zeros. What it finds may do so too; it is never empty,
//!   begins no earlier than asked, and ends no later than the blob.
//! * **B9** [`Blob::hold`] is against other processes only: handles of one store never stand in each other's way.
//! * **B10** Of one blob, two stamps ([`Blob::stamp`]) with a change between them differ, as far as the clock of the
//!   backend can tell the moments apart. What gives no stamp promises nothing.
//! * **B11** A write that fails has changed a beginning of its range at most, and no aligned word of eight bytes by half:
//!   an entry of a table is there or not. Linux ends a write that it cannot finish where a page ends, or at a limit on the
//!   length of files, which may lie anywhere: one that is no multiple of eight is not for a pool.
//!
//! A store:
//!
//! * **S1** [`Store::create`] makes a new, empty blob and fails when the name is taken; it never truncates.
//! * **S2** Names made or removed are durable after [`Store::sync_names`], not before.
//! * **S3** A name is one component ([`BlobName`]); no link, no `..`, nothing outside the store is reached. What lies in
//!   a base directory that was declared to the store is reached by its path, no link on the way, and only read.
//! * **S4** [`Store::lock`] is held by one owner at a time, in this process or another one.
//! * **S5** Blobs share no state: what is done to one is never seen in another.

mod copy;
mod digest;
#[cfg(target_os = "linux")]
mod disk;
mod error;
mod fuse;
mod memory;
mod name;
mod simulated;
mod sparse;
mod zero_extended;

#[cfg(target_os = "linux")]
pub use disk::{DiskOptions, DiskStore, ExportFile, ImageLocks, MapFrozen, Replace, open_file};
pub use error::{Error, Operation, Result};
pub use fuse::FusedStore;
pub use memory::MemoryStore;
pub use name::{BlobName, InvalidName};
pub use simulated::{At, Call, Counts, Fault, FaultKind, SimulatedStore, Times};
pub use simulated::{
    Bounds, Choice, CrashBlob, CrashState, CrashStates, DiskChange, DiskEvent, DiskLog, FileSystem, PowerCut,
    SimulatedDisk,
};
pub use zero_extended::read_zero_extended;

use crate::units::{ByteCount, HostOffset};
use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

/// What a blob is opened for.
#[doc = include_str!("examples/stores.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only: a write is refused with [`Error::ReadOnly`].
    Read,
    /// Reading and writing.
    Write,
}

/// Which blob a name leads to: two names, or one name at two times, with the same identity are the same blob.
///
/// An example is at [`Blob`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The device that holds it; 0 where there is none.
    pub device: u64,
    /// Its number on that device.
    pub number: u64,
}

/// A mark of when a blob was changed last, to be compared with another one of the same blob and nothing else.
///
/// An example is at [`Blob`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp(pub u64);

/// A store of named blobs: one directory, or one table in memory.
///
/// The promises S1 to S5 are listed in the documentation of [this module](self).
///
/// Another example is at [`Blob`].
#[doc = include_str!("examples/stores.md")]
pub trait Store: Debug + Send + Sync {
    /// Makes a new, empty blob, open for writing. Durable after [`Store::sync_names`].
    ///
    /// # Errors
    ///
    /// [`Error::Exists`] when the name is taken.
    fn create(&self, name: &BlobName) -> Result<Arc<dyn Blob>>;

    /// Opens an existing blob.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], and [`Error::NotRegular`] for what is not a plain file (a link, a directory, a
    /// device, a pipe). [`Error::ReadOnly`] for writing what lies in a base directory.
    fn open(&self, name: &BlobName, access: Access) -> Result<Arc<dyn Blob>>;

    /// Removes a name. Handles that are open stay good. Durable after [`Store::sync_names`].
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    fn remove(&self, name: &BlobName) -> Result<()>;

    /// The names in the store, sorted. Names that are not a [`BlobName`] and what is not a plain file are left
    /// out.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    fn list(&self) -> Result<Vec<BlobName>>;

    /// Makes every name that was made or removed so far durable.
    ///
    /// # Errors
    ///
    /// [`Error::SyncFailed`].
    fn sync_names(&self) -> Result<()>;

    /// Takes the store for one owner, until the answer is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] when another owner has it, in this process or another one.
    fn lock(&self) -> Result<Box<dyn Owned>>;

    /// Where a blob is found by people and by other programs: a path, or a made-up one in memory.
    fn location(&self, name: &BlobName) -> String;

    /// The name by which the store reaches the file at an absolute path, whether it is there or not: one component
    /// for a file of the store itself, the path for one in a base directory that was declared. `None` for every other
    /// path, and from a store that has none.
    fn name_of(&self, path: &str) -> Option<BlobName> {
        let _ = path;
        None
    }
}

/// The proof that a store is owned; dropping it lets the next owner in.
///
/// An example is at [`Blob`].
pub trait Owned: Debug + Send + Sync {}

/// One blob: a file, or bytes in memory. All calls take `&self`; two threads may write different ranges at once.
///
/// The promises B1 to B11 are listed in the documentation of [this module](self).
#[doc = include_str!("examples/stores.md")]
#[doc = include_str!("examples/blobs.md")]
pub trait Blob: Debug + Send + Sync {
    /// The length in bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    fn length(&self) -> Result<ByteCount>;

    /// Fills `buffer` with the bytes from `at` on.
    ///
    /// # Errors
    ///
    /// [`Error::PastEnd`] when the blob ends before the buffer does; [`Error::Io`].
    fn read_at(&self, at: HostOffset, buffer: &mut [u8]) -> Result<()>;

    /// Writes all of `bytes` from `at` on, lengthening the blob when they reach past its end.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`]; [`Error::Io`], a full disk included. After an error any part may have been written.
    fn write_at(&self, at: HostOffset, bytes: &[u8]) -> Result<()>;

    /// Writes `length` bytes of `source`, from `from` on, at `at`: zeros for what lies past the end of `source`.
    /// Lengthens this blob as a write of as many bytes would (B7).
    ///
    /// The blobs may be of different stores and kinds. On disk the kernel copies, and where the file system can
    /// share extents (XFS, btrfs) it does so when both places are aligned to its blocks; in memory whole pages are
    /// shared until one side writes. A hole may stay a hole or become zeros that are written. When both blobs are
    /// one and the ranges overlap, what the written range then holds is not defined.
    ///
    /// Unless two blobs of one kind find another way, this reads and writes through a buffer of at most a mebibyte.
    ///
    /// # Errors
    ///
    /// As [`Blob::write_at`], and as [`Blob::read_at`] of `source`. After an error any part may have been written.
    fn copy_from(
        &self,
        at: HostOffset,
        source: &dyn Blob,
        from: HostOffset,
        length: ByteCount,
    ) -> Result<()> {
        copy::plainly(self, at, source, from, length)
    }

    /// The next stretch, at or after `from`, that may hold something else than zeros; `None` when only zeros
    /// follow, or nothing (B8). Stretches may touch: the end of one need not be the beginning of a hole.
    ///
    /// Made for walking through a blob, not for asking about each cluster: on disk a call may cost as much as the
    /// stretch has extents. A blob that does not know answers with everything up to its end.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    fn next_data(&self, from: HostOffset) -> Result<Option<Range<HostOffset>>> {
        let end = HostOffset::new(self.length()?.as_u64());
        Ok((from < end).then_some(from..end))
    }

    /// The blob that holds the bytes, beneath all that wraps it, for [`Blob::copy_from`] of another one of the same
    /// kind to recognise: it then takes the bytes without [`Blob::read_at`].
    ///
    /// A wrapper passes on what the blob inside answers; one that must see each read answers `None`, which is
    /// what a blob does that says nothing.
    fn innermost(&self) -> Option<&dyn Any> {
        None
    }

    /// Sets the length; new bytes read as zeros.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`]; [`Error::Io`].
    fn set_length(&self, length: ByteCount) -> Result<()>;

    /// Makes a range read as zeros and gives its space back where the backend can. The length stays; what
    /// reaches past the end is ignored.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`]; [`Error::Io`].
    fn punch(&self, at: HostOffset, length: ByteCount) -> Result<()>;

    /// Says that a [`Blob::sync`] will come soon: of several blobs, each is told before the first one is synced, and
    /// what they hold goes to the disk side by side. Promises nothing, does nothing unless the backend can, and may make
    /// the next reads slower: it is for blobs that were just made.
    fn sync_soon(&self) {}

    /// Begins to write a range that was just written to the disk, and does not wait: a long copy and the disk work side
    /// by side then, and the [`Blob::sync`] in the end finds little left to do. Promises nothing, and does nothing
    /// unless the backend can.
    fn write_back_soon(&self, at: HostOffset, length: ByteCount) {
        let _ = (at, length);
    }

    /// Makes every write, punch and length so far durable.
    ///
    /// # Errors
    ///
    /// [`Error::SyncFailed`]. Nothing is then known about what is durable; calling again proves nothing.
    fn sync(&self) -> Result<()>;

    /// The bytes that the blob takes up, holes left out. What is shared with another blob counts for both.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    fn allocated(&self) -> Result<ByteCount>;

    /// When the blob was changed last, by whomever (B10); `None` when the backend does not tell.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    fn stamp(&self) -> Result<Option<Stamp>> {
        Ok(None)
    }

    /// Which blob this is.
    fn identity(&self) -> Identity;

    /// How many names the blob has, this one counted: hard links. 1 when the backend knows of no others; on disk 0 once it was
    /// removed.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    fn links(&self) -> Result<u64> {
        Ok(1)
    }

    /// Who else writes to this blob, by the lock that QEMU holds on byte 101 of an image that it writes (image
    /// locking in QEMU's `block/file-posix.c`); `None` when nobody is seen. What this store holds itself is not seen.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    fn writer_elsewhere(&self) -> Result<Option<Holder>>;

    /// Keeps programs that speak QEMU's image locks from using this blob in a way that stands against `hold`, until
    /// another hold takes its place or this handle is dropped (B9).
    ///
    /// On a file system without locks, and in memory, nobody is kept out and nothing is refused.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] when another process uses the blob in a way that stands against it; what was held before is
    /// held on. [`Error::Io`].
    fn hold(&self, hold: Hold) -> Result<()>;
}

/// What a blob is used for, as far as other processes are concerned.
///
/// An example is at [`Blob`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It is read, and relied on: others may read it, and may not write it or change its size.
    Read,
    /// It is written: others may neither write it nor rely on it.
    Write,
}

/// Another process that has a blob open, in a way that stands against what is asked.
///
/// An example is at [`Blob`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process id, when the system tells.
    pub process: Option<u32>,
}
