//! An open image: what is held in memory of it, and what is refused at the door.

use super::compressed::Decoded;
use super::error::{Error, Result};
use super::internal;
use super::own::OwnTables;
use super::refcounts::Refcounts;
use super::tables::Tables;
use crate::format::{Encryption, Extension, Geometry, Header, RawHeader};
use crate::storage::{Access, Blob, read_zero_extended};
use crate::sync::{Mutex, RwLock};
use crate::units::{ByteCount, ClusterCount, GuestOffset, HostCluster, HostOffset};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What an image may ask for, and how much memory it may take up when it is open. What a header says is held against
/// this before anything is read or reserved for it; and no table is read that the file does not hold.
#[doc = include_str!("examples/images.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// L2 tables held at most, in bytes. Tables with unwritten entries are written when there are more.
    pub table_cache: ByteCount,
    /// The largest virtual size. Default 2^63 bytes, which is what the format can say.
    pub size_max: ByteCount,
    /// How many bytes L1 table and refcount table may have, which are held as long as the image is open. Default
    /// 40 MiB, which is what the format allows.
    pub tables_max: ByteCount,
    /// How many header extensions there may be. Default 256, the most that is ever taken.
    pub extensions_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            table_cache: ByteCount::mib(8),
            size_max: ByteCount::new(1 << 63),
            tables_max: ByteCount::mib(40),
            extensions_max: Extension::COUNT_MAX,
        }
    }
}

impl Limits {
    /// Refuses an image that asks for more, by its header alone.
    pub(super) fn admit(&self, header: &Header, name: &str) -> Result<()> {
        let table = header.geometry.cluster_size().as_u64() * u64::from(header.refcount_table_clusters);
        let tables = table + u64::from(header.l1_entries) * 8;
        let (extensions, extensions_max) = (header.extensions.len() as u64, self.extensions_max as u64);
        for (what, found, limit) in [
            ("virtual size", header.size.as_u64(), self.size_max.as_u64()),
            ("size of L1 table and refcount table", tables, self.tables_max.as_u64()),
            ("number of header extensions", extensions, extensions_max),
        ] {
            if found > limit {
                return Err(Error::OverLimit { image: name.to_owned(), what, found, limit });
            }
        }
        Ok(())
    }
}

/// An open qcow2 image. Any number of threads may read and write it at once.
///
/// Another example is at [`HeaderDraft`](crate::image::HeaderDraft).
#[doc = include_str!("examples/images.md")]
#[doc = include_str!("examples/whole.md")]
#[derive(Debug)]
pub struct Image {
    pub(super) blob: Arc<dyn Blob>,
    pub(super) name: String,
    pub(super) geometry: Geometry,
    /// What it was opened for.
    access: Access,
    /// The size of the disk in bytes. While it grows, this is ahead of the size in the header. Changed under the lock of
    /// the state alone, so that who holds that sees it stand still.
    size: AtomicU64,
    /// Off for an image that was opened for reading, and from [`Image::freeze`] on.
    pub(super) writable: AtomicBool,
    /// Set when a step that switches tables failed half way: what is in memory may not agree with the disk.
    pub(super) failed: AtomicBool,
    pub(super) synced: Synced,
    /// Held while the disk grows, before the state is locked: growing takes several steps.
    pub(super) growing: Mutex<()>,
    pub(super) decoded: Decoded,
    /// Whether bitmaps are still to say that everything was written: see `internal`.
    pub(super) bitmaps_follow: AtomicBool,
    pub(super) own_tables: OwnTables,
    pub(super) state: RwLock<State>,
}

/// How many writes have returned, and how many of them are known to be durable.
///
/// A write is counted after it has returned, and a sync vouches for what was counted before it began: so two
/// flushes at once never take each other's word for a sync that is still under way.
#[derive(Debug, Default)]
pub(super) struct Synced {
    written: AtomicU64,
    durable: AtomicU64,
}

impl Synced {
    /// Counts a write that has returned.
    pub(super) fn count_write(&self) {
        self.written.fetch_add(1, Ordering::AcqRel);
    }

    /// Syncs, unless every write that was counted is durable.
    pub(super) fn sync(&self, blob: &dyn Blob) -> Result<()> {
        let written = self.written.load(Ordering::Acquire);
        if self.durable.load(Ordering::Acquire) < written {
            blob.sync()?;
            self.durable.fetch_max(written, Ordering::AcqRel);
        }
        Ok(())
    }
}

/// What changes while an image is written.
#[derive(Debug)]
pub(super) struct State {
    pub(super) header: Header,
    pub(super) l1: Vec<u64>,
    /// The L1 entries that the disk lacks; each names a fresh L2 table.
    pub(super) l1_unwritten: BTreeSet<usize>,
    pub(super) tables: Tables,
    pub(super) refcounts: Refcounts,
    /// References to clusters that no table in memory holds, while the tables on disk still may. A cluster that
    /// several compressed clusters share may stand here several times, or be in use by others.
    pub(super) freed: Vec<(HostCluster, ClusterCount)>,
    /// Where what was packed last ends, inside a host cluster that has a reference: see `pack`.
    pub(super) packed_end: Option<HostOffset>,
    /// Where the file ends.
    pub(super) end: HostOffset,
}

/// Where everything in an image is found from, as it is on disk.
pub(super) struct Roots {
    pub(super) header: Header,
    pub(super) l1: Vec<u64>,
    /// Nothing for who only reads.
    pub(super) refcount_table: Vec<u64>,
    pub(super) own_tables: OwnTables,
    /// Where the file ends.
    pub(super) end: HostOffset,
}

impl Image {
    /// Opens an image. Its tables are read where they are asked for and trusted to agree with its refcounts: of a file
    /// that this crate did not write, [`Image::open_checked`] asks first. The table of internal snapshots, when there
    /// are any, is looked through as QEMU does.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] and [`Error::OutsideFile`] when the bytes break a rule; [`Error::Unsupported`], with
    /// [`Access::Write`], for what cannot be written (encryption, external data files, images marked dirty or corrupt);
    /// [`Error::Storage`].
    pub fn open(blob: Arc<dyn Blob>, name: &str, access: Access, limits: Limits) -> Result<Self> {
        let end = HostOffset::end_of(blob.length()?);
        let header = read_header(&*blob, name, end)?;
        limits.admit(&header, name)?;
        if access == Access::Write {
            refuse_unwritable(&header, name)?;
        }
        internal::admit_snapshots(&*blob, &header, end, name)?;
        let l1 =
            read_table(&*blob, name, "L1 table", header.l1_table, u64::from(header.l1_entries) * 8, end)?;
        let geometry = header.geometry;
        let table_bytes =
            geometry.bytes_for(ClusterCount::new(u64::from(header.refcount_table_clusters))).as_u64();
        let table_bytes = match access {
            Access::Write => table_bytes,
            // Who only reads counts nothing: it is enough to know where the blocks lie that count what is there.
            Access::Read => table_bytes.min(bytes_counting(geometry, end)),
        };
        let table = read_table(&*blob, name, "refcount table", header.refcount_table, table_bytes, end)?;
        let own_tables = OwnTables::new(geometry, &l1, &table);
        let refcount_table = if access == Access::Write { table } else { Vec::new() };
        let image =
            Self::of(Roots { header, l1, refcount_table, own_tables, end }, blob, name, access, limits);
        if access == Access::Write {
            image.clear_autoclear()?;
        }
        Ok(image)
    }

    /// The image that a blob with these roots is.
    pub(super) fn of(roots: Roots, blob: Arc<dyn Blob>, name: &str, access: Access, limits: Limits) -> Self {
        let Roots { header, l1, refcount_table, own_tables, end } = roots;
        let geometry = header.geometry;
        let held_max = limits.table_cache.as_u64() / geometry.cluster_size().as_u64();
        Self {
            name: name.to_owned(),
            geometry,
            access,
            size: AtomicU64::new(header.size.as_u64()),
            writable: AtomicBool::new(access == Access::Write),
            failed: AtomicBool::new(false),
            synced: Synced::default(),
            growing: Mutex::new(()),
            decoded: Decoded::default(),
            bitmaps_follow: AtomicBool::new(false),
            own_tables,
            state: RwLock::new(State {
                l1,
                l1_unwritten: BTreeSet::new(),
                tables: Tables::new(geometry, usize::try_from(held_max).unwrap_or(usize::MAX)),
                refcounts: Refcounts::new(geometry, name, header.refcount_table, refcount_table),
                freed: Vec::new(),
                packed_end: None,
                end,
                header,
            }),
            blob,
        }
    }

    /// Checks an image as a whole, then opens it: for files from elsewhere, before anything relies on them. A writer
    /// takes the file for itself first ([`Blob::hold`]), so that it stays what was checked.
    ///
    /// # Errors
    ///
    /// [`Error::Unsound`] when the check finds anything that is wrong, lost clusters apart; as [`Image::open`].
    pub fn open_checked(blob: Arc<dyn Blob>, name: &str, access: Access, limits: Limits) -> Result<Self> {
        let image = Self::open(Arc::clone(&blob), name, Access::Read, limits)?;
        let report = image.check()?;
        if !report.is_sound() {
            return Err(Error::Unsound { image: name.to_owned(), report: Box::new(report) });
        }
        if access == Access::Read {
            return Ok(image);
        }
        // Its tables need not be held twice.
        drop(image);
        Self::open(blob, name, access, limits)
    }

    /// Refuses an image that [`Image::open`] would not open for writing, by its header alone. Nothing is changed.
    ///
    /// # Errors
    ///
    /// As [`Image::open`], as far as the header goes.
    pub fn admit_writer(blob: &dyn Blob, name: &str) -> Result<()> {
        refuse_unwritable(&Self::header_of(blob, name)?, name)
    }

    /// Reads the header of an image, and nothing else of it.
    ///
    /// # Errors
    ///
    /// [`Error::Format`]; [`Error::Storage`].
    pub fn header_of(blob: &dyn Blob, name: &str) -> Result<Header> {
        read_header(blob, name, HostOffset::end_of(blob.length()?))
    }

    /// The virtual size in bytes.
    #[must_use]
    pub fn size(&self) -> ByteCount {
        ByteCount::new(self.size.load(Ordering::Acquire))
    }

    /// Sets the size of the disk.
    pub(super) fn set_size(&self, _: &mut State, size: ByteCount) {
        self.size.store(size.as_u64(), Ordering::Release);
    }

    /// Cluster size and refcount width.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Whether what the image has as data can be read: not when it is encrypted or in an external file. Its tables can
    /// be read all the same.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        unreadable(&self.state.read().header).is_none()
    }

    /// Whether the image holds nothing at all, not even zeros: its L1 table names nothing. What is to be written by the
    /// next flush counts.
    #[must_use]
    pub fn names_nothing(&self) -> bool {
        self.state.read().l1.iter().all(|entry| *entry == 0)
    }

    /// The header as it is now.
    #[must_use]
    pub fn header(&self) -> Header {
        self.state.read().header.clone()
    }

    /// The blob that holds the image.
    #[must_use]
    pub fn blob(&self) -> &Arc<dyn Blob> {
        &self.blob
    }

    /// The name that messages use.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes everything durable and refuses every write from now on.
    ///
    /// # Errors
    ///
    /// As [`Image::flush`]; the image then stays writable.
    pub fn freeze(&self) -> Result<()> {
        let _alone = self.growing.lock();
        // A write that was admitted before now either has the lock first, and is flushed, or finds it closed.
        let mut state = self.state.write();
        self.flush_state(&mut state)?;
        self.writable.store(false, Ordering::Release);
        Ok(())
    }

    /// Lets an image be written again that [`Image::freeze`] has closed, when the snapshot did not come about. One that
    /// was opened for reading stays closed.
    pub fn thaw(&self) {
        self.writable.store(self.access == Access::Write, Ordering::Release);
    }

    /// Refuses when the image may not be written, or when a request reaches past the end of the disk. Whoever passes
    /// may change the disk.
    pub(super) fn admit_write(&self, at: GuestOffset, length: ByteCount) -> Result<()> {
        self.refuse_when_frozen()?;
        self.refuse_when_failed()?;
        self.admit(at, length)?;
        if !length.is_zero() && self.bitmaps_follow.load(Ordering::Acquire) {
            self.fill_bitmaps()?;
        }
        Ok(())
    }

    /// Refuses when the image may not be written. Asked again by whoever has just locked the state to change
    /// something: [`Image::freeze`] may have come in between.
    pub(super) fn refuse_when_frozen(&self) -> Result<()> {
        if self.writable.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(Error::ReadOnly { image: self.name.clone() })
    }

    /// Refuses when an earlier step has failed half way.
    pub(super) fn refuse_when_failed(&self) -> Result<()> {
        if self.failed.load(Ordering::Acquire) {
            return Err(Error::Failed { image: self.name.clone() });
        }
        Ok(())
    }

    /// Refuses when a request reaches past the end of the disk.
    pub(super) fn admit(&self, at: GuestOffset, length: ByteCount) -> Result<()> {
        let size = self.size();
        match at.checked_add(length) {
            Some(end) if end <= GuestOffset::end_of(size) => Ok(()),
            _ => Err(Error::PastEndOfDisk { at, length, size }),
        }
    }

    pub(super) fn malformed(&self, source: crate::format::Error) -> Error {
        Error::Format { image: self.name.clone(), source }
    }

    /// Writes the header, its extensions and the backing name in one write.
    pub(super) fn rewrite_header(&self, state: &State) -> Result<()> {
        let bytes = state.header.encode().map_err(|source| self.malformed(source))?;
        self.blob.write_at(HostOffset::ZERO, &bytes)?;
        Ok(())
    }
}

/// What most headers are shorter than.
const HEADER_USUAL: usize = 4096;

fn read_header(blob: &dyn Blob, name: &str, end: HostOffset) -> Result<Header> {
    let malformed = |source| Error::Format { image: name.to_owned(), source };
    let length = end.as_length().as_usize();
    let mut begin = vec![0; length.min(HEADER_USUAL)];
    blob.read_at(HostOffset::ZERO, &mut begin)?;
    let raw = RawHeader::parse(&begin).map_err(malformed)?;
    // The backing name is behind all else that the header has: where it ends, the header does.
    let name_end = raw.backing_file_offset.checked_add(u64::from(raw.backing_file_size));
    let ends_here =
        raw.backing_file_offset > 0 && name_end.is_some_and(|name_end| name_end <= begin.len() as u64);
    if !ends_here {
        begin.resize(length.min(raw.cluster_size().as_usize()), 0);
        blob.read_at(HostOffset::ZERO, &mut begin)?;
    }
    Header::parse(&begin).map_err(malformed)
}

/// What keeps an image's data from being read, as a predicate.
pub(super) fn unreadable(header: &Header) -> Option<&'static str> {
    if header.incompatible.has_data_file() {
        Some("keeps its data in an external file")
    } else if header.encryption != Encryption::None {
        Some("is encrypted")
    } else {
        None
    }
}

/// What may be looked at here, but not written.
fn refuse_unwritable(header: &Header, name: &str) -> Result<()> {
    let feature = if let Some(feature) = unreadable(header) {
        feature
    } else if header.incompatible.is_dirty() {
        "is marked dirty (its refcounts must be repaired first)"
    } else if header.incompatible.is_corrupt() {
        "is marked corrupt"
    } else {
        return Ok(());
    };
    Err(Error::Unsupported { image: name.to_owned(), feature, refused: "writing" })
}

/// The bytes of a refcount table that lead to the counters of a file which ends at `end`.
fn bytes_counting(geometry: Geometry, end: HostOffset) -> u64 {
    let clusters = geometry.clusters_for(end.as_length()).as_u64();
    clusters.div_ceil(geometry.refcount_block_entries()) * 8
}

/// Reads a table of 8-byte entries that must lie inside the file, clear of the header.
fn read_table(
    blob: &dyn Blob,
    name: &str,
    structure: &'static str,
    at: HostOffset,
    bytes: u64,
    end: HostOffset,
) -> Result<Vec<u64>> {
    let image = || name.to_owned();
    if bytes > 0 && at.is_zero() {
        return Err(Error::OnHeader { image: image(), structure });
    }
    // The last cluster of a file may be cut short (QEMU leaves it so); a table may not begin past the end.
    let cut_short = ByteCount::new(if structure == "refcount table" { bytes.min(2 << 20) } else { 0 });
    let reach = at.checked_add(ByteCount::new(bytes));
    let limit = end.checked_add(cut_short).unwrap_or(end);
    if bytes > 0 && (at >= end || reach.is_none_or(|reach| reach > limit)) {
        return Err(Error::OutsideFile { image: image(), structure, at, end });
    }
    let mut table = vec![0; ByteCount::new(bytes).as_usize() / 8];
    // In pieces: a large table is not held twice. Most of a table is zeros.
    let mut piece = vec![0; ByteCount::new(bytes).as_usize().min(1 << 14)];
    let mut at = at;
    for entries in table.chunks_mut(piece.len().max(8) / 8) {
        let piece = &mut piece[..entries.len() * 8];
        read_zero_extended(blob, end.as_length(), at, piece)?;
        at += ByteCount::of(piece.len());
        // Without an end at the first one, which lets many bytes be looked at at once.
        if piece.iter().fold(0, |any, byte| any | byte) == 0 {
            continue;
        }
        for (entry, raw) in entries.iter_mut().zip(piece.chunks_exact(8)) {
            *entry = u64::from_be_bytes(raw.try_into().expect("eight bytes"));
        }
    }
    Ok(table)
}
