//! The first phase: overlays that nobody writes to yet.

use super::super::error::Result;
use super::super::full::Taking;
use super::super::group::{CreateGroup, parse_wish, show_left_out};
use super::super::operation::Operation;
use super::super::pool::{Engine, Pool};
use super::super::uuid_arg::parse_optional;
use super::PreparedGroup;
use crate::catalog::{DiskView, MachineRecord, Running};
use crate::plan::group::{GroupWish, Member, WithMemory, select};
use crate::plan::refusal::Refusal;
use crate::plan::{self};
use crate::units::ByteCount;

impl Engine {
    /// Makes the overlays of a group for a machine that another process runs ([`Engine::set_running`]), and notes them.
    /// No disk is frozen yet: the caller lets the other process switch each disk to its overlay, all at one moment, and
    /// then says [`PreparedGroup::commit`]. Durable when it returns. [`Engine::create_group_live`] does all of it.
    ///
    /// The heads are not opened for writing, and nothing is held against whoever writes to them. Until the group is
    /// committed or aborted no other group of the machine is prepared, no volume is attached to it, and no snapshot of
    /// its disks is deleted; what can be read is read on.
    ///
    /// After a crash the group is aborted by the next opening of the pool, or kept: see [`OpenPrepared`].
    ///
    /// [`OpenPrepared`]: super::super::OpenPrepared
    ///
    /// # Errors
    ///
    /// As [`Engine::create_group`]; SYS.1006 when the machine does not run in another process or a group of it is being
    /// prepared, and for a group in full: disks that another process writes to cannot be copied;
    /// [`Refusal::GroupThere`] when the same request has taken its group already.
    #[doc = include_str!("../examples/preparing.md")]
    pub fn prepare_group(&self, request: &CreateGroup) -> Result<PreparedGroup> {
        self.during(Operation::PrepareGroup, || self.prepare_group_untold(request))
    }

    fn prepare_group_untold(&self, request: &CreateGroup) -> Result<PreparedGroup> {
        let pool = &self.pool;
        let (held, reader, machine) = self.lock_machine_of(&request.of)?;
        let wish = parse_wish(request, &machine)?;
        let (uuid, taken) = pool.claim(parse_optional(request.resource_uuid.as_ref())?)?;
        if pool.group_of_repeat(uuid, &wish, taken)?.is_some() {
            return Err(Refusal::GroupThere { uuid }.into());
        }
        if machine.running == Running::Here {
            return Err(Refusal::RunsHere { uuid: machine.uuid }.into());
        }
        pool.refuse_prepared(&reader, &machine)?;
        if request.memory == WithMemory::Yes {
            return Err(
                Refusal::NotYet { what: "a group with the memory of a machine that runs elsewhere" }.into()
            );
        }
        let selection = select(reader.need_machine_view(machine.id)?, &wish)?;
        let left_out = show_left_out(&selection);
        let wish =
            GroupWish { uuid, left_out: left_out.iter().map(|volume| volume.volume_uuid).collect(), ..wish };
        let mut adding = Vec::with_capacity(selection.members.len());
        let mut members = Vec::with_capacity(selection.members.len());
        for disk in selection.members {
            pool.check_live_disk(&machine, &disk)?;
            if pool.way_to_take(&disk, request.mode)? == Taking::Copied {
                let refused = "its disks cannot be copied here";
                return Err(Refusal::RunsElsewhere { uuid: machine.uuid, refused }.into());
            }
            adding.push(pool.amount_added(&disk, Taking::Frozen)?);
            members.push(Member { disk, minted: pool.mint_member(), head_allocated: ByteCount::ZERO });
        }
        pool.check_quota(&reader, adding.into_iter().sum())?;
        let (at, bits) = (pool.source.now(), pool.options.cluster_bits);
        let (plan, record) = plan::live::prepare(&machine, &members, &wish, at, bits, &pool.catalog.ids())?;
        // The images are closed again, and what was held of them is given back: they are the other process's to open.
        pool.perform(&plan)?;
        drop(held);
        self.hand_out(&pool.read()?, &machine, record, left_out)
    }
}

impl Pool {
    /// Refuses a disk whose head is missing or not what the catalogue says.
    fn check_live_disk(&self, machine: &MachineRecord, disk: &DiskView) -> Result<()> {
        let (volume, chain) = (disk.volume.uuid, &disk.chain);
        if self.open_volumes.has(disk.volume.id) {
            return Err(Refusal::VolumeOpen { uuid: volume }.into());
        }
        debug_assert!(disk.volume.attachment(machine.id).is_some(), "a disk of the machine");
        let head = self.open_named(volume, &chain[0])?;
        self.check_facts(volume, &chain[0], chain.get(1), &*head)?;
        chain.get(1).map_or(Ok(()), |below| self.open_named(volume, below).map(drop))
    }
}
