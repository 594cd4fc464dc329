//! The engine through its door: every promise of the calls, on every kind of store.

mod adoption;
mod availability;
mod books;
mod caps;
mod compressed;
mod delete;
mod diff;
mod faults;
mod full;
mod groups;
mod import;
mod interleaved;
mod machines;
mod moment;
mod pictures;
mod queries;
mod reclaim;
mod refusals;
mod repair;
mod retention;
mod revert;
mod seals;
mod snapshots;
mod space;
mod support;
mod volumes;
