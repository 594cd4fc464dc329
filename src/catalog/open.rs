//! A catalogue is created in an empty blob, or opened from one that holds it.
//!
//! Nobody vouches for the bytes, and the database trusts those of a file that was closed properly: of pages that were
//! damaged since it makes what it can, and panics over some. So it is made to check every page that it can reach against
//! its checksum, which also repairs what a crash has left, and does that on a stage ([`Staged`]): not a byte of the blob is
//! changed before it is known that the bytes are sound, of this program, and of a version that is understood. Checksums
//! tell of damage; they do not tell of somebody who writes them anew.
//!
//! Where the bytes are to be trusted ([`CatalogueCheck::Trust`]) the pages of a file that was closed properly are not
//! checked; all else is the same.
//!
//! Then the owner's epoch is raised, by a commit that changes nothing else: from there on whoever had it open before is
//! refused ([`fence`](super::fence)).

use super::backend::Backend;
use super::error::{Error, NoCatalogue, Result};
use super::fence::Fence;
use super::kind::Kind;
use super::number::{FIRST, IdSource};
use super::queue::Queue;
use super::reader::Reader;
use super::record::Timestamp;
use super::staged::Staged;
use super::tables::{self, meta};
use crate::storage::Blob;
use crate::units::ByteCount;
use redb::{
    Builder, Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend,
    TableError,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use uuid::Uuid;

/// Whether every commit also writes what makes opening after a crash quick.
#[doc = include_str!("../engine/examples/opening.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum QuickRepair {
    /// A commit costs one sync; opening after a crash reads the whole catalogue.
    #[default]
    Off,
    /// A commit costs two syncs; opening after a crash costs as little as after a clean close.
    On,
}

/// What is checked of the catalogue when a pool is opened.
#[doc = include_str!("../engine/examples/opening.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CatalogueCheck {
    /// Every page, against its checksum: what is damaged is refused with a typed error. It costs about 2 ms for each
    /// thousand snapshots, which is a mebibyte, in a release build.
    #[default]
    Whole,
    /// Nothing that opening does not need: it then costs the same however much the catalogue holds. The database may
    /// panic over a page that was damaged.
    Trust,
}

/// How a catalogue is kept open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatalogOptions {
    /// The most memory that pages are kept in.
    pub cache: ByteCount,
    /// Whether every commit also writes what makes opening after a crash quick.
    pub quick_repair: QuickRepair,
    /// What is checked when it is opened.
    pub check: CatalogueCheck,
}

impl Default for CatalogOptions {
    fn default() -> Self {
        Self { cache: ByteCount::mib(32), quick_repair: QuickRepair::Off, check: CatalogueCheck::default() }
    }
}

/// Where a new catalogue begins to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the beginning.
    Empty,
    /// After a catalogue that was lost, as far as files tell of it.
    After {
        /// The generation that it begins with.
        generation: u64,
        /// The first id of a layer.
        layer: u64,
    },
}

/// The catalogue of a pool: read at one moment through [`Catalog::read`], changed through [`Catalog::commit`].
///
/// Dropping it closes it, and leaves a failure in that to the next opening; [`Catalog::close`] tells.
#[derive(Debug)]
pub struct Catalog {
    pub(super) database: Database,
    pub(super) options: CatalogOptions,
    pub(super) generation: AtomicU64,
    pub(super) ids: IdSource,
    pub(super) fence: Arc<Fence>,
    pub(super) queue: Queue,
    pool: Uuid,
    created: Timestamp,
    rebuilt: Option<u64>,
}

impl Catalog {
    /// Creates a catalogue in an empty blob. It is durable when this returns; the blob's name is the caller's
    /// business.
    ///
    /// # Errors
    ///
    /// [`Error::NotEmpty`]; [`Error::Storage`], after which the blob may hold anything.
    #[cfg(test)]
    pub fn create(blob: Arc<dyn Blob>, pool: Uuid, created: Timestamp) -> Result<Self> {
        Self::create_with(blob, pool, created, CatalogOptions::default())
    }

    /// Creates a catalogue in an empty blob, with options.
    ///
    /// # Errors
    ///
    /// As [`Catalog::create`].
    pub fn create_with(
        blob: Arc<dyn Blob>,
        pool: Uuid,
        created: Timestamp,
        options: CatalogOptions,
    ) -> Result<Self> {
        Self::create_from(blob, pool, created, Start::Empty, options)
    }

    /// Creates a catalogue in an empty blob, which goes on from where another one was lost.
    ///
    /// # Errors
    ///
    /// As [`Catalog::create`].
    pub fn create_from(
        blob: Arc<dyn Blob>,
        pool: Uuid,
        created: Timestamp,
        start: Start,
        options: CatalogOptions,
    ) -> Result<Self> {
        let length = blob.length()?;
        if !length.is_zero() {
            return Err(Error::NotEmpty { length });
        }
        let backend = Backend::new(blob)?;
        let fence = backend.fence();
        let database = builder(options).create_with_backend(backend)?;
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut table = transaction.open_table(tables::META)?;
            table.insert(meta::FORMAT, &tables::FORMAT.to_be_bytes()[..])?;
            table.insert(meta::POOL, &pool.as_bytes()[..])?;
            table.insert(meta::CREATED, &created.0.to_be_bytes()[..])?;
            let mut next = [FIRST; Kind::ALL.len()];
            let generation = match start {
                Start::Empty => 0,
                Start::After { generation, layer } => {
                    next[Kind::Layer.slot()] = layer;
                    table.insert(meta::REBUILT, &layer.to_be_bytes()[..])?;
                    generation
                }
            };
            table.insert(meta::GENERATION, &generation.to_be_bytes()[..])?;
            table.insert(meta::EPOCH, &FIRST_EPOCH.to_be_bytes()[..])?;
            table.insert(meta::SNAPSHOT_BYTES, &0_u64.to_be_bytes()[..])?;
            table.insert(meta::NEXT, tables::next_value(next).as_slice())?;
            for kind in Kind::ALL {
                transaction.open_table(tables::records(kind))?;
            }
            transaction.open_table(tables::REFS)?;
            transaction.open_table(tables::UUIDS)?;
            transaction.open_table(tables::INDEX)?;
        }
        transaction.commit()?;
        fence.begin(FIRST_EPOCH);
        Self::load(database, fence, options)
    }

    /// Opens the catalogue in a blob, and repairs it when it was not closed.
    ///
    /// # Errors
    ///
    /// [`Error::NotACatalogue`], [`Error::NewerVersion`] and [`Error::Damaged`], with no byte changed;
    /// [`Error::Storage`].
    #[cfg(test)]
    pub fn open(blob: Arc<dyn Blob>) -> Result<Self> {
        Self::open_with(blob, CatalogOptions::default())
    }

    /// Opens the catalogue in a blob, with options.
    ///
    /// # Errors
    ///
    /// As [`Catalog::open`].
    pub fn open_with(blob: Arc<dyn Blob>, options: CatalogOptions) -> Result<Self> {
        let (database, staged) = Self::stage(blob, options)?;
        staged.settle().map_err(redb::StorageError::from)?;
        let fence = staged.fence();
        begin_epoch(&database, &fence, options)?;
        Self::load(database, fence, options)
    }

    /// Checks every page of the catalogue in a blob, and answers the number of its commits. Not a byte is changed.
    ///
    /// # Errors
    ///
    /// As [`Catalog::open`].
    pub fn look(blob: Arc<dyn Blob>, options: CatalogOptions) -> Result<u64> {
        let (database, _) = Self::stage(blob, CatalogOptions { check: CatalogueCheck::Whole, ..options })?;
        tables::meta_number(&database.begin_read()?.open_table(tables::META)?, meta::GENERATION)
    }

    /// Opens the database in a blob, of which not a byte is changed until the stage is settled, and refuses one that is no
    /// catalogue, or of a newer version.
    fn stage(blob: Arc<dyn Blob>, options: CatalogOptions) -> Result<(Database, Staged)> {
        let staged = Staged::over(blob)?;
        if staged.len().map_err(redb::StorageError::from)? == 0 {
            return Err(Error::NotACatalogue { why: NoCatalogue::NoDatabase });
        }
        let database = builder(options)
            .set_check_integrity_on_open(options.check == CatalogueCheck::Whole)
            .create_with_backend(staged.clone())?;
        check_version(&database.begin_read()?)?;
        Ok((database, staged))
    }

    /// Takes over a database of a version that is understood.
    fn load(database: Database, fence: Arc<Fence>, options: CatalogOptions) -> Result<Self> {
        let table = database.begin_read()?.open_table(tables::META)?;
        Ok(Self {
            options,
            generation: AtomicU64::new(tables::meta_number(&table, meta::GENERATION)?),
            ids: IdSource::new(tables::meta_next(&table)?),
            fence,
            queue: Queue::default(),
            pool: tables::meta_pool(&table)?,
            created: tables::meta_created(&table)?,
            rebuilt: match table.get(meta::REBUILT)? {
                Some(_) => Some(tables::meta_number(&table, meta::REBUILT)?),
                None => None,
            },
            database,
        })
    }

    /// Closes the catalogue, so that the next opening has nothing to repair. Readers that are left cannot read on.
    ///
    /// # Errors
    ///
    /// [`Error::Storage`] or [`Error::Halted`]: the next opening repairs.
    pub fn close(self) -> Result<()> {
        self.fence.begin_transaction();
        Ok(self.database.close()?)
    }

    /// The uuid of the pool.
    pub fn pool(&self) -> Uuid {
        self.pool
    }

    /// When the catalogue was created.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// In a catalogue that was made anew from the files: the first id of a layer that it has given out itself.
    pub fn rebuilt(&self) -> Option<u64> {
        self.rebuilt
    }

    /// The number of commits so far.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// How often the catalogue was opened, this time counted.
    pub fn epoch(&self) -> u64 {
        self.fence.epoch()
    }

    /// Refuses once another owner was found to have written the catalogue. Reads nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotOwner`].
    pub fn check_owner(&self) -> Result<()> {
        self.fence.check().map_err(|lost| Error::NotOwner { epoch: lost.epoch })
    }

    /// Looks whether another owner has written the catalogue: one read.
    ///
    /// # Errors
    ///
    /// [`Error::NotOwner`]; [`Error::Storage`] when the look failed.
    pub fn look_for_owner(&self) -> Result<()> {
        Ok(self.fence.look().map_err(redb::StorageError::from)?)
    }

    /// A source of ids for new records.
    pub fn ids(&self) -> IdSource {
        self.ids.clone()
    }

    /// Everything as of now; later commits do not disturb it.
    ///
    /// # Errors
    ///
    /// [`Error::NotOwner`] when another owner has opened the pool since: what is where is its business now, and pages that
    /// this one knows may hold anything. [`Error::Storage`]; [`Error::Database`].
    pub fn read(&self) -> Result<Reader> {
        self.look_for_owner()?;
        Reader::open(self.database.begin_read()?, self.ids.clone())
    }
}

fn builder(options: CatalogOptions) -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(options.cache.as_usize());
    builder
}

/// The epoch of whoever makes a catalogue.
const FIRST_EPOCH: u64 = 1;

/// Raises the owner's epoch. Durable before anything of the catalogue is relied on: whoever had it open before cannot
/// change it from here on.
fn begin_epoch(database: &Database, fence: &Fence, options: CatalogOptions) -> Result<()> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_quick_repair(options.quick_repair == QuickRepair::On);
    {
        let mut table = transaction.open_table(tables::META)?;
        let epoch = match table.get(meta::EPOCH)?.is_some() {
            true => tables::meta_number(&table, meta::EPOCH)? + 1,
            false => FIRST_EPOCH,
        };
        fence.begin(epoch);
        table.insert(meta::EPOCH, &epoch.to_be_bytes()[..])?;
        if table.get(meta::SNAPSHOT_BYTES)?.is_none() {
            let snapshots = transaction.open_table(tables::records(Kind::Snapshot))?;
            let bytes = tables::sum_snapshot_bytes(&snapshots)?;
            table.insert(meta::SNAPSHOT_BYTES, &bytes.to_be_bytes()[..])?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Whether a database is a catalogue of a version that is understood.
fn check_version(transaction: &ReadTransaction) -> Result<()> {
    let table = match transaction.open_table(tables::META) {
        Ok(table) => table,
        Err(TableError::Storage(error)) => return Err(error.into()),
        Err(_) => return Err(Error::NotACatalogue { why: NoCatalogue::OtherTables }),
    };
    if table.get(meta::FORMAT)?.is_none() {
        return Err(Error::NotACatalogue { why: NoCatalogue::OtherTables });
    }
    let found = tables::meta_number(&table, meta::FORMAT)?;
    if found > tables::FORMAT {
        return Err(Error::NewerVersion { found, supported: tables::FORMAT });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
            let Err(Error::NotACatalogue { why: NoCatalogue::NoDatabase }) = Catalog::open(blob.clone())
            else {
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
            let Err(Error::NotACatalogue { why: NoCatalogue::OtherTables }) = Catalog::open(blob.clone())
            else {
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
        let Err(Error::NotEmpty { .. }) = Catalog::create(blob.clone(), Uuid::from_u128(1), Timestamp(0))
        else {
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
}
