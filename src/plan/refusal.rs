//! Why a call was refused: one variant per rule, with the values. Nothing has happened.

use crate::units::ByteCount;
use uuid::Uuid;

/// The area of an error, with the number that the API of volume snapshot groups gives it.
#[doc = include_str!("../engine/examples/errors.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// SYS.1000
    Internal,
    /// SYS.1002
    CreateResource,
    /// SYS.1003
    NotFound,
    /// SYS.1004
    DeleteResource,
    /// SYS.1005
    ChangeState,
    /// SYS.1006
    Operation,
    /// SYS.1007
    InvalidArgument,
    /// SYS.1016
    Io,
    /// SYS.1017
    Cancelled,
    /// VOLUME_SNAPSHOT.1002
    BatchDelete,
    /// ID.1003
    Quota,
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl Code {
    /// The code as it is written: `SYS.1007`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "SYS.1000",
            Self::CreateResource => "SYS.1002",
            Self::NotFound => "SYS.1003",
            Self::DeleteResource => "SYS.1004",
            Self::ChangeState => "SYS.1005",
            Self::Operation => "SYS.1006",
            Self::InvalidArgument => "SYS.1007",
            Self::Io => "SYS.1016",
            Self::Cancelled => "SYS.1017",
            Self::BatchDelete => "VOLUME_SNAPSHOT.1002",
            Self::Quota => "ID.1003",
        }
    }

    /// What the code says, in a few words; always the same for the same code.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Internal => "internal error",
            Self::CreateResource => "the resource cannot be created",
            Self::NotFound => "the resource was not found",
            Self::DeleteResource => "the resource cannot be deleted",
            Self::ChangeState => "the state cannot be changed",
            Self::Operation => "the operation cannot be done now",
            Self::InvalidArgument => "an argument is invalid",
            Self::Io => "reading or writing failed",
            Self::Cancelled => "the operation was cancelled",
            Self::BatchDelete => "another snapshot of the same request cannot be deleted",
            Self::Quota => "a quota would be exceeded",
        }
    }
}

/// Why a call was refused. Nothing has happened: ask differently, or change what the refusal names.
#[doc = include_str!("../engine/examples/errors.md")]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "fields are named for the words of the message that they stand in")]
pub enum Refusal {
    /// A text that was to be a uuid is none: 32 hex digits, with or without dashes, not all zero.
    #[error("{text:?} is not a uuid: 32 hex digits, with or without dashes, not all zero")]
    MalformedUuid { text: String },
    /// There is nothing of this kind with this uuid.
    #[error("no {what} has the uuid {}", .uuid.simple())]
    NotFound { what: &'static str, uuid: Uuid },
    /// A group was asked for by a volume that is not the root volume of a machine.
    #[error("volume {} is a {kind} volume, a group is asked for by the root volume", .uuid.simple())]
    NotRoot { uuid: Uuid, kind: &'static str },
    /// A group was asked for by a root volume that no machine has.
    #[error("volume {} is attached to no machine", .uuid.simple())]
    NotAttached { uuid: Uuid },
    /// A text that must say something is empty.
    #[error("the {field} is empty")]
    Empty { field: &'static str },
    /// A text is too long. Lengths are in characters.
    #[error("the {field} is {length} characters long, at most {max} are allowed")]
    TooLong { field: &'static str, length: usize, max: usize },
    /// The name of a member, `<group>-<volume>`, would be too long.
    #[error(
        "the snapshot of volume {volume:?} would have a name of {length} characters (<group>-<volume>), at most {max} are allowed"
    )]
    JoinedNameTooLong { volume: String, length: usize, max: usize },
    /// A tag breaks a rule for tags.
    #[error("the tag {tag:?} is malformed: {rule}")]
    MalformedTag { tag: String, rule: &'static str },
    /// The `resource_uuid` belongs to something of another kind.
    #[error("the uuid {} is taken by a {by}", .uuid.simple())]
    UuidTaken { uuid: Uuid, by: &'static str },
    /// The `resource_uuid` belongs to something that was made by a request with another wish: this one is no repetition.
    #[error("the {by} {} was made by another request: the same resource uuid with another wish", .uuid.simple())]
    OtherWish { uuid: Uuid, by: &'static str },
    /// The snapshot would make the chain longer than it may be, and nothing can be merged to make room.
    #[error("the chain of volume {volume:?} would be {length} layers long, {cap} are allowed")]
    ChainTooLong { volume: String, length: usize, cap: u32 },
    /// The pool would hold more snapshots than [`Options::snapshots_max`](crate::Options::snapshots_max).
    #[error("{held} snapshots are held and {adding} would be added, the quota is {quota}")]
    Quota { held: u64, adding: u64, quota: u64 },
    /// The snapshots of the pool would take up more than [`Options::snapshot_bytes_max`](crate::Options::snapshot_bytes_max).
    #[error("the snapshots take up {held} and {adding} would be added, the quota is {quota}")]
    QuotaBytes { held: ByteCount, adding: ByteCount, quota: ByteCount },
    /// The machine has no disk, or none but shareable ones: a group of it would be empty.
    #[error("machine {} has no disk that a group could hold", .uuid.simple())]
    NoDisks { uuid: Uuid },
    /// The volume is attached to no machine, or to another one.
    #[error("volume {} is not attached to machine {}", .volume.simple(), .machine.simple())]
    NotOfMachine { volume: Uuid, machine: Uuid },
    /// A difference was asked for between snapshots of two volumes.
    #[error("the snapshots {} and {} are not of one volume", .one.simple(), .other.simple())]
    NotOfOneVolume { one: Uuid, other: Uuid },
    /// The volume has a machine already. A volume that is not shareable has one at a time.
    #[error("volume {} is attached to machine {} already", .volume.simple(), .machine.simple())]
    AttachedAlready { volume: Uuid, machine: Uuid },
    /// A machine has one root volume.
    #[error("machine {} has a root volume already: {}", .machine.simple(), .root.simple())]
    RootAlready { machine: Uuid, root: Uuid },
    /// A machine has one memory volume.
    #[error("machine {} has a memory volume already: {}", .machine.simple(), .memory.simple())]
    MemoryAlready { machine: Uuid, memory: Uuid },
    /// The device id that was asked for is that of another disk of the machine.
    #[error("device id {device_id} of machine {} is taken by volume {}", .machine.simple(), .volume.simple())]
    DeviceTaken { machine: Uuid, device_id: u32, volume: Uuid },
    /// A root volume was to be shared.
    #[error("a root volume cannot be shareable")]
    ShareableRoot,
    /// A memory volume was to be shared.
    #[error("a memory volume cannot be shareable")]
    ShareableMemory,
    /// The machine runs in another process, which has its disks: see [live machines](crate::guide::live_machines).
    #[error("machine {} runs in another process: {refused}", .uuid.simple())]
    RunsElsewhere { uuid: Uuid, refused: &'static str },
    /// The volume is open in this process; the call needs it closed.
    #[error("volume {} is open in this process: close its handles first", .uuid.simple())]
    VolumeOpen { uuid: Uuid },
    /// A volume was to be made smaller.
    #[error("volume {} is {size} large and cannot be made smaller ({wanted})", .uuid.simple())]
    Shrink { uuid: Uuid, size: ByteCount, wanted: ByteCount },
    /// A number is outside of its range.
    #[error("{what} is not a valid value: {rule}")]
    BadValue { what: String, rule: &'static str },
    /// No qcow2 image has this size in clusters of this size.
    #[error("no image has {size} in clusters of 2^{cluster_bits} bytes: {why}")]
    ImpossibleImage { size: ByteCount, cluster_bits: u8, why: String },
    /// A volume above nothing was asked for, and no size.
    #[error("a volume that is above no other file needs a size")]
    SizeNeeded,
    /// A condition of a query compares a field with a value of another type.
    #[error("{condition}")]
    WrongType { condition: String },
    /// The plan was made before the last change of the catalogue: make it anew.
    #[error("the catalogue has moved on since the plan was made (generation {planned}, now {now})")]
    Stale { planned: u64, now: u64 },
    /// The pool cannot be closed while handles or other clones of the engine are alive.
    #[error("the pool stays open: {holders} handles or clones of the engine are alive")]
    StillOpen { holders: usize },
    /// A sealed layer was asked for, and its seal is gone or another one.
    #[error("the layer in {file} has no seal, or another one by now")]
    NotSealed { file: String },
    /// The snapshot is held: [`Engine::release`](crate::Engine::release) lets go of a hold.
    #[error("snapshot {} is held by {}", .snapshot.simple(), .holds.join(", "))]
    Held { snapshot: Uuid, holds: Vec<String> },
    /// A volume that was made of the snapshot reads through it.
    #[error("another volume reads through snapshot {}: a volume was made on it", .snapshot.simple())]
    Cloned { snapshot: Uuid },
    /// Another snapshot of the same request refuses, and all or none was asked for.
    #[error("snapshot {} stays because snapshot {} refuses", .snapshot.simple(), .because_of.simple())]
    Spared { snapshot: Uuid, because_of: Uuid },
    /// The machine cannot go back to the group: its disks are not those of the group.
    #[error("group {} is not available: {reasons}", .group.simple())]
    NotAvailable { group: Uuid, reasons: String },
    /// A handle to a snapshot that was deleted still reads the file.
    #[error("{file} is still being read: close the handles to the deleted snapshot first")]
    BeingRead { file: String },
    /// An import has not ended that fills the file above.
    #[error("{file}, which reads through it, is still being filled")]
    BeingFilled { file: String },
    /// The volume that was to go back to the snapshot was deleted.
    #[error("volume {} of snapshot {} is gone", .volume.simple(), .snapshot.simple())]
    VolumeGone { snapshot: Uuid, volume: Uuid },
    /// A catalogue was to be made anew, and there is one in order.
    #[error("there is a catalogue that can be opened, {file}: move it away if it shall be made anew")]
    CatalogueThere { file: String },
    /// A catalogue was to be made anew where no file says that it is a layer.
    #[error("no file here says that it is a layer of this pool: there is nothing to make a catalogue from")]
    NothingToRebuild,
    /// A catalogue was to be made anew from files of several pools: [`RebuildOptions`](crate::RebuildOptions) says which one.
    #[error("files of several pools are here: say which one is meant of {}", list(.pools))]
    SeveralPools { pools: Vec<Uuid> },
    /// A catalogue was to be made anew from files that contradict each other.
    #[error("the files contradict each other, and a catalogue made from them would be wrong: {why}")]
    NotRebuilt { why: String },
    /// A group in two phases was asked for of a machine that does not run in another process.
    #[error("machine {} does not run in another process: its group is taken here, or it must be said that it does", .uuid.simple())]
    RunsHere { uuid: Uuid },
    /// The call does not go together with a group that is prepared and not ended.
    #[error("group {} of machine {} is being prepared: commit or abort it first", .group.simple(), .machine.simple())]
    BeingPrepared { machine: Uuid, group: Uuid },
    /// A group was to be prepared that the same request has taken already.
    #[error("group {} is there already: the same request has taken it", .uuid.simple())]
    GroupThere { uuid: Uuid },
    /// A prepared group was to be aborted whose new heads hold what the guest has written.
    #[error("{file}, which was made for group {}, has been written to: it holds what the guest wrote since", .group.simple())]
    OverlayWritten { file: String, group: Uuid },
    /// What was asked for is not there yet.
    #[error("{what} is not done yet by this version")]
    NotYet { what: &'static str },
}

fn list(uuids: &[Uuid]) -> String {
    uuids.iter().map(|uuid| uuid.simple().to_string()).collect::<Vec<_>>().join(", ")
}

impl Refusal {
    /// The area of the refusal.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::MalformedUuid { .. }
            | Self::NotRoot { .. }
            | Self::NotAttached { .. }
            | Self::Empty { .. }
            | Self::TooLong { .. }
            | Self::JoinedNameTooLong { .. }
            | Self::MalformedTag { .. }
            | Self::NotOfMachine { .. }
            | Self::NotOfOneVolume { .. }
            | Self::ShareableRoot
            | Self::ShareableMemory
            | Self::Shrink { .. }
            | Self::ImpossibleImage { .. }
            | Self::WrongType { .. }
            | Self::SizeNeeded
            | Self::BadValue { .. } => Code::InvalidArgument,
            Self::NotFound { .. } => Code::NotFound,
            Self::UuidTaken { .. } | Self::OtherWish { .. } | Self::GroupThere { .. } => Code::CreateResource,
            Self::ChainTooLong { .. }
            | Self::NoDisks { .. }
            | Self::AttachedAlready { .. }
            | Self::RootAlready { .. }
            | Self::MemoryAlready { .. }
            | Self::DeviceTaken { .. }
            | Self::RunsElsewhere { .. }
            | Self::VolumeOpen { .. }
            | Self::Stale { .. }
            | Self::StillOpen { .. }
            | Self::NotSealed { .. }
            | Self::Held { .. }
            | Self::Cloned { .. }
            | Self::NotAvailable { .. }
            | Self::BeingRead { .. }
            | Self::BeingFilled { .. }
            | Self::VolumeGone { .. }
            | Self::CatalogueThere { .. }
            | Self::NothingToRebuild
            | Self::SeveralPools { .. }
            | Self::NotRebuilt { .. }
            | Self::RunsHere { .. }
            | Self::BeingPrepared { .. }
            | Self::OverlayWritten { .. }
            | Self::NotYet { .. } => Code::Operation,
            Self::Spared { .. } => Code::BatchDelete,
            Self::Quota { .. } | Self::QuotaBytes { .. } => Code::Quota,
        }
    }
}
