//! C15 to C18: groups and their members.

use super::super::id::{GroupId, SnapshotId};
use super::super::record::RefRecord;
use super::{Violation, World, endless};
use std::collections::BTreeMap;

impl World {
    pub(super) fn check_groups(&mut self) {
        self.check_refs();
        self.check_memberships();
        self.check_group_parents();
    }

    /// C15, C16.
    fn check_refs(&mut self) {
        let mut found = Vec::new();
        let mut ordinals: BTreeMap<GroupId, Vec<u32>> = BTreeMap::new();
        for member in &self.refs {
            ordinals.entry(member.group).or_default().push(member.ordinal);
            if member.snapshot_deleted == self.snapshots.contains_key(&member.snapshot) {
                found.push(Violation::Deleted { group: member.group, ordinal: member.ordinal });
            }
        }
        for group in self.groups.values() {
            let ordinals = ordinals.remove(&group.id).unwrap_or_default();
            if !ordinals.iter().copied().eq(0..group.snapshot_count) {
                let expected = group.snapshot_count;
                found.push(Violation::Members { group: group.id, expected, found: ordinals });
            }
        }
        self.violations.extend(found);
    }

    /// C17.
    fn check_memberships(&mut self) {
        let mut members: BTreeMap<SnapshotId, Vec<&RefRecord>> = BTreeMap::new();
        for member in &self.refs {
            members.entry(member.snapshot).or_default().push(member);
        }
        let mut found = Vec::new();
        for snapshot in self.snapshots.values() {
            let refs = members.remove(&snapshot.id).unwrap_or_default();
            let lawful = match (snapshot.group, refs.as_slice()) {
                (Some(group), [member]) => (member.group, member.snapshot_uuid) == (group, snapshot.uuid),
                (None, []) => true,
                _ => false,
            };
            if !lawful {
                let groups = refs.iter().map(|member| member.group).collect();
                found.push(Violation::Membership { snapshot: snapshot.id, groups });
            }
        }
        for (snapshot, refs) in members.into_iter().filter(|(_, refs)| refs.len() > 1) {
            let groups = refs.iter().map(|member| member.group).collect();
            found.push(Violation::Membership { snapshot, groups });
        }
        self.violations.extend(found);
    }

    /// C18.
    fn check_group_parents(&mut self) {
        let mut found = Vec::new();
        for group in self.groups.values() {
            let parent = group.parent.and_then(|parent| self.groups.get(&parent));
            let machine = self.machines.get(&group.machine);
            if parent.is_some_and(|parent| parent.machine != group.machine)
                || machine.is_some_and(|machine| machine.uuid != group.machine_uuid)
            {
                found.push(group.id);
            }
        }
        let parents: BTreeMap<_, _> = self.groups.values().map(|group| (group.id, group.parent)).collect();
        found.extend(endless(&parents));
        for group in found {
            self.found(Violation::GroupParent { group });
        }
    }
}
