//! Pools in memory, for tests and fuzzers.

use crate::Result;
use crate::machine::{Machine, options};
use criterion::{BatchSize, Criterion};
use snapgroup::{Engine, RevertGroup};

pub(crate) fn run(criterion: &mut Criterion) -> Result<()> {
    let mut group = criterion.benchmark_group("in_memory");
    let fresh = || Machine::new(Engine::in_memory(options()).expect("a pool"), 8).expect("a machine");
    group.bench_function("pool_with_a_machine_of_8_disks", |bencher| bencher.iter_with_large_drop(fresh));
    group.bench_function("group_of_8", |bencher| {
        bencher.iter_batched_ref(fresh, |machine| machine.take().expect("a group"), BatchSize::PerIteration);
    });
    group.bench_function("revert_of_8", |bencher| {
        let fresh = || {
            let mut machine = fresh();
            machine.write_to_all().expect("written");
            let group = machine.take().expect("a group");
            // What goes back is not open.
            machine.disks.clear();
            (machine, group)
        };
        let body = |(machine, group): &mut (Machine, _)| {
            machine.engine.revert_group(&RevertGroup::new(*group)).expect("reverted");
        };
        bencher.iter_batched_ref(fresh, body, BatchSize::PerIteration);
    });
    group.finish();
    Ok(())
}
