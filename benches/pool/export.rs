//! A chain into one flat file, and the disks of a group into files of their own.

use crate::Result;
use crate::files;
use crate::machine::{Machine, options};
use criterion::{BenchmarkId, Criterion, Throughput};
use snapgroup::chain::{Flatten, Step};
use snapgroup::storage::{Access, ExportFile, MapFrozen};
use snapgroup::units::ByteCount;
use snapgroup::{Engine, Export, FileExport, Options};
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

const SIZE: u64 = 16 << 20;

pub(crate) fn run(criterion: &mut Criterion) -> Result<()> {
    let place = tempfile::tempdir()?;
    let directory = place.path();
    let mut group = criterion.benchmark_group("export/16_MiB_to_raw");
    group.throughput(Throughput::Bytes(SIZE));
    let (flat, copy) = (directory.join("flat.raw"), directory.join("copy.raw"));
    for depth in [1, 10] {
        let names = files::chain(directory, depth, SIZE)?;
        let export = || -> Result<()> {
            let chain = files::open(directory, &names, Access::Read, MapFrozen::No)?;
            let file = ExportFile::create(&flat)?;
            let mut flatten = Flatten::to_raw(&chain, file.blob())?;
            while flatten.step(ByteCount::gib(1))? == Step::More {}
            Ok(file.persist()?)
        };
        group.bench_function(BenchmarkId::new("ours", depth), |bencher| {
            bencher.iter(|| {
                export().expect("exported");
                fs::remove_file(&flat).expect("removed");
            });
        });
    }
    fs::write(&flat, vec![7; usize::try_from(SIZE)?])?;
    group.bench_function("floor_copy_and_sync", |bencher| {
        bencher.iter(|| {
            files::copy_and_sync(&flat, &copy).expect("copied");
            fs::remove_file(&copy).expect("removed");
        });
    });
    group.finish();
    disks_of_a_group(criterion, directory)
}

/// Eight disks of as much together, compressed: side by side, and one after the other.
fn disks_of_a_group(criterion: &mut Criterion, directory: &Path) -> Result<()> {
    let mut group = criterion.benchmark_group("export/8_disks_of_2_MiB_compressed");
    group.throughput(Throughput::Bytes(SIZE));
    let pool = directory.join("pool");
    let machine = Machine::new(Engine::open(&pool, options())?, 8)?;
    let bytes: Vec<u8> =
        (0..u32::try_from(SIZE / 8 / 4)?).flat_map(|number| (number / 3).to_be_bytes()).collect();
    machine.disks.iter().try_for_each(|disk| disk.write_at(0, &bytes))?;
    let taken = machine.take()?;
    drop(machine);
    for (name, threads) in [("ours", None), ("ours_one_after_the_other", Some(NonZeroUsize::MIN))] {
        let engine = Engine::open(&pool, Options { threads, ..options() })?;
        let mut exports = Vec::new();
        for member in engine.group(taken)?.volume_snapshot_refs {
            let path = directory.join(member.volume_uuid.to_string());
            exports.push(FileExport::new(member.volume_snapshot_uuid, Export::qcow2().compressed(), path));
        }
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                engine.export_files(&exports).expect("exported");
                exports.iter().for_each(|export| fs::remove_file(&export.path).expect("removed"));
            });
        });
        engine.close()?;
    }
    group.finish();
    Ok(())
}
