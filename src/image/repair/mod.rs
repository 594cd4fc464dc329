//! Repair: the refcounts, the marks and the feature bits of an image made to agree with its tables.
//!
//! The tables are what the guest sees; a repair never changes what they say, so the content is the same before,
//! after, and whatever crashes in between. Where the tables themselves are wrong nothing at all is written: what is
//! in use is then not known.
//!
//! | step | written | then |
//! |---|---|---|
//! | 1 | autoclear bits that nobody here knows are cleared | sync |
//! | 2 | refcounts that are too low or too high, in their blocks; or all of them anew, see `rebuild` | sync |
//! | 3 | marks in the active L1 and L2 tables | sync |
//! | 4 | the marks dirty and corrupt are cleared, when a second check finds nothing that they could mean | sync |
//!
//! Each write of 1, 3 and 4 and each refcount of 2 lies in one sector, and each of them alone leaves the image no
//! worse than it was.

mod in_place;
mod marks;
mod rebuild;

use super::check::{CheckReport, Counted, Walk};
use super::error::{Error, Result};
use super::open::Image;
use crate::format::{Header, Version};
use crate::storage::Blob;
use crate::units::{ByteCount, ClusterCount, HostCluster, HostOffset};

/// Where the incompatible feature bits lie (qcow2 specification, header, bytes 72-79).
const INCOMPATIBLE: HostOffset = HostOffset::new(72);
/// Where the autoclear feature bits lie (qcow2 specification, header, bytes 88-95).
const AUTOCLEAR: HostOffset = HostOffset::new(88);

/// Whether a repair is done, or only told.
#[doc = include_str!("../../engine/examples/checking.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RepairMode {
    /// Nothing is written.
    #[default]
    Plan,
    /// What can be mended is.
    Perform,
}

/// One thing that a repair mends.
///
/// An example is at [`Image`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mend {
    /// Refcounts that were too high are lowered: clusters that nothing uses are free again.
    Leaks {
        /// How many clusters.
        clusters: u64,
    },
    /// Refcounts that were too low are raised.
    RefcountsTooLow {
        /// How many clusters.
        clusters: u64,
    },
    /// The refcount table and all its blocks are written anew, elsewhere.
    RefcountsRebuilt,
    /// The marks of the active tables, which say what may be written in place, are put right.
    Marks {
        /// How many entries.
        entries: u64,
    },
    /// The header says no longer that the refcounts may be out of date.
    DirtyCleared,
    /// The header says no longer that the image is damaged.
    CorruptCleared,
}

/// What a repair has found, has mended, and has left.
///
/// An example is at [`Image`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageRepair {
    /// What a check finds before.
    pub before: CheckReport,
    /// What is mended, or would be.
    pub mends: Vec<Mend>,
    /// What a check finds after; absent when nothing was written.
    pub after: Option<CheckReport>,
}

impl ImageRepair {
    /// What is wrong after the repair, or would be as far as one can tell before.
    #[must_use]
    pub fn is_left_damaged(&self) -> bool {
        self.after.as_ref().map_or(self.before.beyond_repair > 0, |after| !after.is_clean())
    }
}

/// An image under repair.
struct Subject<'a> {
    blob: &'a dyn Blob,
    name: &'a str,
    header: Header,
}

/// Repairs an image that nobody has open, or tells what a repair would do. What cannot be repaired without guessing
/// is left as it is, and in the report: see [`CheckReport::beyond_repair`].
///
/// Durable when it returns; doing it again changes nothing. Memory: a few bytes for each cluster of the file that
/// is in use. The file may grow by the size of its refcounts.
///
/// An example is at [`Image`].
///
/// # Errors
///
/// Those of [`check`](super::check()); [`Error::Unsupported`] for an image with an external data file; [`Error::Full`](super::Error::Full) when new refcounts would need a larger
/// table than the format allows. [`Error::Storage`](super::Error::Storage): the image is then as it was, or better.
pub fn repair(blob: &dyn Blob, name: &str, mode: RepairMode) -> Result<ImageRepair> {
    let mut subject = Subject { blob, name, header: Image::header_of(blob, name)? };
    if subject.header.incompatible.has_data_file() {
        let feature = "keeps its data in an external file";
        return Err(Error::Unsupported { image: name.to_owned(), feature, refused: "repairing" });
    }
    let counted = subject.count()?;
    let mends = subject.mends(&counted)?;
    let before = counted.report.clone();
    if mode == RepairMode::Plan || mends.is_empty() {
        return Ok(ImageRepair { before, mends, after: None });
    }
    subject.clear_unknown_autoclear()?;
    subject.mend_refcounts(&counted, &mends)?;
    subject.mend_marks(&counted.references)?;
    drop(counted);
    let after = subject.count()?.report;
    let after = subject.clear_marks_of_header(after)?;
    Ok(ImageRepair { before, mends, after: Some(after) })
}

impl Subject<'_> {
    fn count(&self) -> Result<Counted> {
        Walk::new(self.blob, &self.header, HostOffset::end_of(self.blob.length()?)).count()
    }

    /// What there is to mend; nothing when the tables cannot be trusted.
    fn mends(&self, counted: &Counted) -> Result<Vec<Mend>> {
        let report = &counted.report;
        let mut mends = Vec::new();
        if report.beyond_repair > 0 {
            return Ok(mends);
        }
        let is_wrong = report.refcounts_too_low + report.leaks > 0 || counted.refcounts_broken;
        if counted.refcounts_broken || (report.dirty && is_wrong) {
            mends.push(Mend::RefcountsRebuilt);
        }
        if report.refcounts_too_low > 0 {
            mends.push(Mend::RefcountsTooLow { clusters: report.refcounts_too_low });
        }
        if report.leaks > 0 {
            mends.push(Mend::Leaks { clusters: report.leaks });
        }
        let entries = self.wrong_marks(&counted.references)?;
        if entries > 0 {
            mends.push(Mend::Marks { entries });
        }
        if report.dirty {
            mends.push(Mend::DirtyCleared);
        }
        if report.marked_corrupt {
            mends.push(Mend::CorruptCleared);
        }
        Ok(mends)
    }

    fn mend_refcounts(&mut self, counted: &Counted, mends: &[Mend]) -> Result<()> {
        if mends.contains(&Mend::RefcountsRebuilt) {
            return self.rebuild_refcounts(&counted.references);
        }
        let is_wrong =
            mends.iter().any(|mend| matches!(mend, Mend::Leaks { .. } | Mend::RefcountsTooLow { .. }));
        if is_wrong { self.correct_refcounts(&counted.references) } else { Ok(()) }
    }

    /// A writer clears the autoclear bits that it does not know (qcow2 specification, header, bytes 88-95).
    fn clear_unknown_autoclear(&mut self) -> Result<()> {
        if self.header.version == Version::V2 || self.header.autoclear.unknown() == 0 {
            return Ok(());
        }
        self.header.autoclear = self.header.autoclear.known();
        self.put_durably(AUTOCLEAR, &self.header.autoclear.bits().to_be_bytes())
    }

    /// Clears the marks that a check has found to have no reason any more.
    fn clear_marks_of_header(&mut self, report: CheckReport) -> Result<CheckReport> {
        if !(report.dirty || report.marked_corrupt) || !report.agrees() {
            return Ok(report);
        }
        let marks = crate::format::Incompatible::DIRTY.with(crate::format::Incompatible::CORRUPT);
        self.header.incompatible = self.header.incompatible.without(marks);
        self.put_durably(INCOMPATIBLE, &self.header.incompatible.bits().to_be_bytes())?;
        Ok(CheckReport { dirty: false, marked_corrupt: false, ..report })
    }

    fn put_durably(&self, at: HostOffset, bytes: &[u8]) -> Result<()> {
        self.blob.write_at(at, bytes)?;
        self.blob.sync()?;
        Ok(())
    }

    /// Gives clusters back to the disk that nothing uses any more. A favour: a file system that cannot keeps them.
    fn give_back(&self, clusters: impl IntoIterator<Item = HostCluster>) {
        let geometry = self.header.geometry;
        let mut run: Option<(HostCluster, u64)> = None;
        let punch = |(start, count): (HostCluster, u64)| {
            let length: ByteCount = geometry.bytes_for(ClusterCount::new(count));
            drop(self.blob.punch(geometry.host_offset(start), length));
        };
        for cluster in clusters {
            run = match run {
                Some((start, count)) if start + ClusterCount::new(count) == cluster => {
                    Some((start, count + 1))
                }
                Some(before) => {
                    punch(before);
                    Some((cluster, 1))
                }
                None => Some((cluster, 1)),
            };
        }
        if let Some(last) = run {
            punch(last);
        }
    }
}
