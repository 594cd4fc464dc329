//! The same calls on a pool in memory: for tests and fuzzers. The same seed gives the same uuids, the same dates and
//! so the same answers, to the byte.
//!
//! Each round writes to every disk and takes a group; a plain `Vec<u8>` beside each disk says what must be read.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use snapgroup::inventory::GroupInventory;
use snapgroup::{
    ByteCount, Clock, CreateGroup, CreateMachine, CreateVolume, Engine, Ids, Options, Result, Volume,
};

const DISKS: usize = 3;
const ROUNDS: u8 = 12;
const SIZE: ByteCount = ByteCount::mib(1);

fn main() -> Result<()> {
    let groups = run(7)?;
    assert_eq!(groups, run(7)?, "the same seed gives the same answers");
    assert_ne!(groups, run(8)?);
    println!(
        "{} groups of {DISKS} disks: every snapshot reads as the disk did when it was taken",
        groups.len()
    );
    Ok(())
}

/// Writes and takes groups, then reads every snapshot of every group and compares.
fn run(seed: u64) -> Result<Vec<GroupInventory>> {
    let options = Options { ids: Ids::Seeded(seed), clock: Clock::Stepping(0), ..Options::default() };
    let engine = Engine::in_memory(options)?;
    let machine = engine.create_machine(&CreateMachine::new("fuzzed"))?;
    let mut disks: Vec<(Volume, Vec<u8>)> = Vec::new();
    for index in 0..DISKS {
        let volume = engine.create_volume(&CreateVolume::new(format!("disk-{index}"), SIZE))?;
        engine.attach_volume(volume.uuid, machine.uuid, None)?;
        disks.push((engine.open_volume(volume.uuid)?, vec![0; SIZE.as_usize()]));
    }

    let mut random = seed;
    let mut taken = Vec::new();
    for round in 1..=ROUNDS {
        for (disk, expected) in &mut disks {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = usize::try_from(random >> 44).expect("20 bits");
            let end = expected.len().min(at + 70_000);
            expected[at..end].fill(round);
            disk.write_at(at as u64, &expected[at..end])?;
        }
        let name = format!("round-{round}");
        let group = engine.create_group(&CreateGroup::of_machine(machine.uuid, name))?;
        let contents: Vec<_> = disks.iter().map(|(_, expected)| expected.clone()).collect();
        taken.push((group.inventory, contents));
    }

    for (group, contents) in &taken {
        for (member, expected) in group.volume_snapshot_refs.iter().zip(contents) {
            let mut found = vec![0; SIZE.as_usize()];
            engine.open_snapshot(member.volume_snapshot_uuid)?.read_at(0, &mut found)?;
            assert!(found == *expected, "{} reads differently", member.volume_snapshot_name);
        }
    }
    assert!(engine.check()?.is_clean());
    Ok(taken.into_iter().map(|(group, _)| group).collect())
}
