//! Every invariant is seen broken once, and nothing else is reported with it.

use super::super::testing::*;
use super::super::*;
use super::{Severity, Violation};
use crate::storage::BlobName;
use crate::units::ByteCount;
use uuid::Uuid;

/// The lawful world, with further edits, checked.
fn verify_after(edits: &[Edit]) -> Result<Vec<Violation>> {
    let catalog = world_catalog();
    catalog.commit(None, edits)?;
    catalog.read()?.verify()
}

/// One record of the lawful world, changed.
macro_rules! changed {
    ($reader:ident, $get:ident($id:expr), $record:ident => $change:expr) => {{
        let mut $record = $reader.$get($id)?.expect("the world has it");
        $change;
        Edit::from($record)
    }};
}

#[test]
fn a_lawful_world_has_no_violation() -> Result<()> {
    assert_eq!(verify_after(&[])?, []);
    assert_eq!(new_catalog().read()?.verify()?, []);
    Ok(())
}

#[test]
fn c1_what_a_record_names_must_be_there() -> Result<()> {
    let catalog = world_catalog();
    let reader = catalog.read()?;
    let edits = [
        changed!(reader, machine(MachineId(1)), machine => machine.group_current = Some(GroupId(77))),
        layer(30, 9, Some(99), LayerState::Retired).into(),
        changed!(reader, tree(TreeId(1)), tree => tree.latest = Some(SnapshotId(55))),
        group(3, 8, 0, Some(66)).into(),
    ];
    let found = verify_after(&edits)?;
    for (from, to) in [
        (Entity::from(MachineId(1)), Entity::from(GroupId(77))),
        (LayerId(30).into(), LayerId(99).into()),
        (TreeId(1).into(), SnapshotId(55).into()),
        (GroupId(3).into(), MachineId(8).into()),
        (GroupId(3).into(), GroupId(66).into()),
    ] {
        let wanted = Violation::Dangling { from: Place::Record(from), to };
        assert!(found.contains(&wanted), "{wanted} is not in {found:?}");
    }
    assert_eq!(found.len(), 6, "{found:?}");
    Ok(())
}

#[test]
fn c2_a_head_has_one_volume_and_a_volume_has_a_head() -> Result<()> {
    let catalog = world_catalog();
    let reader = catalog.read()?;
    let head = changed!(reader, layer(LayerId(12)), layer => layer.state = LayerState::Frozen);
    let wanted = Violation::Head { layer: LayerId(12), volumes: vec![VolumeId(1)] };
    assert_eq!(verify_after(&[head])?, [wanted]);
    let lonely = layer(30, 1, None, LayerState::Head).into();
    assert_eq!(verify_after(&[lonely])?, [Violation::Head { layer: LayerId(30), volumes: vec![] }]);
    let foreign = changed!(reader, layer(LayerId(12)), layer => layer.volume = VolumeId(2));
    let wanted = Violation::Head { layer: LayerId(12), volumes: vec![VolumeId(1)] };
    assert_eq!(verify_after(&[foreign])?, [wanted]);
    Ok(())
}

#[test]
fn c3_nothing_reads_through_a_head() -> Result<()> {
    let edits = [layer(30, 3, Some(12), LayerState::Head).into(), volume(3, 1, 3, 30).into()];
    let wanted = Violation::AboveHead { head: LayerId(12), above: LayerId(30) };
    assert_eq!(verify_after(&edits)?, [wanted]);
    Ok(())
}

#[test]
fn c3_nothing_reads_through_a_layer_that_is_being_filled() -> Result<()> {
    let catalog = world_catalog();
    let reader = catalog.read()?;
    let filled = || layer(30, 9, None, LayerState::Building);
    assert_eq!(verify_after(&[filled().into()])?, []);
    let above = changed!(reader, layer(LayerId(10)), layer => layer.parent = Some(LayerId(30)));
    let wanted = Violation::AboveHead { head: LayerId(30), above: LayerId(10) };
    assert_eq!(verify_after(&[filled().into(), above])?, [wanted]);
    Ok(())
}

#[test]
fn c4_what_a_header_will_name_is_needed() -> Result<()> {
    let catalog = world_catalog();
    let reader = catalog.read()?;
    let retired = || Edit::from(layer(30, 1, None, LayerState::Retired));
    let rewrite = HeaderRewrite { header: vec![1], parent: Some(LayerId(30)), backing_label: None };
    let head = changed!(reader, layer(LayerId(12)), layer => layer.rewrite = Some(rewrite));
    assert_eq!(verify_after(&[retired(), head])?, []);
    assert_eq!(verify_after(&[retired()])?, [Violation::ForNothing { layer: LayerId(30) }]);
    Ok(())
}

#[test]
fn c4_a_layer_is_there_for_something_or_garbage() -> Result<()> {
    for state in [LayerState::Frozen, LayerState::Retired] {
        let found = verify_after(&[layer(30, 1, None, state).into()])?;
        assert_eq!(found, [Violation::ForNothing { layer: LayerId(30) }]);
        assert_eq!(found[0].severity(), Severity::Broken);
    }
    let garbage = verify_after(&[layer(30, 1, None, LayerState::Garbage).into()])?;
    assert_eq!(garbage, [Violation::Garbage { layer: LayerId(30) }]);
    assert_eq!(garbage[0].severity(), Severity::Leftover);
    let reads_on = verify_after(&[layer(30, 1, Some(10), LayerState::Garbage).into()])?;
    assert_eq!(reads_on, [Violation::GarbageInUse { layer: LayerId(30) }]);
    assert_eq!(reads_on[0].severity(), Severity::Broken);
    let catalog = world_catalog();
    let reader = catalog.read()?;
    let below = changed!(reader, layer(LayerId(10)), layer => layer.state = LayerState::Garbage);
    assert_eq!(verify_after(&[below])?, [Violation::GarbageInUse { layer: LayerId(10) }]);
    Ok(())
}

#[test]
fn c5_no_snapshot_names_a_retired_layer() -> Result<()> {
    let catalog = world_catalog();
    let reader = catalog.read()?;
    let edit = changed!(reader, layer(LayerId(10)), layer => layer.state = LayerState::Retired);
    let wanted = Violation::RetiredInUse { layer: LayerId(10), snapshot: SnapshotId(10) };
    assert_eq!(verify_after(&[edit])?, [wanted]);
    Ok(())
}

#[test]
fn c6_a_chain_comes_to_an_end() -> Result<()> {
    let catalog = world_catalog();
    let reader = catalog.read()?;
    let edit = changed!(reader, layer(LayerId(10)), layer => layer.parent = Some(LayerId(11)));
    let wanted = [10, 11, 12].map(|id| Violation::EndlessChain { layer: LayerId(id) });
    assert_eq!(verify_after(&[edit])?, wanted);
    Ok(())
}

#[test]
fn c6_a_chain_is_not_longer_than_what_is_followed() -> Result<()> {
    let length = u64::try_from(super::super::reader::CHAIN_LAYERS_MAX).expect("a small number") + 1;
    let mut edits: Vec<Edit> = vec![machine(1).into(), volume(1, 1, 0, length).into()];
    for id in 1..=length {
        let state = if id == length { LayerState::Head } else { LayerState::Retired };
        edits.push(layer(id, 1, Some(id - 1).filter(|below| *below > 0), state).into());
    }
    let catalog = new_catalog();
    catalog.commit(None, &edits)?;
    let reader = catalog.read()?;
    assert_eq!(reader.verify()?, [Violation::EndlessChain { layer: LayerId(length) }]);
    let Err(Error::ChainTooLong { layer: LayerId(top), .. }) = reader.chain(LayerId(length)) else {
        panic!("a chain of {length} layers was followed");
    };
    assert_eq!(top, length);
    assert_eq!(u64::try_from(reader.chain(LayerId(length - 1))?.len()).expect("it fits"), length - 1);
    Ok(())
}

#[test]
fn c7_a_blob_holds_one_layer() -> Result<()> {
    let catalog = world_catalog();
    let reader = catalog.read()?;
    let name = BlobName::parse("layer-10.qcow2").expect("a lawful name");
    let edit = changed!(reader, layer(LayerId(20)), layer => layer.blob = name);
    let layers = vec![LayerId(10), LayerId(20)];
    assert_eq!(verify_after(&[edit])?, [Violation::SharedBlob { blob: "layer-10.qcow2".into(), layers }]);
    Ok(())
}

#[test]
fn c8_a_snapshot_agrees_with_its_tree_and_its_volume() -> Result<()> {
    let catalog = world_catalog();
    let reader = catalog.read()?;
    let wanted = [Violation::SnapshotElsewhere { snapshot: SnapshotId(10) }];
    let edit =
        changed!(reader, snapshot(SnapshotId(10)), snapshot => snapshot.volume_kind = VolumeKind::Data);
    assert_eq!(verify_after(&[edit])?, wanted);
    let uuid = uuid_of(VolumeId(2));
    let edit = changed!(reader, snapshot(SnapshotId(10)), snapshot => snapshot.volume_uuid = uuid);
    assert_eq!(verify_after(&[edit])?, wanted);
    let edit = changed!(reader, tree(TreeId(1)), tree => tree.volume = VolumeId(2));
    assert!(verify_after(&[edit])?.contains(&wanted[0]));
    Ok(())
}

#[test]
fn c9_the_parent_of_a_snapshot_is_in_its_tree() -> Result<()> {
    let catalog = world_catalog();
    let reader = catalog.read()?;
    let edit = changed!(reader, snapshot(SnapshotId(21)), snapshot => snapshot.parent = Some(SnapshotId(10)));
    assert_eq!(verify_after(&[edit])?, [Violation::SnapshotParent { snapshot: SnapshotId(21) }]);
    Ok(())
}

#[test]
fn c9_no_snapshot_descends_from_itself() -> Result<()> {
    let catalog = world_catalog();
    let reader = catalog.read()?;
    let edit = changed!(reader, snapshot(SnapshotId(10)), snapshot => {
        snapshot.parent = Some(SnapshotId(11));
        snapshot.distance = 3;
    });
    let found = verify_after(&[edit])?;
    for id in [10, 11] {
        assert!(found.contains(&Violation::SnapshotParent { snapshot: SnapshotId(id) }), "{found:?}");
    }
    Ok(())
}

#[test]
fn c10_the_layer_of_a_snapshot_is_frozen() -> Result<()> {
    let catalog = world_catalog();
    let reader = catalog.read()?;
    let disk = reader.volume(VolumeId(1))?.expect("the world has it");
    let mut extra = snapshot(30, &disk, 12, Some(11), None);
    extra.distance = 3;
    assert_eq!(verify_after(&[extra.into()])?, [Violation::SnapshotNotFrozen { snapshot: SnapshotId(30) }]);
    let mut root = snapshot(30, &disk, 30, None, None);
    root.tree = TreeId(9);
    let edits = [layer(30, 1, None, LayerState::Building).into(), tree(9, 1, Some(30)).into(), root.into()];
    assert_eq!(verify_after(&edits)?, [Violation::SnapshotNotFrozen { snapshot: SnapshotId(30) }]);
    Ok(())
}

#[test]
fn c11_the_latest_of_a_tree_is_in_it() -> Result<()> {
    let edits = [tree(9, 1, Some(10)).into()];
    assert_eq!(verify_after(&edits)?, [Violation::LatestElsewhere { tree: TreeId(9) }]);
    Ok(())
}

#[test]
fn c12_the_current_tree_is_of_the_volume() -> Result<()> {
    let catalog = world_catalog();
    let reader = catalog.read()?;
    let edits = [
        tree(9, 2, None).into(),
        changed!(reader, volume(VolumeId(1)), volume => volume.tree_current = Some(TreeId(9))),
    ];
    assert_eq!(verify_after(&edits)?, [Violation::TreeElsewhere { volume: VolumeId(1) }]);
    Ok(())
}

#[test]
fn c13_the_head_reads_through_the_latest() -> Result<()> {
    let catalog = world_catalog();
    let reader = catalog.read()?;
    let edit = changed!(reader, layer(LayerId(12)), layer => layer.parent = Some(LayerId(10)));
    assert_eq!(verify_after(&[edit])?, [Violation::LatestNotBelow { volume: VolumeId(1) }]);
    Ok(())
}

#[test]
fn c14_a_distance_is_one_more_than_the_parents() -> Result<()> {
    let catalog = world_catalog();
    let reader = catalog.read()?;
    let edit = changed!(reader, snapshot(SnapshotId(11)), snapshot => snapshot.distance = 3);
    assert_eq!(verify_after(&[edit])?, [Violation::Distance { snapshot: SnapshotId(11), found: 3 }]);
    let edit = changed!(reader, snapshot(SnapshotId(11)), snapshot => snapshot.parent = None);
    assert_eq!(verify_after(&[edit])?, [Violation::Distance { snapshot: SnapshotId(11), found: 2 }]);
    Ok(())
}

#[test]
fn c15_a_group_keeps_its_refs() -> Result<()> {
    let catalog = world_catalog();
    let reader = catalog.read()?;
    let gone = changed!(reader, snapshot(SnapshotId(10)), snapshot => snapshot.group = None);
    let edits = [Edit::RemoveRef { group: GroupId(1), ordinal: 0 }, gone];
    let wanted = Violation::Members { group: GroupId(1), expected: 2, found: vec![1] };
    assert_eq!(verify_after(&edits)?, [wanted]);
    Ok(())
}

#[test]
fn c16_a_ref_knows_whether_its_snapshot_is_gone() -> Result<()> {
    let catalog = world_catalog();
    let reader = catalog.read()?;
    let mut member = reader.ref_of(GroupId(1), 1)?.expect("the world has it");
    member.snapshot_deleted = true;
    let wanted = Violation::Deleted { group: GroupId(1), ordinal: 1 };
    assert_eq!(verify_after(&[member.into()])?, [wanted]);
    Ok(())
}

#[test]
fn c17_snapshots_and_refs_agree() -> Result<()> {
    let catalog = world_catalog();
    let reader = catalog.read()?;
    let edit = changed!(reader, snapshot(SnapshotId(10)), snapshot => snapshot.group = None);
    let wanted = Violation::Membership { snapshot: SnapshotId(10), groups: vec![GroupId(1)] };
    assert_eq!(verify_after(&[edit])?, [wanted]);
    let mut member = reader.ref_of(GroupId(1), 0)?.expect("the world has it");
    member.snapshot_uuid = uuid_of(SnapshotId(99));
    let wanted = Violation::Membership { snapshot: SnapshotId(10), groups: vec![GroupId(1)] };
    assert_eq!(verify_after(&[member.into()])?, [wanted]);
    Ok(())
}

#[test]
fn c18_the_parent_of_a_group_is_of_its_machine() -> Result<()> {
    let edits = [machine(2).into(), group(3, 2, 0, Some(1)).into()];
    assert_eq!(verify_after(&edits)?, [Violation::GroupParent { group: GroupId(3) }]);
    let catalog = world_catalog();
    let reader = catalog.read()?;
    let edit = changed!(reader, group(GroupId(1)), group => group.parent = Some(GroupId(2)));
    let wanted = [1, 2].map(|id| Violation::GroupParent { group: GroupId(id) });
    assert_eq!(verify_after(&[edit])?, wanted);
    let edit = changed!(reader, group(GroupId(1)), group => group.machine_uuid = uuid_of(MachineId(5)));
    assert_eq!(verify_after(&[edit])?, [Violation::GroupParent { group: GroupId(1) }]);
    Ok(())
}

#[test]
fn c19_the_current_group_is_of_the_machine() -> Result<()> {
    let mut other = machine(2);
    other.group_current = Some(GroupId(1));
    assert_eq!(verify_after(&[other.into()])?, [Violation::GroupElsewhere { machine: MachineId(2) }]);
    Ok(())
}

#[test]
fn c20_device_ids_differ() -> Result<()> {
    let edits = [layer(30, 3, None, LayerState::Head).into(), volume(3, 1, 1, 30).into()];
    let volumes = vec![VolumeId(2), VolumeId(3)];
    let wanted = Violation::SharedDevice { machine: MachineId(1), device_id: 1, volumes };
    assert_eq!(verify_after(&edits)?, [wanted]);
    Ok(())
}

#[test]
fn c21_an_exclusive_volume_is_attached_once() -> Result<()> {
    let catalog = world_catalog();
    let reader = catalog.read()?;
    let second = Attachment { machine: MachineId(2), device_id: 0, since: Timestamp(1) };
    let exclusive = changed!(reader, volume(VolumeId(2)), volume => volume.attachments.push(second.clone()));
    let machines = vec![MachineId(1), MachineId(2)];
    let wanted = Violation::Attachments { volume: VolumeId(2), machines };
    assert_eq!(verify_after(&[machine(2).into(), exclusive])?, [wanted]);
    let shareable = changed!(reader, volume(VolumeId(2)), volume => {
        volume.sharing = Sharing::Shareable;
        volume.attachments.push(second);
    });
    assert_eq!(verify_after(&[machine(2).into(), shareable])?, []);
    Ok(())
}

#[test]
fn c22_a_machine_has_one_root() -> Result<()> {
    let mut disk = volume(3, 1, 5, 30);
    disk.kind = VolumeKind::Root;
    disk.size = ByteCount::mib(1);
    let edits = [layer(30, 3, None, LayerState::Head).into(), disk.into()];
    let volumes = vec![VolumeId(1), VolumeId(3)];
    assert_eq!(verify_after(&edits)?, [Violation::Roots { machine: MachineId(1), volumes }]);
    Ok(())
}

/// The lawful world, its tables changed behind the catalogue's back.
fn verify_tampered(tamper: impl FnOnce(&redb::WriteTransaction)) -> Result<Vec<Violation>> {
    let catalog = world_catalog();
    let transaction = catalog.database.begin_write()?;
    tamper(&transaction);
    transaction.commit()?;
    catalog.read()?.verify()
}

#[test]
fn c23_the_uuid_table_agrees_with_the_records() -> Result<()> {
    use super::super::tables::{UUIDS, entity_value};
    let uuid = uuid_of(GroupId(1));
    let found = verify_tampered(|transaction| {
        transaction.open_table(UUIDS).unwrap().remove(uuid.as_bytes()).unwrap();
    })?;
    let expected = Some(GroupId(1).into());
    assert_eq!(found, [Violation::UuidTable { uuid, found: None, expected }]);
    let wrong = Entity::from(GroupId(2));
    let found = verify_tampered(|transaction| {
        transaction.open_table(UUIDS).unwrap().insert(uuid.as_bytes(), &entity_value(wrong)).unwrap();
    })?;
    assert_eq!(found, [Violation::UuidTable { uuid, found: Some(wrong), expected }]);
    Ok(())
}

#[test]
fn c24_the_index_agrees_with_the_records() -> Result<()> {
    use super::super::tables::INDEX;
    let key = machine(1).index_keys().pop_first().expect("a machine has a name");
    let found = verify_tampered(|transaction| {
        transaction.open_table(INDEX).unwrap().remove(key.as_slice()).unwrap();
    })?;
    assert_eq!(found, [Violation::IndexLacks { key }]);
    let key = machine(2).index_keys().pop_first().expect("a machine has a name");
    let found = verify_tampered(|transaction| {
        transaction.open_table(INDEX).unwrap().insert(key.as_slice(), ()).unwrap();
    })?;
    assert_eq!(found, [Violation::IndexExtra { key }]);
    Ok(())
}

#[test]
fn c25_counters_are_above_every_id() -> Result<()> {
    use super::super::tables::{META, meta, next_value};
    let found = verify_tampered(|transaction| {
        let value = next_value([1, 3, 23, 22, 3, 3]);
        transaction.open_table(META).unwrap().insert(meta::NEXT, value.as_slice()).unwrap();
    })?;
    assert_eq!(found, [Violation::Counter { entity: MachineId(1).into(), next: 1 }]);
    Ok(())
}

#[test]
fn c27_the_sum_of_what_snapshots_take_up_is_right() -> Result<()> {
    use super::super::tables::{META, meta};
    let expected = world_catalog().read()?.snapshot_bytes()?;
    let found = verify_tampered(|transaction| {
        transaction.open_table(META).unwrap().insert(meta::SNAPSHOT_BYTES, &[0; 8][..]).unwrap();
    })?;
    assert_eq!(found, [Violation::SnapshotBytes { found: ByteCount::ZERO, expected }]);
    Ok(())
}

#[test]
fn c26_a_prepared_group_is_of_a_machine_that_runs_elsewhere_and_of_its_volumes() -> Result<()> {
    let elsewhere = MachineRecord { running: Running::Elsewhere, ..machine(1) };
    let member = |volume, first: u128| PreparedMember {
        volume: VolumeId(volume),
        snapshot: Uuid::from_u128(first),
        layer: Uuid::from_u128(first + 1),
        tree: Uuid::from_u128(first + 2),
        blob: crate::storage::BlobName::parse("layer-99.qcow2").expect("a lawful name"),
    };
    let lawful = PreparedRecord {
        machine: MachineId(1),
        group: Uuid::from_u128(100),
        name: String::from("live"),
        description: None,
        left_out: Vec::new(),
        tags: Tags::default(),
        wish: WishMark(1),
        cluster_bits: 16,
        members: vec![member(1, 110), member(2, 120)],
        created: Timestamp(1),
    };
    assert_eq!(verify_after(&[elsewhere.clone().into(), lawful.clone().into()])?, []);
    let wanted = [Violation::Prepared { machine: MachineId(1) }];
    assert_eq!(verify_after(&[lawful.clone().into()])?, wanted, "it runs here");
    let unlawful = [
        PreparedRecord { members: Vec::new(), ..lawful.clone() },
        PreparedRecord { members: vec![member(1, 110), member(1, 120)], ..lawful.clone() },
        PreparedRecord { members: vec![member(1, 110), member(2, 110)], ..lawful.clone() },
        PreparedRecord { members: vec![member(77, 110)], ..lawful.clone() },
        PreparedRecord { group: uuid_of(VolumeId(1)), ..lawful },
    ];
    for prepared in unlawful {
        assert_eq!(
            verify_after(&[elsewhere.clone().into(), prepared.clone().into()])?,
            wanted,
            "{prepared:?}"
        );
    }
    Ok(())
}
