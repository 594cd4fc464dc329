//! One open pool: the store, the catalogue, and what is held in memory of both.

use super::epoch::Epoch;
use super::error::{Error, Result};
use super::generation::Generation;
use super::handles::OpenVolumes;
use super::layers::OpenLayers;
use super::live::TakenUp;
use super::locks::{Held, Key, Locks};
use super::operation::{self, Operation};
use super::options::{CreatePool, Options, Source};
use super::readers::Readers;
use super::rebuild;
use super::recover::Recovered;
use super::seal::Sealings;
use crate::catalog::{self, Catalog, Entity, GroupId, LayerId, MachineId, Reader, VolumeId, VolumeRecord};
use crate::inventory::Date;
use crate::plan::refusal::Refusal;
use crate::plan::text;
use crate::storage::{self, Access, BlobName, FusedStore, MemoryStore, Owned, Store};
use crate::sync::RwLock;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use uuid::Uuid;

/// The file that makes a directory a pool.
pub(super) const CATALOGUE: &str = "snapgroup.redb";
/// The mark that says that the catalogue is being made.
pub(super) const CATALOGUE_NEW: &str = "snapgroup.redb.new";
/// What the name of a catalogue begins with that could not be opened; a number follows.
pub(super) const CATALOGUE_LOST: &str = "snapgroup.redb.lost-";

/// Whether a file is the pool's own and no layer.
pub(super) fn is_own_file(name: &BlobName) -> bool {
    let is_catalogue = [CATALOGUE, CATALOGUE_NEW].contains(&name.as_str());
    is_catalogue || name.as_str().starts_with(CATALOGUE_LOST) || text::layer_of_seal(name).is_some()
}

/// A pool of machines, volumes, snapshots and groups: one directory, or one store in memory.
///
/// Cheap to clone; clones share the pool. All calls are plain and synchronous and may be made from any thread.
#[doc = include_str!("examples/guest_io.md")]
#[derive(Clone, Debug)]
pub struct Engine {
    pub(super) pool: Arc<Pool>,
}

/// What the clones of an engine, and the handles it gave out, share.
#[derive(Debug)]
pub(super) struct Pool {
    store: Arc<FusedStore>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) options: Options,
    pub(super) source: Source,
    pub(super) locks: Locks,
    /// Held for reading from the first file of a plan to its commit; for writing while files and records are
    /// compared.
    pub(super) under_way: RwLock<()>,
    /// Held for reading by whoever opens layers that it has just read about without holding their volumes; for
    /// writing while other layers are put below others, and while files are removed.
    pub(super) layout: RwLock<()>,
    pub(super) open_layers: OpenLayers,
    pub(super) open_volumes: OpenVolumes,
    pub(super) readers: Readers,
    pub(super) sealings: Sealings,
    pub(super) taken_up: TakenUp,
    /// The layers whose files had not arrived when the pool was opened, and could not be made anew.
    pub(super) not_arrived: Vec<LayerId>,
    /// The message of the commit of which nobody knows whether it took place. Whatever is written after it might
    /// be written below a snapshot.
    unknown: OnceLock<String>,
    recovered: Recovered,
    /// How many layers were made that were not synced, since all were.
    pub(super) backlog: AtomicUsize,
    /// Given back last: whoever opens the pool next finds it finished.
    owned: Option<Box<dyn Owned>>,
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Best effort: what is not settled now is settled when the pool is opened the next time.
        if !std::thread::panicking() {
            drop(self.settle_all());
        }
    }
}

impl Engine {
    /// Opens the pool in a directory, or makes one there (see [`Options::create`]). Recovers first: what a crash
    /// left half done is undone or finished, and [`Engine::recovered`] says what.
    ///
    /// # Errors
    ///
    /// [`Error::Storage`] with [`storage::Error::Locked`] when the pool is open already, in this process or
    /// another one; [`Error::NotAPool`], [`Error::NoPool`], [`Error::NewerVersion`]; [`Error::Catalog`] when the
    /// catalogue is damaged. In all these cases nothing was changed.
    #[doc = include_str!("examples/open.md")]
    #[cfg(target_os = "linux")]
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self> {
        // Absolute, so that what is shown stays right when the process changes its directory.
        let absolute = std::path::absolute(path.as_ref());
        let path = absolute.as_deref().unwrap_or(path.as_ref());
        let store = match options.create {
            CreatePool::Never if !path.is_dir() => {
                return Err(Error::NoPool { location: path.display().to_string() });
            }
            CreatePool::Never => storage::DiskStore::open_with(path, options.disk),
            _ => storage::DiskStore::create_with(path, options.disk),
        };
        let store = store?.with_bases(&options.base_directories)?;
        Self::open_on(Arc::new(store), options.of_directory())
    }

    /// Makes a pool in memory. It is gone when the last clone of the engine is.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is that of [`Engine::open`].
    #[doc = include_str!("examples/guest_io.md")]
    pub fn in_memory(options: Options) -> Result<Self> {
        Self::open_on(Arc::new(MemoryStore::new()), options)
    }

    /// Opens or makes a pool on any store: one of yours, or a simulated one.
    ///
    /// # Errors
    ///
    /// As [`Engine::open`].
    #[doc = include_str!("examples/open_on.md")]
    pub fn open_on(store: Arc<dyn Store>, options: Options) -> Result<Self> {
        let listener = options.listener.clone();
        operation::during(&listener, Operation::Open, || Self::open_on_untold(store, options))
    }

    fn open_on_untold(store: Arc<dyn Store>, options: Options) -> Result<Self> {
        // Looked at before anything is made, a lock file included: what is no pool is left as it is.
        if !holds_catalogue(&*store) {
            admit(&*store, &store.list()?, options.create)?;
        }
        let owned = store.lock()?;
        let store = Arc::new(FusedStore::new(store));
        let source = Source::new(&options);
        // It may have changed before it was ours. Listed once, for all that the opening asks.
        let present = store.list()?;
        admit(&*store, &present, options.create)?;
        let catalog = open_catalogue(&store, &present, &options, &source)?;
        let recovered = super::recover::recover(&*store, &catalog, &present, options.prepared)?;
        let unsettled = catalog.read()?.layers_unsettled()?.into_vec()?;
        let pool = Pool {
            store,
            catalog: Arc::new(catalog),
            options,
            source,
            locks: Locks::default(),
            under_way: RwLock::new(()),
            layout: RwLock::new(()),
            readers: Readers::default(),
            sealings: Sealings::default(),
            taken_up: TakenUp::default(),
            not_arrived: unsettled.into_iter().map(|layer| layer.id).collect(),
            open_layers: OpenLayers::default(),
            open_volumes: OpenVolumes::default(),
            unknown: OnceLock::new(),
            recovered,
            backlog: AtomicUsize::new(0),
            owned: Some(owned),
        };
        Ok(Self { pool: Arc::new(pool) })
    }

    /// Flushes every open volume, makes every file durable that is not yet, and gives the pool back: other programs may use
    /// the disks then. Drop the handles and the other clones first.
    ///
    /// Dropping the last clone and the last handle does the same, but cannot tell of an error.
    ///
    /// # Errors
    ///
    /// [`Error::NotOwner`] when another owner has opened the pool since; [`Error::Image`] when a flush fails;
    /// [`Error::Lost`] when one failed that a dropped handle had asked for;
    /// [`Error::Storage`] when a sync has failed since the pool was opened;
    /// [`Refusal::StillOpen`] when other clones of the engine or handles are alive: the pool then stays open with
    /// them.
    #[doc = include_str!("examples/open.md")]
    pub fn close(self) -> Result<()> {
        let listener = self.pool.options.listener.clone();
        operation::during(&listener, Operation::Close, || self.close_untold())
    }

    fn close_untold(self) -> Result<()> {
        self.pool.catalog.check_owner()?;
        self.pool.open_volumes.flush_all()?;
        // A handle that was dropped could not tell of a flush that failed; this is the last one who can.
        self.pool.open_volumes.tell_of_loss()?;
        self.pool.admit_change()?;
        match Arc::try_unwrap(self.pool) {
            Ok(mut pool) => {
                pool.settle_all()?;
                let _owned = pool.owned.take();
                let catalog = Arc::clone(&pool.catalog);
                drop(pool);
                Ok(Arc::into_inner(catalog).expect("only the pool had it").close()?)
            }
            Err(pool) => Err(Refusal::StillOpen { holders: Arc::strong_count(&pool) - 1 }.into()),
        }
    }

    /// What opening the pool has found half done, and has undone or finished.
    #[doc = include_str!("examples/open.md")]
    #[must_use]
    pub fn recovered(&self) -> &Recovered {
        &self.pool.recovered
    }

    /// Where the pool is: its directory, or a made-up place in memory.
    #[doc = include_str!("examples/open_on.md")]
    #[must_use]
    pub fn location(&self) -> String {
        self.pool.locate(CATALOGUE).trim_end_matches(CATALOGUE).to_owned()
    }

    /// The uuid of the pool.
    #[doc = include_str!("examples/open_on.md")]
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.pool.catalog.pool()
    }

    /// When the pool was made.
    #[doc = include_str!("examples/open_on.md")]
    #[must_use]
    pub fn created(&self) -> Date {
        self.pool.catalog.created().into()
    }

    /// How often the pool was opened for writing, its making and this time counted. Of two owners that both believe to
    /// have a pool, the one with the larger number has it: every change of the other one is [`Error::NotOwner`].
    #[doc = include_str!("examples/open_on.md")]
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        Epoch(self.pool.catalog.epoch())
    }

    /// How often the catalogue has changed: larger after every call that changed something.
    #[doc = include_str!("examples/open_on.md")]
    #[must_use]
    pub fn generation(&self) -> Generation {
        Generation(self.pool.catalog.generation())
    }
}

/// Whether the file that makes a store a pool is there, asked without listing the others.
fn holds_catalogue(store: &dyn Store) -> bool {
    let name = BlobName::parse(CATALOGUE).expect("a constant name");
    store.open(&name, Access::Read).is_ok()
}

/// Refuses a store with these files when it is no pool and shall not become one.
fn admit(store: &dyn Store, present: &[BlobName], create: CreatePool) -> Result<()> {
    let name = BlobName::parse(CATALOGUE).expect("a constant name");
    let mark = BlobName::parse(CATALOGUE_NEW).expect("a constant name");
    if present.contains(&name) {
        return Ok(());
    }
    let location = store.location(&name).trim_end_matches(CATALOGUE).to_owned();
    match create {
        CreatePool::Never => Err(Error::NoPool { location }),
        // A mark alone is a pool whose making was cut short. Beside other files it is one whose catalogue is lost.
        CreatePool::IfEmpty if present.iter().any(|file| *file != mark) => {
            Err(Error::NotAPool { location, expected: CATALOGUE.to_owned() })
        }
        CreatePool::IfEmpty | CreatePool::Here => Ok(()),
    }
}

/// Opens the catalogue, or makes it where there is none among the files that are present.
///
/// While it is being made, a mark stands beside it: an empty file whose name is durable before the catalogue's is, and
/// gone only when the catalogue is whole. A catalogue with the mark was never acknowledged and is made anew.
fn open_catalogue(
    store: &FusedStore,
    present: &[BlobName],
    options: &Options,
    source: &Source,
) -> Result<Catalog> {
    let name = BlobName::parse(CATALOGUE).expect("a constant name");
    let mark = BlobName::parse(CATALOGUE_NEW).expect("a constant name");
    let catalog_options = options.of_catalogue();
    // A mark is empty: what is not is somebody's file.
    let unfinished = present.contains(&mark) && store.open(&mark, Access::Read)?.length()?.is_zero();
    if present.contains(&name) && !unfinished {
        return Ok(Catalog::open_with(store.open(&name, Access::Write)?, catalog_options)?);
    }
    if !unfinished {
        // A name that is taken by somebody's file is an error here, and nothing was made.
        store.create(&mark)?;
        store.sync_names()?;
    }
    if present.contains(&name) {
        match Catalog::open_with(store.open(&name, Access::Write)?, catalog_options) {
            // It was changed since: whoever put the mark there, the catalogue was acknowledged.
            Ok(catalog) if catalog.generation() > 0 => {
                store.remove(&mark)?;
                store.sync_names()?;
                return Ok(catalog);
            }
            Ok(_) | Err(catalog::Error::NotACatalogue { .. }) if options.create == CreatePool::Never => {
                return Err(Error::NoPool { location: store.location(&name) });
            }
            // A pool that is being made has no layers: this one was acknowledged, and its catalogue is damaged.
            Err(error @ catalog::Error::NotACatalogue { .. }) if rebuild::holds_layers(store, present)? => {
                return Err(error.into());
            }
            Ok(_) | Err(catalog::Error::NotACatalogue { .. }) => store.remove(&name)?,
            // It cannot be read just now, or not by this version: that is no reason to throw it away.
            Err(error) => return Err(error.into()),
        }
    }
    let blob = store.create(&name)?;
    let catalog = Catalog::create_with(blob.clone(), source.mint(), source.now(), catalog_options)?;
    // While a lost beginning is made anew, the mark must outlive whatever of the old one is still to be dropped.
    blob.sync()?;
    store.sync_names()?;
    store.remove(&mark)?;
    store.sync_names()?;
    Ok(catalog)
}

impl Pool {
    /// The store; it refuses every write after a failed sync.
    pub(super) fn store(&self) -> &FusedStore {
        &self.store
    }

    /// Refuses every change after a sync that failed, after a commit whose end is unknown, and once another owner has
    /// the pool.
    pub(super) fn admit_change(&self) -> Result<()> {
        self.catalog.check_owner()?;
        match self.unknown.get().cloned().or_else(|| self.store.poisoned()) {
            Some(cause) => Err(storage::Error::Poisoned { cause }.into()),
            None => Ok(()),
        }
    }

    /// Ends all changes: nobody knows whether a commit took place.
    pub(super) fn note_unknown(&self, error: &Error) {
        // The first one is the cause; the others only follow from it.
        let _ = self.unknown.set(error.to_string());
    }

    /// The catalogue as it is now.
    pub(super) fn read(&self) -> Result<Reader> {
        Ok(self.catalog.read()?)
    }

    /// The uuid that a request asks for, or a fresh one; and what already has it.
    pub(super) fn claim(&self, wanted: Option<Uuid>) -> Result<(Uuid, Option<Entity>)> {
        match wanted {
            None => Ok((self.source.mint(), None)),
            Some(uuid) => {
                let reader = self.read()?;
                if let Some(prepared) = reader.prepared()?.iter().find(|prepared| prepared.group == uuid) {
                    let machine = reader.need_machine(prepared.machine)?.uuid;
                    return Err(Refusal::BeingPrepared { machine, group: uuid }.into());
                }
                Ok((uuid, reader.resolve(uuid)?))
            }
        }
    }

    /// A volume by its uuid.
    pub(super) fn volume(&self, reader: &Reader, uuid: Uuid) -> Result<VolumeRecord> {
        let found = reader.volume_by_uuid(uuid)?;
        Ok(found.ok_or(Refusal::NotFound { what: "volume", uuid })?)
    }

    /// Locks what `look` finds to be concerned, and looks again under the locks.
    pub(super) fn lock_found<T>(
        &self,
        look: impl Fn(&Reader) -> Result<(Vec<Key>, T)>,
    ) -> Result<(Held, Reader, T)> {
        let sorted = |mut keys: Vec<Key>| {
            keys.sort_unstable();
            keys.dedup();
            keys
        };
        loop {
            let before = sorted(look(&self.read()?)?.0);
            let held = self.locks.acquire(before.clone());
            let reader = self.read()?;
            let (keys, found) = look(&reader)?;
            if sorted(keys) == before {
                return Ok((held, reader, found));
            }
        }
    }

    /// What must be locked by whoever changes the snapshots of these volumes, or these groups: the volumes, the
    /// machines that have them, the machines of the groups.
    pub(super) fn keys_around(
        reader: &Reader,
        volumes: impl IntoIterator<Item = VolumeId>,
        groups: impl IntoIterator<Item = GroupId>,
    ) -> Result<Vec<Key>> {
        let mut keys = Vec::new();
        for id in volumes {
            keys.push(Key::Volume(id));
            let attachments = reader.volume(id)?.map(|volume| volume.attachments).unwrap_or_default();
            keys.extend(attachments.iter().map(|attachment| Key::Machine(attachment.machine)));
        }
        for id in groups {
            keys.extend(reader.group(id)?.map(|group| Key::Machine(group.machine)));
        }
        Ok(keys)
    }

    /// Locks a machine with the volumes that it has: another machine may have a shareable one, too, and whoever
    /// changes its record needs it alone.
    pub(super) fn lock_machine_and_volumes(&self, id: MachineId) -> Result<Held> {
        let volumes = || -> Result<Vec<Key>> {
            let volumes = self.read()?.volumes_of(id)?.into_vec()?;
            Ok(volumes.into_iter().map(|volume| Key::Volume(volume.id)).collect())
        };
        loop {
            let before = volumes()?;
            let held = self.locks.acquire(before.iter().copied().chain([Key::Machine(id)]).collect());
            if volumes()? == before {
                return Ok(held);
            }
        }
    }

    /// Locks a volume with the machines that have it, and reads it again.
    pub(super) fn lock_volume(&self, uuid: Uuid, also: &[Key]) -> Result<(Held, VolumeRecord)> {
        loop {
            let before = self.volume(&self.read()?, uuid)?;
            let machines = before.attachments.iter().map(|attachment| Key::Machine(attachment.machine));
            let keys = machines.chain([Key::Volume(before.id)]).chain(also.iter().copied()).collect();
            let held = self.locks.acquire(keys);
            let now = self.volume(&self.read()?, uuid)?;
            if now.attachments == before.attachments {
                return Ok((held, now));
            }
        }
    }
}

/// What has a uuid, in a word.
pub(super) fn kind_of(entity: Entity) -> &'static str {
    match entity {
        Entity::Machine(_) => "machine",
        Entity::Volume(_) => "volume",
        Entity::Layer(_) => "layer",
        Entity::Snapshot(_) => "snapshot",
        Entity::Tree(_) => "tree",
        Entity::Group(_) => "group",
    }
}
