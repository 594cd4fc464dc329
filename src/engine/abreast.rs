//! Work on many things side by side, on threads that end with it.

use super::error::Result;
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

/// As [`abreast`], of work that can fail: answers the error of the first thing that has one, whoever was done first.
/// What comes after a thing that has failed need not be done, and is told so.
pub(super) fn try_abreast<T: Sync, R: Send>(
    threads: NonZeroUsize,
    things: &[T],
    work: impl Fn(&T, Place<'_>) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let first_failed = AtomicUsize::new(usize::MAX);
    let places: Vec<_> = things.iter().enumerate().collect();
    let done = abreast(threads, &places, |(index, thing)| {
        let place = Place { index: *index, first_failed: &first_failed };
        if place.is_in_vain() {
            return None;
        }
        let done = work(thing, place);
        if done.is_err() {
            first_failed.fetch_min(*index, Ordering::Relaxed);
        }
        Some(done)
    });
    // What was left out, or broken off, comes after an error.
    done.into_iter().map_while(|done| done).collect()
}

/// The place of a thing among those that are worked on.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// Its index.
    pub(super) index: usize,
    first_failed: &'a AtomicUsize,
}

impl Place<'_> {
    /// Whether something before it has failed: then nobody will see what comes of it, and it may end anyhow.
    pub(super) fn is_in_vain(self) -> bool {
        self.first_failed.load(Ordering::Relaxed) < self.index
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::Error;
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

    #[test]
    fn the_error_of_the_first_thing_counts_and_what_comes_after_it_need_not_end() {
        let failed = |index: u64| Error::NoPool { location: index.to_string() };
        for threads in [1, 2, 4] {
            let threads = NonZeroUsize::new(threads).expect("not zero");
            let things: Vec<u64> = (0..50).collect();
            // The last ones fail at once, and 20 fails too; those before 20 all end.
            let ended = AtomicUsize::new(0);
            let found = try_abreast(threads, &things, |thing, place| {
                assert_eq!(u64::try_from(place.index), Ok(*thing));
                match *thing {
                    0..20 => {
                        assert!(!place.is_in_vain(), "something before it has failed: {thing}");
                        ended.fetch_add(1, Ordering::Relaxed);
                        Ok(*thing)
                    }
                    20 | 22.. => Err(failed(*thing)),
                    // As long as it takes; where its turn comes after that of 20, it is never asked.
                    _ => loop {
                        if place.is_in_vain() {
                            break Ok(0);
                        }
                        std::thread::yield_now();
                    },
                }
            });
            let Err(Error::NoPool { location }) = found else { panic!("{found:?}") };
            assert_eq!((location.as_str(), ended.into_inner()), ("20", 20));
        }
        let two = NonZeroUsize::new(2).expect("not zero");
        assert_eq!(try_abreast(two, &[1, 2, 3], |thing, _| Ok(thing * 2)).expect("none fails"), [2, 4, 6]);
    }

    #[test]
    fn what_comes_before_a_thing_that_has_failed_goes_on_to_its_end() {
        let has_failed = AtomicUsize::new(0);
        let two = NonZeroUsize::new(2).expect("not zero");
        let found = try_abreast(two, &[0, 1], |thing, place| {
            if *thing == 1 {
                has_failed.store(1, Ordering::SeqCst);
                return Err(Error::NoPool { location: "1".into() });
            }
            // As long as it takes; where nobody else is there to come, an end all the same.
            let other = (0..5_000_000).any(|_| {
                std::thread::yield_now();
                has_failed.load(Ordering::SeqCst) == 1
            });
            // Long enough for it to be known.
            (0..1000).for_each(|_| std::thread::yield_now());
            assert!(other && !place.is_in_vain(), "the other one has come: {other}");
            Err::<(), _>(Error::NoPool { location: "0".into() })
        });
        let Err(Error::NoPool { location }) = found else { panic!("{found:?}") };
        assert_eq!(location, "0");
    }
}
