//! What is printed: tables for people, the API's JSON for programs; and what a failure comes to.

use serde::Serialize;
use snapgroup::inventory::{DeleteResult, ErrorCode, RevertResult};
use snapgroup::{ByteCount, Error, Kind, Refusal, storage};
use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// What a command comes to.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Why a command did not do what it was to do.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A call failed.
    Call(Box<Error>),
    /// What was said names nothing, or too much.
    Said(String),
    /// A check has found something. It is printed already.
    Found,
    /// Nothing has happened, and why is printed already.
    Refused,
    /// Not every member, or not every byte. It is printed already.
    Partly,
    /// Interrupted.
    Interrupted,
    /// Interrupted, and what was done until then is printed already.
    Stopped,
    /// The system failed.
    System(std::io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Call(Box::new(error))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::System(error)
    }
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Said(_) | Self::Refused => 1,
            Self::Call(error) => match error.kind() {
                Kind::Refused => 1,
                Kind::Corrupt => 3,
                _ => 4,
            },
            Self::Found => 3,
            Self::System(_) => 4,
            Self::Partly => 5,
            Self::Interrupted | Self::Stopped => 130,
        })
    }
}

/// Where a command prints to.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    /// Whether standard output, and standard error, are for somebody who sees colours.
    colours: bool,
    colours_of_errors: bool,
    /// What the uuids of an error are the names of.
    names: RefCell<Vec<String>>,
    /// Why standard output could not be written.
    unwritten: RefCell<Option<io::Error>>,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        let colours = knows_colours() && std::io::stdout().is_terminal();
        Self {
            json,
            colours,
            colours_of_errors: knows_colours() && std::io::stderr().is_terminal(),
            names: RefCell::default(),
            unwritten: RefCell::default(),
        }
    }

    /// What is said below an error.
    pub(crate) fn remember(&self, names: Vec<String>) {
        self.names.replace(names);
    }

    /// Whether everything was printed.
    pub(crate) fn ended(&self) -> Outcome {
        self.unwritten.take().map_or(Ok(()), |error| Err(Failure::System(error)))
    }

    /// Prints a text as it is.
    pub(crate) fn write(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // A reader who has gone away wants no more of it.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                self.unwritten.replace(Some(error));
            }
            _ => {}
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// One thing: its JSON in the envelope of the API, or a text.
    pub(crate) fn inventory(&self, inventory: &impl Serialize, text: impl FnOnce() -> String) {
        #[derive(Serialize)]
        struct Envelope<'a, T> {
            inventory: &'a T,
        }
        self.print(&Envelope { inventory }, text);
    }

    /// Many things.
    pub(crate) fn inventories(&self, inventories: &impl Serialize, text: impl FnOnce() -> String) {
        #[derive(Serialize)]
        struct Envelope<'a, T> {
            inventories: &'a T,
        }
        self.print(&Envelope { inventories }, text);
    }

    /// A value without an envelope, or one line.
    pub(crate) fn done(&self, value: &impl Serialize, text: &str) {
        self.print(value, || text.to_owned());
    }

    pub(crate) fn print(&self, value: &impl Serialize, text: impl FnOnce() -> String) {
        let text = if self.json {
            serde_json::to_string_pretty(value).expect("what is shown has a JSON form")
        } else {
            text()
        };
        self.write(&format!("{}\n", text.trim_end_matches('\n')));
    }

    pub(crate) fn fail(&self, failure: &Failure) {
        let code = match failure {
            Failure::Found | Failure::Refused | Failure::Partly | Failure::Stopped => return,
            Failure::Call(error) => error.to_error_code(),
            Failure::Said(said) => {
                ErrorCode::new("SYS.1007", "an argument is not valid").with_details(said.as_str())
            }
            Failure::System(error) => {
                ErrorCode::new("SYS.1016", "input or output failed").with_details(error.to_string())
            }
            Failure::Interrupted => {
                ErrorCode::new("SYS.1017", "the call was cancelled").with_details("interrupted")
            }
        };
        if self.json {
            self.write(&format!("{}\n", serde_json::json!({ "error": code })));
            // Whoever cannot be told there is told below.
            if self.unwritten.borrow().is_none() {
                return;
            }
        }
        eprintln!("{}: {}", red("error", self.colours_of_errors), code.on_one_line());
        for name in self.names.borrow().iter() {
            eprintln!("where {name}");
        }
        if let Failure::Call(error) = failure {
            for hint in [hint_of_system(error), hint(error)].into_iter().flatten() {
                eprintln!("hint: {hint}");
            }
        }
    }

    /// The lines of a deletion.
    pub(crate) fn deleted(&self, results: &[DeleteResult], done: &str) -> String {
        if results.is_empty() {
            return "no snapshots\n".to_owned();
        }
        let rows = results.iter().map(|line| {
            let done = if line.already_deleted { "was gone" } else { done };
            vec![uuid(line.snapshot_uuid), self.verdict(done, line.error.as_ref())]
        });
        table(&["SNAPSHOT", "RESULT"], rows.collect())
    }

    /// The lines of a revert.
    pub(crate) fn reverted(&self, results: &[RevertResult], done: &str) -> String {
        let rows = results.iter().map(|line| {
            let done = match (line.virtual_size_before, line.virtual_size) {
                (Some(before), Some(after)) => format!("{done}, {} -> {}", bytes(before), bytes(after)),
                _ => done.to_owned(),
            };
            vec![uuid(line.volume_uuid), self.verdict(&done, line.error.as_ref())]
        });
        table(&["VOLUME", "RESULT"], rows.collect())
    }

    pub(crate) fn verdict(&self, done: &str, error: Option<&ErrorCode>) -> String {
        match error {
            None => done.to_owned(),
            Some(error) => format!("{}: {}", red("refused", self.colours), error.on_one_line()),
        }
    }
}

/// Whether a terminal, if there is one, knows colours, and nobody said that they are unwanted.
pub(crate) fn knows_colours() -> bool {
    is_capable() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether somebody looks at a stream with something that knows colours and moves its cursor.
pub(crate) fn is_terminal(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && is_capable()
}

fn is_capable() -> bool {
    std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

fn red(text: &str, colours: bool) -> String {
    if colours { format!("\u{1b}[31m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// What somebody can do when the system has failed a call.
fn hint_of_system(error: &Error) -> Option<&'static str> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(deeper) = cause {
        if let Some(error) = deeper.downcast_ref::<io::Error>() {
            return Some(match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "make room on the file system; then `snapgroup reclaim` gives back what deletions still owe"
                }
                io::ErrorKind::ReadOnlyFilesystem => {
                    "a pool is written to whenever it is opened: its directory cannot be read-only"
                }
                io::ErrorKind::PermissionDenied => "its files belong to whoever made it: say it as that user",
                _ => return None,
            });
        }
        cause = deeper.source();
    }
    None
}

/// What somebody can do who was refused, in the words of this program.
fn hint(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::NoPool { .. } => "`snapgroup init` makes one; `--pool DIR` or SNAPGROUP_POOL says where",
        Error::Storage(storage::Error::Locked { .. }) => {
            "a pool has one owner at a time: wait for it, or stop it"
        }
        Error::NotOwner { .. } => "see to it that one program at a time has the pool, then say it again",
        Error::OutcomeUnknown(_) => {
            "the next command opens the pool again: `snapgroup snapshot list` and `snapgroup group list` show what is there"
        }
        Error::Catalog(_) if error.kind() == Kind::Corrupt => {
            "put a copy of snapgroup.redb back, or move it away and say `snapgroup rebuild`, which makes it anew from the files"
        }
        Error::SwitchUnknown { .. } => {
            "find out where the disks write to, then `snapgroup group commit` or `snapgroup group abort`"
        }
        Error::LayerMissing { .. } | Error::LayerDisagrees { .. } | Error::Layer { .. } => {
            "`snapgroup check` looks at every file"
        }
        Error::Refused(refusal) => return hint_of(refusal),
        _ => return None,
    })
}

fn hint_of(refusal: &Refusal) -> Option<&'static str> {
    Some(match refusal {
        Refusal::Quota { .. } | Refusal::QuotaBytes { .. } => {
            "`snapgroup group thin` makes room; `--pool-snapshots-max` and `--pool-bytes-max` are the quotas"
        }
        Refusal::ChainTooLong { .. } => {
            "delete older snapshots, take this one with `--full`, or say another `--chain-max` with `snapgroup volume update`"
        }
        Refusal::Held { .. } => "`snapgroup snapshot release` lets go of a hold",
        Refusal::RunsElsewhere { .. } => {
            "`snapgroup group prepare` is for machines that run; once this one is stopped, say `snapgroup vm running VM here`"
        }
        Refusal::RunsHere { .. } => "say `snapgroup vm running VM elsewhere` first",
        Refusal::BeingPrepared { .. } => "`snapgroup group commit` or `snapgroup group abort` ends that",
        Refusal::NotAvailable { .. } => {
            "`--matching` takes back the disks that the group and the machine both have"
        }
        Refusal::CatalogueThere { .. } => "`snapgroup check` says whether it is in order",
        _ => return None,
    })
}

pub(crate) fn uuid(uuid: Option<snapgroup::Uuid>) -> String {
    uuid.map_or_else(|| "-".to_owned(), |uuid| uuid.simple().to_string())
}

/// `1 layer`, `2 layers`.
pub(crate) fn counted(count: impl Into<u64>, what: &str) -> String {
    let count = count.into();
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// A number of bytes for people.
pub(crate) fn bytes(count: ByteCount) -> String {
    count.rounded()
}

/// Rows under their titles, in columns as wide as they must be.
pub(crate) fn table(titles: &[&str], rows: Vec<Vec<String>>) -> String {
    let titles = titles.iter().map(|title| (*title).to_owned()).collect::<Vec<_>>();
    let wide = |text: &String| text.chars().count();
    let mut widths: Vec<usize> = titles.iter().map(wide).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(wide(cell));
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&titles).chain(&rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - wide(cell) + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(kind: io::ErrorKind) -> Error {
        let operation = storage::Operation::Write;
        Error::Storage(storage::Error::Io { operation, name: "disk".to_owned(), source: kind.into() })
    }

    #[test]
    fn what_the_system_lacks_is_told_with_what_helps() {
        for (kind, helps) in [
            (io::ErrorKind::StorageFull, "make room"),
            (io::ErrorKind::QuotaExceeded, "make room"),
            (io::ErrorKind::ReadOnlyFilesystem, "read-only"),
            (io::ErrorKind::PermissionDenied, "as that user"),
        ] {
            // As deep as causes go.
            let deep = Error::NotReclaimed(Box::new(failed(kind)));
            for error in [failed(kind), deep] {
                let hint = hint_of_system(&error).unwrap_or_default();
                assert!(hint.contains(helps), "{error:?}: {hint}");
            }
        }
        assert_eq!(hint_of_system(&failed(io::ErrorKind::Other)), None);
        assert_eq!(hint_of_system(&Error::Refused(Refusal::SizeNeeded)), None);
    }
}
