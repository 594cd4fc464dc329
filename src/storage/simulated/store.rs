//! Every call of [`Store`] and [`Blob`], taken through the script: counted, recorded, and failed where it says so.
//!
//! [`Blob::identity`] and [`Store::location`] cannot fail, and are neither counted nor recorded.
//!
//! A [`Blob::copy_from`] is one [`Operation::Write`] of its whole range, to the blob that is written. The source's
//! calls are its own, if it makes any: a blob takes the bytes of another one of its kind without reading them.

use super::super::{
    Access, Blob, BlobName, Error, Hold, Holder, Identity, Operation, Owned, Result, Stamp, Store,
};
use super::disk::SimulatedDisk;
use super::script::{Call, Counts, Fault, FaultKind, Script};
use crate::units::{ByteCount, HostOffset};
use parking_lot::Mutex;
use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

/// What errors call the store itself.
const STORE: &str = "the simulated store";
/// What a write that fails leaves there or not, as a whole (B11).
const WORD: u64 = 8;

/// A store that counts, records and fails the calls to the one it wraps. Clones are the same store.
///
/// Run a program once and count; then run it again for each of its calls, and let that one fail:
///
/// ```
/// use snapgroup::storage::{At, BlobName, Fault, FaultKind, MemoryStore, Operation};
/// use snapgroup::storage::{Result, SimulatedStore, Store};
/// use snapgroup::units::HostOffset;
/// use std::sync::Arc;
///
/// fn program(store: &dyn Store) -> Result<()> {
///     let blob = store.create(&BlobName::parse("notes").expect("one component"))?;
///     blob.write_at(HostOffset::ZERO, b"remember")?;
///     blob.sync()?;
///     store.sync_names()
/// }
///
/// let store = SimulatedStore::new(Arc::new(MemoryStore::new()));
/// program(&store)?;
/// assert_eq!(store.counts().total(), 4);
/// assert_eq!(store.counts().of(Operation::Write), 1);
///
/// for n in 1..=4 {
///     let store = SimulatedStore::new(Arc::new(MemoryStore::new()));
///     store.fail(Fault::once(At::Call(n), FaultKind::ENOSPC));
///     assert!(program(&store).is_err(), "call {n} failed and nobody noticed");
/// }
/// # Ok::<(), snapgroup::storage::Error>(())
/// ```
///
/// Another example is at [`Fault`].
#[derive(Clone, Debug)]
pub struct SimulatedStore {
    inner: Arc<dyn Store>,
    /// The same as `inner` when that is a simulated disk: it is told of syncs that fail.
    disk: Option<SimulatedDisk>,
    script: Arc<Mutex<Script>>,
}

impl SimulatedStore {
    /// Wraps a store; no fault is set and nothing is recorded.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, disk: None, script: Arc::default() }
    }

    /// Wraps a simulated disk. What a sync that fails should have made durable never is for sure: a later sync that
    /// succeeds says nothing about it, as on Linux.
    #[must_use]
    pub fn on_disk(disk: &SimulatedDisk) -> Self {
        Self { inner: Arc::new(disk.clone()), disk: Some(disk.clone()), script: Arc::default() }
    }

    /// Sets a fault. Its calls are counted from here on. Several may be set; when two hit one call, the one set
    /// first decides, and both have been used.
    pub fn fail(&self, fault: Fault) {
        self.script.lock().fail(fault);
    }

    /// Takes back every fault.
    pub fn heal(&self) {
        self.script.lock().heal();
    }

    /// How often each operation was called since the store was wrapped, failed calls included.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.script.lock().counts().clone()
    }

    /// Records every call from here on.
    pub fn record(&self) {
        self.script.lock().record();
    }

    /// The calls recorded since [`SimulatedStore::record`], or since they were last taken.
    #[must_use]
    pub fn take_calls(&self) -> Vec<Call> {
        self.script.lock().take_calls()
    }

    /// Takes a call through the script, then to the store below.
    fn call<T>(&self, call: Call, run: impl FnOnce() -> Result<T>) -> Result<T> {
        pass(&self.script, call, run)
    }

    /// Wraps a blob of the store below.
    fn simulated(&self, name: &BlobName, inner: Arc<dyn Blob>) -> Arc<dyn Blob> {
        let (script, disk) = (Arc::clone(&self.script), self.disk.clone());
        Arc::new(SimulatedBlob { name: name.clone(), inner, disk, script })
    }
}

/// Takes one call through the script: runs it, or fails it without running it.
fn pass<T>(script: &Mutex<Script>, call: Call, run: impl FnOnce() -> Result<T>) -> Result<T> {
    let operation = call.operation;
    let name = call.name.clone();
    // The script is let go of before the call is made: two threads may be in the store at once.
    let fault = script.lock().enter(call);
    match fault {
        None => run(),
        Some(fault) => {
            let name = name.as_ref().map_or(STORE, BlobName::as_str);
            Err(Error::failed(operation, name, fault.source()))
        }
    }
}

impl Store for SimulatedStore {
    fn create(&self, name: &BlobName) -> Result<Arc<dyn Blob>> {
        let blob = self.call(Call::of_blob(Operation::Create, name), || self.inner.create(name))?;
        Ok(self.simulated(name, blob))
    }

    fn open(&self, name: &BlobName, access: Access) -> Result<Arc<dyn Blob>> {
        let blob = self.call(Call::of_blob(Operation::Open, name), || self.inner.open(name, access))?;
        Ok(self.simulated(name, blob))
    }

    fn remove(&self, name: &BlobName) -> Result<()> {
        self.call(Call::of_blob(Operation::Remove, name), || self.inner.remove(name))
    }

    fn list(&self) -> Result<Vec<BlobName>> {
        self.call(Call::of_store(Operation::List), || self.inner.list())
    }

    fn sync_names(&self) -> Result<()> {
        let result = self.call(Call::of_store(Operation::SyncNames), || self.inner.sync_names());
        result.inspect_err(|_| self.disk.iter().for_each(SimulatedDisk::lose_names))
    }

    fn lock(&self) -> Result<Box<dyn Owned>> {
        self.call(Call::of_store(Operation::Lock), || self.inner.lock())
    }

    fn location(&self, name: &BlobName) -> String {
        self.inner.location(name)
    }

    fn name_of(&self, path: &str) -> Option<BlobName> {
        self.inner.name_of(path)
    }
}

/// A blob whose calls go through the script of its store.
#[derive(Debug)]
struct SimulatedBlob {
    name: BlobName,
    inner: Arc<dyn Blob>,
    disk: Option<SimulatedDisk>,
    script: Arc<Mutex<Script>>,
}

impl SimulatedBlob {
    /// Takes a call through the script, then to the blob below.
    fn call<T>(&self, call: Call, run: impl FnOnce() -> Result<T>) -> Result<T> {
        pass(&self.script, call, run)
    }

    /// A call without a range.
    fn plain(&self, operation: Operation) -> Call {
        Call::of_blob(operation, &self.name)
    }

    /// A call on a range.
    fn ranged(&self, operation: Operation, at: HostOffset, length: ByteCount) -> Call {
        Call { at, length, ..Call::of_blob(operation, &self.name) }
    }

    /// A write: `run` does the first so many bytes of it.
    fn write(
        &self,
        at: HostOffset,
        length: ByteCount,
        run: impl FnOnce(ByteCount) -> Result<()>,
    ) -> Result<()> {
        let fault = self.script.lock().enter(self.ranged(Operation::Write, at, length));
        let Some(fault) = fault else { return run(length) };
        if let FaultKind::ShortWrite(written) = fault {
            run(whole_words(at, written, length))?;
        }
        Err(Error::failed(Operation::Write, &self.name, fault.source()))
    }
}

/// How much of a write that fails is there (B11) when it was to be so much.
fn whole_words(at: HostOffset, written: ByteCount, length: ByteCount) -> ByteCount {
    if written >= length {
        return length;
    }
    let (start, end) = (at.as_u64(), (at + written).as_u64());
    ByteCount::new((end / WORD * WORD).saturating_sub(start))
}

impl Blob for SimulatedBlob {
    fn length(&self) -> Result<ByteCount> {
        self.call(self.plain(Operation::Length), || self.inner.length())
    }

    fn read_at(&self, at: HostOffset, buffer: &mut [u8]) -> Result<()> {
        let call = self.ranged(Operation::Read, at, ByteCount::of(buffer.len()));
        let fault = self.script.lock().enter(call);
        let Some(fault) = fault else { return self.inner.read_at(at, buffer) };
        if let FaultKind::ShortRead(count) = fault {
            let count = count.min(ByteCount::of(buffer.len())).as_usize();
            self.inner.read_at(at, &mut buffer[..count])?;
        }
        Err(Error::failed(Operation::Read, &self.name, fault.source()))
    }

    fn write_at(&self, at: HostOffset, bytes: &[u8]) -> Result<()> {
        let run = |length: ByteCount| self.inner.write_at(at, &bytes[..length.as_usize()]);
        self.write(at, ByteCount::of(bytes.len()), run)
    }

    fn copy_from(
        &self,
        at: HostOffset,
        source: &dyn Blob,
        from: HostOffset,
        length: ByteCount,
    ) -> Result<()> {
        self.write(at, length, |length| self.inner.copy_from(at, source, from, length))
    }

    fn next_data(&self, from: HostOffset) -> Result<Option<Range<HostOffset>>> {
        let call = self.ranged(Operation::NextData, from, ByteCount::ZERO);
        self.call(call, || self.inner.next_data(from))
    }

    fn innermost(&self) -> Option<&dyn Any> {
        self.inner.innermost()
    }

    fn set_length(&self, length: ByteCount) -> Result<()> {
        let call = self.ranged(Operation::SetLength, HostOffset::ZERO, length);
        self.call(call, || self.inner.set_length(length))
    }

    fn punch(&self, at: HostOffset, length: ByteCount) -> Result<()> {
        self.call(self.ranged(Operation::Punch, at, length), || self.inner.punch(at, length))
    }

    fn sync(&self) -> Result<()> {
        let result = self.call(self.plain(Operation::Sync), || self.inner.sync());
        result.inspect_err(|_| self.disk.iter().for_each(|disk| disk.lose(&self.name, self.identity())))
    }

    fn allocated(&self) -> Result<ByteCount> {
        self.call(self.plain(Operation::Allocated), || self.inner.allocated())
    }

    fn stamp(&self) -> Result<Option<Stamp>> {
        self.call(self.plain(Operation::Stamp), || self.inner.stamp())
    }

    fn identity(&self) -> Identity {
        self.inner.identity()
    }

    fn links(&self) -> Result<u64> {
        self.call(self.plain(Operation::Links), || self.inner.links())
    }

    fn writer_elsewhere(&self) -> Result<Option<Holder>> {
        self.call(self.plain(Operation::WriterElsewhere), || self.inner.writer_elsewhere())
    }

    fn hold(&self, hold: Hold) -> Result<()> {
        self.call(self.plain(Operation::Hold), || self.inner.hold(hold))
    }
}
