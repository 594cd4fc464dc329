//! A chain into one flat file.

use crate::Result;
use crate::files;
use criterion::{BenchmarkId, Criterion, Throughput};
use snapgroup::chain::{Flatten, Step};
use snapgroup::storage::{Access, ExportFile, MapFrozen};
use snapgroup::units::ByteCount;
use std::fs;

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
    Ok(())
}
