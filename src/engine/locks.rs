//! Who may change what at a time: one lock for each machine, one for each volume.
//!
//! The order is that of [`Key`], machines before volumes; all that a call needs are taken at once. A call
//! on an attached volume takes its machine's lock, too: so a group, which takes only that, has all its disks.

use crate::catalog::{MachineId, VolumeId};
use crate::sync::{Latch, LatchHeld, Mutex, hold};
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// What can be locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    /// Making or taking over what no machine has yet: two calls must not take the same file or the same uuid.
    New,
    Machine(MachineId),
    Volume(VolumeId),
}

/// The locks that are held or waited for.
#[derive(Debug, Default)]
pub(super) struct Locks(Mutex<HashMap<Key, Weak<Latch>>>);

/// Locks that are held until this is dropped.
#[must_use = "the locks are given back when this is dropped"]
pub(super) struct Held(#[expect(dead_code, reason = "held, not read")] Vec<LatchHeld>);

impl Locks {
    /// Waits for all of `keys`.
    pub(super) fn acquire(&self, mut keys: Vec<Key>) -> Held {
        keys.sort_unstable();
        keys.dedup();
        Held(keys.into_iter().map(|key| hold(&self.of(key))).collect())
    }

    fn of(&self, key: Key) -> Arc<Latch> {
        let mut table = self.0.lock();
        if let Some(lock) = table.get(&key).and_then(Weak::upgrade) {
            return lock;
        }
        table.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(Latch::default());
        table.insert(key, Arc::downgrade(&lock));
        lock
    }
}
