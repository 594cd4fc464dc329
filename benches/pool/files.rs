//! The images that are read and written, and the bare system calls beside them.

use crate::Result;
use snapgroup::chain::{Chain, Layer};
use snapgroup::image::{BackingLabel, Image, Limits, NewImage};
use snapgroup::storage::{Access, BlobName, DiskOptions, DiskStore, MapFrozen, Store};
use snapgroup::units::{ByteCount, GuestOffset};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The clusters of every image.
pub(crate) const CLUSTER: u64 = 65_536;

/// Makes an image with data in these clusters.
pub(crate) fn image(
    directory: &Path,
    name: &str,
    size: u64,
    below: Option<&str>,
    clusters: impl Iterator<Item = u64>,
) -> Result<()> {
    let store = DiskStore::open(directory)?;
    let blob_name = BlobName::parse(name)?;
    if store.list()?.contains(&blob_name) {
        store.remove(&blob_name)?;
    }
    let blob = store.create(&blob_name)?;
    let backing = below.map(|below| BackingLabel { name: below.to_owned(), format: "qcow2".to_owned() });
    NewImage { backing, ..NewImage::of_size(ByteCount::new(size)) }.layout(name)?.write(&*blob)?;
    let image = Image::open(blob, name, Access::Write, Limits::default())?;
    for cluster in clusters {
        image.write(GuestOffset::new(cluster * CLUSTER), &[7; CLUSTER as usize], None)?;
    }
    Ok(image.flush()?)
}

/// Makes a chain of this depth, the clusters of the disk dealt out to its layers in turn. The names, the head first.
pub(crate) fn chain(directory: &Path, depth: u64, size: u64) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for layer in 0..depth {
        let name = format!("chain-{depth}-{layer}.qcow2");
        let clusters = (0..size / CLUSTER).filter(|cluster| cluster % depth == layer);
        image(directory, &name, size, names.last().map(String::as_str), clusters)?;
        names.push(name);
    }
    names.reverse();
    Ok(names)
}

/// Opens one image as a layer.
pub(crate) fn layer(directory: &Path, name: &str, access: Access, map: MapFrozen) -> Result<Arc<Layer>> {
    let store = DiskStore::open_with(directory, DiskOptions::new().with_map_frozen(map))?;
    let blob = store.open(&BlobName::parse(name)?, access)?;
    Ok(Arc::new(Layer::from(Image::open(blob, name, access, Limits::default())?)))
}

/// Opens a chain, its head for `head`.
pub(crate) fn open(directory: &Path, names: &[String], head: Access, map: MapFrozen) -> Result<Chain> {
    let layers = names
        .iter()
        .enumerate()
        .map(|(depth, name)| layer(directory, name, if depth == 0 { head } else { Access::Read }, map));
    Ok(Chain::new(layers.collect::<Result<_>>()?))
}

/// Copies a file by the kernel, and syncs the copy.
pub(crate) fn copy_and_sync(from: &Path, to: &Path) -> Result<()> {
    let (mut source, mut target) = (File::open(from)?, File::create(to)?);
    io::copy(&mut source, &mut target)?;
    Ok(target.sync_data()?)
}

/// Where to read next: far from the last place, and each place once before any is read again.
pub(crate) fn scattered(index: &mut u64, blocks: u64) -> u64 {
    *index = index.wrapping_add(1);
    index.wrapping_mul(7919) % blocks
}
