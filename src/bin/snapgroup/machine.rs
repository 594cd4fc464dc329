//! `snapgroup vm`.

use crate::arguments::{Place, Vm};
use crate::find;
use crate::output::{Outcome, Output, bytes, table};
use snapgroup::inventory::{MachineInventory, VolumeInventory};
use snapgroup::query::Query;
use snapgroup::{CreateMachine, Engine, Running};

pub(crate) fn run(engine: &Engine, command: &Vm, output: &Output) -> Outcome {
    match command {
        Vm::Create { name, description } => {
            let request = CreateMachine { description: description.clone(), ..CreateMachine::new(name) };
            let machine = engine.create_machine(&request)?;
            output.inventory(&machine, || machine.uuid.simple().to_string());
        }
        Vm::List => {
            let page = engine.query_machines(&Query::all())?;
            output.inventories(&page.items, || {
                let rows = page.items.iter().map(|machine| {
                    vec![
                        machine.name.clone(),
                        machine.uuid.simple().to_string(),
                        machine.all_volumes.len().to_string(),
                        machine.state.to_string(),
                    ]
                });
                table(&["NAME", "UUID", "VOLUMES", "STATE"], rows.collect())
            });
        }
        Vm::Show { vm } => show(&engine.machine(find::machine(engine, vm)?)?, output),
        Vm::Running { vm, place } => {
            let running = match place {
                Place::Here => Running::Here,
                Place::Elsewhere => Running::Elsewhere,
            };
            show(&engine.set_running(find::machine(engine, vm)?, running)?, output);
        }
        Vm::Delete { vm } => {
            engine.delete_machine(find::machine(engine, vm)?)?;
            output.done(&serde_json::json!({}), &format!("deleted {vm}"));
        }
    }
    Ok(())
}

fn show(machine: &MachineInventory, output: &Output) {
    output.inventory(machine, || {
        let title = format!("{}  {}  {}\n", machine.name, machine.uuid.simple(), machine.state);
        title + &volumes(&machine.all_volumes)
    });
}

/// Volumes as a table.
pub(crate) fn volumes(volumes: &[VolumeInventory]) -> String {
    let rows = volumes.iter().map(|volume| {
        vec![
            volume.device_id.map_or_else(|| "-".to_owned(), |id| id.to_string()),
            volume.name.clone(),
            volume.uuid.simple().to_string(),
            volume.volume_type.to_string(),
            bytes(volume.size),
            volume.install_path.clone(),
        ]
    });
    table(&["DEVICE", "NAME", "UUID", "TYPE", "SIZE", "HEAD"], rows.collect())
}
