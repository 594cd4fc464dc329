//! Groups: all disks of a machine at one moment.

use super::delete::refuse_stale;
use super::error::Result;
use super::full::Taking;
use super::generation::Generation;
use super::handles::{Volume, WritesHeld};
use super::locks::{Held, Key};
use super::operation::Operation;
use super::plans::{CreatePlan, PlannedMember};
use super::pool::{Engine, Pool, kind_of};
use super::reclaim::Figures;
use super::uuid_arg::{UuidArg, parse_optional};
use crate::catalog::{Consistency, DiskView, Entity, GroupRecord, LayerId, MachineRecord, Reader, Running};
use crate::chain::Layer;
use crate::inventory::{GroupInventory, Named};
use crate::plan::full::SnapshotMode;
use crate::plan::group::{GroupWish, LeftOut, Member, Selection, WithMemory, check_root, select};
use crate::plan::quota::Amount;
use crate::plan::refusal::Refusal;
use crate::plan::{self, text};
use crate::units::ByteCount;
use std::sync::Arc;
use uuid::Uuid;

/// Whose disks a group holds.
#[doc = include_str!("examples/groups.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupOf {
    /// The machine that this root volume is attached to.
    RootVolume(UuidArg),
    /// This machine.
    Machine(UuidArg),
}

/// A snapshot group to be taken.
///
/// ```
/// use snapgroup::{CreateGroup, Uuid};
///
/// # let (machine, scratch) = (Uuid::nil(), Uuid::nil());
/// let nightly = CreateGroup {
///     description: Some("before the upgrade".into()),
///     // A disk that nobody would go back to.
///     except: vec![scratch.into()],
///     // Said once, a call whose answer was lost can be repeated.
///     resource_uuid: Some("4b13e23059033e2dbfac63b5b16eba11".into()),
///     user_tags: vec!["nightly".into()],
///     ..CreateGroup::of_machine(machine, "monday")
/// };
/// // Of the machine that a root volume is attached to; without a file of any other group below it.
/// let copied = CreateGroup::of_root_volume(Uuid::nil(), "monday").in_full();
/// assert_eq!(copied, CreateGroup::new(copied.of.clone(), "monday").in_full());
/// # drop(nightly);
/// ```
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
    /// Whether the memory volume of the machine is a member, too. Default: it is left out.
    pub memory: WithMemory,
    /// Whether disks are copied.
    pub mode: SnapshotMode,
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
    /// A group of all disks of a machine.
    #[must_use]
    pub fn of_machine(machine: impl Into<UuidArg>, name: impl Into<String>) -> Self {
        Self::new(GroupOf::Machine(machine.into()), name)
    }

    /// A group of all disks of the machine that this root volume is attached to.
    #[must_use]
    pub fn of_root_volume(volume: impl Into<UuidArg>, name: impl Into<String>) -> Self {
        Self::new(GroupOf::RootVolume(volume.into()), name)
    }

    /// A group of all disks of `of`, with nothing but a name.
    #[must_use]
    pub fn new(of: GroupOf, name: impl Into<String>) -> Self {
        Self {
            of,
            name: name.into(),
            description: None,
            except: Vec::new(),
            memory: WithMemory::default(),
            mode: SnapshotMode::default(),
            resource_uuid: None,
            tag_uuids: Vec::new(),
            user_tags: Vec::new(),
            system_tags: Vec::new(),
        }
    }

    /// The same group, the memory volume of the machine among its members.
    #[doc = include_str!("examples/memory.md")]
    #[must_use]
    pub fn with_memory(self) -> Self {
        Self { memory: WithMemory::Yes, ..self }
    }

    /// The same group, each disk copied: see [`SnapshotMode::Full`].
    #[must_use]
    pub fn in_full(self) -> Self {
        Self { mode: SnapshotMode::Full, ..self }
    }
}

/// A group that was taken, and what of the machine is not in it.
#[doc = include_str!("examples/groups.md")]
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
#[doc = include_str!("examples/groups.md")]
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

impl Engine {
    /// Takes a snapshot of all disks of a machine at one moment, as a group. Either every disk has its snapshot
    /// and the group is there, or nothing has changed, whatever crashes when. Durable when it returns.
    ///
    /// The moment is one for all disks: a write that was seen to finish before another one began is in the group
    /// whenever that other one is. Writes wait meanwhile; reads wait no longer than the flush of their disk takes.
    /// Where a disk is copied ([`SnapshotMode::Full`], [`ChainFull::Full`](super::ChainFull::Full)), that is done
    /// while it is written on, and the call returns when it is done; meanwhile no other call changes the machine.
    ///
    /// # Errors
    ///
    /// In this order, all before anything is written: SYS.1003 when the volume or machine is not there; SYS.1007
    /// when the volume is no root volume or attached to nothing; SYS.1007 for names and descriptions that are
    /// empty or too long, and for malformed tags and uuids; SYS.1002 for a uuid that is taken; SYS.1006 when a
    /// head is missing, not what the catalogue says, not understood, or written by another process; SYS.1006 when
    /// a chain would get too long; ID.1003 for the quota.
    #[doc = include_str!("examples/groups.md")]
    pub fn create_group(&self, request: &CreateGroup) -> Result<CreatedGroup> {
        self.during(Operation::CreateGroup, || self.create_group_untold(request))
    }

    fn create_group_untold(&self, request: &CreateGroup) -> Result<CreatedGroup> {
        self.admit(request, None)?;
        self.create_group_at(request, None)
    }

    /// Takes a group, once room is made; refuses when the catalogue is not at the generation `expected`.
    pub(super) fn create_group_at(
        &self,
        request: &CreateGroup,
        expected: Option<u64>,
    ) -> Result<CreatedGroup> {
        let pool = &self.pool;
        // Attaching takes the machine's lock: from here on its disks are these.
        let (held, reader, machine) = self.lock_machine_of(&request.of)?;
        let wish = parse_wish(request, &machine)?;
        let wanted = parse_optional(request.resource_uuid.as_ref())?;
        let (uuid, taken) = pool.claim(wanted)?;
        let view = reader.need_machine_view(machine.id)?;
        if let Some(inventory) = pool.group_of_repeat(uuid, &wish, taken)? {
            // The machine may have other disks by now; what was taken then is what counts.
            let left_out = select(view, &wish).map_or_else(|_| Vec::new(), |now| show_left_out(&now));
            return Ok(CreatedGroup { inventory, left_out, repeated: true });
        }
        refuse_stale(&reader, expected)?;
        let selection = select(view, &wish)?;
        let left_out = show_left_out(&selection);
        let left_out_uuids = left_out.iter().map(|volume| volume.volume_uuid).collect();
        let wish = GroupWish { uuid, left_out: left_out_uuids, ..wish };
        refuse_running(&machine)?;
        let opened = selection.members.into_iter().map(|disk| Volume::open_to_freeze(pool, disk));
        let (handles, disks): (Vec<Volume>, Vec<DiskView>) =
            opened.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let ways = disks.iter().map(|disk| pool.way_to_take(disk, request.mode));
        let ways = ways.collect::<std::result::Result<Vec<Taking>, Refusal>>()?;
        pool.check_quota(&reader, pool.amounts_added(&disks, &ways)?)?;

        let heads: Vec<LayerId> = disks.iter().map(|disk| disk.chain[0].id).collect();
        let taken = match ways.contains(&Taking::Copied) {
            true => pool.take_group_in_full(&machine, &handles, disks, &ways, &wish, expected),
            false => pool.take_group(&machine, &handles, disks, &wish, expected),
        };
        drop(held);
        self.tidy_up_after_full(&ways, &heads, &taken);
        let group = taken?;
        let reader = pool.read()?;
        let mut inventory = pool.show_group(&reader, &group, &reader.refs_of(group.id)?)?;
        inventory.volumes_left_out = named(&left_out);
        drop(handles);
        self.seal_frozen(inventory.volume_snapshot_refs.iter().map(|member| member.volume_snapshot_uuid));
        Ok(CreatedGroup { inventory, left_out, repeated: false })
    }

    /// Makes room in full chains, unless something is wrong with the request: then nothing is merged.
    pub(super) fn admit(&self, request: &CreateGroup, expected: Option<u64>) -> Result<()> {
        let reader = self.pool.read()?;
        refuse_stale(&reader, expected)?;
        let wish = parse_wish(request, &self.machine_of(&reader, &request.of)?)?;
        parse_optional(request.resource_uuid.as_ref())?;
        self.make_room(&reader, request, &wish)
    }

    /// What taking a group would do, and who refuses.
    pub(super) fn foretell_group(&self, request: &CreateGroup) -> Result<CreatePlan> {
        let pool = &self.pool;
        let (_held, reader, machine) = self.lock_machine_of(&request.of)?;
        let wish = parse_wish(request, &machine)?;
        let (_, taken) = pool.claim(parse_optional(request.resource_uuid.as_ref())?)?;
        let uuid = parse_optional(request.resource_uuid.as_ref())?.unwrap_or_default();
        pool.group_of_repeat(uuid, &wish, taken)?;
        let view = reader.need_machine_view(machine.id)?;
        let selection = select(view, &wish)?;
        let mut plan = CreatePlan {
            generation: Generation(reader.generation()),
            members: Vec::with_capacity(selection.members.len()),
            left_out: show_left_out(&selection),
            refused: None,
            figures: Figures::default(),
            makes_room: false,
            request: request.clone(),
        };
        let ready = selection.members.iter().map(|disk| match machine.running {
            Running::Elsewhere => Ok(()),
            Running::Here => Volume::open_to_freeze(pool, disk.clone()).map(drop),
        });
        let ready: Vec<Result<()>> = ready.collect();
        let room = pool.foretell_room(&reader, &selection.members, request.mode)?;
        (plan.figures, plan.makes_room) = (room.figures, room.is_made);
        let mut adding = Vec::with_capacity(selection.members.len());
        for ((disk, ready), (left, grown)) in selection.members.iter().zip(ready).zip(&room.disks) {
            let way = ready.and_then(|()| Ok(pool.way_to_take(left, request.mode)?));
            let foretold = pool.foretell_taking(disk, left.chain.len(), way.as_ref().ok(), &mut plan.figures);
            // A disk that refuses adds nothing that could be known, but is counted.
            let amount = way.as_ref().ok().and_then(|way| pool.amount_added(disk, *way).ok());
            let amount = amount.unwrap_or(Amount { snapshots: 1, bytes: ByteCount::ZERO });
            adding.push(Amount { bytes: amount.bytes + *grown, ..amount });
            plan.members.push(PlannedMember {
                volume_uuid: disk.volume.uuid,
                name: text::joined_name(&wish.name, &disk.volume.name)?,
                mode: match way {
                    Ok(Taking::Copied) => SnapshotMode::Full,
                    _ => SnapshotMode::Incremental,
                },
                refused: way.map(drop).and(foretold).err().map(|error| error.to_error_code()),
            });
        }
        let counted = pool.check_quota(&reader, adding.into_iter().sum());
        let refused = refuse_running(&machine).and(counted).err();
        plan.refused = refused.map(|error| error.to_error_code());
        let is_copied =
            |(_, member): &(_, &PlannedMember)| member.mode == SnapshotMode::Full && member.refused.is_none();
        let members = selection.members.iter().zip(&plan.members);
        let copied: Vec<&DiskView> = members.filter(is_copied).map(|(disk, _)| disk).collect();
        pool.foretell_left(&reader, &copied, &mut plan.figures)?;
        Ok(plan)
    }

    /// Locks the machine whose disks a group is asked for. The root volume may have moved to another machine while
    /// the lock was waited for; then it is that one's lock that counts.
    pub(super) fn lock_machine_of(&self, of: &GroupOf) -> Result<(Held, Reader, MachineRecord)> {
        loop {
            let before = self.machine_of(&self.pool.read()?, of)?;
            let held = self.pool.locks.acquire(vec![Key::Machine(before.id)]);
            let reader = self.pool.read()?;
            let now = self.machine_of(&reader, of)?;
            if now.id == before.id {
                return Ok((held, reader, now));
            }
        }
    }

    /// The machine whose disks a group is asked for.
    pub(super) fn machine_of(&self, reader: &Reader, of: &GroupOf) -> Result<MachineRecord> {
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

fn refuse_running(machine: &MachineRecord) -> Result<()> {
    match machine.running {
        Running::Here => Ok(()),
        Running::Elsewhere => {
            let refused = "its disks must be switched by the process that runs it";
            Err(Refusal::RunsElsewhere { uuid: machine.uuid, refused }.into())
        }
    }
}

/// Parses what the caller chooses about a group.
pub(super) fn parse_wish(request: &CreateGroup, machine: &MachineRecord) -> Result<GroupWish> {
    let name = text::name("name", &request.name)?;
    let description = text::description(request.description.as_deref())?;
    let tags = text::tags(&request.tag_uuids, &request.user_tags, &request.system_tags)?;
    let mut except: Vec<Uuid> =
        request.except.iter().map(UuidArg::parse).collect::<std::result::Result<_, _>>()?;
    except.sort_unstable();
    except.dedup();
    let machine_uuid = machine.uuid.simple().to_string();
    let (except_text, tags_text) = (format!("{except:?}"), format!("{tags:?}"));
    let mut parts = vec![
        "group",
        machine_uuid.as_str(),
        name.as_str(),
        description.as_deref().unwrap_or("\0"),
        &except_text,
        &tags_text,
    ];
    parts.extend(request.mode.wish_part());
    parts.extend(request.memory.wish_part());
    let mark = text::wish_mark(&parts);
    Ok(GroupWish {
        uuid: Uuid::nil(),
        name,
        description,
        except,
        memory: request.memory,
        tags,
        mark,
        left_out: Vec::new(),
        consistency: Consistency::Crash,
    })
}

pub(super) fn show_left_out(selection: &Selection) -> Vec<LeftOutVolume> {
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

/// The volumes that are not in a group, as its inventory names them.
pub(super) fn named(left_out: &[LeftOutVolume]) -> Vec<Named> {
    left_out.iter().map(|volume| Named { uuid: volume.volume_uuid, name: volume.name.clone() }).collect()
}

impl Pool {
    /// A group by its uuid.
    pub(super) fn group(&self, reader: &Reader, uuid: Uuid) -> Result<GroupRecord> {
        Ok(reader.group_by_uuid(uuid)?.ok_or(Refusal::NotFound { what: "group", uuid })?)
    }

    /// What a repeated wish has made before; refused when the uuid was given to another wish.
    pub(super) fn group_of_repeat(
        &self,
        uuid: Uuid,
        wish: &GroupWish,
        taken: Option<Entity>,
    ) -> Result<Option<GroupInventory>> {
        match taken {
            None => Ok(None),
            Some(Entity::Group(id)) => {
                let reader = self.read()?;
                let there = reader.need_group(id)?;
                if there.wish != wish.mark {
                    return Err(Refusal::OtherWish { uuid, by: "group" }.into());
                }
                self.show_group(&reader, &there, &reader.refs_of(id)?).map(Some)
            }
            Some(other) => Err(Refusal::UuidTaken { uuid, by: kind_of(other) }.into()),
        }
    }

    /// The moment: all gates are closed, all heads are made durable, all overlays are made, one commit publishes
    /// them, all heads change, all gates open.
    fn take_group(
        &self,
        machine: &MachineRecord,
        handles: &[Volume],
        disks: Vec<DiskView>,
        wish: &GroupWish,
        expected: Option<u64>,
    ) -> Result<GroupRecord> {
        // One order for everybody who closes more than one gate: the machine's lock sees to it.
        let held: Vec<WritesHeld<'_>> = handles.iter().map(Volume::hold_writes).collect();
        let frozen: Vec<LayerId> = disks.iter().map(|disk| disk.chain[0].id).collect();
        match self.freeze_and_publish(machine, &held, disks, wish, expected) {
            Ok((group, heads)) => {
                for ((writes, frozen), head) in held.iter().zip(frozen).zip(heads) {
                    writes.switch(frozen, head);
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
        held: &[WritesHeld<'_>],
        disks: Vec<DiskView>,
        wish: &GroupWish,
        expected: Option<u64>,
    ) -> Result<(GroupRecord, Vec<Arc<Layer>>)> {
        let mut members = Vec::with_capacity(disks.len());
        for (mut disk, writes) in disks.into_iter().zip(held) {
            let head_allocated = writes.freeze(&mut disk.chain[0])?;
            members.push(Member { disk, minted: self.mint_member(), head_allocated });
        }
        // Again, now that what the heads take up is known to the last byte.
        let amounts = members.iter().map(|member| Amount { snapshots: 1, bytes: member.head_allocated });
        self.check_quota(&self.read()?, amounts.sum())?;
        let (plan, group) = plan::group::create(
            machine,
            &members,
            wish,
            self.source.now(),
            self.options.cluster_bits,
            &self.catalog.ids(),
        )?;
        let heads = self.prepare(&plan)?.publish_at(expected)?;
        Ok((group, heads))
    }
}
