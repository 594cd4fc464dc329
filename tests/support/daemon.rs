//! A `qemu-storage-daemon` with the disks of a machine, and a writer at its exports.

use serde_json::{Value, json};
use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// The numbers that a writer counts through: one byte each, none of them 0.
pub(crate) const NUMBERS: u64 = 251;

/// A process of QEMU whose control monitor is its standard input and output.
pub(crate) struct Qemu {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Qemu {
    pub(crate) fn start(program: &str, arguments: &[String]) -> Outcome<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{program} does not start: {error}"))?;
        let (stdin, stdout) = (child.stdin.take().ok_or("piped")?, child.stdout.take().ok_or("piped")?);
        let mut qemu = Self { child, stdin, stdout: BufReader::new(stdout) };
        assert!(qemu.line()?.get("QMP").is_some());
        qemu.ask("qmp_capabilities", Value::Null)?;
        Ok(qemu)
    }

    /// A storage daemon that exports these files as `d0`, `d1` ..., with a monitor at a socket of its own.
    pub(crate) fn daemon(directory: &Path, heads: &[String]) -> Outcome<Self> {
        for socket in ["nbd", "monitor"] {
            drop(std::fs::remove_file(directory.join(socket)));
        }
        let socket = |name: &str| directory.join(name).display().to_string();
        let mut arguments =
            vec!["--nbd-server".to_owned(), format!("addr.type=unix,addr.path={}", socket("nbd"))];
        for (index, head) in heads.iter().enumerate() {
            let node = json!({ "driver": "qcow2", "node-name": format!("disk{index}"),
                "file": { "driver": "file", "filename": head } });
            arguments.extend(["--blockdev".to_owned(), node.to_string(), "--export".to_owned()]);
            arguments.push(format!("type=nbd,id=e{index},node-name=disk{index},name=d{index},writable=on"));
        }
        arguments.extend([
            "--chardev".to_owned(),
            format!("socket,id=other,path={},server=on,wait=off", socket("monitor")),
            "--monitor".to_owned(),
            "chardev=other".to_owned(),
            "--chardev".to_owned(),
            "stdio,id=own".to_owned(),
            "--monitor".to_owned(),
            "chardev=own".to_owned(),
        ]);
        Self::start("qemu-storage-daemon", &arguments)
    }

    fn line(&mut self) -> Outcome<Value> {
        loop {
            let mut line = String::new();
            if self.stdout.read_line(&mut line)? == 0 {
                return Err("QEMU has ended".into());
            }
            // What its commands print goes the same way.
            if line.starts_with('{') {
                return Ok(serde_json::from_str(&line)?);
            }
        }
    }

    pub(crate) fn ask(&mut self, command: &str, arguments: Value) -> Outcome<Value> {
        let mut question = json!({ "execute": command });
        if !arguments.is_null() {
            question["arguments"] = arguments;
        }
        // In one piece: QEMU does what it is told at the last bracket, and may have ended when a line end comes.
        self.stdin.write_all(format!("{question}\n").as_bytes())?;
        loop {
            let answer = self.line()?;
            if answer.get("event").is_none() {
                return answer.get("return").cloned().ok_or_else(|| format!("{command}: {answer}").into());
            }
        }
    }

    /// The names of the nodes that the exports write to.
    pub(crate) fn exported(&mut self) -> Outcome<Vec<String>> {
        let exports = self.ask("query-block-exports", Value::Null)?;
        let mut found: Vec<(String, String)> = Vec::new();
        for export in exports.as_array().ok_or("a list")? {
            let text = |field: &str| export[field].as_str().unwrap_or_default().to_owned();
            found.push((text("id"), text("node-name")));
        }
        found.sort();
        Ok(found.into_iter().map(|(_, node)| node).collect())
    }

    pub(crate) fn quit(mut self) -> Outcome {
        self.ask("quit", Value::Null)?;
        assert!(self.child.wait()?.success());
        Ok(())
    }

    pub(crate) fn kill(mut self) -> Outcome {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        drop(self.child.kill().and_then(|()| self.child.wait()));
    }
}

/// A `qemu-io` with a disk or a file open.
pub(crate) struct Io {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Io {
    fn on(format: &str, image: &str) -> Outcome<Self> {
        let mut child = Command::new("qemu-io")
            .args(["-f", format, image])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (stdin, stdout) = (child.stdin.take().ok_or("piped")?, child.stdout.take().ok_or("piped")?);
        let mut io = Self { child, stdin, stdout: BufReader::new(stdout) };
        io.until_prompt()?;
        Ok(io)
    }

    pub(crate) fn export(directory: &Path, index: usize) -> Outcome<Self> {
        let socket = directory.join("nbd").display().to_string();
        Self::on("raw", &format!("nbd+unix:///d{index}?socket={socket}"))
    }

    /// Runs one command. It answers with whatever it says, and with a prompt; the next one is given after that.
    pub(crate) fn run(&mut self, command: &str, expected: &str) -> Outcome {
        self.stdin.write_all(format!("{command}\n").as_bytes())?;
        let said = self.until_prompt()?;
        if !said.contains(expected) || said.contains("failed") || said.contains("error") {
            return Err(format!("{command}: {said}").into());
        }
        Ok(())
    }

    fn until_prompt(&mut self) -> Outcome<String> {
        let mut said = Vec::new();
        while !said.ends_with(b"qemu-io> ") {
            let mut byte = [0];
            self.stdout.read_exact(&mut byte)?;
            said.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    pub(crate) fn flush(&mut self) -> Outcome {
        self.run("flush", "")
    }

    pub(crate) fn write(&mut self, number: u64) -> Outcome {
        let byte = 1 + number % NUMBERS;
        self.run(&format!("write -P {byte} 0 512"), "wrote 512/512")?;
        self.run(&format!("write -P {byte} {} 512", 65_536 * (1 + number % 32)), "wrote 512/512")
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        drop(self.child.kill().and_then(|()| self.child.wait()));
    }
}

/// Writes one number after the other to every disk, one disk after the other, until it is told to stop.
pub(crate) struct Writer {
    stop: Arc<AtomicBool>,
    rounds: Receiver<u64>,
    running: JoinHandle<Result<u64, String>>,
}

impl Writer {
    /// At the first so many disks of a daemon.
    pub(crate) fn at(directory: &Path, count: usize) -> Outcome<Self> {
        let mut disks = Vec::new();
        for index in 0..count {
            disks.push(Io::export(directory, index)?);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, rounds) = channel();
        let told = Arc::clone(&stop);
        let running = std::thread::spawn(move || {
            let mut number = 0;
            while !told.load(Ordering::Relaxed) {
                number += 1;
                for disk in &mut disks {
                    disk.write(number).map_err(|error| error.to_string())?;
                }
                // Whoever started it may have ended.
                let _ = tell.send(number);
            }
            for disk in &mut disks {
                disk.flush().map_err(|error| error.to_string())?;
            }
            Ok(number)
        });
        Ok(Self { stop, rounds, running })
    }

    /// Waits until some more rounds are done.
    pub(crate) fn go_on(&self) -> Outcome {
        let latest = self.rounds.try_iter().last().unwrap_or(0);
        while self.rounds.recv()? < latest + 3 {}
        Ok(())
    }

    pub(crate) fn finish(self) -> Outcome<u64> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.running.join().map_err(|_| "the writer panicked")??)
    }
}
