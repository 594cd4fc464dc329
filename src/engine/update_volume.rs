//! Volumes that are changed where they are: renamed, and told how long their chain may get.

use super::error::Result;
use super::operation::Operation;
use super::pool::Engine;
use super::uuid_arg::UuidArg;
use crate::inventory::VolumeInventory;
use crate::plan::text;
use crate::plan::volume::{VolumeChange, update};

/// How long the chain of a volume may get.
#[doc = include_str!("examples/volumes.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChainCap {
    /// As long as the pool says: [`Options::chain_max`](super::Options::chain_max).
    OfPool,
    /// So many layers, the head counted, from 1 on. A chain that is longer already stays; the next snapshot is refused,
    /// made in full, or preceded by merges, as [`Options::chain_full`](super::Options::chain_full) says.
    Layers(u32),
}

/// New text for a volume, or another longest chain. What is `None` stays.
#[doc = include_str!("examples/volumes.md")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateVolume {
    /// Its name: 1 to 255 characters.
    pub name: Option<String>,
    /// Its description: at most 2048 characters; an empty one is a description, too.
    pub description: Option<String>,
    /// The longest chain that it may have.
    pub chain_max: Option<ChainCap>,
}

impl Engine {
    /// Gives a volume another name, description or longest chain. What groups and snapshots copied of its name stays as
    /// it was. Durable when it returns.
    ///
    /// # Errors
    ///
    /// SYS.1003 when there is no such volume; SYS.1007 for what is empty, too long, or a chain of no layer.
    #[doc = include_str!("examples/volumes.md")]
    pub fn update_volume(&self, volume: impl Into<UuidArg>, wish: &UpdateVolume) -> Result<VolumeInventory> {
        self.during(Operation::UpdateVolume, || self.update_volume_untold(volume, wish))
    }

    fn update_volume_untold(
        &self,
        volume: impl Into<UuidArg>,
        wish: &UpdateVolume,
    ) -> Result<VolumeInventory> {
        let pool = &self.pool;
        let change = VolumeChange {
            name: wish.name.as_deref().map(|name| text::name("name", name)).transpose()?,
            description: text::description(wish.description.as_deref())?,
            chain_max: wish.chain_max.map(|cap| match cap {
                ChainCap::OfPool => None,
                ChainCap::Layers(layers) => Some(layers),
            }),
        };
        let (_held, volume) = pool.lock_volume(volume.into().parse()?, &[])?;
        match update(&volume, change, pool.source.now())? {
            None => pool.show_volume(&pool.read()?, &volume),
            Some((plan, changed)) => {
                pool.perform(&plan)?;
                pool.show_volume(&pool.read()?, &changed)
            }
        }
    }
}
