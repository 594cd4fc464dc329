//! Reading: everything at one moment, by id, by uuid, or through the index.
//!
//! Iterators are lazy: they cost what is taken from them. All are in the order of creation, and go backwards, too.

use super::encoding::Malformed;
use super::error::{Error, Place, Result};
use super::id::{GroupId, LayerId, MachineId, SnapshotId, TreeId, VolumeId};
use super::kind::{Entity, Id, Kind, Record};
use super::number::IdSource;
use super::record::{
    GroupRecord, LayerRecord, MachineRecord, PreparedRecord, SnapshotRecord, TreeRecord, VolumeRecord,
};
use super::tables::{self, EntityValue, IdKey, RefKey, meta};
use crate::storage::BlobName;
use crate::units::ByteCount;
use redb::{Key, Range, ReadOnlyTable, ReadTransaction, ReadableTableMetadata, TableDefinition, TableError};
use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;
use std::sync::OnceLock;
use uuid::Uuid;

/// The most layers of one chain that are followed; far more than any cap on chains.
pub const CHAIN_LAYERS_MAX: usize = 16_384;

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
///
/// A table is opened when it is first asked for: most of those who read need few.
pub struct Reader {
    transaction: ReadTransaction,
    meta: Meta,
    records: [Lazy<&'static IdKey, &'static [u8]>; Kind::ALL.len()],
    refs: Lazy<&'static RefKey, &'static [u8]>,
    uuids: Lazy<&'static [u8; 16], &'static EntityValue>,
    index: Lazy<&'static [u8], ()>,
    prepared: Lazy<&'static IdKey, &'static [u8]>,
    generation: u64,
    ids: IdSource,
}

type Meta = ReadOnlyTable<&'static str, &'static [u8]>;
type Lazy<K, V> = OnceLock<ReadOnlyTable<K, V>>;

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl Reader {
    /// The moment of a transaction.
    pub(super) fn open(transaction: ReadTransaction, ids: IdSource) -> Result<Self> {
        let meta = transaction.open_table(tables::META)?;
        let generation = tables::meta_number(&meta, meta::GENERATION)?;
        let (records, refs, uuids, index, prepared) = Default::default();
        Ok(Self { transaction, meta, records, refs, uuids, index, prepared, generation, ids })
    }

    fn table<'r, K: Key + 'static, V: redb::Value + 'static>(
        &self,
        slot: &'r Lazy<K, V>,
        definition: TableDefinition<'static, K, V>,
    ) -> Result<&'r ReadOnlyTable<K, V>> {
        if let Some(table) = slot.get() {
            return Ok(table);
        }
        let table = self.transaction.open_table(definition)?;
        Ok(slot.get_or_init(|| table))
    }

    pub(super) fn meta_table(&self) -> &Meta {
        &self.meta
    }

    fn record_table(&self, kind: Kind) -> Result<&ReadOnlyTable<&'static IdKey, &'static [u8]>> {
        self.table(&self.records[kind.slot()], tables::records(kind))
    }

    pub(super) fn ref_table(&self) -> Result<&ReadOnlyTable<&'static RefKey, &'static [u8]>> {
        self.table(&self.refs, tables::REFS)
    }

    pub(super) fn uuid_table(&self) -> Result<&ReadOnlyTable<&'static [u8; 16], &'static EntityValue>> {
        self.table(&self.uuids, tables::UUIDS)
    }

    pub(super) fn index_table(&self) -> Result<&ReadOnlyTable<&'static [u8], ()>> {
        self.table(&self.index, tables::INDEX)
    }

    /// Absent until the first group was prepared.
    fn prepared_table(&self) -> Result<Option<&ReadOnlyTable<&'static IdKey, &'static [u8]>>> {
        if let Some(table) = self.prepared.get() {
            return Ok(Some(table));
        }
        match self.transaction.open_table(tables::PREPARED) {
            Ok(table) => Ok(Some(self.prepared.get_or_init(|| table))),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
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
            refs: self.ref_table()?.len()?,
        })
    }

    /// What all snapshots take up together, as their records say.
    pub fn snapshot_bytes(&self) -> Result<ByteCount> {
        Ok(ByteCount::new(tables::meta_number(&self.meta, meta::SNAPSHOT_BYTES)?))
    }

    /// How many records of one kind there are.
    pub(super) fn count<I: Id>(&self) -> Result<u64> {
        Ok(self.record_table(I::KIND)?.len()?)
    }

    /// The record of any kind with an id.
    pub fn record<R: Record>(&self, id: R::Id) -> Result<Option<R>> {
        let value = self.record_table(R::Id::KIND)?.get(&tables::id_key(id))?;
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

    /// The group of a machine that is prepared.
    pub fn prepared_of(&self, machine: MachineId) -> Result<Option<PreparedRecord>> {
        let Some(table) = self.prepared_table()? else { return Ok(None) };
        let value = table.get(&tables::id_key(machine))?;
        value.map(|value| tables::decode_prepared(machine, value.value())).transpose()
    }

    /// All groups that are prepared, by machine.
    pub fn prepared(&self) -> Result<Vec<PreparedRecord>> {
        let Some(table) = self.prepared_table()? else { return Ok(Vec::new()) };
        let mut prepared = Vec::new();
        for entry in table.range::<&IdKey>(..)? {
            let (key, value) = entry?;
            prepared.push(tables::decode_prepared(tables::key_id(key.value()), value.value())?);
        }
        Ok(prepared)
    }

    /// The files of the overlays of all groups that are prepared.
    pub fn prepared_blobs(&self) -> Result<HashSet<BlobName>> {
        let members = self.prepared()?.into_iter().flat_map(|prepared| prepared.members);
        Ok(members.map(|member| member.blob).collect())
    }

    /// Whose a uuid is.
    pub fn resolve(&self, uuid: Uuid) -> Result<Option<Entity>> {
        let value = self.uuid_table()?.get(uuid.as_bytes())?;
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
        let range = self.record_table(R::Id::KIND)?.range::<&IdKey>(&tables::id_key(from)..)?;
        Ok(Records { range, record: PhantomData })
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

    /// A layer and all that it reads through, from the top down.
    ///
    /// # Errors
    ///
    /// [`Error::Dangling`] when a layer is missing; [`Error::ChainLoops`]; [`Error::ChainTooLong`].
    pub fn chain(&self, top: LayerId) -> Result<Vec<LayerRecord>> {
        let mut met = HashSet::new();
        let mut chain: Vec<LayerRecord> = Vec::new();
        let mut from = Place::Record(top.entity());
        let mut next = Some(top);
        while let Some(id) = next {
            if !met.insert(id) {
                return Err(Error::ChainLoops { layer: id });
            }
            if chain.len() == CHAIN_LAYERS_MAX {
                return Err(Error::ChainTooLong { layer: top, limit: CHAIN_LAYERS_MAX });
            }
            let layer: LayerRecord = self.named(from, id)?;
            from = Place::Record(id.entity());
            next = layer.parent;
            chain.push(layer);
        }
        Ok(chain)
    }
}

/// A key of the index that is too short for its tail.
pub(super) fn short_key() -> Error {
    Error::Malformed { place: Place::Index, source: Malformed::Empty }
}

/// Records of one kind in the order of their ids.
pub struct Records<R> {
    range: Range<'static, &'static IdKey, &'static [u8]>,
    record: PhantomData<R>,
}

impl<R> fmt::Debug for Records<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").finish_non_exhaustive()
    }
}

/// What a range of a table of records yields.
type Entry =
    redb::Result<(redb::AccessGuard<'static, &'static IdKey>, redb::AccessGuard<'static, &'static [u8]>)>;

/// Decodes one entry of a table of records.
fn record_at<R: Record>(entry: Entry) -> Result<R> {
    let (key, value) = entry?;
    tables::decode_record(tables::key_id(key.value()), value.value())
}

impl<R: Record> Iterator for Records<R> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Result<R>> {
        self.range.next().map(record_at)
    }
}

impl<R: Record> DoubleEndedIterator for Records<R> {
    fn next_back(&mut self) -> Option<Result<R>> {
        self.range.next_back().map(record_at)
    }
}

#[cfg(test)]
mod tests;
