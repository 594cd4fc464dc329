//! Disks that fail and power that is cut: for the tests of this crate, and of programs that use it.
//!
//! Two stores, which go well together:
//!
//! * [`SimulatedStore`] wraps any store. It fails exactly the call it was told to, and says what was asked of it.
//! * [`SimulatedDisk`] is a store in memory that keeps a log of every change and every sync. From the log it works out
//!   what a power cut at any instant may leave, each possibility a store of its own that can be opened.
//!
//! | file | what is in it |
//! |---|---|
//! | `script` | which call is counted, recorded and failed; pure |
//! | `store` | every call, taken through the script |
//! | `disk` | every call, taken into the log |
//! | `log` | the log as a value: looked through, cut, or changed as if a sync had been left out |
//! | `cut` | what is durable at one instant, and what is not yet |
//! | `choice` | which parts of what is not durable yet survive: all subsets, or a list that leaves out no simple one |
//! | `state` | one choice as a store |
//!
//! What a power cut may leave is what the promises of [this room](super) say, and no more: each 512-byte sector of
//! each write since the last sync, each change of length and each punch is there or not, whatever happened to the
//! others. Changes of one place keep their order. Names are as the [`FileSystem`] has it.

mod choice;
mod cut;
mod disk;
mod log;
mod script;
mod state;
mod store;

pub use choice::{Bounds, Choice};
pub use cut::{FileSystem, PowerCut};
pub use disk::SimulatedDisk;
pub use log::{DiskChange, DiskEvent, DiskLog};
pub use script::{At, Call, Counts, Fault, FaultKind, Times};
pub use state::{CrashBlob, CrashState, CrashStates};
pub use store::SimulatedStore;
