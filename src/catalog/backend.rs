//! The database's file is one of our blobs: memory, disk and the simulated disk all carry the catalogue.
//!
//! Promises of the blob that the database leans on: reads are exact (B2), new bytes are zeros (B3), and what was
//! written is durable after a sync that succeeded (B4). A failed call keeps the blob's own error as the source, so
//! that it comes out of the catalogue as it went in; the database itself refuses to go on after it.

use crate::storage::{self, Blob};
use crate::units::{ByteCount, HostOffset};
use redb::StorageBackend;
use std::io;
use std::sync::Arc;

/// A blob as the database wants it.
#[derive(Debug)]
pub struct Backend {
    blob: Arc<dyn Blob>,
}

impl Backend {
    /// Wraps a blob.
    pub fn new(blob: Arc<dyn Blob>) -> Self {
        Self { blob }
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.blob.length().map_err(keep)?.as_u64())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.blob.read_at(HostOffset::new(offset), out).map_err(keep)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.blob.set_length(ByteCount::new(length)).map_err(keep)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.blob.sync().map_err(keep)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.blob.write_at(HostOffset::new(offset), bytes).map_err(keep)
    }
}

/// Carries a blob's error through the database.
pub(super) fn keep(error: storage::Error) -> io::Error {
    io::Error::other(error)
}

#[cfg(test)]
mod tests {
    use super::super::testing::MemoryBlob;
    use super::*;
    use crate::storage::Operation;

    #[test]
    fn what_is_written_is_read_and_new_bytes_are_zero() -> io::Result<()> {
        let backend = Backend::new(MemoryBlob::empty());
        backend.set_len(8)?;
        backend.write(2, b"abc")?;
        let mut bytes = [1; 8];
        backend.read(0, &mut bytes)?;
        assert_eq!(&bytes, b"\0\0abc\0\0\0");
        assert_eq!(backend.len()?, 8);
        Ok(())
    }

    #[test]
    fn a_failed_call_keeps_the_error_of_the_blob() {
        let blob = MemoryBlob::empty();
        blob.fail_syncs();
        let error = Backend::new(blob.clone()).sync_data().expect_err("the sync was told to fail");
        let Ok(storage::Error::SyncFailed { operation: Operation::Sync, .. }) = error.downcast() else {
            panic!("the error of the blob is lost");
        };
        let error = Backend::new(blob).read(0, &mut [0]).expect_err("there is nothing to read");
        let Ok(storage::Error::PastEnd { .. }) = error.downcast() else {
            panic!("the error of the blob is lost");
        };
    }
}
