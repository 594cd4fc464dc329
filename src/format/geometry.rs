//! The sizes of an image's parts, and the only place that turns an offset into a cluster or an index.
//!
//! All follow from three numbers of the header: the cluster's size, the width of a refcount and the width
//! of an L2 entry. Everything is a power of two, so every division here is a shift.

use super::error::{Error, Rule, require};
use crate::units::{ByteCount, ClusterCount, GuestCluster, GuestOffset, HostCluster, HostOffset};

/// The largest number of entries in an L1 table: 32 MiB of them (QEMU enforces).
///
/// An example is at [`Geometry`].
pub const L1_ENTRIES_MAX: u64 = 4_194_304;

/// Subclusters in a cluster of an image with extended L2 entries (qcow2 specification, extended L2 entries).
const SUBCLUSTERS: u64 = 32;

/// How wide the entries of an L2 table are.
///
/// An example is at [`Geometry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L2Width {
    /// 8 bytes: a descriptor.
    Standard,
    /// 16 bytes: a descriptor, and two bits for each of 32 subclusters.
    Extended,
}

/// The sizes of an image's parts. Valid by construction.
#[doc = include_str!("examples/geometry.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    cluster_bits: u32,
    refcount_order: u32,
    l2: L2Width,
}

impl Geometry {
    /// Checks the three numbers that determine all others.
    ///
    /// `cluster_bits` is 9 to 21, from 512 bytes to 2 MiB, and no less than 14 with extended L2 entries, so
    /// that a subcluster has 512 bytes (QEMU enforces). `refcount_order` is 0 to 6: refcounts of
    /// `1 << refcount_order` bits (qcow2 specification, header, bytes 96-99).
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] names the number that is out of its range.
    pub fn new(cluster_bits: u32, refcount_order: u32, l2: L2Width) -> Result<Self, Error> {
        let cluster_bits_min = match l2 {
            L2Width::Standard => 9,
            L2Width::Extended => 14,
        };
        require(
            (cluster_bits_min..=21).contains(&cluster_bits),
            "header",
            "cluster_bits",
            u64::from(cluster_bits),
            Rule::Between(u64::from(cluster_bits_min), 21),
        )?;
        require(refcount_order <= 6, "header", "refcount_order", u64::from(refcount_order), Rule::AtMost(6))?;
        Ok(Self { cluster_bits, refcount_order, l2 })
    }

    /// The binary logarithm of the cluster's size in bytes, 9 to 21.
    #[must_use]
    pub const fn cluster_bits(self) -> u32 {
        self.cluster_bits
    }

    /// The size of a cluster, 512 bytes to 2 MiB.
    #[must_use]
    pub const fn cluster_size(self) -> ByteCount {
        ByteCount::new(1 << self.cluster_bits)
    }

    /// The binary logarithm of a refcount's width in bits, 0 to 6.
    #[must_use]
    pub const fn refcount_order(self) -> u32 {
        self.refcount_order
    }

    /// The width of a refcount in bits, 1 to 64.
    #[must_use]
    pub const fn refcount_bits(self) -> u32 {
        1 << self.refcount_order
    }

    /// The largest refcount.
    #[must_use]
    pub const fn refcount_max(self) -> u64 {
        u64::MAX >> (64 - self.refcount_bits())
    }

    /// The width of the L2 entries.
    #[must_use]
    pub const fn l2_width(self) -> L2Width {
        self.l2
    }

    /// The binary logarithm of the size of an L2 entry in bytes.
    const fn l2_entry_bits(self) -> u32 {
        match self.l2 {
            L2Width::Standard => 3,
            L2Width::Extended => 4,
        }
    }

    /// The binary logarithm of the number of entries in an L2 table.
    const fn l2_bits(self) -> u32 {
        self.cluster_bits - self.l2_entry_bits()
    }

    /// The size of an L2 entry in bytes, 8 or 16.
    #[must_use]
    pub const fn l2_entry_size(self) -> usize {
        1 << self.l2_entry_bits()
    }

    /// The number of entries in an L2 table, which fills one cluster.
    #[must_use]
    pub const fn l2_entries(self) -> u64 {
        1 << self.l2_bits()
    }

    /// The guest's bytes under one L2 table, which are those under one L1 entry.
    #[must_use]
    pub const fn l2_coverage(self) -> ByteCount {
        ByteCount::new(1 << (self.cluster_bits + self.l2_bits()))
    }

    /// The cluster in which `offset` lies.
    #[must_use]
    pub const fn guest_cluster(self, offset: GuestOffset) -> GuestCluster {
        GuestCluster::new(offset.as_u64() >> self.cluster_bits)
    }

    /// The offset of the first byte of `cluster`; the last offset of all when it lies past 64 bits.
    #[must_use]
    pub const fn guest_offset(self, cluster: GuestCluster) -> GuestOffset {
        GuestOffset::new(cluster.as_u64().saturating_mul(1 << self.cluster_bits))
    }

    /// The cluster in which `offset` lies.
    #[must_use]
    pub const fn host_cluster(self, offset: HostOffset) -> HostCluster {
        HostCluster::new(offset.as_u64() >> self.cluster_bits)
    }

    /// The offset of the first byte of `cluster`; the last offset of all when it lies past 64 bits.
    #[must_use]
    pub const fn host_offset(self, cluster: HostCluster) -> HostOffset {
        HostOffset::new(cluster.as_u64().saturating_mul(1 << self.cluster_bits))
    }

    /// How far `offset` lies behind the begin of its cluster.
    #[must_use]
    pub const fn offset_in_cluster(self, offset: GuestOffset) -> ByteCount {
        ByteCount::new(offset.as_u64() & self.cluster_mask())
    }

    /// How far `offset` lies behind the begin of its cluster.
    #[must_use]
    pub const fn host_offset_in_cluster(self, offset: HostOffset) -> ByteCount {
        ByteCount::new(offset.as_u64() & self.cluster_mask())
    }

    /// Whether a cluster begins at `offset`.
    #[must_use]
    pub const fn is_cluster_aligned(self, offset: HostOffset) -> bool {
        self.host_offset_in_cluster(offset).is_zero()
    }

    const fn cluster_mask(self) -> u64 {
        (1 << self.cluster_bits) - 1
    }

    /// The index in the L1 table of the entry over `cluster`.
    #[must_use]
    pub fn l1_index(self, cluster: GuestCluster) -> usize {
        index(cluster.as_u64() >> self.l2_bits())
    }

    /// The index in its L2 table of the entry of `cluster`.
    #[must_use]
    pub fn l2_index(self, cluster: GuestCluster) -> usize {
        index(cluster.as_u64() & (self.l2_entries() - 1))
    }

    /// The number of clusters that hold `bytes`, the last one perhaps in part.
    #[must_use]
    pub const fn clusters_for(self, bytes: ByteCount) -> ClusterCount {
        ClusterCount::new(bytes.as_u64().div_ceil(1 << self.cluster_bits))
    }

    /// The size of `clusters`; the largest size of all when it needs more than 64 bits.
    #[must_use]
    pub const fn bytes_for(self, clusters: ClusterCount) -> ByteCount {
        ByteCount::new(clusters.as_u64().saturating_mul(1 << self.cluster_bits))
    }

    /// The number of L1 entries that a disk of `size` needs.
    #[must_use]
    pub const fn l1_entries_for(self, size: ByteCount) -> u64 {
        size.as_u64().div_ceil(self.l2_coverage().as_u64())
    }

    /// Checks that the L1 table of a disk of `size` has no more than [`L1_ENTRIES_MAX`] entries.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] with the largest size in bytes that this geometry allows.
    pub fn check_size(self, size: ByteCount) -> Result<(), Error> {
        let size_max = self.size_max().as_u64();
        require(size.as_u64() <= size_max, "header", "size", size.as_u64(), Rule::AtMost(size_max))
    }

    /// The largest disk: one whose L1 table has [`L1_ENTRIES_MAX`] entries.
    #[must_use]
    pub const fn size_max(self) -> ByteCount {
        ByteCount::new(L1_ENTRIES_MAX * self.l2_coverage().as_u64())
    }

    /// The number of refcounts in a refcount block, which fills one cluster.
    #[must_use]
    pub const fn refcount_block_entries(self) -> u64 {
        1 << self.refcount_block_bits()
    }

    const fn refcount_block_bits(self) -> u32 {
        self.cluster_bits + 3 - self.refcount_order
    }

    /// The index in the refcount table of the block that counts `cluster`.
    #[must_use]
    pub fn refcount_table_index(self, cluster: HostCluster) -> usize {
        index(cluster.as_u64() >> self.refcount_block_bits())
    }

    /// The index in its refcount block of the refcount of `cluster`.
    #[must_use]
    pub fn refcount_block_index(self, cluster: HostCluster) -> usize {
        index(cluster.as_u64() & (self.refcount_block_entries() - 1))
    }

    /// The unit of allocation: a 32nd of a cluster with extended L2 entries, a cluster without.
    #[must_use]
    pub const fn subcluster_size(self) -> ByteCount {
        ByteCount::new(1 << self.subcluster_bits())
    }

    const fn subcluster_bits(self) -> u32 {
        match self.l2 {
            L2Width::Standard => self.cluster_bits,
            L2Width::Extended => self.cluster_bits - SUBCLUSTERS.trailing_zeros(),
        }
    }

    /// One bit for each subcluster of a cluster: 32 of them with extended L2 entries, one without.
    #[must_use]
    pub const fn subclusters_all(self) -> u32 {
        match self.l2 {
            L2Width::Standard => 1,
            L2Width::Extended => u32::MAX,
        }
    }

    /// How far `offset` lies behind the begin of its subcluster.
    #[must_use]
    pub const fn offset_in_subcluster(self, offset: GuestOffset) -> ByteCount {
        ByteCount::new(offset.as_u64() & ((1 << self.subcluster_bits()) - 1))
    }

    /// The index in its cluster of the subcluster in which `offset` lies, below 32.
    #[must_use]
    pub fn subcluster_index(self, offset: GuestOffset) -> u32 {
        let index = self.offset_in_cluster(offset).as_u64() >> self.subcluster_bits();
        u32::try_from(index).expect("a cluster has 32 subclusters at most")
    }

    /// One bit for each subcluster in which some of the `length` bytes from `offset` on lie, as far as its cluster
    /// goes.
    #[must_use]
    pub fn subclusters_touched(self, offset: GuestOffset, length: ByteCount) -> u32 {
        let first = self.offset_in_cluster(offset).as_u64();
        let end = first.saturating_add(length.as_u64()).min(1 << self.cluster_bits);
        if first == end {
            return 0;
        }
        let below = |count: u64| if count >= 32 { u32::MAX } else { (1 << count) - 1 };
        let bits = self.subcluster_bits();
        below(end.div_ceil(1 << bits)) & !below(first >> bits)
    }
}

/// An index into a table in memory. One too large for memory is one past the end of every table.
fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::Malformed;
    use super::*;

    /// Every lawful geometry: 13 x 7 with standard entries, 8 x 7 with extended ones.
    fn all() -> Vec<Geometry> {
        let mut found = Vec::new();
        for cluster_bits in 0..64 {
            for refcount_order in 0..16 {
                for l2 in [L2Width::Standard, L2Width::Extended] {
                    found.extend(Geometry::new(cluster_bits, refcount_order, l2).ok());
                }
            }
        }
        found
    }

    #[test]
    fn there_are_as_many_geometries_as_lawful_numbers() {
        let (standard, extended): (Vec<_>, Vec<_>) =
            all().into_iter().partition(|geometry| geometry.l2_width() == L2Width::Standard);
        assert_eq!(standard.len(), 13 * 7);
        assert_eq!(extended.len(), 8 * 7);
    }

    #[test]
    fn a_number_out_of_its_range_is_named() {
        for (cluster_bits, l2, low) in
            [(8, L2Width::Standard, 9), (22, L2Width::Standard, 9), (13, L2Width::Extended, 14)]
        {
            let Err(Error::Malformed(wrong)) = Geometry::new(cluster_bits, 4, l2) else { panic!() };
            let expected = Malformed {
                structure: "header",
                field: "cluster_bits",
                found: u64::from(cluster_bits),
                rule: Rule::Between(low, 21),
            };
            assert_eq!(wrong, expected);
        }
        let Err(Error::Malformed(wrong)) = Geometry::new(u32::MAX, 4, L2Width::Standard) else { panic!() };
        assert_eq!(wrong.found, u64::from(u32::MAX));
        let Err(Error::Malformed(wrong)) = Geometry::new(16, 7, L2Width::Standard) else { panic!() };
        assert_eq!((wrong.field, wrong.rule), ("refcount_order", Rule::AtMost(6)));
    }

    #[test]
    fn every_size_is_what_plain_division_says() {
        for geometry in all() {
            let cluster_size = 1u64 << geometry.cluster_bits();
            let entry_size = geometry.l2_entry_size() as u64;
            assert_eq!(geometry.cluster_size().as_u64(), cluster_size);
            assert_eq!(geometry.l2_entries(), cluster_size / entry_size);
            assert_eq!(geometry.l2_coverage().as_u64(), cluster_size * (cluster_size / entry_size));
            assert_eq!(geometry.refcount_bits(), 2u32.pow(geometry.refcount_order()));
            assert_eq!(
                geometry.refcount_block_entries(),
                cluster_size * 8 / u64::from(geometry.refcount_bits())
            );
            let one_more = u128::from(geometry.refcount_max()) + 1;
            assert_eq!(one_more, 1u128 << geometry.refcount_bits());
            let subclusters = cluster_size / geometry.subcluster_size().as_u64();
            assert_eq!(subclusters, if geometry.l2_width() == L2Width::Extended { 32 } else { 1 });
            assert!(geometry.subcluster_size().as_u64() >= 512);
        }
    }

    #[test]
    fn the_subclusters_touched_are_those_with_a_byte_of_the_range() {
        for geometry in all() {
            let size = geometry.subcluster_size().as_u64();
            let count = geometry.cluster_size().as_u64() / size;
            assert_eq!(geometry.subclusters_all().count_ones() as u64, count);
            let begin = geometry.cluster_size().as_u64() * 7;
            for first in [0, 1, size - 1, size % (size * count), size * (count - 1), size * count - 1] {
                for length in [0, 1, size - 1, size, size + 1, size * count, size * count * 2] {
                    let touched =
                        geometry.subclusters_touched(GuestOffset::new(begin + first), ByteCount::new(length));
                    for index in 0..32 {
                        let holds =
                            index < count && index * size < first + length && first < (index + 1) * size;
                        assert_eq!(
                            touched >> index & 1 == 1,
                            holds && length > 0,
                            "{first} {length} {index}"
                        );
                    }
                }
                let offset = GuestOffset::new(begin + first);
                assert_eq!(u64::from(geometry.subcluster_index(offset)), first / size);
                assert_eq!(geometry.offset_in_subcluster(offset).as_u64(), first % size);
            }
        }
    }

    #[test]
    fn every_offset_is_found_again_from_its_indices() {
        let edges =
            [0, 1, 511, 512, 65_535, 65_536, 0x1234_5678, (1 << 40) + 12_345, (1 << 56) - 1, u64::MAX];
        for geometry in all() {
            let cluster_size = geometry.cluster_size().as_u64();
            for offset in edges {
                let guest = GuestOffset::new(offset);
                let cluster = geometry.guest_cluster(guest);
                let inside = geometry.offset_in_cluster(guest);
                assert_eq!(geometry.guest_offset(cluster) + inside, guest);
                assert_eq!(cluster.as_u64(), offset / cluster_size);
                assert_eq!(geometry.l1_index(cluster) as u64, offset / geometry.l2_coverage().as_u64());
                assert_eq!(geometry.l2_index(cluster) as u64, offset / cluster_size % geometry.l2_entries());

                let host = HostOffset::new(offset);
                let cluster = geometry.host_cluster(host);
                let inside = geometry.host_offset_in_cluster(host);
                assert_eq!(geometry.host_offset(cluster) + inside, host);
                assert_eq!(geometry.is_cluster_aligned(host), offset.is_multiple_of(cluster_size));
                let entries = geometry.refcount_block_entries();
                let table = geometry.refcount_table_index(cluster) as u64;
                let block = geometry.refcount_block_index(cluster) as u64;
                assert_eq!(table * entries + block, cluster.as_u64());
                assert!(block < entries);
            }
        }
    }

    #[test]
    fn counts_round_up_and_sizes_never_wrap() {
        for geometry in all() {
            let size = geometry.cluster_size().as_u64();
            for (bytes, clusters) in [(0, 0), (1, 1), (size - 1, 1), (size, 1), (size + 1, 2)] {
                assert_eq!(geometry.clusters_for(ByteCount::new(bytes)).as_u64(), clusters);
            }
            assert_eq!(geometry.bytes_for(ClusterCount::new(3)).as_u64(), 3 * size);
            assert_eq!(geometry.bytes_for(ClusterCount::new(u64::MAX)).as_u64(), u64::MAX);
            assert_eq!(geometry.host_offset(HostCluster::new(u64::MAX)).as_u64(), u64::MAX);
            assert_eq!(geometry.guest_offset(GuestCluster::new(u64::MAX)).as_u64(), u64::MAX);
        }
    }

    #[test]
    fn a_disk_is_too_large_one_byte_past_32_mib_of_l1() -> Result<(), Error> {
        for geometry in all() {
            let coverage = geometry.l2_coverage().as_u64();
            let largest = ByteCount::new(coverage * L1_ENTRIES_MAX);
            geometry.check_size(largest)?;
            assert_eq!(geometry.l1_entries_for(largest), L1_ENTRIES_MAX);
            assert_eq!(geometry.l1_entries_for(ByteCount::ZERO), 0);
            assert_eq!(geometry.l1_entries_for(ByteCount::new(1)), 1);
            assert_eq!(geometry.l1_entries_for(ByteCount::new(coverage + 1)), 2);
            for size in [largest.as_u64() + 1, u64::MAX] {
                let Err(Error::Malformed(wrong)) = geometry.check_size(ByteCount::new(size)) else {
                    panic!("{size} fits {geometry:?}")
                };
                assert_eq!(wrong.rule, Rule::AtMost(largest.as_u64()));
            }
        }
        Ok(())
    }
}
