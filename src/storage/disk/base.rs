//! A directory beside the store, of which files are only read.

use super::super::{BlobName, Error, Operation, Result};
use super::directory::{Directory, Opened};
use std::io;
use std::path::{Component, Path, PathBuf};

/// A base directory that was declared.
#[derive(Debug)]
pub(super) struct Base {
    path: PathBuf,
    directory: Directory,
}

impl Base {
    /// Opens a directory by an absolute path.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |source| Error::failed(Operation::OpenStore, path.display(), source);
        if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
            let rule = "a base directory is declared by an absolute path without '..'";
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, rule)));
        }
        let directory = Directory::open(path).map_err(failed)?;
        Ok(Self { path: path.to_owned(), directory })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The way from the directory to a file, when it lies below it.
    fn way<'a>(&self, name: &'a BlobName) -> Option<&'a str> {
        let below = Path::new(name.as_str()).strip_prefix(&self.path).ok()?;
        below.to_str().filter(|way| !way.is_empty())
    }

    /// Whether a file lies below it by its name, and the directory is where its path says.
    pub(super) fn has(&self, name: &BlobName) -> bool {
        self.way(name).is_some() && self.directory.is_at(&self.path)
    }

    /// Opens a file for reading; `None` when it does not lie below the directory by its name.
    pub(super) fn open_file(&self, name: &BlobName) -> Option<Result<Opened>> {
        self.way(name).map(|way| self.directory.open_further_below(name, way))
    }
}
