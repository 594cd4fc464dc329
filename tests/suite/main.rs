//! The engine through its door: every promise of the calls, on every kind of store.

mod adoption;
mod availability;
#[cfg(target_os = "linux")]
mod bases;
mod books;
mod caps;
mod checks;
mod compressed;
mod delete;
mod diff;
mod events;
mod faults;
mod full;
mod groups;
mod import;
mod interleaved;
mod machines;
mod memory;
mod moment;
mod pictures;
#[path = "../support/plain.rs"]
mod plain;
mod queries;
mod quotas;
mod reclaim;
mod refusals;
mod repair;
mod repair_left;
mod retention;
mod revert;
mod seals;
mod seals_met;
mod shared_pages;
#[cfg(target_os = "linux")]
mod side_by_side;
mod snapshots;
mod space;
mod support;
mod told;
mod volumes;
