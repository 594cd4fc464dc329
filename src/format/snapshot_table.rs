//! The table of internal snapshots: entries of their own lengths, each aligned to 8 bytes.
//!
//! ```text
//! bytes 0-7    where the snapshot's L1 table lies      bytes 20-23  nanoseconds of the date
//! bytes 8-11   its entries                             bytes 24-31  nanoseconds the guest had run
//! bytes 12-13  length of the id                        bytes 32-35  size of the VM state, 32 bits
//! bytes 14-15  length of the name                      bytes 36-39  length of the extra data
//! bytes 16-19  seconds of the date                     bytes 40-    extra data, id, name, zeros up to 8
//!
//! extra data: bytes 0-7 size of the VM state, 8-15 size of the disk, 16-23 instruction count
//! ```
//! (qcow2 specification, snapshots.) The table has no length of its own: a reader follows the entries.

use super::bytes::{Record, pad_to_8};
use super::error::{Error, Rule, require};
use super::{Geometry, L1_ENTRIES_MAX, Version};
use crate::units::{ByteCount, HostOffset};

/// An internal snapshot.
#[doc = include_str!("examples/snapshots.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotEntry {
    /// Where the snapshot's L1 table begins. Not yet checked: see [`SnapshotEntry::check_l1`].
    pub l1_table: HostOffset,
    /// The number of entries of the L1 table. Not yet checked.
    pub l1_entries: u32,
    /// The id, as the tool that made the snapshot numbers it. At most 65,535 bytes, any.
    pub id: Vec<u8>,
    /// The name. At most 65,535 bytes, any.
    pub name: Vec<u8>,
    /// When the snapshot was made, in seconds since 1970.
    pub date_seconds: u32,
    /// The nanoseconds beyond.
    pub date_nanos: u32,
    /// How long the guest had run, in nanoseconds.
    pub vm_clock_nanos: u64,
    /// The size of the VM state in bytes, of which the extra data may know the full 64 bits.
    pub vm_state_size_32: u32,
    /// The extra data as found, at most 1,024 bytes, fields of later versions included.
    pub extra: Vec<u8>,
}

impl SnapshotEntry {
    /// The length of an entry's fixed fields in bytes.
    pub const HEAD: usize = 40;
    /// The largest number of entries (QEMU enforces).
    pub const COUNT_MAX: u32 = 65_536;
    /// The largest size of the table (QEMU enforces).
    pub const TABLE_SIZE_MAX: ByteCount = ByteCount::mib(64);
    /// The longest extra data in bytes (QEMU enforces).
    pub const EXTRA_MAX: u32 = 1024;
    /// The longest entry in bytes, with its padding.
    pub const LENGTH_MAX: usize =
        (Self::HEAD + Self::EXTRA_MAX as usize + 2 * u16::MAX as usize).next_multiple_of(8);
    /// The shortest extra data of a version 3 image in bytes (qcow2 specification, snapshots, bytes 36-39).
    pub const EXTRA_MIN_V3: u32 = 16;

    /// The size of the entry that begins with `head`, without its padding: 40 to 132,134 bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when there are fewer than [`SnapshotEntry::HEAD`] bytes, or the extra data is
    /// longer than the format allows.
    pub fn size_of(head: &[u8]) -> Result<ByteCount, Error> {
        let record = Record::new("snapshot", head);
        let extra = record.u32(36)?;
        let rule = Rule::AtMost(u64::from(Self::EXTRA_MAX));
        require(extra <= Self::EXTRA_MAX, "snapshot", "extra_data_size", u64::from(extra), rule)?;
        let names = u64::from(record.u16(12)?) + u64::from(record.u16(14)?);
        Ok(ByteCount::new(Self::HEAD as u64 + u64::from(extra) + names))
    }

    /// Reads the entry at the begin of `bytes`; [`SnapshotEntry::size_of`] says how many it takes.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when the bytes are too few, or the extra data is longer than the format allows or
    /// shorter than `version` needs.
    pub fn parse(bytes: &[u8], version: Version) -> Result<Self, Error> {
        Self::size_of(bytes)?;
        let record = Record::new("snapshot", bytes);
        let extra_size = record.u32(36)?;
        let enough = version == Version::V2 || extra_size >= Self::EXTRA_MIN_V3;
        let rule = Rule::AtLeast(u64::from(Self::EXTRA_MIN_V3));
        require(enough, "snapshot", "extra_data_size", u64::from(extra_size), rule)?;
        let id_at = Self::HEAD + ByteCount::new(u64::from(extra_size)).as_usize();
        let id_length = usize::from(record.u16(12)?);
        let name_length = usize::from(record.u16(14)?);
        Ok(Self {
            l1_table: HostOffset::new(record.u64(0)?),
            l1_entries: record.u32(8)?,
            id: record.slice(id_at, id_length)?.to_vec(),
            name: record.slice(id_at + id_length, name_length)?.to_vec(),
            date_seconds: record.u32(16)?,
            date_nanos: record.u32(20)?,
            vm_clock_nanos: record.u64(24)?,
            vm_state_size_32: record.u32(32)?,
            extra: record.slice(Self::HEAD, id_at - Self::HEAD)?.to_vec(),
        })
    }

    /// The entry as it is stored, padded to 8 bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when the id, the name or the extra data is too long.
    pub fn encode(&self, version: Version) -> Result<Vec<u8>, Error> {
        let id_length = length_16("id_str_size", &self.id)?;
        let name_length = length_16("name_size", &self.name)?;
        let low = if version == Version::V3 { Self::EXTRA_MIN_V3 } else { 0 };
        let rule = Rule::Between(u64::from(low), u64::from(Self::EXTRA_MAX));
        let found = self.extra.len() as u64;
        let extra_size = u32::try_from(self.extra.len()).unwrap_or(u32::MAX);
        let lawful = (low..=Self::EXTRA_MAX).contains(&extra_size);
        require(lawful, "snapshot", "extra_data_size", found, rule)?;
        let mut bytes = Vec::new();
        bytes.extend(self.l1_table.as_u64().to_be_bytes());
        bytes.extend(self.l1_entries.to_be_bytes());
        bytes.extend(id_length.to_be_bytes());
        bytes.extend(name_length.to_be_bytes());
        bytes.extend(self.date_seconds.to_be_bytes());
        bytes.extend(self.date_nanos.to_be_bytes());
        bytes.extend(self.vm_clock_nanos.to_be_bytes());
        bytes.extend(self.vm_state_size_32.to_be_bytes());
        bytes.extend(extra_size.to_be_bytes());
        bytes.extend(&self.extra);
        bytes.extend(&self.id);
        bytes.extend(&self.name);
        pad_to_8(&mut bytes);
        Ok(bytes)
    }

    /// The size of the VM state, which lies past the end of the disk. Zero for none.
    #[must_use]
    pub fn vm_state_size(&self) -> ByteCount {
        ByteCount::new(self.extra_field(0).unwrap_or(u64::from(self.vm_state_size_32)))
    }

    /// The size of the disk in the snapshot, or `None` when it is that of the image.
    #[must_use]
    pub fn disk_size(&self) -> Option<ByteCount> {
        self.extra_field(8).map(ByteCount::new)
    }

    /// How many instructions the guest had executed, if anyone counted.
    #[must_use]
    pub fn icount(&self) -> Option<u64> {
        self.extra_field(16).filter(|&count| count != u64::MAX)
    }

    /// Refuses a table that is larger than the format allows.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] past [`SnapshotEntry::TABLE_SIZE_MAX`].
    pub fn check_table_size(size: ByteCount) -> Result<(), Error> {
        let limit = Self::TABLE_SIZE_MAX;
        require(size <= limit, "snapshot table", "size", size.as_u64(), Rule::AtMost(limit.as_u64()))
    }

    fn extra_field(&self, at: usize) -> Option<u64> {
        Record::new("snapshot", &self.extra).u64(at).ok()
    }

    /// Checks the snapshot's L1 table as the header's: at most 32 MiB, aligned to a cluster, past cluster 0.
    ///
    /// Not a part of reading: QEMU opens an image whose snapshot has no usable table, and looks at it when
    /// the snapshot is used.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] names the broken rule.
    pub fn check_l1(&self, geometry: Geometry) -> Result<(), Error> {
        let entries = u64::from(self.l1_entries);
        let at = self.l1_table.as_u64();
        let rule = Rule::AtMost(L1_ENTRIES_MAX);
        require(entries <= L1_ENTRIES_MAX, "snapshot", "l1_size", entries, rule)?;
        let aligned = geometry.is_cluster_aligned(self.l1_table);
        require(aligned, "snapshot", "l1_table_offset", at, Rule::ClusterAligned)?;
        let first = geometry.cluster_size().as_u64();
        let outside = at >= first || entries == 0;
        require(outside, "snapshot", "l1_table_offset", at, Rule::AtLeast(first))?;
        let inside = at.checked_add(entries * 8).is_some_and(|end| end < 1 << 63);
        require(inside, "snapshot", "l1_table_offset", at, Rule::InsideFileOffsets)
    }
}

/// Reads `count` entries from the begin of `bytes`, and says how many bytes they take, padding included.
///
/// To read no more of a file than is needed, follow the entries one by one: [`SnapshotEntry::size_of`] their
/// first 40 bytes, [`SnapshotEntry::parse`] the whole, and on to the next multiple of 8.
///
/// An example is at [`SnapshotEntry`].
///
/// # Errors
///
/// [`Error::Malformed`] when there are too many entries, they take more than 64 MiB, or one is not in order.
pub fn parse_snapshots(
    bytes: &[u8],
    count: u32,
    version: Version,
) -> Result<(Vec<SnapshotEntry>, ByteCount), Error> {
    check_count(u64::from(count))?;
    let mut entries = Vec::new();
    let mut at = 0usize;
    for _ in 0..count {
        let rest = bytes.get(at..).unwrap_or_default();
        let size = SnapshotEntry::size_of(rest)?;
        SnapshotEntry::check_table_size(ByteCount::of(at) + size)?;
        entries.push(SnapshotEntry::parse(rest, version)?);
        at = (at + size.as_usize()).next_multiple_of(8);
    }
    Ok((entries, ByteCount::of(at)))
}

/// The table of `entries` as it is stored.
///
/// An example is at [`SnapshotEntry`].
///
/// # Errors
///
/// [`Error::Malformed`] when there are too many entries, they take more than 64 MiB, or one is not in order.
pub fn encode_snapshots(entries: &[SnapshotEntry], version: Version) -> Result<Vec<u8>, Error> {
    check_count(entries.len() as u64)?;
    let mut bytes = Vec::new();
    for entry in entries {
        bytes.extend(entry.encode(version)?);
        SnapshotEntry::check_table_size(ByteCount::of(bytes.len()))?;
    }
    Ok(bytes)
}

fn check_count(count: u64) -> Result<(), Error> {
    let limit = u64::from(SnapshotEntry::COUNT_MAX);
    require(count <= limit, "snapshot table", "count", count, Rule::AtMost(limit))
}

fn length_16(field: &'static str, bytes: &[u8]) -> Result<u16, Error> {
    let found = bytes.len() as u64;
    let rule = Rule::AtMost(u64::from(u16::MAX));
    require(found <= u64::from(u16::MAX), "snapshot", field, found, rule)?;
    Ok(u16::try_from(bytes.len()).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::L2Width;
    use super::*;

    fn entry(extra: usize) -> SnapshotEntry {
        SnapshotEntry {
            l1_table: HostOffset::new(0x70000),
            l1_entries: 1,
            id: b"1".to_vec(),
            name: b"before".to_vec(),
            date_seconds: 0x6500_0000,
            date_nanos: 999_999_999,
            vm_clock_nanos: 5,
            vm_state_size_32: 7,
            extra: (1..=24).chain(std::iter::repeat(0xee)).take(extra).collect(),
        }
    }

    #[test]
    fn an_entry_has_these_bytes() -> Result<(), Error> {
        let mut golden = vec![0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 0x65, 0, 0, 0];
        golden.extend([0x3b, 0x9a, 0xc9, 0xff, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 7, 0, 0, 0, 16]);
        golden.extend(1..=16);
        golden.extend(b"1before\0");
        assert_eq!(entry(16).encode(Version::V3)?, golden);
        assert_eq!(SnapshotEntry::parse(&golden, Version::V3)?, entry(16));
        assert_eq!(SnapshotEntry::size_of(&golden)?, ByteCount::new(63));
        Ok(())
    }

    #[test]
    fn the_extra_data_is_read_as_far_as_it_goes() {
        let fields = |extra| {
            let entry = entry(extra);
            (entry.vm_state_size().as_u64(), entry.disk_size().map(ByteCount::as_u64), entry.icount())
        };
        assert_eq!(fields(0), (7, None, None));
        assert_eq!(fields(8), (0x0102_0304_0506_0708, None, None));
        assert_eq!(fields(16), (0x0102_0304_0506_0708, Some(0x090a_0b0c_0d0e_0f10), None));
        assert_eq!(fields(24).2, Some(0x1112_1314_1516_1718));
        let mut uncounted = entry(24);
        uncounted.extra[16..].fill(0xff);
        assert_eq!(uncounted.icount(), None);
    }

    #[test]
    fn a_table_is_written_as_it_was_read() -> Result<(), Error> {
        let entries = [entry(16), entry(24), entry(17), entry(1024)];
        let bytes = encode_snapshots(&entries, Version::V3)?;
        let (read, size) = parse_snapshots(&bytes, 4, Version::V3)?;
        assert_eq!(read, entries);
        assert_eq!(size, ByteCount::of(bytes.len()));
        let (read, size) = parse_snapshots(&bytes, 1, Version::V3)?;
        assert_eq!((read.len(), size), (1, ByteCount::new(64)));
        Ok(())
    }

    #[test]
    fn a_table_cut_at_any_length_is_refused() -> Result<(), Error> {
        let entries = [entry(0), entry(24)];
        let bytes = encode_snapshots(&entries, Version::V2)?;
        // One byte of padding ends the table, and nobody misses it.
        for length in 0..bytes.len() - 1 {
            let Err(Error::Malformed(wrong)) = parse_snapshots(&bytes[..length], 2, Version::V2) else {
                panic!("{length} bytes are enough")
            };
            assert_eq!((wrong.structure, wrong.field), ("snapshot", "length"));
        }
        assert_eq!(parse_snapshots(&bytes[..bytes.len() - 1], 2, Version::V2)?.0, entries);
        Ok(())
    }

    #[test]
    fn every_flipped_bit_is_refused_or_written_back_as_it_was_read() -> Result<(), Error> {
        let golden = encode_snapshots(&[entry(16), entry(24)], Version::V3)?;
        for bit in 0..golden.len() * 8 {
            let mut bytes = golden.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok((read, _)) = parse_snapshots(&bytes, 2, Version::V3) else { continue };
            let written = encode_snapshots(&read, Version::V3)?;
            let (again, size) = parse_snapshots(&written, 2, Version::V3)?;
            assert_eq!((again, size), (read, ByteCount::of(written.len())), "bit {bit}");
        }
        Ok(())
    }

    #[test]
    fn each_limit_is_refused_one_past_it() {
        let refused = |bytes: &[u8], version| match SnapshotEntry::parse(bytes, version) {
            Err(Error::Malformed(wrong)) => wrong.rule,
            other => panic!("{other:?}"),
        };
        let mut bytes = entry(16).encode(Version::V3).expect("lawful");
        bytes[38..40].copy_from_slice(&[4, 1]);
        assert_eq!(refused(&bytes, Version::V3), Rule::AtMost(1024));
        bytes[38..40].copy_from_slice(&[0, 15]);
        assert_eq!(refused(&bytes, Version::V3), Rule::AtLeast(16));
        assert!(SnapshotEntry::parse(&bytes, Version::V2).is_ok());

        let Err(Error::Malformed(wrong)) = parse_snapshots(&[], 65_537, Version::V3) else { panic!() };
        assert_eq!((wrong.field, wrong.rule), ("count", Rule::AtMost(65_536)));
        let Err(Error::Malformed(wrong)) = entry(1025).encode(Version::V3) else { panic!() };
        assert_eq!(wrong.rule, Rule::Between(16, 1024));
        let Err(Error::Malformed(wrong)) = entry(15).encode(Version::V3) else { panic!() };
        assert_eq!(wrong.rule, Rule::Between(16, 1024));
        let long = SnapshotEntry { name: vec![b'n'; 65_536], ..entry(16) };
        let Err(Error::Malformed(wrong)) = long.encode(Version::V3) else { panic!() };
        assert_eq!((wrong.field, wrong.rule), ("name_size", Rule::AtMost(65_535)));
    }

    #[test]
    fn a_table_past_64_mib_is_refused() {
        let long = SnapshotEntry { name: vec![b'n'; 65_535], id: vec![b'1'; 65_535], ..entry(1024) };
        let entries = vec![long; 508];
        let Err(Error::Malformed(wrong)) = encode_snapshots(&entries, Version::V3) else { panic!() };
        assert_eq!((wrong.field, wrong.rule), ("size", Rule::AtMost(64 << 20)));
        let one = entries[0].encode(Version::V3).expect("lawful");
        let Err(Error::Malformed(wrong)) = parse_snapshots(&one.repeat(508), 508, Version::V3) else {
            panic!()
        };
        assert_eq!((wrong.field, wrong.rule), ("size", Rule::AtMost(64 << 20)));
    }

    #[test]
    fn a_table_has_65536_entries_and_64_mib_at_most() -> Result<(), Error> {
        SnapshotEntry::check_table_size(SnapshotEntry::TABLE_SIZE_MAX)?;
        let mut entries = vec![entry(0); 65_536];
        let bytes = encode_snapshots(&entries, Version::V2)?;
        assert_eq!(parse_snapshots(&bytes, 65_536, Version::V2)?.0.len(), 65_536);
        entries.push(entry(0));
        let Err(Error::Malformed(wrong)) = encode_snapshots(&entries, Version::V2) else { panic!() };
        assert_eq!((wrong.field, wrong.rule), ("count", Rule::AtMost(65_536)));
        Ok(())
    }

    #[test]
    fn the_l1_table_of_a_snapshot_has_the_limits_of_the_headers() -> Result<(), Error> {
        let geometry = Geometry::new(16, 4, L2Width::Standard)?;
        entry(16).check_l1(geometry)?;
        let largest =
            SnapshotEntry { l1_table: HostOffset::new(0x10000), l1_entries: 4_194_304, ..entry(16) };
        largest.check_l1(geometry)?;
        for (at, entries, rule) in [
            (0x70000, 4_194_305, Rule::AtMost(4_194_304)),
            (0x70200, 1, Rule::ClusterAligned),
            (0, 1, Rule::AtLeast(65_536)),
            (0x7fff_ffff_ffff_0000, 8192, Rule::InsideFileOffsets),
            (0xffff_ffff_ffff_0000, 8192, Rule::InsideFileOffsets),
        ] {
            let wild = SnapshotEntry { l1_table: HostOffset::new(at), l1_entries: entries, ..entry(16) };
            let Err(Error::Malformed(wrong)) = wild.check_l1(geometry) else { panic!("{rule}") };
            assert_eq!(wrong.rule, rule);
        }
        Ok(())
    }
}
