//! Random histories of a machine, judged by QEMU: see `support/history`. After a tenth of the steps and at the end
//! each file of the pool passes `qemu-img check`, and each disk and each snapshot shows QEMU the bytes of the model.
//!
//! `SNAPGROUP_HISTORIES=n` runs n of them, `SNAPGROUP_SEED=n` begins with another one, `SNAPGROUP_STEPS=n` makes them
//! longer:
//! `cargo test --release --test interop_histories -- --ignored`.

#![cfg(target_os = "linux")]

#[path = "support/crowd.rs"]
mod crowd;
#[path = "support/dice.rs"]
mod dice;
#[path = "support/history/mod.rs"]
mod history;
#[path = "support/place.rs"]
mod place;
#[path = "support/qemu.rs"]
mod qemu;
#[path = "support/shown.rs"]
mod shown;

use crowd::crowd;
use dice::Dice;
use history::{Outcome, Picture, number, run};
use qemu::{Checked, Qemu};
use shown::assert_shows;
use snapgroup::storage::{DiskStore, Store};
use std::ops::Add;
use std::path::Path;
use std::sync::Arc;

/// How long a history is, unless `SNAPGROUP_STEPS` says otherwise.
const STEPS: u64 = 25;

fn steps() -> usize {
    usize::try_from(number("SNAPGROUP_STEPS", STEPS)).expect("a few steps")
}

/// How much QEMU was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Judged {
    states: usize,
    files: usize,
    chains: usize,
}

impl Add for Judged {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let (states, files) = (self.states + other.states, self.files + other.files);
        Self { states, files, chains: self.chains + other.chains }
    }
}

fn judge(directory: &Path, pictures: &[Picture]) -> Outcome<Judged> {
    let qemu = Qemu::in_directory(directory);
    let mut judged = Judged { states: 1, chains: pictures.len(), files: 0 };
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name().into_string().map_err(|_| "a name is text")?;
        if name.ends_with(".qcow2") {
            let (checked, said) = qemu.check(&name);
            assert_eq!(checked, Checked::Clean, "{name}: {said}");
            judged.files += 1;
        }
    }
    for picture in pictures {
        assert_shows(directory, &picture.file, &picture.bytes)?;
    }
    Ok(judged)
}

/// One history, with dice of its own for when it is judged: it is the same whether it is judged or not.
fn judged(seed: u64) -> Judged {
    let directory = place::directory(seed);
    let path = directory.path().to_owned();
    let home = path.clone();
    let store = move || -> Arc<dyn Store> { Arc::new(DiskStore::create(&home).expect("a pool")) };
    let (mut dice, mut states, mut all) = (Dice::of(seed), 0, Judged::default());
    run(Arc::new(store), seed, steps(), &mut |pictures| {
        states += 1;
        if dice.roll(10) == 0 || states > steps() {
            all = all + judge(&path, pictures)?;
        }
        Ok(())
    });
    all
}

#[test]
#[ignore = "needs qemu-img"]
#[expect(clippy::print_stdout, reason = "whoever runs many histories wants to know how much was judged")]
fn qemu_sees_histories_as_the_model_says() {
    let first = 1_000_000 + number("SNAPGROUP_SEED", 1);
    let seeds = first..first + number("SNAPGROUP_HISTORIES", 20);
    let all = crowd(seeds.clone(), judged);
    assert!(all.iter().all(|judged| judged.states > 0), "a history was not judged");
    println!("seeds {seeds:?}: {:?}", all.into_iter().fold(Judged::default(), Add::add));
}

#[test]
#[ignore = "needs qemu-img"]
fn qemu_finds_a_byte_that_differs_from_the_model() -> Outcome {
    let directory = tempfile::TempDir::new()?;
    let path = directory.path().to_owned();
    let store = move || -> Arc<dyn Store> { Arc::new(DiskStore::create(&path).expect("a pool")) };
    let mut noticed = false;
    run(Arc::new(store), 1, 1, &mut |pictures| {
        let Some(first) = pictures.first() else { return Ok(()) };
        let mut bytes = first.bytes.clone();
        bytes[0] ^= 1;
        let wrong = [Picture { of: first.of, file: first.file.clone(), bytes }];
        let judged = std::panic::catch_unwind(|| judge(directory.path(), &wrong).is_err());
        noticed = judged.unwrap_or(true);
        // What the judge was about to compare with stays when it panics.
        drop(std::fs::remove_file(directory.path().join("shown.raw")));
        Ok(())
    });
    assert!(noticed);
    Ok(())
}
