//! Deleting snapshots and groups: the acceptance cases of the API that this crate carries over, and what goes beyond.
//!
//! Where they differ: the default is the snapshot alone and not its descendants; detached members are deleted, too,
//! and have a line; a group goes with its last member and not with its root volume's.

use crate::support::{
    Home, Machine, Made, Outcome, assert_sound, file_of, fill, make_machine, on_every_store, read_snapshot,
    read_volume, take,
};
use snapgroup::inventory::{DeleteResult, SnapshotInventory};
use snapgroup::storage::{At, Fault, FaultKind, Operation};
use snapgroup::{
    Among, CreateSnapshot, CreateVolume, DeleteGroup, DeleteMode, DeleteScope, DeleteSnapshots, DeleteVolume,
    Direction, Engine, Members, Owed, OwedReason, ReclaimOptions, RevertGroup, RevertVolume, Step, Uuid,
    When,
};

on_every_store! {
    an_unknown_group_is_a_success_without_lines
    deleting_four_of_five_keeps_the_fifth_and_its_content
    in_chain_scope_descendants_go_and_the_disk_keeps_its_data
    the_last_member_takes_the_group_along
    one_member_less_makes_the_group_unavailable
    a_held_member_keeps_all_of_them
    a_member_with_broken_tables_keeps_all_of_them_unless_bytes_wait
    each_on_its_own_deletes_the_willing
    enforcing_overrules_a_hold
    what_no_person_asked_for_is_kept_and_deleted_as_anything_else
    what_is_owed_says_what_it_waits_for
    a_line_tells_of_what_goes_with_its_snapshot
    enforcing_overrules_a_file_that_is_gone_and_says_so
    members_of_detached_volumes_are_deleted_too
    twice_is_once
    a_clone_keeps_its_snapshot_and_enforcing_keeps_its_bytes
    a_plan_names_the_head_that_is_told_of_another_file_by_the_second_of_two_merges
    whatever_the_direction_the_contents_stay
    a_reclaim_in_small_steps_ends_and_survives_reopening
    a_handle_to_a_deleted_snapshot_goes_on_reading
    a_volume_is_deleted_with_its_snapshots
    an_open_disk_is_written_while_layers_are_merged_below_it
}

/// Writes a little of its own and takes a snapshot, `count` times.
fn snapshots(engine: &Engine, volume: Uuid, count: u8) -> Made<Vec<(SnapshotInventory, Vec<u8>)>> {
    let mut taken = Vec::new();
    for index in 1..=count {
        let disk = engine.open_volume(volume)?;
        fill(&disk, u64::from(index) * 65_536, 70_000, index)?;
        fill(&disk, 0, 4096, index)?;
        drop(disk);
        let snapshot = engine.create_snapshot(&CreateSnapshot::new(volume, format!("s{index}")))?;
        let content = read_snapshot(engine, snapshot.uuid)?;
        taken.push((snapshot, content));
    }
    let disk = engine.open_volume(volume)?;
    fill(&disk, 4096, 4096, 0xaa)?;
    Ok(taken)
}

fn line(lines: &[DeleteResult], snapshot: Uuid) -> &DeleteResult {
    lines.iter().find(|line| line.snapshot_uuid == Some(snapshot)).expect("every member has a line")
}

fn members(engine: &Engine, group: Uuid) -> Made<Vec<Uuid>> {
    Ok(engine.group(group)?.volume_snapshot_refs.iter().map(|member| member.volume_snapshot_uuid).collect())
}

fn an_unknown_group_is_a_success_without_lines(home: &Home) -> Outcome {
    let engine = home.open()?;
    let deleted = engine.delete_group(&DeleteGroup::new(Uuid::from_u128(7)))?;
    assert!(deleted.results.is_empty() && deleted.is_success());
    let error = home.refusal(&engine, || engine.delete_group(&DeleteGroup::new("nonsense")))?;
    assert_eq!(error.code().as_str(), "SYS.1007");
    let none: [Uuid; 0] = [];
    let error = home.refusal(&engine, || engine.delete_snapshots(&DeleteSnapshots::all(none)))?;
    assert_eq!(error.code().as_str(), "SYS.1007");
    Ok(())
}

fn deleting_four_of_five_keeps_the_fifth_and_its_content(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let taken = snapshots(&engine, vm.root(), 5)?;
    let distances: Vec<u32> = taken.iter().map(|(snapshot, _)| snapshot.distance).collect();
    assert_eq!(distances, [1, 2, 3, 4, 5]);
    let before = read_volume(&engine, vm.root())?;
    let deleted = engine.delete_snapshots(&DeleteSnapshots::one(taken[3].0.uuid))?;
    assert!(deleted.is_success() && deleted.owed.is_empty(), "{deleted:#?}");
    let fifth = engine.snapshot(taken[4].0.uuid)?;
    assert_eq!((fifth.distance, fifth.parent_uuid, fifth.latest), (4, Some(taken[2].0.uuid), true));
    for (snapshot, content) in taken.iter().filter(|(snapshot, _)| snapshot.name != "s4") {
        assert!(read_snapshot(&engine, snapshot.uuid)? == *content, "{}", snapshot.name);
    }
    assert!(read_volume(&engine, vm.root())? == before);
    assert_sound(&engine)
}

fn in_chain_scope_descendants_go_and_the_disk_keeps_its_data(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let taken = snapshots(&engine, vm.root(), 5)?;
    let before = read_volume(&engine, vm.root())?;
    let wish = DeleteSnapshots { scope: DeleteScope::Chain, ..DeleteSnapshots::one(taken[1].0.uuid) };
    let deleted = engine.delete_snapshots(&wish)?;
    assert_eq!(deleted.results.len(), 1);
    assert!(deleted.is_success());
    for (snapshot, _) in &taken[1..] {
        assert!(engine.snapshot(snapshot.uuid).is_err(), "{} is still there", snapshot.name);
    }
    let first = engine.snapshot(taken[0].0.uuid)?;
    assert!(first.latest);
    assert!(read_volume(&engine, vm.root())? == before);
    assert!(read_snapshot(&engine, taken[0].0.uuid)? == taken[0].1);
    let next = engine.create_snapshot(&CreateSnapshot::new(vm.root(), "next"))?;
    assert_eq!((next.parent_uuid, next.distance), (Some(taken[0].0.uuid), 2));
    // The root of the tree: the volume has no tree then.
    let wish = DeleteSnapshots { scope: DeleteScope::Chain, ..DeleteSnapshots::one(taken[0].0.uuid) };
    assert!(engine.delete_snapshots(&wish)?.is_success());
    assert!(read_volume(&engine, vm.root())? == before);
    let again = engine.create_snapshot(&CreateSnapshot::new(vm.root(), "again"))?;
    assert_eq!((again.parent_uuid, again.distance), (None, 1));
    assert_sound(&engine)
}

fn the_last_member_takes_the_group_along(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 3)?;
    let one = take(&engine, &vm, "one")?;
    let two = take(&engine, &vm, "two")?;
    let three = take(&engine, &vm, "three")?;
    let deleted = engine.delete_group(&DeleteGroup::new(two.uuid))?;
    assert_eq!(deleted.results.len(), 3);
    assert!(deleted.is_success());
    assert_eq!(deleted.groups_removed, [two.uuid]);
    assert_eq!(engine.group(two.uuid).map_err(|error| error.code().as_str()).err(), Some("SYS.1003"));
    assert_eq!(engine.group(three.uuid)?.parent_group_uuid, Some(one.uuid));
    let deleted = engine.delete_group(&DeleteGroup::new(three.uuid))?;
    assert_eq!(deleted.groups_removed, [three.uuid]);
    let next = take(&engine, &vm, "next")?;
    assert_eq!(engine.group(next.uuid)?.parent_group_uuid, Some(one.uuid));
    assert_sound(&engine)
}

fn one_member_less_makes_the_group_unavailable(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let group = take(&engine, &vm, "g")?;
    let member = members(&engine, group.uuid)?[1];
    let volume = engine.volume(vm.disks[1])?;
    assert!(engine.delete_snapshots(&DeleteSnapshots::one(member))?.groups_removed.is_empty());
    let there = engine.group(group.uuid)?;
    assert_eq!(there.snapshot_count, 2);
    assert!(there.last_op_date > group.last_op_date);
    assert!(engine.volume(vm.disks[1])?.last_op_date > volume.last_op_date);
    assert!(there.volume_snapshot_refs[1].snapshot_deleted);
    assert!(!engine.check_availability([group.uuid])?[0].available);
    let deleted = engine.delete_group(&DeleteGroup::new(group.uuid))?;
    assert!(line(&deleted.results, member).already_deleted);
    assert!(deleted.is_success());
    assert_eq!(deleted.groups_removed, [group.uuid]);
    assert_sound(&engine)
}

fn held(engine: &Engine) -> Made<(Machine, Uuid, Vec<Uuid>)> {
    let vm = make_machine(engine, 3)?;
    let group = take(engine, &vm, "g")?.uuid;
    let members = members(engine, group)?;
    engine.hold(members[1], "backup")?;
    assert_eq!(engine.hold(members[1], "backup")?.holds, ["backup"]);
    Ok((vm, group, members))
}

fn a_held_member_keeps_all_of_them(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (_, group, members) = held(&engine)?;
    let generation = engine.generation();
    let deleted = engine.delete_group(&DeleteGroup::new(group))?;
    assert_eq!(engine.generation(), generation);
    let code = |uuid| {
        let error = line(&deleted.results, uuid).error.as_ref().expect("nothing was deleted");
        (error.code.clone(), error.root().code.clone())
    };
    assert_eq!(code(members[0]), ("SYS.1004".into(), "VOLUME_SNAPSHOT.1002".into()));
    assert_eq!(code(members[1]), ("SYS.1004".into(), "SYS.1006".into()));
    let details = line(&deleted.results, members[1]).error.as_ref().and_then(|error| error.details.clone());
    assert!(details.is_some_and(|details| details.contains("held by backup")));
    engine.release(members[1], "backup")?;
    assert!(engine.delete_group(&DeleteGroup::new(group))?.is_success());
    assert_sound(&engine)
}

fn a_member_with_broken_tables_keeps_all_of_them_unless_bytes_wait(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    for disk in &vm.disks {
        fill(&engine.open_volume(*disk)?, 0, 100_000, 7)?;
    }
    let group = take(&engine, &vm, "g")?.uuid;
    let members = members(&engine, group)?;
    let file = file_of(&engine.snapshot(members[1])?.primary_storage_install_path);
    // The first L2 table is said to lie where none can: not at the start of a cluster.
    let bytes = home.bytes(&file)?;
    let at = u64::from_be_bytes(bytes[40..48].try_into()?);
    let place = usize::try_from(at)?;
    let sound: [u8; 8] = bytes[place..place + 8].try_into()?;
    home.patch(&file, at, &(u64::from_be_bytes(sound) | 0x200).to_be_bytes())?;
    let generation = engine.generation();
    let deleted = engine.delete_group(&DeleteGroup::new(group))?;
    assert_eq!(engine.generation(), generation);
    let codes: Vec<_> = deleted
        .results
        .iter()
        .map(|line| {
            line.error.as_ref().and_then(|error| error.cause.as_ref()).map(|cause| cause.code.as_str())
        })
        .collect();
    assert_eq!(codes, [Some("VOLUME_SNAPSHOT.1002"), Some("SYS.1006")]);
    // A deletion whose bytes wait is one commit, and looks at no table.
    let wish = DeleteGroup { reclaim: When::Later, ..DeleteGroup::new(group) };
    assert!(engine.delete_group(&wish)?.is_success());
    let owed = engine.owed()?;
    let hindered: Vec<_> = owed.iter().filter(|owed| owed.reason == OwedReason::Hindered).collect();
    assert_eq!(hindered.iter().map(|owed| owed.file.as_str()).collect::<Vec<_>>(), [file.as_str()]);
    home.patch(&file, at, &sound)?;
    let (_, owed) = engine.reclaim(&ReclaimOptions::default())?.finish()?;
    assert_eq!((owed, engine.owed()?), (vec![], vec![]));
    assert_sound(&engine)
}

fn each_on_its_own_deletes_the_willing(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (_, group, members) = held(&engine)?;
    let wish = DeleteGroup { members: Members::EachOnItsOwn, ..DeleteGroup::new(group) };
    let deleted = engine.delete_group(&wish)?;
    let gone: Vec<bool> = members.iter().map(|uuid| line(&deleted.results, *uuid).success).collect();
    assert_eq!(gone, [true, false, true]);
    assert!(engine.snapshot(members[1]).is_ok());
    assert_eq!(engine.group(group)?.snapshot_count, 3);
    assert_sound(&engine)
}

fn enforcing_overrules_a_hold(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (_, group, _) = held(&engine)?;
    let wish = DeleteGroup { mode: DeleteMode::Enforcing, ..DeleteGroup::new(group) };
    let deleted = engine.delete_group(&wish)?;
    assert!(deleted.is_success() && deleted.owed.is_empty());
    assert_eq!(deleted.groups_removed, [group]);
    assert_sound(&engine)
}

/// A group that a revert has kept, and a snapshot that its taker has marked.
fn what_no_person_asked_for_is_kept_and_deleted_as_anything_else(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    fill(&engine.open_volume(vm.root())?, 0, 9000, 1)?;
    let asked_for = take(&engine, &vm, "g")?.uuid;
    fill(&engine.open_volume(vm.root())?, 0, 9000, 2)?;
    let kept = engine.revert_group(&RevertGroup::new(asked_for).keeping())?.kept_group.expect("kept").uuid;
    let system_tags = vec![Among::AUTOMATIC.to_owned()];
    let marked = CreateSnapshot { system_tags, ..CreateSnapshot::new(vm.root(), "nightly") };
    let marked = engine.create_snapshot(&marked)?.uuid;
    let before = read_volume(&engine, vm.root())?;
    let of_kept = members(&engine, kept)?[0];
    for uuid in [of_kept, marked] {
        engine.hold(uuid, "audit")?;
        let refused = engine.delete_snapshots(&DeleteSnapshots::one(uuid))?;
        let error = refused.results[0].error.as_ref().expect("a hold refuses");
        assert_eq!((error.code.as_str(), engine.snapshot(uuid).is_ok()), ("SYS.1004", true));
    }
    let clone = engine.create_volume(&CreateVolume::of_snapshot("clone", of_kept))?.uuid;
    let cloned = read_volume(&engine, clone)?;
    engine.release(marked, "audit")?;
    assert!(engine.delete_snapshots(&DeleteSnapshots::one(marked))?.is_success());
    let wish = DeleteGroup { mode: DeleteMode::Enforcing, ..DeleteGroup::new(kept) };
    let deleted = engine.delete_group(&wish)?;
    assert!(deleted.is_success() && deleted.owed.is_empty());
    assert_eq!(deleted.groups_removed, [kept]);
    assert!(read_volume(&engine, clone)? == cloned && read_volume(&engine, vm.root())? == before);
    assert_eq!(read_snapshot(&engine, members(&engine, asked_for)?[0])?[..9000], [1; 9000]);
    assert_sound(&engine)
}

fn what_is_owed_says_what_it_waits_for(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let taken = snapshots(&engine, vm.root(), 2)?;
    let head = engine.chain(vm.root())?[0].file.clone();
    let file = file_of(&taken[0].0.primary_storage_install_path);
    assert!(
        engine
            .delete_snapshots(&DeleteSnapshots {
                reclaim: When::Later,
                ..DeleteSnapshots::one(taken[0].0.uuid)
            })?
            .is_success()
    );
    engine.revert_volume(&RevertVolume { reclaim: When::Later, ..RevertVolume::to(taken[1].0.uuid) })?;
    let mut told = engine.owed()?;
    told.sort_by_key(|owed| owed.reason != OwedReason::Waiting);
    let shown: Vec<_> = told.iter().map(|owed| (owed.file.as_str(), owed.reason, owed.needed_by)).collect();
    let expected = [(file.as_str(), OwedReason::Waiting, 1), (head.as_str(), OwedReason::ToBeRemoved, 0)];
    assert_eq!(shown, expected);
    for owed in &told {
        assert_eq!((owed.volume_uuid, owed.error.clone()), (Some(vm.root()), None));
        assert!(owed.allocated.is_some_and(|bytes| !bytes.is_zero()));
    }
    engine.reclaim(&ReclaimOptions::default())?.finish()?;
    assert_eq!(engine.owed()?, []);
    assert_sound(&engine)
}

fn a_line_tells_of_what_goes_with_its_snapshot(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let taken = snapshots(&engine, vm.root(), 3)?;
    let before = read_volume(&engine, vm.root())?;
    let file = file_of(&engine.snapshot(taken[1].0.uuid)?.primary_storage_install_path);
    let bytes = home.bytes(&file)?;
    home.remove(&file)?;
    let (mode, scope) = (DeleteMode::Enforcing, DeleteScope::Chain);
    let one = DeleteSnapshots::one(taken[0].0.uuid);
    let deleted = engine.delete_snapshots(&DeleteSnapshots { mode, scope, reclaim: When::Later, ..one })?;
    let [line] = &deleted.results[..] else { panic!("{deleted:#?}") };
    let error = line.error.as_ref().expect("the file of a descendant is missing");
    assert_eq!(
        (line.success, error.code.as_str(), error.root().code.as_str()),
        (false, "SYS.1004", "SYS.1006")
    );
    assert!(error.root().details.as_ref().is_some_and(|details| details.contains(&file)), "{error:#?}");
    assert!(engine.snapshot(taken[2].0.uuid).is_err() && !engine.owed()?.is_empty());
    home.put(&file, &bytes)?;
    let (_, owed) = engine.reclaim(&ReclaimOptions::default())?.finish()?;
    assert_eq!((owed, engine.owed()?), (vec![], vec![]));
    assert!(read_volume(&engine, vm.root())? == before);
    assert_sound(&engine)
}

fn enforcing_overrules_a_file_that_is_gone_and_says_so(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let gone = snapshots(&engine, vm.root(), 1)?.remove(0).0;
    home.remove(&file_of(&gone.primary_storage_install_path))?;
    let refused = engine.delete_snapshots(&DeleteSnapshots::one(gone.uuid))?;
    assert!(!refused.is_success() && engine.snapshot(gone.uuid).is_ok());
    let wish = DeleteSnapshots { mode: DeleteMode::Enforcing, ..DeleteSnapshots::one(gone.uuid) };
    let deleted = engine.delete_snapshots(&wish)?;
    assert!(engine.snapshot(gone.uuid).is_err());
    let error = deleted.results[0].error.as_ref().expect("its bytes could not be dealt with");
    assert_eq!((error.code.as_str(), error.root().code.as_str()), ("SYS.1004", "SYS.1006"));
    assert_eq!((deleted.results[0].success, deleted.owed.len(), engine.owed()?.len()), (false, 1, 1));
    Ok(())
}

fn members_of_detached_volumes_are_deleted_too(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let group = take(&engine, &vm, "g")?.uuid;
    engine.detach_volume(vm.disks[1], vm.uuid)?;
    let deleted = engine.delete_group(&DeleteGroup::new(group))?;
    assert_eq!((deleted.results.len(), deleted.is_success()), (2, true));
    assert_eq!(deleted.groups_removed, [group]);
    assert_sound(&engine)
}

fn twice_is_once(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let taken = snapshots(&engine, vm.root(), 2)?;
    let wish = DeleteSnapshots::all([taken[0].0.uuid, taken[0].0.uuid]);
    assert_eq!(engine.delete_snapshots(&wish)?.results.len(), 1);
    let generation = engine.generation();
    let again = engine.delete_snapshots(&wish)?;
    assert!(again.is_success() && again.results[0].already_deleted);
    assert_eq!(engine.generation(), generation);
    Ok(())
}

fn a_clone_keeps_its_snapshot_and_enforcing_keeps_its_bytes(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let taken = snapshots(&engine, vm.root(), 2)?;
    let (origin, content) = &taken[0];
    let clone = engine.create_volume(&CreateVolume::of_snapshot("clone", origin.uuid))?.uuid;
    assert!(read_volume(&engine, clone)? == *content);
    let refused = engine.delete_snapshots(&DeleteSnapshots::one(origin.uuid))?;
    assert_eq!(refused.results[0].error.as_ref().map(|error| error.root().code.as_str()), Some("SYS.1006"));
    let wish = DeleteSnapshots { mode: DeleteMode::Enforcing, ..DeleteSnapshots::one(origin.uuid) };
    assert!(engine.delete_snapshots(&wish)?.is_success());
    assert!(read_volume(&engine, clone)? == *content);
    assert!(read_snapshot(&engine, taken[1].0.uuid)? == taken[1].1);
    engine.reclaim(&ReclaimOptions::towards(Direction::Pull))?.finish()?;
    assert!(read_volume(&engine, clone)? == *content);
    assert!(read_snapshot(&engine, taken[1].0.uuid)? == taken[1].1);
    assert_eq!(engine.chain(clone)?.len(), 1);
    assert_sound(&engine)
}

/// Two layers are merged down into a third one, and a living one after them: its file takes that one's place, below the
/// head.
fn a_plan_names_the_head_that_is_told_of_another_file_by_the_second_of_two_merges(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let taken =
        ["one", "two", "three"].map(|name| engine.create_snapshot(&CreateSnapshot::new(vm.root(), name)));
    let [one, two, _] = taken;
    assert!(
        engine
            .delete_snapshots(&DeleteSnapshots { reclaim: When::Later, ..DeleteSnapshots::one(two?.uuid) })?
            .is_success()
    );
    let chain = engine.chain(vm.root())?;
    let direction = Direction::Commit;
    let plan = engine.plan_delete(&DeleteSnapshots { direction, ..DeleteSnapshots::one(one?.uuid) })?;
    let before = home.bytes(&chain[0].file)?;
    assert!(engine.run(&plan)?.is_success());
    assert!(home.bytes(&chain[0].file)? != before, "its header names another file");
    let [head, lowest] = [&chain[0].file, &chain[3].file];
    let mut told = plan.figures.files_written.clone();
    told.sort_by_key(|file| file != head);
    assert_eq!(told, [head.clone(), lowest.clone()]);
    assert_eq!(engine.chain(vm.root())?.len(), 2);
    assert_sound(&engine)
}

fn whatever_the_direction_the_contents_stay(home: &Home) -> Outcome {
    let engine = home.open()?;
    for direction in [Direction::Auto, Direction::Pull, Direction::Commit] {
        let vm = make_machine(&engine, 1)?;
        let taken = snapshots(&engine, vm.root(), 4)?;
        let before = read_volume(&engine, vm.root())?;
        let disk = engine.open_volume(vm.root())?;
        for gone in [1, 3] {
            let wish = DeleteSnapshots { direction, ..DeleteSnapshots::one(taken[gone].0.uuid) };
            let plan = engine.plan_delete(&wish)?;
            let deleted = engine.run(&plan)?;
            assert!(deleted.is_success() && deleted.owed.is_empty(), "{direction} {deleted:#?}");
            let (done, told) = (&deleted.reclaimed, &plan.figures);
            assert_eq!(
                (done.bytes_pulled, done.bytes_committed, done.bytes_punched, &done.files_removed),
                (told.bytes_pulled, told.bytes_committed, told.bytes_punched, &told.files_removed),
                "{direction}"
            );
            assert_eq!(told.chains[0].after, engine.chain(vm.root())?.len());
        }
        let mut now = vec![0; before.len()];
        disk.read_at(0, &mut now)?;
        assert!(now == before, "{direction}");
        drop(disk);
        assert!(read_volume(&engine, vm.root())? == before, "{direction}");
        for kept in [0, 2] {
            assert!(read_snapshot(&engine, taken[kept].0.uuid)? == taken[kept].1, "{direction}");
        }
        let layers = engine.chain(vm.root())?.len();
        assert_eq!(layers, if direction == Direction::Auto { 5 } else { 3 }, "{direction}");
        assert_sound(&engine)?;
        assert_eq!(engine.owed()?, [], "{direction}");
        engine.delete_machine(vm.uuid)?;
    }
    Ok(())
}

fn a_reclaim_in_small_steps_ends_and_survives_reopening(home: &Home) -> Outcome {
    for direction in [Direction::Pull, Direction::Commit] {
        let mut engine = home.open()?;
        let vm = make_machine(&engine, 1)?;
        let taken = snapshots(&engine, vm.root(), 4)?;
        let before = read_volume(&engine, vm.root())?;
        let gone = [taken[1].0.uuid, taken[2].0.uuid];
        let wish = DeleteSnapshots { reclaim: When::Later, ..DeleteSnapshots::all(gone) };
        assert!(engine.delete_snapshots(&wish)?.is_success());
        let mut steps = 0;
        loop {
            let mut reclaim = engine.reclaim(&ReclaimOptions::towards(direction))?;
            let step = reclaim.step(snapgroup::ByteCount::kib(64))?;
            assert!(reclaim.progress().copied <= reclaim.progress().total);
            assert_eq!(reclaim.owed(), []);
            drop(reclaim);
            assert!(read_volume(&engine, vm.root())? == before, "{direction}");
            assert!(read_snapshot(&engine, taken[3].0.uuid)? == taken[3].1, "{direction}");
            if step == Step::Done {
                break;
            }
            steps += 1;
            engine.close()?;
            engine = home.open()?;
            assert!(steps < 100, "it does not end");
        }
        assert_eq!(engine.chain(vm.root())?.len(), 3);
        assert_sound(&engine)?;
        engine.delete_machine(vm.uuid)?;
        engine.close()?;
    }
    Ok(())
}

fn a_handle_to_a_deleted_snapshot_goes_on_reading(home: &Home) -> Outcome {
    let engine = home.open()?;
    for direction in [Direction::Auto, Direction::Commit] {
        let vm = make_machine(&engine, 1)?;
        let taken = snapshots(&engine, vm.root(), 3)?;
        let handle = engine.open_snapshot(taken[1].0.uuid)?;
        let wish = DeleteSnapshots { direction, ..DeleteSnapshots::one(taken[1].0.uuid) };
        let deleted = engine.delete_snapshots(&wish)?;
        assert_eq!(deleted.owed.len(), 1, "{direction}");
        let mut bytes = vec![0; taken[1].1.len()];
        handle.read_at(0, &mut bytes)?;
        assert!(bytes == taken[1].1, "{direction}");
        drop(handle);
        let (_, owed) = engine.reclaim(&ReclaimOptions::towards(direction))?.finish()?;
        assert_eq!(owed, []);
        assert_eq!(engine.owed()?, []);
        assert_sound(&engine)?;
        engine.delete_machine(vm.uuid)?;
    }
    Ok(())
}

fn a_volume_is_deleted_with_its_snapshots(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let group = take(&engine, &vm, "g")?.uuid;
    snapshots(&engine, vm.disks[1], 3)?;
    let files = home.store()?.list()?.len();
    let deleted = engine.delete_volume(&DeleteVolume::new(vm.disks[1]))?;
    assert_eq!((deleted.results.len(), deleted.is_success()), (4, true));
    assert_eq!(home.store()?.list()?.len(), files - 5);
    assert!(engine.volume(vm.disks[1]).is_err());
    let member = &engine.group(group)?.volume_snapshot_refs[1];
    assert!(member.snapshot_deleted);
    assert_eq!(engine.delete_volume(&DeleteVolume::new(vm.disks[1]))?.results, []);
    assert_sound(&engine)
}

fn an_open_disk_is_written_while_layers_are_merged_below_it(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let taken = snapshots(&engine, vm.root(), 3)?;
    let disk = engine.open_volume(vm.root())?;
    for (round, direction) in [Direction::Pull, Direction::Commit, Direction::Auto].into_iter().enumerate() {
        let wish = DeleteSnapshots { direction, ..DeleteSnapshots::one(taken[2 - round].0.uuid) };
        let mark = 0x40 + u8::try_from(round)?;
        fill(&disk, 200_000, 3000, mark)?;
        assert!(engine.delete_snapshots(&wish)?.is_success());
        fill(&disk, 300_000, 3000, mark)?;
        disk.flush()?;
        let mut bytes = vec![0; 3000];
        disk.read_at(200_000, &mut bytes)?;
        assert!(bytes.iter().all(|byte| *byte == mark), "{direction}");
        disk.read_at(300_000, &mut bytes)?;
        assert!(bytes.iter().all(|byte| *byte == mark), "{direction}");
    }
    let mut open = vec![0; disk.size().as_usize()];
    disk.read_at(0, &mut open)?;
    drop(disk);
    assert!(read_volume(&engine, vm.root())? == open);
    assert_sound(&engine)
}

/// Of a member that goes with its volume as of one that goes with its group.
#[test]
fn enforcing_says_in_its_line_that_the_file_of_a_member_could_not_be_removed() -> Outcome {
    for with_volume in [false, true] {
        let home = Home::simulated();
        let engine = home.open()?;
        let vm = make_machine(&engine, 2)?;
        let first = take(&engine, &vm, "first")?.uuid;
        let group = take(&engine, &vm, "second")?.uuid;
        let member = members(&engine, group)?[1];
        let file = file_of(&engine.snapshot(member)?.primary_storage_install_path);
        engine.revert_group(&RevertGroup::new(first))?;
        home.faulty().fail(Fault::for_ever(At::CallOf(Operation::Remove, 1), FaultKind::EIO));
        let mode = DeleteMode::Enforcing;
        let deleted = match with_volume {
            true => engine.delete_volume(&DeleteVolume { mode, ..DeleteVolume::new(vm.disks[1]) })?,
            false => engine.delete_group(&DeleteGroup { mode, ..DeleteGroup::new(group) })?,
        };
        let said = line(&deleted.results, member);
        let codes = said.error.as_ref().map(|error| (error.code.as_str(), error.root().code.as_str()));
        assert_eq!((said.success, codes), (false, Some(("SYS.1004", "SYS.1016"))), "{with_volume}");
        assert!(engine.snapshot(member).is_err(), "it has left the books");
        let owed = |owed: Vec<Owed>| owed.into_iter().any(|owed| owed.file == file);
        assert!(owed(deleted.owed) && owed(engine.owed()?));
        home.faulty().heal();
        engine.reclaim(&ReclaimOptions::default())?.finish()?;
        assert_eq!(engine.owed()?, []);
        assert!(!home.store()?.list()?.iter().any(|name| name.as_str() == file));
        assert_sound(&engine)?;
    }
    Ok(())
}
