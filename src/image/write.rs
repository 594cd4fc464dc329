//! Writing: in place where the image has the cluster to itself, else into a new one.
//!
//! A subcluster is filled whole before any table refers to it: with the caller's bytes, and around them with what
//! the guest saw there before. With standard L2 entries a cluster is its only subcluster. A cluster that an internal
//! snapshot has, too, is copied as far as it is stored, and loses one reference; so is an L2 table. Nothing is synced
//! here; `flush` brings it all to the disk in order.

use super::error::{Error, Result};
use super::map::{Cluster, Mapping};
use super::open::{Image, State};
use crate::format::Subclusters;
use crate::units::{ByteCount, ClusterCount, GuestOffset, HostCluster, HostOffset};
use std::sync::atomic::Ordering;

/// New clusters of one go are bounded by this, so that no other request waits for long.
const BATCH_MAX: ByteCount = ByteCount::mib(4);

/// What an image reads through to.
///
/// An example is at [`Image`].
pub trait Below {
    /// Fills the buffer with what the guest sees from `at` on when the image above has nothing there.
    ///
    /// # Errors
    ///
    /// Those of the image or the file that has the bytes.
    fn read_below(&self, at: GuestOffset, buffer: &mut [u8]) -> Result<()>;
}

impl Image {
    /// Writes `data` at `at`. `below` is what the image reads through to, `None` when it has no backing file.
    ///
    /// Seen by every later read. Durable after [`Image::flush`].
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`]; [`Error::PastEndOfDisk`]; [`Error::Full`]; [`Error::Format`] for compressed ones that do not hold a cluster, unless they are written over as a whole;
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
            match self.cluster(state, first + ClusterCount::new(index))? {
                Cluster::Plain(there) if there.is_own() => {}
                _ => return Ok(false),
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
        let piece = self.within_cluster(at, data);
        let written = match self.cluster(state, first)? {
            Cluster::Compressed(extent) => self.write_over_compressed(state, at, piece, extent)?,
            Cluster::Plain(Subclusters { at: None, .. }) => self.fill_new(state, at, data, below)?,
            Cluster::Plain(there @ Subclusters { at: Some(host), .. }) if there.is_own() => {
                self.put_piece(state, at, piece, host, there, below)?;
                self.note_stored(state, at, ByteCount::of(piece.len()), host)?;
                piece.len()
            }
            Cluster::Plain(there) => {
                self.copy_shared(state, at, piece, there, below)?;
                piece.len()
            }
        };
        self.relieve(state)?;
        Ok(written)
    }

    /// Writes into newly allocated clusters, one behind the other as long as the guest's have none.
    fn fill_new(
        &self,
        state: &mut State,
        at: GuestOffset,
        data: &[u8],
        below: Option<&dyn Below>,
    ) -> Result<usize> {
        let geometry = self.geometry;
        let inside = geometry.offset_in_cluster(at);
        let wanted = geometry.clusters_for(inside + ByteCount::of(data.len()));
        let without = self.clusters_without(state, geometry.guest_cluster(at), wanted)?;
        let (start, count) = self.allocate(state, without.min(geometry.clusters_for(BATCH_MAX)))?;
        let length = (geometry.bytes_for(count) - inside).as_usize().min(data.len());
        let (data, host) = (&data[..length], geometry.host_offset(start));
        if let Err(error) = self.fill_run(state, at, data, host, below) {
            // Nothing refers to these clusters: they can be given back at once.
            state.refcounts.release(&*self.blob, state.end, start, count)?;
            return Err(error);
        }
        self.note_stored(state, at, ByteCount::of(length), host)?;
        Ok(length)
    }

    /// Fills clusters that lie side by side: the whole ones straight from the caller, the ends with what is around.
    fn fill_run(
        &self,
        state: &mut State,
        at: GuestOffset,
        data: &[u8],
        host: HostOffset,
        below: Option<&dyn Below>,
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
                let Cluster::Plain(there) = self.cluster(state, self.geometry.guest_cluster(at))? else {
                    return Err(self.unwritable("has a compressed cluster where none was found before"));
                };
                self.put_piece(state, at, piece, host, there, below)?;
                host += size;
            }
            at += ByteCount::of(piece.len());
            rest = &rest[piece.len()..];
        }
        Ok(())
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
