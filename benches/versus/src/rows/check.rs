//! The check of an image with all its tables.

use crate::machine;
use crate::measure::{Side, in_turn, timed};
use crate::qemu;
use crate::table::{Line, OURS, QEMU, Row, bytes};
use crate::{Bench, Result};
use snapgroup::image::{Image, Limits};
use snapgroup::storage::{Access, BlobName, DiskStore, Store};

pub fn check(bench: &Bench) -> Result<Vec<Line>> {
    // Nobody here makes tables without data but QEMU.
    if !qemu::is_here() {
        return Ok(vec![Line::Row(
            Row::new("P8", "check an image of 1 TiB with all its tables", Vec::new()).faster(QEMU, 2.0),
        )]);
    }
    let size = bench.pick(1 << 40, 1 << 30);
    let path = bench.directory.join("image.qcow2").display().to_string();
    let preallocated = ["create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", &path];
    qemu::run("qemu-img", &[&preallocated[..], &[&size.to_string()]].concat())?;
    let ours = || {
        let blob = DiskStore::open(&bench.directory)?.open(&BlobName::parse("image.qcow2")?, Access::Read)?;
        timed(|| {
            let report = Image::open(blob, "image", Access::Read, Limits::default())?.check()?;
            if report.is_sound() { Ok(()) } else { Err(format!("{report:?}").into()) }
        })
    };
    machine::forget_peak();
    ours()?;
    let peak = machine::peak_memory()?;
    let mut sides = [
        Side::new(OURS, ours),
        Side::new(QEMU, || timed(|| qemu::run("qemu-img", &["check", "-q", "-f", "qcow2", &path]))),
    ];
    let cells = in_turn(bench.pick(3, 1), 1, &mut sides)?;
    let row = Row::new("P8", format!("check an image of {} with all its tables", bytes(size)), cells);
    Ok(vec![Line::Row(row.faster(QEMU, 2.0).holds("< 128 MiB", bytes(peak), peak < 128 << 20))])
}
