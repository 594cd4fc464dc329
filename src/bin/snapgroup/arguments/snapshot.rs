//! Snapshots of one volume.

use super::{HowToDelete, Texts};
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Snapshot {
    /// Take a snapshot of one volume.
    Create {
        /// The volume.
        volume: String,
        /// Its name.
        name: String,
        /// Its description.
        #[arg(long)]
        description: Option<String>,
        /// Copy the disk, so that the snapshot begins a new tree.
        #[arg(long)]
        full: bool,
    },
    /// List the snapshots of a volume, or all.
    List {
        /// The volume.
        volume: Option<String>,
    },
    /// Show a snapshot.
    Show {
        /// The snapshot.
        snapshot: String,
    },
    /// Change the name or the description of a snapshot.
    Update {
        /// The snapshot.
        snapshot: String,
        #[command(flatten)]
        texts: Texts,
    },
    /// Delete snapshots: all or none.
    Delete {
        /// The snapshots.
        #[arg(required = true)]
        snapshots: Vec<String>,
        #[command(flatten)]
        how: HowToDelete,
    },
    /// Take a volume back to a snapshot.
    Revert {
        /// The snapshot.
        snapshot: String,
        /// Keep the present state as a snapshot first.
        #[arg(long)]
        keep: bool,
    },
    /// Keep a snapshot from being deleted, under a name.
    Hold {
        /// The snapshot.
        snapshot: String,
        /// Who wants it kept.
        name: String,
    },
    /// Let go of a hold.
    Release {
        /// The snapshot.
        snapshot: String,
        /// Who wanted it kept.
        name: String,
    },
}
