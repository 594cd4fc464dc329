//! What the files in the store say of themselves, by their headers.
//!
//! A file that this pool has made has one name all its life, made of the id of its layer: under another name it is a
//! copy, whatever its header says. An adopted file may have any name; when two say that they are the same layer, neither
//! is believed.

use super::super::error::Result;
use super::super::layers::l2_entries;
use super::super::naming::backing_of;
use super::super::pool::is_own_file;
use super::report::Rebuilt;
use crate::catalog::{L2Entries, LayerFormat, Start};
use crate::chain::RawLayer;
use crate::image::{self, Facts, LayerNotes};
use crate::plan::refusal::Refusal;
use crate::plan::text::{is_layer_blob, layer_blob};
use crate::storage::{self, Access, Blob, BlobName, Store};
use crate::units::ByteCount;
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// A file that may be a layer.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) name: BlobName,
    pub(super) blob: Arc<dyn Blob>,
    pub(super) format: LayerFormat,
    pub(super) size: ByteCount,
    pub(super) cluster_bits: u8,
    pub(super) l2: L2Entries,
    /// The file below it, by its label; absent when it has none.
    pub(super) below: Option<(BlobName, LayerFormat)>,
    /// The header, when the file is an image.
    pub(super) facts: Option<Facts>,
    /// The volume and the layer that it says it is.
    pub(super) ids: Option<(Uuid, Uuid)>,
}

impl Scanned {
    pub(super) fn notes(&self) -> Option<&LayerNotes> {
        self.facts.as_ref().and_then(|facts| facts.notes.as_ref())
    }

    /// Whether nobody has ever written to the image.
    pub(super) fn is_pristine(&self) -> bool {
        let Some(facts) = &self.facts else { return false };
        let pristine = facts.as_new().layout(self.name.as_str()).map(|layout| layout.length);
        matches!((self.blob.length(), pristine), (Ok(length), Ok(pristine)) if length <= pristine)
    }
}

/// Where the counting goes on: above everything that any file has heard of.
pub(super) fn start(files: &[Scanned]) -> Start {
    let notes = || files.iter().filter_map(Scanned::notes);
    let heard = |notes: &LayerNotes| {
        let changed = Some(notes.changed).filter(|changed| *changed != LayerNotes::BEING_FILLED);
        notes.written.max(notes.floor).max(changed.unwrap_or_default())
    };
    let last = |numbers: &mut dyn Iterator<Item = u64>| numbers.max().unwrap_or_default().saturating_add(1);
    Start::After {
        generation: last(&mut notes().map(heard)),
        layer: last(&mut notes().map(|notes| notes.number)),
    }
}

/// Whether one of these files is a layer that some pool has made, by its header or by its name. A disk that fails is an
/// error: it says nothing.
pub(in super::super) fn holds_layers(store: &dyn Store, present: &[BlobName]) -> Result<bool> {
    for name in present.iter().filter(|name| !is_own_file(name)) {
        if is_layer_blob(name) {
            return Ok(true);
        }
        let Some(blob) = opened(store, name)? else { continue };
        match Facts::of(&*blob, name.as_str()) {
            Ok(facts) if facts.identity.is_some() => return Ok(true),
            Err(error) if is_of_disk(&error) => return Err(error.into()),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(false)
}

type Found = (BlobName, Arc<dyn Blob>, Facts);

/// Reads the header of every file; answers those of one pool, and what they read through to.
pub(super) fn scan(store: &dyn Store, pool: Option<Uuid>, rebuilt: &mut Rebuilt) -> Result<Vec<Scanned>> {
    let names = store.list()?;
    let mut pools: BTreeMap<Uuid, Vec<Found>> = BTreeMap::new();
    for name in names.iter().filter(|name| !is_own_file(name)) {
        let Some(blob) = opened(store, name)? else { continue };
        match Facts::of(&*blob, name.as_str()) {
            Ok(facts) => {
                if let Some(identity) = facts.identity {
                    let of = pools.entry(Uuid::from_bytes(identity.pool)).or_default();
                    of.push((name.clone(), blob, facts));
                }
            }
            Err(error) if is_of_disk(&error) => return Err(error.into()),
            Err(error) if is_layer_blob(name) => {
                rebuilt.leave(name, format!("its header cannot be read: {error}"));
            }
            Err(_) => {}
        }
    }
    rebuilt.pool = match pool {
        Some(pool) => pool,
        None if pools.len() > 1 => {
            return Err(Refusal::SeveralPools { pools: pools.into_keys().collect() }.into());
        }
        None => pools.keys().next().copied().ok_or(Refusal::NothingToRebuild)?,
    };
    let ours = pools.remove(&rebuilt.pool).ok_or(Refusal::NothingToRebuild)?;
    for (name, _, facts) in pools.into_values().flatten() {
        let of = facts.identity.map(|identity| Uuid::from_bytes(identity.pool)).unwrap_or_default();
        rebuilt.leave(name, format!("it is of pool {}", of.simple()));
    }
    let mut scanned = layers_of(store, ours, rebuilt);
    add_bases(store, &names, &mut scanned)?;
    Ok(scanned)
}

/// The files that are layers: none of them twice.
fn layers_of(store: &dyn Store, files: Vec<Found>, rebuilt: &mut Rebuilt) -> Vec<Scanned> {
    let mut layers: BTreeMap<Uuid, Vec<Scanned>> = BTreeMap::new();
    for (name, blob, facts) in files {
        let Some(identity) = facts.identity else { continue };
        let (volume, layer) = (Uuid::from_bytes(identity.volume), Uuid::from_bytes(identity.layer));
        let own_name = layer_blob(layer);
        let is_adopted = facts.notes.as_ref().is_none_or(|notes| notes.adopted);
        if name != own_name && !is_adopted {
            rebuilt.leave(&name, format!("it says that it is {own_name}: it is a copy, or was renamed"));
            continue;
        }
        match image_of(store, name.clone(), blob, facts, Some((volume, layer))) {
            Ok(file) => layers.entry(layer).or_default().push(file),
            Err(why) => rebuilt.leave(&name, why),
        }
    }
    let mut scanned = Vec::new();
    for (layer, mut files) in layers {
        let own = files.iter().position(|file| file.name == layer_blob(layer));
        match (own, files.len()) {
            (_, 1) => scanned.append(&mut files),
            (Some(own), _) => scanned.push(files.swap_remove(own)),
            (None, _) => {}
        }
        for file in files {
            let why = format!("it is not the only file that says it is layer {}", layer.simple());
            rebuilt.leave(&file.name, why);
        }
    }
    scanned
}

/// Adds the files below that do not say whose they are, down to the last one.
fn add_bases(store: &dyn Store, names: &[BlobName], scanned: &mut Vec<Scanned>) -> Result<()> {
    let mut place = 0;
    while let Some(file) = scanned.get(place) {
        place += 1;
        let Some((below, format)) = file.below.clone() else { continue };
        let is_there = below.is_in_base() || names.contains(&below);
        if !is_there || is_own_file(&below) || scanned.iter().any(|other| other.name == below) {
            continue;
        }
        let Some(blob) = opened(store, &below)? else { continue };
        if format == LayerFormat::Raw {
            let raw = RawLayer::open(Arc::clone(&blob), below.as_str())?;
            scanned.push(Scanned {
                name: below,
                blob,
                format,
                size: raw.size(),
                cluster_bits: 0,
                l2: L2Entries::Standard,
                below: None,
                facts: None,
                ids: None,
            });
            continue;
        }
        let facts = match Facts::of(&*blob, below.as_str()) {
            Ok(facts) => facts,
            Err(error) if is_of_disk(&error) => return Err(error.into()),
            Err(_) => continue,
        };
        if facts.identity.is_none()
            && let Ok(file) = image_of(store, below, blob, facts, None)
        {
            scanned.push(file);
        }
    }
    Ok(())
}

/// A file, when it is one.
fn opened(store: &dyn Store, name: &BlobName) -> Result<Option<Arc<dyn Blob>>> {
    match store.open(name, Access::Read) {
        Ok(blob) => Ok(Some(blob)),
        Err(storage::Error::NotFound { .. } | storage::Error::NotRegular { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether an image could not be read because the disk failed. It says nothing then of what is in the file.
pub(super) fn is_of_disk(error: &image::Error) -> bool {
    matches!(error, image::Error::Storage(source) if !matches!(source, storage::Error::PastEnd { .. }))
}

fn image_of(
    store: &dyn Store,
    name: BlobName,
    blob: Arc<dyn Blob>,
    facts: Facts,
    ids: Option<(Uuid, Uuid)>,
) -> std::result::Result<Scanned, String> {
    let below = backing_of(store, &name, &facts).map_err(|error| error.to_string())?;
    let bits = facts.cluster_size.as_u64().trailing_zeros();
    Ok(Scanned {
        name,
        blob,
        format: LayerFormat::Qcow2,
        size: facts.size,
        cluster_bits: u8::try_from(bits).expect("at most 21"),
        l2: l2_entries(facts.l2),
        below,
        facts: Some(facts),
        ids,
    })
}
