//! Taking snapshots.

use crate::support::{Outcome, Site, code, uuids};
use snapgroup::storage::Operation;
use snapgroup::{CreateSnapshot, CreateVolume, UpdateSnapshot};

/// As on the platform.
#[test]
fn five_snapshots_have_the_distances_one_to_five_in_one_tree() -> Outcome {
    let site = Site::new(2)?;
    for disk in [site.disks[0], site.disks[1]] {
        let taken = site.snapshots(disk, 1, 5)?;
        assert_eq!(taken.iter().map(|snapshot| snapshot.distance).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert_eq!(taken[0].parent_uuid, None);
        for pair in taken.windows(2) {
            assert_eq!(pair[1].parent_uuid, Some(pair[0].uuid));
        }
        assert!(taken.iter().all(|snapshot| snapshot.tree_uuid == taken[0].tree_uuid));
        let latest: Vec<bool> = taken
            .iter()
            .map(|snapshot| Ok(site.engine.snapshot(snapshot.uuid)?.latest))
            .collect::<snapgroup::Result<_>>()?;
        assert_eq!(latest, [false, false, false, false, true]);
        assert_eq!(site.engine.volume(disk)?.current_tree_uuid, Some(taken[0].tree_uuid));
    }
    site.assert_sound()
}

/// As on the platform.
#[test]
fn a_detached_data_volume_is_snapshotted_like_any_other() -> Outcome {
    let site = Site::new(2)?;
    let disk = site.disks[1];
    let mut taken = site.snapshots(disk, 1, 2)?;
    site.engine.detach_volume(disk, site.vm)?;
    taken.extend(site.snapshots(disk, 3, 3)?);
    assert_eq!(taken.iter().map(|snapshot| snapshot.distance).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(site.delete(&[taken[3].uuid])?.is_success());
    assert_eq!((site.count()?, site.trees()?.len(), site.read(disk)?), (3, 1, 5));
    site.assert_sound()
}

/// As on the platform; here the files are compared, too.
#[test]
fn a_failed_snapshot_leaves_the_earlier_ones_the_latest_mark_and_no_file() -> Outcome {
    let site = Site::new(1)?;
    let taken = site.snapshots(site.root(), 1, 3)?;
    let (files, latest) = (site.files()?, site.latest()?);
    assert_eq!(latest, [taken[2].uuid]);
    site.fail_next(Operation::Create, 1);
    assert_eq!(code(site.engine.create_snapshot(&CreateSnapshot::new(site.root(), "unlucky"))), "SYS.1016");
    assert_eq!((site.count()?, site.latest()?, site.files()?), (3, latest, files));
    site.write(site.root(), 9)?;
    let next = site.snapshot(site.root(), "next")?;
    assert_eq!((next.parent_uuid, next.distance), (Some(taken[2].uuid), 4));
    site.assert_sound()
}

/// As on the platform, where the first snapshot of a volume begins a tree and the volume has none before.
#[test]
fn a_volume_without_snapshots_has_no_tree() -> Outcome {
    let site = Site::new(1)?;
    assert_eq!((site.engine.volume(site.root())?.current_tree_uuid, site.trees()?.len()), (None, 0));
    let first = site.snapshot(site.root(), "first")?;
    let trees = site.trees()?;
    assert_eq!((trees.len(), trees[0].uuid, trees[0].current), (1, first.tree_uuid, true));
    Ok(())
}

/// As on the platform, but that an empty name is refused here.
#[test]
fn a_snapshot_is_renamed_and_what_is_not_given_stays() -> Outcome {
    let site = Site::new(1)?;
    let uuid = site.snapshot(site.root(), "old")?.uuid;
    let text = |text: &str| Some(text.to_owned());
    let name = UpdateSnapshot { name: text("new"), description: None };
    let description = UpdateSnapshot { name: None, description: text("of monday") };
    site.engine.update_snapshot(uuid, &name)?;
    let shown = site.engine.update_snapshot(uuid, &description)?;
    assert_eq!((shown.name.as_str(), shown.description.as_deref()), ("new", Some("of monday")));
    for (name, description) in
        [(text(""), None), (text(&"n".repeat(256)), None), (None, text(&"d".repeat(2049)))]
    {
        let update = UpdateSnapshot { name, description };
        assert_eq!(code(site.engine.update_snapshot(uuid, &update)), "SYS.1007");
    }
    assert_eq!(site.engine.snapshot(uuid)?, shown);
    Ok(())
}

/// As on the platform, whose quota is the account's; here it is the pool's.
#[test]
fn the_quota_is_on_snapshots_and_a_deletion_makes_room() -> Outcome {
    let site = Site::with(1, |options| options.snapshots_max = Some(5))?;
    let taken = site.snapshots(site.root(), 1, 5)?;
    assert_eq!(code(site.engine.create_snapshot(&CreateSnapshot::new(site.root(), "sixth"))), "ID.1003");
    site.engine.revert_volume(&snapgroup::RevertVolume::to(taken[3].uuid))?;
    assert_eq!(site.latest()?, [taken[3].uuid]);
    assert!(site.delete(&[taken[4].uuid])?.is_success());
    assert_eq!((site.count()?, site.latest()?), (4, vec![taken[3].uuid]));
    let fifth = site.snapshot(site.root(), "fifth")?;
    assert_eq!((fifth.parent_uuid, fifth.distance), (Some(taken[3].uuid), 5));
    site.assert_sound()
}

/// As on the platform, where it is a template first; here the volume reads through the snapshot and copies nothing.
#[test]
fn a_volume_made_of_a_snapshot_begins_as_it_and_goes_its_own_way() -> Outcome {
    let site = Site::new(1)?;
    let taken = site.snapshots(site.root(), 1, 2)?;
    let disk = site.attached(&CreateVolume::of_snapshot("copy", taken[0].uuid))?;
    assert_eq!(site.read(disk)?, 1);
    site.write(disk, 7)?;
    let own = site.snapshot(disk, "own")?;
    assert_eq!((own.parent_uuid, own.distance, own.volume_uuid), (None, 1, disk));
    assert_eq!((site.read(disk)?, site.read_snapshot(taken[0].uuid)?, site.read(site.root())?), (7, 1, 2));
    assert_eq!(site.trees()?.iter().filter(|tree| tree.current).count(), 2);
    site.assert_sound()
}

/// As on the platform: no rule of uniqueness, no class of characters.
#[test]
fn names_may_be_the_same_and_of_any_characters() -> Outcome {
    let site = Site::new(1)?;
    for name in ["a", "a", "../etc/passwd", "ü\u{1F4BE}\"'; --"] {
        let taken = site.snapshot(site.root(), name)?;
        assert_eq!(site.engine.snapshot(taken.uuid)?.name, name);
    }
    let all = uuids(&site.engine.query_snapshots(&snapgroup::query::Query::default())?.items);
    assert_eq!(all.len(), 4);
    site.assert_sound()
}
