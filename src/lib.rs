//! Snapshots of all disks of a virtual machine as one group, on real qcow2 backing chains, in process.

mod catalog;
pub mod chain;
pub mod engine;
pub mod format;
pub mod image;
pub mod inventory;
mod plan;
pub mod storage;
pub mod units;
