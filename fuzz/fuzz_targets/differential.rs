//! Images that QEMU reads, too.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snapgroup_fuzz::differential::run(bytes));
