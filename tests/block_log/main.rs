//! Power cuts of a real file system, from the log of its block device: what reached the device is rebuilt as each flush
//! left it, and with any part of what had been written since; the file system replays its own journal, and then the pool
//! in it is judged.
//!
//! `tests/scripts/block-log.sh` prepares the device and runs both halves as root: in the first one a child works in a pool
//! and says what it begins and what has returned, and how long the log is by then; the second one goes through the log.
#![cfg(target_os = "linux")]

mod log;
#[path = "../support"]
mod support {
    pub(crate) mod deeds;
    pub(crate) mod dice;
}

use log::{Device, Entry};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::deeds::{CHILD, LOG, Line, Made, Model, Outcome, Said, child, judge, prepare};
use support::dice::Dice;

/// Where the script has put things: `base.img` and `disk.img` (the device before the log and after it), `log.img`, `mount`,
/// and `state`, a directory in memory.
const WORK: &str = "SNAPGROUP_BLOCK_LOG";
/// Of what was written since a flush, this many prefixes are taken, and this many parts at random.
const PREFIXES: usize = 16;
const PARTS: usize = 4;

fn number(name: &str, default: usize) -> Made<usize> {
    Ok(std::env::var(name).ok().map(|text| text.parse()).transpose()?.unwrap_or(default))
}

fn work() -> Made<PathBuf> {
    Ok(std::env::var_os(WORK).ok_or("tests/scripts/block-log.sh says where")?.into())
}

#[test]
#[ignore = "needs root and a device whose writes are logged: tests/scripts/block-log.sh"]
fn a_child_works_on_a_device_whose_writes_are_logged() -> Outcome {
    if let Ok(told) = std::env::var(CHILD) {
        return child(&told);
    }
    let (work, deeds) = (work()?, number("SNAPGROUP_DEEDS", 150)?);
    let pool = work.join("mount/pool");
    prepare(&pool)?;
    let logged = std::fs::metadata(work.join("log.img"))?.len();
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", "a_child_works_on_a_device_whose_writes_are_logged", "--ignored", "--nocapture"])
        .env(CHILD, format!("{}:{}", number("SNAPGROUP_SEED", 1)?, pool.display()))
        .env(LOG, work.join("log.img"))
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = File::create(work.join("said"))?;
    writeln!(said, "{logged}")?;
    let mut returned = 0;
    for line in BufReader::new(child.stdout.take().ok_or("piped")?).lines() {
        let line = line?;
        let Ok(parsed) = serde_json::from_str::<Line>(&line) else { continue };
        writeln!(said, "{line}")?;
        returned += usize::from(!matches!(parsed.said, Said::Begun(_)));
        if returned == deeds {
            break;
        }
    }
    child.kill()?;
    child.wait()?;
    assert_eq!(returned, deeds, "the child ended by itself");
    Ok(())
}

/// What reached the device of the writes since the last flush.
#[derive(Clone, Debug)]
enum Kept {
    Prefix(usize),
    /// Drawn with this seed.
    Part(u64),
}

/// A state to judge.
struct State {
    /// The window between two flushes, by number.
    window: usize,
    kept: Kept,
}

/// What was written between two flushes; the second one, if there is one, is not in it.
struct Window {
    writes: Vec<Entry>,
    /// Where the last write ends in the log: what had returned by then is durable.
    end: u64,
}

fn windows_of(entries: &[Entry], began: u64) -> Vec<Window> {
    let mut windows = vec![Window { writes: Vec::new(), end: began }];
    for entry in entries {
        let last = windows.last_mut().expect("there is one");
        if entry.is_flush() {
            windows.push(Window { writes: Vec::new(), end: entry.end });
        } else {
            last.end = entry.end;
        }
        // A flush that carries data: the flush comes first.
        if entry.is_write() {
            windows.last_mut().expect("there is one").writes.push(*entry);
        }
    }
    windows
}

/// A random sample of the states, in the order of the log.
fn states_of(windows: &[Window], first: usize, count: usize, dice: &mut Dice) -> Vec<State> {
    let mut states = Vec::new();
    for (window, Window { writes, .. }) in windows.iter().enumerate().skip(first) {
        let mut push = |kept| states.push(State { window, kept });
        push(Kept::Prefix(0));
        if writes.len() <= PREFIXES {
            (1..=writes.len()).for_each(|length| push(Kept::Prefix(length)));
        } else {
            (0..PREFIXES).for_each(|_| push(Kept::Prefix(1 + dice.roll(writes.len()))));
        }
        if writes.len() > 1 {
            (0..PARTS).for_each(|_| push(Kept::Part(dice.roll(1 << 30) as u64)));
        }
    }
    while states.len() > count {
        states.swap_remove(dice.roll(states.len()));
    }
    states.sort_by_key(|state| state.window);
    states
}

/// Goes through a log, and holds the device as it was after each flush.
struct Replay {
    work: PathBuf,
    log: File,
    length: u64,
    windows: Vec<Window>,
    lines: Vec<Line>,
    /// As the flush before `window` left it.
    device: Device,
    window: usize,
}

impl Replay {
    fn forward_to(&mut self, window: usize) -> Outcome {
        while self.window < window {
            for entry in &self.windows[self.window].writes {
                self.device.apply(&self.log, entry)?;
            }
            self.window += 1;
        }
        Ok(())
    }

    /// The lines that were said before the log was that long.
    fn lines_until(&self, end: u64) -> usize {
        self.lines.partition_point(|line| line.logged <= end)
    }

    /// Rebuilds the device, mounts it, and judges the pool by what had been said at the end of the window `claimed`;
    /// answers what is wrong.
    fn fault(&mut self, state: &State, claimed: usize) -> Made<Option<String>> {
        self.forward_to(state.window)?;
        let mut device = self.device.clone();
        let mut dice = Dice::of(if let Kept::Part(seed) = state.kept { seed } else { 0 });
        for (place, entry) in self.windows[state.window].writes.iter().enumerate() {
            let is_kept = match state.kept {
                Kept::Prefix(length) => place < length,
                Kept::Part(_) => dice.roll(2) == 0,
            };
            if is_kept || entry.is_durable_itself() {
                device.apply(&self.log, entry)?;
            }
        }
        let (image, mount) = (self.work.join("state/disk.img"), self.work.join("mount"));
        device.write_to(&image, self.length)?;
        run("mount", &["-o", "loop", path(&image)?, path(&mount)?])?;

        let until = self.lines_until(self.windows[claimed].end);
        let said: Vec<Said> = self.lines[..until].iter().map(|line| line.said.clone()).collect();
        let mut model = Model::new();
        let judged = catch_unwind(AssertUnwindSafe(|| judge(&mount.join("pool"), &mut model, &said)));
        run("umount", &[path(&mount)?])?;
        Ok(match judged {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(format!("{error:?}")),
            Err(_) => Some("what was found is not what must be".to_owned()),
        })
    }
}

fn path(path: &Path) -> Made<&str> {
    path.to_str().ok_or_else(|| "a path of Unicode".into())
}

fn run(program: &str, arguments: &[&str]) -> Outcome {
    let status = Command::new(program).args(arguments).status()?;
    if status.success() { Ok(()) } else { Err(format!("{program} {arguments:?}: {status}").into()) }
}

fn replay_of(work: PathBuf) -> Made<Replay> {
    let log = File::open(work.join("log.img"))?;
    let entries = log::read(&log)?;
    let said = std::fs::read_to_string(work.join("said"))?;
    let mut text = said.lines();
    let began: u64 = text.next().ok_or("where the work began")?.parse()?;
    let lines = text.map(serde_json::from_str).collect::<Result<Vec<Line>, _>>()?;
    let base = work.join("base.img");
    let length = std::fs::metadata(&base)?.len();
    let mut device = Device::of(&base)?;
    // A log is worth something only if it is what happened.
    let mut last = device.clone();
    entries.iter().try_for_each(|entry| last.apply(&log, entry))?;
    assert!(last == Device::of(&work.join("disk.img"))?, "the log does not lead to what the device holds");
    // Before the pool was made there is nothing to judge.
    let (before, after) = entries.split_at(entries.partition_point(|entry| entry.end <= began));
    for entry in before {
        device.apply(&log, entry)?;
    }
    let windows = windows_of(after, began);
    Ok(Replay { work, log, length, windows, lines, device, window: 0 })
}

#[test]
#[ignore = "needs root and the log of a device: tests/scripts/block-log.sh"]
#[expect(clippy::print_stderr, reason = "the seed and the counts of a random test are printed")]
fn every_state_that_a_device_may_be_left_in_holds_what_had_returned() -> Outcome {
    let (count, seed) = (number("SNAPGROUP_STATES", 2000)?, number("SNAPGROUP_SEED", 1)?);
    let mut replay = replay_of(work()?)?;
    let mut dice = Dice::of(seed as u64);
    // What was written up to the pool's own making may be in the first window, which is left out.
    let states = states_of(&replay.windows, 1, count, &mut dice);
    let writes: usize = replay.windows.iter().map(|window| window.writes.len()).sum();
    eprintln!(
        "{} deeds had returned; the log has {} flushes and {writes} writes; {} states, SNAPGROUP_SEED={seed}",
        replay.lines.iter().filter(|line| !matches!(line.said, Said::Begun(_))).count(),
        replay.windows.len() - 1,
        states.len(),
    );
    let mut judged: BTreeMap<&str, usize> = BTreeMap::new();
    for state in &states {
        let fault = replay.fault(state, state.window)?;
        assert_eq!(fault, None, "window {}, kept {:?}", state.window, state.kept);
        let kind = match state.kept {
            Kept::Prefix(0) => "as a flush left it",
            Kept::Prefix(_) => "with a prefix of what was written since",
            Kept::Part(_) => "with any part of what was written since",
        };
        *judged.entry(kind).or_default() += 1;
    }
    eprintln!("{} states, nothing lost: {judged:?}", states.len());
    Ok(())
}

/// The control: when the last flush before a deed returned is taken away, some deeds must be found missing.
#[test]
#[ignore = "needs root and the log of a device: tests/scripts/block-log.sh"]
#[expect(clippy::print_stderr, reason = "the counts are printed")]
fn a_device_that_lost_a_flush_is_found_out() -> Outcome {
    let mut replay = replay_of(work()?)?;
    let windows = replay.windows.len();
    let returned: Vec<usize> = (1..windows - 1)
        .filter(|window| {
            let before = replay.lines_until(replay.windows[*window].end);
            let after = replay.lines_until(replay.windows[window + 1].end);
            replay.lines[before..after].iter().any(|line| matches!(line.said, Said::Done | Said::Taken(_)))
        })
        .collect();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let (mut tried, mut found) = (0, 0);
    for window in returned.iter().copied().take(number("SNAPGROUP_CONTROLS", 60)?) {
        tried += 1;
        let fault = replay.fault(&State { window, kept: Kept::Prefix(0) }, window + 1)?;
        found += usize::from(fault.is_some());
    }
    std::panic::set_hook(hook);
    eprintln!("control: of {tried} flushes that were taken away, {found} were missed");
    assert!(found > 0, "what a lost flush loses is not noticed");
    Ok(())
}
