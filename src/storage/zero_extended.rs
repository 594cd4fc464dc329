//! Reading what may lie partly past the end of a blob.

use super::{Blob, Result};
use crate::units::{ByteCount, HostOffset};

/// Fills `buffer` with the bytes from `at` on, and with zeros from `end`, the length of the blob, on.
///
/// An image may end in the middle of its last cluster; the rest of that cluster reads as zeros. The length is the
/// caller's to know: asking for it would double the price of the read.
///
/// ```
/// use snapgroup::storage::{BlobName, MemoryStore, Store, read_zero_extended};
/// use snapgroup::units::{ByteCount, HostOffset};
///
/// let blob = MemoryStore::new().create(&BlobName::parse("image")?)?;
/// blob.write_at(HostOffset::ZERO, b"abc")?;
/// let mut cluster = [0xFF; 5];
/// read_zero_extended(&*blob, ByteCount::new(3), HostOffset::new(1), &mut cluster)?;
/// assert_eq!(&cluster, b"bc\0\0\0");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`Blob::read_at`]; [`Error::PastEnd`](super::Error::PastEnd) only when the blob is shorter than `end`.
pub fn read_zero_extended(blob: &dyn Blob, end: ByteCount, at: HostOffset, buffer: &mut [u8]) -> Result<()> {
    let there = end.saturating_sub(at.as_length()).min(ByteCount::of(buffer.len()));
    let (present, past) = buffer.split_at_mut(there.as_usize());
    past.fill(0);
    if present.is_empty() { Ok(()) } else { blob.read_at(at, present) }
}
