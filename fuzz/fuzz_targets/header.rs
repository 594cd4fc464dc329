//! Arbitrary bytes as the first cluster of an image.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snapgroup_fuzz::header::run(bytes));
