//! Pools of each kind, machines with disks, and pictures of what is on disk.

use snapgroup::inventory::GroupInventory;
use snapgroup::storage::{
    Access, BlobName, DiskOptions, DiskStore, FileSystem, MemoryStore, SimulatedDisk, SimulatedStore, Store,
};
use snapgroup::units::HostOffset;
use snapgroup::{
    ByteCount, Clock, CreateGroup, CreateMachine, CreatePool, CreateVolume, CreatedGroup, Engine, Error,
    GroupOf, Ids, Kind, Options, Uuid, Volume, VolumeKind, watch_order,
};
use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tempfile::TempDir;

/// What a test ends with.
pub(crate) type Outcome = Result<(), Box<dyn StdError>>;

/// What fails with any error.
pub(crate) type Made<T> = Result<T, Box<dyn StdError>>;

/// The catalogue of a pool.
const CATALOGUE: &str = "snapgroup.redb";

/// The moment of the first reading of the clock in a pool made here.
pub(crate) const START: i64 = 1_500_000_000_000;

/// Makes each test a test on each kind of store.
macro_rules! on_every_store {
    ($($test:ident)*) => {
        crate::support::on_memory_and_disk! { $($test)* }
        mod simulated {
            $(#[test] fn $test() -> crate::support::Outcome { super::$test(&crate::support::Home::simulated()) })*
        }
    };
}
pub(crate) use on_every_store;

/// The same for what takes long: the simulated store is the one in memory with a counter before it.
macro_rules! on_memory_and_disk {
    ($($test:ident)*) => {
        mod memory {
            $(#[test] fn $test() -> crate::support::Outcome { super::$test(&crate::support::Home::memory()) })*
        }
        mod disk {
            $(#[test] fn $test() -> crate::support::Outcome { super::$test(&crate::support::Home::disk()?) })*
        }
    };
}
pub(crate) use on_memory_and_disk;

/// Where a pool lives, across openings. On a simulated disk the order of everything that the pool has written is looked
/// through in the end.
#[derive(Debug)]
pub(crate) struct Home {
    place: Place,
    seed: AtomicU64,
    /// Whether somebody else has written to the files.
    is_touched: AtomicBool,
}

#[derive(Debug)]
enum Place {
    Memory(MemoryStore),
    Disk(TempDir),
    Simulated(SimulatedStore, SimulatedDisk),
}

impl Place {
    fn simulated(over: &MemoryStore) -> Self {
        let disk = SimulatedDisk::over(over, FileSystem::Strict);
        Self::Simulated(SimulatedStore::on_disk(&disk), disk)
    }
}

impl Home {
    fn new(place: Place) -> Self {
        Self { place, seed: AtomicU64::new(1), is_touched: AtomicBool::new(false) }
    }

    pub(crate) fn memory() -> Self {
        Self::new(Place::Memory(MemoryStore::new()))
    }

    pub(crate) fn disk() -> Made<Self> {
        Ok(Self::new(Place::Disk(TempDir::new()?)))
    }

    pub(crate) fn simulated() -> Self {
        Self::new(Place::simulated(&MemoryStore::new()))
    }

    /// A store in memory that counts what is asked of it. A copy from blob to blob is one call, as it is on disk.
    pub(crate) fn counted() -> Self {
        let store = SimulatedStore::new(Arc::new(MemoryStore::new()));
        Self::new(Place::Simulated(store, SimulatedDisk::new(FileSystem::Strict)))
    }

    /// A copy of a store in memory as it is now, with the same seeds to come.
    pub(crate) fn fork(&self) -> Self {
        let below = match &self.place {
            Place::Memory(store) => store.fork(),
            Place::Simulated(_, disk) => disk.live(),
            Place::Disk(_) => panic!("a directory is not forked here"),
        };
        let seed = AtomicU64::new(self.seed.load(Ordering::Relaxed));
        Self { place: Place::simulated(&below), seed, is_touched: AtomicBool::new(false) }
    }

    /// Whether it can be forked.
    pub(crate) fn is_in_memory(&self) -> bool {
        !matches!(self.place, Place::Disk(_))
    }

    /// The store that fails on request. What is written around calls that fail, the crash suite looks through.
    pub(crate) fn faulty(&self) -> &SimulatedStore {
        self.is_touched.store(true, Ordering::Relaxed);
        match &self.place {
            Place::Simulated(store, _) => store,
            other => panic!("{other:?} does not fail on request"),
        }
    }

    /// The directory.
    pub(crate) fn path(&self) -> &std::path::Path {
        match &self.place {
            Place::Disk(directory) => directory.path(),
            other => panic!("{other:?} is no directory"),
        }
    }

    /// The store as the engine sees it.
    pub(crate) fn store(&self) -> Made<Arc<dyn Store>> {
        Ok(match &self.place {
            Place::Memory(store) => Arc::new(store.clone()),
            // Fewer files than a chain has layers: they are closed and opened all the time.
            Place::Disk(directory) => {
                let options = DiskOptions::new().with_descriptors_max(2);
                Arc::new(DiskStore::open_with(directory.path(), options)?)
            }
            Place::Simulated(store, _) => Arc::new(store.clone()),
        })
    }

    /// The store below any faults.
    fn below(&self) -> Made<Arc<dyn Store>> {
        match &self.place {
            Place::Simulated(_, below) => Ok(Arc::new(below.clone())),
            _ => self.store(),
        }
    }

    /// The store as somebody else sees it, who is going to write to it: up to here the pool has kept the order.
    pub(crate) fn touch(&self) -> Made<Arc<dyn Store>> {
        self.watch();
        self.is_touched.store(true, Ordering::Relaxed);
        self.below()
    }

    /// Sees that the pool has done nothing before it might.
    fn watch(&self) {
        if let (Place::Simulated(_, disk), false) = (&self.place, self.is_touched.load(Ordering::Relaxed)) {
            assert_eq!(watch_order(&disk.log()), [], "done before it might be");
        }
    }

    /// Options with a clock that steps, and uuids that no earlier opening of this home gave out.
    pub(crate) fn options(&self) -> Options {
        let seed = self.seed.fetch_add(1, Ordering::Relaxed);
        Options { clock: Clock::Stepping(START), ids: Ids::Seeded(seed), ..Options::default() }
    }

    /// Opens the pool, or makes it.
    pub(crate) fn open(&self) -> Made<Engine> {
        Ok(self.open_with(|_| {})?)
    }

    /// Opens the pool with other options.
    pub(crate) fn open_with(&self, change: impl FnOnce(&mut Options)) -> Result<Engine, Error> {
        let mut options = self.options();
        options.create = CreatePool::Here;
        change(&mut options);
        let store = self.store().map_err(|error| panic!("the place of the pool: {error}"));
        Engine::open_on(store.expect("checked"), options)
    }

    /// Every file but the catalogue, with its bytes.
    pub(crate) fn picture(&self) -> Made<BTreeMap<String, Vec<u8>>> {
        let store = self.below()?;
        let mut picture = BTreeMap::new();
        for name in store.list()? {
            let mut bytes = Vec::new();
            if name.as_str() != CATALOGUE {
                let blob = store.open(&name, Access::Read)?;
                bytes.resize(blob.length()?.as_usize(), 0);
                blob.read_at(HostOffset::ZERO, &mut bytes)?;
            }
            picture.insert(name.to_string(), bytes);
        }
        Ok(picture)
    }

    /// Puts a file beside the pool's, in the place of one that may be there.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) -> Outcome {
        let store = self.touch()?;
        let name = BlobName::parse(name)?;
        if store.list()?.contains(&name) {
            store.remove(&name)?;
        }
        let blob = store.create(&name)?;
        blob.write_at(HostOffset::ZERO, bytes)?;
        Ok(())
    }

    /// Changes bytes of a file where it lies.
    pub(crate) fn patch(&self, name: &str, at: u64, bytes: &[u8]) -> Outcome {
        let blob = self.touch()?.open(&BlobName::parse(name)?, Access::Write)?;
        blob.write_at(HostOffset::new(at), bytes)?;
        Ok(())
    }

    /// Cuts a file short.
    pub(crate) fn cut(&self, name: &str, length: u64) -> Outcome {
        let blob = self.touch()?.open(&BlobName::parse(name)?, Access::Write)?;
        blob.set_length(ByteCount::new(length))?;
        Ok(())
    }

    /// The bytes of a file.
    pub(crate) fn bytes(&self, name: &str) -> Made<Vec<u8>> {
        self.picture()?.remove(name).ok_or_else(|| format!("{name} is not there").into())
    }

    pub(crate) fn remove(&self, name: &str) -> Outcome {
        Ok(self.touch()?.remove(&BlobName::parse(name)?)?)
    }

    /// Makes a call that must fail, and sees that nothing has changed, in the books or in any file.
    pub(crate) fn refusal<T: std::fmt::Debug>(
        &self,
        engine: &Engine,
        call: impl FnOnce() -> Result<T, Error>,
    ) -> Made<Error> {
        let before = (self.picture()?, engine.generation());
        let answer = call();
        let Err(error) = answer else { panic!("it was not refused: {answer:?}") };
        let after = (self.picture()?, engine.generation());
        assert_eq!(after.1, before.1, "the books have moved on in spite of: {error}");
        let names = |picture: &BTreeMap<String, Vec<u8>>| picture.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&after.0), names(&before.0), "other files in spite of: {error}");
        for (name, bytes) in &before.0 {
            assert!(after.0[name] == *bytes, "{name} has changed in spite of: {error}");
        }
        Ok(error)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.watch();
        }
    }
}

/// The last component of a path.
pub(crate) fn file_of(path: &str) -> String {
    path.rsplit(['/', ':']).next().unwrap_or(path).to_owned()
}

/// Code, kind and text of an error, to be compared at once.
pub(crate) fn told(error: &Error) -> (&'static str, Kind, String) {
    (error.code().as_str(), error.kind(), error.to_string())
}

/// A machine and its disks, the root first.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) uuid: Uuid,
    pub(crate) disks: Vec<Uuid>,
}

impl Machine {
    pub(crate) fn root(&self) -> Uuid {
        self.disks[0]
    }

    /// A group of all its disks.
    pub(crate) fn group(&self, name: &str) -> CreateGroup {
        CreateGroup::new(GroupOf::RootVolume(self.root().into()), name)
    }
}

/// A size that keeps tests quick.
pub(crate) const SIZE: ByteCount = ByteCount::mib(1);

/// A volume of a mebibyte.
pub(crate) fn volume(name: &str, kind: VolumeKind) -> CreateVolume {
    CreateVolume {
        name: name.to_owned(),
        kind,
        size: Some(SIZE),
        cluster_bits: Some(12),
        ..CreateVolume::default()
    }
}

pub(crate) fn machine(name: &str) -> CreateMachine {
    CreateMachine { name: name.to_owned(), ..CreateMachine::default() }
}

/// Makes a machine with a root volume `root` and data volumes `data-1`, `data-2` …
pub(crate) fn make_machine(engine: &Engine, disks: usize) -> Made<Machine> {
    let uuid = engine.create_machine(&machine("vm"))?.uuid;
    let mut made = Machine { uuid, disks: Vec::new() };
    for index in 0..disks {
        let wish = match index {
            0 => volume("root", VolumeKind::Root),
            _ => volume(&format!("data-{index}"), VolumeKind::Data),
        };
        made.disks.push(make_disk(engine, uuid, &wish)?);
    }
    Ok(made)
}

/// Makes a volume and attaches it.
pub(crate) fn make_disk(engine: &Engine, machine: Uuid, wish: &CreateVolume) -> Made<Uuid> {
    let disk = engine.create_volume(wish)?.uuid;
    engine.attach_volume(disk, machine, None)?;
    Ok(disk)
}

/// Takes a group of all disks of a machine.
pub(crate) fn take(engine: &Engine, machine: &Machine, name: &str) -> Made<GroupInventory> {
    Ok(take_fully(engine, machine, name)?.inventory)
}

/// Takes a group of all disks of a machine, with all that the answer says.
pub(crate) fn take_fully(engine: &Engine, machine: &Machine, name: &str) -> Made<CreatedGroup> {
    Ok(engine.create_group(&machine.group(name))?)
}

/// Writes one byte over and over.
pub(crate) fn fill(disk: &Volume, at: u64, length: usize, byte: u8) -> Outcome {
    Ok(disk.write_at(at, &vec![byte; length])?)
}

/// Reads a range of an open volume.
pub(crate) fn read(disk: &Volume, at: u64, length: usize) -> Made<Vec<u8>> {
    let mut bytes = vec![0xee; length];
    disk.read_at(at, &mut bytes)?;
    Ok(bytes)
}

/// Reads a whole volume.
pub(crate) fn read_volume(engine: &Engine, volume: Uuid) -> Made<Vec<u8>> {
    let disk = engine.open_volume(volume)?;
    let size = disk.size().as_usize();
    read(&disk, 0, size)
}

/// Reads a whole snapshot.
pub(crate) fn read_snapshot(engine: &Engine, snapshot: Uuid) -> Made<Vec<u8>> {
    let content = engine.open_snapshot(snapshot)?;
    let mut bytes = vec![0xee; content.size().as_usize()];
    content.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// The file of a volume's head.
pub(crate) fn head_of(engine: &Engine, volume: Uuid) -> Made<String> {
    Ok(file_of(&engine.volume(volume)?.install_path))
}

/// Sees that nothing at all is wrong with a pool.
pub(crate) fn assert_sound(engine: &Engine) -> Outcome {
    let found = engine.check()?;
    assert!(found.is_clean(), "{found:#?}");
    Ok(())
}

/// A small generator: the same numbers for the same seed.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    pub(crate) fn byte(&mut self) -> u8 {
        u8::try_from(self.roll(255)).expect("below 255") + 1
    }
}
