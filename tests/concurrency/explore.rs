//! Threads, and the orders in which they go on.

use snapgroup::Error;

#[cfg(snapgroup_shuttle)]
use shuttle::thread;
#[cfg(not(snapgroup_shuttle))]
use std::thread;

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

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("the variable holds a number"))
}

#[cfg(snapgroup_shuttle)]
pub(crate) use scheduled::{explore, pause};
#[cfg(not(snapgroup_shuttle))]
pub(crate) use threads::{explore, pause};

/// The threads of the system: they meet where they do.
#[cfg(not(snapgroup_shuttle))]
mod threads {
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A place where another thread may go on: at every sixteenth call it does, scattered.
    pub(crate) fn pause() {
        static CALLS: AtomicU64 = AtomicU64::new(0);
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        if call.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60 == 0 {
            std::thread::yield_now();
        }
    }

    /// Runs what prepares the scenario once, then the scenario a few times.
    pub(crate) fn explore(_: &str, prepare: fn(), scenario: impl Fn() + Send + Sync + 'static) {
        prepare();
        for _ in 0..super::number("SNAPGROUP_SCHEDULES", 10) {
            scenario();
        }
    }
}

/// A scheduler that lets one thread go on at a time, and decides at every lock and every pause which one.
#[cfg(snapgroup_shuttle)]
mod scheduled {
    use shuttle::scheduler::{PctScheduler, RandomScheduler};
    use shuttle::{Config, Runner};
    use std::sync::Arc;

    /// A place where another thread may go on.
    pub(crate) fn pause() {
        shuttle::thread::yield_now();
    }

    fn config() -> Config {
        let mut config = Config::new();
        config.stack_size = 1 << 20;
        config
    }

    /// Runs what prepares the scenario once, then the scenario: half of the schedules at random, half with few changes
    /// of thread at places that are drawn (probabilistic concurrency testing).
    #[expect(clippy::print_stderr, reason = "the seed and the counts of a random test are printed")]
    pub(crate) fn explore(name: &str, prepare: fn(), scenario: impl Fn() + Send + Sync + 'static) {
        let schedules = usize::try_from(super::number("SNAPGROUP_SCHEDULES", 1000)).expect("few enough");
        let seed = super::number("SNAPGROUP_SEED", 1);
        let scenario = Arc::new(scenario);
        Runner::new(RandomScheduler::new_from_seed(seed, 1), config()).run(prepare);
        let random = Arc::clone(&scenario);
        let mut count = Runner::new(RandomScheduler::new_from_seed(seed, schedules.div_ceil(2)), config())
            .run(move || random());
        count += Runner::new(PctScheduler::new_from_seed(seed, 3, schedules / 2), config())
            .run(move || scenario());
        eprintln!("{name}: {count} schedules from seed {seed}, nothing lost and nobody stuck");
    }
}
