//! Work shared between threads, and what the environment asks for.

use crate::scenario::Scenario;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Does one piece of work for each item, on as many threads as there are processors. In the order of the items.
pub(crate) fn share<T: Copy + Sync, R: Send>(items: &[T], work: impl Fn(T) -> R + Sync) -> Vec<(T, R)> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { return };
                    let result = work(*item);
                    done.lock().expect("no thread panics with it").push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no thread panicked");
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(index, result)| (items[index], result)).collect()
}

/// A number from the environment.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The scenarios that the environment asks for: all, or those with a text in their names.
pub(crate) fn selected(scenarios: Vec<Scenario>) -> Vec<Scenario> {
    match std::env::var("SNAPGROUP_CRASH_ONLY") {
        Ok(text) => scenarios.into_iter().filter(|scenario| scenario.name().contains(&text)).collect(),
        Err(_) => scenarios,
    }
}

/// Whether a number is the one that is picked of about so many, by a seed.
pub(crate) fn one_of(many: u64, seed: u64, number: u64) -> bool {
    let mut value = (seed ^ number.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (value ^ (value >> 32)).is_multiple_of(many)
}
