//! A pool with few snapshots beside one with many.
//!
//! The large pool is made in memory. Its catalogue is written out, and the files of the one machine that is measured;
//! nobody asks for the others.

use super::group::options;
use crate::files;
use crate::machine;
use crate::measure::{alone, timed};
use crate::table::{Line, OURS, Row, bytes, time};
use crate::{Bench, Result};
use snapgroup::query::{Query, SnapshotField, Test};
use snapgroup::storage::{Access, MemoryStore, Store};
use snapgroup::{
    ByteCount, CreateGroup, CreateMachine, CreatePool, CreateVolume, DeleteGroup, Engine, Options, Uuid, When,
};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// The disks of each machine, and the groups that are taken of it.
const DISKS: usize = 8;
const GROUPS: usize = 25;

/// A pool on disk, made by another process.
struct Pool {
    /// The machine that is measured, and one of its snapshots.
    machine: Uuid,
    snapshot: Uuid,
    snapshots: usize,
}

impl Pool {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let machine = words.next()?.parse().ok()?;
        let snapshot = words.next()?.parse().ok()?;
        Some(Self { machine, snapshot, snapshots: words.next()?.parse().ok()? })
    }
}

pub fn pool(bench: &Bench) -> Result<Vec<Line>> {
    let many = std::env::var("VERSUS_SNAPSHOTS").map_or(Ok(100_000), |count| count.parse())?;
    let mut lines = Vec::new();
    let mut rows: Vec<(&str, Vec<f64>)> =
        ["open after a clean close", "group of 8", "delete of a group", "query by uuid"]
            .map(|what| (what, Vec::new()))
            .into();
    let mut labels = Vec::new();
    let mut peak = 0;
    for wanted in bench.pick(vec![10, many / 100, many / 10, many], vec![10]) {
        let directory = bench.directory.join(format!("pool-{wanted}"));
        let name = format!("pool-{wanted}");
        let built =
            files::in_another_process(&bench.directory, &["--build-pool", &name, &wanted.to_string()])?;
        let pool = Pool::parse(&built).ok_or("another process has built no pool")?;
        files::settle(&directory)?;
        machine::forget_peak();
        let costs = measure(bench, &directory, &pool)?;
        peak = machine::peak_memory()?;
        labels.push(pool.snapshots.to_string());
        for ((_, found), cost) in rows.iter_mut().zip(costs) {
            found.push(cost);
        }
    }
    for (what, found) in rows {
        let (few, many) = (found[0], found[found.len() - 1]);
        let work = format!("{what}, {} snapshots", labels[labels.len() - 1]);
        let row = Row::new("P7", work, vec![(OURS.to_owned(), many)]);
        lines.push(Line::Row(match what {
            "open after a clean close" => {
                row.at_most(0.050).holds("< 100 MiB", bytes(peak), peak < 100 << 20)
            }
            _ => row.within("a pool of 10", Some(few), 1.5),
        }));
        let points = labels.iter().cloned().zip(found.into_iter().map(time)).collect();
        lines.push(Line::Curve { what: format!("{what}, against the snapshots in the pool:"), points });
    }
    Ok(lines)
}

fn measure(bench: &Bench, directory: &Path, pool: &Pool) -> Result<[f64; 4]> {
    let options = || Options { create: CreatePool::Never, ..options() };
    let open = alone(bench.runs(), || {
        let mut engine = None;
        let taken = timed(|| {
            engine = Some(Engine::open(directory, options())?);
            Ok(())
        })?;
        engine.ok_or("it is open")?.close()?;
        Ok(taken)
    })?;
    let engine = Engine::open(directory, options())?;
    let mut groups = Vec::new();
    let create = alone(bench.runs(), || {
        let request = CreateGroup::of_machine(pool.machine, format!("more-{}", groups.len()));
        timed(|| {
            groups.push(engine.create_group(&request)?.inventory.uuid);
            Ok(())
        })
    })?;
    let delete = alone(bench.runs(), || {
        let group = groups.pop().ok_or("as many are deleted as were taken")?;
        timed(|| Ok(engine.delete_group(&DeleteGroup { reclaim: When::Later, ..DeleteGroup::new(group) })?))
    })?;
    let query = alone(bench.pick(101, 1), || {
        let test = Test::Equal(pool.snapshot.simple().to_string().into());
        let query = Query::all().with(SnapshotField::Uuid, test);
        timed(|| {
            let found = engine.query_snapshots(&query)?.total;
            if found == 1 { Ok(()) } else { Err(format!("{found} snapshots have one uuid").into()) }
        })
    })?;
    Ok([open, create, delete, query])
}

/// Makes a pool of about so many snapshots, and prints what [`Pool::parse`] reads.
pub fn build_pool(directory: &Path, wanted: usize) -> Result<()> {
    let store = MemoryStore::new();
    let engine = Engine::open_on(Arc::new(store.clone()), options())?;
    let (mut snapshots, mut last) = (0, None);
    while snapshots < wanted {
        let machine = engine.create_machine(&CreateMachine::new(format!("machine-{snapshots}")))?;
        for index in 0..DISKS {
            let volume =
                engine.create_volume(&CreateVolume::new(format!("disk-{index}"), ByteCount::gib(1)))?;
            engine.attach_volume(volume.uuid, machine.uuid, None)?;
        }
        let mut snapshot = None;
        for index in 0..GROUPS.min((wanted - snapshots).div_ceil(DISKS)) {
            let group =
                engine.create_group(&CreateGroup::of_machine(machine.uuid, format!("group-{index}")))?;
            snapshot = group.inventory.volume_snapshot_refs.first().map(|member| member.volume_snapshot_uuid);
            snapshots += DISKS;
        }
        last = Some((machine.uuid, snapshot.ok_or("a group has members")?));
    }
    let (machine, snapshot) = last.ok_or("there is a machine")?;
    // The files of the last machine, by the chains of its disks.
    let mut wanted = HashSet::from(["snapgroup.redb".to_owned()]);
    for disk in engine.machine(machine)?.all_volumes {
        wanted.extend(engine.chain(disk.uuid)?.into_iter().map(|layer| layer.file));
    }
    engine.close()?;
    std::fs::create_dir(directory)?;
    for name in store.list()? {
        if wanted.contains(name.as_str()) {
            files::write_out(&*store.open(&name, Access::Read)?, &directory.join(name.as_str()))?;
        }
    }
    println!("{machine} {snapshot} {snapshots}");
    Ok(())
}
