//! Taking over files that are there already, with their whole backing chain, copying nothing.
//!
//! This is the simple, trusted case: every file lies in the pool's directory or in a base directory that was declared,
//! every format is said and not guessed, every qcow2 passes a check. The names in the headers are read once, here, and
//! only as `naming` allows; from then on the catalogue says who is below whom.

use super::adopt_rule::AdoptRule;
use super::error::{Error, Result};
use super::layers::l2_entries;
use super::locks::Key;
use super::naming::{Named, absent, backing_of, labelled, said};
use super::notes::{Claims, Foreseen};
use super::operation::Operation;
use super::pool::{CATALOGUE, Engine, Pool, is_own_file};
use super::uuid_arg::{UuidArg, parse_optional};
use super::volume::BaseImage;
use crate::catalog::{Edit, Entity, L2Entries, LayerFormat, LayerState, Sharing, VolumeKind, VolumeRecord};
use crate::chain::RawLayer;
use crate::image::{Facts, Image};
use crate::inventory::VolumeInventory;
use crate::plan::adopt::{FoundLayer, LowerLayers};
use crate::plan::freeze::Minted;
use crate::plan::volume::{ImageShape, VolumeWish};
use crate::plan::{self, Plan, text};
use crate::storage::{self, Access, Blob, BlobName, Hold, Identity, Store};
use crate::units::ByteCount;
use std::collections::HashSet;
use std::sync::Arc;
use uuid::Uuid;

/// A chain of files to be taken over as a volume.
#[doc = include_str!("examples/adopting.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptVolume {
    /// The name of the uppermost file in the pool's directory; or the path of a raw file in a base directory
    /// ([`Options::base_directories`](super::Options::base_directories)).
    pub file: String,
    /// Its format: said, never guessed.
    pub format: LayerFormat,
    /// The name of the volume: 1 to 255 characters.
    pub name: String,
    /// Its description: at most 2048 characters.
    pub description: Option<String>,
    /// What it is to its machine.
    pub kind: VolumeKind,
    /// What the files below the head become.
    pub lower: LowerLayers,
    /// The longest chain that it may have, in layers with the head counted, from 1 on; `None` is the pool's
    /// ([`Options::chain_max`](super::Options::chain_max)).
    pub chain_max: Option<u32>,
    /// The files below that are raw disks although they begin like a disk image of some format: a guest may have
    /// written that. Others that begin so are refused where a header calls them raw.
    pub raw_below: Vec<String>,
    /// The uuid of the volume; a fresh one when absent.
    pub resource_uuid: Option<UuidArg>,
}

impl Default for AdoptVolume {
    fn default() -> Self {
        Self {
            file: String::new(),
            format: LayerFormat::Qcow2,
            name: String::new(),
            description: None,
            kind: VolumeKind::Data,
            lower: LowerLayers::default(),
            chain_max: None,
            raw_below: Vec::new(),
            resource_uuid: None,
        }
    }
}

impl AdoptVolume {
    /// A file of the pool's directory, to be taken over as a data disk of this name.
    #[must_use]
    pub fn new(file: impl Into<String>, format: LayerFormat, name: impl Into<String>) -> Self {
        Self { file: file.into(), format, name: name.into(), ..Self::default() }
    }

    /// The same as the root volume of its machine.
    #[must_use]
    pub fn as_root(self) -> Self {
        Self { kind: VolumeKind::Root, ..self }
    }
}

impl Engine {
    /// Takes over a file and everything below it as a volume. Nothing is copied.
    ///
    /// A qcow2 file becomes the head: it is written from now on, and its header says which layer it is. A raw
    /// file is never written: it gets a new overlay above it. What lies below is never changed. Durable when it
    /// returns.
    ///
    /// # Errors
    ///
    /// [`Error::NotAdoptable`], which names the file and the rule: not in the directory, no format given for a
    /// backing file, a loop, too deep, in use by another volume or by a writer in another process, found broken
    /// by the check, called raw by a header and not by the caller while it begins like an image. What
    /// [`Engine::validate_chain`] tells beforehand. SYS.1007 and SYS.1002 as for [`Engine::create_volume`]. Nothing has changed then.
    #[doc = include_str!("examples/adopting.md")]
    pub fn adopt_volume(&self, request: &AdoptVolume) -> Result<VolumeInventory> {
        self.during(Operation::AdoptVolume, || self.adopt_volume_untold(request))
    }

    fn adopt_volume_untold(&self, request: &AdoptVolume) -> Result<VolumeInventory> {
        let pool = &self.pool;
        let name = text::name("name", &request.name)?;
        let description = text::description(request.description.as_deref())?;
        let wanted = parse_optional(request.resource_uuid.as_ref())?;
        let _held = pool.locks.acquire(vec![Key::New]);
        let (uuid, taken) = pool.claim(wanted)?;
        let form = format!("{:?}", (request.format, request.kind, request.lower));
        let description_text = description.as_deref().unwrap_or("\0");
        let mut wished = vec!["adopted volume", &name, description_text, &request.file, &form];
        let cap = request.chain_max.map(text::chain_max_wish);
        wished.extend(cap.as_deref());
        let mark = text::wish_mark(&wished);
        let (kind, sharing, chain_max) = (request.kind, Sharing::Exclusive, request.chain_max);
        let wish = VolumeWish { uuid, name, description, kind, sharing, chain_max, mark };
        wish.check()?;
        if let Some(there) = self.volume_of_repeat(&wish, taken)? {
            return Ok(there);
        }
        let mut found = Vec::new();
        pool.look_through(request, &mut found)?;
        let top = &found[0];
        let overlay = (request.format == LayerFormat::Raw)
            .then(|| (pool.source.mint(), ImageShape::standard(top.size, pool.options.cluster_bits)));
        let plan = plan::adopt::adopt(
            &wish,
            &found,
            request.lower,
            overlay,
            pool.source.now(),
            &pool.catalog.ids(),
        )?;
        pool.make_durable(&found)?;
        if overlay.is_none() {
            pool.take_over(top, &plan.0, &plan.1)?;
        }
        pool.perform(&plan.0)?;
        pool.show_volume(&pool.read()?, &plan.1)
    }

    /// Plans a volume with a new overlay above a file that is there.
    pub(super) fn plan_above(
        &self,
        wish: &VolumeWish,
        base: &BaseImage,
        size: Option<ByteCount>,
        (cluster_bits, l2): (u8, L2Entries),
    ) -> Result<(Plan, VolumeRecord)> {
        let pool = &self.pool;
        let mut found = Vec::new();
        let cap = wish.chain_max.unwrap_or(pool.options.chain_max);
        pool.walk((&base.file, base.format), (1, cap), &[], &mut found)?;
        let top = &found[0];
        let shape = ImageShape { size: size.unwrap_or(top.size), cluster_bits, l2 };
        pool.make_durable(&found)?;
        Ok(plan::adopt::adopt(
            wish,
            &found,
            LowerLayers::Frozen,
            Some((pool.source.mint(), shape)),
            pool.source.now(),
            &pool.catalog.ids(),
        )?)
    }
}

pub(super) fn not_adoptable(blob: &BlobName, rule: AdoptRule) -> Error {
    Error::NotAdoptable { blob: blob.to_string(), rule }
}

/// What an image says that is wrong with it, as the rule that it broke.
pub(super) fn broken(blob: &BlobName, error: crate::image::Error) -> Error {
    not_adoptable(blob, error.into())
}

/// Who says that a file is raw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RawTrust {
    /// The caller, of this file.
    Said,
    /// The header of the file above it, which anybody may have written.
    Claimed,
}

impl RawTrust {
    /// Refuses a raw file that begins like an image when only a header calls it raw.
    pub(super) fn admit(self, name: &BlobName, raw: &RawLayer) -> Result<()> {
        if self == Self::Said {
            return Ok(());
        }
        match raw.looks_like().map_err(|error| broken(name, error))? {
            None => Ok(()),
            Some(format) => Err(not_adoptable(name, AdoptRule::BeginsLike { format })),
        }
    }
}

/// Refuses a file whose content does not stay as it is.
fn refuse_unstable(layer: &FoundLayer) -> Result<()> {
    match layer.known.as_ref().map(|known| known.state) {
        None | Some(LayerState::Frozen) => Ok(()),
        Some(LayerState::Head) => Err(not_adoptable(&layer.blob, AdoptRule::HeadBelow)),
        Some(LayerState::Building) => Err(not_adoptable(&layer.blob, AdoptRule::BeingFilled)),
        Some(LayerState::Retired | LayerState::Garbage) => {
            Err(not_adoptable(&layer.blob, AdoptRule::BeingReclaimed))
        }
    }
}

impl Pool {
    /// Looks at everything that a request would take over, the uppermost file first, as far as nothing is refused.
    /// Nothing is changed.
    pub(super) fn look_through(&self, request: &AdoptVolume, found: &mut Vec<FoundLayer>) -> Result<()> {
        // A raw file gets an overlay, which is a layer, too.
        let overlays = u32::from(request.format == LayerFormat::Raw);
        let cap = request.chain_max.unwrap_or(self.options.chain_max);
        self.walk((&request.file, request.format), (overlays, cap), &request.raw_below, found)?;
        let top = &found[0];
        if let Some(known) = &top.known {
            let is_head = known.state == LayerState::Head;
            let rule = if is_head { AdoptRule::Head } else { AdoptRule::Layer };
            return Err(not_adoptable(&top.blob, rule));
        }
        if request.format == LayerFormat::Raw {
            return Ok(());
        }
        if top.blob.is_in_base() {
            return Err(not_adoptable(&top.blob, AdoptRule::InBase));
        }
        // Were the process to die before the commit, opening the pool would take such a file, with our note in its
        // header and no record, for the remainder of a call of its own, and remove it.
        if text::is_layer_blob(&top.blob) {
            return Err(not_adoptable(&top.blob, AdoptRule::NameOfALayer));
        }
        let blob = self.store().open(&top.blob, Access::Read)?;
        Image::admit_writer(&*blob, top.blob.as_str()).map_err(|error| broken(&top.blob, error))
    }

    /// Follows a chain of files down, the uppermost first, and looks at each. Nothing is changed. `overlays` layers
    /// will be put above it, and the chain has at most `cap` then; `raw` below are raw whatever they look like.
    fn walk(
        &self,
        (file, format): (&str, LayerFormat),
        (overlays, cap): (u32, u32),
        raw: &[String],
        found: &mut Vec<FoundLayer>,
    ) -> Result<()> {
        let mut next = Some((said(self.store(), file)?, format));
        let mut seen: HashSet<Identity> = HashSet::new();
        while let Some((blob, format)) = next {
            if found.len() as u64 + u64::from(overlays) >= u64::from(cap) {
                return Err(not_adoptable(&blob, AdoptRule::ChainTooLong { layers_max: cap }));
            }
            // The caller has said what the uppermost file is; a header says it of those below.
            let trust = match found.is_empty() || raw.iter().any(|name| name == blob.as_str()) {
                true => RawTrust::Said,
                false => RawTrust::Claimed,
            };
            let (layer, identity, below) = self.look_at(&blob, format, trust)?;
            // Below others, or below a new overlay, only what stays as it is.
            if overlays > 0 || !found.is_empty() {
                refuse_unstable(&layer)?;
            }
            if !seen.insert(identity) {
                return Err(not_adoptable(&blob, AdoptRule::Loop));
            }
            found.push(layer);
            next = below;
        }
        Ok(())
    }

    /// Looks at one file: what it is, whether it can be relied on, and what is below it.
    fn look_at(
        &self,
        name: &BlobName,
        format: LayerFormat,
        trust: RawTrust,
    ) -> Result<(FoundLayer, Identity, Option<Named>)> {
        if is_own_file(name) {
            return Err(not_adoptable(name, AdoptRule::Catalogue));
        }
        let blob = match self.store().open(name, Access::Read) {
            Err(storage::Error::NotFound { .. }) => {
                return Err(not_adoptable(name, absent(name)));
            }
            Err(storage::Error::NotRegular { .. }) => {
                return Err(not_adoptable(name, AdoptRule::NotRegular));
            }
            other => other?,
        };
        if self.read()?.prepared_blobs()?.contains(name) {
            return Err(not_adoptable(name, AdoptRule::Prepared));
        }
        let known = self.read()?.layer_of_blob(name)?;
        if let Some(known) = &known
            && known.format != format
        {
            return Err(not_adoptable(name, AdoptRule::KnownAs { format: known.format }));
        }
        if known.is_none() && blob.writer_elsewhere()?.is_some() {
            return Err(not_adoptable(name, AdoptRule::Written));
        }
        let identity = blob.identity();
        match known {
            Some(_) => {}
            None if name.is_in_base() => self.refuse_of_a_pool(name, identity)?,
            None => self.refuse_second_name(name, &*blob)?,
        }
        let minted =
            Minted { snapshot: self.source.mint(), layer: self.source.mint(), tree: self.source.mint() };
        let allocated = blob.allocated()?;
        let broken = |error| broken(name, error);
        let mut layer = FoundLayer {
            blob: name.clone(),
            format,
            size: ByteCount::ZERO,
            cluster_bits: 0,
            l2: L2Entries::Standard,
            backing_label: None,
            allocated,
            known,
            minted,
        };
        if format == LayerFormat::Raw {
            let raw = RawLayer::open(blob, name.as_str()).map_err(broken)?;
            if layer.known.is_none() {
                trust.admit(name, &raw)?;
            }
            layer.size = raw.size();
            return Ok((layer, identity, None));
        }
        let facts = Facts::of(&*blob, name.as_str()).map_err(broken)?;
        layer.size = facts.size;
        layer.cluster_bits = u8::try_from(facts.cluster_size.as_u64().trailing_zeros()).expect("below 64");
        layer.l2 = l2_entries(facts.l2);
        layer.backing_label.clone_from(&facts.backing_label);
        if let Some(label) = &facts.data_file {
            self.refuse_foreign_data(name, label)?;
        }
        if layer.known.is_none() {
            self.refuse_noted(name, &facts, identity)?;
            self.check_sound(name, blob)?;
        }
        let below = backing_of(self.store(), name, &facts)?;
        Ok((layer, identity, below))
    }

    /// Refuses a file of a base directory that a pool may write to or remove: one of this pool's directory by another
    /// path, or by a hard link, and one beside the catalogue of another pool.
    fn refuse_of_a_pool(&self, name: &BlobName, identity: Identity) -> Result<()> {
        for own in self.store().list()? {
            match self.store().open(&own, Access::Read) {
                Ok(blob) if blob.identity() == identity => {
                    return Err(not_adoptable(name, AdoptRule::InPool { file: own.to_string() }));
                }
                Ok(_) | Err(storage::Error::NotFound { .. } | storage::Error::NotRegular { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let catalogue = labelled(self.store(), name, CATALOGUE);
        match catalogue.map(|catalogue| self.store().open(&catalogue, Access::Read)) {
            Some(Ok(_)) => Err(not_adoptable(name, AdoptRule::OfAnotherPool)),
            _ => Ok(()),
        }
    }

    /// Refuses a file that the pool has already, under another name: a hard link. A copy is another file.
    fn refuse_second_name(&self, name: &BlobName, blob: &dyn Blob) -> Result<()> {
        if blob.links()? < 2 {
            return Ok(());
        }
        let reader = self.read()?;
        for other in self.store().list()? {
            if other != *name && reader.layer_of_blob(&other)?.is_some() {
                self.refuse_the_same(name, blob.identity(), &other)?;
            }
        }
        Ok(())
    }

    /// Refuses a file whose header says that it is a layer of this pool when it is one: it may lie in a base directory,
    /// or its store may not know of second names.
    fn refuse_noted(&self, name: &BlobName, facts: &Facts, identity: Identity) -> Result<()> {
        let Some(noted) = facts.identity else { return Ok(()) };
        let reader = self.read()?;
        let Some(Entity::Layer(id)) = reader.resolve(Uuid::from_bytes(noted.layer))? else { return Ok(()) };
        self.refuse_the_same(name, identity, &reader.need_layer(id)?.blob)
    }

    fn refuse_the_same(&self, name: &BlobName, identity: Identity, known: &BlobName) -> Result<()> {
        match self.store().open(known, Access::Read) {
            Ok(blob) if blob.identity() == identity => {
                Err(not_adoptable(name, AdoptRule::SecondName { file: known.to_string() }))
            }
            Ok(_) | Err(storage::Error::NotFound { .. } | storage::Error::NotRegular { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Refuses an image that keeps its data in a file which is not beside it. Nothing here reads that file, but QEMU
    /// will, whatever it is, when it opens what lies above.
    fn refuse_foreign_data(&self, name: &BlobName, label: &str) -> Result<()> {
        let beside = labelled(self.store(), name, label).filter(|data| !is_own_file(data));
        let opened = beside.map(|data| self.store().open(&data, Access::Read));
        match opened {
            Some(Ok(_)) => Ok(()),
            None | Some(Err(storage::Error::NotFound { .. } | storage::Error::NotRegular { .. })) => {
                Err(not_adoptable(name, AdoptRule::DataOutOfReach { label: label.to_owned() }))
            }
            Some(Err(error)) => Err(error.into()),
        }
    }

    /// Refuses an image in which anything is wrong: what was not checked is not relied on.
    pub(super) fn check_sound(&self, name: &BlobName, blob: Arc<dyn Blob>) -> Result<()> {
        let limits = self.options.image_limits;
        let image = Image::open_checked(blob, name.as_str(), Access::Read, limits);
        image.map(drop).map_err(|error| broken(name, error))
    }

    /// Makes files durable that the catalogue will name, and their names: whoever made them may not have.
    fn make_durable(&self, found: &[FoundLayer]) -> Result<()> {
        let new = || found.iter().filter(|layer| layer.known.is_none());
        for layer in new() {
            self.store().open(&layer.blob, Access::Read)?.sync()?;
        }
        if new().next().is_some() {
            self.store().sync_names()?;
        }
        Ok(())
    }

    /// Writes into the header of an adopted head which layer it is, so that another file in its place is noticed.
    fn take_over(&self, top: &FoundLayer, plan: &Plan, volume: &VolumeRecord) -> Result<()> {
        self.admit_change()?;
        let broken = |error| broken(&top.blob, error);
        let blob = self.store().open(&top.blob, Access::Write)?;
        blob.hold(Hold::Write)?;
        // Only now does the file stay as it is: what was seen of it is seen again.
        let facts = Facts::of(&*blob, top.blob.as_str()).map_err(broken)?;
        if (facts.size, &facts.backing_label) != (top.size, &top.backing_label) {
            return Err(not_adoptable(&top.blob, AdoptRule::Changed));
        }
        let limits = self.options.image_limits;
        let image = Image::open_checked(blob, top.blob.as_str(), Access::Write, limits).map_err(broken)?;
        let identity = self.identity_of(volume.uuid, top.minted.layer);
        let reader = self.read()?;
        let head = plan.edits.iter().find_map(|edit| match edit {
            Edit::PutLayer(layer) if layer.id == volume.head => Some(layer),
            _ => None,
        });
        let head = head.expect("an adopted file becomes the head");
        let notes = Foreseen::of(&reader, &plan.edits).notes_of(head, Claims::Below)?;
        image.stamp_noted(identity, &notes).map_err(broken)
    }
}
