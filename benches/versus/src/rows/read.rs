//! Reading through chains: at random, in order, and for the first time.

use crate::files::{self, ChainFiles};
use crate::machine;
use crate::measure::{Dice, Side, alone, in_turn, timed};
use crate::peers::{self, Disk, Peer};
use crate::qemu;
use crate::table::{FLOOR, IMAGO, Line, MAPPED, OURS, QCOW2_RS, QEMU, Row, bytes, time};
use crate::{Bench, Result};
use snapgroup::storage::{Access, MapFrozen};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// The block that is read at random.
const BLOCK: usize = 4096;
/// The request of a read in order.
const REQUEST: usize = 1 << 20;

/// Somebody with the chain open.
struct Open {
    peer: Peer,
    disk: Box<dyn Disk>,
}

fn open_all(bench: &Bench, files: &ChainFiles) -> Result<Vec<Open>> {
    let depth = files.names.len();
    let able = peers::all().into_iter().filter(|peer| depth <= peer.depth_max);
    able.map(|peer| Ok(Open { peer, disk: (peer.open)(&bench.directory, files, Access::Read)? })).collect()
}

/// Reads so many blocks at random, the same ones on every side.
fn read_blocks(disk: &dyn Disk, size: u64, count: usize) -> Result<Duration> {
    let mut dice = Dice(7);
    let mut buffer = vec![0; BLOCK];
    timed(|| {
        for _ in 0..count {
            disk.read(dice.below(size / BLOCK as u64) * BLOCK as u64, &mut buffer)?;
        }
        Ok(())
    })
}

fn read_all(disk: &dyn Disk, size: u64) -> Result<Duration> {
    let mut buffer = vec![0; REQUEST];
    timed(|| (0..size).step_by(REQUEST).try_for_each(|at| disk.read(at, &mut buffer)))
}

/// Refuses a peer that reads something else than was written.
fn compare(opens: &[Open], size: u64) -> Result<()> {
    let mut buffer = vec![0; BLOCK];
    for cluster in (0..size / files::CLUSTER).step_by(97) {
        for open in opens {
            open.disk.read(cluster * files::CLUSTER, &mut buffer)?;
            if buffer[..8] != cluster.to_be_bytes() {
                return Err(format!("{} reads cluster {cluster} wrong", open.peer.name).into());
            }
        }
    }
    Ok(())
}

fn disk_size(bench: &Bench) -> u64 {
    bench.pick(512 << 20, 4 << 20)
}

pub fn random(bench: &Bench) -> Result<Vec<Line>> {
    let (size, count) = (disk_size(bench), bench.pick(20_000, 10));
    let mut lines = Vec::new();
    let mut at_depth_1 = None;
    for depth in bench.pick(vec![1, 10, 100, 1000], vec![1, 3]) {
        let files = files::chain(&bench.directory, &format!("random-{depth}"), depth, size)?;
        let opens = open_all(bench, &files)?;
        compare(&opens, size)?;
        let flat = File::open(bench.directory.join(files.head()))?;
        let length = flat.metadata()?.len();
        let mut sides: Vec<Side<'_>> = opens
            .iter()
            .map(|open| Side::new(open.peer.name, || read_blocks(&*open.disk, size, count)))
            .collect();
        sides.push(Side::new(FLOOR, || {
            let mut dice = Dice(7);
            let mut buffer = vec![0; BLOCK];
            timed(|| {
                for _ in 0..count {
                    flat.read_exact_at(&mut buffer, dice.below(length / BLOCK as u64) * BLOCK as u64)?;
                }
                Ok(())
            })
        }));
        let cells = in_turn(bench.runs(), count, &mut sides)?;
        drop(sides);
        let row = Row::new("P4", format!("read 4 KiB at random, depth {depth}"), cells);
        let row = match depth {
            1 => row.faster_than_peers(OURS, 1.3).faster_than_peers(MAPPED, 2.0),
            100 => row.faster(IMAGO, 6.0).faster(QCOW2_RS, 30.0),
            1000 => row.within("depth 1", at_depth_1, 1.2),
            _ => row,
        };
        at_depth_1 = at_depth_1.or(row.of(OURS));
        lines.push(Line::Row(row));
    }
    lines.push(threads(bench, size, count)?);
    Ok(lines)
}

/// What the threads of this process get together.
fn threads(bench: &Bench, size: u64, count: usize) -> Result<Line> {
    let files = files::chain(&bench.directory, "threads", bench.pick(10, 2), size)?;
    let chain = peers::open_chain(&bench.directory, &files, Access::Read, MapFrozen::No)?;
    let mut points = Vec::new();
    for threads in [1, 2] {
        let each = alone(bench.runs(), || {
            timed(|| {
                std::thread::scope(|scope| {
                    let work =
                        || read_blocks(&chain, size, count).map(drop).map_err(|error| error.to_string());
                    let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
                    let mut done = running.into_iter().map(|thread| thread.join().expect("no read panics"));
                    done.try_for_each(|done| Ok(done?))
                })
            })
        })?;
        points.push((threads.to_string(), time(each / (count * threads) as f64)));
    }
    Ok(Line::Curve {
        what: "Read 4 KiB at random, depth 10, against threads (time for one read of all together):"
            .to_owned(),
        points,
    })
}

pub fn sequential(bench: &Bench) -> Result<Vec<Line>> {
    let size = disk_size(bench);
    let mut lines = Vec::new();
    for depth in bench.pick(vec![1, 10, 100, 1000], vec![1, 3]) {
        let files = files::chain(&bench.directory, &format!("sequential-{depth}"), depth, size)?;
        let opens = open_all(bench, &files)?;
        let mut sides: Vec<Side<'_>> =
            opens.iter().map(|open| Side::new(open.peer.name, || read_all(&*open.disk, size))).collect();
        let cells = in_turn(bench.runs(), 1, &mut sides)?;
        drop(sides);
        let work = format!("read {} in requests of 1 MiB, depth {depth}", bytes(size));
        let row = Row::new("P4", work, cells);
        lines.push(Line::Row(if depth <= 100 { row.faster_than_peers(OURS, 1.0) } else { row }));
    }
    Ok(lines)
}

pub fn open(bench: &Bench) -> Result<Vec<Line>> {
    let size = disk_size(bench);
    let mut lines = Vec::new();
    let (mut costs, mut peaks) = (Vec::new(), Vec::new());
    for depth in bench.pick(vec![1, 10, 100, 1000, 10_000], vec![1, 3]) {
        let files = files::chain(&bench.directory, &format!("open-{depth}"), depth, size)?;
        let files = &files;
        let able: Vec<_> = peers::all().into_iter().filter(|peer| depth <= peer.depth_max).collect();
        let opening = |peer: Peer| {
            timed(|| {
                let disk = (peer.open)(&bench.directory, files, Access::Read)?;
                disk.read(size / 2, &mut [0; BLOCK])
            })
        };
        let mut sides: Vec<Side<'_>> =
            able.iter().map(|peer| Side::new(peer.name, move || opening(*peer))).collect();
        if qemu::is_here() && depth <= 100 {
            let head = bench.directory.join(files.head()).display().to_string();
            sides.push(Side::new(QEMU, move || {
                timed(|| qemu::run("qemu-io", &["-r", "-f", "qcow2", "-c", "read 0 4k", &head]))
            }));
        }
        let cells = in_turn(bench.pick(if depth > 1000 { 3 } else { 5 }, 1), 1, &mut sides)?;
        drop(sides);
        machine::forget_peak();
        opening(able[0])?;
        let peak = machine::peak_memory()?;
        let row = Row::new("P5", format!("open a chain of {depth} and read its first block"), cells);
        costs.push((depth.to_string(), row.of(OURS).map_or_else(String::new, time)));
        peaks.push((depth.to_string(), bytes(peak)));
        lines.push(Line::Row(match depth {
            100 => row.faster_than_peers(OURS, 2.0),
            1000 => row.at_most(0.030).holds("< 32 MiB", bytes(peak), peak < 32 << 20),
            _ => row,
        }));
    }
    lines.push(Line::Curve {
        what: "Open a chain and read its first block, against its depth:".to_owned(),
        points: costs,
    });
    lines.push(Line::Curve {
        what: "Most memory of this process meanwhile, against the depth:".to_owned(),
        points: peaks,
    });
    Ok(lines)
}
