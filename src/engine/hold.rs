//! Snapshots that are changed where they are: held, let go, renamed.

use super::error::Result;
use super::operation::Operation;
use super::pool::{Engine, Pool};
use super::uuid_arg::UuidArg;
use crate::catalog::{Edit, SnapshotRecord};
use crate::inventory::SnapshotInventory;
use crate::plan::refusal::Refusal;
use crate::plan::{Plan, text};
use uuid::Uuid;

/// New text for a snapshot. What is `None` stays.
#[doc = include_str!("examples/holds.md")]
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpdateSnapshot {
    /// Its name: 1 to 255 characters.
    pub name: Option<String>,
    /// Its description: at most 2048 characters.
    pub description: Option<String>,
}

impl Engine {
    /// Gives a snapshot another name or description. The copies in its group stay as they are: they say what it was
    /// called when the group was taken. Durable when it returns.
    ///
    /// # Errors
    ///
    /// SYS.1003 when there is no such snapshot; SYS.1007 for what is empty or too long.
    #[doc = include_str!("examples/holds.md")]
    pub fn update_snapshot(
        &self,
        snapshot: impl Into<UuidArg>,
        update: &UpdateSnapshot,
    ) -> Result<SnapshotInventory> {
        self.during(Operation::UpdateSnapshot, || self.update_snapshot_untold(snapshot, update))
    }

    fn update_snapshot_untold(
        &self,
        snapshot: impl Into<UuidArg>,
        update: &UpdateSnapshot,
    ) -> Result<SnapshotInventory> {
        let name = update.name.as_deref().map(|name| text::name("name", name)).transpose()?;
        let description = text::description(update.description.as_deref())?;
        self.change_snapshot(snapshot.into().parse()?, |snapshot| {
            if let Some(name) = &name {
                snapshot.name.clone_from(name);
            }
            if description.is_some() {
                snapshot.description.clone_from(&description);
            }
        })
    }

    /// Keeps a snapshot from being deleted, under a name: a permissive deletion refuses it from then on. The same
    /// name twice is one hold. Durable when it returns.
    ///
    /// # Errors
    ///
    /// SYS.1003 when there is no such snapshot; SYS.1007 for a name that is empty or longer than 255 characters.
    #[doc = include_str!("examples/holds.md")]
    pub fn hold(&self, snapshot: impl Into<UuidArg>, name: &str) -> Result<SnapshotInventory> {
        self.during(Operation::UpdateSnapshot, || {
            let name = text::name("name of the hold", name)?;
            self.change_snapshot(snapshot.into().parse()?, |snapshot| {
                if !snapshot.holds.contains(&name) {
                    snapshot.holds.push(name.clone());
                    snapshot.holds.sort_unstable();
                }
            })
        })
    }

    /// Lets go of a hold. One that is not there is a success. Durable when it returns.
    ///
    /// # Errors
    ///
    /// As [`Engine::hold`].
    #[doc = include_str!("examples/holds.md")]
    pub fn release(&self, snapshot: impl Into<UuidArg>, name: &str) -> Result<SnapshotInventory> {
        self.during(Operation::UpdateSnapshot, || {
            let name = text::name("name of the hold", name)?;
            self.change_snapshot(snapshot.into().parse()?, |snapshot| {
                snapshot.holds.retain(|held| *held != name)
            })
        })
    }

    /// Changes the record of a snapshot; nothing is written when nothing changes.
    fn change_snapshot(&self, uuid: Uuid, change: impl Fn(&mut SnapshotRecord)) -> Result<SnapshotInventory> {
        let pool = &self.pool;
        let (_held, reader, before) = pool.lock_found(|reader| {
            let found = reader.snapshot_by_uuid(uuid)?.ok_or(Refusal::NotFound { what: "snapshot", uuid })?;
            Ok((Pool::keys_around(reader, [found.volume], found.group)?, found))
        })?;
        let mut after = before.clone();
        change(&mut after);
        if after == before {
            return pool.show_snapshot(&reader, &before);
        }
        after.changed = pool.source.now();
        pool.perform(&Plan { edits: vec![Edit::PutSnapshot(after.clone())], ..Plan::default() })?;
        pool.show_snapshot(&pool.read()?, &after)
    }
}
