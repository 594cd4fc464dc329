//! C8 to C14: snapshots and trees.

use super::super::record::{SnapshotRecord, VolumeRecord};
use super::{Violation, World, endless};
use std::collections::{BTreeMap, BTreeSet};

impl World {
    pub(super) fn check_snapshots(&mut self) {
        let mut found = Vec::new();
        for snapshot in self.snapshots.values() {
            self.check_snapshot(snapshot, &mut found);
        }
        let parents = self.snapshots.values().map(|snapshot| (snapshot.id, snapshot.parent));
        let endless = endless(&parents.collect::<BTreeMap<_, _>>());
        found.extend(endless.into_iter().map(|snapshot| Violation::SnapshotParent { snapshot }));
        for tree in self.trees.values() {
            let latest = tree.latest.and_then(|latest| self.snapshots.get(&latest));
            if latest.is_some_and(|latest| latest.tree != tree.id) {
                found.push(Violation::LatestElsewhere { tree: tree.id });
            }
        }
        for volume in self.volumes.values() {
            self.check_current_tree(volume, &mut found);
        }
        self.violations.extend(found);
    }

    /// C8, C9, C10, C14.
    fn check_snapshot(&self, snapshot: &SnapshotRecord, found: &mut Vec<Violation>) {
        let tree = self.trees.get(&snapshot.tree);
        let volume = self.volumes.get(&snapshot.volume);
        let agrees = |volume: &VolumeRecord| {
            (volume.uuid, volume.kind) == (snapshot.volume_uuid, snapshot.volume_kind)
        };
        if tree.is_some_and(|tree| tree.volume != snapshot.volume)
            || volume.is_some_and(|volume| !agrees(volume))
        {
            found.push(Violation::SnapshotElsewhere { snapshot: snapshot.id });
        }
        let parent = snapshot.parent.and_then(|parent| self.snapshots.get(&parent));
        if parent.is_some_and(|parent| parent.tree != snapshot.tree) {
            found.push(Violation::SnapshotParent { snapshot: snapshot.id });
        }
        let layer = self.layers.get(&snapshot.layer);
        // A retired one is C5's business.
        if layer.is_some_and(|layer| layer.state.is_written()) {
            found.push(Violation::SnapshotNotFrozen { snapshot: snapshot.id });
        }
        let lawful = match parent {
            Some(parent) => Some(snapshot.distance) == parent.distance.checked_add(1),
            None => snapshot.parent.is_some() || snapshot.distance <= 1,
        };
        if !lawful {
            found.push(Violation::Distance { snapshot: snapshot.id, found: snapshot.distance });
        }
    }

    /// C12, C13.
    fn check_current_tree(&self, volume: &VolumeRecord, found: &mut Vec<Violation>) {
        let Some(tree) = volume.tree_current.and_then(|tree| self.trees.get(&tree)) else { return };
        if tree.volume != volume.id {
            found.push(Violation::TreeElsewhere { volume: volume.id });
        }
        let Some(latest) = tree.latest.and_then(|latest| self.snapshots.get(&latest)) else { return };
        let mut met = BTreeSet::new();
        let mut at = self.layers.get(&volume.head).and_then(|head| head.parent);
        while let Some(id) = at.filter(|id| met.insert(*id)) {
            at = self.layers.get(&id).and_then(|layer| layer.parent);
        }
        if !met.contains(&latest.layer) {
            found.push(Violation::LatestNotBelow { volume: volume.id });
        }
    }
}
