//! Check: counts every reference in an image and compares with what the refcounts say.
//!
//! Reads the tables from the blob, not from memory, one at a time. The counts are held per stretch of the file
//! that is really in use, never by its length.

use super::error::Result;
use super::open::Image;
use crate::format::{
    Copied, Geometry, Header, L1Entry, L2Entry, RefcountTableEntry, SnapshotEntry, parse_snapshots, refcount,
};
use crate::storage::{Blob, read_zero_extended};
use crate::units::{ByteCount, ClusterCount, HostCluster, HostOffset};
use std::collections::BTreeMap;
use std::fmt;

/// The findings that a report keeps at most; more are only counted.
const FINDINGS_MAX: usize = 1000;

/// The clusters that one stretch of counts covers.
const STRETCH: u64 = 4096;

/// What a check has found in one image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// What is wrong, in the order of its finding; 1000 at most.
    pub findings: Vec<Finding>,
    /// How many references are wrong or broken: the image must not be written.
    pub corruptions: u64,
    /// How many clusters are counted as used without being so: space lost, nothing worse.
    pub leaks: u64,
    /// Clusters of guest data, compressed ones included.
    pub data_clusters: u64,
}

/// One thing that is wrong in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// A cluster is referred to more often than its refcount says.
    RefcountTooLow {
        /// The cluster.
        cluster: HostCluster,
        /// Its refcount.
        refcount: u64,
        /// The references to it.
        references: u64,
    },
    /// A cluster is referred to less often than its refcount says.
    Leak {
        /// The cluster.
        cluster: HostCluster,
        /// Its refcount.
        refcount: u64,
        /// The references to it.
        references: u64,
    },
    /// An entry is marked as the only reference to its cluster, or not marked, against the refcount.
    CopiedDisagrees {
        /// The cluster.
        cluster: HostCluster,
        /// Its refcount.
        refcount: u64,
    },
    /// A table entry breaks a rule of the format.
    BrokenEntry {
        /// Which table.
        structure: &'static str,
        /// The entry as it is.
        raw: u64,
    },
    /// A table entry leads outside of the file.
    OutsideFile {
        /// Which table.
        structure: &'static str,
        /// Where it leads.
        at: HostOffset,
    },
}

impl CheckReport {
    /// Whether nothing at all is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.corruptions == 0 && self.leaks == 0
    }

    fn corrupt(&mut self, finding: Finding) {
        self.corruptions += 1;
        self.keep(finding);
    }

    fn keep(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_clean() {
            return f.write_str("no errors");
        }
        write!(f, "{} corruptions, {} leaked clusters", self.corruptions, self.leaks)?;
        if let Some(first) = self.findings.first() {
            write!(f, "; first: {first:?}")?;
        }
        Ok(())
    }
}

impl Image {
    /// Flushes what is unwritten, then checks the image as it is on disk.
    ///
    /// # Errors
    ///
    /// Only for what keeps the check from being done; what it finds is in the report.
    pub fn check(&self) -> Result<CheckReport> {
        self.flush()?;
        let state = self.state.read();
        let mut walk = Walk {
            blob: &*self.blob,
            header: &state.header,
            geometry: self.geometry,
            end: state.end,
            references: References::default(),
            report: CheckReport::default(),
        };
        walk.count_own_tables()?;
        walk.count_internal_snapshots()?;
        walk.count_guest(state.header.l1_table, u64::from(state.header.l1_entries))?;
        walk.compare_refcounts()?;
        walk.compare_copied()?;
        Ok(walk.report)
    }
}

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
}

/// One check under way.
struct Walk<'a> {
    blob: &'a dyn Blob,
    header: &'a Header,
    geometry: Geometry,
    end: HostOffset,
    references: References,
    report: CheckReport,
}

impl Walk<'_> {
    /// The header, the refcount table and its blocks.
    fn count_own_tables(&mut self) -> Result<()> {
        self.references.add(HostCluster::ZERO);
        let table = self.header.refcount_table;
        let clusters = ClusterCount::new(u64::from(self.header.refcount_table_clusters));
        self.count_run(table, self.geometry.bytes_for(clusters));
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
                self.count_run(at, length);
                for snapshot in snapshots {
                    self.count_guest(snapshot.l1_table, u64::from(snapshot.l1_entries))?;
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
    fn count_guest(&mut self, l1: HostOffset, entries: u64) -> Result<()> {
        let bytes = ByteCount::new(entries * 8);
        self.count_run(l1, bytes);
        for raw in self.entries(l1, bytes)? {
            match L1Entry::decode(raw, self.geometry) {
                Ok(L1Entry::Table { at, .. }) => {
                    self.count_cluster("L1 table", at);
                    self.count_table(at)?;
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
                    for cluster in extent.host_clusters(self.geometry) {
                        self.references.add(cluster);
                    }
                }
                Ok(_) => {}
                Err(_) => self.report.corrupt(Finding::BrokenEntry { structure: "L2 table", raw }),
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

    fn count_run(&mut self, at: HostOffset, bytes: ByteCount) {
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
            for entry in 0..per_block {
                let cluster = HostCluster::new(index as u64 * per_block + entry);
                self.compare(cluster, refcount::get(&block, self.geometry.refcount_order(), entry));
            }
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

    fn is_covered(&self, table: &[u64], cluster: HostCluster) -> bool {
        let raw = table.get(self.geometry.refcount_table_index(cluster));
        raw.is_some_and(|raw| {
            matches!(RefcountTableEntry::decode(*raw, self.geometry), Ok(RefcountTableEntry::Block { at }) if at < self.end)
        })
    }

    fn compare(&mut self, cluster: HostCluster, refcount: u64) {
        let references = self.references.of(cluster);
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
                match L2Entry::decode(raw, 0, self.geometry, self.header.version) {
                    Ok(L2Entry::Data { at, copied } | L2Entry::Zero { allocation: Some(at), copied }) => {
                        self.compare_mark(at, copied)
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn compare_mark(&mut self, at: HostOffset, copied: Copied) {
        let cluster = self.geometry.host_cluster(at);
        let references = self.references.of(cluster);
        if (copied == Copied::Yes) != (references == 1) {
            self.report.corrupt(Finding::CopiedDisagrees { cluster, refcount: references });
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
