//! The catalogue is lost and made anew from the files: what is listed reads as it did, nothing is guessed, and no file
//! but the catalogue changes.
//!
//! `SNAPGROUP_HISTORIES=n` runs n histories in memory and a tenth as many on disk, `SNAPGROUP_SEED=n` begins with
//! another one, `SNAPGROUP_STEPS=n` makes them longer.

#[path = "../support/dice.rs"]
mod dice;
#[path = "../support/history/mod.rs"]
mod history;

mod cases;
mod catalogue;
mod claims;
mod cuts;
mod histories;
mod strangers;
mod support;
