//! Volumes that are open in this process.
//!
//! * However many handles a volume has, its head is open once: two views of one file would not agree.
//! * A write holds the volume's gate for reading. A group closes the gates of all its members before it looks at
//!   any of them, and opens them after their heads have changed: what one write saw finished is in the group
//!   with it, on whatever disk.
//! * The last handle flushes.

use super::error::{Error, Result};
use super::layers::unopened;
use super::pool::Pool;
use crate::catalog::{DiskView, LayerRecord, Settled, VolumeId, VolumeRecord};
use crate::chain::{Chain, Layer};
use crate::image::{Facts, Space};
use crate::plan::refusal::Refusal;
use crate::storage::{Access, BlobName, Hold, Holder, Store};
use crate::sync::{Mutex, RwLock, RwLockWriteGuard};
use crate::units::{ByteCount, GuestOffset};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};
use uuid::Uuid;

/// A handle to the guest data of a volume. Cheap to clone, `Send` and `Sync`; any number of threads may use it.
///
/// Snapshots and groups may be taken meanwhile: writes wait for the moment to pass, reads at most for a flush. What was written
/// is durable after [`Volume::flush`]; the last handle flushes when it is dropped, but cannot tell of an error.
#[doc = include_str!("examples/guest_io.md")]
#[derive(Debug)]
pub struct Volume {
    open: Arc<OpenVolume>,
}

/// One open volume, shared by its handles.
#[derive(Debug)]
struct OpenVolume {
    id: VolumeId,
    uuid: Uuid,
    pool: Arc<Pool>,
    /// Held for reading by every write, for writing while the head changes.
    gate: RwLock<()>,
    /// Held for reading by every read and write until it is over: once other layers are put in, nobody is under way in
    /// those of before.
    chain: RwLock<Chain>,
}

/// The volumes that are open, with the number of their handles.
#[derive(Debug, Default)]
pub(super) struct OpenVolumes(Mutex<HashMap<VolumeId, (Weak<OpenVolume>, usize)>>, OnceLock<(Uuid, String)>);

impl OpenVolumes {
    /// Makes what was written to any open volume durable.
    pub(super) fn flush_all(&self) -> Result<()> {
        let open: Vec<Arc<OpenVolume>> =
            self.0.lock().values().filter_map(|(open, _)| open.upgrade()).collect();
        for volume in open {
            volume.flush()?;
        }
        Ok(())
    }

    /// Makes what was written to one volume durable, when it is open.
    pub(super) fn flush(&self, id: VolumeId) -> Result<()> {
        let open = self.0.lock().get(&id).and_then(|(open, _)| open.upgrade());
        open.map_or(Ok(()), |open| open.flush())
    }

    /// Puts other layers below the head of a volume, when it is open and its head is the file `head`.
    pub(super) fn restack(&self, id: VolumeId, head: &str, lower: Vec<Arc<Layer>>) {
        let Some(open) = self.0.lock().get(&id).and_then(|(open, _)| open.upgrade()) else { return };
        let mut chain = open.chain.write();
        if chain.head().name() == head {
            let layers = std::iter::once(Arc::clone(chain.head())).chain(lower).collect();
            *chain = Chain::new(layers);
        }
    }

    /// The chain of a volume that has a handle.
    pub(super) fn chain(&self, id: VolumeId) -> Option<Chain> {
        let open = self.0.lock().get(&id)?.0.upgrade()?;
        Some(open.chain())
    }

    /// Tells of a flush that failed when the last handle of a volume was dropped.
    pub(super) fn tell_of_loss(&self) -> Result<()> {
        match self.1.get() {
            Some((volume, cause)) => Err(Error::Lost { volume: *volume, cause: cause.clone() }),
            None => Ok(()),
        }
    }

    /// Whether a volume has a handle.
    pub(super) fn has(&self, id: VolumeId) -> bool {
        self.0.lock().contains_key(&id)
    }
}

impl Volume {
    /// Gives out a handle to a volume, opening its chain when it has none yet.
    ///
    /// The caller holds the volume's lock, so that its head stays what `volume` says.
    pub(super) fn open(pool: &Arc<Pool>, volume: &VolumeRecord) -> Result<Self> {
        Self::open_with(pool, volume, &pool.read()?.chain(volume.head)?)
    }

    /// As [`Volume::open`], by the records of its chain.
    fn open_with(pool: &Arc<Pool>, volume: &VolumeRecord, records: &[LayerRecord]) -> Result<Self> {
        // Finishing looks at the table of open volumes itself. It leaves alone a head that is open.
        for record in records {
            pool.finish_rewrite_of(record)?;
        }
        let mut table = pool.open_volumes.0.lock();
        if let Some((open, handles)) = table.get_mut(&volume.id)
            && let Some(open) = open.upgrade()
        {
            *handles += 1;
            return Ok(Self { open });
        }
        let chain = match is_moving(records) {
            true => pool.open_chain(volume.uuid, &pool.read()?.chain(volume.head)?, Access::Write)?,
            false => pool.open_chain(volume.uuid, records, Access::Write)?,
        };
        if chain.size() < volume.size {
            pool.admit_change()?;
            chain.grow(volume.size)?;
        }
        let open = Arc::new(OpenVolume {
            id: volume.id,
            uuid: volume.uuid,
            pool: Arc::clone(pool),
            gate: RwLock::new(()),
            chain: RwLock::new(chain),
        });
        table.insert(volume.id, (Arc::downgrade(&open), 1));
        Ok(Self { open })
    }

    /// Gives out a handle to a disk whose head may become a snapshot: it is there, the file that is open, what the books
    /// say, and nobody else writes to it. Answers the disk as it is then; a header that a merge has left unfinished is
    /// finished first, which moves a layer.
    ///
    /// The caller holds the volume's lock, or that of its machine.
    pub(super) fn open_to_freeze(pool: &Arc<Pool>, disk: DiskView) -> Result<(Self, DiskView)> {
        let handle = Self::open_with(pool, &disk.volume, &disk.chain)?;
        let disk = match is_moving(&disk.chain) {
            true => pool.read()?.need_disk(disk.volume.id)?,
            false => disk,
        };
        handle.check_head(&disk.chain)?;
        Ok((handle, disk))
    }

    /// The uuid of the volume.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.open.uuid
    }

    /// The size of the disk in bytes.
    #[must_use]
    pub fn size(&self) -> ByteCount {
        self.open.chain().size()
    }

    /// Fills `buffer` with the bytes from `at` on, a number of bytes from the start of the disk.
    ///
    /// # Errors
    ///
    /// [`Error::Image`]: past the end of the disk, a broken image, or the disk below.
    #[doc = include_str!("examples/guest_io.md")]
    pub fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        Ok(self.open.chain.read().read(GuestOffset::new(at), buffer)?)
    }

    /// Writes `data` from `at` on. Seen by every later read; durable after [`Volume::flush`].
    ///
    /// # Errors
    ///
    /// [`Error::Image`]: past the end of the disk, a broken image, a full disk. A part may have been written.
    #[doc = include_str!("examples/guest_io.md")]
    pub fn write_at(&self, at: u64, data: &[u8]) -> Result<()> {
        let _gate = self.open.gate.read();
        self.open.pool.admit_change()?;
        Ok(self.open.chain.read().write(GuestOffset::new(at), data)?)
    }

    /// Makes a range read as zeros, and keeps the room for later writes. Durable after [`Volume::flush`].
    ///
    /// # Errors
    ///
    /// As [`Volume::write_at`].
    #[doc = include_str!("examples/guest_io.md")]
    pub fn write_zeroes(&self, at: u64, length: u64) -> Result<()> {
        self.zero(at, length, Space::Keep)
    }

    /// Makes a range read as zeros, and gives the room back. Durable after [`Volume::flush`].
    ///
    /// # Errors
    ///
    /// As [`Volume::write_at`].
    #[doc = include_str!("examples/guest_io.md")]
    pub fn discard(&self, at: u64, length: u64) -> Result<()> {
        self.zero(at, length, Space::Free)
    }

    fn zero(&self, at: u64, length: u64, space: Space) -> Result<()> {
        let _gate = self.open.gate.read();
        self.open.pool.admit_change()?;
        Ok(self.open.chain.read().zero(GuestOffset::new(at), ByteCount::new(length), space)?)
    }

    /// Makes every write that returned before this call durable.
    ///
    /// # Errors
    ///
    /// [`Error::Image`]. When a sync failed, nothing more is written to the pool until it is opened again.
    #[doc = include_str!("examples/guest_io.md")]
    pub fn flush(&self) -> Result<()> {
        self.open.flush()
    }

    /// Refuses a size that the image of the head cannot have.
    pub(super) fn check_size(&self, size: ByteCount) -> Result<()> {
        let chain = self.open.chain();
        let Some(image) = chain.head().as_qcow2() else { return Ok(()) };
        image.check_size(size).map_err(|error| {
            let cluster_bits = image.geometry().cluster_size().as_u64().trailing_zeros();
            let cluster_bits = u8::try_from(cluster_bits).expect("a cluster has at most 2^21 bytes");
            Refusal::ImpossibleImage { size, cluster_bits, why: error.to_string() }.into()
        })
    }

    /// The size that the header of the head says now, in the file and not in memory.
    pub(super) fn size_in_header(&self) -> Result<ByteCount> {
        let chain = self.open.chain();
        Ok(Facts::of(&**chain.head().blob(), chain.head().name())?.size)
    }

    /// The layer that is written.
    pub(super) fn head(&self) -> Arc<Layer> {
        Arc::clone(self.open.chain().head())
    }

    /// The layers below the one that is written; none when there are none.
    pub(super) fn below(&self) -> Option<Chain> {
        let layers = self.open.chain().layers()[1..].to_vec();
        (!layers.is_empty()).then(|| Chain::new(layers))
    }

    /// Makes everything durable, for a caller who holds the writes.
    pub(super) fn flush_held(&self) -> Result<()> {
        Ok(self.open.chain().flush()?)
    }

    /// Makes the disk larger; the caller holds the volume's lock.
    pub(super) fn grow(&self, size: ByteCount) -> Result<()> {
        let _gate = self.open.gate.write();
        Ok(self.open.chain().grow(size)?)
    }

    /// Refuses unless the file of the head is still the one that is open, says what the catalogue says, has its
    /// backing file below it, and no writer in another process.
    pub(super) fn check_head(&self, chain: &[LayerRecord]) -> Result<()> {
        let (pool, volume) = (&self.open.pool, self.open.uuid);
        let (record, below) = (&chain[0], chain.get(1));
        let open = |blob: &BlobName| {
            pool.store().open(blob, Access::Read).map_err(|error| unopened(volume, blob, error))
        };
        let named = open(&record.blob)?;
        let open_chain = self.open.chain();
        let held = open_chain.head().blob();
        if named.identity() != held.identity() {
            return Err(Error::LayerDisagrees {
                volume,
                blob: record.blob.to_string(),
                what: "identity",
                expected: "the file that is open".to_owned(),
                found: "another file".to_owned(),
            });
        }
        pool.check_facts(volume, record, below, &*named)?;
        if let Some(below) = below {
            open(&below.blob)?;
        }
        match held.writer_elsewhere()? {
            Some(holder) => Err(in_use(volume, record.blob.as_str(), holder)),
            None => Ok(()),
        }
    }

    /// Closes the gate: waits for the writes under way, and holds off new ones until the answer is dropped.
    pub(super) fn hold_writes(&self) -> WritesHeld<'_> {
        WritesHeld { _gate: self.open.gate.write(), open: &self.open }
    }
}

/// Whether a layer of a chain is being put above another one.
fn is_moving(chain: &[LayerRecord]) -> bool {
    chain.iter().any(|layer| layer.rewrite.is_some())
}

fn in_use(volume: Uuid, blob: &str, holder: Holder) -> Error {
    Error::HeadInUse { volume, blob: blob.to_owned(), holder }
}

impl Clone for Volume {
    fn clone(&self) -> Self {
        if let Some((_, handles)) = self.open.pool.open_volumes.0.lock().get_mut(&self.open.id) {
            *handles += 1;
        }
        Self { open: Arc::clone(&self.open) }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let mut table = self.open.pool.open_volumes.0.lock();
        let Some((_, handles)) = table.get_mut(&self.open.id) else { return };
        *handles -= 1;
        if *handles == 0 {
            // Under the table's lock: nobody opens the head anew before what this handle wrote is in the file.
            if let Err(error) = self.open.flush() {
                // The first loss is enough for whoever closes the pool.
                let _ = self.open.pool.open_volumes.1.set((self.open.uuid, error.to_string()));
            }
            table.remove(&self.open.id);
        }
    }
}

impl OpenVolume {
    fn chain(&self) -> Chain {
        self.chain.read().clone()
    }

    fn flush(&self) -> Result<()> {
        let _gate = self.gate.read();
        // Tables are written where another owner would write them, too.
        self.pool.catalog.look_for_owner()?;
        Ok(self.chain().flush()?)
    }
}

/// A volume whose writers wait.
#[derive(Debug)]
#[must_use = "writes go on when this is dropped"]
pub(super) struct WritesHeld<'a> {
    _gate: RwLockWriteGuard<'a, ()>,
    open: &'a OpenVolume,
}

impl WritesHeld<'_> {
    /// Makes the head durable and closes it to writes; answers the bytes that its file takes up. `head` is its record,
    /// which is told when all of the file is durable by that.
    pub(super) fn freeze(&self, head: &mut LayerRecord) -> Result<ByteCount> {
        let chain = self.open.chain();
        let image = chain.head().as_qcow2().ok_or(Refusal::NotYet { what: "a snapshot of a raw head" })?;
        self.open.pool.catalog.look_for_owner()?;
        image.freeze()?;
        // The flush that made the first entry of its L1 table durable has synced everything before it.
        if head.settled == Settled::No && !image.names_nothing() {
            head.settled = Settled::Yes;
        }
        Ok(image.blob().allocated()?)
    }

    /// Opens the head to writes again, when the snapshot did not come about. When nobody knows whether it did, the
    /// head stays frozen: it may be a snapshot by now.
    pub(super) fn thaw_unless_unknown(&self, error: &Error) {
        if matches!(error, Error::OutcomeUnknown(_)) {
            return;
        }
        if let Some(image) = self.open.chain().head().as_qcow2() {
            image.thaw();
        }
    }

    /// Puts other layers in the place of all there are. They show the same.
    pub(super) fn replace(&self, chain: Chain) {
        *self.open.chain.write() = chain;
    }

    /// Puts a new head above the frozen one, which other programs may read from now on.
    pub(super) fn switch(&self, frozen: crate::catalog::LayerId, head: Arc<Layer>) {
        let mut chain = self.open.chain.write();
        // Less than what is held already; when it is refused all the same, too much is held and nothing is lost.
        let _ = chain.head().blob().hold(Hold::Read);
        self.open.pool.open_layers.note(frozen, chain.head());
        *chain = chain.with_head(head);
    }
}
