//! A pool in memory or on disk, a machine of three disks, and the process that runs it.

use crate::vmm::Vmm;
use snapgroup::storage::{Access, DiskStore, MemoryStore, Store};
use snapgroup::units::HostOffset;
use snapgroup::{
    ByteCount, Consistency, CreateGroup, CreateMachine, CreatePool, CreateVolume, Engine, HookError,
    OpenPrepared, Options, Quiesce, Running, Uuid,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// The disks of the machine.
pub(crate) const DISKS: usize = 3;

/// Where a pool is.
#[derive(Debug)]
pub(crate) enum Place {
    Memory(MemoryStore),
    Disk(TempDir),
}

impl Place {
    pub(crate) fn both() -> Outcome<[Self; 2]> {
        Ok([Self::Memory(MemoryStore::new()), Self::Disk(TempDir::new()?)])
    }

    /// The store as one process sees it: on disk, locks stand between two of them.
    pub(crate) fn store(&self) -> Outcome<Arc<dyn Store>> {
        Ok(match self {
            Self::Memory(store) => Arc::new(store.clone()),
            Self::Disk(directory) => Arc::new(DiskStore::open(directory.path())?),
        })
    }

    pub(crate) fn open(&self, prepared: OpenPrepared) -> Outcome<Engine> {
        let options = Options { prepared, create: CreatePool::Here, cluster_bits: 12, ..Options::default() };
        Ok(Engine::open_on(self.store()?, options)?)
    }

    /// Every file but the catalogue, with its bytes.
    pub(crate) fn picture(&self) -> Outcome<BTreeMap<String, Vec<u8>>> {
        let store = self.store()?;
        let mut picture = BTreeMap::new();
        for name in store.list()?.into_iter().filter(|name| !name.as_str().starts_with("snapgroup")) {
            let blob = store.open(&name, Access::Read)?;
            let mut bytes = vec![0; blob.length()?.as_usize()];
            blob.read_at(HostOffset::ZERO, &mut bytes)?;
            picture.insert(name.to_string(), bytes);
        }
        Ok(picture)
    }
}

/// A pool, and a machine in it that another process runs.
#[derive(Debug)]
pub(crate) struct Site<'a> {
    pub(crate) place: &'a Place,
    pub(crate) engine: Engine,
    pub(crate) machine: Uuid,
    pub(crate) disks: Vec<Uuid>,
    pub(crate) vmm: Vmm,
}

impl<'a> Site<'a> {
    pub(crate) fn new(place: &'a Place) -> Outcome<Self> {
        let engine = place.open(OpenPrepared::Abort)?;
        let machine = engine.create_machine(&CreateMachine::new("vm"))?.uuid;
        let mut disks = Vec::new();
        for index in 0..DISKS {
            let wish = CreateVolume::new(format!("disk-{index}"), ByteCount::mib(1));
            let wish = if index == 0 { wish.as_root() } else { wish };
            let volume = engine.create_volume(&wish)?.uuid;
            engine.attach_volume(volume, machine, None)?;
            disks.push(volume);
        }
        engine.set_running(machine, Running::Elsewhere)?;
        let vmm = Vmm::start(&engine, place.store()?, machine)?;
        Ok(Self { place, engine, machine, disks, vmm })
    }

    pub(crate) fn group(&self, name: &str) -> CreateGroup {
        CreateGroup::of_machine(self.machine, name)
    }

    /// The number that each disk of a group holds.
    pub(crate) fn held_by(&self, group: Uuid) -> Outcome<Vec<u64>> {
        held_by(&self.engine, group)
    }

    /// The files that the books say the disks write to.
    pub(crate) fn heads(&self) -> Outcome<Vec<String>> {
        let mut heads = Vec::new();
        for disk in &self.disks {
            heads.push(self.engine.chain(*disk)?[0].file.clone());
        }
        Ok(heads)
    }

    /// Sees that the books and the process agree, and that nothing is wrong with the pool.
    pub(crate) fn assert_agreed(&self) -> Outcome {
        assert_eq!(self.heads()?, self.vmm.heads());
        self.assert_books_hold()
    }

    /// Sees that nothing is wrong with the catalogue, and that no file is nobody's.
    pub(crate) fn assert_books_hold(&self) -> Outcome {
        assert_eq!(self.engine.verify_catalogue()?, Vec::<String>::new());
        if let Place::Memory(_) = self.place {
            self.vmm.flush()?;
            let found = self.engine.check()?;
            assert!(found.is_clean(), "{found:#?}");
        }
        Ok(())
    }
}

pub(crate) fn held_by(engine: &Engine, group: Uuid) -> Outcome<Vec<u64>> {
    let mut numbers = Vec::new();
    for member in engine.group(group)?.volume_snapshot_refs {
        let mut bytes = [0; 8];
        engine.open_snapshot(member.volume_snapshot_uuid)?.read_at(0, &mut bytes)?;
        numbers.push(u64::from_be_bytes(bytes));
    }
    Ok(numbers)
}

/// A guest agent: what it answers, and how often it was asked.
#[derive(Debug, Default)]
pub(crate) struct Guest {
    pub(crate) answers: Option<Consistency>,
    pub(crate) thaws: Option<()>,
    pub(crate) freezes_asked: usize,
    pub(crate) thaws_asked: usize,
}

impl Guest {
    /// One that does as it is told.
    pub(crate) fn willing(answers: Consistency) -> Self {
        Self { answers: Some(answers), thaws: Some(()), ..Self::default() }
    }

    pub(crate) fn asked(&self) -> (usize, usize) {
        (self.freezes_asked, self.thaws_asked)
    }
}

impl Quiesce for Guest {
    fn freeze(&mut self, within: Duration) -> Result<Consistency, HookError> {
        assert!(!within.is_zero());
        self.freezes_asked += 1;
        self.answers.ok_or_else(|| "the guest is busy".into())
    }

    fn thaw(&mut self, _within: Duration) -> Result<(), HookError> {
        self.thaws_asked += 1;
        assert!(self.thaws_asked <= self.freezes_asked, "it is thawed once");
        self.thaws.ok_or_else(|| "it had thawed by itself".into())
    }
}
