//! QEMU's own tools, with failures that say what was run and what it answered.

use std::path::Path;
use std::process::{Command, Output};

/// A directory in which the tools run, so that names in images and in messages are relative.
pub(crate) struct Qemu<'a> {
    directory: &'a Path,
}

/// What `qemu-img check` says of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    Clean,
    Corrupt,
    Leaks,
}

impl<'a> Qemu<'a> {
    pub(crate) fn in_directory(directory: &'a Path) -> Self {
        Self { directory }
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let output = Command::new(program).args(arguments).current_dir(self.directory).output();
        output.unwrap_or_else(|error| {
            panic!("{program} does not start ({error}): these tests need QEMU's tools in the path")
        })
    }

    /// Runs `qemu-img` and answers what it printed.
    pub(crate) fn img(&self, arguments: &[&str]) -> String {
        self.succeed("qemu-img", arguments)
    }

    /// Runs a tool that must succeed.
    pub(crate) fn succeed(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(program, arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr);
        let status = output.status;
        assert!(status.success(), "{program} {arguments:?}: {status}\n{said}{complained}");
        said
    }

    /// Checks one image, not its chain. It may be open here.
    pub(crate) fn check(&self, image: &str) -> (Checked, String) {
        let output = self.run("qemu-img", &["check", "-U", "-f", "qcow2", image]);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        let checked = match output.status.code() {
            Some(0) => Checked::Clean,
            Some(2) => Checked::Corrupt,
            Some(3) => Checked::Leaks,
            other => panic!("qemu-img check {image}: {other:?}\n{said}"),
        };
        (checked, said)
    }
}
