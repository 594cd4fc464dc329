//! The rules of order, each broken once: `watch_order` sees it in the log.

use snapgroup::image::{Image, Limits};
use snapgroup::query::Query;
use snapgroup::storage::{
    Access, BlobName, DiskChange, DiskEvent, DiskLog, FileSystem, SimulatedDisk, Store,
};
use snapgroup::units::{GuestOffset, HostOffset};
use snapgroup::{
    ByteCount, CreateSnapshot, CreateVolume, DeleteSnapshots, Direction, Engine, Options, OrderBreach,
    OrderRule, SealOptions, Volume, watch_order,
};
use std::sync::Arc;

fn name(text: &str) -> BlobName {
    BlobName::parse(text).expect("one component")
}

fn is_layer(name: &BlobName) -> bool {
    name.as_str().starts_with("layer-")
}

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// A disk, the pool on it, the handle of its volume, and the files below that, its head first.
type Pool = (SimulatedDisk, Engine, Volume, Vec<BlobName>);

/// A pool of one disk with a snapshot below its head.
fn pool() -> Outcome<Pool> {
    let disk = SimulatedDisk::new(FileSystem::Strict);
    let options = Options { cluster_bits: 12, ..Options::default() };
    let engine = Engine::open_on(Arc::new(disk.clone()), options)?;
    let volume = engine.create_volume(&CreateVolume::new("data", ByteCount::mib(1)))?.uuid;
    let handle = engine.open_volume(volume)?;
    handle.write_at(0, &[1; 9000])?;
    engine.create_snapshot(&CreateSnapshot::new(volume, "monday"))?;
    handle.write_at(20_000, &[2; 9000])?;
    handle.flush()?;
    let files: Result<_, _> =
        engine.chain(volume)?.iter().map(|layer| BlobName::parse(&layer.file)).collect();
    Ok((disk, engine, handle, files?))
}

fn rules(disk: &SimulatedDisk) -> Vec<OrderRule> {
    watch_order(&disk.log()).into_iter().map(|breach| breach.rule).collect()
}

fn last(log: &DiskLog, is_it: impl Fn(&DiskEvent) -> bool) -> usize {
    log.events().iter().rposition(is_it).expect("it happened")
}

#[test]
fn a_file_that_is_not_synced_before_the_commit_is_seen() -> Outcome {
    let (disk, .., files) = pool()?;
    let log = disk.log();
    assert_eq!(watch_order(&log), []);
    let created =
        last(&log, |event| event.change == DiskChange::Create && event.name.as_ref() == Some(&files[0]));
    let after = |is_it: &dyn Fn(&DiskEvent) -> bool| {
        let events = log.events().iter().enumerate().skip(created);
        events.into_iter().find(|(_, event)| is_it(event)).map(|(at, _)| at).expect("it was synced")
    };
    let of_names = after(&|event| event.change == DiskChange::SyncNames);
    let found = watch_order(&log.without(of_names));
    assert!(found.iter().any(|breach| is_named_early(breach, &files[0])), "{found:?}");
    Ok(())
}

fn is_named_early(breach: &OrderBreach, file: &BlobName) -> bool {
    (breach.rule, breach.file.as_str()) == (OrderRule::NamedAfterDurable, file.as_str())
}

#[test]
fn a_copy_that_is_not_synced_before_the_commit_is_seen() -> Outcome {
    let (disk, engine, handle, _) = pool()?;
    let full = CreateSnapshot::new(handle.uuid(), "tuesday").in_full();
    let snapshot = engine.create_snapshot(&full)?;
    let log = disk.log();
    assert_eq!(watch_order(&log), []);
    // Nothing is above it yet: the head of now is above the one that was copied no more.
    let copy = BlobName::parse(&engine.chain(handle.uuid())?[1].file)?;
    assert!(engine.snapshot(snapshot.uuid).is_ok());
    let is_sync = |event: &DiskEvent| event.change == DiskChange::Sync && event.name.as_ref() == Some(&copy);
    let syncs = log.events().iter().enumerate().filter(|(_, event)| is_sync(event));
    let without = syncs.map(|(at, _)| watch_order(&log.without(at)));
    assert!(without.flatten().any(|breach| is_named_early(&breach, &copy)));
    Ok(())
}

#[test]
fn a_head_that_is_said_to_have_arrived_and_has_not_is_seen() -> Outcome {
    let (disk, engine, handle, _) = pool()?;
    let volume = handle.uuid();
    engine.create_snapshot(&CreateSnapshot::new(volume, "tuesday"))?;
    let head = BlobName::parse(&engine.chain(volume)?[0].file)?;
    drop(handle);
    let is_sync = |event: &DiskEvent| event.change == DiskChange::Sync && event.name.as_ref() == Some(&head);
    assert!(!disk.log().events().iter().any(is_sync), "an empty head was synced when it was made");
    engine.close()?;
    let log = disk.log();
    assert_eq!(watch_order(&log), []);
    let found = watch_order(&log.without(last(&log, is_sync)));
    assert!(found.iter().any(|breach| is_named_early(breach, &head)), "{found:?}");
    Ok(())
}

#[test]
fn a_written_head_that_is_frozen_as_an_empty_one_is_seen() -> Outcome {
    let (disk, engine, handle, _) = pool()?;
    let volume = handle.uuid();
    // It is written behind the back of the pool, which holds it for empty.
    engine.create_snapshot(&CreateSnapshot::new(volume, "tuesday"))?;
    let empty = BlobName::parse(&engine.chain(volume)?[0].file)?;
    let image = Image::open(disk.open(&empty, Access::Write)?, "head", Access::Write, Limits::default())?;
    image.write(GuestOffset::ZERO, &[3; 4096], None)?;
    image.flush()?;
    assert_eq!(watch_order(&disk.log()), []);
    let from = disk.position();
    engine.create_snapshot(&CreateSnapshot::new(volume, "wednesday"))?;
    assert_eq!(watch_order(&disk.log()), []);
    let log = disk.log();
    let is_sync = |event: &DiskEvent| event.change == DiskChange::Sync && event.name.as_ref() == Some(&empty);
    let synced = log.events()[..from].iter().rposition(is_sync).expect("it was flushed");
    let found = watch_order(&log.without(synced));
    assert!(found.iter().any(|breach| is_named_early(breach, &empty)), "{found:?}");
    Ok(())
}

#[test]
fn a_head_that_is_frozen_with_unsynced_bytes_is_seen() -> Outcome {
    let (disk, .., files) = pool()?;
    let log = disk.log();
    let frozen =
        |event: &DiskEvent| event.change == DiskChange::Sync && event.name.as_ref() == Some(&files[1]);
    let found = watch_order(&log.without(last(&log, frozen)));
    assert!(found.iter().any(|breach| breach.file == files[1].as_str()), "{found:?}");
    Ok(())
}

#[test]
fn a_file_that_goes_before_the_commit_is_seen() -> Outcome {
    let (disk, engine, handle, _) = pool()?;
    let snapshot = engine.query_snapshots(&Query::default())?.items[0].uuid;
    drop(handle);
    let wish = DeleteSnapshots { direction: Direction::Pull, ..DeleteSnapshots::one(snapshot) };
    assert!(engine.delete_snapshots(&wish)?.is_success());
    let log = disk.log();
    assert_eq!(watch_order(&log), []);
    let removed =
        last(&log, |event| event.change == DiskChange::Remove && event.name.as_ref().is_some_and(is_layer));
    let is_commit =
        |event: &DiskEvent| event.change == DiskChange::Sync && event.name == Some(name("snapgroup.redb"));
    let commit = log.events()[..removed].iter().rposition(is_commit).expect("it was committed");
    let found = watch_order(&log.moved(removed, commit));
    assert!(found.iter().any(|breach| breach.rule == OrderRule::RemovedAfterCommit), "{found:?}");
    Ok(())
}

#[test]
fn a_write_or_a_punch_in_a_frozen_layer_is_seen() -> Outcome {
    let (disk, _engine, _handle, files) = pool()?;
    let frozen = disk.open(&files[1], Access::Write)?;
    let end = frozen.length()?;
    frozen.write_at(HostOffset::end_of(end), &[0; 512])?;
    assert_eq!(rules(&disk), [OrderRule::FrozenUntouched]);
    frozen.punch(HostOffset::end_of(end), ByteCount::new(512))?;
    assert_eq!(rules(&disk), [OrderRule::FrozenUntouched, OrderRule::RemovedAfterCommit]);
    Ok(())
}

#[test]
fn a_write_onto_a_table_in_use_is_seen() -> Outcome {
    let (disk, _engine, _handle, files) = pool()?;
    let head = disk.open(&files[0], Access::Write)?;
    let mut at = [0; 8];
    // Where the header says that the L1 table is.
    head.read_at(HostOffset::new(40), &mut at)?;
    head.write_at(HostOffset::new(u64::from_be_bytes(at)), &[0x21; 512])?;
    assert_eq!(rules(&disk), [OrderRule::TablesWhole]);
    Ok(())
}

#[test]
fn a_write_to_a_sealed_layer_is_seen() -> Outcome {
    let (disk, engine, _handle, files) = pool()?;
    assert!(engine.seal(&SealOptions::default())?.finish()?.failed.is_empty());
    assert_eq!(rules(&disk), []);
    let frozen = disk.open(&files[1], Access::Write)?;
    frozen.write_at(HostOffset::end_of(frozen.length()?), &[0; 512])?;
    assert_eq!(rules(&disk), [OrderRule::FrozenUntouched, OrderRule::SealedUntouched]);
    Ok(())
}
