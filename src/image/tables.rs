//! The L2 tables of one image that are held in memory.
//!
//! * A table is *fresh* when no L1 entry on disk names it yet: it may be written at any time.
//! * A table is *dirty* when it holds entries that its place on disk lacks. It stays until it was written.
//! * Only a clean table is ever dropped, the least recently used one first.

use crate::format::Geometry;
use crate::units::{ByteCount, HostOffset};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// One L2 table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) at: HostOffset,
    /// The table as it is stored: one word for each entry, or two.
    words: Box<[u64]>,
    words_per_entry: usize,
    /// The entries that differ from those on disk: all of them lie in this range.
    dirty: Option<Range<usize>>,
    fresh: bool,
    /// When it was used last, by the clock of the tables.
    used: AtomicU64,
}

impl Table {
    /// An entry: its descriptor, and the bitmap behind it, zero where entries have none.
    pub(super) fn entry(&self, index: usize) -> (u64, u64) {
        match self.words_per_entry {
            1 => (self.words[index], 0),
            _ => (self.words[2 * index], self.words[2 * index + 1]),
        }
    }

    /// Changes one entry.
    pub(super) fn set(&mut self, index: usize, (descriptor, bitmap): (u64, u64)) {
        match self.words_per_entry {
            1 => self.words[index] = descriptor,
            _ => (self.words[2 * index], self.words[2 * index + 1]) = (descriptor, bitmap),
        }
        self.dirty = Some(match self.dirty.take() {
            None => index..index + 1,
            Some(range) => range.start.min(index)..range.end.max(index + 1),
        });
    }

    /// The entries to write, and where: all of a fresh table, the dirty ones of another.
    pub(super) fn unwritten(&self) -> Option<(HostOffset, Vec<u8>)> {
        let width = self.words_per_entry;
        let words = match self.fresh {
            true => 0..self.words.len(),
            false => self.dirty.clone().map(|entries| entries.start * width..entries.end * width)?,
        };
        let at = self.at + ByteCount::of(words.start * 8);
        let bytes = self.words[words].iter().flat_map(|word| word.to_be_bytes()).collect();
        Some((at, bytes))
    }

    /// Gives the table another place, where no L1 entry on disk has it yet.
    pub(super) fn move_to(&mut self, at: HostOffset) {
        self.at = at;
        self.fresh = true;
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.fresh
    }

    fn is_clean(&self) -> bool {
        !self.fresh && self.dirty.is_none()
    }

    pub(super) fn mark_written(&mut self) {
        self.dirty = None;
        self.fresh = false;
    }
}

/// The tables in memory, by their index in the L1 table.
#[derive(Debug)]
pub(super) struct Tables {
    held: HashMap<usize, Table, BuildHasherDefault<IndexHasher>>,
    /// How many may be held before clean ones are dropped.
    held_max: usize,
    words_per_entry: usize,
    /// Goes on by two when a table is taken in, so that who only reads changes nothing that other threads look at. What is
    /// used between two such moments is not told apart; it was used later than what was only taken in.
    clock: u64,
}

/// Spreads the indices of tables. They come from the guest's addresses, and only as many as are held meet.
#[derive(Debug, Default)]
struct IndexHasher(u64);

impl Hasher for IndexHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        // The odd multiple of the golden ratio: neighbours land far from each other, and the high bits, which the table
        // looks at first, depend on all.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }
}

impl Tables {
    pub(super) fn new(geometry: Geometry, held_max: usize) -> Self {
        let words_per_entry = geometry.l2_entry_size() / 8;
        Self { held: HashMap::default(), held_max: held_max.max(2), words_per_entry, clock: 0 }
    }

    /// A table that is in memory.
    pub(super) fn get(&self, l1_index: usize) -> Option<&Table> {
        let table = self.held.get(&l1_index)?;
        let now = self.clock + 1;
        if table.used.load(Ordering::Relaxed) != now {
            table.used.store(now, Ordering::Relaxed);
        }
        Some(table)
    }

    /// A table that is in memory, to be changed.
    pub(super) fn get_mut(&mut self, l1_index: usize) -> Option<&mut Table> {
        let table = self.held.get_mut(&l1_index)?;
        *table.used.get_mut() = self.clock + 1;
        Some(table)
    }

    /// Takes in a table that was read from disk, as the words that it is stored in.
    pub(super) fn insert_read(&mut self, l1_index: usize, at: HostOffset, words: Box<[u64]>) {
        let words_per_entry = self.words_per_entry;
        self.clock += 2;
        let used = AtomicU64::new(self.clock);
        self.held.insert(l1_index, Table { at, words, words_per_entry, dirty: None, fresh: false, used });
        self.drop_clean(l1_index);
    }

    /// Takes in a new, empty table of so many words.
    pub(super) fn insert_fresh(&mut self, l1_index: usize, at: HostOffset, words: usize) {
        self.insert_read(l1_index, at, vec![0; words].into_boxed_slice());
        self.get_mut(l1_index).expect("just put in").move_to(at);
    }

    /// Drops clean tables, the least recently used first, until the bound is met or only dirty ones are left.
    fn drop_clean(&mut self, keep: usize) {
        while self.held.len() > self.held_max {
            let oldest = self
                .held
                .iter()
                .filter(|(index, table)| **index != keep && table.is_clean())
                .min_by_key(|(_, table)| table.used.load(Ordering::Relaxed))
                .map(|(index, _)| *index);
            let Some(oldest) = oldest else { return };
            self.held.remove(&oldest);
        }
    }

    /// Whether so many tables wait for being written that they should be, flush or no flush.
    pub(super) fn is_overfull(&self) -> bool {
        self.held.len() > self.held_max
    }

    /// The tables that hold entries which the disk lacks, in the order of the guest.
    pub(super) fn unwritten(&mut self) -> Vec<&mut Table> {
        let mut tables: Vec<_> = self.held.iter_mut().filter(|(_, table)| !table.is_clean()).collect();
        tables.sort_by_key(|(index, _)| **index);
        tables.into_iter().map(|(_, table)| table).collect()
    }

    pub(super) fn is_clean(&self) -> bool {
        self.held.values().all(Table::is_clean)
    }

    /// The bytes that the tables take up.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::L2Width;

    fn tables(l2: L2Width) -> Tables {
        Tables::new(Geometry::new(14, 4, l2).expect("lawful"), 2)
    }

    #[test]
    fn a_dirty_table_is_never_dropped_and_the_oldest_clean_one_is() {
        let mut tables = tables(L2Width::Standard);
        tables.insert_fresh(0, HostOffset::new(512), 64);
        tables.insert_read(1, HostOffset::new(1024), vec![0; 64].into());
        tables.insert_read(2, HostOffset::new(1536), vec![0; 64].into());
        assert!(tables.get(0).is_some(), "a fresh table was dropped");
        assert!(tables.get(1).is_none(), "the oldest clean table was kept");
        assert_eq!(tables.held(), 2);
    }

    #[test]
    fn a_table_that_was_used_since_stays_longer_than_one_that_was_not() {
        let mut tables = tables(L2Width::Standard);
        for index in [0, 1] {
            tables.insert_read(index, HostOffset::new(512), vec![0; 64].into());
        }
        assert!(tables.get(0).is_some());
        tables.insert_read(2, HostOffset::new(512), vec![0; 64].into());
        assert!(tables.get(0).is_some() && tables.get(1).is_none());
    }

    #[test]
    fn a_table_writes_only_the_range_that_changed() {
        let mut tables = tables(L2Width::Standard);
        tables.insert_read(0, HostOffset::new(0x200), vec![0; 64].into());
        let table = tables.get_mut(0).expect("just put in");
        table.set(3, (7, 0));
        table.set(5, (9, 0));
        let (at, bytes) = table.unwritten().expect("two entries changed");
        assert_eq!(at, HostOffset::new(0x200 + 24));
        assert_eq!(bytes.len(), 24);
        table.mark_written();
        assert!(table.unwritten().is_none());
    }

    #[test]
    fn a_wide_entry_is_written_with_its_bitmap() {
        let mut tables = tables(L2Width::Extended);
        tables.insert_read(0, HostOffset::new(0x4000), vec![0; 64].into());
        let table = tables.get_mut(0).expect("just put in");
        table.set(3, (7, 8));
        assert_eq!((table.entry(3), table.entry(4)), ((7, 8), (0, 0)));
        let (at, bytes) = table.unwritten().expect("an entry changed");
        assert_eq!(at, HostOffset::new(0x4000 + 48));
        assert_eq!(bytes, [7u64.to_be_bytes(), 8u64.to_be_bytes()].concat());
        table.move_to(HostOffset::new(0x8000));
        let (at, bytes) = table.unwritten().expect("it is nowhere else");
        assert_eq!(
            (at, bytes.len()),
            (HostOffset::new(0x8000), 512),
            "a table that has moved is written whole"
        );
    }
}
