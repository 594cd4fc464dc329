//! What opening a pool finds half done.
//!
//! Everything before a commit can be undone: a file that no record names, but that was made by this pool, is
//! the remainder of a call that was never acknowledged. It is told by its name *and* by its header. A file of
//! anybody else is left alone.

use super::error::Result;
use crate::catalog::Catalog;
use crate::image::Facts;
use crate::plan::text::is_layer_blob;
use crate::storage::{Access, Blob, BlobName, Store};

/// The longest prefix that is looked at to see whether a file was ever written.
const PROBE: usize = 512;

/// What opening a pool has found half done, and has undone or finished.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// Files of calls that were never acknowledged, removed.
    pub removed: Vec<String>,
    /// Files that look like ours and that no record names, left alone: another pool made them, or their header
    /// cannot be read.
    pub left_alone: Vec<String>,
}

/// Brings a pool back to what its catalogue says. Doing it twice is doing it once.
pub(super) fn recover(store: &dyn Store, catalog: &Catalog) -> Result<Recovered> {
    let reader = catalog.read()?;
    let mut recovered = Recovered::default();
    for name in store.list()?.into_iter().filter(is_layer_blob) {
        if reader.layer_of_blob(&name)?.is_some() {
            continue;
        }
        if is_remainder(store, catalog, &name)? {
            store.remove(&name)?;
            recovered.removed.push(name.to_string());
        } else {
            recovered.left_alone.push(name.to_string());
        }
    }
    if !recovered.removed.is_empty() {
        store.sync_names()?;
    }
    Ok(recovered)
}

/// Whether a file that no record names is the remainder of a call of this pool: its header says that it is ours,
/// or nothing of it was ever written.
fn is_remainder(store: &dyn Store, catalog: &Catalog, name: &BlobName) -> Result<bool> {
    let blob = store.open(name, Access::Read)?;
    if let Ok(facts) = Facts::of(&*blob, name.as_str()) {
        return Ok(facts.identity.is_some_and(|identity| identity.pool == *catalog.pool().as_bytes()));
    }
    Ok(is_blank(&*blob)?)
}

fn is_blank(blob: &dyn Blob) -> crate::storage::Result<bool> {
    let mut probe = vec![0; blob.length()?.as_usize().min(PROBE)];
    blob.read_at(crate::units::HostOffset::ZERO, &mut probe)?;
    Ok(probe.iter().all(|byte| *byte == 0))
}
