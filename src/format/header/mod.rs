//! The header: what the first cluster of an image says about all others.
//!
//! ```text
//! fixed fields   72 bytes in version 2, 104 or 112 in version 3, and those that a later version adds
//! extensions     typed records, up to the end marker
//! backing name   text, where the fixed fields say
//! ```
//! [`RawHeader`] has the fixed fields as found and says how large the first cluster is; [`Header::parse`]
//! takes that cluster and is the only way on. `check` holds what is true of every header, read or written.

mod check;
mod encode;
mod features;
mod parse;
mod raw;
#[cfg(test)]
mod tests;

pub use features::{Autoclear, Compatible, Incompatible};
pub use raw::{HEADER_PROBE, RawHeader};

use super::{BitmapsExtension, CryptoExtension, Error, Extension, Geometry, L2Width, LayerIdentity};
use crate::units::{ByteCount, HostOffset};

/// The version of the format.
///
/// An example is at [`Header`](None).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Version 2, `compat=0.10` in QEMU: no feature bits, no zero clusters, 16-bit refcounts.
    V2,
    /// Version 3, `compat=1.1` in QEMU.
    V3,
}

/// How the guest's data is encrypted.
///
/// An example is at [`Header`](None).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// Not at all.
    None,
    /// AES-CBC by the guest's sector, which nothing but conversion should use.
    Aes,
    /// LUKS, whose header lies where the crypto extension says.
    Luks,
}

/// How compressed clusters are compressed.
#[doc = include_str!("../examples/compression.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// A deflate stream without a zlib header.
    Deflate,
    /// Zstandard frames.
    Zstd,
}

/// Whether the header has bytes 104 to 111. Writers before QEMU 5.1 end at 104.
///
/// An example is at [`Header`](None).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionField {
    /// The header ends at byte 104, or 72 in version 2. Compression is deflate.
    Absent,
    /// The compression is in byte 104.
    Present {
        /// Bytes 105 to 111, zero until a later version gives them a meaning; kept as found.
        padding: [u8; 7],
    },
}

/// What the image says it is based on. A label: it is never followed as a path.
///
/// An example is at [`Header`](None).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// The name, 1 to 1,023 bytes without control characters.
    pub name: String,
    /// The format, at most 15 bytes, from the first of the extensions. Absent, a reader would have to guess.
    pub format: Option<String>,
}

/// A header whose fields agree with each other.
///
/// Not yet known is whether its tables lie inside the file, and apart from each other.
#[doc = include_str!("../examples/header.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The version of the format.
    pub version: Version,
    /// The sizes of the image's parts.
    pub geometry: Geometry,
    /// The size of the guest's disk. Any number of bytes, not only whole sectors.
    pub size: ByteCount,
    /// How the guest's data is encrypted.
    pub encryption: Encryption,
    /// The number of L1 entries: enough for `size`, at most 4,194,304.
    pub l1_entries: u32,
    /// Where the L1 table begins, aligned to a cluster.
    pub l1_table: HostOffset,
    /// Where the refcount table begins, aligned to a cluster.
    pub refcount_table: HostOffset,
    /// The size of the refcount table in clusters: at least one, at most 8 MiB.
    pub refcount_table_clusters: u32,
    /// The number of internal snapshots, at most 65,536.
    pub snapshot_count: u32,
    /// Where the table of internal snapshots begins, aligned to a cluster.
    pub snapshot_table: HostOffset,
    /// Features that a reader must know. None unknown.
    pub incompatible: Incompatible,
    /// Features that a reader may ignore, unknown ones kept.
    pub compatible: Compatible,
    /// Features that a writer clears, unknown ones kept until it does.
    pub autoclear: Autoclear,
    /// How compressed clusters are compressed.
    pub compression: Compression,
    /// Whether the header has the field for the compression.
    pub compression_field: CompressionField,
    /// Bytes 112 and up of a longer header, kept as found. A multiple of 8 bytes.
    pub extra: Vec<u8>,
    /// The extensions in their order, the backing format among them. At most 256.
    pub extensions: Vec<Extension>,
    /// What the image is based on.
    pub backing: Option<Backing>,
}

impl Header {
    /// The header of a new image of `size`, still without tables.
    ///
    /// The offsets are zero and the refcount table has no clusters: the caller places them. `l1_entries` is
    /// what the size needs; whether that is too much is for [`Geometry::check_size`] to say.
    #[must_use]
    pub fn new(version: Version, geometry: Geometry, size: ByteCount) -> Self {
        Self {
            version,
            geometry,
            size,
            encryption: Encryption::None,
            l1_entries: u32::try_from(geometry.l1_entries_for(size)).unwrap_or(u32::MAX),
            l1_table: HostOffset::ZERO,
            refcount_table: HostOffset::ZERO,
            refcount_table_clusters: 0,
            snapshot_count: 0,
            snapshot_table: HostOffset::ZERO,
            incompatible: match geometry.l2_width() {
                L2Width::Standard => Incompatible::NONE,
                L2Width::Extended => Incompatible::EXTENDED_L2,
            },
            compatible: Compatible::NONE,
            autoclear: Autoclear::NONE,
            compression: Compression::Deflate,
            compression_field: match version {
                Version::V2 => CompressionField::Absent,
                Version::V3 => CompressionField::Present { padding: [0; 7] },
            },
            extra: Vec::new(),
            extensions: Vec::new(),
            backing: None,
        }
    }

    /// Changes what the image is based on, and the extension that holds its format: the first, as QEMU writes
    /// it, or gone.
    pub fn set_backing(&mut self, backing: Option<Backing>) {
        self.extensions.retain(|extension| extension.kind != Extension::BACKING_FORMAT);
        if let Some(format) = backing.as_ref().and_then(|backing| backing.format.as_ref()) {
            let data = format.as_bytes().to_vec();
            self.extensions.insert(0, Extension { kind: Extension::BACKING_FORMAT, data });
        }
        self.backing = backing;
    }

    /// The first extension of `kind`.
    #[must_use]
    pub fn extension(&self, kind: u32) -> Option<&Extension> {
        self.extensions.iter().find(|extension| extension.kind == kind)
    }

    /// Puts `extension` in the place of the one of its kind, or behind all others.
    pub fn set_extension(&mut self, extension: Extension) {
        match self.extensions.iter_mut().find(|other| other.kind == extension.kind) {
            Some(other) => *other = extension,
            None => self.extensions.push(extension),
        }
    }

    /// Where the persistent bitmaps are, if they agree with the data.
    ///
    /// # Errors
    ///
    /// None for a header that was parsed. [`Error::Malformed`] when the extension was changed since.
    pub fn bitmaps(&self) -> Result<Option<BitmapsExtension>, Error> {
        let extension = self.extension(Extension::BITMAPS).filter(|_| self.autoclear.has_bitmaps());
        extension.map(|extension| BitmapsExtension::parse(&extension.data, self.geometry)).transpose()
    }

    /// Where the LUKS header is.
    ///
    /// # Errors
    ///
    /// None for a header that was parsed. [`Error::Malformed`] when the extension was changed since.
    pub fn crypto(&self) -> Result<Option<CryptoExtension>, Error> {
        let extension = self.extension(Extension::CRYPTO);
        extension.map(|extension| CryptoExtension::parse(&extension.data, self.geometry)).transpose()
    }

    /// Whose layer the file is, if we made it.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] or [`Error::Unsupported`] when our extension has not our form. The image may be in
    /// order all the same.
    pub fn identity(&self) -> Result<Option<LayerIdentity>, Error> {
        let extension = self.extension(Extension::OURS);
        extension.map(|extension| LayerIdentity::parse(&extension.data)).transpose()
    }

    /// Says whose layer the file is.
    pub fn set_identity(&mut self, identity: &LayerIdentity) {
        self.set_extension(Extension { kind: Extension::OURS, data: identity.encode() });
    }

    /// The length of the fixed fields in bytes.
    const fn length(&self) -> usize {
        match (self.version, self.compression_field) {
            (Version::V2, _) => raw::LENGTH_V2,
            (Version::V3, CompressionField::Absent) => raw::LENGTH_V3,
            (Version::V3, CompressionField::Present { .. }) => raw::LENGTH_COMPRESSION + self.extra.len(),
        }
    }
}
