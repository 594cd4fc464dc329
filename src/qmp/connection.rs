//! One connection: a line of JSON for each command, a line for each answer, and events in between.

use super::QmpError;
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// The longest line that is taken: what QEMU says of many thousand nodes is shorter.
const LINE_MAX: usize = 64 << 20;
/// What begins the answer to `guest-sync-delimited`: no JSON has it.
const DELIMITER: u8 = 0xff;

/// A connection to a monitor or to an agent. After an error other than a refusal it is of no use any more: answers may
/// be under way to questions that nobody asks.
#[derive(Debug)]
pub(super) struct Connection {
    stream: BufReader<UnixStream>,
    asked: u64,
}

impl Connection {
    /// Connects to a monitor and negotiates.
    pub(super) fn to_monitor(socket: &Path, within: Duration) -> Result<Self, QmpError> {
        let mut connection = Self::open(socket)?;
        let deadline = Instant::now() + within;
        let greeting = connection.line("the greeting", deadline)?;
        if greeting.get("QMP").is_none() {
            return Err(malformed("the greeting", "it has no QMP"));
        }
        connection.ask("qmp_capabilities", &Value::Null, within)?;
        Ok(connection)
    }

    /// Connects to a guest agent and lets pass what it still has to say to those before.
    pub(super) fn to_agent(socket: &Path, within: Duration) -> Result<Self, QmpError> {
        let command = "guest-sync-delimited";
        let mut connection = Self::open(socket)?;
        let deadline = Instant::now() + within;
        let id = u64::from(std::process::id());
        let question = json!({ "execute": command, "arguments": { "id": id } });
        // An agent that is in the middle of a question of somebody before gives that up at this byte.
        connection.send(command, &[&[DELIMITER][..], question.to_string().as_bytes(), b"\n"].concat())?;
        loop {
            connection.skip_to_delimiter(command, deadline)?;
            if connection.line(command, deadline)?.get("return").and_then(Value::as_u64) == Some(id) {
                return Ok(connection);
            }
        }
    }

    fn open(socket: &Path) -> Result<Self, QmpError> {
        let stream = UnixStream::connect(socket)
            .map_err(|source| QmpError::Connect { socket: socket.display().to_string(), source })?;
        Ok(Self { stream: BufReader::new(stream), asked: 0 })
    }

    /// Asks, and answers what was returned. Events are passed over.
    pub(super) fn ask(
        &mut self,
        command: &str,
        arguments: &Value,
        within: Duration,
    ) -> Result<Value, QmpError> {
        let deadline = Instant::now() + within;
        self.asked += 1;
        let mut question = json!({ "execute": command, "id": self.asked });
        if !arguments.is_null() {
            question["arguments"] = arguments.clone();
        }
        self.send(command, format!("{question}\n").as_bytes())?;
        loop {
            let mut answer = self.line(command, deadline)?;
            if answer.get("event").is_some() {
                continue;
            }
            // An agent of before QEMU 4 does not repeat the id.
            if answer.get("id").is_some_and(|id| *id != json!(self.asked)) {
                return Err(malformed(command, "it is the answer to another question"));
            }
            if let Some(error) = answer.get("error") {
                let text = |field| error.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
                return Err(QmpError::Refused {
                    command: command.to_owned(),
                    class: text("class"),
                    desc: text("desc"),
                });
            }
            let returned = answer.get_mut("return").map(Value::take);
            return returned.ok_or_else(|| malformed(command, "neither a return nor an error"));
        }
    }

    fn send(&mut self, command: &str, bytes: &[u8]) -> Result<(), QmpError> {
        self.stream.get_mut().write_all(bytes).map_err(|source| unanswered(command, source))
    }

    /// The next line.
    fn line(&mut self, command: &str, deadline: Instant) -> Result<Value, QmpError> {
        let line = self.until(command, b'\n', deadline)?;
        serde_json::from_slice(&line).map_err(|error| malformed(command, error.to_string()))
    }

    fn skip_to_delimiter(&mut self, command: &str, deadline: Instant) -> Result<(), QmpError> {
        self.until(command, DELIMITER, deadline).map(drop)
    }

    /// Everything up to a byte, which is taken, too.
    fn until(&mut self, command: &str, last: u8, deadline: Instant) -> Result<Vec<u8>, QmpError> {
        let mut bytes = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(unanswered(command, io::ErrorKind::TimedOut.into()));
            }
            let timed = self.stream.get_ref().set_read_timeout(Some(left));
            timed.map_err(|source| unanswered(command, source))?;
            let (taken, is_whole) = match self.stream.fill_buf() {
                Ok([]) => return Err(unanswered(command, io::ErrorKind::UnexpectedEof.into())),
                Ok(found) => {
                    let end = found.iter().position(|byte| *byte == last);
                    let taken = end.map_or(found.len(), |end| end + 1);
                    bytes.extend_from_slice(&found[..taken]);
                    (taken, end.is_some())
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(unanswered(command, io::ErrorKind::TimedOut.into()));
                }
                Err(error) => return Err(unanswered(command, error)),
            };
            self.stream.consume(taken);
            if is_whole {
                return Ok(bytes);
            }
            if bytes.len() > LINE_MAX {
                return Err(malformed(command, "it does not end"));
            }
        }
    }
}

pub(super) fn malformed(command: &str, rule: impl Into<String>) -> QmpError {
    QmpError::Malformed { command: command.to_owned(), rule: rule.into() }
}

fn unanswered(command: &str, source: io::Error) -> QmpError {
    QmpError::Unanswered { command: command.to_owned(), source }
}
