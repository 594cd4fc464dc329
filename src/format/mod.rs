//! qcow2 bytes to values and back. Pure: no I/O, no clock, no path. Hostile input ends here.
//!
//! Each record of the file has one file of this room, and in it the reader beside the writer:
//!
//! ```text
//! header      the first cluster: fixed fields, extensions, backing name  -> Header
//! extension   the list of typed records after the fixed fields           -> Extension and its typed views
//! identity    the payload of our own extension                           -> LayerIdentity
//! notes       what follows the ids there                                 -> LayerNotes, SnapshotClaim
//! l1, l2      the two levels of the guest's mapping                      -> L1Entry, L2Entry
//! subclusters what an entry says about the parts of its cluster      -> Subclusters
//! compressed  the descriptor of a compressed cluster                     -> CompressedExtent
//! codec       what is inside a compressed cluster                        -> Compression::decode, encode
//! refcount    the counters of host clusters, 1 to 64 bits wide           -> RefcountTableEntry, get, set
//! snapshot_table  internal snapshots                                     -> SnapshotEntry
//! bitmap      persistent dirty bitmaps                                   -> BitmapEntry, BitmapTableEntry
//! geometry    every shift, mask and table size                           -> Geometry
//! ```
//!
//! What holds for all of them:
//!
//! 1. Reading never panics, whatever the bytes, and reserves no memory that the bytes do not justify.
//! 2. A value that was read obeys every rule that can be judged without the rest of the file. What needs
//!    the file (does the table lie inside it, do two tables overlap) is for the room above.
//! 3. Unknown bits and records are kept or refused, never dropped.
//! 4. Writing what was read gives the bytes that were read, but for padding, which is written as zeros.

mod bitmap;
mod bytes;
mod codec;
mod compressed;
mod error;
mod extension;
mod geometry;
mod header;
mod identity;
mod l1;
mod l2;
mod notes;
pub mod refcount;
mod snapshot_table;
mod subclusters;
mod torn;

pub use bitmap::{BitmapEntry, BitmapFlags, BitmapTableEntry, encode_directory, parse_directory};
pub use compressed::CompressedExtent;
pub use error::{Detail, Error, Malformed, Rule, Unsupported};
pub use extension::{BitmapsExtension, CryptoExtension, Extension};
pub use geometry::{Geometry, L1_ENTRIES_MAX, L2Width};
pub use header::{
    Autoclear, Backing, Compatible, Compression, CompressionField, Encryption, HEADER_PROBE, Header,
    Incompatible, RawHeader, Version,
};
pub use identity::LayerIdentity;
pub use l1::L1Entry;
pub use l2::{Copied, L2Entry};
pub use notes::{LayerNotes, SnapshotClaim};
pub use refcount::RefcountTableEntry;
pub use snapshot_table::{SnapshotEntry, encode_snapshots, parse_snapshots};
pub use subclusters::{Subcluster, Subclusters};
