//! How often the catalogue of a pool has changed.

use std::fmt;

/// How often the catalogue of a pool has changed: a later generation is a larger one. Two plans of one generation were made of
/// the same books.
#[doc = include_str!("examples/deleting.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(pub(super) u64);

impl Generation {
    /// The number, to be kept or compared elsewhere. A pool whose books nobody has changed yet has 0.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
