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
    /// The bytes to be written from `at` on; `None` when they are there.
    fn fill(self, at: GuestOffset, length: ByteCount) -> Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; length.as_usize()];
        match self {
            Self::Stored => return Ok(None),
            Self::Zeros => {}
            Self::Below(below) => below.read_below(at, &mut bytes)?,
        }
        Ok(Some(bytes))
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
            state.size,
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
                state.size,
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
        let before = around(there.of(self.geometry.subcluster_index(at))).fill(first, head)?;
        let shown = GuestOffset::end_of(size).checked_since(end).unwrap_or_default().min(tail);
        let mut after = around(there.of(last)).fill(end, shown)?;
        if let Some(after) = &mut after {
            after.resize(tail.as_usize(), 0);
        }
        if before.as_ref().is_none_or(Vec::is_empty) && after.as_ref().is_none_or(Vec::is_empty) {
            return Ok((inside, Cow::Borrowed(piece)));
        }
        let before = before.unwrap_or_default();
        let begin = inside - ByteCount::of(before.len());
        Ok((begin, Cow::Owned([&before, piece, &after.unwrap_or_default()].concat())))
    }
}
