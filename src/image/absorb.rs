//! Absorbing: an image takes what it lacks from elsewhere, while guests go on writing to it.
//!
//! Whoever absorbs has read the bytes some time ago. They are still right for a cluster that is absent: it shows
//! what is below, and that does not change. So each cluster is looked at again under the lock, and only one that is
//! still absent is filled; whatever a guest has put there meanwhile is newer and stays.

use super::error::{Error, Result};
use super::map::{Cluster, Mapping};
use super::open::{Image, State};
use crate::format::{Subclusters, Version};
use crate::storage::Blob;
use crate::units::{ByteCount, GuestOffset, HostOffset};
use std::sync::atomic::Ordering;

/// What is taken in under one lock: a guest waits no longer than this takes to copy.
const BATCH_MAX: ByteCount = ByteCount::mib(1);

/// What shall be in the clusters that are absent.
///
/// An example is at [`Image`].
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
    /// Fills the clusters from `at` on that are absent, or with extended L2 entries the subclusters; every other one
    /// keeps what it has, zero and compressed ones too. Answers how many bytes of the guest were filled.
    ///
    /// The range begins and ends with one of them, or ends with the disk. The bytes must be what the image shows there
    /// through what is below it, so that nobody sees a difference, then or at any time before. Durable after
    /// [`Image::flush`].
    ///
    /// # Errors
    ///
    /// [`Error::Unaligned`]; reading from the other blob; as [`Image::write`] otherwise. A part may have been
    /// filled.
    pub fn absorb(&self, at: GuestOffset, content: Content<'_>) -> Result<ByteCount> {
        self.admit_write(at, content.length())?;
        let cut = self.geometry.offset_in_subcluster(at + content.length());
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
        if !self.geometry.offset_in_subcluster(at).is_zero() {
            return Err(unaligned());
        }
        if cut.is_zero() {
            return Ok(length);
        }
        let state = self.state_for(end)?;
        if end == GuestOffset::end_of(self.size()) {
            return Ok(length);
        }
        // The disk has grown since. Growing fills what was the last cluster, when anything is below.
        match self.run(&state, end, ByteCount::new(1))?.mapping {
            Mapping::Absent => Err(unaligned()),
            _ => Ok(length - cut),
        }
    }

    /// Passes by what is there, then fills what is absent, as far as one table and one batch go. Answers how many
    /// bytes lie behind, and how many of them were filled.
    fn absorb_batch(&self, at: GuestOffset, content: Content<'_>) -> Result<(ByteCount, ByteCount)> {
        let mut state = self.state.write();
        self.refuse_when_frozen()?;
        let state = &mut *state;
        let coverage = self.geometry.l2_coverage().as_u64();
        let wanted = content.length().min(ByteCount::new(coverage - at.as_u64() % coverage));
        self.load_table(state, self.geometry.l1_index(self.geometry.guest_cluster(at)))?;

        let skipped = self.length_while(state, at, wanted, |mapping| mapping != Mapping::Absent)?;
        if skipped == wanted {
            return Ok((skipped, ByteCount::ZERO));
        }
        let first = at + skipped;
        let zero = matches!(content, Content::Zero(_)) && state.header.version == Version::V3;
        let batch = if zero { wanted } else { BATCH_MAX.max(self.geometry.cluster_size()) };
        let absent = (wanted - skipped).min(batch);
        let absent = self.length_while(state, first, absent, |mapping| mapping == Mapping::Absent)?;
        self.own_table(state, self.geometry.guest_cluster(first))?;
        if zero {
            self.mark_zero(state, first, absent)?;
        } else {
            self.fill_absent(state, first, content.part(skipped, absent))?;
        }
        self.relieve(state)?;
        Ok((skipped + absent, absent))
    }

    /// For how many of the `wanted` bytes from `at` on, all under one table, the mapping is `like` that.
    fn length_while(
        &self,
        state: &State,
        at: GuestOffset,
        wanted: ByteCount,
        like: impl Fn(Mapping) -> bool,
    ) -> Result<ByteCount> {
        let mut length = ByteCount::ZERO;
        while length < wanted {
            let run = self.run(state, at + length, wanted - length)?;
            if !like(run.mapping) {
                break;
            }
            length += run.length;
        }
        Ok(length)
    }

    /// Lets what is absent read as zeros by the table, which is in memory.
    fn mark_zero(&self, state: &mut State, at: GuestOffset, length: ByteCount) -> Result<()> {
        let mut done = ByteCount::ZERO;
        while done < length {
            let here = at + done;
            let cluster = self.geometry.guest_cluster(here);
            if let Cluster::Plain(there) = self.cluster(state, cluster)? {
                let these = self.geometry.subclusters_touched(here, length - done);
                self.set_cluster(state, cluster, Subclusters { zero: there.zero | these, ..there });
            }
            done += self.geometry.cluster_size() - self.geometry.offset_in_cluster(here);
        }
        Ok(())
    }

    /// Fills what is absent and lets the table, which is in memory, refer to it: in new clusters, or in the free
    /// subclusters of one that is there.
    fn fill_absent(&self, state: &mut State, at: GuestOffset, content: Content<'_>) -> Result<()> {
        let mut done = ByteCount::ZERO;
        while done < content.length() {
            let here = at + done;
            let rest = content.part(done, content.length() - done);
            done += match self.cluster(state, self.geometry.guest_cluster(here))? {
                Cluster::Plain(there @ Subclusters { at: Some(host), .. }) if there.is_own() => {
                    let left = self.geometry.cluster_size() - self.geometry.offset_in_cluster(here);
                    let piece = rest.part(ByteCount::ZERO, rest.length().min(left));
                    self.place_content(state, here, host, piece)?;
                    piece.length()
                }
                Cluster::Plain(there @ Subclusters { at: Some(_), .. }) => {
                    self.copy_shared(state, here, &[], there, None)?;
                    ByteCount::ZERO
                }
                _ => self.fill_new_clusters(state, here, rest)?,
            };
        }
        Ok(())
    }

    /// Fills new clusters, as many as there are side by side; answers with how many bytes.
    fn fill_new_clusters(
        &self,
        state: &mut State,
        at: GuestOffset,
        content: Content<'_>,
    ) -> Result<ByteCount> {
        let geometry = self.geometry;
        let inside = geometry.offset_in_cluster(at);
        let wanted = geometry.clusters_for(inside + content.length());
        let wanted = self.clusters_without(state, geometry.guest_cluster(at), wanted)?;
        let (start, count) = self.allocate(state, wanted)?;
        let length = content.length().min(geometry.bytes_for(count) - inside);
        let piece = content.part(ByteCount::ZERO, length);
        if let Err(error) = self.place_content(state, at, geometry.host_offset(start), piece) {
            // Nothing refers to these clusters: they can be given back at once.
            state.refcounts.release(&*self.blob, state.end, start, count)?;
            return Err(error);
        }
        Ok(length)
    }

    /// Writes content for `at` into host clusters side by side, the first one at `host`, with zeros behind it up to
    /// the end of its last subcluster where old bytes may lie; then lets the table refer to it.
    fn place_content(
        &self,
        state: &mut State,
        at: GuestOffset,
        host: HostOffset,
        content: Content<'_>,
    ) -> Result<()> {
        let length = content.length();
        let begin = host + self.geometry.offset_in_cluster(at);
        let is_fresh = host >= state.end;
        match content {
            Content::Data(bytes) => self.put(state, begin, bytes)?,
            Content::Zero(length) => self.put(state, begin, &vec![0; length.as_usize()])?,
            Content::Copy { source, from, length } => self.copy_in(state, begin, source, from, length)?,
        }
        let cut = self.geometry.offset_in_subcluster(at + length);
        if !cut.is_zero() && !is_fresh {
            let tail = self.geometry.subcluster_size() - cut;
            self.put(state, begin + length, &vec![0; tail.as_usize()])?;
        }
        self.note_stored(state, at, length, host)
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
            self.blob.write_back_soon(at, length);
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
