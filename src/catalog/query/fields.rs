//! The fields that can be asked for, by kind of record. Some reach into the records beside it, one way round only, so
//! that no question goes in circles.

use super::super::error::{Error, Result};
use super::super::kind::Record;
use super::super::reader::Reader;
use super::Value;
use std::collections::BTreeSet;
use std::fmt::Debug;
use uuid::Uuid;

/// Ids of one kind.
pub type Ids = BTreeSet<u64>;

/// What the values of a field are.
#[doc = include_str!("../../engine/examples/querying.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// A text.
    Text,
    /// 32 hex digits.
    Uuid,
    /// A number; a date is one, too.
    Number,
    /// Yes or no.
    Flag,
}

impl FieldType {
    /// A value as fields of this type have it.
    pub(super) fn take(self, field: &dyn Debug, value: &Value) -> Result<Value> {
        match (self, value) {
            (Self::Text, Value::Text(_))
            | (Self::Number, Value::Number(_))
            | (Self::Flag, Value::Flag(_)) => Some(value.clone()),
            // The length keeps out the forms with braces and with a prefix.
            (Self::Uuid, Value::Text(text)) if [32, 36].contains(&text.len()) => {
                Uuid::try_parse(text).ok().map(Value::from)
            }
            _ => None,
        }
        .ok_or_else(|| Error::BadValue {
            field: format!("{field:?}"),
            expected: self,
            found: value.clone(),
        })
    }
}

/// A field of a kind of record.
#[doc = include_str!("../../engine/examples/querying.md")]
pub trait Field: Copy + Debug {
    /// The record.
    type Record: Record;

    /// What its values are.
    fn kind(self) -> FieldType;

    /// Its values in a record.
    #[doc(hidden)]
    fn values(self, reader: &Reader, record: &Self::Record) -> Result<Vec<Value>>;

    /// The records that may have a value, all those that do among them; none when no index tells.
    #[doc(hidden)]
    fn drive(self, reader: &Reader, value: &Value) -> Result<Option<Ids>>;
}

/// A field of a machine.
#[doc = include_str!("../../engine/examples/querying.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MachineField {
    /// Its uuid.
    Uuid,
    /// Its name.
    Name,
    /// Its description.
    Description,
    /// Whether another process has its disks open.
    RunningElsewhere,
    /// The uuid of the group that its disks descend from.
    GroupCurrentUuid,
    /// When it was created.
    Created,
    /// When its record last changed.
    Changed,
}

/// A field of a volume.
#[doc = include_str!("../../engine/examples/querying.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VolumeField {
    /// Its uuid.
    Uuid,
    /// Its name.
    Name,
    /// Its description.
    Description,
    /// `Root`, `Data` or `Memory`.
    Type,
    /// Whether several machines may have it at once.
    Shareable,
    /// The uuids of the machines that it is attached to.
    MachineUuid,
    /// Its device ids there.
    DeviceId,
    /// When it was attached there.
    AttachedSince,
    /// Its virtual size in bytes.
    Size,
    /// The name of the file that it writes to.
    File,
    /// `qcow2` or `raw`: the format of that file.
    Format,
    /// The uuid of its current tree.
    TreeUuid,
    /// When it was created.
    Created,
    /// When its record last changed.
    Changed,
    /// A field of the machines that it is attached to.
    Machine(MachineField),
}

/// A field of a snapshot.
#[doc = include_str!("../../engine/examples/querying.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SnapshotField {
    /// Its uuid.
    Uuid,
    /// Its name.
    Name,
    /// Its description.
    Description,
    /// The uuid of its volume.
    VolumeUuid,
    /// `Root`, `Data` or `Memory`.
    VolumeType,
    /// The uuid of its tree.
    TreeUuid,
    /// The uuid of its parent.
    ParentUuid,
    /// The name of the file that holds it now.
    File,
    /// `qcow2` or `raw`: the format of that file.
    Format,
    /// Its distance from the root of its tree.
    Distance,
    /// The bytes that its file took up when it was frozen.
    Size,
    /// The virtual size of the disk at that moment.
    SizeVirtual,
    /// Whether it is the one in its tree that the head hangs from, or last hung from.
    Latest,
    /// The uuid of its group.
    GroupUuid,
    /// Its tag uuids.
    TagUuid,
    /// Its user tags.
    UserTag,
    /// Its system tags.
    SystemTag,
    /// Its user tags and its system tags.
    Tag,
    /// When it was created.
    Created,
    /// When its record last changed.
    Changed,
    /// A field of its group.
    Group(GroupField),
    /// A field of its volume.
    Volume(VolumeField),
    /// A field of its tree.
    Tree(TreeField),
}

/// A field of a tree.
#[doc = include_str!("../../engine/examples/querying.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TreeField {
    /// Its uuid.
    Uuid,
    /// The uuid of its volume.
    VolumeUuid,
    /// Whether the head of its volume hangs from it.
    Current,
    /// The uuid of the snapshot that the head hangs from, or last hung from.
    LatestUuid,
    /// When it was created.
    Created,
    /// When its record last changed.
    Changed,
    /// A field of its volume.
    Volume(VolumeField),
}

/// A field of a group.
#[doc = include_str!("../../engine/examples/querying.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GroupField {
    /// Its uuid.
    Uuid,
    /// Its name.
    Name,
    /// Its description.
    Description,
    /// The uuid of its machine.
    MachineUuid,
    /// How many members it had when it was taken.
    SnapshotCount,
    /// The uuid of its parent.
    ParentUuid,
    /// `Crash` or `Application`.
    Consistency,
    /// Its tag uuids.
    TagUuid,
    /// Its user tags.
    UserTag,
    /// Its system tags.
    SystemTag,
    /// Its user tags and its system tags.
    Tag,
    /// When it was created.
    Created,
    /// When its record last changed.
    Changed,
    /// A field of its members.
    Ref(RefField),
    /// A field of its machine.
    Machine(MachineField),
}

/// A field of a group's own record of a member.
#[doc = include_str!("../../engine/examples/querying.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefField {
    /// The uuid of the snapshot.
    SnapshotUuid,
    /// The name of the snapshot.
    SnapshotName,
    /// Whether the snapshot is gone.
    SnapshotDeleted,
    /// The name of the file that held the snapshot when it was taken.
    File,
    /// The device id of the volume at that moment.
    DeviceId,
    /// The uuid of the volume.
    VolumeUuid,
    /// The name of the volume at that moment.
    VolumeName,
    /// `Root`, `Data` or `Memory`.
    VolumeType,
    /// When the volume had been attached.
    AttachedSince,
    /// When it was created.
    Created,
    /// When its record last changed.
    Changed,
}
