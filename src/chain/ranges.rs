//! Sets of guest addresses as ranges: what a layer defines, what is read of it, what must be copied.

use crate::units::{ByteCount, GuestOffset};
use std::ops::Range;

/// A set of guest addresses, held as half-open ranges: sorted, none empty, none touching the next one.
///
/// Memory goes with the number of ranges, never with the addresses in them. Two sets of the same addresses are
/// equal.
#[doc = include_str!("examples/ranges.md")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    runs: Vec<Range<GuestOffset>>,
}

impl Ranges {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { runs: Vec::new() }
    }

    /// Every address of a disk of `size` bytes.
    #[must_use]
    pub fn whole(size: ByteCount) -> Self {
        std::iter::once(GuestOffset::ZERO..GuestOffset::end_of(size)).collect()
    }

    /// Adds a range. Cheap at the end of the set; elsewhere everything behind it moves.
    pub fn insert(&mut self, range: Range<GuestOffset>) {
        if range.is_empty() {
            return;
        }
        let from = self.runs.partition_point(|run| run.end < range.start);
        let to = self.runs.partition_point(|run| run.start <= range.end);
        let joined = match &self.runs[from..to] {
            [] => range,
            touched => {
                let (first, last) = (&touched[0], &touched[touched.len() - 1]);
                first.start.min(range.start)..last.end.max(range.end)
            }
        };
        self.runs.splice(from..to, std::iter::once(joined));
    }

    /// The ranges in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Range<GuestOffset>> + '_ {
        self.runs.iter().cloned()
    }

    /// How many ranges there are.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Whether there is no address in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The number of addresses in the set.
    #[must_use]
    pub fn bytes(&self) -> ByteCount {
        self.runs.iter().map(|run| run.end - run.start).sum()
    }

    /// Whether an address is in the set.
    #[must_use]
    pub fn contains(&self, at: GuestOffset) -> bool {
        let next = self.runs.partition_point(|run| run.end <= at);
        self.runs.get(next).is_some_and(|run| run.start <= at)
    }

    /// What is in either of them.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.combine(other, |mine, theirs| mine || theirs)
    }

    /// What is in both of them.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        self.combine(other, |mine, theirs| mine && theirs)
    }

    /// What is in this one and not in the other.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        self.combine(other, |mine, theirs| mine && !theirs)
    }

    /// The addresses of a disk of `size` bytes that are not in the set.
    #[must_use]
    pub fn complement(&self, size: ByteCount) -> Self {
        Self::whole(size).subtract(self)
    }

    /// The addresses below `size`.
    #[must_use]
    pub fn clipped(&self, size: ByteCount) -> Self {
        self.intersect(&Self::whole(size))
    }

    /// The cells of a grid that the set touches, on a disk of `size` bytes: the last cell may be cut by its end.
    ///
    /// # Panics
    ///
    /// On a grid of zero bytes.
    #[must_use]
    pub fn round_out(&self, grid: ByteCount, size: ByteCount) -> Self {
        let (grid, size) = (grid.as_u64(), size.as_u64());
        let inside = self.runs.iter().filter(|run| run.start.as_u64() < size);
        let rounded = inside.map(|run| {
            let start = run.start.as_u64() / grid * grid;
            let end = run.end.as_u64().checked_next_multiple_of(grid).unwrap_or(u64::MAX);
            GuestOffset::new(start)..GuestOffset::new(end.min(size))
        });
        rounded.collect()
    }

    /// The cells of a grid that lie in the set as a whole, on a disk of `size` bytes. Of a last cell that is cut by
    /// the end of the disk the part before the end is asked for.
    ///
    /// # Panics
    ///
    /// On a grid of zero bytes.
    #[must_use]
    pub fn round_in(&self, grid: ByteCount, size: ByteCount) -> Self {
        let (grid, size) = (grid.as_u64(), size.as_u64());
        let rounded = self.runs.iter().map(|run| {
            let start = run.start.as_u64().checked_next_multiple_of(grid).unwrap_or(u64::MAX);
            let end = if run.end.as_u64() >= size { size } else { run.end.as_u64() / grid * grid };
            GuestOffset::new(start)..GuestOffset::new(end)
        });
        rounded.collect()
    }

    /// Takes the first `count` addresses out of the set; all of them when it has fewer.
    pub fn split_first(&mut self, count: ByteCount) -> Self {
        let mut left = count;
        let mut taken = Self::new();
        let mut whole = 0;
        for run in &mut self.runs {
            let length = run.end - run.start;
            if length > left {
                let cut = run.start + left;
                taken.insert(run.start..cut);
                run.start = cut;
                break;
            }
            taken.runs.push(run.clone());
            left = left.saturating_sub(length);
            whole += 1;
        }
        self.runs.drain(..whole);
        taken
    }

    /// One sweep over the ends of both: an address stays when `keep` says so of being in this and in the other.
    fn combine(&self, other: &Self, keep: impl Fn(bool, bool) -> bool) -> Self {
        let (mut mine, mut theirs) = (self.ends().peekable(), other.ends().peekable());
        let (mut in_mine, mut in_theirs) = (false, false);
        let (mut kept, mut open) = (Self::new(), None);
        loop {
            let at = match (mine.peek(), theirs.peek()) {
                (Some(mine), Some(theirs)) => *mine.min(theirs),
                (Some(at), None) | (None, Some(at)) => *at,
                (None, None) => return kept,
            };
            in_mine ^= mine.next_if_eq(&at).is_some();
            in_theirs ^= theirs.next_if_eq(&at).is_some();
            match (open, keep(in_mine, in_theirs)) {
                (None, true) => open = Some(at),
                (Some(start), false) => {
                    kept.runs.push(start..at);
                    open = None;
                }
                _ => {}
            }
        }
    }

    /// Where the set begins and ends, in turn.
    fn ends(&self) -> impl Iterator<Item = GuestOffset> + '_ {
        self.runs.iter().flat_map(|run| [run.start, run.end])
    }
}

impl FromIterator<Range<GuestOffset>> for Ranges {
    fn from_iter<I: IntoIterator<Item = Range<GuestOffset>>>(ranges: I) -> Self {
        let mut set = Self::new();
        set.extend(ranges);
        set
    }
}

impl Extend<Range<GuestOffset>> for Ranges {
    fn extend<I: IntoIterator<Item = Range<GuestOffset>>>(&mut self, ranges: I) {
        for range in ranges {
            self.insert(range);
        }
    }
}

impl IntoIterator for Ranges {
    type Item = Range<GuestOffset>;
    type IntoIter = std::vec::IntoIter<Range<GuestOffset>>;

    fn into_iter(self) -> Self::IntoIter {
        self.runs.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The addresses of a small disk; all their sets are tried.
    const SPACE: u64 = 8;

    fn at(address: u64) -> GuestOffset {
        GuestOffset::new(address)
    }

    /// The set of the bits of `map`, and that it is held as it should be.
    fn set(map: u32) -> Ranges {
        let bits = (0..u64::from(u32::BITS)).filter(|bit| map >> bit & 1 == 1);
        bits.map(|bit| at(bit)..at(bit + 1)).collect()
    }

    fn map(set: &Ranges) -> u32 {
        for pair in set.runs.windows(2) {
            assert!(pair[0].end < pair[1].start, "{set:?} touches itself");
        }
        set.iter().fold(0, |map, run| {
            assert!(run.start < run.end, "{set:?} has an empty range");
            (run.start.as_u64()..run.end.as_u64()).fold(map, |map, bit| map | 1 << bit)
        })
    }

    #[test]
    fn two_sets_combine_as_their_bits_do() {
        for left in 0..1u32 << SPACE {
            for right in 0..1u32 << SPACE {
                let (mine, theirs) = (set(left), set(right));
                assert_eq!(map(&mine.union(&theirs)), left | right);
                assert_eq!(map(&mine.intersect(&theirs)), left & right);
                assert_eq!(map(&mine.subtract(&theirs)), left & !right);
            }
        }
    }

    #[test]
    fn a_range_that_is_added_anywhere_joins_what_it_touches() {
        for old in 0..1u32 << SPACE {
            for start in 0..=SPACE {
                for end in start..=SPACE {
                    let mut grown = set(old);
                    grown.insert(at(start)..at(end));
                    let added = (start..end).fold(0, |map, bit| map | 1 << bit);
                    assert_eq!(map(&grown), old | added, "{start}..{end}");
                    assert_eq!(grown, set(old | added), "{start}..{end} is held in another way");
                }
            }
        }
    }

    #[test]
    fn a_set_answers_for_each_of_its_addresses() {
        for bits in 0..1u32 << SPACE {
            let set = set(bits);
            assert_eq!(set.bytes(), ByteCount::new(u64::from(bits.count_ones())));
            assert_eq!(set.is_empty(), bits == 0);
            for bit in 0..SPACE + 2 {
                assert_eq!(set.contains(at(bit)), bits >> bit & 1 == 1, "{bit} in {set:?}");
            }
            for size in 0..=SPACE {
                let disk = (1u32 << size) - 1;
                assert_eq!(map(&set.complement(ByteCount::new(size))), !bits & disk);
                assert_eq!(map(&set.clipped(ByteCount::new(size))), bits & disk);
            }
        }
    }

    #[test]
    fn a_grid_is_rounded_to_out_and_in_and_cut_by_the_end_of_the_disk() {
        for (bits, size, grid) in (0..1u32 << SPACE)
            .flat_map(|bits| (1..=SPACE).map(move |size| (bits, size)))
            .flat_map(|(bits, size)| [1, 2, 3, 4, 8].map(|grid| (bits, size, grid)))
        {
            let (mut out, mut whole) = (0u32, 0u32);
            for cell in 0..SPACE.div_ceil(grid) {
                let inside = (cell * grid..(cell + 1) * grid).filter(|bit| *bit < size);
                let mask = inside.fold(0u32, |mask, bit| mask | 1 << bit);
                out |= if bits & mask != 0 { mask } else { 0 };
                whole |= if bits & mask == mask { mask } else { 0 };
            }
            let (set, what) = (set(bits), format!("{bits:b} of {size} by {grid}"));
            let (size, grid) = (ByteCount::new(size), ByteCount::new(grid));
            assert_eq!(map(&set.round_out(grid, size)), out, "{what} out");
            assert_eq!(map(&set.round_in(grid, size)), whole, "{what} in");
        }
    }

    #[test]
    fn the_first_addresses_are_split_off_and_the_others_stay() {
        for bits in 0..1u32 << SPACE {
            for count in 0..=SPACE + 1 {
                let mut rest = set(bits);
                let first = rest.split_first(ByteCount::new(count));
                let wanted = ByteCount::new(count.min(u64::from(bits.count_ones())));
                assert_eq!(first.bytes(), wanted);
                assert_eq!(map(&first) | map(&rest), bits);
                assert_eq!(map(&first) & map(&rest), 0);
                assert!(map(&first) < 1 << map(&rest).trailing_zeros().min(31), "{first:?} then {rest:?}");
            }
        }
    }

    #[test]
    fn the_ends_of_the_number_space_are_no_trap() {
        let all = at(1)..at(u64::MAX);
        let set: Ranges = std::iter::once(all.clone()).collect();
        let (grid, size) = (ByteCount::kib(64), ByteCount::new(u64::MAX));
        assert_eq!(set.round_out(grid, size).bytes(), size);
        assert_eq!(set.round_in(grid, size).iter().next(), Some(at(65_536)..at(u64::MAX)));
        assert_eq!(set.complement(size).bytes(), ByteCount::new(1));
        assert_eq!(set.iter().collect::<Vec<_>>(), [all]);
    }
}
