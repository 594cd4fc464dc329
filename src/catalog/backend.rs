//! The database's file is one of our blobs: memory, disk and the simulated disk all carry the catalogue.
//!
//! Promises of the blob that the database leans on: reads are exact (B2), new bytes are zeros (B3), and what was
//! written is durable after a sync that succeeded (B4). A failed call keeps the blob's own error as the source, so
//! that it comes out of the catalogue as it went in; the database itself refuses to go on after it. So it does when the
//! [`Fence`] finds that somebody else has written the file.

use super::fence::Fence;
use crate::storage::{self, Blob};
use crate::units::{ByteCount, HostOffset};
use redb::StorageBackend;
use std::io;
use std::sync::Arc;

/// A blob as the database wants it.
#[derive(Debug)]
pub struct Backend {
    blob: Arc<dyn Blob>,
    fence: Arc<Fence>,
}

impl Backend {
    /// Wraps a blob, of which nothing was read yet.
    pub fn new(blob: Arc<dyn Blob>) -> storage::Result<Self> {
        let fence = Arc::new(Fence::around(blob.clone())?);
        Ok(Self { blob, fence })
    }

    /// What tells whether the blob is still ours.
    pub fn fence(&self) -> Arc<Fence> {
        Arc::clone(&self.fence)
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
        // Without a part in what is written between two syncs: it may come after the last one of them.
        self.fence.look()?;
        self.blob.set_length(ByteCount::new(length)).map_err(keep)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.blob.sync().map_err(keep)?;
        self.fence.synced();
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.fence.admit()?;
        self.fence.write(offset, bytes).map_err(keep)
    }
}

/// Carries a blob's error through the database.
pub(super) fn keep(error: storage::Error) -> io::Error {
    io::Error::other(error)
}

#[cfg(test)]
mod tests {
    use super::super::fence::NotOwner;
    use super::super::testing::MemoryBlob;
    use super::*;
    use crate::storage::Operation;

    #[test]
    fn what_is_written_is_read_and_new_bytes_are_zero() -> io::Result<()> {
        let backend = Backend::new(MemoryBlob::empty()).map_err(keep)?;
        backend.set_len(8)?;
        backend.write(2, b"abc")?;
        let mut bytes = [1; 8];
        backend.read(0, &mut bytes)?;
        assert_eq!(&bytes, b"\0\0abc\0\0\0");
        assert_eq!(backend.len()?, 8);
        Ok(())
    }

    #[test]
    fn a_failed_call_keeps_the_error_of_the_blob() -> storage::Result<()> {
        let blob = MemoryBlob::empty();
        blob.fail_syncs();
        let error = Backend::new(blob.clone())?.sync_data().expect_err("the sync was told to fail");
        let Ok(storage::Error::SyncFailed { operation: Operation::Sync, .. }) = error.downcast() else {
            panic!("the error of the blob is lost");
        };
        let error = Backend::new(blob)?.read(0, &mut [0]).expect_err("there is nothing to read");
        let Ok(storage::Error::PastEnd { .. }) = error.downcast() else {
            panic!("the error of the blob is lost");
        };
        Ok(())
    }

    #[test]
    fn what_somebody_else_has_written_is_not_written_over() -> io::Result<()> {
        let blob = MemoryBlob::empty();
        let ours = Backend::new(blob.clone()).map_err(keep)?;
        ours.set_len(4096)?;
        ours.write(0, b"ours")?;
        ours.write(2000, b"far from the header")?;
        ours.sync_data()?;
        ours.write(9, b"again")?;
        ours.sync_data()?;
        let theirs = Backend::new(blob.clone()).map_err(keep)?;
        theirs.write(100, b"theirs")?;
        theirs.sync_data()?;
        ours.fence().begin(7);
        assert_eq!(ours.fence().check(), Ok(()), "nobody has looked yet");
        let before = blob.bytes();
        for refused in [ours.write(3000, b"late"), ours.set_len(10), ours.write(0, b"late")] {
            let error = refused.expect_err("somebody else's bytes were written over");
            assert_eq!(error.downcast::<NotOwner>().ok(), Some(NotOwner { epoch: 7 }));
        }
        assert_eq!((ours.fence().check(), blob.bytes()), (Err(NotOwner { epoch: 7 }), before));
        theirs.write(0, b"on")
    }
}
