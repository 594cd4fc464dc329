//! The one place where the order of durable steps is written.
//!
//! 1. Files are made under names that no record has: [`Pool::prepare`]. All are written. An empty image is a function of
//!    its record: it is not synced, and its record says so ([`Settled::No`]). Any other file is synced, and so is an
//!    image that another process is going to write.
//! 2. Their names are synced.
//! 3. One commit publishes the records that name them: [`Prepared::publish`].
//!
//! So a durable group costs two syncs, whatever the number of its disks.
//!
//! A crash before 3 leaves files that no record names; `recover` removes them. After 3 everything is there, but for the
//! bytes of empty images, which `unsettled` makes anew. An error before 3 removes the files at once. When the sync of the
//! commit itself fails, nobody knows on which side of 3 the pool is: the files stay, the pool refuses every further
//! write, and opening it again tells.

use super::error::{Error, Result};
use super::layers::{format_name, l2_width};
use super::notes::{Claims, Foreseen};
use super::pool::Pool;
use crate::catalog::{Edit, LayerFormat, LayerRecord, LayerState, Seal, Settled};
use crate::chain::Layer;
use crate::image::{BackingLabel, LayerIdentity, LayerNotes, NewImage, Version};
use crate::plan::refusal::Refusal;
use crate::plan::{NewFile, Plan};
use crate::storage::{Blob, BlobName, Hold, Store};
use crate::sync::RwLockReadGuard;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use uuid::Uuid;

/// log2 of the width of the refcounts of every image that is made here: 16 bits, as QEMU does by default.
const REFCOUNT_ORDER: u32 = 4;

/// The ids that the file of a layer carries.
pub(super) fn identity_in(pool: Uuid, volume: Uuid, layer: Uuid) -> LayerIdentity {
    LayerIdentity { pool: *pool.as_bytes(), volume: *volume.as_bytes(), layer: *layer.as_bytes() }
}

/// The image that a new layer is: a function of its record, of what is below it, and of what it is told of the catalogue.
pub(super) fn new_image(
    record: &LayerRecord,
    below: Option<LayerFormat>,
    identity: LayerIdentity,
    notes: LayerNotes,
) -> NewImage {
    let backing = record.backing_label.clone().zip(below);
    NewImage {
        version: Version::V3,
        cluster_bits: u32::from(record.cluster_bits),
        refcount_order: REFCOUNT_ORDER,
        l2: l2_width(record.l2),
        size: record.size,
        backing: backing.map(|(name, format)| BackingLabel { name, format: format_name(format).to_owned() }),
        identity: Some(identity),
        notes: Some(notes),
    }
}

/// A plan whose files are there, durable as far as that is needed, and whose records are not published yet.
///
/// Dropping it removes the files.
#[derive(Debug)]
#[must_use = "nothing is published, and dropping this removes the files"]
pub(super) struct Prepared<'a> {
    pool: &'a Pool,
    plan: &'a Plan,
    made: Vec<BlobName>,
    layers: Vec<Arc<Layer>>,
    _under_way: RwLockReadGuard<'a, ()>,
}

impl Pool {
    /// Makes the files of a plan.
    pub(super) fn prepare<'a>(&'a self, plan: &'a Plan) -> Result<Prepared<'a>> {
        self.admit_change()?;
        let _under_way = self.under_way.read();
        let mut prepared = Prepared { pool: self, plan, made: Vec::new(), layers: Vec::new(), _under_way };
        if plan.files.is_empty() {
            return Ok(prepared);
        }
        let reader = self.read()?;
        let foreseen = Foreseen::of(&reader, &plan.edits);
        for file in &plan.files {
            prepared.make(file, &foreseen)?;
        }
        let made = plan.files.iter().zip(&prepared.layers);
        let synced: Vec<&dyn Blob> = made
            .filter(|(file, _)| file.layer.settled == Settled::Yes)
            .map(|(_, layer)| &**layer.blob())
            .collect();
        synced.iter().for_each(|blob| blob.sync_soon());
        for blob in synced {
            blob.sync()?;
        }
        self.store().sync_names()?;
        Ok(prepared)
    }

    /// The ids that the file of a layer carries.
    pub(super) fn identity_of(&self, volume: Uuid, layer: Uuid) -> LayerIdentity {
        identity_in(self.catalog.pool(), volume, layer)
    }

    /// Says in a file that was being filled, and is durable, that it is whole.
    pub(super) fn note_whole(&self, layer: &Layer) -> Result<()> {
        match layer.as_qcow2() {
            Some(image) => Ok(image.note_change(self.catalog.generation())?),
            None => Ok(()),
        }
    }

    /// Performs a plan whose new files nobody waits for.
    pub(super) fn perform(&self, plan: &Plan) -> Result<()> {
        self.prepare(plan)?.publish().map(drop)
    }

    /// As [`Pool::perform`], and refuses when the catalogue is not at the generation `expected`.
    pub(super) fn perform_at(&self, plan: &Plan, expected: Option<u64>) -> Result<()> {
        self.prepare(plan)?.publish_at(expected).map(drop)
    }
}

impl Prepared<'_> {
    /// Writes a file, and keeps it open.
    fn make(&mut self, file: &NewFile, foreseen: &Foreseen<'_>) -> Result<()> {
        let record = &file.layer;
        // A disk that leaves its chain for another one takes along what is known of the one it leaves.
        let claims = match foreseen.goes_elsewhere(record.volume, record.parent)? {
            true if record.state == LayerState::Head => Claims::BelowAndAside,
            _ => Claims::Below,
        };
        let identity = self.pool.identity_of(file.volume_uuid, record.uuid);
        let image = new_image(record, file.backing_format, identity, foreseen.notes_of(record, claims)?);
        let name = record.blob.as_str();
        // What no image can be is refused before a file is there.
        let layout = image.layout(name).map_err(|error| Refusal::ImpossibleImage {
            size: record.size,
            cluster_bits: record.cluster_bits,
            why: error.to_string(),
        })?;
        let blob = self.pool.store().create(&record.blob)?;
        self.made.push(record.blob.clone());
        blob.hold(Hold::Write)?;
        let made = layout.make(blob, name, self.pool.options.image_limits)?;
        self.layers.push(Arc::new(Layer::from(made)));
        Ok(())
    }

    /// Publishes the records; answers the new layers, in the order of the plan's files.
    pub(super) fn publish(self) -> Result<Vec<Arc<Layer>>> {
        self.publish_at(None)
    }

    /// As [`Prepared::publish`], and refuses when the catalogue is not at the generation `expected`.
    pub(super) fn publish_at(mut self, expected: Option<u64>) -> Result<Vec<Arc<Layer>>> {
        // A sync that failed anywhere forbids the commit: that nothing was published is then known.
        self.pool.admit_change()?;
        let seals = self.seals_given_up()?;
        let untold = self.pool.untold(&self.plan.edits)?;
        let committed = self.pool.catalog.commit(expected, &self.plan.edits).map_err(Error::from);
        match &committed {
            Ok(_) => self.made.clear(),
            Err(error @ Error::OutcomeUnknown(_)) => {
                self.made.clear();
                self.pool.note_unknown(error);
            }
            Err(_) => {}
        }
        committed?;
        let unsettled = self.plan.files.iter().filter(|file| file.layer.settled == Settled::No).count();
        self.pool.backlog.fetch_add(unsettled, Ordering::Relaxed);
        self.pool.tell_changed(untold);
        for seal in &seals {
            self.pool.remove_seal(Some(seal));
        }
        Ok(std::mem::take(&mut self.layers))
    }

    /// The seals of the layers whose records the plan removes.
    fn seals_given_up(&self) -> Result<Vec<Seal>> {
        let mut seals = Vec::new();
        for edit in &self.plan.edits {
            if let Edit::RemoveLayer(id) = edit {
                seals.extend(self.pool.read()?.layer(*id)?.and_then(|layer| layer.seal));
            }
        }
        Ok(seals)
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        for name in &self.made {
            // Best effort: what cannot be removed now is removed when the pool is opened the next time.
            drop(self.pool.store().remove(name));
        }
    }
}
