//! Where a guest address lies: the one look-up that reads, writes, diffs and checks share.

use super::error::{Error, Result};
use super::open::{Image, State};
use crate::format::{CompressedExtent, L1Entry, L2Entry, Subcluster, Subclusters};
use crate::storage::read_zero_extended;
use crate::sync::{RwLockReadGuard, RwLockWriteGuard};
use crate::units::{ByteCount, GuestOffset, HostOffset};

/// What an image has at a guest address.
#[doc = include_str!("examples/images.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mapping {
    /// Nothing: the layer below shows, or zeros when there is none.
    Absent,
    /// Zeros, whatever is below.
    Zero,
    /// Data, as it is in the file, or in the external one.
    Data {
        /// Where in that file.
        at: HostOffset,
    },
    /// A compressed cluster.
    Compressed(CompressedExtent),
}

/// What one L2 entry says, in the one form for both widths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cluster {
    /// The cluster is stored compressed, as a whole.
    Compressed(CompressedExtent),
    /// Each subcluster is on its own: one or 32.
    Plain(Subclusters),
}

/// A stretch of guest addresses that are mapped alike; data lies side by side in the file, too.
#[doc = include_str!("examples/images.md")]
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
            state = RwLockWriteGuard::downgrade(writing);
        }
    }

    /// As [`Image::run_at`], on a state whose table for `at` is in memory.
    pub(super) fn run(&self, state: &State, at: GuestOffset, length: ByteCount) -> Result<Run> {
        let coverage = self.geometry.l2_coverage().as_u64();
        let table_left = ByteCount::new(coverage - at.as_u64() % coverage);
        let wanted = length.min(table_left);
        let l1_index = self.geometry.l1_index(self.geometry.guest_cluster(at));
        let Some(table) = state.tables.get(l1_index) else {
            return Ok(Run { mapping: Mapping::Absent, length: wanted });
        };
        let entry = |at| table.entry(self.geometry.l2_index(self.geometry.guest_cluster(at)));
        let mut run = self.run_in_cluster(state, entry(at), at)?;
        while run.length < wanted {
            let next = at + run.length;
            let next = self.run_in_cluster(state, entry(next), next);
            // A broken entry further on is the business of the read that gets there.
            let Ok(next) = next else { break };
            if !continues(run.mapping, next.mapping, run.length) {
                break;
            }
            run.length += next.length;
        }
        Ok(Run { length: run.length.min(wanted), ..run })
    }

    /// What the entry of its cluster says at `at`, up to where the cluster ends at most.
    pub(super) fn run_in_cluster(&self, state: &State, raw: (u64, u64), at: GuestOffset) -> Result<Run> {
        let geometry = self.geometry;
        let inside = geometry.offset_in_cluster(at);
        let subclusters = match self.decode(state, raw)? {
            Cluster::Compressed(extent) => {
                let mapping = Mapping::Compressed(extent);
                return Ok(Run { mapping, length: geometry.cluster_size() - inside });
            }
            Cluster::Plain(subclusters) => subclusters,
        };
        let index = geometry.subcluster_index(at);
        let alike = u64::from(subclusters.alike_from(index)) * geometry.subcluster_size().as_u64();
        let length = ByteCount::new(alike) - geometry.offset_in_subcluster(at);
        let length = length.min(geometry.cluster_size() - inside);
        let mapping = match (subclusters.of(index), subclusters.at) {
            (Subcluster::Absent, _) => Mapping::Absent,
            (Subcluster::Zero, _) => Mapping::Zero,
            (Subcluster::Allocated, at) => self.data_at(state, at.unwrap_or(HostOffset::ZERO), inside)?,
        };
        Ok(Run { mapping, length })
    }

    /// Data in a host cluster that lies in the file.
    pub(super) fn data_at(&self, state: &State, at: HostOffset, inside: ByteCount) -> Result<Mapping> {
        if state.header.incompatible.has_data_file() {
            return Ok(Mapping::Data { at: at + inside });
        }
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
        Ok(Mapping::Data { at: at + inside })
    }

    /// What an entry says, in the one form for both widths. Data on one of the image's own tables is none.
    pub(super) fn decode(&self, state: &State, (descriptor, bitmap): (u64, u64)) -> Result<Cluster> {
        let is_external = state.header.incompatible.has_data_file();
        let decode = if is_external { L2Entry::decode_external } else { L2Entry::decode };
        let entry = decode(descriptor, bitmap, self.geometry, state.header.version)
            .map_err(|source| self.malformed(source))?;
        let cluster = match (entry, entry.subclusters(self.geometry)) {
            (L2Entry::Compressed(extent), _) => Cluster::Compressed(extent),
            (_, subclusters) => Cluster::Plain(subclusters.unwrap_or(Subclusters::ABSENT)),
        };
        if !is_external {
            self.refuse_on_tables(state, cluster)?;
        }
        Ok(cluster)
    }

    /// Where the L1 table says that an L2 table is; `None` when there is none.
    pub(super) fn table_on_disk(&self, state: &State, l1_index: usize) -> Result<Option<HostOffset>> {
        let Some(raw) = state.l1.get(l1_index) else { return Ok(None) };
        let entry = L1Entry::decode(*raw, self.geometry).map_err(|source| self.malformed(source))?;
        let L1Entry::Table { at, .. } = entry else { return Ok(None) };
        Ok(Some(at))
    }

    /// Refuses an L2 table that lies past the end of the file or on the header or a root table.
    pub(super) fn refuse_misplaced_table(&self, state: &State, at: HostOffset) -> Result<()> {
        let end = state.end;
        if at >= end {
            let image = self.name.clone();
            return Err(Error::OutsideFile { image, structure: "L2 table", at, end });
        }
        self.refuse_roots(state, "L2 table", at)
    }

    /// Brings an L2 table into memory when there is one.
    pub(super) fn load_table(&self, state: &mut State, l1_index: usize) -> Result<()> {
        if state.tables.get(l1_index).is_some() {
            return Ok(());
        }
        let Some(at) = self.table_on_disk(state, l1_index)? else { return Ok(()) };
        self.refuse_misplaced_table(state, at)?;
        let mut bytes = vec![0; self.geometry.cluster_size().as_usize()];
        read_zero_extended(&*self.blob, state.end.as_length(), at, &mut bytes)?;
        state.end = state.end.max(self.end_seen(state)?);
        let words =
            bytes.chunks_exact(8).map(|word| u64::from_be_bytes(word.try_into().expect("eight bytes")));
        state.tables.insert_read(l1_index, at, words.collect());
        Ok(())
    }

    /// Where the file ends for whoever has just read entries of a table in it. A merge writes into a closed image through
    /// another handle: it only adds to the file, the data before the entries.
    pub(super) fn end_seen(&self, state: &State) -> Result<HostOffset> {
        if self.is_closed() { Ok(HostOffset::end_of(self.blob.length()?)) } else { Ok(state.end) }
    }
}

/// Whether `next`, `distance` bytes behind the first cluster of a run, is more of the same.
fn continues(first: Mapping, next: Mapping, distance: ByteCount) -> bool {
    match (first, next) {
        (Mapping::Absent, Mapping::Absent) | (Mapping::Zero, Mapping::Zero) => true,
        (Mapping::Data { at }, Mapping::Data { at: next }) => at.checked_add(distance) == Some(next),
        _ => false,
    }
}
