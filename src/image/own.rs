//! Where the image's own tables lie: no guest reads or writes there, whatever an entry says.
//!
//! L2 tables and refcount blocks keep their place while an image is open; those that are made later lie in clusters
//! that no entry named. The L1 table and the refcount table move when they grow, so they are looked up in the header
//! as it is.

use super::error::{Error, Result};
use super::map::Cluster;
use super::open::{Image, State};
use crate::format::{Geometry, L1Entry, RefcountTableEntry, Subclusters};
use crate::units::{ByteCount, HostCluster, HostOffset};

/// The L2 tables and the refcount blocks that an image had when it was opened.
#[derive(Debug)]
pub(super) struct OwnTables {
    clusters: Box<[HostCluster]>,
    /// One bit for each cluster, by its number modulo the count of bits: most clusters of data are none of these.
    marks: Box<[u64]>,
}

impl OwnTables {
    /// Costs what the two tables have of entries. One that breaks a rule is refused when it is used.
    pub(super) fn new(geometry: Geometry, l1: &[u64], refcount_table: &[u64]) -> Self {
        let there = |raw: &&u64| **raw != 0;
        let tables = l1.iter().filter(there).filter_map(|raw| match L1Entry::decode(*raw, geometry) {
            Ok(L1Entry::Table { at, .. }) => Some(at),
            _ => None,
        });
        let blocks = refcount_table.iter().filter(there).filter_map(|raw| {
            match RefcountTableEntry::decode(*raw, geometry) {
                Ok(RefcountTableEntry::Block { at }) => Some(at),
                _ => None,
            }
        });
        let mut clusters: Vec<_> = tables.chain(blocks).map(|at| geometry.host_cluster(at)).collect();
        clusters.sort_unstable();
        clusters.dedup();
        let mut marks = vec![0; (clusters.len() / 4).next_power_of_two()].into_boxed_slice();
        for cluster in &clusters {
            let (word, bit) = mark(*cluster, marks.len());
            marks[word] |= bit;
        }
        Self { clusters: clusters.into(), marks }
    }

    fn contains(&self, cluster: HostCluster) -> bool {
        let (word, bit) = mark(cluster, self.marks.len());
        self.marks[word] & bit != 0 && self.clusters.binary_search(&cluster).is_ok()
    }
}

fn mark(cluster: HostCluster, words: usize) -> (usize, u64) {
    let word = ByteCount::new(cluster.as_u64() / 64).as_usize() % words;
    (word, 1 << (cluster.as_u64() % 64))
}

impl Image {
    /// Refuses an entry whose data lies on one of the image's own tables.
    pub(super) fn refuse_on_tables(&self, state: &State, cluster: Cluster) -> Result<()> {
        match cluster {
            Cluster::Plain(Subclusters { at: Some(at), .. }) => self.refuse_own(state, "data cluster", at),
            Cluster::Compressed(extent) => extent.host_clusters(self.geometry).try_for_each(|cluster| {
                self.refuse_own(state, "compressed cluster", self.geometry.host_offset(cluster))
            }),
            Cluster::Plain(_) => Ok(()),
        }
    }

    fn refuse_own(&self, state: &State, structure: &'static str, at: HostOffset) -> Result<()> {
        if self.own_tables.contains(self.geometry.host_cluster(at)) {
            return Err(Error::OnTables { image: self.name.clone(), structure, at });
        }
        self.refuse_roots(state, structure, at)
    }

    /// Refuses what lies on the header, on the L1 table or on the refcount table.
    pub(super) fn refuse_roots(&self, state: &State, structure: &'static str, at: HostOffset) -> Result<()> {
        let header = &state.header;
        let cluster_size = self.geometry.cluster_size();
        if at < HostOffset::ZERO + cluster_size {
            return Err(Error::OnHeader { image: self.name.clone(), structure });
        }
        let table = cluster_size.as_u64() * u64::from(header.refcount_table_clusters);
        let roots = [(header.l1_table, u64::from(header.l1_entries) * 8), (header.refcount_table, table)];
        for (first, length) in roots {
            // Both begin with a cluster, and so does what is asked about.
            if at.checked_since(first).is_some_and(|inside| inside.as_u64() < length) {
                return Err(Error::OnTables { image: self.name.clone(), structure, at });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Copied, L2Width};
    use crate::units::ClusterCount;
    use std::collections::BTreeSet;

    #[test]
    fn what_the_two_root_tables_name_is_contained_and_nothing_else() {
        let geometry = Geometry::new(9, 4, L2Width::Standard).expect("the format has it");
        let at = |cluster: u64| geometry.host_offset(HostCluster::ZERO + ClusterCount::new(cluster));
        // Alone; one behind the other; many whose marks fall together; the same one twice.
        let all: [&[u64]; 4] = [&[70], &[3, 4, 5, 64, 65], &[9, 73, 137, 201, 265, 1033, 4105], &[8, 8, 72]];
        for clusters in all {
            for blocks in 0..=clusters.len() {
                let (blocks, tables) = clusters.split_at(blocks);
                let table = |cluster: &u64| L1Entry::Table { at: at(*cluster), copied: Copied::Yes }.encode();
                let block = |cluster: &u64| RefcountTableEntry::Block { at: at(*cluster) }.encode();
                let mut l1: Vec<u64> = tables.iter().map(table).collect();
                l1.insert(l1.len() / 2, 0);
                let refcounts: Vec<u64> = blocks.iter().map(block).collect();
                let own = OwnTables::new(geometry, &l1, &refcounts);
                let named: BTreeSet<u64> = clusters.iter().copied().collect();
                let contained: BTreeSet<u64> =
                    (0..5000).filter(|cluster| own.contains(geometry.host_cluster(at(*cluster)))).collect();
                assert_eq!(contained, named);
            }
        }
    }
}
