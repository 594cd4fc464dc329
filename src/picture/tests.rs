use super::*;

fn node(label: &str, kind: NodeKind) -> PictureNode {
    PictureNode { label: label.to_owned(), kind, facts: Vec::new(), current: false }
}

/// A picture of nodes, each with the place of its parent.
fn picture(nodes: &[(PictureNode, Option<usize>)]) -> Picture {
    let values: Vec<_> = nodes.iter().cloned().enumerate().collect();
    let forest = Forest::new(values, |(place, _)| *place, |(_, (_, parent))| *parent);
    Picture::new("a tree".to_owned(), forest.map(|(_, (node, _))| node))
}

/// A chain with two branches, one of them with a branch of its own; the head is on a branch.
fn branching() -> Picture {
    let named = |label: &str| node(label, NodeKind::Snapshot);
    let mut head = node("head", NodeKind::Head);
    head.current = true;
    head.facts = vec!["4 KiB".to_owned()];
    picture(&[
        (node("base", NodeKind::Base), None),
        (named("monday"), Some(0)),
        (named("experiment"), Some(1)),
        (node("gone", NodeKind::Retired), Some(2)),
        (named("twig"), Some(3)),
        (head, Some(3)),
        (named("tuesday"), Some(1)),
        (named("wednesday"), Some(6)),
    ])
}

#[test]
fn a_chain_stays_in_one_column_and_the_current_branch_goes_straight_on() {
    let expected = "a tree\n\
                    ■ base\n\
                    ● monday\n\
                    ├─● tuesday\n\
                    │ ● wednesday\n\
                    ● experiment\n\
                    ○ gone\n\
                    ├─● twig\n\
                    ◆ head       4 KiB  ◀ current\n";
    // The columns are as wide as the widest of the lines.
    let found: String = branching()
        .to_text()
        .lines()
        .map(|line| {
            line.split("  ").map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
                + "\n"
        })
        .collect();
    let expected: String = expected
        .lines()
        .map(|line| {
            line.split("  ").map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
                + "\n"
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn a_chain_of_ten_thousand_needs_one_lane_and_no_deep_stack() {
    let nodes: Vec<_> =
        (0..10_000).map(|place: usize| (node("n", NodeKind::Snapshot), place.checked_sub(1))).collect();
    let picture = picture(&nodes);
    assert!(picture.rows().iter().all(|row| row.lane == 0));
    assert_eq!(picture.to_text().lines().count(), 10_001);
    assert_eq!(picture.to_svg().matches("<circle").count(), 10_000);
}

#[test]
fn every_node_and_every_edge_is_in_each_picture() {
    let picture = branching();
    let dot = picture.to_dot();
    assert_eq!((dot.matches(" -> ").count(), dot.matches("fillcolor").count()), (7, 8));
    let mermaid = picture.to_mermaid();
    assert_eq!((mermaid.matches(" --> ").count(), mermaid.matches("style n").count()), (7, 8));
    let svg = picture.to_svg();
    assert_eq!((svg.matches("<path d=\"M").count(), svg.matches("<g>").count()), (8, 8));
}

#[test]
fn a_name_steers_no_terminal_no_parser_and_no_browser() {
    let name = "\u{1b}[31m\"];\n<script>alert(1)</script>&\\ \u{202e}x";
    let picture = picture(&[(node(name, NodeKind::Snapshot), None)]);
    for drawn in [picture.to_text(), picture.to_dot(), picture.to_mermaid(), picture.to_svg()] {
        assert!(!drawn.contains(['\u{1b}', '\u{202e}']), "{drawn}");
    }
    assert_eq!(picture.to_text().lines().count(), 2);
    assert!(picture.to_dot().contains("\\\"];"));
    assert!(!picture.to_svg().contains("<script"));
    assert!(!picture.to_mermaid().contains("<script"));
}
