//! What keeps maps sound within one store: no byte is touched that this store has cut off.
//!
//! A file that gets shorter under a map kills whoever touches the part that is gone. So every mapped file has one
//! [`Bound`], shared by all its handles of this store:
//!
//! * **M1** A read through the map holds the bound for reading and stays below it.
//! * **M2** Whoever sets a length holds the bound for writing, lowers it first and cuts second. It never rises: a
//!   file that was cut and grew again is read by system calls above the cut.
//! * **M3** Both sides get the bound from one table before they look at the file. So a map is either made
//!   of what the cut left, or is seen by the cut.
//!
//! Programs that do not go through this store are not held by any of it; see [`MapFrozen`](super::MapFrozen).

use super::super::Identity;
use super::mapped::Mapped;
use crate::units::{ByteCount, HostOffset};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Weak};

/// The bounds of all files that are mapped or being cut.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    table: Mutex<Table>,
}

/// The bounds that are in use, and some that no longer are.
#[derive(Debug, Default)]
struct Table {
    bounds: HashMap<Identity, Weak<Bound>>,
    /// How many the table may hold before the unused ones are swept out.
    sweep_at: usize,
}

/// The end of what may be touched through a map of one file.
#[derive(Debug)]
pub(super) struct Bound {
    end: RwLock<ByteCount>,
}

/// A map of one file, and its bound.
#[derive(Debug)]
pub(super) struct Frozen {
    mapped: Mapped,
    bound: Arc<Bound>,
}

impl Bounds {
    /// The bound of a file: the one in use, or a new one that allows everything.
    pub(super) fn of(&self, identity: Identity) -> Arc<Bound> {
        let mut table = self.table.lock();
        if let Some(bound) = table.bounds.get(&identity).and_then(Weak::upgrade) {
            return bound;
        }
        if table.bounds.len() >= table.sweep_at {
            table.bounds.retain(|_, bound| bound.strong_count() > 0);
            table.sweep_at = 2 * table.bounds.len() + 16;
        }
        let bound = Arc::new(Bound { end: RwLock::new(ByteCount::new(u64::MAX)) });
        table.bounds.insert(identity, Arc::downgrade(&bound));
        bound
    }
}

impl Bound {
    /// Keeps every map away from what lies past `length`, then sets the length (M2).
    pub(super) fn lower(&self, length: ByteCount, set: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut end = self.end.write();
        *end = (*end).min(length);
        set()
    }
}

impl Frozen {
    /// Maps a file, or answers `None` where it cannot be: an empty file, a system that cannot map it.
    pub(super) fn map(bounds: &Bounds, identity: Identity, file: &File) -> Option<Self> {
        let bound = bounds.of(identity);
        let mapped = {
            let _held = bound.end.read();
            let length = ByteCount::new(file.metadata().ok()?.len());
            if length.is_zero() {
                return None;
            }
            Mapped::map(file, length).ok()?
        };
        Some(Self { mapped, bound })
    }

    /// Fills the buffer from the map, or says that it does not reach that far and the file must be asked.
    pub(super) fn read_at(&self, at: HostOffset, buffer: &mut [u8]) -> bool {
        let end = self.bound.end.read();
        let within = at.checked_add(ByteCount::of(buffer.len())).is_some_and(|last| last.as_length() <= *end);
        within && self.mapped.read_at(at, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_that_nobody_uses_are_swept_out() {
        let bounds = Bounds::default();
        let kept = bounds.of(Identity { device: 0, number: 0 });
        for number in 1..1000 {
            drop(bounds.of(Identity { device: 0, number }));
        }
        assert!(bounds.table.lock().bounds.len() < 64);
        assert!(Arc::ptr_eq(&kept, &bounds.of(Identity { device: 0, number: 0 })));
    }
}
