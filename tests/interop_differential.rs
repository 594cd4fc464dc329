//! Images of all shapes, most of them with broken tables, read here and by `qemu-img`:
//! `cargo test --release --test interop_differential -- --ignored`. What must hold is said beside the comparison, which is
//! a target of the fuzzer, too.
//!
//! `SNAPGROUP_IMAGES=n` compares n of them, `SNAPGROUP_SEED=n` begins with another one.

#![expect(clippy::print_stdout, reason = "how many images came out in which way is worth reading")]

#[path = "../fuzz/targets/dice.rs"]
#[expect(unreachable_pub, dead_code, reason = "a part of the fuzzer's targets, which are a library")]
mod dice;
#[path = "../fuzz/targets"]
#[expect(unreachable_pub, dead_code, reason = "a part of the fuzzer's targets, which are a library")]
mod targets {
    pub mod differential;
    pub mod skeleton;
}

use dice::Dice;
use std::collections::BTreeMap;
use targets::differential::{self, Class};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
#[ignore = "needs qemu-img"]
fn what_is_read_here_is_read_by_qemu_as_the_same_bytes() -> Result<(), Box<dyn std::error::Error>> {
    assert!(differential::is_possible(), "there is no qemu-img in the path");
    let directory = tempfile::TempDir::new()?;
    let mut classes: BTreeMap<Class, u64> = BTreeMap::new();
    let mut failures = Vec::new();
    let first = number("SNAPGROUP_SEED", 1);
    for seed in first..first + number("SNAPGROUP_IMAGES", 400) {
        let (bytes, mutations) = differential::image(&mut Dice::of(seed));
        match differential::compare(directory.path(), &bytes) {
            Ok(class) => {
                assert!(mutations > 0 || class == Class::Same, "seed {seed}: a whole image is {class:?}");
                *classes.entry(class).or_default() += 1;
            }
            Err(error) => failures.push(format!("seed {seed}: {error}")),
        }
    }
    println!("{classes:#?}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(classes.len() >= 3, "hardly anything was compared");
    Ok(())
}
