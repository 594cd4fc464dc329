//! Chains of layers of every shape against a plain byte model: random requests from a printed seed.
//!
//! New heads of other sizes and cluster sizes come at random; so does reopening. Every view of a frozen layer
//! through its own chain must stay what it was when the layer was frozen.

#![expect(clippy::print_stdout, reason = "a failing test shows which seed and which shape it was")]

#[path = "support/dice.rs"]
mod dice;

use dice::Dice;
use snapgroup::chain::{Chain, Layer, RawLayer};
use snapgroup::image::{Image, Limits, NewImage, Space, Version};
use snapgroup::storage::{Access, BlobName, MemoryStore, Store};
use snapgroup::units::{ByteCount, GuestOffset};
use std::error::Error as StdError;
use std::sync::Arc;

type Outcome<T = ()> = Result<T, Box<dyn StdError>>;

/// A disk under test: its files, what was frozen, and what the guest should see.
struct Disk {
    store: MemoryStore,
    dice: Dice,
    /// The files, the lowest first.
    files: Vec<File>,
    /// What each file shows through its chain; the last one is the disk.
    views: Vec<Vec<u8>>,
    chain: Chain,
}

struct File {
    name: BlobName,
    raw: bool,
    cluster_bits: u32,
}

fn file_name(index: usize) -> BlobName {
    BlobName::parse(&format!("layer-{index}")).expect("one component")
}

fn open(store: &MemoryStore, file: &File, access: Access) -> Outcome<Arc<Layer>> {
    let blob = store.open(&file.name, access)?;
    let name = file.name.as_str();
    // Two tables at most: most requests write tables back.
    let limits = Limits { table_cache: ByteCount::new(2 << file.cluster_bits), ..Limits::default() };
    Ok(Arc::new(if file.raw {
        Layer::Raw(RawLayer::open(blob, name)?)
    } else {
        Layer::from(Image::open(blob, name, access, limits)?)
    }))
}

fn shape(dice: &mut Dice, size: usize) -> NewImage {
    let size = ByteCount::of(size);
    let cluster_bits = [9, 9, 10, 11, 12, 14, 16][dice.roll(7)];
    let refcount_order = [0, 1, 2, 3, 4, 5, 6][dice.roll(7)];
    if dice.roll(4) == 0 {
        NewImage { version: Version::V2, cluster_bits, ..NewImage::of_size(size) }
    } else {
        NewImage { cluster_bits, refcount_order, ..NewImage::of_size(size) }
    }
}

impl Disk {
    /// A raw base of any length, or an empty image.
    fn new(seed: u64) -> Outcome<Self> {
        let mut dice = Dice::of(seed);
        let store = MemoryStore::new();
        let file = File { name: file_name(0), raw: dice.roll(2) == 0, cluster_bits: 16 };
        let blob = store.create(&file.name)?;
        let (file, view) = if file.raw {
            let length = dice.roll(150_000);
            let mut bytes: Vec<u8> =
                (0..length).map(|at| u8::try_from(1 + at / 300 % 255).expect("at most 255")).collect();
            blob.write_at(snapgroup::units::HostOffset::ZERO, &bytes)?;
            bytes.resize(length.next_multiple_of(512), 0);
            (file, bytes)
        } else {
            let size = 512 * (1 + dice.roll(300));
            let new = shape(&mut dice, size);
            new.layout("base")?.write(&*blob)?;
            (File { cluster_bits: new.cluster_bits, ..file }, vec![0; size])
        };
        let layer = open(&store, &file, Access::Write)?;
        let raw = file.raw;
        let mut disk =
            Self { store, dice, files: vec![file], views: vec![view], chain: Chain::new(vec![layer]) };
        if raw {
            disk.add_head()?;
        }
        Ok(disk)
    }

    fn view(&mut self) -> &mut Vec<u8> {
        self.views.last_mut().expect("a disk has a layer")
    }

    fn head(&self) -> &Image {
        self.chain.head().as_qcow2().expect("the head is never raw")
    }

    /// Freezes the head and puts a new one above it: as large, smaller or larger.
    fn add_head(&mut self) -> Outcome {
        if let Some(head) = self.chain.head().as_qcow2() {
            head.freeze()?;
            let report = head.check()?;
            assert!(report.is_clean(), "the frozen {}: {report}", head.name());
        }
        let below = self.view().clone();
        let size = match self.dice.roll(4) {
            0 => 512 * (1 + self.dice.roll(below.len() / 512 + 1)),
            1 => below.len() + 512 * self.dice.roll(200),
            _ => below.len().max(512),
        };
        let new = shape(&mut self.dice, size);
        let file = File { name: file_name(self.files.len()), raw: false, cluster_bits: new.cluster_bits };
        println!(
            "layer {}: {:?}, cluster bits {}, refcount order {}, size {size}",
            self.files.len(),
            new.version,
            new.cluster_bits,
            new.refcount_order
        );
        new.layout("new head")?.write(&*self.store.create(&file.name)?)?;
        self.chain = self.chain.with_head(open(&self.store, &file, Access::Write)?);
        self.files.push(file);
        let mut view = below;
        view.resize(size, 0);
        self.views.push(view);
        Ok(())
    }

    fn reopen(&mut self) -> Outcome {
        self.chain.flush()?;
        self.chain = self.chain_of(self.files.len(), Access::Write)?;
        Ok(())
    }

    /// The chain of the lowest `count` files.
    fn chain_of(&self, count: usize, head: Access) -> Outcome<Chain> {
        let layers = self.files[..count].iter().enumerate().rev();
        let opened = layers.map(|(index, file)| {
            open(&self.store, file, if index + 1 == count { head } else { Access::Read })
        });
        Ok(Chain::new(opened.collect::<Outcome<_>>()?))
    }

    /// One random request, on the disk and on the model.
    fn request(&mut self, step: usize) -> Outcome {
        let size = self.view().len();
        let at = self.dice.roll(size);
        let length = 1 + self.dice.roll((size - at).min(6000));
        let (at, length) = match self.dice.roll(6) {
            // Up to the very end, and whole clusters, are cases of their own.
            0 => (at, size - at),
            1 => {
                let cluster = 1usize << self.files.last().map_or(9, |file| file.cluster_bits);
                let at = at / cluster * cluster;
                (at, (size - at).min(cluster * (1 + self.dice.roll(4))))
            }
            _ => (at, length),
        };
        let range = at..at + length;
        let guest = GuestOffset::new(at as u64);
        match self.dice.roll(12) {
            0..=5 => {
                let byte = u8::try_from(1 + step % 255).expect("at most 255");
                self.view()[range.clone()].fill(byte);
                self.chain.write(guest, &vec![byte; length])?;
            }
            6 | 7 => {
                self.view()[range].fill(0);
                let space = if self.dice.roll(2) == 0 { Space::Keep } else { Space::Free };
                self.chain.zero(guest, ByteCount::of(length), space)?;
            }
            8 => self.chain.flush()?,
            9 => self.reopen()?,
            10 => {
                let grown = size + 512 * self.dice.roll(60);
                self.chain.grow(ByteCount::of(grown))?;
                self.view().resize(grown, 0);
            }
            _ if self.files.len() < 5 => self.add_head()?,
            _ => {}
        }
        Ok(())
    }

    /// Reads a random part, or all.
    fn compare(&mut self, what: &str) -> Outcome {
        let size = self.views.last().map_or(0, Vec::len);
        let (at, length) = match self.dice.roll(4) {
            0 => (0, size),
            _ => {
                let at = self.dice.roll(size + 1);
                (at, self.dice.roll(size - at + 1))
            }
        };
        let mut found = vec![0xee; length];
        self.chain.read(GuestOffset::new(at as u64), &mut found)?;
        assert!(found == self.view()[at..at + length], "{what}: {length} bytes at {at} differ");
        Ok(())
    }

    fn check_head(&self, what: &str) -> Outcome {
        let report = self.head().check()?;
        assert!(report.is_clean(), "{what}: {report}");
        Ok(())
    }

    /// Every layer through its own chain, and every image by itself.
    fn compare_all(&mut self) -> Outcome {
        self.chain.flush()?;
        for count in 1..=self.files.len() {
            let chain = self.chain_of(count, Access::Read)?;
            let view = &self.views[count - 1];
            assert_eq!(chain.size(), ByteCount::of(view.len()));
            let mut found = vec![0xee; view.len()];
            chain.read(GuestOffset::ZERO, &mut found)?;
            assert!(found == *view, "layer {} shows something else than it did", count - 1);
            if let Some(image) = chain.head().as_qcow2() {
                let report = image.check()?;
                assert!(report.is_clean(), "layer {}: {report}", count - 1);
            }
        }
        Ok(())
    }
}

#[test]
fn a_chain_shows_what_was_written_and_a_frozen_layer_what_it_showed() -> Outcome {
    for seed in 1..=240 {
        println!("seed {seed}");
        let mut disk = Disk::new(seed)?;
        for step in 0..45 {
            disk.request(step)?;
            let what = format!("seed {seed}, step {step}");
            disk.compare(&what)?;
            disk.check_head(&what)?;
        }
        disk.compare_all()?;
    }
    Ok(())
}
