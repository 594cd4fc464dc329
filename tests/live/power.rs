//! A power cut at any instant of a live group, and both answers to what became of it.
//!
//! The process that runs the machine writes to the same disk as the pool, and dies with it.

use crate::site::{Outcome, held_by};
use crate::vmm::Vmm;
use snapgroup::storage::{Bounds, FileSystem, MemoryStore, SimulatedDisk, Store};
use snapgroup::{
    ByteCount, Clock, Consistency, CreateGroup, CreateMachine, CreatePool, CreateVolume, Engine, Ids,
    OpenPrepared, Options, Running, Switch, Uuid,
};
use std::collections::HashSet;
use std::sync::Arc;

const DISKS: u32 = 2;

fn options(seed: u64, prepared: OpenPrepared) -> Options {
    Options {
        create: CreatePool::Here,
        cluster_bits: 9,
        catalogue_cache: ByteCount::kib(512),
        clock: Clock::Stepping(1_500_000_000_000),
        ids: Ids::Seeded(seed),
        prepared,
        ..Options::default()
    }
}

/// The instants of one run.
#[derive(Debug, Default)]
struct Instants {
    /// The overlays may be there.
    prepared: usize,
    /// The process may write to them.
    switched: usize,
    /// What it wrote to them first is durable, each disk.
    flushed: usize,
    /// The group may be there.
    committing: usize,
    /// It is.
    committed: usize,
}

/// A pool at rest with two disks that hold 1, and its machine.
fn pool() -> Outcome<(MemoryStore, Uuid)> {
    let store = MemoryStore::new();
    let engine = Engine::open_on(Arc::new(store.clone()), options(1, OpenPrepared::Abort))?;
    let machine = engine.create_machine(&CreateMachine::new("vm"))?.uuid;
    for index in 0..DISKS {
        let volume = engine.create_volume(&CreateVolume::new(format!("disk-{index}"), ByteCount::kib(64)))?;
        engine.attach_volume(volume.uuid, machine, None)?;
    }
    engine.set_running(machine, Running::Elsewhere)?;
    let mut vmm = Vmm::start(&engine, Arc::new(store.clone()), machine)?;
    vmm.write()?;
    vmm.flush()?;
    engine.close()?;
    Ok((store, machine))
}

/// What a pool says after a power cut, when it is opened with this answer, and taken up as that says.
fn look(store: &MemoryStore, machine: Uuid, group: Uuid, prepared: OpenPrepared) -> Outcome<Seen> {
    let store: Arc<dyn Store> = Arc::new(store.fork());
    let engine = Engine::open_on(store.clone(), options(3, prepared))?;
    let pending: Vec<Uuid> = engine.prepared_groups()?.iter().map(|pending| pending.uuid).collect();
    assert_eq!(engine.recovered().prepared, pending);
    assert!(pending.is_empty() || pending == [group]);
    assert_eq!(engine.verify_catalogue()?, Vec::<String>::new());
    assert_whole(&engine)?;
    let was_pending = !pending.is_empty();
    if was_pending {
        engine.resume_group(group)?.commit(Consistency::Crash)?;
    }
    let taken = engine.group(group).is_ok();
    let then = if taken { held_by(&engine, group)? } else { Vec::new() };
    let now = Vmm::start(&engine, store, machine)?.read()?;
    assert_whole(&engine)?;
    Ok(Seen { was_pending, taken, then, now })
}

/// Sees that nothing is wrong but clusters that nothing refers to: a cut may leave these.
fn assert_whole(engine: &Engine) -> Outcome {
    let found = engine.check()?;
    let leaks_only = found.layers.iter().all(|layer| {
        layer.error.is_none()
            && layer
                .report
                .as_ref()
                .is_some_and(|report| report.corruptions == 0 && report.refcounts_too_low == 0)
    });
    let others = (found.violations.len(), found.missing.len(), found.unnamed.len());
    assert!(leaks_only && others == (0, 0, 0), "{found:#?}");
    Ok(())
}

#[derive(Debug)]
struct Seen {
    was_pending: bool,
    taken: bool,
    /// What the group holds.
    then: Vec<u64>,
    /// What the disks hold.
    now: Vec<u64>,
}

#[test]
fn whatever_a_power_cut_leaves_of_a_live_group_no_flushed_write_is_lost() -> Outcome {
    for file_system in [FileSystem::Strict] {
        let (store, machine) = pool()?;
        let disk = SimulatedDisk::over(&store, file_system);
        let shared: Arc<dyn Store> = Arc::new(disk.clone());
        let engine = Engine::open_on(shared.clone(), options(2, OpenPrepared::Abort))?;
        let mut vmm = Vmm::start(&engine, shared, machine)?;
        let from = disk.position();
        let group = Uuid::from_u128(0x6060);
        let request =
            CreateGroup { resource_uuid: Some(group.into()), ..CreateGroup::of_machine(machine, "live") };

        let prepared = engine.prepare_group(&request)?;
        let mut at = Instants { prepared: disk.position(), ..Instants::default() };
        vmm.switch(prepared.disks()).map_err(|error| -> Box<dyn std::error::Error> { error })?;
        at.switched = disk.position();
        // The numbers of the process begin anew: two rounds more than the pool at rest holds.
        vmm.write()?;
        vmm.write()?;
        vmm.flush()?;
        at.flushed = disk.position();
        at.committing = disk.position();
        prepared.commit(Consistency::Crash)?;
        at.committed = disk.position();
        vmm.write()?;
        drop((vmm, engine));

        let (mut seen, mut judged) = (HashSet::new(), 0);
        for (instant, cut) in disk.log().cuts(from) {
            let bounds = Bounds { exhaustive_bits: 1, pairs_max: 0, samples: 2, seed: instant as u64 };
            for state in cut.states(bounds) {
                let phase = (instant >= at.prepared, instant >= at.switched, instant >= at.flushed);
                if !seen.insert((state.digest(), phase, instant >= at.committed)) {
                    continue;
                }
                judged += 1;
                let left = state.store();
                for answer in [OpenPrepared::Abort, OpenPrepared::Keep] {
                    let found = look(&left, machine, group, answer).map_err(|error| {
                        format!("instant {instant}, {:?}, {answer:?}: {error}", state.choice())
                    })?;
                    let what =
                        format!("instant {instant} of {at:?}, {:?}, {answer:?}: {found:?}", state.choice());
                    // The frozen content is that of before the switch, whatever happened since.
                    assert!(!found.taken || found.then == [1, 1], "{what}");
                    // Before anything could be in the overlays, the disks are what they were.
                    assert!(instant >= at.switched || found.now == [1, 1], "{what}");
                    // A flushed write is there from then on, whoever was asked what.
                    let lost = found.now.iter().any(|number| *number < 2);
                    assert!(instant < at.flushed || !lost, "{what}");
                    assert!(instant < at.committed || (found.taken && !found.was_pending), "{what}");
                    assert!(instant >= at.prepared || answer == OpenPrepared::Keep || !found.taken, "{what}");
                    // What is durable when the call returns is there when it is to be kept.
                    assert!(instant < at.prepared || answer == OpenPrepared::Abort || found.taken, "{what}");
                }
            }
        }
        assert!(judged > 100, "{judged} states are few");
    }
    Ok(())
}
