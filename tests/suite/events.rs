//! What a listener is told: when each operation begins and how it ends, every change of the books once it is durable, and
//! how far work has come.

use crate::support::{Home, Machine, Made, Outcome, fill, make_machine, on_memory_and_disk};
use snapgroup::{
    Became, BookEntry, ByteCount, Code, DeleteGroup, Direction, Engine, Event, Export, Kind, Listener,
    Operation, Outcome as How, ReclaimOptions, RepairOptions, SealOptions, Step, UpdateGroup, VerifyDepth,
    VerifyOf, When, Work,
};
use std::sync::mpsc::{Receiver, channel};

on_memory_and_disk! {
    every_change_of_the_books_is_told_once_with_what_became_of_each_record
    what_is_refused_changes_nothing_and_says_why
    each_operation_is_told_of_when_it_begins_and_once_when_it_ends
    work_tells_how_far_it_has_come
    what_looks_at_many_files_tells_how_far_it_has_come
}

/// A machine of two disks in a pool that tells what happens.
fn told(home: &Home) -> Made<(Engine, Machine, Receiver<Event>)> {
    let (tell, told) = channel();
    let listener = Listener::new(move |event| drop(tell.send(event.clone())));
    let engine = home.open_with(|options| options.listener = listener)?;
    let vm = make_machine(&engine, 2)?;
    told.try_iter().for_each(drop);
    Ok((engine, vm, told))
}

/// How many records of each kind became what, in what was told since the last time.
fn counted(told: &Receiver<Event>) -> Vec<(BookEntry, Became, usize)> {
    let mut counted: Vec<(BookEntry, Became, usize)> = Vec::new();
    for event in told.try_iter() {
        let Event::Changed { changes, .. } = event else { continue };
        assert!(!changes.is_empty());
        for change in changes {
            match counted.iter_mut().find(|(what, how, _)| (*what, *how) == (change.what, change.how)) {
                Some((_, _, count)) => *count += 1,
                None => counted.push((change.what, change.how, 1)),
            }
        }
    }
    counted.sort_by_key(|(what, how, _)| format!("{what:?}{how:?}"));
    counted
}

fn every_change_of_the_books_is_told_once_with_what_became_of_each_record(home: &Home) -> Outcome {
    let (engine, vm, told) = told(home)?;
    let generation = engine.generation();
    let group = engine.create_group(&vm.group("g"))?.inventory;
    let events: Vec<Event> = told.try_iter().collect();
    let [Event::Began { .. }, Event::Changed { after, changes }, Event::Ended { .. }] = &events[..] else {
        panic!("one commit: {events:?}")
    };
    assert_eq!(*after, generation);
    let created = |what| changes.iter().filter(move |it| it.what == what && it.how == Became::Created);
    assert_eq!(created(BookEntry::Group).map(|it| it.uuid).collect::<Vec<_>>(), [group.uuid]);
    let members: Vec<_> = group.volume_snapshot_refs.iter().map(|it| it.volume_snapshot_uuid).collect();
    assert!(created(BookEntry::Snapshot).all(|it| members.contains(&it.uuid)));
    assert_eq!(created(BookEntry::Snapshot).count(), 2);

    engine.update_group(group.uuid, &UpdateGroup { name: Some("h".into()), ..Default::default() })?;
    assert_eq!(counted(&told), [(BookEntry::Group, Became::Changed, 1)]);

    assert!(engine.delete_group(&DeleteGroup::new(group.uuid))?.is_success());
    let gone: Vec<_> = counted(&told).into_iter().filter(|(_, how, _)| *how == Became::Removed).collect();
    assert_eq!(gone, [(BookEntry::Group, Became::Removed, 1), (BookEntry::Snapshot, Became::Removed, 2)]);
    Ok(())
}

fn what_is_refused_changes_nothing_and_says_why(home: &Home) -> Outcome {
    let (engine, vm, told) = told(home)?;
    assert!(engine.create_group(&vm.group("")).is_err());
    let events: Vec<Event> = told.try_iter().collect();
    let [Event::Began { .. }, Event::Ended { operation, outcome, .. }] = events[..] else {
        panic!("nothing has changed: {events:?}")
    };
    let refused = How::Failed { kind: Kind::Refused, code: Code::InvalidArgument };
    assert_eq!((operation, outcome), (Operation::CreateGroup, refused));

    // Guest data is no operation.
    let disk = engine.open_volume(vm.root())?;
    told.try_iter().for_each(drop);
    fill(&disk, 0, 5000, 1)?;
    disk.flush()?;
    assert_eq!(told.try_iter().count(), 0);
    Ok(())
}

fn each_operation_is_told_of_when_it_begins_and_once_when_it_ends(home: &Home) -> Outcome {
    let (engine, vm, told) = told(home)?;
    let disk = engine.open_volume(vm.root())?;
    fill(&disk, 0, 400_000, 1)?;
    let group = engine.create_group(&vm.group("a"))?.inventory;
    let target = || -> Made<_> {
        let name = snapgroup::storage::BlobName::parse("copy")?;
        Ok(snapgroup::storage::Store::create(&snapgroup::storage::MemoryStore::new(), &name)?)
    };
    let snapshot = group.volume_snapshot_refs[0].volume_snapshot_uuid;
    let mut exporter = engine.exporter(snapshot, &Export::raw(), target()?)?;
    assert_eq!(exporter.step(ByteCount::kib(64))?, Step::More);
    drop(exporter);
    engine.export(snapshot, &Export::raw(), target()?)?;
    assert!(engine.delete_group(&DeleteGroup::new(group.uuid))?.is_success());

    let mut under_way = Vec::new();
    let mut ended = Vec::new();
    for event in told.try_iter() {
        match event {
            Event::Began { operation, run } => under_way.push((operation, run)),
            Event::Ended { operation, run, outcome } => {
                let last = under_way.pop();
                assert_eq!(last, Some((operation, run)), "what began last ends first");
                ended.push((operation, outcome));
            }
            _ => assert!(!under_way.is_empty(), "outside of every operation: {event:?}"),
        }
    }
    assert!(under_way.is_empty(), "{under_way:?} did not end");
    let expected = [
        (Operation::OpenVolume, How::Done),
        (Operation::CreateGroup, How::Done),
        (Operation::Export, How::GivenUp),
        (Operation::Export, How::Done),
        (Operation::Reclaim, How::Done),
        (Operation::DeleteGroup, How::Done),
    ];
    assert_eq!(ended, expected);
    Ok(())
}

fn work_tells_how_far_it_has_come(home: &Home) -> Outcome {
    let (engine, vm, told) = told(home)?;
    let disk = engine.open_volume(vm.root())?;
    fill(&disk, 0, 400_000, 1)?;
    let group = engine.create_group(&vm.group("a"))?.inventory;
    fill(&disk, 0, 100_000, 2)?;
    let kept = engine.create_group(&vm.group("b"))?.inventory;

    let target = snapgroup::storage::MemoryStore::new();
    let name = snapgroup::storage::BlobName::parse("copy")?;
    let blob = snapgroup::storage::Store::create(&target, &name)?;
    engine.export(kept.volume_snapshot_refs[0].volume_snapshot_uuid, &Export::raw(), blob)?;
    assert!(is_whole(&told, Work::Export), "the export did not tell of its end");

    assert!(
        engine
            .delete_group(&DeleteGroup { reclaim: When::Later, ..DeleteGroup::new(group.uuid) })?
            .is_success()
    );
    let mut reclaim = engine.reclaim(&ReclaimOptions::towards(Direction::Pull))?;
    while reclaim.step(ByteCount::kib(16))? == Step::More {}
    assert!(is_whole(&told, Work::Reclaim), "the reclaim did not tell of its end");
    Ok(())
}

fn what_looks_at_many_files_tells_how_far_it_has_come(home: &Home) -> Outcome {
    let (engine, vm, told) = told(home)?;
    engine.resize_volume(vm.root(), ByteCount::mib(4))?;
    fill(&engine.open_volume(vm.root())?, 0, 3 << 20, 1)?;
    let group = engine.create_group(&vm.group("a"))?.inventory.uuid;
    assert!(engine.seal(&SealOptions::default())?.finish()?.failed.is_empty());
    let everything = ByteCount::mib(3);
    // The parts of one file are told of when it is read, and files that are only looked at as wholes.
    for (depth, least) in [(VerifyDepth::Content, 4), (VerifyDepth::Suspects, 3)] {
        told.try_iter().for_each(drop);
        assert!(engine.verify(&VerifyOf::Pool, depth)?.is_proved());
        let steps = steps_of(&told, Work::Verify);
        assert!(steps.len() >= least && steps[0].1 >= everything, "{depth:?}: {steps:?}");
    }
    assert!(engine.verify(&VerifyOf::Group(group.into()), VerifyDepth::Looks)?.is_good());
    assert!(!steps_of(&told, Work::Verify).is_empty());
    assert!(engine.check()?.is_clean());
    let steps = steps_of(&told, Work::Check);
    assert!(steps.len() >= 4 && steps[0].1 >= everything, "two heads and two layers below them: {steps:?}");
    assert!(engine.repair(&RepairOptions::default())?.is_whole());
    let whole = steps_of(&told, Work::Repair);
    assert_eq!(whole[0].1, steps[0].1, "the same files");
    let disk = RepairOptions { volume: Some(vm.disks[1].into()), ..RepairOptions::perform() };
    assert!(engine.repair(&disk)?.is_whole());
    assert!(steps_of(&told, Work::Repair)[0].1 < everything, "only what that disk reads through");
    Ok(())
}

/// What work told of itself: never going back, up to its end.
fn steps_of(told: &Receiver<Event>, wanted: Work) -> Vec<(ByteCount, ByteCount)> {
    let steps = told.try_iter().filter_map(|event| match event {
        Event::Progress { work, done, total } if work == wanted => Some((done, total)),
        _ => None,
    });
    let steps: Vec<_> = steps.collect();
    let (done, total) = *steps.last().expect("it told of itself");
    assert_eq!(done, total);
    assert!(steps.is_sorted_by(|one, other| one.0 <= other.0 && one.1 == other.1), "{steps:?}");
    steps
}

/// Whether work told of itself, never going back, up to its end.
fn is_whole(told: &Receiver<Event>, wanted: Work) -> bool {
    let mut last = (ByteCount::ZERO, ByteCount::new(1));
    for event in told.try_iter() {
        if let Event::Progress { work, done, total } = event
            && work == wanted
        {
            assert!(done >= last.0 && done <= total, "{done} after {}, of {total}", last.0);
            last = (done, total);
        }
    }
    last.0 == last.1
}
