//! Groups kept elsewhere: sealed layers and the manifests of groups, in any back end of the crate
//! [`object_store`](https://docs.rs/object_store), and back into a pool.
//!
//! An [`Archive`] is a back end and a prefix in it. [`Archive::export_group`] sends what a group reads through, layer by
//! layer; a layer that is there already, by its seal, is not sent again, so that the second group of a machine costs what was
//! written since the first one. [`Archive::restore_group`] makes the machine, its volumes and the group anew, in the same pool
//! or another one, and compares every byte with the seals before it is written. [`Archive::verify_group`] compares without
//! restoring.
//!
//! ```
//! use object_store::memory::InMemory;
//! use snapgroup::object_store::{Archive, ArchiveError, Exported, Manifest, ManifestLayer, ManifestMember, RestoreGroup};
//! use snapgroup::object_store::{Restored, Uuids, Verified};
//! use snapgroup::{ByteCount, CreateGroup, CreateMachine, CreateVolume, Engine, Options};
//! use std::sync::Arc;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let engine = Engine::in_memory(Options::default())?;
//! # let machine = engine.create_machine(&CreateMachine::new("web-1"))?;
//! # let volume = engine.create_volume(&CreateVolume::new("system", ByteCount::mib(64)).as_root())?;
//! # engine.attach_volume(volume.uuid, machine.uuid, None)?;
//! # engine.open_volume(volume.uuid)?.write_at(0, b"precious")?;
//! let group = engine.create_group(&CreateGroup::of_machine(machine.uuid, "nightly"))?.inventory;
//!
//! # async fn work(engine: Engine, group: snapgroup::Uuid) -> snapgroup::object_store::Result<()> {
//! let archive = Archive::new(Arc::new(InMemory::new()), "pools/web")?.with_part(ByteCount::mib(16));
//! assert_eq!(archive.part(), ByteCount::mib(16)); // the most that is held at once
//! let exported: Exported = archive.export_group(&engine, group).await?;
//! assert_eq!(exported.layers_sent, 1);
//! assert_eq!(archive.export_group(&engine, group).await?.layers_sent, 0);
//!
//! assert_eq!(archive.groups().await?, [group]);
//! let manifest: Manifest = archive.manifest(group).await?;
//! let member: &ManifestMember = &manifest.members[0];
//! let layers: &[ManifestLayer] = &member.layers;
//! let verified: Verified = archive.verify_group(group).await?;
//! assert_eq!(verified.layers, layers.len() as u64);
//! let nobody = archive.manifest(snapgroup::Uuid::nil()).await;
//! assert!(matches!(nobody, Err(ArchiveError::NoGroup { .. })));
//!
//! let elsewhere = Engine::in_memory(Options::default())?;
//! let request = RestoreGroup { uuids: Uuids::Kept, ..RestoreGroup::default() };
//! let restored: Restored = archive.restore_group(&elsewhere, group, &request).await?;
//! let mut buffer = [0; 8];
//! elsewhere.open_volume(restored.volumes[0])?.read_at(0, &mut buffer)?;
//! assert_eq!(&buffer, b"precious");
//! # Ok(())
//! # }
//! # let mut work = std::pin::pin!(work(engine, group.uuid));
//! # let mut context = std::task::Context::from_waker(std::task::Waker::noop());
//! # while work.as_mut().poll(&mut context)?.is_pending() {}
//! # Ok(())
//! # }
//! ```
//!
//! # What lies there
//!
//! | object | what it is |
//! |---|---|
//! | `layers/LAYER/SEAL/data` | the clusters of data that the layer holds itself, one after the other, in the order of the disk |
//! | `layers/LAYER/SEAL/seal` | the seal: where each of them belongs, where there are zeros, and a CRC-32 of each ([`SealContents`](crate::SealContents)) |
//! | `groups/GROUP.json` | the manifest of a group: its names, its members, and the layers of each ([`Manifest`]) |
//!
//! `LAYER` and `GROUP` are uuids, `SEAL` is a [`SealId`]. Of a layer, `seal` comes last; of a group, the manifest comes last. So
//! whatever an upload that was cut off has left: what has no `seal` is no layer and is sent again, and what has no manifest is
//! no group. Each object is put whole or not at all, which every back end of `object_store` promises.
//!
//! Nothing is ever removed. Two groups may name one layer: remove the manifest of a group first, and then the layers that no
//! manifest names, while nobody exports.
//!
//! # What a seal proves
//!
//! That bytes are those that the pool has sealed, as far as a CRC-32 tells: it finds what rots, what is cut off and what is
//! exchanged by mistake. It is no signature. Whoever may write to the archive can make other seals for other data.
//!
//! # Runtimes
//!
//! The functions are `async` and choose no runtime; what they need beside the back end is nothing. The crate `object_store` is
//! linked without its features: which back ends there are (`aws`, `gcp`, `azure`, `http`, `fs`) is for the host to say, which
//! depends on `object_store` itself; all of those bring along tokio. Between two requests to the back end at most
//! [`Archive::part`] bytes are read from the pool, or written to it, and that blocks the thread: make the calls where it may
//! block. A future that is dropped stops; what was sent stays, and what was restored by half is removed.

mod error;
mod export;
mod manifest;
mod restore;

pub use error::{ArchiveError, Result};
pub use export::Exported;
pub use manifest::{Manifest, ManifestLayer, ManifestMember};
pub use restore::{RestoreGroup, Restored, Uuids, Verified};

use crate::engine::SealId;
use crate::units::ByteCount;
use ::object_store::path::Path;
use ::object_store::{ObjectStore, ObjectStoreExt};
use std::sync::Arc;
use uuid::Uuid;

/// How much is sent, or fetched, in one piece.
const PART: ByteCount = ByteCount::mib(8);
/// The least that back ends take as a piece of a larger object, but for the last one.
const PART_MIN: ByteCount = ByteCount::mib(5);
/// The largest manifest that is read.
const MANIFEST_MAX: ByteCount = ByteCount::mib(64);

/// Groups in a back end of `object_store`, below a prefix. Cheap to clone.
///
/// An example is at [`object_store`](crate::object_store).
#[derive(Clone, Debug)]
pub struct Archive {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    part: ByteCount,
}

impl Archive {
    /// The archive below a prefix; `""` is the root of the back end. Nothing is asked of the back end.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Prefix`] for what is no path.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> Result<Self> {
        let parsed = Path::parse(prefix);
        let prefix = parsed.map_err(|source| ArchiveError::Prefix { prefix: prefix.to_owned(), source })?;
        Ok(Self { store, prefix, part: PART })
    }

    /// The same with pieces of another size: at least 5 MiB, which back ends ask for. A larger one is fewer requests and more
    /// memory; default 8 MiB.
    #[must_use]
    pub fn with_part(self, part: ByteCount) -> Self {
        Self { part: part.max(PART_MIN), ..self }
    }

    /// How much is sent, or fetched, in one piece. It is also about what a call needs of memory, beside the seal of one layer:
    /// four bytes for each cluster of data.
    #[must_use]
    pub fn part(&self) -> ByteCount {
        self.part
    }

    /// The groups that are there, by their uuids, sorted.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Store`].
    pub async fn groups(&self) -> Result<Vec<Uuid>> {
        let folder = self.prefix.clone().join("groups");
        let listed = self.store.list_with_delimiter(Some(&folder)).await;
        let listed = listed.map_err(|source| ArchiveError::store(&folder, source))?;
        let names = listed.objects.iter().filter_map(|object| object.location.filename());
        let groups = names.filter_map(|name| Uuid::try_parse(name.strip_suffix(".json")?).ok());
        let mut groups: Vec<Uuid> = groups.collect();
        groups.sort_unstable();
        Ok(groups)
    }

    /// The manifest of a group.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::NoGroup`]; [`ArchiveError::Manifest`] for one that is not what this version writes;
    /// [`ArchiveError::Store`].
    pub async fn manifest(&self, group: Uuid) -> Result<Manifest> {
        let path = self.manifest_path(group);
        let Some(length) = self.length(&path).await? else { return Err(ArchiveError::NoGroup { group }) };
        let wrong = |rule: String| ArchiveError::Manifest { group, rule };
        if length > MANIFEST_MAX {
            return Err(wrong(format!("{length} long")));
        }
        let bytes = self.fetch(&path, 0, length).await?;
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        manifest.check(group).map_err(wrong)?;
        Ok(manifest)
    }

    fn manifest_path(&self, group: Uuid) -> Path {
        self.prefix.clone().join("groups").join(format!("{}.json", group.simple()))
    }

    fn layer_path(&self, layer: Uuid, seal: SealId, object: &str) -> Path {
        let layer = layer.simple().to_string();
        self.prefix.clone().join("layers").join(layer).join(seal.to_string()).join(object)
    }

    /// How long an object is; `None` when it is not there.
    async fn length(&self, path: &Path) -> Result<Option<ByteCount>> {
        match self.store.head(path).await {
            Ok(meta) => Ok(Some(ByteCount::new(meta.size))),
            Err(::object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(ArchiveError::store(path, source)),
        }
    }

    /// A piece of an object, as long as it should be.
    async fn fetch(&self, path: &Path, at: u64, length: ByteCount) -> Result<Vec<u8>> {
        if length.is_zero() {
            return Ok(Vec::new());
        }
        let end = at.saturating_add(length.as_u64());
        let bytes = self.store.get_range(path, at..end).await;
        let bytes = bytes.map_err(|source| ArchiveError::store(path, source))?;
        match ByteCount::of(bytes.len()) {
            found if found == length => Ok(bytes.to_vec()),
            found => Err(ArchiveError::Length { object: path.to_string(), expected: length, found }),
        }
    }
}
