//! The name of a blob: one component, nothing that leads anywhere else; or the path of a file that a store only reads.

use std::fmt;

/// The name of a blob in a store: 1 to 255 bytes of UTF-8, one component, no control character, neither `.`
/// nor `..`.
///
/// A file in a base directory that was declared to a store has its absolute path for a name: of components such as
/// these, 1023 bytes at most, which is what the header of an image above it has room for. It begins with `/`, as no other
/// name does.
///
/// Another example is at [`Blob`](crate::storage::Blob).
#[doc = include_str!("examples/stores.md")]
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobName(String);

/// Why a string is no [`BlobName`].
#[doc = include_str!("examples/stores.md")]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidName {
    /// The string is empty.
    #[error("the name is empty")]
    Empty,
    /// The string is longer than a name may be.
    #[error("the name is {length} bytes long, at most {max} are allowed")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The longest one.
        max: usize,
    },
    /// The string leads out of the store or into a directory.
    #[error("{name:?} is not a single component: no '/', no '.', no '..'")]
    NotOneComponent {
        /// The string.
        name: String,
    },
    /// The string is not the absolute path of a file.
    #[error("{name:?} is not an absolute path of plain components: no '//', no '.', no '..'")]
    NotAPath {
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
    /// The longest path, in bytes: what the header of a qcow2 image has room for.
    const PATH_MAX: usize = 1023;

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
            return Err(InvalidName::TooLong { length: name.len(), max: Self::LENGTH_MAX });
        }
        if name == "." || name == ".." || name.contains('/') {
            return Err(InvalidName::NotOneComponent { name: name.to_owned() });
        }
        if name.chars().any(char::is_control) {
            return Err(InvalidName::Control { name: name.to_owned() });
        }
        Ok(Self(name.to_owned()))
    }

    /// Parses the absolute path of a file in a base directory. It is taken to the letter: whether there is such a
    /// directory, the store knows.
    ///
    /// # Errors
    ///
    /// [`InvalidName`], which says which rule is broken.
    pub fn in_base(path: &str) -> Result<Self, InvalidName> {
        if path.len() > Self::PATH_MAX {
            return Err(InvalidName::TooLong { length: path.len(), max: Self::PATH_MAX });
        }
        let Some(components) = path.strip_prefix('/') else {
            return Err(InvalidName::NotAPath { name: path.to_owned() });
        };
        for component in components.split('/') {
            Self::parse(component).map_err(|broken| match broken {
                InvalidName::Empty | InvalidName::NotOneComponent { .. } => {
                    InvalidName::NotAPath { name: path.to_owned() }
                }
                InvalidName::Control { .. } => InvalidName::Control { name: path.to_owned() },
                broken => broken,
            })?;
        }
        Ok(Self(path.to_owned()))
    }

    /// Whether it is the path of a file in a base directory: one that is read, and neither written, made nor removed.
    #[must_use]
    pub fn is_in_base(&self) -> bool {
        self.0.starts_with('/')
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
        if name.starts_with('/') { Self::in_base(&name) } else { Self::parse(&name) }
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
        let Err(InvalidName::TooLong { length: 256, max: 255 }) = BlobName::parse(&"x".repeat(256)) else {
            panic!("256 bytes were taken");
        };
    }

    #[test]
    fn a_file_in_a_base_directory_is_an_absolute_path_to_the_letter() -> Result<(), InvalidName> {
        let name = BlobName::in_base("/srv/golden images/a:b.qcow2")?;
        assert!(name.is_in_base() && !BlobName::parse("a:b.qcow2")?.is_in_base());
        assert_eq!(BlobName::try_from(name.as_str().to_owned())?, name);
        for path in ["", "/", "a", "a/b", "/a/", "//a", "/a//b", "/./a", "/a/../b", "/..", "./a"] {
            let Err(InvalidName::NotAPath { .. }) = BlobName::in_base(path) else {
                panic!("{path:?} was taken");
            };
        }
        let Err(InvalidName::Control { .. }) = BlobName::in_base("/a\0/b") else { panic!("NUL was taken") };
        assert_eq!(
            BlobName::in_base(&format!("/a/{}", "x".repeat(256))),
            Err(InvalidName::TooLong { length: 256, max: 255 })
        );
        let long = format!("/{}", "aa/".repeat(340) + "abc");
        assert_eq!(BlobName::in_base(&long), Err(InvalidName::TooLong { length: 1024, max: 1023 }));
        assert!(BlobName::in_base(&long[..1023]).is_ok());
        Ok(())
    }
}
