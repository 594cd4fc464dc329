//! What the files of a volume hold beside its disk: internal snapshots and persistent bitmaps, which others have made.

use super::error::Result;
use super::pool::Engine;
use super::uuid_arg::UuidArg;
use crate::image::{InternalSnapshot, PersistentBitmap};

/// What one layer's file holds beside the disk.
#[doc = include_str!("examples/checking.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerInternals {
    /// Its file.
    pub file: String,
    /// The internal snapshots in it. They are kept, and are none of the pool's snapshots.
    pub internal_snapshots: Vec<InternalSnapshot>,
    /// The persistent bitmaps in it that agree with the disk.
    pub persistent_bitmaps: Vec<PersistentBitmap>,
}

impl Engine {
    /// The layers of a volume whose files hold internal snapshots or persistent bitmaps, its head first.
    ///
    /// # Errors
    ///
    /// SYS.1007 for a malformed uuid; SYS.1003 when there is no such volume; SYS.1006 when a file of its chain is
    /// missing, broken or not what the catalogue says.
    #[doc = include_str!("examples/checking.md")]
    pub fn internals(&self, volume: impl Into<UuidArg>) -> Result<Vec<LayerInternals>> {
        let pool = &self.pool;
        let _layout = pool.layout.read();
        let reader = pool.read()?;
        let volume = pool.volume(&reader, volume.into().parse()?)?;
        let chain = reader.chain(volume.head)?;
        let mut found = Vec::new();
        for (depth, record) in chain.iter().enumerate() {
            let layer = pool.layer_to_check(volume.uuid, record, chain.get(depth + 1))?;
            let Some(image) = layer.as_qcow2() else { continue };
            let unusable = |source| pool.unusable(record, source);
            let internal_snapshots = image.internal_snapshots().map_err(unusable)?;
            let persistent_bitmaps = image.persistent_bitmaps().map_err(unusable)?;
            if !internal_snapshots.is_empty() || !persistent_bitmaps.is_empty() {
                found.push(LayerInternals {
                    file: record.blob.to_string(),
                    internal_snapshots,
                    persistent_bitmaps,
                });
            }
        }
        Ok(found)
    }
}
