//! A virtual machine.

use super::wire::{uuid_optional, uuid_simple};
use super::{Date, MachineState, VolumeInventory, VolumeType};
use crate::catalog::MachineRecord;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A virtual machine and its disks.
#[doc = include_str!("../engine/examples/machines.md")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct MachineInventory {
    /// The machine.
    #[serde(with = "uuid_simple")]
    pub uuid: Uuid,
    /// Its name.
    pub name: String,
    /// Its description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether another process runs it.
    pub state: MachineState,
    /// The disk that it boots from.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "uuid_optional")]
    pub root_volume_uuid: Option<Uuid>,
    /// Its volumes, in the order of their device ids.
    pub all_volumes: Vec<VolumeInventory>,
    /// The group that its heads descend from: the last one taken or reverted to.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "uuid_optional")]
    pub current_group_uuid: Option<Uuid>,
    /// When it was made.
    pub create_date: Date,
    /// When its record was last changed.
    pub last_op_date: Date,
}

impl MachineInventory {
    /// The shape of a machine with its volumes, which come in the order of their device ids.
    pub(crate) fn new(
        record: &MachineRecord,
        all_volumes: Vec<VolumeInventory>,
        current_group_uuid: Option<Uuid>,
    ) -> Self {
        debug_assert_eq!(current_group_uuid.is_some(), record.group_current.is_some());
        let root = all_volumes.iter().find(|volume| volume.volume_type == VolumeType::Root);
        Self {
            uuid: record.uuid,
            name: record.name.clone(),
            description: record.description.clone(),
            state: record.running.into(),
            root_volume_uuid: root.map(|volume| volume.uuid),
            all_volumes,
            current_group_uuid,
            create_date: record.created.into(),
            last_op_date: record.changed.into(),
        }
    }
}
