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
use super::super::notes::{Claims, Foreseen};
use super::super::pool::Pool;
use super::survey::Around;
use super::work::Target;
use crate::catalog::{
    Catalog, Edit, HeaderRewrite, LayerId, LayerRecord, LayerState, Reader, RefRecord, Settled,
    SnapshotRecord, VolumeRecord,
};
use crate::chain::{Chain, Layer};
use crate::image::{BackingLabel, HeaderDraft, Image, LayerNotes, write_header};
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
    let moves = [Move { record: child, layer: &target.layer, below: below.as_ref(), takes: Takes::Nothing }];
    let noted = note_headers(pool, &moves, Vec::new())?;
    put_headers(pool, &noted)?;
    close_headers(pool, &moves)?;
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
    let below = merged.parent.map(|parent| reader.need_layer(parent)).transpose()?;
    let moved = |(record, layer)| Move { record, layer, below: Some(&merged), takes: Takes::Nothing };
    let mut moves: Vec<Move<'_>> = layers.iter().map(|(record, layer)| moved((record, layer))).collect();
    // Comes last: once it says that it has taken the place, whoever is not moved is over.
    moves.push(Move { record: &merged, layer: &stack[0], below: below.as_ref(), takes: Takes::Place });
    let noted = note_headers(pool, &moves, books.edits())?;
    // A head: the commit has said where the guest writes now, whatever becomes of the header.
    if let Some(writes) = writes {
        writes.replace(Chain::new(stack.to_vec()));
    }
    put_headers(pool, &noted)?;
    close_headers(pool, &moves)?;
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

/// A layer, open for writing, and what it is put above.
pub(in super::super) struct Move<'a> {
    pub(in super::super) record: &'a LayerRecord,
    pub(in super::super) layer: &'a Layer,
    pub(in super::super) below: Option<&'a LayerRecord>,
    pub(in super::super) takes: Takes,
}

/// What a layer whose header is exchanged is to the layers that were above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Takes {
    /// What it was.
    Nothing,
    /// It has taken the place of the one above it, and of all whose notes are older.
    Place,
}

/// Notes the new headers of layers in the books, with the edits `also`, and writes them. What is below is the old
/// layer in the books until the caller says otherwise there.
pub(in super::super) fn write_headers(pool: &Pool, moves: &[Move<'_>], also: Vec<Edit>) -> Result<()> {
    put_headers(pool, &note_headers(pool, moves, also)?)
}

/// A header that is in the books and not yet in its file.
struct Noted<'a> {
    record: &'a LayerRecord,
    image: &'a Image,
    draft: HeaderDraft,
}

/// Notes the new headers of layers in the books, with the edits `also`.
fn note_headers<'a>(pool: &Pool, moves: &[Move<'a>], also: Vec<Edit>) -> Result<Vec<Noted<'a>>> {
    for Move { record, .. } in moves {
        pool.void_seal(record.id)?;
    }
    let reader = pool.read()?;
    let mut edits = Vec::with_capacity(moves.len());
    let mut noted = Vec::with_capacity(moves.len());
    let mut given_up = Vec::new();
    for Move { record, below, .. } in moves {
        given_up.extend(give_up_note(&reader, record.id, below.map(|below| below.id))?);
    }
    let foreseen = Foreseen::of(&reader, &also);
    for Move { record, layer, below, takes } in moves {
        let Some(image) = layer.as_qcow2() else { continue };
        let unusable = |source| pool.unusable(record, source);
        image.flush().map_err(unusable)?;
        if record.settled == Settled::No {
            image.blob().sync()?;
        }
        let label = below.map(|below| backing_label(&below.blob));
        let backing = below
            .zip(label.clone())
            .map(|(below, name)| BackingLabel { name, format: format_name(below.format).to_owned() });
        let parent = below.map(|below| below.id);
        let moved = LayerRecord { parent, ..(*record).clone() };
        let notes = foreseen.notes_of(&moved, Claims::BelowAndAside)?;
        // Whoever is moved by the same call is told so in the same generation, and counts.
        let floor = if *takes == Takes::Place { notes.written } else { 0 };
        let draft = image.draft_noted(backing, LayerNotes { floor, ..notes }).map_err(unusable)?;
        let rewrite = HeaderRewrite { header: draft.bytes().to_vec(), parent, backing_label: label };
        let settled = Settled::Yes;
        edits.push(LayerRecord { rewrite: Some(rewrite), seal: None, settled, ..(*record).clone() }.into());
        noted.push(Noted { record, image, draft });
    }
    drop(foreseen);
    let edits = given_up.into_iter().chain(also).chain(edits).collect();
    pool.perform(&Plan { edits, ..Plan::default() })?;
    Ok(noted)
}

/// What becomes of the layer that an earlier note would have put below this one, when another one goes there: the note of
/// a head that is open waits for its file to be closed.
fn give_up_note(reader: &Reader, id: LayerId, below: Option<LayerId>) -> Result<Vec<Edit>> {
    let Some(layer) = reader.layer(id)? else { return Ok(Vec::new()) };
    let noted = layer.rewrite.as_ref().and_then(|rewrite| rewrite.parent);
    let Some(noted) = noted.filter(|noted| Some(*noted) != below) else { return Ok(Vec::new()) };
    let mut books = Books::open(reader.holdings(&[layer.volume], &[])?);
    books.put_layer(LayerRecord { rewrite: None, ..layer });
    books.settle(noted);
    Ok(books.edits())
}

fn put_headers(pool: &Pool, noted: &[Noted<'_>]) -> Result<()> {
    for Noted { record, image, draft } in noted {
        image.put_header(draft).map_err(|source| pool.unusable(record, source))?;
    }
    Ok(())
}

/// Says in the books that the headers of layers are written.
fn close_headers(pool: &Pool, moves: &[Move<'_>]) -> Result<()> {
    pool.admit_change()?;
    let layers: Vec<LayerId> = moves.iter().map(|moved| moved.record.id).collect();
    let closed = close(&pool.catalog, &layers);
    if let Err(error @ Error::OutcomeUnknown(_)) = &closed {
        pool.note_unknown(error);
    }
    closed
}

/// Tells the heads of disks, open for writing, of everything that the books say now.
pub(in super::super) fn tell_anew(pool: &Pool, heads: &[(LayerRecord, Arc<Layer>)]) -> Result<()> {
    let reader = pool.read()?;
    let parents =
        heads.iter().map(|(head, _)| head.parent.map(|parent| reader.need_layer(parent)).transpose());
    let parents = parents.collect::<std::result::Result<Vec<_>, _>>()?;
    let moves: Vec<Move<'_>> = heads
        .iter()
        .zip(&parents)
        .map(|((record, layer), below)| Move { record, layer, below: below.as_ref(), takes: Takes::Nothing })
        .collect();
    write_headers(pool, &moves, Vec::new())?;
    close_headers(pool, &moves)
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
