//! The records of what the graph has found.
//!
//! Layers get numbers above all that any file has heard of: those that are made from now on stay the younger ones,
//! should the catalogue be lost again.

use super::super::notes::kind_of_number;
use super::super::options::Source;
use super::graph::{Graph, Listed};
use super::report::{IncompleteGroup, Proof, Rebuilt, RebuiltSnapshot, RebuiltVolume};
use crate::catalog::{
    Attachment, Consistency, Edit, GroupId, GroupRecord, LayerId, LayerRecord, LayerState, MachineId,
    MachineRecord, Origin, RefRecord, Running, Settled, Sharing, SnapshotId, SnapshotRecord, Start, Tags,
    Timestamp, TreeId, TreeRecord, VolumeId, VolumeKind, VolumeRecord, WishMark,
};
use crate::image::SnapshotClaim;
use crate::plan::text::{NAME_MAX, layer_blob};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// The system tag of snapshots and groups that came back: each of them may have been deleted before.
const REBUILT: &str = "Rebuilt";

/// Records under way.
struct Books<'a> {
    graph: Graph,
    source: &'a Source,
    now: Timestamp,
    layers: Vec<LayerRecord>,
    volumes: BTreeMap<Uuid, VolumeRecord>,
    machines: BTreeMap<Uuid, MachineRecord>,
    snapshots: Vec<Kept>,
    /// The snapshots of each volume on each layer.
    on_layers: BTreeMap<(usize, VolumeId), Vec<usize>>,
    trees: Vec<TreeRecord>,
    groups: Vec<GroupRecord>,
    refs: Vec<RefRecord>,
}

/// A snapshot, the place of its layer, and what was claimed of it.
struct Kept {
    record: SnapshotRecord,
    holder: usize,
    claim: Option<SnapshotClaim>,
}

/// The records, to be published in one commit.
pub(super) fn records(graph: Graph, start: Start, source: &Source, rebuilt: &mut Rebuilt) -> Vec<Edit> {
    let first = match start {
        Start::Empty => 1,
        Start::After { layer, .. } => layer,
    };
    let mut books = Books {
        graph,
        source,
        now: source.now(),
        layers: Vec::new(),
        volumes: BTreeMap::new(),
        machines: BTreeMap::new(),
        snapshots: Vec::new(),
        on_layers: BTreeMap::new(),
        trees: Vec::new(),
        groups: Vec::new(),
        refs: Vec::new(),
    };
    books.add_volumes(rebuilt);
    books.add_layers(first);
    books.add_snapshots(rebuilt);
    books.plant_trees();
    books.attach(rebuilt);
    books.add_groups(rebuilt);
    books.tell(rebuilt);
    let mut edits: Vec<Edit> = Vec::new();
    edits.extend(books.machines.into_values().map(Edit::from));
    edits.extend(books.volumes.into_values().map(Edit::from));
    edits.extend(books.layers.into_iter().map(Edit::from));
    edits.extend(books.trees.into_iter().map(Edit::from));
    edits.extend(books.snapshots.into_iter().map(|kept| Edit::from(kept.record)));
    edits.extend(books.groups.into_iter().map(Edit::from));
    edits.extend(books.refs.into_iter().map(Edit::from));
    edits
}

/// The tag of everything that came back.
fn rebuilt_tag() -> Tags {
    Tags { system_tags: vec![REBUILT.to_owned()], ..Tags::default() }
}

/// A name, or one made of the uuid for what has none that is known.
fn named(name: &str, uuid: Uuid, rebuilt: &mut Rebuilt) -> String {
    let short: String = name.chars().take(NAME_MAX).collect();
    if !short.is_empty() {
        return short;
    }
    rebuilt.unnamed.push(uuid);
    format!("rebuilt-{}", uuid.simple())
}

impl Books<'_> {
    fn add_volumes(&mut self, rebuilt: &mut Rebuilt) {
        for (number, (uuid, head)) in (1..).zip(&self.graph.heads) {
            let node = &self.graph.nodes[*head];
            let notes = node.notes().cloned().unwrap_or_default();
            let name = named(&notes.volume_name, *uuid, rebuilt);
            let record = VolumeRecord {
                id: VolumeId(number),
                uuid: *uuid,
                name: name.clone(),
                description: None,
                kind: kind_of_number(notes.kind),
                sharing: if notes.shareable { Sharing::Shareable } else { Sharing::Exclusive },
                attachments: Vec::new(),
                chain_max: None,
                size: node.file.size,
                // Set when the layers have their numbers.
                head: LayerId(0),
                tree_current: None,
                wish: WishMark::default(),
                created: self.now,
                changed: self.now,
            };
            let head = node.file.name.to_string();
            rebuilt.volumes.push(RebuiltVolume { uuid: *uuid, name, head, machine: None, detached: None });
            self.volumes.insert(*uuid, record);
        }
    }

    fn add_layers(&mut self, first: u64) {
        let nodes = &self.graph.nodes;
        let ids: Vec<LayerId> = (first..).take(nodes.len()).map(LayerId).collect();
        let unknown = VolumeId(self.volumes.len() as u64 + 1);
        let heads: BTreeSet<usize> = self.graph.heads.values().copied().collect();
        let above: BTreeMap<usize, usize> =
            nodes.iter().enumerate().filter_map(|(place, node)| Some((node.parent?, place))).collect();
        for (place, node) in nodes.iter().enumerate() {
            // A file that says nothing of itself belongs to whoever is above it.
            let mut owner = place;
            while let (None, Some(next)) = (nodes[owner].volume, above.get(&owner)) {
                owner = *next;
            }
            let volume = nodes[owner].volume.and_then(|volume| self.volumes.get(&volume));
            let is_ours = node.file.ids.is_some();
            let uuid = node.layer.unwrap_or_else(|| self.source.mint());
            self.layers.push(LayerRecord {
                id: ids[place],
                uuid,
                blob: node.file.name.clone(),
                format: node.file.format,
                volume: volume.map_or(unknown, |volume| volume.id),
                parent: node.parent.map(|parent| ids[parent]),
                backing_label: node.file.facts.as_ref().and_then(|facts| facts.backing_label.clone()),
                size: node.file.size,
                cluster_bits: node.file.cluster_bits,
                state: match () {
                    () if heads.contains(&place) => LayerState::Head,
                    () if is_ours => LayerState::Retired,
                    () => LayerState::Frozen,
                },
                origin: match () {
                    () if !is_ours => Origin::Base,
                    () if node.file.name == layer_blob(uuid) => Origin::Created,
                    () => Origin::Adopted,
                },
                created: self.now,
                rewrite: None,
                taken_in: None,
                l2: node.file.l2,
                seal: None,
                settled: Settled::Yes,
            });
        }
        for (uuid, head) in &self.graph.heads {
            if let Some(volume) = self.volumes.get_mut(uuid) {
                volume.head = ids[*head];
            }
        }
    }

    fn add_snapshots(&mut self, rebuilt: &mut Rebuilt) {
        let listed = std::mem::take(&mut self.graph.snapshots);
        for (number, Listed { volume, holder, claim }) in (1..).zip(listed) {
            let uuid =
                claim.as_ref().map_or_else(|| self.source.mint(), |claim| Uuid::from_bytes(claim.snapshot));
            let name = named(claim.as_ref().map_or("", |claim| &claim.name), uuid, rebuilt);
            // The graph lists nothing of a volume that is not there.
            let Some(volume) = self.volumes.get(&volume) else { continue };
            let layer = &mut self.layers[holder];
            layer.state = LayerState::Frozen;
            let record = SnapshotRecord {
                id: SnapshotId(number),
                uuid,
                name,
                description: None,
                volume: volume.id,
                volume_uuid: volume.uuid,
                volume_kind: volume.kind,
                // Set when the trees are known.
                tree: TreeId(0),
                parent: None,
                layer: layer.id,
                distance: 0,
                size: self.graph.nodes[holder].file.blob.allocated().unwrap_or_default(),
                size_virtual: layer.size,
                group: None,
                tags: rebuilt_tag(),
                wish: WishMark::default(),
                created: claim.as_ref().map_or(self.now, |claim| Timestamp(claim.created)),
                changed: self.now,
                holds: Vec::new(),
            };
            self.snapshots.push(Kept { record, holder, claim });
        }
    }

    /// The snapshot that a layer hangs from: the last one of its volume on the nearest layer below that has one.
    fn nearest(&self, volume: VolumeId, layer: usize) -> Option<usize> {
        let mut at = self.graph.nodes[layer].parent;
        while let Some(place) = at {
            if let Some(found) = self.on_layers.get(&(place, volume)) {
                return found.last().copied();
            }
            at = self.graph.nodes[place].parent;
        }
        None
    }

    /// Parents, trees and distances, from the layers alone.
    fn plant_trees(&mut self) {
        let count = self.snapshots.len();
        for (index, kept) in self.snapshots.iter().enumerate() {
            self.on_layers.entry((kept.holder, kept.record.volume)).or_default().push(index);
        }
        let parents: Vec<Option<usize>> = (0..count)
            .map(|index| {
                let kept = &self.snapshots[index];
                let beside = &self.on_layers[&(kept.holder, kept.record.volume)];
                let before = beside.iter().rev().find(|other| **other < index).copied();
                before.or_else(|| self.nearest(kept.record.volume, kept.holder))
            })
            .collect();
        let mut rooted = BTreeSet::new();
        for index in 0..count {
            // From the root down to this one.
            let mut way = vec![index];
            while let Some(parent) = parents[*way.last().expect("it begins with one")] {
                way.push(parent);
            }
            let root = *way.last().expect("it begins with one");
            if self.snapshots[root].record.tree == TreeId(0) {
                let volume = self.snapshots[root].record.volume;
                let tree = TreeRecord {
                    id: TreeId(self.trees.len() as u64 + 1),
                    uuid: self.source.mint(),
                    volume,
                    latest: None,
                    created: self.snapshots[root].record.created,
                    changed: self.now,
                };
                self.snapshots[root].record.tree = tree.id;
                self.snapshots[root].record.distance = u32::from(rooted.insert(volume));
                self.trees.push(tree);
            }
            let (tree, distance) = (self.snapshots[root].record.tree, self.snapshots[root].record.distance);
            let record_of_parent = parents[index].map(|parent| self.snapshots[parent].record.id);
            let record = &mut self.snapshots[index].record;
            record.tree = tree;
            record.parent = record_of_parent;
            record.distance = distance + u32::try_from(way.len() - 1).unwrap_or(u32::MAX);
        }
        for kept in &self.snapshots {
            let tree = self.trees.iter_mut().find(|tree| tree.id == kept.record.tree);
            let tree = tree.expect("every snapshot was given a tree");
            tree.latest = tree.latest.max(Some(kept.record.id));
        }
        let heads: Vec<(Uuid, usize)> = self.graph.heads.iter().map(|(uuid, head)| (*uuid, *head)).collect();
        for (uuid, head) in heads {
            let volume = self.volumes[&uuid].id;
            let Some(latest) = self.nearest(volume, head) else { continue };
            let record = &self.snapshots[latest].record;
            let tree = self.trees.iter_mut().find(|tree| tree.id == record.tree);
            tree.expect("every snapshot was given a tree").latest = Some(record.id);
            self.volumes.get_mut(&uuid).expect("just found").tree_current = Some(record.tree);
        }
    }

    fn machine(&mut self, uuid: Uuid, name: &str) -> MachineId {
        let id = MachineId(self.machines.len() as u64 + 1);
        let now = self.now;
        let machine = self.machines.entry(uuid).or_insert_with(|| MachineRecord {
            id,
            uuid,
            name: String::new(),
            description: None,
            running: Running::Here,
            group_current: None,
            created: now,
            changed: now,
        });
        if machine.name.is_empty() {
            machine.name = name.chars().take(NAME_MAX).collect();
        }
        machine.id
    }

    /// Puts each volume back into the machine that its head knows of, if its place there is free.
    fn attach(&mut self, rebuilt: &mut Rebuilt) {
        let heads: Vec<(Uuid, usize)> = self.graph.heads.iter().map(|(uuid, head)| (*uuid, *head)).collect();
        let mut devices = BTreeSet::new();
        let mut roots = BTreeSet::new();
        for (place, (uuid, head)) in heads.into_iter().enumerate() {
            let notes = self.graph.nodes[head].notes().cloned().unwrap_or_default();
            let Some(machine_uuid) = notes.machine.map(Uuid::from_bytes) else { continue };
            let machine = self.machine(machine_uuid, &notes.machine_name);
            let volume = self.volumes.get_mut(&uuid).expect("every head has a volume");
            let why = if volume.kind == VolumeKind::Root && !roots.insert(machine) {
                "the machine has another root volume"
            } else if !devices.insert((machine, notes.device_id)) {
                "another volume has its device id"
            } else {
                let since = volume.created;
                volume.attachments.push(Attachment { machine, device_id: notes.device_id, since });
                rebuilt.volumes[place].machine = Some(machine_uuid);
                continue;
            };
            rebuilt.volumes[place].detached = Some(why.to_owned());
        }
    }

    /// The groups of which every member is there.
    fn add_groups(&mut self, rebuilt: &mut Rebuilt) {
        let mut members: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
        for (index, kept) in self.snapshots.iter().enumerate() {
            let group = kept.claim.as_ref().and_then(|claim| claim.group);
            if let Some(group) = group {
                members.entry(Uuid::from_bytes(group)).or_default().push(index);
            }
        }
        // The older ones first: a group descends from one that is there already.
        let mut groups: Vec<(Uuid, Vec<usize>)> = members.into_iter().collect();
        groups.sort_by_key(|(_, members)| members[0]);
        for (uuid, members) in groups {
            let claims: Vec<SnapshotClaim> =
                members.iter().filter_map(|member| self.snapshots[*member].claim.clone()).collect();
            let first = &claims[0];
            let count = first.members;
            let ordinals: BTreeSet<u32> = claims.iter().map(|claim| claim.ordinal).collect();
            let is_whole = claims.len() as u64 == u64::from(count)
                && ordinals.iter().copied().eq(0..count)
                && claims.iter().all(|claim| claim.machine == first.machine && claim.members == count);
            if !is_whole {
                rebuilt.groups_incomplete.push(IncompleteGroup {
                    uuid,
                    name: first.group_name.clone(),
                    members: count,
                    found: members.iter().map(|member| self.snapshots[*member].record.uuid).collect(),
                });
                continue;
            }
            let name = named(&first.group_name, uuid, rebuilt);
            self.add_group(uuid, name, &members, &claims);
            rebuilt.groups.push(uuid);
        }
        for (uuid, head) in &self.graph.heads {
            let volume = &self.volumes[uuid];
            let Some(machine) = volume.attachments.first().map(|attachment| attachment.machine) else {
                continue;
            };
            let latest = self.nearest(volume.id, *head);
            let group = latest.and_then(|latest| self.snapshots[latest].record.group);
            let group = self.groups.iter().find(|known| Some(known.id) == group && known.machine == machine);
            if let (Some(group), Some(machine)) =
                (group, self.machines.values_mut().find(|known| known.id == machine))
            {
                machine.group_current = machine.group_current.max(Some(group.id));
            }
        }
    }

    fn add_group(&mut self, uuid: Uuid, name: String, members: &[usize], claims: &[SnapshotClaim]) {
        let machine_uuid = Uuid::from_bytes(claims[0].machine);
        let machine = self.machine(machine_uuid, "");
        let id = GroupId(self.groups.len() as u64 + 1);
        let created = Timestamp(claims[0].created);
        let below = members.iter().filter_map(|member| self.snapshots[*member].record.parent).max();
        let below = below.and_then(|below| self.snapshots.iter().find(|kept| kept.record.id == below));
        let parent = below.and_then(|below| below.record.group);
        let parent = self.groups.iter().find(|group| Some(group.id) == parent && group.machine == machine);
        self.groups.push(GroupRecord {
            id,
            uuid,
            name,
            description: None,
            machine,
            machine_uuid,
            snapshot_count: claims[0].members,
            parent: parent.map(|parent| parent.id),
            consistency: Consistency::Crash,
            left_out: Vec::new(),
            tags: rebuilt_tag(),
            wish: WishMark::default(),
            created,
            changed: self.now,
        });
        for (member, claim) in members.iter().zip(claims) {
            let kept = &mut self.snapshots[*member];
            kept.record.group = Some(id);
            let volume = &self.volumes[&kept.record.volume_uuid];
            self.refs.push(RefRecord {
                group: id,
                ordinal: claim.ordinal,
                snapshot: kept.record.id,
                snapshot_uuid: kept.record.uuid,
                snapshot_name: kept.record.name.clone(),
                snapshot_deleted: false,
                device_id: claim.device_id,
                volume: volume.id,
                volume_uuid: volume.uuid,
                volume_name: volume.name.clone(),
                volume_kind: kind_of_number(claim.kind),
                blob: self.layers[kept.holder].blob.clone(),
                attached_since: created,
                created,
                changed: self.now,
            });
        }
    }

    fn tell(&mut self, rebuilt: &mut Rebuilt) {
        for machine in self.machines.values_mut() {
            machine.name = named(&machine.name, machine.uuid, rebuilt);
        }
        rebuilt.machines = self.machines.keys().copied().collect();
        for kept in &self.snapshots {
            rebuilt.snapshots.push(RebuiltSnapshot {
                uuid: kept.record.uuid,
                name: kept.record.name.clone(),
                volume: kept.record.volume_uuid,
                file: self.layers[kept.holder].blob.to_string(),
                proof: if kept.claim.is_some() { Proof::Claimed } else { Proof::Absent },
            });
        }
    }
}
