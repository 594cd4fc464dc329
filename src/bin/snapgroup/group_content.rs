//! `snapgroup group diff` and `snapgroup group export`: what a group holds, disk by disk, worked on side by side.

use crate::arguments::{DiffGroups, ExportGroup, Format};
use crate::content::{extent, kind};
use crate::output::{Failure, Outcome, Output, bytes, table};
use crate::{find, volume};
use serde_json::json;
use snapgroup::units::GuestOffset;
use snapgroup::{
    ByteCount, Change, DiffOptions, DiffPair, Engine, Exactness, Export, ExportBase, FileExport, LayerFormat,
    Uuid,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

pub(crate) fn diff(engine: &Engine, diff: &DiffGroups, output: &Output) -> Outcome {
    let from: BTreeMap<Uuid, Uuid> = match diff.from.as_str() {
        "-" => BTreeMap::new(),
        said => members(engine, said)?.into_iter().collect(),
    };
    let exactness = if diff.exact { Exactness::Content } else { Exactness::Tables };
    let options = DiffOptions { start: GuestOffset::ZERO, exactness };
    let (mut volumes, mut pairs) = (Vec::new(), Vec::new());
    for (volume, to) in members(engine, &diff.to)? {
        volumes.push(volume);
        pairs.push(DiffPair { from: from.get(&volume).map(|from| (*from).into()), to: to.into() });
    }
    let found = Mutex::new(vec![Vec::new(); pairs.len()]);
    engine.diff_many(&pairs, &options, |disk, change| {
        found.lock().expect("nobody panics with it")[disk].push(change);
    })?;
    let found = found.into_inner().expect("nobody has panicked");
    let disks: Vec<_> = volumes.iter().zip(&found).collect();
    let shown = |(volume, changes): &(&Uuid, &Vec<Change>)| {
        let extents: Vec<_> = changes.iter().map(extent).collect();
        json!({ "volumeUuid": volume.simple().to_string(), "extents": extents })
    };
    output.print(&json!({ "volumes": disks.iter().map(shown).collect::<Vec<_>>() }), || {
        let mut rows = Vec::new();
        for (volume, changes) in &disks {
            let name = name_of(engine, **volume);
            rows.extend(changes.iter().map(|it| {
                vec![
                    name.clone(),
                    it.at.as_u64().to_string(),
                    it.length.as_u64().to_string(),
                    kind(it).to_owned(),
                ]
            }));
        }
        let total: ByteCount = found.iter().flatten().map(|it| it.length).sum();
        table(&["VOLUME", "START", "LENGTH", "KIND"], rows) + &format!("{} in all\n", bytes(total))
    });
    Ok(())
}

pub(crate) fn export(engine: &Engine, wanted: &ExportGroup, output: &Output) -> Outcome {
    let is_raw = volume::format(wanted.format) == LayerFormat::Raw;
    if is_raw && wanted.above.is_some() {
        let said = "raw files stand alone: they cannot be above other ones";
        return Err(Failure::Said(said.to_owned()));
    }
    let above: BTreeMap<Uuid, Uuid> = match &wanted.above {
        Some(said) => members(engine, said)?.into_iter().collect(),
        None => BTreeMap::new(),
    };
    let below = wanted.above_directory.as_deref().unwrap_or(Path::new("."));
    let (mut volumes, mut exports) = (Vec::new(), Vec::new());
    for (volume, snapshot) in members(engine, &wanted.group)? {
        let file = format!("{}.{}", volume.simple(), extension(wanted.format));
        let export = match above.get(&volume) {
            Some(base) => Export::above(ExportBase {
                snapshot: (*base).into(),
                label: below.join(&file).to_string_lossy().into_owned(),
                format: LayerFormat::Qcow2,
            }),
            None if is_raw => Export::raw(),
            None => Export::qcow2(),
        };
        let export = if wanted.compressed { export.compressed() } else { export };
        volumes.push(volume);
        exports.push(FileExport::new(snapshot, export, wanted.directory.join(file)));
    }
    let copied = engine.export_files(&exports)?;
    let files: Vec<_> = volumes.iter().zip(exports.iter().zip(copied)).collect();
    let shown: Vec<_> = files
        .iter()
        .map(|(volume, (export, copied))| {
            json!({ "volumeUuid": volume.simple().to_string(), "file": export.path, "bytesCopied": copied })
        })
        .collect();
    output.print(&json!({ "files": shown }), || {
        let rows = files.iter().map(|(volume, (export, copied))| {
            vec![name_of(engine, **volume), export.path.display().to_string(), bytes(*copied)]
        });
        table(&["VOLUME", "FILE", "COPIED"], rows.collect())
    });
    Ok(())
}

/// The volumes of a group and their snapshots that are there, in the order of the group.
fn members(engine: &Engine, said: &str) -> Outcome<Vec<(Uuid, Uuid)>> {
    let group = engine.group(find::group(engine, said)?)?;
    let living = group.volume_snapshot_refs.iter().filter(|member| !member.snapshot_deleted);
    Ok(living.map(|member| (member.volume_uuid, member.volume_snapshot_uuid)).collect())
}

/// The name of a volume, for a person.
fn name_of(engine: &Engine, volume: Uuid) -> String {
    engine.volume(volume).map_or_else(|_| volume.simple().to_string(), |volume| volume.name)
}

const fn extension(format: Format) -> &'static str {
    match format {
        Format::Qcow2 => "qcow2",
        Format::Raw => "raw",
    }
}
