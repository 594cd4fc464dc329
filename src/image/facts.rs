//! What a header says of its image, in words that need nothing of the format.

use super::error::{Error, Result};
use super::layout::{BackingLabel, NewImage};
use super::open::Image;
use crate::format::{Extension, Header, L2Width, LayerIdentity, LayerNotes};
use crate::storage::Blob;
use crate::units::{ByteCount, HostOffset};

/// What a header says of its image. Read alone, without any table.
///
/// An example is at [`Image`].
///
/// Another example is at [`HeaderDraft`](crate::image::HeaderDraft).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts {
    /// The virtual size.
    pub size: ByteCount,
    /// The cluster size.
    pub cluster_size: ByteCount,
    /// The width of the L2 entries.
    pub l2: L2Width,
    /// The name of the backing file as it is written; a label, never followed by this room.
    pub backing_label: Option<String>,
    /// The format of the backing file, when the header gives one.
    pub backing_format: Option<String>,
    /// The name of the external file that holds the data, as it is written, when there is one: a label like the other.
    /// Empty when the header does not name it.
    pub data_file: Option<String>,
    /// Which layer of which pool this is, when this crate has made or taken over the file.
    pub identity: Option<LayerIdentity>,
    /// What the file knows of the catalogue: hints for the day on which that is lost.
    pub notes: Option<LayerNotes>,
}

impl Facts {
    /// Reads the header of an image and nothing else.
    ///
    /// # Errors
    ///
    /// [`Error::Format`]; [`Error::Storage`].
    pub fn of(blob: &dyn Blob, name: &str) -> Result<Self> {
        Self::from_header(&Image::header_of(blob, name)?, name)
    }

    /// What the header of an open image says.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] for a header extension of ours that breaks a rule.
    pub fn of_open(image: &Image) -> Result<Self> {
        Self::from_header(&image.state.read().header, &image.name)
    }

    /// Which layer a file is whose header did not arrive as a whole: a sector of it, not the first one, is all zeros, as a
    /// power cut leaves one that was written and not synced. `None` for any other header.
    ///
    /// # Errors
    ///
    /// [`Error::Storage`].
    pub fn identity_in_torn(blob: &dyn Blob, name: &str) -> Result<Option<LayerIdentity>> {
        if Self::of(blob, name).is_ok() {
            return Ok(None);
        }
        let length = blob.length()?;
        // What lies past the end never arrived either.
        let mut start = vec![0; LayerIdentity::TORN_HEADER_MAX.as_usize()];
        let there = LayerIdentity::TORN_HEADER_MAX.min(length).as_usize();
        blob.read_at(HostOffset::ZERO, &mut start[..there])?;
        Ok(LayerIdentity::in_torn_header(&start))
    }

    fn from_header(header: &Header, name: &str) -> Result<Self> {
        let ours = header.extensions.iter().find(|extension| extension.kind == Extension::OURS);
        let identity = ours
            .map(|extension| LayerIdentity::parse(&extension.data))
            .transpose()
            .map_err(|source| Error::Format { image: name.to_owned(), source })?;
        Ok(Self {
            size: header.size,
            cluster_size: header.geometry.cluster_size(),
            l2: header.geometry.l2_width(),
            backing_label: header.backing.as_ref().map(|backing| backing.name.clone()),
            backing_format: header.backing.as_ref().and_then(|backing| backing.format.clone()),
            data_file: header.incompatible.has_data_file().then(|| data_file_of(header)),
            identity,
            notes: ours.and_then(|extension| LayerNotes::parse(&extension.data)),
        })
    }
}

/// What a header calls the file that holds the data. What is no text is no name of a file that is looked for.
fn data_file_of(header: &Header) -> String {
    let named = header.extensions.iter().find(|extension| extension.kind == Extension::DATA_FILE);
    named.map_or_else(String::new, |named| String::from_utf8_lossy(&named.data).into_owned())
}

impl Facts {
    /// A new image that would say the same of itself.
    #[must_use]
    pub fn as_new(&self) -> NewImage {
        let backing = self.backing_label.clone().zip(self.backing_format.clone());
        NewImage {
            cluster_bits: self.cluster_size.as_u64().trailing_zeros(),
            l2: self.l2,
            backing: backing.map(|(name, format)| BackingLabel { name, format }),
            identity: self.identity,
            ..NewImage::of_size(self.size)
        }
    }
}
