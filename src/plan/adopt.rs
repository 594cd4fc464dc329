//! Taking over a chain of files that is there already: which layers become what.

use super::freeze::Minted;
use super::refusal::Refusal;
use super::volume::{ImageShape, VolumeWish, add_overlay};
use super::{Plan, text};
use crate::catalog::{
    Edit, IdSource, L2Entries, LayerFormat, LayerRecord, LayerState, Origin, Settled, SnapshotRecord, Tags,
    Timestamp, TreeRecord, VolumeRecord, WishMark,
};
use crate::storage::BlobName;
use crate::units::ByteCount;
use uuid::Uuid;

/// What was found in one file of the chain.
#[derive(Clone, Debug)]
pub(crate) struct FoundLayer {
    pub(crate) blob: BlobName,
    pub(crate) format: LayerFormat,
    pub(crate) size: ByteCount,
    pub(crate) cluster_bits: u8,
    pub(crate) l2: L2Entries,
    /// What its header says about its backing file, to the letter.
    pub(crate) backing_label: Option<String>,
    pub(crate) allocated: ByteCount,
    /// The record of the layer, when the catalogue has the file already.
    pub(crate) known: Option<LayerRecord>,
    /// For a layer that is new to the catalogue, and for the snapshot that it may become.
    pub(crate) minted: Minted,
}

/// What the layers below the head become.
#[doc = include_str!("../engine/examples/adopting.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LowerLayers {
    /// Frozen layers that no snapshot names.
    #[default]
    Frozen,
    /// One snapshot each, named after its file.
    Snapshots,
}

/// Plans a volume, whose wish was checked, on a chain of files, the head first. A raw head gets an overlay above it; a qcow2 head is
/// written in place from then on.
pub(crate) fn adopt(
    wish: &VolumeWish,
    found: &[FoundLayer],
    lower: LowerLayers,
    overlay: Option<(Uuid, ImageShape)>,
    at: Timestamp,
    ids: &IdSource,
) -> Result<(Plan, VolumeRecord), Refusal> {
    let mut plan = Plan::default();
    let top = found.first().expect("a chain has at least one file");
    let volume_id = ids.take_volume();

    // Bottom first: a layer's record needs the id of the one below it.
    let mut records: Vec<LayerRecord> = Vec::new();
    for (depth, layer) in found.iter().enumerate().rev() {
        let is_head = depth == 0 && overlay.is_none();
        let record = match &layer.known {
            Some(known) => known.clone(),
            None => LayerRecord {
                id: ids.take_layer(),
                uuid: layer.minted.layer,
                blob: layer.blob.clone(),
                format: layer.format,
                volume: volume_id,
                parent: records.last().map(|below| below.id),
                backing_label: layer.backing_label.clone(),
                size: layer.size,
                cluster_bits: layer.cluster_bits,
                state: if is_head { LayerState::Head } else { LayerState::Frozen },
                origin: if is_head { Origin::Adopted } else { Origin::Base },
                created: at,
                rewrite: None,
                taken_in: None,
                l2: layer.l2,
                seal: None,
                settled: Settled::Yes,
            },
        };
        if layer.known.is_none() {
            plan.edits.push(Edit::PutLayer(record.clone()));
        }
        records.push(record);
    }
    let head = match overlay {
        Some(_) => ids.take_layer(),
        None => records.last().expect("as many records as files").id,
    };
    let size = overlay.map_or(top.size, |(_, shape)| shape.size);
    let mut volume = wish.record(volume_id, size, head, at);
    if let Some((uuid, shape)) = overlay {
        add_overlay(&mut plan, &volume, shape, records.last(), uuid, at);
    }
    if lower == LowerLayers::Snapshots {
        let frozen = if overlay.is_some() { records.len() } else { records.len() - 1 };
        add_snapshots(&mut plan, &mut volume, &records[..frozen], found, at, ids)?;
    }
    plan.edits.push(Edit::PutVolume(volume.clone()));
    Ok((plan, volume))
}

/// Names each frozen layer, the lowest first, as a snapshot of the volume.
fn add_snapshots(
    plan: &mut Plan,
    volume: &mut VolumeRecord,
    records: &[LayerRecord],
    found: &[FoundLayer],
    at: Timestamp,
    ids: &IdSource,
) -> Result<(), Refusal> {
    let Some(bottom) = found.last() else { return Ok(()) };
    let mut tree = TreeRecord {
        id: ids.take_tree(),
        uuid: bottom.minted.tree,
        volume: volume.id,
        latest: None,
        created: at,
        changed: at,
    };
    for (distance, (record, layer)) in (1..).zip(records.iter().zip(found.iter().rev())) {
        let snapshot = SnapshotRecord {
            id: ids.take_snapshot(),
            uuid: layer.minted.snapshot,
            name: text::name("name of a file", file_name(&layer.blob))?,
            description: None,
            volume: volume.id,
            volume_uuid: volume.uuid,
            volume_kind: volume.kind,
            tree: tree.id,
            parent: tree.latest,
            layer: record.id,
            distance,
            size: layer.allocated,
            size_virtual: layer.size,
            group: None,
            tags: Tags::default(),
            wish: WishMark::default(),
            created: at,
            changed: at,
            holds: Vec::new(),
        };
        tree.latest = Some(snapshot.id);
        plan.edits.push(Edit::PutSnapshot(snapshot));
    }
    if tree.latest.is_some() {
        volume.tree_current = Some(tree.id);
        plan.edits.push(Edit::PutTree(tree));
    }
    Ok(())
}

/// The last component of the name of a file.
fn file_name(blob: &BlobName) -> &str {
    blob.as_str().rsplit('/').next().unwrap_or_default()
}
