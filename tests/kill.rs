//! A process that takes groups, deletes, reclaims and reverts is killed (SIGKILL) at random, again and again, on one
//! pool on disk; after each kill what it had said is done is there, and what it had only begun is there wholly or not
//! at all.
//!
//! The child says on its standard output what it begins and what has returned, a line each. The parent reads some of
//! the lines and kills it wherever it then is. `SNAPGROUP_KILLS=n` kills n times, `SNAPGROUP_SEED=n` begins with
//! another seed; both are printed. `SNAPGROUP_KILL_POOL=DIR` works in a new directory there, and `SNAPGROUP_KILL_HOOK`
//! names a program that is run as `program cut` in place of the kill and as `program back` after it: the scripts beside
//! this file cut the power of a file system with it. `SNAPGROUP_KILL_KEEP=DIR` keeps the pool as the last two kills left
//! it there: what a disk that differs is explained from.
#![cfg(target_os = "linux")]

mod support {
    pub(crate) mod deeds;
    pub(crate) mod dice;
}

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use support::deeds::{CHILD, Line, Made, Model, Outcome, Said, child, judge, prepare};
use support::dice::Dice;
use tempfile::TempDir;

/// Where the pool is kept as the last two kills left it.
const KEEP: &str = "SNAPGROUP_KILL_KEEP";
/// What is run in place of a kill.
const HOOK: &str = "SNAPGROUP_KILL_HOOK";
/// Kills, unless said otherwise.
const KILLS: u64 = 60;

/// Lets a child work, kills it, and holds what is there to what must be.
fn one_kill(pool: &Path, model: &mut Model, seed: u64, dice: &mut Dice) -> Made<&'static str> {
    let mut child = Command::new(std::env::current_exe()?)
        .args([
            "--exact",
            "what_was_done_outlives_a_kill_and_what_was_begun_is_whole_or_absent",
            "--nocapture",
        ])
        .env(CHILD, format!("{seed}:{}", pool.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("piped")?).lines();
    let wanted = 1 + dice.roll(40);
    let mut said = Vec::new();
    while said.len() < wanted
        && let Some(line) = lines.next()
    {
        said.extend(serde_json::from_str(&line?).map(|line: Line| line.said));
    }
    // Wherever it is by then: a little later than its last line.
    for _ in 0..dice.roll(400_000) {
        std::hint::spin_loop();
    }
    let hook = std::env::var_os(HOOK);
    run_hook(hook.as_deref(), "cut")?;
    child.kill()?;
    let rest = lines.map_while(Result::ok).filter_map(|line| serde_json::from_str::<Line>(&line).ok());
    said.extend(rest.map(|line| line.said));
    let output = child.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    // A disk that is cut off fails calls, and the child ends by itself.
    let ended = hook.is_some() || output.status.code().is_none();
    assert!(ended && !complaint.contains("panicked at src/"), "the child failed: {complaint}");
    run_hook(hook.as_deref(), "back")?;
    if let Some(directory) = std::env::var_os(KEEP) {
        keep(pool, Path::new(&directory), &said)?;
    }
    judge(pool, model, &said)
}

/// Keeps the pool as the kill left it, with what the child had said, beside the one of the kill before.
fn keep(pool: &Path, directory: &Path, said: &[Said]) -> Outcome {
    let (before, last) = (directory.join("before"), directory.join("last"));
    if last.exists() {
        drop(std::fs::remove_dir_all(&before));
        std::fs::rename(&last, &before)?;
    }
    std::fs::create_dir_all(&last)?;
    for entry in std::fs::read_dir(pool)? {
        let entry = entry?;
        std::fs::copy(entry.path(), last.join(entry.file_name()))?;
    }
    let lines: Vec<String> = said.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    Ok(std::fs::write(directory.join("said"), lines.join("\n"))?)
}

fn run_hook(hook: Option<&OsStr>, what: &str) -> Outcome {
    let Some(hook) = hook else { return Ok(()) };
    let status = Command::new(hook).arg(what).status()?;
    if status.success() { Ok(()) } else { Err(format!("{} {what}: {status}", hook.display()).into()) }
}

#[test]
#[expect(clippy::print_stderr, reason = "the seed and the counts of a random test are printed")]
fn what_was_done_outlives_a_kill_and_what_was_begun_is_whole_or_absent() -> Outcome {
    if let Ok(told) = std::env::var(CHILD) {
        return child(&told);
    }
    let number = |name: &str, default: u64| -> Made<u64> {
        Ok(std::env::var(name).ok().map(|text| text.parse()).transpose()?.unwrap_or(default))
    };
    let (kills, seed) = (number("SNAPGROUP_KILLS", KILLS)?, number("SNAPGROUP_SEED", 1)?);
    eprintln!("SNAPGROUP_KILLS={kills} SNAPGROUP_SEED={seed}");
    let directory = match std::env::var_os("SNAPGROUP_KILL_POOL") {
        None => TempDir::new()?,
        Some(parent) => TempDir::new_in(parent)?,
    };
    let pool = directory.path().join("pool");
    let mut model = prepare(&pool)?;
    let mut dice = Dice::of(seed);
    let mut endings: BTreeMap<&str, usize> = BTreeMap::new();
    for kill in 0..kills {
        let ending = one_kill(&pool, &mut model, seed.wrapping_mul(1_000_003).wrapping_add(kill), &mut dice)?;
        *endings.entry(ending).or_default() += 1;
    }
    eprintln!("{kills} kills: {endings:?}");
    Ok(())
}
