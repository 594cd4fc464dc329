//! Trees of any depth, flat in memory and nested in JSON.
//!
//! A chain of snapshots is a tree as deep as the chain is long, and a shape that held its children in itself
//! would be cloned, compared and dropped by recursion. So the nodes lie in one list. Only JSON must nest, and
//! serde nests by recursion; so writing has a limit, which is stated and tested.

use serde::ser::{Error, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Index;

/// Trees beside each other: every node with its parent and its children, each parent before its children.
///
/// In JSON a list of the roots, each node with its `children` nested in it. Nothing but that nesting recurses:
/// reading a forest as a value, cloning, comparing and dropping it work at any depth.
///
/// ```
/// # fn show(forest: &snapgroup::inventory::Forest<snapgroup::inventory::GroupTreeInventory>) {
/// for node in forest.nodes() {
///     println!("{:indent$}{}", "", node.value.name, indent = 2 * node.depth);
/// }
/// # }
/// ```
///
/// Another example is at [`ForestNode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forest<T> {
    nodes: Vec<ForestNode<T>>,
}

/// A node of a [`Forest`].
#[doc = include_str!("examples/forests.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForestNode<T> {
    /// What stands there.
    pub value: T,
    /// How many nodes are above it; 0 for a root.
    pub depth: usize,
    /// The index of its parent; absent for a root.
    pub parent: Option<usize>,
    /// The indices of its children, in order.
    pub children: Vec<usize>,
}

impl<T> Forest<T> {
    /// The most nodes on a path from a root down that can be written as nested JSON. A deeper forest is refused
    /// by the serialiser; read its [`nodes`](Self::nodes) instead.
    ///
    /// More than the longest preset for a chain (200). Readers have limits of their own: `serde_json` reads 127
    /// levels unless told otherwise, which is 63 nodes.
    pub const DEPTH_MAX: usize = 256;

    /// Builds the forest of `values`, siblings in the order given. A value whose parent is not among them is a
    /// root. So is the first of a ring, which no sound catalogue holds: no value is lost, and nothing loops.
    pub(crate) fn new<K: Copy + Eq + Hash>(
        values: Vec<T>,
        key: impl Fn(&T) -> K,
        parent_key: impl Fn(&T) -> Option<K>,
    ) -> Self {
        let index_of: HashMap<K, usize> =
            values.iter().enumerate().map(|(index, value)| (key(value), index)).collect();
        let mut children_of: Vec<Vec<usize>> = vec![Vec::new(); values.len()];
        let mut roots = Vec::new();
        for (index, value) in values.iter().enumerate() {
            match parent_key(value).and_then(|parent| index_of.get(&parent)) {
                Some(&parent) => children_of[parent].push(index),
                None => roots.push(index),
            }
        }

        let mut forest = Self { nodes: Vec::with_capacity(values.len()) };
        let mut values: Vec<Option<T>> = values.into_iter().map(Some).collect();
        let starts: Vec<usize> = roots.into_iter().chain(0..values.len()).collect();
        for start in starts {
            let mut pending = vec![(start, None)];
            while let Some((index, parent)) = pending.pop() {
                let Some(value) = values[index].take() else { continue };
                let placed = forest.push(value, parent);
                pending.extend(children_of[index].iter().rev().map(|&child| (child, Some(placed))));
            }
        }
        forest
    }

    /// The same forest of what `change` makes of each value.
    #[must_use]
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> Forest<U> {
        let nodes = self.nodes.into_iter().map(|node| ForestNode {
            value: change(node.value),
            depth: node.depth,
            parent: node.parent,
            children: node.children,
        });
        Forest { nodes: nodes.collect() }
    }

    /// Every node, each parent before its children, a whole subtree before the next sibling.
    #[must_use]
    pub fn nodes(&self) -> &[ForestNode<T>] {
        &self.nodes
    }

    /// The indices of the nodes without a parent, in order.
    pub fn roots(&self) -> impl Iterator<Item = usize> + '_ {
        self.nodes.iter().enumerate().filter(|(_, node)| node.parent.is_none()).map(|(index, _)| index)
    }

    /// What stands at the nodes, in the order of [`nodes`](Self::nodes).
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.nodes.iter().map(|node| &node.value)
    }

    /// The number of nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Builds a forest of what was read.
    pub(super) fn from_nested(roots: Vec<Nested<T>>) -> Self {
        let mut forest = Self { nodes: Vec::new() };
        let mut pending: Vec<_> = roots.into_iter().rev().map(|root| (root, None)).collect();
        while let Some((nested, parent)) = pending.pop() {
            let placed = forest.push(nested.value, parent);
            pending.extend(nested.children.into_iter().rev().map(|child| (child, Some(placed))));
        }
        forest
    }

    /// The forest without its depth past what can be nested, ready to be written.
    pub(super) fn branches<E: Error>(&self) -> Result<Branches<'_, T>, E> {
        let depth = self.nodes.iter().map(|node| node.depth + 1).max().unwrap_or(0);
        if depth > Self::DEPTH_MAX {
            let depth_max = Self::DEPTH_MAX;
            return Err(E::custom(format_args!(
                "the tree is {depth} nodes deep, at most {depth_max} can be nested; read its nodes instead"
            )));
        }
        Ok(Branches { forest: self, parent: None })
    }

    fn push(&mut self, value: T, parent: Option<usize>) -> usize {
        let index = self.nodes.len();
        let depth = parent.map_or(0, |parent| self.nodes[parent].depth + 1);
        if let Some(parent) = parent {
            self.nodes[parent].children.push(index);
        }
        self.nodes.push(ForestNode { value, depth, parent, children: Vec::new() });
        index
    }
}

impl<T> Index<usize> for Forest<T> {
    type Output = ForestNode<T>;

    fn index(&self, index: usize) -> &ForestNode<T> {
        &self.nodes[index]
    }
}

/// The children of one node, or the roots, as they are written. Made by [`Forest::branches`] only.
pub(super) struct Branches<'a, T> {
    forest: &'a Forest<T>,
    parent: Option<usize>,
}

/// One node as it is written.
#[derive(Serialize)]
pub(super) struct Branch<'a, T> {
    #[serde(flatten)]
    value: &'a T,
    children: Branches<'a, T>,
}

impl<'a, T> Branches<'a, T> {
    /// The one branch, when there is exactly one.
    pub(super) fn only(&self) -> Option<Branch<'a, T>> {
        let mut roots = self.forest.roots();
        match (roots.next(), roots.next()) {
            (Some(root), None) => Some(Self::branch(self.forest, root)),
            _ => None,
        }
    }

    fn branch(forest: &'a Forest<T>, index: usize) -> Branch<'a, T> {
        Branch { value: &forest[index].value, children: Branches { forest, parent: Some(index) } }
    }
}

impl<T: Serialize> Serialize for Branches<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let roots: Vec<usize>;
        let indices = match self.parent {
            Some(parent) => &self.forest[parent].children,
            None => {
                roots = self.forest.roots().collect();
                &roots
            }
        };
        let mut list = serializer.serialize_seq(Some(indices.len()))?;
        for &index in indices {
            list.serialize_element(&Self::branch(self.forest, index))?;
        }
        list.end()
    }
}

impl<T: Serialize> Serialize for Forest<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.branches()?.serialize(serializer)
    }
}

/// One node as it is read. How deep it nests is bounded by the reader.
#[derive(Deserialize)]
pub(super) struct Nested<T> {
    #[serde(flatten)]
    pub(super) value: T,
    #[serde(default = "Vec::new")]
    pub(super) children: Vec<Nested<T>>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Forest<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from_nested(Vec::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Leaf {
        key: usize,
        parent: Option<usize>,
    }

    fn forest(links: &[(usize, Option<usize>)]) -> Forest<Leaf> {
        let leaves = links.iter().map(|&(key, parent)| Leaf { key, parent }).collect();
        Forest::new(leaves, |leaf| leaf.key, |leaf| leaf.parent)
    }

    fn chain(length: usize) -> Forest<Leaf> {
        let links: Vec<_> = (0..length).map(|key| (key, key.checked_sub(1))).collect();
        forest(&links)
    }

    fn keys(forest: &Forest<Leaf>) -> Vec<(usize, usize)> {
        forest.nodes().iter().map(|node| (node.value.key, node.depth)).collect()
    }

    #[test]
    fn a_subtree_comes_before_the_next_sibling() {
        let forest =
            forest(&[(5, Some(2)), (1, None), (2, Some(1)), (3, Some(1)), (4, Some(2)), (9, Some(77))]);
        assert_eq!(keys(&forest), [(1, 0), (2, 1), (5, 2), (4, 2), (3, 1), (9, 0)]);
        assert_eq!(forest.roots().collect::<Vec<_>>(), [0, 5]);
        assert_eq!(forest[0].children, [1, 4]);
        assert_eq!(forest[4].parent, Some(0));
    }

    #[test]
    fn a_ring_loses_nothing_and_ends() {
        let forest = forest(&[(1, Some(3)), (2, Some(1)), (3, Some(2)), (4, Some(4)), (5, None)]);
        assert_eq!(keys(&forest), [(5, 0), (1, 0), (2, 1), (3, 2), (4, 0)]);
    }

    #[test]
    fn what_was_nested_is_read_back() -> Result<(), serde_json::Error> {
        let forest = forest(&[(1, None), (2, Some(1)), (3, Some(2)), (4, Some(1)), (5, None)]);
        let json = serde_json::to_value(&forest)?;
        assert_eq!(json[0]["children"][0]["children"][0]["key"], 3);
        assert_eq!(json[1]["children"], serde_json::json!([]));
        assert_eq!(serde_json::from_value::<Forest<Leaf>>(json)?, forest);
        Ok(())
    }

    #[test]
    fn sixty_three_levels_are_read_with_the_usual_limit() -> Result<(), serde_json::Error> {
        let text = serde_json::to_string(&chain(63))?;
        assert_eq!(serde_json::from_str::<Forest<Leaf>>(&text)?, chain(63));
        let text = serde_json::to_string(&chain(64))?;
        let Err(_) = serde_json::from_str::<Forest<Leaf>>(&text) else { panic!("64 levels were read") };
        Ok(())
    }

    #[test]
    fn ten_thousand_levels_are_built_compared_and_dropped_on_a_small_stack() {
        on_a_stack_of(128 << 10, || {
            let deep = chain(10_000);
            assert_eq!(deep.nodes().last().map(|node| node.depth), Some(9_999));
            assert_eq!(deep.clone(), deep);
            let Err(error) = serde_json::to_string(&deep) else { panic!("10,000 levels were nested") };
            assert!(error.to_string().contains("10000 nodes deep, at most 256"), "{error}");
        });
    }

    #[test]
    fn the_deepest_that_is_written_fits_a_small_stack() {
        on_a_stack_of(1 << 20, || {
            let deepest = chain(Forest::<Leaf>::DEPTH_MAX);
            let Ok(text) = serde_json::to_string(&deepest) else { panic!("the limit itself was refused") };
            assert_eq!(text.matches("children").count(), deepest.len());
            let Ok(_) = serde_json::to_string_pretty(&deepest) else {
                panic!("the limit itself was refused")
            };
            let Err(_) = serde_json::to_string(&chain(deepest.len() + 1)) else {
                panic!("one more was nested")
            };
        });
    }

    fn on_a_stack_of(bytes: usize, run: impl FnOnce() + Send + 'static) {
        let thread = std::thread::Builder::new().stack_size(bytes).spawn(run).expect("a thread starts");
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}
