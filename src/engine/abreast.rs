//! Work on many things side by side, on threads that end with it.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Does `work` on each of `things`, on so many threads at most, this one among them. Answers in the order of the things,
/// whoever was done first.
pub(super) fn abreast<T: Sync, R: Send>(
    threads: NonZeroUsize,
    things: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let threads = threads.get().min(things.len());
    // A scheduler of tests knows no threads but its own.
    if threads < 2 || cfg!(snapgroup_shuttle) {
        return things.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let run = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(thing) = things.get(index) else { return done };
            done.push((index, work(thing)));
        }
    };
    let mut done = std::thread::scope(|scope| {
        // Where the system has no thread to give, fewer do it.
        let others: Vec<_> =
            (1..threads).map_while(|_| std::thread::Builder::new().spawn_scoped(scope, run).ok()).collect();
        let mut done = run();
        for other in others {
            match other.join() {
                Ok(more) => done.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, answer)| answer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each thing waits for another one, so that one thread does the first or second and the third or fourth.
    #[test]
    fn two_threads_are_at_work_at_once_and_answer_in_order() {
        let at_work = AtomicUsize::new(0);
        let two = NonZeroUsize::new(2).expect("not zero");
        let met = abreast(two, &[0, 1, 2, 3], |thing| {
            at_work.fetch_add(1, Ordering::Relaxed);
            // As long as it takes; where nobody else is there to come, an end all the same.
            let is_met = (0..5_000_000).any(|_| {
                std::thread::yield_now();
                at_work.load(Ordering::Relaxed) >= (thing / 2 + 1) * 2
            });
            (*thing, is_met)
        });
        assert_eq!(met, [(0, true), (1, true), (2, true), (3, true)]);
    }

    #[test]
    fn answers_come_in_the_order_of_the_things_however_many_threads_there_are() {
        let things: Vec<u64> = (0..1000).collect();
        let expected: Vec<u64> = things.iter().map(|thing| thing * 3).collect();
        for threads in [1, 2, 5, 2000] {
            let threads = NonZeroUsize::new(threads).expect("not zero");
            assert_eq!(abreast(threads, &things, |thing| thing * 3), expected);
            assert!(abreast(threads, &things[..0], |thing| thing * 3).is_empty());
        }
    }
}
