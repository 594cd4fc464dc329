//! What the caller lends to a live group: hands that settle the guest, and hands that switch its disks.

use super::PreparedDisk;
use crate::inventory::Consistency;
use std::fmt::Debug;
use std::time::Duration;

/// Why a hook could not do what it was asked for.
#[doc = include_str!("../examples/live.md")]
pub type HookError = Box<dyn std::error::Error + Send + Sync>;

/// Settles the guest of a machine for the moment of a group.
#[doc = include_str!("../examples/live.md")]
pub trait Quiesce: Debug {
    /// Lets the guest settle and stay still until [`Quiesce::thaw`], and says what it did. Gives up after `within`.
    ///
    /// # Errors
    ///
    /// When the guest did not settle, or not in time. It is thawed all the same: a part of it may be still.
    fn freeze(&mut self, within: Duration) -> Result<Consistency, HookError>;

    /// Lets the guest go on. Called once after each [`Quiesce::freeze`], whatever came of it. Gives up after `within`.
    ///
    /// # Errors
    ///
    /// When the guest could not be told, **or had not been still until now**: the group is then crash-consistent.
    fn thaw(&mut self, within: Duration) -> Result<(), HookError>;
}

/// Asks the guest for nothing: its groups are crash-consistent.
#[doc = include_str!("../examples/live.md")]
#[derive(Clone, Copy, Debug, Default)]
pub struct NoQuiesce;

impl Quiesce for NoQuiesce {
    fn freeze(&mut self, _within: Duration) -> Result<Consistency, HookError> {
        Ok(Consistency::Crash)
    }

    fn thaw(&mut self, _within: Duration) -> Result<(), HookError> {
        Ok(())
    }
}

/// Which file of a disk the process that runs its machine writes to.
#[doc = include_str!("../examples/live.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WritesTo {
    /// The head of before.
    Head,
    /// The overlay.
    Overlay,
    /// Neither, or it cannot be told.
    Unknown,
}

/// Switches the disks of a machine to their overlays, in the process that runs it.
#[doc = include_str!("../examples/live.md")]
pub trait Switch: Debug {
    /// Makes sure that the process can be spoken to: asked before anything is made, and before the guest is let settle.
    /// What is refused here leaves nothing to be found out. Nothing is looked at unless said otherwise.
    ///
    /// # Errors
    ///
    /// When it cannot be spoken to.
    fn reach(&mut self) -> Result<(), HookError> {
        Ok(())
    }

    /// Lets every disk write to its overlay from one moment on, the same for all: a write that the guest saw finish
    /// before another one began must not be in an overlay while that other one is in a head. What was written before is
    /// in the heads, and flushed.
    ///
    /// # Errors
    ///
    /// When it did not come about, or that cannot be told. An overlay that is not written to is not left open.
    fn switch(&mut self, disks: &[PreparedDisk]) -> Result<(), HookError>;

    /// Looks where each disk writes to now, in the order of `disks`. Asked after every [`Switch::switch`]: what is true
    /// counts, and not what was answered.
    ///
    /// # Errors
    ///
    /// When it cannot be found out.
    fn look(&mut self, disks: &[PreparedDisk]) -> Result<Vec<WritesTo>, HookError>;
}
