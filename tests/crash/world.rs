//! A pool under test, and beside it a plain byte model of what must be read.
//!
//! Every step is made through public calls, and notes what is true from then on: a [`Moment`]. A power cut between two
//! moments must leave the one or the other.

use snapgroup::query::Query;
use snapgroup::storage::{Access, Blob, BlobName, MemoryStore, SimulatedDisk, Store};
use snapgroup::{
    ByteCount, Clock, CreateGroup, CreateMachine, CreatePool, CreateSnapshot, CreateVolume, Deleted, Engine,
    Error, Ids, Options, Reverted, Uuid, Verdict, Verification, VerifyDepth, VerifyOf, Volume,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) type Made<T> = Result<T, Error>;

/// What must be read at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    /// What each disk has held since it was last made durable, the present content last.
    pub(crate) volumes: BTreeMap<Uuid, Vec<Arc<Vec<u8>>>>,
    pub(crate) snapshots: BTreeMap<Uuid, Arc<Vec<u8>>>,
}

/// What is true after a step.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    /// How much the disk had been asked when the step returned.
    pub(crate) position: usize,
    /// What the books say.
    pub(crate) books: Arc<Vec<String>>,
    pub(crate) content: Arc<Content>,
    /// The files of which the books hold checksums.
    pub(crate) sealed: Arc<BTreeSet<String>>,
    /// Whether the pool was given back.
    pub(crate) closed: Closed,
}

/// Whether a pool was given back: from then on its images are anybody's to open, whether or not the pool was opened
/// since the power was cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Closed {
    #[default]
    No,
    Yes,
}

/// The things in a pool, as the steps need them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Things {
    pub(crate) machine: Option<Uuid>,
    pub(crate) disks: Vec<Uuid>,
    pub(crate) snapshots: Vec<Uuid>,
    pub(crate) groups: Vec<Uuid>,
}

/// A pool at rest, from which worlds are opened.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pub(crate) store: MemoryStore,
    pub(crate) things: Things,
    pub(crate) content: Content,
    pub(crate) options: Options,
}

/// Whether the books are read after every step. Reading them asks the store, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noting {
    Moments,
    Count,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) engine: Option<Engine>,
    pub(crate) things: Things,
    pub(crate) content: Content,
    pub(crate) handles: BTreeMap<Uuid, Volume>,
    pub(crate) moments: Vec<Moment>,
    /// The steps that returned.
    pub(crate) steps: usize,
    /// The deletions of which a line says that something was not deleted.
    pub(crate) refused: usize,
    noting: Noting,
    disk: Option<SimulatedDisk>,
}

/// Options under which a small pool is quick, and all that it does the same in every run.
pub(crate) fn options(seed: u64) -> Options {
    Options {
        create: CreatePool::Here,
        cluster_bits: 9,
        catalogue_cache: ByteCount::kib(512),
        clock: Clock::Stepping(1_500_000_000_000),
        ids: Ids::Seeded(seed),
        ..Options::default()
    }
}

/// The files of which the books hold checksums.
pub(crate) fn sealed(verification: &Verification) -> BTreeSet<String> {
    let sealed = verification.layers.iter().filter(|layer| layer.verdict != Verdict::NeverSealed);
    sealed.map(|layer| layer.file.clone()).collect()
}

/// What the books say, without where the bytes are.
pub(crate) fn books(engine: &Engine) -> Made<Vec<String>> {
    let mut lines = Vec::new();
    for machine in engine.query_machines(&Query::default())?.items {
        lines.push(format!("machine {} {} {:?}", machine.uuid, machine.name, machine.current_group_uuid));
    }
    for volume in engine.query_volumes(&Query::default())?.items {
        let attached: Vec<_> =
            volume.attachments.iter().map(|one| (one.vm_instance_uuid, one.device_id)).collect();
        let place = (volume.vm_instance_uuid, volume.device_id);
        let (uuid, name, size) = (volume.uuid, volume.name, volume.size);
        lines.push(format!("volume {uuid} {name} {size} in {place:?} {attached:?}"));
    }
    for snapshot in engine.query_snapshots(&Query::default())?.items {
        lines.push(format!(
            "snapshot {} {} of {} after {:?} in {:?}, {:?} {:?} {}",
            snapshot.uuid,
            snapshot.name,
            snapshot.volume_uuid,
            snapshot.parent_uuid,
            snapshot.group_uuid,
            snapshot.virtual_size,
            snapshot.holds,
            snapshot.latest,
        ));
    }
    for group in engine.query_groups(&Query::default())?.items {
        let members: Vec<_> = group
            .volume_snapshot_refs
            .iter()
            .map(|member| (member.volume_snapshot_uuid, member.volume_uuid, member.snapshot_deleted))
            .collect();
        lines.push(format!("group {} {} {:?} {members:?}", group.uuid, group.name, group.parent_group_uuid));
    }
    Ok(lines)
}

impl World {
    /// Opens the pool of a template on a copy of its store.
    pub(crate) fn open(template: &Template, store: Arc<dyn Store>, seed: u64, noting: Noting) -> Made<Self> {
        let options = Options { ids: Ids::Seeded(seed), ..template.options.clone() };
        let engine = Engine::open_on(store, options)?;
        Ok(Self {
            engine: Some(engine),
            things: template.things.clone(),
            content: template.content.clone(),
            handles: BTreeMap::new(),
            moments: Vec::new(),
            steps: 0,
            refused: 0,
            noting,
            disk: None,
        })
    }

    /// Notes positions of this disk, beginning with the moment that is now.
    pub(crate) fn on(mut self, disk: &SimulatedDisk) -> Made<Self> {
        self.disk = Some(disk.clone());
        self.note()?;
        Ok(self)
    }

    /// Gives the pool back, so that worlds can be opened from it.
    pub(crate) fn rest(mut self, store: MemoryStore, options: Options) -> Made<Template> {
        self.handles.clear();
        for contents in self.content.volumes.values_mut() {
            contents.drain(..contents.len() - 1);
        }
        if let Some(engine) = self.engine.take() {
            engine.close()?;
        }
        Ok(Template { store, things: self.things, content: self.content, options })
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("the pool is open")
    }

    pub(crate) fn disk(&self, index: usize) -> Uuid {
        self.things.disks[index % self.things.disks.len()]
    }

    pub(crate) fn size(&self, disk: Uuid) -> usize {
        self.content.volumes[&disk].last().expect("a disk has a content").len()
    }

    /// Notes that a step has returned.
    fn note(&mut self) -> Made<()> {
        if self.noting == Noting::Moments
            && let (Some(engine), Some(disk)) = (&self.engine, &self.disk)
        {
            let (books, content) = (Arc::new(books(engine)?), Arc::new(self.content.clone()));
            let sealed = Arc::new(sealed(&engine.verify(&VerifyOf::Pool, VerifyDepth::Looks)?));
            let closed = Closed::No;
            self.moments.push(Moment { position: disk.position(), books, content, sealed, closed });
        }
        Ok(())
    }

    /// Closes the pool. The books are those of the moment before, and what the disks hold is durable.
    pub(crate) fn close(&mut self) -> Made<()> {
        self.handles.clear();
        self.engine.take().expect("the pool is open").close()?;
        for disk in self.things.disks.clone() {
            self.is_durable(disk);
        }
        self.steps += 1;
        self.note_as_before(Closed::Yes);
        Ok(())
    }

    /// Notes that a step has returned which has changed nothing in the books.
    fn note_as_before(&mut self, closed: Closed) {
        if let (Some(disk), Some(last)) = (&self.disk, self.moments.last()) {
            let (position, content) = (disk.position(), Arc::new(self.content.clone()));
            self.moments.push(Moment { position, content, closed, ..last.clone() });
        }
    }

    /// Ends the process as a kill does: nothing is flushed, nothing is given back. Answers the file of a disk's head, for
    /// another program; none when nobody keeps a log that it could be found in.
    pub(crate) fn kill(&mut self, disk: Uuid) -> Made<Option<Arc<dyn Blob>>> {
        let file = self.engine().chain(disk)?.remove(0).file;
        std::mem::forget(std::mem::take(&mut self.handles));
        std::mem::forget(self.engine.take());
        let name = BlobName::parse(&file).expect("the name of a layer");
        Ok(self.disk.as_ref().map(|disk| disk.open(&name, Access::Write)).transpose()?)
    }

    /// A program beside the pool has written so many bytes to a disk, from its beginning on.
    pub(crate) fn written_beside(&mut self, disk: Uuid, length: usize, byte: u8) {
        let contents = self.content.volumes.get_mut(&disk).expect("a disk has a content");
        let mut bytes = (**contents.last().expect("a disk has a content")).clone();
        bytes[..length].fill(byte);
        contents.push(Arc::new(bytes));
        self.note_as_before(Closed::No);
    }

    /// A program beside the pool has made durable what it has written to a disk.
    pub(crate) fn synced_beside(&mut self, disk: Uuid) {
        self.is_durable(disk);
        self.note_as_before(Closed::No);
    }

    /// A step is over.
    pub(crate) fn done(&mut self) -> Made<()> {
        self.steps += 1;
        self.note()
    }

    /// The handle of a disk; it stays open.
    fn handle(&mut self, disk: Uuid) -> Made<Volume> {
        if let Some(handle) = self.handles.get(&disk) {
            return Ok(handle.clone());
        }
        let handle = self.engine().open_volume(disk)?;
        self.handles.insert(disk, handle.clone());
        Ok(handle)
    }

    fn overwrite(&mut self, disk: Uuid, at: usize, length: usize, byte: u8) -> Made<()> {
        let contents = self.content.volumes.get_mut(&disk).expect("a disk has a content");
        let mut bytes = (**contents.last().expect("a disk has a content")).clone();
        bytes[at..at + length].fill(byte);
        contents.push(Arc::new(bytes));
        self.done()
    }

    pub(crate) fn write(&mut self, disk: Uuid, at: usize, length: usize, byte: u8) -> Made<()> {
        self.handle(disk)?.write_at(at as u64, &vec![byte; length])?;
        self.overwrite(disk, at, length, byte)
    }

    pub(crate) fn discard(&mut self, disk: Uuid, at: usize, length: usize) -> Made<()> {
        self.handle(disk)?.discard(at as u64, length as u64)?;
        self.overwrite(disk, at, length, 0)
    }

    pub(crate) fn zeroes(&mut self, disk: Uuid, at: usize, length: usize) -> Made<()> {
        self.handle(disk)?.write_zeroes(at as u64, length as u64)?;
        self.overwrite(disk, at, length, 0)
    }

    pub(crate) fn flush(&mut self, disk: Uuid) -> Made<()> {
        self.handle(disk)?.flush()?;
        self.is_durable(disk);
        self.done()
    }

    /// What reads of a disk answer is on the disk.
    fn is_durable(&mut self, disk: Uuid) {
        if let Some(contents) = self.content.volumes.get_mut(&disk) {
            contents.drain(..contents.len() - 1);
        }
    }

    /// A snapshot of what a disk holds now is there.
    fn took(&mut self, snapshot: Uuid, disk: Uuid) {
        self.is_durable(disk);
        let now = Arc::clone(self.content.volumes[&disk].last().expect("a disk has a content"));
        self.content.snapshots.insert(snapshot, now);
        self.things.snapshots.push(snapshot);
    }

    pub(crate) fn create(&mut self, wish: &CreateVolume, content: Vec<u8>) -> Made<Uuid> {
        let uuid = self.engine().create_volume(wish)?.uuid;
        self.made(uuid, content);
        self.done()?;
        Ok(uuid)
    }

    /// A new disk with this content is there.
    pub(crate) fn made(&mut self, uuid: Uuid, content: Vec<u8>) {
        self.content.volumes.insert(uuid, vec![Arc::new(content)]);
        self.things.disks.push(uuid);
    }

    pub(crate) fn attach(&mut self, disk: Uuid) -> Made<()> {
        let machine = match self.things.machine {
            Some(machine) => machine,
            None => {
                let made = self.engine().create_machine(&CreateMachine::new("vm"))?.uuid;
                self.things.machine = Some(made);
                self.done()?;
                made
            }
        };
        self.engine().attach_volume(disk, machine, None)?;
        self.done()
    }

    pub(crate) fn snapshot(&mut self, disk: Uuid) -> Made<Uuid> {
        self.snapshot_as(&CreateSnapshot::new(disk, "s"))
    }

    pub(crate) fn snapshot_as(&mut self, wish: &CreateSnapshot) -> Made<Uuid> {
        let snapshot = self.engine().create_snapshot(wish)?;
        self.took(snapshot.uuid, snapshot.volume_uuid);
        self.done()?;
        Ok(snapshot.uuid)
    }

    pub(crate) fn group(&mut self) -> Made<Uuid> {
        let machine = self.things.machine.expect("there is a machine");
        self.group_as(&CreateGroup::of_machine(machine, "g"))
    }

    pub(crate) fn group_as(&mut self, wish: &CreateGroup) -> Made<Uuid> {
        let group = self.engine().create_group(wish)?.inventory;
        for member in &group.volume_snapshot_refs {
            self.took(member.volume_snapshot_uuid, member.volume_uuid);
        }
        self.things.groups.push(group.uuid);
        self.done()?;
        Ok(group.uuid)
    }

    /// A deletion was answered: what is gone is gone.
    pub(crate) fn deleted(&mut self, answer: Made<Deleted>) -> Made<()> {
        self.refused += usize::from(!answer?.is_success());
        self.forget_gone()?;
        self.done()
    }

    /// Forgets what the books do not have any more.
    pub(crate) fn forget_gone(&mut self) -> Made<()> {
        let snapshots: BTreeSet<Uuid> =
            self.engine().query_snapshots(&Query::default())?.items.iter().map(|found| found.uuid).collect();
        let volumes: BTreeSet<Uuid> =
            self.engine().query_volumes(&Query::default())?.items.iter().map(|found| found.uuid).collect();
        let groups: BTreeSet<Uuid> =
            self.engine().query_groups(&Query::default())?.items.iter().map(|found| found.uuid).collect();
        self.content.snapshots.retain(|uuid, _| snapshots.contains(uuid));
        self.content.volumes.retain(|uuid, _| volumes.contains(uuid));
        self.things.snapshots.retain(|uuid| snapshots.contains(uuid));
        self.things.disks.retain(|uuid| volumes.contains(uuid));
        self.things.groups.retain(|uuid| groups.contains(uuid));
        Ok(())
    }

    /// A revert was answered.
    pub(crate) fn reverted(&mut self, answer: Made<Reverted>) -> Made<()> {
        let reverted = answer?;
        for kept in &reverted.kept {
            self.took(kept.uuid, kept.volume_uuid);
        }
        self.things.groups.extend(reverted.kept_group.as_ref().map(|group| group.uuid));
        for line in reverted.results.iter().filter(|line| line.success) {
            let (Some(snapshot), Some(disk)) = (line.snapshot_uuid, line.volume_uuid) else { continue };
            let content = Arc::clone(&self.content.snapshots[&snapshot]);
            self.content.volumes.insert(disk, vec![content]);
        }
        self.done()
    }

    pub(crate) fn resize(&mut self, disk: Uuid, size: usize) -> Made<()> {
        self.engine().resize_volume(disk, ByteCount::new(size as u64))?;
        for content in self.content.volumes.get_mut(&disk).expect("a disk has a content") {
            let mut bytes = (**content).clone();
            bytes.resize(size, 0);
            *content = Arc::new(bytes);
        }
        self.done()
    }
}
