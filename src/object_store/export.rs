//! From a pool into an archive: of each layer the data, then the seal; of the group the manifest, last of all.

use super::Archive;
use super::error::{ArchiveError, Result};
use super::manifest::{FORMAT, Manifest, ManifestLayer, ManifestMember};
use crate::engine::{self, Engine, Refusal, SealContents, SealedData, SealedLayer, UuidArg};
use crate::inventory::RefInventory;
use crate::units::ByteCount;
use ::object_store::path::Path;
use ::object_store::{MultipartUpload, ObjectStoreExt, PutPayload};

/// How often the layers of a disk are asked for anew when the pool has written to one of them meanwhile.
const TRIES: u32 = 8;

/// What an export has done.
///
/// An example is at [`object_store`](crate::object_store).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// The layers that were sent.
    pub layers_sent: u64,
    /// The layers that were there.
    pub layers_there: u64,
    /// The bytes that were sent: data and seals.
    pub bytes_sent: ByteCount,
}

impl Archive {
    /// Sends a group. Layers that are there are not sent again; those that have no seal in the pool are sealed first. The
    /// group is in the archive when this returns, and not before. The volumes may be written meanwhile.
    ///
    /// The same call again sends nothing but the manifest.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::NotWhole`] when a member was deleted; [`ArchiveError::Pool`] for a group that is not there, and for a
    /// layer that does not hold what was sealed; [`ArchiveError::Store`]. There is then no manifest, unless there was one.
    pub async fn export_group(&self, engine: &Engine, group: impl Into<UuidArg>) -> Result<Exported> {
        let group = engine.group(group)?;
        let machine = engine.machine(group.vm_instance_uuid)?;
        let mut exported = Exported::default();
        let mut members = Vec::with_capacity(group.volume_snapshot_refs.len());
        for member in &group.volume_snapshot_refs {
            if member.snapshot_deleted {
                return Err(ArchiveError::NotWhole { group: group.uuid, volume: member.volume_uuid });
            }
            members.push(self.send_member(engine, member, &mut exported).await?);
        }
        let manifest = Manifest {
            format: FORMAT,
            pool: engine.uuid(),
            group: group.uuid,
            name: group.name,
            description: group.description,
            machine: machine.uuid,
            machine_name: machine.name,
            members,
            checksum: 0,
        }
        .sealed();
        let bytes = serde_json::to_vec_pretty(&manifest).expect("a manifest is made of texts and numbers");
        self.put(&self.manifest_path(manifest.group), bytes).await?;
        Ok(exported)
    }

    /// Sends what a snapshot reads through.
    async fn send_member(
        &self,
        engine: &Engine,
        member: &RefInventory,
        exported: &mut Exported,
    ) -> Result<ManifestMember> {
        let mut tries = TRIES;
        let layers = loop {
            let sealed = engine.sealed_layers(member.volume_snapshot_uuid);
            let sent = match sealed {
                Ok(sealed) => self.send_layers(&sealed, exported).await,
                Err(error) => Err(error.into()),
            };
            tries -= 1;
            match sent {
                // The pool has merged layers meanwhile: others hold the same now.
                Err(ArchiveError::Pool(engine::Error::Refused(Refusal::NotSealed { .. }))) if tries > 0 => {}
                sent => break sent?,
            }
        };
        Ok(ManifestMember {
            volume: member.volume_uuid,
            volume_name: member.volume_name.clone(),
            volume_type: member.volume_type,
            device_id: member.device_id,
            snapshot: member.volume_snapshot_uuid,
            size: layers.last().expect("a snapshot has a layer of its own").size,
            layers,
        })
    }

    async fn send_layers(
        &self,
        sealed: &[SealedLayer],
        exported: &mut Exported,
    ) -> Result<Vec<ManifestLayer>> {
        let mut layers = Vec::with_capacity(sealed.len());
        for layer in sealed {
            let (uuid, seal) = (layer.uuid(), layer.seal());
            let place = self.layer_path(uuid, seal, "seal");
            let bytes = layer.seal_bytes()?;
            let contents = SealContents::parse(&bytes, seal);
            let contents = contents.map_err(|error| ArchiveError::Seal {
                object: layer.file().to_owned(),
                rule: error.to_string(),
            })?;
            let data = contents.data();
            if self.length(&place).await? == Some(seal.length()) && self.has_data(layer, data).await? {
                exported.layers_there += 1;
            } else {
                self.send_data(&self.layer_path(uuid, seal, "data"), layer.reader()?, data).await?;
                self.put(&place, bytes).await?;
                exported.layers_sent += 1;
                exported.bytes_sent += data + seal.length();
            }
            layers.push(ManifestLayer { uuid, seal, size: layer.size(), data });
        }
        Ok(layers)
    }

    /// Whether as much data of a layer is there as there should be.
    async fn has_data(&self, layer: &SealedLayer, data: ByteCount) -> Result<bool> {
        let place = self.layer_path(layer.uuid(), layer.seal(), "data");
        Ok(data.is_zero() || self.length(&place).await? == Some(data))
    }

    /// Sends the data of a layer: in one piece, or in several that become an object together.
    async fn send_data(&self, path: &Path, mut from: SealedData<'_>, length: ByteCount) -> Result<()> {
        if length <= self.part {
            return match from.read(length)? {
                bytes if bytes.is_empty() => Ok(()),
                bytes => self.put(path, bytes).await,
            };
        }
        let upload = self.store.put_multipart(path).await;
        let mut upload = upload.map_err(|source| ArchiveError::store(path, source))?;
        let sent = self.send_parts(path, &mut *upload, from).await;
        if sent.is_err() {
            // Best effort: the pieces are no object, whatever becomes of them.
            drop(upload.abort().await);
        }
        sent
    }

    async fn send_parts(
        &self,
        path: &Path,
        upload: &mut dyn MultipartUpload,
        mut from: SealedData<'_>,
    ) -> Result<()> {
        let mut pending: Vec<u8> = Vec::new();
        let part = self.part.as_usize();
        loop {
            let read = from.read(self.part)?;
            let is_end = read.is_empty();
            pending.extend(read);
            // All pieces but the last one are of one size, which some back ends ask for.
            while pending.len() >= part || (is_end && !pending.is_empty()) {
                let rest = pending.split_off(part.min(pending.len()));
                let piece = std::mem::replace(&mut pending, rest);
                let sent = upload.put_part(PutPayload::from(piece)).await;
                sent.map_err(|source| ArchiveError::store(path, source))?;
            }
            if is_end {
                break;
            }
        }
        let whole = upload.complete().await;
        whole.map(drop).map_err(|source| ArchiveError::store(path, source))
    }

    async fn put(&self, path: &Path, bytes: Vec<u8>) -> Result<()> {
        let put = self.store.put(path, PutPayload::from(bytes)).await;
        put.map(drop).map_err(|source| ArchiveError::store(path, source))
    }
}
