//! A pool in memory with what it must hold, and the comparison of the two.

use crate::model::{CLUSTER, Model, Number, SIZE, Stroke, strokes};
use snapgroup::chain::Layer;
use snapgroup::image::{Image, Limits};
use snapgroup::query::Query;
use snapgroup::storage::{Access, Blob, MemoryStore, Store};
use snapgroup::units::HostOffset;
use snapgroup::{
    ByteCount, CreateSnapshot, CreateVolume, DeletePlan, DeleteSnapshots, Deleted, Direction, Engine,
    Figures, LayerState, Options, Reclaimed, RevertVolume, Uuid, Volume,
};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;

pub(crate) type Outcome = Result<(), Box<dyn Error>>;
pub(crate) type Made<T> = Result<T, Box<dyn Error>>;

/// The catalogue, which is no layer.
const CATALOGUE: &str = "snapgroup.redb";

/// A pool that is closed, and what it must hold.
pub(crate) struct Grown {
    pub(crate) store: MemoryStore,
    pub(crate) model: Model,
}

/// What a file is like.
pub(crate) struct File {
    bytes: Vec<u8>,
    allocated: ByteCount,
    /// The bytes of guest data that it has room for.
    data: ByteCount,
}

impl File {
    pub(crate) fn allocated(&self) -> ByteCount {
        self.allocated
    }
}

pub(crate) type Files = BTreeMap<String, File>;

pub(crate) fn open(store: &MemoryStore) -> Made<Engine> {
    open_on(Arc::new(store.clone()))
}

pub(crate) fn open_on(store: Arc<dyn Store>) -> Made<Engine> {
    let options = Options { cluster_bits: 9, chain_max: 200, ..Options::default() };
    Ok(Engine::open_on(store, options)?)
}

/// The bytes of clusters that the images of a store hold.
pub(crate) fn room(store: &MemoryStore) -> Made<ByteCount> {
    let mut all = ByteCount::ZERO;
    for name in store.list()?.into_iter().filter(|name| name.as_str() != CATALOGUE) {
        all += data_of(store.open(&name, Access::Read)?, name.as_str())?;
    }
    Ok(all)
}

fn data_of(blob: Arc<dyn Blob>, name: &str) -> Made<ByteCount> {
    let layer = Layer::from(Image::open(blob, name, Access::Read, Limits::default())?);
    let extents = layer.extents()?;
    Ok(extents.data.bytes() + extents.zero_allocated.bytes())
}

impl Grown {
    /// A volume without snapshots.
    pub(crate) fn seed() -> Made<Self> {
        let store = MemoryStore::new();
        let engine = open(&store)?;
        let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::new(SIZE as u64)))?.uuid;
        engine.close()?;
        Ok(Self { store, model: Model::new(volume) })
    }

    /// Another one like it.
    pub(crate) fn fork(&self) -> Self {
        Self { store: self.store.fork(), model: self.model.clone() }
    }

    /// With the head on another snapshot, and what the next writer writes.
    pub(crate) fn written_on(&self, head: Option<Number>) -> Made<Self> {
        let mut grown = self.fork();
        let engine = open(&grown.store)?;
        if let Some(head) = head.filter(|_| head != grown.model.head) {
            engine.revert_volume(&RevertVolume::to(grown.model.taken[&head].uuid))?;
            grown.model.revert(head);
        }
        let strokes = strokes(grown.model.count);
        write(&engine.open_volume(grown.model.volume)?, &strokes)?;
        grown.model.apply(&strokes);
        engine.close()?;
        Ok(grown)
    }

    /// With one more snapshot, of what is written on a snapshot that is there.
    pub(crate) fn with_snapshot_on(&self, parent: Option<Number>) -> Made<Self> {
        let mut grown = self.written_on(parent)?;
        let engine = open(&grown.store)?;
        let wish = CreateSnapshot::new(grown.model.volume, format!("s{}", grown.model.count));
        grown.model.take(engine.create_snapshot(&wish)?.uuid);
        engine.close()?;
        Ok(grown)
    }

    /// Without one of the snapshots, whose layer stays below as many as read through it.
    pub(crate) fn without(&self, number: Number) -> Made<Self> {
        let mut grown = self.fork();
        let engine = open(&grown.store)?;
        assert!(
            engine.delete_snapshots(&DeleteSnapshots::one(grown.model.taken[&number].uuid))?.is_success()
        );
        grown.model.delete(&[number], snapgroup::DeleteScope::Single);
        compare(&engine, &grown, None)?;
        engine.close()?;
        Ok(grown)
    }

    /// Every file but the catalogue.
    pub(crate) fn files(&self) -> Made<Files> {
        let mut files = Files::new();
        for name in self.store.list()?.into_iter().filter(|name| name.as_str() != CATALOGUE) {
            let blob = self.store.open(&name, Access::Read)?;
            let mut bytes = vec![0; blob.length()?.as_usize()];
            blob.read_at(HostOffset::ZERO, &mut bytes)?;
            let allocated = blob.allocated()?;
            let data = data_of(blob, name.as_str())?;
            files.insert(name.to_string(), File { bytes, allocated, data });
        }
        Ok(files)
    }
}

pub(crate) fn write(disk: &Volume, strokes: &[Stroke]) -> Outcome {
    for stroke in strokes {
        match *stroke {
            Stroke::Write { at, length, byte } => disk.write_at(at as u64, &vec![byte; length])?,
            Stroke::Zeroes { at, length } => disk.write_zeroes(at as u64, length as u64)?,
            Stroke::Discard { at, length } => disk.discard(at as u64, length as u64)?,
        }
    }
    Ok(())
}

/// Sees that a pool holds what it must, and nothing else. The disk is read through `disk` when it is open.
pub(crate) fn compare(engine: &Engine, grown: &Grown, disk: Option<&Volume>) -> Outcome {
    contents(engine, &grown.model, disk)?;
    books(engine, &grown.model)?;
    let check = engine.check()?;
    assert!(check.is_clean(), "{check:#?}");
    // No file of ours is without a record, no record without its file: `check` says so. As many as there are
    // records means that no other file is there either.
    let files: BTreeSet<String> = grown.store.list()?.iter().map(ToString::to_string).collect();
    assert_eq!(check.layers_checked, files.len() - 1, "{files:?}");
    Ok(())
}

fn contents(engine: &Engine, model: &Model, disk: Option<&Volume>) -> Outcome {
    let opened = engine.open_volume(model.volume)?;
    for disk in disk.into_iter().chain([&opened]) {
        let mut bytes = vec![0xee; disk.size().as_usize()];
        disk.read_at(0, &mut bytes)?;
        assert_bytes("the head", &bytes, &model.bytes);
    }
    for (number, taken) in &model.taken {
        let snapshot = engine.open_snapshot(taken.uuid)?;
        let mut bytes = vec![0xee; snapshot.size().as_usize()];
        snapshot.read_at(0, &mut bytes)?;
        assert_bytes(&format!("snapshot {number}"), &bytes, &taken.bytes);
    }
    Ok(())
}

fn assert_bytes(what: &str, found: &[u8], expected: &[u8]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let differs = found.iter().zip(expected).position(|(found, expected)| found != expected);
    if let Some(at) = differs {
        let cluster = at / CLUSTER;
        panic!("{what}, byte {at} in cluster {cluster}: {:#x}, expected {:#x}", found[at], expected[at]);
    }
}

fn books(engine: &Engine, model: &Model) -> Outcome {
    let uuid_of = |number: Option<Number>| number.map(|number| model.taken[&number].uuid);
    let shown = engine.query_snapshots(&Query::default())?;
    assert_eq!((shown.total, shown.items.len()), (model.taken.len(), model.taken.len()));
    // Which label is which uuid: one and the same for all.
    let mut trees: BTreeMap<usize, Uuid> = BTreeMap::new();
    for snapshot in &shown.items {
        let found = model.taken.iter().find(|(_, taken)| taken.uuid == snapshot.uuid);
        let (number, taken) = found.expect("no snapshot is there that is gone");
        let latest = model.latest[&taken.tree] == Some(*number);
        assert_eq!(
            (snapshot.parent_uuid, snapshot.distance, snapshot.latest, snapshot.volume_uuid),
            (uuid_of(taken.parent), taken.distance, latest, model.volume),
            "snapshot {number}: parent, distance, latest, volume"
        );
        let tree = *trees.entry(taken.tree).or_insert(snapshot.tree_uuid);
        assert_eq!(tree, snapshot.tree_uuid, "snapshot {number} is in another tree than its like");
    }
    assert_eq!(trees.values().collect::<BTreeSet<_>>().len(), trees.len(), "two trees are one");

    let current = model.head.map(|head| trees[&model.taken[&head].tree]);
    assert_eq!(engine.volume(model.volume)?.current_tree_uuid, current);
    let shown = engine.query_trees(&Query::default())?;
    assert_eq!((shown.total, shown.items.len()), (trees.len(), trees.len()));
    for tree in &shown.items {
        let (label, _) = trees.iter().find(|(_, uuid)| **uuid == tree.uuid).expect("a tree has a snapshot");
        assert_eq!((tree.current, tree.volume_uuid), (current == Some(tree.uuid), model.volume));
        let members = model.taken.values().filter(|taken| taken.tree == *label);
        let members: BTreeSet<Uuid> = members.map(|taken| taken.uuid).collect();
        let nodes: BTreeSet<Uuid> = tree.tree.values().map(|node| node.inventory.uuid).collect();
        assert_eq!((nodes, tree.tree.roots().count()), (members, 1));
    }

    let chain = engine.chain(model.volume)?;
    assert_eq!(chain[0].state, LayerState::Head);
    for layer in &chain[1..] {
        let expected = if layer.snapshot.is_some() { LayerState::Frozen } else { LayerState::Retired };
        assert_eq!(layer.state, expected, "{}", layer.file);
    }
    let named: Vec<Uuid> =
        chain.into_iter().filter_map(|layer| layer.snapshot).map(|named| named.uuid).collect();
    let line = model.head.map(|head| model.ancestors(head)).unwrap_or_default();
    let line: Vec<Uuid> = line.into_iter().map(|number| model.taken[&number].uuid).collect();
    assert_eq!(named, line, "the snapshots below the head");
    Ok(())
}

/// Sees that a deletion has done what its plan foretold, and what the files say.
pub(crate) fn foretold(
    engine: &Engine,
    plan: &DeletePlan,
    deleted: &Deleted,
    before: &Files,
    after: &Files,
) -> Outcome {
    assert_eq!((&plan.results, &plan.groups_removed), (&deleted.results, &deleted.groups_removed));
    assert_eq!(deleted.owed, []);
    assert_eq!(plan.figures.files_made, 0);
    figures_hold(engine, &plan.figures, &deleted.reclaimed, before, after)
}

/// Sees that what was foretold is what was done, and what the files say.
pub(crate) fn figures_hold(
    engine: &Engine,
    told: &Figures,
    done: &Reclaimed,
    before: &Files,
    after: &Files,
) -> Outcome {
    assert_eq!(
        (told.bytes_pulled, told.bytes_committed, told.bytes_punched, told.bytes_removed),
        (done.bytes_pulled, done.bytes_committed, done.bytes_punched, done.bytes_removed),
        "pulled, committed, punched, removed"
    );
    for change in &told.chains {
        assert_eq!(change.after, engine.chain(change.volume_uuid)?.len());
    }

    let gone = files_hold(told, before, after);
    assert_eq!(done.files_removed.iter().collect::<BTreeSet<_>>(), gone);
    let removed = gone.iter().fold(ByteCount::ZERO, |sum, name| sum + before[*name].allocated);
    let growth = growth(before, after, &gone);
    let [pulled, committed, punched] =
        [done.bytes_pulled, done.bytes_committed, done.bytes_punched].map(|bytes| i128::from(bytes.as_u64()));
    if punched == 0 {
        assert_eq!(done.bytes_removed, removed);
    }
    // What is committed may lie where something lay before.
    let (least, most) = (pulled - punched, pulled + committed);
    assert!((least..=most).contains(&growth), "{growth} is not in {least}..={most}");
    if committed == 0 && gone.is_empty() {
        assert_eq!(growth, least);
    } else if committed == 0 && punched == 0 {
        assert_eq!(growth, pulled);
    }
    Ok(())
}

/// Sees that the files that were to be made, removed and written are those that were; answers the removed ones.
pub(crate) fn files_hold<'a>(told: &Figures, before: &'a Files, after: &Files) -> BTreeSet<&'a String> {
    let gone: BTreeSet<&String> = before.keys().filter(|name| !after.contains_key(*name)).collect();
    let made = after.keys().filter(|name| !before.contains_key(*name)).count();
    assert_eq!(told.files_made, made, "the files that were made");
    assert_eq!(told.files_removed.iter().collect::<BTreeSet<_>>(), gone);
    let written =
        after.iter().filter(|(name, file)| before.get(*name).is_some_and(|old| old.bytes != file.bytes));
    let written: BTreeSet<&String> = written.map(|(name, _)| name).collect();
    assert_eq!(told.files_written.iter().collect::<BTreeSet<_>>(), written);
    gone
}

/// By how much the files that stay have grown.
pub(crate) fn growth(before: &Files, after: &Files, gone: &BTreeSet<&String>) -> i128 {
    let room = |files: &Files| -> i128 {
        let stay = files.iter().filter(|(name, _)| !gone.contains(name));
        stay.map(|(_, file)| i128::from(file.data.as_u64())).sum()
    };
    room(after) - room(before)
}

/// Sees that no more room was taken than was foretold, and not less. A commit gives clusters up when what it has
/// written is durable: that much may be gone again by the time it can be measured.
pub(crate) fn peak_holds(told: &Figures, most: ByteCount) {
    let peak = told.bytes_extra_peak;
    assert!(most <= peak && peak <= most + told.bytes_committed, "{most} more room were needed, {peak} told");
    assert!(most == peak || !told.bytes_committed.is_zero(), "{most} more room were needed, {peak} told");
}

/// How many layers are left for nobody, when retired layers are merged wherever that can be.
pub(crate) fn retired(model: &Model, number: Number, direction: Direction) -> Option<usize> {
    let above = model.children(number).len() + usize::from(model.head == Some(number));
    match direction {
        Direction::Pull => Some(0),
        Direction::Commit => Some(usize::from(above > 1)),
        _ => None,
    }
}
