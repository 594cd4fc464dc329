//! The descriptor of a compressed cluster: where its bytes lie, and in how many sectors.
//!
//! ```text
//! x = 70 - cluster_bits
//! bits 61-x   the number of 512-byte sectors beyond the first
//! bits x-1..0 the host offset of the first byte, not aligned to anything
//! ```
//! The count is of sectors touched, so the compressed bytes end with the last sector or somewhere in it.
//! Several compressed clusters may share a host cluster, and one may straddle two; each of them adds one to
//! the refcount of every host cluster that it touches. (qcow2 specification, cluster mapping, compressed
//! clusters descriptor.)

use super::Geometry;
use super::error::{Error, Rule, require};
use crate::units::{ByteCount, HostCluster, HostOffset};

const SECTOR: u64 = 512;

/// Host offsets end here (QEMU enforces).
const OFFSET_END: u64 = 1 << 56;

/// Where a compressed cluster's bytes lie.
///
/// An example is at [`L2Entry`](crate::format::L2Entry).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompressedExtent {
    /// The first byte: not aligned, past cluster 0, below 2^56.
    pub at: HostOffset,
    /// From there to the end of the last sector: 1 byte to two clusters. The compressed bytes may end sooner.
    pub length: ByteCount,
}

impl CompressedExtent {
    /// The extent of `length` compressed bytes at `at`, widened to the end of their last sector.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when the offset lies in cluster 0 or is too large for the descriptor, or when the
    /// bytes are none or more than it can count.
    pub fn new(at: HostOffset, length: ByteCount, geometry: Geometry) -> Result<Self, Error> {
        check_offset(at, geometry)?;
        let skipped = at.as_u64() % SECTOR;
        let length_max = sectors_max(geometry) * SECTOR - skipped;
        require(
            (1..=length_max).contains(&length.as_u64()),
            "compressed cluster",
            "length",
            length.as_u64(),
            Rule::Between(1, length_max),
        )?;
        let sectors = (skipped + length.as_u64()).div_ceil(SECTOR);
        Ok(Self { at, length: ByteCount::new(sectors * SECTOR - skipped) })
    }

    /// Reads a descriptor: an L2 entry without bits 62 and 63.
    pub(super) fn decode(descriptor: u64, geometry: Geometry) -> Result<Self, Error> {
        let offset_bits = offset_bits(geometry);
        let at = HostOffset::new(descriptor & ((1 << offset_bits) - 1));
        check_offset(at, geometry)?;
        let sectors = (descriptor >> offset_bits) + 1;
        Ok(Self { at, length: ByteCount::new(sectors * SECTOR - at.as_u64() % SECTOR) })
    }

    /// The descriptor as it is stored, without bit 62.
    pub(super) fn encode(self, geometry: Geometry) -> u64 {
        let sectors = (self.at.as_u64() % SECTOR + self.length.as_u64()).div_ceil(SECTOR);
        debug_assert!((1..=sectors_max(geometry)).contains(&sectors), "{self:?} has too many sectors");
        let count = sectors.saturating_sub(1) & (sectors_max(geometry) - 1);
        count << offset_bits(geometry) | self.at.as_u64()
    }

    /// The host clusters that the extent touches, in order: each of them counts it once.
    #[must_use]
    pub fn host_clusters(self, geometry: Geometry) -> impl DoubleEndedIterator<Item = HostCluster> + use<> {
        let last = self.at.as_u64().saturating_add(self.length.as_u64().saturating_sub(1));
        let first = geometry.host_cluster(self.at).as_u64();
        let last = geometry.host_cluster(HostOffset::new(last)).as_u64();
        (first..=last).map(HostCluster::new)
    }
}

/// The number of bits of the descriptor that hold the offset, 49 to 61.
const fn offset_bits(geometry: Geometry) -> u32 {
    70 - geometry.cluster_bits()
}

/// The largest number of sectors that the descriptor can say: those of two clusters.
const fn sectors_max(geometry: Geometry) -> u64 {
    1 << (geometry.cluster_bits() - 8)
}

/// Checks that compressed bytes may begin at `at`: not in cluster 0, which is the header's, and below the end
/// of what the descriptor and the format can address.
fn check_offset(at: HostOffset, geometry: Geometry) -> Result<(), Error> {
    let at = at.as_u64();
    let low = geometry.cluster_size().as_u64();
    // The offset is bits of an L2 entry, and an L2 entry is what the reader looks for.
    require(at >= low, "L2 entry", "compressed offset", at, Rule::AtLeast(low))?;
    let end = OFFSET_END.min(1 << offset_bits(geometry));
    require(at < end, "L2 entry", "compressed offset", at, Rule::Below(end))
}

#[cfg(test)]
mod tests {
    use super::super::L2Width;
    use super::*;

    fn geometry(cluster_bits: u32) -> Geometry {
        Geometry::new(cluster_bits, 4, L2Width::Standard).expect("the numbers are lawful")
    }

    fn touched(at: u64, length: u64, cluster_bits: u32) -> Vec<u64> {
        let extent = CompressedExtent { at: HostOffset::new(at), length: ByteCount::new(length) };
        extent.host_clusters(geometry(cluster_bits)).map(HostCluster::as_u64).collect()
    }

    #[test]
    fn the_count_has_1_bit_in_small_clusters_and_13_in_large_ones() -> Result<(), Error> {
        for (cluster_bits, count_bits) in [(9, 1), (16, 8), (21, 13)] {
            let geometry = geometry(cluster_bits);
            assert_eq!(62 - offset_bits(geometry), count_bits);
            let all = ((1 << count_bits) - 1) << offset_bits(geometry) | 0x20_0000;
            let extent = CompressedExtent::decode(all, geometry)?;
            assert_eq!(extent.length.as_u64(), 2 << cluster_bits);
            assert_eq!(extent.encode(geometry), all);
        }
        Ok(())
    }

    #[test]
    fn every_length_is_widened_to_its_sector_and_read_back() -> Result<(), Error> {
        for cluster_bits in [9, 12, 16, 21] {
            let geometry = geometry(cluster_bits);
            let longest = 2u64 << cluster_bits;
            for begin in [0, 1, 255, 511] {
                let at = HostOffset::new(0x40_0000 + begin);
                for length in [1, 2, 510, 511, 512, 513, longest / 2, longest - 512, longest - begin] {
                    let extent = CompressedExtent::new(at, ByteCount::new(length.max(1)), geometry)?;
                    assert!(extent.length.as_u64() >= length && extent.length.as_u64() < length + 512);
                    assert_eq!((at + extent.length).as_u64() % 512, 0);
                    assert_eq!(CompressedExtent::decode(extent.encode(geometry), geometry)?, extent);
                }
                for length in [0, longest - begin + 1] {
                    let made = CompressedExtent::new(at, ByteCount::new(length), geometry);
                    let Err(Error::Malformed(wrong)) = made else { panic!("{made:?}") };
                    assert_eq!((wrong.found, wrong.rule), (length, Rule::Between(1, longest - begin)));
                }
            }
        }
        Ok(())
    }

    #[test]
    fn an_offset_outside_what_can_be_addressed_is_refused() {
        for (cluster_bits, end) in [(9, 1u64 << 56), (14, 1 << 56), (15, 1 << 55), (21, 1 << 49)] {
            let geometry = geometry(cluster_bits);
            let low = 1 << cluster_bits;
            for (at, rule) in
                [(0, Rule::AtLeast(low)), (low - 1, Rule::AtLeast(low)), (end, Rule::Below(end))]
            {
                let made = CompressedExtent::new(HostOffset::new(at), ByteCount::new(1), geometry);
                let Err(Error::Malformed(wrong)) = made else { panic!("{made:?}") };
                assert_eq!(wrong.rule, rule);
            }
            assert!(CompressedExtent::new(HostOffset::new(end - 1), ByteCount::new(1), geometry).is_ok());
        }
    }

    #[test]
    fn an_extent_touches_each_cluster_from_its_first_to_its_last_byte() {
        assert_eq!(touched(0x10000, 512, 16), [1]);
        assert_eq!(touched(0x1fe00, 512, 16), [1]);
        assert_eq!(touched(0x1fe01, 511, 16), [1]);
        assert_eq!(touched(0x1fe00, 513, 16), [1, 2]);
        assert_eq!(touched(0x1ffff, 0x20000, 16), [1, 2, 3]);
    }
}
