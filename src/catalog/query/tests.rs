//! Questions and their answers.

use super::super::testing::*;
use super::super::*;
use super::run::{Indexes, answer, candidates};
use super::{
    Direction, Field, GroupField, MachineField, Page, Query, RefField, SnapshotField, Test, TreeField, Value,
    VolumeField,
};
use crate::catalog::kind::{Id, Record};
use uuid::Uuid;

/// The numbers of an answer.
fn ids<R: Record>(page: &Page<R>) -> Vec<u64> {
    page.items.iter().map(|record| record.id().number()).collect()
}

fn groups(reader: &Reader, query: &Query<GroupField>) -> Result<Vec<u64>> {
    Ok(reader.query_groups(query)?.items.into_iter().map(|(group, _)| group.id.0).collect())
}

/// Five machines with sizes, names and descriptions to ask for.
fn machines() -> Result<Catalog> {
    let catalog = new_catalog();
    let names = ["web", "db", "web-2", "DB", "100%"];
    let mut edits = Vec::new();
    for (id, name) in (1..).zip(names) {
        let mut record = machine(id);
        record.name = name.to_owned();
        record.description = (id != 3).then(|| format!("number {id}"));
        record.running = if id == 2 { Running::Elsewhere } else { Running::Here };
        record.created = Timestamp(i64::try_from(id).expect("a small number") * 100);
        edits.push(record.into());
    }
    catalog.commit(None, &edits)?;
    Ok(catalog)
}

#[test]
fn each_operator_takes_what_it_says() -> Result<()> {
    let catalog = machines()?;
    let reader = catalog.read()?;
    let texts = |texts: &[&str]| texts.iter().map(|text| Value::from(*text)).collect::<Vec<_>>();
    for (field, test, expected) in [
        (MachineField::Name, Test::Equal("web".into()), vec![1]),
        (MachineField::Name, Test::NotEqual("web".into()), vec![2, 3, 4, 5]),
        (MachineField::Created, Test::Less(300.into()), vec![1, 2]),
        (MachineField::Created, Test::LessOrEqual(300.into()), vec![1, 2, 3]),
        (MachineField::Created, Test::Greater(300.into()), vec![4, 5]),
        (MachineField::Created, Test::GreaterOrEqual(300.into()), vec![3, 4, 5]),
        (MachineField::Name, Test::In(texts(&["db", "web", "none"])), vec![1, 2]),
        (MachineField::Name, Test::In(vec![]), vec![]),
        (MachineField::Name, Test::NotIn(texts(&["db", "web"])), vec![3, 4, 5]),
        (MachineField::Description, Test::Null, vec![3]),
        (MachineField::Description, Test::NotNull, vec![1, 2, 4, 5]),
        (MachineField::Description, Test::NotEqual("number 1".into()), vec![2, 4, 5]),
        (MachineField::Name, Test::Like("web%".into()), vec![1, 3]),
        (MachineField::Name, Test::Like("_b".into()), vec![2]),
        (MachineField::Name, Test::Like(r"%\%".into()), vec![5]),
        (MachineField::Name, Test::NotLike("web%".into()), vec![2, 4, 5]),
        (MachineField::RunningElsewhere, Test::Equal(true.into()), vec![2]),
        (MachineField::RunningElsewhere, Test::Equal(false.into()), vec![1, 3, 4, 5]),
    ] {
        let query = Query::all().with(field, test);
        let page = reader.query_machines(&query)?;
        assert_eq!(ids(&page), expected, "{query:?}");
        assert_eq!(page.total, expected.len(), "{query:?}");
    }
    Ok(())
}

#[test]
fn all_conditions_must_hold() -> Result<()> {
    let catalog = machines()?;
    let reader = catalog.read()?;
    let query = Query::all()
        .with(MachineField::Name, Test::Like("%b%".into()))
        .with(MachineField::Created, Test::Greater(100.into()));
    assert_eq!(ids(&reader.query_machines(&query)?), [2, 3]);
    Ok(())
}

#[test]
fn answers_are_sorted_and_come_in_pages() -> Result<()> {
    let catalog = machines()?;
    let reader = catalog.read()?;
    let by = |field, direction| Query::all().sorted(field, direction);
    let names = by(MachineField::Name, Direction::Ascending);
    assert_eq!(ids(&reader.query_machines(&names)?), [5, 4, 2, 1, 3]);
    let names = by(MachineField::Name, Direction::Descending);
    assert_eq!(ids(&reader.query_machines(&names)?), [3, 1, 2, 4, 5]);
    let absent_first = by(MachineField::Description, Direction::Ascending);
    assert_eq!(ids(&reader.query_machines(&absent_first)?), [3, 1, 2, 4, 5]);
    let equals_by_creation = by(MachineField::RunningElsewhere, Direction::Descending);
    assert_eq!(ids(&reader.query_machines(&equals_by_creation)?), [2, 1, 3, 4, 5]);
    for query in [names, Query::all(), Query::all().with(MachineField::Name, Test::NotNull)] {
        let whole = ids(&reader.query_machines(&query)?);
        for start in 0..7 {
            for limit in 0..7 {
                let page = reader.query_machines(&query.clone().page(start, limit))?;
                let expected: Vec<_> = whole.iter().copied().skip(start).take(limit).collect();
                assert_eq!((ids(&page), page.total), (expected, 5));
            }
        }
    }
    Ok(())
}

#[test]
fn no_more_than_a_thousand_come_unasked() {
    assert_eq!(Query::<GroupField>::all().limit, 1000);
}

#[test]
fn a_value_of_the_wrong_type_is_refused() -> Result<()> {
    let catalog = machines()?;
    let reader = catalog.read()?;
    for (field, test) in [
        (MachineField::Name, Test::Equal(3.into())),
        (MachineField::Created, Test::Less("yesterday".into())),
        (MachineField::Uuid, Test::Equal("not a uuid".into())),
        (MachineField::Uuid, Test::In(vec![Uuid::from_u128(1).into(), "{...}".into()])),
        (MachineField::RunningElsewhere, Test::NotEqual("true".into())),
        (MachineField::Created, Test::Like("1%".into())),
    ] {
        let query = Query::all().with(field, test);
        let Err(Error::BadValue { field: name, .. }) = reader.query_machines(&query) else {
            panic!("{query:?} was answered");
        };
        assert_eq!(name, format!("{field:?}"));
    }
    Ok(())
}

#[test]
fn uuids_are_taken_with_and_without_dashes_in_any_case() -> Result<()> {
    let catalog = world_catalog();
    let reader = catalog.read()?;
    let uuid = uuid_of(GroupId(2));
    for text in
        [uuid.simple().to_string(), uuid.hyphenated().to_string(), uuid.simple().to_string().to_uppercase()]
    {
        for test in [Test::Equal(text.clone().into()), Test::In(vec![text.into()])] {
            assert_eq!(groups(&reader, &Query::all().with(GroupField::Uuid, test))?, [2]);
        }
    }
    Ok(())
}

#[test]
fn groups_are_found_through_their_members_machine_and_tags() -> Result<()> {
    let catalog = world_catalog();
    let mut member = catalog.read()?.ref_of(GroupId(1), 0)?.expect("the world has it");
    member.snapshot_deleted = true;
    catalog.commit(None, &[member.into(), Edit::RemoveSnapshot(SnapshotId(10))])?;
    let reader = catalog.read()?;
    let equal = |uuid: Uuid| Test::Equal(uuid.into());
    for (field, test, expected) in [
        (GroupField::Ref(RefField::SnapshotUuid), equal(uuid_of(SnapshotId(21))), vec![2]),
        (GroupField::Ref(RefField::SnapshotUuid), equal(uuid_of(SnapshotId(10))), vec![1]),
        (GroupField::Ref(RefField::VolumeUuid), equal(uuid_of(VolumeId(2))), vec![1, 2]),
        (GroupField::Ref(RefField::SnapshotDeleted), Test::Equal(true.into()), vec![1]),
        (GroupField::Ref(RefField::VolumeType), Test::Equal("Root".into()), vec![1, 2]),
        (GroupField::Ref(RefField::File), Test::Like("layer-11.%".into()), vec![2]),
        (GroupField::Ref(RefField::DeviceId), Test::GreaterOrEqual(2.into()), vec![]),
        (GroupField::Machine(MachineField::Name), Test::Equal("machine-1".into()), vec![1, 2]),
        (GroupField::Machine(MachineField::Name), Test::Equal("machine-2".into()), vec![]),
        (GroupField::MachineUuid, equal(uuid_of(MachineId(1))), vec![1, 2]),
        (GroupField::ParentUuid, equal(uuid_of(GroupId(1))), vec![2]),
        (GroupField::ParentUuid, Test::Null, vec![1]),
        (GroupField::Tag, Test::Equal("nightly".into()), vec![1]),
        (GroupField::Tag, Test::Equal("CreatedBySystem".into()), vec![1]),
        (GroupField::UserTag, Test::Equal("CreatedBySystem".into()), vec![]),
        (GroupField::TagUuid, equal(Uuid::from_u128(0xfeed)), vec![1]),
        (GroupField::Tag, Test::Null, vec![2]),
        (GroupField::SnapshotCount, Test::Equal(2.into()), vec![1, 2]),
        (GroupField::Consistency, Test::Equal("Crash".into()), vec![1, 2]),
    ] {
        let query = Query::all().with(field, test);
        assert_eq!(groups(&reader, &query)?, expected, "{query:?}");
    }
    let page = reader.query_groups(&Query::all().page(1, 1))?;
    assert_eq!((page.items[0].1.len(), page.total), (2, 2));
    Ok(())
}

#[test]
fn other_records_are_found_through_what_they_hang_on() -> Result<()> {
    let catalog = world_catalog();
    let reader = catalog.read()?;
    let equal = |uuid: Uuid| Test::Equal(uuid.into());
    for (field, test, expected) in [
        (SnapshotField::VolumeUuid, equal(uuid_of(VolumeId(1))), vec![10, 11]),
        (SnapshotField::GroupUuid, equal(uuid_of(GroupId(2))), vec![11, 21]),
        (SnapshotField::ParentUuid, equal(uuid_of(SnapshotId(20))), vec![21]),
        (SnapshotField::Latest, Test::Equal(true.into()), vec![11, 21]),
        (SnapshotField::File, Test::Equal("layer-20.qcow2".into()), vec![20]),
        (SnapshotField::Format, Test::Equal("qcow2".into()), vec![10, 11, 20, 21]),
        (SnapshotField::Group(GroupField::Tag), Test::Equal("nightly".into()), vec![10, 20]),
        (
            SnapshotField::Group(GroupField::Ref(RefField::VolumeName)),
            Test::Equal("volume-1".into()),
            vec![10, 11, 20, 21],
        ),
        (
            SnapshotField::Volume(VolumeField::Machine(MachineField::Name)),
            Test::Equal("machine-1".into()),
            vec![10, 11, 20, 21],
        ),
        (SnapshotField::Tree(TreeField::Current), Test::Equal(false.into()), vec![]),
        (SnapshotField::SizeVirtual, Test::Equal((1_i64 << 30).into()), vec![10, 11, 20, 21]),
    ] {
        let query = Query::all().with(field, test);
        assert_eq!(ids(&reader.query_snapshots(&query)?), expected, "{query:?}");
    }
    let query = Query::all().with(VolumeField::MachineUuid, equal(uuid_of(MachineId(1))));
    assert_eq!(ids(&reader.query_volumes(&query)?), [1, 2]);
    let query = Query::all().with(VolumeField::File, Test::Equal("layer-22.qcow2".into()));
    assert_eq!(ids(&reader.query_volumes(&query)?), [2]);
    let query = Query::all().with(TreeField::LatestUuid, equal(uuid_of(SnapshotId(21))));
    assert_eq!(ids(&reader.query_trees(&query)?), [2]);
    Ok(())
}

/// A catalogue of many things that share few names, sizes and tags, some of them half gone.
fn random_catalog(random: &mut Random) -> Result<Catalog> {
    let catalog = new_catalog();
    let mut edits: Vec<Edit> = (1..=4).map(|id| machine(id).into()).collect();
    let name = |random: &mut Random| (*random.of(&["a", "ab", "b", "a\0"])).to_owned();
    let disks: Vec<VolumeRecord> = (1..=6)
        .map(|id| {
            let mut disk = volume(id, 1 + random.below(4), 0, id);
            disk.name = name(random);
            disk.tree_current = (!random.one_in(3)).then_some(TreeId(id));
            disk
        })
        .collect();
    for id in 1..=8 {
        let mut record = group(id, 1 + random.below(4), 0, (id > 2).then(|| 1 + random.below(2)));
        record.name = name(random);
        record.tags.user_tags = (0..random.below(3)).map(|_| name(random)).collect();
        record.tags.system_tags = (0..random.below(2)).map(|_| name(random)).collect();
        record.tags.tag_uuids = (0..random.below(2)).map(|_| Uuid::from_u128(7)).collect();
        edits.push(record.into());
    }
    for disk in &disks {
        edits.push(layer(disk.id.0, disk.id.0, None, LayerState::Head).into());
        edits.push(tree(disk.id.0, disk.id.0, Some(disk.id.0)).into());
        edits.push(disk.clone().into());
    }
    for id in 1..=60 {
        let disk = random.of(&disks).clone();
        let owner = random.one_in(2).then(|| 1 + random.below(8));
        let parent = random.one_in(2).then(|| 1 + random.below(60));
        let mut record = snapshot(id, &disk, 1 + random.below(6), parent, owner);
        record.name = name(random);
        record.tags.user_tags = (0..random.below(2)).map(|_| name(random)).collect();
        let deleted = random.one_in(4);
        if let Some(owner) = owner {
            let mut member = member(owner, u32::try_from(id).expect("a small number"), &record, &disk);
            member.snapshot_deleted = deleted;
            edits.push(member.into());
        }
        if !deleted {
            edits.push(record.into());
        }
    }
    catalog.commit(None, &edits)?;
    // Some of what others hang on goes away; a group takes its refs with it.
    let mut gone = vec![
        Edit::RemoveMachine(MachineId(4)),
        Edit::RemoveVolume(VolumeId(6)),
        Edit::RemoveGroup(GroupId(8)),
    ];
    let refs = catalog.read()?.refs_of(GroupId(8))?;
    gone.extend(refs.iter().map(|gone| Edit::RemoveRef { group: gone.group, ordinal: gone.ordinal }));
    catalog.commit(None, &gone)?;
    Ok(catalog)
}

/// Asks with and without indexes; answers whether an index was used.
fn compare<F: Field>(reader: &Reader, query: &Query<F>) -> Result<bool>
where
    F::Record: PartialEq + std::fmt::Debug,
{
    let scanned = answer(reader, query, Indexes::Ignored)?;
    assert_eq!(answer(reader, query, Indexes::Used)?, scanned, "{query:?}");
    Ok(candidates(reader, &query.conditions)?.is_some())
}

#[test]
#[expect(clippy::print_stdout, reason = "the seed of a failure is printed")]
fn an_index_never_changes_an_answer() -> Result<()> {
    let mut driven = 0;
    for seed in [11, 12, 13] {
        println!("seed {seed}");
        let mut random = Random::seeded(seed);
        let catalog = random_catalog(&mut random)?;
        let reader = catalog.read()?;
        for _ in 0..400 {
            let uuid = uuid_of(Entity::new(*random.of(&Kind::ALL), 1 + random.below(9)));
            let uuid = random.of(&[uuid, uuid, Uuid::from_u128(7)]).simple().to_string();
            let name = (*random.of(&["a", "ab", "b", "a\0", "volume-1", "layer-3.qcow2"])).to_owned();
            let test = |text: String, random: &mut Random| match random.below(4) {
                0 => Test::In(vec![text.clone().into(), text.into()]),
                1 => Test::NotEqual(text.into()),
                _ => Test::Equal(text.into()),
            };
            let (by_uuid, by_name) = (test(uuid, &mut random), test(name, &mut random));
            let volume_uuid = *random.of(&[
                VolumeField::Uuid,
                VolumeField::MachineUuid,
                VolumeField::TreeUuid,
                VolumeField::Machine(MachineField::Uuid),
            ]);
            let volume_name =
                *random.of(&[VolumeField::Name, VolumeField::File, VolumeField::Machine(MachineField::Name)]);
            let group_uuid = *random.of(&[
                GroupField::Uuid,
                GroupField::MachineUuid,
                GroupField::ParentUuid,
                GroupField::TagUuid,
                GroupField::Ref(RefField::SnapshotUuid),
                GroupField::Ref(RefField::VolumeUuid),
                GroupField::Machine(MachineField::Uuid),
            ]);
            let group_name = *random.of(&[
                GroupField::Name,
                GroupField::Tag,
                GroupField::UserTag,
                GroupField::SystemTag,
                GroupField::Ref(RefField::VolumeName),
            ]);
            let snapshot_uuid = *random.of(&[
                SnapshotField::Uuid,
                SnapshotField::VolumeUuid,
                SnapshotField::TreeUuid,
                SnapshotField::ParentUuid,
                SnapshotField::GroupUuid,
                SnapshotField::TagUuid,
                SnapshotField::Group(group_uuid),
                SnapshotField::Volume(volume_uuid),
                SnapshotField::Tree(TreeField::VolumeUuid),
            ]);
            let snapshot_name = *random.of(&[
                SnapshotField::Name,
                SnapshotField::File,
                SnapshotField::UserTag,
                SnapshotField::Tag,
                SnapshotField::Group(group_name),
                SnapshotField::Volume(volume_name),
            ]);
            let tree_uuid = *random.of(&[
                TreeField::Uuid,
                TreeField::VolumeUuid,
                TreeField::LatestUuid,
                TreeField::Volume(volume_uuid),
            ]);
            for used in [
                compare(&reader, &Query::all().with(volume_uuid, by_uuid.clone()))?,
                compare(&reader, &Query::all().with(volume_name, by_name.clone()))?,
                compare(&reader, &Query::all().with(group_uuid, by_uuid.clone()))?,
                compare(&reader, &Query::all().with(group_name, by_name.clone()))?,
                compare(&reader, &Query::all().with(snapshot_uuid, by_uuid.clone()))?,
                compare(&reader, &Query::all().with(snapshot_name, by_name.clone()))?,
                compare(&reader, &Query::all().with(tree_uuid, by_uuid.clone()))?,
                compare(
                    &reader,
                    &Query::all()
                        .with(snapshot_name, by_name)
                        .with(snapshot_uuid, by_uuid)
                        .sorted(SnapshotField::Name, Direction::Descending)
                        .page(1, 3),
                )?,
            ] {
                driven += u32::from(used);
            }
        }
    }
    assert!(driven > 3_000, "an index was used {driven} times only");
    Ok(())
}

#[test]
fn an_answer_through_an_index_looks_at_little_else() -> Result<()> {
    let catalog = new_catalog();
    let disks = [volume(1, 1, 0, 1), volume(2, 1, 1, 2)];
    let mut edits: Vec<Edit> = disks.iter().cloned().map(Edit::from).collect();
    for id in 1..=1_000 {
        edits.push(snapshot(id, &disks[usize::from(id % 100 == 0)], 1, None, None).into());
    }
    catalog.commit(None, &edits)?;
    let reader = catalog.read()?;
    let test = Test::Equal(uuid_of(VolumeId(2)).into());
    let query = Query::all().with(SnapshotField::VolumeUuid, test);
    assert_eq!(candidates(&reader, &query.conditions)?.map(|ids| ids.len()), Some(10));
    assert_eq!(reader.query_snapshots(&query)?.total, 10);
    let everything = reader.query_snapshots(&Query::all().page(990, 20))?;
    assert_eq!((everything.items.len(), everything.total), (10, 1_000));
    Ok(())
}
