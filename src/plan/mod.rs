//! Decisions: a view and a wish in, a plan or a refusal out. No store, no clock, no randomness.
