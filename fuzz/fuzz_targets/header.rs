//! Arbitrary bytes as the first cluster of an image.
#![no_main]

#[path = "../targets/header.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| target::run(bytes));
