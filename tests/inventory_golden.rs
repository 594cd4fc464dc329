//! The three examples of the API: read, every value looked at, and written back as they were.
//!
//! The fixtures are those examples to the letter. Their counts and device ids are floats (`1.0`); ours are
//! integers, and that is the only difference there may be, the order of the fields included.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use snapgroup::inventory::{
    Date, DeleteAnswer, DeleteResult, ErrorCode, GroupAnswer, GroupInventory, InventoryAnswer, ResultsAnswer,
    Uuid, VolumeType,
};
use std::error::Error;
use std::fmt::Debug;

type Test = Result<(), Box<dyn Error>>;

const CREATE: &str = include_str!("fixtures/inventory/create-answer.json");
const DELETE: &str = include_str!("fixtures/inventory/delete-answer.json");
const UPDATE: &str = include_str!("fixtures/inventory/update-answer.json");

/// Nov 14, 2017 10:20:57 PM UTC, as `date -u -d '2017-11-14 22:20:57' +%s` says.
const MOMENT: i64 = 1_510_698_057_000;

#[test]
fn the_answer_to_a_create_holds_the_group() -> Test {
    let InventoryAnswer(Ok(group)) = serde_json::from_str::<GroupAnswer>(CREATE)? else {
        panic!("the example has no inventory");
    };
    assert_group(
        &group,
        "4b13e23059033e2dbfac63b5b16eba11",
        "9ff17180fded31c2b9e4e5751ebcb2ba",
        "e83b2d306f0d353a889096ca0b44b444",
        "edc07fe8d8a335ec8aa00f23b88fc1c6",
    )
}

#[test]
fn the_answer_to_an_update_holds_the_group() -> Test {
    let InventoryAnswer(Ok(group)) = serde_json::from_str::<GroupAnswer>(UPDATE)? else {
        panic!("the example has no inventory");
    };
    assert_group(
        &group,
        "a261086918fe3c04be683430f15920a2",
        "98ac921100b43981b493071b6430bb2b",
        "7ac8675cd8a9389ca343a2a7d49c47d7",
        "6fb0e4a0c3d6315bbb5c08a1a33bc231",
    )
}

/// The examples differ in their uuids only.
fn assert_group(group: &GroupInventory, uuid: &str, machine: &str, snapshot: &str, volume: &str) -> Test {
    let moment = Date::from_millis(MOMENT);
    assert_eq!(group.uuid, Uuid::parse_str(uuid)?);
    assert_eq!(group.snapshot_count, 1);
    assert_eq!(group.name, "group");
    assert_eq!(group.description, None);
    assert_eq!(group.vm_instance_uuid, Uuid::parse_str(machine)?);
    assert_eq!(group.create_date, moment);
    assert_eq!(group.last_op_date, moment);
    assert_eq!(group.parent_group_uuid, None);
    assert_eq!(group.consistency, None);
    assert!(group.tag_uuids.is_empty() && group.user_tags.is_empty() && group.system_tags.is_empty());
    assert!(group.volumes_left_out.is_empty());
    assert!(!group.is_incomplete());

    let [member] = &group.volume_snapshot_refs[..] else {
        panic!("{} members", group.volume_snapshot_refs.len())
    };
    assert_eq!(member.volume_snapshot_uuid, Uuid::parse_str(snapshot)?);
    assert_eq!(member.volume_snapshot_group_uuid, group.uuid);
    assert_eq!(member.device_id, 0);
    assert!(!member.snapshot_deleted);
    assert_eq!(member.volume_uuid, Uuid::parse_str(volume)?);
    assert_eq!(member.volume_name, "ROOT-volume");
    assert_eq!(member.volume_type, VolumeType::Root);
    assert_eq!(member.volume_snapshot_install_path, "/Cloud_ps/to/path/snap.qcow2");
    assert_eq!(member.volume_snapshot_name, "group-ROOT-volume");
    assert_eq!(member.create_date, moment);
    assert_eq!(member.last_op_date, moment);
    assert_eq!(member.volume_last_attach_date, None);
    Ok(())
}

#[test]
fn the_answer_to_a_delete_holds_a_line_with_its_error() -> Test {
    let ResultsAnswer(Ok(lines)) = serde_json::from_str::<DeleteAnswer>(DELETE)? else {
        panic!("the example has no results");
    };
    let [DeleteResult { snapshot_uuid, volume_uuid, success, error: Some(error), already_deleted, .. }] =
        &lines[..]
    else {
        panic!("{lines:?}");
    };
    assert_eq!((*snapshot_uuid, *volume_uuid), (None, None));
    assert_eq!((*success, *already_deleted), (false, false));
    let ErrorCode { code, description, details, elaboration, opaque, cause, .. } = error;
    assert_eq!(code, "SYS.1001");
    assert_eq!(description, "internal error");
    assert_eq!(details, &None);
    assert_eq!(elaboration, &None);
    assert_eq!(opaque, &None);
    assert_eq!(cause, &None);
    Ok(())
}

#[test]
fn every_example_is_written_as_it_was_read() -> Test {
    assert_round_trip::<GroupAnswer>(CREATE)?;
    assert_round_trip::<DeleteAnswer>(DELETE)?;
    assert_round_trip::<GroupAnswer>(UPDATE)
}

fn assert_round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(example: &str) -> Test {
    let answer: T = serde_json::from_str(example)?;
    let written = serde_json::to_string(&answer)?;

    let expected = with_integers(serde_json::from_str(example)?);
    assert_eq!(serde_json::from_str::<Value>(&written)?, expected, "the values");
    assert_eq!(written, minified(example).replace(".0,", ","), "the fields and their order");
    assert_eq!(serde_json::from_str::<T>(&written)?, answer, "read again");
    Ok(())
}

/// The value with every float that has no fraction as an integer.
fn with_integers(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => {
            let text = number.to_string();
            let digits = text.strip_suffix(".0").unwrap_or(&text);
            digits.parse::<u64>().map_or(Value::Number(number), Value::from)
        }
        Value::Array(items) => items.into_iter().map(with_integers).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, with_integers(value))).collect()
        }
        other => other,
    }
}

/// The text without the white space between its tokens.
fn minified(json: &str) -> String {
    let mut in_string = false;
    json.chars()
        .filter(|&character| {
            in_string ^= character == '"';
            in_string || !character.is_whitespace()
        })
        .collect()
}

#[test]
fn an_example_with_another_count_is_refused_with_the_field_named() -> Test {
    for (found, shown) in [("1.5", "1.5"), ("-1", "-1"), ("-1.0", "-1.0"), ("\"1\"", "1")] {
        let example = CREATE.replace("\"snapshotCount\": 1.0", &format!("\"snapshotCount\": {found}"));
        assert_ne!(example, CREATE);
        let Err(error) = serde_json::from_str::<GroupAnswer>(&example) else { panic!("{found} was read") };
        let message = error.to_string();
        assert!(message.contains("a whole number from 0 to 4294967295"), "{message}");
        assert!(message.contains(shown), "{message}");
    }
    Ok(())
}

#[test]
fn an_example_without_a_field_of_the_api_is_refused() -> Test {
    let whole: Value = serde_json::from_str(CREATE)?;
    let Some(group) = whole["inventory"].as_object() else { panic!("{whole}") };
    for field in group.keys() {
        let mut without = whole.clone();
        without["inventory"].as_object_mut().and_then(|group| group.remove(field));
        let Err(error) = serde_json::from_value::<GroupAnswer>(without) else {
            panic!("read without {field}")
        };
        assert!(error.to_string().contains(field), "{error}");
    }
    let Some(member) = whole["inventory"]["volumeSnapshotRefs"][0].as_object() else { panic!("{whole}") };
    for field in member.keys() {
        let mut without = whole.clone();
        without["inventory"]["volumeSnapshotRefs"][0].as_object_mut().and_then(|member| member.remove(field));
        let Err(error) = serde_json::from_value::<GroupAnswer>(without) else {
            panic!("read without {field}")
        };
        assert!(error.to_string().contains(field), "{error}");
    }
    Ok(())
}

#[test]
fn what_other_versions_of_the_api_add_is_passed_over() -> Test {
    let example = CREATE.replace(
        "\"deviceId\"",
        "\"volumeLastAttachDate\": \"Nov 14, 2017 10:20:57 PM\", \"more\": [1], \"deviceId\"",
    );
    let InventoryAnswer(Ok(group)) = serde_json::from_str::<GroupAnswer>(&example)? else {
        panic!("no inventory")
    };
    assert_eq!(group.volume_snapshot_refs[0].volume_last_attach_date, Some(Date::from_millis(MOMENT)));
    Ok(())
}
