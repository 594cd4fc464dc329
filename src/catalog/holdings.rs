//! What a change of snapshots can touch: all records around some volumes and groups, as plain values of one moment.

use super::error::Result;
use super::id::{GroupId, LayerId, MachineId, VolumeId};
use super::reader::Reader;
use super::record::{
    GroupRecord, LayerRecord, MachineRecord, RefRecord, SnapshotRecord, TreeRecord, VolumeRecord,
};
use std::collections::BTreeMap;

/// The records around some volumes and groups.
///
/// Whole are: the trees and snapshots of the volumes; their layers, all that these read through, and what reads
/// directly through any of them; the members and children of the groups; the machines of both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    pub machines: Vec<MachineRecord>,
    pub volumes: Vec<VolumeRecord>,
    pub trees: Vec<TreeRecord>,
    pub snapshots: Vec<SnapshotRecord>,
    pub layers: Vec<LayerRecord>,
    pub groups: Vec<GroupRecord>,
    pub refs: Vec<RefRecord>,
}

impl Reader {
    /// Gathers what is around some volumes and groups. A volume that is gone is left out; its layers are not.
    ///
    /// # Errors
    ///
    /// `Error::Dangling` when the records do not hold together.
    pub fn holdings(&self, volumes: &[VolumeId], groups: &[GroupId]) -> Result<Holdings> {
        let mut holdings = Holdings::default();
        let mut machines: BTreeMap<MachineId, MachineRecord> = BTreeMap::new();
        let mut layers: BTreeMap<LayerId, LayerRecord> = BTreeMap::new();
        for id in volumes {
            if let Some(volume) = self.volume(*id)? {
                for attachment in &volume.attachments {
                    machines.insert(attachment.machine, self.need_machine(attachment.machine)?);
                }
                holdings.volumes.push(volume);
            }
            holdings.trees.extend(self.trees_of(*id)?.into_vec()?);
            holdings.snapshots.extend(self.snapshots_of(*id)?.into_vec()?);
            for layer in self.layers_of(*id)? {
                self.add_layers_below(Some(layer?), &mut layers)?;
            }
        }
        for snapshot in &holdings.snapshots {
            self.add_layers_below(self.layer(snapshot.layer)?, &mut layers)?;
        }
        for head in holdings.volumes.iter().map(|volume| volume.head) {
            self.add_layers_below(self.layer(head)?, &mut layers)?;
        }
        let below: Vec<LayerId> = layers.keys().copied().collect();
        for id in below {
            for above in self.layers_above(id)? {
                let above = above?;
                layers.entry(above.id).or_insert(above);
            }
            // Another volume may have a snapshot of the same adopted file.
            for snapshot in self.snapshots_on(id)? {
                let snapshot = snapshot?;
                if !volumes.contains(&snapshot.volume) {
                    holdings.snapshots.push(snapshot);
                }
            }
        }
        holdings.layers = layers.into_values().collect();
        for id in groups {
            let Some(group) = self.group(*id)? else { continue };
            if let Some(machine) = self.machine(group.machine)? {
                machines.insert(machine.id, machine);
            }
            holdings.refs.extend(self.refs_of(*id)?);
            holdings.groups.extend(self.children_of_group(*id)?.into_vec()?);
            holdings.groups.push(group);
        }
        holdings.machines = machines.into_values().collect();
        Ok(holdings)
    }

    /// Adds a layer and all that it reads through, down to the first one that is there already.
    fn add_layers_below(
        &self,
        top: Option<LayerRecord>,
        layers: &mut BTreeMap<LayerId, LayerRecord>,
    ) -> Result<()> {
        let mut next = top;
        while let Some(layer) = next.filter(|layer| !layers.contains_key(&layer.id)) {
            next = layer.parent.map(|parent| self.need_layer(parent)).transpose()?;
            layers.insert(layer.id, layer);
        }
        Ok(())
    }
}
