//! Whether what was sealed is still what it was.

use super::super::error::{Error, Result};
use super::super::events::Work;
use super::super::operation::Operation;
use super::super::pool::{Engine, Pool};
use super::super::round::Round;
use super::super::uuid_arg::UuidArg;
use super::Look;
use super::content::Alone;
use super::file::{Content, SealReader, Unusable};
use crate::catalog::{LayerId, LayerRecord, LayerState, Reader, Seal};
use crate::chain::Layer;
use crate::inventory::ErrorCode;
use crate::plan::refusal::Refusal;
use crate::storage::{Access, BlobName, Store};
use crate::units::ByteCount;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use uuid::Uuid;

/// How many stretches that differ are listed for one layer.
const RANGES_MAX: usize = 128;

/// What is verified.
#[doc = include_str!("../examples/sealing.md")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerifyOf {
    /// Every layer of the pool that no volume writes to.
    #[default]
    Pool,
    /// The layers that a snapshot reads through.
    Snapshot(UuidArg),
    /// The layers that the members of a group read through.
    Group(UuidArg),
}

/// How far a verification goes.
#[doc = include_str!("../examples/sealing.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerifyDepth {
    /// Only the files are looked at from outside: how long they are, which ones, when they were changed last. Costs two
    /// system calls for each, and tells nothing of a disk that forgets.
    Looks,
    /// Those whose files look different are read.
    #[default]
    Suspects,
    /// All are read.
    Content,
}

/// What a file shows from outside that it did not when it was sealed.
#[doc = include_str!("../examples/sealing.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Touch {
    /// It has another length.
    Length {
        /// The length when it was sealed.
        sealed: ByteCount,
        /// The length now.
        found: ByteCount,
    },
    /// It is another file under the same name.
    Replaced,
    /// It was changed since: its bytes, or its owner, mode or names.
    Changed,
}

/// What a verification says of one layer.
#[doc = include_str!("../examples/sealing.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// There is nothing to compare with: it was never sealed, or this pool has written to its file since.
    NeverSealed,
    /// It holds what it held; at [`VerifyDepth::Looks`], and at [`VerifyDepth::Suspects`] with nothing touched: its file
    /// looks as it did.
    Intact,
    /// Its file looks different; what it holds was not read.
    Touched,
    /// It holds something else.
    Differs {
        /// The bytes of the guest in clusters that differ, be it that they hold something else or that they are not
        /// there any more.
        bytes: ByteCount,
        /// Where they are, in bytes of the disk; the first 128 stretches.
        ranges: Vec<Range<u64>>,
    },
    /// The checksums themselves are gone or damaged.
    SealLost {
        /// Why they cannot be used.
        error: String,
    },
    /// The file is missing, is not what the catalogue says, or cannot be read.
    Unusable {
        /// Why.
        error: ErrorCode,
    },
}

/// One layer that was verified.
#[doc = include_str!("../examples/sealing.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerVerdict {
    /// Its file.
    pub file: String,
    /// The uuid of the layer.
    pub layer_uuid: Uuid,
    /// What its file shows from outside that it did not when it was sealed.
    pub touched: Vec<Touch>,
    /// What it is.
    pub verdict: Verdict,
}

/// What a verification has found, layer by layer, those made first before the others.
#[doc = include_str!("../examples/sealing.md")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "what differs is said here, and in no error"]
pub struct Verification {
    /// Each layer that was verified.
    pub layers: Vec<LayerVerdict>,
    /// The bytes of the guest that were read for it.
    pub bytes_read: ByteCount,
}

impl Verification {
    /// Whether nothing speaks against any of the layers: what was never sealed does not.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.layers.iter().all(|layer| layer.verdict.is_good())
    }

    /// Whether every layer was sealed and is intact.
    #[must_use]
    pub fn is_proved(&self) -> bool {
        self.layers.iter().all(|layer| layer.verdict == Verdict::Intact)
    }
}

impl Verdict {
    pub(super) fn is_good(&self) -> bool {
        matches!(self, Self::NeverSealed | Self::Intact)
    }
}

impl Engine {
    /// Compares layers that no volume writes to with their seals: whether somebody has written to them behind the
    /// pool's back, and where. Needs a fixed amount of memory, and holds no lock while it reads.
    ///
    /// When a file was changed last, the system tells to a few milliseconds at best; a change within the moment of the
    /// sealing is found by [`VerifyDepth::Content`] alone.
    ///
    /// # Errors
    ///
    /// SYS.1007 for a malformed uuid; SYS.1003 for what is not there; what keeps the catalogue from being read. What is
    /// wrong with a layer is in the answer.
    #[doc = include_str!("../examples/sealing.md")]
    pub fn verify(&self, of: &VerifyOf, depth: VerifyDepth) -> Result<Verification> {
        self.during(Operation::Verify, || self.verify_untold(of, depth))
    }

    fn verify_untold(&self, of: &VerifyOf, depth: VerifyDepth) -> Result<Verification> {
        let pool = &self.pool;
        let reader = pool.read()?;
        let layers = match of {
            VerifyOf::Pool => {
                let mut layers = Vec::new();
                for layer in reader.layers(LayerId(0))? {
                    let layer = layer?;
                    if is_still(&layer) {
                        layers.push(layer.id);
                    }
                }
                layers
            }
            VerifyOf::Snapshot(snapshot) => {
                let uuid = snapshot.parse()?;
                let found = reader.snapshot_by_uuid(uuid)?;
                let snapshot = found.ok_or(Refusal::NotFound { what: "snapshot", uuid })?;
                below(&reader, [snapshot.layer])?
            }
            VerifyOf::Group(group) => {
                let group = pool.group(&reader, group.parse()?)?;
                let members = reader.snapshots_of_group(group.id)?.into_vec()?;
                below(&reader, members.iter().map(|snapshot| snapshot.layer))?
            }
        };
        let files = || layers.iter().map(|layer| Ok(reader.need_layer(*layer)?.blob)).collect();
        let mut round = Round::begin(pool, Work::Verify, files)?;
        drop(reader);
        let mut found = Verification::default();
        for layer in layers {
            let verdict = pool.verify_layer(layer, depth, &mut found.bytes_read, &round)?;
            if let Some((file, verdict)) = verdict {
                round.passed(&file);
                found.layers.push(verdict);
            }
        }
        round.end();
        Ok(found)
    }
}

fn is_still(layer: &LayerRecord) -> bool {
    matches!(layer.state, LayerState::Frozen | LayerState::Retired)
}

/// Some layers and all that they read through, each once, the ones made first before the others.
fn below(reader: &Reader, layers: impl IntoIterator<Item = LayerId>) -> Result<Vec<LayerId>> {
    let mut found = BTreeSet::new();
    for layer in layers {
        let mut next = Some(layer);
        while let Some(id) = next.filter(|id| found.insert(*id)) {
            next = reader.need_layer(id)?.parent;
        }
    }
    Ok(found.into_iter().collect())
}

impl Pool {
    /// What is to be said of the layers that a snapshot reads through, when anything speaks against one of them.
    pub(in super::super) fn is_chain_good(&self, layer: LayerId, depth: VerifyDepth) -> Result<bool> {
        for id in below(&self.read()?, [layer])? {
            let untold = Round::untold(self, Work::Verify);
            let verdict = self.verify_layer(id, depth, &mut ByteCount::default(), &untold)?;
            if verdict.is_some_and(|(_, layer)| !layer.verdict.is_good()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Verifies one layer, and answers its file, too; `None` when it is gone, or a volume writes to it by now.
    fn verify_layer(
        &self,
        id: LayerId,
        depth: VerifyDepth,
        bytes_read: &mut ByteCount,
        round: &Round<'_>,
    ) -> Result<Option<(BlobName, LayerVerdict)>> {
        loop {
            let (record, opened) = {
                // Of one moment: what the record says is below the layer may be gone from later books.
                let _layout = self.layout.read();
                let reader = self.read()?;
                let Some(record) = reader.layer(id)?.filter(is_still) else { return Ok(None) };
                let opened = self.open_to_look(&reader, &record);
                (record, opened)
            };
            let mut touched = Vec::new();
            let compare = |layer| self.compare(&record, layer, depth, &mut touched, bytes_read, round);
            let verdict = match opened.and_then(compare) {
                Ok(verdict) => verdict,
                // Of the books, which say nothing of this layer then.
                Err(error @ Error::Catalog(_)) => return Err(error),
                Err(error) => Verdict::Unusable { error: error.to_error_code() },
            };
            // What was read while this pool wrote to the file, or exchanged the files, says nothing.
            let now = self.read()?.layer(id)?;
            if now.as_ref().is_some_and(|now| {
                (&now.seal, &now.rewrite, now.parent, &now.taken_in, now.state)
                    == (&record.seal, &record.rewrite, record.parent, &record.taken_in, record.state)
            }) {
                let file = record.blob.to_string();
                let verdict = LayerVerdict { file, layer_uuid: record.uuid, touched, verdict };
                return Ok(Some((record.blob, verdict)));
            }
        }
    }

    fn compare(
        &self,
        record: &LayerRecord,
        layer: Arc<Layer>,
        depth: VerifyDepth,
        touched: &mut Vec<Touch>,
        bytes_read: &mut ByteCount,
        round: &Round<'_>,
    ) -> Result<Verdict> {
        let Some(seal) = &record.seal else { return Ok(Verdict::NeverSealed) };
        *touched = touches(Look::of(seal), Look::at(&**layer.blob())?);
        let is_suspect = !touched.is_empty() || seal.file_stamp.is_none();
        match depth {
            VerifyDepth::Looks if touched.is_empty() => return Ok(Verdict::Intact),
            VerifyDepth::Looks => return Ok(Verdict::Touched),
            VerifyDepth::Suspects if !is_suspect => return Ok(Verdict::Intact),
            VerifyDepth::Suspects | VerifyDepth::Content => {}
        }
        let mut alone = Alone::new(layer);
        match self.compare_content(record, seal, &mut alone, bytes_read, round) {
            Ok(verdict) => Ok(verdict),
            Err(Failed::Seal(error)) => Ok(Verdict::SealLost { error: error.to_string() }),
            Err(Failed::Layer(error)) => Err(Error::Image(error)),
        }
    }

    fn compare_content(
        &self,
        record: &LayerRecord,
        seal: &Seal,
        alone: &mut Alone,
        bytes_read: &mut ByteCount,
        round: &Round<'_>,
    ) -> std::result::Result<Verdict, Failed> {
        let before = *bytes_read;
        let blob = self.store().open(&seal.blob, Access::Read).map_err(Unusable::from)?;
        let mut sealed = SealReader::open(blob, seal.length, seal.checksum)?;
        let header = sealed.header;
        if (header.pool, header.layer, header.grain) != (self.catalog.pool(), record.uuid, alone.grain) {
            return Err(Unusable::Damaged.into());
        }
        // Below the lowest layer there is nothing that could show through.
        let shown = |content| match content {
            Content::Absent if record.parent.is_none() => Content::Zeros,
            other => other,
        };
        let mut differing = Differing::default();
        let (mut at, end) = (0, alone.grains());
        while at < end {
            let (was, was_to) = sealed.at(at)?;
            let (is, is_to) = alone.at(at)?;
            let to = was_to.min(is_to).min(end);
            let (was, is) = (shown(was), shown(is));
            let next = match (was, is) {
                (Content::Absent, Content::Absent) | (Content::Zeros, Content::Zeros) => to,
                (Content::Absent, _) | (_, Content::Absent) => {
                    differing.add(alone, at, to);
                    to
                }
                (Content::Data, Content::Zeros) => {
                    for grain in at..to {
                        if sealed.sum(grain) != alone.sum_of_zeros(grain) {
                            differing.add(alone, grain, grain + 1);
                        }
                    }
                    to
                }
                (_, Content::Data) => {
                    let mut sums = Vec::new();
                    let next = alone.sums(at, to, |grain, sum| sums.push((grain, sum)))?;
                    *bytes_read += alone.offset(next) - alone.offset(at);
                    round.within(*bytes_read - before);
                    for (grain, sum) in sums {
                        let expected = match was {
                            Content::Data => sealed.sum(grain),
                            _ => alone.sum_of_zeros(grain),
                        };
                        if sum != expected {
                            differing.add(alone, grain, grain + 1);
                        }
                    }
                    next
                }
            };
            at = next;
        }
        if header.size != alone.layer().size() {
            let (one, other) = (header.size.as_u64(), alone.layer().size().as_u64());
            differing.add_bytes(one.min(other)..one.max(other));
        }
        Ok(differing.verdict())
    }
}

/// What a comparison failed on.
enum Failed {
    Seal(Unusable),
    Layer(crate::image::Error),
}

impl From<Unusable> for Failed {
    fn from(error: Unusable) -> Self {
        Self::Seal(error)
    }
}

impl From<crate::image::Error> for Failed {
    fn from(error: crate::image::Error) -> Self {
        Self::Layer(error)
    }
}

fn touches(sealed: Look, found: Look) -> Vec<Touch> {
    let mut touches = Vec::new();
    if sealed.length != found.length {
        touches.push(Touch::Length { sealed: sealed.length, found: found.length });
    }
    if sealed.identity != found.identity {
        touches.push(Touch::Replaced);
    } else if sealed.stamp != found.stamp {
        touches.push(Touch::Changed);
    }
    touches
}

/// The stretches that differ, in rising order.
#[derive(Debug, Default)]
struct Differing {
    bytes: u64,
    ranges: Vec<Range<u64>>,
}

impl Differing {
    fn add(&mut self, alone: &Alone, from: u64, to: u64) {
        self.add_bytes(alone.offset(from).as_u64()..alone.offset(to).as_u64());
    }

    fn add_bytes(&mut self, range: Range<u64>) {
        self.bytes += range.end - range.start;
        if let Some(last) = self.ranges.last_mut().filter(|last| last.end == range.start) {
            last.end = range.end;
        } else if self.ranges.len() < RANGES_MAX {
            self.ranges.push(range);
        }
    }

    fn verdict(self) -> Verdict {
        if self.ranges.is_empty() {
            return Verdict::Intact;
        }
        Verdict::Differs { bytes: ByteCount::new(self.bytes), ranges: self.ranges }
    }
}
