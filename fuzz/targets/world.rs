//! A pool on a store that calls fail of or whose power is cut. After each error the pool is opened again, and then:
//! what was asked for is there as a whole or not at all, what was flushed is there, what a snapshot holds has not
//! changed, and the check finds no damage. An error without a fault is a mistake.

#![expect(clippy::result_large_err, reason = "a step fails rarely, and keeps what it may have done")]

use crate::dice::Dice;
use snapgroup::query::Query;
use snapgroup::storage::{
    At, Choice, Fault, FaultKind, FileSystem, MemoryStore, SimulatedDisk, SimulatedStore,
};
use snapgroup::{
    ByteCount, Clock, CreateGroup, CreateMachine, CreateSnapshot, CreateVolume, DeleteMode, DeleteSnapshots,
    Direction, Engine, Ids, Options, ReclaimOptions, Refusal, Result, RevertVolume, Uuid, Volume, When,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A disk: what is read of it, and what each byte may be after a failure.
struct Disk {
    uuid: Uuid,
    handle: Option<Volume>,
    bytes: Vec<u8>,
    /// What was written since the last flush, as well as what was there then.
    possible: Vec<Vec<u8>>,
}

impl Disk {
    fn settle(&mut self, bytes: Vec<u8>) {
        self.possible = vec![bytes.clone()];
        self.bytes = bytes;
    }

    /// Whether these bytes may be found after a failure: each is of one of the writes, or older.
    fn admits(&self, found: &[u8]) -> bool {
        found.len() == self.bytes.len()
            && (0..found.len()).all(|at| self.possible.iter().any(|of| of[at] == found[at]))
    }
}

/// What a call that has failed may have done.
enum Pending {
    Nothing,
    Snapshots { name: String, disks: Vec<usize> },
    Deletion(Uuid),
    Revert { disk: usize, to: Uuid },
    Size { disk: usize, size: usize },
}

/// A disk whose power can be cut.
struct Power {
    disk: SimulatedDisk,
    file_system: FileSystem,
}

/// A pool and what must be read of it.
pub(super) struct World {
    store: SimulatedStore,
    /// What is below the store, where the power is cut.
    power: Option<Power>,
    engine: Option<Engine>,
    machine: Uuid,
    disks: Vec<Disk>,
    taken: BTreeMap<Uuid, (usize, Vec<u8>)>,
    openings: u64,
    /// How many names were given.
    named: u64,
    /// Whether a fault was set since the pool was opened.
    armed: bool,
    dice: Dice,
}

impl World {
    /// A pool on a store whose calls fail.
    pub(super) fn with_faults(dice: Dice) -> Self {
        Self::new(SimulatedStore::new(Arc::new(MemoryStore::new())), None, dice)
    }

    /// A pool on a disk whose power is cut.
    pub(super) fn with_power_cuts(mut dice: Dice) -> Self {
        let file_system = [FileSystem::Strict, FileSystem::Ext4Like][dice.roll(2)];
        let disk = SimulatedDisk::new(file_system);
        Self::new(SimulatedStore::on_disk(&disk), Some(Power { disk, file_system }), dice)
    }

    /// Does so many steps, and finishes what is left to do.
    pub(super) fn run(mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
        }
        self.reopen(&Pending::Nothing);
        let (_, owed) =
            self.engine().reclaim(&ReclaimOptions::default()).expect("no fault").finish().expect("no fault");
        assert!(owed.is_empty(), "{owed:#?}");
        self.compare(&Pending::Nothing);
    }

    fn new(store: SimulatedStore, power: Option<Power>, mut dice: Dice) -> Self {
        let engine = open(&store, 1).expect("no fault");
        let machine = engine.create_machine(&CreateMachine::new("vm")).expect("no fault").uuid;
        let mut disks = Vec::new();
        for _ in 0..1 + dice.roll(2) {
            let size = 512 * (1 + dice.roll(60));
            let wish = CreateVolume::new("disk", ByteCount::of(size));
            let wish = CreateVolume { cluster_bits: Some([9, 12][dice.roll(2)]), ..wish };
            let uuid = engine.create_volume(&wish).expect("no fault").uuid;
            engine.attach_volume(uuid, machine, None).expect("no fault");
            let bytes = vec![0; size];
            disks.push(Disk { uuid, handle: None, possible: vec![bytes.clone()], bytes });
        }
        let (taken, engine) = (BTreeMap::new(), Some(engine));
        Self { store, power, engine, machine, disks, taken, openings: 1, named: 0, armed: false, dice }
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("open between two steps")
    }

    fn step(&mut self) {
        if self.dice.roll(2) == 0 {
            self.arm();
        }
        let done = match self.dice.roll(16) {
            0..=4 => self.write(),
            5 => self.flush(),
            6 | 7 => self.snapshot(),
            8 | 9 => self.group(),
            10 | 11 => self.delete(),
            12 => self.reclaim(),
            13 => self.revert(),
            14 => self.resize(),
            _ => Err((Pending::Nothing, None)),
        };
        if let Err((pending, error)) = done {
            assert!(self.armed || error.is_none(), "an error without a fault: {error:?}");
            self.reopen(&pending);
        }
    }

    /// One of the next calls to the store fails, or all from there on, which is how the power goes.
    fn arm(&mut self) {
        self.armed = true;
        let at = At::Call(1 + self.dice.roll(64) as u64);
        if self.power.is_some() {
            return self.store.fail(Fault::for_ever(at, FaultKind::EIO));
        }
        let part = ByteCount::of(self.dice.roll(4096));
        let kind = [FaultKind::EIO, FaultKind::ENOSPC, FaultKind::ShortWrite(part)][self.dice.roll(3)];
        let fault = if self.dice.roll(4) == 0 { Fault::for_ever(at, kind) } else { Fault::once(at, kind) };
        self.store.fail(fault);
    }

    fn any_disk(&mut self) -> usize {
        self.dice.roll(self.disks.len())
    }

    fn any_snapshot(&mut self) -> Option<Uuid> {
        let uuids: Vec<Uuid> = self.taken.keys().copied().collect();
        (!uuids.is_empty()).then(|| uuids[self.dice.roll(uuids.len())])
    }

    fn handle(&mut self, index: usize) -> Result<Volume> {
        if self.disks[index].handle.is_none() {
            self.disks[index].handle = Some(self.engine().open_volume(self.disks[index].uuid)?);
        }
        Ok(self.disks[index].handle.clone().expect("just put there"))
    }

    fn write(&mut self) -> Step {
        let index = self.any_disk();
        let size = self.disks[index].bytes.len();
        let at = self.dice.roll(size);
        let length = (1 + self.dice.roll(3000)).min(size - at);
        let (kind, byte) = (self.dice.roll(5), self.dice.byte());
        let byte = if kind < 2 { 0 } else { byte };
        let handle = self.handle(index).map_err(nothing)?;
        let disk = &mut self.disks[index];
        let mut after = disk.bytes.clone();
        after[at..at + length].fill(byte);
        // A crash may leave it from now on.
        disk.possible.push(after.clone());
        let (start, count) = (at as u64, length as u64);
        let written = match kind {
            0 => handle.write_zeroes(start, count),
            1 => handle.discard(start, count),
            _ => handle.write_at(start, &vec![byte; length]),
        };
        written.map_err(nothing)?;
        disk.bytes = after;
        let mut found = vec![0xee; size];
        handle.read_at(0, &mut found).map_err(nothing)?;
        assert!(found == disk.bytes, "disk {index} reads differently");
        Ok(())
    }

    fn flush(&mut self) -> Step {
        let index = self.any_disk();
        self.handle(index).and_then(|handle| handle.flush()).map_err(nothing)?;
        let bytes = self.disks[index].bytes.clone();
        self.disks[index].settle(bytes);
        Ok(())
    }

    fn snapshot(&mut self) -> Step {
        let index = self.any_disk();
        let name = self.name();
        let pending = |error| (Pending::Snapshots { name: name.clone(), disks: vec![index] }, Some(error));
        let mut wish = CreateSnapshot::new(self.disks[index].uuid, &name);
        if self.dice.roll(4) == 0 {
            wish = wish.in_full();
        }
        let uuid = self.engine().create_snapshot(&wish).map_err(pending)?.uuid;
        self.take(index, uuid);
        Ok(())
    }

    fn group(&mut self) -> Step {
        let name = self.name();
        let disks = (0..self.disks.len()).collect();
        let made = self.engine().create_group(&CreateGroup::of_machine(self.machine, &name));
        let made = made.map_err(|error| (Pending::Snapshots { name, disks }, Some(error)))?.inventory;
        assert_eq!(made.volume_snapshot_refs.len(), self.disks.len());
        for member in &made.volume_snapshot_refs {
            let index = self.disks.iter().position(|disk| disk.uuid == member.volume_uuid).expect("a member");
            self.take(index, member.volume_snapshot_uuid);
        }
        Ok(())
    }

    /// A name that nothing has yet, and that is a part of no other: what a failed call was to make is known by it.
    fn name(&mut self) -> String {
        self.named += 1;
        format!("n{:04}", self.named)
    }

    fn take(&mut self, index: usize, uuid: Uuid) {
        let bytes = self.disks[index].bytes.clone();
        self.taken.insert(uuid, (index, bytes.clone()));
        self.disks[index].settle(bytes);
    }

    fn delete(&mut self) -> Step {
        let Some(uuid) = self.any_snapshot() else { return Ok(()) };
        let mode = [DeleteMode::Permissive, DeleteMode::Enforcing][self.dice.roll(2)];
        let direction = [Direction::Auto, Direction::Pull, Direction::Commit][self.dice.roll(3)];
        let reclaim = [When::Now, When::Later][self.dice.roll(2)];
        let wish = DeleteSnapshots { mode, direction, reclaim, ..DeleteSnapshots::one(uuid) };
        let deleted = self.engine().delete_snapshots(&wish);
        let deleted = deleted.map_err(|error| (Pending::Deletion(uuid), Some(error)))?;
        match self.engine().snapshot(uuid) {
            Err(snapgroup::Error::Refused(Refusal::NotFound { .. })) => drop(self.taken.remove(&uuid)),
            // The look itself has failed: whether the snapshot is there shows when the pool is opened again.
            Err(error) => return Err((Pending::Deletion(uuid), Some(error))),
            Ok(_) => assert!(!deleted.is_success(), "it is there still"),
        }
        Ok(())
    }

    fn reclaim(&mut self) -> Step {
        let direction = [Direction::Auto, Direction::Pull, Direction::Commit][self.dice.roll(3)];
        let budget = ByteCount::of(1 + self.dice.roll(9000));
        let mut reclaim = self.engine().reclaim(&ReclaimOptions::towards(direction)).map_err(nothing)?;
        for _ in 0..1 + self.dice.roll(12) {
            if reclaim.step(budget).map_err(nothing)? == snapgroup::Step::Done {
                break;
            }
        }
        Ok(())
    }

    fn revert(&mut self) -> Step {
        let Some(to) = self.any_snapshot() else { return Ok(()) };
        let disk = self.taken[&to].0;
        if let Some(handle) = self.disks[disk].handle.take() {
            handle.flush().map_err(nothing)?;
            let bytes = self.disks[disk].bytes.clone();
            self.disks[disk].settle(bytes);
        }
        self.engine()
            .revert_volume(&RevertVolume::to(to))
            .map_err(|error| (Pending::Revert { disk, to }, Some(error)))?;
        let bytes = self.taken[&to].1.clone();
        self.disks[disk].settle(bytes);
        Ok(())
    }

    fn resize(&mut self) -> Step {
        let disk = self.any_disk();
        let size = self.disks[disk].bytes.len() + 512 * (1 + self.dice.roll(40));
        let resized = self.engine().resize_volume(self.disks[disk].uuid, ByteCount::of(size));
        resized.map_err(|error| (Pending::Size { disk, size }, Some(error)))?;
        self.disks[disk].bytes.resize(size, 0);
        self.disks[disk].possible.iter_mut().for_each(|of| of.resize(size, 0));
        Ok(())
    }

    /// Lets go of the pool as it is, and opens it again on a store that works.
    fn reopen(&mut self, pending: &Pending) {
        let cut = self.cut();
        self.disks.iter_mut().for_each(|disk| disk.handle = None);
        drop(self.engine.take());
        self.start_on(cut);
        while self.power.is_some() && self.dice.roll(4) == 3 {
            // The power is cut again, while what the last cut has left is cleared up.
            self.arm();
            drop(open(&self.store, self.openings));
            let cut = self.cut();
            self.start_on(cut);
        }
        self.engine = Some(open(&self.store, self.openings).expect("a store that works"));
        self.compare(pending);
    }

    /// What a power cut leaves now, if there is a power to cut.
    fn cut(&mut self) -> Option<SimulatedDisk> {
        let Power { disk, file_system } = self.power.as_ref()?;
        let state = disk.log().cut(disk.position()).state(choice(&mut self.dice));
        Some(SimulatedDisk::over(&state.store(), *file_system))
    }

    /// From now on nothing fails, on what a power cut has left if there was one.
    fn start_on(&mut self, left: Option<SimulatedDisk>) {
        self.store.heal();
        if let (Some(power), Some(disk)) = (&mut self.power, left) {
            self.store = SimulatedStore::on_disk(&disk);
            power.disk = disk;
        }
        (self.armed, self.openings) = (false, self.openings + 1);
    }

    /// Compares the pool with the model, which then follows what was found.
    fn compare(&mut self, pending: &Pending) {
        let check = self.engine().check().expect("no fault");
        assert!(check.violations.is_empty() && check.missing.is_empty(), "{check:#?}");
        for layer in &check.layers {
            assert!(layer.report.as_ref().is_some_and(|report| report.is_sound()), "{layer:#?}");
        }
        let found: BTreeSet<Uuid> = snapshots(self.engine()).iter().map(|(uuid, _, _)| *uuid).collect();
        self.compare_snapshots(&found, pending);
        for index in 0..self.disks.len() {
            let bytes = read_disk(self.engine(), self.disks[index].uuid);
            let disk = &self.disks[index];
            let is_lawful = match pending {
                Pending::Revert { disk, to } if *disk == index && bytes == self.taken[to].1 => true,
                Pending::Size { disk: of, size } if *of == index && bytes.len() == *size => {
                    disk.admits(&bytes[..disk.bytes.len()])
                        && bytes[disk.bytes.len()..].iter().all(|byte| *byte == 0)
                }
                _ => disk.admits(&bytes),
            };
            assert!(is_lawful, "disk {index} holds what it never held");
            self.disks[index].settle(bytes);
        }
    }

    fn compare_snapshots(&mut self, found: &BTreeSet<Uuid>, pending: &Pending) {
        if let Pending::Deletion(uuid) = pending
            && !found.contains(uuid)
        {
            self.taken.remove(uuid);
        }
        if let Pending::Snapshots { name, disks } = pending {
            let fresh: Vec<_> =
                snapshots(self.engine()).into_iter().filter(|(_, _, of)| of.contains(name)).collect();
            assert!(fresh.is_empty() || fresh.len() == disks.len(), "half a group");
            for (uuid, volume, _) in fresh {
                let index = self.disks.iter().position(|disk| disk.uuid == volume).expect("of a disk");
                // All that was written is in it, and a snapshot flushes.
                self.take(index, uuid);
            }
        }
        assert_eq!(*found, self.taken.keys().copied().collect(), "the snapshots are others");
        for (uuid, (_, bytes)) in &self.taken {
            let snapshot = self.engine().open_snapshot(*uuid).expect("no fault");
            let mut content = vec![0xee; snapshot.size().as_usize()];
            snapshot.read_at(0, &mut content).expect("no fault");
            assert!(content == *bytes, "a snapshot has changed");
        }
    }
}

/// What a step has come to: done, or what may have been done and why not.
type Step = std::result::Result<(), (Pending, Option<snapgroup::Error>)>;

fn nothing(error: snapgroup::Error) -> (Pending, Option<snapgroup::Error>) {
    (Pending::Nothing, Some(error))
}

fn open(store: &SimulatedStore, opening: u64) -> Result<Engine> {
    let (clock, ids) = (Clock::Stepping(0), Ids::Seeded(opening));
    let options = Options { clock, ids, ..Options::default() };
    Engine::open_on(Arc::new(store.clone()), options)
}

/// What survives a power cut.
fn choice(dice: &mut Dice) -> Choice {
    match dice.roll(8) {
        0 => Choice::Everything,
        1 => Choice::Nothing,
        2 => Choice::First(dice.roll(64)),
        3 => Choice::Without(dice.roll(64)),
        4 => Choice::Only(dice.roll(64)),
        5 => Choice::Torn(dice.roll(64), dice.roll(16)),
        6 => Choice::TornLast(dice.roll(64), dice.roll(16)),
        _ => Choice::Sample { of_ten: [1, 5, 9][dice.roll(3)], seed: dice.number() },
    }
}

fn read_disk(engine: &Engine, uuid: Uuid) -> Vec<u8> {
    let volume = engine.open_volume(uuid).expect("no fault");
    let mut bytes = vec![0xee; volume.size().as_usize()];
    volume.read_at(0, &mut bytes).expect("no fault");
    bytes
}

/// Each snapshot with its volume and its name.
fn snapshots(engine: &Engine) -> Vec<(Uuid, Uuid, String)> {
    let items = engine.query_snapshots(&Query::default()).expect("no fault").items;
    items.into_iter().map(|shown| (shown.uuid, shown.volume_uuid, shown.name)).collect()
}
