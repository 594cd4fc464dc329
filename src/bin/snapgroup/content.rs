//! `snapgroup diff`, `read`, `export`, `import` and `du`.

use crate::arguments::{Diff, Export as Wanted, Format, Import, Policies, Read};
use crate::output::{Failure, Outcome, Output, bytes, table};
use crate::volume::Place;
use crate::{find, progress, volume};
use serde_json::{Value, json};
use snapgroup::query::{self, GroupField, Query, SnapshotField, Test};
use snapgroup::storage::ExportFile;
use snapgroup::units::GuestOffset;
use snapgroup::{
    ByteCount, Change, ChangeKind, DiffOptions, Engine, Exactness, Export, ExportBase, ImportFrom,
    ImportVolume, LayerFormat, SpaceOf, Uuid,
};
use std::io::{ErrorKind, Write};

/// How much is read at a time.
const PIECE: u64 = 1 << 20;

pub(crate) fn diff(engine: &Engine, diff: &Diff, output: &Output) -> Outcome {
    let from = match diff.from.as_str() {
        "-" => None,
        said => Some(find::snapshot(engine, said)?.into()),
    };
    let exactness = if diff.exact { Exactness::Content } else { Exactness::Tables };
    let options = DiffOptions { start: GuestOffset::new(diff.start), exactness };
    let changes = engine.diff(from, find::snapshot(engine, &diff.to)?, &options)?;
    let changes: Vec<Change> = changes.collect::<Result<_, _>>()?;
    let value: Vec<_> = changes.iter().map(extent).collect();
    output.print(&json!({ "extents": value }), || {
        let total = changes.iter().map(|it| it.length).sum();
        let rows = changes
            .iter()
            .map(|it| vec![it.at.as_u64().to_string(), it.length.as_u64().to_string(), kind(it).to_owned()]);
        table(&["START", "LENGTH", "KIND"], rows.collect()) + &format!("{} in all\n", bytes(total))
    });
    Ok(())
}

/// A change as programs are told of it.
pub(crate) fn extent(change: &Change) -> Value {
    json!({ "start": change.at.as_u64(), "length": change.length.as_u64(), "kind": kind(change) })
}

/// The kind of a change, in a word.
pub(crate) const fn kind(change: &Change) -> &'static str {
    match change.kind {
        ChangeKind::Data => "data",
        ChangeKind::Zero => "zero",
    }
}

pub(crate) fn read(engine: &Engine, read: &Read) -> Outcome {
    let mut out = std::io::stdout().lock();
    let snapshot = || Ok(Source::Snapshot(engine.open_snapshot(find::snapshot(engine, &read.of)?)?));
    let volume = || Ok(Source::Volume(engine.open_volume(find::volume(engine, &read.of)?)?));
    match find::either(&read.of, "snapshot or volume", snapshot, volume)? {
        Source::Snapshot(it) => copy(it.size(), read, &mut out, |at, buffer| it.read_at(at, buffer)),
        Source::Volume(it) => copy(it.size(), read, &mut out, |at, buffer| it.read_at(at, buffer)),
    }
}

/// What is read.
enum Source {
    Snapshot(snapgroup::Snapshot),
    Volume(snapgroup::Volume),
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
        match out.write_all(piece) {
            // A reader who has gone away wants no more of it.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
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
    let file = ExportFile::create(&wanted.file).map_err(snapgroup::Error::from)?;
    let mut exporter = engine.exporter(snapshot, &export, file.blob())?;
    progress::run(|| {
        let state = exporter.step(progress::STEP)?;
        Ok((exporter.written(), exporter.total(), state))
    })?;
    file.persist().map_err(snapgroup::Error::from)?;
    let copied = exporter.total();
    let form = if volume::format(wanted.format) == LayerFormat::Raw { "raw" } else { "qcow2" };
    let text = format!("{}: {form}, {} copied", wanted.file.display(), bytes(copied));
    output.done(&json!({ "file": wanted.file, "bytesCopied": copied }), &text);
    Ok(())
}

pub(crate) fn import(engine: &Engine, import: &Import, output: &Output) -> Outcome {
    let place = Place::of(engine, &import.disk)?;
    let stem = || import.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut request = ImportVolume {
        kind: place.kind,
        raw_below: import.raw_below.clone(),
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
    place.take(engine, importer.finish()?, output)
}

/// What each snapshot of a volume, or each group of a machine, holds alone; and all of them together. Of the pool, what
/// its snapshots come to.
pub(crate) fn space(engine: &Engine, of: Option<&str>, policies: &Policies, output: &Output) -> Outcome {
    let Some(of) = of else { return usage(engine, policies, output) };
    let snapshots = || of_volume(engine, find::volume(engine, of)?);
    let groups = || of_machine(engine, find::machine(engine, of)?);
    let Held { rows, snapshots } = find::either(of, "volume or machine", snapshots, groups)?;
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

/// What some things hold, and the snapshots that they are.
struct Held {
    rows: Vec<(String, Uuid, ByteCount)>,
    snapshots: Vec<Uuid>,
}

fn of_volume(engine: &Engine, volume: Uuid) -> Outcome<Held> {
    let query = Query::all().with(SnapshotField::VolumeUuid, Test::Equal(query::Value::from(volume)));
    let mut held = Held { rows: Vec::new(), snapshots: Vec::new() };
    for snapshot in engine.query_snapshots(&query)?.items {
        let space = engine.space_of(&SpaceOf::Snapshot(snapshot.uuid.into()))?;
        held.rows.push((snapshot.name, snapshot.uuid, space.bytes()));
        held.snapshots.push(snapshot.uuid);
    }
    Ok(held)
}

fn of_machine(engine: &Engine, machine: Uuid) -> Outcome<Held> {
    let query = Query::all().with(GroupField::MachineUuid, Test::Equal(query::Value::from(machine)));
    let mut held = Held { rows: Vec::new(), snapshots: Vec::new() };
    for group in engine.query_groups(&query)?.items {
        let space = engine.space_of(&SpaceOf::Group(group.uuid.into()))?;
        let living = group.volume_snapshot_refs.iter().filter(|member| !member.snapshot_deleted);
        held.snapshots.extend(living.map(|member| member.volume_snapshot_uuid));
        held.rows.push((group.name, group.uuid, space.bytes()));
    }
    Ok(held)
}

/// What the snapshots of the pool come to, beside what they may.
fn usage(engine: &Engine, policies: &Policies, output: &Output) -> Outcome {
    let usage = engine.usage()?;
    let (count_max, bytes_max) = (policies.pool_snapshots_max, policies.pool_bytes_max.map(ByteCount::new));
    let value = json!({
        "snapshots": usage.snapshots,
        "snapshotsMax": count_max,
        "snapshotBytes": usage.snapshot_bytes,
        "snapshotBytesMax": bytes_max,
    });
    output.print(&value, || {
        let most = |most: Option<String>| most.unwrap_or_else(|| "-".to_owned());
        let rows = vec![
            vec![
                "snapshots".to_owned(),
                usage.snapshots.to_string(),
                most(count_max.map(|max| max.to_string())),
            ],
            vec!["bytes".to_owned(), bytes(usage.snapshot_bytes), most(bytes_max.map(bytes))],
        ];
        table(&["QUOTA", "USED", "AT MOST"], rows)
    });
    Ok(())
}
