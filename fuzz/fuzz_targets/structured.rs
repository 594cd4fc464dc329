//! Images that are whole but for a few entries of their tables.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snapgroup_fuzz::structured::run(bytes));
