//! Removing the files of layers that nothing reads any more, then their records.
//!
//! The commit that made them garbage allows it. A crash in between leaves a record whose file is gone, and the next
//! sweep drops it: a file that is not there is a file removed.

use super::super::error::{Error, Result};
use super::super::pool::Pool;
use super::{Owed, OwedReason, Reclaimed};
use crate::catalog::{Catalog, Edit, LayerRecord};
use crate::storage::{self, Access, Store};
use crate::units::ByteCount;
use uuid::Uuid;

impl Pool {
    /// Removes every file that is garbage; answers those that could not be.
    pub(in super::super) fn sweep(&self, done: &mut Reclaimed) -> Result<Vec<Owed>> {
        self.admit_change()?;
        // One at a time, and nobody opens a layer meanwhile.
        let _layout = self.layout.write();
        let swept = sweep(self.store(), &self.catalog);
        if let Err(error @ Error::OutcomeUnknown(_)) = &swept {
            self.note_unknown(error);
        }
        let (removed, failed) = swept?;
        for (layer, allocated) in removed {
            done.files_removed.push(layer.blob.to_string());
            done.bytes_removed += done.first_seen(layer.id, allocated);
        }
        let owed = failed.into_iter().map(|(layer, error)| {
            let reason = OwedReason::ToBeRemoved;
            self.owed(&layer, reason, Some(&error))
        });
        owed.collect()
    }
}

/// The layers whose files are gone, with the bytes that they took up.
type Removed = Vec<(LayerRecord, ByteCount)>;

/// Removes every file that is garbage, then its record. Answers what is gone, and what could not be removed.
pub(in super::super) fn sweep(
    store: &dyn Store,
    catalog: &Catalog,
) -> Result<(Removed, Vec<(LayerRecord, Error)>)> {
    let (mut removed, mut failed) = (Vec::new(), Vec::new());
    let reader = catalog.read()?;
    for layer in reader.layers_garbage()?.into_vec()? {
        let volume = reader.volume(layer.volume)?.map(|volume| volume.uuid).unwrap_or_default();
        match remove(store, volume, &layer) {
            Ok(allocated) => removed.push((layer, allocated)),
            Err(error) => failed.push((layer, error)),
        }
    }
    if !removed.is_empty() {
        store.sync_names()?;
        let edits: Vec<Edit> = removed.iter().map(|(layer, _)| Edit::RemoveLayer(layer.id)).collect();
        catalog.commit(None, &edits)?;
    }
    Ok((removed, failed))
}

fn remove(store: &dyn Store, volume: Uuid, layer: &LayerRecord) -> Result<ByteCount> {
    let is_gone = |error: &storage::Error| matches!(error, storage::Error::NotFound { .. });
    if let Some(seal) = &layer.seal
        && let Err(error) = store.remove(&seal.blob)
        && !is_gone(&error)
    {
        return Err(error.into());
    }
    let allocated = match store.open(&layer.blob, Access::Read) {
        Ok(blob) => {
            if let Some(holder) = blob.writer_elsewhere()? {
                let blob = layer.blob.to_string();
                return Err(Error::HeadInUse { volume, blob, holder });
            }
            blob.allocated()?
        }
        Err(error) if is_gone(&error) => return Ok(ByteCount::ZERO),
        Err(error) => return Err(error.into()),
    };
    match store.remove(&layer.blob) {
        Err(error) if !is_gone(&error) => Err(error.into()),
        _ => Ok(allocated),
    }
}
