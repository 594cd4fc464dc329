//! Zeros: writing them, and giving up what the guest discards. Afterwards the range reads as zeros, always.
//!
//! | image | whole subclusters become | the ends of the range |
//! |---|---|---|
//! | nothing below | absent | zeros are written |
//! | version 3 above something | zero in the table | zeros are written |
//! | version 2 above something | zeros are written: it has no zero clusters, and an absent one would show what is below | zeros are written |
//!
//! With standard L2 entries a cluster is its only subcluster. A host cluster is given up with the last subcluster that
//! is stored in it; one that an internal snapshot has, too, loses one reference.

use super::error::Result;
use super::map::{Cluster, Mapping};
use super::open::{Image, State};
use super::write::Below;
use crate::format::{Copied, Subclusters, Version};
use crate::units::{ByteCount, ClusterCount, GuestCluster, GuestOffset, HostOffset};

/// Zeros written at a time where they must be written out.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What happens to the room that the old bytes take up.
///
/// An example is at [`Image`].
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
            let whole = self.whole_part(here, end, below)?;
            let zeroed = self.zero_whole(here, whole, space, below)?;
            here += match zeroed.is_zero() {
                true => self.zero_part(here, end - here, below)?,
                false => zeroed.min(end - here),
            };
        }
        Ok(())
    }

    /// How much from `at` on can be zeroed in the table: whole subclusters, all under one table. The last cluster of
    /// the disk counts as whole when the range reaches the end of the disk.
    fn whole_part(&self, at: GuestOffset, end: GuestOffset, below: Option<&dyn Below>) -> Result<ByteCount> {
        let state = self.state_for(at)?;
        let geometry = self.geometry;
        let lacks_zero_clusters = state.header.version == Version::V2 && below.is_some();
        if lacks_zero_clusters || !geometry.offset_in_subcluster(at).is_zero() {
            return Ok(ByteCount::ZERO);
        }
        let to_end_of_disk = end == GuestOffset::end_of(self.size());
        let length = match to_end_of_disk {
            true => geometry.bytes_for(geometry.clusters_for(end.as_size())) - at.as_size(),
            false => (end - at) - geometry.offset_in_subcluster(end).min(end - at),
        };
        let table_left = geometry.l2_coverage().as_u64() - at.as_u64() % geometry.l2_coverage().as_u64();
        Ok(length.min(ByteCount::new(table_left)))
    }

    /// Writes zeros up to the next boundary of a subcluster, or from there over a compressed cluster, where the guest
    /// does not see zeros anyway.
    fn zero_part(&self, at: GuestOffset, left: ByteCount, below: Option<&dyn Below>) -> Result<ByteCount> {
        let inside = self.geometry.offset_in_subcluster(at);
        let to_boundary = match inside.is_zero() {
            true => self.geometry.cluster_size() - self.geometry.offset_in_cluster(at),
            false => self.geometry.subcluster_size() - inside,
        };
        let run = self.run_at(at, left.min(to_boundary).min(ByteCount::of(ZEROS.len())))?;
        let reads_zero = run.mapping == Mapping::Zero || (run.mapping == Mapping::Absent && below.is_none());
        if !reads_zero {
            self.write(at, &ZEROS[..run.length.as_usize()], below)?;
        }
        Ok(run.length)
    }

    /// Zeroes whole subclusters of one table; answers how many bytes of the guest they cover. It ends before a
    /// compressed cluster of which only a part is meant.
    fn zero_whole(
        &self,
        at: GuestOffset,
        length: ByteCount,
        space: Space,
        below: Option<&dyn Below>,
    ) -> Result<ByteCount> {
        if length.is_zero() {
            return Ok(ByteCount::ZERO);
        }
        let mut state = self.state.write();
        self.refuse_when_frozen()?;
        let state = &mut *state;
        let l1_index = self.geometry.l1_index(self.geometry.guest_cluster(at));
        self.load_table(state, l1_index)?;
        if state.tables.get(l1_index).is_none() && below.is_none() {
            return Ok(length);
        }
        let mut done = ByteCount::ZERO;
        while done < length {
            let here = at + done;
            let cluster = self.geometry.guest_cluster(here);
            let these = self.geometry.subclusters_touched(here, length - done);
            if !self.zero_cluster(state, cluster, these, space, below)? {
                break;
            }
            done += self.geometry.cluster_size() - self.geometry.offset_in_cluster(here);
        }
        self.relieve(state)?;
        Ok(done.min(length))
    }

    /// Zeroes `these` subclusters; false when they are a part of a compressed cluster.
    fn zero_cluster(
        &self,
        state: &mut State,
        cluster: GuestCluster,
        these: u32,
        space: Space,
        below: Option<&dyn Below>,
    ) -> Result<bool> {
        let (there, extent) = match self.cluster(state, cluster)? {
            Cluster::Compressed(_) if these != self.geometry.subclusters_all() => return Ok(false),
            Cluster::Compressed(extent) => (Subclusters::ABSENT, Some(extent)),
            Cluster::Plain(there) => (there, None),
        };
        // Version 2 has no entry for a cluster that is zeros and has room.
        let space = if state.header.version == Version::V2 { Space::Free } else { space };
        let zeroed = zeroed(there, these, space, below);
        if zeroed == there && extent.is_none() {
            return Ok(true);
        }
        self.own_table(state, cluster)?;
        if let (Some(at), None) = (there.at, zeroed.at) {
            self.free_later(state, at);
        }
        if let Some(extent) = extent {
            self.free_extent(state, extent);
        }
        self.set_cluster(state, cluster, zeroed);
        Ok(true)
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

/// What a cluster says when `these` of its subclusters read as zeros.
fn zeroed(there: Subclusters, these: u32, space: Space, below: Option<&dyn Below>) -> Subclusters {
    let allocated = there.allocated & !these;
    let stays = allocated != 0 || (space == Space::Keep && there.is_own());
    let at = there.at.filter(|_| stays);
    let zero = match (at, below, space) {
        (None, None, Space::Free) => there.zero & !these,
        (None, None, Space::Keep) => there.zero,
        _ => there.zero | these,
    };
    Subclusters { at, copied: at.map_or(Copied::No, |_| there.copied), allocated, zero }
}
