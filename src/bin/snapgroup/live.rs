//! Groups of a machine that another process runs: switched by QMP, or by whoever reads what is printed.

use crate::arguments::{CreateGroup as Create, Settled};
use crate::find;
use crate::output::{Outcome, Output, table};
use serde_json::json;
use snapgroup::inventory::GroupInventory;
use snapgroup::{Consistency, CreateGroup, Engine};

/// Takes a group: of disks that are free, or of a QEMU whose monitor was said.
#[cfg(not(feature = "qmp"))]
pub(crate) fn create(engine: &Engine, _create: &Create, wish: &CreateGroup) -> Outcome<GroupInventory> {
    Ok(engine.create_group(wish)?.inventory)
}

/// Takes a group: of disks that are free, or of a QEMU whose monitor was said.
#[cfg(feature = "qmp")]
pub(crate) fn create(engine: &Engine, create: &Create, wish: &CreateGroup) -> Outcome<GroupInventory> {
    use snapgroup::qmp::{GuestAgent, QemuSwitch};
    use snapgroup::{IfNotFrozen, LiveOptions, NoQuiesce, Quiesce};

    let said = &create.live;
    let Some(monitor) = &said.qmp else { return Ok(engine.create_group(wish)?.inventory) };
    let mut switch = QemuSwitch::at(monitor);
    for (volume, node) in &said.node {
        switch = switch.with_node(find::volume(engine, volume)?, node);
    }
    let mut guest: Box<dyn Quiesce> = match &said.agent {
        Some(agent) => Box::new(GuestAgent::at(agent)),
        None => Box::new(NoQuiesce),
    };
    let mut options = LiveOptions::default();
    if said.take_anyway {
        options.if_not_frozen = IfNotFrozen::TakeAnyway;
    }
    let taken = engine.create_group_live(wish, &mut *guest, &mut switch, &options)?;
    let told = [
        ("the guest did not settle", &taken.freeze_error),
        ("the guest was not told to go on", &taken.thaw_error),
        ("every disk was switched, but", &taken.switch_error),
    ];
    for (what, error) in told {
        if let Some(error) = error {
            eprintln!("{what}: {error}");
        }
    }
    Ok(taken.created.inventory)
}

/// Makes the overlays of a group, and says what each disk is to be switched to.
pub(crate) fn prepare(engine: &Engine, wish: &CreateGroup, output: &Output) -> Outcome {
    let prepared = engine.prepare_group(wish)?;
    let disks: Vec<_> = prepared
        .disks()
        .iter()
        .map(|disk| {
            let chain: Vec<_> = disk.chain.iter().map(|file| &file.path).collect();
            json!({
                "volumeUuid": disk.volume_uuid.simple().to_string(),
                "volumeName": disk.volume_name,
                "deviceId": disk.device_id,
                "blockdevAdd": disk.overlay,
                "chain": chain,
            })
        })
        .collect();
    let uuid = prepared.uuid().simple().to_string();
    output.print(&json!({ "uuid": uuid, "disks": disks }), || {
        let rows = prepared.disks().iter().map(|disk| {
            let overlay = disk.overlay.filename.clone();
            vec![disk.device_id.to_string(), disk.volume_name.clone(), overlay]
        });
        format!("prepared group {uuid}: switch every disk, then `snapgroup group commit {uuid}`\n")
            + &table(&["DEVICE", "VOLUME", "SWITCH TO"], rows.collect())
    });
    prepared.leave();
    Ok(())
}

pub(crate) fn list(engine: &Engine, output: &Output) -> Outcome {
    let pending = engine.prepared_groups()?;
    let value = pending.iter().map(|group| {
        json!({
            "uuid": group.uuid.simple().to_string(),
            "name": group.name,
            "vmInstanceUuid": group.machine_uuid.simple().to_string(),
            "prepareDate": group.prepared,
            "overlays": group.overlays,
        })
    });
    output.inventories(&value.collect::<Vec<_>>(), || {
        let rows = pending.iter().map(|group| {
            vec![group.name.clone(), group.uuid.simple().to_string(), group.prepared.to_string()]
        });
        table(&["NAME", "UUID", "PREPARED"], rows.collect())
    });
    Ok(())
}

pub(crate) fn commit(engine: &Engine, group: &str, consistency: Settled) -> Outcome<GroupInventory> {
    let consistency = match consistency {
        Settled::Crash => Consistency::Crash,
        Settled::FileSystem => Consistency::FileSystem,
        Settled::Application => Consistency::Application,
    };
    Ok(find::prepared(engine, group)?.commit(consistency)?.inventory)
}

pub(crate) fn abort(engine: &Engine, group: &str, discard: bool, output: &Output) -> Outcome {
    let prepared = find::prepared(engine, group)?;
    if discard {
        prepared.abort_and_discard()?;
    } else {
        prepared.abort()?;
    }
    output.done(&json!({}), &format!("{group} is given up; every disk goes on as it is"));
    Ok(())
}
