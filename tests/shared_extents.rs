//! Merges and full snapshots where files can share their data: on XFS and btrfs nothing is copied, on ext4 everything is.
//! And what is shared is all that `FICLONERANGE` could share (`xfs_io` asks for it, on any file system).
//!
//! Makes each file system in a file and mounts it, which takes root, loop devices and the `mkfs` of each:
//! `cargo test --release --test shared_extents -- --ignored`.

#![cfg(target_os = "linux")]

#[path = "support/pool.rs"]
#[expect(dead_code, reason = "other tests ask for more")]
mod pool;

use pool::{Outcome, layer_of, open, snapshot_bytes, volume_bytes};
use snapgroup::storage::{Access, BlobName, DiskStore, Store};
use snapgroup::units::HostOffset;
use snapgroup::{
    ByteCount, CreateSnapshot, CreateVolume, DeleteSnapshots, Direction, Engine, RevertVolume, Uuid,
};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const MIB: usize = 1 << 20;
/// What each layer of the disk has.
const DATA: usize = 32 * MIB;
/// What tables, the catalogue and the file system's own books may take up.
const SMALL: u64 = 4 << 20;

/// A file system of its own, until it is dropped.
struct Mounted {
    home: TempDir,
}

impl Mounted {
    fn new(make: &[&str], options: &str) -> Outcome<Self> {
        let home = tempfile::tempdir()?;
        let image = home.path().join("image");
        File::create(&image)?.set_len(1 << 30)?;
        std::fs::create_dir(home.path().join("root"))?;
        run(Command::new(make[0]).args(&make[1..]).arg(&image))?;
        let mounted = Self { home };
        run(Command::new("mount").args(["-o", options]).arg(&image).arg(mounted.root()))?;
        Ok(mounted)
    }

    fn root(&self) -> PathBuf {
        self.home.path().join("root")
    }

    /// The bytes that are in use, when everything is written that was to be.
    fn used(&self) -> Outcome<u64> {
        run(Command::new("sync").arg("-f").arg(self.root()))?;
        let said = run(Command::new("stat").args(["-f", "-c", "%b %f %S"]).arg(self.root()))?;
        let numbers = said.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        let [all, free, block] = numbers[..] else { return Err(said.into()) };
        Ok((all - free) * block)
    }

    /// What the work leaves in use more than there was.
    fn taken_by<T>(&self, work: impl FnOnce() -> Outcome<T>) -> Outcome<(u64, T)> {
        let before = self.used()?;
        let made = work()?;
        Ok((self.used()?.saturating_sub(before), made))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A failing test leaves files open here: they go with it.
        drop(Command::new("umount").arg("-l").arg(self.root()).status());
    }
}

fn run(command: &mut Command) -> Outcome<String> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    Err(format!("{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr)).into())
}

/// A disk with one snapshot above the other, each with data of its own, and what is read.
struct Site {
    engine: Engine,
    volume: Uuid,
    lower: Uuid,
    upper: Uuid,
    shown: Vec<u8>,
}

impl Site {
    fn new(directory: &Path, cluster_bits: u8) -> Outcome<Self> {
        std::fs::create_dir(directory)?;
        let engine = open(directory)?;
        let disk = CreateVolume::new("disk", ByteCount::of(4 * DATA));
        let disk = CreateVolume { cluster_bits: Some(cluster_bits), ..disk };
        let volume = engine.create_volume(&disk)?.uuid;
        let mut taken = Vec::new();
        for (place, byte) in [(0, 1), (DATA, 2)] {
            engine.open_volume(volume)?.write_at(place as u64, &vec![byte; DATA])?;
            taken.push(engine.create_snapshot(&CreateSnapshot::new(volume, "s"))?.uuid);
        }
        let [lower, upper] = taken[..] else { return Err("two".into()) };
        let shown = snapshot_bytes(&engine, upper)?;
        Ok(Self { engine, volume, lower, upper, shown })
    }

    fn assert_reads(&self) -> Outcome {
        assert!(snapshot_bytes(&self.engine, self.upper)? == self.shown);
        assert!(volume_bytes(&self.engine, self.volume)? == self.shown);
        assert!(self.engine.check()?.is_clean());
        Ok(())
    }
}

/// What a merge of [`DATA`] takes up in each direction while the files of before are still there, and what a full
/// snapshot of twice that much does.
fn taken(place: &Mounted, cluster_bits: u8) -> Outcome<Vec<u64>> {
    let mut taken = Vec::new();
    for direction in [Direction::Pull, Direction::Commit] {
        let home = place.root().join(format!("{direction}-{cluster_bits}"));
        let site = Site::new(&home, cluster_bits)?;
        // What is open stays in use when its name is gone.
        let path = |snapshot| -> Outcome<PathBuf> { Ok(home.join(layer_of(&site.engine, snapshot)?)) };
        let _files = [File::open(path(site.lower)?)?, File::open(path(site.upper)?)?];
        let wish = DeleteSnapshots { direction, ..DeleteSnapshots::one(site.lower) };
        let (more, deleted) = place.taken_by(|| Ok(site.engine.delete_snapshots(&wish)?))?;
        assert!(deleted.is_success() && deleted.owed.is_empty(), "{deleted:#?}");
        assert_eq!(deleted.reclaimed.bytes_copied(), ByteCount::of(DATA), "{direction}");
        assert_eq!(site.engine.chain(site.volume)?.len(), 2);
        site.assert_reads()?;
        taken.push(more);
        // What two files share is one's own as soon as it is written.
        let engine = &site.engine;
        engine.open_volume(site.volume)?.write_at(0, &vec![9; DATA])?;
        assert!(snapshot_bytes(engine, site.upper)? == site.shown);
        engine.revert_volume(&RevertVolume::to(site.upper))?;
        site.assert_reads()?;
    }
    let site = Site::new(&place.root().join(format!("full-{cluster_bits}")), cluster_bits)?;
    let wish = CreateSnapshot::new(site.volume, "full").in_full();
    let (more, full) = place.taken_by(|| Ok(site.engine.create_snapshot(&wish)?))?;
    assert!(snapshot_bytes(&site.engine, full.uuid)? == site.shown);
    site.assert_reads()?;
    taken.push(more);
    Ok(taken)
}

fn assert_nothing_is_copied(place: &Mounted) -> Outcome {
    // The smallest clusters that are whole blocks, and the usual ones.
    for cluster_bits in [12, 16] {
        let taken = taken(place, cluster_bits)?;
        assert!(taken.iter().all(|more| *more < SMALL), "pull, commit, full snapshot: {taken:?}");
    }
    assert_all_is_shared_that_can_be(place)
}

/// Copies ranges from one file to another, and has them cloned by `FICLONERANGE`: what that does not refuse is shared.
fn assert_all_is_shared_that_can_be(place: &Mounted) -> Outcome {
    const KIB: u64 = 1024;
    let home = place.root().join("ranges");
    std::fs::create_dir(&home)?;
    let store = DiskStore::open(&home)?;
    let (source, target) = (BlobName::parse("source")?, BlobName::parse("target")?);
    let length = ByteCount::of(DATA) + ByteCount::new(512);
    let bytes: Vec<u8> = (0_u32..).map(|at| (at / 7 % 251 + 1) as u8).take(length.as_usize()).collect();
    let blob = store.create(&source)?;
    blob.write_at(HostOffset::ZERO, &bytes)?;
    blob.sync()?;
    drop(blob);
    let half = DATA as u64 / 2;
    let mut cloned = Vec::new();
    for (from, at, count) in [
        (0, 0, half),
        (64 * KIB, 1024 * KIB, half),
        (4 * KIB, 8 * KIB, half),
        (half, 0, half + 512),
        (2 * KIB, 2 * KIB, half),
        (0, 512, half),
        (0, 0, half - 512),
    ] {
        let fresh = || -> Outcome {
            drop(store.remove(&target));
            Ok(store.create(&target)?.sync()?)
        };
        fresh()?;
        let told = run(Command::new("xfs_io")
            .args(["-c", &format!("reflink source {from} {at} {count}"), "target"])
            .current_dir(&home));
        // It tells of a refusal on standard error alone.
        let is_cloned = told?.contains("linked");
        fresh()?;
        let (from_blob, to_blob) = (store.open(&source, Access::Read)?, store.open(&target, Access::Write)?);
        let (more, ()) = place.taken_by(|| {
            let (from, at) = (HostOffset::new(from), HostOffset::new(at));
            Ok(to_blob.copy_from(at, &*from_blob, from, ByteCount::new(count))?)
        })?;
        let mut found = vec![0; usize::try_from(count)?];
        to_blob.read_at(HostOffset::new(at), &mut found)?;
        let start = usize::try_from(from)?;
        assert!(found == bytes[start..start + found.len()], "{count} bytes from {from} to {at}");
        assert!(!is_cloned || more < SMALL, "{count} bytes from {from} to {at}: {more} are not shared");
        cloned.push(is_cloned);
    }
    assert_eq!(cloned, [true, true, true, true, false, false, false], "what FICLONERANGE takes");
    Ok(())
}

#[test]
#[ignore = "mounts an XFS"]
fn on_xfs_merges_and_full_snapshots_copy_nothing() -> Outcome {
    // Without a bound XFS sets room aside behind a file that grows, as much as the file has.
    assert_nothing_is_copied(&Mounted::new(&["mkfs.xfs", "-q", "-m", "reflink=1"], "loop,allocsize=64k")?)
}

#[test]
#[ignore = "mounts a btrfs"]
fn on_btrfs_merges_and_full_snapshots_copy_nothing() -> Outcome {
    assert_nothing_is_copied(&Mounted::new(&["mkfs.btrfs", "-q"], "loop")?)
}

#[test]
#[ignore = "mounts an ext4"]
fn on_ext4_merges_and_full_snapshots_copy_everything() -> Outcome {
    let taken = taken(&Mounted::new(&["mkfs.ext4", "-q"], "loop")?, 16)?;
    assert!(taken.iter().all(|more| *more >= DATA as u64), "pull, commit, full snapshot: {taken:?}");
    Ok(())
}
