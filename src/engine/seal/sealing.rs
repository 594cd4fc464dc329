//! Making seals, in steps that can stop anywhere.

use super::super::error::{Error, Result};
use super::super::events::Work;
use super::super::operation::{Operation, Running};
use super::super::pool::{Engine, Pool};
use super::super::uuid_arg::UuidArg;
use super::Look;
use super::content::Alone;
use super::file::{Content, SealHeader, SealWriter};
use crate::catalog::{Edit, LayerId, LayerRecord, LayerState, Seal, Settled};
use crate::chain::Step;
use crate::inventory::ErrorCode;
use crate::plan::Plan;
use crate::plan::text::seal_blob;
use crate::storage::{Access, BlobName, Store};
use crate::units::ByteCount;
use std::collections::VecDeque;
use std::sync::Arc;

/// Which layers are sealed.
#[doc = include_str!("../examples/sealing.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Renew {
    /// Those that have no seal.
    #[default]
    Missing,
    /// All of them: what they hold now is taken for right.
    All,
}

/// What shall be sealed.
#[doc = include_str!("../examples/sealing.md")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SealOptions {
    /// Only the layers that this volume reads through; all of the pool when absent.
    pub volume: Option<UuidArg>,
    /// Whether seals that are there are made anew.
    pub renew: Renew,
}

/// What was sealed.
#[doc = include_str!("../examples/sealing.md")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a layer that could not be sealed is said here, and in no error"]
pub struct Sealed {
    /// How many layers have a seal that had none, or a new one.
    pub layers: u64,
    /// The bytes of the guest that were read for it.
    pub bytes_read: ByteCount,
    /// The layers that could not be sealed, and why.
    pub failed: Vec<Unsealed>,
}

/// A layer that could not be sealed.
#[doc = include_str!("../examples/sealing.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unsealed {
    /// Its file.
    pub file: String,
    /// Why; absent when the file was written to meanwhile, by this pool or by somebody else, or is still to be written
    /// to by a merge that has begun.
    pub error: Option<ErrorCode>,
}

/// How far a sealing has come.
#[doc = include_str!("../examples/sealing.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SealingProgress {
    /// The bytes of the guest that were read.
    pub read: ByteCount,
    /// The bytes that the files of all layers took up when it began.
    pub total: ByteCount,
}

/// A sealing under way. It does something only in [`Sealing::step`], and holds no lock in between.
///
/// Dropping it stops it. Layers that were sealed by then stay sealed, and another sealing goes on with the others: the
/// one that was under way is begun again.
#[doc = include_str!("../examples/sealing.md")]
#[derive(Debug)]
#[must_use = "nothing is sealed before it is stepped or finished"]
pub struct Sealing {
    engine: Engine,
    running: Running,
    queue: VecDeque<LayerId>,
    renew: Renew,
    under_way: Option<UnderWay>,
    total: ByteCount,
    done: Sealed,
}

/// One layer whose seal is being written.
#[derive(Debug)]
struct UnderWay {
    pool: Arc<Pool>,
    record: LayerRecord,
    attempt: u64,
    alone: Alone,
    before: Look,
    name: BlobName,
    /// Absent once the file is ended.
    writer: Option<SealWriter>,
    grain: u64,
    /// Whether a record names the file.
    is_published: Published,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Published {
    No,
    /// Or perhaps: then it stays, and opening the pool tells.
    Yes,
}

impl Engine {
    /// Begins to seal the layers that no volume writes to. Nothing is done before [`Sealing::step`].
    ///
    /// A seal says what a layer holds now: one that was damaged before is sealed as it is.
    ///
    /// # Errors
    ///
    /// SYS.1007 for a malformed uuid; SYS.1003 when there is no such volume.
    #[doc = include_str!("../examples/sealing.md")]
    pub fn seal(&self, options: &SealOptions) -> Result<Sealing> {
        let pool = &self.pool;
        let reader = pool.read()?;
        let mut layers = Vec::new();
        let mut add = |layer: LayerRecord| {
            if is_at_rest(&layer) && (layer.seal.is_none() || options.renew == Renew::All) {
                layers.push(layer.id);
            }
        };
        match &options.volume {
            Some(volume) => {
                let volume = pool.volume(&reader, volume.parse()?)?;
                reader.chain(volume.head)?.into_iter().for_each(&mut add);
                reader.layers_of(volume.id)?.into_vec()?.into_iter().for_each(&mut add);
            }
            None => {
                for layer in reader.layers(LayerId(0))? {
                    add(layer?);
                }
            }
        }
        layers.sort_unstable();
        layers.dedup();
        Ok(Sealing::of(self, layers, options.renew))
    }
}

/// Whether no volume writes to a layer.
fn is_at_rest(layer: &LayerRecord) -> bool {
    matches!(layer.state, LayerState::Frozen | LayerState::Retired)
}

/// Whether a layer has content that stays: no merge into it has begun that is not ended yet.
fn is_sealable(layer: &LayerRecord) -> bool {
    is_at_rest(layer) && layer.rewrite.is_none()
}

impl Sealing {
    pub(super) fn of(engine: &Engine, layers: Vec<LayerId>, renew: Renew) -> Self {
        let allocated = |id: &LayerId| {
            let layer = engine.pool.read().ok()?.layer(*id).ok()??;
            engine.pool.store().open(&layer.blob, Access::Read).ok()?.allocated().ok()
        };
        let total = layers.iter().filter_map(allocated).sum();
        let queue = layers.into();
        let running = Running::begin(&engine.pool.options.listener, Operation::Seal);
        Self {
            engine: engine.clone(),
            running,
            queue,
            renew,
            under_way: None,
            total,
            done: Sealed::default(),
        }
    }

    /// Goes on, reading about `budget` bytes of the guest and one cluster at least. A layer whose turn ends in the step
    /// is sealed durably.
    ///
    /// A layer that cannot be sealed is passed over and listed in [`Sealed::failed`].
    ///
    /// # Errors
    ///
    /// Only what ends all changes of the pool: a failed sync, a commit of unknown outcome.
    #[doc = include_str!("../examples/sealing.md")]
    pub fn step(&mut self, budget: ByteCount) -> Result<Step> {
        let running = self.running.clone();
        running.step(|| self.step_untold(budget))
    }

    fn step_untold(&mut self, budget: ByteCount) -> Result<Step> {
        let pool = Arc::clone(&self.engine.pool);
        pool.admit_change()?;
        let mut left = budget;
        loop {
            let Some(id) =
                self.under_way.as_ref().map(|layer| layer.record.id).or_else(|| self.queue.pop_front())
            else {
                return Ok(Step::Done);
            };
            let before = self.done.bytes_read;
            let advanced = self.advance(&pool, id, left);
            if self.done.bytes_read != before {
                let SealingProgress { read, total } = self.progress();
                pool.tell_progress(Work::Seal, read, total);
            }
            if let Ok(Step::More) = advanced {
                return Ok(Step::More);
            }
            self.under_way = None;
            if let Err(error) = advanced {
                pool.admit_change()?;
                let file = pool.read()?.layer(id)?.map(|layer| layer.blob.to_string()).unwrap_or_default();
                self.done.failed.push(Unsealed { file, error: Some(error.to_error_code()) });
            }
            left = left.saturating_sub(self.done.bytes_read - before);
            if left.is_zero() && !self.queue.is_empty() {
                return Ok(Step::More);
            }
        }
    }

    /// Goes on to the end.
    ///
    /// # Errors
    ///
    /// As [`Sealing::step`].
    #[doc = include_str!("../examples/sealing.md")]
    pub fn finish(mut self) -> Result<Sealed> {
        while self.step(ByteCount::new(u64::MAX))? == Step::More {}
        Ok(self.done)
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> SealingProgress {
        SealingProgress { read: self.done.bytes_read, total: self.total.max(self.done.bytes_read) }
    }

    /// What was sealed so far.
    pub fn sealed(&self) -> &Sealed {
        &self.done
    }

    /// Takes one layer as far as the budget goes; answers whether it needs another step.
    fn advance(&mut self, pool: &Arc<Pool>, id: LayerId, budget: ByteCount) -> Result<Step> {
        if self.under_way.is_none() {
            self.under_way = UnderWay::begin(pool, id, self.renew)?;
        }
        let Some(layer) = &mut self.under_way else {
            let record = pool.read()?.layer(id)?;
            if let Some(record) = record.filter(|record| is_at_rest(record) && !is_sealable(record)) {
                self.done.failed.push(Unsealed { file: record.blob.to_string(), error: None });
            }
            return Ok(Step::Done);
        };
        let advanced = layer.read(budget, &mut self.done.bytes_read);
        let counts = pool.sealings.counts(id, layer.attempt);
        match advanced {
            // What was read while the file was written to says nothing.
            _ if !counts => {}
            Ok(Step::Done) if layer.publish()? => {
                self.done.layers += 1;
                return Ok(Step::Done);
            }
            Ok(Step::Done) => {}
            other => return other,
        }
        self.done.failed.push(Unsealed { file: layer.record.blob.to_string(), error: None });
        Ok(Step::Done)
    }
}

impl UnderWay {
    /// Opens a layer and makes the file of its seal; `None` when there is nothing to seal.
    fn begin(pool: &Arc<Pool>, id: LayerId, renew: Renew) -> Result<Option<Self>> {
        let _layout = pool.layout.read();
        // From here on a writer crosses it out.
        let attempt = pool.sealings.begin(id);
        let begun = Self::open(pool, id, renew, attempt);
        if !matches!(begun, Ok(Some(_))) {
            pool.sealings.end(id, attempt);
        }
        begun
    }

    fn open(pool: &Arc<Pool>, id: LayerId, renew: Renew, attempt: u64) -> Result<Option<Self>> {
        let reader = pool.read()?;
        let Some(record) = reader.layer(id)?.filter(is_sealable) else { return Ok(None) };
        if record.seal.is_some() && renew == Renew::Missing {
            return Ok(None);
        }
        let layer = pool.open_to_look(&reader, &record)?;
        // A write that failed may have left bytes that no sync has taken along: a seal is of what is durable.
        layer.blob().sync()?;
        let before = Look::at(&**layer.blob())?;
        let size = layer.size();
        let alone = Alone::new(layer);
        let header = SealHeader { pool: pool.catalog.pool(), layer: record.uuid, grain: alone.grain, size };
        let name = seal_blob(record.uuid, pool.source.mint());
        pool.sealings.make(&name);
        let blob = pool.store().create(&name).inspect_err(|_| pool.sealings.has_made(&name))?;
        let is_published = Published::No;
        let pool = Arc::clone(pool);
        // Made first: dropping it removes the file.
        let mut begun =
            Self { pool, record, attempt, alone, before, name, writer: None, grain: 0, is_published };
        begun.writer = Some(SealWriter::begin(blob, &header)?);
        Ok(Some(begun))
    }

    /// Reads on.
    fn read(&mut self, budget: ByteCount, bytes_read: &mut ByteCount) -> Result<Step> {
        let mut left = budget;
        let Some(writer) = &mut self.writer else { return Ok(Step::Done) };
        while self.grain < self.alone.grains() {
            let (content, to) = self.alone.at(self.grain).map_err(Error::Image)?;
            match content {
                Content::Absent => self.grain = to,
                Content::Zeros => {
                    writer.put_zeros(self.grain, to - self.grain)?;
                    self.grain = to;
                }
                Content::Data => {
                    let start = self.alone.offset(self.grain);
                    let mut sums = Vec::new();
                    self.grain = self.alone.sums(self.grain, to, |grain, sum| sums.push((grain, sum)))?;
                    for (grain, sum) in sums {
                        writer.put_data(grain, sum)?;
                    }
                    let read = self.alone.offset(self.grain) - start;
                    *bytes_read += read;
                    left = left.saturating_sub(read);
                    if left.is_zero() && self.grain < self.alone.grains() {
                        return Ok(Step::More);
                    }
                }
            }
        }
        Ok(Step::Done)
    }

    /// Ends the file and names it in the books; answers whether it did: not when the layer's file was written to since.
    fn publish(&mut self) -> Result<bool> {
        let pool = Arc::clone(&self.pool);
        let Some(writer) = self.writer.take() else { return Ok(false) };
        let (length, checksum) = writer.end()?;
        pool.store().sync_names()?;
        let id = self.record.id;
        let (_held, reader, _around) = pool.lock_found(|reader| Pool::around(reader, id))?;
        let Some(record) = reader.layer(id)?.filter(is_sealable) else { return Ok(false) };
        if !pool.sealings.counts(id, self.attempt) || Look::at(&**self.alone.layer().blob())? != self.before {
            return Ok(false);
        }
        let seal = Seal {
            blob: self.name.clone(),
            length,
            checksum,
            file_length: self.before.length,
            file_identity: (self.before.identity.device, self.before.identity.number),
            file_stamp: self.before.stamp.map(|stamp| stamp.0),
            sealed: pool.source.now(),
        };
        // The file was synced before the first of it was read.
        let sealed = LayerRecord { seal: Some(seal), settled: Settled::Yes, ..record.clone() };
        let edits = vec![Edit::PutLayer(sealed)];
        let published = pool.perform(&Plan { edits, ..Plan::default() });
        if !matches!(&published, Err(error) if !matches!(error, Error::OutcomeUnknown(_))) {
            self.is_published = Published::Yes;
        }
        published?;
        pool.remove_seal(record.seal.as_ref());
        Ok(true)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.pool.sealings.end(self.record.id, self.attempt);
        if self.is_published == Published::No {
            // Best effort: what cannot be removed now is removed when the pool is opened the next time.
            drop(self.pool.store().remove(&self.name));
        }
        self.pool.sealings.has_made(&self.name);
    }
}
