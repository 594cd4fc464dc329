//! What the fuzzer runs, each target a plain function on bytes: the replay of the corpus in `cargo test` runs the
//! same. See the README beside this folder.

pub mod adoption;
pub mod catalogue;
pub mod codec;
pub mod differential;
pub mod faults;
pub mod header;
pub mod image;
pub mod operations;
pub mod powercut;
pub mod skeleton;
pub mod structured;
mod world;

pub mod dice;
#[path = "../../tests/support/history/mod.rs"]
#[expect(dead_code, reason = "the tests run histories from seeds, too")]
mod history;
