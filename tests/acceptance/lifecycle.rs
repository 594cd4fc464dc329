//! What becomes of groups and snapshots when volumes and machines come and go.

use crate::support::{Outcome, Site, code, codes, members};
use snapgroup::{
    CreateGroup, CreateMachine, CreateVolume, DeleteGroup, DeleteMode, DeleteSnapshots, DeleteVolume,
    Refusal, RevertGroup, RevertVolume,
};

/// As on the platform: its snapshots and trees go, the refs say so, the groups stay.
#[test]
fn a_deleted_data_volume_takes_its_snapshots_along_and_its_groups_stay() -> Outcome {
    let site = Site::new(2)?;
    let group = site.group("g", 1)?;
    site.snapshots(site.disks[1], 2, 2)?;
    let deleted = site.engine.delete_volume(&DeleteVolume::new(site.disks[1]))?;
    assert_eq!((deleted.results.len(), deleted.is_success(), deleted.groups_removed.len()), (3, true, 0));
    assert_eq!((site.count()?, site.trees()?.len()), (1, 1));
    let refs = site.engine.group(group.uuid)?.volume_snapshot_refs;
    assert_eq!(refs.iter().map(|member| member.snapshot_deleted).collect::<Vec<_>>(), [false, true]);
    assert_eq!((refs[1].volume_name.as_str(), refs[1].volume_uuid), ("data-1", site.disks[1]));
    assert!(!site.engine.check_availability([group.uuid])?[0].available);
    assert_eq!(site.files()?.len(), 3, "the root's snapshot and head, and the catalogue");
    site.assert_sound()
}

/// As on the platform.
#[test]
fn a_volume_without_snapshots_is_deleted_without_lines() -> Outcome {
    let site = Site::new(2)?;
    let deleted = site.engine.delete_volume(&DeleteVolume::new(site.disks[1]))?;
    assert!(deleted.is_success() && deleted.results.is_empty());
    assert_eq!(site.files()?.len(), 2);
    site.assert_sound()
}

/// As on the platform. Enforcing it keeps what the clone reads, in no snapshot.
#[test]
fn a_volume_that_another_one_was_made_of_stays() -> Outcome {
    let site = Site::new(2)?;
    let taken = site.snapshots(site.disks[1], 1, 2)?;
    let clone = site.attached(&CreateVolume::of_snapshot("clone", taken[0].uuid))?;
    let deleted = site.engine.delete_volume(&DeleteVolume::new(site.disks[1]))?;
    assert_eq!(codes(&deleted.results[0]), ("SYS.1004", "SYS.1006"));
    assert_eq!((site.engine.volume(site.disks[1]).is_ok(), site.count()?), (true, 2));
    let wish = DeleteVolume { mode: DeleteMode::Enforcing, ..DeleteVolume::new(site.disks[1]) };
    assert!(site.engine.delete_volume(&wish)?.is_success());
    assert_eq!((site.read(clone)?, site.count()?), (1, 0));
    site.assert_sound()
}

/// The platform refuses an origin only as long as there is a clone, and so does this crate.
#[test]
fn a_snapshot_can_be_deleted_once_the_clone_of_it_is_gone() -> Outcome {
    let site = Site::new(1)?;
    let taken = site.snapshots(site.root(), 1, 1)?;
    let clone = site.engine.create_volume(&CreateVolume::of_snapshot("clone", taken[0].uuid))?.uuid;
    assert_eq!(codes(&site.delete(&[taken[0].uuid])?.results[0]), ("SYS.1004", "SYS.1006"));
    assert!(site.engine.delete_volume(&DeleteVolume::new(clone))?.is_success());
    assert!(site.delete(&[taken[0].uuid])?.is_success());
    site.assert_sound()
}

/// The platform removes the groups with the machine and the snapshots with its volumes. Here the volumes stay, and the
/// snapshots with them.
#[test]
fn a_deleted_machine_takes_its_groups_along_and_the_snapshots_stay_deletable() -> Outcome {
    let site = Site::new(2)?;
    let group = site.group("g", 1)?;
    site.engine.delete_machine(site.vm)?;
    assert_eq!(code(site.engine.group(group.uuid)), "SYS.1003");
    for member in members(&group) {
        assert_eq!((site.engine.snapshot(member)?.group_uuid, site.read_snapshot(member)?), (None, 1));
    }
    assert!(site.delete(&members(&group))?.is_success());
    assert_eq!((site.count()?, site.read(site.root())?), (0, 1));
    site.assert_sound()
}

/// As on the platform: the device id is not compared.
#[test]
fn a_disk_that_comes_back_under_another_device_id_is_back() -> Outcome {
    let site = Site::new(3)?;
    let group = site.group("g", 1)?;
    site.engine.detach_volume(site.disks[1], site.vm)?;
    site.engine.detach_volume(site.disks[2], site.vm)?;
    assert!(!site.engine.check_availability([group.uuid])?[0].available);
    site.engine.attach_volume(site.disks[2], site.vm, None)?;
    site.engine.attach_volume(site.disks[1], site.vm, None)?;
    assert_eq!(site.engine.volume(site.disks[2])?.device_id, Some(1));
    assert!(site.engine.check_availability([group.uuid])?[0].available);
    site.write(site.disks[2], 7)?;
    site.engine.revert_group(&RevertGroup::new(group.uuid))?;
    assert_eq!((site.read(site.disks[1])?, site.read(site.disks[2])?), (1, 1));
    site.assert_sound()
}

/// As on the platform, but that its deletion of the old group skips the member without a word; here it goes, too, unless
/// something there stands against it.
#[test]
fn a_disk_at_another_machine_is_in_the_groups_of_that_one() -> Outcome {
    let site = Site::new(2)?;
    let old = site.group("old", 1)?;
    let other = site.engine.create_machine(&CreateMachine::new("other"))?.uuid;
    site.engine.detach_volume(site.disks[1], site.vm)?;
    site.engine.attach_volume(site.disks[1], other, None)?;
    assert!(!site.engine.check_availability([old.uuid])?[0].available);
    let refused = site.engine.revert_group(&RevertGroup::new(old.uuid));
    let Err(snapgroup::Error::Refused(Refusal::NotAvailable { .. })) = refused else { panic!("{refused:?}") };
    site.write(site.disks[1], 2)?;
    let new = site.engine.create_group(&CreateGroup::of_machine(other, "new"))?.inventory;
    assert_eq!(members(&new).len(), 1);
    assert_eq!(site.engine.snapshot(members(&new)[0])?.parent_uuid, Some(members(&old)[1]));
    assert!(site.engine.check_availability([new.uuid])?[0].available);

    let deleted = site.engine.delete_group(&DeleteGroup::new(old.uuid))?;
    assert_eq!((deleted.results.len(), deleted.is_success()), (2, true));
    assert_eq!(
        (site.engine.group(new.uuid)?.is_incomplete(), site.read_snapshot(members(&new)[0])?),
        (false, 2)
    );
    site.assert_sound()
}

/// As on the platform.
#[test]
fn a_new_disk_makes_older_groups_unavailable_until_it_is_detached() -> Outcome {
    let site = Site::new(1)?;
    let group = site.group("g", 1)?;
    let late = site.attached(&CreateVolume::new("late", snapgroup::ByteCount::kib(64)))?;
    assert!(!site.engine.check_availability([group.uuid])?[0].available);
    site.engine.detach_volume(late, site.vm)?;
    assert!(site.engine.check_availability([group.uuid])?[0].available);
    Ok(())
}

/// On the platform a deletion of a member touches the ref alone; here the group has changed with it.
#[test]
fn the_last_change_of_a_group_is_that_of_its_members_too() -> Outcome {
    let site = Site::with(2, |options| options.clock = snapgroup::Clock::Stepping(1_600_000_000_000))?;
    let group = site.group("g", 1)?;
    assert!(site.delete(&members(&group)[1..])?.is_success());
    let changed = site.engine.group(group.uuid)?;
    assert_eq!(changed.create_date, group.create_date);
    assert!(changed.last_op_date > group.last_op_date);
    assert!(changed.volume_snapshot_refs[1].last_op_date > group.volume_snapshot_refs[1].last_op_date);
    assert_eq!(changed.volume_snapshot_refs[0], group.volume_snapshot_refs[0]);
    Ok(())
}

/// As on the platform: what is left of a volume that is gone can be neither read nor gone back to.
#[test]
fn a_snapshot_without_its_volume_is_not_there() -> Outcome {
    let site = Site::new(2)?;
    let taken = site.snapshots(site.disks[1], 1, 1)?;
    assert!(site.engine.delete_volume(&DeleteVolume::new(site.disks[1]))?.is_success());
    assert_eq!(code(site.engine.open_snapshot(taken[0].uuid)), "SYS.1003");
    assert_eq!(code(site.engine.revert_volume(&RevertVolume::to(taken[0].uuid))), "SYS.1003");
    let deleted = site.engine.delete_snapshots(&DeleteSnapshots::one(taken[0].uuid))?;
    assert!(deleted.is_success() && deleted.results[0].already_deleted);
    Ok(())
}
