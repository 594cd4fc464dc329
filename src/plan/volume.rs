//! A volume: new, attached, detached, made larger.

use super::refusal::Refusal;
use super::text::{backing_label, layer_blob};
use super::{NewFile, Plan};
use crate::catalog::{
    Attachment, Edit, IdSource, L2Entries, LayerFormat, LayerId, LayerRecord, LayerState, MachineRecord,
    Origin, Running, Settled, Sharing, Timestamp, VolumeId, VolumeKind, VolumeRecord, WishMark,
};
use crate::units::ByteCount;
use uuid::Uuid;

/// Volumes of one machine get device ids below this.
const DEVICE_IDS: u32 = 65_536;

/// What a volume shall be, as far as the caller chooses.
#[derive(Clone, Debug)]
pub(crate) struct VolumeWish {
    pub(crate) uuid: Uuid,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) kind: VolumeKind,
    pub(crate) sharing: Sharing,
    /// The longest chain that it may have; absent when that is the pool's.
    pub(crate) chain_max: Option<u32>,
    pub(crate) mark: WishMark,
}

impl VolumeWish {
    /// Refuses what no volume can be.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        check_chain_max(self.chain_max)?;
        match (self.kind, self.sharing) {
            (VolumeKind::Root, Sharing::Shareable) => Err(Refusal::ShareableRoot),
            (VolumeKind::Memory, Sharing::Shareable) => Err(Refusal::ShareableMemory),
            _ => Ok(()),
        }
    }

    /// The record of the volume.
    pub(crate) fn record(&self, id: VolumeId, size: ByteCount, head: LayerId, at: Timestamp) -> VolumeRecord {
        VolumeRecord {
            id,
            uuid: self.uuid,
            name: self.name.clone(),
            description: self.description.clone(),
            kind: self.kind,
            sharing: self.sharing,
            attachments: Vec::new(),
            size,
            head,
            tree_current: None,
            wish: self.mark,
            created: at,
            changed: at,
            chain_max: self.chain_max,
        }
    }
}

/// What a new image shall be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ImageShape {
    pub(crate) size: ByteCount,
    pub(crate) cluster_bits: u8,
    pub(crate) l2: L2Entries,
}

impl ImageShape {
    /// A shape with standard L2 entries.
    pub(crate) fn standard(size: ByteCount, cluster_bits: u8) -> Self {
        Self { size, cluster_bits, l2: L2Entries::Standard }
    }
}

/// Plans a volume, whose wish was checked, with a new image: empty, or above a layer of the pool.
pub(crate) fn create(
    wish: &VolumeWish,
    shape: ImageShape,
    base: Option<&LayerRecord>,
    layer: Uuid,
    at: Timestamp,
    ids: &IdSource,
) -> (Plan, VolumeRecord) {
    let mut plan = Plan::default();
    let volume = wish.record(ids.take_volume(), shape.size, ids.take_layer(), at);
    add_overlay(&mut plan, &volume, shape, base, layer, at);
    plan.edits.push(Edit::PutVolume(volume.clone()));
    (plan, volume)
}

/// Adds the image that a volume writes to: a new file, empty or above `base`.
pub(crate) fn add_overlay(
    plan: &mut Plan,
    volume: &VolumeRecord,
    shape: ImageShape,
    base: Option<&LayerRecord>,
    layer: Uuid,
    at: Timestamp,
) {
    let head = LayerRecord {
        id: volume.head,
        uuid: layer,
        blob: layer_blob(layer),
        format: LayerFormat::Qcow2,
        volume: volume.id,
        parent: base.map(|base| base.id),
        backing_label: base.map(|base| backing_label(&base.blob)),
        size: shape.size,
        cluster_bits: shape.cluster_bits,
        state: LayerState::Head,
        origin: Origin::Created,
        created: at,
        rewrite: None,
        taken_in: None,
        l2: shape.l2,
        seal: None,
        settled: Settled::No,
    };
    plan.files.push(NewFile {
        layer: head.clone(),
        backing_format: base.map(|base| base.format),
        volume_uuid: volume.uuid,
    });
    plan.edits.push(Edit::PutLayer(head));
}

/// Plans the attaching of a volume; `device_id` is the lowest free one unless given.
pub(crate) fn attach(
    machine: &MachineRecord,
    attached: &[VolumeRecord],
    volume: &VolumeRecord,
    device_id: Option<u32>,
    holders: &[MachineRecord],
    at: Timestamp,
) -> Result<(Plan, VolumeRecord), Refusal> {
    let machine_uuid = machine.uuid;
    let already =
        holders.iter().find(|holder| holder.id == machine.id || volume.sharing == Sharing::Exclusive);
    if let Some(holder) = already {
        return Err(Refusal::AttachedAlready { volume: volume.uuid, machine: holder.uuid });
    }
    if let Some(root) = attached.iter().find(|other| other.kind == VolumeKind::Root)
        && volume.kind == VolumeKind::Root
    {
        return Err(Refusal::RootAlready { machine: machine_uuid, root: root.uuid });
    }
    if let Some(memory) = attached.iter().find(|other| other.kind == VolumeKind::Memory)
        && volume.kind == VolumeKind::Memory
    {
        return Err(Refusal::MemoryAlready { machine: machine_uuid, memory: memory.uuid });
    }
    let taken = |id: u32| {
        attached
            .iter()
            .find(|other| other.attachment(machine.id).is_some_and(|attachment| attachment.device_id == id))
    };
    let device_id = match device_id {
        Some(id) if id >= DEVICE_IDS => {
            return Err(Refusal::BadValue { what: format!("device id {id}"), rule: "below 65536" });
        }
        Some(id) => match taken(id) {
            Some(other) => {
                return Err(Refusal::DeviceTaken {
                    machine: machine_uuid,
                    device_id: id,
                    volume: other.uuid,
                });
            }
            None => id,
        },
        None => (0..DEVICE_IDS)
            .find(|id| taken(*id).is_none())
            .ok_or(Refusal::NotYet { what: "a machine with more than 65536 volumes" })?,
    };
    let mut volume = volume.clone();
    volume.attachments.push(Attachment { machine: machine.id, device_id, since: at });
    volume.changed = at;
    let edits = vec![Edit::PutVolume(volume.clone())];
    Ok((Plan { edits, ..Plan::default() }, volume))
}

/// Plans the detaching of a volume from a machine.
pub(crate) fn detach(
    machine: &MachineRecord,
    volume: &VolumeRecord,
    at: Timestamp,
) -> Result<(Plan, VolumeRecord), Refusal> {
    if volume.attachment(machine.id).is_none() {
        return Err(Refusal::NotOfMachine { volume: volume.uuid, machine: machine.uuid });
    }
    if machine.running == Running::Elsewhere {
        let refused = "no volume can be detached";
        return Err(Refusal::RunsElsewhere { uuid: machine.uuid, refused });
    }
    let volume = volume.detached_from(machine.id, at);
    let edits = vec![Edit::PutVolume(volume.clone())];
    Ok((Plan { edits, ..Plan::default() }, volume))
}

/// Plans a larger disk. The file of its head is durable: what it holds is no function of the record any more.
pub(crate) fn resize(
    volume: &VolumeRecord,
    head: &LayerRecord,
    holders: &[MachineRecord],
    size: ByteCount,
    at: Timestamp,
) -> Result<(Plan, VolumeRecord), Refusal> {
    if let Some(machine) = holders.iter().find(|machine| machine.running == Running::Elsewhere) {
        let refused = "its disks cannot be resized";
        return Err(Refusal::RunsElsewhere { uuid: machine.uuid, refused });
    }
    check_size(size)?;
    if size < volume.size {
        return Err(Refusal::Shrink { uuid: volume.uuid, size: volume.size, wanted: size });
    }
    let volume = VolumeRecord { size, changed: at, ..volume.clone() };
    let edits = vec![
        Edit::PutVolume(volume.clone()),
        Edit::PutLayer(LayerRecord { size, settled: Settled::Yes, ..head.clone() }),
    ];
    Ok((Plan { edits, ..Plan::default() }, volume))
}

/// Plans the way back when a disk could not be made larger.
pub(crate) fn restore(volume: &VolumeRecord, head: &LayerRecord) -> Plan {
    let head = LayerRecord { size: volume.size, settled: Settled::Yes, ..head.clone() };
    let edits = vec![Edit::PutVolume(volume.clone()), Edit::PutLayer(head)];
    Plan { edits, ..Plan::default() }
}

/// What a volume is told to be from now on; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub(crate) struct VolumeChange {
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    /// Its longest chain; absent inside when that shall be the pool's.
    pub(crate) chain_max: Option<Option<u32>>,
}

/// Plans other text or another longest chain; nothing when nothing changes.
pub(crate) fn update(
    volume: &VolumeRecord,
    change: VolumeChange,
    at: Timestamp,
) -> Result<Option<(Plan, VolumeRecord)>, Refusal> {
    let chain_max = change.chain_max.unwrap_or(volume.chain_max);
    check_chain_max(chain_max)?;
    let name = change.name.unwrap_or_else(|| volume.name.clone());
    let description = change.description.or_else(|| volume.description.clone());
    let changed = VolumeRecord { name, description, chain_max, ..volume.clone() };
    if changed == *volume {
        return Ok(None);
    }
    let changed = VolumeRecord { changed: at, ..changed };
    let edits = vec![Edit::PutVolume(changed.clone())];
    Ok(Some((Plan { edits, ..Plan::default() }, changed)))
}

/// Refuses a longest chain in which not even the head has room.
fn check_chain_max(chain_max: Option<u32>) -> Result<(), Refusal> {
    match chain_max {
        Some(0) => Err(Refusal::BadValue { what: "a longest chain of 0 layers".into(), rule: "at least 1" }),
        _ => Ok(()),
    }
}

/// Refuses a size that no disk can have.
pub(crate) fn check_size(size: ByteCount) -> Result<(), Refusal> {
    if !size.as_u64().is_multiple_of(512) {
        return Err(Refusal::BadValue { what: size.to_string(), rule: "a multiple of 512 bytes" });
    }
    Ok(())
}
