//! Volumes, new ones and files that are taken over.

use super::{Draw, size};
use clap::{Args, Subcommand, ValueEnum};

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
    #[command(flatten)]
    pub(crate) disk: NewDisk,
    /// Each file below the head becomes a snapshot.
    #[arg(long)]
    pub(crate) snapshots: bool,
    /// A file below that is a raw disk although it begins like a disk image. Can be given several times.
    #[arg(long, value_name = "FILE")]
    pub(crate) raw_below: Vec<String>,
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
    /// Change the name, the description or the longest chain of a volume.
    Update {
        /// The volume.
        volume: String,
        #[command(flatten)]
        change: VolumeChange,
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
    /// Its description.
    #[arg(long)]
    pub(crate) description: Option<String>,
    #[command(flatten)]
    pub(crate) disk: NewDisk,
    /// A file that it reads through to, and its format: `golden.raw:raw`. It lies in the directory of the pool, or in a
    /// `--base-directory` and has an absolute path.
    #[arg(long, value_name = "FILE:FORMAT", conflicts_with = "clone_of")]
    pub(crate) base: Option<String>,
    /// A snapshot that it begins as.
    #[arg(long, value_name = "SNAPSHOT")]
    pub(crate) clone_of: Option<String>,
    /// The size of its clusters, 512 to 2M; 64K unless given, or that of what is below it.
    #[arg(long, value_name = "SIZE", value_parser = cluster_bits)]
    pub(crate) cluster_size: Option<u8>,
    /// The longest chain that it may have, in layers with the head counted; that of the pool unless given.
    #[arg(long, value_name = "LAYERS")]
    pub(crate) chain_max: Option<u32>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    Qcow2,
    Raw,
}

/// Where a disk belongs that is new here.
#[derive(Debug, Args)]
pub(crate) struct NewDisk {
    /// Attach it to this machine.
    #[arg(long)]
    pub(crate) vm: Option<String>,
    /// It is the disk that the machine boots from.
    #[arg(long)]
    pub(crate) root: bool,
}

/// What is changed of a volume.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct VolumeChange {
    /// The new name.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The new description.
    #[arg(long)]
    pub(crate) description: Option<String>,
    /// The longest chain that it may have, in layers with the head counted; or `pool`, for that of the pool.
    #[arg(long, value_name = "LAYERS", value_parser = cap)]
    pub(crate) chain_max: Option<Cap>,
}

/// The longest chain of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cap {
    OfPool,
    Layers(u32),
}

fn cap(said: &str) -> Result<Cap, String> {
    match (said, said.parse()) {
        ("pool", _) => Ok(Cap::OfPool),
        (_, Ok(layers)) => Ok(Cap::Layers(layers)),
        (_, Err(_)) => Err(format!("{said:?} is neither a number of layers nor `pool`")),
    }
}

/// log2 of a size of clusters.
fn cluster_bits(said: &str) -> Result<u8, String> {
    let size = size(said)?;
    match (size.is_power_of_two(), u8::try_from(size.trailing_zeros())) {
        (true, Ok(bits @ 9..=21)) => Ok(bits),
        _ => Err(format!("{said:?} is no size of clusters: a power of two from 512 to 2M")),
    }
}
