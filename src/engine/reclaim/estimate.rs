//! What a reclaim would do, in figures: the same decisions on the same model, without a byte written.

use super::super::error::Result;
use super::super::pool::Pool;
use super::model::{Decision, Model};
use super::survey::{Expected, Records};
use crate::catalog::{LayerId, LayerRecord, LayerState, Reader, VolumeId};
use crate::chain::{Extents, Layer};
use crate::image::Image;
use crate::plan::books::Books;
use crate::plan::reclaim::Direction;
use crate::storage::{Access, Store};
use crate::units::ByteCount;
use std::collections::{BTreeMap, BTreeSet};

/// What a call would do to files, in bytes of guest data; what the tables of images take up is not counted.
#[doc = include_str!("../examples/deleting.md")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// The bytes that would be copied up, into the layer above.
    pub bytes_pulled: ByteCount,
    /// The bytes that would be copied down, into the retired layer.
    pub bytes_committed: ByteCount,
    /// The bytes that would be copied into files of their own, for full snapshots: at most, since what turns out to be
    /// zeros is left out where it has to be read.
    pub bytes_flattened: ByteCount,
    /// The bytes of clusters that would be freed inside of files.
    pub bytes_punched: ByteCount,
    /// The bytes that the files to be removed take up.
    pub bytes_removed: ByteCount,
    /// The most bytes of clusters that the files would hold beyond what they hold now, at any instant: what must be
    /// free for it. What is compressed counts as what it shows.
    pub bytes_extra_peak: ByteCount,
    /// How many files would be made. Their names are chosen when they are.
    pub files_made: usize,
    /// The files that would be written to.
    pub files_written: Vec<String>,
    /// The files that would be removed.
    pub files_removed: Vec<String>,
    /// The layers of each volume's chain, before and after.
    pub chains: Vec<ChainChange>,
}

/// The length of a volume's chain, its head counted.
#[doc = include_str!("../examples/deleting.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChainChange {
    /// The volume.
    pub volume_uuid: uuid::Uuid,
    /// The layers now.
    pub before: usize,
    /// The layers afterwards.
    pub after: usize,
}

impl Figures {
    /// The bytes that would be given back, by freeing and by removing.
    #[must_use]
    pub fn bytes_freed(&self) -> ByteCount {
        self.bytes_punched + self.bytes_removed
    }

    /// The bytes that would be copied, whichever way.
    #[must_use]
    pub fn bytes_copied(&self) -> ByteCount {
        self.bytes_pulled + self.bytes_committed + self.bytes_flattened
    }
}

/// The figures while they are worked out.
#[derive(Default)]
struct Tally {
    figures: Figures,
    written: BTreeSet<String>,
    removed: BTreeMap<LayerId, String>,
    /// The bytes of clusters that layers have taken in.
    grown: BTreeMap<LayerId, ByteCount>,
    /// What is taken up beyond the present, less what was given back.
    extra: i128,
}

impl Tally {
    fn add(&mut self, bytes: ByteCount) {
        self.extra += i128::from(bytes.as_u64());
        let peak = u64::try_from(self.extra.max(0)).unwrap_or(u64::MAX);
        self.figures.bytes_extra_peak = self.figures.bytes_extra_peak.max(ByteCount::new(peak));
    }

    fn give_back(&mut self, bytes: ByteCount) {
        self.extra -= i128::from(bytes.as_u64());
    }
}

/// A reclaim on a model, one layer after the other.
pub(in super::super) struct Rehearsal<'a> {
    pool: &'a Pool,
    reader: &'a Reader,
    model: Model,
    tally: Tally,
}

impl<'a> Rehearsal<'a> {
    pub(in super::super) fn new(pool: &'a Pool, reader: &'a Reader) -> Self {
        Self { pool, reader, model: Model::default(), tally: Tally::default() }
    }

    /// Looks at a layer and at what is around it, before the first one is merged; refuses when nothing may be done with
    /// it now, or when it cannot be looked at.
    pub(in super::super) fn look(&mut self, id: LayerId) -> Result<()> {
        self.look_in(self.reader, id)
    }

    fn look_in(&mut self, records: &dyn Records, id: LayerId) -> Result<()> {
        let (_, around) = Pool::around(self.reader, id)?;
        self.pool.refuse_busy(self.reader, &around)?;
        self.pool.survey(records, id, &mut self.model)
    }

    /// Does what is to be done with a layer that was looked at.
    pub(in super::super) fn merge(&mut self, id: LayerId, direction: Direction) {
        foretell_one(&mut self.model, id, direction, &mut self.tally);
    }

    /// Removes the files that nothing reads, in the catalogue as it is.
    pub(in super::super) fn sweep(&mut self) -> Result<()> {
        for layer in self.reader.layers_garbage()? {
            self.remove(&layer?);
        }
        Ok(())
    }

    fn remove(&mut self, layer: &LayerRecord) {
        let blob = Store::open(self.pool.store(), &layer.blob, Access::Read);
        let allocated = blob.and_then(|blob| blob.allocated()).unwrap_or_default();
        self.tally.figures.bytes_removed += allocated;
        self.tally.give_back(self.pool.held_by_garbage(layer));
        self.tally.removed.insert(layer.id, layer.blob.to_string());
    }

    /// Whether a layer is gone.
    pub(in super::super) fn was_taken(&self, id: LayerId) -> bool {
        self.model.was_taken(id)
    }

    /// The bytes of clusters that a layer has taken in.
    pub(in super::super) fn grown(&self, id: LayerId) -> ByteCount {
        self.tally.grown.get(&id).copied().unwrap_or_default()
    }

    /// What all that came to, but for the chains.
    pub(in super::super) fn end(self) -> Figures {
        let mut figures = self.tally.figures;
        figures.files_removed = self.tally.removed.into_values().collect();
        let written = self.tally.written.into_iter();
        figures.files_written = written.filter(|file| !figures.files_removed.contains(file)).collect();
        figures
    }
}

impl Pool {
    /// What a reclaim of these layers would do, once the books are as they are to be. A layer that cannot be
    /// looked at, or with which nothing may be done now, is left out: it would be owed.
    pub(in super::super) fn foretell(
        &self,
        reader: &Reader,
        books: &Books,
        retired: &[LayerId],
        direction: Direction,
    ) -> Result<Figures> {
        let expected = Expected { books, reader };
        let mut rehearsal = Rehearsal::new(self, reader);
        // What is garbage already goes along.
        let mut garbage: BTreeMap<LayerId, LayerRecord> = BTreeMap::new();
        for layer in reader.layers_garbage()? {
            let layer = layer?;
            garbage.insert(layer.id, layer);
        }
        let to_be = books.layers().filter(|layer| layer.state == LayerState::Garbage);
        garbage.extend(to_be.map(|layer| (layer.id, layer.clone())));
        garbage.values().for_each(|layer| rehearsal.remove(layer));
        let looked = retired.iter().filter(|id| rehearsal.look_in(&expected, **id).is_ok());
        for id in looked.copied().collect::<Vec<_>>() {
            rehearsal.merge(id, direction);
        }
        for (id, layer) in &rehearsal.model.layers {
            // What was removed from the model was removed from the pool, and told above.
            debug_assert!(!rehearsal.tally.removed.contains_key(id), "{} is gone", layer.record.blob);
        }
        let chains = self.chains(reader, &expected, &rehearsal.model, retired)?;
        Ok(Figures { chains, ..rehearsal.end() })
    }

    /// The bytes of clusters that a file holds which nothing reads any more; none when it is no image.
    fn held_by_garbage(&self, layer: &LayerRecord) -> ByteCount {
        let Ok(blob) = Store::open(self.store(), &layer.blob, Access::Read) else { return ByteCount::ZERO };
        let image = Image::open(blob, layer.blob.as_str(), Access::Read, self.options.image_limits);
        let extents = image.and_then(|image| Layer::from(image).extents());
        extents.map_or(ByteCount::ZERO, |extents| held(&extents))
    }

    /// The bytes that a reclaim of these layers would copy.
    pub(super) fn total_of(&self, reader: &Reader, retired: &[LayerId], direction: Direction) -> ByteCount {
        let mut model = Model::default();
        let mut tally = Tally::default();
        for id in retired {
            if self.survey(reader, *id, &mut model).is_ok() {
                foretell_one(&mut model, *id, direction, &mut tally);
            }
        }
        tally.figures.bytes_copied()
    }

    fn chains(
        &self,
        reader: &Reader,
        expected: &Expected<'_>,
        model: &Model,
        retired: &[LayerId],
    ) -> Result<Vec<ChainChange>> {
        let mut volumes: BTreeMap<VolumeId, ChainChange> = BTreeMap::new();
        for id in retired {
            for volume in Self::around(reader, *id)?.1.volumes {
                let before = reader.chain(volume.head)?.len();
                let head = expected.books.volume(volume.id).map_or(volume.head, |volume| volume.head);
                // From the head of then down to where the model begins, then as the model has it.
                let (mut after, mut next) = (0, Some(head));
                while let Some(layer) = next {
                    if model.layers.contains_key(&layer) {
                        after += model.length(layer);
                        break;
                    }
                    after += usize::from(!model.was_taken(layer));
                    next = expected.layer(layer)?.and_then(|layer| layer.parent);
                }
                volumes.insert(volume.id, ChainChange { volume_uuid: volume.uuid, before, after });
            }
        }
        Ok(volumes.into_values().collect())
    }
}

/// What a file holds: the clusters of its data, compressed or not, and those that are kept for later.
fn held(extents: &Extents) -> ByteCount {
    extents.held().union(&extents.compressed).bytes()
}

fn foretell_one(model: &mut Model, id: LayerId, direction: Direction, tally: &mut Tally) {
    loop {
        let Some(retired) = model.layers.get(&id).filter(|layer| layer.record.state == LayerState::Retired)
        else {
            return;
        };
        let file = retired.record.blob.to_string();
        let decision = model.decide(id, direction);
        let sizes: BTreeMap<LayerId, (String, ByteCount, ByteCount)> = model
            .layers
            .iter()
            .map(|(id, layer)| (*id, (layer.record.blob.to_string(), layer.allocated, held(&layer.extents))))
            .collect();
        let size_of = |layer: &LayerId| model.layers[layer].extents.size;
        match &decision {
            Decision::Nothing => return,
            Decision::Punch(ranges) => {
                tally.figures.bytes_punched += ranges.bytes();
                tally.give_back(ranges.bytes());
                tally.written.insert(file);
            }
            Decision::Pull { child, copies } => {
                tally.figures.bytes_pulled += copies.copied_bytes();
                let growth = model.growth(*child, copies, size_of(child));
                tally.add(growth);
                *tally.grown.entry(*child).or_default() += growth;
                tally.written.insert(sizes[child].0.clone());
            }
            Decision::Commit { child, copies } => {
                tally.figures.bytes_committed += copies.copied_bytes();
                tally.add(model.growth(id, copies, size_of(child)));
                tally.give_back(model.given_up(id, copies, size_of(child)));
                tally.written.insert(file);
                for above in model.above(*child) {
                    tally.written.insert(above.record.blob.to_string());
                }
            }
        }
        for gone in model.apply(id, &decision) {
            let (file, allocated, held) = sizes[&gone].clone();
            tally.figures.bytes_removed += allocated;
            tally.give_back(held);
            tally.removed.insert(gone, file);
        }
    }
}
