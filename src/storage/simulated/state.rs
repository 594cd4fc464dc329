//! One choice of what survives, as a store.

use super::super::BlobName;
use super::super::digest::{Digest, halves};
use super::super::memory::MemoryStore;
use super::super::sparse::{PageDigests, Sparse};
use super::choice::{Bounds, Choice, Operation, shuffled};
use super::cut::{Fate, File, FileSystem, PowerCut};
use crate::units::ByteCount;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What one power cut has left.
///
/// An example is at [`PowerCut`].
#[derive(Clone)]
pub struct CrashState {
    blobs: Vec<CrashBlob>,
    digest: u128,
    choice: Choice,
}

/// A blob that a power cut has left.
///
/// An example is at [`PowerCut`].
#[derive(Clone)]
pub struct CrashBlob {
    name: BlobName,
    number: u64,
    bytes: Arc<Sparse>,
    pages: Arc<PageDigests>,
    digest: u128,
}

impl CrashBlob {
    /// The name under which it is found.
    #[must_use]
    pub fn name(&self) -> &BlobName {
        &self.name
    }

    /// Its length.
    #[must_use]
    pub fn length(&self) -> ByteCount {
        ByteCount::new(self.bytes.length())
    }

    /// A number of its bytes: that of other bytes is another one, but for one chance in 2^128.
    #[must_use]
    pub fn digest(&self) -> u128 {
        self.digest
    }

    /// The same of the `page`-th 4 KiB of it, counted from 0; `None` when all of them are zeros or past the end.
    #[must_use]
    pub fn digest_of_page(&self, page: u64) -> Option<u128> {
        let place = self.pages.binary_search_by_key(&page, |(page, _)| *page).ok()?;
        Some(self.pages[place].1)
    }
}

impl CrashState {
    pub(super) fn of(cut: &PowerCut, choice: Choice) -> Self {
        Base::of(cut.clone()).left_by(choice)
    }

    /// The store as it is found when the power is back. Each call makes another one.
    #[must_use]
    pub fn store(&self) -> MemoryStore {
        let blobs = self.blobs.iter();
        MemoryStore::of(blobs.map(|blob| (blob.name.clone(), blob.number, Sparse::clone(&blob.bytes))))
    }

    /// The blobs, in the order of their names.
    #[must_use]
    pub fn blobs(&self) -> &[CrashBlob] {
        &self.blobs
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

    /// The same of all blobs but one.
    #[must_use]
    pub fn digest_without(&self, but: &BlobName) -> u128 {
        let others = self.blobs.iter().filter(|blob| blob.name != *but);
        digest_of_all(others.map(|blob| (&blob.name, blob.digest)))
    }

    /// As [`CrashState::digest_without`], of a store that was made of this state and has been used since. Pages that were
    /// not written meanwhile are not read.
    #[must_use]
    pub fn digest_of_others(&self, store: &MemoryStore, but: &BlobName) -> u128 {
        let now = store.map_blobs(|name, number, bytes| {
            let before = self.blobs.iter().find(|blob| blob.number == number);
            let digest = match before {
                Some(blob) if blob.bytes.changes() == bytes.changes() => blob.digest,
                Some(blob) => bytes.digest_of_pages(&bytes.page_digests_beside(&blob.bytes, &blob.pages)),
                None => bytes.digest_of_pages(&bytes.page_digests()),
            };
            (name.clone(), digest)
        });
        digest_of_all(now.iter().filter(|(name, _)| name != but).map(|(name, digest)| (name, *digest)))
    }

    /// What has survived.
    #[must_use]
    pub fn choice(&self) -> Choice {
        self.choice
    }
}

/// A number of blobs: their names, and the numbers of their bytes.
fn digest_of_all<'a>(blobs: impl Iterator<Item = (&'a BlobName, u128)>) -> u128 {
    let mut digest = Digest::default();
    for (name, of_bytes) in blobs {
        digest.number(name.as_str().len() as u64);
        digest.bytes(name.as_str().as_bytes());
        halves(of_bytes).into_iter().for_each(|half| digest.number(half));
    }
    digest.value()
}

impl fmt::Debug for CrashState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blobs: Vec<_> = self.blobs.iter().map(|blob| (&blob.name, blob.bytes.length())).collect();
        f.debug_struct("CrashState").field("choice", &self.choice).field("blobs", &blobs).finish()
    }
}

impl fmt::Debug for CrashBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrashBlob").field("name", &self.name).field("length", &self.length()).finish()
    }
}

/// What all states of one power cut share.
struct Base {
    cut: PowerCut,
    operations: Vec<Operation>,
    /// For each pending name, where its part is; `None` when it is certain.
    names: Vec<Option<usize>>,
    files: BTreeMap<u64, Known>,
}

/// What is known of a blob before anything pending survives.
struct Known {
    durable: Arc<Sparse>,
    pages: Arc<PageDigests>,
    digest: u128,
    /// For each pending change, where its first part is; `None` when it is certain.
    pending: Vec<Option<usize>>,
}

impl Known {
    fn of(file: &File) -> Self {
        let durable = Arc::new(file.durable.clone());
        let pages = Arc::new(durable.page_digests());
        let digest = durable.digest_of_pages(&pages);
        Self { digest, pages, pending: vec![None; file.pending.len()], durable }
    }
}

impl Base {
    fn of(cut: PowerCut) -> Self {
        let operations = cut.operations();
        let mut names = vec![None; cut.names_pending.len()];
        let mut files: BTreeMap<u64, Known> =
            cut.files.iter().map(|(number, file)| (*number, Known::of(file))).collect();
        for operation in &operations {
            let places = match operation.file {
                None => &mut names,
                Some(number) => &mut files.get_mut(&number).expect("an operation is of a blob").pending,
            };
            places[operation.index] = Some(operation.first);
        }
        Self { cut, operations, names, files }
    }

    /// The state in which a choice survives.
    fn left_by(&self, choice: Choice) -> CrashState {
        let kept = choice.of(&self.operations);
        let mut names = self.cut.names.clone();
        // In order, a lost one takes with it all after it that are not certain.
        let mut in_order = true;
        for (naming, place) in self.cut.names_pending.iter().zip(&self.names) {
            let survives = place.is_none_or(|place| kept[place]);
            if naming.fate == Fate::Certain || (survives && in_order) {
                naming.what.apply(&mut names);
            }
            in_order &= survives || self.cut.file_system == FileSystem::Strict;
        }
        let mut blobs = Vec::with_capacity(names.len());
        for (name, number) in names {
            let (Some(file), Some(known)) = (self.cut.files.get(&number), self.files.get(&number)) else {
                continue;
            };
            let (bytes, pages, digest) = if file.pending.is_empty() {
                (Arc::clone(&known.durable), Arc::clone(&known.pages), known.digest)
            } else {
                let mut bytes = Sparse::clone(&known.durable);
                for (pending, place) in file.pending.iter().zip(&known.pending) {
                    pending.what.apply(&mut bytes, |part| place.is_none_or(|place| kept[place + part]));
                }
                let pages = bytes.page_digests_beside(&known.durable, &known.pages);
                let digest = bytes.digest_of_pages(&pages);
                (Arc::new(bytes), Arc::new(pages), digest)
            };
            blobs.push(CrashBlob { name, number, bytes, pages, digest });
        }
        let digest = digest_of_all(blobs.iter().map(|blob| (&blob.name, blob.digest)));
        CrashState { blobs, digest, choice }
    }
}

/// The states that a power cut at one instant may leave, one after the other. Some may be the same: their
/// [`CrashState::digest`] tells.
///
/// An example is at [`PowerCut`].
pub struct CrashStates {
    base: Base,
    choices: Box<dyn Iterator<Item = Choice> + Send + Sync>,
}

impl CrashStates {
    pub(super) fn of(cut: PowerCut, bounds: Bounds) -> Self {
        let base = Base::of(cut);
        let choices = Choice::all(&base.operations, bounds);
        Self { base, choices }
    }

    /// The same states in an order that dice with this seed make, so that the first few are a sample; but nothing and
    /// everything come first.
    #[must_use]
    pub fn shuffled(self, seed: u64) -> Self {
        let choices = Box::new(shuffled(self.choices, seed).into_iter());
        Self { base: self.base, choices }
    }
}

impl Iterator for CrashStates {
    type Item = CrashState;

    fn next(&mut self) -> Option<CrashState> {
        let choice = self.choices.next()?;
        Some(self.base.left_by(choice))
    }
}

impl fmt::Debug for CrashStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrashStates").field("operations", &self.base.operations.len()).finish_non_exhaustive()
    }
}
