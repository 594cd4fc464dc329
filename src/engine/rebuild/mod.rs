//! The catalogue made anew from the files alone, on the day on which it is lost.
//!
//! Each file says whose layer it is, which layer it reads through to, and which snapshots it knows (`notes`). No file
//! of the pool is written to, and nothing is guessed: what the files do not say is reported.
//!
//! * `scan` reads the headers; * `graph` puts the layers above each other and weighs what they claim; * `records`
//!   writes it down.

mod graph;
mod records;
mod report;
mod scan;

pub use report::{
    IncompleteGroup, LeftFile, LostSnapshot, LostVolume, Proof, RebuildOptions, Rebuilt, RebuiltSnapshot,
    RebuiltVolume,
};

pub(super) use scan::holds_layers;

use super::error::{Error, Result};
use super::operation::{self, Operation};
use super::options::{Options, Source};
use super::pool::{CATALOGUE, CATALOGUE_LOST, Engine};
use super::uuid_arg::UuidArg;
use crate::catalog::{self, Catalog, Severity};
use crate::plan::refusal::Refusal;
use crate::storage::{Access, Blob, BlobName, MemoryStore, Store};
use crate::units::{ByteCount, HostOffset};
use std::sync::Arc;
use uuid::Uuid;

/// What a disk writes whole or not at all.
const SECTOR: ByteCount = ByteCount::new(512);
/// What is copied at a time.
const PIECE: ByteCount = ByteCount::mib(1);

impl Engine {
    /// Makes the catalogue of the pool in a directory anew, from the files in it. Then open the pool as ever.
    ///
    /// A catalogue that is there and cannot be opened is kept under another name. No other file is written to or
    /// removed, not even by opening the pool afterwards: what is in no chain now stays, and is in the answer. Durable
    /// when it returns; when it fails or is cut short, call it again.
    ///
    /// | | |
    /// |---|---|
    /// | comes back as it was | every disk, with what was written to it; the layers below it; which snapshot is in which layer, its group with all members, the machine of the group |
    /// | comes back as it was when a file was last told | the names of volumes, machines, snapshots and groups, the place of a volume in a machine |
    /// | does not come back | descriptions, tags, holds, seals, times of volumes and machines, which volumes a group left out, groups of which a member is gone: their other members are snapshots of their own, machines and attachments made after the last snapshot of a disk |
    /// | may come back although it was deleted | a snapshot whose bytes were not reclaimed yet, a group that was dissolved: everything that comes back has the system tag `Rebuilt`, and is worth a look |
    ///
    /// Files below that were adopted carry no ids: they are known by the name in the header above them. A disk whose
    /// uppermost file is lost comes back as the file below it. Copies of a file and files of other pools are left out.
    ///
    /// # Errors
    ///
    /// [`Refusal::CatalogueThere`] when there is one that can be opened: move it away first.
    /// [`Refusal::NothingToRebuild`] when no file says whose it is, [`Refusal::SeveralPools`] when they are of several
    /// and none was asked for, [`Error::NewerVersion`] when the catalogue is only too new. In these cases nothing has
    /// changed. [`Error::Storage`].
    ///
    /// # Examples
    ///
    /// ```
    /// use snapgroup::{ByteCount, CreateVolume, Engine, Options, RebuildOptions};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let directory = tempfile::tempdir()?;
    /// let pool = directory.path().join("pool");
    /// let engine = Engine::open(&pool, Options::default())?;
    /// engine.create_volume(&CreateVolume::new("data", ByteCount::mib(64)))?;
    /// engine.close()?;
    /// std::fs::remove_file(pool.join("snapgroup.redb"))?;
    ///
    /// let rebuilt = Engine::rebuild(&pool, &Options::default(), &RebuildOptions::default())?;
    /// assert!(rebuilt.is_whole());
    /// assert_eq!(rebuilt.volumes[0].name, "data");
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(target_os = "linux")]
    pub fn rebuild(
        path: impl AsRef<std::path::Path>,
        options: &Options,
        request: &RebuildOptions,
    ) -> Result<Rebuilt> {
        let path = path.as_ref();
        if !path.is_dir() {
            return Err(Error::NoPool { location: path.display().to_string() });
        }
        let store = crate::storage::DiskStore::open_with(path, options.disk)?;
        let store = store.with_bases(&options.base_directories)?;
        Self::rebuild_on(&store, options, request)
    }

    /// As [`Engine::rebuild`], on any store.
    ///
    /// # Errors
    ///
    /// As [`Engine::rebuild`].
    #[doc = include_str!("../examples/rebuilding.md")]
    pub fn rebuild_on(store: &dyn Store, options: &Options, request: &RebuildOptions) -> Result<Rebuilt> {
        operation::during(&options.listener, Operation::Rebuild, || {
            Self::rebuild_on_untold(store, options, request)
        })
    }

    fn rebuild_on_untold(store: &dyn Store, options: &Options, request: &RebuildOptions) -> Result<Rebuilt> {
        let _owned = store.lock()?;
        let name = BlobName::parse(CATALOGUE).expect("a constant name");
        let present = store.list()?;
        if present.contains(&name) {
            refuse_readable(store.open(&name, Access::Read)?, options)?;
        }
        let source = Source::new(options);
        let pool = request.pool.as_ref().map(UuidArg::parse).transpose()?;
        let mut rebuilt = Rebuilt::default();
        let scanned = scan::scan(store, pool, &mut rebuilt)?;
        let start = scan::start(&scanned);
        let graph = graph::Graph::of(scanned, options.image_limits, &mut rebuilt)?;
        let edits = records::records(graph, start, &source, &mut rebuilt);
        let bytes = catalogue_of(rebuilt.pool, start, &edits, options, &source)?;
        if present.contains(&name) {
            rebuilt.catalogue_kept = set_aside(store, &name, &present)?.map(|kept| kept.to_string());
        }
        put(store, &name, &bytes)?;
        Ok(rebuilt)
    }
}

/// Refuses when a catalogue can be opened, and when it is only too new. One that nothing was ever put into counts as
/// none: opening the directory as a pool makes it.
fn refuse_readable(blob: Arc<dyn Blob>, options: &Options) -> Result<()> {
    match Catalog::look(blob, options.of_catalogue()) {
        Ok(generation) if generation > 0 => {
            Err(Refusal::CatalogueThere { file: CATALOGUE.to_owned() }.into())
        }
        Err(error @ catalog::Error::NewerVersion { .. }) => Err(error.into()),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The bytes of a catalogue with these records, closed.
fn catalogue_of(
    pool: Uuid,
    start: catalog::Start,
    edits: &[catalog::Edit],
    options: &Options,
    source: &Source,
) -> Result<Vec<u8>> {
    let name = BlobName::parse(CATALOGUE).expect("a constant name");
    let blob = MemoryStore::new().create(&name)?;
    let catalog = Catalog::create_from(blob.clone(), pool, source.now(), start, options.of_catalogue())?;
    catalog.commit(None, edits)?;
    let violations = catalog.read()?.verify()?;
    let broken = violations.iter().find(|violation| violation.severity() == Severity::Broken);
    if let Some(broken) = broken {
        return Err(Refusal::NotRebuilt { why: broken.to_string() }.into());
    }
    catalog.close()?;
    let mut bytes = vec![0; blob.length()?.as_usize()];
    blob.read_at(HostOffset::ZERO, &mut bytes)?;
    Ok(bytes)
}

/// Copies a catalogue under a name that is free, then removes it. An empty one is only removed.
fn set_aside(store: &dyn Store, name: &BlobName, present: &[BlobName]) -> Result<Option<BlobName>> {
    let old = store.open(name, Access::Read)?;
    let mut kept = None;
    if !old.length()?.is_zero() {
        let free = (1_u64..)
            .filter_map(|number| BlobName::parse(&format!("{CATALOGUE_LOST}{number}")).ok())
            .find(|free| !present.contains(free))
            .expect("numbers do not end");
        let copy = store.create(&free)?;
        copy_all(&*old, &*copy)?;
        copy.sync()?;
        store.sync_names()?;
        kept = Some(free);
    }
    // Whichever of the two is there after a power cut, the name is synced with the new one.
    store.remove(name)?;
    Ok(kept)
}

fn copy_all(from: &dyn Blob, to: &dyn Blob) -> Result<()> {
    let end = HostOffset::end_of(from.length()?);
    let mut at = HostOffset::ZERO;
    let mut bytes = vec![0; PIECE.as_usize()];
    while let Some(left) = end.checked_since(at).filter(|left| !left.is_zero()) {
        let piece = &mut bytes[..left.min(PIECE).as_usize()];
        from.read_at(at, piece)?;
        to.write_at(at, piece)?;
        at += ByteCount::of(piece.len());
    }
    Ok(())
}

/// Writes a catalogue. The sector that says that it is one comes last, so that half a catalogue is none.
fn put(store: &dyn Store, name: &BlobName, bytes: &[u8]) -> Result<()> {
    let blob = store.create(name)?;
    let (first, rest) = bytes.split_at(SECTOR.as_usize().min(bytes.len()));
    blob.write_at(HostOffset::ZERO + SECTOR, rest)?;
    blob.sync()?;
    store.sync_names()?;
    blob.write_at(HostOffset::ZERO, first)?;
    blob.sync()?;
    Ok(())
}
