//! Reading refs: the members of a group, and the groups that a snapshot or a volume was a member of.

use super::error::{Error, Place, Result};
use super::id::{GroupId, SnapshotId};
use super::index::{self, Index, Value};
use super::kind::Id;
use super::reader::{Reader, short_key};
use super::record::RefRecord;
use super::tables::{self, RefKey};
use uuid::Uuid;

impl Reader {
    /// The members of a group, by ordinal.
    pub fn refs_of(&self, group: GroupId) -> Result<Vec<RefRecord>> {
        let (first, last) = (tables::ref_key(group, 0), tables::ref_key(group, u32::MAX));
        let range = self.ref_table()?.range::<&RefKey>(&first..=&last)?;
        range.map(|entry| entry.map_err(Error::from).and_then(|(key, value)| ref_at(&key, &value))).collect()
    }

    /// One member of a group.
    pub fn ref_of(&self, group: GroupId, ordinal: u32) -> Result<Option<RefRecord>> {
        let key = tables::ref_key(group, ordinal);
        let value = self.ref_table()?.get(&key)?;
        value.map(|value| tables::decode_ref(&key, value.value())).transpose()
    }

    /// All refs, group by group.
    pub fn refs(&self) -> Result<impl Iterator<Item = Result<RefRecord>> + use<>> {
        let range = self.ref_table()?.range::<&RefKey>(..)?;
        Ok(range.map(|entry| entry.map_err(Error::from).and_then(|(key, value)| ref_at(&key, &value))))
    }

    /// The membership of a snapshot, which outlives the snapshot.
    pub fn ref_of_snapshot(&self, snapshot: SnapshotId) -> Result<Option<RefRecord>> {
        Ok(self.refs_found(Index::RefBySnapshot, snapshot)?.into_iter().next())
    }

    /// The memberships of snapshots that are gone and had a uuid.
    pub fn refs_of_gone_snapshot(&self, snapshot: Uuid) -> Result<Vec<RefRecord>> {
        self.refs_found(Index::RefByGoneSnapshot, Value::Uuid(snapshot))
    }

    /// The memberships of the snapshots of a volume, which outlive the volume.
    pub fn refs_by_volume(&self, volume: Uuid) -> Result<Vec<RefRecord>> {
        self.refs_found(Index::RefByVolume, Value::Uuid(volume))
    }

    fn refs_found<'v>(&self, index: Index, value: impl Into<Value<'v>>) -> Result<Vec<RefRecord>> {
        let mut refs = Vec::new();
        for entry in self.entries(index, value)? {
            let (key, _) = entry?;
            let (group, ordinal) = index::ref_of(key.value()).ok_or_else(short_key)?;
            let record = self.ref_of(group, ordinal)?;
            refs.push(record.ok_or(Error::Dangling { from: Place::Index, to: group.entity() })?);
        }
        Ok(refs)
    }
}

/// Decodes one entry of the table of refs.
fn ref_at(
    key: &redb::AccessGuard<'_, &'static RefKey>,
    value: &redb::AccessGuard<'_, &'static [u8]>,
) -> Result<RefRecord> {
    tables::decode_ref(key.value(), value.value())
}
