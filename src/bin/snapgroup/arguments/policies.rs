//! What a pool may hold, and how long its chains may get.

use super::size;
use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
#[command(next_help_heading = "Policies of the pool")]
pub(crate) struct Policies {
    /// Refuse snapshots beyond so many in the pool.
    #[arg(
        long,
        global = true,
        hide_short_help = true,
        env = "SNAPGROUP_SNAPSHOTS_MAX",
        value_name = "COUNT"
    )]
    pub(crate) pool_snapshots_max: Option<u64>,
    /// Refuse snapshots once all of them would take up more than this.
    #[arg(long, global = true, hide_short_help = true, env = "SNAPGROUP_BYTES_MAX", value_name = "SIZE", value_parser = size)]
    pub(crate) pool_bytes_max: Option<u64>,
    /// The longest chain of a volume that has no limit of its own, the head counted.
    #[arg(long, global = true, hide_short_help = true, env = "SNAPGROUP_CHAIN_MAX", value_name = "LAYERS")]
    pub(crate) pool_chain_max: Option<u32>,
    /// What happens when a snapshot would make a longer one.
    #[arg(
        long,
        global = true,
        hide_short_help = true,
        env = "SNAPGROUP_CHAIN_FULL",
        value_enum,
        default_value = "merge"
    )]
    pub(crate) pool_chain_full: WhenFull,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum WhenFull {
    /// What no snapshot names any more is merged first.
    Merge,
    /// The snapshot is refused.
    Refuse,
    /// The disk is copied, and its snapshots begin a new tree.
    Full,
}
