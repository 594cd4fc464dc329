//! Durable groups of all disks of a machine.

use crate::Result;
use crate::machine::{Machine, options};
use criterion::{BenchmarkId, Criterion};
use snapgroup::Engine;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) fn run(criterion: &mut Criterion) -> Result<()> {
    let place = tempfile::tempdir()?;
    let mut group = criterion.benchmark_group("group_create");
    for disks in [1, 8, 32] {
        let pool = place.path().join(format!("pool-{disks}"));
        let machine = Machine::new(Engine::open(pool, options())?, disks)?;
        for (name, dirty) in [("flushed", false), ("with_a_write_to_each_disk", true)] {
            group.bench_function(BenchmarkId::new(name, disks), |bencher| {
                bencher.iter_custom(|times| {
                    let mut taken = Duration::ZERO;
                    for _ in 0..times {
                        if dirty {
                            machine.write_to_all().expect("written");
                        }
                        let begin = Instant::now();
                        let group = machine.take().expect("a group");
                        taken += begin.elapsed();
                        machine.give_back(group).expect("deleted");
                    }
                    taken
                });
            });
        }
        group.bench_function(BenchmarkId::new("floor_files_and_a_record", disks), |bencher| {
            bencher.iter_custom(|times| (0..times).map(|_| floor(place.path(), disks).expect("made")).sum());
        });
    }
    group.finish();
    Ok(())
}

/// So many new small files, their directory synced, one record synced at the end of a file.
fn floor(directory: &Path, count: usize) -> Result<Duration> {
    let names: Vec<_> = (0..count).map(|index| directory.join(format!("floor-{index}"))).collect();
    let mut record = OpenOptions::new().create(true).append(true).open(directory.join("record"))?;
    let handle = File::open(directory)?;
    let begin = Instant::now();
    for name in &names {
        File::create(name)?.write_all(&[1; 1024])?;
    }
    handle.sync_all()?;
    record.write_all(&[1; 600])?;
    record.sync_data()?;
    let taken = begin.elapsed();
    names.iter().try_for_each(fs::remove_file)?;
    Ok(taken)
}
