//! The steps of a history: each is asked of the pool and done to the model.

use super::model::Manner;
use super::{History, Outcome, options};
use snapgroup::{
    ByteCount, CreateGroup, CreateSnapshot, CreateVolume, DeleteGroup, DeleteMode, DeletePlan, DeleteScope,
    DeleteSnapshots, DeleteVolume, Deleted, Direction, Engine, Figures, Members, Owed, ReclaimOptions,
    Reclaimed, Step, Uuid, When,
};
use std::collections::{BTreeMap, BTreeSet};

/// More disks make a history slow and show nothing new.
const DISKS_MAX: usize = 5;

impl History {
    pub(super) fn step(&mut self) -> Outcome {
        match self.below(33) {
            0..=6 => self.write(),
            7 | 8 => self.snapshot(),
            9..=11 => self.group(),
            12 | 13 => self.delete_snapshots(),
            14 | 15 => self.delete_group(),
            16 => self.revert_volume(),
            17 | 18 => self.revert_group(),
            19..=21 => self.reclaim(),
            22 => self.hold(),
            23 | 24 => self.reopen(),
            25 => self.detach_or_attach(),
            26 => self.resize(),
            27 => self.ungroup(),
            28 | 29 => self.clone_or_create(),
            30 => self.open_or_close(),
            31 => self.read_or_let_go(),
            _ => self.delete_volume(),
        }
    }

    fn write(&mut self) -> Outcome {
        let Some(index) = self.any_disk() else { return Ok(()) };
        let size = self.model.disks[index].bytes.len();
        let volume = self.engine().open_volume(self.model.disks[index].uuid)?;
        for _ in 0..1 + self.below(3) {
            let at = self.below(size);
            let most = (size - at).min([600, 5000, 20_000][self.below(3)]);
            let length = 1 + self.below(most);
            let byte = u8::try_from(1 + self.below(255))?;
            let kind = self.below(5);
            self.log.push(format!("write {kind} disk {index} at {at} {length} bytes"));
            self.count(["write zeros", "discard", "write"][kind.min(2)]);
            match kind {
                0 => volume.write_zeroes(at as u64, length as u64)?,
                1 => volume.discard(at as u64, length as u64)?,
                _ => volume.write_at(at as u64, &vec![byte; length])?,
            }
            let byte = if kind < 2 { 0 } else { byte };
            self.model.disks[index].bytes[at..at + length].fill(byte);
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Outcome {
        let Some(index) = self.any_disk() else { return Ok(()) };
        let mut wish = CreateSnapshot::new(self.model.disks[index].uuid, "s");
        if self.below(4) == 0 {
            self.log.push("in full".into());
            wish = wish.in_full();
            self.model.start_anew(index);
            self.count("snapshot in full");
        } else {
            self.count("snapshot");
        }
        let uuid = self.engine().create_snapshot(&wish)?.uuid;
        self.log.push(format!("snapshot {} of disk {index}", uuid.simple()));
        self.model.take(index, uuid, None);
        Ok(())
    }

    fn group(&mut self) -> Outcome {
        if self.model.attached().is_empty() {
            return Ok(());
        }
        let mut wish = CreateGroup::of_machine(self.machine, "g");
        if self.below(5) == 0 {
            self.log.push("in full".into());
            wish = wish.in_full();
            self.model.attached().into_iter().for_each(|index| self.model.start_anew(index));
            self.count("group in full");
        } else {
            self.count("group");
        }
        let plan = self.engine().plan_create(&wish)?;
        self.assert_now(&plan.figures)?;
        let before = self.files()?;
        let group = self.engine().run(&plan)?.inventory;
        let after = self.files()?;
        assert_eq!(plan.figures.files_made, after.difference(&before).count());
        let told: BTreeSet<String> = plan.figures.files_removed.iter().cloned().collect();
        assert_eq!(told, before.difference(&after).cloned().collect());
        assert_eq!(plan.members.len(), group.volume_snapshot_refs.len());
        for change in &plan.figures.chains {
            assert_eq!(self.engine().chain(change.volume_uuid)?.len(), change.after);
        }
        self.log.push(format!("group {}", group.uuid.simple()));
        self.model.take_group(&group);
        Ok(())
    }

    fn manner(&mut self) -> (Manner, Direction, When) {
        let mode = if self.below(3) == 0 { DeleteMode::Enforcing } else { DeleteMode::Permissive };
        let scope = if self.below(3) == 0 { DeleteScope::Chain } else { DeleteScope::Single };
        let members = if self.below(2) == 0 { Members::AllOrNone } else { Members::EachOnItsOwn };
        let when = self.when();
        (Manner { mode, scope, members }, self.direction(), when)
    }

    /// Counts a deletion and what came of it.
    fn count_deletion(
        &mut self,
        of: &str,
        manner: Manner,
        direction: Direction,
        deleted: &Deleted,
        going: usize,
    ) {
        let Manner { mode, scope, members } = manner;
        self.count(format!("delete {of}, {mode:?}, {scope:?}, {direction:?}"));
        let stays = deleted.results.iter().filter(|line| !line.success).count();
        let came = match stays {
            0 if deleted.results.iter().any(|line| line.already_deleted) => "the rest goes",
            0 => "all go",
            _ if mode == DeleteMode::Enforcing => "bytes are owed",
            _ if going == 0 => "refused",
            _ => "some go",
        };
        self.count(format!("delete {of}, {mode:?}, {members:?}: {came}"));
        if !deleted.groups_removed.is_empty() {
            self.count(format!("delete {of}: a group goes"));
        }
    }

    fn delete_snapshots(&mut self) -> Outcome {
        let mut uuids: Vec<Uuid> = Vec::new();
        for _ in 0..1 + self.below(3) {
            uuids.extend(self.any_snapshot());
        }
        if uuids.is_empty() {
            return Ok(());
        }
        let (manner, direction, reclaim) = self.manner();
        let Manner { mode, scope, members } = manner;
        let all = DeleteSnapshots::all(uuids.clone());
        let wish = DeleteSnapshots { mode, scope, members, direction, reclaim, ..all };
        self.log.push(format!("delete {wish:?}"));
        uuids.dedup();
        let (going, _) = self.model.going(&uuids, manner);
        let plan = self.engine().plan_delete(&wish)?;
        let before = self.contents()?;
        let deleted = self.engine().run(&plan)?;
        self.compare(&plan, &deleted, &going, reclaim);
        if reclaim == When::Now && self.readers.is_empty() {
            self.compare_written(&plan.figures, &before)?;
        }
        self.count_deletion("snapshots", manner, direction, &deleted, going.len());
        self.model.remove(&going);
        Ok(())
    }

    fn delete_group(&mut self) -> Outcome {
        let Some(uuid) = self.any_group() else { return Ok(()) };
        let (manner, direction, reclaim) = self.manner();
        let Manner { mode, scope, members } = manner;
        let wish = DeleteGroup { mode, scope, members, direction, reclaim, ..DeleteGroup::new(uuid) };
        self.log.push(format!("delete {wish:?}"));
        let wanted: Vec<Uuid> = self.model.groups[&uuid].members.iter().map(|(member, _)| *member).collect();
        let (going, _) = self.model.going(&wanted, manner);
        let plan = self.engine().plan_delete(&wish)?;
        let before = self.contents()?;
        let deleted = self.engine().run(&plan)?;
        assert_eq!(deleted.results.len(), wanted.len());
        self.compare(&plan, &deleted, &going, reclaim);
        if reclaim == When::Now && self.readers.is_empty() {
            self.compare_written(&plan.figures, &before)?;
        }
        self.count_deletion("group", manner, direction, &deleted, going.len());
        self.model.remove(&going);
        Ok(())
    }

    /// The lines say who has gone, and what was foretold is what was done.
    fn compare(&self, plan: &DeletePlan, deleted: &Deleted, going: &BTreeSet<Uuid>, reclaim: When) {
        for line in &deleted.results {
            let uuid = line.snapshot_uuid.expect("a line names its snapshot");
            assert_eq!(line.already_deleted, !self.model.taken.contains_key(&uuid));
            let gone = line.already_deleted || going.contains(&uuid);
            // Of what was deleted, a line may say that its bytes are still being read.
            assert!(line.success == gone || gone && !self.readers.is_empty(), "{line:#?}");
        }
        assert_eq!(plan.groups_removed, deleted.groups_removed);
        self.allow(&deleted.owed);
        if !self.readers.is_empty() {
            return;
        }
        assert_eq!(plan.results, deleted.results);
        if reclaim == When::Now {
            self.compare_figures(&plan.figures, &deleted.reclaimed);
        }
    }

    /// The chains are as long as a plan says that they are before it is run.
    pub(super) fn assert_now(&self, told: &Figures) -> Outcome {
        for change in &told.chains {
            assert_eq!(self.engine().chain(change.volume_uuid)?.len(), change.before);
        }
        Ok(())
    }

    pub(super) fn compare_figures(&self, told: &Figures, done: &Reclaimed) {
        assert_eq!(
            (done.bytes_pulled, done.bytes_committed, done.bytes_punched),
            (told.bytes_pulled, told.bytes_committed, told.bytes_punched)
        );
        let names = |files: &[String]| files.iter().cloned().collect::<BTreeSet<String>>();
        assert_eq!(names(&told.files_removed), names(&done.files_removed));
        // What a disk has not flushed yet is not in its file when the plan is made.
        if self.open.is_empty() {
            assert_eq!(told.bytes_removed, done.bytes_removed);
        }
        for change in &told.chains {
            let after = self.engine().chain(change.volume_uuid).map(|chain| chain.len());
            assert_eq!(Some(change.after), after.ok());
        }
    }

    /// The files that were foretold to be written are those that have changed. An open disk is flushed as well.
    fn compare_written(&mut self, told: &Figures, before: &BTreeMap<String, u32>) -> Outcome {
        let after = self.contents()?;
        let has_changed = |(name, sum): &(&String, &u32)| before.get(*name).is_some_and(|old| old != *sum);
        let written: BTreeSet<String> =
            after.iter().filter(has_changed).map(|(name, _)| name.clone()).collect();
        if self.open.is_empty() {
            assert_eq!(told.files_written.iter().cloned().collect::<BTreeSet<_>>(), written);
            if !written.is_empty() {
                self.count("a deletion writes to the files that its plan names");
            }
        }
        Ok(())
    }

    /// Only a handle to a deleted snapshot keeps bytes from being dealt with.
    pub(super) fn allow(&self, owed: &[Owed]) {
        for owed in owed {
            let details = owed.error.as_ref().and_then(|error| error.details.as_deref());
            let is_read = details.is_some_and(|details| details.contains("still being read"));
            assert!(is_read && !self.readers.is_empty(), "{owed:#?}");
        }
    }

    pub(super) fn when(&mut self) -> When {
        if self.below(3) == 0 { When::Now } else { When::Later }
    }

    /// Begins a reclaim or goes on with the one under way, for a few small steps.
    fn reclaim(&mut self) -> Outcome {
        if self.reclaim.is_none() {
            let direction = self.direction();
            self.log.push(format!("reclaim {direction}"));
            self.count(format!("reclaim {direction}"));
            self.reclaim = Some(self.engine().reclaim(&ReclaimOptions::towards(direction))?);
        }
        let steps = 1 + self.below(3);
        self.log.push(format!("{steps} steps of the reclaim"));
        for _ in 0..steps {
            let budget = ByteCount::new(1 + self.below(600) as u64);
            let reclaim = self.reclaim.as_mut().expect("it was just begun");
            let step = reclaim.step(budget)?;
            let owed = reclaim.owed().to_vec();
            assert!(reclaim.progress().copied <= reclaim.progress().total);
            self.allow(&owed);
            if step == Step::Done {
                self.log.push("the reclaim is done".into());
                self.count("reclaim: done");
                self.reclaim = None;
                break;
            }
            self.count("reclaim: more");
            self.check()?;
        }
        Ok(())
    }

    fn hold(&mut self) -> Outcome {
        let is_held = self.model.taken.iter().find(|(_, taken)| taken.held).map(|(uuid, _)| *uuid);
        let uuid = match is_held.filter(|_| self.below(2) == 0) {
            Some(uuid) => Some(uuid),
            None => self.any_snapshot(),
        };
        let Some(uuid) = uuid else { return Ok(()) };
        let held = !self.model.taken[&uuid].held;
        self.log.push(format!("held {held}: {}", uuid.simple()));
        self.count(if held { "hold" } else { "release" });
        match held {
            true => self.engine().hold(uuid, "somebody")?,
            false => self.engine().release(uuid, "somebody")?,
        };
        self.model.taken.get_mut(&uuid).expect("just found").held = held;
        Ok(())
    }

    /// Closes the pool, or only lets go of it, in whatever state it is, and opens it again.
    fn reopen(&mut self) -> Outcome {
        let closed = self.below(2) == 0;
        self.log.push(format!("reopen, closed: {closed}"));
        self.count(format!("reopen, closed: {closed}"));
        for (amid, what) in [
            (self.reclaim.is_some(), "reopen, amid a reclaim"),
            (!self.open.is_empty(), "reopen, disks open"),
            (!self.readers.is_empty(), "reopen, snapshots open"),
        ] {
            if amid {
                self.count(what);
            }
        }
        self.open.clear();
        (self.readers, self.reclaim) = (Vec::new(), None);
        let engine = self.engine.take().expect("open");
        if closed {
            engine.close()?;
        } else {
            drop(engine);
        }
        self.openings += 1;
        let engine = Engine::open_on((self.home)(), options(self.openings))?;
        let recovered = engine.recovered();
        assert!(recovered.unfinished.is_empty() && recovered.left_alone.is_empty(), "{recovered:#?}");
        assert!(recovered.removed.is_empty() && recovered.finished.is_empty(), "{recovered:#?}");
        self.engine = Some(engine);
        Ok(())
    }

    fn detach_or_attach(&mut self) -> Outcome {
        let detached = self.model.present().into_iter().find(|index| !self.model.disks[*index].attached);
        let index = match detached.filter(|_| self.below(2) == 0) {
            Some(index) => Some(index),
            None => self.any_disk(),
        };
        let Some(index) = index else { return Ok(()) };
        let (uuid, attached) = (self.model.disks[index].uuid, self.model.disks[index].attached);
        self.log.push(format!("disk {index} attached: {}", !attached));
        self.count(if attached { "detach" } else { "attach" });
        match attached {
            true => self.engine().detach_volume(uuid, self.machine)?,
            false => self.engine().attach_volume(uuid, self.machine, None)?,
        };
        self.model.disks[index].attached = !attached;
        Ok(())
    }

    fn resize(&mut self) -> Outcome {
        let Some(index) = self.any_disk() else { return Ok(()) };
        let size = self.model.disks[index].bytes.len() + 512 * (1 + self.below(20));
        self.log.push(format!("disk {index} grows to {size}"));
        self.count("resize");
        self.engine().resize_volume(self.model.disks[index].uuid, ByteCount::new(size as u64))?;
        self.model.disks[index].bytes.resize(size, 0);
        Ok(())
    }

    fn ungroup(&mut self) -> Outcome {
        let Some(uuid) = self.any_group() else { return Ok(()) };
        self.log.push(format!("ungroup {}", uuid.simple()));
        self.count("ungroup");
        self.engine().ungroup(uuid)?;
        self.model.groups.remove(&uuid);
        let members = self.model.taken.values_mut().filter(|taken| taken.group == Some(uuid));
        members.for_each(|taken| taken.group = None);
        Ok(())
    }

    fn clone_or_create(&mut self) -> Outcome {
        if self.model.present().len() >= DISKS_MAX {
            return Ok(());
        }
        match (self.any_snapshot(), self.below(5)) {
            (Some(uuid), 0 | 1) => self.clone_of(uuid),
            (Some(uuid), 2 | 3) => self.bring_in(uuid),
            _ => self.create(),
        }
    }

    pub(super) fn bits(&mut self) -> u8 {
        [9, 9, 10, 12, 16][self.below(5)]
    }

    /// An empty disk.
    pub(super) fn create(&mut self) -> Outcome {
        let size = (1 + self.below(96)) * 512;
        let wish = CreateVolume::new("disk", ByteCount::new(size as u64));
        let wish = CreateVolume { cluster_bits: Some(self.bits()), ..wish };
        self.log.push(format!("disk of {size} bytes, {:?} bits", wish.cluster_bits));
        self.count("create volume");
        let uuid = self.engine().create_volume(&wish)?.uuid;
        let index = self.model.add_disk(uuid, vec![0; size], None);
        self.engine().attach_volume(uuid, self.machine, None)?;
        self.model.disks[index].attached = true;
        Ok(())
    }

    /// A disk that begins as a snapshot, of its size or another one.
    fn clone_of(&mut self, uuid: Uuid) -> Outcome {
        let mut bytes = self.model.taken[&uuid].bytes.clone();
        let wish = CreateVolume::of_snapshot("clone", uuid);
        let cluster_bits = (self.below(2) == 0).then(|| self.bits());
        let size = (self.below(2) == 0).then(|| (1 + self.below(100)) * 512);
        let wish = CreateVolume { cluster_bits, size: size.map(|size| ByteCount::new(size as u64)), ..wish };
        self.log.push(format!("clone {wish:?}"));
        self.count(if size.is_some() { "clone of another size" } else { "clone" });
        let made = self.engine().create_volume(&wish)?.uuid;
        bytes.resize(size.unwrap_or(bytes.len()), 0);
        let index = self.model.add_disk(made, bytes, Some(uuid));
        if self.below(2) == 0 {
            self.engine().attach_volume(made, self.machine, None)?;
            self.model.disks[index].attached = true;
        }
        Ok(())
    }

    /// Keeps a disk open over the steps to come, or lets go of it.
    fn open_or_close(&mut self) -> Outcome {
        let Some(index) = self.any_disk() else { return Ok(()) };
        let is_open = self.open.remove(&index).is_some();
        self.log.push(format!("disk {index} stays open: {}", !is_open));
        self.count(if is_open { "close disk" } else { "disk stays open" });
        if !is_open {
            let volume = self.engine().open_volume(self.model.disks[index].uuid)?;
            self.open.insert(index, volume);
        }
        Ok(())
    }

    /// Keeps a snapshot open over the steps to come, or lets go of all that are.
    fn read_or_let_go(&mut self) -> Outcome {
        if !self.readers.is_empty() {
            self.log.push("no snapshot stays open".into());
            self.readers.clear();
        } else if let Some(uuid) = self.any_snapshot() {
            self.log.push(format!("{} stays open", uuid.simple()));
            self.count("snapshot stays open");
            let snapshot = self.engine().open_snapshot(uuid)?;
            self.readers.push((snapshot, self.model.taken[&uuid].bytes.clone()));
        }
        Ok(())
    }

    fn delete_volume(&mut self) -> Outcome {
        let Some(index) = self.any_disk() else { return Ok(()) };
        let mode = if self.below(2) == 0 { DeleteMode::Enforcing } else { DeleteMode::Permissive };
        let wish =
            DeleteVolume { mode, reclaim: self.when(), ..DeleteVolume::new(self.model.disks[index].uuid) };
        self.log.push(format!("delete disk {index} {wish:?}"));
        let attempt = |engine: &Engine| engine.delete_volume(&wish).map(drop);
        self.close_for_revert(&[index].into(), attempt);
        let all: Vec<Uuid> =
            self.model.taken.iter().filter(|(_, taken)| taken.disk == index).map(|(uuid, _)| *uuid).collect();
        let manner = Manner { mode, scope: DeleteScope::Single, members: Members::AllOrNone };
        let (going, refused) = self.model.going(&all, manner);
        let deleted = self.engine().delete_volume(&wish)?;
        assert_eq!(deleted.results.len(), all.len());
        // Of one that is gone, a line may say that bytes below it are still being read.
        let may_be_owed = mode == DeleteMode::Enforcing && !self.readers.is_empty();
        assert!(deleted.is_success() != refused || may_be_owed, "{deleted:#?}");
        self.allow(&deleted.owed);
        self.count(format!("delete volume, {mode:?}: {}", if refused { "refused" } else { "gone" }));
        if !refused {
            self.model.remove(&going);
            self.model.remove_disk(index);
        }
        Ok(())
    }
}
