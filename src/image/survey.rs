//! Survey: everything that an image defines, by its tables alone; no data is read.

use super::error::Result;
use super::map::Mapping;
use super::open::{Image, State};
use crate::format::L2Entry;
use crate::units::{ByteCount, ClusterCount, GuestCluster, GuestOffset};
use std::ops::Range;

/// What an image holds of a cluster that it defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Held {
    /// Zeros, and no room in the file.
    Zero,
    /// Zeros, and a cluster in the file that is kept for later.
    ZeroAllocated,
    /// Data as it is in the file.
    Data,
    /// A compressed cluster.
    Compressed,
}

impl Image {
    /// Names every stretch of the disk that the image defines, in order: what is not named is absent. Two
    /// stretches side by side may be alike; the last one ends with the disk.
    ///
    /// Costs the L2 tables that there are; where the L1 table has none, nothing at all. Other threads may write
    /// meanwhile: each table is seen as it is at one moment, and what was defined before the call is named.
    ///
    /// # Errors
    ///
    /// [`Error::Format`](super::Error::Format) and [`Error::OutsideFile`](super::Error::OutsideFile) for tables
    /// that break a rule; [`Error::Storage`](super::Error::Storage).
    pub fn survey(&self, mut each: impl FnMut(Held, Range<GuestOffset>)) -> Result<()> {
        let mut l1_index = 0;
        while let Some(index) = self.next_table(l1_index) {
            let first = GuestCluster::ZERO + ClusterCount::new(index as u64 * self.geometry.l2_entries());
            let state = self.state_for(self.geometry.guest_offset(first))?;
            self.survey_table(&state, first, &mut each)?;
            l1_index = index + 1;
        }
        Ok(())
    }

    /// The first L1 entry from `from` on that has an L2 table.
    fn next_table(&self, from: usize) -> Option<usize> {
        let state = self.state.read();
        let ahead = state.l1.get(from..)?.iter().position(|raw| *raw != 0)?;
        Some(from + ahead)
    }

    fn survey_table(
        &self,
        state: &State,
        first: GuestCluster,
        each: &mut impl FnMut(Held, Range<GuestOffset>),
    ) -> Result<()> {
        let inside = GuestCluster::ZERO + self.geometry.clusters_for(state.size);
        // A table may have entries past the end of the disk; nobody sees them.
        let clusters = inside.checked_since(first).unwrap_or_default();
        let clusters = clusters.as_u64().min(self.geometry.l2_entries());
        let offset = |index| self.geometry.guest_offset(first + ClusterCount::new(index));
        let mut run: Option<(Held, u64)> = None;
        for index in 0..clusters {
            let held = self.held(state, first + ClusterCount::new(index))?;
            if run.map(|(held, _)| held) == held {
                continue;
            }
            if let Some((held, start)) = run {
                each(held, offset(start)..offset(index));
            }
            run = held.map(|held| (held, index));
        }
        if let Some((held, start)) = run {
            each(held, offset(start)..offset(clusters).min(GuestOffset::end_of(state.size)));
        }
        Ok(())
    }

    /// What the entry of a cluster whose table is in memory says; `None` when it is absent.
    fn held(&self, state: &State, cluster: GuestCluster) -> Result<Option<Held>> {
        let entry = self.entry(state, cluster)?;
        Ok(match self.run(state, self.geometry.guest_offset(cluster), ByteCount::new(1))?.mapping {
            Mapping::Absent => None,
            Mapping::Data { .. } => Some(Held::Data),
            Mapping::Compressed(_) => Some(Held::Compressed),
            Mapping::Zero if matches!(entry, L2Entry::Zero { allocation: Some(_), .. }) => {
                Some(Held::ZeroAllocated)
            }
            Mapping::Zero => Some(Held::Zero),
        })
    }
}
