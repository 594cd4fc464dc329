//! What type each field is of, and its values in a record. What a record names and is not there has no values.

use super::super::error::Result;
use super::super::kind::Record;
use super::super::reader::Reader;
use super::super::record::{
    Attachment, Consistency, GroupRecord, LayerFormat, LayerRecord, MachineRecord, RefRecord, Running,
    Sharing, SnapshotRecord, Tags, Timestamp, TreeRecord, VolumeKind, VolumeRecord,
};
use super::fields::{FieldType, GroupField, MachineField, RefField, SnapshotField, TreeField, VolumeField};
use super::{Field, Value};
use crate::units::ByteCount;
use uuid::Uuid;

impl MachineField {
    pub(super) const fn value_type(self) -> FieldType {
        match self {
            Self::Uuid | Self::GroupCurrentUuid => FieldType::Uuid,
            Self::Name | Self::Description => FieldType::Text,
            Self::RunningElsewhere => FieldType::Flag,
            Self::Created | Self::Changed => FieldType::Number,
        }
    }

    pub(super) fn values_in(self, reader: &Reader, record: &MachineRecord) -> Result<Vec<Value>> {
        Ok(match self {
            Self::Uuid => one(record.uuid),
            Self::Name => one(record.name.as_str()),
            Self::Description => optional(record.description.as_deref()),
            Self::RunningElsewhere => one(record.running == Running::Elsewhere),
            Self::GroupCurrentUuid => optional(uuid_of::<GroupRecord>(reader, record.group_current)?),
            Self::Created => one(record.created),
            Self::Changed => one(record.changed),
        })
    }
}

impl VolumeField {
    pub(super) const fn value_type(self) -> FieldType {
        match self {
            Self::Uuid | Self::MachineUuid | Self::TreeUuid => FieldType::Uuid,
            Self::Name | Self::Description | Self::Type | Self::File | Self::Format => FieldType::Text,
            Self::Shareable => FieldType::Flag,
            Self::DeviceId | Self::AttachedSince | Self::Size | Self::Created | Self::Changed => {
                FieldType::Number
            }
            Self::Machine(field) => field.value_type(),
        }
    }

    pub(super) fn values_in(self, reader: &Reader, record: &VolumeRecord) -> Result<Vec<Value>> {
        let attached = |value: fn(&Attachment) -> Value| record.attachments.iter().map(value).collect();
        Ok(match self {
            Self::Uuid => one(record.uuid),
            Self::Name => one(record.name.as_str()),
            Self::Description => optional(record.description.as_deref()),
            Self::Type => one(record.kind),
            Self::Shareable => one(record.sharing == Sharing::Shareable),
            Self::MachineUuid => return Self::Machine(MachineField::Uuid).values_in(reader, record),
            Self::DeviceId => attached(|attachment| attachment.device_id.into()),
            Self::AttachedSince => attached(|attachment| attachment.since.into()),
            Self::Size => one(record.size),
            Self::File => {
                reader.layer(record.head)?.map(|head| head.blob.as_str().into()).into_iter().collect()
            }
            Self::Format => optional(reader.layer(record.head)?.map(|head| head.format)),
            Self::TreeUuid => optional(uuid_of::<TreeRecord>(reader, record.tree_current)?),
            Self::Created => one(record.created),
            Self::Changed => one(record.changed),
            Self::Machine(field) => {
                let mut values = Vec::new();
                for attachment in &record.attachments {
                    values.extend(nested(reader, Some(attachment.machine), field)?);
                }
                values
            }
        })
    }
}

impl SnapshotField {
    pub(super) const fn value_type(self) -> FieldType {
        match self {
            Self::Uuid
            | Self::VolumeUuid
            | Self::TreeUuid
            | Self::ParentUuid
            | Self::GroupUuid
            | Self::TagUuid => FieldType::Uuid,
            Self::Name
            | Self::Description
            | Self::VolumeType
            | Self::File
            | Self::Format
            | Self::UserTag
            | Self::SystemTag
            | Self::Tag => FieldType::Text,
            Self::Latest => FieldType::Flag,
            Self::Distance | Self::Size | Self::SizeVirtual | Self::Created | Self::Changed => {
                FieldType::Number
            }
            Self::Group(field) => field.value_type(),
            Self::Volume(field) => field.value_type(),
            Self::Tree(field) => field.value_type(),
        }
    }

    pub(super) fn values_in(self, reader: &Reader, record: &SnapshotRecord) -> Result<Vec<Value>> {
        let layer = || -> Result<Option<LayerRecord>> { reader.layer(record.layer) };
        Ok(match self {
            Self::Uuid => one(record.uuid),
            Self::Name => one(record.name.as_str()),
            Self::Description => optional(record.description.as_deref()),
            Self::VolumeUuid => one(record.volume_uuid),
            Self::VolumeType => one(record.volume_kind),
            Self::TreeUuid => optional(uuid_of::<TreeRecord>(reader, Some(record.tree))?),
            Self::ParentUuid => optional(uuid_of::<SnapshotRecord>(reader, record.parent)?),
            Self::File => layer()?.map(|layer| layer.blob.as_str().into()).into_iter().collect(),
            Self::Format => optional(layer()?.map(|layer| layer.format)),
            Self::Distance => one(record.distance),
            Self::Size => one(record.size),
            Self::SizeVirtual => one(record.size_virtual),
            Self::Latest => optional(reader.tree(record.tree)?.map(|tree| tree.latest == Some(record.id))),
            Self::GroupUuid => optional(uuid_of::<GroupRecord>(reader, record.group)?),
            Self::TagUuid => tag_uuids(&record.tags),
            Self::UserTag => texts(&record.tags.user_tags),
            Self::SystemTag => texts(&record.tags.system_tags),
            Self::Tag => tags(&record.tags),
            Self::Created => one(record.created),
            Self::Changed => one(record.changed),
            Self::Group(field) => return nested(reader, record.group, field),
            Self::Volume(field) => return nested(reader, Some(record.volume), field),
            Self::Tree(field) => return nested(reader, Some(record.tree), field),
        })
    }
}

impl TreeField {
    pub(super) const fn value_type(self) -> FieldType {
        match self {
            Self::Uuid | Self::VolumeUuid | Self::LatestUuid => FieldType::Uuid,
            Self::Current => FieldType::Flag,
            Self::Created | Self::Changed => FieldType::Number,
            Self::Volume(field) => field.value_type(),
        }
    }

    pub(super) fn values_in(self, reader: &Reader, record: &TreeRecord) -> Result<Vec<Value>> {
        Ok(match self {
            Self::Uuid => one(record.uuid),
            Self::VolumeUuid => optional(uuid_of::<VolumeRecord>(reader, Some(record.volume))?),
            Self::Current => {
                let volume = reader.volume(record.volume)?;
                optional(volume.map(|volume| volume.tree_current == Some(record.id)))
            }
            Self::LatestUuid => optional(uuid_of::<SnapshotRecord>(reader, record.latest)?),
            Self::Created => one(record.created),
            Self::Changed => one(record.changed),
            Self::Volume(field) => return nested(reader, Some(record.volume), field),
        })
    }
}

impl GroupField {
    pub(super) const fn value_type(self) -> FieldType {
        match self {
            Self::Uuid | Self::MachineUuid | Self::ParentUuid | Self::TagUuid => FieldType::Uuid,
            Self::Name
            | Self::Description
            | Self::Consistency
            | Self::UserTag
            | Self::SystemTag
            | Self::Tag => FieldType::Text,
            Self::SnapshotCount | Self::Created | Self::Changed => FieldType::Number,
            Self::Ref(field) => field.value_type(),
            Self::Machine(field) => field.value_type(),
        }
    }

    pub(super) fn values_in(self, reader: &Reader, record: &GroupRecord) -> Result<Vec<Value>> {
        Ok(match self {
            Self::Uuid => one(record.uuid),
            Self::Name => one(record.name.as_str()),
            Self::Description => optional(record.description.as_deref()),
            Self::MachineUuid => one(record.machine_uuid),
            Self::SnapshotCount => one(record.snapshot_count),
            Self::ParentUuid => optional(uuid_of::<GroupRecord>(reader, record.parent)?),
            Self::Consistency => one(match record.consistency {
                Consistency::Crash => "Crash",
                Consistency::Application => "Application",
                Consistency::FileSystem => "FileSystem",
            }),
            Self::TagUuid => tag_uuids(&record.tags),
            Self::UserTag => texts(&record.tags.user_tags),
            Self::SystemTag => texts(&record.tags.system_tags),
            Self::Tag => tags(&record.tags),
            Self::Created => one(record.created),
            Self::Changed => one(record.changed),
            Self::Ref(field) => {
                reader.refs_of(record.id)?.iter().map(|member| field.value_in(member)).collect()
            }
            Self::Machine(field) => return nested(reader, Some(record.machine), field),
        })
    }
}

impl RefField {
    pub(super) const fn value_type(self) -> FieldType {
        match self {
            Self::SnapshotUuid | Self::VolumeUuid => FieldType::Uuid,
            Self::SnapshotName | Self::File | Self::VolumeName | Self::VolumeType => FieldType::Text,
            Self::SnapshotDeleted => FieldType::Flag,
            Self::DeviceId | Self::AttachedSince | Self::Created | Self::Changed => FieldType::Number,
        }
    }

    fn value_in(self, record: &RefRecord) -> Value {
        match self {
            Self::SnapshotUuid => record.snapshot_uuid.into(),
            Self::SnapshotName => record.snapshot_name.as_str().into(),
            Self::SnapshotDeleted => record.snapshot_deleted.into(),
            Self::File => record.blob.as_str().into(),
            Self::DeviceId => record.device_id.into(),
            Self::VolumeUuid => record.volume_uuid.into(),
            Self::VolumeName => record.volume_name.as_str().into(),
            Self::VolumeType => record.volume_kind.into(),
            Self::AttachedSince => record.attached_since.into(),
            Self::Created => record.created.into(),
            Self::Changed => record.changed.into(),
        }
    }
}

impl From<Timestamp> for Value {
    fn from(moment: Timestamp) -> Self {
        Self::Number(moment.0)
    }
}

/// A size past what a number holds is as large as a number can be.
impl From<ByteCount> for Value {
    fn from(size: ByteCount) -> Self {
        Self::Number(i64::try_from(size.as_u64()).unwrap_or(i64::MAX))
    }
}

impl From<VolumeKind> for Value {
    fn from(kind: VolumeKind) -> Self {
        Self::from(match kind {
            VolumeKind::Root => "Root",
            VolumeKind::Data => "Data",
            VolumeKind::Memory => "Memory",
        })
    }
}

impl From<LayerFormat> for Value {
    fn from(format: LayerFormat) -> Self {
        Self::from(match format {
            LayerFormat::Qcow2 => "qcow2",
            LayerFormat::Raw => "raw",
        })
    }
}

fn one(value: impl Into<Value>) -> Vec<Value> {
    vec![value.into()]
}

fn optional(value: Option<impl Into<Value>>) -> Vec<Value> {
    value.into_iter().map(Into::into).collect()
}

fn texts(texts: &[String]) -> Vec<Value> {
    texts.iter().map(|text| text.as_str().into()).collect()
}

fn tags(tags: &Tags) -> Vec<Value> {
    tags.user_tags.iter().chain(&tags.system_tags).map(|tag| tag.as_str().into()).collect()
}

fn tag_uuids(tags: &Tags) -> Vec<Value> {
    tags.tag_uuids.iter().map(|uuid| (*uuid).into()).collect()
}

/// The uuid of what a record names.
fn uuid_of<R: Record>(reader: &Reader, id: Option<R::Id>) -> Result<Option<Uuid>> {
    let Some(id) = id else { return Ok(None) };
    Ok(reader.record::<R>(id)?.map(|record| record.uuid()))
}

/// The values of a field of what a record names.
fn nested<F: Field>(reader: &Reader, id: Option<<F::Record as Record>::Id>, field: F) -> Result<Vec<Value>> {
    let Some(id) = id else { return Ok(Vec::new()) };
    match reader.record::<F::Record>(id)? {
        Some(record) => field.values(reader, &record),
        None => Ok(Vec::new()),
    }
}
