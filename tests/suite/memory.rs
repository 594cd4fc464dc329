//! Memory volumes: bytes that belong to a group when that is asked for, and do not count for it otherwise.

use crate::support::{
    Home, Machine, Made, Outcome, assert_sound, fill, make_machine, on_memory_and_disk, read_volume, volume,
};
use snapgroup::inventory::{UnavailableReason, VolumeType};
use snapgroup::{CreateGroup, Engine, Error, LeftOut, Refusal, RevertGroup, Uuid, VolumeKind, WithMemory};

on_memory_and_disk! {
    a_memory_volume_is_in_a_group_only_when_that_is_asked_for
    a_group_with_memory_goes_back_with_it_and_one_without_leaves_it
    a_memory_volume_counts_only_for_the_groups_that_have_one
    a_machine_has_one_memory_volume
    a_repeat_with_memory_is_another_wish
    a_memory_volume_that_was_excepted_is_left_out
    a_machine_that_runs_elsewhere_keeps_its_memory
}

/// A machine of two disks and a memory volume.
fn machine(engine: &Engine) -> Made<(Machine, Uuid)> {
    let vm = make_machine(engine, 2)?;
    let memory = engine.create_volume(&volume("memory", VolumeKind::Memory))?.uuid;
    engine.attach_volume(memory, vm.uuid, None)?;
    Ok((vm, memory))
}

fn group(engine: &Engine, request: &CreateGroup) -> Made<Uuid> {
    Ok(engine.create_group(request)?.inventory.uuid)
}

fn a_memory_volume_is_in_a_group_only_when_that_is_asked_for(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (vm, memory) = machine(&engine)?;
    let without = engine.create_group(&vm.group("without"))?;
    assert_eq!(without.inventory.snapshot_count, 2);
    let left_out: Vec<_> = without.left_out.iter().map(|it| (it.volume_uuid, it.reason)).collect();
    assert_eq!(left_out, [(memory, LeftOut::Memory)]);

    let with = engine.create_group(&vm.group("with").with_memory())?;
    assert_eq!((with.inventory.snapshot_count, with.left_out.len()), (3, 0));
    let member = with.inventory.member(memory).expect("the memory is a member");
    assert_eq!(
        (member.volume_type, member.volume_snapshot_name.as_str()),
        (VolumeType::Memory, "with-memory")
    );
    assert_sound(&engine)
}

fn a_group_with_memory_goes_back_with_it_and_one_without_leaves_it(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (vm, memory) = machine(&engine)?;
    let (disk, ram) = (engine.open_volume(vm.root())?, engine.open_volume(memory)?);
    let fill_both = |value| -> Outcome {
        fill(&disk, 0, 70_000, value)?;
        fill(&ram, 0, 70_000, value)
    };
    fill_both(1)?;
    let with = group(&engine, &vm.group("with").with_memory())?;
    fill_both(2)?;
    let without = group(&engine, &vm.group("without"))?;
    fill_both(3)?;
    drop((disk, ram));
    let first = |volume| -> Made<u8> { Ok(read_volume(&engine, volume)?[0]) };

    engine.revert_group(&RevertGroup::new(without))?;
    assert_eq!((first(vm.root())?, first(memory)?), (2, 3));
    engine.revert_group(&RevertGroup::new(with))?;
    assert_eq!((first(vm.root())?, first(memory)?), (1, 1));
    assert_sound(&engine)
}

fn a_memory_volume_counts_only_for_the_groups_that_have_one(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (vm, memory) = machine(&engine)?;
    let (with, without) =
        (group(&engine, &vm.group("with").with_memory())?, group(&engine, &vm.group("without"))?);
    engine.detach_volume(memory, vm.uuid)?;
    let answers = engine.check_availability([with, without])?;
    assert!(!answers[0].available && answers[1].available, "{answers:?}");
    let [UnavailableReason::VolumesDetached { volumes }] = &answers[0].reasons[..] else {
        panic!("{answers:?}")
    };
    assert_eq!(volumes.iter().map(|volume| volume.uuid).collect::<Vec<_>>(), [memory]);

    // Another one that was attached since is none of a group that had no memory.
    let other = engine.create_volume(&volume("other", VolumeKind::Memory))?.uuid;
    engine.attach_volume(other, vm.uuid, None)?;
    assert!(engine.check_availability([without])?[0].available);
    Ok(())
}

fn a_machine_has_one_memory_volume(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (vm, memory) = machine(&engine)?;
    let other = engine.create_volume(&volume("other", VolumeKind::Memory))?.uuid;
    let error = home.refusal(&engine, || engine.attach_volume(other, vm.uuid, None))?;
    let Error::Refused(Refusal::MemoryAlready { machine, memory: there }) = error else {
        panic!("{error:?}")
    };
    assert_eq!((machine, there), (vm.uuid, memory));
    Ok(())
}

fn a_repeat_with_memory_is_another_wish(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (vm, _) = machine(&engine)?;
    let request = CreateGroup { resource_uuid: Some(Uuid::from_u128(7).into()), ..vm.group("g") };
    engine.create_group(&request)?;
    assert!(engine.create_group(&request)?.repeated);
    let request = CreateGroup { memory: WithMemory::Yes, ..request };
    let error = home.refusal(&engine, || engine.create_group(&request))?;
    let Error::Refused(Refusal::OtherWish { .. }) = error else { panic!("{error:?}") };
    Ok(())
}

fn a_memory_volume_that_was_excepted_is_left_out(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (vm, memory) = machine(&engine)?;
    let request = CreateGroup { except: vec![memory.into()], ..vm.group("g").with_memory() };
    let made = engine.create_group(&request)?;
    assert_eq!(made.inventory.snapshot_count, 2);
    assert_eq!(made.left_out.len(), 1);
    Ok(())
}

fn a_machine_that_runs_elsewhere_keeps_its_memory(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (vm, _) = machine(&engine)?;
    engine.set_running(vm.uuid, snapgroup::Running::Elsewhere)?;
    let error = home.refusal(&engine, || engine.prepare_group(&vm.group("g").with_memory()))?;
    let Error::Refused(Refusal::NotYet { .. }) = error else { panic!("{error:?}") };
    engine.prepare_group(&vm.group("g"))?.abort()?;
    Ok(())
}
