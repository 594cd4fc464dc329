//! QEMU's programs, as processes.

use crate::Result;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Runs one of QEMU's programs to its end.
pub fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{program} {}: {}: {said}", arguments.join(" "), output.status).into())
}

/// The version, when `qemu-img` and `qemu-io` are installed.
pub fn version() -> Option<String> {
    static VERSION: OnceLock<Option<String>> = OnceLock::new();
    let ask = || {
        run("qemu-io", &["--version"]).ok()?;
        let output = Command::new("qemu-img").arg("--version").output().ok()?;
        let said = String::from_utf8(output.stdout).ok()?;
        said.split_whitespace().nth(2).map(str::to_owned)
    };
    VERSION.get_or_init(ask).clone()
}

/// Whether QEMU is here to be measured.
pub fn is_here() -> bool {
    version().is_some()
}
