//! What is measured: a file for each group of rows.

mod check;
mod delete;
mod export;
mod group;
mod memory;
mod read;
mod reclaim;
mod scale;
mod write;

pub use scale::build_pool;

use crate::table::Line;
use crate::{Bench, Result};

type Scenario = fn(&Bench) -> Result<Vec<Line>>;

/// All scenarios by name, in the order of the table.
pub const SCENARIOS: [(&str, Scenario); 12] = [
    ("group", group::durable),
    ("delete", delete::delete),
    ("reclaim", reclaim::reclaim),
    ("read-random", read::random),
    ("read-sequential", read::sequential),
    ("read-open", read::open),
    ("write", write::copy_on_write),
    ("scale", scale::pool),
    ("check", check::check),
    ("memory", memory::memory),
    ("crash-states", memory::crash_states),
    ("export", export::export),
];
