//! Maps, differences and flat copies of chains of every shape, against the plain walk of their layers and a byte
//! model: random requests from a printed seed.

#![expect(clippy::print_stdout, reason = "a failing test shows which seed and which shape it was")]

#[path = "support/dice.rs"]
mod dice;

use dice::Dice;
use snapgroup::chain::{
    Chain, Change, ChangeKind, Compress, Diff, Exactness, Extent, ExtentKind, Flatten, FlattenBase, Layer,
    RawLayer, Step,
};
use snapgroup::image::{BackingLabel, Image, Limits, Mapping, NewImage, Space, Version};
use snapgroup::storage::{Access, Blob, BlobName, MemoryStore, Store};
use snapgroup::units::{ByteCount, GuestOffset, HostOffset};
use std::error::Error as StdError;
use std::sync::Arc;

type Outcome<T = ()> = Result<T, Box<dyn StdError>>;

const SECTOR: usize = 512;

/// Files in memory, and dice.
struct Bench {
    store: MemoryStore,
    dice: Dice,
    files: usize,
}

impl Bench {
    fn new(seed: u64) -> Self {
        Self { store: MemoryStore::new(), dice: Dice::of(seed), files: 0 }
    }

    fn blob(&mut self) -> Outcome<Arc<dyn Blob>> {
        self.files += 1;
        Ok(self.store.create(&BlobName::parse(&format!("file-{}", self.files))?)?)
    }

    fn image(&mut self, new: &NewImage) -> Outcome<Arc<Layer>> {
        let blob = self.blob()?;
        new.layout("new")?.write(&*blob)?;
        // Two tables at most, so that tables come and go.
        let limits = Limits { table_cache: ByteCount::new(2 << new.cluster_bits), ..Limits::default() };
        Ok(Arc::new(Layer::from(Image::open(blob, "image", Access::Write, limits)?)))
    }

    fn raw(&mut self, bytes: &[u8]) -> Outcome<Arc<Layer>> {
        let blob = self.blob()?;
        blob.write_at(HostOffset::ZERO, bytes)?;
        Ok(Arc::new(Layer::Raw(RawLayer::open(blob, "raw")?)))
    }

    /// A chain of one layer: raw, or an image with something in it.
    fn bottom(&mut self) -> Outcome<Chain> {
        if self.dice.roll(3) == 0 {
            let length = self.dice.roll(120_000);
            let mut bytes: Vec<u8> =
                (0..length).map(|at| u8::try_from(1 + at / 300 % 255).expect("a byte")).collect();
            let cut = self.dice.roll(length + 1);
            bytes.truncate(cut);
            // The file has a hole at its end.
            let layer = self.raw(&bytes)?;
            layer.blob().set_length(ByteCount::of(length))?;
            let blob = Arc::clone(layer.blob());
            return Ok(Chain::new(vec![Arc::new(Layer::Raw(RawLayer::open(blob, "raw")?))]));
        }
        let size = SECTOR * (1 + self.dice.roll(300));
        let new = self.shape(size);
        let chain = Chain::new(vec![self.image(&new)?]);
        self.scribble(&chain)?;
        Ok(chain)
    }

    fn shape(&mut self, size: usize) -> NewImage {
        let version = if self.dice.roll(4) == 0 { Version::V2 } else { Version::V3 };
        let cluster_bits = [9, 9, 10, 11, 12, 14, 16][self.dice.roll(7)];
        NewImage { version, cluster_bits, ..NewImage::of_size(ByteCount::of(size)) }
    }

    /// A new head above a chain: as large, smaller or larger, with something in it.
    fn grown(&mut self, below: &Chain) -> Outcome<Chain> {
        let old = below.size().as_usize();
        let size = match self.dice.roll(4) {
            0 => SECTOR * (1 + self.dice.roll(old / SECTOR + 1)),
            1 => old + SECTOR * self.dice.roll(100),
            _ => old.max(SECTOR),
        };
        let new = self.shape(size);
        let chain = below.with_head(self.image(&new)?);
        self.scribble(&chain)?;
        Ok(chain)
    }

    /// A few writes and zeroes, some of them of bytes that are there already.
    fn scribble(&mut self, chain: &Chain) -> Outcome {
        let size = chain.size().as_usize();
        for _ in 0..self.dice.roll(8) {
            let at = self.dice.roll(size);
            let length = 1 + self.dice.roll((size - at).min(9_000));
            let start = GuestOffset::new(at as u64);
            let mut bytes = vec![u8::try_from(self.dice.roll(255))?; length];
            match self.dice.roll(7) {
                0 => chain.zero(start, ByteCount::of(length), Space::Keep)?,
                1 => chain.zero(start, ByteCount::of(length), Space::Free)?,
                2 => {
                    chain.read(start, &mut bytes)?;
                    chain.write(start, &bytes)?;
                }
                3 => chain.write(start, &vec![0; length])?,
                _ => chain.write(start, &bytes)?,
            }
        }
        if self.dice.roll(2) == 0 {
            chain.flush()?;
        }
        Ok(())
    }

    fn chain(&mut self, depth: usize) -> Outcome<Chain> {
        let mut chain = self.bottom()?;
        for _ in 1..depth {
            chain = self.grown(&chain)?;
        }
        Ok(chain)
    }
}

fn bytes_of(chain: &Chain) -> Outcome<Vec<u8>> {
    let mut bytes = vec![0xee; chain.size().as_usize()];
    chain.read(GuestOffset::ZERO, &mut bytes)?;
    Ok(bytes)
}

fn sectors(chain: &Chain) -> usize {
    assert_eq!(chain.size().as_usize() % SECTOR, 0);
    chain.size().as_usize() / SECTOR
}

/// Who has the say in each sector, by asking one layer after the other about this sector alone.
fn walked(chain: &Chain) -> Outcome<Vec<(usize, ExtentKind)>> {
    let layers = chain.layers();
    (0..sectors(chain))
        .map(|sector| {
            let at = GuestOffset::new((sector * SECTOR) as u64);
            for (depth, layer) in layers.iter().enumerate() {
                if at >= GuestOffset::end_of(layer.size()) {
                    return Ok((depth, ExtentKind::Zero));
                }
                let Some(image) = layer.as_qcow2() else {
                    let data = layer.blob().next_data(HostOffset::new(at.as_u64()))?;
                    let has_data = data.is_some_and(|data| data.start <= HostOffset::new(at.as_u64()));
                    return Ok((depth, if has_data { ExtentKind::Data } else { ExtentKind::Zero }));
                };
                match image.run_at(at, ByteCount::of(SECTOR))?.mapping {
                    Mapping::Absent => {}
                    Mapping::Zero => return Ok((depth, ExtentKind::Zero)),
                    _ => return Ok((depth, ExtentKind::Data)),
                }
            }
            Ok((layers.len() - 1, ExtentKind::Absent))
        })
        .collect()
}

fn range(at: GuestOffset, length: ByteCount) -> std::ops::Range<usize> {
    let start = at.as_size().as_usize();
    start..start + length.as_usize()
}

// ---- The map ------------------------------------------------------------------------------------------

#[test]
fn a_map_says_of_every_sector_what_the_layers_say_one_by_one() -> Outcome {
    for seed in 1..=300 {
        println!("seed {seed}");
        let mut bench = Bench::new(seed);
        let depth = 1 + bench.dice.roll(6);
        let chain = bench.chain(depth)?;
        let walked = walked(&chain)?;
        let bytes = bytes_of(&chain)?;
        for _ in 0..4 {
            let from = bench.dice.roll(sectors(&chain)) * SECTOR;
            let mut at = GuestOffset::new(from as u64);
            let mut before = None;
            for extent in chain.extents(at) {
                let extent: Extent = extent?;
                assert_eq!(extent.at, at, "a gap or an overlap");
                assert!(!extent.length.is_zero());
                assert_ne!(before, Some((extent.depth, extent.kind)), "two alike side by side at {at}");
                before = Some((extent.depth, extent.kind));
                let range = range(extent.at, extent.length);
                let said = &walked[range.start / SECTOR..range.end / SECTOR];
                assert!(said.iter().all(|said| *said == (extent.depth, extent.kind)), "{extent:?}: {said:?}");
                if extent.kind != ExtentKind::Data {
                    assert!(bytes[range].iter().all(|byte| *byte == 0), "{extent:?} is not zeros");
                }
                at = extent.end();
            }
            assert_eq!(at, GuestOffset::end_of(chain.size()), "the map stops early");
        }
    }
    Ok(())
}

#[test]
fn a_map_from_within_a_cluster_begins_there_and_one_from_past_the_end_is_empty() -> Outcome {
    let mut bench = Bench::new(1);
    let head = bench.image(&NewImage::of_size(ByteCount::kib(256)))?;
    let chain = Chain::new(vec![head]);
    chain.write(GuestOffset::new(70_000), b"here")?;
    let found: Vec<Extent> = chain.extents(GuestOffset::new(70_001)).collect::<Result<_, _>>()?;
    let data = Extent {
        at: GuestOffset::new(70_001),
        length: ByteCount::new(131_072 - 70_001),
        depth: 0,
        kind: ExtentKind::Data,
    };
    let absent = Extent {
        at: GuestOffset::new(131_072),
        length: ByteCount::kib(128),
        depth: 0,
        kind: ExtentKind::Absent,
    };
    assert_eq!(found, [data, absent]);
    for past in [256 << 10, 257 << 10, u64::MAX] {
        assert!(chain.extents(GuestOffset::new(past)).next().is_none());
    }
    Ok(())
}

#[test]
fn a_map_of_huge_empty_images_is_one_extent_and_reads_no_table() -> Outcome {
    let mut bench = Bench::new(1);
    let mut chain = Chain::new(vec![bench.image(&NewImage::of_size(ByteCount::tib(64)))?]);
    for _ in 0..3 {
        let head = bench.image(&NewImage::of_size(ByteCount::tib(64)))?;
        chain = chain.with_head(head);
    }
    let found: Vec<Extent> = chain.extents(GuestOffset::ZERO).collect::<Result<_, _>>()?;
    let [extent] = found[..] else { panic!("{found:?}") };
    assert_eq!((extent.length, extent.depth, extent.kind), (ByteCount::tib(64), 3, ExtentKind::Absent));
    Ok(())
}

#[test]
fn a_short_layer_hides_what_is_deeper_and_is_named_as_the_one_that_does() -> Outcome {
    let mut bench = Bench::new(1);
    let low = bench.raw(&[7; 131_072])?;
    let short = bench.image(&NewImage::of_size(ByteCount::kib(64)))?;
    let head = bench.image(&NewImage::of_size(ByteCount::kib(192)))?;
    let chain = Chain::new(vec![head, short, low]);
    let found: Vec<Extent> = chain.extents(GuestOffset::ZERO).collect::<Result<_, _>>()?;
    let shown: Vec<_> = found.iter().map(|extent| (extent.length, extent.depth, extent.kind)).collect();
    let expected = [(ByteCount::kib(64), 2, ExtentKind::Data), (ByteCount::kib(128), 1, ExtentKind::Zero)];
    assert_eq!(shown, expected);
    Ok(())
}

#[test]
fn a_broken_table_is_told_where_it_is_reached_and_ends_the_map() -> Outcome {
    let mut bench = Bench::new(1);
    let new = NewImage { cluster_bits: 9, ..NewImage::of_size(ByteCount::kib(128)) };
    let layer = bench.image(&new)?;
    let chain = Chain::new(vec![Arc::clone(&layer)]);
    chain.write(GuestOffset::new(40 << 10), &[1; 512])?;
    chain.flush()?;
    let header = layer.as_qcow2().expect("an image").header();
    // The second of the tables is said to lie far past the end of the file.
    let entry = (1_u64 << 63 | 1 << 40).to_be_bytes();
    layer.blob().write_at(header.l1_table + ByteCount::new(8), &entry)?;
    let blob = Arc::clone(layer.blob());
    let broken = Layer::from(Image::open(blob, "broken", Access::Read, Limits::default())?);
    let chain = Chain::new(vec![Arc::new(broken)]);
    let mut map = chain.extents(GuestOffset::ZERO);
    let first = map.next().expect("up to the broken table")?;
    assert_eq!((first.length, first.kind), (ByteCount::kib(32), ExtentKind::Absent));
    let Some(Err(error)) = map.next() else { panic!("a table past the end was not noticed") };
    assert!(error.to_string().contains("outside of the file"), "{error}");
    assert!(map.next().is_none());
    let mut diff = Diff::allocated(&chain, GuestOffset::ZERO, Exactness::Tables);
    assert!(matches!(diff.next(), Some(Err(_))));
    assert!(diff.next().is_none());
    Ok(())
}

// ---- Differences --------------------------------------------------------------------------------------

/// Two chains that share their lowest layers, and how many.
fn branches(bench: &mut Bench) -> Outcome<(Chain, Chain, usize)> {
    let depth = 1 + bench.dice.roll(3);
    let trunk = bench.chain(depth)?;
    let branch = |bench: &mut Bench| -> Outcome<Chain> {
        let mut chain = trunk.clone();
        for _ in 0..bench.dice.roll(4) {
            chain = bench.grown(&chain)?;
        }
        Ok(chain)
    };
    let (from, to) = (branch(bench)?, branch(bench)?);
    // Every now and then nothing is said to be shared, which is no lie.
    let shared = if bench.dice.roll(8) == 0 { 0 } else { depth };
    Ok((from, to, shared))
}

fn applied(from: &[u8], to: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = from.to_vec();
    bytes.resize(from.len().max(to.len()), 0);
    for change in changes {
        let range = range(change.at, change.length);
        match change.kind {
            ChangeKind::Zero => bytes[range].fill(0),
            ChangeKind::Data => bytes[range.clone()].copy_from_slice(&to[range]),
        }
    }
    // Past the end of the newer disk, too, nothing is left of the older one.
    assert!(bytes[to.len()..].iter().all(|byte| *byte == 0));
    bytes.truncate(to.len());
    bytes
}

fn assert_apart(changes: &[Change]) {
    for pair in changes.windows(2) {
        let (one, next) = (pair[0], pair[1]);
        assert!(one.end() < next.at || one.end() == next.at && one.kind != next.kind, "{one:?} {next:?}");
    }
}

fn marked(changes: &[Change], sectors: usize) -> Vec<bool> {
    let mut marked = vec![false; sectors];
    for change in changes {
        let range = range(change.at, change.length);
        marked[range.start / SECTOR..range.end / SECTOR].fill(true);
    }
    marked
}

#[test]
fn a_difference_put_onto_the_older_disk_gives_the_newer_one() -> Outcome {
    let start = GuestOffset::ZERO;
    for seed in 1..=300 {
        println!("seed {seed}");
        let mut bench = Bench::new(seed);
        let (from, to, shared) = branches(&mut bench)?;
        let (old, new) = (bytes_of(&from)?, bytes_of(&to)?);
        for exactness in [Exactness::Tables, Exactness::Content] {
            let all = |from: &Chain, to: &Chain, shared| -> Outcome<Vec<Change>> {
                Ok(Diff::between(from, to, shared, start, exactness).collect::<Result<_, _>>()?)
            };
            let changes = all(&from, &to, shared)?;
            assert_apart(&changes);
            assert!(applied(&old, &new, &changes) == new, "{exactness:?}: {changes:?}");
            let count = sectors(&from).max(sectors(&to));
            let back = all(&to, &from, shared)?;
            assert!(applied(&new, &old, &back) == old, "{exactness:?}, back: {back:?}");
            assert_eq!(marked(&changes, count), marked(&back, count), "both directions");
            // From any sector on it is the rest of the same.
            let cut = bench.dice.roll(count) * SECTOR;
            let rest = Diff::between(&from, &to, shared, GuestOffset::new(cut as u64), exactness);
            let rest: Vec<Change> = rest.collect::<Result<_, _>>()?;
            assert_eq!(marked(&rest, count)[cut / SECTOR..], marked(&changes, count)[cut / SECTOR..]);
            assert!(rest.first().is_none_or(|first| first.at.as_u64() >= cut as u64));
            assert_eq!(all(&to, &to, to.layers().len())?, []);
        }
    }
    Ok(())
}

#[test]
fn an_exact_difference_holds_every_sector_that_differs_and_no_other() -> Outcome {
    for seed in 1..=200 {
        println!("seed {seed}");
        let mut bench = Bench::new(seed);
        let (from, to, shared) = branches(&mut bench)?;
        let exact = Diff::between(&from, &to, shared, GuestOffset::ZERO, Exactness::Content);
        let exact: Vec<Change> = exact.collect::<Result<_, _>>()?;
        let (mut old, mut new) = (bytes_of(&from)?, bytes_of(&to)?);
        let longest = old.len().max(new.len());
        old.resize(longest, 0);
        new.resize(longest, 0);
        let differs: Vec<bool> =
            old.chunks(SECTOR).zip(new.chunks(SECTOR)).map(|(old, new)| old != new).collect();
        assert_eq!(marked(&exact, differs.len()), differs);

        let to_bytes = bytes_of(&to)?;
        let held = Diff::allocated(&to, GuestOffset::ZERO, Exactness::Content);
        let held: Vec<Change> = held.collect::<Result<_, _>>()?;
        let nonzero: Vec<bool> =
            to_bytes.chunks(SECTOR).map(|sector| sector.iter().any(|byte| *byte != 0)).collect();
        assert_eq!(marked(&held, nonzero.len()), nonzero);
    }
    Ok(())
}

#[test]
fn a_difference_by_the_tables_is_where_a_layer_that_is_not_shared_defines_something() -> Outcome {
    for seed in 1..=200 {
        println!("seed {seed}");
        let mut bench = Bench::new(seed);
        let (from, to, shared) = branches(&mut bench)?;
        let changes = Diff::between(&from, &to, shared, GuestOffset::ZERO, Exactness::Tables);
        let changes: Vec<Change> = changes.collect::<Result<_, _>>()?;
        let (old, new) = (walked(&from)?, walked(&to)?);
        let own = |chain: &Chain, (depth, kind): (usize, ExtentKind)| {
            kind != ExtentKind::Absent && depth < chain.layers().len() - shared
        };
        let expected: Vec<bool> = (0..old.len().max(new.len()))
            .map(|sector| match (old.get(sector), new.get(sector)) {
                (Some(old), Some(new)) => {
                    let data = old.1 == ExtentKind::Data || new.1 == ExtentKind::Data;
                    data && (own(&from, *old) || own(&to, *new))
                }
                (Some(only), None) | (None, Some(only)) => only.1 == ExtentKind::Data,
                (None, None) => false,
            })
            .collect();
        assert_eq!(marked(&changes, expected.len()), expected);

        let held = Diff::allocated(&to, GuestOffset::ZERO, Exactness::Tables);
        let held: Vec<Change> = held.collect::<Result<_, _>>()?;
        let data: Vec<bool> = new.iter().map(|(_, kind)| *kind == ExtentKind::Data).collect();
        assert_eq!(marked(&held, data.len()), data);
        assert!(held.iter().all(|change| change.kind == ChangeKind::Data));
    }
    Ok(())
}

#[test]
fn what_is_shared_is_not_looked_at_where_nothing_was_written() -> Outcome {
    let mut bench = Bench::new(1);
    let new = NewImage { cluster_bits: 9, ..NewImage::of_size(ByteCount::mib(1)) };
    let shared = bench.image(&new)?;
    let trunk = Chain::new(vec![Arc::clone(&shared)]);
    trunk.write(GuestOffset::ZERO, &vec![3; 1 << 20])?;
    trunk.flush()?;
    // Every table but the first is made unreadable: whoever looks at one fails.
    let image = shared.as_qcow2().expect("an image");
    for index in 1..image.header().l1_entries {
        let at = image.header().l1_table + ByteCount::new(u64::from(index) * 8);
        shared.blob().write_at(at, &(1_u64 << 63 | 1 << 40).to_be_bytes())?;
    }
    let opened = Image::open(Arc::clone(shared.blob()), "shared", Access::Read, Limits::default())?;
    let trunk = Chain::new(vec![Arc::new(Layer::from(opened))]);
    let to = trunk.with_head(bench.image(&new)?);
    to.write(GuestOffset::new(1024), &[4; 512])?;
    let changes = Diff::between(&trunk, &to, 1, GuestOffset::ZERO, Exactness::Content);
    let changes: Vec<Change> = changes.collect::<Result<_, _>>()?;
    let expected = Change { at: GuestOffset::new(1024), length: ByteCount::new(512), kind: ChangeKind::Data };
    assert_eq!(changes, [expected]);
    Ok(())
}

// ---- Flat copies --------------------------------------------------------------------------------------

/// Runs a copy to its end in small steps; it must say that it did what it was about to do.
fn run(mut flatten: Flatten, budget: ByteCount) -> Outcome {
    let total = flatten.total();
    while flatten.step(budget)? == Step::More {
        assert!(flatten.written() <= total);
    }
    assert_eq!(flatten.written(), total);
    Ok(())
}

#[test]
fn a_raw_copy_holds_what_the_chain_shows_and_no_blocks_of_zeros() -> Outcome {
    for seed in 1..=150 {
        println!("seed {seed}");
        let mut bench = Bench::new(seed);
        let depth = 1 + bench.dice.roll(5);
        let chain = bench.chain(depth)?;
        let blob = bench.blob()?;
        let budget = ByteCount::new([1, 5_000, 1 << 30][bench.dice.roll(3)]);
        run(Flatten::to_raw(&chain, Arc::clone(&blob))?, budget)?;
        let expected = bytes_of(&chain)?;
        let mut found = vec![0xee; blob.length()?.as_usize()];
        blob.read_at(HostOffset::ZERO, &mut found)?;
        assert!(found == expected);
    }
    Ok(())
}

#[test]
fn a_copy_into_an_image_is_clean_and_holds_what_the_chain_shows() -> Outcome {
    for seed in 1..=150 {
        println!("seed {seed}");
        let mut bench = Bench::new(seed);
        let depth = 1 + bench.dice.roll(5);
        let chain = bench.chain(depth)?;
        let new = NewImage { version: Version::V3, ..bench.shape(chain.size().as_usize()) };
        let layer = bench.image(&new)?;
        let budget = ByteCount::new([1, 5_000, 1 << 30][bench.dice.roll(3)]);
        run(Flatten::to_image(&chain, None, Arc::clone(&layer), Compress::No)?, budget)?;
        let flat = Chain::new(vec![Arc::clone(&layer)]);
        let expected = bytes_of(&chain)?;
        assert!(bytes_of(&flat)? == expected);
        let report = layer.as_qcow2().expect("an image").check()?;
        assert!(report.is_clean(), "{report}");
        for extent in flat.extents(GuestOffset::ZERO) {
            let extent = extent?;
            assert_ne!(extent.kind, ExtentKind::Zero, "a zero cluster that hides nothing");
            let zeros = |cluster: &[u8]| cluster.iter().all(|byte| *byte == 0);
            let cluster = 1 << new.cluster_bits;
            let wasted = extent.kind == ExtentKind::Data
                && expected[range(extent.at, extent.length)].chunks(cluster).any(zeros);
            assert!(!wasted, "a cluster of zeros was written");
        }
    }
    Ok(())
}

#[test]
fn an_increment_above_its_base_shows_what_the_chain_shows() -> Outcome {
    for seed in 1..=300 {
        println!("seed {seed}");
        let mut bench = Bench::new(seed);
        let (base, to, shared) = branches(&mut bench)?;
        let new = NewImage {
            version: Version::V3,
            backing: Some(BackingLabel { name: "base".into(), format: "qcow2".into() }),
            ..bench.shape(to.size().as_usize())
        };
        let layer = bench.image(&new)?;
        let budget = ByteCount::new([1, 5_000, 1 << 30][bench.dice.roll(3)]);
        let below = FlattenBase { chain: base.clone(), shared };
        run(Flatten::to_image(&to, Some(&below), Arc::clone(&layer), Compress::No)?, budget)?;
        let whole = base.with_head(Arc::clone(&layer));
        assert!(bytes_of(&whole)? == bytes_of(&to)?);
        let report = layer.as_qcow2().expect("an image").check()?;
        assert!(report.is_clean(), "{report}");
        // Nothing is in it that the tables do not say to differ.
        let changes = Diff::between(&base, &to, shared, GuestOffset::ZERO, Exactness::Tables);
        let changes: Vec<Change> = changes.collect::<Result<_, _>>()?;
        let changed = marked(&changes, sectors(&to).max(sectors(&base)));
        let cluster = (1 << new.cluster_bits) / SECTOR;
        for extent in whole.extents(GuestOffset::ZERO) {
            let extent = extent?;
            if extent.depth == 0 && extent.kind != ExtentKind::Absent {
                let range = range(extent.at, extent.length);
                let held = &changed[range.start / SECTOR..range.end / SECTOR];
                let needed = held.chunks(cluster).all(|cluster| cluster.contains(&true));
                assert!(needed, "{extent:?} has a cluster that does not differ");
            }
        }
    }
    Ok(())
}

#[test]
fn a_step_copies_about_what_it_may() -> Outcome {
    let mut bench = Bench::new(1);
    let source = Chain::new(vec![bench.image(&NewImage::of_size(ByteCount::mib(8)))?]);
    source.write(GuestOffset::ZERO, &vec![1; 5 << 20])?;
    let layer = bench.image(&NewImage::of_size(ByteCount::mib(8)))?;
    let mut flatten = Flatten::to_image(&source, None, layer, Compress::No)?;
    assert_eq!((flatten.total(), flatten.written()), (ByteCount::mib(5), ByteCount::ZERO));
    // At least one cluster, and no more than what is asked for.
    assert_eq!(flatten.step(ByteCount::new(1))?, Step::More);
    assert_eq!(flatten.written(), ByteCount::kib(64));
    assert_eq!(flatten.step(ByteCount::kib(192))?, Step::More);
    assert_eq!(flatten.written(), ByteCount::kib(256));
    assert_eq!(flatten.step(ByteCount::mib(3))?, Step::More);
    assert_eq!(flatten.written(), ByteCount::kib(256) + ByteCount::mib(3));
    assert_eq!(flatten.step(ByteCount::mib(8))?, Step::Done);
    assert_eq!(flatten.step(ByteCount::mib(8))?, Step::Done);
    Ok(())
}
