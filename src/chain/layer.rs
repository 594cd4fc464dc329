//! One layer of a chain: a qcow2 image, or a raw file at the bottom.

use crate::image::{Error, Image, Result};
use crate::storage::{Blob, read_zero_extended};
use crate::units::{ByteCount, GuestOffset, HostOffset};
use std::ops::Range;
use std::sync::Arc;

/// The granularity of a raw disk's size: QEMU rounds the length of the file up to it, with zeros.
const SECTOR: u64 = 512;

/// How the files of other formats begin that can name further files, or that have a virtual size of their own: where,
/// and with which bytes.
const SIGNATURES: [(usize, &[u8], &str); 9] = [
    (0, b"QFI\xfb", "qcow"),
    (0, b"QED\0", "qed"),
    (0, b"KDMV", "vmdk"),
    (0, b"COWD", "vmdk"),
    (0, b"# Disk Descriptor", "vmdk"),
    (0, b"conectix", "vpc"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"Witho", "parallels"),
    (64, b"\x7f\x10\xda\xbe", "vdi"),
];

/// One layer of a chain.
///
/// Another example is at [`RawLayer`].
#[doc = include_str!("../image/examples/images.md")]
#[derive(Debug)]
#[non_exhaustive]
pub enum Layer {
    /// A qcow2 image.
    Qcow2(Box<Image>),
    /// A raw file; it defines every byte and has nothing below it.
    Raw(RawLayer),
}

impl From<Image> for Layer {
    fn from(image: Image) -> Self {
        Self::Qcow2(Box::new(image))
    }
}

/// A raw file as the bottom of a chain. It is only read.
#[doc = include_str!("examples/layers.md")]
#[derive(Debug)]
pub struct RawLayer {
    blob: Arc<dyn Blob>,
    name: String,
    length: ByteCount,
}

impl RawLayer {
    /// Takes in an open file.
    ///
    /// # Errors
    ///
    /// [`Error::Storage`].
    pub fn open(blob: Arc<dyn Blob>, name: &str) -> Result<Self> {
        let length = blob.length()?;
        Ok(Self { blob, name: name.to_owned(), length })
    }

    /// The size of the disk: the length of the file, rounded up to 512 bytes.
    #[must_use]
    pub fn size(&self) -> ByteCount {
        ByteCount::new(self.length.as_u64().next_multiple_of(SECTOR))
    }

    /// The file.
    #[must_use]
    pub fn blob(&self) -> &Arc<dyn Blob> {
        &self.blob
    }

    /// The format of an image that the file begins like, as a word for messages; `None` when it begins like none. A
    /// guest may write anything there, so this never says what a file is: it says that somebody should.
    ///
    /// # Errors
    ///
    /// [`Error::Storage`].
    pub fn looks_like(&self) -> Result<Option<&'static str>> {
        let mut first = [0; 128];
        read_zero_extended(&*self.blob, self.length, HostOffset::ZERO, &mut first)?;
        let found = SIGNATURES.iter().find(|(at, bytes, _)| first[*at..].starts_with(bytes));
        Ok(found.map(|(_, _, format)| *format))
    }

    /// The length of the file when it was opened; up to the next 512 bytes it reads as zeros.
    pub(super) fn length(&self) -> ByteCount {
        self.length
    }
}

impl Layer {
    /// The size of the disk that the layer holds, in bytes.
    #[must_use]
    pub fn size(&self) -> ByteCount {
        match self {
            Self::Qcow2(image) => image.size(),
            Self::Raw(raw) => raw.size(),
        }
    }

    /// The name that messages use.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Qcow2(image) => image.name(),
            Self::Raw(raw) => &raw.name,
        }
    }

    /// The image, when the layer is one.
    #[must_use]
    pub fn as_qcow2(&self) -> Option<&Image> {
        match self {
            Self::Qcow2(image) => Some(image),
            Self::Raw(_) => None,
        }
    }

    /// The blob that holds the layer.
    #[must_use]
    pub fn blob(&self) -> &Arc<dyn Blob> {
        match self {
            Self::Qcow2(image) => image.blob(),
            Self::Raw(raw) => raw.blob(),
        }
    }

    /// Fills a buffer as far as the layer defines the bytes from `at` on, and adds what it leaves open to `holes`,
    /// as ranges of the buffer. What lies past the layer's end is zeros.
    pub(super) fn read(
        &self,
        at: GuestOffset,
        buffer: &mut [u8],
        holes: &mut Vec<Range<usize>>,
    ) -> Result<()> {
        let inside = GuestOffset::end_of(self.size())
            .checked_since(at)
            .map_or(0, |left| left.min(ByteCount::of(buffer.len())).as_usize());
        let (own, past_end) = buffer.split_at_mut(inside);
        past_end.fill(0);
        match self {
            _ if own.is_empty() => Ok(()),
            Self::Qcow2(image) => image.read(at, own, holes),
            Self::Raw(raw) => {
                let host = HostOffset::new(at.as_u64());
                read_zero_extended(&*raw.blob, raw.length, host, own).map_err(Error::from)
            }
        }
    }
}
