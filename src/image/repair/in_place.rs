//! Refcounts put right where they are, in blocks that are whole.
//!
//! Each refcount goes from its old value to the number of references in one write, and lies in one sector.

use super::super::check::{References, STRETCH};
use super::super::error::Result;
use super::Subject;
use crate::format::{RefcountTableEntry, refcount};
use crate::storage::read_zero_extended;
use crate::units::{ByteCount, ClusterCount, HostCluster, HostOffset};

/// The runs of clusters that are given back at most; what more there is stays in the file, free.
const FREED_MAX: usize = 1 << 20;

impl Subject<'_> {
    pub(super) fn correct_refcounts(&self, references: &References) -> Result<()> {
        let geometry = self.header.geometry;
        let clusters = ClusterCount::new(u64::from(self.header.refcount_table_clusters));
        let table = self.read(self.header.refcount_table, geometry.bytes_for(clusters))?;
        let mut freed = Vec::new();
        for (index, raw) in (0..).zip(table.chunks_exact(RefcountTableEntry::SIZE)) {
            let raw = u64::from_be_bytes(raw.try_into().expect("eight bytes"));
            // The caller has found every entry to be whole.
            let Ok(RefcountTableEntry::Block { at }) = RefcountTableEntry::decode(raw, geometry) else {
                continue;
            };
            let first = HostCluster::new(index * geometry.refcount_block_entries());
            self.correct_block(references, first, at, &mut freed)?;
        }
        self.blob.sync()?;
        self.give_back(freed);
        Ok(())
    }

    /// One block, which counts the clusters from `first` on.
    fn correct_block(
        &self,
        references: &References,
        first: HostCluster,
        at: HostOffset,
        freed: &mut Vec<HostCluster>,
    ) -> Result<()> {
        let order = self.header.geometry.refcount_order();
        let mut block = self.read(at, self.header.geometry.cluster_size())?;
        let stretch_bytes = ByteCount::new((STRETCH << order) / 8).as_usize();
        let mut changed: Option<(usize, usize)> = None;
        for (place, counters) in block.chunks_mut(stretch_bytes).enumerate() {
            let here = first + ClusterCount::new(place as u64 * STRETCH);
            if counters.iter().all(|byte| *byte == 0) && !references.any(here, STRETCH) {
                continue;
            }
            let mut is_wrong = false;
            for entry in 0..(counters.len() as u64 * 8) >> order {
                let cluster = here + ClusterCount::new(entry);
                let (old, new) = (refcount::get(counters, order, entry), references.of(cluster));
                if old == new {
                    continue;
                }
                is_wrong = true;
                refcount::set(counters, order, entry, new);
                if new == 0 && freed.len() < FREED_MAX {
                    freed.push(cluster);
                }
            }
            if is_wrong {
                let start = changed.map_or(place, |(start, _)| start);
                changed = Some((start, place + 1));
            }
        }
        if let Some((start, end)) = changed {
            let range = start * stretch_bytes..(end * stretch_bytes).min(block.len());
            self.blob.write_at(at + ByteCount::of(range.start), &block[range])?;
        }
        Ok(())
    }

    pub(super) fn read(&self, at: HostOffset, length: ByteCount) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length.as_usize()];
        read_zero_extended(self.blob, self.blob.length()?, at, &mut bytes)?;
        Ok(bytes)
    }
}
