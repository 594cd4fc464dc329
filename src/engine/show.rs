//! From records to what callers are shown.

use super::error::Result;
use super::pool::Pool;
use crate::catalog::{
    GroupRecord, MachineId, MachineRecord, Reader, RefRecord, SnapshotRecord, TreeRecord, VolumeRecord,
};
use crate::inventory::{
    GroupInventory, MachineInventory, SnapshotInventory, SnapshotRelations, TreeInventory, VolumeInventory,
};
use crate::storage::{BlobName, Store};
use std::collections::HashMap;
use uuid::Uuid;

impl Pool {
    /// Where a file is, for people and for other programs.
    pub(super) fn locate(&self, blob: &str) -> String {
        BlobName::parse(blob).map_or_else(|_| blob.to_owned(), |name| self.store().location(&name))
    }

    pub(super) fn show_group(
        &self,
        reader: &Reader,
        group: &GroupRecord,
        refs: &[RefRecord],
    ) -> Result<GroupInventory> {
        let parent = match group.parent {
            Some(parent) => reader.group(parent)?.map(|parent| parent.uuid),
            None => None,
        };
        Ok(GroupInventory::new(group, refs, parent, |blob| self.locate(blob)))
    }

    pub(super) fn show_snapshot(
        &self,
        reader: &Reader,
        snapshot: &SnapshotRecord,
    ) -> Result<SnapshotInventory> {
        let layer = reader.need_layer(snapshot.layer)?;
        let tree = reader.need_tree(snapshot.tree)?;
        let parent_uuid = match snapshot.parent {
            Some(parent) => reader.snapshot(parent)?.map(|parent| parent.uuid),
            None => None,
        };
        let group_uuid = match snapshot.group {
            Some(group) => reader.group(group)?.map(|group| group.uuid),
            None => None,
        };
        let relations = SnapshotRelations { layer: &layer, tree: &tree, parent_uuid, group_uuid };
        Ok(SnapshotInventory::new(snapshot, relations, |blob| self.locate(blob)))
    }

    pub(super) fn show_tree(&self, reader: &Reader, tree: &TreeRecord) -> Result<TreeInventory> {
        let volume = reader.need_volume(tree.volume)?;
        let snapshots = reader
            .snapshots_in(tree.id)?
            .into_vec()?
            .iter()
            .map(|snapshot| self.show_snapshot(reader, snapshot))
            .collect::<Result<_>>()?;
        Ok(TreeInventory::new(tree, &volume, snapshots))
    }

    pub(super) fn show_volume(&self, reader: &Reader, volume: &VolumeRecord) -> Result<VolumeInventory> {
        let head = reader.need_layer(volume.head)?;
        let tree = match volume.tree_current {
            Some(tree) => Some(reader.need_tree(tree)?.uuid),
            None => None,
        };
        let mut machines: HashMap<MachineId, Uuid> = HashMap::new();
        for attachment in &volume.attachments {
            machines.insert(attachment.machine, reader.need_machine(attachment.machine)?.uuid);
        }
        Ok(VolumeInventory::new(volume, &head, tree, |machine| machines[&machine], |blob| self.locate(blob)))
    }

    pub(super) fn show_machine(&self, reader: &Reader, machine: &MachineRecord) -> Result<MachineInventory> {
        let mut volumes = reader.volumes_of(machine.id)?.into_vec()?;
        volumes.sort_by_key(|volume| volume.attachment(machine.id).map(|place| place.device_id));
        let volumes = volumes.iter().map(|volume| self.show_volume(reader, volume)).collect::<Result<_>>()?;
        let current = match machine.group_current {
            Some(group) => reader.group(group)?.map(|group| group.uuid),
            None => None,
        };
        Ok(MachineInventory::new(machine, volumes, current))
    }
}
