//! Absorbing content into clusters that are absent, and into no others.

use snapgroup::image::{Below, Content, Error, Image, Limits, Mapping, NewImage, Result, Space, Version};
use snapgroup::storage::{Access, At, Blob, BlobName, Fault, FaultKind, MemoryStore, Operation};
use snapgroup::storage::{SimulatedStore, Store};
use snapgroup::units::{ByteCount, GuestOffset, HostOffset};
use std::error::Error as StdError;
use std::sync::{Arc, Barrier};
use std::thread;

type Outcome<T = ()> = std::result::Result<T, Box<dyn StdError>>;

const CLUSTER: usize = 4096;

/// What lies below the images of these tests.
struct Constant(u8);

impl Below for Constant {
    fn read_below(&self, _: GuestOffset, buffer: &mut [u8]) -> Result<()> {
        buffer.fill(self.0);
        Ok(())
    }
}

fn at(address: usize) -> GuestOffset {
    GuestOffset::new(address as u64)
}

fn on(store: &dyn Store, version: Version, size: usize) -> Outcome<Image> {
    let blob = store.create(&BlobName::parse("image")?)?;
    let new = NewImage { cluster_bits: 12, version, ..NewImage::of_size(ByteCount::of(size)) };
    new.layout("image")?.write(&*blob)?;
    Ok(Image::open(blob, "image", Access::Write, Limits::default())?)
}

fn of(version: Version, size: usize) -> Outcome<Image> {
    on(&MemoryStore::new(), version, size)
}

fn blob(bytes: &[u8]) -> Outcome<Arc<dyn Blob>> {
    let blob = MemoryStore::new().create(&BlobName::parse("source")?)?;
    blob.write_at(HostOffset::ZERO, bytes)?;
    Ok(blob)
}

fn content(image: &Image) -> Outcome<Vec<u8>> {
    let (mut found, mut holes) = (vec![0xee; image.size().as_usize()], Vec::new());
    image.read(GuestOffset::ZERO, &mut found, &mut holes)?;
    holes.into_iter().for_each(|hole| found[hole].fill(0xaa));
    Ok(found)
}

fn clean(image: &Image) -> Outcome {
    let report = image.check()?;
    assert!(report.is_clean(), "{report}");
    Ok(())
}

#[test]
fn only_clusters_that_are_absent_are_filled() -> Outcome {
    let below = Constant(9);
    let image = of(Version::V3, 6 * CLUSTER)?;
    image.write(at(CLUSTER), &[1; CLUSTER], Some(&below))?;
    image.zero(at(2 * CLUSTER), ByteCount::of(CLUSTER), Space::Free, Some(&below))?;
    image.write(at(4 * CLUSTER), &[1; CLUSTER], Some(&below))?;
    image.zero(at(4 * CLUSTER), ByteCount::of(CLUSTER), Space::Keep, Some(&below))?;
    let expected: Vec<u8> = [9, 1, 0, 9, 0, 0xaa].into_iter().flat_map(|byte| [byte; CLUSTER]).collect();
    let absorbed = image.absorb(at(0), Content::Data(&[9; 5 * CLUSTER]))?;
    assert_eq!(absorbed, ByteCount::of(2 * CLUSTER));
    assert_eq!(content(&image)?, expected);
    // Once more: nothing is absent any longer.
    assert_eq!(image.absorb(at(0), Content::Data(&[7; 5 * CLUSTER]))?, ByteCount::ZERO);
    assert_eq!(image.absorb(at(0), Content::Zero(ByteCount::of(5 * CLUSTER)))?, ByteCount::ZERO);
    clean(&image)?;
    let again = Image::open(Arc::clone(image.blob()), "again", Access::Read, Limits::default())?;
    assert_eq!(content(&again)?, expected, "not all of it is durable");
    Ok(())
}

#[test]
fn zeros_take_no_room_in_version_3_and_are_written_in_version_2() -> Outcome {
    for (version, mapping) in [(Version::V3, Mapping::Zero), (Version::V2, Mapping::Absent)] {
        let image = of(version, 600 * CLUSTER + 512)?;
        let length = ByteCount::of(600 * CLUSTER + 512);
        assert_eq!(image.absorb(at(0), Content::Zero(length))?, length);
        assert!(content(&image)?.iter().all(|byte| *byte == 0));
        let found = image.run_at(at(599 * CLUSTER), ByteCount::new(1))?.mapping;
        assert!(
            found == mapping || matches!((version, found), (Version::V2, Mapping::Data { .. })),
            "{found:?}"
        );
        clean(&image)?;
    }
    Ok(())
}

#[test]
fn bytes_of_another_blob_are_copied_and_zeros_past_its_end() -> Outcome {
    let source: Vec<u8> =
        (0..3 * CLUSTER).map(|at| u8::try_from(1 + at / 100 % 255).expect("small")).collect();
    let image = of(Version::V3, 4 * CLUSTER)?;
    let copy = Content::Copy {
        source: &*blob(&source)?,
        from: HostOffset::new(100),
        length: ByteCount::of(4 * CLUSTER),
    };
    assert_eq!(copy.length(), ByteCount::of(4 * CLUSTER));
    assert_eq!(image.absorb(at(0), copy)?, ByteCount::of(4 * CLUSTER));
    let mut expected = source[100..].to_vec();
    expected.resize(4 * CLUSTER, 0);
    assert_eq!(content(&image)?, expected);
    clean(&image)
}

#[test]
fn a_range_that_does_not_begin_and_end_with_a_cluster_is_refused() -> Outcome {
    let image = of(Version::V3, 4 * CLUSTER + 512)?;
    for (start, length) in [(512, CLUSTER), (0, CLUSTER + 512), (4 * CLUSTER, 256)] {
        match image.absorb(at(start), Content::Data(&vec![1; length])) {
            Err(Error::Unaligned { .. }) => {}
            other => panic!("{length} bytes at {start}: {other:?}"),
        }
    }
    let Err(Error::PastEndOfDisk { .. }) = image.absorb(at(4 * CLUSTER), Content::Data(&[1; CLUSTER])) else {
        panic!("past the end of the disk")
    };
    assert!(content(&image)?.iter().all(|byte| *byte == 0xaa), "something was filled");
    assert_eq!(image.absorb(at(4 * CLUSTER), Content::Data(&[1; 512]))?, ByteCount::new(512));
    image.freeze()?;
    let Err(Error::ReadOnly { .. }) = image.absorb(at(0), Content::Data(&[1; CLUSTER])) else {
        panic!("a frozen image is written")
    };
    Ok(())
}

#[test]
fn what_was_the_last_cluster_of_a_disk_that_has_grown_is_left_alone() -> Outcome {
    let below = Constant(9);
    let image = of(Version::V3, CLUSTER + 512)?;
    image.grow(ByteCount::of(3 * CLUSTER), Some((&below, ByteCount::of(3 * CLUSTER))))?;
    assert_eq!(image.absorb(at(0), Content::Data(&[9; CLUSTER + 512]))?, ByteCount::of(CLUSTER));
    let mut expected = vec![9; CLUSTER + 512];
    expected.resize(3 * CLUSTER, 0);
    assert_eq!(content(&image)?, expected);
    clean(&image)
}

#[test]
fn the_rest_of_a_last_cluster_is_zeros_even_where_old_bytes_lay() -> Outcome {
    let image = of(Version::V3, CLUSTER + 512)?;
    // A cluster in the middle of the file is given back and used again.
    image.write(at(0), &[1; CLUSTER], None)?;
    image.write(at(CLUSTER), &[1; 512], None)?;
    let whole = vec![5; 2 * CLUSTER];
    let mapping = image.run_at(at(CLUSTER), ByteCount::new(1))?.mapping;
    let Mapping::Data { at: host } = mapping else { panic!("{mapping:?}") };
    image.blob().write_at(host, &whole[..CLUSTER])?;
    image.zero(at(CLUSTER), ByteCount::new(512), Space::Free, None)?;
    // Without a hole: as on a file system that cannot punch.
    image.flush()?;
    image.blob().write_at(host, &whole[..CLUSTER])?;
    let again = Image::open(Arc::clone(image.blob()), "again", Access::Write, Limits::default())?;
    assert_eq!(again.absorb(at(CLUSTER), Content::Data(&[2; 512]))?, ByteCount::new(512));
    let mapping = again.run_at(at(CLUSTER), ByteCount::new(1))?.mapping;
    assert_eq!(mapping, Mapping::Data { at: host }, "the cluster was to be used again");
    let mut cluster = vec![0; CLUSTER];
    again.blob().read_at(host, &mut cluster)?;
    assert!(cluster[..512] == [2; 512] && cluster[512..] == [0; CLUSTER - 512]);
    clean(&again)
}

#[test]
fn a_disk_that_fills_up_leaves_the_clusters_absent_and_costs_nothing() -> Outcome {
    const LENGTH: usize = 64 * CLUSTER;
    for written in [0, 100, CLUSTER, 5 * CLUSTER + 7] {
        for copies in [false, true] {
            let store = SimulatedStore::new(Arc::new(MemoryStore::new()));
            let image = on(&store, Version::V3, LENGTH)?;
            let source = blob(&[3; LENGTH])?;
            let whole =
                Content::Copy { source: &*source, from: HostOffset::ZERO, length: ByteCount::of(LENGTH) };
            let content_of = if copies { whole } else { Content::Data(&[3; LENGTH]) };
            let kind = FaultKind::ShortWrite(ByteCount::of(written));
            store.fail(Fault::once(At::CallOf(Operation::Write, 1), kind));
            let Err(Error::Storage(_)) = image.absorb(at(0), content_of) else {
                panic!("the fault went unseen")
            };
            assert!(content(&image)?.iter().all(|byte| *byte == 0xaa), "something is referred to");
            clean(&image)?;
            // What the failed write has left in the file is not taken for zeros.
            image.write(at(10), &[4; 10], None)?;
            assert_eq!(content(&image)?[..21], [&[0; 10][..], &[4; 10], &[0]].concat());
            assert!(content(&image)?[20..CLUSTER].iter().all(|byte| *byte == 0), "{written} bytes, {copies}");
            assert_eq!(image.absorb(at(0), content_of)?, ByteCount::of(LENGTH - CLUSTER));
            assert_eq!(content(&image)?[CLUSTER..], [3; LENGTH - CLUSTER]);
            clean(&image)?;
        }
    }
    Ok(())
}

#[test]
fn a_guests_write_wins_against_what_is_absorbed_at_the_same_time() -> Outcome {
    const CLUSTERS: usize = 64;
    for round in 0..40u8 {
        let below = Constant(9);
        let image = of(Version::V3, CLUSTERS * CLUSTER)?;
        let start = Barrier::new(2);
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                start.wait();
                for cluster in 0..CLUSTERS {
                    image.write(at(cluster * CLUSTER + 100), &[round; 100], Some(&below))?;
                }
                Ok::<_, Error>(())
            });
            start.wait();
            // From the other end: they meet somewhere.
            for cluster in (0..CLUSTERS).rev() {
                image.absorb(at(cluster * CLUSTER), Content::Data(&[9; CLUSTER]))?;
            }
            writer.join().expect("the writer does not panic")
        })?;
        let found = content(&image)?;
        for (index, byte) in found.iter().enumerate() {
            let written = (100..200).contains(&(index % CLUSTER));
            assert_eq!(*byte, if written { round } else { 9 }, "round {round}, byte {index}");
        }
        clean(&image)?;
    }
    Ok(())
}
