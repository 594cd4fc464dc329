//! What is durable at one instant, and what is not yet.
//!
//! * **D1** What is pending of a blob or of the names is in the order in which it was asked.
//! * **D2** What a sync covered is certain. It is laid into the durable bytes as soon as nothing that is not certain
//!   comes before it.
//! * **D3** What a failed sync was for stays open for ever: a later sync does not cover it.

use super::super::BlobName;
use super::super::memory::MemoryStore;
use super::super::sparse::Sparse;
use super::choice::Choice;
use super::choice::{Bounds, Operation};
use super::log::{DiskChange, DiskEvent};
use super::state::{CrashState, CrashStates};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// The unit that a disk writes whole or not at all.
const SECTOR: u64 = 512;

/// How a file system keeps names.
///
/// An example is at [`PowerCut`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileSystem {
    /// As much as POSIX promises: names are durable when the names are synced, and of those that are not, any may be
    /// there.
    #[default]
    Strict,
    /// As ext4 and XFS do it: names become durable in the order in which they were made and removed, and the sync of a
    /// blob covers its name and all before it.
    Ext4Like,
}

/// What a power cut at one instant may leave.
#[doc = include_str!("../examples/power_cuts.md")]
#[derive(Clone, Debug, Default)]
pub struct PowerCut {
    pub(super) file_system: FileSystem,
    /// The names that are durable.
    pub(super) names: BTreeMap<BlobName, u64>,
    pub(super) names_pending: Vec<Pending<Naming>>,
    pub(super) files: BTreeMap<u64, File>,
    /// How much was asked so far.
    asked: u64,
}

/// One blob.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    pub(super) durable: Sparse,
    pub(super) pending: Vec<Pending<Change>>,
    /// The length as it reads now.
    length: u64,
}

/// What was asked and is not laid into what is durable.
#[derive(Clone, Debug)]
pub(super) struct Pending<T> {
    /// When, among all that is pending.
    order: u64,
    pub(super) what: T,
    pub(super) fate: Fate,
}

/// What a power cut makes of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It may survive, and the next sync makes it certain.
    Open,
    /// It may survive, and no sync makes it certain (D3).
    Adrift,
    /// It survives.
    Certain,
}

/// A name that was made or removed.
#[derive(Clone, Debug)]
pub(super) struct Naming {
    pub(super) name: BlobName,
    file: u64,
    verb: Verb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Make,
    Remove,
}

/// A change of the bytes of a blob.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Bytes; `lengthened` when the blob ended before they do.
    Write {
        at: u64,
        bytes: Arc<[u8]>,
        lengthened: bool,
    },
    Length(u64),
    Punch(Range<u64>),
}

impl PowerCut {
    /// A disk on which all that the store holds is durable.
    pub(super) fn settled(store: &MemoryStore, file_system: FileSystem) -> Self {
        let mut cut = Self { file_system, ..Self::default() };
        for (name, number, durable) in store.blobs() {
            cut.names.insert(name, number);
            let length = durable.length();
            cut.files.insert(number, File { durable, pending: Vec::new(), length });
        }
        cut
    }

    /// Goes past one event.
    pub(super) fn pass(&mut self, event: &DiskEvent) {
        let file = event.file;
        match &event.change {
            DiskChange::Create => {
                self.files.insert(file, File::default());
                self.name(event, Verb::Make);
            }
            DiskChange::Remove => self.name(event, Verb::Remove),
            DiskChange::Write { at, bytes } => {
                let (at, bytes) = (at.as_u64(), Arc::clone(bytes));
                self.change(file, |length| {
                    let lengthened = at + bytes.len() as u64 > *length;
                    *length = (*length).max(at + bytes.len() as u64);
                    Change::Write { at, bytes, lengthened }
                });
            }
            DiskChange::SetLength(new) => self.change(file, |length| {
                *length = new.as_u64();
                Change::Length(*length)
            }),
            DiskChange::Punch { at, length } => {
                let end = at.as_u64().saturating_add(length.as_u64());
                self.change(file, |_| Change::Punch(at.as_u64()..end));
            }
            DiskChange::Sync => {
                if let Some(file) = self.files.get_mut(&file) {
                    file.sync();
                }
                if self.file_system == FileSystem::Ext4Like {
                    let last = self.names_pending.iter().rposition(|naming| naming.what.file == file);
                    self.sync_names(last.map_or(0, |last| last + 1));
                }
            }
            DiskChange::SyncFailed => {
                if let Some(file) = self.files.get_mut(&file) {
                    set_adrift(&mut file.pending);
                }
            }
            DiskChange::SyncNames => self.sync_names(self.names_pending.len()),
            DiskChange::SyncNamesFailed => set_adrift(&mut self.names_pending),
        }
    }

    fn name(&mut self, event: &DiskEvent, verb: Verb) {
        let Some(name) = event.name.clone() else { return };
        let what = Naming { name, file: event.file, verb };
        self.names_pending.push(Pending { order: self.asked, what, fate: Fate::Open });
        self.asked += 1;
    }

    fn change(&mut self, file: u64, make: impl FnOnce(&mut u64) -> Change) {
        // A blob without a name, now and after every power cut, is nobody's.
        let Some(file) = self.files.get_mut(&file) else { return };
        let what = make(&mut file.length);
        file.pending.push(Pending { order: self.asked, what, fate: Fate::Open });
        self.asked += 1;
    }

    /// Makes the first so many pending names certain.
    fn sync_names(&mut self, count: usize) {
        cover(&mut self.names_pending[..count]);
        let certain = leading_certain(&self.names_pending);
        for naming in self.names_pending.drain(..certain) {
            naming.what.apply(&mut self.names);
        }
        let named = |file: &u64| {
            self.names.values().any(|number| number == file)
                || self.names_pending.iter().any(|naming| naming.what.file == *file)
        };
        if certain > 0 {
            let gone: Vec<u64> = self.files.keys().copied().filter(|file| !named(file)).collect();
            gone.iter().for_each(|file| drop(self.files.remove(file)));
        }
    }

    /// Whether the name is durable and nothing is pending of the blob under it.
    #[must_use]
    pub fn is_durable(&self, name: &BlobName) -> bool {
        let mut number = self.names.get(name).copied();
        for naming in self.names_pending.iter().filter(|naming| naming.what.name == *name) {
            // What is certain waits here only for another name, whose own sync has failed.
            number = match (naming.fate, naming.what.verb) {
                (Fate::Certain, Verb::Make) => Some(naming.what.file),
                (Fate::Certain, Verb::Remove) => None,
                (Fate::Open | Fate::Adrift, _) => return false,
            };
        }
        let file = number.and_then(|number| self.files.get(&number));
        file.is_some_and(|file| file.pending.is_empty())
    }

    /// Whether nothing at all is pending: there is one possible state.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.names_pending.is_empty() && self.files.values().all(|file| file.pending.is_empty())
    }

    /// What is sure to be left, and nothing else.
    #[must_use]
    pub fn durable(&self) -> CrashState {
        CrashState::of(self, Choice::Nothing)
    }

    /// What reads answer at this instant: everything is left.
    #[must_use]
    pub fn everything(&self) -> CrashState {
        CrashState::of(self, Choice::Everything)
    }

    /// The states that the disk may be found in, within bounds.
    #[must_use]
    pub fn states(&self, bounds: Bounds) -> CrashStates {
        CrashStates::of(self.clone(), bounds)
    }

    /// The state that one choice leaves.
    #[must_use]
    pub fn state(&self, choice: Choice) -> CrashState {
        CrashState::of(self, choice)
    }

    /// What may survive or not, in the order in which it was asked.
    pub(super) fn operations(&self) -> Vec<Operation> {
        let namings = self.names_pending.iter().enumerate();
        let mut found: Vec<(u64, Operation)> = namings
            .filter(|(_, naming)| naming.fate != Fate::Certain)
            .map(|(index, naming)| (naming.order, Operation { file: None, index, first: 0, parts: 1 }))
            .collect();
        for (number, file) in &self.files {
            for (index, pending) in file.pending.iter().enumerate() {
                if pending.fate != Fate::Certain {
                    let parts = pending.what.parts();
                    found.push((pending.order, Operation { file: Some(*number), index, first: 0, parts }));
                }
            }
        }
        found.sort_unstable_by_key(|(order, _)| *order);
        let mut first = 0;
        let counted = found.into_iter().map(|(_, operation)| {
            let operation = Operation { first, ..operation };
            first += operation.parts;
            operation
        });
        counted.collect()
    }
}

impl File {
    fn sync(&mut self) {
        cover(&mut self.pending);
        let certain = leading_certain(&self.pending);
        for pending in self.pending.drain(..certain) {
            pending.what.apply(&mut self.durable, |_| true);
        }
    }
}

fn cover<T>(pending: &mut [Pending<T>]) {
    for pending in pending.iter_mut().filter(|pending| pending.fate == Fate::Open) {
        pending.fate = Fate::Certain;
    }
}

fn set_adrift<T>(pending: &mut [Pending<T>]) {
    for pending in pending.iter_mut().filter(|pending| pending.fate == Fate::Open) {
        pending.fate = Fate::Adrift;
    }
}

fn leading_certain<T>(pending: &[Pending<T>]) -> usize {
    pending.iter().take_while(|pending| pending.fate == Fate::Certain).count()
}

impl Naming {
    pub(super) fn apply(&self, names: &mut BTreeMap<BlobName, u64>) {
        match self.verb {
            Verb::Make => drop(names.insert(self.name.clone(), self.file)),
            Verb::Remove => {
                // Another blob may have got the name while its removal from this one was lost.
                if names.get(&self.name) == Some(&self.file) {
                    names.remove(&self.name);
                }
            }
        }
    }
}

impl Change {
    /// Into how many parts a power cut breaks it: the length, and each sector.
    fn parts(&self) -> usize {
        match self {
            Self::Length(_) | Self::Punch(_) => 1,
            Self::Write { at, bytes, lengthened } => {
                usize::from(*lengthened) + sectors(*at, bytes.len()).count()
            }
        }
    }

    /// Does those parts of it that survive.
    pub(super) fn apply(&self, target: &mut Sparse, survives: impl Fn(usize) -> bool) {
        match self {
            Self::Length(length) if survives(0) => target.set_length(*length),
            Self::Punch(range) if survives(0) => target.punch(range.clone()),
            Self::Length(_) | Self::Punch(_) => {}
            Self::Write { at, bytes, lengthened } => {
                let end = at + bytes.len() as u64;
                if *lengthened && survives(0) && target.length() < end {
                    target.set_length(end);
                }
                for (part, sector) in (usize::from(*lengthened)..).zip(sectors(*at, bytes.len())) {
                    if survives(part) {
                        target.write(at + sector.start as u64, &bytes[sector]);
                    }
                }
            }
        }
    }
}

/// Cuts the `length` bytes from `at` on at the borders of sectors.
fn sectors(at: u64, length: usize) -> impl Iterator<Item = Range<usize>> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let left = length - done;
        let to_border = usize::try_from(SECTOR - (at + done as u64) % SECTOR).expect("at most 512");
        let start = done;
        done += to_border.min(left);
        (left > 0).then_some(start..done)
    })
}
