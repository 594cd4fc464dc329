//! Snapshots of one volume: taken, and read.

use super::error::Result;
use super::full::Taking;
use super::handles::Volume;
use super::operation::Operation;
use super::pool::{Engine, Pool, kind_of};
use super::readers::Claim;
use super::uuid_arg::{UuidArg, parse_optional};
use super::volume::holders;
use crate::catalog::{DiskView, Entity, LayerRecord, Reader, Running, SnapshotRecord, VolumeRecord};
use crate::chain::Chain;
use crate::inventory::SnapshotInventory;
use crate::plan::freeze::{Minted, Moment, freeze};
use crate::plan::full::SnapshotMode;
use crate::plan::quota::Amount;
use crate::plan::refusal::Refusal;
use crate::plan::{Plan, text};
use crate::storage::Access;
use crate::units::{ByteCount, GuestOffset};
use std::sync::Arc;
use uuid::Uuid;

/// A snapshot to be taken of one volume.
///
/// ```
/// use snapgroup::{ByteCount, CreateSnapshot, CreateVolume, Engine, Options};
///
/// # fn main() -> snapgroup::Result<()> {
/// # let engine = Engine::in_memory(Options::default())?;
/// # let volume = engine.create_volume(&CreateVolume::new("data", ByteCount::mib(64)))?.uuid;
/// engine.create_snapshot(&CreateSnapshot::new(volume, "monday"))?;
/// // The disk is copied, and reads through one layer from then on.
/// let tuesday = engine.create_snapshot(&CreateSnapshot::new(volume, "tuesday").in_full())?;
/// assert_eq!((tuesday.distance, engine.chain(volume)?.len()), (0, 2));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CreateSnapshot {
    /// The volume.
    pub volume_uuid: Option<UuidArg>,
    /// The name of the snapshot: 1 to 255 characters.
    pub name: String,
    /// Its description: at most 2048 characters.
    pub description: Option<String>,
    /// Whether the disk is copied.
    pub mode: SnapshotMode,
    /// Its uuid; a fresh one when absent. The same uuid with the same wish answers what is there.
    pub resource_uuid: Option<UuidArg>,
    /// Tags by uuid.
    pub tag_uuids: Vec<String>,
    /// The user's tags.
    pub user_tags: Vec<String>,
    /// The system's tags.
    pub system_tags: Vec<String>,
}

impl CreateSnapshot {
    /// A snapshot of a volume with nothing but a name.
    #[must_use]
    pub fn new(volume: impl Into<UuidArg>, name: impl Into<String>) -> Self {
        Self { volume_uuid: Some(volume.into()), name: name.into(), ..Self::default() }
    }

    /// The same snapshot, the disk copied: see [`SnapshotMode::Full`].
    #[must_use]
    pub fn in_full(self) -> Self {
        Self { mode: SnapshotMode::Full, ..self }
    }
}

/// The content of a volume at the moment of a snapshot. Read only; `Send` and `Sync`, cheap to clone.
#[doc = include_str!("examples/snapshots.md")]
#[derive(Clone, Debug)]
pub struct Snapshot {
    uuid: Uuid,
    chain: Chain,
    /// Keeps the pool owned, and the layers as they are, while the content is read.
    _claim: Arc<Claim>,
}

impl Snapshot {
    /// The uuid of the snapshot.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// The size of the disk at that moment, in bytes.
    #[must_use]
    pub fn size(&self) -> ByteCount {
        self.chain.size()
    }

    /// Fills `buffer` with the bytes from `at` on, as they were at that moment.
    ///
    /// # Errors
    ///
    /// [`Error::Image`](super::Error::Image): past the end of the disk, a broken image, or the disk below.
    #[doc = include_str!("examples/snapshots.md")]
    pub fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        Ok(self.chain.read(GuestOffset::new(at), buffer)?)
    }
}

impl Engine {
    /// Takes a snapshot of one volume, attached or not. Writes go on afterwards, into a new overlay. Durable when
    /// it returns. A full one ([`SnapshotMode::Full`]) is copied while writes go on, and this returns when it is done.
    ///
    /// # Errors
    ///
    /// SYS.1003 when there is no such volume; SYS.1007 for names, tags and uuids that are none; SYS.1002 for a
    /// uuid that is taken; SYS.1006 when a file of the chain is missing or not what the catalogue says, when
    /// another process writes to the disk, or when the chain would get too long; ID.1003 for the quota. Nothing
    /// has changed then.
    #[doc = include_str!("examples/snapshots.md")]
    pub fn create_snapshot(&self, request: &CreateSnapshot) -> Result<SnapshotInventory> {
        self.during(Operation::CreateSnapshot, || self.create_snapshot_untold(request))
    }

    fn create_snapshot_untold(&self, request: &CreateSnapshot) -> Result<SnapshotInventory> {
        let pool = &self.pool;
        let volume_uuid =
            parse_optional(request.volume_uuid.as_ref())?.ok_or(Refusal::Empty { field: "volume uuid" })?;
        pool.volume(&pool.read()?, volume_uuid)?;
        let name = text::name("name", &request.name)?;
        let description = text::description(request.description.as_deref())?;
        let tags = text::tags(&request.tag_uuids, &request.user_tags, &request.system_tags)?;
        let wanted = parse_optional(request.resource_uuid.as_ref())?;
        let (of, tags_text) = (volume_uuid.simple().to_string(), format!("{tags:?}"));
        let description_text = description.as_deref().unwrap_or("\0");
        let mut parts = vec!["snapshot", of.as_str(), name.as_str(), description_text, tags_text.as_str()];
        parts.extend(request.mode.wish_part());
        let mark = text::wish_mark(&parts);

        pool.shorten(&[volume_uuid])?;
        let (held, volume) = pool.lock_volume(volume_uuid, &[])?;
        let (uuid, taken) = pool.claim(wanted)?;
        match taken {
            None => {}
            Some(Entity::Snapshot(id)) => {
                let reader = pool.read()?;
                let there = reader.need_snapshot(id)?;
                if there.wish != mark {
                    return Err(Refusal::OtherWish { uuid, by: "snapshot" }.into());
                }
                return pool.show_snapshot(&reader, &there);
            }
            Some(other) => return Err(Refusal::UuidTaken { uuid, by: kind_of(other) }.into()),
        }
        pool.refuse_running(&volume)?;
        let (handle, disk) = Volume::open_to_freeze(pool, pool.read()?.need_disk(volume.id)?)?;
        let way = pool.way_to_take(&disk, request.mode)?;
        pool.check_quota(&pool.read()?, pool.amount_added(&disk, way)?)?;

        let head = disk.chain[0].id;
        let minted = Minted { snapshot: uuid, ..pool.mint_member() };
        let moment = Moment {
            at: pool.source.now(),
            description,
            tags,
            wish: mark,
            group: None,
            cluster_bits: pool.options.cluster_bits,
        };
        let taken = match way {
            Taking::Copied => pool.take_snapshot_in_full(&handle, disk, &name, minted, &moment),
            Taking::Frozen => pool.take_snapshot(&handle, disk, name, minted, &moment),
        };
        drop(held);
        self.tidy_up_after_full(&[way], &[head], &taken);
        let snapshot = taken?;
        self.seal_frozen([uuid]);
        pool.show_snapshot(&pool.read()?, &snapshot)
    }

    /// Opens the content of a snapshot for reading, beside whatever the volume does now.
    ///
    /// # Errors
    ///
    /// SYS.1003 when there is no such snapshot; SYS.1006 when a file of its chain is missing or not what the
    /// catalogue says.
    #[doc = include_str!("examples/snapshots.md")]
    pub fn open_snapshot(&self, snapshot: impl Into<UuidArg>) -> Result<Snapshot> {
        self.during(Operation::OpenSnapshot, || self.open_snapshot_untold(snapshot))
    }

    fn open_snapshot_untold(&self, snapshot: impl Into<UuidArg>) -> Result<Snapshot> {
        let pool = &self.pool;
        let uuid = snapshot.into().parse()?;
        let _layout = pool.layout.read();
        let content = pool.open_content(&pool.read()?, uuid)?;
        Ok(Snapshot { uuid, chain: content.chain, _claim: content.claim })
    }
}

/// What a snapshot holds, open for reading.
pub(super) struct Content {
    pub(super) snapshot: SnapshotRecord,
    /// The layers, the snapshot's own first, and the same as open files.
    pub(super) layers: Vec<LayerRecord>,
    pub(super) chain: Chain,
    pub(super) claim: Arc<Claim>,
}

impl Pool {
    /// Opens the content of a snapshot for reading. The caller holds the layout for reading.
    pub(super) fn open_content(self: &Arc<Self>, reader: &Reader, uuid: Uuid) -> Result<Content> {
        let found = reader.snapshot_by_uuid(uuid)?;
        let snapshot = found.ok_or(Refusal::NotFound { what: "snapshot", uuid })?;
        let layers = reader.chain(snapshot.layer)?;
        let claim = Claim::to(self, &layers);
        let chain = self.open_chain(snapshot.volume_uuid, &layers, Access::Read)?;
        Ok(Content { snapshot, layers, chain, claim })
    }

    /// The moment of one disk.
    fn take_snapshot(
        &self,
        handle: &Volume,
        mut disk: DiskView,
        name: String,
        minted: Minted,
        moment: &Moment,
    ) -> Result<SnapshotRecord> {
        let writes = handle.hold_writes();
        let head_allocated = writes.freeze(&mut disk.chain[0])?;
        let mut plan = Plan::default();
        let ids = self.catalog.ids();
        let snapshot = freeze(&disk, name, minted, head_allocated, moment, &ids, &mut plan);
        // Again, now that what the head takes up is known to the last byte.
        let counted = self.check_quota(&self.read()?, Amount { snapshots: 1, bytes: head_allocated });
        match counted.and_then(|()| self.prepare(&plan)?.publish()) {
            Ok(mut heads) => writes.switch(disk.chain[0].id, heads.remove(0)),
            Err(error) => {
                writes.thaw_unless_unknown(&error);
                return Err(error);
            }
        }
        Ok(snapshot)
    }

    /// Fresh uuids for one member.
    pub(super) fn mint_member(&self) -> Minted {
        Minted { snapshot: self.source.mint(), layer: self.source.mint(), tree: self.source.mint() }
    }

    /// Refuses while another process runs the machine: it would go on writing to the frozen file.
    pub(super) fn refuse_running(&self, volume: &VolumeRecord) -> Result<()> {
        for machine in holders(&self.read()?, volume)? {
            if machine.running == Running::Elsewhere {
                let refused = "its disks must be switched by the process that runs it";
                return Err(Refusal::RunsElsewhere { uuid: machine.uuid, refused }.into());
            }
        }
        Ok(())
    }
}
