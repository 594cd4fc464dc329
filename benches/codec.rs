//! What it costs to read and to write the format's records: no I/O, only bytes and values.

use criterion::{Criterion, Throughput};
use snapgroup::format::{Backing, Geometry, Header, L2Entry, L2Width, Version};
use snapgroup::units::{ByteCount, HostOffset};
use std::hint::black_box;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    header(&mut criterion);
    l2_table(&mut criterion);
    criterion.final_summary();
}

/// The geometry that QEMU uses unless told otherwise: clusters of 64 KiB, refcounts of 16 bits.
fn geometry() -> Geometry {
    Geometry::new(16, 4, L2Width::Standard).expect("64 KiB clusters and 16-bit refcounts are lawful")
}

/// One header with a backing name, as an overlay has it.
fn header(criterion: &mut Criterion) {
    let cluster_size = geometry().cluster_size().as_u64();
    let mut header = Header::new(Version::V3, geometry(), ByteCount::gib(64));
    header.refcount_table = HostOffset::new(cluster_size);
    header.refcount_table_clusters = 1;
    header.l1_table = HostOffset::new(3 * cluster_size);
    header.set_backing(Some(Backing { name: "layer-1.qcow2".to_owned(), format: Some("qcow2".to_owned()) }));
    let bytes = header.encode().expect("the header is lawful");
    let again = Header::parse(&bytes).expect("what was written is read");
    assert_eq!(again, header);

    let mut group = criterion.benchmark_group("header");
    group.throughput(Throughput::Elements(1));
    group.bench_function("parse", |bencher| bencher.iter(|| Header::parse(black_box(&bytes))));
    group.bench_function("encode", |bencher| bencher.iter(|| black_box(&header).encode()));
    group.finish();
}

/// One whole L2 table: the mapping of 512 MiB.
fn l2_table(criterion: &mut Criterion) {
    let geometry = geometry();
    let copied = 1_u64 << 63;
    let cluster_size = geometry.cluster_size().as_u64();
    let data: Vec<u64> =
        (0..geometry.l2_entries()).map(|index| copied | ((index + 5) * cluster_size)).collect();
    let absent = vec![0; data.len()];

    let mut group = criterion.benchmark_group("l2_table");
    group.throughput(Throughput::Elements(geometry.l2_entries()));
    for (name, table) in [("decode_data", &data), ("decode_absent", &absent)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for &raw in black_box(table) {
                    black_box(L2Entry::decode(raw, 0, geometry, Version::V3)).expect("the entry is lawful");
                }
            });
        });
    }
    let entries: Vec<L2Entry> = data
        .iter()
        .map(|&raw| L2Entry::decode(raw, 0, geometry, Version::V3).expect("the entry is lawful"))
        .collect();
    group.bench_function("encode_data", |bencher| {
        bencher.iter(|| {
            for &entry in black_box(&entries) {
                black_box(entry.encode(geometry));
            }
        });
    });
    group.finish();
}
