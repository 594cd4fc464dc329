//! One choice of what survives a power cut, as a store that can be opened.

use super::super::BlobName;
use super::super::digest::{Digest, halves};
use super::super::memory::MemoryStore;
use super::super::sparse::Sparse;
use super::choice::{Bounds, Choice, Operation};
use super::cut::{Fate, FileSystem, PowerCut};
use std::collections::BTreeMap;
use std::fmt;

/// What one power cut has left.
#[derive(Clone)]
pub struct CrashState {
    blobs: Vec<Left>,
    digest: u128,
    choice: Choice,
}

/// A blob that is left.
#[derive(Clone)]
struct Left {
    name: BlobName,
    number: u64,
    bytes: Sparse,
    digest: u128,
}

impl CrashState {
    pub(super) fn of(cut: &PowerCut, choice: Choice) -> Self {
        Self::with(cut, &cut.operations(), &BTreeMap::new(), choice)
    }

    /// Builds the state. `settled` holds the digests of the blobs of which nothing is pending, as far as they are
    /// known.
    fn with(cut: &PowerCut, operations: &[Operation], settled: &BTreeMap<u64, u128>, choice: Choice) -> Self {
        let kept = choice.of(operations);
        let mut of_files: BTreeMap<(Option<u64>, usize), &[bool]> = BTreeMap::new();
        for (operation, kept) in operations.iter().zip(&kept) {
            of_files.insert((operation.file, operation.index), kept);
        }
        let survives = |file: Option<u64>, index: usize, part: usize, fate: Fate| {
            fate == Fate::Certain || of_files[&(file, index)][part]
        };

        let mut names = cut.names.clone();
        // In order, a lost one takes with it all after it that are not certain.
        let mut in_order = true;
        for (index, naming) in cut.names_pending.iter().enumerate() {
            let survives = survives(None, index, 0, naming.fate);
            if naming.fate == Fate::Certain || (survives && in_order) {
                naming.what.apply(&mut names);
            }
            in_order &= survives || cut.file_system == FileSystem::Strict;
        }
        let mut digest = Digest::default();
        let mut blobs = Vec::with_capacity(names.len());
        for (name, number) in names {
            let Some(file) = cut.files.get(&number) else { continue };
            let mut bytes = file.durable.clone();
            for (index, pending) in file.pending.iter().enumerate() {
                pending.what.apply(&mut bytes, |part| survives(Some(number), index, part, pending.fate));
            }
            digest.number(name.as_str().len() as u64);
            digest.bytes(name.as_str().as_bytes());
            let of_bytes = settled.get(&number).copied().unwrap_or_else(|| bytes.digest());
            for half in halves(of_bytes) {
                digest.number(half);
            }
            blobs.push(Left { name, number, bytes, digest: of_bytes });
        }
        Self { blobs, digest: digest.value(), choice }
    }

    /// The store as it is found when the power is back. Each call makes another one.
    #[must_use]
    pub fn store(&self) -> MemoryStore {
        MemoryStore::of(self.blobs.iter().map(|blob| (blob.name.clone(), blob.number, blob.bytes.clone())))
    }

    /// A number of the names and bytes: that of another state is another one, but for one chance in 2^128.
    #[must_use]
    pub fn digest(&self) -> u128 {
        self.digest
    }

    /// The same of the bytes of one blob; `None` when there is none of this name.
    #[must_use]
    pub fn digest_of(&self, name: &BlobName) -> Option<u128> {
        self.blobs.iter().find(|blob| blob.name == *name).map(|blob| blob.digest)
    }

    /// What has survived.
    #[must_use]
    pub fn choice(&self) -> Choice {
        self.choice
    }
}

impl fmt::Debug for CrashState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blobs: Vec<_> = self.blobs.iter().map(|blob| (&blob.name, blob.bytes.length())).collect();
        f.debug_struct("CrashState").field("choice", &self.choice).field("blobs", &blobs).finish()
    }
}

/// The states that a power cut at one instant may leave, one after the other. Some may be the same: their
/// [`CrashState::digest`] tells.
pub struct CrashStates {
    cut: PowerCut,
    operations: Vec<Operation>,
    settled: BTreeMap<u64, u128>,
    choices: Box<dyn Iterator<Item = Choice> + Send>,
}

impl CrashStates {
    pub(super) fn of(cut: PowerCut, bounds: Bounds) -> Self {
        let operations = cut.operations();
        let choices = Choice::all(&operations, bounds);
        let settled = cut.files.iter().filter(|(_, file)| file.pending.is_empty());
        let settled = settled.map(|(number, file)| (*number, file.durable.digest())).collect();
        Self { cut, operations, settled, choices }
    }
}

impl Iterator for CrashStates {
    type Item = CrashState;

    fn next(&mut self) -> Option<CrashState> {
        let choice = self.choices.next()?;
        Some(CrashState::with(&self.cut, &self.operations, &self.settled, choice))
    }
}

impl fmt::Debug for CrashStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrashStates").field("operations", &self.operations.len()).finish_non_exhaustive()
    }
}
