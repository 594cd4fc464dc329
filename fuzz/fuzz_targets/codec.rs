//! Arbitrary bytes as a compressed cluster.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snapgroup_fuzz::codec::run(bytes));
