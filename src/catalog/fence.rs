//! Whether the catalogue is still ours: nobody else has written it since we did.
//!
//! A pool has one owner at a time, which the store's lock sees to. A lock can be lost without its owner being told: the
//! lock file was removed, a server took the lease back while a host was cut off, a file system knows locks of one host
//! only. So the owner looks before it writes.
//!
//! The database's own header, at the beginning of its file, changes with every transaction, and no header comes back:
//! transactions are numbered. Every opening raises the owner's *epoch* in a transaction of its own, before anything else is
//! read or changed. Hence:
//!
//! * **E1** The first write of a transaction, and the first one after a sync, is preceded by one read of the header. Unless
//!   it is what this owner left there, the change is refused, and so is every later one: in a commit, and in the closing of
//!   the database. Whoever is about to write what another owner could write, too, such as the tables of a head, looks as
//!   well ([`Fence::look`]). So does whoever begins to read: pages of this owner's may be the other one's by now.
//! * **E2** What began before the next owner's epoch was durable, and looked at the header before, is not noticed: looking
//!   and writing are two calls. The database's transaction as a whole lies in between, which is a matter of milliseconds.
//! * **E3** The look is as fresh as the store's reads are. A file system that answers them from a cache of its own tells
//!   of another host's write when it would tell any reader of it.

use crate::storage::{self, Blob, read_zero_extended};
use crate::units::HostOffset;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How much of the file is compared: the database's header is shorter.
const HEAD: usize = 512;

/// Another owner has written the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another owner has written the catalogue since opening {epoch} of the pool")]
pub struct NotOwner {
    /// The opening that is over.
    pub epoch: u64,
}

/// What the beginning of the catalogue's file must be.
#[derive(Debug)]
pub struct Fence {
    blob: Arc<dyn Blob>,
    state: Mutex<State>,
    epoch: AtomicU64,
    is_lost: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// As this owner has found it, or left it; absent after a write of its own that has failed, of which a part may be
    /// there. The database writes nothing more then.
    head: Option<[u8; HEAD]>,
    /// Whether something was written that no sync has followed yet.
    is_writing: bool,
    /// Whether something was written since the transaction began.
    has_written: bool,
}

impl Fence {
    /// Remembers the beginning of a blob, before anything else of it is read.
    pub fn around(blob: Arc<dyn Blob>) -> storage::Result<Self> {
        let state = Mutex::new(State { head: Some(head_of(&*blob)?), is_writing: false, has_written: false });
        Ok(Self { blob, state, epoch: AtomicU64::new(0), is_lost: AtomicBool::new(false) })
    }

    /// Says which opening of the pool this is.
    pub fn begin(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Release);
    }

    /// Which opening of the pool this is; 0 as long as that is not known.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Refuses once somebody else was found to have written. Reads nothing.
    pub fn check(&self) -> Result<(), NotOwner> {
        match self.is_lost.load(Ordering::Acquire) {
            true => Err(NotOwner { epoch: self.epoch() }),
            false => Ok(()),
        }
    }

    /// Looks whether somebody else has written. An error carries [`NotOwner`] or the blob's own.
    pub fn look(&self) -> io::Result<()> {
        self.compare(&mut self.state.lock())
    }

    /// Looks, before the first write of a transaction and the first one after a sync (E1).
    pub fn admit(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        if !state.is_writing {
            self.compare(&mut state)?;
        }
        self.check().map_err(io::Error::other)?;
        (state.is_writing, state.has_written) = (true, true);
        Ok(())
    }

    /// Begins a transaction. Of the one before, writes may be left that no sync has followed, when it was given up.
    pub fn begin_transaction(&self) {
        let mut state = self.state.lock();
        (state.is_writing, state.has_written) = (false, false);
    }

    /// Whether this transaction was let write, which was before somebody else was seen.
    pub fn has_written(&self) -> bool {
        self.state.lock().has_written
    }

    /// Notes a sync.
    pub fn synced(&self) {
        self.state.lock().is_writing = false;
    }

    /// Writes to the blob, and remembers what is at its beginning from then on.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> storage::Result<()> {
        let at = HostOffset::new(offset);
        let Ok(start @ 0..HEAD) = usize::try_from(offset) else { return self.blob.write_at(at, bytes) };
        let end = HEAD.min(start + bytes.len());
        // Under the lock, so that nobody compares what is written with what was.
        let mut state = self.state.lock();
        let written = self.blob.write_at(at, bytes);
        match (&written, &mut state.head) {
            (Ok(()), Some(head)) => head[start..end].copy_from_slice(&bytes[..end - start]),
            _ => state.head = None,
        }
        written
    }

    fn compare(&self, state: &mut State) -> io::Result<()> {
        let found = head_of(&*self.blob).map_err(io::Error::other)?;
        if *state.head.get_or_insert(found) != found {
            self.is_lost.store(true, Ordering::Release);
        }
        self.check().map_err(io::Error::other)
    }
}

/// The beginning of a blob, with zeros past its end.
fn head_of(blob: &dyn Blob) -> storage::Result<[u8; HEAD]> {
    let mut head = [0; HEAD];
    match blob.read_at(HostOffset::ZERO, &mut head) {
        // A catalogue that is being made is shorter.
        Err(storage::Error::PastEnd { end, .. }) => {
            read_zero_extended(blob, end, HostOffset::ZERO, &mut head)?;
        }
        read => read?,
    }
    Ok(head)
}
