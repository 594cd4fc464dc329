//! The power goes in the middle of a rebuild, or a call fails: it can be done again and gives the same, and no file of
//! the pool has changed. And the power goes in the middle of merges and reverts, after which the catalogue is lost.

use super::support::{
    CATALOGUE, Outcome, World, bytes_of, content_of_snapshot, content_of_volume, files, lose_and_rebuild,
    name, options, rebuild, world,
};
use snapgroup::image::NewImage;
use snapgroup::query::Query;
use snapgroup::storage::{
    Access, At, Bounds, Fault, FaultKind, FileSystem, MemoryStore, SimulatedDisk, SimulatedStore, Store,
};
use snapgroup::units::HostOffset;
use snapgroup::{
    BaseImage, ByteCount, CreateGroup, CreateSnapshot, CreateVolume, DeleteSnapshots, Direction, Engine,
    Generation, LayerFormat, Present, RebuildOptions, Rebuilt, RevertVolume, Uuid,
};
use std::sync::Arc;

/// Of each cut nothing, everything and a few others: of what is in the middle of a write to a catalogue there is more
/// than can be looked at.
const BOUNDS: Bounds = Bounds { exhaustive_bits: 2, pairs_max: 0, samples: 3, seed: 1 };
/// The states of each cut in a rebuild that are looked at.
const STATES_MAX: usize = 12;
/// The states of each cut in a call before it.
const STATES_OF_CALLS: usize = 2;

/// What counts of an answer: the catalogue of before is kept under another name each time.
fn essence(rebuilt: &Rebuilt) -> (Vec<Uuid>, Vec<Uuid>, Vec<Uuid>) {
    let volumes = rebuilt.volumes.iter().map(|volume| volume.uuid).collect();
    let snapshots = rebuilt.snapshots.iter().map(|snapshot| snapshot.uuid).collect();
    (volumes, snapshots, rebuilt.groups.clone())
}

/// Opens a pool, making its catalogue anew first when it has none that can be opened.
fn open_or_rebuild(store: &MemoryStore, expected: &Rebuilt) -> Outcome {
    let engine = match Engine::open_on(Arc::new(store.clone()), options(901)) {
        Ok(engine) if engine.generation() > Generation::default() => engine,
        _ => {
            assert_eq!(essence(&rebuild(store)?), essence(expected));
            Engine::open_on(Arc::new(store.clone()), options(901))?
        }
    };
    hold(&engine, expected)
}

fn hold(engine: &Engine, expected: &Rebuilt) -> Outcome {
    assert_eq!(engine.uuid(), expected.pool);
    for group in &expected.groups {
        engine.group(*group)?;
    }
    assert_eq!(engine.query_volumes(&Query::all())?.total, expected.volumes.len());
    assert_eq!(engine.query_snapshots(&Query::all())?.total, expected.snapshots.len());
    assert!(engine.check()?.is_clean());
    Ok(())
}

/// Whether a file holds these bytes, under whatever name.
fn holds(store: &MemoryStore, bytes: &[u8]) -> Outcome<bool> {
    for file in store.list()? {
        if bytes_of(store, &file)? == bytes {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn a_rebuild_that_the_power_cuts_short_is_done_again_and_no_file_has_changed() -> Outcome {
    // The mark of a pool that was being made may lie there, too.
    for (damaged, marked) in [(false, false), (true, false), (false, true), (true, true)] {
        let World { store, engine, .. } = world(30)?;
        engine.close()?;
        if marked {
            store.create(&name("snapgroup.redb.new"))?;
        }
        if damaged {
            store.open(&name(CATALOGUE), Access::Write)?.write_at(HostOffset::ZERO, &[0xa5; 4096])?;
        } else {
            store.remove(&name(CATALOGUE))?;
        }
        let before = files(&store)?;
        let old = damaged.then(|| bytes_of(&store, &name(CATALOGUE))).transpose()?;
        let expected = rebuild(&store.fork())?;
        for file_system in [FileSystem::Strict, FileSystem::Ext4Like] {
            let disk = SimulatedDisk::over(&store, file_system);
            assert!(Engine::rebuild_on(&disk, &options(900), &RebuildOptions::default())?.is_whole());
            let log = disk.log();
            let mut states = 0;
            for (instant, cut) in log.cuts(0) {
                for state in cut.states(BOUNDS).take(STATES_MAX) {
                    let left = state.store();
                    let said = format!("{damaged} {marked} {file_system:?} {instant} {:?}", state.choice());
                    assert!(files(&left)? == before, "{said}");
                    if let Some(old) = &old {
                        assert!(holds(&left, old)?, "{said}: the catalogue of before is gone");
                    }
                    open_or_rebuild(&left, &expected).map_err(|error| format!("{said}: {error}"))?;
                    states += 1;
                }
            }
            assert!(states > 15, "{states} states are few");
            // What has returned is durable.
            for state in log.cut(disk.position()).states(BOUNDS) {
                let engine = Engine::open_on(Arc::new(state.store()), options(901))?;
                hold(&engine, &expected)?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_rebuild_in_which_any_call_fails_is_done_again_and_no_file_has_changed() -> Outcome {
    let World { store, engine, .. } = world(31)?;
    let image = NewImage::of_size(ByteCount::mib(1)).layout("golden.qcow2")?;
    image.write(&*store.create(&name("golden.qcow2"))?)?;
    let base = BaseImage { file: "golden.qcow2".into(), format: LayerFormat::Qcow2 };
    let above = CreateVolume { base: Some(base), size: None, ..CreateVolume::new("v", ByteCount::mib(1)) };
    engine.create_volume(&above)?;
    engine.close()?;
    store.open(&name(CATALOGUE), Access::Write)?.write_at(HostOffset::ZERO, &[0xa5; 4096])?;
    let before = files(&store)?;
    let expected = rebuild(&store.fork())?;
    let mut failed = 0;
    for call in 1.. {
        let left = store.fork();
        let simulated = SimulatedStore::new(Arc::new(left.clone()));
        simulated.fail(Fault::once(At::Call(call), FaultKind::EIO));
        let result = Engine::rebuild_on(&simulated, &options(900), &RebuildOptions::default());
        if simulated.counts().total() < call {
            break;
        }
        failed += u64::from(result.is_err());
        if let Ok(rebuilt) = result {
            // A file that could not be read is no reason to think that it is nobody's.
            assert_eq!(essence(&rebuilt), essence(&expected), "call {call}");
            assert_eq!(rebuilt.files_left, expected.files_left, "call {call}");
        }
        assert!(files(&left)? == before, "call {call}");
        open_or_rebuild(&left, &expected).map_err(|error| format!("call {call}: {error}"))?;
    }
    assert!(failed > 10, "{failed} calls failed");
    Ok(())
}

/// What a disk may show, and what each snapshot must, at any instant of a call.
struct Expected {
    disk: Uuid,
    shows: Vec<[u8; 6]>,
    snapshots: Vec<(Uuid, [u8; 6])>,
}

impl Expected {
    /// After a power cut at any instant of the log the catalogue is lost: before anybody has recovered the pool, and
    /// after. Where the recovery writes more than one header, the power is cut in the middle of that, too.
    fn hold_after_cuts(&self, disk: &SimulatedDisk, from: usize) -> Outcome {
        let mut states = 0;
        for (instant, cut) in disk.log().cuts(from) {
            for state in cut.states(BOUNDS).take(STATES_OF_CALLS) {
                let recovered = states % 2 == 1;
                let said = format!("{instant} {:?} {recovered}", state.choice());
                let left = state.store();
                let recovery = SimulatedDisk::over(&left, FileSystem::Strict);
                let engine = Engine::open_on(Arc::new(recovery.clone()), options(902))?;
                let headers = engine.recovered().finished.len();
                engine.close()?;
                if headers > 1 {
                    for (instant, cut) in recovery.log().cuts(0) {
                        let held = self.hold_in(&cut.durable().store());
                        held.map_err(|error| format!("{said}, again {instant}: {error}"))?;
                    }
                }
                let left = if recovered { recovery.live() } else { left };
                self.hold_in(&left).map_err(|error| format!("{said}: {error}"))?;
                states += 1;
            }
        }
        assert!(states > 50, "{states} states are few");
        Ok(())
    }

    fn hold_in(&self, store: &MemoryStore) -> Outcome {
        let rebuilt = lose_and_rebuild(store)?;
        let engine = Engine::open_on(Arc::new(store.clone()), options(901))?;
        let shown = content_of_volume(&engine, self.disk)?;
        let is_allowed = self.shows.iter().any(|bytes| shown[..6] == *bytes);
        assert!(is_allowed, "the disk shows {:?}: {rebuilt:#?}", &shown[..6]);
        for (snapshot, bytes) in &self.snapshots {
            let is_there = rebuilt.snapshots.iter().any(|listed| listed.uuid == *snapshot);
            assert!(is_there, "{snapshot} has not come back: {rebuilt:#?}");
            assert!(content_of_snapshot(&engine, *snapshot)?[..6] == *bytes, "{snapshot}: {rebuilt:#?}");
        }
        assert!(engine.check()?.is_sound());
        Ok(())
    }
}

/// The pool of a world, from now on on a disk whose power can be cut.
fn on_disk(world: World) -> Outcome<(SimulatedDisk, Engine, [Uuid; 2], Uuid)> {
    let World { store, engine, volumes, machine, .. } = world;
    engine.close()?;
    let disk = SimulatedDisk::over(&store, FileSystem::Strict);
    let engine = Engine::open_on(Arc::new(disk.clone()), options(903))?;
    Ok((disk, engine, volumes, machine))
}

#[test]
fn a_catalogue_that_is_lost_in_the_middle_of_a_merge_costs_nothing() -> Outcome {
    for direction in [Direction::Pull, Direction::Commit] {
        for above in [false, true] {
            let world = world(32)?;
            let first = world.engine.group(world.group)?.volume_snapshot_refs[0].volume_snapshot_uuid;
            let (disk, engine, volumes, _) = on_disk(world)?;
            let volume = engine.open_volume(volumes[0])?;
            volume.write_at(0, b"middle")?;
            let middle = engine.create_snapshot(&CreateSnapshot::new(volumes[0], "middle"))?.uuid;
            volume.write_at(0, b"latest")?;
            volume.write_at(300_000, &[1; 200_000])?;
            let mut snapshots = vec![(first, *b"before")];
            // With a snapshot above, a frozen layer is merged; without one, the head.
            if above {
                let last = engine.create_snapshot(&CreateSnapshot::new(volumes[0], "last"))?.uuid;
                snapshots.push((last, *b"latest"));
            }
            volume.flush()?;
            drop(volume);
            // A head that was never flushed has arrived once the pool was given back.
            engine.close()?;
            let engine = Engine::open_on(Arc::new(disk.clone()), options(904))?;
            let from = disk.position();
            assert!(
                engine
                    .delete_snapshots(&DeleteSnapshots { direction, ..DeleteSnapshots::all([middle]) })?
                    .is_success()
            );
            let volume = engine.open_volume(volumes[0])?;
            volume.write_at(0, b"newest")?;
            volume.flush()?;
            let until = disk.position();
            drop(volume);
            drop(engine);
            let shows = vec![*b"latest", *b"newest"];
            let expected = Expected { disk: volumes[0], shows, snapshots };
            expected.hold_after_cuts(&disk, from).map_err(|error| format!("{direction} {above}: {error}"))?;
            // What was flushed after the merge is there, whatever the merge has left.
            let settled = Expected { shows: vec![*b"newest"], ..expected };
            settled.hold_in(&disk.log().cut(until).durable().store())?;
        }
    }
    Ok(())
}

#[test]
fn a_catalogue_that_is_lost_in_the_middle_of_a_revert_or_of_a_group_costs_nothing() -> Outcome {
    for present in [Present::GivenUp, Present::Kept] {
        let world = world(33)?;
        let first = world.engine.group(world.group)?.volume_snapshot_refs[0].volume_snapshot_uuid;
        let (disk, engine, volumes, machine) = on_disk(world)?;
        let from = disk.position();
        engine.create_group(&CreateGroup::of_machine(machine, "second"))?;
        engine.revert_volume(&RevertVolume { present, ..RevertVolume::to(first) })?;
        drop(engine);
        let shows = vec![*b"after!", *b"before"];
        let snapshots = vec![(first, *b"before")];
        Expected { disk: volumes[0], shows, snapshots }.hold_after_cuts(&disk, from)?;
    }
    Ok(())
}
