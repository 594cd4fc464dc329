//! A group in two phases: its overlays are made and noted, another process switches to them, it is published.
//!
//! The note holds what the group will be, and the uuids that it will give. Publishing works it out anew, from the books
//! as they are then: the same view and the same note give the same overlays.

use super::group::{GroupWish, Member, WithMemory, create};
use super::refusal::Refusal;
use super::text::layer_blob;
use super::{NewFile, Plan};
use crate::catalog::{
    Consistency, Edit, GroupRecord, IdSource, LayerState, MachineRecord, PreparedMember, PreparedRecord,
    Settled, Timestamp,
};

/// Plans the overlays of a group, and the note that they are there.
pub(crate) fn prepare(
    machine: &MachineRecord,
    members: &[Member],
    wish: &GroupWish,
    at: Timestamp,
    cluster_bits: u8,
    ids: &IdSource,
) -> Result<(Plan, PreparedRecord), Refusal> {
    let (mut group, _) = create(machine, members, wish, at, cluster_bits, ids)?;
    settle_overlays(&mut group);
    let noted = |member: &Member| PreparedMember {
        volume: member.disk.volume.id,
        snapshot: member.minted.snapshot,
        layer: member.minted.layer,
        tree: member.minted.tree,
        blob: layer_blob(member.minted.layer),
    };
    let record = PreparedRecord {
        machine: machine.id,
        group: wish.uuid,
        name: wish.name.clone(),
        description: wish.description.clone(),
        left_out: wish.left_out.clone(),
        tags: wish.tags.clone(),
        wish: wish.mark,
        cluster_bits,
        members: members.iter().map(noted).collect(),
        created: at,
    };
    let edits = vec![Edit::PutPrepared(record.clone())];
    Ok((Plan { files: group.files, edits }, record))
}

/// A group that is to be published, and the files of it that are there.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) plan: Plan,
    pub(crate) overlays: Vec<NewFile>,
    pub(crate) group: GroupRecord,
}

/// Plans the publishing of a prepared group; the members are in the order of the note.
pub(crate) fn publish(
    prepared: &PreparedRecord,
    machine: &MachineRecord,
    members: &[Member],
    consistency: Consistency,
    at: Timestamp,
    ids: &IdSource,
) -> Result<Published, Refusal> {
    let wish = GroupWish {
        memory: WithMemory::No,
        uuid: prepared.group,
        name: prepared.name.clone(),
        description: prepared.description.clone(),
        except: Vec::new(),
        tags: prepared.tags.clone(),
        mark: prepared.wish,
        left_out: prepared.left_out.clone(),
        consistency,
    };
    let (mut plan, group) = create(machine, members, &wish, at, prepared.cluster_bits, ids)?;
    settle_overlays(&mut plan);
    let overlays = std::mem::take(&mut plan.files);
    plan.edits.push(Edit::RemovePrepared(prepared.machine));
    Ok(Published { plan, overlays, group })
}

/// Has the overlays synced before anybody is told of them: of the flushes of another process nothing is known here.
fn settle_overlays(plan: &mut Plan) {
    let published = plan.edits.iter_mut().filter_map(|edit| match edit {
        Edit::PutLayer(layer) if layer.state == LayerState::Head => Some(layer),
        _ => None,
    });
    for layer in plan.files.iter_mut().map(|file| &mut file.layer).chain(published) {
        layer.settled = Settled::Yes;
    }
}
