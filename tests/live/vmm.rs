//! A virtual machine manager as a plain struct: it has the disks of a machine open beside the pool, as another process
//! would, writes to them, and switches them when it is told to.

use snapgroup::chain::{Chain, Layer};
use snapgroup::image::{Image, Limits};
use snapgroup::storage::{Access, BlobName, Hold, Store};
use snapgroup::units::GuestOffset;
use snapgroup::{Engine, HookError, PreparedDisk, Switch, Uuid, WritesTo};
use std::error::Error;
use std::sync::Arc;

/// What comes of a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comes {
    /// Every disk is switched.
    Whole,
    /// None is, and it says so.
    Refused,
    /// None is, and it says that it was done.
    Nothing,
    /// The first disk is, the others are not, and it says that something is wrong.
    HalfWay,
    /// Every disk is, and it says that none is.
    WholeWithAnError,
    /// Every disk is, writes, and is put back; and it says that something is wrong.
    ThereAndBack,
    /// It does not come back.
    Panic,
}

/// Whether it can be found out where a disk writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    Clear,
    Blind,
}

/// One disk: the volume, and what it reads through.
#[derive(Debug)]
struct Disk {
    volume: Uuid,
    chain: Chain,
}

#[derive(Debug)]
pub(crate) struct Vmm {
    store: Arc<dyn Store>,
    disks: Vec<Disk>,
    round: u64,
    pub(crate) comes: Comes,
    pub(crate) sight: Sight,
    pub(crate) switched: usize,
}

impl Vmm {
    /// Opens the disks of a machine, each at its head.
    pub(crate) fn start(
        engine: &Engine,
        store: Arc<dyn Store>,
        machine: Uuid,
    ) -> Result<Self, Box<dyn Error>> {
        let mut disks = Vec::new();
        for volume in engine.machine(machine)?.all_volumes {
            let files: Vec<String> = engine.chain(volume.uuid)?.into_iter().map(|layer| layer.file).collect();
            let mut layers = Vec::new();
            for (depth, file) in files.iter().enumerate() {
                layers.push(open(&*store, file, if depth == 0 { Access::Write } else { Access::Read })?);
            }
            disks.push(Disk { volume: volume.uuid, chain: Chain::new(layers) });
        }
        let (comes, sight) = (Comes::Whole, Sight::Clear);
        Ok(Self { store, disks, round: 0, comes, sight, switched: 0 })
    }

    /// Writes a number to every disk, one disk after the other: a disk is never ahead of the one before it, and never more
    /// than one round behind.
    pub(crate) fn write(&mut self) -> Result<u64, Box<dyn Error>> {
        self.round += 1;
        for disk in &self.disks {
            disk.chain.write(GuestOffset::new(0), &self.round.to_be_bytes())?;
            disk.chain.write(GuestOffset::new(4096 * (1 + self.round % 8)), &[self.round as u8; 512])?;
        }
        Ok(self.round)
    }

    pub(crate) fn flush(&self) -> Result<(), Box<dyn Error>> {
        for disk in &self.disks {
            disk.chain.flush()?;
        }
        Ok(())
    }

    /// The number that each disk holds.
    pub(crate) fn read(&self) -> Result<Vec<u64>, Box<dyn Error>> {
        let mut numbers = Vec::new();
        for disk in &self.disks {
            let mut bytes = [0; 8];
            disk.chain.read(GuestOffset::new(0), &mut bytes)?;
            numbers.push(u64::from_be_bytes(bytes));
        }
        Ok(numbers)
    }

    /// The files that the disks write to.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.disks.iter().map(|disk| disk.chain.head().name().to_owned()).collect()
    }

    fn take(&mut self, wanted: &PreparedDisk) -> Result<(), HookError> {
        let disk =
            self.disks.iter_mut().find(|disk| disk.volume == wanted.volume_uuid).ok_or("no such disk")?;
        let head = disk.chain.head();
        head.as_qcow2().ok_or("a head is qcow2")?.flush()?;
        head.blob().hold(Hold::Read)?;
        let overlay = open(&*self.store, file_of(&wanted.overlay.filename), Access::Write)?;
        disk.chain = disk.chain.with_head(overlay);
        Ok(())
    }
}

impl Switch for Vmm {
    fn switch(&mut self, disks: &[PreparedDisk]) -> Result<(), HookError> {
        self.switched += 1;
        let count = match self.comes {
            Comes::Whole | Comes::WholeWithAnError | Comes::ThereAndBack => disks.len(),
            Comes::Refused | Comes::Nothing => 0,
            Comes::HalfWay => 1,
            Comes::Panic => panic!("the switch does not come back"),
        };
        for disk in &disks[..count] {
            self.take(disk)?;
        }
        if self.comes == Comes::ThereAndBack {
            self.write().map_err(|error| error.to_string())?;
            for disk in &mut self.disks {
                disk.chain = Chain::new(disk.chain.layers()[1..].to_vec());
            }
        }
        match self.comes {
            Comes::Whole | Comes::Nothing => Ok(()),
            _ => Err("the switch failed".into()),
        }
    }

    fn look(&mut self, disks: &[PreparedDisk]) -> Result<Vec<WritesTo>, HookError> {
        if self.sight == Sight::Blind {
            return Err("nobody answers".into());
        }
        let mut seen = Vec::new();
        for wanted in disks {
            let disk = self.disks.iter().find(|disk| disk.volume == wanted.volume_uuid);
            let head = disk.ok_or("no such disk")?.chain.head().name();
            seen.push(match () {
                () if head == file_of(&wanted.chain[0].path) => WritesTo::Overlay,
                () if head == file_of(&wanted.chain[1].path) => WritesTo::Head,
                () => WritesTo::Unknown,
            });
        }
        Ok(seen)
    }
}

fn open(store: &dyn Store, file: &str, access: Access) -> Result<Arc<Layer>, snapgroup::image::Error> {
    let blob = store.open(&BlobName::parse(file).expect("the name of a layer"), access)?;
    blob.hold(if access == Access::Write { Hold::Write } else { Hold::Read })?;
    Ok(Arc::new(Layer::from(Image::open(blob, file, access, Limits::default())?)))
}

/// The last component of a path.
pub(crate) fn file_of(path: &str) -> &str {
    path.rsplit(['/', ':']).next().unwrap_or(path)
}
