//! `snapgroup diff`, `read`, `export`, `import` and `du`.

use crate::arguments::{Diff, Export as Wanted, Format, Import, Read};
use crate::output::{Failure, Outcome, Output, bytes, table};
use crate::{find, progress, volume};
use serde_json::json;
use snapgroup::query::{GroupField, Query, SnapshotField, Test, Value};
use snapgroup::{
    ByteCount, ChangeKind, DiffOptions, Engine, Exactness, Export, ExportBase, ImportFrom, ImportVolume,
    LayerFormat, SpaceOf, Uuid,
};
use std::io::Write;

/// How much is read at a time.
const PIECE: u64 = 1 << 20;

pub(crate) fn diff(engine: &Engine, diff: &Diff, output: &Output) -> Outcome {
    let from = match diff.from.as_str() {
        "-" => None,
        said => Some(find::snapshot(engine, said)?.into()),
    };
    let exactness = if diff.exact { Exactness::Content } else { Exactness::Tables };
    let options = DiffOptions { start: diff.start, exactness };
    let changes = engine.diff(from, find::snapshot(engine, &diff.to)?, &options)?;
    let mut rows = Vec::new();
    for change in changes {
        let change = change?;
        let kind = match change.kind {
            ChangeKind::Data => "data",
            ChangeKind::Zero => "zero",
        };
        rows.push((change.at.as_u64(), change.length.as_u64(), kind));
    }
    let value: Vec<_> = rows
        .iter()
        .map(|(at, length, kind)| json!({ "start": at, "length": length, "kind": kind }))
        .collect();
    output.print(&json!({ "extents": value }), || {
        let total = rows.iter().map(|(_, length, _)| length).sum();
        let lines = rows
            .iter()
            .map(|(at, length, kind)| vec![at.to_string(), length.to_string(), (*kind).to_owned()]);
        table(&["START", "LENGTH", "KIND"], lines.collect())
            + &format!("{} in all\n", bytes(ByteCount::new(total)))
    });
    Ok(())
}

pub(crate) fn read(engine: &Engine, read: &Read) -> Outcome {
    let mut out = std::io::stdout().lock();
    match find::snapshot(engine, &read.of) {
        Ok(uuid) => {
            let snapshot = engine.open_snapshot(uuid)?;
            copy(snapshot.size(), read, &mut out, |at, buffer| snapshot.read_at(at, buffer))
        }
        Err(Failure::Said(_)) => {
            let volume =
                engine.open_volume(find::volume(engine, &read.of).map_err(|failure| match failure {
                    Failure::Said(_) => {
                        Failure::Said(format!("there is no one snapshot or volume {:?}", read.of))
                    }
                    other => other,
                })?)?;
            copy(volume.size(), read, &mut out, |at, buffer| volume.read_at(at, buffer))
        }
        Err(other) => Err(other),
    }
}

fn copy(
    size: ByteCount,
    read: &Read,
    out: &mut impl Write,
    read_at: impl Fn(u64, &mut [u8]) -> snapgroup::Result<()>,
) -> Outcome {
    let end = match read.length {
        None => size.as_u64(),
        Some(length) => read.at.saturating_add(length),
    };
    let mut at = read.at;
    let mut buffer = vec![0; usize::try_from(PIECE).expect("a mebibyte")];
    while at < end {
        let piece = &mut buffer[..usize::try_from(PIECE.min(end - at)).expect("at most a mebibyte")];
        read_at(at, piece)?;
        out.write_all(piece)?;
        at += piece.len() as u64;
    }
    Ok(out.flush()?)
}

pub(crate) fn export(engine: &Engine, wanted: &Wanted, output: &Output) -> Outcome {
    let snapshot = find::snapshot(engine, &wanted.snapshot)?;
    let export = match (&wanted.above, &wanted.above_file, wanted.format) {
        (Some(above), Some(label), Format::Qcow2) => {
            let snapshot = find::snapshot(engine, above)?.into();
            Export::above(ExportBase { snapshot, label: label.clone(), format: LayerFormat::Qcow2 })
        }
        (Some(_), _, Format::Raw) => {
            return Err(Failure::Said("a raw file stands alone: it cannot be above another one".to_owned()));
        }
        _ if volume::format(wanted.format) == LayerFormat::Raw => Export::raw(),
        _ => Export::qcow2(),
    };
    let export = if wanted.compressed { export.compressed() } else { export };
    let copied = engine.export_file(snapshot, &export, &wanted.file)?;
    let text = format!("{}: {} copied", wanted.file.display(), bytes(copied));
    output.done(&json!({ "file": wanted.file, "bytesCopied": copied }), &text);
    Ok(())
}

pub(crate) fn import(engine: &Engine, import: &Import, output: &Output) -> Outcome {
    let vm = import.vm.as_ref().map(|vm| find::machine(engine, vm)).transpose()?;
    let stem = || import.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut request = ImportVolume {
        kind: volume::kind(import.root),
        ..ImportVolume::new(
            ImportFrom::Path(import.file.clone()),
            volume::format(import.format),
            import.name.clone().unwrap_or_else(stem),
        )
    };
    if let Some(above) = &import.above {
        request = request.above(find::snapshot(engine, above)?);
    }
    let mut importer = engine.importer(&request)?;
    progress::run(|| {
        let state = importer.step(progress::STEP)?;
        Ok((importer.written(), importer.total(), state))
    })?;
    let mut made = importer.finish()?;
    if let Some(vm) = vm {
        made = engine.attach_volume(made.uuid, vm, None)?;
    }
    volume::show(&made, output);
    Ok(())
}

/// What each snapshot of a volume, or each group of a machine, holds alone; and all of them together.
pub(crate) fn space(engine: &Engine, of: &str, output: &Output) -> Outcome {
    let mut rows: Vec<(String, Uuid, ByteCount)> = Vec::new();
    let mut snapshots: Vec<Uuid> = Vec::new();
    match find::volume(engine, of) {
        Ok(volume) => {
            let query = Query::all().with(SnapshotField::VolumeUuid, Test::Equal(Value::from(volume)));
            for snapshot in engine.query_snapshots(&query)?.items {
                let space = engine.space_of(&SpaceOf::Snapshot(snapshot.uuid.into()))?;
                rows.push((snapshot.name, snapshot.uuid, space.bytes()));
                snapshots.push(snapshot.uuid);
            }
        }
        Err(Failure::Said(_)) => {
            let machine = find::machine(engine, of).map_err(|failure| match failure {
                Failure::Said(_) => Failure::Said(format!("there is no one volume or machine {of:?}")),
                other => other,
            })?;
            let query = Query::all().with(GroupField::MachineUuid, Test::Equal(Value::from(machine)));
            for group in engine.query_groups(&query)?.items {
                let space = engine.space_of(&SpaceOf::Group(group.uuid.into()))?;
                let living = group.volume_snapshot_refs.iter().filter(|member| !member.snapshot_deleted);
                snapshots.extend(living.map(|member| member.volume_snapshot_uuid));
                rows.push((group.name, group.uuid, space.bytes()));
            }
        }
        Err(other) => return Err(other),
    }
    let together = match snapshots.is_empty() {
        true => ByteCount::ZERO,
        false => {
            let uuids = snapshots.into_iter().map(Into::into).collect();
            engine.space_of(&SpaceOf::Snapshots(uuids))?.bytes()
        }
    };
    let held: Vec<_> = rows
        .iter()
        .map(|(name, uuid, space)| json!({ "name": name, "uuid": uuid.simple().to_string(), "bytes": space }))
        .collect();
    output.print(&json!({ "held": held, "together": together }), || {
        let lines = rows
            .iter()
            .map(|(name, uuid, space)| vec![name.clone(), uuid.simple().to_string(), bytes(*space)])
            .collect();
        table(&["NAME", "UUID", "HOLDS ALONE"], lines) + &format!("all together: {}\n", bytes(together))
    });
    Ok(())
}
