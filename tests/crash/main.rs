//! Power cuts, errors and recovery, proved by enumeration.
//!
//! Every operation runs in pools of every shape on a simulated disk; the power is cut at every instant, and every pool
//! that may be left is opened and judged (`oracle`). Every call fails in turn, and the pool is opened again or used
//! further. A small part of it runs with all other tests; all of it takes minutes:
//!
//! ```text
//! cargo test --release --test crash -- --ignored --nocapture --test-threads 1
//! ```
//!
//! `SNAPGROUP_CRASH_SECONDS=n` goes on with other samples until the power cuts have taken so long; `SNAPGROUP_SEED=n`
//! begins with others; `SNAPGROUP_CRASH_ONLY=text` runs the scenarios with this in their names. `SNAPGROUP_CRASH_STATES`
//! is the most states of one instant on one kind of file system (26), `SNAPGROUP_CRASH_DISTINCT` how many distinct ones
//! are looked at in all, at least (1,000,000); `SNAPGROUP_CRASH_FAULTS` in how many ways every call fails (1),
//! `SNAPGROUP_CRASH_ONE_IN` in one of how many scenarios (3).

mod controls;
mod cuts;
#[path = "../support/dice.rs"]
mod dice;
mod faults;
mod openings;
mod operations;
mod oracle;
mod scenario;
mod shapes;
mod table;
mod witness;
mod work;
mod world;

use crate::cuts::{Effort, Seen, Tally, cut_recovery, cut_run};
use crate::faults::{Calls, Faults, fail_all};
use crate::scenario::{Overlay, Scenario};
use crate::table::{Table, report};
use crate::work::{number, one_of, selected, share};
use snapgroup::storage::{Bounds, FileSystem};
use std::time::Instant;

/// What is found out in a scenario: how much was tried, and what is wrong.
type Found = (Tally, Result<(), String>);

/// What is found out in each scenario, and what is wrong.
fn sum(done: Vec<(Scenario, Found)>, table: &mut Table) -> Vec<String> {
    let mut wrong = Vec::new();
    for (scenario, (tally, result)) in done {
        table.add(&scenario.operation(), tally);
        wrong.extend(result.err().map(|error| format!("{}: {error}", scenario.name())));
    }
    wrong
}

fn seeded(effort: Effort, scenario: Scenario) -> Effort {
    let seed = effort.bounds.seed.wrapping_mul(1_000_003).wrapping_add(scenario.seed());
    Effort { bounds: Bounds { seed, ..effort.bounds }, ..effort }
}

/// Cuts the power in every scenario, on each of these file systems.
fn cut_all(
    scenarios: &[Scenario],
    effort: Effort,
    file_systems: &[FileSystem],
    seen: &Seen,
    table: &mut Table,
) -> Vec<String> {
    let done = share(scenarios, |scenario| match scenario.run(FileSystem::Strict) {
        Ok(run) => cut_run(&run, file_systems, seeded(effort, scenario), seen),
        Err(error) => (Tally::default(), Err(format!("the run failed: {error:?}"))),
    });
    sum(done, table)
}

/// Cuts the power in every scenario, and again in every recovery.
fn cut_all_twice(scenarios: &[Scenario], outer: Effort, inner: Effort, table: &mut Table) -> Vec<String> {
    let seen = Seen::default();
    let done = share(scenarios, |scenario| match scenario.run(FileSystem::Strict) {
        Ok(run) => cut_recovery(&run, seeded(outer, scenario), seeded(inner, scenario), &seen),
        Err(error) => (Tally::default(), Err(format!("the run failed: {error:?}"))),
    });
    sum(done, table)
}

/// Lets calls fail in every scenario.
fn fail_in_all(scenarios: &[Scenario], calls: Calls) -> (Faults, Vec<String>) {
    let possible: Vec<Scenario> =
        scenarios.iter().copied().filter(|scenario| *scenario != Scenario::Fresh).collect();
    let seed = number("SNAPGROUP_SEED", 1);
    let done = share(&possible, |scenario| fail_all(scenario, calls, seed + scenario.seed()));
    let (mut faults, mut wrong) = (Faults::default(), Vec::new());
    for (scenario, (found, result)) in done {
        faults.add(found);
        wrong.extend(result.err().map(|error| format!("{}: {error}", scenario.name())));
    }
    (faults, wrong)
}

/// The kinds that the power is cut on.
const FILE_SYSTEMS: [FileSystem; 2] = [FileSystem::Strict, FileSystem::Ext4Like];

const fn bounds(exhaustive_bits: u32, samples: u32, seed: u64) -> Bounds {
    Bounds { exhaustive_bits, pairs_max: 24, samples, seed }
}

/// One of so many scenarios, and the one that begins with nothing.
fn some(one_in: u64, seed: u64) -> Vec<Scenario> {
    let wanted = |scenario: &Scenario| *scenario == Scenario::Fresh || one_of(one_in, seed, scenario.seed());
    selected(scenario::all()).into_iter().filter(wanted).collect()
}

/// Whether everything runs, so that there is a number of things that must have been looked at.
fn is_whole() -> bool {
    ["SNAPGROUP_CRASH_ONLY", "SNAPGROUP_CRASH_FAULTS"].iter().all(|name| std::env::var_os(name).is_none())
}

#[test]
fn a_sample_of_power_cuts_leaves_what_was_acknowledged_and_nothing_half() {
    let (began, mut table) = (Instant::now(), Table::default());
    let seed = number("SNAPGROUP_SEED", 1);
    let effort = Effort { bounds: bounds(4, 4, seed), instants_one_of: 5, states_max: 3 };
    let wrong = cut_all(&some(10, seed), effort, &FILE_SYSTEMS[..1], &Seen::default(), &mut table);
    table.print("power cuts", began);
    report(&wrong);
    assert!(table.total().distinct > 800, "too few states to say anything");
}

#[test]
#[ignore = "minutes: run it with --release"]
fn no_power_cut_loses_what_was_acknowledged_or_leaves_anything_half() {
    let (began, mut table, seen) = (Instant::now(), Table::default(), Seen::default());
    let seconds = number("SNAPGROUP_CRASH_SECONDS", 0);
    let states_max = number("SNAPGROUP_CRASH_STATES", 26);
    let scenarios = selected(scenario::all());
    let mut seed = number("SNAPGROUP_SEED", 1);
    loop {
        let effort = Effort { bounds: bounds(9, 256, seed), instants_one_of: 1, states_max };
        let wrong = cut_all(&scenarios, effort, &FILE_SYSTEMS, &seen, &mut table);
        table.print(&format!("power cuts, up to seed {seed}"), began);
        report(&wrong);
        let is_enough =
            !is_whole() || table.total().distinct >= number("SNAPGROUP_CRASH_DISTINCT", 1_000_000);
        if is_enough && began.elapsed().as_secs() >= seconds {
            return;
        }
        seed += 1;
    }
}

#[test]
fn a_sample_of_power_cuts_in_recovery_leaves_what_one_power_cut_left() {
    let (began, mut table) = (Instant::now(), Table::default());
    let seed = number("SNAPGROUP_SEED", 1);
    let outer = Effort { bounds: bounds(0, 1, seed), instants_one_of: 10, states_max: 1 };
    let inner = Effort { bounds: bounds(3, 2, seed), instants_one_of: 4, states_max: 1 };
    let wrong = cut_all_twice(&some(10, seed), outer, inner, &mut table);
    table.print("power cuts in recovery", began);
    report(&wrong);
}

#[test]
#[ignore = "minutes: run it with --release"]
fn no_power_cut_in_recovery_loses_anything() {
    let (began, mut table) = (Instant::now(), Table::default());
    let seed = number("SNAPGROUP_SEED", 1);
    let outer = Effort { bounds: bounds(4, 8, seed), instants_one_of: 20, states_max: 1 };
    let inner = Effort { bounds: bounds(5, 8, seed), instants_one_of: 1, states_max: 2 };
    let wrong = cut_all_twice(&selected(scenario::all()), outer, inner, &mut table);
    table.print("power cuts in recovery", began);
    report(&wrong);
    let distinct = table.total().distinct;
    assert!(!is_whole() || distinct >= 50_000, "only {distinct} states");
}

#[test]
fn a_sample_of_calls_that_fail_is_told_of_and_does_no_harm() {
    let began = Instant::now();
    let (faults, wrong) = fail_in_all(&some(8, number("SNAPGROUP_SEED", 1)), Calls::OneOf(300));
    table::print_faults(&faults, began);
    report(&wrong);
}

#[test]
#[ignore = "minutes: run it with --release"]
fn no_call_that_fails_does_any_harm() {
    let began = Instant::now();
    let ways = number("SNAPGROUP_CRASH_FAULTS", 1);
    let calls = Calls::Each(usize::try_from(ways).expect("a few"));
    let one_in = number("SNAPGROUP_CRASH_ONE_IN", 3);
    let chosen = some(one_in, number("SNAPGROUP_SEED", 1));
    let (mut faults, mut wrong) = fail_in_all(&chosen, calls);
    // Every sync of the others, too.
    let others = selected(scenario::all()).into_iter().filter(|scenario| !chosen.contains(scenario));
    let (more, further) = fail_in_all(&others.collect::<Vec<_>>(), Calls::Syncs(1));
    faults.add(more);
    wrong.extend(further);
    table::print_faults(&faults, began);
    report(&wrong);
    let wanted = 150_000 / one_in;
    assert!(!is_whole() || faults.runs >= wanted, "only {} runs", faults.runs);
}

#[test]
fn a_guest_finds_every_byte_that_was_acknowledged_after_any_of_400_power_cuts() {
    for overlay in [Overlay::No, Overlay::Yes] {
        let (began, mut table) = (Instant::now(), Table::default());
        let effort = Effort { bounds: bounds(2, 6, 1), instants_one_of: 1, states_max: 4 };
        let trace = [Scenario::Trace { overlay }];
        let wrong = cut_all(&trace, effort, &FILE_SYSTEMS[..1], &Seen::default(), &mut table);
        table.print("power cuts under a guest", began);
        report(&wrong);
        assert!(table.total().states >= 400, "only {} states", table.total().states);
    }
}

/// The operations in which each sync is left out and each order is turned round with all other tests.
const CONTROLLED: [&str; 3] = ["create volume in: linear chain", "write in: linear chain", "group of 2"];

/// What the suite finds of each control. Answers those of which it finds nothing.
fn control(scenarios: &[Scenario]) -> Vec<String> {
    let done = share(scenarios, |scenario| {
        let run = scenario.run(FileSystem::Strict).expect("it runs without a fault");
        let effort = Effort { bounds: bounds(6, 24, 1), instants_one_of: 1, states_max: 60 };
        let operation = scenario.operation();
        let controls = controls::of(&run).into_iter();
        controls.map(|control| control.judge(&operation, &run, effort)).collect::<Vec<_>>()
    });
    table::print_controls(&done)
}

#[test]
fn without_a_sync_of_a_few_operations_a_wrong_pool_is_found() {
    let wanted = |scenario: &Scenario| CONTROLLED.contains(&scenario.name().as_str());
    let scenarios: Vec<Scenario> = selected(scenario::all()).into_iter().filter(wanted).collect();
    let missed = control(&scenarios);
    assert!(missed.is_empty(), "nobody misses:\n{}", missed.join("\n"));
}

#[test]
#[ignore = "minutes: run it with --release"]
fn without_any_sync_of_any_operation_a_wrong_pool_is_found() {
    let wanted = |scenario: &Scenario| {
        let name = scenario.name();
        let is_apart = matches!(scenario, Scenario::Fresh | Scenario::Group { disks: 1 | 2 | 8 });
        is_apart || name.ends_with("in: linear chain")
    };
    let scenarios: Vec<Scenario> = selected(scenario::all()).into_iter().filter(wanted).collect();
    let missed = control(&scenarios);
    assert!(missed.is_empty(), "nobody misses:\n{}", missed.join("\n"));
}
