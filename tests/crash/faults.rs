//! Every call to the store fails: once or for ever, in every way, while an operation runs. Then the pool is opened
//! again, or used further first.

use crate::cuts::digest_of_catalogue;
use crate::oracle::{Memo, judge};
use crate::scenario::{Run, Scenario};
use crate::world::{Moment, Noting, World};
use snapgroup::storage::{
    At, Bounds, Call, Fault, FaultKind, FileSystem, Operation, SimulatedDisk, SimulatedStore, Times,
};
use snapgroup::units::ByteCount;
use snapgroup::{CreateMachine, Uuid};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What is done after the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Reopen,
    UseFurther,
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
fn ways(call: &Call) -> Vec<FaultKind> {
    let mut ways = vec![FaultKind::EIO, FaultKind::ENOSPC, FaultKind::EINTR];
    // A file system that finds no more room, or a disk that fails, does so at the border of a sector.
    let (at, length) = (call.at.as_u64(), call.length.as_u64());
    let half = ByteCount::new(((at + length / 2) / 512 * 512).saturating_sub(at));
    match call.operation {
        Operation::Write => {
            ways.extend([FaultKind::ShortWrite(half), FaultKind::ShortWrite(ByteCount::mib(64))])
        }
        Operation::Read => ways.push(FaultKind::ShortRead(half)),
        _ => {}
    }
    ways
}

/// Lets every call of a scenario fail, but for those that `skip` picks.
pub(crate) fn fail_all(scenario: Scenario, skip: impl Fn(u64) -> bool) -> (Faults, Result<(), String>) {
    let mut faults = Faults::default();
    let run = match scenario.run(FileSystem::Strict) {
        Ok(run) => run,
        Err(error) => return (faults, Err(format!("the run failed: {error:?}"))),
    };
    let mut memo = Memo::default();
    let mut number = 0;
    for (nth, call) in (1..).zip(calls_of(scenario, &run)) {
        faults.calls += 1;
        for kind in ways(&call) {
            for times in [Times::Once, Times::ForEver] {
                for then in [Then::Reopen, Then::UseFurther] {
                    number += 1;
                    if skip(number) {
                        continue;
                    }
                    let fault = Fault { at: At::Call(nth), kind, times };
                    let one = catch_unwind(AssertUnwindSafe(|| {
                        one_fault(scenario, &run, fault, then, is_sync(&call), &mut memo)
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
        }
    }
    (faults, Ok(()))
}

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
    memo: &mut Memo,
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
    if then == Then::UseFurther && !world.things.disks.is_empty() {
        let disk = world.disk(0);
        let wrote = go_on(&world, disk);
        after(&mut allowed, disk, wrote);
    }
    world.handles.clear();
    drop(world);
    store.heal();

    let options = &run.template.options;
    judge(&disk.live(), None, &allowed, options, memo)
        .map_err(|wrong| format!("{said:?}, reopened: {wrong}"))?;
    let cut = disk.log().cut(usize::MAX);
    let bounds = Bounds { exhaustive_bits: 2, pairs_max: 0, samples: 2, seed: done as u64 };
    for state in [cut.durable()].into_iter().chain(cut.states(bounds).take(4)) {
        let catalogue = digest_of_catalogue(&state);
        judge(&state.store(), catalogue, &allowed, options, memo)
            .map_err(|wrong| format!("{said:?}, then a power cut, {:?}: {wrong}", state.choice()))?;
    }
    memo.forget();
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
