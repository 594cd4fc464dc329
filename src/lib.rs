//! Snapshots of all disks of a virtual machine as one group, on real qcow2 backing chains, in process.

mod catalog;
pub mod chain;
mod engine;
pub mod format;
pub mod image;
pub mod inventory;
mod plan;
pub mod storage;
pub mod units;

pub use catalog::query;
pub use engine::*;
pub use units::ByteCount;
pub use uuid::Uuid;
