//! A machine with disks in a pool in memory whose store can fail, and the deletions with the platform's defaults.

use snapgroup::inventory::{DeleteResult, GroupInventory, SnapshotInventory, TreeInventory};
use snapgroup::query::Query;
use snapgroup::storage::{At, Fault, FaultKind, MemoryStore, Operation, SimulatedStore, Store};
use snapgroup::{
    ByteCount, CreateGroup, CreateMachine, CreateSnapshot, CreateVolume, DeleteGroup, DeleteSnapshots,
    Deleted, Engine, Options, Uuid,
};
use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;

pub(crate) type Outcome = Result<(), Box<dyn Error>>;
pub(crate) type Made<T> = Result<T, Box<dyn Error>>;

const SIZE: ByteCount = ByteCount::kib(512);

/// A machine, its disks (the root first), and the pool that they are in.
pub(crate) struct Site {
    store: SimulatedStore,
    pub(crate) engine: Engine,
    pub(crate) vm: Uuid,
    pub(crate) disks: Vec<Uuid>,
}

impl Site {
    pub(crate) fn new(disks: usize) -> Made<Self> {
        Self::with(disks, |_| {})
    }

    pub(crate) fn with(disks: usize, change: impl FnOnce(&mut Options)) -> Made<Self> {
        let store = SimulatedStore::new(Arc::new(MemoryStore::new()));
        let mut options = Options { cluster_bits: 12, chain_max: 200, ..Options::default() };
        change(&mut options);
        let engine = Engine::open_on(Arc::new(store.clone()), options)?;
        let vm = engine.create_machine(&CreateMachine::new("vm"))?.uuid;
        let mut site = Self { store, engine, vm, disks: Vec::new() };
        for index in 0..disks {
            let wish = match index {
                0 => CreateVolume::new("root", SIZE).as_root(),
                _ => CreateVolume::new(format!("data-{index}"), SIZE),
            };
            let disk = site.attached(&wish)?;
            site.disks.push(disk);
        }
        Ok(site)
    }

    /// A volume that is attached to the machine.
    pub(crate) fn attached(&self, wish: &CreateVolume) -> Made<Uuid> {
        let disk = self.engine.create_volume(wish)?.uuid;
        self.engine.attach_volume(disk, self.vm, None)?;
        Ok(disk)
    }

    pub(crate) fn root(&self) -> Uuid {
        self.disks[0]
    }

    /// Lets one call of one kind fail: the one at this place from now on, the first being 1.
    pub(crate) fn fail_next(&self, operation: Operation, place: u64) {
        self.store.fail(Fault::once(At::CallOf(operation, place), FaultKind::EIO));
    }

    /// The names of all files.
    pub(crate) fn files(&self) -> Made<BTreeSet<String>> {
        Ok(self.store.list()?.iter().map(ToString::to_string).collect())
    }

    pub(crate) fn remove_file(&self, path: &str) -> Outcome {
        let name = path.rsplit(['/', ':']).next().unwrap_or(path);
        Ok(self.store.remove(&snapgroup::storage::BlobName::parse(name)?)?)
    }

    pub(crate) fn write(&self, disk: Uuid, byte: u8) -> Outcome {
        Ok(self.engine.open_volume(disk)?.write_at(1000, &[byte; 20_000])?)
    }

    /// The byte that was written last, and that nothing else of it is there.
    pub(crate) fn read(&self, disk: Uuid) -> Made<u8> {
        let mut bytes = vec![0; 20_000];
        self.engine.open_volume(disk)?.read_at(1000, &mut bytes)?;
        Ok(one(&bytes))
    }

    pub(crate) fn read_snapshot(&self, snapshot: Uuid) -> Made<u8> {
        let mut bytes = vec![0; 20_000];
        self.engine.open_snapshot(snapshot)?.read_at(1000, &mut bytes)?;
        Ok(one(&bytes))
    }

    /// Snapshots of a disk, each after a write of its own: the first holds `from`, the next `from + 1` …
    pub(crate) fn snapshots(&self, disk: Uuid, from: u8, count: u8) -> Made<Vec<SnapshotInventory>> {
        let mut taken = Vec::new();
        for byte in from..from + count {
            self.write(disk, byte)?;
            taken.push(self.snapshot(disk, &format!("s{byte}"))?);
        }
        Ok(taken)
    }

    pub(crate) fn snapshot(&self, disk: Uuid, name: &str) -> Made<SnapshotInventory> {
        Ok(self.engine.create_snapshot(&CreateSnapshot::new(disk, name))?)
    }

    /// A group of all disks, after a write to each.
    pub(crate) fn group(&self, name: &str, byte: u8) -> Made<GroupInventory> {
        for disk in &self.disks {
            self.write(*disk, byte)?;
        }
        Ok(self.engine.create_group(&CreateGroup::of_root_volume(self.root(), name))?.inventory)
    }

    /// Deletes as the platform does: with everything that descends from each.
    pub(crate) fn delete(&self, snapshots: &[Uuid]) -> Made<Deleted> {
        Ok(self.engine.delete_snapshots(&DeleteSnapshots::as_the_api_does(snapshots.iter().copied()))?)
    }

    pub(crate) fn delete_group(&self, group: Uuid) -> Made<Deleted> {
        Ok(self.engine.delete_group(&DeleteGroup::as_the_api_does(group))?)
    }

    pub(crate) fn count(&self) -> Made<usize> {
        Ok(self.engine.query_snapshots(&Query::default())?.total)
    }

    pub(crate) fn trees(&self) -> Made<Vec<TreeInventory>> {
        Ok(self.engine.query_trees(&Query::default())?.items)
    }

    /// The snapshots that are latest in their tree.
    pub(crate) fn latest(&self) -> Made<Vec<Uuid>> {
        let all = self.engine.query_snapshots(&Query::default())?.items;
        Ok(all.into_iter().filter(|snapshot| snapshot.latest).map(|snapshot| snapshot.uuid).collect())
    }

    pub(crate) fn is_there(&self, snapshot: Uuid) -> bool {
        self.engine.snapshot(snapshot).is_ok()
    }

    /// The end of each test: nothing at all is wrong, and nothing is owed.
    pub(crate) fn assert_sound(&self) -> Outcome {
        let check = self.engine.check()?;
        assert!(check.is_clean(), "{check:#?}");
        assert_eq!(self.engine.owed()?, []);
        Ok(())
    }
}

fn one(bytes: &[u8]) -> u8 {
    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "what was written at once is not there as a whole");
    bytes[0]
}

pub(crate) fn uuids(snapshots: &[SnapshotInventory]) -> Vec<Uuid> {
    snapshots.iter().map(|snapshot| snapshot.uuid).collect()
}

/// The snapshots of a group, by device id.
pub(crate) fn members(group: &GroupInventory) -> Vec<Uuid> {
    group.volume_snapshot_refs.iter().map(|member| member.volume_snapshot_uuid).collect()
}

/// The code of a line, and that of what led to it.
pub(crate) fn codes(line: &DeleteResult) -> (&str, &str) {
    line.error.as_ref().map_or(("", ""), |error| (error.code.as_str(), error.root().code.as_str()))
}

/// The code of a call that must fail.
pub(crate) fn code<T: std::fmt::Debug>(answer: snapgroup::Result<T>) -> &'static str {
    match answer {
        Err(error) => error.code().as_str(),
        Ok(answer) => panic!("it was not refused: {answer:?}"),
    }
}
