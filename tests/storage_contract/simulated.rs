//! The simulated store fails exactly what it was told to, and tells exactly what was asked of it.

use crate::{Outcome, name};
use snapgroup::storage::{
    Access, At, Error, Fault, FaultKind, MemoryStore, Operation, Result, SimulatedStore, Store,
};
use snapgroup::units::{ByteCount, HostOffset};
use std::io;
use std::sync::Arc;

fn simulated() -> SimulatedStore {
    SimulatedStore::new(Arc::new(MemoryStore::new()))
}

/// One call of every operation that can be counted, in the order of [`EVERY`].
fn every_call(store: &dyn Store) -> [Result<()>; 18] {
    let blob = match store.create(&name("a")) {
        Ok(blob) => blob,
        Err(_) => store.open(&name("a"), Access::Write).expect("made before"),
    };
    [
        store.open(&name("a"), Access::Read).map(drop),
        store.list().map(drop),
        store.lock().map(drop),
        blob.length().map(drop),
        blob.set_length(ByteCount::new(8)),
        blob.write_at(HostOffset::ZERO, b"some"),
        blob.read_at(HostOffset::ZERO, &mut [0; 2]),
        blob.punch(HostOffset::new(1), ByteCount::new(2)),
        blob.sync(),
        blob.allocated().map(drop),
        blob.next_data(HostOffset::ZERO).map(drop),
        blob.writer_elsewhere().map(drop),
        blob.stamp().map(drop),
        blob.links().map(drop),
        store.sync_names(),
        store.create(&name("b")).map(drop),
        store.remove(&name("b")),
        store.remove(&name("a")),
    ]
}

/// The operations of [`every_call`], after the first create.
const EVERY: [Operation; 18] = [
    Operation::Open,
    Operation::List,
    Operation::Lock,
    Operation::Length,
    Operation::SetLength,
    Operation::Write,
    Operation::Read,
    Operation::Punch,
    Operation::Sync,
    Operation::Allocated,
    Operation::NextData,
    Operation::WriterElsewhere,
    Operation::Stamp,
    Operation::Links,
    Operation::SyncNames,
    Operation::Create,
    Operation::Remove,
    Operation::Remove,
];

#[test]
fn every_call_is_counted_once_and_recorded_in_order() {
    let store = simulated();
    store.record();
    for result in every_call(&store) {
        result.expect("nothing was told to fail");
    }
    let counts = store.counts();
    assert_eq!(counts.total(), 19);
    for operation in EVERY {
        let expected = if let Operation::Create | Operation::Remove = operation { 2 } else { 1 };
        assert_eq!(counts.of(operation), expected, "{operation:?}");
    }
    assert_eq!(counts.of(Operation::OpenStore), 0);

    let calls = store.take_calls();
    let operations: Vec<Operation> = calls.iter().map(|call| call.operation).collect();
    assert_eq!(operations[0], Operation::Create);
    assert_eq!(operations[1..], EVERY);
    let range = |operation: Operation| {
        let call = calls.iter().find(|call| call.operation == operation).expect("it was called");
        (call.name.clone(), call.at, call.length)
    };
    let on_a = |at, length| (Some(name("a")), HostOffset::new(at), ByteCount::new(length));
    assert_eq!(range(Operation::Write), on_a(0, 4));
    assert_eq!(range(Operation::Read), on_a(0, 2));
    assert_eq!(range(Operation::SetLength), on_a(0, 8));
    assert_eq!(range(Operation::Punch), on_a(1, 2));
    assert_eq!(range(Operation::Sync), on_a(0, 0));
    assert_eq!(range(Operation::SyncNames), (None, HostOffset::ZERO, ByteCount::ZERO));
    assert_eq!(store.take_calls(), [], "what was taken is gone");
}

#[test]
fn the_nth_call_of_all_fails_and_no_other() {
    for nth in 2..=19 {
        let store = simulated();
        store.fail(Fault::once(At::Call(nth), FaultKind::EIO));
        for (index, result) in every_call(&store).into_iter().enumerate() {
            let number = index as u64 + 2;
            // A blob that was not made cannot be removed: a consequence, not a fault.
            if nth == 17 && number == 18 {
                let Err(Error::NotFound { .. }) = result else { panic!("{result:?}") };
                continue;
            }
            assert_eq!(result.is_err(), number == nth, "call {number} with a fault at {nth}: {result:?}");
            match result {
                Ok(()) => {}
                Err(Error::Io { operation, source, .. } | Error::SyncFailed { operation, source, .. }) => {
                    assert_eq!(operation, EVERY[index]);
                    assert_eq!(source.raw_os_error(), Some(5));
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(store.counts().total(), 19, "failed calls are counted");
    }
}

#[test]
fn the_nth_call_of_one_operation_fails_and_no_other() -> Outcome {
    let store = simulated();
    let blob = store.create(&name("a"))?;
    blob.write_at(HostOffset::ZERO, b"before the fault is set")?;
    store.fail(Fault::once(At::CallOf(Operation::Write, 3), FaultKind::Io(io::ErrorKind::TimedOut)));
    let outcomes: Vec<bool> = (0..5_u8)
        .map(|byte| {
            blob.sync().expect("no sync was told to fail");
            blob.write_at(HostOffset::new(u64::from(byte)), &[byte]).is_ok()
        })
        .collect();
    assert_eq!(outcomes, [true, true, false, true, true]);
    let mut bytes = [0; 5];
    blob.read_at(HostOffset::ZERO, &mut bytes)?;
    assert_eq!(bytes, [0, 1, b'f', 3, 4], "the failed write did not reach the store below");
    Ok(())
}

#[test]
fn a_fault_for_ever_ends_only_with_healing() -> Outcome {
    let store = simulated();
    let blob = store.create(&name("a"))?;
    store.fail(Fault::for_ever(At::CallOf(Operation::Write, 2), FaultKind::ENOSPC));
    let write = || blob.write_at(HostOffset::ZERO, b"x");
    write()?;
    for _ in 0..3 {
        let Err(Error::Io { operation: Operation::Write, name, source }) = write() else {
            panic!("written to a full disk");
        };
        assert_eq!((name.as_str(), source.kind()), ("a", io::ErrorKind::StorageFull));
        blob.read_at(HostOffset::ZERO, &mut [0])?;
    }
    store.heal();
    write()?;
    Ok(())
}

#[test]
fn a_short_write_leaves_its_beginning_and_fails() -> Outcome {
    // No aligned word of eight bytes is written by half.
    let cases = [
        (0, b"...................."),
        (5, b"...................."),
        (6, b"..one wo............"),
        (13, b"..one wo............"),
        (14, b"..one word and a...."),
        (17, b"..one word and a...."),
        (18, b"..one word and a bit"),
        (99, b"..one word and a bit"),
    ];
    for (written, expected) in cases {
        let store = simulated();
        let blob = store.create(&name("a"))?;
        blob.write_at(HostOffset::ZERO, &[b'.'; 20])?;
        let kind = FaultKind::ShortWrite(ByteCount::new(written));
        store.fail(Fault::once(At::CallOf(Operation::Write, 1), kind));
        let Err(Error::Io { operation: Operation::Write, source, .. }) =
            blob.write_at(HostOffset::new(2), b"one word and a bit")
        else {
            panic!("a short write succeeded");
        };
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        let mut bytes = [0; 20];
        blob.read_at(HostOffset::ZERO, &mut bytes)?;
        assert_eq!(&bytes, expected, "{written} of 18 bytes");
    }
    Ok(())
}

#[test]
fn a_copy_is_one_write_and_takes_no_read() -> Outcome {
    let store = simulated();
    let (source, target) = (store.create(&name("source"))?, store.create(&name("target"))?);
    source.write_at(HostOffset::ZERO, &[7; 3 << 20])?;
    store.record();
    target.copy_from(HostOffset::new(5), &*source, HostOffset::new(1), ByteCount::mib(3))?;
    let calls = store.take_calls();
    let [call] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!((call.operation, &call.name), (Operation::Write, &Some(name("target"))));
    assert_eq!((call.at, call.length), (HostOffset::new(5), ByteCount::mib(3)));
    Ok(())
}

#[test]
fn a_write_that_fails_is_a_copy_that_fails() -> Outcome {
    let short = |written| FaultKind::ShortWrite(ByteCount::new(written));
    let cases = [
        (FaultKind::EIO, *b"....", Some(5)),
        (FaultKind::ENOSPC, *b"....", Some(28)),
        (short(0), *b"....", Some(28)),
        (short(3), *b"....", Some(28)),
        (short(99), *b"new!", Some(28)),
    ];
    for (kind, expected, number) in cases {
        let store = simulated();
        let (source, target) = (store.create(&name("source"))?, store.create(&name("target"))?);
        source.write_at(HostOffset::ZERO, b"new!")?;
        target.write_at(HostOffset::ZERO, b"....")?;
        store.fail(Fault::once(At::CallOf(Operation::Write, 1), kind));
        let copied = target.copy_from(HostOffset::ZERO, &*source, HostOffset::ZERO, ByteCount::new(4));
        let Err(Error::Io { operation: Operation::Write, name, source: told }) = copied else {
            panic!("{kind:?}: {copied:?}");
        };
        assert_eq!((name.as_str(), told.raw_os_error()), ("target", number), "{kind:?}");
        let mut bytes = [0; 4];
        target.read_at(HostOffset::ZERO, &mut bytes)?;
        assert_eq!(bytes, expected, "{kind:?}");
    }
    Ok(())
}

#[test]
fn a_source_of_another_kind_is_read_and_its_failed_read_is_told() -> Outcome {
    let store = simulated();
    let source = store.create(&name("source"))?;
    source.write_at(HostOffset::ZERO, b"new!")?;
    let target = crate::backends::plain_over_memory()?.store.create(&name("target"))?;
    store.fail(Fault::once(At::CallOf(Operation::Read, 1), FaultKind::EIO));
    // The target has no way of its own, so it reads; and then what it reads through fails.
    let copied = target.copy_from(HostOffset::ZERO, &*source, HostOffset::ZERO, ByteCount::new(4));
    let Err(Error::Io { operation: Operation::Read, .. }) = copied else { panic!("{copied:?}") };
    target.copy_from(HostOffset::ZERO, &*source, HostOffset::ZERO, ByteCount::new(4))?;
    Ok(())
}

#[test]
fn every_failed_sync_says_that_nothing_is_known() -> Outcome {
    for kind in [FaultKind::SyncFailed, FaultKind::ENOSPC, FaultKind::Io(io::ErrorKind::Other)] {
        let store = simulated();
        let blob = store.create(&name("a"))?;
        store.fail(Fault::once(At::Call(1), kind));
        let Err(Error::SyncFailed { operation: Operation::Sync, .. }) = blob.sync() else {
            panic!("{kind:?} in a sync of a blob");
        };
        store.fail(Fault::once(At::Call(1), kind));
        let Err(Error::SyncFailed { operation: Operation::SyncNames, .. }) = store.sync_names() else {
            panic!("{kind:?} in a sync of names");
        };
    }
    Ok(())
}

#[test]
fn faults_count_on_their_own_and_the_first_one_set_decides() -> Outcome {
    let store = simulated();
    let blob = store.create(&name("a"))?;
    store.fail(Fault::once(At::Call(2), FaultKind::EIO));
    store.fail(Fault::once(At::CallOf(Operation::Sync, 2), FaultKind::ENOSPC));
    store.fail(Fault::once(At::CallOf(Operation::Sync, 3), FaultKind::ENOSPC));
    let number = |result: Result<()>| match result {
        Err(Error::SyncFailed { source, .. }) => source.raw_os_error(),
        other => other.map(|()| None).expect("only syncs were called"),
    };
    assert_eq!(number(blob.sync()), None);
    assert_eq!(number(blob.sync()), Some(5));
    assert_eq!(number(blob.sync()), Some(28));
    assert_eq!(number(blob.sync()), None);
    Ok(())
}

#[test]
fn a_fault_at_call_zero_hits_nothing() -> Outcome {
    let store = simulated();
    store.fail(Fault::for_ever(At::Call(0), FaultKind::EIO));
    store.fail(Fault::once(At::Call(0), FaultKind::EIO));
    for result in every_call(&store) {
        result?;
    }
    Ok(())
}

#[test]
fn a_short_read_fills_a_part_and_fails() -> Result<()> {
    let store = simulated();
    let blob = store.create(&name("a"))?;
    blob.write_at(HostOffset::ZERO, b"some")?;
    store.fail(Fault::for_ever(At::CallOf(Operation::Read, 1), FaultKind::ShortRead(ByteCount::new(3))));
    for length in [2, 4] {
        let mut buffer = vec![b'-'; length];
        let Err(Error::Io { operation: Operation::Read, source, .. }) =
            blob.read_at(HostOffset::ZERO, &mut buffer)
        else {
            panic!("the read did not fail");
        };
        assert_eq!(source.raw_os_error(), Some(5));
        assert_eq!(buffer, b"som-"[..length]);
    }
    Ok(())
}
