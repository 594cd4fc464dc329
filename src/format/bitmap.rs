//! Persistent dirty bitmaps: the directory that names them, and the entries of their tables.
//!
//! ```text
//! directory entry
//! bytes 0-7   where the bitmap's table lies     byte 17      granularity, as a power of two
//! bytes 8-11  its entries, 8 bytes each         bytes 18-19  length of the name
//! bytes 12-15 flags                             bytes 20-23  length of the extra data
//! byte 16     type, 1 for dirty tracking        bytes 24-    extra data, name, zeros up to 8
//! ```
//! (qcow2 specification, bitmaps.)

use super::bytes::{Record, pad_to_8};
use super::error::{Error, Rule, require};
use super::l2::OFFSET_MASK;
use super::{BitmapsExtension, Geometry};
use crate::units::{ByteCount, HostOffset};

/// A bitmap of the directory.
#[doc = include_str!("examples/bitmaps.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitmapEntry {
    /// Where the bitmap's table begins, aligned to a cluster and past cluster 0.
    pub table: HostOffset,
    /// The number of the table's entries, at least 1; the clusters under them have at most 512 MiB.
    pub table_entries: u32,
    /// What the bitmap is in.
    pub flags: BitmapFlags,
    /// How many bytes of the disk one bit stands for, as a power of two, 9 to 31.
    pub granularity_bits: u8,
    /// The name, 1 to 1,023 bytes, any.
    pub name: Vec<u8>,
    /// Extra data, kept as found.
    pub extra: Vec<u8>,
}

/// The flags of a bitmap.
///
/// An example is at [`BitmapEntry`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BitmapFlags(u32);

impl BitmapFlags {
    /// Somebody was changing the bitmap: it is not to be trusted.
    pub const IN_USE: Self = Self(1);
    /// The bitmap follows all writes.
    pub const AUTO: Self = Self(2);
    /// The extra data may be ignored.
    pub const EXTRA_DATA_COMPATIBLE: Self = Self(4);

    const KNOWN: u32 = 7;

    /// These flags and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These flags but those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether somebody was changing the bitmap.
    #[must_use]
    pub const fn is_in_use(self) -> bool {
        self.0 & Self::IN_USE.0 != 0
    }

    /// Whether the bitmap follows all writes.
    #[must_use]
    pub const fn is_auto(self) -> bool {
        self.0 & Self::AUTO.0 != 0
    }

    /// Whether the extra data may be ignored.
    #[must_use]
    pub const fn is_extra_data_compatible(self) -> bool {
        self.0 & Self::EXTRA_DATA_COMPATIBLE.0 != 0
    }
}

impl BitmapEntry {
    /// The length of an entry's fixed fields in bytes.
    pub const HEAD: usize = 24;
    /// The longest name in bytes (QEMU enforces).
    pub const NAME_MAX: u16 = 1023;

    /// The only type there is: a bit for each range that was written.
    const DIRTY_TRACKING: u8 = 1;
    /// The largest number of table entries (QEMU enforces).
    const TABLE_ENTRIES_MAX: u64 = 0x800_0000;
    /// The largest bitmap (QEMU enforces).
    const SIZE_MAX: ByteCount = ByteCount::mib(512);

    /// Reads the entry at the begin of `bytes`, and says how many it takes, padding included.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] names the field that is out of its range.
    pub fn parse(bytes: &[u8], geometry: Geometry) -> Result<(Self, ByteCount), Error> {
        let record = Record::new("bitmap", bytes);
        record.slice(0, Self::HEAD)?;
        let flags = record.u32(12)?;
        let known = flags & !BitmapFlags::KNOWN == 0;
        require(known, "bitmap", "flags", u64::from(flags), Rule::ReservedBitsZero)?;
        let kind = record.u8(16)?;
        let rule = Rule::Exactly(u64::from(Self::DIRTY_TRACKING));
        require(kind == Self::DIRTY_TRACKING, "bitmap", "type", u64::from(kind), rule)?;
        let name_length = usize::from(record.u16(18)?);
        let extra_length = ByteCount::new(u64::from(record.u32(20)?)).as_usize();
        let name_at = Self::HEAD.saturating_add(extra_length);
        let entry = Self {
            table: HostOffset::new(record.u64(0)?),
            table_entries: record.u32(8)?,
            flags: BitmapFlags(flags),
            granularity_bits: record.u8(17)?,
            name: record.slice(name_at, name_length)?.to_vec(),
            extra: record.slice(Self::HEAD, extra_length)?.to_vec(),
        };
        entry.check(geometry)?;
        Ok((entry, ByteCount::of((name_at + name_length).next_multiple_of(8))))
    }

    /// The entry as it is stored, padded to 8 bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] names the field that is out of its range.
    pub fn encode(&self, geometry: Geometry) -> Result<Vec<u8>, Error> {
        self.check(geometry)?;
        let extra_length = u32::try_from(self.extra.len()).unwrap_or(u32::MAX);
        let found = self.extra.len() as u64;
        let rule = Rule::AtMost(u64::from(u32::MAX));
        require(found == u64::from(extra_length), "bitmap", "extra_data_size", found, rule)?;
        let mut bytes = Vec::new();
        bytes.extend(self.table.as_u64().to_be_bytes());
        bytes.extend(self.table_entries.to_be_bytes());
        bytes.extend(self.flags.0.to_be_bytes());
        bytes.push(Self::DIRTY_TRACKING);
        bytes.push(self.granularity_bits);
        bytes.extend(u16::try_from(self.name.len()).expect("a checked name is short").to_be_bytes());
        bytes.extend(extra_length.to_be_bytes());
        bytes.extend(&self.extra);
        bytes.extend(&self.name);
        pad_to_8(&mut bytes);
        Ok(bytes)
    }

    fn check(&self, geometry: Geometry) -> Result<(), Error> {
        let lawful = |holds, field, found, rule| require(holds, "bitmap", field, found, rule);
        let entries = u64::from(self.table_entries);
        let cluster_size = geometry.cluster_size().as_u64();
        let entries_max = Self::TABLE_ENTRIES_MAX.min(Self::SIZE_MAX.as_u64() / cluster_size);
        let rule = Rule::Between(1, entries_max);
        lawful((1..=entries_max).contains(&entries), "bitmap_table_size", entries, rule)?;

        let at = self.table.as_u64();
        let aligned = geometry.is_cluster_aligned(self.table);
        lawful(aligned, "bitmap_table_offset", at, Rule::ClusterAligned)?;
        lawful(at >= cluster_size, "bitmap_table_offset", at, Rule::AtLeast(cluster_size))?;
        let inside = at.checked_add(entries * 8).is_some_and(|end| end < 1 << 63);
        lawful(inside, "bitmap_table_offset", at, Rule::InsideFileOffsets)?;

        let bits = self.granularity_bits;
        lawful((9..=31).contains(&bits), "granularity_bits", u64::from(bits), Rule::Between(9, 31))?;
        let length = self.name.len() as u64;
        let rule = Rule::Between(1, u64::from(Self::NAME_MAX));
        lawful((1..=u64::from(Self::NAME_MAX)).contains(&length), "name_size", length, rule)
    }
}

/// Reads the directory: `count` entries that fill `bytes` to the last.
///
/// An example is at [`BitmapEntry`].
///
/// # Errors
///
/// [`Error::Malformed`] when an entry is not in order, or there are more or fewer bytes than entries.
pub fn parse_directory(bytes: &[u8], count: u32, geometry: Geometry) -> Result<Vec<BitmapEntry>, Error> {
    let mut entries = Vec::new();
    let mut rest = bytes;
    for _ in 0..count {
        let (entry, size) = BitmapEntry::parse(rest, geometry)?;
        entries.push(entry);
        rest = Record::new("bitmap directory", rest)
            .slice(0, size.as_usize())
            .map(|taken| rest.get(taken.len()..).unwrap_or_default())?;
    }
    let used = (bytes.len() - rest.len()) as u64;
    require(rest.is_empty(), "bitmap directory", "size", bytes.len() as u64, Rule::Exactly(used))?;
    Ok(entries)
}

/// The directory of `entries` as it is stored.
///
/// An example is at [`BitmapEntry`].
///
/// # Errors
///
/// [`Error::Malformed`] when an entry is not in order.
pub fn encode_directory(entries: &[BitmapEntry], geometry: Geometry) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    for entry in entries {
        bytes.extend(entry.encode(geometry)?);
    }
    Ok(bytes)
}

impl BitmapsExtension {
    /// Reads the directory that the extension points to, whose bytes the caller has fetched.
    ///
    /// # Errors
    ///
    /// As of [`parse_directory`].
    pub fn parse_directory(self, bytes: &[u8], geometry: Geometry) -> Result<Vec<BitmapEntry>, Error> {
        parse_directory(bytes, self.count, geometry)
    }
}

/// What an entry of a bitmap's table says about its range of the bitmap.
///
/// An example is at [`L2Entry`](crate::format::L2Entry).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitmapTableEntry {
    /// All bits are zero.
    Zeros,
    /// All bits are one.
    Ones,
    /// The bits are stored.
    Data {
        /// Where, aligned to a cluster and below 2^56.
        at: HostOffset,
    },
}

impl BitmapTableEntry {
    const RESERVED_MASK: u64 = 0xff00_0000_0000_01fe;
    const ONES: u64 = 1;

    /// Reads an entry.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when a reserved bit is set, or the offset is not aligned to a cluster.
    pub fn decode(raw: u64, geometry: Geometry) -> Result<Self, Error> {
        let wrong = |holds, rule| require(holds, "bitmap table entry", "value", raw, rule);
        wrong(raw & Self::RESERVED_MASK == 0, Rule::ReservedBitsZero)?;
        let at = HostOffset::new(raw & OFFSET_MASK);
        let ones = raw & Self::ONES != 0;
        if at.is_zero() {
            return Ok(if ones { Self::Ones } else { Self::Zeros });
        }
        wrong(!ones, Rule::ReservedBitsZero)?;
        wrong(geometry.is_cluster_aligned(at), Rule::ClusterAligned)?;
        Ok(Self::Data { at })
    }

    /// The entry as it is stored.
    #[must_use]
    pub const fn encode(self) -> u64 {
        match self {
            Self::Zeros => 0,
            Self::Ones => Self::ONES,
            Self::Data { at } => at.as_u64(),
        }
    }
}
const _: () = assert!(BitmapTableEntry::RESERVED_MASK ^ OFFSET_MASK ^ BitmapTableEntry::ONES == u64::MAX);

#[cfg(test)]
mod tests {
    use super::super::L2Width;
    use super::*;

    fn geometry() -> Geometry {
        Geometry::new(16, 4, L2Width::Standard).expect("the numbers are lawful")
    }

    fn entry() -> BitmapEntry {
        BitmapEntry {
            table: HostOffset::new(0x80000),
            table_entries: 1,
            flags: BitmapFlags::AUTO,
            granularity_bits: 16,
            name: b"daily".to_vec(),
            extra: Vec::new(),
        }
    }

    #[test]
    fn flags_are_put_and_taken_each_on_its_own() {
        for (flag, is) in [
            (BitmapFlags::IN_USE, [true, false, false]),
            (BitmapFlags::AUTO, [false, true, false]),
            (BitmapFlags::EXTRA_DATA_COMPATIBLE, [false, false, true]),
        ] {
            assert_eq!([flag.is_in_use(), flag.is_auto(), flag.is_extra_data_compatible()], is);
        }
        assert_eq!(BitmapFlags::AUTO.with(BitmapFlags::AUTO), BitmapFlags::AUTO);
        let flags = BitmapFlags::IN_USE.with(BitmapFlags::AUTO);
        assert!(flags.is_in_use() && flags.is_auto() && !flags.is_extra_data_compatible());
        assert_eq!(flags.without(BitmapFlags::IN_USE), BitmapFlags::AUTO);
        assert_eq!(flags.without(BitmapFlags::EXTRA_DATA_COMPATIBLE), flags);
    }

    #[test]
    fn a_directory_entry_has_these_bytes() -> Result<(), Error> {
        let mut golden = vec![0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 1, 16, 0, 5, 0, 0, 0, 0];
        golden.extend(b"daily\0\0\0");
        assert_eq!(entry().encode(geometry())?, golden);
        assert_eq!(BitmapEntry::parse(&golden, geometry())?, (entry(), ByteCount::new(32)));
        Ok(())
    }

    #[test]
    fn a_directory_is_written_as_it_was_read() -> Result<(), Error> {
        let flags = BitmapFlags::IN_USE.with(BitmapFlags::EXTRA_DATA_COMPATIBLE);
        let extra = vec![9; 11];
        let entries = [entry(), BitmapEntry { flags, extra, name: vec![0xff; 1023], ..entry() }];
        let bytes = encode_directory(&entries, geometry())?;
        assert_eq!(parse_directory(&bytes, 2, geometry())?, entries);
        for length in 0..bytes.len() {
            let Err(Error::Malformed(wrong)) = parse_directory(&bytes[..length], 2, geometry()) else {
                panic!("{length} bytes are enough")
            };
            assert_eq!(wrong.field, "length");
            if length < 24 {
                assert_eq!((wrong.found, wrong.rule), (length as u64, Rule::AtLeast(24)));
            }
        }
        let extension = BitmapsExtension {
            count: 2,
            directory_size: ByteCount::of(bytes.len()),
            directory: HostOffset::ZERO,
        };
        assert_eq!(extension.parse_directory(&bytes, geometry())?, entries);
        let Err(Error::Malformed(wrong)) = parse_directory(&bytes, 1, geometry()) else { panic!() };
        assert_eq!((wrong.structure, wrong.rule), ("bitmap directory", Rule::Exactly(32)));
        Ok(())
    }

    #[test]
    fn every_flipped_bit_is_refused_or_written_back_as_it_was_read() -> Result<(), Error> {
        let golden = encode_directory(&[BitmapEntry { extra: vec![3; 8], ..entry() }], geometry())?;
        for bit in 0..golden.len() * 8 {
            let mut bytes = golden.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok(read) = parse_directory(&bytes, 1, geometry()) else { continue };
            let written = encode_directory(&read, geometry())?;
            assert_eq!(parse_directory(&written, 1, geometry())?, read, "bit {bit}");
        }
        Ok(())
    }

    #[test]
    fn each_field_has_its_range() -> Result<(), Error> {
        let golden = entry().encode(geometry())?;
        for (at, value, field, rule) in [
            (0, 0x80, "bitmap_table_offset", Rule::InsideFileOffsets),
            (5, 0, "bitmap_table_offset", Rule::AtLeast(65_536)),
            (7, 1, "bitmap_table_offset", Rule::ClusterAligned),
            (10, 0x20, "bitmap_table_size", Rule::Between(1, 8192)),
            (11, 0, "bitmap_table_size", Rule::Between(1, 8192)),
            (15, 8, "flags", Rule::ReservedBitsZero),
            (16, 0, "type", Rule::Exactly(1)),
            (17, 8, "granularity_bits", Rule::Between(9, 31)),
            (17, 32, "granularity_bits", Rule::Between(9, 31)),
            (19, 0, "name_size", Rule::Between(1, 1023)),
        ] {
            let mut bytes = golden.clone();
            bytes[at] = value;
            let Err(Error::Malformed(wrong)) = BitmapEntry::parse(&bytes, geometry()) else {
                panic!("{field} {rule}")
            };
            assert_eq!((wrong.field, wrong.rule), (field, rule));
        }
        let long = BitmapEntry { name: vec![b'n'; 1024], ..entry() };
        let Err(Error::Malformed(wrong)) = long.encode(geometry()) else { panic!() };
        assert_eq!((wrong.field, wrong.rule), ("name_size", Rule::Between(1, 1023)));
        Ok(())
    }

    #[test]
    fn a_table_lies_between_cluster_0_and_the_end_of_all_files() -> Result<(), Error> {
        let last = HostOffset::new((1 << 63) - 0x10000);
        for lawful in [
            BitmapEntry { table: HostOffset::new(0x10000), ..entry() },
            BitmapEntry { table: last, table_entries: 8191, ..entry() },
        ] {
            assert_eq!(BitmapEntry::parse(&lawful.encode(geometry())?, geometry())?.0, lawful);
        }
        let long = BitmapEntry { table: last, table_entries: 8192, ..entry() };
        let Err(Error::Malformed(wrong)) = long.encode(geometry()) else { panic!() };
        assert_eq!((wrong.field, wrong.rule), ("bitmap_table_offset", Rule::InsideFileOffsets));
        Ok(())
    }

    #[test]
    fn a_table_entry_has_these_bits() -> Result<(), Error> {
        for (raw, entry) in [
            (0, BitmapTableEntry::Zeros),
            (1, BitmapTableEntry::Ones),
            (0x90000, BitmapTableEntry::Data { at: HostOffset::new(0x90000) }),
        ] {
            assert_eq!(BitmapTableEntry::decode(raw, geometry())?, entry);
            assert_eq!(entry.encode(), raw);
        }
        for bit in 0..64 {
            for word in [0u64, 1, 1 << 40] {
                let raw = word ^ 1 << bit;
                let decoded = BitmapTableEntry::decode(raw, geometry());
                let lawful = raw <= 1 || raw & 1 == 0 && raw < 1 << 56 && raw.is_multiple_of(65_536);
                assert_eq!(decoded.is_ok(), lawful, "{raw:#x}: {decoded:?}");
                let Ok(entry) = decoded else { continue };
                assert_eq!(entry.encode(), raw);
            }
        }
        Ok(())
    }
}
