//! Another process that has an image open for writing.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// A `qemu-io` that keeps an image open for writing until it is dropped. It changes nothing.
pub(crate) struct Writer {
    child: Child,
    /// Open as long as it lives: it prompts once more, and ends when nobody can read that.
    _stdout: BufReader<ChildStdout>,
}

impl Writer {
    pub(crate) fn of(image: impl AsRef<Path>) -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new("qemu-io")
            .args(["-f", "qcow2"])
            .arg(image.as_ref())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        // It answers once it has opened the image, and then waits for the next command.
        let mut stdin = child.stdin.take().ok_or("piped")?;
        writeln!(stdin, "read 0 512")?;
        stdin.flush()?;
        child.stdin = Some(stdin);
        let mut stdout = BufReader::new(child.stdout.take().ok_or("piped")?);
        let answered =
            stdout.by_ref().lines().map_while(Result::ok).any(|line| line.contains("read 512/512"));
        let writer = Self { child, _stdout: stdout };
        assert!(answered, "the writer could not open the image");
        Ok(writer)
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        drop(ended);
    }
}
