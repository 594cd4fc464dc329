//! `snapgroup snapshot`.

use crate::arguments::{HowToDelete, Snapshot};
use crate::find;
use crate::group::{How, mode, show_deleted, show_reverted};
use crate::output::{Outcome, Output, bytes, table};
use snapgroup::inventory::SnapshotInventory;
use snapgroup::query::{Query, SnapshotField, Test, Value};
use snapgroup::{CreateSnapshot, DeleteSnapshots, Engine, Present, RevertVolume, UpdateSnapshot};

pub(crate) fn run(engine: &Engine, command: &Snapshot, output: &Output) -> Outcome {
    match command {
        Snapshot::Create { volume, name, description, full } => {
            let request = CreateSnapshot {
                description: description.clone(),
                mode: mode(*full),
                ..CreateSnapshot::new(find::volume(engine, volume)?, name)
            };
            show(&engine.create_snapshot(&request)?, output);
        }
        Snapshot::List { volume } => {
            let mut query = Query::all();
            if let Some(volume) = volume {
                let uuid = find::volume(engine, volume)?;
                query = query.with(SnapshotField::VolumeUuid, Test::Equal(Value::from(uuid)));
            }
            let page = engine.query_snapshots(&query)?;
            output.inventories(&page.items, || snapshots(&page.items));
        }
        Snapshot::Show { snapshot } => show(&engine.snapshot(find::snapshot(engine, snapshot)?)?, output),
        Snapshot::Update { snapshot, texts } => {
            let update = UpdateSnapshot { name: texts.name.clone(), description: texts.description.clone() };
            show(&engine.update_snapshot(find::snapshot(engine, snapshot)?, &update)?, output);
        }
        Snapshot::Delete { snapshots, how } => {
            show_deleted(&engine.delete_snapshots(&deletion(engine, snapshots, how)?)?, output)?;
        }
        Snapshot::Revert { snapshot, keep } => {
            show_reverted(&engine.revert_volume(&reversion(engine, snapshot, *keep)?)?, output)?;
        }
        Snapshot::Hold { snapshot, name } => {
            show(&engine.hold(find::snapshot(engine, snapshot)?, name)?, output);
        }
        Snapshot::Release { snapshot, name } => {
            show(&engine.release(find::snapshot(engine, snapshot)?, name)?, output);
        }
    }
    Ok(())
}

pub(crate) fn deletion(engine: &Engine, snapshots: &[String], how: &HowToDelete) -> Outcome<DeleteSnapshots> {
    let uuids: Vec<_> = snapshots.iter().map(|said| find::snapshot(engine, said)).collect::<Outcome<_>>()?;
    let how = How::of(how);
    Ok(DeleteSnapshots {
        mode: how.mode,
        scope: how.scope,
        members: how.members,
        direction: how.direction,
        reclaim: how.reclaim,
        ..DeleteSnapshots::all(uuids)
    })
}

pub(crate) fn reversion(engine: &Engine, snapshot: &str, keep: bool) -> Outcome<RevertVolume> {
    let present = if keep { Present::Kept } else { Present::GivenUp };
    Ok(RevertVolume { present, ..RevertVolume::to(find::snapshot(engine, snapshot)?) })
}

fn show(snapshot: &SnapshotInventory, output: &Output) {
    output.inventory(snapshot, || snapshots(std::slice::from_ref(snapshot)));
}

fn snapshots(snapshots: &[SnapshotInventory]) -> String {
    let rows = snapshots.iter().map(|snapshot| {
        vec![
            snapshot.name.clone(),
            snapshot.uuid.simple().to_string(),
            bytes(snapshot.size),
            snapshot.distance.to_string(),
            if snapshot.latest { "latest" } else { "-" }.to_owned(),
            snapshot.create_date.to_string(),
            snapshot.holds.join(", "),
        ]
    });
    table(&["NAME", "UUID", "TAKES UP", "DISTANCE", "LATEST", "TAKEN", "HELD BY"], rows.collect())
}
