//! What came of opening a pool, by what was looked at for it.
//!
//! Most states of a crash differ in bytes that nobody reads: pages of a transaction that did not take place. The engine
//! does the same whenever its store tells it the same ([`witness`](crate::witness)), so of such states one is opened, and
//! the others are as that one is. Now and then one of them is opened all the same, and must turn out to be so.

use crate::witness::{Look, Seen};
use snapgroup::storage::{BlobName, CrashState};
use std::collections::HashMap;

/// What came of opening pools of one run.
#[derive(Debug)]
pub(crate) struct Openings<T> {
    /// By the names that are found.
    begun: HashMap<Vec<BlobName>, Place<T>>,
    audited: u64,
}

/// What came of opening one.
#[derive(Debug)]
pub(crate) struct Opening<T> {
    pub(crate) outcome: T,
    pub(crate) seen: Seen,
}

/// What is known of what comes after what was seen so far.
type Place<T> = Option<Box<Step<T>>>;

#[derive(Debug)]
enum Step<T> {
    /// This is looked at, and what comes then depends on what is seen.
    Look(Look, HashMap<Option<u128>, Place<T>>),
    Done(Opening<T>),
}

/// One of so many pools that need not be opened is opened.
const AUDITED_ONE_OF: u64 = 100;

impl<T> Default for Openings<T> {
    fn default() -> Self {
        Self { begun: HashMap::new(), audited: 0 }
    }
}

impl<T> Openings<T> {
    /// What comes of opening a state, when it is known.
    pub(crate) fn find(&self, state: &CrashState) -> Option<&Opening<T>> {
        let mut place = self.begun.get(&names(state))?;
        loop {
            match &**place.as_ref()? {
                Step::Look(look, then) => place = then.get(&look.at(state))?,
                Step::Done(opening) => return Some(opening),
            }
        }
    }

    /// Whether what was found is to be shown to be so.
    pub(crate) fn is_audited(&mut self) -> bool {
        self.audited += 1;
        self.audited.is_multiple_of(AUDITED_ONE_OF)
    }

    /// Remembers what came of opening a state. Not when something else was looked at than in a state that is alike as far
    /// as that was seen.
    pub(crate) fn insert(&mut self, state: &CrashState, opening: Opening<T>) {
        let mut place = self.begun.entry(names(state)).or_default();
        for look in &opening.seen.looks {
            let step = place.get_or_insert_with(|| Box::new(Step::Look(*look, HashMap::new())));
            match &mut **step {
                Step::Look(known, then) if known == look => place = then.entry(look.at(state)).or_default(),
                _ => return,
            }
        }
        place.get_or_insert_with(|| Box::new(Step::Done(opening)));
    }
}

fn names(state: &CrashState) -> Vec<BlobName> {
    state.blobs().iter().map(|blob| blob.name().clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::witness::Witness;
    use snapgroup::storage::{Access, Bounds, FileSystem, MemoryStore, Result, SimulatedDisk, Store};
    use snapgroup::units::{ByteCount, HostOffset};

    fn name(text: &str) -> BlobName {
        BlobName::parse(text).expect("one component")
    }

    fn byte(store: &dyn Store, blob: &str, page: u64) -> Result<u8> {
        let mut byte = [0];
        store.open(&name(blob), Access::Read)?.read_at(HostOffset::new(page * 4096), &mut byte)?;
        Ok(byte[0])
    }

    /// Looks at the end of one blob, and only then at another one; changes what it finds.
    fn program(store: &dyn Store) -> Result<u8> {
        if byte(store, "a", 2)? == 1 {
            let seen = byte(store, "b", 0)?;
            let b = store.open(&name("b"), Access::Write)?;
            b.write_at(HostOffset::new(1), &[7])?;
            b.set_length(ByteCount::new(3))?;
            return Ok(seen);
        }
        store.remove(&name("b"))?;
        store.create(&name("c"))?.write_at(HostOffset::new(9000), &[8])?;
        Ok(100)
    }

    fn disk() -> Result<SimulatedDisk> {
        let store = MemoryStore::new();
        for (blob, length) in [("a", 3 * 4096), ("b", 4096), ("other", 10)] {
            store.create(&name(blob))?.write_at(HostOffset::ZERO, &vec![1; length])?;
        }
        let disk = SimulatedDisk::over(&store, FileSystem::Strict);
        for (blob, page) in [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("other", 0)] {
            let blob = disk.open(&name(blob), Access::Write)?;
            blob.write_at(HostOffset::new(page * 4096), &[2])?;
        }
        disk.create(&name("d"))?;
        Ok(disk)
    }

    #[test]
    fn a_state_is_known_when_all_that_was_looked_at_is_the_same_and_only_then() -> Result<()> {
        let (disk, other) = (disk()?, name("other"));
        let (mut openings, mut opened, mut states) = (Openings::default(), 0, 0);
        for state in disk.log().cut(usize::MAX).states(Bounds::default()) {
            states += 1;
            let store = state.store();
            let witness = Witness::of(&store, &other);
            let outcome = program(&witness)?;
            let left = state.digest_of_others(&store, &other);
            match openings.find(&state) {
                Some(Opening { outcome: known, seen }) => {
                    assert_eq!((*known, seen.digest_after(&state, &other)), (outcome, left));
                }
                None => {
                    opened += 1;
                    let seen = witness.notes().seen().expect("all of it can be noted");
                    openings.insert(&state, Opening { outcome, seen });
                }
            }
        }
        // With and without the new name: one end of the one blob, or the other and both beginnings of the other blob.
        assert_eq!((states, opened), (64, 6));
        Ok(())
    }

    #[test]
    fn what_cannot_be_noted_is_not() -> Result<()> {
        let store = disk()?.live();
        let witness = Witness::of(&store, &name("other"));
        let blob = witness.open(&name("a"), Access::Write)?;
        assert!(witness.notes().seen().is_some());
        witness.remove(&name("a"))?;
        assert!(witness.notes().seen().is_some());
        blob.write_at(HostOffset::ZERO, &[3])?;
        assert!(witness.notes().seen().is_none(), "a blob without a name was written to");

        let witness = Witness::of(&store, &name("other"));
        let blob = witness.open(&name("b"), Access::Read)?;
        blob.identity();
        assert!(witness.notes().seen().is_none(), "which blob it is was asked");
        Ok(())
    }
}
