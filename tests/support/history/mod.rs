//! Random histories of a machine: after every step each living snapshot and each disk reads as a plain byte model
//! says, the pool's own check is clean, the books are those of the model, and the directory holds exactly the files
//! that the catalogue names.
//!
//! Every step is asked of the dice, and uuids are numbered, so that a seed tells the whole history.

mod arrivals;
mod model;
mod reverts;
mod steps;

use crate::dice::Dice;
use model::Model;
use snapgroup::query::Query;
use snapgroup::storage::{Access, Store};
use snapgroup::units::HostOffset;
use snapgroup::{
    Clock, CreateMachine, Direction, Engine, Ids, Options, OwedReason, Reclaim, ReclaimOptions, Snapshot,
    Uuid, Volume,
};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// How often each thing was done, and what came of it, under names such as `delete group, Permissive, Single, Pull`.
pub(crate) type Tally = BTreeMap<String, u64>;

/// Where the pool of a history lives: answers the same store anew for each opening.
pub(crate) type Home = Arc<dyn Fn() -> Arc<dyn Store>>;

/// The files of a pool that are no layers.
const OWN_FILES: [&str; 2] = ["snapgroup.redb", "snapgroup.lock"];

/// What a picture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Of {
    Disk(Uuid),
    Snapshot(Uuid),
}

/// A file with what is below it, and what must be read of it.
pub(crate) struct Picture {
    pub(crate) of: Of,
    pub(crate) file: String,
    pub(crate) bytes: Vec<u8>,
}

/// Looks at a pool after some of the steps; the pictures are those of all disks and all snapshots.
pub(crate) type Judge<'a> = &'a mut dyn FnMut(&[Picture]) -> Outcome;

struct History {
    home: Home,
    engine: Option<Engine>,
    machine: Uuid,
    model: Model,
    /// The disks whose handle stays open from step to step.
    open: BTreeMap<usize, Volume>,
    /// Handles to snapshots, which may be deleted meanwhile.
    readers: Vec<(Snapshot, Vec<u8>)>,
    /// A reclaim that goes on between other steps.
    reclaim: Option<Reclaim>,
    dice: Dice,
    /// How often the pool was opened: no two openings give the same uuids.
    openings: u64,
    log: Vec<String>,
    tally: Tally,
}

fn options(opening: u64) -> Options {
    let (clock, ids) = (Clock::Stepping(0), Ids::Seeded(opening));
    Options { chain_max: 200, clock, ids, ..Options::default() }
}

/// The last component of a path, however the store shows it.
fn file_of(path: &str) -> String {
    path.rsplit(['/', ':']).next().unwrap_or(path).to_owned()
}

impl History {
    fn begin(home: Home, dice: Dice) -> Result<Self, Box<dyn Error>> {
        let engine = Engine::open_on(home(), options(1))?;
        let machine = engine.create_machine(&CreateMachine::new("vm"))?.uuid;
        let mut history = Self {
            home,
            engine: Some(engine),
            machine,
            model: Model::default(),
            open: BTreeMap::new(),
            readers: Vec::new(),
            reclaim: None,
            dice,
            openings: 1,
            log: Vec::new(),
            tally: Tally::default(),
        };
        for _ in 0..1 + history.below(2) {
            history.create()?;
        }
        Ok(history)
    }

    fn count(&mut self, what: impl Into<String>) {
        *self.tally.entry(what.into()).or_default() += 1;
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("the pool is open between two steps")
    }

    fn below(&mut self, count: usize) -> usize {
        self.dice.roll(count)
    }

    fn any_disk(&mut self) -> Option<usize> {
        let present = self.model.present();
        (!present.is_empty()).then(|| present[self.below(present.len())])
    }

    fn any_snapshot(&mut self) -> Option<Uuid> {
        let uuids: Vec<Uuid> = self.model.taken.keys().copied().collect();
        (!uuids.is_empty()).then(|| uuids[self.below(uuids.len())])
    }

    fn any_group(&mut self) -> Option<Uuid> {
        let uuids: Vec<Uuid> = self.model.groups.keys().copied().collect();
        (!uuids.is_empty()).then(|| uuids[self.below(uuids.len())])
    }

    /// The files of layers, by name.
    fn files(&self) -> Outcome<BTreeSet<String>> {
        let present = (self.home)().list()?.into_iter().map(|name| name.to_string());
        Ok(present.filter(|name| name.ends_with(".qcow2")).collect())
    }

    /// A checksum of each of them.
    fn contents(&self) -> Outcome<BTreeMap<String, u32>> {
        let home = (self.home)();
        let mut contents = BTreeMap::new();
        for name in home.list()?.into_iter().filter(|name| name.as_str().ends_with(".qcow2")) {
            let blob = home.open(&name, Access::Read)?;
            let mut bytes = vec![0; blob.length()?.as_usize()];
            blob.read_at(HostOffset::ZERO, &mut bytes)?;
            contents.insert(name.to_string(), crc32fast::hash(&bytes));
        }
        Ok(contents)
    }

    fn direction(&mut self) -> Direction {
        [Direction::Auto, Direction::Pull, Direction::Commit][self.below(3)]
    }

    /// Everything that must hold between two steps; answers what each file must show.
    fn check(&self) -> Result<Vec<Picture>, Box<dyn Error>> {
        let engine = self.engine();
        let mut pictures = Vec::new();
        for index in self.model.present() {
            let disk = &self.model.disks[index];
            let volume = engine.open_volume(disk.uuid)?;
            let mut bytes = vec![0xee; volume.size().as_usize()];
            volume.read_at(0, &mut bytes)?;
            assert!(bytes == disk.bytes, "disk {index} reads differently");
            let shown = engine.volume(disk.uuid)?;
            assert_eq!(
                (shown.size.as_usize(), shown.vm_instance_uuid.is_some()),
                (bytes.len(), disk.attached)
            );
            let of = Of::Disk(disk.uuid);
            pictures.push(Picture { of, file: file_of(&shown.install_path), bytes });
        }
        for (uuid, taken) in &self.model.taken {
            let shown = engine.snapshot(*uuid)?;
            assert_eq!((shown.parent_uuid, shown.group_uuid), (taken.parent, taken.group));
            assert_eq!(shown.holds.is_empty(), !taken.held);
            let snapshot = engine.open_snapshot(*uuid)?;
            let mut bytes = vec![0xee; snapshot.size().as_usize()];
            snapshot.read_at(0, &mut bytes)?;
            assert!(bytes == taken.bytes, "snapshot {} reads differently", uuid.simple());
            let (of, file) = (Of::Snapshot(*uuid), file_of(&shown.primary_storage_install_path));
            pictures.push(Picture { of, file, bytes });
        }
        for (snapshot, expected) in &self.readers {
            let mut bytes = vec![0xee; snapshot.size().as_usize()];
            snapshot.read_at(0, &mut bytes)?;
            assert!(bytes == *expected, "a handle to {} reads differently", snapshot.uuid().simple());
        }
        let shown: BTreeSet<Of> = pictures.iter().map(|picture| picture.of).collect();
        assert_eq!(shown.len(), pictures.len(), "two of them have one uuid");
        self.check_books()?;
        Ok(pictures)
    }

    fn check_books(&self) -> Outcome {
        let engine = self.engine();
        assert_eq!(engine.query_snapshots(&Query::default())?.items.len(), self.model.taken.len());
        let groups = engine.query_groups(&Query::default())?.items;
        let uuids: BTreeSet<Uuid> = groups.iter().map(|group| group.uuid).collect();
        assert_eq!(uuids, self.model.groups.keys().copied().collect());
        for (group, taken) in &self.model.groups {
            let shown = engine.group(*group)?.volume_snapshot_refs;
            for (member, (uuid, _)) in shown.iter().zip(&taken.members) {
                assert_eq!(member.volume_snapshot_uuid, *uuid);
                assert_eq!(member.snapshot_deleted, !self.model.taken.contains_key(uuid));
            }
            let available = engine.check_availability([*group])?[0].available;
            assert_eq!(available, self.model.is_available(*group));
        }
        let check = engine.check()?;
        assert!(check.is_clean(), "{check:#?}");
        let owed = engine.owed()?;
        for owed in &owed {
            assert_ne!(owed.reason, OwedReason::Hindered, "{owed:#?}");
        }
        let to_be_removed = owed.iter().filter(|owed| owed.reason == OwedReason::ToBeRemoved).count();
        let present = (self.home)().list()?;
        for owed in &owed {
            assert!(present.iter().any(|name| name.as_str() == owed.file), "{owed:#?}");
        }
        let layers = present.iter().filter(|name| name.as_str().ends_with(".qcow2")).count();
        assert_eq!(layers, check.layers_checked + to_be_removed, "{present:?}");
        let others = present.iter().map(|name| name.as_str()).filter(|name| !name.ends_with(".qcow2"));
        for other in others {
            assert!(OWN_FILES.contains(&other), "{other} is nobody's");
        }
        Ok(())
    }

    /// Whatever was left half done is finished, and nothing stays owed.
    fn end(&mut self) -> Outcome {
        self.log.push("end".into());
        (self.reclaim, self.readers) = (None, Vec::new());
        let (_, owed) = self.engine().reclaim(&ReclaimOptions::towards(Direction::Pull))?.finish()?;
        assert_eq!(owed, []);
        assert_eq!(self.engine().owed()?, []);
        Ok(())
    }
}

/// Runs the history of one seed; `judge` sees every state of it. Answers what was done.
pub(crate) fn run(home: Home, seed: u64, steps: usize, judge: Judge<'_>) -> Tally {
    replay(home, Dice::of(seed), &format!("seed {seed}"), steps, judge)
}

/// Runs the history that the dice tell, under the name by which it can be run again. Answers what was done.
pub(crate) fn replay(home: Home, dice: Dice, name: &str, steps: usize, judge: Judge<'_>) -> Tally {
    let mut history = History::begin(home, dice).expect("a pool is made");
    let result = catch_unwind(AssertUnwindSafe(|| -> Outcome {
        for _ in 0..steps {
            history.step()?;
            judge(&history.check()?)?;
            history.count("step");
        }
        history.end()?;
        judge(&history.check()?)
    }));
    if !matches!(result, Ok(Ok(()))) {
        panic!("{name}: {result:?} after\n{}", history.log.join("\n"));
    }
    history.tally
}

/// A number that whoever runs the tests may give.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
