//! What this crate writes, read by readers of other hands: imago, rust-img-qcow2 and, with the feature `qcow2-rs`, qcow2-rs
//! inside the bounds in which it reads right.
//!
//! `SNAPGROUP_SEED=n` begins with another seed.

use imago::file::File;
use imago::qcow2::Qcow2;
use imago::{FormatAccess, FormatDriverBuilder, PermissiveImplicitOpenGate};
use img_qcow2::Qcow2Reader;
use snapgroup::image::{Image, Limits, NewImage, Version};
use snapgroup::storage::{Access, BlobName, DiskStore, Store};
use snapgroup::units::{ByteCount, GuestOffset};
use snapgroup::{
    CreateSnapshot, CreateVolume, DeleteMode, DeleteSnapshots, Direction, Engine, Options, Uuid,
};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use tempfile::TempDir;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// What is read at a time, and what every disk is a multiple of.
const PIECE: usize = 4096;

/// The largest cluster.
const CLUSTER_MAX: u64 = 2 << 20;

/// One of them resolves names of backing files where the process is; one process is in one place.
static PLACE: Mutex<()> = Mutex::new(());

/// Somebody who reads a whole disk.
type Reader = (&'static str, fn(&Path, usize) -> Outcome<Vec<u8>>);

const IMAGO: Reader = ("imago", imago);
const IMG_QCOW2: Reader = ("rust-img-qcow2", img_qcow2);
#[cfg(feature = "qcow2-rs")]
const QCOW2_RS: Reader = ("qcow2-rs", bounded::qcow2_rs);

/// All of them.
const READERS: &[Reader] = &[
    IMAGO,
    #[cfg(feature = "qcow2-rs")]
    QCOW2_RS,
    IMG_QCOW2,
];

/// Dice that fall the same way for the same seed.
struct Dice(u64);

impl Dice {
    fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % below
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.roll(256)).expect("below 256")
    }
}

fn imago(path: &Path, size: usize) -> Outcome<Vec<u8>> {
    let image = Qcow2::<File>::builder_path(path).open(PermissiveImplicitOpenGate::default())?;
    let disk = FormatAccess::new(image);
    in_pieces(size, |at, piece| Ok(disk.read(piece, at)?))
}

/// Lengthens the file of an image and of those beside it by a hole: a cluster that the file ends in, and a compressed one
/// whose last sector it ends in, read as zeros there, as QEMU and imago know and the two others do not.
fn lengthen(path: &Path) -> Outcome {
    for entry in std::fs::read_dir(path.parent().ok_or("a file lies in a directory")?)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "qcow2") {
            let file = std::fs::File::options().write(true).open(path)?;
            file.set_len((file.metadata()?.len() + 1).next_multiple_of(CLUSTER_MAX))?;
        }
    }
    Ok(())
}

fn img_qcow2(path: &Path, size: usize) -> Outcome<Vec<u8>> {
    lengthen(path)?;
    let reader = Qcow2Reader::open(path)?;
    assert_eq!(reader.virtual_size(), size as u64);
    in_pieces(size, |at, piece| Ok(reader.read_at(at, piece)?))
}

fn in_pieces(size: usize, mut read: impl FnMut(u64, &mut [u8]) -> Outcome) -> Outcome<Vec<u8>> {
    let mut bytes = vec![0xee; size];
    for (index, piece) in bytes.chunks_mut(PIECE).enumerate() {
        read((index * PIECE) as u64, piece)?;
    }
    Ok(bytes)
}

/// The third one, whose calls are futures.
#[cfg(feature = "qcow2-rs")]
mod bounded {
    use super::{Outcome, in_pieces, lengthen};
    use qcow2_rs::dev::Qcow2DevParams;
    use qcow2_rs::utils::qcow2_setup_dev_sync;
    use std::path::Path;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    pub(super) fn qcow2_rs(path: &Path, size: usize) -> Outcome<Vec<u8>> {
        lengthen(path)?;
        let device = qcow2_setup_dev_sync(path, &Qcow2DevParams::new(9, None, None, true, false))?;
        ready(device.qcow2_prep_io())?;
        in_pieces(size, |at, piece| {
            let read = ready(device.read_at(piece, at))?;
            if read == piece.len() { Ok(()) } else { Err("a short read".into()) }
        })
    }

    /// Runs a future that never waits: every call below it blocks.
    fn ready<T>(future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return done;
            }
        }
    }
}

/// Sees that all of these read the same bytes of a file and what lies below it.
fn assert_read(readers: &[Reader], path: &Path, expected: &[u8], what: &str) -> Outcome {
    for (name, read) in readers {
        let found = read(path, expected.len()).map_err(|error| format!("{what}: {name}: {error}"))?;
        let first = found.iter().zip(expected).position(|(found, expected)| found != expected);
        assert_eq!(first, None, "{what}: {name} reads something else of {path:?}");
    }
    Ok(())
}

/// What is to be read of a disk or a snapshot, and in which file it begins.
fn shown(engine: &Engine, volume: Uuid, snapshots: &[Uuid]) -> Outcome<Vec<(PathBuf, Vec<u8>)>> {
    let handle = engine.open_volume(volume)?;
    let mut bytes = vec![0; handle.size().as_usize()];
    handle.read_at(0, &mut bytes)?;
    let mut shown = vec![(PathBuf::from(engine.volume(volume)?.install_path), bytes)];
    for snapshot in snapshots {
        let handle = engine.open_snapshot(*snapshot)?;
        let mut bytes = vec![0; handle.size().as_usize()];
        handle.read_at(0, &mut bytes)?;
        let path = engine.snapshot(*snapshot)?.primary_storage_install_path;
        shown.push((PathBuf::from(path), bytes));
    }
    Ok(shown)
}

/// Writes, zeros and gives back at random places.
fn work(dice: &mut Dice, engine: &Engine, volume: Uuid) -> Outcome {
    let handle = engine.open_volume(volume)?;
    let size = handle.size().as_usize();
    for _ in 0..1 + dice.roll(8) {
        let at = dice.roll(size);
        let length = (1 + dice.roll(200_000)).min(size - at);
        match dice.roll(5) {
            0 => handle.write_zeroes(at as u64, length as u64)?,
            1 => handle.discard(at as u64, length as u64)?,
            _ => handle.write_at(at as u64, &vec![dice.byte(); length])?,
        }
    }
    Ok(handle.flush()?)
}

#[test]
fn chains_of_a_pool_read_the_same_by_other_hands() -> Outcome {
    let _here = PLACE.lock().unwrap_or_else(PoisonError::into_inner);
    let first = std::env::var("SNAPGROUP_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    for seed in first..first + 24 {
        let mut dice = Dice::of(seed);
        let home = TempDir::new()?;
        std::env::set_current_dir(home.path())?;
        let options = Options { cluster_bits: [12, 16][dice.roll(2)], ..Options::default() };
        let engine = Engine::open(home.path().join("pool"), options)?;
        std::env::set_current_dir(home.path().join("pool"))?;
        let size = ByteCount::of(PIECE * (1 + dice.roll(300)));
        let volume = engine.create_volume(&CreateVolume::new("disk", size))?.uuid;
        let mut snapshots = Vec::new();
        for _ in 0..2 + dice.roll(4) {
            work(&mut dice, &engine, volume)?;
            snapshots.push(engine.create_snapshot(&CreateSnapshot::new(volume, "s"))?.uuid);
        }
        work(&mut dice, &engine, volume)?;
        if dice.roll(2) == 0 {
            let gone = snapshots.remove(dice.roll(snapshots.len()));
            let direction = [Direction::Commit, Direction::Pull][dice.roll(2)];
            let mode = DeleteMode::Enforcing;
            assert!(
                engine
                    .delete_snapshots(&DeleteSnapshots { direction, mode, ..DeleteSnapshots::one(gone) })?
                    .is_success()
            );
        }
        let shown = shown(&engine, volume, &snapshots)?;
        engine.close()?;
        for (path, bytes) in &shown {
            assert_read(READERS, path, bytes, &format!("seed {seed}"))?;
        }
        std::env::set_current_dir(std::env::temp_dir())?;
    }
    Ok(())
}

#[test]
fn single_images_of_other_forms_read_the_same_by_other_hands() -> Outcome {
    let _here = PLACE.lock().unwrap_or_else(PoisonError::into_inner);
    // qcow2-rs does not read clusters below 4 KiB, narrow refcounts nor version 2 right.
    const TWO: &[Reader] = &[IMAGO, IMG_QCOW2];
    let forms: [(Version, u32, u32, &[Reader]); 6] = [
        (Version::V3, 16, 4, READERS),
        (Version::V3, 12, 6, READERS),
        (Version::V3, 21, 3, READERS),
        (Version::V3, 9, 0, TWO),
        (Version::V2, 16, 4, TWO),
        (Version::V2, 9, 4, TWO),
    ];
    for (version, cluster_bits, refcount_order, readers) in forms {
        let what = format!("{version:?}, clusters of 2^{cluster_bits}, refcounts of 2^{refcount_order} bits");
        let home = TempDir::new()?;
        let name = BlobName::parse("x.qcow2")?;
        let blob = DiskStore::open(home.path())?.create(&name)?;
        let new = NewImage { version, cluster_bits, refcount_order, ..NewImage::of_size(ByteCount::mib(3)) };
        new.layout("x.qcow2")?.write(&*blob)?;
        let image = Image::open(blob, "x.qcow2", Access::Write, Limits::default())?;
        let mut expected = vec![0; 3 << 20];
        for (at, length, byte) in [(0, 100_000, 1), (700_000, 5000, 2), ((3 << 20) - 10, 10, 3)] {
            image.write(GuestOffset::new(at as u64), &vec![byte; length], None)?;
            expected[at..at + length].fill(byte);
        }
        // A few clusters that are compressed.
        let cluster = 1 << cluster_bits;
        let at = 2 << 20;
        for index in 0..((1 << 20) - PIECE).min(4 * cluster) / cluster {
            let bytes = vec![7 + index as u8; cluster.min((3 << 20) - at - index * cluster)];
            let here = at + index * cluster;
            image.write_compressed(GuestOffset::new(here as u64), &bytes)?;
            expected[here..here + bytes.len()].copy_from_slice(&bytes);
        }
        image.flush()?;
        drop(image);
        assert_read(readers, &home.path().join("x.qcow2"), &expected, &what)?;
    }
    Ok(())
}
