//! Reclaiming the bytes that deletions leave: retired layers are merged, freed in place or removed, in steps that
//! can stop anywhere.
//!
//! `plan::reclaim` says which way is chosen, [`model`] what each costs, `work` does it. What is to be done is worked
//! out anew in every step from what is there then, so that a step after a crash, or after anything else has happened
//! in between, is like any other.

mod estimate;
pub(super) mod finish;
mod model;
mod owed;
mod survey;
pub(super) mod sweep;
mod work;

pub(super) use estimate::Rehearsal;
pub use estimate::{ChainChange, Figures};
pub use owed::{Owed, OwedReason};

use super::error::{Error, Result};
use super::events::Work;
use super::operation::{Operation, Running};
use super::pool::Engine;
use super::uuid_arg::UuidArg;
use crate::catalog::{LayerId, LayerState};
use crate::chain::Step;
use crate::plan::reclaim::Direction;
use crate::units::ByteCount;
use std::collections::{BTreeMap, VecDeque};

/// The budget of a step that goes on to the end.
const EVERYTHING: ByteCount = ByteCount::new(u64::MAX);

/// What shall be reclaimed, and how.
#[doc = include_str!("../examples/reclaiming.md")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReclaimOptions {
    /// Which way bytes go.
    pub direction: Direction,
    /// Only the layers of this volume; all when absent.
    pub volume: Option<UuidArg>,
}

impl ReclaimOptions {
    /// Everything, in this direction.
    #[must_use]
    pub fn towards(direction: Direction) -> Self {
        Self { direction, volume: None }
    }
}

/// What was reclaimed.
#[doc = include_str!("../examples/reclaiming.md")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reclaimed {
    /// The bytes that were copied up, into the layer above.
    pub bytes_pulled: ByteCount,
    /// The bytes that were copied down, into the retired layer.
    pub bytes_committed: ByteCount,
    /// The bytes of clusters that were freed inside of files.
    pub bytes_punched: ByteCount,
    /// The bytes that the removed files took up when they were first looked at, less what was freed in them since.
    pub bytes_removed: ByteCount,
    /// The files that were removed.
    pub files_removed: Vec<String>,
    /// What each layer took up when it was first looked at.
    first: BTreeMap<u64, ByteCount>,
}

impl Reclaimed {
    /// The bytes that were given back, by freeing and by removing.
    #[must_use]
    pub fn bytes_freed(&self) -> ByteCount {
        self.bytes_punched + self.bytes_removed
    }

    /// The bytes that were copied, whichever way.
    #[must_use]
    pub fn bytes_copied(&self) -> ByteCount {
        self.bytes_pulled + self.bytes_committed
    }

    /// Notes what a layer takes up, unless it was noted before.
    fn see(&mut self, layer: LayerId, allocated: ByteCount) {
        self.first.entry(layer.0).or_insert(allocated);
    }

    /// What a layer took up when it was first looked at.
    fn first_seen(&self, layer: LayerId, now: ByteCount) -> ByteCount {
        self.first.get(&layer.0).copied().unwrap_or(now)
    }

    /// Notes what was freed inside of a layer.
    fn punched(&mut self, layer: LayerId, freed: ByteCount) {
        self.bytes_punched += freed;
        if let Some(first) = self.first.get_mut(&layer.0) {
            *first = first.saturating_sub(freed);
        }
    }
}

/// How far a reclaim has come, in bytes that are copied.
#[doc = include_str!("../examples/reclaiming.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The bytes that were copied.
    pub copied: ByteCount,
    /// The bytes that were to be copied, as far as the tables told when the reclaim began.
    pub total: ByteCount,
}

/// A reclaim under way. It does something only in [`Reclaim::step`] and holds no lock in between; dropping it stops
/// it, and another one goes on where it stopped.
///
/// Between two steps every other call is lawful, on the same volumes, too, and none is refused because of it: whatever
/// a step leaves is a state in which everything reads right, and the next step works out anew what is to be done. A
/// call that comes during a step waits for its end. So a layer may be gone before its turn comes, and what was copied
/// may be more or less than [`Progress::total`] said.
#[doc = include_str!("../examples/reclaiming.md")]
#[derive(Debug)]
#[must_use = "nothing is reclaimed before it is stepped or finished"]
pub struct Reclaim {
    engine: Engine,
    running: Running,
    queue: VecDeque<LayerId>,
    direction: Direction,
    total: ByteCount,
    done: Reclaimed,
    owed: Vec<Owed>,
}

impl Engine {
    /// Begins to reclaim what deletions have left. Nothing is done before [`Reclaim::step`].
    ///
    /// # Errors
    ///
    /// SYS.1007 for a malformed uuid; SYS.1003 when there is no such volume.
    #[doc = include_str!("../examples/reclaiming.md")]
    pub fn reclaim(&self, options: &ReclaimOptions) -> Result<Reclaim> {
        let pool = &self.pool;
        let reader = pool.read()?;
        let retired = match &options.volume {
            None => reader.layers_retired()?.into_vec()?,
            Some(volume) => {
                let volume = pool.volume(&reader, volume.parse()?)?;
                let chain = reader.chain(volume.head)?;
                let mut layers = reader.layers_of(volume.id)?.into_vec()?;
                layers.extend(chain.into_iter().filter(|layer| layer.volume != volume.id));
                layers.retain(|layer| layer.state == LayerState::Retired);
                layers
            }
        };
        // The younger ones first: they are above the older ones.
        let mut queue: Vec<LayerId> = retired.into_iter().map(|layer| layer.id).collect();
        queue.sort_unstable_by(|one, other| other.cmp(one));
        let total = pool.total_of(&reader, &queue, options.direction);
        Ok(Reclaim::of(self, queue, options.direction, total))
    }

    /// Reclaims the layers that a call has retired, to the end. The call itself is durable, and an error says so.
    pub(super) fn reclaim_after(
        &self,
        retired: &[LayerId],
        direction: Direction,
    ) -> Result<(Reclaimed, Vec<Owed>)> {
        let mut reclaim = Reclaim::of(self, retired.to_vec(), direction, ByteCount::ZERO);
        let took_place = |error| Error::NotReclaimed(Box::new(error));
        while reclaim.step(EVERYTHING).map_err(took_place)? == Step::More {}
        Ok((reclaim.done, reclaim.owed))
    }
}

impl Reclaim {
    fn of(engine: &Engine, queue: Vec<LayerId>, direction: Direction, total: ByteCount) -> Self {
        let (done, owed) = (Reclaimed::default(), Vec::new());
        let running = Running::begin(&engine.pool.options.listener, Operation::Reclaim);
        Self { engine: engine.clone(), running, queue: queue.into(), direction, total, done, owed }
    }

    /// Goes on, copying about `budget` bytes and one cluster at least. What a step has done is durable when it
    /// returns, as far as another step would not do it again.
    ///
    /// A layer with which nothing can be done now is passed over and listed in [`Reclaim::owed`].
    ///
    /// # Errors
    ///
    /// Only what ends all changes of the pool: a failed sync, a commit of unknown outcome.
    #[doc = include_str!("../examples/reclaiming.md")]
    pub fn step(&mut self, budget: ByteCount) -> Result<Step> {
        let running = self.running.clone();
        running.step(|| self.step_untold(budget))
    }

    fn step_untold(&mut self, budget: ByteCount) -> Result<Step> {
        let pool = &self.engine.pool;
        let mut left = budget;
        while let Some(layer) = self.queue.front().copied() {
            // What is garbage gives its room back before more is copied. What cannot be removed is listed in the end.
            if pool.read()?.layers_garbage()?.next().is_some() {
                pool.sweep(&mut self.done)?;
            }
            let before = self.done.bytes_copied();
            let advanced = pool.advance(layer, self.direction, left, &mut self.done);
            if self.done.bytes_copied() != before {
                let Progress { copied, total } = self.progress();
                pool.tell_progress(Work::Reclaim, copied, total);
            }
            match advanced {
                Ok(true) => drop(self.queue.pop_front()),
                Ok(false) => return Ok(Step::More),
                Err(error) => {
                    pool.admit_change()?;
                    self.queue.pop_front();
                    self.owed.extend(pool.owed_by(layer, &error)?);
                }
            }
            left = left.saturating_sub(self.done.bytes_copied() - before);
            if left.is_zero() && !self.queue.is_empty() {
                return Ok(Step::More);
            }
        }
        self.owed.extend(pool.sweep(&mut self.done)?);
        Ok(Step::Done)
    }

    /// Goes on to the end.
    ///
    /// # Errors
    ///
    /// As [`Reclaim::step`].
    pub fn finish(mut self) -> Result<(Reclaimed, Vec<Owed>)> {
        while self.step(EVERYTHING)? == Step::More {}
        Ok((self.done, self.owed))
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let copied = self.done.bytes_copied();
        Progress { copied, total: self.total.max(copied) }
    }

    /// What was done so far.
    #[must_use]
    pub fn reclaimed(&self) -> &Reclaimed {
        &self.done
    }

    /// What could not be done, and why.
    #[must_use]
    pub fn owed(&self) -> &[Owed] {
        &self.owed
    }
}
