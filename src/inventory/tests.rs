//! Records become shapes: every field from its source.

use super::*;
use crate::catalog::{
    self, Attachment, GroupId, GroupRecord, LayerFormat, LayerId, LayerRecord, LayerState, MachineId,
    MachineRecord, Origin, RefRecord, Running, Settled, Sharing, SnapshotId, SnapshotRecord, Tags, Timestamp,
    TreeId, TreeRecord, VolumeId, VolumeKind, VolumeRecord, WishMark,
};
use crate::units::ByteCount;
use serde::de::DeserializeOwned;
use serde_json::json;

type Test = Result<(), serde_json::Error>;

/// A value by its text: a blob's name, whose room this one may not name.
fn named<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_value(json!(text)).expect("the text of a test is well formed")
}

fn uuid(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn locate(blob: &str) -> String {
    format!("/pool/{blob}")
}

fn tags() -> Tags {
    Tags { tag_uuids: vec![uuid(7)], user_tags: vec!["mine".into()], system_tags: vec!["theirs".into()] }
}

fn layer(id: u64, format: LayerFormat) -> LayerRecord {
    LayerRecord {
        id: LayerId(id),
        uuid: uuid(500 + u128::from(id)),
        blob: named(&format!("layer-{id}.qcow2")),
        format,
        volume: VolumeId(1),
        parent: None,
        backing_label: None,
        size: ByteCount::gib(1),
        cluster_bits: 16,
        state: LayerState::Frozen,
        rewrite: None,
        taken_in: None,
        l2: crate::catalog::L2Entries::Standard,
        seal: None,
        settled: Settled::Yes,
        origin: Origin::Created,
        created: Timestamp(0),
    }
}

fn volume(attachments: Vec<Attachment>) -> VolumeRecord {
    VolumeRecord {
        id: VolumeId(1),
        uuid: uuid(100),
        name: "root".into(),
        description: None,
        kind: VolumeKind::Root,
        sharing: Sharing::Exclusive,
        attachments,
        size: ByteCount::gib(2),
        head: LayerId(9),
        tree_current: Some(TreeId(1)),
        wish: WishMark::default(),
        created: Timestamp(1_000),
        changed: Timestamp(2_000),
        chain_max: None,
    }
}

fn tree() -> TreeRecord {
    TreeRecord {
        id: TreeId(1),
        uuid: uuid(300),
        volume: VolumeId(1),
        latest: Some(SnapshotId(2)),
        created: Timestamp(1_000),
        changed: Timestamp(2_000),
    }
}

fn snapshot(id: u64, parent: Option<u64>) -> SnapshotInventory {
    let record = SnapshotRecord {
        id: SnapshotId(id),
        uuid: uuid(id.into()),
        name: format!("snapshot {id}"),
        description: Some("before the change".into()),
        volume: VolumeId(1),
        volume_uuid: uuid(100),
        volume_kind: VolumeKind::Data,
        tree: TreeId(1),
        parent: parent.map(SnapshotId),
        layer: LayerId(id),
        distance: 3,
        size: ByteCount::mib(5),
        size_virtual: ByteCount::gib(1),
        group: Some(GroupId(1)),
        tags: tags(),
        wish: WishMark(1),
        created: Timestamp(60_000),
        changed: Timestamp(61_000),
        holds: vec!["backup".into()],
    };
    let layer = layer(id, LayerFormat::Raw);
    let relations = SnapshotRelations {
        layer: &layer,
        tree: &tree(),
        parent_uuid: parent.map(|parent| uuid(parent.into())),
        group_uuid: Some(uuid(200)),
    };
    SnapshotInventory::new(&record, relations, locate)
}

fn group(id: u64, parent: Option<u64>, deleted: bool) -> GroupInventory {
    let record = GroupRecord {
        id: GroupId(id),
        uuid: uuid(id.into()),
        name: format!("group {id}"),
        description: Some("nightly".into()),
        machine: MachineId(1),
        machine_uuid: uuid(400),
        snapshot_count: 1,
        parent: parent.map(GroupId),
        consistency: catalog::Consistency::Application,
        left_out: Vec::new(),
        tags: tags(),
        wish: WishMark(1),
        created: Timestamp(60_000),
        changed: Timestamp(61_000),
    };
    let member = RefRecord {
        group: GroupId(id),
        ordinal: 0,
        snapshot: SnapshotId(2),
        snapshot_uuid: uuid(2),
        snapshot_name: "group-root".into(),
        snapshot_deleted: deleted,
        device_id: 4,
        volume: VolumeId(1),
        volume_uuid: uuid(100),
        volume_name: "root".into(),
        volume_kind: VolumeKind::Memory,
        blob: named("layer-2.qcow2"),
        attached_since: Timestamp(50_000),
        created: Timestamp(62_000),
        changed: Timestamp(63_000),
    };
    GroupInventory::new(&record, &[member], parent.map(|parent| uuid(parent.into())), locate)
}

#[test]
fn a_group_shows_its_record_and_its_members() -> Test {
    let shape = group(8, Some(5), true);
    let json = json!({
        "uuid": "00000000000000000000000000000008",
        "snapshotCount": 1,
        "name": "group 8",
        "description": "nightly",
        "vmInstanceUuid": "00000000000000000000000000000190",
        "createDate": "Jan 1, 1970 12:01:00 AM",
        "lastOpDate": "Jan 1, 1970 12:01:01 AM",
        "volumeSnapshotRefs": [{
            "volumeSnapshotUuid": "00000000000000000000000000000002",
            "volumeSnapshotGroupUuid": "00000000000000000000000000000008",
            "deviceId": 4,
            "snapshotDeleted": true,
            "volumeUuid": "00000000000000000000000000000064",
            "volumeName": "root",
            "volumeType": "Memory",
            "volumeSnapshotInstallPath": "/pool/layer-2.qcow2",
            "volumeSnapshotName": "group-root",
            "createDate": "Jan 1, 1970 12:01:02 AM",
            "lastOpDate": "Jan 1, 1970 12:01:03 AM",
            "volumeLastAttachDate": "Jan 1, 1970 12:00:50 AM",
        }],
        "parentGroupUuid": "00000000000000000000000000000005",
        "consistency": "Application",
        "tagUuids": ["00000000000000000000000000000007"],
        "userTags": ["mine"],
        "systemTags": ["theirs"],
    });
    assert_eq!(serde_json::to_value(&shape)?, json);
    assert_eq!(serde_json::from_value::<GroupInventory>(json)?, shape);
    assert!(shape.is_incomplete());
    Ok(())
}

#[test]
fn a_snapshot_shows_its_record_and_what_is_around_it() -> Test {
    let shape = snapshot(2, Some(1));
    let json = json!({
        "uuid": "00000000000000000000000000000002",
        "name": "snapshot 2",
        "description": "before the change",
        "type": "Hypervisor",
        "volumeUuid": "00000000000000000000000000000064",
        "treeUuid": "0000000000000000000000000000012c",
        "parentUuid": "00000000000000000000000000000001",
        "primaryStorageInstallPath": "/pool/layer-2.qcow2",
        "volumeType": "Data",
        "format": "raw",
        "distance": 3,
        "latest": true,
        "size": 5 << 20,
        "virtualSize": 1 << 30,
        "state": "Enabled",
        "status": "Ready",
        "holds": ["backup"],
            "groupUuid": "000000000000000000000000000000c8",
        "createDate": "Jan 1, 1970 12:01:00 AM",
        "lastOpDate": "Jan 1, 1970 12:01:01 AM",
        "tagUuids": ["00000000000000000000000000000007"],
        "userTags": ["mine"],
        "systemTags": ["theirs"],
    });
    assert_eq!(serde_json::to_value(&shape)?, json);
    assert_eq!(serde_json::from_value::<SnapshotInventory>(json)?, shape);
    assert!(!snapshot(3, Some(2)).latest);
    Ok(())
}

#[test]
fn a_tree_with_one_root_nests_it_and_a_tree_without_one_nests_the_rest() -> Test {
    let whole = TreeInventory::new(
        &tree(),
        &volume(vec![]),
        vec![snapshot(1, None), snapshot(2, Some(1)), snapshot(3, Some(1))],
    );
    assert!(whole.current);
    let json = serde_json::to_value(&whole)?;
    assert_eq!(json["tree"]["inventory"]["name"], "snapshot 1");
    assert_eq!(json["tree"]["children"][1]["inventory"]["name"], "snapshot 3");
    assert_eq!(json["tree"]["children"][1]["parentUuid"], "00000000000000000000000000000001");
    assert_eq!(json["tree"]["children"][1]["children"], json!([]));
    assert_eq!(serde_json::from_value::<TreeInventory>(json)?, whole);

    for snapshots in [vec![], vec![snapshot(2, None), snapshot(3, None)]] {
        let count = snapshots.len();
        let rootless = TreeInventory::new(&tree(), &volume(vec![]), snapshots);
        let json = serde_json::to_value(&rootless)?;
        assert_eq!(json["tree"]["inventory"], json!(null));
        assert_eq!(json["tree"]["children"].as_array().map(Vec::len), Some(count));
        assert_eq!(serde_json::from_value::<TreeInventory>(json)?, rootless);
    }
    Ok(())
}

#[test]
fn groups_stand_under_the_group_they_descend_from() -> Test {
    let groups = vec![
        group(1, None, false),
        group(2, Some(1), true),
        group(3, Some(2), false),
        group(4, Some(77), false),
    ];
    let forest = GroupTreeInventory::forest(groups, Some(uuid(3)));
    let shown: Vec<_> =
        forest.nodes().iter().map(|node| (node.depth, node.value.current, node.value.incomplete)).collect();
    assert_eq!(shown, [(0, false, false), (1, false, true), (2, true, false), (0, false, false)]);
    let json = serde_json::to_value(&forest)?;
    assert_eq!(json[0]["children"][0]["children"][0]["refs"][0]["deviceId"], 4);
    assert_eq!(serde_json::from_value::<Forest<GroupTreeInventory>>(json)?, forest);
    Ok(())
}

#[test]
fn a_volume_shows_its_head_and_every_machine_that_has_it() -> Test {
    let in_machine = |id: u64| Attachment { machine: MachineId(id), device_id: 3, since: Timestamp(1_000) };
    let machine_uuid = |id: MachineId| uuid(400 + u128::from(id.0));
    let head = layer(9, LayerFormat::Qcow2);
    let shape = |attachments| {
        VolumeInventory::new(&volume(attachments), &head, Some(uuid(300)), machine_uuid, locate)
    };

    let json = json!({
        "uuid": "00000000000000000000000000000064",
        "name": "root",
        "vmInstanceUuid": "00000000000000000000000000000191",
        "installPath": "/pool/layer-9.qcow2",
        "type": "Root",
        "format": "qcow2",
        "size": 2_u64 << 30,
        "deviceId": 3,
        "state": "Enabled",
        "status": "Ready",
        "isShareable": false,
        "currentTreeUuid": "0000000000000000000000000000012c",
        "createDate": "Jan 1, 1970 12:00:01 AM",
        "lastOpDate": "Jan 1, 1970 12:00:02 AM",
        "lastAttachDate": "Jan 1, 1970 12:00:01 AM",
    });
    let attached = shape(vec![in_machine(1)]);
    assert_eq!(serde_json::to_value(&attached)?, json);
    assert_eq!(serde_json::from_value::<VolumeInventory>(json)?, attached);

    let detached = shape(vec![]);
    assert_eq!(
        (detached.vm_instance_uuid, detached.device_id, detached.last_attach_date),
        (None, None, None)
    );
    let shared = shape(vec![in_machine(1), in_machine(2)]);
    assert_eq!(
        shared.attachments.iter().map(|at| at.vm_instance_uuid).collect::<Vec<_>>(),
        [uuid(401), uuid(402)]
    );
    Ok(())
}

#[test]
fn a_machine_shows_its_volumes_and_finds_its_root() -> Test {
    let record = MachineRecord {
        id: MachineId(1),
        uuid: uuid(400),
        name: "vm".into(),
        description: None,
        running: Running::Elsewhere,
        group_current: Some(GroupId(1)),
        created: Timestamp(0),
        changed: Timestamp(0),
    };
    let head = layer(9, LayerFormat::Qcow2);
    let root = VolumeInventory::new(&volume(vec![]), &head, Some(uuid(300)), |_| uuid(400), locate);
    let data = VolumeInventory { uuid: uuid(101), volume_type: VolumeType::Data, ..root.clone() };
    let shape = MachineInventory::new(&record, vec![data, root], Some(uuid(200)));
    assert_eq!(shape.root_volume_uuid, Some(uuid(100)));
    let json = serde_json::to_value(&shape)?;
    assert_eq!(json["state"], "Running");
    assert_eq!(json["currentGroupUuid"], "000000000000000000000000000000c8");
    assert_eq!(json["allVolumes"][1]["uuid"], "00000000000000000000000000000064");
    assert_eq!(serde_json::from_value::<MachineInventory>(json)?, shape);
    Ok(())
}

#[test]
fn a_word_in_json_is_the_word_in_text() -> Test {
    assert_eq!(VolumeType::ALL.len(), 3);
    for value in VolumeType::ALL {
        assert_eq!(serde_json::to_value(value)?, json!(value.as_str()));
    }
    for value in ImageFormat::ALL {
        assert_eq!(serde_json::to_value(value)?, json!(value.to_string()));
    }
    Ok(())
}
