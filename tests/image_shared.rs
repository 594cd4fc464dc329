//! A disk that shares its tables and clusters with an internal snapshot: whatever is done to the disk, it reads as plain
//! bytes do, the snapshot keeps what it held, and a check finds nothing.

#[path = "support/dice.rs"]
mod dice;
#[path = "support/internal.rs"]
mod internal;

use dice::Dice;
use snapgroup::image::{self, Below, Error, Image, L2Width, Limits, NewImage, Space, Version};
use snapgroup::storage::{
    Access, At, Blob, BlobName, Fault, FaultKind, MemoryStore, Operation, SimulatedStore, Store, Times,
};
use snapgroup::units::{ByteCount, GuestOffset};
use std::error::Error as StdError;
use std::sync::Arc;

type Outcome<T = ()> = Result<T, Box<dyn StdError>>;

/// What lies below the disk.
struct Base(Vec<u8>);

impl Below for Base {
    fn read_below(&self, at: GuestOffset, buffer: &mut [u8]) -> image::Result<()> {
        let at = at.as_size().as_usize();
        buffer.copy_from_slice(&self.0[at..at + buffer.len()]);
        Ok(())
    }
}

/// A disk and what it must read as.
struct Disk {
    blob: Arc<dyn Blob>,
    image: Image,
    base: Option<Base>,
    bytes: Vec<u8>,
}

impl Disk {
    fn new(new: &NewImage, base: Option<Base>) -> Outcome<Self> {
        let blob = MemoryStore::new().create(&BlobName::parse("x")?)?;
        new.layout("x")?.write(&*blob)?;
        let size = new.size.as_usize();
        let bytes = base.as_ref().map_or_else(|| vec![0; size], |base| base.0.clone());
        Ok(Self { image: open(&blob)?, blob, base, bytes })
    }

    fn below(&self) -> Option<&dyn Below> {
        self.base.as_ref().map(|base| base as &dyn Below)
    }

    /// One change at random, of every kind there is.
    fn change(&mut self, dice: &mut Dice) -> Outcome {
        let (size, cluster) = (self.bytes.len(), self.image.geometry().cluster_size().as_usize());
        let at = dice.roll(size);
        let length = 1 + dice.roll((size - at).min(2 * cluster));
        let (at, length) = match dice.roll(3) {
            // Whole clusters, or up to one byte before the end of a subcluster.
            0 => (at - at % cluster, cluster.min(size - (at - at % cluster))),
            1 => (at, (512 - at % 512).saturating_sub(1).clamp(1, size - at)),
            _ => (at, length),
        };
        let (start, byte) = (GuestOffset::new(at as u64), u8::try_from(1 + dice.roll(255))?);
        let range = at..at + length;
        match dice.roll(6) {
            kind @ (0 | 1) => {
                let space = [Space::Free, Space::Keep][kind];
                self.image.zero(start, ByteCount::of(length), space, self.below())?;
                self.bytes[range].fill(0);
            }
            2 => {
                let at = at - at % cluster;
                let packed = vec![byte; cluster.min(size - at)];
                if self.image.write_compressed(GuestOffset::new(at as u64), &packed)? {
                    self.bytes[at..at + packed.len()].copy_from_slice(&packed);
                }
            }
            _ => {
                self.image.write(start, &vec![byte; length], self.below())?;
                self.bytes[range].fill(byte);
            }
        }
        Ok(())
    }

    /// What an image above the base reads as.
    fn read(&self, image: &Image) -> Outcome<Vec<u8>> {
        let (mut bytes, mut holes) = (vec![0xee; self.bytes.len()], Vec::new());
        image.read(GuestOffset::ZERO, &mut bytes, &mut holes)?;
        for hole in holes {
            match &self.base {
                Some(base) => bytes[hole.clone()].copy_from_slice(&base.0[hole]),
                None => bytes[hole].fill(0),
            }
        }
        Ok(bytes)
    }
}

fn open(blob: &Arc<dyn Blob>) -> Outcome<Image> {
    // One table at most, so that tables are read again.
    let limits = Limits { table_cache: ByteCount::new(1), ..Limits::default() };
    Ok(Image::open(Arc::clone(blob), "x", Access::Write, limits)?)
}

fn shared(new: &NewImage, seed: u64, base: Option<Base>) -> Outcome {
    let dice = &mut Dice::of(seed);
    let mut disk = Disk::new(new, base)?;
    for _ in 0..12 {
        disk.change(dice)?;
    }
    disk.image.flush()?;
    // The image is closed while somebody else takes the snapshot.
    disk.image = Disk::new(new, None)?.image;
    internal::add(&*disk.blob)?;
    disk.image = open(&disk.blob)?;
    let kept = disk.bytes.clone();
    for step in 0..30 {
        disk.change(dice)?;
        assert!(disk.read(&disk.image)? == disk.bytes, "seed {seed}, step {step}");
        if step % 10 == 9 {
            disk.image.flush()?;
            let report = disk.image.check()?;
            assert!(report.is_clean(), "seed {seed}, step {step}: {report}");
            let gone_back = open(&internal::gone_back(&*disk.blob)?)?;
            assert!(disk.read(&gone_back)? == kept, "seed {seed}, step {step}: the snapshot has changed");
            let again = Image::open(Arc::clone(&disk.blob), "x", Access::Read, Limits::default())?;
            assert!(disk.read(&again)? == disk.bytes, "seed {seed}, step {step}, opened again");
        }
    }
    Ok(())
}

#[test]
fn what_is_done_to_a_disk_leaves_its_internal_snapshot_as_it_was() -> Outcome {
    for (cluster_bits, l2, size) in
        [(9, L2Width::Standard, 40_000), (12, L2Width::Standard, 200_300), (14, L2Width::Extended, 300_900)]
    {
        let new = NewImage { cluster_bits, l2, ..NewImage::of_size(ByteCount::new(size)) };
        for seed in 0..60 {
            let base =
                Base((0..size).map(|at| u8::try_from(at / 100 % 200).map_or(0, |byte| byte + 1)).collect());
            shared(&new, seed, (seed % 2 == 0).then_some(base))?;
        }
    }
    Ok(())
}

#[test]
fn a_copy_that_could_not_be_written_takes_no_room() -> Outcome {
    let new = NewImage { cluster_bits: 12, ..NewImage::of_size(ByteCount::kib(100)) };
    for nth in 1.. {
        let store = SimulatedStore::new(Arc::new(MemoryStore::new()));
        let blob = store.create(&BlobName::parse("x")?)?;
        new.layout("x")?.write(&*blob)?;
        let image = open(&blob)?;
        image.write(GuestOffset::ZERO, &[1; 20_000], None)?;
        image.flush()?;
        drop(image);
        internal::add(&*blob)?;
        let image = open(&blob)?;
        let at = At::CallOf(Operation::Write, nth);
        store.fail(Fault { at, kind: FaultKind::ENOSPC, times: Times::Once });
        let mut refused = 0;
        for at in [5000, 9000, 13_000] {
            while image.write(GuestOffset::new(at), &[2; 100], None).is_err() {
                refused += 1;
            }
        }
        if refused == 0 {
            assert!(nth > 1, "nothing has failed");
            return Ok(());
        }
        image.flush()?;
        let report = image.check()?;
        assert!(report.is_clean(), "write {nth}: {report}");
    }
    Ok(())
}

#[test]
fn a_disk_of_version_2_with_an_internal_snapshot_has_the_size_that_it_has() -> Outcome {
    let size = ByteCount::kib(100);
    let blob = MemoryStore::new().create(&BlobName::parse("x")?)?;
    NewImage { version: Version::V2, ..NewImage::of_size(size) }.layout("x")?.write(&*blob)?;
    internal::add(&*blob)?;
    let image = open(&blob)?;
    image.grow(size, None)?;
    for more in [1, 512] {
        let wanted = size + ByteCount::new(more);
        let Err(Error::Fixed { size_max, .. }) = image.grow(wanted, None) else { panic!("it has grown") };
        assert_eq!((size_max, image.size()), (size, size));
    }
    Ok(())
}
