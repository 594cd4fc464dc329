//! One map of a whole chain: which layer has the say where, and what it says, by the tables alone.
//!
//! Nothing of the guest's data is read. Every layer is asked for one stretch at a time and remembers none but the
//! last, so a map takes memory by the number of layers, and neither by their size nor by what they hold.

use super::{Chain, Layer, RawLayer};
use crate::image::{Mapping, Result};
use crate::units::{ByteCount, GuestOffset, HostOffset};
use std::sync::Arc;

/// Past every address: how far a layer goes on that has ended.
const FOREVER: GuestOffset = GuestOffset::new(u64::MAX);

/// What a chain has at an address.
///
/// An example is at [`RawLayer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtentKind {
    /// Bytes in the file of a layer, plain or compressed. They may all be zero.
    Data,
    /// Zeros that a layer defines: zero clusters, holes of a raw file, or the layer has ended before the address.
    Zero,
    /// Nothing: no layer defines it, and it reads as zeros.
    Absent,
}

/// A stretch of the guest's disk for which one layer has the say.
///
/// An example is at [`RawLayer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins.
    pub at: GuestOffset,
    /// How long it is, never zero.
    pub length: ByteCount,
    /// Which layer has the say, the head being 0; the lowest one where nothing is defined.
    ///
    /// Where a layer has ended this is the layer that has ended. (`qemu-img map` gives the one above it.)
    pub depth: usize,
    /// What is there.
    pub kind: ExtentKind,
}

impl Extent {
    /// The address one past its last byte.
    #[must_use]
    pub fn end(&self) -> GuestOffset {
        self.at + self.length
    }
}

impl Chain {
    /// The stretches of the disk from `from` on, in order, without gaps, up to the end of the disk; none when the
    /// disk ends before. Two of them side by side always differ in depth or in kind.
    ///
    /// The answer is exact over layers of different cluster sizes and lengths. It reads each L2 table once, and
    /// skips those that are not there. What is written to the head meanwhile may be seen or not.
    ///
    /// Each item may be an error of the tables, as those of [`Image::run_at`](crate::image::Image::run_at), or of
    /// the disk below; nothing comes after it.
    #[must_use]
    pub fn extents(&self, from: GuestOffset) -> ChainMap {
        let end = GuestOffset::end_of(self.size());
        ChainMap { lookup: Lookup::new(self), at: from.min(end), end }
    }
}

/// The stretches of a chain, in order; see [`Chain::extents`].
///
/// An example is at [`RawLayer`].
#[derive(Debug)]
pub struct ChainMap {
    lookup: Lookup,
    at: GuestOffset,
    end: GuestOffset,
}

impl Iterator for ChainMap {
    type Item = Result<Extent>;

    fn next(&mut self) -> Option<Result<Extent>> {
        if self.at >= self.end {
            return None;
        }
        let first = match self.lookup.shown(self.at) {
            Ok(found) => found,
            Err(error) => {
                self.at = self.end;
                return Some(Err(error));
            }
        };
        let mut to = first.to.min(self.end);
        // An error further on is told when it is reached.
        while to < self.end
            && let Ok(next) = self.lookup.shown(to)
            && (next.depth, next.kind) == (first.depth, first.kind)
        {
            to = next.to.min(self.end);
        }
        let extent = Extent { at: self.at, length: to - self.at, depth: first.depth, kind: first.kind };
        self.at = to;
        Some(Ok(extent))
    }
}

impl std::iter::FusedIterator for ChainMap {}

/// What one look-up has found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) depth: usize,
    pub(super) kind: ExtentKind,
    /// Up to here it is alike at least.
    pub(super) to: GuestOffset,
}

/// Looks addresses up in a stack of layers. Cheap for addresses that rise: of each layer, the stretch that was
/// asked for last is remembered.
#[derive(Debug)]
pub(super) struct Lookup {
    layers: Arc<[Arc<Layer>]>,
    stretches: Vec<Stretch>,
}

/// What one layer says from one address to another.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    from: GuestOffset,
    to: GuestOffset,
    kind: ExtentKind,
}

impl Lookup {
    pub(super) fn new(chain: &Chain) -> Self {
        let unasked = Stretch { from: FOREVER, to: FOREVER, kind: ExtentKind::Absent };
        Self { layers: Arc::clone(&chain.layers), stretches: vec![unasked; chain.layers.len()] }
    }

    /// What the whole chain shows at `at`.
    pub(super) fn shown(&mut self, at: GuestOffset) -> Result<Found> {
        self.within(at, self.layers.len())
    }

    /// What the uppermost `count` layers say about `at`; nothing, when they leave it to those below.
    pub(super) fn within(&mut self, at: GuestOffset, count: usize) -> Result<Found> {
        let mut to = FOREVER;
        for (depth, (layer, stretch)) in self.layers.iter().zip(&mut self.stretches).take(count).enumerate() {
            if !(stretch.from..stretch.to).contains(&at) {
                *stretch = stretch_of(layer, at)?;
            }
            to = to.min(stretch.to);
            if stretch.kind != ExtentKind::Absent {
                return Ok(Found { depth, kind: stretch.kind, to });
            }
        }
        Ok(Found { depth: count.saturating_sub(1), kind: ExtentKind::Absent, to })
    }
}

/// What a layer says at `at`, and how far it says so at least.
fn stretch_of(layer: &Layer, at: GuestOffset) -> Result<Stretch> {
    let size = layer.size();
    let Some(left) = GuestOffset::end_of(size).checked_since(at).filter(|left| !left.is_zero()) else {
        return Ok(Stretch { from: at, to: FOREVER, kind: ExtentKind::Zero });
    };
    let image = match layer {
        Layer::Qcow2(image) => image,
        Layer::Raw(raw) => return stretch_of_raw(raw, at),
    };
    let run = image.run_at(at, left)?;
    let kind = match run.mapping {
        Mapping::Absent => ExtentKind::Absent,
        Mapping::Zero => ExtentKind::Zero,
        Mapping::Data { .. } | Mapping::Compressed(_) => ExtentKind::Data,
    };
    Ok(Stretch { from: at, to: at + run.length, kind })
}

/// What a raw file says at `at`, which lies within its disk: a hole is zeros.
fn stretch_of_raw(raw: &RawLayer, at: GuestOffset) -> Result<Stretch> {
    let end = GuestOffset::end_of(raw.size());
    let data = raw.blob().next_data(HostOffset::new(at.as_u64()))?;
    // The file may have become longer since; the disk has not. What fills up its last sector belongs to the data.
    let guest = |host: HostOffset| match host < HostOffset::end_of(raw.length()) {
        true => GuestOffset::new(host.as_u64()),
        false => end,
    };
    Ok(match data.map(|data| guest(data.start)..guest(data.end)) {
        Some(data) if data.start <= at => Stretch { from: at, to: data.end, kind: ExtentKind::Data },
        Some(data) => Stretch { from: at, to: data.start, kind: ExtentKind::Zero },
        None => Stretch { from: at, to: end, kind: ExtentKind::Zero },
    })
}
