//! A process that takes groups, deletes, reclaims and reverts is killed (SIGKILL) at random, again and again, on one
//! pool on disk; after each kill what it had said is done is there, and what it had only begun is there wholly or not
//! at all.
//!
//! The child says on its standard output what it begins and what has returned, a line each. The parent reads some of
//! the lines and kills it wherever it then is. `SNAPGROUP_KILLS=n` kills n times, `SNAPGROUP_SEED=n` begins with
//! another seed; both are printed. `SNAPGROUP_KILL_POOL=DIR` works in a new directory there, and `SNAPGROUP_KILL_HOOK`
//! names a program that is run as `program cut` in place of the kill and as `program back` after it: the scripts beside
//! this file cut the power of a file system with it. `SNAPGROUP_KILL_KEEP=DIR` keeps the pool as the last two kills left
//! it there: what a disk that differs is explained from.
#![cfg(target_os = "linux")]

mod support {
    pub(crate) mod dice;
}

use serde::{Deserialize, Serialize};
use snapgroup::query::Query;
use snapgroup::{
    ByteCount, CreateGroup, CreateMachine, CreateVolume, DeleteGroup, DeleteMode, DeleteSnapshots, Direction,
    Engine, Kind, Options, ReclaimOptions, RevertGroup, Step, Uuid, When,
};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use support::dice::Dice;
use tempfile::TempDir;

type Outcome = Result<(), Box<dyn Error>>;
type Made<T> = Result<T, Box<dyn Error>>;

/// Tells a child which pool to work on, and with which seed.
const CHILD: &str = "SNAPGROUP_TEST_KILL";
/// The size of a disk: small clusters make many tables of it.
const SIZE: usize = 96 << 10;
const DISKS: usize = 3;
/// More groups than this are not kept.
const GROUPS_MAX: usize = 6;
/// Where the pool is kept as the last two kills left it.
const KEEP: &str = "SNAPGROUP_KILL_KEEP";
/// What is run in place of a kill.
const HOOK: &str = "SNAPGROUP_KILL_HOOK";
/// Kills, unless said otherwise.
const KILLS: u64 = 60;

/// What a child does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Deed {
    Write { disk: usize, at: usize, length: usize, byte: u8 },
    Take { group: Uuid },
    Delete { group: Uuid, enforcing: bool },
    DeleteMember { snapshot: Uuid },
    Revert { group: Uuid },
    Reclaim { towards: usize },
}

/// What a child says.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    Begun(Deed),
    Done,
    /// A group is there, with these snapshots.
    Taken(Vec<Uuid>),
    /// The call was refused: nothing has happened.
    Refused,
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

/// Works until it is killed.
fn child(pool: &Path, seed: u64) -> Outcome {
    let mut dice = Dice::of(seed);
    let engine = Engine::open(pool, options())?;
    let (machine, disks) = disks_of(&engine)?;
    let say = |said: &Said| -> Outcome {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(said)?)?;
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
            engine.delete_group(&DeleteGroup { mode, reclaim, ..DeleteGroup::new(group) })?;
            return is_gone(engine.group(group).map(drop));
        }
        Deed::DeleteMember { snapshot } => {
            engine.delete_snapshots(&DeleteSnapshots {
                reclaim: When::Later,
                ..DeleteSnapshots::one(snapshot)
            })?;
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
struct Model {
    disks: Vec<Vec<u8>>,
    /// The disk and the bytes of each member of each group, by its snapshot.
    groups: BTreeMap<Uuid, BTreeMap<Uuid, (usize, Vec<u8>)>>,
}

impl Model {
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

/// Lets a child work, kills it, and holds what is there to what must be.
fn one_kill(pool: &Path, model: &mut Model, seed: u64, dice: &mut Dice) -> Made<&'static str> {
    let mut child = Command::new(std::env::current_exe()?)
        .args([
            "--exact",
            "what_was_done_outlives_a_kill_and_what_was_begun_is_whole_or_absent",
            "--nocapture",
        ])
        .env(CHILD, format!("{seed}:{}", pool.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("piped")?).lines();
    let wanted = 1 + dice.roll(40);
    let mut said = Vec::new();
    while said.len() < wanted
        && let Some(line) = lines.next()
    {
        said.extend(serde_json::from_str::<Said>(&line?));
    }
    // Wherever it is by then: a little later than its last line.
    for _ in 0..dice.roll(400_000) {
        std::hint::spin_loop();
    }
    let hook = std::env::var_os(HOOK);
    run_hook(hook.as_deref(), "cut")?;
    child.kill()?;
    said.extend(lines.map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok()));
    let output = child.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    // A disk that is cut off fails calls, and the child ends by itself.
    let ended = hook.is_some() || output.status.code().is_none();
    assert!(ended && !complaint.contains("panicked at src/"), "the child failed: {complaint}");
    run_hook(hook.as_deref(), "back")?;
    if let Some(directory) = std::env::var_os(KEEP) {
        keep(pool, Path::new(&directory), &said)?;
    }
    judge(pool, model, &said)
}

/// Keeps the pool as the kill left it, with what the child had said, beside the one of the kill before.
fn keep(pool: &Path, directory: &Path, said: &[Said]) -> Outcome {
    let (before, last) = (directory.join("before"), directory.join("last"));
    if last.exists() {
        drop(std::fs::remove_dir_all(&before));
        std::fs::rename(&last, &before)?;
    }
    std::fs::create_dir_all(&last)?;
    for entry in std::fs::read_dir(pool)? {
        let entry = entry?;
        std::fs::copy(entry.path(), last.join(entry.file_name()))?;
    }
    let lines: Vec<String> = said.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    Ok(std::fs::write(directory.join("said"), lines.join("\n"))?)
}

fn run_hook(hook: Option<&OsStr>, what: &str) -> Outcome {
    let Some(hook) = hook else { return Ok(()) };
    let status = Command::new(hook).arg(what).status()?;
    if status.success() { Ok(()) } else { Err(format!("{} {what}: {status}", hook.display()).into()) }
}

fn judge(pool: &Path, model: &mut Model, said: &[Said]) -> Made<&'static str> {
    let engine = Engine::open(pool, options())?;
    let (_, volumes) = disks_of(&engine)?;
    let check = engine.check()?;
    assert!(check.is_sound() && check.unnamed.is_empty(), "{check:?}");
    let mut contents = Vec::new();
    for volume in &volumes {
        let volume = engine.open_volume(*volume)?;
        contents.push(read_all(|at, buffer| volume.read_at(at, buffer))?);
    }

    // What has returned, one deed after the other; and the one that was under way.
    let mut under_way = None;
    for line in said {
        match (line, under_way.take()) {
            (Said::Begun(deed), None) => under_way = Some(deed.clone()),
            (Said::Done, Some(deed)) => model.follow(&deed),
            (Said::Taken(members), Some(Deed::Take { group })) => model.took(group, members),
            (Said::Refused, Some(_)) => {}
            (line, deed) => panic!("the child says {line:?} of {deed:?}"),
        }
    }
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

#[test]
#[expect(clippy::print_stderr, reason = "the seed and the counts of a random test are printed")]
fn what_was_done_outlives_a_kill_and_what_was_begun_is_whole_or_absent() -> Outcome {
    if let Ok(told) = std::env::var(CHILD) {
        let (seed, pool) = told.split_once(':').ok_or("a seed and a path")?;
        println!();
        return child(Path::new(pool), seed.parse()?);
    }
    let number = |name: &str, default: u64| -> Made<u64> {
        Ok(std::env::var(name).ok().map(|text| text.parse()).transpose()?.unwrap_or(default))
    };
    let (kills, seed) = (number("SNAPGROUP_KILLS", KILLS)?, number("SNAPGROUP_SEED", 1)?);
    eprintln!("SNAPGROUP_KILLS={kills} SNAPGROUP_SEED={seed}");
    let directory = match std::env::var_os("SNAPGROUP_KILL_POOL") {
        None => TempDir::new()?,
        Some(parent) => TempDir::new_in(parent)?,
    };
    let pool = directory.path().join("pool");
    let engine = Engine::open(&pool, options())?;
    let machine = engine.create_machine(&CreateMachine::new("vm"))?.uuid;
    for index in 0..DISKS {
        let wish = CreateVolume::new(format!("d{index}"), ByteCount::of(SIZE));
        engine.attach_volume(engine.create_volume(&wish)?.uuid, machine, None)?;
    }
    engine.close()?;
    let mut model = Model { disks: vec![vec![0; SIZE]; DISKS], groups: BTreeMap::new() };
    let mut dice = Dice::of(seed);
    let mut endings: BTreeMap<&str, usize> = BTreeMap::new();
    for kill in 0..kills {
        let ending = one_kill(&pool, &mut model, seed.wrapping_mul(1_000_003).wrapping_add(kill), &mut dice)?;
        *endings.entry(ending).or_default() += 1;
    }
    eprintln!("{kills} kills: {endings:?}");
    Ok(())
}
