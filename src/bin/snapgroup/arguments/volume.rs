//! Volumes, new ones and files that are taken over.

use super::{Draw, Format, size};
use clap::{Args, Subcommand};

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
