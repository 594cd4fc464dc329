//! Which tests reach a mutant, and what they say of it.

use crate::build::Binary;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What a mutant may take of memory, in KiB: one that asks without end is found.
const MEMORY_MAX_KIB: u64 = 6 << 20;
/// What its tests may take beyond twice the time that they take without it.
const TIME_MORE: Duration = Duration::from_secs(20);
/// What the tests of one process take together, without a mutant: few at first, and more when none of these has failed.
const BATCHES: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];

/// Where the tests run, where they leave what they make, and how long they may take.
pub struct Place {
    /// What is spent on one mutant with each binary, the quickest tests first, as long as they take without it. A test
    /// that takes longer alone is not asked.
    pub time_max: Duration,
    pub tree: PathBuf,
    pub folder: PathBuf,
}

/// A test that passes without a mutant.
pub struct Test {
    binary: usize,
    name: String,
    takes: Duration,
    reaches: BTreeSet<u32>,
}

/// Runs each test alone, and notes which mutants it comes by.
pub fn reached(binaries: &[Binary], place: &Place) -> Result<Vec<Test>, Box<dyn Error>> {
    let mut names = Vec::new();
    for (index, binary) in binaries.iter().enumerate() {
        let listed = Command::new(&binary.path)
            .args(["--list", "--format", "terse"])
            .current_dir(&place.tree)
            .output()?;
        let listed = String::from_utf8(listed.stdout)?;
        names
            .extend(listed.lines().filter_map(|line| Some((index, line.strip_suffix(": test")?.to_owned()))));
    }
    let (next, tests) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some((binary, name)) = names.get(at) else { return };
                    let noted = place.folder.join(format!("{at}.reached"));
                    let begun = Instant::now();
                    let status = run(
                        binaries,
                        *binary,
                        &[name],
                        ("MUTANTS_REACHED", &noted.to_string_lossy()),
                        place.time_max,
                        place,
                    );
                    if !status.is_ok_and(|status| status.success()) {
                        eprintln!("left out, as it takes long or fails without a mutant: {name}");
                        continue;
                    }
                    let noted = fs::read_to_string(&noted).unwrap_or_default();
                    let reaches = noted.lines().filter_map(|number| number.parse().ok()).collect();
                    let test = Test { binary: *binary, name: name.clone(), takes: begun.elapsed(), reaches };
                    tests.lock().expect("no thread panics with it").push(test);
                }
            });
        }
    });
    let mut tests = tests.into_inner()?;
    tests.sort_by_key(|test| (test.binary, test.takes));
    eprintln!("{} tests in {:?}", tests.len(), tests.iter().map(|test| test.takes).sum::<Duration>());
    Ok(tests)
}

/// What comes of a mutant: the test that sees it, or that none does.
pub fn fate(mutant: u32, tests: &[Test], binaries: &[Binary], place: &Place) -> String {
    let mut spent: BTreeMap<usize, Duration> = BTreeMap::new();
    let mut rest: Vec<&Test> = tests.iter().filter(|test| test.reaches.contains(&mutant)).collect();
    rest.retain(|test| {
        let spent = spent.entry(test.binary).or_default();
        *spent += test.takes;
        *spent <= place.time_max
    });
    if rest.is_empty() {
        return "unreached".to_owned();
    }
    let mut batches = BATCHES.iter();
    let mut room = BATCHES[0];
    while let Some(first) = rest.first() {
        room = *batches.next().unwrap_or(&room);
        let mut takes = Duration::ZERO;
        let together = rest.iter().take_while(|test| {
            takes += test.takes;
            test.binary == first.binary && takes <= room
        });
        let count = together.count().max(1);
        let batch: Vec<&Test> = rest.drain(..count).collect();
        let names: Vec<&str> = batch.iter().map(|test| test.name.as_str()).collect();
        let limit = batch.iter().map(|test| test.takes).sum::<Duration>() * 2 + TIME_MORE;
        let status = run(binaries, batch[0].binary, &names, ("MUTANT", &mutant.to_string()), limit, place);
        match status.map(|status| status.code()) {
            Ok(Some(0)) => {}
            // What `timeout` answers, and what it answers when it had to kill.
            Ok(Some(124 | 137)) => return format!("timeout by {}", binaries[batch[0].binary].name),
            _ => return format!("found by {}", binaries[batch[0].binary].name),
        }
    }
    "missed".to_owned()
}

fn run(
    binaries: &[Binary],
    binary: usize,
    tests: &[&str],
    (variable, value): (&str, &str),
    limit: Duration,
    place: &Place,
) -> std::io::Result<ExitStatus> {
    let limits = format!("ulimit -v {MEMORY_MAX_KIB}; exec timeout -k 2 {} \"$@\"", limit.as_secs());
    Command::new("sh")
        .args(["-c", &limits, "sh"])
        .arg(&binaries[binary].path)
        .args(["--exact", "--test-threads", "1"])
        .args(tests)
        .env(variable, value)
        .env("TMPDIR", &place.folder)
        .current_dir(&place.tree)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
}
