//! A reclaim that is between two steps, and every other call: none is refused because of it, everything reads as a byte
//! model says after each, and the reclaim goes on to its end.

use crate::support::{Home, Made, Outcome, assert_sound, read_snapshot, read_volume};
use snapgroup::storage::{BlobName, MemoryStore, Store};
use snapgroup::{
    ByteCount, ChainCap, CreateGroup, CreateMachine, CreateSnapshot, CreateVolume, DeleteGroup, DeleteMode,
    DeleteScope, DeleteSnapshots, DeleteVolume, DiffOptions, Direction, Engine, Export, ReclaimOptions,
    RevertGroup, RevertVolume, SealOptions, Step, UpdateVolume, Uuid, VerifyDepth, VerifyOf, When,
};
use std::collections::BTreeMap;

const CLUSTER: usize = 512;
const SIZE: usize = 64 * CLUSTER;

/// What a pool must show.
#[derive(Clone)]
struct World {
    machine: Uuid,
    root: Uuid,
    clone: Uuid,
    group: Uuid,
    /// The snapshots of the root disk that are left, in order.
    line: Vec<Uuid>,
    taken: BTreeMap<Uuid, Vec<u8>>,
    disks: BTreeMap<Uuid, Vec<u8>>,
}

impl World {
    /// Two disks, the first with a line of five snapshots of which the second and the fourth were deleted, and a clone
    /// of the third. Nothing of their bytes was dealt with.
    fn make(engine: &Engine) -> Made<Self> {
        let machine = engine.create_machine(&CreateMachine::new("vm"))?.uuid;
        let mut made = Vec::new();
        for name in ["root", "data"] {
            let wish = CreateVolume::new(name, ByteCount::of(SIZE));
            let wish = if name == "root" { wish.as_root() } else { wish };
            let uuid = engine.create_volume(&CreateVolume { cluster_bits: Some(9), ..wish })?.uuid;
            engine.attach_volume(uuid, machine, None)?;
            made.push(uuid);
        }
        let (root, data) = (made[0], made[1]);
        let disks = [(root, vec![0; SIZE]), (data, vec![0; SIZE])].into();
        let (line, taken, clone, group) = (Vec::new(), BTreeMap::new(), root, root);
        let mut world = Self { machine, root, clone, group, line, taken, disks };
        for round in 0..5_u8 {
            let at = usize::from(round) * 4 * CLUSTER;
            world.write(engine, root, at, 20 * CLUSTER, round + 1)?;
            world.write(engine, data, at, CLUSTER + 7, round + 1)?;
            if round == 2 {
                let taken = engine.create_group(&CreateGroup::of_machine(machine, "g"))?.inventory;
                world.group = taken.uuid;
                for member in &taken.volume_snapshot_refs {
                    world.note(member.volume_uuid, member.volume_snapshot_uuid);
                }
            } else {
                world.snapshot(engine, &CreateSnapshot::new(root, "s"))?;
            }
        }
        world.write(engine, root, 40 * CLUSTER, 9 * CLUSTER, 9)?;
        let third = world.line[2];
        world.clone = engine.create_volume(&CreateVolume::of_snapshot("clone", third))?.uuid;
        world.disks.insert(world.clone, world.taken[&third].clone());
        world.write(engine, world.clone, 100, 3 * CLUSTER, 8)?;
        let (gone, reclaim) = ([world.line[1], world.line[3]], When::Later);
        let deleted = engine.delete_snapshots(&DeleteSnapshots { reclaim, ..DeleteSnapshots::all(gone) })?;
        assert!(deleted.is_success());
        world.forget(&gone);
        Ok(world)
    }

    fn write(&mut self, engine: &Engine, disk: Uuid, at: usize, length: usize, byte: u8) -> Outcome {
        engine.open_volume(disk)?.write_at(at as u64, &vec![byte; length])?;
        self.disks.get_mut(&disk).expect("it is there")[at..at + length].fill(byte);
        Ok(())
    }

    fn note(&mut self, disk: Uuid, snapshot: Uuid) {
        self.taken.insert(snapshot, self.disks[&disk].clone());
        if disk == self.root {
            self.line.push(snapshot);
        }
    }

    fn snapshot(&mut self, engine: &Engine, wish: &CreateSnapshot) -> Outcome {
        let taken = engine.create_snapshot(wish)?;
        self.note(taken.volume_uuid, taken.uuid);
        Ok(())
    }

    fn forget(&mut self, gone: &[Uuid]) {
        self.taken.retain(|uuid, _| !gone.contains(uuid));
        self.line.retain(|uuid| !gone.contains(uuid));
    }

    fn delete(&mut self, engine: &Engine, wish: &DeleteSnapshots, gone: &[Uuid]) -> Outcome {
        assert!(engine.delete_snapshots(wish)?.is_success());
        self.forget(gone);
        Ok(())
    }

    fn assert_shown(&self, engine: &Engine) -> Outcome {
        for (disk, bytes) in &self.disks {
            let found = read_volume(engine, *disk)?;
            let differs = found.iter().zip(bytes).position(|(found, expected)| found != expected);
            assert_eq!((found.len(), differs), (bytes.len(), None), "a disk reads differently");
        }
        for (snapshot, bytes) in &self.taken {
            assert!(read_snapshot(engine, *snapshot)? == *bytes, "a snapshot reads differently");
        }
        assert_sound(engine)
    }
}

type Call = (&'static str, fn(&mut World, &Engine) -> Outcome);

/// Every call that changes something, or reads what a reclaim moves.
const CALLS: [Call; 30] = [
    ("write", |world, engine| world.write(engine, world.root, 30 * CLUSTER, 8 * CLUSTER, 7)),
    ("snapshot", |world, engine| world.snapshot(engine, &CreateSnapshot::new(world.root, "new"))),
    ("full snapshot", |world, engine| {
        world.snapshot(engine, &CreateSnapshot::new(world.root, "new").in_full())
    }),
    ("group", |world, engine| {
        let taken = engine.create_group(&CreateGroup::of_machine(world.machine, "new"))?.inventory;
        for member in &taken.volume_snapshot_refs {
            world.note(member.volume_uuid, member.volume_snapshot_uuid);
        }
        Ok(())
    }),
    ("ungroup", |world, engine| Ok(engine.ungroup(world.group)?)),
    ("delete the first", |world, engine| {
        let first = world.line[0];
        world.delete(engine, &DeleteSnapshots::one(first), &[first])
    }),
    ("delete the first, bytes later", |world, engine| {
        let first = world.line[0];
        let wish = DeleteSnapshots { reclaim: When::Later, ..DeleteSnapshots::one(first) };
        world.delete(engine, &wish, &[first])
    }),
    ("delete the last down", |world, engine| {
        let last = world.line[2];
        let wish = DeleteSnapshots { direction: Direction::Commit, ..DeleteSnapshots::one(last) };
        world.delete(engine, &wish, &[last])
    }),
    ("delete the last up", |world, engine| {
        let last = world.line[2];
        let wish = DeleteSnapshots { direction: Direction::Pull, ..DeleteSnapshots::one(last) };
        world.delete(engine, &wish, &[last])
    }),
    ("delete all", |world, engine| {
        let (scope, mode) = (DeleteScope::Chain, DeleteMode::Enforcing);
        let gone = world.line.clone();
        world.delete(engine, &DeleteSnapshots { scope, mode, ..DeleteSnapshots::one(gone[0]) }, &gone)
    }),
    ("delete the group", |world, engine| {
        let wish = DeleteGroup { mode: DeleteMode::Enforcing, ..DeleteGroup::new(world.group) };
        let deleted = engine.delete_group(&wish)?;
        assert!(deleted.is_success());
        let gone: Vec<Uuid> = deleted.results.iter().filter_map(|line| line.snapshot_uuid).collect();
        world.forget(&gone);
        Ok(())
    }),
    ("revert to the first", |world, engine| {
        engine.revert_volume(&RevertVolume::to(world.line[0]))?;
        world.disks.insert(world.root, world.taken[&world.line[0]].clone());
        Ok(())
    }),
    ("revert to the first, and keep", |world, engine| {
        let kept = engine.revert_volume(&RevertVolume::to(world.line[0]).keeping())?.kept;
        world.note(world.root, kept[0].uuid);
        world.disks.insert(world.root, world.taken[&world.line[0]].clone());
        Ok(())
    }),
    ("revert to the last, bytes later", |world, engine| {
        let wish = RevertVolume { reclaim: When::Later, ..RevertVolume::to(world.line[2]) };
        engine.revert_volume(&wish)?;
        world.disks.insert(world.root, world.taken[&world.line[2]].clone());
        Ok(())
    }),
    ("revert to the group", |world, engine| {
        let members = engine.group(world.group)?.volume_snapshot_refs;
        engine.revert_group(&RevertGroup::new(world.group))?;
        for member in members {
            world.disks.insert(member.volume_uuid, world.taken[&member.volume_snapshot_uuid].clone());
        }
        Ok(())
    }),
    ("resize", |world, engine| {
        engine.resize_volume(world.root, ByteCount::of(SIZE + 3 * CLUSTER))?;
        world.disks.get_mut(&world.root).expect("it is there").resize(SIZE + 3 * CLUSTER, 0);
        Ok(())
    }),
    ("resize the clone", |world, engine| {
        engine.resize_volume(world.clone, ByteCount::of(SIZE + CLUSTER))?;
        world.disks.get_mut(&world.clone).expect("it is there").resize(SIZE + CLUSTER, 0);
        Ok(())
    }),
    ("detach", |world, engine| Ok(engine.detach_volume(world.root, world.machine).map(drop)?)),
    ("attach", |world, engine| Ok(engine.attach_volume(world.clone, world.machine, None).map(drop)?)),
    ("clone", |world, engine| {
        let of = world.line[2];
        let wish = CreateVolume { cluster_bits: Some(12), ..CreateVolume::of_snapshot("other", of) };
        let made = engine.create_volume(&wish)?.uuid;
        world.disks.insert(made, world.taken[&of].clone());
        Ok(())
    }),
    ("delete the clone", |world, engine| {
        assert!(engine.delete_volume(&DeleteVolume::new(world.clone))?.is_success());
        world.disks.remove(&world.clone);
        Ok(())
    }),
    ("delete the disk", |world, engine| {
        let mode = DeleteMode::Enforcing;
        let deleted = engine.delete_volume(&DeleteVolume { mode, ..DeleteVolume::new(world.root) })?;
        assert!(deleted.is_success());
        let gone = world.line.clone();
        world.forget(&gone);
        world.disks.remove(&world.root);
        Ok(())
    }),
    ("hold", |world, engine| Ok(engine.hold(world.line[0], "somebody").map(drop)?)),
    ("update", |world, engine| {
        let wish = UpdateVolume { chain_max: Some(ChainCap::Layers(9)), ..UpdateVolume::default() };
        Ok(engine.update_volume(world.root, &wish).map(drop)?)
    }),
    ("export and diff", |world, engine| {
        let file = MemoryStore::new().create(&BlobName::parse("out.qcow2")?)?;
        engine.export(world.line[2], &Export::qcow2().compressed(), file)?;
        let mut changes = engine.diff(Some(world.line[0].into()), world.line[2], &DiffOptions::default())?;
        assert!(changes.all(|change| change.is_ok()));
        Ok(())
    }),
    ("seal and verify", |world, engine| {
        assert!(engine.seal(&SealOptions::default())?.finish()?.failed.is_empty());
        let found = engine.verify(&VerifyOf::Snapshot(world.line[0].into()), VerifyDepth::Content)?;
        assert!(found.is_good(), "{found:?}");
        Ok(())
    }),
    ("check", |_, engine| {
        assert!(engine.check()?.is_sound());
        Ok(engine.owed().map(drop)?)
    }),
    ("reclaim up", |_, engine| ended(engine, Direction::Pull)),
    ("reclaim down", |_, engine| ended(engine, Direction::Commit)),
    ("reclaim", |_, engine| ended(engine, Direction::Auto)),
];

/// Another reclaim, from its beginning to its end.
fn ended(engine: &Engine, direction: Direction) -> Outcome {
    let (_, owed) = engine.reclaim(&ReclaimOptions::towards(direction))?.finish()?;
    assert_eq!(owed, []);
    Ok(())
}

/// Says which case it was when one fails.
struct Case(String);

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

/// Makes a call after so many steps of a reclaim, and goes on with that; answers whether there were so many.
fn interleave(home: &Home, world: &World, direction: Direction, stop: usize, call: Call) -> Made<bool> {
    let _case = Case(format!("{direction}, {} after {stop} steps", call.0));
    let (home, mut world) = (home.fork(), world.clone());
    let engine = home.open()?;
    let mut reclaim = engine.reclaim(&ReclaimOptions::towards(direction))?;
    let budget = ByteCount::of(3 * CLUSTER);
    let mut has_more = true;
    for _ in 0..stop {
        has_more = has_more && reclaim.step(budget)? == Step::More;
    }
    call.1(&mut world, &engine)?;
    world.assert_shown(&engine)?;
    while reclaim.step(budget)? == Step::More {}
    assert_eq!(reclaim.owed(), []);
    drop(reclaim);
    world.assert_shown(&engine)?;
    ended(&engine, Direction::Pull)?;
    assert_eq!(engine.owed()?, []);
    world.assert_shown(&engine)?;
    engine.close()?;
    world.assert_shown(&home.open()?)?;
    Ok(has_more)
}

#[test]
fn a_reclaim_goes_on_whatever_is_called_between_its_steps() -> Outcome {
    let home = Home::memory();
    let engine = home.open()?;
    let world = World::make(&engine)?;
    world.assert_shown(&engine)?;
    engine.close()?;
    let mut most = 0;
    for direction in [Direction::Auto, Direction::Pull, Direction::Commit] {
        for call in CALLS {
            let mut stop = 0;
            loop {
                let done = interleave(&home, &world, direction, stop, call);
                if !done.map_err(|error| format!("{direction}, {}, {stop}: {error}", call.0))? {
                    break;
                }
                stop += 1;
            }
            most = most.max(stop);
        }
    }
    assert!(most > 5, "the longest reclaim had {most} steps");
    Ok(())
}
