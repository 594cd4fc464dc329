//! What is printed: tables for people, the API's JSON for programs; and what a failure comes to.

use serde::Serialize;
use snapgroup::inventory::{DeleteResult, ErrorCode, RevertResult};
use snapgroup::{ByteCount, Error, Kind};
use std::io::{IsTerminal, Write};
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
    /// Not every member, or not every byte. It is printed already.
    Partly,
    /// Interrupted.
    Interrupted,
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
            Self::Said(_) => 1,
            Self::Call(error) => match error.kind() {
                Kind::Refused => 1,
                Kind::Corrupt => 3,
                _ => 4,
            },
            Self::Found => 3,
            Self::System(_) => 4,
            Self::Partly => 5,
            Self::Interrupted => 130,
        })
    }
}

/// Where a command prints to.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    colours: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { json, colours }
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
        write(&format!("{}\n", text.trim_end_matches('\n')));
    }

    pub(crate) fn fail(&self, failure: &Failure) {
        let code = match failure {
            Failure::Found | Failure::Partly => return,
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
            write(&format!("{}\n", serde_json::json!({ "error": code })));
            return;
        }
        eprintln!("{}: {}", self.red("error"), chain_of(&code));
    }

    /// The lines of a deletion.
    pub(crate) fn deleted(&self, results: &[DeleteResult]) -> String {
        let rows = results.iter().map(|line| {
            let done = if line.already_deleted { "was gone" } else { "deleted" };
            vec![uuid(line.snapshot_uuid), self.verdict(done, line.error.as_ref())]
        });
        table(&["SNAPSHOT", "RESULT"], rows.collect())
    }

    /// The lines of a revert.
    pub(crate) fn reverted(&self, results: &[RevertResult]) -> String {
        let rows = results.iter().map(|line| {
            let done = match (line.virtual_size_before, line.virtual_size) {
                (Some(before), Some(after)) => format!("reverted, {} -> {}", bytes(before), bytes(after)),
                _ => "reverted".to_owned(),
            };
            vec![uuid(line.volume_uuid), self.verdict(&done, line.error.as_ref())]
        });
        table(&["VOLUME", "RESULT"], rows.collect())
    }

    pub(crate) fn verdict(&self, done: &str, error: Option<&ErrorCode>) -> String {
        match error {
            None => done.to_owned(),
            Some(error) => format!("{}: {}", self.red("refused"), chain_of(error)),
        }
    }

    fn red(&self, text: &str) -> String {
        if self.colours { format!("\u{1b}[31m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Prints a text as it is.
pub(crate) fn write(text: &str) {
    // A reader who has gone away wants no more of it.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// An error with everything that caused it, on one line.
pub(crate) fn chain_of(code: &ErrorCode) -> String {
    let mut said = code.details.clone().unwrap_or_else(|| code.description.clone());
    let mut cause = code.cause.as_deref();
    while let Some(deeper) = cause {
        if let Some(details) = &deeper.details {
            said = format!("{said}: {details}");
        }
        cause = deeper.cause.as_deref();
    }
    format!("{said} ({})", code.code)
}

pub(crate) fn uuid(uuid: Option<snapgroup::Uuid>) -> String {
    uuid.map_or_else(|| "-".to_owned(), |uuid| uuid.simple().to_string())
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
