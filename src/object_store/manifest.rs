//! What an archive knows of a group.

use crate::engine::SealId;
use crate::inventory::VolumeType;
use crate::units::ByteCount;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use uuid::Uuid;

/// The format that is written and read.
pub(super) const FORMAT: u32 = 1;

/// What an archive knows of a group. Written as JSON.
///
/// An example is at [`object_store`](crate::object_store).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Manifest {
    /// The format of the manifest, 1.
    pub format: u32,
    /// The pool that it was exported from.
    #[serde(with = "uuid::serde::simple")]
    pub pool: Uuid,
    /// The group.
    #[serde(with = "uuid::serde::simple")]
    pub group: Uuid,
    /// Its name.
    pub name: String,
    /// Its description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The machine.
    #[serde(with = "uuid::serde::simple")]
    pub machine: Uuid,
    /// Its name.
    pub machine_name: String,
    /// The disks, in the order of their device ids.
    pub members: Vec<ManifestMember>,
    /// The CRC-32 of the manifest as it is written without spaces and with 0 here.
    pub checksum: u32,
}

/// A disk of a group.
///
/// An example is at [`object_store`](crate::object_store).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ManifestMember {
    /// The volume.
    #[serde(with = "uuid::serde::simple")]
    pub volume: Uuid,
    /// Its name.
    pub volume_name: String,
    /// What it is to its machine.
    pub volume_type: VolumeType,
    /// Its device id.
    pub device_id: u32,
    /// The snapshot.
    #[serde(with = "uuid::serde::simple")]
    pub snapshot: Uuid,
    /// The size of the disk in bytes.
    pub size: ByteCount,
    /// What it reads through, the lowest first. Never empty.
    pub layers: Vec<ManifestLayer>,
}

/// A layer that a disk reads through.
///
/// An example is at [`object_store`](crate::object_store).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ManifestLayer {
    /// The layer.
    #[serde(with = "uuid::serde::simple")]
    pub uuid: Uuid,
    /// Its seal.
    #[serde(with = "seal_id")]
    pub seal: SealId,
    /// The size of its disk in bytes.
    pub size: ByteCount,
    /// The bytes of data that it holds.
    pub data: ByteCount,
}

impl Manifest {
    /// The same with its checksum.
    pub(super) fn sealed(self) -> Self {
        let bare = Self { checksum: 0, ..self };
        let bytes = serde_json::to_vec(&bare).expect("a manifest is made of texts and numbers");
        Self { checksum: crc32fast::hash(&bytes), ..bare }
    }

    /// What is wrong with it as the manifest of a group.
    pub(super) fn check(&self, group: Uuid) -> std::result::Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("it has format {}, this version reads {FORMAT}", self.format));
        }
        if self.clone().sealed().checksum != self.checksum {
            return Err("it is not what was written: its checksum is another one".to_owned());
        }
        if self.group != group {
            return Err(format!("it is of group {}", self.group.simple()));
        }
        let (mut volumes, mut devices) = (HashSet::new(), HashSet::new());
        for member in &self.members {
            if !volumes.insert(member.volume) || !devices.insert(member.device_id) {
                return Err(format!("volume {} or its device id is there twice", member.volume.simple()));
            }
            if member.layers.last().is_none_or(|top| top.size != member.size) {
                return Err(format!("the layers of volume {} are not of its size", member.volume.simple()));
            }
        }
        Ok(())
    }
}

mod seal_id {
    //! The id of a seal as text.

    use super::SealId;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(id: &SealId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SealId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
