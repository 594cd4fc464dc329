//! A backup tool: a full copy once, then what has changed since the last time, and a restore that is compared:
//! `cargo run --example backup`.
//!
//! The machine goes on writing meanwhile. A backup is a list of stretches with their bytes; what is zeros is said, not
//! copied.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use snapgroup::{
    ByteCount, ChangeKind, CreateSnapshot, CreateVolume, DeleteSnapshots, DiffOptions, Engine, Exactness,
    Options, Result, Uuid,
};

/// The stretches that bring one content to the next: where, how many bytes, and the bytes unless they are zeros.
type Backup = Vec<(u64, usize, Option<Vec<u8>>)>;

fn main() -> Result<()> {
    let engine = Engine::in_memory(Options::default())?;
    let volume = engine.create_volume(&CreateVolume::new("data", ByteCount::mib(16)))?.uuid;
    let disk = engine.open_volume(volume)?;
    let mut backups: Vec<Backup> = Vec::new();
    let mut last: Option<Uuid> = None;
    for day in 1..=4_u8 {
        disk.write_at(u64::from(day) * 700_000, &vec![day; 300_000])?;
        disk.discard(u64::from(day - 1) * 700_000, 65_536)?;

        let now = engine.create_snapshot(&CreateSnapshot::new(volume, format!("day-{day}")))?.uuid;
        let backup = changes(&engine, last, now)?;
        let copied: usize = backup.iter().filter_map(|(_, _, bytes)| bytes.as_ref().map(Vec::len)).sum();
        println!("day {day}: {} stretches, {copied} bytes", backup.len());
        backups.push(backup);

        // Only the newest snapshot is needed to tell what changes next.
        if let Some(old) = last.replace(now) {
            engine.delete_snapshots(&DeleteSnapshots::one(old))?;
        }
    }

    let mut restored = vec![0; disk.size().as_usize()];
    for (at, length, bytes) in backups.iter().flatten() {
        let at = usize::try_from(*at).expect("a disk of 16 MiB");
        match bytes {
            Some(bytes) => restored[at..at + length].copy_from_slice(bytes),
            None => restored[at..at + length].fill(0),
        }
    }
    let mut expected = vec![0; restored.len()];
    if let Some(last) = last {
        engine.open_snapshot(last)?.read_at(0, &mut expected)?;
    }
    assert!(restored == expected, "the restore is not what was backed up");
    println!("restored: {} bytes, all equal", restored.len());
    Ok(())
}

fn changes(engine: &Engine, since: Option<Uuid>, now: Uuid) -> Result<Backup> {
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
