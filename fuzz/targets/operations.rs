//! A pool in memory through everything that can be done to it, against a model of plain bytes: the random histories of
//! the tests, with the input in the place of the dice.

use crate::dice::Dice;
use crate::history;
use snapgroup::storage::MemoryStore;
use std::sync::Arc;

/// The bytes that a step takes, about.
const STEP: usize = 6;
/// More steps make one run slow, and not deeper.
const STEPS_MAX: usize = 20;

/// Runs the history that the bytes tell.
pub fn run(bytes: &[u8]) {
    let steps = (bytes.len() / STEP).clamp(1, STEPS_MAX);
    let memory = MemoryStore::new();
    let home: history::Home = Arc::new(move || Arc::new(memory.clone()));
    history::replay(home, Dice::written(bytes), "this input", steps, &mut |_| Ok(()));
}
