//! A retired layer and what is around it, by what each layer defines: what can be done, what it costs, what it leads
//! to. The same model decides what is done and foretells it.

use crate::catalog::{LayerFormat, LayerId, LayerRecord, LayerState, Origin};
use crate::chain::merge::{self, Copies};
use crate::chain::{Extents, Ranges};
use crate::plan::reclaim::{Costs, Direction, Way, choose};
use crate::units::ByteCount;
use std::collections::{BTreeMap, BTreeSet};

/// Layers by what they define.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) layers: BTreeMap<LayerId, Modelled>,
    /// The layers that were here and are gone.
    taken: BTreeSet<LayerId>,
}

/// One layer.
#[derive(Clone, Debug)]
pub(super) struct Modelled {
    pub(super) record: LayerRecord,
    pub(super) extents: Extents,
    /// The bytes that its file takes up.
    pub(super) allocated: ByteCount,
}

/// What is to be done with a retired layer next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing that would help.
    Nothing,
    /// Free these clusters in place.
    Punch(Ranges),
    /// Move these up into a layer above, and let that one do without.
    Pull { child: LayerId, copies: Copies },
    /// Move these down from the layer above, and take its place.
    Commit { child: LayerId, copies: Copies },
}

impl Modelled {
    /// Whether its file may be written: nothing is ever written to a base, nor to a raw file.
    fn is_ours(&self) -> bool {
        self.record.origin != Origin::Base && self.record.format == LayerFormat::Qcow2
    }
}

impl Model {
    /// The layers directly above a layer.
    pub(super) fn above(&self, id: LayerId) -> impl Iterator<Item = &Modelled> {
        self.layers.values().filter(move |layer| layer.record.parent == Some(id))
    }

    /// What the layers below a layer define, the uppermost first.
    fn deeper(&self, id: LayerId) -> Vec<Extents> {
        let mut deeper = Vec::new();
        let mut next = self.layers.get(&id).and_then(|layer| layer.record.parent);
        while let Some(layer) = next.and_then(|id| self.layers.get(&id)) {
            deeper.push(layer.extents.clone());
            next = layer.record.parent;
        }
        deeper
    }

    /// What is read of a retired layer by any that is alive.
    pub(super) fn seen(&self, id: LayerId) -> Ranges {
        // The retired layers above, each behind those that it reads through.
        let mut order = vec![id];
        let mut next = 0;
        while let Some(below) = order.get(next).copied() {
            let retired = self.above(below).filter(|above| above.record.state == LayerState::Retired);
            order.extend(retired.map(|above| above.record.id));
            next += 1;
        }
        let mut seen: BTreeMap<LayerId, Ranges> = BTreeMap::new();
        for id in order.into_iter().rev() {
            let through_all = self.above(id).fold(Ranges::new(), |all, above| {
                all.union(&merge::seen_through(&above.extents, seen.get(&above.record.id)))
            });
            seen.insert(id, through_all);
        }
        seen.remove(&id).unwrap_or_default()
    }

    /// What is to be done with a layer.
    pub(super) fn decide(&self, id: LayerId, direction: Direction) -> Decision {
        let Some(retired) = self.layers.get(&id) else { return Decision::Nothing };
        let children: Vec<&Modelled> = self.above(id).collect();
        let deeper = self.deeper(id);
        let only = children.len() == 1;
        // Internal snapshots stay with their file, and go on reading through to the same one.
        let keeps = |layer: &Modelled| layer.extents.has_internal_snapshots;
        let pulled = children
            .iter()
            .filter(|child| child.is_ours() && !keeps(child) && !keeps(retired))
            .map(|child| (child.record.id, merge::pull(&child.extents, &retired.extents, &deeper)))
            .next();
        let committed = children
            .first()
            .filter(|child| only && child.is_ours() && retired.is_ours() && self.may_be_moved(child))
            .and_then(|child| {
                let copies = merge::commit(&child.extents, &retired.extents, &deeper)?;
                let displaces = merge::displaces(&child.extents, &retired.extents, &copies);
                (!displaces).then_some((child.record.id, copies))
            });
        let costs = Costs {
            pull: pulled.as_ref().map(|(_, copies)| copies.copied_bytes()),
            commit: committed.as_ref().map(|(_, copies)| copies.copied_bytes()),
        };
        match (choose(costs, only, direction), pulled, committed) {
            (Way::Pull, Some((child, copies)), _) => Decision::Pull { child, copies },
            (Way::Commit, _, Some((child, copies))) => Decision::Commit { child, copies },
            _ if retired.is_ours() => {
                let hidden = merge::hidden(&retired.extents, &self.seen(id));
                if hidden.is_empty() { Decision::Nothing } else { Decision::Punch(hidden) }
            }
            _ => Decision::Nothing,
        }
    }

    /// Whether what is above a layer can be told of another name for it.
    fn may_be_moved(&self, layer: &Modelled) -> bool {
        self.above(layer.record.id).all(Modelled::is_ours)
    }

    /// What a decision leads to. Answers the layers that nobody needs any more.
    pub(super) fn apply(&mut self, id: LayerId, decision: &Decision) -> Vec<LayerId> {
        match decision {
            Decision::Nothing => {}
            Decision::Punch(ranges) => {
                if let Some(retired) = self.layers.get_mut(&id) {
                    let extents = &mut retired.extents;
                    extents.data = extents.data.subtract(ranges);
                    extents.compressed = extents.compressed.subtract(ranges);
                    extents.zero = extents.zero.subtract(ranges);
                    extents.zero_allocated = extents.zero_allocated.subtract(ranges);
                    retired.allocated = retired.allocated.saturating_sub(ranges.bytes());
                }
            }
            Decision::Pull { child, copies } => {
                let parent = self.layers.get(&id).and_then(|retired| retired.record.parent);
                if let Some(child) = self.layers.get_mut(child) {
                    take(&mut child.extents, copies);
                    child.record.parent = parent;
                }
                return self.settle(Some(id));
            }
            Decision::Commit { child, copies } => {
                let Some(gone) = self.layers.remove(child) else { return Vec::new() };
                self.taken.insert(*child);
                for above in self.layers.values_mut().filter(|above| above.record.parent == Some(*child)) {
                    above.record.parent = Some(id);
                }
                if let Some(retired) = self.layers.get_mut(&id) {
                    retired.extents.size = gone.extents.size;
                    take(&mut retired.extents, copies);
                    retired.record.state = gone.record.state;
                    retired.record.size = gone.record.size;
                    retired.record.volume = gone.record.volume;
                }
                return vec![*child];
            }
        }
        Vec::new()
    }

    /// Takes out the retired layers from `id` downwards that nobody reads through.
    fn settle(&mut self, id: Option<LayerId>) -> Vec<LayerId> {
        let mut gone = Vec::new();
        let mut next = id;
        while let Some(id) = next {
            let is_retired =
                self.layers.get(&id).is_some_and(|layer| layer.record.state == LayerState::Retired);
            if !is_retired || self.above(id).next().is_some() {
                break;
            }
            next = self.layers.remove(&id).and_then(|layer| layer.record.parent);
            self.taken.insert(id);
            gone.push(id);
        }
        gone
    }

    /// Whether a layer was here and is gone.
    pub(super) fn was_taken(&self, id: LayerId) -> bool {
        self.taken.contains(&id)
    }

    /// The bytes of clusters by which a layer grows when it takes `copies` in from a disk of `size` bytes.
    pub(super) fn growth(&self, id: LayerId, copies: &Copies, size: ByteCount) -> ByteCount {
        let Some(Modelled { extents, .. }) = self.layers.get(&id) else { return ByteCount::ZERO };
        let filled = match copies.zeros_written.is_zero() {
            true => copies.data.clone(),
            false => copies.data.union(&copies.zero),
        };
        filled.round_out(extents.cluster_size, size).subtract(&extents.held()).bytes()
    }

    /// The bytes of clusters that a layer gives back once what it has taken in is durable: those that are zeros now,
    /// and the compressed ones that plain ones took the place of.
    pub(super) fn given_up(&self, id: LayerId, copies: &Copies, size: ByteCount) -> ByteCount {
        let Some(Modelled { extents, .. }) = self.layers.get(&id) else { return ByteCount::ZERO };
        let grid = extents.cluster_size;
        let written = copies.data.union(&copies.zero).round_out(grid, size);
        let replaced = written.intersect(&extents.compressed);
        match copies.zeros_written.is_zero() {
            true => copies.zero.round_in(grid, size).intersect(&extents.held()).union(&replaced).bytes(),
            false => replaced.bytes(),
        }
    }

    /// How many layers a disk with this head has.
    pub(super) fn length(&self, head: LayerId) -> usize {
        let mut length = 0;
        let mut next = Some(head);
        while let Some(layer) = next.and_then(|id| self.layers.get(&id)) {
            length += 1;
            next = layer.record.parent;
        }
        length
    }
}

/// What a layer defines after it has taken `copies` in.
fn take(extents: &mut Extents, copies: &Copies) {
    let all = copies.data.union(&copies.zero);
    let written_out = !extents.has_zero_clusters;
    extents.compressed = extents.compressed.subtract(&all);
    extents.zero = extents.zero.subtract(&all);
    extents.zero_allocated = extents.zero_allocated.subtract(&all);
    extents.data = extents.data.subtract(&copies.zero).union(&copies.data);
    if written_out {
        extents.data = extents.data.union(&copies.zero);
    } else {
        extents.zero = extents.zero.union(&copies.zero);
    }
}
