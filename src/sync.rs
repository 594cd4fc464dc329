//! Locks: the only place that says whose they are.
//!
//! Normally those of `parking_lot`. Built with `--cfg snapgroup_shuttle` they are those of `shuttle`, which decides at
//! each of them who goes on: `tests/concurrency.rs` then walks through thousands of schedules, and one that fails is
//! run again from its seed.
//!
//! The rooms `units`, `format`, `storage` and `catalog` keep their own: no thread waits in them for another one that
//! is in the middle of something. (The database has locks that no schedule could see.)

#[cfg(not(snapgroup_shuttle))]
pub(crate) use real::*;
#[cfg(snapgroup_shuttle)]
pub(crate) use scheduled::*;

#[cfg(not(snapgroup_shuttle))]
mod real {
    use parking_lot::{ArcMutexGuard, RawMutex};
    pub(crate) use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
    use std::sync::Arc;

    /// A lock over nothing, whose guard keeps it alive.
    pub(crate) type Latch = Mutex<()>;

    /// A latch that is held until this is dropped.
    pub(crate) type LatchHeld = ArcMutexGuard<RawMutex, ()>;

    /// Waits for a latch.
    pub(crate) fn hold(latch: &Arc<Latch>) -> LatchHeld {
        latch.lock_arc()
    }
}

#[cfg(snapgroup_shuttle)]
mod scheduled {
    use shuttle::sync as shuttle;
    use std::ops::{Deref, DerefMut};
    use std::sync::{Arc, PoisonError};

    pub(crate) use ::shuttle::sync::{MutexGuard, RwLockReadGuard};

    /// As that of `parking_lot`: a panic does not poison it.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// As that of `parking_lot`: a panic does not poison it.
    #[derive(Debug, Default)]
    pub(crate) struct RwLock<T>(shuttle::RwLock<T>);

    /// Exclusive use of what a lock holds.
    #[derive(Debug)]
    pub(crate) struct RwLockWriteGuard<'a, T> {
        lock: &'a RwLock<T>,
        guard: shuttle::RwLockWriteGuard<'a, T>,
    }

    impl<T> RwLock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::RwLock::new(value))
        }

        pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
            let guard = self.0.write().unwrap_or_else(PoisonError::into_inner);
            RwLockWriteGuard { lock: self, guard }
        }
    }

    impl<'a, T> RwLockWriteGuard<'a, T> {
        /// Weaker than the real one: a writer may come in between. What holds here holds there.
        pub(crate) fn downgrade(this: Self) -> RwLockReadGuard<'a, T> {
            let Self { lock, guard } = this;
            drop(guard);
            lock.read()
        }
    }

    impl<T> Deref for RwLockWriteGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.guard
        }
    }

    impl<T> DerefMut for RwLockWriteGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.guard
        }
    }

    /// A lock over nothing, whose guard keeps it alive.
    #[derive(Debug, Default)]
    pub(crate) struct Latch {
        is_held: shuttle::Mutex<bool>,
        given_back: shuttle::Condvar,
    }

    /// A latch that is held until this is dropped.
    #[derive(Debug)]
    pub(crate) struct LatchHeld(Arc<Latch>);

    /// Waits for a latch.
    pub(crate) fn hold(latch: &Arc<Latch>) -> LatchHeld {
        let mut is_held = latch.is_held.lock().unwrap_or_else(PoisonError::into_inner);
        while *is_held {
            is_held = latch.given_back.wait(is_held).unwrap_or_else(PoisonError::into_inner);
        }
        *is_held = true;
        drop(is_held);
        LatchHeld(Arc::clone(latch))
    }

    impl Drop for LatchHeld {
        fn drop(&mut self) {
            *self.0.is_held.lock().unwrap_or_else(PoisonError::into_inner) = false;
            self.0.given_back.notify_one();
        }
    }
}
