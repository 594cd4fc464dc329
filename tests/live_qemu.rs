//! Groups of machines that QEMU runs: a `qemu-storage-daemon` with a writer at its exports, and a virtual machine. Run
//! with `cargo test --features qmp --test live_qemu -- --ignored`.
#![cfg(target_os = "linux")]

#[path = "support/daemon.rs"]
mod daemon;

use daemon::{Io, NUMBERS, Qemu, Writer};
use serde_json::{Value, json};
use snapgroup::qmp::{QemuSwitch, QmpError};
use snapgroup::storage::{DiskStore, Store};
use snapgroup::{
    ByteCount, Consistency, CreateGroup, CreateMachine, CreateVolume, Engine, Error, HookError, LiveOptions,
    NoQuiesce, OpenPrepared, Options, PreparedGroup, Running, Switch, Uuid,
};
use std::error::Error as StdError;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

type Outcome<T = ()> = Result<T, Box<dyn StdError>>;

const DISKS: usize = 3;
/// A pool with a machine of some disks.
struct Site {
    directory: TempDir,
    engine: Engine,
    machine: Uuid,
    disks: Vec<Uuid>,
}

impl Site {
    fn new() -> Outcome<Self> {
        let directory = TempDir::new()?;
        let engine = Engine::open(directory.path().join("pool"), Options::default())?;
        let machine = engine.create_machine(&CreateMachine::new("vm"))?.uuid;
        let mut disks = Vec::new();
        for index in 0..DISKS {
            let wish = CreateVolume::new(format!("disk-{index}"), ByteCount::mib(4));
            let volume = engine.create_volume(&wish)?.uuid;
            engine.attach_volume(volume, machine, None)?;
            disks.push(volume);
        }
        engine.set_running(machine, Running::Elsewhere)?;
        Ok(Self { directory, engine, machine, disks })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn qemu(&self) -> QemuSwitch {
        QemuSwitch::at(self.path().join("monitor"))
    }

    fn prepare(&self, name: &str) -> Outcome<PreparedGroup> {
        Ok(self.engine.prepare_group(&CreateGroup::of_machine(self.machine, name))?)
    }

    fn take(&self, name: &str, qemu: &mut QemuSwitch) -> Result<Uuid, Error> {
        let request = CreateGroup::of_machine(self.machine, name);
        let taken = self.engine.create_group_live(&request, &mut NoQuiesce, qemu, &LiveOptions::default())?;
        assert!(taken.switch_error.is_none());
        Ok(taken.created.inventory.uuid)
    }

    /// The paths of the files that the books say the disks write to.
    fn heads(&self) -> Outcome<Vec<String>> {
        let mut heads = Vec::new();
        for disk in &self.disks {
            heads.push(self.engine.volume(*disk)?.install_path);
        }
        Ok(heads)
    }

    /// The names that the nodes of these files have in QEMU, once a group was taken.
    fn nodes(&self) -> Outcome<Vec<String>> {
        let name = |head: String| {
            let file = head.rsplit('/').next().unwrap_or_default().to_owned();
            format!("snapgroup-{}", &file["layer-".len()..][..21])
        };
        Ok(self.heads()?.into_iter().map(name).collect())
    }

    /// The files of layers in the pool.
    fn files(&self) -> Outcome<Vec<String>> {
        let store = DiskStore::open(&self.path().join("pool"))?;
        let names = store.list()?.into_iter().map(|name| name.to_string());
        Ok(names.filter(|name| name.starts_with("layer-")).collect())
    }

    /// The number that each disk of a group holds.
    fn held_by(&self, group: Uuid) -> Outcome<Vec<u8>> {
        let mut numbers = Vec::new();
        for member in self.engine.group(group)?.volume_snapshot_refs {
            let mut byte = [0];
            self.engine.open_snapshot(member.volume_snapshot_uuid)?.read_at(0, &mut byte)?;
            numbers.push(byte[0]);
        }
        Ok(numbers)
    }

    /// Sees that the machine has stopped, that nothing is wrong with any file, and what the disks hold.
    fn stopped(&self) -> Outcome<Vec<u8>> {
        self.engine.set_running(self.machine, Running::Here)?;
        let mut numbers = Vec::new();
        for disk in &self.disks {
            let mut byte = [0];
            self.engine.open_volume(*disk)?.read_at(0, &mut byte)?;
            numbers.push(byte[0]);
        }
        let found = self.engine.check()?;
        let broken = found.layers.iter().any(|layer| {
            layer.error.is_some() || layer.report.as_ref().is_some_and(|report| report.corruptions > 0)
        });
        assert!(!broken && found.violations.is_empty() && found.unnamed.is_empty(), "{found:#?}");
        assert!(found.missing.is_empty(), "{found:#?}");
        self.engine.set_running(self.machine, Running::Elsewhere)?;
        Ok(numbers)
    }
}

fn out(error: HookError) -> Box<dyn StdError> {
    error
}

/// The error of the socket behind that of a group that was not taken.
fn not_switched(answer: Result<Uuid, Error>) -> QmpError {
    match answer {
        Err(Error::NotSwitched { source }) => *source.downcast::<QmpError>().expect("of the protocol"),
        other => panic!("{other:?}"),
    }
}

fn byte(number: u64) -> u8 {
    u8::try_from(1 + number % NUMBERS).expect("at most 251")
}

#[test]
#[ignore = "needs qemu-storage-daemon and qemu-io"]
fn groups_are_of_one_moment_across_the_disks_of_a_daemon_that_is_written_to() -> Outcome {
    let site = Site::new()?;
    let mut daemon = Qemu::daemon(site.path(), &site.heads()?)?;
    let writer = Writer::at(site.path(), DISKS)?;
    let mut qemu = site.qemu();
    let mut groups = Vec::new();
    for name in ["one", "two", "three", "four", "five"] {
        writer.go_on()?;
        groups.push(site.take(name, &mut qemu)?);
        assert_eq!(daemon.exported()?, site.nodes()?, "the books and the graph of QEMU differ");
    }
    writer.go_on()?;
    // What QEMU writes to is not opened here, whatever the books say.
    site.engine.set_running(site.machine, Running::Here)?;
    let Err(Error::HeadInUse { .. }) = site.engine.open_volume(site.disks[0]) else {
        panic!("a head that QEMU writes to was opened");
    };
    site.engine.set_running(site.machine, Running::Elsewhere)?;
    let last = writer.finish()?;
    daemon.quit()?;

    let mut before: Option<Vec<u8>> = None;
    for group in &groups {
        let held = site.held_by(*group)?;
        for pair in held.windows(2) {
            let behind = (u64::from(pair[0]) + NUMBERS - u64::from(pair[1])) % NUMBERS;
            assert!(behind <= 1, "{held:?}: a disk is {behind} rounds behind the one before it");
        }
        assert_ne!(before.as_ref(), Some(&held), "the writer stood still");
        before = Some(held);
    }
    assert_eq!(site.stopped()?, vec![byte(last); DISKS]);
    for disk in &site.disks {
        assert_eq!(site.engine.chain(*disk)?.len(), 6);
    }
    for file in site.files()? {
        let path = site.path().join("pool").join(&file);
        let checked = Command::new("qemu-img").args(["check", "-f", "qcow2"]).arg(&path).output()?;
        assert!(checked.status.success(), "{file}: {}", String::from_utf8_lossy(&checked.stdout));
    }
    Ok(())
}

#[test]
#[ignore = "needs qemu-storage-daemon and qemu-io"]
fn a_transaction_that_is_refused_half_way_leaves_the_disks_and_the_books_as_they_were() -> Outcome {
    let site = Site::new()?;
    let mut daemon = Qemu::daemon(site.path(), &site.heads()?)?;
    let writer = Writer::at(site.path(), DISKS)?;
    let mut qemu = site.qemu();
    writer.go_on()?;
    site.take("first", &mut qemu)?;
    let (files, nodes) = (site.files()?, daemon.exported()?);

    // A job stands against a snapshot of the last disk: the first ones are undone.
    let job = json!({ "job-id": "job", "device": nodes[DISKS - 1], "speed": 1, "auto-finalize": false });
    daemon.ask("block-stream", job)?;
    // Nobody writes meanwhile: while QEMU undoes the first ones, a write may go to an overlay and be cut off with it.
    writer.finish()?;
    let QmpError::Refused { command, class, desc } = not_switched(site.take("refused", &mut qemu)) else {
        panic!("another error");
    };
    assert_eq!((command.as_str(), class.as_str()), ("transaction", "GenericError"), "{desc}");
    assert_eq!(daemon.exported()?[..DISKS - 1], nodes[..DISKS - 1]);
    assert_eq!((site.files()?, site.engine.prepared_groups()?), (files.clone(), vec![]));
    daemon.ask("block-job-cancel", json!({ "device": "job" }))?;
    while daemon.ask("query-block-jobs", Value::Null)? != json!([]) {}
    assert_eq!(daemon.exported()?, nodes);

    assert_eq!((site.files()?, daemon.exported()?), (files, nodes));

    let writer = Writer::at(site.path(), DISKS)?;
    writer.go_on()?;
    site.take("taken", &mut qemu)?;
    assert_eq!(daemon.exported()?, site.nodes()?);
    let last = writer.finish()?;
    daemon.quit()?;
    assert_eq!(site.stopped()?, vec![byte(last); DISKS]);
    Ok(())
}

#[test]
#[ignore = "needs qemu-storage-daemon and qemu-io"]
fn a_daemon_that_dies_between_the_phases_loses_no_flushed_write() -> Outcome {
    let site = Site::new()?;
    let daemon = Qemu::daemon(site.path(), &site.heads()?)?;
    let mut disk = Io::export(site.path(), 0)?;
    disk.write(1)?;
    disk.flush()?;
    let prepared = site.prepare("never switched")?;
    daemon.kill()?;
    let mut qemu = site.qemu();
    assert!(qemu.switch(prepared.disks()).is_err() && qemu.look(prepared.disks()).is_err());
    prepared.abort()?;
    assert_eq!(site.stopped()?, [byte(1), 0, 0]);

    let daemon = Qemu::daemon(site.path(), &site.heads()?)?;
    let mut disk = Io::export(site.path(), 0)?;
    let prepared = site.prepare("switched")?;
    qemu.switch(prepared.disks()).map_err(out)?;
    disk.write(2)?;
    disk.flush()?;
    daemon.kill()?;
    assert!(qemu.look(prepared.disks()).is_err());
    let uuid = prepared.uuid();
    let Err(Error::Refused(_)) = prepared.abort() else { panic!("what was written is gone") };
    site.engine.resume_group(uuid)?.commit(Consistency::Crash)?;
    assert_eq!(site.stopped()?, [byte(2), 0, 0]);
    assert_eq!(site.held_by(uuid)?, [byte(1), 0, 0]);

    // The heads of now are opened as any others.
    let mut daemon = Qemu::daemon(site.path(), &site.heads()?)?;
    site.take("afterwards", &mut qemu)?;
    assert_eq!(daemon.exported()?, site.nodes()?);
    daemon.quit()
}

/// Where the process that dies finds its pool: it is this test, run once more.
const POOL_OF_THE_CHILD: &str = "SNAPGROUP_TEST_LIVE_POOL";

#[test]
#[ignore = "needs qemu-storage-daemon and qemu-io"]
fn a_process_that_dies_after_the_switch_leaves_a_group_that_is_committed_later() -> Outcome {
    if let Some(directory) = std::env::var_os(POOL_OF_THE_CHILD) {
        let directory = Path::new(&directory);
        let engine = Engine::open(directory.join("pool"), Options::default())?;
        let machine = engine.query_machines(&Default::default())?.items.remove(0).uuid;
        let prepared = engine.prepare_group(&CreateGroup::of_machine(machine, "orphaned"))?;
        QemuSwitch::at(directory.join("monitor")).switch(prepared.disks()).map_err(out)?;
        // Killed by the one that started it, before it can commit.
        println!("switched");
        std::io::stdin().read_line(&mut String::new())?;
        unreachable!("it is killed");
    }
    let site = Site::new()?;
    let mut daemon = Qemu::daemon(site.path(), &site.heads()?)?;
    let mut disk = Io::export(site.path(), 0)?;
    disk.write(1)?;
    let Site { directory, engine, machine, disks } = site;
    engine.close()?;

    let mut child = Command::new(std::env::current_exe()?)
        .args(["--ignored", "--exact", "--nocapture"])
        .arg("a_process_that_dies_after_the_switch_leaves_a_group_that_is_committed_later")
        .env(POOL_OF_THE_CHILD, directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let said = BufReader::new(child.stdout.take().ok_or("piped")?).lines();
    assert!(said.map_while(Result::ok).any(|line| line.contains("switched")));
    child.kill()?;
    child.wait()?;
    // Nothing is written to the overlays yet, and QEMU has them open: an opening that aborts leaves them alone.
    let engine = Engine::open(directory.path().join("pool"), Options::default())?;
    assert_eq!((engine.recovered().prepared.len(), engine.recovered().removed.len()), (1, 0));
    let group = engine.recovered().prepared[0];
    engine.close()?;
    disk.write(2)?;
    let options = Options { prepared: OpenPrepared::Keep, ..Options::default() };
    let site =
        Site { engine: Engine::open(directory.path().join("pool"), options)?, directory, machine, disks };
    site.engine.resume_group(group)?.commit(Consistency::Crash)?;
    assert_eq!(daemon.exported()?, site.nodes()?);
    disk.flush()?;
    drop(disk);
    daemon.quit()?;
    assert_eq!(site.held_by(group)?, [byte(1), 0, 0]);
    assert_eq!(site.stopped()?, [byte(2), 0, 0]);
    Ok(())
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn the_disks_of_a_virtual_machine_are_switched_below_its_devices() -> Outcome {
    let site = Site::new()?;
    let mut arguments: Vec<String> =
        "-machine pc,accel=tcg -m 64 -nodefaults -display none -S -chardev stdio,id=own -mon chardev=own,mode=control"
            .split(' ')
            .map(str::to_owned)
            .collect();
    let monitor = site.path().join("monitor").display().to_string();
    arguments.extend(["-qmp".to_owned(), format!("unix:{monitor},server=on,wait=off")]);
    for (index, head) in site.heads()?.iter().enumerate() {
        let node = json!({ "driver": "qcow2", "node-name": format!("disk{index}"),
            "cache": { "direct": false, "no-flush": false },
            "file": { "driver": "file", "filename": head } });
        arguments.extend(["-blockdev".to_owned(), node.to_string(), "-device".to_owned()]);
        arguments.push(format!("virtio-blk-pci,id=vd{index},drive=disk{index}"));
    }
    let mut machine = Qemu::start("qemu-system-x86_64", &arguments)?;
    let write = |machine: &mut Qemu, number: u64| -> Outcome {
        for index in 0..DISKS {
            let device = format!("/machine/peripheral/vd{index}/virtio-backend");
            let line = format!("qemu-io -d {device} \"write -P {} 0 512\"", byte(number));
            let said = machine.ask("human-monitor-command", json!({ "command-line": line }))?;
            assert_eq!(said, json!(""), "number {number}, disk {index}");
        }
        Ok(())
    };
    let mut qemu = site.qemu().with_option("discard", "unmap");
    let mut groups = Vec::new();
    for number in 1..4 {
        write(&mut machine, number)?;
        groups.push((site.take("g", &mut qemu)?, number));
    }
    write(&mut machine, 4)?;
    let devices = machine.ask("query-block", Value::Null)?;
    let used: Vec<&str> = devices
        .as_array()
        .ok_or("a list")?
        .iter()
        .filter_map(|device| device["inserted"]["node-name"].as_str())
        .collect();
    assert_eq!(used, site.nodes()?, "the books and the graph of QEMU differ");
    machine.quit()?;
    for (group, number) in groups {
        assert_eq!(site.held_by(group)?, vec![byte(number); DISKS]);
    }
    assert_eq!(site.stopped()?, vec![byte(4); DISKS]);
    Ok(())
}
