//! What went wrong in the catalogue, as far as a caller can tell one from another.

use crate::catalog;

/// What went wrong in the catalogue of a pool. It says so in words; [`CatalogueError::fault`] sorts it, and what the store
/// said is its source, if it was the store.
#[doc = include_str!("examples/catalogue_error.md")]
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct CatalogueError(pub(super) catalog::Error);

/// What went wrong in a catalogue, by what can be done about it.
#[doc = include_str!("examples/catalogue_error.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CatalogueFault {
    /// The bytes are no catalogue of this crate. Nothing was changed: the file is another one's.
    Foreign,
    /// The bytes are not those that were written. Nothing was changed: put a copy back, or make the catalogue anew from the
    /// files ([`Engine::rebuild`](super::Engine::rebuild)).
    Damaged,
    /// The records contradict one another. Nothing was changed: what can be done is that of [`CatalogueFault::Damaged`].
    Contradictory,
    /// The store failed a call. Open the pool again.
    Store,
    /// The database refused a call.
    Database,
    /// An earlier call failed, or the pool is closed. Open it again.
    Halted,
}

impl CatalogueError {
    /// What it is.
    #[must_use]
    pub fn fault(&self) -> CatalogueFault {
        fault_of(&self.0)
    }
}

fn fault_of(error: &catalog::Error) -> CatalogueFault {
    use catalog::Error;
    match error {
        Error::NotACatalogue { .. } | Error::NewerVersion { .. } | Error::NotEmpty { .. } => {
            CatalogueFault::Foreign
        }
        Error::Malformed { .. } | Error::Damaged { .. } => CatalogueFault::Damaged,
        Error::Dangling { .. }
        | Error::ChainLoops { .. }
        | Error::ChainTooLong { .. }
        | Error::UuidTaken { .. }
        | Error::IdTaken { .. }
        | Error::Absent { .. } => CatalogueFault::Contradictory,
        Error::Storage { .. } => CatalogueFault::Store,
        Error::Database { .. } | Error::BadValue { .. } => CatalogueFault::Database,
        Error::Halted | Error::Closed | Error::Stale { .. } | Error::NotOwner { .. } => {
            CatalogueFault::Halted
        }
        Error::CommitUnknown { source } => fault_of(source),
    }
}
