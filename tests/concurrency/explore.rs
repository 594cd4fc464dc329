//! Threads, and the orders in which they go on.

use snapgroup::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// A place where another thread may go on: at every sixteenth call it does, scattered.
pub(crate) fn pause() {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    if call.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60 == 0 {
        thread::yield_now();
    }
}

/// Threads that run beside each other until they are joined.
#[derive(Default)]
pub(crate) struct Threads(Vec<thread::JoinHandle<Result<(), Error>>>);

impl Threads {
    pub(crate) fn start(&mut self, run: impl FnOnce() -> Result<(), Error> + Send + 'static) {
        self.0.push(thread::spawn(run));
    }

    pub(crate) fn join(self) {
        for thread in self.0 {
            thread.join().expect("no thread panics").expect("nothing fails in memory");
        }
    }
}

/// Runs what prepares the scenario once, then the scenario a few times.
pub(crate) fn explore(prepare: fn(), scenario: impl Fn()) {
    prepare();
    for _ in 0..10 {
        scenario();
    }
}
