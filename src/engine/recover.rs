//! What opening a pool finds half done.
//!
//! Everything before a commit can be undone: a file that no record names, but that was made by this pool, is
//! the remainder of a call that was never acknowledged. It is told by its name *and* by its header. A file of
//! anybody else is left alone.

use super::error::{Error, Kind, Result};
use super::live::settle::{GiveUp, give_up};
use super::options::OpenPrepared;
use super::reclaim::{finish::finish_rewrite, sweep::sweep};
use super::seal::file::{SealHeader, is_torn_header};
use super::unsettled::settle_left;
use crate::catalog::{Catalog, LayerRecord, VolumeId};
use crate::image::{Facts, LayerIdentity};
use crate::plan::books::Books;
use crate::plan::text::{is_layer_blob, layer_of_seal};
use crate::storage::{self, Access, Blob, BlobName, Store};
use crate::units::{ByteCount, HostOffset};
use uuid::Uuid;

/// As much as the tables of a new image can take up, in blocks of the file system: 131 KiB of refcounts for an L1 table
/// of 32 MiB in clusters of 512 bytes.
const TABLES_MAX: ByteCount = ByteCount::kib(256);
/// What a disk writes whole or not at all; the header of a file of ours begins with one.
const SECTOR: ByteCount = ByteCount::new(512);

/// What opening a pool has found half done, and has undone or finished.
#[doc = include_str!("examples/open.md")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// Files of calls that were never acknowledged, removed.
    pub removed: Vec<String>,
    /// Files that look like ours and that no record names, left alone: another pool made them, a guest has written
    /// them, or they cannot be read.
    pub left_alone: Vec<String>,
    /// Groups that are still being prepared: they were to be kept, or an overlay of them was written to, is in use or
    /// cannot be looked at. [`Engine::prepared_groups`](super::Engine::prepared_groups) says more about them.
    pub prepared: Vec<Uuid>,
    /// Files of layers that nobody had written to and that a crash had left incomplete, made anew. An empty image is
    /// not synced when it is made: it is a function of what the catalogue says of it.
    pub rebuilt: Vec<String>,
    /// Files whose headers were being written, finished.
    pub finished: Vec<String>,
    /// Files that nothing reads any more, removed: a deletion or a reclaim had been cut short. And files that were
    /// still being filled: the copies of full snapshots, imports.
    pub reclaimed: Vec<String>,
    /// What could not be finished or removed, with the reason; the next opening tries again.
    pub unfinished: Vec<String>,
    /// Files of layers that no snapshot names any more and that others read through, with the bytes that each takes up;
    /// absent when it cannot be asked. [`Engine::owed`](super::Engine::owed) says with which of them something can be
    /// done.
    pub owed: Vec<(String, Option<ByteCount>)>,
}

/// Brings a pool back to what its catalogue says; `present` are its files. Doing it twice is doing it once.
pub(super) fn recover(
    store: &dyn Store,
    catalog: &Catalog,
    present: &[BlobName],
    prepared: OpenPrepared,
) -> Result<Recovered> {
    let mut recovered = Recovered::default();
    let mut rewriting = catalog.read()?.layers_rewriting()?.into_vec()?;
    // One that says that it has taken another one's place comes last, as when nothing is in the way.
    rewriting.sort_by_key(|layer| layer.rewrite.as_ref().is_some_and(|noted| noted.parent == layer.parent));
    for layer in rewriting {
        match finish_rewrite(store, catalog, &layer) {
            Ok(()) => recovered.finished.push(layer.blob.to_string()),
            Err(error) => recovered.unfinished.push(format!("{}: {error}", layer.blob)),
        }
    }
    give_up_building(catalog)?;
    let (removed, failed) = sweep(store, catalog)?;
    recovered.reclaimed.extend(removed.into_iter().map(|(layer, _)| layer.blob.to_string()));
    recovered.unfinished.extend(failed.into_iter().map(|(layer, error)| format!("{}: {error}", layer.blob)));
    settle_left(store, catalog, &mut recovered)?;
    settle_prepared(store, catalog, prepared, &mut recovered)?;
    let reader = catalog.read()?;
    for name in reader.unnamed(present.iter().filter(|name| is_layer_blob(name)))? {
        let is_remainder = is_remainder(store, catalog, name);
        put_away(store, name, is_remainder, &mut recovered)?;
    }
    let seals = present.iter().filter(|name| layer_of_seal(name).is_some());
    // A file that was adopted under such a name is a layer like any other.
    for name in reader.unnamed(seals)? {
        let Some(layer) = layer_of_seal(name) else { continue };
        let record = reader.by_uuid::<LayerRecord>(layer)?;
        if record.and_then(|record| record.seal).is_some_and(|seal| seal.blob == *name) {
            continue;
        }
        put_away(store, name, is_given_up_seal(store, catalog, name, layer), &mut recovered)?;
    }
    if !recovered.removed.is_empty() {
        store.sync_names()?;
    }
    for layer in reader.layers_retired()? {
        let layer = layer?;
        let allocated = store.open(&layer.blob, Access::Read).and_then(|blob| blob.allocated()).ok();
        recovered.owed.push((layer.blob.to_string(), allocated));
    }
    Ok(recovered)
}

/// Removes a file that no record names when a call of this pool has left it, or leaves it alone.
fn put_away(
    store: &dyn Store,
    name: &BlobName,
    is_ours: Result<bool>,
    recovered: &mut Recovered,
) -> Result<()> {
    match is_ours {
        Ok(true) => {
            store.remove(name)?;
            recovered.removed.push(name.to_string());
        }
        // The pool was listed before what was garbage, and what was prepared, was removed.
        Err(Error::Storage(storage::Error::NotFound { .. })) => {}
        // What cannot be looked at is somebody else's business, and no reason not to open the pool.
        Ok(false) | Err(_) => recovered.left_alone.push(name.to_string()),
    }
    Ok(())
}

/// Aborts the groups that were prepared, where that is said and takes nothing from anybody.
fn settle_prepared(
    store: &dyn Store,
    catalog: &Catalog,
    prepared: OpenPrepared,
    recovered: &mut Recovered,
) -> Result<()> {
    for group in catalog.read()?.prepared()? {
        if prepared == OpenPrepared::Keep {
            recovered.prepared.push(group.group);
            continue;
        }
        match give_up(store, catalog, &group, GiveUp::WhatNobodyWrote) {
            Ok(removed) => recovered.removed.extend(removed.iter().map(ToString::to_string)),
            Err(error) if error.kind() == Kind::Failed => return Err(error),
            // Whoever asks for it is told why.
            Err(_) => recovered.prepared.push(group.group),
        }
    }
    Ok(())
}

/// Makes garbage of layers that were being filled: nobody was promised anything of them.
fn give_up_building(catalog: &Catalog) -> Result<()> {
    let reader = catalog.read()?;
    let building = reader.layers_building()?.into_vec()?;
    if building.is_empty() {
        return Ok(());
    }
    let volumes: Vec<VolumeId> = building.iter().map(|layer| layer.volume).collect();
    let mut books = Books::open(reader.holdings(&volumes, &[])?);
    building.iter().for_each(|layer| books.retire(layer.id));
    catalog.commit(None, &books.edits())?;
    Ok(())
}

/// Whether a file that no record names is the remainder of a call of this pool: its header says that it is ours,
/// and it is no longer than an image that nobody has written to; or its header never arrived.
///
/// A head that a guest has written is longer. It has no record when the catalogue is older than the files, as after
/// a restore from a backup, and is then worth more than the room that it takes up.
pub(super) fn is_remainder(store: &dyn Store, catalog: &Catalog, name: &BlobName) -> Result<bool> {
    let blob = store.open(name, Access::Read)?;
    let length = blob.length()?;
    let is_of_pool = |identity: LayerIdentity| identity.pool == *catalog.pool().as_bytes();
    let Ok(facts) = Facts::of(&*blob, name.as_str()) else {
        let torn = Facts::identity_in_torn(&*blob, name.as_str())?;
        let is_torn =
            torn.is_some_and(is_of_pool) && catalog.rebuilt().is_none() && holds_no_more_than_tables(&*blob)?;
        return Ok(is_torn || is_headless(&*blob)?);
    };
    let is_ours = facts.identity.is_some_and(is_of_pool);
    // What was there before the catalogue was made anew may be all that is left of something.
    let number = facts.notes.as_ref().map_or(0, |notes| notes.number);
    let is_older = catalog.rebuilt().is_some_and(|first| number < first);
    let pristine = facts.as_new().layout(name.as_str()).map(|layout| layout.length);
    Ok(is_ours && !is_older && pristine.is_ok_and(|pristine| length <= pristine))
}

/// Whether a file that no record names is a seal of this pool that was not finished, or was given up.
fn is_given_up_seal(store: &dyn Store, catalog: &Catalog, name: &BlobName, layer: Uuid) -> Result<bool> {
    let blob = store.open(name, Access::Read)?;
    match SealHeader::of(&*blob)? {
        Some(header) => Ok((header.pool, header.layer) == (catalog.pool(), layer)),
        None => Ok(is_torn_header(&*blob)? || is_headless(&*blob)?),
    }
}

/// Whether the header of a file never arrived as a whole: a power cut leaves any of the sectors that were written
/// before a sync, the tables without the header, too; a write that fails leaves a part. Nobody can read such a file, and
/// no head that was ever acknowledged is one.
fn is_headless(blob: &dyn Blob) -> crate::storage::Result<bool> {
    let length = blob.length()?;
    if length < SECTOR {
        return Ok(true);
    }
    let mut first = vec![0; SECTOR.as_usize()];
    blob.read_at(HostOffset::ZERO, &mut first)?;
    if first.iter().any(|byte| *byte != 0) {
        return Ok(false);
    }
    holds_no_more_than_tables(blob)
}

/// Whether a file holds no more than the tables of a new image.
fn holds_no_more_than_tables(blob: &dyn Blob) -> crate::storage::Result<bool> {
    let (mut held, mut at) = (ByteCount::ZERO, HostOffset::ZERO);
    while let Some(found) = blob.next_data(at)? {
        held += found.end - found.start;
        if held > TABLES_MAX {
            return Ok(false);
        }
        at = found.end;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::super::{BaseImage, CreatePool, CreateVolume, Engine, Options};
    use crate::catalog::{Edit, LayerFormat, LayerRecord};
    use crate::plan::text::seal_blob;
    use crate::storage::{Access, BlobName, MemoryStore, Store};
    use crate::units::HostOffset;
    use std::sync::Arc;
    use uuid::Uuid;

    fn options() -> Options {
        Options { create: CreatePool::Here, ..Options::default() }
    }

    /// Such a name cannot be adopted; a pool of before there were seals may have it.
    #[test]
    fn a_layer_under_the_name_of_a_seal_is_a_layer() -> Result<(), Box<dyn std::error::Error>> {
        let store = MemoryStore::new();
        let base = BlobName::parse("base.raw")?;
        store.create(&base)?.write_at(HostOffset::ZERO, &[0; 512])?;
        let engine = Engine::open_on(Arc::new(store.clone()), options())?;
        let base = BaseImage { file: base.to_string(), format: LayerFormat::Raw };
        let volume = CreateVolume { name: "clone".into(), base: Some(base), ..CreateVolume::default() };
        let volume = engine.create_volume(&volume)?.uuid;
        let reader = engine.pool.read()?;
        let head = reader.volume_by_uuid(volume)?.expect("it was made").head;
        let [head, base] = &reader.chain(head)?[..] else { panic!("a head and its base") };
        let name = seal_blob(Uuid::from_u128(1), Uuid::from_u128(2));
        let label = Some(crate::plan::text::backing_label(&name));
        let edits = [
            Edit::PutLayer(LayerRecord { blob: name.clone(), ..base.clone() }),
            Edit::PutLayer(LayerRecord { backing_label: label, ..head.clone() }),
        ];
        engine.pool.catalog.commit(None, &edits)?;
        drop(reader);
        engine.close()?;
        store.create(&name)?.write_at(HostOffset::ZERO, &[0; 512])?;

        let engine = Engine::open_on(Arc::new(store.clone()), options())?;
        assert_eq!(engine.recovered(), &super::Recovered::default());
        store.open(&name, Access::Read)?;
        assert!(engine.check()?.unnamed.is_empty());
        Ok(())
    }
}
