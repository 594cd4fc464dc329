//! This crate beside others and beside the bare system calls: one table, each row measured on all sides in turn, in
//! one run.
//!
//! ```sh
//! cargo bench --manifest-path benches/versus/Cargo.toml             # everything
//! cargo bench --manifest-path benches/versus/Cargo.toml -- read     # the scenarios with `read` in their name
//! cargo bench --manifest-path benches/versus/Cargo.toml -- --test   # each body once, in small
//! ```
//!
//! `VERSUS_DIR` is where the files go (default: the system's directory for temporary files); `VERSUS_SNAPSHOTS` is how
//! many the large pool holds (default 100,000).
//!
//! * `rows` - what is measured, a file for each group of rows
//! * `peers`, `qemu`, `floor` - who is measured
//! * `files` - the chains that are read and written
//! * `measure`, `table`, `machine` - how, and how it is shown
//!
//! Each scenario runs in a process of its own, so that the peak of its memory is its own.

mod files;
mod floor;
mod machine;
mod measure;
mod peers;
mod qemu;
mod rows;
mod table;

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use table::{Line, Table};

/// What may go wrong in a measurement ends it.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effort {
    /// As the table says.
    Full,
    /// Each body once, with as little as it can do.
    Tiny,
}

/// What a scenario is given.
#[derive(Debug)]
struct Bench {
    effort: Effort,
    /// An empty directory, which is the current one, too.
    directory: PathBuf,
}

impl Bench {
    /// `full`, or in small `tiny`.
    fn pick<T>(&self, full: T, tiny: T) -> T {
        if self.effort == Effort::Full { full } else { tiny }
    }

    /// How often each side is measured.
    fn runs(&self) -> usize {
        self.pick(5, 1)
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(built) = build(&arguments.iter().map(String::as_str).collect::<Vec<_>>()) {
        return finish(built);
    }
    let mut effort = Effort::Full;
    let (mut scenario, mut filters) = (None, Vec::new());
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--test" => effort = Effort::Tiny,
            "--scenario" => scenario = arguments.next(),
            option if option.starts_with("--") => {}
            filter => filters.push(filter.to_owned()),
        }
    }
    let done = match scenario {
        Some(name) => run_scenario(&name, effort),
        None => run_all(effort, &filters),
    };
    finish(done)
}

/// Builds what another process of this program wants to measure.
fn build(arguments: &[&str]) -> Option<Result<()>> {
    match arguments {
        ["--build-chain", prefix, depth, size] => {
            Some((|| files::build_chain(".".as_ref(), prefix, depth.parse()?, size.parse()?))())
        }
        ["--build-pool", name, wanted] => Some((|| rows::build_pool(name.as_ref(), wanted.parse()?))()),
        _ => None,
    }
}

fn finish(done: Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs each scenario in a process of its own and prints what they found as one table.
fn run_all(effort: Effort, filters: &[String]) -> Result<()> {
    let mut table = Table::default();
    let mut failed = Vec::new();
    let wanted =
        |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
    for (name, _) in rows::SCENARIOS.iter().filter(|(name, _)| wanted(name)) {
        eprintln!("{name} ...");
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--scenario", name]).stdout(Stdio::piped());
        if effort == Effort::Tiny {
            command.arg("--test");
        }
        let output = command.spawn()?.wait_with_output()?;
        if !output.status.success() {
            failed.push(format!("{name}: {}", output.status));
            continue;
        }
        for line in String::from_utf8(output.stdout)?.lines() {
            table.add(Line::decode(line).ok_or_else(|| format!("{name} printed {line:?}"))?);
        }
    }
    println!("{}", machine::describe());
    println!("{table}");
    if failed.is_empty() { Ok(()) } else { Err(failed.join(", ").into()) }
}

/// Runs one scenario in an empty directory and prints its lines for `run_all`.
fn run_scenario(name: &str, effort: Effort) -> Result<()> {
    let place = std::env::var_os("VERSUS_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = tempfile::Builder::new().prefix("versus-").tempdir_in(place)?;
    // Some peers take the name of a backing file from here, and not from beside the image.
    std::env::set_current_dir(directory.path())?;
    let bench = Bench { effort, directory: directory.path().to_owned() };
    let (_, run) = rows::SCENARIOS.iter().find(|(known, _)| *known == name).ok_or("no such scenario")?;
    let mut lines = run(&bench)?;
    lines.push(Line::Memory { scenario: name.to_owned(), peak: machine::peak_memory()? });
    for line in lines {
        println!("{}", line.encode());
    }
    std::env::set_current_dir("/")?;
    Ok(())
}
