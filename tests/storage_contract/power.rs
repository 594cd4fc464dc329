//! What a power cut may leave on a simulated disk: everything that B4, B5 and S2 allow, and nothing else.

use crate::{Outcome, name};
use snapgroup::storage::{
    Access, At, Blob, Bounds, Choice, CrashState, DiskChange, Fault, FaultKind, FileSystem, MemoryStore,
    Operation, SimulatedDisk, SimulatedStore, Store,
};
use snapgroup::units::{ByteCount, HostOffset};
use std::collections::BTreeSet;
use std::sync::Arc;

const BOTH: [FileSystem; 2] = [FileSystem::Strict, FileSystem::Ext4Like];

/// What a state holds, short enough to be written down in a test: each name, and the first byte of each sector.
fn shown(state: &CrashState) -> Result<String, Box<dyn std::error::Error>> {
    let store = state.store();
    let mut shown = Vec::new();
    for name in store.list()? {
        let blob = store.open(&name, Access::Read)?;
        let mut bytes = vec![0; blob.length()?.as_usize()];
        blob.read_at(HostOffset::ZERO, &mut bytes)?;
        for sector in bytes.chunks(512) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is torn");
        }
        let sectors: Vec<String> = bytes.chunks(512).map(|sector| sector[0].to_string()).collect();
        shown.push(format!("{name}:{}", sectors.concat()));
    }
    Ok(shown.join(" "))
}

/// Everything that a power cut now may leave.
fn left(disk: &SimulatedDisk, bounds: Bounds) -> Result<BTreeSet<String>, Box<dyn std::error::Error>> {
    let states = disk.log().cut(disk.position()).states(bounds);
    states.map(|state| shown(&state)).collect()
}

fn all(disk: &SimulatedDisk) -> Result<BTreeSet<String>, Box<dyn std::error::Error>> {
    left(disk, Bounds::default())
}

fn of(expected: &[&str]) -> BTreeSet<String> {
    expected.iter().map(ToString::to_string).collect()
}

/// A disk with a blob of `sectors` sectors of zeros, durable.
fn with_blob(
    file_system: FileSystem,
    sectors: u64,
) -> Result<(SimulatedDisk, Arc<dyn Blob>), Box<dyn std::error::Error>> {
    let store = MemoryStore::new();
    store.create(&name("a"))?.set_length(ByteCount::new(sectors * 512))?;
    let disk = SimulatedDisk::over(&store, file_system);
    let blob = disk.open(&name("a"), Access::Write)?;
    Ok((disk, blob))
}

fn sectors(count: usize, byte: u8) -> Vec<u8> {
    vec![byte; count * 512]
}

#[test]
fn each_sector_of_each_unsynced_write_is_there_or_not() -> Outcome {
    for file_system in BOTH {
        let (disk, blob) = with_blob(file_system, 3)?;
        blob.write_at(HostOffset::ZERO, &sectors(2, 1))?;
        blob.write_at(HostOffset::new(512), &sectors(1, 2))?;
        let expected = ["a:000", "a:100", "a:010", "a:110", "a:020", "a:120"];
        assert_eq!(all(&disk)?, of(&expected));
        blob.sync()?;
        assert_eq!(all(&disk)?, of(&["a:120"]));
    }
    Ok(())
}

#[test]
fn a_longer_length_survives_without_the_bytes_and_the_bytes_without_all_of_the_length() -> Outcome {
    let (disk, blob) = with_blob(FileSystem::Strict, 0)?;
    blob.write_at(HostOffset::ZERO, &sectors(2, 1))?;
    assert_eq!(all(&disk)?, of(&["a:", "a:1", "a:00", "a:10", "a:01", "a:11"]));
    Ok(())
}

#[test]
fn a_length_and_a_hole_are_there_or_not() -> Outcome {
    let (disk, blob) = with_blob(FileSystem::Strict, 1)?;
    blob.write_at(HostOffset::ZERO, &sectors(2, 1))?;
    blob.sync()?;
    blob.punch(HostOffset::ZERO, ByteCount::new(512))?;
    blob.set_length(ByteCount::new(512))?;
    assert_eq!(all(&disk)?, of(&["a:11", "a:01", "a:1", "a:0"]));
    Ok(())
}

#[test]
fn a_sync_says_nothing_about_another_blob_nor_strictly_about_any_name() -> Outcome {
    for (file_system, expected) in [
        (FileSystem::Strict, of(&["", "a:", "a:0", "a:1", "b:2", "a: b:2", "a:0 b:2", "a:1 b:2"])),
        // The sync of b covers its own name and, with it, the one that was made before.
        (FileSystem::Ext4Like, of(&["a: b:2", "a:0 b:2", "a:1 b:2"])),
    ] {
        let disk = SimulatedDisk::new(file_system);
        let [one, other] = [disk.create(&name("a"))?, disk.create(&name("b"))?];
        one.write_at(HostOffset::ZERO, &sectors(1, 1))?;
        other.write_at(HostOffset::ZERO, &sectors(1, 2))?;
        other.sync()?;
        assert_eq!(all(&disk)?, expected);
        disk.sync_names()?;
        assert_eq!(all(&disk)?, of(&["a: b:2", "a:0 b:2", "a:1 b:2"]));
    }
    Ok(())
}

#[test]
fn names_survive_in_any_order_strictly_and_in_their_own_on_a_journal() -> Outcome {
    for (file_system, expected) in [
        (FileSystem::Strict, of(&["a:0", "", "a:0 b:", "b:"])),
        (FileSystem::Ext4Like, of(&["a:0", "a:0 b:", "b:"])),
    ] {
        let (disk, _) = with_blob(file_system, 1)?;
        disk.create(&name("b"))?;
        disk.remove(&name("a"))?;
        assert_eq!(all(&disk)?, expected);
        disk.sync_names()?;
        assert_eq!(all(&disk)?, of(&["b:"]));
    }
    Ok(())
}

#[test]
fn a_name_that_was_made_anew_is_the_old_blob_or_the_new_one() -> Outcome {
    let (disk, _) = with_blob(FileSystem::Strict, 1)?;
    disk.remove(&name("a"))?;
    disk.create(&name("a"))?.write_at(HostOffset::ZERO, &sectors(2, 7))?;
    let new = ["a:", "a:7", "a:00", "a:70", "a:07", "a:77"];
    assert_eq!(all(&disk)?, of(&[&["", "a:0"][..], &new[..]].concat()));
    Ok(())
}

#[test]
fn what_a_failed_sync_was_for_is_covered_by_no_later_one() -> Outcome {
    let (disk, _) = with_blob(FileSystem::Strict, 2)?;
    let store = SimulatedStore::on_disk(&disk);
    let blob = store.open(&name("a"), Access::Write)?;
    blob.write_at(HostOffset::ZERO, &sectors(1, 1))?;
    store.fail(Fault::once(At::CallOf(Operation::Sync, 1), FaultKind::EIO));
    assert!(blob.sync().is_err());
    blob.sync()?;
    blob.write_at(HostOffset::new(512), &sectors(1, 2))?;
    blob.sync()?;
    assert_eq!(all(&disk)?, of(&["a:02", "a:12"]));

    disk.create(&name("b"))?;
    store.fail(Fault::once(At::CallOf(Operation::SyncNames, 1), FaultKind::EIO));
    assert!(store.sync_names().is_err());
    store.sync_names()?;
    assert_eq!(all(&disk)?, of(&["a:02", "a:12", "a:02 b:", "a:12 b:"]));
    Ok(())
}

#[test]
fn a_copy_is_there_or_not_like_a_write() -> Outcome {
    let (disk, blob) = with_blob(FileSystem::Strict, 1)?;
    let source = MemoryStore::new().create(&name("source"))?;
    source.write_at(HostOffset::ZERO, &sectors(1, 5))?;
    blob.copy_from(HostOffset::ZERO, &*source, HostOffset::ZERO, ByteCount::new(512))?;
    assert_eq!(all(&disk)?, of(&["a:0", "a:5"]));
    Ok(())
}

#[test]
fn where_subsets_are_too_many_every_simple_choice_is_there() -> Outcome {
    let (disk, blob) = with_blob(FileSystem::Strict, 8)?;
    for at in 0..4 {
        blob.write_at(HostOffset::new(at * 1024), &sectors(2, u8::try_from(at)? + 1))?;
    }
    let bounds = Bounds { exhaustive_bits: 7, samples: 0, ..Bounds::default() };
    let found = left(&disk, bounds)?;
    let expected = of(&[
        // Nothing, everything, every prefix.
        "a:00000000",
        "a:11223344",
        "a:11000000",
        "a:11220000",
        "a:11223300",
        // One missing, one alone.
        "a:00223344",
        "a:11003344",
        "a:11220044",
        "a:00220000",
        "a:00003300",
        "a:00000044",
        // Torn, with what came before it, and with all others.
        "a:10000000",
        "a:11200000",
        "a:11223000",
        "a:11223340",
        "a:10223344",
        "a:11203344",
        "a:11223044",
        // Two missing.
        "a:00003344",
        "a:00220044",
        "a:00223300",
        "a:11000044",
        "a:11003300",
    ]);
    assert_eq!(found, expected);

    let bounds = Bounds { exhaustive_bits: 8, ..bounds };
    assert_eq!(left(&disk, bounds)?.len(), 256);
    let sampled = |seed| left(&disk, Bounds { exhaustive_bits: 0, samples: 300, seed, ..bounds });
    assert_eq!(sampled(7)?, sampled(7)?);
    assert_ne!(sampled(7)?, sampled(8)?);
    assert!(sampled(7)?.len() > 100, "few of 300 samples are new");
    Ok(())
}

#[test]
fn equal_states_have_equal_digests_and_others_other_ones() -> Outcome {
    let (disk, blob) = with_blob(FileSystem::Strict, 4)?;
    blob.write_at(HostOffset::ZERO, &sectors(2, 1))?;
    disk.create(&name("b"))?;
    blob.write_at(HostOffset::new(512), &sectors(2, 0))?;
    let mut found = BTreeSet::new();
    for state in disk.log().cut(disk.position()).states(Bounds::default()) {
        found.insert((shown(&state)?, state.digest()));
    }
    let shown: BTreeSet<&String> = found.iter().map(|(shown, _)| shown).collect();
    let digests: BTreeSet<u128> = found.iter().map(|(_, digest)| *digest).collect();
    assert_eq!((shown.len(), digests.len()), (found.len(), found.len()));
    Ok(())
}

#[test]
fn the_others_have_another_digest_when_one_was_changed_since_and_only_then() -> Outcome {
    let (disk, blob) = with_blob(FileSystem::Strict, 20)?;
    disk.create(&name("b"))?.write_at(HostOffset::ZERO, &sectors(1, 3))?;
    blob.write_at(HostOffset::ZERO, &sectors(12, 1))?;
    let state = disk.log().cut(disk.position()).everything();
    let (a, b) = (name("a"), name("b"));
    let store = state.store();
    let before = state.digest_of_others(&store, &b);
    store.open(&b, Access::Write)?.write_at(HostOffset::ZERO, &sectors(1, 4))?;
    assert_eq!(state.digest_of_others(&store, &b), before);
    let changed = store.open(&a, Access::Write)?;
    changed.write_at(HostOffset::ZERO, &sectors(1, 2))?;
    assert_ne!(state.digest_of_others(&store, &b), before);
    // The same bytes again, written since.
    changed.write_at(HostOffset::ZERO, &sectors(1, 1))?;
    assert_eq!(state.digest_of_others(&store, &b), before);
    store.remove(&a)?;
    assert_ne!(state.digest_of_others(&store, &b), before);
    Ok(())
}

#[test]
fn each_page_of_a_blob_that_is_left_has_a_digest_of_its_own() -> Outcome {
    let (disk, blob) = with_blob(FileSystem::Strict, 20)?;
    disk.create(&name("b"))?.write_at(HostOffset::ZERO, &sectors(1, 3))?;
    blob.write_at(HostOffset::ZERO, &sectors(1, 1))?;
    blob.write_at(HostOffset::new(2 * 4096), &sectors(1, 1))?;
    let before = disk.log().cut(disk.position()).everything();
    blob.write_at(HostOffset::new(4096 + 512), &sectors(2, 2))?;
    blob.punch(HostOffset::new(2 * 4096), ByteCount::new(4096))?;
    let after = disk.log().cut(disk.position()).everything();
    let [one, other] = [&before, &after].map(|state| &state.blobs()[0]);
    assert_eq!((other.name(), other.length()), (&name("a"), ByteCount::new(20 * 512)));
    assert_eq!(Some(other.digest()), after.digest_of(&name("a")));
    assert!(one.digest_of_page(0).is_some() && one.digest_of_page(2).is_some());
    assert_eq!(one.digest_of_page(0), other.digest_of_page(0));
    assert_ne!(one.digest_of_page(1), other.digest_of_page(1));
    assert_eq!((other.digest_of_page(2), other.digest_of_page(3)), (None, None));
    let names: Vec<_> = after.blobs().iter().map(|blob| blob.name().as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    for blob in [name("a"), name("b"), name("c")] {
        assert_eq!(after.digest_without(&blob), after.digest_of_others(&after.store(), &blob));
    }
    assert_ne!(before.digest_without(&name("b")), after.digest_without(&name("b")));
    assert_eq!(before.digest_without(&name("a")), after.digest_without(&name("a")));
    Ok(())
}

#[test]
fn a_log_says_what_a_file_system_of_another_kind_would_have_left() -> Outcome {
    let (disk, _) = with_blob(FileSystem::Strict, 1)?;
    let b = disk.create(&name("b"))?;
    b.write_at(HostOffset::ZERO, &sectors(1, 1))?;
    b.sync()?;
    let log = disk.log();
    assert_eq!(log.cut(disk.position()).durable().digest_of(&name("b")), None);
    let durable = log.on(FileSystem::Ext4Like).cut(disk.position()).durable();
    assert!(durable.digest_of(&name("b")).is_some(), "the sync of a blob covers its name there");
    Ok(())
}

#[test]
fn shuffled_states_are_the_same_ones_and_begin_with_nothing_and_everything() -> Outcome {
    let (disk, blob) = with_blob(FileSystem::Strict, 4)?;
    blob.write_at(HostOffset::ZERO, &sectors(4, 1))?;
    blob.write_at(HostOffset::new(512), &sectors(2, 2))?;
    let states = |seed| disk.log().cut(disk.position()).states(Bounds::default()).shuffled(seed);
    let found = |seed| states(seed).map(|state| shown(&state)).collect::<Result<Vec<_>, _>>();
    let (one, other) = (found(1)?, found(2)?);
    assert_eq!(one[..2], ["a:0000", "a:1221"]);
    assert_ne!(one, other);
    assert_eq!(one, found(1)?);
    assert_eq!(one.into_iter().collect::<BTreeSet<_>>(), all(&disk)?);
    Ok(())
}

#[test]
fn a_log_is_cut_at_every_instant_and_can_leave_a_sync_out() -> Outcome {
    let disk = SimulatedDisk::new(FileSystem::Strict);
    let blob = disk.create(&name("a"))?;
    blob.write_at(HostOffset::ZERO, &sectors(1, 1))?;
    blob.sync()?;
    disk.sync_names()?;
    let log = disk.log();
    let changes: Vec<&DiskChange> = log.events().iter().map(|event| &event.change).collect();
    let [DiskChange::Create, DiskChange::Write { .. }, DiskChange::Sync, DiskChange::SyncNames] = changes[..]
    else {
        panic!("{changes:?}");
    };
    let settled: Vec<(usize, bool)> = log.cuts(1).map(|(instant, cut)| (instant, cut.is_settled())).collect();
    assert_eq!(settled, [(1, false), (2, false), (3, false), (4, true)]);
    assert_eq!(shown(&log.cut(4).durable())?, "a:1");
    assert_eq!(shown(&log.cut(2).durable())?, "");
    assert_eq!(shown(&log.cut(2).everything())?, "a:1");
    assert!(log.cut(4).is_durable(&name("a")) && !log.cut(3).is_durable(&name("a")));

    assert_eq!(shown(&log.without(2).cut(3).durable())?, "a:");
    assert_eq!(shown(&log.without(3).cut(3).durable())?, "");
    // The sync first, the write after it.
    assert_eq!(shown(&log.moved(1, 2).cut(4).durable())?, "a:");
    assert_eq!(log.cut(4).durable().choice(), Choice::Nothing);
    Ok(())
}

#[test]
fn a_name_is_durable_though_the_sync_of_another_one_has_failed() -> Outcome {
    let disk = SimulatedDisk::new(FileSystem::Strict);
    let store = SimulatedStore::on_disk(&disk);
    store.create(&name("a"))?;
    store.fail(Fault::once(At::CallOf(Operation::SyncNames, 1), FaultKind::EIO));
    assert!(store.sync_names().is_err());
    disk.create(&name("b"))?;
    disk.sync_names()?;
    let log = disk.log();
    let cut = log.cut(disk.position());
    assert!(!cut.is_durable(&name("a")) && cut.is_durable(&name("b")));
    assert_eq!(shown(&cut.durable())?, "b:");
    Ok(())
}

#[test]
fn a_state_is_a_store_of_its_own() -> Outcome {
    let (disk, blob) = with_blob(FileSystem::Strict, 1)?;
    let state = disk.log().cut(0).durable();
    blob.write_at(HostOffset::ZERO, &sectors(1, 1))?;
    let again = SimulatedDisk::over(&state.store(), FileSystem::Strict);
    again.open(&name("a"), Access::Write)?.write_at(HostOffset::ZERO, &sectors(1, 2))?;
    assert_eq!(shown(&state)?, "a:0");
    assert_eq!(all(&again)?, of(&["a:0", "a:2"]));
    assert_eq!(all(&disk)?, of(&["a:0", "a:1"]));
    Ok(())
}
