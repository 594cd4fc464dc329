//! A group and its members.

use super::wire::{uuid_list, uuid_optional, uuid_simple, whole};
use super::{Consistency, Date, Named, VolumeType};
use crate::catalog::{GroupRecord, RefRecord};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The snapshots taken of all disks of a machine at one moment.
#[doc = include_str!("../engine/examples/groups.md")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct GroupInventory {
    /// The group.
    #[serde(with = "uuid_simple")]
    pub uuid: Uuid,
    /// The members at creation; never lowered, so a group of which a member was deleted says both.
    #[serde(deserialize_with = "whole")]
    pub snapshot_count: u32,
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
    /// One for each member, in the order of the device ids at creation.
    pub volume_snapshot_refs: Vec<RefInventory>,
    /// The group that the disks descended from at that moment.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "uuid_optional")]
    pub parent_group_uuid: Option<Uuid>,
    /// How far the members can be trusted to agree. Always present in what this crate answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistency: Option<Consistency>,
    /// The tags that were given by uuid.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "uuid_list")]
    pub tag_uuids: Vec<Uuid>,
    /// The user's tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user_tags: Vec<String>,
    /// The system's tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub system_tags: Vec<String>,
    /// The volumes of the machine that are not in the group. Only in the answer to the call that made it: the
    /// catalogue does not keep it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes_left_out: Vec<Named>,
}

/// A group's own record of one member: outlives the snapshot and the volume.
#[doc = include_str!("../engine/examples/groups.md")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RefInventory {
    /// The snapshot, living or not.
    #[serde(with = "uuid_simple")]
    pub volume_snapshot_uuid: Uuid,
    /// The group.
    #[serde(with = "uuid_simple")]
    pub volume_snapshot_group_uuid: Uuid,
    /// The device id of the volume when the snapshot was taken.
    #[serde(deserialize_with = "whole")]
    pub device_id: u32,
    /// Whether the snapshot is gone.
    pub snapshot_deleted: bool,
    /// The volume, living or not.
    #[serde(with = "uuid_simple")]
    pub volume_uuid: Uuid,
    /// The name of the volume at that moment.
    pub volume_name: String,
    /// What the volume was to its machine at that moment.
    pub volume_type: VolumeType,
    /// Where the file was that held the snapshot when it was taken.
    pub volume_snapshot_install_path: String,
    /// The name of the snapshot when it was taken.
    pub volume_snapshot_name: String,
    /// When the member was recorded.
    pub create_date: Date,
    /// When the record of the member was last changed, its deletion included.
    pub last_op_date: Date,
    /// Since when the volume had been attached to the machine. Always present in what this crate answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_last_attach_date: Option<Date>,
}

impl GroupInventory {
    /// The member that is of a volume, if there is one.
    #[must_use]
    pub fn member(&self, volume: Uuid) -> Option<&RefInventory> {
        self.volume_snapshot_refs.iter().find(|member| member.volume_uuid == volume)
    }

    /// The shape of a group, its members in the order of `refs`. `locate` tells where a blob of that name is.
    pub(crate) fn new(
        record: &GroupRecord,
        refs: &[RefRecord],
        parent_group_uuid: Option<Uuid>,
        locate: impl Fn(&str) -> String,
    ) -> Self {
        Self {
            uuid: record.uuid,
            snapshot_count: record.snapshot_count,
            name: record.name.clone(),
            description: record.description.clone(),
            vm_instance_uuid: record.machine_uuid,
            create_date: record.created.into(),
            last_op_date: record.changed.into(),
            volume_snapshot_refs: refs
                .iter()
                .map(|member| RefInventory::new(member, record.uuid, &locate))
                .collect(),
            parent_group_uuid,
            consistency: Some(record.consistency.into()),
            tag_uuids: record.tags.tag_uuids.clone(),
            user_tags: record.tags.user_tags.clone(),
            system_tags: record.tags.system_tags.clone(),
            volumes_left_out: Vec::new(),
        }
    }

    /// Whether a member is gone.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        let living = self.volume_snapshot_refs.iter().filter(|member| !member.snapshot_deleted).count();
        u32::try_from(living) != Ok(self.snapshot_count)
    }
}

impl RefInventory {
    /// The shape of a member of the group `group_uuid`.
    pub(crate) fn new(record: &RefRecord, group_uuid: Uuid, locate: impl Fn(&str) -> String) -> Self {
        Self {
            volume_snapshot_uuid: record.snapshot_uuid,
            volume_snapshot_group_uuid: group_uuid,
            device_id: record.device_id,
            snapshot_deleted: record.snapshot_deleted,
            volume_uuid: record.volume_uuid,
            volume_name: record.volume_name.clone(),
            volume_type: record.volume_kind.into(),
            volume_snapshot_install_path: locate(record.blob.as_str()),
            volume_snapshot_name: record.snapshot_name.clone(),
            create_date: record.created.into(),
            last_op_date: record.changed.into(),
            volume_last_attach_date: Some(record.attached_since.into()),
        }
    }
}
