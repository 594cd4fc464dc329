//! What must be copied, zeroed or given up, worked out from what the layers define. No data is looked at.
//!
//! A *retired* layer is one that no snapshot names any more. Its *child* is the layer directly above it, and
//! *deeper* are the layers below it, the uppermost first. Each list keeps what a guest sees through the child.

use super::super::{Extents, Ranges};
use crate::units::ByteCount;

/// What a merge has to move into its target, on the target's grid of clusters.
///
/// An example is at [`Pull`](super::Pull).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    /// What must be filled with bytes.
    pub data: Ranges,
    /// What must be made zeros; all of it shows zeros by the tables alone.
    pub zero: Ranges,
    /// The zeros that must be written out, because the target knows no zero clusters.
    pub zeros_written: ByteCount,
}

impl Copies {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.data.is_empty() && self.zero.is_empty()
    }

    /// The bytes that will be written into the target, its tables left out.
    #[must_use]
    pub fn copied_bytes(&self) -> ByteCount {
        self.data.bytes() + self.zeros_written
    }
}

/// What the child needs of a retired layer so that it can do without it.
///
/// A subcluster that the child has keeps what it has. One that it lacks is filled when the retired layer has data in
/// it, or hides with zeros what the deeper layers have there: as a whole, so that bytes of deeper layers come along
/// where the child's subclusters are the larger ones.
///
/// An example is at [`Pull`](super::Pull).
#[must_use]
pub fn pull(child: &Extents, retired: &Extents, deeper: &[Extents]) -> Copies {
    let size = child.size;
    let below = shown(deeper.iter(), size);
    let shows = shown(std::iter::once(retired).chain(deeper), size);
    let told_apart = retired.data.union(&retired.zeros(size).intersect(&below));
    let needed = told_apart.intersect(&child.absent()).round_out(child.subcluster_size, size);
    let data = shows.intersect(&needed).round_out(child.subcluster_size, size);
    let zero = needed.subtract(&data);
    let zeros_written = if child.has_zero_clusters { ByteCount::ZERO } else { zero.bytes() };
    Copies { data, zero, zeros_written }
}

/// What a retired layer needs of its child so that it can take the child's place, as large as the child.
///
/// `None` when it cannot: a child with internal snapshots would take them along, a raw file is never written, a disk is not made smaller, and one with small clusters may
/// not become as large as the child (its L1 table would pass 32 MiB).
///
/// A subcluster of the retired layer that has data already takes the child's bytes only; any other is filled whole.
/// What internal snapshots of the retired layer share with its disk is copied on top of that.
///
/// An example is at [`Pull`](super::Pull).
#[must_use]
pub fn commit(child: &Extents, retired: &Extents, deeper: &[Extents]) -> Option<Copies> {
    let (size, grid) = (child.size, retired.subcluster_size);
    if child.has_internal_snapshots || retired.is_raw || size < retired.size || size > retired.size_max {
        return None;
    }
    let below = shown(std::iter::once(retired).chain(deeper), size);
    let shows = shown([child, retired].into_iter().chain(deeper), size);
    let told_apart = child.data.union(&child.zero.intersect(&below));
    let with_data = shows.round_out(grid, size);
    let zero = told_apart.round_out(grid, size).subtract(&with_data);
    let data = told_apart.intersect(&with_data);
    let data = data.subtract(&retired.data).round_out(grid, size).union(&data);

    let zeros_written = match deeper.first() {
        Some(below) if !retired.has_zero_clusters => zero.bytes() + zeros_of_growth(size, retired, below),
        _ => ByteCount::ZERO,
    };
    Some(Copies { data, zero, zeros_written })
}

/// Whether writing `copies` down into a retired layer gives up the room of bytes that are still read of it.
///
/// A compressed cluster is not changed in place: a write into a part of it makes a plain one, and what was compressed is
/// free from the next flush on. Whoever reads the rest of it through the child, by the tables of before, would find
/// something else there. What lies plainly is written in place, and what the child hides is read by nobody.
///
/// An example is at [`Pull`](super::Pull).
#[must_use]
pub fn displaces(child: &Extents, retired: &Extents, copies: &Copies) -> bool {
    let written = copies.data.union(&copies.zero).round_out(retired.cluster_size, child.size);
    !written.intersect(&retired.compressed).intersect(&child.absent()).is_empty()
}

/// The whole clusters of a retired layer that take up room and that nobody reads: what a punch gives back.
///
/// `seen` is what is read of the layer by any that is alive. Of a raw file nothing is ever given back.
///
/// An example is at [`Pull`](super::Pull).
#[must_use]
pub fn hidden(retired: &Extents, seen: &Ranges) -> Ranges {
    if retired.is_raw {
        return Ranges::new();
    }
    let (grid, size) = (retired.cluster_size, retired.size);
    // A cluster takes up room when one of its subclusters does, and is given back with the last of them.
    let held = retired.data.union(&retired.zero_allocated).round_out(grid, size);
    held.subtract(&seen.round_out(grid, size))
}

/// What is read of the layer below `child`, through it.
///
/// A living child (`None`) is read as a whole. Of a retired one only `seen_of_child` is; nothing of what the child
/// defines comes from below, and nothing past its end. Internal snapshots of the child may read anything.
///
/// An example is at [`Pull`](super::Pull).
#[must_use]
pub fn seen_through(child: &Extents, seen_of_child: Option<&Ranges>) -> Ranges {
    if child.has_internal_snapshots {
        return Ranges::whole(ByteCount::new(u64::MAX));
    }
    match seen_of_child {
        None => child.absent(),
        Some(seen) => seen.intersect(&child.absent()),
    }
}

/// Where a stack of layers, the uppermost first, shows data on a disk of `size` bytes. Everywhere else it shows
/// zeros.
fn shown<'a>(layers: impl Iterator<Item = &'a Extents>, size: ByteCount) -> Ranges {
    let (mut shown, mut open) = (Ranges::new(), Ranges::whole(size));
    for layer in layers {
        shown = shown.union(&open.intersect(&layer.data));
        open = open.intersect(&layer.absent());
        if open.is_empty() {
            break;
        }
    }
    shown
}

/// The zeros that an image without zero clusters writes when it grows to `size`: up to the end of its last cluster,
/// and of the layer below it.
fn zeros_of_growth(size: ByteCount, retired: &Extents, below: &Extents) -> ByteCount {
    if size == retired.size {
        return ByteCount::ZERO;
    }
    let cluster_end = retired.size.as_u64().next_multiple_of(retired.cluster_size.as_u64());
    ByteCount::new(cluster_end).max(below.size).min(size).saturating_sub(retired.size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::GuestOffset;

    /// The units of the largest small disk that is tried.
    const SPACE: u64 = 3;

    /// What a layer has in a unit.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Unit {
        Absent,
        Zero,
        Data,
    }

    fn unit(at: u64) -> std::ops::Range<GuestOffset> {
        GuestOffset::new(at)..GuestOffset::new(at + 1)
    }

    /// A layer with the given clusters.
    fn layer(grid: u64, size: u64, clusters: &[Unit]) -> Extents {
        let having = |wanted| {
            let units = (0..size).filter(|at| clusters[usize::try_from(at / grid).unwrap()] == wanted);
            units.map(unit).collect::<Ranges>()
        };
        Extents {
            size: ByteCount::new(size),
            cluster_size: ByteCount::new(grid),
            subcluster_size: ByteCount::new(grid),
            size_max: ByteCount::gib(128),
            has_zero_clusters: true,
            data: having(Unit::Data),
            zero: having(Unit::Zero),
            ..Extents::default()
        }
    }

    /// Every layer of every size up to the whole space, with clusters of one and of two units.
    fn all() -> Vec<Extents> {
        let mut found = Vec::new();
        for (grid, size) in [1, 2].into_iter().flat_map(|grid| (1..=SPACE).map(move |size| (grid, size))) {
            let clusters = u32::try_from(size.div_ceil(grid)).unwrap();
            for number in 0..3u64.pow(clusters) {
                let digit = |index| number / 3u64.pow(index) % 3;
                let state =
                    |index| [Unit::Absent, Unit::Zero, Unit::Data][usize::try_from(digit(index)).unwrap()];
                found.push(layer(grid, size, &(0..clusters).map(state).collect::<Vec<_>>()));
            }
        }
        found
    }

    /// Whose data each unit of the first layer's disk shows: 0 is nobody's, which is zeros.
    fn view(layers: &[&Extents]) -> Vec<usize> {
        let units = 0..layers[0].size.as_u64();
        let owner = |at: GuestOffset| {
            for (index, layer) in layers.iter().enumerate() {
                if layer.data.contains(at) {
                    return index + 1;
                }
                if layer.zero.contains(at) || at >= GuestOffset::end_of(layer.size) {
                    return 0;
                }
            }
            0
        };
        units.map(|at| owner(GuestOffset::new(at))).collect()
    }

    /// The view through `above`, but with `list` in it as it was copied from `before`.
    fn patched(after: &[usize], before: &[usize], list: &Copies) -> Vec<usize> {
        let mut patched = after.to_vec();
        for (at, shown) in patched.iter_mut().enumerate() {
            let address = GuestOffset::new(at as u64);
            if list.data.contains(address) {
                *shown = before[at];
            } else if list.zero.contains(address) {
                *shown = 0;
            }
        }
        patched
    }

    /// Layers are told apart by their place in the whole stack.
    fn renamed(view: Vec<usize>, places: &[usize]) -> Vec<usize> {
        view.into_iter().map(|owner| if owner == 0 { 0 } else { places[owner - 1] }).collect()
    }

    #[test]
    fn a_pull_keeps_the_view_copies_only_what_the_child_lacks_and_nothing_in_vain() {
        let all = all();
        for (child, retired) in all.iter().flat_map(|child| all.iter().map(move |retired| (child, retired))) {
            for deeper in all.iter().map(Some).chain([None]) {
                let stack: Vec<_> = [child, retired].into_iter().chain(deeper).collect();
                let without: Vec<_> = [child].into_iter().chain(deeper).collect();
                let before = view(&stack);
                let after = renamed(view(&without), &[1, 3]);
                let deeper: Vec<_> = deeper.cloned().into_iter().collect();
                let list = pull(child, retired, &deeper);
                assert_eq!(patched(&after, &before, &list), before, "{stack:#?} {list:?}");
                let copied = list.data.union(&list.zero);
                assert!(list.data.intersect(&list.zero).is_empty());
                assert_eq!(copied.subtract(&child.absent()), Ranges::new(), "{stack:#?} {list:?}");
                assert_eq!(copied, copied.round_in(child.cluster_size, child.size), "not on the grid");
                for cell in 0..SPACE {
                    let cell: Ranges = std::iter::once(unit(cell)).collect();
                    let cell = cell.round_out(child.cluster_size, child.size).intersect(&copied);
                    let spared = Copies {
                        data: list.data.subtract(&cell),
                        zero: list.zero.subtract(&cell),
                        ..Copies::default()
                    };
                    let seen = cell.is_empty() || patched(&after, &before, &spared) != before;
                    assert!(seen, "{cell:?} is copied in vain: {stack:#?} {list:?}");
                    let zeros = cell.iter().all(|run| {
                        (run.start.as_u64()..run.end.as_u64())
                            .all(|at| before[usize::try_from(at).unwrap()] == 0)
                    });
                    let zeroed = !cell.intersect(&list.zero).is_empty();
                    assert_eq!(zeroed, zeros && !cell.is_empty(), "{stack:#?} {list:?}");
                }
            }
        }
    }

    #[test]
    fn a_commit_keeps_the_view_and_fills_each_cluster_that_had_no_data_as_a_whole() {
        let all = all();
        for (child, retired) in all.iter().flat_map(|child| all.iter().map(move |retired| (child, retired))) {
            for deeper in all.iter().map(Some).chain([None]) {
                let stack: Vec<_> = [child, retired].into_iter().chain(deeper).collect();
                let size = child.size;
                let deeper_owned: Vec<_> = deeper.cloned().into_iter().collect();
                let Some(list) = commit(child, retired, &deeper_owned) else {
                    assert!(size < retired.size, "{stack:#?}");
                    continue;
                };
                assert!(size >= retired.size);
                let grown = Extents { size, zero: retired.zeros(size), ..retired.clone() };
                let without: Vec<_> = [&grown].into_iter().chain(deeper).collect();
                let before = view(&stack);
                let after = renamed(view(&without), &[2, 3]);
                assert_eq!(patched(&after, &before, &list), before, "{stack:#?} {list:?}");
                assert!(list.data.intersect(&list.zero).is_empty());
                assert_eq!(list.zero, list.zero.round_in(grown.cluster_size, size), "zeros in part");
                let new = list.data.subtract(&retired.data);
                assert_eq!(new, new.round_out(grown.cluster_size, size).subtract(&retired.data));
            }
        }
    }

    #[test]
    fn a_commit_displaces_what_is_read_of_a_compressed_cluster_that_it_writes_into() {
        let all = all();
        let mut displacing = 0;
        for (child, retired) in all.iter().flat_map(|child| all.iter().map(move |retired| (child, retired))) {
            let compressed = Extents { compressed: retired.data.clone(), ..retired.clone() };
            let Some(copies) = commit(child, &compressed, &[]) else { continue };
            let written = copies.data.union(&copies.zero);
            let is_displaced = |at: u64| {
                let cluster: Ranges = std::iter::once(unit(at)).collect();
                let cluster = cluster.round_out(compressed.cluster_size, child.size);
                let is_read = child.absent().contains(GuestOffset::new(at));
                is_read
                    && retired.data.contains(GuestOffset::new(at))
                    && !cluster.intersect(&written).is_empty()
            };
            let expected = (0..retired.size.as_u64()).any(is_displaced);
            assert_eq!(displaces(child, &compressed, &copies), expected, "{child:?} above {compressed:?}");
            assert!(!displaces(child, retired, &copies), "what lies plainly is written in place");
            displacing += usize::from(expected);
            // As fine as the retired layer's: a cluster is written as a whole or not at all.
            assert!(!expected || child.cluster_size < compressed.cluster_size);
        }
        assert!(displacing > 0);
    }

    #[test]
    fn what_is_hidden_is_held_in_whole_clusters_and_never_seen() {
        let all = all();
        for retired in &all {
            for seen in 0u64..1 << SPACE {
                let seen: Ranges = (0..SPACE).filter(|at| seen >> at & 1 == 1).map(unit).collect();
                let mut retired = retired.clone();
                retired.zero_allocated = retired.zero.clone();
                let list = hidden(&retired, &seen);
                assert!(list.intersect(&seen).is_empty());
                assert_eq!(list, list.round_in(retired.cluster_size, retired.size));
                let held = retired.data.union(&retired.zero);
                let kept = held.subtract(&list);
                // Every cluster that stays has a unit that is seen.
                for run in kept.iter() {
                    for at in run.start.as_u64()..run.end.as_u64() {
                        let cell: Ranges = std::iter::once(unit(at)).collect();
                        let cell = cell.round_out(retired.cluster_size, retired.size);
                        assert!(
                            !cell.intersect(&seen).is_empty(),
                            "{at} stays in vain: {retired:?} {seen:?}"
                        );
                    }
                }
                retired.is_raw = true;
                assert_eq!(hidden(&retired, &seen), Ranges::new());
            }
        }
    }

    #[test]
    fn what_is_seen_of_the_lowest_layer_is_what_it_shows_to_the_first() {
        let all = all();
        for (first, second) in all.iter().flat_map(|first| all.iter().map(move |second| (first, second))) {
            let everything = layer(1, SPACE, &[Unit::Data; 3]);
            let owners = view(&[first, second, &everything]);
            let shown: Ranges = (0..first.size.as_u64())
                .filter(|at| owners[usize::try_from(*at).unwrap()] == 3)
                .map(unit)
                .collect();
            let seen = seen_through(second, Some(&seen_through(first, None)));
            assert_eq!(seen, shown, "{first:?} above {second:?}");
        }
    }

    #[test]
    fn zeros_count_as_bytes_where_there_are_no_zero_clusters() {
        let zeros = layer(1, SPACE, &[Unit::Zero; 3]);
        let data = layer(1, SPACE, &[Unit::Data; 3]);
        let mut empty = layer(1, SPACE, &[Unit::Absent; 3]);
        let list = pull(&empty, &zeros, std::slice::from_ref(&data));
        assert_eq!((list.zero.bytes(), list.copied_bytes()), (ByteCount::new(SPACE), ByteCount::ZERO));
        empty.has_zero_clusters = false;
        let list = pull(&empty, &zeros, std::slice::from_ref(&data));
        assert_eq!(list.copied_bytes(), ByteCount::new(SPACE));
        let list = commit(&zeros, &empty, std::slice::from_ref(&data)).expect("of one size");
        assert_eq!((list.zero.bytes(), list.copied_bytes()), (ByteCount::new(SPACE), ByteCount::new(SPACE)));
        // Nothing below: an absent cluster is as good as zeros.
        let mut old = layer(1, SPACE, &[Unit::Data; 3]);
        old.has_zero_clusters = false;
        let list = commit(&zeros, &old, &[]).expect("of one size");
        assert_eq!((list.zero.bytes(), list.copied_bytes()), (ByteCount::new(SPACE), ByteCount::ZERO));
    }

    #[test]
    fn a_disk_that_the_retired_layer_cannot_hold_is_not_committed() {
        let mut child = layer(1, SPACE, &[Unit::Absent; 3]);
        let retired = child.clone();
        child.size = ByteCount::gib(128);
        assert!(commit(&child, &retired, &[]).is_some());
        child.size += ByteCount::new(512);
        assert_eq!(commit(&child, &retired, &[]), None);
        let raw = Extents { is_raw: true, ..retired };
        assert_eq!(commit(&layer(1, SPACE, &[Unit::Absent; 3]), &raw, &[]), None);
    }

    #[test]
    fn what_internal_snapshots_may_read_is_not_hidden_and_does_not_go_away() {
        let child = Extents { has_internal_snapshots: true, ..layer(1, SPACE, &[Unit::Data; 3]) };
        let retired = layer(1, SPACE, &[Unit::Data; 3]);
        assert_eq!(commit(&child, &retired, &[]), None);
        let list = hidden(&retired, &seen_through(&child, None));
        assert!(list.is_empty() && hidden(&retired, &seen_through(&child, Some(&Ranges::new()))).is_empty());
        let plain = Extents { has_internal_snapshots: false, ..child };
        assert_eq!(hidden(&retired, &seen_through(&plain, None)).bytes(), ByteCount::new(SPACE));
        // Those of the retired layer stay in it, and what it shares with them is copied.
        let retired = Extents { has_internal_snapshots: true, ..retired };
        assert!(commit(&plain, &retired, &[]).is_some());
    }
}
