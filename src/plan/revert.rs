//! Going back: new overlays on old layers, all in one commit.

use super::NewFile;
use super::books::{Books, Fresh};
use super::freeze::Minted;
use super::group::ref_of;
use super::text::{backing_label, layer_blob};
use crate::catalog::{
    Consistency, GroupId, GroupRecord, LayerFormat, LayerRecord, LayerState, MachineId, MachineRecord,
    Origin, Settled, SnapshotRecord, Tags, TreeRecord, VolumeId, VolumeRecord, WishMark,
};
use crate::units::ByteCount;
use uuid::Uuid;

/// The tag of what this crate makes by itself, as the API of volume snapshot groups writes it.
pub(crate) const BY_SYSTEM: &str = "CreatedBySystem";

/// One disk that goes back.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) volume: VolumeId,
    /// Where it goes back to.
    pub(crate) target: SnapshotRecord,
    /// The layer of the target.
    pub(crate) layer: LayerRecord,
    pub(crate) minted: Minted,
    /// Bytes that the file of the old head takes up.
    pub(crate) head_allocated: ByteCount,
}

/// What the present state is kept as, when it is.
#[derive(Clone, Debug)]
pub(crate) struct Keep {
    pub(crate) name: String,
    pub(crate) wish: WishMark,
    /// The uuid of the group, when whole machines go back.
    pub(crate) group: Option<(Uuid, MachineId)>,
    /// The volumes that the machine has and that do not go back.
    pub(crate) left_out: Vec<Uuid>,
}

/// Puts each disk back in the books; answers the files to be made, and the group or snapshots that were kept.
pub(crate) fn revert(
    books: &mut Books,
    members: &[Member],
    keep: Option<&Keep>,
    current: Option<(MachineId, GroupId)>,
    cluster_bits: u8,
    fresh: &Fresh<'_>,
) -> (Vec<NewFile>, Option<GroupRecord>, Vec<SnapshotRecord>) {
    let mut files = Vec::new();
    let mut kept = Vec::new();
    let group = keep.and_then(|keep| {
        keep.group.map(|(uuid, machine)| keep_group(books, keep, uuid, machine, members.len(), fresh))
    });
    for (ordinal, member) in (0..).zip(members) {
        let volume = books.volume(member.volume).expect("a member's volume is in the books").clone();
        match keep {
            Some(keep) => {
                let snapshot = keep_disk(books, &volume, member, keep, group.as_ref(), fresh);
                if let (Some(group), Some((_, machine))) = (&group, keep.group) {
                    let blob = &books.layer(snapshot.layer).expect("the head of before").blob;
                    books.put_ref(ref_of(group.id, ordinal, machine, &volume, &snapshot, blob));
                }
                kept.push(snapshot);
                files.push(go_back(books, volume.id, member, cluster_bits, fresh));
            }
            None => {
                let head = volume.head;
                files.push(go_back(books, volume.id, member, cluster_bits, fresh));
                books.retire(head);
            }
        }
    }
    if let Some((machine, group)) = current
        && let Some(record) = books.machine(machine).cloned()
    {
        books.put_machine(MachineRecord { group_current: Some(group), changed: fresh.at, ..record });
    }
    (files, group, kept)
}

/// Gives a volume a new head on the layer of the snapshot that it goes back to.
fn go_back(
    books: &mut Books,
    volume: VolumeId,
    member: &Member,
    cluster_bits: u8,
    fresh: &Fresh<'_>,
) -> NewFile {
    let volume = books.volume(volume).expect("a member's volume is in the books").clone();
    let base = &member.layer;
    let target = &member.target;
    let overlay = LayerRecord {
        id: fresh.ids.take_layer(),
        uuid: member.minted.layer,
        blob: layer_blob(member.minted.layer),
        format: LayerFormat::Qcow2,
        volume: volume.id,
        parent: Some(base.id),
        backing_label: Some(backing_label(&base.blob)),
        size: target.size_virtual,
        cluster_bits: if base.format == LayerFormat::Raw { cluster_bits } else { base.cluster_bits },
        state: LayerState::Head,
        origin: Origin::Created,
        created: fresh.at,
        rewrite: None,
        taken_in: None,
        l2: base.l2,
        seal: None,
        settled: Settled::No,
    };
    let file =
        NewFile { layer: overlay.clone(), backing_format: Some(base.format), volume_uuid: volume.uuid };
    books.put_volume(VolumeRecord {
        head: overlay.id,
        size: target.size_virtual,
        tree_current: Some(target.tree),
        changed: fresh.at,
        ..volume
    });
    books.put_layer(overlay);
    let tree = books.tree(target.tree).expect("a snapshot's tree is in the books").clone();
    books.put_tree(TreeRecord { latest: Some(target.id), changed: fresh.at, ..tree });
    file
}

/// Freezes the present head under a name of its own.
fn keep_disk(
    books: &mut Books,
    volume: &VolumeRecord,
    member: &Member,
    keep: &Keep,
    group: Option<&GroupRecord>,
    fresh: &Fresh<'_>,
) -> SnapshotRecord {
    let head = books.layer(volume.head).expect("a volume has a head").clone();
    let id = fresh.ids.take_snapshot();
    let has_trees = books.snapshots_of(volume.id).next().is_some();
    let current = volume.tree_current.and_then(|tree| books.tree(tree)).cloned();
    let parent = current.as_ref().and_then(|tree| tree.latest).and_then(|latest| books.snapshot(latest));
    let (parent, distance) = match parent {
        Some(parent) => (Some(parent.id), parent.distance + 1),
        None => (None, u32::from(!has_trees)),
    };
    let tree = match current {
        Some(tree) => TreeRecord { latest: Some(id), changed: fresh.at, ..tree },
        None => TreeRecord {
            id: fresh.ids.take_tree(),
            uuid: member.minted.tree,
            volume: volume.id,
            latest: Some(id),
            created: fresh.at,
            changed: fresh.at,
        },
    };
    // A snapshot of one disk has the name as it was asked for, a member that of its group and its volume.
    let name = match group {
        Some(_) => joined(&keep.name, &volume.name),
        None => keep.name.clone(),
    };
    let snapshot = SnapshotRecord {
        id,
        uuid: member.minted.snapshot,
        name,
        description: None,
        volume: volume.id,
        volume_uuid: volume.uuid,
        volume_kind: volume.kind,
        tree: tree.id,
        parent,
        layer: head.id,
        distance,
        size: member.head_allocated,
        size_virtual: volume.size,
        group: group.map(|group| group.id),
        tags: by_system(),
        wish: keep.wish,
        created: fresh.at,
        changed: fresh.at,
        holds: Vec::new(),
    };
    books.put_layer(LayerRecord { state: LayerState::Frozen, ..head });
    books.put_tree(tree);
    books.put_snapshot(snapshot.clone());
    snapshot
}

fn keep_group(
    books: &mut Books,
    keep: &Keep,
    uuid: Uuid,
    machine: MachineId,
    members: usize,
    fresh: &Fresh<'_>,
) -> GroupRecord {
    let machine = books.machine(machine).expect("the machine is in the books");
    let group = GroupRecord {
        id: fresh.ids.take_group(),
        uuid,
        name: keep.name.clone(),
        description: None,
        machine: machine.id,
        machine_uuid: machine.uuid,
        snapshot_count: u32::try_from(members).expect("a machine has fewer disks than that"),
        parent: machine.group_current,
        consistency: Consistency::Crash,
        left_out: keep.left_out.clone(),
        tags: by_system(),
        wish: keep.wish,
        created: fresh.at,
        changed: fresh.at,
    };
    books.put_group(group.clone());
    group
}

fn by_system() -> Tags {
    Tags { system_tags: vec![BY_SYSTEM.to_owned()], ..Tags::default() }
}

/// `<group>-<volume>`, cut at the longest name there can be.
fn joined(group: &str, volume: &str) -> String {
    format!("{group}-{volume}").chars().take(super::text::NAME_MAX).collect()
}
