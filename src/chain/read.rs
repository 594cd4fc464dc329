//! Reading through a chain: each layer fills in what it has, and the next one is asked for the rest.

use super::{Chain, Layer};
use crate::image::{Below, Error, Result};
use crate::units::{ByteCount, GuestOffset};
use std::ops::Range;
use std::sync::Arc;

impl Chain {
    /// Fills `buffer` with what the guest sees from `at` on.
    ///
    /// # Errors
    ///
    /// [`Error::PastEndOfDisk`]; those of the layer that has the bytes. The buffer may then hold anything.
    pub fn read(&self, at: GuestOffset, buffer: &mut [u8]) -> Result<()> {
        let length = ByteCount::of(buffer.len());
        if at.checked_add(length).is_none_or(|end| end > GuestOffset::end_of(self.size())) {
            return Err(Error::PastEndOfDisk { at, length, size: self.size() });
        }
        let mut holes = Vec::new();
        self.head().read(at, buffer, &mut holes)?;
        let below = LowerLayers(self);
        for hole in holes {
            below.read_below(at + ByteCount::of(hole.start), &mut buffer[hole])?;
        }
        Ok(())
    }

    /// What the head reads through to; `None` when there is nothing below it.
    pub(super) fn below(&self) -> Option<LowerLayers<'_>> {
        (self.layers().len() > 1).then_some(LowerLayers(self))
    }
}

/// The layers below the head of a chain.
pub(super) struct LowerLayers<'a>(&'a Chain);

impl LowerLayers<'_> {
    /// The size of the uppermost of them: what is past it reads as zeros.
    pub(super) fn size(&self) -> ByteCount {
        self.0.layers()[1].size()
    }
}

impl Below for LowerLayers<'_> {
    fn read_below(&self, at: GuestOffset, buffer: &mut [u8]) -> Result<()> {
        let lower = &self.0.layers()[1..];
        match &self.0.resolved {
            Some(resolved) => resolved.read(lower, at, buffer),
            None => read_through(lower, at, buffer),
        }
    }
}

/// Fills `buffer` from a stack of layers, the uppermost first.
pub(super) fn read_through(layers: &[Arc<Layer>], at: GuestOffset, buffer: &mut [u8]) -> Result<()> {
    if buffer.is_empty() {
        return Ok(());
    }
    let mut open: Vec<Range<usize>> = std::iter::once(0..buffer.len()).collect();
    let (mut left, mut found) = (Vec::new(), Vec::new());
    for layer in layers {
        for hole in open.drain(..) {
            found.clear();
            layer.read(at + ByteCount::of(hole.start), &mut buffer[hole.clone()], &mut found)?;
            left.extend(found.iter().map(|inner| hole.start + inner.start..hole.start + inner.end));
        }
        std::mem::swap(&mut open, &mut left);
        if open.is_empty() {
            return Ok(());
        }
    }
    for hole in open {
        buffer[hole].fill(0);
    }
    Ok(())
}
