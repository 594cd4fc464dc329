//! How groups hang together, and whether a machine could go back to one.

use super::error::Result;
use super::operation::Operation;
use super::pool::{Engine, Pool};
use super::seal::VerifyDepth;
use super::uuid_arg::UuidArg;
use crate::catalog::{GroupRecord, Reader, RefRecord, Sharing, VolumeKind, VolumeRecord};
use crate::inventory::{AvailabilityInventory, Forest, GroupTreeInventory, Named, UnavailableReason};
use crate::plan::refusal::Refusal;

impl Engine {
    /// Whether the machine of each group could go back to it, with every reason why not, in the order asked.
    ///
    /// # Errors
    ///
    /// SYS.1007 for a malformed uuid or an empty list; SYS.1003 for a group that is not there: then nothing is
    /// answered for any.
    #[doc = include_str!("examples/groups.md")]
    pub fn check_availability<I>(&self, groups: I) -> Result<Vec<AvailabilityInventory>>
    where
        I: IntoIterator,
        I::Item: Into<UuidArg>,
    {
        let reader = self.pool.read()?;
        let mut found = Vec::new();
        for group in groups {
            found.push(self.pool.group(&reader, group.into().parse()?)?);
        }
        if found.is_empty() {
            return Err(Refusal::Empty { field: "list of groups" }.into());
        }
        found.iter().map(|group| self.pool.availability(&reader, group)).collect()
    }

    /// As [`Engine::check_availability`], and looks at the files, too: a living member one of whose files is missing, is
    /// not what the catalogue says, or does not hold what its seal says is a reason ([`Engine::verify`] tells which).
    ///
    /// # Errors
    ///
    /// As [`Engine::check_availability`].
    #[doc = include_str!("examples/sealing.md")]
    pub fn check_availability_deep<I>(
        &self,
        groups: I,
        depth: VerifyDepth,
    ) -> Result<Vec<AvailabilityInventory>>
    where
        I: IntoIterator,
        I::Item: Into<UuidArg>,
    {
        self.during(Operation::CheckAvailability, || self.check_availability_deep_untold(groups, depth))
    }

    fn check_availability_deep_untold<I>(
        &self,
        groups: I,
        depth: VerifyDepth,
    ) -> Result<Vec<AvailabilityInventory>>
    where
        I: IntoIterator,
        I::Item: Into<UuidArg>,
    {
        let pool = &self.pool;
        let mut answers = self.check_availability(groups)?;
        for answer in &mut answers {
            let reader = pool.read()?;
            let Some(group) = reader.group_by_uuid(answer.uuid)? else { continue };
            let mut damaged = Vec::new();
            for member in reader.refs_of(group.id)? {
                let Some(snapshot) = reader.snapshot(member.snapshot)? else { continue };
                if !pool.is_chain_good(snapshot.layer, depth)? {
                    damaged.push(named_snapshot(&member));
                }
            }
            if !damaged.is_empty() {
                answer.reasons.push(UnavailableReason::FilesDamaged { snapshots: damaged });
                *answer = AvailabilityInventory::new(answer.uuid, std::mem::take(&mut answer.reasons));
            }
        }
        Ok(answers)
    }

    /// The groups of a machine as a tree: each under the group that its disks descended from, as it was noted
    /// when it was taken.
    ///
    /// # Errors
    ///
    /// SYS.1007 for a malformed uuid; SYS.1003 when there is no such machine.
    #[doc = include_str!("examples/groups.md")]
    pub fn group_tree(&self, machine: impl Into<UuidArg>) -> Result<Forest<GroupTreeInventory>> {
        let pool = &self.pool;
        let reader = pool.read()?;
        let machine = self.machine_record(&reader, machine.into().parse()?)?;
        let mut groups = Vec::new();
        for group in reader.groups_of(machine.id)?.into_vec()? {
            let refs = reader.refs_of(group.id)?;
            groups.push(pool.show_group(&reader, &group, &refs)?);
        }
        let current = match machine.group_current {
            Some(group) => reader.group(group)?.map(|group| group.uuid),
            None => None,
        };
        Ok(GroupTreeInventory::forest(groups, current))
    }
}

impl Pool {
    /// Compares the members of a group with the disks that its machine has now.
    pub(super) fn availability(&self, reader: &Reader, group: &GroupRecord) -> Result<AvailabilityInventory> {
        let refs = reader.refs_of(group.id)?;
        let attached = reader.volumes_of(group.machine)?.into_vec()?;
        let has_memory = refs.iter().any(|member| member.volume_kind == VolumeKind::Memory);
        let counts = |kind| kind != VolumeKind::Memory || has_memory;

        let deleted: Vec<Named> =
            refs.iter().filter(|member| member.snapshot_deleted).map(named_snapshot).collect();
        let detached: Vec<Named> = refs
            .iter()
            .filter(|member| !member.snapshot_deleted && counts(member.volume_kind))
            .filter(|member| !attached.iter().any(|volume| volume.id == member.volume))
            .map(|member| Named { uuid: member.volume_uuid, name: member.volume_name.clone() })
            .collect();
        let attached_since: Vec<Named> = attached
            .iter()
            .filter(|volume| volume.sharing == Sharing::Exclusive && counts(volume.kind))
            .filter(|volume| !refs.iter().any(|member| member.volume == volume.id))
            .filter(|volume| !group.left_out.contains(&volume.uuid))
            .map(named_volume)
            .collect();

        let mut reasons = Vec::new();
        if !deleted.is_empty() {
            reasons.push(UnavailableReason::MembersDeleted { snapshots: deleted });
        }
        if !detached.is_empty() {
            reasons.push(UnavailableReason::VolumesDetached { volumes: detached });
        }
        if !attached_since.is_empty() {
            reasons.push(UnavailableReason::VolumesAttachedSince { volumes: attached_since });
        }
        Ok(AvailabilityInventory::new(group.uuid, reasons))
    }
}

fn named_snapshot(member: &RefRecord) -> Named {
    Named { uuid: member.snapshot_uuid, name: member.snapshot_name.clone() }
}

fn named_volume(volume: &VolumeRecord) -> Named {
    Named { uuid: volume.uuid, name: volume.name.clone() }
}
