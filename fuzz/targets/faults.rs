//! A pool on a store whose calls fail: one of them, or all from one on.

use super::world::World;
use crate::dice::Dice;

/// The bytes that a step takes, about.
const STEP: usize = 8;
/// More steps make one run slow, and not deeper.
const STEPS_MAX: usize = 24;

/// Runs the calls that the bytes tell, with the faults that they tell.
pub fn run(bytes: &[u8]) {
    World::with_faults(Dice::written(bytes)).run((bytes.len() / STEP).clamp(1, STEPS_MAX));
}
