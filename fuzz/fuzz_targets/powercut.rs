//! Histories of a pool on a disk whose power is cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snapgroup_fuzz::powercut::run(bytes));
