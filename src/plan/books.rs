//! The books of some volumes and groups as they would be after a change, and the edits that lead there.
//!
//! A decision changes these books by its verbs - [`Books::delete_snapshot`], [`Books::retire`], [`Books::reparent`] -
//! and publishes the difference. Each verb leaves books that hold together (the invariants C1 to C27 of the
//! catalogue).

use crate::catalog::{
    Edit, GroupId, GroupRecord, Holdings, IdSource, LayerId, LayerRecord, LayerState, MachineId,
    MachineRecord, Origin, RefRecord, SnapshotId, SnapshotRecord, Timestamp, TreeId, TreeRecord, VolumeId,
    VolumeRecord,
};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Where new trees get their names from, and the moment of the change.
pub(crate) struct Fresh<'a> {
    pub(crate) ids: &'a IdSource,
    pub(crate) mint: &'a dyn Fn() -> Uuid,
    pub(crate) at: Timestamp,
}

/// Records by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Shelves {
    machines: BTreeMap<MachineId, MachineRecord>,
    volumes: BTreeMap<VolumeId, VolumeRecord>,
    trees: BTreeMap<TreeId, TreeRecord>,
    snapshots: BTreeMap<SnapshotId, SnapshotRecord>,
    layers: BTreeMap<LayerId, LayerRecord>,
    groups: BTreeMap<GroupId, GroupRecord>,
    refs: BTreeMap<(GroupId, u32), RefRecord>,
}

/// The books as they were read, and as they are to be.
#[derive(Clone, Debug)]
pub(crate) struct Books {
    before: Shelves,
    now: Shelves,
}

impl Books {
    /// Opens the books on what was read.
    pub(crate) fn open(holdings: Holdings) -> Self {
        let before = Shelves {
            machines: holdings.machines.into_iter().map(|record| (record.id, record)).collect(),
            volumes: holdings.volumes.into_iter().map(|record| (record.id, record)).collect(),
            trees: holdings.trees.into_iter().map(|record| (record.id, record)).collect(),
            snapshots: holdings.snapshots.into_iter().map(|record| (record.id, record)).collect(),
            layers: holdings.layers.into_iter().map(|record| (record.id, record)).collect(),
            groups: holdings.groups.into_iter().map(|record| (record.id, record)).collect(),
            refs: holdings.refs.into_iter().map(|record| ((record.group, record.ordinal), record)).collect(),
        };
        Self { now: before.clone(), before }
    }

    pub(crate) fn snapshot(&self, id: SnapshotId) -> Option<&SnapshotRecord> {
        self.now.snapshots.get(&id)
    }

    pub(crate) fn volume(&self, id: VolumeId) -> Option<&VolumeRecord> {
        self.now.volumes.get(&id)
    }

    pub(crate) fn machine(&self, id: MachineId) -> Option<&MachineRecord> {
        self.now.machines.get(&id)
    }

    pub(crate) fn layer(&self, id: LayerId) -> Option<&LayerRecord> {
        self.now.layers.get(&id)
    }

    /// Whether a layer was in the books when they were read.
    pub(crate) fn knew_layer(&self, id: LayerId) -> bool {
        self.before.layers.contains_key(&id)
    }

    /// The layers, as they are to be.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &LayerRecord> {
        self.now.layers.values()
    }

    /// The snapshots of a volume, by age.
    pub(crate) fn snapshots_of(&self, volume: VolumeId) -> impl Iterator<Item = &SnapshotRecord> {
        self.now.snapshots.values().filter(move |snapshot| snapshot.volume == volume)
    }

    /// The snapshots that are members of a group.
    pub(crate) fn members_of(&self, group: GroupId) -> Vec<SnapshotRecord> {
        let members = self.now.snapshots.values().filter(|snapshot| snapshot.group == Some(group));
        members.cloned().collect()
    }

    /// The groups that were there and will not be.
    pub(crate) fn groups_removed(&self) -> impl Iterator<Item = &GroupRecord> {
        self.before.groups.values().filter(|group| !self.now.groups.contains_key(&group.id))
    }

    /// Puts a record in.
    pub(crate) fn put_snapshot(&mut self, snapshot: SnapshotRecord) {
        self.now.snapshots.insert(snapshot.id, snapshot);
    }

    pub(crate) fn put_volume(&mut self, volume: VolumeRecord) {
        self.now.volumes.insert(volume.id, volume);
    }

    pub(crate) fn put_layer(&mut self, layer: LayerRecord) {
        self.now.layers.insert(layer.id, layer);
    }

    pub(crate) fn put_tree(&mut self, tree: TreeRecord) {
        self.now.trees.insert(tree.id, tree);
    }

    pub(crate) fn put_machine(&mut self, machine: MachineRecord) {
        self.now.machines.insert(machine.id, machine);
    }

    pub(crate) fn put_group(&mut self, group: GroupRecord) {
        self.now.groups.insert(group.id, group);
    }

    pub(crate) fn put_ref(&mut self, member: RefRecord) {
        self.now.refs.insert((member.group, member.ordinal), member);
    }

    pub(crate) fn tree(&self, id: TreeId) -> Option<&TreeRecord> {
        self.now.trees.get(&id)
    }

    /// Takes a volume out, with its head; its snapshots must be gone.
    pub(crate) fn remove_volume(&mut self, id: VolumeId) {
        if let Some(volume) = self.now.volumes.remove(&id) {
            self.retire(volume.head);
        }
    }

    /// A snapshot and everything that descends from it, parents before children.
    pub(crate) fn with_descendants(&self, id: SnapshotId) -> Vec<SnapshotId> {
        let mut found = vec![id];
        let mut next = 0;
        while let Some(parent) = found.get(next).copied() {
            found.extend(self.children(parent));
            next += 1;
        }
        found
    }

    fn children(&self, id: SnapshotId) -> Vec<SnapshotId> {
        let children = self.now.snapshots.values().filter(|snapshot| snapshot.parent == Some(id));
        children.map(|snapshot| snapshot.id).collect()
    }

    /// How many layers a layer reads through.
    pub(crate) fn depth(&self, id: LayerId) -> usize {
        let parent_of = |id: &LayerId| self.now.layers.get(id).and_then(|layer| layer.parent);
        std::iter::successors(Some(id), parent_of).count() - 1
    }

    /// The layers that read directly through a layer.
    pub(crate) fn layers_above(&self, id: LayerId) -> impl Iterator<Item = &LayerRecord> {
        self.now.layers.values().filter(move |layer| layer.parent == Some(id))
    }

    /// A volume other than its own that reads through a snapshot: a clone.
    pub(crate) fn clone_above(&self, snapshot: &SnapshotRecord) -> Option<VolumeId> {
        let mut open = vec![snapshot.layer];
        while let Some(layer) = open.pop() {
            for above in self.layers_above(layer) {
                if above.volume != snapshot.volume {
                    return Some(above.volume);
                }
                if above.state == LayerState::Retired {
                    open.push(above.id);
                }
            }
        }
        None
    }

    /// Takes a snapshot out: its children become those of its parent, its layer is retired, its group knows. A
    /// group whose last member this was goes, too.
    pub(crate) fn delete_snapshot(&mut self, id: SnapshotId, fresh: &Fresh<'_>) {
        let Some(snapshot) = self.now.snapshots.remove(&id) else { return };
        self.leave_tree(&snapshot, fresh);
        if !self.now.snapshots.values().any(|other| other.layer == snapshot.layer) {
            self.retire(snapshot.layer);
        }
        self.mark_deleted(&snapshot, fresh.at);
    }

    fn leave_tree(&mut self, gone: &SnapshotRecord, fresh: &Fresh<'_>) {
        let at = fresh.at;
        let children = self.children(gone.id);
        for child in &children {
            let child = self.now.snapshots.get_mut(child).expect("just found");
            (child.parent, child.changed) = (gone.parent, at);
        }
        if let Some(tree) = self.now.trees.get_mut(&gone.tree)
            && tree.latest == Some(gone.id)
        {
            (tree.latest, tree.changed) = (gone.parent, at);
        }
        if let Some(volume) = self.now.volumes.get_mut(&gone.volume) {
            volume.changed = at;
        }
        match gone.parent {
            Some(parent) => {
                let above = self.now.snapshots[&parent].distance;
                children.iter().for_each(|child| self.set_distance(*child, above + 1));
            }
            None => {
                // Each child is a root now. The tree stays with the one that the head hangs from, else the eldest.
                let latest = self.now.trees.get(&gone.tree).and_then(|tree| tree.latest);
                let heir = children.iter().position(|child| {
                    latest.is_some_and(|latest| self.with_descendants(*child).contains(&latest))
                });
                let heir = heir.unwrap_or(0);
                for (place, child) in children.iter().enumerate() {
                    self.set_distance(*child, gone.distance);
                    if place != heir {
                        self.move_to_new_tree(*child, gone, fresh);
                    }
                }
                if children.is_empty() {
                    self.now.trees.remove(&gone.tree);
                }
            }
        }
        // A head that hangs from no snapshot is in no tree.
        let is_bare = self.now.trees.get(&gone.tree).is_none_or(|tree| tree.latest.is_none());
        if let Some(volume) = self.now.volumes.get_mut(&gone.volume)
            && is_bare
            && volume.tree_current == Some(gone.tree)
        {
            volume.tree_current = None;
        }
    }

    /// Gives a snapshot its distance, and each descendant one more than its parent.
    fn set_distance(&mut self, id: SnapshotId, distance: u32) {
        let mut open = vec![(id, distance)];
        while let Some((id, distance)) = open.pop() {
            let snapshot = self.now.snapshots.get_mut(&id).expect("a descendant is in the books");
            if snapshot.distance != distance {
                snapshot.distance = distance;
                open.extend(self.children(id).into_iter().map(|child| (child, distance + 1)));
            }
        }
    }

    fn move_to_new_tree(&mut self, root: SnapshotId, gone: &SnapshotRecord, fresh: &Fresh<'_>) {
        let tree = TreeRecord {
            id: fresh.ids.take_tree(),
            uuid: (fresh.mint)(),
            volume: gone.volume,
            latest: None,
            created: fresh.at,
            changed: fresh.at,
        };
        for id in self.with_descendants(root) {
            self.now.snapshots.get_mut(&id).expect("just found").tree = tree.id;
        }
        self.now.trees.insert(tree.id, tree);
    }

    /// Notes in the group of a snapshot that it is gone; removes the group when nothing of it is left.
    fn mark_deleted(&mut self, gone: &SnapshotRecord, at: Timestamp) {
        let Some(id) = gone.group else { return };
        let members = || (id, 0)..=(id, u32::MAX);
        for (_, member) in self.now.refs.range_mut(members()) {
            if member.snapshot == gone.id {
                (member.snapshot_deleted, member.changed) = (true, at);
            }
        }
        if let Some(group) = self.now.groups.get_mut(&id) {
            group.changed = at;
        }
        if self.now.refs.range(members()).all(|(_, member)| member.snapshot_deleted) {
            self.remove_group(id, at);
        }
    }

    /// Takes a group out. Its children become those of its parent.
    pub(crate) fn remove_group(&mut self, id: GroupId, at: Timestamp) {
        let Some(group) = self.now.groups.remove(&id) else { return };
        self.now.refs.retain(|(of, _), _| *of != id);
        for child in self.now.groups.values_mut().filter(|child| child.parent == Some(id)) {
            (child.parent, child.changed) = (group.parent, at);
        }
        if let Some(machine) = self.now.machines.get_mut(&group.machine)
            && machine.group_current == Some(id)
        {
            (machine.group_current, machine.changed) = (group.parent, at);
        }
    }

    /// Notes that no snapshot and no volume needs a layer for itself any more. Whatever nobody reads through then
    /// is garbage, layer by layer down.
    pub(crate) fn retire(&mut self, id: LayerId) {
        if let Some(layer) = self.now.layers.get_mut(&id) {
            layer.state = LayerState::Retired;
        }
        self.settle(id);
    }

    /// Makes garbage of a retired layer that nobody reads through or is about to, and of those below it in the same
    /// case.
    pub(crate) fn settle(&mut self, id: LayerId) {
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            let will_read = |layer: &LayerRecord| layer.rewrite.as_ref().and_then(|rewrite| rewrite.parent);
            let is_read = |layer: &LayerRecord| layer.parent == Some(id) || will_read(layer) == Some(id);
            if self.now.layers.values().any(is_read) {
                continue;
            }
            let Some(layer) = self.now.layers.get_mut(&id) else { continue };
            let is_needed = match (layer.state, layer.origin) {
                (LayerState::Retired, _) => false,
                // A base is there for whoever is above it.
                (LayerState::Frozen, Origin::Base) => {
                    self.now.snapshots.values().any(|snapshot| snapshot.layer == id)
                }
                _ => true,
            };
            if is_needed {
                continue;
            }
            open.extend(layer.parent.take());
            open.extend(layer.rewrite.take().and_then(|rewrite| rewrite.parent));
            layer.state = LayerState::Garbage;
            if layer.origin == Origin::Base {
                // Nothing was ever written to the file, and others may use it: it leaves the books and stays.
                self.now.layers.remove(&id);
            }
        }
    }

    /// Puts a layer above another one than before; what it read through is settled.
    pub(crate) fn reparent(&mut self, id: LayerId, parent: Option<LayerId>, label: Option<String>) {
        let Some(layer) = self.now.layers.get_mut(&id) else { return };
        let before = std::mem::replace(&mut layer.parent, parent);
        layer.backing_label = label;
        layer.rewrite = None;
        if let Some(before) = before.filter(|before| Some(*before) != parent) {
            self.settle(before);
        }
    }

    /// What leads from the books as they were read to the books as they are now.
    pub(crate) fn edits(&self) -> Vec<Edit> {
        let (before, now) = (&self.before, &self.now);
        let mut edits = Vec::new();
        difference(&before.machines, &now.machines, Edit::RemoveMachine, &mut edits);
        difference(&before.volumes, &now.volumes, Edit::RemoveVolume, &mut edits);
        difference(&before.layers, &now.layers, Edit::RemoveLayer, &mut edits);
        difference(&before.trees, &now.trees, Edit::RemoveTree, &mut edits);
        difference(&before.snapshots, &now.snapshots, Edit::RemoveSnapshot, &mut edits);
        difference(&before.groups, &now.groups, Edit::RemoveGroup, &mut edits);
        let remove_ref = |(group, ordinal)| Edit::RemoveRef { group, ordinal };
        difference(&before.refs, &now.refs, remove_ref, &mut edits);
        edits
    }
}

/// Adds what leads from one shelf to another.
fn difference<K: Ord + Copy, R: Clone + PartialEq + Into<Edit>>(
    before: &BTreeMap<K, R>,
    now: &BTreeMap<K, R>,
    remove: impl Fn(K) -> Edit,
    edits: &mut Vec<Edit>,
) {
    edits.extend(before.keys().filter(|key| !now.contains_key(key)).map(|key| remove(*key)));
    let changed = now.iter().filter(|(key, record)| before.get(key) != Some(record));
    edits.extend(changed.map(|(_, record)| record.clone().into()));
}
