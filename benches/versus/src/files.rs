//! The files that are measured on, made without a sync: by this crate in memory, then written out with their holes.

use crate::Result;
use crate::measure::Dice;
use snapgroup::image::{BackingLabel, Image, Limits, NewImage};
use snapgroup::storage::{Access, Blob, BlobName, MemoryStore, Store};
use snapgroup::units::{ByteCount, GuestOffset, HostOffset};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// The clusters of every image.
pub const CLUSTER: u64 = 65_536;

/// A chain of files in one directory.
#[derive(Clone, Debug)]
pub struct ChainFiles {
    /// The names, the head first.
    pub names: Vec<String>,
}

impl ChainFiles {
    /// The file that reads through all others.
    pub fn head(&self) -> &str {
        &self.names[0]
    }
}

/// Makes a chain of `depth` layers on which each cluster of the disk is data, in one layer by the dice. Another process
/// does it, so that the memory of this one is that of what is measured.
pub fn chain(directory: &Path, prefix: &str, depth: usize, size: u64) -> Result<ChainFiles> {
    in_another_process(directory, &["--build-chain", prefix, &depth.to_string(), &size.to_string()])?;
    Ok(ChainFiles { names: (0..depth).rev().map(|layer| format!("{prefix}-{layer}.qcow2")).collect() })
}

/// What [`chain`] has another process do.
pub fn build_chain(directory: &Path, prefix: &str, depth: usize, size: u64) -> Result<()> {
    let mut owned = vec![Vec::new(); depth];
    let mut dice = Dice(depth as u64);
    for cluster in 0..size / CLUSTER {
        owned[dice.below(depth as u64) as usize].push(cluster);
    }
    let mut below = None;
    for (layer, clusters) in owned.iter().enumerate() {
        let name = format!("{prefix}-{layer}.qcow2");
        image(directory, &name, size, below.as_deref(), clusters)?;
        below = Some(name);
    }
    Ok(())
}

/// Has this program build something in another process; answers what it has printed.
pub fn in_another_process(directory: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.current_dir(directory).args(arguments).stderr(Stdio::inherit()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?);
    }
    Err(format!("{}: {}", arguments.join(" "), output.status).into())
}

/// Makes one image with data in these clusters.
pub fn image(directory: &Path, name: &str, size: u64, below: Option<&str>, clusters: &[u64]) -> Result<()> {
    let blob = MemoryStore::new().create(&BlobName::parse(name)?)?;
    let backing = below.map(|below| BackingLabel { name: below.to_owned(), format: "qcow2".to_owned() });
    let new = NewImage { backing, ..NewImage::of_size(ByteCount::new(size)) };
    new.layout(name)?.write(&*blob)?;
    let image = Image::open(Arc::clone(&blob), name, Access::Write, Limits::default())?;
    let mut data = vec![0; CLUSTER as usize];
    for cluster in clusters {
        data.fill(u8::try_from(cluster % 255).expect("less than 255") + 1);
        data[..8].copy_from_slice(&cluster.to_be_bytes());
        image.write(GuestOffset::new(cluster * CLUSTER), &data, None)?;
    }
    image.flush()?;
    write_out(&*blob, &directory.join(name))
}

/// Writes a blob into a new file; its holes stay holes.
pub fn write_out(blob: &dyn Blob, path: &Path) -> Result<()> {
    let file = File::create(path)?;
    file.set_len(blob.length()?.as_u64())?;
    let mut from = HostOffset::ZERO;
    let mut buffer = vec![0; 1 << 20];
    while let Some(data) = blob.next_data(from)? {
        let mut at = data.start;
        while at < data.end {
            let length = (data.end - at).as_usize().min(buffer.len());
            blob.read_at(at, &mut buffer[..length])?;
            file.write_all_at(&buffer[..length], at.as_u64())?;
            at += ByteCount::new(length as u64);
        }
        from = data.end;
    }
    Ok(())
}

/// Brings everything of the file system to the disk, so that the next measurement does not pay for it.
pub fn settle(directory: &Path) -> Result<()> {
    Command::new("sync").arg("-f").arg(directory).status()?;
    Ok(())
}
