//! What qcow2-rs is let near. Each rule stands for chains that it reads wrong, or does not survive.

use super::DeviceError;
use crate::chain::Layer;
use crate::engine;
use crate::format::{Encryption, Header, Incompatible, Version};
use crate::image;
use crate::units::ByteCount;
use std::fmt;
use std::sync::Arc;

/// The longest chain: qcow2-rs calls itself for every layer.
///
/// An example is at [`qcow2_rs`](crate::qcow2_rs).
pub const DEPTH_MAX: usize = 64;

/// Why a layer is kept from qcow2-rs.
///
/// An example is at [`qcow2_rs`](crate::qcow2_rs).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// The chain has more than [`DEPTH_MAX`] layers.
    TooDeep {
        /// How many.
        layers: usize,
    },
    /// It is a raw file, which would be taken for an image.
    Raw,
    /// It is an image of version 2, whose header is read as one of version 3.
    Version2,
    /// It has a feature that a reader must know: extended L2 entries, zstd, an external data file, or one that says that
    /// the image is dirty or damaged.
    Features,
    /// It is encrypted, and would be read as if it were not.
    Encrypted,
    /// Its clusters are smaller than 4 KiB.
    Clusters {
        /// Their size.
        size: ByteCount,
    },
    /// Its refcounts have 2 or 4 bits.
    Refcounts {
        /// How many bits.
        bits: u32,
    },
    /// Its size is no multiple of 512.
    Size {
        /// The size.
        size: ByteCount,
    },
    /// It is smaller than the layer above it: what is past its end would be read as whatever the memory held.
    SmallerThanAbove {
        /// Its size.
        size: ByteCount,
        /// The size of the layer above.
        above: ByteCount,
    },
    /// Its tables are not sound.
    Unsound {
        /// How many faults the check has found.
        faults: u64,
    },
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooDeep { layers } => write!(f, "{layers} layers, at most {DEPTH_MAX}"),
            Self::Raw => f.write_str("a raw file"),
            Self::Version2 => f.write_str("an image of version 2"),
            Self::Features => f.write_str("a feature that it does not know"),
            Self::Encrypted => f.write_str("encrypted"),
            Self::Clusters { size } => write!(f, "clusters of {size}, at least 4 KiB"),
            Self::Refcounts { bits } => write!(f, "refcounts of {bits} bits"),
            Self::Size { size } => write!(f, "a size of {size}, not whole sectors"),
            Self::SmallerThanAbove { size, above } => write!(f, "{size} below {above}"),
            Self::Unsound { faults } => write!(f, "{faults} faults in its tables: run a check"),
        }
    }
}

/// Refuses a chain, the uppermost layer first, that is not to be read with qcow2-rs.
pub(super) fn admit(layers: &[Arc<Layer>]) -> Result<(), DeviceError> {
    let mut above = None;
    for layer in layers {
        let size = layer.size();
        let refused = |rule| DeviceError::Guard { file: layer.name().to_owned(), rule };
        if layers.len() > DEPTH_MAX {
            return Err(refused(Rule::TooDeep { layers: layers.len() }));
        }
        let image = layer.as_qcow2().ok_or_else(|| refused(Rule::Raw))?;
        admit_header(&image.header()).map_err(refused)?;
        if let Some(above) = above.replace(size).filter(|above| size < *above) {
            return Err(refused(Rule::SmallerThanAbove { size, above }));
        }
        let report = image::check(&**layer.blob(), layer.name()).map_err(engine::Error::from)?;
        if !report.is_sound() {
            return Err(refused(Rule::Unsound { faults: report.corruptions }));
        }
    }
    Ok(())
}

fn admit_header(header: &Header) -> Result<(), Rule> {
    let (geometry, size) = (header.geometry, header.size);
    if header.version != Version::V3 {
        return Err(Rule::Version2);
    }
    if header.incompatible != Incompatible::default() {
        return Err(Rule::Features);
    }
    if header.encryption != Encryption::None {
        return Err(Rule::Encrypted);
    }
    if geometry.cluster_bits() < 12 {
        return Err(Rule::Clusters { size: geometry.cluster_size() });
    }
    if [1, 2].contains(&geometry.refcount_order()) {
        return Err(Rule::Refcounts { bits: geometry.refcount_bits() });
    }
    if !size.as_u64().is_multiple_of(512) {
        return Err(Rule::Size { size });
    }
    Ok(())
}
