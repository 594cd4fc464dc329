//! Thinning out groups: what a retention keeps stays and reads as before, and the rest goes in one commit.

use crate::support::{
    Home, Machine, Made, Outcome, assert_sound, fill, make_machine, on_memory_and_disk, take,
};
use crate::support::{read_snapshot, read_volume};
use snapgroup::query::Query;
use snapgroup::{Among, CreateGroup, Engine, KeptBy, Kind, Retention, RevertGroup, Thin, Uuid};

on_memory_and_disk! {
    what_is_kept_reads_as_before_and_the_rest_is_gone
    a_group_of_which_a_member_is_held_stays
    only_what_nobody_asked_for_is_thinned_out
    a_plan_that_the_pool_has_left_behind_is_refused
}

fn keeping(last: u32) -> Retention {
    Retention { last, ..Retention::default() }
}

/// Groups one after the other, with a write before each.
fn take_all(engine: &Engine, vm: &Machine, names: &[&str]) -> Made<Vec<Uuid>> {
    let mut taken = Vec::new();
    for (index, name) in names.iter().enumerate() {
        for disk in &vm.disks {
            fill(&engine.open_volume(*disk)?, index as u64 * 10_000, 30_000, u8::try_from(index + 1)?)?;
        }
        taken.push(take(engine, vm, name)?.uuid);
    }
    Ok(taken)
}

fn names(engine: &Engine) -> Made<Vec<String>> {
    let mut names: Vec<String> =
        engine.query_groups(&Query::all())?.items.into_iter().map(|group| group.name).collect();
    names.sort();
    Ok(names)
}

fn what_is_kept_reads_as_before_and_the_rest_is_gone(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let groups = take_all(&engine, &vm, &["a", "b", "c", "d"])?;
    let members = |group: &Uuid| -> Made<Vec<Vec<u8>>> {
        let refs = engine.group(*group)?.volume_snapshot_refs;
        refs.iter().map(|member| read_snapshot(&engine, member.volume_snapshot_uuid)).collect()
    };
    let before = (members(&groups[2])?, members(&groups[3])?, read_volume(&engine, vm.root())?);
    let plan = engine.plan_retention(&Thin::new(vm.uuid, keeping(2)))?;
    let reasons: Vec<&[KeptBy]> = plan.groups.iter().map(|group| group.kept_by.as_slice()).collect();
    assert_eq!(reasons, [&[][..], &[], &[KeptBy::Last], &[KeptBy::Last]]);
    assert_eq!(plan.going().map(|group| group.uuid).collect::<Vec<_>>(), groups[..2]);

    let deleted = engine.run(&plan)?;
    assert!(deleted.is_success());
    assert_eq!((deleted.results.len(), deleted.groups_removed.len()), (4, 2));
    assert_eq!(names(&engine)?, ["c", "d"]);
    assert!((members(&groups[2])?, members(&groups[3])?, read_volume(&engine, vm.root())?) == before);
    assert_sound(&engine)?;

    // There is nothing more to do, and doing it does nothing.
    let again = engine.plan_retention(&Thin::new(vm.uuid, keeping(2)))?;
    assert_eq!((again.going().count(), again.deletion.as_ref()), (0, None));
    assert!(engine.run(&again)?.results.is_empty());
    Ok(())
}

fn a_group_of_which_a_member_is_held_stays(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let groups = take_all(&engine, &vm, &["a", "b", "c"])?;
    engine.hold(engine.group(groups[0])?.volume_snapshot_refs[1].volume_snapshot_uuid, "auditor")?;
    let plan = engine.plan_retention(&Thin::new(vm.uuid, keeping(1)))?;
    assert_eq!(plan.groups[0].kept_by, [KeptBy::Hold]);
    assert!(engine.run(&plan)?.is_success());
    assert_eq!(names(&engine)?, ["a", "c"]);
    assert_sound(&engine)
}

fn only_what_nobody_asked_for_is_thinned_out(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let mine = take(&engine, &vm, "mine")?.uuid;
    let by_clock = CreateGroup { system_tags: vec![Among::AUTOMATIC.to_owned()], ..vm.group("nightly") };
    engine.create_group(&by_clock)?;
    engine.revert_group(&RevertGroup::new(mine).keeping())?;
    let keep = Retention { among: Among::Automatic, ..keeping(1) };
    let plan = engine.plan_retention(&Thin::new(vm.uuid, keep))?;
    let told: Vec<_> = plan.groups.iter().map(|group| group.kept_by.clone()).collect();
    assert_eq!(told, [vec![KeptBy::NotAmong], vec![], vec![KeptBy::Last]]);
    assert!(engine.run(&plan)?.is_success());
    assert_eq!(names(&engine)?.len(), 2);
    assert!(names(&engine)?.contains(&"mine".to_owned()));
    assert_sound(&engine)
}

fn a_plan_that_the_pool_has_left_behind_is_refused(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    take_all(&engine, &vm, &["a", "b"])?;
    let (some, none) = (
        engine.plan_retention(&Thin::new(vm.uuid, keeping(1)))?,
        engine.plan_retention(&Thin::new(vm.uuid, Retention::default()))?,
    );
    take(&engine, &vm, "c")?;
    for plan in [some, none] {
        let Err(error) = engine.run(&plan) else { panic!("a plan of another pool was run") };
        assert_eq!(error.kind(), Kind::Refused);
    }
    assert_eq!(names(&engine)?, ["a", "b", "c"]);
    Ok(())
}
