//! Full snapshots: the moment, the copy, the snapshot. Before that all tables are looked at: over broken ones nothing is
//! begun.
//!
//! 1. The moment: all gates are closed, all heads are made durable, one commit gives each disk a new overlay. The heads
//!    of before are retired, and the layers that are to be filled are in the books as such. The gates open.
//! 2. The copies are made and synced, while guests write. Nobody else may change these disks meanwhile.
//! 3. The headers of the overlays are put above the copies, as a merge does it (`reclaim::finish`).
//! 4. One commit publishes the snapshots, and what nobody reads any more is garbage.
//!
//! A crash before 4 leaves disks that read as before, and no snapshot: copies that are not whole are removed when the
//! pool is opened, headers that were begun are finished, and retired layers are merged by the next reclaim.

use super::error::Result;
use super::handles::{Volume, WritesHeld};
use super::pool::{Engine, Pool};
use super::reclaim::finish::{Move, Takes, tell_anew, write_headers};
use super::reclaim::{ChainChange, Figures, Reclaimed};
use crate::catalog::{
    DiskView, Edit, GroupRecord, LayerId, LayerRecord, LayerState, MachineRecord, Reader, SnapshotRecord,
    VolumeRecord,
};
use crate::chain::{Flatten, Layer, Step};
use crate::plan::books::Books;
use crate::plan::freeze::{Minted, Moment, check_cap, cluster_bits};
use crate::plan::full::{Aside, LAYERS_AFTER, SnapshotMode, check_cap_after, name_aside, set_aside};
use crate::plan::group::{GroupWish, begin, descended, ref_of};
use crate::plan::reclaim::Direction;
use crate::plan::refusal::Refusal;
use crate::plan::{Plan, text};
use crate::storage::{Access, Store};
use crate::units::ByteCount;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How much is copied between two looks at whether the pool may still be written.
const STEP: ByteCount = ByteCount::mib(64);

/// A disk that a snapshot is taken of, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taking {
    /// Its head becomes the snapshot.
    Frozen,
    /// It is copied.
    Copied,
}

/// A disk that was set aside, and the layer that its content is copied into.
struct Copying {
    aside: Aside,
    flat: Option<Arc<Layer>>,
}

impl Pool {
    /// How a snapshot of a disk is taken; refused when its chain may not get as long as that.
    pub(super) fn way_to_take(
        &self,
        disk: &DiskView,
        mode: SnapshotMode,
    ) -> std::result::Result<Taking, Refusal> {
        let cap = disk.volume.cap(self.options.chain_max);
        let fits = check_cap(disk, cap);
        let is_full = mode == SnapshotMode::Full
            || (fits.is_err() && self.options.chain_full == super::options::ChainFull::Full);
        if is_full && disk.chain.len() > 1 {
            check_cap_after(disk, cap)?;
            return Ok(Taking::Copied);
        }
        fits.map(|()| Taking::Frozen)
    }

    /// Adds what taking a snapshot of a disk would do to the figures, once its chain has `length` layers; with no way, it
    /// refuses.
    pub(super) fn foretell_taking(
        &self,
        disk: &DiskView,
        length: usize,
        way: Option<&Taking>,
        figures: &mut Figures,
    ) -> Result<()> {
        let before = disk.chain.len();
        let after = if way == Some(&Taking::Copied) { LAYERS_AFTER } else { length + 1 };
        figures.chains.push(ChainChange { volume_uuid: disk.volume.uuid, before, after });
        figures.files_made += match way {
            // The copy, and the overlay on it.
            Some(Taking::Copied) => 2,
            Some(Taking::Frozen) => 1,
            None => 0,
        };
        if way == Some(&Taking::Copied) {
            figures.bytes_flattened += self.measure_copy(disk)?;
            // The copies are all there before the first of the old heads goes.
            figures.bytes_extra_peak = figures.bytes_flattened;
        }
        Ok(())
    }

    /// How much a copy of a disk holds. All tables of its chain are read for that.
    fn measure_copy(&self, disk: &DiskView) -> Result<ByteCount> {
        let _layout = self.layout.read();
        let chain = self.chain_as_it_is(&disk.volume, &disk.chain)?;
        let bits = cluster_bits(&disk.chain[0], self.options.cluster_bits);
        Ok(Flatten::measure(&chain, None, ByteCount::new(1 << bits))?)
    }

    /// Adds the files that nobody reads any more, once these disks have been copied, and that are removed then.
    pub(super) fn foretell_left(
        &self,
        reader: &Reader,
        copied: &[&DiskView],
        figures: &mut Figures,
    ) -> Result<()> {
        if copied.is_empty() {
            return Ok(());
        }
        let volumes: Vec<_> = copied.iter().map(|disk| disk.volume.id).collect();
        let mut books = Books::open(reader.holdings(&volumes, &[])?);
        copied.iter().for_each(|disk| books.retire(disk.chain[0].id));
        let left = books.layers().filter(|layer| layer.state == LayerState::Garbage);
        let mut gone: BTreeMap<LayerId, LayerRecord> = left.map(|layer| (layer.id, layer.clone())).collect();
        // What waits to be removed goes along, whosever it was.
        for layer in reader.layers_garbage()? {
            let layer = layer?;
            gone.insert(layer.id, layer);
        }
        for layer in gone.into_values() {
            let blob = self.store().open(&layer.blob, Access::Read);
            figures.bytes_removed += blob.and_then(|blob| blob.allocated()).unwrap_or_default();
            figures.files_removed.push(layer.blob.to_string());
        }
        Ok(())
    }

    /// Takes a group of which some members are copied.
    pub(super) fn take_group_in_full(
        self: &Arc<Self>,
        machine: &MachineRecord,
        handles: &[Volume],
        disks: Vec<DiskView>,
        ways: &[Taking],
        wish: &GroupWish,
        expected: Option<u64>,
    ) -> Result<GroupRecord> {
        let at = self.source.now();
        let ids = self.catalog.ids();
        let (group, moment) = begin(machine, disks.len(), wish, at, self.options.cluster_bits, &ids);
        let members = disks.into_iter().map(|disk| (disk, self.mint_member())).collect();
        self.take_in_full(handles, members, ways, &moment, expected, |books, copied| {
            for (ordinal, (aside, allocated)) in (0..).zip(copied) {
                let volume = &aside.disk.volume;
                let name = text::joined_name(&wish.name, &volume.name)?;
                let (snapshot, blob) = name_aside(books, aside, *allocated, name, &moment, &ids);
                books.put_ref(ref_of(group.id, ordinal, machine.id, volume, &snapshot, &blob));
            }
            books.put_group(group.clone());
            books.put_machine(descended(machine, &group));
            Ok(())
        })?;
        Ok(group)
    }

    /// Takes a snapshot of one disk by copying it.
    pub(super) fn take_snapshot_in_full(
        self: &Arc<Self>,
        handle: &Volume,
        disk: DiskView,
        name: &str,
        minted: Minted,
        moment: &Moment,
    ) -> Result<SnapshotRecord> {
        let ids = self.catalog.ids();
        let mut taken = None;
        let handles = std::slice::from_ref(handle);
        self.take_in_full(
            handles,
            vec![(disk, minted)],
            &[Taking::Copied],
            moment,
            None,
            |books, copied| {
                let (aside, allocated) = &copied[0];
                let (snapshot, _) = name_aside(books, aside, *allocated, name.to_owned(), moment, &ids);
                taken = Some(snapshot);
                Ok(())
            },
        )?;
        Ok(taken.expect("it was published"))
    }

    /// Does 1 to 4; `publish` puts the snapshots into the books. Refused when the catalogue is not at the generation
    /// `expected` at 1.
    fn take_in_full(
        self: &Arc<Self>,
        handles: &[Volume],
        disks: Vec<(DiskView, Minted)>,
        ways: &[Taking],
        moment: &Moment,
        expected: Option<u64>,
        publish: impl FnOnce(&mut Books, &[(Aside, ByteCount)]) -> Result<()>,
    ) -> Result<()> {
        // Tables that cannot be read are told of before the moment: one that no copy follows leaves the chain longer, and
        // over a broken layer nothing is merged.
        for ((disk, _), way) in disks.iter().zip(ways) {
            if *way == Taking::Copied {
                self.measure_copy(disk)?;
            }
        }
        let mut copying = self.set_disks_aside(handles, disks, ways, moment, expected)?;
        let copied = self.copy_all(handles, &mut copying);
        // Whoever opens the copies next opens them for reading.
        copying.iter_mut().for_each(|disk| disk.flat = None);
        let done = copied.and_then(|copied| {
            let _layout = self.layout.write();
            let held: Vec<WritesHeld<'_>> = handles.iter().map(Volume::hold_writes).collect();
            self.put_above_copies(handles, &copying)?;
            let volumes: Vec<_> = copying.iter().map(|disk| disk.aside.disk.volume.id).collect();
            let mut books = Books::open(self.read()?.holdings(&volumes, &[])?);
            let asides: Vec<(Aside, ByteCount)> =
                copying.iter().map(|disk| disk.aside.clone()).zip(copied).collect();
            publish(&mut books, &asides)?;
            self.perform(&Plan { edits: books.edits(), ..Plan::default() })?;
            // Best effort: the snapshots are there. What the heads cannot be told now they are when the pool is opened.
            drop(self.tell_heads(handles, &copying));
            drop(held);
            for disk in &copying {
                self.open_layers.forget(disk.aside.overlay.id);
                self.open_layers.forget(disk.aside.disk.chain[0].id);
            }
            let volumes: Vec<_> = copying.iter().map(|disk| disk.aside.disk.volume.clone()).collect();
            // A disk that cannot goes on reading through the files of before, which it has open.
            drop(self.restack_volumes(&volumes));
            Ok(())
        });
        if done.is_err() {
            // Best effort: what cannot be tidied up now is when the pool is opened the next time.
            drop(self.give_up(&copying));
        }
        done
    }

    /// The moment.
    fn set_disks_aside(
        &self,
        handles: &[Volume],
        disks: Vec<(DiskView, Minted)>,
        ways: &[Taking],
        moment: &Moment,
        expected: Option<u64>,
    ) -> Result<Vec<Copying>> {
        // One order for everybody who closes more than one gate: the machine's lock sees to it.
        let held: Vec<WritesHeld<'_>> = handles.iter().map(Volume::hold_writes).collect();
        let set_aside = || -> Result<(Vec<Aside>, Vec<Arc<Layer>>)> {
            let mut plan = Plan::default();
            let ids = self.catalog.ids();
            let mut asides = Vec::with_capacity(held.len());
            for ((writes, (mut disk, minted)), way) in held.iter().zip(disks).zip(ways) {
                let allocated = writes.freeze(&mut disk.chain[0])?;
                let flat = (*way == Taking::Copied).then(|| self.source.mint());
                asides.push(set_aside(disk, minted, allocated, flat, moment, &ids, &mut plan));
            }
            Ok((asides, self.prepare(&plan)?.publish_at(expected)?))
        };
        match set_aside() {
            Err(error) => {
                held.iter().for_each(|writes| writes.thaw_unless_unknown(&error));
                Err(error)
            }
            Ok((asides, layers)) => {
                let mut layers = layers.into_iter();
                let mut next = || layers.next().expect("each file of the plan has a layer");
                let mut copying = Vec::with_capacity(asides.len());
                for (aside, writes) in asides.into_iter().zip(&held) {
                    writes.switch(aside.disk.chain[0].id, next());
                    let flat = aside.flat.is_some().then(&mut next);
                    copying.push(Copying { aside, flat });
                }
                Ok(copying)
            }
        }
    }

    /// Makes the copies; answers what the file of each takes up, nothing for a disk that is not copied.
    fn copy_all(&self, handles: &[Volume], copying: &mut [Copying]) -> Result<Vec<ByteCount>> {
        let mut allocated = Vec::with_capacity(copying.len());
        for (handle, disk) in handles.iter().zip(copying) {
            allocated.push(match disk.flat.take() {
                Some(flat) => {
                    let source = handle.below().expect("the head of before is below");
                    let mut flatten = Flatten::sharing(&source, None, Arc::clone(&flat))?;
                    while flatten.step(STEP)? == Step::More {
                        self.admit_change()?;
                    }
                    self.note_whole(&flat)?;
                    flat.blob().allocated()?
                }
                None => ByteCount::ZERO,
            });
        }
        Ok(allocated)
    }

    /// Puts the headers of the overlays above the copies. From the notes of that on, these heads hang from no snapshot:
    /// whoever finishes the headers after a crash knows of none.
    fn put_above_copies(&self, handles: &[Volume], copying: &[Copying]) -> Result<()> {
        let heads: Vec<Arc<Layer>> = handles.iter().map(Volume::head).collect();
        let mut moves = Vec::new();
        let mut edits: Vec<Edit> = Vec::new();
        let reader = self.read()?;
        for (disk, head) in copying.iter().zip(&heads) {
            if let Some(flat) = &disk.aside.flat {
                let (record, below) = (&disk.aside.overlay, Some(flat));
                moves.push(Move { record, layer: head, below, takes: Takes::Nothing });
                edits.push(LayerRecord { state: LayerState::Retired, ..flat.clone() }.into());
                let volume = reader.need_volume(disk.aside.disk.volume.id)?;
                edits.push(VolumeRecord { tree_current: None, ..volume }.into());
            }
        }
        write_headers(self, &moves, edits)
    }

    /// Tells the files of the heads which snapshots are below them now, and which are in the chains that they left.
    fn tell_heads(&self, handles: &[Volume], copying: &[Copying]) -> Result<()> {
        let reader = self.read()?;
        let head = |(handle, disk): (&Volume, &Copying)| -> Result<(LayerRecord, Arc<Layer>)> {
            Ok((reader.need_layer(disk.aside.overlay.id)?, handle.head()))
        };
        let heads = handles.iter().zip(copying).map(head).collect::<Result<Vec<_>>>()?;
        tell_anew(self, &heads)
    }

    /// Lets the copies go that nothing was put above.
    fn give_up(&self, copying: &[Copying]) -> Result<()> {
        self.admit_change()?;
        let volumes: Vec<_> = copying.iter().map(|disk| disk.aside.disk.volume.id).collect();
        let mut books = Books::open(self.read()?.holdings(&volumes, &[])?);
        for flat in copying.iter().filter_map(|disk| disk.aside.flat.as_ref()) {
            if books.layer(flat.id).is_some_and(|layer| layer.state == LayerState::Building) {
                books.retire(flat.id);
            }
        }
        self.perform(&Plan { edits: books.edits(), ..Plan::default() })?;
        self.sweep(&mut Reclaimed::default()).map(drop)
    }
}

impl Engine {
    /// Deals with the heads that a full snapshot has left, once its locks are given back.
    pub(super) fn tidy_up_after_full<T>(&self, ways: &[Taking], heads: &[LayerId], taken: &Result<T>) {
        if !ways.contains(&Taking::Copied) {
            return;
        }
        // Best effort: what is left is owed, and the next reclaim or opening sees to it.
        match taken {
            Ok(_) => drop(self.pool.sweep(&mut Reclaimed::default())),
            Err(_) => drop(self.reclaim_after(heads, Direction::Auto)),
        }
    }
}
