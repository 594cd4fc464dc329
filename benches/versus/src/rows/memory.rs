//! Pools in memory, for tests and fuzzers.

use super::group::{Machine, options};
use crate::measure::{alone, timed};
use crate::table::{Line, OURS, Row};
use crate::{Bench, Result};
use snapgroup::storage::{Bounds, FileSystem, SimulatedDisk};
use snapgroup::{ByteCount, CreateGroup, CreateMachine, CreatePool, CreateVolume, Engine, Options};
use std::sync::Arc;
use std::time::Duration;

pub fn memory(bench: &Bench) -> Result<Vec<Line>> {
    let machine = Machine::new(Engine::in_memory(options())?, 8, ByteCount::gib(1))?;
    let cost = alone(bench.pick(50, 1), || machine.take())?;
    let row = Row::new("P9", "in memory: a group of 8 disks", vec![(OURS.to_owned(), cost)]);
    Ok(vec![Line::Row(row.at_most(100e-6))])
}

pub fn crash_states(bench: &Bench) -> Result<Vec<Line>> {
    let disk = SimulatedDisk::new(FileSystem::Strict);
    let engine = Engine::open_on(Arc::new(disk.clone()), Options::default())?;
    let machine = engine.create_machine(&CreateMachine::new("machine"))?;
    for name in ["system", "data"] {
        let volume = engine.create_volume(&CreateVolume::new(name, ByteCount::mib(64)))?;
        engine.attach_volume(volume.uuid, machine.uuid, None)?;
    }
    let from = disk.position();
    engine.create_group(&CreateGroup::of_machine(machine.uuid, "group"))?;
    drop(engine);
    let bounds = Bounds { exhaustive_bits: 6, pairs_max: 0, samples: bench.pick(16, 1), seed: 1 };
    let mut states = 0_u32;
    let mut spent = Duration::ZERO;
    let log = disk.log();
    for (_, cut) in log.cuts(from).take(bench.pick(usize::MAX, 3)) {
        for state in cut.states(bounds) {
            let store = Arc::new(state.store());
            spent += timed(|| {
                let options = Options { create: CreatePool::Never, ..Options::default() };
                let engine = Engine::open_on(store, options)?;
                if engine.check()?.is_sound() { Ok(()) } else { Err("a crash has broken something".into()) }
            })?;
            states += 1;
        }
    }
    let cost = spent.as_secs_f64() / f64::from(states);
    let work = format!("open and check what a power cut has left ({states} states of a group of 2)");
    Ok(vec![Line::Row(Row::new("P9", work, vec![(OURS.to_owned(), cost)]).at_most(100e-6))])
}
