//! Snapshots are deleted from the middle of a chain, and their bytes dealt with in steps:
//! `cargo run --example delete_and_reclaim`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use snapgroup::{
    ByteCount, CreateSnapshot, CreateVolume, DeleteSnapshots, Direction, Engine, Options, ReclaimOptions,
    Result, Step, When,
};

fn main() -> Result<()> {
    let engine = Engine::in_memory(Options::default())?;
    let volume = engine.create_volume(&CreateVolume::new("data", ByteCount::mib(256)))?.uuid;
    let disk = engine.open_volume(volume)?;
    let mut snapshots = Vec::new();
    for day in 0..5_u8 {
        disk.write_at(u64::from(day) << 20, &vec![day + 1; 4 << 20])?;
        snapshots.push(engine.create_snapshot(&CreateSnapshot::new(volume, format!("day-{day}")))?.uuid);
    }
    println!("{} layers below the disk", engine.chain(volume)?.len() - 1);

    // What it would do, to the byte.
    let mut wish = DeleteSnapshots::all([snapshots[1], snapshots[2]]);
    let plan = engine.plan_delete(&wish)?;
    println!(
        "by itself: {} copied, {} freed in place",
        plan.figures.bytes_copied(),
        plan.figures.bytes_punched
    );
    wish.direction = Direction::Pull;
    let plan = engine.plan_delete(&wish)?;
    println!(
        "as a pull: {} copied, {} files less",
        plan.figures.bytes_copied(),
        plan.figures.files_removed.len()
    );

    // The books change at once; the bytes follow when there is time, in steps that can stop anywhere.
    wish.reclaim = When::Later;
    for line in engine.delete_snapshots(&wish)?.results {
        println!("{}: deleted {}", line.snapshot_uuid.unwrap_or_default().simple(), line.success);
    }
    println!("{} layers wait for a reclaim", engine.owed()?.len());
    let mut reclaim = engine.reclaim(&ReclaimOptions::towards(Direction::Pull))?;
    while reclaim.step(ByteCount::mib(1))? == Step::More {
        println!("copied {} of {}", reclaim.progress().copied, reclaim.progress().total);
    }
    println!("{} bytes given back", reclaim.reclaimed().bytes_freed().as_u64());
    println!("{} layers below the disk", engine.chain(volume)?.len() - 1);

    let mut byte = [0; 1];
    engine.open_snapshot(snapshots[3])?.read_at(1 << 20, &mut byte)?;
    assert_eq!(byte, [2], "a snapshot that is kept reads as before");
    Ok(())
}
