//! Random histories of a machine, judged by QEMU: see `support/history`. After a tenth of the steps each file of the
//! pool passes `qemu-img check`, and each disk and each snapshot shows QEMU the bytes of the model.
//!
//! `SNAPGROUP_HISTORIES=n` runs n of them, `SNAPGROUP_SEED=n` begins with another one, `SNAPGROUP_STEPS=n` makes them
//! longer:
//! `cargo test --release --test interop_histories -- --ignored`.

#![cfg(target_os = "linux")]

#[path = "support/dice.rs"]
mod dice;
#[path = "support/history/mod.rs"]
mod history;
#[path = "support/qemu.rs"]
mod qemu;
#[path = "support/shown.rs"]
mod shown;

use dice::Dice;
use history::{Outcome, Picture, number, run};
use qemu::{Checked, Qemu};
use shown::assert_shows;
use snapgroup::storage::{DiskStore, Store};
use std::path::Path;
use std::sync::Arc;

/// How long a history is, unless `SNAPGROUP_STEPS` says otherwise.
const STEPS: u64 = 25;

fn steps() -> usize {
    usize::try_from(number("SNAPGROUP_STEPS", STEPS)).expect("a few steps")
}

fn judge(directory: &Path, pictures: &[Picture]) -> Outcome {
    let qemu = Qemu::in_directory(directory);
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name().into_string().map_err(|_| "a name is text")?;
        if name.ends_with(".qcow2") {
            let (checked, said) = qemu.check(&name);
            assert_eq!(checked, Checked::Clean, "{name}: {said}");
        }
    }
    for picture in pictures {
        assert_shows(directory, &picture.file, &picture.bytes)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn qemu_sees_histories_as_the_model_says() {
    let first = 2_000_000 + number("SNAPGROUP_SEED", 1);
    for seed in first..first + number("SNAPGROUP_HISTORIES", 20) {
        let directory = tempfile::TempDir::new().expect("a directory");
        let path = directory.path().to_owned();
        let home = path.clone();
        let store = move || -> Arc<dyn Store> { Arc::new(DiskStore::create(&home).expect("a pool")) };
        // Dice of its own: a history is the same whether it is judged or not.
        let mut dice = Dice::of(seed);
        run(Arc::new(store), seed, steps(), &mut |pictures| match dice.roll(10) {
            0 => judge(&path, pictures),
            _ => Ok(()),
        });
    }
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
