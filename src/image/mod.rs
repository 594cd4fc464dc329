//! One qcow2 file on a [`Blob`](crate::storage::Blob): made, opened, looked up, read, written, checked.
//!
//! An image knows nothing of other images. What it reads through to is a [`Below`] that the chain hands in
//! with each write; the name in its header is a label that is never followed.
//!
//! What must be true on disk at every instant, whatever crashes when:
//!
//! * **M1** Every refcount is at least the number of references. A crash may leak clusters, never lose one.
//! * **M2** A reference to a cluster is written only after the cluster's content and its refcount are durable.
//! * **M3** A cluster is used again only after the last reference to it is gone from the disk for good.
//! * **M4** What a flush has acknowledged is found again. Before it, each write is there, or the old bytes are.
//!
//! [`Image::flush`] is where this order is kept; reads and writes between two flushes need no sync at all.

mod absorb;
mod check;
mod compressed;
mod defined;
mod entries;
mod error;
mod facts;
mod fill;
mod flush;
mod grow;
mod internal;
mod layout;
mod map;
mod notes;
mod open;
mod own;
mod pack;
mod read;
mod rebase;
mod refcounts;
mod repair;
mod stamp;
mod survey;
mod tables;
mod write;
mod zero;

pub use crate::format::{L2Width, LayerIdentity, LayerNotes, SnapshotClaim, Version};
pub use absorb::Content;
pub use check::{CheckReport, Finding, check};
pub use error::{Error, Result};
pub use facts::Facts;
pub use internal::{InternalSnapshot, PersistentBitmap};
pub use layout::{BackingLabel, Layout, NewImage};
pub use map::{Mapping, Run};
pub use open::{Image, Limits};
pub use rebase::{HeaderDraft, write_header};
pub use repair::{ImageRepair, Mend, RepairMode, repair};
pub use survey::Held;
pub use write::Below;
pub use zero::Space;
