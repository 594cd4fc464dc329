//! The header: what was read is written and read again as the same value, and nothing panics.
//!
//! One function on bytes, so that the fuzzer and the replay of its corpus in `cargo test` run the same.

use snapgroup::format::{Error, Header, Malformed, Rule};

/// Reads `bytes` as a header; if they are one, it must survive the way out and back.
pub fn run(bytes: &[u8]) {
    let Ok(header) = Header::parse(bytes) else { return };
    let written = match header.encode() {
        Ok(written) => written,
        // The list of extensions may end with the room there is for it; written, it ends with a marker.
        Err(Error::Malformed(Malformed { rule: Rule::InsideCluster0, .. })) => return,
        Err(error) => panic!("a header that was read cannot be written: {error}: {header:?}"),
    };
    match Header::parse(&written) {
        Ok(again) => assert_eq!(again, header, "the header has changed on the way"),
        Err(error) => panic!("a header that was written cannot be read: {error}: {header:?}"),
    }
}
