//! One check under way: every table is walked once, every reference counted, then the counts are compared.

use super::references::{Fit, References, Use};
use super::{CheckReport, Finding};
use crate::format::{
    BitmapTableEntry, CompressedExtent, Copied, Geometry, Header, L1Entry, L2Entry, RefcountTableEntry,
    SnapshotEntry, Subclusters, parse_snapshots,
};
use crate::image::error::Result;
use crate::storage::{Blob, read_zero_extended};
use crate::units::{ByteCount, ClusterCount, HostCluster, HostOffset};
use std::collections::{BTreeMap, HashSet};

/// The length of a file counts up to the next multiple of this (QEMU enforces).
const SECTOR: u64 = 512;

/// What was counted, and what was found to be wrong.
pub(in crate::image) struct Counted {
    pub(in crate::image) report: CheckReport,
    pub(in crate::image) references: References,
    /// Whether the refcount table or a block of it is broken, lies outside of the file or on something else, or
    /// cannot count every cluster that is in use.
    pub(in crate::image) refcounts_broken: bool,
}

/// One check under way.
pub(in crate::image) struct Walk<'a> {
    pub(super) blob: &'a dyn Blob,
    pub(super) header: &'a Header,
    pub(super) geometry: Geometry,
    pub(super) end: HostOffset,
    /// The bytes of the L1 tables of internal snapshots that can still follow: they do not overlap, so all of them
    /// together are no longer than the file. Without this bound a small file could keep the check busy for ever.
    l1_left: ByteCount,
    pub(super) references: References,
    /// The refcounts of those clusters that are referred to more or less often than that.
    pub(super) disagreeing: BTreeMap<HostCluster, u64>,
    /// The L2 tables whose every cluster is marked as referred to once.
    pub(super) all_copied: HashSet<HostOffset>,
    /// Whether no cluster that is referred to has another refcount than 1.
    pub(super) all_single: bool,
    pub(super) report: CheckReport,
    pub(super) refcounts_broken: bool,
    /// The bytes of an L2 table.
    pub(super) buffer: Vec<u8>,
}

impl<'a> Walk<'a> {
    pub(in crate::image) fn new(blob: &'a dyn Blob, header: &'a Header, end: HostOffset) -> Self {
        Self {
            blob,
            header,
            geometry: header.geometry,
            end,
            l1_left: end.as_length(),
            references: References::default(),
            disagreeing: BTreeMap::new(),
            all_copied: HashSet::new(),
            all_single: true,
            report: CheckReport {
                dirty: header.incompatible.is_dirty(),
                marked_corrupt: header.incompatible.is_corrupt(),
                ..CheckReport::default()
            },
            refcounts_broken: false,
            buffer: Vec::new(),
        }
    }

    /// Walks the image and answers what is wrong.
    pub(in crate::image) fn count(mut self) -> Result<Counted> {
        self.count_own_tables()?;
        self.count_internal_snapshots()?;
        self.count_guest("header", self.header.l1_table, u64::from(self.header.l1_entries))?;
        self.count_bitmaps()?;
        self.compare_refcounts()?;
        self.compare_copied()?;
        let Self { report, references, refcounts_broken, .. } = self;
        Ok(Counted { report, references, refcounts_broken })
    }

    /// The header, the refcount table and its blocks.
    fn count_own_tables(&mut self) -> Result<()> {
        self.refer(HostCluster::ZERO, Use::Own, 1);
        if let Ok(Some(crypto)) = self.header.crypto() {
            self.count_run("crypto extension", crypto.at, crypto.length, Use::Own);
        }
        let table = self.header.refcount_table;
        let clusters = ClusterCount::new(u64::from(self.header.refcount_table_clusters));
        self.count_run("header", table, self.geometry.bytes_for(clusters), Use::Refcounts);
        for raw in self.entries(table, self.geometry.bytes_for(clusters))? {
            match RefcountTableEntry::decode(raw, self.geometry) {
                Ok(RefcountTableEntry::Block { at }) => {
                    self.count_cluster("refcount table", at, Use::Refcounts, 1)
                }
                Ok(_) => {}
                Err(_) => {
                    self.broken(Use::Refcounts, Finding::BrokenEntry { structure: "refcount table", raw })
                }
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
                self.count_run("header", at, length, Use::Own);
                for snapshot in snapshots {
                    let entries = u64::from(snapshot.l1_entries);
                    let length = ByteCount::new(entries * 8);
                    if length > self.l1_left {
                        let at = snapshot.l1_table;
                        self.broken(Use::Own, Finding::OutsideFile { structure: "snapshot table", at });
                        continue;
                    }
                    self.l1_left = self.l1_left.saturating_sub(length);
                    self.count_guest("snapshot table", snapshot.l1_table, entries)?;
                }
            }
            Err(_) => {
                let raw = at.as_u64();
                self.broken(Use::Own, Finding::BrokenEntry { structure: "snapshot table", raw });
            }
        }
        Ok(())
    }

    /// An L1 table, its L2 tables and all that they refer to.
    fn count_guest(&mut self, owner: &'static str, l1: HostOffset, entries: u64) -> Result<()> {
        let bytes = ByteCount::new(entries * 8);
        self.references.begin_disk();
        self.count_whole(owner, l1, bytes, Use::Own);
        let (mut walked, mut again) = (HashSet::new(), BTreeMap::new());
        for (at, length) in pieces(l1, bytes) {
            for raw in self.entries(at, length)? {
                match L1Entry::decode(raw, self.geometry) {
                    Ok(L1Entry::Table { at, .. }) => {
                        self.count_cluster("L1 table", at, Use::Table, 1);
                        // Two ranges of one disk have no reason to share a table. Where they do, each refers to all
                        // that the table refers to, and all but the first are counted at once: a small file could
                        // keep the check busy for ever otherwise.
                        if walked.insert(at) {
                            self.count_table(at, 1)?;
                        } else {
                            let times = again.entry(at).or_insert(0_u32);
                            *times = times.saturating_add(1);
                        }
                    }
                    Ok(L1Entry::Absent) => {}
                    Err(_) => self.broken(Use::Own, Finding::BrokenEntry { structure: "L1 table", raw }),
                }
            }
        }
        again.into_iter().try_for_each(|(at, times)| self.count_table(at, times))
    }

    /// An L2 table that so many entries of one L1 table lead to.
    fn count_table(&mut self, at: HostOffset, times: u32) -> Result<()> {
        // What lies in an external file has no refcount here.
        let is_external = self.header.incompatible.has_data_file();
        let decode = if is_external { L2Entry::decode_external } else { L2Entry::decode };
        let table = self.l2_table(at)?;
        let mut all_copied = true;
        for (raw, bitmap) in table.entries() {
            if raw == 0 && bitmap == 0 {
                continue;
            }
            let entry = decode(raw, bitmap, self.geometry, self.header.version);
            match entry.map(|entry| (entry, entry.subclusters(self.geometry))) {
                Ok((L2Entry::Compressed(extent), _)) => {
                    self.report.data_clusters += 1;
                    self.report.compressed_clusters += 1;
                    self.count_extent(extent, times);
                }
                Ok((_, Some(Subclusters { at: Some(at), allocated, copied, .. }))) => {
                    self.report.data_clusters += u64::from(allocated != 0);
                    all_copied &= copied == Copied::Yes;
                    if !is_external {
                        self.count_cluster("L2 table", at, Use::Data, times);
                    }
                }
                Ok(_) => {}
                Err(_) => self.broken(Use::Own, Finding::BrokenEntry { structure: "L2 table", raw }),
            }
        }
        if all_copied {
            self.all_copied.insert(at);
        }
        self.buffer = table.bytes;
        Ok(())
    }

    /// The directory of persistent bitmaps, their tables and their data. Bitmaps that the header does not vouch
    /// for are leaks (QEMU takes them for nothing else).
    fn count_bitmaps(&mut self) -> Result<()> {
        let Ok(Some(extension)) = self.header.bitmaps() else { return Ok(()) };
        self.count_whole("header", extension.directory, extension.directory_size, Use::Own);
        let directory = self.bytes(extension.directory, extension.directory_size)?;
        let Ok(bitmaps) = extension.parse_directory(&directory, self.geometry) else {
            let raw = extension.directory.as_u64();
            self.broken(Use::Own, Finding::BrokenEntry { structure: "bitmap directory", raw });
            return Ok(());
        };
        for bitmap in bitmaps {
            let bytes = ByteCount::new(u64::from(bitmap.table_entries) * 8);
            self.count_whole("bitmap directory", bitmap.table, bytes, Use::Own);
            for raw in self.entries(bitmap.table, bytes)? {
                match BitmapTableEntry::decode(raw, self.geometry) {
                    Ok(BitmapTableEntry::Data { at }) => self.count_cluster("bitmap table", at, Use::Own, 1),
                    Ok(_) => {}
                    Err(_) => self.broken(Use::Own, Finding::BrokenEntry { structure: "bitmap table", raw }),
                }
            }
        }
        Ok(())
    }

    /// Something is wrong with a table. Where it leads is unknown then, so nothing can be said to be unused; only
    /// refcounts can be made anew.
    fn broken(&mut self, what: Use, finding: Finding) {
        self.report.corrupt(finding);
        match what {
            Use::Refcounts => self.refcounts_broken = true,
            _ => self.report.beyond_repair += 1,
        }
    }

    fn refer(&mut self, cluster: HostCluster, what: Use, times: u32) {
        match self.references.add(cluster, what, times) {
            Fit::Lawful => {}
            Fit::OverRefcounts => self.broken(Use::Refcounts, Finding::Overlap { cluster }),
            Fit::Overlap => self.broken(what, Finding::Overlap { cluster }),
        }
    }

    fn count_cluster(&mut self, structure: &'static str, at: HostOffset, what: Use, times: u32) {
        // The last cluster of a file may be cut short; one that begins past the end may not.
        if at >= self.end {
            self.broken(what, Finding::OutsideFile { structure, at });
            return;
        }
        self.refer(self.geometry.host_cluster(at), what, times);
    }

    /// The host clusters that a compressed cluster touches. The file may end within its sectors, but not a cluster
    /// or more before their end (QEMU takes that for an error).
    fn count_extent(&mut self, extent: CompressedExtent, times: u32) {
        let end = self.end.as_length().as_u64().next_multiple_of(SECTOR);
        let past = (extent.at + extent.length).as_u64().saturating_sub(end);
        if extent.at >= self.end || past >= self.geometry.cluster_size().as_u64() {
            self.broken(Use::Compressed, Finding::OutsideFile { structure: "L2 table", at: extent.at });
            return;
        }
        for cluster in extent.host_clusters(self.geometry) {
            self.refer(cluster, Use::Compressed, times);
        }
    }

    /// A table of so many bytes, each of which the file must hold: one whose end is missing cannot be opened, and what
    /// it said there is lost.
    fn count_whole(&mut self, structure: &'static str, at: HostOffset, bytes: ByteCount, what: Use) {
        if !bytes.is_zero() && at.checked_add(bytes).is_none_or(|reach| reach > self.end) {
            self.broken(what, Finding::OutsideFile { structure, at });
            return;
        }
        self.count_run(structure, at, bytes, what);
    }

    /// A table of several clusters. As with one cluster, only the end of the last one may be missing.
    fn count_run(&mut self, structure: &'static str, at: HostOffset, bytes: ByteCount, what: Use) {
        if bytes.is_zero() {
            return;
        }
        let last = self.geometry.clusters_for(bytes).as_u64() - 1;
        let last = at.checked_add(self.geometry.bytes_for(ClusterCount::new(last)));
        if last.is_none_or(|last| last >= self.end) {
            self.broken(what, Finding::OutsideFile { structure, at });
            return;
        }
        let first = self.geometry.host_cluster(at);
        for index in 0..self.geometry.clusters_for(bytes).as_u64() {
            self.refer(first + ClusterCount::new(index), what, 1);
        }
    }

    /// The bytes of a table as far as the file holds them, zeros up to the end of its first cluster at least: what is
    /// taken follows the file, not what a header claims.
    pub(super) fn bytes(&self, at: HostOffset, length: ByteCount) -> Result<Vec<u8>> {
        let held = self.end.checked_since(at).unwrap_or_default().as_u64().next_multiple_of(8);
        let held = ByteCount::new(held).max(self.geometry.cluster_size());
        let mut bytes = vec![0; length.min(held).as_usize()];
        if at < self.end {
            read_zero_extended(self.blob, self.end.as_length(), at, &mut bytes)?;
        }
        Ok(bytes)
    }

    /// The entries of a table as far as the file holds them; what is missing is absent.
    pub(super) fn entries(&self, at: HostOffset, length: ByteCount) -> Result<Vec<u64>> {
        let bytes = self.bytes(at, length)?;
        Ok(bytes
            .chunks_exact(8)
            .map(|raw| u64::from_be_bytes(raw.try_into().expect("eight bytes")))
            .collect())
    }

    /// An L2 table, in the buffer that the one before was in. Whoever is done with it gives the buffer back.
    pub(super) fn l2_table(&mut self, at: HostOffset) -> Result<L2Table> {
        let mut bytes = std::mem::take(&mut self.buffer);
        bytes.resize(self.geometry.cluster_size().as_usize(), 0);
        if at < self.end {
            read_zero_extended(self.blob, self.end.as_length(), at, &mut bytes)?;
        } else {
            bytes.fill(0);
        }
        Ok(L2Table { bytes, width: self.geometry.l2_entry_size() })
    }
}

/// The bytes of an L2 table as far as the file holds them, zeros after that.
pub(super) struct L2Table {
    pub(super) bytes: Vec<u8>,
    /// The bytes of an entry.
    width: usize,
}

impl L2Table {
    /// Each entry, with the bitmap behind it, zero where entries have none.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, u64)> {
        let word = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("eight bytes"));
        self.bytes
            .chunks_exact(self.width)
            .map(move |entry| (word(&entry[..8]), if entry.len() == 16 { word(&entry[8..]) } else { 0 }))
    }
}

/// A table in pieces, so that a large one is never held as a whole. Ends where no file can go on.
pub(super) fn pieces(at: HostOffset, length: ByteCount) -> impl Iterator<Item = (HostOffset, ByteCount)> {
    const PIECE: u64 = 1 << 16;
    (0..length.as_u64().div_ceil(PIECE)).map_while(move |index| {
        let done = ByteCount::new(index * PIECE);
        Some((at.checked_add(done)?, length.saturating_sub(done).min(ByteCount::new(PIECE))))
    })
}
