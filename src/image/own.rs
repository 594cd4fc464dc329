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
