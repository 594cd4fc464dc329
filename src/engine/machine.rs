//! Machines: in the books, and out of them. No file is touched.

use super::error::Result;
use super::locks::Key;
use super::operation::Operation;
use super::pool::{Engine, kind_of};
use super::uuid_arg::{UuidArg, parse_optional};
use crate::catalog::{Entity, MachineRecord, Reader, Running};
use crate::inventory::MachineInventory;
use crate::plan::machine::Belongings;
use crate::plan::refusal::Refusal;
use crate::plan::{self, text};
use uuid::Uuid;

/// A machine to be noted in the books.
#[doc = include_str!("examples/machines.md")]
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateMachine {
    /// Its name: 1 to 255 characters.
    pub name: String,
    /// Its description: at most 2048 characters.
    #[serde(default)]
    pub description: Option<String>,
    /// Its uuid; a fresh one when absent. The same uuid with the same name and description answers what is there.
    #[serde(default)]
    pub resource_uuid: Option<UuidArg>,
}

impl CreateMachine {
    /// A machine with nothing but a name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

impl Engine {
    /// Notes a machine. It has no volumes yet. Durable when it returns.
    ///
    /// # Errors
    ///
    /// SYS.1007 for a name or description that is empty or too long, or a malformed uuid; SYS.1002 for a uuid
    /// that is taken.
    #[doc = include_str!("examples/machines.md")]
    pub fn create_machine(&self, request: &CreateMachine) -> Result<MachineInventory> {
        self.during(Operation::CreateMachine, || self.create_machine_untold(request))
    }

    fn create_machine_untold(&self, request: &CreateMachine) -> Result<MachineInventory> {
        let pool = &self.pool;
        let name = text::name("name", &request.name)?;
        let description = text::description(request.description.as_deref())?;
        let wanted = parse_optional(request.resource_uuid.as_ref())?;
        let _held = pool.locks.acquire(vec![Key::New]);
        let (uuid, taken) = pool.claim(wanted)?;
        let reader = pool.read()?;
        match taken {
            None => {}
            Some(Entity::Machine(id)) => {
                let there = reader.need_machine(id)?;
                if (&there.name, &there.description) != (&name, &description) {
                    return Err(Refusal::OtherWish { uuid, by: "machine" }.into());
                }
                return pool.show_machine(&reader, &there);
            }
            Some(other) => return Err(Refusal::UuidTaken { uuid, by: kind_of(other) }.into()),
        }
        let (plan, machine) =
            plan::machine::create(uuid, name, description, pool.source.now(), &pool.catalog.ids());
        pool.perform(&plan)?;
        pool.show_machine(&pool.read()?, &machine)
    }

    /// Takes a machine out of the books: its volumes are detached, its groups go, the snapshots and all files
    /// stay. A machine that is not there is a success. Durable when it returns.
    ///
    /// # Errors
    ///
    /// SYS.1007 for a malformed uuid; SYS.1006 when it runs in another process.
    #[doc = include_str!("examples/machines.md")]
    pub fn delete_machine(&self, machine: impl Into<UuidArg>) -> Result<()> {
        self.during(Operation::DeleteMachine, || self.delete_machine_untold(machine))
    }

    fn delete_machine_untold(&self, machine: impl Into<UuidArg>) -> Result<()> {
        let pool = &self.pool;
        let uuid = machine.into().parse()?;
        let Some(found) = pool.read()?.machine_by_uuid(uuid)? else { return Ok(()) };
        let _held = pool.lock_machine_and_volumes(found.id)?;
        let reader = pool.read()?;
        let Some(machine) = reader.machine(found.id)? else { return Ok(()) };
        let mut belongings = Belongings {
            volumes: reader.volumes_of(machine.id)?.into_vec()?,
            groups: Vec::new(),
            snapshots: Vec::new(),
        };
        for group in reader.groups_of(machine.id)?.into_vec()? {
            belongings.snapshots.extend(reader.snapshots_of_group(group.id)?.into_vec()?);
            let refs = reader.refs_of(group.id)?;
            belongings.groups.push((group, refs));
        }
        let plan = plan::machine::delete(&machine, belongings, pool.source.now())?;
        pool.perform(&plan)
    }

    /// Notes whether another process has the machine's disks open. While one has, nothing is done here that
    /// would write below its heads or change them under it. Durable when it returns.
    ///
    /// # Errors
    ///
    /// SYS.1003 when there is no such machine; SYS.1006 when a disk of it is open in this process, or a group of
    /// it is being prepared.
    #[doc = include_str!("examples/machines.md")]
    pub fn set_running(&self, machine: impl Into<UuidArg>, running: Running) -> Result<MachineInventory> {
        self.during(Operation::SetRunning, || self.set_running_untold(machine, running))
    }

    fn set_running_untold(&self, machine: impl Into<UuidArg>, running: Running) -> Result<MachineInventory> {
        let pool = &self.pool;
        let found = self.machine_record(&pool.read()?, machine.into().parse()?)?;
        let _held = pool.locks.acquire(vec![Key::Machine(found.id)]);
        let reader = pool.read()?;
        let machine = self.machine_record(&reader, found.uuid)?;
        pool.refuse_prepared(&reader, &machine)?;
        if running == Running::Elsewhere {
            let volumes = reader.volumes_of(machine.id)?.into_vec()?;
            for volume in &volumes {
                if pool.open_volumes.has(volume.id) {
                    return Err(Refusal::VolumeOpen { uuid: volume.uuid }.into());
                }
            }
            pool.settle_disks(&volumes)?;
        }
        let (plan, machine) = plan::machine::run(&machine, running, pool.source.now());
        pool.perform(&plan)?;
        pool.show_machine(&pool.read()?, &machine)
    }

    pub(super) fn machine_record(&self, reader: &Reader, uuid: Uuid) -> Result<MachineRecord> {
        let found = reader.machine_by_uuid(uuid)?;
        Ok(found.ok_or(Refusal::NotFound { what: "machine", uuid })?)
    }
}
