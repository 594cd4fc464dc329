//! One check under way: every table is walked once, every reference counted, then the counts are compared.

use super::{CheckReport, Finding};
use crate::format::{
    BitmapTableEntry, CompressedExtent, Copied, Geometry, Header, L1Entry, L2Entry, RefcountTableEntry,
    SnapshotEntry, parse_snapshots, refcount,
};
use crate::image::error::Result;
use crate::storage::{Blob, read_zero_extended};
use crate::units::{ByteCount, ClusterCount, HostCluster, HostOffset};
use std::collections::{BTreeMap, HashSet};

/// The clusters that one stretch of counts covers. Small: in a hostile file each of them has one reference.
const STRETCH: u64 = 64;

/// The length of a file counts up to the next multiple of this (QEMU enforces).
const SECTOR: u64 = 512;

/// The references counted so far, in stretches of the file.
#[derive(Debug, Default)]
struct References(BTreeMap<u64, Vec<u32>>);

impl References {
    fn add(&mut self, cluster: HostCluster) {
        let stretch = self
            .0
            .entry(cluster.as_u64() / STRETCH)
            .or_insert_with(|| vec![0; ByteCount::new(STRETCH).as_usize()]);
        let count = &mut stretch[ByteCount::new(cluster.as_u64() % STRETCH).as_usize()];
        *count = count.saturating_add(1);
    }

    fn of(&self, cluster: HostCluster) -> u64 {
        let stretch = self.0.get(&(cluster.as_u64() / STRETCH));
        stretch.map_or(0, |counts| u64::from(counts[ByteCount::new(cluster.as_u64() % STRETCH).as_usize()]))
    }

    /// Whether any of the `count` clusters from `first` on, which begin with a stretch, is referred to.
    fn any(&self, first: HostCluster, count: u64) -> bool {
        self.0.range(first.as_u64() / STRETCH..(first.as_u64() + count).div_ceil(STRETCH)).next().is_some()
    }
}

/// One check under way.
pub(super) struct Walk<'a> {
    blob: &'a dyn Blob,
    header: &'a Header,
    geometry: Geometry,
    end: HostOffset,
    references: References,
    /// The refcounts of those clusters that are referred to more or less often than that.
    disagreeing: BTreeMap<HostCluster, u64>,
    report: CheckReport,
}

impl<'a> Walk<'a> {
    pub(super) fn new(blob: &'a dyn Blob, header: &'a Header, end: HostOffset) -> Self {
        Self {
            blob,
            header,
            geometry: header.geometry,
            end,
            references: References::default(),
            disagreeing: BTreeMap::new(),
            report: CheckReport::default(),
        }
    }

    /// Walks the image and answers what is wrong.
    pub(super) fn report(mut self) -> Result<CheckReport> {
        self.count_own_tables()?;
        self.count_internal_snapshots()?;
        self.count_guest("header", self.header.l1_table, u64::from(self.header.l1_entries))?;
        self.count_bitmaps()?;
        self.compare_refcounts()?;
        self.compare_copied()?;
        Ok(self.report)
    }

    /// The header, the refcount table and its blocks.
    fn count_own_tables(&mut self) -> Result<()> {
        self.references.add(HostCluster::ZERO);
        let table = self.header.refcount_table;
        let clusters = ClusterCount::new(u64::from(self.header.refcount_table_clusters));
        self.count_run("header", table, self.geometry.bytes_for(clusters));
        for raw in self.entries(table, self.geometry.bytes_for(clusters))? {
            match RefcountTableEntry::decode(raw, self.geometry) {
                Ok(RefcountTableEntry::Block { at }) => self.count_cluster("refcount table", at),
                Ok(_) => {}
                Err(_) => self.report.corrupt(Finding::BrokenEntry { structure: "refcount table", raw }),
            }
        }
        Ok(())
    }

    /// The table of internal snapshots and everything that each of them refers to.
    fn count_internal_snapshots(&mut self) -> Result<()> {
        if self.header.snapshot_count == 0 {
            return Ok(());
        }
        let at = self.header.snapshot_table;
        let length = self.end.checked_since(at).unwrap_or_default().min(SnapshotEntry::TABLE_SIZE_MAX);
        let bytes = self.bytes(at, length)?;
        match parse_snapshots(&bytes, self.header.snapshot_count, self.header.version) {
            Ok((snapshots, length)) => {
                self.count_run("header", at, length);
                for snapshot in snapshots {
                    self.count_guest("snapshot table", snapshot.l1_table, u64::from(snapshot.l1_entries))?;
                }
            }
            Err(_) => {
                let raw = at.as_u64();
                self.report.corrupt(Finding::BrokenEntry { structure: "snapshot table", raw });
            }
        }
        Ok(())
    }

    /// An L1 table, its L2 tables and all that they refer to.
    fn count_guest(&mut self, owner: &'static str, l1: HostOffset, entries: u64) -> Result<()> {
        let bytes = ByteCount::new(entries * 8);
        self.count_run(owner, l1, bytes);
        let mut walked = HashSet::new();
        for raw in self.entries(l1, bytes)? {
            match L1Entry::decode(raw, self.geometry) {
                Ok(L1Entry::Table { at, .. }) => {
                    self.count_cluster("L1 table", at);
                    // Two ranges of one disk never share a table: the second is wrong, and walking it again would
                    // let a small file keep the check busy for ever.
                    if walked.insert(at) {
                        self.count_table(at)?;
                    }
                }
                Ok(L1Entry::Absent) => {}
                Err(_) => self.report.corrupt(Finding::BrokenEntry { structure: "L1 table", raw }),
            }
        }
        Ok(())
    }

    fn count_table(&mut self, at: HostOffset) -> Result<()> {
        for raw in self.entries(at, self.geometry.cluster_size())? {
            match L2Entry::decode(raw, 0, self.geometry, self.header.version) {
                Ok(L2Entry::Data { at, .. }) => {
                    self.report.data_clusters += 1;
                    self.count_cluster("L2 table", at);
                }
                Ok(L2Entry::Zero { allocation: Some(at), .. }) => self.count_cluster("L2 table", at),
                Ok(L2Entry::Compressed(extent)) => {
                    self.report.data_clusters += 1;
                    self.report.compressed_clusters += 1;
                    self.count_extent(extent);
                }
                Ok(_) => {}
                Err(_) => self.report.corrupt(Finding::BrokenEntry { structure: "L2 table", raw }),
            }
        }
        Ok(())
    }

    /// The directory of persistent bitmaps, their tables and their data. Bitmaps that the header does not vouch
    /// for are leaks (QEMU takes them for nothing else).
    fn count_bitmaps(&mut self) -> Result<()> {
        let Ok(Some(extension)) = self.header.bitmaps() else { return Ok(()) };
        self.count_run("header", extension.directory, extension.directory_size);
        let directory = self.bytes(extension.directory, extension.directory_size)?;
        let Ok(bitmaps) = extension.parse_directory(&directory, self.geometry) else {
            let raw = extension.directory.as_u64();
            self.report.corrupt(Finding::BrokenEntry { structure: "bitmap directory", raw });
            return Ok(());
        };
        for bitmap in bitmaps {
            let bytes = ByteCount::new(u64::from(bitmap.table_entries) * 8);
            self.count_run("bitmap directory", bitmap.table, bytes);
            for raw in self.entries(bitmap.table, bytes)? {
                match BitmapTableEntry::decode(raw, self.geometry) {
                    Ok(BitmapTableEntry::Data { at }) => self.count_cluster("bitmap table", at),
                    Ok(_) => {}
                    Err(_) => self.report.corrupt(Finding::BrokenEntry { structure: "bitmap table", raw }),
                }
            }
        }
        Ok(())
    }

    fn count_cluster(&mut self, structure: &'static str, at: HostOffset) {
        // The last cluster of a file may be cut short; one that begins past the end may not.
        if at >= self.end {
            self.report.corrupt(Finding::OutsideFile { structure, at });
            return;
        }
        self.references.add(self.geometry.host_cluster(at));
    }

    /// The host clusters that a compressed cluster touches. The file may end within its sectors, but not a cluster
    /// or more before their end (QEMU takes that for an error).
    fn count_extent(&mut self, extent: CompressedExtent) {
        let end = self.end.as_length().as_u64().next_multiple_of(SECTOR);
        let past = (extent.at + extent.length).as_u64().saturating_sub(end);
        if extent.at >= self.end || past >= self.geometry.cluster_size().as_u64() {
            self.report.corrupt(Finding::OutsideFile { structure: "L2 table", at: extent.at });
            return;
        }
        for cluster in extent.host_clusters(self.geometry) {
            self.references.add(cluster);
        }
    }

    /// A table of several clusters. As with one cluster, only the end of the last one may be missing.
    fn count_run(&mut self, structure: &'static str, at: HostOffset, bytes: ByteCount) {
        if bytes.is_zero() {
            return;
        }
        let last = self.geometry.clusters_for(bytes).as_u64() - 1;
        let last = at.checked_add(self.geometry.bytes_for(ClusterCount::new(last)));
        if last.is_none_or(|last| last >= self.end) {
            self.report.corrupt(Finding::OutsideFile { structure, at });
            return;
        }
        let first = self.geometry.host_cluster(at);
        for index in 0..self.geometry.clusters_for(bytes).as_u64() {
            self.references.add(first + ClusterCount::new(index));
        }
    }

    /// Every cluster that is counted or referred to.
    fn compare_refcounts(&mut self) -> Result<()> {
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
        let uncovered: Vec<HostCluster> = self
            .references
            .0
            .iter()
            .flat_map(|(stretch, counts)| {
                (0..counts.len() as u64).map(move |index| stretch * STRETCH + index)
            })
            .map(HostCluster::new)
            .filter(|cluster| self.references.of(*cluster) > 0 && !self.is_covered(&table, *cluster))
            .collect();
        for cluster in uncovered {
            self.compare(cluster, 0);
        }
        Ok(())
    }

    /// The clusters from `first` on, which this block counts. Most of a block is zeros that nothing refers to.
    fn compare_block(&mut self, first: HostCluster, block: &[u8]) {
        let order = self.geometry.refcount_order();
        let bytes = ByteCount::new((STRETCH << order) / 8).as_usize();
        for (index, counters) in block.chunks(bytes).enumerate() {
            let here = first + ClusterCount::new(index as u64 * STRETCH);
            if counters.iter().all(|byte| *byte == 0) && !self.references.any(here, STRETCH) {
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
        }
        if refcount < references {
            self.report.corrupt(Finding::RefcountTooLow { cluster, refcount, references });
        } else if refcount > references {
            self.report.leaks += 1;
            self.report.keep(Finding::Leak { cluster, refcount, references });
        }
    }

    /// The marks of the active tables: set if and only if the refcount is 1.
    fn compare_copied(&mut self) -> Result<()> {
        let l1_bytes = ByteCount::new(u64::from(self.header.l1_entries) * 8);
        for raw in self.entries(self.header.l1_table, l1_bytes)? {
            let Ok(L1Entry::Table { at, copied }) = L1Entry::decode(raw, self.geometry) else { continue };
            if at >= self.end {
                continue;
            }
            self.compare_mark(at, copied);
            for raw in self.entries(at, self.geometry.cluster_size())? {
                let entry = L2Entry::decode(raw, 0, self.geometry, self.header.version);
                if let Ok(L2Entry::Data { at, copied } | L2Entry::Zero { allocation: Some(at), copied }) =
                    entry
                {
                    self.compare_mark(at, copied);
                }
            }
        }
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

    fn bytes(&self, at: HostOffset, length: ByteCount) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length.as_usize()];
        if at < self.end {
            read_zero_extended(self.blob, self.end.as_length(), at, &mut bytes)?;
        }
        Ok(bytes)
    }

    fn entries(&self, at: HostOffset, length: ByteCount) -> Result<Vec<u64>> {
        let bytes = self.bytes(at, length)?;
        Ok(bytes
            .chunks_exact(8)
            .map(|raw| u64::from_be_bytes(raw.try_into().expect("eight bytes")))
            .collect())
    }
}
