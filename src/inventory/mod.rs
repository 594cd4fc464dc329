//! The shapes that callers are shown, and how a record becomes one.
//!
//! Every shape is a plain value that serialises to the JSON of the API whose behaviour this crate carries
//! over, field for field: names in camel case, uuids as 32 lower-case hex digits, dates such as
//! `Nov 14, 2017 10:20:57 PM` in UTC. What this crate adds to a shape is left out of the JSON while it is
//! empty, so that the API's own examples read and write back to themselves.
//!
//! * **V1** What is written is read back as the same value, milliseconds of a [`Date`] excepted.
//! * **V2** Numbers are written as integers. `1.0` is read as 1; `1.5`, `-1` and what is too large are refused.
//! * **V3** No shape overflows the stack, however deep a tree is: a [`Forest`] is flat in memory, and refuses
//!   to be written deeper than [`Forest::DEPTH_MAX`].
//! * **V4** A shape holds copies only; it stays as it is when the pool moves on.

mod answer;
mod availability;
mod date;
mod error_code;
mod forest;
mod group;
mod group_tree;
mod kind;
mod machine;
mod snapshot;
mod tree;
mod volume;
mod wire;

pub use answer::{
    DeleteAnswer, DeleteResult, GroupAnswer, InventoriesAnswer, InventoryAnswer, ResultsAnswer, RevertResult,
};
pub use availability::{AvailabilityInventory, Named, UnavailableReason};
pub use date::{Date, InvalidDate};
pub use error_code::ErrorCode;
pub use forest::{Forest, ForestNode};
pub use group::{GroupInventory, RefInventory};
pub use group_tree::GroupTreeInventory;
pub use kind::{
    Consistency, ImageFormat, MachineState, ResourceState, SnapshotStatus, SnapshotType, VolumeStatus,
    VolumeType,
};
pub use machine::MachineInventory;
pub use snapshot::SnapshotInventory;
pub(crate) use snapshot::SnapshotRelations;
pub use tree::{TreeInventory, TreeNode};
pub use uuid::Uuid;
pub use volume::{AttachmentInventory, VolumeInventory};

#[cfg(test)]
mod tests;
