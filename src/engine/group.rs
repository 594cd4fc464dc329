//! Groups: all disks of a machine at one moment.

use super::error::Result;
use super::handles::{Volume, WritesHeld};
use super::locks::Key;
use super::perform::Prepared;
use super::pool::{Engine, Pool, kind_of};
use super::uuid_arg::{UuidArg, parse_optional};
use crate::catalog::{Entity, GroupRecord, MachineRecord, Reader, Running, VolumeRecord};
use crate::inventory::GroupInventory;
use crate::plan::freeze::{Disk, check_cap, check_quota};
use crate::plan::group::{GroupWish, LeftOut, Selection, check_root, select};
use crate::plan::refusal::Refusal;
use crate::plan::{self, text};
use uuid::Uuid;

/// Whose disks a group holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupOf {
    /// The machine that this root volume is attached to.
    RootVolume(UuidArg),
    /// This machine.
    Machine(UuidArg),
}

/// A snapshot group to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateGroup {
    /// Whose disks.
    pub of: GroupOf,
    /// The name of the group: 1 to 255 characters, and `<group>-<volume>` at most 255 for each member.
    pub name: String,
    /// Its description, and that of each member: at most 2048 characters.
    pub description: Option<String>,
    /// Volumes of the machine to leave out.
    pub except: Vec<UuidArg>,
    /// Its uuid; a fresh one when absent. The same uuid with the same wish answers the group that is there, so a
    /// call can be repeated after a crash; with another wish it is refused.
    pub resource_uuid: Option<UuidArg>,
    /// Tags by uuid.
    pub tag_uuids: Vec<String>,
    /// The user's tags.
    pub user_tags: Vec<String>,
    /// The system's tags.
    pub system_tags: Vec<String>,
}

impl CreateGroup {
    /// A group of all disks of `of`, with nothing but a name.
    #[must_use]
    pub fn new(of: GroupOf, name: impl Into<String>) -> Self {
        Self {
            of,
            name: name.into(),
            description: None,
            except: Vec::new(),
            resource_uuid: None,
            tag_uuids: Vec::new(),
            user_tags: Vec::new(),
            system_tags: Vec::new(),
        }
    }
}

/// A group that was taken, and what of the machine is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreatedGroup {
    /// The group.
    pub inventory: GroupInventory,
    /// The volumes of the machine that are not in it.
    pub left_out: Vec<LeftOutVolume>,
    /// Whether the group was there already: the same `resource_uuid` with the same wish.
    pub repeated: bool,
}

/// A volume of a machine that is not in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftOutVolume {
    /// The volume.
    pub volume_uuid: Uuid,
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: LeftOut,
}

/// What shall be different about a group. What is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpdateGroup {
    /// A new name: 1 to 255 characters.
    pub name: Option<String>,
    /// A new description: at most 2048 characters; an empty one is a description, too.
    pub description: Option<String>,
}

impl Engine {
    /// Takes a snapshot of all disks of a machine at one moment, as a group. Either every disk has its snapshot
    /// and the group is there, or nothing has changed, whatever crashes when. Durable when it returns.
    ///
    /// The moment is one for all disks: a write that was seen to finish before another one began is in the group
    /// whenever that other one is. Writes wait meanwhile, reads do not.
    ///
    /// # Errors
    ///
    /// In this order, all before anything is written: SYS.1003 when the volume or machine is not there; SYS.1007
    /// when the volume is no root volume or attached to nothing; SYS.1007 for names and descriptions that are
    /// empty or too long, and for malformed tags and uuids; SYS.1002 for a uuid that is taken; SYS.1006 when a
    /// head is missing, not what the catalogue says, not understood, or written by another process; SYS.1006 when
    /// a chain would get too long; ID.1003 for the quota.
    pub fn create_group(&self, request: &CreateGroup) -> Result<CreatedGroup> {
        let pool = &self.pool;
        let machine = self.machine_of(&pool.read()?, &request.of)?;
        let _held = pool.locks.acquire(vec![Key::Machine(machine.id)]);
        let reader = pool.read()?;
        // Attaching takes the machine's lock: from here on its disks are these.
        let machine = self.machine_of(&reader, &request.of)?;
        let wish = parse_wish(request, &machine)?;
        let volumes = reader.volumes_of(machine.id)?.into_vec()?;
        let selection = select(&machine, &volumes, &wish)?;
        let left_out = show_left_out(&selection);
        let wanted = parse_optional(request.resource_uuid.as_ref())?;
        let (uuid, taken) = pool.claim(wanted)?;
        if let Some(inventory) = pool.group_of_repeat(&reader, uuid, &wish, taken)? {
            return Ok(CreatedGroup { inventory, left_out, repeated: true });
        }
        let wish = GroupWish { uuid, ..wish };
        if machine.running == Running::Elsewhere {
            let refused = "its disks must be switched by the process that runs it";
            return Err(Refusal::RunsElsewhere { uuid: machine.uuid, refused }.into());
        }
        let members = pool.open_members(&reader, &selection.members)?;
        for (_, disk) in &members {
            check_cap(disk, pool.options.chain_max)?;
        }
        check_quota(reader.counts()?.snapshots, members.len() as u64, pool.options.snapshots_max)?;

        let group = pool.take_group(&machine, members, &wish)?;
        let reader = pool.read()?;
        let inventory = pool.show_group(&reader, &group, &reader.refs_of(group.id)?)?;
        Ok(CreatedGroup { inventory, left_out, repeated: false })
    }

    /// Gives a group another name or description. Durable when it returns.
    ///
    /// # Errors
    ///
    /// SYS.1003 when there is no such group; SYS.1007 for what is empty or too long.
    pub fn update_group(&self, group: impl Into<UuidArg>, update: &UpdateGroup) -> Result<GroupInventory> {
        let pool = &self.pool;
        let found = pool.group(&pool.read()?, group.into().parse()?)?;
        let _held = pool.locks.acquire(vec![Key::Machine(found.machine)]);
        let reader = pool.read()?;
        let group = pool.group(&reader, found.uuid)?;
        let plan = plan::group::update(
            reader.generation(),
            &group,
            update.name.as_deref(),
            update.description.as_deref(),
            pool.source.now(),
        )?;
        let refs = reader.refs_of(group.id)?;
        match plan {
            None => pool.show_group(&reader, &group, &refs),
            Some((plan, group)) => {
                pool.perform(&plan)?;
                pool.show_group(&pool.read()?, &group, &refs)
            }
        }
    }

    /// Removes a group and keeps its snapshots; its children in the group tree become those of its parent. A
    /// group that is not there is a success. Durable when it returns.
    ///
    /// # Errors
    ///
    /// SYS.1007 for a malformed uuid.
    pub fn ungroup(&self, group: impl Into<UuidArg>) -> Result<()> {
        let pool = &self.pool;
        let uuid = group.into().parse()?;
        let Some(found) = pool.read()?.group_by_uuid(uuid)? else { return Ok(()) };
        let _held = pool.locks.acquire(vec![Key::Machine(found.machine)]);
        let reader = pool.read()?;
        let Some(group) = reader.group(found.id)? else { return Ok(()) };
        let plan = plan::group::ungroup(
            reader.generation(),
            reader.machine(group.machine)?.as_ref(),
            &group,
            &reader.refs_of(group.id)?,
            reader.snapshots_of_group(group.id)?.into_vec()?,
            reader.children_of_group(group.id)?.into_vec()?,
            pool.source.now(),
        );
        pool.perform(&plan)
    }

    /// The machine whose disks a group is asked for.
    fn machine_of(&self, reader: &Reader, of: &GroupOf) -> Result<MachineRecord> {
        match of {
            GroupOf::Machine(machine) => self.machine_record(reader, machine.parse()?),
            GroupOf::RootVolume(volume) => {
                let volume = self.pool.volume(reader, volume.parse()?)?;
                check_root(&volume)?;
                let attachment = volume.attachments.first();
                let attachment = attachment.ok_or(Refusal::NotAttached { uuid: volume.uuid })?;
                Ok(reader.need_machine(attachment.machine)?)
            }
        }
    }
}

/// Parses what the caller chooses about a group.
fn parse_wish(request: &CreateGroup, machine: &MachineRecord) -> Result<GroupWish> {
    let name = text::name("name", &request.name)?;
    let description = text::description(request.description.as_deref())?;
    let tags = text::tags(&request.tag_uuids, &request.user_tags, &request.system_tags)?;
    let mut except: Vec<Uuid> =
        request.except.iter().map(UuidArg::parse).collect::<std::result::Result<_, _>>()?;
    except.sort_unstable();
    except.dedup();
    let mark = text::wish_mark(&[
        "group",
        &machine.uuid.simple().to_string(),
        &name,
        description.as_deref().unwrap_or("\0"),
        &format!("{except:?}"),
        &format!("{tags:?}"),
    ]);
    Ok(GroupWish { uuid: Uuid::nil(), name, description, except, tags, mark })
}

fn show_left_out(selection: &Selection) -> Vec<LeftOutVolume> {
    selection
        .left_out
        .iter()
        .map(|(volume, reason)| LeftOutVolume {
            volume_uuid: volume.uuid,
            name: volume.name.clone(),
            reason: *reason,
        })
        .collect()
}

impl Pool {
    /// A group by its uuid.
    pub(super) fn group(&self, reader: &Reader, uuid: Uuid) -> Result<GroupRecord> {
        Ok(reader.group_by_uuid(uuid)?.ok_or(Refusal::NotFound { what: "group", uuid })?)
    }

    /// What a repeated wish has made before; refused when the uuid was given to another wish.
    fn group_of_repeat(
        &self,
        reader: &Reader,
        uuid: Uuid,
        wish: &GroupWish,
        taken: Option<Entity>,
    ) -> Result<Option<GroupInventory>> {
        match taken {
            None => Ok(None),
            Some(Entity::Group(id)) => {
                let there = reader.need_group(id)?;
                if there.wish != wish.mark {
                    return Err(Refusal::OtherWish { uuid, by: "group" }.into());
                }
                self.show_group(reader, &there, &reader.refs_of(id)?).map(Some)
            }
            Some(other) => Err(Refusal::UuidTaken { uuid, by: kind_of(other) }.into()),
        }
    }

    /// Opens every member and refuses one whose head is missing, another file, or written by somebody else.
    fn open_members(
        self: &std::sync::Arc<Self>,
        reader: &Reader,
        members: &[VolumeRecord],
    ) -> Result<Vec<(Volume, Disk)>> {
        let mut open = Vec::with_capacity(members.len());
        for volume in members {
            let disk = self.disk(reader, volume)?;
            let handle = Volume::open(self, volume)?;
            handle.check_head(&disk.chain[0].blob)?;
            open.push((handle, disk));
        }
        Ok(open)
    }

    /// The moment: all gates are closed, all heads are made durable, all overlays are made, one commit publishes
    /// them, all heads change, all gates open.
    fn take_group(
        &self,
        machine: &MachineRecord,
        members: Vec<(Volume, Disk)>,
        wish: &GroupWish,
    ) -> Result<GroupRecord> {
        let (handles, mut disks): (Vec<Volume>, Vec<Disk>) = members.into_iter().unzip();
        // One order for everybody who closes more than one gate: the machine's lock sees to it.
        let held: Vec<WritesHeld<'_>> = handles.iter().map(Volume::hold_writes).collect();
        let taken = self.freeze_and_publish(machine, &mut disks, &held, wish);
        match taken {
            Ok((group, heads)) => {
                for ((writes, disk), head) in held.iter().zip(&disks).zip(heads) {
                    writes.switch(disk.chain[0].id, head);
                }
                Ok(group)
            }
            Err(error) => {
                for writes in &held {
                    writes.thaw_unless_unknown(&error);
                }
                Err(error)
            }
        }
    }

    fn freeze_and_publish(
        &self,
        machine: &MachineRecord,
        disks: &mut [Disk],
        held: &[WritesHeld<'_>],
        wish: &GroupWish,
    ) -> Result<(GroupRecord, Vec<std::sync::Arc<crate::chain::Layer>>)> {
        for (disk, writes) in disks.iter_mut().zip(held) {
            disk.head_allocated = writes.freeze()?;
        }
        let members: Vec<_> = disks.iter().map(|disk| (disk.clone(), self.mint_member())).collect();
        let (plan, group) = plan::group::create(
            self.catalog.generation(),
            machine,
            &members,
            wish,
            self.source.now(),
            self.options.cluster_bits,
            &self.catalog.ids(),
        )?;
        let heads = self.prepare(&plan).and_then(Prepared::publish)?;
        Ok((group, heads))
    }
}
