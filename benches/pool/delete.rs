//! Deleting a snapshot in the middle of a chain: a change of the books, whatever its layer holds.

use crate::Result;
use crate::machine::{Machine, options};
use criterion::{BenchmarkId, Criterion};
use snapgroup::{CreateSnapshot, DeleteSnapshots, Engine, ReclaimOptions, When};
use std::time::{Duration, Instant};

pub(crate) fn run(criterion: &mut Criterion) -> Result<()> {
    let place = tempfile::tempdir()?;
    let machine = Machine::new(Engine::open(place.path().join("pool"), options())?, 1)?;
    let (engine, disk) = (&machine.engine, &machine.disks[0]);
    engine.create_snapshot(&CreateSnapshot::new(disk.uuid(), "below"))?;
    let mut group = criterion.benchmark_group("delete/one_snapshot_whose_layer_holds");
    for mebibytes in [1, 16] {
        group.bench_function(BenchmarkId::from_parameter(format!("{mebibytes}_MiB")), |bencher| {
            bencher.iter_custom(|times| {
                let mut taken = Duration::ZERO;
                for _ in 0..times {
                    for at in 0..mebibytes {
                        disk.write_at(at << 20, &[9; 1 << 20]).expect("written");
                    }
                    let wish = CreateSnapshot::new(disk.uuid(), "deleted");
                    let snapshot = engine.create_snapshot(&wish).expect("a snapshot").uuid;
                    let wish = DeleteSnapshots { reclaim: When::Later, ..DeleteSnapshots::one(snapshot) };
                    let begin = Instant::now();
                    let deleted = engine.delete_snapshots(&wish).expect("deleted");
                    taken += begin.elapsed();
                    assert_eq!(deleted.results.len(), 1);
                    let reclaim = engine.reclaim(&ReclaimOptions::default()).expect("a reclaim");
                    reclaim.finish().expect("given back");
                }
                taken
            });
        });
    }
    group.finish();
    Ok(())
}
