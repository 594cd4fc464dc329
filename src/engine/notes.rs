//! What each layer's file is told of the catalogue, so that a lost one can be made anew from the files alone.
//!
//! The notes are in the header of the file (`format::notes`), with what is written there anyway: a file that is made, a
//! head that is adopted, a header that a merge exchanges. Taking a snapshot or a group costs no write and no sync for
//! them: it is the new overlay that says what the layer below it was frozen as.
//!
//! * **N1** A snapshot on a layer that something in its volume's chain reads through is claimed by the file above that
//!   layer. One that is off the chain, since the disk went back or was copied, is claimed by a file in the chain: by
//!   the head that was made then, or by the file that took over what that one held.
//! * **N2** A claim says in which generation it was written. Before a retired layer is written to, the file says durably in
//!   which generation that is (`Image::note_change`). The deletion of the snapshot lies between the two, so an older
//!   claim is one of a snapshot that is gone.
//! * **N3** A layer that has taken the place of the one above it says so: notes above it that are older are of files that
//!   are over. Its header is noted in the books before it is written, as that of any layer which is moved.
//! * **N4** A file that is being filled says so until it is whole and durable.
//!
//! Nothing is ever decided by notes while there is a catalogue.

use super::error::Result;
use crate::catalog::{
    Edit, GroupId, GroupRecord, LayerId, LayerRecord, LayerState, MachineId, MachineRecord, Origin, Reader,
    RefRecord, Sharing, SnapshotId, SnapshotRecord, VolumeId, VolumeKind, VolumeRecord,
};
use crate::image::{LayerNotes, SnapshotClaim};
use std::collections::{BTreeMap, BTreeSet};

/// Which snapshots a file claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claims {
    /// Those on the layer below.
    Below,
    /// Those, and all of its volume that are off the volume's chain. Reads every snapshot of the volume.
    BelowAndAside,
}

/// The catalogue as it will be when some edits are published.
pub(super) struct Foreseen<'a> {
    reader: &'a Reader,
    machines: BTreeMap<MachineId, &'a MachineRecord>,
    volumes: BTreeMap<VolumeId, &'a VolumeRecord>,
    layers: BTreeMap<LayerId, &'a LayerRecord>,
    snapshots: BTreeMap<SnapshotId, &'a SnapshotRecord>,
    groups: BTreeMap<GroupId, &'a GroupRecord>,
    refs: BTreeMap<SnapshotId, &'a RefRecord>,
    removed: BTreeSet<SnapshotId>,
}

/// Writes one look-up: the edits, else the catalogue.
macro_rules! foreseen {
    ($($name:ident in $shelf:ident: $id:ident => $record:ident;)+) => {$(
        fn $name(&self, id: $id) -> Result<Option<$record>> {
            match self.$shelf.get(&id) {
                Some(record) => Ok(Some((*record).clone())),
                None => Ok(self.reader.$name(id)?),
            }
        }
    )+};
}

impl<'a> Foreseen<'a> {
    pub(super) fn of(reader: &'a Reader, edits: &'a [Edit]) -> Self {
        let mut foreseen = Self {
            reader,
            machines: BTreeMap::new(),
            volumes: BTreeMap::new(),
            layers: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            groups: BTreeMap::new(),
            refs: BTreeMap::new(),
            removed: BTreeSet::new(),
        };
        for edit in edits {
            match edit {
                Edit::PutMachine(record) => drop(foreseen.machines.insert(record.id, record)),
                Edit::PutVolume(record) => drop(foreseen.volumes.insert(record.id, record)),
                Edit::PutLayer(record) => drop(foreseen.layers.insert(record.id, record)),
                Edit::PutSnapshot(record) => drop(foreseen.snapshots.insert(record.id, record)),
                Edit::PutGroup(record) => drop(foreseen.groups.insert(record.id, record)),
                Edit::PutRef(record) => drop(foreseen.refs.insert(record.snapshot, record)),
                Edit::RemoveSnapshot(id) => drop(foreseen.removed.insert(*id)),
                _ => {}
            }
        }
        foreseen
    }

    foreseen! {
        machine in machines: MachineId => MachineRecord;
        volume in volumes: VolumeId => VolumeRecord;
        layer in layers: LayerId => LayerRecord;
        group in groups: GroupId => GroupRecord;
    }

    /// Whether a volume was there before these edits, and writes to another layer than `parent` then.
    pub(super) fn goes_elsewhere(&self, volume: VolumeId, parent: Option<LayerId>) -> Result<bool> {
        let before = self.reader.volume(volume)?;
        Ok(before.is_some_and(|before| Some(before.head) != parent))
    }

    /// The notes of a layer.
    pub(super) fn notes_of(&self, layer: &LayerRecord, claims: Claims) -> Result<LayerNotes> {
        let volume = self.volume(layer.volume)?;
        let attached = volume.as_ref().and_then(|volume| volume.attachments.first());
        let machine = attached.map(|attachment| self.machine(attachment.machine)).transpose()?.flatten();
        let parent = layer.parent.map(|parent| self.layer(parent)).transpose()?.flatten();
        let claims = self.claims(parent.as_ref(), volume.as_ref(), claims)?;
        let is_filled = layer.state == LayerState::Building;
        Ok(LayerNotes {
            changed: if is_filled { LayerNotes::BEING_FILLED } else { 0 },
            written: self.reader.generation(),
            number: layer.id.0,
            parent: parent.as_ref().map(|parent| *parent.uuid.as_bytes()),
            above_base: parent.is_some_and(|parent| parent.origin == Origin::Base),
            adopted: layer.origin == Origin::Adopted,
            machine: machine.as_ref().map(|machine| *machine.uuid.as_bytes()),
            device_id: attached.map_or(0, |attachment| attachment.device_id),
            kind: volume.as_ref().map_or(0, |volume| number_of(volume.kind)),
            shareable: volume.as_ref().is_some_and(|volume| volume.sharing == Sharing::Shareable),
            volume_name: volume.map(|volume| volume.name).unwrap_or_default(),
            machine_name: machine.map(|machine| machine.name).unwrap_or_default(),
            claims,
            ..LayerNotes::default()
        })
    }

    fn claims(
        &self,
        parent: Option<&LayerRecord>,
        volume: Option<&VolumeRecord>,
        claims: Claims,
    ) -> Result<Vec<SnapshotClaim>> {
        let mut found = Vec::new();
        if let Some(parent) = parent {
            for snapshot in self.snapshots_on(parent.id)? {
                found.push(self.claim(&snapshot, parent)?);
            }
        }
        let Some(volume) = volume.filter(|_| claims == Claims::BelowAndAside) else { return Ok(found) };
        let mut chain = BTreeSet::new();
        let mut next = Some(volume.head);
        while let Some(id) = next.filter(|id| chain.insert(*id)) {
            next = self.layer(id)?.and_then(|layer| layer.parent);
        }
        chain.extend(parent.map(|parent| parent.id));
        // The younger ones first: there may be no room for all.
        for snapshot in self.snapshots_of(volume.id)?.into_values().rev() {
            if !chain.contains(&snapshot.layer)
                && let Some(layer) = self.layer(snapshot.layer)?
            {
                found.push(self.claim(&snapshot, &layer)?);
            }
        }
        Ok(found)
    }

    fn snapshots_on(&self, layer: LayerId) -> Result<Vec<SnapshotRecord>> {
        let edited = self.snapshots.values().filter(|snapshot| snapshot.layer == layer);
        let mut found: Vec<SnapshotRecord> = edited.map(|snapshot| (*snapshot).clone()).collect();
        for snapshot in self.reader.snapshots_on(layer)? {
            let snapshot = snapshot?;
            if !self.snapshots.contains_key(&snapshot.id) && !self.removed.contains(&snapshot.id) {
                found.push(snapshot);
            }
        }
        Ok(found)
    }

    fn snapshots_of(&self, volume: VolumeId) -> Result<BTreeMap<SnapshotId, SnapshotRecord>> {
        let mut found = BTreeMap::new();
        for snapshot in self.reader.snapshots_of(volume)? {
            let snapshot = snapshot?;
            found.insert(snapshot.id, snapshot);
        }
        for (id, snapshot) in self.snapshots.iter().filter(|(_, snapshot)| snapshot.volume == volume) {
            found.insert(*id, (*snapshot).clone());
        }
        found.retain(|id, _| !self.removed.contains(id));
        Ok(found)
    }

    fn claim(&self, snapshot: &SnapshotRecord, layer: &LayerRecord) -> Result<SnapshotClaim> {
        let group = snapshot.group.map(|group| self.group(group)).transpose()?.flatten();
        let member = match self.refs.get(&snapshot.id) {
            Some(member) => Some((*member).clone()),
            None if group.is_some() => self.reader.ref_of_snapshot(snapshot.id)?,
            None => None,
        };
        Ok(SnapshotClaim {
            layer: *layer.uuid.as_bytes(),
            snapshot: *snapshot.uuid.as_bytes(),
            volume: *snapshot.volume_uuid.as_bytes(),
            group: group.as_ref().map(|group| *group.uuid.as_bytes()),
            machine: group.as_ref().map(|group| *group.machine_uuid.as_bytes()).unwrap_or_default(),
            created: snapshot.created.0,
            members: group.as_ref().map_or(0, |group| group.snapshot_count),
            ordinal: member.as_ref().map_or(0, |member| member.ordinal),
            device_id: member.as_ref().map_or(0, |member| member.device_id),
            kind: number_of(snapshot.volume_kind),
            name: snapshot.name.clone(),
            group_name: group.map(|group| group.name).unwrap_or_default(),
        })
    }
}

/// The kind of a volume as files say it.
fn number_of(kind: VolumeKind) -> u8 {
    match kind {
        VolumeKind::Root => 1,
        VolumeKind::Data => 2,
        VolumeKind::Memory => 3,
    }
}

/// The kind of a volume that a file says; an unknown one is that of a data disk.
pub(super) fn kind_of_number(number: u8) -> VolumeKind {
    match number {
        1 => VolumeKind::Root,
        3 => VolumeKind::Memory,
        _ => VolumeKind::Data,
    }
}
