//! The counts against the refcounts, and the marks of the active tables.

use super::Finding;
use super::references::STRETCH;
use super::walk::{Walk, pieces};
use crate::format::{Copied, L1Entry, L2Entry, RefcountTableEntry, refcount};
use crate::image::error::Result;
use crate::units::{ByteCount, ClusterCount, HostCluster, HostOffset};
use std::collections::HashSet;

impl Walk<'_> {
    /// Every cluster that is counted or referred to.
    pub(super) fn compare_refcounts(&mut self) -> Result<()> {
        let clusters = ClusterCount::new(u64::from(self.header.refcount_table_clusters));
        let table = self.entries(self.header.refcount_table, self.geometry.bytes_for(clusters))?;
        let per_block = self.geometry.refcount_block_entries();
        for (index, raw) in table.iter().enumerate() {
            let Ok(RefcountTableEntry::Block { at }) = RefcountTableEntry::decode(*raw, self.geometry) else {
                continue;
            };
            if at >= self.end {
                continue;
            }
            let block = self.bytes(at, self.geometry.cluster_size())?;
            self.compare_block(HostCluster::new(index as u64 * per_block), &block);
        }
        // What no block covers has a refcount of 0.
        let uncovered: Vec<HostCluster> =
            self.references.stretches().filter(|first| !self.is_covered(&table, *first)).collect();
        self.refcounts_broken |= !uncovered.is_empty();
        for first in uncovered {
            for index in 0..STRETCH {
                self.compare(first + ClusterCount::new(index), 0);
            }
        }
        Ok(())
    }

    /// The clusters from `first` on, which this block counts. Most of a block is zeros that nothing refers to.
    fn compare_block(&mut self, first: HostCluster, block: &[u8]) {
        let order = self.geometry.refcount_order();
        let bytes = ByteCount::new((STRETCH << order) / 8).as_usize();
        for (index, counters) in block.chunks(bytes).enumerate() {
            let here = first + ClusterCount::new(index as u64 * STRETCH);
            let agrees = match self.references.of_stretch(here) {
                None => counters.iter().all(|byte| *byte == 0),
                Some(counts) => {
                    self.all_single &= counts.iter().all(|count| *count <= 1);
                    refcount::are(counters, order, counts)
                }
            };
            if agrees {
                continue;
            }
            for entry in 0..(counters.len() as u64 * 8) >> order {
                self.compare(here + ClusterCount::new(entry), refcount::get(counters, order, entry));
            }
        }
    }

    fn is_covered(&self, table: &[u64], cluster: HostCluster) -> bool {
        let raw = table.get(self.geometry.refcount_table_index(cluster));
        raw.is_some_and(|raw| {
            matches!(RefcountTableEntry::decode(*raw, self.geometry), Ok(RefcountTableEntry::Block { at }) if at < self.end)
        })
    }

    fn compare(&mut self, cluster: HostCluster, refcount: u64) {
        let references = self.references.of(cluster);
        if refcount != references && references > 0 {
            self.disagreeing.insert(cluster, refcount);
            self.all_single &= refcount == 1;
        }
        if refcount < references {
            // One disk that has a cluster twice must have lost one of the two; and no count is larger than its width.
            if self.references.is_shared(cluster)
                || self.references.of_others(cluster) > self.geometry.refcount_max()
            {
                self.report.beyond_repair += 1;
            }
            self.report.refcounts_too_low += 1;
            self.report.corrupt(Finding::RefcountTooLow { cluster, refcount, references });
        } else if refcount > references {
            self.report.leaks += 1;
            self.report.keep(Finding::Leak { cluster, refcount, references });
        }
    }

    /// The marks of the active tables: set if and only if the refcount is 1.
    pub(super) fn compare_copied(&mut self) -> Result<()> {
        let l1_bytes = ByteCount::new(u64::from(self.header.l1_entries) * 8);
        let mut walked = HashSet::new();
        for (at, length) in pieces(self.header.l1_table, l1_bytes) {
            for raw in self.entries(at, length)? {
                if let Ok(L1Entry::Table { at, copied }) = L1Entry::decode(raw, self.geometry)
                    && at < self.end
                {
                    self.compare_mark(at, copied);
                    let is_known = self.all_single && self.all_copied.contains(&at);
                    if walked.insert(at) && !is_known && !self.header.incompatible.has_data_file() {
                        self.compare_marks_of(at)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The marks of one L2 table.
    fn compare_marks_of(&mut self, table: HostOffset) -> Result<()> {
        let table = self.l2_table(table)?;
        for (raw, bitmap) in table.entries() {
            let entry = L2Entry::decode(raw, bitmap, self.geometry, self.header.version);
            let Ok(Some(there)) = entry.map(|entry| entry.subclusters(self.geometry)) else { continue };
            if let Some(at) = there.at {
                self.compare_mark(at, there.copied);
            }
        }
        self.buffer = table.bytes;
        Ok(())
    }

    fn compare_mark(&mut self, at: HostOffset, copied: Copied) {
        let cluster = self.geometry.host_cluster(at);
        let refcount = self.disagreeing.get(&cluster).copied();
        let refcount = refcount.unwrap_or_else(|| self.references.of(cluster));
        if (copied == Copied::Yes) != (refcount == 1) {
            self.report.corrupt(Finding::CopiedDisagrees { cluster, refcount });
        }
    }
}
