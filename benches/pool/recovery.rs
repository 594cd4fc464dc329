//! Opening what a power cut in the middle of a group has left.

use crate::Result;
use crate::machine::{Machine, options};
use criterion::{BatchSize, Criterion};
use snapgroup::storage::{Bounds, FileSystem, SimulatedDisk};
use snapgroup::{CreatePool, Engine, Options};
use std::sync::Arc;

pub(crate) fn run(criterion: &mut Criterion) -> Result<()> {
    let disk = SimulatedDisk::new(FileSystem::Strict);
    let machine = Machine::new(Engine::open_on(Arc::new(disk.clone()), options())?, 8)?;
    let from = disk.position();
    machine.take()?;
    drop(machine);
    let bounds = Bounds { exhaustive_bits: 0, pairs_max: 0, samples: 2, seed: 1 };
    let log = disk.log();
    let mut stores = Vec::new();
    for (_, cut) in log.cuts(from) {
        stores.extend(cut.states(bounds).map(|state| state.store()));
    }
    let mut next = (0..stores.len()).cycle();
    criterion.bench_function("recovery/open_and_check_after_a_power_cut_in_a_group_of_8", |bencher| {
        // Opening writes: each time a copy.
        let fresh = || stores[next.next().expect("there is no end")].fork();
        let body = |store| {
            let options = Options { create: CreatePool::Never, ..options() };
            let engine = Engine::open_on(Arc::new(store), options).expect("it opens");
            assert!(engine.check().expect("checked").is_sound());
            engine
        };
        bencher.iter_batched(fresh, body, BatchSize::SmallInput);
    });
    Ok(())
}
