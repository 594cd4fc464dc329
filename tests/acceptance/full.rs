//! Chains that are full: the next snapshot is a full one and begins a tree. The platform counts distances, and lets a
//! later tree be one longer than the first (`n` snapshots make `(n + 1 + max) / (max + 1)` trees); here the layers of the
//! chain are counted, the head's too, and every tree is as long as the first.

use crate::support::{Made, Outcome, Site, uuids};
use snapgroup::inventory::SnapshotInventory;
use snapgroup::{
    ChainCap, ChainFull, CreateSnapshot, DeleteSnapshots, Direction, RevertVolume, UpdateVolume,
};

/// A pool in which `max` snapshots fit into a tree.
fn site(max: u32) -> Made<Site> {
    Site::with(1, |options| (options.chain_max, options.chain_full) = (max + 1, ChainFull::Full))
}

fn distances(taken: &[SnapshotInventory]) -> Vec<u32> {
    taken.iter().map(|snapshot| snapshot.distance).collect()
}

/// As on the platform.
#[test]
fn with_a_maximum_of_two_the_third_snapshot_is_full_and_begins_a_tree_at_distance_zero() -> Outcome {
    let site = site(2)?;
    let taken = site.snapshots(site.root(), 1, 4)?;
    assert_eq!(distances(&taken), [1, 2, 0, 1]);
    assert_eq!((taken[2].parent_uuid, taken[3].parent_uuid), (None, Some(taken[2].uuid)));
    assert_ne!(taken[2].tree_uuid, taken[1].tree_uuid);
    let current: Vec<bool> = site.trees()?.iter().map(|tree| tree.current).collect();
    assert_eq!(current, [false, true]);
    // Each tree keeps its own latest one.
    assert_eq!(site.latest()?, [taken[1].uuid, taken[3].uuid]);
    let bottom = site.engine.chain(site.root())?.pop().ok_or("no chain")?;
    assert_eq!((bottom.snapshot.map(|named| named.uuid), bottom.backing_label), (Some(taken[2].uuid), None));
    for (byte, snapshot) in (1..).zip(&taken) {
        assert_eq!(site.read_snapshot(snapshot.uuid)?, byte);
    }
    site.assert_sound()
}

/// As on the platform, where a tag of the volume says so.
#[test]
fn the_maximum_of_a_volume_overrides_that_of_the_pool() -> Outcome {
    let site = site(5)?;
    let told = |chain_max| UpdateVolume { chain_max: Some(chain_max), ..UpdateVolume::default() };
    site.engine.update_volume(site.root(), &told(ChainCap::Layers(3)))?;
    let taken = site.snapshots(site.root(), 1, 4)?;
    assert_eq!(distances(&taken), [1, 2, 0, 1]);
    site.engine.update_volume(site.root(), &told(ChainCap::OfPool))?;
    assert_eq!(distances(&site.snapshots(site.root(), 5, 4)?), [2, 3, 4, 0]);
    site.assert_sound()
}

/// The platform has 34 trees of 100 snapshots with a maximum of two, this crate 50.
#[test]
fn a_hundred_snapshots_make_as_many_trees_as_fit_and_all_can_be_deleted() -> Outcome {
    let site = site(2)?;
    let taken = site.snapshots(site.root(), 1, 100)?;
    assert_eq!(site.trees()?.len(), 50);
    assert!(taken.iter().all(|snapshot| snapshot.distance <= 2));
    assert_eq!((site.read_snapshot(taken[0].uuid)?, site.read_snapshot(taken[98].uuid)?), (1, 99));
    assert!(site.delete(&uuids(&taken))?.is_success());
    assert_eq!((site.count()?, site.trees()?.len(), site.read(site.root())?), (0, 0, 100));
    site.assert_sound()
}

/// As on the platform, where the one merge is a pull.
#[test]
fn deleting_the_latest_moves_the_mark_and_deleting_the_full_root_leaves_no_current_tree() -> Outcome {
    let site = site(2)?;
    let taken = site.snapshots(site.root(), 1, 4)?;
    let pull =
        |uuid| DeleteSnapshots { direction: Direction::Pull, ..DeleteSnapshots::as_the_api_does([uuid]) };
    assert!(site.engine.delete_snapshots(&pull(taken[3].uuid))?.is_success());
    assert_eq!(site.latest()?, [taken[1].uuid, taken[2].uuid]);
    assert!(site.engine.delete_snapshots(&pull(taken[2].uuid))?.is_success());
    assert_eq!((site.trees()?.len(), site.engine.volume(site.root())?.current_tree_uuid), (1, None));
    assert_eq!((site.engine.chain(site.root())?.len(), site.read(site.root())?), (1, 4));
    let next = site.snapshot(site.root(), "next")?;
    assert_eq!((next.parent_uuid, next.distance), (None, 0));
    site.assert_sound()
}

/// As on the platform.
#[test]
fn snapshots_of_a_tree_that_is_not_current_are_deleted_without_a_merge() -> Outcome {
    let site = site(4)?;
    let taken = site.snapshots(site.root(), 1, 22)?;
    let chain = site.engine.chain(site.root())?;
    let deleted = site.delete(&[taken[1].uuid, taken[6].uuid])?;
    assert!(deleted.is_success());
    assert_eq!(deleted.reclaimed.bytes_copied(), snapgroup::ByteCount::ZERO);
    assert_eq!((site.count()?, site.engine.chain(site.root())?), (22 - 3 - 2, chain));
    let left: Vec<u32> = distances(&site.engine.query_snapshots(&snapgroup::query::Query::default())?.items);
    assert_eq!(left[..3], [1, 0, 1]);
    assert!(site.delete(&uuids(&taken))?.is_success());
    assert_eq!((site.count()?, site.read(site.root())?), (0, 22));
    site.assert_sound()
}

/// As on the platform.
#[test]
fn a_revert_leads_across_trees_and_the_next_snapshot_goes_on_there() -> Outcome {
    let site = site(2)?;
    let taken = site.snapshots(site.root(), 1, 5)?;
    assert_eq!(distances(&taken), [1, 2, 0, 1, 0]);
    site.engine.revert_volume(&RevertVolume::to(taken[0].uuid))?;
    assert_eq!(site.engine.volume(site.root())?.current_tree_uuid, Some(taken[0].tree_uuid));
    let next = site.snapshot(site.root(), "next")?;
    assert_eq!((next.parent_uuid, next.distance, site.read(site.root())?), (Some(taken[0].uuid), 2, 1));
    let full = site.snapshot(site.root(), "full")?;
    assert_eq!((full.parent_uuid, full.distance, site.trees()?.len()), (None, 0, 4));
    site.assert_sound()
}

/// The first snapshot of a disk is the platform's distance 1, full or not.
#[test]
fn a_first_snapshot_that_is_asked_for_in_full_has_distance_one() -> Outcome {
    let site = Site::new(1)?;
    let first = site.engine.create_snapshot(&CreateSnapshot::new(site.root(), "first").in_full())?;
    let second = site.engine.create_snapshot(&CreateSnapshot::new(site.root(), "second").in_full())?;
    assert_eq!((first.distance, second.distance, second.parent_uuid), (1, 0, None));
    site.assert_sound()
}
