//! What can go wrong below: one variant per broken promise, with the blob and the operation.

use super::{BlobName, Holder};
use crate::units::{ByteCount, HostOffset};
use std::{fmt, io};

/// The result of a call to a store or a blob.
///
/// An example is at [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// The call that failed.
///
/// An example is at [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant is the name of the call")]
pub enum Operation {
    OpenStore,
    Create,
    Open,
    Remove,
    List,
    SyncNames,
    Lock,
    Length,
    Read,
    Write,
    SetLength,
    Punch,
    Sync,
    Allocated,
    NextData,
    WriterElsewhere,
    Hold,
    Stamp,
    Links,
    Persist,
}

/// What was done, as a message begins: `writing`, before the name of the blob.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::OpenStore => "opening the directory",
            Self::Create => "creating",
            Self::Open => "opening",
            Self::Remove => "removing",
            Self::List => "listing",
            Self::SyncNames => "syncing the names in",
            Self::Lock => "locking",
            Self::Length => "asking for the length of",
            Self::Read => "reading",
            Self::Write => "writing",
            Self::SetLength => "setting the length of",
            Self::Punch => "making a hole in",
            Self::Sync => "syncing",
            Self::Allocated => "asking for the blocks of",
            Self::NextData => "looking for data in",
            Self::WriterElsewhere => "looking for who writes to",
            Self::Hold => "taking image locks on",
            Self::Stamp => "looking at",
            Self::Links => "counting the names of",
            Self::Persist => "giving its name to",
        })
    }
}

/// What can go wrong in a store or a blob.
#[doc = include_str!("examples/errors.md")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name is taken.
    #[error("{name} exists already")]
    Exists {
        /// The blob.
        name: BlobName,
    },
    /// No blob has the name.
    #[error("{name} is not there")]
    NotFound {
        /// The blob.
        name: BlobName,
    },
    /// The name leads to a link, a directory, a device or a pipe.
    #[error("{name} is not a regular file")]
    NotRegular {
        /// The blob.
        name: BlobName,
    },
    /// The blob was opened for reading, or lies in a base directory.
    #[error("{name} is only read{}", because(.name))]
    ReadOnly {
        /// The blob.
        name: BlobName,
    },
    /// A read reached past the end.
    #[error("{name}: a read of {length} at {at} reaches past its end at {end}")]
    PastEnd {
        /// The blob.
        name: BlobName,
        /// Where the read began.
        at: HostOffset,
        /// How much it wanted.
        length: ByteCount,
        /// How long the blob is.
        end: ByteCount,
    },
    /// Another owner holds the store.
    #[error("{location} is in use by another owner{}", by(.holder))]
    Locked {
        /// The store.
        location: String,
        /// Who holds it, when the system tells.
        holder: Option<Holder>,
    },
    /// Another process uses the blob, in a way that stands against what is asked.
    #[error("{name} is in use by another process{}", by(&Some(.holder.clone())))]
    InUse {
        /// The blob.
        name: BlobName,
        /// Who uses it.
        holder: Holder,
    },
    /// The system failed a call; the blob may hold any part of what was asked for.
    #[error("{operation} {name} failed")]
    Io {
        /// The call.
        operation: Operation,
        /// The blob, or the store itself.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// A sync failed: nothing is known about what is durable.
    #[error("{operation} {name} failed: what is durable is unknown until the pool is opened again")]
    SyncFailed {
        /// `Sync` or `SyncNames`.
        operation: Operation,
        /// The blob, or the store itself.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// An earlier sync failed; nothing more is written until the store is opened anew.
    #[error("no further write after a failed sync ({cause}): open the pool again")]
    Poisoned {
        /// The message of the sync that failed.
        cause: String,
    },
}

impl Error {
    /// The failure of one call: [`Error::SyncFailed`] for the two syncs, [`Error::Io`] for all others.
    pub(super) fn failed(operation: Operation, name: impl ToString, source: io::Error) -> Self {
        let name = name.to_string();
        match operation {
            Operation::Sync | Operation::SyncNames => Self::SyncFailed { operation, name, source },
            _ => Self::Io { operation, name, source },
        }
    }
}

/// Why a blob is only read.
fn because(name: &BlobName) -> &'static str {
    if name.is_in_base() { ": it lies in a base directory" } else { ": it is open for reading" }
}

/// " (process 42)", or nothing.
fn by(holder: &Option<Holder>) -> String {
    match holder {
        Some(Holder { process: Some(process) }) => format!(" (process {process})"),
        _ => String::new(),
    }
}
