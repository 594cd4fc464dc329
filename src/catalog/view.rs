//! What is decided upon: the records of one machine, or of one volume, as plain values of one moment.
//!
//! A view is whole: every chain from the head down to its last layer, the current tree and the snapshot that the
//! head hangs from. A decision made on it holds as long as the catalogue is at its generation, or as long as
//! nobody else may change these records.

use super::error::{Place, Result};
use super::id::{MachineId, VolumeId};
use super::kind::Id;
use super::reader::Reader;
use super::record::{GroupRecord, LayerRecord, MachineRecord, SnapshotRecord, TreeRecord, VolumeRecord};

/// A machine with its volumes.
#[derive(Clone, Debug)]
pub struct MachineView {
    /// The number of commits up to the moment of the view.
    pub generation: u64,
    pub machine: MachineRecord,
    /// The group that the heads descend from.
    pub group_current: Option<GroupRecord>,
    /// The attached volumes, by device id.
    pub disks: Vec<DiskView>,
}

/// A volume on its own, with the machines that it is attached to.
#[derive(Clone, Debug)]
pub struct VolumeView {
    /// The number of commits up to the moment of the view.
    pub generation: u64,
    pub machines: Vec<MachineRecord>,
    pub disk: DiskView,
}

/// A volume and all that it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskView {
    pub volume: VolumeRecord,
    /// The layers, the head first.
    pub chain: Vec<LayerRecord>,
    /// The tree that the head hangs from, and the snapshot there.
    pub current: Option<(TreeRecord, SnapshotRecord)>,
    /// Whether the volume has any tree.
    pub has_trees: bool,
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
        let mut volumes: Vec<VolumeRecord> = self.volumes_of(id)?.into_vec()?;
        volumes.sort_by_key(|volume| volume.attachment(id).map(|attachment| attachment.device_id));
        let disks = volumes.into_iter().map(|volume| self.disk_view(volume)).collect::<Result<_>>()?;
        Ok(Some(MachineView { generation: self.generation(), machine, group_current, disks }))
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
        Ok(Some(VolumeView { generation: self.generation(), machines, disk: self.disk_view(volume)? }))
    }

    fn disk_view(&self, volume: VolumeRecord) -> Result<DiskView> {
        let from = Place::Record(volume.id.entity());
        let tree: Option<TreeRecord> = volume.tree_current.map(|id| self.named(from, id)).transpose()?;
        let current = match tree {
            Some(tree) => match tree.latest {
                Some(latest) => {
                    let latest = self.named(Place::Record(tree.id.entity()), latest)?;
                    Some((tree, latest))
                }
                None => None,
            },
            None => None,
        };
        Ok(DiskView {
            chain: self.chain(volume.head)?,
            has_trees: self.trees_of(volume.id)?.next().is_some(),
            current,
            volume,
        })
    }
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
        assert_eq!(view.disks.iter().map(|disk| disk.volume.id.0).collect::<Vec<_>>(), [2, 1]);
        let chain: Vec<_> = view.disks[1].chain.iter().map(|layer| layer.id.0).collect();
        assert_eq!(chain, [12, 11, 10]);
        let (tree, latest) = view.disks[0].current.as_ref().expect("the second volume has a tree");
        assert_eq!((tree.id, latest.id), (TreeId(2), SnapshotId(21)));
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
        assert_eq!((view.machines.len(), &view.disk.volume), (0, &disk));
        assert_eq!((view.disk.chain.len(), view.disk.current, view.disk.has_trees), (1, None, false));
        Ok(())
    }
}
