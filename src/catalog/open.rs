//! A catalogue is created in an empty blob, or opened from one that holds it.
//!
//! Opening reads before it writes: the database is first opened for reading only, so that bytes of another program
//! and a catalogue of a newer version are refused with not a byte changed. A database that was not closed properly
//! cannot be read that way; it is repaired first, which is the only write before the version is known.

use super::backend::Backend;
use super::error::{Error, NoCatalogue, Result};
use super::kind::Kind;
use super::number::{FIRST, IdSource};
use super::reader::Reader;
use super::record::Timestamp;
use super::tables::{self, meta};
use crate::storage::Blob;
use crate::units::ByteCount;
use redb::{Builder, Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, TableError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use uuid::Uuid;

/// Whether every commit also writes what makes opening after a crash quick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum QuickRepair {
    /// A commit costs one sync; opening after a crash reads the whole catalogue.
    #[default]
    Off,
    /// A commit costs two syncs; opening after a crash costs as little as after a clean close.
    On,
}

/// How a catalogue is kept open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatalogOptions {
    /// The most memory that pages are kept in.
    pub cache: ByteCount,
    /// Whether every commit also writes what makes opening after a crash quick.
    pub quick_repair: QuickRepair,
}

impl Default for CatalogOptions {
    fn default() -> Self {
        Self { cache: ByteCount::mib(32), quick_repair: QuickRepair::Off }
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
        let database = builder(options).create_with_backend(Backend::new(blob))?;
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
            table.insert(meta::NEXT, tables::next_value(next).as_slice())?;
            for kind in Kind::ALL {
                transaction.open_table(tables::records(kind))?;
            }
            transaction.open_table(tables::REFS)?;
            transaction.open_table(tables::UUIDS)?;
            transaction.open_table(tables::INDEX)?;
        }
        transaction.commit()?;
        Self::load(database, options)
    }

    /// Opens the catalogue in a blob, and repairs it when it was not closed.
    ///
    /// # Errors
    ///
    /// [`Error::NotACatalogue`] and [`Error::NewerVersion`], with no byte changed (save for the repair of a database
    /// that was not closed); [`Error::Database`] when the bytes are damaged; [`Error::Storage`].
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
        match builder(options).open_read_only_with_backend(Backend::new(blob.clone())) {
            Ok(database) => {
                check_version(&database.begin_read()?)?;
                database.close()?;
            }
            Err(DatabaseError::RepairAborted) => {}
            Err(error) => return Err(error.into()),
        }
        let database = builder(options).create_with_backend(Backend::new(blob))?;
        check_version(&database.begin_read()?)?;
        Self::load(database, options)
    }

    /// Takes over a database of a version that is understood.
    fn load(database: Database, options: CatalogOptions) -> Result<Self> {
        let table = database.begin_read()?.open_table(tables::META)?;
        Ok(Self {
            options,
            generation: AtomicU64::new(tables::meta_number(&table, meta::GENERATION)?),
            ids: IdSource::new(tables::meta_next(&table)?),
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

    /// A source of ids for new records.
    pub fn ids(&self) -> IdSource {
        self.ids.clone()
    }

    /// Everything as of now; later commits do not disturb it.
    ///
    /// # Errors
    ///
    /// [`Error::Storage`]; [`Error::Database`].
    pub fn read(&self) -> Result<Reader> {
        Reader::open(&self.database.begin_read()?, self.ids.clone())
    }
}

fn builder(options: CatalogOptions) -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(options.cache.as_usize());
    builder
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
            let database = Database::builder().create_with_backend(Backend::new(blob.clone()))?;
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
