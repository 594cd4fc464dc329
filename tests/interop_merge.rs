//! Merges judged by QEMU: from one start, `qemu-img commit` and `rebase` work in one copy of the files and our reclaim
//! in another. Both end with the same disks.
//!
//! Needs `qemu-img` and `qemu-io` in the path: `cargo test --release --test interop_merge -- --ignored`.

#![cfg(target_os = "linux")]
#![expect(clippy::print_stdout, reason = "a failing test shows which seed and which shape it was")]

#[path = "support/dice.rs"]
mod dice;
#[path = "support/pool.rs"]
mod pool;
#[path = "support/qemu.rs"]
mod qemu;
#[path = "support/qemu_io.rs"]
mod qemu_io;
#[path = "support/shown.rs"]
mod shown;

use dice::Dice;
use pool::{Outcome, head_of, layer_of, open, snapshot_bytes, volume_bytes};
use qemu::{Checked, Qemu};
use shown::assert_shows;
use snapgroup::{
    AdoptVolume, ByteCount, CreateSnapshot, CreateVolume, DeleteMode, DeleteSnapshots, DeleteVolume,
    Direction, Engine, LayerFormat, ReclaimOptions, Uuid, When,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What the files of QEMU are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Equal,
    /// The middle one hides what is below its end.
    ShortMiddle,
    /// Each is longer than the one below, the disk grows once more above the first snapshot.
    LongTop,
    /// Sizes that end inside of a cluster.
    Unaligned,
    /// A raw file, and above it images of version 2, which have no zero clusters.
    RawBaseVersion2,
    Compressed,
}

const KINDS: [Kind; 6] =
    [Kind::Equal, Kind::ShortMiddle, Kind::LongTop, Kind::Unaligned, Kind::RawBaseVersion2, Kind::Compressed];

/// A pool that is closed, with one disk.
struct Start {
    home: TempDir,
    /// The files of the disk, the lowest first, with their formats.
    files: Vec<(String, &'static str)>,
    volume: Uuid,
    /// The snapshots by the place of their file.
    snapshots: BTreeMap<usize, Uuid>,
    /// What each of them and the disk itself shows, by QEMU.
    shown: BTreeMap<usize, Vec<u8>>,
}

/// Some sectors of an image: whole clusters as often as not.
fn sectors(dice: &mut Dice, size: usize, cluster: usize) -> std::ops::Range<usize> {
    let at = dice.roll(size / 512) * 512;
    let length = (1 + dice.roll((cluster * 3 / 512).max(40))) * 512;
    match dice.roll(2) {
        0 => at..(at + length).min(size),
        _ => {
            let at = at / cluster * cluster;
            at..(at + length.next_multiple_of(cluster)).min(size)
        }
    }
}

/// Requests for `qemu-io`, compressed ones first: they go where nothing is yet.
fn requests(dice: &mut Dice, kind: Kind, size: usize, cluster: usize) -> Vec<String> {
    let mut requests = Vec::new();
    if kind == Kind::Compressed {
        // One on top of another is refused.
        for at in (0..size).step_by(cluster).take(60) {
            let length = cluster.min(size - at);
            if dice.roll(3) > 0 {
                requests.push(format!("write -c -P {} {at} {length}", 1 + dice.roll(250)));
            }
        }
    }
    for _ in 0..8 {
        let range = sectors(dice, size, cluster);
        let (at, length) = (range.start, range.len());
        requests.push(match dice.roll(6) {
            0 => format!("write -z {at} {length}"),
            1 => format!("write -z -u {at} {length}"),
            2 if kind != Kind::RawBaseVersion2 => format!("discard {at} {length}"),
            _ => format!("write -P {} {at} {length}", 1 + dice.roll(250)),
        });
    }
    requests
}

/// Writes through our engine.
fn write(engine: &Engine, volume: Uuid, dice: &mut Dice, cluster: usize) -> Outcome {
    let disk = engine.open_volume(volume)?;
    for _ in 0..8 {
        let range = sectors(dice, disk.size().as_usize(), cluster);
        let (at, length) = (range.start as u64, range.len() as u64);
        match dice.roll(5) {
            0 => disk.write_zeroes(at, length)?,
            1 => disk.discard(at, length)?,
            _ => disk.write_at(at, &vec![u8::try_from(1 + dice.roll(250))?; range.len()])?,
        }
    }
    Ok(())
}

/// Three files of QEMU, adopted, and two snapshots of ours above.
fn adopted(kind: Kind, cluster_bits: u8, seed: u64) -> Outcome<Start> {
    println!("{kind:?}, clusters of 2^{cluster_bits} bytes, seed {seed}");
    let home = tempfile::tempdir()?;
    let qemu = Qemu::in_directory(home.path());
    let mut dice = Dice::of(seed);
    let cluster = 1usize << cluster_bits;
    let size = (cluster * 5 / 2).max(200 << 10).next_multiple_of(512);
    let sizes = match kind {
        Kind::ShortMiddle => [size, size / 2 / 512 * 512, size],
        Kind::LongTop => [size, size + cluster + 512, size + cluster * 2 + 1024],
        Kind::Unaligned => [size + 512, size + 1536, size + 1024],
        _ => [size.next_multiple_of(cluster); 3],
    };
    let mut files: Vec<(String, &'static str)> = Vec::new();
    if kind == Kind::RawBaseVersion2 {
        let bytes: Vec<u8> = (1..=250).cycle().take(size - 700).collect();
        std::fs::write(home.path().join("base.raw"), bytes)?;
        files.push(("base.raw".into(), "raw"));
    }
    let compat = if kind == Kind::RawBaseVersion2 { "0.10" } else { "1.1" };
    let options = format!("compat={compat},cluster_size={cluster}");
    for (name, size) in ["low.qcow2", "middle.qcow2", "top.qcow2"].into_iter().zip(sizes) {
        let length = size.to_string();
        let mut arguments = vec!["create", "-q", "-f", "qcow2", "-o", &options];
        if let Some((below, format)) = files.last() {
            arguments.extend(["-b", below, "-F", format]);
        }
        arguments.extend([name, &length]);
        qemu.img(&arguments);
        qemu.io(&["-f", "qcow2", "-d", "unmap", name], &requests(&mut dice, kind, size, cluster));
        files.push((name.into(), "qcow2"));
    }
    let engine = open(home.path())?;
    let volume = engine.adopt_volume(&AdoptVolume::new("top.qcow2", LayerFormat::Qcow2, "disk"))?.uuid;
    let mut snapshots = BTreeMap::new();
    for name in ["a", "b"] {
        snapshots.insert(files.len() - 1, engine.create_snapshot(&CreateSnapshot::new(volume, name))?.uuid);
        files.push((head_of(&engine, volume)?, "qcow2"));
        if kind == Kind::LongTop && name == "a" {
            let size = sizes[2] + cluster * 2 + 512;
            engine.resize_volume(volume, ByteCount::of(size))?;
        }
        write(&engine, volume, &mut dice, cluster)?;
    }
    let size = engine.volume(volume)?.size.as_usize();
    engine.close()?;
    let head = files.last().ok_or("a file")?.0.clone();
    qemu.io(&["-f", "qcow2", "-d", "unmap", &head], &requests(&mut dice, Kind::Equal, size, cluster));
    Start::of(home, files, volume, snapshots)
}

/// A chain with nothing of anybody else in it.
fn own(cluster_bits: u8, seed: u64) -> Outcome<Start> {
    println!("own chain, clusters of 2^{cluster_bits} bytes, seed {seed}");
    let home = tempfile::tempdir()?;
    let mut dice = Dice::of(seed);
    let cluster = 1usize << cluster_bits;
    let size = (cluster * 7 / 2).max(200 << 10).next_multiple_of(512);
    let engine = open(home.path())?;
    let wish = CreateVolume::new("disk", ByteCount::of(size));
    let volume = engine.create_volume(&CreateVolume { cluster_bits: Some(cluster_bits), ..wish })?.uuid;
    let mut files = vec![(head_of(&engine, volume)?, "qcow2")];
    let mut snapshots = BTreeMap::new();
    for place in 0..3 {
        write(&engine, volume, &mut dice, cluster)?;
        let wish = CreateSnapshot::new(volume, format!("s{place}"));
        snapshots.insert(place, engine.create_snapshot(&wish)?.uuid);
        files.push((head_of(&engine, volume)?, "qcow2"));
        if place == 1 {
            engine.resize_volume(volume, ByteCount::of(size + cluster + 512))?;
        }
    }
    write(&engine, volume, &mut dice, cluster)?;
    engine.close()?;
    Start::of(home, files, volume, snapshots)
}

impl Start {
    fn of(
        home: TempDir,
        files: Vec<(String, &'static str)>,
        volume: Uuid,
        snapshots: BTreeMap<usize, Uuid>,
    ) -> Outcome<Self> {
        let mut start = Self { home, files, volume, snapshots, shown: BTreeMap::new() };
        let head = start.files.len() - 1;
        let places: Vec<usize> = start.snapshots.keys().copied().chain([head]).collect();
        for place in places {
            let flat = start.home.path().join("flat");
            let (name, _) = &start.files[place];
            let target = flat.to_str().ok_or("a path is text")?;
            let qemu = Qemu::in_directory(start.home.path());
            qemu.img(&["convert", "-f", "qcow2", "-O", "raw", name, target]);
            start.shown.insert(place, std::fs::read(&flat)?);
            std::fs::remove_file(&flat)?;
        }
        Ok(start)
    }

    fn copy(&self) -> Outcome<TempDir> {
        let copy = tempfile::tempdir()?;
        for entry in std::fs::read_dir(self.home.path())? {
            let entry = entry?;
            std::fs::copy(entry.path(), copy.path().join(entry.file_name()))?;
        }
        Ok(copy)
    }

    /// Takes the layer at `place` out with QEMU's tools. Answers which file shows what the one at each place did.
    fn by_qemu(&self, directory: &Path, place: usize, direction: Direction) -> Vec<PathBuf> {
        let qemu = Qemu::in_directory(directory);
        let mut names: Vec<&str> = self.files.iter().map(|(name, _)| name.as_str()).collect();
        if direction == Direction::Commit {
            qemu.img(&["commit", "-q", "-f", "qcow2", "-d", names[place + 1]]);
            if let Some(above) = names.get(place + 2) {
                qemu.img(&["rebase", "-u", "-f", "qcow2", "-b", names[place], "-F", "qcow2", above]);
            }
            names[place + 1] = names[place];
        } else if let Some(below) = place.checked_sub(1) {
            let (below, format) = &self.files[below];
            qemu.img(&["rebase", "-f", "qcow2", "-b", below, "-F", format, names[place + 1]]);
        } else {
            qemu.img(&["rebase", "-f", "qcow2", "-b", "", names[place + 1]]);
        }
        names.into_iter().map(|name| directory.join(name)).collect()
    }

    /// Deletes the snapshot at `place` in a copy, and does the same with QEMU in another one.
    fn judge(&self, place: usize, direction: Direction) -> Outcome {
        println!("  layer {place}, {direction}");
        let ours = self.copy()?;
        let engine = open(ours.path())?;
        let head = self.files.len() - 1;
        assert!(volume_bytes(&engine, self.volume)? == self.shown[&head], "the start is read differently");
        let before = engine.chain(self.volume)?.len();
        let gone = self.snapshots[&place];
        let deleted =
            engine.delete_snapshots(&DeleteSnapshots { direction, ..DeleteSnapshots::one(gone) })?;
        assert!(deleted.is_success() && deleted.owed.is_empty(), "{deleted:#?}");
        let merged = deleted.reclaimed.bytes_committed + deleted.reclaimed.bytes_pulled;
        let after = engine.chain(self.volume)?.len();
        match direction {
            Direction::Auto => assert!(merged.is_zero()),
            _ => assert_eq!(after, before - 1),
        }
        assert!(engine.check()?.is_clean());
        let mut kept = BTreeMap::new();
        for (place, snapshot) in self.snapshots.iter().filter(|(_, snapshot)| **snapshot != gone) {
            assert!(snapshot_bytes(&engine, *snapshot)? == self.shown[place], "the snapshot at {place}");
            kept.insert(*place, layer_of(&engine, *snapshot)?);
        }
        assert!(volume_bytes(&engine, self.volume)? == self.shown[&head], "the disk");
        kept.insert(head, head_of(&engine, self.volume)?);
        engine.close()?;

        let qemu = Qemu::in_directory(ours.path());
        for name in qcow2_files(ours.path())? {
            let (checked, said) = qemu.check(&name);
            assert_eq!(checked, Checked::Clean, "{name}: {said}");
        }
        let theirs = self.copy()?;
        let at = (direction != Direction::Auto).then(|| self.by_qemu(theirs.path(), place, direction));
        for (place, name) in &kept {
            assert_shows(ours.path(), name, &self.shown[place])?;
            let Some(at) = &at else { continue };
            let other = at[*place].to_str().ok_or("a path is text")?;
            qemu.img(&["compare", "-q", "-f", "qcow2", "-F", "qcow2", name, other]);
            // Up, QEMU compares what is shown and leaves out what is alike; down, it goes by the tables as we do.
            if direction == Direction::Commit {
                let (ours, theirs) = (data_bytes(&qemu, name)?, data_bytes(&qemu, other)?);
                assert!(ours <= theirs, "{ours} bytes of data, QEMU has {theirs}");
            }
        }
        Ok(())
    }

    fn judge_all(&self) -> Outcome {
        for place in self.snapshots.keys() {
            for direction in [Direction::Commit, Direction::Pull, Direction::Auto] {
                self.judge(*place, direction)?;
            }
        }
        Ok(())
    }
}

fn qcow2_files(directory: &Path) -> Outcome<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name().into_string().map_err(|_| "a name is text")?;
        names.extend(name.ends_with(".qcow2").then_some(name));
    }
    Ok(names)
}

/// How much of a disk is data in some file, by QEMU's map.
fn data_bytes(qemu: &Qemu<'_>, name: &str) -> Outcome<u64> {
    let said = qemu.img(&["map", "-f", "qcow2", "--output=json", name]);
    let map: Vec<serde_json::Value> = serde_json::from_str(&said)?;
    let data = map.iter().filter(|run| run["data"] == true);
    Ok(data.filter_map(|run| run["length"].as_u64()).sum())
}

fn matrix(cluster_bits: u8) -> Outcome {
    for (kind, seed) in KINDS.into_iter().zip(u64::from(cluster_bits) * 100..) {
        adopted(kind, cluster_bits, seed)?.judge_all()?;
    }
    own(cluster_bits, u64::from(cluster_bits))?.judge_all()
}

#[test]
#[ignore = "needs qemu-img"]
fn merges_with_clusters_of_512_bytes_end_as_those_of_qemu() -> Outcome {
    matrix(9)
}

#[test]
#[ignore = "needs qemu-img"]
fn merges_with_clusters_of_4_kib_end_as_those_of_qemu() -> Outcome {
    matrix(12)
}

#[test]
#[ignore = "needs qemu-img"]
fn merges_with_clusters_of_64_kib_end_as_those_of_qemu() -> Outcome {
    matrix(16)
}

#[test]
#[ignore = "needs qemu-img"]
fn merges_with_clusters_of_2_mib_end_as_those_of_qemu() -> Outcome {
    matrix(21)
}

#[test]
#[ignore = "needs qemu-img"]
fn below_a_shorter_disk_a_layer_goes_up_although_down_was_asked_for() -> Outcome {
    let home = tempfile::tempdir()?;
    let engine = open(home.path())?;
    let volume = engine.create_volume(&CreateVolume::new("long", ByteCount::mib(2)))?.uuid;
    let mut dice = Dice::of(5);
    write(&engine, volume, &mut dice, 65_536)?;
    let snapshot = engine.create_snapshot(&CreateSnapshot::new(volume, "s"))?.uuid;
    let wish = CreateVolume::of_snapshot("short", snapshot);
    let short = engine.create_volume(&CreateVolume { size: Some(ByteCount::new(700_416)), ..wish })?.uuid;
    let layer = layer_of(&engine, snapshot)?;
    let shown = volume_bytes(&engine, short)?;
    let wish =
        DeleteVolume { mode: DeleteMode::Enforcing, reclaim: When::Later, ..DeleteVolume::new(volume) };
    assert!(engine.delete_volume(&wish)?.is_success());
    let (done, owed) = engine.reclaim(&ReclaimOptions::towards(Direction::Commit))?.finish()?;
    assert_eq!((owed, done.bytes_committed), (vec![], ByteCount::ZERO));
    assert!(!done.bytes_pulled.is_zero() && done.files_removed.contains(&layer), "{done:?}");
    assert!(volume_bytes(&engine, short)? == shown);
    let head = head_of(&engine, short)?;
    engine.close()?;
    let qemu = Qemu::in_directory(home.path());
    assert_eq!(qemu.check(&head).0, Checked::Clean);
    assert_shows(home.path(), &head, &shown)
}
