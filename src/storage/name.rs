//! The name of a blob: one component, nothing that leads anywhere else.

use std::fmt;

/// The name of a blob in a store: 1 to 255 bytes of UTF-8, one component, no control character, neither `.`
/// nor `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobName(String);

/// Why a string is no [`BlobName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidName {
    /// The string is empty.
    #[error("the name is empty")]
    Empty,
    /// The string is longer than a name may be.
    #[error("the name is {length} bytes long, at most {max} are allowed", max = BlobName::LENGTH_MAX)]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The string leads out of the store or into a directory.
    #[error("{name:?} is not a single component: no '/', no '.', no '..'")]
    NotOneComponent {
        /// The string.
        name: String,
    },
    /// The string holds a control character, a NUL included.
    #[error("{name:?} holds a control character")]
    Control {
        /// The string.
        name: String,
    },
}

impl BlobName {
    /// The longest name, in bytes: what Linux file systems take.
    pub(super) const LENGTH_MAX: usize = 255;

    /// Parses a name.
    ///
    /// # Errors
    ///
    /// [`InvalidName`], which says which rule is broken.
    pub fn parse(name: &str) -> Result<Self, InvalidName> {
        if name.is_empty() {
            return Err(InvalidName::Empty);
        }
        if name.len() > Self::LENGTH_MAX {
            return Err(InvalidName::TooLong { length: name.len() });
        }
        if name == "." || name == ".." || name.contains('/') {
            return Err(InvalidName::NotOneComponent { name: name.to_owned() });
        }
        if name.chars().any(char::is_control) {
            return Err(InvalidName::Control { name: name.to_owned() });
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for BlobName {
    type Error = InvalidName;
    fn try_from(name: String) -> Result<Self, InvalidName> {
        Self::parse(&name)
    }
}

impl From<BlobName> for String {
    fn from(name: BlobName) -> Self {
        name.0
    }
}

impl fmt::Display for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_component_and_nothing_else() {
        assert!(BlobName::parse("disk-0.qcow2").is_ok());
        assert!(BlobName::parse("a:b c ü.qcow2").is_ok());
        assert_eq!(BlobName::parse(""), Err(InvalidName::Empty));
        for name in [".", "..", "/etc/passwd", "a/b", "../x", "a/"] {
            let Err(InvalidName::NotOneComponent { .. }) = BlobName::parse(name) else {
                panic!("{name:?} was taken");
            };
        }
        let Err(InvalidName::Control { .. }) = BlobName::parse("a\0b") else { panic!("NUL was taken") };
        let Err(InvalidName::TooLong { length: 256 }) = BlobName::parse(&"x".repeat(256)) else {
            panic!("256 bytes were taken");
        };
    }
}
