//! Deleting groups whose files are missing, damaged, or held by a process of QEMU: what is done, what the lines say,
//! what stays owed, and how it is cleared.
//!
//! Needs `qemu-img` and `qemu-io` in the path: `cargo test --release --test interop_enforcing -- --ignored`.

#![cfg(target_os = "linux")]

#[path = "support/pool.rs"]
mod pool;
#[path = "support/qemu.rs"]
mod qemu;
#[path = "support/shown.rs"]
mod shown;
#[path = "support/writer.rs"]
mod writer;

use pool::{Outcome, head_of, layer_of, open, snapshot_bytes, volume_bytes};
use qemu::{Checked, Qemu};
use shown::assert_shows;
use snapgroup::inventory::{DeleteResult, ErrorCode};
use snapgroup::{
    ByteCount, CreateGroup, CreateMachine, CreateSnapshot, CreateVolume, DeleteGroup, DeleteMode,
    DeleteSnapshots, Direction, Engine, Members, Owed, OwedReason, ReclaimOptions, Uuid, When,
};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use writer::Writer;

/// A machine with a group of all its disks, written before and after it was taken.
struct Setting {
    home: TempDir,
    engine: Engine,
    machine: Uuid,
    disks: Vec<Uuid>,
    /// What each disk shows.
    shown: Vec<Vec<u8>>,
    group: Uuid,
    members: Vec<Uuid>,
    /// The file of each member.
    files: Vec<String>,
}

impl Setting {
    fn of(disks: u8) -> Outcome<Self> {
        let home = tempfile::tempdir()?;
        let engine = open(home.path())?;
        let machine = engine.create_machine(&CreateMachine::new("vm"))?.uuid;
        let mut uuids = Vec::new();
        for index in 0..disks {
            let wish = CreateVolume::new(format!("d{index}"), ByteCount::mib(1));
            let disk = engine.create_volume(&CreateVolume { cluster_bits: Some(12), ..wish })?.uuid;
            engine.attach_volume(disk, machine, None)?;
            engine.open_volume(disk)?.write_at(1000, &vec![index + 1; 300_000])?;
            uuids.push(disk);
        }
        let group = engine.create_group(&CreateGroup::of_machine(machine, "g"))?.inventory;
        let members: Vec<Uuid> =
            group.volume_snapshot_refs.iter().map(|member| member.volume_snapshot_uuid).collect();
        for (index, disk) in (0..disks).zip(&uuids) {
            // It hides a part of what the snapshot holds.
            engine.open_volume(*disk)?.write_at(100_000, &vec![index + 101; 100_000])?;
        }
        let shown = uuids.iter().map(|disk| volume_bytes(&engine, *disk)).collect::<Outcome<_>>()?;
        let files = members.iter().map(|member| layer_of(&engine, *member)).collect::<Outcome<_>>()?;
        Ok(Self { home, engine, machine, disks: uuids, shown, group: group.uuid, members, files })
    }

    fn path(&self, file: &str) -> PathBuf {
        self.home.path().join(file)
    }

    /// The line of a member that was not deleted, or whose bytes stay, because of `cause`.
    fn line(&self, member: usize, cause: ErrorCode) -> DeleteResult {
        let details = cause.details.clone().unwrap_or_default();
        let error = ErrorCode::new("SYS.1004", "the resource cannot be deleted")
            .with_details(details)
            .with_cause(cause);
        DeleteResult::new(self.members[member], self.disks[member], Err(error))
    }

    fn gone(&self, member: usize) -> DeleteResult {
        DeleteResult::new(self.members[member], self.disks[member], Ok(()))
    }

    /// The line of a member that stays because another one refuses.
    fn spared(&self, member: usize, because_of: usize) -> DeleteResult {
        let [this, other] = [member, because_of].map(|member| self.members[member].simple().to_string());
        let description = "another snapshot of the same request cannot be deleted";
        let cause = ErrorCode::new("VOLUME_SNAPSHOT.1002", description)
            .with_details(format!("snapshot {this} stays because snapshot {other} refuses"));
        self.line(member, cause)
    }

    /// SYS.1006 with this said of the file of a member.
    fn unusable(&self, member: usize, what: &str) -> ErrorCode {
        let (file, volume) = (&self.files[member], self.disks[member].simple());
        ErrorCode::new("SYS.1006", "the operation cannot be done now")
            .with_details(format!("the file {file} of volume {volume} {what}"))
    }

    /// Nothing is owed, every disk shows what it did, and neither we nor QEMU find anything wrong.
    fn assert_settled(&self) -> Outcome {
        assert_eq!(self.engine.owed()?, []);
        assert!(self.engine.check()?.is_clean());
        let qemu = Qemu::in_directory(self.home.path());
        for (disk, shown) in self.disks.iter().zip(&self.shown) {
            assert!(volume_bytes(&self.engine, *disk)? == *shown, "a disk shows something else");
            assert_shows(self.home.path(), &head_of(&self.engine, *disk)?, shown)?;
            for layer in self.engine.chain(*disk)? {
                assert_eq!(qemu.check(&layer.file).0, Checked::Clean, "{}", layer.file);
            }
        }
        Ok(())
    }

    /// The files of the pool, catalogue left out, with their bytes.
    fn picture(&self) -> Outcome<Vec<(PathBuf, Vec<u8>)>> {
        let mut picture = Vec::new();
        for entry in std::fs::read_dir(self.home.path())? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "qcow2") {
                picture.push((path.clone(), std::fs::read(path)?));
            }
        }
        picture.sort();
        Ok(picture)
    }
}

/// What is owed, without figures.
fn told(owed: &[Owed]) -> Vec<(String, OwedReason, Option<ErrorCode>)> {
    let mut told: Vec<_> =
        owed.iter().map(|owed| (owed.file.clone(), owed.reason, owed.error.clone())).collect();
    told.sort_by(|one, other| one.0.cmp(&other.0));
    told
}

/// Something that is wrong with the file of a member, until it is mended.
enum Trouble {
    Missing { path: PathBuf, aside: PathBuf },
    Locked(Writer),
    Damaged { path: PathBuf, at: u64, bytes: [u8; 8] },
}

impl Trouble {
    fn missing(path: &Path) -> Outcome<Self> {
        let aside = path.with_extension("aside");
        std::fs::rename(path, &aside)?;
        Ok(Self::Missing { path: path.to_owned(), aside })
    }

    fn locked(path: &Path) -> Outcome<Self> {
        Ok(Self::Locked(Writer::of(path)?))
    }

    /// The first L2 table is said to lie where none can: not at the start of a cluster.
    fn damaged(path: &Path) -> Outcome<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, 40)?;
        let at = u64::from_be_bytes(bytes);
        file.read_exact_at(&mut bytes, at)?;
        file.write_all_at(&(u64::from_be_bytes(bytes) | 0x200).to_be_bytes(), at)?;
        Ok(Self::Damaged { path: path.to_owned(), at, bytes })
    }

    fn mend(self) -> Outcome {
        match self {
            Self::Missing { path, aside } => std::fs::rename(aside, path)?,
            Self::Locked(writer) => drop(writer),
            Self::Damaged { path, at, bytes } => {
                File::options().write(true).open(path)?.write_all_at(&bytes, at)?;
            }
        }
        Ok(())
    }

    /// What a line says of it.
    fn cause(&self, setting: &Setting, member: usize) -> ErrorCode {
        match self {
            Self::Missing { .. } => setting.unusable(member, "is missing"),
            Self::Locked(writer) => {
                let process = writer.process();
                let what = format!("is in use by another process (process {process})");
                setting.unusable(member, &what)
            }
            Self::Damaged { .. } => {
                let found = ErrorCode::new("SYS.1016", "reading or writing failed");
                setting.unusable(member, "cannot be used").with_cause(found)
            }
        }
    }
}

/// The cause of damage is told in words of the image's own; all else is compared to the letter.
fn without_words_of_damage(mut line: DeleteResult) -> DeleteResult {
    if let Some(error) = &mut line.error {
        blur(error);
    }
    line
}

fn blur(error: &mut ErrorCode) {
    if error.code == "SYS.1016" {
        assert!(error.details.take().is_some(), "damage is named");
        error.cause = None;
    }
    error.cause.iter_mut().for_each(|cause| blur(cause));
}

fn blurred(lines: &[DeleteResult]) -> Vec<DeleteResult> {
    lines.iter().cloned().map(without_words_of_damage).collect()
}

#[test]
#[ignore = "needs qemu-io"]
fn enforcing_takes_every_member_from_the_books_and_lists_what_files_keep() -> Outcome {
    let setting = Setting::of(6)?;
    let (engine, path) = (&setting.engine, |member: usize| setting.path(&setting.files[member]));
    engine.detach_volume(setting.disks[3], setting.machine)?;
    assert!(engine.delete_snapshots(&DeleteSnapshots::one(setting.members[4]))?.is_success());
    let troubles = [Trouble::missing(&path(0))?, Trouble::locked(&path(1))?, Trouble::damaged(&path(2))?];
    let causes: Vec<ErrorCode> =
        troubles.iter().enumerate().map(|(member, trouble)| trouble.cause(&setting, member)).collect();

    let wish = DeleteGroup { mode: DeleteMode::Enforcing, ..DeleteGroup::new(setting.group) };
    let plan = engine.plan_delete(&wish)?;
    let deleted = engine.run(&plan)?;
    let lines: Vec<DeleteResult> = causes
        .iter()
        .enumerate()
        .map(|(member, cause)| setting.line(member, cause.clone()))
        .chain([
            setting.gone(3),
            DeleteResult::already_deleted(setting.members[4], setting.disks[4]),
            setting.gone(5),
        ])
        .collect();
    assert_eq!(blurred(&deleted.results), lines);
    // The plan has said so, and has counted nothing that cannot be done.
    assert_eq!(plan.results, deleted.results);
    let (figures, done) = (&plan.figures, &deleted.reclaimed);
    assert_eq!(
        (figures.bytes_copied(), figures.bytes_punched, figures.bytes_removed, &figures.files_removed),
        (done.bytes_copied(), done.bytes_punched, done.bytes_removed, &done.files_removed)
    );
    assert!(!done.bytes_freed().is_zero());

    // The books are done, all of them.
    assert_eq!(deleted.groups_removed, [setting.group]);
    assert_eq!(engine.group(setting.group).map_err(|error| error.code().as_str()).err(), Some("SYS.1003"));
    for member in &setting.members {
        assert_eq!(engine.snapshot(*member).map_err(|error| error.code().as_str()).err(), Some("SYS.1003"));
    }
    assert_eq!(engine.verify_catalogue()?, Vec::<String>::new());

    // The bytes of three are owed, each for its own reason; those of the others are done.
    let mut expected: Vec<_> = causes
        .iter()
        .zip(&setting.files)
        .map(|(cause, file)| (file.clone(), OwedReason::Hindered, Some(cause.clone())))
        .collect();
    expected.sort_by(|one, other| one.0.cmp(&other.0));
    for owed in [&deleted.owed, &engine.owed()?] {
        let mut told = told(owed);
        told.iter_mut().flat_map(|(_, _, error)| error).for_each(blur);
        assert_eq!(told, expected);
    }

    // Asked again as long as nothing is mended, all of them are passed over.
    let (done, owed) = engine.reclaim(&ReclaimOptions::default())?.finish()?;
    assert_eq!((owed.len(), done.bytes_freed()), (3, ByteCount::ZERO));

    // One by one the causes go, and a reclaim does what it owed.
    for (left, trouble) in [2, 1, 0].into_iter().zip(troubles) {
        trouble.mend()?;
        let (done, owed) = engine.reclaim(&ReclaimOptions::default())?.finish()?;
        assert_eq!(owed.len(), left);
        assert!(!done.bytes_freed().is_zero());
    }
    setting.assert_settled()
}

#[test]
#[ignore = "needs qemu-io"]
fn permissive_deletes_nothing_when_one_file_is_missing_locked_or_damaged() -> Outcome {
    let setting = Setting::of(3)?;
    let engine = &setting.engine;
    type Make = fn(&Path) -> Outcome<Trouble>;
    let troubles: [Make; 3] = [Trouble::missing, Trouble::locked, Trouble::damaged];
    for make in troubles {
        let trouble = make(&setting.path(&setting.files[1]))?;
        let (before, generation) = (setting.picture()?, engine.generation());
        let wish = DeleteGroup::new(setting.group);
        let plan = engine.plan_delete(&wish)?;
        let deleted = engine.delete_group(&wish)?;
        let cause = trouble.cause(&setting, 1);
        let lines = [setting.spared(0, 1), setting.line(1, cause), setting.spared(2, 1)];
        assert_eq!(blurred(&deleted.results), lines);
        assert_eq!(plan.results, deleted.results);
        assert_eq!((deleted.groups_removed.len(), deleted.owed.len()), (0, 0));
        assert_eq!(engine.generation(), generation, "the books have moved on");
        assert!(setting.picture()? == before, "a file has changed");
        assert_eq!(engine.owed()?, []);
        trouble.mend()?;
    }
    assert!(engine.delete_group(&DeleteGroup::new(setting.group))?.is_success());
    setting.assert_settled()
}

#[test]
#[ignore = "needs qemu-io"]
fn each_on_its_own_the_willing_go_and_the_one_in_use_stays() -> Outcome {
    let setting = Setting::of(3)?;
    let engine = &setting.engine;
    let shown = snapshot_bytes(engine, setting.members[1])?;
    let trouble = Trouble::locked(&setting.path(&setting.files[1]))?;
    let wish = DeleteGroup { members: Members::EachOnItsOwn, ..DeleteGroup::new(setting.group) };
    let deleted = engine.delete_group(&wish)?;
    let lines = [setting.gone(0), setting.line(1, trouble.cause(&setting, 1)), setting.gone(2)];
    assert_eq!(deleted.results, lines);
    assert!(deleted.groups_removed.is_empty());
    let there: Vec<bool> = engine
        .group(setting.group)?
        .volume_snapshot_refs
        .iter()
        .map(|member| !member.snapshot_deleted)
        .collect();
    assert_eq!(there, [false, true, false]);
    trouble.mend()?;
    assert!(snapshot_bytes(engine, setting.members[1])? == shown);
    setting.assert_settled()
}

#[test]
#[ignore = "needs qemu-io"]
fn below_a_disk_that_qemu_writes_nothing_is_touched_until_it_is_let_go() -> Outcome {
    for direction in [Direction::Auto, Direction::Pull, Direction::Commit] {
        let setting = Setting::of(1)?;
        let engine = &setting.engine;
        let head = head_of(engine, setting.disks[0])?;
        let writer = Writer::of(setting.path(&head))?;
        let before = setting.picture()?;
        let wish = DeleteGroup { direction, ..DeleteGroup::new(setting.group) };
        let deleted = engine.delete_group(&wish)?;
        let details = format!(
            "the file {head} of volume {} is in use by another process (process {})",
            setting.disks[0].simple(),
            writer.process()
        );
        let cause = ErrorCode::new("SYS.1006", "the operation cannot be done now").with_details(details);
        assert_eq!(deleted.results, [setting.gone(0)], "{direction}");
        let owed = [(setting.files[0].clone(), OwedReason::Hindered, Some(cause))];
        assert_eq!(told(&deleted.owed), owed, "{direction}");
        assert_eq!(told(&engine.owed()?), owed, "{direction}");
        assert!(setting.picture()? == before, "{direction}: a file has changed");
        drop(writer);
        let (_, owed) = engine.reclaim(&ReclaimOptions::towards(direction))?.finish()?;
        assert_eq!(owed, []);
        setting.assert_settled()?;
    }
    Ok(())
}

#[test]
#[ignore = "needs qemu-io"]
fn a_retired_file_that_qemu_writes_is_neither_copied_from_nor_removed() -> Outcome {
    let setting = Setting::of(1)?;
    let engine = &setting.engine;
    let wish = DeleteGroup { reclaim: When::Later, ..DeleteGroup::new(setting.group) };
    assert!(engine.delete_group(&wish)?.is_success());
    let trouble = Trouble::locked(&setting.path(&setting.files[0]))?;
    let before = setting.picture()?;
    let (done, owed) = engine.reclaim(&ReclaimOptions::towards(Direction::Pull))?.finish()?;
    let cause = trouble.cause(&setting, 0);
    assert_eq!(told(&owed), [(setting.files[0].clone(), OwedReason::Hindered, Some(cause))]);
    assert_eq!((done.bytes_copied(), done.files_removed.len()), (ByteCount::ZERO, 0));
    assert!(setting.picture()? == before);
    trouble.mend()?;
    let (done, owed) = engine.reclaim(&ReclaimOptions::towards(Direction::Pull))?.finish()?;
    assert_eq!((owed.len(), done.files_removed), (0, vec![setting.files[0].clone()]));
    setting.assert_settled()
}

#[test]
#[ignore = "needs qemu-img"]
fn enforcing_keeps_what_a_clone_and_a_later_snapshot_read_through() -> Outcome {
    let setting = Setting::of(2)?;
    let engine = &setting.engine;
    engine.hold(setting.members[1], "backup")?;
    let clone = engine.create_volume(&CreateVolume::of_snapshot("clone", setting.members[0]))?.uuid;
    let cloned = volume_bytes(engine, clone)?;
    let later = engine.create_snapshot(&CreateSnapshot::new(setting.disks[1], "later"))?.uuid;
    let later_shown = snapshot_bytes(engine, later)?;
    let refused = engine.delete_group(&DeleteGroup::new(setting.group))?;
    assert_eq!(refused.results.iter().filter(|line| line.success).count(), 0);
    let wish = DeleteGroup { mode: DeleteMode::Enforcing, ..DeleteGroup::new(setting.group) };
    let deleted = engine.delete_group(&wish)?;
    assert_eq!(deleted.results, [setting.gone(0), setting.gone(1)]);
    assert!(deleted.owed.is_empty());
    assert!(setting.path(&setting.files[0]).exists() && setting.path(&setting.files[1]).exists());
    assert_shows(setting.home.path(), &head_of(engine, clone)?, &cloned)?;
    assert_shows(setting.home.path(), &layer_of(engine, later)?, &later_shown)?;
    setting.assert_settled()
}
