//! The lock of the store: a lock of an open file description.
//!
//! Such a lock belongs to the open file, not to the process: a second open in the same process is refused like
//! one in another, and it goes when the last descriptor does, however the process ends.

use super::super::{BlobName, Error, Holder, Operation, Owned, Result};
use super::LOCK_FILE;
use super::directory::Directory;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// The store is owned while this lives.
#[derive(Debug)]
struct DiskOwner {
    file: Arc<File>,
}

impl Owned for DiskOwner {}

impl Drop for DiskOwner {
    fn drop(&mut self) {
        // Closing would do, were it not for a process that was forked meanwhile and has the descriptor too.
        let _ = fcntl(&*self.file, FcntlArg::F_OFD_SETLK(&range(libc::F_UNLCK, 0, 0)));
    }
}

/// Takes the lock file of a store. The file stays when the lock goes: removing it could let two owners in.
pub(super) fn own(directory: &Directory, path: &Path) -> Result<Box<dyn Owned>> {
    let name = BlobName::parse(LOCK_FILE).expect("the name of the lock file is one plain component");
    let file = directory.open_or_create(&name, 0o600)?.file;
    match fcntl(&*file, FcntlArg::F_OFD_SETLK(&range(libc::F_WRLCK, 0, 0))) {
        Ok(_) => {}
        Err(Errno::EAGAIN | Errno::EACCES) => {
            return Err(Error::Locked {
                location: path.display().to_string(),
                holder: Some(Holder { process: note_read(&file) }),
            });
        }
        Err(errno) => return Err(Error::failed(Operation::Lock, path.display(), errno.into())),
    }
    note_write(&file);
    Ok(Box::new(DiskOwner { file }))
}

/// Leaves our process id in the lock file, for the message of whoever is refused. Nothing depends on it.
fn note_write(file: &File) {
    let note = format!("{}\n", std::process::id());
    let _ = file.set_len(0).and_then(|()| file.write_all_at(note.as_bytes(), 0));
}

/// The process id in the lock file, when there is one that can be read.
fn note_read(file: &File) -> Option<u32> {
    let mut note = [0; 16];
    let length = file.read_at(&mut note, 0).ok()?;
    std::str::from_utf8(&note[..length]).ok()?.trim().parse().ok()
}

/// A lock of `length` bytes from `start` on; a length of 0 is the whole file.
pub(super) fn range(lock: i32, start: i64, length: i64) -> libc::flock {
    let whence = i16::try_from(libc::SEEK_SET).expect("the constants of lseek are small");
    libc::flock { l_type: kind(lock), l_whence: whence, l_start: start, l_len: length, l_pid: 0 }
}

/// The kind of a lock as the structure holds it.
pub(super) fn kind(lock: i32) -> i16 {
    i16::try_from(lock).expect("the constants of fcntl are small")
}
