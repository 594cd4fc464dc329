//! Looking at the layers around a retired one: which volumes are concerned, whether something stands in the way,
//! what each layer defines.

use super::super::error::{Error, Result};
use super::super::locks::Key;
use super::super::pool::Pool;
use super::model::{Model, Modelled};
use crate::catalog::{L2Entries, LayerId, LayerRecord, LayerState, Reader, Running, VolumeId, VolumeRecord};
use crate::chain::{Extents, Layer};
use crate::plan::books::Books;
use crate::plan::refusal::Refusal;
use crate::storage::Access;
use crate::units::ByteCount;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Where the records of layers come from: the catalogue as it is, or the books as they are to be.
pub(super) trait Records {
    fn layer(&self, id: LayerId) -> Result<Option<LayerRecord>>;
    fn above(&self, id: LayerId) -> Result<Vec<LayerRecord>>;
    /// Whether the file of a layer is not made yet. It will be empty.
    fn is_planned(&self, id: LayerId) -> Result<bool>;
}

impl Records for Reader {
    fn layer(&self, id: LayerId) -> Result<Option<LayerRecord>> {
        Ok(Self::layer(self, id)?)
    }

    fn above(&self, id: LayerId) -> Result<Vec<LayerRecord>> {
        Ok(self.layers_above(id)?.into_vec()?)
    }

    fn is_planned(&self, _: LayerId) -> Result<bool> {
        Ok(false)
    }
}

/// The books, and behind them the catalogue for what they do not hold.
pub(super) struct Expected<'a> {
    pub(super) books: &'a Books,
    pub(super) reader: &'a Reader,
}

impl Records for Expected<'_> {
    fn layer(&self, id: LayerId) -> Result<Option<LayerRecord>> {
        match self.books.layer(id) {
            Some(layer) => Ok(Some(layer.clone())),
            None => Ok(self.reader.layer(id)?),
        }
    }

    fn above(&self, id: LayerId) -> Result<Vec<LayerRecord>> {
        let mut above: Vec<LayerRecord> = self.books.layers_above(id).cloned().collect();
        for layer in self.reader.layers_above(id)? {
            let layer = layer?;
            if self.books.layer(layer.id).is_none() && !self.books.knew_layer(layer.id) {
                above.push(layer);
            }
        }
        Ok(above)
    }

    fn is_planned(&self, id: LayerId) -> Result<bool> {
        Ok(self.reader.layer(id)?.is_none())
    }
}

/// What a new overlay defines: nothing.
fn empty(record: &LayerRecord) -> Extents {
    let cluster_size = ByteCount::new(1 << record.cluster_bits);
    let subcluster_size = match record.l2 {
        L2Entries::Standard => cluster_size,
        L2Entries::Extended => ByteCount::new(cluster_size.as_u64() / 32),
    };
    let size = record.size;
    let has_zero_clusters = true;
    Extents { size, cluster_size, subcluster_size, size_max: size, has_zero_clusters, ..Extents::default() }
}

/// What lives above a layer.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Around {
    /// The volumes that read through it, or write to it.
    pub(in super::super) volumes: Vec<VolumeRecord>,
    /// The file of a layer above it that is being filled.
    pub(in super::super) building: Option<String>,
}

impl Pool {
    /// The volumes that read through a layer, and what must be locked by whoever moves its bytes.
    pub(in super::super) fn around(reader: &Reader, id: LayerId) -> Result<(Vec<Key>, Around)> {
        let mut open = vec![id];
        let mut volumes: BTreeSet<VolumeId> = BTreeSet::new();
        let mut groups = BTreeSet::new();
        let mut around = Around::default();
        if let Some(layer) = reader.layer(id)? {
            volumes.insert(layer.volume);
            around.volumes.extend(reader.volume_of_head(id)?);
        }
        while let Some(id) = open.pop() {
            for above in reader.layers_above(id)? {
                let above = above?;
                volumes.insert(above.volume);
                if above.state == LayerState::Building {
                    around.building = Some(above.blob.to_string());
                }
                if above.state == LayerState::Head
                    && let Some(volume) = reader.volume_of_head(above.id)?
                {
                    volumes.insert(volume.id);
                    around.volumes.push(volume);
                }
                for snapshot in reader.snapshots_on(above.id)? {
                    let snapshot = snapshot?;
                    volumes.insert(snapshot.volume);
                    groups.extend(snapshot.group);
                }
                open.push(above.id);
            }
        }
        Ok((Self::keys_around(reader, volumes, groups)?, around))
    }

    /// Refuses while another process has a disk above the layer open: it relies on every file below its head.
    ///
    /// No merge is left that would be lawful then, not even a pull into a frozen layer: that layer, too, is in the
    /// chain that the other process has open, its clusters and its header would change, and a process that holds the
    /// image locks of what it reads lets nobody write there. A pull into another branch would write nothing that is
    /// open, but frees nothing either, since the open chain still reads the retired layer.
    ///
    /// And while something above it is being filled by whoever has it open.
    pub(in super::super) fn refuse_busy(&self, reader: &Reader, around: &Around) -> Result<()> {
        if let Some(file) = &around.building {
            return Err(Refusal::BeingFilled { file: file.clone() }.into());
        }
        for volume in &around.volumes {
            for attachment in &volume.attachments {
                let machine = reader.need_machine(attachment.machine)?;
                if machine.running == Running::Elsewhere {
                    let refused = "the layers below its disks stay as they are";
                    return Err(Refusal::RunsElsewhere { uuid: machine.uuid, refused }.into());
                }
            }
        }
        Ok(())
    }

    /// Looks at a retired layer, all that it reads through, and what is above it up to the first living one.
    pub(super) fn survey(&self, records: &dyn Records, id: LayerId, model: &mut Model) -> Result<()> {
        let mut down = Some(id);
        while let Some(layer) = down.map(|id| records.layer(id)).transpose()?.flatten() {
            down = layer.parent;
            self.add_to(model, records, layer)?;
        }
        let mut open = vec![id];
        while let Some(below) = open.pop() {
            for above in records.above(below)? {
                if above.state == LayerState::Retired {
                    open.push(above.id);
                }
                let above_id = above.id;
                self.add_to(model, records, above)?;
                // Whether they can be told of another name for what they read through, and who is: a merge may lead to
                // another one.
                for further in records.above(above_id)? {
                    self.add_to(model, records, further)?;
                }
            }
        }
        Ok(())
    }

    fn add_to(&self, model: &mut Model, records: &dyn Records, record: LayerRecord) -> Result<()> {
        if model.layers.contains_key(&record.id) {
            return Ok(());
        }
        if records.is_planned(record.id)? {
            let (extents, allocated) = (empty(&record), ByteCount::ZERO);
            model.layers.insert(record.id, Modelled { record, extents, allocated });
            return Ok(());
        }
        let below = record.parent.map(|id| records.layer(id)).transpose()?.flatten();
        let layer = self.layer_as_it_is(&record, below.as_ref())?;
        let unusable = |source| self.unusable(&record, source);
        let extents = layer.extents().map_err(unusable)?;
        let allocated = layer.blob().allocated()?;
        model.layers.insert(record.id, Modelled { record, extents, allocated });
        Ok(())
    }

    /// A layer as it is now: the one that a handle writes to, else its file.
    pub(super) fn layer_as_it_is(
        &self,
        record: &LayerRecord,
        below: Option<&LayerRecord>,
    ) -> Result<Arc<Layer>> {
        if record.state == LayerState::Head
            && let Some(open) = self.open_volumes.chain(record.volume)
            && open.head().name() == record.blob.as_str()
        {
            return Ok(Arc::clone(open.head()));
        }
        self.open_layer(self.uuid_of_volume(record.volume)?, record, below, Access::Read)
    }

    /// The uuid that messages about a layer name.
    pub(in super::super) fn uuid_of_volume(&self, volume: VolumeId) -> Result<uuid::Uuid> {
        Ok(self.read()?.volume(volume)?.map(|volume| volume.uuid).unwrap_or_default())
    }

    /// What went wrong with the bytes of a layer.
    pub(in super::super) fn unusable(&self, record: &LayerRecord, source: crate::image::Error) -> Error {
        let volume = self.uuid_of_volume(record.volume).unwrap_or_default();
        Error::Layer { volume, blob: record.blob.to_string(), source: Box::new(source) }
    }
}
