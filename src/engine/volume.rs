//! Volumes: made, attached, detached, made larger, opened.

use super::error::{Error, Result};
use super::handles::Volume;
use super::locks::Key;
use super::operation::Operation;
use super::pool::{Engine, kind_of};
use super::uuid_arg::{UuidArg, parse_optional};
use crate::catalog::{
    Entity, L2Entries, LayerFormat, MachineRecord, Reader, Running, Sharing, SnapshotRecord, VolumeKind,
    VolumeRecord,
};
use crate::inventory::VolumeInventory;
use crate::plan::refusal::Refusal;
use crate::plan::volume::{ImageShape, VolumeWish, check_size};
use crate::plan::{self, Plan, text};
use crate::storage::Access;
use crate::units::ByteCount;

/// A volume to be made: a new qcow2 image, empty or above a base image.
///
/// ```
/// use snapgroup::{ByteCount, CreateVolume, Engine, LayerFormat, Options};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # std::fs::write(directory.path().join("golden.raw"), [7; 65_536])?;
/// # let options = Options { create: snapgroup::CreatePool::Here, ..Options::default() };
/// # let engine = Engine::open(directory.path(), options)?;
/// let empty = engine.create_volume(&CreateVolume::new("data", ByteCount::gib(20)).as_root())?;
/// let above_a_file = engine.create_volume(&CreateVolume::above("web", "golden.raw", LayerFormat::Raw))?;
/// assert_eq!((empty.size, above_a_file.size), (ByteCount::gib(20), ByteCount::kib(64)));
///
/// // What has no constructor is a field.
/// let fine = CreateVolume { cluster_bits: Some(12), ..CreateVolume::new("database", ByteCount::gib(1)) };
/// engine.create_volume(&fine)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateVolume {
    /// Its name: 1 to 255 characters.
    pub name: String,
    /// Its description: at most 2048 characters.
    pub description: Option<String>,
    /// What it is to its machine. A memory volume is as large as what it holds, which is bytes that nobody looks into.
    pub kind: VolumeKind,
    /// Whether several machines may have it at once. A root volume cannot be shareable.
    pub sharing: Sharing,
    /// The virtual size in bytes, a multiple of 512. Above a base `None` takes the base's size.
    pub size: Option<ByteCount>,
    /// log2 of the cluster size, 9 to 21; `None` is the pool's default.
    pub cluster_bits: Option<u8>,
    /// How finely its images map the disk. `None` is by the cluster; of a clone, as the snapshot has it.
    pub l2: Option<L2Entries>,
    /// A file of the pool that the volume reads through to. It is never written.
    pub base: Option<BaseImage>,
    /// The longest chain that it may have, in layers with the head counted, from 1 on; `None` is the pool's
    /// ([`Options::chain_max`](super::Options::chain_max)).
    pub chain_max: Option<u32>,
    /// A snapshot that the volume begins as, a clone of it: of this pool, of any volume. It is never written. Not
    /// together with a base.
    pub snapshot: Option<UuidArg>,
    /// Its uuid; a fresh one when absent. The same uuid with the same wish answers what is there.
    pub resource_uuid: Option<UuidArg>,
}

impl Default for CreateVolume {
    fn default() -> Self {
        Self {
            name: String::new(),
            description: None,
            kind: VolumeKind::Data,
            sharing: Sharing::Exclusive,
            size: None,
            cluster_bits: None,
            l2: None,
            base: None,
            chain_max: None,
            snapshot: None,
            resource_uuid: None,
        }
    }
}

impl CreateVolume {
    /// An empty data disk of this size.
    #[must_use]
    pub fn new(name: impl Into<String>, size: ByteCount) -> Self {
        Self { name: name.into(), size: Some(size), ..Self::default() }
    }

    /// A data disk above a file of the pool, of its size.
    #[must_use]
    pub fn above(name: impl Into<String>, file: impl Into<String>, format: LayerFormat) -> Self {
        let base = Some(BaseImage { file: file.into(), format });
        Self { name: name.into(), base, ..Self::default() }
    }

    /// A data disk that begins as a snapshot, of its size. As long as it is there, a permissive deletion refuses the
    /// snapshot.
    ///
    /// ```
    /// use snapgroup::{ByteCount, CreateSnapshot, CreateVolume, Engine, Options};
    ///
    /// # let engine = Engine::in_memory(Options::default())?;
    /// let golden = engine.create_volume(&CreateVolume::new("golden", ByteCount::gib(1)))?;
    /// let snapshot = engine.create_snapshot(&CreateSnapshot::new(golden.uuid, "ready"))?;
    /// let clone = engine.create_volume(&CreateVolume::of_snapshot("web-1", snapshot.uuid))?;
    /// assert_eq!(clone.size, golden.size);
    /// # Ok::<(), snapgroup::Error>(())
    /// ```
    #[must_use]
    pub fn of_snapshot(name: impl Into<String>, snapshot: impl Into<UuidArg>) -> Self {
        Self { name: name.into(), snapshot: Some(snapshot.into()), ..Self::default() }
    }

    /// The same volume as the root disk of its machine.
    #[must_use]
    pub fn as_root(self) -> Self {
        Self { kind: VolumeKind::Root, ..self }
    }
}

/// A file of the pool that is there already, and what it is.
///
/// ```
/// use snapgroup::{BaseImage, ByteCount, CreateVolume, LayerFormat};
///
/// // Above a golden image, and larger than it.
/// let volume = CreateVolume {
///     base: Some(BaseImage { file: "golden.raw".into(), format: LayerFormat::Raw }),
///     ..CreateVolume::new("web", ByteCount::gib(40))
/// };
/// # drop(volume);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseImage {
    /// Its name in the pool's directory, or its path in a base directory
    /// ([`Options::base_directories`](super::Options::base_directories)).
    pub file: String,
    /// Its format: said, never guessed.
    pub format: LayerFormat,
}

impl Engine {
    /// Makes a volume. It is attached to nothing yet. Durable when it returns.
    ///
    /// # Errors
    ///
    /// SYS.1007 for names, sizes and uuids that are none; SYS.1002 for a uuid that is taken; SYS.1006 for a base
    /// that cannot be taken over ([`Error::NotAdoptable`]); SYS.1003 for a snapshot that is not there, SYS.1006 when
    /// a file of it is missing or not what the catalogue says, or when its chain is as long as it may be.
    #[doc = include_str!("examples/volumes.md")]
    pub fn create_volume(&self, request: &CreateVolume) -> Result<VolumeInventory> {
        self.during(Operation::CreateVolume, || self.create_volume_untold(request))
    }

    fn create_volume_untold(&self, request: &CreateVolume) -> Result<VolumeInventory> {
        let pool = &self.pool;
        let (name, description) =
            (text::name("name", &request.name)?, text::description(request.description.as_deref())?);
        let wanted = parse_optional(request.resource_uuid.as_ref())?;
        if let Some(size) = request.size {
            check_size(size)?;
        }
        let of = parse_optional(request.snapshot.as_ref())?;
        if of.is_some() && request.base.is_some() {
            let what = "a base together with a snapshot".to_owned();
            return Err(Refusal::BadValue { what, rule: "one of them" }.into());
        }
        let (_held, _, of) = pool.lock_found(|reader| {
            let Some(uuid) = of else { return Ok((vec![Key::New], None)) };
            let found = reader.snapshot_by_uuid(uuid)?.ok_or(Refusal::NotFound { what: "snapshot", uuid })?;
            let mut keys = super::pool::Pool::keys_around(reader, [found.volume], found.group)?;
            keys.push(Key::New);
            Ok((keys, Some(found)))
        })?;
        let (uuid, taken) = pool.claim(wanted)?;
        let base = request.base.as_ref().map(|base| (&base.file, base.format));
        let form = format!("{:?}", (request.kind, request.sharing, request.size, request.cluster_bits, base));
        let of_snapshot = of.as_ref().map_or_else(String::new, |of| of.uuid.simple().to_string());
        let mut wished = vec!["volume", &name, description.as_deref().unwrap_or("\0"), &form, &of_snapshot];
        wished.extend(request.l2.map(|l2| match l2 {
            L2Entries::Standard => "standard",
            L2Entries::Extended => "extended",
        }));
        let chain_max = request.chain_max.map(text::chain_max_wish);
        wished.extend(chain_max.as_deref());
        let mark = text::wish_mark(&wished);
        let (kind, sharing, chain_max) = (request.kind, request.sharing, request.chain_max);
        let wish = VolumeWish { uuid, name, description, kind, sharing, chain_max, mark };
        wish.check()?;
        if let Some(there) = self.volume_of_repeat(&wish, taken)? {
            return Ok(there);
        }
        let at = pool.source.now();
        let cluster_bits = request.cluster_bits.unwrap_or(pool.options.cluster_bits);
        let l2 = request.l2.unwrap_or_default();
        let plan = match &request.base {
            None if of.is_some() => {
                let of = of.as_ref().expect("just looked at");
                self.plan_clone(&wish, of, request)?
            }
            None => {
                let size = request.size.ok_or(Refusal::SizeNeeded)?;
                let shape = ImageShape { size, cluster_bits, l2 };
                plan::volume::create(&wish, shape, None, pool.source.mint(), at, &pool.catalog.ids())
            }
            Some(base) => self.plan_above(&wish, base, request.size, (cluster_bits, l2))?,
        };
        pool.perform(&plan.0)?;
        pool.show_volume(&pool.read()?, &plan.1)
    }

    /// Plans a volume with a new overlay on the layer of a snapshot.
    fn plan_clone(
        &self,
        wish: &VolumeWish,
        of: &SnapshotRecord,
        request: &CreateVolume,
    ) -> Result<(Plan, VolumeRecord)> {
        let pool = &self.pool;
        let chain = pool.read()?.chain(of.layer)?;
        pool.open_chain(of.volume_uuid, &chain, Access::Read)?;
        let cap = wish.chain_max.unwrap_or(pool.options.chain_max);
        if chain.len() as u64 >= u64::from(cap) {
            let length = chain.len() + 1;
            return Err(Refusal::ChainTooLong { volume: wish.name.clone(), length, cap }.into());
        }
        let cluster_bits = request.cluster_bits.unwrap_or(match chain[0].format {
            LayerFormat::Qcow2 => chain[0].cluster_bits,
            LayerFormat::Raw => pool.options.cluster_bits,
        });
        let l2 = request.l2.unwrap_or(chain[0].l2);
        let shape = ImageShape { size: request.size.unwrap_or(of.size_virtual), cluster_bits, l2 };
        let (at, ids) = (pool.source.now(), pool.catalog.ids());
        Ok(plan::volume::create(wish, shape, Some(&chain[0]), pool.source.mint(), at, &ids))
    }

    /// What a repeated wish has made before; refused when the uuid was given to another wish.
    pub(super) fn volume_of_repeat(
        &self,
        wish: &VolumeWish,
        taken: Option<Entity>,
    ) -> Result<Option<VolumeInventory>> {
        let uuid = wish.uuid;
        match taken {
            None => Ok(None),
            Some(Entity::Volume(id)) => {
                let reader = self.pool.read()?;
                let there = reader.need_volume(id)?;
                if there.wish != wish.mark {
                    return Err(Refusal::OtherWish { uuid, by: "volume" }.into());
                }
                self.pool.show_volume(&reader, &there).map(Some)
            }
            Some(other) => Err(Refusal::UuidTaken { uuid, by: kind_of(other) }.into()),
        }
    }

    /// Attaches a volume to a machine, under the lowest free device id unless one is given. Durable when it
    /// returns.
    ///
    /// # Errors
    ///
    /// SYS.1003 for what is not there; SYS.1006 when the volume is attached already, the machine has another root
    /// volume, the device id is taken, or a group of the machine is being prepared.
    #[doc = include_str!("examples/volumes.md")]
    pub fn attach_volume(
        &self,
        volume: impl Into<UuidArg>,
        machine: impl Into<UuidArg>,
        device_id: Option<u32>,
    ) -> Result<VolumeInventory> {
        self.during(Operation::AttachVolume, || self.attach_volume_untold(volume, machine, device_id))
    }

    fn attach_volume_untold(
        &self,
        volume: impl Into<UuidArg>,
        machine: impl Into<UuidArg>,
        device_id: Option<u32>,
    ) -> Result<VolumeInventory> {
        let pool = &self.pool;
        let machine = self.machine_record(&pool.read()?, machine.into().parse()?)?;
        let (_held, volume) = pool.lock_volume(volume.into().parse()?, &[Key::Machine(machine.id)])?;
        let reader = pool.read()?;
        let machine = self.machine_record(&reader, machine.uuid)?;
        pool.refuse_prepared(&reader, &machine)?;
        // The process that runs the machine would write to it at once.
        if machine.running == Running::Elsewhere {
            if pool.open_volumes.has(volume.id) {
                return Err(Refusal::VolumeOpen { uuid: volume.uuid }.into());
            }
            pool.settle_disks(std::slice::from_ref(&volume))?;
        }
        let (plan, volume) = plan::volume::attach(
            &machine,
            &reader.volumes_of(machine.id)?.into_vec()?,
            &volume,
            device_id,
            &holders(&reader, &volume)?,
            pool.source.now(),
        )?;
        pool.perform(&plan)?;
        pool.show_volume(&pool.read()?, &volume)
    }

    /// Detaches a volume from a machine. Its snapshots stay, and their groups are not available until it is back.
    /// Durable when it returns.
    ///
    /// # Errors
    ///
    /// SYS.1003 for what is not there; SYS.1007 when the volume is not attached to this machine; SYS.1006 when the
    /// machine runs in another process.
    #[doc = include_str!("examples/volumes.md")]
    pub fn detach_volume(
        &self,
        volume: impl Into<UuidArg>,
        machine: impl Into<UuidArg>,
    ) -> Result<VolumeInventory> {
        self.during(Operation::DetachVolume, || self.detach_volume_untold(volume, machine))
    }

    fn detach_volume_untold(
        &self,
        volume: impl Into<UuidArg>,
        machine: impl Into<UuidArg>,
    ) -> Result<VolumeInventory> {
        let pool = &self.pool;
        let machine = self.machine_record(&pool.read()?, machine.into().parse()?)?;
        let (_held, volume) = pool.lock_volume(volume.into().parse()?, &[Key::Machine(machine.id)])?;
        let reader = pool.read()?;
        let machine = self.machine_record(&reader, machine.uuid)?;
        let (plan, volume) = plan::volume::detach(&machine, &volume, pool.source.now())?;
        pool.perform(&plan)?;
        pool.show_volume(&pool.read()?, &volume)
    }

    /// Makes a disk larger. What is new reads as zeros. Snapshots keep their size. Durable when it returns.
    ///
    /// # Errors
    ///
    /// SYS.1007 when the size is smaller than the disk or no multiple of 512; SYS.1006 when the machine runs in
    /// another process; [`Error::Image`] when the disk is full: the size is then the old one.
    #[doc = include_str!("examples/volumes.md")]
    pub fn resize_volume(&self, volume: impl Into<UuidArg>, size: ByteCount) -> Result<VolumeInventory> {
        self.during(Operation::ResizeVolume, || self.resize_volume_untold(volume, size))
    }

    fn resize_volume_untold(&self, volume: impl Into<UuidArg>, size: ByteCount) -> Result<VolumeInventory> {
        let pool = &self.pool;
        let (_held, volume) = pool.lock_volume(volume.into().parse()?, &[])?;
        let reader = pool.read()?;
        let (plan, larger) = plan::volume::resize(
            &volume,
            &reader.need_layer(volume.head)?,
            &holders(&reader, &volume)?,
            size,
            pool.source.now(),
        )?;
        let handle = Volume::open(pool, &volume)?;
        handle.check_size(size)?;
        pool.sync_unsettled(&[reader.need_layer(volume.head)?])?;
        // The books first: a head that is shorter than they say is made longer whenever it is opened.
        pool.perform(&plan)?;
        if let Err(error) = handle.grow(size) {
            // A write that failed may have done its work. Only when the file still says the old size do the books
            // go back to it; a head that says more than they do could not be opened again.
            if handle.size_in_header().ok() != Some(volume.size) {
                return Err(error);
            }
            let back = plan::volume::restore(&volume, &reader.need_layer(volume.head)?);
            pool.perform(&back)?;
            return Err(error);
        }
        pool.show_volume(&pool.read()?, &larger)
    }

    /// Opens a volume for reading and writing in this process.
    ///
    /// # Errors
    ///
    /// SYS.1003 when it is not there; SYS.1006 when its machine runs in another process, when another process
    /// writes to its head, or when a file of its chain is missing or not what the catalogue says.
    #[doc = include_str!("examples/guest_io.md")]
    pub fn open_volume(&self, volume: impl Into<UuidArg>) -> Result<Volume> {
        self.during(Operation::OpenVolume, || self.open_volume_untold(volume))
    }

    fn open_volume_untold(&self, volume: impl Into<UuidArg>) -> Result<Volume> {
        let pool = &self.pool;
        let (_held, volume) = pool.lock_volume(volume.into().parse()?, &[])?;
        for machine in holders(&pool.read()?, &volume)? {
            if machine.running == Running::Elsewhere {
                let refused = "its disks cannot be opened here";
                return Err(Refusal::RunsElsewhere { uuid: machine.uuid, refused }.into());
            }
        }
        Volume::open(pool, &volume)
    }
}

/// The machines that a volume is attached to.
pub(super) fn holders(reader: &Reader, volume: &VolumeRecord) -> Result<Vec<MachineRecord>> {
    volume
        .attachments
        .iter()
        .map(|attachment| reader.need_machine(attachment.machine).map_err(Error::from))
        .collect()
}
