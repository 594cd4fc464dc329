//! How many files are open at once: a chain may have more layers than a process may have descriptors.
//!
//! Only blobs that are open for reading take part. What is written stays open.
//!
//! * **F1** When more are open than there may be, the one that was left alone for longest is closed, about: one that was
//!   used since it was looked at last is passed over once.
//! * **F2** A closed one is opened again, by its name, when it is needed. Another file under that name is an error.
//! * **F3** Before a name is removed its blobs are opened, and stay open (promise B6).
//! * **F4** A closed file holds no image lock. It is taken again with the file: who writes to it by then is named.

use super::super::{Access, BlobName, Error, Hold, Identity, Operation, Result};
use super::directory::{Directory, Opened};
use super::image_lock::{HeldLocks, ImageHold};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use parking_lot::{Mutex, RwLock};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// How many are open at least, whatever is asked for.
const LEAST: usize = 1;
/// How many entries of what is gone a table has at least before they are swept out.
const SPARE: usize = 16;

/// The files of a store that may be closed and opened again.
#[derive(Debug)]
pub(super) struct Descriptors {
    directory: Arc<Directory>,
    most: usize,
    /// Held for reading while a file is opened and entered, for writing while a name is removed (F3).
    removals: RwLock<()>,
    table: Mutex<Table>,
    /// How many are open.
    open: AtomicUsize,
}

#[derive(Debug, Default)]
struct Table {
    /// Those that are open, in the order in which they are looked at, and some that are no more.
    open: VecDeque<Weak<Seat>>,
    /// All there are, by their names.
    named: HashMap<BlobName, Vec<Weak<Seat>>>,
    /// How many names the table may have before the unused ones are swept out.
    sweep_at: usize,
}

/// The place of one file: open, or to be opened again.
#[derive(Debug)]
pub(super) struct Seat {
    itself: Weak<Self>,
    descriptors: Arc<Descriptors>,
    name: BlobName,
    identity: Identity,
    /// The locks of all blobs of the store; `None` when it takes none.
    locks: Option<Arc<HeldLocks>>,
    used: AtomicBool,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    file: Option<Arc<File>>,
    stays: Stays,
    wanted: Option<Hold>,
    held: Option<ImageHold>,
}

/// Whether a file may be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stays {
    WhileUsed,
    /// Its name is gone, or about to go.
    Open,
}

/// Half of what the process may have open, so that as much is left for everything else.
pub(super) fn most_by_default() -> usize {
    let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(soft / 2).unwrap_or(usize::MAX)
}

impl Descriptors {
    pub(super) fn new(directory: Arc<Directory>, most: usize) -> Self {
        Self {
            directory,
            most: most.max(LEAST),
            removals: RwLock::default(),
            table: Mutex::default(),
            open: AtomicUsize::new(0),
        }
    }

    /// Opens a file for reading.
    pub(super) fn open(
        self: &Arc<Self>,
        name: &BlobName,
        locks: Option<Arc<HeldLocks>>,
    ) -> Result<(Arc<Seat>, Opened)> {
        let _not_removed = self.removals.read();
        let opened = self.open_file(name)?;
        let seat = Arc::new_cyclic(|itself| Seat {
            itself: Weak::clone(itself),
            descriptors: Arc::clone(self),
            name: name.clone(),
            identity: opened.identity(),
            locks,
            used: AtomicBool::new(true),
            state: RwLock::new(State { file: None, stays: Stays::WhileUsed, wanted: None, held: None }),
        });
        seat.fill(&mut seat.state.write(), &opened.file);
        let mut table = self.table.lock();
        table.sweep();
        table.named.entry(name.clone()).or_default().push(Arc::downgrade(&seat));
        Ok((seat, opened))
    }

    /// Removes a name (F3).
    pub(super) fn remove(&self, name: &BlobName) -> Result<()> {
        let _alone = self.removals.write();
        let seats = self.table.lock().named.get(name).cloned().unwrap_or_default();
        for seat in seats.iter().filter_map(Weak::upgrade) {
            let mut state = seat.state.write();
            if state.file.is_none() {
                // Without a name nobody else finds it, and who has it open by now takes nothing from its readers.
                state.wanted = None;
            }
            // What is another file by now is lost already.
            if seat.filled(&mut state).is_ok() {
                state.stays = Stays::Open;
            }
        }
        self.directory.remove(name)?;
        self.table.lock().named.remove(name);
        Ok(())
    }

    /// Opens a file; where the process has none to spare, half of those that may be closed are.
    fn open_file(&self, name: &BlobName) -> Result<Opened> {
        match self.directory.open_file(name, Access::Read) {
            Err(Error::Io { source, .. }) if is_short(&source) => {
                self.close_down_to(self.open.load(Ordering::Relaxed) / 2);
                self.directory.open_file(name, Access::Read)
            }
            opened => opened,
        }
    }

    /// Closes files until no more than `most` are open. Those that somebody is at right now are let be.
    fn close_down_to(&self, most: usize) {
        let table = &mut *self.table.lock();
        // Twice round: the first time may only find that all have been used.
        for _ in 0..2 * table.open.len() {
            if self.open.load(Ordering::Relaxed) <= most {
                break;
            }
            let Some(weak) = table.open.pop_front() else { break };
            let Some(seat) = weak.upgrade() else { continue };
            if seat.used.swap(false, Ordering::Relaxed) || !seat.close() {
                table.open.push_back(weak);
            }
        }
        if table.open.len() > 2 * self.open.load(Ordering::Relaxed) + SPARE {
            table.open.retain(|seat| seat.strong_count() > 0);
        }
    }
}

/// Whether nobody here, or in the whole system, may open one more file.
fn is_short(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE))
}

impl Table {
    fn sweep(&mut self) {
        if self.named.len() < self.sweep_at {
            return;
        }
        self.named.retain(|_, seats| {
            seats.retain(|seat| seat.strong_count() > 0);
            !seats.is_empty()
        });
        self.sweep_at = 2 * self.named.len() + SPARE;
    }
}

impl Seat {
    pub(super) fn name(&self) -> &BlobName {
        &self.name
    }

    /// The file, open as long as the answer lives.
    pub(super) fn file(&self) -> Result<Arc<File>> {
        if let Some(file) = &self.state.read().file {
            // Looked at first: a line that is only read stays with every processor.
            if !self.used.load(Ordering::Relaxed) {
                self.used.store(true, Ordering::Relaxed);
            }
            return Ok(Arc::clone(file));
        }
        let _not_removed = self.descriptors.removals.read();
        self.filled(&mut self.state.write())
    }

    /// Holds the file (F4), or says who stands against it.
    pub(super) fn hold(&self, hold: Hold) -> Result<()> {
        let Some(locks) = &self.locks else { return Ok(()) };
        let _not_removed = self.descriptors.removals.read();
        let mut state = self.state.write();
        let file = self.filled(&mut state)?;
        let held = locks.hold(&self.name, self.identity, &file, hold)?;
        // The new hold stands before the old one is given up.
        state.held = Some(held);
        state.wanted = Some(hold);
        Ok(())
    }

    /// The file, opened again if it was closed (F2, F4). The caller keeps its name from being removed.
    fn filled(&self, state: &mut State) -> Result<Arc<File>> {
        if let Some(file) = &state.file {
            return Ok(Arc::clone(file));
        }
        let opened = self.descriptors.open_file(&self.name)?;
        if opened.identity() != self.identity {
            return Err(Error::failed(Operation::Open, &self.name, Errno::ESTALE.into()));
        }
        state.held = match (&self.locks, state.wanted) {
            (Some(locks), Some(hold)) => Some(locks.hold(&self.name, self.identity, &opened.file, hold)?),
            _ => None,
        };
        self.fill(state, &opened.file);
        Ok(opened.file)
    }

    /// Enters a file that has been opened; closes others when there are too many (F1).
    fn fill(&self, state: &mut State, file: &Arc<File>) {
        state.file = Some(Arc::clone(file));
        self.used.store(true, Ordering::Relaxed);
        self.descriptors.table.lock().open.push_back(Weak::clone(&self.itself));
        self.descriptors.open.fetch_add(1, Ordering::Relaxed);
        self.descriptors.close_down_to(self.descriptors.most);
    }

    /// Closes the file, unless it has to stay open or somebody is at it.
    fn close(&self) -> bool {
        let Some(mut state) = self.state.try_write() else { return false };
        if state.stays == Stays::Open {
            return false;
        }
        state.held = None;
        if state.file.take().is_some() {
            self.descriptors.open.fetch_sub(1, Ordering::Relaxed);
        }
        true
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.state.get_mut().file.is_some() {
            self.descriptors.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
