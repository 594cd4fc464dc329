//! Writing: in place where the image has the cluster to itself, else into a new one.
//!
//! A new cluster is filled whole before any table refers to it: with the caller's bytes, and around them with
//! what the guest saw there before. Nothing is synced here; `flush` brings it all to the disk in order.

use super::error::{Error, Result};
use super::map::Mapping;
use super::open::{Image, State};
use crate::format::{Copied, L1Entry, L2Entry};
use crate::units::{ByteCount, ClusterCount, GuestCluster, GuestOffset, HostCluster, HostOffset};
use std::sync::atomic::Ordering;

/// New clusters of one go are bounded by this, so that no other request waits for long.
const BATCH_MAX: ByteCount = ByteCount::mib(4);

/// What an image reads through to.
pub trait Below {
    /// Fills the buffer with what the guest sees from `at` on when the image above has nothing there.
    ///
    /// # Errors
    ///
    /// Those of the image or the file that has the bytes.
    fn read_below(&self, at: GuestOffset, buffer: &mut [u8]) -> Result<()>;
}

/// What fills a new cluster around the caller's bytes.
#[derive(Clone, Copy)]
pub(super) enum Around<'a> {
    Zeros,
    /// The cluster as it was.
    Old(&'a [u8]),
    Below(&'a dyn Below),
}

impl Image {
    /// Writes `data` at `at`. `below` is what the image reads through to, `None` when it has no backing file.
    ///
    /// Seen by every later read. Durable after [`Image::flush`].
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`]; [`Error::PastEndOfDisk`]; [`Error::Full`]; [`Error::Unsupported`] for shared clusters;
    /// [`Error::Format`] for compressed ones that do not hold a cluster, unless they are written over as a whole;
    /// what reading below gives; [`Error::Storage`]. Of what was to be written, a part may have been; nothing else
    /// has changed.
    pub fn write(&self, at: GuestOffset, data: &[u8], below: Option<&dyn Below>) -> Result<()> {
        self.admit_write(at, ByteCount::of(data.len()))?;
        let mut done = 0;
        while done < data.len() {
            let here = at + ByteCount::of(done);
            let rest = &data[done..];
            done += match self.write_in_place(here, rest)? {
                0 => self.write_new(here, rest, below)?,
                written => written,
            };
        }
        Ok(())
    }

    /// Writes as much as lies in clusters that the image has to itself; 0 when the first one is not.
    fn write_in_place(&self, at: GuestOffset, data: &[u8]) -> Result<usize> {
        let state = self.state_for(at)?;
        self.refuse_when_frozen()?;
        let run = self.run(&state, at, ByteCount::of(data.len()))?;
        let Mapping::Data { at: host } = run.mapping else { return Ok(0) };
        let length = run.length.as_usize();
        // The last cluster of a file may be cut short; a write past the end moves the end, which needs the lock.
        if host + run.length > state.end || !self.is_own(&state, at, run.length)? {
            return Ok(0);
        }
        let written = self.blob.write_at(host, &data[..length]);
        self.synced.count_write();
        written?;
        Ok(length)
    }

    /// Whether every cluster of a run of data is marked as having one reference.
    fn is_own(&self, state: &State, at: GuestOffset, length: ByteCount) -> Result<bool> {
        let first = self.geometry.guest_cluster(at);
        let count = self.geometry.clusters_for(self.geometry.offset_in_cluster(at) + length);
        for index in 0..count.as_u64() {
            let entry = self.entry(state, first + ClusterCount::new(index))?;
            if !matches!(entry, L2Entry::Data { copied: Copied::Yes, .. }) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes from `at` on into new clusters, as far as one batch goes; answers how many bytes.
    fn write_new(&self, at: GuestOffset, data: &[u8], below: Option<&dyn Below>) -> Result<usize> {
        let mut state = self.state.write();
        self.refuse_when_frozen()?;
        let state = &mut *state;
        let first = self.geometry.guest_cluster(at);
        self.own_table(state, first)?;
        let written = match self.entry(state, first)? {
            L2Entry::Absent => {
                let around = below.map_or(Around::Zeros, Around::Below);
                self.fill_new(state, at, data, around)?
            }
            L2Entry::Zero { allocation: None, .. } => self.fill_new(state, at, data, Around::Zeros)?,
            L2Entry::Zero { allocation: Some(host), copied: Copied::Yes } => {
                let piece = self.within_cluster(at, data);
                self.fill_cluster(state, at, piece, host, Around::Zeros)?;
                self.set_entry(state, first, L2Entry::Data { at: host, copied: Copied::Yes });
                piece.len()
            }
            L2Entry::Data { at: host, copied: Copied::Yes } => {
                // Another thread was here first, or the file ends inside this cluster.
                let piece = self.within_cluster(at, data);
                self.put(state, host + self.geometry.offset_in_cluster(at), piece)?;
                piece.len()
            }
            L2Entry::Compressed(extent) => {
                self.write_over_compressed(state, at, self.within_cluster(at, data), extent)?
            }
            L2Entry::Subclusters(_) => return Err(self.unwritable("has extended L2 entries")),
            L2Entry::Data { .. } | L2Entry::Zero { .. } => {
                return Err(self.unwritable("shares clusters between tables"));
            }
        };
        self.relieve(state)?;
        Ok(written)
    }

    /// Writes into newly allocated clusters, one entry after the other as long as the entries are alike.
    pub(super) fn fill_new(
        &self,
        state: &mut State,
        at: GuestOffset,
        data: &[u8],
        around: Around<'_>,
    ) -> Result<usize> {
        let geometry = self.geometry;
        let first = geometry.guest_cluster(at);
        let inside = geometry.offset_in_cluster(at);
        let alike =
            self.entries_alike(state, first, geometry.clusters_for(inside + ByteCount::of(data.len())))?;
        let batch = alike.min(geometry.clusters_for(BATCH_MAX));
        let (start, count) = self.allocate(state, batch)?;
        let length = (geometry.bytes_for(count) - inside).as_usize().min(data.len());
        let filled = self.fill_run(state, at, &data[..length], geometry.host_offset(start), around);
        if let Err(error) = filled {
            // Nothing refers to these clusters: they can be given back at once.
            state.refcounts.release(&*self.blob, state.end, start, count)?;
            return Err(error);
        }
        for index in 0..count.as_u64() {
            let index = ClusterCount::new(index);
            let entry = L2Entry::Data { at: geometry.host_offset(start + index), copied: Copied::Yes };
            self.set_entry(state, first + index, entry);
        }
        Ok(length)
    }

    /// Fills clusters that lie side by side: the whole ones straight from the caller, the ends with what is around.
    fn fill_run(
        &self,
        state: &mut State,
        at: GuestOffset,
        data: &[u8],
        host: HostOffset,
        around: Around<'_>,
    ) -> Result<()> {
        let size = self.geometry.cluster_size();
        let (mut at, mut host, mut rest) = (at, host, data);
        while !rest.is_empty() {
            let inside = self.geometry.offset_in_cluster(at);
            let whole = if inside.is_zero() { rest.len() / size.as_usize() * size.as_usize() } else { 0 };
            let piece = if whole > 0 { &rest[..whole] } else { self.within_cluster(at, rest) };
            if whole > 0 {
                self.put(state, host, piece)?;
                host += ByteCount::of(whole);
            } else {
                self.fill_cluster(state, at, piece, host, around)?;
                host += size;
            }
            at += ByteCount::of(piece.len());
            rest = &rest[piece.len()..];
        }
        Ok(())
    }

    /// Fills one new cluster at `host` with `piece` and, around it, with what the guest sees there.
    fn fill_cluster(
        &self,
        state: &mut State,
        at: GuestOffset,
        piece: &[u8],
        host: HostOffset,
        around: Around<'_>,
    ) -> Result<()> {
        let inside = self.geometry.offset_in_cluster(at);
        let fresh = host >= state.end;
        if let (Around::Zeros, true) = (around, fresh) {
            // Past the end of the file everything reads as zeros: no need to write them.
            return self.put(state, host + inside, piece);
        }
        let mut cluster = vec![0; self.geometry.cluster_size().as_usize()];
        let start = inside.as_usize();
        if let Around::Old(old) = around {
            cluster.copy_from_slice(old);
        }
        if let Around::Below(below) = around {
            let guest = self.geometry.guest_offset(self.geometry.guest_cluster(at));
            let shown = (GuestOffset::end_of(state.size) - guest).as_usize().min(cluster.len());
            let end = start + piece.len();
            below.read_below(guest, &mut cluster[..start])?;
            if end < shown {
                below.read_below(guest + ByteCount::of(end), &mut cluster[end..shown])?;
            }
        }
        cluster[start..start + piece.len()].copy_from_slice(piece);
        self.put(state, host, &cluster)
    }

    /// Writes bytes into the file and moves its end.
    pub(super) fn put(&self, state: &mut State, host: HostOffset, bytes: &[u8]) -> Result<()> {
        let written = self.blob.write_at(host, bytes);
        self.synced.count_write();
        match written {
            Ok(()) => state.end = state.end.max(host + ByteCount::of(bytes.len())),
            Err(error) => {
                self.find_end(state);
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Asks where the file ends: a write that failed may have lengthened it, by any part of what it wanted. What
    /// lies there is not zeros for sure, and nothing that lies further on can be read.
    fn find_end(&self, state: &mut State) {
        match self.blob.length() {
            Ok(length) => state.end = HostOffset::end_of(length),
            Err(_) => self.failed.store(true, Ordering::Release),
        }
    }

    /// The part of `data` that lies in the cluster of `at`.
    fn within_cluster<'a>(&self, at: GuestOffset, data: &'a [u8]) -> &'a [u8] {
        let left = self.geometry.cluster_size() - self.geometry.offset_in_cluster(at);
        &data[..data.len().min(left.as_usize())]
    }

    /// For how many clusters from `first` on, `wanted` at most, the entries say the same as the first one: absent,
    /// or zero without an allocation. Stays inside one table.
    fn entries_alike(
        &self,
        state: &State,
        first: GuestCluster,
        wanted: ClusterCount,
    ) -> Result<ClusterCount> {
        let left = self.geometry.l2_entries() - self.geometry.l2_index(first) as u64;
        let kind = self.entry(state, first)?;
        let mut count = ClusterCount::new(1);
        while count < wanted && count.as_u64() < left && self.entry(state, first + count)? == kind {
            count += ClusterCount::new(1);
        }
        Ok(count)
    }

    /// The entry of a cluster whose table, if there is one, is in memory.
    pub(super) fn entry(&self, state: &State, cluster: GuestCluster) -> Result<L2Entry> {
        let table = state.tables.get(self.geometry.l1_index(cluster));
        let raw = table.map_or(0, |table| table.entries[self.geometry.l2_index(cluster)]);
        self.decode(state.header.version, raw)
    }

    /// Changes the entry of a cluster whose table is in memory.
    pub(super) fn set_entry(&self, state: &mut State, cluster: GuestCluster, entry: L2Entry) {
        let (raw, _) = entry.encode(self.geometry);
        let index = self.geometry.l2_index(cluster);
        let table = state.tables.get_mut(self.geometry.l1_index(cluster));
        table.expect("own_table came first").set(index, raw);
    }

    /// Brings the table of a cluster into memory, a new one when there is none, to be changed.
    pub(super) fn own_table(&self, state: &mut State, cluster: GuestCluster) -> Result<()> {
        let l1_index = self.geometry.l1_index(cluster);
        self.load_table(state, l1_index)?;
        if state.tables.get(l1_index).is_some() {
            let raw = state.l1[l1_index];
            let entry = L1Entry::decode(raw, self.geometry).map_err(|source| self.malformed(source))?;
            return match entry {
                L1Entry::Table { copied: Copied::Yes, .. } => Ok(()),
                _ => Err(self.unwritable("shares L2 tables between snapshots")),
            };
        }
        let (cluster, _) = self.allocate(state, ClusterCount::new(1))?;
        let at = self.geometry.host_offset(cluster);
        let entries = usize::try_from(self.geometry.l2_entries()).expect("a table fits a cluster");
        state.tables.insert_fresh(l1_index, at, entries);
        state.l1[l1_index] = L1Entry::Table { at, copied: Copied::Yes }.encode();
        state.l1_unwritten.insert(l1_index);
        Ok(())
    }

    /// Takes up to `wanted` free clusters side by side; makes room in the refcount table when it is full.
    pub(super) fn allocate(
        &self,
        state: &mut State,
        wanted: ClusterCount,
    ) -> Result<(HostCluster, ClusterCount)> {
        loop {
            if let Some(found) = state.refcounts.allocate(&*self.blob, state.end, wanted)? {
                return Ok(found);
            }
            self.grow_refcount_table(state)?;
        }
    }

    pub(super) fn unwritable(&self, feature: &'static str) -> Error {
        Error::Unsupported { image: self.name.clone(), feature, refused: "writing" }
    }

    /// Writes tables back when more of them are held than the image may hold.
    pub(super) fn relieve(&self, state: &mut State) -> Result<()> {
        if state.tables.is_overfull() {
            self.flush_state(state)?;
        }
        Ok(())
    }
}
