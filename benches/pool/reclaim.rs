//! Giving back the bytes of a layer that nobody names any more, by each way.

use crate::Result;
use crate::files::{self, CLUSTER};
use criterion::{BatchSize, Criterion, Throughput};
use snapgroup::chain::Ranges;
use snapgroup::chain::merge::{Commit, Pull, Punch};
use snapgroup::storage::{Access, MapFrozen};
use snapgroup::units::ByteCount;
use std::fs;

const SIZE: u64 = 16 << 20;
const STEP: ByteCount = ByteCount::mib(64);

pub(crate) fn run(criterion: &mut Criterion) -> Result<()> {
    let place = tempfile::tempdir()?;
    let directory = place.path();
    files::image(directory, "empty.qcow2", SIZE, None, 0..0)?;
    files::image(directory, "full.qcow2", SIZE, Some("empty.qcow2"), 0..SIZE / CLUSTER)?;
    let open = |name: &str, access| files::layer(directory, name, access, MapFrozen::No).expect("a layer");

    let mut group = criterion.benchmark_group("reclaim/a_layer_of_16_MiB");
    group.throughput(Throughput::Bytes(SIZE));
    group.bench_function("pull", |bencher| {
        let fresh = || {
            files::image(directory, "child.qcow2", SIZE, Some("full.qcow2"), 0..0).expect("a new child");
            let child = open("child.qcow2", Access::Write);
            Pull::new(child, open("full.qcow2", Access::Read), Vec::new()).expect("a pull")
        };
        let body = |pull: &mut Pull| {
            while !pull.step(STEP).expect("a step").done {}
            pull.flush().expect("durable");
        };
        bencher.iter_batched_ref(fresh, body, BatchSize::PerIteration);
    });
    group.bench_function("commit", |bencher| {
        let fresh = || {
            files::image(directory, "empty.qcow2", SIZE, None, 0..0).expect("a new base");
            let child = open("full.qcow2", Access::Read);
            Commit::new(child, open("empty.qcow2", Access::Write), Vec::new()).expect("a commit")
        };
        let body = |commit: &mut Commit| {
            while !commit.step(STEP).expect("a step").done {}
            commit.flush().expect("durable");
        };
        bencher.iter_batched_ref(fresh, body, BatchSize::PerIteration);
    });
    group.bench_function("punch", |bencher| {
        let whole = Ranges::whole(ByteCount::new(SIZE));
        let fresh = || {
            fs::copy(directory.join("full.qcow2"), directory.join("punched.qcow2")).expect("a copy");
            Punch::new(open("punched.qcow2", Access::Write), &whole).expect("a punch")
        };
        let body = |punch: &mut Punch| {
            while !punch.step(STEP).expect("a step").done {}
            punch.flush().expect("durable");
        };
        bencher.iter_batched_ref(fresh, body, BatchSize::PerIteration);
    });
    group.bench_function("floor_copy_and_sync", |bencher| {
        let (from, to) = (directory.join("full.qcow2"), directory.join("copy"));
        bencher.iter(|| files::copy_and_sync(&from, &to).expect("copied"));
    });
    group.finish();
    Ok(())
}
