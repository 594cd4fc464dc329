//! One retired layer, taken as far as a budget goes.
//!
//! What the steps rely on:
//!
//! * The locks of every volume above the layer are held: no head changes, nothing is deleted or taken meanwhile.
//! * Whoever reads through the layer above goes on reading: what it shows never changes, only where it has it.
//! * What is freed was hidden by something durable: a head is flushed first.
//! * Before anything is freed, the open disks read through the files as they are now, and the reads under way are
//!   over: nobody looks for it where it was.
//! * A handle to a snapshot keeps the files as they were when it was opened. As long as one reads a layer in a way
//!   that the catalogue does not know of, nothing is written to the layer.

use super::super::error::Result;
use super::super::handles::Volume;
use super::super::pool::Pool;
use super::model::{Decision, Model};
use super::survey::Around;
use super::{Reclaimed, finish};
use crate::catalog::{Edit, LayerId, LayerRecord, LayerState, Reader, TakenIn};
use crate::chain::merge::{Commit, Pull, Punch};
use crate::chain::{Layer, Ranges};
use crate::plan::Plan;
use crate::plan::books::Books;
use crate::plan::reclaim::Direction;
use crate::plan::refusal::Refusal;
use crate::storage::Access;
use crate::units::{ByteCount, GuestOffset};
use std::sync::Arc;

/// A layer that is written to: through the handle of its volume when it is a head.
pub(super) struct Target {
    pub(super) layer: Arc<Layer>,
    pub(super) handle: Option<Volume>,
}

/// The layers of a merge, opened.
pub(super) struct Opened {
    pub(super) retired: Arc<Layer>,
    pub(super) deeper: Vec<Arc<Layer>>,
}

/// Whether a snapshot names the uppermost of these layers, and each reads through the next one.
fn is_in_the_books(reader: &Reader, layers: &[LayerId]) -> Result<bool> {
    for (place, id) in layers.iter().enumerate() {
        let Some(layer) = reader.layer(*id)? else { return Ok(false) };
        let is_named = place > 0 || layer.state == LayerState::Frozen;
        let goes_on = layers.get(place + 1).is_none_or(|below| layer.parent == Some(*below));
        if !is_named || !goes_on {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Pool {
    /// Does about `budget` bytes of what is to be done with a layer; answers whether that was all.
    pub(in super::super) fn advance(
        self: &Arc<Self>,
        id: LayerId,
        direction: Direction,
        budget: ByteCount,
        done: &mut Reclaimed,
    ) -> Result<bool> {
        let (_held, reader, around) = self.lock_found(|reader| Self::around(reader, id))?;
        self.admit_change()?;
        self.finish_rewrites(&reader, id)?;
        let mut left = budget;
        loop {
            let reader = self.read()?;
            let Some(retired) = reader.layer(id)?.filter(|layer| layer.state == LayerState::Retired) else {
                return Ok(true);
            };
            if reader.layers_above(id)?.next().is_none() {
                // Deletions on both sides of it have each seen the other's layer.
                self.settle(&reader, &retired)?;
                return Ok(true);
            }
            self.refuse_busy(&reader, &around)?;
            let mut model = Model::default();
            self.survey(&reader, id, &mut model)?;
            for layer in model.layers.values() {
                done.see(layer.record.id, layer.allocated);
            }
            let before = done.bytes_copied();
            match model.decide(id, direction) {
                Decision::Nothing => return Ok(true),
                Decision::Punch(ranges) => {
                    let (reader, retired) = self.unsealed(id)?;
                    self.punch(&reader, &retired, &around, &ranges, done)?;
                }
                Decision::Pull { child, .. } => {
                    let (reader, child) = self.unsealed(child)?;
                    if !self.pull(&reader, &retired, &child, &around, left, done)? {
                        return Ok(false);
                    }
                }
                Decision::Commit { child, .. } => {
                    let (reader, retired) = self.unsealed(id)?;
                    let child = reader.need_layer(child)?;
                    if !self.commit(&reader, &retired, &child, &around, left, done)? {
                        return Ok(false);
                    }
                }
            }
            left = left.saturating_sub(done.bytes_copied() - before);
            if left.is_zero() {
                return Ok(false);
            }
        }
    }

    /// Makes garbage of a retired layer that nobody reads through.
    fn settle(&self, reader: &Reader, retired: &LayerRecord) -> Result<()> {
        let mut books = Books::open(reader.holdings(&[retired.volume], &[])?);
        books.settle(retired.id);
        self.perform(&Plan { edits: books.edits(), ..Plan::default() })
    }

    /// Makes a layer ready to be written to: its seal is in the books no more, and its file is durable. Answers the
    /// books, and its record.
    fn unsealed(&self, id: LayerId) -> Result<(Reader, LayerRecord)> {
        self.void_seal(id)?;
        self.settle_files(&[self.read()?.need_layer(id)?])?;
        let reader = self.read()?;
        let record = reader.need_layer(id)?;
        Ok((reader, record))
    }

    fn punch(
        self: &Arc<Self>,
        reader: &Reader,
        retired: &LayerRecord,
        around: &Around,
        ranges: &Ranges,
        done: &mut Reclaimed,
    ) -> Result<()> {
        self.refuse_read(reader, retired)?;
        if retired.taken_in.is_some() {
            // What was written down into it is hidden by the layer above, and is freed with the rest.
            let edits = vec![Edit::PutLayer(LayerRecord { taken_in: None, ..retired.clone() })];
            self.perform(&Plan { edits, ..Plan::default() })?;
        }
        // What hides the clusters must be there for good before they are gone.
        for volume in &around.volumes {
            self.open_volumes.flush(volume.id)?;
        }
        self.restack(around)?;
        let layer = self.open_for_writing(reader, retired)?;
        self.note_change(retired, &layer)?;
        let unusable = |source| self.unusable(retired, source);
        let mut punch = Punch::new(layer, ranges).map_err(unusable)?;
        let mut go_on = || -> crate::image::Result<()> {
            while !punch.step(super::EVERYTHING)?.done {}
            punch.flush()
        };
        let punched = go_on();
        self.note_written(retired.id);
        punched.map_err(unusable)?;
        done.punched(retired.id, punch.copied());
        Ok(())
    }

    fn pull(
        self: &Arc<Self>,
        reader: &Reader,
        retired: &LayerRecord,
        child: &LayerRecord,
        around: &Around,
        budget: ByteCount,
        done: &mut Reclaimed,
    ) -> Result<bool> {
        let target = self.target(reader, child)?;
        let opened = self.opened(reader, retired, Access::Read)?;
        let unusable = |source| self.unusable(child, source);
        let mut pull =
            Pull::new(Arc::clone(&target.layer), opened.retired, opened.deeper).map_err(unusable)?;
        let progress = pull.step(budget).and_then(|progress| pull.flush().map(|()| progress));
        done.bytes_pulled += pull.copied();
        self.note_written(child.id);
        let is_done = progress.map_err(unusable)?.done;
        if is_done {
            finish::pulled(self, reader, retired, child, &target, around)?;
        }
        Ok(is_done)
    }

    fn commit(
        self: &Arc<Self>,
        reader: &Reader,
        retired: &LayerRecord,
        child: &LayerRecord,
        around: &Around,
        budget: ByteCount,
        done: &mut Reclaimed,
    ) -> Result<bool> {
        self.refuse_read(reader, retired)?;
        // A head does not change while it is written down.
        let handle = match child.state {
            LayerState::Head => self.handle_of(reader, child)?,
            _ => None,
        };
        let writes = handle.as_ref().map(Volume::hold_writes);
        let source = match &handle {
            Some(handle) => {
                handle.flush_held()?;
                handle.head()
            }
            None => self.open_layer_below(reader, child, Access::Read)?,
        };
        self.note_commit(reader, retired, child)?;
        self.restack(around)?;
        let mut opened = self.opened(reader, retired, Access::Write)?;
        if retired.taken_in.is_none() {
            self.note_change(retired, &opened.retired)?;
        }
        let unusable = |source| self.unusable(retired, source);
        let deeper = opened.deeper.clone();
        let mut commit =
            Commit::new(Arc::clone(&source), Arc::clone(&opened.retired), deeper).map_err(unusable)?;
        if let Some(taken) = retired.taken_in.filter(|taken| handle.is_none() && taken.from == child.id) {
            commit = commit.resumed(GuestOffset::new(taken.up_to));
        }
        // A head may be written between two steps, so that one is written down in one go.
        let budget = if handle.is_some() { super::EVERYTHING } else { budget };
        let progress = commit.step(budget).and_then(|progress| commit.flush().map(|()| progress));
        done.bytes_committed += commit.copied();
        self.note_written(retired.id);
        let is_done = progress.map_err(unusable)?.done;
        if let (false, Some(position)) = (is_done, commit.position()) {
            let taken_in = Some(TakenIn { from: child.id, up_to: position.as_u64() });
            let now = self.read()?.need_layer(retired.id)?;
            let edits = vec![Edit::PutLayer(LayerRecord { taken_in, ..now })];
            self.perform(&Plan { edits, ..Plan::default() })?;
        }
        if is_done {
            opened.deeper.insert(0, Arc::clone(&opened.retired));
            finish::committed(self, retired.id, child, &opened.deeper, writes.as_ref(), around)?;
        }
        Ok(is_done)
    }

    /// Says in the file of a retired layer that it holds no snapshot any more that it held before now.
    fn note_change(&self, retired: &LayerRecord, layer: &Layer) -> Result<()> {
        let Some(image) = layer.as_qcow2() else { return Ok(()) };
        image.note_change(self.catalog.generation()).map_err(|source| self.unusable(retired, source))
    }

    /// Says in the books what must be known before a layer is written into the retired one below it.
    fn note_commit(&self, reader: &Reader, retired: &LayerRecord, child: &LayerRecord) -> Result<()> {
        let mut edits = Vec::new();
        if retired.size < child.size {
            // A retired file may be shorter than its record says, never longer.
            edits.push(Edit::PutLayer(LayerRecord { size: child.size, ..retired.clone() }));
        }
        let below = retired.parent.map(|parent| reader.need_layer(parent)).transpose()?;
        if let Some(below) = below.filter(|below| below.taken_in.is_some_and(|it| it.from == retired.id)) {
            // What that one has taken in is what the retired one showed before.
            edits.push(Edit::PutLayer(LayerRecord { taken_in: None, ..below }));
        }
        if edits.is_empty() {
            return Ok(());
        }
        self.perform(&Plan { edits, ..Plan::default() })
    }

    /// Refuses while a handle reads a retired layer otherwise than the catalogue says: through a snapshot that was
    /// deleted since, through other layers than now, or through one that it knows as it was before a merge.
    fn refuse_read(&self, reader: &Reader, retired: &LayerRecord) -> Result<()> {
        // Whoever is opening layers by the books of before the deletion has claimed them once nobody holds the layout.
        drop(self.layout.write());
        for through in self.readers.of(retired.id) {
            if through.is_written || !is_in_the_books(reader, &through.layers)? {
                return Err(Refusal::BeingRead { file: retired.blob.to_string() }.into());
            }
        }
        Ok(())
    }

    /// Opens a layer that is not open for writing anywhere; refuses one that another process uses.
    fn open_for_writing(&self, reader: &Reader, record: &LayerRecord) -> Result<Arc<Layer>> {
        let volume = self.uuid_of_volume(record.volume)?;
        let below = record.parent.map(|parent| reader.need_layer(parent)).transpose()?;
        self.open_layer_anew(volume, record, below.as_ref(), Access::Write)
    }

    fn open_layer_below(&self, reader: &Reader, record: &LayerRecord, access: Access) -> Result<Arc<Layer>> {
        let volume = self.uuid_of_volume(record.volume)?;
        let below = record.parent.map(|parent| reader.need_layer(parent)).transpose()?;
        self.open_layer(volume, record, below.as_ref(), access)
    }

    /// A handle to the volume that writes to a layer.
    fn handle_of(self: &Arc<Self>, reader: &Reader, head: &LayerRecord) -> Result<Option<Volume>> {
        let volume = reader.volume_of_head(head.id)?;
        volume.map(|volume| Volume::open(self, &volume)).transpose()
    }

    /// A layer to be written to.
    pub(super) fn target(self: &Arc<Self>, reader: &Reader, record: &LayerRecord) -> Result<Target> {
        let handle = match record.state {
            LayerState::Head => self.handle_of(reader, record)?,
            _ => None,
        };
        let layer = match &handle {
            Some(handle) => handle.head(),
            None => self.open_for_writing(reader, record)?,
        };
        Ok(Target { layer, handle })
    }

    fn opened(&self, reader: &Reader, retired: &LayerRecord, access: Access) -> Result<Opened> {
        let chain = reader.chain(retired.id)?;
        let layer = match access {
            Access::Write => self.open_for_writing(reader, &chain[0])?,
            Access::Read => self.open_layer_below(reader, &chain[0], Access::Read)?,
        };
        let volume = self.uuid_of_volume(retired.volume)?;
        let mut deeper = Vec::with_capacity(chain.len() - 1);
        for (place, record) in chain.iter().enumerate().skip(1) {
            deeper.push(self.open_layer(volume, record, chain.get(place + 1), Access::Read)?);
        }
        Ok(Opened { retired: layer, deeper })
    }
}
