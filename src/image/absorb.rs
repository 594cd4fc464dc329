//! Absorbing: an image takes what it lacks from elsewhere, while guests go on writing to it.
//!
//! Whoever absorbs has read the bytes some time ago. They are still right for a cluster that is absent: it shows
//! what is below, and that does not change. So each cluster is looked at again under the lock, and only one that is
//! still absent is filled; whatever a guest has put there meanwhile is newer and stays.

use super::error::{Error, Result};
use super::open::{Image, State};
use crate::format::{Copied, L2Entry, Version};
use crate::storage::Blob;
use crate::units::{ByteCount, ClusterCount, GuestCluster, GuestOffset, HostOffset};
use std::sync::atomic::Ordering;

/// What is taken in under one lock: a guest waits no longer than this takes to copy.
const BATCH_MAX: ByteCount = ByteCount::mib(1);

/// What shall be in the clusters that are absent.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// These bytes.
    Data(&'a [u8]),
    /// So many zeros: zero clusters in version 3; written out in version 2, which has none.
    Zero(ByteCount),
    /// Bytes of another blob; what lies past its end is zeros.
    Copy {
        /// The other blob.
        source: &'a dyn Blob,
        /// Where the bytes begin.
        from: HostOffset,
        /// How many they are.
        length: ByteCount,
    },
}

impl<'a> Content<'a> {
    /// How many bytes of the guest it is for.
    #[must_use]
    pub fn length(&self) -> ByteCount {
        match self {
            Self::Data(bytes) => ByteCount::of(bytes.len()),
            Self::Zero(length) | Self::Copy { length, .. } => *length,
        }
    }

    /// `length` bytes of it, `skipped` bytes behind its begin.
    fn part(&self, skipped: ByteCount, length: ByteCount) -> Self {
        match *self {
            Self::Data(bytes) => Self::Data(&bytes[skipped.as_usize()..(skipped + length).as_usize()]),
            Self::Zero(_) => Self::Zero(length),
            Self::Copy { source, from, .. } => Self::Copy { source, from: from + skipped, length },
        }
    }
}

impl Image {
    /// Fills the clusters from `at` on that are absent; every other one keeps what it has, zero and compressed ones
    /// too. Answers how many bytes of the guest were filled.
    ///
    /// The range begins and ends with a cluster, or ends with the disk. The bytes must be what the image shows there
    /// through what is below it, so that nobody sees a difference, then or at any time before. Durable after
    /// [`Image::flush`].
    ///
    /// # Errors
    ///
    /// [`Error::Unaligned`]; reading from the other blob; as [`Image::write`] otherwise. A part may have been
    /// filled.
    pub fn absorb(&self, at: GuestOffset, content: Content<'_>) -> Result<ByteCount> {
        self.admit_write(at, content.length())?;
        let cut = self.geometry.offset_in_cluster(at + content.length());
        // A last cluster that the disk's end cuts is a whole one only as long as the disk does not grow.
        let _alone = (!cut.is_zero()).then(|| self.growing.lock());
        let length = self.whole_length(at, content.length(), cut)?;
        let (mut done, mut absorbed) = (ByteCount::ZERO, ByteCount::ZERO);
        while done < length {
            let (passed, filled) = self.absorb_batch(at + done, content.part(done, length - done))?;
            done += passed;
            absorbed += filled;
        }
        Ok(absorbed)
    }

    /// The length of what can be absorbed: all of it, but for a last cluster in part that the image has anyway.
    fn whole_length(&self, at: GuestOffset, length: ByteCount, cut: ByteCount) -> Result<ByteCount> {
        let end = at + length;
        let unaligned = || Error::Unaligned { image: self.name.clone(), at, length };
        if !self.geometry.offset_in_cluster(at).is_zero() {
            return Err(unaligned());
        }
        if cut.is_zero() {
            return Ok(length);
        }
        let state = self.state_for(end)?;
        if end == GuestOffset::end_of(state.size) {
            return Ok(length);
        }
        // The disk has grown since. Growing fills what was the last cluster, when anything is below.
        match self.entry(&state, self.geometry.guest_cluster(end))? {
            L2Entry::Absent => Err(unaligned()),
            _ => Ok(length - cut),
        }
    }

    /// Passes by clusters that are there, then fills absent ones, as far as one table and one batch go. Answers how
    /// many bytes lie behind, and how many of them were filled.
    fn absorb_batch(&self, at: GuestOffset, content: Content<'_>) -> Result<(ByteCount, ByteCount)> {
        let mut state = self.state.write();
        self.refuse_when_frozen()?;
        let state = &mut *state;
        let geometry = self.geometry;
        let length = content.length();
        let first = geometry.guest_cluster(at);
        let table_left = geometry.l2_entries() - geometry.l2_index(first) as u64;
        let wanted = geometry.clusters_for(length).min(ClusterCount::new(table_left));
        self.load_table(state, geometry.l1_index(first))?;

        let present = self.count_while(state, first, wanted, false)?;
        let skipped = geometry.bytes_for(present).min(length);
        if present == wanted {
            return Ok((skipped, ByteCount::ZERO));
        }
        let first = first + present;
        let zero = matches!(content, Content::Zero(_)) && state.header.version == Version::V3;
        let batch = if zero { wanted } else { geometry.clusters_for(BATCH_MAX) };
        let absent = self.count_while(state, first, (wanted - present).min(batch), true)?;
        self.own_table(state, first)?;
        let filled = geometry.bytes_for(absent).min(length - skipped);
        if zero {
            for index in 0..absent.as_u64() {
                let entry = L2Entry::Zero { allocation: None, copied: Copied::No };
                self.set_entry(state, first + ClusterCount::new(index), entry);
            }
        } else {
            self.fill_absent(state, first, content.part(skipped, filled))?;
        }
        self.relieve(state)?;
        Ok((skipped + filled, filled))
    }

    /// For how many clusters from `first` on, `wanted` at most and all in one table, the entries are absent, or are
    /// not.
    fn count_while(
        &self,
        state: &State,
        first: GuestCluster,
        wanted: ClusterCount,
        absent: bool,
    ) -> Result<ClusterCount> {
        let mut count = ClusterCount::ZERO;
        while count < wanted && (self.entry(state, first + count)? == L2Entry::Absent) == absent {
            count += ClusterCount::new(1);
        }
        Ok(count)
    }

    /// Fills new clusters and lets the table, which is in memory, refer to them.
    fn fill_absent(&self, state: &mut State, first: GuestCluster, content: Content<'_>) -> Result<()> {
        let geometry = self.geometry;
        let mut done = ByteCount::ZERO;
        while done < content.length() {
            let left = content.length() - done;
            let (start, count) = self.allocate(state, geometry.clusters_for(left))?;
            let room = geometry.bytes_for(count);
            let length = left.min(room);
            let host = geometry.host_offset(start);
            if let Err(error) = self.place_content(state, host, content.part(done, length), room) {
                // Nothing refers to these clusters: they can be given back at once.
                state.refcounts.release(&*self.blob, state.end, start, count)?;
                return Err(error);
            }
            let first = first + geometry.clusters_for(done);
            for index in 0..count.as_u64() {
                let index = ClusterCount::new(index);
                let entry = L2Entry::Data { at: geometry.host_offset(start + index), copied: Copied::Yes };
                self.set_entry(state, first + index, entry);
            }
            done += length;
        }
        Ok(())
    }

    /// Writes content into new clusters that have `room`, and zeros behind it where old bytes may lie.
    fn place_content(
        &self,
        state: &mut State,
        host: HostOffset,
        content: Content<'_>,
        room: ByteCount,
    ) -> Result<()> {
        let length = content.length();
        let fresh = host >= state.end;
        match content {
            Content::Data(bytes) => self.put(state, host, bytes)?,
            Content::Zero(length) => self.put(state, host, &vec![0; length.as_usize()])?,
            Content::Copy { source, from, length } => self.copy_in(state, host, source, from, length)?,
        }
        if length < room && !fresh {
            self.put(state, host + length, &vec![0; (room - length).as_usize()])?;
        }
        Ok(())
    }

    /// Copies bytes of another blob into clusters that nothing refers to yet; the store may let both share them.
    fn copy_in(
        &self,
        state: &mut State,
        at: HostOffset,
        source: &dyn Blob,
        from: HostOffset,
        length: ByteCount,
    ) -> Result<()> {
        let copied = self.blob.copy_from(at, source, from, length);
        self.synced.count_write();
        if copied.is_ok() {
            state.end = state.end.max(at + length);
            return Ok(());
        }
        // A copy that failed may have lengthened the file, by any part of what it wanted.
        match self.blob.length() {
            Ok(length) => state.end = HostOffset::end_of(length),
            Err(_) => self.failed.store(true, Ordering::Release),
        }
        Ok(copied?)
    }
}
