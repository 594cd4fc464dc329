//! Negative controls: with each sync left out in turn, and with each order of two steps turned round, the suite must
//! find that something is wrong. What is left out is left out of the log, so that nothing else changes.

use crate::cuts::{Effort, Seen, cut_log, kind};
use crate::oracle::{CATALOGUE, Memo};
use crate::scenario::Run;
use snapgroup::storage::{DiskChange, DiskEvent};
use snapgroup::watch_order;
use std::collections::{BTreeMap, HashSet};

/// Something that is wrong on purpose.
pub(crate) struct Control {
    what: String,
    /// The event that is elsewhere.
    event: usize,
    /// Where it is, or nowhere. The first of these in which something is found counts.
    places: Vec<Option<usize>>,
    /// What stands around it in the run.
    around: String,
}

/// A sync that nobody misses in one operation.
pub(crate) struct Spared {
    pub(crate) operation: &'static str,
    pub(crate) what: &'static str,
    /// Why it is there all the same.
    pub(crate) why: &'static str,
}

const fn spared(operation: &'static str, what: &'static str, why: &'static str) -> Spared {
    Spared { operation, what, why }
}

const HALF_MADE: &str = "the database's own: a catalogue that is half made has its mark, and is made anew";
const NOT_CLOSED: &str = "the database's own: one that was not closed is repaired";
const GROWN: &str = "the database's own: its file has grown, and the commit syncs it once more";
const NOTHING_LEFT: &str = "only a write that has failed leaves it anything to do: calls that fail find that";
const HALF_A_NOTE: &str = "its step is looked at in tests/adoption_power.rs: no half of a note";
const BOOKS_FIRST: &str =
    "the books have the size already: a head that is shorter is made longer when it is opened";
const TO_BE_FILLED: &str = "nobody reads it before it is whole";
const GONE: &str = "the file is gone: opening the pool looks for it again, and drops its record";
const AS_MADE: &str = "nobody has written to the file: if it comes back, opening the pool removes it";
const DONE_AGAIN: &str = "a step of a merge that is lost is done again";
const CUT_TWICE: &str =
    "one cut does not need it; a second one, while the pool is made anew, does: cuts in recovery find that";
const WAS_DURABLE: &str =
    "the file was durable before; of one that was not, the histories find what stands in no order";
const LET_GO: &str = "an earlier commit let go of the file";
const NOTED: &str = "a note for the day on which the catalogue is lost: tests/rebuild cuts the power there";
const SYNCED_AGAIN: &str = "the file is synced once more before the commit that relies on it";
const HEADER_FIRST: &str = "a seal of more than 256 KiB without its header could be anybody's file";

/// What nobody misses although it is left out.
pub(crate) const SPARED: &[Spared] = &[
    spared("open new", "without sync 2 of: catalogue", HALF_MADE),
    spared("open new", "without sync 3 of: catalogue", HALF_MADE),
    spared("open new", "without sync 4 of: catalogue", CUT_TWICE),
    spared("open new", "without sync 5 of: catalogue", CUT_TWICE),
    spared("open new", "without sync 2 of: names", CUT_TWICE),
    spared("volume above a base", "without sync 1 of: adopted file", WAS_DURABLE),
    spared("volume above a base", "without sync 1 of: names", WAS_DURABLE),
    spared("close", "without sync 2 of: catalogue", NOT_CLOSED),
    spared("close", "without sync 3 of: catalogue", NOT_CLOSED),
    spared("close", "without sync 4 of: catalogue", NOT_CLOSED),
    spared("close, heads never written", "without sync 5 of: catalogue", NOT_CLOSED),
    spared("close, heads never written", "without sync 6 of: catalogue", NOT_CLOSED),
    spared("close, heads never written", "without sync 7 of: catalogue", NOT_CLOSED),
    spared("merge of new heads", "without sync 3 of: names", AS_MADE),
    spared("merge of new heads", "without sync 4 of: names", AS_MADE),
    spared("merge of new heads", "without sync 4 of: layer", NOTED),
    spared("merge of new heads", "Remove of: layer, before the sync that allows it", LET_GO),
    spared("merge of new heads", "without sync 11 of: catalogue", GONE),
    spared("adopt", "without sync 1 of: adopted file", WAS_DURABLE),
    spared("adopt", "without sync 1 of: names", WAS_DURABLE),
    spared("adopt", "without sync 2 of: adopted file", HALF_A_NOTE),
    spared("resize", "without sync 1 of: layer", BOOKS_FIRST),
    spared("resize", "without sync 4 of: layer", BOOKS_FIRST),
    spared("full snapshot", "without sync 3 of: layer", TO_BE_FILLED),
    spared("full snapshot", "without sync 4 of: layer", TO_BE_FILLED),
    spared("full snapshot", "without sync 5 of: layer", TO_BE_FILLED),
    spared("full snapshot", "without sync 6 of: layer", TO_BE_FILLED),
    spared("full snapshot", "Remove of: layer, before the sync that allows it", LET_GO),
    spared("full group", "without sync 3 of: layer", TO_BE_FILLED),
    spared("full group", "without sync 4 of: layer", TO_BE_FILLED),
    spared("full group", "without sync 5 of: layer", TO_BE_FILLED),
    spared("full group", "without sync 6 of: layer", TO_BE_FILLED),
    spared("full group", "Remove of: layer, before the sync that allows it", LET_GO),
    spared("import", "without sync 1 of: layer", TO_BE_FILLED),
    spared("import", "without sync 2 of: layer", TO_BE_FILLED),
    spared("full snapshot", "without sync 6 of: catalogue", GONE),
    // Between it and the sync of the file that has grown, a file is removed that an earlier commit has let go of.
    spared("full group", "without sync 5 of: catalogue", GROWN),
    spared("full group", "without sync 7 of: catalogue", GONE),
    spared("unlink", "without sync 2 of: catalogue", GONE),
    spared("unlink", "without sync 4 of: catalogue", GONE),
    spared("pull", "without sync 4 of: catalogue", GONE),
    spared("commit", "without sync 6 of: catalogue", GONE),
    spared("punch", "without sync 4 of: catalogue", GONE),
    spared("revert", "without sync 2 of: catalogue", GONE),
    spared("revert, and back", "without sync 2 of: catalogue", GROWN),
    spared("revert, and back", "without sync 3 of: catalogue", GONE),
    spared("delete volume", "without sync 2 of: catalogue", GONE),
    spared("punch", "without sync 4 of: names", AS_MADE),
    spared("revert, and back", "without sync 3 of: names", AS_MADE),
    spared("pull", "without sync 2 of: layer", DONE_AGAIN),
    spared("delete, permissive", "without sync 1 of: layer", NOTED),
    spared("delete, enforcing, with all that descends", "without sync 1 of: layer", NOTED),
    spared("delete, enforcing, with all that descends", "without sync 3 of: layer", NOTED),
    spared("delete group", "without sync 1 of: layer", NOTED),
    spared("delete group, each member on its own", "without sync 1 of: layer", NOTED),
    spared("delete group, each member on its own", "without sync 3 of: layer", NOTED),
    spared("commit", "without sync 1 of: layer", NOTED),
    spared("merge all", "without sync 1 of: layer", NOTED),
    spared("merge all", "without sync 3 of: layer", NOTED),
    spared("merge all", "without sync 5 of: layer", NOTED),
    spared("punch", "without sync 5 of: layer", NOTED),
    spared("import", "without sync 3 of: layer", SYNCED_AGAIN),
    spared("import of nothing", "without sync 1 of: layer", SYNCED_AGAIN),
    spared("seal", "without sync 1 of: layer", NOTHING_LEFT),
    spared("seal", "without sync 2 of: layer", NOTHING_LEFT),
    spared("seal", "without sync 3 of: layer", NOTHING_LEFT),
    spared("seal", "without sync 7 of: layer", NOTHING_LEFT),
    spared("seal", "without sync 1 of: seal", HEADER_FIRST),
    spared("seal", "without sync 3 of: seal", HEADER_FIRST),
    spared("seal", "without sync 5 of: seal", HEADER_FIRST),
    spared("seal", "without sync 7 of: seal", HEADER_FIRST),
];

/// What the suite finds of a control.
pub(crate) struct Verdict {
    pub(crate) what: String,
    /// What stands around the event in the run.
    pub(crate) around: String,
    /// The first wrong state.
    pub(crate) state: Option<String>,
    /// The first event that breaks a rule of order.
    pub(crate) order: Option<String>,
    /// Why nothing was looked for.
    pub(crate) spared: Option<&'static str>,
}

/// What an event is about.
fn about(event: &DiskEvent) -> &'static str {
    match event.name.as_ref().map(|name| name.as_str()) {
        None => "names",
        Some(CATALOGUE) => "catalogue",
        Some(name) if name.starts_with("layer-") => "layer",
        Some(name) if name.starts_with("seal-") => "seal",
        Some(name) if name.starts_with(CATALOGUE) => "mark",
        Some(_) => "adopted file",
    }
}

/// The events around one, each in a few words; and where a step was acknowledged.
fn around(run: &Run, index: usize) -> String {
    let events = run.log.events().iter().enumerate();
    let near = events.skip(index.saturating_sub(12)).take(20);
    let words = near.map(|(at, event)| {
        let mark = if at == index { "**" } else { "" };
        let acknowledged = run.moments.iter().any(|moment| moment.position == at);
        let acknowledged = if acknowledged { "| " } else { "" };
        let place = match &event.change {
            DiskChange::Write { at, bytes } => format!(" {:#x}+{}", at.as_u64(), bytes.len()),
            _ => String::new(),
        };
        let name = event.name.as_ref().map_or("", |name| name.as_str()).get(..12).unwrap_or("");
        format!("{acknowledged}{mark}{} {name}{place}{mark}", kind(event))
    });
    words.collect::<Vec<_>>().join(", ")
}

/// Every control of a run.
pub(crate) fn of(run: &Run) -> Vec<Control> {
    let from = run.moments[0].position;
    let events = run.log.events();
    let (mut controls, mut counts) = (Vec::new(), BTreeMap::new());
    let mut made = HashSet::new();
    for (index, event) in events.iter().enumerate().skip(from) {
        if event.change == DiskChange::Create {
            made.insert(&event.name);
        }
        if event.is_sync() {
            let nth = counts.entry(about(event)).or_insert(0);
            *nth += 1;
            let what = format!("without sync {nth} of: {}", about(event));
            let around = around(run, index);
            controls.push(Control { what, event: index, places: vec![None], around });
        }
        let is_commit =
            |before: &DiskEvent| before.change == DiskChange::Sync && about(before) == "catalogue";
        let is_its_sync = |before: &DiskEvent| before.change == DiskChange::Sync && before.name == event.name;
        // What takes something away comes after what allows it, and so does a header after the note of it.
        let earlier = |allows: &dyn Fn(&DiskEvent) -> bool| {
            let before = events[..index].iter().enumerate().skip(from).rev();
            before.filter(|(_, before)| allows(before)).map(|(at, _)| Some(at)).collect::<Vec<_>>()
        };
        let places = match (&event.change, about(event)) {
            (DiskChange::Remove, "layer" | "seal") => earlier(&is_commit)[..1].to_vec(),
            // Of a disk: what it was used for goes first. Of a deleted snapshot: the commit, whichever it was.
            (DiskChange::Punch { .. }, _) => earlier(&|before| is_its_sync(before) || is_commit(before)),
            (DiskChange::Write { at, bytes }, "layer")
                if at.as_u64() == 0 && bytes.starts_with(b"QFI") && !made.contains(&event.name) =>
            {
                earlier(&is_commit).into_iter().take(1).collect()
            }
            _ => Vec::new(),
        };
        if !places.is_empty() {
            let what = format!("{} of: {}, before the sync that allows it", kind(event), about(event));
            controls.push(Control { what, event: index, places, around: around(run, index) });
        }
    }
    controls
}

impl Control {
    pub(crate) fn judge(self, operation: &str, run: &Run, effort: Effort) -> Verdict {
        let (mut state, mut order) = (None, None);
        let is_it = |spared: &&Spared| spared.operation == operation && spared.what == self.what;
        let spared = SPARED.iter().find(is_it).map(|spared| spared.why);
        for place in self.places.into_iter().take(if spared.is_none() { usize::MAX } else { 0 }) {
            (state, order) = judge_log(run, self.event, place, effort);
            if state.is_some() || order.is_some() {
                break;
            }
        }
        Verdict { what: self.what, around: self.around, state, order, spared }
    }
}

/// What is found when one event is elsewhere, or nowhere: a wrong state, a broken order.
fn judge_log(
    run: &Run,
    event: usize,
    place: Option<usize>,
    effort: Effort,
) -> (Option<String>, Option<String>) {
    let log = match place {
        None => run.log.without(event),
        Some(place) => run.log.moved(event, place),
    };
    // How much the disk had been asked in the run itself when this much is asked here.
    let in_the_run = |instant: usize| match place {
        None => instant + usize::from(instant >= event),
        Some(earlier) => instant - usize::from((earlier + 1..=event).contains(&instant)),
    };
    // Up to there it is the log of the run.
    let from = place.unwrap_or(event);
    let (options, mut memo) = (&run.template.options, Memo::default());
    let allowed = |instant| run.allowed(in_the_run(instant));
    let found = cut_log(&log, from, effort, &mut memo, &Seen::default(), options, allowed);
    let order = watch_order(&log).first().map(ToString::to_string);
    (found.1.err(), order)
}
