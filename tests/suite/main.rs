//! The engine through its door: every promise of the calls, on every kind of store.

mod adoption;
mod availability;
mod books;
mod delete;
mod diff;
mod faults;
mod groups;
mod machines;
mod moment;
mod pictures;
mod queries;
mod refusals;
mod revert;
mod snapshots;
mod support;
mod volumes;
