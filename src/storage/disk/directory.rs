//! The handle of the directory: every file is reached through it, one component below, and no link is followed. Of a base
//! directory files further below are reached, too, with no link on the way (D1).
//!
//! * **D1** A name is one component already ([`BlobName`]), so a plain `openat` could not leave the directory
//!   by `..` or by a path. `openat2` makes the kernel hold to that too, and `O_NOFOLLOW` keeps out a link that
//!   somebody laid in the directory. Where there is no `openat2` (an old kernel, a sandbox that does not know
//!   it), `openat` with `O_NOFOLLOW` does the same for one component.
//! * **D2** What was opened is asked what it is before it is used: a plain file, or nothing. `O_NONBLOCK` keeps a
//!   pipe from blocking the open; on a plain file it does nothing.
//! * **D3** The directory may be renamed or its path replaced meanwhile: the handle stays in the one it opened.

use super::super::{Access, BlobName, Error, Identity, Operation, Result};
use super::export::Replace;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, renameat};
#[cfg(target_env = "gnu")]
use nix::fcntl::{RenameFlags, renameat2};
use nix::sys::stat::{Mode, SFlag, fchmod, fstatat};
use nix::unistd::{UnlinkatFlags, fsync, linkat, unlinkat};
use std::ffi::OsStr;
use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions, set_permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

/// What a mode says of permissions.
const PERMISSIONS: u32 = 0o7777;

/// An open directory.
#[derive(Debug)]
pub(super) struct Directory {
    handle: File,
}

/// An open plain file and what the system said about it.
pub(super) struct Opened {
    /// The file.
    pub(super) file: Arc<File>,
    /// What was asked right after opening.
    pub(super) metadata: Metadata,
}

impl Opened {
    /// Which file it is.
    pub(super) fn identity(&self) -> Identity {
        Identity { device: self.metadata.dev(), number: self.metadata.ino() }
    }
}

impl Directory {
    /// Opens an existing directory.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let handle = OpenOptions::new().read(true).custom_flags(OFlag::O_DIRECTORY.bits()).open(path)?;
        Ok(Self { handle })
    }

    /// Makes a directory of mode 0700, durably, or leaves the one that is there as it is.
    pub(super) fn make(path: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            made => made?,
        }
        set_permissions(path, Permissions::from_mode(0o700))?;
        Self::open(parent(path))?.sync()
    }

    /// Makes a new file of exactly this mode, whatever the umask.
    pub(super) fn create(&self, name: &BlobName, mode: u32) -> Result<Opened> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
        let mode = Mode::from_bits_truncate(mode);
        let file = match self.open_below(name.as_str(), flags, mode) {
            Ok(file) => file,
            Err(Errno::EEXIST) => return Err(Error::Exists { name: name.clone() }),
            Err(errno) => return Err(Error::failed(Operation::Create, name, errno.into())),
        };
        let ready = file.metadata().and_then(|metadata| {
            // The umask has taken something away.
            if metadata.mode() & PERMISSIONS != mode.bits() {
                fchmod(&file, mode)?;
            }
            Ok(metadata)
        });
        match ready {
            Ok(metadata) => Ok(Opened { file: Arc::new(file), metadata }),
            Err(source) => {
                // Nobody has been told of the file yet; left behind it would only take the name.
                let _ = unlinkat(&self.handle, name.as_str(), UnlinkatFlags::NoRemoveDir);
                Err(Error::failed(Operation::Create, name, source))
            }
        }
    }

    /// Opens an existing plain file.
    pub(super) fn open_file(&self, name: &BlobName, access: Access) -> Result<Opened> {
        let flags = match access {
            Access::Read => OFlag::O_RDONLY,
            Access::Write => OFlag::O_RDWR,
        };
        opened(name, self.open_below(name.as_str(), flags, Mode::empty()))
    }

    /// Opens an existing plain file for reading, by the way to it below the directory: plain components. `name` is for
    /// messages.
    pub(super) fn open_further_below(&self, name: &BlobName, way: &str) -> Result<Opened> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let found = match self.open_beneath(way, flags, Mode::empty()) {
            Err(Errno::ENOSYS | Errno::EPERM) => self.walk_plainly(way, flags),
            found => found,
        };
        opened(name, found)
    }

    /// Whether the directory is the one that a path leads to.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        let identity = |file: &File| file.metadata().map(|metadata| (metadata.dev(), metadata.ino())).ok();
        let there = Self::open(path).ok().and_then(|there| identity(&there.handle));
        there.is_some() && there == identity(&self.handle)
    }

    /// Opens a plain file for writing, and makes it when it is absent.
    pub(super) fn open_or_create(&self, name: &BlobName, mode: u32) -> Result<Opened> {
        match self.open_file(name, Access::Write) {
            Err(Error::NotFound { .. }) => match self.create(name, mode) {
                // Somebody else made it in between; the file is never removed, so this ends here.
                Err(Error::Exists { .. }) => self.open_file(name, Access::Write),
                made => made,
            },
            opened => opened,
        }
    }

    /// Removes the name of a plain file.
    pub(super) fn remove(&self, name: &BlobName) -> Result<()> {
        let absent = || Error::NotFound { name: name.clone() };
        let failed = |errno: Errno| Error::failed(Operation::Remove, name, errno.into());
        match self.is_regular(name.as_str()) {
            Ok(true) => {}
            Ok(false) => return Err(Error::NotRegular { name: name.clone() }),
            Err(Errno::ENOENT) => return Err(absent()),
            Err(errno) => return Err(failed(errno)),
        }
        match unlinkat(&self.handle, name.as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(()),
            Err(Errno::ENOENT) => Err(absent()),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// The names of all plain files, in no order; names that are no [`BlobName`] are left out.
    pub(super) fn list(&self) -> io::Result<Vec<BlobName>> {
        // Opened anew, so that two lists do not share one position in the directory.
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let entries = Dir::openat(&self.handle, ".", flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            let Ok(text) = entry.file_name().to_str() else { continue };
            let Ok(name) = BlobName::parse(text) else { continue };
            let is_regular = match entry.file_type() {
                Some(kind) => kind == Type::File,
                None => match self.is_regular(text) {
                    Ok(is_regular) => is_regular,
                    Err(Errno::ENOENT) => false,
                    Err(errno) => return Err(errno.into()),
                },
            };
            if is_regular {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Makes names that were made and removed durable. Called once: a second try would prove nothing.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(fsync(&self.handle)?)
    }

    /// Whether anything has a name, a link that leads nowhere included.
    pub(super) fn is_taken(&self, name: &OsStr) -> nix::Result<bool> {
        match fstatat(&self.handle, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Gives a file another name in one step. [`Replace::Never`] fails with [`Errno::EEXIST`] when the name is taken.
    pub(super) fn put_in_place(&self, from: &BlobName, to: &OsStr, replace: Replace) -> nix::Result<()> {
        match replace {
            Replace::Atomically => renameat(&self.handle, from.as_str(), &self.handle, to),
            Replace::Never => match self.rename_to_new(from, to) {
                // The file system, the system or a sandbox does not know the flag.
                Err(Errno::EINVAL | Errno::ENOSYS | Errno::EPERM) => self.link_and_unlink(from, to),
                renamed => renamed,
            },
        }
    }

    /// Takes away again a name that was given to a new file.
    pub(super) fn take_away(&self, name: &OsStr) -> nix::Result<()> {
        unlinkat(&self.handle, name, UnlinkatFlags::NoRemoveDir)
    }

    /// The way in one call.
    #[cfg(target_env = "gnu")]
    fn rename_to_new(&self, from: &BlobName, to: &OsStr) -> nix::Result<()> {
        renameat2(&self.handle, from.as_str(), &self.handle, to, RenameFlags::RENAME_NOREPLACE)
    }

    /// No way in one call.
    #[cfg(not(target_env = "gnu"))]
    fn rename_to_new(&self, _from: &BlobName, _to: &OsStr) -> nix::Result<()> {
        Err(Errno::ENOSYS)
    }

    /// The way for a file system that has links of files. Cut off in between, the file has both names.
    fn link_and_unlink(&self, from: &BlobName, to: &OsStr) -> nix::Result<()> {
        linkat(&self.handle, from.as_str(), &self.handle, to, AtFlags::empty())?;
        // The file is where it belongs; a second name that stays is no reason to say that it is not.
        let _ = unlinkat(&self.handle, from.as_str(), UnlinkatFlags::NoRemoveDir);
        Ok(())
    }

    /// Whether a name leads to a plain file, without opening it.
    fn is_regular(&self, name: &str) -> nix::Result<bool> {
        let stat = fstatat(&self.handle, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        Ok(SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG)
    }

    /// Opens one component below the handle (D1).
    fn open_below(&self, name: &str, flags: OFlag, mode: Mode) -> nix::Result<File> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        match self.open_beneath(name, flags, mode) {
            Err(Errno::ENOSYS | Errno::EPERM) => self.open_plainly(name, flags, mode),
            opened => opened,
        }
    }

    /// The way that the kernel watches over.
    fn open_beneath(&self, name: &str, flags: OFlag, mode: Mode) -> nix::Result<File> {
        let how = OpenHow::new().flags(flags).mode(mode).resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_MAGICLINKS,
        );
        uninterrupted(|| openat2(&self.handle, name, how))
    }

    /// The same for a way of several components, one after the other.
    fn walk_plainly(&self, way: &str, flags: OFlag) -> nix::Result<File> {
        let (folders, file) = way.rsplit_once('/').unwrap_or(("", way));
        let mut folder: Option<Self> = None;
        for component in folders.split('/').filter(|component| !component.is_empty()) {
            let here = folder.as_ref().unwrap_or(self);
            let handle = here.open_plainly(component, flags | OFlag::O_DIRECTORY, Mode::empty())?;
            folder = Some(Self { handle });
        }
        folder.as_ref().unwrap_or(self).open_plainly(file, flags, Mode::empty())
    }

    /// The way for a system without `openat2`.
    fn open_plainly(&self, name: &str, flags: OFlag, mode: Mode) -> nix::Result<File> {
        uninterrupted(|| openat(&self.handle, name, flags, mode))
    }
}

/// The directory that a path lies in.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// What came of opening an existing plain file.
fn opened(name: &BlobName, found: nix::Result<File>) -> Result<Opened> {
    match found {
        Ok(file) => regular(name, file),
        // On the way there may be something else than a directory.
        Err(Errno::ENOENT | Errno::ENOTDIR) => Err(Error::NotFound { name: name.clone() }),
        // A link; a directory, asked for writing; a socket, or a device without a driver.
        Err(Errno::ELOOP | Errno::EISDIR | Errno::ENXIO | Errno::ENODEV) => {
            Err(Error::NotRegular { name: name.clone() })
        }
        Err(errno) => Err(Error::failed(Operation::Open, name, errno.into())),
    }
}

/// Asks an open file what it is (D2).
fn regular(name: &BlobName, file: File) -> Result<Opened> {
    let metadata = file.metadata().map_err(|source| Error::failed(Operation::Open, name, source))?;
    if metadata.is_file() {
        Ok(Opened { file: Arc::new(file), metadata })
    } else {
        Err(Error::NotRegular { name: name.clone() })
    }
}

/// Calls again as long as a signal got in between.
fn uninterrupted(call: impl Fn() -> nix::Result<OwnedFd>) -> nix::Result<File> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            done => return done.map(File::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    type Way = fn(&Directory, &str, OFlag, Mode) -> nix::Result<File>;

    #[test]
    fn both_ways_open_a_file_and_stop_at_a_link() -> io::Result<()> {
        let pool = tempfile::tempdir()?;
        std::fs::write(pool.path().join("plain"), b"ours")?;
        symlink("plain", pool.path().join("link"))?;
        let directory = Directory::open(pool.path())?;
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let create = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        let ways: [Way; 2] = [Directory::open_beneath, Directory::open_plainly];
        for (number, way) in ways.into_iter().enumerate() {
            match way(&directory, "plain", flags, Mode::empty()) {
                // A sandbox may know no `openat2`; then there is one way less to look at.
                Err(Errno::ENOSYS | Errno::EPERM) if number == 0 => continue,
                opened => assert!(opened?.metadata()?.is_file()),
            }
            let refusal = |name, flags, mode| way(&directory, name, flags, mode).map(drop);
            assert_eq!(refusal("link", flags, Mode::empty()), Err(Errno::ELOOP));
            assert_eq!(refusal("absent", flags, Mode::empty()), Err(Errno::ENOENT));
            assert_eq!(refusal("plain", create, Mode::S_IRWXU), Err(Errno::EEXIST));
            assert_eq!(refusal("link", create, Mode::S_IRWXU), Err(Errno::EEXIST));
        }
        Ok(())
    }

    type Move = fn(&Directory, &BlobName, &OsStr) -> nix::Result<()>;

    #[test]
    fn both_ways_put_a_file_in_place_and_none_replaces() -> io::Result<()> {
        let ways: [Move; 2] = [Directory::rename_to_new, Directory::link_and_unlink];
        for (number, way) in ways.into_iter().enumerate() {
            let pool = tempfile::tempdir()?;
            let directory = Directory::open(pool.path())?;
            let from = BlobName::parse("from").expect("one component");
            std::fs::write(pool.path().join("from"), b"new")?;
            std::fs::write(pool.path().join("taken"), b"old")?;
            symlink("absent", pool.path().join("link"))?;
            for taken in ["taken", "link"] {
                match way(&directory, &from, OsStr::new(taken)) {
                    Err(Errno::EINVAL | Errno::ENOSYS | Errno::EPERM) => {}
                    moved => assert_eq!(moved, Err(Errno::EEXIST), "way {number} onto {taken}"),
                }
            }
            assert_eq!(std::fs::read(pool.path().join("taken"))?, b"old");
            assert!(pool.path().join("from").exists());
            match way(&directory, &from, OsStr::new("to")) {
                // Not every file system has both.
                Err(Errno::EINVAL | Errno::ENOSYS | Errno::EPERM) => continue,
                moved => moved?,
            }
            assert_eq!(std::fs::read(pool.path().join("to"))?, b"new");
            assert!(!pool.path().join("from").exists(), "way {number}");
        }
        Ok(())
    }

    #[test]
    fn both_ways_further_below_follow_no_link() -> io::Result<()> {
        let base = tempfile::tempdir()?;
        std::fs::create_dir_all(base.path().join("a/b"))?;
        std::fs::write(base.path().join("a/b/plain"), b"ours")?;
        symlink("a", base.path().join("folder"))?;
        symlink("plain", base.path().join("a/b/link"))?;
        let directory = Directory::open(base.path())?;
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let kernel = |way: &str| directory.open_beneath(way, flags, Mode::empty());
        let plainly = |way: &str| directory.walk_plainly(way, flags);
        type Walk<'a> = &'a dyn Fn(&str) -> nix::Result<File>;
        let ways: [Walk<'_>; 2] = [&kernel, &plainly];
        for (number, way) in ways.into_iter().enumerate() {
            match way("a/b/plain") {
                Err(Errno::ENOSYS | Errno::EPERM) if number == 0 => continue,
                found => assert!(found?.metadata()?.is_file()),
            }
            assert_eq!(way("a/b/link").map(drop), Err(Errno::ELOOP));
            assert_eq!(way("a/b/absent").map(drop), Err(Errno::ENOENT));
            assert_eq!(way("a/b/plain/x").map(drop), Err(Errno::ENOTDIR));
            // Of a link on the way it is said that it is one, or that it is no directory.
            let Err(Errno::ELOOP | Errno::ENOTDIR) = way("folder/b/plain") else {
                panic!("way {number} followed a link");
            };
        }
        Ok(())
    }

    #[test]
    fn the_kernel_keeps_the_way_beneath_the_directory() -> io::Result<()> {
        let pool = tempfile::tempdir()?;
        let directory = Directory::open(pool.path())?;
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        for way in ["..", "../x", "/etc/passwd"] {
            match directory.open_beneath(way, flags, Mode::empty()) {
                Err(Errno::EXDEV | Errno::ENOSYS | Errno::EPERM) => {}
                other => panic!("{way}: {other:?}"),
            }
        }
        Ok(())
    }
}
