//! Why an archive did not do what it was asked for.

use crate::engine;
use crate::units::ByteCount;
use ::object_store::path::Path;
use uuid::Uuid;

/// The result of a call to an archive.
///
/// An example is at [`object_store`](crate::object_store).
pub type Result<T> = std::result::Result<T, ArchiveError>;

/// Why a call to an archive failed.
///
/// An example is at [`object_store`](crate::object_store).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The pool failed, or refused.
    #[error(transparent)]
    Pool(#[from] engine::Error),
    /// The back end failed.
    #[error("the back end failed at {object}")]
    Store {
        /// The object.
        object: String,
        /// Why.
        source: ::object_store::Error,
    },
    /// The prefix is no path.
    #[error("{prefix:?} is no prefix")]
    Prefix {
        /// What was given.
        prefix: String,
        /// Why not.
        source: ::object_store::path::Error,
    },
    /// A member of the group is gone: what is left would not be the group.
    #[error("group {} is not whole: the snapshot of volume {} was deleted", .group.simple(), .volume.simple())]
    NotWhole {
        /// The group.
        group: Uuid,
        /// The volume of the member.
        volume: Uuid,
    },
    /// The archive has no such group.
    #[error("the archive has no group {}", .group.simple())]
    NoGroup {
        /// The group.
        group: Uuid,
    },
    /// The manifest of a group breaks a rule.
    #[error("the manifest of group {} cannot be used: {rule}", .group.simple())]
    Manifest {
        /// The group.
        group: Uuid,
        /// The rule.
        rule: String,
    },
    /// The archive has no such layer, although a manifest names it.
    #[error("the archive has no {object}")]
    Missing {
        /// The object that is missing.
        object: String,
    },
    /// An object has another length than it should have.
    #[error("{object} has {found}, expected {expected}")]
    Length {
        /// The object.
        object: String,
        /// The length that it should have.
        expected: ByteCount,
        /// The length that it has.
        found: ByteCount,
    },
    /// An object is not what was sealed.
    #[error("{object} is not what was sealed, at {at:#x} of the disk")]
    Differs {
        /// The object.
        object: String,
        /// Where the first bytes that differ belong, up to a few mebibytes before.
        at: u64,
    },
    /// An object that should be a seal is none, or another one.
    #[error("{object} is not the seal that it should be: {rule}")]
    Seal {
        /// The object.
        object: String,
        /// What is wrong.
        rule: String,
    },
}

impl ArchiveError {
    pub(super) fn store(path: &Path, source: ::object_store::Error) -> Self {
        match source {
            ::object_store::Error::NotFound { .. } => Self::Missing { object: path.to_string() },
            source => Self::Store { object: path.to_string(), source },
        }
    }
}
