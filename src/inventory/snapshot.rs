//! A snapshot of one volume.

use super::wire::{uuid_list, uuid_optional, uuid_simple, whole, whole_optional};
use super::{Date, ImageFormat, ResourceState, SnapshotStatus, SnapshotType, VolumeType};
use crate::catalog::{LayerRecord, SnapshotRecord, TreeRecord};
use crate::units::ByteCount;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A name for the content of a volume at one moment.
#[doc = include_str!("../engine/examples/snapshots.md")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SnapshotInventory {
    /// The snapshot.
    #[serde(with = "uuid_simple")]
    pub uuid: Uuid,
    /// Its name.
    pub name: String,
    /// Its description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// How it is made.
    #[serde(rename = "type")]
    pub snapshot_type: SnapshotType,
    /// The volume.
    #[serde(with = "uuid_simple")]
    pub volume_uuid: Uuid,
    /// The tree that it is in.
    #[serde(with = "uuid_simple")]
    pub tree_uuid: Uuid,
    /// The snapshot that it descends from.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "uuid_optional")]
    pub parent_uuid: Option<Uuid>,
    /// Where the file is that holds it now. Its name does not tell which snapshot it holds.
    pub primary_storage_install_path: String,
    /// What the volume is to its machine.
    pub volume_type: VolumeType,
    /// How that file is laid out.
    pub format: ImageFormat,
    /// 1 for the first snapshot of a volume, 0 for one that starts a later tree, its parent's + 1 otherwise.
    #[serde(deserialize_with = "whole")]
    pub distance: u32,
    /// Whether the head hangs from it, or hung from it when its tree was last current. At most one in each tree:
    /// a tree that has come of the deletion of a root has none before it becomes current.
    pub latest: bool,
    /// The bytes that the file took up when it was frozen.
    #[serde(deserialize_with = "whole")]
    pub size: ByteCount,
    /// The virtual size of the disk at that moment. Always present in what this crate answers.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole_optional")]
    pub virtual_size: Option<ByteCount>,
    /// Whether it can be reverted to.
    pub state: ResourceState,
    /// Where it is in its life.
    pub status: SnapshotStatus,
    /// The group that it is a member of.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "uuid_optional")]
    pub group_uuid: Option<Uuid>,
    /// The moment that it shows.
    pub create_date: Date,
    /// When its record was last changed.
    pub last_op_date: Date,
    /// The tags that were given by uuid.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "uuid_list")]
    pub tag_uuids: Vec<Uuid>,
    /// The user's tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user_tags: Vec<String>,
    /// The system's tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub system_tags: Vec<String>,
    /// The names of those who want it kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<String>,
}

/// What a snapshot is to the things around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SnapshotRelations<'a> {
    /// The layer that holds it.
    pub(crate) layer: &'a LayerRecord,
    /// Its tree.
    pub(crate) tree: &'a TreeRecord,
    /// The snapshot that it descends from.
    pub(crate) parent_uuid: Option<Uuid>,
    /// The group that it is a member of.
    pub(crate) group_uuid: Option<Uuid>,
}

impl SnapshotInventory {
    /// The shape of a snapshot. `locate` tells where a blob of that name is.
    pub(crate) fn new(
        record: &SnapshotRecord,
        relations: SnapshotRelations<'_>,
        locate: impl Fn(&str) -> String,
    ) -> Self {
        debug_assert_eq!(relations.layer.id, record.layer, "the layer is the one that the snapshot names");
        debug_assert_eq!(relations.tree.id, record.tree, "the tree is the one that the snapshot is in");
        debug_assert_eq!(relations.parent_uuid.is_some(), record.parent.is_some());
        debug_assert_eq!(relations.group_uuid.is_some(), record.group.is_some());
        Self {
            uuid: record.uuid,
            name: record.name.clone(),
            description: record.description.clone(),
            snapshot_type: SnapshotType::Hypervisor,
            volume_uuid: record.volume_uuid,
            tree_uuid: relations.tree.uuid,
            parent_uuid: relations.parent_uuid,
            primary_storage_install_path: locate(relations.layer.blob.as_str()),
            volume_type: record.volume_kind.into(),
            format: relations.layer.format.into(),
            distance: record.distance,
            latest: relations.tree.latest == Some(record.id),
            size: record.size,
            virtual_size: Some(record.size_virtual),
            state: ResourceState::Enabled,
            status: SnapshotStatus::Ready,
            group_uuid: relations.group_uuid,
            create_date: record.created.into(),
            last_op_date: record.changed.into(),
            tag_uuids: record.tags.tag_uuids.clone(),
            user_tags: record.tags.user_tags.clone(),
            system_tags: record.tags.system_tags.clone(),
            holds: record.holds.clone(),
        }
    }
}
