//! Survey: everything that an image defines, by its tables alone; no data is read.

use super::error::Result;
use super::map::{Cluster, Mapping};
use super::open::{Image, State};
use crate::format::Subclusters;
use crate::units::{ByteCount, ClusterCount, GuestCluster, GuestOffset};
use std::ops::Range;

/// What an image holds of a cluster, or of a subcluster, that it defines.
///
/// An example is at [`Image`].
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
    pub(super) fn next_table(&self, from: usize) -> Option<usize> {
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
        // A table may have entries past the end of the disk; nobody sees them.
        let mut at = self.geometry.guest_offset(first);
        let end = GuestOffset::end_of(self.size()).min(at + self.geometry.l2_coverage());
        let mut begun: Option<(Held, GuestOffset)> = None;
        while at < end {
            let (held, length) = self.held(state, at, end - at)?;
            if begun.map(|(held, _)| held) != held {
                if let Some((held, start)) = begun {
                    each(held, start..at);
                }
                begun = held.map(|held| (held, at));
            }
            at += length;
        }
        if let Some((held, start)) = begun {
            each(held, start..end);
        }
        Ok(())
    }

    /// What the table in memory says at `at`, `None` when it is absent, and for how many of the `length` bytes from
    /// there.
    fn held(&self, state: &State, at: GuestOffset, length: ByteCount) -> Result<(Option<Held>, ByteCount)> {
        let run = self.run(state, at, length)?;
        let held = match run.mapping {
            Mapping::Absent => None,
            Mapping::Data { .. } => Some(Held::Data),
            Mapping::Compressed(_) => Some(Held::Compressed),
            Mapping::Zero => {
                let cluster = self.geometry.guest_cluster(at);
                let to_end = self.geometry.cluster_size() - self.geometry.offset_in_cluster(at);
                let held = match self.cluster(state, cluster)? {
                    Cluster::Plain(Subclusters { at: Some(_), .. }) => Held::ZeroAllocated,
                    _ => Held::Zero,
                };
                return Ok((Some(held), run.length.min(to_end)));
            }
        };
        Ok((held, run.length))
    }
}
