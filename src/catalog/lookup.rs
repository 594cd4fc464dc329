//! What hangs on what: through the index, the members of groups, and chains from the top down.

use super::error::{Error, Place, Result};
use super::id::{GroupId, LayerId, MachineId, SnapshotId, TreeId, VolumeId};
use super::index::{self, Index, Value};
use super::kind::Id;
use super::reader::{Reader, short_key};
use super::record::{
    GroupRecord, LayerRecord, MachineRecord, RefRecord, SnapshotRecord, TreeRecord, VolumeRecord,
};
use super::scan::Found;
use super::tables::{self, RefKey};
use crate::storage::BlobName;
use std::collections::HashSet;
use uuid::Uuid;

/// The most layers of one chain that are followed; far more than any cap on chains.
pub const CHAIN_LAYERS_MAX: usize = 16_384;

impl Reader {
    /// The volumes that are attached to a machine.
    pub fn volumes_of(&self, machine: MachineId) -> Result<Found<'_, VolumeRecord>> {
        self.found(Index::VolumeByMachine, machine)
    }

    /// The machines with a name.
    pub fn machines_by_name(&self, name: &str) -> Result<Found<'_, MachineRecord>> {
        self.found(Index::MachineByName, Value::Text(name))
    }

    /// The volumes with a name.
    pub fn volumes_by_name(&self, name: &str) -> Result<Found<'_, VolumeRecord>> {
        self.found(Index::VolumeByName, Value::Text(name))
    }

    /// The volume that writes to a layer.
    pub fn volume_of_head(&self, layer: LayerId) -> Result<Option<VolumeRecord>> {
        self.found(Index::VolumeByHead, layer)?.next().transpose()
    }

    /// The layers that read through to a layer directly.
    pub fn layers_above(&self, layer: LayerId) -> Result<Found<'_, LayerRecord>> {
        self.found(Index::LayerByParent, layer)
    }

    /// The layers that were made for a volume, or adopted with it.
    pub fn layers_of(&self, volume: VolumeId) -> Result<Found<'_, LayerRecord>> {
        self.found(Index::LayerByVolume, volume)
    }

    /// The layer that is in a blob.
    pub fn layer_of_blob(&self, blob: &BlobName) -> Result<Option<LayerRecord>> {
        self.found(Index::LayerByBlob, Value::Text(blob.as_str()))?.next().transpose()
    }

    /// The retired layers.
    pub fn layers_retired(&self) -> Result<Found<'_, LayerRecord>> {
        self.found(Index::LayerRetired, Value::Nothing)
    }

    /// The snapshots of a volume.
    pub fn snapshots_of(&self, volume: VolumeId) -> Result<Found<'_, SnapshotRecord>> {
        self.found(Index::SnapshotByVolume, volume)
    }

    /// The snapshots that name a layer.
    pub fn snapshots_on(&self, layer: LayerId) -> Result<Found<'_, SnapshotRecord>> {
        self.found(Index::SnapshotByLayer, layer)
    }

    /// The snapshots whose parent is a snapshot.
    pub fn children_of_snapshot(&self, snapshot: SnapshotId) -> Result<Found<'_, SnapshotRecord>> {
        self.found(Index::SnapshotByParent, snapshot)
    }

    /// The snapshots of a tree.
    pub fn snapshots_in(&self, tree: TreeId) -> Result<Found<'_, SnapshotRecord>> {
        self.found(Index::SnapshotByTree, tree)
    }

    /// The snapshots of a group that still exist.
    pub fn snapshots_of_group(&self, group: GroupId) -> Result<Found<'_, SnapshotRecord>> {
        self.found(Index::SnapshotByGroup, group)
    }

    /// The snapshots with a name.
    pub fn snapshots_by_name(&self, name: &str) -> Result<Found<'_, SnapshotRecord>> {
        self.found(Index::SnapshotByName, Value::Text(name))
    }

    /// The trees of a volume.
    pub fn trees_of(&self, volume: VolumeId) -> Result<Found<'_, TreeRecord>> {
        self.found(Index::TreeByVolume, volume)
    }

    /// The groups of a machine.
    pub fn groups_of(&self, machine: MachineId) -> Result<Found<'_, GroupRecord>> {
        self.found(Index::GroupByMachine, machine)
    }

    /// The groups with a name.
    pub fn groups_by_name(&self, name: &str) -> Result<Found<'_, GroupRecord>> {
        self.found(Index::GroupByName, Value::Text(name))
    }

    /// The groups whose parent is a group.
    pub fn children_of_group(&self, group: GroupId) -> Result<Found<'_, GroupRecord>> {
        self.found(Index::GroupByParent, group)
    }

    /// The groups with a user tag.
    pub fn groups_by_user_tag(&self, tag: &str) -> Result<Found<'_, GroupRecord>> {
        self.found(Index::GroupByUserTag, Value::Text(tag))
    }

    /// The groups with a system tag.
    pub fn groups_by_system_tag(&self, tag: &str) -> Result<Found<'_, GroupRecord>> {
        self.found(Index::GroupBySystemTag, Value::Text(tag))
    }

    /// The groups with a tag uuid.
    pub fn groups_by_tag_uuid(&self, tag: Uuid) -> Result<Found<'_, GroupRecord>> {
        self.found(Index::GroupByTagUuid, Value::Uuid(tag))
    }

    /// The members of a group, by ordinal.
    pub fn refs_of(&self, group: GroupId) -> Result<Vec<RefRecord>> {
        let range =
            self.refs.range::<&RefKey>(&tables::ref_key(group, 0)..=&tables::ref_key(group, u32::MAX))?;
        range.map(|entry| entry.map_err(Error::from).and_then(|(key, value)| ref_at(&key, &value))).collect()
    }

    /// One member of a group.
    pub fn ref_of(&self, group: GroupId, ordinal: u32) -> Result<Option<RefRecord>> {
        let key = tables::ref_key(group, ordinal);
        let value = self.refs.get(&key)?;
        value.map(|value| tables::decode_ref(&key, value.value())).transpose()
    }

    /// All refs, group by group.
    pub fn refs(&self) -> Result<impl Iterator<Item = Result<RefRecord>> + use<>> {
        let range = self.refs.range::<&RefKey>(..)?;
        Ok(range.map(|entry| entry.map_err(Error::from).and_then(|(key, value)| ref_at(&key, &value))))
    }

    /// The membership of a snapshot, which outlives the snapshot.
    pub fn ref_of_snapshot(&self, snapshot: SnapshotId) -> Result<Option<RefRecord>> {
        Ok(self.refs_found(Index::RefBySnapshot, snapshot)?.into_iter().next())
    }

    /// The memberships of snapshots that are gone and had a uuid.
    pub fn refs_of_gone_snapshot(&self, snapshot: Uuid) -> Result<Vec<RefRecord>> {
        self.refs_found(Index::RefByGoneSnapshot, Value::Uuid(snapshot))
    }

    /// The memberships of the snapshots of a volume, which outlive the volume.
    pub fn refs_by_volume(&self, volume: Uuid) -> Result<Vec<RefRecord>> {
        self.refs_found(Index::RefByVolume, Value::Uuid(volume))
    }

    fn refs_found<'v>(&self, index: Index, value: impl Into<Value<'v>>) -> Result<Vec<RefRecord>> {
        let mut refs = Vec::new();
        for entry in self.entries(index, value)? {
            let (key, _) = entry?;
            let (group, ordinal) = index::ref_of(key.value()).ok_or_else(short_key)?;
            let record = self.ref_of(group, ordinal)?;
            refs.push(record.ok_or(Error::Dangling { from: Place::Index, to: group.entity() })?);
        }
        Ok(refs)
    }

    /// A layer and all that it reads through, from the top down.
    ///
    /// # Errors
    ///
    /// [`Error::Dangling`] when a layer is missing; [`Error::ChainLoops`]; [`Error::ChainTooLong`].
    pub fn chain(&self, top: LayerId) -> Result<Vec<LayerRecord>> {
        let mut met = HashSet::new();
        let mut chain: Vec<LayerRecord> = Vec::new();
        let mut from = Place::Record(top.entity());
        let mut next = Some(top);
        while let Some(id) = next {
            if !met.insert(id) {
                return Err(Error::ChainLoops { layer: id });
            }
            if chain.len() == CHAIN_LAYERS_MAX {
                return Err(Error::ChainTooLong { layer: top, limit: CHAIN_LAYERS_MAX });
            }
            let layer: LayerRecord = self.named(from, id)?;
            from = Place::Record(id.entity());
            next = layer.parent;
            chain.push(layer);
        }
        Ok(chain)
    }
}

/// Decodes one entry of the table of refs.
fn ref_at(
    key: &redb::AccessGuard<'_, &'static RefKey>,
    value: &redb::AccessGuard<'_, &'static [u8]>,
) -> Result<RefRecord> {
    tables::decode_ref(key.value(), value.value())
}

#[cfg(test)]
mod tests {
    use super::super::encoding::{Malformed, encode};
    use super::super::kind::{Kind, Record};
    use super::super::testing::*;
    use super::*;
    use crate::catalog::LayerState;

    fn ids<R: Record>(found: impl Iterator<Item = Result<R>>) -> Result<Vec<u64>> {
        found.map(|record| record.map(|record| record.id().number())).collect()
    }

    #[test]
    fn a_uuid_leads_to_its_thing_and_to_no_other_kind() -> Result<()> {
        let catalog = world_catalog();
        let reader = catalog.read()?;
        let uuid = uuid_of(SnapshotId(20));
        assert_eq!(reader.resolve(uuid)?, Some(SnapshotId(20).into()));
        assert_eq!(reader.snapshot_by_uuid(uuid)?, reader.snapshot(SnapshotId(20))?);
        assert_eq!(reader.group_by_uuid(uuid)?, None);
        assert_eq!(reader.resolve(Uuid::from_u128(3))?, None);
        Ok(())
    }

    #[test]
    fn every_index_finds_what_hangs_there() -> Result<()> {
        let catalog = world_catalog();
        let reader = catalog.read()?;
        assert_eq!(ids(reader.volumes_of(MachineId(1))?)?, [1, 2]);
        assert_eq!(ids(reader.volumes_by_name("volume-2")?)?, [2]);
        assert_eq!(ids(reader.machines_by_name("machine-1")?)?, [1]);
        assert_eq!(ids(reader.layers_above(LayerId(10))?)?, [11]);
        assert_eq!(ids(reader.layers_of(VolumeId(2))?)?, [20, 21, 22]);
        assert_eq!(ids(reader.layers_retired()?)?, [0; 0]);
        assert_eq!(ids(reader.snapshots_of(VolumeId(1))?)?, [10, 11]);
        assert_eq!(ids(reader.snapshots_on(LayerId(21))?)?, [21]);
        assert_eq!(ids(reader.snapshots_in(TreeId(2))?)?, [20, 21]);
        assert_eq!(ids(reader.snapshots_of_group(GroupId(1))?)?, [10, 20]);
        assert_eq!(ids(reader.snapshots_by_name("snapshot-11")?)?, [11]);
        assert_eq!(ids(reader.children_of_snapshot(SnapshotId(20))?)?, [21]);
        assert_eq!(ids(reader.trees_of(VolumeId(1))?)?, [1]);
        assert_eq!(ids(reader.groups_of(MachineId(1))?)?, [1, 2]);
        assert_eq!(ids(reader.groups_by_name("group-2")?)?, [2]);
        assert_eq!(ids(reader.children_of_group(GroupId(1))?)?, [2]);
        assert_eq!(ids(reader.groups_by_user_tag("nightly")?)?, [1]);
        assert_eq!(ids(reader.groups_by_system_tag("CreatedBySystem")?)?, [1]);
        assert_eq!(ids(reader.groups_by_tag_uuid(Uuid::from_u128(0xfeed))?)?, [1]);
        assert_eq!(reader.volume_of_head(LayerId(22))?.map(|volume| volume.id), Some(VolumeId(2)));
        let blob = BlobName::parse("layer-21.qcow2").expect("a lawful name");
        assert_eq!(reader.layer_of_blob(&blob)?.map(|layer| layer.id), Some(LayerId(21)));
        let found = reader.refs_by_volume(uuid_of(VolumeId(2)))?;
        let found: Vec<_> = found.iter().map(|member| (member.group.0, member.ordinal)).collect();
        assert_eq!(found, [(1, 1), (2, 1)]);
        assert_eq!(reader.ref_of_snapshot(SnapshotId(20))?, reader.ref_of(GroupId(1), 1)?);
        assert_eq!(reader.refs_of(GroupId(2))?.len(), 2);
        Ok(())
    }

    #[test]
    fn what_is_found_comes_in_the_order_of_creation_and_backwards() -> Result<()> {
        let catalog = new_catalog();
        let disk = volume(1, 1, 0, 1);
        let edits: Vec<_> = (1..=300).rev().map(|id| snapshot(id, &disk, 1, None, None).into()).collect();
        catalog.commit(None, &edits)?;
        let reader = catalog.read()?;
        assert_eq!(ids(reader.snapshots_of(disk.id)?)?, (1..=300).collect::<Vec<_>>());
        assert_eq!(ids(reader.snapshots_of(disk.id)?.rev().take(2))?, [300, 299]);
        assert_eq!(ids(reader.snapshots(SnapshotId(299))?)?, [299, 300]);
        assert_eq!(ids(reader.snapshots(SnapshotId(0))?.rev().take(1))?, [300]);
        Ok(())
    }

    #[test]
    fn a_ref_of_a_snapshot_that_is_gone_is_still_found() -> Result<()> {
        let catalog = world_catalog();
        let mut member = catalog.read()?.ref_of(GroupId(1), 0)?.expect("the world has it");
        member.snapshot_deleted = true;
        catalog.commit(None, &[member.clone().into(), super::super::Edit::RemoveSnapshot(SnapshotId(10))])?;
        let reader = catalog.read()?;
        assert_eq!(reader.refs_of_gone_snapshot(uuid_of(SnapshotId(10)))?, [member.clone()]);
        assert_eq!(reader.ref_of_snapshot(SnapshotId(10))?, Some(member));
        assert_eq!(reader.refs_of_gone_snapshot(uuid_of(SnapshotId(11)))?, []);
        Ok(())
    }

    #[test]
    fn a_chain_goes_from_the_top_down_and_never_in_circles() -> Result<()> {
        let catalog = world_catalog();
        assert_eq!(ids(catalog.read()?.chain(LayerId(12))?.into_iter().map(Ok))?, [12, 11, 10]);
        let edits = [
            layer(30, 1, Some(31), LayerState::Frozen).into(),
            layer(31, 1, Some(30), LayerState::Frozen).into(),
            layer(40, 1, Some(99), LayerState::Frozen).into(),
        ];
        catalog.commit(None, &edits)?;
        let reader = catalog.read()?;
        let Err(Error::ChainLoops { layer: LayerId(30) }) = reader.chain(LayerId(30)) else {
            panic!("the chain does not end");
        };
        let Err(Error::Dangling { from, to }) = reader.chain(LayerId(40)) else {
            panic!("the chain has a hole");
        };
        assert_eq!((from, to), (Place::Record(LayerId(40).into()), LayerId(99).into()));
        Ok(())
    }

    #[test]
    fn a_reader_ends_with_its_catalogue() -> Result<()> {
        let catalog = world_catalog();
        let reader = catalog.read()?;
        catalog.close()?;
        let Err(Error::Closed) = reader.snapshots_of(VolumeId(1))?.collect::<Result<Vec<_>>>() else {
            panic!("a closed catalogue was read");
        };
        Ok(())
    }

    #[test]
    fn a_record_under_a_foreign_key_is_refused() -> Result<()> {
        let catalog = world_catalog();
        let transaction = catalog.database.begin_write()?;
        transaction
            .open_table(tables::records(Kind::Machine))?
            .insert(&tables::id_key(MachineId(1)), encode(&machine(2)).as_slice())?;
        transaction.commit()?;
        let Err(Error::Malformed { source: Malformed::Misplaced { id: 2 }, .. }) =
            catalog.read()?.machine(MachineId(1))
        else {
            panic!("machine 2 was taken for machine 1");
        };
        Ok(())
    }
}
