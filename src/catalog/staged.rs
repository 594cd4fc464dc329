//! What a database does to its blob while it is being opened, kept until whoever opens it has accepted it.
//!
//! Opening writes: what a crash has left is repaired, and the file is marked as open. As long as nobody vouches for its
//! bytes, not one of them may be changed. So what is written stays in memory, over the bytes of the blob, and every call
//! is noted. Then either the calls are made, in the order in which they came ([`Staged::settle`]), and all later ones go
//! straight through; or the database is dropped, and what it has written is gone with it.
//!
//! Promises that the database leans on are those of [`Backend`]; a read behind the end is an error before any byte of
//! it is asked for.

use super::backend::Backend;
use super::fence::Fence;
use crate::storage::{self, Blob};
use parking_lot::RwLock;
use redb::StorageBackend;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// What is kept of a write is kept in pages of this size.
const PAGE: u64 = 4096;

/// A blob under what is not written to it yet. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Staged {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    below: Backend,
    /// Absent once it is settled.
    held: RwLock<Option<Held>>,
}

/// What was written.
#[derive(Debug)]
struct Held {
    length: u64,
    /// What lies before it and was not written is still read from the blob; behind it are zeros.
    whole: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
    calls: Vec<Call>,
}

/// A call that is to be made.
#[derive(Debug)]
enum Call {
    Write { offset: u64, bytes: Box<[u8]> },
    SetLength(u64),
    Sync,
}

impl Staged {
    /// A stage over a blob, of which nothing was read yet.
    ///
    /// # Errors
    ///
    /// Those of [`Blob::length`] and of [`Backend::new`].
    pub fn over(blob: Arc<dyn Blob>) -> storage::Result<Self> {
        let length = blob.length()?.as_u64();
        let held = Held { length, whole: length, pages: BTreeMap::new(), calls: Vec::new() };
        let shared = Shared { below: Backend::new(blob)?, held: RwLock::new(Some(held)) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What tells whether the blob is still ours.
    pub fn fence(&self) -> Arc<Fence> {
        self.shared.below.fence()
    }

    /// Does to the blob what was noted, and whatever comes from here on.
    ///
    /// # Errors
    ///
    /// Those of the blob and the fence. A part is done then; of what the database does after it, nothing reaches the blob.
    pub fn settle(&self) -> io::Result<()> {
        let mut held = self.shared.held.write();
        let calls = held.as_mut().map(|held| std::mem::take(&mut held.calls)).unwrap_or_default();
        for call in calls {
            match call {
                Call::Write { offset, bytes } => self.shared.below.write(offset, &bytes)?,
                Call::SetLength(length) => self.shared.below.set_len(length)?,
                Call::Sync => self.shared.below.sync_data()?,
            }
        }
        *held = None;
        Ok(())
    }
}

impl Held {
    fn read(&self, below: &Backend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let range = within(offset, out.len(), self.length)?;
        self.read_below(below, range.clone(), out)?;
        for (page, bytes) in self.pages.range(range.start / PAGE..range.end.div_ceil(PAGE)) {
            let (from, to) = (range.start.max(page * PAGE), range.end.min((page + 1) * PAGE));
            out[index(from - range.start)..index(to - range.start)]
                .copy_from_slice(&bytes[index(from - page * PAGE)..index(to - page * PAGE)]);
        }
        Ok(())
    }

    /// The bytes of the blob that are still seen in a range, and zeros behind them.
    fn read_below(&self, below: &Backend, range: Range<u64>, out: &mut [u8]) -> io::Result<()> {
        let seen = range.end.min(self.whole).saturating_sub(range.start);
        let (seen, zeros) = out.split_at_mut(index(seen));
        zeros.fill(0);
        if seen.is_empty() {
            return Ok(());
        }
        below.read(range.start, seen)
    }

    fn write(&mut self, below: &Backend, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let range = within(offset, bytes.len(), self.length)?;
        for page in range.start / PAGE..range.end.div_ceil(PAGE) {
            if !self.pages.contains_key(&page) {
                let mut before = vec![0; index(PAGE)].into_boxed_slice();
                self.read_below(below, page * PAGE..(page + 1) * PAGE, &mut before)?;
                self.pages.insert(page, before);
            }
            let (from, to) = (range.start.max(page * PAGE), range.end.min((page + 1) * PAGE));
            let kept = self.pages.get_mut(&page).expect("it was just put there");
            kept[index(from - page * PAGE)..index(to - page * PAGE)]
                .copy_from_slice(&bytes[index(from - range.start)..index(to - range.start)]);
        }
        self.calls.push(Call::Write { offset, bytes: bytes.into() });
        Ok(())
    }

    fn set_length(&mut self, length: u64) {
        self.length = length;
        self.whole = self.whole.min(length);
        self.pages.split_off(&length.div_ceil(PAGE));
        if let Some(last) = self.pages.get_mut(&(length / PAGE)) {
            last[index(length % PAGE)..].fill(0);
        }
        self.calls.push(Call::SetLength(length));
    }
}

impl StorageBackend for Staged {
    fn len(&self) -> io::Result<u64> {
        match &*self.shared.held.read() {
            Some(held) => Ok(held.length),
            None => self.shared.below.len(),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match &*self.shared.held.read() {
            Some(held) => held.read(&self.shared.below, offset, out),
            None => self.shared.below.read(offset, out),
        }
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        if let Some(held) = &mut *self.shared.held.write() {
            held.set_length(length);
            return Ok(());
        }
        self.shared.below.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        if let Some(held) = &mut *self.shared.held.write() {
            held.calls.push(Call::Sync);
            return Ok(());
        }
        self.shared.below.sync_data()
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if let Some(held) = &mut *self.shared.held.write() {
            return held.write(&self.shared.below, offset, bytes);
        }
        self.shared.below.write(offset, bytes)
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
    use super::super::backend::keep;
    use super::super::fence::NotOwner;
    use super::super::testing::MemoryBlob;
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_the_blob_sees_it_when_it_is_settled() -> io::Result<()> {
        let before: Vec<u8> = (0..3 * 4096 + 100).map(|at| (at % 251) as u8 | 1).collect();
        let blob = MemoryBlob::of(before.clone());
        let staged = Staged::over(blob.clone()).map_err(keep)?;
        let mut model = before.clone();
        // Across pages, inside one, at the end; then shorter, and longer again.
        for (offset, length) in [(4000, 5000), (10, 20), (3 * 4096, 100)] {
            staged.write(offset as u64, &vec![0xaa; length])?;
            model[offset..offset + length].fill(0xaa);
        }
        for length in [9000, 20_000, 5000, 30_000] {
            staged.set_len(length as u64)?;
            model.resize(length, 0);
            staged.write(4990, b"0123456789")?;
            model[4990..5000].copy_from_slice(b"0123456789");
            staged.sync_data()?;
            let mut read = vec![7; length];
            staged.read(0, &mut read)?;
            assert!(read == model, "other bytes after a length of {length}");
            let mut middle = vec![7; length - 4500];
            staged.read(4321, &mut middle[..length - 4500])?;
            assert!(middle == model[4321..length - 179], "other bytes in the middle of {length}");
        }
        assert_eq!(blob.bytes(), before, "the blob has seen it before it was settled");
        staged.settle()?;
        assert!(blob.bytes() == model, "other bytes in the blob");
        staged.write(29_990, b"0123456789")?;
        assert!(blob.bytes().ends_with(b"0123456789"), "what comes later does not go through");
        assert_eq!(staged.len()?, 30_000);
        Ok(())
    }

    #[test]
    fn nothing_is_read_or_written_behind_the_end() -> io::Result<()> {
        let staged = Staged::over(MemoryBlob::of(vec![1; 100])).map_err(keep)?;
        for offset in [97, 100, u64::MAX - 1] {
            assert!(staged.read(offset, &mut [0; 4]).is_err(), "read at {offset}");
            assert!(staged.write(offset, &[0; 4]).is_err(), "written at {offset}");
        }
        staged.read(96, &mut [0; 4])
    }

    #[test]
    fn what_somebody_else_has_written_meanwhile_is_not_written_over() -> io::Result<()> {
        let blob = MemoryBlob::of(vec![1; 8192]);
        let staged = Staged::over(blob.clone()).map_err(keep)?;
        staged.write(4096, b"ours")?;
        Backend::new(blob.clone()).map_err(keep)?.write(100, b"theirs")?;
        let before = blob.bytes();
        let error = staged.settle().expect_err("somebody else's bytes were written over");
        assert!(error.downcast::<NotOwner>().is_ok());
        staged.write(5000, b"late")?;
        assert_eq!(blob.bytes(), before);
        Ok(())
    }

    #[test]
    fn after_a_call_that_failed_nothing_more_reaches_the_blob() -> io::Result<()> {
        let blob = MemoryBlob::of(vec![1; 8192]);
        let staged = Staged::over(blob.clone()).map_err(keep)?;
        staged.write(4096, b"ours")?;
        staged.sync_data()?;
        staged.write(0, b"ours")?;
        blob.fail_syncs();
        assert!(staged.settle().is_err(), "a sync that failed was not told of");
        let before = blob.bytes();
        assert!(before[4096..].starts_with(b"ours") && before[..4096] == [1; 4096]);
        staged.write(0, b"late")?;
        assert_eq!(blob.bytes(), before);
        Ok(())
    }
}
