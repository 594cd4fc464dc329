//! Negative controls: with each sync left out in turn, and with each order of two steps turned round, the suite must
//! find a pool that is wrong. What is left out is left out of the log, so that nothing else changes.

use crate::cuts::{Effort, cut_log, kind};
use crate::oracle::{CATALOGUE, Memo};
use crate::scenario::Run;
use snapgroup::storage::{DiskChange, DiskEvent, DiskLog};

/// A log that is wrong on purpose.
pub(crate) struct Control {
    /// What is wrong with it.
    pub(crate) what: String,
    log: DiskLog,
    /// The event that is elsewhere, and where it is.
    moved: (usize, Option<usize>),
}

/// What an event is about.
fn about(event: &DiskEvent) -> &'static str {
    match &event.name {
        None => "names",
        Some(name) if name.as_str() == CATALOGUE => "catalogue",
        Some(name) if name.as_str().starts_with("layer-") => "layer",
        Some(_) => "adopted file",
    }
}

/// Every control of a run.
pub(crate) fn of(run: &Run) -> Vec<Control> {
    let from = run.moments[0].position;
    let mut controls = Vec::new();
    let events = run.log.events();
    let mut counts = std::collections::BTreeMap::new();
    for (index, event) in events.iter().enumerate().skip(from) {
        if event.is_sync() {
            let nth = counts.entry(about(event)).or_insert(0);
            *nth += 1;
            let what = format!("without sync {nth} of: {}", about(event));
            controls.push(Control { what, log: run.log.without(index), moved: (index, None) });
        }
        // What takes something away happens before the sync that allows it.
        let takes_away = matches!(event.change, DiskChange::Remove | DiskChange::Punch { .. });
        let allows = events[..index].iter().enumerate().skip(from).rev();
        let allows: Vec<usize> = allows
            .filter(|(_, before)| match event.change {
                DiskChange::Remove => before.change == DiskChange::Sync && about(before) == "catalogue",
                _ => before.change == DiskChange::Sync && before.name == event.name,
            })
            .map(|(at, _)| at)
            .take(1)
            .collect();
        if let (true, Some(allowed)) = (takes_away, allows.first()) {
            let what = format!("{} of: {}, before the sync that allows it", kind(event), about(event));
            controls.push(Control {
                what,
                log: run.log.moved(index, *allowed),
                moved: (index, Some(*allowed)),
            });
        }
    }
    controls
}

impl Control {
    /// The first wrong state, if one is found.
    pub(crate) fn finds(&self, run: &Run, effort: Effort, memo: &mut Memo) -> Option<String> {
        let from = run.moments[0].position;
        let (event, elsewhere) = self.moved;
        // How much the disk had been asked in the run itself when this much is asked here.
        let in_the_run = |instant: usize| match elsewhere {
            None => instant + usize::from(instant >= event),
            Some(earlier) => instant - usize::from((earlier + 1..=event).contains(&instant)),
        };
        let options = &run.template.options;
        cut_log(&self.log, from, effort, memo, options, |instant| run.allowed(in_the_run(instant))).1.err()
    }
}
