//! The acceptance cases of the platform whose API this crate carries over, each as it is here.
//!
//! Every test says in its comment whether it is as on the platform, or where it differs. `suite` is another binary, which
//! runs its tests on every kind of store.
//!
//! Integration cases of the platform:
//!
//! | case | test, or why there is none |
//! |---|---|
//! | BatchDeleteVolumeSnapshotCase | `full`: snapshots_of_a_tree_that_is_not_current_are_deleted_without_a_merge; `deletion`: a_batch_of_ancestors_and_descendants_deletes_each_once, deleting_a_side_branch_merges_nothing_and_keeps_the_rest, deleting_all_leaves_none_and_the_disk_alone_with_its_data, a_failure_shows_in_the_lines_of_those_that_were_asked_for, a_batch_may_span_volumes_and_name_what_is_gone, a_merge_that_fails_is_told_and_made_up_for |
//! | ConcurrentlySnapshotCase | `deletion`: a_hundred_snapshots_deleted_by_many_threads_are_gone_and_the_disk_keeps_its_data |
//! | CreateSnapshotFailureCase | `snapshots`: a_failed_snapshot_leaves_the_earlier_ones_the_latest_mark_and_no_file |
//! | CreateSnapshotOnRootVolumeCase, CreateSnapshotOnDataVolumeCase | `snapshots`: five_snapshots_have_the_distances_one_to_five_in_one_tree, a_detached_data_volume_is_snapshotted_like_any_other; `deletion`: deleting_the_fourth_of_five_takes_the_fifth_along |
//! | CreateSnapshotOnPrimaryStorageDetachedCase | no primary storages: a pool is there as long as it is open |
//! | OperateSnapShotWithNormalAccountCase | `snapshots`: the_quota_is_on_snapshots_and_a_deletion_makes_room; no accounts |
//! | ReimageVmSaveSnapshotCase | no reimage; the nearest is a revert that keeps the state: `reverts` |
//! | RevertVolumeFromSnapshotCase | `reverts`: a_snapshot_after_a_revert_is_a_branch_of_the_same_tree; no trash |
//! | RevertVolumeFromSnapshot2Case | `reverts`: after_a_revert_all_snapshots_can_be_deleted_at_once; no record of locations |
//! | SnapshotMaxIncrementalCase | `full`: with_a_maximum_of_two_the_third_snapshot_is_full_and_begins_a_tree_at_distance_zero, deleting_the_latest_moves_the_mark_and_deleting_the_full_root_leaves_no_current_tree, a_hundred_snapshots_make_as_many_trees_as_fit_and_all_can_be_deleted, a_revert_leads_across_trees_and_the_next_snapshot_goes_on_there |
//! | PerVolumeSnapshotMaxNumCase | `full`: the_maximum_of_a_volume_overrides_that_of_the_pool |
//! | SnapshotProtectorCase | `deletion`: a_snapshot_whose_file_is_not_as_it_was_refuses_and_enforcing_says_so |
//! | UpdataSnapshotCase | `snapshots`: a_snapshot_is_renamed_and_what_is_not_given_stays |
//! | VolumeSnapshotDeletionCase | no primary storages |
//! | CreateDataVolumeSnapshotCase | `snapshots`: a_failed_snapshot_leaves_the_earlier_ones_the_latest_mark_and_no_file; no capacities |
//! | CreateSnapshotCase (capacity) | no capacities |
//! | GetVolumeSnapshotSizeCase | no such call: what a file takes up is asked for each time, `Engine::chain` |
//! | ReverCephVolumeWithoutSnapshotCase, CephVolumeSnapshotCase | `reverts`: the_state_before_a_revert_can_be_kept_as_a_snapshot; no Ceph |
//! | VolumeSnapshotOperationLongJobCase | no jobs: `suite` a_reclaim_in_small_steps_ends_and_survives_reopening |
//! | MigrateVmAfterCreateSnapshotCase | no migration |
//! | LocalStorageDisablePrimaryStorageDeleteSnapshotCase, …UseSnapshotCase | no primary storages |
//! | VFSCase | the simulated store: `storage_contract` |
//! | CreateSnapshotRollbackAfterDataPlaneSuccessCase | no extensions, and one commit decides: `suite` a_snapshot_is_there_as_a_whole_or_not_at_all |
//! | UndoSnapshotCreationDeleteBitsFailureCase | `deletion`: undoing_a_snapshot_succeeds_although_the_old_file_stays_and_the_file_is_owed |
//! | VolumeSnapshotCase | no schedules |
//!
//! Unit cases of the platform, TestSnapshotOnKvm and its numbers:
//!
//! | case | test, or why there is none |
//! |---|---|
//! | plain, 1 | `snapshots`: five_snapshots_have_the_distances_one_to_five_in_one_tree, a_volume_without_snapshots_has_no_tree |
//! | 2 | `reverts`: a_snapshot_after_a_revert_is_a_branch_of_the_same_tree |
//! | 3, 4, 6 | `full`: with_a_maximum_of_two_the_third_snapshot_is_full_and_begins_a_tree_at_distance_zero, snapshots_of_a_tree_that_is_not_current_are_deleted_without_a_merge, deleting_the_latest_moves_the_mark_and_deleting_the_full_root_leaves_no_current_tree |
//! | 5 | `deletion`: deleting_all_leaves_none_and_the_disk_alone_with_its_data |
//! | 7 | `snapshots`: a_failed_snapshot_leaves_the_earlier_ones_the_latest_mark_and_no_file |
//! | 8 | `deletion`: deleting_a_side_branch_merges_nothing_and_keeps_the_rest |
//! | 9 | `deletion`: a_hundred_snapshots_deleted_by_many_threads_are_gone_and_the_disk_keeps_its_data |
//! | 10 | `deletion`: deleting_in_the_middle_removes_the_descendants_and_merges_into_the_disk_once |
//! | 11-19, 26, 27, 41, 43, 44 | no backup storage; `Engine::export` writes a snapshot to a file |
//! | 20-25, 45-47 | `snapshots`: a_volume_made_of_a_snapshot_begins_as_it_and_goes_its_own_way; no templates |
//! | 28-38 | the tests on `site.disks[1]`; 29 `lifecycle`: a_deleted_data_volume_takes_its_snapshots_along_and_its_groups_stay; 36, 37 `deletion`: what_is_merged_away_leaves_the_disk_on_the_parent |
//! | 39 | `deletion`: deleting_the_root_node_makes_the_disk_stand_alone |
//! | 40 | `reverts`: a_revert_across_trees_makes_the_other_tree_current |
//! | 42 | `trees`: two_volumes_have_a_current_tree_each |
//! | 48 | no networks |
//! | 49 | no accounts |
//! | TestGetSnapshotTree | `trees`: a_tree_is_shown_as_nested_nodes |
//! | TestQuerySnapshot… | `suite`: the tests of queries |
//! | TestPolicyForSnapshot… | no accounts |
//!
//! Cases of groups, which follow from the platform's source:
//!
//! | case | test |
//! |---|---|
//! | create on a volume that is no root, on one that is not attached | `groups`: a_group_is_asked_for_by_a_root_volume_that_is_attached |
//! | a volume that is not ready | `groups`: one_disk_that_is_not_ready_keeps_all_from_being_snapshotted |
//! | names, device ids, count, shareable | `groups`: members_are_named_after_group_and_volume_and_a_shareable_disk_is_left_out |
//! | quota | `groups`: the_quota_counts_all_disks_of_a_group_at_once |
//! | failure on volume k | `groups`: a_group_that_fails_on_any_disk_leaves_no_member_no_file_and_every_latest_mark |
//! | unknown group | `groups`: deleting_an_unknown_group_is_a_success_without_lines |
//! | members with children | `groups`: deleting_a_group_with_its_chain_takes_the_later_groups_along, deleting_a_group_alone_keeps_the_later_ones_whole |
//! | when a group goes | `groups`: a_group_goes_with_its_last_member_and_not_with_that_of_the_root_volume |
//! | availability | `groups`: all_three_reasons_come_at_once_one_in_each_line |
//! | ungroup | `groups`: ungrouping_keeps_the_snapshots_and_they_are_in_no_group |
//! | revert, with a group kept, then a branch | `reverts`: a_group_revert_makes_new_tops_on_all_members, the_state_before_a_group_revert_can_be_kept_as_a_group, a_group_after_a_revert_is_a_branch_of_the_group_tree |
//! | Permissive, Enforcing, garbage | `groups`: a_member_that_refuses_keeps_itself_or_all_or_none_of_them, a_delete_mode_that_is_none_is_an_invalid_argument |
//! | update | `groups`: an_update_of_a_group_changes_what_it_gives_and_nothing_else |
//!
//! The life cycle:
//!
//! | what happens | test, or why there is none |
//! |---|---|
//! | a member is deleted | `groups`: a_group_goes_with_its_last_member_and_not_with_that_of_the_root_volume |
//! | a data volume is deleted | `lifecycle`: a_deleted_data_volume_takes_its_snapshots_along_and_its_groups_stay, a_volume_without_snapshots_is_deleted_without_lines, a_snapshot_without_its_volume_is_not_there |
//! | a machine is deleted | `lifecycle`: a_deleted_machine_takes_its_groups_along_and_the_snapshots_stay_deletable |
//! | something was cloned | `lifecycle`: a_volume_that_another_one_was_made_of_stays, a_snapshot_can_be_deleted_once_the_clone_of_it_is_gone |
//! | detach, re-attach | `lifecycle`: a_disk_that_comes_back_under_another_device_id_is_back; `suite` a_detached_volume_is_named_until_it_is_back |
//! | attached to another machine | `lifecycle`: a_disk_at_another_machine_is_in_the_groups_of_that_one |
//! | a new disk | `lifecycle`: a_new_disk_makes_older_groups_unavailable_until_it_is_detached |
//! | memory groups, boot volume | memory volumes are looked at in the binary `suite`; no switch of roots |
//! | owner | no accounts |
//! | flatten, overwrite | no such call; the nearest is `deletion`: deleting_the_root_node_makes_the_disk_stand_alone |
//! | lastOpDate | `lifecycle`: the_last_change_of_a_group_is_that_of_its_members_too |
//! | events | a listener is told of every change: in the binary `suite` |
//! | names | `snapshots`: names_may_be_the_same_and_of_any_characters |
//! | trees: one current at most, one latest each | `trees`: all of them; every small one in the binary `trees` |

mod deletion;
mod full;
mod groups;
mod lifecycle;
mod reverts;
mod snapshots;
mod support;
mod trees;

/// Every test of this binary, and those of `suite` that the table names.
const SOURCES: [&str; 12] = [
    include_str!("deletion.rs"),
    include_str!("full.rs"),
    include_str!("groups.rs"),
    include_str!("lifecycle.rs"),
    include_str!("reverts.rs"),
    include_str!("snapshots.rs"),
    include_str!("trees.rs"),
    include_str!("../suite/availability.rs"),
    include_str!("../suite/delete.rs"),
    include_str!("../suite/faults.rs"),
    include_str!("../suite/refusals.rs"),
    include_str!("../suite/snapshots.rs"),
];

#[test]
fn the_tables_name_tests_that_there_are() {
    let rows = include_str!("main.rs").lines().filter(|line| line.starts_with("//! |"));
    let words =
        rows.flat_map(|row| row.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_'));
    let names: Vec<&str> = words.filter(|word| word.matches('_').count() > 2).collect();
    assert!(names.len() > 60, "{} names", names.len());
    for name in names {
        let there = SOURCES.iter().any(|source| source.contains(&format!("fn {name}(")));
        assert!(there, "no test is called {name}");
    }
}
