//! Queries: by every field, through what is beside a record, sorted and in pages.

use crate::support::{
    Home, Machine, Made, Outcome, START, file_of, fill, make_disk, make_machine, on_every_store, take, told,
    volume,
};
use snapgroup::inventory::{GroupInventory, SnapshotInventory};
use snapgroup::query::{
    Direction, GroupField, MachineField, Query, RefField, SnapshotField, Test, TreeField, Value, VolumeField,
};
use snapgroup::{
    ByteCount, CreateGroup, CreateMachine, CreateSnapshot, CreateVolume, Engine, Error, Kind, Refusal,
    Running, Sharing, UpdateGroup, Uuid, VolumeKind,
};

on_every_store! {
    a_group_is_found_by_every_field
    a_snapshot_is_found_by_every_field
    a_volume_is_found_by_every_field
    a_machine_is_found_by_every_field
    a_tree_is_found_by_every_field
    a_tag_finds_what_has_it
    every_test_answers_what_it_says
    pages_cut_one_sorted_answer_and_the_total_stays
    a_value_of_another_type_is_an_invalid_argument
    what_is_gone_is_not_found_any_more
}

/// A pool with two machines, three groups, and something different in every field.
struct Pool {
    engine: Engine,
    vm: Machine,
    other: Machine,
    groups: Vec<GroupInventory>,
    alone: SnapshotInventory,
}

const TAG: &str = "9ff17180fded31c2b9e4e5751ebcb2ba";

fn pool(home: &Home) -> Made<Pool> {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let other = CreateMachine { description: Some("the other".into()), ..crate::support::machine("other") };
    let other = engine.create_machine(&other)?.uuid;
    let disk = CreateVolume { description: Some("boot".into()), ..volume("other-root", VolumeKind::Root) };
    let disk = CreateVolume { size: Some(ByteCount::mib(2)), ..disk };
    let other = Machine { uuid: other, disks: vec![make_disk(&engine, other, &disk)?] };
    let shared = CreateVolume { sharing: Sharing::Shareable, ..volume("quorum", VolumeKind::Data) };
    make_disk(&engine, vm.uuid, &shared)?;
    fill(&engine.open_volume(vm.root())?, 0, 300_000, 1)?;

    let first = take(&engine, &vm, "first")?;
    let wish = CreateGroup {
        description: Some("with everything".into()),
        tag_uuids: vec![TAG.into()],
        user_tags: vec!["keep".into(), "nightly".into()],
        system_tags: vec!["policy::daily".into()],
        ..vm.group("second")
    };
    let second = engine.create_group(&wish)?.inventory;
    let third = take(&engine, &other, "third")?;
    let update = UpdateGroup { description: Some("updated".into()), ..UpdateGroup::default() };
    let third = engine.update_group(third.uuid, &update)?;
    let alone = engine.create_snapshot(&CreateSnapshot {
        volume_uuid: Some(vm.root().into()),
        name: "alone".into(),
        description: Some("no group".into()),
        user_tags: vec!["keep".into()],
        ..CreateSnapshot::default()
    })?;
    engine.set_running(other.uuid, Running::Elsewhere)?;
    // The answer to the call that made a group says more than the group: what was left out.
    let groups = [first, second, third].map(|group| engine.group(group.uuid));
    let groups = groups.into_iter().collect::<Result<_, _>>()?;
    Ok(Pool { engine, vm, other, groups, alone })
}

fn equal(value: impl Into<Value>) -> Test {
    Test::Equal(value.into())
}

fn a_group_is_found_by_every_field(home: &Home) -> Outcome {
    use GroupField as F;
    let pool = pool(home)?;
    let [first, second, third] = &pool.groups[..] else { panic!("three groups") };
    let member = &second.volume_snapshot_refs[1];
    let (vm, other) = (pool.vm.uuid, pool.other.uuid);
    let millis = second.create_date.as_millis();
    let file = file_of(&member.volume_snapshot_install_path);
    let since = first.volume_snapshot_refs[0].volume_last_attach_date.ok_or("attached")?.as_millis();
    let all = [first, second, third];
    let cases: Vec<(F, Test, Vec<&GroupInventory>)> = vec![
        (F::Uuid, equal(second.uuid), vec![second]),
        (F::Uuid, equal(second.uuid.hyphenated().to_string()), vec![second]),
        (F::Name, equal("second"), vec![second]),
        (F::Description, equal("updated"), vec![third]),
        (F::MachineUuid, equal(vm), vec![first, second]),
        (F::SnapshotCount, equal(1), vec![third]),
        (F::ParentUuid, equal(first.uuid), vec![second]),
        (F::ParentUuid, Test::Null, vec![first, third]),
        (F::Consistency, equal("Crash"), all.to_vec()),
        (F::TagUuid, equal(TAG), vec![second]),
        (F::UserTag, equal("nightly"), vec![second]),
        (F::SystemTag, equal("policy::daily"), vec![second]),
        (F::Tag, equal("policy::daily"), vec![second]),
        (F::Created, equal(millis), vec![second]),
        (F::Changed, Test::Greater(third.create_date.as_millis().into()), vec![third]),
        (F::Ref(RefField::SnapshotUuid), equal(member.volume_snapshot_uuid), vec![second]),
        (F::Ref(RefField::SnapshotName), equal("second-data-1"), vec![second]),
        (F::Ref(RefField::SnapshotDeleted), equal(true), vec![]),
        (F::Ref(RefField::File), equal(file), vec![second]),
        (F::Ref(RefField::DeviceId), equal(1), vec![first, second]),
        (F::Ref(RefField::VolumeUuid), equal(pool.other.root()), vec![third]),
        (F::Ref(RefField::VolumeName), equal("other-root"), vec![third]),
        (F::Ref(RefField::VolumeType), equal("Data"), vec![first, second]),
        (F::Ref(RefField::AttachedSince), equal(since), vec![first, second]),
        (F::Ref(RefField::Created), equal(millis), vec![second]),
        (F::Ref(RefField::Changed), Test::Less(millis.into()), vec![first]),
        (F::Machine(MachineField::Name), equal("other"), vec![third]),
        (F::Machine(MachineField::Uuid), equal(other), vec![third]),
        (F::Machine(MachineField::Description), equal("the other"), vec![third]),
        (F::Machine(MachineField::RunningElsewhere), equal(true), vec![third]),
        (F::Machine(MachineField::GroupCurrentUuid), equal(second.uuid), vec![first, second]),
        (F::Machine(MachineField::Created), equal(START), vec![]),
    ];
    for (field, test, expected) in cases {
        let page = pool.engine.query_groups(&Query::all().with(field, test.clone()))?;
        assert_eq!(page.items.iter().collect::<Vec<_>>(), expected, "{field:?} {test:?}");
        assert_eq!(page.total, expected.len());
    }
    Ok(())
}

fn a_snapshot_is_found_by_every_field(home: &Home) -> Outcome {
    use SnapshotField as F;
    let pool = pool(home)?;
    let engine = &pool.engine;
    let member = |group: usize, index: usize| {
        engine.snapshot(pool.groups[group].volume_snapshot_refs[index].volume_snapshot_uuid)
    };
    let (first, second) = (member(0, 0)?, member(1, 0)?);
    let (of_data, of_other) = (member(0, 1)?, member(2, 0)?);
    let alone = &pool.alone;
    let uuids = |expected: &[&SnapshotInventory]| expected.iter().map(|s| s.uuid).collect::<Vec<_>>();
    let size = i64::try_from(first.size.as_u64())?;
    let cases: Vec<(F, Test, Vec<Uuid>)> = vec![
        (F::Uuid, equal(first.uuid), uuids(&[&first])),
        (F::Name, equal("alone"), uuids(&[alone])),
        (F::Description, equal("no group"), uuids(&[alone])),
        (F::VolumeUuid, equal(pool.vm.root()), uuids(&[&first, &second, alone])),
        (F::VolumeType, equal("Data"), uuids(&[&of_data, &member(1, 1)?])),
        (F::TreeUuid, equal(of_other.tree_uuid), uuids(&[&of_other])),
        (F::ParentUuid, equal(second.uuid), uuids(&[alone])),
        (F::File, equal(file_of(&first.primary_storage_install_path)), uuids(&[&first])),
        (F::Format, equal("raw"), vec![]),
        (F::Distance, equal(3), uuids(&[alone])),
        (F::Size, equal(size), uuids(&[&first])),
        (F::SizeVirtual, equal(2 << 20), uuids(&[&of_other])),
        (F::Latest, equal(true), uuids(&[&member(1, 1)?, &of_other, alone])),
        (F::GroupUuid, Test::Null, uuids(&[alone])),
        (F::GroupUuid, equal(pool.groups[2].uuid), uuids(&[&of_other])),
        (F::TagUuid, Test::NotNull, vec![]),
        (F::UserTag, equal("keep"), uuids(&[alone])),
        (F::SystemTag, equal("keep"), vec![]),
        (F::Tag, equal("keep"), uuids(&[alone])),
        (F::Created, equal(of_other.create_date.as_millis()), uuids(&[&of_other])),
        (F::Changed, equal(alone.last_op_date.as_millis()), uuids(&[alone])),
        (F::Group(GroupField::Name), equal("third"), uuids(&[&of_other])),
        (F::Group(GroupField::UserTag), equal("nightly"), uuids(&[&second, &member(1, 1)?])),
        (F::Volume(VolumeField::Name), equal("data-1"), uuids(&[&of_data, &member(1, 1)?])),
        (F::Volume(VolumeField::Machine(MachineField::Name)), equal("other"), uuids(&[&of_other])),
        (F::Tree(TreeField::LatestUuid), equal(alone.uuid), uuids(&[&first, &second, alone])),
    ];
    for (field, test, expected) in cases {
        let page = engine.query_snapshots(&Query::all().with(field, test.clone()))?;
        let found: Vec<Uuid> = page.items.iter().map(|snapshot| snapshot.uuid).collect();
        assert_eq!(found, expected, "{field:?} {test:?}");
    }
    Ok(())
}

fn a_volume_is_found_by_every_field(home: &Home) -> Outcome {
    use VolumeField as F;
    let pool = pool(home)?;
    let engine = &pool.engine;
    let root = engine.volume(pool.vm.root())?;
    let other = engine.volume(pool.other.root())?;
    let since = other.last_attach_date.ok_or("attached")?.as_millis();
    let cases: Vec<(F, Test, &[&str])> = vec![
        (F::Uuid, equal(root.uuid), &["root"]),
        (F::Name, equal("quorum"), &["quorum"]),
        (F::Description, equal("boot"), &["other-root"]),
        (F::Type, equal("Root"), &["root", "other-root"]),
        (F::Shareable, equal(true), &["quorum"]),
        (F::MachineUuid, equal(pool.other.uuid), &["other-root"]),
        (F::DeviceId, equal(2), &["quorum"]),
        (F::AttachedSince, equal(since), &["other-root"]),
        (F::Size, Test::Greater((1 << 20).into()), &["other-root"]),
        (F::File, equal(file_of(&root.install_path)), &["root"]),
        (F::Format, equal("qcow2"), &["root", "data-1", "other-root", "quorum"]),
        (F::TreeUuid, Test::Null, &["quorum"]),
        (F::TreeUuid, equal(root.current_tree_uuid.ok_or("no tree")?), &["root"]),
        (F::Created, equal(root.create_date.as_millis()), &["root"]),
        (F::Changed, equal(pool.alone.create_date.as_millis()), &["root"]),
        (F::Machine(MachineField::RunningElsewhere), equal(true), &["other-root"]),
    ];
    for (field, test, expected) in cases {
        let page = engine.query_volumes(&Query::all().with(field, test.clone()))?;
        let found: Vec<&str> = page.items.iter().map(|volume| volume.name.as_str()).collect();
        assert_eq!(found, expected, "{field:?} {test:?}");
    }
    assert_eq!(engine.query_volumes(&Query::all().with(F::Uuid, equal(root.uuid)))?.items, [root]);
    Ok(())
}

fn a_machine_is_found_by_every_field(home: &Home) -> Outcome {
    use MachineField as F;
    let pool = pool(home)?;
    let engine = &pool.engine;
    let other = engine.machine(pool.other.uuid)?;
    let cases: Vec<(F, Test)> = vec![
        (F::Uuid, equal(other.uuid)),
        (F::Name, equal("other")),
        (F::Description, Test::NotNull),
        (F::RunningElsewhere, equal(true)),
        (F::GroupCurrentUuid, equal(pool.groups[2].uuid)),
        (F::Created, equal(other.create_date.as_millis())),
        (F::Changed, equal(other.last_op_date.as_millis())),
    ];
    for (field, test) in cases {
        let page = engine.query_machines(&Query::all().with(field, test.clone()))?;
        assert_eq!(page.items, std::slice::from_ref(&other), "{field:?} {test:?}");
    }
    Ok(())
}

fn a_tree_is_found_by_every_field(home: &Home) -> Outcome {
    use TreeField as F;
    let pool = pool(home)?;
    let engine = &pool.engine;
    let uuid = engine.volume(pool.other.root())?.current_tree_uuid.ok_or("no tree")?;
    let latest = pool.groups[2].volume_snapshot_refs[0].volume_snapshot_uuid;
    let moment = pool.groups[2].create_date.as_millis();
    let cases: Vec<(F, Test)> = vec![
        (F::Uuid, equal(uuid)),
        (F::VolumeUuid, equal(pool.other.root())),
        (F::LatestUuid, equal(latest)),
        (F::Created, equal(moment)),
        (F::Changed, equal(moment)),
        (F::Volume(VolumeField::Name), equal("other-root")),
    ];
    for (field, test) in cases {
        let page = engine.query_trees(&Query::all().with(field, test.clone()))?;
        let [tree] = &page.items[..] else { panic!("{field:?} {test:?}: {page:?}") };
        assert_eq!((tree.uuid, tree.current, tree.tree.len()), (uuid, true, 1));
    }
    assert_eq!(engine.query_trees(&Query::all().with(F::Current, equal(true)))?.total, 3);
    let of_root = Query::all().with(F::VolumeUuid, equal(pool.vm.root()));
    let of_root = engine.query_trees(&of_root)?.items.remove(0);
    let depths: Vec<_> =
        of_root.tree.nodes().iter().map(|n| (n.depth, n.value.inventory.name.as_str())).collect();
    assert_eq!(depths, [(0, "first-root"), (1, "second-root"), (2, "alone")]);
    Ok(())
}

fn a_tag_finds_what_has_it(home: &Home) -> Outcome {
    let pool = pool(home)?;
    let engine = &pool.engine;
    let query =
        Query::all().with(GroupField::Tag, equal("keep")).with(GroupField::Tag, equal("policy::daily"));
    assert_eq!(engine.query_groups(&query)?.items, [pool.groups[1].clone()]);
    let query = Query::all().with(GroupField::UserTag, Test::NotEqual("keep".into()));
    assert_eq!(engine.query_groups(&query)?.total, 0, "what has no tag has none to differ");
    let query = Query::all().with(SnapshotField::Tag, equal("nightly"));
    assert_eq!(engine.query_snapshots(&query)?.total, 0, "the tags of a group are not those of its members");
    Ok(())
}

fn every_test_answers_what_it_says(home: &Home) -> Outcome {
    let pool = pool(home)?;
    let by_name = |test: Test| -> Made<Vec<String>> {
        let page = pool.engine.query_groups(&Query::all().with(GroupField::Name, test))?;
        Ok(page.items.into_iter().map(|group| group.name).collect())
    };
    let list = || vec![Value::from("third"), Value::from("first"), Value::from("none")];
    assert_eq!(by_name(Test::NotEqual("first".into()))?, ["second", "third"]);
    assert_eq!(by_name(Test::Less("second".into()))?, ["first"]);
    assert_eq!(by_name(Test::LessOrEqual("second".into()))?, ["first", "second"]);
    assert_eq!(by_name(Test::Greater("second".into()))?, ["third"]);
    assert_eq!(by_name(Test::GreaterOrEqual("second".into()))?, ["second", "third"]);
    assert_eq!(by_name(Test::In(list()))?, ["first", "third"]);
    assert_eq!(by_name(Test::In(Vec::new()))?, [""; 0]);
    assert_eq!(by_name(Test::NotIn(list()))?, ["second"]);
    assert_eq!(by_name(Test::Like("%ir%".into()))?, ["first", "third"]);
    assert_eq!(by_name(Test::Like("_irst".into()))?, ["first"]);
    assert_eq!(by_name(Test::NotLike("%ir%".into()))?, ["second"]);
    assert_eq!(by_name(Test::Null)?, [""; 0]);
    assert_eq!(by_name(Test::NotNull)?, ["first", "second", "third"]);
    Ok(())
}

fn pages_cut_one_sorted_answer_and_the_total_stays(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let names = ["d", "a", "c", "e", "b"];
    for name in names {
        take(&engine, &vm, name)?;
    }
    let page = |query: Query<GroupField>| -> Made<(Vec<String>, usize)> {
        let page = engine.query_groups(&query)?;
        Ok((page.items.into_iter().map(|group| group.name).collect(), page.total))
    };
    let by_name = |direction| Query::all().sorted(GroupField::Name, direction);
    assert_eq!(page(Query::all())?, (names.map(String::from).to_vec(), 5));
    let expected = |names: &[&str]| (names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), 5);
    assert_eq!(page(by_name(Direction::Ascending))?, expected(&["a", "b", "c", "d", "e"]));
    assert_eq!(page(by_name(Direction::Descending).page(1, 2))?, expected(&["d", "c"]));
    assert_eq!(page(by_name(Direction::Ascending).page(4, 10))?, expected(&["e"]));
    assert_eq!(page(by_name(Direction::Ascending).page(5, 10))?, expected(&[]));
    assert_eq!(page(Query::all().page(usize::MAX, usize::MAX))?, expected(&[]));
    assert_eq!(page(Query::all().page(0, 0))?, expected(&[]));
    assert_eq!(page(Query::all().page(1, 3))?, expected(&["a", "c", "e"]));
    Ok(())
}

fn a_value_of_another_type_is_an_invalid_argument(home: &Home) -> Outcome {
    let engine = home.open()?;
    let wrong: Vec<(GroupField, Test)> = vec![
        (GroupField::SnapshotCount, equal("1")),
        (GroupField::Name, equal(1)),
        (GroupField::Uuid, equal("x")),
        (GroupField::Uuid, equal(true)),
        (GroupField::Ref(RefField::SnapshotDeleted), equal(1)),
        (GroupField::Machine(MachineField::Created), equal("today")),
        (GroupField::Created, Test::In(vec![1.into(), "2".into()])),
        (GroupField::SnapshotCount, Test::Like("1%".into())),
    ];
    for (field, test) in wrong {
        let query = Query::all().with(field, test.clone());
        let error = home.refusal(&engine, || engine.query_groups(&query))?;
        let Error::Refused(Refusal::WrongType { .. }) = &error else {
            panic!("{field:?} {test:?}: {error:?}")
        };
        let (code, kind, text) = told(&error);
        assert_eq!((code, kind), ("SYS.1007", Kind::Refused));
        assert!(!text.is_empty());
    }
    Ok(())
}

fn what_is_gone_is_not_found_any_more(home: &Home) -> Outcome {
    let pool = pool(home)?;
    let engine = &pool.engine;
    engine.ungroup(pool.groups[1].uuid)?;
    let by_name = Query::all().with(GroupField::Name, equal("second"));
    assert_eq!(engine.query_groups(&by_name)?.total, 0);
    let by_tag = Query::all().with(GroupField::Tag, equal("nightly"));
    assert_eq!(engine.query_groups(&by_tag)?.total, 0);
    let in_group = Query::all().with(SnapshotField::GroupUuid, equal(pool.groups[1].uuid));
    assert_eq!(engine.query_snapshots(&in_group)?.total, 0);
    engine.delete_machine(pool.vm.uuid)?;
    let by_machine = Query::all().with(VolumeField::MachineUuid, equal(pool.vm.uuid));
    assert_eq!(engine.query_volumes(&by_machine)?.total, 0);
    assert_eq!(engine.query_groups(&Query::all())?.total, 1);
    assert_eq!(engine.query_snapshots(&Query::all())?.total, 6);
    Ok(())
}
