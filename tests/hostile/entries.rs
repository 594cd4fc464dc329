//! Entries of tables, one by one and at random: an image answers or refuses. It does not panic, does not take memory
//! without bound, does not overwrite its own header, and shows no table as data.

use crate::dice::Dice;
use crate::support::{
    BLOCK, CLUSTER, COPIED, DATA, L1, L2, Outcome, REFCOUNT_TABLE, blob_of, bounded, bytes_of, doors,
    patched, small,
};
use snapgroup::image::{Error, Image, Limits, NewImage, Space};
use snapgroup::storage::{Access, Blob, BlobName, MemoryStore, Store};
use snapgroup::units::{ByteCount, GuestOffset, HostOffset};
use std::sync::Arc;

fn put(new: &NewImage) -> Outcome<Arc<dyn Blob>> {
    let blob = MemoryStore::new().create(&BlobName::parse("x")?)?;
    new.layout("x")?.write(&*blob)?;
    Ok(blob)
}

fn open(blob: &Arc<dyn Blob>) -> snapgroup::image::Result<Image> {
    Image::open(Arc::clone(blob), "x", Access::Write, Limits::default())
}

/// Asks everything there is to ask of an image; it may refuse all of it.
fn exercise(image: &Image) {
    let size = image.size().as_u64();
    for at in [0, 4096, 2 << 20, size.saturating_sub(5000)] {
        let mut buffer = vec![0; 20_000];
        let _ = image.read(GuestOffset::new(at), &mut buffer, &mut Vec::new());
        let _ = image.run_at(GuestOffset::new(at), ByteCount::mib(1));
        let _ = image.write(GuestOffset::new(at), &buffer[..5000], None);
    }
    let _ = image.zero(GuestOffset::new(100), ByteCount::kib(600), Space::Keep, None);
    let _ = image.zero(GuestOffset::ZERO, ByteCount::mib(1), Space::Free, None);
    let _ = image.flush();
    let _ = image.write(GuestOffset::new(2 << 20), &[3; 9000], None);
    let _ = image.grow(image.size() + ByteCount::mib(32), None);
    let _ = image.check();
    let _ = image.freeze();
}

#[test]
fn every_broken_table_entry_is_found_by_the_check_and_survived_by_everything_else() -> Outcome {
    let values: [u64; 13] = [
        1,
        0x200,
        0x1000,
        0x8000_0000_0000_0000,
        0x8000_0000_0000_0200,
        0x00ff_ffff_ffff_f000,
        0x80ff_ffff_ffff_f000,
        0x7fff_ffff_ffff_ffff,
        0x4000_0000_0000_0000,
        0x7fff_ffff_ffff_f000,
        0x8000_7fff_ffff_f000,
        0x8000_0000_0000_1000,
        u64::MAX,
    ];
    let good = small()?;
    for (what, place) in [("refcount table", CLUSTER), ("L1", 3 * CLUSTER), ("L2", 4 * CLUSTER)] {
        for value in values {
            let blob = blob_of(&good)?;
            blob.write_at(HostOffset::new(place), &value.to_be_bytes())?;
            let image = open(&blob)?;
            let report = image.check();
            assert!(!report.is_ok_and(|report| report.is_clean()), "{value:#x} in the {what} is clean");
            exercise(&image);
        }
    }
    Ok(())
}

#[test]
fn no_flipped_byte_of_header_or_tables_makes_an_image_panic() -> Outcome {
    let good = small()?;
    let mut dice = Dice::of(1);
    for round in 0..3000 {
        let mut bytes = good.clone();
        for _ in 0..1 + dice.roll(3) {
            let place = match dice.roll(6) {
                0..=2 => dice.roll(112),
                3 => 4096 + dice.roll(16),
                4 => 2 * 4096 + dice.roll(32),
                _ => (3 + dice.roll(2)) * 4096 + dice.roll(24),
            };
            bytes[place] = match dice.roll(3) {
                0 => bytes[place] ^ (1 << dice.roll(8)),
                1 => 0xff,
                _ => u8::try_from(dice.roll(256))?,
            };
        }
        if round % 10 == 0 {
            bytes.truncate(dice.roll(bytes.len()));
        }
        if let Ok(image) = open(&blob_of(&bytes)?) {
            exercise(&image);
        }
    }
    Ok(())
}

#[test]
fn a_header_that_nobody_counts_is_not_given_away() -> Outcome {
    let mut bytes = small()?;
    // All refcounts are zero.
    bytes[2 * 4096..3 * 4096].fill(0);
    let blob = blob_of(&bytes)?;
    let image = open(&blob)?;
    let _ = image.write(GuestOffset::new(3 << 20), &[9; 40_960], None);
    let _ = image.flush();
    let mut header = vec![0; 4096];
    blob.read_at(HostOffset::ZERO, &mut header)?;
    assert!(header == bytes[..4096], "the header was overwritten");
    Ok(())
}

#[test]
fn a_table_whose_blocks_are_all_full_ends_in_a_refusal() -> Outcome {
    // The largest table there is, and every entry names the one full block of 64 refcounts.
    let new = NewImage { cluster_bits: 9, refcount_order: 6, ..NewImage::of_size(ByteCount::mib(4)) };
    let blob = put(&new)?;
    let block = 2 * 512;
    blob.write_at(HostOffset::new(block), &1u64.to_be_bytes().repeat(64))?;
    let far = HostOffset::new(1 << 30);
    blob.write_at(far, &block.to_be_bytes().repeat(1 << 20))?;
    blob.write_at(HostOffset::new(48), &far.as_u64().to_be_bytes())?;
    blob.write_at(HostOffset::new(56), &16384u32.to_be_bytes())?;
    let image = open(&blob)?;
    let Err(Error::Full { .. }) = image.write(GuestOffset::ZERO, &[1; 100], None) else {
        panic!("there is no room")
    };
    // It is full, not broken.
    image.flush()?;
    Ok(())
}

#[test]
fn a_check_of_a_sparse_file_of_many_exbibytes_takes_what_its_tables_take() -> Outcome {
    // Every entry of an L2 table leads to another far corner of the file.
    let blob = put(&NewImage { cluster_bits: 21, ..NewImage::of_size(ByteCount::gib(1)) })?;
    let image = open(&blob)?;
    image.write(GuestOffset::ZERO, &[1; 512], None)?;
    image.flush()?;
    drop(image);
    let table = 4u64 << 21;
    let entries: Vec<u8> = (1..=262_144u64).flat_map(|far| (1 << 63 | far << 37).to_be_bytes()).collect();
    blob.write_at(HostOffset::new(table), &entries)?;
    blob.set_length(ByteCount::new(1 << 56))?;
    let report = open(&blob)?.check()?;
    assert!(report.corruptions >= 262_144, "{report}");
    assert_eq!(report.findings.len(), 1000, "no more is kept than can be read");
    Ok(())
}

#[test]
fn an_entry_that_leads_to_a_table_is_never_data() -> Outcome {
    for (at, name) in
        [(REFCOUNT_TABLE, "refcount table"), (BLOCK, "block"), (L1, "L1 table"), (L2, "L2 table")]
    {
        for entry in [at | COPIED, at, at | COPIED | 1] {
            let what = format!("{entry:#x} to the {name}");
            let doors = doors(&what, &patched(&[(L2 + 8, &entry.to_be_bytes())])?)?;
            doors.only_looked_at(&what);
            let Some(Err(Error::OnTables { structure: "data cluster", .. })) = &doors.read else {
                panic!("{what}: {:?}", doors.read)
            };
        }
    }
    Ok(())
}

#[test]
fn an_entry_that_leads_to_a_table_is_never_written_through() -> Outcome {
    for at in [REFCOUNT_TABLE, BLOCK, L1, L2] {
        let bytes = patched(&[(L2 + 8, &(at | COPIED).to_be_bytes())])?;
        let blob = blob_of(&bytes)?;
        // As a caller opens it who does not ask for the check.
        let image = open(&blob)?;
        let Err(Error::OnTables { .. }) = image.write(GuestOffset::new(4096), &[7; 100], None) else {
            panic!("{at:#x} was written")
        };
        assert!(image.zero(GuestOffset::new(4096), ByteCount::new(4096), Space::Free, None).is_err());
        let _ = image.flush();
        drop(image);
        assert!(bytes_of(&*blob)? == bytes, "{at:#x} has changed");
    }
    Ok(())
}

#[test]
fn two_entries_for_one_cluster_are_found_before_anybody_writes() -> Outcome {
    let doors = doors("shared", &patched(&[(L2 + 8, &(DATA | COPIED).to_be_bytes())])?)?;
    doors.only_looked_at("shared");
    Ok(())
}

/// 080, 138
#[test]
fn an_entry_past_the_end_of_the_file_is_an_error_and_no_zeros() -> Outcome {
    for far in [7 * CLUSTER, 1 << 49, 1 << 55] {
        let what = format!("{far:#x}");
        let doors = doors(&what, &patched(&[(L2 + 8, &(far | COPIED).to_be_bytes())])?)?;
        doors.only_looked_at(&what);
        let Some(Err(Error::OutsideFile { structure: "data cluster", .. })) = &doors.read else {
            panic!("{what}: {:?}", doors.read)
        };
    }
    Ok(())
}

#[test]
fn data_on_the_last_cluster_of_a_root_table_is_none() -> Outcome {
    // An L1 table of 4096 clusters, and a refcount table of more than one.
    let blob = put(&NewImage { cluster_bits: 9, refcount_order: 6, ..NewImage::of_size(ByteCount::gib(8)) })?;
    let image = open(&blob)?;
    image.write(GuestOffset::ZERO, &[7; 512], None)?;
    image.flush()?;
    let header = image.header();
    drop(image);
    assert!(header.refcount_table_clusters > 1);
    let last = |begin: HostOffset, clusters: u64| begin.as_u64() + (clusters - 1) * 512;
    let mut l1_entry = [0; 8];
    blob.read_at(header.l1_table, &mut l1_entry)?;
    let l2 = HostOffset::new(u64::from_be_bytes(l1_entry) & !COPIED);
    for at in
        [last(header.l1_table, 4096), last(header.refcount_table, u64::from(header.refcount_table_clusters))]
    {
        blob.write_at(l2, &(at | COPIED).to_be_bytes())?;
        let image = open(&blob)?;
        let read = image.read(GuestOffset::ZERO, &mut [0; 512], &mut Vec::new());
        let Err(Error::OnTables { structure: "data cluster", .. }) = read else {
            panic!("{at:#x}: {read:?}")
        };
        let written = image.write(GuestOffset::ZERO, &[8; 512], None);
        let Err(Error::OnTables { .. }) = written else { panic!("{at:#x}: {written:?}") };
    }
    Ok(())
}

/// A part of a cluster that is shared is written: the rest is copied of it, and may not become zeros.
#[test]
fn what_is_shared_and_past_the_end_of_the_file_is_not_copied_as_zeros() -> Outcome {
    for far in [7 * CLUSTER, 1 << 49] {
        let bytes = patched(&[(L2, &far.to_be_bytes())])?;
        let blob = blob_of(&bytes)?;
        let image = open(&blob)?;
        let Err(Error::OutsideFile { .. }) = image.write(GuestOffset::new(100), &[7; 100], None) else {
            panic!("{far:#x} was written")
        };
        drop(image);
        assert!(bytes_of(&*blob)? == bytes, "{far:#x}");
    }
    Ok(())
}

#[test]
fn a_file_that_lost_a_whole_cluster_is_an_error_and_the_end_of_the_last_one_reads_as_zeros() -> Outcome {
    let good = small()?;
    // QEMU ends a file inside of its last cluster: what is missing are zeros.
    let cut = &good[..good.len() - 100];
    let tail = doors("tail", cut)?;
    let Some(Ok(read)) = &tail.read else { panic!("{:?}", tail.read) };
    assert!(read[..8092].iter().all(|byte| *byte == 1) && read[8092..].iter().all(|byte| *byte == 0));
    assert!(tail.checked.is_ok() && tail.adopted.is_ok() && tail.imported.is_ok(), "{tail:?}");
    let cut = &good[..good.len() - usize::try_from(CLUSTER)?];
    let lost = doors("lost", cut)?;
    lost.only_looked_at("lost");
    let Some(Err(Error::OutsideFile { .. })) = &lost.read else { panic!("{:?}", lost.read) };
    Ok(())
}

#[test]
fn reserved_bits_of_entries_are_refused_before_anybody_writes() -> Outcome {
    for (at, entry) in [
        (L1, L2 | COPIED | 1 << 56),
        (L1, L2 | COPIED | 1 << 62),
        (L2, DATA | COPIED | 1 << 1),
        (L2, DATA | COPIED | 1 << 61),
    ] {
        let what = format!("{entry:#x}");
        let doors = doors(&what, &patched(&[(at, &entry.to_be_bytes())])?)?;
        doors.only_looked_at(&what);
        let Some(Err(Error::Format { .. })) = &doors.read else { panic!("{what}: {:?}", doors.read) };
    }
    Ok(())
}

/// A mebibyte of entries, each of which is a reference of its own.
#[test]
fn a_file_full_of_entries_is_checked_within_bounds() -> Outcome {
    let mut bytes = small()?;
    bytes.resize(7 * 4096, 0);
    // 128 tables behind the rest; their entries lie scattered over a sparse file.
    for table in 0..128_u64 {
        let at = usize::try_from(L1 + table * 8)?;
        bytes[at..at + 8].copy_from_slice(&(((7 + table) * CLUSTER) | COPIED).to_be_bytes());
    }
    let entries = (0..128 * 512_u64).flat_map(|index| (((1 << 30) + (index << 20)) | COPIED).to_be_bytes());
    bytes.extend(entries);
    bytes[24..32].copy_from_slice(&(256_u64 << 20).to_be_bytes());
    bytes[36..40].copy_from_slice(&128_u32.to_be_bytes());
    let blob = blob_of(&bytes)?;
    blob.set_length(ByteCount::new(1 << 40))?;
    let image = Image::open(blob, "x", Access::Read, Limits::default())?;
    let report = bounded("full of entries", || image.check())?;
    assert!(report.corruptions >= 65_536, "{report}");
    Ok(())
}
