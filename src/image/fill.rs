//! Filling: what a write puts into a host cluster, around the caller's bytes and in front of any reference to it.

use super::error::Result;
use super::open::{Image, State};
use super::write::Below;
use crate::format::{Subcluster, Subclusters};
use crate::storage::read_zero_extended;
use crate::units::{ByteCount, ClusterCount, GuestOffset, HostOffset};
use std::borrow::Cow;

/// What is around the caller's bytes in the subclusters at their ends.
enum Around<'a> {
    /// What is in the file already.
    Stored,
    Zeros,
    Below(&'a dyn Below),
}

impl Around<'_> {
    /// How much of `length` bytes is to be written.
    fn written(&self, length: ByteCount) -> usize {
        if let Self::Stored = self { 0 } else { length.as_usize() }
    }

    /// Fills zeroed bytes with what is there from `at` on.
    fn fill(self, at: GuestOffset, bytes: &mut [u8]) -> Result<()> {
        match self {
            Self::Below(below) if !bytes.is_empty() => below.read_below(at, bytes),
            _ => Ok(()),
        }
    }
}

impl Image {
    /// Writes `piece` into the host cluster at `host`, and around it what fills the subclusters at both ends.
    pub(super) fn put_piece(
        &self,
        state: &mut State,
        at: GuestOffset,
        piece: &[u8],
        host: HostOffset,
        there: Subclusters,
        below: Option<&dyn Below>,
    ) -> Result<()> {
        let is_fresh = host >= state.end;
        let (begin, bytes) = self.filled_up(
            self.size(),
            at,
            piece,
            |kind| match kind {
                Subcluster::Allocated => Around::Stored,
                // Past the end of the file everything reads as zeros: no need to write them.
                Subcluster::Zero if is_fresh => Around::Stored,
                Subcluster::Zero => Around::Zeros,
                Subcluster::Absent => match below {
                    Some(below) => Around::Below(below),
                    None if is_fresh => Around::Stored,
                    None => Around::Zeros,
                },
            },
            there,
        )?;
        self.put(state, host + begin, &bytes)
    }

    /// Copies what is stored of a cluster that others have, too, into a new one, with `piece` and what fills its
    /// subclusters written over it. `piece` may be empty.
    pub(super) fn copy_shared(
        &self,
        state: &mut State,
        at: GuestOffset,
        piece: &[u8],
        there: Subclusters,
        below: Option<&dyn Below>,
    ) -> Result<()> {
        let shared = there.at.expect("what is shared is there");
        let size = self.geometry.cluster_size();
        let mut bytes = vec![0; size.as_usize()];
        if piece.len() < bytes.len() {
            self.data_at(state, shared, ByteCount::ZERO)?;
            read_zero_extended(&*self.blob, state.end.as_length(), shared, &mut bytes)?;
            let (begin, filled) = self.filled_up(
                self.size(),
                at,
                piece,
                |kind| match (kind, below) {
                    (Subcluster::Allocated, _) => Around::Stored,
                    (Subcluster::Absent, Some(below)) => Around::Below(below),
                    _ => Around::Zeros,
                },
                there,
            )?;
            bytes[begin.as_usize()..begin.as_usize() + filled.len()].copy_from_slice(&filled);
        } else {
            bytes.copy_from_slice(piece);
        }
        self.put_new_cluster(
            state,
            at,
            &bytes,
            there,
            self.geometry.subclusters_touched(at, ByteCount::of(piece.len())),
        )?;
        self.free_later(state, shared);
        Ok(())
    }

    /// Writes a whole cluster into a new one. Of its subclusters those count that `there` had stored, and `new` ones.
    pub(super) fn put_new_cluster(
        &self,
        state: &mut State,
        at: GuestOffset,
        bytes: &[u8],
        there: Subclusters,
        new: u32,
    ) -> Result<()> {
        let (start, count) = self.allocate(state, ClusterCount::new(1))?;
        let host = self.geometry.host_offset(start);
        if let Err(error) = self.put(state, host, bytes) {
            // Nothing refers to it: it can be given back at once.
            state.refcounts.release(&*self.blob, state.end, start, count)?;
            return Err(error);
        }
        self.set_cluster(state, self.geometry.guest_cluster(at), there.stored(host, new));
        Ok(())
    }

    /// `piece` and what fills the subclusters at its ends; where in the cluster that begins.
    fn filled_up<'a>(
        &self,
        size: ByteCount,
        at: GuestOffset,
        piece: &'a [u8],
        around: impl Fn(Subcluster) -> Around<'a>,
        there: Subclusters,
    ) -> Result<(ByteCount, Cow<'a, [u8]>)> {
        let inside = self.geometry.offset_in_cluster(at);
        if piece.is_empty() {
            return Ok((inside, Cow::Borrowed(piece)));
        }
        let unit = self.geometry.subcluster_size();
        let end = at + ByteCount::of(piece.len());
        let head = self.geometry.offset_in_subcluster(at);
        let tail = match self.geometry.offset_in_subcluster(end) {
            cut if cut.is_zero() => ByteCount::ZERO,
            cut => unit - cut,
        };
        let first = self.geometry.guest_offset(self.geometry.guest_cluster(at)) + (inside - head);
        let last = self.geometry.subcluster_index(at + ByteCount::of(piece.len() - 1));
        let shown = GuestOffset::end_of(size).checked_since(end).unwrap_or_default().min(tail);
        let before = around(there.of(self.geometry.subcluster_index(at)));
        let after = around(there.of(last));
        let (begin, more) = (before.written(head), after.written(tail));
        if begin == 0 && more == 0 {
            return Ok((inside, Cow::Borrowed(piece)));
        }
        // One buffer: what is around is read to where it is written from.
        let mut bytes = vec![0; begin + piece.len() + more];
        let (lower, rest) = bytes.split_at_mut(begin);
        let (middle, upper) = rest.split_at_mut(piece.len());
        before.fill(first, lower)?;
        middle.copy_from_slice(piece);
        let shown = shown.as_usize().min(upper.len());
        after.fill(end, &mut upper[..shown])?;
        Ok((inside - ByteCount::of(begin), Cow::Owned(bytes)))
    }
}
