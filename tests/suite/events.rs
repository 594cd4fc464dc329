//! What a listener is told: every change of the books and nothing else, once it is durable, and how far work has come.

use crate::support::{Home, Machine, Made, Outcome, fill, make_machine, on_memory_and_disk};
use snapgroup::{
    Became, BookEntry, ByteCount, DeleteGroup, Direction, Engine, Event, Export, Listener, ReclaimOptions,
    Step, UpdateGroup, When, Work,
};
use std::sync::mpsc::{Receiver, channel};

on_memory_and_disk! {
    every_change_of_the_books_is_told_once_with_what_became_of_each_record
    what_is_refused_is_not_told
    work_tells_how_far_it_has_come
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
    let [Event::Changed { after, changes }] = &events[..] else { panic!("one commit: {events:?}") };
    assert_eq!(*after, generation);
    let created = |what| changes.iter().filter(move |it| it.what == what && it.how == Became::Created);
    assert_eq!(created(BookEntry::Group).map(|it| it.uuid).collect::<Vec<_>>(), [group.uuid]);
    let members: Vec<_> = group.volume_snapshot_refs.iter().map(|it| it.volume_snapshot_uuid).collect();
    assert!(created(BookEntry::Snapshot).all(|it| members.contains(&it.uuid)));
    assert_eq!(created(BookEntry::Snapshot).count(), 2);

    engine.update_group(group.uuid, &UpdateGroup { name: Some("h".into()), ..Default::default() })?;
    assert_eq!(counted(&told), [(BookEntry::Group, Became::Changed, 1)]);

    engine.delete_group(&DeleteGroup::new(group.uuid))?;
    let gone: Vec<_> = counted(&told).into_iter().filter(|(_, how, _)| *how == Became::Removed).collect();
    assert_eq!(gone, [(BookEntry::Group, Became::Removed, 1), (BookEntry::Snapshot, Became::Removed, 2)]);
    Ok(())
}

fn what_is_refused_is_not_told(home: &Home) -> Outcome {
    let (engine, vm, told) = told(home)?;
    assert!(engine.create_group(&vm.group("")).is_err());
    let disk = engine.open_volume(vm.root())?;
    fill(&disk, 0, 5000, 1)?;
    disk.flush()?;
    assert_eq!(told.try_iter().count(), 0);
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

    engine.delete_group(&DeleteGroup { reclaim: When::Later, ..DeleteGroup::new(group.uuid) })?;
    let mut reclaim = engine.reclaim(&ReclaimOptions::towards(Direction::Pull))?;
    while reclaim.step(ByteCount::kib(16))? == Step::More {}
    assert!(is_whole(&told, Work::Reclaim), "the reclaim did not tell of its end");
    Ok(())
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
