//! Why a file is not taken over: one variant for each rule.

use super::layers::format_name;
use crate::catalog::LayerFormat;
use crate::image::{self, CheckReport};
use crate::storage::{self, InvalidName};
use crate::units::ByteCount;
use std::sync::Arc;

/// The rule that a file breaks which is to be taken over, imported or put below a volume.
///
/// Two are equal when they say the same.
#[doc = include_str!("examples/adopting.md")]
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptRule {
    /// The path that the caller gave leads elsewhere.
    #[error("it is neither in the pool's directory nor in a declared base directory")]
    OutOfReach,
    /// The name that the caller gave is no name of a file.
    #[error(transparent)]
    Name(InvalidName),
    /// The name in the header above leads elsewhere.
    #[error(
        "its backing file {label:?} is not the name of a file in the pool's directory or in a declared base directory"
    )]
    BackingOutOfReach {
        /// The name, to the letter.
        label: String,
    },
    /// The header says that the file below is neither qcow2 nor raw.
    #[error("its backing file {label:?} has the format {format:?}")]
    BackingFormat {
        /// The name of the file below, to the letter.
        label: String,
        /// Its format, to the letter.
        format: String,
    },
    /// The header does not say what the file below is.
    #[error("it gives no format for its backing file {label:?}, and none is guessed")]
    NoBackingFormat {
        /// The name of the file below, to the letter.
        label: String,
    },
    /// Its data is in a file that QEMU would open and that is not beside it.
    #[error(
        "its data file {label:?} is not the name of a file in the pool's directory or in a declared base directory"
    )]
    DataOutOfReach {
        /// The name of the data file, to the letter.
        label: String,
    },
    /// There is no such file in the pool's directory.
    #[error("it is not in the pool's directory")]
    Absent,
    /// There is no such file in the base directory.
    #[error("it is not in a declared base directory")]
    AbsentInBase,
    /// It is a directory, a device or the like.
    #[error("it is not a regular file")]
    NotRegular,
    /// What is to be imported is not there, or is not a regular file.
    #[error(transparent)]
    Unopened(Arc<storage::Error>),
    /// It is the catalogue of a pool.
    #[error("it is the catalogue of a pool")]
    Catalogue,
    /// A header calls it raw, and the caller does not.
    #[error("it is called raw and begins like {format}; name it as raw if it is meant so")]
    BeginsLike {
        /// What it begins like.
        format: &'static str,
    },
    /// It is written by a volume of this pool.
    #[error("it is the head of a volume of this pool")]
    Head,
    /// It is to lie below another layer, and is written by a volume of this pool.
    #[error("it is the head of a volume: its content still changes")]
    HeadBelow,
    /// It is to lie below another layer, and is not whole yet.
    #[error("it is still being filled")]
    BeingFilled,
    /// It is to lie below another layer, and its snapshot was deleted.
    #[error("its snapshot was deleted: its room is being reclaimed")]
    BeingReclaimed,
    /// The pool has it.
    #[error("it is a layer of this pool already; make a volume above it instead")]
    Layer,
    /// It is to be imported, and the pool has it.
    #[error("it is a file of this pool already; make a volume of a snapshot instead")]
    OwnFile,
    /// It is to be written, and lies where nothing is written.
    #[error("it lies in a base directory, where nothing is written: make a volume above it instead")]
    InBase,
    /// Its name is one that the pool makes up.
    #[error("it has a name such as this pool gives to its own files: rename it, nothing refers to it")]
    NameOfALayer,
    /// It is an overlay of a group that is being prepared.
    #[error("it was made for a group that is being prepared")]
    Prepared,
    /// The pool has it as what the caller, or a header, does not say.
    #[error("the pool has it as {}", format_name(*format))]
    KnownAs {
        /// What the pool has it as.
        format: LayerFormat,
    },
    /// Somebody writes to it.
    #[error("another process has it open for writing")]
    Written,
    /// A path in a base directory leads to a file of the pool's own.
    #[error("it is {file} of the pool's directory")]
    InPool {
        /// Its name there.
        file: String,
    },
    /// It lies beside the catalogue of another pool, which may write to it or remove it.
    #[error("it lies in the directory of another pool")]
    OfAnotherPool,
    /// It is a hard link to a layer of this pool.
    #[error("it is {file} under a second name")]
    SecondName {
        /// The name by which the pool has it.
        file: String,
    },
    /// The chain with it, and with what is put above it, is longer than it may be.
    #[error("the chain is longer than {layers_max} layers")]
    ChainTooLong {
        /// The most layers.
        layers_max: u32,
    },
    /// A file below names it again.
    #[error("the chain comes back to it: it is a loop")]
    Loop,
    /// Somebody has written to it since it was looked at.
    #[error("it has changed while it was looked at")]
    Changed,
    /// It is to be imported above a snapshot, and reads through to nothing.
    #[error("it is above no other file, so it has no base")]
    NoBase,
    /// It is to be imported, and its disk is larger than the caller takes.
    #[error("its disk is {size} large, at most {size_max} are taken")]
    TooLarge {
        /// Its virtual size.
        size: ByteCount,
        /// The largest that is taken.
        size_max: ByteCount,
    },
    /// The check of the image has found something.
    #[error("its check found {report}")]
    Unsound {
        /// What.
        report: Box<CheckReport>,
    },
    /// Its bytes break a rule of the format, go beyond a limit, use what is not read here, or cannot be read.
    #[error(transparent)]
    Unusable(Arc<image::Error>),
}

/// What the disk says of an error has no equality of its own.
impl PartialEq for AdoptRule {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for AdoptRule {}

impl From<image::Error> for AdoptRule {
    fn from(error: image::Error) -> Self {
        match error {
            image::Error::Unsound { report, .. } => Self::Unsound { report },
            error => Self::Unusable(Arc::new(error)),
        }
    }
}
