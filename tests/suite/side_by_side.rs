//! Calls that work on many files side by side: exports into files that are there all or none, and diffs of many pairs.

use crate::support::{Home, Machine, Made, Outcome, fill, make_machine, on_every_store, read_snapshot, take};
use snapgroup::inventory::GroupInventory;
use snapgroup::units::GuestOffset;
use snapgroup::{
    ByteCount, Change, CreateSnapshot, CreateVolume, DiffOptions, DiffPair, Engine, Error, Event, Exactness,
    Export, ExportBase, FileExport, Kind, LayerFormat, Listener, Operation, Refusal, UuidArg, Work, storage,
};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

on_every_store! {
    many_files_are_as_each_one_alone_would_be
    files_are_there_all_or_none
    the_first_export_that_cannot_be_is_the_error
    many_diffs_are_as_each_one_alone_would_be
    the_first_diff_that_cannot_be_is_the_error
    pairs_are_compared_by_several_threads
    one_operation_tells_how_far_all_of_them_have_come
    a_large_file_is_copied_to_its_end
}

/// A machine of three disks with two groups, the second one with changes.
fn made(engine: &Engine) -> Made<(Machine, GroupInventory, GroupInventory)> {
    let vm = make_machine(engine, 3)?;
    for (disk, byte) in vm.disks.iter().zip(1..) {
        fill(&engine.open_volume(*disk)?, 5000 * u64::from(byte), 300_000, byte)?;
    }
    let first = take(engine, &vm, "first")?;
    for (disk, byte) in vm.disks.iter().zip(11..) {
        fill(&engine.open_volume(*disk)?, 100_000, 20_000 * usize::from(byte), byte)?;
        engine.open_volume(*disk)?.write_zeroes(8192, 50_000)?;
    }
    let second = take(engine, &vm, "second")?;
    Ok((vm, first, second))
}

fn members(group: &GroupInventory) -> Vec<UuidArg> {
    group.volume_snapshot_refs.iter().map(|member| member.volume_snapshot_uuid.into()).collect()
}

fn threads(home: &Home, count: usize) -> Result<Engine, Error> {
    home.open_with(|options| options.threads = NonZeroUsize::new(count))
}

/// What is in a directory, with its bytes.
fn picture(directory: &Path) -> Made<BTreeMap<String, Vec<u8>>> {
    let mut picture = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        picture.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
    }
    Ok(picture)
}

/// Each member of the second group in each form.
fn exports(directory: &Path, first: &GroupInventory, second: &GroupInventory) -> Vec<FileExport> {
    let mut exports = Vec::new();
    for (index, (before, now)) in members(first).into_iter().zip(members(second)).enumerate() {
        let label = format!("{index}.below");
        let base = ExportBase { snapshot: before.clone(), label, format: LayerFormat::Qcow2 };
        let path = |form: &str| directory.join(format!("{index}.{form}"));
        exports.push(FileExport::new(before, Export::qcow2(), path("below")));
        exports.push(FileExport::new(now.clone(), Export::raw(), path("raw")));
        exports.push(FileExport::new(now.clone(), Export::qcow2().compressed(), path("packed")));
        exports.push(FileExport::new(now, Export::above(base), path("above")));
    }
    exports
}

fn many_files_are_as_each_one_alone_would_be(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (_, first, second) = made(&engine)?;
    let alone = tempfile::tempdir()?;
    let mut copied = Vec::new();
    for export in exports(alone.path(), &first, &second) {
        copied.push(engine.export_file(export.snapshot, &export.export, &export.path)?);
    }
    engine.close()?;
    for count in [1, 2, 5, 100] {
        let engine = threads(home, count)?;
        let together = tempfile::tempdir()?;
        assert_eq!(engine.export_files(&exports(together.path(), &first, &second))?, copied);
        assert!(picture(together.path())? == picture(alone.path())?, "{count} threads");
        for (index, now) in second.volume_snapshot_refs.iter().enumerate() {
            let bytes = fs::read(together.path().join(format!("{index}.raw")))?;
            assert!(bytes == read_snapshot(&engine, now.volume_snapshot_uuid)?);
        }
        assert_eq!(engine.export_files(&[])?, []);
        engine.close()?;
    }
    Ok(())
}

fn files_are_there_all_or_none(home: &Home) -> Outcome {
    let directory = tempfile::tempdir()?;
    let taken_late = directory.path().join("2.packed");
    let late = taken_late.clone();
    // Somebody takes a path while the copies are made.
    let listener = Listener::new(move |event| {
        if let Event::Progress { work: Work::Export, .. } = event {
            fs::write(&late, b"somebody's").expect("a file beside them");
        }
    });
    let engine = home.open_with(|options| {
        options.threads = NonZeroUsize::new(2);
        options.listener = listener;
    })?;
    let (_, first, second) = made(&engine)?;
    let exports = exports(directory.path(), &first, &second);
    let exists = |result: Result<_, Error>| -> String {
        let Err(Error::Storage(storage::Error::Exists { name })) = result else { panic!("{result:?}") };
        name.to_string()
    };
    assert_eq!(exists(engine.export_files(&exports)), "2.packed");
    let theirs = BTreeMap::from([("2.packed".to_owned(), b"somebody's".to_vec())]);
    assert_eq!(picture(directory.path())?, theirs);
    // From the beginning, and twice the same.
    assert_eq!(exists(engine.export_files(&exports)), "2.packed");
    assert_eq!(picture(directory.path())?, theirs);
    let path = directory.path().join("twice");
    let twice: Vec<_> = members(&first)
        .into_iter()
        .map(|snapshot| FileExport::new(snapshot, Export::raw(), path.clone()))
        .collect();
    assert_eq!(exists(engine.export_files(&twice)), "twice");
    assert_eq!(picture(directory.path())?, theirs);
    Ok(())
}

fn the_first_export_that_cannot_be_is_the_error(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (vm, first, second) = made(&engine)?;
    let chains: Vec<_> = vm.disks.iter().map(|disk| engine.chain(*disk)).collect::<Result<_, _>>()?;
    engine.close()?;
    let directory = tempfile::tempdir()?;
    let mut exports = exports(directory.path(), &first, &second);
    // Two cannot be read to their ends: the L2 table of the first snapshot leads out of the file.
    for chain in &chains[1..] {
        let file = &chain.last().expect("a base").file;
        let broken = entry_of_l1(&home.bytes(file)?);
        home.patch(file, broken, &(1_u64 << 63 | 1 << 40).to_be_bytes())?;
    }
    for count in [1, 2, 4] {
        let engine = threads(home, count)?;
        let failed = engine.export_files(&exports);
        let Err(error) = failed else { panic!("{failed:?}") };
        assert_eq!(error.kind(), Kind::Corrupt, "{error}");
        assert!(
            error.to_string().contains(&chains[1].last().expect("a base").file),
            "{count} threads: {error}"
        );
        assert!(picture(directory.path())?.is_empty());
        // What cannot even begin is refused before anything is copied.
        let unknown = UuidArg::from("11111111111111111111111111111111");
        exports.insert(0, FileExport::new(unknown, Export::raw(), directory.path().join("unknown")));
        let refused = engine.export_files(&exports);
        assert!(matches!(refused, Err(Error::Refused(Refusal::NotFound { .. }))), "{refused:?}");
        assert!(picture(directory.path())?.is_empty());
        exports.remove(0);
        engine.close()?;
    }
    Ok(())
}

/// Where the first entry of the L1 table lies (qcow2 specification, header, bytes 40-47).
fn entry_of_l1(image: &[u8]) -> u64 {
    u64::from_be_bytes(image[40..48].try_into().expect("eight bytes"))
}

/// All changes of each pair, as they were told.
fn differing(engine: &Engine, pairs: &[DiffPair], options: &DiffOptions) -> Result<Vec<Vec<Change>>, Error> {
    let found = Mutex::new(vec![Vec::new(); pairs.len()]);
    let told = engine.diff_many(pairs, options, |pair, change| {
        found.lock().expect("nobody has panicked")[pair].push(change);
    });
    told.map(|()| found.into_inner().expect("nobody has panicked"))
}

fn pairs_of(first: &GroupInventory, second: &GroupInventory) -> Vec<DiffPair> {
    let mut pairs: Vec<_> = members(second).into_iter().map(DiffPair::allocated).collect();
    let both = || members(first).into_iter().zip(members(second));
    pairs.extend(both().map(|(before, now)| DiffPair::between(before, now)));
    pairs.extend(both().map(|(before, now)| DiffPair::between(now, before)));
    pairs
}

fn many_diffs_are_as_each_one_alone_would_be(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (_, first, second) = made(&engine)?;
    engine.close()?;
    let pairs = pairs_of(&first, &second);
    for count in [1, 2, 5, 100] {
        let engine = threads(home, count)?;
        for exactness in [Exactness::Tables, Exactness::Content] {
            let options = DiffOptions { exactness, start: GuestOffset::new(30_000) };
            let mut alone: Vec<Vec<Change>> = Vec::new();
            for pair in &pairs {
                alone.push(
                    engine.diff(pair.from.clone(), pair.to.clone(), &options)?.collect::<Result<_, _>>()?,
                );
            }
            assert!(alone.iter().all(|changes| !changes.is_empty()));
            assert_eq!(differing(&engine, &pairs, &options)?, alone, "{count} threads, {exactness:?}");
        }
        assert!(differing(&engine, &[], &DiffOptions::default())?.is_empty());
        engine.close()?;
    }
    Ok(())
}

fn the_first_diff_that_cannot_be_is_the_error(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (vm, first, second) = made(&engine)?;
    let chains: Vec<_> = vm.disks.iter().map(|disk| engine.chain(*disk)).collect::<Result<_, _>>()?;
    engine.close()?;
    for chain in &chains[1..] {
        let file = &chain[1].file;
        home.patch(file, entry_of_l1(&home.bytes(file)?), &(1_u64 << 63 | 1 << 40).to_be_bytes())?;
    }
    let mut pairs = pairs_of(&first, &second);
    for count in [1, 2, 4] {
        let engine = threads(home, count)?;
        let failed = differing(&engine, &pairs, &DiffOptions::default());
        let Err(error) = failed else { panic!("{failed:?}") };
        assert!(error.to_string().contains(&chains[1][1].file), "{count} threads: {error}");
        // What cannot even begin is refused before anything is told.
        pairs.push(DiffPair::between(members(&first)[0].clone(), members(&first)[1].clone()));
        let mut told = Vec::new();
        let seen = Mutex::new(&mut told);
        let refused = engine.diff_many(&pairs, &DiffOptions::default(), |pair, _| {
            seen.lock().expect("nobody has panicked").push(pair);
        });
        assert!(matches!(refused, Err(Error::Refused(Refusal::NotOfOneVolume { .. }))), "{refused:?}");
        assert!(told.is_empty());
        pairs.pop();
        engine.close()?;
    }
    Ok(())
}

/// Sees that two threads are at work at once: who comes first waits for another one.
#[derive(Debug, Default)]
struct Meeting {
    who: Mutex<HashSet<ThreadId>>,
    met: AtomicUsize,
}

impl Meeting {
    fn arrive(&self, who: ThreadId) {
        if self.who.lock().expect("nobody has panicked").insert(who) {
            self.met.fetch_add(1, Ordering::SeqCst);
        }
        // As long as it takes; where nobody else is there to come, an end all the same.
        for _ in 0..5_000_000 {
            if self.met.load(Ordering::SeqCst) >= 2 {
                return;
            }
            std::thread::yield_now();
        }
        panic!("nobody else has come");
    }
}

fn pairs_are_compared_by_several_threads(home: &Home) -> Outcome {
    let engine = threads(home, 2)?;
    let (_, first, second) = made(&engine)?;
    let met = Meeting::default();
    let meet = |_, _| met.arrive(std::thread::current().id());
    Ok(engine.diff_many(&pairs_of(&first, &second), &DiffOptions::default(), meet)?)
}

fn one_operation_tells_how_far_all_of_them_have_come(home: &Home) -> Outcome {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let listener = Listener::new(move |event| tell.lock().expect("nobody has panicked").push(event.clone()));
    let engine = home.open_with(|options| {
        options.threads = NonZeroUsize::new(3);
        options.listener = listener;
    })?;
    let (_, first, second) = made(&engine)?;
    told.lock().expect("nobody has panicked").clear();
    let directory = tempfile::tempdir()?;
    let copied: ByteCount =
        engine.export_files(&exports(directory.path(), &first, &second))?.into_iter().sum();
    let told = std::mem::take(&mut *told.lock().expect("nobody has panicked"));
    let [Event::Began { operation, run }, between @ .., Event::Ended { run: ended, .. }] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((*operation, run), (Operation::Export, ended));
    let mut last = ByteCount::ZERO;
    for event in between {
        let Event::Progress { work: Work::Export, done, total } = event else { panic!("{event:?}") };
        assert!(*done >= last && *total == copied, "{done} of {total}");
        last = *done;
    }
    assert_eq!(last, copied);
    Ok(())
}

/// Copies look now and then whether another one has failed; this one is longer than that.
fn a_large_file_is_copied_to_its_end(home: &Home) -> Outcome {
    let engine = home.open()?;
    let wish = CreateVolume::new("large", ByteCount::mib(40));
    let volume = engine.create_volume(&wish)?.uuid;
    let bytes: Vec<u8> = (0..40_u32 << 18).flat_map(u32::to_be_bytes).collect();
    engine.open_volume(volume)?.write_at(0, &bytes)?;
    let snapshot = engine.create_snapshot(&CreateSnapshot::new(volume, "s"))?.uuid;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("large.raw");
    let copied = engine.export_files(&[FileExport::new(snapshot, Export::raw(), &path)])?;
    assert_eq!(copied, [ByteCount::mib(40)]);
    assert!(fs::read(&path)? == bytes);
    Ok(())
}
