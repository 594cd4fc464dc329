//! Groups: what they are called, what is in them, how they hang together, how they change and go.

use crate::support::{
    Dice, Home, Machine, Outcome, SIZE, START, assert_sound, fill, make_disk, make_machine, on_every_store,
    read, read_snapshot, read_volume, take, take_fully, told, volume,
};
use snapgroup::inventory::{Consistency, Named, VolumeType};
use snapgroup::{
    ByteCount, Code, CreateGroup, CreateSnapshot, CreateVolume, Engine, Error, GroupOf, LeftOut, Refusal,
    Sharing, UpdateGroup, Uuid, VolumeKind,
};

on_every_store! {
    a_group_freezes_every_volume_once
    a_member_is_named_after_the_group_and_the_volume_and_has_the_description
    members_come_by_device_id_whatever_the_order_of_creation
    distances_rise_from_one_in_one_tree_and_only_the_last_is_latest
    a_group_records_its_parent_and_the_tree_shows_it
    a_shareable_volume_is_left_out_and_named
    a_volume_that_was_excepted_is_left_out_and_the_next_group_has_it
    tags_are_stored_once_each_and_shown_again
    the_date_of_a_group_is_that_of_its_members_and_stays
    an_update_changes_what_it_names_and_nothing_else
    an_update_of_nothing_writes_nothing
    an_ungrouped_snapshot_stays_and_is_in_no_group
    a_child_of_an_ungrouped_group_hangs_from_its_grandparent
    ungrouping_the_current_group_makes_its_parent_current
    ungrouping_twice_is_ungrouping_once
    the_count_of_members_does_not_follow_the_machine
    a_repeat_answers_the_same_group_and_adds_nothing
    a_repeat_is_known_after_the_pool_was_opened_again
    a_repeat_is_known_whatever_became_of_the_machine
    another_wish_under_the_same_uuid_is_refused
    each_snapshot_holds_what_was_there_at_its_moment
    a_member_alone_can_be_taken_between_groups_and_is_in_none
    a_group_by_machine_is_that_of_its_root_volume
    a_group_needs_no_root_volume_when_the_machine_is_named
    clusters_of_every_size_meet_in_one_group
}

mod long {
    use super::thirty_two_disks_and_twenty_groups_keep_every_invariant;
    use crate::support::on_memory_and_disk;

    on_memory_and_disk! { thirty_two_disks_and_twenty_groups_keep_every_invariant }
}

fn a_group_freezes_every_volume_once(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 3)?;
    let heads = engine.machine(vm.uuid)?.all_volumes.into_iter().map(|disk| disk.install_path);
    let heads: Vec<String> = heads.collect();
    let files = home.picture()?.len();
    let group = take(&engine, &vm, "first")?;

    assert_eq!(group.snapshot_count, 3);
    assert_eq!(group.volume_snapshot_refs.len(), 3);
    assert_eq!(home.picture()?.len(), files + 3, "one new file for each disk");
    assert_eq!(group.vm_instance_uuid, vm.uuid);
    assert_eq!(group.consistency, Some(Consistency::Crash));
    for ((member, disk), head) in group.volume_snapshot_refs.iter().zip(&vm.disks).zip(heads) {
        assert_eq!(member.volume_snapshot_install_path, head, "the file of the head becomes the snapshot");
        assert_eq!((member.volume_uuid, member.volume_snapshot_group_uuid), (*disk, group.uuid));
        assert!(!member.snapshot_deleted);
        let snapshot = engine.snapshot(member.volume_snapshot_uuid)?;
        assert_eq!(snapshot.primary_storage_install_path, head);
        assert_eq!(snapshot.group_uuid, Some(group.uuid));
        let chain = engine.chain(*disk)?;
        assert_eq!(chain.len(), 2);
        assert_eq!(chain[1].location, head);
        assert_eq!(chain[0].backing_label.as_deref(), Some(chain[1].file.as_str()), "a name without a path");
    }
    assert_sound(&engine)
}

fn a_member_is_named_after_the_group_and_the_volume_and_has_the_description(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let wish = CreateGroup { description: Some("before the upgrade".into()), ..vm.group("  nightly ") };
    let group = engine.create_group(&wish)?.inventory;

    assert_eq!((group.name.as_str(), group.description.as_deref()), ("nightly", Some("before the upgrade")));
    let names: Vec<_> = group.volume_snapshot_refs.iter().map(|m| m.volume_snapshot_name.as_str()).collect();
    assert_eq!(names, ["nightly-root", "nightly-data-1"]);
    for member in &group.volume_snapshot_refs {
        let snapshot = engine.snapshot(member.volume_snapshot_uuid)?;
        assert_eq!(snapshot.name, member.volume_snapshot_name);
        assert_eq!(snapshot.description.as_deref(), Some("before the upgrade"));
    }
    Ok(())
}

fn members_come_by_device_id_whatever_the_order_of_creation(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = engine.create_machine(&crate::support::machine("vm"))?.uuid;
    for (name, kind, id) in
        [("c", VolumeKind::Data, 900), ("a", VolumeKind::Data, 0), ("root", VolumeKind::Root, 7)]
    {
        let disk = engine.create_volume(&volume(name, kind))?.uuid;
        engine.attach_volume(disk, vm, Some(id))?;
    }
    let group = engine.create_group(&CreateGroup::new(GroupOf::Machine(vm.into()), "g"))?.inventory;
    let members: Vec<_> = group
        .volume_snapshot_refs
        .iter()
        .map(|member| (member.device_id, member.volume_name.as_str(), member.volume_type))
        .collect();
    let expected = [(0, "a", VolumeType::Data), (7, "root", VolumeType::Root), (900, "c", VolumeType::Data)];
    assert_eq!(members, expected);
    assert_sound(&engine)
}

fn distances_rise_from_one_in_one_tree_and_only_the_last_is_latest(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let groups = (0..5).map(|n| take(&engine, &vm, &format!("g{n}"))).collect::<Result<Vec<_>, _>>()?;
    for (index, disk) in vm.disks.iter().enumerate() {
        let mut parent = None;
        let mut trees = Vec::new();
        for (distance, group) in (1..).zip(&groups) {
            let member = &group.volume_snapshot_refs[index];
            let snapshot = engine.snapshot(member.volume_snapshot_uuid)?;
            assert_eq!(snapshot.distance, distance);
            assert_eq!(snapshot.parent_uuid, parent);
            assert_eq!(snapshot.latest, distance == 5, "{distance}");
            parent = Some(snapshot.uuid);
            trees.push(snapshot.tree_uuid);
        }
        trees.dedup();
        assert_eq!(trees, [engine.volume(*disk)?.current_tree_uuid.ok_or("no tree")?]);
    }
    assert_sound(&engine)
}

fn a_group_records_its_parent_and_the_tree_shows_it(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let other = make_machine(&engine, 1)?;
    let first = take(&engine, &vm, "first")?;
    let stranger = take(&engine, &other, "stranger")?;
    let second = take(&engine, &vm, "second")?;

    assert_eq!(first.parent_group_uuid, None);
    assert_eq!(second.parent_group_uuid, Some(first.uuid));
    assert_eq!(stranger.parent_group_uuid, None);
    let tree = engine.group_tree(vm.uuid)?;
    let shown: Vec<_> = tree.nodes().iter().map(|n| (n.value.uuid, n.depth, n.value.current)).collect();
    assert_eq!(shown, [(first.uuid, 0, false), (second.uuid, 1, true)]);
    assert!(tree.values().all(|group| !group.incomplete && group.refs.len() == 1));
    assert_eq!(engine.machine(vm.uuid)?.current_group_uuid, Some(second.uuid));
    Ok(())
}

fn a_shareable_volume_is_left_out_and_named(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let shared = CreateVolume { sharing: Sharing::Shareable, ..volume("quorum", VolumeKind::Data) };
    let shared = make_disk(&engine, vm.uuid, &shared)?;
    let taken = take_fully(&engine, &vm, "g")?;

    assert_eq!(taken.inventory.snapshot_count, 2);
    assert!(taken.inventory.volume_snapshot_refs.iter().all(|member| member.volume_uuid != shared));
    let left: Vec<_> =
        taken.left_out.iter().map(|left| (left.volume_uuid, left.name.as_str(), left.reason)).collect();
    assert_eq!(left, [(shared, "quorum", LeftOut::Shareable)]);
    assert_eq!(taken.inventory.volumes_left_out, [Named { uuid: shared, name: "quorum".into() }]);
    assert_eq!(engine.chain(shared)?.len(), 1, "it has been frozen");
    assert_eq!(engine.group(taken.inventory.uuid)?.volumes_left_out, []);
    let available = engine.check_availability([taken.inventory.uuid])?;
    assert!(available[0].available, "{available:?}");
    assert_sound(&engine)
}

fn a_volume_that_was_excepted_is_left_out_and_the_next_group_has_it(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 3)?;
    let wish = CreateGroup { except: vec![vm.disks[1].into(), vm.disks[1].into()], ..vm.group("some") };
    let taken = engine.create_group(&wish)?;
    let members: Vec<_> = taken.inventory.volume_snapshot_refs.iter().map(|m| m.volume_uuid).collect();
    assert_eq!(members, [vm.disks[0], vm.disks[2]]);
    let left: Vec<_> = taken.left_out.iter().map(|left| (left.volume_uuid, left.reason)).collect();
    assert_eq!(left, [(vm.disks[1], LeftOut::Asked)]);

    let all = take(&engine, &vm, "all")?;
    assert_eq!(all.snapshot_count, 3);
    let distances = all.volume_snapshot_refs.iter().map(|m| engine.snapshot(m.volume_snapshot_uuid));
    let distances: Vec<_> = distances.map(|s| s.map(|s| s.distance)).collect::<Result<_, _>>()?;
    assert_eq!(distances, [2, 1, 2]);

    let wish = CreateGroup { except: vm.disks.iter().map(Into::into).collect(), ..vm.group("none") };
    let error = home.refusal(&engine, || engine.create_group(&wish))?;
    let Error::Refused(Refusal::NoDisks { uuid }) = error else { panic!("{error:?}") };
    assert_eq!(uuid, vm.uuid);
    assert_sound(&engine)
}

fn tags_are_stored_once_each_and_shown_again(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let tag = "9FF17180-fded-31c2-b9e4-e5751ebcb2ba";
    let wish = CreateGroup {
        tag_uuids: vec![tag.into(), "9ff17180fded31c2b9e4e5751ebcb2ba".into()],
        user_tags: vec!["keep".into(), "keep".into(), "team::störage".into()],
        system_tags: vec!["policy::daily".into()],
        ..vm.group("g")
    };
    let group = engine.create_group(&wish)?.inventory;
    assert_eq!(group.tag_uuids, [Uuid::parse_str(tag)?]);
    assert_eq!(group.user_tags, ["keep", "team::störage"]);
    assert_eq!(group.system_tags, ["policy::daily"]);
    drop(engine);
    let engine = home.open()?;
    assert_eq!(engine.group(group.uuid)?, group);
    Ok(())
}

fn the_date_of_a_group_is_that_of_its_members_and_stays(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let first = take(&engine, &vm, "first")?;
    let second = take(&engine, &vm, "second")?;
    assert!(first.create_date.as_millis() > START);
    assert!(second.create_date > first.create_date);
    assert_eq!(first.last_op_date, first.create_date);
    for member in &first.volume_snapshot_refs {
        assert_eq!(member.create_date, first.create_date);
        assert_eq!(engine.snapshot(member.volume_snapshot_uuid)?.create_date, first.create_date);
        assert!(member.volume_last_attach_date.is_some_and(|since| since < first.create_date));
    }
    assert_eq!(engine.group(first.uuid)?, first, "a later group changes nothing of it");
    Ok(())
}

fn an_update_changes_what_it_names_and_nothing_else(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let wish = CreateGroup { description: Some("old".into()), ..vm.group("g") };
    let before = engine.create_group(&wish)?.inventory;
    let files = home.picture()?;

    let name = UpdateGroup { name: Some("h".into()), ..UpdateGroup::default() };
    let renamed = engine.update_group(before.uuid, &name)?;
    assert_eq!((renamed.name.as_str(), renamed.description.as_deref()), ("h", Some("old")));
    assert!(renamed.last_op_date > before.last_op_date);
    assert_eq!(renamed.create_date, before.create_date);
    assert_eq!(renamed.volume_snapshot_refs, before.volume_snapshot_refs);

    let longest = "é".repeat(2048);
    let described = UpdateGroup { description: Some(longest.clone()), ..UpdateGroup::default() };
    let described = engine.update_group(before.uuid, &described)?;
    assert_eq!((described.name.as_str(), described.description), ("h", Some(longest)));
    let blank = UpdateGroup { description: Some(String::new()), ..UpdateGroup::default() };
    assert_eq!(engine.update_group(before.uuid, &blank)?.description.as_deref(), Some(""));

    let member = engine.snapshot(before.volume_snapshot_refs[0].volume_snapshot_uuid)?;
    assert_eq!((member.name.as_str(), member.description.as_deref()), ("g-root", Some("old")));
    assert!(files == home.picture()?, "an update is bookkeeping");
    drop(engine);
    assert_eq!(home.open()?.group(before.uuid)?.name, "h");
    Ok(())
}

fn an_update_of_nothing_writes_nothing(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let group = take(&engine, &vm, "g")?;
    let generation = engine.generation();
    assert_eq!(engine.update_group(group.uuid, &UpdateGroup::default())?, group);
    assert_eq!(engine.generation(), generation);
    Ok(())
}

fn an_ungrouped_snapshot_stays_and_is_in_no_group(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    fill(&engine.open_volume(vm.root())?, 0, 4096, 7)?;
    let group = take(&engine, &vm, "g")?;
    let files = home.picture()?;
    engine.ungroup(group.uuid)?;

    let gone = engine.group(group.uuid);
    let Err(Error::Refused(Refusal::NotFound { what: "group", .. })) = gone else { panic!("{gone:?}") };
    for member in &group.volume_snapshot_refs {
        let snapshot = engine.snapshot(member.volume_snapshot_uuid)?;
        assert_eq!(snapshot.group_uuid, None);
        assert_eq!(snapshot.name, member.volume_snapshot_name);
        assert!(snapshot.latest);
    }
    let root = read_snapshot(&engine, group.volume_snapshot_refs[0].volume_snapshot_uuid)?;
    assert!(root[..4096].iter().all(|byte| *byte == 7));
    assert!(files == home.picture()?, "ungrouping is bookkeeping");
    assert_eq!(engine.machine(vm.uuid)?.current_group_uuid, None);
    assert_sound(&engine)
}

fn a_child_of_an_ungrouped_group_hangs_from_its_grandparent(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let groups = (0..3).map(|n| take(&engine, &vm, &format!("g{n}"))).collect::<Result<Vec<_>, _>>()?;
    engine.ungroup(groups[1].uuid)?;
    assert_eq!(engine.group(groups[2].uuid)?.parent_group_uuid, Some(groups[0].uuid));
    assert_eq!(engine.machine(vm.uuid)?.current_group_uuid, Some(groups[2].uuid));
    engine.ungroup(groups[0].uuid)?;
    assert_eq!(engine.group(groups[2].uuid)?.parent_group_uuid, None);
    assert_eq!(engine.group_tree(vm.uuid)?.len(), 1);
    assert_sound(&engine)
}

fn ungrouping_the_current_group_makes_its_parent_current(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let first = take(&engine, &vm, "first")?;
    let second = take(&engine, &vm, "second")?;
    engine.ungroup(second.uuid)?;
    assert_eq!(engine.machine(vm.uuid)?.current_group_uuid, Some(first.uuid));
    assert_eq!(take(&engine, &vm, "third")?.parent_group_uuid, Some(first.uuid));
    assert_sound(&engine)
}

fn ungrouping_twice_is_ungrouping_once(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let group = take(&engine, &vm, "g")?;
    engine.ungroup(group.uuid)?;
    let generation = engine.generation();
    engine.ungroup(group.uuid)?;
    engine.ungroup(Uuid::from_u128(77))?;
    assert_eq!(engine.generation(), generation);
    Ok(())
}

fn the_count_of_members_does_not_follow_the_machine(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let group = take(&engine, &vm, "g")?;
    engine.detach_volume(vm.disks[1], vm.uuid)?;
    make_disk(&engine, vm.uuid, &volume("late", VolumeKind::Data))?;
    assert_eq!(engine.group(group.uuid)?, group);
    Ok(())
}

fn a_repeat_answers_the_same_group_and_adds_nothing(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let uuid = Uuid::from_u128(0xabc);
    let wish = CreateGroup {
        resource_uuid: Some(uuid.into()),
        description: Some("d".into()),
        user_tags: vec!["t".into()],
        ..vm.group("g")
    };
    let first = engine.create_group(&wish)?;
    assert_eq!((first.inventory.uuid, first.repeated), (uuid, false));
    let before = (home.picture()?, engine.generation());
    for resource_uuid in ["00000000000000000000000000000abc", "00000000-0000-0000-0000-000000000ABC"] {
        let wish = CreateGroup { resource_uuid: Some(resource_uuid.into()), ..wish.clone() };
        let again = engine.create_group(&wish)?;
        assert!(again.repeated);
        assert_eq!(again.inventory, first.inventory);
    }
    // The machine is named instead of its root volume: the same wish in other words.
    let wish = CreateGroup { of: GroupOf::Machine(vm.uuid.into()), ..wish };
    assert!(engine.create_group(&wish)?.repeated);
    assert!(before == (home.picture()?, engine.generation()), "a repeat has changed something");
    Ok(())
}

fn a_repeat_is_known_after_the_pool_was_opened_again(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let wish = CreateGroup { resource_uuid: Some(Uuid::from_u128(9).into()), ..vm.group("g") };
    let first = engine.create_group(&wish)?;
    engine.update_group(
        Uuid::from_u128(9),
        &UpdateGroup { name: Some("h".into()), ..UpdateGroup::default() },
    )?;
    engine.close()?;
    let engine = home.open()?;
    let again = engine.create_group(&wish)?;
    assert!(again.repeated);
    assert_eq!(again.inventory.name, "h", "what is there now");
    assert_eq!(again.inventory.volume_snapshot_refs, first.inventory.volume_snapshot_refs);
    Ok(())
}

fn a_repeat_is_known_whatever_became_of_the_machine(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 3)?;
    let wish = CreateGroup {
        resource_uuid: Some(Uuid::from_u128(9).into()),
        except: vec![vm.disks[2].into()],
        ..vm.group("g")
    };
    let first = engine.create_group(&wish)?;
    // A disk that was excepted is gone, and one has come that no member could be named after.
    engine.detach_volume(vm.disks[2], vm.uuid)?;
    make_disk(&engine, vm.uuid, &volume(&"x".repeat(255), VolumeKind::Data))?;
    let again = engine.create_group(&wish)?;
    assert!(again.repeated);
    assert_eq!(again.inventory.volume_snapshot_refs, first.inventory.volume_snapshot_refs);
    assert!(again.inventory.volumes_left_out.is_empty(), "what was left out then is not kept");
    Ok(())
}

fn another_wish_under_the_same_uuid_is_refused(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let other = make_machine(&engine, 1)?;
    let uuid = Uuid::from_u128(5);
    let wish = CreateGroup { resource_uuid: Some(uuid.into()), ..vm.group("g") };
    engine.create_group(&wish)?;
    let others = [
        CreateGroup { name: "h".into(), ..wish.clone() },
        CreateGroup { description: Some(String::new()), ..wish.clone() },
        CreateGroup { except: vec![vm.disks[1].into()], ..wish.clone() },
        CreateGroup { user_tags: vec!["t".into()], ..wish.clone() },
        CreateGroup { system_tags: vec!["t".into()], ..wish.clone() },
        CreateGroup { of: GroupOf::RootVolume(other.root().into()), ..wish.clone() },
    ];
    for other in &others {
        let error = home.refusal(&engine, || engine.create_group(other))?;
        let Error::Refused(Refusal::OtherWish { uuid: found, by: "group" }) = error else {
            panic!("{error:?} for {other:?}")
        };
        assert_eq!((found, error.code()), (uuid, Code::CreateResource));
    }
    for (taken, by) in [(vm.uuid, "machine"), (vm.root(), "volume"), (uuid, "group")] {
        let wish = CreateSnapshot {
            volume_uuid: Some(vm.root().into()),
            name: "s".into(),
            resource_uuid: Some(taken.into()),
            ..CreateSnapshot::default()
        };
        let error = home.refusal(&engine, || engine.create_snapshot(&wish))?;
        let expected = format!("the uuid {} is taken by a {by}", taken.simple());
        assert_eq!(told(&error), ("SYS.1002", snapgroup::Kind::Refused, expected));
    }
    Ok(())
}

fn each_snapshot_holds_what_was_there_at_its_moment(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let mut models = vec![vec![0u8; SIZE.as_usize()]; 2];
    let mut kept: Vec<(Uuid, Vec<u8>)> = Vec::new();
    let mut dice = Dice::new(3);
    let handles = vm.disks.iter().map(|disk| engine.open_volume(*disk)).collect::<Result<Vec<_>, _>>()?;
    for round in 0..12 {
        for (disk, model) in handles.iter().zip(&mut models) {
            for _ in 0..6 {
                let at = dice.roll(SIZE.as_u64());
                let length = 1 + dice.roll((SIZE.as_u64() - at).min(40_000));
                let (from, to) = (usize::try_from(at)?, usize::try_from(at + length)?);
                match dice.roll(5) {
                    0 => {
                        disk.discard(at, length)?;
                        model[from..to].fill(0);
                    }
                    1 => {
                        disk.write_zeroes(at, length)?;
                        model[from..to].fill(0);
                    }
                    _ => {
                        let byte = dice.byte();
                        fill(disk, at, to - from, byte)?;
                        model[from..to].fill(byte);
                    }
                }
            }
        }
        let group = take(&engine, &vm, &format!("g{round}"))?;
        for (member, model) in group.volume_snapshot_refs.iter().zip(&models) {
            kept.push((member.volume_snapshot_uuid, model.clone()));
        }
        for (disk, model) in handles.iter().zip(&models) {
            assert!(read(disk, 0, model.len())? == *model, "the group of round {round} has changed the disk");
        }
    }
    let same = |engine: &Engine| -> Outcome {
        for (index, (snapshot, content)) in kept.iter().enumerate() {
            assert!(read_snapshot(engine, *snapshot)? == *content, "snapshot {index} has changed");
        }
        Ok(())
    };
    same(&engine)?;
    assert_sound(&engine)?;
    drop(handles);
    engine.close()?;
    let engine = home.open()?;
    same(&engine)?;
    for (disk, model) in vm.disks.iter().zip(&models) {
        assert!(read_volume(&engine, *disk)? == *model);
    }
    assert_sound(&engine)
}

fn a_member_alone_can_be_taken_between_groups_and_is_in_none(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let first = take(&engine, &vm, "first")?;
    let alone = engine.create_snapshot(&CreateSnapshot {
        volume_uuid: Some(vm.disks[1].into()),
        name: "alone".into(),
        ..CreateSnapshot::default()
    })?;
    let second = take(&engine, &vm, "second")?;
    assert_eq!((alone.group_uuid, alone.distance), (None, 2));
    assert_eq!(alone.parent_uuid, Some(first.volume_snapshot_refs[1].volume_snapshot_uuid));
    let after = engine.snapshot(second.volume_snapshot_refs[1].volume_snapshot_uuid)?;
    assert_eq!((after.parent_uuid, after.distance), (Some(alone.uuid), 3));
    assert_eq!(second.parent_group_uuid, Some(first.uuid), "a snapshot is no group");
    assert_sound(&engine)
}

fn a_group_by_machine_is_that_of_its_root_volume(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let by_root = take(&engine, &vm, "g")?;
    let by_machine = CreateGroup::new(GroupOf::Machine(vm.uuid.to_string().into()), "g");
    let by_machine = engine.create_group(&by_machine)?.inventory;
    let disks = |group: &snapgroup::inventory::GroupInventory| {
        group.volume_snapshot_refs.iter().map(|member| member.volume_uuid).collect::<Vec<_>>()
    };
    assert_eq!(disks(&by_root), disks(&by_machine));
    assert_eq!(by_machine.vm_instance_uuid, vm.uuid);
    Ok(())
}

fn a_group_needs_no_root_volume_when_the_machine_is_named(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = engine.create_machine(&crate::support::machine("vm"))?.uuid;
    let disk = make_disk(&engine, vm, &volume("only", VolumeKind::Data))?;
    let wish = CreateGroup::new(GroupOf::Machine(vm.into()), "g");
    assert_eq!(engine.create_group(&wish)?.inventory.volume_snapshot_refs[0].volume_uuid, disk);
    Ok(())
}

fn clusters_of_every_size_meet_in_one_group(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = engine.create_machine(&crate::support::machine("vm"))?.uuid;
    let mut machine = Machine { uuid: vm, disks: Vec::new() };
    for bits in 9..=21u8 {
        let kind = if bits == 9 { VolumeKind::Root } else { VolumeKind::Data };
        let wish = CreateVolume {
            cluster_bits: Some(bits),
            size: Some(ByteCount::new(1_000_448)),
            ..volume(&format!("bits-{bits}"), kind)
        };
        machine.disks.push(make_disk(&engine, vm, &wish)?);
    }
    let mut groups = Vec::new();
    for round in 1..=3u8 {
        for (disk, byte) in machine.disks.iter().zip(round..) {
            fill(&engine.open_volume(*disk)?, u64::from(round) * 300_000, 100_000, byte)?;
        }
        groups.push(take(&engine, &machine, &format!("g{round}"))?);
    }
    for (round, group) in (1..=3u8).zip(&groups) {
        for (member, byte) in group.volume_snapshot_refs.iter().zip(round..) {
            let content = read_snapshot(&engine, member.volume_snapshot_uuid)?;
            let at = usize::from(round) * 300_000;
            assert!(content[at..at + 100_000].iter().all(|found| *found == byte));
            let after = content.get(at + 300_000..).unwrap_or_default();
            assert!(after.iter().all(|found| *found == 0), "a later write shows");
        }
    }
    assert_sound(&engine)
}

fn thirty_two_disks_and_twenty_groups_keep_every_invariant(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 32)?;
    for round in 1..=20u8 {
        for (index, disk) in
            vm.disks.iter().enumerate().filter(|(index, _)| index % 5 == usize::from(round) % 5)
        {
            fill(&engine.open_volume(*disk)?, 4096 * index as u64, 512, round)?;
        }
        let group = take(&engine, &vm, &format!("g{round}"))?;
        assert_eq!(group.snapshot_count, 32);
        let broken = engine.verify_catalogue()?;
        assert!(broken.is_empty(), "after group {round}: {broken:?}");
    }
    assert_eq!(engine.group_tree(vm.uuid)?.nodes().last().map(|node| node.depth), Some(19));
    assert_eq!(engine.check()?.layers_checked, 32 * 21);
    assert_sound(&engine)
}
