//! What trees look like: parents, distances, which one is current, what is latest.

use crate::support::{Outcome, Site, uuids};
use snapgroup::{DeleteSnapshots, RevertVolume};

/// As on the platform.
#[test]
fn a_tree_is_shown_as_nested_nodes() -> Outcome {
    let site = Site::new(1)?;
    let taken = site.snapshots(site.root(), 1, 3)?;
    site.engine.revert_volume(&RevertVolume::to(taken[0].uuid))?;
    let branch = site.snapshot(site.root(), "branch")?;
    let shown = serde_json::to_value(&site.trees()?[0])?;
    let uuid = |node: &serde_json::Value| node["inventory"]["uuid"].as_str().map(str::to_owned);
    let text = |snapshot: snapgroup::Uuid| Some(snapshot.simple().to_string());
    let root = &shown["tree"];
    assert_eq!(uuid(root), text(taken[0].uuid));
    assert_eq!(root["children"].as_array().map(Vec::len), Some(2));
    assert_eq!(uuid(&root["children"][0]), text(taken[1].uuid));
    assert_eq!(uuid(&root["children"][0]["children"][0]), text(taken[2].uuid));
    assert_eq!(uuid(&root["children"][1]), text(branch.uuid));
    assert_eq!(root["children"][1]["parentUuid"].as_str().map(str::to_owned), text(taken[0].uuid));
    Ok(())
}

/// As on the platform.
#[test]
fn two_volumes_have_a_current_tree_each() -> Outcome {
    let site = Site::new(2)?;
    let (root, data) = (site.snapshots(site.disks[0], 1, 2)?, site.snapshots(site.disks[1], 5, 3)?);
    let trees = site.trees()?;
    assert_eq!(
        trees.iter().map(|tree| (tree.volume_uuid, tree.current)).collect::<Vec<_>>(),
        [(site.disks[0], true), (site.disks[1], true)]
    );
    assert_eq!(site.latest()?, [root[1].uuid, data[2].uuid]);
    Ok(())
}

/// As on the platform since single snapshots can be deleted there: each child of the root begins a tree.
#[test]
fn without_its_root_a_tree_falls_apart_and_the_part_with_the_head_is_current() -> Outcome {
    let site = Site::new(1)?;
    let taken = site.snapshots(site.root(), 1, 2)?;
    site.engine.revert_volume(&RevertVolume::to(taken[0].uuid))?;
    let branch = site.snapshots(site.root(), 3, 2)?;
    assert!(site.engine.delete_snapshots(&DeleteSnapshots::one(taken[0].uuid))?.is_success());
    let trees = site.trees()?;
    assert_eq!(trees.len(), 2);
    let [second, third, fourth] =
        [taken[1].uuid, branch[0].uuid, branch[1].uuid].map(|uuid| site.engine.snapshot(uuid));
    let (second, third, fourth) = (second?, third?, fourth?);
    assert_eq!((second.parent_uuid, second.distance), (None, 1));
    assert_eq!((third.parent_uuid, third.distance, fourth.distance), (None, 1, 2));
    assert_ne!(second.tree_uuid, third.tree_uuid);
    assert_eq!(third.tree_uuid, fourth.tree_uuid);
    for tree in trees {
        assert_eq!(tree.current, tree.uuid == third.tree_uuid);
    }
    assert_eq!((site.read(site.root())?, site.read_snapshot(second.uuid)?), (4, 2));
    site.assert_sound()
}

/// As on the platform.
#[test]
fn a_head_whose_root_was_deleted_is_in_no_tree_and_begins_one_with_distance_zero() -> Outcome {
    let site = Site::new(1)?;
    let taken = site.snapshots(site.root(), 1, 2)?;
    site.engine.revert_volume(&RevertVolume::to(taken[0].uuid))?;
    assert!(site.engine.delete_snapshots(&DeleteSnapshots::one(taken[0].uuid))?.is_success());
    assert_eq!(site.engine.volume(site.root())?.current_tree_uuid, None);
    assert!(site.trees()?.iter().all(|tree| !tree.current));
    let next = site.snapshot(site.root(), "next")?;
    assert_eq!((next.parent_uuid, next.distance, next.latest), (None, 0, true));
    // And back into the other one.
    site.engine.revert_volume(&RevertVolume::to(taken[1].uuid))?;
    let trees = site.trees()?;
    assert_eq!(trees.iter().filter(|tree| tree.current).map(|tree| tree.tree.len()).collect::<Vec<_>>(), [1]);
    let after = site.snapshot(site.root(), "after")?;
    assert_eq!(after.parent_uuid, Some(taken[1].uuid));
    assert_eq!((site.trees()?.len(), site.read(site.root())?), (2, 2));
    site.assert_sound()
}

/// As on the platform.
#[test]
fn the_latest_mark_moves_to_the_parent_of_what_is_deleted() -> Outcome {
    let site = Site::new(1)?;
    let taken = site.snapshots(site.root(), 1, 3)?;
    for gone in [2, 1] {
        assert!(site.delete(&[taken[gone].uuid])?.is_success());
        assert_eq!(site.latest()?, [taken[gone - 1].uuid]);
    }
    assert_eq!((site.trees()?.len(), site.read(site.root())?), (1, 3));
    site.assert_sound()
}

/// As on the platform.
#[test]
fn a_chain_deletion_of_the_root_leaves_no_tree() -> Outcome {
    let site = Site::new(1)?;
    let taken = site.snapshots(site.root(), 1, 3)?;
    assert!(site.delete(&uuids(&taken[..1]))?.is_success());
    assert_eq!((site.count()?, site.trees()?.len()), (0, 0));
    assert_eq!(site.engine.volume(site.root())?.current_tree_uuid, None);
    assert_eq!(site.read(site.root())?, 3);
    site.assert_sound()
}
