//! New refcounts elsewhere: the old ones are not relied on, and not written to.
//!
//! 1. The new blocks and the new table are written behind everything that is in use, and synced. They count what
//!    will be in use when they are taken: the old table and its blocks are not.
//! 2. The twelve bytes of the header that say where the table is and how long, in its first sector, are exchanged,
//!    and synced.
//! 3. What only the old refcounts took up is given back.
//!
//! Before 2 the image is as it was; after it every refcount is right. Nothing in between exists.

use super::super::check::{References, STRETCH};
use super::super::error::{Error, Result};
use super::super::refcounts::{OFFSET_END, TABLE_BYTES_MAX};
use super::Subject;
use crate::format::{RefcountTableEntry, refcount};
use crate::units::{ByteCount, ClusterCount, HostCluster, HostOffset};
use std::collections::BTreeSet;

/// Where the place and the length of the refcount table lie (qcow2 specification, header, bytes 48-59).
const TABLE_FIELDS: HostOffset = HostOffset::new(48);

/// Where the new structures go.
struct Site {
    /// The blocks, one cluster each, then the table.
    start: HostCluster,
    /// The entries of the table that have a block.
    blocks: BTreeSet<u64>,
    table_clusters: u64,
}

impl Site {
    fn clusters(&self) -> u64 {
        self.blocks.len() as u64 + self.table_clusters
    }

    fn has(&self, cluster: HostCluster) -> bool {
        cluster.checked_since(self.start).is_some_and(|since| since.as_u64() < self.clusters())
    }
}

impl Subject<'_> {
    pub(super) fn rebuild_refcounts(&mut self, references: &References) -> Result<()> {
        let geometry = self.header.geometry;
        let site = self.site(references)?;
        let mut table = vec![0; geometry.bytes_for(ClusterCount::new(site.table_clusters)).as_usize()];
        for (place, index) in (0..).zip(&site.blocks) {
            let at = geometry.host_offset(site.start + ClusterCount::new(place));
            let first = HostCluster::new(index * geometry.refcount_block_entries());
            self.blob.write_at(at, &self.new_block(references, &site, first))?;
            let entry = ByteCount::new(index * 8).as_usize();
            table[entry..entry + 8].copy_from_slice(&RefcountTableEntry::Block { at }.encode().to_be_bytes());
        }
        let table_at = geometry.host_offset(site.start + ClusterCount::new(site.blocks.len() as u64));
        self.blob.write_at(table_at, &table)?;
        self.blob.sync()?;

        let clusters = u32::try_from(site.table_clusters).expect("at most 8 MiB");
        let mut fields = table_at.as_u64().to_be_bytes().to_vec();
        fields.extend(clusters.to_be_bytes());
        self.put_durably(TABLE_FIELDS, &fields)?;
        self.header.refcount_table = table_at;
        self.header.refcount_table_clusters = clusters;
        self.give_back(references.refcount_clusters());
        Ok(())
    }

    /// A place behind everything that is in use, for as many blocks as count that and themselves.
    fn site(&self, references: &References) -> Result<Site> {
        let geometry = self.header.geometry;
        let per_block = geometry.refcount_block_entries();
        let start = references.behind();
        let mut blocks = BTreeSet::new();
        for cluster in references.clusters().filter(|cluster| references.of_others(*cluster) > 0) {
            blocks.insert(cluster.as_u64() / per_block);
        }
        loop {
            let entries = blocks.last().map_or(0, |last| last + 1);
            let table_clusters = geometry.clusters_for(ByteCount::new(entries * 8)).as_u64();
            let site = Site { start, blocks: blocks.clone(), table_clusters };
            let end = geometry.host_offset(start + ClusterCount::new(site.clusters()));
            if geometry.bytes_for(ClusterCount::new(table_clusters)).as_u64() > TABLE_BYTES_MAX
                || end > OFFSET_END
            {
                return Err(Error::Full { image: self.name.to_owned() });
            }
            let last = start.as_u64() + site.clusters() - 1;
            blocks.extend(start.as_u64() / per_block..=last / per_block);
            if blocks.len() == site.blocks.len() {
                return Ok(site);
            }
        }
    }

    /// The block that counts the clusters from `first` on.
    fn new_block(&self, references: &References, site: &Site, first: HostCluster) -> Vec<u8> {
        let geometry = self.header.geometry;
        let order = geometry.refcount_order();
        let mut block = vec![0; geometry.cluster_size().as_usize()];
        for start in (0..geometry.refcount_block_entries()).step_by(ByteCount::new(STRETCH).as_usize()) {
            let here = first + ClusterCount::new(start);
            let is_new =
                site.has(here) || (site.start >= here && site.start < here + ClusterCount::new(STRETCH));
            if !is_new && !references.any(here, STRETCH) {
                continue;
            }
            for entry in start..start + STRETCH {
                let cluster = first + ClusterCount::new(entry);
                let count = if site.has(cluster) { 1 } else { references.of_others(cluster) };
                if count > 0 {
                    refcount::set(&mut block, order, entry, count);
                }
            }
        }
        block
    }
}
