//! A store that notes what its user looks at of that which was there before, and what it changes.
//!
//! * **W1** What a user is told that is not the consequence of its own calls is a [`Look`], and each look is noted once:
//!   whoever does the same whenever it is told the same does the same in every store in which these looks show the same.
//! * **W2** The changes, made in this order in such a store, leave what the user left.
//! * **W3** When something was asked that is neither, the notes say nothing: [`Notes::seen`] answers none.

use snapgroup::storage::{
    Access, Blob, BlobName, CrashState, Hold, Holder, Identity, MemoryStore, Owned, Result, Stamp, Store,
};
use snapgroup::units::{ByteCount, HostOffset};
use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

/// The unit of what is looked at of a blob's bytes, as [`snapgroup::storage::CrashBlob::digest_of_page`] has it.
const PAGE: u64 = 4096;

/// Something that can be seen of a store as it was found. Its blobs are counted in the order of their names, which are
/// seen before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Look {
    Length(usize),
    Page(usize, u64),
    /// All bytes, and which of them are held.
    All(usize),
}

impl Look {
    /// What is seen in a state.
    pub(crate) fn at(self, state: &CrashState) -> Option<u128> {
        let blobs = state.blobs();
        match self {
            Self::Length(blob) => Some(blobs[blob].length().as_u64().into()),
            Self::Page(blob, page) => blobs[blob].digest_of_page(page),
            Self::All(blob) => Some(blobs[blob].digest()),
        }
    }
}

/// A change that was made.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Create(BlobName),
    Remove(BlobName),
    Write(BlobName, HostOffset, Box<[u8]>),
    SetLength(BlobName, ByteCount),
    Punch(BlobName, HostOffset, ByteCount),
}

impl Change {
    /// Makes the change once more, in another store.
    fn repeat(&self, store: &MemoryStore) -> Result<()> {
        let open = |name| store.open(name, Access::Write);
        match self {
            Self::Create(name) => store.create(name).map(drop),
            Self::Remove(name) => store.remove(name),
            Self::Write(name, at, bytes) => open(name)?.write_at(*at, bytes),
            Self::SetLength(name, length) => open(name)?.set_length(*length),
            Self::Punch(name, at, length) => open(name)?.punch(*at, *length),
        }
    }
}

/// What was seen and what was done.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) looks: Vec<Look>,
    changes: Vec<Change>,
}

impl Seen {
    /// The number of all blobs but the one whose changes are not noted, once those of the others are made in a state in
    /// which the same is seen.
    pub(crate) fn digest_after(&self, state: &CrashState, but: &BlobName) -> u128 {
        if self.changes.is_empty() {
            return state.digest_without(but);
        }
        let store = state.store();
        self.changes
            .iter()
            .for_each(|change| change.repeat(&store).expect("in memory, and so it was done before"));
        state.digest_of_others(&store, but)
    }
}

/// What is noted.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    known: HashSet<Look>,
    looks: Vec<Look>,
    changes: Vec<Change>,
    /// How often each name was made or removed.
    renewed: HashMap<BlobName, u32>,
    is_blind: bool,
}

impl Notes {
    /// What was seen and done so far; none when something was that cannot be noted.
    pub(crate) fn seen(&self) -> Option<Seen> {
        let seen = || Seen { looks: self.looks.clone(), changes: self.changes.clone() };
        (!self.is_blind).then(seen)
    }

    fn renewed(&self, name: &BlobName) -> u32 {
        self.renewed.get(name).copied().unwrap_or(0)
    }

    fn renew(&mut self, name: &BlobName) {
        *self.renewed.entry(name.clone()).or_default() += 1;
    }

    fn look(&mut self, look: Look) {
        if self.known.insert(look) {
            self.looks.push(look);
        }
    }
}

/// The store.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    store: MemoryStore,
    /// The names that were found.
    found: Arc<Vec<BlobName>>,
    /// The blob whose changes are nobody's business.
    but: BlobName,
    notes: Arc<Mutex<Notes>>,
}

impl Witness {
    /// Notes what is done to a store from now on, but for the changes of one blob.
    pub(crate) fn of(store: &MemoryStore, but: &BlobName) -> Self {
        let found = store.list().expect("in memory");
        Self { store: store.clone(), found: Arc::new(found), but: but.clone(), notes: Arc::default() }
    }

    pub(crate) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().expect("no thread panics with it")
    }

    fn renewed(&self, name: &BlobName, change: impl FnOnce(BlobName) -> Change) {
        let mut notes = self.notes();
        notes.renew(name);
        if *name != self.but {
            notes.changes.push(change(name.clone()));
        }
    }

    fn blob(&self, name: &BlobName, inner: Arc<dyn Blob>) -> Arc<dyn Blob> {
        let (name, notes) = (name.clone(), Arc::clone(&self.notes));
        let born = self.notes().renewed(&name);
        let found = self.found.binary_search(&name).ok().filter(|_| born == 0);
        let is_noted = name != self.but;
        Arc::new(Witnessed { name, found, born, is_noted, inner, notes })
    }
}

impl Store for Witness {
    fn create(&self, name: &BlobName) -> Result<Arc<dyn Blob>> {
        let inner = self.store.create(name)?;
        self.renewed(name, Change::Create);
        Ok(self.blob(name, inner))
    }

    fn open(&self, name: &BlobName, access: Access) -> Result<Arc<dyn Blob>> {
        Ok(self.blob(name, self.store.open(name, access)?))
    }

    fn remove(&self, name: &BlobName) -> Result<()> {
        self.store.remove(name)?;
        self.renewed(name, Change::Remove);
        Ok(())
    }

    fn list(&self) -> Result<Vec<BlobName>> {
        self.store.list()
    }

    fn sync_names(&self) -> Result<()> {
        self.store.sync_names()
    }

    fn lock(&self) -> Result<Box<dyn Owned>> {
        self.store.lock()
    }

    fn location(&self, name: &BlobName) -> String {
        self.store.location(name)
    }
}

/// A blob of the store.
#[derive(Debug)]
struct Witnessed {
    name: BlobName,
    /// Where its name is among those that were found; none of a blob that was made since.
    found: Option<usize>,
    /// How often its name had been made or removed when it was opened.
    born: u32,
    /// Whether its changes are.
    is_noted: bool,
    inner: Arc<dyn Blob>,
    notes: Arc<Mutex<Notes>>,
}

impl Witnessed {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().expect("no thread panics with it")
    }

    /// Something is asked that cannot be noted.
    fn blind(&self) {
        self.notes().is_blind = true;
    }

    /// Notes what is looked at, if it was there before.
    fn look(&self, look: impl FnOnce(usize) -> Look) {
        if let Some(found) = self.found {
            self.notes().look(look(found));
        }
    }

    fn changed(&self, change: impl FnOnce(BlobName) -> Change) {
        if !self.is_noted {
            return;
        }
        let mut notes = self.notes();
        // Its name may lead to another blob by now, or to none.
        notes.is_blind |= notes.renewed(&self.name) != self.born;
        notes.changes.push(change(self.name.clone()));
    }
}

impl Blob for Witnessed {
    fn length(&self) -> Result<ByteCount> {
        self.look(Look::Length);
        self.inner.length()
    }

    fn read_at(&self, at: HostOffset, buffer: &mut [u8]) -> Result<()> {
        self.look(Look::Length);
        let end = at.as_u64() + buffer.len() as u64;
        for page in at.as_u64() / PAGE..end.div_ceil(PAGE) {
            self.look(|found| Look::Page(found, page));
        }
        self.inner.read_at(at, buffer)
    }

    fn write_at(&self, at: HostOffset, bytes: &[u8]) -> Result<()> {
        self.inner.write_at(at, bytes)?;
        self.changed(|name| Change::Write(name, at, bytes.into()));
        Ok(())
    }

    fn copy_from(
        &self,
        at: HostOffset,
        source: &dyn Blob,
        from: HostOffset,
        length: ByteCount,
    ) -> Result<()> {
        self.blind();
        self.inner.copy_from(at, source, from, length)
    }

    fn next_data(&self, from: HostOffset) -> Result<Option<Range<HostOffset>>> {
        self.look(Look::All);
        self.inner.next_data(from)
    }

    fn innermost(&self) -> Option<&dyn Any> {
        self.inner.innermost()
    }

    fn set_length(&self, length: ByteCount) -> Result<()> {
        self.inner.set_length(length)?;
        self.changed(|name| Change::SetLength(name, length));
        Ok(())
    }

    fn punch(&self, at: HostOffset, length: ByteCount) -> Result<()> {
        self.inner.punch(at, length)?;
        self.changed(|name| Change::Punch(name, at, length));
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.inner.sync()
    }

    fn allocated(&self) -> Result<ByteCount> {
        self.look(Look::All);
        self.inner.allocated()
    }

    fn stamp(&self) -> Result<Option<Stamp>> {
        self.blind();
        self.inner.stamp()
    }

    fn identity(&self) -> Identity {
        self.blind();
        self.inner.identity()
    }

    fn links(&self) -> Result<u64> {
        self.inner.links()
    }

    fn writer_elsewhere(&self) -> Result<Option<Holder>> {
        self.inner.writer_elsewhere()
    }

    fn hold(&self, hold: Hold) -> Result<()> {
        self.inner.hold(hold)
    }
}
