//! Images made from choices: whole ones, and then with a few of their tables' entries changed.

use crate::dice::Dice;
use snapgroup::format::{Compression, Header, Incompatible, SnapshotEntry, Version, encode_snapshots};
use snapgroup::image::{self, BackingLabel, Image, Limits, NewImage, RepairMode, Space};
use snapgroup::storage::{Access, Blob, BlobName, MemoryStore, Store};
use snapgroup::units::{ByteCount, GuestOffset, HostOffset};
use std::sync::Arc;

/// The bits of an L1 or L2 entry that say where something lies.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

/// A whole image: of any version, cluster size, refcount width and compression, with plain, zero and compressed
/// clusters, and perhaps an internal snapshot. At most 192 KiB large.
pub fn valid(dice: &mut Dice, backing: Option<BackingLabel>) -> Vec<u8> {
    let compression = [Compression::Deflate, Compression::Zstd][dice.roll(2)];
    let version = match compression {
        Compression::Deflate => [Version::V3, Version::V3, Version::V2][dice.roll(3)],
        Compression::Zstd => Version::V3,
    };
    let refcount_order = if version == Version::V2 { 4 } else { [4, 4, 0, 1, 2, 3, 5, 6][dice.roll(8)] };
    let cluster_bits = [9, 9, 10, 12, 16][dice.roll(5)];
    let size = ByteCount::of(512 * (1 + dice.roll(384)));
    let new = NewImage { version, cluster_bits, refcount_order, backing, ..NewImage::of_size(size) };
    let name = BlobName::parse("x").expect("one component");
    let blob = MemoryStore::new().create(&name).expect("the store is empty");
    new.layout("x").expect("a lawful image").write(&*blob).expect("memory takes every write");
    if compression == Compression::Zstd {
        let mut header = header_of(&*blob);
        header.compression = compression;
        header.incompatible = Incompatible::COMPRESSION_TYPE;
        put_header(&*blob, &header);
    }
    fill(dice, &blob);
    // Narrow refcounts cannot count all that packed clusters of the disk and of the snapshot refer to.
    if refcount_order > 2 && dice.roll(4) == 0 {
        add_snapshot(dice, &*blob);
    }
    let mut bytes = vec![0; blob.length().expect("memory tells").as_usize()];
    blob.read_at(HostOffset::ZERO, &mut bytes).expect("all of it is there");
    bytes
}

fn header_of(blob: &dyn Blob) -> Header {
    Image::header_of(blob, "x").expect("it was just written")
}

fn put_header(blob: &dyn Blob, header: &Header) {
    let bytes = header.encode().expect("a lawful header");
    blob.write_at(HostOffset::ZERO, &bytes).expect("memory takes every write");
}

/// Clusters of every kind.
fn fill(dice: &mut Dice, blob: &Arc<dyn Blob>) {
    let limits = Limits { table_cache: ByteCount::new(2048), ..Limits::default() };
    let image = Image::open(Arc::clone(blob), "x", Access::Write, limits).expect("a lawful image");
    let (size, cluster) = (image.size().as_usize(), image.geometry().cluster_size().as_usize());
    for _ in 0..dice.roll(12) {
        let at = dice.roll(size);
        let length = (1 + dice.roll(3 * cluster)).min(size - at);
        let (place, byte) = (GuestOffset::new(at as u64), dice.byte());
        match dice.roll(6) {
            0 => image.zero(place, ByteCount::of(length), Space::Keep, None).expect("it is whole"),
            1 => image.zero(place, ByteCount::of(length), Space::Free, None).expect("it is whole"),
            2 | 3 => {
                let at = at - at % cluster;
                let mut bytes = vec![byte; cluster.min(size - at)];
                bytes.iter_mut().step_by(7).take(40).for_each(|byte| *byte = dice.byte());
                image.write_compressed(GuestOffset::new(at as u64), &bytes).map(drop).expect("it is whole");
            }
            _ => image.write(place, &vec![byte; length], None).expect("it is whole"),
        }
    }
    image.freeze().expect("it is whole");
}

/// An internal snapshot of the disk as it is. Its tables are those of the disk; a repair counts them twice.
fn add_snapshot(dice: &mut Dice, blob: &dyn Blob) {
    let mut header = header_of(blob);
    let geometry = header.geometry;
    let l1_bytes = ByteCount::new(u64::from(header.l1_entries) * 8);
    let mut l1 = vec![0; l1_bytes.as_usize()];
    blob.read_at(header.l1_table, &mut l1).expect("the table is there");
    let behind = |length| geometry.bytes_for(geometry.clusters_for(length)).as_u64();
    let at = behind(blob.length().expect("memory tells"));
    let table = at + behind(l1_bytes);
    let entry = SnapshotEntry {
        l1_table: HostOffset::new(at),
        l1_entries: header.l1_entries,
        id: b"1".to_vec(),
        name: vec![b's'; dice.roll(20)],
        date_seconds: 1,
        date_nanos: 0,
        vm_clock_nanos: 0,
        vm_state_size_32: 0,
        extra: [0u64.to_be_bytes(), header.size.as_u64().to_be_bytes()].concat(),
    };
    let entries = encode_snapshots(&[entry], header.version).expect("a lawful entry");
    blob.write_at(HostOffset::new(at), &l1).expect("memory takes every write");
    blob.write_at(HostOffset::new(table), &entries).expect("memory takes every write");
    let end = table + behind(ByteCount::of(entries.len()));
    blob.set_length(ByteCount::new(end)).expect("memory takes every length");
    header.snapshot_count = 1;
    header.snapshot_table = HostOffset::new(table);
    put_header(blob, &header);
    let repaired = image::repair(blob, "x", RepairMode::Perform).expect("all tables are whole");
    assert!(repaired.after.is_some_and(|after| after.is_clean()), "a snapshot was not counted");
}

/// Where the tables of a whole image lie.
struct Places {
    l1: Vec<usize>,
    l2: Vec<usize>,
    refcount_table: Vec<usize>,
    refcount_blocks: Vec<usize>,
    snapshots: Vec<usize>,
    cluster: usize,
}

impl Places {
    fn of(bytes: &[u8]) -> Self {
        let header = Header::parse(bytes).expect("the image is whole");
        let cluster = header.geometry.cluster_size().as_usize();
        let entry =
            |at: usize| bytes.get(at..at + 8).map(|raw| u64::from_be_bytes(raw.try_into().expect("8")));
        let table = |at: HostOffset, length: usize| -> Vec<usize> {
            let at = at.as_length().as_usize();
            (at..at + length).step_by(8).filter(|at| at + 8 <= bytes.len()).collect()
        };
        let below = |entries: &[usize]| -> Vec<usize> {
            let named = entries.iter().filter_map(|at| entry(*at)).map(|raw| HostOffset::new(raw & OFFSET));
            named.filter(|at| !at.is_zero()).flat_map(|at| table(at, cluster)).collect()
        };
        let l1 = table(header.l1_table, usize::try_from(header.l1_entries).expect("small") * 8);
        let refcount_table = table(header.refcount_table, cluster);
        let snapshots = if header.snapshot_count > 0 { table(header.snapshot_table, 64) } else { Vec::new() };
        let (l2, refcount_blocks) = (below(&l1), below(&refcount_table));
        Self { l1, l2, refcount_table, refcount_blocks, snapshots, cluster }
    }
}

/// Changes a few things in a whole image; answers how many.
pub fn mutate(dice: &mut Dice, bytes: &mut Vec<u8>) -> usize {
    let places = Places::of(bytes);
    let count = dice.roll(6);
    for _ in 0..count {
        match dice.roll(14) {
            0 => mutate_byte(dice, bytes, 112),
            1 | 2 => mutate_entry(dice, bytes, &places.l1, &places),
            3..=6 => mutate_entry(dice, bytes, &places.l2, &places),
            7 => mutate_entry(dice, bytes, &places.refcount_table, &places),
            8..=10 => mutate_entry(dice, bytes, &places.refcount_blocks, &places),
            11 => mutate_entry(dice, bytes, &places.snapshots, &places),
            12 => mutate_byte(dice, bytes, usize::MAX),
            _ => {
                let length = bytes.len() - dice.roll(bytes.len().min(4 * places.cluster) + 1);
                bytes.truncate(length);
            }
        }
    }
    count
}

fn mutate_byte(dice: &mut Dice, bytes: &mut [u8], below: usize) {
    let below = bytes.len().min(below);
    if below == 0 {
        return;
    }
    let at = dice.roll(below);
    match dice.roll(3) {
        0 => bytes[at] ^= 1 << dice.roll(8),
        1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][dice.roll(5)],
        _ => bytes[at] = dice.byte(),
    }
}

fn mutate_entry(dice: &mut Dice, bytes: &mut [u8], entries: &[usize], places: &Places) {
    if entries.is_empty() {
        return;
    }
    // Entries that say something are at the begin of most tables.
    let entry = |dice: &mut Dice| match dice.roll(3) {
        0 => entries[dice.roll(entries.len())],
        _ => entries[dice.roll(entries.len().min(16))],
    };
    let (at, other) = (entry(dice), entry(dice));
    let (Some(old), Some(copy)) = (number(bytes, at), number(bytes, other)) else { return };
    let clusters = bytes.len() / places.cluster + 2;
    let somewhere = (dice.roll(clusters) * places.cluster) as u64;
    let new = match dice.roll(11) {
        0 | 1 => old ^ 1 << dice.roll(64),
        2 => copy,
        3 => 0,
        4 => somewhere,
        5 => 1 << 63 | somewhere,
        6 => 1 << 62 | somewhere | dice.roll(512) as u64,
        7 => old ^ 1 << 63,
        8 => old | 1,
        9 => [u64::MAX, 1 << 55, 1 << 63, 0x7fff_ffff_ffff_f000, 1 << 62][dice.roll(5)],
        _ => dice.number(),
    };
    bytes[at..at + 8].copy_from_slice(&new.to_be_bytes());
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
