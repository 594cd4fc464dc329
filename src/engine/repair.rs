//! Repair of a pool: what a check finds and what can be mended without guessing.
//!
//! What a guest or a snapshot shows is the same before and after. A layer is repaired under the locks of every volume
//! that reads through it; nothing is ever written to a base, nor to a disk that somebody has open.

use super::error::Result;
use super::events::Work;
use super::operation::Operation;
use super::pool::{Engine, Pool};
use super::recover::is_remainder;
use super::round::Round;
use super::uuid_arg::UuidArg;
use crate::catalog::{LayerFormat, LayerId, LayerRecord, LayerState, Origin, Reader};
use crate::image::{self, ImageRepair, RepairMode};
use crate::plan::text::is_layer_blob;
use crate::storage::{Access, Hold, Store};

/// What shall be repaired.
#[doc = include_str!("examples/checking.md")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairOptions {
    /// Whether it is done, or only told. Default: only told.
    pub mode: RepairMode,
    /// Only the layers that this volume reads through; everything when absent.
    pub volume: Option<UuidArg>,
}

impl RepairOptions {
    /// Everything, and it is done.
    #[must_use]
    pub fn perform() -> Self {
        Self { mode: RepairMode::Perform, volume: None }
    }
}

/// What a repair has mended, or would, and what it has left.
#[doc = include_str!("examples/checking.md")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "what stays wrong is said here, and in no error"]
pub struct Repaired {
    /// The layers in which something is wrong.
    pub layers: Vec<LayerRepair>,
    /// Files whose headers were being written when a crash came, finished.
    pub finished: Vec<String>,
    /// Files of calls that never came to an end, which no record names and nobody has written to, removed.
    pub removed: Vec<String>,
    /// What is wrong and stays so.
    pub left: Vec<LeftOver>,
}

/// One layer in which something is wrong.
#[doc = include_str!("examples/checking.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerRepair {
    /// Its file.
    pub file: String,
    /// What was found in it, and mended.
    pub repair: ImageRepair,
}

/// Something that a repair leaves as it is.
#[doc = include_str!("examples/checking.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftOver {
    /// The file, when it is one.
    pub file: Option<String>,
    /// What is wrong, and why it stays so.
    pub why: String,
}

impl Repaired {
    /// Whether nothing is wrong any more, as far as can be told.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.left.is_empty()
    }

    fn leave(&mut self, file: impl ToString, why: impl ToString) {
        self.left.push(LeftOver { file: Some(file.to_string()), why: why.to_string() });
    }
}

impl Engine {
    /// Repairs the pool, or tells what a repair would do: leaked clusters, refcounts, marks and feature bits of every
    /// layer, heads and frozen ones; headers that a crash left half written; files that are nobody's. What cannot be
    /// repaired without guessing stays as it is and is in the answer.
    ///
    /// Damage of the catalogue itself is told, not mended.
    ///
    /// # Errors
    ///
    /// SYS.1007 and SYS.1003 for the volume; what ends all changes of the pool. What is wrong with one file is in the
    /// answer.
    #[doc = include_str!("examples/checking.md")]
    pub fn repair(&self, options: &RepairOptions) -> Result<Repaired> {
        self.during(Operation::Repair, || self.repair_untold(options))
    }

    fn repair_untold(&self, options: &RepairOptions) -> Result<Repaired> {
        let pool = &self.pool;
        pool.admit_change()?;
        pool.open_volumes.flush_all()?;
        let mut repaired = Repaired::default();
        let reader = pool.read()?;
        let layers: Vec<LayerRecord> = match &options.volume {
            Some(volume) => reader.chain(pool.volume(&reader, volume.parse()?)?.head)?,
            None => reader.layers(LayerId(0))?.collect::<std::result::Result<_, _>>()?,
        };
        if options.volume.is_none() {
            for violation in pool.violations(&reader)? {
                repaired.left.push(LeftOver { file: None, why: violation });
            }
        }
        let files = || Ok(layers.iter().map(|layer| layer.blob.clone()).collect());
        let mut round = Round::begin(pool, Work::Repair, files)?;
        for layer in &layers {
            pool.repair_layer(layer.id, options.mode, &mut repaired)?;
            round.passed(&layer.blob);
        }
        round.end();
        if options.volume.is_none() {
            pool.remove_remainders(options.mode, &mut repaired)?;
        }
        pool.admit_change()?;
        Ok(repaired)
    }
}

impl Pool {
    fn repair_layer(&self, id: LayerId, mode: RepairMode, repaired: &mut Repaired) -> Result<()> {
        let (_held, reader, around) = self.lock_found(|reader| Self::around(reader, id))?;
        let _layout = self.layout.write();
        // What is being filled is whoever's who fills it, and what is garbage is nobody's.
        let is_settled =
            |layer: &LayerRecord| !matches!(layer.state, LayerState::Garbage | LayerState::Building);
        let Some(mut layer) = reader.layer(id)?.filter(is_settled) else { return Ok(()) };
        if layer.rewrite.is_some() {
            if mode == RepairMode::Plan {
                repaired.finished.push(layer.blob.to_string());
                return Ok(());
            }
            let finished = self.finish_rewrite_of(&layer);
            self.admit_change()?;
            layer = self.read()?.need_layer(id)?;
            match finished {
                Err(error) => repaired.leave(&layer.blob, error),
                Ok(()) if layer.rewrite.is_some() => {
                    repaired.leave(&layer.blob, "the volume is open: close its handles first");
                }
                Ok(()) => repaired.finished.push(layer.blob.to_string()),
            }
            if layer.rewrite.is_some() {
                return Ok(());
            }
        }
        if let Err(error) = self.agrees(&reader, &layer) {
            self.admit_change()?;
            repaired.leave(&layer.blob, error);
            return Ok(());
        }
        if layer.format == LayerFormat::Raw {
            return Ok(());
        }
        let found = image::repair(
            &*self.store().open(&layer.blob, Access::Read)?,
            layer.blob.as_str(),
            RepairMode::Plan,
        );
        let found = match found {
            Ok(found) if found.before.is_clean() => return Ok(()),
            Ok(found) => found,
            Err(error) => {
                repaired.leave(&layer.blob, error);
                return Ok(());
            }
        };
        let blob = layer.blob.to_string();
        let why = match self.refuse_busy(&reader, &around) {
            Err(error) => Some(error.to_string()),
            Ok(()) => self.reason_to_leave(&layer)?,
        };
        let file = blob.clone();
        match why {
            Some(why) => {
                repaired.leave(&file, format!("{}: {why}", found.before));
                repaired
                    .layers
                    .push(LayerRepair { file, repair: ImageRepair { mends: Vec::new(), ..found } });
                return Ok(());
            }
            None if mode == RepairMode::Plan => repaired.layers.push(LayerRepair { file, repair: found }),
            None => {
                let open = self.store().open(&layer.blob, Access::Write)?;
                self.settle_files(std::slice::from_ref(&layer))?;
                let held = open.hold(Hold::Write).map_err(image::Error::from);
                let done = held.and_then(|()| image::repair(&*open, &blob, mode));
                self.open_layers.forget(layer.id);
                match done {
                    Ok(repair) => repaired.layers.push(LayerRepair { file, repair }),
                    Err(error) => {
                        self.admit_change()?;
                        repaired.leave(&file, error);
                        return Ok(());
                    }
                }
            }
        }
        let last = repaired.layers.last().map(|layer| &layer.repair);
        if let Some(repair) = last.filter(|repair| repair.is_left_damaged()) {
            let why = repair.after.as_ref().unwrap_or(&repair.before).to_string();
            repaired.leave(blob, why);
        }
        Ok(())
    }

    /// Refuses a file that is not what the catalogue says.
    fn agrees(&self, reader: &Reader, layer: &LayerRecord) -> Result<()> {
        let volume = reader.volume(layer.volume)?.map(|volume| volume.uuid).unwrap_or_default();
        let below = layer.parent.map(|parent| reader.need_layer(parent)).transpose()?;
        if layer.format == LayerFormat::Raw {
            return self.open_layer_anew(volume, layer, below.as_ref(), Access::Read).map(drop);
        }
        let blob = self.store().open(&layer.blob, Access::Read);
        let blob = blob.map_err(|error| super::layers::unopened(volume, &layer.blob, error))?;
        self.check_facts(volume, layer, below.as_ref(), &*blob)
    }

    /// Why nothing may be written to the file of a layer now.
    fn reason_to_leave(&self, layer: &LayerRecord) -> Result<Option<String>> {
        if layer.origin == Origin::Base {
            return Ok(Some("nothing is ever written to a base".to_owned()));
        }
        if layer.state == LayerState::Head && self.open_volumes.has(layer.volume) {
            return Ok(Some("the volume is open: close its handles first".to_owned()));
        }
        let elsewhere = self.store().open(&layer.blob, Access::Read)?.writer_elsewhere()?;
        Ok(elsewhere.map(|_| "another process writes to it".to_owned()))
    }

    /// Removes files that calls have left which never came to an end.
    fn remove_remainders(&self, mode: RepairMode, repaired: &mut Repaired) -> Result<()> {
        let _layout = self.layout.write();
        // Files that are made and not published yet would look like nobody's.
        let _quiet = self.under_way.write();
        let reader = self.read()?;
        let present = self.store().list()?;
        let removed = repaired.removed.len();
        for name in reader.unnamed(present.iter().filter(|name| is_layer_blob(name)))? {
            if !is_remainder(self.store(), &self.catalog, name).unwrap_or(false) {
                repaired.leave(name, "no record names it, and it is not a remainder of this pool's calls");
                continue;
            }
            if mode == RepairMode::Perform {
                self.store().remove(name)?;
            }
            repaired.removed.push(name.to_string());
        }
        if mode == RepairMode::Perform && repaired.removed.len() > removed {
            self.store().sync_names()?;
        }
        Ok(())
    }
}
