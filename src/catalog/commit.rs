//! Publishing: a list of edits becomes durable as one, or not at all.
//!
//! Order within the transaction: check the generation, then edit by edit the record, its uuid and its index keys,
//! then the counters and the new generation. An error on the way drops the transaction, which undoes it. Only the
//! database's own commit makes anything visible; when that fails in the blob, nobody can say whether the new state
//! or the old one will be found at the next opening (the commit's one write that counts may have arrived before the
//! sync failed), and the database takes no further commit.

use super::edit::Edit;
use super::encoding::encode;
use super::error::{Error, Place, Result};
use super::id::GroupId;
use super::index::Keys;
use super::kind::{Entity, Id, Kind, Record};
use super::open::{Catalog, QuickRepair};
use super::record::RefRecord;
use super::tables::{self, EntityValue, IdKey, RefKey, meta};
use redb::{Durability, ReadableTable, Table, WriteTransaction};
use std::sync::atomic::Ordering;
use uuid::Uuid;

impl Catalog {
    /// Publishes edits as one. Answers the new generation.
    ///
    /// # Errors
    ///
    /// Nothing was changed by [`Error::Stale`], when `expected` is given and the catalogue has moved on;
    /// [`Error::UuidTaken`] and [`Error::IdTaken`], when two things would be mixed up; [`Error::Absent`], when
    /// something to remove is not there; [`Error::Malformed`], [`Error::Storage`], [`Error::Halted`].
    /// [`Error::CommitUnknown`] when the blob failed in the commit itself: only opening again tells.
    pub fn commit(&self, expected: Option<u64>, edits: &[Edit]) -> Result<u64> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.set_quick_repair(self.options.quick_repair == QuickRepair::On);
        let (generation, next) = Writer::open(&transaction)?.write(expected, edits)?;
        match transaction.commit() {
            Ok(()) => {}
            Err(error @ redb::CommitError::TransactionPoisoned) => return Err(error.into()),
            Err(error) => return Err(Error::CommitUnknown { source: Box::new(error.into()) }),
        }
        self.ids.pass(next);
        self.generation.fetch_max(generation, Ordering::Release);
        Ok(generation)
    }
}

/// All tables of one write transaction.
struct Writer<'t> {
    meta: Table<'t, &'static str, &'static [u8]>,
    records: [Table<'t, &'static IdKey, &'static [u8]>; Kind::ALL.len()],
    refs: Table<'t, &'static RefKey, &'static [u8]>,
    uuids: Table<'t, &'static [u8; 16], &'static EntityValue>,
    index: Table<'t, &'static [u8], ()>,
    next: [u64; Kind::ALL.len()],
}

impl<'t> Writer<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self> {
        let records = |kind| transaction.open_table(tables::records(kind));
        let meta = transaction.open_table(tables::META)?;
        let next = tables::meta_next(&meta)?;
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
            next,
        })
    }

    /// Does all edits. Answers the new generation and the counters.
    fn write(mut self, expected: Option<u64>, edits: &[Edit]) -> Result<(u64, [u64; Kind::ALL.len()])> {
        let found = tables::meta_number(&self.meta, meta::GENERATION)?;
        if let Some(expected) = expected
            && expected != found
        {
            return Err(Error::Stale { expected, found });
        }
        let next = self.next;
        for edit in edits {
            self.apply(edit)?;
        }
        let generation = found + 1;
        self.meta.insert(meta::GENERATION, &generation.to_be_bytes()[..])?;
        if self.next != next {
            self.meta.insert(meta::NEXT, tables::next_value(self.next).as_slice())?;
        }
        Ok((generation, self.next))
    }

    fn apply(&mut self, edit: &Edit) -> Result<()> {
        match edit {
            Edit::PutMachine(record) => self.put(record),
            Edit::PutVolume(record) => self.put(record),
            Edit::PutLayer(record) => self.put(record),
            Edit::PutSnapshot(record) => self.put(record),
            Edit::PutTree(record) => self.put(record),
            Edit::PutGroup(record) => self.put(record),
            Edit::PutRef(record) => self.put_ref(record),
            Edit::RemoveMachine(id) => self.remove::<super::MachineRecord>(*id),
            Edit::RemoveVolume(id) => self.remove::<super::VolumeRecord>(*id),
            Edit::RemoveLayer(id) => self.remove::<super::LayerRecord>(*id),
            Edit::RemoveSnapshot(id) => self.remove::<super::SnapshotRecord>(*id),
            Edit::RemoveTree(id) => self.remove::<super::TreeRecord>(*id),
            Edit::RemoveGroup(id) => self.remove::<super::GroupRecord>(*id),
            Edit::RemoveRef { group, ordinal } => self.remove_ref(*group, *ordinal),
        }
    }

    fn put<R: Record>(&mut self, record: &R) -> Result<()> {
        let id = record.id();
        let old: Option<R> = self.record(id)?;
        match &old {
            Some(old) if old.uuid() != record.uuid() => {
                return Err(Error::IdTaken { entity: id.entity(), found: old.uuid(), wanted: record.uuid() });
            }
            Some(_) => {}
            None => self.name(record.uuid(), id.entity())?,
        }
        let key = tables::id_key(id);
        self.records[R::Id::KIND.slot()].insert(&key, encode(record).as_slice())?;
        self.reindex(&old.map(|old| old.keys()).unwrap_or_default(), &record.keys())?;
        let next = &mut self.next[R::Id::KIND.slot()];
        *next = (*next).max(id.number().saturating_add(1));
        Ok(())
    }

    fn remove<R: Record>(&mut self, id: R::Id) -> Result<()> {
        let Some(old) = self.record::<R>(id)? else {
            return Err(Error::Absent { place: Place::Record(id.entity()) });
        };
        self.records[R::Id::KIND.slot()].remove(&tables::id_key(id))?;
        self.uuids.remove(old.uuid().as_bytes())?;
        self.reindex(&old.keys(), &Keys::new())
    }

    fn put_ref(&mut self, record: &RefRecord) -> Result<()> {
        let key = tables::ref_key(record.group, record.ordinal);
        let old = match self.refs.insert(&key, encode(record).as_slice())? {
            Some(old) => tables::decode_ref(&key, old.value())?.index_keys(),
            None => Keys::new(),
        };
        self.reindex(&old, &record.index_keys())
    }

    fn remove_ref(&mut self, group: GroupId, ordinal: u32) -> Result<()> {
        let key = tables::ref_key(group, ordinal);
        let old = match self.refs.remove(&key)? {
            Some(old) => tables::decode_ref(&key, old.value())?.index_keys(),
            None => return Err(Error::Absent { place: Place::Ref(group, ordinal) }),
        };
        self.reindex(&old, &Keys::new())
    }

    fn record<R: Record>(&self, id: R::Id) -> Result<Option<R>> {
        let value = self.records[R::Id::KIND.slot()].get(&tables::id_key(id))?;
        value.map(|value| tables::decode_record(id, value.value())).transpose()
    }

    /// Gives a uuid to a new thing.
    fn name(&mut self, uuid: Uuid, wanted: Entity) -> Result<()> {
        if let Some(value) = self.uuids.insert(uuid.as_bytes(), &tables::entity_value(wanted))? {
            let by = tables::value_entity(uuid, value.value())?;
            return Err(Error::UuidTaken { uuid, by, wanted });
        }
        Ok(())
    }

    fn reindex(&mut self, old: &Keys, new: &Keys) -> Result<()> {
        for key in old.difference(new) {
            self.index.remove(key.as_slice())?;
        }
        for key in new.difference(old) {
            self.index.insert(key.as_slice(), ())?;
        }
        Ok(())
    }
}
