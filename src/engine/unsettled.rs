//! Layers whose files the books do not vouch for: made empty, and not synced before the commit that names them.
//!
//! Such a file holds nothing that its record does not say, until a flush has made the first entry of its L1 table durable.
//! Whoever writes a qcow2 image syncs everything that an entry of it leads to before he writes the entry, the header and
//! the refcounts of the file with it, and does not acknowledge a flush of anything new before the entry is on disk.
//!
//! * **U1** An L1 table that names something says that the rest of the file has arrived. It is never made anew.
//! * **U2** An L1 table that names nothing says that nothing was acknowledged. When the file is not whole, it is made anew
//!   from its record, and a crash in that leaves a table that names nothing.
//! * **U3** A file that is whole is left as it is, whatever it holds, and made durable: its own bytes are written once
//!   more, since of a sync that has failed the system may remember nothing.
//! * **U4** Before what the file holds is no function of its record any more - another size, another header, a merge into
//!   it -, and before another program is to use it, it is synced, and its record says so: [`Settled::Yes`].

use super::error::{Error, Result};
use super::layers::l2_entries;
use super::notes::{Claims, Foreseen};
use super::perform::{identity_in, new_image};
use super::pool::Pool;
use super::recover::Recovered;
use crate::catalog::{Catalog, Edit, LayerId, LayerRecord, Reader, Settled, VolumeRecord};
use crate::image::{self, Facts, NewImage};
use crate::plan::Plan;
use crate::storage::{self, Access, Blob, Hold, Store};
use crate::units::{ByteCount, HostOffset};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use uuid::Uuid;

/// How many layers are made before those that are not settled are made durable, by the operation that has made the last.
const BACKLOG_MAX: usize = 256;

/// How many files are synced side by side. Each is open for writing meanwhile, and a process may have few files open.
const SYNCED_AT_ONCE: usize = 64;

/// What was synced of several layers.
#[derive(Debug, Default)]
struct Synced {
    layers: Vec<LayerId>,
    /// What stood in the way of the first file that is there and could not be opened.
    hindrance: Option<Error>,
}

impl Synced {
    fn all(self) -> Result<()> {
        self.hindrance.map_or(Ok(()), Err)
    }
}

impl Pool {
    /// Makes the files of those of the layers durable that are not settled.
    pub(super) fn sync_unsettled(&self, layers: &[LayerRecord]) -> Result<()> {
        self.sync_files(layers)?.all()
    }

    /// As [`Pool::sync_unsettled`], and says so in the books. A file that cannot be opened is an error, once all others are
    /// settled.
    pub(super) fn settle_files(&self, layers: &[LayerRecord]) -> Result<()> {
        let synced = self.sync_files(layers)?;
        let edits: Vec<Edit> = synced.layers.iter().copied().map(Edit::SettleLayer).collect();
        if !edits.is_empty() {
            self.perform(&Plan { edits, ..Plan::default() })?;
        }
        synced.all()
    }

    /// Settles all that disks read and write, before another process uses them.
    pub(super) fn settle_disks(&self, volumes: &[VolumeRecord]) -> Result<()> {
        let reader = self.read()?;
        let mut layers = Vec::new();
        for volume in volumes {
            layers.extend(reader.chain(volume.head)?);
        }
        self.settle_files(&layers)
    }

    /// Settles every layer of the pool, before it is given back.
    pub(super) fn settle_all(&self) -> Result<()> {
        let unsettled = self.read()?.layers_unsettled()?.into_vec()?;
        self.settle_files(&unsettled)
    }

    /// Settles what waits, when that may be [`BACKLOG_MAX`] layers: an opening after a crash would look at each of them.
    pub(super) fn settle_backlog(&self) {
        let made = self.backlog.load(Ordering::Relaxed);
        // Of several threads one does it.
        if made >= BACKLOG_MAX
            && self.backlog.compare_exchange(made, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            // What the operation that is ending has done is durable, whatever becomes of this. A sync that fails, or a
            // commit of which nobody knows, ends all changes of the pool, and the next one tells of it. A file that cannot
            // be opened waits on until as many more were made.
            drop(self.settle_all());
        }
    }

    /// Syncs the files of those layers that are not settled, and answers which these are. One whose file is not there, or
    /// was left to the next opening, stays as it is.
    fn sync_files(&self, layers: &[LayerRecord]) -> Result<Synced> {
        let is_left = |layer: &&LayerRecord| self.not_arrived.contains(&layer.id);
        let unsettled = layers.iter().filter(|layer| layer.settled == Settled::No);
        let unsettled: Vec<&LayerRecord> = unsettled.filter(|layer| !is_left(layer)).collect();
        let mut synced = Synced::default();
        for some in unsettled.chunks(SYNCED_AT_ONCE) {
            self.admit_change()?;
            let mut files: Vec<(LayerId, Arc<dyn Blob>)> = Vec::with_capacity(some.len());
            for layer in some {
                match self.store().open(&layer.blob, Access::Write) {
                    Ok(blob) => files.push((layer.id, blob)),
                    Err(storage::Error::NotFound { .. } | storage::Error::NotRegular { .. }) => {}
                    Err(error) => drop(synced.hindrance.get_or_insert(error.into())),
                }
            }
            files.iter().for_each(|(_, blob)| blob.sync_soon());
            for (layer, blob) in files {
                blob.sync()?;
                synced.layers.push(layer);
            }
        }
        Ok(synced)
    }
}

/// What was found of a file that may not have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    /// It is whole, and durable now.
    Whole,
    /// It was not, held nothing, and was made anew.
    Rebuilt,
}

/// Settles the layers of a pool that was not given back: makes those anew that did not arrive. Costs as many syncs as there
/// are such layers, and a commit.
pub(super) fn settle_left(store: &dyn Store, catalog: &Catalog, recovered: &mut Recovered) -> Result<()> {
    let reader = catalog.read()?;
    let mut edits = Vec::new();
    for layer in reader.layers_unsettled()?.into_vec()? {
        // The head of a volume that was deleted: nobody reads it, and it waits to be removed.
        if reader.volume(layer.volume)?.is_none() {
            continue;
        }
        match settle_one(store, catalog, &reader, &layer) {
            Ok(arrival) => {
                if arrival == Arrival::Rebuilt {
                    recovered.rebuilt.push(layer.blob.to_string());
                }
                edits.push(Edit::SettleLayer(layer.id));
            }
            Err(error) => recovered.unfinished.push(format!("{}: {error}", layer.blob)),
        }
    }
    if !edits.is_empty() {
        catalog.commit(None, &edits)?;
    }
    Ok(())
}

fn settle_one(store: &dyn Store, catalog: &Catalog, reader: &Reader, layer: &LayerRecord) -> Result<Arrival> {
    let name = layer.blob.as_str();
    let volume = reader.need_volume(layer.volume)?.uuid;
    let wanted = image_of(catalog, reader, layer, volume)?;
    let layout = wanted.layout(name)?;
    let blob = store.open(&layer.blob, Access::Write)?;
    let facts = Facts::of(&*blob, name);
    let is_ours = facts.as_ref().is_ok_and(|facts| {
        let of_record = (wanted.identity, u64::from(layer.cluster_bits), layer.l2);
        let bits = u64::from(facts.cluster_size.as_u64().trailing_zeros());
        (facts.identity, bits, l2_entries(facts.l2)) == of_record
    });
    if !layout.names_nothing_in(&*blob)? {
        // U1. What cannot be told to be this layer is nobody's to decide here.
        if !is_ours {
            let blob = name.to_owned();
            facts.map_err(|source| Error::Layer { volume, blob: blob.clone(), source: Box::new(source) })?;
            let (expected, found) = (layer.uuid.simple().to_string(), "another image".to_owned());
            return Err(Error::LayerDisagrees { volume, blob, what: "layer id", expected, found });
        }
        blob.sync()?;
        return Ok(Arrival::Whole);
    }
    let is_whole = is_ours
        && blob.length()? >= layout.length
        && image::check(&*blob, name).is_ok_and(|report| report.is_sound());
    match (is_whole, blob.hold(Hold::Write)) {
        // U3
        (true, Ok(())) => write_again(&*blob, layout.l1_table)?,
        // Another process uses it, as it could not if it had not arrived.
        (true, Err(storage::Error::InUse { .. })) => {}
        // U2
        (false, Ok(())) => {
            blob.set_length(ByteCount::ZERO)?;
            layout.write(&*blob)?;
        }
        (_, Err(error)) => return Err(error.into()),
    }
    blob.sync()?;
    Ok(if is_whole { Arrival::Whole } else { Arrival::Rebuilt })
}

/// The image that a layer is while nobody has written to it, with what is to be told of the catalogue now.
fn image_of(catalog: &Catalog, reader: &Reader, layer: &LayerRecord, volume: Uuid) -> Result<NewImage> {
    let below = layer.parent.map(|parent| reader.need_layer(parent)).transpose()?;
    let notes = Foreseen::of(reader, &[]).notes_of(layer, Claims::BelowAndAside)?;
    let identity = identity_in(catalog.pool(), volume, layer.uuid);
    Ok(new_image(layer, below.map(|below| below.format), identity, notes))
}

/// Writes what lies before `end` once more, and the length.
fn write_again(blob: &dyn Blob, end: HostOffset) -> storage::Result<()> {
    let mut bytes = vec![0; end.as_length().as_usize()];
    blob.read_at(HostOffset::ZERO, &mut bytes)?;
    blob.write_at(HostOffset::ZERO, &bytes)?;
    blob.set_length(blob.length()?)
}

#[cfg(test)]
mod tests {
    use super::super::{
        CreateSnapshot, CreateVolume, DeleteSnapshots, Direction, Engine, Options, ReclaimOptions,
        RepairMode, RepairOptions, When,
    };
    use super::*;
    use crate::storage::{BlobName, MemoryStore};

    type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

    fn unsettled(engine: &Engine) -> Result<Vec<String>> {
        let layers = engine.pool.read()?.layers_unsettled()?.into_vec()?;
        Ok(layers.into_iter().map(|layer| layer.blob.to_string()).collect())
    }

    /// U4
    #[test]
    fn a_layer_is_settled_before_another_one_is_merged_into_it() -> Outcome {
        let engine = Engine::in_memory(Options::default())?;
        let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?.uuid;
        let empty = engine.create_snapshot(&CreateSnapshot::new(volume, "empty"))?.uuid;
        let disk = engine.open_volume(volume)?;
        disk.write_at(0, &[1; 300_000])?;
        engine.create_snapshot(&CreateSnapshot::new(volume, "full"))?;
        drop(disk);
        let chain = engine.chain(volume)?;
        let [head, lowest] = [&chain[0].file, &chain[2].file];
        assert_eq!(unsettled(&engine)?, [lowest.clone(), head.clone()]);
        assert!(
            engine
                .delete_snapshots(&DeleteSnapshots { reclaim: When::Later, ..DeleteSnapshots::one(empty) })?
                .is_success()
        );
        let mut reclaim = engine.reclaim(&ReclaimOptions::towards(Direction::Commit))?;
        assert_eq!(reclaim.step(ByteCount::new(1))?, crate::chain::Step::More);
        assert_eq!(unsettled(&engine)?, std::slice::from_ref(head));
        Ok(())
    }

    /// U4
    #[test]
    fn a_layer_is_settled_before_it_is_repaired() -> Outcome {
        let store = MemoryStore::new();
        let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
        let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?.uuid;
        let head = engine.chain(volume)?[0].file.clone();
        assert_eq!(unsettled(&engine)?, std::slice::from_ref(&head));
        // The refcount of a cluster that nothing uses, in the block behind header and refcount table.
        let blob = store.open(&BlobName::parse(&head)?, Access::Write)?;
        blob.write_at(HostOffset::new((2 << 16) + 20), &[0, 1])?;
        assert!(
            engine
                .repair(&RepairOptions { mode: RepairMode::Perform, ..RepairOptions::default() })?
                .is_whole()
        );
        assert_eq!(unsettled(&engine)?, Vec::<String>::new());
        Ok(())
    }
}
