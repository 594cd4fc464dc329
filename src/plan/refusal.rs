//! Why a call was refused: one variant per rule, with the values. Nothing has happened.

use crate::units::ByteCount;
use uuid::Uuid;

/// The area of an error, with the number that the API of volume snapshot groups gives it.
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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant says what its fields are")]
pub enum Refusal {
    #[error("{text:?} is not a uuid: 32 hex digits, with or without dashes, not all zero")]
    MalformedUuid { text: String },
    #[error("no {what} has the uuid {}", .uuid.simple())]
    NotFound { what: &'static str, uuid: Uuid },
    #[error("volume {} is a {kind} volume, a group is asked for by the root volume", .uuid.simple())]
    NotRoot { uuid: Uuid, kind: &'static str },
    #[error("volume {} is attached to no machine", .uuid.simple())]
    NotAttached { uuid: Uuid },
    #[error("the {field} is empty")]
    Empty { field: &'static str },
    #[error("the {field} is {length} characters long, at most {max} are allowed")]
    TooLong { field: &'static str, length: usize, max: usize },
    #[error(
        "the snapshot of volume {volume:?} would have a name of {length} characters (<group>-<volume>), at most {max} are allowed"
    )]
    JoinedNameTooLong { volume: String, length: usize, max: usize },
    #[error("the tag {tag:?} is malformed: {rule}")]
    MalformedTag { tag: String, rule: &'static str },
    #[error("the uuid {} is taken by a {by}", .uuid.simple())]
    UuidTaken { uuid: Uuid, by: &'static str },
    #[error("the {by} {} was made by another request: the same resource uuid with another wish", .uuid.simple())]
    OtherWish { uuid: Uuid, by: &'static str },
    #[error("the chain of volume {volume:?} would be {length} layers long, {cap} are allowed")]
    ChainTooLong { volume: String, length: usize, cap: u32 },
    #[error("{held} snapshots are held and {adding} would be added, the quota is {quota}")]
    Quota { held: u64, adding: u64, quota: u64 },
    #[error("the snapshots take up {held} and {adding} would be added, the quota is {quota}")]
    QuotaBytes { held: ByteCount, adding: ByteCount, quota: ByteCount },
    #[error("machine {} has no disk that a group could hold", .uuid.simple())]
    NoDisks { uuid: Uuid },
    #[error("volume {} is not attached to machine {}", .volume.simple(), .machine.simple())]
    NotOfMachine { volume: Uuid, machine: Uuid },
    #[error("the snapshots {} and {} are not of one volume", .one.simple(), .other.simple())]
    NotOfOneVolume { one: Uuid, other: Uuid },
    #[error("volume {} is attached to machine {} already", .volume.simple(), .machine.simple())]
    AttachedAlready { volume: Uuid, machine: Uuid },
    #[error("machine {} has a root volume already: {}", .machine.simple(), .root.simple())]
    RootAlready { machine: Uuid, root: Uuid },
    #[error("machine {} has a memory volume already: {}", .machine.simple(), .memory.simple())]
    MemoryAlready { machine: Uuid, memory: Uuid },
    #[error("device id {device_id} of machine {} is taken by volume {}", .machine.simple(), .volume.simple())]
    DeviceTaken { machine: Uuid, device_id: u32, volume: Uuid },
    #[error("a root volume cannot be shareable")]
    ShareableRoot,
    #[error("a memory volume cannot be shareable")]
    ShareableMemory,
    #[error("machine {} runs in another process: {refused}", .uuid.simple())]
    RunsElsewhere { uuid: Uuid, refused: &'static str },
    #[error("volume {} is open in this process: close its handles first", .uuid.simple())]
    VolumeOpen { uuid: Uuid },
    #[error("volume {} is {size} large and cannot be made smaller ({wanted})", .uuid.simple())]
    Shrink { uuid: Uuid, size: ByteCount, wanted: ByteCount },
    #[error("{what} is not a valid value: {rule}")]
    BadValue { what: String, rule: &'static str },
    #[error("no image has {size} in clusters of 2^{cluster_bits} bytes: {why}")]
    ImpossibleImage { size: ByteCount, cluster_bits: u8, why: String },
    #[error("a volume that is above no other file needs a size")]
    SizeNeeded,
    #[error("{condition}")]
    WrongType { condition: String },
    #[error("the catalogue has moved on since the plan was made (generation {planned}, now {now})")]
    Stale { planned: u64, now: u64 },
    #[error("the pool stays open: {holders} handles or clones of the engine are alive")]
    StillOpen { holders: usize },
    #[error("the layer in {file} has no seal, or another one by now")]
    NotSealed { file: String },
    #[error("snapshot {} is held by {}", .snapshot.simple(), .holds.join(", "))]
    Held { snapshot: Uuid, holds: Vec<String> },
    #[error("another volume reads through snapshot {}: a volume was made on it", .snapshot.simple())]
    Cloned { snapshot: Uuid },
    #[error("snapshot {} stays because snapshot {} refuses", .snapshot.simple(), .because_of.simple())]
    Spared { snapshot: Uuid, because_of: Uuid },
    #[error("group {} is not available: {reasons}", .group.simple())]
    NotAvailable { group: Uuid, reasons: String },
    #[error("{file} is still being read: close the handles to the deleted snapshot first")]
    BeingRead { file: String },
    #[error("{file}, which reads through it, is still being filled")]
    BeingFilled { file: String },
    #[error("volume {} of snapshot {} is gone", .volume.simple(), .snapshot.simple())]
    VolumeGone { snapshot: Uuid, volume: Uuid },
    #[error("there is a catalogue that can be opened, {file}: move it away if it shall be made anew")]
    CatalogueThere { file: String },
    #[error("no file here says that it is a layer of this pool: there is nothing to make a catalogue from")]
    NothingToRebuild,
    #[error("files of several pools are here: say which one is meant of {}", list(.pools))]
    SeveralPools { pools: Vec<Uuid> },
    #[error("the files contradict each other, and a catalogue made from them would be wrong: {why}")]
    NotRebuilt { why: String },
    #[error("machine {} does not run in another process: its group is taken here, or it must be said that it does", .uuid.simple())]
    RunsHere { uuid: Uuid },
    #[error("group {} of machine {} is being prepared: commit or abort it first", .group.simple(), .machine.simple())]
    BeingPrepared { machine: Uuid, group: Uuid },
    #[error("group {} is there already: the same request has taken it", .uuid.simple())]
    GroupThere { uuid: Uuid },
    #[error("{file}, which was made for group {}, has been written to: it holds what the guest wrote since", .group.simple())]
    OverlayWritten { file: String, group: Uuid },
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
