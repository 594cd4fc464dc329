//! What can be said on the command line: one file for each noun.

mod content;
mod group;
mod health;
mod live;
mod machine;
mod policies;
mod snapshot;
mod thin;
mod volume;

pub(crate) use content::{Diff, DiffGroups, Export, ExportGroup, Import, Read};
pub(crate) use group::{
    CreateGroup, DeleteGroup, Draw, Drawing, Group, HowToDelete, Plan, RevertGroup, Towards,
};
pub(crate) use health::{Rebuild, Reclaim, Repair, Seal, Verify};
#[cfg(feature = "qmp")]
pub(crate) use live::Live;
pub(crate) use live::Settled;
pub(crate) use machine::{Place, Vm};
pub(crate) use policies::{Policies, WhenFull};
pub(crate) use snapshot::Snapshot;
pub(crate) use thin::Thin;
pub(crate) use volume::{Adopt, Cap, CreateVolume, Format, NewDisk, Volume, VolumeChange};

use crate::output::{Failure, Outcome};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use std::path::PathBuf;

/// Snapshots of all disks of a virtual machine as one group, on qcow2 files in a directory.
///
/// Machines, volumes, groups and snapshots are named by their uuid or by their name, when only one has it.
///
/// Exit codes: 0 done; 1 refused, and nothing has happened (or, of a plan, nothing would); 2 the command line is not
/// understood; 3 bytes on disk are not what they must be, or a check has found something; 4 the disk or the system failed;
/// 5 done, but not for every member, or with bytes still owed; 130 interrupted: what is not done goes on with the same
/// command.
#[derive(Debug, Parser)]
#[command(name = "snapgroup", version, max_term_width = 110)]
#[command(after_help = "Every command has its own help: snapgroup group create --help")]
pub(crate) struct Arguments {
    /// The directory of the pool.
    #[arg(long, short, global = true, env = "SNAPGROUP_POOL", default_value = ".", value_name = "DIR")]
    pub(crate) pool: PathBuf,
    /// A directory beside the pool's whose files volumes may stand above: they are only read. Can be given several times,
    /// and with every command as long as a volume needs it.
    #[arg(long, global = true, env = "SNAPGROUP_BASE_DIRECTORY", value_name = "DIR")]
    pub(crate) base_directory: Vec<PathBuf>,
    /// Answer with JSON in the shapes of the API.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) policies: Policies,
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
    /// What a command would do, without doing it.
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
    /// The bytes that each snapshot of a volume, or each group of a machine, holds alone; of the pool, what its snapshots
    /// come to as quotas count them.
    Du {
        /// The volume or the machine; the pool unless given.
        of: Option<String>,
    },
    /// Check everything: catalogue, directory, headers, refcounts. Nothing is changed.
    Check,
    /// Mend what can be mended without guessing: leaked clusters, refcounts, headers half written, files that are
    /// nobody's.
    Repair(Repair),
    /// Make a lost catalogue anew from the files alone. No other file is changed.
    Rebuild(Rebuild),
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

/// Another name or another description.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Texts {
    /// The new name.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The new description.
    #[arg(long)]
    pub(crate) description: Option<String>,
}

impl Arguments {
    /// The base directories, each with an absolute path, as the library wants them.
    pub(crate) fn base_directories(&self) -> Outcome<Vec<PathBuf>> {
        let absolute = |said: &PathBuf| match said.is_absolute() {
            true => Ok(said.clone()),
            false => said
                .canonicalize()
                .map_err(|error| Failure::Said(format!("the base directory {}: {error}", said.display()))),
        };
        self.base_directory.iter().map(absolute).collect()
    }
}

/// A number of bytes, with one of the letters K, M, G and T for powers of 1024. `20GB` is a power of 1000 to some and of
/// 1024 to others, and is not guessed.
fn size(text: &str) -> Result<u64, String> {
    let plain = text.trim();
    let plain = plain.strip_suffix("iB").unwrap_or(plain);
    let unit = plain.chars().last().and_then(|last| "KMGT".find(last.to_ascii_uppercase()));
    let digits = if unit.is_some() { &plain[..plain.len() - 1] } else { plain };
    let count: u64 = digits.trim_end().parse().map_err(|_| {
        format!(
            "{text:?} is no size: a whole number of bytes, or with K, M, G or T of 1024, such as 20G or 20GiB"
        )
    })?;
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
            [("0", 0), ("512", 512), ("4k", 4096), ("20G", 20 << 30), ("1TiB", 1 << 40), ("3 M", 3 << 20)];
        for (text, count) in cases {
            assert_eq!(size(text), Ok(count), "{text}");
        }
        for text in ["", "G", "iB", "-1", "1.5G", "20GB", "7B", "99999999T", "ten"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
