//! Merging a retired layer away, in steps: into its child, out of its child, or only giving back what is hidden.
//!
//! ```text
//! pull    child <- retired    the child takes what it lacks; the retired layer is not needed after it
//! commit  child -> retired    the retired layer takes what the child has; the child is not needed after it
//! punch           retired     gives back the clusters that nobody reads
//! ```
//!
//! [`pull`], [`commit`] and [`hidden`] say what that costs, before anything is done; [`Pull`], [`Commit`] and
//! [`Punch`] do it. What a guest sees through the child is the same at every instant, so a merge may stop anywhere,
//! by will or by a crash, and be begun anew: its lists come from what is there then.
//!
//! Which layer reads through to which is for the caller to say, after [`Pull::flush`] or [`Commit::flush`].

mod commit;
mod lists;
mod pull;
mod punch;
mod todo;

pub use commit::Commit;
pub use lists::{Copies, commit, displaces, hidden, pull, seen_through};
pub use pull::Pull;
pub use punch::Punch;

use crate::units::ByteCount;

/// What one step has done.
///
/// An example is at [`Pull`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a merge goes on until a step says that it is done"]
pub struct Progress {
    /// The bytes that were written into the target, or given back by a punch.
    pub copied: ByteCount,
    /// Whether nothing is left to do but to flush.
    pub done: bool,
}
