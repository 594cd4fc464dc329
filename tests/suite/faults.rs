//! Faults: any one call to the store fails, once or for ever, in any call to the engine.
//!
//! Afterwards, when the pool is opened again: what was asked for is there as a whole or not at all, and it is there
//! when the call said so; nothing that was flushed is lost; nothing is left over; and a repeat succeeds.

use crate::support::{
    Home, Machine, Made, Outcome, SIZE, fill, make_machine, read, read_snapshot, read_volume, take, volume,
};
use snapgroup::query::Query;
use snapgroup::storage::{At, Call, Fault, FaultKind, Operation, Times};
use snapgroup::{
    AdoptRule, AdoptVolume, ByteCount, CreateGroup, CreateSnapshot, CreateVolume, DeleteSnapshots, Direction,
    Engine, Error, Kind, ReclaimOptions, Refusal, SealOptions, Uuid, Verdict, VerifyDepth, VerifyOf,
    VolumeKind, When,
};

/// What the wish of a program is to be known by.
const WANTED: Uuid = Uuid::from_u128(0xfeed);

/// A call, and whether what it is for is there.
struct Program {
    run: fn(&Engine, &Pool) -> Result<(), Error>,
    is_done: fn(&Engine, &Pool) -> Result<bool, Error>,
}

/// A pool to start from: a machine of three disks with content and a group, and a loose volume.
struct Pool {
    home: Home,
    vm: Machine,
    loose: Uuid,
    first: Vec<Uuid>,
}

/// What each disk of the machine holds up to here, flushed long ago.
const FLUSHED: usize = 40_000;

impl Pool {
    fn new() -> Made<Self> {
        let home = Home::simulated();
        home.put("disk.qcow2", &crate::adoption::bytes_of(&snapgroup::image::NewImage::of_size(SIZE))?)?;
        let engine = home.open()?;
        let vm = make_machine(&engine, 3)?;
        for (disk, byte) in vm.disks.iter().zip(1..) {
            fill(&engine.open_volume(*disk)?, 0, FLUSHED / 2, byte)?;
        }
        let group = take(&engine, &vm, "first")?;
        let first = group.volume_snapshot_refs.iter().map(|member| member.volume_snapshot_uuid).collect();
        for (disk, byte) in vm.disks.iter().zip(1..) {
            fill(&engine.open_volume(*disk)?, FLUSHED as u64 / 2, FLUSHED / 2, byte)?;
        }
        let loose = engine.create_volume(&volume("loose", VolumeKind::Data))?.uuid;
        engine.close()?;
        Ok(Self { home, vm, loose, first })
    }

    fn fork(&self) -> Self {
        Self { home: self.home.fork(), vm: self.vm.clone(), loose: self.loose, first: self.first.clone() }
    }

    /// Everything that must hold whatever has failed.
    fn assert_whole(&self, engine: &Engine, torn: bool) -> Outcome {
        let found = engine.check()?;
        assert!(found.violations.is_empty(), "{:?}", found.violations);
        assert!(found.missing.is_empty(), "{:?}", found.missing);
        // A header of which a part was written, and a file system that then refuses to remove the file: it cannot
        // be told from the file of somebody else.
        assert!(torn || found.unnamed.is_empty(), "{:?}", found.unnamed);
        assert!(torn || engine.recovered().left_alone.is_empty(), "{:?}", engine.recovered());
        for layer in &found.layers {
            let corruptions = layer.report.as_ref().map(|report| report.corruptions);
            assert_eq!((corruptions, &layer.error), (Some(0), &None), "{layer:?}");
        }
        for ((disk, snapshot), byte) in self.vm.disks.iter().zip(&self.first).zip(1..) {
            let content = read(&engine.open_volume(*disk)?, 0, FLUSHED)?;
            assert!(content.iter().all(|found| *found == byte), "what was flushed is lost");
            let mut content = vec![0; 2 * FLUSHED];
            engine.open_snapshot(*snapshot)?.read_at(0, &mut content)?;
            assert!(content[..FLUSHED / 2].iter().all(|found| *found == byte), "a snapshot is lost");
            assert!(content[FLUSHED / 2..].iter().all(|found| *found == 0), "a snapshot has changed");
        }
        for group in engine.query_groups(&Query::all())?.items {
            assert_eq!(group.volume_snapshot_refs.len(), 3);
            for member in &group.volume_snapshot_refs {
                assert_eq!(engine.snapshot(member.volume_snapshot_uuid)?.group_uuid, Some(group.uuid));
            }
        }
        Ok(())
    }
}

/// The calls to the store that a run without a fault makes. Uuids and the clock being what they are, a run with a
/// fault makes the same ones up to it.
fn calls_of(pool: &Pool, run: fn(&Engine, &Pool) -> Result<(), Error>) -> Made<Vec<Call>> {
    let pool = pool.fork();
    let engine = pool.home.open()?;
    pool.home.faulty().record();
    run(&engine, &pool)?;
    let calls = pool.home.faulty().take_calls();
    assert!(calls.len() > 5, "{calls:?}: the program hardly touches the store");
    Ok(calls)
}

/// How a call can fail: a write may have done a part of its work, or all of it.
fn ways(call: &Call) -> Vec<FaultKind> {
    let mut ways = vec![FaultKind::ENOSPC];
    if call.operation == Operation::Write {
        ways.extend([ByteCount::new(100), ByteCount::mib(64)].map(FaultKind::ShortWrite));
    }
    ways
}

/// Lets each call to the store fail in turn while a program runs.
fn every_call_fails_once(program: &Program) -> Outcome {
    let pool = Pool::new()?;
    let (mut failed, mut done_in_spite) = (0, 0);
    for (nth, call) in (1..).zip(calls_of(&pool, program.run)?) {
        let at = At::Call(nth);
        let once = ways(&call).into_iter().map(|kind| Fault::once(at, kind));
        let for_ever = Fault::for_ever(at, FaultKind::ShortWrite(ByteCount::new(100)));
        for fault in once.chain([for_ever]) {
            let (said, is_there) = one_fault(program, &pool.fork(), fault)
                .map_err(|error| format!("{fault:?} at {call:?}: {error}"))?;
            assert!(is_there || said.is_err(), "{fault:?}: it was said to be done, and is not there");
            failed += u32::from(said.is_err());
            done_in_spite += u32::from(said.is_err() && is_there);
        }
    }
    assert!(failed > 0, "no fault was ever noticed");
    // Only a commit whose end is unknown, and the answer after it, can be both.
    assert!(done_in_spite < failed, "{done_in_spite} of {failed}");
    Ok(())
}

/// One run with one fault; answers what the call said, and whether the pool has it afterwards.
fn one_fault(program: &Program, pool: &Pool, fault: Fault) -> Made<(Result<(), Error>, bool)> {
    let torn = fault.times == Times::ForEver;
    let store = pool.home.faulty();
    let engine = pool.home.open()?;
    store.fail(fault);
    let said = (program.run)(&engine, pool);
    if let Err(error) = &said {
        assert_ne!(error.kind(), Kind::Refused, "{error}: a failing disk is no bad request");
    }
    drop(engine);
    store.heal();

    let engine = pool.home.open()?;
    pool.assert_whole(&engine, torn)?;
    let is_there = (program.is_done)(&engine, pool)?;
    (program.run)(&engine, pool).map_err(|error| format!("the repeat after {said:?} failed: {error:?}"))?;
    assert!((program.is_done)(&engine, pool)?, "the repeat after {said:?} did nothing");
    let broken = engine.verify_catalogue()?;
    assert!(broken.is_empty(), "after the repeat: {broken:?}");
    Ok((said, is_there))
}

/// Whether a thing is there, from the answer to a question for it.
fn is_found<T>(answer: Result<T, Error>) -> Result<bool, Error> {
    match answer {
        Ok(_) => Ok(true),
        Err(Error::Refused(Refusal::NotFound { .. })) => Ok(false),
        Err(error) => Err(error),
    }
}

fn group_wish(pool: &Pool) -> CreateGroup {
    CreateGroup { resource_uuid: Some(WANTED.into()), ..pool.vm.group("second") }
}

#[test]
fn a_group_is_there_as_a_whole_or_not_at_all() -> Outcome {
    every_call_fails_once(&Program {
        run: |engine, pool| engine.create_group(&group_wish(pool)).map(drop),
        is_done: |engine, _| is_found(engine.group(WANTED)),
    })
}

#[test]
fn a_group_under_unflushed_writes_is_there_as_a_whole_or_not_at_all() -> Outcome {
    every_call_fails_once(&Program {
        run: |engine, pool| {
            let handles =
                pool.vm.disks.iter().map(|disk| engine.open_volume(*disk)).collect::<Result<Vec<_>, _>>()?;
            for handle in &handles {
                handle.write_at(500_000, &[7; 10_000])?;
            }
            let group = engine.create_group(&group_wish(pool))?;
            if !group.repeated {
                for member in &group.inventory.volume_snapshot_refs {
                    let mut content = [0; 10_000];
                    let snapshot = engine.open_snapshot(member.volume_snapshot_uuid)?;
                    snapshot.read_at(500_000, &mut content)?;
                    assert!(content == [7; 10_000], "what was written before is not in the group");
                }
            }
            Ok(())
        },
        is_done: |engine, _| is_found(engine.group(WANTED)),
    })
}

#[test]
fn a_full_group_is_there_as_a_whole_or_not_at_all() -> Outcome {
    every_call_fails_once(&Program {
        run: |engine, pool| engine.create_group(&group_wish(pool).in_full()).map(drop),
        is_done: |engine, _| is_found(engine.group(WANTED)),
    })
}

#[test]
fn a_volume_is_there_as_a_whole_or_not_at_all() -> Outcome {
    every_call_fails_once(&Program {
        run: |engine, _| {
            let wish = CreateVolume { resource_uuid: Some(WANTED.into()), ..volume("new", VolumeKind::Data) };
            let disk = engine.create_volume(&wish)?.uuid;
            engine.open_volume(disk).map(drop)
        },
        is_done: |engine, _| is_found(engine.volume(WANTED)),
    })
}

#[test]
fn a_snapshot_is_there_as_a_whole_or_not_at_all() -> Outcome {
    every_call_fails_once(&Program {
        run: |engine, pool| {
            let wish = CreateSnapshot {
                volume_uuid: Some(pool.vm.root().into()),
                name: "s".into(),
                resource_uuid: Some(WANTED.into()),
                ..CreateSnapshot::default()
            };
            engine.create_snapshot(&wish).map(drop)
        },
        is_done: |engine, _| is_found(engine.snapshot(WANTED)),
    })
}

#[test]
fn a_volume_is_attached_or_not() -> Outcome {
    every_call_fails_once(&Program {
        run: |engine, pool| match engine.attach_volume(pool.loose, pool.vm.uuid, None) {
            Ok(_) | Err(Error::Refused(Refusal::AttachedAlready { .. })) => Ok(()),
            Err(error) => Err(error),
        },
        is_done: |engine, pool| Ok(engine.volume(pool.loose)?.vm_instance_uuid.is_some()),
    })
}

#[test]
fn a_disk_has_the_old_size_or_the_new_one_and_all_of_its_content() -> Outcome {
    every_call_fails_once(&Program {
        run: |engine, pool| {
            engine.resize_volume(pool.vm.root(), ByteCount::mib(5))?;
            let disk = engine.open_volume(pool.vm.root())?;
            let mut past = vec![1; 4 * SIZE.as_usize()];
            disk.read_at(SIZE.as_u64(), &mut past)?;
            assert!(past.iter().all(|byte| *byte == 0), "the new part is not zeros");
            Ok(())
        },
        is_done: |engine, pool| Ok(engine.volume(pool.vm.root())?.size == ByteCount::mib(5)),
    })
}

#[test]
fn a_file_is_adopted_as_a_whole_or_not_at_all() -> Outcome {
    every_call_fails_once(&Program {
        run: |engine, _| {
            let wish = AdoptVolume {
                file: "disk.qcow2".into(),
                name: "adopted".into(),
                resource_uuid: Some(WANTED.into()),
                ..AdoptVolume::default()
            };
            match engine.adopt_volume(&wish) {
                // A file that cannot be read is not adopted: the rule that it breaks says what the disk said.
                Err(Error::NotAdoptable { rule: AdoptRule::Unusable(cause), .. }) => {
                    Err(snapgroup::storage::Error::Poisoned { cause: cause.to_string() }.into())
                }
                answer => answer.map(drop),
            }
        },
        is_done: |engine, _| is_found(engine.volume(WANTED)),
    })
}

#[test]
fn a_pool_is_sealed_layer_by_layer_and_nothing_is_left_over() -> Outcome {
    every_call_fails_once(&Program {
        run: |engine, _| {
            let sealed = engine.seal(&SealOptions::default())?.finish()?;
            match sealed.failed.first().and_then(|failed| failed.error.clone()) {
                Some(error) => {
                    Err(snapgroup::storage::Error::Poisoned { cause: format!("{error:?}") }.into())
                }
                None => Ok(()),
            }
        },
        is_done: |engine, _| {
            let found = engine.verify(&VerifyOf::Pool, VerifyDepth::Content)?;
            assert!(found.is_good(), "{found:?}");
            Ok(found.is_proved())
        },
    })
}

/// Seals what has no seal: afterwards each layer at rest has one, or the answer names it.
fn is_sealed_or_named(engine: &Engine) -> Outcome {
    let sealed = match engine.seal(&SealOptions::default())?.finish() {
        Ok(sealed) => sealed,
        // After a failed sync nothing is written any more.
        Err(_) => return Ok(()),
    };
    let found = match engine.verify(&VerifyOf::Pool, VerifyDepth::Content) {
        Ok(found) => found,
        // After a failed call of the catalogue's, what is not in memory of it is not read any more.
        Err(Error::Catalog(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for layer in found.layers {
        let is_named = sealed.failed.iter().any(|failed| failed.file == layer.file);
        let is_sealed = layer.verdict == Verdict::Intact;
        assert_ne!(is_sealed, is_named, "{layer:?}, {sealed:?}");
    }
    Ok(())
}

#[test]
fn a_merge_that_fails_never_leaves_a_seal_of_what_was_before() -> Outcome {
    for direction in [Direction::Pull, Direction::Commit] {
        let pool = Pool::new()?;
        let engine = pool.home.open()?;
        take(&engine, &pool.vm, "second")?;
        assert!(engine.seal(&SealOptions::default())?.finish()?.failed.is_empty());
        assert!(
            engine
                .delete_snapshots(&DeleteSnapshots {
                    reclaim: When::Later,
                    ..DeleteSnapshots::one(pool.first[0])
                })?
                .is_success()
        );
        engine.close()?;
        let reclaim =
            |engine: &Engine| engine.reclaim(&ReclaimOptions::towards(direction))?.finish().map(drop);
        let counted = pool.fork();
        let engine = counted.home.open()?;
        counted.home.faulty().record();
        reclaim(&engine)?;
        let calls = counted.home.faulty().take_calls();
        for (nth, call) in (1..).zip(calls) {
            for kind in ways(&call) {
                let pool = pool.fork();
                let engine = pool.home.open()?;
                pool.home.faulty().fail(Fault::once(At::Call(nth), kind));
                let said = reclaim(&engine);
                pool.home.faulty().heal();
                let context = format!("{direction:?}, {call:?}, {kind:?}, {said:?}");
                is_sealed_or_named(&engine).map_err(|error| format!("{context}: {error}"))?;
                drop(engine);
                let engine = pool.home.open()?;
                let found = engine.verify(&VerifyOf::Pool, VerifyDepth::Content)?;
                assert!(found.is_good(), "{context}: {found:?}");
                let touched = found.layers.iter().any(|layer| !layer.touched.is_empty());
                assert!(!touched, "{context}: {found:?}");
                let check = engine.check()?;
                assert!(check.unnamed.is_empty() && check.seals_missing.is_empty(), "{context}: {check:?}");
            }
        }
    }
    Ok(())
}

/// A header that a merge could not write is finished when the disk is opened, which moves the head.
#[test]
fn a_group_after_a_merge_that_has_failed_holds_the_layers_that_are_there_then() -> Outcome {
    let pool = Pool::new()?;
    let engine = pool.home.open()?;
    for snapshot in &pool.first {
        let request = DeleteSnapshots { reclaim: When::Later, ..DeleteSnapshots::one(*snapshot) };
        assert!(engine.delete_snapshots(&request)?.is_success());
    }
    engine.close()?;
    let merge: fn(&Engine, &Pool) -> Result<(), Error> =
        |engine, _| engine.reclaim(&ReclaimOptions::towards(Direction::Pull))?.finish().map(drop);
    let mut taken = 0;
    for (nth, call) in (1..).zip(calls_of(&pool, merge)?) {
        let pool = pool.fork();
        let engine = pool.home.open()?;
        pool.home.faulty().fail(Fault::once(At::Call(nth), FaultKind::ENOSPC));
        let said = merge(&engine, &pool);
        pool.home.faulty().heal();
        taken += u32::from(engine.create_group(&group_wish(&pool)).is_ok());
        // What the merge has left is swept, whatever becomes of the other disks.
        drop(merge(&engine, &pool));
        drop(engine);
        let engine = pool.home.open()?;
        merge(&engine, &pool)?;
        let found = engine.check()?;
        let is_whole = found.violations.is_empty() && found.missing.is_empty();
        assert!(is_whole, "{call:?}, {said:?}: {:?}, {:?}", found.violations, found.missing);
    }
    assert!(taken > 0, "no group was ever taken");
    Ok(())
}

#[test]
fn a_machine_is_deleted_as_a_whole_or_not_at_all() -> Outcome {
    every_call_fails_once(&Program {
        run: |engine, pool| engine.delete_machine(pool.vm.uuid),
        is_done: |engine, pool| is_found(engine.machine(pool.vm.uuid)).map(|found| !found),
    })
}

#[test]
fn a_pool_is_made_as_a_whole_or_made_anew() -> Outcome {
    let counted = Home::simulated();
    drop(counted.open()?);
    let calls = counted.faulty().counts().total();
    for nth in 1..=calls {
        let half = FaultKind::ShortWrite(ByteCount::new(1000));
        for kind in [FaultKind::EIO, half] {
            for fault in [Fault::once(At::Call(nth), kind), Fault::for_ever(At::Call(nth), kind)] {
                let home = Home::simulated();
                home.faulty().fail(fault);
                let made = home.open_with(|options| options.create = snapgroup::CreatePool::IfEmpty);
                drop(made);
                home.faulty().heal();
                let engine = home
                    .open_with(|options| options.create = snapgroup::CreatePool::IfEmpty)
                    .map_err(|error| format!("{fault:?} of {calls}: {error}"))?;
                let vm = make_machine(&engine, 1)?;
                take(&engine, &vm, "g")?;
                crate::support::assert_sound(&engine)?;
                let files: Vec<String> = home.picture()?.into_keys().collect();
                assert_eq!(files.len(), 3, "{files:?}");
            }
        }
    }
    Ok(())
}

/// The guest goes on after a call whose end is unknown: what it writes then must not be in the snapshot, and what
/// it was told to be durable must be on the disk.
#[test]
fn a_guest_that_goes_on_after_a_fault_is_not_in_the_snapshot() -> Outcome {
    let pool = Pool::new()?;
    let calls = calls_of(&pool, |engine, pool| engine.create_group(&group_wish(pool)).map(drop))?;
    for (nth, call) in (1..).zip(calls) {
        for kind in ways(&call) {
            for with_handle in [false, true] {
                let pool = pool.fork();
                let engine = pool.home.open()?;
                let handle = if with_handle { Some(engine.open_volume(pool.vm.root())?) } else { None };
                pool.home.faulty().fail(Fault::once(At::Call(nth), kind));
                let said = engine.create_group(&group_wish(&pool));
                pool.home.faulty().heal();
                let goes_on = || -> Result<(), Error> {
                    let disk = match &handle {
                        Some(handle) => handle.clone(),
                        None => engine.open_volume(pool.vm.root())?,
                    };
                    disk.write_at(500_000, &[0xee; 5000])?;
                    disk.flush()
                };
                let acknowledged = goes_on().is_ok();
                drop(handle);
                drop(engine);

                let engine = pool.home.open()?;
                let context = format!("{call:?}, {kind:?}, handle {with_handle}, {said:?}");
                if engine.group(WANTED).is_ok() {
                    let group = engine.group(WANTED)?;
                    let snapshot = group.volume_snapshot_refs[0].volume_snapshot_uuid;
                    let content = read_snapshot(&engine, snapshot)?;
                    assert!(content[500_000..505_000] == [0; 5000], "{context}: the snapshot has changed");
                }
                if acknowledged {
                    let content = read_volume(&engine, pool.vm.root())?;
                    assert!(content[500_000..505_000] == [0xee; 5000], "{context}: what was flushed is lost");
                }
                pool.assert_whole(&engine, false).map_err(|error| format!("{context}: {error}"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn after_a_failed_sync_nothing_is_written_and_reads_go_on() -> Outcome {
    let pool = Pool::new()?;
    let engine = pool.home.open()?;
    let disk = engine.open_volume(pool.vm.root())?;
    fill(&disk, 600_000, 512, 9)?;
    pool.home.faulty().fail(Fault::once(At::CallOf(Operation::Sync, 1), FaultKind::EIO));
    let Err(error) = disk.flush() else { panic!("the failure was kept quiet") };
    assert_eq!((error.code().as_str(), error.kind()), ("SYS.1016", Kind::Failed));

    let before = pool.home.picture()?;
    let wish = CreateSnapshot {
        volume_uuid: Some(pool.loose.into()),
        name: "s".into(),
        ..CreateSnapshot::default()
    };
    let adopted = AdoptVolume { file: "disk.qcow2".into(), name: "a".into(), ..AdoptVolume::default() };
    for _ in 0..2 {
        let answers = [
            ("write", disk.write_at(0, &[1; 512])),
            ("zeroes", disk.write_zeroes(0, 65_536)),
            ("discard", disk.discard(0, 65_536).and_then(|()| disk.flush())),
            ("flush", disk.flush()),
            ("group", engine.create_group(&pool.vm.group("g")).map(drop)),
            ("snapshot", engine.create_snapshot(&wish).map(drop)),
            ("volume", engine.create_volume(&volume("v", VolumeKind::Data)).map(drop)),
            ("adopt", engine.adopt_volume(&adopted).map(drop)),
            ("resize", engine.resize_volume(pool.loose, ByteCount::mib(9)).map(drop)),
            ("machine", engine.create_machine(&crate::support::machine("m")).map(drop)),
            ("attach", engine.attach_volume(pool.loose, pool.vm.uuid, None).map(drop)),
            ("delete", engine.delete_machine(pool.vm.uuid)),
        ];
        for (what, answer) in answers {
            let Err(error) = answer else { panic!("{what}: written after a failed sync") };
            if what != "adopt" {
                assert_eq!(error.kind(), Kind::Failed, "{what}: {error}");
            }
        }
    }
    assert!(pool.home.picture()? == before, "something was written after a failed sync");
    assert_eq!(read(&disk, 600_000, 512)?, [9; 512], "reads go on");
    assert!(read_snapshot(&engine, pool.first[0])?[..FLUSHED / 2].iter().all(|byte| *byte == 1));
    engine.open_volume(pool.vm.disks[1])?;
    assert_eq!(engine.query_groups(&Query::all())?.total, 1);

    drop(disk);
    drop(engine);
    let engine = pool.home.open()?;
    pool.assert_whole(&engine, false)?;
    take(&engine, &pool.vm, "again")?;
    pool.assert_whole(&engine, false)
}

#[test]
fn a_failed_read_is_an_error_of_that_call_alone() -> Outcome {
    let pool = Pool::new()?;
    let engine = pool.home.open()?;
    let disk = engine.open_volume(pool.vm.root())?;
    pool.home.faulty().fail(Fault::once(At::CallOf(Operation::Read, 1), FaultKind::EIO));
    let Err(error) = read(&disk, 0, FLUSHED) else { panic!("the failure was kept quiet") };
    assert!(error.to_string().contains("reading"), "{error}");
    assert!(read(&disk, 0, FLUSHED)?.iter().all(|byte| *byte == 1));
    take(&engine, &pool.vm, "g")?;
    pool.assert_whole(&engine, false)
}

#[test]
fn a_full_disk_is_no_end_of_the_pool() -> Outcome {
    let pool = Pool::new()?;
    let engine = pool.home.open()?;
    let disk = engine.open_volume(pool.vm.root())?;
    pool.home.faulty().fail(Fault::for_ever(At::CallOf(Operation::Write, 1), FaultKind::ENOSPC));
    let Err(error) = disk.write_at(800_000, &[1; 512]) else { panic!("the failure was kept quiet") };
    assert_eq!((error.code().as_str(), error.kind()), ("SYS.1016", Kind::Failed));
    let full = engine.create_volume(&volume("v", VolumeKind::Data));
    let Err(error) = full else { panic!("{full:?}") };
    assert_eq!((error.code().as_str(), error.kind()), ("SYS.1016", Kind::Failed));
    pool.home.faulty().heal();
    fill(&disk, 800_000, 512, 1)?;
    disk.flush()?;
    drop(disk);
    engine.create_volume(&volume("v", VolumeKind::Data))?;
    take(&engine, &pool.vm, "g")?;
    pool.assert_whole(&engine, false)
}

#[test]
fn a_group_that_fails_after_the_heads_were_frozen_lets_guests_write_on() -> Outcome {
    let pool = Pool::new()?;
    let engine = pool.home.open()?;
    let disks = pool.vm.disks.iter().map(|disk| engine.open_volume(*disk)).collect::<Result<Vec<_>, _>>()?;
    for nth in 1..=3 {
        pool.home.faulty().fail(Fault::once(At::CallOf(Operation::Create, nth), FaultKind::ENOSPC));
        let error = pool.home.refusal(&engine, || engine.create_group(&group_wish(&pool)))?;
        assert_eq!((error.code().as_str(), error.kind()), ("SYS.1016", Kind::Failed));
        pool.home.faulty().heal();
        for (disk, byte) in disks.iter().zip(1..) {
            fill(disk, 0, FLUSHED, byte)?;
            disk.flush()?;
        }
    }
    assert!(!engine.create_group(&group_wish(&pool))?.repeated);
    drop(disks);
    pool.assert_whole(&engine, false)
}

#[test]
fn a_disk_that_finds_no_room_to_grow_keeps_its_size() -> Outcome {
    let resize =
        |engine: &Engine, pool: &Pool| engine.resize_volume(pool.vm.root(), ByteCount::gib(4)).map(drop);
    let pool = Pool::new()?;
    let calls = calls_of(&pool, resize)?;
    // The books are written before the head is.
    let of_head = |call: &Call| {
        let name = call.name.as_ref().map_or("", |name| name.as_str());
        call.operation == Operation::Write && name.starts_with("layer-")
    };
    let nth = calls.iter().position(of_head).ok_or("the head is never written")? as u64 + 1;
    let engine = pool.home.open()?;
    pool.home.faulty().fail(Fault::once(At::Call(nth), FaultKind::ENOSPC));
    let Err(error) = resize(&engine, &pool) else { panic!("the failure was kept quiet") };
    assert_eq!((error.code().as_str(), error.kind()), ("SYS.1016", Kind::Failed));
    assert_eq!(engine.volume(pool.vm.root())?.size, SIZE);
    pool.assert_whole(&engine, false)?;
    resize(&engine, &pool)?;
    assert_eq!(engine.open_volume(pool.vm.root())?.size(), ByteCount::gib(4));
    pool.assert_whole(&engine, false)
}
