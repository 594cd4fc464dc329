//! What a reclaim leaves alone: whoever reads goes on reading the same, whatever was begun and not ended before.

use crate::support::{
    Home, Made, Outcome, assert_sound, file_of, fill, make_machine, on_every_store, read, read_snapshot,
    read_volume,
};
use snapgroup::storage::{Access, At, Blob, BlobName, Fault, FaultKind, Operation, Owned, Store};
use snapgroup::{
    ByteCount, CreatePool, CreateSnapshot, CreateVolume, DeleteMode, DeleteSnapshots, DeleteVolume,
    DiffOptions, Direction, Engine, Error, Kind, OwedReason, ReclaimOptions, RevertVolume, Step, Uuid, When,
    storage,
};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

on_every_store! {
    what_was_written_down_is_looked_at_anew_when_the_layer_above_has_changed
    what_was_written_down_is_looked_at_anew_when_it_has_been_freed_since
    an_open_disk_reads_the_same_when_a_merge_is_left_and_the_rest_is_freed
    a_handle_reads_the_same_when_a_merge_is_left_and_the_rest_is_freed
    a_handle_to_a_deleted_snapshot_keeps_what_is_below_it
    a_handle_to_a_living_snapshot_is_in_nobodys_way
    what_two_deletions_leave_alone_is_removed_by_the_next_reclaim
}

/// Writes `length` bytes of `byte` at `at` and takes a snapshot.
fn snapshot(engine: &Engine, volume: Uuid, at: u64, length: usize, byte: u8) -> Made<Uuid> {
    fill(&engine.open_volume(volume)?, at, length, byte)?;
    Ok(engine.create_snapshot(&CreateSnapshot::new(volume, format!("s{byte}")))?.uuid)
}

fn later(uuid: Uuid) -> DeleteSnapshots {
    DeleteSnapshots { reclaim: When::Later, ..DeleteSnapshots::one(uuid) }
}

/// One step of a reclaim that is then left.
fn one_step(engine: &Engine, direction: Direction) -> Outcome {
    let mut reclaim = engine.reclaim(&ReclaimOptions::towards(direction))?;
    assert_eq!(reclaim.step(ByteCount::kib(64))?, Step::More);
    assert_eq!(reclaim.owed(), []);
    Ok(())
}

fn what_was_written_down_is_looked_at_anew_when_the_layer_above_has_changed(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let one = snapshot(&engine, vm.root(), 0, 200_000, 1)?;
    let two = snapshot(&engine, vm.root(), 0, 200_000, 2)?;
    let three = snapshot(&engine, vm.root(), 0, 65_536, 3)?;
    fill(&engine.open_volume(vm.root())?, 300_000, 5000, 4)?;
    let content = (read_snapshot(&engine, three)?, read_volume(&engine, vm.root())?);
    assert!(engine.delete_snapshots(&later(one))?.is_success());
    // Some of the second layer is in the first one now; then the third is written into the second.
    one_step(&engine, Direction::Commit)?;
    let wish = DeleteSnapshots { direction: Direction::Commit, ..DeleteSnapshots::one(two) };
    assert_eq!(engine.delete_snapshots(&wish)?.owed, []);
    assert_eq!(engine.chain(vm.root())?.len(), 2);
    assert!(read_snapshot(&engine, three)? == content.0);
    assert!(read_volume(&engine, vm.root())? == content.1);
    assert_sound(&engine)
}

fn what_was_written_down_is_looked_at_anew_when_it_has_been_freed_since(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let one = snapshot(&engine, vm.root(), 0, 400_000, 1)?;
    let two = snapshot(&engine, vm.root(), 0, 200_000, 2)?;
    let content = (read_snapshot(&engine, two)?, read_volume(&engine, vm.root())?);
    assert!(engine.delete_snapshots(&later(one))?.is_success());
    // Some of the second layer is in the first one now, and hidden by it; then what is hidden is freed.
    one_step(&engine, Direction::Commit)?;
    let (done, owed) = engine.reclaim(&ReclaimOptions::default())?.finish()?;
    assert_eq!((owed, done.bytes_punched.is_zero()), (vec![], false));
    let (_, owed) = engine.reclaim(&ReclaimOptions::towards(Direction::Commit))?.finish()?;
    assert_eq!((owed, engine.chain(vm.root())?.len()), (vec![], 2));
    assert!(read_snapshot(&engine, two)? == content.0);
    assert!(read_volume(&engine, vm.root())? == content.1);
    assert_sound(&engine)
}

fn an_open_disk_reads_the_same_when_a_merge_is_left_and_the_rest_is_freed(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let one = snapshot(&engine, vm.root(), 0, 400_000, 1)?;
    snapshot(&engine, vm.root(), 500_000, 5000, 2)?;
    let disk = engine.open_volume(vm.root())?;
    fill(&disk, 600_000, 5000, 3)?;
    let size = disk.size().as_usize();
    let content = read(&disk, 0, size)?;
    assert!(engine.delete_snapshots(&later(one))?.is_success());
    one_step(&engine, Direction::Pull)?;
    let (done, owed) = engine.reclaim(&ReclaimOptions::default())?.finish()?;
    assert_eq!((owed, done.bytes_punched.is_zero()), (vec![], false));
    assert!(read(&disk, 0, size)? == content);
    drop(disk);
    assert!(read_volume(&engine, vm.root())? == content);
    assert_sound(&engine)
}

fn a_handle_reads_the_same_when_a_merge_is_left_and_the_rest_is_freed(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let one = snapshot(&engine, vm.root(), 0, 400_000, 1)?;
    let two = snapshot(&engine, vm.root(), 500_000, 5000, 2)?;
    let content = read_snapshot(&engine, two)?;
    let handle = engine.open_snapshot(two)?;
    handle.read_at(0, &mut vec![0; content.len()])?;
    assert!(engine.delete_snapshots(&later(one))?.is_success());
    one_step(&engine, Direction::Pull)?;
    let (_, owed) = engine.reclaim(&ReclaimOptions::default())?.finish()?;
    assert_eq!(owed.iter().map(|owed| owed.reason).collect::<Vec<_>>(), [OwedReason::Hindered]);
    let mut bytes = vec![0; content.len()];
    handle.read_at(0, &mut bytes)?;
    assert!(bytes == content);
    // A handle that is opened now knows of it.
    let newer = engine.open_snapshot(two)?;
    drop(handle);
    let (done, owed) = engine.reclaim(&ReclaimOptions::default())?.finish()?;
    assert_eq!((owed, done.bytes_punched.is_zero()), (vec![], false));
    newer.read_at(0, &mut bytes)?;
    assert!(bytes == content);
    assert_sound(&engine)
}

fn a_handle_to_a_deleted_snapshot_keeps_what_is_below_it(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let one = snapshot(&engine, vm.root(), 0, 100_000, 1)?;
    let two = snapshot(&engine, vm.root(), 500_000, 5000, 2)?;
    fill(&engine.open_volume(vm.root())?, 0, 65_536, 3)?;
    let content = read_snapshot(&engine, two)?;
    let handle = engine.open_snapshot(two)?;
    let deleted = engine.delete_snapshots(&DeleteSnapshots::all([one, two]))?;
    assert_eq!(deleted.owed.len(), 1);
    assert!(deleted.is_success(), "they are gone, whatever is still to be done with their bytes");
    let mut bytes = vec![0; content.len()];
    handle.read_at(0, &mut bytes)?;
    assert!(bytes == content);
    drop(handle);
    let (done, owed) = engine.reclaim(&ReclaimOptions::default())?.finish()?;
    assert_eq!((owed, done.bytes_punched), (vec![], ByteCount::kib(64)));
    assert_sound(&engine)
}

fn a_handle_to_a_living_snapshot_is_in_nobodys_way(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let one = snapshot(&engine, vm.root(), 0, 100_000, 1)?;
    let two = snapshot(&engine, vm.root(), 0, 65_536, 2)?;
    let content = read_snapshot(&engine, two)?;
    let handle = engine.open_snapshot(two)?;
    let deleted = engine.delete_snapshots(&DeleteSnapshots::one(one))?;
    assert_eq!((deleted.owed, deleted.reclaimed.bytes_punched), (vec![], ByteCount::kib(64)));
    let mut bytes = vec![0; content.len()];
    handle.read_at(0, &mut bytes)?;
    assert!(bytes == content);
    assert_sound(&engine)
}

/// What is done once, when a certain file is opened.
struct Once {
    file: String,
    work: Box<dyn FnOnce() + Send>,
}

/// A store that does something else first, once.
struct Interrupted {
    inner: Arc<dyn Store>,
    once: Mutex<Option<Once>>,
}

impl std::fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl Store for Interrupted {
    fn create(&self, name: &BlobName) -> storage::Result<Arc<dyn Blob>> {
        self.inner.create(name)
    }
    fn open(&self, name: &BlobName, access: Access) -> storage::Result<Arc<dyn Blob>> {
        let mut once = self.once.lock().expect("no test panics while it holds this");
        let now = once.take_if(|once| once.file == name.as_str());
        drop(once);
        if let Some(once) = now {
            (once.work)();
        }
        self.inner.open(name, access)
    }
    fn remove(&self, name: &BlobName) -> storage::Result<()> {
        self.inner.remove(name)
    }
    fn list(&self) -> storage::Result<Vec<BlobName>> {
        self.inner.list()
    }
    fn sync_names(&self) -> storage::Result<()> {
        self.inner.sync_names()
    }
    fn lock(&self) -> storage::Result<Box<dyn Owned>> {
        self.inner.lock()
    }
    fn location(&self, name: &BlobName) -> String {
        self.inner.location(name)
    }
}

fn what_two_deletions_leave_alone_is_removed_by_the_next_reclaim(home: &Home) -> Outcome {
    let store = Arc::new(Interrupted { inner: home.store()?, once: Mutex::new(None) });
    let mut options = home.options();
    options.create = CreatePool::Here;
    let engine = Engine::open_on(Arc::clone(&store) as Arc<dyn Store>, options)?;
    let vm = make_machine(&engine, 1)?;
    let zero = snapshot(&engine, vm.root(), 0, 5000, 1)?;
    let one = snapshot(&engine, vm.root(), 0, 5000, 2)?;
    let file = file_of(&engine.snapshot(one)?.primary_storage_install_path);
    engine.revert_volume(&RevertVolume::to(zero))?;
    let clone = engine.create_volume(&CreateVolume::of_snapshot("clone", one))?.uuid;
    // The clone goes while the deletion of its snapshot looks at the file: each sees the other one's layer.
    let other = engine.clone();
    let work = move || assert!(other.delete_volume(&DeleteVolume::new(clone)).is_ok());
    *store.once.lock().expect("not poisoned") = Some(Once { file: file.clone(), work: Box::new(work) });
    let wish = DeleteSnapshots { mode: DeleteMode::Enforcing, ..DeleteSnapshots::one(one) };
    let deleted = engine.delete_snapshots(&wish)?;
    assert!(store.once.lock().expect("not poisoned").is_none(), "nothing came in between");
    assert_eq!(deleted.owed, []);
    let files: BTreeSet<String> = store.list()?.iter().map(ToString::to_string).collect();
    assert!(!files.contains(&file), "{file} is still there");
    assert_sound(&engine)
}

#[test]
fn a_merge_has_bytes_copied_from_file_to_file_and_reads_none() -> Outcome {
    for (direction, strokes) in [
        (Direction::Pull, [(131_072, 917_504), (0, 65_536)]),
        (Direction::Commit, [(0, 65_536), (131_072, 917_504)]),
    ] {
        let home = Home::counted();
        let engine = home.open()?;
        let vm = make_machine(&engine, 1)?;
        let one = snapshot(&engine, vm.root(), strokes[0].0, strokes[0].1, 1)?;
        let two = snapshot(&engine, vm.root(), strokes[1].0, strokes[1].1, 2)?;
        let content = read_snapshot(&engine, two)?;
        home.faulty().record();
        let done = engine.delete_snapshots(&DeleteSnapshots { direction, ..DeleteSnapshots::one(one) })?;
        let calls = home.faulty().take_calls();
        assert_eq!(done.reclaimed.bytes_copied(), ByteCount::new(917_504), "{direction}");
        let of_layers = |call: &&storage::Call| {
            call.name.as_ref().is_some_and(|name| name.as_str().starts_with("layer-"))
        };
        let bytes = |operation| {
            let calls = calls.iter().filter(of_layers).filter(|call| call.operation == operation);
            calls.fold(ByteCount::ZERO, |sum, call| sum + call.length)
        };
        assert!(bytes(Operation::Write) >= ByteCount::new(917_504), "{direction}");
        assert!(bytes(Operation::Read) < ByteCount::kib(512), "{direction}: {}", bytes(Operation::Read));
        assert!(read_snapshot(&engine, two)? == content);
        assert_sound(&engine)?;
    }
    Ok(())
}

#[test]
fn a_commit_that_is_cut_short_anywhere_is_ended_by_the_next_opening() -> Outcome {
    let home = Home::simulated();
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let one = snapshot(&engine, vm.root(), 0, 30_000, 1)?;
    let two = snapshot(&engine, vm.root(), 20_000, 30_000, 2)?;
    let three = snapshot(&engine, vm.root(), 40_000, 30_000, 3)?;
    let shown = |engine: &Engine| -> Made<[Vec<u8>; 3]> {
        Ok([read_snapshot(engine, two)?, read_snapshot(engine, three)?, read_volume(engine, vm.root())?])
    };
    let (before, content) = (file_of(&engine.snapshot(two)?.primary_storage_install_path), shown(&engine)?);
    engine.close()?;
    let wish = DeleteSnapshots { direction: Direction::Commit, ..DeleteSnapshots::one(one) };
    let counted = home.fork();
    let engine = counted.open()?;
    counted.faulty().record();
    assert_eq!(engine.delete_snapshots(&wish)?.owed, []);
    let calls = counted.faulty().take_calls().len() as u64;
    for nth in 1..=calls {
        let home = home.fork();
        let engine = home.open()?;
        home.faulty().fail(Fault::for_ever(At::Call(nth), FaultKind::EIO));
        drop(engine.delete_snapshots(&wish));
        drop(engine);
        home.faulty().heal();
        let engine = home.open()?;
        assert!(shown(&engine)? == content, "call {nth} of {calls}");
        let now = file_of(&engine.snapshot(two)?.primary_storage_install_path);
        let is_twice = now != before && home.picture()?.contains_key(&before);
        assert!(!is_twice, "call {nth} of {calls}: what was written down is still where it was, too");
        assert!(engine.delete_snapshots(&wish)?.is_success());
        let (_, owed) = engine.reclaim(&ReclaimOptions::towards(Direction::Commit))?.finish()?;
        assert_eq!((owed, engine.chain(vm.root())?.len()), (vec![], 3), "call {nth} of {calls}");
        assert!(shown(&engine)? == content, "call {nth} of {calls}");
        let found = engine.check()?;
        assert!(found.violations.is_empty() && found.missing.is_empty() && found.unnamed.is_empty());
        for layer in &found.layers {
            // What a cut leaks is room and nothing else.
            let corruptions = layer.report.as_ref().map(|report| report.corruptions);
            assert_eq!((corruptions, &layer.error), (Some(0), &None), "call {nth} of {calls}");
        }
    }
    Ok(())
}

/// A sync that fails after the header was written leaves the new header and the old books.
#[test]
fn what_is_there_is_read_on_after_a_merge_that_failed_at_any_sync() -> Outcome {
    let home = Home::simulated();
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let one = snapshot(&engine, vm.root(), 0, 30_000, 1)?;
    let two = snapshot(&engine, vm.root(), 20_000, 30_000, 2)?;
    let three = snapshot(&engine, vm.root(), 40_000, 30_000, 3)?;
    let shown = |engine: &Engine| -> Made<[Vec<u8>; 2]> {
        Ok([read_snapshot(engine, two)?, read_snapshot(engine, three)?])
    };
    let content = shown(&engine)?;
    engine.close()?;
    for direction in [Direction::Pull, Direction::Commit] {
        let wish = DeleteSnapshots { direction, ..DeleteSnapshots::one(one) };
        let counted = home.fork();
        let engine = counted.open()?;
        counted.faulty().record();
        assert_eq!(engine.delete_snapshots(&wish)?.owed, []);
        let calls = counted.faulty().take_calls();
        let mut told = 0;
        for (place, call) in (1..).zip(&calls) {
            let is_of_layer = call.name.as_ref().is_some_and(|name| name.as_str().starts_with("layer-"));
            if call.operation != Operation::Sync || !is_of_layer {
                continue;
            }
            let home = home.fork();
            let engine = home.open()?;
            home.faulty().fail(Fault::once(At::Call(place), FaultKind::EIO));
            let deleted = engine.delete_snapshots(&wish);
            let Err(Error::NotReclaimed(cause)) = deleted else { panic!("call {place}: {deleted:?}") };
            assert_eq!(cause.kind(), Kind::Failed, "call {place}: {cause}");
            assert!(engine.snapshot(one).is_err(), "call {place}: it took place");
            assert!(shown(&engine)? == content, "call {place}");
            assert!(
                engine.diff(Some(two.into()), three, &DiffOptions::default())?.all(|change| change.is_ok())
            );
            told += 1;
        }
        assert!(told > 1, "a merge syncs what it has copied, and the header");
    }
    Ok(())
}
