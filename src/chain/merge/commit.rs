//! Commit: a child is written down into the retired layer below it, which then takes its place.

use super::super::{Chain, Extents, Layer};
use super::todo::Todo;
use super::{Progress, lists};
use crate::image::{Content, Error, Image, Mapping, Result, Space};
use crate::units::{ByteCount, GuestOffset, HostOffset};
use std::ops::Range;
use std::sync::Arc;

/// A commit under way.
///
/// The child does not change any more, and nobody reads the retired layer but through it: what the retired layer
/// showed before is lost from the first step on. What is written is what the child shows there anyway. Where it
/// [`displaces`](super::displaces) what is read, whoever opened the retired layer before must have let go of it.
///
/// An example is at [`Pull`](super::Pull).
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

/// Bytes that can be copied from file to file.
struct Place<'a> {
    child: &'a Image,
    /// Where they begin in the child's file.
    from: HostOffset,
    /// The image that lacks them.
    retired: &'a Image,
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
        let Some((piece, cost)) = self.data.next_bytes(budget) else { return Ok(ByteCount::ZERO) };
        let mut at = piece.start;
        while at < piece.end {
            at += self.fill(at..piece.end)?;
            self.data.done_to(at);
        }
        self.copied += cost;
        Ok(cost)
    }

    /// Fills the first bytes of a piece; answers how many. Where the retired layer has nothing, they are taken from the
    /// child's file as they lie there: the store may let both files share them.
    fn fill(&self, piece: Range<GuestOffset>) -> Result<ByteCount> {
        let at = piece.start;
        let (length, place) = self.place_in_child(piece)?;
        match place {
            Some(place) => {
                let content = Content::Copy { source: &**place.child.blob(), from: place.from, length };
                let filled = place.retired.absorb(at, content)?;
                debug_assert_eq!(filled, length, "nobody else fills a retired layer");
            }
            None => {
                let mut bytes = vec![0; length.as_usize()];
                self.source.read(at, &mut bytes)?;
                self.target.write(at, &bytes)?;
            }
        }
        Ok(length)
    }

    /// How many bytes of a piece are alike; and, when they fill subclusters that the retired layer lacks and lie as data
    /// in the child's file, where they begin there.
    fn place_in_child(&self, piece: Range<GuestOffset>) -> Result<(ByteCount, Option<Place<'_>>)> {
        let wanted = piece.end - piece.start;
        let (child, retired) = (self.source.head().as_qcow2(), self.target.head().as_qcow2());
        let (Some(child), Some(retired)) = (child, retired) else { return Ok((wanted, None)) };
        let grid = retired.geometry().subcluster_size().as_u64();
        let above = child.run_at(piece.start, wanted)?;
        let below = retired.run_at(piece.start, above.length)?;
        let alike = below.length;
        let to_end = piece.end == GuestOffset::end_of(self.target.size());
        let whole = if alike == wanted && to_end { alike.as_u64() } else { alike.as_u64() / grid * grid };
        match (above.mapping, below.mapping) {
            (Mapping::Data { at }, Mapping::Absent)
                if whole > 0 && child.is_readable() && piece.start.as_u64().is_multiple_of(grid) =>
            {
                Ok((ByteCount::new(whole), Some(Place { child, from: at, retired })))
            }
            _ => Ok((ByteCount::new(alike.as_u64().next_multiple_of(grid)).min(wanted), None)),
        }
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
