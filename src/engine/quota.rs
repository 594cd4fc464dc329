//! What a pool may hold, compared with what it holds and with what would be added.

use super::error::Result;
use super::full::Taking;
use super::pool::{Engine, Pool};
use crate::catalog::{DiskView, Reader};
use crate::chain::Flatten;
use crate::plan::freeze::cluster_bits;
use crate::plan::quota::{Amount, Quota};
use crate::storage::{Access, Store};
use crate::units::ByteCount;

/// What the snapshots of a pool come to, as quotas count them: see [`Options::snapshots_max`](super::Options::snapshots_max)
/// and [`Options::snapshot_bytes_max`](super::Options::snapshot_bytes_max).
#[doc = include_str!("examples/quotas.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// How many there are.
    pub snapshots: u64,
    /// What their layers take up together.
    pub snapshot_bytes: ByteCount,
}

impl Engine {
    /// What the snapshots of the pool come to, as quotas count them. Takes no longer for a million than for one.
    ///
    /// # Errors
    ///
    /// [`Error::Catalog`](super::Error::Catalog).
    #[doc = include_str!("examples/quotas.md")]
    pub fn usage(&self) -> Result<Usage> {
        let held = held(&self.pool.read()?)?;
        Ok(Usage { snapshots: held.snapshots, snapshot_bytes: held.bytes })
    }
}

impl Pool {
    /// Refuses what would be more than the pool may hold.
    pub(super) fn check_quota(&self, reader: &Reader, adding: Amount) -> Result<()> {
        let quota = Quota { snapshots: self.options.snapshots_max, bytes: self.options.snapshot_bytes_max };
        Ok(quota.check(held(reader)?, adding)?)
    }

    /// What a snapshot of a disk would add, without flushing it.
    pub(super) fn amount_added(&self, disk: &DiskView, way: Taking) -> Result<Amount> {
        let bytes = match (self.options.snapshot_bytes_max, way) {
            // Nobody asks.
            (None, _) => ByteCount::ZERO,
            (Some(_), Taking::Frozen) => self.store().open(&disk.chain[0].blob, Access::Read)?.allocated()?,
            (Some(_), Taking::Copied) => {
                let _layout = self.layout.read();
                let chain = self.chain_as_it_is(&disk.volume, &disk.chain)?;
                let bits = cluster_bits(&disk.chain[0], self.options.cluster_bits);
                Flatten::measure(&chain, None, ByteCount::new(1 << bits))?
            }
        };
        Ok(Amount { snapshots: 1, bytes })
    }

    /// What snapshots of several disks would add.
    pub(super) fn amounts_added(&self, disks: &[DiskView], ways: &[Taking]) -> Result<Amount> {
        let amounts = disks.iter().zip(ways).map(|(disk, way)| self.amount_added(disk, *way));
        Ok(amounts.collect::<Result<Vec<_>>>()?.into_iter().sum())
    }
}

/// What the pool holds.
fn held(reader: &Reader) -> Result<Amount> {
    Ok(Amount { snapshots: reader.counts()?.snapshots, bytes: reader.snapshot_bytes()? })
}
