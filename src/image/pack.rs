//! Packing: new compressed clusters, their bytes one behind the other.
//!
//! A host cluster is shared by all whose bytes touch it, and counts each of them. What is packed goes where the last
//! one ended, in the same sector if need be, for as long as the image is open and the host cluster is in use; else at
//! the begin of a free host cluster. So the bytes of a cluster that is there already are never written again.

use super::error::{Error, Result};
use super::map::Cluster;
use super::open::{Image, State};
use crate::format::{CompressedExtent, L2Entry, Subclusters};
use crate::units::{ByteCount, ClusterCount, GuestOffset, HostCluster, HostOffset};
use std::borrow::Cow;

impl Image {
    /// Writes one whole cluster compressed, as the header says, where the image has nothing yet.
    ///
    /// `at` is the begin of a cluster, and `cluster` is as large as one; the last cluster of the disk may be cut short
    /// where the disk ends. Answers whether it was written: nothing has changed when it would not get smaller, or
    /// when the image has something there already. [`Image::write`] writes it either way.
    ///
    /// Seen by every later read. Durable after [`Image::flush`].
    ///
    /// # Errors
    ///
    /// [`Error::NotOneCluster`]; as [`Image::write`] otherwise. Nothing has changed then.
    pub fn write_compressed(&self, at: GuestOffset, cluster: &[u8]) -> Result<bool> {
        let length = ByteCount::of(cluster.len());
        self.admit_write(at, length)?;
        let cluster = self.whole_cluster(at, cluster)?;
        let compression = self.state.read().header.compression;
        let Some(stream) = compression.encode(&cluster) else { return Ok(false) };

        let mut state = self.state.write();
        self.refuse_when_frozen()?;
        let state = &mut *state;
        let guest = self.geometry.guest_cluster(at);
        self.own_table(state, guest)?;
        let Cluster::Plain(Subclusters { at: None, .. }) = self.cluster(state, guest)? else {
            return Ok(false);
        };
        let extent = self.pack(state, &stream)?;
        self.decoded.clear();
        self.set_entry(state, guest, L2Entry::Compressed(extent));
        self.relieve(state)?;
        Ok(true)
    }

    /// The cluster to compress, with zeros behind the end of the disk.
    fn whole_cluster<'a>(&self, at: GuestOffset, cluster: &'a [u8]) -> Result<Cow<'a, [u8]>> {
        let size = self.geometry.cluster_size();
        let length = ByteCount::of(cluster.len());
        let is_aligned = self.geometry.offset_in_cluster(at).is_zero();
        if is_aligned && length == size {
            return Ok(Cow::Borrowed(cluster));
        }
        let ends_disk = at + length == GuestOffset::end_of(self.size());
        if !is_aligned || !ends_disk || length.is_zero() || length > size {
            return Err(Error::NotOneCluster { at, length, cluster_size: size });
        }
        let mut whole = cluster.to_vec();
        whole.resize(size.as_usize(), 0);
        Ok(Cow::Owned(whole))
    }

    /// Writes a stream where there is room for it, and counts it in every host cluster that it touches.
    fn pack(&self, state: &mut State, stream: &[u8]) -> Result<CompressedExtent> {
        let length = ByteCount::of(stream.len());
        let at = self.place(state, length)?;
        let packed = self.put_extent(state, at, stream);
        let end = at + length;
        state.packed_end = (packed.is_ok() && !self.geometry.is_cluster_aligned(end)).then_some(end);
        if packed.is_err() {
            let first = self.geometry.host_cluster(at);
            let last = self.geometry.host_cluster(at + (length - ByteCount::new(1)));
            let count = last - first + ClusterCount::new(1);
            state.refcounts.release(&*self.blob, state.end, first, count)?;
        }
        packed
    }

    fn put_extent(&self, state: &mut State, at: HostOffset, stream: &[u8]) -> Result<CompressedExtent> {
        let extent = CompressedExtent::new(at, ByteCount::of(stream.len()), self.geometry);
        let extent = extent.map_err(|source| self.malformed(source))?;
        self.put(state, at, stream)?;
        Ok(extent)
    }

    /// Finds room for `length` bytes, less than a cluster, and counts one more reference to what they touch: behind
    /// what was packed last, reaching over into the next host cluster if that one is free, or in a free one.
    fn place(&self, state: &mut State, length: ByteCount) -> Result<HostOffset> {
        if let Some(at) = state.packed_end
            && length <= self.geometry.cluster_size() - self.geometry.host_offset_in_cluster(at)
            && self.share(state, self.geometry.host_cluster(at))?
        {
            return Ok(at);
        }
        let one = ClusterCount::new(1);
        let (free, _) = self.allocate(state, one)?;
        let reached = state.packed_end.filter(|at| self.geometry.host_cluster(*at) + one == free);
        let Some(at) = reached else { return Ok(self.geometry.host_offset(free)) };
        match self.share(state, self.geometry.host_cluster(at)) {
            Ok(true) => Ok(at),
            Ok(false) => Ok(self.geometry.host_offset(free)),
            Err(error) => {
                state.refcounts.release(&*self.blob, state.end, free, one)?;
                Err(error)
            }
        }
    }

    /// Counts one more reference to a host cluster in use; false when its refcount is as large as it can be.
    fn share(&self, state: &mut State, cluster: HostCluster) -> Result<bool> {
        state.refcounts.share(&*self.blob, state.end, cluster)
    }
}
