//! A commit takes place as a whole or not at all, whatever fails in it.

use super::super::testing::*;
use super::super::*;
use crate::storage;
use std::error::Error as _;
use uuid::Uuid;

#[test]
fn what_is_put_is_read_and_what_is_removed_is_gone() -> Result<()> {
    let catalog = new_catalog();
    let edits = [machine(1).into(), volume(1, 1, 0, 1).into(), layer(1, 1, None, LayerState::Head).into()];
    assert_eq!(catalog.commit(Some(0), &edits)?, 1);
    let before = catalog.read()?;
    assert_eq!(before.machine(MachineId(1))?, Some(machine(1)));
    assert_eq!(before.volume(VolumeId(1))?, Some(volume(1, 1, 0, 1)));
    let edits =
        [Edit::RemoveVolume(VolumeId(1)), Edit::RemoveLayer(LayerId(1)), Edit::RemoveMachine(MachineId(1))];
    assert_eq!(catalog.commit(Some(1), &edits)?, 2);
    let after = catalog.read()?;
    assert_eq!(after.counts()?, Counts::default());
    assert_eq!(after.resolve(uuid_of(MachineId(1)))?, None);
    assert_eq!(after.verify()?, []);
    assert_eq!(before.counts()?, Counts { machines: 1, volumes: 1, layers: 1, ..Counts::default() });
    assert_eq!((before.generation(), after.generation(), catalog.generation()), (1, 2, 2));
    Ok(())
}

#[test]
fn a_new_name_moves_the_key() -> Result<()> {
    let catalog = world_catalog();
    let mut renamed = machine(1);
    renamed.name = String::from("moved");
    renamed.group_current = Some(GroupId(2));
    catalog.commit(None, &[renamed.clone().into()])?;
    let reader = catalog.read()?;
    let found = |name| reader.machines_by_name(name)?.collect::<Result<Vec<_>>>();
    assert_eq!(found("machine-1")?, []);
    assert_eq!(found("moved")?, [renamed]);
    assert_eq!(reader.verify()?, []);
    Ok(())
}

#[test]
fn that_a_file_has_arrived_changes_nothing_else_of_its_record_and_makes_none() -> Result<()> {
    let catalog = new_catalog();
    let made = LayerRecord { settled: Settled::No, ..layer(1, 1, None, LayerState::Head) };
    catalog.commit(None, &[machine(1).into(), volume(1, 1, 0, 1).into(), made.clone().into()])?;
    // Between the sync and the commit that tells of it, somebody else has made the disk larger.
    let larger = LayerRecord { size: made.size + made.size, ..made };
    catalog.commit(None, &[larger.clone().into()])?;
    assert_eq!(catalog.read()?.layers_unsettled()?.into_vec()?, std::slice::from_ref(&larger));
    catalog.commit(None, &[Edit::SettleLayer(LayerId(1)), Edit::SettleLayer(LayerId(2))])?;
    let reader = catalog.read()?;
    assert_eq!(reader.layer(LayerId(1))?, Some(LayerRecord { settled: Settled::Yes, ..larger }));
    assert_eq!((reader.layer(LayerId(2))?, reader.layers_unsettled()?.into_vec()?), (None, Vec::new()));
    assert_eq!(reader.verify()?, []);
    Ok(())
}

#[test]
fn edits_that_were_decided_on_something_else_are_refused() -> Result<()> {
    let catalog = new_catalog();
    catalog.commit(None, &[machine(1).into()])?;
    let Err(Error::Stale { expected: 0, found: 1 }) = catalog.commit(Some(0), &[machine(2).into()]) else {
        panic!("stale edits were committed");
    };
    assert_eq!(catalog.read()?.counts()?.machines, 1);
    Ok(())
}

#[test]
fn a_uuid_belongs_to_one_thing_of_any_kind() -> Result<()> {
    let catalog = world_catalog();
    let mut thief = tree(9, 1, None);
    thief.uuid = uuid_of(GroupId(1));
    let before = catalog.read()?.counts()?;
    let (by, wanted) = (GroupId(1).into(), TreeId(9).into());
    match catalog.commit(None, &[machine(7).into(), thief.clone().into()]) {
        Err(Error::UuidTaken { uuid, by: found, wanted: asked }) => {
            assert_eq!((uuid, found, asked), (thief.uuid, by, wanted));
        }
        other => panic!("a uuid was given twice: {other:?}"),
    }
    assert_eq!(catalog.read()?.counts()?, before, "half of the edits were done");
    assert_eq!(catalog.generation(), 1);
    catalog.commit(None, &[Edit::RemoveGroup(GroupId(1)), thief.into()])?;
    assert_eq!(catalog.read()?.resolve(uuid_of(GroupId(1)))?, Some(wanted));
    Ok(())
}

#[test]
fn a_thing_keeps_its_uuid_so_an_id_is_not_used_for_two() -> Result<()> {
    let catalog = world_catalog();
    let mut other = machine(1);
    other.uuid = Uuid::from_u128(99);
    let Err(Error::IdTaken { entity: Entity::Machine(MachineId(1)), .. }) =
        catalog.commit(None, &[other.into()])
    else {
        panic!("another machine took the id");
    };
    assert_eq!(catalog.read()?.verify()?, []);
    Ok(())
}

#[test]
fn what_is_not_there_is_not_removed() -> Result<()> {
    let catalog = new_catalog();
    let Err(Error::Absent { place }) = catalog.commit(None, &[Edit::RemoveTree(TreeId(4))]) else {
        panic!("nothing was removed");
    };
    assert_eq!(place, Place::Record(TreeId(4).into()));
    let edit = Edit::RemoveRef { group: GroupId(4), ordinal: 2 };
    let Err(Error::Absent { place: Place::Ref(GroupId(4), 2) }) = catalog.commit(None, &[edit]) else {
        panic!("nothing was removed");
    };
    assert_eq!(catalog.generation(), 0);
    Ok(())
}

#[test]
fn ids_are_not_used_again_after_a_removal_and_a_restart() -> Result<()> {
    let blob = MemoryBlob::empty();
    let catalog = Catalog::create(blob.clone(), Uuid::from_u128(1), Timestamp(0))?;
    let id = catalog.read()?.next_ids().take_machine();
    assert_eq!(id, MachineId(1));
    catalog.commit(None, &[machine(id.0).into(), machine(5).into()])?;
    catalog.commit(None, &[Edit::RemoveMachine(MachineId(5))])?;
    assert_eq!(catalog.ids().take_machine(), MachineId(6));
    catalog.close()?;
    assert_eq!(Catalog::open(blob)?.ids().take_machine(), MachineId(6));
    Ok(())
}

#[test]
fn a_sync_that_fails_leaves_the_outcome_unknown_and_stops_everything() -> Result<()> {
    let blob = MemoryBlob::empty();
    let catalog = Catalog::create(blob.clone(), Uuid::from_u128(1), Timestamp(0))?;
    blob.fail_syncs();
    let error = catalog.commit(None, &[machine(1).into()]).expect_err("the sync was told to fail");
    let Error::CommitUnknown { .. } = &error else { panic!("{error:?}") };
    let inner = error.source().and_then(|source| source.source()).expect("the cause is kept");
    let Some(storage::Error::SyncFailed { .. }) = inner.downcast_ref() else {
        panic!("the cause is not the blob's own: {inner:?}");
    };
    assert_eq!(catalog.generation(), 0);
    let Err(Error::Halted) = catalog.commit(None, &[machine(2).into()]) else {
        panic!("a commit followed a failed sync");
    };
    drop(catalog);
    let opened = Catalog::open(MemoryBlob::of(blob.bytes()))?;
    assert!(opened.generation() <= 1);
    assert_eq!(opened.read()?.counts()?.machines, opened.generation());
    assert_eq!(opened.read()?.verify()?, []);
    Ok(())
}

#[test]
fn a_write_that_fails_is_told_with_its_cause() -> Result<()> {
    let blob = MemoryBlob::empty();
    let catalog = Catalog::create(blob.clone(), Uuid::from_u128(1), Timestamp(0))?;
    catalog.commit(None, &[machine(1).into()])?;
    blob.fail_writes();
    match catalog.commit(None, &[machine(2).into()]) {
        Err(Error::CommitUnknown { source }) => {
            let Error::Storage { source: storage::Error::Io { .. } } = &*source else { panic!("{source:?}") };
        }
        Err(Error::Storage { source: storage::Error::Io { .. } }) => {}
        other => panic!("{other:?}"),
    }
    drop(catalog);
    let opened = Catalog::open(MemoryBlob::of(blob.bytes()))?;
    assert_eq!(opened.read()?.machine(MachineId(1))?, Some(machine(1)));
    Ok(())
}

/// One random edit that may be refused, out of a few ids so that they meet.
fn random_edit(random: &mut Random) -> Edit {
    let id = 1 + random.below(6);
    let other = 1 + random.below(6);
    let absent_or = |present: u64, odds| if odds == 0 { None } else { Some(present) };
    let state = *random.of(&[LayerState::Head, LayerState::Frozen, LayerState::Retired]);
    let name = random.of(&["a", "b", "a\0", ""]).to_string();
    let odds = random.below(3);
    let ordinal = u32::try_from(random.below(3)).unwrap();
    let disk = volume(other, id, ordinal, other);
    match random.below(14) {
        0 => MachineRecord { name, ..machine(id) }.into(),
        1 => VolumeRecord { name, ..volume(id, other, ordinal, other) }.into(),
        2 => layer(id, other, absent_or(other, odds), state).into(),
        3 => {
            let mut record = snapshot(id, &disk, other, absent_or(other, odds), absent_or(other, odds));
            record.tags.user_tags = vec![name];
            record.into()
        }
        4 => tree(id, other, absent_or(other, odds)).into(),
        5 => {
            let mut record =
                GroupRecord { name: name.clone(), ..group(id, other, 2, absent_or(other, odds)) };
            record.tags.system_tags = vec![name];
            record.into()
        }
        6 => {
            let mut record = member(id, ordinal, &snapshot(other, &disk, 1, None, None), &disk);
            record.snapshot_deleted = odds == 0;
            record.into()
        }
        7 => Edit::RemoveMachine(MachineId(id)),
        8 => Edit::RemoveVolume(VolumeId(id)),
        9 => Edit::RemoveLayer(LayerId(id)),
        10 => Edit::RemoveSnapshot(SnapshotId(id)),
        11 => Edit::RemoveTree(TreeId(id)),
        12 => Edit::RemoveGroup(GroupId(id)),
        _ => Edit::RemoveRef { group: GroupId(id), ordinal },
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "the seed of a failure is printed")]
fn no_sequence_of_edits_makes_the_derived_tables_drift() -> Result<()> {
    let catalog = new_catalog();
    let mut committed = 0;
    for seed in 1..=200 {
        println!("seed {seed}");
        let mut random = Random::seeded(seed * 7_919);
        let edits: Vec<Edit> = (0..1 + random.below(5)).map(|_| random_edit(&mut random)).collect();
        let before = catalog.read()?.counts()?;
        match catalog.commit(None, &edits) {
            Ok(_) => committed += 1,
            Err(Error::Absent { .. }) => assert_eq!(catalog.read()?.counts()?, before),
            Err(error) => return Err(error),
        }
        let drifted = |violation: &Violation| {
            matches!(
                violation,
                Violation::UuidTable { .. }
                    | Violation::IndexLacks { .. }
                    | Violation::IndexExtra { .. }
                    | Violation::Counter { .. }
            )
        };
        let drift: Vec<_> = catalog.read()?.verify()?.into_iter().filter(drifted).collect();
        assert_eq!(drift, [], "after {edits:?}");
    }
    assert!((60..200).contains(&committed), "{committed} of 200 were committed, which tests little");
    Ok(())
}
