//! Arbitrary bytes as an image.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snapgroup_fuzz::image::run(bytes));
