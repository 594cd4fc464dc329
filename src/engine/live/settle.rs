//! Giving a prepared group up: its note goes, then its overlays.
//!
//! Whether another process has switched is not known here. What can be known is: a file that somebody has open, and one
//! that somebody has written to, are not taken away.

use super::super::error::Result;
use super::super::layers::unopened;
use super::super::recover::is_remainder;
use crate::catalog::{Catalog, Edit, PreparedRecord};
use crate::plan::refusal::Refusal;
use crate::storage::{Access, BlobName, Error, Hold, Store};

/// Which overlays are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum GiveUp {
    /// Those that hold nothing.
    WhatNobodyWrote,
    /// Those, too, that hold what a guest has written.
    Everything,
}

/// Takes a prepared group out of the books and removes its overlays; answers which. Refused, with nothing changed, when
/// one of them is in use or holds more than it may.
pub(in super::super) fn give_up(
    store: &dyn Store,
    catalog: &Catalog,
    prepared: &PreparedRecord,
    what: GiveUp,
) -> Result<Vec<BlobName>> {
    let reader = catalog.read()?;
    let mut there = Vec::with_capacity(prepared.members.len());
    // Held until all are gone: nobody opens one meanwhile.
    let mut held = Vec::with_capacity(prepared.members.len());
    for member in &prepared.members {
        let blob = match store.open(&member.blob, Access::Write) {
            Err(Error::NotFound { .. }) => continue,
            other => other?,
        };
        let volume = reader.volume(member.volume)?.map(|volume| volume.uuid).unwrap_or_default();
        blob.hold(Hold::Write).map_err(|error| unopened(volume, &member.blob, error))?;
        if what == GiveUp::WhatNobodyWrote && !is_remainder(store, catalog, &member.blob)? {
            let file = member.blob.to_string();
            return Err(Refusal::OverlayWritten { file, group: prepared.group }.into());
        }
        there.push(member.blob.clone());
        held.push(blob);
    }
    catalog.commit(None, &[Edit::RemovePrepared(prepared.machine)])?;
    // No record names them any more: what cannot be removed now is removed when the pool is opened the next time.
    for blob in &there {
        store.remove(blob)?;
    }
    if !there.is_empty() {
        store.sync_names()?;
    }
    Ok(there)
}
