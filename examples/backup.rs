//! A backup tool: a full copy once, then what has changed since the last time, and a restore that is compared:
//! `cargo run --example backup`.
//!
//! The machine goes on writing meanwhile. Twice, with the two forms that a backup can have: stretches with their bytes, for a
//! program with a format of its own; and qcow2 files, each above the one of the day before, which `qemu-img` reads without
//! this crate.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use snapgroup::{
    ByteCount, ChangeKind, CreateSnapshot, CreateVolume, DeleteSnapshots, DiffOptions, Engine, Exactness,
    Export, ExportBase, ImportFrom, ImportVolume, LayerFormat, Options, Uuid,
};
use std::path::Path;

/// The stretches that bring one content to the next: where, how many bytes, and the bytes unless they are zeros.
type Backup = Vec<(u64, usize, Option<Vec<u8>>)>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let engine = Engine::in_memory(Options::default())?;
    let volume = engine.create_volume(&CreateVolume::new("data", ByteCount::mib(16)))?.uuid;
    let disk = engine.open_volume(volume)?;
    let mut backups: Vec<Backup> = Vec::new();
    let mut last: Option<(Uuid, String)> = None;
    for day in 1..=4_u8 {
        disk.write_at(u64::from(day) * 700_000, &vec![day; 300_000])?;
        disk.discard(u64::from(day - 1) * 700_000, 65_536)?;

        let now = engine.create_snapshot(&CreateSnapshot::new(volume, format!("day-{day}")))?.uuid;
        let backup = changes(&engine, last.as_ref().map(|(uuid, _)| *uuid), now)?;
        let copied: usize = backup.iter().filter_map(|(_, _, bytes)| bytes.as_ref().map(Vec::len)).sum();
        let file = format!("day-{day}.qcow2");
        let exported = export(&engine, last.as_ref(), now, &directory.path().join(&file))?;
        println!("day {day}: {} stretches, {copied} bytes; {file}: {}", backup.len(), exported.rounded());
        backups.push(backup);

        // Only the newest snapshot is needed to tell what changes next.
        if let Some((old, _)) = last.replace((now, file)) {
            assert!(engine.delete_snapshots(&DeleteSnapshots::one(old))?.is_success());
        }
    }
    let (last, file) = last.ok_or("no day")?;
    let mut expected = vec![0; disk.size().as_usize()];
    engine.open_snapshot(last)?.read_at(0, &mut expected)?;

    let mut restored = vec![0; expected.len()];
    for (at, length, bytes) in backups.iter().flatten() {
        let at = usize::try_from(*at)?;
        match bytes {
            Some(bytes) => restored[at..at + length].copy_from_slice(bytes),
            None => restored[at..at + length].fill(0),
        }
    }
    assert!(restored == expected, "the restore is not what was backed up");
    println!("restored from stretches: {} bytes, all equal", restored.len());

    // The last file reads through to those before it; an import takes them as one.
    let wish =
        ImportVolume::new(ImportFrom::Path(directory.path().join(file)), LayerFormat::Qcow2, "restored");
    let back = engine.open_volume(engine.import(&wish)?.uuid)?;
    back.read_at(0, &mut restored)?;
    assert!(restored == expected, "the files do not hold what was backed up");
    println!("restored from files: {} bytes, all equal", restored.len());
    Ok(())
}

/// The whole disk on the first day; later a file that holds what has changed, and names the one of the day before.
fn export(
    engine: &Engine,
    since: Option<&(Uuid, String)>,
    now: Uuid,
    file: &Path,
) -> snapgroup::Result<ByteCount> {
    let form = match since {
        None => Export::qcow2(),
        Some((snapshot, file)) => Export::above(ExportBase {
            snapshot: (*snapshot).into(),
            label: file.clone(),
            format: LayerFormat::Qcow2,
        }),
    };
    engine.export_file(now, &form.compressed(), file)
}

fn changes(engine: &Engine, since: Option<Uuid>, now: Uuid) -> snapgroup::Result<Backup> {
    let snapshot = engine.open_snapshot(now)?;
    let exact = DiffOptions { exactness: Exactness::Content, ..DiffOptions::default() };
    let mut backup = Backup::new();
    for change in engine.diff(since.map(Into::into), now, &exact)? {
        let change = change?;
        let (at, length) = (change.at.as_u64(), change.length.as_usize());
        let bytes = match change.kind {
            ChangeKind::Data => {
                let mut bytes = vec![0; length];
                snapshot.read_at(at, &mut bytes)?;
                Some(bytes)
            }
            _ => None,
        };
        backup.push((at, length, bytes));
    }
    Ok(backup)
}
