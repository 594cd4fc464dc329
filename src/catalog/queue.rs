//! Commits that come at once: one of them publishes all that wait, in one transaction with one sync.
//!
//! Whoever comes first leads, and commits what it brought. Who comes meanwhile waits; the first of them to go on then
//! leads the others. So independent machines do not wait for one sync each, and nobody waits for anybody who has not come
//! yet. Each is told its own outcome: what one of them brought and cannot be done is left out, and the others are done.

use super::edit::Edit;
use super::error::{Error, Result};
use parking_lot::Mutex;
use std::sync::Arc;

/// Edits that shall become durable as one, or not at all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    /// Which generation they were decided on, when that matters.
    pub(super) expected: Option<u64>,
    pub(super) edits: &'a [Edit],
}

/// Who waits for a commit.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Vec<Arc<Waiting>>>,
    /// Held by who leads.
    leading: Mutex<()>,
}

#[derive(Debug)]
struct Waiting {
    expected: Option<u64>,
    edits: Vec<Edit>,
    outcome: Mutex<Option<Result<u64>>>,
}

impl Queue {
    /// Has a wish done by `perform`, which answers an outcome for each of several, in their order.
    pub(super) fn commit(
        &self,
        wish: Wish<'_>,
        perform: impl Fn(&[Wish<'_>]) -> Vec<Result<u64>>,
    ) -> Result<u64> {
        if let Some(_leading) = self.leading.try_lock() {
            // Nobody is at it, so nothing needs to be kept for others to see.
            return self.lead(Some(wish), perform).unwrap_or(Err(Error::Halted));
        }
        let Wish { expected, edits } = wish;
        let own = Arc::new(Waiting { expected, edits: edits.to_vec(), outcome: Mutex::default() });
        self.waiting.lock().push(Arc::clone(&own));
        let _leading = self.leading.lock();
        if let Some(outcome) = own.outcome.lock().take() {
            return outcome;
        }
        self.lead(None, perform);
        // Without an outcome, whoever led before has panicked over it.
        own.outcome.lock().take().unwrap_or(Err(Error::Halted))
    }

    /// Does all that wait, and then the leader's own when it does not wait; answers the outcome of that.
    fn lead(
        &self,
        own: Option<Wish<'_>>,
        perform: impl Fn(&[Wish<'_>]) -> Vec<Result<u64>>,
    ) -> Option<Result<u64>> {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        let wishes = waiting.iter().map(|waiting| Wish { expected: waiting.expected, edits: &waiting.edits });
        let wishes: Vec<Wish<'_>> = wishes.chain(own).collect();
        if wishes.is_empty() {
            return None;
        }
        let mut outcomes = perform(&wishes).into_iter();
        for (waiting, outcome) in waiting.iter().zip(outcomes.by_ref()) {
            *waiting.outcome.lock() = Some(outcome);
        }
        outcomes.next()
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::*;
    use crate::storage::Blob;
    use std::sync::Arc;
    use std::thread::{self, yield_now};
    use uuid::Uuid;

    fn catalog_on(blob: &Arc<MemoryBlob>) -> Result<Catalog> {
        Catalog::create(Arc::clone(blob) as Arc<dyn Blob>, Uuid::from_u128(1), Timestamp(0))
    }

    #[test]
    fn what_comes_during_a_sync_shares_the_next_one_and_each_is_told_its_own_outcome() -> Result<()> {
        let blob = MemoryBlob::empty();
        let catalog = catalog_on(&blob)?;
        let stop = blob.stop_at_the_next_sync();
        let before = blob.syncs();
        thread::scope(|scope| -> Result<()> {
            let first = scope.spawn(|| catalog.commit(None, &[machine(1).into()]));
            stop.wait_until_reached();
            let edits: [(Option<u64>, Edit); 4] = [
                (None, machine(2).into()),
                (None, Edit::RemoveMachine(MachineId(77))),
                (Some(0), machine(3).into()),
                (None, machine(4).into()),
            ];
            let others = edits.map(|(expected, edit)| {
                let catalog = &catalog;
                let waiting = catalog.queue.waiting();
                let other = scope.spawn(move || catalog.commit(expected, &[edit]));
                // In this order, so that it is known which generation each one gets.
                while catalog.queue.waiting() == waiting {
                    yield_now();
                }
                other
            });
            stop.go_on();
            assert_eq!(first.join().expect("a commit does not panic")?, 1);
            let outcomes = others.map(|other| other.join().expect("a commit does not panic"));
            let [Ok(2), Err(Error::Absent { .. }), Err(Error::Stale { expected: 0, found }), Ok(3)] =
                outcomes
            else {
                panic!("{outcomes:?}")
            };
            assert!(found > 0);
            Ok(())
        })?;
        assert_eq!(blob.syncs() - before, 2, "one sync for the first, one for those that came meanwhile");
        assert_eq!((catalog.generation(), catalog.read()?.generation()), (3, 3));
        assert_eq!(catalog.read()?.counts()?.machines, 3);
        assert_eq!(catalog.read()?.verify()?, []);
        Ok(())
    }

    #[test]
    fn when_the_sync_that_many_share_fails_none_of_them_is_told_that_it_is_done() -> Result<()> {
        let blob = MemoryBlob::empty();
        let catalog = catalog_on(&blob)?;
        let stop = blob.stop_at_the_next_sync();
        thread::scope(|scope| {
            let first = scope.spawn(|| catalog.commit(None, &[machine(1).into()]));
            stop.wait_until_reached();
            let others = [2, 3].map(|id| {
                let catalog = &catalog;
                let waiting = catalog.queue.waiting();
                let other = scope.spawn(move || catalog.commit(None, &[machine(id).into()]));
                while catalog.queue.waiting() == waiting {
                    yield_now();
                }
                other
            });
            blob.fail_syncs_after(1);
            stop.go_on();
            assert_eq!(first.join().expect("a commit does not panic").ok(), Some(1));
            for other in others {
                let outcome = other.join().expect("a commit does not panic");
                let Err(Error::CommitUnknown { .. }) = outcome else { panic!("{outcome:?}") };
            }
        });
        let Err(Error::Halted) = catalog.commit(None, &[machine(4).into()]) else {
            panic!("a commit followed a failed sync");
        };
        Ok(())
    }
}
