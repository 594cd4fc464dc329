//! An entry of an L2 table: where a cluster of the disk lies, if anywhere.
//!
//! ```text
//! standard (bit 62 clear)                      compressed (bit 62 set): see `compressed`
//! bit 63      COPIED: refcount is exactly one  never COPIED
//! bits 61-56  reserved
//! bits 55-9   host offset
//! bits 8-1    reserved
//! bit 0       reads as zeros (version 3, standard entries)
//!
//! extended entries have a second word: bits 0-31 subcluster i is allocated, bits 32-63 it reads as zeros
//! ```
//! (qcow2 specification, cluster mapping, L2 table entry and extended L2 entries.)

use super::error::{Error, Rule, require};
use super::{CompressedExtent, Geometry, L2Width, Subclusters, Version};
use crate::units::HostOffset;

/// Bit 63 of an L1 or L2 entry.
pub(super) const COPIED: u64 = 1 << 63;
/// Bits 9 to 55 of an L1 or standard L2 entry.
pub(super) const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;
const RESERVED_MASK: u64 = 0x3f00_0000_0000_01fe;
const _: () = assert!(RESERVED_MASK ^ OFFSET_MASK ^ COPIED ^ COMPRESSED ^ ZERO == u64::MAX);

/// Whether what an entry points to has a refcount of exactly one, and so may be written in place.
///
/// It is a hint for the active tables only; in the tables of an internal snapshot it means nothing.
///
/// An example is at [`L2Entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// The refcount is one.
    Yes,
    /// The refcount is another, or nobody says.
    No,
}

impl Copied {
    /// What bit 63 of an entry says.
    pub(super) const fn from_entry(raw: u64) -> Self {
        if raw & COPIED == 0 { Self::No } else { Self::Yes }
    }

    /// The flag as bit 63.
    pub(super) const fn bit(self) -> u64 {
        match self {
            Self::Yes => COPIED,
            Self::No => 0,
        }
    }
}

/// What an L2 entry says about its cluster of the disk.
#[doc = include_str!("examples/entries.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L2Entry {
    /// The image says nothing: the backing file decides, or zeros.
    Absent,
    /// The cluster reads as zeros.
    Zero {
        /// The host cluster kept for a later write, aligned and below 2^56.
        allocation: Option<HostOffset>,
        /// Whether the allocation may be written in place. `No` without one.
        copied: Copied,
    },
    /// The cluster is stored as it is.
    Data {
        /// Where, aligned to a cluster and below 2^56; zero in an external data file alone.
        at: HostOffset,
        /// Whether it may be written in place.
        copied: Copied,
    },
    /// The cluster is stored compressed.
    Compressed(CompressedExtent),
    /// Each subcluster is on its own: extended L2 entries only.
    Subclusters(Subclusters),
}

impl L2Entry {
    /// Reads an entry: its descriptor, and for extended entries the `bitmap` behind it, else zero.
    ///
    /// An extended entry that is not compressed is [`L2Entry::Subclusters`], or [`L2Entry::Absent`] when both
    /// words are zero.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] names the broken rule: a reserved bit, an offset that is not aligned, the zero
    /// flag in version 2, COPIED without an allocation or on a compressed cluster, a compressed cluster in
    /// cluster 0 or past 2^56, or subclusters both allocated and zero, or allocated without a host cluster.
    #[inline]
    pub fn decode(raw: u64, bitmap: u64, geometry: Geometry, version: Version) -> Result<Self, Error> {
        if raw & COMPRESSED != 0 {
            return Self::decode_compressed(raw, bitmap, geometry);
        }
        let offset = HostOffset::new(raw & OFFSET_MASK);
        Self::decode_plain(raw, bitmap, (!offset.is_zero()).then_some(offset), geometry, version)
    }

    /// Reads an entry of an image whose data is in an external file: the offset is one in that file, which begins with
    /// data, so that COPIED tells offset 0 from nothing (qcow2 specification, standard cluster descriptor).
    ///
    /// # Errors
    ///
    /// As [`L2Entry::decode`]; there are no compressed clusters in such an image.
    pub fn decode_external(
        raw: u64,
        bitmap: u64,
        geometry: Geometry,
        version: Version,
    ) -> Result<Self, Error> {
        let compressed = raw & COMPRESSED != 0;
        require(!compressed, "L2 entry", "descriptor", raw, Rule::Excludes("an external data file"))?;
        let offset = HostOffset::new(raw & OFFSET_MASK);
        let is_there = !offset.is_zero() || Copied::from_entry(raw) == Copied::Yes;
        Self::decode_plain(raw, bitmap, is_there.then_some(offset), geometry, version)
    }

    #[inline]
    fn decode_plain(
        raw: u64,
        bitmap: u64,
        at: Option<HostOffset>,
        geometry: Geometry,
        version: Version,
    ) -> Result<Self, Error> {
        require(raw & RESERVED_MASK == 0, "L2 entry", "descriptor", raw, Rule::ReservedBitsZero)?;
        let copied = Copied::from_entry(raw);
        match at {
            Some(at) => {
                let aligned = geometry.is_cluster_aligned(at);
                require(aligned, "L2 entry", "descriptor", raw, Rule::ClusterAligned)?;
            }
            None => {
                let plain = copied == Copied::No;
                require(plain, "L2 entry", "descriptor", raw, Rule::Needs("a host offset"))?;
            }
        }
        match geometry.l2_width() {
            L2Width::Standard => {
                require(bitmap == 0, "L2 entry", "bitmap", bitmap, Rule::ReservedBitsZero)?;
                Self::standard(raw, at, copied, version)
            }
            L2Width::Extended => {
                require(raw & ZERO == 0, "L2 entry", "descriptor", raw, Rule::ReservedBitsZero)?;
                Self::extended(bitmap, at, copied)
            }
        }
    }

    fn decode_compressed(raw: u64, bitmap: u64, geometry: Geometry) -> Result<Self, Error> {
        require(
            raw & COPIED == 0,
            "L2 entry",
            "descriptor",
            raw,
            Rule::Excludes("COPIED on a compressed cluster"),
        )?;
        require(bitmap == 0, "L2 entry", "bitmap", bitmap, Rule::Excludes("a compressed cluster"))?;
        CompressedExtent::decode(raw & !COMPRESSED, geometry).map(Self::Compressed)
    }

    fn standard(raw: u64, at: Option<HostOffset>, copied: Copied, version: Version) -> Result<Self, Error> {
        if raw & ZERO != 0 {
            let lawful = version == Version::V3;
            require(lawful, "L2 entry", "zero flag", raw, Rule::Needs("version 3"))?;
            return Ok(Self::Zero { allocation: at, copied });
        }
        Ok(match at {
            Some(at) => Self::Data { at, copied },
            None => Self::Absent,
        })
    }

    fn extended(bitmap: u64, at: Option<HostOffset>, copied: Copied) -> Result<Self, Error> {
        let [allocated, zero] = [low(bitmap), low(bitmap >> 32)];
        require(
            allocated & zero == 0,
            "L2 entry",
            "bitmap",
            bitmap,
            Rule::Excludes("a subcluster both allocated and zero"),
        )?;
        require(allocated == 0 || at.is_some(), "L2 entry", "bitmap", bitmap, Rule::Needs("a host offset"))?;
        if at.is_none() && bitmap == 0 {
            return Ok(Self::Absent);
        }
        Ok(Self::Subclusters(Subclusters { at, copied, allocated, zero }))
    }

    /// The entry as it is stored: its descriptor, and the bitmap behind it, zero for standard entries.
    ///
    /// With extended entries, `Data` and `Zero` are written as 32 subclusters that are all allocated or all
    /// zero, and read back as [`L2Entry::Subclusters`]. COPIED is not written without a host cluster.
    #[must_use]
    pub fn encode(self, geometry: Geometry) -> (u64, u64) {
        let pointer = |at: Option<HostOffset>, copied: Copied| match at {
            Some(at) => at.as_u64() | copied.bit(),
            None => 0,
        };
        match (self, geometry.l2_width()) {
            (Self::Absent, _) => (0, 0),
            (Self::Compressed(extent), _) => (COMPRESSED | extent.encode(geometry), 0),
            (Self::Data { at, copied }, L2Width::Standard) => (pointer(Some(at), copied), 0),
            (Self::Data { at, copied }, L2Width::Extended) => {
                (pointer(Some(at), copied), u64::from(u32::MAX))
            }
            (Self::Zero { allocation, copied }, L2Width::Standard) => (pointer(allocation, copied) | ZERO, 0),
            (Self::Zero { allocation, copied }, L2Width::Extended) => {
                (pointer(allocation, copied), u64::from(u32::MAX) << 32)
            }
            (Self::Subclusters(Subclusters { at, copied, allocated, zero }), width) => {
                debug_assert!(width == L2Width::Extended, "subclusters need extended L2 entries");
                (pointer(at, copied), u64::from(zero) << 32 | u64::from(allocated))
            }
        }
    }
}

/// The low 32 bits.
#[expect(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
const fn low(value: u64) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::ByteCount;

    fn geometry(cluster_bits: u32, l2: L2Width) -> Geometry {
        Geometry::new(cluster_bits, 4, l2).expect("the numbers are lawful")
    }

    fn rule(raw: u64, bitmap: u64, l2: L2Width, version: Version) -> Rule {
        let decoded = L2Entry::decode(raw, bitmap, geometry(16, l2), version);
        let Err(Error::Malformed(wrong)) = decoded else { panic!("{raw:#x} {bitmap:#x} is {decoded:?}") };
        assert_eq!(wrong.structure, "L2 entry");
        wrong.rule
    }

    #[test]
    fn a_standard_entry_has_these_bits() -> Result<(), Error> {
        let geometry = geometry(16, L2Width::Standard);
        let at = HostOffset::new(0x50000);
        let extent = CompressedExtent { at: HostOffset::new(0x50123), length: ByteCount::new(0x2dd) };
        for (raw, entry) in [
            (0, L2Entry::Absent),
            (1, L2Entry::Zero { allocation: None, copied: Copied::No }),
            (0x0000_0000_0005_0001, L2Entry::Zero { allocation: Some(at), copied: Copied::No }),
            (0x8000_0000_0005_0001, L2Entry::Zero { allocation: Some(at), copied: Copied::Yes }),
            (0x0000_0000_0005_0000, L2Entry::Data { at, copied: Copied::No }),
            (0x8000_0000_0005_0000, L2Entry::Data { at, copied: Copied::Yes }),
            (0x4040_0000_0005_0123, L2Entry::Compressed(extent)),
        ] {
            assert_eq!(L2Entry::decode(raw, 0, geometry, Version::V3)?, entry, "{raw:#x}");
            assert_eq!(entry.encode(geometry), (raw, 0), "{entry:?}");
        }
        Ok(())
    }

    #[test]
    fn an_extended_entry_has_these_bits() -> Result<(), Error> {
        let geometry = geometry(16, L2Width::Extended);
        let at = Some(HostOffset::new(0x50000));
        for (raw, bitmap, at, copied, allocated, zero) in [
            (0x8000_0000_0005_0000, 0x0000_0000_0000_0003, at, Copied::Yes, 3, 0),
            (0x8000_0000_0005_0000, 0x8000_0000_0000_0001, at, Copied::Yes, 1, 0x8000_0000),
            (0x0000_0000_0005_0000, 0, at, Copied::No, 0, 0),
            (0, 0xffff_ffff_0000_0000, None, Copied::No, 0, u32::MAX),
        ] {
            let entry = L2Entry::Subclusters(Subclusters { at, copied, allocated, zero });
            assert_eq!(L2Entry::decode(raw, bitmap, geometry, Version::V3)?, entry);
            assert_eq!(entry.encode(geometry), (raw, bitmap));
        }
        assert_eq!(L2Entry::decode(0, 0, geometry, Version::V3)?, L2Entry::Absent);
        Ok(())
    }

    #[test]
    fn an_external_data_file_begins_with_data_and_holds_nothing_compressed() -> Result<(), Error> {
        let geometry = geometry(16, L2Width::Standard);
        let [first, at] = [HostOffset::ZERO, HostOffset::new(0x50000)];
        for (raw, entry) in [
            (0, L2Entry::Absent),
            (1, L2Entry::Zero { allocation: None, copied: Copied::No }),
            (COPIED, L2Entry::Data { at: first, copied: Copied::Yes }),
            (COPIED | 1, L2Entry::Zero { allocation: Some(first), copied: Copied::Yes }),
            (0x50000, L2Entry::Data { at, copied: Copied::No }),
            (COPIED | 0x50000, L2Entry::Data { at, copied: Copied::Yes }),
        ] {
            assert_eq!(L2Entry::decode_external(raw, 0, geometry, Version::V3)?, entry, "{raw:#x}");
        }
        let compressed = L2Entry::decode_external(COMPRESSED | 0x50000, 0, geometry, Version::V3);
        let Err(Error::Malformed(wrong)) = compressed else { panic!("{compressed:?}") };
        assert_eq!(wrong.rule, Rule::Excludes("an external data file"));
        Ok(())
    }

    #[test]
    fn whole_clusters_are_written_as_32_subclusters() -> Result<(), Error> {
        let geometry = geometry(16, L2Width::Extended);
        let at = HostOffset::new(0x50000);
        let copied = Copied::Yes;
        let (raw, bitmap) = L2Entry::Data { at, copied }.encode(geometry);
        let expected = Subclusters { at: Some(at), copied, allocated: u32::MAX, zero: 0 };
        assert_eq!(L2Entry::decode(raw, bitmap, geometry, Version::V3)?, L2Entry::Subclusters(expected));
        let (raw, bitmap) = L2Entry::Zero { allocation: None, copied: Copied::No }.encode(geometry);
        let expected = Subclusters { at: None, copied: Copied::No, allocated: 0, zero: u32::MAX };
        assert_eq!(L2Entry::decode(raw, bitmap, geometry, Version::V3)?, L2Entry::Subclusters(expected));
        Ok(())
    }

    #[test]
    fn each_broken_rule_is_told_apart() {
        use L2Width::{Extended, Standard};
        let v3 = Version::V3;
        assert_eq!(rule(0x1, 0, Standard, Version::V2), Rule::Needs("version 3"));
        assert_eq!(rule(0x2, 0, Standard, v3), Rule::ReservedBitsZero);
        assert_eq!(rule(1 << 56, 0, Standard, v3), Rule::ReservedBitsZero);
        assert_eq!(rule(0x200, 0, Standard, v3), Rule::ClusterAligned);
        assert_eq!(rule(COPIED, 0, Standard, v3), Rule::Needs("a host offset"));
        assert_eq!(rule(COPIED | 1, 0, Standard, v3), Rule::Needs("a host offset"));
        assert_eq!(rule(0x50000, 1, Standard, v3), Rule::ReservedBitsZero);
        assert_eq!(rule(0x50001, 0, Extended, v3), Rule::ReservedBitsZero);
        assert_eq!(rule(0, 1, Extended, v3), Rule::Needs("a host offset"));
        let both = Rule::Excludes("a subcluster both allocated and zero");
        assert_eq!(rule(0x50000, 1 << 32 | 1, Extended, v3), both);
        let flag = Rule::Excludes("COPIED on a compressed cluster");
        assert_eq!(rule(COPIED | COMPRESSED | 0x50000, 0, Standard, v3), flag);
        assert_eq!(rule(COMPRESSED | 0x50000, 1, Extended, v3), Rule::Excludes("a compressed cluster"));
        assert_eq!(rule(COMPRESSED | 0xffff, 0, Standard, v3), Rule::AtLeast(0x10000));
    }

    /// Words near a lawful entry: each with no, one and two bits flipped.
    fn neighbours(word: u64) -> impl Iterator<Item = u64> {
        let flips = (0..64).flat_map(|first| (first..64).map(move |second| 1u64 << first | 1 << second));
        std::iter::once(word).chain(flips.map(move |flip| word ^ flip))
    }

    #[test]
    fn every_flipped_bit_is_refused_or_written_back_as_it_was_read() {
        let words =
            [0, 1, 0x20_0000, COPIED | 0x20_0000, COMPRESSED | 0x20_0000, COMPRESSED | 1 << 61 | 0x7fff_ffff];
        for cluster_bits in 9..=21 {
            for (l2, bitmaps) in
                [(L2Width::Standard, &[0][..]), (L2Width::Extended, &[0, 1, 1 << 32, 0xffff_0000_0000_ffff])]
            {
                let Ok(geometry) = Geometry::new(cluster_bits, 4, l2) else { continue };
                for version in [Version::V2, Version::V3] {
                    for word in words.into_iter().flat_map(neighbours) {
                        for &bitmap in bitmaps {
                            let Ok(entry) = L2Entry::decode(word, bitmap, geometry, version) else {
                                continue;
                            };
                            assert_eq!(entry.encode(geometry), (word, bitmap), "{entry:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_flipped_bit_of_a_bitmap_is_refused_or_written_back_as_it_was_read() {
        let geometry = geometry(16, L2Width::Extended);
        for word in [0, 0x50000, COPIED | 0x50000] {
            for bitmap in [0, 0x0000_ffff_ffff_0000].into_iter().flat_map(neighbours) {
                let decoded = L2Entry::decode(word, bitmap, geometry, Version::V3);
                let lawful = low(bitmap) & low(bitmap >> 32) == 0 && (word != 0 || low(bitmap) == 0);
                assert_eq!(decoded.is_ok(), lawful, "{word:#x} {bitmap:#x}: {decoded:?}");
                let Ok(entry) = decoded else { continue };
                assert_eq!(entry.encode(geometry), (word, bitmap));
            }
        }
    }
}
