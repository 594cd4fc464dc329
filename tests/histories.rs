//! Random histories of a machine, in memory and on disk: see `support/history`.
//!
//! `SNAPGROUP_HISTORIES=n` runs n of them in memory, a tenth as many on disk and on a simulated one;
//! `SNAPGROUP_HISTORIES_ON_DISK=n` runs more on disk. `SNAPGROUP_SEED=n` begins with another one, `SNAPGROUP_STEPS=n`
//! makes them longer. With `--nocapture` it is printed how often each thing was done, and what came of it.

#[path = "support/crowd.rs"]
mod crowd;
#[path = "support/dice.rs"]
mod dice;
#[path = "support/history/mod.rs"]
mod history;
#[path = "support/place.rs"]
mod place;

use crowd::crowd;
use history::{Outcome, Picture, Tally, number, run};
use snapgroup::storage::{DiskOptions, DiskStore, FileSystem, MemoryStore, SimulatedDisk, Store};
use snapgroup::watch_order;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// How long a history is, unless `SNAPGROUP_STEPS` says otherwise.
const STEPS: u64 = 25;

fn steps() -> usize {
    usize::try_from(number("SNAPGROUP_STEPS", STEPS)).expect("a few steps")
}

/// What histories must do, however each kind of thing is named by the tally, apart from deletions.
const DONE: [&str; 35] = [
    "create volume",
    "write",
    "write zeros",
    "discard",
    "snapshot",
    "snapshot in full",
    "group",
    "group in full",
    "revert volume, GivenUp",
    "revert volume, Kept",
    "revert group, Strict, GivenUp",
    "revert group, Strict, Kept",
    "revert group, Matching, GivenUp",
    "revert group, Matching, Kept",
    "undo of a volume",
    "undo of a group",
    "detach",
    "attach",
    "resize",
    "ungroup",
    "clone",
    "clone of another size",
    "adopt",
    "import alone",
    "import above a snapshot",
    "hold",
    "release",
    "reclaim auto",
    "reclaim pull",
    "reclaim commit",
    "reclaim: more",
    "reclaim: done",
    "reopen, closed: true",
    "reopen, closed: false",
    "reopen, amid a reclaim",
];

/// What must come of it at least once.
const OUTCOMES: [&str; 22] = [
    "a deletion writes to the files that its plan names",
    "an open disk is left as it is",
    "revert group, Strict: refused",
    "revert group, Matching: refused",
    "revert group, Matching: a member stays",
    "revert group: a disk of the machine stays",
    "reopen, disks open",
    "reopen, snapshots open",
    "delete snapshots, Permissive, AllOrNone: all go",
    "delete snapshots, Permissive, AllOrNone: refused",
    "delete snapshots, Permissive, EachOnItsOwn: refused",
    "delete snapshots, Permissive, EachOnItsOwn: some go",
    "delete group, Permissive, AllOrNone: all go",
    "delete group, Permissive, AllOrNone: refused",
    "delete group, Permissive, EachOnItsOwn: some go",
    "delete group, Permissive, AllOrNone: the rest goes",
    "delete group, Enforcing, AllOrNone: all go",
    "delete snapshots: a group goes",
    "delete group: a group goes",
    "delete volume, Permissive: refused",
    "delete volume, Permissive: gone",
    "delete volume, Enforcing: gone",
];

/// Sees that many histories together have done everything.
fn assert_complete(tally: &Tally) {
    let mut deletions = Vec::new();
    for of in ["snapshots", "group"] {
        for mode in ["Permissive", "Enforcing"] {
            for scope in ["Single", "Chain"] {
                for direction in ["Auto", "Pull", "Commit"] {
                    deletions.push(format!("delete {of}, {mode}, {scope}, {direction}"));
                }
            }
        }
    }
    for name in DONE.into_iter().chain(OUTCOMES).chain(deletions.iter().map(String::as_str)) {
        assert!(tally.contains_key(name), "no history has this: {name}\n{tally:#?}");
    }
}

/// Each disk and each snapshot has a file of its own.
fn distinct(pictures: &[Picture]) -> Outcome {
    let files: BTreeSet<&str> = pictures.iter().map(|picture| picture.file.as_str()).collect();
    assert_eq!(files.len(), pictures.len());
    assert!(pictures.iter().all(|picture| !picture.bytes.is_empty()));
    Ok(())
}

/// One history on disk.
fn on_disk(seed: u64) -> Tally {
    let directory = place::directory(seed);
    let path = directory.path().to_owned();
    let store = move || -> Arc<dyn Store> {
        Arc::new(DiskStore::create_with(&path, DiskOptions::new().with_descriptors_max(3)).expect("a pool"))
    };
    run(Arc::new(store), seed, steps(), &mut distinct)
}

/// What was done is printed, and is everything that there is to do.
#[expect(clippy::print_stdout, reason = "whoever runs many histories wants to know what they were")]
fn judge(what: &str, seeds: &Range<u64>, tallies: Vec<Tally>) {
    let mut tally = Tally::new();
    for (name, count) in tallies.into_iter().flatten() {
        *tally.entry(name).or_default() += count;
    }
    println!("{what}, seeds {seeds:?}:");
    tally.iter().for_each(|(name, count)| println!("{count:8} {name}"));
    if seeds.end - seeds.start >= 1000 && steps() as u64 >= STEPS {
        assert_complete(&tally);
    }
}

#[test]
fn histories_in_memory_read_as_the_model_says() {
    let first = number("SNAPGROUP_SEED", 1);
    let seeds = first..first + number("SNAPGROUP_HISTORIES", 200);
    let in_memory = |seed| {
        let memory = MemoryStore::new();
        run(Arc::new(move || Arc::new(memory.clone())), seed, steps(), &mut distinct)
    };
    judge("in memory", &seeds, crowd(seeds.clone(), in_memory));
}

#[test]
fn histories_on_disk_read_as_the_model_says() {
    let first = 1_000_000 + number("SNAPGROUP_SEED", 1);
    let count = number("SNAPGROUP_HISTORIES_ON_DISK", number("SNAPGROUP_HISTORIES", 200).div_ceil(10));
    let seeds = first..first + count;
    judge("on disk", &seeds, crowd(seeds.clone(), on_disk));
}

#[test]
fn histories_on_a_simulated_disk_break_no_order_of_writes() {
    let first = 2_000_000 + number("SNAPGROUP_SEED", 1);
    let seeds = first..first + number("SNAPGROUP_HISTORIES", 200).div_ceil(10);
    crowd(seeds, |seed| {
        let disk = SimulatedDisk::new(FileSystem::Strict);
        let home = disk.clone();
        run(Arc::new(move || Arc::new(home.clone())), seed, steps(), &mut distinct);
        assert_eq!(watch_order(&disk.log()), [], "seed {seed}");
    });
}
