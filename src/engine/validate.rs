//! What taking over a chain of files would find, told beforehand.

use super::adopt::AdoptVolume;
use super::adopt_rule::AdoptRule;
use super::error::{Error, Result};
use super::locks::Key;
use super::operation::Operation;
use super::pool::Engine;
use crate::catalog::{LayerFormat, LayerState};
use crate::plan::adopt::FoundLayer;
use crate::units::ByteCount;

/// What was found of a chain of files.
#[doc = include_str!("examples/adopting.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChainReport {
    /// The files that are in order, the uppermost first, down to the lowest or to the one that is refused.
    pub files: Vec<FoundFile>,
    /// The file that is refused, and why; what is below it was not looked at.
    pub refused: Option<RefusedFile>,
}

/// One file of a chain.
#[doc = include_str!("examples/adopting.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FoundFile {
    /// Its name in the pool's directory, or its path in a base directory.
    pub file: String,
    /// Its format, as the caller or the header above it says.
    pub format: LayerFormat,
    /// The virtual size.
    pub size: ByteCount,
    /// The cluster size; absent for a raw file.
    pub cluster_size: Option<ByteCount>,
    /// What its header names as its backing file, to the letter.
    pub backing_label: Option<String>,
    /// The bytes that it takes up.
    pub allocated: ByteCount,
    /// What it is to this pool; absent when it is no layer of it yet.
    pub state: Option<LayerState>,
}

/// The file of a chain that is refused.
#[doc = include_str!("examples/checking.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedFile {
    /// Its name, as the caller or the header above it gives it.
    pub file: String,
    /// The rule that it breaks.
    pub rule: AdoptRule,
}

impl ChainReport {
    /// Whether [`Engine::adopt_volume`] would take the chain as it is now.
    #[must_use]
    pub fn is_adoptable(&self) -> bool {
        self.refused.is_none()
    }
}

impl From<&FoundLayer> for FoundFile {
    fn from(layer: &FoundLayer) -> Self {
        let cluster_size = ByteCount::new(1 << layer.cluster_bits);
        Self {
            file: layer.blob.to_string(),
            format: layer.format,
            size: layer.size,
            cluster_size: (layer.format == LayerFormat::Qcow2).then_some(cluster_size),
            backing_label: layer.backing_label.clone(),
            allocated: layer.allocated,
            state: layer.known.as_ref().map(|known| known.state),
        }
    }
}

impl Engine {
    /// Looks at everything that [`Engine::adopt_volume`] would take over, and tells what it is and what is refused.
    /// Of the request count `file`, `format` and `raw_below`. Nothing is changed.
    ///
    /// Every image is checked as a whole, which costs what its tables take up.
    ///
    /// # Errors
    ///
    /// [`Error::Storage`] and [`Error::Catalog`] for what keeps it from being done; what breaks a rule is in the
    /// report.
    #[doc = include_str!("examples/adopting.md")]
    pub fn validate_chain(&self, request: &AdoptVolume) -> Result<ChainReport> {
        self.during(Operation::ValidateChain, || self.validate_chain_untold(request))
    }

    fn validate_chain_untold(&self, request: &AdoptVolume) -> Result<ChainReport> {
        let _held = self.pool.locks.acquire(vec![Key::New]);
        let mut found = Vec::new();
        let refused = match self.pool.look_through(request, &mut found) {
            Ok(()) => None,
            Err(Error::NotAdoptable { blob, rule }) => Some(RefusedFile { file: blob, rule }),
            Err(error) => return Err(error),
        };
        Ok(ChainReport { files: found.iter().map(FoundFile::from).collect(), refused })
    }
}
