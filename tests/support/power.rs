//! A blob whose power can be cut: the one file of a simulated disk, and what a cut at any point of its log may leave
//! (promise B4 of the storage room).

use crate::dice::Dice;
use snapgroup::storage::{
    Access, Blob, BlobName, Bounds, DiskChange, DiskLog, FileSystem, SimulatedDisk, Store,
};
use snapgroup::units::HostOffset;
use std::ops::Deref;
use std::sync::Arc;

/// A blob that keeps its log.
#[derive(Debug)]
pub(crate) struct PowerCutBlob {
    disk: SimulatedDisk,
    blob: Arc<dyn Blob>,
}

fn name() -> BlobName {
    BlobName::parse("power-cut").expect("one component")
}

impl Default for PowerCutBlob {
    fn default() -> Self {
        let disk = SimulatedDisk::new(FileSystem::Strict);
        let blob = disk.create(&name()).expect("in memory");
        disk.sync_names().expect("in memory");
        Self { disk, blob }
    }
}

impl Deref for PowerCutBlob {
    type Target = dyn Blob;

    fn deref(&self) -> &Self::Target {
        &*self.blob
    }
}

impl PowerCutBlob {
    pub(crate) fn blob(&self) -> Arc<dyn Blob> {
        Arc::clone(&self.blob)
    }

    /// How much has been logged.
    pub(crate) fn position(&self) -> usize {
        self.disk.position()
    }

    pub(crate) fn log(&self) -> DiskLog {
        self.disk.log()
    }
}

/// The points of a log right after a write of the header.
pub(crate) fn after_header_writes(log: &DiskLog) -> Vec<usize> {
    let writes = log.events().iter().enumerate();
    let is_header =
        |change: &DiskChange| matches!(change, DiskChange::Write { at, .. } if *at == HostOffset::ZERO);
    writes.filter(|(_, event)| is_header(&event.change)).map(|(index, _)| index + 1).collect()
}

/// What cuts at `points`, in rising order, leave: each one of the many states that it may.
pub(crate) fn cuts<'a>(
    log: &'a DiskLog,
    points: &'a [usize],
    dice: &'a mut Dice,
) -> impl Iterator<Item = (usize, Vec<u8>)> + 'a {
    let mut cuts = log.cuts(points.first().copied().unwrap_or_default()).peekable();
    points.iter().map(move |&point| {
        while cuts.next_if(|(instant, _)| *instant < point).is_some() {}
        let (_, cut) = cuts.peek().expect("a point of the log");
        let seed = dice.roll(usize::MAX) as u64;
        let bounds = Bounds { exhaustive_bits: 4, pairs_max: 0, samples: 256, seed };
        // The first two are always the same ones.
        let state = cut.states(bounds).shuffled(seed).nth(2).expect("three at least");
        let left = state.store().open(&name(), Access::Read).expect("its name is durable");
        let mut bytes = vec![0; left.length().expect("in memory").as_usize()];
        left.read_at(HostOffset::ZERO, &mut bytes).expect("in memory");
        (point, bytes)
    })
}
