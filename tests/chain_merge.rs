//! Retired layers merged away, in memory: what a guest sees through the child is the same at every step.

#![expect(clippy::print_stdout, reason = "a failing test shows which seed and which shape it was")]

#[path = "support/dice.rs"]
mod dice;

use dice::Dice;
use snapgroup::chain::merge::{self, Commit, Progress, Pull, Punch};
use snapgroup::chain::{Chain, Extents, Layer, Ranges, RawLayer};
use snapgroup::image::{Error, Image, Limits, Mapping, NewImage, Result, Space, Version};
use snapgroup::storage::{Access, BlobName, MemoryStore, Store};
use snapgroup::units::{ByteCount, GuestOffset, HostOffset};
use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

type Outcome<T = ()> = std::result::Result<T, Box<dyn StdError>>;

const KIB: usize = 1024;

fn at(address: usize) -> GuestOffset {
    GuestOffset::new(address as u64)
}

fn bytes(count: usize) -> ByteCount {
    ByteCount::of(count)
}

fn image(new: &NewImage) -> Outcome<Arc<Layer>> {
    let blob = MemoryStore::new().create(&BlobName::parse("layer")?)?;
    new.layout("layer")?.write(&*blob)?;
    // Two tables at most: most requests write tables back.
    let limits = Limits { table_cache: ByteCount::new(2 << new.cluster_bits), ..Limits::default() };
    Ok(Arc::new(Layer::from(Image::open(blob, "layer", Access::Write, limits)?)))
}

/// An image with clusters of 64 KiB, or as `cluster_bits` says.
fn sized(size: usize, cluster_bits: u32) -> Outcome<Arc<Layer>> {
    image(&NewImage { cluster_bits, ..NewImage::of_size(bytes(size)) })
}

fn sized_v2(size: usize, cluster_bits: u32) -> Outcome<Arc<Layer>> {
    image(&NewImage { cluster_bits, version: Version::V2, ..NewImage::of_size(bytes(size)) })
}

/// A raw file that has holes where whole KiB are zeros.
fn raw(content: &[u8]) -> Outcome<Arc<Layer>> {
    let blob = MemoryStore::new().create(&BlobName::parse("raw")?)?;
    for (index, piece) in
        content.chunks(KIB).enumerate().filter(|(_, piece)| piece.iter().any(|byte| *byte != 0))
    {
        blob.write_at(HostOffset::new((index * KIB) as u64), piece)?;
    }
    blob.set_length(bytes(content.len()))?;
    Ok(Arc::new(Layer::Raw(RawLayer::open(blob, "raw")?)))
}

fn content(layers: &[Arc<Layer>]) -> Outcome<Vec<u8>> {
    let chain = Chain::new(layers.to_vec());
    let mut found = vec![0xee; chain.size().as_usize()];
    chain.read(GuestOffset::ZERO, &mut found)?;
    Ok(found)
}

fn clean(layer: &Layer) -> Outcome {
    let Some(image) = layer.as_qcow2() else { return Ok(()) };
    let report = image.check()?;
    assert!(report.is_clean(), "{report}");
    Ok(())
}

fn mapping(layer: &Layer, address: usize) -> Outcome<Mapping> {
    let image = layer.as_qcow2().ok_or("a raw file has no mapping")?;
    Ok(image.run_at(at(address), bytes(1))?.mapping)
}

fn range(one: std::ops::Range<usize>) -> Ranges {
    ranges(std::slice::from_ref(&one))
}

fn ranges(list: &[std::ops::Range<usize>]) -> Ranges {
    list.iter().map(|range| at(range.start)..at(range.end)).collect()
}

fn pull_all(child: &Arc<Layer>, retired: &Arc<Layer>, deeper: &[Arc<Layer>]) -> Outcome<Pull> {
    let mut pull = Pull::new(Arc::clone(child), Arc::clone(retired), deeper.to_vec())?;
    while !pull.step(ByteCount::kib(64))?.done {}
    pull.flush()?;
    clean(child)?;
    Ok(pull)
}

fn commit_all(child: &Arc<Layer>, retired: &Arc<Layer>, deeper: &[Arc<Layer>]) -> Outcome<Commit> {
    let mut commit = Commit::new(Arc::clone(child), Arc::clone(retired), deeper.to_vec())?;
    while !commit.step(ByteCount::kib(64))?.done {}
    commit.flush()?;
    clean(retired)?;
    Ok(commit)
}

/// Layers of random shapes and content, the uppermost first, and what each shows through those below it.
struct Stack {
    dice: Dice,
    layers: Vec<Arc<Layer>>,
    views: Vec<Vec<u8>>,
}

impl Stack {
    fn random(seed: u64) -> Outcome<Self> {
        let mut stack = Self { dice: Dice::of(seed), layers: Vec::new(), views: Vec::new() };
        let depth = 2 + stack.dice.roll(4);
        let size = 512 * (1 + stack.dice.roll(300));
        if stack.dice.roll(3) == 0 {
            // A sparse raw file whose length is no multiple of anything.
            let mut bytes: Vec<u8> = vec![0; size - stack.dice.roll(512)];
            for _ in 0..stack.dice.roll(4) {
                let from = stack.dice.roll(bytes.len());
                let to = from + stack.dice.roll(bytes.len() - from);
                bytes[from..to].fill(0xf0);
            }
            stack.layers.push(raw(&bytes)?);
            bytes.resize(size.next_multiple_of(512).min(bytes.len().next_multiple_of(512)), 0);
            stack.views.push(bytes);
        }
        while stack.layers.len() < depth {
            stack.add(size)?;
        }
        Ok(stack)
    }

    /// Puts an image on top and writes at random into it.
    fn add(&mut self, base: usize) -> Outcome {
        let size = match self.dice.roll(4) {
            0 => 512 * (1 + self.dice.roll(base / 512)),
            1 => base + 512 * self.dice.roll(150),
            _ => base,
        };
        let cluster_bits = [9, 9, 10, 11, 12, 13, 14, 16][self.dice.roll(8)];
        let version = if self.dice.roll(4) == 0 { Version::V2 } else { Version::V3 };
        println!("layer {}: {version:?}, cluster bits {cluster_bits}, size {size}", self.layers.len());
        let layer = image(&NewImage { version, cluster_bits, ..NewImage::of_size(bytes(size)) })?;
        self.layers.insert(0, layer);
        let mut view = self.views.first().cloned().unwrap_or_default();
        view.resize(size, 0);
        let chain = Chain::new(self.layers.clone());
        for _ in 0..self.dice.roll(9) {
            let from = self.dice.roll(size);
            let most = [700, 5000, 70_000, size][self.dice.roll(4)];
            let to = from + 1 + self.dice.roll((size - from).min(most));
            if self.dice.roll(3) == 0 {
                let space = if self.dice.roll(2) == 0 { Space::Keep } else { Space::Free };
                chain.zero(at(from), bytes(to - from), space)?;
                view[from..to].fill(0);
            } else {
                let byte = u8::try_from(1 + self.dice.roll(200))?;
                chain.write(at(from), &vec![byte; to - from])?;
                view[from..to].fill(byte);
            }
        }
        chain.flush()?;
        self.views.insert(0, view);
        Ok(())
    }

    /// Every layer but `gone`, read through those below it that are left, shows what it showed.
    fn compare(&self, layers: &[Arc<Layer>], gone: usize, what: &str) -> Outcome {
        let views = self.views.iter().enumerate().filter(|(index, _)| *index != gone);
        for (index, (layer, view)) in views.enumerate() {
            let found = content(&layers[index..])?;
            assert!(found == *view, "{what}: layer {layer} from the top shows something else");
        }
        Ok(())
    }

    fn without(&self, gone: usize) -> Vec<Arc<Layer>> {
        let left = self.layers.iter().enumerate().filter(|(index, _)| *index != gone);
        left.map(|(_, layer)| Arc::clone(layer)).collect()
    }

    /// Which layer is retired: never the uppermost.
    fn choose(&mut self) -> usize {
        1 + self.dice.roll(self.layers.len() - 1)
    }

    fn extents(&self) -> Outcome<Vec<Extents>> {
        Ok(self.layers.iter().map(|layer| layer.extents()).collect::<Result<_>>()?)
    }

    fn budget(&mut self) -> ByteCount {
        bytes([0, 700, 5000, 100_000, 10_000_000][self.dice.roll(5)])
    }
}

#[test]
fn extents_are_what_a_look_at_every_sector_finds() -> Outcome {
    for seed in 1..=150 {
        println!("seed {seed}");
        let stack = Stack::random(seed)?;
        for (layer, extents) in stack.layers.iter().zip(stack.extents()?) {
            assert_eq!(extents.size, layer.size());
            let (mut data, mut zero) = (Ranges::new(), Ranges::new());
            for sector in 0..layer.size().as_usize() / 512 {
                let here = at(sector * 512)..at(sector * 512 + 512);
                let found = layer.as_qcow2().map(|image| image.run_at(here.start, bytes(512)));
                match found.transpose()?.map(|run| run.mapping) {
                    None if extents.zero.contains(here.start) => {
                        let mut sector = [0xee; 512];
                        Chain::new(vec![Arc::clone(layer)]).read(here.start, &mut sector)?;
                        assert_eq!(sector, [0; 512], "a hole with something in it");
                        zero.insert(here);
                    }
                    None | Some(Mapping::Data { .. }) => data.insert(here),
                    Some(Mapping::Zero) => zero.insert(here),
                    Some(_) => {}
                }
            }
            assert_eq!((&extents.data, &extents.zero), (&data, &zero));
            assert!(extents.zero_allocated.subtract(&zero).is_empty());
            assert_eq!(extents.is_raw, layer.as_qcow2().is_none());
        }
    }
    Ok(())
}

#[test]
fn a_zero_cluster_that_keeps_its_room_is_told_from_one_that_has_none() -> Outcome {
    let layer = sized(512 * KIB, 16)?;
    let chain = Chain::new(vec![sized(512 * KIB, 16)?, Arc::clone(&layer)]);
    let own = layer.as_qcow2().ok_or("an image")?;
    own.write(at(0), &[1; 192 * KIB], None)?;
    // Something is below, so zeros are zero clusters.
    let below = Chain::new(vec![Arc::clone(&layer), chain.layers()[0].clone()]);
    below.zero(at(0), bytes(64 * KIB), Space::Keep)?;
    below.zero(at(64 * KIB), bytes(64 * KIB), Space::Free)?;
    let extents = layer.extents()?;
    assert_eq!(extents.zero, range(0..128 * KIB));
    assert_eq!(extents.zero_allocated, range(0..64 * KIB));
    assert_eq!(extents.data, range(128 * KIB..192 * KIB));
    assert_eq!(extents.absent(), range(192 * KIB..512 * KIB));
    Ok(())
}

#[test]
fn a_huge_disk_with_little_in_it_is_surveyed_by_what_is_in_it() -> Outcome {
    let size = ByteCount::tib(64);
    let layer = image(&NewImage::of_size(size))?;
    let own = layer.as_qcow2().ok_or("an image")?;
    let last = GuestOffset::end_of(size - ByteCount::kib(64));
    own.write(at(0), &[1], None)?;
    own.write(last, &[1], None)?;
    let extents = layer.extents()?;
    assert_eq!(extents.data.runs(), 2);
    assert_eq!(extents.data.bytes(), ByteCount::kib(128));
    assert_eq!(extents.absent().runs(), 1);
    Ok(())
}

#[test]
fn a_pull_keeps_every_view_at_every_step_and_copies_what_was_foretold() -> Outcome {
    for seed in 1..=400 {
        println!("seed {seed}");
        let mut stack = Stack::random(seed)?;
        let retired = stack.choose();
        let extents = stack.extents()?;
        let (child, lower) = (&extents[retired - 1], &extents[retired..]);
        let list = merge::pull(child, &lower[0], &lower[1..]);
        let nothing = Ranges::new();
        assert_eq!(list.data.union(&list.zero).intersect(&child.defined(child.size)), nothing);
        let layers = stack.layers.clone();
        let begin = || {
            let deeper = layers[retired + 1..].to_vec();
            Pull::new(Arc::clone(&layers[retired - 1]), Arc::clone(&layers[retired]), deeper)
        };
        let mut pull = begin()?;
        assert_eq!(pull.total(), list.copied_bytes());
        let (mut copied, mut steps) = (ByteCount::ZERO, 0);
        loop {
            let Progress { copied: more, done } = pull.step(stack.budget())?;
            copied += more;
            steps += 1;
            stack.compare(&layers, usize::MAX, &format!("seed {seed}, step {steps}"))?;
            if done {
                break;
            }
            if stack.dice.roll(8) == 0 {
                // Begun anew, as after a crash: what is done is not done again.
                pull.flush()?;
                pull = begin()?;
            }
        }
        pull.flush()?;
        if lower[0].is_raw {
            assert!(copied <= list.copied_bytes());
        } else {
            assert_eq!(copied, list.copied_bytes(), "seed {seed}");
            assert_eq!(begin()?.total(), ByteCount::ZERO, "seed {seed}: something is left");
            assert!(begin()?.step(ByteCount::ZERO)?.done);
        }
        stack.compare(
            &stack.without(retired),
            retired,
            &format!("seed {seed}, without the retired layer"),
        )?;
        stack.layers.iter().try_for_each(|layer| clean(layer))?;
    }
    Ok(())
}

#[test]
fn a_commit_keeps_every_view_at_every_step_and_writes_what_was_foretold() -> Outcome {
    let mut done_for = 0;
    for seed in 1..=600 {
        println!("seed {seed}");
        let mut stack = Stack::random(seed)?;
        let retired = stack.choose();
        let extents = stack.extents()?;
        let lower = &extents[retired..];
        let layers = stack.layers.clone();
        let begin = || {
            let deeper = layers[retired + 1..].to_vec();
            Commit::new(Arc::clone(&layers[retired - 1]), Arc::clone(&layers[retired]), deeper)
        };
        let Some(list) = merge::commit(&extents[retired - 1], &lower[0], &lower[1..]) else {
            match begin() {
                Err(Error::ReadOnly { .. }) => assert!(lower[0].is_raw),
                Err(Error::Shrink { .. }) => assert!(extents[retired - 1].size < lower[0].size),
                other => panic!("{other:?}"),
            }
            continue;
        };
        let mut commit = begin()?;
        assert_eq!(commit.total(), list.copied_bytes());
        let (mut copied, mut steps, mut anew) = (ByteCount::ZERO, 0, 0);
        loop {
            let Progress { copied: more, done } = commit.step(stack.budget())?;
            copied += more;
            steps += 1;
            // The retired layer itself is another one from now on.
            for (index, view) in stack.views.iter().enumerate().filter(|(index, _)| *index != retired) {
                let what = format!("seed {seed}, step {steps}: layer {index} from the top");
                assert!(content(&layers[index..])? == *view, "{what} shows something else");
            }
            if done {
                break;
            }
            if stack.dice.roll(8) == 0 {
                commit.flush()?;
                commit = begin()?;
                anew += 1;
            }
        }
        commit.flush()?;
        if anew == 0 {
            assert_eq!(copied, list.copied_bytes(), "seed {seed}");
        }
        let mut left = Stack { dice: Dice::of(0), layers: stack.without(retired - 1), views: stack.views };
        left.views.remove(retired);
        left.compare(&left.layers, usize::MAX, &format!("seed {seed}, without the child"))?;
        stack.layers.iter().try_for_each(|layer| clean(layer))?;
        done_for += 1;
    }
    assert!(done_for > 200, "only {done_for} of the stacks could be committed");
    Ok(())
}

#[test]
fn a_punch_keeps_every_view_at_every_step_and_gives_room_back() -> Outcome {
    let mut freed = ByteCount::ZERO;
    for seed in 1..=400 {
        println!("seed {seed}");
        let mut stack = Stack::random(seed)?;
        let retired = stack.choose();
        let extents = stack.extents()?;
        // The child lives, or is retired itself below a living one.
        let seen_of_child = match stack.dice.roll(2) {
            0 if retired > 1 => Some(merge::seen_through(&extents[retired - 2], None)),
            _ => None,
        };
        let seen = merge::seen_through(&extents[retired - 1], seen_of_child.as_ref());
        let hidden = merge::hidden(&extents[retired], &seen);
        let layer = &stack.layers[retired].clone();
        if extents[retired].is_raw {
            assert!(hidden.is_empty());
            let Err(Error::ReadOnly { .. }) = Punch::new(Arc::clone(layer), &hidden) else {
                panic!("a raw file is punched")
            };
            continue;
        }
        let before = layer.blob().allocated()?;
        let mut punch = Punch::new(Arc::clone(layer), &hidden)?;
        assert_eq!(punch.total(), hidden.bytes());
        loop {
            let progress = punch.step(bytes([0, 16, 10_000][stack.dice.roll(3)]))?;
            for (index, view) in stack.views.iter().enumerate() {
                let dead = index == retired || seen_of_child.is_some() && index + 1 == retired;
                let same = dead || content(&stack.layers[index..])? == *view;
                assert!(same, "seed {seed}: layer {index} from the top shows something else");
            }
            if progress.done {
                break;
            }
        }
        punch.flush()?;
        clean(layer)?;
        assert_eq!(punch.copied(), hidden.bytes());
        assert!(layer.extents()?.data.intersect(&hidden).is_empty());
        assert!(layer.extents()?.zero_allocated.intersect(&hidden).is_empty());
        freed += before.saturating_sub(layer.blob().allocated()?);
    }
    assert!(freed > ByteCount::mib(1), "only {freed} were given back");
    Ok(())
}

/// Writes `byte` into a layer as if there were something below it or not.
fn fill(layers: &[&Arc<Layer>], range: std::ops::Range<usize>, byte: u8) -> Outcome {
    let chain = Chain::new(layers.iter().map(|layer| Arc::clone(layer)).collect());
    if byte == 0 {
        chain.zero(at(range.start), bytes(range.len()), Space::Free)?;
    } else {
        chain.write(at(range.start), &vec![byte; range.len()])?;
    }
    Ok(chain.flush()?)
}

/// The cases of QEMU's iotest 024: old backing file, new backing file and overlay, each with data or without.
#[test]
fn each_combination_of_data_above_in_and_below_the_retired_layer_is_pulled_right() -> Outcome {
    const CLUSTER: usize = 64 * KIB;
    for deep in [false, true] {
        let [child, retired, base] =
            [sized(8 * CLUSTER, 16)?, sized(8 * CLUSTER, 16)?, sized(8 * CLUSTER, 16)?];
        for cluster in 0..8 {
            let range = cluster * CLUSTER..(cluster + 1) * CLUSTER;
            let has = |bit: usize| cluster >> bit & 1 == 1;
            let lower: &[&Arc<Layer>] = if deep { &[&base] } else { &[] };
            if has(0) && deep {
                fill(&[&base], range.clone(), 0x11)?;
            }
            if has(1) {
                fill(&[&[&retired], lower].concat(), range.clone(), 0x22)?;
            }
            if has(2) {
                fill(&[&[&child, &retired], lower].concat(), range, 0x33)?;
            }
        }
        let deeper = if deep { vec![Arc::clone(&base)] } else { Vec::new() };
        let before = content(&[vec![Arc::clone(&child), Arc::clone(&retired)], deeper.clone()].concat())?;
        let pull = pull_all(&child, &retired, &deeper)?;
        assert_eq!(pull.copied(), bytes(2 * CLUSTER), "only where the retired layer alone has data");
        assert_eq!(content(&[vec![Arc::clone(&child)], deeper].concat())?, before);
        for cluster in 0..8 {
            let expected = [0, if deep { 0x11 } else { 0 }, 0x22, 0x22, 0x33, 0x33, 0x33, 0x33][cluster];
            assert_eq!(before[cluster * CLUSTER], expected, "cluster {cluster}");
        }
    }
    Ok(())
}

/// QEMU's iotest 028: the retired layer ends in the middle of a cluster of the longer child.
#[test]
fn a_pull_across_the_end_of_a_short_retired_layer_fills_up_with_zeros() -> Outcome {
    let [child, retired, base] = [sized(384 * KIB, 16)?, sized(100 * KIB, 9)?, sized(384 * KIB, 16)?];
    fill(&[&base], 0..384 * KIB, 0x11)?;
    fill(&[&retired, &base], 60 * KIB..100 * KIB, 0x22)?;
    let before = content(&[child.clone(), retired.clone(), base.clone()])?;
    assert_eq!((before[59 * KIB], before[99 * KIB], before[100 * KIB]), (0x11, 0x22, 0));
    let pull = pull_all(&child, &retired, std::slice::from_ref(&base))?;
    assert_eq!(pull.copied(), ByteCount::kib(128), "two clusters hold data, four are zeros by the tables");
    assert_eq!(content(&[child.clone(), base])?, before);
    assert_eq!(mapping(&child, 128 * KIB)?, Mapping::Zero);
    Ok(())
}

/// QEMU's iotests 050 and 252: zeros of the retired layer hide what is below it, and those of the child stay.
#[test]
fn zeros_are_pulled_as_zero_clusters_where_the_base_has_data_and_not_at_all_elsewhere() -> Outcome {
    let [child, retired, base] = [sized(512 * KIB, 16)?, sized(512 * KIB, 16)?, sized(512 * KIB, 16)?];
    fill(&[&base], 0..256 * KIB, 0x11)?;
    fill(&[&retired, &base], 0..64 * KIB, 0)?;
    fill(&[&retired, &base], 320 * KIB..384 * KIB, 0)?;
    fill(&[&child, &retired, &base], 64 * KIB..128 * KIB, 0)?;
    let before = content(&[child.clone(), retired.clone(), base.clone()])?;
    assert_eq!(pull_all(&child, &retired, std::slice::from_ref(&base))?.copied(), ByteCount::ZERO);
    assert_eq!(content(&[child.clone(), base])?, before);
    assert_eq!(mapping(&child, 0)?, Mapping::Zero);
    assert_eq!(mapping(&child, 64 * KIB)?, Mapping::Zero, "the child's own zeros stay");
    assert_eq!(mapping(&child, 320 * KIB)?, Mapping::Absent, "the base has nothing there");
    Ok(())
}

#[test]
fn zeros_stay_in_the_child_when_there_is_no_base() -> Outcome {
    let [child, retired] = [sized(256 * KIB, 16)?, sized(256 * KIB, 16)?];
    fill(&[&retired], 0..128 * KIB, 0x22)?;
    fill(&[&child, &retired], 0..64 * KIB, 0)?;
    let before = content(&[child.clone(), retired.clone()])?;
    assert_eq!(pull_all(&child, &retired, &[])?.copied(), ByteCount::kib(64));
    assert_eq!(content(std::slice::from_ref(&child))?, before);
    assert_eq!(mapping(&child, 0)?, Mapping::Zero);
    assert_eq!(mapping(&child, 128 * KIB)?, Mapping::Absent);
    Ok(())
}

#[test]
fn a_child_without_zero_clusters_gets_the_zeros_written_out() -> Outcome {
    let [child, retired, base] = [sized_v2(256 * KIB, 16)?, sized(256 * KIB, 16)?, sized(256 * KIB, 16)?];
    fill(&[&base], 0..256 * KIB, 0x11)?;
    fill(&[&retired, &base], 64 * KIB..192 * KIB, 0)?;
    let before = content(&[child.clone(), retired.clone(), base.clone()])?;
    assert_eq!(pull_all(&child, &retired, std::slice::from_ref(&base))?.copied(), ByteCount::kib(128));
    assert_eq!(content(&[child, base])?, before);
    Ok(())
}

/// QEMU's iotests 095 and 097: a larger top is committed, and the base grows.
#[test]
fn the_retired_layer_grows_when_a_larger_child_is_committed() -> Outcome {
    let [child, retired] = [sized(1000 * KIB + 512, 16)?, sized(300 * KIB + 512, 12)?];
    fill(&[&retired], 0..300 * KIB, 0x22)?;
    fill(&[&child, &retired], 0..4 * KIB, 0x33)?;
    fill(&[&child, &retired], 1000 * KIB..1000 * KIB + 512, 0x44)?;
    let before = content(&[child.clone(), retired.clone()])?;
    let commit = commit_all(&child, &retired, &[])?;
    assert_eq!(retired.size(), child.size());
    assert_eq!(commit.copied(), commit.total());
    assert_eq!(content(std::slice::from_ref(&retired))?, before);
    Ok(())
}

/// QEMU's iotest 274: the middle layer is short, and the base is long.
#[test]
fn a_short_middle_layer_leaves_zeros_behind_when_it_goes_up_or_takes_its_child_in() -> Outcome {
    for commits in [false, true] {
        for version in [Version::V2, Version::V3] {
            let [child, base] = [sized(2048 * KIB, 16)?, sized(2048 * KIB, 16)?];
            let middle = image(&NewImage { version, ..NewImage::of_size(bytes(1024 * KIB)) })?;
            fill(&[&base], 0..2048 * KIB, 0x11)?;
            let before = content(&[child.clone(), middle.clone(), base.clone()])?;
            assert!(before[..1024 * KIB].iter().all(|byte| *byte == 0x11));
            assert!(before[1024 * KIB..].iter().all(|byte| *byte == 0));
            if commits {
                let commit = commit_all(&child, &middle, std::slice::from_ref(&base))?;
                assert_eq!(commit.copied(), commit.total());
                let written = if version == Version::V2 { 1024 } else { 0 };
                assert_eq!(commit.total(), ByteCount::kib(written), "{version:?}");
                assert_eq!(content(&[middle, base])?, before);
            } else {
                let pull = pull_all(&child, &middle, std::slice::from_ref(&base))?;
                assert_eq!(pull.copied(), ByteCount::ZERO, "zero clusters cost no bytes");
                assert_eq!(content(&[child.clone(), base])?, before);
                assert_eq!(mapping(&child, 1024 * KIB)?, Mapping::Zero);
            }
        }
    }
    Ok(())
}

#[test]
fn a_sparse_raw_file_stays_sparse_when_it_is_pulled() -> Outcome {
    let mut bytes_of_raw = vec![0; 4096 * KIB];
    bytes_of_raw[1000 * KIB..1001 * KIB].fill(7);
    let (child, retired) = (sized(4096 * KIB, 16)?, raw(&bytes_of_raw)?);
    let pull = pull_all(&child, &retired, &[])?;
    assert_eq!(
        (pull.copied(), pull.total()),
        (ByteCount::kib(64), ByteCount::kib(64)),
        "the holes are known"
    );
    assert_eq!(content(&[child])?, bytes_of_raw);

    // Zeros that were written are found when they are read.
    let (child, retired) = (sized(4096 * KIB, 16)?, raw(&bytes_of_raw)?);
    retired.blob().write_at(HostOffset::ZERO, &bytes_of_raw)?;
    let pull = pull_all(&child, &retired, &[])?;
    assert!(pull.total() >= pull.copied());
    assert_eq!((pull.copied(), mapping(&child, 0)?), (ByteCount::kib(64), Mapping::Absent));
    Ok(())
}

#[test]
fn a_step_copies_about_its_budget_and_at_least_a_cluster() -> Outcome {
    let [child, retired] = [sized(4096 * KIB, 16)?, sized(4096 * KIB, 16)?];
    fill(&[&retired], 0..4096 * KIB, 0x22)?;
    let mut pull = Pull::new(child, retired, Vec::new())?;
    for (budget, expected) in [(0, 64), (1, 64), (64, 64), (200, 256), (1024, 1024), (1500, 1536)] {
        let progress = pull.step(ByteCount::kib(budget))?;
        assert_eq!(progress, Progress { copied: ByteCount::kib(expected), done: false }, "{budget} KiB");
    }
    let progress = pull.step(ByteCount::gib(1))?;
    assert_eq!(progress, Progress { copied: ByteCount::kib(1088), done: true });
    Ok(())
}

#[test]
fn whoever_had_a_layer_open_before_something_was_pulled_into_it_reads_on() -> Outcome {
    let (size, cluster) = (64 * KIB, 512);
    let blob = MemoryStore::new().create(&BlobName::parse("child")?)?;
    NewImage { cluster_bits: 9, ..NewImage::of_size(bytes(size)) }.layout("child")?.write(&*blob)?;
    let open = |access| -> Outcome<Arc<Layer>> {
        Ok(Arc::new(Layer::from(Image::open(blob.clone(), "child", access, Limits::default())?)))
    };
    let (retired, head) = (sized(size, 9)?, sized(size, 9)?);
    fill(&[&retired], 0..size, 7)?;
    // A cluster of each table is there, so that the tables are where every handle knows them.
    let child = open(Access::Write)?;
    for place in (0..size).step_by(cluster * 64) {
        fill(&[&child], place..place + cluster, 9)?;
    }
    drop(child);
    let expected = content(&[open(Access::Read)?, Arc::clone(&retired)])?;
    // One reads the child itself, the other one asks what is below its head.
    let (alone, below, asked) = (open(Access::Read)?, open(Access::Read)?, open(Access::Read)?);
    pull_all(&open(Access::Write)?, &retired, &[])?;
    let mut defined = 0;
    let asked = asked.as_qcow2().ok_or("the child is a qcow2 image")?;
    asked.defined(at(0)..at(size), |_, run| defined += run.length.as_usize())?;
    assert_eq!(defined, size, "what a handle that was open before is told of");
    assert!(content(&[alone, Arc::clone(&retired)])? == expected, "the child reads otherwise");
    assert!(content(&[head, below, retired])? == expected, "a disk above the child reads otherwise");
    Ok(())
}

#[test]
fn a_child_that_grows_while_it_pulls_shows_zeros_in_what_is_new() -> Outcome {
    for pulled in [0, 2, 100] {
        let [child, retired, base] =
            [sized(300 * KIB + 512, 16)?, sized(400 * KIB, 12)?, sized(2048 * KIB, 16)?];
        fill(&[&base], 0..2048 * KIB, 0x11)?;
        fill(&[&retired, &base], 0..400 * KIB, 0x22)?;
        let layers = [child.clone(), retired.clone(), base.clone()];
        let mut expected = content(&layers)?;
        let mut pull = Pull::new(child.clone(), retired, vec![base.clone()])?;
        for _ in 0..pulled {
            let _ = pull.step(ByteCount::ZERO)?;
        }
        Chain::new(layers.to_vec()).grow(ByteCount::kib(1500))?;
        expected.resize(1500 * KIB, 0);
        assert!(content(&layers)? == expected);
        while !pull.step(ByteCount::ZERO)?.done {}
        pull.flush()?;
        assert!(content(&[child.clone(), base])? == expected, "after {pulled} steps");
        clean(&child)?;
    }
    Ok(())
}

#[test]
fn no_write_of_a_guest_is_lost_while_its_disk_pulls() -> Outcome {
    const WRITERS: usize = 3;
    const SIZE: usize = 2048 * KIB;
    for (seed, cluster_bits) in [(1, 9), (2, 12), (3, 16), (4, 12)] {
        let [child, base] = [sized(SIZE, cluster_bits)?, sized(SIZE, 16)?];
        let retired = sized(SIZE, 10)?;
        fill(&[&base], 0..SIZE, 0x11)?;
        for start in (0..SIZE).step_by(40 * KIB) {
            fill(&[&retired, &base], start..SIZE.min(start + 20 * KIB), 0x22)?;
            fill(&[&retired, &base], start + 4 * KIB..start + 8 * KIB, 0)?;
        }
        let chain = Chain::new(vec![child.clone(), retired.clone(), base.clone()]);
        let before = content(chain.layers())?;
        let running = AtomicBool::new(true);
        let mut pull = Pull::new(child.clone(), retired, vec![base.clone()])?;
        // Pieces are dealt out to the writers in turn: neighbours share clusters.
        const PIECE: usize = 700;
        let written = thread::scope(|scope| {
            let (chain, running) = (&chain, &running);
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    scope.spawn(move || {
                        let mut dice = Dice::of(seed * 10 + writer as u64);
                        let mut written = Vec::new();
                        while running.load(Ordering::Acquire) || written.len() < 200 {
                            let piece = dice.roll(SIZE / PIECE / WRITERS) * WRITERS + writer;
                            let byte = u8::try_from(0x30 + written.len() % 200).expect("small");
                            chain.write(at(piece * PIECE), &[byte; PIECE])?;
                            written.push((piece, byte));
                            let mut found = [0; PIECE];
                            chain.read(at(piece * PIECE), &mut found)?;
                            assert_eq!(found, [byte; PIECE]);
                        }
                        Ok::<_, Error>(written)
                    })
                })
                .collect();
            while !pull.step(ByteCount::ZERO)?.done {}
            pull.flush()?;
            running.store(false, Ordering::Release);
            let written = writers.into_iter().map(|writer| writer.join().expect("no writer panicked"));
            written.collect::<Result<Vec<_>>>()
        })?;
        let mut expected = before;
        for (piece, byte) in written.into_iter().flatten() {
            expected[piece * PIECE..(piece + 1) * PIECE].fill(byte);
        }
        assert!(content(chain.layers())? == expected, "seed {seed}");
        assert!(content(&[child.clone(), base])? == expected, "seed {seed}, without the retired layer");
        clean(&child)?;
    }
    Ok(())
}
