//! After a failed sync nothing more is written (invariant 6).

use crate::{Outcome, name};
use snapgroup::storage::{
    Access, At, Error, Fault, FaultKind, FusedStore, MemoryStore, Operation, Result, SimulatedStore, Store,
};
use snapgroup::units::{ByteCount, HostOffset};
use std::sync::{Arc, Barrier};

/// A fused store, and the disk below it that can be told to fail.
fn fused() -> (FusedStore, SimulatedStore) {
    let disk = SimulatedStore::new(Arc::new(MemoryStore::new()));
    (FusedStore::new(Arc::new(disk.clone())), disk)
}

/// Every change there is, of two blobs that exist.
fn every_change(store: &dyn Store) -> Result<[Result<()>; 9]> {
    let open = store.open(&name("one"), Access::Write)?;
    Ok([
        store.create(&name("new")).map(drop),
        store.remove(&name("other")),
        store.sync_names(),
        open.write_at(HostOffset::ZERO, b"else"),
        open.set_length(ByteCount::ZERO),
        open.punch(HostOffset::ZERO, ByteCount::new(4)),
        open.copy_from(HostOffset::ZERO, &*open, HostOffset::new(4), ByteCount::new(4)),
        open.sync(),
        open.sync(),
    ])
}

#[test]
fn a_failed_sync_ends_every_change_and_no_read() -> Outcome {
    for failing in [Operation::Sync, Operation::SyncNames] {
        let (store, disk) = fused();
        let blob = store.create(&name("one"))?;
        blob.write_at(HostOffset::ZERO, b"some")?;
        store.create(&name("other"))?;
        assert_eq!(store.poisoned(), None);

        disk.fail(Fault::once(At::CallOf(failing, 1), FaultKind::EIO));
        let failed = if failing == Operation::Sync { blob.sync() } else { store.sync_names() };
        let Err(Error::SyncFailed { .. }) = failed else { panic!("{failing:?}: {failed:?}") };
        let cause = store.poisoned().expect("a sync failed");

        disk.record();
        for (number, change) in every_change(&store)?.into_iter().enumerate() {
            let Err(Error::Poisoned { cause: told }) = change else {
                panic!("change {number} after a failed {failing:?}: {change:?}");
            };
            assert_eq!(told, cause);
        }
        let Err(Error::Poisoned { .. }) = blob.write_at(HostOffset::ZERO, b"else") else {
            panic!("an older handle wrote on");
        };
        let reached: Vec<Operation> = disk.take_calls().iter().map(|call| call.operation).collect();
        assert_eq!(reached, [Operation::Open], "F1: no change reaches the store below");

        let mut bytes = [0; 4];
        blob.read_at(HostOffset::ZERO, &mut bytes)?;
        assert_eq!(&bytes, b"some");
        let copy = MemoryStore::new().create(&name("copy"))?;
        copy.copy_from(HostOffset::ZERO, &*blob, HostOffset::ZERO, ByteCount::new(4))?;
        copy.read_at(HostOffset::ZERO, &mut bytes)?;
        assert_eq!(&bytes, b"some", "what is poisoned can still be copied from");
        assert_eq!(store.list()?, [name("one"), name("other")]);
        assert_eq!(store.clone().poisoned(), Some(cause));
    }
    Ok(())
}

#[test]
fn the_cause_tells_the_blob_and_what_the_system_said() -> Outcome {
    let (store, disk) = fused();
    let blob = store.create(&name("disk-0.qcow2"))?;
    disk.fail(Fault::once(At::CallOf(Operation::Sync, 1), FaultKind::ENOSPC));
    assert!(blob.sync().is_err());
    let cause = store.poisoned().expect("a sync failed");
    assert!(cause.contains("disk-0.qcow2"), "{cause}");
    assert!(cause.contains(&std::io::Error::from_raw_os_error(28).to_string()), "{cause}");
    Ok(())
}

#[test]
fn a_failure_that_is_no_sync_does_not_blow_the_fuse() -> Outcome {
    let (store, disk) = fused();
    store.create(&name("one"))?;
    store.create(&name("other"))?;
    for operation in [Operation::Write, Operation::SetLength, Operation::Punch, Operation::Create] {
        disk.fail(Fault::once(At::CallOf(operation, 1), FaultKind::ENOSPC));
    }
    let failed = every_change(&store)?.iter().filter(|change| change.is_err()).count();
    assert_eq!(failed, 4);
    assert_eq!(store.poisoned(), None);
    store.create(&name("later"))?.sync()?;
    Ok(())
}

#[test]
fn of_many_syncs_at_once_none_succeeds_after_one_failed() -> Outcome {
    // The store below fails one sync and would let every other one pass, as a file system does.
    for round in 0..300 {
        let (store, disk) = fused();
        let blob = store.create(&name("one"))?;
        disk.fail(Fault::once(At::CallOf(Operation::Sync, 1), FaultKind::EIO));
        let start = Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    assert!(blob.sync().is_err(), "F2, round {round}");
                });
            }
        });
        assert_eq!(disk.counts().of(Operation::Sync), 1, "round {round}");
    }
    Ok(())
}
