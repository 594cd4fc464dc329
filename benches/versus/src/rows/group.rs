//! Groups of many disks, durable.

use crate::floor;
use crate::measure::{Side, alone, in_turn, timed};
use crate::qemu;
use crate::table::{FLOOR, Line, OURS, QEMU, Row, time};
use crate::{Bench, Result};
use snapgroup::storage::{MemoryStore, Operation, SimulatedStore};
use snapgroup::{
    ByteCount, ChainFull, CreateGroup, CreateMachine, CreateVolume, Engine, Options, Uuid, Volume,
};
use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A machine with open disks.
pub struct Machine {
    engine: Engine,
    uuid: Uuid,
    disks: Vec<Volume>,
    taken: Cell<usize>,
}

impl Machine {
    pub fn new(engine: Engine, disks: usize, size: ByteCount) -> Result<Self> {
        let machine = engine.create_machine(&CreateMachine::new("machine"))?;
        let mut open = Vec::new();
        for index in 0..disks {
            let volume = engine.create_volume(&CreateVolume::new(format!("disk-{index}"), size))?;
            engine.attach_volume(volume.uuid, machine.uuid, None)?;
            open.push(engine.open_volume(volume.uuid)?);
        }
        Ok(Self { engine, uuid: machine.uuid, disks: open, taken: Cell::new(0) })
    }

    pub fn take(&self) -> Result<Duration> {
        self.taken.set(self.taken.get() + 1);
        let request = CreateGroup::of_machine(self.uuid, format!("group-{}", self.taken.get()));
        timed(|| Ok(self.engine.create_group(&request)?))
    }

    fn write_to_all(&self) -> Result<()> {
        for disk in &self.disks {
            disk.write_at(0, &[1; 4096])?;
        }
        Ok(())
    }
}

/// Chains may be as long as the measurement makes them.
pub fn options() -> Options {
    Options { chain_max: 100_000, chain_full: ChainFull::Refuse, ..Options::default() }
}

pub fn durable(bench: &Bench) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (disks, times) in bench.pick(vec![(8, 30.0), (64, 100.0)], vec![(2, 1.0)]) {
        let directory = bench.directory.join(format!("pool-{disks}"));
        let machine = Machine::new(Engine::open(&directory, options())?, disks, ByteCount::gib(1))?;
        let mut sides = vec![
            Side::new(OURS, || machine.take()),
            Side::new(FLOOR, || floor::small_files_and_a_record(&bench.directory, disks)),
        ];
        if qemu::is_here() {
            sides.push(Side::new(QEMU, || overlays(&bench.directory, disks)));
        }
        let cells = in_turn(bench.runs(), 1, &mut sides)?;
        drop(sides);
        let row = Row::new("P1", format!("a durable group of {disks} disks"), cells).faster(QEMU, times);
        let floor = row.of(FLOOR);
        lines.push(Line::Row(row.within(FLOOR, floor, 2.0)));
        let syncs = syncs(disks)?;
        let Some(Line::Row(row)) = lines.pop() else { unreachable!("it was just put in") };
        lines.push(Line::Row(row.holds("syncs <= 2", format!("{syncs} syncs"), syncs <= 2)));
        let dirty = alone(bench.runs(), || {
            machine.write_to_all()?;
            machine.take()
        })?;
        let work = format!("the same, each of the {disks} disks with unflushed writes");
        lines.push(Line::Row(Row::new("", work, vec![(OURS.to_owned(), dirty)])));
    }
    lines.push(against_disks(bench)?);
    lines.push(against_size(bench)?);
    Ok(lines)
}

/// How many syncs the group costs when there is nothing to flush.
fn syncs(disks: usize) -> Result<u64> {
    let store = SimulatedStore::new(Arc::new(MemoryStore::new()));
    let machine =
        Machine::new(Engine::open_on(Arc::new(store.clone()), options())?, disks, ByteCount::gib(1))?;
    let syncs = || store.counts().of(Operation::Sync) + store.counts().of(Operation::SyncNames);
    let before = syncs();
    machine.take()?;
    Ok(syncs() - before)
}

/// `qemu-img create`, once for each disk.
fn overlays(directory: &Path, disks: usize) -> Result<Duration> {
    let base = directory.join("base.qcow2").display().to_string();
    if !Path::new(&base).exists() {
        qemu::run("qemu-img", &["create", "-q", "-f", "qcow2", &base, "1G"])?;
    }
    let names: Vec<_> =
        (0..disks).map(|index| directory.join(format!("overlay-{index}")).display().to_string()).collect();
    timed(|| {
        names.iter().try_for_each(|name| {
            qemu::run("qemu-img", &["create", "-q", "-f", "qcow2", "-b", &base, "-F", "qcow2", name])
        })
    })
}

fn against_disks(bench: &Bench) -> Result<Line> {
    let mut points = Vec::new();
    for disks in bench.pick(vec![1, 2, 4, 8, 16, 32, 64], vec![1]) {
        let directory = bench.directory.join(format!("curve-{disks}"));
        let machine = Machine::new(Engine::open(&directory, options())?, disks, ByteCount::gib(1))?;
        points.push((disks.to_string(), time(alone(bench.runs(), || machine.take())?)));
    }
    Ok(Line::Curve { what: "A durable group, against the number of disks:".to_owned(), points })
}

fn against_size(bench: &Bench) -> Result<Line> {
    let mut points = Vec::new();
    for size in bench.pick(
        vec![ByteCount::gib(1), ByteCount::gib(64), ByteCount::gib(1 << 10), ByteCount::gib(64 << 10)],
        vec![ByteCount::gib(1)],
    ) {
        let directory = bench.directory.join(format!("size-{}", size.as_u64()));
        let machine = Machine::new(Engine::open(&directory, options())?, 2, size)?;
        points.push((crate::table::bytes(size.as_u64()), time(alone(bench.runs(), || machine.take())?)));
    }
    Ok(Line::Curve { what: "A durable group of 2 disks, against their virtual size:".to_owned(), points })
}
