//! What keeps a pool well.

use super::Towards;
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Reclaim {
    /// Which way bytes go when layers are merged.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) direction: Towards,
    /// Only the layers of this volume.
    #[arg(long)]
    pub(crate) volume: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Seal {
    /// Only what this volume reads through.
    pub(crate) volume: Option<String>,
    /// Make checksums that are there anew: what the files hold now is taken for right.
    #[arg(long)]
    pub(crate) renew: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Only what the members of this group read through.
    #[arg(long, short, conflicts_with = "snapshot")]
    pub(crate) group: Option<String>,
    /// Only what this snapshot reads through.
    #[arg(long, short)]
    pub(crate) snapshot: Option<String>,
    /// Read everything, and not only files that look different from outside.
    #[arg(long)]
    pub(crate) content: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Repair {
    /// Only what this volume reads through.
    pub(crate) volume: Option<String>,
    /// Only say what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Rebuild {
    /// The uuid of the pool whose files are meant, when files of several are in the directory.
    #[arg(long, value_name = "UUID")]
    pub(crate) of: Option<String>,
}
