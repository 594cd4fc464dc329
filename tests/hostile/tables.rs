//! Tables that are not where they should be, or not what they should be: nobody writes such an image, no pool takes it,
//! and none of them is ever shown to a guest as data.

use crate::support::{
    BLOCK, CLUSTER, COPIED, DATA, L1, L2, Outcome, REFCOUNT_TABLE, blob_of, bounded, bytes_of, doors,
    patched, small,
};
use snapgroup::format::{
    self, Autoclear, BitmapEntry, BitmapFlags, BitmapsExtension, SnapshotEntry, Version, encode_directory,
    encode_snapshots,
};
use snapgroup::image::{self, Error, Finding, Image, Limits};
use snapgroup::storage::{Access, BlobName, MemoryStore, Store};
use snapgroup::units::{ByteCount, GuestOffset, HostCluster, HostOffset};
use std::error::Error as StdError;

const L1_SIZE: u64 = 36;
const L1_OFFSET: u64 = 40;
const TABLE_OFFSET: u64 = 48;
const TABLE_CLUSTERS: u64 = 56;

#[test]
fn an_l1_table_of_32_mib_that_the_file_does_not_hold_is_refused() -> Outcome {
    let bytes = patched(&[(L1_SIZE, &4_194_304_u32.to_be_bytes())])?;
    let doors = doors("a large L1 table", &bytes)?;
    for error in [doors.opened.as_ref().err(), doors.checked.as_ref().err()] {
        let Some(Error::OutsideFile { structure: "L1 table", .. }) = error else { panic!("{error:?}") };
    }
    doors.no_pool_takes_it("a large L1 table");
    Ok(())
}

#[test]
fn a_table_on_top_of_the_header_is_refused() -> Outcome {
    for (at, table) in [(L1_OFFSET, "L1 table"), (TABLE_OFFSET, "refcount table")] {
        let doors = doors(table, &patched(&[(at, &[0; 8])])?)?;
        for error in [doors.opened.as_ref().err(), doors.checked.as_ref().err()] {
            let Some(Error::OnHeader { structure, .. }) = error else { panic!("{table}: {error:?}") };
            assert_eq!(*structure, table);
        }
        doors.no_pool_takes_it(table);
    }
    Ok(())
}

#[test]
fn a_table_past_the_end_of_the_file_is_refused() -> Outcome {
    for (at, table) in [(L1_OFFSET, "L1 table"), (TABLE_OFFSET, "refcount table")] {
        for far in [1_u64 << 20, 1 << 49, 1 << 55] {
            let doors = doors(table, &patched(&[(at, &far.to_be_bytes())])?)?;
            let Err(Error::OutsideFile { structure, .. }) = &doors.opened else {
                panic!("{table}: {:?}", doors.opened)
            };
            assert_eq!(*structure, table);
            doors.no_pool_takes_it(table);
        }
    }
    Ok(())
}

#[test]
fn an_l1_table_that_the_end_of_the_file_cuts_is_refused_and_the_check_says_so() -> Outcome {
    // The smallest image, with its L1 table as the last thing in it.
    let whole = patched(&[])?;
    for length in [L1 + 1, L1 + 7] {
        let doors = doors("a cut L1 table", &whole[..length as usize])?;
        let Err(Error::OutsideFile { structure: "L1 table", .. }) = &doors.opened else {
            panic!("{length}: {:?}", doors.opened)
        };
        let report = doors.report.as_ref().expect("a check reads what is there");
        let cut = Finding::OutsideFile { structure: "header", at: HostOffset::new(L1) };
        assert!(report.findings.contains(&cut) && report.beyond_repair > 0, "{length}: {report:?}");
        doors.no_pool_takes_it("a cut L1 table");
    }
    Ok(())
}

#[test]
fn the_check_says_which_table_of_a_bitmap_or_of_a_snapshot_the_end_of_the_file_cuts() -> Outcome {
    let size = usize::try_from(CLUSTER)?;
    let (first, second) = (6 * CLUSTER, 7 * CLUSTER);
    let place = HostOffset::new;
    // What lies second is cut.
    let bitmap = |table, directory| -> Outcome<Vec<u8>> {
        let mut bytes = small()?;
        bytes.resize(8 * size, 0);
        let blob = blob_of(&bytes)?;
        let mut header = Image::header_of(&*blob, "x")?;
        let entry = BitmapEntry {
            table: place(table),
            table_entries: 1,
            flags: BitmapFlags::default(),
            granularity_bits: 16,
            name: b"daily".to_vec(),
            extra: Vec::new(),
        };
        let encoded = encode_directory(&[entry], header.geometry)?;
        let (directory_size, at) = (ByteCount::of(encoded.len()), place(directory));
        header.extensions.push(BitmapsExtension { count: 1, directory_size, directory: at }.encode());
        header.autoclear = Autoclear::BITMAPS;
        blob.write_at(HostOffset::ZERO, &header.encode()?)?;
        blob.write_at(at, &encoded)?;
        bytes_of(&*blob)
    };
    let mut snapshot = small()?;
    snapshot.resize(8 * size, 0);
    let entry = SnapshotEntry {
        l1_table: place(second),
        l1_entries: 1,
        id: b"1".to_vec(),
        name: Vec::new(),
        date_seconds: 1,
        date_nanos: 0,
        vm_clock_nanos: 0,
        vm_state_size_32: 0,
        extra: [0_u64.to_be_bytes(), CLUSTER.to_be_bytes()].concat(),
    };
    let table = encode_snapshots(&[entry], Version::V3)?;
    snapshot[6 * size..][..table.len()].copy_from_slice(&table);
    snapshot[60..64].copy_from_slice(&1_u32.to_be_bytes());
    snapshot[64..72].copy_from_slice(&first.to_be_bytes());
    for (structure, bytes) in [
        ("bitmap directory", bitmap(second, first)?),
        ("header", bitmap(first, second)?),
        ("snapshot table", snapshot),
    ] {
        let cut = Finding::OutsideFile { structure, at: place(second) };
        let found = |length: usize| {
            image::check(&*blob_of(&bytes[..length])?, "x").map_err(Box::<dyn StdError>::from)
        };
        assert!(!found(8 * size)?.findings.contains(&cut), "{structure}, whole");
        assert!(found(7 * size + 1)?.findings.contains(&cut), "{structure}: {}", found(7 * size + 1)?);
    }
    Ok(())
}

#[test]
fn the_two_root_tables_on_each_other_are_found_by_the_check() -> Outcome {
    for (at, other) in [(L1_OFFSET, REFCOUNT_TABLE), (TABLE_OFFSET, L1), (L1_OFFSET, BLOCK), (L1_OFFSET, L2)]
    {
        let what = format!("the table named at {at} lies at {other:#x}");
        let doors = doors(&what, &patched(&[(at, &other.to_be_bytes())])?)?;
        assert!(!doors.only_looked_at(&what).is_sound());
    }
    Ok(())
}

#[test]
fn an_l1_entry_that_leads_to_another_table_shows_a_guest_nothing() -> Outcome {
    for (table, name) in
        [(REFCOUNT_TABLE, "refcount table"), (BLOCK, "refcount block"), (L1, "L1 table"), (L2, "L2 table")]
    {
        // The second range of the disk; its own is lawful.
        let entry = (table | COPIED).to_be_bytes();
        let doors = doors(name, &patched(&[(L1 + 8, &entry)])?)?;
        doors.only_looked_at(name);
        let image = doors.opened?;
        let mut buffer = vec![0xee; 2 << 20];
        let read = image.read(GuestOffset::new(2 << 20), &mut buffer, &mut Vec::new());
        match name {
            // One L2 table for two ranges shows the guest its own data twice.
            "L2 table" => read?,
            // A block of counts makes no lawful entries, or lies on nothing that is a table.
            "refcount block" => {
                let Err(Error::Format { .. } | Error::OnHeader { .. } | Error::OutsideFile { .. }) = read
                else {
                    panic!("{name}: {read:?}")
                };
            }
            _ => {
                let Err(Error::OnTables { .. }) = read else { panic!("{name}: {read:?}") };
            }
        }
    }
    Ok(())
}

#[test]
fn an_l1_entry_that_leads_to_the_header_or_past_the_end_shows_a_guest_nothing() -> Outcome {
    for (entry, name) in [
        (COPIED, "header"),
        (COPIED | 1 << 20, "past the end"),
        (COPIED | 1 << 49, "far past the end"),
        (COPIED | 1 << 55, "the last place there is"),
        (COPIED | (L2 + 512), "inside of a cluster"),
        (COPIED | L2 | 1, "reserved bits"),
    ] {
        let doors = doors(name, &patched(&[(L1, &entry.to_be_bytes())])?)?;
        doors.only_looked_at(name);
        let Some(Err(Error::Format { .. } | Error::OutsideFile { .. })) = &doors.read else {
            panic!("{name}: {:?}", doors.read)
        };
    }
    Ok(())
}

/// A mark says that nobody else refers to a cluster, and so that it may be written in place.
#[test]
fn a_mark_that_the_refcount_does_not_bear_out_is_found_whatever_else_agrees() -> Outcome {
    let twice = |cluster: u64| (BLOCK + cluster * 2, &[0, 2][..]);
    let (unmarked, again) = (DATA.to_be_bytes(), (L2 | COPIED).to_be_bytes());
    for (patches, name) in [
        (vec![twice(5)], "counted twice, referred to once, and marked"),
        (vec![(L2, &unmarked[..])], "counted once, and not marked"),
        // The refcounts agree with the references then.
        (vec![(L1 + 8, &again[..]), twice(4), twice(5), twice(6)], "one table for two ranges, and marked"),
    ] {
        let report = doors(name, &patched(&patches)?)?.only_looked_at(name).clone();
        let is_it = |found: &Finding| matches!(found, Finding::CopiedDisagrees { cluster, .. } if *cluster == HostCluster::new(5));
        assert!(report.findings.iter().any(is_it), "{name}: {report:?}");
    }
    Ok(())
}

#[test]
fn a_refcount_of_zero_for_what_is_in_use_is_found_before_anybody_writes() -> Outcome {
    for (cluster, name) in [(0, "header"), (2, "block"), (4, "L2 table"), (5, "data")] {
        let doors = doors(name, &patched(&[(BLOCK + cluster * 2, &[0; 2])])?)?;
        let report = doors.only_looked_at(name);
        assert!(
            report.findings.iter().any(|found| matches!(found, Finding::RefcountTooLow { .. })),
            "{name}"
        );
    }
    let zero = [0; CLUSTER as usize];
    let doors = doors("all", &patched(&[(BLOCK, &zero)])?)?;
    assert_eq!(doors.only_looked_at("all").refcounts_too_low, 7);
    Ok(())
}

/// 060, 138
#[test]
fn a_refcount_table_that_leads_nowhere_is_found_before_anybody_writes() -> Outcome {
    for (entry, name) in [
        (0, "absent"),
        (1 << 20, "past the end"),
        (1 << 55, "far past the end"),
        (BLOCK + 512, "inside of a cluster"),
        (BLOCK | 1, "reserved bits"),
        (L1, "on the L1 table"),
        (DATA, "on data"),
        (REFCOUNT_TABLE, "on itself"),
    ] {
        let doors = doors(name, &patched(&[(REFCOUNT_TABLE, &u64::to_be_bytes(entry))])?)?;
        doors.only_looked_at(name);
    }
    Ok(())
}

#[test]
fn two_entries_of_a_refcount_table_never_share_a_block() -> Outcome {
    let doors = doors("shared", &patched(&[(REFCOUNT_TABLE + 8, &BLOCK.to_be_bytes())])?)?;
    doors.only_looked_at("shared");
    Ok(())
}

/// 261
#[test]
fn a_table_of_internal_snapshots_that_is_none_is_found() -> Outcome {
    for (count, at, name) in
        [(1_u32, 1_u64 << 20, "past the end"), (1, L1, "on the L1 table"), (65_536, DATA, "many")]
    {
        let patches: [(u64, &[u8]); 2] = [(60, &count.to_be_bytes()), (64, &at.to_be_bytes())];
        let doors = doors(name, &patched(&patches)?)?;
        for (door, answer) in [("open", &doors.opened), ("checked", &doors.checked)] {
            let Err(Error::Format { source: format::Error::Malformed(wrong), .. }) = answer else {
                panic!("{name}: {door} says {answer:?}");
            };
            assert_eq!(wrong.structure, "snapshot", "{name}: {door}");
        }
        doors.no_pool_takes_it(name);
    }
    Ok(())
}

/// 261: entries that are in order, and together longer than a table may be; and one with too much beside its name.
#[test]
fn a_table_of_internal_snapshots_that_is_too_large_is_not_opened() -> Outcome {
    let entry = |extra: u32| {
        let mut bytes = vec![0; usize::try_from(40 + extra)?];
        bytes[12..14].copy_from_slice(&u16::MAX.to_be_bytes());
        bytes[36..40].copy_from_slice(&extra.to_be_bytes());
        bytes.resize(bytes.len() + usize::from(u16::MAX), b'x');
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        Outcome::Ok(bytes)
    };
    for (count, extra, field) in [(1008_u32, 1024_u32, "size"), (1, 1025, "extra_data_size")] {
        let mut bytes = patched(&[(60, &count.to_be_bytes())])?;
        bytes.resize(bytes.len().next_multiple_of(usize::try_from(CLUSTER)?), 0);
        let table = bytes.len() as u64;
        bytes[64..72].copy_from_slice(&table.to_be_bytes());
        let blob = MemoryStore::new().create(&BlobName::parse("x")?)?;
        blob.write_at(HostOffset::ZERO, &bytes)?;
        let entry = entry(extra)?;
        for number in 0..u64::from(count) {
            blob.write_at(HostOffset::new(table + number * entry.len() as u64), &entry)?;
        }
        let opened = bounded(field, || Image::open(blob.clone(), "x", Access::Read, Limits::default()));
        let Err(Error::Format { source: format::Error::Malformed(wrong), .. }) = opened else {
            panic!("{field}: {opened:?}");
        };
        assert_eq!(wrong.field, field);
        // One entry less is small enough.
        if count > 1 {
            blob.write_at(HostOffset::new(60), &(count - 1).to_be_bytes())?;
            let image = bounded(field, || Image::open(blob, "x", Access::Read, Limits::default()))?;
            assert_eq!(image.header().snapshot_count, count - 1);
        }
    }
    Ok(())
}

/// The file says that it is long and holds nothing: what is taken follows what the format allows at most.
#[test]
fn the_largest_tables_in_a_sparse_file_stay_within_bounds() -> Outcome {
    let blob = MemoryStore::new().create(&BlobName::parse("x")?)?;
    blob.write_at(HostOffset::ZERO, &small()?)?;
    blob.write_at(HostOffset::new(L1_SIZE), &4_194_304_u32.to_be_bytes())?;
    blob.write_at(HostOffset::new(L1_OFFSET), &(1_u64 << 30).to_be_bytes())?;
    blob.write_at(HostOffset::new(TABLE_OFFSET), &(1_u64 << 32).to_be_bytes())?;
    blob.write_at(HostOffset::new(TABLE_CLUSTERS), &2048_u32.to_be_bytes())?;
    blob.set_length(ByteCount::new(1 << 40))?;
    let image = bounded("sparse", || Image::open(blob.clone(), "x", Access::Read, Limits::default()))?;
    let report = bounded("sparse", || image.check())?;
    assert!(report.corruptions > 0);
    let refused = bounded("sparse", || Image::open_checked(blob, "x", Access::Write, Limits::default()));
    let Err(Error::Unsound { .. }) = refused else { panic!("{refused:?}") };
    Ok(())
}

#[test]
fn every_table_that_leads_back_into_the_tables_is_walked_once() -> Outcome {
    // 512 ranges, and each of them has the L1 table for its L2 table.
    let entries: Vec<u8> = (L1 | COPIED).to_be_bytes().repeat(512);
    let bytes =
        patched(&[(24, &(1_u64 << 30).to_be_bytes()), (L1_SIZE, &512_u32.to_be_bytes()), (L1, &entries)])?;
    let blob = blob_of(&bytes)?;
    let image = Image::open(blob, "x", Access::Read, Limits::default())?;
    let report = bounded("back", || image.check())?;
    assert!(report.corruptions >= 511, "{report}");
    Ok(())
}

/// The second range counts for as much as the first: whoever writes to one of them would change the other.
#[test]
fn what_two_ranges_share_needs_a_refcount_of_two() -> Outcome {
    // The table has a refcount of two and says so; what it leads to has one of one.
    let shared: Vec<u8> = L2.to_be_bytes().repeat(2);
    let doors = doors(
        "shared",
        &patched(&[
            (24, &(8_u64 << 20).to_be_bytes()),
            (L1_SIZE, &4_u32.to_be_bytes()),
            (L1, &shared),
            (BLOCK + 2 * (L2 / CLUSTER), &2_u16.to_be_bytes()),
        ])?,
    )?;
    let report = doors.only_looked_at("shared");
    let is_named = |cluster: u64| {
        let cluster = HostCluster::new(cluster);
        report.findings.contains(&Finding::RefcountTooLow { cluster, refcount: 1, references: 2 })
    };
    assert!(is_named(DATA / CLUSTER) && is_named(DATA / CLUSTER + 1), "{report:?}");
    Ok(())
}

/// An image whose L1 table has so many entries, all of which lead to the one L2 table, behind the rest of it.
fn with_long_l1(entries: u32) -> Outcome<(Vec<u8>, u64)> {
    let mut bytes = patched(&[])?;
    bytes.resize(bytes.len().next_multiple_of(usize::try_from(CLUSTER)?), 0);
    let at = bytes.len() as u64;
    bytes.extend(L2.to_be_bytes().repeat(usize::try_from(entries)?));
    bytes.resize(bytes.len().next_multiple_of(usize::try_from(CLUSTER)?), 0);
    Ok((bytes, at))
}

#[test]
fn a_table_that_many_ranges_share_is_not_read_for_each_of_them() -> Outcome {
    let entries = 65_536_u32;
    let (mut bytes, at) = with_long_l1(entries)?;
    let size = u64::from(entries) * (CLUSTER / 8) * CLUSTER;
    bytes[24..32].copy_from_slice(&size.to_be_bytes());
    bytes[36..40].copy_from_slice(&entries.to_be_bytes());
    bytes[40..48].copy_from_slice(&at.to_be_bytes());
    assert!(!doors("many ranges", &bytes)?.only_looked_at("many ranges").is_sound());
    Ok(())
}

#[test]
fn an_l1_table_that_many_snapshots_share_is_not_read_for_each_of_them() -> Outcome {
    let (mut bytes, at) = with_long_l1(32_768)?;
    let snapshot = |number: usize| SnapshotEntry {
        l1_table: HostOffset::new(at),
        l1_entries: 32_768,
        id: number.to_string().into_bytes(),
        name: Vec::new(),
        date_seconds: 1,
        date_nanos: 0,
        vm_clock_nanos: 0,
        vm_state_size_32: 0,
        extra: [0_u64.to_be_bytes(), (4_u64 << 20).to_be_bytes()].concat(),
    };
    let snapshots: Vec<_> = (0..4000).map(snapshot).collect();
    let table = bytes.len() as u64;
    bytes.extend(encode_snapshots(&snapshots, Version::V3)?);
    bytes.resize(bytes.len().next_multiple_of(usize::try_from(CLUSTER)?), 0);
    bytes[60..64].copy_from_slice(&4000_u32.to_be_bytes());
    bytes[64..72].copy_from_slice(&table.to_be_bytes());
    assert!(!doors("many snapshots", &bytes)?.only_looked_at("many snapshots").is_sound());
    Ok(())
}
