//! The references to each cluster, as they are counted, and what kinds of things refer to it.

use crate::units::{ByteCount, ClusterCount, HostCluster};
use std::cell::Cell;
use std::collections::BTreeMap;

/// The clusters that one stretch of counts covers. Small: in a hostile file each of them has one reference. No
/// refcount block counts fewer.
pub(in crate::image) const STRETCH: u64 = 64;
const STRETCH_LENGTH: usize = 64;

/// What a reference takes a cluster for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// The refcount table or one of its blocks.
    Refcounts,
    /// The header, an L1 table, the table of internal snapshots, a bitmap: never shared.
    Own,
    /// An L2 table. Internal snapshots share it with the active tables.
    Table,
    /// Guest data. Internal snapshots share it.
    Data,
    /// Guest data that is compressed. Several clusters of the guest share it.
    Compressed,
}

/// Whether one more reference goes with those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Lawful,
    /// The cluster is used for two things at once, and one of them is a refcount.
    OverRefcounts,
    /// The cluster is used for two things at once.
    Overlap,
}

/// Two references of one disk to one cluster that is no compressed one.
const SHARED: u8 = 1 << 6;
/// A reference of the disk that is being walked.
const SEEN: u8 = 1 << 7;

impl Use {
    const fn bit(self) -> u8 {
        match self {
            Self::Refcounts => 1,
            Self::Own => 2,
            Self::Table => 4,
            Self::Data => 8,
            Self::Compressed => 16,
        }
    }
}

#[derive(Clone, Debug)]
struct Stretch {
    /// The disk that the marks [`SEEN`] are of.
    disk: u32,
    counts: [u32; STRETCH_LENGTH],
    uses: [u8; STRETCH_LENGTH],
}

/// The references counted so far, in stretches of the file.
#[derive(Debug, Default)]
pub(in crate::image) struct References {
    /// Where in `stretches` each is, by its number in the file.
    places: BTreeMap<u64, usize>,
    #[expect(
        clippy::vec_box,
        reason = "a list of them as they are takes up twice its memory while it grows"
    )]
    stretches: Vec<Box<Stretch>>,
    /// The stretch that was asked for last, and its place: tables mostly go on where they were.
    last: Cell<Option<(u64, usize)>>,
    /// The disk that is being walked.
    disk: u32,
    /// Those of them that come from the refcount table and its place in the header.
    by_refcounts: BTreeMap<HostCluster, u32>,
}

fn place(cluster: HostCluster) -> (u64, usize) {
    (cluster.as_u64() / STRETCH, ByteCount::new(cluster.as_u64() % STRETCH).as_usize())
}

impl References {
    /// Begins with another disk: the active one, or that of an internal snapshot.
    pub(super) fn begin_disk(&mut self) {
        self.disk += 1;
    }

    /// Counts so many references more.
    #[inline]
    pub(super) fn add(&mut self, cluster: HostCluster, what: Use, times: u32) -> Fit {
        let (stretch, index) = place(cluster);
        let disk = self.disk;
        let at = self.place_of(stretch).unwrap_or_else(|| self.make(stretch));
        let stretch = &mut self.stretches[at];
        if stretch.disk != disk {
            stretch.disk = disk;
            stretch.uses.iter_mut().for_each(|uses| *uses &= !SEEN);
        }
        let (count, uses) = (&mut stretch.counts[index], &mut stretch.uses[index]);
        *count = count.saturating_add(times);
        let before = *uses & !(SHARED | SEEN);
        let is_shareable = matches!(what, Use::Table | Use::Data);
        if is_shareable && before == what.bit() && *uses & SEEN != 0 {
            *uses |= SHARED;
        }
        *uses |= what.bit() | if is_shareable { SEEN } else { 0 };
        if what == Use::Refcounts {
            let by_refcounts = self.by_refcounts.entry(cluster).or_default();
            *by_refcounts = by_refcounts.saturating_add(times);
        }
        let goes_with = match what {
            Use::Refcounts | Use::Own => 0,
            Use::Table | Use::Data | Use::Compressed => what.bit(),
        };
        if before & !goes_with == 0 {
            Fit::Lawful
        } else if (before | what.bit()) & Use::Refcounts.bit() != 0 {
            Fit::OverRefcounts
        } else {
            Fit::Overlap
        }
    }

    #[inline]
    fn place_of(&self, stretch: u64) -> Option<usize> {
        match self.last.get() {
            Some((last, at)) if last == stretch => Some(at),
            _ => {
                let at = *self.places.get(&stretch)?;
                self.last.set(Some((stretch, at)));
                Some(at)
            }
        }
    }

    fn make(&mut self, stretch: u64) -> usize {
        let at = self.stretches.len();
        let counts = Stretch { disk: self.disk, counts: [0; STRETCH_LENGTH], uses: [0; STRETCH_LENGTH] };
        self.stretches.push(Box::new(counts));
        self.places.insert(stretch, at);
        self.last.set(Some((stretch, at)));
        at
    }

    fn stretch(&self, stretch: u64) -> Option<&Stretch> {
        self.place_of(stretch).map(|at| &*self.stretches[at])
    }

    /// How many references a cluster has.
    pub(in crate::image) fn of(&self, cluster: HostCluster) -> u64 {
        let (stretch, index) = place(cluster);
        self.stretch(stretch).map_or(0, |stretch| u64::from(stretch.counts[index]))
    }

    /// How many references each cluster of a stretch has, which begins at `first`; `None` when none has any.
    pub(super) fn of_stretch(&self, first: HostCluster) -> Option<&[u32]> {
        self.stretch(first.as_u64() / STRETCH).map(|stretch| &stretch.counts[..])
    }

    /// The first cluster of each stretch in which anything is referred to, in order.
    pub(super) fn stretches(&self) -> impl Iterator<Item = HostCluster> {
        self.places.keys().map(|stretch| HostCluster::new(stretch * STRETCH))
    }

    /// How many references a cluster has that do not come from the refcount structures.
    pub(in crate::image) fn of_others(&self, cluster: HostCluster) -> u64 {
        self.of(cluster) - self.by_refcounts.get(&cluster).map_or(0, |count| u64::from(*count))
    }

    /// Whether one disk refers to a cluster twice, which it has no reason to do.
    pub(super) fn is_shared(&self, cluster: HostCluster) -> bool {
        let (stretch, index) = place(cluster);
        self.stretch(stretch).is_some_and(|stretch| stretch.uses[index] & SHARED != 0)
    }

    /// Whether any of the `count` clusters from `first` on, which begin with a stretch, is referred to.
    pub(in crate::image) fn any(&self, first: HostCluster, count: u64) -> bool {
        let end = (first.as_u64() + count).div_ceil(STRETCH);
        self.places.range(first.as_u64() / STRETCH..end).next().is_some()
    }

    /// Every cluster that is referred to, in order.
    pub(in crate::image) fn clusters(&self) -> impl DoubleEndedIterator<Item = HostCluster> {
        self.places.iter().flat_map(|(stretch, at)| {
            let referred = (0..STRETCH).zip(&self.stretches[*at].counts).filter(|(_, count)| **count > 0);
            let referred: Vec<u64> = referred.map(|(index, _)| stretch * STRETCH + index).collect();
            referred.into_iter().map(HostCluster::new)
        })
    }

    /// The clusters that only the refcount structures refer to.
    pub(in crate::image) fn refcount_clusters(&self) -> impl Iterator<Item = HostCluster> {
        self.by_refcounts.keys().copied().filter(|cluster| self.of_others(*cluster) == 0)
    }

    /// The cluster behind all that is referred to.
    pub(in crate::image) fn behind(&self) -> HostCluster {
        let last = self.clusters().next_back();
        last.map_or(HostCluster::ZERO, |last| last + ClusterCount::new(1))
    }
}
