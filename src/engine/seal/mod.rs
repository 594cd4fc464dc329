//! Seals: one checksum for each cluster of a layer that no volume writes to, so that [`Engine::verify`] can tell when
//! somebody else has.
//!
//! * A seal covers what the layer's own file holds, and not what shows through from below: for each cluster that it
//!   defines, the CRC-32 of the guest's bytes; which clusters are zeros; which it leaves to the layers below. Besides,
//!   how long the file was, which file it was and when it had been changed last.
//! * The checksums are in a file of their own ([`file`]), which the layer's record names with its length and its own
//!   checksum. It is written and synced before the commit that names it, and removed after the one that does not name
//!   it any more; a crash in between leaves a file that opening the pool removes.
//! * **Before** this pool writes to the file of a sealed layer - a merge into it, clusters freed in it, another
//!   backing file in its header - the seal leaves the books, durably ([`Pool::void_seal`]). So a lawful change is never
//!   taken for damage, and no seal tells of what was before. It is made anew by the next [`Engine::seal`].
//! * A layer is read without a lock. Whoever is about to write to its file crosses it out in [`Sealings`], and a seal
//!   that was crossed out is not published.

mod carry;
mod content;
pub(super) mod file;
mod sealing;
mod verify;

pub use carry::{NotASealId, NotTheSeal, SealContents, SealId, SealedData, SealedLayer, Stretch};
pub use sealing::{Renew, SealOptions, Sealed, Sealing, SealingProgress, Unsealed};
pub use verify::{LayerVerdict, Touch, Verdict, Verification, VerifyDepth, VerifyOf};

use super::error::Result;
use super::pool::{Engine, Pool};
use crate::catalog::{Edit, LayerId, LayerRecord, Reader, Seal};
use crate::chain::Layer;
use crate::plan::Plan;
use crate::storage::{self, Access, Blob, BlobName, Store};
use crate::sync::Mutex;
use crate::units::ByteCount;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use uuid::Uuid;

/// What is being sealed.
#[derive(Debug, Default)]
pub(super) struct Sealings(Mutex<Attempts>);

#[derive(Debug, Default)]
struct Attempts {
    /// The number of the last attempt.
    last: u64,
    /// The layers that are being sealed, each with the number of the attempt that counts.
    counting: HashMap<LayerId, u64>,
    /// The files that attempts are making, those that do not count any more included.
    making: HashSet<BlobName>,
}

impl Sealings {
    /// Begins an attempt; an earlier one of the same layer does not count any more.
    fn begin(&self, layer: LayerId) -> u64 {
        let mut table = self.0.lock();
        table.last += 1;
        let attempt = table.last;
        table.counting.insert(layer, attempt);
        attempt
    }

    /// Whether an attempt still counts.
    fn counts(&self, layer: LayerId, attempt: u64) -> bool {
        self.0.lock().counting.get(&layer) == Some(&attempt)
    }

    /// Says that a file is being made: before it is there.
    fn make(&self, seal: &BlobName) {
        self.0.lock().making.insert(seal.clone());
    }

    /// Says that a file is named by a record, or is gone.
    fn has_made(&self, seal: &BlobName) {
        self.0.lock().making.remove(seal);
    }

    /// Whether a file is being made.
    pub(super) fn makes(&self, seal: &BlobName) -> bool {
        self.0.lock().making.contains(seal)
    }

    /// Ends an attempt, if it still counts.
    fn end(&self, layer: LayerId, attempt: u64) {
        let mut table = self.0.lock();
        if table.counting.get(&layer) == Some(&attempt) {
            table.counting.remove(&layer);
        }
    }
}

/// What the file of a layer looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    length: ByteCount,
    identity: storage::Identity,
    stamp: Option<storage::Stamp>,
}

impl Look {
    fn at(blob: &dyn Blob) -> storage::Result<Self> {
        Ok(Self { length: blob.length()?, identity: blob.identity(), stamp: blob.stamp()? })
    }

    /// What it looked like when a seal was made.
    fn of(seal: &Seal) -> Self {
        let (device, number) = seal.file_identity;
        Self {
            length: seal.file_length,
            identity: storage::Identity { device, number },
            stamp: seal.file_stamp.map(storage::Stamp),
        }
    }
}

impl Pool {
    /// Opens the file of a layer that no volume writes to as it is under its name now, and not as it may be open.
    fn open_to_look(&self, reader: &Reader, record: &LayerRecord) -> Result<Arc<Layer>> {
        let volume = reader.volume(record.volume)?.map(|volume| volume.uuid).unwrap_or_default();
        let below = record.parent.map(|parent| reader.need_layer(parent)).transpose()?;
        self.open_layer_anew(volume, record, below.as_ref(), Access::Read)
    }

    /// Takes the seal of a layer out of the books, durably: its file is about to be written to. The caller holds the
    /// locks of the volumes above the layer and reads its record again afterwards.
    pub(super) fn void_seal(&self, id: LayerId) -> Result<()> {
        self.sealings.0.lock().counting.remove(&id);
        let Some(layer) = self.read()?.layer(id)?.filter(|layer| layer.seal.is_some()) else { return Ok(()) };
        let edits = vec![Edit::PutLayer(LayerRecord { seal: None, ..layer.clone() })];
        self.perform(&Plan { edits, ..Plan::default() })?;
        self.remove_seal(layer.seal.as_ref());
        Ok(())
    }

    /// Removes the file of a seal that no record names any more.
    pub(super) fn remove_seal(&self, seal: Option<&Seal>) {
        if let Some(seal) = seal {
            // Best effort: what cannot be removed now is removed when the pool is opened the next time.
            drop(self.store().remove(&seal.blob));
        }
    }
}

impl Engine {
    /// Seals what a call has just frozen, when the pool is opened so. The call itself is done: what cannot be sealed is
    /// told by [`Engine::verify`], as never sealed.
    pub(super) fn seal_frozen(&self, snapshots: impl IntoIterator<Item = Uuid>) {
        if self.pool.options.seal == super::options::SealWhen::OnRequest {
            return;
        }
        let layers = self.pool.read().map(|reader| {
            let found = snapshots.into_iter().filter_map(|uuid| reader.snapshot_by_uuid(uuid).ok().flatten());
            found.map(|snapshot| snapshot.layer).collect()
        });
        let sealed = layers.and_then(|layers| Sealing::of(self, layers, Renew::Missing).finish());
        drop(sealed);
    }
}
