//! The three sets of feature bits: what a reader must know, may know, and must clear before it writes.

use std::fmt;

/// Writes one set of feature bits: its named bits, the others kept beside them.
macro_rules! features {
    ($(#[$doc:meta])* $name:ident { $($(#[$bit_doc:meta])* $constant:ident, $verb:ident = $bit:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq)]
        pub struct $name(u64);

        impl $name {
            $(
                $(#[$bit_doc])*
                pub const $constant: Self = Self(1 << $bit);
            )+

            /// No bit.
            pub const NONE: Self = Self(0);

            /// All bits that have a name.
            const KNOWN: u64 = $(1 << $bit)|+;

            /// The set that is stored as `bits`.
            #[must_use]
            pub const fn from_bits(bits: u64) -> Self {
                Self(bits)
            }

            /// The set as it is stored, unknown bits included.
            #[must_use]
            pub const fn bits(self) -> u64 {
                self.0
            }

            /// The bits without a name.
            #[must_use]
            pub const fn unknown(self) -> u64 {
                self.0 & !Self::KNOWN
            }

            /// This set and the bits of `other`.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// This set but the bits of `other`.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            $(
                #[doc = concat!("Whether [`Self::", stringify!($constant), "`] is set.")]
                #[must_use]
                pub const fn $verb(self) -> bool {
                    self.0 & (1 << $bit) != 0
                }
            )+
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }
    };
}

features!(
    /// Features that a reader must know (qcow2 specification, header, bytes 72-79).
    ///
    /// An example is at [`Header`](super::Header).
    Incompatible {
        /// Refcounts may be stale: they are rebuilt before anything is written.
        DIRTY, is_dirty = 0;
        /// The image is damaged: it is only read.
        CORRUPT, is_corrupt = 1;
        /// The guest's data lies in another file.
        DATA_FILE, has_data_file = 2;
        /// Clusters are not compressed with deflate.
        COMPRESSION_TYPE, has_compression_type = 3;
        /// L2 entries are 16 bytes wide.
        EXTENDED_L2, is_extended_l2 = 4;
    }
);

features!(
    /// Features that a reader may ignore and a writer keeps (qcow2 specification, header, bytes 80-87).
    ///
    /// An example is at [`Header`](super::Header).
    Compatible {
        /// A writer may leave refcounts stale while the image is marked as dirty.
        LAZY_REFCOUNTS, lazy_refcounts = 0;
    }
);

features!(
    /// Features that a writer clears before it writes, unless it knows them (qcow2 specification, header,
    /// bytes 88-95).
    ///
    /// An example is at [`Header`](super::Header).
    Autoclear {
        /// The persistent bitmaps agree with the data.
        BITMAPS, has_bitmaps = 0;
        /// The external data file is a raw image by itself.
        RAW_DATA_FILE, raw_data_file = 1;
    }
);

impl Autoclear {
    /// The set without its unknown bits, as a writer must leave it.
    #[must_use]
    pub const fn known(self) -> Self {
        Self(self.0 & Self::KNOWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_bits_are_told_apart_and_kept() {
        let bits = Incompatible::from_bits(0x8000_0000_0000_0021);
        assert!(bits.is_dirty() && !bits.is_corrupt());
        assert_eq!(bits.unknown(), 0x8000_0000_0000_0020);
        assert_eq!(bits.without(Incompatible::DIRTY).bits(), 0x8000_0000_0000_0020);
        assert_eq!(bits.with(Incompatible::CORRUPT).bits(), 0x8000_0000_0000_0023);
        assert_eq!(Autoclear::from_bits(u64::MAX).known().bits(), 3);
        assert_eq!(Compatible::from_bits(3).unknown(), 2);
    }

    #[test]
    fn each_name_has_its_bit() {
        assert!(Incompatible::from_bits(1).is_dirty());
        assert!(Incompatible::from_bits(2).is_corrupt());
        assert!(Incompatible::from_bits(4).has_data_file());
        assert!(Incompatible::from_bits(8).has_compression_type());
        assert!(Incompatible::from_bits(16).is_extended_l2());
        assert!(Compatible::from_bits(1).lazy_refcounts());
        assert!(Autoclear::from_bits(1).has_bitmaps());
        assert!(Autoclear::from_bits(2).raw_data_file());
    }
}
