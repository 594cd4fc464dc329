//! What the program shows to somebody at a terminal and to nobody else: colours, and how far long work has come. And
//! Ctrl-C, which is a person's, too.

use super::{Made, Outcome, Shell};
use nix::pty::{Winsize, openpty};
use serde_json::Value;
use snapgroup::{ByteCount, CreateSnapshot, CreateVolume, DeleteSnapshots, Engine, Options, When};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Command, Output, Stdio};

const COLOURED: (&str, &str) = ("TERM", "xterm-256color");
const DUMB: (&str, &str) = ("TERM", "dumb");
/// What sets a colour.
const RED: &str = "\u{1b}[31m";
/// What stands in a bar, and nowhere else: the rate.
const BAR: &str = "B/s  ";
const MIB: usize = 1 << 20;
/// The bytes that one layer of a disk has.
const DATA: usize = 128 * MIB;

/// What a command shows, on standard output and error, at a terminal that nothing else is said of than these variables.
fn at_terminal(shell: &Shell, line: &str, variables: &[(&str, &str)]) -> Made<String> {
    let size = Winsize { ws_row: 24, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None)?;
    let child = {
        let mut command = shell.command(line);
        command.env_remove("NO_COLOR").env_remove("TERM").envs(variables.iter().copied());
        let output: OwnedFd = pty.slave.try_clone()?;
        // The command has its end of the terminal, and gives it up here: what is read ends with the program.
        command.stdin(Stdio::null()).stdout(output).stderr(pty.slave).spawn()
    };
    let mut child = child?;
    let (mut terminal, mut shown, mut piece) = (File::from(pty.master), Vec::new(), [0; 4096]);
    // A terminal that everybody has left answers with an error.
    while let Ok(count @ 1..) = terminal.read(&mut piece) {
        shown.extend_from_slice(&piece[..count]);
    }
    child.wait()?;
    Ok(String::from_utf8_lossy(&shown).into_owned())
}

/// What a command shows when nobody sees it.
fn unseen(shell: &Shell, line: &str) -> Made<String> {
    let Output { stdout, stderr, .. } = shell.command(line).env("TERM", "xterm-256color").output()?;
    Ok(String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

/// A disk of which a deleted snapshot owes what it has, and two that are there.
fn owe(shell: &Shell, name: &str, bytes: usize) -> Outcome {
    let engine = Engine::open(shell.pool.path(), Options::default())?;
    let volume = engine.create_volume(&CreateVolume::new(name, ByteCount::of(2 * DATA)))?.uuid;
    let disk = engine.open_volume(volume)?;
    for at in (0..bytes).step_by(MIB) {
        disk.write_at(at as u64, &[7; MIB])?;
    }
    let snapshot =
        |called: &str| engine.create_snapshot(&CreateSnapshot::new(volume, format!("{name}-{called}")));
    let gone = snapshot("gone")?.uuid;
    disk.write_at(0, &[8; 512])?;
    snapshot("kept")?;
    assert!(
        engine
            .delete_snapshots(&DeleteSnapshots { reclaim: When::Later, ..DeleteSnapshots::one(gone) })?
            .is_success()
    );
    drop(disk);
    Ok(engine.close()?)
}

#[test]
fn colours_are_for_terminals_that_know_them() -> Outcome {
    let shell = Shell::new()?;
    shell.ok("init")?;
    shell.ok("vm create web-1")?;
    shell.ok("volume create disk 1M --vm web-1 --root")?;
    shell.ok("group create web-1 monday")?;
    shell.ok("group hold monday audit")?;
    // An error of this program, a refusal in a table, an error and a help of the command line.
    for line in ["group show nosuch", "plan delete monday", "group create", "--help"] {
        let seen = at_terminal(&shell, line, &[COLOURED])?;
        assert!(seen.contains("\u{1b}["), "{line}: {seen}");
        for variables in [&[COLOURED, ("NO_COLOR", "1")][..], &[DUMB], &[DUMB, ("CI", "true")], &[]] {
            let seen = at_terminal(&shell, line, variables)?;
            assert!(!seen.contains('\u{1b}') && !seen.is_empty(), "{line}, {variables:?}: {seen:?}");
        }
        assert!(!unseen(&shell, line)?.contains('\u{1b}'), "{line}");
    }
    for line in ["group show nosuch", "plan delete monday"] {
        let seen = at_terminal(&shell, line, &[COLOURED, ("NO_COLOR", "")])?;
        assert!(seen.contains(RED), "an empty NO_COLOR says nothing: {seen}");
    }
    Ok(())
}

#[test]
fn how_far_work_has_come_is_drawn_on_a_terminal_and_nowhere_else() -> Outcome {
    let shell = Shell::new()?;
    shell.ok("init")?;
    owe(&shell, "disk", 20 * MIB)?;
    shell.ok("seal")?;
    let exported = shell.pool.path().join("out.qcow2");
    let exported = exported.display();
    let export = format!("export disk-kept {exported}");
    for line in ["verify --content", "check", "repair --dry-run", "reclaim --direction pull", &export] {
        let seen = at_terminal(&shell, line, &[DUMB])?;
        assert!(!seen.contains(BAR) && !seen.contains('\u{1b}'), "{line}: {seen:?}");
        if line == export {
            std::fs::remove_file(exported.to_string())?;
        }
        assert!(!unseen(&shell, line)?.contains(BAR), "{line}");
        if line.starts_with("reclaim") {
            owe(&shell, "other", 20 * MIB)?;
        } else if line == export {
            std::fs::remove_file(exported.to_string())?;
        }
        let seen = at_terminal(&shell, line, &[COLOURED])?;
        assert!(seen.contains(BAR), "{line}: {seen:?}");
        assert!(!seen.contains(RED), "{line}: {seen:?}");
    }
    Ok(())
}

/// Runs a command and presses Ctrl-C as soon as it takes that.
fn interrupted(shell: &Shell, line: &str) -> Made<Output> {
    let mut child = shell.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let this = child.id().to_string();
    let takes_it = || -> bool {
        let status = std::fs::read_to_string(format!("/proc/{this}/status")).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        // The second bit is that of SIGINT.
        caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 2 != 0)
    };
    while !takes_it() && child.try_wait()?.is_none() {
        std::thread::yield_now();
    }
    Command::new("kill").args(["-INT", &this]).stderr(Stdio::null()).status()?;
    Ok(child.wait_with_output()?)
}

#[test]
fn a_reclaim_that_is_interrupted_leaves_a_clean_pool_and_goes_on_later() -> Outcome {
    let shell = Shell::new()?;
    shell.ok("init")?;
    // On a fast machine one may be done before anybody is heard.
    for attempt in 0..8 {
        let disk = format!("disk-{attempt}");
        owe(&shell, &disk, DATA)?;
        let line = format!("reclaim --direction pull --volume {disk}");
        let output = interrupted(&shell, &format!("--json {line}"))?;
        if output.status.success() {
            continue;
        }
        assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
        let told: Value = serde_json::from_slice(&output.stdout)?;
        let pulled = |told: &Value| told["bytesPulled"].as_u64().ok_or("a number");
        let (first, all) = (pulled(&told)?, DATA as u64 - 65_536);
        assert!(told["interrupted"] == true && first > 0 && first < all, "{told}");
        assert!(shell.ok("check")?.contains("clean"));
        assert!(shell.ok("owed")?.contains("layer-"));

        let rest = shell.json(&line)?;
        assert_eq!(rest["interrupted"], false);
        assert_eq!(first + pulled(&rest)?, all, "it went on where it was");
        assert_eq!(shell.json("owed")?["owed"], serde_json::json!([]));
        assert!(shell.ok("check")?.contains("clean"));
        let byte = |at: usize| -> Made<Vec<u8>> {
            Ok(shell.run(&format!("read {disk}-kept --at {at} --length 512"))?.stdout)
        };
        assert_eq!((byte(0)?, byte(DATA - 512)?), (vec![8; 512], vec![7; 512]));
        return Ok(());
    }
    Err("no reclaim was interrupted".into())
}
