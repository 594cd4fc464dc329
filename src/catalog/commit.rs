//! Publishing: a list of edits becomes durable as one, or not at all.
//!
//! Those of several threads may share a transaction ([`queue`](super::queue)): they are durable together then, and each is
//! a generation of its own.
//!
//! Order within the transaction: check the generation, then edit by edit the record, its uuid and its index keys,
//! then the counters and the new generation. An error on the way drops the transaction, which undoes it. Only the
//! database's own commit makes anything visible; when that fails in the blob, nobody can say whether the new state
//! or the old one will be found at the next opening (the commit's one write that counts may have arrived before the
//! sync failed), and the database takes no further commit.

use super::edit::Edit;
use super::encoding::encode;
use super::error::{Error, Place, Result};
use super::id::{GroupId, LayerId};
use super::index::Keys;
use super::kind::{Entity, Id, Kind, Record};
use super::open::{Catalog, QuickRepair};
use super::queue::Wish;
use super::record::{LayerRecord, RefRecord, Settled, SnapshotRecord};
use super::tables::{self, EntityValue, IdKey, RefKey, meta};
use crate::units::ByteCount;
use redb::{Durability, ReadableTable, Table, WriteTransaction};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use uuid::Uuid;

impl Catalog {
    /// Publishes edits as one. Answers the new generation.
    ///
    /// # Errors
    ///
    /// Nothing was changed by [`Error::Stale`], when `expected` is given and the catalogue has moved on;
    /// [`Error::UuidTaken`] and [`Error::IdTaken`], when two things would be mixed up; [`Error::Absent`], when
    /// something to remove is not there; [`Error::NotOwner`], when another owner has opened the pool since;
    /// [`Error::Malformed`], [`Error::Storage`], [`Error::Halted`].
    /// [`Error::CommitUnknown`] when the blob failed in the commit itself: only opening again tells. Commits of other
    /// threads may share the transaction; each has its own outcome.
    pub fn commit(&self, expected: Option<u64>, edits: &[Edit]) -> Result<u64> {
        self.queue.commit(Wish { expected, edits }, |wishes| self.commit_all(wishes))
    }

    /// Publishes several wishes in one transaction, and leaves out those that cannot be done.
    fn commit_all(&self, wishes: &[Wish<'_>]) -> Vec<Result<u64>> {
        let mut outcomes: Vec<Option<Result<u64>>> = wishes.iter().map(|_| None).collect();
        loop {
            let left: Vec<usize> = (0..wishes.len()).filter(|index| outcomes[*index].is_none()).collect();
            if left.is_empty() {
                break;
            }
            let these: Vec<Wish<'_>> = left.iter().map(|index| wishes[*index]).collect();
            match self.commit_together(&these) {
                Ok(generations) => {
                    left.iter().zip(generations).for_each(|(index, done)| outcomes[*index] = Some(Ok(done)));
                }
                Err(Undone::One(which, error)) => outcomes[left[which]] = Some(Err(error)),
                Err(Undone::All(error)) => {
                    let error = Arc::new(error);
                    for index in left {
                        let source = Arc::clone(&error);
                        outcomes[index] = Some(Err(Error::CommitUnknown { source }));
                    }
                }
            }
        }
        outcomes.into_iter().map(|outcome| outcome.expect("the loop ends with an outcome for each")).collect()
    }

    /// Publishes all wishes in one transaction. Answers the generation of each.
    fn commit_together(&self, wishes: &[Wish<'_>]) -> std::result::Result<Vec<u64>, Undone> {
        let first = |error: Error| Undone::One(0, error);
        self.check_owner().map_err(first)?;
        let mut transaction = self.database.begin_write().map_err(|error| first(error.into()))?;
        self.look_for_owner().map_err(first)?;
        self.fence.begin_transaction();
        transaction.set_durability(Durability::Immediate).map_err(|error| first(error.into()))?;
        transaction.set_quick_repair(self.options.quick_repair == QuickRepair::On);
        let mut writer = Writer::open(&transaction).map_err(first)?;
        let mut generations = Vec::with_capacity(wishes.len());
        for (index, wish) in wishes.iter().enumerate() {
            let done = writer.write(wish.expected, wish.edits).map_err(|error| Undone::One(index, error))?;
            generations.push(done);
        }
        let next = writer.next;
        drop(writer);
        match transaction.commit() {
            Ok(()) => {}
            Err(error @ redb::CommitError::TransactionPoisoned) => return Err(first(error.into())),
            Err(error) => match Error::from(error) {
                error @ Error::NotOwner { .. } if !self.fence.has_written() => return Err(first(error)),
                error => return Err(Undone::All(error)),
            },
        }
        self.ids.pass(next);
        if let Some(last) = generations.last() {
            self.generation.fetch_max(*last, Ordering::Release);
        }
        Ok(generations)
    }
}

/// Why a transaction was not published, as far as anybody knows.
enum Undone {
    /// Nothing was changed, because of one of the wishes; or because of what each of them would meet.
    One(usize, Error),
    /// Whether all or none are durable shows when the catalogue is opened again.
    All(Error),
}

/// All tables of one write transaction.
struct Writer<'t> {
    meta: Table<'t, &'static str, &'static [u8]>,
    records: [Table<'t, &'static IdKey, &'static [u8]>; Kind::ALL.len()],
    refs: Table<'t, &'static RefKey, &'static [u8]>,
    uuids: Table<'t, &'static [u8; 16], &'static EntityValue>,
    index: Table<'t, &'static [u8], ()>,
    next: [u64; Kind::ALL.len()],
    snapshot_bytes: u64,
    /// For the table of the prepared groups, which is opened, and with that made, by the first that is written.
    transaction: &'t WriteTransaction,
}

impl<'t> Writer<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self> {
        let records = |kind| transaction.open_table(tables::records(kind));
        let meta = transaction.open_table(tables::META)?;
        let next = tables::meta_next(&meta)?;
        let snapshot_bytes = tables::meta_number(&meta, meta::SNAPSHOT_BYTES)?;
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
            snapshot_bytes,
            transaction,
        })
    }

    /// Does all edits of a wish. Answers the new generation.
    fn write(&mut self, expected: Option<u64>, edits: &[Edit]) -> Result<u64> {
        let found = tables::meta_number(&self.meta, meta::GENERATION)?;
        if let Some(expected) = expected
            && expected != found
        {
            return Err(Error::Stale { expected, found });
        }
        let (next, snapshot_bytes) = (self.next, self.snapshot_bytes);
        for edit in edits {
            self.apply(edit)?;
        }
        let generation = found + 1;
        self.meta.insert(meta::GENERATION, &generation.to_be_bytes()[..])?;
        if self.next != next {
            self.meta.insert(meta::NEXT, tables::next_value(self.next).as_slice())?;
        }
        if self.snapshot_bytes != snapshot_bytes {
            self.meta.insert(meta::SNAPSHOT_BYTES, &self.snapshot_bytes.to_be_bytes()[..])?;
        }
        Ok(generation)
    }

    fn apply(&mut self, edit: &Edit) -> Result<()> {
        match edit {
            Edit::PutMachine(record) => self.put(record).map(drop),
            Edit::PutVolume(record) => self.put(record).map(drop),
            Edit::PutLayer(record) => self.put(record).map(drop),
            Edit::PutSnapshot(record) => {
                let old = self.put(record)?;
                self.sum(old.as_ref(), record.size);
                Ok(())
            }
            Edit::PutTree(record) => self.put(record).map(drop),
            Edit::PutGroup(record) => self.put(record).map(drop),
            Edit::PutRef(record) => self.put_ref(record),
            Edit::RemoveMachine(id) => self.remove::<super::MachineRecord>(*id).map(drop),
            Edit::RemoveVolume(id) => self.remove::<super::VolumeRecord>(*id).map(drop),
            Edit::RemoveLayer(id) => self.remove::<LayerRecord>(*id).map(drop),
            Edit::SettleLayer(id) => self.settle(*id),
            Edit::RemoveSnapshot(id) => {
                let old = self.remove::<SnapshotRecord>(*id)?;
                self.sum(Some(&old), ByteCount::ZERO);
                Ok(())
            }
            Edit::RemoveTree(id) => self.remove::<super::TreeRecord>(*id).map(drop),
            Edit::RemoveGroup(id) => self.remove::<super::GroupRecord>(*id).map(drop),
            Edit::RemoveRef { group, ordinal } => self.remove_ref(*group, *ordinal),
            Edit::PutPrepared(record) => {
                let key = tables::id_key(record.machine);
                let mut prepared = self.transaction.open_table(tables::PREPARED)?;
                prepared.insert(&key, encode(record).as_slice())?;
                Ok(())
            }
            Edit::RemovePrepared(machine) => {
                let mut prepared = self.transaction.open_table(tables::PREPARED)?;
                match prepared.remove(&tables::id_key(*machine))? {
                    Some(_) => Ok(()),
                    None => Err(Error::Absent { place: Place::Prepared(*machine) }),
                }
            }
        }
    }

    /// Keeps the sum of what the snapshots take up (C27): one, which was `old` when it was there, takes up so much from
    /// now on.
    fn sum(&mut self, old: Option<&SnapshotRecord>, size: ByteCount) {
        let before = old.map_or(ByteCount::ZERO, |old| old.size);
        let without = self.snapshot_bytes.saturating_sub(before.as_u64());
        self.snapshot_bytes = without.saturating_add(size.as_u64());
    }

    /// Puts a record in; answers the one that was there. What is refused goes with the transaction.
    fn put<R: Record>(&mut self, record: &R) -> Result<Option<R>> {
        let (id, slot) = (record.id(), R::Id::KIND.slot());
        let old = self.records[slot].insert(&tables::id_key(id), encode(record).as_slice())?;
        let old: Option<R> = old.map(|old| tables::decode_record(id, old.value())).transpose()?;
        match &old {
            Some(old) if old.uuid() != record.uuid() => {
                return Err(Error::IdTaken { entity: id.entity(), found: old.uuid(), wanted: record.uuid() });
            }
            Some(old) => self.reindex(&old.keys(), &record.keys())?,
            None => {
                self.name(record.uuid(), id.entity())?;
                self.reindex(&Keys::new(), &record.keys())?;
            }
        }
        self.next[slot] = self.next[slot].max(id.number().saturating_add(1));
        Ok(old)
    }

    fn settle(&mut self, id: LayerId) -> Result<()> {
        let value = self.records[Kind::Layer.slot()].get(&tables::id_key(id))?;
        let found = value.map(|value| tables::decode_record::<LayerRecord>(id, value.value())).transpose()?;
        if let Some(record) = found.filter(|record| record.settled == Settled::No) {
            self.put(&LayerRecord { settled: Settled::Yes, ..record })?;
        }
        Ok(())
    }

    /// Takes a record out, and answers it.
    fn remove<R: Record>(&mut self, id: R::Id) -> Result<R> {
        let old = match self.records[R::Id::KIND.slot()].remove(&tables::id_key(id))? {
            Some(old) => tables::decode_record::<R>(id, old.value())?,
            None => return Err(Error::Absent { place: Place::Record(id.entity()) }),
        };
        self.uuids.remove(old.uuid().as_bytes())?;
        self.reindex(&old.keys(), &Keys::new())?;
        Ok(old)
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

#[cfg(test)]
mod tests;
