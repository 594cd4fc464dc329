//! A machine: in the books, and out of them.

use super::Plan;
use super::refusal::Refusal;
use crate::catalog::{
    Edit, GroupRecord, IdSource, MachineRecord, RefRecord, Running, SnapshotRecord, Timestamp, VolumeRecord,
};
use uuid::Uuid;

/// Plans a new machine.
pub(crate) fn create(
    generation: u64,
    uuid: Uuid,
    name: String,
    description: Option<String>,
    at: Timestamp,
    ids: &IdSource,
) -> (Plan, MachineRecord) {
    let machine = MachineRecord {
        id: ids.take_machine(),
        uuid,
        name,
        description,
        running: Running::Here,
        group_current: None,
        created: at,
        changed: at,
    };
    let edits = vec![Edit::PutMachine(machine.clone())];
    (Plan { generation, edits, ..Plan::default() }, machine)
}

/// Everything of a machine that its removal touches.
#[derive(Clone, Debug)]
pub(crate) struct Belongings {
    pub(crate) volumes: Vec<VolumeRecord>,
    pub(crate) groups: Vec<(GroupRecord, Vec<RefRecord>)>,
    /// The snapshots that are in one of the groups.
    pub(crate) snapshots: Vec<SnapshotRecord>,
}

/// Plans the removal of a machine from the books: its volumes are detached, its groups go, the snapshots stay.
pub(crate) fn delete(
    generation: u64,
    machine: &MachineRecord,
    belongings: Belongings,
    at: Timestamp,
) -> Result<Plan, Refusal> {
    if machine.running == Running::Elsewhere {
        return Err(Refusal::RunsElsewhere { uuid: machine.uuid, refused: "it cannot be deleted" });
    }
    let mut edits = Vec::new();
    for volume in belongings.volumes {
        edits.push(Edit::PutVolume(volume.detached_from(machine.id, at)));
    }
    for snapshot in belongings.snapshots {
        edits.push(Edit::PutSnapshot(SnapshotRecord { group: None, changed: at, ..snapshot }));
    }
    for (group, refs) in belongings.groups {
        edits.extend(refs.iter().map(|member| Edit::RemoveRef { group: group.id, ordinal: member.ordinal }));
        edits.push(Edit::RemoveGroup(group.id));
    }
    edits.push(Edit::RemoveMachine(machine.id));
    Ok(Plan { generation, edits, ..Plan::default() })
}

/// Plans the note that a machine runs in this process or in another one.
pub(crate) fn run(
    generation: u64,
    machine: &MachineRecord,
    running: Running,
    at: Timestamp,
) -> (Plan, MachineRecord) {
    let machine = MachineRecord { running, changed: at, ..machine.clone() };
    let edits = vec![Edit::PutMachine(machine.clone())];
    (Plan { generation, edits, ..Plan::default() }, machine)
}
