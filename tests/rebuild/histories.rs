//! After any history, at any moment of it, the catalogue is lost.

use super::history::{self, Of, Picture, number, run};
use super::support::{
    CATALOGUE, Outcome, content_of_snapshot, content_of_volume, files, lose_and_rebuild, options,
};
use snapgroup::query::Query;
use snapgroup::storage::{DiskStore, MemoryStore, Store};
use snapgroup::{Direction, Engine, Proof, ReclaimOptions, Uuid};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

fn steps() -> usize {
    usize::try_from(number("SNAPGROUP_STEPS", 25)).expect("a few steps")
}

/// The last byte of log2 of the cluster size in a header.
const CLUSTER_BITS: usize = 23;

/// What every snapshot of a history has held that was ever seen, deleted ones, too.
type Ever = BTreeMap<Uuid, Vec<u8>>;

fn remember(ever: &mut Ever, pictures: &[Picture]) {
    for picture in pictures {
        if let Of::Snapshot(uuid) = picture.of {
            ever.insert(uuid, picture.bytes.clone());
        }
    }
}

/// Loses the catalogue of a copy of the pool; everything that was there is there again, and nothing else is believed.
fn lose(store: Arc<dyn Store>, pictures: &[Picture], ever: &Ever) -> Outcome {
    if files(&*store)?.is_empty() {
        // Every volume was deleted: nothing is left that could tell of the pool.
        return Ok(());
    }
    let rebuilt = lose_and_rebuild(&*store)?;
    let before = files(&*store)?;
    let engine = Engine::open_on(Arc::clone(&store), options(901))?;
    assert!(before == files(&*store)?, "opening what was rebuilt has changed a file: {rebuilt:#?}");
    for end in [false, true] {
        if end {
            engine.reclaim(&ReclaimOptions::towards(Direction::Commit))?.finish()?;
        }
        for picture in pictures {
            match picture.of {
                Of::Disk(uuid) => {
                    assert!(content_of_volume(&engine, uuid)? == picture.bytes, "{uuid}: {rebuilt:#?}");
                }
                Of::Snapshot(uuid) => {
                    let claimed = rebuilt.snapshots.iter().find(|snapshot| snapshot.uuid == uuid);
                    let in_its_file = rebuilt.snapshots.iter().find(|snapshot| snapshot.file == picture.file);
                    let listed = claimed.or(in_its_file);
                    let listed = listed.unwrap_or_else(|| panic!("{uuid} has not come back: {rebuilt:#?}"));
                    assert!(
                        content_of_snapshot(&engine, listed.uuid)? == picture.bytes,
                        "{uuid}: {rebuilt:#?}"
                    );
                    // In a header of 512 bytes there is room for what is below, and for no more.
                    let has_room = before[&picture.file][CLUSTER_BITS] > 9;
                    assert!(listed.proof == Proof::Claimed || !has_room, "{uuid} has no name: {rebuilt:#?}");
                }
            }
        }
        for snapshot in &rebuilt.snapshots {
            let content = content_of_snapshot(&engine, snapshot.uuid)?;
            if snapshot.proof == Proof::Claimed
                && let Some(expected) = ever.get(&snapshot.uuid)
            {
                assert!(content == *expected, "{} came back as another one: {rebuilt:#?}", snapshot.uuid);
            }
        }
        let check = engine.check()?;
        assert!(check.is_sound(), "{check:#?}\n{rebuilt:#?}");
        let left: BTreeSet<&str> = rebuilt.files_left.iter().map(|left| left.file.as_str()).collect();
        assert!(check.unnamed.iter().all(|file| left.contains(file.as_str())), "{check:#?}\n{rebuilt:#?}");
        assert_eq!(engine.query_snapshots(&Query::default())?.items.len(), rebuilt.snapshots.len());
    }
    Ok(engine.close()?)
}

fn judge(
    pictures: &[Picture],
    ever: &mut Ever,
    copy: &dyn Fn() -> Outcome<Arc<dyn Store>>,
) -> history::Outcome {
    remember(ever, pictures);
    lose(copy()?, pictures, ever)
}

#[test]
fn at_any_moment_of_a_history_in_memory_what_was_there_comes_back_and_nothing_else_is_believed() {
    let first = number("SNAPGROUP_SEED", 1);
    for seed in first..first + number("SNAPGROUP_HISTORIES", 20) {
        let memory = MemoryStore::new();
        let home = memory.clone();
        let mut ever = Ever::new();
        run(Arc::new(move || Arc::new(home.clone())), seed, steps(), &mut |pictures| {
            judge(pictures, &mut ever, &|| Ok(Arc::new(memory.fork())))
        });
    }
}

#[test]
fn at_any_moment_of_a_history_on_disk_what_was_there_comes_back_and_nothing_else_is_believed() {
    let first = 1_000_000 + number("SNAPGROUP_SEED", 1);
    for seed in first..first + number("SNAPGROUP_HISTORIES", 20).div_ceil(10) {
        let directory = tempfile::TempDir::new().expect("a directory");
        let path = directory.path().to_owned();
        let store = move || -> Arc<dyn Store> { Arc::new(DiskStore::create(&path).expect("a pool")) };
        let mut ever = Ever::new();
        let mut calls = 0_u64;
        run(Arc::new(store), seed, steps(), &mut |pictures| {
            remember(&mut ever, pictures);
            calls += 1;
            if !calls.is_multiple_of(5) {
                return Ok(());
            }
            let copy = tempfile::TempDir::new()?;
            copy_directory(directory.path(), copy.path())?;
            lose(Arc::new(DiskStore::open(copy.path())?), pictures, &ever)
        });
    }
}

fn copy_directory(from: &Path, to: &Path) -> Outcome {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    assert!(to.join(CATALOGUE).exists(), "the pool has no catalogue");
    Ok(())
}
