//! Deleting a snapshot: a change of the books, whatever the layer holds.

use super::group::options;
use crate::files;
use crate::measure::{Side, alone, in_turn, timed};
use crate::qemu;
use crate::table::{Line, OURS, QEMU, Row, bytes, time};
use crate::{Bench, Result};
use snapgroup::{ByteCount, CreateSnapshot, CreateVolume, DeleteSnapshots, Engine, Uuid, Volume, When};
use std::fs;
use std::time::Duration;

/// How the bytes of the layer lie.
#[derive(Clone, Copy)]
enum Spread {
    Dense,
    /// 4 KiB in each mebibyte.
    Sparse,
}

pub fn delete(bench: &Bench) -> Result<Vec<Line>> {
    let engine = Engine::open(bench.directory.join("pool"), options())?;
    let size = ByteCount::gib(32);
    let layers = [
        (1 << 20, Spread::Dense),
        (64 << 20, Spread::Dense),
        (512 << 20, Spread::Dense),
        (16 << 30, Spread::Sparse),
    ];
    let (mut points, mut costs) = (Vec::new(), Vec::new());
    for (length, spread) in layers.into_iter().take(bench.pick(4, 1)) {
        let cost = alone(bench.pick(3, 1), || {
            let volume = engine.create_volume(&CreateVolume::new("disk", size))?;
            let disk = engine.open_volume(volume.uuid)?;
            // Below, so that what is deleted is in the middle of a chain.
            engine.create_snapshot(&CreateSnapshot::new(volume.uuid, "below"))?;
            let snapshot = frozen_layer(&engine, &disk, length, spread)?;
            files::settle(&bench.directory)?;
            let request = DeleteSnapshots { reclaim: When::Later, ..DeleteSnapshots::one(snapshot) };
            timed(|| Ok(engine.delete_snapshots(&request)?))
        })?;
        let kind = if let Spread::Sparse = spread { " sparse" } else { "" };
        points.push((format!("{}{kind}", bytes(length)), time(cost)));
        costs.push(cost);
    }
    let (first, last) = (costs[0], costs[costs.len() - 1]);
    let mut cells = vec![(OURS.to_owned(), costs[costs.len().saturating_sub(2)])];
    if qemu::is_here() {
        let length = bench.pick(512 << 20, 1 << 20);
        cells.extend(in_turn(bench.pick(3, 1), 1, &mut [Side::new(QEMU, || commit(bench, length))])?);
    }
    let row = Row::new("P2", "delete a snapshot of 512 MiB; QEMU: commit -d", cells).faster(QEMU, 500.0);
    let row = row.holds("16 GiB sparse <= 2 x 1 MiB", format!("{:.2}", last / first), last <= 2.0 * first);
    let what = "Delete a snapshot, against the bytes of its layer:".to_owned();
    Ok(vec![Line::Row(row), Line::Curve { what, points }])
}

/// Writes to a disk and freezes what was written.
fn frozen_layer(engine: &Engine, disk: &Volume, length: u64, spread: Spread) -> Result<Uuid> {
    match spread {
        Spread::Dense => {
            let data = vec![9; 1 << 20];
            (0..length).step_by(1 << 20).try_for_each(|at| disk.write_at(at, &data))?;
        }
        Spread::Sparse => (0..length).step_by(1 << 20).try_for_each(|at| disk.write_at(at, &[9; 4096]))?,
    }
    Ok(engine.create_snapshot(&CreateSnapshot::new(disk.uuid(), "deleted"))?.uuid)
}

/// What QEMU does to be rid of a layer: it is copied into the one below.
pub fn commit(bench: &Bench, length: u64) -> Result<Duration> {
    let path = |name: &str| bench.directory.join(name).display().to_string();
    let (overlay, base) = (path("commit-overlay.qcow2"), path("commit-base.qcow2"));
    if !fs::exists(&overlay)? {
        let clusters: Vec<u64> = (0..length / files::CLUSTER).collect();
        files::image(&bench.directory, "commit-overlay.qcow2", length, Some("commit-base.qcow2"), &clusters)?;
    }
    files::image(&bench.directory, "commit-base.qcow2", length, None, &[])?;
    files::settle(&bench.directory)?;
    let taken =
        timed(|| qemu::run("qemu-img", &["commit", "-q", "-d", "-f", "qcow2", "-t", "writeback", &overlay]))?;
    fs::remove_file(base)?;
    Ok(taken)
}
