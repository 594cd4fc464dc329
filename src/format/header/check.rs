//! What is true of every header, checked after it is read and before it is written.

use super::super::error::{Detail, Error, Rule, Unsupported, require};
use super::super::extension::check_list;
use super::super::{Extension, L1_ENTRIES_MAX, L2Width};
use super::parse::{backing_format, text};
use super::{Compression, CompressionField, Encryption, Header, Incompatible, Version};
use crate::units::{ByteCount, HostOffset};

/// The longest backing name in bytes (qcow2 specification, header, bytes 16-19).
pub(super) const BACKING_NAME_MAX: u64 = 1023;
/// The longest backing format in bytes (QEMU enforces).
pub(super) const BACKING_FORMAT_MAX: u64 = 15;
/// The largest refcount table (QEMU enforces).
const REFCOUNT_TABLE_MAX: ByteCount = ByteCount::mib(8);
/// The largest number of internal snapshots (QEMU enforces).
const SNAPSHOTS_MAX: u32 = 65_536;
/// The size of the smallest entry of the snapshot table.
const SNAPSHOT_ENTRY_MIN: u64 = 40;

impl Header {
    /// Checks every rule that the fields have among themselves.
    pub(super) fn check(&self) -> Result<(), Error> {
        refuse_unknown(self.incompatible)?;
        self.check_version()?;
        self.check_features()?;
        self.check_tables()?;
        check_list(&self.extensions)?;
        self.check_extensions()?;
        self.check_backing()
    }

    /// Version 2 has no fields for what version 3 added.
    fn check_version(&self) -> Result<(), Error> {
        if self.version == Version::V3 {
            return Ok(());
        }
        let features = self.incompatible.bits() | self.compatible.bits() | self.autoclear.bits();
        let plain = |holds, field, found| require(holds, "header", field, found, Rule::Needs("version 3"));
        plain(features == 0, "feature bits", features)?;
        let order = self.geometry.refcount_order();
        plain(order == 4, "refcount_order", u64::from(order))?;
        plain(self.geometry.l2_width() == L2Width::Standard, "L2 entry size", 16)?;
        plain(self.compression_field == CompressionField::Absent, "header_length", self.length() as u64)?;
        plain(self.extra.is_empty(), "header_length", self.extra.len() as u64)
    }

    /// The bits and the fields that they announce agree, and with each other (QEMU enforces).
    fn check_features(&self) -> Result<(), Error> {
        let bits = self.incompatible.bits();
        let agrees =
            |holds, rule| require(holds, "header", "incompatible_features", bits, Rule::AgreesWith(rule));
        let extended = self.geometry.l2_width() == L2Width::Extended;
        agrees(self.incompatible.is_extended_l2() == extended, "the width of L2 entries")?;
        let other = self.compression != Compression::Deflate;
        agrees(self.incompatible.has_compression_type() == other, "compression_type")?;
        let lonely = self.autoclear.raw_data_file() && !self.incompatible.has_data_file();
        let rule = Rule::Needs("an external data file");
        require(!lonely, "header", "autoclear_features", self.autoclear.bits(), rule)?;
        let extra = self.extra.len() as u64;
        let rule = Rule::MultipleOf(8);
        require(extra.is_multiple_of(8), "header", "header_length", self.length() as u64, rule)?;
        let needs_field = other || extra > 0;
        let has_field = self.compression_field != CompressionField::Absent;
        let rule = Rule::Needs("compression_type");
        require(has_field || !needs_field, "header", "header_length", self.length() as u64, rule)
    }

    /// Each table has a lawful size and place.
    fn check_tables(&self) -> Result<(), Error> {
        let cluster_size = self.geometry.cluster_size().as_u64();
        let entries = u64::from(self.l1_entries);
        require(entries <= L1_ENTRIES_MAX, "header", "l1_size", entries, Rule::AtMost(L1_ENTRIES_MAX))?;
        self.geometry.check_size(self.size)?;
        let needed = self.geometry.l1_entries_for(self.size);
        require(entries >= needed, "header", "l1_size", entries, Rule::AtLeast(needed))?;
        self.check_place("l1_table_offset", self.l1_table, entries * 8)?;

        let clusters = u64::from(self.refcount_table_clusters);
        let clusters_max = REFCOUNT_TABLE_MAX.as_u64() / cluster_size;
        let lawful = (1..=clusters_max).contains(&clusters);
        let rule = Rule::Between(1, clusters_max);
        require(lawful, "header", "refcount_table_clusters", clusters, rule)?;
        self.check_place("refcount_table_offset", self.refcount_table, clusters * cluster_size)?;

        let count = u64::from(self.snapshot_count);
        let rule = Rule::AtMost(u64::from(SNAPSHOTS_MAX));
        require(self.snapshot_count <= SNAPSHOTS_MAX, "header", "nb_snapshots", count, rule)?;
        self.check_place("snapshots_offset", self.snapshot_table, count * SNAPSHOT_ENTRY_MIN)
    }

    /// A table begins with a cluster and ends where a file may.
    fn check_place(&self, field: &'static str, at: HostOffset, length: u64) -> Result<(), Error> {
        let found = at.as_u64();
        let aligned = self.geometry.is_cluster_aligned(at);
        require(aligned, "header", field, found, Rule::ClusterAligned)?;
        let inside = found.checked_add(length).is_some_and(|end| end < 1 << 63);
        require(inside, "header", field, found, Rule::InsideFileOffsets)
    }

    /// The extensions that point somewhere are in order, and the crypto extension goes with LUKS.
    fn check_extensions(&self) -> Result<(), Error> {
        self.bitmaps()?;
        let crypto = self.crypto()?.is_some();
        let luks = self.encryption == Encryption::Luks;
        let kind = u64::from(Extension::CRYPTO);
        require(crypto || !luks, "header", "crypt_method", 2, Rule::Needs("the crypto extension"))?;
        require(luks || !crypto, "header extension", "type", kind, Rule::Needs("LUKS encryption"))
    }

    /// The backing name is text, and its format is what the extension says.
    fn check_backing(&self) -> Result<(), Error> {
        let Some(backing) = &self.backing else { return Ok(()) };
        let length = backing.name.len() as u64;
        let lawful = (1..=BACKING_NAME_MAX).contains(&length);
        let rule = Rule::Between(1, BACKING_NAME_MAX);
        require(lawful, "header", "backing_file_size", length, rule)?;
        text("backing name", backing.name.as_bytes())?;
        let agrees = backing_format(&self.extensions)? == backing.format;
        let found = backing.format.as_ref().map_or(0, String::len) as u64;
        let rule = Rule::AgreesWith("the backing format extension");
        require(agrees, "header", "backing format length", found, rule)
    }
}

/// A feature that must be known and is not ends it.
pub(super) fn refuse_unknown(incompatible: Incompatible) -> Result<(), Error> {
    let unknown = incompatible.unknown();
    if unknown == 0 {
        return Ok(());
    }
    Err(Unsupported { feature: "incompatible feature", detail: Detail::Bits(unknown) }.into())
}
