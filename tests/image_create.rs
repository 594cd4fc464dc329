//! New images of every shape: lawful, minimal, sparse, and read back as they were wanted.

#![expect(clippy::print_stdout, reason = "a failing test shows which seed and which shape it was")]

use snapgroup::format::{Geometry, L1_ENTRIES_MAX, L2Width, Rule};
use snapgroup::image::{BackingLabel, Error, Facts, Image, Limits, NewImage, Version};
use snapgroup::storage::{Access, Blob, BlobName, MemoryStore, Store};
use snapgroup::units::{ByteCount, GuestOffset};
use std::error::Error as StdError;
use std::sync::Arc;

type Outcome = Result<(), Box<dyn StdError>>;

fn put(new: &NewImage) -> Result<Arc<dyn Blob>, Box<dyn StdError>> {
    let blob = MemoryStore::new().create(&BlobName::parse("new")?)?;
    new.layout("new")?.write(&*blob)?;
    Ok(blob)
}

fn sizes(geometry: Geometry) -> Vec<u64> {
    let cluster = geometry.cluster_size().as_u64();
    let table = geometry.l2_coverage().as_u64();
    vec![0, 512, cluster - 512, cluster, table, table + 512, 1 << 30, 1 << 40, 64 << 40]
}

/// What a new image must be: clean, of its size, empty, and no larger than its tables.
fn assert_new(new: &NewImage, geometry: Geometry) -> Outcome {
    let blob = put(new)?;
    let header = Image::header_of(&*blob, "new")?;
    assert_eq!(header.version, new.version);
    assert_eq!(header.geometry, geometry);
    assert_eq!(header.size, new.size);
    assert_eq!(u64::from(header.l1_entries), geometry.l1_entries_for(new.size).max(1));
    assert_eq!(Facts::of(&*blob, "new")?.backing_label, new.backing.as_ref().map(|b| b.name.clone()));

    let l1 = u64::from(header.l1_entries) * 8;
    let cluster = geometry.cluster_size().as_u64();
    let clusters = blob.length()?.as_u64().div_ceil(cluster);
    let blocks = clusters.div_ceil(geometry.refcount_block_entries());
    let table = (blocks * 8).div_ceil(cluster);
    assert_eq!(clusters, 1 + table + blocks + l1.div_ceil(cluster), "no cluster too many");
    assert_eq!(blob.length()?.as_u64() % cluster, l1 % cluster, "the file ends with the L1 table");
    let counted = clusters * u64::from(geometry.refcount_bits()) / 8;
    let bound = 4096 * 4 + 2 * counted + 2 * blocks * 8;
    assert!(blob.allocated()?.as_u64() <= bound, "{} are allocated, not {bound}", blob.allocated()?);

    let image = Image::open(blob, "new", Access::Write, Limits::default())?;
    let report = image.check()?;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.data_clusters, 0);
    let length = new.size.min(ByteCount::kib(4)).as_usize();
    let mut holes = Vec::new();
    image.read(GuestOffset::ZERO, &mut vec![0; length], &mut holes)?;
    assert_eq!(holes.iter().map(|hole| hole.len()).sum::<usize>(), length, "a new image defines nothing");
    Ok(())
}

#[test]
fn an_image_that_is_made_is_in_memory_what_it_is_when_its_file_is_opened() -> Outcome {
    let label = BackingLabel { name: "below".into(), format: "qcow2".into() };
    for (cluster_bits, refcount_order) in [(9, 4), (9, 6), (12, 0), (16, 4), (21, 3)] {
        for size in [0, 512, 1 << 20, (1 << 30) + 512, 1 << 33] {
            for backing in [None, Some(label.clone())] {
                let size = ByteCount::new(size);
                let new = NewImage { cluster_bits, refcount_order, backing, ..NewImage::of_size(size) };
                let opened = Image::open(put(&new)?, "new", Access::Write, Limits::default())?;
                let blob = MemoryStore::new().create(&BlobName::parse("new")?)?;
                let made = new.layout("new")?.make(Arc::clone(&blob), "new", Limits::default())?;
                assert!(format!("{made:?}") == format!("{opened:?}"), "{new:?}");
                assert_eq!(made.blob().identity(), blob.identity());
            }
        }
    }
    Ok(())
}

#[test]
fn an_image_beyond_the_limits_is_not_made() -> Outcome {
    let blob = MemoryStore::new().create(&BlobName::parse("new")?)?;
    let limits = Limits { size_max: ByteCount::mib(1), ..Limits::default() };
    let made = NewImage::of_size(ByteCount::mib(2)).layout("new")?.make(Arc::clone(&blob), "new", limits);
    let Err(Error::OverLimit { what: "virtual size", .. }) = made else { panic!("{made:?}") };
    assert_eq!(blob.length()?, ByteCount::ZERO);
    Ok(())
}

#[test]
fn every_new_image_is_clean_minimal_and_read_back_as_it_was_wanted() -> Outcome {
    for cluster_bits in 9..=21 {
        for refcount_order in 0..=6 {
            let geometry = Geometry::new(cluster_bits, refcount_order, L2Width::Standard)?;
            for size in sizes(geometry).into_iter().map(ByteCount::new) {
                let new = NewImage { cluster_bits, refcount_order, ..NewImage::of_size(size) };
                println!("cluster bits {cluster_bits}, refcount order {refcount_order}, {size}");
                let is_slow = geometry.l1_entries_for(size) > L1_ENTRIES_MAX / 256;
                if is_slow && geometry.l1_entries_for(size) <= L1_ENTRIES_MAX && refcount_order % 3 != 0 {
                    continue;
                }
                if geometry.l1_entries_for(size) <= L1_ENTRIES_MAX {
                    assert_new(&new, geometry)?;
                    continue;
                }
                let Err(Error::Format { source, .. }) = new.layout("new") else {
                    panic!("the L1 table passes 32 MiB")
                };
                let snapgroup::format::Error::Malformed(wrong) = source else { panic!("{source}") };
                assert_eq!(wrong.field, "size");
                let largest = L1_ENTRIES_MAX * geometry.l2_coverage().as_u64();
                assert_eq!(wrong.rule, Rule::AtMost(largest));
            }
        }
    }
    Ok(())
}

#[test]
fn an_image_names_nothing_until_an_entry_of_its_l1_table_has_arrived() -> Outcome {
    // An L1 table of 256 KiB, in clusters of 512 bytes. An entry covers 32 KiB.
    let new = NewImage { cluster_bits: 9, ..NewImage::of_size(ByteCount::gib(1)) };
    let layout = new.layout("new")?;
    for entry in [0, 1, 8191, 8192, 20_000, 32_767] {
        let blob = MemoryStore::new().create(&BlobName::parse("new")?)?;
        assert!(layout.names_nothing_in(&*blob)?, "an empty file");
        layout.write(&*blob)?;
        assert!(layout.names_nothing_in(&*blob)?, "a new image");
        let image = Image::open(Arc::clone(&blob), "new", Access::Write, Limits::default())?;
        let l1_end = image.header().l1_table + ByteCount::kib(256);
        // What lies behind the table is not looked at.
        blob.write_at(l1_end, &[1; 100])?;
        assert!(layout.names_nothing_in(&*blob)?, "something behind the table");
        blob.set_length(l1_end.as_length())?;
        image.write(GuestOffset::new(entry * 32 * 1024), b"x", None)?;
        assert!(layout.names_nothing_in(&*blob)?, "entry {entry}, before the flush");
        image.flush()?;
        assert!(!layout.names_nothing_in(&*blob)?, "entry {entry}");
        // The file ends before the entry: it never arrived.
        let entry_at = image.header().l1_table + ByteCount::new(entry * 8);
        blob.set_length(entry_at.as_length())?;
        assert!(layout.names_nothing_in(&*blob)?, "entry {entry}, cut off");
    }
    Ok(())
}

#[test]
fn refcounts_are_enough_where_one_cluster_more_needs_another_block_or_another_cluster_of_their_table()
-> Outcome {
    let geometry = Geometry::new(9, 6, L2Width::Standard)?;
    let each = 64 * geometry.l2_coverage().as_u64();
    // A block counts 64 clusters, a cluster of the table names 64 blocks.
    for clusters in (1..200).chain(3950..4100) {
        let new = NewImage {
            cluster_bits: 9,
            refcount_order: 6,
            ..NewImage::of_size(ByteCount::new(clusters * each))
        };
        assert_new(&new, geometry).map_err(|error| format!("an L1 table of {clusters} clusters: {error}"))?;
    }
    Ok(())
}

#[test]
fn every_new_image_of_version_2_is_clean_and_has_refcounts_of_16_bits() -> Outcome {
    for cluster_bits in 9..=21 {
        let geometry = Geometry::new(cluster_bits, 4, L2Width::Standard)?;
        for size in [0, 512, 1 << 20, 1 << 30].map(ByteCount::new) {
            let new = NewImage { version: Version::V2, cluster_bits, ..NewImage::of_size(size) };
            assert_new(&new, geometry)?;
        }
        for refcount_order in [0, 1, 2, 3, 5, 6] {
            let new = NewImage {
                version: Version::V2,
                cluster_bits,
                refcount_order,
                ..NewImage::of_size(ByteCount::mib(1))
            };
            let Err(Error::Format { .. }) = new.layout("new") else {
                panic!("version 2 has no refcounts of {} bits", 1 << refcount_order)
            };
        }
    }
    Ok(())
}

#[test]
fn a_geometry_that_the_format_lacks_is_refused() {
    for (cluster_bits, refcount_order) in [(0, 4), (8, 4), (22, 4), (63, 4), (u32::MAX, 4), (16, 7), (16, 64)]
    {
        let new = NewImage { cluster_bits, refcount_order, ..NewImage::of_size(ByteCount::mib(1)) };
        let Err(Error::Format { .. }) = new.layout("new") else {
            panic!("cluster bits {cluster_bits}, refcount order {refcount_order} are lawful")
        };
    }
}

#[test]
fn the_backing_label_is_read_back_and_refused_when_the_first_cluster_has_no_room() -> Outcome {
    let label = |length| Some(BackingLabel { name: "b".repeat(length), format: "qcow2".to_owned() });
    for (cluster_bits, fits) in [(9, 300), (12, 1023), (16, 1023), (21, 1023)] {
        let geometry = Geometry::new(cluster_bits, 4, L2Width::Standard)?;
        for version in [Version::V2, Version::V3] {
            let new = NewImage {
                version,
                cluster_bits,
                backing: label(fits),
                ..NewImage::of_size(ByteCount::mib(1))
            };
            assert_new(&new, geometry)?;
            for too_long in [if cluster_bits == 9 { 512 } else { 1024 }, 5000] {
                let new = NewImage { backing: label(too_long), ..new.clone() };
                let Err(Error::Format { .. }) = new.layout("new") else { panic!("{too_long} bytes fit") };
            }
        }
    }
    Ok(())
}
