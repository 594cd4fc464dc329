//! Chains of QEMU's in every form, taken over and worked on: groups, deletions, reverts, checks; judged by QEMU.
//!
//! A sample of the product of all forms, in which every two values of two forms meet once. Needs `qemu-img` and
//! `qemu-io` in the path: `cargo test --release --test interop_matrix -- --ignored --nocapture` prints the sample.
#![cfg(target_os = "linux")]
#![expect(clippy::print_stdout, reason = "the sample is told, and which case has failed")]

#[path = "support/dice.rs"]
mod dice;
#[path = "support/qemu.rs"]
mod qemu;
#[path = "support/qemu_io.rs"]
mod qemu_io;

use dice::Dice;
use qemu::{Checked, Qemu};
use snapgroup::query::Query;
use snapgroup::{
    AdoptVolume, ByteCount, CreateGroup, CreateMachine, CreatePool, DeleteGroup, DeleteSnapshots, Direction,
    Engine, GroupOf, LowerLayers, Options, Present, RevertGroup, Uuid, VolumeKind,
};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as StdError;
use std::path::Path;

type Outcome<T = ()> = Result<T, Box<dyn StdError>>;

const SEED: u64 = 20;

/// What an image is made of. Each field counts the values of one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    V2,
    V3,
    Subclusters,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Packed {
    No,
    Deflate,
    Zstd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sizes {
    Equal,
    ShortMiddle,
    LongTop,
    Unaligned,
    RawBase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    Clean,
    Dirty,
    Corrupt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    Create,
    DeleteFirst,
    DeleteMiddle,
    DeleteLast,
    DeleteBranching,
    Revert,
    DeleteAll,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    cluster_bits: u32,
    form: Form,
    refcount_bits: u32,
    packed: Packed,
    sizes: Sizes,
    internal: bool,
    bitmaps: bool,
    /// Of the layer in the middle: a head that is marked is not taken over as it is.
    mark: Mark,
    work: Work,
    direction: Direction,
}

impl Case {
    fn rolled(dice: &mut Dice) -> Self {
        use {Form as F, Mark as M, Packed as P, Sizes as S, Work as W};
        Self {
            cluster_bits: [9, 12, 16, 21][dice.roll(4)],
            form: [F::V2, F::V3, F::Subclusters][dice.roll(3)],
            refcount_bits: [1, 16, 64][dice.roll(3)],
            packed: [P::No, P::Deflate, P::Zstd][dice.roll(3)],
            sizes: [S::Equal, S::ShortMiddle, S::LongTop, S::Unaligned, S::RawBase][dice.roll(5)],
            internal: dice.roll(2) == 0,
            bitmaps: dice.roll(2) == 0,
            mark: [M::Clean, M::Dirty, M::Corrupt][dice.roll(3)],
            work: [
                W::Create,
                W::DeleteFirst,
                W::DeleteMiddle,
                W::DeleteLast,
                W::DeleteBranching,
                W::Revert,
                W::DeleteAll,
            ][dice.roll(7)],
            direction: [Direction::Auto, Direction::Pull, Direction::Commit][dice.roll(3)],
        }
    }

    /// Whether the format and QEMU have such an image.
    fn is_lawful(self) -> bool {
        let version_2 = self.refcount_bits == 16
            && self.packed != Packed::Zstd
            && !self.bitmaps
            && self.mark == Mark::Clean;
        (self.form != Form::V2 || version_2)
            && (self.form != Form::Subclusters || self.cluster_bits >= 16)
            && (self.refcount_bits > 1 || !self.internal)
            && (self.sizes != Sizes::RawBase || self.packed == Packed::No)
    }

    /// Every two of its values, with which forms they are of.
    fn pairs(self) -> Vec<(usize, u32, usize, u32)> {
        let number = |place: bool| u32::from(place);
        let values = [
            self.cluster_bits,
            self.form as u32,
            self.refcount_bits,
            self.packed as u32,
            self.sizes as u32,
            number(self.internal),
            number(self.bitmaps),
            self.mark as u32,
            self.work as u32,
            match self.direction {
                Direction::Pull => 1,
                Direction::Commit => 2,
                _ => 0,
            },
        ];
        let each = values.iter().enumerate();
        each.clone()
            .flat_map(|(one, of_one)| {
                values
                    .iter()
                    .enumerate()
                    .skip(one + 1)
                    .map(move |(other, of_other)| (one, *of_one, other, *of_other))
            })
            .collect()
    }
}

/// Cases among which every lawful pair of values is, as far as a few thousand throws of the dice show it.
fn sample(seed: u64) -> Vec<Case> {
    let mut dice = Dice::of(seed);
    let thrown: Vec<Case> =
        (0..4000).map(|_| Case::rolled(&mut dice)).filter(|case| case.is_lawful()).collect();
    let mut wanted: BTreeSet<_> = thrown.iter().flat_map(|case| case.pairs()).collect();
    let mut chosen = Vec::new();
    while !wanted.is_empty() {
        let worth = |case: &&Case| case.pairs().iter().filter(|pair| wanted.contains(pair)).count();
        let Some(best) = thrown.iter().max_by_key(worth) else { break };
        for pair in best.pairs() {
            wanted.remove(&pair);
        }
        chosen.push(*best);
    }
    chosen
}

/// One case under way.
struct Bench<'a> {
    case: Case,
    directory: &'a Path,
    qemu: Qemu<'a>,
    dice: Dice,
    /// What the disk shows now.
    model: Vec<u8>,
    /// The internal snapshots: in which file, by which name, and what it showed.
    internal: Vec<(&'static str, &'static str, Vec<u8>)>,
}

impl Bench<'_> {
    fn options(&self) -> String {
        let Case { cluster_bits, form, refcount_bits, packed, .. } = self.case;
        let compat = if form == Form::V2 { "0.10" } else { "1.1" };
        let mut options = format!("compat={compat},cluster_size={}", 1u64 << cluster_bits);
        if form != Form::V2 {
            options += &format!(",refcount_bits={refcount_bits}");
        }
        if form == Form::Subclusters {
            options += ",extended_l2=on";
        }
        if packed == Packed::Zstd {
            options += ",compression_type=zstd";
        }
        options
    }

    /// The sizes of base, middle and top in bytes.
    fn sizes(&self) -> [usize; 3] {
        let size = (5usize << self.case.cluster_bits).clamp(600 << 10, 9 << 20).next_multiple_of(1 << 16);
        match self.case.sizes {
            Sizes::Equal => [size; 3],
            Sizes::ShortMiddle => [size, size / 2, size],
            Sizes::LongTop => [size, size, size + (1 << 16) + 1536],
            Sizes::Unaligned => [size + 512, size + 2560, size + 1536],
            Sizes::RawBase => [size - 700, size, size],
        }
    }

    fn content_of(&self, file: &str) -> Outcome<Vec<u8>> {
        self.qemu.img(&["convert", "-f", "qcow2", "-O", "raw", file, "content.raw"]);
        Ok(std::fs::read(self.directory.join("content.raw"))?)
    }

    /// Lets QEMU write here and there.
    fn scatter(&mut self, file: &str, size: usize) -> Outcome {
        let mut commands = Vec::new();
        for turn in 0..8 {
            let at = self.dice.roll(size / 512) * 512;
            let length = (512 * (1 + self.dice.roll(200))).min(size - at);
            let byte = 1 + self.dice.roll(250);
            commands.push(match turn % 4 {
                3 => format!("write -z {at} {length}"),
                _ => format!("write -P {byte} {at} {length}"),
            });
        }
        self.qemu.io(&["-f", "qcow2", file], &commands);
        Ok(())
    }

    /// An overlay of QEMU's, written, with whatever the case has in it.
    fn overlay(
        &mut self,
        file: &'static str,
        below: (&str, &str),
        size: usize,
        name: &'static str,
    ) -> Outcome {
        let (options, size_text) = (self.options(), size.to_string());
        let (base, format) = below;
        self.qemu.img(&[
            "create", "-q", "-f", "qcow2", "-o", &options, "-b", base, "-F", format, file, &size_text,
        ]);
        self.scatter(file, size)?;
        if self.case.bitmaps {
            self.qemu.img(&["bitmap", "--add", "--enable", file, "follows"]);
        }
        if self.case.internal {
            self.qemu.img(&["snapshot", "-c", name, file]);
            let content = self.content_of(file)?;
            self.internal.push((file, name, content));
            self.scatter(file, size)?;
        }
        Ok(())
    }

    /// Base, middle and top, made and written by QEMU. Answers what each shows.
    fn make(&mut self) -> Outcome<Vec<(&'static str, Vec<u8>)>> {
        let [base_size, middle_size, top_size] = self.sizes();
        let mut bytes: Vec<u8> = (0..=250u8).cycle().take(base_size).collect();
        // Some of it is zeros, and some does not get smaller.
        bytes[base_size / 3..base_size / 2].fill(0);
        bytes[base_size / 2..base_size / 2 + 65_536]
            .iter_mut()
            .for_each(|byte| *byte = u8::try_from(self.dice.roll(256)).expect("a byte"));
        std::fs::write(self.directory.join("base.raw"), &bytes)?;
        let mut shown = Vec::new();
        let below = if self.case.sizes == Sizes::RawBase {
            bytes.resize(base_size.next_multiple_of(512), 0);
            shown.push(("base.raw", bytes));
            ("base.raw", "raw")
        } else {
            let options = self.options();
            let pack: &[&str] = if self.case.packed == Packed::No { &[] } else { &["-c"] };
            let arguments =
                [&["convert", "-f", "raw", "-O", "qcow2", "-o", &options], pack, &["base.raw", "base.qcow2"]];
            self.qemu.img(&arguments.concat());
            std::fs::remove_file(self.directory.join("base.raw"))?;
            shown.push(("base.qcow2", bytes));
            ("base.qcow2", "qcow2")
        };
        self.overlay("middle.qcow2", below, middle_size, "of-middle")?;
        self.overlay("top.qcow2", ("middle.qcow2", "qcow2"), top_size, "of-top")?;
        for file in ["middle.qcow2", "top.qcow2"] {
            shown.push((file, self.content_of(file)?));
        }
        let bits = match self.case.mark {
            Mark::Clean => 0,
            Mark::Dirty => 1,
            Mark::Corrupt => 2,
        };
        if bits > 0 {
            use std::os::unix::fs::FileExt;
            let file = std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open(self.directory.join("middle.qcow2"))?;
            let mut byte = [0];
            file.read_exact_at(&mut byte, 79)?;
            file.write_all_at(&[byte[0] | bits], 79)?;
        }
        Ok(shown)
    }

    /// Writes through the engine, here and there.
    fn write(&mut self, engine: &Engine, disk: Uuid) -> Outcome {
        let handle = engine.open_volume(disk)?;
        for turn in 0..6 {
            let at = self.dice.roll(self.model.len());
            let length = (1 + self.dice.roll(90_000)).min(self.model.len() - at);
            let (from, count) = (at as u64, length as u64);
            match turn % 6 {
                4 => handle.write_zeroes(from, count)?,
                5 => handle.discard(from, count)?,
                _ => {
                    let byte = u8::try_from(1 + self.dice.roll(250))?;
                    handle.write_at(from, &vec![byte; length])?;
                    self.model[at..at + length].fill(byte);
                    continue;
                }
            }
            self.model[at..at + length].fill(0);
        }
        handle.flush()?;
        Ok(())
    }

    /// QEMU judges every file, the disk, and the internal snapshots.
    fn judge(&self, head: &str) -> Outcome {
        for entry in std::fs::read_dir(self.directory)? {
            let name = entry?.file_name().into_string().map_err(|_| "a name that is no text")?;
            if name.ends_with(".qcow2") {
                let (checked, said) = self.qemu.check(&name);
                assert_eq!(checked, Checked::Clean, "{name}: {said}");
            }
        }
        std::fs::write(self.directory.join("model.raw"), &self.model)?;
        self.qemu.img(&["compare", "-q", "-f", "qcow2", "-F", "raw", head, "model.raw"]);
        let said = self.qemu.img(&["map", "-f", "qcow2", "--output=json", head]);
        let stretches: Vec<serde_json::Value> = serde_json::from_str(&said)?;
        let mut end = 0;
        for stretch in stretches {
            let number = |key: &str| stretch[key].as_u64().and_then(|number| usize::try_from(number).ok());
            let (start, length) = number("start").zip(number("length")).ok_or("a stretch")?;
            assert_eq!(start, end, "the map has a gap");
            end = start + length;
            if stretch["zero"] == true && stretch["data"] == false {
                assert!(self.model[start..end].iter().all(|byte| *byte == 0), "{stretch}");
            }
        }
        assert_eq!(end, self.model.len());
        for (file, name, content) in &self.internal {
            std::fs::copy(self.directory.join(file), self.directory.join("copy"))?;
            std::fs::write(self.directory.join("content.raw"), content)?;
            if self.case.mark != Mark::Clean && *file == "middle.qcow2" {
                continue;
            }
            if self.case.bitmaps {
                // QEMU goes back to nothing while there are bitmaps.
                self.qemu.img(&["bitmap", "--remove", "copy", "follows"]);
            }
            self.qemu.img(&["snapshot", "-a", name, "copy"]);
            self.qemu.img(&["compare", "-q", "-f", "qcow2", "-F", "raw", "copy", "content.raw"]);
        }
        if self.case.bitmaps && self.directory.join("top.qcow2").exists() {
            let said = self.qemu.img(&["info", "-f", "qcow2", "--output=json", "top.qcow2"]);
            let shown: serde_json::Value = serde_json::from_str(&said)?;
            let bitmaps = &shown["format-specific"]["data"]["bitmaps"];
            assert_eq!(
                (&bitmaps[0]["name"], &bitmaps[0]["flags"][0]),
                (&"follows".into(), &"auto".into()),
                "{said}"
            );
        }
        Ok(())
    }
}

fn run(case: Case, seed: u64) -> Outcome {
    let directory = tempfile::tempdir()?;
    let mut bench = Bench {
        case,
        directory: directory.path(),
        qemu: Qemu::in_directory(directory.path()),
        dice: Dice::of(seed),
        model: Vec::new(),
        internal: Vec::new(),
    };
    let shown = bench.make()?;
    bench.model.clone_from(&shown[2].1);
    let options = Options { create: CreatePool::Here, ..Options::default() };
    let engine = Engine::open(directory.path(), options)?;
    let machine = engine.create_machine(&CreateMachine::new("vm"))?.uuid;
    let adopted = AdoptVolume {
        file: "top.qcow2".into(),
        name: "disk".into(),
        kind: VolumeKind::Root,
        lower: LowerLayers::Snapshots,
        ..AdoptVolume::default()
    };
    let disk = engine.adopt_volume(&adopted)?.uuid;
    engine.attach_volume(disk, machine, None)?;

    let found = engine.internals(disk)?;
    assert_eq!(found.len(), if case.internal || case.bitmaps { 2 } else { 0 });
    for layer in &found {
        assert_eq!(
            (layer.internal_snapshots.len(), layer.persistent_bitmaps.len()),
            (usize::from(case.internal), usize::from(case.bitmaps))
        );
    }
    // Each snapshot, and what it must show.
    let mut kept: BTreeMap<Uuid, Vec<u8>> = BTreeMap::new();
    let mut of_base = None;
    for snapshot in engine.query_snapshots(&Query::all())?.items {
        let path = &snapshot.primary_storage_install_path;
        let (file, content) =
            shown.iter().find(|(file, _)| path.ends_with(file)).ok_or("a snapshot of no file")?;
        if file.starts_with("base") {
            of_base = Some(snapshot.uuid);
        }
        kept.insert(snapshot.uuid, content.clone());
    }
    let of_base = of_base.ok_or("no snapshot of the base")?;
    assert_eq!(kept.len(), 2);
    let mut groups = Vec::new();
    let take = |bench: &mut Bench<'_>, kept: &mut BTreeMap<Uuid, Vec<u8>>| -> Outcome<(Uuid, Uuid)> {
        let name = format!("g{}", kept.len());
        let group = engine.create_group(&CreateGroup::new(GroupOf::Machine(machine.into()), name))?.inventory;
        let member = group.volume_snapshot_refs[0].volume_snapshot_uuid;
        kept.insert(member, bench.model.clone());
        Ok((group.uuid, member))
    };
    bench.write(&engine, disk)?;
    for _ in 0..3 {
        groups.push(take(&mut bench, &mut kept)?);
        bench.write(&engine, disk)?;
    }
    let delete = |(group, member): (Uuid, Uuid), kept: &mut BTreeMap<Uuid, Vec<u8>>| -> Outcome {
        let deleted =
            engine.delete_group(&DeleteGroup { direction: case.direction, ..DeleteGroup::new(group) })?;
        assert!(deleted.owed.is_empty(), "{deleted:?}");
        kept.remove(&member);
        Ok(())
    };
    match case.work {
        Work::Create => {}
        Work::DeleteFirst => {
            let request = DeleteSnapshots { direction: case.direction, ..DeleteSnapshots::one(of_base) };
            assert!(engine.delete_snapshots(&request)?.is_success());
            kept.remove(&of_base);
        }
        Work::DeleteMiddle => delete(groups[0], &mut kept)?,
        Work::DeleteLast => delete(groups[2], &mut kept)?,
        Work::DeleteBranching => {
            let _ = engine
                .revert_group(&RevertGroup { present: Present::Kept, ..RevertGroup::new(groups[1].0) })?;
            // What was kept of the present is one more snapshot.
            for snapshot in engine.query_snapshots(&Query::all())?.items {
                kept.entry(snapshot.uuid).or_insert_with(|| bench.model.clone());
            }
            bench.model.clone_from(&kept[&groups[1].1]);
            bench.write(&engine, disk)?;
            let branch = take(&mut bench, &mut kept)?;
            bench.write(&engine, disk)?;
            delete(groups[1], &mut kept)?;
            delete(branch, &mut kept)?;
            delete(groups[0], &mut kept)?;
        }
        Work::Revert => {
            let _ = engine.revert_group(&RevertGroup::new(groups[0].0))?;
            bench.model.clone_from(&kept[&groups[0].1]);
            bench.write(&engine, disk)?;
        }
        Work::DeleteAll => {
            for place in [1, 0, 2] {
                delete(groups[place], &mut kept)?;
            }
            bench.write(&engine, disk)?;
        }
    }
    for (snapshot, content) in &kept {
        let handle = engine.open_snapshot(*snapshot)?;
        assert_eq!(handle.size(), ByteCount::of(content.len()));
        let mut found = vec![0xee; content.len()];
        handle.read_at(0, &mut found)?;
        assert!(found == *content, "snapshot {snapshot} shows something else");
    }
    assert_eq!(engine.query_snapshots(&Query::all())?.total, kept.len());
    let check = engine.check()?;
    // A layer that is marked dirty is one to tell of, and can be relied on.
    assert!(check.is_sound() && check.unnamed.is_empty(), "{check:?}");
    let head = engine.volume(disk)?.install_path;
    engine.close()?;
    bench.judge(&head)
}

#[test]
#[ignore = "needs qemu-img"]
fn every_two_forms_of_an_image_go_together_in_every_work() -> Outcome {
    let sample = sample(SEED);
    println!("seed {SEED}: {} cases", sample.len());
    for (number, case) in sample.into_iter().enumerate() {
        println!("{number}: {case:?}");
        run(case, SEED + number as u64)?;
    }
    Ok(())
}
