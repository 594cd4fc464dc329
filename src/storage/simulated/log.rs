//! The log of a simulated disk as a value.

use super::super::BlobName;
use super::cut::{FileSystem, PowerCut};
use crate::units::{ByteCount, HostOffset};
use std::sync::Arc;

/// One thing that was asked of a simulated disk and that bears on what a power cut may leave.
///
/// An example is at [`PowerCut`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskEvent {
    /// The blob, by the name that it was made or opened under; `None` for what is about all names.
    pub name: Option<BlobName>,
    /// What was asked.
    pub change: DiskChange,
    /// The number of the blob, which no other one has; 0 for what is about all names.
    pub(super) file: u64,
}

/// What was asked of a simulated disk.
///
/// An example is at [`PowerCut`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskChange {
    /// A new blob.
    Create,
    /// A name less.
    Remove,
    /// Bytes.
    Write {
        /// Where.
        at: HostOffset,
        /// Which.
        bytes: Arc<[u8]>,
    },
    /// Another length.
    SetLength(ByteCount),
    /// A hole.
    Punch {
        /// Where.
        at: HostOffset,
        /// How long.
        length: ByteCount,
    },
    /// A sync of the blob that succeeded.
    Sync,
    /// A sync of the blob that failed: what it was for may never be durable.
    SyncFailed,
    /// A sync of the names that succeeded.
    SyncNames,
    /// A sync of the names that failed: what it was for may never be durable.
    SyncNamesFailed,
}

impl DiskEvent {
    pub(super) fn of_names(change: DiskChange) -> Self {
        Self { name: None, change, file: 0 }
    }

    /// Whether this is a sync that succeeded, of a blob or of the names.
    #[must_use]
    pub fn is_sync(&self) -> bool {
        matches!(self.change, DiskChange::Sync | DiskChange::SyncNames)
    }
}

/// What a simulated disk was asked, in order, from a state that was durable on.
///
/// An *instant* is a number of events: those before it have happened, the others have not.
///
/// An example is at [`PowerCut`].
#[derive(Clone, Debug)]
pub struct DiskLog {
    start: PowerCut,
    events: Vec<DiskEvent>,
}

impl DiskLog {
    pub(super) fn beginning_with(start: PowerCut) -> Self {
        Self { start, events: Vec::new() }
    }

    pub(super) fn push(&mut self, event: DiskEvent) {
        self.events.push(event);
    }

    /// What was asked.
    #[must_use]
    pub fn events(&self) -> &[DiskEvent] {
        &self.events
    }

    /// Each instant from `from` on, the one before the next event first and the one after the last event last, with
    /// what a power cut then may leave.
    pub fn cuts(&self, from: usize) -> impl Iterator<Item = (usize, PowerCut)> + use<'_> {
        let mut cut = self.start.clone();
        let (before, after) = self.events.split_at(from.min(self.events.len()));
        before.iter().for_each(|event| cut.pass(event));
        let mut next = after.iter();
        let mut instant = Some(before.len());
        std::iter::from_fn(move || {
            let here = (instant?, cut.clone());
            instant = next.next().map(|event| {
                cut.pass(event);
                here.0 + 1
            });
            Some(here)
        })
    }

    /// What a power cut may leave after that many events, or after the last one.
    #[must_use]
    pub fn cut(&self, instant: usize) -> PowerCut {
        let mut cut = self.start.clone();
        self.events.iter().take(instant).for_each(|event| cut.pass(event));
        cut
    }

    /// The same log on a file system of another kind.
    #[must_use]
    pub fn on(&self, file_system: FileSystem) -> Self {
        let mut other = self.clone();
        other.start.file_system = file_system;
        other
    }

    /// The same log without one event, as a negative control: a sync that was left out must be missed by somebody.
    ///
    /// # Panics
    ///
    /// When there is no such event.
    #[must_use]
    pub fn without(&self, event: usize) -> Self {
        let mut other = self.clone();
        other.events.remove(event);
        other
    }

    /// The same log with one event elsewhere, as a negative control: `from` happens where `to` stood.
    ///
    /// # Panics
    ///
    /// When one of them is not there.
    #[must_use]
    pub fn moved(&self, from: usize, to: usize) -> Self {
        let mut other = self.clone();
        let event = other.events.remove(from);
        other.events.insert(to, event);
        other
    }
}
