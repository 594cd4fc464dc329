//! From records to open layers. The catalogue says which file is below which; a file that says otherwise is
//! refused, never followed.

use super::error::{Error, Result};
use super::pool::Pool;
use crate::catalog::{L2Entries, LayerFormat, LayerId, LayerRecord, LayerState, Origin, VolumeRecord};
use crate::chain::{Chain, Layer, RawLayer};
use crate::image::{Facts, Image, L2Width};
use crate::storage::{self, Access, Blob, BlobName, Hold, Store};
use crate::sync::Mutex;
use crate::units::ByteCount;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use uuid::Uuid;

/// The frozen layers that are open: each file once, however many chains it is in.
#[derive(Debug, Default)]
pub(super) struct OpenLayers(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    open: HashMap<LayerId, Weak<Layer>>,
    /// How often a layer was forgotten.
    forgotten: u64,
}

impl Table {
    fn note(&mut self, id: LayerId, layer: &Arc<Layer>) {
        self.open.retain(|_, layer| layer.strong_count() > 0);
        self.open.insert(id, Arc::downgrade(layer));
    }
}

impl OpenLayers {
    fn find(&self, id: LayerId) -> Option<Arc<Layer>> {
        self.0.lock().open.get(&id).and_then(Weak::upgrade)
    }

    /// Forgets a layer whose file was written to: the next chain opens it anew.
    pub(super) fn forget(&self, id: LayerId) {
        let mut table = self.0.lock();
        table.open.remove(&id);
        table.forgotten += 1;
    }

    /// Notes a layer that is frozen, for the next chain that has it.
    pub(super) fn note(&self, id: LayerId, layer: &Arc<Layer>) {
        self.0.lock().note(id, layer);
    }

    fn forgotten(&self) -> u64 {
        self.0.lock().forgotten
    }

    /// As [`OpenLayers::note`] for one that was opened after `forgotten` was asked for: what has been written to a
    /// file meanwhile may be missing in it.
    fn note_unless_written(&self, id: LayerId, layer: &Arc<Layer>, forgotten: u64) {
        let mut table = self.0.lock();
        if table.forgotten == forgotten {
            table.note(id, layer);
        }
    }
}

/// The name of a format, as headers write it.
pub(super) fn format_name(format: LayerFormat) -> &'static str {
    match format {
        LayerFormat::Qcow2 => "qcow2",
        LayerFormat::Raw => "raw",
    }
}

/// The width of L2 entries, in the words of the records.
pub(super) fn l2_entries(width: L2Width) -> L2Entries {
    match width {
        L2Width::Standard => L2Entries::Standard,
        L2Width::Extended => L2Entries::Extended,
    }
}

/// The width of L2 entries, in the words of the format.
pub(super) fn l2_width(entries: L2Entries) -> L2Width {
    match entries {
        L2Entries::Standard => L2Width::Standard,
        L2Entries::Extended => L2Width::Extended,
    }
}

impl Pool {
    /// Opens a chain, the head first, its head for `head` and everything below for reading.
    pub(super) fn open_chain(&self, volume: Uuid, records: &[LayerRecord], head: Access) -> Result<Chain> {
        let mut layers = Vec::with_capacity(records.len());
        for (depth, record) in records.iter().enumerate() {
            let access = if depth == 0 { head } else { Access::Read };
            layers.push(self.open_layer(volume, record, records.get(depth + 1), access)?);
        }
        Ok(Chain::new(layers))
    }

    /// The chain of a volume as it is now: the one of its handle when it has one, else its files.
    pub(super) fn chain_as_it_is(&self, volume: &VolumeRecord, records: &[LayerRecord]) -> Result<Chain> {
        match self.open_volumes.chain(volume.id) {
            Some(chain) => Ok(chain),
            None => self.open_chain(volume.uuid, records, Access::Read),
        }
    }

    /// Opens one layer; `below` is the record of the next one down.
    pub(super) fn open_layer(
        &self,
        volume: Uuid,
        record: &LayerRecord,
        below: Option<&LayerRecord>,
        access: Access,
    ) -> Result<Arc<Layer>> {
        let is_frozen = access == Access::Read && !record.state.is_written();
        if let (true, Some(layer)) = (is_frozen, self.open_layers.find(record.id)) {
            return Ok(layer);
        }
        let forgotten = self.open_layers.forgotten();
        let layer = self.open_layer_anew(volume, record, below, access)?;
        if is_frozen {
            self.open_layers.note_unless_written(record.id, &layer, forgotten);
        }
        Ok(layer)
    }

    /// Notes that a layer below some head was written to. Comes after the write and before anything is freed that
    /// the layer hides now.
    pub(super) fn note_written(&self, id: LayerId) {
        self.open_layers.forget(id);
        self.readers.note_written(id);
    }

    /// Opens one layer, whether it is open or not.
    pub(super) fn open_layer_anew(
        &self,
        volume: Uuid,
        record: &LayerRecord,
        below: Option<&LayerRecord>,
        access: Access,
    ) -> Result<Arc<Layer>> {
        Ok(Arc::new(self.open_file(volume, record, below, access)?))
    }

    fn open_file(
        &self,
        volume: Uuid,
        record: &LayerRecord,
        below: Option<&LayerRecord>,
        access: Access,
    ) -> Result<Layer> {
        let unusable =
            |source| Error::Layer { volume, blob: record.blob.to_string(), source: Box::new(source) };
        let blob = match self.store().open(&record.blob, access) {
            Ok(blob) => blob,
            Err(error) => return Err(unopened(volume, &record.blob, error)),
        };
        let hold = match access {
            Access::Read => Hold::Read,
            Access::Write => Hold::Write,
        };
        blob.hold(hold).map_err(|error| unopened(volume, &record.blob, error))?;
        if record.format == LayerFormat::Raw {
            let raw = RawLayer::open(blob, record.blob.as_str()).map_err(unusable)?;
            let agree = Agreement { volume, record };
            agree.on("size", record.size, raw.size())?;
            return Ok(Layer::Raw(raw));
        }
        let open = || Image::open(Arc::clone(&blob), record.blob.as_str(), access, self.options.image_limits);
        if access == Access::Read {
            let image = open().map_err(unusable)?;
            self.check_header(volume, record, below, &Facts::of_open(&image).map_err(unusable)?)?;
            return Ok(Layer::from(image));
        }
        // Whoever opens an image for writing may change it.
        self.check_facts(volume, record, below, &*blob)?;
        Ok(Layer::from(open().map_err(unusable)?))
    }

    /// Refuses a file whose header does not say what the catalogue says.
    pub(super) fn check_facts(
        &self,
        volume: Uuid,
        record: &LayerRecord,
        below: Option<&LayerRecord>,
        blob: &dyn Blob,
    ) -> Result<()> {
        let facts = Facts::of(blob, record.blob.as_str()).map_err(|source| Error::Layer {
            volume,
            blob: record.blob.to_string(),
            source: Box::new(source),
        })?;
        self.check_header(volume, record, below, &facts)
    }

    /// Refuses a header that does not say what the catalogue says.
    fn check_header(
        &self,
        volume: Uuid,
        record: &LayerRecord,
        below: Option<&LayerRecord>,
        facts: &Facts,
    ) -> Result<()> {
        let agree = Agreement { volume, record };
        agree.on("cluster size", cluster_size(record.cluster_bits), facts.cluster_size)?;
        let width = |entries| format!("{entries:?}").to_lowercase();
        agree.on("L2 entries", width(record.l2), width(l2_entries(facts.l2)))?;
        let backing = |name: Option<&str>| name.map_or_else(|| "none".to_owned(), |name| format!("{name:?}"));
        // A header that is noted and whose write has failed says the one or the other, and what is shown above either
        // is the same.
        let noted = record.rewrite.as_ref().filter(|noted| noted.backing_label == facts.backing_label);
        let (label, below_format) = match noted {
            None => (&record.backing_label, below.map(|below| below.format)),
            Some(noted) => {
                let parent = noted.parent.map(|parent| self.read()?.need_layer(parent).map_err(Error::from));
                (&noted.backing_label, parent.transpose()?.map(|parent| parent.format))
            }
        };
        agree.on("backing file", backing(label.as_deref()), backing(facts.backing_label.as_deref()))?;
        let format = |name: Option<&str>| name.unwrap_or("not given").to_owned();
        let expected = below_format.map(format_name);
        agree.on("backing format", format(expected), format(facts.backing_format.as_deref()))?;
        if record.origin != Origin::Base {
            let shown = |layer: Option<Uuid>| {
                layer.map_or_else(|| "none".to_owned(), |layer| layer.simple().to_string())
            };
            let found = facts.identity.map(|identity| Uuid::from_bytes(identity.layer));
            agree.on("layer id", shown(Some(record.uuid)), shown(found))?;
        }
        // A head that was made larger and then cut short by a crash is finished when it is opened. A retired layer is
        // made larger before it takes over the data of the one above it; what it lacks reads as zeros until then.
        let grows = matches!(record.state, LayerState::Head | LayerState::Retired);
        let unfinished = grows && facts.size < record.size;
        if !unfinished {
            agree.on("virtual size", record.size, facts.size)?;
        }
        Ok(())
    }
}

/// Why the file of a layer was not opened.
pub(super) fn unopened(volume: Uuid, blob: &BlobName, error: storage::Error) -> Error {
    let blob = blob.to_string();
    match error {
        storage::Error::NotFound { .. } => Error::LayerMissing { volume, blob },
        storage::Error::NotRegular { .. } => Error::LayerDisagrees {
            volume,
            blob,
            what: "kind",
            expected: "a regular file".to_owned(),
            found: "a link, a directory or a device".to_owned(),
        },
        storage::Error::InUse { holder, .. } => Error::HeadInUse { volume, blob, holder },
        other => other.into(),
    }
}

fn cluster_size(bits: u8) -> ByteCount {
    ByteCount::new(1 << bits)
}

/// What the catalogue says of a file, against what the file says.
struct Agreement<'a> {
    volume: Uuid,
    record: &'a LayerRecord,
}

impl Agreement<'_> {
    fn on<T: PartialEq + ToString>(&self, what: &'static str, expected: T, found: T) -> Result<()> {
        if expected == found {
            return Ok(());
        }
        Err(Error::LayerDisagrees {
            volume: self.volume,
            blob: self.record.blob.to_string(),
            what,
            expected: expected.to_string(),
            found: found.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStore;

    #[test]
    fn a_layer_that_was_opened_before_its_file_was_written_to_is_in_no_other_chain() -> Result<()> {
        let name = BlobName::parse("layer").expect("a name");
        let blob = MemoryStore::new().create(&name)?;
        let layer = Arc::new(Layer::Raw(RawLayer::open(blob, "layer")?));
        let (open, id) = (OpenLayers::default(), LayerId(1));
        let forgotten = open.forgotten();
        open.note_unless_written(id, &layer, forgotten);
        assert!(open.find(id).is_some());
        open.forget(id);
        open.note_unless_written(id, &layer, forgotten);
        assert!(open.find(id).is_none());
        Ok(())
    }
}
