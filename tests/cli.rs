//! The program for the command line, run as a person and as a script would run it.
#![cfg(target_os = "linux")]

use serde_json::Value;
use snapgroup::inventory::{GroupInventory, InventoriesAnswer};
use std::error::Error;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

type Outcome = Result<(), Box<dyn Error>>;
type Made<T> = Result<T, Box<dyn Error>>;

/// A pool, and the program on it.
struct Shell {
    pool: TempDir,
}

impl Shell {
    fn new() -> Made<Self> {
        Ok(Self { pool: TempDir::new()? })
    }

    fn run(&self, line: &str) -> Made<Output> {
        let words = line.split_whitespace();
        let program = Path::new(env!("CARGO_BIN_EXE_snapgroup"));
        Ok(Command::new(program).env("SNAPGROUP_POOL", self.pool.path()).args(words).output()?)
    }

    /// Runs a command that must succeed; what it printed.
    fn ok(&self, line: &str) -> Made<String> {
        let output = self.run(line)?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {complaint}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs a command that must fail; its exit code, and what it complained of.
    fn fails(&self, line: &str) -> Made<(i32, String)> {
        let output = self.run(line)?;
        let code = output.status.code().ok_or("killed")?;
        assert_ne!(code, 0, "{line} succeeded");
        Ok((code, String::from_utf8(output.stderr)?))
    }

    fn json(&self, line: &str) -> Made<Value> {
        Ok(serde_json::from_str(&self.ok(&format!("--json {line}"))?)?)
    }
}

/// Two groups of a disk, the first deleted, the disk back at the second: what the README shows.
fn walk_through(shell: &Shell, adopt: &str) -> Outcome {
    shell.ok("init")?;
    shell.ok("vm create web-1")?;
    shell.ok(adopt)?;
    shell.ok("group create web-1 monday")?;
    shell.ok("group create web-1 tuesday")?;
    let plan = shell.json("plan delete monday")?;
    assert_eq!(plan["possible"], true);
    let deleted = shell.json("group delete monday")?;
    assert_eq!(deleted["results"][0]["success"], true);
    assert_eq!(deleted["owed"].as_array().map(Vec::len), Some(0));
    shell.ok("group revert tuesday --keep")?;
    assert!(shell.ok("check")?.contains("clean"));
    let groups: InventoriesAnswer<GroupInventory> = serde_json::from_str(&shell.ok("--json group list")?)?;
    let groups = groups.0.map_err(|error| error.to_string())?;
    assert_eq!(groups.len(), 2, "tuesday, and what was before the revert");
    let tree = shell.ok("group tree web-1")?;
    assert!(tree.contains("tuesday") && tree.contains("◀ current"), "{tree}");
    Ok(())
}

#[test]
fn two_groups_a_deletion_and_a_revert_take_under_ten_commands() -> Outcome {
    let shell = Shell::new()?;
    std::fs::write(shell.pool.path().join("golden.raw"), vec![5; 1 << 20])?;
    walk_through(&shell, "adopt golden.raw --format raw --name disk --vm web-1 --root")
}

#[test]
#[ignore = "needs qemu-img"]
fn a_chain_of_qemu_is_adopted_and_read_by_qemu_afterwards() -> Outcome {
    let shell = Shell::new()?;
    let qemu = |program: &str, arguments: &[&str]| -> Outcome {
        let output = Command::new(program).args(arguments).current_dir(shell.pool.path()).output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {complaint}");
        Ok(())
    };
    qemu("qemu-img", &["create", "-q", "-f", "qcow2", "base.qcow2", "8M"])?;
    qemu("qemu-io", &["-f", "qcow2", "-c", "write -P 5 0 1M", "base.qcow2"])?;
    qemu("qemu-img", &["create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "disk.qcow2"])?;
    qemu("qemu-io", &["-f", "qcow2", "-c", "write -P 6 64k 64k", "disk.qcow2"])?;
    walk_through(&shell, "adopt disk.qcow2 --format qcow2 --vm web-1 --root")?;
    let shown = shell.json("volume show disk")?;
    let head = shown["inventory"]["installPath"].as_str().ok_or("a path")?.to_owned();
    qemu("qemu-io", &["-r", "-f", "qcow2", "-c", "read -P 5 0 64k", "-c", "read -P 6 64k 64k", &head])?;
    qemu("qemu-img", &["check", "-q", "-f", "qcow2", &head])
}

#[test]
fn what_is_said_wrongly_is_told_and_changes_nothing() -> Outcome {
    let shell = Shell::new()?;
    let (code, said) = shell.fails("vm list")?;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("no pool") || said.contains("not a pool"), "{said}");
    assert_eq!(std::fs::read_dir(shell.pool.path())?.count(), 0, "a mistyped path makes no pool");
    shell.ok("init")?;
    shell.ok("vm create one")?;
    shell.ok("vm create two")?;
    shell.ok("vm create two")?;
    for (line, expected, hint) in [
        ("group show nosuch", 1, "there is no group \"nosuch\""),
        ("vm show two", 1, "say which by its uuid"),
        ("group create one g", 1, "no"),
        ("volume create disk ten", 2, "no number of bytes"),
        ("volume create disk --base golden.raw", 1, "does not end in :raw or :qcow2"),
        ("adopt nosuch.qcow2 --format qcow2", 1, "nosuch.qcow2"),
        ("snapshot delete", 2, "required"),
        ("volume create disk 1000", 1, "512"),
        ("nonsense", 2, "unrecognized"),
    ] {
        let before = shell.ok("--json vm list")?;
        let (code, said) = shell.fails(line)?;
        assert_eq!(code, expected, "{line}: {said}");
        assert!(said.contains(hint), "{line}: {said}");
        assert_eq!(shell.ok("--json vm list")?, before);
    }
    Ok(())
}

#[test]
fn a_refusal_is_an_error_code_in_json_and_an_exit_code() -> Outcome {
    let shell = Shell::new()?;
    shell.ok("init")?;
    shell.ok("vm create web-1")?;
    shell.ok("volume create disk 1M --vm web-1 --root")?;
    shell.ok("group create web-1 monday")?;
    shell.ok("snapshot hold monday-disk audit")?;
    let refused = shell.run("--json group delete monday")?;
    assert_eq!(refused.status.code(), Some(5));
    let refused: Value = serde_json::from_slice(&refused.stdout)?;
    assert_eq!(refused["results"][0]["error"]["code"], "SYS.1004");
    let absent = shell.run("--json snapshot show nosuch")?;
    let absent: Value = serde_json::from_slice(&absent.stdout)?;
    assert_eq!(absent["error"]["code"], "SYS.1007");
    shell.ok("snapshot release monday-disk audit")?;
    shell.ok("group delete monday")?;
    Ok(())
}

#[test]
fn a_snapshot_is_read_compared_and_exported() -> Outcome {
    let shell = Shell::new()?;
    std::fs::write(shell.pool.path().join("golden.raw"), vec![7; 64 << 10])?;
    shell.ok("init")?;
    shell.ok("adopt golden.raw --format raw --name disk --snapshots")?;
    shell.ok("snapshot create disk monday")?;
    let read = shell.run("read monday --at 1k --length 512")?;
    assert_eq!(read.stdout, [7; 512]);
    let extents = shell.json("diff - monday")?;
    assert_eq!(extents["extents"][0]["length"], 64 << 10);
    let target = shell.pool.path().join("out.raw");
    shell.ok(&format!("export monday {} --format raw", target.display()))?;
    assert_eq!(std::fs::read(&target)?, vec![7; 64 << 10]);
    let (code, said) = shell.fails(&format!("export monday {}", target.display()))?;
    assert!(code == 1 || code == 4, "{said}");
    assert_eq!(std::fs::read(&target)?, vec![7; 64 << 10], "what is there stays");
    Ok(())
}

#[test]
fn pictures_completions_and_help_are_printed_and_a_closed_pipe_is_no_crash() -> Outcome {
    let shell = Shell::new()?;
    shell.ok("init")?;
    shell.ok("volume create disk 1M")?;
    assert!(shell.ok("volume tree disk --format svg")?.starts_with("<svg"));
    assert!(shell.ok("volume tree disk --format dot")?.starts_with("digraph"));
    assert!(shell.ok("completions bash")?.contains("snapgroup"));
    assert!(shell.ok("--help")?.contains("Exit codes"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_snapgroup"))
        .env("SNAPGROUP_POOL", shell.pool.path())
        .args(["volume", "list"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    drop(child.stdout.take());
    let output = child.wait_with_output()?;
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
    Ok(())
}

#[test]
fn a_lost_catalogue_is_made_anew_and_what_is_left_is_repaired() -> Outcome {
    let shell = Shell::new()?;
    shell.ok("init")?;
    shell.ok("vm create web-1")?;
    shell.ok("volume create system 1M --vm web-1 --root")?;
    shell.ok("group create web-1 monday")?;
    let (code, complaint) = shell.fails("rebuild")?;
    assert!(code == 1 && complaint.contains("move it away"), "{code} {complaint}");
    std::fs::remove_file(shell.pool.path().join("snapgroup.redb"))?;

    let rebuilt = shell.json("rebuild")?;
    assert_eq!(
        (&rebuilt["whole"], rebuilt["groups"].as_array().map(Vec::len)),
        (&Value::Bool(true), Some(1))
    );
    assert!(shell.ok("group list web-1")?.contains("monday"));
    shell.ok("group revert monday")?;
    shell.ok("check")?;
    let repaired = shell.json("repair --dry-run")?;
    assert_eq!((&repaired["whole"], &repaired["removed"]), (&Value::Bool(true), &serde_json::json!([])));
    assert!(shell.ok("repair system")?.contains("nothing is left to mend"));

    // A file that is missing is told of, in the exit code as well.
    let shown = shell.json("volume show system")?;
    let head = shown["inventory"]["installPath"].as_str().ok_or("a path")?;
    std::fs::write(head, b"not an image any more")?;
    std::fs::remove_file(shell.pool.path().join("snapgroup.redb"))?;
    let told = shell.run("rebuild")?;
    assert_eq!(told.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&told.stdout).contains("its header cannot be read"));
    Ok(())
}
