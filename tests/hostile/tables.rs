//! Tables that are not where they should be, or not what they should be: nobody writes such an image, no pool takes it,
//! and none of them is ever shown to a guest as data.

use crate::support::{
    BLOCK, CLUSTER, COPIED, DATA, L1, L2, Outcome, REFCOUNT_TABLE, blob_of, bounded, doors, patched, small,
};
use snapgroup::image::{Error, Finding, Image, Limits};
use snapgroup::storage::{Access, BlobName, MemoryStore, Store};
use snapgroup::units::{ByteCount, GuestOffset, HostOffset};

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
        assert!(doors.checked.is_err(), "{name}: {:?}", doors.checked);
        doors.no_pool_takes_it(name);
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
