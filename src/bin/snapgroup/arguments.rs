//! What can be said on the command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::path::PathBuf;

/// Snapshots of all disks of a virtual machine as one group, on qcow2 files in a directory.
///
/// Machines, volumes, groups and snapshots are named by their uuid or by their name, when only one has it.
///
/// Exit codes: 0 done; 1 refused, and nothing has happened; 2 the command line is not understood; 3 bytes on disk are
/// not what they must be, or a check has found something; 4 the disk or the system failed; 5 done, but not for every
/// member, or with bytes still owed; 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "snapgroup", version, max_term_width = 110)]
pub(crate) struct Arguments {
    /// The directory of the pool.
    #[arg(long, short, global = true, env = "SNAPGROUP_POOL", default_value = ".", value_name = "DIR")]
    pub(crate) pool: PathBuf,
    /// Answer with JSON in the shapes of the API.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a pool in the directory; files that are there stay.
    Init,
    /// Take over a file of the directory, with its backing chain, as a volume.
    Adopt(Adopt),
    /// Machines.
    #[command(subcommand, visible_alias = "machine")]
    Vm(Vm),
    /// Volumes: the disks of machines.
    #[command(subcommand)]
    Volume(Volume),
    /// Groups: all disks of a machine at one moment.
    #[command(subcommand)]
    Group(Group),
    /// Snapshots of one volume.
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// What a command on groups would do, without doing it.
    #[command(subcommand)]
    Plan(Plan),
    /// Deal with the bytes that deletions have left.
    Reclaim(Reclaim),
    /// List what deletions still owe, and why.
    Owed,
    /// What differs between two snapshots of a volume.
    Diff(Diff),
    /// Write the content of a snapshot or a volume to standard output.
    Read(Read),
    /// Copy a snapshot into a file of its own.
    Export(Export),
    /// Copy a file into a new volume: for what is not to be trusted where it lies.
    Import(Import),
    /// The bytes that each snapshot of a volume, or each group of a machine, holds alone.
    Du {
        /// The volume or the machine.
        of: String,
    },
    /// Check everything: catalogue, directory, headers, refcounts. Nothing is changed.
    Check,
    /// Note checksums of what no volume writes to, for `verify`.
    Seal(Seal),
    /// Compare what no volume writes to with its checksums. Nothing is changed.
    Verify(Verify),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
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

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    Qcow2,
    Raw,
}

#[derive(Debug, Args)]
pub(crate) struct Adopt {
    /// The name of the uppermost file in the pool's directory.
    pub(crate) file: String,
    /// Its format: said, never guessed.
    #[arg(long, short, value_enum)]
    pub(crate) format: Format,
    /// The name of the volume; the file's, unless given.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Attach it to this machine.
    #[arg(long)]
    pub(crate) vm: Option<String>,
    /// It is the disk that the machine boots from.
    #[arg(long)]
    pub(crate) root: bool,
    /// Each file below the head becomes a snapshot.
    #[arg(long)]
    pub(crate) snapshots: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Vm {
    /// Note a machine.
    Create {
        /// Its name.
        name: String,
        #[arg(long)]
        description: Option<String>,
    },
    /// List all machines.
    List,
    /// Show a machine and its volumes.
    Show {
        /// The machine.
        vm: String,
    },
    /// Say whether another process runs the machine.
    Running {
        /// The machine.
        vm: String,
        /// `here` when its disks are free, `elsewhere` when another process has them.
        #[arg(value_enum)]
        place: Place,
    },
    /// Forget a machine without groups; its volumes stay.
    Delete {
        /// The machine.
        vm: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Place {
    Here,
    Elsewhere,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Volume {
    /// Make a volume: empty, above a base image, or as a snapshot was.
    Create(CreateVolume),
    /// List all volumes.
    List,
    /// Show a volume and its chain.
    Show {
        /// The volume.
        volume: String,
    },
    /// Attach a volume to a machine.
    Attach {
        /// The volume.
        volume: String,
        /// The machine.
        vm: String,
        /// The device id; the lowest free one unless given.
        #[arg(long)]
        device: Option<u32>,
    },
    /// Detach a volume from a machine.
    Detach {
        /// The volume.
        volume: String,
        /// The machine.
        vm: String,
    },
    /// Make a volume larger.
    Resize {
        /// The volume.
        volume: String,
        /// The new size, such as 40G.
        #[arg(value_parser = size)]
        size: u64,
    },
    /// Delete a volume with all its snapshots.
    Delete {
        /// The volume.
        volume: String,
        /// Whatever refuses is overruled.
        #[arg(long)]
        enforcing: bool,
    },
    /// Draw the layers of a volume.
    Tree {
        /// The volume.
        volume: String,
        #[command(flatten)]
        draw: Draw,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateVolume {
    /// Its name.
    pub(crate) name: String,
    /// Its size, such as 20G; that of the base or the snapshot unless given.
    #[arg(value_parser = size)]
    pub(crate) size: Option<u64>,
    /// Attach it to this machine.
    #[arg(long)]
    pub(crate) vm: Option<String>,
    /// It is the disk that the machine boots from.
    #[arg(long)]
    pub(crate) root: bool,
    /// A file of the pool's directory that it reads through to, and its format: `golden.raw:raw`.
    #[arg(long, value_name = "FILE:FORMAT", conflicts_with = "clone_of")]
    pub(crate) base: Option<String>,
    /// A snapshot that it begins as.
    #[arg(long, value_name = "SNAPSHOT")]
    pub(crate) clone_of: Option<String>,
    /// log2 of the cluster size, 9 to 21.
    #[arg(long, value_name = "BITS")]
    pub(crate) cluster_bits: Option<u8>,
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
        #[arg(long)]
        name: Option<String>,
        #[arg(long)]
        description: Option<String>,
    },
    /// Delete a group with its snapshots.
    Delete(DeleteGroup),
    /// Remove a group and keep its snapshots.
    Ungroup {
        /// The group.
        group: String,
    },
    /// Take a machine back to a group: all disks or none.
    Revert(RevertGroup),
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
}

#[derive(Debug, Args)]
pub(crate) struct CreateGroup {
    /// The machine.
    pub(crate) vm: String,
    /// The name of the group.
    pub(crate) name: String,
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

#[derive(Debug, Subcommand)]
pub(crate) enum Snapshot {
    /// Take a snapshot of one volume.
    Create {
        /// The volume.
        volume: String,
        /// Its name.
        name: String,
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
        #[arg(long)]
        name: Option<String>,
        #[arg(long)]
        description: Option<String>,
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
pub(crate) struct Diff {
    /// The older snapshot; `-` for an empty disk.
    pub(crate) from: String,
    /// The newer snapshot.
    pub(crate) to: String,
    /// Compare the content as well, and leave out what is equal.
    #[arg(long)]
    pub(crate) exact: bool,
    /// Only what lies at this byte of the disk or after it.
    #[arg(long, value_parser = size, default_value = "0")]
    pub(crate) start: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Read {
    /// A snapshot or a volume.
    pub(crate) of: String,
    /// Where to begin.
    #[arg(long, value_parser = size, default_value = "0")]
    pub(crate) at: u64,
    /// How much to read; everything unless given.
    #[arg(long, value_parser = size)]
    pub(crate) length: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The snapshot.
    pub(crate) snapshot: String,
    /// The new file.
    pub(crate) file: PathBuf,
    /// Its format.
    #[arg(long, short, value_enum, default_value = "qcow2")]
    pub(crate) format: Format,
    /// Compress clusters.
    #[arg(long)]
    pub(crate) compressed: bool,
    /// Only what differs from this snapshot, which was exported before as `--above-file`.
    #[arg(long, value_name = "SNAPSHOT", requires = "above_file")]
    pub(crate) above: Option<String>,
    /// The name of the qcow2 file that `--above` was exported as, as the new file shall call it.
    #[arg(long, value_name = "NAME", requires = "above")]
    pub(crate) above_file: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The file; its backing files must lie in the same directory.
    pub(crate) file: PathBuf,
    /// Its format: said, never guessed.
    #[arg(long, short, value_enum)]
    pub(crate) format: Format,
    /// The name of the volume; the file's, unless given.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Attach it to this machine.
    #[arg(long)]
    pub(crate) vm: Option<String>,
    /// It is the disk that the machine boots from.
    #[arg(long)]
    pub(crate) root: bool,
    /// A snapshot that stands for the backing file of the image, as for an export above it.
    #[arg(long, value_name = "SNAPSHOT")]
    pub(crate) above: Option<String>,
}

/// A number of bytes, with one of the letters K, M, G and T for powers of 1024.
fn size(text: &str) -> Result<u64, String> {
    let letters = ["K", "M", "G", "T"];
    let plain = text.trim().trim_end_matches("iB").trim_end_matches('B');
    let unit = letters.iter().position(|letter| plain.to_uppercase().ends_with(letter));
    let digits = if unit.is_some() { &plain[..plain.len() - 1] } else { plain };
    let count: u64 =
        digits.trim().parse().map_err(|_| format!("{text:?} is no number of bytes, such as 512 or 20G"))?;
    let shift = unit.map_or(0, |unit| 10 * (unit + 1));
    count.checked_mul(1 << shift).ok_or_else(|| format!("{text:?} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_size_is_a_number_with_or_without_a_letter() {
        let cases =
            [("0", 0), ("512", 512), ("4k", 4096), ("20G", 20 << 30), ("1TiB", 1 << 40), ("3 MB", 3 << 20)];
        for (text, count) in cases {
            assert_eq!(size(text), Ok(count), "{text}");
        }
        for text in ["", "G", "-1", "1.5G", "99999999T", "ten"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
