//! A pool on a disk whose power is cut: in the middle of a call, between two, and while the pool is opened after a cut.
//! What is not durable then survives as the input says.

use super::world::World;
use crate::dice::Dice;

/// The bytes that a step takes, about.
const STEP: usize = 10;
/// More steps make one run slow, and not deeper.
const STEPS_MAX: usize = 24;

/// Runs the calls that the bytes tell, with the power cuts that they tell.
pub fn run(bytes: &[u8]) {
    World::with_power_cuts(Dice::written(bytes)).run((bytes.len() / STEP).clamp(1, STEPS_MAX));
}
