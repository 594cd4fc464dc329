//! What a caller is told when a call fails: what to match on, what to show, what to do.

use super::adopt_rule::AdoptRule;
use super::catalogue_error::CatalogueError;
use super::epoch::Epoch;
use super::live::{HookError, WritesTo};
use crate::catalog;
use crate::image;
use crate::inventory::ErrorCode;
use crate::plan::refusal::{Code, Refusal};
use crate::storage;
use uuid::Uuid;

/// The result of a call to an engine. With another error it is the plain one, so that a program may name everything of
/// this crate at once.
#[doc = include_str!("examples/errors.md")]
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller can do about an error.
#[doc = include_str!("examples/errors.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Nothing has happened. Ask differently, or change what stands in the way.
    Refused,
    /// Bytes on disk are not what they must be. Nothing was written; run a check.
    Corrupt,
    /// The disk or the system failed. Open the pool again.
    Failed,
}

/// Why a call failed.
#[doc = include_str!("examples/errors.md")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A rule stands against the call. Nothing has happened.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The directory holds files but no catalogue.
    #[error(
        "{location} is not a pool: it has no {expected} (to make one beside the files, open it with CreatePool::Here)"
    )]
    NotAPool {
        /// The directory.
        location: String,
        /// The file that a pool has.
        expected: String,
    },
    /// The pool was to be opened, not made.
    #[error("there is no pool at {location}")]
    NoPool {
        /// The directory.
        location: String,
    },
    /// The file of a layer is not there.
    #[error("the file {blob} of volume {} is missing", .volume.simple())]
    LayerMissing {
        /// The volume whose chain needs it.
        volume: Uuid,
        /// The file.
        blob: String,
    },
    /// The file of a layer is not the one that the catalogue describes.
    #[error("the file {blob} of volume {} is not what the catalogue says: its {what} is {found}, expected {expected}", .volume.simple())]
    LayerDisagrees {
        /// The volume whose chain needs it.
        volume: Uuid,
        /// The file.
        blob: String,
        /// What differs.
        what: &'static str,
        /// What the catalogue says.
        expected: String,
        /// What the file says.
        found: String,
    },
    /// The file of a layer cannot be used.
    #[error("the file {blob} of volume {} cannot be used", .volume.simple())]
    Layer {
        /// The volume whose chain needs it.
        volume: Uuid,
        /// The file.
        blob: String,
        /// Why.
        source: Box<image::Error>,
    },
    /// Another process uses a file of a volume, in a way that stands against the call.
    #[error("the file {blob} of volume {} is in use by another process{}", .volume.simple(), process(.holder))]
    HeadInUse {
        /// The volume.
        volume: Uuid,
        /// The file.
        blob: String,
        /// Who, when the system tells.
        holder: storage::Holder,
    },
    /// A file cannot be taken over.
    #[error("{blob} cannot be taken over: {rule}")]
    NotAdoptable {
        /// The file.
        blob: String,
        /// The rule that it breaks.
        rule: AdoptRule,
    },
    /// Guest data that was never flushed is lost: the flush of the last handle failed when it was dropped.
    #[error("what was written to volume {} and not flushed is lost: the flush failed when its last handle was dropped ({cause})", .volume.simple())]
    Lost {
        /// The volume.
        volume: Uuid,
        /// Why the flush failed.
        cause: String,
    },
    /// Reading or writing guest data failed.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// The catalogue failed.
    #[error("the catalogue of the pool failed")]
    Catalog(#[source] CatalogueError),
    /// The catalogue was written by a newer version of this crate.
    #[error("the catalogue has format {found}, this version reads up to {supported}")]
    NewerVersion {
        /// Its format.
        found: u64,
        /// The newest format that is read.
        supported: u64,
    },
    /// A write or the sync of the publishing commit failed. Whether the call took place is known once the pool is opened
    /// again; the same `resource_uuid` then tells.
    #[error("whether the call took place is unknown: its commit failed half way; open the pool again")]
    OutcomeUnknown(#[source] CatalogueError),
    /// Another owner has opened the pool since: its lock was lost, or the file system keeps none. Nothing was changed, and
    /// this engine changes nothing any more. What was flushed before is there; open the pool again, once nobody else has it.
    #[error("the pool was opened by another owner: opening {epoch}, which was ours, is over")]
    NotOwner {
        /// The opening that is over: see [`Engine::epoch`](super::Engine::epoch). 0 when this one had not got so far.
        epoch: Epoch,
    },
    /// The call took place and is durable, but dealing with the bytes that it left has ended all changes of the pool.
    /// Once the pool is opened again, [`Engine::reclaim`](super::Engine::reclaim) goes on with them.
    #[error("the call took place, but the bytes that it left were not dealt with; open the pool again")]
    NotReclaimed(#[source] Box<Error>),
    /// The guest did not settle, and no group was to be taken then. Nothing has changed.
    #[error("no group was taken: the guest did not settle")]
    NotFrozen {
        /// Why.
        source: HookError,
    },
    /// The process that runs the machine did not switch its disks. Nothing has changed.
    #[error("no group was taken: the disks were not switched")]
    NotSwitched {
        /// Why.
        source: HookError,
    },
    /// Not every disk was switched, or nobody knows; or none was, and an overlay holds what was written to it before its
    /// disk went back. The group stays prepared, and nothing was removed:
    /// [`Engine::resume_group`](super::Engine::resume_group) takes it up.
    #[error("whether the disks of group {} were switched is unknown: it stays prepared", .group.simple())]
    SwitchUnknown {
        /// The group.
        group: Uuid,
        /// Where each disk writes to, by device id; empty when it could not be found out.
        seen: Vec<WritesTo>,
        /// What went wrong.
        source: HookError,
    },
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl Error {
    /// The area of the error, which has a code such as `SYS.1007`.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::NotAPool { .. } | Self::NoPool { .. } => Code::NotFound,
            Self::LayerMissing { .. }
            | Self::LayerDisagrees { .. }
            | Self::Layer { .. }
            | Self::HeadInUse { .. }
            | Self::NotAdoptable { .. }
            | Self::NewerVersion { .. }
            | Self::NotFrozen { .. }
            | Self::NotSwitched { .. }
            | Self::SwitchUnknown { .. }
            | Self::NotOwner { .. }
            | Self::Storage(
                storage::Error::Locked { .. }
                | storage::Error::Exists { .. }
                | storage::Error::Poisoned { .. },
            ) => Code::Operation,
            Self::Image(image::Error::PastEndOfDisk { .. } | image::Error::Shrink { .. }) => {
                Code::InvalidArgument
            }
            Self::Image(_) | Self::Storage(_) | Self::Lost { .. } => Code::Io,
            Self::Catalog(_) | Self::OutcomeUnknown(_) => Code::Internal,
            Self::NotReclaimed(cause) => cause.code(),
        }
    }

    /// What can be done about it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Refused(_)
            | Self::NotAPool { .. }
            | Self::NoPool { .. }
            | Self::HeadInUse { .. }
            | Self::NotAdoptable { .. }
            | Self::NewerVersion { .. }
            | Self::NotFrozen { .. }
            | Self::NotSwitched { .. }
            | Self::Storage(storage::Error::Locked { .. } | storage::Error::Exists { .. }) => Kind::Refused,
            Self::LayerMissing { .. } | Self::LayerDisagrees { .. } => Kind::Corrupt,
            Self::Layer { source, .. } => image_kind(source),
            Self::Image(source) => image_kind(source),
            Self::Catalog(error) => catalog_kind(&error.0),
            Self::OutcomeUnknown(_)
            | Self::NotOwner { .. }
            | Self::NotReclaimed(_)
            | Self::SwitchUnknown { .. }
            | Self::Storage(_)
            | Self::Lost { .. } => Kind::Failed,
        }
    }

    /// The error in the shape that it has in JSON, with everything that caused it.
    #[must_use]
    pub fn to_error_code(&self) -> ErrorCode {
        let code = self.code();
        let mut shown = ErrorCode::new(code.as_str(), code.description()).with_details(self.to_string());
        if let Some(cause) = std::error::Error::source(self) {
            shown = shown.with_cause(cause_code(code, cause));
        }
        shown
    }
}

/// What caused an error, in the shape that it has in JSON.
fn cause_code(code: Code, cause: &(dyn std::error::Error + 'static)) -> ErrorCode {
    let inner = if code == Code::Operation { Code::Io } else { code };
    let shown = ErrorCode::new(inner.as_str(), inner.description()).with_details(cause.to_string());
    match cause.source() {
        Some(deeper) => shown.with_cause(cause_code(inner, deeper)),
        None => shown,
    }
}

fn catalog_kind(error: &catalog::Error) -> Kind {
    match error {
        catalog::Error::Storage { .. } | catalog::Error::Halted | catalog::Error::CommitUnknown { .. } => {
            Kind::Failed
        }
        _ => Kind::Corrupt,
    }
}

fn image_kind(error: &image::Error) -> Kind {
    match error {
        image::Error::Format { .. }
        | image::Error::OutsideFile { .. }
        | image::Error::OnHeader { .. }
        | image::Error::OnTables { .. }
        | image::Error::Unsound { .. }
        | image::Error::Storage(storage::Error::PastEnd { .. }) => Kind::Corrupt,
        image::Error::Storage(_) | image::Error::Failed { .. } => Kind::Failed,
        _ => Kind::Refused,
    }
}

impl From<catalog::Error> for Error {
    fn from(error: catalog::Error) -> Self {
        match error {
            catalog::Error::NewerVersion { found, supported } => Self::NewerVersion { found, supported },
            catalog::Error::UuidTaken { uuid, by, .. } => {
                Self::Refused(Refusal::UuidTaken { uuid, by: super::pool::kind_of(by) })
            }
            catalog::Error::Stale { expected, found } => {
                Self::Refused(Refusal::Stale { planned: expected, now: found })
            }
            error @ catalog::Error::BadValue { .. } => {
                Self::Refused(Refusal::WrongType { condition: error.to_string() })
            }
            catalog::Error::NotOwner { epoch } => Self::NotOwner { epoch: Epoch(epoch) },
            error @ catalog::Error::CommitUnknown { .. } => Self::OutcomeUnknown(CatalogueError(error)),
            error => Self::Catalog(CatalogueError(error)),
        }
    }
}

/// " (process 42)", or nothing.
fn process(holder: &storage::Holder) -> String {
    holder.process.map_or_else(String::new, |process| format!(" (process {process})"))
}
