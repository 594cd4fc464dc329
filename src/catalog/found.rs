//! Reading through the index: what hangs on what, and what has a name or a tag.

use super::error::{Place, Result};
use super::id::{GroupId, LayerId, MachineId, SnapshotId, TreeId, VolumeId};
use super::index::{self, Index, Value};
use super::kind::{Id, Record};
use super::reader::{Reader, short_key};
use super::record::{GroupRecord, LayerRecord, MachineRecord, SnapshotRecord, TreeRecord, VolumeRecord};
use crate::storage::BlobName;
use redb::Range;
use std::fmt;
use std::marker::PhantomData;
use uuid::Uuid;

impl Reader {
    /// What stands in an index under a value.
    pub(super) fn found<'v, R: Record>(
        &self,
        index: Index,
        value: impl Into<Value<'v>>,
    ) -> Result<Found<'_, R>> {
        Ok(Found { reader: self, range: self.entries(index, value)?, record: PhantomData })
    }

    /// The keys in an index under a value.
    pub(super) fn entries<'v>(
        &self,
        index: Index,
        value: impl Into<Value<'v>>,
    ) -> Result<Range<'static, &'static [u8], ()>> {
        let start = index::prefix(index, value.into());
        let end = index::after(&start);
        Ok(self.index_table()?.range(start.as_slice()..end.as_slice())?)
    }

    /// The volumes that are attached to a machine.
    pub fn volumes_of(&self, machine: MachineId) -> Result<Found<'_, VolumeRecord>> {
        self.found(Index::VolumeByMachine, machine)
    }

    /// The machines with a name.
    pub fn machines_by_name(&self, name: &str) -> Result<Found<'_, MachineRecord>> {
        self.found(Index::MachineByName, Value::Text(name))
    }

    /// The volumes with a name.
    pub fn volumes_by_name(&self, name: &str) -> Result<Found<'_, VolumeRecord>> {
        self.found(Index::VolumeByName, Value::Text(name))
    }

    /// The volume that writes to a layer.
    pub fn volume_of_head(&self, layer: LayerId) -> Result<Option<VolumeRecord>> {
        self.found(Index::VolumeByHead, layer)?.next().transpose()
    }

    /// The layers that read through to a layer directly.
    pub fn layers_above(&self, layer: LayerId) -> Result<Found<'_, LayerRecord>> {
        self.found(Index::LayerByParent, layer)
    }

    /// The layers that were made for a volume, or adopted with it.
    pub fn layers_of(&self, volume: VolumeId) -> Result<Found<'_, LayerRecord>> {
        self.found(Index::LayerByVolume, volume)
    }

    /// The layer that is in a blob.
    pub fn layer_of_blob(&self, blob: &BlobName) -> Result<Option<LayerRecord>> {
        self.found(Index::LayerByBlob, Value::Text(blob.as_str()))?.next().transpose()
    }

    /// Those of some files that no record names: no layer is in them, and they are no overlays of a prepared group.
    ///
    /// Names in their order are one pass over the index; each that is out of order is looked up.
    pub fn unnamed<'n>(&self, names: impl IntoIterator<Item = &'n BlobName>) -> Result<Vec<&'n BlobName>> {
        let prepared = self.prepared_blobs()?;
        let mut unnamed = Vec::new();
        let mut names = names.into_iter().peekable();
        let Some(first) = names.peek() else { return Ok(unnamed) };
        let key_of = |name: &BlobName| index::prefix(Index::LayerByBlob, Value::Text(name.as_str()));
        let (mut reached, end) = (key_of(first), index::after(&[Index::LayerByBlob as u8]));
        let mut keys = self.index_table()?.range(reached.as_slice()..end.as_slice())?;
        let mut next = keys.next().transpose()?;
        for name in names {
            let key = key_of(name);
            let is_layer = if key < reached {
                self.entries(Index::LayerByBlob, Value::Text(name.as_str()))?.next().transpose()?.is_some()
            } else {
                while next.as_ref().is_some_and(|(next, _)| next.value() < key.as_slice()) {
                    next = keys.next().transpose()?;
                }
                let is_layer = next.as_ref().is_some_and(|(next, _)| next.value().starts_with(&key));
                reached = key;
                is_layer
            };
            if !is_layer && !prepared.contains(name) {
                unnamed.push(name);
            }
        }
        Ok(unnamed)
    }

    /// The retired layers.
    pub fn layers_retired(&self) -> Result<Found<'_, LayerRecord>> {
        self.found(Index::LayerRetired, Value::Nothing)
    }

    /// The layers whose files are to be removed.
    pub fn layers_garbage(&self) -> Result<Found<'_, LayerRecord>> {
        self.found(Index::LayerGarbage, Value::Nothing)
    }

    /// The layers that are being filled.
    pub fn layers_building(&self) -> Result<Found<'_, LayerRecord>> {
        self.found(Index::LayerBuilding, Value::Nothing)
    }

    /// The layers whose files may not be durable.
    pub fn layers_unsettled(&self) -> Result<Found<'_, LayerRecord>> {
        self.found(Index::LayerUnsettled, Value::Nothing)
    }

    /// The layers whose headers are being written.
    pub fn layers_rewriting(&self) -> Result<Found<'_, LayerRecord>> {
        self.found(Index::LayerRewriting, Value::Nothing)
    }

    /// The snapshots of a volume.
    pub fn snapshots_of(&self, volume: VolumeId) -> Result<Found<'_, SnapshotRecord>> {
        self.found(Index::SnapshotByVolume, volume)
    }

    /// The snapshots that name a layer.
    pub fn snapshots_on(&self, layer: LayerId) -> Result<Found<'_, SnapshotRecord>> {
        self.found(Index::SnapshotByLayer, layer)
    }

    /// The snapshots whose parent is a snapshot.
    pub fn children_of_snapshot(&self, snapshot: SnapshotId) -> Result<Found<'_, SnapshotRecord>> {
        self.found(Index::SnapshotByParent, snapshot)
    }

    /// The snapshots of a tree.
    pub fn snapshots_in(&self, tree: TreeId) -> Result<Found<'_, SnapshotRecord>> {
        self.found(Index::SnapshotByTree, tree)
    }

    /// The snapshots of a group that still exist.
    pub fn snapshots_of_group(&self, group: GroupId) -> Result<Found<'_, SnapshotRecord>> {
        self.found(Index::SnapshotByGroup, group)
    }

    /// The snapshots with a name.
    pub fn snapshots_by_name(&self, name: &str) -> Result<Found<'_, SnapshotRecord>> {
        self.found(Index::SnapshotByName, Value::Text(name))
    }

    /// The trees of a volume.
    pub fn trees_of(&self, volume: VolumeId) -> Result<Found<'_, TreeRecord>> {
        self.found(Index::TreeByVolume, volume)
    }

    /// The groups of a machine.
    pub fn groups_of(&self, machine: MachineId) -> Result<Found<'_, GroupRecord>> {
        self.found(Index::GroupByMachine, machine)
    }

    /// The groups with a name.
    pub fn groups_by_name(&self, name: &str) -> Result<Found<'_, GroupRecord>> {
        self.found(Index::GroupByName, Value::Text(name))
    }

    /// The groups whose parent is a group.
    pub fn children_of_group(&self, group: GroupId) -> Result<Found<'_, GroupRecord>> {
        self.found(Index::GroupByParent, group)
    }

    /// The groups with a user tag.
    pub fn groups_by_user_tag(&self, tag: &str) -> Result<Found<'_, GroupRecord>> {
        self.found(Index::GroupByUserTag, Value::Text(tag))
    }

    /// The groups with a system tag.
    pub fn groups_by_system_tag(&self, tag: &str) -> Result<Found<'_, GroupRecord>> {
        self.found(Index::GroupBySystemTag, Value::Text(tag))
    }

    /// The groups with a tag uuid.
    pub fn groups_by_tag_uuid(&self, tag: Uuid) -> Result<Found<'_, GroupRecord>> {
        self.found(Index::GroupByTagUuid, Value::Uuid(tag))
    }
}

/// Records that stand in an index under one value, in the order of their ids.
pub struct Found<'r, R> {
    reader: &'r Reader,
    range: Range<'static, &'static [u8], ()>,
    record: PhantomData<R>,
}

impl<R> fmt::Debug for Found<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found").finish_non_exhaustive()
    }
}

impl<R: Record> Found<'_, R> {
    fn record_of(
        &self,
        entry: redb::Result<(redb::AccessGuard<'static, &'static [u8]>, redb::AccessGuard<'static, ()>)>,
    ) -> Result<R> {
        let (key, _) = entry?;
        let number = index::number_of(key.value()).ok_or_else(short_key)?;
        self.reader.named(Place::Index, R::Id::of(number))
    }
}

impl<R: Record> Iterator for Found<'_, R> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Result<R>> {
        let entry = self.range.next()?;
        Some(self.record_of(entry))
    }
}

impl<R: Record> DoubleEndedIterator for Found<'_, R> {
    fn next_back(&mut self) -> Option<Result<R>> {
        let entry = self.range.next_back()?;
        Some(self.record_of(entry))
    }
}

impl<R: Record> Found<'_, R> {
    /// All of them at once, for callers that need the whole.
    pub fn into_vec(self) -> Result<Vec<R>> {
        self.collect()
    }
}
