//! The counters of host clusters: a table of blocks, each one cluster of counters of 1 to 64 bits.
//!
//! Counters of less than a byte fill each byte from its least significant bit on; wider ones are big-endian.
//! (qcow2 specification, host cluster management.)

use super::Geometry;
use super::error::{Error, Rule, require};
use crate::units::HostOffset;

/// Bits 0 to 8 of a refcount table entry.
const RESERVED_MASK: u64 = 0x1ff;

/// What an entry of the refcount table says about its range of host clusters.
#[doc = include_str!("examples/refcounts.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefcountTableEntry {
    /// All refcounts of the range are zero.
    Absent,
    /// The range has a refcount block.
    Block {
        /// Where the block begins, aligned to a cluster and below 2^63.
        at: HostOffset,
    },
}

impl RefcountTableEntry {
    /// The size of an entry in bytes.
    pub const SIZE: usize = 8;

    /// Reads an entry.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when a reserved bit is set, the block is not aligned to a cluster, or no file
    /// reaches so far.
    pub fn decode(raw: u64, geometry: Geometry) -> Result<Self, Error> {
        let wrong = |holds, rule| require(holds, "refcount table entry", "value", raw, rule);
        wrong(raw & RESERVED_MASK == 0, Rule::ReservedBitsZero)?;
        if raw == 0 {
            return Ok(Self::Absent);
        }
        let at = HostOffset::new(raw);
        wrong(geometry.is_cluster_aligned(at), Rule::ClusterAligned)?;
        wrong(raw < 1 << 63, Rule::InsideFileOffsets)?;
        Ok(Self::Block { at })
    }

    /// The entry as it is stored.
    #[must_use]
    pub const fn encode(self) -> u64 {
        match self {
            Self::Absent => 0,
            Self::Block { at } => at.as_u64(),
        }
    }
}

/// The refcount at `index` of a block of refcounts of `1 << order` bits.
///
/// An example is at [`RefcountTableEntry`].
///
/// # Panics
///
/// When `index` lies past the end of the block, or `order` past 6: both come from the [`Geometry`] that the
/// block was read with.
#[must_use]
pub fn get(block: &[u8], order: u32, index: u64) -> u64 {
    let place = Place::of(order, index);
    let counter = block.get(place.byte..place.byte + place.length).expect("the index lies inside the block");
    if order < 3 {
        return u64::from(counter[0] >> place.shift) & max(order);
    }
    counter.iter().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// Whether the refcounts from the beginning of a block of refcounts of `1 << order` bits on are these.
///
/// An example is at [`RefcountTableEntry`].
///
/// # Panics
///
/// When the block holds fewer, or `order` lies past 6.
#[must_use]
pub fn are(block: &[u8], order: u32, refcounts: &[u32]) -> bool {
    if order == 4 {
        // The width of nearly every image, as the machine compares it.
        let counters =
            block.chunks_exact(2).map(|counter| u32::from(u16::from_be_bytes([counter[0], counter[1]])));
        assert!(counters.len() >= refcounts.len(), "the block holds so many");
        return counters.zip(refcounts).all(|(counter, refcount)| counter == *refcount);
    }
    (0..).zip(refcounts).all(|(index, refcount)| get(block, order, index) == u64::from(*refcount))
}

/// Sets the refcount at `index` of a block of refcounts of `1 << order` bits to `value`.
///
/// An example is at [`RefcountTableEntry`].
///
/// # Panics
///
/// When `index` lies past the end of the block, `order` past 6, or `value` past
/// [`Geometry::refcount_max`]: it would run over into its neighbours.
pub fn set(block: &mut [u8], order: u32, index: u64, value: u64) {
    let place = Place::of(order, index);
    assert!(value <= max(order), "refcount {value} does not fit {} bits", 1 << order);
    let counter =
        block.get_mut(place.byte..place.byte + place.length).expect("the index lies inside the block");
    let bytes = (value << place.shift).to_be_bytes();
    if order < 3 {
        let others = u64::from(counter[0]) & !(max(order) << place.shift);
        counter[0] = others.to_be_bytes()[7] | bytes[7];
        return;
    }
    counter.copy_from_slice(&bytes[8 - place.length..]);
}

/// Where a refcount lies in its block.
struct Place {
    /// The first byte.
    byte: usize,
    /// The number of bytes.
    length: usize,
    /// The least significant bit in its byte. Zero for whole bytes.
    shift: u32,
}

impl Place {
    fn of(order: u32, index: u64) -> Self {
        assert!(order <= 6, "refcount order {order} is not in 0..=6");
        let index = usize::try_from(index).expect("the index lies inside the block");
        if order >= 3 {
            let length = 1 << (order - 3);
            let byte = index.checked_mul(length).expect("the index lies inside the block");
            return Self { byte, length, shift: 0 };
        }
        let in_byte = 3 - order;
        let position = (index & ((1 << in_byte) - 1)) << order;
        let shift = u32::try_from(position).expect("a position in a byte is below 8");
        Self { byte: index >> in_byte, length: 1, shift }
    }
}

/// The largest refcount of `1 << order` bits.
const fn max(order: u32) -> u64 {
    u64::MAX >> (64 - (1u32 << order))
}

#[cfg(test)]
mod tests {
    use super::super::L2Width;
    use super::*;

    #[test]
    fn counters_are_compared_one_by_one() {
        for order in 0..=6 {
            let mut block = [0; 64];
            let most = max(order).min(3);
            let counts: Vec<u32> =
                (0..8).map(|index| index % 2 * u32::try_from(most).expect("3 at most")).collect();
            for (index, count) in (0..).zip(&counts) {
                set(&mut block, order, index, u64::from(*count));
            }
            assert!(are(&block, order, &counts), "order {order}");
            for wrong in 0..8 {
                let mut other = counts.clone();
                other[wrong] += 1;
                assert!(!are(&block, order, &other), "order {order}, counter {wrong}");
            }
        }
    }

    #[test]
    fn counters_lie_where_the_specification_says() {
        let block = [0b1010_0101, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde];
        let counters = |order, count| (0..count).map(|index| get(&block, order, index)).collect::<Vec<_>>();
        assert_eq!(counters(0, 10), [1, 0, 1, 0, 0, 1, 0, 1, 0, 1]);
        assert_eq!(counters(1, 6), [1, 1, 2, 2, 2, 0]);
        assert_eq!(counters(2, 4), [5, 0xa, 2, 1]);
        assert_eq!(counters(3, 3), [0xa5, 0x12, 0x34]);
        assert_eq!(counters(4, 4), [0xa512, 0x3456, 0x789a, 0xbcde]);
        assert_eq!(counters(5, 2), [0xa512_3456, 0x789a_bcde]);
        assert_eq!(counters(6, 1), [0xa512_3456_789a_bcde]);
    }

    #[test]
    fn a_counter_is_set_without_touching_its_neighbours() {
        for order in 0..=6 {
            for fill in [0x00, 0xff, 0x5a] {
                let count = (16 * 8) >> order;
                for index in 0..count {
                    for value in [0, 1, max(order) / 2, max(order)] {
                        let mut block = [fill; 16];
                        set(&mut block, order, index, value);
                        for other in 0..count {
                            let expected =
                                if other == index { value } else { get(&[fill; 16], order, other) };
                            assert_eq!(get(&block, order, other), expected, "order {order}, {other}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "refcount 2 does not fit 1 bits")]
    fn a_counter_too_large_is_not_written_into_its_neighbour() {
        set(&mut [0; 8], 0, 0, 2);
    }

    #[test]
    #[should_panic(expected = "the index lies inside the block")]
    fn a_counter_past_the_block_is_not_taken_for_a_free_cluster() {
        let _ = get(&[0; 8], 4, 4);
    }

    #[test]
    fn every_flipped_bit_of_a_table_entry_is_refused_or_written_back_as_it_was_read() {
        for cluster_bits in 9..=21 {
            let geometry = Geometry::new(cluster_bits, 4, L2Width::Standard).expect("lawful");
            assert_eq!(RefcountTableEntry::decode(0, geometry), Ok(RefcountTableEntry::Absent));
            for bit in 0..64 {
                let raw = (1u64 << 58 | 1 << 21) ^ (1 << bit);
                let decoded = RefcountTableEntry::decode(raw, geometry);
                assert_eq!(decoded.is_ok(), (cluster_bits..63).contains(&bit), "bit {bit}: {decoded:?}");
                let Ok(entry) = decoded else { continue };
                assert_eq!(entry, RefcountTableEntry::Block { at: HostOffset::new(raw) });
                assert_eq!(entry.encode(), raw);
            }
        }
    }

    #[test]
    fn each_broken_rule_is_told_apart() {
        let geometry = Geometry::new(16, 4, L2Width::Standard).expect("lawful");
        for (raw, rule) in [
            (0x101, Rule::ReservedBitsZero),
            (0x200, Rule::ClusterAligned),
            (1 << 63, Rule::InsideFileOffsets),
        ] {
            let Err(Error::Malformed(wrong)) = RefcountTableEntry::decode(raw, geometry) else { panic!() };
            assert_eq!((wrong.structure, wrong.rule), ("refcount table entry", rule));
        }
    }
}
