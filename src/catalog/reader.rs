//! Reading: everything at one moment, by id or by uuid. What hangs on what is found in [`lookup`](super::lookup).

use super::encoding::Malformed;
use super::error::{Error, Place, Result};
use super::id::{GroupId, LayerId, MachineId, SnapshotId, TreeId, VolumeId};
use super::index::{self, Index, Value};
use super::kind::{Entity, Id, Kind, Record};
use super::number::IdSource;
use super::record::{GroupRecord, LayerRecord, MachineRecord, SnapshotRecord, TreeRecord, VolumeRecord};
use super::scan::{Found, Records};
use super::tables::{self, EntityValue, IdKey, RefKey, meta};
use redb::{Range, ReadOnlyTable, ReadTransaction, ReadableTableMetadata};
use std::fmt;
use uuid::Uuid;

/// How many records there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub machines: u64,
    pub volumes: u64,
    pub layers: u64,
    pub snapshots: u64,
    pub trees: u64,
    pub groups: u64,
    pub refs: u64,
}

/// The catalogue at one moment. Of use as long as the catalogue is open: afterwards it answers [`Error::Closed`].
pub struct Reader {
    pub(super) meta: ReadOnlyTable<&'static str, &'static [u8]>,
    pub(super) records: [ReadOnlyTable<&'static IdKey, &'static [u8]>; Kind::ALL.len()],
    pub(super) refs: ReadOnlyTable<&'static RefKey, &'static [u8]>,
    pub(super) uuids: ReadOnlyTable<&'static [u8; 16], &'static EntityValue>,
    pub(super) index: ReadOnlyTable<&'static [u8], ()>,
    generation: u64,
    ids: IdSource,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl Reader {
    /// Opens all tables of a transaction.
    pub(super) fn open(transaction: &ReadTransaction, ids: IdSource) -> Result<Self> {
        let records = |kind| transaction.open_table(tables::records(kind));
        let meta = transaction.open_table(tables::META)?;
        let generation = tables::meta_number(&meta, meta::GENERATION)?;
        Ok(Self {
            meta,
            records: [
                records(Kind::ALL[0])?,
                records(Kind::ALL[1])?,
                records(Kind::ALL[2])?,
                records(Kind::ALL[3])?,
                records(Kind::ALL[4])?,
                records(Kind::ALL[5])?,
            ],
            refs: transaction.open_table(tables::REFS)?,
            uuids: transaction.open_table(tables::UUIDS)?,
            index: transaction.open_table(tables::INDEX)?,
            generation,
            ids,
        })
    }

    /// The number of commits up to this moment.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// A source of ids for new records.
    pub fn next_ids(&self) -> IdSource {
        self.ids.clone()
    }

    /// How many records there are.
    pub fn counts(&self) -> Result<Counts> {
        Ok(Counts {
            machines: self.count::<MachineId>()?,
            volumes: self.count::<VolumeId>()?,
            layers: self.count::<LayerId>()?,
            snapshots: self.count::<SnapshotId>()?,
            trees: self.count::<TreeId>()?,
            groups: self.count::<GroupId>()?,
            refs: self.refs.len()?,
        })
    }

    /// How many records of one kind there are.
    pub(super) fn count<I: Id>(&self) -> Result<u64> {
        Ok(self.records[I::KIND.slot()].len()?)
    }

    /// The record of any kind with an id.
    pub fn record<R: Record>(&self, id: R::Id) -> Result<Option<R>> {
        let value = self.records[R::Id::KIND.slot()].get(&tables::id_key(id))?;
        value.map(|value| tables::decode_record(id, value.value())).transpose()
    }

    /// The record that another one names, which must therefore be there.
    pub fn named<R: Record>(&self, from: Place, id: R::Id) -> Result<R> {
        self.record(id)?.ok_or(Error::Dangling { from, to: id.entity() })
    }

    /// The machine with an id.
    pub fn machine(&self, id: MachineId) -> Result<Option<MachineRecord>> {
        self.record(id)
    }

    /// The volume with an id.
    pub fn volume(&self, id: VolumeId) -> Result<Option<VolumeRecord>> {
        self.record(id)
    }

    /// The layer with an id.
    pub fn layer(&self, id: LayerId) -> Result<Option<LayerRecord>> {
        self.record(id)
    }

    /// The snapshot with an id.
    pub fn snapshot(&self, id: SnapshotId) -> Result<Option<SnapshotRecord>> {
        self.record(id)
    }

    /// The tree with an id.
    pub fn tree(&self, id: TreeId) -> Result<Option<TreeRecord>> {
        self.record(id)
    }

    /// The group with an id.
    pub fn group(&self, id: GroupId) -> Result<Option<GroupRecord>> {
        self.record(id)
    }

    /// Whose a uuid is.
    pub fn resolve(&self, uuid: Uuid) -> Result<Option<Entity>> {
        let value = self.uuids.get(uuid.as_bytes())?;
        value.map(|value| tables::value_entity(uuid, value.value())).transpose()
    }

    /// The record of one kind with a uuid; none when the uuid is of something else.
    pub fn by_uuid<R: Record>(&self, uuid: Uuid) -> Result<Option<R>> {
        match self.resolve(uuid)? {
            Some(entity) if entity.kind() == R::Id::KIND => {
                Ok(Some(self.named(Place::Uuid(uuid), R::Id::of(entity.number()))?))
            }
            _ => Ok(None),
        }
    }

    /// The machine with a uuid.
    pub fn machine_by_uuid(&self, uuid: Uuid) -> Result<Option<MachineRecord>> {
        self.by_uuid(uuid)
    }

    /// The volume with a uuid.
    pub fn volume_by_uuid(&self, uuid: Uuid) -> Result<Option<VolumeRecord>> {
        self.by_uuid(uuid)
    }

    /// The layer with a uuid.
    pub fn layer_by_uuid(&self, uuid: Uuid) -> Result<Option<LayerRecord>> {
        self.by_uuid(uuid)
    }

    /// The snapshot with a uuid.
    pub fn snapshot_by_uuid(&self, uuid: Uuid) -> Result<Option<SnapshotRecord>> {
        self.by_uuid(uuid)
    }

    /// The tree with a uuid.
    pub fn tree_by_uuid(&self, uuid: Uuid) -> Result<Option<TreeRecord>> {
        self.by_uuid(uuid)
    }

    /// The group with a uuid.
    pub fn group_by_uuid(&self, uuid: Uuid) -> Result<Option<GroupRecord>> {
        self.by_uuid(uuid)
    }

    /// All records of one kind from an id on.
    pub fn all<R: Record>(&self, from: R::Id) -> Result<Records<R>> {
        let range = self.records[R::Id::KIND.slot()].range::<&IdKey>(&tables::id_key(from)..)?;
        Ok(Records::new(range))
    }

    /// All machines from an id on.
    pub fn machines(&self, from: MachineId) -> Result<Records<MachineRecord>> {
        self.all(from)
    }

    /// All volumes from an id on.
    pub fn volumes(&self, from: VolumeId) -> Result<Records<VolumeRecord>> {
        self.all(from)
    }

    /// All layers from an id on.
    pub fn layers(&self, from: LayerId) -> Result<Records<LayerRecord>> {
        self.all(from)
    }

    /// All snapshots from an id on.
    pub fn snapshots(&self, from: SnapshotId) -> Result<Records<SnapshotRecord>> {
        self.all(from)
    }

    /// All trees from an id on.
    pub fn trees(&self, from: TreeId) -> Result<Records<TreeRecord>> {
        self.all(from)
    }

    /// All groups from an id on.
    pub fn groups(&self, from: GroupId) -> Result<Records<GroupRecord>> {
        self.all(from)
    }

    /// What stands in an index under a value.
    pub(super) fn found<'v, R: Record>(
        &self,
        index: Index,
        value: impl Into<Value<'v>>,
    ) -> Result<Found<'_, R>> {
        Ok(Found::new(self, self.entries(index, value)?))
    }

    /// The keys in an index under a value.
    pub(super) fn entries<'v>(
        &self,
        index: Index,
        value: impl Into<Value<'v>>,
    ) -> Result<Range<'static, &'static [u8], ()>> {
        let start = index::prefix(index, value.into());
        let end = index::after(&start);
        Ok(self.index.range(start.as_slice()..end.as_slice())?)
    }
}

/// A key of the index that is too short for its tail.
pub(super) fn short_key() -> Error {
    Error::Malformed { place: Place::Index, source: Malformed::Empty }
}
