//! What is in disks: read, compared, copied.

use super::{Format, NewDisk, size};
use clap::Args;
use std::path::PathBuf;

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
pub(crate) struct DiffGroups {
    /// The older group; `-` for empty disks. A disk that it has not is compared with an empty one.
    pub(crate) from: String,
    /// The newer group.
    pub(crate) to: String,
    /// Compare the content as well, and leave out what is equal.
    #[arg(long)]
    pub(crate) exact: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportGroup {
    /// The group.
    pub(crate) group: String,
    /// The directory for the new files, each called by the uuid of its volume.
    pub(crate) directory: PathBuf,
    /// Their format.
    #[arg(long, short, value_enum, default_value = "qcow2")]
    pub(crate) format: Format,
    /// Compress clusters.
    #[arg(long)]
    pub(crate) compressed: bool,
    /// Only what differs from this group, which was exported before into `--above-directory`. A disk that it has not is
    /// exported as a whole.
    #[arg(long, value_name = "GROUP", requires = "above_directory")]
    pub(crate) above: Option<String>,
    /// The directory that `--above` was exported into, as the new files shall call it: a relative one is looked for from
    /// theirs.
    #[arg(long, value_name = "DIR", requires = "above")]
    pub(crate) above_directory: Option<PathBuf>,
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
    #[command(flatten)]
    pub(crate) disk: NewDisk,
    /// A snapshot that stands for the backing file of the image, as for an export above it.
    #[arg(long, value_name = "SNAPSHOT")]
    pub(crate) above: Option<String>,
    /// A file below that is a raw disk although it begins like a disk image. Can be given several times.
    #[arg(long, value_name = "FILE")]
    pub(crate) raw_below: Vec<String>,
}
