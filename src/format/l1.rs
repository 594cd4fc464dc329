//! An entry of the L1 table: where the L2 table of a range of the disk lies.
//!
//! ```text
//! bit 63      COPIED: the L2 table's refcount is exactly one
//! bits 62-56  reserved
//! bits 55-9   the host offset of the L2 table; zero when the range has none
//! bits 8-0    reserved
//! ```
//! (qcow2 specification, cluster mapping, L1 table entry.)

use super::Geometry;
use super::error::{Error, Rule, require};
use super::l2::{COPIED, Copied, OFFSET_MASK};
use crate::units::HostOffset;

const RESERVED_MASK: u64 = 0x7f00_0000_0000_01ff;
const _: () = assert!(RESERVED_MASK ^ OFFSET_MASK ^ COPIED == u64::MAX);

/// What an L1 entry says about its range of the disk.
///
/// An example is at [`L2Entry`](crate::format::L2Entry).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L1Entry {
    /// The image says nothing about the range.
    Absent,
    /// The range has an L2 table.
    Table {
        /// Where the table begins, aligned to a cluster and below 2^56.
        at: HostOffset,
        /// Whether the table may be written in place.
        copied: Copied,
    },
}

impl L1Entry {
    /// The size of an entry in bytes.
    pub const SIZE: usize = 8;

    /// Reads an entry.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when a reserved bit is set, the table is not aligned to a cluster, or COPIED is
    /// set where there is no table.
    pub fn decode(raw: u64, geometry: Geometry) -> Result<Self, Error> {
        let wrong = |holds, rule| require(holds, "L1 entry", "value", raw, rule);
        wrong(raw & RESERVED_MASK == 0, Rule::ReservedBitsZero)?;
        let at = HostOffset::new(raw & OFFSET_MASK);
        let copied = Copied::from_entry(raw);
        if at.is_zero() {
            wrong(copied == Copied::No, Rule::Needs("a host offset"))?;
            return Ok(Self::Absent);
        }
        wrong(geometry.is_cluster_aligned(at), Rule::ClusterAligned)?;
        Ok(Self::Table { at, copied })
    }

    /// The entry as it is stored.
    #[must_use]
    pub const fn encode(self) -> u64 {
        match self {
            Self::Absent => 0,
            Self::Table { at, copied } => at.as_u64() | copied.bit(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::L2Width;
    use super::*;

    fn geometry(cluster_bits: u32) -> Geometry {
        Geometry::new(cluster_bits, 4, L2Width::Standard).expect("the numbers are lawful")
    }

    #[test]
    fn an_entry_has_these_bits() -> Result<(), Error> {
        let at = HostOffset::new(0x00ff_ffff_ffff_0000);
        for (raw, entry) in [
            (0, L1Entry::Absent),
            (0x0000_0000_0003_0000, L1Entry::Table { at: HostOffset::new(0x30000), copied: Copied::No }),
            (0x8000_0000_0003_0000, L1Entry::Table { at: HostOffset::new(0x30000), copied: Copied::Yes }),
            (0x80ff_ffff_ffff_0000, L1Entry::Table { at, copied: Copied::Yes }),
        ] {
            assert_eq!(L1Entry::decode(raw, geometry(16))?, entry);
            assert_eq!(entry.encode(), raw);
        }
        Ok(())
    }

    #[test]
    fn every_flipped_bit_is_refused_or_written_back_as_it_was_read() {
        for cluster_bits in 9..=21 {
            let at = 1u64 << 40 | 1 << 21;
            for bit in 0..64 {
                let raw = (at | COPIED) ^ (1 << bit);
                let decoded = L1Entry::decode(raw, geometry(cluster_bits));
                let lawful = bit >= cluster_bits && bit < 56 || bit == 63;
                assert_eq!(decoded.is_ok(), lawful, "bit {bit} of clusters of 2^{cluster_bits}: {decoded:?}");
                let Ok(entry) = decoded else { continue };
                assert_eq!(entry.encode(), raw);
            }
        }
    }

    #[test]
    fn each_broken_rule_is_told_apart() {
        for (raw, rule) in [
            (0x1, Rule::ReservedBitsZero),
            (0x4000_0000_0003_0000, Rule::ReservedBitsZero),
            (0x200, Rule::ClusterAligned),
            (0x8000_0000_0000_0000, Rule::Needs("a host offset")),
        ] {
            let Err(Error::Malformed(wrong)) = L1Entry::decode(raw, geometry(16)) else { panic!("{raw:#x}") };
            assert_eq!((wrong.structure, wrong.found, wrong.rule), ("L1 entry", raw, rule));
        }
    }
}
