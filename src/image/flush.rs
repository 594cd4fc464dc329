//! Flush: the one place where the order of an image's durable writes is kept.
//!
//! | phase | written | then |
//! |---|---|---|
//! | A | guest data (already), raised refcounts, fresh refcount blocks, fresh L2 tables | sync |
//! | B | refcount table entries of fresh blocks | sync, only when there are any |
//! | C | entries of L2 tables in use, L1 entries of fresh tables | sync |
//! | D | lowered refcounts of freed clusters, holes punched where nothing is left | - |
//!
//! After A nothing refers to anything new (M2). After C everything does, and nothing refers to what was freed,
//! so D may run, and its clusters may be used again (M3). Whatever phase a crash falls into, refcounts are too
//! high at most (M1). A flush without new clusters is one sync; with them it is two, and rarely three.

use super::error::{Error, Result};
use super::open::{Image, State};
use crate::units::{ByteCount, HostOffset};
use std::sync::atomic::Ordering;

impl Image {
    /// Makes every write that returned before this call durable.
    ///
    /// # Errors
    ///
    /// [`Error::Storage`]. When a sync failed, what is durable is unknown until the image is opened again; the
    /// bytes on disk are still a lawful image. [`Error::Failed`] when an earlier step left the tables in memory
    /// and those on disk apart.
    pub fn flush(&self) -> Result<()> {
        let clean = self.state.read().is_clean();
        if clean {
            return self.synced.sync(&*self.blob);
        }
        self.flush_state(&mut self.state.write())
    }

    pub(super) fn flush_state(&self, state: &mut State) -> Result<()> {
        // The tables in memory may refer to clusters that the tables on disk can not count (M1).
        self.refuse_when_failed()?;
        self.write_new_metadata(state)?;
        self.link_refcount_blocks(state)?;
        self.write_references(state)?;
        self.release_freed(state)?;
        state.refcounts.drop_clean();
        Ok(())
    }

    /// Phase A.
    fn write_new_metadata(&self, state: &mut State) -> Result<()> {
        let mut wrote = state.refcounts.write_blocks(&*self.blob)?;
        let mut end = state.end;
        for table in state.tables.unwritten() {
            if let (true, Some((at, bytes))) = (table.is_fresh(), table.unwritten()) {
                self.blob.write_at(at, &bytes)?;
                end = end.max(at + ByteCount::of(bytes.len()));
                wrote = true;
            }
        }
        state.end = end.max(HostOffset::end_of(self.blob.length()?));
        if wrote {
            self.synced.count_write();
        }
        self.synced.sync(&*self.blob)?;
        state.refcounts.mark_blocks_written();
        Ok(())
    }

    /// Phase B.
    fn link_refcount_blocks(&self, state: &mut State) -> Result<()> {
        if state.refcounts.write_table(&*self.blob)? {
            self.blob.sync()?;
        }
        state.refcounts.mark_table_written();
        Ok(())
    }

    /// Phase C.
    fn write_references(&self, state: &mut State) -> Result<()> {
        let mut wrote = false;
        for table in state.tables.unwritten() {
            if let (false, Some((at, bytes))) = (table.is_fresh(), table.unwritten()) {
                self.blob.write_at(at, &bytes)?;
                wrote = true;
            }
        }
        for index in &state.l1_unwritten {
            let at = state.header.l1_table + ByteCount::of(index * 8);
            self.blob.write_at(at, &state.l1[*index].to_be_bytes())?;
            wrote = true;
        }
        if wrote {
            self.blob.sync()?;
        }
        state.l1_unwritten.clear();
        for table in state.tables.unwritten() {
            table.mark_written();
        }
        Ok(())
    }

    /// Phase D.
    fn release_freed(&self, state: &mut State) -> Result<()> {
        if state.freed.is_empty() {
            return Ok(());
        }
        for (start, count) in std::mem::take(&mut state.freed) {
            for (start, count) in state.refcounts.release(&*self.blob, state.end, start, count)? {
                let (at, length) = (self.geometry.host_offset(start), self.geometry.bytes_for(count));
                // A hole is a favour to the disk: a file system that cannot punch keeps the bytes, and that is all.
                drop(self.blob.punch(at, length));
                // Nothing more is packed into a cluster that anybody may take now.
                state.packed_end.take_if(|packed| (at..at + length).contains(packed));
            }
        }
        if state.refcounts.write_blocks(&*self.blob)? {
            self.synced.count_write();
            state.refcounts.mark_blocks_written();
        }
        Ok(())
    }

    /// Makes a larger refcount table. Rare: each one at least doubles what the last one covered.
    pub(super) fn grow_refcount_table(&self, state: &mut State) -> Result<()> {
        let grown = self.switch_refcount_table(state);
        match &grown {
            // Nothing was begun: what was written before can still be flushed.
            Ok(()) | Err(Error::Full { .. }) => {}
            Err(_) => self.failed.store(true, Ordering::Release),
        }
        grown
    }

    fn switch_refcount_table(&self, state: &mut State) -> Result<()> {
        // The new table must not name a block that the disk lacks.
        state.refcounts.write_blocks(&*self.blob)?;
        self.blob.sync()?;
        let grown = state.refcounts.grow(&*self.blob)?;
        self.blob.sync()?;
        state.end = HostOffset::end_of(self.blob.length()?);
        state.header.refcount_table = grown.at;
        state.header.refcount_table_clusters = grown.clusters;
        self.rewrite_header(state)?;
        self.blob.sync()?;
        state.refcounts.mark_blocks_written();
        state.refcounts.mark_table_written();
        state.refcounts.release(&*self.blob, state.end, grown.old.0, grown.old.1).map(drop)
    }
}

impl State {
    /// Whether the disk has everything that the tables in memory say.
    pub(super) fn is_clean(&self) -> bool {
        self.l1_unwritten.is_empty()
            && self.freed.is_empty()
            && self.tables.is_clean()
            && self.refcounts.is_clean()
    }
}
