//! What a pool must show, as plain bytes and a few rules of the books.

use snapgroup::inventory::GroupInventory;
use snapgroup::{DeleteMode, DeleteScope, Members, Uuid};
use std::collections::{BTreeMap, BTreeSet};

/// What must be read of a snapshot, and what it descends from.
pub(super) struct Taken {
    pub(super) disk: usize,
    pub(super) bytes: Vec<u8>,
    pub(super) parent: Option<Uuid>,
    pub(super) group: Option<Uuid>,
    pub(super) held: bool,
    node: usize,
}

pub(super) struct Disk {
    pub(super) uuid: Uuid,
    pub(super) bytes: Vec<u8>,
    pub(super) current: Option<Uuid>,
    pub(super) attached: bool,
    pub(super) gone: bool,
    node: usize,
}

/// A moment of a disk on which something was built: a snapshot, there or deleted, or what a disk writes to.
struct Node {
    disk: usize,
    below: Option<usize>,
    living: bool,
}

/// A group: its members with their disks, and the disks that the machine had beside them.
pub(super) struct Grouped {
    pub(super) members: Vec<(Uuid, usize)>,
    beside: BTreeSet<usize>,
}

/// How a deletion goes about it.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    pub(super) mode: DeleteMode,
    pub(super) scope: DeleteScope,
    pub(super) members: Members,
}

#[derive(Default)]
pub(super) struct Model {
    /// Those that are gone, too: a place in this list is a disk for good.
    pub(super) disks: Vec<Disk>,
    pub(super) taken: BTreeMap<Uuid, Taken>,
    /// Each group that is there.
    pub(super) groups: BTreeMap<Uuid, Grouped>,
    nodes: Vec<Node>,
}

impl Model {
    fn node(&mut self, disk: usize, below: Option<usize>) -> usize {
        self.nodes.push(Node { disk, below, living: true });
        self.nodes.len() - 1
    }

    /// A new disk, empty or a clone of a snapshot.
    pub(super) fn add_disk(&mut self, uuid: Uuid, bytes: Vec<u8>, of: Option<Uuid>) -> usize {
        let index = self.disks.len();
        let below = of.map(|of| self.taken[&of].node);
        let node = self.node(index, below);
        self.disks.push(Disk { uuid, bytes, current: None, attached: false, gone: false, node });
        index
    }

    /// The disks that are there.
    pub(super) fn present(&self) -> Vec<usize> {
        (0..self.disks.len()).filter(|index| !self.disks[*index].gone).collect()
    }

    /// The disks that a group would hold.
    pub(super) fn attached(&self) -> BTreeSet<usize> {
        self.present().into_iter().filter(|index| self.disks[*index].attached).collect()
    }

    /// A disk is copied: what it descends from is nothing to it from now on.
    pub(super) fn start_anew(&mut self, index: usize) {
        self.nodes[self.disks[index].node].living = false;
        let node = self.node(index, None);
        let disk = &mut self.disks[index];
        (disk.node, disk.current) = (node, None);
    }

    /// A snapshot of a disk as it is.
    pub(super) fn take(&mut self, index: usize, uuid: Uuid, group: Option<Uuid>) {
        let frozen = self.disks[index].node;
        let head = self.node(index, Some(frozen));
        let disk = &mut self.disks[index];
        disk.node = head;
        let (bytes, parent) = (disk.bytes.clone(), disk.current.replace(uuid));
        self.taken.insert(uuid, Taken { disk: index, bytes, parent, group, held: false, node: frozen });
    }

    /// A group as it was taken.
    pub(super) fn take_group(&mut self, group: &GroupInventory) {
        let mut members = Vec::new();
        for member in &group.volume_snapshot_refs {
            let index = self.disks.iter().position(|disk| disk.uuid == member.volume_uuid);
            let index = index.expect("a member is of a disk");
            self.take(index, member.volume_snapshot_uuid, Some(group.uuid));
            members.push((member.volume_snapshot_uuid, index));
        }
        let is_beside = |index: &usize| members.iter().all(|(_, disk)| disk != index);
        let beside = self.attached().into_iter().filter(is_beside).collect();
        self.groups.insert(group.uuid, Grouped { members, beside });
    }

    /// A disk goes back to a snapshot of it; what it wrote to since is gone.
    pub(super) fn go_back(&mut self, to: Uuid) {
        let taken = &self.taken[&to];
        let (index, below, bytes) = (taken.disk, taken.node, taken.bytes.clone());
        self.nodes[self.disks[index].node].living = false;
        let node = self.node(index, Some(below));
        let disk = &mut self.disks[index];
        (disk.bytes, disk.current, disk.node) = (bytes, Some(to), node);
    }

    /// A snapshot and what descends from it.
    fn descendants(&self, root: Uuid) -> BTreeSet<Uuid> {
        let mut found: BTreeSet<Uuid> = [root].into();
        loop {
            let is_next = |uuid: &Uuid, taken: &Taken| {
                !found.contains(uuid) && taken.parent.is_some_and(|parent| found.contains(&parent))
            };
            let more: Vec<Uuid> = self
                .taken
                .iter()
                .filter(|(uuid, taken)| is_next(uuid, taken))
                .map(|(uuid, _)| *uuid)
                .collect();
            if more.is_empty() {
                return found;
            }
            found.extend(more);
        }
    }

    /// Whether anything that is there was built on a node.
    fn is_needed(&self, node: usize) -> bool {
        self.nodes[node].living || self.above(node).any(|above| self.is_needed(above))
    }

    fn above(&self, node: usize) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(move |above| self.nodes[*above].below == Some(node))
    }

    /// Whether another disk was made on a snapshot, or on one above it that is deleted.
    fn is_cloned(&self, node: usize) -> bool {
        let disk = self.nodes[node].disk;
        self.above(node)
            .filter(|above| self.is_needed(*above))
            .any(|above| self.nodes[above].disk != disk || !self.nodes[above].living && self.is_cloned(above))
    }

    fn refuses(&self, uuid: Uuid) -> bool {
        let taken = &self.taken[&uuid];
        taken.held || self.is_cloned(taken.node)
    }

    /// What a deletion of these takes along, and whether any of them refuses.
    pub(super) fn going(&self, wanted: &[Uuid], manner: Manner) -> (BTreeSet<Uuid>, bool) {
        let mut going = BTreeSet::new();
        let mut refused = false;
        for uuid in wanted.iter().filter(|uuid| self.taken.contains_key(*uuid)) {
            let set = match manner.scope {
                DeleteScope::Chain => self.descendants(*uuid),
                _ => [*uuid].into(),
            };
            if manner.mode == DeleteMode::Permissive && set.iter().any(|uuid| self.refuses(*uuid)) {
                refused = true;
            } else {
                going.extend(set);
            }
        }
        match (refused, manner.members) {
            (true, Members::AllOrNone) => (BTreeSet::new(), true),
            _ => (going, refused),
        }
    }

    pub(super) fn remove(&mut self, going: &BTreeSet<Uuid>) {
        for uuid in going {
            let gone = self.taken.remove(uuid).expect("it is in the model");
            self.nodes[gone.node].living = false;
            for other in self.taken.values_mut().filter(|other| other.parent == Some(*uuid)) {
                other.parent = gone.parent;
            }
            for disk in self.disks.iter_mut().filter(|disk| disk.current == Some(*uuid)) {
                disk.current = gone.parent;
            }
        }
        self.groups
            .retain(|_, group| group.members.iter().any(|(member, _)| self.taken.contains_key(member)));
    }

    /// A disk is deleted; its snapshots were removed.
    pub(super) fn remove_disk(&mut self, index: usize) {
        let node = self.disks[index].node;
        self.nodes[node].living = false;
        self.disks[index].gone = true;
    }

    /// The members of a group, with their disks, that can go back: the snapshot is there, and the machine has the disk.
    pub(super) fn that_can_go_back(&self, group: Uuid) -> Vec<(Uuid, usize)> {
        let attached = self.attached();
        let mut members = self.groups[&group].members.clone();
        members.retain(|(member, disk)| self.taken.contains_key(member) && attached.contains(disk));
        members
    }

    /// Whether the machine can go back to a group: all of its members can, and there are no other disks by now.
    pub(super) fn is_available(&self, group: Uuid) -> bool {
        let Grouped { members, beside } = &self.groups[&group];
        let is_known =
            |disk: &usize| beside.contains(disk) || members.iter().any(|(_, member)| member == disk);
        self.that_can_go_back(group).len() == members.len() && self.attached().iter().all(is_known)
    }
}
