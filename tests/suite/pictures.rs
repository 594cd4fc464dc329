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
    assert!(engine.delete_group(&DeleteGroup::new(first.uuid))?.is_success());
    let picture = engine.picture_of_layers(vm.root())?;
    let kinds: Vec<NodeKind> = picture.nodes().values().map(|node| node.kind).collect();
    // Two read through the layer of the first, so it stays; the head before the revert is gone.
    assert_eq!(kinds, [NodeKind::Retired, NodeKind::Snapshot, NodeKind::Head]);
    let parents: Vec<Option<usize>> = picture.nodes().nodes().iter().map(|node| node.parent).collect();
    assert_eq!(parents, [None, Some(0), Some(0)]);
    Ok(())
}

#[test]
fn no_text_of_a_page_is_cut_off_and_a_dark_page_has_colours_of_its_own() -> Outcome {
    let engine = Home::memory().open()?;
    let vm = make_machine(&engine, 2)?;
    // As wide as its characters are in pixels: a bold one is 9 wide, and those of East Asia fill a square of 14.
    for (name, width) in [("a group with a long name, as some are", 9), ("磁盤快照組與其全部成員", 14)]
    {
        take(&engine, &vm, name)?;
        let svg = engine.picture_of_groups(vm.uuid)?.to_svg();
        let (_, page) = svg.split_once(" width=\"").expect("a page has a width");
        let (_, text) = svg.rsplit_once("<text x=\"").expect("a text is somewhere");
        let number = |at: &str| -> Result<usize, std::num::ParseIntError> {
            at.split('"').next().unwrap_or_default().parse()
        };
        let facts = 7 * "2 snapshots · current".chars().count();
        let end = number(text)? + width * name.chars().count() + facts;
        assert!(text.contains(name) && number(page)? >= end, "{end} are needed: {svg}");
        assert!(svg.contains("prefers-color-scheme: dark"), "{svg}");
    }
    Ok(())
}
