//! Bytes with holes: a length, and the pages that hold anything but zeros.
//!
//! A page is 4 KiB, as in the page cache and in the block map of the usual file systems: a tiny image of 512-byte
//! clusters holds a handful of them, what a punch gives back is what it gives back on disk, and the table costs
//! one part in a hundred. Larger pages would copy faster in bulk but cost a small image several times its size.
//!
//! * **I1** A page that is not held is all zeros. A page that became all zeros by a punch, by a shorter length
//!   or by zeros written over it is not held.
//! * **I2** Every byte at or past `length` is zero, in the last page too. So a new length never shows old bytes.
//! * **I3** Pages are shared with clones and copied when written: a clone costs one pointer per page. So are the
//!   whole pages that [`Sparse::put`] lays a whole number of pages away from where [`Sparse::take`] found them.

use super::digest::{Digest, halves};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The bytes of a page.
pub(super) const PAGE: usize = 4096;
/// The same as a distance.
const PAGE_U64: u64 = PAGE as u64;

/// A page of which nothing is held.
static ZEROS: [u8; PAGE] = [0; PAGE];

/// The pages that one search passes over at most: a mebibyte.
const RUN: usize = 256;

/// The longest length: what file systems take at most, so that memory refuses what a disk would.
pub(super) const LENGTH_MAX: u64 = i64::MAX as u64;

/// Bytes with holes.
#[derive(Clone, Default)]
pub(super) struct Sparse {
    /// The length in bytes, at most [`LENGTH_MAX`].
    length: u64,
    /// How often the bytes were changed.
    changes: u64,
    /// The pages that are held, by number.
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
}

/// The numbers of the pages that are held, each with the number of its bytes. In order.
pub(super) type PageDigests = Vec<(u64, u128)>;

/// A range taken out of some bytes: the pages that are held in it, shared.
pub(super) struct Taken {
    /// Where the range began in what it was taken from.
    start: u64,
    /// The held pages that the range touches, each with the part of it that lies in the range. In order.
    pages: Vec<(u64, Range<usize>, Arc<[u8; PAGE]>)>,
}

/// The part of a range that lies in one page.
struct Piece {
    /// The number of the page.
    page: u64,
    /// Where in the page.
    within: Range<usize>,
    /// Where in the caller's buffer.
    buffer: Range<usize>,
}

impl Sparse {
    /// How often the bytes were changed; a copy goes on from there.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// The length in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The bytes that the held pages take.
    pub(super) fn allocated(&self) -> u64 {
        self.pages.len() as u64 * PAGE_U64
    }

    /// Where each held page is in memory: two that are one have one address.
    pub(super) fn page_addresses(&self) -> impl Iterator<Item = usize> {
        self.pages.values().map(|page| Arc::as_ptr(page).addr())
    }

    /// Fills `buffer` from `at` on; the caller has checked that the range lies within the length.
    pub(super) fn read(&self, at: u64, buffer: &mut [u8]) {
        let first = at / PAGE_U64;
        let mut held = self.pages.range(first..).peekable();
        for piece in pieces(at, buffer.len()) {
            let target = &mut buffer[piece.buffer];
            match held.next_if(|(page, _)| **page == piece.page) {
                Some((_, page)) => target.copy_from_slice(&page[piece.within]),
                None => target.fill(0),
            }
        }
    }

    /// Writes `bytes`, not empty, from `at` on and lengthens; the caller has checked the end against [`LENGTH_MAX`].
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) {
        self.changes += 1;
        for piece in pieces(at, bytes.len()) {
            let source = &bytes[piece.buffer];
            if *source == ZEROS[..source.len()] {
                self.zero(piece.page, piece.within);
            } else {
                let page = self.pages.entry(piece.page).or_insert_with(|| Arc::new([0; PAGE]));
                Arc::make_mut(page)[piece.within].copy_from_slice(source);
            }
        }
        self.length = self.length.max(at + bytes.len() as u64);
    }

    /// Sets the length, at most [`LENGTH_MAX`].
    pub(super) fn set_length(&mut self, length: u64) {
        self.changes += 1;
        if length < self.length {
            drop(self.pages.split_off(&length.div_ceil(PAGE_U64)));
            self.zero(length / PAGE_U64, offset_in_page(length)..PAGE);
        }
        self.length = length;
    }

    /// Makes a range zero and lets go of its pages. Costs what is held in the range, not its length.
    pub(super) fn punch(&mut self, range: Range<u64>) {
        self.changes += 1;
        let Range { start, end } = range.start..range.end.min(self.length);
        if end <= start {
            return;
        }
        let (first, last) = (start / PAGE_U64, end / PAGE_U64);
        if first == last {
            self.zero(first, offset_in_page(start)..offset_in_page(end));
            return;
        }
        self.zero(first, offset_in_page(start)..PAGE);
        let whole: Vec<u64> = self.pages.range(first + 1..last).map(|(page, _)| *page).collect();
        for page in whole {
            self.pages.remove(&page);
        }
        self.zero(last, 0..offset_in_page(end));
    }

    /// Takes a range out, for [`Sparse::put`]. Costs what is held in the range, not its length; may reach past the
    /// end.
    pub(super) fn take(&self, start: u64, length: u64) -> Taken {
        let end = start.saturating_add(length).min(self.length);
        if end <= start {
            return Taken { start, pages: Vec::new() };
        }
        let held = self.pages.range(start / PAGE_U64..end.div_ceil(PAGE_U64));
        let pages = held.map(|(page, bytes)| {
            let begins = page * PAGE_U64;
            let first = if begins < start { offset_in_page(start) } else { 0 };
            // Past the end there are only zeros (I2), so the last page counts as whole when all of it is wanted.
            let wanted = start.saturating_add(length);
            let last = if wanted - begins < PAGE_U64 { offset_in_page(wanted) } else { PAGE };
            (*page, first..last, Arc::clone(bytes))
        });
        Taken { start, pages: pages.collect() }
    }

    /// Makes `range` hold what was taken out, and zeros elsewhere; lengthens to its end, which the caller has
    /// checked against [`LENGTH_MAX`]. The range is as long as what was taken.
    pub(super) fn put(&mut self, range: Range<u64>, taken: Taken) {
        self.punch(range.clone());
        for (page, within, bytes) in taken.pages {
            let found = page * PAGE_U64 + within.start as u64;
            let at = range.start + (found - taken.start);
            if within == (0..PAGE) && offset_in_page(at) == 0 {
                self.pages.insert(at / PAGE_U64, bytes);
            } else {
                self.write(at, &bytes[within]);
            }
        }
        self.length = self.length.max(range.end);
    }

    /// The first bytes at or after `from` that lie in held pages; at most [`RUN`] pages, so that the answer costs
    /// little however many follow.
    pub(super) fn next_held(&self, from: u64) -> Option<Range<u64>> {
        let mut held = self.pages.range(from / PAGE_U64..).take(RUN).map(|(page, _)| *page);
        let first = held.next()?;
        let last = held.zip(first + 1..).take_while(|(page, next)| page == next).last();
        let after = last.map_or(first, |(page, _)| page) + 1;
        let found = from.max(first * PAGE_U64)..self.length.min(after * PAGE_U64);
        (found.start < found.end).then_some(found)
    }

    /// The number of each held page, which says where it is, too.
    pub(super) fn page_digests(&self) -> PageDigests {
        self.page_digests_beside(&Self::default(), &[])
    }

    /// As [`Sparse::page_digests`]. The pages that are shared with `other` are not looked at: `known` are its numbers.
    pub(super) fn page_digests_beside(&self, other: &Self, known: &[(u64, u128)]) -> PageDigests {
        let mut others = other.pages.iter().zip(known).peekable();
        let numbered = self.pages.iter().map(|(page, bytes)| {
            while others.next_if(|((other, _), _)| *other < page).is_some() {}
            let shared = others.next_if(|((other, held), _)| *other == page && Arc::ptr_eq(held, bytes));
            shared.map_or_else(|| (*page, page_digest(*page, bytes)), |(_, known)| *known)
        });
        numbered.collect()
    }

    /// A number that differs, but for one chance in 2^128, from that of any other bytes, from the numbers of the pages. I1
    /// and I2 make it one of the bytes alone.
    pub(super) fn digest_of_pages(&self, pages: &[(u64, u128)]) -> u128 {
        let sum = pages.iter().fold(0_u128, |sum, (_, of_page)| sum.wrapping_add(*of_page));
        let mut digest = Digest::default();
        digest.number(self.length);
        halves(sum).into_iter().for_each(|half| digest.number(half));
        digest.value()
    }

    /// Makes a part of one page zero, and drops the page when nothing else is in it.
    fn zero(&mut self, page: u64, within: Range<usize>) {
        if within.is_empty() {
            return;
        }
        let Some(held) = self.pages.get_mut(&page) else { return };
        let (before, after) = (&held[..within.start], &held[within.end..]);
        let rest_is_zero = *before == ZEROS[..before.len()] && *after == ZEROS[..after.len()];
        if rest_is_zero {
            self.pages.remove(&page);
        } else {
            Arc::make_mut(held)[within].fill(0);
        }
    }
}

impl fmt::Debug for Sparse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sparse").field("length", &self.length).field("pages", &self.pages.len()).finish()
    }
}

/// A number of a page and where it is.
fn page_digest(page: u64, bytes: &[u8; PAGE]) -> u128 {
    let mut digest = Digest::default();
    digest.number(page);
    digest.bytes(bytes);
    digest.value()
}

/// Cuts the `length` bytes from `at` on into the parts that lie in one page each.
fn pieces(at: u64, length: usize) -> impl Iterator<Item = Piece> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let here = at + done as u64;
        let start = offset_in_page(here);
        let count = (PAGE - start).min(length - done);
        let piece = Piece { page: here / PAGE_U64, within: start..start + count, buffer: done..done + count };
        done += count;
        Some(piece)
    })
}

/// How far into its page a byte lies.
fn offset_in_page(at: u64) -> usize {
    usize::try_from(at % PAGE_U64).expect("a remainder of 4096 fits any address")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every operation against a plain vector, at every edge of a page.
    #[test]
    fn holes_read_as_a_plain_vector_would() {
        const END: usize = 3 * PAGE + 17;
        let edges = [0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 2 * PAGE + 5, 3 * PAGE, END];
        for start in edges {
            for end in edges.into_iter().filter(|end| *end >= start) {
                for step in 0..3 {
                    let mut plain: Vec<u8> = (1..=251).cycle().take(END).collect();
                    let mut sparse = Sparse::default();
                    sparse.write(0, &plain);
                    match step {
                        0 => {
                            sparse.punch(start as u64..end as u64);
                            plain[start..end].fill(0);
                        }
                        1 => {
                            if start < end {
                                sparse.write(start as u64, &vec![0; end - start]);
                            }
                            plain[start..end].fill(0);
                        }
                        _ => {
                            sparse.set_length(start as u64);
                            sparse.set_length(end as u64);
                            plain.truncate(start);
                            plain.resize(end, 0);
                        }
                    }
                    let mut read = vec![0xEE; plain.len()];
                    sparse.read(0, &mut read);
                    assert_eq!(sparse.length(), plain.len() as u64, "step {step}, {start}..{end}");
                    assert!(read == plain, "step {step}, {start}..{end}");
                    let held = plain.chunks(PAGE).filter(|page| page.iter().any(|byte| *byte != 0)).count();
                    assert_eq!(sparse.pages.len(), held, "I1: step {step}, {start}..{end}");
                }
            }
        }
    }

    #[test]
    fn whole_pages_at_whole_distances_are_shared_and_parts_are_copied() {
        let mut one = Sparse::default();
        one.write(0, &[7; 3 * PAGE + 100]);
        one.punch(PAGE_U64..2 * PAGE_U64);

        let mut other = Sparse::default();
        other.write(0, &[9; 10 * PAGE]);
        other.put(5 * PAGE_U64..9 * PAGE_U64, one.take(0, 4 * PAGE_U64));
        for (from, at) in [(0, 5), (2, 7), (3, 8)] {
            assert!(Arc::ptr_eq(&one.pages[&from], &other.pages[&at]), "page {from}");
        }
        assert_eq!(other.allocated(), 9 * PAGE_U64, "the hole stayed one, each page counts");
        other.write(5 * PAGE_U64, &[1]);
        assert_eq!((one.pages[&0][0], other.pages[&5][0]), (7, 1));

        let mut part = Sparse::default();
        part.put(10..PAGE_U64 + 10, one.take(0, PAGE_U64));
        part.put(4 * PAGE_U64..5 * PAGE_U64 - 1, one.take(0, PAGE_U64 - 1));
        assert_eq!(
            (part.pages[&0][9], part.pages[&0][10], part.pages[&1][9], part.pages[&1][10]),
            (0, 7, 7, 0)
        );
        assert_eq!((part.pages[&4][PAGE - 2], part.pages[&4][PAGE - 1]), (7, 0));
        assert_eq!(part.length(), 5 * PAGE_U64 - 1);
    }

    #[test]
    fn a_search_ends_after_so_many_pages() {
        let mut sparse = Sparse::default();
        sparse.write(0, &vec![1; (RUN + 10) * PAGE]);
        let run = RUN as u64 * PAGE_U64;
        assert_eq!(sparse.next_held(5), Some(5..run));
        assert_eq!(sparse.next_held(run), Some(run..run + 10 * PAGE_U64));
    }

    #[test]
    fn a_clone_shares_pages_until_one_side_writes() {
        let mut one = Sparse::default();
        one.write(0, &[7; 2 * PAGE]);
        let mut other = one.clone();
        other.write(0, &[8]);
        assert!(!Arc::ptr_eq(&one.pages[&0], &other.pages[&0]));
        assert!(Arc::ptr_eq(&one.pages[&1], &other.pages[&1]));
        assert_eq!(one.pages[&0][0], 7);
    }
}
