//! Who holds which bytes: what is told is what deleting then gives back.

use crate::support::{Dice, Home, Machine, Made, Outcome, fill, make_machine, on_memory_and_disk, told};
use snapgroup::query::Query;
use snapgroup::{
    ByteCount, CreateSnapshot, CreateVolume, DeleteGroup, DeleteSnapshots, Engine, RevertVolume, SpaceOf,
    Uuid, When,
};

on_memory_and_disk! {
    bytes_that_two_snapshots_share_are_held_by_neither_alone
    what_is_not_there_holds_nothing_and_is_an_error
    random_trees_give_back_what_was_told
    files_that_wait_to_be_removed_are_not_counted
}

fn write(engine: &Engine, vm: &Machine, at: u64, length: usize, byte: u8) -> Outcome {
    fill(&engine.open_volume(vm.root())?, at, length, byte)
}

fn take(engine: &Engine, vm: &Machine, name: &str) -> Made<Uuid> {
    Ok(engine.create_snapshot(&CreateSnapshot::new(vm.root(), name))?.uuid)
}

fn bytes(engine: &Engine, of: &[Uuid]) -> Made<ByteCount> {
    let of = SpaceOf::Snapshots(of.iter().map(|uuid| (*uuid).into()).collect());
    Ok(engine.space_of(&of)?.bytes())
}

fn bytes_that_two_snapshots_share_are_held_by_neither_alone(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    write(&engine, &vm, 0, 8 * 4096, 1)?;
    let first = take(&engine, &vm, "first")?;
    // One cluster that only the second one sees, two that both see and the disk does not, one that first sees alone.
    write(&engine, &vm, 0, 4096, 2)?;
    let second = take(&engine, &vm, "second")?;
    write(&engine, &vm, 0, 3 * 4096, 3)?;
    let (one, other) = (bytes(&engine, &[first])?, bytes(&engine, &[second])?);
    assert_eq!(one, ByteCount::new(4096));
    let both = bytes(&engine, &[first, second])?;
    assert!(both > one + other, "{both} of {one} and {other}");

    // A clone and a hold refuse to be deleted, and hold what they hold.
    engine.hold(first, "somebody")?;
    assert_eq!(bytes(&engine, &[first])?, one);
    engine.create_volume(&CreateVolume::of_snapshot("clone", first))?;
    assert_eq!(bytes(&engine, &[first])?, ByteCount::ZERO, "the clone reads all of it");
    Ok(())
}

fn what_is_not_there_holds_nothing_and_is_an_error(home: &Home) -> Outcome {
    let engine = home.open()?;
    let absent = Uuid::from_u128(5);
    for (of, code) in [
        (SpaceOf::Snapshot(absent.into()), "SYS.1003"),
        (SpaceOf::Group(absent.into()), "SYS.1003"),
        (SpaceOf::Snapshots(vec![absent.into()]), "SYS.1003"),
        (SpaceOf::Snapshots(Vec::new()), "SYS.1007"),
        (SpaceOf::Group("x".into()), "SYS.1007"),
    ] {
        let error = home.refusal(&engine, || engine.space_of(&of))?;
        assert_eq!(told(&error).0, code, "{of:?}");
    }
    Ok(())
}

/// Trees with branches, full snapshots and zeros; then sets of snapshots and groups, until nothing is left.
fn random_trees_give_back_what_was_told(home: &Home) -> Outcome {
    for seed in 1..=12 {
        println!("seed {seed}");
        let mut dice = Dice::new(seed);
        let engine = home.open()?;
        let vm = make_machine(&engine, 2)?;
        for round in 0..12 {
            let disks = [engine.open_volume(vm.disks[0])?, engine.open_volume(vm.disks[1])?];
            for _ in 0..3 {
                let disk = &disks[usize::try_from(dice.roll(2))?];
                fill(disk, dice.roll(150_000), 1 + usize::try_from(dice.roll(30_000))?, dice.byte())?;
                disk.discard(dice.roll(150_000), 1 + dice.roll(20_000))?;
            }
            drop(disks);
            let name = format!("s{round}");
            match dice.roll(8) {
                0 => drop(engine.create_snapshot(&CreateSnapshot::new(vm.root(), name).in_full())?),
                1..=3 => drop(engine.create_group(&vm.group(&name))?),
                4 | 5 => {
                    let all = engine.query_snapshots(&Query::all())?.items;
                    if let Some(some) = all.get(usize::try_from(dice.roll(1 + all.len() as u64))?) {
                        engine.revert_volume(&RevertVolume::to(some.uuid))?;
                    }
                }
                _ => drop(take(&engine, &vm, &name)?),
            }
        }
        loop {
            let all = engine.query_snapshots(&Query::all())?.items;
            if all.is_empty() {
                break;
            }
            let groups = engine.query_groups(&Query::all())?.items;
            let (told, deleted) = match groups.first().filter(|_| dice.roll(3) == 0) {
                Some(group) => {
                    let told = engine.space_of(&SpaceOf::Group(group.uuid.into()))?;
                    (told, engine.delete_group(&DeleteGroup::new(group.uuid))?)
                }
                None => {
                    let count = 1 + usize::try_from(dice.roll(all.len() as u64))?;
                    let mut some: Vec<Uuid> = all.iter().map(|snapshot| snapshot.uuid).collect();
                    while some.len() > count {
                        some.remove(usize::try_from(dice.roll(some.len() as u64))?);
                    }
                    let told =
                        engine.space_of(&SpaceOf::Snapshots(some.iter().map(|u| (*u).into()).collect()))?;
                    (told, engine.delete_snapshots(&DeleteSnapshots::all(some))?)
                }
            };
            assert!(deleted.is_success());
            let done = &deleted.reclaimed;
            assert_eq!((told.bytes_punched, told.bytes_removed), (done.bytes_punched, done.bytes_removed));
            assert_eq!(done.bytes_copied(), ByteCount::ZERO);
        }
        engine.delete_machine(vm.uuid)?;
        engine.close()?;
    }
    Ok(())
}

fn files_that_wait_to_be_removed_are_not_counted(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    write(&engine, &vm, 0, 4 * 4096, 1)?;
    let first = take(&engine, &vm, "first")?;
    write(&engine, &vm, 0, 4096, 2)?;
    let second = take(&engine, &vm, "second")?;
    let alone = bytes(&engine, &[second])?;
    write(&engine, &vm, 0, 40_000, 3)?;
    engine.revert_volume(&RevertVolume { reclaim: When::Later, ..RevertVolume::to(second) })?;
    assert_eq!(engine.owed()?.len(), 1);
    assert_eq!(bytes(&engine, &[second])?, alone);
    assert!(bytes(&engine, &[first])? > ByteCount::ZERO);
    Ok(())
}
