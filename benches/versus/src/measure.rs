//! Sides measured in turn, so that whatever slows the machine down slows all of them.

use crate::Result;
use std::time::{Duration, Instant};

/// Somebody who is measured.
pub struct Side<'a> {
    /// The column of the table.
    pub name: &'static str,
    body: Box<dyn FnMut() -> Result<Duration> + 'a>,
}

impl<'a> Side<'a> {
    /// A side whose body says how long the part took that counts.
    pub fn new(name: &'static str, body: impl FnMut() -> Result<Duration> + 'a) -> Self {
        Self { name, body: Box::new(body) }
    }
}

/// How long something takes.
pub fn timed<T>(body: impl FnOnce() -> Result<T>) -> Result<Duration> {
    let begin = Instant::now();
    body()?;
    Ok(begin.elapsed())
}

/// The medians of so many rounds, in seconds and divided by `count`: each side once in every round.
pub fn in_turn(rounds: usize, count: usize, sides: &mut [Side<'_>]) -> Result<Vec<(String, f64)>> {
    let mut found = vec![Vec::new(); sides.len()];
    for _ in 0..rounds {
        for (side, found) in sides.iter_mut().zip(&mut found) {
            let taken = (side.body)().map_err(|error| format!("{}: {error}", side.name))?;
            found.push(taken.as_secs_f64() / count as f64);
        }
    }
    Ok(sides.iter().zip(found).map(|(side, found)| (side.name.to_owned(), median(found))).collect())
}

/// The median in seconds of so many rounds of one body.
pub fn alone(rounds: usize, mut body: impl FnMut() -> Result<Duration>) -> Result<f64> {
    let found = (0..rounds).map(|_| Ok(body()?.as_secs_f64())).collect::<Result<Vec<_>>>()?;
    Ok(median(found))
}

fn median(mut found: Vec<f64>) -> f64 {
    found.sort_by(f64::total_cmp);
    found[found.len() / 2]
}

/// The SplitMix64 generator: the same numbers in every run.
#[derive(Clone, Copy, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ (value >> 31)) % end
    }
}
