//! Histories of a pool against a model of plain bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snapgroup_fuzz::operations::run(bytes));
