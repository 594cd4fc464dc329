//! Check: counts every reference in an image and compares with what the refcounts say.
//!
//! Reads the tables from the blob, not from memory, one at a time. The counts are held per stretch of the file
//! that is really in use, never by its length.

mod compare;
mod references;
mod walk;

use super::error::Result;
use super::open::Image;
use crate::storage::Blob;
use crate::sync::RwLockWriteGuard;
use crate::units::{HostCluster, HostOffset};
use std::fmt;

pub(in crate::image) use references::{References, STRETCH};
pub(in crate::image) use walk::{Counted, Walk};

/// The findings that a report keeps at most; more are only counted.
const FINDINGS_MAX: usize = 1000;

/// What a check has found in one image.
///
/// Another example is at [`Image`].
#[doc = include_str!("../examples/images.md")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// What is wrong, in the order of its finding; 1000 at most.
    pub findings: Vec<Finding>,
    /// How many references are wrong or broken: the image must not be written.
    pub corruptions: u64,
    /// How many of these are clusters whose refcount is too low.
    pub refcounts_too_low: u64,
    /// How many corruptions nothing can mend without guessing: tables that lead outside of the file or make no sense,
    /// and clusters that are used twice.
    pub beyond_repair: u64,
    /// How many clusters are counted as used without being so: space lost, nothing worse.
    pub leaks: u64,
    /// Whether the header says that the refcounts may be out of date.
    pub dirty: bool,
    /// Whether the header says that the image is damaged.
    pub marked_corrupt: bool,
    /// Clusters of guest data, compressed ones included.
    pub data_clusters: u64,
    /// Compressed clusters. Where they lie is checked, not whether their bytes can be decoded.
    pub compressed_clusters: u64,
}

/// One thing that is wrong in an image.
///
/// An example is at [`Image`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// A cluster is referred to more often than its refcount says.
    RefcountTooLow {
        /// The cluster.
        cluster: HostCluster,
        /// Its refcount.
        refcount: u64,
        /// The references to it.
        references: u64,
    },
    /// A cluster is referred to less often than its refcount says.
    Leak {
        /// The cluster.
        cluster: HostCluster,
        /// Its refcount.
        refcount: u64,
        /// The references to it.
        references: u64,
    },
    /// An entry is marked as the only reference to its cluster, or not marked, against the refcount.
    CopiedDisagrees {
        /// The cluster.
        cluster: HostCluster,
        /// Its refcount.
        refcount: u64,
    },
    /// A cluster is used for two things that never share one.
    Overlap {
        /// The cluster.
        cluster: HostCluster,
    },
    /// A table entry breaks a rule of the format.
    BrokenEntry {
        /// Which table.
        structure: &'static str,
        /// The entry as it is.
        raw: u64,
    },
    /// A table entry leads outside of the file.
    OutsideFile {
        /// Which table.
        structure: &'static str,
        /// Where it leads.
        at: HostOffset,
    },
}

impl CheckReport {
    /// Whether nothing at all is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.agrees() && !self.dirty && !self.marked_corrupt
    }

    /// Whether nothing is wrong but what the header may say of an earlier time.
    pub(in crate::image) fn agrees(&self) -> bool {
        self.is_sound() && self.leaks == 0
    }

    /// Whether the image can be relied on: clusters may be lost, which is all that a crash can do.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.corruptions == 0
    }

    fn corrupt(&mut self, finding: Finding) {
        self.corruptions += 1;
        self.keep(finding);
    }

    fn keep(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_clean() {
            return f.write_str("no errors");
        }
        write!(f, "{} corruptions, {} leaked clusters", self.corruptions, self.leaks)?;
        if self.dirty {
            f.write_str(", marked dirty")?;
        }
        if self.marked_corrupt {
            f.write_str(", marked corrupt")?;
        }
        if let Some(first) = self.findings.first() {
            write!(f, "; first: {first:?}")?;
        }
        Ok(())
    }
}

impl Image {
    /// Flushes what is unwritten, then checks the image as it is on disk.
    ///
    /// # Errors
    ///
    /// Only for what keeps the check from being done; what it finds is in the report.
    pub fn check(&self) -> Result<CheckReport> {
        let mut state = self.state.write();
        if !state.is_clean() {
            self.flush_state(&mut state)?;
        }
        // Nobody may write tables between the flush and the walk.
        let state = RwLockWriteGuard::downgrade(state);
        Ok(Walk::new(&*self.blob, &state.header, state.end).count()?.report)
    }
}

/// Checks an image that is not open, one that cannot be opened included: all that must be whole is its header.
///
/// An example is at [`Image`].
///
/// # Errors
///
/// [`Error::Format`](super::Error::Format) for a header that breaks a rule; [`Error::Storage`](super::Error::Storage).
/// What the check finds is in the report.
pub fn check(blob: &dyn Blob, name: &str) -> Result<CheckReport> {
    let header = Image::header_of(blob, name)?;
    Ok(Walk::new(blob, &header, HostOffset::end_of(blob.length()?)).count()?.report)
}
