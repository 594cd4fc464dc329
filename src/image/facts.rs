//! What a header says of its image, in words that need nothing of the format.

use super::error::{Error, Result};
use super::open::Image;
use crate::format::{Extension, Header, LayerIdentity};
use crate::storage::Blob;
use crate::units::ByteCount;

/// What a header says of its image. Read alone, without any table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts {
    /// The virtual size.
    pub size: ByteCount,
    /// The cluster size.
    pub cluster_size: ByteCount,
    /// The name of the backing file as it is written; a label, never followed by this room.
    pub backing_label: Option<String>,
    /// The format of the backing file, when the header gives one.
    pub backing_format: Option<String>,
    /// Which layer of which pool this is, when this crate has made or taken over the file.
    pub identity: Option<LayerIdentity>,
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

    fn from_header(header: &Header, name: &str) -> Result<Self> {
        let ours = header.extensions.iter().find(|extension| extension.kind == Extension::OURS);
        let identity = ours
            .map(|extension| LayerIdentity::parse(&extension.data))
            .transpose()
            .map_err(|source| Error::Format { image: name.to_owned(), source })?;
        Ok(Self {
            size: header.size,
            cluster_size: header.geometry.cluster_size(),
            backing_label: header.backing.as_ref().map(|backing| backing.name.clone()),
            backing_format: header.backing.as_ref().and_then(|backing| backing.format.clone()),
            identity,
        })
    }
}

impl Image {
    /// Writes into the header which layer of which pool the image is. Durable when it returns.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`]; [`Error::Format`] when the header has no room for it; [`Error::Storage`].
    pub fn stamp(&self, identity: LayerIdentity) -> Result<()> {
        self.admit_write(crate::units::GuestOffset::ZERO, ByteCount::ZERO)?;
        let mut state = self.state.write();
        self.refuse_when_frozen()?;
        let old = state.header.extensions.clone();
        state.header.extensions.retain(|extension| extension.kind != Extension::OURS);
        state.header.extensions.push(Extension { kind: Extension::OURS, data: identity.encode() });
        let written = self.rewrite_header(&state).and_then(|()| Ok(self.blob.sync()?));
        if written.is_err() {
            state.header.extensions = old;
        }
        written
    }
}
