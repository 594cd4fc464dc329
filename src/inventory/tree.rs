//! The snapshots of one volume that share a root.

use super::forest::{Forest, Nested};
use super::wire::{uuid_optional, uuid_simple};
use super::{Date, SnapshotInventory};
use crate::catalog::{TreeRecord, VolumeRecord};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// A tree of snapshots.
///
/// In JSON, `tree` is the root with its `children` nested in it. Where the root was deleted and its children
/// live on, there is no one root; then `tree` is a node without an inventory that holds them.
///
/// An example is at [`ForestNode`](crate::inventory::ForestNode).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TreeInventory {
    /// The tree.
    #[serde(with = "uuid_simple")]
    pub uuid: Uuid,
    /// The volume.
    #[serde(with = "uuid_simple")]
    pub volume_uuid: Uuid,
    /// Whether the volume's head hangs from it.
    pub current: bool,
    /// When its first snapshot was taken.
    pub create_date: Date,
    /// When its record was last changed.
    pub last_op_date: Date,
    /// The snapshots, siblings in the order of creation.
    #[serde(serialize_with = "serialize_tree", deserialize_with = "deserialize_tree")]
    pub tree: Forest<TreeNode>,
}

/// A snapshot in its tree.
///
/// An example is at [`ForestNode`](crate::inventory::ForestNode).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TreeNode {
    /// The snapshot.
    pub inventory: SnapshotInventory,
    /// The snapshot that it descends from.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "uuid_optional")]
    pub parent_uuid: Option<Uuid>,
}

impl TreeInventory {
    /// The shape of a tree of `volume`, with its snapshots in the order of creation.
    pub(crate) fn new(record: &TreeRecord, volume: &VolumeRecord, snapshots: Vec<SnapshotInventory>) -> Self {
        debug_assert_eq!(volume.id, record.volume, "the volume is the one that the tree belongs to");
        let nodes = snapshots
            .into_iter()
            .map(|inventory| TreeNode { parent_uuid: inventory.parent_uuid, inventory })
            .collect();
        Self {
            uuid: record.uuid,
            volume_uuid: volume.uuid,
            current: volume.tree_current == Some(record.id),
            create_date: record.created.into(),
            last_op_date: record.changed.into(),
            tree: Forest::new(nodes, |node: &TreeNode| node.inventory.uuid, |node| node.parent_uuid),
        }
    }
}

fn serialize_tree<S: Serializer>(tree: &Forest<TreeNode>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Rootless<B> {
        children: B,
    }
    let branches = tree.branches()?;
    match branches.only() {
        Some(root) => root.serialize(serializer),
        None => Rootless { children: branches }.serialize(serializer),
    }
}

fn deserialize_tree<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Forest<TreeNode>, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Root {
        inventory: Option<SnapshotInventory>,
        #[serde(default, with = "uuid_optional")]
        parent_uuid: Option<Uuid>,
        #[serde(default)]
        children: Vec<Nested<TreeNode>>,
    }
    let root = Root::deserialize(deserializer)?;
    match (root.inventory, root.parent_uuid) {
        (Some(inventory), parent_uuid) => {
            let value = TreeNode { inventory, parent_uuid };
            Ok(Forest::from_nested(vec![Nested { value, children: root.children }]))
        }
        (None, None) => Ok(Forest::from_nested(root.children)),
        (None, Some(_)) => Err(de::Error::custom("a node without an inventory has a parent")),
    }
}
