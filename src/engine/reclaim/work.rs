//! One retired layer, taken as far as a budget goes.
//!
//! What the steps rely on:
//!
//! * The locks of every volume above the layer are held: no head changes, nothing is deleted or taken meanwhile.
//! * Whoever reads through the layer above goes on reading: what it shows never changes, only where it has it.
//! * What is freed was hidden by something durable: a head is flushed first.
//! * A handle to a deleted snapshot still reads its layer. As long as one is open, nothing is written to the layer.

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

    /// Makes a layer ready to be written to: its seal is in the books no more. Answers them, and its record.
    fn unsealed(&self, id: LayerId) -> Result<(Reader, LayerRecord)> {
        self.void_seal(id)?;
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
        // What hides the clusters must be there for good before they are gone.
        for volume in &around.volumes {
            self.open_volumes.flush(volume.id)?;
        }
        let layer = self.open_for_writing(reader, retired)?;
        let unusable = |source| self.unusable(retired, source);
        let mut punch = Punch::new(layer, ranges).map_err(unusable)?;
        while !punch.step(super::EVERYTHING).map_err(unusable)?.done {}
        punch.flush().map_err(unusable)?;
        self.open_layers.forget(retired.id);
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
        let progress = pull.step(budget);
        done.bytes_pulled += pull.copied();
        let is_done = progress.map_err(unusable)?.done;
        pull.flush().map_err(unusable)?;
        self.open_layers.forget(child.id);
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
        if retired.size < child.size {
            // A retired file may be shorter than its record says, never longer.
            let edits = vec![Edit::PutLayer(LayerRecord { size: child.size, ..retired.clone() })];
            self.perform(&Plan { edits, ..Plan::default() })?;
        }
        let mut opened = self.opened(reader, retired, Access::Write)?;
        let unusable = |source| self.unusable(retired, source);
        let deeper = opened.deeper.clone();
        let mut commit =
            Commit::new(Arc::clone(&source), Arc::clone(&opened.retired), deeper).map_err(unusable)?;
        if let Some(taken) = retired.taken_in.filter(|taken| handle.is_none() && taken.from == child.id) {
            commit = commit.resumed(GuestOffset::new(taken.up_to));
        }
        // A head may be written between two steps, so that one is written down in one go.
        let budget = if handle.is_some() { super::EVERYTHING } else { budget };
        let progress = commit.step(budget);
        done.bytes_committed += commit.copied();
        let is_done = progress.map_err(unusable)?.done;
        commit.flush().map_err(unusable)?;
        self.open_layers.forget(retired.id);
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

    /// Refuses while somebody reads a retired layer for itself: a handle to a snapshot that was deleted since, or
    /// one whose chain has something else above it.
    fn refuse_read(&self, reader: &Reader, retired: &LayerRecord) -> Result<()> {
        let above: Vec<LayerId> =
            reader.layers_above(retired.id)?.into_vec()?.into_iter().map(|layer| layer.id).collect();
        if self.readers.rely_on(retired.id, &above) {
            return Err(Refusal::BeingRead { file: retired.blob.to_string() }.into());
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
