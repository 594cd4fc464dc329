//! What exists: records, their tables, edits and views. Never opens an image.
//!
//! The catalogue is the one truth about a pool: a file that no record names does not belong to it, and who backs
//! whom is what the records say. What must be true of the records is the numbered list C1 to C27 in [`verify`].
//!
//! Change is data: the caller reads a view, decides, and publishes a list of [`Edit`]s in one commit.
//!
//! * **One commit, one transaction**, which it may share with others that come at once. Either all edits of a commit are seen, by every later reader and after
//!   every crash, or none. The one exception is said aloud: [`Error::CommitUnknown`].
//! * **A reader sees one moment.** A [`Reader`] is not disturbed by later commits.
//! * **Derived tables never drift.** The uuid table and the index are changed in the same transaction as the
//!   record they are derived from, by the difference between its old and its new keys ([`index`]).
//! * **Ids are never used twice**, not even after a removal: [`IdSource`] hands them out, a commit remembers them.
//! * **Bytes are written down once**: keys in [`tables`] and [`index`], values in [`encoding`].

#![expect(
    unreachable_pub,
    reason = "the room is private: the walls say who may name its parts, and `lib.rs` what callers see of it"
)]

mod backend;
mod commit;
mod edit;
mod encoding;
mod error;
mod fence;
mod found;
mod holdings;
mod id;
mod index;
mod kind;
mod members;
mod need;
mod number;
mod open;
pub mod query;
mod queue;
mod reader;
mod record;
mod staged;
mod tables;
mod verify;
mod view;

#[cfg(test)]
mod testing;
#[cfg(test)]
pub use {
    error::{Place, Result},
    kind::Kind,
    reader::Counts,
    verify::Violation,
};

pub use edit::Edit;
pub use error::Error;
pub use holdings::Holdings;
pub use id::{GroupId, LayerId, MachineId, SnapshotId, TreeId, VolumeId};
pub use kind::Entity;
pub use number::IdSource;
pub use open::{Catalog, CatalogOptions, CatalogueCheck, QuickRepair, Start};
pub use reader::Reader;
pub use record::{
    Attachment, Consistency, GroupRecord, HeaderRewrite, L2Entries, LayerFormat, LayerRecord, LayerState,
    MachineRecord, Origin, PreparedMember, PreparedRecord, RefRecord, Running, Seal, Settled, Sharing,
    SnapshotRecord, Tags, TakenIn, Timestamp, TreeRecord, VolumeKind, VolumeRecord, WishMark,
};
pub use verify::Severity;
pub use view::{DiskView, MachineView};
