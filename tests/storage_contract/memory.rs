//! What the store in memory promises besides.

use crate::{Outcome, name};
use snapgroup::storage::{Access, MemoryStore, Store};
use snapgroup::units::{ByteCount, HostOffset};

#[test]
fn a_tebibyte_of_length_holds_no_page() -> Outcome {
    let blob = MemoryStore::new().create(&name("a"))?;
    blob.set_length(ByteCount::tib(1))?;
    assert_eq!(blob.allocated()?, ByteCount::ZERO);
    blob.write_at(HostOffset::new((1 << 40) - 1), &[1])?;
    assert_eq!(blob.allocated()?, ByteCount::kib(4));
    blob.punch(HostOffset::ZERO, ByteCount::tib(1))?;
    assert_eq!(blob.allocated()?, ByteCount::ZERO);
    assert_eq!(blob.length()?, ByteCount::tib(1));
    Ok(())
}

#[test]
fn what_is_punched_cut_off_or_written_as_zeros_is_given_back() -> Outcome {
    let blob = MemoryStore::new().create(&name("a"))?;
    blob.write_at(HostOffset::ZERO, &[1; 64 << 10])?;
    assert_eq!(blob.allocated()?, ByteCount::kib(64));
    blob.punch(HostOffset::new(4096), ByteCount::kib(16))?;
    assert_eq!(blob.allocated()?, ByteCount::kib(48));
    blob.write_at(HostOffset::new(32 << 10), &[0; 8 << 10])?;
    assert_eq!(blob.allocated()?, ByteCount::kib(40));
    blob.set_length(ByteCount::kib(4))?;
    assert_eq!(blob.allocated()?, ByteCount::kib(4));
    blob.set_length(ByteCount::ZERO)?;
    assert_eq!(blob.allocated()?, ByteCount::ZERO);
    Ok(())
}

#[test]
fn a_fork_and_its_origin_never_see_each_other() -> Outcome {
    let store = MemoryStore::new();
    let before = store.create(&name("kept"))?;
    before.write_at(HostOffset::ZERO, &[1; 10_000])?;
    store.create(&name("removed"))?;
    let _owner = store.lock()?;

    let fork = store.fork();
    let _other_owner = fork.lock()?;
    before.write_at(HostOffset::new(5000), &[2])?;
    store.remove(&name("removed"))?;
    store.create(&name("new"))?;
    let after = fork.open(&name("kept"), Access::Write)?;
    after.write_at(HostOffset::ZERO, &[3])?;
    after.set_length(ByteCount::new(6000))?;

    assert_eq!(fork.list()?, [name("kept"), name("removed")]);
    assert_eq!(store.list()?, [name("kept"), name("new")]);
    let mut bytes = [0; 6000];
    after.read_at(HostOffset::ZERO, &mut bytes)?;
    assert_eq!((bytes[0], bytes[1], bytes[5000]), (3, 1, 1));
    before.read_at(HostOffset::ZERO, &mut bytes)?;
    assert_eq!((bytes[0], bytes[1], bytes[5000]), (1, 1, 2));
    assert_eq!(before.length()?, ByteCount::new(10_000));
    assert_eq!(before.identity(), after.identity(), "a fork is the same disk at another time");
    assert_ne!(store.create(&name("x"))?.identity(), fork.create(&name("x"))?.identity());
    Ok(())
}

#[test]
fn a_clone_is_the_same_store() -> Outcome {
    let store = MemoryStore::new();
    let clone = store.clone();
    store.create(&name("a"))?;
    assert_eq!(clone.list()?, [name("a")]);
    let _owner = store.lock()?;
    assert!(clone.lock().is_err());
    Ok(())
}

#[test]
fn a_location_in_memory_says_so() {
    assert_eq!(MemoryStore::new().location(&name("disk-0.qcow2")), "memory:disk-0.qcow2");
}
