//! Files that belong to no store: one that appears whole or not at all, and one that is only read.
//!
//! A new file is written under a name that nobody looks for, in the directory where it will be: a name is moved
//! within one file system only. Its bytes are durable before it gets its name, and its name before
//! [`ExportFile::persist`] returns. So whoever finds the name finds all the bytes, after a power cut too.

use super::super::{Access, Blob, BlobName, Error, Operation, Result, fuse};
use super::blob::DiskBlob;
use super::directory::{Directory, Opened};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

/// What becomes of a file that has the name already.
///
/// An example is at [`DiskOptions`](crate::storage::DiskOptions).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Replace {
    /// It stays, and the new one is refused.
    #[default]
    Never,
    /// It stays as it is until the new one takes its name in one step. A link is replaced, not followed.
    Atomically,
}

/// A new file at any path, which is there whole or not at all.
///
/// It is of mode 0600. Until [`ExportFile::persist`] it has a name of its own beside the path,
/// `.snapgroup-<uuid>.part`, which goes when this is dropped; a process that is killed leaves it behind.
///
/// ```
/// use snapgroup::storage::{Error, ExportFile};
/// use snapgroup::units::HostOffset;
///
/// # let directory = tempfile::tempdir()?;
/// let path = directory.path().join("export.raw");
/// let file = ExportFile::create(&path)?;
/// file.blob().write_at(HostOffset::ZERO, b"guest data")?;
/// assert!(!path.exists());
/// file.persist()?;
/// assert_eq!(std::fs::read(&path)?, b"guest data");
///
/// let Err(Error::Exists { .. }) = ExportFile::create(&path) else { panic!("made twice") };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Another example is at [`DiskOptions`](crate::storage::DiskOptions).
#[derive(Debug)]
pub struct ExportFile {
    path: PathBuf,
    /// The last component of the path, and the same for messages.
    target: OsString,
    label: BlobName,
    replace: Replace,
    directory: Directory,
    /// The name until the file has its own; `None` from then on.
    temporary: Option<BlobName>,
    blob: Arc<dyn Blob>,
}

impl ExportFile {
    /// Makes a new, empty file that will be at `path`, where no file is yet ([`Replace::Never`]).
    ///
    /// # Errors
    ///
    /// [`Error::Exists`] when the path is taken, by whatever; [`Error::Io`], also when the directory is absent or
    /// the path ends in no name.
    pub fn create(path: &Path) -> Result<Self> {
        Self::create_with(path, Replace::Never)
    }

    /// Makes a new, empty file that will be at `path`, and says what becomes of one that is there.
    ///
    /// # Errors
    ///
    /// As [`ExportFile::create`]; with [`Replace::Atomically`] a path that is taken is none.
    pub fn create_with(path: &Path, replace: Replace) -> Result<Self> {
        let failed = |source: io::Error| Error::failed(Operation::Create, path.display(), source);
        let Some(target) = path.file_name() else { return Err(failed(io::ErrorKind::InvalidInput.into())) };
        let label = label(path);
        let directory = Directory::open(super::directory::parent(path)).map_err(failed)?;
        // Asked again when the name is taken; asked here so that nobody exports a disk for nothing.
        if replace == Replace::Never && directory.is_taken(target).map_err(|errno| failed(errno.into()))? {
            return Err(Error::Exists { name: label });
        }
        let temporary = BlobName::parse(&format!(".snapgroup-{}.part", Uuid::new_v4()))
            .expect("a uuid between plain letters is one component");
        let file = directory.create(&temporary, 0o600)?;
        let blob = DiskBlob::kept(label.clone(), Access::Write, file, None, None);
        Ok(Self {
            path: path.to_owned(),
            target: target.to_owned(),
            label,
            replace,
            directory,
            temporary: Some(temporary),
            blob: fuse::fused_alone(Arc::new(blob)),
        })
    }

    /// The bytes of the file, for writing. After a failed [`Blob::sync`] nothing more is written, and the file is
    /// never put in place ([`Error::Poisoned`]).
    ///
    /// A handle that is kept stays good; what it writes after [`ExportFile::persist`] is in the file at the path.
    #[must_use]
    pub fn blob(&self) -> Arc<dyn Blob> {
        Arc::clone(&self.blob)
    }

    /// Makes the bytes durable, gives the file its name in one step, and makes the name durable.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`] when the path is taken by now and nothing may be replaced, [`Error::Io`],
    /// [`Error::Poisoned`] and [`Error::SyncFailed`] of [`Operation::Sync`]: the file is gone, and what was at the
    /// path is as it was. [`Error::SyncFailed`] of [`Operation::SyncNames`]: the file is at the path, but whether
    /// it is after a power cut is unknown.
    pub fn persist(self) -> Result<()> {
        Self::persist_all([self])
    }

    /// Puts many files in place: makes the bytes of all of them durable, then gives each its name, then makes the names
    /// durable.
    ///
    /// ```
    /// use snapgroup::storage::{Error, ExportFile};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = |name: &str| directory.path().join(name);
    /// let files = [ExportFile::create(&path("system.raw"))?, ExportFile::create(&path("data.raw"))?];
    /// std::fs::write(path("data.raw"), b"somebody else's")?;
    /// let Err(Error::Exists { .. }) = ExportFile::persist_all(files) else { panic!("the name is taken") };
    /// assert!(!path("system.raw").exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`ExportFile::persist`]. All files are gone, and what was at the paths is as it was, unless it is
    /// [`Error::SyncFailed`] of [`Operation::SyncNames`]. What [`Replace::Atomically`] has replaced by then does
    /// not come back, and its new file stays.
    pub fn persist_all(files: impl IntoIterator<Item = Self>) -> Result<()> {
        let mut files: Vec<_> = files.into_iter().collect();
        for file in &files {
            file.blob.sync()?;
        }
        for index in 0..files.len() {
            if let Err(error) = files[index].put_in_place() {
                for placed in files[..index].iter().filter(|file| file.replace == Replace::Never) {
                    // Nobody can be told of what cannot be removed again.
                    let _ = placed.directory.take_away(&placed.target);
                }
                return Err(error);
            }
        }
        for file in &files {
            file.directory
                .sync()
                .map_err(|source| Error::failed(Operation::SyncNames, file.path.display(), source))?;
        }
        Ok(())
    }

    /// Gives a durable file its name.
    fn put_in_place(&mut self) -> Result<()> {
        let temporary = self.temporary.as_ref().expect("only this call, which is made once, takes the name");
        match self.directory.put_in_place(temporary, &self.target, self.replace) {
            Ok(()) => self.temporary = None,
            Err(Errno::EEXIST) if self.replace == Replace::Never => {
                return Err(Error::Exists { name: self.label.clone() });
            }
            Err(errno) => return Err(Error::failed(Operation::Persist, self.path.display(), errno.into())),
        }
        Ok(())
    }
}

impl Drop for ExportFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Nobody can be told; what stays behind is a file that nobody looks for.
            let _ = self.directory.remove(temporary);
        }
    }
}

/// Opens an existing file at any path for reading only. Links are followed, as the path is the caller's own.
///
/// ```
/// use snapgroup::storage::open_file;
/// use snapgroup::units::HostOffset;
///
/// # let directory = tempfile::tempdir()?;
/// let path = directory.path().join("import.raw");
/// std::fs::write(&path, b"guest data")?;
/// let mut bytes = [0; 5];
/// open_file(&path)?.read_at(HostOffset::ZERO, &mut bytes)?;
/// assert_eq!(&bytes, b"guest");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`Error::NotFound`]; [`Error::NotRegular`] for a directory, a device, a pipe or a socket; [`Error::Io`].
pub fn open_file(path: &Path) -> Result<Arc<dyn Blob>> {
    let failed = |source: io::Error| Error::failed(Operation::Open, path.display(), source);
    // O_NONBLOCK keeps a pipe from blocking the open; on a plain file it does nothing.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::NotFound { name: label(path) });
        }
        // A socket, or a device without a driver.
        Err(error)
            if [Errno::ENXIO, Errno::ENODEV].map(|no| Some(no as i32)).contains(&error.raw_os_error()) =>
        {
            return Err(Error::NotRegular { name: label(path) });
        }
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(Error::NotRegular { name: label(path) });
    }
    let opened = Opened { file: Arc::new(file), metadata };
    Ok(Arc::new(DiskBlob::kept(label(path), Access::Read, opened, None, None)))
}

/// The last component of a path as messages name it: what no [`BlobName`] may hold is written as `�`.
fn label(path: &Path) -> BlobName {
    let mut label = String::new();
    for letter in path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().chars() {
        let letter = if letter.is_control() || letter == '/' { char::REPLACEMENT_CHARACTER } else { letter };
        // A component of invalid bytes gets three times as long.
        if label.len() + letter.len_utf8() > BlobName::LENGTH_MAX {
            break;
        }
        label.push(letter);
    }
    BlobName::parse(&label).unwrap_or_else(|_| BlobName::parse("file").expect("a plain word is a name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn every_path_has_a_label_for_messages() {
        let odd = OsStr::from_bytes(&[0xFF; 255]);
        let cases: [(&Path, &str); 8] = [
            (Path::new("a/b.raw"), "b.raw"),
            (Path::new("a/b/"), "b"),
            (Path::new("line\nbreak"), "line\u{FFFD}break"),
            (Path::new(""), "file"),
            (Path::new(".."), "file"),
            (Path::new("/"), "\u{FFFD}"),
            (Path::new(OsStr::from_bytes(b"\xFFx")), "\u{FFFD}x"),
            (Path::new(odd), &"\u{FFFD}".repeat(85)),
        ];
        for (path, expected) in cases {
            assert_eq!(label(path).as_str(), expected, "{path:?}");
        }
    }
}
