//! The same calls in a pool with few snapshots and in one with many.

use crate::Result;
use crate::machine::{Machine, options};
use criterion::{BenchmarkId, Criterion};
use snapgroup::query::{Query, SnapshotField, Test};
use snapgroup::storage::MemoryStore;
use snapgroup::{CreateSnapshot, Engine};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) fn run(criterion: &mut Criterion) -> Result<()> {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let mut group = criterion.benchmark_group("catalogue_scale");
    for snapshots in if is_test { vec![10] } else { vec![10, 1_000, 10_000] } {
        let store = MemoryStore::new();
        let open = || Engine::open_on(Arc::new(store.clone()), options());
        let engine = open()?;
        let mut last = None;
        for number in 0..snapshots / 10 {
            let machine = Machine::new(engine.clone(), 1)?;
            for _ in 0..10 {
                let wish = CreateSnapshot::new(machine.disks[0].uuid(), format!("snapshot-{number}"));
                last = Some(engine.create_snapshot(&wish)?.uuid);
            }
        }
        let snapshot = last.ok_or("there are snapshots")?;
        let machine = Machine::new(engine, 8)?;
        group.bench_function(BenchmarkId::new("query_by_uuid", snapshots), |bencher| {
            let test = Test::Equal(snapshot.simple().to_string().into());
            let query = Query::all().with(SnapshotField::Uuid, test);
            bencher.iter(|| assert_eq!(machine.engine.query_snapshots(&query).expect("found").total, 1));
        });
        for (name, counted) in [("group_of_8", Counted::Take), ("delete_of_a_group_of_8", Counted::Delete)] {
            group.bench_function(BenchmarkId::new(name, snapshots), |bencher| {
                bencher.iter_custom(|times| (0..times).map(|_| turn(&machine, counted).expect("done")).sum());
            });
        }
        drop(machine);
        group.bench_function(BenchmarkId::new("open_and_close", snapshots), |bencher| {
            bencher.iter(|| open().and_then(Engine::close).expect("closed"));
        });
    }
    group.finish();
    Ok(())
}

/// Which of the two calls counts.
#[derive(Clone, Copy)]
enum Counted {
    Take,
    Delete,
}

/// Takes a group and deletes it.
fn turn(machine: &Machine, counted: Counted) -> Result<Duration> {
    let begin = Instant::now();
    let group = machine.take()?;
    let took = begin.elapsed();
    machine.give_back(group)?;
    Ok(if let Counted::Take = counted { took } else { begin.elapsed() - took })
}
