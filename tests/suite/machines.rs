//! Machines: noted, and taken out of the books.

use crate::support::{
    Home, Outcome, assert_sound, fill, machine, make_disk, make_machine, on_every_store, read, read_snapshot,
    take, volume,
};
use snapgroup::inventory::MachineState;
use snapgroup::query::Query;
use snapgroup::{CreateMachine, CreateVolume, Engine, Error, Refusal, Running, Sharing, Uuid, VolumeKind};
use std::sync::Barrier;
use std::thread;

on_every_store! {
    a_new_machine_has_no_disks_and_runs_here
    a_repeat_answers_the_machine_that_is_there
    a_deleted_machine_leaves_its_volumes_and_snapshots
    deleting_twice_is_deleting_once
    two_machines_that_share_a_volume_can_be_deleted_at_once
    where_a_machine_runs_is_kept
}

fn a_new_machine_has_no_disks_and_runs_here(home: &Home) -> Outcome {
    let engine = home.open()?;
    let files = home.picture()?.len();
    let wish = CreateMachine { description: Some("d".into()), ..machine(" vm ") };
    let made = engine.create_machine(&wish)?;
    assert_eq!((made.name.as_str(), made.description.as_deref()), ("vm", Some("d")));
    assert_eq!((made.root_volume_uuid, made.current_group_uuid, made.all_volumes.len()), (None, None, 0));
    assert_eq!(engine.machine(made.uuid)?, made);
    assert!(engine.group_tree(made.uuid)?.is_empty());
    assert_eq!(home.picture()?.len(), files);
    Ok(())
}

fn a_repeat_answers_the_machine_that_is_there(home: &Home) -> Outcome {
    let engine = home.open()?;
    let wish = CreateMachine { resource_uuid: Some(Uuid::from_u128(1).into()), ..machine("vm") };
    let made = engine.create_machine(&wish)?;
    let generation = engine.generation();
    assert_eq!(engine.create_machine(&wish)?, made);
    assert_eq!(engine.generation(), generation);
    let other = CreateMachine { name: "other".into(), ..wish.clone() };
    let error = home.refusal(&engine, || engine.create_machine(&other))?;
    let Error::Refused(Refusal::OtherWish { by: "machine", .. }) = error else { panic!("{error:?}") };
    drop(engine);
    assert_eq!(home.open()?.create_machine(&wish)?, made);
    Ok(())
}

fn a_deleted_machine_leaves_its_volumes_and_snapshots(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let other = make_machine(&engine, 1)?;
    let kept = take(&engine, &other, "kept")?;
    let handle = engine.open_volume(vm.root())?;
    fill(&handle, 0, 4096, 1)?;
    let groups = [take(&engine, &vm, "g")?, take(&engine, &vm, "h")?];
    let files = home.picture()?;
    engine.delete_machine(vm.uuid)?;

    assert!(files == home.picture()?, "deleting a machine is bookkeeping");
    for group in &groups {
        let gone = engine.group(group.uuid);
        let Err(Error::Refused(Refusal::NotFound { .. })) = gone else { panic!("{gone:?}") };
        for member in &group.volume_snapshot_refs {
            assert_eq!(engine.snapshot(member.volume_snapshot_uuid)?.group_uuid, None);
        }
    }
    assert!(
        read_snapshot(&engine, groups[0].volume_snapshot_refs[0].volume_snapshot_uuid)?[..4096]
            .iter()
            .all(|byte| *byte == 1)
    );
    for disk in &vm.disks {
        let disk = engine.volume(*disk)?;
        assert_eq!((disk.vm_instance_uuid, disk.device_id), (None, None));
    }
    fill(&handle, 0, 512, 2)?;
    assert_eq!(read(&handle, 0, 512)?, [2; 512]);
    assert_eq!(engine.group(kept.uuid)?, kept);
    drop(handle);
    let next = engine.create_machine(&machine("next"))?.uuid;
    engine.attach_volume(vm.root(), next, None)?;
    assert_sound(&engine)
}

fn deleting_twice_is_deleting_once(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    engine.delete_machine(vm.uuid)?;
    let generation = engine.generation();
    engine.delete_machine(vm.uuid)?;
    assert_eq!(engine.generation(), generation);
    Ok(())
}

fn two_machines_that_share_a_volume_can_be_deleted_at_once(home: &Home) -> Outcome {
    let engine = home.open()?;
    for round in 0..20 {
        let [a, b] = ["a", "b"].map(|name| engine.create_machine(&machine(name)));
        let (a, b) = (a?.uuid, b?.uuid);
        let wish = CreateVolume { sharing: Sharing::Shareable, ..volume("quorum", VolumeKind::Data) };
        let shared = make_disk(&engine, a, &wish)?;
        engine.attach_volume(shared, b, None)?;
        let barrier = Barrier::new(2);
        let delete = |engine: &Engine, machine: Uuid| {
            barrier.wait();
            engine.delete_machine(machine)
        };
        thread::scope(|scope| {
            let other = scope.spawn(|| delete(&engine, b));
            delete(&engine, a).and(other.join().expect("it does not panic"))
        })?;
        assert_eq!(engine.volume(shared)?.vm_instance_uuid, None, "round {round}");
    }
    assert_eq!(engine.query_machines(&Query::all())?.total, 0);
    assert_sound(&engine)
}

fn where_a_machine_runs_is_kept(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let here = engine.machine(vm.uuid)?.state;
    let elsewhere = engine.set_running(vm.uuid, Running::Elsewhere)?.state;
    assert_ne!(here, elsewhere);
    assert_eq!(elsewhere, MachineState::Running);
    drop(engine);
    let engine = home.open()?;
    assert_eq!(engine.machine(vm.uuid)?.state, elsewhere);
    assert_eq!(engine.set_running(vm.uuid, Running::Here)?.state, here);
    Ok(())
}
