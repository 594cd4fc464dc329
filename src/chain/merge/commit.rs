//! Commit: a child is written down into the retired layer below it, which then takes its place.

use super::super::{Chain, Extents, Layer};
use super::todo::Todo;
use super::{Progress, lists};
use crate::image::{Error, Result, Space};
use crate::units::{ByteCount, GuestOffset};
use std::sync::Arc;

/// A commit under way.
///
/// The child does not change any more, and nobody reads the retired layer but through it: what the retired layer
/// showed before is lost from the first step on. What is written is what the child shows there anyway.
#[derive(Debug)]
pub struct Commit {
    /// The child, the retired layer, and what is below it.
    source: Chain,
    /// The retired layer, and what is below it.
    target: Chain,
    data: Todo,
    zero: Todo,
    total: ByteCount,
    copied: ByteCount,
    /// What growing writes.
    growth: ByteCount,
    writes_zeros: bool,
}

impl Commit {
    /// Works out what the retired layer needs; nothing is written yet. The retired layer is open for writing.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`] when the retired layer is a raw file; [`Error::Shrink`] when it is larger than the child;
    /// [`Error::Format`] when it can not be made as large; those of [`Layer::extents`].
    pub fn new(child: Arc<Layer>, retired: Arc<Layer>, deeper: Vec<Arc<Layer>>) -> Result<Self> {
        let layers: Vec<_> = [child, retired].into_iter().chain(deeper).collect();
        let extents = layers.iter().map(|layer| layer.extents()).collect::<Result<Vec<Extents>>>()?;
        let (child, retired, deeper) = (&extents[0], &extents[1], &extents[2..]);
        let copies = match lists::commit(child, retired, deeper) {
            Some(copies) => copies,
            None => return Err(refusal(&layers[1], child.size)),
        };
        let (total, grid) = (copies.copied_bytes(), retired.subcluster_size);
        let writes_zeros = !retired.has_zero_clusters && !deeper.is_empty();
        let zeroed = if writes_zeros { copies.zero.bytes() } else { ByteCount::ZERO };
        Ok(Self {
            target: Chain::new(layers[1..].to_vec()),
            source: Chain::new(layers),
            growth: copies.zeros_written - zeroed,
            data: Todo::new(copies.data, grid),
            zero: Todo::new(copies.zero, grid),
            total,
            copied: ByteCount::ZERO,
            writes_zeros,
        })
    }

    /// The same commit, without the data before `from`: an earlier one has written it and was flushed. The child has
    /// not changed since.
    #[must_use]
    pub fn resumed(mut self, from: GuestOffset) -> Self {
        self.data.skip_to(from);
        self
    }

    /// Where the data begins that is still to be written; `None` when there is none.
    #[must_use]
    pub fn position(&self) -> Option<GuestOffset> {
        self.data.position()
    }

    /// Does about `budget` bytes of copying, and one cluster at least. The first step makes the retired layer as
    /// large as the child, which is durable at once; nothing else is before [`Commit::flush`].
    ///
    /// # Errors
    ///
    /// Those of [`Image::grow`](crate::image::Image::grow), [`Image::write`](crate::image::Image::write) and
    /// [`Image::zero`](crate::image::Image::zero), and of reading; the step can be repeated.
    pub fn step(&mut self, budget: ByteCount) -> Result<Progress> {
        let before = self.copied;
        if self.target.size() < self.source.size() {
            self.target.grow(self.source.size())?;
            self.copied += self.growth;
        }
        let mut left = budget;
        loop {
            let spent = if !self.zero.is_empty() { self.zero_piece(left)? } else { self.data_piece(left)? };
            left = left.saturating_sub(spent);
            if spent.is_zero() || left.is_zero() {
                break;
            }
        }
        let done = self.zero.is_empty() && self.data.is_empty();
        Ok(Progress { copied: self.copied - before, done })
    }

    /// Makes everything durable that was written so far.
    ///
    /// # Errors
    ///
    /// Those of [`Image::flush`](crate::image::Image::flush).
    pub fn flush(&self) -> Result<()> {
        self.target.flush()
    }

    /// The bytes that were written into the retired layer so far.
    #[must_use]
    pub fn copied(&self) -> ByteCount {
        self.copied
    }

    /// The bytes that are to be written in all.
    #[must_use]
    pub fn total(&self) -> ByteCount {
        self.total
    }

    /// Makes the next zeros; answers what that counts for in the budget.
    fn zero_piece(&mut self, budget: ByteCount) -> Result<ByteCount> {
        let next =
            if self.writes_zeros { self.zero.next_bytes(budget) } else { self.zero.next_entries(budget) };
        let Some((piece, cost)) = next else { return Ok(ByteCount::ZERO) };
        self.target.zero(piece.start, piece.end - piece.start, Space::Free)?;
        self.zero.done_to(piece.end);
        self.copied += if self.writes_zeros { cost } else { ByteCount::ZERO };
        Ok(cost)
    }

    /// Writes the next bytes; answers how many.
    fn data_piece(&mut self, budget: ByteCount) -> Result<ByteCount> {
        let Some((piece, length)) = self.data.next_bytes(budget) else { return Ok(ByteCount::ZERO) };
        let mut bytes = vec![0; length.as_usize()];
        self.source.read(piece.start, &mut bytes)?;
        self.target.write(piece.start, &bytes)?;
        self.data.done_to(piece.end);
        self.copied += length;
        Ok(length)
    }
}

/// Why the retired layer cannot take a child of this size.
fn refusal(retired: &Layer, wanted: ByteCount) -> Error {
    let image = retired.name().to_owned();
    match retired.as_qcow2() {
        None => Error::ReadOnly { image },
        Some(_) if wanted < retired.size() => Error::Shrink { image, size: retired.size(), wanted },
        Some(layer) => match layer.check_size(wanted) {
            Err(error) => error,
            Ok(()) => Error::PastEndOfDisk { at: GuestOffset::ZERO, length: wanted, size: retired.size() },
        },
    }
}
