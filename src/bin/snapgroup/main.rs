//! `snapgroup`: the calls of the library on a pool in a directory, for people and for scripts.
//!
//! * `arguments` - what can be said
//! * `find` - names to uuids
//! * `output` - tables for people, the API's JSON for programs
//! * one file for each noun: `machine`, `volume`, `group`, `snapshot`; for `plan` and `thin`, which look ahead; for `live`
//!   machines; and for what is done with bytes: `reclaim`, `content`, `group_content`,
//!   `health`, `seal`
//!
//! Nothing is decided here: each command is one call of [`snapgroup::Engine`], or two.

mod arguments;
mod content;
mod find;
mod group;
mod group_content;
mod health;
mod live;
mod machine;
mod output;
mod plan;
mod progress;
mod reclaim;
mod seal;
mod snapshot;
mod thin;
mod volume;

use arguments::{Arguments, Command, WhenFull};
use clap::{ColorChoice, CommandFactory, FromArgMatches};
use output::{Failure, Outcome, Output};
use snapgroup::{ByteCount, ChainFull, CreatePool, Engine, Error, OpenPrepared, Options};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = arguments();
    let output = Output::new(arguments.json);
    match run(&arguments, &output).and_then(|()| output.ended()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.fail(&failure);
            failure.exit_code()
        }
    }
}

/// What was said, or the answer to a mistake: with colours where the commands use them, too.
fn arguments() -> Arguments {
    let colours = if output::knows_colours() { ColorChoice::Auto } else { ColorChoice::Never };
    let found = Arguments::command().color(colours).get_matches();
    Arguments::from_arg_matches(&found).unwrap_or_else(|error| error.exit())
}

fn run(arguments: &Arguments, output: &Output) -> Outcome {
    match &arguments.command {
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Arguments::command(), "snapgroup", &mut std::io::stdout());
            Ok(())
        }
        Command::Init => {
            let (engine, made) = match open(arguments, CreatePool::Never) {
                Err(Failure::Call(error)) if matches!(*error, Error::NoPool { .. }) => {
                    (open(arguments, CreatePool::Here)?, true)
                }
                opened => (opened?, false),
            };
            tell_of_recovery(&engine);
            let (uuid, path) = (engine.uuid().simple().to_string(), engine.location());
            let said = if made { "made a pool in" } else { "there is a pool already in" };
            output.done(
                &serde_json::json!({ "uuid": uuid, "path": path, "made": made }),
                &format!("{said} {path}"),
            );
            Ok(engine.close()?)
        }
        Command::Rebuild(rebuild) => {
            health::rebuild(&arguments.pool, &arguments.base_directories()?, rebuild, output)
        }
        command => {
            // A mistyped path makes no pool.
            let engine = open(arguments, CreatePool::Never)?;
            tell_of_recovery(&engine);
            perform(&engine, command, arguments, output)
                .inspect_err(|failure| output.remember(find::names_in(&engine, failure)))?;
            Ok(engine.close()?)
        }
    }
}

fn open(arguments: &Arguments, create: CreatePool) -> Result<Engine, Failure> {
    let options = Options { create, ..options(arguments)? };
    Ok(Engine::open(&arguments.pool, options)?)
}

fn options(arguments: &Arguments) -> Outcome<Options> {
    let policies = &arguments.policies;
    let mut options = Options {
        base_directories: arguments.base_directories()?,
        listener: progress::listener(),
        snapshots_max: policies.pool_snapshots_max,
        snapshot_bytes_max: policies.pool_bytes_max.map(ByteCount::new),
        chain_full: match policies.pool_chain_full {
            WhenFull::Merge => ChainFull::Merge,
            WhenFull::Refuse => ChainFull::Refuse,
            WhenFull::Full => ChainFull::Full,
        },
        // Between two commands somebody switches the disks.
        prepared: OpenPrepared::Keep,
        ..Options::default()
    };
    if let Some(chain_max) = policies.pool_chain_max {
        options.chain_max = chain_max;
    }
    Ok(options)
}

/// What an earlier crash had left is worth a line.
fn tell_of_recovery(engine: &Engine) {
    let recovered = engine.recovered();
    let counts = [
        (recovered.rebuilt.len(), "empty layers that had not arrived, made anew"),
        (recovered.finished.len(), "headers that were half written, finished"),
        (recovered.removed.len(), "files of calls that never ended, removed"),
        (recovered.reclaimed.len(), "files that nothing reads any more, removed"),
    ];
    for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
        eprintln!("recovered: {what}: {count}");
    }
    for left in &recovered.unfinished {
        eprintln!("recovered, but not finished: {left}");
    }
}

fn perform(engine: &Engine, command: &Command, arguments: &Arguments, output: &Output) -> Outcome {
    match command {
        Command::Adopt(adopt) => volume::adopt(engine, adopt, &arguments.pool, output),
        Command::Vm(command) => machine::run(engine, command, output),
        Command::Volume(command) => volume::run(engine, command, output),
        Command::Group(command) => group::run(engine, command, output),
        Command::Snapshot(command) => snapshot::run(engine, command, output),
        Command::Plan(command) => plan::run(engine, command, output),
        Command::Reclaim(reclaim) => reclaim::run(engine, reclaim, output),
        Command::Owed => reclaim::owed(engine, output),
        Command::Diff(diff) => content::diff(engine, diff, output),
        Command::Read(read) => content::read(engine, read),
        Command::Export(export) => content::export(engine, export, output),
        Command::Import(import) => content::import(engine, import, output),
        Command::Du { of } => content::space(engine, of.as_deref(), &arguments.policies, output),
        Command::Check => health::check(engine, output),
        Command::Repair(repair) => health::repair(engine, repair, output),
        Command::Seal(seal) => seal::seal(engine, seal, output),
        Command::Verify(verify) => seal::verify(engine, verify, output),
        Command::Init | Command::Rebuild(_) | Command::Completions { .. } => Ok(()),
    }
}
