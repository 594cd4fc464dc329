//! Making room in chains that are as long as they may be, before a snapshot makes them longer.

use super::error::Result;
use super::group::{CreateGroup, CreatedGroup};
use super::options::ChainFull;
use super::plans::CreatePlan;
use super::pool::{Engine, Pool};
use super::reclaim::{Figures, Reclaimed, Rehearsal};
use crate::catalog::{DiskView, LayerId, LayerRecord, LayerState, Reader};
use crate::plan::freeze::check_cap;
use crate::plan::full::SnapshotMode;
use crate::plan::group::{GroupWish, select};
use crate::plan::reclaim::Direction;
use crate::plan::refusal::Refusal;
use crate::units::ByteCount;
use std::sync::Arc;
use uuid::Uuid;

/// Up, since whoever reads the layer above goes on doing so.
const WAY: Direction = Direction::Pull;

/// The layer that is merged next in a chain without room: the oldest retired one of those that were not tried.
fn next_to_merge(disk: &DiskView, cap: u32, tried: &[LayerId]) -> Option<LayerId> {
    let is_next = |layer: &&LayerRecord| layer.state == LayerState::Retired && !tried.contains(&layer.id);
    let is_full = check_cap(disk, cap).is_err();
    is_full.then(|| disk.chain.iter().rev().find(is_next).map(|layer| layer.id)).flatten()
}

/// What making room would do.
pub(super) struct Room {
    /// What would be done to files.
    pub(super) figures: Figures,
    /// Each disk as it would be then, and what its head would have taken in.
    pub(super) disks: Vec<(DiskView, ByteCount)>,
    /// Whether anything would be merged at all.
    pub(super) is_made: bool,
}

impl Engine {
    /// Makes room for a group. What is wrong with the request is found by whoever takes the group.
    pub(super) fn make_room(&self, reader: &Reader, request: &CreateGroup, wish: &GroupWish) -> Result<()> {
        let pool = &self.pool;
        if request.mode == SnapshotMode::Full || pool.options.chain_full != ChainFull::Merge {
            // A copy needs none, and elsewhere none is made.
            return Ok(());
        }
        let machine = self.machine_of(reader, &request.of)?;
        let Ok(selection) = select(reader.need_machine_view(machine.id)?, wish) else { return Ok(()) };
        let is_full = |disk: &&DiskView| check_cap(disk, disk.volume.cap(pool.options.chain_max)).is_err();
        let volumes = selection.members.iter().filter(is_full).map(|disk| disk.volume.uuid);
        pool.shorten(&volumes.collect::<Vec<_>>())
    }

    /// Runs a plan. Where room is made first, it refuses when the group is not the planned one any more afterwards.
    pub(super) fn create_planned_group(&self, plan: &CreatePlan) -> Result<CreatedGroup> {
        self.admit(&plan.request, Some(plan.generation.0))?;
        if !plan.makes_room {
            return self.create_group_at(&plan.request, Some(plan.generation.0));
        }
        let now = self.foretell_group(&plan.request)?;
        if !now.is_of_the_same(plan) {
            return Err(Refusal::Stale { planned: plan.generation.0, now: now.generation.0 }.into());
        }
        self.create_group_at(&plan.request, Some(now.generation.0))
    }
}

impl Pool {
    /// Merges the oldest retired layers of chains that have no room for one more layer, as far as that goes. No lock
    /// is held: each merge takes its own.
    pub(super) fn shorten(self: &Arc<Self>, volumes: &[Uuid]) -> Result<()> {
        if self.options.chain_full != ChainFull::Merge {
            return Ok(());
        }
        for uuid in volumes {
            let mut tried: Vec<LayerId> = Vec::new();
            loop {
                let reader = self.read()?;
                let Some(volume) = reader.volume_by_uuid(*uuid)? else { break };
                let cap = volume.cap(self.options.chain_max);
                let Some(retired) = next_to_merge(&reader.need_disk(volume.id)?, cap, &tried) else { break };
                tried.push(retired);
                let everything = ByteCount::new(u64::MAX);
                // What cannot be merged makes the snapshot refuse, which says why.
                match self.advance(retired, WAY, everything, &mut Reclaimed::default()) {
                    // What is merged away gives its room back before the next one is merged.
                    Ok(_) => drop(self.sweep(&mut Reclaimed::default())?),
                    Err(_) => self.admit_change()?,
                }
            }
        }
        Ok(())
    }

    /// What [`Pool::shorten`] would do for these disks, before snapshots of them are taken.
    pub(super) fn foretell_room(
        &self,
        reader: &Reader,
        disks: &[DiskView],
        mode: SnapshotMode,
    ) -> Result<Room> {
        let mut rehearsal = Rehearsal::new(self, reader);
        let cap_of = |disk: &DiskView| disk.volume.cap(self.options.chain_max);
        let left_of = |rehearsal: &Rehearsal<'_>, disk: &DiskView| {
            let left = disk.chain.iter().filter(|layer| !rehearsal.was_taken(layer.id));
            DiskView { chain: left.cloned().collect(), ..disk.clone() }
        };
        let is_wanted = self.options.chain_full == ChainFull::Merge && mode != SnapshotMode::Full;
        let is_full = |disk: &&DiskView| is_wanted && check_cap(disk, cap_of(disk)).is_err();
        let mut looked: Vec<LayerId> = Vec::new();
        for disk in disks.iter().filter(is_full) {
            let retired = disk.chain.iter().filter(|layer| layer.state == LayerState::Retired);
            looked.extend(retired.map(|layer| layer.id).filter(|id| rehearsal.look(*id).is_ok()));
        }
        let mut is_made = false;
        for disk in disks.iter().filter(is_full) {
            let mut tried = Vec::new();
            while let Some(id) = next_to_merge(&left_of(&rehearsal, disk), cap_of(disk), &tried) {
                tried.push(id);
                if looked.contains(&id) {
                    rehearsal.merge(id, WAY);
                    if !is_made {
                        rehearsal.sweep()?;
                    }
                    is_made = true;
                }
            }
        }
        let after = disks.iter().map(|disk| (left_of(&rehearsal, disk), rehearsal.grown(disk.chain[0].id)));
        Ok(Room { disks: after.collect(), is_made, figures: rehearsal.end() })
    }
}
