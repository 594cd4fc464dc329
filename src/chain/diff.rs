//! What differs between two disks that share their lower layers.
//!
//! ```text
//! from:  [ a ] -> [ b ] --.
//!                          >-> [ shared ] -> [ shared ]
//! to:    [ x ] -----------'
//! ```
//! Only `a`, `b` and `x` are asked where something may differ: where none of them defines anything, both disks show
//! what the shared layers have. So the work follows what was written since the disks parted, and neither their
//! sizes nor what they share.

use super::map::{ExtentKind, Found, Lookup};
use super::{Chain, Layer};
use crate::image::Result;
use crate::units::{ByteCount, GuestOffset};
use std::collections::VecDeque;
use std::sync::Arc;

/// The granularity in which content is compared.
const SECTOR: u64 = 512;

/// How much content is compared at a time.
const BLOCK: u64 = 64 << 10;

/// What the newer disk has in a stretch that differs.
#[doc = include_str!("../engine/examples/differing.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Bytes, to be read from it. They may all be zero.
    Data,
    /// Zeros: it says so, or it has nothing there, or it ends before.
    Zero,
}

/// A stretch in which two disks differ.
///
/// Another example is at [`Flatten`](crate::chain::Flatten).
#[doc = include_str!("../engine/examples/differing.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where it begins.
    pub at: GuestOffset,
    /// How long it is, never zero.
    pub length: ByteCount,
    /// What the newer disk has there.
    pub kind: ChangeKind,
}

impl Change {
    /// The address one past its last byte.
    #[must_use]
    pub fn end(&self) -> GuestOffset {
        self.at + self.length
    }
}

/// How closely two disks are looked at.
#[doc = include_str!("../engine/examples/differing.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exactness {
    /// By the tables: what was written is a change, even when the bytes are what they were.
    #[default]
    Tables,
    /// By the content, too: what the tables say is read and compared, and what is equal is dropped, in units of 512
    /// bytes. Every such unit that is reported differs, and every one that differs is reported.
    Content,
}

/// The stretches in which two disks differ: in order, apart from each other or of another kind than the one before.
///
/// * Put onto the bytes of the older disk, cut or lengthened with zeros to the size of the newer one, the bytes of
///   the newer disk in these stretches give the newer disk.
/// * Past the end of the shorter disk there is a change where the longer one has data. So stretches reach past the
///   end of the newer disk when the older one is longer; they are [`ChangeKind::Zero`] there.
/// * What the tables of both disks say is zeros is no change.
/// * Both directions give the same stretches, apart from where one kind ends and the other begins.
///
/// Each item may be an error of the tables or of the disk below; nothing comes after it. Takes memory by the number
/// of layers, and a few blocks of 64 KiB when content is compared.
///
/// An example is at [`Flatten`](crate::chain::Flatten).
#[derive(Debug)]
pub struct Diff {
    from: Option<Side>,
    to: Side,
    at: GuestOffset,
    end: GuestOffset,
    exactness: Exactness,
    /// The rest of a change whose content is not compared yet.
    uncompared: Option<Change>,
    compared: VecDeque<Change>,
    /// What comes next, seen while looking whether it goes on alike.
    held: Option<Result<Change>>,
}

/// One of the two disks.
#[derive(Debug)]
struct Side {
    chain: Chain,
    lookup: Lookup,
    /// How many of its layers, the uppermost, it does not share.
    own: usize,
    end: GuestOffset,
}

impl Diff {
    /// What differs between `from` and `to` at and after `start`. The lowest `shared` layers of both are the same
    /// ones, in the same order.
    ///
    /// # Panics
    ///
    /// When one of the chains has fewer layers than they are said to share.
    #[must_use]
    pub fn between(
        from: &Chain,
        to: &Chain,
        shared: usize,
        start: GuestOffset,
        exactness: Exactness,
    ) -> Self {
        let (from, to) = (Side::new(from, shared), Side::new(to, shared));
        let end = from.end.max(to.end);
        Self::new(Some(from), to, start, end, exactness)
    }

    /// What `disk` has data for at and after `start`: what differs from a disk of zeros. With
    /// [`Exactness::Content`] every unit of 512 bytes that is reported holds something else than zeros.
    #[must_use]
    pub fn allocated(disk: &Chain, start: GuestOffset, exactness: Exactness) -> Self {
        let to = Side::new(disk, 0);
        let end = to.end;
        Self::new(None, to, start, end, exactness)
    }

    fn new(from: Option<Side>, to: Side, start: GuestOffset, end: GuestOffset, exactness: Exactness) -> Self {
        let at = start.min(end);
        Self { from, to, at, end, exactness, uncompared: None, compared: VecDeque::new(), held: None }
    }

    /// The next change by the tables. Two side by side may be alike.
    fn next_by_tables(&mut self) -> Result<Option<Change>> {
        while self.at < self.end {
            let at = self.at;
            let (kind, to) = self.stretch_at(at)?;
            self.at = to;
            if let Some(kind) = kind {
                return Ok(Some(Change { at, length: to - at, kind }));
            }
        }
        Ok(None)
    }

    /// Whether the disks differ at `at`, and up to where it is so at least.
    fn stretch_at(&mut self, at: GuestOffset) -> Result<(Option<ChangeKind>, GuestOffset)> {
        let to = &mut self.to;
        let Some(from) = &mut self.from else {
            let (has_data, until) = to.has_data(at)?;
            return Ok((has_data.then_some(ChangeKind::Data), until));
        };
        if at >= from.end {
            let (has_data, until) = to.has_data(at)?;
            return Ok((has_data.then_some(ChangeKind::Data), until));
        }
        if at >= to.end {
            let (had_data, until) = from.has_data(at)?;
            return Ok((had_data.then_some(ChangeKind::Zero), until));
        }
        let (before, after) = (from.own(at)?, to.own(at)?);
        if before.kind == ExtentKind::Absent && after.kind == ExtentKind::Absent {
            return Ok((None, before.to.min(after.to).min(from.end).min(to.end)));
        }
        let ((had_data, before), (has_data, after)) = (from.has_data(at)?, to.has_data(at)?);
        let kind = if has_data { ChangeKind::Data } else { ChangeKind::Zero };
        Ok(((had_data || has_data).then_some(kind), before.min(after)))
    }

    /// The next change, by the content when that is asked for. Two side by side may be alike.
    fn next_piece(&mut self) -> Result<Option<Change>> {
        if self.exactness == Exactness::Tables {
            return self.next_by_tables();
        }
        loop {
            if let Some(change) = self.compared.pop_front() {
                return Ok(Some(change));
            }
            let next = match self.uncompared.take() {
                Some(rest) => Some(rest),
                None => self.next_by_tables()?,
            };
            let Some(change) = next else { return Ok(None) };
            self.compare_block(change)?;
        }
    }

    /// Compares the first block of a change and puts the rest back.
    fn compare_block(&mut self, change: Change) -> Result<()> {
        let block_end = GuestOffset::new((change.at.as_u64() / BLOCK + 1).saturating_mul(BLOCK));
        let end = block_end.min(change.end());
        if end < change.end() {
            self.uncompared = Some(Change { at: end, length: change.end() - end, ..change });
        }
        let length = (end - change.at).as_usize();
        let (mut before, mut after) = (vec![0; length], vec![0; length]);
        if let Some(from) = &self.from {
            from.read(change.at, &mut before)?;
        }
        if change.kind == ChangeKind::Data {
            self.to.read(change.at, &mut after)?;
        }
        let mut done = 0;
        while done < length {
            let at = change.at + ByteCount::of(done);
            let to_boundary = SECTOR - at.as_u64() % SECTOR;
            let sector = done..(done + ByteCount::new(to_boundary).as_usize()).min(length);
            if before[sector.clone()] != after[sector.clone()] {
                let piece = Change { at, length: ByteCount::of(sector.len()), kind: change.kind };
                match self.compared.back_mut() {
                    Some(last) if last.end() == at => last.length += piece.length,
                    _ => self.compared.push_back(piece),
                }
            }
            done = sector.end;
        }
        Ok(())
    }

    /// The next change as one with those that follow it and are alike, until it is `enough` long. Ends for good with
    /// an error.
    pub(super) fn next_up_to(&mut self, enough: ByteCount) -> Option<Result<Change>> {
        let next = self.next_merged(enough);
        if next.is_err() {
            (self.at, self.uncompared, self.held) = (self.end, None, None);
            self.compared.clear();
        }
        next.transpose()
    }

    fn next_merged(&mut self, enough: ByteCount) -> Result<Option<Change>> {
        let first = self.held.take().map_or_else(|| self.next_piece(), |held| held.map(Some))?;
        let Some(mut change) = first else { return Ok(None) };
        while change.length < enough {
            match self.next_piece() {
                Ok(None) => break,
                Ok(Some(next)) if next.at == change.end() && next.kind == change.kind => {
                    change.length += next.length;
                }
                Ok(Some(next)) => {
                    self.held = Some(Ok(next));
                    break;
                }
                Err(error) => {
                    self.held = Some(Err(error));
                    break;
                }
            }
        }
        Ok(Some(change))
    }
}

impl Iterator for Diff {
    type Item = Result<Change>;

    fn next(&mut self) -> Option<Result<Change>> {
        self.next_up_to(ByteCount::new(u64::MAX))
    }
}

impl std::iter::FusedIterator for Diff {}

impl Side {
    fn new(chain: &Chain, shared: usize) -> Self {
        let layers: &[Arc<Layer>] = chain.layers();
        let own = layers.len().checked_sub(shared).expect("a chain has the layers that it shares");
        Self { chain: chain.clone(), lookup: Lookup::new(chain), own, end: GuestOffset::end_of(chain.size()) }
    }

    /// What the layers that are not shared say.
    fn own(&mut self, at: GuestOffset) -> Result<Found> {
        self.lookup.within(at, self.own)
    }

    /// Whether the disk has data at `at`, and up to where it is so at least, within the disk.
    fn has_data(&mut self, at: GuestOffset) -> Result<(bool, GuestOffset)> {
        let found = self.lookup.shown(at)?;
        Ok((found.kind == ExtentKind::Data, found.to.min(self.end)))
    }

    /// Fills the buffer with what the disk shows; what is past its end is left as it is.
    fn read(&self, at: GuestOffset, buffer: &mut [u8]) -> Result<()> {
        let left =
            self.end.checked_since(at).map_or(0, |left| left.min(ByteCount::of(buffer.len())).as_usize());
        if left == 0 {
            return Ok(());
        }
        self.chain.read(at, &mut buffer[..left])
    }
}
