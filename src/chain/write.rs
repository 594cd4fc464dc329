//! Writing to the head of a chain: copy on write from the layers below, nothing below is ever changed.

use super::Chain;
use crate::image::{Below, Error, Image, Result, Space};
use crate::units::{ByteCount, GuestOffset};

impl Chain {
    /// Writes `data` at `at`. Durable after [`Chain::flush`].
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`] when the head is raw or frozen; those of [`Image::write`].
    pub fn write(&self, at: GuestOffset, data: &[u8]) -> Result<()> {
        let below = self.below();
        self.head_image()?.write(at, data, below.as_ref().map(|below| below as &dyn Below))
    }

    /// Makes a range read as zeros. Durable after [`Chain::flush`].
    ///
    /// # Errors
    ///
    /// As [`Chain::write`].
    pub fn zero(&self, at: GuestOffset, length: ByteCount, space: Space) -> Result<()> {
        let below = self.below();
        self.head_image()?.zero(at, length, space, below.as_ref().map(|below| below as &dyn Below))
    }

    /// Makes every write that returned before this call durable.
    ///
    /// # Errors
    ///
    /// Those of [`Image::flush`].
    pub fn flush(&self) -> Result<()> {
        self.head_image()?.flush()
    }

    /// Makes the disk larger; what is new reads as zeros, whatever the layers below have there.
    ///
    /// # Errors
    ///
    /// Those of [`Image::grow`].
    pub fn grow(&self, size: ByteCount) -> Result<()> {
        let below = self.below();
        let below = below.as_ref().map(|below| (below as &dyn Below, below.size()));
        self.head_image()?.grow(size, below)
    }

    fn head_image(&self) -> Result<&Image> {
        self.head().as_qcow2().ok_or_else(|| Error::ReadOnly { image: self.head().name().to_owned() })
    }
}
