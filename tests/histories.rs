//! Random histories of a machine: after every step each living snapshot and each disk reads as a plain byte model says,
//! the pool's own check is clean, and the parents of snapshots are those of a model of the books.
//!
//! `SNAPGROUP_HISTORIES=n` runs n of them in memory, `SNAPGROUP_SEED=n` begins with another one.

mod support {
    pub(crate) mod dice;
}

use snapgroup::storage::{DiskStore, MemoryStore, Store};
use snapgroup::{
    ByteCount, CreateGroup, CreateMachine, CreateSnapshot, CreateVolume, DeleteGroup, DeleteMode,
    DeleteScope, DeleteSnapshots, Deleted, Direction, Engine, Members, Options, ReclaimOptions, RevertGroup,
    RevertVolume, Step, Uuid, When,
};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;
use support::dice::Dice;

type Outcome = Result<(), Box<dyn Error>>;

/// What must be read of a snapshot, and what it descends from.
struct Taken {
    disk: usize,
    bytes: Vec<u8>,
    parent: Option<Uuid>,
    group: Option<Uuid>,
    held: bool,
}

struct Disk {
    uuid: Uuid,
    bytes: Vec<u8>,
    current: Option<Uuid>,
    attached: bool,
}

struct History {
    store: Arc<dyn Fn() -> Arc<dyn Store>>,
    engine: Option<Engine>,
    machine: Uuid,
    disks: Vec<Disk>,
    taken: BTreeMap<Uuid, Taken>,
    /// The members of each group that is there.
    groups: BTreeMap<Uuid, Vec<Uuid>>,
    dice: Dice,
    log: Vec<String>,
}

fn options() -> Options {
    Options { chain_max: 200, ..Options::default() }
}

impl History {
    fn begin(store: Arc<dyn Fn() -> Arc<dyn Store>>, seed: u64) -> Result<Self, Box<dyn Error>> {
        let mut dice = Dice::of(seed);
        let engine = Engine::open_on(store(), options())?;
        let machine = engine.create_machine(&CreateMachine::new("vm"))?.uuid;
        let mut disks = Vec::new();
        for index in 0..1 + dice.roll(2) {
            let size = (1 + dice.roll(6)) * 8192;
            let bits = [9, 9, 10, 12, 16][dice.roll(5)];
            let wish = CreateVolume::new(format!("d{index}"), ByteCount::new(size as u64));
            let wish = CreateVolume { cluster_bits: Some(bits), ..wish };
            let uuid = engine.create_volume(&wish)?.uuid;
            engine.attach_volume(uuid, machine, None)?;
            let bytes = vec![0; size];
            disks.push(Disk { uuid, bytes, current: None, attached: true });
        }
        let (taken, groups, log) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Ok(Self { store, engine: Some(engine), machine, disks, taken, groups, dice, log })
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("the pool is open between two steps")
    }

    fn below(&mut self, count: usize) -> usize {
        self.dice.roll(count)
    }

    fn any_snapshot(&mut self) -> Option<Uuid> {
        let count = self.taken.len();
        if count == 0 {
            return None;
        }
        let place = self.below(count);
        self.taken.keys().nth(place).copied()
    }

    fn any_group(&mut self) -> Option<Uuid> {
        let count = self.groups.len();
        if count == 0 {
            return None;
        }
        let place = self.below(count);
        self.groups.keys().nth(place).copied()
    }

    fn direction(&mut self) -> Direction {
        [Direction::Auto, Direction::Pull, Direction::Commit][self.below(3)]
    }

    fn step(&mut self) -> Outcome {
        match self.below(22) {
            0..=5 => self.write(),
            6 | 7 => self.snapshot(),
            8..=10 => self.group(),
            11 | 12 => self.delete_snapshots(),
            13 | 14 => self.delete_group(),
            15 => self.revert_volume(),
            16 => self.revert_group(),
            17 => self.reclaim(),
            18 => self.hold(),
            19 => self.reopen(),
            20 => self.detach_or_attach(),
            _ => self.resize_or_ungroup(),
        }
    }

    fn write(&mut self) -> Outcome {
        let index = self.below(self.disks.len());
        let size = self.disks[index].bytes.len();
        let volume = self.engine().open_volume(self.disks[index].uuid)?;
        for _ in 0..1 + self.below(3) {
            let at = self.below(size);
            let most = (size - at).min([600, 5000, 20_000][self.below(3)]);
            let length = 1 + self.below(most);
            let byte = u8::try_from(1 + self.below(255))?;
            let kind = self.below(5);
            self.log.push(format!("write {kind} disk {index} at {at} {length} bytes"));
            match kind {
                0 => volume.write_zeroes(at as u64, length as u64)?,
                1 => volume.discard(at as u64, length as u64)?,
                _ => volume.write_at(at as u64, &vec![byte; length])?,
            }
            let byte = if kind < 2 { 0 } else { byte };
            self.disks[index].bytes[at..at + length].fill(byte);
        }
        Ok(())
    }

    fn note(&mut self, index: usize, uuid: Uuid, group: Option<Uuid>) {
        let disk = &mut self.disks[index];
        let (bytes, parent) = (disk.bytes.clone(), disk.current.replace(uuid));
        self.taken.insert(uuid, Taken { disk: index, bytes, parent, group, held: false });
    }

    fn snapshot(&mut self) -> Outcome {
        let index = self.below(self.disks.len());
        self.log.push(format!("snapshot of disk {index}"));
        let mut wish = CreateSnapshot::new(self.disks[index].uuid, "s");
        if self.below(3) == 0 {
            self.log.push("in full".into());
            wish = wish.in_full();
            self.disks[index].current = None;
        }
        let uuid = self.engine().create_snapshot(&wish)?.uuid;
        self.note(index, uuid, None);
        Ok(())
    }

    fn group(&mut self) -> Outcome {
        if !self.disks.iter().any(|disk| disk.attached) {
            return Ok(());
        }
        self.log.push("group".into());
        let mut wish = CreateGroup::of_machine(self.machine, "g");
        if self.below(4) == 0 {
            self.log.push("in full".into());
            wish = wish.in_full();
            self.disks.iter_mut().filter(|disk| disk.attached).for_each(|disk| disk.current = None);
        }
        let plan = self.engine().plan_create(&wish)?;
        let group = self.engine().run(&plan)?.inventory;
        for change in &plan.figures.chains {
            assert_eq!(self.engine().chain(change.volume_uuid)?.len(), change.after);
        }
        self.note_group(&group);
        Ok(())
    }

    fn note_group(&mut self, group: &snapgroup::inventory::GroupInventory) {
        let mut members = Vec::new();
        for member in &group.volume_snapshot_refs {
            let index = self.disks.iter().position(|disk| disk.uuid == member.volume_uuid);
            self.note(index.expect("a disk"), member.volume_snapshot_uuid, Some(group.uuid));
            members.push(member.volume_snapshot_uuid);
        }
        self.groups.insert(group.uuid, members);
    }

    /// A snapshot and what descends from it.
    fn descendants(&self, root: Uuid) -> BTreeSet<Uuid> {
        let mut found: BTreeSet<Uuid> = [root].into();
        loop {
            let more: Vec<Uuid> = self
                .taken
                .iter()
                .filter(|(uuid, taken)| {
                    !found.contains(*uuid) && taken.parent.is_some_and(|parent| found.contains(&parent))
                })
                .map(|(uuid, _)| *uuid)
                .collect();
            if more.is_empty() {
                return found;
            }
            found.extend(more);
        }
    }

    /// What a deletion of these takes along: everything, or nothing when one is held.
    fn going(
        &self,
        wanted: &[Uuid],
        mode: DeleteMode,
        scope: DeleteScope,
        members: Members,
    ) -> BTreeSet<Uuid> {
        let mut going = BTreeSet::new();
        let mut refused = false;
        for uuid in wanted.iter().filter(|uuid| self.taken.contains_key(*uuid)) {
            let set = match scope {
                DeleteScope::Chain => self.descendants(*uuid),
                _ => [*uuid].into(),
            };
            if mode == DeleteMode::Permissive && set.iter().any(|uuid| self.taken[uuid].held) {
                refused = true;
            } else {
                going.extend(set);
            }
        }
        if refused && members == Members::AllOrNone { BTreeSet::new() } else { going }
    }

    fn remove(&mut self, going: &BTreeSet<Uuid>) {
        for uuid in going {
            let gone = self.taken.remove(uuid).expect("it is in the model");
            for other in self.taken.values_mut().filter(|other| other.parent == Some(*uuid)) {
                other.parent = gone.parent;
            }
            let disk = &mut self.disks[gone.disk];
            if disk.current == Some(*uuid) {
                disk.current = gone.parent;
            }
        }
        self.groups.retain(|_, members| members.iter().any(|member| self.taken.contains_key(member)));
    }

    fn manner(&mut self) -> (DeleteMode, DeleteScope, Members, Direction, When) {
        let mode = if self.below(3) == 0 { DeleteMode::Enforcing } else { DeleteMode::Permissive };
        let scope = if self.below(3) == 0 { DeleteScope::Chain } else { DeleteScope::Single };
        let members = if self.below(2) == 0 { Members::AllOrNone } else { Members::EachOnItsOwn };
        let when = if self.below(3) == 0 { When::Later } else { When::Now };
        (mode, scope, members, self.direction(), when)
    }

    fn delete_snapshots(&mut self) -> Outcome {
        let mut uuids = Vec::new();
        for _ in 0..1 + self.below(3) {
            uuids.extend(self.any_snapshot());
        }
        if uuids.is_empty() {
            return Ok(());
        }
        let (mode, scope, members, direction, reclaim) = self.manner();
        let wish = DeleteSnapshots {
            mode,
            scope,
            members,
            direction,
            reclaim,
            ..DeleteSnapshots::all(uuids.clone())
        };
        self.log.push(format!("delete {wish:?}"));
        let going = self.going(&uuids, mode, scope, members);
        let plan = self.engine().plan_delete(&wish)?;
        let deleted = self.engine().run(&plan)?;
        self.compare(&plan, &deleted, reclaim);
        self.remove(&going);
        Ok(())
    }

    fn delete_group(&mut self) -> Outcome {
        let Some(uuid) = self.any_group() else { return Ok(()) };
        let (mode, scope, members, direction, reclaim) = self.manner();
        let wish = DeleteGroup { mode, scope, members, direction, reclaim, ..DeleteGroup::new(uuid) };
        self.log.push(format!("delete {wish:?}"));
        let going = self.going(&self.groups[&uuid].clone(), mode, scope, members);
        let plan = self.engine().plan_delete(&wish)?;
        let deleted = self.engine().run(&plan)?;
        assert_eq!(deleted.results.len(), self.groups[&uuid].len());
        self.compare(&plan, &deleted, reclaim);
        self.remove(&going);
        Ok(())
    }

    /// What was foretold is what was done.
    fn compare(&self, plan: &snapgroup::DeletePlan, deleted: &Deleted, reclaim: When) {
        assert_eq!(plan.results, deleted.results);
        assert_eq!(plan.groups_removed, deleted.groups_removed);
        assert_eq!(deleted.owed, []);
        if reclaim == When::Later {
            return;
        }
        let (told, done) = (&plan.figures, &deleted.reclaimed);
        let copied = |pulled, committed, punched| (pulled, committed, punched);
        assert_eq!(
            copied(done.bytes_pulled, done.bytes_committed, done.bytes_punched),
            copied(told.bytes_pulled, told.bytes_committed, told.bytes_punched)
        );
        let names = |files: &[String]| files.iter().cloned().collect::<BTreeSet<String>>();
        assert_eq!(names(&told.files_removed), names(&done.files_removed));
        assert_eq!(told.bytes_removed, done.bytes_removed);
        for change in &told.chains {
            let after = self.engine().chain(change.volume_uuid).map(|chain| chain.len());
            assert_eq!(Some(change.after), after.ok());
        }
    }

    fn revert_volume(&mut self) -> Outcome {
        let Some(uuid) = self.any_snapshot() else { return Ok(()) };
        let keep = self.below(3) == 0;
        self.log.push(format!("revert a disk to {}, keep {keep}", uuid.simple()));
        let wish = RevertVolume { keep, ..RevertVolume::to(uuid) };
        let reverted = self.engine().revert_volume(&wish)?;
        let index = self.taken[&uuid].disk;
        for kept in &reverted.kept {
            self.note(index, kept.uuid, None);
        }
        self.go_back(uuid);
        Ok(())
    }

    fn go_back(&mut self, to: Uuid) {
        let taken = &self.taken[&to];
        let disk = &mut self.disks[taken.disk];
        disk.bytes.clone_from(&taken.bytes);
        disk.current = Some(to);
    }

    fn revert_group(&mut self) -> Outcome {
        let Some(uuid) = self.any_group() else { return Ok(()) };
        let wish = RevertGroup { keep: self.below(2) == 0, ..RevertGroup::new(uuid) };
        self.log.push(format!("revert {wish:?}"));
        if !self.engine().check_availability([uuid])?[0].available {
            assert!(self.engine().revert_group(&wish).is_err());
            return Ok(());
        }
        let reverted = self.engine().revert_group(&wish)?;
        let members = self.groups[&uuid].clone();
        if let Some(kept) = &reverted.kept_group {
            self.note_group(kept);
        }
        let undo = self.below(2) == 0;
        let before: Vec<Vec<u8>> = self.disks.iter().map(|disk| disk.bytes.clone()).collect();
        members.iter().for_each(|member| self.go_back(*member));
        if let (Some(kept), true) = (reverted.kept_group, undo) {
            self.log.push("undo".into());
            self.check()?;
            self.engine().revert_group(&RevertGroup::new(kept.uuid))?;
            self.groups[&kept.uuid].clone().iter().for_each(|member| self.go_back(*member));
            let after: Vec<Vec<u8>> = self.disks.iter().map(|disk| disk.bytes.clone()).collect();
            assert!(before == after, "the revert was not undone");
        }
        Ok(())
    }

    fn reclaim(&mut self) -> Outcome {
        let direction = self.direction();
        let mut reclaim = self.engine().reclaim(&ReclaimOptions::towards(direction))?;
        let steps = self.below(12);
        self.log.push(format!("reclaim {direction}, {steps} steps"));
        for _ in 0..steps {
            let budget = ByteCount::new(1 + self.below(9000) as u64);
            if reclaim.step(budget)? == Step::Done {
                break;
            }
            self.check()?;
        }
        assert_eq!(reclaim.owed(), []);
        Ok(())
    }

    fn hold(&mut self) -> Outcome {
        let Some(uuid) = self.any_snapshot() else { return Ok(()) };
        let held = !self.taken[&uuid].held;
        self.log.push(format!("held {held}: {}", uuid.simple()));
        match held {
            true => self.engine().hold(uuid, "somebody")?,
            false => self.engine().release(uuid, "somebody")?,
        };
        self.taken.get_mut(&uuid).expect("just found").held = held;
        Ok(())
    }

    fn reopen(&mut self) -> Outcome {
        self.log.push("reopen".into());
        self.engine.take().expect("open").close()?;
        let engine = Engine::open_on((self.store)(), options())?;
        assert_eq!((&engine.recovered().unfinished, &engine.recovered().left_alone), (&vec![], &vec![]));
        self.engine = Some(engine);
        Ok(())
    }

    fn detach_or_attach(&mut self) -> Outcome {
        let index = self.below(self.disks.len());
        let (uuid, attached) = (self.disks[index].uuid, self.disks[index].attached);
        self.log.push(format!("disk {index} attached: {}", !attached));
        match attached {
            true => self.engine().detach_volume(uuid, self.machine)?,
            false => self.engine().attach_volume(uuid, self.machine, None)?,
        };
        self.disks[index].attached = !attached;
        Ok(())
    }

    fn resize_or_ungroup(&mut self) -> Outcome {
        if self.below(2) == 0 {
            let index = self.below(self.disks.len());
            let size = self.disks[index].bytes.len() + 512 * (1 + self.below(20));
            self.log.push(format!("disk {index} grows to {size}"));
            self.engine().resize_volume(self.disks[index].uuid, ByteCount::new(size as u64))?;
            self.disks[index].bytes.resize(size, 0);
        } else if let Some(uuid) = self.any_group() {
            self.log.push(format!("ungroup {}", uuid.simple()));
            self.engine().ungroup(uuid)?;
            self.groups.remove(&uuid);
            self.taken
                .values_mut()
                .filter(|taken| taken.group == Some(uuid))
                .for_each(|taken| taken.group = None);
        }
        Ok(())
    }

    fn check(&self) -> Outcome {
        let engine = self.engine();
        for disk in &self.disks {
            let volume = engine.open_volume(disk.uuid)?;
            let mut bytes = vec![0xee; volume.size().as_usize()];
            volume.read_at(0, &mut bytes)?;
            assert!(bytes == disk.bytes, "a disk reads differently");
        }
        for (uuid, taken) in &self.taken {
            let shown = engine.snapshot(*uuid)?;
            assert_eq!((shown.parent_uuid, shown.group_uuid), (taken.parent, taken.group));
            let snapshot = engine.open_snapshot(*uuid)?;
            let mut bytes = vec![0xee; snapshot.size().as_usize()];
            snapshot.read_at(0, &mut bytes)?;
            assert!(bytes == taken.bytes, "snapshot {} reads differently", uuid.simple());
        }
        let all = snapgroup::query::Query::default();
        assert_eq!(engine.query_snapshots(&all)?.items.len(), self.taken.len());
        assert_eq!(engine.query_groups(&snapgroup::query::Query::default())?.items.len(), self.groups.len());
        let check = engine.check()?;
        assert!(check.is_clean(), "{check:#?}");
        Ok(())
    }
}

fn run(store: Arc<dyn Fn() -> Arc<dyn Store>>, seed: u64, steps: usize) {
    let mut history = History::begin(store, seed).expect("a pool is made");
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| -> Outcome {
        for _ in 0..steps {
            history.step()?;
            history.check()?;
        }
        Ok(())
    }));
    if !matches!(result, Ok(Ok(()))) {
        panic!("seed {seed}: {result:?} after\n{}", history.log.join("\n"));
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn histories_in_memory_read_as_the_model_says() {
    let first = number("SNAPGROUP_SEED", 1);
    for seed in first..first + number("SNAPGROUP_HISTORIES", 200) {
        let memory = MemoryStore::new();
        run(Arc::new(move || Arc::new(memory.clone())), seed, 25);
    }
}

#[test]
fn histories_on_disk_read_as_the_model_says() {
    for seed in 10_001..10_021 {
        let directory = tempfile::TempDir::new().expect("a directory");
        let path = directory.path().to_owned();
        let store = move || -> Arc<dyn Store> { Arc::new(DiskStore::create(&path).expect("a pool")) };
        run(Arc::new(store), seed, 25);
    }
}
