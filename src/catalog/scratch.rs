//! A blob that the database may write to and that keeps nothing of it: for looking at bytes that nobody vouches for.
//!
//! The database checks all its pages only when it is opened for writing, and then writes. Here what it writes stays in
//! memory, over the bytes of the blob, and is gone with it. Promises that the database leans on are those of
//! [`Backend`](super::backend::Backend); a read behind the end is an error before any byte of it is asked for.

use super::backend::keep;
use crate::storage::Blob;
use crate::units::HostOffset;
use parking_lot::Mutex;
use redb::StorageBackend;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// What is kept of a write is kept in pages of this size.
const PAGE: u64 = 4096;

/// A blob under a layer of pages in memory.
#[derive(Debug)]
pub struct Scratch {
    blob: Arc<dyn Blob>,
    written: Mutex<Written>,
}

/// What was written.
#[derive(Debug)]
struct Written {
    length: u64,
    /// What lies before it and was not written is still read from the blob; behind it are zeros.
    whole: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl Scratch {
    /// A scratch over a blob, which is never written.
    ///
    /// # Errors
    ///
    /// Those of [`Blob::length`].
    pub fn over(blob: Arc<dyn Blob>) -> crate::storage::Result<Self> {
        let length = blob.length()?.as_u64();
        let written = Written { length, whole: length, pages: BTreeMap::new() };
        Ok(Self { blob, written: Mutex::new(written) })
    }

    /// The bytes of the blob that are still seen in a range, and zeros behind them.
    fn read_below(&self, whole: u64, range: Range<u64>, out: &mut [u8]) -> io::Result<()> {
        let seen = range.end.min(whole).saturating_sub(range.start);
        let (seen, zeros) = out.split_at_mut(index(seen));
        zeros.fill(0);
        if seen.is_empty() {
            return Ok(());
        }
        self.blob.read_at(HostOffset::new(range.start), seen).map_err(keep)
    }
}

impl StorageBackend for Scratch {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written.lock().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written.lock();
        let range = within(offset, out.len(), written.length)?;
        self.read_below(written.whole, range.clone(), out)?;
        for (page, bytes) in written.pages.range(range.start / PAGE..range.end.div_ceil(PAGE)) {
            let (from, to) = (range.start.max(page * PAGE), range.end.min((page + 1) * PAGE));
            out[index(from - range.start)..index(to - range.start)]
                .copy_from_slice(&bytes[index(from - page * PAGE)..index(to - page * PAGE)]);
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut written = self.written.lock();
        written.length = length;
        written.whole = written.whole.min(length);
        written.pages.split_off(&length.div_ceil(PAGE));
        if let Some(last) = written.pages.get_mut(&(length / PAGE)) {
            last[index(length % PAGE)..].fill(0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut written = self.written.lock();
        let range = within(offset, bytes.len(), written.length)?;
        for page in range.start / PAGE..range.end.div_ceil(PAGE) {
            if !written.pages.contains_key(&page) {
                let mut below = vec![0; index(PAGE)].into_boxed_slice();
                self.read_below(written.whole, page * PAGE..(page + 1) * PAGE, &mut below)?;
                written.pages.insert(page, below);
            }
            let (from, to) = (range.start.max(page * PAGE), range.end.min((page + 1) * PAGE));
            let kept = written.pages.get_mut(&page).expect("it was just put there");
            kept[index(from - page * PAGE)..index(to - page * PAGE)]
                .copy_from_slice(&bytes[index(from - range.start)..index(to - range.start)]);
        }
        Ok(())
    }
}

/// The range of a call, if it lies before the end.
fn within(offset: u64, length: usize, end: u64) -> io::Result<Range<u64>> {
    match offset.checked_add(length as u64) {
        Some(stop) if stop <= end => Ok(offset..stop),
        _ => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("{length} bytes at {offset:#x} are behind the end at {end:#x}"),
        )),
    }
}

/// An offset inside a buffer.
fn index(bytes: u64) -> usize {
    usize::try_from(bytes).expect("it lies inside a buffer")
}

#[cfg(test)]
mod tests {
    use super::super::testing::MemoryBlob;
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_the_blob_never_sees_it() -> io::Result<()> {
        let before: Vec<u8> = (0..3 * 4096 + 100).map(|at| (at % 251) as u8 | 1).collect();
        let blob = MemoryBlob::of(before.clone());
        blob.fail_writes();
        let scratch = Scratch::over(blob.clone()).map_err(keep)?;
        let mut model = before.clone();
        // Across pages, inside one, at the end; then shorter, and longer again.
        for (offset, length) in [(4000, 5000), (10, 20), (3 * 4096, 100)] {
            scratch.write(offset as u64, &vec![0xaa; length])?;
            model[offset..offset + length].fill(0xaa);
        }
        for length in [9000, 20_000, 5000, 30_000] {
            scratch.set_len(length as u64)?;
            model.resize(length, 0);
            scratch.write(4990, b"0123456789")?;
            model[4990..5000].copy_from_slice(b"0123456789");
            let mut read = vec![7; length];
            scratch.read(0, &mut read)?;
            assert!(read == model, "other bytes after a length of {length}");
            let mut middle = vec![7; length - 4500];
            scratch.read(4321, &mut middle[..length - 4500])?;
            assert!(middle == model[4321..length - 179], "other bytes in the middle of {length}");
        }
        assert_eq!(blob.bytes(), before);
        Ok(())
    }

    #[test]
    fn nothing_is_read_or_written_behind_the_end() -> io::Result<()> {
        let scratch = Scratch::over(MemoryBlob::of(vec![1; 100])).map_err(keep)?;
        for offset in [97, 100, u64::MAX - 1] {
            assert!(scratch.read(offset, &mut [0; 4]).is_err(), "read at {offset}");
            assert!(scratch.write(offset, &[0; 4]).is_err(), "written at {offset}");
        }
        scratch.read(96, &mut [0; 4])
    }
}
