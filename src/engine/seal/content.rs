//! What one layer holds itself, without those below it: grain by grain, in the order of the disk.

use super::file::Content;
use crate::chain::{Chain, ExtentKind, Layer};
use crate::image::Result;
use crate::units::{ByteCount, GuestOffset};
use std::sync::Arc;

/// The grain of a raw layer.
const GRAIN_RAW: ByteCount = ByteCount::kib(64);
/// How much is read at a time, unless one grain is more.
const BATCH: ByteCount = ByteCount::mib(1);

/// One layer, looked at by itself.
#[derive(Debug)]
pub(super) struct Alone {
    chain: Chain,
    pub(super) grain: ByteCount,
    /// The stretch that was asked for last: what it is, and where it begins and ends.
    stretch: (Content, u64, u64),
    buffer: Vec<u8>,
}

impl Alone {
    pub(super) fn new(layer: Arc<Layer>) -> Self {
        let grain = layer.as_qcow2().map_or(GRAIN_RAW, |image| image.geometry().cluster_size());
        let chain = Chain::new(vec![layer]);
        Self { chain, grain, stretch: (Content::Absent, 0, 0), buffer: Vec::new() }
    }

    pub(super) fn layer(&self) -> &Arc<Layer> {
        self.chain.head()
    }

    /// How many grains the disk has; the last one may be cut short by its end.
    pub(super) fn grains(&self) -> u64 {
        self.chain.size().as_u64().div_ceil(self.grain.as_u64())
    }

    pub(super) fn offset(&self, grain: u64) -> GuestOffset {
        GuestOffset::new(grain.saturating_mul(self.grain.as_u64()))
            .min(GuestOffset::end_of(self.chain.size()))
    }

    /// What the grain `at` is, and up to which grain it goes on alike.
    ///
    /// The holes of a raw file need not end with a grain: one that is partly a hole is data.
    pub(super) fn at(&mut self, at: u64) -> Result<(Content, u64)> {
        let (content, from, to) = self.stretch;
        if (from..to).contains(&at) {
            return Ok((content, to));
        }
        let start = self.offset(at);
        let extent = self.chain.extents(start).next().transpose()?;
        let (content, to) = match extent {
            None => (Content::Absent, self.grains().max(at + 1)),
            Some(extent) => {
                let is_last = extent.end() == GuestOffset::end_of(self.chain.size());
                let whole = if is_last { self.grains() } else { extent.end().as_u64() / self.grain.as_u64() };
                let content = match extent.kind {
                    ExtentKind::Absent => Content::Absent,
                    ExtentKind::Zero => Content::Zeros,
                    ExtentKind::Data => Content::Data,
                };
                if whole > at { (content, whole) } else { (Content::Data, at + 1) }
            }
        };
        self.stretch = (content, at, to);
        Ok((content, to))
    }

    /// Reads the grains from `from` on, at most up to `to` and as many as are read at a time; hands the checksum of
    /// each to `each`. Answers the first one that was not read.
    pub(super) fn sums(&mut self, from: u64, to: u64, mut each: impl FnMut(u64, u32)) -> Result<u64> {
        let to = to.min(from + (BATCH.as_u64() / self.grain.as_u64()).max(1));
        let (start, end) = (self.offset(from), self.offset(to));
        self.buffer.resize((end - start).as_usize(), 0);
        self.chain.read(start, &mut self.buffer)?;
        for (grain, bytes) in (from..to).zip(self.buffer.chunks(self.grain.as_usize())) {
            each(grain, crc32fast::hash(bytes));
        }
        Ok(to)
    }

    /// As [`Alone::sums`], and adds the bytes to `bytes`. Answers the checksums as well.
    pub(super) fn read_grains(&mut self, from: u64, to: u64, bytes: &mut Vec<u8>) -> Result<(u64, Vec<u32>)> {
        let mut sums = Vec::new();
        let end = self.sums(from, to, |_, sum| sums.push(sum))?;
        bytes.extend_from_slice(&self.buffer);
        Ok((end, sums))
    }

    /// The checksum that a grain of zeros has.
    pub(super) fn sum_of_zeros(&self, grain: u64) -> u32 {
        let length = (self.offset(grain + 1) - self.offset(grain)).as_usize();
        let zeros = [0; 4096];
        let mut sum = crc32fast::Hasher::new();
        let mut left = length;
        while left > 0 {
            let count = left.min(zeros.len());
            sum.update(&zeros[..count]);
            left -= count;
        }
        sum.finalize()
    }
}
