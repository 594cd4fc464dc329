//! The first write to each cluster above a base.

use crate::Result;
use crate::files::{self, CLUSTER};
use criterion::{BatchSize, Criterion, Throughput};
use imago::file::File as ImagoFile;
use imago::qcow2::Qcow2;
use imago::{FormatAccess, FormatDriverBuilder, PermissiveImplicitOpenGate};
use snapgroup::storage::{Access, MapFrozen};
use snapgroup::units::GuestOffset;

const SIZE: u64 = 16 << 20;
const CLUSTERS: u64 = SIZE / CLUSTER;

pub(crate) fn run(criterion: &mut Criterion) -> Result<()> {
    let place = tempfile::tempdir()?;
    let directory = place.path();
    files::image(directory, "base.qcow2", SIZE, None, 0..CLUSTERS)?;
    let names = ["overlay.qcow2".to_owned(), "base.qcow2".to_owned()];
    let overlay = || files::image(directory, &names[0], SIZE, Some(&names[1]), 0..0).expect("a new overlay");
    let places = || (0..CLUSTERS).map(|index| index * 17 % CLUSTERS * CLUSTER + 4096);

    let mut group = criterion.benchmark_group("copy_on_write/4_KiB_to_each_cluster_and_a_flush");
    group.throughput(Throughput::Elements(CLUSTERS));
    group.bench_function("ours", |bencher| {
        let fresh = || {
            overlay();
            files::open(directory, &names, Access::Write, MapFrozen::No).expect("open")
        };
        let body = |chain: &mut snapgroup::chain::Chain| {
            places().for_each(|at| chain.write(GuestOffset::new(at), &[7; 4096]).expect("written"));
            chain.flush().expect("durable");
        };
        bencher.iter_batched_ref(fresh, body, BatchSize::PerIteration);
    });
    group.bench_function("imago", |bencher| {
        let fresh = || {
            overlay();
            let builder = Qcow2::<ImagoFile>::builder_path(directory.join(&names[0])).write(true);
            FormatAccess::new(builder.open(PermissiveImplicitOpenGate::default()).expect("open"))
        };
        let body = |disk: &mut FormatAccess<ImagoFile>| {
            places().for_each(|at| disk.write(&[7; 4096][..], at).expect("written"));
            disk.flush().and_then(|()| disk.sync()).expect("durable");
        };
        bencher.iter_batched_ref(fresh, body, BatchSize::PerIteration);
    });
    group.finish();
    Ok(())
}
