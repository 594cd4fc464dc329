//! Growing: a larger disk, whose new part reads as zeros whatever lies below.

use super::error::{Error, Result};
use super::map::Mapping;
use super::open::{Image, State};
use super::write::Below;
use super::zero::Space;
use crate::units::{ByteCount, ClusterCount, GuestOffset, HostCluster, HostOffset};
use std::sync::atomic::Ordering;

impl Image {
    /// Makes the disk `size` large. What is new reads as zeros, even where a longer backing file has data.
    ///
    /// Durable when it returns.
    ///
    /// # Errors
    ///
    /// [`Error::Shrink`]; those of [`Image::check_size`]; as [`Image::write`] otherwise.
    /// The size is then the old one.
    pub fn grow(&self, size: ByteCount, below: Option<(&dyn Below, ByteCount)>) -> Result<()> {
        let _alone = self.growing.lock();
        self.admit_write(GuestOffset::ZERO, ByteCount::ZERO)?;
        let old = self.size();
        if size < old {
            return Err(Error::Shrink { image: self.name.clone(), size: old, wanted: size });
        }
        self.check_size(size)?;
        self.flush()?;
        let mut state = self.state.write();
        let entries = self.geometry.l1_entries_for(size);
        if entries > state.l1.len() as u64 {
            let moved = self.move_l1(&mut state, entries);
            if moved.is_err() {
                self.failed.store(true, Ordering::Release);
            }
            moved?;
        }
        drop(state);
        self.hide_below(old, size, below)?;
        let mut state = self.state.write();
        self.set_size(&mut state, size);
        state.header.size = size;
        let rewritten = self.rewrite_header(&state).and_then(|()| {
            self.synced.count_write();
            self.synced.sync(&*self.blob)
        });
        if rewritten.is_err() {
            self.set_size(&mut state, old);
            state.header.size = old;
            self.failed.store(true, Ordering::Release);
        }
        rewritten
    }

    /// Refuses a size that the image cannot have: see [`Image::size_max`].
    ///
    /// # Errors
    ///
    /// [`Error::Format`] when the L1 table would pass 32 MiB; [`Error::Fixed`] when bitmaps or internal snapshots
    /// keep the disk from growing so far.
    pub fn check_size(&self, size: ByteCount) -> Result<()> {
        self.geometry.check_size(size).map_err(|source| self.malformed(source))?;
        let size_max = self.size_max()?;
        if size > size_max {
            return Err(Error::Fixed { image: self.name.clone(), size_max, wanted: size });
        }
        Ok(())
    }

    /// Writes a larger L1 table elsewhere, lets the header name it, and gives the old one back.
    fn move_l1(&self, state: &mut State, entries: u64) -> Result<()> {
        let clusters = self.geometry.clusters_for(ByteCount::new(entries * 8));
        let start = self.allocate_exactly(state, clusters)?;
        let at = self.geometry.host_offset(start);
        let old_at = state.header.l1_table;
        let old_bytes = ByteCount::of(state.l1.len() * 8);
        let entries = usize::try_from(entries).expect("check_size bounds the L1 table");
        let mut l1 = state.l1.clone();
        l1.resize(entries, 0);
        // Whole clusters: what was there before, in a cluster that is used again, must not be read as entries.
        let mut bytes: Vec<u8> = l1.iter().flat_map(|raw| raw.to_be_bytes()).collect();
        bytes.resize(self.geometry.bytes_for(clusters).as_usize(), 0);
        self.put(state, at, &bytes)?;
        // Its content and its refcounts before the header that refers to it.
        self.flush_state(state)?;
        state.l1 = l1;
        state.header.l1_table = at;
        state.header.l1_entries = u32::try_from(entries).expect("check_size bounds the L1 table");
        self.rewrite_header(state)?;
        self.blob.sync()?;
        let old = (self.geometry.host_cluster(old_at), self.geometry.clusters_for(old_bytes));
        if !old_bytes.is_zero() && old_at != HostOffset::ZERO {
            state.freed.push(old);
        }
        self.flush_state(state)
    }

    /// Takes exactly `wanted` clusters side by side.
    fn allocate_exactly(&self, state: &mut State, wanted: ClusterCount) -> Result<HostCluster> {
        loop {
            if let Some(start) = state.refcounts.allocate_exactly(&*self.blob, state.end, wanted)? {
                return Ok(start);
            }
            self.grow_refcount_table(state)?;
        }
    }

    /// Zeroes what would show in the new part: the rest of the last cluster, what a longer layer below has, and what
    /// tables have past the end of the disk (the state of a machine lies there, when an internal snapshot with one was
    /// gone back to).
    fn hide_below(
        &self,
        old: ByteCount,
        size: ByteCount,
        below: Option<(&dyn Below, ByteCount)>,
    ) -> Result<()> {
        let start = GuestOffset::end_of(old);
        let cluster_end = self.geometry.bytes_for(self.geometry.clusters_for(old));
        let below_end = below.map_or(ByteCount::ZERO, |(_, size)| size);
        let end = cluster_end.max(below_end).max(self.tables_end(start)?).min(size);
        if end <= old {
            return Ok(());
        }
        // The tables reach as far already, the size in the header does not: a crash shows nothing of it.
        self.set_size(&mut self.state.write(), size);
        let zeroed = self
            .zero(start, end - old, Space::Free, below.map(|(below, _)| below))
            .and_then(|()| self.flush());
        if zeroed.is_err() {
            self.set_size(&mut self.state.write(), old);
        }
        zeroed
    }

    /// Where the last thing ends that the tables have past `end`, the end of the disk.
    fn tables_end(&self, end: GuestOffset) -> Result<ByteCount> {
        let coverage = self.geometry.l2_coverage();
        let mut last = ByteCount::ZERO;
        let mut at = end;
        while let Some(index) = self.next_table(self.geometry.l1_index(self.geometry.guest_cluster(at))) {
            let first = GuestOffset::new(coverage.as_u64() * index as u64);
            at = at.max(first);
            let state = self.state_for(at)?;
            while at < first + coverage {
                let run = self.run(&state, at, first + coverage - at)?;
                at += run.length;
                if run.mapping != Mapping::Absent {
                    last = at.as_size();
                }
            }
        }
        Ok(last)
    }
}
