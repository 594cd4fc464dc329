//! What calls cost in calls to the store: exact counts of syncs, writes and bytes, with no clock.
//!
//! The layers' calls are counted to the last one. The catalogue is somebody else's file format: its syncs are exact, its
//! writes have a bound.

use snapgroup::storage::{BlobName, MemoryStore, Operation, SimulatedStore, Store};
use snapgroup::{
    ByteCount, CreateGroup, CreateMachine, CreateSnapshot, CreateVolume, DeleteSnapshots, Direction, Engine,
    Options, ReclaimOptions, Result, Step, Uuid, Volume, When,
};
use std::sync::Arc;

const CLUSTER: u64 = 65_536;

/// What was asked of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cost {
    /// Syncs of layers, and of the names.
    layer_syncs: u64,
    name_syncs: u64,
    /// Writes to layers, and their bytes.
    layer_writes: u64,
    layer_bytes: u64,
    /// Syncs of the catalogue, and how often its file has grown meanwhile, which costs one more.
    catalogue_syncs: u64,
    catalogue_growths: u64,
}

/// A pool that counts.
struct Counted {
    store: SimulatedStore,
    engine: Engine,
}

impl Counted {
    fn new() -> Result<Self> {
        let store = SimulatedStore::new(Arc::new(MemoryStore::new()));
        let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
        Ok(Self { store, engine })
    }

    /// A machine with open disks.
    fn machine(&self, disks: usize) -> Result<(Uuid, Vec<Volume>)> {
        let machine = self.engine.create_machine(&CreateMachine::new("machine"))?;
        let mut open = Vec::new();
        for index in 0..disks {
            let request = CreateVolume::new(format!("disk-{index}"), ByteCount::gib(1));
            let volume = self.engine.create_volume(&request)?;
            self.engine.attach_volume(volume.uuid, machine.uuid, None)?;
            open.push(self.engine.open_volume(volume.uuid)?);
        }
        Ok((machine.uuid, open))
    }

    /// What a call costs, and at most how many writes of the catalogue it may cost.
    fn cost<T>(&self, catalogue_writes_max: u64, call: impl FnOnce() -> Result<T>) -> Result<Cost> {
        self.store.record();
        call()?;
        let (mut cost, mut catalogue_writes) = (Cost::default(), 0);
        for call in self.store.take_calls() {
            let is_catalogue = call.name.as_ref().is_some_and(|name| name.as_str() == "snapgroup.redb");
            match (call.operation, is_catalogue) {
                (Operation::SyncNames, _) => cost.name_syncs += 1,
                (Operation::Sync, true) => cost.catalogue_syncs += 1,
                (Operation::SetLength, true) => cost.catalogue_growths += 1,
                (Operation::Sync, false) => cost.layer_syncs += 1,
                (Operation::Write, true) => catalogue_writes += 1,
                (Operation::Write, false) => {
                    cost.layer_writes += 1;
                    cost.layer_bytes += call.length.as_u64();
                }
                _ => {}
            }
        }
        assert!(catalogue_writes <= catalogue_writes_max, "{catalogue_writes} writes to the catalogue");
        Ok(cost)
    }

    fn snapshot(&self, disk: &Volume) -> Result<Uuid> {
        Ok(self.engine.create_snapshot(&CreateSnapshot::new(disk.uuid(), "snapshot"))?.uuid)
    }

    /// Deletes a snapshot from the books alone.
    fn delete(&self, snapshot: Uuid) -> Result<()> {
        let request = DeleteSnapshots { reclaim: When::Later, ..DeleteSnapshots::one(snapshot) };
        self.engine.delete_snapshots(&request).map(drop)
    }

    fn reclaim(&self, direction: Direction) -> Result<()> {
        let mut reclaim = self.engine.reclaim(&ReclaimOptions::towards(direction))?;
        while reclaim.step(ByteCount::mib(64))? == Step::More {}
        Ok(())
    }
}

#[test]
fn a_group_costs_two_syncs_whatever_the_number_of_its_disks() -> Result<()> {
    for disks in [1, 2, 8, 64] {
        let pool = Counted::new()?;
        let (machine, _open) = pool.machine(disks)?;
        let cost = pool.cost(40 + 12 * disks as u64, || {
            pool.engine.create_group(&CreateGroup::of_machine(machine, "group"))
        })?;
        let disks = disks as u64;
        let expected = Cost {
            layer_syncs: 0,
            name_syncs: 1,
            layer_writes: 3 * disks,
            layer_bytes: 1,
            catalogue_syncs: 1 + cost.catalogue_growths,
            catalogue_growths: cost.catalogue_growths,
        };
        assert!(cost.catalogue_growths <= 1, "{cost:?}");
        assert_eq!(cost, Cost { layer_bytes: cost.layer_bytes, ..expected }, "{disks} disks");
        // A header with its labels, one entry of the refcount table, a few refcounts: no cluster is written as a whole.
        assert!(cost.layer_bytes < disks * 1024, "{} bytes for {disks} disks", cost.layer_bytes);
    }
    Ok(())
}

#[test]
fn a_group_reads_the_header_of_each_head_and_nothing_of_the_files_that_it_makes() -> Result<()> {
    for disks in [1, 8] {
        let pool = Counted::new()?;
        let (machine, _open) = pool.machine(disks)?;
        let group = CreateGroup::of_machine(machine, "group");
        // From here on the headers of the heads name what is below, and end with that.
        pool.engine.create_group(&group)?;
        pool.store.record();
        pool.engine.create_group(&group)?;
        let calls = pool.store.take_calls();
        let made: Vec<_> = calls.iter().filter(|call| call.operation == Operation::Create).collect();
        assert_eq!(made.len(), disks);
        let is_layer = |call: &&snapgroup::storage::Call| {
            call.operation == Operation::Read
                && call.name.as_ref().is_some_and(|name| name.as_str() != "snapgroup.redb")
        };
        let read: Vec<_> = calls.iter().filter(is_layer).collect();
        assert_eq!(read.len(), disks, "{read:?}");
        assert!(read.iter().all(|read| made.iter().all(|made| made.name != read.name)), "{read:?}");
        assert!(read.iter().all(|read| read.length <= ByteCount::kib(4)), "{read:?}");
    }
    Ok(())
}

#[test]
fn a_group_of_disks_that_hold_unflushed_data_costs_their_flushes_more() -> Result<()> {
    for (disks, dirty) in [(1, 1), (8, 1), (8, 8), (64, 3)] {
        let pool = Counted::new()?;
        let (machine, open) = pool.machine(disks)?;
        for disk in &open[..dirty] {
            disk.write_at(0, &[1; 4096])?;
        }
        let taken = pool.cost(40 + 12 * disks as u64, || {
            pool.engine.create_group(&CreateGroup::of_machine(machine, "group"))
        })?;
        let dirty = dirty as u64;
        assert_eq!(taken.layer_syncs, 2 * dirty, "new data is two syncs: {taken:?}");
        assert_eq!((taken.name_syncs, taken.catalogue_syncs - taken.catalogue_growths), (1, 1));
    }
    Ok(())
}

#[test]
fn the_first_flush_of_a_head_costs_what_any_other_does() -> Result<()> {
    let pool = Counted::new()?;
    let (_, open) = pool.machine(1)?;
    pool.snapshot(&open[0])?;
    open[0].write_at(0, &[1; 4096])?;
    let first = pool.cost(0, || open[0].flush())?;
    open[0].write_at(CLUSTER, &[1; 4096])?;
    let second = pool.cost(0, || open[0].flush())?;
    assert_eq!((first.layer_syncs, first.catalogue_syncs), (2, 0));
    assert_eq!(second.layer_syncs, 2);
    Ok(())
}

#[test]
fn giving_a_pool_back_costs_each_new_head_a_sync_and_all_of_them_a_commit() -> Result<()> {
    let syncs = |disks: usize| -> Result<(u64, u64)> {
        let pool = Counted::new()?;
        let (machine, open) = pool.machine(disks)?;
        pool.engine.create_group(&CreateGroup::of_machine(machine, "group"))?;
        drop(open);
        let Counted { store, engine } = pool;
        store.record();
        engine.close()?;
        let calls = store.take_calls();
        let is_catalogue = |call: &&snapgroup::storage::Call| {
            call.name.as_ref().is_some_and(|name| name.as_str() == "snapgroup.redb")
        };
        let (books, layers): (Vec<_>, Vec<_>) =
            calls.iter().filter(|call| call.operation == Operation::Sync).partition(is_catalogue);
        Ok((layers.len() as u64, books.len() as u64))
    };
    let (one, of_one) = syncs(1)?;
    let (eight, of_eight) = syncs(8)?;
    // The head of now, and the empty one that is frozen below it.
    assert_eq!((one, eight), (2, 16));
    assert!(of_eight <= of_one + 1, "{of_one} syncs of the catalogue for one disk, {of_eight} for eight");
    Ok(())
}

#[test]
fn opening_a_pool_lists_its_files_once_whatever_was_left_there() -> Result<()> {
    let lists = |store: &SimulatedStore| -> Result<u64> {
        let before = store.counts().of(Operation::List);
        Engine::open_on(Arc::new(store.clone()), Options::default())?.close()?;
        Ok(store.counts().of(Operation::List) - before)
    };
    let empty = SimulatedStore::new(Arc::new(MemoryStore::new()));
    assert_eq!(
        lists(&empty)?,
        2,
        "what is no pool is looked through before its lock is taken, and again after it"
    );
    assert_eq!(lists(&empty)?, 1);
    for disks in [1, 8] {
        let pool = Counted::new()?;
        let (machine, open) = pool.machine(disks)?;
        pool.engine.create_group(&CreateGroup::of_machine(machine, "group"))?;
        let deleted = pool.snapshot(&open[0])?;
        pool.delete(deleted)?;
        drop(open);
        let Counted { store, engine } = pool;
        engine.close()?;
        store.create(&BlobName::parse("layer-00000000000000000000000000000001.qcow2").expect("a name"))?;
        assert_eq!(lists(&store)?, 1, "{disks} disks");
    }
    Ok(())
}

#[test]
fn a_deletion_is_one_commit_whatever_the_layer_holds() -> Result<()> {
    for clusters in [1, 200] {
        let pool = Counted::new()?;
        let (_, open) = pool.machine(1)?;
        pool.snapshot(&open[0])?;
        for cluster in 0..clusters {
            open[0].write_at(cluster * CLUSTER, &[7; 4096])?;
        }
        let snapshot = pool.snapshot(&open[0])?;
        let cost = pool.cost(60, || pool.delete(snapshot))?;
        assert_eq!(cost, Cost { catalogue_syncs: 1, ..Cost::default() }, "{clusters} clusters");
    }
    Ok(())
}

#[test]
fn a_write_between_two_flushes_is_one_write_and_a_flush_is_one_sync() -> Result<()> {
    let pool = Counted::new()?;
    let (_, open) = pool.machine(1)?;
    let disk = &open[0];
    disk.write_at(0, &[1; 4096])?;
    disk.flush()?;
    let write = pool.cost(0, || disk.write_at(4096, &[2; 4096]))?;
    assert_eq!(write, Cost { layer_writes: 1, layer_bytes: 4096, ..Cost::default() });
    let flush = pool.cost(0, || disk.flush())?;
    assert_eq!(flush, Cost { layer_syncs: 1, ..Cost::default() });
    let again = pool.cost(0, || disk.flush())?;
    assert_eq!(again, Cost::default(), "there is nothing to flush");
    Ok(())
}

#[test]
fn new_clusters_cost_one_write_each_and_their_flush_two_syncs() -> Result<()> {
    let pool = Counted::new()?;
    let (_, open) = pool.machine(1)?;
    let disk = &open[0];
    disk.write_at(0, &[1; 4096])?;
    disk.flush()?;
    for cluster in 1..100 {
        // There is nothing below and nothing in the file: what is around the bytes need not be written.
        let write = pool.cost(0, || disk.write_at(cluster * CLUSTER, &[2; 4096]))?;
        assert_eq!(write, Cost { layer_writes: 1, layer_bytes: 4096, ..Cost::default() });
    }
    let flush = pool.cost(0, || disk.flush())?;
    // A block of refcounts as a whole, and the entries of 99 clusters.
    let entries = Cost { layer_syncs: 2, layer_writes: 2, layer_bytes: CLUSTER + 99 * 8, ..Cost::default() };
    assert_eq!(flush, entries);
    Ok(())
}

#[test]
fn a_large_write_over_a_base_reads_nothing_of_it_and_is_one_write() -> Result<()> {
    let pool = Counted::new()?;
    let (_, open) = pool.machine(1)?;
    let disk = &open[0];
    disk.write_at(0, &vec![1; 1 << 20])?;
    pool.snapshot(disk)?;
    let reads = || pool.store.counts().of(Operation::Read);
    disk.write_at(1 << 20, &[2; 4096])?;
    let before = reads();
    let write = pool.cost(0, || disk.write_at(0, &vec![2; 1 << 20]))?;
    assert_eq!(write, Cost { layer_writes: 1, layer_bytes: 1 << 20, ..Cost::default() });
    assert_eq!(reads(), before);
    Ok(())
}

/// A disk of three layers: so many clusters in the middle one, which is deleted, and the first `above` of them in the
/// head, too.
fn retired(pool: &Counted, clusters: u64, above: u64) -> Result<Vec<Volume>> {
    let (_, open) = pool.machine(1)?;
    pool.snapshot(&open[0])?;
    for cluster in 0..clusters {
        open[0].write_at(cluster * CLUSTER, &[1; 65_536])?;
    }
    let deleted = pool.snapshot(&open[0])?;
    for cluster in 0..above {
        open[0].write_at(cluster * CLUSTER, &[2; 65_536])?;
    }
    open[0].flush()?;
    pool.delete(deleted)?;
    Ok(open)
}

/// Beside the data a merge writes a block of refcounts and a table in each of two files, and headers.
const TABLES: u64 = 5 * CLUSTER;

#[test]
fn nothing_is_copied_of_a_layer_that_nobody_sees() -> Result<()> {
    for clusters in [8, 80] {
        let pool = Counted::new()?;
        let _open = retired(&pool, clusters, clusters)?;
        let cost = pool.cost(300, || pool.reclaim(Direction::Auto))?;
        assert!(cost.layer_bytes < TABLES, "{cost:?}");
    }
    Ok(())
}

#[test]
fn a_merge_writes_what_its_direction_needs_and_syncs_as_often_for_much_as_for_little() -> Result<()> {
    for direction in [Direction::Pull, Direction::Commit] {
        let mut syncs = Vec::new();
        for clusters in [8, 80] {
            let pool = Counted::new()?;
            let open = retired(&pool, clusters, clusters / 4)?;
            let cost = pool.cost(300, || pool.reclaim(direction))?;
            let data = match direction {
                Direction::Pull => (clusters - clusters / 4) * CLUSTER,
                _ => clusters / 4 * CLUSTER,
            };
            assert!((data..data + TABLES).contains(&cost.layer_bytes), "{direction:?} of {data}: {cost:?}");
            syncs.push((cost.layer_syncs, cost.name_syncs, cost.catalogue_syncs));
            for (cluster, expected) in [(0, 2), (clusters - 1, 1)] {
                let mut buffer = [0];
                open[0].read_at(cluster * CLUSTER, &mut buffer)?;
                assert_eq!(buffer, [expected]);
            }
        }
        assert_eq!(syncs[0], syncs[1], "{direction:?}");
    }
    Ok(())
}
