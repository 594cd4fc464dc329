//! Going back: to a snapshot, to a group, and back again.

use crate::support::{
    Home, Outcome, SIZE, assert_sound, fill, head_of, make_disk, make_machine, on_every_store, read_volume,
    take, volume,
};
use snapgroup::{
    AdoptVolume, ByteCount, CreateGroup, CreateSnapshot, CreateVolume, DeleteGroup, DeleteSnapshots, GroupOf,
    LayerFormat, LowerLayers, Match, Refusal, RevertGroup, RevertVolume, Running, Uuid, VolumeKind, When,
};

on_every_store! {
    a_snapshot_after_a_revert_is_a_branch
    a_machine_goes_back_as_a_whole_and_the_revert_can_be_undone
    an_unavailable_group_is_refused_with_every_reason
    matching_disks_go_back_when_asked
    a_disk_that_is_open_or_runs_elsewhere_stays
    the_size_goes_back_and_the_answer_says_so
    a_plan_is_refused_when_anything_has_happened_since
    a_plan_of_a_group_names_who_refuses
    a_plan_knows_that_a_layer_merges_once_the_old_head_is_gone
    a_request_that_is_out_of_date_or_wrong_merges_nothing
    a_kept_state_can_be_gone_back_to_beside_disks_that_it_lacks
    what_is_kept_is_the_latest_of_the_tree_that_is_left
    what_is_kept_after_the_current_tree_was_deleted_starts_another_one
    a_new_head_has_the_clusters_of_the_layer_that_it_goes_back_to
    a_head_that_is_lost_is_gone_back_from_but_not_kept
    a_volume_goes_back_once_for_one_uuid
    a_repeated_revert_answers_the_lines_of_the_first
    a_uuid_without_anything_to_keep_is_refused
}

fn a_snapshot_after_a_revert_is_a_branch(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let mut taken = Vec::new();
    for index in 1..=3_u8 {
        fill(&engine.open_volume(vm.root())?, 0, 9000, index)?;
        taken.push(engine.create_snapshot(&CreateSnapshot::new(vm.root(), format!("s{index}")))?);
    }
    let reverted = engine.revert_volume(&RevertVolume::to(taken[0].uuid))?;
    assert!(reverted.results[0].success && reverted.owed.is_empty());
    assert_eq!(read_volume(&engine, vm.root())?[..9000], [1; 9000]);
    let fourth = engine.create_snapshot(&CreateSnapshot::new(vm.root(), "s4"))?;
    assert_eq!((fourth.parent_uuid, fourth.distance, fourth.latest), (Some(taken[0].uuid), 2, true));
    assert_eq!(fourth.tree_uuid, taken[0].tree_uuid);
    let fifth = engine.create_snapshot(&CreateSnapshot::new(vm.root(), "s5"))?;
    assert_eq!(fifth.distance, 3);
    assert!(!engine.snapshot(taken[2].uuid)?.latest);
    engine.revert_volume(&RevertVolume::to(taken[2].uuid))?;
    assert_eq!(read_volume(&engine, vm.root())?[..9000], [3; 9000]);
    assert_sound(&engine)
}

fn a_machine_goes_back_as_a_whole_and_the_revert_can_be_undone(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 3)?;
    let write = |byte| -> Outcome {
        vm.disks.iter().try_for_each(|disk| fill(&engine.open_volume(*disk)?, 500, 70_000, byte))
    };
    write(1)?;
    let one = take(&engine, &vm, "one")?;
    write(2)?;
    let two = take(&engine, &vm, "two")?;
    write(3)?;
    let wish = RevertGroup {
        resource_uuid: Some(Uuid::from_u128(77).into()),
        ..RevertGroup::new(one.uuid).keeping()
    };
    let plan = engine.plan_revert(&wish)?;
    assert_eq!((plan.results.len(), plan.figures.files_made), (3, 3));
    let reverted = engine.run(&plan)?;
    assert_eq!(reverted.results.len(), 3);
    let kept = reverted.kept_group.expect("it was asked for");
    assert!(kept.name.starts_with("revert-vm-point-"), "{}", kept.name);
    for (member, disk) in kept.volume_snapshot_refs.iter().zip(&vm.disks) {
        let name = format!("{}-{}", kept.name, engine.volume(*disk)?.name);
        assert_eq!(engine.snapshot(member.volume_snapshot_uuid)?.name, name);
    }
    assert_eq!(kept.parent_group_uuid, Some(two.uuid));
    for disk in &vm.disks {
        assert_eq!(read_volume(&engine, *disk)?[500..70_500], [1; 70_000]);
    }
    assert_eq!(take(&engine, &vm, "branch")?.parent_group_uuid, Some(one.uuid));
    let again = engine.revert_group(&wish)?;
    assert!(again.repeated);
    assert_eq!(again.kept_group.map(|group| group.uuid), Some(kept.uuid));
    assert_eq!(again.results, reverted.results, "the same lines once more");
    engine.revert_group(&RevertGroup::new(kept.uuid))?;
    for disk in &vm.disks {
        assert_eq!(read_volume(&engine, *disk)?[500..70_500], [3; 70_000]);
    }
    assert_sound(&engine)
}

fn an_unavailable_group_is_refused_with_every_reason(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 3)?;
    let group = take(&engine, &vm, "g")?;
    let gone = group.volume_snapshot_refs[1].volume_snapshot_uuid;
    assert!(engine.delete_snapshots(&DeleteSnapshots::one(gone))?.is_success());
    engine.detach_volume(vm.disks[2], vm.uuid)?;
    make_disk(&engine, vm.uuid, &volume("new", VolumeKind::Data))?;
    let error = home.refusal(&engine, || engine.revert_group(&RevertGroup::new(group.uuid)))?;
    assert_eq!(error.code().as_str(), "SYS.1006");
    assert_eq!(error.to_string().lines().count(), 3, "{error}");
    Ok(())
}

fn matching_disks_go_back_when_asked(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    fill(&engine.open_volume(vm.root())?, 0, 600, 1)?;
    let group = take(&engine, &vm, "g")?;
    fill(&engine.open_volume(vm.root())?, 0, 600, 2)?;
    engine.detach_volume(vm.disks[1], vm.uuid)?;
    let wish = RevertGroup { disks: Match::Matching, ..RevertGroup::new(group.uuid) };
    let reverted = engine.revert_group(&wish)?;
    let lines: Vec<bool> = reverted.results.iter().map(|line| line.success).collect();
    assert_eq!(lines, [true, false]);
    assert_eq!(read_volume(&engine, vm.root())?[..600], [1; 600]);
    assert_sound(&engine)
}

fn a_disk_that_is_open_or_runs_elsewhere_stays(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let group = take(&engine, &vm, "g")?;
    let open = engine.open_volume(vm.disks[1])?;
    let error = home.refusal(&engine, || engine.revert_group(&RevertGroup::new(group.uuid)))?;
    assert!(matches!(error, snapgroup::Error::Refused(Refusal::VolumeOpen { .. })), "{error}");
    drop(open);
    engine.set_running(vm.uuid, Running::Elsewhere)?;
    let error = home.refusal(&engine, || engine.revert_group(&RevertGroup::new(group.uuid)))?;
    assert!(matches!(error, snapgroup::Error::Refused(Refusal::RunsElsewhere { .. })), "{error}");
    Ok(())
}

fn the_size_goes_back_and_the_answer_says_so(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let group = take(&engine, &vm, "g")?;
    engine.resize_volume(vm.root(), ByteCount::mib(2))?;
    let reverted = engine.revert_group(&RevertGroup::new(group.uuid).keeping())?;
    let line = &reverted.results[0];
    assert_eq!((line.virtual_size_before, line.virtual_size), (Some(ByteCount::mib(2)), Some(SIZE)));
    assert_eq!(engine.open_volume(vm.root())?.size(), SIZE);
    let undone = engine.revert_group(&RevertGroup::new(reverted.kept_group.expect("kept").uuid))?;
    assert_eq!(undone.results[0].virtual_size, Some(ByteCount::mib(2)));
    assert_sound(&engine)
}

fn a_plan_is_refused_when_anything_has_happened_since(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let group = take(&engine, &vm, "g")?;
    let delete =
        engine.plan_delete(&DeleteSnapshots::one(group.volume_snapshot_refs[0].volume_snapshot_uuid))?;
    let revert = engine.plan_revert(&RevertGroup::new(group.uuid))?;
    let create = engine.plan_create(&vm.group("next"))?;
    assert!(delete.is_possible() && create.is_possible());
    assert_eq!(delete.groups_removed, [group.uuid]);
    take(&engine, &vm, "other")?;
    for error in [
        home.refusal(&engine, || engine.run(&delete))?,
        home.refusal(&engine, || engine.run(&revert))?,
        home.refusal(&engine, || engine.run(&create))?,
    ] {
        assert!(matches!(error, snapgroup::Error::Refused(Refusal::Stale { .. })), "{error}");
    }
    Ok(())
}

fn a_plan_of_a_group_names_who_refuses(home: &Home) -> Outcome {
    let engine = home.open_with(|options| options.chain_max = 2)?;
    let vm = make_machine(&engine, 2)?;
    engine.create_snapshot(&CreateSnapshot::new(vm.disks[1], "s"))?;
    let plan = engine.plan_create(&CreateGroup::new(GroupOf::Machine(vm.uuid.into()), "g"))?;
    let refused: Vec<bool> = plan.members.iter().map(|member| member.refused.is_some()).collect();
    assert_eq!((plan.is_possible(), refused), (false, vec![false, true]));
    // Once the snapshot is gone, its layer makes room.
    let snapshot = engine.query_snapshots(&snapgroup::query::Query::default())?.items[0].uuid;
    assert!(engine.delete_snapshots(&DeleteSnapshots::one(snapshot))?.is_success());
    assert!(take(&engine, &vm, "g").is_ok());
    assert_sound(&engine)
}

fn a_plan_knows_that_a_layer_merges_once_the_old_head_is_gone(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    fill(&engine.open_volume(vm.root())?, 0, 9000, 1)?;
    let [one, two] = ["one", "two"].map(|name| engine.create_snapshot(&CreateSnapshot::new(vm.root(), name)));
    let (one, two) = (one?.uuid, two?.uuid);
    engine.revert_volume(&RevertVolume::to(one))?;
    assert!(
        engine
            .delete_snapshots(&DeleteSnapshots { reclaim: When::Later, ..DeleteSnapshots::one(one) })?
            .is_success()
    );
    let plan = engine.plan_revert(&RevertVolume::to(two))?;
    let told: Vec<_> = plan.figures.chains.iter().map(|change| (change.before, change.after)).collect();
    assert_eq!((told, engine.chain(vm.root())?.len()), (vec![(2, 2)], 2));
    engine.run(&plan)?;
    assert_eq!(engine.chain(vm.root())?.len(), 2);
    assert_eq!(read_volume(&engine, vm.root())?[..9000], [1; 9000]);
    assert_sound(&engine)
}

fn a_request_that_is_out_of_date_or_wrong_merges_nothing(home: &Home) -> Outcome {
    let engine = home.open_with(|options| options.chain_max = 3)?;
    let vm = make_machine(&engine, 1)?;
    let mut taken = Vec::new();
    for index in 1..=2_u8 {
        fill(&engine.open_volume(vm.root())?, u64::from(index) * 100_000, 9000, index)?;
        taken.push(engine.create_snapshot(&CreateSnapshot::new(vm.root(), format!("s{index}")))?.uuid);
    }
    fill(&engine.open_volume(vm.root())?, 300_000, 9000, 3)?;
    let content = read_volume(&engine, vm.root())?;
    let old = engine.plan_create(&vm.group("g"))?;
    assert!(engine.delete_snapshots(&DeleteSnapshots::one(taken[0]))?.is_success());
    let now = engine.plan_create(&vm.group("g"))?;
    assert!(!old.is_possible() && now.is_possible(), "a retired layer makes room");
    let error = home.refusal(&engine, || engine.run(&old))?;
    assert!(matches!(error, snapgroup::Error::Refused(Refusal::Stale { .. })), "{error}");
    engine.hold(taken[1], "somebody")?;
    let error = home.refusal(&engine, || engine.run(&now))?;
    assert!(matches!(error, snapgroup::Error::Refused(Refusal::Stale { .. })), "{error}");
    home.refusal(&engine, || engine.create_group(&vm.group("")))?;
    home.refusal(&engine, || engine.create_snapshot(&CreateSnapshot::new(vm.root(), "")))?;
    assert_eq!(take(&engine, &vm, "g")?.snapshot_count, 1);
    assert_eq!(engine.chain(vm.root())?.len(), 3);
    assert!(read_volume(&engine, vm.root())? == content);
    assert_sound(&engine)
}

fn a_kept_state_can_be_gone_back_to_beside_disks_that_it_lacks(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let wish = CreateGroup { except: vec![vm.disks[1].into()], ..vm.group("root only") };
    let group = engine.create_group(&wish)?.inventory;
    fill(&engine.open_volume(vm.root())?, 0, 600, 2)?;
    let kept = engine.revert_group(&RevertGroup::new(group.uuid).keeping())?.kept_group.expect("kept");
    assert_eq!(kept.volume_snapshot_refs.len(), 1);
    assert!(engine.check_availability([kept.uuid])?[0].available);
    engine.revert_group(&RevertGroup::new(kept.uuid))?;
    assert_eq!(read_volume(&engine, vm.root())?[..600], [2; 600]);
    assert_sound(&engine)
}

fn what_is_kept_is_the_latest_of_the_tree_that_is_left(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let old = engine.create_snapshot(&CreateSnapshot::new(vm.root(), "old"))?;
    let flat = engine.create_snapshot(&CreateSnapshot::new(vm.root(), "flat").in_full())?;
    let reverted = engine.revert_volume(&RevertVolume::to(old.uuid).keeping())?;
    let kept = &reverted.kept[0];
    assert_eq!((kept.parent_uuid, kept.tree_uuid, kept.latest), (Some(flat.uuid), flat.tree_uuid, true));
    assert_eq!((engine.snapshot(flat.uuid)?.latest, engine.snapshot(old.uuid)?.latest), (false, true));
    assert_sound(&engine)
}

/// The first snapshot of a disk has the distance 1, the first one of any later tree 0.
fn what_is_kept_after_the_current_tree_was_deleted_starts_another_one(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let old = engine.create_snapshot(&CreateSnapshot::new(vm.root(), "old"))?;
    let flat = engine.create_snapshot(&CreateSnapshot::new(vm.root(), "flat").in_full())?;
    assert!(engine.delete_snapshots(&DeleteSnapshots::one(flat.uuid))?.is_success());
    let kept = engine.revert_volume(&RevertVolume::to(old.uuid).keeping())?.kept;
    assert_eq!((kept[0].parent_uuid, kept[0].distance, kept[0].latest), (None, 0, true));
    assert!(kept[0].tree_uuid != old.tree_uuid);
    assert_sound(&engine)
}

fn a_new_head_has_the_clusters_of_the_layer_that_it_goes_back_to(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let small = CreateVolume { cluster_bits: Some(12), ..volume("small", VolumeKind::Data) };
    let disk = make_disk(&engine, vm.uuid, &small)?;
    let snapshot = engine.create_snapshot(&CreateSnapshot::new(disk, "s"))?;
    engine.revert_volume(&RevertVolume::to(snapshot.uuid))?;
    // Header bytes 20 to 23: log2 of the size of a cluster (qcow2 specification).
    assert_eq!(home.bytes(&head_of(&engine, disk)?)?[20..24], [0, 0, 0, 12]);
    home.put("base.raw", &[7; 4096])?;
    let raw = AdoptVolume::new("base.raw", LayerFormat::Raw, "raw");
    let raw = engine.adopt_volume(&AdoptVolume { lower: LowerLayers::Snapshots, ..raw })?;
    let base = engine.chain(raw.uuid)?[1].snapshot.clone().ok_or("the file is a snapshot")?;
    engine.revert_volume(&RevertVolume::to(base.uuid))?;
    assert_eq!(home.bytes(&head_of(&engine, raw.uuid)?)?[20..24], [0, 0, 0, 16]);
    assert_eq!(read_volume(&engine, raw.uuid)?, [7; 4096]);
    assert_sound(&engine)
}

fn a_head_that_is_lost_is_gone_back_from_but_not_kept(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    fill(&engine.open_volume(vm.root())?, 0, 600, 1)?;
    let snapshot = engine.create_snapshot(&CreateSnapshot::new(vm.root(), "s"))?.uuid;
    home.remove(&head_of(&engine, vm.root())?)?;
    let error = home.refusal(&engine, || engine.revert_volume(&RevertVolume::to(snapshot).keeping()))?;
    assert!(matches!(error, snapgroup::Error::LayerMissing { .. }), "{error}");
    engine.revert_volume(&RevertVolume::to(snapshot))?;
    assert_eq!(read_volume(&engine, vm.root())?[..600], [1; 600]);
    assert_sound(&engine)
}

fn a_volume_goes_back_once_for_one_uuid(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let snapshot = engine.create_snapshot(&CreateSnapshot::new(vm.root(), "s"))?.uuid;
    let other = engine.create_snapshot(&CreateSnapshot::new(vm.root(), "t"))?.uuid;
    let resource_uuid = Some(Uuid::from_u128(78).into());
    let wish = RevertVolume { resource_uuid, ..RevertVolume::to(snapshot).keeping() };
    let reverted = engine.revert_volume(&wish)?;
    let kept = reverted.kept;
    assert_eq!(kept[0].uuid, Uuid::from_u128(78));
    fill(&engine.open_volume(vm.root())?, 0, 600, 1)?;
    let again = engine.revert_volume(&wish)?;
    assert!(again.repeated);
    assert_eq!((again.kept, again.results), (kept, reverted.results));
    assert_eq!(read_volume(&engine, vm.root())?[..600], [1; 600], "what was written since is there");
    let wish = RevertVolume { snapshot: other.into(), ..wish };
    let error = home.refusal(&engine, || engine.revert_volume(&wish))?;
    assert!(matches!(error, snapgroup::Error::Refused(Refusal::OtherWish { .. })), "{error}");
    assert_sound(&engine)
}

fn a_repeated_revert_answers_the_lines_of_the_first(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 3)?;
    let group = take(&engine, &vm, "g")?;
    let members: Vec<Uuid> =
        group.volume_snapshot_refs.iter().map(|member| member.volume_snapshot_uuid).collect();
    engine.resize_volume(vm.disks[0], ByteCount::mib(3))?;
    engine.detach_volume(vm.disks[1], vm.uuid)?;
    assert!(engine.delete_snapshots(&DeleteSnapshots::one(members[2]))?.is_success());
    let resource_uuid = Some(Uuid::from_u128(81).into());
    let wish =
        RevertGroup { disks: Match::Matching, resource_uuid, ..RevertGroup::new(group.uuid).keeping() };
    let first = engine.revert_group(&wish)?;
    let went: Vec<bool> = first.results.iter().map(|line| line.success).collect();
    assert_eq!(
        (went, first.results[0].virtual_size_before),
        (vec![true, false, false], Some(ByteCount::mib(3)))
    );
    let again = engine.revert_group(&wish)?;
    assert_eq!((again.repeated, &again.results), (true, &first.results));
    // What is not in the books any more is not told.
    assert!(engine.delete_snapshots(&DeleteSnapshots::one(members[0]))?.is_success());
    let later = engine.revert_group(&wish)?;
    assert_eq!((later.results[0].success, later.results[0].virtual_size_before), (true, None));
    assert!(engine.delete_group(&DeleteGroup::new(group.uuid))?.is_success());
    let last = engine.revert_group(&wish)?;
    assert_eq!((last.repeated, last.results), (true, vec![]));
    assert_eq!(last.kept_group.map(|kept| kept.uuid), Some(Uuid::from_u128(81)));
    assert_sound(&engine)
}

fn a_uuid_without_anything_to_keep_is_refused(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let group = take(&engine, &vm, "g")?;
    let resource_uuid = Some(Uuid::from_u128(79).into());
    let wish = RevertGroup { resource_uuid, ..RevertGroup::new(group.uuid) };
    let error = home.refusal(&engine, || engine.revert_group(&wish))?;
    assert_eq!(error.code().as_str(), "SYS.1007");
    Ok(())
}
