//! Groups, and how what hangs on them is deleted and drawn.

use super::{DiffGroups, ExportGroup, Settled, Texts, Thin};
use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// Take a group of all disks of a machine.
    Create(CreateGroup),
    /// List the groups of a machine, or all.
    List {
        /// The machine.
        vm: Option<String>,
    },
    /// Show a group, its members, and whether the machine could go back to it.
    Show {
        /// The group.
        group: String,
    },
    /// Change the name or the description of a group.
    Update {
        /// The group.
        group: String,
        #[command(flatten)]
        texts: Texts,
    },
    /// Keep every member of a group from being deleted, under a name.
    Hold {
        /// The group.
        group: String,
        /// Who wants it kept.
        name: String,
    },
    /// Let go of a hold on every member.
    Release {
        /// The group.
        group: String,
        /// Who wanted it kept.
        name: String,
    },
    /// Delete the groups of a machine that no rule keeps: all at once, or none.
    Thin(Thin),
    /// Delete a group with its snapshots.
    Delete(DeleteGroup),
    /// Remove a group and keep its snapshots.
    Ungroup {
        /// The group.
        group: String,
    },
    /// Take a machine back to a group: all disks or none.
    Revert(RevertGroup),
    /// Make the overlays of a group for a machine that another process runs, and print what it is to switch to.
    Prepare(CreateGroup),
    /// List the groups that are prepared and neither committed nor aborted.
    Prepared,
    /// Publish a prepared group: every disk writes to its overlay now.
    Commit {
        /// The prepared group.
        group: String,
        /// What the guest is known to have done.
        #[arg(long, value_enum, default_value = "crash")]
        consistency: Settled,
    },
    /// Give a prepared group up: no disk writes to its overlay.
    Abort {
        /// The prepared group.
        group: String,
        /// Throw away what was written to overlays.
        #[arg(long)]
        discard: bool,
    },
    /// What differs between two groups of a machine, disk by disk.
    Diff(DiffGroups),
    /// Copy each disk of a group into a file of its own: all of them, or none.
    Export(ExportGroup),
    /// Draw the groups of a machine.
    Tree {
        /// The machine.
        vm: String,
        #[command(flatten)]
        draw: Draw,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Plan {
    /// What `group create` would do.
    Create(CreateGroup),
    /// What `group delete` would do.
    Delete(DeleteGroup),
    /// What `group revert` would do.
    Revert(RevertGroup),
    /// What `group thin` would do: which groups stay, and why.
    Thin(Thin),
    /// What `snapshot delete` would do.
    DeleteSnapshots {
        /// The snapshots.
        #[arg(required = true)]
        snapshots: Vec<String>,
        #[command(flatten)]
        how: HowToDelete,
    },
    /// What `snapshot revert` would do.
    RevertSnapshot {
        /// The snapshot.
        snapshot: String,
        /// Keep the present state as a snapshot first.
        #[arg(long)]
        keep: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateGroup {
    /// The machine.
    pub(crate) vm: String,
    /// The name of the group.
    pub(crate) name: String,
    /// Its description.
    #[arg(long)]
    pub(crate) description: Option<String>,
    /// Copy each disk, so that its snapshots begin a new tree.
    #[arg(long)]
    pub(crate) full: bool,
    /// A volume to leave out; may be given several times.
    #[arg(long, value_name = "VOLUME")]
    pub(crate) except: Vec<String>,
    /// A tag; may be given several times.
    #[arg(long)]
    pub(crate) tag: Vec<String>,
    /// Mark it as one that no person asked for, as `--only-automatic` of `group thin` looks for.
    #[arg(long)]
    pub(crate) automatic: bool,
    #[cfg(feature = "qmp")]
    #[command(flatten)]
    pub(crate) live: super::Live,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteGroup {
    /// The group.
    pub(crate) group: String,
    #[command(flatten)]
    pub(crate) how: HowToDelete,
}

#[derive(Debug, Args)]
pub(crate) struct HowToDelete {
    /// Whatever refuses is overruled: everything leaves the books, what the bytes still owe is listed.
    #[arg(long)]
    pub(crate) enforcing: bool,
    /// Everything that descends from a snapshot goes with it.
    #[arg(long)]
    pub(crate) chain: bool,
    /// A member that refuses keeps only itself.
    #[arg(long)]
    pub(crate) per_member: bool,
    /// Which way bytes go when layers are merged.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) direction: Towards,
    /// Leave the bytes to `snapgroup reclaim`.
    #[arg(long)]
    pub(crate) later: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Towards {
    /// Whatever copies the fewest bytes.
    Auto,
    /// Up, into the layer above.
    Pull,
    /// Down, into the layer that goes.
    Commit,
}

#[derive(Debug, Args)]
pub(crate) struct RevertGroup {
    /// The group.
    pub(crate) group: String,
    /// Keep the present state as a group first, so that the revert can be undone.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Only the disks that the group and the machine both have.
    #[arg(long)]
    pub(crate) matching: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Draw {
    /// How to draw it.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Drawing,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Drawing {
    Text,
    Svg,
    Dot,
    Mermaid,
}
