//! What an image outgrows: its refcount table, its L1 table, the memory for its tables, the depth of its chain.

use snapgroup::chain::{Chain, Layer};
use snapgroup::image::{Error, Image, Limits, NewImage, Space};
use snapgroup::storage::{
    Access, At, Blob, BlobName, Fault, FaultKind, MemoryStore, Operation, SimulatedStore, Store, Times,
};
use snapgroup::units::{ByteCount, GuestOffset, HostOffset};
use std::error::Error as StdError;
use std::sync::Arc;

type Outcome<T = ()> = Result<T, Box<dyn StdError>>;

fn put(new: &NewImage) -> Outcome<Arc<dyn Blob>> {
    let blob = MemoryStore::new().create(&BlobName::parse("x")?)?;
    new.layout("x")?.write(&*blob)?;
    Ok(blob)
}

fn open(blob: &Arc<dyn Blob>) -> Outcome<Image> {
    let limits = Limits { table_cache: ByteCount::new(1), ..Limits::default() };
    Ok(Image::open(Arc::clone(blob), "x", Access::Write, limits)?)
}

fn small_clusters(size: ByteCount) -> NewImage {
    NewImage { cluster_bits: 9, refcount_order: 6, ..NewImage::of_size(size) }
}

fn assert_clean(image: &Image) -> Outcome {
    let report = image.check()?;
    assert!(report.is_clean(), "{report}");
    Ok(())
}

fn read(image: &Image, at: u64, length: usize) -> Outcome<Vec<u8>> {
    let (mut found, mut holes) = (vec![0xee; length], Vec::new());
    image.read(GuestOffset::new(at), &mut found, &mut holes)?;
    holes.into_iter().for_each(|hole| found[hole].fill(0));
    Ok(found)
}

#[test]
fn a_refcount_table_that_is_full_moves_and_grows() -> Outcome {
    // One table of 64 entries, 64 refcounts in each block: 2 MiB.
    let blob = put(&small_clusters(ByteCount::mib(6)))?;
    let image = open(&blob)?;
    let before = image.header().refcount_table;
    let bytes: Vec<u8> = (0..6u32 << 20).map(|at| (at / 700 % 251) as u8 + 1).collect();
    for (index, piece) in bytes.chunks(100_001).enumerate() {
        image.write(GuestOffset::new(index as u64 * 100_001), piece, None)?;
        if index % 7 == 0 {
            image.flush()?;
        }
    }
    assert_clean(&image)?;
    let header = image.header();
    assert!(header.refcount_table != before && header.refcount_table_clusters > 1, "{header:?}");
    let again = open(&blob)?;
    assert!(read(&again, 0, bytes.len())? == bytes, "the data is not what was written");
    again.zero(GuestOffset::ZERO, ByteCount::mib(6), Space::Free, None)?;
    assert_clean(&again)?;
    let full = blob.length()?;
    again.write(GuestOffset::ZERO, &bytes, None)?;
    assert_clean(&again)?;
    assert_eq!(blob.length()?, full, "freed clusters are used again");
    Ok(())
}

#[test]
fn an_l1_table_grows_past_what_one_refcount_block_counts() -> Outcome {
    // 1 GiB in clusters of 512 bytes needs an L1 table of 512 clusters; a block counts 64.
    let blob = put(&small_clusters(ByteCount::mib(1)))?;
    let image = open(&blob)?;
    image.write(GuestOffset::new(700), &[7; 3000], None)?;
    image.grow(ByteCount::gib(1), None)?;
    image.write(GuestOffset::new((1 << 30) - 512), &[9; 512], None)?;
    assert_clean(&image)?;
    let length = blob.length()?;
    assert!(length < ByteCount::mib(4), "growing took {length}");

    let again = open(&blob)?;
    assert_eq!(again.size(), ByteCount::gib(1));
    assert_eq!(read(&again, 700, 3000)?, [7; 3000]);
    assert_eq!(read(&again, (1 << 30) - 1024, 1024)?, [[0; 512], [9; 512]].concat());
    assert_clean(&again)
}

#[test]
fn an_l1_table_grows_past_what_the_refcount_table_counts() -> Outcome {
    // One table of 64 entries, 64 refcounts in each block: 2 MiB. The new L1 table alone takes as much.
    let blob = put(&small_clusters(ByteCount::mib(1)))?;
    let image = open(&blob)?;
    image.write(GuestOffset::new(700), &[7; 3000], None)?;
    image.grow(ByteCount::gib(8), None)?;
    assert!(image.header().refcount_table_clusters > 1);
    image.write(GuestOffset::new((8 << 30) - 512), &[9; 512], None)?;
    assert_clean(&image)?;
    let again = open(&blob)?;
    assert_eq!(read(&again, 700, 3000)?, [7; 3000]);
    assert_eq!(read(&again, (8 << 30) - 1024, 1024)?, [[0; 512], [9; 512]].concat());
    Ok(())
}

#[test]
fn a_disk_grows_within_its_l1_table_without_another_one() -> Outcome {
    // An entry covers 32 KiB, and there are as many as the size needs.
    let blob = put(&small_clusters(ByteCount::kib(40)))?;
    let image = open(&blob)?;
    let before = image.header();
    image.grow(ByteCount::kib(64), None)?;
    let after = image.header();
    assert_eq!((after.l1_table, after.l1_entries), (before.l1_table, before.l1_entries));
    Ok(())
}

#[test]
fn an_l1_table_of_more_than_one_cluster_is_read_and_grown_again() -> Outcome {
    // 8 TiB in clusters of 64 KiB: an L1 table of two clusters. 64 TiB: of sixteen.
    let blob = put(&NewImage::of_size(ByteCount::tib(9)))?;
    let image = open(&blob)?;
    let far = (9 << 40) - 65536;
    image.write(GuestOffset::new(far), b"far", None)?;
    image.grow(ByteCount::tib(64), None)?;
    image.write(GuestOffset::new((64 << 40) - 512), b"farther", None)?;
    assert_clean(&image)?;
    assert!(blob.length()? < ByteCount::mib(3), "the new L1 table lies far out: {}", blob.length()?);
    let again = open(&blob)?;
    assert_eq!(read(&again, far, 3)?, b"far");
    assert_eq!(read(&again, (64 << 40) - 512, 7)?, b"farther");
    let Err(Error::Format { .. }) = again.grow(ByteCount::tib(4096), None) else {
        panic!("the L1 table passes 32 MiB")
    };
    assert_eq!(again.size(), ByteCount::tib(64));
    let Err(Error::Shrink { .. }) = again.grow(ByteCount::tib(9), None) else { panic!("it shrank") };
    again.write(GuestOffset::ZERO, b"still writable", None)?;
    assert_clean(&again)
}

#[test]
fn requests_of_no_length_and_past_the_end_are_told_apart() -> Outcome {
    for size in [0, 512, 65536, 65536 * 3 + 512] {
        let image = open(&put(&NewImage::of_size(ByteCount::new(size)))?)?;
        let end = GuestOffset::new(size);
        for at in [GuestOffset::ZERO, end] {
            image.write(at, &[], None)?;
            image.zero(at, ByteCount::ZERO, Space::Free, None)?;
            image.read(at, &mut [], &mut Vec::new())?;
            assert!(image.run_at(at, ByteCount::ZERO)?.length.is_zero());
        }
        for at in [end, GuestOffset::new(size + 1), GuestOffset::new(1 << 63), GuestOffset::new(u64::MAX)] {
            let Err(Error::PastEndOfDisk { .. }) = image.write(at, &[1], None) else { panic!("written") };
            let Err(Error::PastEndOfDisk { .. }) = image.read(at, &mut [1], &mut Vec::new()) else {
                panic!("read")
            };
            for length in [1, u64::MAX] {
                let zeroed = image.zero(at, ByteCount::new(length), Space::Free, None);
                let Err(Error::PastEndOfDisk { .. }) = zeroed else { panic!("zeroed") };
                let Err(Error::PastEndOfDisk { .. }) = image.run_at(at, ByteCount::new(length)) else {
                    panic!("looked up")
                };
            }
        }
        assert_clean(&image)?;
    }
    Ok(())
}

#[test]
fn a_thousand_layers_are_read_one_after_the_other() -> Outcome {
    const DEPTH: u64 = 1000;
    let size = ByteCount::new(DEPTH * 512);
    let mut chain: Option<Chain> = None;
    for index in 0..DEPTH {
        let new = NewImage { cluster_bits: 9, ..NewImage::of_size(size) };
        let head = Arc::new(Layer::from(open(&put(&new)?)?));
        let next = match chain {
            None => Chain::new(vec![head]),
            Some(below) => below.with_head(head),
        };
        let byte = u8::try_from(index % 255 + 1)?;
        next.write(GuestOffset::new(index * 512), &[byte; 100])?;
        chain = Some(next);
    }
    let chain = chain.expect("a thousand layers");
    // On a small stack: a walk that calls itself once for each layer does not fit.
    let found = std::thread::scope(|scope| {
        let reading = std::thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, || {
            let mut found = vec![0xee; size.as_usize()];
            chain.read(GuestOffset::ZERO, &mut found)?;
            chain.write(GuestOffset::new(300), &[1; 300])?;
            Ok::<_, Error>(found)
        });
        reading.expect("a thread starts").join().expect("the walk fits the stack")
    })?;
    for (index, sector) in found.chunks(512).enumerate() {
        let byte = u8::try_from(index % 255 + 1)?;
        assert!(sector[..100].iter().all(|found| *found == byte), "layer {index} is not seen");
        assert!(sector[100..].iter().all(|found| *found == 0), "layer {index} shows more than it has");
    }
    Ok(())
}

#[test]
fn what_tables_have_past_the_end_of_the_disk_does_not_show_when_it_grows() -> Outcome {
    // Each table covers 32 KiB. The state of a machine lies behind the disk when an internal snapshot with one was gone
    // back to.
    let size = ByteCount::kib(256);
    let cluster = 512;
    for left in [vec![(70_000, 300)], vec![(256 * 1024 - cluster, 512)], vec![(100_000, 700), (229_000, 100)]]
    {
        let blob = put(&small_clusters(size))?;
        let image = open(&blob)?;
        for (at, length) in &left {
            image.write(GuestOffset::new(*at), &vec![7; *length], None)?;
        }
        image.flush()?;
        drop(image);
        let shorter = 125 * cluster;
        blob.write_at(HostOffset::new(24), &shorter.to_be_bytes())?;
        let image = open(&blob)?;
        assert_eq!(image.size(), ByteCount::new(shorter));
        image.grow(size, None)?;
        for image in [image, open(&blob)?] {
            let grown = read(&image, shorter, size.as_usize() - shorter as usize)?;
            assert!(grown.iter().all(|byte| *byte == 0), "{left:?}");
            assert_clean(&image)?;
        }
    }
    Ok(())
}

#[test]
fn a_growth_that_fails_keeps_the_size_and_loses_nothing_that_is_written_afterwards() -> Outcome {
    let old = ByteCount::kib(40);
    for operation in [Operation::Write, Operation::Sync] {
        for nth in 1.. {
            let store = SimulatedStore::new(Arc::new(MemoryStore::new()));
            let blob = store.create(&BlobName::parse("x")?)?;
            small_clusters(old).layout("x")?.write(&*blob)?;
            let image = open(&blob)?;
            image.write(GuestOffset::new(700), &[7; 3000], None)?;
            image.flush()?;
            let at = At::CallOf(operation, nth);
            store.fail(Fault { at, kind: FaultKind::EIO, times: Times::Once });
            if image.grow(ByteCount::mib(6), None).is_ok() {
                assert!(nth > 1, "nothing has failed");
                break;
            }
            store.heal();
            assert_eq!((image.size(), image.header().size), (old, old), "{operation:?} {nth}");
            let written =
                image.write(GuestOffset::new(33_000), &[8; 3000], None).and_then(|()| image.flush());
            drop(image);
            let again = open(&blob)?;
            assert!(again.size() == old || again.size() == ByteCount::mib(6), "{operation:?} {nth}");
            assert_eq!(read(&again, 700, 3000)?, [7; 3000], "{operation:?} {nth}");
            if written.is_ok() {
                assert_eq!(read(&again, 33_000, 3000)?, [8; 3000], "{operation:?} {nth}");
            }
            assert_eq!(again.check()?.corruptions, 0, "{operation:?} {nth}");
        }
    }
    Ok(())
}

#[test]
fn an_image_that_is_open_for_reading_does_not_grow() -> Outcome {
    let blob = put(&small_clusters(ByteCount::kib(64)))?;
    let image = Image::open(Arc::clone(&blob), "x", Access::Read, Limits::default())?;
    let mut before = vec![0; blob.length()?.as_usize()];
    blob.read_at(HostOffset::ZERO, &mut before)?;
    let Err(Error::ReadOnly { .. }) = image.grow(ByteCount::mib(6), None) else { panic!("it has grown") };
    let mut after = vec![0; blob.length()?.as_usize()];
    blob.read_at(HostOffset::ZERO, &mut after)?;
    assert!(before == after && image.size() == ByteCount::kib(64));
    Ok(())
}
