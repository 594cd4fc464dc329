//! Going back.

use crate::support::{Outcome, Site, members, uuids};
use snapgroup::query::Query;
use snapgroup::{DeleteSnapshots, RevertGroup, RevertVolume};

/// The platform puts the old file into its trash; here it is removed, unless the present state is kept.
#[test]
fn a_snapshot_after_a_revert_is_a_branch_of_the_same_tree() -> Outcome {
    let site = Site::new(1)?;
    let taken = site.snapshots(site.root(), 1, 3)?;
    let reverted = site.engine.revert_volume(&RevertVolume::to(taken[0].uuid))?;
    assert_eq!(reverted.reclaimed.files_removed.len(), 1);
    assert_eq!((site.read(site.root())?, site.latest()?), (1, vec![taken[0].uuid]));
    let after = site.snapshots(site.root(), 4, 2)?;
    assert_eq!((after[0].parent_uuid, after[0].distance), (Some(taken[0].uuid), 2));
    assert_eq!((after[1].parent_uuid, after[1].distance), (Some(after[0].uuid), 3));
    assert_eq!((site.latest()?, site.trees()?.len(), site.count()?), (vec![after[1].uuid], 1, 5));
    site.assert_sound()
}

/// As on the platform, but that it destroys the machine in between and follows a record of where the volume lies.
#[test]
fn after_a_revert_all_snapshots_can_be_deleted_at_once() -> Outcome {
    let site = Site::new(1)?;
    let taken = site.snapshots(site.root(), 1, 2)?;
    site.engine.revert_volume(&RevertVolume::to(taken[0].uuid))?;
    assert!(site.delete(&uuids(&taken))?.is_success());
    site.engine.delete_machine(site.vm)?;
    assert_eq!((site.count()?, site.read(site.root())?), (0, 1));
    site.assert_sound()
}

/// As on the platform.
#[test]
fn a_revert_across_trees_makes_the_other_tree_current() -> Outcome {
    let site = Site::new(1)?;
    let taken = site.snapshots(site.root(), 1, 2)?;
    site.engine.revert_volume(&RevertVolume::to(taken[0].uuid))?;
    let branch = site.snapshots(site.root(), 3, 2)?;
    // Without the root there are two trees.
    assert!(site.engine.delete_snapshots(&DeleteSnapshots::one(taken[0].uuid))?.is_success());
    for (to, byte) in [(taken[1].uuid, 2), (branch[0].uuid, 3), (branch[1].uuid, 4)] {
        site.engine.revert_volume(&RevertVolume::to(to))?;
        let target = site.engine.snapshot(to)?;
        assert!(target.latest);
        assert_eq!(site.engine.volume(site.root())?.current_tree_uuid, Some(target.tree_uuid));
        assert_eq!(site.trees()?.iter().filter(|tree| tree.current).count(), 1);
        assert_eq!(site.read(site.root())?, byte);
    }
    site.assert_sound()
}

/// As on the platform where its setting asks for a snapshot before each revert.
#[test]
fn the_state_before_a_revert_can_be_kept_as_a_snapshot() -> Outcome {
    let site = Site::new(1)?;
    let taken = site.snapshots(site.root(), 1, 2)?;
    site.write(site.root(), 3)?;
    let reverted = site.engine.revert_volume(&RevertVolume::to(taken[0].uuid).keeping())?;
    let [kept] = &reverted.kept[..] else { panic!("{reverted:#?}") };
    assert!(
        kept.name.starts_with(&format!("revert-volume-point-{}-", site.root().simple())),
        "{}",
        kept.name
    );
    assert_eq!((kept.parent_uuid, kept.distance), (Some(taken[1].uuid), 3));
    assert_eq!((site.read(site.root())?, site.read_snapshot(kept.uuid)?), (1, 3));
    assert!(reverted.reclaimed.files_removed.is_empty());
    site.assert_sound()
}

/// As on the platform, one by one; here in one commit.
#[test]
fn a_group_revert_makes_new_tops_on_all_members() -> Outcome {
    let site = Site::new(3)?;
    let group = site.group("g", 1)?;
    site.group("later", 2)?;
    let heads: Vec<String> = site
        .disks
        .iter()
        .map(|disk| Ok(site.engine.volume(disk)?.install_path))
        .collect::<snapgroup::Result<_>>()?;
    let reverted = site.engine.revert_group(&RevertGroup::new(group.uuid))?;
    assert!(reverted.results.iter().all(|line| line.success));
    for ((disk, head), member) in site.disks.iter().zip(heads).zip(members(&group)) {
        assert_ne!(site.engine.volume(disk)?.install_path, head);
        let chain = site.engine.chain(disk)?;
        assert_eq!(chain[1].snapshot.as_ref().map(|named| named.uuid), Some(member));
        assert_eq!(site.read(*disk)?, 1);
    }
    assert_eq!(site.latest()?, members(&group));
    site.assert_sound()
}

/// The platform notes the group before its members are there; here it is there with all of them, or not at all.
#[test]
fn the_state_before_a_group_revert_can_be_kept_as_a_group() -> Outcome {
    let site = Site::new(2)?;
    let group = site.group("g", 1)?;
    site.write(site.disks[1], 5)?;
    let reverted = site.engine.revert_group(&RevertGroup::new(group.uuid).keeping())?;
    let kept = reverted.kept_group.ok_or("nothing was kept")?;
    assert!(kept.name.starts_with(&format!("revert-vm-point-{}-", site.vm.simple())), "{}", kept.name);
    assert_eq!((kept.snapshot_count, members(&kept).len()), (2, 2));
    assert_eq!(site.read_snapshot(members(&kept)[1])?, 5);
    site.engine.revert_group(&RevertGroup::new(kept.uuid))?;
    assert_eq!((site.read(site.disks[0])?, site.read(site.disks[1])?), (1, 5));
    site.assert_sound()
}

/// As on the platform, which guesses a group's parent from those of its members; here it was noted.
#[test]
fn a_group_after_a_revert_is_a_branch_of_the_group_tree() -> Outcome {
    let site = Site::new(2)?;
    let [one, two] = [site.group("one", 1)?, site.group("two", 2)?];
    site.engine.revert_group(&RevertGroup::new(one.uuid))?;
    let three = site.group("three", 3)?;
    let tree = site.engine.group_tree(site.vm)?;
    let shown: Vec<_> = tree.values().map(|node| (node.uuid, node.parent_group_uuid, node.current)).collect();
    let expected =
        [(one.uuid, None, false), (two.uuid, Some(one.uuid), false), (three.uuid, Some(one.uuid), true)];
    assert_eq!(shown, expected);
    for (member, parent) in members(&three).into_iter().zip(members(&one)) {
        assert_eq!(site.engine.snapshot(member)?.parent_uuid, Some(parent));
    }
    assert_eq!(site.engine.query_groups(&Query::default())?.total, 3);
    site.assert_sound()
}
