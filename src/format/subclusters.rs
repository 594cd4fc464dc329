//! The subclusters of a cluster: 32 with extended L2 entries; with standard ones the cluster is its only one.
//!
//! So whoever changes a mapping needs one form for both widths: where the host cluster is, and which parts of it
//! count. (qcow2 specification, extended L2 entries.)

use super::{Copied, Geometry, L2Entry, L2Width};
use crate::units::HostOffset;

/// What an L2 entry says about the subclusters of its cluster.
///
/// An example is at [`L2Entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subclusters {
    /// The host cluster, aligned and below 2^56. Needed as soon as one subcluster is allocated.
    pub at: Option<HostOffset>,
    /// Whether the host cluster may be written in place. `No` without one.
    pub copied: Copied,
    /// Bit i: subcluster i is stored in the host cluster.
    pub allocated: u32,
    /// Bit i: subcluster i reads as zeros. No bit is set in both.
    pub zero: u32,
}

/// What is said about one subcluster.
///
/// An example is at [`L2Entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subcluster {
    /// Nothing: the backing file decides, or zeros.
    Absent,
    /// It reads as zeros.
    Zero,
    /// It is stored in the host cluster.
    Allocated,
}

impl Subclusters {
    /// A cluster of which the image says nothing.
    pub const ABSENT: Self = Self { at: None, copied: Copied::No, allocated: 0, zero: 0 };

    /// What is said about the subcluster `index`, below 32.
    #[must_use]
    pub const fn of(self, index: u32) -> Subcluster {
        if self.allocated >> index & 1 == 1 {
            Subcluster::Allocated
        } else if self.zero >> index & 1 == 1 {
            Subcluster::Zero
        } else {
            Subcluster::Absent
        }
    }

    /// For how many subclusters from `index`, below 32, on the same is said, up to the 32nd.
    #[must_use]
    pub const fn alike_from(self, index: u32) -> u32 {
        let others = match self.of(index) {
            Subcluster::Allocated => !self.allocated,
            Subcluster::Zero => !self.zero,
            Subcluster::Absent => self.allocated | self.zero,
        };
        let ahead = (others >> index).trailing_zeros();
        if ahead < 32 - index { ahead } else { 32 - index }
    }

    /// Whether there is a host cluster, and it may be written in place.
    #[must_use]
    pub const fn is_own(self) -> bool {
        self.at.is_some() && matches!(self.copied, Copied::Yes)
    }

    /// The same with `these` subclusters stored in the host cluster at `at`, which may be written in place.
    #[must_use]
    pub const fn stored(self, at: HostOffset, these: u32) -> Self {
        let (allocated, zero) = (self.allocated | these, self.zero & !these);
        Self { at: Some(at), copied: Copied::Yes, allocated, zero }
    }
}

impl L2Entry {
    /// The entry as subclusters; `None` for a compressed cluster, which has none.
    #[must_use]
    pub const fn subclusters(self, geometry: Geometry) -> Option<Subclusters> {
        let all = geometry.subclusters_all();
        Some(match self {
            Self::Compressed(_) => return None,
            Self::Absent => Subclusters::ABSENT,
            Self::Zero { allocation, copied } => {
                Subclusters { at: allocation, copied, allocated: 0, zero: all }
            }
            Self::Data { at, copied } => Subclusters { at: Some(at), copied, allocated: all, zero: 0 },
            Self::Subclusters(subclusters) => subclusters,
        })
    }
}

impl Subclusters {
    /// The entry that says so. With standard entries a host cluster is stored or reads as zeros.
    #[must_use]
    pub const fn entry(self, geometry: Geometry) -> L2Entry {
        match (geometry.l2_width(), self) {
            (_, Self { at: None, allocated: 0, zero: 0, .. }) => L2Entry::Absent,
            (L2Width::Extended, subclusters) => L2Entry::Subclusters(subclusters),
            (L2Width::Standard, Self { at: Some(at), copied, allocated: 1, .. }) => {
                L2Entry::Data { at, copied }
            }
            (L2Width::Standard, Self { at, copied, .. }) => L2Entry::Zero { allocation: at, copied },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(l2: L2Width) -> Geometry {
        Geometry::new(16, 4, l2).expect("the numbers are lawful")
    }

    #[test]
    fn what_is_alike_ends_where_something_else_is_said_and_with_the_cluster() {
        for (allocated, zero) in
            [(0, 0), (u32::MAX, 0), (0, u32::MAX), (0b1100, 0x8000_0003), (1, 0x7000_0000)]
        {
            let subclusters = Subclusters { at: None, copied: Copied::No, allocated, zero };
            for index in 0..32 {
                let same = |other: &u32| subclusters.of(*other) == subclusters.of(index);
                let counted = u32::try_from((index..32).take_while(same).count()).expect("at most 32");
                assert_eq!(subclusters.alike_from(index), counted, "{index} of {subclusters:x?}");
            }
        }
    }

    #[test]
    fn what_is_stored_is_no_zero_any_more_and_lies_in_a_cluster_of_its_own() {
        let at = HostOffset::new(0x50000);
        let before = Subclusters { at: None, copied: Copied::No, allocated: 0b0001, zero: 0b1110 };
        let after = before.stored(at, 0b0111);
        assert_eq!(after, Subclusters { at: Some(at), copied: Copied::Yes, allocated: 0b0111, zero: 0b1000 });
        assert!(after.is_own() && !before.is_own());
        assert!(!Subclusters { copied: Copied::No, ..after }.is_own());
        assert!(!Subclusters { at: None, ..after }.is_own());
    }

    #[test]
    fn an_entry_of_each_width_is_the_same_as_subclusters_and_back() {
        let at = HostOffset::new(0x50000);
        for (l2, all) in [(L2Width::Standard, 1), (L2Width::Extended, u32::MAX)] {
            let geometry = geometry(l2);
            assert_eq!(L2Entry::Absent.subclusters(geometry), Some(Subclusters::ABSENT));
            for (entry, allocated, zero, at) in [
                (L2Entry::Data { at, copied: Copied::Yes }, all, 0, Some(at)),
                (L2Entry::Zero { allocation: Some(at), copied: Copied::Yes }, 0, all, Some(at)),
                (L2Entry::Zero { allocation: None, copied: Copied::No }, 0, all, None),
                (L2Entry::Absent, 0, 0, None),
            ] {
                let found = entry.subclusters(geometry).expect("not compressed");
                assert_eq!((found.at, found.allocated, found.zero), (at, allocated, zero));
                assert_eq!(found.entry(geometry).encode(geometry), entry.encode(geometry));
            }
        }
    }
}
