//! One layer as qcow2-rs reads it.

use crate::storage::{self, Blob, read_zero_extended};
use crate::units::{ByteCount, HostOffset};
use ::qcow2_rs::error::Qcow2Result;
use ::qcow2_rs::ops::Qcow2IoOps;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How much of a header is read: no header that is lawful is larger.
const HEAD: ByteCount = ByteCount::kib(64);

/// The file of one layer, open for reading. What qcow2-rs wants written is refused.
///
/// An example is at [`qcow2_rs`](crate::qcow2_rs).
#[derive(Debug)]
pub struct LayerIo {
    blob: Arc<dyn Blob>,
    /// The length when it was asked for last. A file may get longer: reclaiming moves clusters up into it.
    length: AtomicU64,
}

impl LayerIo {
    pub(super) fn new(blob: Arc<dyn Blob>) -> storage::Result<Self> {
        let length = AtomicU64::new(blob.length()?.as_u64());
        Ok(Self { blob, length })
    }

    /// The beginning of the file, zeros behind its end.
    pub(super) fn head(&self) -> storage::Result<Vec<u8>> {
        let mut head = vec![0; HEAD.as_usize()];
        self.read(HostOffset::ZERO, &mut head)?;
        Ok(head)
    }

    fn read(&self, at: HostOffset, buffer: &mut [u8]) -> storage::Result<()> {
        let mut end = ByteCount::new(self.length.load(Ordering::Relaxed));
        if at.as_length() + ByteCount::of(buffer.len()) > end {
            end = self.blob.length()?;
            self.length.store(end.as_u64(), Ordering::Relaxed);
        }
        read_zero_extended(&*self.blob, end, at, buffer)
    }
}

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "a snapshot is not written")
}

impl Qcow2IoOps for LayerIo {
    async fn read_to(&self, offset: u64, buf: &mut [u8]) -> Qcow2Result<usize> {
        self.read(HostOffset::new(offset), buf).map_err(io::Error::other)?;
        Ok(buf.len())
    }

    async fn write_from(&self, _: u64, _: &[u8]) -> Qcow2Result<()> {
        Err(refused().into())
    }

    async fn fallocate(&self, _: u64, _: usize, _: u32) -> Qcow2Result<()> {
        Err(refused().into())
    }

    async fn fsync(&self, _: u64, _: usize, _: u32) -> Qcow2Result<()> {
        Ok(())
    }
}
