//! How long chains may get: as the pool says, or the volume for itself.

use crate::support::{Home, Made, Outcome, assert_sound, fill, make_machine, on_every_store, read_volume};
use snapgroup::query::Query;
use snapgroup::{
    ByteCount, ChainCap, ChainFull, CreateGroup, CreateSnapshot, CreateVolume, DeleteSnapshots, Engine,
    Error, Refusal, RevertVolume, UpdateVolume, Uuid, When,
};

on_every_store! {
    a_volume_has_a_longest_chain_of_its_own
    each_way_out_of_a_full_chain_goes_by_the_cap_of_the_volume
    room_is_made_for_the_members_of_a_group_alone_and_for_no_copy
    what_a_merge_moves_into_a_head_counts_for_the_quota_of_a_plan
    what_cannot_be_merged_makes_no_room
    a_plan_that_makes_room_is_run_for_the_group_that_it_names
    a_cap_can_be_changed_and_is_remembered
    a_clone_may_be_longer_than_the_pool_says
    a_cap_is_part_of_the_wish
}

fn disk(engine: &Engine, chain_max: Option<u32>) -> Made<Uuid> {
    let wish = CreateVolume { chain_max, ..CreateVolume::new("disk", ByteCount::kib(256)) };
    Ok(engine.create_volume(&wish)?.uuid)
}

fn capped(layers: u32) -> UpdateVolume {
    UpdateVolume { chain_max: Some(ChainCap::Layers(layers)), ..UpdateVolume::default() }
}

/// Takes snapshots until one is refused; answers how many, and the cap that was named.
fn taken_until_full(engine: &Engine, volume: Uuid) -> Made<(usize, u32)> {
    for count in 0..20 {
        match engine.create_snapshot(&CreateSnapshot::new(volume, format!("s{count}"))) {
            Ok(_) => {}
            Err(Error::Refused(Refusal::ChainTooLong { cap, .. })) => return Ok((count, cap)),
            Err(error) => return Err(error.into()),
        }
    }
    Err("no snapshot was refused".into())
}

fn a_volume_has_a_longest_chain_of_its_own(home: &Home) -> Outcome {
    let engine = home.open_with(|options| {
        (options.chain_max, options.chain_full) = (4, ChainFull::Refuse);
    })?;
    for (chain_max, expected) in [(Some(1), (0, 1)), (Some(2), (1, 2)), (None, (3, 4)), (Some(7), (6, 7))] {
        let volume = disk(&engine, chain_max)?;
        assert_eq!(engine.volume(volume)?.chain_max, chain_max);
        assert_eq!(taken_until_full(&engine, volume)?, expected);
    }
    // In a group and in its plan only the disk refuses that has no room.
    let vm = make_machine(&engine, 2)?;
    engine.update_volume(vm.disks[1], &capped(1))?;
    let plan = engine.plan_create(&vm.group("g"))?;
    let refused: Vec<bool> = plan.members.iter().map(|member| member.refused.is_some()).collect();
    assert_eq!(refused, [false, true]);
    let error = home.refusal(&engine, || engine.create_group(&vm.group("g")))?;
    assert!(matches!(error, Error::Refused(Refusal::ChainTooLong { cap: 1, .. })), "{error}");
    assert_sound(&engine)
}

fn each_way_out_of_a_full_chain_goes_by_the_cap_of_the_volume(home: &Home) -> Outcome {
    let engine = home.open_with(|options| options.chain_full = ChainFull::Full)?;
    let volume = disk(&engine, Some(3))?;
    let mut distances = Vec::new();
    for round in 0..4_u8 {
        fill(&engine.open_volume(volume)?, 0, 5000, round + 1)?;
        distances.push(engine.create_snapshot(&CreateSnapshot::new(volume, "s"))?.distance);
        assert!(engine.chain(volume)?.len() <= 3);
    }
    assert_eq!(distances, [1, 2, 0, 1], "the third one starts a tree");
    engine.close()?;

    let engine = home.open()?;
    let volume = disk(&engine, Some(3))?;
    let mut taken = Vec::new();
    for round in 0..2_u8 {
        fill(&engine.open_volume(volume)?, u64::from(round) * 65_536, 65_536, round + 1)?;
        taken.push(engine.create_snapshot(&CreateSnapshot::new(volume, "s"))?.uuid);
    }
    let wish = DeleteSnapshots { reclaim: When::Later, ..DeleteSnapshots::one(taken[0]) };
    assert!(engine.delete_snapshots(&wish)?.is_success());
    let before = read_volume(&engine, volume)?;
    assert_eq!(engine.chain(volume)?.len(), 3);
    engine.create_snapshot(&CreateSnapshot::new(volume, "the retired layer is merged first"))?;
    assert_eq!(engine.chain(volume)?.len(), 3);
    assert!(read_volume(&engine, volume)? == before);
    assert_sound(&engine)
}

/// Fills the chains of the disks, each with one layer that can be merged; answers the files of these.
fn full_with_a_retired_layer(engine: &Engine, disks: &[Uuid]) -> Made<Vec<String>> {
    let mut files = Vec::new();
    for disk in disks {
        engine.update_volume(*disk, &capped(3))?;
        let mut taken = Vec::new();
        for round in 0..2_u8 {
            fill(&engine.open_volume(*disk)?, u64::from(round) * 65_536, 65_536, round + 1)?;
            taken.push(engine.create_snapshot(&CreateSnapshot::new(*disk, "s"))?.uuid);
        }
        files.push(engine.chain(*disk)?[2].file.clone());
        let wish = DeleteSnapshots { reclaim: When::Later, ..DeleteSnapshots::one(taken[0]) };
        assert!(engine.delete_snapshots(&wish)?.is_success());
    }
    Ok(files)
}

fn room_is_made_for_the_members_of_a_group_alone_and_for_no_copy(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let retired = full_with_a_retired_layer(&engine, &vm.disks)?;
    let holds = |disk: usize| -> Made<bool> {
        let chain = engine.chain(vm.disks[disk])?;
        Ok(chain.iter().any(|layer| layer.file == retired[disk]))
    };
    let wish = CreateGroup { except: vec![vm.disks[1].into()], ..vm.group("one") };
    let plan = engine.plan_create(&wish)?;
    let lengths: Vec<_> = plan.figures.chains.iter().map(|change| (change.before, change.after)).collect();
    assert_eq!((lengths, plan.figures.bytes_pulled.is_zero()), (vec![(3, 3)], false));
    assert_eq!(plan.figures.files_removed, [retired[0].clone()]);
    engine.run(&plan)?;
    assert_eq!((holds(0)?, holds(1)?), (false, true));

    // The other one is copied, which takes no room in its chain.
    let wish = CreateGroup { except: vec![vm.disks[0].into()], ..vm.group("other").in_full() };
    let plan = engine.plan_create(&wish)?;
    assert_eq!((plan.figures.bytes_pulled, plan.figures.chains[0].after), (ByteCount::ZERO, 2));
    engine.run(&plan)?;
    assert!(home.bytes(&retired[1]).is_ok(), "it was merged for nothing");
    assert_sound(&engine)
}

fn what_a_merge_moves_into_a_head_counts_for_the_quota_of_a_plan(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    engine.update_volume(vm.root(), &capped(3))?;
    engine.create_snapshot(&CreateSnapshot::new(vm.root(), "empty"))?;
    fill(&engine.open_volume(vm.root())?, 0, 512 << 10, 1)?;
    let full = engine.create_snapshot(&CreateSnapshot::new(vm.root(), "full"))?.uuid;
    assert!(
        engine
            .delete_snapshots(&DeleteSnapshots { reclaim: When::Later, ..DeleteSnapshots::one(full) })?
            .is_success()
    );
    engine.close()?;
    let engine = home.open_with(|options| options.snapshot_bytes_max = Some(ByteCount::kib(400)))?;
    let plan = engine.plan_create(&vm.group("g"))?;
    assert_eq!(plan.figures.bytes_pulled, ByteCount::kib(512));
    assert_eq!(plan.refused.as_ref().map(|error| error.code.as_str()), Some("ID.1003"), "{plan:?}");
    let Err(error) = engine.run(&plan) else { panic!("more than the quota was taken") };
    assert_eq!(error.code().as_str(), "ID.1003");
    assert_sound(&engine)
}

fn what_cannot_be_merged_makes_no_room(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let retired = full_with_a_retired_layer(&engine, &vm.disks)?.remove(0);
    let head = engine.chain(vm.root())?[0].file.clone();
    let snapshot = engine.query_snapshots(&Query::all())?.items[0].uuid;
    engine.revert_volume(&RevertVolume { reclaim: When::Later, ..RevertVolume::to(snapshot) })?;
    let bytes = home.bytes(&retired)?;
    home.remove(&retired)?;
    let plan = engine.plan_create(&vm.group("g"))?;
    assert!(!plan.is_possible());
    assert_eq!(plan.figures.files_removed, Vec::<String>::new());
    assert!(engine.run(&plan).is_err() && home.bytes(&head).is_ok(), "a merge that failed has swept");
    home.put(&retired, &bytes)?;
    engine.create_group(&vm.group("g"))?;
    assert!(home.bytes(&head).is_err() && home.bytes(&retired).is_err());
    assert_sound(&engine)
}

fn a_plan_that_makes_room_is_run_for_the_group_that_it_names(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    full_with_a_retired_layer(&engine, &vm.disks[..1])?;
    let before = read_volume(&engine, vm.root())?;
    let mut plan = engine.plan_create(&vm.group("g"))?;
    assert!(plan.is_possible());
    // As if a disk had come between.
    plan.members.pop();
    let Err(Error::Refused(Refusal::Stale { .. })) = engine.run(&plan) else {
        panic!("another group was taken")
    };
    assert!(engine.query_groups(&Query::all())?.items.is_empty());
    assert!(read_volume(&engine, vm.root())? == before);
    engine.create_group(&vm.group("g"))?;
    assert_sound(&engine)
}

fn a_cap_can_be_changed_and_is_remembered(home: &Home) -> Outcome {
    let refuse = |options: &mut snapgroup::Options| options.chain_full = ChainFull::Refuse;
    let engine = home.open_with(refuse)?;
    let volume = disk(&engine, None)?;
    for name in ["one", "two", "three"] {
        engine.create_snapshot(&CreateSnapshot::new(volume, name))?;
    }
    let shown = engine.update_volume(volume, &capped(2))?;
    assert_eq!(shown.chain_max, Some(2));
    assert_eq!(taken_until_full(&engine, volume)?, (0, 2), "what is longer already gets no longer");
    engine.close()?;

    let engine = home.open_with(refuse)?;
    let shown = engine.volume(volume)?;
    assert_eq!(serde_json::to_value(&shown)?["chainMax"], 2);
    assert_eq!(engine.update_volume(volume, &capped(2))?, shown, "nothing has changed, the date included");
    engine.update_volume(volume, &capped(5))?;
    assert_eq!(taken_until_full(&engine, volume)?, (1, 5));
    let of_pool = UpdateVolume {
        name: Some("renamed".into()),
        description: Some("a disk".into()),
        chain_max: Some(ChainCap::OfPool),
    };
    let shown = engine.update_volume(volume, &of_pool)?;
    assert_eq!((shown.name.as_str(), shown.description.as_deref()), ("renamed", Some("a disk")));
    assert!(serde_json::to_value(&shown)?.get("chainMax").is_none());
    engine.create_snapshot(&CreateSnapshot::new(volume, "five"))?;

    for wrong in [capped(0), UpdateVolume { name: Some(String::new()), ..UpdateVolume::default() }] {
        let error = home.refusal(&engine, || engine.update_volume(volume, &wrong))?;
        assert_eq!(error.code().as_str(), "SYS.1007");
    }
    let wish = CreateVolume { chain_max: Some(0), ..CreateVolume::new("none", ByteCount::kib(64)) };
    assert_eq!(home.refusal(&engine, || engine.create_volume(&wish))?.code().as_str(), "SYS.1007");
    let nobody = Uuid::from_u128(5);
    assert_eq!(
        home.refusal(&engine, || engine.update_volume(nobody, &capped(2)))?.code().as_str(),
        "SYS.1003"
    );
    assert_sound(&engine)
}

fn a_clone_may_be_longer_than_the_pool_says(home: &Home) -> Outcome {
    let engine = home.open_with(|options| options.chain_max = 2)?;
    let volume = disk(&engine, Some(4))?;
    engine.create_snapshot(&CreateSnapshot::new(volume, "one"))?;
    let second = engine.create_snapshot(&CreateSnapshot::new(volume, "two"))?.uuid;
    let wish = CreateVolume::of_snapshot("clone", second);
    let error = home.refusal(&engine, || engine.create_volume(&wish))?;
    assert!(matches!(error, Error::Refused(Refusal::ChainTooLong { length: 3, cap: 2, .. })), "{error}");
    let clone = engine.create_volume(&CreateVolume { chain_max: Some(3), ..wish })?.uuid;
    assert_eq!(engine.chain(clone)?.len(), 3);
    assert_sound(&engine)
}

fn a_cap_is_part_of_the_wish(home: &Home) -> Outcome {
    let engine = home.open()?;
    let resource_uuid = Some(Uuid::from_u128(80).into());
    let wish = CreateVolume { resource_uuid, ..CreateVolume::new("disk", ByteCount::kib(64)) };
    let capped = CreateVolume { chain_max: Some(9), ..wish.clone() };
    let made = engine.create_volume(&capped)?;
    assert_eq!(engine.create_volume(&capped)?, made);
    let error = home.refusal(&engine, || engine.create_volume(&wish))?;
    assert!(matches!(error, Error::Refused(Refusal::OtherWish { .. })), "{error}");
    Ok(())
}
