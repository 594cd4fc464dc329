//! From an archive into a pool, through the pool's public calls. What is fetched is compared with its seal before it is
//! written.

use super::Archive;
use super::error::{ArchiveError, Result};
use super::manifest::{Manifest, ManifestLayer, ManifestMember};
use crate::engine::{
    CreateGroup, CreateMachine, CreateVolume, DeleteVolume, Engine, SealContents, Stretch, UuidArg, Volume,
    VolumeKind,
};
use crate::inventory::{GroupInventory, VolumeType};
use crate::units::ByteCount;
use ::object_store::path::Path;
use uuid::Uuid;

/// Whether what is restored has the uuids that it had.
///
/// An example is at [`object_store`](crate::object_store).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Uuids {
    /// Fresh ones: beside what is there.
    #[default]
    Fresh,
    /// The machine, its volumes and the group have theirs again. What already has one of them is in the way.
    Kept,
}

/// How a group is restored.
///
/// An example is at [`object_store`](crate::object_store).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreGroup {
    /// The name of the machine; absent, the one that it had.
    pub machine_name: Option<String>,
    /// Which uuids it gets. Default: fresh ones.
    pub uuids: Uuids,
}

/// What was restored.
///
/// An example is at [`object_store`](crate::object_store).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// The machine.
    pub machine: Uuid,
    /// Its volumes, in the order of their device ids.
    pub volumes: Vec<Uuid>,
    /// The group: its disks hold what they held.
    pub group: GroupInventory,
    /// The bytes that were fetched, data and seals.
    pub bytes_fetched: ByteCount,
}

/// What a verification has read.
///
/// An example is at [`object_store`](crate::object_store).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The layers, each as often as a member reads through it.
    pub layers: u64,
    /// The bytes that were fetched, data and seals.
    pub bytes_fetched: ByteCount,
}

impl Archive {
    /// Fetches everything that a group needs, and compares it with the seals.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Missing`], [`ArchiveError::Length`], [`ArchiveError::Seal`], [`ArchiveError::Differs`]: the group
    /// cannot be restored. As [`Archive::manifest`].
    pub async fn verify_group(&self, group: Uuid) -> Result<Verified> {
        let manifest = self.manifest(group).await?;
        let mut verified = Verified::default();
        for layer in manifest.members.iter().flat_map(|member| &member.layers) {
            self.fetch_layer(layer, &mut verified.bytes_fetched, |_, _| Ok(())).await?;
            verified.layers += 1;
        }
        Ok(verified)
    }

    /// Makes a machine, its volumes with what they held, and the group. The group is taken last, and durable when this
    /// returns.
    ///
    /// Each volume is one layer and holds what the group's disk held; the snapshots before it are not made anew. On an error,
    /// and when the future is dropped, what was made is removed. After a crash of the process it is there: a machine without
    /// the group.
    ///
    /// # Errors
    ///
    /// As [`Archive::verify_group`]; [`ArchiveError::Pool`] when the pool refuses a name or a uuid, or has no room.
    pub async fn restore_group(
        &self,
        engine: &Engine,
        group: Uuid,
        request: &RestoreGroup,
    ) -> Result<Restored> {
        let manifest = self.manifest(group).await?;
        let kept = |uuid: Uuid| (request.uuids == Uuids::Kept).then(|| UuidArg::from(uuid));
        // A repeat of an old wish would answer what is there: nothing of it is this restore's to fill, or to remove.
        if request.uuids == Uuids::Kept {
            refuse_taken(engine, &manifest)?;
        }
        let name = request.machine_name.as_deref().unwrap_or(&manifest.machine_name);
        let machine = engine
            .create_machine(&CreateMachine {
                resource_uuid: kept(manifest.machine),
                ..CreateMachine::new(name)
            })?
            .uuid;
        let mut made = Made { engine, machine, volumes: Vec::new(), is_whole: false };
        let mut bytes_fetched = ByteCount::ZERO;
        for member in &manifest.members {
            let volume = engine.create_volume(&CreateVolume {
                kind: kind(member.volume_type),
                resource_uuid: kept(member.volume),
                ..CreateVolume::new(member.volume_name.clone(), member.size)
            })?;
            made.volumes.push(volume.uuid);
            engine.attach_volume(volume.uuid, machine, Some(member.device_id))?;
            let disk = engine.open_volume(volume.uuid)?;
            self.fill(&disk, member, &mut bytes_fetched).await?;
        }
        let group = engine.create_group(&CreateGroup {
            description: manifest.description.clone(),
            resource_uuid: kept(manifest.group),
            ..CreateGroup::of_machine(machine, manifest.name.clone())
        })?;
        made.is_whole = true;
        let volumes = std::mem::take(&mut made.volumes);
        Ok(Restored { machine, volumes, group: group.inventory, bytes_fetched })
    }

    /// Writes what a disk held: its layers, the lowest first, each over those before it.
    async fn fill(&self, disk: &Volume, member: &ManifestMember, fetched: &mut ByteCount) -> Result<()> {
        for (depth, layer) in member.layers.iter().enumerate() {
            // What one of the layers above has no room for does not show through it, even where one above that has.
            let end = member.layers[depth..].iter().map(|layer| layer.size).min().expect("the layer itself");
            let mut write = |at: u64, bytes: Bytes<'_>| -> Result<()> {
                let left = end.saturating_sub(ByteCount::new(at));
                match bytes {
                    Bytes::Data(bytes) => {
                        let length = left.min(ByteCount::of(bytes.len())).as_usize();
                        disk.write_at(at, &bytes[..length])?;
                    }
                    // The disk is new: where nothing was written there are zeros.
                    Bytes::Zeros(_) if depth == 0 => {}
                    Bytes::Zeros(length) => {
                        disk.write_zeroes(at.min(end.as_u64()), length.min(left).as_u64())?
                    }
                }
                Ok(())
            };
            self.fetch_layer(layer, fetched, &mut write).await?;
        }
        Ok(disk.flush()?)
    }

    /// Fetches a layer, and hands on what it holds, piece by piece, once it was compared.
    async fn fetch_layer(
        &self,
        layer: &ManifestLayer,
        fetched: &mut ByteCount,
        mut each: impl FnMut(u64, Bytes<'_>) -> Result<()>,
    ) -> Result<()> {
        let place = self.layer_path(layer.uuid, layer.seal, "seal");
        let contents = self.fetch_seal(&place, layer).await?;
        *fetched += layer.seal.length();
        let place = self.layer_path(layer.uuid, layer.seal, "data");
        let mut source = Source { archive: self, place: &place, at: 0, end: layer.data, pending: Vec::new() };
        for stretch in &contents.stretches {
            let (at, length) = contents.range(stretch);
            match stretch {
                Stretch::Zeros { .. } => each(at, Bytes::Zeros(length))?,
                Stretch::Data { .. } => {
                    let grains = (self.part.as_u64() / contents.grain.as_u64()).max(1);
                    let piece = ByteCount::new(grains * contents.grain.as_u64());
                    let mut done = ByteCount::ZERO;
                    while done < length {
                        let bytes = source.take(piece.min(length.saturating_sub(done))).await?;
                        let (at, from) = (at + done.as_u64(), done.as_u64() / contents.grain.as_u64());
                        if !contents.is_content_of(stretch, from, &bytes) {
                            return Err(ArchiveError::Differs { object: place.to_string(), at });
                        }
                        done += ByteCount::of(bytes.len());
                        each(at, Bytes::Data(&bytes))?;
                    }
                    *fetched += length;
                }
            }
        }
        Ok(())
    }

    /// The seal of a layer, which must be the one that the manifest names, of the layer that it names.
    async fn fetch_seal(&self, place: &Path, layer: &ManifestLayer) -> Result<SealContents> {
        let wrong = |rule: String| ArchiveError::Seal { object: place.to_string(), rule };
        let bytes = self.fetch(place, 0, layer.seal.length()).await?;
        let contents = SealContents::parse(&bytes, layer.seal).map_err(|error| wrong(error.to_string()))?;
        if (contents.layer, contents.size, contents.data()) != (layer.uuid, layer.size, layer.data) {
            return Err(wrong("it is of another layer than the manifest names".to_owned()));
        }
        Ok(contents)
    }
}

/// What a layer holds somewhere.
enum Bytes<'a> {
    Data(&'a [u8]),
    Zeros(ByteCount),
}

/// The data of a layer, fetched in pieces.
struct Source<'a> {
    archive: &'a Archive,
    place: &'a Path,
    /// How much was fetched, and how much there is.
    at: u64,
    end: ByteCount,
    pending: Vec<u8>,
}

impl Source<'_> {
    async fn take(&mut self, length: ByteCount) -> Result<Vec<u8>> {
        while ByteCount::of(self.pending.len()) < length {
            // What the seal says there is was compared with `end`: there is as much.
            let piece = self.archive.part.min(self.end.saturating_sub(ByteCount::new(self.at)));
            let bytes = self.archive.fetch(self.place, self.at, piece).await?;
            self.at += piece.as_u64();
            self.pending.extend(bytes);
        }
        let rest = self.pending.split_off(length.as_usize());
        Ok(std::mem::replace(&mut self.pending, rest))
    }
}

/// What a restore has made so far; removed when it is not whole.
struct Made<'a> {
    engine: &'a Engine,
    machine: Uuid,
    volumes: Vec<Uuid>,
    is_whole: bool,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if self.is_whole {
            return;
        }
        // Best effort: what cannot be removed stays, and is seen.
        for volume in &self.volumes {
            drop(self.engine.detach_volume(*volume, self.machine));
            drop(self.engine.delete_volume(&DeleteVolume::new(*volume)));
        }
        drop(self.engine.delete_machine(self.machine));
    }
}

/// Refuses when the pool has something with one of the uuids that are to be kept.
fn refuse_taken(engine: &Engine, manifest: &Manifest) -> Result<()> {
    use crate::engine::{Error, Refusal};
    let taken = |uuid: Uuid, by| Err(ArchiveError::Pool(Error::Refused(Refusal::UuidTaken { uuid, by })));
    if engine.machine(manifest.machine).is_ok() {
        return taken(manifest.machine, "machine");
    }
    if engine.group(manifest.group).is_ok() {
        return taken(manifest.group, "group");
    }
    let there = manifest.members.iter().find(|member| engine.volume(member.volume).is_ok());
    there.map_or(Ok(()), |member| taken(member.volume, "volume"))
}

fn kind(volume: VolumeType) -> VolumeKind {
    match volume {
        VolumeType::Root => VolumeKind::Root,
        VolumeType::Data => VolumeKind::Data,
        VolumeType::Memory => VolumeKind::Memory,
    }
}
