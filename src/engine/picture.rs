//! Pictures of what is there: the groups of a machine, the layers of a volume.

use super::error::Result;
use super::pool::Engine;
use super::space::SpaceOf;
use super::uuid_arg::UuidArg;
use crate::catalog::{GroupId, LayerId, LayerRecord, LayerState, Reader, SnapshotRecord, VolumeRecord};
use crate::inventory::{Forest, GroupTreeInventory};
use crate::picture::{NodeKind, Picture, PictureNode};
use crate::storage::{Access, Store};
use std::collections::BTreeMap;

impl Engine {
    /// The groups of a machine as a picture: each under the one that its disks descended from, with the number of its
    /// snapshots; the one that the disks descend from now is marked.
    ///
    /// # Errors
    ///
    /// As [`Engine::group_tree`].
    #[doc = include_str!("examples/pictures.md")]
    pub fn picture_of_groups(&self, machine: impl Into<UuidArg>) -> Result<Picture> {
        let machine = machine.into();
        let name = self.machine(machine.clone())?.name;
        let groups = self.group_tree(machine)?.map(draw_group);
        Ok(Picture::new(format!("groups of {name}"), groups))
    }

    /// The layers of a volume as a picture: each above the one that it reads through to, with what its file takes up,
    /// the snapshot that it holds, and the bytes that this one holds alone. Retired layers, the bases that it shares with others and the head are told
    /// apart. Files of other volumes that read through its layers are left out.
    ///
    /// # Errors
    ///
    /// SYS.1007 for a malformed uuid; SYS.1003 when there is no such volume.
    #[doc = include_str!("examples/pictures.md")]
    pub fn picture_of_layers(&self, volume: impl Into<UuidArg>) -> Result<Picture> {
        let reader = self.pool.read()?;
        let volume = self.pool.volume(&reader, volume.into().parse()?)?;
        let holdings = reader.holdings(&[volume.id], &[])?;
        let mut names: BTreeMap<LayerId, Vec<&SnapshotRecord>> = BTreeMap::new();
        for snapshot in holdings.snapshots.iter().filter(|snapshot| snapshot.volume == volume.id) {
            names.entry(snapshot.layer).or_default().push(snapshot);
        }
        let mut drawn = Vec::new();
        for layer in own_layers(&volume, &holdings.layers, &names) {
            let snapshots = names.get(&layer.id).map_or(&[][..], Vec::as_slice);
            let node = self.draw_layer(&reader, &volume, layer, snapshots)?;
            drawn.push((layer.id, layer.parent, node));
        }
        let forest = Forest::new(drawn, |(id, ..)| *id, |(_, parent, _)| *parent);
        Ok(Picture::new(format!("layers of {}", volume.name), forest.map(|(.., node)| node)))
    }
}

/// The layers that the volume and its snapshots read through, in the order of their making.
fn own_layers<'a>(
    volume: &VolumeRecord,
    layers: &'a [LayerRecord],
    names: &BTreeMap<LayerId, Vec<&SnapshotRecord>>,
) -> Vec<&'a LayerRecord> {
    let by_id: BTreeMap<LayerId, &LayerRecord> = layers.iter().map(|layer| (layer.id, layer)).collect();
    let mut own: BTreeMap<LayerId, &LayerRecord> = BTreeMap::new();
    for top in names.keys().copied().chain([volume.head]) {
        let mut next = Some(top);
        while let Some(layer) =
            next.and_then(|id| by_id.get(&id)).filter(|layer| !own.contains_key(&layer.id))
        {
            own.insert(layer.id, layer);
            next = layer.parent;
        }
    }
    own.into_values().collect()
}

impl Engine {
    fn draw_layer(
        &self,
        reader: &Reader,
        volume: &VolumeRecord,
        layer: &LayerRecord,
        snapshots: &[&SnapshotRecord],
    ) -> Result<PictureNode> {
        let is_head = layer.id == volume.head;
        let kind = match layer.state {
            _ if is_head => NodeKind::Head,
            LayerState::Retired | LayerState::Garbage => NodeKind::Retired,
            _ if snapshots.is_empty() => NodeKind::Base,
            _ => NodeKind::Snapshot,
        };
        let names: Vec<&str> = snapshots.iter().map(|snapshot| snapshot.name.as_str()).collect();
        let label = match kind {
            NodeKind::Head => volume.name.clone(),
            NodeKind::Snapshot => names.join(", "),
            _ => layer.blob.to_string(),
        };
        let mut facts = Vec::new();
        match self.pool.store().open(&layer.blob, Access::Read).and_then(|blob| blob.allocated()) {
            Ok(allocated) => facts.push(allocated.rounded()),
            Err(_) => facts.push("its file cannot be read".to_owned()),
        }
        match kind {
            NodeKind::Head => facts.push(format!("head, {} disk", volume.size.rounded())),
            NodeKind::Retired => facts.push("retired".to_owned()),
            NodeKind::Base => facts.push("base".to_owned()),
            _ => {}
        }
        for snapshot in snapshots {
            if let Some(name) = group_name(reader, snapshot.group)? {
                facts.push(format!("in {name}"));
            }
            let own = self.space_of(&SpaceOf::Snapshot(snapshot.uuid.into()))?;
            facts.push(format!("{} alone", own.bytes().rounded()));
            if !snapshot.holds.is_empty() {
                facts.push(format!("held by {}", snapshot.holds.join(", ")));
            }
        }
        Ok(PictureNode { label, kind, facts, current: is_head })
    }
}

fn group_name(reader: &Reader, group: Option<GroupId>) -> Result<Option<String>> {
    match group {
        Some(group) => Ok(reader.group(group)?.map(|group| group.name)),
        None => Ok(None),
    }
}

fn draw_group(group: GroupTreeInventory) -> PictureNode {
    let living = group.refs.iter().filter(|member| !member.snapshot_deleted).count();
    let all = group.refs.len();
    let plural = if all == 1 { "" } else { "s" };
    let count = if living == all {
        format!("{all} snapshot{plural}")
    } else {
        format!("{living} of {all} snapshots")
    };
    PictureNode {
        label: group.name,
        kind: if group.incomplete { NodeKind::GroupIncomplete } else { NodeKind::Group },
        facts: vec![count],
        current: group.current,
    }
}
