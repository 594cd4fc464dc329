//! The layers below a head as one map: which file has the bytes of an address, found once and kept.
//!
//! A read below the head is then one look-up and one read, however many layers there are. What must be true for that:
//!
//! * **R1** Nothing is written to a lower layer through its handle in the chain: each is closed when the map is made,
//!   or there is no map. So what was found stays found for as long as the chain lives.
//! * **R2** Whoever writes to the file of such a layer through another handle changes nothing that is seen through the
//!   chain, and gives no bytes to others that are: the same holds for the tables that the handle has in memory.
//!
//! The disk is cut into stretches of equal length; one is resolved when it is first asked for, from the entries that
//! each layer has for it, the uppermost first. The stretches take a bounded part of memory: the ones that were used
//! least recently are forgotten.

use super::Layer;
use super::read::read_through;
use crate::image::{Mapping, Result};
use crate::storage::read_zero_extended;
use crate::sync::RwLock;
use crate::units::{ByteCount, GuestOffset, HostOffset};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the stretches of one chain may take up in memory.
const HELD_MAX: usize = 8 << 20;
/// The entries of the uppermost layer that a stretch is made of: those in 4 KiB of a table.
const ENTRIES: u64 = 512;
/// The length of a stretch over raw files alone.
const LENGTH_RAW: u64 = 32 << 20;

/// The layers below a head, resolved as far as they were read.
#[derive(Debug)]
pub(super) struct Resolved {
    /// How long a stretch is, in bytes.
    length: u64,
    held: RwLock<Held>,
    /// Goes on by two when a stretch is resolved, so that who reads what is resolved changes nothing that other threads
    /// look at. What is used between two such moments is not told apart; it was used later than what was only resolved.
    clock: AtomicU64,
}

#[derive(Debug, Default)]
struct Held {
    stretches: HashMap<u64, Arc<Stretch>>,
    bytes: usize,
}

/// A part of the disk: pieces without gaps, in order.
#[derive(Debug)]
struct Stretch {
    pieces: Box<[Piece]>,
    /// When it was used last, by that clock.
    used: AtomicU64,
}

/// Goes on until the next piece begins.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// Where it begins in the stretch, in bytes.
    from: u32,
    /// Which of the lower layers has the say.
    depth: u32,
    source: Source,
}

/// What that layer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Zero,
    /// Bytes in its file.
    Stored(HostOffset),
    /// It must be asked again: it is compressed, or what the tables say is broken and the one who reads is to be told.
    Ask,
}

impl Resolved {
    /// Makes an empty map of lower layers; `None` when one of them may be written (R1), or there are none.
    pub(super) fn of(lower: &[Arc<Layer>]) -> Option<Self> {
        let is_closed = |layer: &Arc<Layer>| layer.as_qcow2().is_none_or(|image| image.is_closed());
        if lower.is_empty() || !lower.iter().all(is_closed) {
            return None;
        }
        let uppermost = lower.iter().find_map(|layer| layer.as_qcow2());
        let length = uppermost.map_or(LENGTH_RAW, |image| ENTRIES * image.geometry().cluster_size().as_u64());
        Some(Self { length, held: RwLock::default(), clock: AtomicU64::new(0) })
    }

    /// Fills `buffer` with what the lower layers show from `at` on.
    pub(super) fn read(&self, lower: &[Arc<Layer>], at: GuestOffset, buffer: &mut [u8]) -> Result<()> {
        let (mut at, mut rest) = (at, buffer);
        while !rest.is_empty() {
            let number = at.as_u64() / self.length;
            let inside = at.as_u64() % self.length;
            let stretch = self.stretch(lower, number);
            let count = rest.len().min(ByteCount::new(self.length - inside).as_usize());
            let (here, behind) = rest.split_at_mut(count);
            stretch.read(lower, at, inside, here)?;
            at += ByteCount::of(count);
            rest = behind;
        }
        Ok(())
    }

    /// A stretch, resolved now if it was not before.
    fn stretch(&self, lower: &[Arc<Layer>], number: u64) -> Arc<Stretch> {
        let now = self.clock.load(Ordering::Relaxed) + 1;
        if let Some(stretch) = self.held.read().stretches.get(&number) {
            if stretch.used.load(Ordering::Relaxed) != now {
                stretch.used.store(now, Ordering::Relaxed);
            }
            return Arc::clone(stretch);
        }
        let start = number * self.length;
        let pieces = resolve(lower, start..start.saturating_add(self.length));
        let now = self.clock.fetch_add(2, Ordering::Relaxed) + 2;
        let stretch = Arc::new(Stretch { pieces, used: AtomicU64::new(now) });
        let mut held = self.held.write();
        held.bytes += stretch.bytes();
        if let Some(twin) = held.stretches.insert(number, Arc::clone(&stretch)) {
            held.bytes -= twin.bytes();
        }
        held.forget_oldest();
        stretch
    }
}

impl Held {
    /// Forgets the half that was used least recently, when too much is held.
    fn forget_oldest(&mut self) {
        if self.bytes <= HELD_MAX {
            return;
        }
        let mut by_use: Vec<_> = self
            .stretches
            .iter()
            .map(|(number, stretch)| (stretch.used.load(Ordering::Relaxed), *number))
            .collect();
        by_use.sort_unstable();
        for (_, number) in by_use {
            if self.bytes <= HELD_MAX / 2 {
                return;
            }
            let gone = self.stretches.remove(&number);
            self.bytes -= gone.map_or(0, |stretch| stretch.bytes());
        }
    }
}

impl Stretch {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.pieces.len() * size_of::<Piece>()
    }

    /// Fills `buffer` from the pieces; it begins `inside` the stretch and ends in it.
    fn read(&self, lower: &[Arc<Layer>], at: GuestOffset, inside: u64, buffer: &mut [u8]) -> Result<()> {
        let mut index = self.pieces.partition_point(|piece| u64::from(piece.from) <= inside) - 1;
        let mut done = 0;
        while done < buffer.len() {
            let piece = self.pieces[index];
            let here = inside + done as u64;
            let left = buffer.len() - done;
            let length = match self.pieces.get(index + 1) {
                Some(next) => ByteCount::new(u64::from(next.from) - here).as_usize().min(left),
                None => left,
            };
            let bytes = &mut buffer[done..done + length];
            let skipped = ByteCount::new(here - u64::from(piece.from));
            piece.read(lower, at + ByteCount::of(done), skipped, bytes)?;
            done += length;
            index += 1;
        }
        Ok(())
    }
}

impl Piece {
    /// Fills `buffer` from `skipped` bytes into the piece, which is `at` on the disk.
    fn read(
        self,
        lower: &[Arc<Layer>],
        at: GuestOffset,
        skipped: ByteCount,
        buffer: &mut [u8],
    ) -> Result<()> {
        let layers = &lower[self.depth as usize..];
        match (self.source, &*layers[0]) {
            (Source::Zero, _) => buffer.fill(0),
            (Source::Ask, _) => read_through(layers, at, buffer)?,
            (Source::Stored(host), Layer::Qcow2(image)) => image.read_stored(host + skipped, buffer)?,
            (Source::Stored(host), Layer::Raw(raw)) => {
                read_zero_extended(&**raw.blob(), raw.length(), host + skipped, buffer)?;
            }
        }
        Ok(())
    }

    /// Whether `next` only says that this piece goes on.
    fn continues_in(self, next: Self) -> bool {
        match (self.source, next.source) {
            (Source::Zero, Source::Zero) => true,
            (Source::Ask, Source::Ask) => self.depth == next.depth,
            (Source::Stored(host), Source::Stored(next_host)) => {
                self.depth == next.depth
                    && host.checked_add(ByteCount::new(u64::from(next.from - self.from))) == Some(next_host)
            }
            _ => false,
        }
    }
}

/// What has the say in a part of the disk, by the tables of all layers.
fn resolve(lower: &[Arc<Layer>], range: Range<u64>) -> Box<[Piece]> {
    let mut pieces = Pieces { start: range.start, found: Vec::new(), open: vec![range.clone()] };
    for (depth, layer) in (0..).zip(lower) {
        let end = layer.size().as_u64();
        pieces.take(end.max(range.start)..range.end, depth, |_| Source::Zero);
        let Some(hull) = pieces.hull() else { break };
        let named = match &**layer {
            Layer::Raw(_) => {
                pieces.take(hull, depth, |at| Source::Stored(HostOffset::new(at)));
                continue;
            }
            Layer::Qcow2(image) => {
                let hull = GuestOffset::new(hull.start)..GuestOffset::new(hull.end);
                image.defined(hull, |at, run| {
                    let at = at.as_u64();
                    pieces.take(at..at + run.length.as_u64(), depth, |here| match run.mapping {
                        Mapping::Data { at: host } => Source::Stored(host + ByteCount::new(here - at)),
                        Mapping::Zero => Source::Zero,
                        Mapping::Absent | Mapping::Compressed(_) => Source::Ask,
                    });
                })
            }
        };
        if named.is_err() {
            pieces.take(range.clone(), depth, |_| Source::Ask);
        }
    }
    let lowest = u32::try_from(lower.len() - 1).expect("a chain is shorter");
    pieces.take(range, lowest, |_| Source::Zero);
    pieces.joined()
}

/// The pieces of a stretch while it is resolved.
struct Pieces {
    /// Where the stretch begins.
    start: u64,
    found: Vec<Piece>,
    /// What no layer has defined so far: in order, none empty, none touching the next one.
    open: Vec<Range<u64>>,
}

impl Pieces {
    /// From the first address to the last one that is open.
    fn hull(&self) -> Option<Range<u64>> {
        Some(self.open.first()?.start..self.open.last()?.end)
    }

    /// Gives what is open of a range to a layer; `source` says what it has at an address.
    fn take(&mut self, range: Range<u64>, depth: u32, source: impl Fn(u64) -> Source) {
        if range.is_empty() {
            return;
        }
        let first = self.open.partition_point(|open| open.end <= range.start);
        let after = self.open.partition_point(|open| open.start < range.end);
        if first >= after {
            return;
        }
        let left = self.open[first].start..range.start;
        let right = range.end..self.open[after - 1].end;
        for open in &self.open[first..after] {
            let at = open.start.max(range.start);
            let from = u32::try_from(at - self.start).expect("a stretch is shorter than 4 GiB");
            self.found.push(Piece { from, depth, source: source(at) });
        }
        self.open.splice(first..after, [left, right].into_iter().filter(|open| !open.is_empty()));
    }

    fn joined(mut self) -> Box<[Piece]> {
        self.found.sort_unstable_by_key(|piece| piece.from);
        let mut joined: Vec<Piece> = Vec::with_capacity(self.found.len());
        for piece in self.found {
            if joined.last().is_none_or(|last| !last.continues_in(piece)) {
                joined.push(piece);
            }
        }
        joined.into()
    }
}
