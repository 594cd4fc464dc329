//! The agent in the guest.

use super::QmpError;
use super::connection::{Connection, malformed};
use crate::engine::{Consistency, HookError, Quiesce};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// Freezes the file systems of a guest through QEMU's guest agent, at the other end of a unix socket.
///
/// A guest of which at least one file system was frozen is [`Consistency::FileSystem`]; one that has none to freeze is
/// [`Consistency::Crash`]. Hooks that the agent runs in the guest may make more of it; it does not tell.
///
/// An example is at [`qmp`](crate::qmp).
#[derive(Debug)]
pub struct GuestAgent {
    socket: PathBuf,
    connection: Option<Connection>,
    frozen: u64,
}

impl GuestAgent {
    /// The agent at the socket of its channel. Nothing is asked before it is needed.
    #[must_use]
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), connection: None, frozen: 0 }
    }

    /// Asks for a number.
    fn count(&mut self, command: &str, within: Duration) -> Result<u64, QmpError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::to_agent(&self.socket, within)?,
        };
        let answer = connection.ask(command, &Value::Null, within);
        // After a timeout the answer may still come: the next question is asked anew.
        if matches!(answer, Ok(_) | Err(QmpError::Refused { .. })) {
            self.connection = Some(connection);
        }
        answer?.as_u64().ok_or_else(|| malformed(command, "no number"))
    }
}

impl Quiesce for GuestAgent {
    fn freeze(&mut self, within: Duration) -> Result<Consistency, HookError> {
        self.frozen = 0;
        self.frozen = self.count("guest-fsfreeze-freeze", within)?;
        Ok(if self.frozen > 0 { Consistency::FileSystem } else { Consistency::Crash })
    }

    fn thaw(&mut self, within: Duration) -> Result<(), HookError> {
        let thawed = self.count("guest-fsfreeze-thaw", within)?;
        // The channel takes one client at a time: it is given back.
        self.connection = None;
        match self.frozen {
            0 => Ok(()),
            _ if thawed > 0 => Ok(()),
            _ => Err("the guest had thawed by itself".into()),
        }
    }
}
