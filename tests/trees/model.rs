//! What must be read and what the books must say, worked out from parents alone.

use snapgroup::{DeleteScope, Uuid};
use std::collections::{BTreeMap, BTreeSet};

/// A snapshot by the order of its creation.
pub(crate) type Number = usize;

/// The disk: room for one cluster of each writer, for what they share, and for what nobody writes.
pub(crate) const CLUSTER: usize = 512;
pub(crate) const SIZE: usize = 17 * CLUSTER;

/// One stroke of a writer.
#[derive(Clone, Copy)]
pub(crate) enum Stroke {
    Write { at: usize, length: usize, byte: u8 },
    Zeroes { at: usize, length: usize },
    Discard { at: usize, length: usize },
}

/// What the writer of a number does to the disk before its snapshot is taken: every byte that it leaves says whose
/// it is.
pub(crate) fn strokes(number: Number) -> Vec<Stroke> {
    let byte = u8::try_from(0x11 + number).expect("there are few writers");
    let write = |at, length| Stroke::Write { at, length, byte };
    let cluster = |index: usize| write(index * CLUSTER, CLUSTER);
    let mut strokes = vec![
        // One of its own, one that everybody writes, a part of one, and one of three.
        cluster(number),
        cluster(8),
        write(9 * CLUSTER + number * 56, 56),
        cluster(10 + number % 3),
    ];
    let (first, second) = (13 * CLUSTER, 14 * CLUSTER);
    match number % 3 {
        0 => strokes.push(cluster(13)),
        1 => strokes.extend([Stroke::Zeroes { at: first, length: CLUSTER }, cluster(14)]),
        _ => strokes.push(Stroke::Discard { at: second, length: CLUSTER }),
    }
    strokes
}

/// A snapshot as it must be.
#[derive(Clone)]
pub(crate) struct Taken {
    pub(crate) uuid: Uuid,
    pub(crate) parent: Option<Number>,
    pub(crate) distance: u32,
    /// A label; two snapshots are in one tree when theirs is the same.
    pub(crate) tree: usize,
    pub(crate) bytes: Vec<u8>,
}

/// A volume as it must be.
#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) volume: Uuid,
    pub(crate) taken: BTreeMap<Number, Taken>,
    /// The latest snapshot of each tree.
    pub(crate) latest: BTreeMap<usize, Option<Number>>,
    /// The snapshot that the head is on.
    pub(crate) head: Option<Number>,
    pub(crate) bytes: Vec<u8>,
    /// How many snapshots were ever taken.
    pub(crate) count: Number,
    trees: usize,
}

impl Model {
    pub(crate) fn new(volume: Uuid) -> Self {
        let (taken, latest) = (BTreeMap::new(), BTreeMap::new());
        Self { volume, taken, latest, head: None, bytes: vec![0; SIZE], count: 0, trees: 0 }
    }

    pub(crate) fn apply(&mut self, strokes: &[Stroke]) {
        for stroke in strokes {
            match *stroke {
                Stroke::Write { at, length, byte } => self.bytes[at..at + length].fill(byte),
                Stroke::Zeroes { at, length } | Stroke::Discard { at, length } => {
                    self.bytes[at..at + length].fill(0);
                }
            }
        }
    }

    pub(crate) fn take(&mut self, uuid: Uuid) {
        let (distance, tree) = match self.head.map(|head| &self.taken[&head]) {
            Some(parent) => (parent.distance + 1, parent.tree),
            // The first one of a volume has 1, one that starts a later tree 0.
            None => (u32::from(self.taken.is_empty()), self.new_tree()),
        };
        let taken = Taken { uuid, parent: self.head, distance, tree, bytes: self.bytes.clone() };
        self.taken.insert(self.count, taken);
        self.latest.insert(tree, Some(self.count));
        self.head = Some(self.count);
        self.count += 1;
    }

    fn new_tree(&mut self) -> usize {
        self.trees += 1;
        self.trees
    }

    pub(crate) fn revert(&mut self, to: Number) {
        let target = &self.taken[&to];
        self.bytes.clone_from(&target.bytes);
        self.latest.insert(target.tree, Some(to));
        self.head = Some(to);
    }

    pub(crate) fn children(&self, of: Number) -> Vec<Number> {
        let children = self.taken.iter().filter(|(_, taken)| taken.parent == Some(of));
        children.map(|(number, _)| *number).collect()
    }

    /// A snapshot and what descends from it.
    pub(crate) fn with_descendants(&self, of: Number) -> BTreeSet<Number> {
        let is_below = |number: &Number| self.ancestors(*number).contains(&of);
        self.taken.keys().copied().filter(is_below).collect()
    }

    /// A snapshot and what it descends from, itself first.
    pub(crate) fn ancestors(&self, of: Number) -> Vec<Number> {
        std::iter::successors(Some(of), |number| self.taken[number].parent).collect()
    }

    /// What goes with a snapshot.
    pub(crate) fn going(&self, number: Number, scope: DeleteScope) -> BTreeSet<Number> {
        match scope {
            DeleteScope::Chain => self.with_descendants(number),
            _ => [number].into(),
        }
    }

    /// Takes out what goes, in the order of the request, each with its descendants first.
    pub(crate) fn delete(&mut self, wanted: &[Number], scope: DeleteScope) {
        for wanted in wanted {
            if !self.taken.contains_key(wanted) {
                // It went with another one.
                continue;
            }
            let mut going: Vec<Number> = self.going(*wanted, scope).into_iter().collect();
            going.sort_by_key(|number| std::cmp::Reverse(self.ancestors(*number).len()));
            going.into_iter().for_each(|number| self.delete_one(number));
        }
    }

    fn delete_one(&mut self, number: Number) {
        let children = self.children(number);
        let latest = self.latest[&self.taken[&number].tree];
        let holds_latest =
            |child: &Number| latest.is_some_and(|latest| self.ancestors(latest).contains(child));
        // Who keeps the tree when a root goes: the child that leads to its latest one, else the eldest.
        let heir = children.iter().copied().find(holds_latest).or(children.first().copied());
        let gone = self.taken.remove(&number).expect("only what is there is deleted");
        for child in &children {
            self.taken.get_mut(child).expect("just found").parent = gone.parent;
        }
        if gone.parent.is_none() {
            for child in children {
                self.taken.get_mut(&child).expect("just found").distance = gone.distance;
                if heir != Some(child) {
                    self.split(child);
                }
            }
        }
        if latest == Some(number) {
            self.latest.insert(gone.tree, gone.parent);
        }
        if self.head == Some(number) {
            self.head = gone.parent;
        }
        let living: BTreeSet<usize> = self.taken.values().map(|taken| taken.tree).collect();
        self.latest.retain(|tree, _| living.contains(tree));
        for number in self.taken.keys().copied().collect::<Vec<_>>() {
            let line = self.ancestors(number);
            let root = self.taken[line.last().expect("a line has an end")].distance;
            let steps = u32::try_from(line.len() - 1).expect("there are few");
            self.taken.get_mut(&number).expect("just listed").distance = root + steps;
        }
    }

    /// Makes a tree of its own of a root and what descends from it.
    fn split(&mut self, root: Number) {
        let tree = self.new_tree();
        self.latest.insert(tree, None);
        for moved in self.with_descendants(root) {
            self.taken.get_mut(&moved).expect("just found").tree = tree;
        }
    }
}
