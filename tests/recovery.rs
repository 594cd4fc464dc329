//! What opening a pool must never do: throw away what was acknowledged.

use snapgroup::image::{Image, Limits, NewImage, check};
use snapgroup::query::Query;
use snapgroup::storage::{
    Access, At, BlobName, Bounds, Call, Fault, FaultKind, FileSystem, MemoryStore, Operation, SimulatedDisk,
    SimulatedStore, Store,
};
use snapgroup::units::HostOffset;
use snapgroup::{
    AdoptVolume, ByteCount, Clock, Consistency, CreateGroup, CreateMachine, CreatePool, CreateSnapshot,
    CreateVolume, DeleteMode, DeleteSnapshots, DeleteVolume, Direction, Engine, Error, Ids, Kind,
    LayerFormat, OpenPrepared, Options, RebuildOptions, ReclaimOptions, Recovered, RevertVolume, Running,
    SealOptions, Uuid, When,
};
use std::sync::Arc;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn bytes_of(store: &MemoryStore, name: &str) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let blob = store.open(&BlobName::parse(name)?, Access::Read)?;
    let mut bytes = vec![0; blob.length()?.as_usize()];
    blob.read_at(HostOffset::ZERO, &mut bytes)?;
    Ok(bytes)
}

fn put(store: &MemoryStore, name: &str, bytes: &[u8]) -> Outcome {
    let name = BlobName::parse(name)?;
    drop(store.remove(&name));
    store.create(&name)?.write_at(HostOffset::ZERO, bytes)?;
    Ok(())
}

#[test]
fn a_copy_of_the_catalogue_beside_it_does_not_cost_the_catalogue() -> Outcome {
    let store = MemoryStore::new();
    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?;
    engine.close()?;
    // Somebody makes a copy of the catalogue, under the name that this crate uses for its mark.
    put(&store, "snapgroup.redb.new", &bytes_of(&store, "snapgroup.redb")?)?;
    // Refusing would do as well; forgetting everything does not.
    if let Ok(engine) = Engine::open_on(Arc::new(store), Options::default()) {
        assert!(engine.volume(volume.uuid).is_ok(), "everything that was acknowledged is forgotten");
    }
    Ok(())
}

#[test]
fn an_empty_mark_beside_a_catalogue_that_is_in_use_does_not_cost_it() -> Outcome {
    let store = MemoryStore::new();
    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?;
    engine.close()?;
    put(&store, "snapgroup.redb.new", b"")?;
    if let Ok(engine) = Engine::open_on(Arc::new(store), Options::default()) {
        assert!(engine.volume(volume.uuid).is_ok(), "everything that was acknowledged is forgotten");
    }
    Ok(())
}

#[test]
fn what_is_only_marked_is_not_made_into_a_pool_that_must_be_there() -> Outcome {
    let store = MemoryStore::new();
    put(&store, "snapgroup.redb.new", b"")?;
    let options = Options { create: CreatePool::Never, ..Options::default() };
    assert!(Engine::open_on(Arc::new(store), options).is_err(), "CreatePool::Never has made a pool");
    Ok(())
}

#[test]
fn a_mark_beside_layers_does_not_make_a_pool_anew_whose_catalogue_is_lost_or_damaged() -> Outcome {
    for create in [CreatePool::IfEmpty, CreatePool::Here] {
        let store = MemoryStore::new();
        let options = || Options { create, ..Options::default() };
        let engine = Engine::open_on(Arc::new(store.clone()), options())?;
        let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?.uuid;
        engine.close()?;
        put(&store, "snapgroup.redb.new", b"")?;
        let catalogue = BlobName::parse("snapgroup.redb")?;
        store.open(&catalogue, Access::Write)?.write_at(HostOffset::ZERO, &[0xa5; 4096])?;
        let damaged = bytes_of(&store, "snapgroup.redb")?;
        let opened = Engine::open_on(Arc::new(store.clone()), options());
        assert!(matches!(opened, Err(Error::Catalog(_))), "{create:?}: {opened:?}");
        assert!(bytes_of(&store, "snapgroup.redb")? == damaged, "{create:?}: the catalogue was written to");
        if create == CreatePool::IfEmpty {
            store.remove(&catalogue)?;
            let opened = Engine::open_on(Arc::new(store.clone()), options());
            assert!(matches!(opened, Err(Error::NotAPool { .. })), "{opened:?}");
        }
        let rebuilt = Engine::rebuild_on(&store, &options(), &RebuildOptions::default())?;
        assert_eq!(rebuilt.volumes.len(), 1);
        assert_eq!(Engine::open_on(Arc::new(store), options())?.volume(volume)?.uuid, volume);
    }
    Ok(())
}

#[test]
fn a_layer_that_cannot_be_read_just_now_is_no_reason_to_make_a_catalogue_anew() -> Outcome {
    let memory = MemoryStore::new();
    let image = NewImage::of_size(ByteCount::mib(1)).layout("golden.qcow2")?;
    image.write(&*memory.create(&BlobName::parse("golden.qcow2")?)?)?;
    let options = || Options { create: CreatePool::Here, ..Options::default() };
    // The only layer that is left has a name of its own, and says in its header whose it is.
    let engine = Engine::open_on(Arc::new(memory.clone()), options())?;
    engine.adopt_volume(&AdoptVolume::new("golden.qcow2", LayerFormat::Qcow2, "disk"))?;
    engine.close()?;
    put(&memory, "snapgroup.redb.new", b"")?;
    put(&memory, "snapgroup.redb", &[0xa5; 8192])?;
    let mut refused = 0;
    for call in 1.. {
        let left = memory.fork();
        let disk = SimulatedStore::new(Arc::new(left.clone()));
        disk.fail(Fault::once(At::Call(call), FaultKind::EIO));
        let Err(_) = Engine::open_on(Arc::new(disk.clone()), options()) else {
            panic!("call {call}: it is open")
        };
        assert!(bytes_of(&left, "snapgroup.redb")? == [0xa5; 8192], "call {call} has cost the catalogue");
        if disk.counts().total() < call {
            break;
        }
        refused += 1;
    }
    assert!(refused > 5, "{refused} calls are few");
    Ok(())
}

#[test]
fn a_damaged_catalogue_is_kept_beside_layers_of_which_only_the_names_can_be_read() -> Outcome {
    let store = MemoryStore::new();
    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?.uuid;
    let head = engine.chain(volume)?.remove(0).file;
    engine.close()?;
    for file in [head.as_str(), "snapgroup.redb"] {
        store.open(&BlobName::parse(file)?, Access::Write)?.write_at(HostOffset::ZERO, &[0xa5; 4096])?;
    }
    put(&store, "snapgroup.redb.new", b"")?;
    let damaged = bytes_of(&store, "snapgroup.redb")?;
    let opened = Engine::open_on(Arc::new(store.clone()), Options::default());
    assert!(matches!(opened, Err(Error::Catalog(_))), "{opened:?}");
    assert!(bytes_of(&store, "snapgroup.redb")? == damaged, "the catalogue was written to");
    Ok(())
}

#[test]
fn no_file_that_a_guest_has_written_is_removed() -> Outcome {
    let store = MemoryStore::new();
    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?.uuid;
    engine.close()?;
    let older = bytes_of(&store, "snapgroup.redb")?;

    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    engine.create_snapshot(&CreateSnapshot::new(volume, "monday"))?;
    let disk = engine.open_volume(volume)?;
    disk.write_at(0, b"a year of work")?;
    disk.flush()?;
    drop(disk);
    let head = engine.chain(volume)?.remove(0).file;
    engine.close()?;

    // The catalogue comes back from a backup, the disks do not.
    put(&store, "snapgroup.redb", &older)?;
    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    assert!(engine.recovered().removed.is_empty(), "removed: {:?}", engine.recovered().removed);
    assert!(bytes_of(&store, &head).is_ok());
    Ok(())
}

#[test]
fn a_catalogue_beside_a_mark_that_cannot_be_read_just_now_is_not_removed() -> Outcome {
    let memory = MemoryStore::new();
    let engine = Engine::open_on(Arc::new(memory.clone()), Options::default())?;
    let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?;
    engine.close()?;
    put(&memory, "snapgroup.redb.new", b"")?;
    let disk = SimulatedStore::new(Arc::new(memory.clone()));
    disk.fail(Fault::once(At::CallOf(Operation::Read, 1), FaultKind::EIO));
    drop(Engine::open_on(Arc::new(disk), Options::default()));
    let engine = Engine::open_on(Arc::new(memory), Options::default())?;
    assert!(engine.volume(volume.uuid).is_ok(), "one failed read has cost the catalogue");
    Ok(())
}

#[test]
fn a_copy_of_the_catalogue_is_not_removed_as_a_mark() -> Outcome {
    let store = MemoryStore::new();
    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?;
    engine.close()?;
    let copy = bytes_of(&store, "snapgroup.redb")?;
    put(&store, "snapgroup.redb.new", &copy)?;
    drop(Engine::open_on(Arc::new(store.clone()), Options::default()));
    assert!(bytes_of(&store, "snapgroup.redb.new").is_ok_and(|left| left == copy), "a backup was removed");
    Ok(())
}

#[test]
fn a_file_whose_header_never_arrived_is_removed() -> Outcome {
    let disk = SimulatedDisk::new(FileSystem::Strict);
    let engine = Engine::open_on(Arc::new(disk.clone()), Options::default())?;
    let from = disk.position();
    engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?;
    let bounds = Bounds { exhaustive_bits: 6, pairs_max: 0, samples: 8, seed: 1 };
    let mut removed = 0;
    for state in disk.log().cuts(from).flat_map(|(_, cut)| cut.states(bounds)) {
        let engine = Engine::open_on(Arc::new(state.store()), Options::default())?;
        assert!(engine.recovered().left_alone.is_empty(), "{:?}: {:?}", state.choice(), engine.recovered());
        removed += engine.recovered().removed.len();
    }
    assert!(removed > 10, "no file was ever left");
    Ok(())
}

#[test]
fn a_file_of_whose_header_a_sector_never_arrived_is_removed_if_it_is_ours() -> Outcome {
    let store = MemoryStore::new();
    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    let volume = engine.create_volume(&CreateVolume::new("d".repeat(255), ByteCount::mib(1)))?.uuid;
    engine.create_snapshot(&CreateSnapshot::new(volume, "s"))?;
    let head = bytes_of(&store, &engine.chain(volume)?[0].file)?;
    let pool = engine.uuid();
    engine.close()?;
    assert!(head[512..1024].iter().any(|byte| *byte != 0), "a header of more than a sector");
    let [ends, hole, foreign] = [1, 2, 3].map(|number| format!("layer-{number:032x}.qcow2"));
    put(&store, &ends, &head[..512])?;
    let mut torn = head.clone();
    torn[512..1024].fill(0);
    put(&store, &hole, &torn)?;
    // The same from another pool: the id of the pool is what differs.
    let at = torn.windows(16).position(|bytes| bytes == pool.as_bytes()).ok_or("the id of the pool")?;
    torn[at] ^= 1;
    put(&store, &foreign, &torn)?;

    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    assert_eq!(engine.recovered().removed, [ends, hole]);
    assert_eq!(engine.recovered().left_alone, [foreign]);
    assert!(engine.open_volume(volume).is_ok());
    Ok(())
}

#[test]
fn a_large_file_without_a_header_is_nobodys_remainder() -> Outcome {
    let store = MemoryStore::new();
    Engine::open_on(Arc::new(store.clone()), Options::default())?.close()?;
    let name = "layer-00112233445566778899aabbccddeeff.qcow2";
    let mut bytes = vec![0; 300_000];
    bytes[512..].fill(7);
    put(&store, name, &bytes)?;
    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    assert_eq!(engine.recovered().left_alone, [name]);
    assert_eq!(bytes_of(&store, name)?, bytes);
    Ok(())
}

#[test]
fn a_file_without_a_header_is_a_remainder_as_long_as_it_could_be_the_tables_of_a_new_image() -> Outcome {
    let store = MemoryStore::new();
    Engine::open_on(Arc::new(store.clone()), Options::default())?.close()?;
    let [foreign, tables, short] = [1, 2, 3].map(|number| format!("layer-{number:032x}.qcow2"));
    // One sector, and there is something in it.
    put(&store, &foreign, &[7; 512])?;
    let mut bytes = vec![7; 256 << 10];
    bytes[..512].fill(0);
    put(&store, &tables, &bytes)?;
    put(&store, &short, &[7; 511])?;
    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    assert_eq!(engine.recovered().left_alone, [foreign]);
    assert_eq!(engine.recovered().removed, [tables, short]);
    Ok(())
}

#[test]
fn what_opening_has_removed_does_not_come_back_after_a_power_cut() -> Outcome {
    let store = MemoryStore::new();
    Engine::open_on(Arc::new(store.clone()), Options::default())?.close()?;
    let left = format!("layer-{:032x}.qcow2", 1);
    put(&store, &left, &[])?;
    let disk = SimulatedDisk::over(&store, FileSystem::Strict);
    let engine = Engine::open_on(Arc::new(disk.clone()), Options::default())?;
    assert_eq!(engine.recovered().removed, std::slice::from_ref(&left));
    let durable = disk.log().cut(usize::MAX).durable().store();
    assert!(!durable.list()?.contains(&name(&left)));
    Ok(())
}

#[test]
fn what_cannot_be_removed_is_said_until_it_is() -> Outcome {
    let memory = MemoryStore::new();
    let disk = SimulatedStore::new(Arc::new(memory.clone()));
    let engine = Engine::open_on(Arc::new(disk.clone()), Options::default())?;
    let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?.uuid;
    let snapshot = engine.create_snapshot(&CreateSnapshot::new(volume, "s"))?.uuid;
    let head = engine.chain(volume)?[0].file.clone();
    disk.fail(Fault::for_ever(At::CallOf(Operation::Remove, 1), FaultKind::EIO));
    // What it says is not what this is about.
    drop(engine.revert_volume(&RevertVolume::to(snapshot)));
    drop(engine);
    let engine = Engine::open_on(Arc::new(disk.clone()), Options::default())?;
    let [unfinished] = &engine.recovered().unfinished[..] else { panic!("{:?}", engine.recovered()) };
    assert!(unfinished.starts_with(&head), "{unfinished}");
    drop(engine);
    disk.heal();
    let engine = Engine::open_on(Arc::new(disk), Options::default())?;
    assert_eq!(
        (&engine.recovered().unfinished, &engine.recovered().reclaimed),
        (&vec![], &vec![head.clone()])
    );
    assert!(!memory.list()?.contains(&name(&head)));
    Ok(())
}

/// The pool is listed once, before anything is removed by its opening.
#[test]
fn what_opening_itself_has_removed_is_not_told_as_left_alone() -> Outcome {
    let memory = MemoryStore::new();
    let disk = SimulatedStore::new(Arc::new(memory.clone()));
    let engine = Engine::open_on(Arc::new(disk.clone()), Options::default())?;
    let machine = engine.create_machine(&CreateMachine::new("vm"))?.uuid;
    let kept = engine.create_volume(&CreateVolume::new("kept", ByteCount::mib(1)))?.uuid;
    engine.attach_volume(kept, machine, None)?;
    let deleted = engine.create_volume(&CreateVolume::new("deleted", ByteCount::mib(1)))?.uuid;
    engine.create_snapshot(&CreateSnapshot::new(deleted, "s"))?;
    assert!(engine.seal(&SealOptions::default())?.finish()?.failed.is_empty());
    engine.set_running(machine, Running::Elsewhere)?;
    let prepared = engine.prepare_group(&CreateGroup::of_machine(machine, "live"))?;
    let before = memory.list()?.len();
    disk.fail(Fault::for_ever(At::CallOf(Operation::Remove, 1), FaultKind::EIO));
    // What it says is not what this is about.
    drop(engine.delete_volume(&DeleteVolume::new(deleted)));
    let left = memory.fork();
    assert_eq!(left.list()?.len(), before);
    std::mem::forget((prepared, engine));

    let engine = Engine::open_on(Arc::new(left.clone()), Options::default())?;
    let recovered = engine.recovered();
    assert_eq!((recovered.removed.len(), recovered.reclaimed.len()), (1, 2), "{recovered:?}");
    assert!(recovered.left_alone.is_empty() && recovered.unfinished.is_empty(), "{recovered:?}");
    assert_eq!(left.list()?.len(), before - 4, "an overlay, two layers, and the seal of one");
    Ok(())
}

#[test]
fn a_seal_that_no_layer_names_is_removed_if_it_is_ours_or_never_arrived() -> Outcome {
    let store = MemoryStore::new();
    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?.uuid;
    engine.create_snapshot(&CreateSnapshot::new(volume, "s"))?;
    assert!(engine.seal(&SealOptions::default())?.finish()?.failed.is_empty());
    engine.close()?;
    let is_seal = |name: &BlobName| name.as_str().starts_with("seal-");
    let seal = store.list()?.into_iter().find(is_seal).ok_or("it was sealed")?.to_string();
    let bytes = bytes_of(&store, &seal)?;
    let layer = &seal["seal-".len()..][..32];
    let named = |number: u32| format!("seal-{layer}-{number:032x}.sums");
    let mut gone = Vec::new();
    for (number, bytes) in [(1, bytes.clone()), (2, vec![]), (3, bytes[..3].to_vec()), (4, vec![0; 4096])] {
        put(&store, &named(number), &bytes)?;
        gone.push(named(number));
    }
    // What is in it says of which layer it is.
    let misnamed = format!("seal-{:032x}-{:032x}.sums", 7, 5);
    put(&store, &misnamed, &bytes)?;
    put(&store, &named(6), &[7; 4096])?;
    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    let recovered = engine.recovered();
    assert_eq!(recovered.removed, gone);
    let mut alone = recovered.left_alone.clone();
    alone.sort();
    let mut expected = vec![misnamed, named(6)];
    expected.sort();
    assert_eq!(alone, expected);
    assert_eq!(bytes_of(&store, &seal)?, bytes);
    Ok(())
}

/// A pool whose process has died with a group that was prepared: the group, and the file of its overlay.
fn with_prepared() -> Result<(MemoryStore, Uuid, String), Box<dyn std::error::Error>> {
    let store = MemoryStore::new();
    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    let machine = engine.create_machine(&CreateMachine::new("vm"))?.uuid;
    let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?.uuid;
    engine.attach_volume(volume, machine, None)?;
    engine.set_running(machine, Running::Elsewhere)?;
    let prepared = engine.prepare_group(&CreateGroup::of_machine(machine, "live"))?;
    let (group, overlay) = (prepared.uuid(), prepared.disks()[0].chain[0].path.replace("memory:", ""));
    let left = store.fork();
    std::mem::forget((prepared, engine));
    Ok((left, group, overlay))
}

#[test]
fn a_prepared_group_is_given_up_when_that_is_said_and_nobody_has_written() -> Outcome {
    let (left, group, overlay) = with_prepared()?;
    let open =
        |store: Arc<dyn Store>, prepared| Engine::open_on(store, Options { prepared, ..Options::default() });
    let kept = open(Arc::new(left.fork()), OpenPrepared::Keep)?;
    assert_eq!((&kept.recovered().prepared, &kept.recovered().removed), (&vec![group], &vec![]));
    let given_up = open(Arc::new(left.fork()), OpenPrepared::Abort)?;
    let recovered = given_up.recovered();
    assert_eq!((&recovered.prepared, &recovered.removed), (&vec![], &vec![overlay.clone()]));
    assert!(given_up.prepared_groups()?.is_empty());

    let written = left.fork();
    let blob = written.open(&name(&overlay), Access::Write)?;
    blob.set_length(blob.length()? + ByteCount::kib(64))?;
    let kept = open(Arc::new(written), OpenPrepared::Abort)?;
    assert_eq!((&kept.recovered().prepared, &kept.recovered().removed), (&vec![group], &vec![]));

    // A disk that fails is no answer.
    let broken = SimulatedStore::new(Arc::new(left));
    broken.fail(Fault::for_ever(At::CallOf(Operation::Remove, 1), FaultKind::EIO));
    let Err(error) = open(Arc::new(broken), OpenPrepared::Abort) else { panic!("it was given up") };
    assert_eq!(error.kind(), Kind::Failed);
    Ok(())
}

#[test]
fn a_disk_whose_header_was_left_half_way_opens() -> Outcome {
    let mut nth = 0;
    loop {
        nth += 1;
        let disk = SimulatedStore::new(Arc::new(MemoryStore::new()));
        let engine = Engine::open_on(Arc::new(disk.clone()), Options::default())?;
        let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?.uuid;
        engine.open_volume(volume)?.write_at(0, &[1; 512])?;
        let snapshot = engine.create_snapshot(&CreateSnapshot::new(volume, "monday"))?.uuid;
        let before = disk.counts().of(Operation::Write);
        disk.fail(Fault::once(At::CallOf(Operation::Write, nth), FaultKind::EIO));
        let wish = DeleteSnapshots { direction: Direction::Pull, ..DeleteSnapshots::one(snapshot) };
        // What it says is not what this is about.
        drop(engine.delete_snapshots(&wish));
        let writes = disk.counts().of(Operation::Write) - before;
        disk.heal();
        if let Ok(handle) = engine.open_volume(volume) {
            let mut found = [0; 512];
            handle.read_at(0, &mut found)?;
            assert_eq!(found, [1; 512], "write {nth} failed");
        }
        if writes < nth {
            return Ok(());
        }
    }
}

fn name(text: &str) -> BlobName {
    BlobName::parse(text).expect("a plain name")
}

/// A pool of one disk with two snapshots, of which the first was deleted and its bytes are still there; and the disk.
fn with_retired(store: &MemoryStore) -> Result<Uuid, Box<dyn std::error::Error>> {
    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?.uuid;
    let mut snapshots = Vec::new();
    for byte in 1..=2 {
        let disk = engine.open_volume(volume)?;
        disk.write_at(u64::from(byte) * 100_000, &[byte; 70_000])?;
        drop(disk);
        snapshots.push(engine.create_snapshot(&CreateSnapshot::new(volume, format!("s{byte}")))?.uuid);
    }
    let deletion = DeleteSnapshots::one(snapshots[0]);
    assert!(engine.delete_snapshots(&DeleteSnapshots { reclaim: When::Later, ..deletion })?.is_success());
    engine.close()?;
    Ok(volume)
}

#[test]
fn bytes_that_a_deletion_owes_are_listed_until_they_are_dealt_with() -> Outcome {
    let store = MemoryStore::new();
    with_retired(&store)?;
    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    let owed = &engine.recovered().owed;
    let [(file, Some(allocated))] = &owed[..] else { panic!("{owed:?}") };
    assert!(*allocated >= ByteCount::new(70_000), "{owed:?}");
    store.open(&name(file), Access::Read)?;
    engine.reclaim(&ReclaimOptions::towards(Direction::Pull))?.finish()?;
    engine.close()?;
    let engine = Engine::open_on(Arc::new(store), Options::default())?;
    assert_eq!(engine.recovered(), &Recovered::default());
    Ok(())
}

/// A merge is cut off at each of its calls to the store; opening finishes the headers that it was writing, and says so.
/// An opening that is cut off itself, at any of its calls, leaves all of that to the next one.
#[test]
fn a_merge_that_was_cut_off_is_finished_by_opening_and_said_even_if_opening_is_cut_off() -> Outcome {
    let prepared = MemoryStore::new();
    let volume = with_retired(&prepared)?;
    let mut expected = vec![0; 1 << 20];
    expected[100_000..170_000].fill(1);
    expected[200_000..270_000].fill(2);
    let merge = |engine: &Engine| engine.reclaim(&ReclaimOptions::towards(Direction::Pull))?.finish();
    let disk = SimulatedStore::new(Arc::new(prepared.fork()));
    let engine = Engine::open_on(Arc::new(disk.clone()), Options::default())?;
    let opening = disk.counts().total();
    merge(&engine)?;
    let calls = disk.counts().total() - opening;
    drop(engine);
    let mut finished = 0;
    for nth in 1..=calls {
        let left = prepared.fork();
        let disk = SimulatedStore::new(Arc::new(left.clone()));
        let engine = Engine::open_on(Arc::new(disk.clone()), Options::default())?;
        disk.fail(Fault::for_ever(At::Call(nth), FaultKind::EIO));
        // What fails for good is an error, or is owed.
        drop(merge(&engine));
        drop(engine);

        let whole = left.fork();
        let engine = Engine::open_on(Arc::new(whole.clone()), Options::default())?;
        let recovered = engine.recovered().clone();
        finished += recovered.finished.len();
        assert!(recovered.unfinished.is_empty() && recovered.left_alone.is_empty(), "{nth}: {recovered:?}");
        let check = engine.check()?;
        assert!(check.is_sound() && check.unnamed.is_empty(), "{nth}: {check:?}");
        let mut found = vec![0; 1 << 20];
        engine.open_volume(volume)?.read_at(0, &mut found)?;
        assert!(found == expected, "{nth}: the disk has changed");
        engine.close()?;
        let engine = Engine::open_on(Arc::new(whole), Options::default())?;
        let mut again = engine.recovered().clone();
        assert_eq!(again.owed, recovered.owed, "{nth}");
        again.owed.clear();
        assert_eq!(again, Recovered::default(), "{nth}: recovering twice is more than once");
        if recovered.finished.is_empty() {
            continue;
        }
        let counted = SimulatedStore::new(Arc::new(left.fork()));
        drop(Engine::open_on(Arc::new(counted.clone()), Options::default())?);
        for cut in 1..=counted.counts().total() {
            let torn = left.fork();
            let disk = SimulatedStore::new(Arc::new(torn.clone()));
            disk.fail(Fault::for_ever(At::Call(cut), FaultKind::EIO));
            drop(Engine::open_on(Arc::new(disk), Options::default()));
            let engine = Engine::open_on(Arc::new(torn), Options::default())?;
            assert!(engine.recovered().unfinished.is_empty(), "{nth}, {cut}: {:?}", engine.recovered());
            assert!(engine.check()?.is_sound(), "{nth}, {cut}");
            engine.open_volume(volume)?.read_at(0, &mut found)?;
            assert!(found == expected, "{nth}, {cut}: the disk has changed");
        }
    }
    assert!(finished > 0, "no merge was cut off in its headers");
    Ok(())
}

#[test]
fn a_file_of_another_pool_is_said_and_left_alone() -> Outcome {
    let other = MemoryStore::new();
    let engine = Engine::open_on(Arc::new(other.clone()), Options::default())?;
    let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?.uuid;
    let head = engine.chain(volume)?.remove(0).file;
    engine.create_snapshot(&CreateSnapshot::new(volume, "s"))?;
    assert!(engine.seal(&SealOptions::default())?.finish()?.failed.is_empty());
    engine.close()?;
    let is_seal = |name: &BlobName| name.as_str().starts_with("seal-");
    let seal = other.list()?.into_iter().find(is_seal).ok_or("it was sealed")?.to_string();

    let store = MemoryStore::new();
    Engine::open_on(Arc::new(store.clone()), Options::default())?.close()?;
    put(&store, &head, &bytes_of(&other, &head)?)?;
    put(&store, &seal, &bytes_of(&other, &seal)?)?;
    put(&store, "notes.txt", b"")?;
    for _ in 0..2 {
        let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
        let recovered = engine.recovered();
        assert_eq!(recovered.left_alone, [head.clone(), seal.clone()]);
        assert_eq!((recovered.removed.len(), recovered.reclaimed.len()), (0, 0));
        engine.close()?;
        for kept in [&head, &seal, "notes.txt"] {
            store.open(&name(kept), Access::Read)?;
        }
    }
    Ok(())
}

/// The first sync of the catalogue after the wish is that of its commit.
#[test]
fn a_commit_whose_sync_failed_is_of_unknown_outcome_and_opening_tells() -> Outcome {
    let memory = MemoryStore::new();
    let disk = SimulatedStore::new(Arc::new(memory.clone()));
    let engine = Engine::open_on(Arc::new(disk.clone()), Options::default())?;
    let before = memory.fork();
    let wish = CreateMachine { resource_uuid: Some(Uuid::from_u128(7).into()), ..CreateMachine::new("vm") };
    disk.fail(Fault::once(At::CallOf(Operation::Sync, 1), FaultKind::EIO));
    let Err(error) = engine.create_machine(&wish) else { panic!("a failed commit was kept quiet") };
    let Error::OutcomeUnknown(_) = &error else { panic!("{error:?}") };
    assert_eq!(error.kind(), Kind::Failed);
    // Every later sync would succeed.
    let counted = disk.counts();
    assert!(engine.create_machine(&CreateMachine::new("other")).is_err(), "written after a failed sync");
    assert_eq!(disk.counts().of(Operation::Write), counted.of(Operation::Write));
    drop(engine);

    // What was written is there, or it is not: in both cases that is said, and the repeat is right.
    for (store, is_there) in [(memory, true), (before, false)] {
        let engine = Engine::open_on(Arc::new(store), Options::default())?;
        assert_eq!(engine.machine(Uuid::from_u128(7)).is_ok(), is_there);
        assert_eq!(engine.create_machine(&wish)?.uuid, Uuid::from_u128(7));
        assert!(engine.check()?.is_clean());
    }
    Ok(())
}

/// A pool on a simulated disk: a machine with two disks, each with data in a snapshot and a head that was just made.
struct OnDisk {
    disk: SimulatedDisk,
    store: SimulatedStore,
    engine: Engine,
    machine: Uuid,
    volumes: Vec<Uuid>,
}

impl OnDisk {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let disk = SimulatedDisk::new(FileSystem::Strict);
        let store = SimulatedStore::on_disk(&disk);
        let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
        let machine = engine.create_machine(&CreateMachine::new("vm"))?.uuid;
        let mut volumes = Vec::new();
        for byte in [1, 2] {
            let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?.uuid;
            engine.attach_volume(volume, machine, None)?;
            engine.open_volume(volume)?.write_at(0, &[byte; 5000])?;
            volumes.push(volume);
        }
        let pool = Self { disk, store, engine, machine, volumes };
        pool.group()?;
        Ok(pool)
    }

    fn group(&self) -> Outcome {
        self.engine.create_group(&CreateGroup::of_machine(self.machine, "group"))?;
        Ok(())
    }

    fn head(&self, index: usize) -> Result<BlobName, Box<dyn std::error::Error>> {
        Ok(name(&self.engine.chain(self.volumes[index])?[0].file))
    }

    /// What is left when the power is cut now and nothing that was not synced has arrived. The process is gone.
    fn cut(self) -> MemoryStore {
        let left = self.disk.log().cut(usize::MAX).durable().store();
        std::mem::forget(self.engine);
        left
    }
}

fn first_bytes(engine: &Engine, volume: Uuid) -> Result<[u8; 2], Box<dyn std::error::Error>> {
    let (handle, mut found) = (engine.open_volume(volume)?, [0; 6000]);
    handle.read_at(0, &mut found)?;
    Ok([found[0], found[5500]])
}

/// Whether any program could use the image.
fn is_usable(store: &MemoryStore, name: &BlobName) -> bool {
    let blob = store.open(name, Access::Read).expect("the name is durable");
    check(&*blob, name.as_str()).is_ok_and(|report| report.is_sound())
}

#[test]
fn empty_layers_that_never_arrived_are_made_anew_once() -> Outcome {
    let pool = OnDisk::new()?;
    let (below, volumes) = (pool.head(0)?, pool.volumes.clone());
    // The heads of before are frozen and empty, and have not arrived either.
    pool.group()?;
    let head = pool.head(0)?;
    let left = pool.cut();
    assert!(!is_usable(&left, &below) && !is_usable(&left, &head), "they were synced");
    let engine = Engine::open_on(Arc::new(left.clone()), Options::default())?;
    let rebuilt = &engine.recovered().rebuilt;
    assert_eq!(rebuilt.len(), 4);
    assert!([below, head].iter().all(|file| rebuilt.contains(&file.to_string())), "{rebuilt:?}");
    assert!(engine.check()?.is_clean());
    assert_eq!((first_bytes(&engine, volumes[0])?, first_bytes(&engine, volumes[1])?), ([1, 0], [2, 0]));
    drop(engine);
    let engine = Engine::open_on(Arc::new(left), Options::default())?;
    assert_eq!(engine.recovered(), &Recovered::default());
    Ok(())
}

/// A machine of 16 disks, to which nobody writes: nothing else makes their layers durable. With 15 groups there are 256.
struct Idle {
    engine: Engine,
    machine: Uuid,
}

const IDLE_DISKS: usize = 16;
const GROUPS_UNTIL_SETTLED: usize = 15;

impl Idle {
    fn new(store: Arc<dyn Store>) -> Result<Self, Box<dyn std::error::Error>> {
        let options = Options { clock: Clock::Stepping(0), ids: Ids::Seeded(1), ..Options::default() };
        let engine = Engine::open_on(store, options)?;
        let machine = engine.create_machine(&CreateMachine::new("vm"))?.uuid;
        for index in 0..IDLE_DISKS {
            let wish = CreateVolume::new(format!("disk-{index}"), ByteCount::mib(1));
            let disk = engine.create_volume(&CreateVolume { cluster_bits: Some(9), ..wish })?.uuid;
            engine.attach_volume(disk, machine, None)?;
        }
        Ok(Self { engine, machine })
    }

    fn take(&self, groups: usize) -> Outcome {
        for _ in 0..groups {
            self.engine.create_group(&CreateGroup::of_machine(self.machine, "group"))?;
        }
        Ok(())
    }

    fn groups(engine: &Engine) -> Result<usize, Box<dyn std::error::Error>> {
        Ok(engine.query_snapshots(&Query::all())?.total / IDLE_DISKS)
    }
}

/// Whether a call makes the file of a layer durable.
fn is_sync_of_a_layer(call: &Call) -> bool {
    let is_catalogue = call.name.as_ref().is_some_and(|name| name.as_str() == "snapgroup.redb");
    call.operation == Operation::Sync && !is_catalogue
}

#[test]
fn an_opening_after_a_crash_looks_at_few_layers_however_many_were_made_before() -> Outcome {
    let store = MemoryStore::new();
    let pool = Idle::new(Arc::new(store.clone()))?;
    let mut looked_at = Vec::new();
    for groups in 1..=2 * GROUPS_UNTIL_SETTLED {
        pool.take(1)?;
        let left = SimulatedStore::new(Arc::new(store.fork()));
        left.record();
        let engine = Engine::open_on(Arc::new(left.clone()), Options::default())?;
        looked_at.push(left.take_calls().iter().filter(|call| is_sync_of_a_layer(call)).count());
        assert_eq!(Idle::groups(&engine)?, groups);
    }
    assert_eq!(looked_at[..4], [32, 48, 64, 80]);
    assert_eq!(looked_at[13..17], [240, 0, 16, 32]);
    assert!(looked_at.iter().all(|layers| *layers < 256), "{looked_at:?}");
    Ok(())
}

#[test]
fn layers_that_are_settled_because_there_are_many_survive_a_power_cut_at_any_instant_of_that() -> Outcome {
    let disk = SimulatedDisk::new(FileSystem::Strict);
    let pool = Idle::new(Arc::new(disk.clone()))?;
    pool.take(GROUPS_UNTIL_SETTLED - 1)?;
    let from = disk.position();
    pool.take(1)?;
    let log = disk.log();
    let instants = log.cuts(from).count();
    let mut rebuilt = Vec::new();
    // The last ones are the syncs of the youngest layers, and the commit that tells of all.
    for (instant, cut) in log.cuts(from).skip(instants - 40) {
        // Nothing that was not synced has arrived.
        let engine = Engine::open_on(Arc::new(cut.durable().store()), Options::default())?;
        assert_eq!(Idle::groups(&engine)?, GROUPS_UNTIL_SETTLED, "instant {instant}");
        rebuilt.push(engine.recovered().rebuilt.len());
        let found = engine.check()?;
        assert!(found.is_clean(), "instant {instant}: {found:?}");
    }
    assert!(rebuilt.is_sorted_by(|before, after| before >= after), "{rebuilt:?}");
    assert!(rebuilt[0] > 5 && rebuilt.ends_with(&[0, 0]), "{rebuilt:?}");
    std::mem::forget(pool);
    Ok(())
}

#[test]
fn a_group_is_there_whatever_fails_when_layers_are_settled_because_there_are_many() -> Outcome {
    let run =
        |fault: Option<Fault>| -> Result<(SimulatedStore, MemoryStore, Idle), Box<dyn std::error::Error>> {
            let memory = MemoryStore::new();
            let store = SimulatedStore::new(Arc::new(memory.clone()));
            let pool = Idle::new(Arc::new(store.clone()))?;
            pool.take(GROUPS_UNTIL_SETTLED - 1)?;
            store.record();
            fault.into_iter().for_each(|fault| store.fail(fault));
            pool.take(1)?;
            Ok((store, memory, pool))
        };
    let (store, _, pool) = run(None)?;
    let calls = store.take_calls();
    drop(pool);
    let first_sync = calls.iter().position(is_sync_of_a_layer).ok_or("nothing was settled")?;
    let opened = calls[..first_sync].iter().rposition(|call| call.operation == Operation::Open);
    for (what, call) in [("an opening", opened.ok_or("nothing was opened")?), ("a sync", first_sync)] {
        let fault = Fault::once(At::Call(call as u64 + 1), FaultKind::EIO);
        let (_, memory, pool) = run(Some(fault))?;
        assert_eq!(Idle::groups(&pool.engine)?, GROUPS_UNTIL_SETTLED, "{what}");
        let left = SimulatedStore::new(Arc::new(memory.fork()));
        left.record();
        drop(Engine::open_on(Arc::new(left.clone()), Options::default())?);
        let looked_at = left.take_calls().iter().filter(|call| is_sync_of_a_layer(call)).count();
        // The file that could not be opened waits on, and no other one with it.
        assert_eq!(looked_at, if what == "an opening" { 1 } else { 256 }, "{what}");
        // After a failed sync nothing more is written; after anything else all goes on.
        assert_eq!(pool.take(1).is_ok(), what == "an opening", "{what}");
        let groups = Idle::groups(&pool.engine)?;
        let left = memory.fork();
        drop(pool);
        let engine = Engine::open_on(Arc::new(left), Options::default())?;
        assert_eq!(Idle::groups(&engine)?, groups, "{what}");
        assert!(engine.check()?.is_clean(), "{what}");
    }
    Ok(())
}

/// What is written has its file open all the time: a process may have few.
#[test]
fn few_files_are_open_at_once_when_many_layers_are_settled() -> Outcome {
    let store = SimulatedStore::new(Arc::new(MemoryStore::new()));
    let pool = Idle::new(Arc::new(store.clone()))?;
    pool.take(GROUPS_UNTIL_SETTLED)?;
    pool.take(GROUPS_UNTIL_SETTLED - 1)?;
    store.record();
    pool.engine.close()?;
    let calls = store.take_calls();
    let is_open = |call: &Call| call.operation == Operation::Open;
    let (mut open, mut most, mut synced) = (0, 0, 0);
    for call in calls.iter().filter(|call| is_open(call) || is_sync_of_a_layer(call)) {
        open = if is_open(call) { open + 1 } else { 0 };
        (most, synced) = (most.max(open), synced + usize::from(!is_open(call)));
    }
    assert!(synced > 200 && (1..=64).contains(&most), "{synced} were synced, {most} open at once");
    Ok(())
}

/// A full snapshot makes the heads first. A copy that fails leaves them.
#[test]
fn an_opening_after_a_crash_looks_at_few_layers_when_every_call_that_has_made_some_has_failed() -> Outcome {
    let store = MemoryStore::new();
    let pool = Idle::new(Arc::new(store.clone()))?;
    let disks = pool.engine.query_volumes(&Query::all())?.items;
    for disk in &disks {
        pool.engine.open_volume(disk.uuid)?.write_at(0, &[1; 512])?;
    }
    pool.take(1)?;
    for disk in &disks {
        let below = store.open(&name(&pool.engine.chain(disk.uuid)?[1].file), Access::Write)?;
        let word = |at| -> Result<u64, Box<dyn std::error::Error>> {
            let mut word = [0; 8];
            below.read_at(HostOffset::new(at), &mut word)?;
            Ok(u64::from_be_bytes(word))
        };
        // The entry that its first L2 table begins with (header bytes 40 to 47: the L1 table) says that the data is
        // compressed, and it is no stream. The tables are well, so that only the copy finds it.
        let place = |entry: u64| entry & 0x00ff_ffff_ffff_fe00;
        let table = place(word(word(40)?)?);
        let data = place(word(table)?);
        assert!(table != 0 && data != 0);
        below.write_at(HostOffset::new(table), &(1_u64 << 62 | data).to_be_bytes())?;
        // The next L2 table, of 32 KiB, lies past the end of the file. The head hides all of it; a merge finds it.
        below.write_at(HostOffset::new(word(40)? + 8), &(1_u64 << 63 | 1 << 40).to_be_bytes())?;
        pool.engine.open_volume(disk.uuid)?.write_at(32 << 10, &[2; 32 << 10])?;
    }
    let full = CreateGroup::of_machine(pool.machine, "full").in_full();
    let mut looked_at = Vec::new();
    for _ in 0..2 * GROUPS_UNTIL_SETTLED + 4 {
        assert!(pool.engine.create_group(&full).is_err());
        let left = SimulatedStore::new(Arc::new(store.fork()));
        left.record();
        drop(Engine::open_on(Arc::new(left.clone()), Options::default())?);
        looked_at.push(left.take_calls().iter().filter(|call| is_sync_of_a_layer(call)).count());
    }
    assert!(looked_at.iter().any(|layers| *layers > 200), "{looked_at:?}");
    assert!(looked_at.iter().all(|layers| *layers < 256), "{looked_at:?}");
    Ok(())
}

/// A pool that was left after a disk was made, the disk and its head.
fn new_disk_left() -> Result<(MemoryStore, Uuid, BlobName), Box<dyn std::error::Error>> {
    let store = MemoryStore::new();
    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?.uuid;
    let head = name(&engine.chain(volume)?[0].file);
    let left = store.fork();
    std::mem::forget(engine);
    Ok((left, volume, head))
}

/// The end of the file is the end of its L1 table, of which nothing has to be written: it is all zeros.
#[test]
fn a_head_whose_length_never_arrived_is_made_anew() -> Outcome {
    let (left, volume, head) = new_disk_left()?;
    let length = left.open(&head, Access::Read)?.length()?;
    left.open(&head, Access::Write)?.set_length(length - ByteCount::new(1))?;
    let engine = Engine::open_on(Arc::new(left), Options::default())?;
    assert_eq!(engine.recovered().rebuilt, [head.to_string()]);
    engine.open_volume(volume)?.read_at(0, &mut [1; 512])?;
    Ok(())
}

#[test]
fn of_a_head_that_is_made_anew_nothing_of_before_is_left() -> Outcome {
    let pool = OnDisk::new()?;
    let (head, volumes) = (pool.head(0)?, pool.volumes.clone());
    let live = pool.disk.live();
    std::mem::forget(pool.engine);
    // No header, and a refcount of a cluster that nothing uses.
    let blob = live.open(&head, Access::Write)?;
    blob.write_at(HostOffset::ZERO, &[0; 512])?;
    blob.write_at(HostOffset::new((2 << 16) + 20), &[0, 1])?;
    let engine = Engine::open_on(Arc::new(live), Options::default())?;
    assert_eq!(engine.recovered().rebuilt, [head.to_string()]);
    assert!(engine.check()?.is_clean());
    assert_eq!(first_bytes(&engine, volumes[0])?, [1, 0]);
    Ok(())
}

#[test]
fn after_a_failed_sync_no_file_is_said_to_have_arrived() -> Outcome {
    let pool = OnDisk::new()?;
    pool.store.fail(Fault::once(At::CallOf(Operation::Sync, 1), FaultKind::EIO));
    assert!(pool.engine.create_machine(&CreateMachine::new("other")).is_err());
    let syncs = pool.store.counts().of(Operation::Sync);
    assert!(pool.engine.set_running(pool.machine, Running::Elsewhere).is_err());
    assert_eq!(pool.store.counts().of(Operation::Sync), syncs);
    Ok(())
}

#[test]
fn a_layer_that_stays_when_its_volume_goes_has_arrived() -> Outcome {
    let pool = OnDisk::new()?;
    // The head is frozen empty, and read by a clone.
    let snapshot = pool.engine.create_snapshot(&CreateSnapshot::new(pool.volumes[0], "golden"))?.uuid;
    let clone = pool.engine.create_volume(&CreateVolume::of_snapshot("clone", snapshot))?.uuid;
    let wish = DeleteVolume {
        mode: DeleteMode::Enforcing,
        reclaim: When::Later,
        ..DeleteVolume::new(pool.volumes[0])
    };
    pool.engine.detach_volume(pool.volumes[0], pool.machine)?;
    assert!(pool.engine.delete_volume(&wish)?.is_success());
    let engine = Engine::open_on(Arc::new(pool.cut()), Options::default())?;
    assert_eq!(engine.recovered().unfinished, Vec::<String>::new());
    assert_eq!(first_bytes(&engine, clone)?, [1, 0]);
    let check = engine.check()?;
    assert!(check.is_sound(), "{check:#?}");
    Ok(())
}

#[test]
fn a_head_whose_first_flush_has_returned_is_never_made_anew() -> Outcome {
    let pool = OnDisk::new()?;
    let volumes = pool.volumes.clone();
    let handle = pool.engine.open_volume(volumes[0])?;
    handle.write_at(0, &[7; 5000])?;
    handle.flush()?;
    let other = pool.engine.open_volume(volumes[1])?;
    // Nothing but a table says so.
    other.write_zeroes(0, 65_536)?;
    other.flush()?;
    let heads = [pool.head(0)?, pool.head(1)?];
    std::mem::forget((handle, other));
    let left = pool.cut();
    let engine = Engine::open_on(Arc::new(left), Options::default())?;
    let rebuilt = &engine.recovered().rebuilt;
    assert!(heads.iter().all(|head| !rebuilt.contains(&head.to_string())), "{rebuilt:?}");
    assert_eq!((first_bytes(&engine, volumes[0])?, first_bytes(&engine, volumes[1])?), ([7, 0], [0, 0]));
    Ok(())
}

#[test]
fn a_head_that_was_written_and_cannot_be_read_is_named_and_left() -> Outcome {
    let pool = OnDisk::new()?;
    let handle = pool.engine.open_volume(pool.volumes[0])?;
    handle.write_at(0, &[7; 5000])?;
    handle.flush()?;
    std::mem::forget(handle);
    let head = pool.head(0)?;
    let left = pool.cut();
    left.open(&head, Access::Write)?.write_at(HostOffset::ZERO, &[0; 512])?;
    let before = bytes_of(&left, head.as_str())?;
    for _ in 0..2 {
        let engine = Engine::open_on(Arc::new(left.clone()), Options::default())?;
        let [unfinished] = &engine.recovered().unfinished[..] else { panic!("{:?}", engine.recovered()) };
        assert!(unfinished.starts_with(head.as_str()), "{unfinished}");
        assert_eq!(bytes_of(&left, head.as_str())?, before);
    }
    Ok(())
}

#[test]
fn a_head_that_has_arrived_keeps_what_another_program_has_put_into_it() -> Outcome {
    let pool = OnDisk::new()?;
    let head = pool.head(0)?;
    let live = pool.disk.live().fork();
    let image = Image::open(live.open(&head, Access::Write)?, "head", Access::Write, Limits::default())?;
    // Its L1 table still names nothing.
    image.grow(ByteCount::mib(2), None)?;
    drop(image);
    let before = bytes_of(&live, head.as_str())?;
    let engine = Engine::open_on(Arc::new(live.clone()), Options::default())?;
    assert_eq!(engine.recovered(), &Recovered::default());
    assert_eq!(bytes_of(&live, head.as_str())?, before);
    std::mem::forget(pool.engine);
    Ok(())
}

#[test]
fn a_head_that_was_made_larger_has_arrived() -> Outcome {
    let pool = OnDisk::new()?;
    let volumes = pool.volumes.clone();
    let from = pool.disk.position();
    // The L1 table gets larger, too.
    pool.engine.resize_volume(volumes[0], ByteCount::gib(8))?;
    let log = pool.disk.log();
    std::mem::forget(pool.engine);
    for (_, cut) in log.cuts(from) {
        let engine = Engine::open_on(Arc::new(cut.durable().store()), Options::default())?;
        assert!(engine.recovered().unfinished.is_empty(), "{:?}", engine.recovered());
        assert_eq!(first_bytes(&engine, volumes[0])?, [1, 0]);
        assert!(engine.check()?.is_sound());
    }
    Ok(())
}

#[test]
fn what_another_process_is_to_use_has_arrived() -> Outcome {
    type Lend = fn(OnDisk) -> Outcome;
    let lends: [(&str, Lend); 4] = [
        ("running elsewhere", |pool| {
            pool.engine.set_running(pool.machine, Running::Elsewhere)?;
            std::mem::forget(pool.engine);
            Ok(())
        }),
        ("attached to what runs elsewhere", |pool| {
            for volume in &pool.volumes {
                pool.engine.detach_volume(*volume, pool.machine)?;
            }
            pool.engine.set_running(pool.machine, Running::Elsewhere)?;
            for volume in &pool.volumes {
                pool.engine.attach_volume(*volume, pool.machine, None)?;
            }
            std::mem::forget(pool.engine);
            Ok(())
        }),
        ("closed", |pool| Ok(pool.engine.close()?)),
        ("dropped", |pool| {
            drop(pool);
            Ok(())
        }),
    ];
    for (how, lend) in lends {
        let pool = OnDisk::new()?;
        pool.group()?;
        let heads = [pool.head(0)?, pool.head(1)?];
        let disk = pool.disk.clone();
        lend(pool)?;
        let left = disk.log().cut(usize::MAX).durable().store();
        for file in left.list()?.iter().filter(|file| file.as_str().starts_with("layer-")) {
            assert!(is_usable(&left, file), "{how}: {file} has not arrived");
        }
        assert!(heads.iter().all(|head| left.open(head, Access::Read).is_ok()), "{how}");
        let engine = Engine::open_on(Arc::new(left), Options::default())?;
        assert_eq!(engine.recovered(), &Recovered::default(), "{how}");
    }
    Ok(())
}

#[test]
fn overlays_that_another_process_will_write_have_arrived_before_it_is_told_of_them() -> Outcome {
    let pool = OnDisk::new()?;
    pool.engine.set_running(pool.machine, Running::Elsewhere)?;
    let prepared = pool.engine.prepare_group(&CreateGroup::of_machine(pool.machine, "live"))?;
    let left = pool.disk.log().cut(usize::MAX).durable().store();
    for file in left.list()?.iter().filter(|file| file.as_str().starts_with("layer-")) {
        assert!(is_usable(&left, file), "{file} has not arrived");
    }
    let group = prepared.commit(Consistency::Crash)?.inventory;
    assert_eq!(group.snapshot_count, 2);
    // The books say so from then on: whatever the other process makes of them is nothing to be made anew.
    let left = SimulatedStore::new(Arc::new(pool.disk.log().cut(usize::MAX).durable().store()));
    std::mem::forget(pool.engine);
    left.record();
    let engine = Engine::open_on(Arc::new(left.clone()), Options::default())?;
    assert!(
        !left.take_calls().iter().any(is_sync_of_a_layer),
        "a layer was taken for one that may not be there"
    );
    assert!(engine.group(group.uuid).is_ok());
    Ok(())
}

/// The system may remember nothing of a sync that has failed: the next one then succeeds, and writes nothing.
#[test]
fn a_head_whose_first_sync_has_failed_arrives_when_the_pool_is_opened_again() -> Outcome {
    let pool = OnDisk::new()?;
    let (head, volumes) = (pool.head(0)?, pool.volumes.clone());
    let handle = pool.engine.open_volume(volumes[0])?;
    handle.write_at(0, &[7; 5000])?;
    pool.store.fail(Fault::once(At::CallOf(Operation::Sync, 1), FaultKind::EIO));
    assert!(handle.flush().is_err());
    drop(handle);
    pool.store.heal();
    let OnDisk { disk, store, engine, .. } = pool;
    drop(engine);
    assert!(!is_usable(&disk.log().cut(usize::MAX).durable().store(), &head));
    let engine = Engine::open_on(Arc::new(store), Options::default())?;
    assert!(engine.recovered().unfinished.is_empty(), "{:?}", engine.recovered());
    std::mem::forget(engine);
    let left = disk.log().cut(usize::MAX).durable().store();
    assert!(is_usable(&left, &head));
    let engine = Engine::open_on(Arc::new(left), Options::default())?;
    assert_eq!(first_bytes(&engine, volumes[0])?, [1, 0]);
    Ok(())
}

/// The header has arrived, and the length; the refcounts have not.
#[test]
fn a_head_whose_refcounts_never_arrived_is_made_anew() -> Outcome {
    let (left, _, head) = new_disk_left()?;
    left.open(&head, Access::Write)?.write_at(HostOffset::new(2 << 16), &[0; 16])?;
    let engine = Engine::open_on(Arc::new(left), Options::default())?;
    assert_eq!(engine.recovered().rebuilt, [head.to_string()]);
    assert!(engine.check()?.is_clean());
    Ok(())
}

#[test]
fn a_file_that_cannot_be_opened_keeps_its_machine_from_running_elsewhere_and_its_pool_from_being_given_back()
-> Outcome {
    let store = SimulatedStore::new(Arc::new(MemoryStore::new()));
    let pool = Idle::new(Arc::new(store.clone()))?;
    pool.take(1)?;
    let unopened = Fault::once(At::CallOf(Operation::Open, 1), FaultKind::EIO);
    store.fail(unopened);
    assert!(pool.engine.set_running(pool.machine, Running::Elsewhere).is_err());
    pool.engine.set_running(pool.machine, Running::Elsewhere)?;
    pool.engine.set_running(pool.machine, Running::Here)?;
    pool.take(1)?;
    store.fail(unopened);
    assert!(pool.engine.close().is_err());
    Ok(())
}
