//! Availability: every reason, alone and together, and how it goes away.

use crate::support::{Home, Outcome, machine, make_disk, make_machine, on_every_store, take, told, volume};
use snapgroup::inventory::{Named, UnavailableReason};
use snapgroup::{CreateGroup, CreateVolume, Kind, Sharing, Uuid, VolumeKind};

on_every_store! {
    a_fresh_group_is_available_and_says_nothing
    a_detached_volume_is_named_until_it_is_back
    a_volume_at_another_machine_is_detached_from_this_one
    a_volume_attached_since_is_named_until_it_is_gone
    two_reasons_come_at_once_one_in_each_line
    a_shareable_volume_is_no_reason
    a_disk_that_was_left_out_on_request_is_no_reason
    the_answers_come_in_the_order_of_the_questions
    a_list_without_groups_is_refused
}

fn a_fresh_group_is_available_and_says_nothing(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 3)?;
    let group = take(&engine, &vm, "g")?;
    take(&engine, &vm, "later")?;
    let answers = engine.check_availability([group.uuid])?;
    let [answer] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((answer.uuid, answer.available), (group.uuid, true));
    assert_eq!((answer.reason.as_str(), &answer.reasons[..]), ("", &[][..]));
    Ok(())
}

fn a_detached_volume_is_named_until_it_is_back(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 3)?;
    let group = take(&engine, &vm, "g")?;
    engine.detach_volume(vm.disks[2], vm.uuid)?;
    engine.detach_volume(vm.disks[1], vm.uuid)?;
    let answer = engine.check_availability([group.uuid])?.remove(0);
    assert!(!answer.available);
    let named = |index: usize| Named { uuid: vm.disks[index], name: format!("data-{index}") };
    assert_eq!(answer.reasons, [UnavailableReason::VolumesDetached { volumes: vec![named(1), named(2)] }]);
    let expected = format!(
        "volume(s) [uuid:{}, name:data-1], [uuid:{}, name:data-2] is no longer attached, can only revert one by \
         one. If you need to group revert, please re-attach it.",
        vm.disks[1].simple(),
        vm.disks[2].simple()
    );
    assert_eq!(answer.reason, expected);
    // Back in another order, so under other device ids.
    engine.attach_volume(vm.disks[2], vm.uuid, None)?;
    assert!(!engine.check_availability([group.uuid])?[0].available);
    engine.attach_volume(vm.disks[1], vm.uuid, None)?;
    assert!(engine.check_availability([group.uuid])?[0].available);
    assert_eq!(engine.volume(vm.disks[2])?.device_id, Some(1));
    Ok(())
}

fn a_volume_at_another_machine_is_detached_from_this_one(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let group = take(&engine, &vm, "g")?;
    let other = engine.create_machine(&machine("other"))?.uuid;
    engine.detach_volume(vm.disks[1], vm.uuid)?;
    engine.attach_volume(vm.disks[1], other, None)?;
    let answer = engine.check_availability([group.uuid])?.remove(0);
    let [UnavailableReason::VolumesDetached { volumes }] = &answer.reasons[..] else { panic!("{answer:?}") };
    assert_eq!(volumes[0].uuid, vm.disks[1]);
    Ok(())
}

fn a_volume_attached_since_is_named_until_it_is_gone(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let group = take(&engine, &vm, "g")?;
    let late = make_disk(&engine, vm.uuid, &volume("late", VolumeKind::Data))?;
    let answer = engine.check_availability([group.uuid])?.remove(0);
    let named = Named { uuid: late, name: "late".into() };
    assert_eq!(answer.reasons, [UnavailableReason::VolumesAttachedSince { volumes: vec![named] }]);
    let expected = format!(
        "new volume(s) [uuid:{}, name:late] attached after snapshot point, can only revert one by one. If you need \
         to group revert, please detach it.",
        late.simple()
    );
    assert_eq!(answer.reason, expected);
    assert!(engine.check_availability([take(&engine, &vm, "with it")?.uuid])?[0].available);
    engine.detach_volume(late, vm.uuid)?;
    assert!(engine.check_availability([group.uuid])?[0].available);
    Ok(())
}

fn two_reasons_come_at_once_one_in_each_line(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let group = take(&engine, &vm, "g")?;
    engine.detach_volume(vm.disks[1], vm.uuid)?;
    make_disk(&engine, vm.uuid, &volume("late", VolumeKind::Data))?;
    let answer = engine.check_availability([group.uuid])?.remove(0);
    let [UnavailableReason::VolumesDetached { .. }, UnavailableReason::VolumesAttachedSince { .. }] =
        &answer.reasons[..]
    else {
        panic!("{answer:?}")
    };
    let lines: Vec<&str> = answer.reason.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains("data-1") && lines[1].contains("late"), "{lines:?}");
    drop(engine);
    assert_eq!(home.open()?.check_availability([group.uuid])?, [answer]);
    Ok(())
}

fn a_shareable_volume_is_no_reason(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let group = take(&engine, &vm, "g")?;
    let shared = CreateVolume { sharing: Sharing::Shareable, ..volume("quorum", VolumeKind::Data) };
    make_disk(&engine, vm.uuid, &shared)?;
    assert!(engine.check_availability([group.uuid])?[0].available);
    Ok(())
}

fn the_answers_come_in_the_order_of_the_questions(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let groups = (0..4).map(|n| take(&engine, &vm, &format!("g{n}"))).collect::<Result<Vec<_>, _>>()?;
    let asked: Vec<Uuid> = [2, 0, 3, 2, 1].map(|index: usize| groups[index].uuid).to_vec();
    let answers = engine.check_availability(&asked)?;
    assert_eq!(answers.iter().map(|answer| answer.uuid).collect::<Vec<_>>(), asked);
    Ok(())
}

fn a_list_without_groups_is_refused(home: &Home) -> Outcome {
    let engine = home.open()?;
    let error = home.refusal(&engine, || engine.check_availability(Vec::<Uuid>::new()))?;
    assert_eq!(told(&error), ("SYS.1007", Kind::Refused, "the list of groups is empty".to_owned()));
    Ok(())
}

fn a_disk_that_was_left_out_on_request_is_no_reason(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 3)?;
    let wish = CreateGroup { except: vec![vm.disks[2].into()], ..vm.group("g") };
    let group = engine.create_group(&wish)?.inventory;
    let answers = engine.check_availability([group.uuid])?;
    assert!(answers[0].available, "{}", answers[0].reason);
    Ok(())
}
