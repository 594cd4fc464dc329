//! Check: the catalogue against itself, against the headers, and every image against its refcounts.

use super::abreast::abreast;
use super::error::Result;
use super::events::Work;
use super::operation::Operation;
use super::pool::{Engine, Pool};
use super::round::Round;
use super::uuid_arg::UuidArg;
use crate::catalog::{LayerFormat, LayerId, LayerRecord, LayerState, Reader, Severity};
use crate::chain::Layer;
use crate::image::{self, CheckReport, Image};
use crate::inventory::Named;
use crate::plan::text::{is_layer_blob, layer_of_seal};
use crate::storage::{self, Access, BlobName, Store};
use crate::units::ByteCount;
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

/// How many layers each thread looks at, on the average, before a listener is told how far the check has come, and
/// whoever waits goes on.
const LAYERS_AT_ONCE: usize = 16;

/// What a check of a pool has found.
#[doc = include_str!("examples/checking.md")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "what is wrong is said here, and in no error"]
pub struct PoolCheck {
    /// Where the catalogue disagrees with itself; each begins with the number of the invariant, C1 to C27.
    pub violations: Vec<String>,
    /// The layers whose image is not clean, or could not be checked.
    pub layers: Vec<LayerCheck>,
    /// How many layers were looked at.
    pub layers_checked: usize,
    /// Files that records name and that are not there.
    pub missing: Vec<String>,
    /// Files with names such as this crate gives that no record names.
    pub unnamed: Vec<String>,
    /// Files of checksums that records name and that are not there: nothing is lost but the proof.
    pub seals_missing: Vec<String>,
}

/// What a check of one layer has found.
#[doc = include_str!("examples/checking.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerCheck {
    /// Its file.
    pub file: String,
    /// What the check of the image says; absent when its header cannot be read.
    pub report: Option<CheckReport>,
    /// Why the image could not be opened or is not what the catalogue says.
    pub error: Option<String>,
}

impl PoolCheck {
    /// Whether everything can be relied on: clusters may be lost in an image, which is all that a crash can do.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let is_sound = |layer: &LayerCheck| {
            layer.error.is_none() && layer.report.as_ref().is_some_and(CheckReport::is_sound)
        };
        self.violations.is_empty() && self.missing.is_empty() && self.layers.iter().all(is_sound)
    }

    /// Whether nothing at all is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
            && self.layers.is_empty()
            && self.missing.is_empty()
            && self.unnamed.is_empty()
            && self.seals_missing.is_empty()
    }
}

/// A layer of a chain and the file that holds it.
#[doc = include_str!("examples/checking.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChainLayer {
    /// Where the file is.
    pub location: String,
    /// Its name in the pool.
    pub file: String,
    /// Its format.
    pub format: crate::catalog::LayerFormat,
    /// What it is now.
    pub state: crate::catalog::LayerState,
    /// What its header must say about its backing file.
    pub backing_label: Option<String>,
    /// Its virtual size.
    pub size: ByteCount,
    /// The bytes that the file takes up; absent when it cannot be asked.
    pub allocated: Option<ByteCount>,
    /// The snapshot that it holds.
    pub snapshot: Option<Named>,
}

impl Engine {
    /// Checks everything: the catalogue against itself, the directory against the catalogue, each file against
    /// its record, each image against its own refcounts. Open volumes are flushed; nothing is repaired.
    ///
    /// Other calls go on meanwhile. What they have changed since, or are in the middle of, is not taken for damage:
    /// what is not clean is looked at again, in the end, under the locks of whoever might change it.
    ///
    /// # Errors
    ///
    /// Only for what keeps the check from being done; what it finds is in the answer.
    #[doc = include_str!("examples/checking.md")]
    pub fn check(&self) -> Result<PoolCheck> {
        self.during(Operation::Check, || self.check_untold())
    }

    fn check_untold(&self) -> Result<PoolCheck> {
        let pool = &self.pool;
        pool.open_volumes.flush_all()?;
        let (reader, present): (Reader, BTreeSet<BlobName>) = {
            let _layout = pool.layout.read();
            // Files that are made and not published yet would look like nobody's.
            let _quiet = pool.under_way.write();
            (pool.read()?, pool.store().list()?.into_iter().collect())
        };
        let mut round = Round::begin(pool, Work::Check, || layers_to_check(&reader))?;
        let mut found = PoolCheck { violations: broken(&reader)?, ..PoolCheck::default() };
        let mut doubtful: Vec<LayerId> = Vec::new();
        let threads = pool.options.abreast();
        let mut layers =
            reader.layers(LayerId(0))?.filter(|layer| layer.as_ref().map_or(true, is_to_be_checked));
        loop {
            let some = layers.by_ref().take(LAYERS_AT_ONCE.saturating_mul(threads.get()));
            let some: Vec<InBooks> = some.map(|layer| in_books(&reader, layer?)).collect::<Result<_>>()?;
            if some.is_empty() {
                break;
            }
            let looks = {
                // Whoever ends a merge waits until this is given back, and whoever opens layers waits behind him.
                let _layout = pool.layout.read();
                abreast(threads, &some, |layer| pool.look_into(layer, &present))
            };
            for (InBooks { layer, .. }, look) in some.iter().zip(looks) {
                found.layers_checked += 1;
                if let Some(seal) = layer.seal.as_ref().filter(|seal| !present.contains(&seal.blob)) {
                    found.seals_missing.push(seal.blob.to_string());
                }
                match look {
                    Look::Missing => found.missing.push(layer.blob.to_string()),
                    Look::Clean => {}
                    Look::Doubtful => doubtful.push(layer.id),
                }
                round.passed(&layer.blob);
            }
        }
        round.end();
        for layer in doubtful {
            found.layers.extend(pool.look_again(layer)?);
        }
        let layers = reader.unnamed(present.iter().filter(|name| is_layer_blob(name)))?;
        found.unnamed.extend(layers.into_iter().map(ToString::to_string));
        for name in reader.unnamed(present.iter().filter(|name| layer_of_seal(name).is_some()))? {
            let Some(layer) = layer_of_seal(name) else { continue };
            let record = reader.by_uuid::<LayerRecord>(layer)?;
            let is_named = record.and_then(|layer| layer.seal).is_some_and(|seal| seal.blob == *name);
            if !is_named && pool.is_seal_of_nobody(name, layer)? {
                found.unnamed.push(name.to_string());
            }
        }
        Ok(found)
    }

    /// The invariants of the catalogue that do not hold, each beginning with its number, C1 to C27; empty when all
    /// do. Reads the whole catalogue, no image.
    ///
    /// # Errors
    ///
    /// [`Error::Catalog`](super::Error::Catalog).
    #[doc = include_str!("examples/checking.md")]
    pub fn verify_catalogue(&self) -> Result<Vec<String>> {
        self.during(Operation::Check, || self.verify_catalogue_untold())
    }

    fn verify_catalogue_untold(&self) -> Result<Vec<String>> {
        broken(&self.pool.read()?)
    }

    /// The layers that a volume reads through, its head first.
    ///
    /// # Errors
    ///
    /// SYS.1007 for a malformed uuid; SYS.1003 when there is no such volume.
    #[doc = include_str!("examples/checking.md")]
    pub fn chain(&self, volume: impl Into<UuidArg>) -> Result<Vec<ChainLayer>> {
        let pool = &self.pool;
        let reader = pool.read()?;
        let volume = pool.volume(&reader, volume.into().parse()?)?;
        reader.chain(volume.head)?.into_iter().map(|layer| pool.show_layer(&reader, layer)).collect()
    }
}

/// Whether anything reads a layer: not any more when it is garbage, not yet when it is being made.
fn is_to_be_checked(layer: &LayerRecord) -> bool {
    !matches!(layer.state, LayerState::Garbage | LayerState::Building)
}

/// A layer, with what its check needs of the books.
struct InBooks {
    layer: LayerRecord,
    below: Option<LayerRecord>,
    /// The uuid of its volume.
    volume: Uuid,
}

fn in_books(reader: &Reader, layer: LayerRecord) -> Result<InBooks> {
    let below = layer.parent.map(|below| reader.need_layer(below)).transpose()?;
    let volume = reader.volume(layer.volume)?.map(|volume| volume.uuid).unwrap_or_default();
    Ok(InBooks { layer, below, volume })
}

/// What a first look at the file of a layer has shown.
enum Look {
    Missing,
    Clean,
    /// Not clean, or somebody is writing to it.
    Doubtful,
}

fn layers_to_check(reader: &Reader) -> Result<Vec<BlobName>> {
    let mut files = Vec::new();
    for layer in reader.layers(LayerId(0))? {
        let layer = layer?;
        if is_to_be_checked(&layer) {
            files.push(layer.blob);
        }
    }
    Ok(files)
}

/// What is broken; a layer that only waits for its reclaim is not.
fn broken(reader: &Reader) -> Result<Vec<String>> {
    let violations = reader.verify()?.into_iter();
    let broken = violations.filter(|violation| violation.severity() == Severity::Broken);
    Ok(broken.map(|violation| violation.to_string()).collect())
}

impl Pool {
    /// The invariants of the catalogue that do not hold.
    pub(super) fn violations(&self, reader: &Reader) -> Result<Vec<String>> {
        broken(reader)
    }

    /// Looks at the file of one layer; `present` are the files of the pool.
    fn look_into(&self, of: &InBooks, present: &BTreeSet<BlobName>) -> Look {
        let blob = &of.layer.blob;
        let is_there = match blob.is_in_base() {
            true => is_there(self.store(), blob),
            false => present.contains(blob),
        };
        if !is_there {
            return Look::Missing;
        }
        if self.check_of(of).is_none() { Look::Clean } else { Look::Doubtful }
    }

    /// Looks once more at a layer that was not clean, now that nobody changes it but through a disk that is open.
    /// Whoever merges, or makes a disk larger, writes one table after the other; and a disk that has been opened since
    /// is written to while its file is read.
    fn look_again(&self, id: LayerId) -> Result<Option<LayerCheck>> {
        let (_held, reader, _around) = self.lock_found(|reader| Self::around(reader, id))?;
        let _layout = self.layout.read();
        let Some(layer) = reader.layer(id)?.filter(is_to_be_checked) else { return Ok(None) };
        Ok(self.check_of(&in_books(&reader, layer)?))
    }

    /// Whether a file of checksums that no record has named is that of nobody: it may have been made since, be made
    /// just now, or be about to be removed.
    fn is_seal_of_nobody(&self, name: &BlobName, layer: Uuid) -> Result<bool> {
        let (_held, _, ()) = self.lock_found(|reader| match reader.by_uuid::<LayerRecord>(layer)? {
            Some(layer) => Ok((Self::around(reader, layer.id)?.0, ())),
            None => Ok((Vec::new(), ())),
        })?;
        let _quiet = self.under_way.write();
        if self.sealings.makes(name) {
            return Ok(false);
        }
        let record = self.read()?.by_uuid::<LayerRecord>(layer)?;
        let is_named = record.and_then(|layer| layer.seal).is_some_and(|seal| seal.blob == *name);
        Ok(!is_named && is_there(self.store(), name))
    }

    /// What is wrong with the file of a layer, if anything is.
    fn check_of(&self, of: &InBooks) -> Option<LayerCheck> {
        let (report, error) = match self.layer_to_check(of.volume, &of.layer, of.below.as_ref()) {
            // What is wrong with it may be told all the same.
            Err(error) => (self.report_of_unopened(&of.layer), Some(error.to_string())),
            Ok(layer) => match layer.as_qcow2().map(Image::check) {
                None => return None,
                Some(Ok(report)) if report.is_clean() => return None,
                Some(Ok(report)) => (Some(report), None),
                Some(Err(error)) => (None, Some(error.to_string())),
            },
        };
        Some(LayerCheck { file: of.layer.blob.to_string(), report, error })
    }

    /// What a check finds in an image that cannot be opened.
    fn report_of_unopened(&self, record: &LayerRecord) -> Option<CheckReport> {
        if record.format == LayerFormat::Raw {
            return None;
        }
        let blob = self.store().open(&record.blob, Access::Read).ok()?;
        image::check(&*blob, record.blob.as_str()).ok()
    }

    /// A layer: the one that is open when it is a head with a handle, else opened for this.
    pub(super) fn layer_to_check(
        &self,
        volume: Uuid,
        layer: &LayerRecord,
        below: Option<&LayerRecord>,
    ) -> Result<Arc<Layer>> {
        if layer.format == LayerFormat::Qcow2 {
            // The file as it is under its name now, and not the one that may be open.
            let blob = self.store().open(&layer.blob, Access::Read)?;
            self.check_facts(volume, layer, below, &*blob)?;
        }
        let open = self.open_volumes.chain(layer.volume);
        match open.filter(|open| open.head().name() == layer.blob.as_str()) {
            Some(open) => Ok(Arc::clone(open.head())),
            None => self.open_layer(volume, layer, below, Access::Read),
        }
    }

    fn show_layer(&self, reader: &Reader, layer: LayerRecord) -> Result<ChainLayer> {
        let snapshot = reader.snapshots_on(layer.id)?.next().transpose()?;
        let blob = self.store().open(&layer.blob, Access::Read);
        Ok(ChainLayer {
            location: self.locate(layer.blob.as_str()),
            file: layer.blob.to_string(),
            format: layer.format,
            state: layer.state,
            backing_label: layer.backing_label,
            size: layer.size,
            allocated: blob.and_then(|blob| blob.allocated()).ok(),
            snapshot: snapshot.map(|snapshot| Named { uuid: snapshot.uuid, name: snapshot.name }),
        })
    }
}

/// Whether a file is there, whatever it is.
fn is_there(store: &dyn Store, name: &BlobName) -> bool {
    !matches!(store.open(name, Access::Read), Err(storage::Error::NotFound { .. }))
}
