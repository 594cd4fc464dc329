//! What a reader finds by id, by uuid and in order, and what it refuses.

use super::super::testing::*;
use super::*;
use crate::catalog::LayerState;
use crate::storage::BlobName;

fn ids<R: Record>(found: impl Iterator<Item = Result<R>>) -> Result<Vec<u64>> {
    found.map(|record| record.map(|record| record.id().number())).collect()
}

#[test]
fn a_uuid_leads_to_its_thing_and_to_no_other_kind() -> Result<()> {
    let catalog = world_catalog();
    let reader = catalog.read()?;
    let uuid = uuid_of(SnapshotId(20));
    assert_eq!(reader.resolve(uuid)?, Some(SnapshotId(20).into()));
    assert_eq!(reader.snapshot_by_uuid(uuid)?, reader.snapshot(SnapshotId(20))?);
    assert_eq!(reader.group_by_uuid(uuid)?, None);
    assert_eq!(reader.resolve(Uuid::from_u128(3))?, None);
    Ok(())
}

#[test]
fn every_index_finds_what_hangs_there() -> Result<()> {
    let catalog = world_catalog();
    let reader = catalog.read()?;
    assert_eq!(ids(reader.volumes_of(MachineId(1))?)?, [1, 2]);
    assert_eq!(ids(reader.volumes_by_name("volume-2")?)?, [2]);
    assert_eq!(ids(reader.machines_by_name("machine-1")?)?, [1]);
    assert_eq!(ids(reader.layers_above(LayerId(10))?)?, [11]);
    assert_eq!(ids(reader.layers_of(VolumeId(2))?)?, [20, 21, 22]);
    assert_eq!(ids(reader.layers_retired()?)?, [0; 0]);
    assert_eq!(ids(reader.snapshots_of(VolumeId(1))?)?, [10, 11]);
    assert_eq!(ids(reader.snapshots_on(LayerId(21))?)?, [21]);
    assert_eq!(ids(reader.snapshots_in(TreeId(2))?)?, [20, 21]);
    assert_eq!(ids(reader.snapshots_of_group(GroupId(1))?)?, [10, 20]);
    assert_eq!(ids(reader.snapshots_by_name("snapshot-11")?)?, [11]);
    assert_eq!(ids(reader.children_of_snapshot(SnapshotId(20))?)?, [21]);
    assert_eq!(ids(reader.trees_of(VolumeId(1))?)?, [1]);
    assert_eq!(ids(reader.groups_of(MachineId(1))?)?, [1, 2]);
    assert_eq!(ids(reader.groups_by_name("group-2")?)?, [2]);
    assert_eq!(ids(reader.children_of_group(GroupId(1))?)?, [2]);
    assert_eq!(ids(reader.groups_by_user_tag("nightly")?)?, [1]);
    assert_eq!(ids(reader.groups_by_system_tag("CreatedBySystem")?)?, [1]);
    assert_eq!(ids(reader.groups_by_tag_uuid(Uuid::from_u128(0xfeed))?)?, [1]);
    assert_eq!(reader.volume_of_head(LayerId(22))?.map(|volume| volume.id), Some(VolumeId(2)));
    let blob = BlobName::parse("layer-21.qcow2").expect("a lawful name");
    assert_eq!(reader.layer_of_blob(&blob)?.map(|layer| layer.id), Some(LayerId(21)));
    let found = reader.refs_by_volume(uuid_of(VolumeId(2)))?;
    let found: Vec<_> = found.iter().map(|member| (member.group.0, member.ordinal)).collect();
    assert_eq!(found, [(1, 1), (2, 1)]);
    assert_eq!(reader.ref_of_snapshot(SnapshotId(20))?, reader.ref_of(GroupId(1), 1)?);
    assert_eq!(reader.refs_of(GroupId(2))?.len(), 2);
    Ok(())
}

#[test]
fn files_that_no_record_names_are_found_in_any_order() -> Result<()> {
    let catalog = world_catalog();
    let reader = catalog.read()?;
    let name = |text: &str| BlobName::parse(text).expect("a lawful name");
    let texts = [
        "a",
        "layer-1",
        "layer-10.qcow2",
        "layer-10.qcow2.old",
        "layer-11.qcow2",
        "layer-15.qcow2",
        "layer-22.qcow2",
        "layer-3.qcow2",
        "z",
    ];
    let mut names = texts.map(name);
    let expected = ["a", "layer-1", "layer-10.qcow2.old", "layer-15.qcow2", "layer-3.qcow2", "z"].map(name);
    assert!(names.is_sorted());
    assert_eq!(reader.unnamed(&names)?, expected.iter().collect::<Vec<_>>());
    names.reverse();
    assert_eq!(reader.unnamed(&names)?, expected.iter().rev().collect::<Vec<_>>());
    let twice = [&names[2], &names[2], &names[3], &names[2]];
    assert_eq!(reader.unnamed(twice)?, [&names[3]]);
    assert_eq!(reader.unnamed(&names[..0])?, [] as [&BlobName; 0]);
    Ok(())
}

#[test]
fn what_is_found_comes_in_the_order_of_creation_and_backwards() -> Result<()> {
    let catalog = new_catalog();
    let disk = volume(1, 1, 0, 1);
    let edits: Vec<_> = (1..=300).rev().map(|id| snapshot(id, &disk, 1, None, None).into()).collect();
    catalog.commit(None, &edits)?;
    let reader = catalog.read()?;
    assert_eq!(ids(reader.snapshots_of(disk.id)?)?, (1..=300).collect::<Vec<_>>());
    assert_eq!(ids(reader.snapshots_of(disk.id)?.rev().take(2))?, [300, 299]);
    assert_eq!(ids(reader.snapshots(SnapshotId(299))?)?, [299, 300]);
    assert_eq!(ids(reader.snapshots(SnapshotId(0))?.rev().take(1))?, [300]);
    Ok(())
}

#[test]
fn a_ref_of_a_snapshot_that_is_gone_is_still_found() -> Result<()> {
    let catalog = world_catalog();
    let mut member = catalog.read()?.ref_of(GroupId(1), 0)?.expect("the world has it");
    member.snapshot_deleted = true;
    catalog.commit(None, &[member.clone().into(), super::super::Edit::RemoveSnapshot(SnapshotId(10))])?;
    let reader = catalog.read()?;
    assert_eq!(reader.refs_of_gone_snapshot(uuid_of(SnapshotId(10)))?, [member.clone()]);
    assert_eq!(reader.ref_of_snapshot(SnapshotId(10))?, Some(member));
    assert_eq!(reader.refs_of_gone_snapshot(uuid_of(SnapshotId(11)))?, []);
    Ok(())
}

#[test]
fn a_chain_goes_from_the_top_down_and_never_in_circles() -> Result<()> {
    let catalog = world_catalog();
    assert_eq!(ids(catalog.read()?.chain(LayerId(12))?.into_iter().map(Ok))?, [12, 11, 10]);
    let edits = [
        layer(30, 1, Some(31), LayerState::Frozen).into(),
        layer(31, 1, Some(30), LayerState::Frozen).into(),
        layer(40, 1, Some(99), LayerState::Frozen).into(),
    ];
    catalog.commit(None, &edits)?;
    let reader = catalog.read()?;
    let Err(Error::ChainLoops { layer: LayerId(30) }) = reader.chain(LayerId(30)) else {
        panic!("the chain does not end");
    };
    let Err(Error::Dangling { from, to }) = reader.chain(LayerId(40)) else {
        panic!("the chain has a hole");
    };
    assert_eq!((from, to), (Place::Record(LayerId(40).into()), LayerId(99).into()));
    Ok(())
}

#[test]
fn a_prepared_group_is_found_by_its_machine_until_it_is_removed() -> Result<()> {
    let catalog = world_catalog();
    assert_eq!((catalog.read()?.prepared()?, catalog.read()?.prepared_of(MachineId(1))?), (vec![], None));
    let absent = catalog.commit(None, &[super::super::Edit::RemovePrepared(MachineId(1))]);
    let Err(Error::Absent { place: Place::Prepared(MachineId(1)) }) = absent else { panic!("{absent:?}") };
    let prepared = PreparedRecord {
        machine: MachineId(1),
        group: Uuid::from_u128(100),
        name: String::from("live"),
        description: None,
        left_out: Vec::new(),
        tags: super::super::Tags::default(),
        wish: super::super::WishMark(1),
        cluster_bits: 16,
        members: Vec::new(),
        created: super::super::Timestamp(1),
    };
    catalog.commit(None, &[prepared.clone().into()])?;
    let reader = catalog.read()?;
    assert_eq!(reader.prepared_of(MachineId(1))?, Some(prepared.clone()));
    assert_eq!((reader.prepared_of(MachineId(2))?, reader.prepared()?), (None, vec![prepared]));
    catalog.commit(None, &[super::super::Edit::RemovePrepared(MachineId(1))])?;
    assert_eq!(catalog.read()?.prepared()?, []);
    Ok(())
}

#[test]
fn a_reader_ends_with_its_catalogue() -> Result<()> {
    let catalog = world_catalog();
    let reader = catalog.read()?;
    catalog.close()?;
    let found = reader.snapshots_of(VolumeId(1)).and_then(Iterator::collect::<Result<Vec<_>>>);
    let Err(Error::Closed) = found else {
        panic!("a closed catalogue was read");
    };
    Ok(())
}

#[test]
fn a_record_under_a_foreign_key_is_refused() -> Result<()> {
    let catalog = world_catalog();
    let transaction = catalog.database.begin_write()?;
    transaction
        .open_table(tables::records(Kind::Machine))?
        .insert(&tables::id_key(MachineId(1)), super::super::encoding::encode(&machine(2)).as_slice())?;
    transaction.commit()?;
    let Err(Error::Malformed { source: Malformed::Misplaced { id: 2 }, .. }) =
        catalog.read()?.machine(MachineId(1))
    else {
        panic!("machine 2 was taken for machine 1");
    };
    Ok(())
}
