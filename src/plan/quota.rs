//! What the snapshots of a pool may come to, in number and in bytes.
//!
//! The bytes of a snapshot are what the file of its layer takes up, as its record says: noted when the layer is frozen,
//! and again when a merge has changed it. So the sum is known without looking at a file. What deleted snapshots still owe,
//! bases that nobody took a snapshot of, and heads are not in it.

use super::refusal::Refusal;
use crate::units::ByteCount;

/// The most that a pool may hold; what is absent has no bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota {
    pub(crate) snapshots: Option<u64>,
    pub(crate) bytes: Option<ByteCount>,
}

/// Some snapshots, and the bytes that they take up together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    pub(crate) snapshots: u64,
    pub(crate) bytes: ByteCount,
}

impl Quota {
    /// Refuses when the pool would hold more than it may.
    pub(crate) fn check(&self, held: Amount, adding: Amount) -> Result<(), Refusal> {
        if let Some(quota) = self.snapshots
            && held.snapshots.saturating_add(adding.snapshots) > quota
        {
            return Err(Refusal::Quota { held: held.snapshots, adding: adding.snapshots, quota });
        }
        if let Some(quota) = self.bytes
            && held.bytes.checked_add(adding.bytes).is_none_or(|sum| sum > quota)
        {
            return Err(Refusal::QuotaBytes { held: held.bytes, adding: adding.bytes, quota });
        }
        Ok(())
    }
}

impl std::iter::Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self { snapshots: 0, bytes: ByteCount::ZERO }, |sum, amount| Self {
            snapshots: sum.snapshots + amount.snapshots,
            bytes: sum.bytes.checked_add(amount.bytes).unwrap_or(ByteCount::new(u64::MAX)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_used_up_to_its_last_snapshot_and_byte() {
        let amount = |snapshots, bytes| Amount { snapshots, bytes: ByteCount::new(bytes) };
        let quota = Quota { snapshots: Some(3), bytes: Some(ByteCount::new(100)) };
        assert_eq!(quota.check(amount(2, 60), amount(1, 40)), Ok(()));
        let error = Refusal::Quota { held: 2, adding: 2, quota: 3 };
        assert_eq!(quota.check(amount(2, 60), amount(2, 40)), Err(error));
        let (held, adding, quota_bytes) = (ByteCount::new(60), ByteCount::new(41), ByteCount::new(100));
        let error = Refusal::QuotaBytes { held, adding, quota: quota_bytes };
        assert_eq!(quota.check(amount(2, 60), amount(1, 41)), Err(error));
        assert_eq!(Quota { snapshots: None, bytes: None }.check(amount(9, 900), amount(9, 900)), Ok(()));
    }
}
