//! Power cuts at every instant of a run, and at every instant of the recovery from one.

use crate::oracle::{Memo, judge};
use crate::scenario::Run;
use crate::work::one_of;
use crate::world::Moment;
use snapgroup::storage::{Bounds, CrashState, DiskLog, FileSystem, SimulatedDisk};
use snapgroup::{CreatePool, Engine, Ids, Options, watch_order};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

/// What was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// The power cuts: instants.
    pub(crate) instants: u64,
    /// The states that were judged; no two of one run are the same.
    pub(crate) states: u64,
    /// Those of them that are unlike all others, of other runs, too.
    pub(crate) distinct: u64,
    /// The pools that were opened; the others had the same in all that opening them looks at.
    pub(crate) opened: u64,
    /// Those of them that were read from end to end; the others had the same books and layers as one of these.
    pub(crate) read: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.instants += other.instants;
        self.states += other.states;
        self.distinct += other.distinct;
        self.opened += other.opened;
        self.read += other.read;
    }
}

/// The states that were judged in any run, by their digests.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<HashSet<u128>>);

impl Seen {
    fn is_new(&self, state: &CrashState) -> bool {
        self.0.lock().expect("no thread panics with it").insert(state.digest())
    }
}

/// How much of a run is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) bounds: Bounds,
    /// One of how many instants is one at which the power is cut.
    pub(crate) instants_one_of: u64,
    /// The states of one instant at most, of those that no earlier instant has left.
    pub(crate) states_max: u64,
}

impl Effort {
    /// How the dice fall at an instant.
    fn seed(self, instant: usize) -> u64 {
        self.bounds.seed.wrapping_add(instant as u64 * 7919)
    }

    fn looks_at(self, instant: usize) -> bool {
        one_of(self.instants_one_of, self.bounds.seed, instant as u64)
    }

    /// States of one instant; more than are to be looked at, since some were left by earlier ones.
    fn states(self, instant: usize, cut: &snapgroup::storage::PowerCut) -> impl Iterator<Item = CrashState> {
        let seed = self.seed(instant);
        let tries = usize::try_from(self.states_max * 4 + 4).expect("a few");
        cut.states(Bounds { seed, ..self.bounds }).shuffled(seed).take(tries)
    }
}

/// Cuts the power at every instant of a run on each of these file systems, and looks through its log. Answers the first
/// state in which something is wrong.
pub(crate) fn cut_run(
    run: &Run,
    file_systems: &[FileSystem],
    effort: Effort,
    seen: &Seen,
) -> (Tally, Result<(), String>) {
    let mut tally = Tally::default();
    if let Some(breach) = watch_order(&run.log).first() {
        return (tally, Err(breach.to_string()));
    }
    let (from, mut memo) = (run.moments[0].position, Memo::default());
    for (nth, file_system) in (0_u64..).zip(file_systems) {
        let (log, options) = (run.log.on(*file_system), &run.template.options);
        // Other dice, so that what both may leave is not looked at twice.
        let seed = effort.bounds.seed ^ nth << 40;
        let effort = Effort { bounds: Bounds { seed, ..effort.bounds }, ..effort };
        let (more, result) =
            cut_log(&log, from, effort, &mut memo, seen, options, |instant| run.allowed(instant));
        tally.add(more);
        if let Err(wrong) = result {
            return (tally, Err(format!("{file_system:?}: {wrong}")));
        }
    }
    (tally, Ok(()))
}

/// Cuts the power at every instant of a log from one on.
pub(crate) fn cut_log<'a>(
    log: &DiskLog,
    from: usize,
    effort: Effort,
    memo: &mut Memo,
    seen: &Seen,
    options: &Options,
    allowed: impl Fn(usize) -> &'a [Moment],
) -> (Tally, Result<(), String>) {
    let (opened, read) = (memo.opened, memo.read);
    let mut tally = Tally::default();
    let mut result = Ok(());
    'cuts: for (instant, cut) in log.cuts(from).filter(|(instant, _)| effort.looks_at(*instant)) {
        tally.instants += 1;
        let allowed = allowed(instant);
        let mut here = 0;
        for state in effort.states(instant, &cut) {
            if here == effort.states_max {
                break;
            }
            if !memo.is_new(&state, allowed) {
                continue;
            }
            here += 1;
            tally.states += 1;
            tally.distinct += u64::from(seen.is_new(&state));
            if let Err(wrong) = judge(&state, allowed, options, memo) {
                let last = instant.checked_sub(1).and_then(|last| log.events().get(last));
                let last =
                    last.map_or_else(String::new, |event| format!("{:?} {:?}", event.name, kind(event)));
                result = Err(format!("instant {instant} (after {last}), {:?}: {wrong}", state.choice()));
                break 'cuts;
            }
        }
    }
    (tally.opened, tally.read) = (memo.opened - opened, memo.read - read);
    (tally, result)
}

pub(crate) fn kind(event: &snapgroup::storage::DiskEvent) -> String {
    let text = format!("{:?}", event.change);
    text.split([' ', '(']).next().unwrap_or_default().to_owned()
}

/// Cuts the power in a run, and again at every instant of the recovery. Each pool that recovery has something to do
/// in is one.
pub(crate) fn cut_recovery(
    run: &Run,
    outer: Effort,
    inner: Effort,
    seen: &Seen,
) -> (Tally, Result<(), String>) {
    let (mut tally, mut memo, mut begun) = (Tally::default(), Memo::default(), HashSet::new());
    let options = &run.template.options;
    let cuts = run.log.cuts(run.moments[0].position);
    for (instant, cut) in cuts.filter(|(instant, _)| outer.looks_at(*instant)) {
        let allowed = run.allowed(instant);
        let mut here = 0;
        for state in outer.states(instant, &cut) {
            if here == outer.states_max {
                break;
            }
            if !begun.insert(state.digest()) {
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
            let log = disk.log();
            let inner = Effort { bounds: Bounds { seed: inner.seed(instant), ..inner.bounds }, ..inner };
            let (more, result) = cut_log(&log, 0, inner, &mut memo, seen, &options, |_| allowed);
            tally.add(more);
            let breach = watch_order(&log).first().map(ToString::to_string);
            if let Some(wrong) = result.err().or(breach) {
                let wrong = format!("instant {instant}, {:?}, then in recovery {wrong}", state.choice());
                return (tally, Err(wrong));
            }
        }
    }
    (tally, Ok(()))
}
