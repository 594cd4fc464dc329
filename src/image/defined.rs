//! What a closed image defines in a part of the disk, from as few entries as there are for it: a table that is not in
//! memory is not brought there.

use super::error::{Error, Result};
use super::map::{Mapping, Run};
use super::open::{Image, State, unreadable};
use crate::storage::read_zero_extended;
use crate::sync::RwLockWriteGuard;
use crate::units::{ByteCount, GuestOffset, HostOffset};
use std::ops::Range;
use std::sync::atomic::Ordering;

impl Image {
    /// Whether nothing is written through this handle: it was opened for reading, or [`Image::freeze`] has closed it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        !self.writable.load(Ordering::Acquire)
    }

    /// Names every stretch of `range` that the image defines, in order: what is not named is absent. Two stretches
    /// side by side may be alike.
    ///
    /// Reads of each L2 table the entries of the range, and keeps none of them.
    ///
    /// # Errors
    ///
    /// As [`Image::run_at`]; some stretches may have been named before.
    pub fn defined(&self, range: Range<GuestOffset>, mut each: impl FnMut(GuestOffset, Run)) -> Result<()> {
        self.admit(range.start, range.end - range.start)?;
        let coverage = self.geometry.l2_coverage().as_u64();
        let mut at = range.start;
        while at < range.end {
            let table_left = ByteCount::new(coverage - at.as_u64() % coverage);
            let to = at + table_left.min(range.end - at);
            self.defined_under_table(at..to, &mut each)?;
            at = to;
        }
        Ok(())
    }

    /// As [`Image::defined`], for a range under one L2 table.
    fn defined_under_table(
        &self,
        range: Range<GuestOffset>,
        each: &mut impl FnMut(GuestOffset, Run),
    ) -> Result<()> {
        let geometry = self.geometry;
        let l1_index = geometry.l1_index(geometry.guest_cluster(range.start));
        let mut state = self.state.read();
        if let Some(table) = state.tables.get(l1_index) {
            return self.name_defined(&state, |index| table.entry(index), range, each);
        }
        let Some(at) = self.table_on_disk(&state, l1_index)? else { return Ok(()) };
        self.refuse_misplaced_table(&state, at)?;
        let first = geometry.l2_index(geometry.guest_cluster(range.start));
        let length = range.end - range.start;
        let last = geometry.l2_index(geometry.guest_cluster(range.start + (length - ByteCount::new(1))));
        let width = geometry.l2_entry_size();
        let mut bytes = vec![0; (last - first + 1) * width];
        let from = at + ByteCount::of(first * width);
        read_zero_extended(&*self.blob, state.end.as_length(), from, &mut bytes)?;
        let end = self.end_seen(&state)?;
        if end > state.end {
            drop(state);
            let mut writing = self.state.write();
            writing.end = writing.end.max(end);
            state = RwLockWriteGuard::downgrade(writing);
        }
        let word = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let entry = |index: usize| match (index - first) * width {
            at if width == 8 => (word(at), 0),
            at => (word(at), word(at + 8)),
        };
        self.name_defined(&state, entry, range, each)
    }

    fn name_defined(
        &self,
        state: &State,
        entry: impl Fn(usize) -> (u64, u64),
        range: Range<GuestOffset>,
        each: &mut impl FnMut(GuestOffset, Run),
    ) -> Result<()> {
        let geometry = self.geometry;
        let mut at = range.start;
        while at < range.end {
            let raw = entry(geometry.l2_index(geometry.guest_cluster(at)));
            if raw == (0, 0) {
                at += geometry.cluster_size() - geometry.offset_in_cluster(at);
                continue;
            }
            let run = self.run_in_cluster(state, raw, at)?;
            let length = run.length.min(range.end - at);
            if run.mapping != Mapping::Absent {
                each(at, Run { length, ..run });
            }
            at += length;
        }
        Ok(())
    }

    /// Fills `buffer` with data that lies at `at` in the file, as [`Image::defined`] has named it of a closed image.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] of an image whose data cannot be read; [`Error::Storage`].
    pub fn read_stored(&self, at: HostOffset, buffer: &mut [u8]) -> Result<()> {
        let state = self.state.read();
        self.refuse_unreadable(&state)?;
        Ok(read_zero_extended(&*self.blob, state.end.as_length(), at, buffer)?)
    }

    /// Refuses to take what is encrypted, or lies elsewhere, for what the guest has written.
    pub(super) fn refuse_unreadable(&self, state: &State) -> Result<()> {
        match unreadable(&state.header) {
            None => Ok(()),
            Some(feature) => {
                Err(Error::Unsupported { image: self.name.clone(), feature, refused: "reading data of" })
            }
        }
    }
}
