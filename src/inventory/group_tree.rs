//! The groups of a machine as trees, each under the group that its disks descended from.

use super::wire::{uuid_optional, uuid_simple};
use super::{Date, Forest, GroupInventory, RefInventory};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A group in its tree: a node of a [`Forest`], whose JSON adds `children`.
#[doc = include_str!("../engine/examples/groups.md")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct GroupTreeInventory {
    /// The group.
    #[serde(with = "uuid_simple")]
    pub uuid: Uuid,
    /// Its name.
    pub name: String,
    /// Its description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The machine whose disks it holds.
    #[serde(with = "uuid_simple")]
    pub vm_instance_uuid: Uuid,
    /// The moment that the snapshots show.
    pub create_date: Date,
    /// When the group or one of its members was last changed.
    pub last_op_date: Date,
    /// Whether the machine's heads descend from it: the last one taken or reverted to.
    pub current: bool,
    /// Whether a member is gone.
    pub incomplete: bool,
    /// The group that the disks descended from: recorded when this one was taken, not guessed.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "uuid_optional")]
    pub parent_group_uuid: Option<Uuid>,
    /// Its members.
    pub refs: Vec<RefInventory>,
}

impl GroupTreeInventory {
    /// The groups of a machine, given in the order of creation, as trees. `current` is the group that its heads
    /// descend from.
    pub(crate) fn forest(groups: Vec<GroupInventory>, current: Option<Uuid>) -> Forest<Self> {
        let nodes = groups
            .into_iter()
            .map(|group| Self {
                current: current == Some(group.uuid),
                incomplete: group.is_incomplete(),
                uuid: group.uuid,
                name: group.name,
                description: group.description,
                vm_instance_uuid: group.vm_instance_uuid,
                create_date: group.create_date,
                last_op_date: group.last_op_date,
                parent_group_uuid: group.parent_group_uuid,
                refs: group.volume_snapshot_refs,
            })
            .collect();
        Forest::new(nodes, |node: &Self| node.uuid, |node| node.parent_group_uuid)
    }
}
