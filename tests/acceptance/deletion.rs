//! Deleting snapshots, alone and in batches. Where a test says "as on the platform" it deletes with the platform's
//! defaults: each on its own, with everything that descends from it.

use crate::support::{Made, Outcome, Site, code, codes, uuids};
use snapgroup::inventory::SnapshotInventory;
use snapgroup::storage::Operation;
use snapgroup::{
    ByteCount, DeleteMode, DeleteScope, DeleteSnapshots, Direction, OwedReason, ReclaimOptions, RevertVolume,
    Running,
};

/// As on the platform.
#[test]
fn deleting_the_fourth_of_five_takes_the_fifth_along() -> Outcome {
    let site = Site::new(1)?;
    let taken = site.snapshots(site.root(), 1, 5)?;
    assert!(site.delete(&[taken[3].uuid])?.is_success());
    assert_eq!((site.count()?, site.trees()?.len()), (3, 1));
    assert_eq!(site.latest()?, [taken[2].uuid]);
    assert_eq!(site.read(site.root())?, 5);
    site.assert_sound()
}

/// The platform's default is the chain; this crate's is the snapshot alone.
#[test]
fn by_this_crates_default_the_fifth_stays() -> Outcome {
    let site = Site::new(1)?;
    let taken = site.snapshots(site.root(), 1, 5)?;
    assert!(site.engine.delete_snapshots(&DeleteSnapshots::one(taken[3].uuid))?.is_success());
    let fifth = site.engine.snapshot(taken[4].uuid)?;
    assert_eq!((site.count()?, fifth.parent_uuid, fifth.distance), (4, Some(taken[2].uuid), 4));
    assert_eq!(site.read_snapshot(fifth.uuid)?, 5);
    site.assert_sound()
}

/// The platform merges once, by pulling into the disk. Here the same is asked for with `Direction::Pull`; left to
/// itself, deletion copies nothing.
#[test]
fn deleting_in_the_middle_removes_the_descendants_and_merges_into_the_disk_once() -> Outcome {
    for (direction, layers) in [(Direction::Pull, 3), (Direction::Commit, 3)] {
        let site = Site::new(1)?;
        let taken = site.snapshots(site.root(), 1, 6)?;
        let wish = DeleteSnapshots { direction, ..DeleteSnapshots::as_the_api_does([taken[2].uuid]) };
        let deleted = site.engine.delete_snapshots(&wish)?;
        assert_eq!((deleted.results.len(), deleted.is_success()), (1, true));
        assert_eq!(deleted.reclaimed.files_removed.len(), 4, "{direction}");
        assert_eq!((site.count()?, site.engine.chain(site.root())?.len()), (2, layers));
        assert_eq!((site.read(site.root())?, site.read_snapshot(taken[1].uuid)?), (6, 2));
        site.assert_sound()?;
    }
    let site = Site::new(1)?;
    let taken = site.snapshots(site.root(), 1, 6)?;
    let deleted = site.delete(&[taken[2].uuid])?;
    assert_eq!(deleted.reclaimed.bytes_copied(), ByteCount::ZERO);
    assert_eq!(site.read(site.root())?, 6);
    site.assert_sound()
}

/// A volume with a side branch: 1 - 2 - 3 - 4, and on 1 the current 5 - 6 - 7.
fn branched(site: &Site) -> Made<(Vec<SnapshotInventory>, Vec<SnapshotInventory>)> {
    let side = site.snapshots(site.root(), 1, 4)?;
    site.engine.revert_volume(&RevertVolume::to(side[0].uuid))?;
    let current = site.snapshots(site.root(), 5, 3)?;
    Ok((side, current))
}

/// As on the platform.
#[test]
fn deleting_a_side_branch_merges_nothing_and_keeps_the_rest() -> Outcome {
    let site = Site::new(1)?;
    let (side, current) = branched(&site)?;
    let chain = site.engine.chain(site.root())?;
    let deleted = site.delete(&[side[1].uuid])?;
    assert_eq!(deleted.reclaimed.bytes_copied(), ByteCount::ZERO);
    assert_eq!(deleted.reclaimed.files_removed.len(), 3);
    assert_eq!((site.count()?, site.latest()?), (4, vec![current[2].uuid]));
    assert_eq!(site.engine.chain(site.root())?, chain);
    assert_eq!((site.read(site.root())?, site.read_snapshot(side[0].uuid)?), (7, 1));
    site.assert_sound()
}

/// The platform deletes the topmost of a batch and lets the rest go with them. Here every one of the batch has its
/// line, in the order of the request.
#[test]
fn a_batch_of_ancestors_and_descendants_deletes_each_once() -> Outcome {
    let site = Site::new(1)?;
    let (side, current) = branched(&site)?;
    let wanted = [side[3].uuid, current[1].uuid, side[1].uuid, current[2].uuid];
    let deleted = site.delete(&wanted)?;
    assert!(deleted.is_success(), "{deleted:#?}");
    let lines: Vec<_> = deleted.results.iter().filter_map(|line| line.snapshot_uuid).collect();
    assert_eq!(lines, wanted);
    assert_eq!((site.count()?, site.latest()?), (2, vec![current[0].uuid]));
    assert_eq!(site.read(site.root())?, 7);
    site.assert_sound()
}

/// As on the platform: everything goes, the disk keeps its data; a machine that is deleted before makes no difference.
/// The one merge into the disk is `Direction::Pull` here.
#[test]
fn deleting_all_leaves_none_and_the_disk_alone_with_its_data() -> Outcome {
    for is_machine_deleted in [false, true] {
        let site = Site::new(1)?;
        let (side, current) = branched(&site)?;
        if is_machine_deleted {
            site.engine.delete_machine(site.vm)?;
        }
        let all = uuids(&side).into_iter().chain(uuids(&current));
        let wish = DeleteSnapshots { direction: Direction::Pull, ..DeleteSnapshots::as_the_api_does(all) };
        assert!(site.engine.delete_snapshots(&wish)?.is_success());
        assert_eq!((site.count()?, site.trees()?.len(), site.read(site.root())?), (0, 0, 7));
        assert_eq!(site.engine.chain(site.root())?.len(), 1);
        assert_eq!(site.files()?.len(), 2, "the disk and the catalogue");
        site.assert_sound()?;
    }
    Ok(())
}

/// The platform copies the failure of an ancestor to its listed descendants, which then stay. Here each line speaks for
/// itself, unless all or none was asked for: then the spared ones name the one that refuses.
#[test]
fn a_failure_shows_in_the_lines_of_those_that_were_asked_for() -> Outcome {
    let site = Site::new(1)?;
    let taken = site.snapshots(site.root(), 1, 4)?;
    site.engine.hold(taken[2].uuid, "backup")?;
    let wanted = [taken[1].uuid, taken[3].uuid];
    let all_or_none = DeleteSnapshots { scope: DeleteScope::Chain, ..DeleteSnapshots::all(wanted) };
    let deleted = site.engine.delete_snapshots(&all_or_none)?;
    assert_eq!(codes(&deleted.results[0]), ("SYS.1004", "SYS.1006"));
    assert_eq!(codes(&deleted.results[1]), ("SYS.1004", "VOLUME_SNAPSHOT.1002"));
    assert_eq!(site.count()?, 4);
    let deleted = site.delete(&wanted)?;
    assert_eq!(codes(&deleted.results[0]), ("SYS.1004", "SYS.1006"));
    assert_eq!((deleted.results[1].success, site.count()?), (true, 3));
    assert_eq!(site.read(site.root())?, 4);
    site.assert_sound()
}

/// The platform refuses a batch over several volumes (SYS.1006) and an unknown uuid in it (SYS.1003). Here both are
/// done: what is gone is gone.
#[test]
fn a_batch_may_span_volumes_and_name_what_is_gone() -> Outcome {
    let site = Site::new(2)?;
    let (one, two) = (site.snapshots(site.disks[0], 1, 1)?, site.snapshots(site.disks[1], 2, 1)?);
    let unknown = snapgroup::Uuid::from_u128(99);
    let deleted = site.delete(&[one[0].uuid, unknown, two[0].uuid])?;
    assert!(deleted.is_success());
    let gone: Vec<bool> = deleted.results.iter().map(|line| line.already_deleted).collect();
    assert_eq!((gone, site.count()?), (vec![false, true, false], 0));
    site.assert_sound()
}

/// As on the platform: a well-formed uuid that is not there is a success. One that is no uuid is SYS.1007 here, not
/// SYS.1003.
#[test]
fn deleting_twice_is_a_success_and_a_malformed_uuid_is_not() -> Outcome {
    let site = Site::new(1)?;
    let taken = site.snapshots(site.root(), 1, 1)?;
    for already in [false, true] {
        let deleted = site.delete(&[taken[0].uuid])?;
        assert_eq!((deleted.is_success(), deleted.results[0].already_deleted), (true, already));
    }
    let wish = DeleteSnapshots::as_the_api_does(["no uuid"]);
    assert_eq!(code(site.engine.delete_snapshots(&wish)), "SYS.1007");
    Ok(())
}

/// As on the platform, and whatever the order in which the threads come.
#[test]
fn a_hundred_snapshots_deleted_by_many_threads_are_gone_and_the_disk_keeps_its_data() -> Outcome {
    let site = Site::new(1)?;
    let taken = uuids(&site.snapshots(site.root(), 1, 100)?);
    std::thread::scope(|scope| -> Outcome {
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let (site, taken) = (&site, &taken);
                scope.spawn(move || -> snapgroup::Result<bool> {
                    let mut success = true;
                    // From the top down, so that each has something of its own to do.
                    for uuid in taken.iter().rev().skip(worker).step_by(4) {
                        let wish = DeleteSnapshots::as_the_api_does([*uuid]);
                        success &= site.engine.delete_snapshots(&wish)?.is_success();
                    }
                    Ok(success)
                })
            })
            .collect();
        site.engine.delete_machine(site.vm)?;
        for worker in workers {
            assert!(worker.join().expect("no thread panics")?);
        }
        Ok(())
    })?;
    assert_eq!((site.count()?, site.trees()?.len(), site.read(site.root())?), (0, 0, 100));
    // Two may have met at the same layers, and each may have left something to the other.
    site.engine.reclaim(&ReclaimOptions::default())?.finish()?;
    let vm = site.engine.create_machine(&snapgroup::CreateMachine::new("recovered"))?.uuid;
    site.engine.attach_volume(site.root(), vm, None)?;
    site.assert_sound()
}

/// As on the platform, where the disk becomes standalone.
#[test]
fn deleting_the_root_node_makes_the_disk_stand_alone() -> Outcome {
    for direction in [Direction::Pull, Direction::Commit] {
        let site = Site::new(1)?;
        let taken = site.snapshots(site.root(), 1, 3)?;
        let wish = DeleteSnapshots { direction, ..DeleteSnapshots::as_the_api_does([taken[0].uuid]) };
        assert!(site.engine.delete_snapshots(&wish)?.is_success());
        let chain = site.engine.chain(site.root())?;
        assert_eq!((chain.len(), chain[0].backing_label.as_deref()), (1, None), "{direction}");
        assert_eq!((site.count()?, site.read(site.root())?), (0, 3));
        site.assert_sound()?;
    }
    Ok(())
}

/// As on the platform: the disk is merged with what is below the victim's parent, and reads through that parent then.
#[test]
fn what_is_merged_away_leaves_the_disk_on_the_parent() -> Outcome {
    let site = Site::new(2)?;
    for disk in [site.disks[0], site.disks[1]] {
        let taken = site.snapshots(disk, 1, 3)?;
        let wish = DeleteSnapshots {
            direction: Direction::Pull,
            ..DeleteSnapshots::as_the_api_does([taken[1].uuid])
        };
        assert!(site.engine.delete_snapshots(&wish)?.is_success());
        let chain = site.engine.chain(disk)?;
        assert_eq!(chain[1].snapshot.as_ref().map(|named| named.uuid), Some(taken[0].uuid));
        assert_eq!((chain.len(), site.read(disk)?, site.read_snapshot(taken[0].uuid)?), (2, 3, 1));
    }
    site.assert_sound()
}

/// The platform refuses a file whose path does not name the volume. Here the catalogue names the file, and one that is
/// not what it says refuses; an enforcing deletion takes it out of the books and says so.
#[test]
fn a_snapshot_whose_file_is_not_as_it_was_refuses_and_enforcing_says_so() -> Outcome {
    let site = Site::new(1)?;
    let taken = site.snapshots(site.root(), 1, 2)?;
    site.engine.revert_volume(&RevertVolume::to(taken[0].uuid))?;
    site.remove_file(&taken[1].primary_storage_install_path)?;
    let deleted = site.delete(&[taken[1].uuid])?;
    assert_eq!(codes(&deleted.results[0]), ("SYS.1004", "SYS.1006"));
    assert!(site.is_there(taken[1].uuid));
    let wish =
        DeleteSnapshots { mode: DeleteMode::Enforcing, ..DeleteSnapshots::as_the_api_does([taken[1].uuid]) };
    let deleted = site.engine.delete_snapshots(&wish)?;
    assert_eq!((deleted.results[0].success, codes(&deleted.results[0])), (false, ("SYS.1004", "SYS.1006")));
    assert!(!site.is_there(taken[1].uuid));
    site.assert_sound()
}

/// The platform calls it undoing a creation. Here it is deleting the newest, its bytes written down; as there, the
/// file that cannot be deleted is no failure and is not forgotten.
#[test]
fn undoing_a_snapshot_succeeds_although_the_old_file_stays_and_the_file_is_owed() -> Outcome {
    let site = Site::new(1)?;
    let taken = site.snapshots(site.root(), 1, 2)?;
    site.write(site.root(), 3)?;
    let old_head = site.engine.volume(site.root())?.install_path;
    site.fail_next(Operation::Remove, 1);
    let wish = DeleteSnapshots { direction: Direction::Commit, ..DeleteSnapshots::one(taken[1].uuid) };
    let deleted = site.engine.delete_snapshots(&wish)?;
    assert!(deleted.is_success() && !site.is_there(taken[1].uuid), "{deleted:#?}");
    assert_eq!(site.engine.volume(site.root())?.install_path, taken[1].primary_storage_install_path);
    assert_eq!((site.read(site.root())?, site.latest()?), (3, vec![taken[0].uuid]));
    let owed = site.engine.owed()?;
    assert_eq!(owed.iter().map(|owed| owed.reason).collect::<Vec<_>>(), [OwedReason::ToBeRemoved]);
    assert!(old_head.ends_with(&owed[0].file));
    site.engine.reclaim(&ReclaimOptions::default())?.finish()?;
    site.assert_sound()
}

/// The platform rolls back when the merge fails. Here the books come first: the deletion is done, what could not be
/// done with the bytes is owed with its reason, and a reclaim does it later.
#[test]
fn a_merge_that_fails_is_told_and_made_up_for() -> Outcome {
    let site = Site::new(1)?;
    let taken = site.snapshots(site.root(), 1, 2)?;
    site.engine.set_running(site.vm, Running::Elsewhere)?;
    let wish = DeleteSnapshots { direction: Direction::Pull, ..DeleteSnapshots::one(taken[1].uuid) };
    let deleted = site.engine.delete_snapshots(&wish)?;
    let owed: Vec<_> =
        deleted.owed.iter().filter_map(|owed| Some(owed.error.as_ref()?.code.as_str())).collect();
    assert_eq!((deleted.is_success(), owed), (true, vec!["SYS.1006"]));
    assert!(!site.is_there(taken[1].uuid));
    site.engine.set_running(site.vm, Running::Here)?;
    assert_eq!((site.read(site.root())?, site.read_snapshot(taken[0].uuid)?), (2, 1));
    site.engine.reclaim(&ReclaimOptions::towards(Direction::Pull))?.finish()?;
    assert_eq!((site.engine.chain(site.root())?.len(), site.read(site.root())?), (2, 2));
    site.assert_sound()
}

/// The platform commits only below a machine that is stopped. Asked for below one that runs elsewhere it is refused, and
/// nothing happens; enforced, the books are done and the bytes wait for the machine.
#[test]
fn a_commit_below_a_running_machine_is_refused_and_enforced_it_is_owed() -> Outcome {
    let site = Site::new(1)?;
    let taken = site.snapshots(site.root(), 1, 3)?;
    site.engine.set_running(site.vm, Running::Elsewhere)?;
    let before = site.engine.generation();
    let wish = DeleteSnapshots { direction: Direction::Commit, ..DeleteSnapshots::one(taken[1].uuid) };
    let deleted = site.engine.delete_snapshots(&wish)?;
    assert_eq!(deleted.results.iter().map(codes).collect::<Vec<_>>(), [("SYS.1004", "SYS.1006")]);
    assert!(!deleted.is_success() && site.is_there(taken[1].uuid));
    assert_eq!((site.engine.generation(), site.engine.owed()?.len()), (before, 0));

    let enforced = site.engine.delete_snapshots(&DeleteSnapshots { mode: DeleteMode::Enforcing, ..wish })?;
    assert!(!site.is_there(taken[1].uuid), "{enforced:#?}");
    let owed: Vec<_> = site.engine.owed()?.iter().map(|owed| owed.reason).collect();
    assert_eq!(owed, [OwedReason::Hindered]);
    site.engine.set_running(site.vm, Running::Here)?;
    assert_eq!((site.read(site.root())?, site.read_snapshot(taken[2].uuid)?), (3, 3));
    site.engine.reclaim(&ReclaimOptions::towards(Direction::Commit))?.finish()?;
    assert_eq!((site.engine.owed()?.len(), site.read(site.root())?), (0, 3));
    site.assert_sound()
}
