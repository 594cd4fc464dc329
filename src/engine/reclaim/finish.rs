//! The last step of a merge: other layers below other layers, in the headers and in the books.
//!
//! 1. One commit notes, for each header that changes, the bytes that it will have ([`HeaderRewrite`]). Where a layer
//!    takes the place of the one above it, the same commit says so.
//! 2. The headers are written and synced.
//! 3. One commit says what is below what now, and drops the notes; whatever nobody reads any more is garbage.
//!
//! A crash between 1 and 3 leaves notes, and opening the pool does 2 and 3 again ([`finish_rewrite`]). The guest sees
//! the same whatever of it took place.

use super::super::error::{Error, Result};
use super::super::handles::{Volume, WritesHeld};
use super::super::layers::format_name;
use super::super::pool::Pool;
use super::survey::Around;
use super::work::Target;
use crate::catalog::{
    Catalog, Edit, HeaderRewrite, LayerId, LayerRecord, LayerState, Reader, RefRecord, SnapshotRecord,
    VolumeRecord,
};
use crate::chain::{Chain, Layer};
use crate::image::{BackingLabel, write_header};
use crate::plan::Plan;
use crate::plan::books::Books;
use crate::plan::text::backing_label;
use crate::storage::{Access, Hold, Store};
use std::sync::Arc;

/// A layer above `retired` has everything that it needs: it reads through to what is below now.
pub(super) fn pulled(
    pool: &Arc<Pool>,
    reader: &Reader,
    retired: &LayerRecord,
    child: &LayerRecord,
    target: &Target,
    around: &Around,
) -> Result<()> {
    let _layout = pool.layout.write();
    let below = retired.parent.map(|parent| reader.need_layer(parent)).transpose()?;
    let writes = target.handle.as_ref().map(Volume::hold_writes);
    rebase(pool, &[(child.clone(), Arc::clone(&target.layer))], below.as_ref(), Vec::new())?;
    drop(writes);
    pool.open_layers.forget(child.id);
    pool.open_layers.forget(retired.id);
    // A disk that cannot goes on reading through the files of before, which it has open.
    drop(pool.restack(around));
    Ok(())
}

/// `retired` has everything of the layer above it, `child`, and takes its place. `stack` is `retired`, open for
/// writing, and what is below it.
pub(super) fn committed(
    pool: &Arc<Pool>,
    retired: LayerId,
    child: &LayerRecord,
    stack: &[Arc<Layer>],
    writes: Option<&WritesHeld<'_>>,
    around: &Around,
) -> Result<()> {
    let _layout = pool.layout.write();
    let reader = pool.read()?;
    let retired = reader.need_layer(retired)?;
    let snapshots = reader.snapshots_on(child.id)?.into_vec()?;
    let above = reader.layers_above(child.id)?.into_vec()?;
    let targets: Vec<Target> =
        above.iter().map(|above| pool.target(&reader, above)).collect::<Result<_>>()?;

    let volumes: Vec<_> = snapshots.iter().map(|snapshot| snapshot.volume).chain([child.volume]).collect();
    let mut books = Books::open(reader.holdings(&volumes, &[])?);
    let merged = LayerRecord {
        state: child.state,
        volume: child.volume,
        size: child.size,
        taken_in: None,
        seal: None,
        ..retired.clone()
    };
    books.put_layer(merged.clone());
    for snapshot in snapshots {
        if let Some(member) = reader.ref_of_snapshot(snapshot.id)? {
            books.put_ref(RefRecord { blob: merged.blob.clone(), ..member });
        }
        books.put_snapshot(SnapshotRecord { layer: retired.id, ..snapshot });
    }
    if let Some(volume) = reader.volume_of_head(child.id)? {
        books.put_volume(VolumeRecord { head: retired.id, ..volume });
        books.put_layer(LayerRecord { parent: None, ..child.clone() });
    }
    books.retire(child.id);
    let layers: Vec<_> =
        above.into_iter().zip(targets.iter().map(|target| Arc::clone(&target.layer))).collect();
    let held: Vec<_> =
        targets.iter().filter_map(|target| target.handle.as_ref()).map(Volume::hold_writes).collect();
    rebase(pool, &layers, Some(&merged), books.edits())?;
    // A head: nothing is above it, so the commit was all there was to do.
    if let Some(writes) = writes {
        writes.replace(Chain::new(stack.to_vec()));
    }
    drop(held);
    for (record, _) in &layers {
        pool.open_layers.forget(record.id);
    }
    pool.open_layers.forget(child.id);
    pool.open_layers.forget(retired.id);
    // A disk that cannot goes on reading through the files of before, which it has open.
    drop(pool.restack(around));
    Ok(())
}

/// Puts layers, which are open for writing, above another layer than before. The edits `also` are published with the
/// notes of the headers.
fn rebase(
    pool: &Pool,
    layers: &[(LayerRecord, Arc<Layer>)],
    below: Option<&LayerRecord>,
    also: Vec<Edit>,
) -> Result<()> {
    let moves: Vec<Move<'_>> = layers.iter().map(|(record, layer)| Move { record, layer, below }).collect();
    write_headers(pool, &moves, also)?;
    if layers.is_empty() {
        return Ok(());
    }
    let ids: Vec<LayerId> = layers.iter().map(|(record, _)| record.id).collect();
    pool.admit_change()?;
    let noted = close(&pool.catalog, &ids);
    if let Err(error @ Error::OutcomeUnknown(_)) = &noted {
        pool.note_unknown(error);
    }
    noted
}

/// A layer, open for writing, and what it is put above.
pub(in super::super) struct Move<'a> {
    pub(in super::super) record: &'a LayerRecord,
    pub(in super::super) layer: &'a Layer,
    pub(in super::super) below: Option<&'a LayerRecord>,
}

/// Notes the new headers of layers in the books, with the edits `also`, and writes them. What is below is the old
/// layer in the books until the caller says otherwise there.
pub(in super::super) fn write_headers(pool: &Pool, moves: &[Move<'_>], also: Vec<Edit>) -> Result<()> {
    let mut edits = also;
    let mut drafts = Vec::with_capacity(moves.len());
    for Move { record, layer, below } in moves {
        let Some(image) = layer.as_qcow2() else { continue };
        let unusable = |source| pool.unusable(record, source);
        pool.void_seal(record.id)?;
        image.flush().map_err(unusable)?;
        let label = below.map(|below| backing_label(&below.blob));
        let backing = below
            .zip(label.clone())
            .map(|(below, name)| BackingLabel { name, format: format_name(below.format).to_owned() });
        let draft = image.draft_backing(backing).map_err(unusable)?;
        let rewrite = HeaderRewrite {
            header: draft.bytes().to_vec(),
            parent: below.map(|below| below.id),
            backing_label: label,
        };
        edits.push(LayerRecord { rewrite: Some(rewrite), seal: None, ..(*record).clone() }.into());
        drafts.push((record, image, draft));
    }
    pool.perform(&Plan { edits, ..Plan::default() })?;
    for (record, image, draft) in &drafts {
        image.put_header(draft).map_err(|source| pool.unusable(record, source))?;
    }
    Ok(())
}

/// Says in the books what is below layers whose headers were written as noted, and drops the notes.
fn close(catalog: &Catalog, layers: &[LayerId]) -> Result<()> {
    let reader = catalog.read()?;
    let mut volumes = Vec::new();
    for id in layers {
        volumes.push(reader.need_layer(*id)?.volume);
    }
    let mut books = Books::open(reader.holdings(&volumes, &[])?);
    for id in layers {
        let Some(layer) = books.layer(*id).cloned() else { continue };
        if let Some(rewrite) = layer.rewrite {
            books.reparent(*id, rewrite.parent, rewrite.backing_label);
        }
    }
    catalog.commit(None, &books.edits())?;
    Ok(())
}

/// Writes a header as it was noted, once more, and says so in the books. The file is not open as an image.
pub(in super::super) fn finish_rewrite(
    store: &dyn Store,
    catalog: &Catalog,
    layer: &LayerRecord,
) -> Result<()> {
    let Some(rewrite) = &layer.rewrite else { return Ok(()) };
    let blob = store.open(&layer.blob, Access::Write)?;
    blob.hold(Hold::Write)?;
    write_header(&*blob, layer.blob.as_str(), &rewrite.header)?;
    close(catalog, &[layer.id])
}

impl Pool {
    /// Finishes what an earlier merge around a layer has left half way.
    pub(super) fn finish_rewrites(&self, reader: &Reader, id: LayerId) -> Result<()> {
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            for above in reader.layers_above(id)? {
                let above = above?;
                if above.state == LayerState::Retired || above.rewrite.is_some() {
                    open.push(above.id);
                }
                self.finish_rewrite_of(&above)?;
            }
        }
        Ok(())
    }

    /// Finishes the header of one layer, unless it is open.
    pub(in super::super) fn finish_rewrite_of(&self, layer: &LayerRecord) -> Result<()> {
        let is_open = layer.state == LayerState::Head && self.open_volumes.has(layer.volume);
        if layer.rewrite.is_none() || is_open {
            return Ok(());
        }
        self.open_layers.forget(layer.id);
        let finished = finish_rewrite(self.store(), &self.catalog, layer);
        if let Err(error @ Error::OutcomeUnknown(_)) = &finished {
            self.note_unknown(error);
        }
        finished
    }

    /// Lets the open disks above a layer read through the files that are below them now, as they are now. Reads
    /// through the files of before are over when it returns.
    pub(super) fn restack(&self, around: &Around) -> Result<()> {
        self.restack_volumes(&around.volumes)
    }

    /// As [`Pool::restack`], for these volumes.
    pub(in super::super) fn restack_volumes(&self, volumes: &[VolumeRecord]) -> Result<()> {
        for volume in volumes.iter().filter(|volume| self.open_volumes.has(volume.id)) {
            let reader = self.read()?;
            let Some(volume) = reader.volume(volume.id)? else { continue };
            let records = reader.chain(volume.head)?;
            let mut lower = Vec::with_capacity(records.len());
            for (place, record) in records.iter().enumerate().skip(1) {
                lower.push(self.open_layer(volume.uuid, record, records.get(place + 1), Access::Read)?);
            }
            self.open_volumes.restack(volume.id, records[0].blob.as_str(), lower);
        }
        Ok(())
    }
}
