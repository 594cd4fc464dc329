//! What is decided upon: the records of one machine, or of one volume, as plain values of one moment.
//!
//! A view is whole: every chain from the head down to its last layer, the current tree and the snapshot that the
//! head hangs from. A decision made on it holds as long as the catalogue is at [`MachineView::generation`], or as long
//! as nobody else may change these records.

use super::error::{Place, Result};
use super::id::{MachineId, VolumeId};
use super::kind::Id;
use super::number::IdSource;
use super::reader::Reader;
use super::record::{
    Attachment, GroupRecord, LayerRecord, MachineRecord, SnapshotRecord, TreeRecord, VolumeRecord,
};
use std::collections::BTreeMap;

/// A machine with its volumes.
#[derive(Clone, Debug)]
pub struct MachineView {
    /// The number of commits up to the moment of the view.
    pub generation: u64,
    pub machine: MachineRecord,
    /// The group that the heads descend from.
    pub group_current: Option<GroupRecord>,
    /// The attached volumes, by device id.
    pub volumes: Vec<VolumeRecord>,
    /// What each volume reads, the head first. Every attached volume has one.
    pub chains: BTreeMap<VolumeId, Vec<LayerRecord>>,
    /// The current tree of each volume that has one.
    pub trees: BTreeMap<VolumeId, TreeRecord>,
    /// The snapshot that each head hangs from, where there is one.
    pub latest: BTreeMap<VolumeId, SnapshotRecord>,
    /// Ids for new records.
    pub ids: IdSource,
}

/// A volume on its own.
#[derive(Clone, Debug)]
pub struct VolumeView {
    /// The number of commits up to the moment of the view.
    pub generation: u64,
    /// The machines that it is attached to.
    pub machines: Vec<MachineRecord>,
    pub volume: VolumeRecord,
    /// What it reads, the head first.
    pub chain: Vec<LayerRecord>,
    /// Its current tree.
    pub tree: Option<TreeRecord>,
    /// The snapshot that the head hangs from.
    pub latest: Option<SnapshotRecord>,
    /// Ids for new records.
    pub ids: IdSource,
}

impl VolumeRecord {
    /// How it is attached to a machine.
    pub fn attachment_to(&self, machine: MachineId) -> Option<&Attachment> {
        self.attachments.iter().find(|attachment| attachment.machine == machine)
    }
}

impl VolumeView {
    /// The machine of a volume that only one may have.
    pub fn machine(&self) -> Option<&MachineRecord> {
        self.machines.first()
    }
}

impl Reader {
    /// A machine with its volumes; none when there is no such machine.
    ///
    /// # Errors
    ///
    /// `Error::Dangling`, `Error::ChainLoops` or `Error::ChainTooLong` when the records do not hold together.
    pub fn machine_view(&self, id: MachineId) -> Result<Option<MachineView>> {
        let Some(machine) = self.machine(id)? else { return Ok(None) };
        let group_current =
            machine.group_current.map(|group| self.named(Place::Record(id.entity()), group)).transpose()?;
        let mut volumes: Vec<VolumeRecord> = self.volumes_of(id)?.collect::<Result<_>>()?;
        volumes.sort_by_key(|volume| volume.attachment_to(id).map(|attachment| attachment.device_id));
        let mut view = MachineView {
            generation: self.generation(),
            machine,
            group_current,
            volumes: Vec::new(),
            chains: BTreeMap::new(),
            trees: BTreeMap::new(),
            latest: BTreeMap::new(),
            ids: self.next_ids(),
        };
        for volume in volumes {
            let parts = self.parts(&volume)?;
            view.chains.insert(volume.id, parts.chain);
            view.trees.extend(parts.tree.map(|tree| (volume.id, tree)));
            view.latest.extend(parts.latest.map(|latest| (volume.id, latest)));
            view.volumes.push(volume);
        }
        Ok(Some(view))
    }

    /// A volume on its own; none when there is no such volume.
    ///
    /// # Errors
    ///
    /// As [`Reader::machine_view`].
    pub fn volume_view(&self, id: VolumeId) -> Result<Option<VolumeView>> {
        let Some(volume) = self.volume(id)? else { return Ok(None) };
        let from = Place::Record(id.entity());
        let machines = volume.attachments.iter().map(|attachment| self.named(from, attachment.machine));
        let machines = machines.collect::<Result<_>>()?;
        let Parts { chain, tree, latest } = self.parts(&volume)?;
        let (generation, ids) = (self.generation(), self.next_ids());
        Ok(Some(VolumeView { generation, machines, volume, chain, tree, latest, ids }))
    }

    fn parts(&self, volume: &VolumeRecord) -> Result<Parts> {
        let from = Place::Record(volume.id.entity());
        let tree: Option<TreeRecord> = volume.tree_current.map(|id| self.named(from, id)).transpose()?;
        let latest = match &tree {
            Some(TreeRecord { id, latest: Some(latest), .. }) => {
                Some(self.named(Place::Record(id.entity()), *latest)?)
            }
            _ => None,
        };
        Ok(Parts { chain: self.chain(volume.head)?, tree, latest })
    }
}

/// What a view holds of one volume.
struct Parts {
    chain: Vec<LayerRecord>,
    tree: Option<TreeRecord>,
    latest: Option<SnapshotRecord>,
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::*;

    #[test]
    fn a_view_holds_every_part_of_its_machine() -> Result<()> {
        let catalog = world_catalog();
        // Device 0 is created last, so the order of ids is not the order of devices.
        let mut second = volume(2, 1, 7, 22);
        second.tree_current = Some(TreeId(2));
        catalog.commit(None, &[second.into()])?;
        let mut first = volume(1, 1, 9, 12);
        first.tree_current = Some(TreeId(1));
        catalog.commit(None, &[first.into()])?;
        let view = catalog.read()?.machine_view(MachineId(1))?.expect("the world has it");
        assert_eq!(view.generation, 3);
        assert_eq!(view.volumes.iter().map(|volume| volume.id.0).collect::<Vec<_>>(), [2, 1]);
        let chain: Vec<_> = view.chains[&VolumeId(1)].iter().map(|layer| layer.id.0).collect();
        assert_eq!(chain, [12, 11, 10]);
        assert_eq!(view.trees[&VolumeId(2)].id, TreeId(2));
        assert_eq!(view.latest[&VolumeId(2)].id, SnapshotId(21));
        assert_eq!(view.group_current.map(|group| group.id), Some(GroupId(2)));
        assert!(catalog.read()?.machine_view(MachineId(8))?.is_none());
        Ok(())
    }

    #[test]
    fn a_volume_without_a_machine_has_a_view() -> Result<()> {
        let catalog = new_catalog();
        let disk = VolumeRecord { attachments: Vec::new(), ..volume(1, 1, 0, 1) };
        catalog.commit(None, &[disk.clone().into(), layer(1, 1, None, LayerState::Head).into()])?;
        let view = catalog.read()?.volume_view(VolumeId(1))?.expect("it was just made");
        assert_eq!((view.machine(), &view.volume), (None, &disk));
        assert_eq!((view.chain.len(), view.tree, view.latest), (1, None, None));
        Ok(())
    }
}
