//! The entries of L2 tables in memory: asked, changed, and their table made the image's own first.

use super::error::Result;
use super::map::Cluster;
use super::open::{Image, State};
use crate::format::{Copied, L1Entry, L2Entry, Subclusters};
use crate::units::{ByteCount, ClusterCount, GuestCluster, GuestOffset, HostOffset};

impl Image {
    /// How many clusters from `first` on, `wanted` at most and all in one table, have no host cluster.
    pub(super) fn clusters_without(
        &self,
        state: &State,
        first: GuestCluster,
        wanted: ClusterCount,
    ) -> Result<ClusterCount> {
        let left = self.geometry.l2_entries() - self.geometry.l2_index(first) as u64;
        let mut count = ClusterCount::ZERO;
        while count < wanted && count.as_u64() < left {
            let Cluster::Plain(Subclusters { at: None, .. }) = self.cluster(state, first + count)? else {
                break;
            };
            count += ClusterCount::new(1);
        }
        Ok(count)
    }

    /// What the entry of a cluster says whose table, if there is one, is in memory.
    pub(super) fn cluster(&self, state: &State, cluster: GuestCluster) -> Result<Cluster> {
        match state.tables.get(self.geometry.l1_index(cluster)) {
            Some(table) => self.decode(state, table.entry(self.geometry.l2_index(cluster))),
            None => Ok(Cluster::Plain(Subclusters::ABSENT)),
        }
    }

    /// Changes the entry of a cluster whose table is in memory and its own.
    pub(super) fn set_cluster(&self, state: &mut State, cluster: GuestCluster, to: Subclusters) {
        self.set_entry(state, cluster, to.entry(self.geometry));
    }

    pub(super) fn set_entry(&self, state: &mut State, cluster: GuestCluster, entry: L2Entry) {
        let index = self.geometry.l2_index(cluster);
        let table = state.tables.get_mut(self.geometry.l1_index(cluster));
        table.expect("own_table came first").set(index, entry.encode(self.geometry));
    }

    /// Lets the table refer to `data`, which was written for `at` into host clusters side by side, the first one at
    /// `host`. Their subclusters are filled.
    pub(super) fn note_stored(
        &self,
        state: &mut State,
        at: GuestOffset,
        length: ByteCount,
        host: HostOffset,
    ) -> Result<()> {
        let geometry = self.geometry;
        let first = geometry.guest_cluster(at);
        for index in 0..geometry.clusters_for(geometry.offset_in_cluster(at) + length).as_u64() {
            let index = ClusterCount::new(index);
            let from = at.max(geometry.guest_offset(first + index));
            let Cluster::Plain(there) = self.cluster(state, first + index)? else { continue };
            let new = geometry.subclusters_touched(from, at + length - from);
            let stored = there.stored(host + geometry.bytes_for(index), new);
            if stored != there {
                self.set_cluster(state, first + index, stored);
            }
        }
        Ok(())
    }

    /// Brings the table of a cluster into memory, to be changed: a new one when there is none, a copy when an
    /// internal snapshot has it, too.
    pub(super) fn own_table(&self, state: &mut State, cluster: GuestCluster) -> Result<()> {
        let l1_index = self.geometry.l1_index(cluster);
        self.load_table(state, l1_index)?;
        let there = match state.l1.get(l1_index) {
            Some(raw) => L1Entry::decode(*raw, self.geometry).map_err(|source| self.malformed(source))?,
            None => L1Entry::Absent,
        };
        if let L1Entry::Table { copied: Copied::Yes, .. } = there {
            return Ok(());
        }
        let (cluster, _) = self.allocate(state, ClusterCount::new(1))?;
        let at = self.geometry.host_offset(cluster);
        match there {
            L1Entry::Absent => {
                let words = self.geometry.cluster_size().as_usize() / L1Entry::SIZE;
                state.tables.insert_fresh(l1_index, at, words);
            }
            L1Entry::Table { at: shared, .. } => {
                state.tables.get_mut(l1_index).expect("load_table came first").move_to(at);
                self.free_later(state, shared);
            }
        }
        state.l1[l1_index] = L1Entry::Table { at, copied: Copied::Yes }.encode();
        state.l1_unwritten.insert(l1_index);
        Ok(())
    }
}
