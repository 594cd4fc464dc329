//! A group: which disks of a machine are in it, what each member is called, what is published.

use super::books::Books;
use super::freeze::{Minted, Moment, freeze};
use super::refusal::Refusal;
use super::{Plan, text};
use crate::catalog::{
    Consistency, DiskView, Edit, GroupId, GroupRecord, IdSource, MachineId, MachineRecord, MachineView,
    RefRecord, Sharing, SnapshotRecord, Tags, Timestamp, VolumeKind, VolumeRecord, WishMark,
};
use crate::storage::BlobName;
use crate::units::ByteCount;
use uuid::Uuid;

/// What a group shall be, as far as the caller chooses.
#[derive(Clone, Debug)]
pub(crate) struct GroupWish {
    pub(crate) uuid: Uuid,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    /// Volumes to leave out.
    pub(crate) except: Vec<Uuid>,
    pub(crate) memory: WithMemory,
    pub(crate) tags: Tags,
    pub(crate) mark: WishMark,
    /// The volumes that turned out to be left out.
    pub(crate) left_out: Vec<Uuid>,
    /// What the guest is known to have done.
    pub(crate) consistency: Consistency,
}

/// Whether the memory volume of a machine is in a group of it.
#[doc = include_str!("../engine/examples/memory.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WithMemory {
    /// It is left out, and whether it is there does not count for the group.
    #[default]
    No,
    /// It is a member like the disks: what it holds at the moment of the group belongs to them.
    Yes,
}

impl WithMemory {
    /// By which a repeat of the wish is known; nothing for the default, so that the mark stays what it was.
    pub(crate) fn wish_part(self) -> Option<&'static str> {
        match self {
            Self::No => None,
            Self::Yes => Some("with memory"),
        }
    }
}

/// A volume of the machine that is in no group, and why.
#[doc = include_str!("../engine/examples/groups.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeftOut {
    /// Several machines may have it at once.
    Shareable,
    /// The caller said so.
    Asked,
    /// It holds the memory of the machine, and that was not asked for.
    Memory,
}

/// The disks of a machine that a group holds, by device id, and those that it does not.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    pub(crate) members: Vec<DiskView>,
    pub(crate) left_out: Vec<(VolumeRecord, LeftOut)>,
}

/// One member of a group that is being taken.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) disk: DiskView,
    pub(crate) minted: Minted,
    /// Bytes that the file of the frozen head takes up.
    pub(crate) head_allocated: ByteCount,
}

/// Refuses unless the volume that a group is asked for by is a root volume.
pub(crate) fn check_root(volume: &VolumeRecord) -> Result<(), Refusal> {
    if volume.kind != VolumeKind::Root {
        return Err(Refusal::NotRoot { uuid: volume.uuid, kind: volume.kind.as_str() });
    }
    Ok(())
}

/// Chooses the disks, and refuses names that a member could not have.
pub(crate) fn select(view: MachineView, wish: &GroupWish) -> Result<Selection, Refusal> {
    let machine = view.machine.uuid;
    for except in &wish.except {
        if !view.disks.iter().any(|disk| disk.volume.uuid == *except) {
            return Err(Refusal::NotOfMachine { volume: *except, machine });
        }
    }
    let mut selection = Selection { members: Vec::new(), left_out: Vec::new() };
    for disk in view.disks {
        match reason_to_leave_out(&disk.volume, wish) {
            Some(reason) => selection.left_out.push((disk.volume, reason)),
            None => selection.members.push(disk),
        }
    }
    if selection.members.is_empty() {
        return Err(Refusal::NoDisks { uuid: machine });
    }
    for member in &selection.members {
        text::joined_name(&wish.name, &member.volume.name)?;
    }
    Ok(selection)
}

fn reason_to_leave_out(volume: &VolumeRecord, wish: &GroupWish) -> Option<LeftOut> {
    match reason_noted(volume) {
        LeftOut::Memory if wish.memory == WithMemory::No => Some(LeftOut::Memory),
        LeftOut::Asked | LeftOut::Memory => wish.except.contains(&volume.uuid).then_some(LeftOut::Asked),
        always => Some(always),
    }
}

/// Why a volume was left out, as far as its record still tells.
pub(crate) fn reason_noted(volume: &VolumeRecord) -> LeftOut {
    if volume.sharing == Sharing::Shareable {
        LeftOut::Shareable
    } else if volume.kind == VolumeKind::Memory {
        LeftOut::Memory
    } else {
        LeftOut::Asked
    }
}

/// Plans a group of these members, in this order.
pub(crate) fn create(
    machine: &MachineRecord,
    members: &[Member],
    wish: &GroupWish,
    at: Timestamp,
    cluster_bits: u8,
    ids: &IdSource,
) -> Result<(Plan, GroupRecord), Refusal> {
    let mut plan = Plan::default();
    let (group, moment) = begin(machine, members.len(), wish, at, cluster_bits, ids);
    for (ordinal, member) in (0..).zip(members) {
        let disk = &member.disk;
        let name = text::joined_name(&wish.name, &disk.volume.name)?;
        let snapshot = freeze(disk, name, member.minted, member.head_allocated, &moment, ids, &mut plan);
        let blob = &disk.chain[0].blob;
        plan.edits.push(Edit::PutRef(ref_of(group.id, ordinal, machine.id, &disk.volume, &snapshot, blob)));
    }
    plan.edits.push(Edit::PutGroup(group.clone()));
    plan.edits.push(Edit::PutMachine(descended(machine, &group)));
    Ok((plan, group))
}

/// The record of a group, and what its members have in common.
pub(crate) fn begin(
    machine: &MachineRecord,
    members: usize,
    wish: &GroupWish,
    at: Timestamp,
    cluster_bits: u8,
    ids: &IdSource,
) -> (GroupRecord, Moment) {
    let group = GroupRecord {
        id: ids.take_group(),
        uuid: wish.uuid,
        name: wish.name.clone(),
        description: wish.description.clone(),
        machine: machine.id,
        machine_uuid: machine.uuid,
        snapshot_count: u32::try_from(members).expect("a machine has fewer disks than that"),
        parent: machine.group_current,
        consistency: wish.consistency,
        left_out: wish.left_out.clone(),
        tags: wish.tags.clone(),
        wish: wish.mark,
        created: at,
        changed: at,
    };
    let moment = Moment {
        at,
        description: wish.description.clone(),
        tags: Tags::default(),
        wish: wish.mark,
        group: Some(group.id),
        cluster_bits,
    };
    (group, moment)
}

/// The machine, whose disks descend from a group from now on.
pub(crate) fn descended(machine: &MachineRecord, group: &GroupRecord) -> MachineRecord {
    MachineRecord { group_current: Some(group.id), changed: group.created, ..machine.clone() }
}

/// The group's own record of one member, whose snapshot is in the file `blob`.
pub(crate) fn ref_of(
    group: GroupId,
    ordinal: u32,
    machine: MachineId,
    volume: &VolumeRecord,
    snapshot: &SnapshotRecord,
    blob: &BlobName,
) -> RefRecord {
    let attachment = volume.attachment(machine);
    RefRecord {
        group,
        ordinal,
        snapshot: snapshot.id,
        snapshot_uuid: snapshot.uuid,
        snapshot_name: snapshot.name.clone(),
        snapshot_deleted: false,
        device_id: attachment.map_or(0, |attachment| attachment.device_id),
        volume: volume.id,
        volume_uuid: volume.uuid,
        volume_name: volume.name.clone(),
        volume_kind: volume.kind,
        blob: blob.clone(),
        attached_since: attachment.map_or(snapshot.created, |attachment| attachment.since),
        created: snapshot.created,
        changed: snapshot.created,
    }
}

/// Plans a new name or description; what is `None` stays. `None` when nothing would change.
pub(crate) fn update(
    group: &GroupRecord,
    name: Option<&str>,
    description: Option<&str>,
    at: Timestamp,
) -> Result<Option<(Plan, GroupRecord)>, Refusal> {
    let name = name.map(|name| text::name("name", name)).transpose()?;
    let description = text::description(description)?;
    if name.is_none() && description.is_none() {
        return Ok(None);
    }
    let group = GroupRecord {
        name: name.unwrap_or_else(|| group.name.clone()),
        description: description.or_else(|| group.description.clone()),
        changed: at,
        ..group.clone()
    };
    let edits = vec![Edit::PutGroup(group.clone())];
    Ok(Some((Plan { edits, ..Plan::default() }, group)))
}

/// Removes a group whose snapshots stay. Its children become those of its parent.
pub(crate) fn ungroup(books: &mut Books, group: GroupId, at: Timestamp) {
    for snapshot in books.members_of(group) {
        books.put_snapshot(SnapshotRecord { group: None, changed: at, ..snapshot });
    }
    books.remove_group(group, at);
}
