//! A good image to be broken, and the doors that a broken one is carried to.

use crate::memory::peak;
use snapgroup::format::{self, Malformed, Rule};
use snapgroup::image::{self, CheckReport, Image, Limits, NewImage};
use snapgroup::storage::{Access, Blob, BlobName, MemoryStore, Operation, SimulatedStore, Store};
use snapgroup::units::{ByteCount, GuestOffset, HostOffset};
use snapgroup::{
    AdoptVolume, Clock, CreatePool, Engine, Error, Ids, ImportFrom, ImportVolume, LayerFormat, Options,
};
use std::error::Error as StdError;
use std::sync::Arc;

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn StdError>>;

pub(crate) const CLUSTER: u64 = 4096;
/// What no door may take, whatever the file says.
pub(crate) const MEMORY_MAX: usize = 64 << 20;
/// How many reads one door may make for a small file.
const READS_MAX: u64 = 20_000;

/// The clusters of [`small`].
pub(crate) const REFCOUNT_TABLE: u64 = CLUSTER;
pub(crate) const BLOCK: u64 = 2 * CLUSTER;
pub(crate) const L1: u64 = 3 * CLUSTER;
pub(crate) const L2: u64 = 4 * CLUSTER;
pub(crate) const DATA: u64 = 5 * CLUSTER;
pub(crate) const COPIED: u64 = 1 << 63;

/// Header, refcount table, block, L1 table, L2 table, data: clusters 0 to 6, nothing else in the file. The disk has
/// 4 MiB; its clusters 0 and 1 are in the file.
pub(crate) fn small() -> Outcome<Vec<u8>> {
    written(&NewImage { cluster_bits: 12, ..NewImage::of_size(ByteCount::mib(4)) }, &[1; 8192])
}

/// The bytes of an image whose disk begins with these.
pub(crate) fn written(new: &NewImage, content: &[u8]) -> Outcome<Vec<u8>> {
    let blob = MemoryStore::new().create(&BlobName::parse("x")?)?;
    new.layout("x")?.write(&*blob)?;
    let image = Image::open(Arc::clone(&blob), "x", Access::Write, Limits::default())?;
    image.write(GuestOffset::ZERO, content, None)?;
    image.flush()?;
    bytes_of(&*blob)
}

pub(crate) fn bytes_of(blob: &dyn Blob) -> Outcome<Vec<u8>> {
    let mut bytes = vec![0; blob.length()?.as_usize()];
    blob.read_at(HostOffset::ZERO, &mut bytes)?;
    Ok(bytes)
}

pub(crate) fn blob_of(bytes: &[u8]) -> Outcome<Arc<dyn Blob>> {
    let blob = MemoryStore::new().create(&BlobName::parse("x")?)?;
    blob.write_at(HostOffset::ZERO, bytes)?;
    Ok(blob)
}

/// The good image with other bytes at some places.
pub(crate) fn patched(patches: &[(u64, &[u8])]) -> Outcome<Vec<u8>> {
    let mut bytes = small()?;
    for (at, new) in patches {
        let at = usize::try_from(*at)?;
        bytes[at..at + new.len()].copy_from_slice(new);
    }
    Ok(bytes)
}

/// A pool in memory that holds these files, behind a store that counts and records.
pub(crate) struct Pool {
    pub(crate) store: SimulatedStore,
    pub(crate) engine: Engine,
}

impl Pool {
    pub(crate) fn new(files: &[(&str, &[u8])]) -> Outcome<Self> {
        Self::with(files, |_| {})
    }

    pub(crate) fn with(files: &[(&str, &[u8])], change: impl FnOnce(&mut Options)) -> Outcome<Self> {
        let store = SimulatedStore::new(Arc::new(MemoryStore::new()));
        for (name, bytes) in files {
            store.create(&BlobName::parse(name)?)?.write_at(HostOffset::ZERO, bytes)?;
        }
        let mut options = Options {
            create: CreatePool::Here,
            clock: Clock::Stepping(0),
            ids: Ids::Seeded(1),
            ..Options::default()
        };
        change(&mut options);
        let engine = Engine::open_on(Arc::new(store.clone()), options)?;
        store.record();
        Ok(Self { store, engine })
    }

    pub(crate) fn adopt(&self, file: &str) -> snapgroup::Result<snapgroup::inventory::VolumeInventory> {
        self.engine.adopt_volume(&AdoptVolume::new(file, LayerFormat::Qcow2, "v"))
    }

    pub(crate) fn import(&self, file: &str) -> snapgroup::Result<snapgroup::inventory::VolumeInventory> {
        let from = ImportFrom::Pool(file.to_owned());
        self.engine.import(&ImportVolume::new(from, LayerFormat::Qcow2, "v"))
    }

    /// The names that were asked for since the last time, but for those of the pool itself.
    pub(crate) fn names_asked(&self) -> Vec<String> {
        let calls = self.store.take_calls();
        let names = calls.into_iter().filter_map(|call| match call.operation {
            Operation::Open | Operation::Create | Operation::Remove => call.name.map(|name| name.to_string()),
            _ => None,
        });
        let mut names: Vec<_> = names.filter(|name| !name.starts_with("snapgroup.")).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// Runs a call that must stay within the bounds of memory, and names it if not.
pub(crate) fn bounded<T>(what: &str, call: impl FnOnce() -> T) -> T {
    let (answer, peak) = peak(call);
    assert!(peak <= MEMORY_MAX, "{what} took {peak} bytes");
    answer
}

/// What each door says of one file.
#[derive(Debug)]
pub(crate) struct Doors {
    /// Opened for reading.
    pub(crate) opened: image::Result<Image>,
    /// Opened for writing, checked.
    pub(crate) checked: image::Result<Image>,
    /// Checked without being opened.
    pub(crate) report: image::Result<CheckReport>,
    /// The first mebibyte as a guest would read it.
    pub(crate) read: Option<image::Result<Vec<u8>>>,
    /// Taken over as a head.
    pub(crate) adopted: Result<(), Error>,
    /// Copied into a new volume.
    pub(crate) imported: Result<(), Error>,
}

/// Carries a file to every door. What refuses it must leave it as it was.
pub(crate) fn doors(what: &str, bytes: &[u8]) -> Outcome<Doors> {
    let store = SimulatedStore::new(Arc::new(MemoryStore::new()));
    store.create(&BlobName::parse("x")?)?.write_at(HostOffset::ZERO, bytes)?;
    let open = || store.open(&BlobName::parse("x").expect("one component"), Access::Write);
    let limits = Limits::default();
    let opened = bounded(what, || Image::open(open()?, "x", Access::Read, limits));
    let read = opened.as_ref().ok().map(|image| bounded(what, || read_all(image)));
    let report = bounded(what, || image::check(&*open()?, "x"));
    let reads = store.counts().of(Operation::Read);
    assert!(reads <= READS_MAX, "{what}: {reads} reads");
    // The last of them: opened for writing, an image loses bits that its next writer may not know.
    let checked = bounded(what, || Image::open_checked(open()?, "x", Access::Write, limits));

    let pool = Pool::new(&[("x", bytes)])?;
    let imported = bounded(what, || pool.import("x")).map(drop);
    let adopted = bounded(what, || pool.adopt("x")).map(drop);
    let reads = pool.store.counts().of(Operation::Read);
    assert!(reads <= READS_MAX, "{what}: {reads} reads of a pool");
    for error in [imported.as_ref().err(), adopted.as_ref().err()].into_iter().flatten() {
        // What is compressed is first decoded while it is copied.
        let (Error::NotAdoptable { .. } | Error::Image(_)) = error else { panic!("{what}: {error:?}") };
    }
    if adopted.is_err() {
        let blob = pool.store.open(&BlobName::parse("x")?, Access::Read)?;
        assert!(bytes_of(&*blob)? == bytes, "{what}: a refused file has changed");
    }
    Ok(Doors { opened, checked, report, read, adopted, imported })
}

/// The first mebibyte of the disk; zeros where nothing is defined.
fn read_all(image: &Image) -> image::Result<Vec<u8>> {
    let mut bytes = vec![0; image.size().min(ByteCount::mib(1)).as_usize()];
    image.read(GuestOffset::ZERO, &mut bytes, &mut Vec::new())?;
    Ok(bytes)
}

impl Doors {
    /// Every door refuses it for this rule of the format.
    pub(crate) fn all_malformed(&self, what: &str, field: &str, found: u64, rule: Rule) {
        for (door, error) in [
            ("open", self.opened.as_ref().err()),
            ("checked", self.checked.as_ref().err()),
            ("check", self.report.as_ref().err()),
        ] {
            let Some(image::Error::Format { source: format::Error::Malformed(wrong), .. }) = error else {
                panic!("{what}: {door} says {error:?}")
            };
            let Malformed { field: named, found: value, rule: broken, .. } = wrong;
            assert_eq!((*named, *value, *broken), (field, found, rule), "{what}: {door}");
        }
        self.no_pool_takes_it(what);
    }

    pub(crate) fn no_pool_takes_it(&self, what: &str) {
        assert!(self.adopted.is_err(), "{what}: it was adopted");
        assert!(self.imported.is_err(), "{what}: it was imported");
    }

    /// It may be looked at; nobody writes it, and no pool takes it.
    pub(crate) fn only_looked_at(&self, what: &str) -> &CheckReport {
        let Err(image::Error::Unsound { report, .. }) = &self.checked else {
            panic!("{what}: {:?}", self.checked)
        };
        self.no_pool_takes_it(what);
        report
    }

    /// Every door takes it, and a guest reads what was written.
    pub(crate) fn all_take_it(&self, what: &str) {
        let Some(Ok(read)) = &self.read else { panic!("{what}: {:?} {:?}", self.opened, self.read) };
        assert!(read[..8192].iter().all(|byte| *byte == 1), "{what}: other bytes");
        assert!(self.checked.is_ok() && self.adopted.is_ok() && self.imported.is_ok(), "{what}: {self:?}");
    }
}
