//! Checking an image, and a pool.

use crate::Result;
use crate::files::{self, CLUSTER};
use crate::machine::{Machine, options};
use criterion::{Criterion, Throughput};
use snapgroup::image::{Image, Limits};
use snapgroup::storage::{Access, BlobName, DiskStore, Store};
use snapgroup::{Engine, Options};
use std::num::NonZeroUsize;

const SIZE: u64 = 64 << 20;

pub(crate) fn run(criterion: &mut Criterion) -> Result<()> {
    let place = tempfile::tempdir()?;
    files::image(place.path(), "image.qcow2", SIZE, None, 0..SIZE / CLUSTER)?;
    let blob = DiskStore::open(place.path())?.open(&BlobName::parse("image.qcow2")?, Access::Read)?;
    let mut group = criterion.benchmark_group("check");
    group.throughput(Throughput::Elements(SIZE / CLUSTER));
    group.bench_function("an_image_by_its_clusters", |bencher| {
        bencher.iter(|| {
            let image = Image::open(blob.clone(), "image.qcow2", Access::Read, Limits::default());
            assert!(image.and_then(|image| image.check()).expect("checked").is_sound());
        });
    });

    let pool = place.path().join("pool");
    let machine = Machine::new(Engine::open(&pool, options())?, 8)?;
    for _ in 0..8 {
        machine.write_to_all()?;
        machine.take()?;
    }
    drop(machine);
    group.throughput(Throughput::Elements(72));
    for (name, threads) in
        [("a_pool_by_its_layers", None), ("a_pool_one_layer_after_the_other", Some(NonZeroUsize::MIN))]
    {
        let engine = Engine::open(&pool, Options { threads, ..options() })?;
        group.bench_function(name, |bencher| {
            bencher.iter(|| assert!(engine.check().expect("checked").is_sound()));
        });
        engine.close()?;
    }
    group.finish();
    Ok(())
}
