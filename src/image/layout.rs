//! A new image as a pure function of what is wanted: which bytes go where.
//!
//! The order is header, refcount table, refcount blocks, L1 table. The L1 table comes last and is all zeros, so
//! it costs no write, only length; an empty image of any size is a few small writes.

use super::error::{Error, Result};
use super::notes::note;
use super::open::{Image, Limits, Roots};
use super::own::OwnTables;
use crate::format::{
    Backing, Extension, Geometry, Header, L2Width, LayerIdentity, LayerNotes, RefcountTableEntry, Version,
    refcount,
};
use crate::storage::{Access, Blob};
use crate::units::{ByteCount, ClusterCount, HostCluster, HostOffset};
use std::sync::Arc;

/// What a header says of its backing file.
///
/// An example is at [`HeaderDraft`](crate::image::HeaderDraft).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackingLabel {
    /// The name, as it is written.
    pub name: String,
    /// `qcow2` or `raw`; always written, so that nobody has to guess.
    pub format: String,
}

/// What a new image shall be.
#[doc = include_str!("examples/images.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewImage {
    /// The version of the header. Version 2 knows 16-bit refcounts only and no zero clusters.
    pub version: Version,
    /// log2 of the cluster size, 9 to 21.
    pub cluster_bits: u32,
    /// log2 of the width of a refcount in bits, 0 to 6.
    pub refcount_order: u32,
    /// The width of the L2 entries. Extended ones, with 32 subclusters to a cluster, need version 3 and clusters of
    /// 16 KiB or more.
    pub l2: L2Width,
    /// The virtual size in bytes.
    pub size: ByteCount,
    /// The backing file, if there is one.
    pub backing: Option<BackingLabel>,
    /// Which layer of which pool the image is, if it is one.
    pub identity: Option<LayerIdentity>,
    /// What it knows of the catalogue beside its ids; written as far as the first cluster has room.
    pub notes: Option<LayerNotes>,
}

impl NewImage {
    /// An empty image of this size: version 3, clusters of 64 KiB, refcounts of 16 bits, nothing below.
    #[must_use]
    pub fn of_size(size: ByteCount) -> Self {
        Self {
            version: Version::V3,
            cluster_bits: 16,
            refcount_order: 4,
            l2: L2Width::Standard,
            size,
            backing: None,
            identity: None,
            notes: None,
        }
    }
}

/// The bytes of a new image: pieces that do not overlap, and the length of the file.
///
/// Another example is at [`Image`](crate::image::Image).
#[doc = include_str!("examples/images.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Where each piece goes. What no piece covers is zeros.
    pub pieces: Vec<(HostOffset, Vec<u8>)>,
    /// The length of the file, the zeros of the L1 table included.
    pub length: ByteCount,
    /// Where the L1 table begins, which goes to the end.
    pub l1_table: HostOffset,
    header: Header,
    /// The entries of the refcount table that name a block; what is behind them is zeros.
    refcount_table: Vec<u64>,
}

impl NewImage {
    /// Works out the bytes of the image.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] when the size needs a larger L1 table than the format allows (32 MiB), when version 2
    /// is asked for with anything that it lacks, or when header, extensions and backing name do not fit into
    /// the first cluster.
    pub fn layout(&self, name: &str) -> Result<Layout> {
        let malformed = |source| Error::Format { image: name.to_owned(), source };
        let geometry = Geometry::new(self.cluster_bits, self.refcount_order, self.l2).map_err(malformed)?;
        geometry.check_size(self.size).map_err(malformed)?;
        let l1_entries = geometry.l1_entries_for(self.size).max(1);
        let l1_bytes = ByteCount::new(l1_entries * 8);
        let l1_clusters = geometry.clusters_for(l1_bytes);
        let (table_clusters, blocks) = refcount_shape(geometry, l1_clusters);

        let table = HostCluster::new(1);
        let first_block = table + table_clusters;
        let l1 = first_block + blocks;
        let total = l1.as_u64() + l1_clusters.as_u64();

        let mut header = Header::new(self.version, geometry, self.size);
        header.l1_entries = u32::try_from(l1_entries).expect("check_size bounds the L1 table");
        header.l1_table = geometry.host_offset(l1);
        header.refcount_table = geometry.host_offset(table);
        header.refcount_table_clusters =
            u32::try_from(table_clusters.as_u64()).expect("an L1 table of 32 MiB needs few refcounts");
        header.set_backing(
            self.backing.clone().map(|backing| Backing { name: backing.name, format: Some(backing.format) }),
        );
        if let (Some(identity), Some(notes)) = (&self.identity, &self.notes) {
            note(&mut header, identity, notes);
        } else if let Some(identity) = self.identity {
            header.extensions.push(Extension { kind: Extension::OURS, data: identity.encode() });
        }
        let mut pieces = vec![(HostOffset::ZERO, header.encode().map_err(malformed)?)];

        let block_at = |index| geometry.host_offset(first_block + ClusterCount::new(index));
        let entry = |index| RefcountTableEntry::Block { at: block_at(index) }.encode();
        let refcount_table: Vec<u64> = (0..blocks.as_u64()).map(entry).collect();
        let table_bytes = refcount_table.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        pieces.push((geometry.host_offset(table), table_bytes));

        let per_block = geometry.refcount_block_entries();
        for index in 0..blocks.as_u64() {
            let used = total.saturating_sub(index * per_block).min(per_block);
            let order = geometry.refcount_order();
            // What is behind the last count is zeros, which need not be written.
            let mut block = vec![0; ByteCount::new((used << order).div_ceil(8)).as_usize()];
            for entry in 0..used {
                refcount::set(&mut block, order, entry, 1);
            }
            pieces.push((block_at(index), block));
        }
        pieces.retain(|(_, bytes)| !bytes.is_empty());
        let l1_table = geometry.host_offset(l1);
        let length = (l1_table + l1_bytes).as_length();
        Ok(Layout { pieces, length, l1_table, header, refcount_table })
    }
}

impl Layout {
    /// Writes the image into an empty blob. Not durable before the blob is synced.
    ///
    /// # Errors
    ///
    /// [`Error::Storage`].
    pub fn write(&self, blob: &dyn Blob) -> Result<()> {
        for (at, bytes) in &self.pieces {
            blob.write_at(*at, bytes)?;
        }
        blob.set_length(self.length)?;
        Ok(())
    }

    /// Writes the image into an empty blob, and opens it for writing. Nothing is read of what was just written. Not durable
    /// before the blob is synced.
    ///
    /// # Errors
    ///
    /// [`Error::OverLimit`], when nothing was written yet; [`Error::Storage`].
    pub fn make(&self, blob: Arc<dyn Blob>, name: &str, limits: Limits) -> Result<Image> {
        limits.admit(&self.header, name)?;
        self.write(&*blob)?;
        let (header, geometry) = (self.header.clone(), self.header.geometry);
        let table = geometry.bytes_for(ClusterCount::new(u64::from(header.refcount_table_clusters)));
        let mut refcount_table = vec![0; table.as_usize() / 8];
        refcount_table[..self.refcount_table.len()].copy_from_slice(&self.refcount_table);
        let roots = Roots {
            l1: vec![0; ByteCount::new(u64::from(header.l1_entries)).as_usize()],
            own_tables: OwnTables::new(geometry, &[], &self.refcount_table),
            refcount_table,
            end: HostOffset::end_of(self.length),
            header,
        };
        Ok(Image::of(roots, blob, name, Access::Write, limits))
    }

    /// Whether the L1 table names nothing in a blob that this image was written into, by whatever has become of it since.
    /// What never arrived names nothing.
    ///
    /// An entry of it is on disk only after a sync that took along the whole of the image: see `flush`. So as long as
    /// nothing is named, no flush that had anything to flush has returned.
    ///
    /// # Errors
    ///
    /// [`Error::Storage`].
    pub fn names_nothing_in(&self, blob: &dyn Blob) -> Result<bool> {
        let end = HostOffset::end_of(self.length.min(blob.length()?));
        let mut at = self.l1_table;
        let mut piece = vec![0; PIECE.as_usize()];
        while let Some(held) = blob.next_data(at)?.filter(|held| held.start < end) {
            at = held.start.max(at);
            let stop = held.end.min(end);
            while at < stop {
                let length = (stop - at).min(PIECE);
                let piece = &mut piece[..length.as_usize()];
                blob.read_at(at, piece)?;
                if piece.iter().any(|byte| *byte != 0) {
                    return Ok(false);
                }
                at += length;
            }
        }
        Ok(true)
    }
}

/// How much of a table is looked at in one go.
const PIECE: ByteCount = ByteCount::kib(64);

/// How many clusters the refcount table and its blocks take, themselves, the header and the L1 table counted.
fn refcount_shape(geometry: Geometry, l1: ClusterCount) -> (ClusterCount, ClusterCount) {
    let (mut table, mut blocks) = (1, 1);
    loop {
        let total = 1 + table + blocks + l1.as_u64();
        let blocks_needed = total.div_ceil(geometry.refcount_block_entries());
        let table_needed = geometry.clusters_for(ByteCount::new(blocks_needed * 8)).as_u64();
        if (table_needed, blocks_needed) == (table, blocks) {
            return (ClusterCount::new(table), ClusterCount::new(blocks));
        }
        (table, blocks) = (table_needed.max(table), blocks_needed.max(blocks));
    }
}
