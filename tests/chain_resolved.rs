//! What is below a head is resolved once and read through for as long as the chain lives.

use snapgroup::chain::{Chain, Layer, RawLayer};
use snapgroup::image::{BackingLabel, Error, Image, Limits, NewImage, Result, Space};
use snapgroup::storage::{Access, BlobName, MemoryStore, Operation, SimulatedStore, Store};
use snapgroup::units::{ByteCount, GuestOffset, HostOffset};
use std::sync::Arc;

const CLUSTER: u64 = 4096;

fn name(text: &str) -> BlobName {
    BlobName::parse(text).expect("one component")
}

fn at(offset: u64) -> GuestOffset {
    GuestOffset::new(offset)
}

/// Makes an empty image with clusters of this size.
fn image(store: &dyn Store, text: &str, cluster: u64, size: u64, below: Option<&str>) -> Result<Arc<Layer>> {
    let blob = store.create(&name(text))?;
    let backing = below.map(|below| BackingLabel { name: below.to_owned(), format: "qcow2".to_owned() });
    let new = NewImage {
        cluster_bits: cluster.trailing_zeros(),
        backing,
        ..NewImage::of_size(ByteCount::new(size))
    };
    new.layout(text)?.write(&*blob)?;
    Ok(Arc::new(Layer::from(Image::open(blob, text, Access::Write, Limits::default())?)))
}

fn open(store: &dyn Store, text: &str) -> Result<Arc<Layer>> {
    let blob = store.open(&name(text), Access::Read)?;
    Ok(Arc::new(Layer::from(Image::open(blob, text, Access::Read, Limits::default())?)))
}

fn read(chain: &Chain, from: u64, length: usize) -> Result<Vec<u8>> {
    let mut buffer = vec![0xEE; length];
    chain.read(at(from), &mut buffer)?;
    Ok(buffer)
}

/// A stack of layers in which each cluster of the disk is in one of them, by its number.
fn stack(store: &dyn Store, depth: u64, clusters: u64) -> Result<Vec<Arc<Layer>>> {
    let mut below: Option<String> = None;
    for layer in 0..depth {
        let text = format!("layer-{layer}");
        let made = image(store, &text, CLUSTER, clusters * CLUSTER, below.as_deref())?;
        let chain = Chain::new(vec![made]);
        for cluster in (layer..clusters).step_by(usize::try_from(depth).expect("few")) {
            chain.write(at(cluster * CLUSTER), &[u8::try_from(cluster % 251).expect("less") + 1; 4096])?;
        }
        chain.flush()?;
        below = Some(text);
    }
    (0..depth).rev().map(|layer| open(store, &format!("layer-{layer}"))).collect()
}

#[test]
fn a_block_is_read_again_with_one_read_however_deep_it_lies() -> Result<()> {
    let store = SimulatedStore::new(Arc::new(MemoryStore::new()));
    let layers = stack(&store, 40, 400)?;
    let chain = Chain::new(layers);
    for cluster in 0..400 {
        let expected = [u8::try_from(cluster % 251).expect("less") + 1; 4096];
        assert_eq!(read(&chain, cluster * CLUSTER, 4096)?, expected, "cluster {cluster}");
    }
    let before = store.counts().of(Operation::Read);
    for cluster in 0..400 {
        read(&chain, cluster * CLUSTER, 4096)?;
    }
    assert_eq!(store.counts().of(Operation::Read) - before, 400);
    Ok(())
}

#[test]
fn a_part_of_the_disk_is_resolved_with_one_read_of_each_layers_table() -> Result<()> {
    let store = SimulatedStore::new(Arc::new(MemoryStore::new()));
    let chain = Chain::new(stack(&store, 40, 400)?);
    let before = store.counts().of(Operation::Read);
    read(&chain, 7 * CLUSTER + 5, 100)?;
    // The head is asked itself.
    assert_eq!(store.counts().of(Operation::Read) - before, 40 + 1);
    Ok(())
}

#[test]
fn what_the_head_is_given_is_seen_over_what_was_resolved() -> Result<()> {
    let store = MemoryStore::new();
    let mut layers = stack(&store, 5, 50)?;
    layers.insert(0, image(&store, "head", CLUSTER, 50 * CLUSTER, Some("layer-4"))?);
    let chain = Chain::new(layers);
    assert_eq!(read(&chain, 0, 4)?, [1; 4]);
    chain.write(at(1), &[9])?;
    assert_eq!(read(&chain, 0, 4)?, [1, 9, 1, 1]);
    chain.zero(at(0), ByteCount::new(CLUSTER), Space::Free)?;
    assert_eq!(read(&chain, 0, 4)?, [0; 4]);
    Ok(())
}

#[test]
fn a_lower_layer_that_is_open_to_writing_is_asked_each_time() -> Result<()> {
    let store = MemoryStore::new();
    let lower = image(&store, "lower", CLUSTER, 8 * CLUSTER, None)?;
    let head = image(&store, "head", CLUSTER, 8 * CLUSTER, Some("lower"))?;
    let (below, chain) = (Chain::new(vec![Arc::clone(&lower)]), Chain::new(vec![head, lower]));
    assert_eq!(read(&chain, 0, 4)?, [0; 4]);
    below.write(at(0), &[7; 4])?;
    assert_eq!(read(&chain, 0, 4)?, [7; 4]);
    Ok(())
}

#[test]
fn layers_of_other_clusters_lengths_and_formats_are_resolved_as_they_are_read() -> Result<()> {
    let store = MemoryStore::new();
    // A raw file that ends in the middle of everything.
    let raw = store.create(&name("raw"))?;
    raw.write_at(HostOffset::ZERO, &vec![3; 90_001])?;
    let raw = Arc::new(Layer::Raw(RawLayer::open(raw, "raw")?));
    let mut layers = vec![raw];
    let mut seed = 11_u64;
    // Each ends elsewhere, one of them before the raw file does.
    for (index, (cluster, size)) in
        [(512, 200_000), (65_536, 300_032), (4096, 60_416), (1024, 400_384)].into_iter().enumerate()
    {
        let text = format!("layer-{index}");
        let chain = Chain::new(vec![image(&store, &text, cluster, size, None)?]);
        for _ in 0..12 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let from = (seed >> 33) % (size - 5000);
            let value = u8::try_from(index + 10).expect("few");
            match seed >> 62 {
                0 => chain.zero(at(from), ByteCount::new(5000), Space::Keep)?,
                _ => chain.write(at(from), &vec![value; 1 + (seed >> 40) as usize % 4999])?,
            }
        }
        chain.head().as_qcow2().expect("it is one").freeze()?;
        layers.insert(0, Arc::clone(chain.head()));
    }
    let head = image(&store, "head", 4096, 500_224, None)?;
    layers.insert(0, head);
    let chain = Chain::new(layers);
    // The same, byte by byte of the layers' own words.
    let mut expected = vec![0; 500_224];
    for (offset, byte) in expected.iter_mut().enumerate() {
        let here = offset as u64;
        for layer in chain.layers() {
            if here >= layer.size().as_u64() {
                break;
            }
            let mut holes = Vec::new();
            match layer.as_qcow2() {
                Some(image) => image.read(at(here), std::slice::from_mut(byte), &mut holes)?,
                None => *byte = if here < 90_001 { 3 } else { 0 },
            }
            if holes.is_empty() {
                break;
            }
        }
    }
    let found = read(&chain, 0, expected.len())?;
    let wrong = found.iter().zip(&expected).position(|(found, expected)| found != expected);
    assert_eq!(wrong, None);
    for (from, length) in [(59_000, 5000), (89_000, 3000), (199_999, 2), (300_000, 100), (1, 70_000)] {
        assert_eq!(read(&chain, from, length)?, expected[usize::try_from(from).expect("small")..][..length]);
    }
    Ok(())
}

#[test]
fn a_broken_entry_is_told_to_whoever_reads_it_and_to_nobody_else() -> Result<()> {
    let store = MemoryStore::new();
    let layers = stack(&store, 2, 8)?;
    // Cluster 2 is in the lower layer; its entry shall lead outside of the file.
    let image = layers[1].as_qcow2().expect("it is one");
    let header = image.header();
    let mut entry = [0; 8];
    image.blob().read_at(header.l1_table, &mut entry)?;
    let table = u64::from_be_bytes(entry) & 0x00ff_ffff_ffff_fe00;
    let blob = store.open(&name("layer-0"), Access::Write)?;
    blob.write_at(HostOffset::new(table + 2 * 8), &((1_u64 << 63) | (1 << 40)).to_be_bytes())?;
    let head = self::image(&store, "head", CLUSTER, 8 * CLUSTER, Some("layer-1"))?;
    let chain = Chain::new(vec![head, open(&store, "layer-1")?, open(&store, "layer-0")?]);
    for _ in 0..2 {
        assert_eq!(read(&chain, CLUSTER, 4)?, [2; 4]);
        assert_eq!(read(&chain, 0, 4)?, [1; 4]);
        let Err(Error::OutsideFile { .. }) = read(&chain, 2 * CLUSTER, 4) else { panic!("it lies outside") };
    }
    Ok(())
}
