//! What the tests of this room stand on: a blob in memory that fails on demand, and a small world of records.

use super::*;
use crate::storage::{self, Access, Blob, BlobName, Hold, Holder, Identity, Operation};
use crate::units::{ByteCount, HostOffset};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use uuid::Uuid;

/// Bytes in memory. What is written is at once durable, unless a sync is told to fail.
#[derive(Debug)]
pub struct MemoryBlob {
    bytes: Mutex<Vec<u8>>,
    access: Access,
    syncs_fail: AtomicBool,
    writes_fail: AtomicBool,
    syncs: AtomicUsize,
    syncs_left: AtomicUsize,
    stop: Mutex<Option<Stop>>,
}

/// A sync that waits for its test.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    is_reached: Arc<AtomicBool>,
    goes_on: Arc<AtomicBool>,
}

impl Stop {
    pub fn wait_until_reached(&self) {
        while !self.is_reached.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
    }

    pub fn go_on(&self) {
        self.goes_on.store(true, Ordering::Release);
    }

    fn reach(&self) {
        self.is_reached.store(true, Ordering::Release);
        while !self.goes_on.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
    }
}

impl MemoryBlob {
    pub fn empty() -> Arc<Self> {
        Self::of(Vec::new())
    }

    pub fn of(bytes: Vec<u8>) -> Arc<Self> {
        Arc::new(Self {
            bytes: Mutex::new(bytes),
            access: Access::Write,
            syncs_fail: AtomicBool::new(false),
            writes_fail: AtomicBool::new(false),
            syncs: AtomicUsize::new(0),
            syncs_left: AtomicUsize::new(usize::MAX),
            stop: Mutex::default(),
        })
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().clone()
    }

    pub fn fail_syncs(&self) {
        self.syncs_fail.store(true, Ordering::Relaxed);
    }

    /// How many syncs were asked for.
    pub fn syncs(&self) -> usize {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Lets the next sync wait.
    pub fn stop_at_the_next_sync(&self) -> Stop {
        let stop = Stop::default();
        *self.stop.lock() = Some(stop.clone());
        stop
    }

    /// Fails every sync after so many more; one that waits is the first of them.
    pub fn fail_syncs_after(&self, syncs: usize) {
        self.syncs_left.store(syncs, Ordering::Relaxed);
    }

    pub fn fail_writes(&self) {
        self.writes_fail.store(true, Ordering::Relaxed);
    }

    fn name() -> BlobName {
        BlobName::parse("catalogue").unwrap()
    }

    fn check_writable(&self) -> storage::Result<()> {
        if self.access == Access::Read {
            return Err(storage::Error::ReadOnly { name: Self::name() });
        }
        if self.writes_fail.load(Ordering::Relaxed) {
            let (operation, name) = (Operation::Write, Self::name().to_string());
            return Err(storage::Error::Io { operation, name, source: io::Error::other("no space") });
        }
        Ok(())
    }
}

impl Blob for MemoryBlob {
    fn length(&self) -> storage::Result<ByteCount> {
        Ok(ByteCount::of(self.bytes.lock().len()))
    }

    fn read_at(&self, at: HostOffset, buffer: &mut [u8]) -> storage::Result<()> {
        let bytes = self.bytes.lock();
        let start = usize::try_from(at.as_u64()).unwrap();
        match start.checked_add(buffer.len()).and_then(|end| bytes.get(start..end)) {
            Some(found) => buffer.copy_from_slice(found),
            None => {
                let (length, end) = (ByteCount::of(buffer.len()), ByteCount::of(bytes.len()));
                return Err(storage::Error::PastEnd { name: Self::name(), at, length, end });
            }
        }
        Ok(())
    }

    fn write_at(&self, at: HostOffset, written: &[u8]) -> storage::Result<()> {
        self.check_writable()?;
        let mut bytes = self.bytes.lock();
        let start = usize::try_from(at.as_u64()).unwrap();
        let end = start + written.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[start..end].copy_from_slice(written);
        Ok(())
    }

    fn set_length(&self, length: ByteCount) -> storage::Result<()> {
        self.check_writable()?;
        self.bytes.lock().resize(length.as_usize(), 0);
        Ok(())
    }

    fn punch(&self, at: HostOffset, length: ByteCount) -> storage::Result<()> {
        let zeros = vec![0; length.as_usize()];
        self.write_at(at, &zeros)
    }

    fn sync(&self) -> storage::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let stop = self.stop.lock().take();
        if let Some(stop) = stop {
            stop.reach();
        }
        let left = self.syncs_left.load(Ordering::Relaxed);
        self.syncs_left.store(left.saturating_sub(1), Ordering::Relaxed);
        if left == 0 || self.syncs_fail.load(Ordering::Relaxed) {
            let (operation, name) = (Operation::Sync, Self::name().to_string());
            return Err(storage::Error::SyncFailed { operation, name, source: io::Error::other("gone") });
        }
        Ok(())
    }

    fn allocated(&self) -> storage::Result<ByteCount> {
        self.length()
    }

    fn identity(&self) -> Identity {
        Identity { device: 0, number: 1 }
    }

    fn writer_elsewhere(&self) -> storage::Result<Option<Holder>> {
        Ok(None)
    }

    fn hold(&self, _: Hold) -> storage::Result<()> {
        Ok(())
    }
}

/// The same numbers for the same seed, on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn seeded(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end
    }

    pub fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }

    pub fn of<'s, T>(&mut self, choices: &'s [T]) -> &'s T {
        let choice = self.below(u64::try_from(choices.len()).unwrap());
        &choices[usize::try_from(choice).unwrap()]
    }
}

/// A uuid that says whose it is: the kind in the first byte, the id in the last.
pub fn uuid_of(entity: impl Into<Entity>) -> Uuid {
    let entity = entity.into();
    let mut bytes = [0xa5; 16];
    bytes[0] = entity.kind() as u8;
    bytes[8..].copy_from_slice(&entity.number().to_be_bytes());
    Uuid::from_bytes(bytes)
}

pub fn new_catalog() -> Catalog {
    Catalog::create(MemoryBlob::empty(), Uuid::from_u128(1), Timestamp(1_000)).unwrap()
}

pub fn machine(id: u64) -> MachineRecord {
    MachineRecord {
        id: MachineId(id),
        uuid: uuid_of(MachineId(id)),
        name: format!("machine-{id}"),
        description: None,
        running: Running::Here,
        group_current: None,
        created: Timestamp(1_000),
        changed: Timestamp(2_000),
    }
}

/// A volume on a layer, attached to a machine as a device; device 0 is the root.
pub fn volume(id: u64, machine: u64, device_id: u32, head: u64) -> VolumeRecord {
    VolumeRecord {
        id: VolumeId(id),
        uuid: uuid_of(VolumeId(id)),
        name: format!("volume-{id}"),
        description: Some(String::from("a disk")),
        kind: if device_id == 0 { VolumeKind::Root } else { VolumeKind::Data },
        sharing: Sharing::Exclusive,
        attachments: vec![Attachment { machine: MachineId(machine), device_id, since: Timestamp(1_500) }],
        size: ByteCount::gib(1),
        head: LayerId(head),
        tree_current: None,
        wish: WishMark::default(),
        created: Timestamp(1_000),
        changed: Timestamp(2_000),
        chain_max: None,
    }
}

pub fn layer(id: u64, volume: u64, parent: Option<u64>, state: LayerState) -> LayerRecord {
    LayerRecord {
        id: LayerId(id),
        uuid: uuid_of(LayerId(id)),
        blob: BlobName::parse(&format!("layer-{id}.qcow2")).unwrap(),
        format: LayerFormat::Qcow2,
        volume: VolumeId(volume),
        parent: parent.map(LayerId),
        backing_label: parent.map(|parent| format!("layer-{parent}.qcow2")),
        size: ByteCount::gib(1),
        cluster_bits: 16,
        state,
        origin: Origin::Created,
        created: Timestamp(1_000),
        rewrite: None,
        taken_in: None,
        l2: L2Entries::Standard,
        seal: None,
        settled: Settled::Yes,
    }
}

pub fn tree(id: u64, volume: u64, latest: Option<u64>) -> TreeRecord {
    TreeRecord {
        id: TreeId(id),
        uuid: uuid_of(TreeId(id)),
        volume: VolumeId(volume),
        latest: latest.map(SnapshotId),
        created: Timestamp(1_000),
        changed: Timestamp(2_000),
    }
}

/// A snapshot of a volume that names a layer, in the tree of the same number as the volume.
pub fn snapshot(
    id: u64,
    volume: &VolumeRecord,
    layer: u64,
    parent: Option<u64>,
    group: Option<u64>,
) -> SnapshotRecord {
    SnapshotRecord {
        id: SnapshotId(id),
        uuid: uuid_of(SnapshotId(id)),
        name: format!("snapshot-{id}"),
        description: None,
        volume: volume.id,
        volume_uuid: volume.uuid,
        volume_kind: volume.kind,
        tree: TreeId(volume.id.0),
        parent: parent.map(SnapshotId),
        layer: LayerId(layer),
        distance: 1,
        size: ByteCount::mib(3),
        size_virtual: ByteCount::gib(1),
        group: group.map(GroupId),
        tags: Tags::default(),
        wish: WishMark(7),
        created: Timestamp(3_000),
        changed: Timestamp(3_000),
        holds: Vec::new(),
    }
}

pub fn group(id: u64, machine: u64, members: u32, parent: Option<u64>) -> GroupRecord {
    GroupRecord {
        id: GroupId(id),
        uuid: uuid_of(GroupId(id)),
        name: format!("group-{id}"),
        description: Some(String::from("before the upgrade")),
        machine: MachineId(machine),
        machine_uuid: uuid_of(MachineId(machine)),
        snapshot_count: members,
        parent: parent.map(GroupId),
        consistency: Consistency::Crash,
        left_out: Vec::new(),
        tags: Tags::default(),
        wish: WishMark(9),
        created: Timestamp(3_000),
        changed: Timestamp(3_000),
    }
}

/// The membership of a snapshot of a volume.
pub fn member(group: u64, ordinal: u32, snapshot: &SnapshotRecord, volume: &VolumeRecord) -> RefRecord {
    RefRecord {
        group: GroupId(group),
        ordinal,
        snapshot: snapshot.id,
        snapshot_uuid: snapshot.uuid,
        snapshot_name: snapshot.name.clone(),
        snapshot_deleted: false,
        device_id: volume.attachments.first().map_or(0, |attachment| attachment.device_id),
        volume: volume.id,
        volume_uuid: volume.uuid,
        volume_name: volume.name.clone(),
        volume_kind: volume.kind,
        blob: BlobName::parse(&format!("layer-{}.qcow2", snapshot.layer.0)).unwrap(),
        attached_since: Timestamp(1_500),
        created: Timestamp(3_000),
        changed: Timestamp(3_000),
    }
}

/// A lawful world: machine 1 with the volumes 1 (root) and 2, two groups of both disks, group 1 the parent of group 2.
///
/// Volume v has the layers 10v (frozen, snapshot 10v), 10v+1 (frozen, snapshot 10v+1), 10v+2 (head), and the tree v.
pub fn world() -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut owner = machine(1);
    owner.group_current = Some(GroupId(2));
    edits.push(owner.into());
    let mut one = group(1, 1, 2, None);
    one.tags.user_tags = vec![String::from("nightly")];
    one.tags.system_tags = vec![String::from("CreatedBySystem")];
    one.tags.tag_uuids = vec![Uuid::from_u128(0xfeed)];
    edits.push(one.into());
    edits.push(group(2, 1, 2, Some(1)).into());
    for number in [1, 2] {
        let device_id = u32::try_from(number - 1).unwrap();
        let base = number * 10;
        let mut disk = volume(number, 1, device_id, base + 2);
        disk.tree_current = Some(TreeId(number));
        edits.push(layer(base, number, None, LayerState::Frozen).into());
        edits.push(layer(base + 1, number, Some(base), LayerState::Frozen).into());
        edits.push(layer(base + 2, number, Some(base + 1), LayerState::Head).into());
        edits.push(tree(number, number, Some(base + 1)).into());
        let first = snapshot(base, &disk, base, None, Some(1));
        let mut second = snapshot(base + 1, &disk, base + 1, Some(base), Some(2));
        second.distance = 2;
        edits.push(member(1, device_id, &first, &disk).into());
        edits.push(member(2, device_id, &second, &disk).into());
        edits.push(first.into());
        edits.push(second.into());
        edits.push(disk.into());
    }
    edits
}

/// A catalogue that holds [`world`].
pub fn world_catalog() -> Catalog {
    let catalog = new_catalog();
    catalog.commit(Some(0), &world()).unwrap();
    catalog
}
