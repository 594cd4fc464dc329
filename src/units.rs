//! Offsets, clusters, counts and sizes as types of their own, with only their lawful arithmetic.
//!
//! A guest address and a host address are both numbers of bytes and must never meet. So a
//! [`GuestOffset`] plus a [`ByteCount`] is a [`GuestOffset`], two of them apart are a [`ByteCount`], and
//! nothing else compiles. Only `format::Geometry` turns an offset into a cluster and back.
//!
//! `+` and `-` panic on overflow, as plain integers do in a checked build: they are for values that were
//! validated. Numbers straight out of a file go through the `checked_` forms.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// Writes one unit: a number with a meaning, its constructor, its getter and its display.
macro_rules! unit {
    ($(#[$doc:meta])* $name:ident, $display:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Zero.
            pub const ZERO: Self = Self(0);

            /// Wraps a plain number.
            #[must_use]
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The plain number.
            #[must_use]
            pub const fn as_u64(self) -> u64 {
                self.0
            }

            /// Whether the number is zero.
            #[must_use]
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $display, self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "(", $display, ")"), self.0)
            }
        }
    };
}

/// Writes the arithmetic of a position and the distance between two of them.
macro_rules! position_and_distance {
    ($position:ident, $distance:ident) => {
        impl $position {
            /// The position `distance` further on, or `None` past the end of 64 bits.
            #[must_use]
            pub const fn checked_add(self, distance: $distance) -> Option<Self> {
                match self.0.checked_add(distance.0) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// The distance from `earlier` to here, or `None` when `earlier` is later.
            #[must_use]
            pub const fn checked_since(self, earlier: Self) -> Option<$distance> {
                match self.0.checked_sub(earlier.0) {
                    Some(difference) => Some($distance(difference)),
                    None => None,
                }
            }
        }

        impl Add<$distance> for $position {
            type Output = Self;
            fn add(self, distance: $distance) -> Self {
                Self(self.0 + distance.0)
            }
        }

        impl AddAssign<$distance> for $position {
            fn add_assign(&mut self, distance: $distance) {
                self.0 += distance.0;
            }
        }

        impl Sub for $position {
            type Output = $distance;
            fn sub(self, earlier: Self) -> $distance {
                $distance(self.0 - earlier.0)
            }
        }
    };
}

/// Writes the arithmetic of an amount with itself.
macro_rules! amount {
    ($name:ident) => {
        impl $name {
            /// The sum, or `None` past the end of 64 bits.
            #[must_use]
            pub const fn checked_add(self, other: Self) -> Option<Self> {
                match self.0.checked_add(other.0) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// The difference, zero when `other` is larger.
            #[must_use]
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0 + other.0)
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                self.0 += other.0;
            }
        }

        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0 - other.0)
            }
        }

        impl std::iter::Sum for $name {
            fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
                amounts.fold(Self::ZERO, |total, amount| total + amount)
            }
        }
    };
}

unit!(
    /// A byte address in the guest's disk.
    ///
    /// ```
    /// use snapgroup::units::{ByteCount, GuestOffset};
    ///
    /// // Addresses have distances and no sum; a length is no address.
    /// let (first, last) = (GuestOffset::new(0x1000), GuestOffset::new(0x3000));
    /// assert_eq!(last - first, ByteCount::kib(8));
    /// assert_eq!(first + ByteCount::kib(8), last);
    /// assert_eq!(last.to_string(), "0x3000");
    ///
    /// // For numbers out of a file: None past the end of 64 bits, or of one that is later.
    /// assert_eq!(last.checked_add(ByteCount::new(u64::MAX)), None);
    /// assert_eq!(first.checked_since(last), None);
    /// assert_eq!((first.as_u64(), first.is_zero()), (0x1000, false));
    /// assert_eq!(GuestOffset::end_of(ByteCount::kib(8)).as_size(), ByteCount::kib(8));
    ///
    /// // The same of files, and of clusters.
    /// use snapgroup::units::{ClusterCount, GuestCluster, HostCluster, HostOffset};
    /// assert_eq!(HostOffset::end_of(ByteCount::kib(8)).as_length(), ByteCount::kib(8));
    /// assert_eq!(GuestCluster::new(7) - GuestCluster::new(5), ClusterCount::new(2));
    /// assert_eq!(HostCluster::new(5).checked_add(ClusterCount::new(2)), Some(HostCluster::new(7)));
    /// assert_eq!(ClusterCount::new(2).saturating_sub(ClusterCount::new(3)), ClusterCount::ZERO);
    /// ```
    GuestOffset,
    "{:#x}"
);
unit!(
    /// A byte address in a file on the host. An example is at [`GuestOffset`].
    HostOffset,
    "{:#x}"
);
unit!(
    /// The index of a cluster in the guest's disk. An example is at [`GuestOffset`].
    GuestCluster,
    "{}"
);
unit!(
    /// The index of a cluster in a file on the host. An example is at [`GuestOffset`].
    HostCluster,
    "{}"
);
unit!(
    /// A number of clusters. An example is at [`GuestOffset`].
    ClusterCount,
    "{}"
);
unit!(
    /// A number of bytes.
    ///
    /// ```
    /// use snapgroup::ByteCount;
    ///
    /// let size = ByteCount::gib(1) + ByteCount::mib(512);
    /// assert_eq!(ByteCount::new(1024), ByteCount::kib(1));
    /// assert_eq!(ByteCount::of([7; 9].len()).as_usize(), 9);
    /// assert_eq!(size.as_u64(), 3 << 29);
    /// assert_eq!(size.to_string(), "1610612736 bytes");
    /// assert_eq!(size.rounded(), "1.5 GiB");
    /// assert_eq!(size.saturating_sub(ByteCount::tib(1)), ByteCount::ZERO);
    /// ```
    ByteCount,
    "{} bytes"
);

position_and_distance!(GuestOffset, ByteCount);
position_and_distance!(HostOffset, ByteCount);
position_and_distance!(GuestCluster, ClusterCount);
position_and_distance!(HostCluster, ClusterCount);
amount!(ClusterCount);
amount!(ByteCount);

impl ByteCount {
    /// The number of bytes in `length`.
    #[must_use]
    pub const fn of(length: usize) -> Self {
        Self(length as u64)
    }

    /// `count` kibibytes.
    #[must_use]
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// `count` mebibytes.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// `count` gibibytes.
    #[must_use]
    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    /// `count` tebibytes.
    #[must_use]
    pub const fn tib(count: u64) -> Self {
        Self(count << 40)
    }

    /// The number for people, rounded down: a binary unit, and a tenth where there is one digit before it.
    ///
    /// ```
    /// use snapgroup::ByteCount;
    ///
    /// assert_eq!(ByteCount::new(1536).rounded(), "1.5 KiB");
    /// assert_eq!(ByteCount::gib(20).rounded(), "20 GiB");
    /// ```
    #[must_use]
    pub fn rounded(self) -> String {
        const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let (mut whole, mut tenth, mut unit) = (self.0, 0, 0);
        while whole >= 1024 {
            tenth = ((whole & 1023) * 10) >> 10;
            (whole, unit) = (whole >> 10, unit + 1);
        }
        match tenth {
            1.. if whole < 10 => format!("{whole}.{tenth} {}", UNITS[unit]),
            _ => format!("{whole} {}", UNITS[unit]),
        }
    }

    /// The number as a length in memory.
    ///
    /// # Panics
    ///
    /// On a machine whose addresses are narrower than the number. Every caller holds a size that was bounded
    /// by a buffer or by a limit of the format.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).expect("the size of a buffer fits the address space")
    }
}

impl GuestOffset {
    /// The address one past the last byte of a disk of `size`.
    #[must_use]
    pub const fn end_of(size: ByteCount) -> Self {
        Self(size.0)
    }

    /// The size of a disk that ends here.
    #[must_use]
    pub const fn as_size(self) -> ByteCount {
        ByteCount(self.0)
    }
}

impl HostOffset {
    /// The address one past the last byte of a file of `length`.
    #[must_use]
    pub const fn end_of(length: ByteCount) -> Self {
        Self(length.0)
    }

    /// The length of a file that ends here.
    #[must_use]
    pub const fn as_length(self) -> ByteCount {
        ByteCount(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_for_people_has_a_binary_unit_and_is_rounded_down() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            ((10 << 20) - 1, "9.9 MiB"),
            (10 << 20, "10 MiB"),
            (u64::MAX, "15 EiB"),
        ];
        for (count, text) in cases {
            assert_eq!(ByteCount::new(count).rounded(), text);
        }
    }

    #[test]
    fn positions_and_distances_add_and_subtract() {
        let start = GuestOffset::new(0x1000);
        let end = start + ByteCount::kib(4);
        assert_eq!(end, GuestOffset::new(0x2000));
        assert_eq!(end - start, ByteCount::new(4096));
        assert_eq!(start.checked_since(end), None);
        assert_eq!(GuestOffset::new(u64::MAX).checked_add(ByteCount::new(1)), None);
    }

    #[test]
    fn offsets_print_in_hex_and_sizes_with_their_unit() {
        assert_eq!(HostOffset::new(65536).to_string(), "0x10000");
        assert_eq!(ByteCount::new(512).to_string(), "512 bytes");
        assert_eq!(format!("{:?}", GuestCluster::new(7)), "GuestCluster(7)");
    }
}
