//! Writing above what is frozen: copy on write.

use crate::files::{self, CLUSTER, ChainFiles};
use crate::measure::{Side, in_turn, timed};
use crate::peers::{self, Peer};
use crate::qemu;
use crate::table::{IMAGO, Line, OURS, QCOW2_RS, QEMU, Row};
use crate::{Bench, Result};
use snapgroup::storage::Access;
use std::time::Duration;

/// How far it is from one small write to the next, in clusters: the number of clusters has no factor in common with
/// it, so each one is written once.
const STRIDE: u64 = 17;
const REQUEST: usize = 1 << 20;

pub fn copy_on_write(bench: &Bench) -> Result<Vec<Line>> {
    let size = bench.pick(256 << 20, 4 << 20);
    let base = files::chain(&bench.directory, "base", 1, size)?;
    let overlay = || -> Result<ChainFiles> {
        files::image(&bench.directory, "overlay.qcow2", size, Some(base.head()), &[])?;
        files::settle(&bench.directory)?;
        Ok(ChainFiles { names: vec!["overlay.qcow2".to_owned(), base.head().to_owned()] })
    };
    let clusters = size / CLUSTER;
    let small = |peer: Peer, count: u64| -> Result<Duration> {
        let disk = (peer.open)(&bench.directory, &overlay()?, Access::Write)?;
        timed(|| {
            for index in 0..count {
                disk.write(index * STRIDE % clusters * CLUSTER + 4096, &[7; 4096])?;
            }
            disk.flush()
        })
    };
    let large = |peer: Peer| -> Result<Duration> {
        let disk = (peer.open)(&bench.directory, &overlay()?, Access::Write)?;
        let data = vec![7; REQUEST];
        timed(|| {
            (0..size).step_by(REQUEST).try_for_each(|at| disk.write(at, &data))?;
            disk.flush()
        })
    };
    let bench_qemu = |arguments: &[&str]| -> Result<Duration> {
        overlay()?;
        let path = bench.directory.join("overlay.qcow2").display().to_string();
        let fixed = ["bench", "-w", "-q", "-f", "qcow2", "-t", "writeback", "-d", "1"];
        timed(|| qemu::run("qemu-img", &[&fixed, arguments, &[&path]].concat()))
    };
    let writers: Vec<_> = peers::all().into_iter().filter(|peer| peer.writes).collect();

    // The slow ones sync for each write.
    let (count, few) = (clusters, bench.pick(200, 10));
    let count_of = |peer: &Peer| if [OURS, IMAGO].contains(&peer.name) { count } else { few };
    let mut sides: Vec<Side<'_>> = writers
        .iter()
        .map(|peer| {
            let count = count_of(peer);
            Side::new(peer.name, move || Ok(small(*peer, count)? / u32::try_from(count)?))
        })
        .collect();
    if qemu::is_here() {
        let (count, stride) = (count.to_string(), (STRIDE * CLUSTER).to_string());
        sides.push(Side::new(QEMU, move || {
            let taken = bench_qemu(&["-c", &count, "-s", "4096", "-o", "4096", "-S", &stride])?;
            Ok(taken / count.parse()?)
        }));
    }
    let cells = in_turn(bench.pick(3, 1), 1, &mut sides)?;
    drop(sides);
    let random = Row::new("P6", "write 4 KiB over a base, each to another cluster", cells);

    let mut sides: Vec<Side<'_>> = writers
        .iter()
        .filter(|peer| [OURS, IMAGO].contains(&peer.name) || (peer.name == QCOW2_RS && size < 16 << 20))
        .map(|peer| Side::new(peer.name, move || large(*peer)))
        .collect();
    if qemu::is_here() {
        let count = (size / REQUEST as u64).to_string();
        sides.push(Side::new(QEMU, move || bench_qemu(&["-c", &count, "-s", "1M"])));
    }
    let cells = in_turn(bench.pick(3, 1), 1, &mut sides)?;
    drop(sides);
    let work = format!("write {} over a base in requests of 1 MiB", crate::table::bytes(size));
    let rows = [random, Row::new("P6", work, cells)];
    Ok(rows.map(|row| Line::Row(row.faster(QEMU, 1.5).faster(IMAGO, 1.5))).into())
}
