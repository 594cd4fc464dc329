//! Compressed clusters of images of our own making: packed, read, written over, freed; against a plain byte model.

#![expect(clippy::print_stdout, reason = "the seed of a failure is printed")]

#[path = "support/dice.rs"]
mod dice;

use dice::Dice;
use snapgroup::format::{self, Compression, Incompatible, Malformed, Rule};
use snapgroup::image::{Error, Image, Limits, Mapping, NewImage, Space, Version};
use snapgroup::storage::{
    Access, At, Blob, BlobName, Fault, FaultKind, MemoryStore, Operation, SimulatedStore, Store, Times,
};
use snapgroup::units::{ByteCount, GuestOffset, HostOffset};
use snapgroup::{AdoptVolume, CreatePool, CreateSnapshot, Engine, LayerFormat, Options};
use std::error::Error as StdError;
use std::sync::Arc;

type Outcome<T = ()> = Result<T, Box<dyn StdError>>;

const CLUSTER: usize = 65536;

fn name() -> BlobName {
    BlobName::parse("x").expect("one component")
}

fn put(blob: &dyn Blob, new: &NewImage, compression: Compression) -> Outcome {
    new.layout("x")?.write(blob)?;
    if compression == Compression::Zstd {
        let mut header = Image::header_of(blob, "x")?;
        header.compression = compression;
        header.incompatible = Incompatible::COMPRESSION_TYPE;
        blob.write_at(HostOffset::ZERO, &header.encode()?)?;
    }
    Ok(())
}

fn open(blob: Arc<dyn Blob>) -> Outcome<Image> {
    Ok(Image::open(
        blob,
        "x",
        Access::Write,
        Limits { table_cache: ByteCount::new(1024), ..Limits::default() },
    )?)
}

/// An image of 64 KiB clusters: header, refcount table, block and L1 table take clusters 0 to 3.
fn small(compression: Compression) -> Outcome<Image> {
    let blob = MemoryStore::new().create(&name())?;
    put(&*blob, &NewImage::of_size(ByteCount::mib(1)), compression)?;
    open(blob)
}

fn read(image: &Image, at: usize, length: usize) -> snapgroup::image::Result<Vec<u8>> {
    let (mut found, mut holes) = (vec![0xee; length], Vec::new());
    image.read(GuestOffset::new(at as u64), &mut found, &mut holes)?;
    holes.into_iter().for_each(|hole| found[hole].fill(0));
    Ok(found)
}

fn write(image: &Image, at: usize, bytes: &[u8]) -> snapgroup::image::Result<()> {
    image.write(GuestOffset::new(at as u64), bytes, None)
}

fn pack(image: &Image, at: usize, bytes: &[u8]) -> snapgroup::image::Result<bool> {
    image.write_compressed(GuestOffset::new(at as u64), bytes)
}

/// Where the bytes of a compressed cluster begin.
fn packed_at(image: &Image, at: usize) -> Outcome<HostOffset> {
    match image.run_at(GuestOffset::new(at as u64), ByteCount::new(1))?.mapping {
        Mapping::Compressed(extent) => Ok(extent.at),
        other => Err(format!("{other:?} at {at}").into()),
    }
}

fn assert_clean(image: &Image, what: &str) -> Outcome {
    let report = image.check()?;
    assert!(report.is_clean(), "{what}: {report}");
    Ok(())
}

fn refcount(image: &Image, cluster: u64) -> Outcome<u8> {
    image.flush()?;
    let mut counter = [0; 2];
    image.blob().read_at(HostOffset::new(2 * CLUSTER as u64 + cluster * 2), &mut counter)?;
    assert_eq!(counter[0], 0);
    Ok(counter[1])
}

/// Bytes of which about `noise` of eight cannot be compressed.
fn bytes(dice: &mut Dice, length: usize, noise: usize) -> Vec<u8> {
    let constant = u8::try_from(dice.roll(256)).expect("below 256");
    let mut bytes = vec![constant; length];
    for byte in &mut bytes[..length * noise / 8] {
        *byte = u8::try_from(dice.roll(256)).expect("below 256");
    }
    bytes
}

// ---- Against a model ------------------------------------------------------------------------------------

#[test]
fn an_image_with_compressed_clusters_reads_back_what_was_written() -> Outcome {
    let mut packed = 0;
    for seed in 1..=48u64 {
        let mut dice = Dice::of(seed);
        let cluster_bits = [9, 10, 12, 16][dice.roll(4)];
        let compression = [Compression::Deflate, Compression::Zstd][dice.roll(2)];
        let version = match compression {
            Compression::Deflate => [Version::V2, Version::V3][dice.roll(2)],
            Compression::Zstd => Version::V3,
        };
        let refcount_order = if version == Version::V2 { 4 } else { [0, 1, 2, 3, 4, 5, 6][dice.roll(7)] };
        let size = ((1 << cluster_bits) * (4 + dice.roll(20)) + 512 * dice.roll(3)).min(600 << 10);
        println!("seed {seed}: {version:?}, {compression:?}, 2^{cluster_bits}, 2^{refcount_order}, {size}");
        let blob = MemoryStore::new().create(&name())?;
        let size_virtual = ByteCount::of(size);
        let new = NewImage { version, cluster_bits, refcount_order, ..NewImage::of_size(size_virtual) };
        put(&*blob, &new, compression)?;
        let mut image = open(Arc::clone(&blob))?;
        let mut model = vec![0u8; size];
        for step in 0..120 {
            let at = dice.roll(model.len());
            let length = 1 + dice.roll((model.len() - at).min(3 << cluster_bits));
            match dice.roll(12) {
                0..=4 => {
                    let start = at >> cluster_bits << cluster_bits;
                    let end = model.len().min(start + (1 << cluster_bits));
                    if dice.roll(2) == 0 {
                        let length = ByteCount::of(end - start);
                        image.zero(GuestOffset::new(start as u64), length, Space::Free, None)?;
                        model[start..end].fill(0);
                    }
                    let noise = dice.roll(9);
                    let cluster = bytes(&mut dice, end - start, noise);
                    if pack(&image, start, &cluster)? {
                        model[start..end].copy_from_slice(&cluster);
                        packed += 1;
                    }
                }
                5 | 6 => {
                    let written = bytes(&mut dice, length, 4);
                    write(&image, at, &written)?;
                    model[at..at + length].copy_from_slice(&written);
                }
                7 | 8 => {
                    let space = if dice.roll(2) == 0 { Space::Keep } else { Space::Free };
                    image.zero(GuestOffset::new(at as u64), ByteCount::of(length), space, None)?;
                    model[at..at + length].fill(0);
                }
                9 => image.flush()?,
                10 => {
                    image.flush()?;
                    image = open(Arc::clone(&blob))?;
                }
                _ => {
                    assert_clean(&image, &format!("seed {seed}, step {step}"))?;
                    model.resize(model.len() + 512 * dice.roll(4), 0);
                    image.grow(ByteCount::of(model.len()), None)?;
                }
            }
            // Whole, and again in a part of it, which may have been decoded before.
            assert!(read(&image, 0, model.len())? == model, "seed {seed}, step {step}");
            let at = dice.roll(model.len());
            let length = (model.len() - at).min(100);
            assert!(read(&image, at, length)? == model[at..at + length], "seed {seed}, step {step}: a part");
        }
        assert_clean(&image, &format!("seed {seed}, at the end"))?;
    }
    assert!(packed > 1000, "only {packed} clusters were compressed");
    Ok(())
}

// ---- Where the bytes go, and who counts them ------------------------------------------------------------

#[test]
fn streams_lie_one_behind_the_other_and_the_host_cluster_counts_each() -> Outcome {
    let image = small(Compression::Deflate)?;
    for index in 0..4 {
        assert!(pack(&image, index * CLUSTER, &[7; CLUSTER])?);
    }
    let (first, second) = (packed_at(&image, 0)?, packed_at(&image, CLUSTER)?);
    assert_eq!(first, HostOffset::new(5 * CLUSTER as u64), "behind the L2 table");
    assert!(second > first && second.as_u64() - first.as_u64() < 512, "in one sector: {first} {second}");
    assert_eq!(refcount(&image, 5)?, 4);
    let report = image.check()?;
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.data_clusters, report.compressed_clusters), (4, 4));
    Ok(())
}

#[test]
fn a_stream_that_reaches_into_the_next_host_cluster_is_counted_in_both() -> Outcome {
    let image = small(Compression::Deflate)?;
    let mut dice = Dice::of(1);
    // Five eighths and a little each: the second one straddles.
    for index in 0..2 {
        assert!(pack(&image, index * CLUSTER, &bytes(&mut dice, CLUSTER, 5))?);
    }
    assert_eq!((refcount(&image, 5)?, refcount(&image, 6)?), (2, 1));
    write(&image, CLUSTER + 100, &[1])?;
    assert_eq!((refcount(&image, 5)?, refcount(&image, 6)?), (1, 0));
    assert_clean(&image, "one is left")
}

#[test]
fn a_refcount_that_is_full_is_not_passed() -> Outcome {
    for refcount_order in 0..3 {
        let blob = MemoryStore::new().create(&name())?;
        let new = NewImage { refcount_order, ..NewImage::of_size(ByteCount::mib(2)) };
        put(&*blob, &new, Compression::Deflate)?;
        let image = open(blob)?;
        for index in 0..20 {
            assert!(pack(&image, index * CLUSTER, &[7; CLUSTER])?);
        }
        let first = packed_at(&image, 0)?.as_u64() / CLUSTER as u64;
        let last = packed_at(&image, 19 * CLUSTER)?.as_u64() / CLUSTER as u64;
        let each = (1 << (1 << refcount_order)) - 1;
        assert_eq!(last - first + 1, 20u64.div_ceil(each), "{each} in each");
        assert_clean(&image, "full")?;
    }
    Ok(())
}

#[test]
fn a_stream_that_could_not_be_written_takes_no_room_and_harms_none() -> Outcome {
    // In eighths of a cluster: they share host clusters, reach into the next one, and begin one.
    let sizes = [3, 2, 2, 5, 6, 7, 1, 4];
    for operation in [Operation::Write, Operation::Read] {
        for nth in 1.. {
            let store = SimulatedStore::new(Arc::new(MemoryStore::new()));
            let blob = store.create(&name())?;
            put(&*blob, &NewImage::of_size(ByteCount::mib(1)), Compression::Deflate)?;
            let image = open(Arc::clone(&blob))?;
            store.fail(Fault { at: At::CallOf(operation, nth), kind: FaultKind::ENOSPC, times: Times::Once });
            let (mut dice, mut refused, mut expected) = (Dice::of(3), 0, Vec::new());
            let mut plain = vec![0; 8 * CLUSTER];
            for (index, noise) in sizes.into_iter().enumerate() {
                let cluster = bytes(&mut dice, CLUSTER, noise);
                if pack(&image, index * CLUSTER, &cluster).is_err() {
                    refused += 1;
                    // Somebody else takes the room.
                    write(&image, (8 + index) * CLUSTER, &[9; CLUSTER])?;
                    plain[index * CLUSTER..][..CLUSTER].fill(9);
                    assert!(pack(&image, index * CLUSTER, &cluster)?, "the disk is well again");
                }
                expected.extend(cluster);
            }
            store.heal();
            image.flush()?;
            expected.extend(plain);
            for image in [image, open(blob)?] {
                assert!(read(&image, 0, expected.len())? == expected, "{operation:?} {nth}");
                assert_clean(&image, &format!("{operation:?} {nth}"))?;
            }
            if refused == 0 {
                assert!(nth > 1 || operation == Operation::Read, "nothing has failed");
                break;
            }
        }
    }
    Ok(())
}

#[test]
fn a_host_cluster_is_free_when_the_last_reference_to_it_is_gone_from_the_disk() -> Outcome {
    let store = SimulatedStore::new(Arc::new(MemoryStore::new()));
    let blob = store.create(&name())?;
    put(&*blob, &NewImage::of_size(ByteCount::mib(1)), Compression::Deflate)?;
    let image = open(blob)?;
    for index in 0..2 {
        assert!(pack(&image, index * CLUSTER, &[7; CLUSTER])?);
    }
    image.flush()?;
    let shared = HostOffset::new(5 * CLUSTER as u64);
    let punches = |store: &SimulatedStore| {
        let calls = store.take_calls();
        let syncs: Vec<_> = calls.iter().map(|call| call.operation == Operation::Sync).collect();
        let is_punch = |call: &&_| matches!(call, snapgroup::storage::Call { operation: Operation::Punch, at, .. } if *at == shared);
        let punched = calls.iter().filter(is_punch).count();
        let after_all_syncs =
            calls.iter().position(|call| is_punch(&call)) > syncs.iter().rposition(|is| *is);
        (punched, after_all_syncs)
    };
    store.record();
    write(&image, 100, &[1; 10])?;
    image.flush()?;
    assert_eq!(punches(&store).0, 0, "the other one is in there");
    assert!(read(&image, CLUSTER, CLUSTER)? == [7; CLUSTER]);
    image.zero(GuestOffset::new(CLUSTER as u64), ByteCount::of(CLUSTER), Space::Keep, None)?;
    assert_eq!(punches(&store).0, 0, "not before the flush");
    image.flush()?;
    assert_eq!(punches(&store), (1, true));
    assert_eq!(refcount(&image, 5)?, 0);
    // It is used again, and nothing more is packed behind what was there.
    write(&image, 2 * CLUSTER, &[2; CLUSTER])?;
    let plain = image.run_at(GuestOffset::new(2 * CLUSTER as u64), ByteCount::new(1))?.mapping;
    assert_eq!(plain, Mapping::Data { at: shared });
    assert!(pack(&image, 3 * CLUSTER, &[3; CLUSTER])?);
    assert!(read(&image, 2 * CLUSTER, CLUSTER)? == [2; CLUSTER]);
    assert!(read(&image, 3 * CLUSTER, CLUSTER)? == [3; CLUSTER]);
    assert_clean(&image, "used again")
}

#[test]
fn what_was_decoded_is_forgotten_when_other_bytes_take_its_place() -> Outcome {
    let image = small(Compression::Deflate)?;
    assert!(pack(&image, 0, &[1; CLUSTER])?);
    let at = packed_at(&image, 0)?;
    assert_eq!(read(&image, 5, 1)?, [1]);
    image.zero(GuestOffset::ZERO, ByteCount::of(CLUSTER), Space::Free, None)?;
    image.flush()?;
    assert!(pack(&image, 0, &[2; CLUSTER])?);
    assert_eq!(packed_at(&image, 0)?, at, "in the same place, and as long");
    assert_eq!(read(&image, 5, 1)?, [2]);
    Ok(())
}

// ---- What is not compressed -----------------------------------------------------------------------------

#[test]
fn noise_and_clusters_that_are_there_are_left_alone() -> Outcome {
    for compression in [Compression::Deflate, Compression::Zstd] {
        let image = small(compression)?;
        assert!(!pack(&image, 0, &bytes(&mut Dice::of(2), CLUSTER, 8))?);
        assert_eq!(image.run_at(GuestOffset::ZERO, ByteCount::new(1))?.mapping, Mapping::Absent);
        write(&image, CLUSTER, &[1])?;
        assert!(!pack(&image, CLUSTER, &[2; CLUSTER])?);
        assert!(pack(&image, 2 * CLUSTER, &[3; CLUSTER])?);
        assert!(!pack(&image, 2 * CLUSTER, &[4; CLUSTER])?);
        assert_eq!(read(&image, CLUSTER, 1)?, [1]);
        assert_eq!(read(&image, 2 * CLUSTER, 1)?, [3]);
        assert_clean(&image, "left alone")?;
    }
    Ok(())
}

#[test]
fn only_one_whole_cluster_is_compressed_and_the_last_one_may_be_cut_short() -> Outcome {
    let blob = MemoryStore::new().create(&name())?;
    let size = 2 * CLUSTER + 1024;
    put(&*blob, &NewImage::of_size(ByteCount::of(size)), Compression::Deflate)?;
    let image = open(blob)?;
    for (at, length) in [
        (512, CLUSTER),
        (0, 512),
        (0, 0),
        (0, 2 * CLUSTER),
        (CLUSTER, 1024),
        (2 * CLUSTER, 512),
        (CLUSTER, CLUSTER + 1024),
        (CLUSTER + 1024, CLUSTER),
    ] {
        let packed = pack(&image, at, &vec![1; length]);
        let Err(Error::NotOneCluster { .. }) = packed else { panic!("{at} {length}: {packed:?}") };
    }
    let packed = pack(&image, 2 * CLUSTER, &[1; CLUSTER]);
    let Err(Error::PastEndOfDisk { .. }) = packed else { panic!("{packed:?}") };
    assert!(pack(&image, 2 * CLUSTER, &[1; 1024])?);
    image.grow(ByteCount::of(3 * CLUSTER), None)?;
    let mut expected = vec![1; 1024];
    expected.resize(CLUSTER, 0);
    assert!(read(&image, 2 * CLUSTER, CLUSTER)? == expected);
    image.freeze()?;
    let Err(Error::ReadOnly { .. }) = pack(&image, 0, &[1; CLUSTER]) else { panic!("it is frozen") };
    Ok(())
}

#[test]
fn a_disk_with_compressed_clusters_is_adopted_read_and_written() -> Outcome {
    let store = MemoryStore::new();
    let blob = store.create(&BlobName::parse("golden.qcow2")?)?;
    put(&*blob, &NewImage::of_size(ByteCount::mib(1)), Compression::Zstd)?;
    let image = open(blob)?;
    assert!(pack(&image, 0, &[7; CLUSTER])?);
    image.flush()?;
    drop(image);
    let options = Options { create: CreatePool::Here, ..Options::default() };
    let engine = Engine::open_on(Arc::new(store), options)?;
    let volume = engine.adopt_volume(&AdoptVolume::new("golden.qcow2", LayerFormat::Qcow2, "system"))?;
    let disk = engine.open_volume(volume.uuid)?;
    let monday = engine.create_snapshot(&CreateSnapshot::new(volume.uuid, "monday"))?;
    disk.write_at(100, &[8; 100])?;
    let (mut then, mut now) = ([0; 300], [0; 300]);
    engine.open_snapshot(monday.uuid)?.read_at(0, &mut then)?;
    disk.read_at(0, &mut now)?;
    assert_eq!(then, [7; 300]);
    assert_eq!((&now[..100], &now[100..200], &now[200..]), (&[7; 100][..], &[8; 100][..], &[7; 100][..]));
    assert!(engine.check()?.is_clean());
    Ok(())
}

// ---- Hostile bytes --------------------------------------------------------------------------------------

#[test]
fn a_cluster_that_cannot_be_decoded_is_an_error_until_it_is_written_over_as_a_whole() -> Outcome {
    for compression in [Compression::Deflate, Compression::Zstd] {
        let image = small(compression)?;
        for index in 0..3 {
            assert!(pack(&image, index * CLUSTER, &[7; CLUSTER])?);
        }
        image.flush()?;
        image.blob().write_at(packed_at(&image, 0)?, &[0xff; 4])?;
        let part = write(&image, 100, &[1]);
        for refused in [read(&image, 0, CLUSTER).map(drop), read(&image, 9, 9).map(drop), part] {
            let Err(Error::Format { source: format::Error::Malformed(Malformed { rule, .. }), .. }) = refused
            else {
                panic!("{compression:?}: {refused:?}")
            };
            assert_eq!(rule, Rule::WholeCluster(CLUSTER as u64));
        }
        assert!(read(&image, CLUSTER, 2 * CLUSTER)? == [7; 2 * CLUSTER], "the others are sound");
        write(&image, 0, &[8; CLUSTER])?;
        assert!(read(&image, 0, CLUSTER)? == [8; CLUSTER]);
        assert_clean(&image, "written over")?;
    }
    Ok(())
}

#[test]
fn an_extent_past_the_end_of_the_file_is_refused_and_one_that_the_end_cuts_is_read() -> Outcome {
    let image = small(Compression::Deflate)?;
    assert!(pack(&image, 0, &[7; CLUSTER])?);
    image.flush()?;
    let at = packed_at(&image, 0)?;
    let blob = Arc::clone(image.blob());
    assert!(!blob.length()?.as_u64().is_multiple_of(512), "the file ends within the sector");
    assert!(read(&open(Arc::clone(&blob))?, 0, CLUSTER)? == [7; CLUSTER]);

    // As many sectors as can be said: the entry is the first one of cluster 4. The cluster is read, but the check
    // takes nothing for granted that lies a whole cluster past the end.
    blob.write_at(HostOffset::new(4 * CLUSTER as u64), &[0x7f, 0xc0])?;
    let image = open(Arc::clone(&blob))?;
    assert!(read(&image, 0, CLUSTER)? == [7; CLUSTER]);
    assert!(image.check()?.corruptions > 0);

    blob.set_length(at.as_length())?;
    let image = open(Arc::clone(&blob))?;
    let Err(Error::OutsideFile { .. }) = read(&image, 0, 1) else { panic!("past the end") };
    assert!(image.check()?.corruptions > 0);
    Ok(())
}
