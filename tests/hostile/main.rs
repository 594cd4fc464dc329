//! Files made to do harm: whatever the bytes are and whatever they name, each door answers or refuses, with an error that
//! says which rule is broken. None panics, none takes more than 64 MiB or reads without bound, and none opens a file
//! that the caller did not mean.
//!
//! A number above a test is that of the one of QEMU's own tests that has the same input.
//!
//! A room for each part of a file: `header`, `tables`, `entries`, `compressed`; `names` and `chains` for what a file says
//! of others; `limits` for what a caller may set.

#[path = "../support/dice.rs"]
mod dice;

mod chains;
mod compressed;
mod entries;
mod header;
mod limits;
mod memory;
mod names;
mod support;
mod tables;
#[cfg(target_os = "linux")]
mod traced;
