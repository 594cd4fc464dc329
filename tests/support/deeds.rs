//! A process that writes, takes groups, deletes, reverts and reclaims in a pool on disk and says so, and what must be
//! found in the pool wherever that process was stopped.

use super::dice::Dice;
use serde::{Deserialize, Serialize};
use snapgroup::query::Query;
use snapgroup::{
    ByteCount, CreateGroup, CreateMachine, CreateVolume, DeleteGroup, DeleteMode, DeleteSnapshots, Direction,
    Engine, Kind, Options, ReclaimOptions, RevertGroup, Step, Uuid, When,
};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::Write;
use std::path::Path;

pub(crate) type Outcome = Result<(), Box<dyn Error>>;
pub(crate) type Made<T> = Result<T, Box<dyn Error>>;

/// Tells a child which pool to work on, and with which seed.
pub(crate) const CHILD: &str = "SNAPGROUP_TEST_KILL";
/// The log of the device that the pool is on: a child says with each line how long it is by then.
pub(crate) const LOG: &str = "SNAPGROUP_TEST_LOG";
/// The size of a disk: small clusters make many tables of it.
const SIZE: usize = 96 << 10;
const DISKS: usize = 3;
/// More groups than this are not kept.
const GROUPS_MAX: usize = 6;

/// What a child does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Deed {
    Write { disk: usize, at: usize, length: usize, byte: u8 },
    Take { group: Uuid },
    Delete { group: Uuid, enforcing: bool },
    DeleteMember { snapshot: Uuid },
    Revert { group: Uuid },
    Reclaim { towards: usize },
}

/// What a child says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    Begun(Deed),
    Done,
    /// A group is there, with these snapshots.
    Taken(Vec<Uuid>),
    /// The call was refused: nothing has happened.
    Refused,
}

/// A line of a child.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) said: Said,
    /// The bytes of the device's log by then; 0 without one.
    pub(crate) logged: u64,
}

fn options() -> Options {
    Options { cluster_bits: 9, chain_max: 30, ..Options::default() }
}

/// The disks, in the order of their device ids.
fn disks_of(engine: &Engine) -> Made<(Uuid, Vec<Uuid>)> {
    let machines = engine.query_machines(&Query::all())?;
    let machine = machines.items.first().ok_or("a machine")?;
    Ok((machine.uuid, machine.all_volumes.iter().map(|volume| volume.uuid).collect()))
}

/// Makes the pool that a child works on.
pub(crate) fn prepare(pool: &Path) -> Made<Model> {
    let engine = Engine::open(pool, options())?;
    let machine = engine.create_machine(&CreateMachine::new("vm"))?.uuid;
    for index in 0..DISKS {
        let wish = CreateVolume::new(format!("d{index}"), ByteCount::of(SIZE));
        engine.attach_volume(engine.create_volume(&wish)?.uuid, machine, None)?;
    }
    engine.close()?;
    Ok(Model::new())
}

/// Works until it is killed, when this process was started as a child: `told` is what it was told.
pub(crate) fn child(told: &str) -> Outcome {
    let (seed, pool) = told.split_once(':').ok_or("a seed and a path")?;
    println!();
    work(Path::new(pool), seed.parse()?)
}

fn work(pool: &Path, seed: u64) -> Outcome {
    let log = std::env::var_os(LOG);
    let mut dice = Dice::of(seed);
    let engine = Engine::open(pool, options())?;
    let (machine, disks) = disks_of(&engine)?;
    let say = |said: &Said| -> Outcome {
        let mut out = std::io::stdout().lock();
        // What has returned is in the log by now.
        let logged = log.as_ref().map_or(Ok(0), |log| std::fs::metadata(log).map(|found| found.len()))?;
        writeln!(out, "{}", serde_json::to_string(&Line { said: said.clone(), logged })?)?;
        Ok(out.flush()?)
    };
    loop {
        let groups: Vec<Uuid> =
            engine.query_groups(&Query::all())?.items.iter().map(|group| group.uuid).collect();
        let deed = choose(&engine, &groups, &mut dice)?;
        say(&Said::Begun(deed.clone()))?;
        say(&perform(&engine, machine, &disks, &deed, &mut dice)?)?;
    }
}

fn choose(engine: &Engine, groups: &[Uuid], dice: &mut Dice) -> Made<Deed> {
    let deed = match dice.roll(12) {
        _ if groups.len() > GROUPS_MAX => {
            Deed::Delete { group: groups[dice.roll(groups.len())], enforcing: true }
        }
        0..=5 => {
            let at = dice.roll(SIZE - 1);
            let length = 1 + dice.roll((SIZE - at).min(9000));
            let byte = u8::try_from(1 + dice.roll(63))?;
            Deed::Write { disk: dice.roll(DISKS), at, length, byte }
        }
        6 | 7 => {
            let mut random = || u128::try_from(dice.roll(usize::MAX >> 1));
            // As a random uuid has it: version 4, variant 1.
            let uuid = (random()? << 80 | random()? << 40 | random()?) & !(0xf << 76) & !(0x3 << 62);
            Deed::Take { group: Uuid::from_u128(uuid | 0x4 << 76 | 0x2 << 62) }
        }
        8 if !groups.is_empty() => {
            Deed::Delete { group: groups[dice.roll(groups.len())], enforcing: dice.roll(2) == 0 }
        }
        9 if !groups.is_empty() => {
            let group = engine.group(groups[dice.roll(groups.len())])?;
            let members = group.volume_snapshot_refs;
            Deed::DeleteMember { snapshot: members[dice.roll(members.len())].volume_snapshot_uuid }
        }
        10 if !groups.is_empty() => Deed::Revert { group: groups[dice.roll(groups.len())] },
        _ => Deed::Reclaim { towards: dice.roll(3) },
    };
    Ok(deed)
}

fn perform(engine: &Engine, machine: Uuid, disks: &[Uuid], deed: &Deed, dice: &mut Dice) -> Made<Said> {
    match *deed {
        Deed::Write { disk, at, length, byte } => {
            let volume = engine.open_volume(disks[disk])?;
            volume.write_at(at as u64, &vec![byte; length])?;
            volume.flush()?;
        }
        Deed::Take { group } => {
            let request =
                CreateGroup { resource_uuid: Some(group.into()), ..CreateGroup::of_machine(machine, "g") };
            // A chain may be as long as it can be; then there is no group, and that is in order.
            let taken = match engine.create_group(&request) {
                Err(error) if error.kind() == Kind::Refused => return Ok(Said::Refused),
                taken => taken?,
            };
            let members = taken.inventory.volume_snapshot_refs;
            return Ok(Said::Taken(members.iter().map(|member| member.volume_snapshot_uuid).collect()));
        }
        Deed::Delete { group, enforcing } => {
            let mode = if enforcing { DeleteMode::Enforcing } else { DeleteMode::Permissive };
            let reclaim = if dice.roll(2) == 0 { When::Later } else { When::Now };
            assert!(
                engine.delete_group(&DeleteGroup { mode, reclaim, ..DeleteGroup::new(group) })?.is_success()
            );
            return is_gone(engine.group(group).map(drop));
        }
        Deed::DeleteMember { snapshot } => {
            assert!(
                engine
                    .delete_snapshots(&DeleteSnapshots {
                        reclaim: When::Later,
                        ..DeleteSnapshots::one(snapshot)
                    })?
                    .is_success()
            );
            return is_gone(engine.snapshot(snapshot).map(drop));
        }
        Deed::Revert { group } => {
            // A group of which a member is gone is refused. After any other error nobody knows whether it took place.
            match engine.revert_group(&RevertGroup::new(group)) {
                Err(error) if error.kind() == Kind::Refused => return Ok(Said::Refused),
                reverted => drop(reverted?),
            }
        }
        Deed::Reclaim { towards } => {
            let direction = [Direction::Auto, Direction::Pull, Direction::Commit][towards];
            let mut reclaim = engine.reclaim(&ReclaimOptions::towards(direction))?;
            while reclaim.step(ByteCount::new(3000))? == Step::More {}
        }
    }
    Ok(Said::Done)
}

/// What to say of a deletion, by what is found when it is asked for.
fn is_gone(found: snapgroup::Result<()>) -> Made<Said> {
    match found {
        Ok(()) => Ok(Said::Refused),
        Err(error) if error.kind() == Kind::Refused => Ok(Said::Done),
        Err(error) => Err(error.into()),
    }
}

/// What must be there.
#[derive(Clone)]
pub(crate) struct Model {
    disks: Vec<Vec<u8>>,
    /// The disk and the bytes of each member of each group, by its snapshot.
    groups: BTreeMap<Uuid, BTreeMap<Uuid, (usize, Vec<u8>)>>,
}

impl Model {
    /// What is there before the first deed.
    pub(crate) fn new() -> Self {
        Self { disks: vec![vec![0; SIZE]; DISKS], groups: BTreeMap::new() }
    }

    /// Follows a deed that took place.
    fn follow(&mut self, deed: &Deed) {
        match deed {
            Deed::Write { disk, at, length, byte } => self.disks[*disk][*at..at + length].fill(*byte),
            Deed::Delete { group, .. } => drop(self.groups.remove(group)),
            Deed::DeleteMember { snapshot } => {
                self.groups.values_mut().for_each(|members| drop(members.remove(snapshot)));
                // A group without a living member goes.
                self.groups.retain(|_, members| !members.is_empty());
            }
            Deed::Revert { group } => self.disks = self.content_of(*group),
            Deed::Take { .. } | Deed::Reclaim { .. } => {}
        }
    }

    /// Follows what has returned, one deed after the other; answers the one that was under way.
    pub(crate) fn follow_all(&mut self, said: &[Said]) -> Option<Deed> {
        let mut under_way = None;
        for line in said {
            match (line, under_way.take()) {
                (Said::Begun(deed), None) => under_way = Some(deed.clone()),
                (Said::Done, Some(deed)) => self.follow(&deed),
                (Said::Taken(members), Some(Deed::Take { group })) => self.took(group, members),
                (Said::Refused, Some(_)) => {}
                (line, deed) => panic!("the child says {line:?} of {deed:?}"),
            }
        }
        under_way
    }

    /// A group was taken: its members hold what the disks hold now.
    fn took(&mut self, group: Uuid, members: &[Uuid]) {
        assert_eq!(members.len(), DISKS, "half a group");
        let contents = self.disks.iter().cloned().enumerate();
        self.groups.insert(group, members.iter().copied().zip(contents).collect());
    }

    fn content_of(&self, group: Uuid) -> Vec<Vec<u8>> {
        let mut contents = vec![Vec::new(); DISKS];
        self.groups[&group].values().for_each(|(disk, bytes)| contents[*disk].clone_from(bytes));
        contents
    }
}

fn read_all(read_at: impl Fn(u64, &mut [u8]) -> snapgroup::Result<()>) -> Made<Vec<u8>> {
    let mut bytes = vec![0; SIZE];
    read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// Opens the pool, and holds what is there to the model and to what a child has said since; the model then says what was
/// found. Answers what was under way.
pub(crate) fn judge(pool: &Path, model: &mut Model, said: &[Said]) -> Made<&'static str> {
    let engine = Engine::open(pool, options())?;
    let (_, volumes) = disks_of(&engine)?;
    let check = engine.check()?;
    assert!(check.is_sound() && check.unnamed.is_empty(), "{check:?}");
    let mut contents = Vec::new();
    for volume in &volumes {
        let volume = engine.open_volume(*volume)?;
        contents.push(read_all(|at, buffer| volume.read_at(at, buffer))?);
    }

    let under_way = model.follow_all(said);
    let ending = match &under_way {
        None => "between two deeds",
        Some(Deed::Write { disk, at, length, byte }) => {
            // Byte by byte the old one or the new one.
            let range = *at..at + length;
            for (old, found) in model.disks[*disk][range.clone()].iter_mut().zip(&contents[*disk][range]) {
                if found == byte {
                    *old = *byte;
                }
            }
            "in a write"
        }
        Some(Deed::Take { group }) => {
            if let Ok(found) = engine.group(*group) {
                let members = found.volume_snapshot_refs.iter();
                model.took(*group, &members.map(|member| member.volume_snapshot_uuid).collect::<Vec<_>>());
            }
            "in a group"
        }
        Some(deed @ Deed::Delete { group, .. }) => {
            if engine.group(*group).is_err() {
                model.follow(deed);
            }
            "in a deletion"
        }
        Some(deed @ Deed::DeleteMember { snapshot }) => {
            if engine.snapshot(*snapshot).is_err() {
                model.follow(deed);
            }
            "in the deletion of a member"
        }
        Some(deed @ Deed::Revert { group }) => {
            // All disks or none.
            if contents != model.disks && model.groups[group].len() == DISKS {
                model.follow(deed);
            }
            "in a revert"
        }
        Some(Deed::Reclaim { .. }) => "in a reclaim",
    };
    hold_to(&engine, model, &contents)?;
    engine.close()?;
    Ok(ending)
}

fn hold_to(engine: &Engine, model: &Model, contents: &[Vec<u8>]) -> Outcome {
    for (index, (disk, found)) in model.disks.iter().zip(contents).enumerate() {
        let differs = disk.iter().zip(found).position(|(expected, found)| expected != found);
        let until = disk.iter().zip(found).rposition(|(expected, found)| expected != found);
        assert_eq!((differs, until), (None, None), "disk {index} is not what was written to it");
    }
    let found: BTreeSet<Uuid> =
        engine.query_groups(&Query::all())?.items.iter().map(|group| group.uuid).collect();
    assert_eq!(
        found,
        model.groups.keys().copied().collect(),
        "the groups are not those that were taken and kept"
    );
    for (snapshot, (_, bytes)) in model.groups.values().flatten() {
        let snapshot = engine.open_snapshot(*snapshot)?;
        assert!(read_all(|at, buffer| snapshot.read_at(at, buffer))? == *bytes, "a snapshot changed");
    }
    let living = engine.query_snapshots(&Query::all())?.total;
    assert_eq!(living, model.groups.values().map(BTreeMap::len).sum::<usize>(), "snapshots of no group");
    Ok(())
}
