//! C2 to C7: layers and the chains they make.

use super::super::id::{LayerId, VolumeId};
use super::super::reader::CHAIN_LAYERS_MAX;
use super::super::record::LayerState;
use super::{Violation, World, endless};
use std::collections::{BTreeMap, BTreeSet};

impl World {
    pub(super) fn check_layers(&mut self) {
        self.check_heads();
        self.check_needed();
        self.check_chain_ends();
        self.check_blobs();
    }

    /// C2, C3.
    fn check_heads(&mut self) {
        let mut writers: BTreeMap<LayerId, Vec<VolumeId>> = BTreeMap::new();
        for volume in self.volumes.values() {
            writers.entry(volume.head).or_default().push(volume.id);
        }
        let mut found = Vec::new();
        for layer in self.layers.values() {
            let volumes = writers.remove(&layer.id).unwrap_or_default();
            let lawful = match (layer.state, volumes.as_slice()) {
                (LayerState::Head, [volume]) => *volume == layer.volume,
                (LayerState::Head, _) => false,
                (_, []) => true,
                _ => false,
            };
            if !lawful {
                found.push(Violation::Head { layer: layer.id, volumes });
            }
        }
        for above in self.layers.values() {
            let below = above.parent.and_then(|parent| self.layers.get(&parent));
            if let Some(head) = below.filter(|below| below.state.is_written()) {
                found.push(Violation::AboveHead { head: head.id, above: above.id });
            }
        }
        self.violations.extend(found);
    }

    /// C4, C5.
    fn check_needed(&mut self) {
        let mut found = Vec::new();
        for snapshot in self.snapshots.values() {
            let layer = self.layers.get(&snapshot.layer);
            if layer.is_some_and(|layer| layer.state == LayerState::Retired) {
                found.push(Violation::RetiredInUse { layer: snapshot.layer, snapshot: snapshot.id });
            }
        }
        let mut needed: BTreeSet<LayerId> = BTreeSet::new();
        let heads = self.volumes.values().map(|volume| volume.head);
        let building = self.layers.values().filter(|layer| layer.state == LayerState::Building);
        let mut open: Vec<LayerId> = heads.chain(building.map(|layer| layer.id)).collect();
        open.extend(self.snapshots.values().map(|snapshot| snapshot.layer));
        while let Some(id) = open.pop() {
            let Some(layer) = self.layers.get(&id).filter(|_| needed.insert(id)) else { continue };
            open.extend(layer.parent);
            // What it will read through, once its header is written.
            open.extend(layer.rewrite.as_ref().and_then(|rewrite| rewrite.parent));
        }
        for layer in self.layers.values() {
            let (layer, state, is_needed) = (layer.id, layer.state, needed.contains(&layer.id));
            match state {
                // A head that nobody writes to is C2's business.
                LayerState::Head | LayerState::Building => {}
                LayerState::Frozen | LayerState::Retired if is_needed => {}
                LayerState::Frozen | LayerState::Retired => found.push(Violation::ForNothing { layer }),
                LayerState::Garbage if is_needed || self.layers[&layer].parent.is_some() => {
                    found.push(Violation::GarbageInUse { layer });
                }
                LayerState::Garbage => found.push(Violation::Garbage { layer }),
            }
        }
        self.violations.extend(found);
    }

    /// C6.
    fn check_chain_ends(&mut self) {
        let parents: BTreeMap<_, _> = self.layers.values().map(|layer| (layer.id, layer.parent)).collect();
        let loops = endless(&parents);
        let mut lengths: BTreeMap<LayerId, usize> = BTreeMap::new();
        let mut found: Vec<LayerId> = loops.clone();
        if loops.is_empty() {
            for start in parents.keys() {
                let mut way = Vec::new();
                let mut at = Some(*start);
                while let Some(id) = at.filter(|id| !lengths.contains_key(id)) {
                    way.push(id);
                    at = parents.get(&id).copied().flatten();
                }
                let mut length = at.map_or(0, |id| lengths[&id]);
                for id in way.into_iter().rev() {
                    length += 1;
                    lengths.insert(id, length);
                }
            }
            found.extend(lengths.iter().filter(|(_, length)| **length > CHAIN_LAYERS_MAX).map(|(id, _)| *id));
        }
        for layer in found {
            self.found(Violation::EndlessChain { layer });
        }
    }

    /// C7.
    fn check_blobs(&mut self) {
        let mut blobs: BTreeMap<String, Vec<LayerId>> = BTreeMap::new();
        for layer in self.layers.values() {
            blobs.entry(layer.blob.to_string()).or_default().push(layer.id);
        }
        for (blob, layers) in blobs.into_iter().filter(|(_, layers)| layers.len() > 1) {
            self.found(Violation::SharedBlob { blob, layers });
        }
    }
}
