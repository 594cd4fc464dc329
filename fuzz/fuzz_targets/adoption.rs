//! Directories that nobody vouches for.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snapgroup_fuzz::adoption::run(bytes));
