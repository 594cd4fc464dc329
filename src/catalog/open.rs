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
mod tests;
