//! A chain into one flat file.

use crate::files;
use crate::floor;
use crate::measure::{Side, in_turn, timed};
use crate::peers;
use crate::qemu;
use crate::table::{FLOOR, Line, OURS, QEMU, Row, bytes};
use crate::{Bench, Result};
use snapgroup::chain::{Flatten, Step};
use snapgroup::storage::{Access, ExportFile, MapFrozen};
use snapgroup::units::ByteCount;
use std::fs;

pub fn export(bench: &Bench) -> Result<Vec<Line>> {
    let (size, depth) = bench.pick((256 << 20, 100), (4 << 20, 3));
    let files = files::chain(&bench.directory, "layer", depth, size)?;
    let path = |name: &str| bench.directory.join(name).display().to_string();
    let (ours, theirs, flat, copy, head) =
        (path("ours.raw"), path("theirs.raw"), path("flat.raw"), path("copy.raw"), path(files.head()));
    let export = |target: &str| {
        files::settle(&bench.directory)?;
        timed(|| {
            let chain = peers::open_chain(&bench.directory, &files, Access::Read, MapFrozen::No)?;
            let file = ExportFile::create(target.as_ref())?;
            let mut flatten = Flatten::to_raw(&chain, file.blob())?;
            while flatten.step(ByteCount::gib(1))? == Step::More {}
            Ok(file.persist()?)
        })
    };
    export(&flat)?;
    let mut sides = vec![
        Side::new(OURS, || {
            let taken = export(&ours)?;
            fs::remove_file(&ours)?;
            Ok(taken)
        }),
        Side::new(FLOOR, || {
            files::settle(&bench.directory)?;
            floor::copy_and_sync(&flat, &copy)
        }),
    ];
    if qemu::is_here() {
        sides.push(Side::new(QEMU, || {
            files::settle(&bench.directory)?;
            let taken = timed(|| {
                qemu::run(
                    "qemu-img",
                    &["convert", "-q", "-t", "writeback", "-f", "qcow2", "-O", "raw", &head, &theirs],
                )
            })?;
            fs::remove_file(&theirs)?;
            Ok(taken)
        }));
    }
    let cells = in_turn(bench.runs(), 1, &mut sides)?;
    drop(sides);
    let work =
        format!("export {} through {depth} layers; floor: copy of the flat file and sync", bytes(size));
    let row = Row::new("P10", work, cells);
    let floor = row.of(FLOOR);
    Ok(vec![Line::Row(row.within(FLOOR, floor, 1.2))])
}
