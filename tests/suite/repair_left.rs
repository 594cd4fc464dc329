//! What a repair leaves alone: files that are not what the catalogue says, that somebody uses, that are not finished.

use crate::support::{
    Home, Made, Outcome, file_of, head_of, make_machine, on_every_store, read_snapshot, read_volume, volume,
};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use snapgroup::format::refcount;
use snapgroup::image::Image;
use snapgroup::storage::{Access, At, BlobName, Fault, FaultKind, FileSystem, Operation, SimulatedDisk};
use snapgroup::storage::{MemoryStore, SimulatedStore, Store};
use snapgroup::units::{HostCluster, HostOffset};
use snapgroup::{
    BaseImage, CreateSnapshot, CreateVolume, DeleteSnapshots, Direction, Engine, LayerFormat, Options,
    RepairOptions, Repaired, Running, Uuid, VolumeKind,
};
use std::fs::File;
use std::sync::Arc;

on_every_store! {
    what_was_written_and_not_flushed_is_no_damage
    a_file_that_is_not_what_the_catalogue_says_is_not_written_to
    the_disk_of_a_machine_that_runs_elsewhere_is_not_written_to
    a_base_is_never_written_to
    a_file_of_a_group_that_is_prepared_is_not_removed
    what_is_open_while_it_is_repaired_is_known_as_it_is_afterwards
}

/// Counts a cluster as used that nothing uses.
fn leak(home: &Home, file: &str) -> Outcome {
    let blob = home.touch()?.open(&BlobName::parse(file)?, Access::Write)?;
    let header = Image::header_of(&*blob, file)?;
    let mut entry = [0; 8];
    blob.read_at(header.refcount_table, &mut entry)?;
    let mut block = vec![0; 512];
    let at = HostOffset::new(u64::from_be_bytes(entry));
    blob.read_at(at, &mut block)?;
    refcount::set(&mut block, 4, HostCluster::new(200).as_u64(), 1);
    Ok(blob.write_at(at, &block)?)
}

/// Repairs, and sees that this file is told of and left as it was.
fn leaves(home: &Home, engine: &Engine, file: &str, why: &str) -> Outcome {
    let before = home.bytes(file)?;
    for options in [RepairOptions::default(), RepairOptions::perform()] {
        let repaired = engine.repair(&options)?;
        let left = repaired.left.iter().find(|left| left.file.as_deref() == Some(file));
        let left = left.ok_or_else(|| format!("{:?} {repaired:?}", options.mode))?;
        assert!(left.why.contains(why), "{left:?}");
        assert!(home.bytes(file)? == before, "{:?}: it was written to", options.mode);
    }
    Ok(())
}

/// A volume with a snapshot, different data in both.
fn disk(engine: &Engine) -> Made<(Uuid, Uuid)> {
    let disk = engine.create_volume(&volume("disk", VolumeKind::Data))?.uuid;
    engine.open_volume(disk)?.write_at(0, &[1; 200_000])?;
    let snapshot = engine.create_snapshot(&CreateSnapshot::new(disk, "first"))?.uuid;
    engine.open_volume(disk)?.write_at(0, &[2; 100_000])?;
    Ok((disk, snapshot))
}

fn what_was_written_and_not_flushed_is_no_damage(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (disk, _) = disk(&engine)?;
    let open = engine.open_volume(disk)?;
    open.write_at(400_000, &[3; 300_000])?;
    open.discard(0, 50_000)?;
    assert_eq!(engine.repair(&RepairOptions::perform())?, Repaired::default());
    Ok(())
}

fn a_file_that_is_not_what_the_catalogue_says_is_not_written_to(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (one, _) = disk(&engine)?;
    let (other, _) = disk(&engine)?;
    let (there, stranger) = (engine.chain(one)?[1].file.clone(), engine.chain(other)?[1].file.clone());
    engine.close()?;
    leak(home, &stranger)?;
    home.put(&there, &home.bytes(&stranger)?)?;
    leaves(home, &home.open()?, &there, "layer id")
}

fn the_disk_of_a_machine_that_runs_elsewhere_is_not_written_to(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let head = head_of(&engine, vm.root())?;
    engine.set_running(vm.uuid, Running::Elsewhere)?;
    leak(home, &head)?;
    leaves(home, &engine, &head, "runs")?;
    engine.set_running(vm.uuid, Running::Here)?;
    assert!(engine.repair(&RepairOptions::perform())?.is_whole());
    Ok(())
}

fn a_base_is_never_written_to(home: &Home) -> Outcome {
    let image = snapgroup::image::NewImage::of_size(crate::support::SIZE).layout("golden.qcow2")?;
    let blob = MemoryStore::new().create(&BlobName::parse("golden.qcow2")?)?;
    image.write(&*blob)?;
    let mut bytes = vec![0; blob.length()?.as_usize()];
    blob.read_at(HostOffset::ZERO, &mut bytes)?;
    home.put("golden.qcow2", &bytes)?;
    leak(home, "golden.qcow2")?;
    let engine = home.open()?;
    let base = BaseImage { file: "golden.qcow2".into(), format: LayerFormat::Qcow2 };
    engine.create_volume(&CreateVolume { base: Some(base), size: None, ..volume("v", VolumeKind::Data) })?;
    leaves(home, &engine, "golden.qcow2", "nothing is ever written to a base")
}

fn a_file_of_a_group_that_is_prepared_is_not_removed(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    engine.set_running(vm.uuid, Running::Elsewhere)?;
    let prepared = engine.prepare_group(&vm.group("live"))?;
    let before = home.picture()?;
    assert_eq!(engine.repair(&RepairOptions::perform())?, Repaired::default());
    assert!(home.picture()?.keys().eq(before.keys()), "a file that a machine is to write to is gone");
    prepared.abort()?;
    Ok(())
}

fn what_is_open_while_it_is_repaired_is_known_as_it_is_afterwards(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (disk, snapshot) = disk(&engine)?;
    let (now, then) = (read_volume(&engine, disk)?, read_snapshot(&engine, snapshot)?);
    let file = engine.chain(disk)?[1].file.clone();
    let blob = home.touch()?.open(&BlobName::parse(&file)?, Access::Write)?;
    blob.write_at(Image::header_of(&*blob, &file)?.refcount_table, &[0; 8])?;
    let open = engine.open_snapshot(snapshot)?;
    assert!(engine.repair(&RepairOptions::perform())?.is_whole());
    // Its refcounts lie elsewhere now.
    let found = engine.check()?;
    assert!(found.is_clean(), "{found:?}");
    assert!(engine.delete_snapshots(&DeleteSnapshots::one(snapshot))?.is_success());
    drop(open);
    assert!(read_volume(&engine, disk)? == now && then != now);
    Ok(())
}

#[test]
fn a_file_that_another_process_writes_to_is_not_written_to_and_a_plan_says_so() -> Outcome {
    let home = Home::disk()?;
    let engine = home.open()?;
    let (disk, _) = disk(&engine)?;
    let path = engine.volume(disk)?.install_path;
    let head = file_of(&path);
    leak(&home, &head)?;
    let qemu = File::options().read(true).write(true).open(&path)?;
    let range = libc::flock {
        l_type: i16::try_from(libc::F_RDLCK)?,
        l_whence: i16::try_from(libc::SEEK_SET)?,
        l_start: 101,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(&qemu, FcntlArg::F_OFD_SETLK(&range))?;
    leaves(&home, &engine, &head, "another process writes to it")
}

#[test]
fn what_a_repair_has_removed_stays_removed_after_a_power_cut() -> Outcome {
    let disk = SimulatedDisk::new(FileSystem::Strict);
    let engine = Engine::open_on(Arc::new(disk.clone()), Options::default())?;
    let fresh = engine.create_volume(&volume("fresh", VolumeKind::Data))?.uuid;
    let name = BlobName::parse(&format!("layer-{}.qcow2", "b".repeat(32)))?;
    let pristine = disk.open(&BlobName::parse(&engine.chain(fresh)?[0].file)?, Access::Read)?;
    let mut bytes = vec![0; pristine.length()?.as_usize()];
    pristine.read_at(HostOffset::ZERO, &mut bytes)?;
    disk.create(&name)?.write_at(HostOffset::ZERO, &bytes)?;
    disk.sync_names()?;
    assert_eq!(engine.repair(&RepairOptions::perform())?.removed, [name.to_string()]);
    assert!(!disk.log().cut(disk.position()).durable().store().list()?.contains(&name));
    Ok(())
}

#[test]
fn a_sync_that_fails_in_a_repair_is_no_answer_but_an_error() -> Outcome {
    let home = Home::simulated();
    let engine = home.open()?;
    let (disk, _) = disk(&engine)?;
    engine.close()?;
    leak(&home, &engine_file(&home, disk)?)?;
    let engine = home.open()?;
    home.faulty().fail(Fault::once(At::CallOf(Operation::Sync, 1), FaultKind::EIO));
    let answer = engine.repair(&RepairOptions::perform());
    assert!(answer.is_err(), "{answer:?}");
    Ok(())
}

/// The frozen layer of a disk.
fn engine_file(home: &Home, disk: Uuid) -> Made<String> {
    let engine = home.open()?;
    let file = engine.chain(disk)?[1].file.clone();
    engine.close()?;
    Ok(file)
}

/// A volume of three layers in memory, and a merge upwards that fails for ever from its n-th call on.
fn merged_until(call: u64, disk: &mut Option<Uuid>) -> Made<Option<MemoryStore>> {
    let left = MemoryStore::new();
    let engine = Engine::open_on(Arc::new(left.clone()), Options::default())?;
    let (uuid, first) = self::disk(&engine)?;
    *disk = Some(uuid);
    engine.close()?;
    let failing = SimulatedStore::new(Arc::new(left.clone()));
    let engine = Engine::open_on(Arc::new(failing.clone()), Options::default())?;
    let before = failing.counts().total();
    failing.fail(Fault::for_ever(At::Call(call), FaultKind::EIO));
    let wish = DeleteSnapshots { direction: Direction::Pull, ..DeleteSnapshots::one(first) };
    drop(engine.delete_snapshots(&wish));
    drop(engine);
    Ok((failing.counts().total() - before >= call).then_some(left))
}

#[test]
fn a_header_that_was_being_written_is_finished_by_a_repair_and_a_plan_only_says_so() -> Outcome {
    let mut disk = None;
    let mut finished = 0;
    for call in 1.. {
        let Some(left) = merged_until(call, &mut disk)? else { break };
        let disk = disk.ok_or("it was made")?;
        let counted = SimulatedStore::new(Arc::new(left.fork()));
        drop(Engine::open_on(Arc::new(counted.clone()), Options::default())?);
        for fault in 1..=counted.counts().of(Operation::Write) {
            // Opening cannot finish it.
            let torn = SimulatedStore::new(Arc::new(left.fork()));
            torn.fail(Fault::once(At::CallOf(Operation::Write, fault), FaultKind::EIO));
            let Ok(engine) = Engine::open_on(Arc::new(torn.clone()), Options::default()) else { continue };
            let unfinished = engine.recovered().unfinished.clone();
            // The catalogue takes no more changes when it was its own write that failed.
            let Ok(plan) = engine.repair(&RepairOptions::default()) else { continue };
            let writes = torn.counts().of(Operation::Write);
            assert_eq!(engine.repair(&RepairOptions::default())?, plan);
            assert_eq!(torn.counts().of(Operation::Write), writes, "a plan has written");
            if plan.finished.is_empty() {
                continue;
            }
            finished += 1;
            assert!(unfinished[0].starts_with(&plan.finished[0]), "{unfinished:?} {plan:?}");
            let repaired = engine.repair(&RepairOptions::perform())?;
            assert_eq!((&repaired.finished, repaired.is_whole()), (&plan.finished, true), "{repaired:?}");
            assert!(engine.check()?.is_sound());
            assert!(read_volume(&engine, disk)?[..100_000] == [2; 100_000]);
        }
    }
    assert!(finished > 0, "no header was left unfinished");
    Ok(())
}
