//! Groups of a machine that another process runs, in two phases.
//!
//! 1. [`Engine::prepare_group`] makes the overlays, syncs each of them, and notes in one commit that they are there. The
//!    other process goes on writing to the heads.
//! 2. The caller lets that process switch its disks to the overlays.
//! 3. [`PreparedGroup::commit`] publishes the group in one commit, in the place of the note.
//!
//! What is written to an overlay between 2 and 3 is the guest's, and its flushes tell nobody here. So no overlay is ever
//! made anew, and none is removed that somebody has written to or has open, unless the caller says so to the word.

mod drive;
mod hooks;
mod node;
mod prepare;
pub(super) mod settle;

pub use drive::{CreatedLive, IfNotFrozen, LiveOptions};
pub use hooks::{HookError, NoQuiesce, Quiesce, Switch, WritesTo};
pub use node::{BlockNode, ChainFile};

use super::error::{Error, Result};
use super::group::{CreatedGroup, LeftOutVolume, named};
use super::locks::Key;
use super::operation::Operation;
use super::pool::{Engine, Pool};
use super::uuid_arg::UuidArg;
use crate::catalog::{DiskView, LayerRecord, MachineRecord, PreparedRecord, Reader, VolumeId};
use crate::inventory::{Consistency, Date};
use crate::plan::refusal::Refusal;
use crate::plan::{self, group::Member};
use crate::storage::{Access, Store};
use crate::sync::Mutex;
use crate::units::ByteCount;
use settle::{GiveUp, give_up};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// The prepared groups that a handle is held of.
#[derive(Debug, Default)]
pub(super) struct TakenUp(Mutex<HashSet<Uuid>>);

/// A group whose overlays are there and which waits for its disks to be switched to them. See [`Engine::prepare_group`].
///
/// Dropping it aborts: the overlays are removed, unless one of them was written to or is in use. Then, and after a
/// commit that failed, the group stays prepared: [`Engine::resume_group`] takes it up again.
#[doc = include_str!("../examples/preparing.md")]
#[derive(Debug)]
#[must_use = "dropping it aborts the group"]
pub struct PreparedGroup {
    engine: Engine,
    record: PreparedRecord,
    disks: Vec<PreparedDisk>,
    left_out: Vec<LeftOutVolume>,
    at_drop: AtDrop,
}

/// What becomes of a prepared group when its handle is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtDrop {
    Abort,
    Leave,
}

/// One disk of a prepared group.
#[doc = include_str!("../examples/preparing.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PreparedDisk {
    /// The volume.
    pub volume_uuid: Uuid,
    /// Its name.
    pub volume_name: String,
    /// Its device id in the machine.
    pub device_id: u32,
    /// Its virtual size.
    pub size: ByteCount,
    /// What the disk is to be switched to: the overlay, to be opened without what is below it, as QEMU's
    /// `blockdev-add` before a `blockdev-snapshot` wants it.
    pub overlay: BlockNode,
    /// The files that the disk reads through once it is switched, the overlay first and what is its head now second.
    pub chain: Vec<ChainFile>,
}

/// A group that was prepared and is neither committed nor aborted.
#[doc = include_str!("../examples/preparing.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PendingGroup {
    /// The uuid that it will have.
    pub uuid: Uuid,
    /// Its name.
    pub name: String,
    /// Its machine.
    pub machine_uuid: Uuid,
    /// When it was prepared.
    pub prepared: Date,
    /// Where the overlays are.
    pub overlays: Vec<String>,
}

impl Engine {
    /// The groups that are prepared and neither committed nor aborted.
    ///
    /// # Errors
    ///
    /// [`Error::Catalog`].
    #[doc = include_str!("../examples/preparing.md")]
    pub fn prepared_groups(&self) -> Result<Vec<PendingGroup>> {
        let pool = &self.pool;
        let reader = pool.read()?;
        let pending = |record: PreparedRecord| {
            Ok(PendingGroup {
                uuid: record.group,
                machine_uuid: reader.need_machine(record.machine)?.uuid,
                prepared: record.created.into(),
                overlays: record.members.iter().map(|member| pool.locate(member.blob.as_str())).collect(),
                name: record.name,
            })
        };
        reader.prepared()?.into_iter().map(pending).collect()
    }

    /// Takes up a group that is prepared, to commit it or to abort it: of before the pool was opened, or one whose commit
    /// has failed.
    ///
    /// # Errors
    ///
    /// SYS.1007 for a malformed uuid; SYS.1003 when no such group is prepared; SYS.1006 when another handle has it.
    #[doc = include_str!("../examples/preparing.md")]
    pub fn resume_group(&self, group: impl Into<UuidArg>) -> Result<PreparedGroup> {
        let uuid = group.into().parse()?;
        let reader = self.pool.read()?;
        let found = reader.prepared()?.into_iter().find(|record| record.group == uuid);
        let record = found.ok_or(Refusal::NotFound { what: "prepared group", uuid })?;
        let machine = reader.need_machine(record.machine)?;
        let volumes = reader.volumes_of(machine.id)?.into_vec()?;
        let left_out = volumes.into_iter().filter(|volume| record.left_out.contains(&volume.uuid));
        let left_out = left_out
            .map(|volume| LeftOutVolume {
                volume_uuid: volume.uuid,
                reason: plan::group::reason_noted(&volume),
                name: volume.name,
            })
            .collect();
        self.hand_out(&reader, &machine, record, left_out)
    }

    /// A handle to a prepared group.
    fn hand_out(
        &self,
        reader: &Reader,
        machine: &MachineRecord,
        record: PreparedRecord,
        left_out: Vec<LeftOutVolume>,
    ) -> Result<PreparedGroup> {
        let pool = &self.pool;
        if !pool.taken_up.0.lock().insert(record.group) {
            return Err(Refusal::BeingPrepared { machine: machine.uuid, group: record.group }.into());
        }
        // From here on the handle gives it back.
        let mut handle = PreparedGroup {
            engine: self.clone(),
            record,
            disks: Vec::new(),
            left_out,
            at_drop: AtDrop::Leave,
        };
        let members = pool.prepared_members(reader, machine, &handle.record)?;
        let planned = pool.plan_to_publish(machine, &members, &handle.record, Consistency::Crash)?;
        for (member, overlay) in members.iter().zip(&planned.overlays) {
            handle.disks.push(pool.show_prepared(machine, &member.disk, &overlay.layer));
        }
        handle.at_drop = AtDrop::Abort;
        Ok(handle)
    }
}

impl PreparedGroup {
    /// The uuid that the group will have.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.record.group
    }

    /// The disks, by device id.
    #[must_use]
    pub fn disks(&self) -> &[PreparedDisk] {
        &self.disks
    }

    /// The volumes of the machine that are not in it.
    #[must_use]
    pub fn left_out(&self) -> &[LeftOutVolume] {
        &self.left_out
    }

    /// Publishes the group: every disk writes to its overlay now. Either every disk has its snapshot and the group is
    /// there, or nothing has changed and the group stays prepared. Durable when it returns, what the other process wrote
    /// to the files of the heads included.
    ///
    /// # Errors
    ///
    /// [`Error::LayerMissing`] or [`Error::LayerDisagrees`] when an overlay is not what was made, or a head not what it
    /// was; [`Error::Storage`]; [`Error::OutcomeUnknown`]. The group is then still prepared, and nothing is removed.
    #[doc = include_str!("../examples/preparing.md")]
    pub fn commit(self, consistency: Consistency) -> Result<CreatedGroup> {
        let engine = self.engine.clone();
        engine.during(Operation::CommitGroup, || self.commit_untold(consistency))
    }

    fn commit_untold(mut self, consistency: Consistency) -> Result<CreatedGroup> {
        self.at_drop = AtDrop::Leave;
        let pool = &self.engine.pool;
        let held = pool.locks.acquire(vec![Key::Machine(self.record.machine)]);
        let reader = pool.read()?;
        let machine = reader.need_machine(self.record.machine)?;
        let members = pool.prepared_members(&reader, &machine, &self.record)?;
        let published = pool.plan_to_publish(&machine, &members, &self.record, consistency)?;
        for (member, overlay) in members.iter().zip(&published.overlays) {
            let (volume, head) = (member.disk.volume.uuid, &member.disk.chain[0]);
            let blob = pool.open_named(volume, &overlay.layer)?;
            pool.check_facts(volume, &overlay.layer, Some(head), &*blob)?;
            // Frozen from now on: what the other process wrote is made durable here, whatever it did itself.
            pool.open_named(volume, head)?.sync()?;
        }
        pool.perform(&published.plan)?;
        drop(held);
        let reader = pool.read()?;
        let refs = reader.refs_of(published.group.id)?;
        let mut inventory = pool.show_group(&reader, &published.group, &refs)?;
        inventory.volumes_left_out = named(&self.left_out);
        let snapshots = inventory.volume_snapshot_refs.iter().map(|member| member.volume_snapshot_uuid);
        self.engine.seal_frozen(snapshots);
        Ok(CreatedGroup { inventory, left_out: std::mem::take(&mut self.left_out), repeated: false })
    }

    /// Gives the group up: no disk writes to its overlay, nor will one. The overlays are removed. Durable when it
    /// returns.
    ///
    /// # Errors
    ///
    /// [`Refusal::OverlayWritten`] when an overlay was written to, [`Error::HeadInUse`] when one is open elsewhere: the
    /// group is then still prepared, and nothing is removed.
    #[doc = include_str!("../examples/preparing.md")]
    pub fn abort(mut self) -> Result<()> {
        self.at_drop = AtDrop::Leave;
        self.give_up(GiveUp::WhatNobodyWrote)
    }

    /// As [`PreparedGroup::abort`], and **throws away what a guest has written** to an overlay.
    ///
    /// # Errors
    ///
    /// [`Error::HeadInUse`] when an overlay is open elsewhere.
    pub fn abort_and_discard(mut self) -> Result<()> {
        self.at_drop = AtDrop::Leave;
        self.give_up(GiveUp::Everything)
    }

    fn give_up(&self, what: GiveUp) -> Result<()> {
        let pool = &self.engine.pool;
        self.engine.during(Operation::AbortGroup, || pool.give_up_prepared(&self.record, what))
    }

    /// Gives the handle back and leaves the group prepared, for [`Engine::resume_group`].
    #[doc = include_str!("../examples/preparing.md")]
    pub fn leave(mut self) {
        self.at_drop = AtDrop::Leave;
    }
}

impl Drop for PreparedGroup {
    fn drop(&mut self) {
        let pool = &self.engine.pool;
        if self.at_drop == AtDrop::Abort {
            // What is refused, or fails, leaves it prepared.
            drop(pool.give_up_prepared(&self.record, GiveUp::WhatNobodyWrote));
        }
        pool.taken_up.0.lock().remove(&self.record.group);
    }
}

impl Pool {
    fn give_up_prepared(&self, record: &PreparedRecord, what: GiveUp) -> Result<()> {
        let _held = self.locks.acquire(vec![Key::Machine(record.machine)]);
        self.admit_change()?;
        let _under_way = self.under_way.read();
        let given_up = give_up(self.store(), &self.catalog, record, what);
        if let Err(error @ Error::OutcomeUnknown(_)) = &given_up {
            self.note_unknown(error);
        }
        given_up.map(drop)
    }

    /// The disks of a prepared group as they are now, in the order of the note.
    fn prepared_members(
        &self,
        reader: &Reader,
        machine: &MachineRecord,
        record: &PreparedRecord,
    ) -> Result<Vec<Member>> {
        let mut view = reader.need_machine_view(machine.id)?;
        let mut members = Vec::with_capacity(record.members.len());
        for noted in &record.members {
            let place = view.disks.iter().position(|disk| disk.volume.id == noted.volume);
            let place = place.ok_or(Refusal::NoDisks { uuid: machine.uuid })?;
            let disk: DiskView = view.disks.swap_remove(place);
            let minted =
                plan::freeze::Minted { snapshot: noted.snapshot, layer: noted.layer, tree: noted.tree };
            let head_allocated = self.open_named(disk.volume.uuid, &disk.chain[0])?.allocated()?;
            members.push(Member { disk, minted, head_allocated });
        }
        Ok(members)
    }

    fn plan_to_publish(
        &self,
        machine: &MachineRecord,
        members: &[Member],
        record: &PreparedRecord,
        consistency: Consistency,
    ) -> Result<plan::live::Published> {
        let at = self.source.now();
        Ok(plan::live::publish(record, machine, members, consistency.into(), at, &self.catalog.ids())?)
    }

    /// The file of a layer, open for reading; nothing is held against whoever writes to it.
    fn open_named(
        &self,
        volume: Uuid,
        record: &LayerRecord,
    ) -> Result<std::sync::Arc<dyn crate::storage::Blob>> {
        let opened = self.store().open(&record.blob, Access::Read);
        opened.map_err(|error| super::layers::unopened(volume, &record.blob, error))
    }

    fn show_prepared(&self, machine: &MachineRecord, disk: &DiskView, overlay: &LayerRecord) -> PreparedDisk {
        let layers = || std::iter::once(overlay).chain(&disk.chain);
        let chain: Vec<ChainFile> = layers()
            .map(|layer| ChainFile {
                path: self.locate(layer.blob.as_str()),
                format: layer.format,
                layer_uuid: layer.uuid,
            })
            .collect();
        PreparedDisk {
            volume_uuid: disk.volume.uuid,
            volume_name: disk.volume.name.clone(),
            device_id: disk.volume.attachment(machine.id).map_or(0, |attachment| attachment.device_id),
            size: disk.volume.size,
            overlay: BlockNode::alone(&chain[0]),
            chain,
        }
    }

    /// Refuses while a group of the machine is being prepared.
    pub(super) fn refuse_prepared(&self, reader: &Reader, machine: &MachineRecord) -> Result<()> {
        match reader.prepared_of(machine.id)? {
            Some(record) => Err(Refusal::BeingPrepared { machine: machine.uuid, group: record.group }.into()),
            None => Ok(()),
        }
    }

    /// Those of these volumes whose group is being prepared, and what they are refused with.
    pub(super) fn prepared_volumes(
        &self,
        reader: &Reader,
        volumes: &[VolumeId],
    ) -> Result<HashMap<VolumeId, Refusal>> {
        let mut prepared = HashMap::new();
        for record in reader.prepared()? {
            let machine = reader.need_machine(record.machine)?.uuid;
            let members = record.members.iter().map(|member| member.volume);
            for volume in members.filter(|volume| volumes.contains(volume)) {
                prepared.insert(volume, Refusal::BeingPrepared { machine, group: record.group });
            }
        }
        Ok(prepared)
    }
}
