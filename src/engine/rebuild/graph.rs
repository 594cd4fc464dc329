//! The layers above each other, and which of their claims hold.
//!
//! * A layer is below another one when the header above names its file *and* the notes above name its id.
//! * What was being filled is nobody's. A file above a layer is over when its notes are older than those that the layer
//!   asks for: that one has taken its place.
//! * A claim holds when the layer that it names was not changed after the claim was written.
//! * The head of a volume is the one that was made last of the files that nothing is above and no claim holds of. When
//!   that one cannot be read with all that it reads through, the volume has no head: an older one would show old data.
//! * What may be a snapshot and is claimed by nobody is listed under a new uuid, so that nothing of it is merged away.

use super::super::error::Result;
use super::report::{LostVolume, Rebuilt};
use super::scan::{Scanned, is_of_disk};
use crate::image::{Image, LayerNotes, Limits, SnapshotClaim};
use crate::storage::Access;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use uuid::Uuid;

/// A layer in its chain.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) file: Scanned,
    pub(super) parent: Option<usize>,
    /// The layer; absent for a file that says nothing and of which nothing was said.
    pub(super) layer: Option<Uuid>,
    /// The volume that it was made for.
    pub(super) volume: Option<Uuid>,
    /// Why it cannot be relied on.
    broken: Option<String>,
    /// Whether it is a part of an image that nobody has ever written to: before a call has taken place its files are
    /// durable.
    is_torn: bool,
}

/// A snapshot that is to be there again.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) volume: Uuid,
    /// The layer that holds it.
    pub(super) holder: usize,
    /// What is known of it; absent for one of which nothing is.
    pub(super) claim: Option<SnapshotClaim>,
}

/// The layers that are needed, and what they hold.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    /// The heads of the volumes.
    pub(super) heads: BTreeMap<Uuid, usize>,
    /// The snapshots, the older ones first.
    pub(super) snapshots: Vec<Listed>,
}

/// The snapshots of which a claim holds, each with the layer that holds it.
type Held = BTreeMap<Uuid, (usize, SnapshotClaim)>;

impl Node {
    pub(super) fn notes(&self) -> Option<&LayerNotes> {
        self.file.notes()
    }

    /// When it was made, as far as it says.
    fn age(&self) -> (u64, u64) {
        self.notes().map_or((0, 0), |notes| (notes.number, notes.written))
    }
}

impl Graph {
    pub(super) fn of(files: Vec<Scanned>, limits: Limits, rebuilt: &mut Rebuilt) -> Result<Self> {
        let mut graph = Self { nodes: linked(files, limits, rebuilt)?, ..Self::default() };
        let over = graph.over(rebuilt);
        let whole: Vec<bool> = (0..graph.nodes.len()).map(|place| graph.is_whole(place)).collect();
        let held = graph.held(&over, &whole, rebuilt);
        graph.choose_heads(&over, &whole, &held, rebuilt);
        graph.list(&over, &whole, held, rebuilt);
        graph.keep_needed(&over, rebuilt);
        Ok(graph)
    }

    /// What was being made or filled, files whose place another one has taken, and what is above either.
    fn over(&self, rebuilt: &mut Rebuilt) -> BTreeSet<usize> {
        let mut over = BTreeSet::new();
        for (place, node) in self.nodes.iter().enumerate() {
            let Some(notes) = node.notes() else { continue };
            let floor = node.parent.and_then(|parent| self.nodes[parent].notes()).map(|notes| notes.floor);
            let why = if notes.changed == LayerNotes::BEING_FILLED {
                "it was still being filled"
            } else if node.is_torn {
                "it was still being made, and nothing was ever written to it"
            } else if floor.is_some_and(|floor| notes.written < floor) {
                "the layer below has taken its place"
            } else {
                continue;
            };
            rebuilt.leave(&node.file.name, why);
            over.insert(place);
        }
        for (place, node) in self.nodes.iter().enumerate() {
            if !over.contains(&place) && self.chain(place).any(|below| over.contains(&below)) {
                rebuilt.leave(&node.file.name, "another layer has taken the place of one below it");
                over.insert(place);
            }
        }
        over
    }

    /// A layer and those below it, as far as they are there; ends in a loop, too.
    fn chain(&self, top: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(top), |place| self.nodes[*place].parent).take(self.nodes.len() + 1)
    }

    /// Whether a layer can be read with all that it reads through.
    fn is_whole(&self, top: usize) -> bool {
        let mut length = 0;
        let is_sound = |place: usize| {
            length += 1;
            self.nodes[place].broken.is_none()
        };
        self.chain(top).all(is_sound) && length <= self.nodes.len()
    }

    /// The snapshots of which a claim holds. Of several claims of one snapshot the youngest counts.
    fn held(&self, over: &BTreeSet<usize>, whole: &[bool], rebuilt: &mut Rebuilt) -> Held {
        let layers: BTreeMap<Uuid, usize> = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(place, _)| !over.contains(place))
            .filter_map(|(place, node)| Some((node.layer?, place)))
            .collect();
        let mut claims: Vec<(u64, &SnapshotClaim)> = self
            .nodes
            .iter()
            .filter(|node| !node.is_torn)
            .filter_map(Node::notes)
            .flat_map(|notes| notes.claims.iter().map(|claim| (notes.written, claim)))
            .collect();
        claims.sort_by_key(|(written, _)| *written);
        let (mut held, mut lost) = (Held::new(), BTreeMap::new());
        for (written, claim) in claims {
            let uuid = Uuid::from_bytes(claim.snapshot);
            let Some(place) = layers.get(&Uuid::from_bytes(claim.layer)).copied() else {
                lost.insert(uuid, "no file here is its layer: it was deleted, or the file is lost");
                continue;
            };
            let node = &self.nodes[place];
            let changed = match (node.notes(), node.file.ids) {
                (Some(notes), _) => notes.changed,
                // Nothing is ever written to a file without ids.
                (None, None) => 0,
                // It has no room to say that it was changed.
                (None, Some(_)) => u64::MAX,
            };
            if changed > written {
                continue;
            }
            if whole[place] {
                held.insert(uuid, (place, claim.clone()));
            } else {
                lost.insert(uuid, "its layer cannot be read with all that it reads through");
            }
        }
        for (uuid, why) in lost.into_iter().filter(|(uuid, _)| !held.contains_key(uuid)) {
            rebuilt.lose_snapshot(uuid, why);
        }
        held
    }

    /// The layers that nothing is above, but for what is over.
    fn leaves(&self, over: &BTreeSet<usize>) -> Vec<usize> {
        let nodes = self.nodes.iter().enumerate().filter(|(place, _)| !over.contains(place));
        let below: BTreeSet<usize> = nodes.filter_map(|(_, node)| node.parent).collect();
        (0..self.nodes.len()).filter(|place| !below.contains(place) && !over.contains(place)).collect()
    }

    fn choose_heads(&mut self, over: &BTreeSet<usize>, whole: &[bool], held: &Held, rebuilt: &mut Rebuilt) {
        let claimed: BTreeSet<usize> = held.values().map(|(place, _)| *place).collect();
        let present = self.nodes.iter().enumerate().filter(|(place, _)| !over.contains(place));
        let mut volumes: BTreeMap<Uuid, Option<usize>> =
            present.filter_map(|(_, node)| Some((node.volume?, None))).collect();
        for leaf in self.leaves(over).into_iter().filter(|leaf| !claimed.contains(leaf)) {
            let Some(head) = self.nodes[leaf].volume.and_then(|volume| volumes.get_mut(&volume)) else {
                continue;
            };
            if head.is_none_or(|head| self.nodes[head].age() < self.nodes[leaf].age()) {
                *head = Some(leaf);
            }
        }
        for (uuid, head) in volumes {
            let why = match head {
                Some(head) if whole[head] => {
                    self.heads.insert(uuid, head);
                    continue;
                }
                Some(_) => "its head cannot be read with all that it reads through",
                None => "no file here can be its head: it was deleted, or the file is lost",
            };
            let head = head.map(|head| self.nodes[head].file.name.to_string());
            rebuilt.volumes_lost.push(LostVolume { uuid, head, why: why.to_owned() });
        }
    }

    /// Lists what is claimed, and what may be a snapshot and is claimed by nobody.
    fn list(&mut self, over: &BTreeSet<usize>, whole: &[bool], held: Held, rebuilt: &mut Rebuilt) {
        let mut taken: BTreeSet<usize> = self.heads.values().copied().collect();
        for (uuid, (holder, claim)) in held {
            taken.insert(holder);
            let volume = Uuid::from_bytes(claim.volume);
            if self.heads.contains_key(&volume) {
                self.snapshots.push(Listed { volume, holder, claim: Some(claim) });
            } else {
                rebuilt.lose_snapshot(uuid, "its volume has nothing to write to");
            }
        }
        let leaves: BTreeSet<usize> = self.leaves(over).into_iter().collect();
        let unsaid = self.unsaid(over);
        let has_cut = |node: &Node| node.notes().is_none_or(|notes| notes.cut);
        let nodes = self.nodes.iter().filter(|node| has_cut(node));
        let cut: BTreeSet<Uuid> = nodes.filter_map(|node| node.volume).collect();
        for (holder, node) in self.nodes.iter().enumerate() {
            let Some(volume) = node.volume.filter(|volume| self.heads.contains_key(volume)) else { continue };
            let may_be = match leaves.contains(&holder) {
                // One that nobody has written to is what a call has left that went no further, unless there was no
                // room to say that it is a snapshot.
                true => cut.contains(&volume) || !node.file.is_pristine(),
                false => unsaid.contains(&holder),
            };
            if may_be && whole[holder] && !taken.contains(&holder) {
                self.snapshots.push(Listed { volume, holder, claim: None });
            }
        }
        let mut snapshots = std::mem::take(&mut self.snapshots);
        snapshots
            .sort_by_key(|listed| (self.order(listed.holder), listed.claim.as_ref().map(|it| it.created)));
        self.snapshots = snapshots;
    }

    /// The layers of which no file above has had the room to say what they hold, and those of which a file above says so
    /// that cannot say themselves whether they were changed since.
    fn unsaid(&self, over: &BTreeSet<usize>) -> BTreeSet<usize> {
        let mut said: BTreeMap<usize, bool> = BTreeMap::new();
        for (_, node) in self.nodes.iter().enumerate().filter(|(place, _)| !over.contains(place)) {
            let Some(parent) = node.parent else { continue };
            let below = &self.nodes[parent];
            let is_believed = below.notes().is_some() || below.file.ids.is_none();
            let says = node.notes().is_some_and(|notes| match notes.claims.is_empty() {
                true => !notes.cut,
                false => is_believed,
            });
            *said.entry(parent).or_default() |= says;
        }
        said.into_iter().filter(|(_, says)| !says).map(|(place, _)| place).collect()
    }

    /// The place of a layer among all: those that it reads through come before it.
    fn order(&self, place: usize) -> (u64, usize) {
        let numbers = self.chain(place).map(|place| self.nodes[place].age().0);
        (numbers.max().unwrap_or_default(), self.chain(place).count())
    }

    /// Takes out what no head and no snapshot reads through.
    fn keep_needed(&mut self, over: &BTreeSet<usize>, rebuilt: &mut Rebuilt) {
        let holders = self.snapshots.iter().map(|listed| listed.holder);
        let tops: Vec<usize> = self.heads.values().copied().chain(holders).collect();
        let needed: BTreeSet<usize> = tops.into_iter().flat_map(|top| self.chain(top)).collect();
        let mut places = Vec::with_capacity(self.nodes.len());
        let mut kept: Vec<Node> = Vec::with_capacity(needed.len());
        for (place, node) in std::mem::take(&mut self.nodes).into_iter().enumerate() {
            places.push(kept.len());
            if needed.contains(&place) {
                kept.push(node);
            } else if node.file.ids.is_some() && !over.contains(&place) {
                let why = node.broken.as_deref();
                rebuilt
                    .leave(&node.file.name, why.unwrap_or("no disk and no snapshot that is there reads it"));
            }
        }
        for node in &mut kept {
            node.parent = node.parent.map(|parent| places[parent]);
        }
        self.heads.values_mut().for_each(|head| *head = places[*head]);
        self.snapshots.iter_mut().for_each(|listed| listed.holder = places[listed.holder]);
        let by_name = |node: &Node| node.parent.filter(|_| node.notes().is_none());
        let mut unsure: BTreeSet<usize> = kept.iter().filter_map(by_name).collect();
        unsure.extend((0..kept.len()).filter(|place| kept[*place].file.ids.is_none()));
        rebuilt.by_name_alone = unsure.into_iter().map(|place| kept[place].file.name.to_string()).collect();
        self.nodes = kept;
    }
}

/// The files as layers, each with what is wrong with it.
fn linked(files: Vec<Scanned>, limits: Limits, rebuilt: &mut Rebuilt) -> Result<Vec<Node>> {
    let places: BTreeMap<_, usize> =
        files.iter().enumerate().map(|(place, file)| (file.name.clone(), place)).collect();
    let mut nodes: Vec<Node> = Vec::with_capacity(files.len());
    for file in files {
        let parent = file.below.as_ref().and_then(|(below, _)| places.get(below).copied());
        let (volume, layer) = file.ids.unzip();
        let broken = unreadable(&file, limits)?;
        let is_torn = broken.is_some() && file.is_pristine();
        nodes.push(Node { broken, is_torn, file, parent, layer, volume });
    }
    for place in 0..nodes.len() {
        if let Err(why) = link(&mut nodes, place) {
            nodes[place].broken.get_or_insert(why);
        }
    }
    for node in &nodes {
        if let (Some(why), None) = (&node.broken, node.file.ids) {
            rebuilt.leave(&node.file.name, why);
        }
    }
    Ok(nodes)
}

/// Compares what a layer says of the one below it with what that one is.
fn link(nodes: &mut [Node], place: usize) -> std::result::Result<(), String> {
    let node = &nodes[place];
    let below = node.notes().map(|notes| (notes.parent.map(Uuid::from_bytes), notes.above_base));
    let Some((label, format)) = node.file.below.clone() else {
        return match below {
            Some((Some(parent), _)) => {
                Err(format!("it was made above layer {}, and its header names no file", parent.simple()))
            }
            _ => Ok(()),
        };
    };
    let Some(parent) = node.parent else {
        return Err(format!("{label}, which it reads through to, is not there or not of this pool"));
    };
    if nodes[parent].file.format != format {
        return Err(format!("it says that {label} has another format than it has"));
    }
    // Without notes there is only the name.
    let Some((expected, above_base)) = below else { return Ok(()) };
    let Some(expected) = expected else {
        return Err(format!("it was made above nothing, and its header names {label}"));
    };
    let is_base = nodes[parent].file.ids.is_none();
    if is_base != above_base {
        return Err(format!("{label} is another file than the one that it was made above"));
    }
    match nodes[parent].layer {
        // A file that says nothing of itself is what those above it say.
        None => nodes[parent].layer = Some(expected),
        Some(found) if found == expected => {}
        Some(found) => {
            let (expected, found) = (expected.simple(), found.simple());
            return Err(format!("it was made above layer {expected}, and {label} is layer {found}"));
        }
    }
    Ok(())
}

/// Why an image cannot be read at all. A disk that fails is no reason to think so.
fn unreadable(file: &Scanned, limits: Limits) -> Result<Option<String>> {
    if file.facts.is_none() {
        return Ok(None);
    }
    let (blob, name) = (Arc::clone(&file.blob), file.name.as_str());
    // Of a call that the power has cut short any part may be missing.
    let opened = match file.is_pristine() {
        true => Image::open_checked(blob, name, Access::Read, limits),
        false => Image::open(blob, name, Access::Read, limits),
    };
    match opened {
        Ok(_) => Ok(None),
        Err(error) if is_of_disk(&error) => Err(error.into()),
        Err(error) => Ok(Some(error.to_string())),
    }
}
