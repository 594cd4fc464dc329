//! One open file as a [`Blob`].

use super::super::{Access, Blob, BlobName, Error, Hold, Holder, Identity, Operation, Result, Stamp, copy};
use super::bound::{Bounds, Frozen};
use super::descriptors::Seat;
use super::directory::Opened;
use super::extents;
use super::image_lock::{HeldLocks, ImageHold};
use crate::units::{ByteCount, HostOffset};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise};
use nix::unistd::fdatasync;
use parking_lot::Mutex;
use std::any::Any;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

/// What `st_blocks` counts.
const BLOCK: u64 = 512;
/// The zeros written at a time where a file system cannot punch.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// An open file.
#[derive(Debug)]
pub(super) struct DiskBlob {
    name: BlobName,
    access: Access,
    handle: Handle,
    identity: Identity,
    /// The locks of all blobs of the store; `None` when it takes none.
    locks: Option<Arc<HeldLocks>>,
    /// The map of a frozen file; `None` when it is read by system calls.
    frozen: Option<Frozen>,
    /// Where maps of this file are known; `None` when the store maps nothing.
    bounds: Option<Arc<Bounds>>,
}

/// How the file is reached.
#[derive(Debug)]
enum Handle {
    /// It stays open.
    Kept {
        file: Arc<File>,
        /// What this handle holds.
        held: Mutex<Option<ImageHold>>,
    },
    /// It may have been closed, and is opened again.
    Seat(Arc<Seat>),
}

impl DiskBlob {
    /// Wraps a file that stays open.
    pub(super) fn kept(
        name: BlobName,
        access: Access,
        opened: Opened,
        bounds: Option<Arc<Bounds>>,
        locks: Option<Arc<HeldLocks>>,
    ) -> Self {
        let identity = opened.identity();
        let handle = Handle::Kept { file: opened.file, held: Mutex::default() };
        Self { name, access, handle, identity, locks, frozen: None, bounds }
    }

    /// Wraps a file that is open for reading; maps it when the store maps.
    pub(super) fn seated(
        seat: Arc<Seat>,
        opened: &Opened,
        bounds: Option<Arc<Bounds>>,
        locks: Option<Arc<HeldLocks>>,
    ) -> Self {
        let (name, identity) = (seat.name().clone(), opened.identity());
        let frozen = bounds.as_ref().and_then(|bounds| Frozen::map(bounds, identity, &opened.file));
        let handle = Handle::Seat(seat);
        Self { name, access: Access::Read, handle, identity, locks, frozen, bounds }
    }

    /// The file, open as long as the answer lives.
    fn file(&self) -> Result<Arc<File>> {
        match &self.handle {
            Handle::Kept { file, .. } => Ok(Arc::clone(file)),
            Handle::Seat(seat) => seat.file(),
        }
    }

    /// Says that a range is not needed any more; a length of 0 is all that follows.
    fn advise(&self, at: i64, length: i64) {
        let Ok(file) = self.file() else { return };
        let _ = posix_fadvise(&*file, at, length, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }

    /// Refuses a change through a handle for reading.
    fn check_writable(&self) -> Result<()> {
        match self.access {
            Access::Write => Ok(()),
            Access::Read => Err(Error::ReadOnly { name: self.name.clone() }),
        }
    }

    /// The failure of one call on this file.
    fn failed(&self, operation: Operation, source: impl Into<io::Error>) -> Error {
        Error::failed(operation, &self.name, source.into())
    }

    /// Says why a read failed: it reached past the end, or the system failed it.
    fn read_failed(&self, at: HostOffset, length: ByteCount, source: io::Error) -> Error {
        let wanted = ByteCount::new(at.as_u64().saturating_add(length.as_u64()));
        // The system calls an offset past its own largest one invalid; no file reaches that far.
        let no_file_is_so_long = i64::try_from(wanted.as_u64()).is_err();
        if source.kind() != io::ErrorKind::UnexpectedEof && !no_file_is_so_long {
            return self.failed(Operation::Read, source);
        }
        match self.length() {
            // The blob may have grown since; at the time of the read it ended before what was wanted.
            Ok(end) => {
                let end = end.min(wanted.saturating_sub(ByteCount::new(1)));
                Error::PastEnd { name: self.name.clone(), at, length, end }
            }
            Err(error) => error,
        }
    }

    /// Copies data of another file: what the kernel does not, goes through a buffer.
    fn copy_data(&self, at: HostOffset, source: &Self, from: HostOffset, length: ByteCount) -> Result<()> {
        let (here, there) = (source.file()?, self.file()?);
        let done = extents::copy(&here, from.as_u64(), &there, at.as_u64(), length.as_u64())
            .map_err(|source| self.failed(Operation::Write, source))?;
        let done = ByteCount::new(done);
        copy::through_a_buffer(self, at + done, source, from + done, length - done)
    }
}

impl Blob for DiskBlob {
    fn length(&self) -> Result<ByteCount> {
        let metadata = self.file()?.metadata().map_err(|source| self.failed(Operation::Length, source))?;
        Ok(ByteCount::new(metadata.len()))
    }

    fn read_at(&self, at: HostOffset, buffer: &mut [u8]) -> Result<()> {
        if let Some(frozen) = &self.frozen
            && frozen.read_at(at, buffer)
        {
            return Ok(());
        }
        let length = ByteCount::of(buffer.len());
        self.file()?.read_exact_at(buffer, at.as_u64()).map_err(|source| self.read_failed(at, length, source))
    }

    fn write_at(&self, at: HostOffset, bytes: &[u8]) -> Result<()> {
        self.check_writable()?;
        self.file()?.write_all_at(bytes, at.as_u64()).map_err(|source| self.failed(Operation::Write, source))
    }

    fn copy_from(
        &self,
        at: HostOffset,
        source: &dyn Blob,
        from: HostOffset,
        length: ByteCount,
    ) -> Result<()> {
        self.check_writable()?;
        match source.innermost().and_then(|blob| blob.downcast_ref::<Self>()) {
            Some(source) => copy::stretch_by_stretch(self, at, source, from, length, |at, from, length| {
                self.copy_data(at, source, from, length)
            }),
            None => copy::plainly(self, at, source, from, length),
        }
    }

    fn next_data(&self, from: HostOffset) -> Result<Option<Range<HostOffset>>> {
        let found = extents::next_data(&*self.file()?, from.as_u64());
        let found = found.map_err(|source| self.failed(Operation::NextData, source))?;
        Ok(found.map(|found| HostOffset::new(found.start)..HostOffset::new(found.end)))
    }

    fn innermost(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn set_length(&self, length: ByteCount) -> Result<()> {
        self.check_writable()?;
        let file = self.file()?;
        let set = || file.set_len(length.as_u64());
        match &self.bounds {
            None => set(),
            Some(bounds) => bounds.of(self.identity).lower(length, set),
        }
        .map_err(|source| self.failed(Operation::SetLength, source))
    }

    fn punch(&self, at: HostOffset, length: ByteCount) -> Result<()> {
        self.check_writable()?;
        let start = at.as_u64();
        let end = start.saturating_add(length.as_u64()).min(self.length()?.as_u64());
        if end <= start {
            return Ok(());
        }
        let file = self.file()?;
        match punch_hole(&file, start, end) {
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => write_zeros(&file, start, end),
            punched => punched.map_err(io::Error::from),
        }
        .map_err(|source| self.failed(Operation::Punch, source))
    }

    fn sync_soon(&self) {
        // Linux begins to write what is dirty, so that it can be forgotten, and does not wait for it. Only the sync that
        // follows counts.
        self.advise(0, 0);
    }

    fn write_back_soon(&self, at: HostOffset, length: ByteCount) {
        // As above. What is on its way to the disk is not forgotten, so what was just written stays in the cache.
        if let (Ok(at), Ok(length)) = (i64::try_from(at.as_u64()), i64::try_from(length.as_u64())) {
            self.advise(at, length);
        }
    }

    fn sync(&self) -> Result<()> {
        // Called once, an interruption included: a second call may say yes to what the first one lost.
        match fdatasync(&*self.file()?) {
            // A base directory may be on a file system that only knows how to be read.
            Err(Errno::EINVAL | Errno::EROFS) if self.name.is_in_base() => Ok(()),
            synced => synced.map_err(|errno| self.failed(Operation::Sync, errno)),
        }
    }

    fn allocated(&self) -> Result<ByteCount> {
        let metadata = self.file()?.metadata().map_err(|source| self.failed(Operation::Allocated, source))?;
        Ok(ByteCount::new(metadata.blocks().saturating_mul(BLOCK)))
    }

    fn stamp(&self) -> Result<Option<Stamp>> {
        // The change of the inode: unlike the time of modification, nobody sets it back.
        let metadata = self.file()?.metadata().map_err(|source| self.failed(Operation::Stamp, source))?;
        let seconds = metadata.ctime().cast_unsigned().wrapping_mul(1_000_000_000);
        Ok(Some(Stamp(seconds.wrapping_add(metadata.ctime_nsec().cast_unsigned()))))
    }

    fn identity(&self) -> Identity {
        self.identity
    }

    fn links(&self) -> Result<u64> {
        let metadata = self.file()?.metadata().map_err(|source| self.failed(Operation::Links, source))?;
        Ok(metadata.nlink())
    }

    fn writer_elsewhere(&self) -> Result<Option<Holder>> {
        let Some(locks) = &self.locks else { return Ok(None) };
        locks
            .writer_elsewhere(self.identity, &*self.file()?)
            .map_err(|source| self.failed(Operation::WriterElsewhere, source))
    }

    fn hold(&self, hold: Hold) -> Result<()> {
        let (file, held) = match &self.handle {
            Handle::Seat(seat) => return seat.hold(hold),
            Handle::Kept { file, held } => (file, held),
        };
        let Some(locks) = &self.locks else { return Ok(()) };
        let mut held = held.lock();
        // The new hold stands before the old one is given up.
        *held = Some(locks.hold(&self.name, self.identity, file, hold)?);
        Ok(())
    }
}

/// Writes zeros over a range that lies within the file.
fn write_zeros(file: &File, start: u64, end: u64) -> io::Result<()> {
    let mut at = start;
    while at < end {
        let count = ByteCount::new((end - at).min(ZEROS.len() as u64));
        file.write_all_at(&ZEROS[..count.as_usize()], at)?;
        at += count.as_u64();
    }
    Ok(())
}

/// Gives a range back to the file system; the length stays.
fn punch_hole(file: &File, start: u64, end: u64) -> nix::Result<()> {
    let (Ok(offset), Ok(length)) = (i64::try_from(start), i64::try_from(end - start)) else {
        return Err(Errno::EFBIG);
    };
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    loop {
        match fallocate(file, flags, offset, length) {
            Err(Errno::EINTR) => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_written_to_a_range_and_nowhere_else() -> Result<()> {
        let length = 3 * ZEROS.len() + 5;
        let file = Arc::new(tempfile::tempfile().expect("a temporary file can be made"));
        let metadata = file.metadata().expect("an open file can be asked");
        let name = BlobName::parse("a").expect("one component");
        let opened = Opened { file: Arc::clone(&file), metadata };
        let blob = DiskBlob::kept(name, Access::Write, opened, None, None);
        for (start, end) in [(0, 1), (1, ZEROS.len()), (7, length - 3), (length - 1, length), (0, length)] {
            let mut expected = vec![7; length];
            blob.write_at(HostOffset::ZERO, &expected)?;
            write_zeros(&file, start as u64, end as u64).expect("a temporary file can be written");
            expected[start..end].fill(0);
            let mut bytes = vec![0xEE; length];
            blob.read_at(HostOffset::ZERO, &mut bytes)?;
            assert!(bytes == expected, "{start}..{end}");
            assert_eq!(blob.length()?, ByteCount::of(length));
        }
        Ok(())
    }
}
