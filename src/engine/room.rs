//! Making room in chains that are as long as they may be, before a snapshot makes them longer.

use super::error::Result;
use super::group::GroupOf;
use super::options::ChainFull;
use super::pool::{Engine, Pool};
use super::reclaim::Reclaimed;
use crate::catalog::{LayerId, LayerState};
use crate::plan::reclaim::Direction;
use crate::units::ByteCount;
use std::sync::Arc;
use uuid::Uuid;

impl Engine {
    /// Makes room for a group. What is wrong with the request is found by whoever takes the group.
    pub(super) fn make_room(&self, of: &GroupOf) -> Result<()> {
        let pool = &self.pool;
        let reader = pool.read()?;
        let Ok(machine) = self.machine_of(&reader, of) else { return Ok(()) };
        let volumes = reader.volumes_of(machine.id)?.into_vec()?;
        pool.shorten(&volumes.iter().map(|volume| volume.uuid).collect::<Vec<_>>())
    }
}

impl Pool {
    /// Merges the oldest retired layers of chains that have no room for one more layer, as far as that goes. No lock
    /// is held: each merge takes its own.
    pub(super) fn shorten(self: &Arc<Self>, volumes: &[Uuid]) -> Result<()> {
        if self.options.chain_full != ChainFull::Merge {
            return Ok(());
        }
        let mut merged_any = false;
        for uuid in volumes {
            let mut tried: Vec<LayerId> = Vec::new();
            loop {
                let reader = self.read()?;
                let Some(volume) = reader.volume_by_uuid(*uuid)? else { break };
                let chain = reader.chain(volume.head)?;
                let retired = chain
                    .iter()
                    .rev()
                    .find(|layer| layer.state == LayerState::Retired && !tried.contains(&layer.id));
                let (true, Some(retired)) =
                    (chain.len() as u64 >= u64::from(volume.cap(self.options.chain_max)), retired)
                else {
                    break;
                };
                tried.push(retired.id);
                let everything = ByteCount::new(u64::MAX);
                // What cannot be merged makes the snapshot refuse, which says why.
                let merged = self.advance(retired.id, Direction::Pull, everything, &mut Reclaimed::default());
                match merged {
                    Ok(_) => merged_any = true,
                    Err(_) => self.admit_change()?,
                }
            }
        }
        if merged_any {
            self.sweep(&mut Reclaimed::default())?;
        }
        Ok(())
    }
}
