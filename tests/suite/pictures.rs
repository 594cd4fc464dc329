//! What is drawn of groups and layers is what is there.

use crate::support::{Home, Outcome, make_machine, on_every_store, take};
use snapgroup::picture::NodeKind;
use snapgroup::{DeleteGroup, RevertGroup};

on_every_store! {
    a_picture_has_every_group_under_its_parent_and_marks_the_current_one
    a_picture_has_every_layer_that_the_disk_or_a_snapshot_reads_and_no_other
}

fn a_picture_has_every_group_under_its_parent_and_marks_the_current_one(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let first = take(&engine, &vm, "first")?;
    take(&engine, &vm, "second")?;
    engine.revert_group(&RevertGroup::new(first.uuid))?;
    take(&engine, &vm, "third")?;
    let picture = engine.picture_of_groups(vm.uuid)?;
    let nodes = picture.nodes();
    let found: Vec<(&str, Option<&str>, bool)> = nodes
        .nodes()
        .iter()
        .map(|node| {
            let parent = node.parent.map(|parent| nodes[parent].value.label.as_str());
            (node.value.label.as_str(), parent, node.value.current)
        })
        .collect();
    let expected = [("first", None, false), ("second", Some("first"), false), ("third", Some("first"), true)];
    assert_eq!(found, expected);
    Ok(())
}

fn a_picture_has_every_layer_that_the_disk_or_a_snapshot_reads_and_no_other(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let first = take(&engine, &vm, "first")?;
    take(&engine, &vm, "second")?;
    engine.revert_group(&RevertGroup::new(first.uuid))?;
    engine.delete_group(&DeleteGroup::new(first.uuid))?;
    let picture = engine.picture_of_layers(vm.root())?;
    let kinds: Vec<NodeKind> = picture.nodes().values().map(|node| node.kind).collect();
    // Two read through the layer of the first, so it stays; the head before the revert is gone.
    assert_eq!(kinds, [NodeKind::Retired, NodeKind::Snapshot, NodeKind::Head]);
    let parents: Vec<Option<usize>> = picture.nodes().nodes().iter().map(|node| node.parent).collect();
    assert_eq!(parents, [None, Some(0), Some(0)]);
    Ok(())
}
