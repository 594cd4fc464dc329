//! The moment: one for all disks, whatever is written meanwhile.
//!
//! Writers stamp disk A, then B, then C with a rising number, each write after the last one has returned. So at
//! every moment A has at least what B has, B at least what C has, and C lacks one at most. A group that breaks this
//! holds a write without the one before it.

use crate::support::{Home, Machine, Made, Outcome, assert_sound, make_machine, on_memory_and_disk, take};
use snapgroup::{
    ByteCount, ChainFull, CreateGroup, CreateSnapshot, Engine, Error, Options, Refusal, Uuid, Volume,
};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

on_memory_and_disk! {
    no_group_holds_a_write_without_the_one_before_it
    no_copied_group_holds_a_write_without_the_one_before_it
    groups_snapshots_and_handles_at_once_come_to_an_end_and_keep_every_invariant
    one_wish_from_many_threads_is_done_once
}

/// How many groups are taken under way.
const GROUPS: u32 = 50;

/// A number and its complement, so that half a write is told from a whole one.
fn sealed(number: u64) -> [u8; 16] {
    (u128::from(number) << 64 | u128::from(!number)).to_be_bytes()
}

/// The number in a stamp that is whole; 0 where nothing was written yet.
fn opened(bytes: [u8; 16]) -> Option<u64> {
    let stamp = u128::from_be_bytes(bytes);
    let number = u64::try_from(stamp >> 64).expect("half of it");
    (stamp == 0 || bytes == sealed(number)).then_some(number)
}

/// Stamps the disks one after the other until told to stop, the same number on each.
fn stamp(disks: &[Volume], at: u64, stop: &AtomicBool, rounds: &AtomicU64) -> Result<(), Error> {
    for number in 1u64.. {
        for disk in disks {
            disk.write_at(at, &sealed(number))?;
        }
        rounds.fetch_add(1, Ordering::Relaxed);
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(())
}

/// Reads all disks until told to stop: a number never gets smaller.
fn watch(disks: &[Volume], at: u64, stop: &AtomicBool) -> Result<(), Error> {
    let mut seen = vec![0; disks.len()];
    while !stop.load(Ordering::Relaxed) {
        for (disk, seen) in disks.iter().zip(&mut seen) {
            let mut bytes = [0; 16];
            disk.read_at(at, &mut bytes)?;
            // A read at the same time as a write of the same bytes may see some of the new ones.
            let Some(now) = opened(bytes) else { continue };
            assert!(now >= *seen, "{now} after {seen}: a reader has seen the past");
            *seen = now;
        }
    }
    Ok(())
}

/// The stamps in the members of a group, in the order of the disks.
fn stamps(engine: &Engine, snapshots: &[Uuid], at: u64) -> Made<Vec<u64>> {
    let read = |snapshot: &Uuid| {
        let mut bytes = [0; 16];
        engine.open_snapshot(snapshot)?.read_at(at, &mut bytes)?;
        Ok(opened(bytes).expect("a snapshot holds whole writes"))
    };
    snapshots.iter().map(read).collect()
}

fn assert_in_order(engine: &Engine, groups: &[Vec<Uuid>], offsets: [u64; 2]) -> Outcome {
    for (index, snapshots) in groups.iter().enumerate() {
        for at in offsets {
            let [a, b, c] = stamps(engine, snapshots, at)?[..] else { panic!("three disks") };
            assert!(a >= b && b >= c && c + 1 >= a, "group {index} at {at}: {a}, {b}, {c}");
        }
    }
    Ok(())
}

fn no_group_holds_a_write_without_the_one_before_it(home: &Home) -> Outcome {
    groups_under_writes(home, home.open()?)
}

/// Every other group is copied, while the writers go on.
fn no_copied_group_holds_a_write_without_the_one_before_it(home: &Home) -> Outcome {
    let short = |options: &mut Options| (options.chain_max, options.chain_full) = (3, ChainFull::Full);
    groups_under_writes(home, home.open_with(short)?)
}

fn groups_under_writes(home: &Home, engine: Engine) -> Outcome {
    let vm = make_machine(&engine, 3)?;
    let disks = vm.disks.iter().map(|disk| engine.open_volume(*disk)).collect::<Result<Vec<_>, _>>()?;
    // Two offsets in one cluster, and in a cluster with what never changes.
    let offsets = [0, 2048];
    let (stop, rounds) = (AtomicBool::new(false), [AtomicU64::new(0), AtomicU64::new(0)]);
    let mut groups: Vec<Vec<Uuid>> = Vec::new();
    let finished = thread::scope(|scope| -> Outcome {
        let mut threads = Vec::new();
        for (at, rounds) in offsets.into_iter().zip(&rounds) {
            let (disks, stop) = (&disks, &stop);
            threads.push(scope.spawn(move || stamp(disks, at, stop, rounds)));
            threads.push(scope.spawn(move || watch(disks, at, stop)));
        }
        let taken = (0..GROUPS).try_for_each(|number| -> Outcome {
            // Each group sees at least one write more than the last one did.
            let before = rounds[0].load(Ordering::Relaxed);
            while rounds[0].load(Ordering::Relaxed) == before && !threads.iter().any(|t| t.is_finished()) {
                thread::yield_now();
            }
            let group = take(&engine, &vm, &format!("g{number}"))?;
            groups.push(group.volume_snapshot_refs.iter().map(|m| m.volume_snapshot_uuid).collect());
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| "a thread has panicked")??;
        }
        taken
    });
    finished?;
    assert_in_order(&engine, &groups, offsets)?;
    let last = stamps(&engine, &groups[groups.len() - 1], 0)?;
    assert!(last[0] >= u64::from(GROUPS) - 1, "the writers have hardly run: {last:?}");
    drop(disks);
    assert_sound(&engine)?;
    engine.close()?;

    let engine = home.open()?;
    assert_in_order(&engine, &groups, offsets)
}

fn groups_snapshots_and_handles_at_once_come_to_an_end_and_keep_every_invariant(home: &Home) -> Outcome {
    let engine = home.open_with(|options| options.chain_max = 1000)?;
    let machines = [make_machine(&engine, 2)?, make_machine(&engine, 2)?];
    let loose = engine.create_volume(&crate::support::volume("loose", snapgroup::VolumeKind::Data))?.uuid;
    let (engine, machines) = (&engine, &machines);
    let turns = |number: usize| -> Result<(), Error> {
        let vm = &machines[number % 2];
        for round in 0..8u64 {
            match number {
                0..=3 => drop(engine.create_group(&vm.group("g"))?),
                4 | 5 => {
                    let wish = CreateSnapshot {
                        volume_uuid: Some(vm.disks[1].into()),
                        name: "s".into(),
                        ..CreateSnapshot::default()
                    };
                    engine.create_snapshot(&wish)?;
                }
                6 | 7 => {
                    let disk = engine.open_volume(vm.root())?;
                    let copy = disk.clone();
                    drop(disk);
                    copy.write_at(round * 512, &[1; 512])?;
                }
                8 | 9 => {
                    // Whoever is second finds it attached, or gone.
                    let attached = engine.attach_volume(loose, vm.uuid, None);
                    let detached = engine.detach_volume(loose, vm.uuid);
                    for answer in [attached, detached] {
                        let Err(error) = answer else { continue };
                        let Error::Refused(Refusal::AttachedAlready { .. } | Refusal::NotOfMachine { .. }) =
                            error
                        else {
                            return Err(error);
                        };
                    }
                }
                _ => {
                    let size = engine.volume(vm.root())?.size;
                    match engine.resize_volume(vm.root(), size + ByteCount::kib(4)) {
                        Ok(_) | Err(Error::Refused(Refusal::Shrink { .. })) => {}
                        Err(error) => return Err(error),
                    }
                    engine
                        .check_availability([engine
                            .group_tree(vm.uuid)?
                            .values()
                            .next()
                            .map_or_else(|| Uuid::from_u128(1), |group| group.uuid)])
                        .map_or_else(
                            |error| if error.code().as_str() == "SYS.1003" { Ok(()) } else { Err(error) },
                            |_| Ok(()),
                        )?;
                }
            }
        }
        Ok(())
    };
    thread::scope(|scope| -> Outcome {
        let threads: Vec<_> = (0..12).map(|number| scope.spawn(move || turns(number))).collect();
        for thread in threads {
            thread.join().map_err(|_| "a thread has panicked")??;
        }
        Ok(())
    })?;
    assert_sound(engine)?;
    for vm in machines {
        assert_eq!(engine.group_tree(vm.uuid)?.len(), 16);
        assert_eq!(engine.chain(vm.root())?.len(), 17);
        assert_eq!(engine.chain(vm.disks[1])?.len(), 17 + 8);
    }
    Ok(())
}

/// Calls the same thing from four threads at once.
fn at_once<T: Send>(call: impl Fn() -> Result<T, Error> + Sync) -> Made<Vec<T>> {
    let barrier = Barrier::new(4);
    let answers = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    call()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("the call does not panic")).collect::<Vec<_>>()
    });
    Ok(answers.into_iter().collect::<Result<_, _>>()?)
}

fn one_wish_from_many_threads_is_done_once(home: &Home) -> Outcome {
    let engine = home.open()?;
    for round in 0..8u128 {
        let uuid = |kind: u128| Some(Uuid::from_u128(1000 * round + kind).into());
        let wish = snapgroup::CreateMachine { resource_uuid: uuid(1), ..crate::support::machine("vm") };
        let machines = at_once(|| engine.create_machine(&wish))?;
        assert!(machines.iter().all(|machine| machine.uuid == Uuid::from_u128(1000 * round + 1)));
        let root = snapgroup::CreateVolume {
            resource_uuid: uuid(2),
            ..crate::support::volume("root", snapgroup::VolumeKind::Root)
        };
        let disks = at_once(|| engine.create_volume(&root))?;
        assert!(disks.iter().all(|disk| disk.install_path == disks[0].install_path));
        let vm = Machine { uuid: machines[0].uuid, disks: vec![disks[0].uuid] };
        engine.attach_volume(vm.root(), vm.uuid, None)?;
        let wish = CreateGroup { resource_uuid: uuid(3), ..vm.group("g") };
        let groups = at_once(|| engine.create_group(&wish))?;
        assert_eq!(groups.iter().filter(|group| !group.repeated).count(), 1);
        let wish = CreateSnapshot {
            volume_uuid: Some(vm.root().into()),
            name: "s".into(),
            resource_uuid: uuid(4),
            ..CreateSnapshot::default()
        };
        let snapshots = at_once(|| engine.create_snapshot(&wish))?;
        assert!(snapshots.iter().all(|snapshot| *snapshot == snapshots[0]));
        assert_eq!(engine.chain(vm.root())?.len(), 3);
    }
    assert_sound(&engine)
}
