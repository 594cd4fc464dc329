//! What is opened, what is refused, and what stays of a catalogue that is damaged, stale or of another version.

use super::super::testing::*;
use super::super::*;
use super::*;
use crate::catalog::Result;

#[test]
fn a_catalogue_is_what_it_was_after_a_restart() -> Result<()> {
    let blob = MemoryBlob::empty();
    let pool = Uuid::from_u128(42);
    let catalog = Catalog::create(blob.clone(), pool, Timestamp(77))?;
    catalog.commit(None, &world())?;
    catalog.close()?;
    let catalog = Catalog::open(blob)?;
    assert_eq!((catalog.pool(), catalog.created(), catalog.generation()), (pool, Timestamp(77), 1));
    assert_eq!(catalog.read()?.verify()?, []);
    assert_eq!(catalog.read()?.counts()?.snapshots, 4);
    Ok(())
}

#[test]
fn a_catalogue_that_was_not_closed_is_repaired() -> Result<()> {
    for quick_repair in [QuickRepair::Off, QuickRepair::On] {
        let blob = MemoryBlob::empty();
        let options = CatalogOptions { quick_repair, ..CatalogOptions::default() };
        let catalog = Catalog::create_with(blob.clone(), Uuid::from_u128(1), Timestamp(0), options)?;
        catalog.commit(None, &world())?;
        let opened = Catalog::open_with(MemoryBlob::of(blob.bytes()), options)?;
        assert_eq!(opened.generation(), 1);
        assert_eq!(opened.read()?.verify()?, []);
        opened.commit(Some(1), &[machine(9).into()])?;
    }
    Ok(())
}

#[test]
fn each_opening_is_an_epoch_and_changes_nothing_else() -> Result<()> {
    let blob = MemoryBlob::empty();
    let catalog = Catalog::create(blob.clone(), Uuid::from_u128(1), Timestamp(0))?;
    assert_eq!(catalog.epoch(), 1);
    catalog.commit(None, &world())?;
    catalog.close()?;
    for epoch in 2..5 {
        let catalog = Catalog::open(blob.clone())?;
        assert_eq!((catalog.epoch(), catalog.generation()), (epoch, 1));
        assert_eq!(catalog.read()?.verify()?, []);
    }
    Ok(())
}

#[test]
fn whoever_had_the_catalogue_open_before_can_change_nothing_any_more() -> Result<()> {
    for quick_repair in [QuickRepair::Off, QuickRepair::On] {
        let blob = MemoryBlob::empty();
        let options = CatalogOptions { quick_repair, ..CatalogOptions::default() };
        let first = Catalog::create_with(blob.clone(), Uuid::from_u128(1), Timestamp(0), options)?;
        first.commit(None, &[machine(1).into()])?;
        let second = Catalog::open_with(blob.clone(), options)?;
        let before = blob.bytes();
        for _ in 0..2 {
            let Err(Error::NotOwner { epoch: 1 }) = first.commit(None, &[machine(2).into()]) else {
                panic!("a stale owner has committed");
            };
        }
        let Err(Error::NotOwner { epoch: 1 }) = first.read() else {
            panic!("a stale owner has read pages that are not its own any more");
        };
        drop(first);
        assert_eq!(blob.bytes(), before, "a stale owner has written");
        second.commit(None, &[machine(3).into()])?;
        second.close()?;
        let third = Catalog::open_with(blob, options)?;
        assert_eq!((third.epoch(), third.read()?.counts()?.machines), (3, 2));
        assert_eq!(third.read()?.verify()?, []);
    }
    Ok(())
}

#[test]
fn a_stale_owner_that_never_looked_closes_without_writing() -> Result<()> {
    let blob = MemoryBlob::empty();
    let first = Catalog::create(blob.clone(), Uuid::from_u128(1), Timestamp(0))?;
    let second = Catalog::open(blob.clone())?;
    second.commit(None, &[machine(3).into()])?;
    let before = blob.bytes();
    let Err(Error::NotOwner { epoch: 1 }) = first.close() else { panic!("a stale owner has closed") };
    assert_eq!(blob.bytes(), before);
    second.commit(None, &[machine(4).into()]).map(drop)
}

#[test]
fn a_catalogue_of_before_there_were_sums_and_epochs_gets_them() -> Result<()> {
    let blob = MemoryBlob::empty();
    let catalog = Catalog::create(blob.clone(), Uuid::from_u128(1), Timestamp(0))?;
    catalog.commit(None, &world())?;
    let bytes = catalog.read()?.snapshot_bytes()?;
    assert_ne!(bytes, ByteCount::ZERO);
    let transaction = catalog.database.begin_write()?;
    for entry in [meta::EPOCH, meta::SNAPSHOT_BYTES] {
        transaction.open_table(tables::META)?.remove(entry)?;
    }
    transaction.commit()?;
    catalog.close()?;
    let catalog = Catalog::open(blob)?;
    assert_eq!((catalog.epoch(), catalog.read()?.snapshot_bytes()?), (1, bytes));
    Ok(())
}

#[test]
fn a_newer_catalogue_is_refused_with_no_byte_changed() -> Result<()> {
    let blob = MemoryBlob::empty();
    let catalog = Catalog::create(blob.clone(), Uuid::from_u128(1), Timestamp(0))?;
    let transaction = catalog.database.begin_write()?;
    let newer = (tables::FORMAT + 4).to_be_bytes();
    transaction.open_table(tables::META)?.insert(meta::FORMAT, &newer[..])?;
    transaction.commit()?;
    let crashed = blob.bytes();
    catalog.close()?;
    let before = blob.bytes();
    // Bytes that are not to be written are not even asked to be.
    blob.fail_writes();
    let Err(Error::NewerVersion { found: 5, supported: 1 }) = Catalog::open(blob.clone()) else {
        panic!("a newer catalogue was opened");
    };
    assert_eq!(blob.bytes(), before);
    let Err(Error::NewerVersion { found: 5, .. }) = Catalog::open(MemoryBlob::of(crashed)) else {
        panic!("a newer catalogue was opened after a crash");
    };
    Ok(())
}

#[test]
fn bytes_of_something_else_are_refused_with_no_byte_changed() -> Result<()> {
    for garbage in [vec![], vec![0; 10], b"QFI\xfb not ours".repeat(9_000), vec![0xff; 100_000]] {
        let blob = MemoryBlob::of(garbage.clone());
        blob.fail_writes();
        let Err(Error::NotACatalogue { why: NoCatalogue::NoDatabase }) = Catalog::open(blob.clone()) else {
            panic!("{} bytes of garbage were opened", garbage.len());
        };
        assert_eq!(blob.bytes(), garbage);
    }
    Ok(())
}

#[test]
fn a_database_of_something_else_is_refused_with_no_byte_changed() -> Result<()> {
    let numbers: redb::TableDefinition<'_, u64, u64> = redb::TableDefinition::new("meta");
    let texts: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("meta");
    for case in 0..3 {
        let blob = MemoryBlob::empty();
        let database = Database::builder().create_with_backend(Backend::new(blob.clone())?)?;
        let transaction = database.begin_write()?;
        match case {
            0 => {}
            1 => drop(transaction.open_table(numbers)?),
            _ => drop(transaction.open_table(texts)?),
        }
        transaction.commit()?;
        database.close()?;
        let before = blob.bytes();
        let Err(Error::NotACatalogue { why: NoCatalogue::OtherTables }) = Catalog::open(blob.clone()) else {
            panic!("another database was opened");
        };
        assert_eq!(blob.bytes(), before);
    }
    Ok(())
}

/// Damages some of the words that say something, each in one of two ways, and those of the header in both.
fn damaged(whole: &[u8]) -> impl Iterator<Item = (usize, Arc<MemoryBlob>)> {
    let spoken = (0..whole.len()).step_by(8).filter(|at| whole[*at..*at + 8] != [0; 8]);
    let sampled = spoken.enumerate().filter(|(index, at)| *at < 512 || index % 23 == 0);
    let ways = sampled.flat_map(|(index, at)| {
        let both = [(at, [0; 8]), (at, [0xff; 8])];
        if at < 512 { both.to_vec() } else { vec![both[index % 2]] }
    });
    ways.map(|(at, garbage)| {
        let mut bytes = whole.to_vec();
        bytes[at..at + 8].copy_from_slice(&garbage);
        (at, MemoryBlob::of(bytes))
    })
}

#[test]
fn a_damaged_catalogue_is_refused_or_is_what_was_committed() -> Result<()> {
    let blob = MemoryBlob::empty();
    let catalog = Catalog::create(blob.clone(), Uuid::from_u128(1), Timestamp(0))?;
    catalog.commit(None, &world())?;
    let crashed = blob.bytes();
    catalog.close()?;
    let (mut refused, mut opened) = (0, 0);
    // After a crash, a last commit with damage in it is taken for one that did not arrive.
    for (whole, generations) in [(crashed, 0..=1), (blob.bytes(), 1..=1)] {
        for (at, blob) in damaged(&whole) {
            let before = blob.bytes();
            match Catalog::open(blob.clone()) {
                Ok(catalog) => {
                    assert!(generations.contains(&catalog.generation()), "word {at:#x}");
                    assert_eq!(catalog.read()?.verify()?, [], "word {at:#x}");
                    catalog.commit(None, &[machine(9).into()])?;
                    catalog.close()?;
                    opened += 1;
                }
                Err(Error::Damaged { .. } | Error::NotACatalogue { .. }) => {
                    assert!(blob.bytes() == before, "word {at:#x}: a refusal has changed it");
                    refused += 1;
                }
                Err(error) => panic!("word {at:#x}: {error:?}"),
            }
        }
    }
    assert!(refused > 50 && opened > 5, "{refused} refused, {opened} opened");
    Ok(())
}

#[test]
fn a_catalogue_that_is_cut_short_is_refused_with_no_byte_changed() -> Result<()> {
    let blob = MemoryBlob::empty();
    Catalog::create(blob.clone(), Uuid::from_u128(1), Timestamp(0))?.close()?;
    let whole = blob.bytes();
    for length in (0..whole.len()).step_by(4096).flat_map(|at| [at, at + 1, at + 4095]) {
        let cut = MemoryBlob::of(whole[..length.min(whole.len() - 1)].to_vec());
        let Err(Error::Damaged { .. } | Error::NotACatalogue { .. }) = Catalog::open(cut.clone()) else {
            panic!("{length} bytes of a catalogue were opened");
        };
        assert!(whole.starts_with(&cut.bytes()), "{length} bytes: a refusal has changed them");
    }
    Ok(())
}

#[test]
fn a_catalogue_that_is_trusted_is_opened_without_checking_all_of_it() -> Result<()> {
    let blob = MemoryBlob::empty();
    let catalog = Catalog::create(blob.clone(), Uuid::from_u128(1), Timestamp(0))?;
    let disk = volume(1, 1, 0, 1);
    let edits: Vec<_> = (1..=2000).map(|id| snapshot(id, &disk, 1, None, None).into()).collect();
    catalog.commit(None, &edits)?;
    catalog.close()?;
    // A name in the middle of a page that no opening needs.
    let mut bytes = blob.bytes();
    let name = b"snapshot-1234";
    let found: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(name)).collect();
    assert!(!found.is_empty(), "there is no such name");
    found.into_iter().for_each(|at| bytes[at] ^= 1);
    let open = |check| {
        let options = CatalogOptions { check, ..CatalogOptions::default() };
        Catalog::open_with(MemoryBlob::of(bytes.clone()), options)
    };
    let Err(Error::Damaged { .. }) = open(CatalogueCheck::Whole) else {
        panic!("a damaged page was not found");
    };
    open(CatalogueCheck::Trust)?.close()
}

#[test]
fn a_catalogue_is_not_created_over_bytes() {
    let blob = MemoryBlob::of(vec![1, 2, 3]);
    let Err(Error::NotEmpty { .. }) = Catalog::create(blob.clone(), Uuid::from_u128(1), Timestamp(0)) else {
        panic!("three bytes were overwritten");
    };
    assert_eq!(blob.bytes(), [1, 2, 3]);
}

#[test]
fn a_catalogue_is_shared_between_threads() {
    fn check<T: Send + Sync>() {}
    check::<Catalog>();
    check::<Reader>();
    check::<IdSource>();
}
