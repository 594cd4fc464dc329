//! Which trees there are: walked by growing them, each from a copy of the one before.

use crate::model::{Model, Number};
use crate::pool::{Grown, Made};
use std::collections::HashSet;

/// Visits every tree of `count` snapshots, in every order of creation: a snapshot is taken on each that is there.
pub(crate) fn every_tree(count: usize, visit: &mut dyn FnMut(&Grown) -> Made<()>) -> Made<()> {
    let first = Grown::seed()?.with_snapshot_on(None)?;
    grow(&first, count, visit)
}

fn grow(grown: &Grown, count: usize, visit: &mut dyn FnMut(&Grown) -> Made<()>) -> Made<()> {
    if grown.model.taken.len() == count {
        return visit(grown);
    }
    for parent in grown.model.taken.keys() {
        grow(&grown.with_snapshot_on(Some(*parent))?, count, visit)?;
    }
    Ok(())
}

/// Visits every tree of `count` snapshots with its head on each of them in turn, written to.
pub(crate) fn every_tree_with_a_head(count: usize, visit: &mut dyn FnMut(&Grown) -> Made<()>) -> Made<()> {
    every_tree(count, &mut |grown| {
        for head in grown.model.taken.keys() {
            visit(&grown.written_on(Some(*head))?)?;
        }
        Ok(())
    })
}

/// The shapes that were met: trees beside each other and the place of the head, whatever the order of creation.
#[derive(Default)]
pub(crate) struct Shapes(HashSet<String>);

impl Shapes {
    /// Whether no such shape was met before.
    pub(crate) fn are_new(&mut self, model: &Model) -> bool {
        let mut roots: Vec<String> = model
            .taken
            .iter()
            .filter(|(_, taken)| taken.parent.is_none())
            .map(|(root, _)| shape(model, *root))
            .collect();
        roots.sort_unstable();
        self.0.insert(roots.concat())
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

/// A tree as brackets, the head marked; siblings in an order of their own.
fn shape(model: &Model, of: Number) -> String {
    let mut children: Vec<String> = model.children(of).into_iter().map(|child| shape(model, child)).collect();
    children.sort_unstable();
    let mark = if model.head == Some(of) { "*" } else { "" };
    format!("({mark}{})", children.concat())
}

#[test]
fn as_many_trees_are_walked_as_there_are() -> Result<(), Box<dyn std::error::Error>> {
    // In every order of creation: the factorials. By shape: the rooted trees, which are counted elsewhere (OEIS A000081).
    for (count, orders, shapes) in [(1, 1, 1), (2, 1, 1), (3, 2, 2), (4, 6, 4), (5, 24, 9), (6, 120, 20)] {
        let (mut walked, mut met) = (0, Shapes::default());
        every_tree(count, &mut |grown| {
            let mut headless = grown.model.clone();
            headless.head = None;
            met.are_new(&headless);
            walked += 1;
            Ok(())
        })?;
        assert_eq!((walked, met.count()), (orders, shapes), "trees of {count}");
    }
    Ok(())
}
