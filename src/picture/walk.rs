//! The order in which nodes are drawn: one a row, a parent above its children.
//!
//! A long chain stays in one lane, however deep it is; only a branch opens another one. The branch that leads to the
//! current node comes last and goes on in the lane of its parent, so that the line of descent is a straight one.

use super::{Picture, PictureNode};
use crate::inventory::Forest;

/// One row of a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row<'a> {
    /// What stands there.
    pub(super) node: &'a PictureNode,
    /// The index of the node in the forest.
    pub(super) index: usize,
    /// The row of its parent.
    pub(super) parent: Option<usize>,
    /// The lane, from 0. Every lane before it goes on past this row: what stays in it comes last.
    pub(super) lane: usize,
}

impl Picture {
    /// The rows, from the top.
    pub(super) fn rows(&self) -> Vec<Row<'_>> {
        let nodes = self.nodes();
        let leads = leads_to_current(nodes);
        let mut rows: Vec<Row<'_>> = Vec::with_capacity(nodes.len());
        let mut pending: Vec<(usize, Option<usize>, usize)> =
            nodes.roots().map(|root| (root, None, 0)).collect();
        pending.reverse();
        while let Some((index, parent, lane)) = pending.pop() {
            let row = rows.len();
            rows.push(Row { node: &nodes[index].value, index, parent, lane });
            let mut children = nodes[index].children.clone();
            // The sort keeps the order of those that are alike.
            children.sort_by_key(|child| leads[*child]);
            let mut below = lane;
            for child in children.into_iter().rev() {
                pending.push((child, Some(row), below));
                below = lane + 1;
            }
            // What was pushed last is drawn first: the branches, in their order, then the one that stays in the lane.
        }
        rows
    }
}

/// For each node whether the current one is it or descends from it.
fn leads_to_current(nodes: &Forest<PictureNode>) -> Vec<bool> {
    let mut leads: Vec<bool> = nodes.values().map(|node| node.current).collect();
    for index in (0..leads.len()).rev() {
        // Every parent stands before its children.
        if let (true, Some(parent)) = (leads[index], nodes[index].parent) {
            leads[parent] = true;
        }
    }
    leads
}
