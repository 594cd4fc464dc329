//! What can go wrong in one image: its bytes, its limits, or the disk below.

use super::check::CheckReport;
use crate::format;
use crate::storage;
use crate::units::{ByteCount, GuestOffset, HostOffset};

/// The result of a call to an image.
///
/// An example is at [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong in one image.
#[doc = include_str!("examples/errors.md")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The bytes break a rule of the format, or use a part of it that is not read here.
    #[error("{image}: {source}")]
    Format {
        /// The name of the image.
        image: String,
        /// The rule.
        source: format::Error,
    },
    /// The image uses a part of the format that this crate does not do this with.
    #[error("{image} {feature}: {refused} such an image is not done here")]
    Unsupported {
        /// The name of the image.
        image: String,
        /// What the image has, as a predicate: "is encrypted".
        feature: &'static str,
        /// What was asked for: "reading", "writing".
        refused: &'static str,
    },
    /// A table or a cluster lies where the file has ended, or on top of the header.
    #[error("{image}: the {structure} at {at} lies outside of the file, which ends at {end}")]
    OutsideFile {
        /// The name of the image.
        image: String,
        /// Which table or cluster.
        structure: &'static str,
        /// Where it should be.
        at: HostOffset,
        /// Where the file ends.
        end: HostOffset,
    },
    /// A table that a header or another table names overlaps cluster 0.
    #[error("{image}: the {structure} lies on top of the header")]
    OnHeader {
        /// The name of the image.
        image: String,
        /// Which table or cluster.
        structure: &'static str,
    },
    /// An entry says that data, or an L2 table, lies where the image keeps its own tables.
    #[error("{image}: the {structure} at {at} lies on top of the image's own tables")]
    OnTables {
        /// The name of the image.
        image: String,
        /// What lies there.
        structure: &'static str,
        /// Where it lies.
        at: HostOffset,
    },
    /// The check of a whole image has found something wrong.
    #[error("{image}: its check found {report}")]
    Unsound {
        /// The name of the image.
        image: String,
        /// What it has found.
        report: Box<CheckReport>,
    },
    /// The image asks for more than the limits that were given allow.
    #[error("{image}: its {what} is {found}, at most {limit} are taken")]
    OverLimit {
        /// The name of the image.
        image: String,
        /// What is limited: "virtual size", "number of header extensions".
        what: &'static str,
        /// How much it is.
        found: u64,
        /// How much is allowed.
        limit: u64,
    },
    /// The image was opened for reading, or it is a frozen layer.
    #[error("{image} is open for reading only")]
    ReadOnly {
        /// The name of the image.
        image: String,
    },
    /// A step that switches tables failed half way; nothing more is written.
    #[error("{image}: an earlier write of its tables failed half way; open it again")]
    Failed {
        /// The name of the image.
        image: String,
    },
    /// A guest address past the end of the disk.
    #[error("{length} at {at} reach past the end of the disk at {size}")]
    PastEndOfDisk {
        /// Where the request begins.
        at: GuestOffset,
        /// How long it is.
        length: ByteCount,
        /// How large the disk is.
        size: ByteCount,
    },
    /// Clusters or subclusters are absorbed as a whole, and the range begins or ends inside one.
    #[error("{image}: {length} at {at} do not begin and end with a cluster or subcluster")]
    Unaligned {
        /// The name of the image.
        image: String,
        /// Where the range begins.
        at: GuestOffset,
        /// How long it is.
        length: ByteCount,
    },
    /// A header that was drafted for an image of another shape.
    #[error("{image}: the header to be written is that of another image")]
    OtherImage {
        /// The name of the image.
        image: String,
    },
    /// What is written compressed is one whole cluster.
    #[error("{length} at {at} are not one cluster of {cluster_size}")]
    NotOneCluster {
        /// Where the request begins.
        at: GuestOffset,
        /// How long it is.
        length: ByteCount,
        /// How large a cluster is.
        cluster_size: ByteCount,
    },
    /// A disk can be made larger here, not smaller.
    #[error("{image} is {size} large: it cannot be made smaller ({wanted})")]
    Shrink {
        /// The name of the image.
        image: String,
        /// Its virtual size.
        size: ByteCount,
        /// The size asked for.
        wanted: ByteCount,
    },
    /// The disk cannot be made so large while the image holds what it holds.
    #[error(
        "{image} cannot be made {wanted} large while it holds its bitmaps or internal snapshots, but {size_max} at most"
    )]
    Fixed {
        /// The name of the image.
        image: String,
        /// The largest size that it may have.
        size_max: ByteCount,
        /// The size asked for.
        wanted: ByteCount,
    },
    /// The refcount table cannot become larger than the format allows.
    #[error("{image} is full: its refcount table would pass 8 MiB")]
    Full {
        /// The name of the image.
        image: String,
    },
}
