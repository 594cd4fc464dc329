//! How a record is written: one byte that says in which version, then the record.
//!
//! Version 1 is postcard: fields in the order of the struct, numbers as varints, an absent value as one zero byte.
//! So a field added, removed, moved or retyped is a new version; the golden bytes below stand guard. What is not
//! understood to its last byte is refused, never guessed at.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version that is written.
const VERSION: u8 = 1;

/// Why bytes are no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// There are none.
    #[error("there are no bytes")]
    Empty,
    /// They are in a version that is not understood.
    #[error("it is written in version {found}, not {VERSION}")]
    Version {
        /// Their version.
        found: u8,
    },
    /// They end early or hold a value that the type does not have.
    #[error("its fields do not decode")]
    Fields {
        /// What the decoder said.
        source: postcard::Error,
    },
    /// They go on after the record.
    #[error("{count} bytes follow it")]
    Trailing {
        /// How many bytes follow.
        count: usize,
    },
    /// A value of fixed length has another one.
    #[error("it is {found} bytes long, not {expected}")]
    Length {
        /// Its length.
        found: usize,
        /// The length that it must have.
        expected: usize,
    },
    /// It stands under a key that is not its own.
    #[error("it says to be {id}")]
    Misplaced {
        /// The number that it says to have.
        id: u64,
    },
    /// A number that has no meaning.
    #[error("{found} has no meaning here")]
    Number {
        /// The number.
        found: u8,
    },
}

/// The bytes of a record.
pub fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    postcard::to_extend(record, vec![VERSION])
        .expect("a record holds only types that know their length, and memory takes any number of bytes")
}

/// The record in these bytes.
///
/// # Errors
///
/// [`Malformed`], which says which rule is broken.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    match bytes {
        [] => Err(Malformed::Empty),
        [VERSION, fields @ ..] => {
            let (record, rest) =
                postcard::take_from_bytes(fields).map_err(|source| Malformed::Fields { source })?;
            if rest.is_empty() { Ok(record) } else { Err(Malformed::Trailing { count: rest.len() }) }
        }
        [found, ..] => Err(Malformed::Version { found: *found }),
    }
}
