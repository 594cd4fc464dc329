//! One disk frozen: its head becomes the snapshot, a new empty overlay above it becomes the head.
//!
//! Groups and single snapshots are made of this and of nothing else.

use super::refusal::Refusal;
use super::text::{backing_label, layer_blob};
use super::{NewFile, Plan};
use crate::catalog::{
    DiskView, Edit, GroupId, IdSource, LayerFormat, LayerRecord, LayerState, Origin, Settled, SnapshotRecord,
    Tags, Timestamp, TreeRecord, VolumeRecord, WishMark,
};
use crate::units::ByteCount;
use uuid::Uuid;

/// The fresh uuids that one member needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Minted {
    pub(crate) snapshot: Uuid,
    pub(crate) layer: Uuid,
    pub(crate) tree: Uuid,
}

/// What all members have in common.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    pub(crate) at: Timestamp,
    pub(crate) description: Option<String>,
    pub(crate) tags: Tags,
    pub(crate) wish: WishMark,
    pub(crate) group: Option<GroupId>,
    /// log2 of the cluster size of an overlay above a raw file; above an image it is that of the image.
    pub(crate) cluster_bits: u8,
}

/// Refuses when the disk's chain would get longer than `cap`.
pub(crate) fn check_cap(disk: &DiskView, cap: u32) -> Result<(), Refusal> {
    let length = disk.chain.len() + 1;
    if length as u64 > u64::from(cap) {
        return Err(Refusal::ChainTooLong { volume: disk.volume.name.clone(), length, cap });
    }
    Ok(())
}

/// Adds the freezing of one disk, whose head takes up `head_allocated`, to a plan; answers the record of the
/// snapshot.
pub(crate) fn freeze(
    disk: &DiskView,
    name: String,
    minted: Minted,
    head_allocated: ByteCount,
    moment: &Moment,
    ids: &IdSource,
    plan: &mut Plan,
) -> SnapshotRecord {
    let head = disk.chain.first().expect("a volume has a head");
    let overlay = add_overlay(disk, minted, moment, ids, plan);
    let content = Content { layer: head, allocated: head_allocated };
    let (tree, snapshot) = name_content(disk, content, Place::InCurrentTree, name, minted, moment, ids);
    plan.edits.extend([
        Edit::PutLayer(LayerRecord { state: LayerState::Frozen, ..head.clone() }),
        Edit::PutVolume(VolumeRecord {
            head: overlay.id,
            tree_current: Some(tree.id),
            changed: moment.at,
            ..disk.volume.clone()
        }),
        Edit::PutTree(tree),
        Edit::PutSnapshot(snapshot.clone()),
    ]);
    snapshot
}

/// Adds the overlay that the disk writes to from the moment on.
pub(super) fn add_overlay(
    disk: &DiskView,
    minted: Minted,
    moment: &Moment,
    ids: &IdSource,
    plan: &mut Plan,
) -> LayerRecord {
    let head = disk.chain.first().expect("a volume has a head");
    let volume = &disk.volume;
    let overlay = LayerRecord {
        id: ids.take_layer(),
        uuid: minted.layer,
        blob: layer_blob(minted.layer),
        format: LayerFormat::Qcow2,
        volume: volume.id,
        parent: Some(head.id),
        backing_label: Some(backing_label(&head.blob)),
        size: volume.size,
        cluster_bits: cluster_bits(head, moment.cluster_bits),
        state: LayerState::Head,
        origin: Origin::Created,
        created: moment.at,
        rewrite: None,
        taken_in: None,
        l2: head.l2,
        seal: None,
        settled: Settled::No,
    };
    plan.files.push(NewFile {
        layer: overlay.clone(),
        backing_format: Some(head.format),
        volume_uuid: volume.uuid,
    });
    plan.edits.push(Edit::PutLayer(overlay.clone()));
    overlay
}

/// The clusters of what is made beside or above a head: its own, or when it has none the default.
pub(crate) fn cluster_bits(head: &LayerRecord, default: u8) -> u8 {
    if head.format == LayerFormat::Raw { default } else { head.cluster_bits }
}

/// A frozen layer that a snapshot shall name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content<'a> {
    pub(super) layer: &'a LayerRecord,
    /// Bytes that its file takes up.
    pub(super) allocated: ByteCount,
}

/// Where a snapshot stands among the others of its volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// After the latest one of the current tree; first in a new tree when there is none.
    InCurrentTree,
    /// First in a new tree.
    InNewTree,
}

/// The snapshot that names a layer, and its tree.
pub(super) fn name_content(
    disk: &DiskView,
    content: Content<'_>,
    place: Place,
    name: String,
    minted: Minted,
    moment: &Moment,
    ids: &IdSource,
) -> (TreeRecord, SnapshotRecord) {
    let volume = &disk.volume;
    let id = ids.take_snapshot();
    let current = disk.current.as_ref().filter(|_| place == Place::InCurrentTree);
    let tree = match current {
        Some((tree, _)) => TreeRecord { latest: Some(id), changed: moment.at, ..tree.clone() },
        None => TreeRecord {
            id: ids.take_tree(),
            uuid: minted.tree,
            volume: volume.id,
            latest: Some(id),
            created: moment.at,
            changed: moment.at,
        },
    };
    let snapshot = SnapshotRecord {
        id,
        uuid: minted.snapshot,
        name,
        description: moment.description.clone(),
        volume: volume.id,
        volume_uuid: volume.uuid,
        volume_kind: volume.kind,
        tree: tree.id,
        parent: current.map(|(_, latest)| latest.id),
        layer: content.layer.id,
        // 1 for the first snapshot of a volume, 0 for one that starts a later tree, parent + 1 otherwise.
        distance: current.map_or(u32::from(!disk.has_trees), |(_, latest)| latest.distance + 1),
        size: content.allocated,
        size_virtual: volume.size,
        group: moment.group,
        tags: moment.tags.clone(),
        wish: moment.wish,
        created: moment.at,
        changed: moment.at,
        holds: Vec::new(),
    };
    (tree, snapshot)
}
