//! A disk of a machine, or one that waits for a machine.

use super::wire::{uuid_optional, uuid_simple, whole, whole_optional};
use super::{Date, ImageFormat, ResourceState, VolumeStatus, VolumeType};
use crate::catalog::{LayerRecord, MachineId, Sharing, VolumeRecord};
use crate::units::ByteCount;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A disk.
#[doc = include_str!("../engine/examples/volumes.md")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct VolumeInventory {
    /// The volume.
    #[serde(with = "uuid_simple")]
    pub uuid: Uuid,
    /// Its name.
    pub name: String,
    /// Its description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The machine that it is attached to; for a shareable volume the first one, see `attachments`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "uuid_optional")]
    pub vm_instance_uuid: Option<Uuid>,
    /// Where the file is that it writes to: the head of its chain.
    pub install_path: String,
    /// What it is to its machine.
    #[serde(rename = "type")]
    pub volume_type: VolumeType,
    /// How that file is laid out.
    pub format: ImageFormat,
    /// Its virtual size.
    #[serde(deserialize_with = "whole")]
    pub size: ByteCount,
    /// The bytes that the head takes up, where they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole_optional")]
    pub actual_size: Option<ByteCount>,
    /// Its device id in that machine.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole_optional")]
    pub device_id: Option<u32>,
    /// Whether it may be used.
    pub state: ResourceState,
    /// Where it is in its life.
    pub status: VolumeStatus,
    /// Whether several machines may have it at once. Such a volume is left out of groups.
    pub is_shareable: bool,
    /// The tree that its head hangs from; absent before the first snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "uuid_optional")]
    pub current_tree_uuid: Option<Uuid>,
    /// The longest chain that it may have, in layers with the head counted; left out when that is the pool's.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole_optional")]
    pub chain_max: Option<u32>,
    /// When it was made or adopted.
    pub create_date: Date,
    /// When its record was last changed.
    pub last_op_date: Date,
    /// Since when it is attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attach_date: Option<Date>,
    /// Every machine that has it; left out when there is one at most, which the fields above tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<AttachmentInventory>,
}

/// A volume in a machine.
#[doc = include_str!("../engine/examples/volumes.md")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct AttachmentInventory {
    /// The machine.
    #[serde(with = "uuid_simple")]
    pub vm_instance_uuid: Uuid,
    /// The device id in that machine.
    #[serde(deserialize_with = "whole")]
    pub device_id: u32,
    /// Since when.
    pub last_attach_date: Date,
}

impl VolumeInventory {
    /// The shape of a volume whose head is `head`. `machine_uuid` tells a machine's uuid, `locate` where a blob
    /// of that name is.
    pub(crate) fn new(
        record: &VolumeRecord,
        head: &LayerRecord,
        current_tree_uuid: Option<Uuid>,
        machine_uuid: impl Fn(MachineId) -> Uuid,
        locate: impl Fn(&str) -> String,
    ) -> Self {
        debug_assert_eq!(head.id, record.head, "the layer is the one that the volume writes to");
        debug_assert_eq!(current_tree_uuid.is_some(), record.tree_current.is_some());
        let attachments: Vec<_> = record
            .attachments
            .iter()
            .map(|attachment| AttachmentInventory {
                vm_instance_uuid: machine_uuid(attachment.machine),
                device_id: attachment.device_id,
                last_attach_date: attachment.since.into(),
            })
            .collect();
        let first = attachments.first();
        Self {
            uuid: record.uuid,
            name: record.name.clone(),
            description: record.description.clone(),
            vm_instance_uuid: first.map(|attachment| attachment.vm_instance_uuid),
            install_path: locate(head.blob.as_str()),
            volume_type: record.kind.into(),
            format: head.format.into(),
            size: record.size,
            actual_size: None,
            device_id: first.map(|attachment| attachment.device_id),
            state: ResourceState::Enabled,
            status: VolumeStatus::Ready,
            is_shareable: record.sharing == Sharing::Shareable,
            current_tree_uuid,
            chain_max: record.chain_max,
            create_date: record.created.into(),
            last_op_date: record.changed.into(),
            last_attach_date: first.map(|attachment| attachment.last_attach_date),
            attachments: if attachments.len() > 1 { attachments } else { Vec::new() },
        }
    }
}
