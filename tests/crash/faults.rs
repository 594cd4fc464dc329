//! Calls to the store fail: once or for ever, in every way, while an operation runs. Then the pool is opened
//! again, or used further first.

use crate::oracle::{Memo, judge};
use crate::scenario::{Run, Scenario};
use crate::work::one_of;
use crate::world::{Moment, Noting, World};
use snapgroup::storage::{
    At, Bounds, Call, Fault, FaultKind, FileSystem, Operation, SimulatedDisk, SimulatedStore, Times,
};
use snapgroup::units::ByteCount;
use snapgroup::{CreateMachine, Uuid, watch_order};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What is done after the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Reopen,
    UseFurther,
}

/// Which calls fail, and in which ways.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Calls {
    /// One of so many ways of all calls.
    OneOf(u64),
    /// Every call in so many of its ways, and every sync in six times as many.
    Each(usize),
    /// Every sync in so many of its ways, and no other call.
    Syncs(usize),
}

impl Calls {
    /// The ways in which one call fails.
    fn pick<T: Clone>(self, ways: Vec<T>, call: &Call, seed: u64) -> Vec<T> {
        let mut number = 0;
        let mut next = || {
            number += 1;
            number
        };
        match self {
            Self::OneOf(many) => ways.into_iter().filter(|_| one_of(many, seed, next())).collect(),
            Self::Syncs(_) if !is_sync(call) => Vec::new(),
            Self::Each(count) | Self::Syncs(count) => {
                let count = if is_sync(call) && matches!(self, Self::Each(_)) { count * 6 } else { count };
                // Whichever way comes first, the ones after it are as likely.
                let many = ways.len() as u64;
                let first = (0..many).find(|way| one_of(many - way, seed, *way)).unwrap_or(0);
                let first = usize::try_from(first).expect("a few");
                ways.into_iter().cycle().skip(first).step_by(7).take(count).collect()
            }
        }
    }
}

/// What a guest writes who goes on.
const AFTER: (usize, u8) = (300, 60);

/// What was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// The calls that failed.
    pub(crate) calls: u64,
    pub(crate) runs: u64,
    /// The runs in which a sync failed.
    pub(crate) syncs: u64,
    /// The runs in which the operation said that it had failed.
    pub(crate) told: u64,
}

impl Faults {
    pub(crate) fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.runs += other.runs;
        self.syncs += other.syncs;
        self.told += other.told;
    }
}

fn is_sync(call: &Call) -> bool {
    matches!(call.operation, Operation::Sync | Operation::SyncNames)
}

/// The ways in which a call can fail.
fn ways(call: &Call) -> Vec<(FaultKind, Times, Then)> {
    let mut kinds = vec![FaultKind::EIO, FaultKind::ENOSPC, FaultKind::EINTR];
    // A file system that finds no more room, or a disk that fails, does so at the border of a sector.
    let (at, length) = (call.at.as_u64(), call.length.as_u64());
    let half = ByteCount::new(((at + length / 2) / 512 * 512).saturating_sub(at));
    match call.operation {
        Operation::Write => {
            kinds.extend([FaultKind::ShortWrite(half), FaultKind::ShortWrite(ByteCount::mib(64))])
        }
        Operation::Read => kinds.push(FaultKind::ShortRead(half)),
        _ => {}
    }
    let mut ways = Vec::new();
    for kind in kinds {
        for times in [Times::Once, Times::ForEver] {
            ways.extend([Then::Reopen, Then::UseFurther].map(|then| (kind, times, then)));
        }
    }
    ways
}

/// Lets calls of a scenario fail, each in a run of its own.
pub(crate) fn fail_all(scenario: Scenario, calls: Calls, seed: u64) -> (Faults, Result<(), String>) {
    let mut faults = Faults::default();
    let run = match scenario.run(FileSystem::Strict) {
        Ok(run) => run,
        Err(error) => return (faults, Err(format!("the run failed: {error:?}"))),
    };
    let mut memos = Memos::default();
    for (nth, call) in (1..).zip(calls_of(scenario, &run)) {
        let picked = calls.pick(ways(&call), &call, seed.wrapping_add(nth * 7919));
        faults.calls += u64::from(!picked.is_empty());
        for (kind, times, then) in picked {
            let fault = Fault { at: At::Call(nth), kind, times };
            let one = catch_unwind(AssertUnwindSafe(|| {
                one_fault(scenario, &run, fault, then, is_sync(&call), &mut memos)
            }));
            faults.runs += 1;
            faults.syncs += u64::from(is_sync(&call));
            match one.unwrap_or_else(|_| Err("a panic".to_owned())) {
                Ok(told) => faults.told += u64::from(told),
                Err(wrong) => {
                    let name = call.name.as_ref().map_or("", |name| name.as_str());
                    let what = format!("{:?} of {name}", call.operation);
                    let wrong = format!("call {nth} ({what}), {fault:?}, {then:?}: {wrong}");
                    return (faults, Err(wrong));
                }
            }
        }
    }
    (faults, Ok(()))
}

/// What is known of states, by what a guest wrote who went on.
#[derive(Debug, Default)]
struct Memos([Memo; 3]);

/// The calls that an operation makes once the pool is open.
fn calls_of(scenario: Scenario, run: &Run) -> Vec<Call> {
    let store = SimulatedStore::on_disk(&SimulatedDisk::over(&run.template.store, FileSystem::Strict));
    let world = World::open(&run.template, Arc::new(store.clone()), scenario.seed(), Noting::Count);
    let mut world = world.expect("it opened before");
    store.record();
    // A refusal is what it was without the recorder, too.
    drop(scenario.go(&mut world));
    store.take_calls()
}

/// One run with one fault. Answers whether the operation told of it.
fn one_fault(
    scenario: Scenario,
    run: &Run,
    fault: Fault,
    then: Then,
    of_sync: bool,
    memos: &mut Memos,
) -> Result<bool, String> {
    let disk = SimulatedDisk::over(&run.template.store, FileSystem::Strict);
    let store = SimulatedStore::on_disk(&disk);
    let opened = World::open(&run.template, Arc::new(store.clone()), scenario.seed(), Noting::Count);
    let mut world = opened.map_err(|error| format!("{error:?}"))?;
    store.fail(fault);
    let said = scenario.go(&mut world);
    // A reclaim that was hindered may take more steps; they change nothing that is read.
    let done = world.steps.min(run.moments.len() - 1);
    // A deletion tells of a fault in the line of the snapshot that it could not look at.
    let told = said.is_err() || world.refused != run.refused;
    let (first, last) = match &said {
        _ if world.refused != run.refused => (0, run.moments.len() - 1),
        Ok(()) => (done, done),
        Err(_) => (done, (done + 1).min(run.moments.len() - 1)),
    };
    let mut allowed: Vec<Moment> = run.moments[first..=last].to_vec();
    if fault.times == Times::Once {
        store.heal();
    }
    if let (true, Err(error), Some(engine)) = (of_sync, &said, &world.engine) {
        let again = engine.create_machine(&CreateMachine::new("late"));
        if again.is_ok() {
            return Err(format!("a sync failed ({error:?}), and the pool is still written to"));
        }
    }
    let mut wrote = Wrote::Nothing;
    if then == Then::UseFurther && !world.things.disks.is_empty() {
        let disk = world.disk(0);
        wrote = go_on(&world, disk);
        after(&mut allowed, disk, wrote);
    }
    let memo = &mut memos.0[wrote as usize];
    world.handles.clear();
    drop(world);
    store.heal();

    let options = &run.template.options;
    let log = disk.log();
    let cut = log.cut(usize::MAX);
    let bounds = Bounds { exhaustive_bits: 2, pairs_max: 0, samples: 2, seed: done as u64 };
    // Nothing of what is pending, everything, which is what is found without a power cut, and two more.
    let (mut is_new, states) = (false, cut.states(bounds).shuffled(done as u64).take(4));
    for state in states {
        if !memo.is_new(&state, &allowed) {
            continue;
        }
        is_new = true;
        judge(&state, &allowed, options, memo)
            .map_err(|wrong| format!("{said:?}, then {:?} is left: {wrong}", state.choice()))?;
    }
    // The order is that of the run without a fault, but for a few of these.
    let is_watched = is_new && (of_sync || done % 8 == 0);
    if is_watched && let Some(breach) = watch_order(&log).first() {
        return Err(format!("{said:?}: {breach}"));
    }
    Ok(told)
}

/// What has become of what a guest wrote who went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrote {
    Nothing,
    Perhaps,
    ForSure,
}

/// A guest goes on after an error.
fn go_on(world: &World, disk: Uuid) -> Wrote {
    let Some(engine) = &world.engine else { return Wrote::Nothing };
    let Ok(handle) = engine.open_volume(disk) else { return Wrote::Nothing };
    let (length, byte) = AFTER;
    match handle.write_at(0, &vec![byte; length]).and_then(|()| handle.flush()) {
        Ok(()) => Wrote::ForSure,
        Err(_) => Wrote::Perhaps,
    }
}

/// The moments with what the guest wrote in them.
fn after(allowed: &mut [Moment], disk: Uuid, wrote: Wrote) {
    for moment in allowed.iter_mut().filter(|_| wrote != Wrote::Nothing) {
        let mut content = (*moment.content).clone();
        let Some(contents) = content.volumes.get_mut(&disk) else { continue };
        let written = contents.iter().map(|content| {
            let mut bytes = (**content).clone();
            bytes[..AFTER.0].fill(AFTER.1);
            Arc::new(bytes)
        });
        let written: Vec<_> = written.collect();
        if wrote == Wrote::ForSure {
            contents.clear();
        }
        contents.extend(written);
        moment.content = Arc::new(content);
    }
}
