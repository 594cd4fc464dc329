//! Random histories of a machine, in memory and on disk: see `support/history`.
//!
//! `SNAPGROUP_HISTORIES=n` runs n of them in memory, a tenth as many on disk and on a simulated one, `SNAPGROUP_SEED=n` begins with
//! another one, `SNAPGROUP_STEPS=n` makes them longer.

#[path = "support/dice.rs"]
mod dice;
#[path = "support/history/mod.rs"]
mod history;

use history::{Outcome, Picture, number, run};
use snapgroup::storage::{DiskStore, FileSystem, MemoryStore, SimulatedDisk, Store};
use snapgroup::watch_order;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How long a history is, unless `SNAPGROUP_STEPS` says otherwise.
const STEPS: u64 = 25;

fn steps() -> usize {
    usize::try_from(number("SNAPGROUP_STEPS", STEPS)).expect("a few steps")
}

/// What a history must be able to do, as it is logged.
const STEPS_OF_EACH_KIND: [&str; 24] = [
    "write",
    "snapshot",
    "in full",
    "group",
    "delete DeleteSnapshots",
    "delete DeleteGroup",
    "delete disk",
    "revert RevertVolume",
    "revert RevertGroup",
    "undo",
    "reclaim auto",
    "reclaim pull",
    "reclaim commit",
    "the reclaim is done",
    "held true",
    "held false",
    "reopen, closed: true",
    "reopen, closed: false",
    "clone",
    "adopt",
    "import alone",
    "import above",
    "ungroup",
    "stays open",
];

/// Sees that many histories together have done everything.
fn assert_complete(log: &[String]) {
    for step in STEPS_OF_EACH_KIND {
        assert!(log.iter().any(|line| line.contains(step)), "no history has this: {step}");
    }
    for state in ["attached: true", "attached: false", "grows to"] {
        assert!(log.iter().any(|line| line.contains(state)), "no disk {state}");
    }
    for mode in ["mode: Permissive", "mode: Enforcing"] {
        for scope in ["scope: Single", "scope: Chain"] {
            for direction in ["direction: Auto", "direction: Pull", "direction: Commit"] {
                let words = ["delete Delete", mode, scope, direction];
                let is_there = log.iter().any(|line| words.iter().all(|word| line.contains(word)));
                assert!(is_there, "no deletion has {mode}, {scope}, {direction}");
            }
        }
    }
}

/// Each disk and each snapshot has a file of its own.
fn distinct(pictures: &[Picture]) -> Outcome {
    let files: BTreeSet<&str> = pictures.iter().map(|picture| picture.file.as_str()).collect();
    assert_eq!(files.len(), pictures.len());
    assert!(pictures.iter().all(|picture| !picture.bytes.is_empty()));
    Ok(())
}

#[test]
fn histories_in_memory_read_as_the_model_says() {
    let (first, count) = (number("SNAPGROUP_SEED", 1), number("SNAPGROUP_HISTORIES", 200));
    let mut log = Vec::new();
    for seed in first..first + count {
        let memory = MemoryStore::new();
        log.extend(run(Arc::new(move || Arc::new(memory.clone())), seed, steps(), &mut distinct));
    }
    if count >= 100 && steps() as u64 >= STEPS {
        assert_complete(&log);
    }
}

#[test]
fn histories_on_disk_read_as_the_model_says() {
    let first = 1_000_000 + number("SNAPGROUP_SEED", 1);
    for seed in first..first + number("SNAPGROUP_HISTORIES", 200).div_ceil(10) {
        let directory = tempfile::TempDir::new().expect("a directory");
        let path = directory.path().to_owned();
        let store = move || -> Arc<dyn Store> { Arc::new(DiskStore::create(&path).expect("a pool")) };
        run(Arc::new(store), seed, steps(), &mut distinct);
    }
}

#[test]
fn histories_on_a_simulated_disk_break_no_order_of_writes() {
    let first = 2_000_000 + number("SNAPGROUP_SEED", 1);
    for seed in first..first + number("SNAPGROUP_HISTORIES", 200).div_ceil(10) {
        let disk = SimulatedDisk::new(FileSystem::Strict);
        let home = disk.clone();
        run(Arc::new(move || Arc::new(home.clone())), seed, steps(), &mut distinct);
        assert_eq!(watch_order(&disk.log()), [], "seed {seed}");
    }
}
