//! Zeros: writing them, and giving up what the guest discards. Afterwards the range reads as zeros, always.
//!
//! | image | whole clusters become | the ends of the range |
//! |---|---|---|
//! | nothing below | absent | zeros are written |
//! | version 3 above something | zero clusters | zeros are written |
//! | version 2 above something | zeros are written: it has no zero clusters, and an absent one would show what is below | zeros are written |

use super::error::Result;
use super::map::Mapping;
use super::open::{Image, State};
use super::write::Below;
use crate::format::{Copied, L2Entry, Version};
use crate::units::{ByteCount, ClusterCount, GuestCluster, GuestOffset, HostOffset};

/// Zeros written at a time where they must be written out.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What happens to the room that the old bytes take up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// It may stay with the image: the guest is likely to write there again.
    Keep,
    /// It is given back after the next flush.
    Free,
}

impl Image {
    /// Makes a range read as zeros.
    ///
    /// Seen by every later read. Durable after [`Image::flush`].
    ///
    /// # Errors
    ///
    /// As [`Image::write`].
    pub fn zero(
        &self,
        at: GuestOffset,
        length: ByteCount,
        space: Space,
        below: Option<&dyn Below>,
    ) -> Result<()> {
        self.admit_write(at, length)?;
        let end = at + length;
        let mut here = at;
        while here < end {
            let left = end - here;
            let written = match self.whole_clusters(here, end, below)? {
                clusters if clusters.is_zero() => self.zero_part(here, left, below)?,
                clusters => self.zero_whole(here, clusters, space, below)?.min(left),
            };
            here += written;
        }
        Ok(())
    }

    /// How many whole clusters from `at` on can be zeroed in the table. The last cluster of the disk counts as
    /// whole when the range reaches the end of the disk.
    fn whole_clusters(
        &self,
        at: GuestOffset,
        end: GuestOffset,
        below: Option<&dyn Below>,
    ) -> Result<ClusterCount> {
        let state = self.state_for(at)?;
        let lacks_zero_clusters = state.header.version == Version::V2 && below.is_some();
        if lacks_zero_clusters || !self.geometry.offset_in_cluster(at).is_zero() {
            return Ok(ClusterCount::ZERO);
        }
        let first = self.geometry.guest_cluster(at);
        let to_end_of_disk = end == GuestOffset::end_of(state.size);
        let stop = if to_end_of_disk {
            GuestCluster::ZERO + self.geometry.clusters_for(end.as_size())
        } else {
            self.geometry.guest_cluster(end)
        };
        let table_left = self.geometry.l2_entries() - self.geometry.l2_index(first) as u64;
        Ok((stop - first).min(ClusterCount::new(table_left)))
    }

    /// Writes zeros up to the next boundary of a cluster, where the guest does not see zeros anyway.
    fn zero_part(&self, at: GuestOffset, left: ByteCount, below: Option<&dyn Below>) -> Result<ByteCount> {
        let to_boundary = self.geometry.cluster_size() - self.geometry.offset_in_cluster(at);
        let length = left.min(to_boundary).min(ByteCount::of(ZEROS.len()));
        let mapping = self.run_at(at, length)?.mapping;
        let reads_zero = mapping == Mapping::Zero || (mapping == Mapping::Absent && below.is_none());
        if !reads_zero {
            self.write(at, &ZEROS[..length.as_usize()], below)?;
        }
        Ok(length)
    }

    /// Zeroes whole clusters of one table; answers how many bytes of the guest they cover.
    fn zero_whole(
        &self,
        at: GuestOffset,
        clusters: ClusterCount,
        space: Space,
        below: Option<&dyn Below>,
    ) -> Result<ByteCount> {
        let mut state = self.state.write();
        self.refuse_when_frozen()?;
        let state = &mut *state;
        let first = self.geometry.guest_cluster(at);
        let covered = self.geometry.bytes_for(clusters);
        self.load_table(state, self.geometry.l1_index(first))?;
        let has_table = state.tables.get(self.geometry.l1_index(first)).is_some();
        if !has_table && below.is_none() {
            return Ok(covered);
        }
        self.own_table(state, first)?;
        for index in 0..clusters.as_u64() {
            self.zero_cluster(state, first + ClusterCount::new(index), space, below.is_some())?;
        }
        self.relieve(state)?;
        Ok(covered)
    }

    fn zero_cluster(
        &self,
        state: &mut State,
        cluster: GuestCluster,
        space: Space,
        has_below: bool,
    ) -> Result<()> {
        let plain = L2Entry::Zero { allocation: None, copied: Copied::No };
        let empty = if has_below { plain } else { L2Entry::Absent };
        let zeroed = match self.entry(state, cluster)? {
            L2Entry::Absent => empty,
            entry @ L2Entry::Zero { .. } if space == Space::Keep => entry,
            L2Entry::Zero { allocation: None, .. } => empty,
            L2Entry::Data { at, copied: Copied::Yes }
                if space == Space::Keep && state.header.version == Version::V3 =>
            {
                L2Entry::Zero { allocation: Some(at), copied: Copied::Yes }
            }
            L2Entry::Data { at, copied: Copied::Yes }
            | L2Entry::Zero { allocation: Some(at), copied: Copied::Yes } => {
                self.free_later(state, at);
                empty
            }
            L2Entry::Compressed(extent) => {
                self.free_extent(state, extent);
                empty
            }
            L2Entry::Subclusters(_) => return Err(self.unwritable("has extended L2 entries")),
            L2Entry::Data { .. } | L2Entry::Zero { .. } => {
                return Err(self.unwritable("shares clusters between tables"));
            }
        };
        if zeroed != self.entry(state, cluster)? {
            self.set_entry(state, cluster, zeroed);
        }
        Ok(())
    }

    /// Notes a reference to a cluster that counts until the disk no longer holds it.
    pub(super) fn free_later(&self, state: &mut State, at: HostOffset) {
        let cluster = self.geometry.host_cluster(at);
        let one = ClusterCount::new(1);
        match state.freed.last_mut() {
            Some((start, count)) if *start + *count == cluster => *count += one,
            _ => state.freed.push((cluster, one)),
        }
    }
}
