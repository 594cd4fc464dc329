//! What is left of a list, taken from its front piece by piece.

use super::super::Ranges;
use crate::units::{ByteCount, GuestOffset};
use std::ops::Range;

/// Bytes that are held in memory at a time.
const PIECE_MAX: ByteCount = ByteCount::mib(1);

/// A zero cluster costs its entry in a table; this is what it counts for in the budget of a step.
const ENTRY: ByteCount = ByteCount::new(8);

/// The rest of a list.
#[derive(Debug)]
pub(super) struct Todo {
    grid: ByteCount,
    begun: Option<Range<GuestOffset>>,
    runs: std::vec::IntoIter<Range<GuestOffset>>,
}

impl Todo {
    /// A list that is cut at multiples of `grid` only.
    pub(super) fn new(list: Ranges, grid: ByteCount) -> Self {
        let mut runs = list.into_iter();
        Self { grid, begun: runs.next(), runs }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.begun.is_none()
    }

    /// The next piece: about `length` bytes at most, and one cell of the grid at least.
    fn next(&self, length: ByteCount) -> Option<Range<GuestOffset>> {
        let run = self.begun.as_ref()?;
        let grid = self.grid.as_u64();
        let cell_end = (run.start.as_u64() / grid + 1) * grid;
        let wanted_end = run.start.as_u64().saturating_add(length.as_u64()) / grid * grid;
        let end = GuestOffset::new(cell_end.max(wanted_end)).min(run.end);
        Some(run.start..end)
    }

    /// The next piece that is changed in the tables only, and what that counts for in a budget of `length`.
    pub(super) fn next_entries(&self, length: ByteCount) -> Option<(Range<GuestOffset>, ByteCount)> {
        let grid = self.grid.as_u64();
        let clusters = length.as_u64() / ENTRY.as_u64();
        let piece = self.next(ByteCount::new(clusters.saturating_mul(grid)))?;
        let cost = (piece.end - piece.start).as_u64().div_ceil(grid) * ENTRY.as_u64();
        Some((piece, ByteCount::new(cost)))
    }

    /// The next piece whose bytes are held in memory, which is what it counts for.
    pub(super) fn next_bytes(&self, length: ByteCount) -> Option<(Range<GuestOffset>, ByteCount)> {
        let piece = self.next(length.min(PIECE_MAX))?;
        let cost = piece.end - piece.start;
        Some((piece, cost))
    }

    /// Leaves out everything before `from`, however much of the list that is.
    pub(super) fn skip_to(&mut self, from: GuestOffset) {
        while self.begun.as_ref().is_some_and(|run| run.end <= from) {
            self.begun = self.runs.next();
        }
        if let Some(run) = &mut self.begun {
            run.start = run.start.max(from);
        }
    }

    /// Where the rest begins.
    pub(super) fn position(&self) -> Option<GuestOffset> {
        self.begun.as_ref().map(|run| run.start)
    }

    /// Notes that everything up to `end` is done.
    pub(super) fn done_to(&mut self, end: GuestOffset) {
        if let Some(run) = &mut self.begun {
            run.start = end;
            if run.is_empty() {
                self.begun = self.runs.next();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_at_the_grid_and_follow_each_other() {
        let at = GuestOffset::new;
        let list: Ranges = [at(3)..at(25), at(40)..at(41)].into_iter().collect();
        for (length, expected) in [
            (0, vec![3..8, 8..16, 16..24, 24..25, 40..41]),
            (9, vec![3..8, 8..16, 16..24, 24..25, 40..41]),
            (16, vec![3..16, 16..25, 40..41]),
            (u64::MAX, vec![3..25, 40..41]),
        ] {
            let mut todo = Todo::new(list.clone(), ByteCount::new(8));
            let mut pieces = Vec::new();
            while let Some(piece) = todo.next(ByteCount::new(length)) {
                pieces.push(piece.start.as_u64()..piece.end.as_u64());
                todo.done_to(piece.end);
            }
            assert_eq!(pieces, expected, "{length} bytes at a time");
            assert!(todo.is_empty());
        }
    }

    #[test]
    fn bytes_are_held_in_memory_by_the_megabyte_and_entries_are_cheap() {
        let grid = ByteCount::kib(64);
        let todo = Todo::new(Ranges::whole(ByteCount::gib(4)), grid);
        let length = |(piece, cost): (Range<GuestOffset>, ByteCount)| (piece.end - piece.start, cost);
        let budget = ByteCount::mib(64);
        assert_eq!(todo.next_bytes(budget).map(length), Some((ByteCount::mib(1), ByteCount::mib(1))));
        let entries = todo.next_entries(budget).map(length);
        assert_eq!(entries, Some((ByteCount::gib(4), ByteCount::kib(512))), "65,536 entries of 8 bytes");
        assert_eq!(todo.next_entries(ByteCount::ZERO).map(length), Some((grid, ByteCount::new(8))));
    }
}
