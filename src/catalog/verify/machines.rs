//! C19 to C22: machines and what is attached to them.

use super::super::id::{MachineId, VolumeId};
use super::super::record::{Sharing, VolumeKind};
use super::{Violation, World};
use std::collections::{BTreeMap, BTreeSet};

impl World {
    pub(super) fn check_machines(&mut self) {
        let mut found = Vec::new();
        for machine in self.machines.values() {
            let group = machine.group_current.and_then(|group| self.groups.get(&group));
            if group.is_some_and(|group| group.machine != machine.id) {
                found.push(Violation::GroupElsewhere { machine: machine.id });
            }
        }
        let mut devices: BTreeMap<(MachineId, u32), Vec<VolumeId>> = BTreeMap::new();
        let mut roots: BTreeMap<MachineId, Vec<VolumeId>> = BTreeMap::new();
        for volume in self.volumes.values() {
            let machines: Vec<MachineId> =
                volume.attachments.iter().map(|attachment| attachment.machine).collect();
            let distinct: BTreeSet<MachineId> = machines.iter().copied().collect();
            let lawful = match volume.sharing {
                Sharing::Exclusive => machines.len() <= 1,
                Sharing::Shareable => machines.len() == distinct.len(),
            };
            for attachment in &volume.attachments {
                let device = (attachment.machine, attachment.device_id);
                devices.entry(device).or_default().push(volume.id);
            }
            if volume.kind == VolumeKind::Root {
                for machine in distinct {
                    roots.entry(machine).or_default().push(volume.id);
                }
            }
            if !lawful {
                found.push(Violation::Attachments { volume: volume.id, machines });
            }
        }
        for ((machine, device_id), volumes) in devices.into_iter().filter(|(_, volumes)| volumes.len() > 1) {
            found.push(Violation::SharedDevice { machine, device_id, volumes });
        }
        for (machine, volumes) in roots.into_iter().filter(|(_, volumes)| volumes.len() > 1) {
            found.push(Violation::Roots { machine, volumes });
        }
        self.violations.extend(found);
    }
}
