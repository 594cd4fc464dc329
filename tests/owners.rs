//! One pool has one owner, and an owner whose lock was lost is told at its next change instead of making it.

#[path = "support/dice.rs"]
mod dice;

use dice::Dice;
use snapgroup::storage::{
    Access, Blob, BlobName, Bounds, FileSystem, MemoryStore, Operation, Owned, SimulatedDisk, SimulatedStore,
    Store,
};
use snapgroup::units::HostOffset;
use snapgroup::{
    ByteCount, CreateGroup, CreateMachine, CreatePool, CreateSnapshot, CreateVolume, DeleteGroup, Direction,
    Engine, Error, Kind, Options, ReclaimOptions, RepairOptions, RevertGroup, RevertVolume, SealOptions,
    UpdateGroup, Uuid, Volume,
};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

type Outcome = Result<(), Box<dyn std::error::Error>>;
type Made<T> = Result<T, Box<dyn std::error::Error>>;

/// A store whose lock is another one: what is done instead of taking it.
struct Relocked<S>(S, fn(&S) -> snapgroup::storage::Result<Box<dyn Owned>>);

impl<S: Debug> Debug for Relocked<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Debug)]
struct Nobody;

impl Owned for Nobody {}

impl<S: Store> Store for Relocked<S> {
    fn create(&self, name: &BlobName) -> snapgroup::storage::Result<Arc<dyn Blob>> {
        self.0.create(name)
    }

    fn open(&self, name: &BlobName, access: Access) -> snapgroup::storage::Result<Arc<dyn Blob>> {
        self.0.open(name, access)
    }

    fn remove(&self, name: &BlobName) -> snapgroup::storage::Result<()> {
        self.0.remove(name)
    }

    fn list(&self) -> snapgroup::storage::Result<Vec<BlobName>> {
        self.0.list()
    }

    fn sync_names(&self) -> snapgroup::storage::Result<()> {
        self.0.sync_names()
    }

    fn lock(&self) -> snapgroup::storage::Result<Box<dyn Owned>> {
        (self.1)(&self.0)
    }

    fn location(&self, name: &BlobName) -> String {
        self.0.location(name)
    }
}

/// A store whose lock keeps nobody out, as on a file system that knows locks of one host only.
fn shared<S: Store>(store: S) -> Relocked<S> {
    Relocked(store, |_| Ok(Box::new(Nobody)))
}

/// A store that loses its catalogue to somebody else just before it is locked.
fn lost_meanwhile(store: MemoryStore) -> Relocked<MemoryStore> {
    Relocked(store, |store| {
        store.remove(&BlobName::parse("snapgroup.redb").expect("a name"))?;
        store.lock()
    })
}

#[test]
fn what_is_no_pool_any_more_when_its_lock_is_taken_is_not_made_one() -> Outcome {
    for create in [CreatePool::Never, CreatePool::IfEmpty] {
        let store = MemoryStore::new();
        let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
        engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?;
        engine.close()?;
        let before = store.list()?.len();
        let options = Options { create, ..Options::default() };
        match (create, Engine::open_on(Arc::new(lost_meanwhile(store.clone())), options)) {
            (CreatePool::Never, Err(Error::NoPool { .. }))
            | (CreatePool::IfEmpty, Err(Error::NotAPool { .. })) => {}
            (_, opened) => panic!("{opened:?}"),
        }
        assert_eq!(store.list()?.len(), before - 1, "something was made");
    }
    Ok(())
}

fn owner_of(store: &MemoryStore) -> snapgroup::Result<Engine> {
    Engine::open_on(Arc::new(shared(store.clone())), Options::default())
}

/// Every file, byte for byte.
fn files(store: &MemoryStore) -> Made<BTreeMap<BlobName, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for name in store.list()? {
        let blob = store.open(&name, Access::Read)?;
        let mut bytes = vec![0; blob.length()?.as_usize()];
        blob.read_at(HostOffset::ZERO, &mut bytes)?;
        files.insert(name, bytes);
    }
    Ok(files)
}

/// A machine with a disk and a group, and a write since.
struct World {
    machine: Uuid,
    volume: Uuid,
    group: Uuid,
    snapshot: Uuid,
}

fn world(engine: &Engine) -> Made<World> {
    let machine = engine.create_machine(&CreateMachine::new("machine"))?.uuid;
    let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(8)))?.uuid;
    engine.attach_volume(volume, machine, None)?;
    let disk = engine.open_volume(volume)?;
    disk.write_at(0, b"version 1")?;
    let group = engine.create_group(&CreateGroup::of_machine(machine, "group"))?.inventory;
    disk.write_at(0, b"version 2")?;
    disk.flush()?;
    let snapshot = group.volume_snapshot_refs[0].volume_snapshot_uuid;
    Ok(World { machine, volume, group: group.uuid, snapshot })
}

/// Refused because another owner has the pool, and not by chance.
fn assert_not_owner<T: std::fmt::Debug>(answer: snapgroup::Result<T>, epoch: u64, what: &str) {
    match answer {
        Err(error @ Error::NotOwner { .. }) => {
            assert_eq!(error.kind(), Kind::Failed);
            let Error::NotOwner { epoch: found } = error else { unreachable!("it was looked at") };
            assert_eq!(found.as_u64(), epoch, "{what}");
        }
        other => panic!("{what} by a stale owner: {other:?}"),
    }
}

/// What an owner can do to change a pool.
type Change = fn(&Engine, &World) -> snapgroup::Result<()>;

const CHANGES: [(&str, Change); 12] = [
    ("a machine", |engine, _| engine.create_machine(&CreateMachine::new("m")).map(drop)),
    ("a volume", |engine, _| engine.create_volume(&CreateVolume::new("v", ByteCount::mib(1))).map(drop)),
    ("a snapshot", |engine, world| engine.create_snapshot(&CreateSnapshot::new(world.volume, "s")).map(drop)),
    ("a full snapshot", |engine, world| {
        engine.create_snapshot(&CreateSnapshot::new(world.volume, "s").in_full()).map(drop)
    }),
    ("a group", |engine, world| engine.create_group(&CreateGroup::of_machine(world.machine, "g")).map(drop)),
    ("a new name", |engine, world| {
        let update = UpdateGroup { name: Some("other".to_owned()), ..UpdateGroup::default() };
        engine.update_group(world.group, &update).map(drop)
    }),
    ("a deletion", |engine, world| engine.delete_group(&DeleteGroup::new(world.group)).map(drop)),
    ("an ungrouping", |engine, world| engine.ungroup(world.group)),
    ("a revert", |engine, world| engine.revert_volume(&RevertVolume::to(world.snapshot)).map(drop)),
    ("a revert of a group", |engine, world| {
        engine.revert_group(&RevertGroup::new(world.group).keeping()).map(drop)
    }),
    ("a hold", |engine, world| engine.hold(world.snapshot, "audit").map(drop)),
    ("a seal", |engine, _| engine.seal(&SealOptions::default())?.finish().map(drop)),
];

#[test]
fn whatever_a_stale_owner_changes_is_refused_and_not_a_byte_is_written() -> Outcome {
    for (what, change) in CHANGES {
        let store = MemoryStore::new();
        let stale = owner_of(&store)?;
        let world = world(&stale)?;
        let owner = owner_of(&store)?;
        let before = files(&store)?;
        // What a seal cannot do to a layer is a line of its answer, and no error.
        match change(&stale, &world) {
            Ok(()) if what == "a seal" => {}
            answer => assert_not_owner(answer, stale.epoch().as_u64(), what),
        }
        assert!(files(&store)? == before, "{what} by a stale owner has changed a file");
        // Poisoned: it does not even look any more.
        assert_not_owner(stale.create_machine(&CreateMachine::new("later")), stale.epoch().as_u64(), what);
        assert_not_owner(stale.close(), 1, what);
        assert!(files(&store)? == before, "a stale owner has changed a file in its end");
        change(&owner, &world)?;
        assert!(owner.check()?.is_clean(), "{what}");
    }
    Ok(())
}

#[test]
fn a_repair_by_a_stale_owner_takes_nothing_from_the_one_who_has_the_pool() -> Outcome {
    for is_damaged in [false, true] {
        let store = MemoryStore::new();
        let stale = owner_of(&store)?;
        let world = world(&stale)?;
        let frozen = BlobName::parse(&stale.chain(world.volume)?[1].file)?;
        let owner = owner_of(&store)?;
        // Files that the other one knows nothing of, and of which one was not written to yet.
        owner.create_snapshot(&CreateSnapshot::new(world.volume, "second"))?;
        if is_damaged {
            // The refcount of a cluster that nothing uses, in the block behind header and refcount table.
            store.open(&frozen, Access::Write)?.write_at(HostOffset::new((2 << 16) + 400), &[0, 1])?;
        }
        let before = files(&store)?;
        assert_not_owner(stale.repair(&RepairOptions::perform()), 1, "a repair");
        assert!(files(&store)? == before, "a stale owner has changed a file");
        assert!(owner.repair(&RepairOptions::perform())?.is_whole());
        assert!(owner.check()?.is_clean());
    }
    Ok(())
}

#[test]
fn guest_data_of_a_stale_owner_is_refused_from_the_first_flush_on() -> Outcome {
    let store = MemoryStore::new();
    let stale = owner_of(&store)?;
    let world = world(&stale)?;
    let disk: Volume = stale.open_volume(world.volume)?;
    let owner = owner_of(&store)?;
    let before = files(&store)?;
    assert_not_owner(disk.flush(), 1, "a flush");
    assert_not_owner(disk.write_at(0, b"version 3"), 1, "a write");
    assert_not_owner(disk.discard(0, 65_536), 1, "a discard");
    assert!(files(&store)? == before, "a stale owner has changed a file");
    let mut seen = [0; 9];
    disk.read_at(0, &mut seen)?;
    assert_eq!(&seen, b"version 2", "reading goes on");
    drop((disk, stale));
    assert!(files(&store)? == before, "a stale owner has changed a file in its end");
    owner.open_volume(world.volume)?.write_at(0, b"version 4")?;
    Ok(owner.close()?)
}

#[test]
fn work_in_steps_ends_at_the_first_step_after_the_pool_has_gone() -> Outcome {
    let store = MemoryStore::new();
    let stale = owner_of(&store)?;
    let world = world(&stale)?;
    stale.create_snapshot(&CreateSnapshot::new(world.volume, "second"))?;
    let later = DeleteGroup { reclaim: snapgroup::When::Later, ..DeleteGroup::new(world.group) };
    assert!(stale.delete_group(&later)?.is_success());
    let mut reclaim = stale.reclaim(&ReclaimOptions::towards(Direction::Pull))?;
    let owner = owner_of(&store)?;
    let before = files(&store)?;
    assert_not_owner(stale.create_machine(&CreateMachine::new("m")), 1, "a machine");
    assert_not_owner(reclaim.step(ByteCount::mib(1)), 1, "a step");
    assert!(files(&store)? == before, "a stale owner has changed a file");
    assert_eq!(owner.owed()?.len(), 1);
    Ok(())
}

#[test]
fn of_many_owners_the_last_one_to_open_the_pool_has_it() -> Outcome {
    const SEED: u64 = 7;
    println!("seed {SEED}");
    let mut dice = Dice::of(SEED);
    let store = MemoryStore::new();
    let mut owners = vec![owner_of(&store)?];
    let mut made = 0;
    for _ in 0..300 {
        if dice.roll(6) == 0 {
            owners.push(owner_of(&store)?);
        }
        let chosen = if dice.roll(2) == 0 { owners.len() - 1 } else { dice.roll(owners.len()) };
        let answer = owners[chosen].create_machine(&CreateMachine::new("machine"));
        if chosen + 1 == owners.len() {
            answer?;
            made += 1;
        } else {
            assert_not_owner(answer, chosen as u64 + 1, "a machine");
        }
    }
    assert!(made > 30 && owners.len() > 20, "{made} machines of {} owners", owners.len());
    while let Some(owner) = owners.pop() {
        drop(owner);
    }
    let owner = owner_of(&store)?;
    assert_eq!(owner.query_machines(&snapgroup::query::Query::all())?.total, made);
    assert!(owner.check()?.is_clean());
    Ok(())
}

#[test]
fn a_change_looks_before_it_and_costs_no_write_or_sync_for_it() -> Outcome {
    let store = SimulatedStore::new(Arc::new(MemoryStore::new()));
    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    engine.create_machine(&CreateMachine::new("first"))?;
    store.record();
    engine.create_machine(&CreateMachine::new("second"))?;
    let calls = store.take_calls();
    let looks = calls.iter().filter(|call| {
        let is_catalogue = call.name.as_ref().is_some_and(|name| name.as_str() == "snapgroup.redb");
        is_catalogue && call.operation == Operation::Read && call.at == HostOffset::ZERO
    });
    let looks: Vec<ByteCount> = looks.map(|call| call.length).collect();
    assert!(!looks.is_empty() && looks.iter().all(|length| *length == ByteCount::new(512)), "{looks:?}");
    assert_eq!(calls.iter().filter(|call| call.operation == Operation::Sync).count(), 1);
    Ok(())
}

#[test]
fn an_epoch_that_was_acknowledged_outlives_a_power_cut_and_none_is_had_twice() -> Outcome {
    const BOUNDS: Bounds = Bounds { exhaustive_bits: 3, pairs_max: 0, samples: 4, seed: 1 };
    let store = MemoryStore::new();
    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    world(&engine)?;
    for is_closed in [false, true] {
        // As a crash leaves it, and as a clean end does.
        let store = store.fork();
        if is_closed {
            Engine::open_on(Arc::new(store.clone()), Options::default())?.close()?;
        }
        let last = Engine::open_on(Arc::new(store.fork()), Options::default())?.epoch().as_u64() - 1;
        for file_system in [FileSystem::Strict, FileSystem::Ext4Like] {
            let disk = SimulatedDisk::over(&store, file_system);
            let engine = Engine::open_on(Arc::new(disk.clone()), Options::default())?;
            assert_eq!(engine.epoch().as_u64(), last + 1);
            let log = disk.log();
            let mut states = 0;
            let cuts: Vec<_> = log.cuts(0).collect();
            let returned = cuts.len() - 1;
            for (instant, (_, cut)) in cuts.iter().enumerate() {
                for state in cut.states(BOUNDS).take(24) {
                    let next = Engine::open_on(Arc::new(state.store()), Options::default())?;
                    let said = format!("{is_closed} {file_system:?} {instant} {:?}", state.choice());
                    assert!(next.check()?.is_clean(), "{said}");
                    let least = if instant == returned { last + 2 } else { last + 1 };
                    let epoch = next.epoch().as_u64();
                    assert!((least..=last + 2).contains(&epoch), "{said}: epoch {epoch}");
                    states += 1;
                }
            }
            assert!(states > 50, "{states} states are few");
        }
    }
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn an_owner_whose_lock_file_was_removed_is_told_by_the_catalogue_on_disk() -> Outcome {
    let directory = tempfile::TempDir::new()?;
    let stale = Engine::open(directory.path(), Options::default())?;
    let machine = stale.create_machine(&CreateMachine::new("machine"))?.uuid;
    let Err(Error::Storage(snapgroup::storage::Error::Locked { .. })) =
        Engine::open(directory.path(), Options::default())
    else {
        panic!("two owners have the pool");
    };
    std::fs::remove_file(directory.path().join("snapgroup.lock"))?;
    let owner = Engine::open(directory.path(), Options::default())?;
    assert_eq!(owner.epoch().as_u64(), stale.epoch().as_u64() + 1);
    assert_not_owner(stale.delete_machine(machine), stale.epoch().as_u64(), "a deletion");
    drop(stale);
    owner.create_machine(&CreateMachine::new("another"))?;
    owner.close()?;
    let owner = Engine::open(directory.path(), Options::default())?;
    assert_eq!(owner.query_machines(&snapgroup::query::Query::all())?.total, 2);
    assert!(owner.check()?.is_clean());
    Ok(())
}

/// Two mounts of one directory are what two hosts have: each with locks and a cache of its own, unless the file system sees
/// to it that they are one.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs two mounts of one directory, SNAPGROUP_MOUNTS=DIR:DIR"]
#[expect(clippy::print_stdout, reason = "whoever tries a file system wants to know which of the two it was")]
fn of_two_owners_on_two_mounts_one_is_refused_or_told() -> Outcome {
    let mounts = std::env::var("SNAPGROUP_MOUNTS")?;
    let (one, other) = mounts.split_once(':').ok_or("DIR:DIR")?;
    let pool = |mount: &str| Engine::open(std::path::Path::new(mount).join("pool"), Options::default());
    let first = pool(one)?;
    let world = world(&first)?;
    let next = match pool(other) {
        Err(Error::Storage(snapgroup::storage::Error::Locked { .. })) => {
            println!("the pool's lock is one for both mounts");
            first.close()?;
            pool(other)?
        }
        next => {
            println!("each mount has locks of its own: the epoch tells");
            let next = next?;
            assert!(next.epoch() > first.epoch());
            assert_not_owner(first.delete_machine(world.machine), first.epoch().as_u64(), "a deletion");
            assert_not_owner(first.machine(world.machine), first.epoch().as_u64(), "a query");
            let epoch = first.epoch().as_u64();
            assert_not_owner(first.close(), epoch, "the end");
            next
        }
    };
    // Whoever has it now has all of it.
    assert_eq!(next.query_groups(&snapgroup::query::Query::all())?.total, 1);
    let mut shown = [0; 9];
    next.open_volume(world.volume)?.read_at(0, &mut shown)?;
    assert_eq!(&shown, b"version 2");
    next.create_machine(&CreateMachine::new("another"))?;
    assert!(next.check()?.is_clean());
    Ok(next.close()?)
}
