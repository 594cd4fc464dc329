//! The bytes of one blob into another one, stretch by stretch (promise B7).
//!
//! What holds data is copied, what is a hole is punched, so a hole stays one where the target can hold any. How
//! the data gets across is the caller's: through a buffer here, inside of the kernel on disk.

use super::{Blob, Result};
use crate::units::{ByteCount, HostOffset};
use std::ops::Range;

/// What is read and written at a time. A copy of no more than this is not searched for holes: on a large file
/// without any, the search for the next one takes longer than the copy.
const BUFFER: ByteCount = ByteCount::mib(1);
/// The furthest end that a blob may have: what file systems take at most.
const END_MAX: u64 = i64::MAX as u64;

/// What is looked for in the source.
#[derive(Clone, Copy)]
enum Search {
    /// Every hole.
    Holes,
    /// Only where it ends.
    End,
}

/// Copies a range, one stretch of data after the other: `data(at, from, length)` moves one of them.
pub(super) fn stretch_by_stretch<T: Blob + ?Sized, S: Blob + ?Sized>(
    target: &T,
    at: HostOffset,
    source: &S,
    from: HostOffset,
    length: ByteCount,
    mut data: impl FnMut(HostOffset, HostOffset, ByteCount) -> Result<()>,
) -> Result<()> {
    let end = HostOffset::new(at.as_u64().saturating_add(length.as_u64()));
    if length.is_zero() {
        return target.write_at(at, &[]);
    }
    if end.as_u64() > END_MAX {
        // No blob reaches that far (B3). It says so in its own words, before anything is changed.
        return target.write_at(end, &[0]);
    }
    let search = if length > BUFFER { Search::Holes } else { Search::End };
    let mut done = ByteCount::ZERO;
    let mut ends_in_data = false;
    while done < length {
        let stretch = next_stretch(source, from, done..length, search)?;
        let hole = stretch.start - done;
        if !hole.is_zero() {
            target.punch(at + done, hole)?;
        }
        ends_in_data = stretch.start < stretch.end;
        if ends_in_data {
            data(at + stretch.start, from + stretch.start, stretch.end - stretch.start)?;
        }
        done = stretch.end;
    }
    // Written, not set: a length that is set could cut off what another thread writes further on meanwhile.
    if !ends_in_data && target.length()? < end.as_length() {
        target.write_at(at + (length - ByteCount::new(1)), &[0])?;
    }
    Ok(())
}

/// The first stretch of data in a part of the copy, counted like it from `from` on; empty and at the end of the
/// part when there is none.
fn next_stretch<S: Blob + ?Sized>(
    source: &S,
    from: HostOffset,
    part: Range<ByteCount>,
    search: Search,
) -> Result<Range<ByteCount>> {
    let none = part.end..part.end;
    let Some(here) = from.checked_add(part.start) else { return Ok(none) };
    let found = match search {
        Search::Holes => source.next_data(here)?,
        Search::End => Some(here..HostOffset::new(source.length()?.as_u64())),
    };
    let Some(found) = found.filter(|found| found.start < found.end) else { return Ok(none) };
    let counted = |place: HostOffset| place.as_length().saturating_sub(from.as_length());
    let start = counted(found.start).clamp(part.start, part.end);
    Ok(start..counted(found.end).clamp(start, part.end))
}

/// Copies a range through a buffer: the way between any two blobs.
pub(super) fn plainly<T: Blob + ?Sized, S: Blob + ?Sized>(
    target: &T,
    at: HostOffset,
    source: &S,
    from: HostOffset,
    length: ByteCount,
) -> Result<()> {
    stretch_by_stretch(target, at, source, from, length, |at, from, length| {
        through_a_buffer(target, at, source, from, length)
    })
}

/// Reads and writes a range that lies within the source, a bounded piece at a time.
pub(super) fn through_a_buffer<T: Blob + ?Sized, S: Blob + ?Sized>(
    target: &T,
    at: HostOffset,
    source: &S,
    from: HostOffset,
    length: ByteCount,
) -> Result<()> {
    let mut buffer = vec![0; BUFFER.min(length).as_usize()];
    let mut done = ByteCount::ZERO;
    while done < length {
        let count = BUFFER.min(length - done);
        let bytes = &mut buffer[..count.as_usize()];
        source.read_at(from + done, bytes)?;
        target.write_at(at + done, bytes)?;
        done += count;
    }
    Ok(())
}
