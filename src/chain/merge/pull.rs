//! Pull: a retired layer is copied up into its child, which guests may go on writing to.

use super::super::{Chain, Extents, Layer, Ranges};
use super::todo::Todo;
use super::{Progress, lists};
use crate::image::{Content, Error, Image, Mapping, Result};
use crate::units::{ByteCount, GuestOffset, HostOffset};
use std::ops::Range;
use std::sync::Arc;

/// A pull under way.
///
/// The child must read through the retired layer until the pull is done and flushed, and whoever writes to it or
/// makes it larger meanwhile must say so as what is below. The layers below the child must not change.
#[doc = include_str!("../examples/merging.md")]
#[derive(Debug)]
pub struct Pull {
    /// The child, the retired layer, and what is below it.
    chain: Chain,
    /// The retired layer, and what is below it.
    lower: Vec<Extents>,
    /// What was listed so far, and the size that the child had then.
    listed: Ranges,
    size: ByteCount,
    data: Todo,
    zero: Todo,
    /// Whether the child has no zero clusters.
    writes_zeros: bool,
    total: ByteCount,
    copied: ByteCount,
}

impl Pull {
    /// Works out what the child needs; nothing is written yet. The child is open for writing.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`] when the child is a raw file; [`Error::Unsupported`] when it holds internal snapshots, which
    /// cannot be given what they read through to; those of [`Layer::extents`].
    pub fn new(child: Arc<Layer>, retired: Arc<Layer>, deeper: Vec<Arc<Layer>>) -> Result<Self> {
        let layers: Vec<_> = [child, retired].into_iter().chain(deeper).collect();
        let lower = layers[1..].iter().map(|layer| layer.extents()).collect::<Result<_>>()?;
        let nothing = || Todo::new(Ranges::new(), ByteCount::new(1));
        let mut pull = Self {
            chain: Chain::new(layers),
            lower,
            listed: Ranges::new(),
            size: ByteCount::ZERO,
            data: nothing(),
            zero: nothing(),
            writes_zeros: false,
            total: ByteCount::ZERO,
            copied: ByteCount::ZERO,
        };
        pull.list()?;
        Ok(pull)
    }

    /// Does about `budget` bytes of copying, and one cluster at least. Nothing of it is durable before
    /// [`Pull::flush`].
    ///
    /// # Errors
    ///
    /// Those of [`Image::absorb`] and of reading; the step can be repeated.
    pub fn step(&mut self, budget: ByteCount) -> Result<Progress> {
        let before = self.copied;
        let mut left = budget;
        loop {
            if self.zero.is_empty() && self.data.is_empty() && self.child()?.size() != self.size {
                // The disk was made larger: what is new may need zeros.
                self.list()?;
            }
            let spent = if !self.zero.is_empty() { self.zero_piece(left)? } else { self.data_piece(left)? };
            left = left.saturating_sub(spent);
            if spent.is_zero() || left.is_zero() {
                break;
            }
        }
        let done = self.zero.is_empty() && self.data.is_empty() && self.child()?.size() == self.size;
        Ok(Progress { copied: self.copied - before, done })
    }

    /// Makes everything durable that was copied so far.
    ///
    /// # Errors
    ///
    /// Those of [`Image::flush`].
    pub fn flush(&self) -> Result<()> {
        self.chain.flush()
    }

    /// The bytes that were written into the child so far. Fewer than the total in the end when guests were faster,
    /// or when a raw file turned out to hold zeros.
    #[must_use]
    pub fn copied(&self) -> ByteCount {
        self.copied
    }

    /// The bytes that the tables ask for.
    #[must_use]
    pub fn total(&self) -> ByteCount {
        self.total
    }

    fn child(&self) -> Result<&Image> {
        let head = self.chain.head();
        head.as_qcow2().ok_or_else(|| Error::ReadOnly { image: head.name().to_owned() })
    }

    fn retired(&self) -> &Layer {
        &self.chain.layers()[1]
    }

    /// Lists what the child lacks now, as far as it was not listed before.
    fn list(&mut self) -> Result<()> {
        self.child()?;
        let child = self.chain.head().extents()?;
        if child.has_internal_snapshots {
            return Err(Error::Unsupported {
                image: self.chain.head().name().to_owned(),
                feature: "holds internal snapshots, which read through what is below",
                refused: "pulling into",
            });
        }
        let grid = child.subcluster_size;
        let mut copies = lists::pull(&child, &self.lower[0], &self.lower[1..]);
        // What was the last cluster of a smaller disk is looked at again, as a whole one.
        let listed = self.listed.round_in(grid, child.size);
        copies.data = copies.data.subtract(&listed);
        copies.zero = copies.zero.subtract(&listed);
        self.writes_zeros = !child.has_zero_clusters;
        copies.zeros_written = if self.writes_zeros { copies.zero.bytes() } else { ByteCount::ZERO };
        self.total += copies.copied_bytes();
        self.listed = self.listed.union(&copies.data).union(&copies.zero);
        self.size = child.size;
        self.data = Todo::new(copies.data, grid);
        self.zero = Todo::new(copies.zero, grid);
        Ok(())
    }

    /// Makes the next zeros; answers what that counts for in the budget.
    fn zero_piece(&mut self, budget: ByteCount) -> Result<ByteCount> {
        let next =
            if self.writes_zeros { self.zero.next_bytes(budget) } else { self.zero.next_entries(budget) };
        let Some((piece, cost)) = next else { return Ok(ByteCount::ZERO) };
        let filled = self.child()?.absorb(piece.start, Content::Zero(piece.end - piece.start))?;
        self.zero.done_to(piece.end);
        self.copied += if self.writes_zeros { filled } else { ByteCount::ZERO };
        Ok(cost)
    }

    /// Fills the next clusters; answers for how many bytes.
    fn data_piece(&mut self, budget: ByteCount) -> Result<ByteCount> {
        let Some((piece, cost)) = self.data.next_bytes(budget) else { return Ok(ByteCount::ZERO) };
        let mut at = piece.start;
        while at < piece.end {
            let (length, filled) = self.fill(at..piece.end)?;
            self.copied += filled;
            at += length;
            self.data.done_to(at);
        }
        Ok(cost)
    }

    /// Fills the first clusters of a piece, from the retired layer's file where they lie there side by side. Answers
    /// how many bytes are done, and how many of them were written.
    fn fill(&self, piece: Range<GuestOffset>) -> Result<(ByteCount, ByteCount)> {
        let at = piece.start;
        let (length, place) = self.place_in_retired(piece)?;
        let filled = match place {
            Some((image, from)) => {
                let content = Content::Copy { source: &**image.blob(), from, length };
                self.child()?.absorb(at, content)?
            }
            None => {
                let mut bytes = vec![0; length.as_usize()];
                self.chain.read(at, &mut bytes)?;
                match self.lower[0].is_raw {
                    true => self.fill_sparse(at, &bytes)?,
                    false => self.child()?.absorb(at, Content::Data(&bytes))?,
                }
            }
        };
        Ok((length, filled))
    }

    /// How many bytes of a piece are alike, in whole subclusters of the child; and where in the retired layer's file
    /// they lie when all of them are data there.
    fn place_in_retired(
        &self,
        piece: Range<GuestOffset>,
    ) -> Result<(ByteCount, Option<(&Image, HostOffset)>)> {
        let wanted = piece.end - piece.start;
        let Some(image) = self.retired().as_qcow2() else { return Ok((wanted, None)) };
        let inside = GuestOffset::end_of(image.size()).checked_since(piece.start).unwrap_or_default();
        if inside.is_zero() {
            return Ok((wanted, None));
        }
        let run = image.run_at(piece.start, wanted.min(inside))?;
        let grid = self.child()?.geometry().subcluster_size().as_u64();
        let whole = run.length.as_u64() / grid * grid;
        match run.mapping {
            // What is encrypted is not copied as it lies there; reading it says why.
            Mapping::Data { .. } if !image.is_readable() => Ok((wanted, None)),
            Mapping::Data { at } if run.length == wanted => Ok((wanted, Some((image, at)))),
            Mapping::Data { at } if whole > 0 => Ok((ByteCount::new(whole), Some((image, at)))),
            _ => {
                let mixed = ByteCount::new(run.length.as_u64().next_multiple_of(grid));
                Ok((mixed.min(wanted), None))
            }
        }
    }

    /// Fills clusters from a raw file so that its zeros take up no room: with nothing below it they are left absent.
    fn fill_sparse(&self, at: GuestOffset, bytes: &[u8]) -> Result<ByteCount> {
        let child = self.child()?;
        let size = child.geometry().cluster_size().as_usize();
        let mut filled = ByteCount::ZERO;
        let mut done = 0;
        let is_zero = |cluster: &[u8]| cluster.iter().all(|byte| *byte == 0);
        for alike in bytes.chunks(size).collect::<Vec<_>>().chunk_by(|a, b| is_zero(a) == is_zero(b)) {
            let length = alike.iter().map(|cluster| cluster.len()).sum::<usize>();
            let here = at + ByteCount::of(done);
            if !is_zero(alike[0]) {
                filled += child.absorb(here, Content::Data(&bytes[done..done + length]))?;
            } else if self.lower.len() > 1 {
                let zeroed = child.absorb(here, Content::Zero(ByteCount::of(length)))?;
                filled += if self.writes_zeros { zeroed } else { ByteCount::ZERO };
            }
            done += length;
        }
        Ok(filled)
    }
}
