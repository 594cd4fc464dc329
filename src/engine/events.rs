//! What happens in a pool, told to whoever listens: every operation when it begins and ends, every change of the books
//! once it is durable, and how far long work has come.

use super::error::Result;
use super::generation::Generation;
use super::operation::{Operation, Outcome, RunId};
use super::pool::Pool;
use super::spans;
use crate::catalog::{Edit, Reader};
use crate::units::ByteCount;
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

/// What happened.
#[doc = include_str!("examples/events.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An operation begins.
    Began {
        /// Which one.
        operation: Operation,
        /// Which run of it.
        run: RunId,
    },
    /// An operation has ended; what it has changed was told before.
    Ended {
        /// Which one.
        operation: Operation,
        /// Which run of it.
        run: RunId,
        /// How.
        outcome: Outcome,
    },
    /// A commit of the catalogue has changed the books, durably: all of these changes at once.
    Changed {
        /// The generation of the catalogue before it: a [`Planned`](super::Planned) of this or an earlier generation is
        /// stale now.
        after: Generation,
        /// What changed. Never empty.
        changes: Vec<BookChange>,
    },
    /// Bytes were copied or read by work that may take long.
    Progress {
        /// Which work.
        work: Work,
        /// The bytes that are done.
        done: ByteCount,
        /// The bytes that there are to be done, as far as is known; [`Work`] says which.
        total: ByteCount,
    },
}

/// A record that has changed.
#[doc = include_str!("examples/events.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BookChange {
    /// What it is.
    pub what: BookEntry,
    /// Its uuid.
    pub uuid: Uuid,
    /// What became of it.
    pub how: Became,
}

/// What a record of the books can be.
#[doc = include_str!("examples/events.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BookEntry {
    /// A machine.
    Machine,
    /// A volume.
    Volume,
    /// A snapshot.
    Snapshot,
    /// A group.
    Group,
}

/// What became of a record.
#[doc = include_str!("examples/events.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Became {
    /// It was not there before.
    Created,
    /// It was there, and is otherwise now. A volume changes with every snapshot of it: it has another head.
    Changed,
    /// It is gone.
    Removed,
}

/// Work that may take long.
#[doc = include_str!("examples/events.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Work {
    /// Bytes of deleted snapshots are dealt with: what is copied.
    Reclaim,
    /// A snapshot is written to a file: what is written.
    Export,
    /// A file is copied into a volume: what is written.
    Import,
    /// Frozen layers are read for their checksums: what is read.
    Seal,
    /// Frozen layers are compared with their checksums: what the files take up that were dealt with, be it that they were
    /// read or only looked at.
    Verify,
    /// Layers are checked: what the files take up whose tables were read.
    Check,
    /// Layers are repaired: what the files take up whose tables were read, and mended.
    Repair,
}

/// Who is told of what happens in a pool: nobody, unless said otherwise.
///
/// The listener is called by the thread that does the work, which may hold the machines that it is about. So it must
/// not call the pool, and it should be quick: put the event into a channel. A listener that panics takes the call with
/// it; a change that it was told of is durable by then.
///
/// ```
/// use snapgroup::{CreateMachine, Engine, Event, Listener, Options};
/// use std::sync::mpsc;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (tell, told) = mpsc::channel();
/// let listener = Listener::new(move |event| drop(tell.send(event.clone())));
/// let engine = Engine::in_memory(Options { listener, ..Options::default() })?;
///
/// let machine = engine.create_machine(&CreateMachine::new("web-1"))?;
/// let changed: Vec<_> = told
///     .try_iter()
///     .filter_map(|event| if let Event::Changed { changes, .. } = event { Some(changes) } else { None })
///     .collect();
/// assert_eq!(changed[0][0].uuid, machine.uuid);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Listener(Option<Arc<Told>>);

type Told = dyn Fn(&Event) + Send + Sync;

impl Listener {
    /// Someone who is told.
    #[must_use]
    pub fn new(told: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(told)))
    }

    /// Tells of an event, which is made only when somebody listens.
    pub(super) fn tell(&self, event: impl FnOnce() -> Event) {
        if let Some(told) = &self.0 {
            told(&event());
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Listener" } else { "nobody" })
    }
}

/// Two are equal if they are one, or both nobody.
impl PartialEq for Listener {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }
}

impl Eq for Listener {}

/// What a commit will have changed, worked out before it.
pub(super) struct Untold {
    after: Generation,
    changes: Vec<BookChange>,
}

impl Pool {
    /// Whether anybody is told of anything.
    pub(super) fn is_listened_to(&self) -> bool {
        self.options.listener.0.is_some() || spans::is_listened_to()
    }

    /// What these edits change of what callers know; nothing when nobody listens.
    pub(super) fn untold(&self, edits: &[Edit]) -> Result<Option<Untold>> {
        if !self.is_listened_to() {
            return Ok(None);
        }
        let reader = self.read()?;
        let mut changes = Vec::new();
        for edit in edits {
            changes.extend(change(&reader, edit)?);
        }
        Ok((!changes.is_empty()).then(|| Untold { after: Generation(reader.generation()), changes }))
    }

    /// Tells of a commit that took place.
    pub(super) fn tell_changed(&self, untold: Option<Untold>) {
        let Some(Untold { after, changes }) = untold else { return };
        changes.iter().for_each(spans::changed);
        self.options.listener.tell(|| Event::Changed { after, changes });
    }

    /// Tells how far work has come.
    pub(super) fn tell_progress(&self, work: Work, done: ByteCount, total: ByteCount) {
        spans::progress(work, done, total);
        self.options.listener.tell(|| Event::Progress { work, done, total });
    }
}

fn change(reader: &Reader, edit: &Edit) -> Result<Option<BookChange>> {
    let put = |was_there: bool| if was_there { Became::Changed } else { Became::Created };
    let (what, uuid, how) = match edit {
        Edit::PutMachine(it) => (BookEntry::Machine, it.uuid, put(reader.machine(it.id)?.is_some())),
        Edit::PutVolume(it) => (BookEntry::Volume, it.uuid, put(reader.volume(it.id)?.is_some())),
        Edit::PutSnapshot(it) => (BookEntry::Snapshot, it.uuid, put(reader.snapshot(it.id)?.is_some())),
        Edit::PutGroup(it) => (BookEntry::Group, it.uuid, put(reader.group(it.id)?.is_some())),
        Edit::RemoveMachine(id) => {
            let Some(it) = reader.machine(*id)? else { return Ok(None) };
            (BookEntry::Machine, it.uuid, Became::Removed)
        }
        Edit::RemoveVolume(id) => {
            let Some(it) = reader.volume(*id)? else { return Ok(None) };
            (BookEntry::Volume, it.uuid, Became::Removed)
        }
        Edit::RemoveSnapshot(id) => {
            let Some(it) = reader.snapshot(*id)? else { return Ok(None) };
            (BookEntry::Snapshot, it.uuid, Became::Removed)
        }
        Edit::RemoveGroup(id) => {
            let Some(it) = reader.group(*id)? else { return Ok(None) };
            (BookEntry::Group, it.uuid, Became::Removed)
        }
        // Files, trees and refs are seen through what they belong to.
        _ => return Ok(None),
    };
    Ok(Some(BookChange { what, uuid, how }))
}
