//! Where a guest address lies: the one look-up that reads, writes, diffs and checks share.

use super::error::{Error, Result};
use super::open::{Image, State};
use crate::format::{CompressedExtent, L1Entry, L2Entry, Version};
use crate::storage::read_zero_extended;
use crate::units::{ByteCount, ClusterCount, GuestCluster, GuestOffset, HostOffset};
use parking_lot::RwLockReadGuard;

/// What an image has at a guest address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mapping {
    /// Nothing: the layer below shows, or zeros when there is none.
    Absent,
    /// Zeros, whatever is below.
    Zero,
    /// Data, as it is in the file.
    Data {
        /// Where in the file.
        at: HostOffset,
    },
    /// A compressed cluster.
    Compressed(CompressedExtent),
}

/// A stretch of guest addresses that are mapped alike; data lies side by side in the file, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// What is there.
    pub mapping: Mapping,
    /// How far it goes on.
    pub length: ByteCount,
}

impl Image {
    /// What the image has at `at`, and for how many of the `length` bytes from there it goes on alike.
    ///
    /// A run ends at the latest where the L2 table ends; two runs side by side may be alike.
    ///
    /// # Errors
    ///
    /// [`Error::PastEndOfDisk`]; [`Error::Format`] and [`Error::OutsideFile`] for tables that break a rule;
    /// [`Error::Storage`].
    pub fn run_at(&self, at: GuestOffset, length: ByteCount) -> Result<Run> {
        self.admit(at, length)?;
        let state = self.state_for(at)?;
        self.run(&state, at, length)
    }

    /// The state, with the table for `at` in memory.
    pub(super) fn state_for(&self, at: GuestOffset) -> Result<RwLockReadGuard<'_, State>> {
        let l1_index = self.geometry.l1_index(self.geometry.guest_cluster(at));
        let mut state = self.state.read();
        loop {
            let held = state.tables.get(l1_index).is_some();
            if held || self.table_on_disk(&state, l1_index)?.is_none() {
                return Ok(state);
            }
            drop(state);
            let mut writing = self.state.write();
            self.load_table(&mut writing, l1_index)?;
            state = parking_lot::RwLockWriteGuard::downgrade(writing);
        }
    }

    /// As [`Image::run_at`], on a state whose table for `at` is in memory.
    pub(super) fn run(&self, state: &State, at: GuestOffset, length: ByteCount) -> Result<Run> {
        let geometry = self.geometry;
        let first = geometry.guest_cluster(at);
        let inside = geometry.offset_in_cluster(at);
        let l1_index = geometry.l1_index(first);
        let coverage = geometry.l2_coverage().as_u64();
        let table_left = ByteCount::new(coverage - at.as_u64() % coverage);
        let wanted = length.min(table_left);
        let Some(table) = state.tables.get(l1_index) else {
            return Ok(Run { mapping: Mapping::Absent, length: wanted });
        };
        let version = state.header.version;
        let start = geometry.l2_index(first);
        let mapping = self.mapping(state, version, table.entries[start], first)?;
        let clusters = geometry.clusters_for(inside + wanted);
        let mut count = ClusterCount::new(1);
        while count < clusters {
            let next = self.mapping(
                state,
                version,
                table.entries[start + ByteCount::new(count.as_u64()).as_usize()],
                first + count,
            );
            // A broken entry further on is the business of the read that gets there.
            if !next.is_ok_and(|next| continues(mapping, next, geometry.bytes_for(count))) {
                break;
            }
            count += ClusterCount::new(1);
        }
        let length = wanted.min(geometry.bytes_for(count) - inside);
        let mapping = match mapping {
            Mapping::Data { at } => Mapping::Data { at: at + inside },
            other => other,
        };
        Ok(Run { mapping, length })
    }

    /// What one L2 entry says.
    fn mapping(&self, state: &State, version: Version, raw: u64, cluster: GuestCluster) -> Result<Mapping> {
        let entry = self.decode(version, raw)?;
        let at = match entry {
            L2Entry::Absent => return Ok(Mapping::Absent),
            L2Entry::Zero { .. } => return Ok(Mapping::Zero),
            L2Entry::Compressed(extent) => return Ok(Mapping::Compressed(extent)),
            L2Entry::Data { at, .. } => at,
            L2Entry::Subclusters(_) => {
                debug_assert!(false, "extended L2 entries are refused at open ({cluster})");
                return Err(self.unreadable("has extended L2 entries"));
            }
        };
        if at.is_zero() {
            return Err(Error::OnHeader { image: self.name.clone(), structure: "data cluster" });
        }
        // A fresh cluster lies past the end until its first write; the table in memory knows it by then.
        if at >= state.end {
            return Err(Error::OutsideFile {
                image: self.name.clone(),
                structure: "data cluster",
                at,
                end: state.end,
            });
        }
        Ok(Mapping::Data { at })
    }

    pub(super) fn decode(&self, version: Version, raw: u64) -> Result<L2Entry> {
        L2Entry::decode(raw, 0, self.geometry, version).map_err(|source| self.malformed(source))
    }

    pub(super) fn unreadable(&self, feature: &'static str) -> Error {
        Error::Unsupported { image: self.name.clone(), feature, refused: "reading" }
    }

    /// Where the L1 table says that an L2 table is; `None` when there is none.
    pub(super) fn table_on_disk(&self, state: &State, l1_index: usize) -> Result<Option<HostOffset>> {
        let Some(raw) = state.l1.get(l1_index) else { return Ok(None) };
        let entry = L1Entry::decode(*raw, self.geometry).map_err(|source| self.malformed(source))?;
        let L1Entry::Table { at, .. } = entry else { return Ok(None) };
        Ok(Some(at))
    }

    /// Brings an L2 table into memory when there is one.
    pub(super) fn load_table(&self, state: &mut State, l1_index: usize) -> Result<()> {
        if state.tables.get(l1_index).is_some() {
            return Ok(());
        }
        let Some(at) = self.table_on_disk(state, l1_index)? else { return Ok(()) };
        let end = state.end;
        if at >= end {
            let image = self.name.clone();
            return Err(Error::OutsideFile { image, structure: "L2 table", at, end });
        }
        let mut bytes = vec![0; self.geometry.cluster_size().as_usize()];
        read_zero_extended(&*self.blob, end.as_length(), at, &mut bytes)?;
        let entries = bytes
            .chunks_exact(8)
            .map(|entry| u64::from_be_bytes(entry.try_into().expect("eight bytes")))
            .collect();
        state.tables.insert_read(l1_index, at, entries);
        Ok(())
    }
}

/// Whether `next`, `distance` bytes behind the first cluster of a run, is more of the same.
fn continues(first: Mapping, next: Mapping, distance: ByteCount) -> bool {
    match (first, next) {
        (Mapping::Absent, Mapping::Absent) | (Mapping::Zero, Mapping::Zero) => true,
        (Mapping::Data { at: first }, Mapping::Data { at: next }) => {
            first.checked_add(distance) == Some(next)
        }
        _ => false,
    }
}
