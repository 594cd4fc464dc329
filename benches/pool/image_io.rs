//! Reading and writing one image.

use crate::Result;
use crate::files::{self, CLUSTER, scattered};
use criterion::{Criterion, Throughput};
use imago::file::File as ImagoFile;
use imago::qcow2::Qcow2;
use imago::{FormatAccess, FormatDriverBuilder, PermissiveImplicitOpenGate};
use snapgroup::storage::{Access, MapFrozen};
use snapgroup::units::GuestOffset;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

/// The bytes of the disk, all of them data.
const SIZE: u64 = 64 << 20;

pub(crate) fn run(criterion: &mut Criterion) -> Result<()> {
    let place = tempfile::tempdir()?;
    let directory = place.path();
    files::image(directory, "image.qcow2", SIZE, None, 0..SIZE / CLUSTER)?;
    let names = ["image.qcow2".to_owned()];
    let path = directory.join("image.qcow2");
    let ours = files::open(directory, &names, Access::Read, MapFrozen::No)?;
    let mapped = files::open(directory, &names, Access::Read, MapFrozen::Yes)?;
    let image = Qcow2::<ImagoFile>::builder_path(&path).open(PermissiveImplicitOpenGate::default())?;
    let imago = FormatAccess::new(image);
    let bare = OpenOptions::new().read(true).write(true).open(&path)?;
    for length in [4 << 10, 1 << 20] {
        let mut group = criterion.benchmark_group(format!("image_io/read_{}_KiB", length >> 10));
        group.throughput(Throughput::Bytes(length));
        let blocks = SIZE / length;
        let (mut buffer, mut at) = (vec![0; usize::try_from(length)?], 0);
        group.bench_function("ours", |bencher| {
            bencher.iter(|| {
                ours.read(GuestOffset::new(scattered(&mut at, blocks) * length), &mut buffer).expect("read");
            });
        });
        group.bench_function("ours_mapped", |bencher| {
            bencher.iter(|| {
                mapped
                    .read(GuestOffset::new(scattered(&mut at, blocks) * length), &mut buffer)
                    .expect("read");
            });
        });
        group.bench_function("imago", |bencher| {
            bencher.iter(|| {
                imago.read(&mut buffer[..], scattered(&mut at, blocks) * length).expect("read");
            });
        });
        group.bench_function("floor_pread", |bencher| {
            bencher.iter(|| {
                bare.read_exact_at(&mut buffer, scattered(&mut at, blocks) * length).expect("read");
            });
        });
        group.finish();
    }
    drop((ours, mapped, imago));
    let ours = files::open(directory, &names, Access::Write, MapFrozen::No)?;
    let mut group = criterion.benchmark_group("image_io/write_4_KiB_in_place");
    group.throughput(Throughput::Bytes(4096));
    let (blocks, mut at) = (SIZE / 4096, 0);
    group.bench_function("ours", |bencher| {
        bencher.iter(|| {
            ours.write(GuestOffset::new(scattered(&mut at, blocks) * 4096), &[1; 4096]).expect("written");
        });
    });
    // The first clusters are tables: their image is no longer needed.
    drop(ours);
    group.bench_function("floor_pwrite", |bencher| {
        bencher.iter(|| bare.write_all_at(&[1; 4096], scattered(&mut at, blocks) * 4096).expect("written"));
    });
    group.finish();
    Ok(())
}
