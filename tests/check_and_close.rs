//! A check while others work, and what a check and a close must tell.

use snapgroup::storage::{At, Fault, FaultKind, MemoryStore, Operation, SimulatedStore, Times};
use snapgroup::{ByteCount, CreateGroup, CreateMachine, CreateVolume, Engine, Options};
use std::sync::Arc;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[test]
fn a_check_while_groups_are_taken_finds_nothing() -> Outcome {
    let engine = Engine::in_memory(Options { chain_max: 1000, ..Options::default() })?;
    let machine = engine.create_machine(&CreateMachine::new("web-1"))?.uuid;
    for name in ["a", "b", "c", "d"] {
        let volume = engine.create_volume(&CreateVolume::new(name, ByteCount::mib(1)))?;
        engine.attach_volume(volume.uuid, machine, None)?;
    }
    let taking = engine.clone();
    let groups = std::thread::spawn(move || {
        (0..40).try_for_each(|n| {
            taking.create_group(&CreateGroup::of_machine(machine, format!("g{n}"))).map(drop)
        })
    });
    while !groups.is_finished() {
        let found = engine.check()?;
        assert!(found.is_clean(), "{found:?}");
    }
    groups.join().expect("the groups are taken")?;
    Ok(())
}

#[test]
fn closing_tells_of_a_flush_that_failed_when_a_handle_was_dropped() -> Outcome {
    let disk = SimulatedStore::new(Arc::new(MemoryStore::new()));
    let engine = Engine::open_on(Arc::new(disk.clone()), Options::default())?;
    let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?.uuid;
    let handle = engine.open_volume(volume)?;
    handle.write_at(0, b"mail")?;
    disk.fail(Fault { at: At::CallOf(Operation::Write, 1), kind: FaultKind::ENOSPC, times: Times::ForEver });
    drop(handle);
    disk.heal();
    assert!(engine.close().is_err(), "the write is lost, and nobody was told");
    Ok(())
}
