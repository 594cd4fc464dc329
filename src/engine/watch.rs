//! The log of a simulated disk, looked through with the books at hand: was anything done before it might be?
//!
//! A power cut shows a wrong order only when it comes at the right instant. The log shows it always. The books are read
//! as they were at each sync of the catalogue.

use super::pool::CATALOGUE;
use crate::catalog::{
    Catalog, CatalogOptions, CatalogueCheck, LayerFormat, LayerId, LayerRecord, LayerState, Origin, Settled,
};
use crate::image::{self, Facts, Held, Image, Limits};
use crate::storage::{Access, BlobName, DiskChange, DiskEvent, DiskLog, MemoryStore, PowerCut, Store};
use crate::units::{ByteCount, GuestOffset};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// A rule of the order in which a pool writes.
#[doc = include_str!("examples/watching.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum OrderRule {
    /// A commit is durable after the files that it names: their names, and what was written to them so far when the
    /// commit makes them, freezes them, or has them read through something else. Of an empty image that is to be made anew
    /// when it does not arrive only the name; a commit that says of one that it has arrived is durable after it.
    NamedAfterDurable,
    /// No file is removed, and no part of one punched, before the commit that allows it is durable.
    RemovedAfterCommit,
    /// No write leaves tables of an image that contradict each other: none lands on a table that is in use. An empty image
    /// that did not arrive is one once it is made anew.
    TablesWhole,
    /// Nothing is written to a frozen layer, unless the durable books say that it takes over what a retired one below it
    /// holds, which header it gets, or that it is empty and may not have arrived. Nothing ever is to a base.
    FrozenUntouched,
    /// Nothing is written to a layer of which the durable books hold checksums.
    SealedUntouched,
}

impl fmt::Display for OrderRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NamedAfterDurable => "a commit names a file before it is durable",
            Self::RemovedAfterCommit => "something is gone before the commit that allows it",
            Self::TablesWhole => "a write has broken the tables of an image",
            Self::FrozenUntouched => "a frozen layer is written to",
            Self::SealedUntouched => "a sealed layer is written to",
        })
    }
}

/// A rule, where a log breaks it.
#[doc = include_str!("examples/watching.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OrderBreach {
    /// The number of the event, from 0.
    pub event: usize,
    /// The file that suffers.
    pub file: String,
    /// The rule.
    pub rule: OrderRule,
}

impl fmt::Display for OrderBreach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {}, {}: {}", self.event, self.file, self.rule)
    }
}

/// Looks through the log of a disk that one pool was on, and answers every event that breaks a rule of order: none, if
/// this crate is right.
///
/// Costs an opening of the catalogue for each of its syncs, and a check of an image for each write to it.
#[doc = include_str!("examples/watching.md")]
#[must_use]
pub fn watch_order(log: &DiskLog) -> Vec<OrderBreach> {
    let live = log.cut(0).everything().store();
    let mut watch = Watch { books: Books::of(&live).unwrap_or_default(), live, breaches: Vec::new() };
    for (index, (event, (_, after))) in log.events().iter().zip(log.cuts(1)).enumerate() {
        watch.pass(index, event, &after);
    }
    watch.breaches
}

/// What the books say of each file.
#[derive(Debug, Default)]
struct Books {
    layers: BTreeMap<BlobName, LayerRecord>,
    /// The files of the seals, each with the state of its layer.
    seals: BTreeMap<BlobName, LayerState>,
    states: BTreeMap<LayerId, LayerState>,
}

impl Books {
    /// The books of a store; `None` while there is no catalogue that can be read.
    fn of(store: &MemoryStore) -> Option<Self> {
        let blob = store.fork().open(&catalogue(), Access::Write).ok()?;
        let options = CatalogOptions {
            cache: ByteCount::kib(512),
            check: CatalogueCheck::Trust,
            ..CatalogOptions::default()
        };
        let catalog = Catalog::open_with(blob, options).ok()?;
        let mut books = Self::default();
        for layer in catalog.read().ok()?.layers(LayerId(0)).ok()? {
            let layer = layer.ok()?;
            books.states.insert(layer.id, layer.state);
            books.seals.extend(layer.seal.iter().map(|seal| (seal.blob.clone(), layer.state)));
            books.layers.insert(layer.blob.clone(), layer);
        }
        Some(books)
    }

    /// The record of a file that somebody reads.
    fn needed(&self, name: &BlobName) -> Option<&LayerRecord> {
        let is_needed =
            |layer: &&LayerRecord| !matches!(layer.state, LayerState::Garbage | LayerState::Building);
        self.layers.get(name).filter(is_needed)
    }

    /// Whether a frozen layer may be written to: nothing that it shows changes.
    fn admits_write(&self, layer: &LayerRecord) -> bool {
        let above_retired =
            layer.parent.is_some_and(|parent| self.states.get(&parent) == Some(&LayerState::Retired));
        layer.origin != Origin::Base && (layer.rewrite.is_some() || above_retired)
    }
}

struct Watch {
    /// As they are durable.
    books: Books,
    /// What reads see.
    live: MemoryStore,
    breaches: Vec<OrderBreach>,
}

impl Watch {
    fn breach(&mut self, event: usize, file: &BlobName, rule: OrderRule) {
        self.breaches.push(OrderBreach { event, file: file.to_string(), rule });
    }

    fn pass(&mut self, index: usize, event: &DiskEvent, after: &PowerCut) {
        let Some(name) = &event.name else { return };
        match &event.change {
            DiskChange::Sync if *name == catalogue() => self.committed(index, after),
            DiskChange::Remove => {
                let is_seal = self.books.seals.get(name).is_some_and(|state| *state != LayerState::Garbage);
                if is_seal || self.books.layers.get(name).is_some_and(|it| it.state != LayerState::Garbage) {
                    self.breach(index, name, OrderRule::RemovedAfterCommit);
                }
            }
            DiskChange::Write { .. } | DiskChange::SetLength(_) | DiskChange::Punch { .. } => {
                self.written(index, name, &event.change);
            }
            _ => {}
        }
        let changes = matches!(event.change, DiskChange::Write { .. } | DiskChange::Punch { .. });
        let is_image = |layer: &LayerRecord| layer.format == LayerFormat::Qcow2 && layer.rewrite.is_none();
        let image = self.books.needed(name).filter(|layer| changes && is_image(layer));
        let was_whole = image.is_some_and(|layer| layer.settled == Settled::Yes || self.is_whole(name));
        follow(&self.live, name, &event.change);
        if was_whole && !self.is_whole(name) {
            self.breach(index, name, OrderRule::TablesWhole);
        }
    }

    /// A commit is durable.
    fn committed(&mut self, index: usize, after: &PowerCut) {
        let Some(books) = Books::of(&self.live) else { return };
        let is_same = |layer: &LayerRecord| {
            self.books.needed(&layer.blob).is_some_and(|before| {
                (before.state, &before.backing_label, before.rewrite.is_some())
                    == (layer.state, &layer.backing_label, layer.rewrite.is_some())
            })
        };
        let was_unsettled =
            |name: &BlobName| self.books.needed(name).is_some_and(|before| before.settled == Settled::No);
        let is_lawful = |layer: &&LayerRecord| match (is_same(layer), layer.settled) {
            (true, Settled::Yes) if was_unsettled(&layer.blob) => {
                is_whole(&after.durable().store(), &layer.blob)
            }
            (true, _) => true,
            (false, Settled::No) if self.shows_nothing(&layer.blob) => is_named(&layer.blob, after),
            (false, _) => self.is_durable(&layer.blob, after),
        };
        let files = books.layers.keys().filter_map(|name| books.needed(name));
        let files = files.filter(|layer| !is_lawful(layer)).map(|layer| &layer.blob);
        let seals = books.seals.keys().filter(|name| !self.books.seals.contains_key(*name));
        let seals = seals.filter(|name| !self.is_durable(name, after));
        let named: Vec<BlobName> = files.chain(seals).cloned().collect();
        for name in named {
            self.breach(index, &name, OrderRule::NamedAfterDurable);
        }
        self.books = books;
    }

    /// Whether a power cut leaves a file as it reads now, but for room in it that is being given back.
    fn is_durable(&self, name: &BlobName, after: &PowerCut) -> bool {
        let shows_the_same = || {
            let left = Shown::of(&after.durable().store(), name)?;
            Some(left == Shown::of(&self.live, name)?)
        };
        after.is_durable(name) || shows_the_same().unwrap_or(false)
    }

    /// Something is about to be written to a file.
    fn written(&mut self, index: usize, name: &BlobName, change: &DiskChange) {
        let Some(layer) = self.books.layers.get(name) else { return };
        let is_sealed = layer.seal.is_some();
        let may_be_missing = layer.settled == Settled::No && self.shows_nothing(name);
        if layer.state == LayerState::Frozen && !may_be_missing && !self.books.admits_write(layer) {
            let rule = match change {
                DiskChange::Punch { .. } => OrderRule::RemovedAfterCommit,
                _ => OrderRule::FrozenUntouched,
            };
            self.breach(index, name, rule);
        }
        if is_sealed {
            self.breach(index, name, OrderRule::SealedUntouched);
        }
    }

    /// Whether the tables of an image agree with each other, as they read now.
    fn is_whole(&self, name: &BlobName) -> bool {
        is_whole(&self.live, name)
    }

    /// Whether an image defines nothing of its disk, or cannot be read at all.
    fn shows_nothing(&self, name: &BlobName) -> bool {
        Shown::of(&self.live, name).is_none_or(|shown| shown.stretches.is_empty())
    }
}

/// Whether the tables of an image agree with each other.
fn is_whole(store: &MemoryStore, name: &BlobName) -> bool {
    let report =
        store.open(name, Access::Read).ok().and_then(|blob| image::check(&*blob, name.as_str()).ok());
    report.is_some_and(|report| report.is_sound())
}

/// Whether a power cut leaves the name of a file, whatever of its bytes.
fn is_named(name: &BlobName, after: &PowerCut) -> bool {
    after.durable().store().open(name, Access::Read).is_ok()
}

/// What an image shows: its header in words, and what it defines of its disk.
#[derive(PartialEq, Eq)]
struct Shown {
    facts: Facts,
    stretches: Vec<(Held, Range<GuestOffset>, Vec<u8>)>,
}

impl Shown {
    /// `None` for what is no image that can be read.
    fn of(store: &MemoryStore, name: &BlobName) -> Option<Self> {
        let blob = store.open(name, Access::Read).ok()?;
        let facts = Facts::of(&*blob, name.as_str()).ok()?;
        let image = Image::open(blob, name.as_str(), Access::Read, Limits::default()).ok()?;
        let mut defined = Vec::new();
        image.survey(|held, range| defined.push((held, range))).ok()?;
        let mut stretches = Vec::with_capacity(defined.len());
        for (held, range) in defined {
            let has_bytes = matches!(held, Held::Data | Held::Compressed);
            let length = if has_bytes { (range.end - range.start).as_usize() } else { 0 };
            let mut bytes = vec![0; length];
            image.read(range.start, &mut bytes, &mut Vec::new()).ok()?;
            stretches.push((held, range, bytes));
        }
        Some(Self { facts, stretches })
    }
}

fn catalogue() -> BlobName {
    BlobName::parse(CATALOGUE).expect("a constant name")
}

/// Does to a store what was done to the disk. What is about a name that is gone is nobody's any more.
fn follow(store: &MemoryStore, name: &BlobName, change: &DiskChange) {
    let opened = || store.open(name, Access::Write);
    let done = match change {
        DiskChange::Create => store.create(name).map(drop),
        DiskChange::Remove => store.remove(name),
        DiskChange::Write { at, bytes } => opened().and_then(|blob| blob.write_at(*at, bytes)),
        DiskChange::SetLength(length) => opened().and_then(|blob| blob.set_length(*length)),
        DiskChange::Punch { at, length } => opened().and_then(|blob| blob.punch(*at, *length)),
        _ => Ok(()),
    };
    drop(done);
}
