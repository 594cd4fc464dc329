//! Queries: what is there, by field.

use super::error::Result;
use super::pool::Engine;
use super::uuid_arg::UuidArg;
use crate::catalog::query::{GroupField, MachineField, Page, Query, SnapshotField, TreeField, VolumeField};
use crate::inventory::{GroupInventory, MachineInventory, SnapshotInventory, TreeInventory, VolumeInventory};
use crate::plan::refusal::Refusal;

/// Writes the query of one noun: the records of a page become inventories, one by one.
macro_rules! query {
    ($(#[$doc:meta])* $name:ident, $field:ty, $inventory:ty, $show:expr) => {
        $(#[$doc])*
        ///
        /// # Errors
        ///
        /// SYS.1007 when a condition compares a field with a value of another type.
        #[doc = include_str!("examples/querying.md")]
        pub fn $name(&self, query: &Query<$field>) -> Result<Page<$inventory>> {
            let reader = self.pool.read()?;
            let page = reader.$name(query)?;
            let items = page
                .items
                .iter()
                .map(|found| $show(&*self.pool, &reader, found))
                .collect::<Result<_>>()?;
            Ok(Page { items, total: page.total })
        }
    };
}

impl Engine {
    query!(
        /// The machines that meet all conditions of `query`, in the order of their creation unless sorted.
        query_machines,
        MachineField,
        MachineInventory,
        super::pool::Pool::show_machine
    );
    query!(
        /// The volumes that meet all conditions of `query`, in the order of their creation unless sorted.
        query_volumes,
        VolumeField,
        VolumeInventory,
        super::pool::Pool::show_volume
    );
    query!(
        /// The snapshots that meet all conditions of `query`, in the order of their creation unless sorted.
        query_snapshots,
        SnapshotField,
        SnapshotInventory,
        super::pool::Pool::show_snapshot
    );
    query!(
        /// The trees of snapshots that meet all conditions of `query`, each with all its snapshots.
        query_trees,
        TreeField,
        TreeInventory,
        super::pool::Pool::show_tree
    );
    query!(
        /// The groups that meet all conditions of `query`, in the order of their creation unless sorted.
        query_groups,
        GroupField,
        GroupInventory,
        |pool: &super::pool::Pool, reader, (group, refs): &(_, Vec<_>)| pool.show_group(reader, group, refs)
    );

    /// One group.
    ///
    /// # Errors
    ///
    /// SYS.1007 for a malformed uuid; SYS.1003 when it is not there.
    #[doc = include_str!("examples/groups.md")]
    pub fn group(&self, group: impl Into<UuidArg>) -> Result<GroupInventory> {
        let reader = self.pool.read()?;
        let group = self.pool.group(&reader, group.into().parse()?)?;
        self.pool.show_group(&reader, &group, &reader.refs_of(group.id)?)
    }

    /// One snapshot.
    ///
    /// # Errors
    ///
    /// SYS.1007 for a malformed uuid; SYS.1003 when it is not there.
    #[doc = include_str!("examples/groups.md")]
    pub fn snapshot(&self, snapshot: impl Into<UuidArg>) -> Result<SnapshotInventory> {
        let reader = self.pool.read()?;
        let uuid = snapshot.into().parse()?;
        let found = reader.snapshot_by_uuid(uuid)?.ok_or(Refusal::NotFound { what: "snapshot", uuid })?;
        self.pool.show_snapshot(&reader, &found)
    }

    /// One volume.
    ///
    /// # Errors
    ///
    /// SYS.1007 for a malformed uuid; SYS.1003 when it is not there.
    #[doc = include_str!("examples/volumes.md")]
    pub fn volume(&self, volume: impl Into<UuidArg>) -> Result<VolumeInventory> {
        let reader = self.pool.read()?;
        let found = self.pool.volume(&reader, volume.into().parse()?)?;
        self.pool.show_volume(&reader, &found)
    }

    /// One machine, with its volumes.
    ///
    /// # Errors
    ///
    /// SYS.1007 for a malformed uuid; SYS.1003 when it is not there.
    #[doc = include_str!("examples/machines.md")]
    pub fn machine(&self, machine: impl Into<UuidArg>) -> Result<MachineInventory> {
        let reader = self.pool.read()?;
        let found = self.machine_record(&reader, machine.into().parse()?)?;
        self.pool.show_machine(&reader, &found)
    }
}
