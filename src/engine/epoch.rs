//! How often a pool was opened.

use std::fmt;

/// How often a pool was opened for writing, its making counted: each owner has a larger one than the owner before it.
#[doc = include_str!("examples/open_on.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub(super) u64);

impl Epoch {
    /// The number, to be kept or compared elsewhere. The owner that made the pool has 1.
    ///
    /// ```
    /// let engine = snapgroup::Engine::in_memory(snapgroup::Options::default())?;
    /// assert_eq!(engine.epoch().as_u64(), 1);
    /// # Ok::<(), snapgroup::Error>(())
    /// ```
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
