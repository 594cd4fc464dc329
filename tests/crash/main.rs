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
//! is the most states of one scenario (80), `SNAPGROUP_CRASH_FAULTS_ONE_OF` of how many calls that could fail one does
//! (300).

mod controls;
mod cuts;
#[path = "../support/dice.rs"]
mod dice;
mod faults;
mod operations;
mod oracle;
mod scenario;
mod shapes;
mod table;
mod work;
mod world;

use crate::cuts::{Effort, Tally, cut_recovery, cut_run};
use crate::faults::{Faults, fail_all};
use crate::oracle::Memo;
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

/// Cuts the power in every scenario.
fn cut_all(
    scenarios: &[Scenario],
    effort: Effort,
    file_system: FileSystem,
    table: &mut Table,
) -> Vec<String> {
    let done = share(scenarios, |scenario| match scenario.run(file_system) {
        Ok(run) => cut_run(&run, seeded(effort, scenario), &mut Memo::default()),
        Err(error) => (Tally::default(), Err(format!("the run failed: {error:?}"))),
    });
    sum(done, table)
}

/// Cuts the power in every scenario, and again in every recovery.
fn cut_all_twice(scenarios: &[Scenario], outer: Effort, inner: Effort, table: &mut Table) -> Vec<String> {
    let done = share(scenarios, |scenario| match scenario.run(FileSystem::Strict) {
        Ok(run) => cut_recovery(&run, seeded(outer, scenario), inner, &mut Memo::default()),
        Err(error) => (Tally::default(), Err(format!("the run failed: {error:?}"))),
    });
    sum(done, table)
}

/// Lets calls fail in every scenario: one of `of` runs.
fn fail_in_all(scenarios: &[Scenario], of: u64) -> (Faults, Vec<String>) {
    let possible: Vec<Scenario> =
        scenarios.iter().copied().filter(|scenario| *scenario != Scenario::Fresh).collect();
    let seed = number("SNAPGROUP_SEED", 1);
    let done =
        share(&possible, |scenario| fail_all(scenario, |run| !one_of(of, seed + scenario.seed(), run)));
    let (mut faults, mut wrong) = (Faults::default(), Vec::new());
    for (scenario, (found, result)) in done {
        faults.add(found);
        wrong.extend(result.err().map(|error| format!("{}: {error}", scenario.name())));
    }
    (faults, wrong)
}

const fn bounds(exhaustive_bits: u32, samples: u32, seed: u64) -> Bounds {
    Bounds { exhaustive_bits, pairs_max: 24, samples, seed }
}

#[test]
fn a_sample_of_power_cuts_leaves_what_was_acknowledged_and_nothing_half() {
    let (began, mut table) = (Instant::now(), Table::default());
    let seed = number("SNAPGROUP_SEED", 1);
    let scenarios: Vec<Scenario> = selected(scenario::all())
        .into_iter()
        .filter(|scenario| *scenario == Scenario::Fresh || one_of(5, seed, scenario.seed()))
        .collect();
    let effort = Effort { bounds: bounds(4, 4, seed), states_max: 60 };
    let wrong = cut_all(&scenarios, effort, FileSystem::Strict, &mut table);
    table.print("power cuts", began);
    report(&wrong);
    assert!(table.total().states > 3000, "too few states to say anything");
}

#[test]
#[ignore = "minutes: run it with --release"]
fn no_power_cut_loses_what_was_acknowledged_or_leaves_anything_half() {
    let (began, mut table) = (Instant::now(), Table::default());
    let seconds = number("SNAPGROUP_CRASH_SECONDS", 0);
    let states_max = number("SNAPGROUP_CRASH_STATES", 80);
    let scenarios = selected(scenario::all());
    let mut seed = number("SNAPGROUP_SEED", 1);
    loop {
        let file_system = if seed % 2 == 1 { FileSystem::Strict } else { FileSystem::Ext4Like };
        let effort = Effort { bounds: bounds(8, 24, seed), states_max };
        let wrong = cut_all(&scenarios, effort, file_system, &mut table);
        table.print(&format!("power cuts, up to seed {seed}"), began);
        report(&wrong);
        if began.elapsed().as_secs() >= seconds {
            return;
        }
        seed += 1;
    }
}

#[test]
fn a_sample_of_power_cuts_in_recovery_leaves_what_one_power_cut_left() {
    let (began, mut table) = (Instant::now(), Table::default());
    let seed = number("SNAPGROUP_SEED", 1);
    let scenarios: Vec<Scenario> = selected(scenario::all())
        .into_iter()
        .filter(|scenario| *scenario == Scenario::Fresh || one_of(25, seed, scenario.seed()))
        .collect();
    let outer = Effort { bounds: bounds(0, 1, seed), states_max: 1 };
    let inner = Effort { bounds: bounds(3, 2, seed), states_max: 6 };
    let wrong = cut_all_twice(&scenarios, outer, inner, &mut table);
    table.print("power cuts in recovery", began);
    report(&wrong);
}

#[test]
#[ignore = "minutes: run it with --release"]
fn no_power_cut_in_recovery_loses_anything() {
    let (began, mut table) = (Instant::now(), Table::default());
    let seed = number("SNAPGROUP_SEED", 1);
    let outer = Effort { bounds: bounds(2, 2, seed), states_max: 2 };
    let inner = Effort { bounds: bounds(5, 4, seed), states_max: 10 };
    let wrong = cut_all_twice(&selected(scenario::all()), outer, inner, &mut table);
    table.print("power cuts in recovery", began);
    report(&wrong);
}

#[test]
fn a_sample_of_calls_that_fail_is_told_of_and_does_no_harm() {
    let began = Instant::now();
    let (faults, wrong) = fail_in_all(&selected(scenario::all()), 1200);
    table::print_faults(&faults, began);
    report(&wrong);
}

#[test]
#[ignore = "minutes: run it with --release"]
fn no_call_that_fails_does_any_harm() {
    let began = Instant::now();
    let (faults, wrong) =
        fail_in_all(&selected(scenario::all()), number("SNAPGROUP_CRASH_FAULTS_ONE_OF", 300));
    table::print_faults(&faults, began);
    report(&wrong);
}

#[test]
fn a_guest_finds_every_byte_that_was_acknowledged_after_any_of_400_power_cuts() {
    for overlay in [Overlay::No, Overlay::Yes] {
        let (began, mut table) = (Instant::now(), Table::default());
        let effort = Effort { bounds: bounds(2, 6, 1), states_max: 2000 };
        let wrong = cut_all(&[Scenario::Trace { overlay }], effort, FileSystem::Strict, &mut table);
        table.print("power cuts under a guest", began);
        report(&wrong);
        assert!(table.total().states >= 400, "only {} states", table.total().states);
    }
}

/// The operations and shapes in which each sync and each order is left out, by parts of their names.
const CONTROLLED: [(&str, &str); 3] =
    [("create volume", "linear chain"), ("write", "linear chain"), ("discard", "linear chain")];

#[test]
fn with_any_sync_left_out_a_wrong_pool_is_found() {
    let wanted = |scenario: &Scenario| {
        let name = scenario.name();
        CONTROLLED
            .iter()
            .any(|(operation, shape)| scenario.operation() == *operation && name.ends_with(shape))
    };
    let scenarios: Vec<Scenario> = selected(scenario::all()).into_iter().filter(wanted).collect();
    let done = share(&scenarios, |scenario| {
        let run = scenario.run(FileSystem::Strict).expect("it runs without a fault");
        let effort = Effort { bounds: bounds(2, 2, 1), states_max: 400 };
        let mut memo = Memo::default();
        let controls = controls::of(&run);
        controls
            .into_iter()
            .map(|control| (control.finds(&run, effort, &mut memo), control.what))
            .collect::<Vec<_>>()
    });
    let missed = table::print_controls(&done);
    assert!(missed.is_empty(), "nobody misses:\n{}", missed.join("\n"));
}
