//! Mutation testing with one build: every mutant is in the crate at once, and the environment says which one is awake.
//!
//! Usage: mutants ROOM [WORD ...]
//!
//! Only mutants whose title holds one of the words are run; with none, all. A mutant is run with the tests that reach it, the
//! quickest first, until one fails. What came of each is in `target/mutants/ROOM.txt`.

mod build;
mod rewrite;
mod run;
mod values;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The seconds that the tests of one binary take at most for one mutant, unless `MUTANTS_SECONDS` says otherwise.
const TIME_MAX: u64 = 20;

/// A room: what is mutated, and what is asked about it.
struct Room {
    name: &'static str,
    /// The modules of the crate that is built; none for the whole crate. A tenth of it is built in a tenth of the time.
    modules: &'static [&'static str],
    /// The sources that are mutated.
    files: &'static [&'static str],
    /// The tests that are asked, in this order, after the unit tests.
    tests: &'static [&'static str],
}

const ROOMS: [Room; 5] = [
    Room {
        name: "format",
        modules: &["units", "format"],
        files: &["src/format/"],
        tests: &["format_golden"],
    },
    Room {
        name: "allocator",
        modules: &["units", "sync", "format", "storage", "image", "chain"],
        files: &[
            "src/image/fill.rs",
            "src/image/flush.rs",
            "src/image/grow.rs",
            "src/image/layout.rs",
            "src/image/own.rs",
            "src/image/pack.rs",
            "src/image/refcounts.rs",
            "src/image/tables.rs",
            "src/image/zero.rs",
        ],
        tests: &[
            "image_create",
            "image_growth",
            "image_repair",
            "image_absorb",
            "image_rebase",
            "image_threads",
            "image_model",
            "image_durability",
        ],
    },
    Room {
        name: "writes",
        modules: &[],
        files: &[
            "src/image/fill.rs",
            "src/image/grow.rs",
            "src/image/layout.rs",
            "src/image/own.rs",
            "src/image/pack.rs",
            "src/image/zero.rs",
        ],
        tests: &[
            "image_shared",
            "image_create",
            "image_growth",
            "image_compressed",
            "image_absorb",
            "image_rebase",
            "image_threads",
            "image_model",
            "image_repair",
            "chain_model",
            "chain_merge",
            "chain_map",
            "hostile",
            "costs",
            "image_durability",
            "fuzz_corpus",
            "suite",
        ],
    },
    Room { name: "plan", modules: &[], files: &["src/plan/"], tests: &["suite", "live", "acceptance"] },
    Room {
        name: "recovery",
        modules: &[],
        files: &["src/engine/recover.rs", "src/engine/unsettled.rs"],
        tests: &["recovery", "suite", "rebuild"],
    },
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let wanted = words.next().ok_or("usage: mutants ROOM [WORD ...]")?;
    let words: Vec<String> = words.collect();
    let room = ROOMS.iter().find(|room| room.name == wanted).ok_or("no such room")?;
    let seconds = std::env::var("MUTANTS_SECONDS").map_or(Ok(TIME_MAX), |seconds| seconds.parse())?;
    let time_max = Duration::from_secs(seconds);
    let here = std::env::current_dir()?;
    let out = here.join("target/mutants");
    // The rooms that are one crate are mutated together, and built once.
    let built: Vec<&Room> = ROOMS.iter().filter(|other| other.modules == room.modules).collect();
    let mut tests: Vec<&str> = built.iter().flat_map(|room| room.tests).copied().collect();
    tests.sort_unstable();
    tests.dedup();
    let is_source = |file: &str| file.ends_with(".rs") && !file.ends_with("/tests.rs");
    let is_of = |room: &Room, file: &str| is_source(file) && room.files.iter().any(|of| file.starts_with(of));
    let is_mutated = |file: &str| built.iter().any(|room| is_of(room, file));
    let tree = out.join(*room.modules.last().unwrap_or(&"whole"));
    let built = build::build(&here, &tree, room.modules, is_mutated, &tests)?;
    let build::Built { mutants, left, mut binaries } = built;
    binaries.retain(|binary| binary.name == "lib" || room.tests.contains(&&*binary.name));
    binaries.sort_by_key(|binary| room.tests.iter().position(|test| *test == binary.name));

    let folder = out.join(format!("run.{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let place = run::Place { time_max, tree, folder: folder.clone() };
    let tests = run::reached(&binaries, &place)?;
    let is_run = |title: &str| words.is_empty() || words.iter().any(|word| title.contains(word));
    let of_room =
        mutants.iter().filter(|mutant| is_of(room, &mutant.file) && !left.mutants.contains(&mutant.number));
    let todo: Vec<_> = of_room.filter(|mutant| is_run(&mutant.title)).collect();
    let (next, lines) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(mutant) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let came = run::fate(mutant.number, &tests, &binaries, &place);
                    let line = format!("{came}: {}", mutant.title);
                    if !line.starts_with("found") {
                        println!("{line}");
                    }
                    lines.lock().unwrap().push((mutant.number, line));
                }
            });
        }
    });
    finish(lines.into_inner()?, &out.join(format!("{wanted}.txt")))?;
    Ok(std::fs::remove_dir_all(folder)?)
}

/// Writes what came of each, and prints how many came to what.
fn finish(mut lines: Vec<(u32, String)>, file: &Path) -> Result<(), Box<dyn Error>> {
    lines.sort_unstable();
    let all: String = lines.iter().map(|(_, line)| format!("{line}\n")).collect();
    std::fs::write(file, all)?;
    let mut counts = BTreeMap::<&str, usize>::new();
    for (_, line) in &lines {
        *counts.entry(line.split([':', ' ']).next().unwrap_or_default()).or_default() += 1;
    }
    println!("{} mutants: {counts:?}", lines.len());
    Ok(())
}
