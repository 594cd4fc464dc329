//! Which mutant is awake. This file goes into the crate that is mutated, as its module `mutants`.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

const UNASKED: u32 = u32::MAX;
const NOTED: u32 = u32::MAX - 1;
const NONE: u32 = u32::MAX - 2;

static AWAKE: AtomicU32 = AtomicU32::new(UNASKED);
static ASKED: [AtomicBool; 1 << 14] = [const { AtomicBool::new(false) }; 1 << 14];

/// Whether the mutant of this number is the one of `MUTANT`.
#[inline(always)]
pub fn is(number: u32) -> bool {
    let awake = AWAKE.load(Ordering::Relaxed);
    awake == number || awake >= NOTED && is_noted(number)
}

/// Finds out what is wanted, and appends the number to the file `MUTANTS_REACHED` where that is set.
#[cold]
fn is_noted(number: u32) -> bool {
    let Some(file) = std::env::var_os("MUTANTS_REACHED") else {
        let awake = std::env::var("MUTANT").ok().and_then(|number| number.parse().ok()).unwrap_or(NONE);
        AWAKE.store(awake, Ordering::Relaxed);
        return awake == number;
    };
    AWAKE.store(NOTED, Ordering::Relaxed);
    if !ASKED[number as usize].swap(true, Ordering::Relaxed) {
        let mut file = std::fs::File::options().create(true).append(true).open(file).expect("the file of the notes can be opened");
        file.write_all(format!("{number}\n").as_bytes()).expect("the notes can be written");
    }
    false
}
