//! Every call of [`Store`] and [`Blob`], taken into the log of a simulated disk.

use super::super::memory::MemoryStore;
use super::super::{Access, Blob, BlobName, Hold, Holder, Identity, Owned, Result, Stamp, Store, copy};
use super::cut::{FileSystem, PowerCut};
use super::log::{DiskChange, DiskEvent, DiskLog};
use crate::units::{ByteCount, HostOffset};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;

/// A store in memory whose power can be cut at any instant. Clones are the same disk.
///
/// Reads see every write at once. A log of all changes and syncs is kept, and [`DiskLog`] answers what a power cut may
/// have left after any of them. The log holds every byte that was written: the disk is for tests.
///
/// Run a program once; then open what each power cut leaves, and see that what was promised is there:
///
/// ```
/// use snapgroup::storage::{Access, Blob, BlobName, Bounds, FileSystem, Result, SimulatedDisk, Store};
/// use snapgroup::units::HostOffset;
///
/// fn program(disk: &SimulatedDisk, name: &BlobName) -> Result<()> {
///     let blob = disk.create(name)?;
///     blob.write_at(HostOffset::ZERO, b"remember")?;
///     blob.sync()?;
///     disk.sync_names()
/// }
///
/// let disk = SimulatedDisk::new(FileSystem::Strict);
/// let name = BlobName::parse("notes").expect("one component");
/// program(&disk, &name)?;
/// let acknowledged = disk.position();
///
/// let mut lost = 0;
/// for (instant, cut) in disk.log().cuts(0) {
///     for state in cut.states(Bounds::default()) {
///         let mut found = [0; 8];
///         let blob = state.store().open(&name, Access::Read);
///         let is_there = blob.and_then(|blob| blob.read_at(HostOffset::ZERO, &mut found)).is_ok();
///         assert!(instant < acknowledged || (is_there && found == *b"remember"));
///         lost += u32::from(!is_there);
///     }
/// }
/// assert!(lost > 0, "before that it may be lost");
/// # Ok::<(), snapgroup::storage::Error>(())
/// ```
///
/// Another example is at [`PowerCut`].
#[derive(Clone, Debug)]
pub struct SimulatedDisk {
    /// What reads see.
    live: MemoryStore,
    /// Held during every change, so that the log has them in the order in which they took place.
    log: Arc<Mutex<DiskLog>>,
}

impl SimulatedDisk {
    /// Makes an empty disk.
    #[must_use]
    pub fn new(file_system: FileSystem) -> Self {
        Self::over(&MemoryStore::new(), file_system)
    }

    /// Makes a disk that holds what a store holds now, all of it durable; what is done to one is not seen in the other.
    #[must_use]
    pub fn over(store: &MemoryStore, file_system: FileSystem) -> Self {
        let live = store.fork();
        let start = PowerCut::settled(&live, file_system);
        Self { live, log: Arc::new(Mutex::new(DiskLog::beginning_with(start))) }
    }

    /// What was asked so far.
    #[must_use]
    pub fn log(&self) -> DiskLog {
        self.log.lock().clone()
    }

    /// How many events there were so far: the instant that is now.
    #[must_use]
    pub fn position(&self) -> usize {
        self.log.lock().events().len()
    }

    /// A copy of what reads see now, in which nothing is pending.
    #[must_use]
    pub fn live(&self) -> MemoryStore {
        self.live.fork()
    }

    /// What was to be synced under this name may never be durable.
    pub(super) fn lose(&self, name: &BlobName, identity: Identity) {
        let change = DiskChange::SyncFailed;
        self.log.lock().push(DiskEvent { name: Some(name.clone()), change, file: identity.number });
    }

    /// No name that is not durable yet need ever be.
    pub(super) fn lose_names(&self) {
        self.log.lock().push(DiskEvent::of_names(DiskChange::SyncNamesFailed));
    }

    fn blob(&self, name: &BlobName, live: Arc<dyn Blob>) -> Arc<dyn Blob> {
        Arc::new(DiskBlob { name: name.clone(), live, log: Arc::clone(&self.log) })
    }
}

impl Store for SimulatedDisk {
    fn create(&self, name: &BlobName) -> Result<Arc<dyn Blob>> {
        let mut log = self.log.lock();
        let live = self.live.create(name)?;
        let file = live.identity().number;
        log.push(DiskEvent { name: Some(name.clone()), change: DiskChange::Create, file });
        drop(log);
        Ok(self.blob(name, live))
    }

    fn open(&self, name: &BlobName, access: Access) -> Result<Arc<dyn Blob>> {
        Ok(self.blob(name, self.live.open(name, access)?))
    }

    fn remove(&self, name: &BlobName) -> Result<()> {
        let mut log = self.log.lock();
        let file = self.live.open(name, Access::Read)?.identity().number;
        self.live.remove(name)?;
        log.push(DiskEvent { name: Some(name.clone()), change: DiskChange::Remove, file });
        Ok(())
    }

    fn list(&self) -> Result<Vec<BlobName>> {
        self.live.list()
    }

    fn sync_names(&self) -> Result<()> {
        self.log.lock().push(DiskEvent::of_names(DiskChange::SyncNames));
        Ok(())
    }

    fn lock(&self) -> Result<Box<dyn Owned>> {
        self.live.lock()
    }

    fn location(&self, name: &BlobName) -> String {
        format!("simulated:{name}")
    }
}

/// A blob whose changes go into the log of its disk.
#[derive(Debug)]
struct DiskBlob {
    name: BlobName,
    live: Arc<dyn Blob>,
    log: Arc<Mutex<DiskLog>>,
}

impl DiskBlob {
    /// Makes a change and notes it, unless it is refused.
    fn change(&self, run: impl FnOnce() -> Result<()>, change: impl FnOnce() -> DiskChange) -> Result<()> {
        let mut log = self.log.lock();
        run()?;
        let file = self.live.identity().number;
        log.push(DiskEvent { name: Some(self.name.clone()), change: change(), file });
        Ok(())
    }
}

impl Blob for DiskBlob {
    fn length(&self) -> Result<ByteCount> {
        self.live.length()
    }

    fn read_at(&self, at: HostOffset, buffer: &mut [u8]) -> Result<()> {
        self.live.read_at(at, buffer)
    }

    fn write_at(&self, at: HostOffset, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return self.live.write_at(at, bytes);
        }
        self.change(|| self.live.write_at(at, bytes), || DiskChange::Write { at, bytes: bytes.into() })
    }

    fn copy_from(
        &self,
        at: HostOffset,
        source: &dyn Blob,
        from: HostOffset,
        length: ByteCount,
    ) -> Result<()> {
        // As reads and writes: the log has the bytes.
        copy::plainly(self, at, source, from, length)
    }

    fn next_data(&self, from: HostOffset) -> Result<Option<Range<HostOffset>>> {
        self.live.next_data(from)
    }

    fn set_length(&self, length: ByteCount) -> Result<()> {
        self.change(|| self.live.set_length(length), || DiskChange::SetLength(length))
    }

    fn punch(&self, at: HostOffset, length: ByteCount) -> Result<()> {
        self.change(|| self.live.punch(at, length), || DiskChange::Punch { at, length })
    }

    fn sync(&self) -> Result<()> {
        self.change(|| self.live.sync(), || DiskChange::Sync)
    }

    fn allocated(&self) -> Result<ByteCount> {
        self.live.allocated()
    }

    fn stamp(&self) -> Result<Option<Stamp>> {
        self.live.stamp()
    }

    fn identity(&self) -> Identity {
        self.live.identity()
    }

    fn writer_elsewhere(&self) -> Result<Option<Holder>> {
        self.live.writer_elsewhere()
    }

    fn hold(&self, hold: Hold) -> Result<()> {
        self.live.hold(hold)
    }
}
