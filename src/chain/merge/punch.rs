//! Punch: a retired layer gives back what nobody reads of it.

use super::super::{Layer, Ranges};
use super::Progress;
use super::todo::Todo;
use crate::image::{Error, Image, Result, Space};
use crate::units::ByteCount;
use std::sync::Arc;

/// A punch under way.
///
/// An example is at [`Pull`](super::Pull).
#[derive(Debug)]
pub struct Punch {
    retired: Arc<Layer>,
    hidden: Todo,
    total: ByteCount,
    freed: ByteCount,
}

impl Punch {
    /// Takes in the list of [`hidden`](super::hidden) clusters; nothing is written yet. The retired layer is open for
    /// writing. Of ranges that reach past its end the part inside is meant, of clusters in part nothing.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`] when the retired layer is a raw file.
    pub fn new(retired: Arc<Layer>, ranges: &Ranges) -> Result<Self> {
        let image = image_of(&retired)?;
        let (grid, size) = (image.geometry().cluster_size(), image.size());
        let list = ranges.clipped(size).round_in(grid, size);
        let total = list.bytes();
        Ok(Self { retired, hidden: Todo::new(list, grid), total, freed: ByteCount::ZERO })
    }

    /// Gives up the next clusters, one at least. Nothing is copied: a cluster counts for the 8 bytes of its entry in
    /// the budget. They are free after [`Punch::flush`].
    ///
    /// # Errors
    ///
    /// Those of [`Image::zero`]; the step can be repeated.
    pub fn step(&mut self, budget: ByteCount) -> Result<Progress> {
        let before = self.freed;
        let mut left = budget;
        while let Some((piece, cost)) = self.hidden.next_entries(left) {
            let length = piece.end - piece.start;
            image_of(&self.retired)?.zero(piece.start, length, Space::Free, None)?;
            self.hidden.done_to(piece.end);
            self.freed += length;
            left = left.saturating_sub(cost);
            if left.is_zero() {
                break;
            }
        }
        Ok(Progress { copied: self.freed - before, done: self.hidden.is_empty() })
    }

    /// Takes the clusters out of the tables for good, then gives their room back.
    ///
    /// # Errors
    ///
    /// Those of [`Image::flush`].
    pub fn flush(&self) -> Result<()> {
        image_of(&self.retired)?.flush()
    }

    /// The bytes given up so far.
    #[must_use]
    pub fn copied(&self) -> ByteCount {
        self.freed
    }

    /// The bytes that are to be given up in all.
    #[must_use]
    pub fn total(&self) -> ByteCount {
        self.total
    }
}

fn image_of(retired: &Arc<Layer>) -> Result<&Image> {
    retired.as_qcow2().ok_or_else(|| Error::ReadOnly { image: retired.name().to_owned() })
}
