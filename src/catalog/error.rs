//! What can go wrong in the catalogue: one variant per broken rule.

use super::encoding::Malformed;
use super::fence::NotOwner;
use super::id::{GroupId, LayerId, MachineId};
use super::kind::Entity;
use super::query::{FieldType, Value};
use crate::storage;
use crate::units::ByteCount;
use std::sync::Arc;
use std::{fmt, io};
use uuid::Uuid;

/// The result of a call to the catalogue.
pub type Result<T> = std::result::Result<T, Error>;

/// A place in the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The record of one thing.
    Record(Entity),
    /// A group's record of one member.
    Ref(GroupId, u32),
    /// The prepared group of a machine.
    Prepared(MachineId),
    /// One entry of the table about the catalogue itself.
    Meta(&'static str),
    /// The uuid table, at one uuid.
    Uuid(Uuid),
    /// The index.
    Index,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(entity) => entity.fmt(f),
            Self::Ref(group, ordinal) => write!(f, "ref {ordinal} of group {}", group.0),
            Self::Prepared(machine) => write!(f, "the prepared group of machine {}", machine.0),
            Self::Meta(name) => write!(f, "meta {name:?}"),
            Self::Uuid(uuid) => write!(f, "uuid {}", uuid.simple()),
            Self::Index => f.write_str("the index"),
        }
    }
}

/// By what bytes were found to be no catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoCatalogue {
    /// They are not a database at all.
    NoDatabase,
    /// They are a database of something else.
    OtherTables,
}

impl fmt::Display for NoCatalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoDatabase => "these bytes are no database",
            Self::OtherTables => "this database holds something else",
        })
    }
}

/// What can go wrong in the catalogue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are something else. Nothing was changed.
    #[error("not a catalogue: {why}")]
    NotACatalogue {
        /// By what it was found.
        why: NoCatalogue,
    },
    /// A newer program wrote the catalogue. Nothing was changed.
    #[error("the catalogue has format version {found}, up to {supported} is understood: use a newer version")]
    NewerVersion {
        /// The version of the catalogue.
        found: u64,
        /// The newest version that is understood.
        supported: u64,
    },
    /// A catalogue is only created in an empty blob.
    #[error("a catalogue is created in an empty blob, this one holds {length}")]
    NotEmpty {
        /// What it holds.
        length: ByteCount,
    },
    /// A stored value does not decode.
    #[error("{place} does not decode")]
    Malformed {
        /// Where it stands.
        place: Place,
        /// Which rule it breaks.
        source: Malformed,
    },
    /// What names a thing that is not there.
    #[error("{from} names {to}, which is not there")]
    Dangling {
        /// What names it.
        from: Place,
        /// What is missing.
        to: Entity,
    },
    /// A chain comes back to a layer that it went through before.
    #[error("the chain below layer {} comes back to it", layer.0)]
    ChainLoops {
        /// The layer that was met twice.
        layer: LayerId,
    },
    /// A chain is longer than any lawful one.
    #[error("the chain of layer {} is longer than {limit} layers", layer.0)]
    ChainTooLong {
        /// Its top.
        layer: LayerId,
        /// The most layers that are followed.
        limit: usize,
    },
    /// The catalogue has moved on since the edits were decided. Nothing was changed.
    #[error("the edits were decided on generation {expected}, the catalogue is at {found}: read it again")]
    Stale {
        /// What the edits were decided on.
        expected: u64,
        /// What the catalogue is at.
        found: u64,
    },
    /// Two things must not have the same uuid. Nothing was changed.
    #[error("uuid {} of {wanted} is taken by {by}", uuid.simple())]
    UuidTaken {
        /// The uuid.
        uuid: Uuid,
        /// Who has it.
        by: Entity,
        /// Who wanted it.
        wanted: Entity,
    },
    /// Two things must not have the same id, and a thing keeps its uuid for life. Nothing was changed.
    #[error("{entity} is {}, not {}", found.simple(), wanted.simple())]
    IdTaken {
        /// The id.
        entity: Entity,
        /// The uuid it has.
        found: Uuid,
        /// The uuid it was to have.
        wanted: Uuid,
    },
    /// What is to be removed is not there. Nothing was changed.
    #[error("{place} is to be removed and is not there")]
    Absent {
        /// What is not there.
        place: Place,
    },
    /// A condition compares a field with what it never is.
    #[error("{field} is compared with {found:?}, its values are of type {expected:?}")]
    BadValue {
        /// The field.
        field: String,
        /// What its values are.
        expected: FieldType,
        /// What it is compared with.
        found: Value,
    },
    /// The blob failed a call. Nothing was committed; no further commit succeeds until the pool is opened again.
    #[error("the catalogue's blob failed")]
    Storage {
        /// What the blob said.
        source: storage::Error,
    },
    /// The bytes are not what was written: pages or checksums do not fit. Nothing was changed.
    #[error("the catalogue is damaged: restore it, or make it anew from the files")]
    Damaged {
        /// What the database said.
        source: Box<redb::Error>,
    },
    /// The database below refused a call.
    #[error("the catalogue's database failed")]
    Database {
        /// What it said.
        source: Box<redb::Error>,
    },
    /// An earlier call failed below; nothing more is done until the catalogue is opened again.
    #[error("an earlier call failed below: open the pool again")]
    Halted,
    /// The catalogue was closed under a reader.
    #[error("the catalogue is closed")]
    Closed,
    /// Another owner has written the catalogue: whoever had it before changes nothing any more. Nothing was changed.
    #[error("another owner has opened the pool since opening {epoch}, which was ours")]
    NotOwner {
        /// The opening that is over; 0 for one that had not got so far.
        epoch: u64,
    },
    /// The blob failed in the middle of the commit: whether the edits are durable shows when it is opened again.
    #[error("whether the commit is durable is unknown until the pool is opened again")]
    CommitUnknown {
        /// What failed.
        source: Arc<Error>,
    },
}

impl Error {
    /// Sorts what the database said into our own rules; an error of our blob comes out as it went in.
    fn of(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<NotOwner>()) => {
                let lost = error.downcast::<NotOwner>().expect("it was looked at");
                Self::NotOwner { epoch: lost.epoch }
            }
            redb::Error::Io(error) => match error.downcast::<storage::Error>() {
                Ok(source) => Self::Storage { source },
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    Self::NotACatalogue { why: NoCatalogue::NoDatabase }
                }
                // A page that another one names lies behind the end.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Self::Damaged { source: Box::new(redb::Error::Io(error)) }
                }
                Err(error) => Self::Database { source: Box::new(redb::Error::Io(error)) },
            },
            error @ (redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_)) => {
                Self::Damaged { source: Box::new(error) }
            }
            redb::Error::PreviousIo => Self::Halted,
            redb::Error::DatabaseClosed => Self::Closed,
            error => Self::Database { source: Box::new(error) },
        }
    }
}

/// Takes over one of the errors of the database.
macro_rules! from_database {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for Error {
            fn from(error: redb::$error) -> Self {
                Self::of(error.into())
            }
        }
    )*};
}

from_database!(StorageError, TableError, TransactionError, DatabaseError, CommitError, SetDurabilityError);

impl From<storage::Error> for Error {
    fn from(source: storage::Error) -> Self {
        Self::Storage { source }
    }
}
