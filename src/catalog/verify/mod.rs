//! What must be true of the records, and a check that finds where it is not.
//!
//! Things:
//!
//! * **C1** What a record names is there. Exceptions: a ref outlives its snapshot and its volume; a layer that is no head
//!   outlives the volume that it was made for.
//!
//! Layers:
//!
//! * **C2** A layer has the state `Head` if and only if exactly one volume writes to it, and it was made for that volume.
//! * **C3** No layer reads through a head, nor through one that is being filled.
//! * **C4** A layer is needed: a snapshot names it, a volume writes to it, it is being filled, or such a layer reads through
//!   it or will once its header is written. What is not is garbage, and says so ([`Severity::Leftover`]: lawful until its file is removed); garbage reads through nothing.
//! * **C5** No snapshot names a retired layer.
//! * **C6** A chain comes to an end, after at most [`CHAIN_LAYERS_MAX`](super::reader::CHAIN_LAYERS_MAX) layers.
//! * **C7** A blob holds one layer.
//!
//! Snapshots and trees:
//!
//! * **C8** A snapshot and its tree are of the same volume, and its copies of the volume's uuid and type agree.
//! * **C9** The parent of a snapshot is in its tree, and no snapshot descends from itself.
//! * **C10** The layer of a snapshot is frozen: no head, and not being filled.
//! * **C11** The latest snapshot of a tree is in that tree.
//! * **C12** The current tree of a volume is of that volume.
//! * **C13** The head of a volume reads through the layer of its current tree's latest snapshot.
//! * **C14** The distance of a snapshot is its parent's + 1, or 0 or 1 without a parent.
//!
//! Groups:
//!
//! * **C15** The ordinals of a group's refs are 0, 1, 2 …, as many as the group had members.
//! * **C16** A ref says that its snapshot is deleted if and only if there is no such snapshot.
//! * **C17** A snapshot says that it is in a group if and only if one ref of that group names it, by id and uuid; no other ref does.
//! * **C18** The parent of a group is of the same machine, and no group descends from itself; its copy of the machine's uuid agrees.
//! * **C19** The current group of a machine is of that machine.
//!
//! Machines:
//!
//! * **C20** The device ids of a machine's volumes differ.
//! * **C21** A volume is attached to a machine once, and to one machine only when it is exclusive.
//! * **C22** A machine has at most one root volume.
//!
//! Prepared groups:
//!
//! * **C26** A group that is prepared is of a machine that another process runs and of volumes that are attached to it, each
//!   once; what it will give uuids to has none yet.
//!
//! What is derived:
//!
//! * **C23** The uuid table holds the uuid of every record and nothing else.
//! * **C24** The index holds the keys of every record and nothing else.
//! * **C25** The counter of each kind is above every id of that kind.
//! * **C27** The sum of what the snapshots take up is kept right.
//!
//! The check holds all records in memory; it is not for the path of every operation.

mod derived;
mod groups;
mod layers;
mod machines;
mod prepared;
mod snapshots;

#[cfg(test)]
mod tests;

use super::error::{Place, Result};
use super::id::{GroupId, LayerId, MachineId, SnapshotId, TreeId, VolumeId};
use super::kind::{Entity, Id, Record};
use super::reader::Reader;
use super::record::{
    GroupRecord, LayerRecord, MachineRecord, RefRecord, SnapshotRecord, TreeRecord, VolumeRecord,
};
use crate::units::ByteCount;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Whether something is wrong, or merely waits to be tidied up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// An invariant does not hold.
    Broken,
    /// A layer waits to be reclaimed.
    Leftover,
}

/// One place where the records are not as they must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// C1
    #[error("C1: {from} names {to}, which is not there")]
    Dangling { from: Place, to: Entity },
    /// C2
    #[error("C2: layer {} is written by {volumes:?}, which does not go with its state or its volume", layer.0)]
    Head { layer: LayerId, volumes: Vec<VolumeId> },
    /// C3
    #[error("C3: layer {} reads through layer {}, which is still written", above.0, head.0)]
    AboveHead { head: LayerId, above: LayerId },
    /// C4, a layer that nothing needs and that is not garbage: broken.
    #[error("C4: nothing needs layer {}, and it is no garbage", layer.0)]
    ForNothing { layer: LayerId },
    /// C4, garbage that something needs, or that reads through something: broken.
    #[error("C4: layer {} is garbage, and is not on its own", layer.0)]
    GarbageInUse { layer: LayerId },
    /// C4, garbage: a leftover.
    #[error("C4: the file of layer {} is to be removed", layer.0)]
    Garbage { layer: LayerId },
    /// C5
    #[error("C5: layer {} is retired, and snapshot {} names it", layer.0, snapshot.0)]
    RetiredInUse { layer: LayerId, snapshot: SnapshotId },
    /// C6
    #[error("C6: the chain of layer {} does not end", layer.0)]
    EndlessChain { layer: LayerId },
    /// C7
    #[error("C7: {blob} holds the layers {layers:?}")]
    SharedBlob { blob: String, layers: Vec<LayerId> },
    /// C8
    #[error("C8: snapshot {} does not agree with its tree or its volume", snapshot.0)]
    SnapshotElsewhere { snapshot: SnapshotId },
    /// C9
    #[error("C9: the parent of snapshot {} is not in its tree, or descends from it", snapshot.0)]
    SnapshotParent { snapshot: SnapshotId },
    /// C10
    #[error("C10: the layer of snapshot {} is not frozen", snapshot.0)]
    SnapshotNotFrozen { snapshot: SnapshotId },
    /// C11
    #[error("C11: the latest snapshot of tree {} is in another tree", tree.0)]
    LatestElsewhere { tree: TreeId },
    /// C12
    #[error("C12: the current tree of volume {} is of another volume", volume.0)]
    TreeElsewhere { volume: VolumeId },
    /// C13
    #[error("C13: the head of volume {} does not read through its latest snapshot", volume.0)]
    LatestNotBelow { volume: VolumeId },
    /// C14
    #[error("C14: snapshot {} is at distance {found}", snapshot.0)]
    Distance { snapshot: SnapshotId, found: u32 },
    /// C15
    #[error("C15: group {} had {expected} members and has the ordinals {found:?}", group.0)]
    Members { group: GroupId, expected: u32, found: Vec<u32> },
    /// C16
    #[error("C16: ref {ordinal} of group {} is wrong about its snapshot being deleted", group.0)]
    Deleted { group: GroupId, ordinal: u32 },
    /// C17
    #[error("C17: snapshot {} and the refs of {groups:?} do not agree", snapshot.0)]
    Membership { snapshot: SnapshotId, groups: Vec<GroupId> },
    /// C18
    #[error("C18: the parent of group {} is of another machine or descends from it, or its machine's uuid differs", group.0)]
    GroupParent { group: GroupId },
    /// C19
    #[error("C19: the current group of machine {} is of another machine", machine.0)]
    GroupElsewhere { machine: MachineId },
    /// C20
    #[error("C20: machine {} has the volumes {volumes:?} as device {device_id}", machine.0)]
    SharedDevice { machine: MachineId, device_id: u32, volumes: Vec<VolumeId> },
    /// C21
    #[error("C21: volume {} is attached to {machines:?}", volume.0)]
    Attachments { volume: VolumeId, machines: Vec<MachineId> },
    /// C22
    #[error("C22: machine {} has the root volumes {volumes:?}", machine.0)]
    Roots { machine: MachineId, volumes: Vec<VolumeId> },
    /// C26
    #[error("C26: the prepared group of machine {} does not go with the machine, its volumes or the uuids there are", machine.0)]
    Prepared { machine: MachineId },
    /// C23
    #[error("C23: the uuid table has {found:?} for {}, the records have {expected:?}", uuid.simple())]
    UuidTable { uuid: Uuid, found: Option<Entity>, expected: Option<Entity> },
    /// C24, a key that is not there.
    #[error("C24: the index lacks the key {key:02x?}")]
    IndexLacks { key: Vec<u8> },
    /// C24, a key of nothing.
    #[error("C24: the index has the key {key:02x?} of nothing")]
    IndexExtra { key: Vec<u8> },
    /// C25
    #[error("C25: the next id is {next}, and {entity} is there")]
    Counter { entity: Entity, next: u64 },
    /// C27
    #[error("C27: the snapshots take up {expected} together, the catalogue says {found}")]
    SnapshotBytes { found: ByteCount, expected: ByteCount },
}

impl Violation {
    /// Whether something is wrong, or merely waits to be tidied up.
    pub const fn severity(&self) -> Severity {
        match self {
            Self::Garbage { .. } => Severity::Leftover,
            _ => Severity::Broken,
        }
    }
}

/// All records, and what was found to be wrong with them.
struct World {
    machines: BTreeMap<MachineId, MachineRecord>,
    volumes: BTreeMap<VolumeId, VolumeRecord>,
    layers: BTreeMap<LayerId, LayerRecord>,
    snapshots: BTreeMap<SnapshotId, SnapshotRecord>,
    trees: BTreeMap<TreeId, TreeRecord>,
    groups: BTreeMap<GroupId, GroupRecord>,
    refs: Vec<RefRecord>,
    violations: Vec<Violation>,
}

impl Reader {
    /// Checks C1 to C27. Answers every place where one of them does not hold, in the order of their numbers within
    /// each chapter.
    ///
    /// # Errors
    ///
    /// `Error::Malformed` when a record does not decode; `Error::Storage`; `Error::Database`.
    pub fn verify(&self) -> Result<Vec<Violation>> {
        let mut world = World {
            machines: load(self)?,
            volumes: load(self)?,
            layers: load(self)?,
            snapshots: load(self)?,
            trees: load(self)?,
            groups: load(self)?,
            refs: self.refs()?.collect::<Result<_>>()?,
            violations: Vec::new(),
        };
        world.check_references();
        world.check_layers();
        world.check_snapshots();
        world.check_groups();
        world.check_machines();
        world.check_prepared(self)?;
        world.check_derived(self)?;
        Ok(world.violations)
    }
}

fn load<I: Id, R: Record<Id = I>>(reader: &Reader) -> Result<BTreeMap<I, R>> {
    reader.all::<R>(I::of(0))?.map(|record| record.map(|record| (record.id(), record))).collect()
}

impl World {
    fn found(&mut self, violation: Violation) {
        self.violations.push(violation);
    }

    /// C1.
    fn check_references(&mut self) {
        let mut named: Vec<(Place, Entity)> = Vec::new();
        for machine in self.machines.values() {
            named.extend(machine.group_current.map(|group| (place(machine.id), group.entity())));
        }
        for volume in self.volumes.values() {
            let from = place(volume.id);
            named.extend(volume.attachments.iter().map(|attachment| (from, attachment.machine.entity())));
            named.push((from, volume.head.entity()));
            named.extend(volume.tree_current.map(|tree| (from, tree.entity())));
        }
        for layer in self.layers.values() {
            named.extend(layer.parent.map(|parent| (place(layer.id), parent.entity())));
        }
        for snapshot in self.snapshots.values() {
            let from = place(snapshot.id);
            named.push((from, snapshot.volume.entity()));
            named.push((from, snapshot.tree.entity()));
            named.push((from, snapshot.layer.entity()));
            named.extend(snapshot.parent.map(|parent| (from, parent.entity())));
            named.extend(snapshot.group.map(|group| (from, group.entity())));
        }
        for tree in self.trees.values() {
            named.push((place(tree.id), tree.volume.entity()));
            named.extend(tree.latest.map(|latest| (place(tree.id), latest.entity())));
        }
        for group in self.groups.values() {
            named.push((place(group.id), group.machine.entity()));
            named.extend(group.parent.map(|parent| (place(group.id), parent.entity())));
        }
        for member in &self.refs {
            named.push((Place::Ref(member.group, member.ordinal), member.group.entity()));
        }
        for (from, to) in named {
            if !self.has(to) {
                self.found(Violation::Dangling { from, to });
            }
        }
    }

    fn has(&self, entity: Entity) -> bool {
        match entity {
            Entity::Machine(id) => self.machines.contains_key(&id),
            Entity::Volume(id) => self.volumes.contains_key(&id),
            Entity::Layer(id) => self.layers.contains_key(&id),
            Entity::Snapshot(id) => self.snapshots.contains_key(&id),
            Entity::Tree(id) => self.trees.contains_key(&id),
            Entity::Group(id) => self.groups.contains_key(&id),
        }
    }
}

fn place(id: impl Id) -> Place {
    Place::Record(id.entity())
}

/// The ids from which going from parent to parent never ends.
fn endless<I: Id>(parents: &BTreeMap<I, Option<I>>) -> Vec<I> {
    // Everything on the way to a known end has an end; everything on the way to a loop has none.
    let mut ends: BTreeMap<I, bool> = BTreeMap::new();
    for start in parents.keys() {
        let mut way = Vec::new();
        let mut at = Some(*start);
        let ending = loop {
            let Some(id) = at else { break true };
            if let Some(known) = ends.get(&id) {
                break *known;
            }
            // Met again on this very way, as long as the way is not decided.
            ends.insert(id, false);
            way.push(id);
            at = parents.get(&id).copied().flatten();
        };
        for id in way {
            ends.insert(id, ending);
        }
    }
    ends.into_iter().filter(|(_, ending)| !ending).map(|(id, _)| id).collect()
}
