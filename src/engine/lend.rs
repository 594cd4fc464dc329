//! The open files of a snapshot's chain, for a room of this crate that reads them in its own way.

use super::error::Result;
use super::pool::Engine;
use super::readers::Claim;
use super::uuid_arg::UuidArg;
use crate::chain::Layer;
use std::sync::Arc;

/// What a snapshot is read through. While it is there, what is read through it stays readable: what the pool does with
/// the layers meanwhile takes account of it as of a [`Snapshot`](super::Snapshot).
#[derive(Debug)]
pub(crate) struct Lent {
    /// The layers, the snapshot's own first.
    pub(crate) layers: Vec<Arc<Layer>>,
    _claim: Arc<Claim>,
}

impl Engine {
    /// Opens the files of a snapshot's chain for reading.
    ///
    /// # Errors
    ///
    /// As [`Engine::open_snapshot`].
    pub(crate) fn lend_snapshot(&self, snapshot: impl Into<UuidArg>) -> Result<Lent> {
        let pool = &self.pool;
        let uuid = snapshot.into().parse()?;
        let _layout = pool.layout.read();
        let content = pool.open_content(&pool.read()?, uuid)?;
        Ok(Lent { layers: content.chain.layers().to_vec(), _claim: content.claim })
    }
}
