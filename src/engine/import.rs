//! A new volume from a file that is not to be trusted where it lies: its content is copied into an image of ours.
//!
//! The file is only read, and every rule of its format is checked first: the header, what it asks for, then all of its
//! tables against its refcounts. What it names as its backing file is looked for beside it and nowhere else.
//!
//! 1. One commit says which file is being filled, and what it will read through.
//! 2. The content is copied, in steps, and synced.
//! 3. One commit makes the volume.
//!
//! A crash before 3 leaves a file that is removed when the pool is opened; giving up removes it at once.

use super::adopt::{RawTrust, broken, not_adoptable};
use super::adopt_rule::AdoptRule;
use super::error::Result;
use super::events::Work;
use super::locks::Key;
use super::naming::{backing_of, said};
use super::operation::{Operation, Outcome, Running};
use super::pool::{Engine, Pool};
use super::readers::Claim;
use super::reclaim::Reclaimed;
use super::uuid_arg::{UuidArg, parse_optional};
use crate::catalog::{
    L2Entries, LayerFormat, LayerRecord, LayerState, Origin, Settled, Sharing, VolumeKind, WishMark,
};
use crate::chain::{Chain, Flatten, FlattenBase, Layer, RawLayer, Step};
use crate::image::{Facts, Image};
use crate::inventory::VolumeInventory;
use crate::plan::books::Books;
use crate::plan::refusal::Refusal;
use crate::plan::text::{self, backing_label, layer_blob};
use crate::plan::volume::VolumeWish;
use crate::plan::{NewFile, Plan};
use crate::storage::{self, Access, Blob, BlobName, Identity, Store};
use crate::units::ByteCount;
use std::collections::HashSet;
use std::sync::Arc;

/// How much an import that runs to its end does in one go.
const WHOLE: ByteCount = ByteCount::gib(1);

/// Where a file to be imported lies.
#[doc = include_str!("examples/importing.md")]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ImportFrom {
    /// A file of the pool's own store that is no layer of it.
    Pool(String),
    /// A file of another store.
    Store(Arc<dyn Store>, String),
    /// A file anywhere; its backing files must lie in the same directory. No link is followed.
    #[cfg(target_os = "linux")]
    Path(std::path::PathBuf),
}

/// A file to be copied into a new volume.
#[doc = include_str!("examples/importing.md")]
#[derive(Clone, Debug)]
pub struct ImportVolume {
    /// The file.
    pub from: ImportFrom,
    /// Its format: said, never guessed.
    pub format: LayerFormat,
    /// A snapshot of this pool that stands for the backing file which the image names, as for an export above a base:
    /// what the image does not have is read from the snapshot, and what it names is not looked at.
    pub base: Option<UuidArg>,
    /// The name of the volume: 1 to 255 characters.
    pub name: String,
    /// Its description: at most 2048 characters.
    pub description: Option<String>,
    /// What it is to its machine.
    pub kind: VolumeKind,
    /// log2 of the cluster size of the new image, 9 to 21; `None` is the pool's default.
    pub cluster_bits: Option<u8>,
    /// The longest chain that it may have, in layers with the head counted, from 1 on; `None` is the pool's
    /// ([`Options::chain_max`](super::Options::chain_max)).
    pub chain_max: Option<u32>,
    /// The backing files that are raw disks although they begin like a disk image of some format: a guest may have
    /// written that. Others that begin so are refused where a header calls them raw.
    pub raw_below: Vec<String>,
    /// The largest disk that is taken. Default 64 TiB.
    pub size_max: ByteCount,
    /// The uuid of the volume; a fresh one when absent. [`Engine::import`] with the same uuid and the same wish answers
    /// the volume that is there, so a call can be repeated after a crash.
    pub resource_uuid: Option<UuidArg>,
}

impl ImportVolume {
    /// A file to be copied into a data disk of this name.
    #[must_use]
    pub fn new(from: ImportFrom, format: LayerFormat, name: impl Into<String>) -> Self {
        Self {
            from,
            format,
            base: None,
            name: name.into(),
            description: None,
            kind: VolumeKind::Data,
            cluster_bits: None,
            chain_max: None,
            raw_below: Vec::new(),
            size_max: ByteCount::gib(64 << 10),
            resource_uuid: None,
        }
    }

    /// The same as the root volume of its machine.
    #[must_use]
    pub fn as_root(self) -> Self {
        Self { kind: VolumeKind::Root, ..self }
    }

    /// The same, an image above a snapshot of this pool.
    ///
    /// ```
    /// use snapgroup::{ImportFrom, ImportVolume, LayerFormat};
    ///
    /// let image = ImportVolume::new(ImportFrom::Path("/backup/tuesday.qcow2".into()), LayerFormat::Qcow2, "system");
    /// let image = image.above("4b13e23059033e2dbfac63b5b16eba11"); // what was monday's snapshot
    /// assert!(image.base.is_some());
    /// ```
    #[must_use]
    pub fn above(self, base: impl Into<UuidArg>) -> Self {
        Self { base: Some(base.into()), ..self }
    }

    /// By which a repeat of the wish is known. A store has no name, so its files are known by theirs.
    fn mark(&self) -> Result<WishMark> {
        let from = match &self.from {
            ImportFrom::Pool(name) => format!("pool {name}"),
            ImportFrom::Store(_, name) => format!("store {name}"),
            #[cfg(target_os = "linux")]
            ImportFrom::Path(path) => format!("path {path:?}"),
        };
        let base = parse_optional(self.base.as_ref())?;
        let name = text::name("name", &self.name)?;
        let form = format!("{:?}", (self.format, self.kind, self.cluster_bits));
        let base = base.map_or_else(String::new, |base| base.simple().to_string());
        let description = self.description.as_deref().unwrap_or("\0");
        let mut wished = vec!["imported volume", &name, description, &from, &form, &base];
        let cap = self.chain_max.map(text::chain_max_wish);
        wished.extend(cap.as_deref());
        Ok(text::wish_mark(&wished))
    }
}

/// An import under way. Dropping it gives up: nothing of it stays.
#[doc = include_str!("examples/importing.md")]
#[derive(Debug)]
#[must_use = "nothing is imported before it is finished, and dropping this gives up"]
pub struct Importer {
    pool: Arc<Pool>,
    /// The copy, and the layer that it fills.
    copying: Option<(Flatten, Arc<Layer>)>,
    total: ByteCount,
    written: ByteCount,
    record: LayerRecord,
    wish: VolumeWish,
    is_published: bool,
    running: Running,
    _claim: Option<Arc<Claim>>,
}

impl Importer {
    /// How many bytes are to be copied, in whole clusters of the new image.
    #[must_use]
    pub fn total(&self) -> ByteCount {
        self.total
    }

    /// How many of them are done.
    #[must_use]
    pub fn written(&self) -> ByteCount {
        self.written
    }

    /// Copies about `budget` bytes, at least one cluster. [`Step::Done`] says that everything is copied and durable,
    /// and that [`Importer::finish`] has only to make the volume.
    ///
    /// # Errors
    ///
    /// [`Error::Image`](super::Error::Image) when the file cannot be read or the new image cannot be written. Drop the
    /// importer then.
    #[doc = include_str!("examples/importing.md")]
    pub fn step(&mut self, budget: ByteCount) -> Result<Step> {
        let running = self.running.clone();
        running.within(|| self.step_untold(budget))
    }

    fn step_untold(&mut self, budget: ByteCount) -> Result<Step> {
        self.pool.admit_change()?;
        let Some((flatten, target)) = &mut self.copying else { return Ok(Step::Done) };
        let step = flatten.step(budget)?;
        self.written = flatten.written();
        self.pool.tell_progress(Work::Import, self.written, self.total);
        if step == Step::Done {
            self.pool.note_whole(target)?;
            self.copying = None;
        }
        Ok(step)
    }

    /// Goes on to the end, and makes the volume. Durable when it returns.
    ///
    /// # Errors
    ///
    /// As [`Importer::step`]; SYS.1002 when the uuid was taken meanwhile. Nothing of the import stays then.
    #[doc = include_str!("examples/importing.md")]
    pub fn finish(self) -> Result<VolumeInventory> {
        let running = self.running.clone();
        let made = running.within(|| self.finish_untold())?;
        running.end(Outcome::Done);
        Ok(made)
    }

    fn finish_untold(mut self) -> Result<VolumeInventory> {
        while self.step_untold(WHOLE)? == Step::More {}
        let pool = Arc::clone(&self.pool);
        let _held = pool.locks.acquire(vec![Key::New]);
        refuse_taken(&pool, &self.wish)?;
        let head = pool.read()?.need_layer(self.record.id)?;
        let at = pool.source.now();
        let volume = self.wish.record(head.volume, head.size, head.id, at);
        let edits = vec![LayerRecord { state: LayerState::Head, ..head }.into(), volume.clone().into()];
        let published = pool.perform(&Plan { edits, ..Plan::default() });
        // After a commit whose end is unknown the file may be a head.
        self.is_published = matches!(published, Ok(()) | Err(super::Error::OutcomeUnknown(_)));
        published?;
        pool.show_volume(&pool.read()?, &volume)
    }

    fn give_up(&self) -> Result<()> {
        let pool = &self.pool;
        pool.admit_change()?;
        let mut books = Books::open(pool.read()?.holdings(&[self.record.volume], &[])?);
        books.retire(self.record.id);
        pool.perform(&Plan { edits: books.edits(), ..Plan::default() })?;
        pool.sweep(&mut Reclaimed::default()).map(drop)
    }
}

impl Drop for Importer {
    fn drop(&mut self) {
        self.copying = None;
        if !self.is_published {
            // Best effort: opening the pool does the same.
            drop(self.give_up());
        }
    }
}

/// The layers of a file that is imported, open for reading.
struct Source {
    chain: Chain,
    base: Option<(FlattenBase, LayerRecord, Arc<Claim>)>,
}

impl Engine {
    /// Copies a file into a new volume, attached to nothing yet. The file is only read, and may be anybody's. Durable
    /// when it returns. The same wish with the same `resource_uuid` answers the volume that is there; the file is not
    /// looked at again.
    ///
    /// # Errors
    ///
    /// As [`Engine::importer`] and [`Importer::finish`].
    #[doc = include_str!("examples/importing.md")]
    pub fn import(&self, request: &ImportVolume) -> Result<VolumeInventory> {
        if let Some(uuid) = parse_optional(request.resource_uuid.as_ref())? {
            let reader = self.pool.read()?;
            let there = reader.volume_by_uuid(uuid)?;
            let mark = request.mark()?;
            if let Some(there) = there.filter(|there| there.wish == mark) {
                return self.pool.show_volume(&reader, &there);
            }
        }
        self.importer(request)?.finish()
    }

    /// Begins an import that goes on step by step. The file is checked first, as a whole.
    ///
    /// # Errors
    ///
    /// [`Error::NotAdoptable`](super::Error::NotAdoptable), which names the file and the rule: not there, not regular,
    /// too large, no format given for a backing file, a loop, too deep, open in another process for writing, found
    /// broken by the check, called raw by a header and not by the caller while it begins like an image, a layer of this
    /// pool. SYS.1007 for names, sizes and uuids that are none; SYS.1002 for a uuid that is taken, by the same wish, too;
    /// SYS.1003 for a base that is not there.
    #[doc = include_str!("examples/importing.md")]
    pub fn importer(&self, request: &ImportVolume) -> Result<Importer> {
        let running = Running::begin(&self.pool.options.listener, Operation::Import);
        running.within(|| self.importer_untold(request, running.clone()))
    }

    fn importer_untold(&self, request: &ImportVolume, running: Running) -> Result<Importer> {
        let pool = &self.pool;
        let name = text::name("name", &request.name)?;
        let description = text::description(request.description.as_deref())?;
        let wanted = parse_optional(request.resource_uuid.as_ref())?;
        let of = parse_optional(request.base.as_ref())?;
        let (_held, _, ()) = pool.lock_found(|reader| {
            let Some(uuid) = of else { return Ok((vec![Key::New], ())) };
            let found = reader.snapshot_by_uuid(uuid)?.ok_or(Refusal::NotFound { what: "snapshot", uuid })?;
            let mut keys = Pool::keys_around(reader, [found.volume], found.group)?;
            keys.push(Key::New);
            Ok((keys, ()))
        })?;
        let uuid = wanted.unwrap_or_else(|| pool.source.mint());
        let mark = request.mark()?;
        let (kind, sharing, chain_max) = (request.kind, Sharing::Exclusive, request.chain_max);
        let wish = VolumeWish { uuid, name, description, kind, sharing, chain_max, mark };
        wish.check()?;
        refuse_taken(pool, &wish)?;
        let source = pool.import_source(request, of)?;
        let cluster_bits = request.cluster_bits.unwrap_or(pool.options.cluster_bits);
        let (layer, ids) = (pool.source.mint(), pool.catalog.ids());
        let below = source.base.as_ref().map(|(_, below, _)| below);
        let record = LayerRecord {
            id: ids.take_layer(),
            uuid: layer,
            blob: layer_blob(layer),
            format: LayerFormat::Qcow2,
            volume: ids.take_volume(),
            parent: below.map(|below| below.id),
            backing_label: below.map(|below| backing_label(&below.blob)),
            size: source.chain.size(),
            cluster_bits,
            state: LayerState::Building,
            origin: Origin::Created,
            created: pool.source.now(),
            rewrite: None,
            taken_in: None,
            l2: L2Entries::Standard,
            seal: None,
            settled: Settled::Yes,
        };
        let file = NewFile {
            layer: record.clone(),
            backing_format: below.map(|below| below.format),
            volume_uuid: uuid,
        };
        let plan = Plan { files: vec![file], edits: vec![record.clone().into()] };
        let target = pool.prepare(&plan)?.publish()?.remove(0);
        let (base, claim) = source.base.map(|(base, _, claim)| (base, claim)).unzip();
        let mut importer = Importer {
            pool: Arc::clone(pool),
            copying: None,
            total: ByteCount::ZERO,
            written: ByteCount::ZERO,
            record,
            wish,
            is_published: false,
            running,
            _claim: claim,
        };
        let compress = crate::chain::Compress::No;
        let flatten = Flatten::to_image(&source.chain, base.as_ref(), Arc::clone(&target), compress)?;
        importer.total = flatten.total();
        importer.copying = Some((flatten, target));
        Ok(importer)
    }
}

/// Refuses a uuid that something has.
fn refuse_taken(pool: &Pool, wish: &VolumeWish) -> Result<()> {
    match pool.read()?.resolve(wish.uuid)? {
        None => Ok(()),
        Some(by) => Err(Refusal::UuidTaken { uuid: wish.uuid, by: super::pool::kind_of(by) }.into()),
    }
}

impl Pool {
    /// Opens what is to be imported, and refuses what cannot be relied on.
    fn import_source(self: &Arc<Self>, request: &ImportVolume, base: Option<uuid::Uuid>) -> Result<Source> {
        let own: Arc<dyn Store>;
        let (store, name): (&dyn Store, String) = match &request.from {
            ImportFrom::Pool(name) => (self.store(), name.clone()),
            ImportFrom::Store(store, name) => (&**store, name.clone()),
            #[cfg(target_os = "linux")]
            ImportFrom::Path(path) => {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
                let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                let beside = storage::DiskStore::open(beside.unwrap_or(std::path::Path::new(".")))?;
                own = Arc::new(beside.with_bases(&self.options.base_directories)?);
                (&*own, name)
            }
        };
        let is_own = matches!(request.from, ImportFrom::Pool(_));
        let mut next = Some((said(store, &name)?, request.format));
        let (mut layers, mut seen): (Vec<Arc<Layer>>, HashSet<Identity>) = (Vec::new(), HashSet::new());
        while let Some((name, format)) = next {
            if layers.len() as u64 >= u64::from(self.options.chain_max) {
                let layers_max = self.options.chain_max;
                return Err(not_adoptable(&name, AdoptRule::ChainTooLong { layers_max }));
            }
            if super::pool::is_own_file(&name) {
                return Err(not_adoptable(&name, AdoptRule::Catalogue));
            }
            let blob = match store.open(&name, Access::Read) {
                Err(error @ (storage::Error::NotFound { .. } | storage::Error::NotRegular { .. })) => {
                    return Err(not_adoptable(&name, AdoptRule::Unopened(Arc::new(error))));
                }
                other => other?,
            };
            if (is_own || self.is_here(&name, &*blob)) && self.read()?.layer_of_blob(&name)?.is_some() {
                return Err(not_adoptable(&name, AdoptRule::OwnFile));
            }
            if !seen.insert(blob.identity()) {
                return Err(not_adoptable(&name, AdoptRule::Loop));
            }
            if blob.writer_elsewhere()?.is_some() {
                return Err(not_adoptable(&name, AdoptRule::Written));
            }
            let below = self.import_layer(&name, format, blob, request, &mut layers)?;
            if base.is_some() {
                if below.as_ref().is_none_or(|facts| facts.backing_label.is_none()) {
                    return Err(not_adoptable(&name, AdoptRule::NoBase));
                }
                break;
            }
            next = below.map(|facts| backing_of(store, &name, &facts)).transpose()?.flatten();
        }
        let Some(base) = base else { return Ok(Source { chain: Chain::new(layers), base: None }) };
        let _layout = self.layout.read();
        let content = self.open_content(&self.read()?, base)?;
        let cap = request.chain_max.unwrap_or(self.options.chain_max);
        if content.layers.len() as u64 >= u64::from(cap) {
            let length = content.layers.len() + 1;
            return Err(Refusal::ChainTooLong { volume: request.name.clone(), length, cap }.into());
        }
        let below = content.layers[0].clone();
        layers.extend(content.chain.layers().iter().cloned());
        let flatten = FlattenBase { shared: content.layers.len(), chain: content.chain };
        Ok(Source { chain: Chain::new(layers), base: Some((flatten, below, content.claim)) })
    }

    /// Whether a file of this name was opened by a path that leads into the pool's own directory: a header there could
    /// name the disks of others.
    fn is_here(&self, name: &BlobName, blob: &dyn Blob) -> bool {
        let Ok(own) = self.store().open(name, Access::Read) else { return false };
        // In memory there is no device, and each store numbers its blobs alone.
        own.identity() == blob.identity() && blob.identity().device != 0
    }

    /// Opens one file, checked, as the next layer; answers what the header of an image says.
    fn import_layer(
        &self,
        name: &BlobName,
        format: LayerFormat,
        blob: Arc<dyn Blob>,
        request: &ImportVolume,
        layers: &mut Vec<Arc<Layer>>,
    ) -> Result<Option<Facts>> {
        let broken = |error| broken(name, error);
        let size_max = request.size_max;
        let check_size = |size: ByteCount| match size > size_max {
            true => Err(not_adoptable(name, AdoptRule::TooLarge { size, size_max })),
            false => Ok(()),
        };
        let (layer, facts) = match format {
            LayerFormat::Raw => {
                let raw = RawLayer::open(blob, name.as_str()).map_err(broken)?;
                let is_said = layers.is_empty() || request.raw_below.iter().any(|raw| raw == name.as_str());
                let trust = if is_said { RawTrust::Said } else { RawTrust::Claimed };
                trust.admit(name, &raw)?;
                (Layer::Raw(raw), None)
            }
            LayerFormat::Qcow2 => {
                let facts = Facts::of(&*blob, name.as_str()).map_err(broken)?;
                check_size(facts.size)?;
                let limits = self.options.image_limits;
                let image = Image::open_checked(blob, name.as_str(), Access::Read, limits).map_err(broken)?;
                (Layer::from(image), Some(facts))
            }
        };
        check_size(layer.size())?;
        layers.push(Arc::new(layer));
        Ok(facts)
    }
}
