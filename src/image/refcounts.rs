//! The refcounts of one image, and the allocation of its clusters.
//!
//! What must hold on disk at every instant: **a refcount is never lower than the number of references**. So
//! counts go up in memory at once and reach the disk before any reference does (`flush`, phase A); they go
//! down only after the reference is gone from the disk for good (phase D). Between the two a cluster is taken.
//!
//! * A block is *fresh* when the refcount table on disk does not name it yet.
//! * The cursor: every cluster below it is in use. Allocation takes the first free cluster from there on.

use super::error::{Error, Result};
use crate::format::{Geometry, RefcountTableEntry, refcount};
use crate::storage::{Blob, read_zero_extended};
use crate::units::{ByteCount, ClusterCount, HostCluster, HostOffset};
use std::collections::{BTreeSet, HashMap};

/// The refcount table may take 8 MiB (QEMU enforces).
pub(super) const TABLE_BYTES_MAX: u64 = 8 << 20;

/// Blocks that are kept when they can be read again.
const BLOCKS_HELD_MAX: usize = 64;

/// Clusters end here: the offset in an L1 or L2 entry has 56 bits (qcow2 specification, cluster mapping).
pub(super) const OFFSET_END: HostOffset = HostOffset::new(1 << 56);

/// One block of refcounts.
#[derive(Debug)]
struct Block {
    at: HostOffset,
    bytes: Vec<u8>,
    dirty: bool,
    fresh: bool,
}

/// The refcounts of one image.
#[derive(Debug)]
pub(super) struct Refcounts {
    geometry: Geometry,
    image: String,
    table_at: HostOffset,
    table: Vec<u64>,
    /// The table entries that the disk lacks; each names a fresh block.
    table_unwritten: BTreeSet<usize>,
    blocks: HashMap<usize, Block>,
    cursor: HostCluster,
}

/// A new refcount table that is written but that the header does not name yet.
#[derive(Debug)]
pub(super) struct GrownTable {
    pub(super) at: HostOffset,
    pub(super) clusters: u32,
    /// The clusters of the old table, to be released once the header on disk names the new one.
    pub(super) old: (HostCluster, ClusterCount),
}

impl Refcounts {
    /// Takes in the refcount table as it was read.
    pub(super) fn new(geometry: Geometry, image: &str, table_at: HostOffset, table: Vec<u64>) -> Self {
        Self {
            geometry,
            image: image.to_owned(),
            table_at,
            table,
            table_unwritten: BTreeSet::new(),
            blocks: HashMap::new(),
            // Cluster 0 is the header's, whatever its refcount says.
            cursor: HostCluster::new(1),
        }
    }

    /// Takes up to `wanted` free clusters that lie side by side. At least one, unless the image is full; the
    /// caller fails over to [`Refcounts::grow`] when no table entry is left (`None`).
    pub(super) fn allocate(
        &mut self,
        blob: &dyn Blob,
        end: HostOffset,
        wanted: ClusterCount,
    ) -> Result<Option<(HostCluster, ClusterCount)>> {
        let Some(start) = self.first_free(blob, end, self.cursor)? else { return Ok(None) };
        let mut count = ClusterCount::ZERO;
        while count < wanted && self.is_free_and_covered(blob, end, start + count)? {
            self.raise(start + count);
            count += ClusterCount::new(1);
        }
        self.cursor = start + count;
        Ok(Some((start, count)))
    }

    /// Takes exactly `wanted` clusters side by side, or none (`None`: the table must grow first).
    ///
    /// Where the blocks that are there leave no such run, it lies behind all that they count, and behind the new
    /// blocks that count it: no block lies in its way, however long it is.
    pub(super) fn allocate_exactly(
        &mut self,
        blob: &dyn Blob,
        end: HostOffset,
        wanted: ClusterCount,
    ) -> Result<Option<HostCluster>> {
        let per_block = self.geometry.refcount_block_entries();
        let uncounted = self.table.iter().rposition(|raw| *raw != 0).map_or(0, |last| last + 1);
        let behind = HostCluster::new(uncounted as u64 * per_block);
        if let Some(start) = self.free_run(blob, end, behind, wanted)? {
            self.refuse_past_end_of_format(start + wanted)?;
            for index in 0..wanted.as_u64() {
                let cluster = start + ClusterCount::new(index);
                self.load(blob, end, self.geometry.refcount_table_index(cluster))?;
                self.raise(cluster);
            }
            return Ok(Some(start));
        }
        let blocks = blocks_covering(wanted.as_u64(), per_block);
        if uncounted as u64 + blocks > self.table.len() as u64 {
            return Ok(None);
        }
        let start = behind + ClusterCount::new(blocks);
        self.refuse_past_end_of_format(start + wanted)?;
        self.take_behind_new_blocks(uncounted, blocks, wanted);
        Ok(Some(start))
    }

    /// Counts one more reference to a cluster in use; false when its refcount is as large as it can be, or when
    /// nothing uses it.
    pub(super) fn share(&mut self, blob: &dyn Blob, end: HostOffset, cluster: HostCluster) -> Result<bool> {
        let (order, max) = (self.geometry.refcount_order(), self.geometry.refcount_max());
        let entry = self.geometry.refcount_block_index(cluster) as u64;
        let Some(block) = self.load(blob, end, self.geometry.refcount_table_index(cluster))? else {
            return Ok(false);
        };
        let old = refcount::get(&block.bytes, order, entry);
        if old == 0 || old == max {
            return Ok(false);
        }
        refcount::set(&mut block.bytes, order, entry, old + 1);
        block.dirty = true;
        Ok(true)
    }

    /// Takes one reference from each of some clusters, when nothing on disk holds it any more. Answers which of them
    /// are free now, as runs.
    pub(super) fn release(
        &mut self,
        blob: &dyn Blob,
        end: HostOffset,
        start: HostCluster,
        count: ClusterCount,
    ) -> Result<Vec<(HostCluster, ClusterCount)>> {
        let order = self.geometry.refcount_order();
        let one = ClusterCount::new(1);
        let mut emptied: Vec<(HostCluster, ClusterCount)> = Vec::new();
        for index in 0..count.as_u64() {
            let cluster = start + ClusterCount::new(index);
            let entry = self.geometry.refcount_block_index(cluster) as u64;
            let Some(block) = self.load(blob, end, self.geometry.refcount_table_index(cluster))? else {
                continue;
            };
            let old = refcount::get(&block.bytes, order, entry);
            refcount::set(&mut block.bytes, order, entry, old.saturating_sub(1));
            block.dirty = true;
            if old <= 1 {
                self.cursor = self.cursor.min(cluster);
            }
            match emptied.last_mut() {
                // One that was free before may be somebody else's by now.
                _ if old != 1 => {}
                Some((start, count)) if *start + *count == cluster => *count += one,
                _ => emptied.push((cluster, one)),
            }
        }
        Ok(emptied)
    }

    /// Writes every block that the disk lacks. What was written is not durable before the blob is synced.
    pub(super) fn write_blocks(&mut self, blob: &dyn Blob) -> Result<bool> {
        let mut blocks: Vec<_> = self.blocks.values().filter(|block| block.dirty).collect();
        blocks.sort_by_key(|block| block.at);
        for block in &blocks {
            blob.write_at(block.at, &block.bytes)?;
        }
        Ok(!blocks.is_empty())
    }

    /// Writes the table entries of the fresh blocks, which must be durable by now.
    pub(super) fn write_table(&mut self, blob: &dyn Blob) -> Result<bool> {
        for index in &self.table_unwritten {
            let at = self.table_at + ByteCount::of(index * 8);
            blob.write_at(at, &self.table[*index].to_be_bytes())?;
        }
        Ok(!self.table_unwritten.is_empty())
    }

    /// Notes that every block that was written is durable.
    pub(super) fn mark_blocks_written(&mut self) {
        for block in self.blocks.values_mut() {
            block.dirty = false;
        }
    }

    /// Notes that the table on disk names every block.
    pub(super) fn mark_table_written(&mut self) {
        self.table_unwritten.clear();
        for block in self.blocks.values_mut() {
            block.fresh = false;
        }
    }

    pub(super) fn is_clean(&self) -> bool {
        self.table_unwritten.is_empty() && self.blocks.values().all(|block| !block.dirty)
    }

    /// Drops blocks that can be read again, when many are held.
    pub(super) fn drop_clean(&mut self) {
        if self.blocks.len() > BLOCKS_HELD_MAX {
            self.blocks.retain(|_, block| block.dirty || block.fresh);
        }
    }

    /// Writes a larger refcount table, and the blocks that cover it, behind everything that the old one covers.
    ///
    /// The caller then syncs, lets the header name the new table, syncs, and releases the old one.
    pub(super) fn grow(&mut self, blob: &dyn Blob) -> Result<GrownTable> {
        let geometry = self.geometry;
        let per_block = geometry.refcount_block_entries();
        let first = self.table.len();
        let start = HostCluster::new(first as u64 * per_block);
        let entries_wanted = (first as u64 * 2).max(first as u64 + 1);
        let table_clusters = geometry.clusters_for(ByteCount::new(entries_wanted * 8));
        let blocks = blocks_covering(table_clusters.as_u64(), per_block);
        let bytes = geometry.bytes_for(table_clusters);
        if bytes.as_u64() > TABLE_BYTES_MAX || first as u64 + blocks > bytes.as_u64() / 8 {
            return Err(Error::Full { image: self.image.clone() });
        }
        let table_at = start + ClusterCount::new(blocks);
        self.table.resize(bytes.as_usize() / 8, 0);
        for index in 0..blocks {
            self.insert_fresh_block(
                first + usize::try_from(index).expect("few blocks"),
                start + ClusterCount::new(index),
            );
        }
        for index in 0..blocks + table_clusters.as_u64() {
            self.raise(start + ClusterCount::new(index));
        }
        self.write_blocks(blob)?;
        let table: Vec<u8> = self.table.iter().flat_map(|raw| raw.to_be_bytes()).collect();
        blob.write_at(geometry.host_offset(table_at), &table)?;

        let old = (geometry.host_cluster(self.table_at), geometry.clusters_for(ByteCount::of(first * 8)));
        self.table_at = geometry.host_offset(table_at);
        Ok(GrownTable {
            at: self.table_at,
            clusters: u32::try_from(table_clusters.as_u64()).expect("at most 8 MiB"),
            old,
        })
    }

    /// Makes `blocks` blocks from `table_index` on, at the begin of what they count, and takes the `wanted` clusters
    /// behind them.
    fn take_behind_new_blocks(&mut self, table_index: usize, blocks: u64, wanted: ClusterCount) {
        let start = HostCluster::new(table_index as u64 * self.geometry.refcount_block_entries());
        for index in 0..blocks {
            let place = start + ClusterCount::new(index);
            self.insert_fresh_block(table_index + ByteCount::new(index).as_usize(), place);
        }
        for index in 0..blocks + wanted.as_u64() {
            self.raise(start + ClusterCount::new(index));
        }
    }

    /// Refuses clusters that no table entry can name: offsets end at 2^56.
    fn refuse_past_end_of_format(&self, end: HostCluster) -> Result<()> {
        if self.geometry.host_offset(end) <= OFFSET_END {
            return Ok(());
        }
        Err(Error::Full { image: self.image.clone() })
    }

    /// The first free cluster from `from` on, its block made when there is none. `None` when the table ends.
    fn first_free(
        &mut self,
        blob: &dyn Blob,
        end: HostOffset,
        from: HostCluster,
    ) -> Result<Option<HostCluster>> {
        let order = self.geometry.refcount_order();
        let per_block = self.geometry.refcount_block_entries();
        let mut cluster = from;
        loop {
            let table_index = self.geometry.refcount_table_index(cluster);
            if table_index >= self.table.len() {
                return Ok(None);
            }
            let first = HostCluster::new(table_index as u64 * per_block);
            self.refuse_past_end_of_format(cluster + ClusterCount::new(1))?;
            // A long way through full blocks takes up no more memory than a short one.
            self.drop_clean();
            let Some(block) = self.load(blob, end, table_index)? else {
                self.insert_fresh_block(table_index, first);
                self.raise(first);
                continue;
            };
            let mut index = cluster.as_u64() - first.as_u64();
            while index < per_block && refcount::get(&block.bytes, order, index) != 0 {
                index += 1;
            }
            cluster = first + ClusterCount::new(index);
            if index < per_block {
                return Ok(Some(cluster));
            }
        }
    }

    /// The first `wanted` free clusters side by side from the cursor on and before `behind`, all in blocks that
    /// are there.
    fn free_run(
        &mut self,
        blob: &dyn Blob,
        end: HostOffset,
        behind: HostCluster,
        wanted: ClusterCount,
    ) -> Result<Option<HostCluster>> {
        let per_block = self.geometry.refcount_block_entries();
        let (mut start, mut cluster) = (self.cursor, self.cursor);
        while cluster < behind {
            let table_index = self.geometry.refcount_table_index(cluster);
            if cluster.as_u64().is_multiple_of(per_block) {
                self.drop_clean();
            }
            if self.is_free_and_covered(blob, end, cluster)? {
                cluster += ClusterCount::new(1);
                if cluster - start == wanted {
                    return Ok(Some(start));
                }
                continue;
            }
            cluster = match self.blocks.contains_key(&table_index) {
                true => cluster + ClusterCount::new(1),
                false => HostCluster::new((table_index as u64 + 1) * per_block),
            };
            start = cluster;
        }
        Ok(None)
    }

    /// Whether a cluster is free and has a block that can count it.
    fn is_free_and_covered(
        &mut self,
        blob: &dyn Blob,
        end: HostOffset,
        cluster: HostCluster,
    ) -> Result<bool> {
        let index = self.geometry.refcount_block_index(cluster) as u64;
        let order = self.geometry.refcount_order();
        let block = self.load(blob, end, self.geometry.refcount_table_index(cluster))?;
        Ok(block.is_some_and(|block| refcount::get(&block.bytes, order, index) == 0))
    }

    /// Counts the first reference to a free cluster whose block is in memory.
    fn raise(&mut self, cluster: HostCluster) {
        let index = self.geometry.refcount_block_index(cluster) as u64;
        let block = self
            .blocks
            .get_mut(&self.geometry.refcount_table_index(cluster))
            .expect("the caller has just looked into this block");
        refcount::set(&mut block.bytes, self.geometry.refcount_order(), index, 1);
        block.dirty = true;
    }

    fn insert_fresh_block(&mut self, table_index: usize, cluster: HostCluster) {
        let at = self.geometry.host_offset(cluster);
        self.table[table_index] = RefcountTableEntry::Block { at }.encode();
        self.table_unwritten.insert(table_index);
        let bytes = vec![0; self.geometry.cluster_size().as_usize()];
        self.blocks.insert(table_index, Block { at, bytes, dirty: true, fresh: true });
    }

    /// The block with this index, read when it is not in memory; `None` where the table has none.
    fn load(&mut self, blob: &dyn Blob, end: HostOffset, table_index: usize) -> Result<Option<&mut Block>> {
        if !self.blocks.contains_key(&table_index) {
            let Some(raw) = self.table.get(table_index) else { return Ok(None) };
            let entry = RefcountTableEntry::decode(*raw, self.geometry)
                .map_err(|source| Error::Format { image: self.image.clone(), source })?;
            let RefcountTableEntry::Block { at } = entry else { return Ok(None) };
            if at >= end {
                let image = self.image.clone();
                return Err(Error::OutsideFile { image, structure: "refcount block", at, end });
            }
            let mut bytes = vec![0; self.geometry.cluster_size().as_usize()];
            read_zero_extended(blob, end.as_length(), at, &mut bytes)?;
            self.blocks.insert(table_index, Block { at, bytes, dirty: false, fresh: false });
        }
        Ok(self.blocks.get_mut(&table_index))
    }
}

/// How many blocks are needed for `clusters` clusters and for themselves.
fn blocks_covering(clusters: u64, per_block: u64) -> u64 {
    let mut blocks = 1;
    while (clusters + blocks).div_ceil(per_block) > blocks {
        blocks += 1;
    }
    blocks
}

#[cfg(test)]
mod tests;
