//! QEMU's image locks: what keeps other programs from a file that is in use here, and us from theirs.
//!
//! QEMU uses a read lock of an open file on single bytes (`raw_apply_lock_bytes` and `raw_check_lock_bytes` in its
//! `block/file-posix.c`): byte 100 + n says "I use permission n", byte 200 + n "I let nobody else use it"; n is 0 for
//! reading, 1 for writing, 3 for changing the size. Whoever comes puts its own locks first and then looks for those of
//! others that stand against it; of two that come at once both may go away, never both stay.
//!
//! * **L1** All handles of one file in this store share one open file for their locks: a lock of another open file
//!   would look like a stranger's, and the system says of none whose it is.
//! * **L2** A byte is locked as long as one handle needs it.
//! * **L3** Where the file system knows no locks, nobody holds any, and nothing is refused.
//!
//! Bytes 0 and 1 belong to libvirt and are never touched. A program that does not speak this way, `dd` say, is not kept
//! out by any of it.

use super::super::{BlobName, Error, Hold, Holder, Identity, Operation, Result};
use super::holder;
use super::lock::{kind, range};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Arc;

/// "I read".
const USES_READ: i64 = 100;
/// "I write".
const USES_WRITE: i64 = 101;
/// "I change the size".
const USES_RESIZE: i64 = 103;
/// "Nobody else may read".
const BARS_READ: i64 = 200;
/// "Nobody else may write".
const BARS_WRITE: i64 = 201;
/// "Nobody else may change the size".
const BARS_RESIZE: i64 = 203;

/// What a hold locks, and whose locks stand against it: QEMU's sets for an image that it reads, and for one that it
/// writes.
const fn bytes(hold: Hold) -> (&'static [i64], &'static [i64]) {
    match hold {
        Hold::Read => (&[USES_READ, BARS_WRITE, BARS_RESIZE], &[BARS_READ, USES_WRITE, USES_RESIZE]),
        Hold::Write => (
            &[USES_READ, USES_WRITE, USES_RESIZE, BARS_WRITE, BARS_RESIZE],
            &[BARS_READ, BARS_WRITE, BARS_RESIZE, USES_WRITE, USES_RESIZE],
        ),
    }
}

/// The locks that the handles of one store hold.
#[derive(Debug, Default)]
pub(super) struct HeldLocks {
    held: Mutex<HashMap<Identity, Held>>,
}

/// The locks on one file.
#[derive(Debug)]
struct Held {
    /// The open file that has them (L1).
    file: Arc<File>,
    readers: usize,
    writers: usize,
}

impl Held {
    /// Whether a byte is needed by one of the handles (L2).
    fn needs(&self, byte: i64) -> bool {
        let needed = |hold, count| count > 0 && bytes(hold).0.contains(&byte);
        needed(Hold::Read, self.readers) || needed(Hold::Write, self.writers)
    }

    fn count(&mut self, hold: Hold) -> &mut usize {
        match hold {
            Hold::Read => &mut self.readers,
            Hold::Write => &mut self.writers,
        }
    }

    /// Gives up the bytes of a hold that no other one needs.
    fn give_up(&self, hold: Hold) {
        for byte in bytes(hold).0.iter().filter(|byte| !self.needs(**byte)) {
            // Nothing can be done about a failure, and closing the file gives the lock up all the same.
            let _ = fcntl(&*self.file, FcntlArg::F_OFD_SETLK(&range(libc::F_UNLCK, *byte, 1)));
        }
    }
}

/// One handle's hold on a file; given up when it is dropped.
#[derive(Debug)]
pub(super) struct ImageHold {
    locks: Arc<HeldLocks>,
    identity: Identity,
    hold: Hold,
}

impl HeldLocks {
    /// Holds the file of a blob, or says who stands against it.
    pub(super) fn hold(
        self: &Arc<Self>,
        name: &BlobName,
        identity: Identity,
        file: &Arc<File>,
        hold: Hold,
    ) -> Result<ImageHold> {
        let taken = self.take(identity, file, hold);
        let taken = taken.map_err(|source| Error::failed(Operation::Hold, name, source))?;
        taken.map_err(|holder| Error::InUse { name: name.clone(), holder })
    }

    fn take(
        self: &Arc<Self>,
        identity: Identity,
        file: &Arc<File>,
        hold: Hold,
    ) -> io::Result<std::result::Result<ImageHold, Holder>> {
        let mut table = self.held.lock();
        let held =
            table.entry(identity).or_insert_with(|| Held { file: Arc::clone(file), readers: 0, writers: 0 });
        let (own, against) = bytes(hold);
        let mut lacking = own.iter().filter(|byte| !held.needs(**byte));
        let taken = lacking.try_for_each(|byte| lock_byte(&held.file, *byte));
        let found = taken.and_then(|()| {
            // One look at all bytes is enough where nobody else is.
            if !is_any_elsewhere(&held.file)? {
                return Ok(None);
            }
            against.iter().try_fold(None, |found, byte| match found {
                None => byte_elsewhere(&held.file, identity, *byte),
                found => Ok(found),
            })
        });
        if let Ok(None) = &found {
            *held.count(hold) += 1;
            return Ok(Ok(ImageHold { locks: Arc::clone(self), identity, hold }));
        }
        held.give_up(hold);
        if held.readers + held.writers == 0 {
            table.remove(&identity);
        }
        Ok(Err(found?.expect("without a holder the hold was given out above")))
    }

    /// Who else may write to a file, by the locks.
    pub(super) fn writer_elsewhere(&self, identity: Identity, file: &File) -> io::Result<Option<Holder>> {
        let table = self.held.lock();
        let file = table.get(&identity).map_or(file, |held| &*held.file);
        byte_elsewhere(file, identity, USES_WRITE)
    }
}

impl Drop for ImageHold {
    fn drop(&mut self) {
        let mut table = self.locks.held.lock();
        let Some(held) = table.get_mut(&self.identity) else { return };
        *held.count(self.hold) -= 1;
        held.give_up(self.hold);
        if held.readers + held.writers == 0 {
            table.remove(&self.identity);
        }
    }
}

/// Puts a read lock on one byte, as QEMU does: locks of this kind stand beside each other.
fn lock_byte(file: &File, byte: i64) -> io::Result<()> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&range(libc::F_RDLCK, byte, 1))) {
        Ok(_) => Ok(()),
        // Somebody's write lock, which QEMU never puts there, is found by the look that follows; L3.
        Err(Errno::EAGAIN | Errno::EACCES | Errno::EOPNOTSUPP | Errno::ENOLCK) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether anybody holds any of the bytes through another open file.
fn is_any_elsewhere(file: &File) -> io::Result<bool> {
    let mut found = range(libc::F_WRLCK, USES_READ, BARS_RESIZE - USES_READ + 1);
    match fcntl(file, FcntlArg::F_OFD_GETLK(&mut found)) {
        Ok(_) => Ok(found.l_type != kind(libc::F_UNLCK)),
        // L3
        Err(Errno::EOPNOTSUPP | Errno::ENOLCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Who holds a byte through another open file, whatever kind of lock it is.
fn byte_elsewhere(file: &File, identity: Identity, byte: i64) -> io::Result<Option<Holder>> {
    let mut found = range(libc::F_WRLCK, byte, 1);
    match fcntl(file, FcntlArg::F_OFD_GETLK(&mut found)) {
        Ok(_) => {}
        // L3
        Err(Errno::EOPNOTSUPP | Errno::ENOLCK) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    }
    if found.l_type == kind(libc::F_UNLCK) {
        return Ok(None);
    }
    // The system names the process of a lock of the old kind, and says -1 for one of an open file.
    let process = match u32::try_from(found.l_pid) {
        Ok(process) if process > 0 => Some(process),
        _ => holder::find(identity, byte),
    };
    Ok(Some(Holder { process }))
}
