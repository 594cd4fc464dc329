//! Who may open what while the other one has it: this crate beside running programs of QEMU. Run with
//! `cargo test -- --ignored`.
#![cfg(target_os = "linux")]

use snapgroup::{
    ByteCount, CreateGroup, CreateMachine, CreateSnapshot, CreateVolume, DeleteSnapshots, Direction, Engine,
    Error, Kind, Options, OwedReason, ReclaimOptions, RevertVolume, Uuid, When,
};
use std::error::Error as StdError;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use tempfile::TempDir;

type Outcome = Result<(), Box<dyn StdError>>;
type Made<T> = Result<T, Box<dyn StdError>>;

/// A `qemu-io` that has an image open until this is dropped.
struct QemuIo {
    child: Child,
    _stdin: ChildStdin,
    _lines: Lines<BufReader<ChildStdout>>,
}

impl QemuIo {
    fn with(arguments: &[&str], image: &str) -> Made<Self> {
        let mut child = Command::new("qemu-io")
            .args(arguments)
            .args(["-f", "qcow2", image])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().ok_or("piped")?;
        // It answers once it has opened the image, and then waits for the next command.
        writeln!(stdin, "read 0 512")?;
        stdin.flush()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("piped")?).lines();
        let opened = lines.by_ref().map_while(Result::ok).any(|line| line.contains("read 512"));
        assert!(opened, "qemu-io could not open {image}");
        Ok(Self { child, _stdin: stdin, _lines: lines })
    }
}

impl Drop for QemuIo {
    fn drop(&mut self) {
        drop(self.child.kill().and_then(|()| self.child.wait()));
    }
}

fn qemu(tool: &str, arguments: &[&str]) -> Made<Output> {
    Ok(Command::new(tool).args(arguments).output()?)
}

/// Whether QEMU writes to an image when it is asked to; a refusal must be for the locks.
fn writes(image: &str) -> Made<bool> {
    let output = qemu("qemu-io", &["-f", "qcow2", "-c", "write -P 9 4k 512", image])?;
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() || complaint.contains("lock"), "{image}: {complaint}");
    Ok(output.status.success())
}

fn reads(image: &str) -> Made<bool> {
    let output = qemu("qemu-io", &["-r", "-f", "qcow2", "-c", "read 0 512", image])?;
    Ok(output.status.success())
}

/// A pool with one disk of three snapshots, each with data of its own.
struct Pool {
    directory: TempDir,
    engine: Engine,
    machine: Uuid,
    disk: Uuid,
    snapshots: Vec<Uuid>,
}

impl Pool {
    fn new() -> Made<Self> {
        let directory = TempDir::new()?;
        let engine = Engine::open(directory.path().join("pool"), Options::default())?;
        let machine = engine.create_machine(&CreateMachine::new("vm"))?.uuid;
        let disk = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(4)))?.uuid;
        engine.attach_volume(disk, machine, None)?;
        let mut snapshots = Vec::new();
        for round in 0..3u8 {
            let handle = engine.open_volume(disk)?;
            handle.write_at(u64::from(round) * 100_000, &[round + 1; 150_000])?;
            snapshots.push(engine.create_snapshot(&CreateSnapshot::new(disk, format!("s{round}")))?.uuid);
        }
        Ok(Self { directory, engine, machine, disk, snapshots })
    }

    /// The paths of the chain, the head first.
    fn chain(&self) -> Made<Vec<String>> {
        let layers = self.engine.chain(self.disk)?;
        let pool = self.directory.path().join("pool");
        Ok(layers.iter().map(|layer| pool.join(&layer.file).display().to_string()).collect())
    }

    fn read(&self) -> Made<Vec<u8>> {
        let handle = self.engine.open_volume(self.disk)?;
        let mut bytes = vec![0; handle.size().as_usize()];
        handle.read_at(0, &mut bytes)?;
        Ok(bytes)
    }
}

#[test]
#[ignore = "needs qemu-io"]
fn qemu_is_kept_from_a_disk_that_is_open_here_and_let_in_afterwards() -> Outcome {
    let pool = Pool::new()?;
    let chain = pool.chain()?;
    let handle = pool.engine.open_volume(pool.disk)?;
    assert!(!writes(&chain[0])? && !reads(&chain[0])?, "a head that is written here was opened");
    for frozen in &chain[1..] {
        assert!(!writes(frozen)?, "{frozen} is relied on here and was written");
        assert!(reads(frozen)?, "{frozen} is only read here and was not opened for reading");
    }

    // A head that becomes a snapshot is relied on from then on, no longer written.
    pool.engine.create_snapshot(&CreateSnapshot::new(pool.disk, "s3"))?;
    assert!(!writes(&chain[0])? && reads(&chain[0])?);
    let head = pool.chain()?.swap_remove(0);
    assert!(!writes(&head)? && !reads(&head)?, "the new head was opened");

    drop(handle);
    assert!(reads(&chain[1])? && writes(&head)?);
    let mut byte = [0];
    pool.engine.open_volume(pool.disk)?.read_at(4096, &mut byte)?;
    assert_eq!(byte, [9]);
    Ok(())
}

#[test]
#[ignore = "needs qemu-io"]
fn a_snapshot_that_is_read_here_can_be_read_by_qemu_and_not_written() -> Outcome {
    let pool = Pool::new()?;
    let chain = pool.chain()?;
    let snapshot = pool.engine.open_snapshot(pool.snapshots[1])?;
    for frozen in &chain[2..] {
        assert!(reads(frozen)? && !writes(frozen)?);
    }
    // The head is not part of it.
    assert!(writes(&chain[0])?);
    drop(snapshot);
    Ok(())
}

#[test]
#[ignore = "needs qemu-io"]
fn a_head_that_qemu_has_open_is_refused_to_groups_reverts_and_handles_by_name() -> Outcome {
    let pool = Pool::new()?;
    let head = pool.chain()?.swap_remove(0);
    let running = QemuIo::with(&[], &head)?;
    let process = running.child.id();
    let in_use = |what: &str, called: Result<(), Error>| {
        let Err(error @ Error::HeadInUse { holder, .. }) = &called else { panic!("{what}: {called:?}") };
        assert_eq!((error.code().as_str(), error.kind()), ("SYS.1006", Kind::Refused), "{what}");
        assert_eq!(holder.process, Some(process), "{what}");
    };
    let engine = &pool.engine;
    in_use("open", engine.open_volume(pool.disk).map(drop));
    in_use("group", engine.create_group(&CreateGroup::of_machine(pool.machine, "g")).map(drop));
    in_use("snapshot", engine.create_snapshot(&CreateSnapshot::new(pool.disk, "s")).map(drop));
    in_use("revert", engine.revert_volume(&RevertVolume::to(pool.snapshots[0])).map(drop));
    in_use("resize", engine.resize_volume(pool.disk, ByteCount::mib(8)).map(drop));
    // What it reads through can be read by others, too.
    engine.open_snapshot(pool.snapshots[2])?;
    drop(running);
    engine.create_group(&CreateGroup::of_machine(pool.machine, "g"))?;
    engine.revert_volume(&RevertVolume::to(pool.snapshots[0]))?;
    Ok(())
}

#[test]
#[ignore = "needs qemu-io"]
fn a_layer_that_qemu_reads_is_not_written_to_by_a_merge_until_it_is_let_go() -> Outcome {
    for direction in [Direction::Pull, Direction::Commit, Direction::Auto] {
        let pool = Pool::new()?;
        let before = pool.read()?;
        // Qemu reads the whole chain as an overlay's backing files would be, from the middle snapshot down.
        let chain = pool.chain()?;
        let running = QemuIo::with(&["-r"], &chain[1])?;
        let mut request = DeleteSnapshots::one(pool.snapshots[1]);
        request.reclaim = When::Later;
        let deleted = pool.engine.delete_snapshots(&request)?;
        assert!(deleted.results.iter().all(|line| line.success), "{deleted:?}");

        let (reclaimed, owed) = pool.engine.reclaim(&ReclaimOptions::towards(direction))?.finish()?;
        assert_eq!(owed.len(), 1, "{direction:?}: {reclaimed:?} {owed:?}");
        assert_eq!(owed[0].reason, OwedReason::Hindered, "{direction:?}");
        let error = owed[0].error.as_ref().ok_or("a reason")?;
        assert!(
            serde_json::to_string(error)?.contains(&running.child.id().to_string()),
            "{direction:?}: {error:?}"
        );
        assert!(pool.read()? == before);

        drop(running);
        let (_, owed) = pool.engine.reclaim(&ReclaimOptions::towards(direction))?.finish()?;
        assert!(owed.is_empty(), "{direction:?}");
        assert!(pool.read()? == before);
        assert!(pool.engine.check()?.is_clean());
    }
    Ok(())
}
