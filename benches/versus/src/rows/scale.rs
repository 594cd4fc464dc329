//! A pool with few snapshots beside one with many.
//!
//! The large pool is made in memory. Its catalogue is written out, and the files of the one machine that is measured;
//! nobody asks for the others, which are thrown away meanwhile.

use super::group::options;
use crate::files;
use crate::machine;
use crate::measure::{alone, timed};
use crate::table::{Line, OURS, Row, bytes, time};
use crate::{Bench, Result};
use snapgroup::query::{Query, SnapshotField, Test};
use snapgroup::storage::{Access, MemoryStore, Store};
use snapgroup::{
    ByteCount, CatalogueCheck, CreateGroup, CreateMachine, CreatePool, CreateVolume, DeleteGroup, Engine,
    Options, QuickRepair, Uuid, When,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The disks of each machine, and the groups that are taken of it.
const DISKS: usize = 8;
const GROUPS: usize = 25;

/// How many machines are made before the files of those before them are thrown away.
const MACHINES_KEPT: usize = 40;

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

/// What is asked of each pool, in the order of [`measure`].
#[derive(Clone, Copy, Debug)]
enum Work {
    /// A pool that was closed is opened, in so many seconds at most.
    Open(Check, f64),
    /// What a crash has left is opened, in so many seconds at most.
    Restart(Check, f64),
    Call(&'static str),
}

/// What opening looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// Every page of the catalogue, as it does unless told otherwise.
    Pages,
    /// Nothing, where every commit has written what a restart needs.
    Nothing,
}

const WORK: [Work; 7] = [
    Work::Open(Check::Pages, 0.050),
    Work::Open(Check::Nothing, 0.050),
    Work::Restart(Check::Pages, 2.0),
    Work::Restart(Check::Nothing, 0.050),
    Work::Call("group of 8"),
    Work::Call("delete of a group"),
    Work::Call("query by uuid"),
];

impl Work {
    fn name(self) -> String {
        match self {
            Self::Open(check, _) => format!("open after a clean close{}", check.name()),
            Self::Restart(check, _) => format!("open after a crash{}", check.name()),
            Self::Call(call) => call.to_owned(),
        }
    }
}

impl Check {
    const fn name(self) -> &'static str {
        match self {
            Self::Pages => "",
            Self::Nothing => ", unchecked, with quick repair",
        }
    }

    fn options(self) -> Options {
        let options = Options { create: CreatePool::Never, ..options() };
        match self {
            Self::Pages => options,
            Self::Nothing => {
                Options { catalogue_check: CatalogueCheck::Trust, quick_repair: QuickRepair::On, ..options }
            }
        }
    }
}

pub fn pool(bench: &Bench) -> Result<Vec<Line>> {
    let many = std::env::var("VERSUS_SNAPSHOTS").map_or(Ok(100_000), |count| count.parse())?;
    let mut lines = Vec::new();
    let mut found = WORK.map(|_| Vec::new());
    let mut labels = Vec::new();
    for wanted in bench.pick(vec![10, many / 100, many / 10, many], vec![10]) {
        let name = format!("pool-{wanted}");
        let directory = bench.directory.join(&name);
        let built =
            files::in_another_process(&bench.directory, &["--build-pool", &name, &wanted.to_string()])?;
        let pool = Pool::parse(&built).ok_or("another process has built no pool")?;
        files::settle(&directory)?;
        labels.push(pool.snapshots.to_string());
        for (found, cost) in found.iter_mut().zip(measure(bench, &directory, &pool)?) {
            found.push(cost);
        }
    }
    let last = labels[labels.len() - 1].clone();
    for (work, found) in WORK.into_iter().zip(found) {
        let Cost { seconds, peak } = found[found.len() - 1];
        let row =
            Row::new("P7", format!("{}, {last} snapshots", work.name()), vec![(OURS.to_owned(), seconds)]);
        lines.push(Line::Row(match work {
            Work::Open(_, most) => row.at_most(most).holds("< 100 MiB", bytes(peak), peak < 100 << 20),
            Work::Restart(_, most) => row.at_most(most),
            Work::Call(_) => row.within("a pool of 10", Some(found[0].seconds), 1.5),
        }));
        let points = labels.iter().cloned().zip(found.into_iter().map(|cost| time(cost.seconds))).collect();
        lines.push(Line::Curve {
            what: format!("{}, against the snapshots in the pool:", work.name()),
            points,
        });
    }
    Ok(lines)
}

/// The time of a call, and the most memory that was used by then.
#[derive(Clone, Copy, Debug)]
struct Cost {
    seconds: f64,
    peak: u64,
}

fn measure(bench: &Bench, directory: &Path, pool: &Pool) -> Result<Vec<Cost>> {
    let mut costs = Vec::new();
    let mut cost = |body: &mut dyn FnMut() -> Result<f64>| {
        machine::forget_peak();
        let seconds = body()?;
        costs.push(Cost { seconds, peak: machine::peak_memory()? });
        Ok::<(), Box<dyn std::error::Error>>(())
    };
    cost(&mut || alone(bench.runs(), || open(directory, Check::Pages)))?;
    cost(&mut || alone(bench.runs(), || open(directory, Check::Nothing)))?;
    cost(&mut || after_a_crash(bench, directory, pool, Check::Pages))?;
    cost(&mut || after_a_crash(bench, directory, pool, Check::Nothing))?;
    let engine = Engine::open(directory, Check::Pages.options())?;
    let mut groups = Vec::new();
    cost(&mut || {
        alone(bench.runs(), || {
            let request = CreateGroup::of_machine(pool.machine, format!("more-{}", groups.len()));
            timed(|| {
                groups.push(engine.create_group(&request)?.inventory.uuid);
                Ok(())
            })
        })
    })?;
    cost(&mut || {
        alone(bench.runs(), || {
            let group = groups.pop().ok_or("as many are deleted as were taken")?;
            let request = DeleteGroup { reclaim: When::Later, ..DeleteGroup::new(group) };
            timed(|| Ok(engine.delete_group(&request)?))
        })
    })?;
    cost(&mut || {
        alone(bench.pick(101, 1), || {
            let test = Test::Equal(pool.snapshot.simple().to_string().into());
            let query = Query::all().with(SnapshotField::Uuid, test);
            timed(|| {
                let found = engine.query_snapshots(&query)?.total;
                if found == 1 { Ok(()) } else { Err(format!("{found} snapshots have one uuid").into()) }
            })
        })
    })?;
    Ok(costs)
}

/// Opens a pool, and closes it.
fn open(directory: &Path, check: Check) -> Result<Duration> {
    let mut engine = None;
    let taken = timed(|| {
        engine = Some(Engine::open(directory, check.options())?);
        Ok(())
    })?;
    engine.ok_or("it is open")?.close()?;
    Ok(taken)
}

/// Opens copies of a pool that were made while it was open, right after a commit.
fn after_a_crash(bench: &Bench, directory: &Path, pool: &Pool, check: Check) -> Result<f64> {
    let engine = Engine::open(directory, check.options())?;
    let group = engine.create_group(&CreateGroup::of_machine(pool.machine, "crash"))?.inventory.uuid;
    let copy = bench.directory.join("crashed");
    let seconds = alone(bench.pick(3, 1), || {
        std::fs::create_dir(&copy)?;
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            std::fs::copy(entry.path(), copy.join(entry.file_name()))?;
        }
        files::settle(&copy)?;
        let taken = open(&copy, check)?;
        std::fs::remove_dir_all(&copy)?;
        Ok(taken)
    })?;
    drop(engine.delete_group(&DeleteGroup { reclaim: When::Later, ..DeleteGroup::new(group) })?);
    engine.close()?;
    Ok(seconds)
}

/// Makes a pool of about so many snapshots, and prints what [`Pool::parse`] reads.
pub fn build_pool(directory: &Path, wanted: usize) -> Result<()> {
    let store = MemoryStore::new();
    let mut engine = Engine::open_on(Arc::new(store.clone()), options())?;
    let (mut snapshots, mut last) = (0, None);
    while snapshots < wanted {
        if snapshots % (MACHINES_KEPT * DISKS * GROUPS) == 0 {
            // A file that was settled is not looked at when the pool is opened.
            engine.close()?;
            forget_layers(&store)?;
            let trusting = Options { catalogue_check: CatalogueCheck::Trust, ..options() };
            engine = Engine::open_on(Arc::new(store.clone()), trusting)?;
        }
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
    engine.close()?;
    std::fs::create_dir(directory)?;
    for name in store.list()? {
        files::write_out(&*store.open(&name, Access::Read)?, &directory.join(name.as_str()))?;
    }
    println!("{machine} {snapshot} {snapshots}");
    Ok(())
}

/// Throws the files away that the machines before were made of.
fn forget_layers(store: &MemoryStore) -> Result<()> {
    for name in store.list()?.iter().filter(|name| name.as_str() != "snapgroup.redb") {
        store.remove(name)?;
    }
    Ok(())
}
