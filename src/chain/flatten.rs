//! The content of a whole chain in one file: a raw file, or one image, alone or above a base that has the rest.
//!
//! The target is new and empty, and nobody reads it before the end. What is copied comes in pieces on the grid of the
//! target, so that every cluster is written once and whole:
//!
//! | target | data | zeros |
//! |---|---|---|
//! | raw | written, blocks of zeros left out | left out |
//! | image alone | written, clusters of zeros left out | left out |
//! | image above a base | what differs from the base; clusters of zeros become zero clusters | zero clusters |
//!
//! What lies in a file of the source as whole clusters of the target can be taken from blob to blob instead, so that a
//! store can let both share it: it is not read then, and zeros in it stay data.

use super::diff::{ChangeKind, Diff, Exactness};
use super::map::{ExtentKind, Lookup};
use super::{Chain, Layer};
use crate::image::{Below, Content, Error, Image, Mapping, Result, Space};
use crate::storage::Blob;
use crate::units::{ByteCount, GuestOffset, HostOffset};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// The grid of a raw target: what is all zeros in it stays a hole.
const BLOCK: u64 = 4 << 10;

/// How much is read at a time, unless a cluster is larger.
const CHUNK: u64 = 1 << 20;

/// How much is zeroed at a time: a change of the tables only.
const ZERO_CHUNK: u64 = 1 << 30;

/// Whether there is more to do.
#[doc = include_str!("../engine/examples/reclaiming.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// There is.
    More,
    /// There is not: what was to be done is complete and durable.
    Done,
}

/// Whether the clusters of a target image are compressed.
#[doc = include_str!("../engine/examples/exporting.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compress {
    /// No.
    #[default]
    No,
    /// Those that get smaller.
    Clusters,
}

/// How data gets into a target image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Every byte is read, and clusters of zeros are left out.
    Read,
    /// From blob to blob, where it lies there as it is.
    Share,
}

/// What the target image reads through to: another disk, and how many of the lowest layers it shares with the
/// source.
///
/// An example is at [`Flatten`].
#[derive(Clone, Debug)]
pub struct FlattenBase {
    /// The layers of the base, the head first.
    pub chain: Chain,
    /// How many layers, the lowest ones, both have.
    pub shared: usize,
}

/// A copy of the visible content of a chain into one file, a step at a time. Dropping it leaves the target as it is.
///
/// The source must not change meanwhile.
#[doc = include_str!("examples/copying.md")]
#[derive(Debug)]
pub struct Flatten {
    source: Chain,
    pieces: Pieces,
    target: Target,
    way: Way,
    lookup: Lookup,
    has_base: bool,
    /// What is left of the piece that was begun.
    begun: Option<Piece>,
    written: ByteCount,
    total: ByteCount,
    buffer: Vec<u8>,
}

#[derive(Debug)]
enum Target {
    Raw(Arc<dyn Blob>),
    Image { layer: Arc<Layer>, compress: Compress },
}

impl Flatten {
    /// Copies into an empty blob, which becomes as long as the disk of the source; holes stay holes.
    ///
    /// Walks the tables of the source once, to know what there is to do.
    ///
    /// # Errors
    ///
    /// Broken tables; [`Error::Storage`].
    pub fn to_raw(source: &Chain, target: Arc<dyn Blob>) -> Result<Self> {
        target.set_length(source.size())?;
        Self::new(source, None, Target::Raw(target), Way::Read, BLOCK)
    }

    /// Copies into an empty image of the size of the source: everything, or with a base what differs from it.
    ///
    /// Walks the tables of the source once, to know what there is to do.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`] when the target is raw; broken tables; [`Error::Storage`].
    pub fn to_image(
        source: &Chain,
        base: Option<&FlattenBase>,
        target: Arc<Layer>,
        compress: Compress,
    ) -> Result<Self> {
        let grid = image_of(&target)?.geometry().cluster_size().as_u64();
        Self::new(source, base, Target::Image { layer: target, compress }, Way::Read, grid)
    }

    /// As [`Flatten::to_image`] without compression, but what lies in a file of the source as it shall lie in the
    /// target is taken with [`Blob::copy_from`]: stores that can share it do.
    ///
    /// # Errors
    ///
    /// As [`Flatten::to_image`].
    pub fn sharing(source: &Chain, base: Option<&FlattenBase>, target: Arc<Layer>) -> Result<Self> {
        let grid = image_of(&target)?.geometry().cluster_size().as_u64();
        let target = Target::Image { layer: target, compress: Compress::No };
        Self::new(source, base, target, Way::Share, grid)
    }

    /// The bytes that a copy into an image with clusters of this size has to do: what [`Flatten::total`] would be.
    ///
    /// # Errors
    ///
    /// Broken tables; [`Error::Storage`].
    pub fn measure(source: &Chain, base: Option<&FlattenBase>, cluster_size: ByteCount) -> Result<ByteCount> {
        let mut total = ByteCount::ZERO;
        for piece in Pieces::new(source, base, cluster_size.as_u64()) {
            let piece = piece?;
            if piece.kind == ChangeKind::Data {
                total += ByteCount::new(piece.range.end - piece.range.start);
            }
        }
        Ok(total)
    }

    fn new(source: &Chain, base: Option<&FlattenBase>, target: Target, way: Way, grid: u64) -> Result<Self> {
        Ok(Self {
            source: source.clone(),
            total: Self::measure(source, base, ByteCount::new(grid))?,
            pieces: Pieces::new(source, base, grid),
            target,
            way,
            lookup: Lookup::new(source),
            has_base: base.is_some(),
            begun: None,
            written: ByteCount::ZERO,
            buffer: Vec::new(),
        })
    }

    /// How many bytes of the source are to be copied, in whole blocks of the target.
    #[must_use]
    pub fn total(&self) -> ByteCount {
        self.total
    }

    /// How many of them are done; what turned out to be zeros and needed no room is counted, too.
    #[must_use]
    pub fn written(&self) -> ByteCount {
        self.written
    }

    /// Copies about `budget` bytes, at least one block of the target. When nothing is left, the target is flushed.
    ///
    /// # Errors
    ///
    /// What reading the source or writing the target gives. The target is then incomplete; calling again goes on
    /// with what comes next and makes nothing good.
    pub fn step(&mut self, budget: ByteCount) -> Result<Step> {
        let mut spent = 0;
        loop {
            let Some(mut piece) = self.begun.take().map(Ok).or_else(|| self.pieces.next()).transpose()?
            else {
                self.finish()?;
                return Ok(Step::Done);
            };
            let part = self.first_part(&piece, budget.as_u64().saturating_sub(spent));
            piece.range.start = part.end;
            match piece.kind {
                ChangeKind::Data => {
                    spent += part.end - part.start;
                    match self.way {
                        Way::Read => self.copy(part)?,
                        Way::Share => self.share(part)?,
                    }
                }
                ChangeKind::Zero => {
                    // Costs little, and is not free.
                    spent += self.pieces.grid;
                    self.zero(part)?;
                }
            }
            if !piece.range.is_empty() {
                self.begun = Some(piece);
            }
            if spent >= budget.as_u64() {
                return Ok(Step::More);
            }
        }
    }

    /// As much of a piece as is done at once: whole blocks, one at least.
    fn first_part(&self, piece: &Piece, budget: u64) -> Range<u64> {
        let most = match piece.kind {
            ChangeKind::Data => CHUNK.min(budget),
            ChangeKind::Zero => ZERO_CHUNK,
        };
        let grid = self.pieces.grid;
        let blocks = (most / grid).max(1) * grid;
        piece.range.start..piece.range.end.min(piece.range.start.saturating_add(blocks))
    }

    /// Takes whole blocks from the files of the source where they lie there as they are, and copies the others.
    fn share(&mut self, range: Range<u64>) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let (end, place) = self.place(at..range.end)?;
            match (place, &self.target) {
                (Some((depth, from)), Target::Image { layer, .. }) => {
                    let length = ByteCount::new(end - at);
                    let source = &**self.source.layers()[depth].blob();
                    let content = Content::Copy { source, from, length };
                    image_of(layer)?.absorb(GuestOffset::new(at), content)?;
                    self.written += length;
                }
                _ => self.copy(at..end)?,
            }
            at = end;
        }
        Ok(())
    }

    /// How far a range of whole blocks goes on alike, in whole blocks; and which layer has it in its file, at which
    /// place, when it is plain data there.
    fn place(&mut self, range: Range<u64>) -> Result<(u64, Option<(usize, HostOffset)>)> {
        let grid = self.pieces.grid;
        let rounded = |end: u64| end.next_multiple_of(grid).min(range.end);
        let at = GuestOffset::new(range.start);
        let found = self.lookup.shown(at)?;
        let end = range.end.min(found.to.as_u64());
        let Some(image) = self.source.layers()[found.depth].as_qcow2() else {
            return Ok((rounded(end), None));
        };
        if found.kind != ExtentKind::Data {
            return Ok((rounded(end), None));
        }
        let run = image.run_at(at, ByteCount::new(end - range.start))?;
        let end = (at + run.length).as_u64();
        let whole_end = if end == range.end { end } else { end / grid * grid };
        match run.mapping {
            Mapping::Data { at: from } if whole_end > range.start => {
                Ok((whole_end, Some((found.depth, from))))
            }
            _ => Ok((rounded(end), None)),
        }
    }

    /// Copies whole blocks.
    fn copy(&mut self, range: Range<u64>) -> Result<()> {
        let length = ByteCount::new(range.end - range.start);
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(length.as_usize(), 0);
        self.source.read(GuestOffset::new(range.start), &mut buffer)?;
        let grid = ByteCount::new(self.pieces.grid).as_usize();
        let mut rest = &buffer[..];
        let mut at = range.start;
        while !rest.is_empty() {
            let zeros = is_zero(&rest[..grid.min(rest.len())]);
            let alike = rest.chunks(grid).take_while(|block| is_zero(block) == zeros).map(<[u8]>::len).sum();
            let (run, after) = rest.split_at(alike);
            match zeros {
                true => self.zero(at..at + run.len() as u64)?,
                false => self.put(at, run)?,
            }
            at += run.len() as u64;
            rest = after;
        }
        self.buffer = buffer;
        self.written += length;
        if let Target::Raw(blob) = &self.target {
            blob.write_back_soon(HostOffset::new(range.start), length);
        }
        Ok(())
    }

    /// Writes whole blocks.
    fn put(&self, at: u64, bytes: &[u8]) -> Result<()> {
        match &self.target {
            Target::Raw(blob) => Ok(blob.write_at(HostOffset::new(at), bytes)?),
            Target::Image { layer, compress: Compress::No } => {
                image_of(layer)?.write(GuestOffset::new(at), bytes, None)
            }
            Target::Image { layer, compress: Compress::Clusters } => {
                let image = image_of(layer)?;
                let grid = ByteCount::new(self.pieces.grid);
                let mut at = GuestOffset::new(at);
                for cluster in bytes.chunks(grid.as_usize()) {
                    if !image.write_compressed(at, cluster)? {
                        image.write(at, cluster, None)?;
                    }
                    at += ByteCount::of(cluster.len());
                }
                Ok(())
            }
        }
    }

    /// Makes whole blocks read as zeros: they are new, so only what a base has must be hidden.
    fn zero(&self, range: Range<u64>) -> Result<()> {
        match &self.target {
            Target::Image { layer, .. } if self.has_base => {
                let length = ByteCount::new(range.end - range.start);
                image_of(layer)?.zero(GuestOffset::new(range.start), length, Space::Free, Some(&Hidden))
            }
            _ => Ok(()),
        }
    }

    fn finish(&self) -> Result<()> {
        match &self.target {
            Target::Raw(blob) => Ok(blob.sync()?),
            Target::Image { layer, .. } => image_of(layer)?.flush(),
        }
    }
}

fn image_of(layer: &Layer) -> Result<&Image> {
    layer.as_qcow2().ok_or_else(|| Error::ReadOnly { image: layer.name().to_owned() })
}

/// What is below the target. Only whole clusters are written, so nothing of it is ever asked for.
struct Hidden;

impl Below for Hidden {
    fn read_below(&self, _: GuestOffset, buffer: &mut [u8]) -> Result<()> {
        buffer.fill(0);
        Ok(())
    }
}

/// Whether all bytes are zero.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(64).all(|some| some.iter().fold(0, |all, byte| all | byte) == 0)
}

/// Whole blocks of the target to be done alike.
#[derive(Clone, Debug)]
struct Piece {
    range: Range<u64>,
    kind: ChangeKind,
}

/// The pieces of the target, in order, without overlap.
#[derive(Debug)]
struct Pieces {
    changes: Diff,
    grid: u64,
    size: u64,
    /// Up to here everything has been handed out.
    done: u64,
    ready: VecDeque<Piece>,
}

impl Pieces {
    fn new(source: &Chain, base: Option<&FlattenBase>, grid: u64) -> Self {
        let (start, exactness) = (GuestOffset::ZERO, Exactness::Tables);
        let changes = match base {
            None => Diff::allocated(source, start, exactness),
            Some(base) => Diff::between(&base.chain, source, base.shared, start, exactness),
        };
        Self { changes, grid, size: source.size().as_u64(), done: 0, ready: VecDeque::new() }
    }

    /// Rounds a change out to whole blocks. A block with zeros and something else in it is data.
    fn take_in(&mut self, change: Range<u64>, kind: ChangeKind) {
        let (grid, size) = (self.grid, self.size);
        let change = change.start..change.end.min(size);
        let start = (change.start / grid * grid).max(self.done);
        let end = change.end.next_multiple_of(grid).min(size);
        // What differs past the end of the disk has no place in it.
        if change.is_empty() || start >= end {
            return;
        }
        self.done = end;
        let whole_end = if change.end == size { size } else { change.end / grid * grid };
        let whole = change.start.next_multiple_of(grid).max(start)..whole_end;
        let parts = match kind {
            ChangeKind::Zero if !whole.is_empty() => vec![
                (start..whole.start, ChangeKind::Data),
                (whole.clone(), ChangeKind::Zero),
                (whole.end..end, ChangeKind::Data),
            ],
            _ => vec![(start..end, ChangeKind::Data)],
        };
        let parts = parts.into_iter().filter(|(range, _)| !range.is_empty());
        self.ready.extend(parts.map(|(range, kind)| Piece { range, kind }));
    }
}

impl Iterator for Pieces {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(Ok(piece));
            }
            match self.changes.next_up_to(ByteCount::new(ZERO_CHUNK))? {
                Ok(change) => self.take_in(change.at.as_u64()..change.end().as_u64(), change.kind),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
