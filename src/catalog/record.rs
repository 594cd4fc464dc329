//! What the catalogue holds of each thing. Plain values; how they are written is `encoding`'s business.

use super::id::{GroupId, LayerId, MachineId, SnapshotId, TreeId, VolumeId};
use crate::storage::BlobName;
use crate::units::ByteCount;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A moment, in milliseconds since 1970-01-01 00:00 UTC. Shown to people; order never comes from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// Whether a machine's disks are written by this process or by another one.
#[doc = include_str!("../engine/examples/live.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Running {
    /// Not running, or running in this process.
    Here,
    /// Another process has the disks open.
    Elsewhere,
}

/// A virtual machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineRecord {
    pub id: MachineId,
    pub uuid: Uuid,
    pub name: String,
    pub description: Option<String>,
    pub running: Running,
    /// The group that the heads descend from: the last one taken or reverted to. The parent of the next one.
    pub group_current: Option<GroupId>,
    pub created: Timestamp,
    pub changed: Timestamp,
}

/// What a volume is to its machine.
#[doc = include_str!("../engine/examples/volumes.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum VolumeKind {
    /// The disk that the machine boots from; one each.
    Root,
    /// Any other disk.
    Data,
    /// The memory of the machine, as whoever runs it has saved it: bytes that nobody looks into. One each, and in a group
    /// only when that is asked for.
    Memory,
}

/// Whether one machine at a time may have the volume, or several.
#[doc = include_str!("../engine/examples/volumes.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Sharing {
    /// One machine at a time.
    Exclusive,
    /// Several at once; such a volume is left out of groups.
    Shareable,
}

/// A volume in a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub machine: MachineId,
    pub device_id: u32,
    pub since: Timestamp,
}

/// A disk of a machine, or one that waits for a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    pub id: VolumeId,
    pub uuid: Uuid,
    pub name: String,
    pub description: Option<String>,
    pub kind: VolumeKind,
    pub sharing: Sharing,
    /// At most one when exclusive.
    pub attachments: Vec<Attachment>,
    pub size: ByteCount,
    /// The layer that the volume writes to.
    pub head: LayerId,
    /// The tree that the head hangs from; absent before the first snapshot.
    pub tree_current: Option<TreeId>,
    /// The wish that made it, to recognise a repeat.
    pub wish: WishMark,
    pub created: Timestamp,
    pub changed: Timestamp,
    /// The longest chain that it may have, in layers with the head counted; absent when that is the pool's.
    pub chain_max: Option<u32>,
}

/// How the bytes of a layer are laid out.
#[doc = include_str!("../engine/examples/adopting.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LayerFormat {
    /// A qcow2 image.
    Qcow2,
    /// Every byte of the file is a byte of the guest.
    Raw,
}

/// How finely an image maps its disk.
#[doc = include_str!("../engine/examples/volumes.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum L2Entries {
    /// By the cluster.
    #[default]
    Standard,
    /// By 32 subclusters of each cluster, of 16 KiB or more: a small write to a new cluster copies a subcluster only.
    /// QEMU reads such images since 5.2.
    Extended,
}

/// What a layer is now.
#[doc = include_str!("../engine/examples/checking.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LayerState {
    /// A volume writes to it.
    Head,
    /// It never changes content; a snapshot names it, or it is the base that a volume was made on.
    Frozen,
    /// No snapshot names it any more; kept only while a living layer reads through it.
    Retired,
    /// Nothing reads it any more: its file is to be removed, and then this record.
    Garbage,
    /// It is being filled, and nothing reads it yet. What opening a pool finds of it is garbage.
    Building,
}

impl LayerState {
    /// Whether its content still changes: it is the head of a volume, or is being filled.
    #[must_use]
    pub const fn is_written(self) -> bool {
        matches!(self, Self::Head | Self::Building)
    }
}

/// Where a layer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// This pool made the file and may remove it.
    Created,
    /// The file was there before, as the head of a volume: its header says now which layer it is.
    Adopted,
    /// The file was there before, below a head: nothing was ever written to it.
    Base,
}

/// One file of a backing chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    pub id: LayerId,
    pub uuid: Uuid,
    pub blob: BlobName,
    pub format: LayerFormat,
    /// The volume that it was made for or adopted with. A base may be shared by others, too.
    pub volume: VolumeId,
    /// The layer that it reads through to.
    pub parent: Option<LayerId>,
    /// What its header must say about its backing file, to the letter.
    pub backing_label: Option<String>,
    pub size: ByteCount,
    /// log2 of the cluster size in bytes; 0 for raw.
    pub cluster_bits: u8,
    pub state: LayerState,
    pub origin: Origin,
    pub created: Timestamp,
    /// The header that is being written, while it is.
    pub rewrite: Option<HeaderRewrite>,
    /// How much of the layer above it has been written down into it, while that is done.
    pub taken_in: Option<TakenIn>,
    /// The L2 entries of its file, standard ones for raw; overlays on it have the same.
    pub l2: L2Entries,
    /// The checksums of what it holds; absent when there are none, and from before the first write of this pool to the
    /// file on.
    pub seal: Option<Seal>,
    /// Whether its file was durable when the books said this.
    pub settled: Settled,
}

/// Whether the file of a layer is durable, as far as the books know. The name of the file always is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Settled {
    /// It is.
    #[default]
    Yes,
    /// It was made empty and not synced: when its L1 table names nothing, nobody was promised anything of it, and opening
    /// the pool makes it anew from this record. The first flush of the layer makes all of it durable.
    No,
}

/// Where the checksums of a layer are, and what its file looked like when they were taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The file that holds them.
    pub blob: BlobName,
    /// How long that one is.
    pub length: ByteCount,
    /// The CRC-32 of all of it.
    pub checksum: u32,
    /// How long the layer's file was.
    pub file_length: ByteCount,
    /// Which file it was: the device and the number there.
    pub file_identity: (u64, u64),
    /// When it had been changed last, as the store tells; absent when it does not.
    pub file_stamp: Option<u64>,
    /// When the checksums were taken.
    pub sealed: Timestamp,
}

/// How far the data of a frozen layer has been written down into the retired one below it; durable there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenIn {
    /// The layer above.
    pub from: LayerId,
    /// Everything that lies before this guest offset, in bytes.
    pub up_to: u64,
}

/// A header that is being exchanged. Its bytes are durable here before the first of them is written to the file, so
/// that a write which was torn is done again; the file's header is the old one or this one, or a mixture of both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderRewrite {
    /// The bytes that the file shall begin with.
    pub header: Vec<u8>,
    /// The layer that it then reads through to.
    pub parent: Option<LayerId>,
    /// What the header then says about its backing file.
    pub backing_label: Option<String>,
}

/// A snapshot of one volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    pub id: SnapshotId,
    pub uuid: Uuid,
    pub name: String,
    pub description: Option<String>,
    pub volume: VolumeId,
    pub volume_uuid: Uuid,
    pub volume_kind: VolumeKind,
    pub tree: TreeId,
    pub parent: Option<SnapshotId>,
    /// The frozen layer whose content, through its own chain, this snapshot is.
    pub layer: LayerId,
    /// 1 for the first snapshot of a volume, 0 for one that starts a later tree, parent + 1 otherwise.
    pub distance: u32,
    /// Bytes that the layer's file took up when it was frozen.
    pub size: ByteCount,
    /// The virtual size of the disk at that moment.
    pub size_virtual: ByteCount,
    pub group: Option<GroupId>,
    pub tags: Tags,
    /// The wish that made it, to recognise a repeat.
    pub wish: WishMark,
    pub created: Timestamp,
    pub changed: Timestamp,
    /// The names of those who want it kept, sorted.
    pub holds: Vec<String>,
}

/// The snapshots of one volume that share a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeRecord {
    pub id: TreeId,
    pub uuid: Uuid,
    pub volume: VolumeId,
    /// The snapshot that the head hangs from, or hung from when the tree was last current.
    pub latest: Option<SnapshotId>,
    pub created: Timestamp,
    pub changed: Timestamp,
}

/// How far the content of a group's members can be trusted to agree. In the order in which the kinds came to be, which
/// is how they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Consistency {
    /// As after a power cut: one moment for all disks.
    Crash,
    /// The programs of the guest were asked to settle first, and said that they had.
    Application,
    /// The file systems of the guest were frozen.
    FileSystem,
}

/// The tags given with a create.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tags {
    pub tag_uuids: Vec<Uuid>,
    pub user_tags: Vec<String>,
    pub system_tags: Vec<String>,
}

/// The check value of a wish, by which a repeat of it is told from another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WishMark(pub u64);

/// The snapshots taken of all disks of a machine at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    pub id: GroupId,
    pub uuid: Uuid,
    pub name: String,
    pub description: Option<String>,
    pub machine: MachineId,
    pub machine_uuid: Uuid,
    /// The members at creation; never lowered.
    pub snapshot_count: u32,
    /// The group that the disks descended from at that moment.
    pub parent: Option<GroupId>,
    pub consistency: Consistency,
    /// The volumes that the machine had and that were left out: they do not count as attached since.
    pub left_out: Vec<Uuid>,
    pub tags: Tags,
    /// The wish that made it, to recognise a repeat.
    pub wish: WishMark,
    pub created: Timestamp,
    pub changed: Timestamp,
}

/// A group's own record of one member: copies what is needed to outlive the snapshot and the volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefRecord {
    pub group: GroupId,
    /// Its place in the group, from 0: the order of the device ids at that moment.
    pub ordinal: u32,
    pub snapshot: SnapshotId,
    pub snapshot_uuid: Uuid,
    pub snapshot_name: String,
    pub snapshot_deleted: bool,
    pub device_id: u32,
    pub volume: VolumeId,
    pub volume_uuid: Uuid,
    pub volume_name: String,
    pub volume_kind: VolumeKind,
    /// The file that held the snapshot when it was taken.
    pub blob: BlobName,
    pub attached_since: Timestamp,
    pub created: Timestamp,
    pub changed: Timestamp,
}

/// A group whose overlays are there and durable, and of which nobody has said yet whether another process writes to
/// them. What it will be once that process does; a machine has one at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedRecord {
    pub machine: MachineId,
    /// The uuid that the group will have.
    pub group: Uuid,
    pub name: String,
    pub description: Option<String>,
    pub left_out: Vec<Uuid>,
    pub tags: Tags,
    /// The wish that made it, to recognise a repeat.
    pub wish: WishMark,
    /// log2 of the cluster size of an overlay above a raw file.
    pub cluster_bits: u8,
    /// In the order of the device ids.
    pub members: Vec<PreparedMember>,
    pub created: Timestamp,
}

/// One disk of a group that is prepared: the uuids that its snapshot, its overlay and, if it has none, its tree will
/// have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedMember {
    pub volume: VolumeId,
    pub snapshot: Uuid,
    pub layer: Uuid,
    pub tree: Uuid,
    /// The file of the overlay.
    pub blob: BlobName,
}

impl VolumeRecord {
    /// The longest chain that it may have in a pool where `of_pool` is usual.
    pub fn cap(&self, of_pool: u32) -> u32 {
        self.chain_max.unwrap_or(of_pool)
    }

    /// Its place in a machine, when it has one.
    pub fn attachment(&self, machine: MachineId) -> Option<&Attachment> {
        self.attachments.iter().find(|attachment| attachment.machine == machine)
    }

    /// The same volume without its place in a machine.
    pub fn detached_from(&self, machine: MachineId, at: Timestamp) -> Self {
        let mut volume = self.clone();
        volume.attachments.retain(|attachment| attachment.machine != machine);
        volume.changed = at;
        volume
    }
}

impl VolumeKind {
    /// The kind as it is shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "Root",
            Self::Data => "Data",
            Self::Memory => "Memory",
        }
    }
}
