//! Catalogues with damage in them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snapgroup_fuzz::catalogue::run(bytes));
