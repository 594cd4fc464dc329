//! Chains made half by QEMU and half by us: each reads what the other wrote, and finds nothing wrong with it.
//!
//! Needs `qemu-img` and `qemu-io` in the path: `cargo test --release --test interop_chain -- --ignored`.

#![expect(clippy::print_stdout, reason = "a failing test shows which seed and which shape it was")]

#[path = "support/dice.rs"]
mod dice;
#[path = "support/qemu.rs"]
mod qemu;
#[path = "support/qemu_io.rs"]
mod qemu_io;

use dice::Dice;
use qemu::{Checked, Qemu};
use snapgroup::chain::{Chain, ExtentKind, Layer, RawLayer};
use snapgroup::image::{BackingLabel, Image, L2Width, Limits, NewImage, Space, Version};
use snapgroup::storage::{Access, BlobName, DiskStore, Store};
use snapgroup::units::{ByteCount, GuestOffset};
use std::error::Error as StdError;
use std::path::Path;
use std::sync::Arc;

type Outcome<T = ()> = Result<T, Box<dyn StdError>>;

const DEPTH: usize = 5;

#[derive(Clone, Copy, Debug)]
struct Shape {
    version: Version,
    cluster_bits: u32,
    refcount_order: u32,
    l2: L2Width,
}

impl Shape {
    /// A version 3 image with subclusters.
    fn extended(cluster_bits: u32, refcount_order: u32) -> Self {
        Self { version: Version::V3, cluster_bits, refcount_order, l2: L2Width::Extended }
    }

    /// What is allocated on its own.
    fn unit_bits(self) -> u32 {
        if self.l2 == L2Width::Extended { self.cluster_bits - 5 } else { self.cluster_bits }
    }
}

/// Whether QEMU takes an internal snapshot of each layer between the writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Internal {
    None,
    Taken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Us,
    Qemu,
}

/// A chain in a directory, and what a guest should see of it.
struct Stack<'a> {
    directory: &'a Path,
    qemu: Qemu<'a>,
    store: DiskStore,
    dice: Dice,
    /// Name and format of each file, the lowest first.
    files: Vec<(String, &'static str)>,
    model: Vec<u8>,
    /// The internal snapshots: in which file, by which name, and what the disk showed then.
    internal: Vec<(String, String, Vec<u8>)>,
}

impl<'a> Stack<'a> {
    fn new(directory: &'a Path, seed: u64) -> Outcome<Self> {
        Ok(Self {
            directory,
            qemu: Qemu::in_directory(directory),
            store: DiskStore::open(directory)?,
            dice: Dice::of(seed),
            files: Vec::new(),
            model: Vec::new(),
            internal: Vec::new(),
        })
    }

    /// A raw file of an odd length as the base.
    fn raw_base(&mut self, length: usize) -> Outcome {
        let mut bytes: Vec<u8> = (0..=250).cycle().take(length).collect();
        std::fs::write(self.directory.join("base.raw"), &bytes)?;
        bytes.resize(length.next_multiple_of(512), 0);
        self.model = bytes;
        self.files.push(("base.raw".to_owned(), "raw"));
        Ok(())
    }

    /// A new image on top, backed by what is there.
    fn add(&mut self, who: Who, shape: Shape, size: usize) -> Outcome {
        let name = format!("layer-{}.qcow2", self.files.len());
        let backing = self.files.last().cloned();
        match who {
            Who::Us => {
                let new = NewImage {
                    version: shape.version,
                    l2: shape.l2,
                    cluster_bits: shape.cluster_bits,
                    refcount_order: shape.refcount_order,
                    size: ByteCount::of(size),
                    backing: backing.map(|(name, format)| BackingLabel { name, format: format.to_owned() }),
                    identity: None,
                    notes: None,
                };
                new.layout(&name)?.write(&*self.store.create(&BlobName::parse(&name)?)?)?;
            }
            Who::Qemu => {
                let compat = if shape.version == Version::V2 { "0.10" } else { "1.1" };
                let mut options = format!(
                    "compat={compat},cluster_size={},refcount_bits={}",
                    1 << shape.cluster_bits,
                    1 << shape.refcount_order
                );
                if shape.l2 == L2Width::Extended {
                    options += ",extended_l2=on";
                }
                let size = size.to_string();
                let mut arguments = vec!["create", "-q", "-f", "qcow2", "-o", &options];
                if let Some((backing, format)) = &backing {
                    arguments.extend(["-b", backing, "-F", format]);
                }
                arguments.extend([name.as_str(), &size]);
                self.qemu.img(&arguments);
            }
        }
        self.model.resize(size, 0);
        self.files.push((name, "qcow2"));
        Ok(())
    }

    fn head(&self) -> &str {
        &self.files.last().expect("a file").0
    }

    fn chain(&self, access: Access) -> Outcome<Chain> {
        let mut layers = Vec::new();
        for (index, (name, format)) in self.files.iter().enumerate().rev() {
            let access = if index + 1 == self.files.len() { access } else { Access::Read };
            let blob = self.store.open(&BlobName::parse(name)?, access)?;
            layers.push(Arc::new(match *format {
                "raw" => Layer::Raw(RawLayer::open(blob, name)?),
                _ => Layer::from(Image::open(blob, name, access, Limits::default())?),
            }));
        }
        Ok(Chain::new(layers))
    }

    /// Some sectors of the disk.
    fn sectors(&mut self, cluster_bits: u32) -> std::ops::Range<usize> {
        let (sectors, cluster) = (self.model.len() / 512, (1usize << cluster_bits) / 512);
        let at = self.dice.roll(sectors);
        let longest = (cluster * 3).max(20).min(sectors - at);
        let length = 1 + self.dice.roll(longest);
        // Half of the requests are whole clusters.
        match self.dice.roll(2) {
            0 => at * 512..(at + length) * 512,
            _ => {
                let at = at / cluster * cluster;
                at * 512..(at + length.next_multiple_of(cluster)).min(sectors) * 512
            }
        }
    }

    fn write_by_us(&mut self, cluster_bits: u32) -> Outcome {
        let chain = self.chain(Access::Write)?;
        for turn in 0..10 {
            let range = self.sectors(cluster_bits);
            let at = GuestOffset::new(range.start as u64);
            if turn % 3 < 2 {
                let byte = u8::try_from(1 + self.dice.roll(250))?;
                self.model[range.clone()].fill(byte);
                chain.write(at, &self.model[range])?;
            } else {
                let space = if self.dice.roll(2) == 0 { Space::Keep } else { Space::Free };
                chain.zero(at, ByteCount::of(range.len()), space)?;
                self.model[range].fill(0);
            }
            if turn == 5 {
                chain.flush()?;
            }
        }
        chain.flush()?;
        Ok(())
    }

    fn write_by_qemu(&mut self, cluster_bits: u32) -> Outcome {
        let mut commands = Vec::new();
        for turn in 0..10 {
            let range = self.sectors(cluster_bits);
            let (at, length) = (range.start, range.len());
            if turn % 3 < 2 {
                let byte = u8::try_from(1 + self.dice.roll(250))?;
                self.model[range].fill(byte);
                commands.push(format!("write -P {byte} {at} {length}"));
            } else {
                let unmap = if self.dice.roll(2) == 0 { "-u " } else { "" };
                self.model[range].fill(0);
                commands.push(format!("write -z {unmap}{at} {length}"));
            }
        }
        self.qemu.io(&["-f", "qcow2", "-d", "unmap", self.head()], &commands);
        Ok(())
    }

    /// Lets QEMU take an internal snapshot in the head.
    fn snapshot_by_qemu(&mut self) {
        let name = format!("s{}", self.internal.len());
        self.qemu.img(&["snapshot", "-c", &name, self.head()]);
        self.internal.push((self.head().to_owned(), name, self.model.clone()));
    }

    /// We list every internal snapshot, and QEMU goes back to each, in a copy, and finds what was there.
    fn verify_internal(&self) -> Outcome {
        for layer in self.chain(Access::Read)?.layers() {
            let Some(image) = layer.as_qcow2() else { continue };
            let named = self.internal.iter().filter(|(file, ..)| file == image.name());
            let named: Vec<&str> = named.map(|(_, name, _)| name.as_str()).collect();
            let listed = image.internal_snapshots()?;
            assert_eq!(listed.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), named);
            for one in listed {
                assert!(one.date_seconds > 1_500_000_000 && one.vm_state_size.is_zero(), "{one:?}");
                assert!(one.disk_size.is_none_or(|size| size == image.size()), "{one:?}");
            }
        }
        for (file, name, shown) in &self.internal {
            std::fs::copy(self.directory.join(file), self.directory.join("copy.qcow2"))?;
            std::fs::write(self.directory.join("shown.raw"), shown)?;
            self.qemu.img(&["snapshot", "-a", name, "copy.qcow2"]);
            self.qemu.img(&["compare", "-q", "-f", "qcow2", "-F", "raw", "copy.qcow2", "shown.raw"]);
            let (checked, said) = self.qemu.check("copy.qcow2");
            assert_eq!(checked, Checked::Clean, "{name} in {file}: {said}");
        }
        Ok(())
    }

    /// Both find data in the same places, in the same layers.
    fn verify_map(&self, what: &str) -> Outcome {
        let said = self.qemu.img(&["map", "-f", "qcow2", "--output=json", self.head()]);
        let stretches: Vec<serde_json::Value> = serde_json::from_str(&said)?;
        let number = |stretch: &serde_json::Value, key: &str| stretch[key].as_u64().expect("a number");
        let mut theirs: Vec<(u64, u64, u64)> = Vec::new();
        let data = stretches.iter().filter(|stretch| stretch["data"] == true);
        for (start, length, depth) in
            data.map(|one| (number(one, "start"), number(one, "length"), number(one, "depth")))
        {
            // What fills up the last sector of a raw file is the file's to us, and nobody's to QEMU.
            let length = length.next_multiple_of(512);
            match theirs.last_mut() {
                Some(last) if last.0 + last.1 == start && last.2 == depth => last.1 += length,
                _ => theirs.push((start, length, depth)),
            }
        }
        let mut ours = Vec::new();
        for extent in self.chain(Access::Read)?.extents(GuestOffset::ZERO) {
            let extent = extent?;
            if extent.kind == ExtentKind::Data {
                ours.push((extent.at.as_u64(), extent.length.as_u64(), extent.depth as u64));
            }
        }
        assert_eq!(ours, theirs, "{what}");
        Ok(())
    }

    /// What QEMU makes of a discard is its own business; what it shows afterwards is what we must show.
    fn discard_by_qemu(&mut self, cluster_bits: u32) -> Outcome {
        let range = self.sectors(cluster_bits);
        let command = format!("discard {} {}", range.start, range.len());
        self.qemu.io(&["-f", "qcow2", "-d", "unmap", self.head()], &[command]);
        self.qemu.img(&["convert", "-f", "qcow2", "-O", "raw", self.head(), "discarded.raw"]);
        let shown = std::fs::read(self.directory.join("discarded.raw"))?;
        for (at, (now, before)) in shown.iter().zip(&self.model).enumerate() {
            assert!(now == before || range.contains(&at) && *now == 0, "a discard changed byte {at}");
        }
        self.model = shown;
        Ok(())
    }

    /// Both find every image clean, and both see what the model says.
    fn verify(&self, what: &str) -> Outcome {
        std::fs::write(self.directory.join("model.raw"), &self.model)?;
        self.qemu.img(&["compare", "-q", "-f", "qcow2", "-F", "raw", self.head(), "model.raw"]);
        let chain = self.chain(Access::Read)?;
        assert_eq!(chain.size(), ByteCount::of(self.model.len()), "{what}");
        let mut found = vec![0xee; self.model.len()];
        chain.read(GuestOffset::ZERO, &mut found)?;
        assert!(found == self.model, "{what}: we see something else");
        for (layer, (name, format)) in chain.layers().iter().rev().zip(&self.files) {
            if *format == "raw" {
                continue;
            }
            let (checked, said) = self.qemu.check(name);
            assert_eq!(checked, Checked::Clean, "{what}: {name}: {said}");
            let report = layer.as_qcow2().expect("an image").check()?;
            assert!(report.is_clean(), "{what}: {name}: {report}");
        }
        Ok(())
    }

    /// QEMU finds each backing file by a relative name, and each format is written down.
    fn verify_names(&self) -> Outcome {
        let said = self.qemu.img(&["info", "-f", "qcow2", "--backing-chain", "--output=json", self.head()]);
        let layers: Vec<serde_json::Value> = serde_json::from_str(&said)?;
        assert_eq!(layers.len(), self.files.len());
        let names = self.files.iter().rev();
        for (index, (layer, (name, format))) in layers.iter().zip(names).enumerate() {
            assert_eq!(layer["filename"], name.as_str(), "{said}");
            assert_eq!(layer["format"], *format, "{said}");
            let below = self.files.len().checked_sub(index + 2).map(|below| &self.files[below]);
            assert_eq!(layer["backing-filename"].as_str(), below.map(|below| below.0.as_str()));
            assert_eq!(layer["backing-filename-format"].as_str(), below.map(|below| below.1));
        }
        Ok(())
    }
}

/// Five layers over a base, made and written in turn.
fn half_by_each(seed: u64, base: Shape, raw: bool, internal: Internal) -> Outcome {
    println!("seed {seed}, raw base {raw}, internal snapshots {internal:?}: {base:?}");
    let directory = tempfile::tempdir()?;
    let mut stack = Stack::new(directory.path(), seed)?;
    let cluster = 1usize << base.cluster_bits;
    let size = (cluster * 5 / 2).max(200 << 10).next_multiple_of(512);
    if raw {
        stack.raw_base(size - 700)?;
    }
    let cluster_bits = [9, 12, 16, 21];
    for index in 0..DEPTH {
        let who = |turn: usize| if (index + turn).is_multiple_of(2) { Who::Us } else { Who::Qemu };
        // The first layers have the shape of the matrix, the ones above vary: clusters, version, length.
        let shape = match index {
            0 | 1 => base,
            2 => Shape { version: Version::V3, cluster_bits: 16, ..base },
            _ => Shape {
                version: Version::V3,
                cluster_bits: cluster_bits[stack.dice.roll(4)],
                refcount_order: [0, 4, 6][stack.dice.roll(3)],
                l2: L2Width::Standard,
            },
        };
        let size = match index {
            2 => size / 2 / 512 * 512,
            3 => size + 5 * 512,
            _ => size,
        };
        let maker = usize::try_from(seed % 2)?;
        stack.add(who(maker), shape, size)?;
        stack.verify(&format!("layer {index} made by {:?}", who(maker)))?;
        for writer in [maker + 1, maker] {
            if internal == Internal::Taken && shape.refcount_order > 0 {
                stack.snapshot_by_qemu();
            }
            match who(writer) {
                Who::Us => stack.write_by_us(shape.unit_bits())?,
                Who::Qemu => stack.write_by_qemu(shape.unit_bits())?,
            }
            stack.verify(&format!("layer {index} written by {:?}", who(writer)))?;
            stack.verify_map(&format!("layer {index} written by {:?}", who(writer)))?;
        }
        stack.discard_by_qemu(shape.unit_bits())?;
        stack.verify(&format!("layer {index} discarded by QEMU"))?;
    }
    stack.verify_internal()?;
    stack.verify_names()
}

fn matrix(cluster_bits: u32) -> Outcome {
    let mut seed = u64::from(cluster_bits) * 100;
    for raw in [true, false] {
        for refcount_order in [0, 4, 6] {
            seed += 1;
            let shape = Shape { version: Version::V3, cluster_bits, refcount_order, l2: L2Width::Standard };
            half_by_each(seed, shape, raw, Internal::None)?;
        }
        seed += 1;
        let shape = Shape { version: Version::V2, cluster_bits, refcount_order: 4, l2: L2Width::Standard };
        half_by_each(seed, shape, raw, Internal::None)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn chains_with_clusters_of_512_bytes_are_seen_alike_by_both() -> Outcome {
    matrix(9)
}

#[test]
#[ignore = "needs qemu-img"]
fn chains_with_clusters_of_4_kib_are_seen_alike_by_both() -> Outcome {
    matrix(12)
}

#[test]
#[ignore = "needs qemu-img"]
fn chains_with_clusters_of_64_kib_are_seen_alike_by_both() -> Outcome {
    matrix(16)
}

#[test]
#[ignore = "needs qemu-img"]
fn chains_with_clusters_of_2_mib_are_seen_alike_by_both() -> Outcome {
    matrix(21)
}

#[test]
#[ignore = "needs qemu-img"]
fn chains_with_subclusters_are_seen_alike_by_both() -> Outcome {
    for (seed, cluster_bits) in (900..).zip([14, 16, 21]) {
        for (raw, refcount_order) in [(true, 0), (false, 4)] {
            half_by_each(seed, Shape::extended(cluster_bits, refcount_order), raw, Internal::None)?;
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn internal_snapshots_are_kept_by_both() -> Outcome {
    let standard = |version, cluster_bits, refcount_order| Shape {
        version,
        cluster_bits,
        refcount_order,
        l2: L2Width::Standard,
    };
    let shapes = [
        standard(Version::V3, 9, 1),
        standard(Version::V3, 16, 4),
        standard(Version::V2, 12, 4),
        standard(Version::V3, 21, 6),
        Shape::extended(14, 4),
        Shape::extended(16, 2),
    ];
    for (seed, shape) in (950..).zip(shapes) {
        half_by_each(seed, shape, seed.is_multiple_of(2), Internal::Taken)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs qemu-img"]
fn a_disk_that_was_grown_hides_what_a_longer_layer_below_has() -> Outcome {
    for (seed, who) in [(1, Who::Us), (2, Who::Qemu)] {
        for version in [Version::V3, Version::V2] {
            let directory = tempfile::tempdir()?;
            let mut stack = Stack::new(directory.path(), seed)?;
            let shape = Shape { version, cluster_bits: 12, refcount_order: 4, l2: L2Width::Standard };
            stack.raw_base(300_000)?;
            stack.add(who, shape, 100_352)?;
            let grown = 250_368;
            match who {
                Who::Us => stack.chain(Access::Write)?.grow(ByteCount::of(grown))?,
                Who::Qemu if version == Version::V2 => continue,
                Who::Qemu => {
                    let size = grown.to_string();
                    let _ = stack.qemu.img(&["resize", "-f", "qcow2", stack.head(), &size]);
                }
            }
            stack.model.resize(grown, 0);
            stack.verify(&format!("grown by {who:?}"))?;
            stack.write_by_us(12)?;
            stack.write_by_qemu(12)?;
            stack.verify("written after it was grown")?;
        }
    }
    Ok(())
}
