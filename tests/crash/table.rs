//! What is printed: counts, and what was found.

#![expect(clippy::print_stdout, reason = "the counts are what the suite is for")]

use crate::controls::Verdict;
use crate::cuts::Tally;
use crate::faults::Faults;
use crate::scenario::Scenario;
use std::collections::BTreeMap;
use std::time::Instant;

/// What was looked at, operation by operation.
#[derive(Debug, Default)]
pub(crate) struct Table(BTreeMap<String, Tally>);

impl Table {
    pub(crate) fn add(&mut self, operation: &str, tally: Tally) {
        self.0.entry(operation.to_owned()).or_default().add(tally);
    }

    pub(crate) fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.0.values().for_each(|tally| total.add(*tally));
        total
    }

    pub(crate) fn print(&self, what: &str, began: Instant) {
        let seconds = began.elapsed().as_secs_f64();
        println!("{what}: instants, states, distinct ones, pools that were opened, read from end to end");
        let total = self.total();
        for (operation, tally) in
            self.0.iter().map(|(name, tally)| (name.as_str(), tally)).chain([("all", &total)])
        {
            let Tally { instants, states, distinct, opened, read } = tally;
            println!("{instants:>9} {states:>9} {distinct:>9} {opened:>9} {read:>9}  {operation}");
        }
        println!("{seconds:.0} s, {:.0} states/s", total.states as f64 / seconds);
    }
}

pub(crate) fn print_faults(faults: &Faults, began: Instant) {
    let Faults { calls, runs, syncs, told } = faults;
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "calls that fail: {calls} calls, {runs} runs, {syncs} with a failed sync, {told} told of; {seconds:.0} s"
    );
}

/// What was found of each control, in columns: the operation, what is wrong, the order that was seen to be broken, the
/// first wrong state. Answers those of which nothing was.
pub(crate) fn print_controls(done: &[(Scenario, Vec<Verdict>)]) -> Vec<String> {
    let (mut missed, mut counted, mut seen) = (Vec::new(), 0, [0, 0, 0]);
    for (scenario, verdicts) in done {
        for Verdict { what, around, state, order, spared } in verdicts {
            let name = scenario.operation();
            let shown = |found: &Option<String>, most| {
                found.as_deref().unwrap_or("-").chars().take(most).collect::<String>()
            };
            let state_or_why = spared.map_or_else(|| shown(state, 160), |why| format!("spared: {why}"));
            println!("{name:<24} {what:<60} {:<50} {state_or_why}", shown(order, 50));
            counted += 1;
            seen[0] += u32::from(state.is_some());
            seen[1] += u32::from(order.is_some());
            seen[2] += u32::from(spared.is_some());
            if state.is_none() && order.is_none() && spared.is_none() {
                missed.push(format!("{name}: {what}: {around}"));
            }
        }
    }
    let [state, order, spared] = seen;
    println!("{counted} controls: {state} left a wrong state, {order} broke an order, {spared} are spared");
    missed
}

/// Fails when something is wrong.
pub(crate) fn report(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} scenarios are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
