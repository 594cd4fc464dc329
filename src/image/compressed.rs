//! Compressed clusters that are there: read, written over, given up.
//!
//! They are never changed in place. A write makes a plain cluster of one, and the host clusters that its bytes touch
//! lose one reference each; several compressed clusters may share a host cluster, which is free with the last of them.

use super::error::{Error, Result};
use super::open::{Image, State};
use crate::format::{CompressedExtent, Subclusters};
use crate::storage::read_zero_extended;
use crate::sync::Mutex;
use crate::units::{ByteCount, GuestOffset};
use std::sync::Arc;

/// What is held of clusters that were decoded, one cluster of any size apart.
const HELD_MAX: ByteCount = ByteCount::kib(256);

/// The clusters that were decoded last: a guest that reads a cluster in parts has it decoded once.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    /// The one that was used last comes last.
    held: Mutex<Vec<(CompressedExtent, Arc<Vec<u8>>)>>,
}

impl Decoded {
    fn find(&self, extent: CompressedExtent) -> Option<Arc<Vec<u8>>> {
        let mut held = self.held.lock();
        let index = held.iter().position(|(of, _)| *of == extent)?;
        let found = held.remove(index);
        let cluster = Arc::clone(&found.1);
        held.push(found);
        Some(cluster)
    }

    fn keep(&self, extent: CompressedExtent, cluster: &Arc<Vec<u8>>) {
        let held_max = (HELD_MAX.as_usize() / cluster.len().max(1)).clamp(1, 4);
        let mut held = self.held.lock();
        held.retain(|(of, _)| *of != extent);
        if held.len() >= held_max {
            held.remove(0);
        }
        held.push((extent, Arc::clone(cluster)));
    }

    /// Forgets what was decoded from bytes that may soon be others.
    fn forget(&self, extent: CompressedExtent) {
        self.held.lock().retain(|(of, _)| *of != extent);
    }

    /// Forgets everything: new bytes were written somewhere.
    pub(super) fn clear(&self) {
        self.held.lock().clear();
    }
}

impl Image {
    /// Fills `piece` with the bytes of a compressed cluster from `inside` on.
    pub(super) fn read_compressed(
        &self,
        state: &State,
        extent: CompressedExtent,
        inside: ByteCount,
        piece: &mut [u8],
    ) -> Result<()> {
        if piece.len() == self.geometry.cluster_size().as_usize() {
            return self.decode_extent(state, extent, piece);
        }
        let start = inside.as_usize();
        piece.copy_from_slice(&self.decoded(state, extent)?[start..start + piece.len()]);
        Ok(())
    }

    /// Writes into a compressed cluster: what was in it and the new bytes go into a plain one. Answers how many
    /// bytes; `piece` stays inside the cluster.
    pub(super) fn write_over_compressed(
        &self,
        state: &mut State,
        at: GuestOffset,
        piece: &[u8],
        extent: CompressedExtent,
    ) -> Result<usize> {
        let all = self.geometry.subclusters_all();
        if piece.len() == self.geometry.cluster_size().as_usize() {
            self.put_new_cluster(state, at, piece, Subclusters::ABSENT, all)?;
        } else {
            let mut bytes = self.decoded(state, extent)?.to_vec();
            let inside = self.geometry.offset_in_cluster(at).as_usize();
            bytes[inside..inside + piece.len()].copy_from_slice(piece);
            self.put_new_cluster(state, at, &bytes, Subclusters::ABSENT, all)?;
        }
        self.free_extent(state, extent);
        Ok(piece.len())
    }

    /// Notes that a compressed cluster no longer refers to the host clusters of its extent.
    pub(super) fn free_extent(&self, state: &mut State, extent: CompressedExtent) {
        // Nobody decodes it meanwhile: the state is locked, and no table in memory refers to it any more.
        self.decoded.forget(extent);
        for cluster in extent.host_clusters(self.geometry) {
            self.free_later(state, self.geometry.host_offset(cluster));
        }
    }

    /// The bytes of a compressed cluster, which may have been decoded before.
    fn decoded(&self, state: &State, extent: CompressedExtent) -> Result<Arc<Vec<u8>>> {
        if let Some(cluster) = self.decoded.find(extent) {
            return Ok(cluster);
        }
        let mut cluster = vec![0; self.geometry.cluster_size().as_usize()];
        self.decode_extent(state, extent, &mut cluster)?;
        let cluster = Arc::new(cluster);
        self.decoded.keep(extent, &cluster);
        Ok(cluster)
    }

    /// Reads an extent, which is two clusters long at most, and decodes it. Its last sectors may lie past the end of
    /// the file (QEMU leaves it so); they read as zeros.
    fn decode_extent(&self, state: &State, extent: CompressedExtent, cluster: &mut [u8]) -> Result<()> {
        if extent.at >= state.end {
            return Err(Error::OutsideFile {
                image: self.name.clone(),
                structure: "compressed cluster",
                at: extent.at,
                end: state.end,
            });
        }
        let mut stream = vec![0; extent.length.as_usize()];
        read_zero_extended(&*self.blob, state.end.as_length(), extent.at, &mut stream)?;
        state.header.compression.decode(&stream, cluster).map_err(|source| self.malformed(source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::HostOffset;

    #[test]
    fn the_clusters_that_were_used_last_are_held_and_no_more_than_there_is_room_for() {
        let extent = |at| CompressedExtent { at: HostOffset::new(at), length: ByteCount::new(512) };
        let decoded = Decoded::default();
        for (size, held_max) in [(512, 4), (64 << 10, 4), (128 << 10, 2), (2 << 20, 1)] {
            decoded.clear();
            for at in 1..=held_max {
                decoded.keep(extent(at), &Arc::new(vec![0; size]));
            }
            assert!(decoded.find(extent(1)).is_some(), "{size}");
            decoded.keep(extent(9), &Arc::new(vec![0; size]));
            let held: Vec<u64> = decoded.held.lock().iter().map(|(of, _)| of.at.as_u64()).collect();
            let expected = [vec![], vec![9], vec![1, 9], vec![3, 1, 9], vec![3, 4, 1, 9]];
            assert_eq!(held, expected[ByteCount::new(held_max).as_usize()], "{size}");
        }
        decoded.forget(extent(9));
        assert!(decoded.find(extent(9)).is_none());
    }
}
