//! What somebody is told who has said something that was not meant, or has run out of something.

use super::{Outcome, Shell};
use std::fs::{self, OpenOptions};
use std::process::Stdio;

#[test]
fn a_pool_is_made_once_and_named_the_second_time() -> Outcome {
    let shell = Shell::new()?;
    assert_eq!(shell.json("init")?["made"], true);
    shell.ok("vm create web-1")?;
    assert!(shell.ok("init")?.starts_with("there is a pool already in "));
    assert_eq!(shell.json("init")?["made"], false);
    assert!(shell.ok("vm list")?.contains("web-1"));
    Ok(())
}

#[test]
fn a_qcow2_image_that_is_called_raw_is_taken_over_with_a_note() -> Outcome {
    let shell = Shell::new()?;
    let file = shell.pool.path().join("disk.qcow2");
    fs::write(&file, [&b"QFI\xfb"[..], &[0; 1020]].concat())?;
    shell.ok("init")?;
    let adopted = shell.run("adopt disk.qcow2 --format raw")?;
    assert!(adopted.status.success());
    let said = String::from_utf8(adopted.stderr)?;
    assert!(said.contains("begins like a qcow2 image"), "{said}");

    // What the note says helps, does.
    let (_, command) = said.split_once("`snapgroup ").ok_or("a command")?;
    let (command, _) = command.split_once('`').ok_or("a command")?;
    shell.ok(command)?;
    assert!(!shell.ok("volume list")?.contains("disk"));
    assert_eq!(fs::metadata(&file)?.len(), 1024);

    fs::write(shell.pool.path().join("plain.raw"), [0; 1024])?;
    assert_eq!(shell.run("adopt plain.raw --format raw")?.stderr, b"");
    Ok(())
}

#[test]
fn a_uuid_in_a_refusal_is_told_by_name() -> Outcome {
    let shell = Shell::new()?;
    shell.ok("init")?;
    shell.ok("vm create web-1")?;
    shell.ok("volume create system 1M --vm web-1 --root")?;
    let (code, said) = shell.fails("volume attach system web-1")?;
    assert_eq!(code, 1);
    for name in ["is the volume \"system\"", "is the machine \"web-1\""] {
        assert!(said.contains(name), "{said}");
    }
    Ok(())
}

#[test]
fn output_that_cannot_be_written_is_a_failure_and_a_reader_who_leaves_is_none() -> Outcome {
    let shell = Shell::new()?;
    shell.ok("init")?;
    shell.ok("volume create disk 4M")?;
    for line in ["volume list", "--json volume list", "volume tree disk", "read disk"] {
        let full = OpenOptions::new().write(true).open("/dev/full")?;
        let output = shell.command(line).stdout(full).output()?;
        let said = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(4), "{line}: {said}");
        assert!(said.contains("No space left on device"), "{line}: {said}");

        let mut child = shell.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        drop(child.stdout.take());
        let output = child.wait_with_output()?;
        assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]), "{line}");
    }
    Ok(())
}

#[test]
fn a_base_directory_may_be_said_as_it_is_seen_from_here() -> Outcome {
    let (shell, golden) = (Shell::new()?, tempfile::TempDir::new()?);
    let parent = golden.path().canonicalize()?;
    fs::create_dir(parent.join("golden"))?;
    let base = parent.join("golden/base.raw");
    fs::write(&base, vec![5; 1 << 20])?;
    shell.ok("init")?;
    for (said, seen_from) in [("golden", "."), ("../golden", "golden")] {
        let line = format!("--base-directory {said} volume create disk --base {}:raw", base.display());
        let output = shell.command(&line).current_dir(parent.join(seen_from)).output()?;
        assert!(output.status.success(), "{said}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let (code, said) = shell.fails("--base-directory no/such vm list")?;
    assert!(code == 1 && said.contains("the base directory no/such"), "{code}: {said}");
    Ok(())
}

#[test]
fn a_file_of_the_pool_may_be_said_by_a_path_that_leads_there() -> Outcome {
    let shell = Shell::new()?;
    let pool = shell.pool.path().canonicalize()?;
    shell.ok("init")?;
    for (file, said) in [("a.raw", "./a.raw".to_owned()), ("b.raw", pool.join("b.raw").display().to_string())]
    {
        fs::write(pool.join(file), [7; 1024])?;
        let line = format!("adopt {said} --format raw");
        let output = shell.command(&line).current_dir(&pool).output()?;
        assert!(output.status.success(), "{said}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // Each volume has the name of its file.
    assert_eq!(shell.run("read a --length 2")?.stdout, [7; 2]);
    assert_eq!(shell.run("read b --length 2")?.stdout, [7; 2]);

    // From elsewhere the same words lead elsewhere.
    fs::write(pool.join("c.raw"), [7; 1024])?;
    let elsewhere = shell.command("adopt ./c.raw --format raw").current_dir("/").output()?;
    assert_eq!(elsewhere.status.code(), Some(1));
    Ok(())
}
