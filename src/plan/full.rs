//! Full snapshots: a disk is copied into a layer of its own, which starts a new tree.
//!
//! | | head of before | overlay | flat layer |
//! |---|---|---|---|
//! | the moment: [`set_aside`] | retired | head, above the head of before | being filled |
//! | the copy is whole and durable | retired | head; its header is put above the flat layer | retired |
//! | the snapshot: [`name_aside`] | garbage, unless something else reads it | head, above the flat layer | frozen; the snapshot names it |
//!
//! No snapshot is there before the last line, and the disk reads the same at every instant. Disks that are not copied
//! can be in the same moment: their heads are retired with the others, and named in the last line.

use super::books::Books;
use super::freeze::{Content, Minted, Moment, Place, add_overlay, cluster_bits, name_content};
use super::refusal::Refusal;
use super::text::{backing_label, layer_blob};
use super::{NewFile, Plan};
use crate::catalog::{
    DiskView, Edit, IdSource, LayerFormat, LayerRecord, LayerState, Origin, Settled, SnapshotRecord,
    VolumeRecord,
};
use crate::storage::BlobName;
use crate::units::ByteCount;
use uuid::Uuid;

/// Whether a snapshot keeps what changed since the one before, or everything.
#[doc = include_str!("../engine/examples/snapshots.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[non_exhaustive]
pub enum SnapshotMode {
    /// The head is frozen; nothing is copied. The snapshot reads through to those before it.
    #[default]
    Incremental,
    /// The content of the disk is copied into a layer that reads through to nothing, and starts a new tree. A disk
    /// that has nothing below its head is not copied: its head is such a layer.
    Full,
}

impl SnapshotMode {
    /// What the mode adds to the check value of a wish: nothing, when it is the usual one.
    pub(crate) fn wish_part(self) -> Option<&'static str> {
        (self == Self::Full).then_some("full")
    }
}

/// The layers of a chain that a full snapshot leaves behind: its own, and the head above it.
pub(crate) const LAYERS_AFTER: usize = 2;

/// Refuses a cap that not even a full snapshot keeps to.
pub(crate) fn check_cap_after(disk: &DiskView, cap: u32) -> Result<(), Refusal> {
    if LAYERS_AFTER as u64 > u64::from(cap) {
        let volume = disk.volume.name.clone();
        return Err(Refusal::ChainTooLong { volume, length: LAYERS_AFTER, cap });
    }
    Ok(())
}

/// A disk whose content is set aside at the moment of a snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Aside {
    /// The disk as it was.
    pub(crate) disk: DiskView,
    pub(crate) minted: Minted,
    /// Bytes that the file of its head takes up.
    pub(crate) head_allocated: ByteCount,
    /// What the disk writes to since.
    pub(crate) overlay: LayerRecord,
    /// The layer that the content is copied into, when it is.
    pub(crate) flat: Option<LayerRecord>,
}

/// Adds the setting aside of a disk to a plan; with the uuid of a layer, its content is to be copied into that.
pub(crate) fn set_aside(
    disk: DiskView,
    minted: Minted,
    head_allocated: ByteCount,
    flat: Option<Uuid>,
    moment: &Moment,
    ids: &IdSource,
    plan: &mut Plan,
) -> Aside {
    let overlay = add_overlay(&disk, minted, moment, ids, plan);
    let (head, volume) = (&disk.chain[0], &disk.volume);
    plan.edits.extend([
        Edit::PutLayer(LayerRecord { state: LayerState::Retired, ..head.clone() }),
        Edit::PutVolume(VolumeRecord { head: overlay.id, changed: moment.at, ..volume.clone() }),
    ]);
    let flat = flat.map(|uuid| {
        let layer = LayerRecord {
            id: ids.take_layer(),
            uuid,
            blob: layer_blob(uuid),
            format: LayerFormat::Qcow2,
            volume: volume.id,
            parent: None,
            backing_label: None,
            size: volume.size,
            cluster_bits: cluster_bits(head, moment.cluster_bits),
            state: LayerState::Building,
            origin: Origin::Created,
            created: moment.at,
            rewrite: None,
            taken_in: None,
            l2: head.l2,
            seal: None,
            settled: Settled::Yes,
        };
        plan.files.push(NewFile { layer: layer.clone(), backing_format: None, volume_uuid: volume.uuid });
        plan.edits.push(Edit::PutLayer(layer.clone()));
        layer
    });
    Aside { disk, minted, head_allocated, overlay, flat }
}

/// Names the content that was set aside, in the books; answers the snapshot and the file that holds it.
/// `flat_allocated` is what the file of the flat layer takes up.
pub(crate) fn name_aside(
    books: &mut Books,
    aside: &Aside,
    flat_allocated: ByteCount,
    name: String,
    moment: &Moment,
    ids: &IdSource,
) -> (SnapshotRecord, BlobName) {
    let disk = &aside.disk;
    let (layer, allocated, place) = match &aside.flat {
        Some(flat) => (flat, flat_allocated, Place::InNewTree),
        None => (&disk.chain[0], aside.head_allocated, Place::InCurrentTree),
    };
    let content = Content { layer, allocated };
    let (tree, snapshot) = name_content(disk, content, place, name, aside.minted, moment, ids);
    books.put_layer(LayerRecord { state: LayerState::Frozen, ..layer.clone() });
    books.put_volume(VolumeRecord {
        head: aside.overlay.id,
        tree_current: Some(tree.id),
        changed: moment.at,
        ..disk.volume.clone()
    });
    books.put_tree(tree);
    books.put_snapshot(snapshot.clone());
    if aside.flat.is_some() {
        books.reparent(aside.overlay.id, Some(layer.id), Some(backing_label(&layer.blob)));
    }
    (snapshot, layer.blob.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_snapshot_is_another_wish_than_the_usual_one() {
        assert_eq!(SnapshotMode::Full.wish_part(), Some("full"));
        assert_eq!(SnapshotMode::Incremental.wish_part(), None);
    }
}
