//! `snapgroup check`, and what mends: `repair`, and `rebuild` when the catalogue is lost.

use crate::arguments::{Rebuild, Repair};
use crate::find;
use crate::output::{Failure, Outcome, Output};
use serde_json::{Value, json};
use snapgroup::{Engine, Options, Proof, RebuildOptions, Rebuilt, RepairMode, RepairOptions, Uuid};
use std::path::{Path, PathBuf};

pub(crate) fn check(engine: &Engine, output: &Output) -> Outcome {
    let check = engine.check()?;
    let layers = check.layers.iter().map(|layer| {
        let report = layer.report.as_ref().map(ToString::to_string);
        json!({ "file": layer.file, "report": report, "error": layer.error })
    });
    let value = json!({
        "clean": check.is_clean(),
        "sound": check.is_sound(),
        "layersChecked": check.layers_checked,
        "violations": check.violations,
        "layers": layers.collect::<Vec<_>>(),
        "missing": check.missing,
        "unnamed": check.unnamed,
        "sealsMissing": check.seals_missing,
    });
    output.print(&value, || format!("{check}\n"));
    if check.is_clean() { Ok(()) } else { Err(Failure::Found) }
}

pub(crate) fn repair(engine: &Engine, repair: &Repair, output: &Output) -> Outcome {
    let volume = repair.volume.as_ref().map(|volume| find::volume(engine, volume)).transpose()?;
    let mode = if repair.dry_run { RepairMode::Plan } else { RepairMode::Perform };
    let repaired = engine.repair(&RepairOptions { mode, volume: volume.map(Into::into) })?;
    let layers = repaired.layers.iter().map(|layer| {
        json!({ "file": layer.file, "found": layer.repair.before.to_string(), "mends": layer.repair.mends.len() })
    });
    let left = repaired.left.iter().map(|left| json!({ "file": left.file, "why": left.why }));
    let value = json!({
        "whole": repaired.is_whole(),
        "layers": layers.collect::<Vec<_>>(),
        "finished": repaired.finished,
        "removed": repaired.removed,
        "left": left.collect::<Vec<_>>(),
    });
    output.print(&value, || {
        let (mended, removed) =
            if repair.dry_run { ("would mend", "would remove") } else { ("mended", "removed") };
        let mut text = String::new();
        for layer in &repaired.layers {
            text += &format!("{}: {mended}: {}\n", layer.file, layer.repair.before);
        }
        for file in &repaired.finished {
            text += &format!("{file}: {mended}: a header that was half written\n");
        }
        for file in &repaired.removed {
            text += &format!("{file}: {removed}\n");
        }
        for left in &repaired.left {
            text += &format!("{}: left: {}\n", left.file.as_deref().unwrap_or("catalogue"), left.why);
        }
        text + if repaired.is_whole() {
            "nothing is left to mend\n"
        } else {
            "not everything can be mended\n"
        }
    });
    if repaired.is_whole() { Ok(()) } else { Err(Failure::Found) }
}

pub(crate) fn rebuild(pool: &Path, bases: &[PathBuf], rebuild: &Rebuild, output: &Output) -> Outcome {
    let request = RebuildOptions { pool: rebuild.of.as_deref().map(Into::into) };
    let options = Options { base_directories: bases.to_vec(), ..Options::default() };
    let rebuilt = Engine::rebuild(pool, &options, &request)?;
    output.print(&rebuilt_json(&rebuilt), || rebuilt_text(&rebuilt));
    if rebuilt.is_whole() { Ok(()) } else { Err(Failure::Found) }
}

fn rebuilt_json(rebuilt: &Rebuilt) -> Value {
    let hex = |uuid: &Uuid| uuid.simple().to_string();
    let hexes = |uuids: &[Uuid]| uuids.iter().map(hex).collect::<Vec<_>>();
    let volume = |it: &snapgroup::RebuiltVolume| {
        let machine = it.machine.as_ref().map(hex);
        json!({ "uuid": hex(&it.uuid), "name": it.name, "head": it.head, "machine": machine, "detached": it.detached })
    };
    let snapshot = |it: &snapgroup::RebuiltSnapshot| {
        let claimed = it.proof == Proof::Claimed;
        json!({ "uuid": hex(&it.uuid), "name": it.name, "volume": hex(&it.volume), "file": it.file, "claimed": claimed })
    };
    let group = |it: &snapgroup::IncompleteGroup| json!({ "uuid": hex(&it.uuid), "name": it.name, "members": it.members, "found": hexes(&it.found) });
    let volume_lost =
        |it: &snapgroup::LostVolume| json!({ "uuid": hex(&it.uuid), "head": it.head, "why": it.why });
    let snapshot_lost = |it: &snapgroup::LostSnapshot| json!({ "uuid": hex(&it.uuid), "why": it.why });
    let left = |it: &snapgroup::LeftFile| json!({ "file": it.file, "why": it.why });
    json!({
        "pool": hex(&rebuilt.pool),
        "whole": rebuilt.is_whole(),
        "catalogueKept": rebuilt.catalogue_kept,
        "machines": hexes(&rebuilt.machines),
        "volumes": rebuilt.volumes.iter().map(volume).collect::<Vec<_>>(),
        "volumesLost": rebuilt.volumes_lost.iter().map(volume_lost).collect::<Vec<_>>(),
        "snapshots": rebuilt.snapshots.iter().map(snapshot).collect::<Vec<_>>(),
        "snapshotsLost": rebuilt.snapshots_lost.iter().map(snapshot_lost).collect::<Vec<_>>(),
        "groups": hexes(&rebuilt.groups),
        "groupsIncomplete": rebuilt.groups_incomplete.iter().map(group).collect::<Vec<_>>(),
        "unnamed": hexes(&rebuilt.unnamed),
        "byNameAlone": rebuilt.by_name_alone,
        "filesLeft": rebuilt.files_left.iter().map(left).collect::<Vec<_>>(),
    })
}

fn rebuilt_text(rebuilt: &Rebuilt) -> String {
    let mut text = format!(
        "{} machines, {} volumes, {} snapshots and {} groups are there again; snapshots and groups that were deleted \
         may be among them (system tag `Rebuilt`)\n",
        rebuilt.machines.len(),
        rebuilt.volumes.len(),
        rebuilt.snapshots.len(),
        rebuilt.groups.len(),
    );
    if let Some(kept) = &rebuilt.catalogue_kept {
        text += &format!("the catalogue of before is kept as {kept}\n");
    }
    for lost in &rebuilt.volumes_lost {
        text += &format!("volume {}: lost: {}\n", lost.uuid.simple(), lost.why);
    }
    for lost in &rebuilt.snapshots_lost {
        text += &format!("snapshot {}: lost: {}\n", lost.uuid.simple(), lost.why);
    }
    for group in &rebuilt.groups_incomplete {
        let (uuid, found) = (group.uuid.simple(), group.found.len());
        text += &format!("group {uuid}: {found} of {} members are there\n", group.members);
    }
    for snapshot in rebuilt.snapshots.iter().filter(|snapshot| snapshot.proof == Proof::Absent) {
        let (uuid, file) = (snapshot.uuid.simple(), &snapshot.file);
        text += &format!("snapshot {uuid}: new uuid: no file tells what {file} was\n");
    }
    for file in &rebuilt.by_name_alone {
        text += &format!("{file}: known by its name alone\n");
    }
    for left in &rebuilt.files_left {
        text += &format!("{}: left: {}\n", left.file, left.why);
    }
    text
}
