//! Groups: taken, deleted, ungrouped, available or not.

use crate::support::{Made, Outcome, Site, code, codes, members};
use snapgroup::inventory::UnavailableReason;
use snapgroup::query::Query;
use snapgroup::storage::Operation;
use snapgroup::{
    ByteCount, CreateGroup, CreateMachine, CreateVolume, DeleteGroup, DeleteMode, DeleteScope,
    DeleteSnapshots, Members, Sharing, UpdateGroup, Uuid,
};

/// As on the platform.
#[test]
fn a_group_is_asked_for_by_a_root_volume_that_is_attached() -> Outcome {
    let site = Site::new(2)?;
    let of = |volume: Uuid| site.engine.create_group(&CreateGroup::of_root_volume(volume, "g"));
    assert_eq!(code(of(site.disks[1])), "SYS.1007");
    let loose = site.engine.create_volume(&CreateVolume::new("loose", ByteCount::kib(64)).as_root())?;
    assert_eq!(code(of(loose.uuid)), "SYS.1007");
    assert_eq!(code(of(Uuid::from_u128(5))), "SYS.1003");
    assert_eq!(site.count()?, 0);
    Ok(())
}

/// As on the platform, where it is the volume's status; here it is its file.
#[test]
fn one_disk_that_is_not_ready_keeps_all_from_being_snapshotted() -> Outcome {
    let site = Site::new(3)?;
    site.remove_file(&site.engine.volume(site.disks[2])?.install_path)?;
    let files = site.files()?;
    assert_eq!(code(site.engine.create_group(&CreateGroup::of_root_volume(site.root(), "g"))), "SYS.1006");
    assert_eq!((site.count()?, site.engine.query_groups(&Query::default())?.total), (0, 0));
    assert_eq!(site.files()?, files);
    Ok(())
}

/// As on the platform, where the joined name is not checked for its length.
#[test]
fn members_are_named_after_group_and_volume_and_a_shareable_disk_is_left_out() -> Outcome {
    let site = Site::new(3)?;
    let shared =
        CreateVolume { sharing: Sharing::Shareable, ..CreateVolume::new("quorum", ByteCount::kib(64)) };
    let shared = site.attached(&shared)?;
    let made = site.engine.create_group(&CreateGroup::of_root_volume(site.root(), "nightly"))?;
    let shown: Vec<_> = made
        .inventory
        .volume_snapshot_refs
        .iter()
        .map(|member| (member.device_id, member.volume_snapshot_name.as_str()))
        .collect();
    assert_eq!(shown, [(0, "nightly-root"), (1, "nightly-data-1"), (2, "nightly-data-2")]);
    assert_eq!(made.inventory.snapshot_count, 3);
    assert_eq!(made.left_out.iter().map(|left| left.volume_uuid).collect::<Vec<_>>(), [shared]);
    let long = "n".repeat(255 - "-data-1".len() + 1);
    assert_eq!(code(site.engine.create_group(&CreateGroup::of_root_volume(site.root(), long))), "SYS.1007");
    assert_eq!(site.count()?, 3);
    site.assert_sound()
}

/// As on the platform.
#[test]
fn the_quota_counts_all_disks_of_a_group_at_once() -> Outcome {
    let site = Site::with(3, |options| options.snapshots_max = Some(5))?;
    site.group("first", 1)?;
    assert_eq!(
        code(site.engine.create_group(&CreateGroup::of_root_volume(site.root(), "second"))),
        "ID.1003"
    );
    assert_eq!(site.count()?, 3);
    site.snapshot(site.root(), "one more fits")?;
    Ok(())
}

/// On the platform files and rows were left over; here nothing is, whichever disk fails.
#[test]
fn a_group_that_fails_on_any_disk_leaves_no_member_no_file_and_every_latest_mark() -> Outcome {
    let site = Site::new(3)?;
    let group = site.group("g", 1)?;
    let (files, latest) = (site.files()?, site.latest()?);
    assert_eq!(latest, members(&group));
    for place in 1..=3 {
        site.fail_next(Operation::Create, place);
        let wish = CreateGroup::of_root_volume(site.root(), "unlucky");
        assert_eq!(code(site.engine.create_group(&wish)), "SYS.1016", "disk {place}");
        assert_eq!((site.count()?, site.latest()?), (3, latest.clone()), "disk {place}");
        assert_eq!(site.files()?, files, "disk {place}");
        assert_eq!(site.engine.query_groups(&Query::default())?.total, 1);
    }
    let next = site.group("next", 2)?;
    assert_eq!(next.parent_group_uuid, Some(group.uuid));
    site.assert_sound()
}

/// As on the platform.
#[test]
fn deleting_an_unknown_group_is_a_success_without_lines() -> Outcome {
    let site = Site::new(1)?;
    let deleted = site.delete_group(Uuid::from_u128(5))?;
    assert!(deleted.is_success() && deleted.results.is_empty());
    Ok(())
}

/// As on the platform, but that there the records of all later groups go when the root volume's member does. Here a
/// group goes with its last member, and one whose members all descend from the deleted ones has none left.
#[test]
fn deleting_a_group_with_its_chain_takes_the_later_groups_along() -> Outcome {
    let site = Site::new(2)?;
    let [one, two, three] = [site.group("one", 1)?, site.group("two", 2)?, site.group("three", 3)?];
    let late = site.attached(&CreateVolume::new("late", ByteCount::kib(512)))?;
    let four = site.engine.create_group(&CreateGroup::of_root_volume(site.root(), "four"))?.inventory;
    let deleted = site.delete_group(two.uuid)?;
    assert_eq!((deleted.results.len(), deleted.is_success()), (2, true));
    assert_eq!(deleted.groups_removed, [two.uuid, three.uuid]);
    // The fourth keeps the member that descends from none of them.
    let refs = site.engine.group(four.uuid)?.volume_snapshot_refs;
    let living: Vec<Uuid> =
        refs.iter().filter(|member| !member.snapshot_deleted).map(|member| member.volume_uuid).collect();
    assert_eq!(living, [late]);
    assert_eq!(site.latest()?[..2], members(&one));
    assert_eq!((site.count()?, site.read(site.root())?), (3, 3));
    site.assert_sound()
}

/// This crate's default: the platform would take the later groups along.
#[test]
fn deleting_a_group_alone_keeps_the_later_ones_whole() -> Outcome {
    let site = Site::new(2)?;
    let [one, two, three] = [site.group("one", 1)?, site.group("two", 2)?, site.group("three", 3)?];
    let deleted = site.engine.delete_group(&DeleteGroup::new(two.uuid))?;
    assert_eq!((deleted.is_success(), deleted.groups_removed), (true, vec![two.uuid]));
    let three = site.engine.group(three.uuid)?;
    assert_eq!((three.parent_group_uuid, three.is_incomplete()), (Some(one.uuid), false));
    for (member, parent) in members(&three).into_iter().zip(members(&one)) {
        assert_eq!(site.engine.snapshot(member)?.parent_uuid, Some(parent));
        assert_eq!((site.read_snapshot(member)?, site.read_snapshot(parent)?), (3, 1));
    }
    site.assert_sound()
}

/// The platform removed a group with its root volume's member, later with the last one: the latter is done here.
#[test]
fn a_group_goes_with_its_last_member_and_not_with_that_of_the_root_volume() -> Outcome {
    let site = Site::new(2)?;
    let group = site.group("g", 1)?;
    let taken = members(&group);
    assert!(site.delete(&taken[..1])?.groups_removed.is_empty());
    let left = site.engine.group(group.uuid)?;
    assert_eq!((left.snapshot_count, left.is_incomplete()), (2, true));
    assert_eq!(left.volume_snapshot_refs[0].volume_snapshot_name, "g-root");
    assert_eq!(site.delete(&taken[1..])?.groups_removed, [group.uuid]);
    assert_eq!(code(site.engine.group(group.uuid)), "SYS.1003");
    site.assert_sound()
}

/// As on the platform.
#[test]
fn all_three_reasons_come_at_once_one_in_each_line() -> Outcome {
    let site = Site::new(3)?;
    let group = site.group("g", 1)?;
    let available = || -> Made<bool> { Ok(site.engine.check_availability([group.uuid])?[0].available) };
    assert!(available()?);
    site.engine.detach_volume(site.disks[2], site.vm)?;
    assert!(!available()?);
    site.engine.attach_volume(site.disks[2], site.vm, None)?;
    assert!(available()?, "it is back");
    let late = site.attached(&CreateVolume::new("late", ByteCount::kib(64)))?;
    assert!(!available()?);
    site.engine.detach_volume(late, site.vm)?;
    assert!(available()?, "it is gone again");

    site.engine.attach_volume(late, site.vm, None)?;
    site.engine.detach_volume(site.disks[2], site.vm)?;
    assert!(site.delete(&members(&group)[1..2])?.is_success());
    let answer = site.engine.check_availability([group.uuid])?.remove(0);
    let [
        UnavailableReason::MembersDeleted { snapshots },
        UnavailableReason::VolumesDetached { volumes: detached },
        UnavailableReason::VolumesAttachedSince { volumes: attached },
    ] = &answer.reasons[..]
    else {
        panic!("{answer:#?}")
    };
    assert_eq!(snapshots[0].uuid, members(&group)[1]);
    assert_eq!((detached[0].uuid, attached[0].uuid), (site.disks[2], late));
    assert_eq!(answer.reason.lines().count(), 3, "the disk of the deleted member is no new one");
    Ok(())
}

/// As on the platform.
#[test]
fn ungrouping_keeps_the_snapshots_and_they_are_in_no_group() -> Outcome {
    let site = Site::new(2)?;
    let group = site.group("g", 1)?;
    for _ in 0..2 {
        site.engine.ungroup(group.uuid)?;
    }
    assert_eq!(code(site.engine.group(group.uuid)), "SYS.1003");
    for member in members(&group) {
        assert_eq!((site.engine.snapshot(member)?.group_uuid, site.read_snapshot(member)?), (None, 1));
    }
    site.assert_sound()
}

/// The platform deletes the willing members, and answers a success for all when enforcing. Here permissive is all or none
/// unless each is asked for on its own; enforcing deletes them all.
#[test]
fn a_member_that_refuses_keeps_itself_or_all_or_none_of_them() -> Outcome {
    let site = Site::new(3)?;
    let group = site.group("g", 1)?;
    site.engine.hold(members(&group)[1], "backup")?;
    let wish = DeleteGroup { scope: DeleteScope::Chain, ..DeleteGroup::new(group.uuid) };
    let deleted = site.engine.delete_group(&wish)?;
    let causes: Vec<_> = deleted.results.iter().map(codes).collect();
    let spared = ("SYS.1004", "VOLUME_SNAPSHOT.1002");
    assert_eq!((causes, site.count()?), (vec![spared, ("SYS.1004", "SYS.1006"), spared], 3));

    let deleted = site.delete_group(group.uuid)?;
    let gone: Vec<bool> = deleted.results.iter().map(|line| line.success).collect();
    assert_eq!((gone, site.count()?), (vec![true, false, true], 1));
    assert_eq!(DeleteGroup::as_the_api_does(group.uuid).members, Members::EachOnItsOwn);

    let wish = DeleteGroup { mode: DeleteMode::Enforcing, ..DeleteGroup::as_the_api_does(group.uuid) };
    let deleted = site.engine.delete_group(&wish)?;
    assert_eq!((deleted.results.len(), deleted.is_success()), (3, true));
    assert_eq!((deleted.groups_removed, site.count()?), (vec![group.uuid], 0));
    site.assert_sound()
}

/// The platform answers an internal error; here it is SYS.1007 and names what is allowed. So with scopes.
#[test]
fn a_delete_mode_that_is_none_is_an_invalid_argument() -> Outcome {
    assert_eq!("Permissive".parse::<DeleteMode>()?, DeleteMode::Permissive);
    assert_eq!("Enforcing".parse::<DeleteMode>()?, DeleteMode::Enforcing);
    for garbage in ["", "permissive ", "Force"] {
        let Err(refusal) = garbage.parse::<DeleteMode>() else { panic!("{garbage:?} is a mode") };
        assert_eq!(refusal.code().as_str(), "SYS.1007");
        assert!(refusal.to_string().contains("Permissive or Enforcing"), "{refusal}");
        assert!(garbage.parse::<DeleteScope>().is_err());
    }
    Ok(())
}

/// As on the platform, but that the lengths that hold when a group is taken hold here, too.
#[test]
fn an_update_of_a_group_changes_what_it_gives_and_nothing_else() -> Outcome {
    let site = Site::new(1)?;
    let group = site.group("g", 1)?;
    let update = |name: Option<&str>, description: Option<&str>| {
        let own = |text: Option<&str>| text.map(str::to_owned);
        site.engine.update_group(group.uuid, &UpdateGroup { name: own(name), description: own(description) })
    };
    assert_eq!(update(None, None)?, group);
    assert_eq!(update(None, Some("d"))?.name, "g");
    let shown = update(Some("n"), None)?;
    assert_eq!((shown.name.as_str(), shown.description.as_deref()), ("n", Some("d")));
    for (name, description) in
        [(Some(""), None), (Some(&*"n".repeat(256)), None), (None, Some(&*"d".repeat(2049)))]
    {
        assert_eq!(code(update(name, description)), "SYS.1007");
    }
    assert_eq!(site.engine.group(group.uuid)?, shown);
    Ok(())
}

/// As on the platform: a machine's groups are its own, and one snapshot is in one group at most.
#[test]
fn groups_of_two_machines_have_nothing_to_do_with_each_other() -> Outcome {
    let site = Site::new(1)?;
    let group = site.group("g", 1)?;
    let other = site.engine.create_machine(&CreateMachine::new("other"))?.uuid;
    let disk = site.engine.create_volume(&CreateVolume::new("root", ByteCount::kib(512)).as_root())?.uuid;
    site.engine.attach_volume(disk, other, None)?;
    let stranger = site.engine.create_group(&CreateGroup::of_root_volume(disk, "g"))?.inventory;
    assert_eq!((stranger.name.as_str(), stranger.parent_group_uuid), ("g", None));
    assert!(site.engine.delete_snapshots(&DeleteSnapshots::one(members(&group)[0]))?.is_success());
    assert_eq!(site.engine.group(stranger.uuid)?, stranger);
    assert_eq!(site.engine.group_tree(other)?.len(), 1);
    site.assert_sound()
}
