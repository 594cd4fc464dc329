//! The program for the command line, run as a person and as a script would run it.
#![cfg(target_os = "linux")]

#[path = "support/daemon.rs"]
mod daemon;
#[path = "cli/live.rs"]
mod live;
#[path = "cli/mistakes.rs"]
mod mistakes;
#[path = "cli/terminal.rs"]
mod terminal;

use serde_json::{Value, json};
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

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_snapgroup"));
        command.env("SNAPGROUP_POOL", self.pool.path()).args(line.split_whitespace());
        command
    }

    fn run(&self, line: &str) -> Made<Output> {
        Ok(self.command(line).output()?)
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
fn a_base_beside_the_pool_is_read_where_the_program_is_told_of_it() -> Outcome {
    let (shell, golden) = (Shell::new()?, TempDir::new()?);
    let base = golden.path().canonicalize()?.join("base.raw");
    std::fs::write(&base, vec![5; 1 << 20])?;
    let create = format!("volume create disk --base {}:raw", base.display());
    shell.ok("init")?;
    let (code, complaint) = shell.fails(&create)?;
    assert_eq!(code, 1, "{complaint}");
    let told = format!("--base-directory {}", golden.path().display());
    shell.ok(&format!("{told} {create}"))?;
    assert_eq!(shell.ok(&format!("read disk {told}"))?.into_bytes(), vec![5; 1 << 20]);
    assert!(shell.ok(&format!("{told} check"))?.contains("clean"));
    assert_eq!(std::fs::read(&base)?, vec![5; 1 << 20]);
    Ok(())
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

/// The commands of the README, one a line.
fn readme_commands() -> Made<Vec<String>> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"))?;
    let (_, marked) = readme.split_once("<!-- test: commands -->\n```console\n").ok_or("no commands")?;
    let (block, _) = marked.split_once("```").ok_or("no end of the commands")?;
    Ok(block.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

#[test]
#[ignore = "needs qemu-img"]
fn somebody_who_has_only_the_readme_gets_through_it() -> Outcome {
    let shell = Shell::new()?;
    let program = Path::new(env!("CARGO_BIN_EXE_snapgroup")).parent().ok_or("a folder")?;
    let path = format!("{}:{}", program.display(), std::env::var("PATH")?);
    // As a person would say them, one after the other in one shell; the first that fails ends it.
    let typed = Command::new("sh")
        .args(["-e", "-c", &readme_commands()?.join("\n")])
        .env("PATH", path)
        .env_remove("SNAPGROUP_POOL")
        .current_dir(shell.pool.path())
        .output()?;
    let (said, complaint) = (String::from_utf8(typed.stdout)?, String::from_utf8(typed.stderr)?);
    assert!(typed.status.success(), "{said}\n{complaint}");
    assert!(said.trim_end().ends_with("layers checked: clean"), "{said}");
    let pool = shell.pool.path().join("web-1");
    let pool = pool.to_str().ok_or("a path")?;
    let groups = shell.json(&format!("--pool {pool} group list web-1"))?;
    let names: Vec<&str> = groups["inventories"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|group| group["name"].as_str())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[0] == "tuesday" && names[1].starts_with("revert-vm-point-"), "{names:?}");
    let shown = shell.json(&format!("--pool {pool} volume show disk"))?;
    let head = shown["inventory"]["installPath"].as_str().ok_or("a path")?;
    let checked = Command::new("qemu-img").args(["check", "-q", "-f", "qcow2", head]).status()?;
    assert!(checked.success());
    Ok(())
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
        ("volume create disk ten", 2, "is no size"),
        ("volume create disk 20GB", 2, "20GiB"),
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
    assert_eq!(refused.status.code(), Some(1), "nothing has happened");
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
    assert_eq!(code, 1, "{said}");
    assert_eq!(std::fs::read(&target)?, vec![7; 64 << 10], "what is there stays");
    Ok(())
}

#[test]
fn a_group_is_compared_and_exported_disk_by_disk() -> Outcome {
    let shell = Shell::new()?;
    for (file, byte) in [("system.raw", 1), ("data.raw", 2)] {
        std::fs::write(shell.pool.path().join(file), vec![byte; 128 << 10])?;
    }
    shell.ok("init")?;
    shell.ok("vm create web")?;
    shell.ok("adopt system.raw --format raw --name system --vm web --root")?;
    shell.ok("adopt data.raw --format raw --name data --vm web")?;
    shell.ok("group create web monday")?;
    shell.ok("group create web tuesday")?;
    let outside = TempDir::new()?;
    let (monday, tuesday) = (outside.path().join("monday"), outside.path().join("tuesday"));
    std::fs::create_dir(&monday)?;
    std::fs::create_dir(&tuesday)?;

    let held = shell.json("group diff - monday")?;
    let held = held["volumes"].as_array().ok_or("a list")?;
    assert!(held.iter().all(|disk| disk["extents"][0]["length"] == 128 << 10), "{held:?}");
    assert_eq!(held.len(), 2);
    let said = shell.ok("group diff - monday --exact")?;
    assert!(said.contains("system") && said.contains("data") && said.contains("256 KiB in all"), "{said}");
    let nothing = shell.json("group diff monday tuesday")?;
    assert!(nothing["volumes"].as_array().ok_or("a list")?.iter().all(|disk| disk["extents"] == json!([])));

    let exported = shell.json(&format!("group export monday {}", monday.display()))?;
    assert_eq!(exported["files"].as_array().ok_or("a list")?.len(), 2);
    let above = format!("--above monday --above-directory {}", monday.display());
    let said = shell.ok(&format!("group export tuesday {} --compressed {above}", tuesday.display()))?;
    assert!(said.contains("system") && said.contains(".qcow2"), "{said}");
    assert_eq!(std::fs::read_dir(&tuesday)?.count(), 2);
    let target = tuesday.display();
    shell.ok(&format!("group export tuesday {target} --format raw"))?;
    let mut first_bytes = Vec::new();
    for entry in std::fs::read_dir(&tuesday)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "raw") {
            first_bytes.push(std::fs::read(path)?[0]);
        }
    }
    first_bytes.sort_unstable();
    assert_eq!(first_bytes, [1, 2]);

    let (code, said) = shell.fails(&format!("group export monday {target} --format raw {above}"))?;
    assert!(code == 1 && said.contains("stand alone"), "{said}");
    let (code, said) = shell.fails(&format!("group export monday {target}"))?;
    assert!(code == 1 && said.contains("exists"), "{said}");
    assert_eq!(std::fs::read_dir(&tuesday)?.count(), 4, "nothing was left");
    let (code, said) = shell.fails(&format!("group export nosuch {target}"))?;
    assert!(code == 1 && said.contains("group list"), "{said}");
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
    let mut child = shell.command("volume list").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
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

#[test]
fn a_catalogue_that_is_damaged_is_named_with_what_helps_and_nothing_is_changed() -> Outcome {
    let shell = Shell::new()?;
    shell.ok("init")?;
    shell.ok("vm create web-1")?;
    let catalogue = shell.pool.path().join("snapgroup.redb");
    let whole = std::fs::read(&catalogue)?;
    let mut damaged = whole.clone();
    damaged[4096..].iter_mut().for_each(|byte| *byte ^= 0x5a);
    std::fs::write(&catalogue, &damaged)?;
    for command in ["vm list", "check", "vm create web-2"] {
        let (code, complaint) = shell.fails(command)?;
        assert_eq!(code, 3, "{command}: {complaint}");
        assert!(complaint.contains("damaged") && complaint.contains("snapgroup rebuild"), "{complaint}");
        assert!(std::fs::read(&catalogue)? == damaged, "{command} has changed it");
    }
    std::fs::write(&catalogue, &whole)?;
    assert!(shell.ok("vm list")?.contains("web-1"));
    Ok(())
}

#[test]
fn a_retention_is_read_before_it_runs_and_then_does_what_it_said() -> Outcome {
    let shell = Shell::new()?;
    shell.ok("init")?;
    shell.ok("vm create web-1")?;
    shell.ok("volume create disk 1M --vm web-1 --root")?;
    for name in ["one", "two", "three", "four"] {
        let tag = if name == "one" { "--tag release" } else { "--automatic" };
        shell.ok(&format!("group create web-1 {name} {tag}"))?;
    }
    shell.ok("group hold two audit")?;
    let (code, said) = shell.fails("group thin web-1")?;
    assert!(code == 2 && said.contains("--keep-last"), "without a rule nothing is thinned out: {said}");
    let plan = shell.json("plan thin web-1 --keep-last 1 --keep-tagged release")?;
    let kept = |plan: &Value| -> Vec<String> {
        let groups = plan["groups"].as_array().into_iter().flatten();
        groups.map(|group| format!("{}:{}", group["name"].as_str().unwrap_or("?"), group["keptBy"])).collect()
    };
    assert_eq!(kept(&plan), ["one:[\"tag\"]", "two:[\"held\"]", "three:[]", "four:[\"last\"]"],);
    assert_eq!(plan["possible"], true);
    assert_eq!(
        shell.json("group list")?["inventories"].as_array().map(Vec::len),
        Some(4),
        "a plan does nothing"
    );
    let said = shell.ok("plan thin web-1 --keep-last 1 --keep-tagged release")?;
    assert!(said.contains("stays: held") && said.contains("goes"), "{said}");
    let said = shell.ok("group thin web-1 --keep-last 1 --keep-tagged release")?;
    assert!(said.contains("goes") && said.contains("freed"), "{said}");
    let list = shell.ok("group list")?;
    assert!(list.contains("one") && list.contains("two") && !list.contains("three"), "{list}");
    // Those that a person asked for are not looked at.
    shell.ok("group release two audit")?;
    shell.ok("group thin web-1 --keep-last 1 --only-automatic")?;
    let list = shell.ok("group list")?;
    assert!(list.contains("one") && !list.contains("two") && list.contains("four"), "{list}");
    Ok(())
}

#[test]
fn quotas_and_longest_chains_are_said_refused_and_changed() -> Outcome {
    let shell = Shell::new()?;
    std::fs::write(shell.pool.path().join("golden.raw"), vec![7; 1 << 20])?;
    shell.ok("init")?;
    shell.ok("vm create web-1")?;
    shell.ok("volume create disk --base golden.raw:raw --vm web-1 --root --chain-max 3 --cluster-size 4K")?;
    shell.ok("group create web-1 one")?;
    let (code, said) = shell.fails("group create web-1 two")?;
    assert!(code == 1 && said.contains("3 are allowed") && said.contains("hint: "), "{code} {said}");
    let shown = shell.json("volume update disk --chain-max 10 --name system --description the-first")?;
    let shown = &shown["inventory"];
    assert_eq!((&shown["chainMax"], &shown["name"]), (&Value::from(10), &Value::from("system")));
    shell.ok("group create web-1 two")?;
    let shown = shell.json("volume update system --chain-max pool")?;
    assert_eq!(shown["inventory"]["chainMax"], Value::Null);
    let (code, _) = shell.fails("--pool-chain-max 2 group create web-1 three")?;
    assert_eq!(code, 1);
    let (code, said) = shell.fails("volume update system")?;
    assert!(code == 2 && said.contains("--chain-max"), "{said}");

    let (code, said) = shell.fails("--pool-snapshots-max 2 group create web-1 three")?;
    assert!(code == 1 && said.contains("ID.1003") && said.contains("the quota is 2"), "{said}");
    let (code, said) = shell.fails("group create web-1 three --pool-bytes-max 1K")?;
    assert!(code == 1 && said.contains("ID.1003") && said.contains("--pool-bytes-max"), "{said}");
    let used = shell.json("du --pool-snapshots-max 2")?;
    assert_eq!((&used["snapshots"], &used["snapshotsMax"]), (&Value::from(2), &Value::from(2)));
    assert!(shell.ok("du")?.contains("snapshots  2"));
    assert!(shell.ok("du web-1")?.contains("all together"));
    Ok(())
}

#[test]
fn every_command_answers_json_that_is_json_and_text_without_colours_when_nobody_sees_them() -> Outcome {
    let shell = Shell::new()?;
    shell.ok("init")?;
    let target = shell.pool.path().join("out.qcow2");
    let made = [
        "vm create web-1 --description first",
        "volume create disk 1M --vm web-1 --root --description system",
        "volume create spare 1M",
        "group create web-1 monday --tag nightly",
        "snapshot create spare once",
        "group create web-1 tuesday",
        "plan create web-1 wednesday",
        "plan delete monday",
        "plan revert tuesday",
        "plan delete-snapshots once",
        "plan revert-snapshot once",
        "plan thin web-1 --keep-daily 7",
        "group update monday --name first",
        "snapshot update once --description text",
        "snapshot hold once audit",
        "snapshot release once audit",
        "group hold first audit",
        "group release first audit",
        "vm list",
        "vm show web-1",
        "volume list",
        "volume show disk",
        "volume tree disk",
        "volume resize spare 2M",
        "volume attach spare web-1 --device 3",
        "volume detach spare web-1",
        "group list",
        "group list web-1",
        "group show first",
        "group tree web-1",
        "snapshot list",
        "snapshot list disk",
        "snapshot show once",
        "diff - once",
        "du",
        "du disk",
        "du web-1",
        "owed",
        "group delete first --later",
        "reclaim",
        "seal",
        "verify",
        "verify --group tuesday --content",
        "verify --snapshot once",
        "check",
        "repair --dry-run",
        "repair",
        "snapshot revert once --keep",
        "group revert tuesday",
        "group ungroup tuesday",
        "snapshot delete once",
        "volume delete spare --enforcing",
    ];
    for line in made {
        let output = shell.run(&format!("--json {line}"))?;
        let said = String::from_utf8(output.stdout)?;
        assert!(output.status.success(), "{line}: {said} {}", String::from_utf8_lossy(&output.stderr));
        let value: Value = serde_json::from_str(&said).map_err(|error| format!("{line}: {error}: {said}"))?;
        assert!(value.is_object(), "{line}: {said}");
    }
    for line in ["vm list", "volume show disk", "snapshot list", "group list", "check", "owed", "du disk"] {
        let said = shell.ok(line)?;
        assert!(!said.contains('\u{1b}') && said.ends_with('\n'), "{line}: {said:?}");
    }
    let exported = shell.json(&format!("export tuesday-disk {}", target.display()))?;
    assert!(exported["bytesCopied"].is_u64());
    let imported = shell.json(&format!("import {} --format qcow2 --name copy", target.display()))?;
    assert_eq!(imported["inventory"]["name"], "copy");
    let refused = shell.run("group show nosuch")?;
    assert!(!String::from_utf8(refused.stderr)?.contains('\u{1b}'));
    Ok(())
}

#[test]
fn a_tree_as_json_is_the_inventories_of_the_api() -> Outcome {
    let shell = Shell::new()?;
    shell.ok("init")?;
    shell.ok("vm create web-1")?;
    shell.ok("volume create disk 1M --vm web-1 --root")?;
    shell.ok("group create web-1 monday")?;
    shell.ok("group create web-1 tuesday")?;
    let tree = shell.json("group tree web-1")?;
    let monday = &tree["inventories"][0];
    assert_eq!(
        (&monday["name"], &monday["children"][0]["name"]),
        (&Value::from("monday"), &Value::from("tuesday"))
    );
    let trees = shell.json("volume tree disk --format svg")?;
    assert_eq!(trees["inventories"][0]["current"], true);
    Ok(())
}

#[test]
fn a_plan_that_is_refused_says_so_in_its_lines_and_its_exit_code() -> Outcome {
    let shell = Shell::new()?;
    shell.ok("init")?;
    shell.ok("vm create web-1")?;
    shell.ok("volume create disk 1M --vm web-1 --root")?;
    shell.ok("group create web-1 monday")?;
    shell.ok("group hold monday audit")?;
    let refused = shell.run("--json plan delete monday")?;
    assert_eq!(refused.status.code(), Some(1));
    let plan: Value = serde_json::from_slice(&refused.stdout)?;
    assert_eq!(
        (&plan["possible"], &plan["results"][0]["error"]["code"]),
        (&Value::from(false), &Value::from("SYS.1004"))
    );
    let (code, _) = shell.fails("plan delete-snapshots monday-disk")?;
    assert_eq!(code, 1);
    Ok(())
}

#[test]
fn a_pool_that_somebody_else_has_is_refused_with_who_has_it_and_what_to_do() -> Outcome {
    let shell = Shell::new()?;
    shell.ok("init")?;
    let engine = snapgroup::Engine::open(shell.pool.path(), snapgroup::Options::default())?;
    let (code, said) = shell.fails("vm list")?;
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains(&std::process::id().to_string()) && said.contains("hint: a pool has one owner"),
        "{said}"
    );
    engine.close()?;
    shell.ok("vm list").map(drop)
}
