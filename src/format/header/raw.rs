//! The fixed fields of the header, each as found: the one table of their offsets.
//!
//! A [`RawHeader`] is only good for how much of the file the header takes. The way on is
//! [`Header::parse`](super::Header::parse).

use super::super::bytes::Record;
use super::super::error::{Detail, Error, Rule, Unsupported, require};
use crate::units::ByteCount;

/// The length of what [`RawHeader::parse`] looks at.
///
/// An example is at [`Header`](crate::format::Header).
pub const HEADER_PROBE: usize = 112;

const MAGIC: u32 = 0x5146_49fb;

/// Where each field begins (qcow2 specification, header).
mod at {
    pub(super) const MAGIC: usize = 0;
    pub(super) const VERSION: usize = 4;
    pub(super) const BACKING_FILE_OFFSET: usize = 8;
    pub(super) const BACKING_FILE_SIZE: usize = 16;
    pub(super) const CLUSTER_BITS: usize = 20;
    pub(super) const SIZE: usize = 24;
    pub(super) const CRYPT_METHOD: usize = 32;
    pub(super) const L1_SIZE: usize = 36;
    pub(super) const L1_TABLE_OFFSET: usize = 40;
    pub(super) const REFCOUNT_TABLE_OFFSET: usize = 48;
    pub(super) const REFCOUNT_TABLE_CLUSTERS: usize = 56;
    pub(super) const NB_SNAPSHOTS: usize = 60;
    pub(super) const SNAPSHOTS_OFFSET: usize = 64;
    pub(super) const INCOMPATIBLE_FEATURES: usize = 72;
    pub(super) const COMPATIBLE_FEATURES: usize = 80;
    pub(super) const AUTOCLEAR_FEATURES: usize = 88;
    pub(super) const REFCOUNT_ORDER: usize = 96;
    pub(super) const HEADER_LENGTH: usize = 100;
    pub(super) const COMPRESSION_TYPE: usize = 104;
    pub(super) const PADDING: usize = 105;
}

/// The length of a version 2 header.
pub(super) const LENGTH_V2: usize = at::INCOMPATIBLE_FEATURES;
/// The length of the shortest version 3 header.
pub(super) const LENGTH_V3: usize = at::COMPRESSION_TYPE;
/// The length of a header with a compression type.
pub(super) const LENGTH_COMPRESSION: usize = HEADER_PROBE;
const _: () = assert!(LENGTH_V2 == 72 && LENGTH_V3 == 104 && at::PADDING + 7 == LENGTH_COMPRESSION);

/// The fixed fields as found. Only the magic, the version and the cluster size were looked at.
///
/// A version 2 header has no field past `snapshots_offset`; the others have what they then mean.
///
/// An example is at [`Header`](crate::format::Header).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawHeader {
    /// 2 or 3.
    pub version: u32,
    /// Where the backing name begins, zero for none.
    pub backing_file_offset: u64,
    /// The length of the backing name in bytes.
    pub backing_file_size: u32,
    /// The binary logarithm of the cluster size, 9 to 21.
    pub cluster_bits: u32,
    /// The size of the guest's disk in bytes.
    pub size: u64,
    /// 0 none, 1 AES, 2 LUKS.
    pub crypt_method: u32,
    /// Entries of the L1 table.
    pub l1_size: u32,
    /// Where the L1 table begins.
    pub l1_table_offset: u64,
    /// Where the refcount table begins.
    pub refcount_table_offset: u64,
    /// The size of the refcount table in clusters.
    pub refcount_table_clusters: u32,
    /// The number of internal snapshots.
    pub nb_snapshots: u32,
    /// Where the snapshot table begins.
    pub snapshots_offset: u64,
    /// Features that must be known.
    pub incompatible_features: u64,
    /// Features that may be ignored.
    pub compatible_features: u64,
    /// Features that a writer clears.
    pub autoclear_features: u64,
    /// The binary logarithm of the refcount width in bits.
    pub refcount_order: u32,
    /// The length of the header in bytes, without its extensions.
    pub header_length: u32,
    /// 0 deflate, 1 zstd. Zero when the header is too short for it.
    pub compression_type: u8,
    /// The bytes up to 112. Zero when the header is too short for them.
    pub padding: [u8; 7],
}

impl RawHeader {
    /// Reads the fields from the first bytes of a file: [`HEADER_PROBE`], or all when it has fewer.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when the magic is another, the bytes end inside the header, or the cluster size
    /// is out of range; [`Error::Unsupported`] for a version that is not 2 or 3.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let record = Record::new("header", bytes);
        let magic = record.u32(at::MAGIC)?;
        require(magic == MAGIC, "header", "magic", u64::from(magic), Rule::Magic)?;
        let version = record.u32(at::VERSION)?;
        let fields = match version {
            2 => Self::parse_v2(record)?,
            3 => Self::parse_v3(record)?,
            _ => {
                let detail = Detail::Number(u64::from(version));
                return Err(Unsupported { feature: "qcow2 version", detail }.into());
            }
        };
        let bits = fields.cluster_bits;
        let lawful = (9..=21).contains(&bits);
        require(lawful, "header", "cluster_bits", u64::from(bits), Rule::Between(9, 21))?;
        Ok(fields)
    }

    /// The size of a cluster: no header reaches further than the first.
    #[must_use]
    pub const fn cluster_size(&self) -> ByteCount {
        ByteCount::new(1 << self.cluster_bits)
    }

    fn parse_v2(record: Record<'_>) -> Result<Self, Error> {
        Ok(Self {
            version: record.u32(at::VERSION)?,
            backing_file_offset: record.u64(at::BACKING_FILE_OFFSET)?,
            backing_file_size: record.u32(at::BACKING_FILE_SIZE)?,
            cluster_bits: record.u32(at::CLUSTER_BITS)?,
            size: record.u64(at::SIZE)?,
            crypt_method: record.u32(at::CRYPT_METHOD)?,
            l1_size: record.u32(at::L1_SIZE)?,
            l1_table_offset: record.u64(at::L1_TABLE_OFFSET)?,
            refcount_table_offset: record.u64(at::REFCOUNT_TABLE_OFFSET)?,
            refcount_table_clusters: record.u32(at::REFCOUNT_TABLE_CLUSTERS)?,
            nb_snapshots: record.u32(at::NB_SNAPSHOTS)?,
            snapshots_offset: record.u64(at::SNAPSHOTS_OFFSET)?,
            incompatible_features: 0,
            compatible_features: 0,
            autoclear_features: 0,
            refcount_order: 4,
            header_length: 72,
            compression_type: 0,
            padding: [0; 7],
        })
    }

    fn parse_v3(record: Record<'_>) -> Result<Self, Error> {
        let mut fields = Self {
            incompatible_features: record.u64(at::INCOMPATIBLE_FEATURES)?,
            compatible_features: record.u64(at::COMPATIBLE_FEATURES)?,
            autoclear_features: record.u64(at::AUTOCLEAR_FEATURES)?,
            refcount_order: record.u32(at::REFCOUNT_ORDER)?,
            header_length: record.u32(at::HEADER_LENGTH)?,
            ..Self::parse_v2(record)?
        };
        if u64::from(fields.header_length) >= LENGTH_COMPRESSION as u64 {
            fields.compression_type = record.u8(at::COMPRESSION_TYPE)?;
            fields.padding = record.array(at::PADDING)?;
        }
        Ok(fields)
    }

    /// The fields as they are stored: 72 bytes for version 2, 104 or 112 for version 3.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_PROBE);
        bytes.extend(MAGIC.to_be_bytes());
        bytes.extend(self.version.to_be_bytes());
        bytes.extend(self.backing_file_offset.to_be_bytes());
        bytes.extend(self.backing_file_size.to_be_bytes());
        bytes.extend(self.cluster_bits.to_be_bytes());
        bytes.extend(self.size.to_be_bytes());
        bytes.extend(self.crypt_method.to_be_bytes());
        bytes.extend(self.l1_size.to_be_bytes());
        bytes.extend(self.l1_table_offset.to_be_bytes());
        bytes.extend(self.refcount_table_offset.to_be_bytes());
        bytes.extend(self.refcount_table_clusters.to_be_bytes());
        bytes.extend(self.nb_snapshots.to_be_bytes());
        bytes.extend(self.snapshots_offset.to_be_bytes());
        if self.version == 2 {
            return bytes;
        }
        bytes.extend(self.incompatible_features.to_be_bytes());
        bytes.extend(self.compatible_features.to_be_bytes());
        bytes.extend(self.autoclear_features.to_be_bytes());
        bytes.extend(self.refcount_order.to_be_bytes());
        bytes.extend(self.header_length.to_be_bytes());
        if u64::from(self.header_length) >= LENGTH_COMPRESSION as u64 {
            bytes.push(self.compression_type);
            bytes.extend(self.padding);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header whose every byte is another, but for the fields that are looked at.
    fn golden(version: u8, header_length: u8) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..112).collect();
        bytes[..8].copy_from_slice(&[0x51, 0x46, 0x49, 0xfb, 0, 0, 0, version]);
        bytes[20..24].copy_from_slice(&[0, 0, 0, 16]);
        bytes[100..104].copy_from_slice(&[0, 0, 0, header_length]);
        bytes
    }

    #[test]
    fn each_field_lies_where_the_specification_says() -> Result<(), Error> {
        let fields = RawHeader::parse(&golden(3, 112))?;
        let expected = RawHeader {
            version: 3,
            backing_file_offset: 0x0809_0a0b_0c0d_0e0f,
            backing_file_size: 0x1011_1213,
            cluster_bits: 16,
            size: 0x1819_1a1b_1c1d_1e1f,
            crypt_method: 0x2021_2223,
            l1_size: 0x2425_2627,
            l1_table_offset: 0x2829_2a2b_2c2d_2e2f,
            refcount_table_offset: 0x3031_3233_3435_3637,
            refcount_table_clusters: 0x3839_3a3b,
            nb_snapshots: 0x3c3d_3e3f,
            snapshots_offset: 0x4041_4243_4445_4647,
            incompatible_features: 0x4849_4a4b_4c4d_4e4f,
            compatible_features: 0x5051_5253_5455_5657,
            autoclear_features: 0x5859_5a5b_5c5d_5e5f,
            refcount_order: 0x6061_6263,
            header_length: 112,
            compression_type: 0x68,
            padding: [0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f],
        };
        assert_eq!(fields, expected);
        assert_eq!(fields.cluster_size(), ByteCount::kib(64));
        Ok(())
    }

    #[test]
    fn each_length_of_header_is_written_as_it_was_read() -> Result<(), Error> {
        for (version, header_length, length) in [(2, 0, 72), (3, 104, 104), (3, 112, 112)] {
            let bytes = golden(version, header_length);
            let fields = RawHeader::parse(&bytes[..length])?;
            assert_eq!(fields.encode(), bytes[..length]);
            for short in 0..length {
                let Err(Error::Malformed(wrong)) = RawHeader::parse(&bytes[..short]) else {
                    panic!("{short} bytes are enough for version {version}")
                };
                assert_eq!((wrong.field, wrong.found), ("length", short as u64));
            }
        }
        Ok(())
    }

    #[test]
    fn only_the_magic_the_version_and_the_cluster_size_are_looked_at() {
        let mut bytes = golden(3, 112);
        bytes[3] = 0;
        let Err(Error::Malformed(wrong)) = RawHeader::parse(&bytes) else { panic!() };
        assert_eq!((wrong.field, wrong.found, wrong.rule), ("magic", 0x5146_4900, Rule::Magic));
        for version in [0, 1, 4, 255] {
            let Err(Error::Unsupported(unknown)) = RawHeader::parse(&golden(version, 112)) else { panic!() };
            assert_eq!(unknown.detail, Detail::Number(u64::from(version)));
        }
        for bits in [0, 8, 22, 255] {
            let mut bytes = golden(3, 112);
            bytes[23] = bits;
            let Err(Error::Malformed(wrong)) = RawHeader::parse(&bytes) else { panic!() };
            assert_eq!((wrong.field, wrong.rule), ("cluster_bits", Rule::Between(9, 21)));
        }
    }
}
