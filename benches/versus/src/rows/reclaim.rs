//! Giving back the bytes of a layer that nobody names any more, by each way.

use super::delete::commit;
use crate::files::{self, CLUSTER};
use crate::floor;
use crate::measure::{Side, in_turn, timed};
use crate::qemu;
use crate::table::{FLOOR, Line, OURS, QEMU, Row, bytes};
use crate::{Bench, Result};
use snapgroup::chain::Layer;
use snapgroup::chain::Ranges;
use snapgroup::chain::merge::{Commit, Pull, Punch};
use snapgroup::image::{Image, Limits};
use snapgroup::storage::{Access, BlobName, DiskStore, Store};
use snapgroup::units::ByteCount;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

/// What one step does.
const STEP: ByteCount = ByteCount::mib(64);

pub fn reclaim(bench: &Bench) -> Result<Vec<Line>> {
    let size = bench.pick(256 << 20, 4 << 20);
    let directory = &bench.directory;
    let every: Vec<u64> = (0..size / CLUSTER).collect();
    files::image(directory, "full.qcow2", size, Some("empty.qcow2"), &every)?;
    let open = |name: &str, access: Access| -> Result<Arc<Layer>> {
        let blob = DiskStore::open(directory)?.open(&BlobName::parse(name)?, access)?;
        Ok(Arc::new(Layer::from(Image::open(blob, name, access, Limits::default())?)))
    };
    let punch = || -> Result<Duration> {
        fs::copy(directory.join("full.qcow2"), directory.join("punched.qcow2"))?;
        files::settle(directory)?;
        let layer = open("punched.qcow2", Access::Write)?;
        timed(|| {
            let mut punch = Punch::new(layer, &Ranges::whole(ByteCount::new(size)))?;
            while !punch.step(STEP)?.done {}
            Ok(punch.flush()?)
        })
    };
    let pull = || -> Result<Duration> {
        files::image(directory, "child.qcow2", size, Some("full.qcow2"), &[])?;
        files::settle(directory)?;
        let (child, retired) = (open("child.qcow2", Access::Write)?, open("full.qcow2", Access::Read)?);
        timed(|| {
            let mut pull = Pull::new(child, retired, Vec::new())?;
            while !pull.step(STEP)?.done {}
            Ok(pull.flush()?)
        })
    };
    let down = || -> Result<Duration> {
        files::image(directory, "empty.qcow2", size, None, &[])?;
        files::settle(directory)?;
        let (child, retired) = (open("full.qcow2", Access::Read)?, open("empty.qcow2", Access::Write)?);
        timed(|| {
            let mut commit = Commit::new(child, retired, Vec::new())?;
            while !commit.step(STEP)?.done {}
            Ok(commit.flush()?)
        })
    };
    let copy = || -> Result<Duration> {
        files::settle(directory)?;
        let path = |name: &str| directory.join(name).display().to_string();
        floor::copy_and_sync(&path("full.qcow2"), &path("copy"))
    };
    let mut rows = Vec::new();
    let ways: [(&str, &dyn Fn() -> Result<Duration>); 3] =
        [("punch", &punch), ("pull", &pull), ("commit", &down)];
    for (name, way) in ways {
        let mut sides = vec![Side::new(OURS, way), Side::new(FLOOR, copy)];
        if qemu::is_here() {
            sides.push(Side::new(QEMU, || commit(bench, size)));
        }
        let cells = in_turn(bench.runs(), 1, &mut sides)?;
        let work = format!("{name} a layer of {}; QEMU: commit -d; floor: copy and sync", bytes(size));
        let row = Row::new("P3", work, cells);
        rows.push(match name {
            "punch" => row.faster(QEMU, 20.0),
            _ => row.faster(QEMU, 1.5).faster(FLOOR, 0.9),
        });
    }
    Ok(rows.into_iter().map(Line::Row).collect())
}
