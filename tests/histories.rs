//! Random histories of a machine, in memory and on disk: see `support/history`.
//!
//! `SNAPGROUP_HISTORIES=n` runs n of them in memory and a tenth as many on disk, `SNAPGROUP_SEED=n` begins with
//! another one, `SNAPGROUP_STEPS=n` makes them longer.

#[path = "support/dice.rs"]
mod dice;
#[path = "support/history/mod.rs"]
mod history;

use history::{Outcome, Picture, number, run};
use snapgroup::storage::{DiskStore, MemoryStore, Store};
use std::collections::BTreeSet;
use std::sync::Arc;

/// How long a history is, unless `SNAPGROUP_STEPS` says otherwise.
const STEPS: u64 = 25;

fn steps() -> usize {
    usize::try_from(number("SNAPGROUP_STEPS", STEPS)).expect("a few steps")
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
    let first = number("SNAPGROUP_SEED", 1);
    for seed in first..first + number("SNAPGROUP_HISTORIES", 200) {
        let memory = MemoryStore::new();
        run(Arc::new(move || Arc::new(memory.clone())), seed, steps(), &mut distinct);
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
