//! Images stacked: one view of a disk through its whole backing chain.
//!
//! A [`Chain`] is a list of [`Layer`]s, the head first. It is handed open layers and knows neither names nor the
//! catalogue; nothing in a file decides what is read next. Every walk over depth is a loop.
//!
//! What a guest sees at an address, for layers `0` (the head) to `n`:
//!
//! * the first layer that defines the address has the say;
//! * a layer that ends before the address defines it as **zeros**, for everything above it: a short layer in
//!   the middle hides what deeper and longer layers have there;
//! * what no layer defines is zeros.

mod diff;
mod extents;
mod flatten;
mod layer;
mod map;
pub mod merge;
mod ranges;
mod read;
mod resolved;
mod write;

pub use diff::{Change, ChangeKind, Diff, Exactness};
pub use extents::Extents;
pub use flatten::{Compress, Flatten, FlattenBase, Step};
pub use layer::{Layer, RawLayer};
pub use map::{ChainMap, Extent, ExtentKind};
pub use ranges::Ranges;

use crate::units::ByteCount;
use resolved::Resolved;
use std::sync::Arc;

/// The layers of a disk, the head first. Cheap to clone; any number of threads may use it at once.
///
/// Another example is at [`RawLayer`].
#[doc = include_str!("../image/examples/images.md")]
#[derive(Clone, Debug)]
pub struct Chain {
    layers: Arc<[Arc<Layer>]>,
    /// What is below the head as one map, unless it may be written.
    resolved: Option<Arc<Resolved>>,
}

impl Chain {
    /// Stacks layers, the head first.
    ///
    /// What is below the head is resolved into one map as it is read, when every layer there is closed to writing
    /// ([`Image::is_closed`](crate::image::Image::is_closed)). Such a layer must stay closed.
    ///
    /// # Panics
    ///
    /// On an empty list: a disk has at least one layer.
    #[must_use]
    pub fn new(layers: Vec<Arc<Layer>>) -> Self {
        assert!(!layers.is_empty(), "a chain has at least one layer");
        Self::of(layers.into())
    }

    /// The layer that is written.
    #[must_use]
    pub fn head(&self) -> &Arc<Layer> {
        &self.layers[0]
    }

    /// The layers, the head first.
    #[must_use]
    pub fn layers(&self) -> &[Arc<Layer>] {
        &self.layers
    }

    /// The size of the disk in bytes: that of its head.
    #[must_use]
    pub fn size(&self) -> ByteCount {
        self.head().size()
    }

    /// The same chain with a new head above it.
    #[must_use]
    pub fn with_head(&self, head: Arc<Layer>) -> Self {
        Self::of(std::iter::once(head).chain(self.layers.iter().cloned()).collect())
    }

    fn of(layers: Arc<[Arc<Layer>]>) -> Self {
        let resolved = Resolved::of(&layers[1..]).map(Arc::new);
        Self { layers, resolved }
    }
}
