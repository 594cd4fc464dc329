//! A test farm: one golden machine, and after every test it goes back: `cargo run --example test_farm`.
//!
//! A revert copies nothing, so the time between two tests does not depend on what the last one wrote. What a test left
//! is kept when it failed, and thrown away otherwise.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use snapgroup::inventory::GroupInventory;
use snapgroup::{
    ByteCount, CreateGroup, CreateMachine, CreateVolume, Engine, Options, Present, Result, RevertGroup, Uuid,
};

fn main() -> Result<()> {
    let engine = Engine::in_memory(Options::default())?;
    let machine = engine.create_machine(&CreateMachine::new("guest"))?.uuid;
    let mut disks = Vec::new();
    for name in ["system", "scratch"] {
        let volume = engine.create_volume(&CreateVolume::new(name, ByteCount::mib(64)))?.uuid;
        engine.attach_volume(volume, machine, None)?;
        engine.open_volume(volume)?.write_at(0, b"golden")?;
        disks.push(volume);
    }
    let golden = engine.create_group(&CreateGroup::of_machine(machine, "golden"))?.inventory;

    let mut failed: Vec<GroupInventory> = Vec::new();
    for test in 1..=8_u64 {
        let passed = run(&engine, &disks, test)?;
        let mut back = RevertGroup::new(golden.uuid);
        back.present = if passed { Present::GivenUp } else { Present::Kept };
        failed.extend(engine.revert_group(&back)?.kept_group);
        for disk in &disks {
            let mut text = [0; 6];
            engine.open_volume(*disk)?.read_at(0, &mut text)?;
            assert_eq!(&text, b"golden", "the next test begins as the first one did");
        }
    }

    println!("8 tests, {} failed; what they left is kept as", failed.len());
    for group in &failed {
        println!("  {} ({} disks)", group.name, group.snapshot_count);
    }
    println!("{} layers below each disk", engine.chain(disks[0])?.len() - 1);
    Ok(())
}

/// A test that writes over everything, and fails now and then.
fn run(engine: &Engine, disks: &[Uuid], test: u64) -> Result<bool> {
    for disk in disks {
        let disk = engine.open_volume(*disk)?;
        disk.write_at(0, format!("test {test}").as_bytes())?;
        disk.write_at(test << 20, &vec![1; 1 << 20])?;
    }
    Ok(!test.is_multiple_of(3))
}
