//! Groups of machines that run, by the commands of the program: with nobody at the disks, and below a daemon of QEMU that is
//! written to.

use super::daemon::{NUMBERS, Qemu, Writer};
use super::{Made, Outcome, Shell};
use serde_json::{Value, json};
use snapgroup::{Engine, Options};
use std::path::Path;
use tempfile::TempDir;

#[test]
fn a_group_of_a_machine_that_runs_is_prepared_and_committed_by_two_commands() -> Outcome {
    let shell = Shell::new()?;
    shell.ok("init")?;
    shell.ok("vm create web-1")?;
    shell.ok("volume create disk 1M --vm web-1 --root")?;
    let (code, said) = shell.fails("group prepare web-1 monday")?;
    assert!(code == 1 && said.contains("vm running VM elsewhere"), "{said}");
    shell.ok("vm running web-1 elsewhere")?;
    let (code, said) = shell.fails("group create web-1 monday")?;
    assert!(code == 1 && said.contains("group prepare"), "{said}");
    let prepared = shell.json("group prepare web-1 monday")?;
    let overlay = prepared["disks"][0]["blockdevAdd"]["file"]["filename"].as_str().ok_or("a path")?;
    assert!(Path::new(overlay).is_file());
    assert_eq!(shell.json("group prepared")?["inventories"][0]["name"], "monday");
    let (code, said) = shell.fails("group prepare web-1 tuesday")?;
    assert!(code == 1 && said.contains("group commit"), "{said}");
    let committed = shell.json("group commit monday --consistency file-system")?;
    assert_eq!(committed["inventory"]["consistency"], "FileSystem");
    assert_eq!(shell.json("volume show disk")?["inventory"]["installPath"], overlay);

    shell.ok("group prepare web-1 tuesday")?;
    shell.ok("group abort tuesday")?;
    assert_eq!(shell.json("group prepared")?["inventories"], serde_json::json!([]));
    let (code, said) = shell.fails("group commit tuesday")?;
    assert!(code == 1 && said.contains("group prepared"), "{said}");
    shell.ok("vm running web-1 here")?;
    shell.ok("check").map(drop)
}

/// A machine of two disks that a daemon of QEMU has open, and somebody who writes to them.
struct Running {
    shell: Shell,
    /// For the sockets of the daemon.
    home: TempDir,
    daemon: Qemu,
    writer: Writer,
}

impl Running {
    const DISKS: [&str; 2] = ["system", "data"];

    fn start() -> Made<Self> {
        let (shell, home) = (Shell::new()?, TempDir::new()?);
        shell.ok("init")?;
        shell.ok("vm create web-1")?;
        shell.ok("volume create system 4M --vm web-1 --root")?;
        shell.ok("volume create data 4M --vm web-1")?;
        shell.ok("vm running web-1 elsewhere")?;
        let daemon = Qemu::daemon(home.path(), &heads(&shell)?)?;
        let writer = Writer::at(home.path(), Self::DISKS.len())?;
        writer.go_on()?;
        Ok(Self { shell, home, daemon, writer })
    }

    /// Switches every disk to what a prepared group said, all of them in one transaction.
    fn switch(&mut self, prepared: &Value) -> Outcome {
        let before = self.daemon.exported()?;
        let mut actions = Vec::new();
        for (node, disk) in before.iter().zip(prepared["disks"].as_array().ok_or("disks")?) {
            self.daemon.ask("blockdev-add", disk["blockdevAdd"].clone())?;
            let data = json!({ "node": node, "overlay": disk["blockdevAdd"]["node-name"] });
            actions.push(json!({ "type": "blockdev-snapshot", "data": data }));
        }
        self.daemon.ask("transaction", json!({ "actions": actions })).map(drop)
    }

    /// Ends the machine; the disks are as the writer left them, and each group is of one moment.
    fn end(self, groups: &[&str]) -> Outcome {
        let Self { shell, home: _home, daemon, writer } = self;
        writer.go_on()?;
        let last = writer.finish()?;
        daemon.quit()?;
        shell.ok("vm running web-1 here")?;
        assert!(shell.ok("check")?.contains("clean"));
        let first =
            |of: &str| -> Made<u64> { Ok(shell.run(&format!("read {of} --length 1"))?.stdout[0].into()) };
        for group in groups {
            let (system, data) = (first(&format!("{group}-system"))?, first(&format!("{group}-data"))?);
            let behind = (system + NUMBERS - data) % NUMBERS;
            assert!(behind <= 1, "{group}: {system} and {data}");
        }
        for disk in Self::DISKS {
            assert_eq!(first(disk)?, 1 + last % NUMBERS, "{disk}");
        }
        Ok(())
    }
}

/// Where the books say that the disks write to.
fn heads(shell: &Shell) -> Made<Vec<String>> {
    let mut heads = Vec::new();
    for disk in Running::DISKS {
        let shown = shell.json(&format!("volume show {disk}"))?;
        heads.push(shown["inventory"]["installPath"].as_str().ok_or("a path")?.to_owned());
    }
    Ok(heads)
}

fn overlays(prepared: &Value) -> Made<Vec<String>> {
    let disks = prepared["disks"].as_array().ok_or("disks")?.iter();
    let files = disks.map(|disk| disk["blockdevAdd"]["file"]["filename"].as_str().map(str::to_owned));
    files.collect::<Option<_>>().ok_or_else(|| "a path".into())
}

#[test]
#[ignore = "needs qemu-storage-daemon and qemu-io"]
fn a_daemon_that_is_written_to_is_switched_by_hand_between_two_commands() -> Outcome {
    let mut running = Running::start()?;
    let prepared = running.shell.json("group prepare web-1 monday")?;
    let before = heads(&running.shell)?;
    running.switch(&prepared)?;
    // Nobody has committed yet: the group is listed, the books are those of before, and what is in use stays.
    let shell = &running.shell;
    assert_eq!(shell.json("group prepared")?["inventories"][0]["name"], "monday");
    assert_eq!(heads(shell)?, before);
    let (code, said) = shell.fails("group abort monday")?;
    assert!(code == 1 && said.contains("in use"), "{code} {said}");
    running.writer.go_on()?;
    shell.ok("group commit monday")?;
    assert_eq!(heads(shell)?, overlays(&prepared)?);
    assert_eq!(shell.json("group prepared")?["inventories"], json!([]));
    running.writer.go_on()?;

    // One that nobody switched to is given up, and the disks go on as they are.
    let before = heads(shell)?;
    let prepared = shell.json("group prepare web-1 tuesday")?;
    shell.ok("group abort tuesday")?;
    assert!(overlays(&prepared)?.iter().all(|overlay| !Path::new(overlay).exists()));
    assert_eq!(heads(shell)?, before);
    assert_eq!(shell.json("group list web-1")?["inventories"].as_array().map(Vec::len), Some(1));
    running.end(&["monday"])
}

#[test]
#[ignore = "needs qemu-storage-daemon and qemu-io"]
fn a_machine_that_died_after_the_switch_is_committed_later_and_before_it_is_given_up() -> Outcome {
    for is_switched in [true, false] {
        let mut running = Running::start()?;
        let prepared = running.shell.json("group prepare web-1 monday")?;
        if is_switched {
            running.switch(&prepared)?;
            running.writer.go_on()?;
        }
        let Running { shell, home: _home, daemon, writer } = running;
        daemon.kill()?;
        // It writes to nobody any more.
        assert!(writer.finish().is_err());
        if is_switched {
            let (code, said) = shell.fails("group abort monday")?;
            assert!(code == 1 && said.contains("written"), "what the guest wrote is not thrown away: {said}");
            shell.ok("group commit monday")?;
            assert_eq!(heads(&shell)?, overlays(&prepared)?);
        } else {
            shell.ok("group abort monday")?;
        }
        shell.ok("vm running web-1 here")?;
        // A daemon that is killed may leave clusters behind that nothing names.
        let engine = Engine::open(shell.pool.path(), Options::default())?;
        assert!(engine.check()?.is_sound());
        engine.close()?;
        let byte = shell.run("read system --length 1")?.stdout;
        assert!(byte != [0], "the last round before it was killed is there");
    }
    Ok(())
}

#[cfg(feature = "qmp")]
#[test]
#[ignore = "needs qemu-storage-daemon and qemu-io"]
fn one_command_takes_groups_of_a_daemon_that_is_written_to() -> Outcome {
    let mut running = Running::start()?;
    let monitor = running.home.path().join("monitor");
    for name in ["monday", "tuesday", "wednesday"] {
        running.shell.ok(&format!("group create web-1 {name} --qmp {}", monitor.display()))?;
        let files: Vec<String> = heads(&running.shell)?;
        let nodes = running.daemon.exported()?;
        for (file, node) in files.iter().zip(&nodes) {
            let short = node.strip_prefix("snapgroup-").ok_or("a node of ours")?;
            assert!(file.contains(short), "the books and the graph of QEMU differ: {file}, {node}");
        }
        running.writer.go_on()?;
    }
    let (code, said) = running.shell.fails("group create web-1 thursday --qmp nosuch")?;
    assert!(code != 0 && said.contains("nosuch"), "{code} {said}");
    assert_eq!(running.shell.json("group prepared")?["inventories"], json!([]));
    running.end(&["monday", "tuesday", "wednesday"])
}
