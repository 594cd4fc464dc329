//! New ids: in order of creation, never the same one twice.
//!
//! All sources of one catalogue draw on the same counters, so two operations that are decided at the same time
//! never get the same id, whichever commits first and whether the other one commits at all. The counters are
//! lowered by nothing; a commit writes down those that its records have passed, so they survive a restart.

use super::id::{GroupId, LayerId, MachineId, SnapshotId, TreeId, VolumeId};
use super::kind::{Id, Kind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The first id of each kind.
pub const FIRST: u64 = 1;

/// A source of new ids. Clones share the counters.
#[derive(Clone, Debug)]
pub struct IdSource {
    next: Arc<[AtomicU64; Kind::ALL.len()]>,
}

impl IdSource {
    /// A source on its own, which starts at `first` for every kind. For decisions that nobody will commit.
    pub fn starting_at(first: u64) -> Self {
        Self::new([first; Kind::ALL.len()])
    }

    /// A source that goes on from the given counters, one per kind.
    pub fn new(next: [u64; Kind::ALL.len()]) -> Self {
        Self { next: Arc::new(next.map(AtomicU64::new)) }
    }

    /// An id for a new machine.
    pub fn take_machine(&self) -> MachineId {
        self.take()
    }

    /// An id for a new volume.
    pub fn take_volume(&self) -> VolumeId {
        self.take()
    }

    /// An id for a new layer.
    pub fn take_layer(&self) -> LayerId {
        self.take()
    }

    /// An id for a new snapshot.
    pub fn take_snapshot(&self) -> SnapshotId {
        self.take()
    }

    /// An id for a new tree.
    pub fn take_tree(&self) -> TreeId {
        self.take()
    }

    /// An id for a new group.
    pub fn take_group(&self) -> GroupId {
        self.take()
    }

    /// An id of any kind.
    fn take<I: Id>(&self) -> I {
        I::of(self.next[I::KIND.slot()].fetch_add(1, Ordering::Relaxed))
    }

    /// Passes every id below the given counters.
    pub fn pass(&self, counters: [u64; Kind::ALL.len()]) {
        for (next, counter) in self.next.iter().zip(counters) {
            next.fetch_max(counter, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_is_given_out_twice() {
        let source = IdSource::starting_at(FIRST);
        let clone = source.clone();
        assert_eq!((source.take_layer(), clone.take_layer()), (LayerId(1), LayerId(2)));
        assert_eq!(source.take_group(), GroupId(1));
        source.pass([9; 6]);
        assert_eq!(source.take_layer(), LayerId(9));
        source.pass([3; 6]);
        assert_eq!(source.take_layer(), LayerId(10));
    }
}
