//! The rules of order, each broken once: `watch_order` sees it in the log.

use snapgroup::query::Query;
use snapgroup::storage::{
    Access, BlobName, DiskChange, DiskEvent, DiskLog, FileSystem, SimulatedDisk, Store,
};
use snapgroup::units::HostOffset;
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
    let of_bytes = after(&|event| event.change == DiskChange::Sync && event.name.as_ref() == Some(&files[0]));
    let of_names = after(&|event| event.change == DiskChange::SyncNames);
    for sync in [of_bytes, of_names] {
        let found = watch_order(&log.without(sync));
        let of_head = |breach: &OrderBreach| {
            (breach.rule, &breach.file) == (OrderRule::NamedAfterDurable, &files[0].to_string())
        };
        assert!(found.iter().any(of_head), "{found:?}");
    }
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
    engine.delete_snapshots(&wish)?;
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
    engine.seal(&SealOptions::default())?.finish()?;
    assert_eq!(rules(&disk), []);
    let frozen = disk.open(&files[1], Access::Write)?;
    frozen.write_at(HostOffset::end_of(frozen.length()?), &[0; 512])?;
    assert_eq!(rules(&disk), [OrderRule::FrozenUntouched, OrderRule::SealedUntouched]);
    Ok(())
}
