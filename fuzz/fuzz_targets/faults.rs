//! Histories of a pool on a store that fails.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snapgroup_fuzz::faults::run(bytes));
