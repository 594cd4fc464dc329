//! The crate with its mutants, as far as they compile.

use crate::rewrite::{Left, Mutant, rewrite};
use serde_json::Value;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A test binary, with its name.
pub struct Binary {
    pub name: String,
    pub path: PathBuf,
}

/// What a build answers.
pub struct Built {
    /// All mutants, also those of `left`.
    pub mutants: Vec<Mutant>,
    pub left: Left,
    pub binaries: Vec<Binary>,
}

/// Copies the crate at `from` to `to`, with these modules alone where any are named, mutates the sources that `is_mutated` names, leaves out what does not compile, and
/// builds the tests.
pub fn build(
    from: &Path,
    to: &Path,
    modules: &[&str],
    is_mutated: impl Fn(&str) -> bool,
    tests: &[&str],
) -> Result<Built, Box<dyn Error>> {
    let listed =
        Command::new("git").args(["ls-files", "-co", "--exclude-standard"]).current_dir(from).output()?;
    let files: Vec<String> = String::from_utf8(listed.stdout)?
        .lines()
        .filter(|file| {
            ["src/", "tests/", "benches/", "examples/", "fuzz/"].iter().any(|of| file.starts_with(of))
                || !file.contains('/')
        })
        .filter(|file| !file.starts_with("tests/scripts/") && from.join(file).is_file())
        .map(str::to_owned)
        .collect();
    for file in files.iter().filter(|file| !is_mutated(file) && *file != "src/lib.rs") {
        put(&to.join(file), &fs::read(from.join(file))?)?;
    }
    let mut table = match modules {
        [] => fs::read_to_string(from.join("src/lib.rs"))?,
        some => some.iter().map(|module| format!("pub mod {module};\n")).collect::<String>(),
    };
    table.push_str(if modules.is_empty() { "" } else { "pub use units::ByteCount;\n" });
    table.push_str("#[doc(hidden)]\npub mod mutants;\n");
    put(&to.join("src/lib.rs"), table.as_bytes())?;
    put(&to.join("src/mutants.rs"), include_bytes!("switch.rs"))?;

    let known = to.with_extension("left");
    let mut left = Left::default();
    if let Ok(text) = fs::read_to_string(&known) {
        let mut mutants = Vec::new();
        for file in files.iter().filter(|file| is_mutated(file)) {
            rewrite(file, &fs::read_to_string(from.join(file))?, &left, &mut mutants)?;
        }
        left = remembered(&text, &mutants).unwrap_or_default();
    }
    let check = ["check", "--lib"];
    let mut build = vec!["test", "--no-run", "--lib"];
    build.extend(tests.iter().flat_map(|test| ["--test", test]));
    for command in [&check[..], &build[..]] {
        loop {
            let mut mutants = Vec::new();
            for file in files.iter().filter(|file| is_mutated(file)) {
                let text = rewrite(file, &fs::read_to_string(from.join(file))?, &left, &mut mutants)?;
                put(&to.join(file), text.as_bytes())?;
            }
            let messages = cargo(to, command)?;
            let mut is_well = true;
            for message in messages.iter().filter(|message| message["message"]["level"] == "error") {
                is_well = false;
                leave_out(&message["message"], to, &mut left)?;
            }
            eprintln!("{} of {} do not compile", left.mutants.len(), mutants.len());
            if is_well && command.len() > check.len() {
                fs::write(&known, to_remember(&left, &mutants))?;
                let binaries = messages.iter().filter_map(binary).collect();
                return Ok(Built { mutants, left, binaries });
            }
            if is_well {
                break;
            }
        }
    }
    unreachable!("the last command ends in an answer")
}

/// What was left out, for the next time: as long as the mutants are the same, nothing has to be built twice.
fn to_remember(left: &Left, mutants: &[Mutant]) -> String {
    let numbers = left.mutants.iter().map(|number| format!("{number} "));
    let names = left.constants.iter().map(|name| format!("{name} "));
    let titles = mutants.iter().map(|mutant| format!("{}\n", mutant.title));
    [numbers.collect(), names.collect(), titles.collect::<String>()].join("\n")
}

fn remembered(text: &str, mutants: &[Mutant]) -> Option<Left> {
    let mut lines = text.lines();
    let numbers = lines.next()?.split_whitespace().map(|number| number.parse().ok());
    let left = Left {
        mutants: numbers.collect::<Option<_>>()?,
        constants: lines.next()?.split_whitespace().map(str::to_owned).collect(),
    };
    lines.eq(mutants.iter().map(|mutant| mutant.title.as_str())).then_some(left)
}

fn put(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if fs::read(path).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    fs::create_dir_all(path.parent().expect("a file is in a folder"))?;
    fs::write(path, bytes)
}

fn cargo(of: &Path, arguments: &[&str]) -> Result<Vec<Value>, Box<dyn Error>> {
    let output = Command::new("cargo")
        .args(arguments)
        .args(["--message-format", "json", "--target-dir"])
        .arg(of.with_extension("target"))
        .envs([
            ("CARGO_INCREMENTAL", "0"),
            ("CARGO_PROFILE_DEV_DEBUG", "0"),
            ("RUSTFLAGS", "--cap-lints allow"),
        ])
        .current_dir(of)
        .stderr(std::process::Stdio::inherit())
        .output()?;
    Ok(String::from_utf8(output.stdout)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

fn binary(message: &Value) -> Option<Binary> {
    let path = message["executable"].as_str()?.into();
    let kind = message["target"]["kind"][0].as_str()?;
    let name = if kind == "test" { message["target"]["name"].as_str()? } else { "lib" };
    Some(Binary { name: name.to_owned(), path })
}

/// Leaves out what an error is about.
fn leave_out(error: &Value, tree: &Path, left: &mut Left) -> Result<(), Box<dyn Error>> {
    for span in error["spans"].as_array().into_iter().flatten().filter(|span| span["is_primary"] == true) {
        let text = fs::read_to_string(tree.join(span["file_name"].as_str().unwrap_or_default()))?;
        let place = |name: &str| span[name].as_u64().and_then(|at| usize::try_from(at).ok());
        let [start, end] = [place("byte_start"), place("byte_end")].map(Option::unwrap_or_default);
        if error["code"]["code"] == "E0015" {
            left.constants.extend(called(&text[start..end]));
        } else {
            let found = mutants_at(&text, start, end);
            if found.is_empty() {
                return Err(format!(
                    "this error is of no mutant:\n{}",
                    error["rendered"].as_str().unwrap_or("")
                )
                .into());
            }
            left.mutants.extend(found);
        }
    }
    Ok(())
}

/// The name of the function that an expression calls.
fn called(text: &str) -> Option<String> {
    match syn::parse_str(text).ok()? {
        syn::Expr::MethodCall(call) => Some(call.method.to_string()),
        syn::Expr::Call(call) => match *call.func {
            syn::Expr::Path(path) => path.path.segments.last().map(|name| name.ident.to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// The mutants of the smallest place that holds this part of the text; of all inside, where it has none left of its own.
fn mutants_at(text: &str, start: usize, end: usize) -> Vec<u32> {
    let numbers = |at: usize| {
        let all = text[at..].split("*/").next().unwrap_or_default();
        all.split_whitespace().filter_map(|number| number.parse().ok()).collect::<Vec<u32>>()
    };
    let mut open: Vec<usize> = Vec::new();
    let marks = text.match_indices("/*<").chain(text.match_indices("/*>*/"));
    let mut marks: Vec<(usize, &str)> = marks.collect();
    marks.sort_unstable();
    let mut smallest: Option<(usize, usize)> = None;
    for (at, mark) in marks {
        if mark == "/*<" {
            open.push(at);
            continue;
        }
        let from = open.pop().expect("what ends has begun");
        if from <= start && end <= at && smallest.is_none_or(|(begin, until)| at - from < until - begin) {
            smallest = Some((from, at));
        }
    }
    let Some((from, until)) = smallest else { return Vec::new() };
    let own = numbers(from + 3);
    if own.is_empty() {
        return text[from..until].match_indices("/*<").flat_map(|(at, _)| numbers(from + at + 3)).collect();
    }
    own
}
