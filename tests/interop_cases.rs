//! Cases that QEMU's own tests have for chains, rebuilt from what they assert: each names its number there. What
//! `qemu-img commit`, `rebase` and `convert -B` do there, our reclaim and our export do here, and QEMU judges.
//!
//! Needs `qemu-img` and `qemu-io` in the path: `cargo test --release --test interop_cases -- --ignored`.

#![cfg(target_os = "linux")]

#[path = "support/pool.rs"]
mod pool;
#[path = "support/qemu.rs"]
mod qemu;
#[path = "support/qemu_io.rs"]
mod qemu_io;
#[path = "support/shown.rs"]
mod shown;

use pool::{Outcome, head_of, layer_of, open, snapshot_bytes, volume_bytes};
use qemu::{Checked, Qemu};
use shown::assert_shows;
use snapgroup::storage::{At, DiskStore, Fault, FaultKind, Operation, SimulatedStore};
use snapgroup::{
    AdoptVolume, ByteCount, Clock, CreateSnapshot, CreateVolume, DeleteMode, DeleteSnapshots, DeleteVolume,
    Deleted, Direction, Engine, Error, Export, ExportBase, Ids, LayerFormat, Options, ReclaimOptions, Uuid,
    When,
};
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

const CLUSTER: usize = 65_536;
const DIRECTIONS: [Direction; 3] = [Direction::Commit, Direction::Pull, Direction::Auto];

fn disk(engine: &Engine, size: usize) -> Outcome<Uuid> {
    Ok(engine.create_volume(&CreateVolume::new("disk", ByteCount::of(size)))?.uuid)
}

fn fill(engine: &Engine, volume: Uuid, at: usize, length: usize, byte: u8) -> Outcome {
    Ok(engine.open_volume(volume)?.write_at(at as u64, &vec![byte; length])?)
}

fn snapshot(engine: &Engine, volume: Uuid, name: &str) -> Outcome<Uuid> {
    Ok(engine.create_snapshot(&CreateSnapshot::new(volume, name))?.uuid)
}

/// Deletes a snapshot, whatever refuses, and its bytes go this way at once.
fn delete(engine: &Engine, snapshot: Uuid, direction: Direction) -> Outcome<Deleted> {
    let mode = DeleteMode::Enforcing;
    let deleted =
        engine.delete_snapshots(&DeleteSnapshots { mode, direction, ..DeleteSnapshots::one(snapshot) })?;
    assert!(deleted.is_success() && deleted.owed.is_empty(), "{deleted:#?}");
    Ok(deleted)
}

/// The disk shows these bytes to us and to QEMU, and nothing is wrong with any of its files.
fn assert_disk(directory: &Path, engine: &Engine, volume: Uuid, bytes: &[u8]) -> Outcome {
    assert!(volume_bytes(engine, volume)? == bytes, "we see something else");
    assert_shows(directory, &head_of(engine, volume)?, bytes)?;
    assert_clean(directory, engine, volume)
}

fn assert_clean(directory: &Path, engine: &Engine, volume: Uuid) -> Outcome {
    assert!(engine.check()?.is_clean());
    for layer in engine.chain(volume)?.iter().filter(|layer| layer.format == LayerFormat::Qcow2) {
        let (checked, said) = Qemu::in_directory(directory).check(&layer.file);
        assert_eq!(checked, Checked::Clean, "{}: {said}", layer.file);
    }
    Ok(())
}

/// What QEMU's map says of the cluster at each of these places: how deep it lies, whether it is data.
fn map(directory: &Path, file: &str, clusters: usize) -> Outcome<Vec<Option<(u64, bool)>>> {
    let said = Qemu::in_directory(directory).img(&["map", "-f", "qcow2", "--output=json", file]);
    let runs: Vec<serde_json::Value> = serde_json::from_str(&said)?;
    let number = |run: &serde_json::Value, field: &str| run[field].as_u64().unwrap_or_default();
    let at = |place: usize| {
        let at = (place * CLUSTER) as u64;
        runs.iter()
            .find(|run| number(run, "start") <= at && at < number(run, "start") + number(run, "length"))
            .filter(|run| run["present"] == true)
            .map(|run| (number(run, "depth"), run["data"] == true))
    };
    Ok((0..clusters).map(at).collect())
}

fn copy(directory: &Path) -> Outcome<TempDir> {
    let copy = tempfile::tempdir()?;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        std::fs::copy(entry.path(), copy.path().join(entry.file_name()))?;
    }
    Ok(copy)
}

/// 020
#[test]
#[ignore = "needs qemu-io"]
fn what_lies_beyond_4_gib_is_merged_like_what_lies_before() -> Outcome {
    for direction in DIRECTIONS {
        let home = tempfile::tempdir()?;
        let engine = open(home.path())?;
        let far = 4usize << 30;
        let volume = disk(&engine, far + 10 * CLUSTER)?;
        for at in [0, far] {
            fill(&engine, volume, at, 3 * CLUSTER, 1)?;
        }
        let gone = snapshot(&engine, volume, "s")?;
        for at in [0, far] {
            fill(&engine, volume, at + CLUSTER, 4 * CLUSTER, 2)?;
        }
        assert!(delete(&engine, gone, direction)?.is_success());
        let head = head_of(&engine, volume)?;
        let mut commands = Vec::new();
        for at in [0, far] {
            commands.push(format!("read -P 1 {at} {CLUSTER}"));
            commands.push(format!("read -P 2 {} {}", at + CLUSTER, 4 * CLUSTER));
            commands.push(format!("read -P 0 {} {}", at + 5 * CLUSTER, 5 * CLUSTER));
        }
        Qemu::in_directory(home.path()).io(&["-r", "-f", "qcow2", &head], &commands);
        assert_clean(home.path(), &engine, volume)?;
    }
    Ok(())
}

/// 020: whichever write finds the disk full, the answer says so, and what is owed is done when there is room.
#[test]
#[ignore = "needs qemu-img"]
fn a_commit_that_finds_the_disk_full_says_so_and_is_done_when_there_is_room() -> Outcome {
    let start = tempfile::tempdir()?;
    let engine = open(start.path())?;
    let volume = disk(&engine, 8 * CLUSTER)?;
    fill(&engine, volume, 0, 2 * CLUSTER, 1)?;
    let gone = snapshot(&engine, volume, "s")?;
    fill(&engine, volume, CLUSTER, 3 * CLUSTER, 2)?;
    let shown = volume_bytes(&engine, volume)?;
    engine.close()?;
    let (mut said, mut nth) = (0, 1);
    loop {
        let home = copy(start.path())?;
        let store = SimulatedStore::new(Arc::new(DiskStore::open(home.path())?));
        let options = Options { clock: Clock::Stepping(0), ids: Ids::Seeded(nth), ..Options::default() };
        let engine = Engine::open_on(Arc::new(store.clone()), options)?;
        let writes = store.counts().of(Operation::Write);
        store.fail(Fault::once(At::CallOf(Operation::Write, nth), FaultKind::ENOSPC));
        let wish = DeleteSnapshots { direction: Direction::Commit, ..DeleteSnapshots::one(gone) };
        let deleted = engine.delete_snapshots(&wish);
        let was_full = store.counts().of(Operation::Write) - writes >= nth;
        store.heal();
        if let Ok(deleted) = &deleted
            && let Some(error) = deleted.owed.first().and_then(|owed| owed.error.as_ref())
        {
            said += 1;
            // The snapshot is gone; what its bytes still owe is listed.
            assert!(deleted.is_success() && deleted.owed.len() == 1, "{deleted:?}");
            let causes = format!("{error:?}");
            assert!(causes.contains("os error 28"), "{causes}");
            assert_eq!(engine.snapshot(gone).map_err(|error| error.code().as_str()).err(), Some("SYS.1003"));
            assert_eq!(engine.owed()?.len(), 1);
            assert!(volume_bytes(&engine, volume)? == shown);
        }
        // Where nobody knows whether the commit took place, opening anew tells.
        drop(engine);
        let engine = open(home.path())?;
        assert!(delete(&engine, gone, Direction::Commit)?.is_success());
        let (_, owed) = engine.reclaim(&ReclaimOptions::towards(Direction::Commit))?.finish()?;
        assert_eq!((owed, engine.owed()?, engine.chain(volume)?.len()), (vec![], vec![], 1));
        assert!(volume_bytes(&engine, volume)? == shown);
        let head = head_of(&engine, volume)?;
        assert_shows(home.path(), &head, &shown)?;
        // A write that failed may have taken clusters that nothing names, and no more than that.
        assert!(engine.check()?.is_sound());
        let (checked, said) = Qemu::in_directory(home.path()).check(&head);
        assert_ne!(checked, Checked::Corrupt, "{said}");
        if !was_full {
            assert!(deleted?.is_success());
            break;
        }
        nth += 1;
    }
    assert!(said > 2, "only {said} of {nth} full disks were told of");
    Ok(())
}

/// 020: the names in the headers are relative.
#[test]
#[ignore = "needs qemu-img"]
fn a_pool_that_is_moved_keeps_its_chains_and_what_it_owes() -> Outcome {
    let home = tempfile::tempdir()?;
    let (before, after) = (home.path().join("before"), home.path().join("after"));
    std::fs::create_dir(&before)?;
    let engine = open(&before)?;
    let volume = disk(&engine, 8 * CLUSTER)?;
    let mut gone = Vec::new();
    for byte in 1..4u8 {
        fill(&engine, volume, usize::from(byte) * CLUSTER, 2 * CLUSTER, byte)?;
        gone.push(snapshot(&engine, volume, "s")?);
    }
    let kept = gone.pop().ok_or("three")?;
    let shown = volume_bytes(&engine, volume)?;
    assert!(
        engine
            .delete_snapshots(&DeleteSnapshots { reclaim: When::Later, ..DeleteSnapshots::all(gone) })?
            .is_success()
    );
    engine.close()?;
    std::fs::rename(&before, &after)?;
    let engine = open(&after)?;
    assert_disk(&after, &engine, volume, &shown)?;
    let (_, owed) = engine.reclaim(&ReclaimOptions::towards(Direction::Pull))?.finish()?;
    assert_eq!((owed, engine.chain(volume)?.len()), (vec![], 2));
    assert!(snapshot_bytes(&engine, kept)? == shown);
    assert_disk(&after, &engine, volume, &shown)
}

/// 020: a path is followed into the pool's directory, and nowhere else.
#[test]
#[ignore = "needs qemu-img"]
fn a_backing_file_that_is_named_by_a_path_is_adopted_where_it_leads_into_the_pool() -> Outcome {
    let (home, elsewhere) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let engine = open(home.path())?;
    for (number, directory) in [elsewhere.path(), home.path()].into_iter().enumerate() {
        Qemu::in_directory(directory).img(&["create", "-q", "-f", "qcow2", "base.qcow2", "1M"]);
        let base = directory.join("base.qcow2");
        let base = base.to_str().ok_or("a path is text")?;
        let top = format!("top-{number}.qcow2");
        let qemu = Qemu::in_directory(home.path());
        qemu.img(&["create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", &top]);
        let before = std::fs::read(home.path().join(&top))?;
        let adopted = engine.adopt_volume(&AdoptVolume::new(&top, LayerFormat::Qcow2, "disk"));
        if directory == home.path() {
            let volume = adopted?.uuid;
            let chain = engine.chain(volume)?;
            assert_eq!(
                (chain[1].file.as_str(), chain[0].backing_label.as_deref()),
                ("base.qcow2", Some(base))
            );
            assert_clean(home.path(), &engine, volume)?;
            continue;
        }
        let Err(Error::NotAdoptable { blob, .. }) = &adopted else { panic!("{adopted:?}") };
        assert_eq!(*blob, top);
        assert!(std::fs::read(home.path().join(&top))? == before);
    }
    Ok(())
}

/// 024: all eight ways in which a layer, the one above it and the one below it can have a cluster.
#[test]
#[ignore = "needs qemu-img"]
fn a_layer_that_goes_up_or_down_leaves_each_cluster_where_it_belongs() -> Outcome {
    let home = tempfile::tempdir()?;
    let engine = open(home.path())?;
    let volume = disk(&engine, 8 * CLUSTER)?;
    let mut shown = vec![0; 8 * CLUSTER];
    let mut snapshots = Vec::new();
    for layer in 0..3u8 {
        for place in (0..8).filter(|place| place >> layer & 1 == 1) {
            fill(&engine, volume, place * CLUSTER, CLUSTER, layer + 1)?;
            shown[place * CLUSTER..(place + 1) * CLUSTER].fill(layer + 1);
        }
        if layer < 2 {
            snapshots.push(snapshot(&engine, volume, "s")?);
        }
    }
    let [below, gone] = snapshots[..] else { panic!("two") };
    let [low, middle] = [layer_of(&engine, below)?, layer_of(&engine, gone)?];
    let top = head_of(&engine, volume)?;
    engine.close()?;
    let expected: Vec<Option<(u64, bool)>> = (0..8)
        .map(|place| match place {
            0 => None,
            1 => Some((1, true)),
            _ => Some((0, true)),
        })
        .collect();
    for direction in [Direction::Pull, Direction::Commit] {
        let (ours, theirs) = (copy(home.path())?, copy(home.path())?);
        let engine = open(ours.path())?;
        assert!(delete(&engine, gone, direction)?.is_success());
        assert_disk(ours.path(), &engine, volume, &shown)?;
        let head = head_of(&engine, volume)?;
        assert_eq!(map(ours.path(), &head, 8)?, expected, "{direction}");
        assert!(engine.chain(volume)?[1].file == low && (head == middle) == (direction == Direction::Commit));
        let qemu = Qemu::in_directory(theirs.path());
        let theirs_head = match direction {
            Direction::Commit => {
                qemu.img(&["commit", "-q", "-f", "qcow2", "-d", &top]);
                &middle
            }
            _ => {
                qemu.img(&["rebase", "-f", "qcow2", "-b", &low, "-F", "qcow2", &top]);
                &top
            }
        };
        assert_eq!(map(theirs.path(), theirs_head, 8)?, expected, "{direction}: QEMU does it otherwise");
    }
    Ok(())
}

/// 028
#[test]
#[ignore = "needs qemu-img"]
fn a_disk_that_is_longer_than_what_is_below_reads_zeros_there_before_and_after_merges() -> Outcome {
    for direction in DIRECTIONS {
        let home = tempfile::tempdir()?;
        let engine = open(home.path())?;
        // It ends inside of a cluster.
        let (short, long) = (2 * CLUSTER + 9 * 512, 5 * CLUSTER + 512);
        let volume = disk(&engine, short)?;
        fill(&engine, volume, 0, short, 1)?;
        let gone = snapshot(&engine, volume, "s")?;
        engine.resize_volume(volume, ByteCount::of(long))?;
        let mut shown = vec![0; long];
        shown[..short].fill(1);
        assert_disk(home.path(), &engine, volume, &shown)?;
        // Across the end of what is below, a little inside and a little outside.
        fill(&engine, volume, short - 100, 1000, 2)?;
        shown[short - 100..short + 900].fill(2);
        assert_disk(home.path(), &engine, volume, &shown)?;
        assert!(delete(&engine, gone, direction)?.is_success());
        assert_disk(home.path(), &engine, volume, &shown)?;
        assert_eq!(engine.chain(volume)?.len(), if direction == Direction::Auto { 2 } else { 1 });
    }
    Ok(())
}

/// 050 and 252
#[test]
#[ignore = "needs qemu-img"]
fn zero_clusters_go_on_hiding_what_is_below_whichever_way_they_go() -> Outcome {
    for direction in DIRECTIONS {
        let home = tempfile::tempdir()?;
        let engine = open(home.path())?;
        let volume = disk(&engine, 6 * CLUSTER)?;
        fill(&engine, volume, 0, 6 * CLUSTER, 1)?;
        snapshot(&engine, volume, "below")?;
        engine.open_volume(volume)?.discard(0, (2 * CLUSTER) as u64)?;
        fill(&engine, volume, 2 * CLUSTER, CLUSTER, 2)?;
        let gone = snapshot(&engine, volume, "gone")?;
        engine.open_volume(volume)?.discard((2 * CLUSTER) as u64, (2 * CLUSTER) as u64)?;
        let mut shown = vec![0; 6 * CLUSTER];
        shown[4 * CLUSTER..].fill(1);
        assert!(delete(&engine, gone, direction)?.is_success());
        assert_disk(home.path(), &engine, volume, &shown)?;
        if direction != Direction::Auto {
            let zero = Some((0, false));
            let below = Some((1, true));
            let head = head_of(&engine, volume)?;
            assert_eq!(map(home.path(), &head, 6)?, [zero, zero, zero, zero, below, below], "{direction}");
        }
    }
    Ok(())
}

/// 252: with nothing below, no room is taken for zeros, and data that zeros hide is given back.
#[test]
#[ignore = "needs qemu-img"]
fn zeros_at_the_bottom_of_a_chain_take_up_no_room() -> Outcome {
    for direction in DIRECTIONS {
        let home = tempfile::tempdir()?;
        let engine = open(home.path())?;
        let volume = disk(&engine, 4 * CLUSTER)?;
        fill(&engine, volume, 0, 3 * CLUSTER, 1)?;
        let gone = snapshot(&engine, volume, "s")?;
        engine.open_volume(volume)?.discard(0, (2 * CLUSTER) as u64)?;
        let mut shown = vec![0; 4 * CLUSTER];
        shown[2 * CLUSTER..3 * CLUSTER].fill(1);
        assert!(delete(&engine, gone, direction)?.is_success());
        assert_disk(home.path(), &engine, volume, &shown)?;
        let data: usize = map(home.path(), &head_of(&engine, volume)?, 4)?
            .into_iter()
            .flatten()
            .filter(|(_, data)| *data)
            .count();
        assert_eq!(data, 1, "{direction}");
    }
    Ok(())
}

/// 095
#[test]
#[ignore = "needs qemu-img"]
fn a_layer_grows_when_a_longer_disk_is_committed_into_it() -> Outcome {
    let home = tempfile::tempdir()?;
    let engine = open(home.path())?;
    let volume = disk(&engine, 3 * CLUSTER)?;
    fill(&engine, volume, 0, 3 * CLUSTER, 1)?;
    let layer = head_of(&engine, volume)?;
    let gone = snapshot(&engine, volume, "s")?;
    engine.resize_volume(volume, ByteCount::of(9 * CLUSTER))?;
    fill(&engine, volume, 7 * CLUSTER, CLUSTER, 2)?;
    let shown = volume_bytes(&engine, volume)?;
    engine.close()?;
    let theirs = copy(home.path())?;
    let engine = open(home.path())?;
    let top = head_of(&engine, volume)?;
    assert!(delete(&engine, gone, Direction::Commit)?.is_success());
    assert_eq!(head_of(&engine, volume)?, layer);
    assert_disk(home.path(), &engine, volume, &shown)?;
    Qemu::in_directory(theirs.path()).img(&["commit", "-q", "-f", "qcow2", "-d", &top]);
    assert_shows(theirs.path(), &layer, &shown)
}

/// 097
#[test]
#[ignore = "needs qemu-io"]
fn two_layers_of_more_than_2_gib_with_an_odd_end_become_one_with_the_disk() -> Outcome {
    for direction in [Direction::Commit, Direction::Pull] {
        let home = tempfile::tempdir()?;
        let engine = open(home.path())?;
        let size = (2usize << 30) + 3 * 512;
        let volume = disk(&engine, size)?;
        let mut gone = Vec::new();
        for byte in 1..=3u8 {
            let at = usize::from(byte) * CLUSTER;
            fill(&engine, volume, at, 2 * CLUSTER, byte)?;
            fill(&engine, volume, (1 << 30) + at, CLUSTER, byte)?;
            fill(&engine, volume, size - 2000 + usize::from(byte) * 100, 100, byte)?;
            if byte < 3 {
                gone.push(snapshot(&engine, volume, "s")?);
            }
        }
        let wish = DeleteSnapshots { direction, ..DeleteSnapshots::all(gone) };
        let deleted = engine.delete_snapshots(&wish)?;
        assert!(deleted.is_success() && deleted.owed.is_empty(), "{deleted:#?}");
        assert_eq!(engine.chain(volume)?.len(), 1);
        let mut commands = vec![format!("read -P 0 0 {CLUSTER}")];
        for byte in 1..=3usize {
            commands.push(format!("read -P {byte} {} {CLUSTER}", byte * CLUSTER));
            commands.push(format!("read -P {byte} {} {CLUSTER}", (1 << 30) + byte * CLUSTER));
            commands.push(format!("read -P {byte} {} 100", size - 2000 + byte * 100));
        }
        commands.push(format!("read -P 3 {} {CLUSTER}", 4 * CLUSTER));
        let head = head_of(&engine, volume)?;
        Qemu::in_directory(home.path()).io(&["-r", "-f", "qcow2", &head], &commands);
        assert_clean(home.path(), &engine, volume)?;
    }
    Ok(())
}

/// 122, also with what is compressed
#[test]
#[ignore = "needs qemu-img"]
fn an_export_above_another_one_holds_what_differs_with_its_zeros_and_no_more() -> Outcome {
    let home = tempfile::tempdir()?;
    let pool = home.path().join("pool");
    std::fs::create_dir(&pool)?;
    let engine = open(&pool)?;
    let volume = disk(&engine, 6 * CLUSTER + 512)?;
    fill(&engine, volume, 0, 6 * CLUSTER + 512, 1)?;
    let monday = snapshot(&engine, volume, "monday")?;
    engine.open_volume(volume)?.discard(CLUSTER as u64, CLUSTER as u64)?;
    fill(&engine, volume, 3 * CLUSTER + 700, 900, 2)?;
    let tuesday = snapshot(&engine, volume, "tuesday")?;
    for is_compressed in [false, true] {
        let out = home.path().join(format!("compressed-{is_compressed}"));
        std::fs::create_dir(&out)?;
        let packed = |export: Export| if is_compressed { export.compressed() } else { export };
        engine.export_file(monday, &packed(Export::qcow2()), out.join("monday.qcow2"))?;
        let base =
            ExportBase { snapshot: monday.into(), label: "monday.qcow2".into(), format: LayerFormat::Qcow2 };
        engine.export_file(tuesday, &packed(Export::above(base)), out.join("tuesday.qcow2"))?;
        assert_shows(&out, "monday.qcow2", &snapshot_bytes(&engine, monday)?)?;
        assert_shows(&out, "tuesday.qcow2", &snapshot_bytes(&engine, tuesday)?)?;
        let below = Some((1, true));
        let expected = [below, Some((0, false)), below, Some((0, true)), below, below, below];
        assert_eq!(map(&out, "tuesday.qcow2", 7)?, expected);
        for file in ["monday.qcow2", "tuesday.qcow2"] {
            let (checked, said) = Qemu::in_directory(&out).check(file);
            assert_eq!(checked, Checked::Clean, "{said}");
            assert_eq!(said.contains(" 100.00% compressed"), is_compressed, "{file}: {said}");
        }
    }
    Ok(())
}

/// 154
#[test]
#[ignore = "needs qemu-io"]
fn zeros_that_end_inside_of_clusters_leave_what_is_below_around_them() -> Outcome {
    for compat in ["1.1", "0.10"] {
        for backed in [true, false] {
            let home = tempfile::tempdir()?;
            let qemu = Qemu::in_directory(home.path());
            let options = format!("compat={compat},cluster_size={CLUSTER}");
            if backed {
                qemu.img(&["create", "-q", "-f", "qcow2", "base.qcow2", "1M"]);
                qemu.io(&["-f", "qcow2", "base.qcow2"], &["write -P 1 0 1M".to_owned()]);
                let create =
                    ["create", "-q", "-f", "qcow2", "-o", &options, "-b", "base.qcow2", "-F", "qcow2"];
                qemu.img(&[&create[..], &["top.qcow2"]].concat());
            } else {
                qemu.img(&["create", "-q", "-f", "qcow2", "-o", &options, "top.qcow2", "1M"]);
            }
            qemu.io(&["-f", "qcow2", "top.qcow2"], &["write -P 2 128k 128k".to_owned()]);
            let theirs = copy(home.path())?;
            let engine = open(home.path())?;
            let wish = AdoptVolume::new("top.qcow2", LayerFormat::Qcow2, "disk");
            let volume = engine.adopt_volume(&wish)?.uuid;
            let mut shown = volume_bytes(&engine, volume)?;
            let handle = engine.open_volume(volume)?;
            // Inside of one cluster, of two, whole ones with ends on either side, whole ones, the end of the disk.
            let ranges =
                [(1024, 512), (65_024, 1024), (140_000, 150_016), (458_752, 131_072), (1_048_064, 512)];
            let mut commands = Vec::new();
            for (turn, (at, length)) in ranges.into_iter().enumerate() {
                let at = at / 512 * 512;
                match turn % 2 {
                    0 => handle.discard(at, length)?,
                    _ => handle.write_zeroes(at, length)?,
                }
                commands.push(format!("write -z {at} {length}"));
                shown[usize::try_from(at)?..usize::try_from(at + length)?].fill(0);
            }
            drop(handle);
            assert_disk(home.path(), &engine, volume, &shown)?;
            Qemu::in_directory(theirs.path()).io(&["-f", "qcow2", "top.qcow2"], &commands);
            assert_shows(theirs.path(), "top.qcow2", &shown)?;
        }
    }
    Ok(())
}

/// A base with data, above it a shorter disk, above that one as long as the base.
struct Short {
    home: TempDir,
    engine: Engine,
    base: Uuid,
    volume: Uuid,
    middle: Uuid,
    shown: Vec<u8>,
}

impl Short {
    fn new() -> Outcome<Self> {
        let home = tempfile::tempdir()?;
        let engine = open(home.path())?;
        let (long, short) = (8 * CLUSTER, 4 * CLUSTER + 512);
        let origin = disk(&engine, long)?;
        fill(&engine, origin, 0, long, 1)?;
        let base = snapshot(&engine, origin, "base")?;
        let wish = CreateVolume::of_snapshot("disk", base);
        let wish = CreateVolume { size: Some(ByteCount::of(short)), ..wish };
        let volume = engine.create_volume(&wish)?.uuid;
        assert!(!engine.delete_volume(&DeleteVolume::new(origin))?.is_success(), "a clone is above it");
        fill(&engine, volume, CLUSTER, 1000, 2)?;
        let middle = snapshot(&engine, volume, "middle")?;
        engine.resize_volume(volume, ByteCount::of(long))?;
        fill(&engine, volume, 6 * CLUSTER + 300, 300, 3)?;
        let mut shown = vec![0; long];
        shown[..short].fill(1);
        shown[CLUSTER..CLUSTER + 1000].fill(2);
        shown[6 * CLUSTER + 300..6 * CLUSTER + 600].fill(3);
        Ok(Self { home, engine, base, volume, middle, shown })
    }

    fn judge(&self) -> Outcome {
        assert_disk(self.home.path(), &self.engine, self.volume, &self.shown)
    }
}

/// 274
#[test]
#[ignore = "needs qemu-img"]
fn a_shorter_disk_in_the_middle_hides_what_is_below_its_end() -> Outcome {
    let short = Short::new()?;
    short.judge()?;
    let middle = snapshot_bytes(&short.engine, short.middle)?;
    assert_shows(short.home.path(), &layer_of(&short.engine, short.middle)?, &middle)?;
    assert!(
        middle.len() < short.shown.len()
            && snapshot_bytes(&short.engine, short.base)?[..] == [1; 8 * CLUSTER]
    );
    Ok(())
}

/// 274: the upper one into the middle one, and the other way round.
#[test]
#[ignore = "needs qemu-img"]
fn a_shorter_disk_in_the_middle_goes_and_what_it_hid_stays_hidden() -> Outcome {
    for direction in DIRECTIONS {
        let short = Short::new()?;
        let engine = &short.engine;
        let (top, middle) = (head_of(engine, short.volume)?, layer_of(engine, short.middle)?);
        let theirs = copy(short.home.path())?;
        assert!(delete(engine, short.middle, direction)?.is_success());
        short.judge()?;
        let qemu = Qemu::in_directory(theirs.path());
        if direction == Direction::Commit {
            assert_eq!(head_of(engine, short.volume)?, middle);
            qemu.img(&["commit", "-q", "-f", "qcow2", "-d", &top]);
            assert_shows(theirs.path(), &middle, &short.shown)?;
        } else if direction == Direction::Pull {
            let base = layer_of(engine, short.base)?;
            qemu.img(&["rebase", "-f", "qcow2", "-b", &base, "-F", "qcow2", &top]);
            assert_shows(theirs.path(), &top, &short.shown)?;
        }
        assert_eq!(engine.chain(short.volume)?.len(), if direction == Direction::Auto { 3 } else { 2 });
    }
    Ok(())
}

/// 274: all three become one.
#[test]
#[ignore = "needs qemu-img"]
fn a_chain_with_a_shorter_disk_in_the_middle_becomes_one_file() -> Outcome {
    for direction in DIRECTIONS {
        let short = Short::new()?;
        let engine = &short.engine;
        let origin = engine.snapshot(short.base)?.volume_uuid;
        let wish = DeleteVolume { mode: DeleteMode::Enforcing, ..DeleteVolume::new(origin) };
        assert!(engine.delete_volume(&wish)?.is_success());
        short.judge()?;
        assert!(delete(engine, short.middle, direction)?.is_success());
        short.judge()?;
        let (_, owed) = engine.reclaim(&ReclaimOptions::towards(direction))?.finish()?;
        assert_eq!(owed, []);
        short.judge()?;
        if direction != Direction::Auto {
            assert_eq!(engine.chain(short.volume)?.len(), 1);
        }
    }
    Ok(())
}

/// 274: a disk grows above a longer one.
#[test]
#[ignore = "needs qemu-img"]
fn what_a_disk_gains_by_growing_above_a_longer_one_reads_as_zeros() -> Outcome {
    let home = tempfile::tempdir()?;
    let engine = open(home.path())?;
    let origin = disk(&engine, 8 * CLUSTER)?;
    fill(&engine, origin, 0, 8 * CLUSTER, 1)?;
    let base = snapshot(&engine, origin, "base")?;
    for short in [512, CLUSTER, 3 * CLUSTER + 512] {
        for long in [5 * CLUSTER, 8 * CLUSTER, 11 * CLUSTER + 1024] {
            let wish = CreateVolume::of_snapshot("disk", base);
            let wish = CreateVolume { size: Some(ByteCount::of(short)), ..wish };
            let volume = engine.create_volume(&wish)?.uuid;
            engine.resize_volume(volume, ByteCount::of(long))?;
            let mut shown = vec![0; long];
            shown[..short].fill(1);
            assert_disk(home.path(), &engine, volume, &shown)?;
        }
    }
    Ok(())
}
