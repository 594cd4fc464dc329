//! What becomes of a group without its snapshots: another name, or none.

use super::error::Result;
use super::locks::Key;
use super::operation::Operation;
use super::pool::{Engine, Pool};
use super::uuid_arg::UuidArg;
use crate::catalog::VolumeId;
use crate::inventory::GroupInventory;
use crate::plan::books::Books;
use crate::plan::{self, Plan};

/// What shall be different about a group. What is `None` stays as it is.
#[doc = include_str!("examples/groups.md")]
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpdateGroup {
    /// A new name: 1 to 255 characters.
    pub name: Option<String>,
    /// A new description: at most 2048 characters; an empty one is a description, too.
    pub description: Option<String>,
}

impl Engine {
    /// Gives a group another name or description. Durable when it returns.
    ///
    /// # Errors
    ///
    /// SYS.1003 when there is no such group; SYS.1007 for what is empty or too long.
    #[doc = include_str!("examples/groups.md")]
    pub fn update_group(&self, group: impl Into<UuidArg>, update: &UpdateGroup) -> Result<GroupInventory> {
        self.during(Operation::UpdateGroup, || self.update_group_untold(group, update))
    }

    fn update_group_untold(&self, group: impl Into<UuidArg>, update: &UpdateGroup) -> Result<GroupInventory> {
        let pool = &self.pool;
        let found = pool.group(&pool.read()?, group.into().parse()?)?;
        let _held = pool.locks.acquire(vec![Key::Machine(found.machine)]);
        let reader = pool.read()?;
        let group = pool.group(&reader, found.uuid)?;
        let plan = plan::group::update(
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
    #[doc = include_str!("examples/groups.md")]
    pub fn ungroup(&self, group: impl Into<UuidArg>) -> Result<()> {
        self.during(Operation::Ungroup, || self.ungroup_untold(group))
    }

    fn ungroup_untold(&self, group: impl Into<UuidArg>) -> Result<()> {
        let pool = &self.pool;
        let uuid = group.into().parse()?;
        // The volumes, too, wherever they are: whoever moves the bytes of a snapshot changes its record.
        let (_held, reader, found) = pool.lock_found(|reader| {
            let Some(group) = reader.group_by_uuid(uuid)? else { return Ok((Vec::new(), None)) };
            let members = reader.snapshots_of_group(group.id)?.into_vec()?;
            let mut volumes: Vec<VolumeId> = members.iter().map(|snapshot| snapshot.volume).collect();
            volumes.sort_unstable();
            volumes.dedup();
            let keys = Pool::keys_around(reader, volumes.iter().copied(), [group.id])?;
            Ok((keys, Some((group, volumes))))
        })?;
        let Some((group, volumes)) = found else { return Ok(()) };
        let mut books = Books::open(reader.holdings(&volumes, &[group.id])?);
        plan::group::ungroup(&mut books, group.id, pool.source.now());
        let plan = Plan { edits: books.edits(), ..Plan::default() };
        pool.perform(&plan)
    }
}
