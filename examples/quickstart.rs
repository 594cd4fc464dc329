//! A machine with three disks, two snapshot groups, and a look at everything that they leave behind.
//!
//! `cargo run --example quickstart` works in a temporary directory. `cargo run --example quickstart -- --keep DIR`
//! leaves the pool in `DIR`, an empty or new directory, and says how to look at its files with `qemu-img`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use snapgroup::inventory::{Forest, GroupInventory, GroupTreeInventory, InventoryAnswer};
use snapgroup::{
    ByteCount, CreateGroup, CreateMachine, CreateVolume, Engine, LayerState, Options, Volume, VolumeKind,
};
use std::error::Error;
use std::path::{Path, PathBuf};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// How much of the start of a disk the texts of this example take up.
const TEXT: usize = 32;

fn main() -> Outcome {
    let keep = directory_to_keep()?;
    let temporary = tempfile::tempdir()?;
    let directory = keep.as_deref().unwrap_or(temporary.path());
    let engine = open(directory)?;

    title("A machine with a root disk and two data disks");
    let machine = engine.create_machine(&CreateMachine::new("web-1"))?;
    let mut disks = Vec::new();
    for (name, kind, size) in [
        ("system", VolumeKind::Root, ByteCount::gib(20)),
        ("database", VolumeKind::Data, ByteCount::gib(100)),
        ("uploads", VolumeKind::Data, ByteCount::gib(500)),
    ] {
        let request = CreateVolume { kind, ..CreateVolume::new(name, size) };
        let volume = engine.create_volume(&request)?;
        engine.attach_volume(volume.uuid, machine.uuid, None)?;
        disks.push((volume.name, engine.open_volume(volume.uuid)?));
    }
    for volume in engine.machine(machine.uuid)?.all_volumes {
        let device = volume.device_id.map_or_else(String::new, |id| format!("device {id}"));
        println!("{device}  {:<4}  {:<8}  {:>7}", volume.volume_type.as_str(), volume.name, gib(volume.size));
    }

    title("Two groups, with writes before, between and after");
    let take = |name: &str| engine.create_group(&CreateGroup::of_machine(machine.uuid, name));
    write(&disks, "version 1")?;
    let before = take("before-upgrade")?.inventory;
    write(&disks, "version 2")?;
    let after = take("after-upgrade")?.inventory;
    write(&disks, "version 3")?;
    println!("each group holds one snapshot of each disk, all of one moment:");
    draw(&engine.group_tree(machine.uuid)?);

    title("What the disks held then, and what they hold now");
    println!("{:<8}  {:<18}  {:<18}  now", "disk", before.name, after.name);
    for (index, (name, disk)) in disks.iter().enumerate() {
        let old = [&before, &after].map(|group| group.volume_snapshot_refs[index].volume_snapshot_uuid);
        let [first, second] = old.map(|snapshot| engine.open_snapshot(snapshot));
        let (first, second) = (first?, second?);
        let texts = [
            text(|buffer| first.read_at(0, buffer))?,
            text(|buffer| second.read_at(0, buffer))?,
            text(|buffer| disk.read_at(0, buffer))?,
        ];
        println!("{name:<8}  {:<18}  {:<18}  {}", texts[0], texts[1], texts[2]);
    }

    title("The files of each disk: its head, and below it what it reads through to");
    println!("  {:<43}  {:>7}  {:>7}", "file", "disk", "takes up");
    for volume in engine.machine(machine.uuid)?.all_volumes {
        println!("{}", volume.name);
        for layer in engine.chain(volume.uuid)? {
            let role = match (layer.state, &layer.snapshot) {
                (LayerState::Head, _) => "head: written by the guest".to_owned(),
                (_, Some(snapshot)) => format!("frozen: holds {}", snapshot.name),
                (_, None) => "frozen".to_owned(),
            };
            let allocated = layer.allocated.map_or(0, |bytes| bytes.as_u64() >> 10);
            println!("  {}  {:>7}  {allocated:>4} KiB  {role}", layer.file, gib(layer.size));
        }
    }

    title("The first group as JSON");
    println!("{}", serde_json::to_string_pretty(&InventoryAnswer(Ok(before.clone())))?);

    title("Is everything in order?");
    let check = engine.check()?;
    match check.is_clean() {
        true => println!("yes: catalogue, directory and {} layers were checked", check.layers_checked),
        false => println!("no: {check:#?}"),
    }

    title("Could the machine go back to each group as a whole?");
    let groups = [&before, &after];
    show_availability(&engine, &groups)?;
    println!("... and with another disk attached since:");
    let scratch = engine.create_volume(&CreateVolume::new("scratch", ByteCount::gib(1)))?;
    engine.attach_volume(scratch.uuid, machine.uuid, None)?;
    show_availability(&engine, &groups)?;

    let head = engine.volume(before.volume_snapshot_refs[0].volume_uuid)?.install_path;
    drop(disks);
    engine.close()?;
    match keep {
        Some(directory) => {
            title(&format!("The pool stays in {}", directory.display()));
            println!("its files are plain qcow2; the root disk with everything below it, and its check:");
            println!("  qemu-img info --backing-chain {head}");
            println!("  qemu-img check {head}");
        }
        None => println!(
            "\nThe pool was temporary and is gone. To keep one: cargo run --example quickstart -- --keep DIR"
        ),
    }
    Ok(())
}

/// What follows `--keep`.
fn directory_to_keep() -> Outcome<Option<PathBuf>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(None),
        ["--keep", directory] => Ok(Some(directory.into())),
        _ => Err("usage: quickstart [--keep DIR]".into()),
    }
}

#[cfg(target_os = "linux")]
fn open(directory: &Path) -> Outcome<Engine> {
    Ok(Engine::open(directory, Options::default())?)
}

#[cfg(not(target_os = "linux"))]
fn open(_: &Path) -> Outcome<Engine> {
    Err("pools on disk need Linux; `cargo run --example in_memory` runs everywhere".into())
}

/// Writes `<disk> <what>` to the start of every disk.
fn write(disks: &[(String, Volume)], what: &str) -> Outcome {
    for (name, disk) in disks {
        disk.write_at(0, format!("{:TEXT$}", format!("{name} {what}")).as_bytes())?;
    }
    Ok(())
}

/// The text at the start of a disk or of a snapshot.
fn text(read: impl FnOnce(&mut [u8]) -> snapgroup::Result<()>) -> Outcome<String> {
    let mut buffer = [0; TEXT];
    read(&mut buffer)?;
    Ok(std::str::from_utf8(&buffer)?.trim_end().to_owned())
}

fn show_availability(engine: &Engine, groups: &[&GroupInventory]) -> Outcome {
    let answers = engine.check_availability(groups.iter().map(|group| group.uuid))?;
    for (group, answer) in groups.iter().zip(answers) {
        let verdict = if answer.available { "yes" } else { "no: " };
        println!("{:<14}  {verdict}{}", group.name, answer.reason);
    }
    Ok(())
}

/// Draws the groups of a machine, each under the one that its disks descended from.
fn draw(tree: &Forest<GroupTreeInventory>) {
    for (index, node) in tree.nodes().iter().enumerate() {
        let mut branch = String::new();
        let mut at = index;
        while let Some(parent) = tree[at].parent {
            let is_last = tree[parent].children.last() == Some(&at);
            branch.insert_str(
                0,
                match (at == index, is_last) {
                    (true, true) => "└─ ",
                    (true, false) => "├─ ",
                    (false, true) => "   ",
                    (false, false) => "│  ",
                },
            );
            at = parent;
        }
        let mark = if node.value.current { "  <- the disks descend from here" } else { "" };
        println!("{branch}{} ({} snapshots){mark}", node.value.name, node.value.refs.len());
    }
}

fn gib(size: ByteCount) -> String {
    format!("{} GiB", size.as_u64() >> 30)
}

fn title(text: &str) {
    println!("\n== {text}");
}
