//! Quotas: how many snapshots a pool may hold, and what they may take up.

use super::support::{Home, Made, Outcome, fill, make_machine, on_every_store};
use snapgroup::query::Query;
use snapgroup::{
    ByteCount, ChainFull, CreateSnapshot, DeleteSnapshots, Direction, Engine, Error, Kind, Refusal,
    RevertVolume, Running,
};

on_every_store! {
    what_snapshots_take_up_is_the_sum_of_their_sizes
    a_snapshot_that_would_take_up_too_much_is_refused_and_nothing_has_happened
    a_group_counts_the_bytes_of_all_its_members_at_once
    a_deletion_makes_room_and_a_merge_is_never_refused
    whatever_takes_snapshots_keeps_to_the_quota
}

/// What is written at a time: an eighth of a disk.
const PIECE: usize = 1 << 17;
const PIECE_BYTES: ByteCount = ByteCount::kib(128);

/// The sum by the inventories, which is what the pool must say.
fn sum(engine: &Engine) -> Made<u64> {
    let page = engine.query_snapshots(&Query::all())?;
    Ok(page.items.iter().map(|snapshot| snapshot.size.as_u64()).sum())
}

fn what_snapshots_take_up_is_the_sum_of_their_sizes(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let disk = engine.open_volume(vm.root())?;
    let mut snapshots = Vec::new();
    for round in 0..4_u64 {
        fill(&disk, round * PIECE as u64, PIECE, 7)?;
        snapshots.push(engine.create_snapshot(&CreateSnapshot::new(vm.root(), "s"))?.uuid);
        engine.create_group(&vm.group(&format!("g{round}")))?;
        assert_eq!(engine.usage()?.snapshot_bytes.as_u64(), sum(&engine)?);
    }
    // Bytes move into another snapshot's layer, or into the head.
    for (snapshot, direction) in snapshots.iter().zip([Direction::Pull, Direction::Commit, Direction::Auto]) {
        let request = DeleteSnapshots { direction, ..DeleteSnapshots::one(*snapshot) };
        assert!(engine.delete_snapshots(&request)?.is_success());
        assert_eq!(engine.usage()?.snapshot_bytes.as_u64(), sum(&engine)?);
    }
    assert_eq!(engine.usage()?.snapshots, 9);
    assert!(engine.check()?.is_clean());
    Ok(())
}

fn a_snapshot_that_would_take_up_too_much_is_refused_and_nothing_has_happened(home: &Home) -> Outcome {
    let quota = ByteCount::kib(256);
    let engine = home.open_with(|options| options.snapshot_bytes_max = Some(quota))?;
    let vm = make_machine(&engine, 1)?;
    let disk = engine.open_volume(vm.root())?;
    fill(&disk, 0, PIECE, 7)?;
    disk.flush()?;
    engine.create_snapshot(&CreateSnapshot::new(vm.root(), "fits"))?;
    let held = engine.usage()?.snapshot_bytes;
    assert!(held > PIECE_BYTES && held < quota, "{held}");
    fill(&disk, 0, PIECE, 8)?;
    disk.flush()?;
    let planned = engine.plan_create(&vm.group("g"))?;
    assert_eq!(planned.refused.map(|refused| refused.code), Some("ID.1003".to_owned()));
    let error =
        home.refusal(&engine, || engine.create_snapshot(&CreateSnapshot::new(vm.root(), "does not")))?;
    assert_eq!((error.kind(), error.to_error_code().code), (Kind::Refused, "ID.1003".to_owned()));
    let Error::Refused(Refusal::QuotaBytes { held: told, adding, quota: most }) = error else {
        panic!("{error:?}")
    };
    assert_eq!((told, most), (held, quota));
    assert!(adding > PIECE_BYTES && adding < quota, "{adding}");
    // The disk goes on.
    disk.write_at(0, &[9; 4096])?;
    disk.flush()?;
    Ok(())
}

fn a_group_counts_the_bytes_of_all_its_members_at_once(home: &Home) -> Outcome {
    let engine = home.open_with(|options| options.snapshot_bytes_max = Some(ByteCount::kib(3 * 128)))?;
    let vm = make_machine(&engine, 3)?;
    let mut disks = Vec::new();
    for volume in &vm.disks {
        let disk = engine.open_volume(*volume)?;
        fill(&disk, 0, PIECE, 7)?;
        disk.flush()?;
        disks.push(disk);
    }
    let error = home.refusal(&engine, || engine.create_group(&vm.group("g")))?;
    let Error::Refused(Refusal::QuotaBytes { held: ByteCount::ZERO, .. }) = error else {
        panic!("{error:?}")
    };
    let mut smaller = vm.group("g");
    smaller.except.push(vm.disks[2].into());
    engine.create_group(&smaller)?;
    assert_eq!(engine.usage()?.snapshots, 2);
    Ok(())
}

fn a_deletion_makes_room_and_a_merge_is_never_refused(home: &Home) -> Outcome {
    let engine = home.open_with(|options| options.snapshot_bytes_max = Some(ByteCount::kib(3 * 128)))?;
    let vm = make_machine(&engine, 1)?;
    let disk = engine.open_volume(vm.root())?;
    let mut snapshots = Vec::new();
    for piece in 0..2 {
        fill(&disk, piece * PIECE as u64, PIECE, 7)?;
        snapshots.push(engine.create_snapshot(&CreateSnapshot::new(vm.root(), "s"))?.uuid);
    }
    fill(&disk, 2 * PIECE as u64, PIECE, 7)?;
    let refused = engine.create_snapshot(&CreateSnapshot::new(vm.root(), "third"));
    let Err(Error::Refused(Refusal::QuotaBytes { .. })) = refused else { panic!("{refused:?}") };
    // What the first one held goes into the second one: the sum stays.
    let before = engine.usage()?.snapshot_bytes;
    let request = DeleteSnapshots { direction: Direction::Pull, ..DeleteSnapshots::one(snapshots[0]) };
    assert!(engine.delete_snapshots(&request)?.is_success());
    assert!(engine.usage()?.snapshot_bytes <= before);
    // And now into the head, which counts for nothing.
    let request = DeleteSnapshots { direction: Direction::Pull, ..DeleteSnapshots::one(snapshots[1]) };
    assert!(engine.delete_snapshots(&request)?.is_success());
    assert_eq!(engine.usage()?.snapshot_bytes, ByteCount::ZERO);
    let refused = engine.create_snapshot(&CreateSnapshot::new(vm.root(), "third"));
    let Err(Error::Refused(Refusal::QuotaBytes { held: ByteCount::ZERO, adding, .. })) = refused else {
        panic!("{refused:?}")
    };
    assert!(adding > ByteCount::kib(3 * 128));
    Ok(())
}

fn whatever_takes_snapshots_keeps_to_the_quota(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let disk = engine.open_volume(vm.root())?;
    fill(&disk, 0, PIECE, 7)?;
    disk.flush()?;
    let snapshot = engine.create_snapshot(&CreateSnapshot::new(vm.root(), "s"))?.uuid;
    fill(&disk, 0, PIECE, 8)?;
    disk.flush()?;
    drop(disk);
    engine.close()?;

    let most = ByteCount::kib(256 - 16);
    let engine = home.open_with(|options| {
        options.snapshot_bytes_max = Some(most);
        options.chain_full = ChainFull::Full;
    })?;
    let is_quota = |error: Error| {
        let Error::Refused(Refusal::QuotaBytes { .. }) = error else { panic!("{error:?}") };
    };
    let full = CreateSnapshot::new(vm.root(), "full").in_full();
    is_quota(home.refusal(&engine, || engine.create_snapshot(&full))?);
    is_quota(home.refusal(&engine, || engine.create_group(&vm.group("full").in_full()))?);
    is_quota(home.refusal(&engine, || engine.revert_volume(&RevertVolume::to(snapshot).keeping()))?);
    engine.set_running(vm.uuid, Running::Elsewhere)?;
    is_quota(home.refusal(&engine, || engine.prepare_group(&vm.group("live")))?);
    engine.set_running(vm.uuid, Running::Here)?;
    engine.revert_volume(&RevertVolume::to(snapshot))?;
    assert_eq!(engine.usage()?.snapshots, 1, "a revert that keeps nothing takes nothing");
    Ok(())
}

#[test]
fn what_was_not_flushed_is_counted_to_the_last_byte() -> Outcome {
    let home = Home::memory();
    let engine = home.open()?;
    let vm = make_machine(&engine, 3)?;
    let write =
        |engine: &Engine, disk: usize| -> Outcome { fill(&engine.open_volume(vm.disks[disk])?, 0, PIECE, 7) };
    let first = engine.open_volume(vm.root())?;
    fill(&first, 0, PIECE, 7)?;
    let size = engine.create_snapshot(&CreateSnapshot::new(vm.root(), "s"))?.size;
    drop(first);
    engine.close()?;

    // Room for all of it but for one byte of the tables, which are written when the head is frozen.
    let most = ByteCount::new(2 * size.as_u64() - 1);
    let engine = home.open_with(|options| options.snapshot_bytes_max = Some(most))?;
    let open = [engine.open_volume(vm.disks[1])?, engine.open_volume(vm.disks[2])?];
    write(&engine, 1)?;
    write(&engine, 2)?;
    let mut group = vm.group("g");
    group.except = vec![vm.disks[0].into(), vm.disks[1].into()];
    let refused = [
        engine.create_snapshot(&CreateSnapshot::new(vm.disks[1], "s")).map(drop),
        engine.create_group(&group).map(drop),
    ];
    for (refused, disk) in refused.into_iter().zip(&open) {
        let Err(Error::Refused(Refusal::QuotaBytes { held, adding, quota })) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!((held, adding, quota), (size, size, most));
        fill(disk, 0, PIECE, 8)?;
        disk.flush()?;
    }
    assert_eq!(engine.usage()?.snapshots, 1);
    Ok(())
}
