//! What is printed: counts, and what was found.

#![expect(clippy::print_stdout, reason = "the counts are what the suite is for")]

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
        println!("{what}: instants, states, pools that were read from end to end");
        let total = self.total();
        for (operation, tally) in
            self.0.iter().map(|(name, tally)| (name.as_str(), tally)).chain([("all", &total)])
        {
            println!("{:>9} {:>9} {:>9}  {operation}", tally.instants, tally.states, tally.read);
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

/// The first state that shows that something is missing, when one does; and what is missing.
pub(crate) type Control = (Option<String>, String);

/// What was found of each control. Answers those of which nothing was.
pub(crate) fn print_controls(done: &[(Scenario, Vec<Control>)]) -> Vec<String> {
    let mut missed = Vec::new();
    for (scenario, controls) in done {
        for (found, what) in controls {
            let name = scenario.operation();
            let shown = found.as_deref().unwrap_or("NOTHING").chars().take(160).collect::<String>();
            println!("{name:<14} {what:<54} {shown}");
            if found.is_none() {
                missed.push(format!("{name}: {what}"));
            }
        }
    }
    missed
}

/// Fails when something is wrong.
pub(crate) fn report(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} scenarios are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
