//! Which indexes propose candidates for a value of a field.
//!
//! What an index proposes may be too much, never too little: every condition is tested afterwards. Where a record keeps a copy
//! of a uuid whose owner may be gone, and nothing resolves it any more, no index is claimed.

use super::super::error::Result;
use super::super::id::{GroupId, LayerId, MachineId, SnapshotId, TreeId, VolumeId};
use super::super::index::{self, Index, Value as Key};
use super::super::kind::{Entity, Id};
use super::super::reader::{Reader, short_key};
use super::super::record::{GroupRecord, MachineRecord, RefRecord, SnapshotRecord, TreeRecord, VolumeRecord};
use super::Value;
use super::fields::{
    Field, FieldType, GroupField, Ids, MachineField, RefField, SnapshotField, TreeField, VolumeField,
};
use uuid::Uuid;

/// Ties a field to its record.
macro_rules! field {
    ($field:ident, $record:ident) => {
        impl Field for $field {
            type Record = $record;

            fn kind(self) -> FieldType {
                self.value_type()
            }

            fn values(self, reader: &Reader, record: &$record) -> Result<Vec<Value>> {
                self.values_in(reader, record)
            }

            fn drive(self, reader: &Reader, value: &Value) -> Result<Option<Ids>> {
                self.candidates(reader, value)
            }
        }
    };
}

field!(MachineField, MachineRecord);
field!(VolumeField, VolumeRecord);
field!(SnapshotField, SnapshotRecord);
field!(TreeField, TreeRecord);
field!(GroupField, GroupRecord);

impl MachineField {
    fn candidates(self, reader: &Reader, value: &Value) -> Result<Option<Ids>> {
        match self {
            Self::Uuid => owned::<MachineId>(reader, value),
            Self::Name => by_text(reader, Index::MachineByName, value),
            _ => Ok(None),
        }
    }
}

impl VolumeField {
    fn candidates(self, reader: &Reader, value: &Value) -> Result<Option<Ids>> {
        match self {
            Self::Uuid => owned::<VolumeId>(reader, value),
            Self::Name => by_text(reader, Index::VolumeByName, value),
            Self::MachineUuid => Self::Machine(MachineField::Uuid).candidates(reader, value),
            Self::File => {
                let layers = by_text(reader, Index::LayerByBlob, value)?;
                through::<LayerId>(reader, Index::VolumeByHead, layers)
            }
            Self::Machine(field) => {
                through::<MachineId>(reader, Index::VolumeByMachine, field.candidates(reader, value)?)
            }
            _ => Ok(None),
        }
    }
}

impl SnapshotField {
    fn candidates(self, reader: &Reader, value: &Value) -> Result<Option<Ids>> {
        match self {
            Self::Uuid => owned::<SnapshotId>(reader, value),
            Self::Name => by_text(reader, Index::SnapshotByName, value),
            Self::VolumeUuid => of_living::<VolumeId>(reader, Index::SnapshotByVolume, value),
            Self::TreeUuid => Self::Tree(TreeField::Uuid).candidates(reader, value),
            Self::ParentUuid => {
                through::<SnapshotId>(reader, Index::SnapshotByParent, owned::<SnapshotId>(reader, value)?)
            }
            Self::File => {
                let layers = by_text(reader, Index::LayerByBlob, value)?;
                through::<LayerId>(reader, Index::SnapshotByLayer, layers)
            }
            Self::GroupUuid => Self::Group(GroupField::Uuid).candidates(reader, value),
            Self::TagUuid => by_uuid(reader, Index::SnapshotByTagUuid, value),
            Self::UserTag => by_text(reader, Index::SnapshotByUserTag, value),
            Self::SystemTag => by_text(reader, Index::SnapshotBySystemTag, value),
            Self::Tag => both(
                by_text(reader, Index::SnapshotByUserTag, value)?,
                by_text(reader, Index::SnapshotBySystemTag, value)?,
            ),
            Self::Group(field) => {
                through::<GroupId>(reader, Index::SnapshotByGroup, field.candidates(reader, value)?)
            }
            Self::Volume(field) => {
                through::<VolumeId>(reader, Index::SnapshotByVolume, field.candidates(reader, value)?)
            }
            Self::Tree(field) => {
                through::<TreeId>(reader, Index::SnapshotByTree, field.candidates(reader, value)?)
            }
            _ => Ok(None),
        }
    }
}

impl TreeField {
    fn candidates(self, reader: &Reader, value: &Value) -> Result<Option<Ids>> {
        match self {
            Self::Uuid => owned::<TreeId>(reader, value),
            Self::VolumeUuid => Self::Volume(VolumeField::Uuid).candidates(reader, value),
            Self::Volume(field) => {
                through::<VolumeId>(reader, Index::TreeByVolume, field.candidates(reader, value)?)
            }
            _ => Ok(None),
        }
    }
}

impl GroupField {
    fn candidates(self, reader: &Reader, value: &Value) -> Result<Option<Ids>> {
        match self {
            Self::Uuid => owned::<GroupId>(reader, value),
            Self::Name => by_text(reader, Index::GroupByName, value),
            Self::MachineUuid => of_living::<MachineId>(reader, Index::GroupByMachine, value),
            Self::ParentUuid => {
                through::<GroupId>(reader, Index::GroupByParent, owned::<GroupId>(reader, value)?)
            }
            Self::TagUuid => by_uuid(reader, Index::GroupByTagUuid, value),
            Self::UserTag => by_text(reader, Index::GroupByUserTag, value),
            Self::SystemTag => by_text(reader, Index::GroupBySystemTag, value),
            Self::Tag => both(
                by_text(reader, Index::GroupByUserTag, value)?,
                by_text(reader, Index::GroupBySystemTag, value)?,
            ),
            Self::Ref(RefField::VolumeUuid) => match uuid_in(value) {
                Some(uuid) => Ok(Some(groups(reader.refs_by_volume(uuid)?))),
                None => Ok(None),
            },
            Self::Ref(RefField::SnapshotUuid) => match uuid_in(value) {
                Some(uuid) => {
                    let mut refs = reader.refs_of_gone_snapshot(uuid)?;
                    if let Some(Entity::Snapshot(id)) = reader.resolve(uuid)? {
                        refs.extend(reader.ref_of_snapshot(id)?);
                    }
                    Ok(Some(groups(refs)))
                }
                None => Ok(None),
            },
            Self::Machine(field) => {
                through::<MachineId>(reader, Index::GroupByMachine, field.candidates(reader, value)?)
            }
            _ => Ok(None),
        }
    }
}

fn uuid_in(value: &Value) -> Option<Uuid> {
    match value {
        Value::Text(text) => Uuid::try_parse(text).ok(),
        _ => None,
    }
}

fn groups(refs: Vec<RefRecord>) -> Ids {
    refs.into_iter().map(|member| member.group.0).collect()
}

fn both(one: Option<Ids>, other: Option<Ids>) -> Result<Option<Ids>> {
    Ok(one.zip(other).map(|(one, other)| one.into_iter().chain(other).collect()))
}

/// The one of a kind that a uuid is of.
fn owned<I: Id>(reader: &Reader, value: &Value) -> Result<Option<Ids>> {
    let Some(uuid) = uuid_in(value) else { return Ok(None) };
    let owner = reader.resolve(uuid)?.filter(|owner| owner.kind() == I::KIND);
    Ok(Some(owner.into_iter().map(Entity::number).collect()))
}

/// Those that hang on what a uuid is of, as long as it lives; no index tells when it does not.
fn of_living<I: Id>(reader: &Reader, index: Index, value: &Value) -> Result<Option<Ids>> {
    match owned::<I>(reader, value)? {
        Some(owners) if !owners.is_empty() => through::<I>(reader, index, Some(owners)),
        _ => Ok(None),
    }
}

/// Those that hang on others.
fn through<I: Id>(reader: &Reader, index: Index, others: Option<Ids>) -> Result<Option<Ids>> {
    let Some(others) = others else { return Ok(None) };
    let mut ids = Ids::new();
    for other in others {
        gather(reader, index, I::of(other).into(), &mut ids)?;
    }
    Ok(Some(ids))
}

fn by_text(reader: &Reader, index: Index, value: &Value) -> Result<Option<Ids>> {
    let Value::Text(text) = value else { return Ok(None) };
    let mut ids = Ids::new();
    gather(reader, index, Key::Text(text), &mut ids)?;
    Ok(Some(ids))
}

fn by_uuid(reader: &Reader, index: Index, value: &Value) -> Result<Option<Ids>> {
    let Some(uuid) = uuid_in(value) else { return Ok(None) };
    let mut ids = Ids::new();
    gather(reader, index, Key::Uuid(uuid), &mut ids)?;
    Ok(Some(ids))
}

/// The ids that stand in an index under a value, whatever they are of.
fn gather(reader: &Reader, index: Index, key: Key<'_>, ids: &mut Ids) -> Result<()> {
    for entry in reader.entries(index, key)? {
        let (key, _) = entry?;
        ids.insert(index::number_of(key.value()).ok_or_else(short_key)?);
    }
    Ok(())
}
