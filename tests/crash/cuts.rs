//! Power cuts at every instant of a run, and at every instant of the recovery from one.

use crate::oracle::{CATALOGUE, Memo, judge};
use crate::scenario::Run;
use crate::world::Moment;
use snapgroup::storage::{BlobName, Bounds, CrashState, DiskLog, FileSystem, SimulatedDisk};
use snapgroup::{CreatePool, Engine, Ids, Options};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// The power cuts: instants.
    pub(crate) instants: u64,
    /// The states that were judged; no two of one run are the same.
    pub(crate) states: u64,
    /// Those of them that were read from end to end; the others had the same books and layers as one of these.
    pub(crate) read: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.instants += other.instants;
        self.states += other.states;
        self.read += other.read;
    }
}

/// How much of a run is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) bounds: Bounds,
    /// The states of one run at most.
    pub(crate) states_max: u64,
}

pub(crate) fn digest_of_catalogue(state: &CrashState) -> Option<u128> {
    state.digest_of(&BlobName::parse(CATALOGUE).expect("one component"))
}

/// Cuts the power at every instant of a run. Answers the first state in which something is wrong.
pub(crate) fn cut_run(run: &Run, effort: Effort, memo: &mut Memo) -> (Tally, Result<(), String>) {
    let from = run.moments[0].position;
    cut_log(&run.log, from, effort, memo, &run.template.options, |instant| run.allowed(instant))
}

/// Cuts the power at every instant of a log from one on.
pub(crate) fn cut_log<'a>(
    log: &DiskLog,
    from: usize,
    effort: Effort,
    memo: &mut Memo,
    options: &Options,
    allowed: impl Fn(usize) -> &'a [Moment],
) -> (Tally, Result<(), String>) {
    memo.forget();
    let read = memo.read;
    let (mut tally, mut seen) = (Tally::default(), HashSet::new());
    let mut result = Ok(());
    'cuts: for (instant, cut) in log.cuts(from) {
        tally.instants += 1;
        let allowed = allowed(instant);
        let bounds = Bounds { seed: effort.bounds.seed.wrapping_add(instant as u64 * 7919), ..effort.bounds };
        for state in cut.states(bounds) {
            if !seen.insert((state.digest(), allowed[0].position)) {
                continue;
            }
            if tally.states == effort.states_max {
                break 'cuts;
            }
            tally.states += 1;
            let judged = judge(&state.store(), digest_of_catalogue(&state), allowed, options, memo);
            if let Err(wrong) = judged {
                let last = instant.checked_sub(1).and_then(|last| log.events().get(last));
                let last =
                    last.map_or_else(String::new, |event| format!("{:?} {:?}", event.name, kind(event)));
                result = Err(format!("instant {instant} (after {last}), {:?}: {wrong}", state.choice()));
                break 'cuts;
            }
        }
    }
    tally.read = memo.read - read;
    (tally, result)
}

pub(crate) fn kind(event: &snapgroup::storage::DiskEvent) -> String {
    let text = format!("{:?}", event.change);
    text.split([' ', '(']).next().unwrap_or_default().to_owned()
}

/// Cuts the power in a run, and again at every instant of the recovery. Each pool that recovery has something to do
/// in is one; `states_max` of them are looked at.
pub(crate) fn cut_recovery(
    run: &Run,
    effort: Effort,
    inner: Effort,
    memo: &mut Memo,
) -> (Tally, Result<(), String>) {
    let (mut tally, mut seen) = (Tally::default(), HashSet::new());
    let options = &run.template.options;
    for (instant, cut) in run.log.cuts(run.moments[0].position) {
        let allowed = run.allowed(instant);
        let bounds = Bounds { seed: effort.bounds.seed.wrapping_add(instant as u64), ..effort.bounds };
        let mut here = 0;
        for state in cut.states(bounds) {
            if here == effort.states_max {
                break;
            }
            if !seen.insert(state.digest()) {
                continue;
            }
            here += 1;
            let disk = SimulatedDisk::over(&state.store(), FileSystem::Strict);
            let create = match options.create {
                CreatePool::IfEmpty => CreatePool::IfEmpty,
                _ => CreatePool::Never,
            };
            let options = Options { create, ids: Ids::Seeded(77), ..options.clone() };
            let opened = catch_unwind(AssertUnwindSafe(|| {
                Engine::open_on(Arc::new(disk.clone()), options.clone()).map(drop)
            }));
            if !matches!(opened, Ok(Ok(()))) {
                return (tally, Err(format!("instant {instant}, {:?}: {opened:?}", state.choice())));
            }
            let (more, result) = cut_log(&disk.log(), 0, inner, memo, &options, |_| allowed);
            tally.add(more);
            if let Err(wrong) = result {
                let wrong = format!("instant {instant}, {:?}, then in recovery {wrong}", state.choice());
                return (tally, Err(wrong));
            }
        }
    }
    (tally, Ok(()))
}
