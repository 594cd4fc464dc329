//! One operation in one pool: run once, and everything that bears on crashes kept.

use crate::operations::{FRESH, MANY, OPERATIONS, Operation, TRACE};
use crate::shapes::{SHAPES, of_many_disks};
use crate::world::{Content, Made, Moment, Noting, Template, Things, World, options};
use snapgroup::storage::{DiskLog, FileSystem, MemoryStore, SimulatedDisk};
use snapgroup::{CreatePool, Kind, Options};
use std::sync::Arc;

/// An operation in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// An operation on a pool of a shape, both by their places in their lists.
    Shaped { shape: usize, operation: usize },
    /// A group of so many disks.
    Group { disks: usize },
    /// A new pool, with a volume in it.
    Fresh,
    /// Random writes, flushed now and then: what a guest sees of a power cut.
    Trace { overlay: Overlay },
}

/// Whether a disk reads through to another layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overlay {
    No,
    Yes,
}

/// A run without a fault.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) template: Template,
    pub(crate) log: DiskLog,
    /// The first one was when the pool was open and nothing had been asked of it.
    pub(crate) moments: Vec<Moment>,
    /// The deletions of which a line says that something was not deleted.
    pub(crate) refused: usize,
}

/// Every operation in every shape, and the groups of many disks.
pub(crate) fn all() -> Vec<Scenario> {
    let operations = 0..OPERATIONS.len();
    let shaped = operations
        .flat_map(|operation| (0..SHAPES.len()).map(move |shape| Scenario::Shaped { shape, operation }));
    let groups = [1, 2, 8, 32].map(|disks| Scenario::Group { disks });
    groups.into_iter().chain([Scenario::Fresh]).chain(shaped).collect()
}

impl Scenario {
    /// What is done, for the table.
    pub(crate) fn operation(self) -> String {
        match self {
            Self::Shaped { operation, .. } => OPERATIONS[operation].0.to_owned(),
            Self::Group { disks } => format!("group of {disks}"),
            Self::Fresh => "open new".to_owned(),
            Self::Trace { overlay } => format!("trace, overlay: {overlay:?}"),
        }
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Shaped { shape, operation } => {
                format!("{} in: {}", OPERATIONS[operation].0, SHAPES[shape].name)
            }
            _ => self.operation(),
        }
    }

    fn program(self) -> Operation {
        match self {
            Self::Shaped { operation, .. } => OPERATIONS[operation],
            Self::Group { .. } => MANY,
            Self::Fresh => FRESH,
            Self::Trace { .. } => TRACE,
        }
    }

    pub(crate) fn template(self) -> Made<Template> {
        match self {
            Self::Shaped { shape, .. } => SHAPES[shape].template(shape as u64 + 1),
            Self::Group { disks } => of_many_disks(disks),
            Self::Fresh => Ok(Template {
                store: MemoryStore::new(),
                things: Things::default(),
                content: Content::default(),
                options: Options { create: CreatePool::IfEmpty, ..options(800) },
            }),
            Self::Trace { overlay } => SHAPES[usize::from(overlay == Overlay::Yes)].template(700),
        }
    }

    /// The seed of the uuids that the operation gives out.
    pub(crate) fn seed(self) -> u64 {
        match self {
            Self::Shaped { shape, operation } => 1000 + (shape * 100 + operation) as u64,
            Self::Group { disks } => 9000 + disks as u64,
            Self::Fresh => 800,
            Self::Trace { .. } => 701,
        }
    }

    /// Runs the operation.
    pub(crate) fn go(self, world: &mut World) -> Made<()> {
        (self.program().1)(world)
    }

    /// Runs it on a disk that keeps its log.
    pub(crate) fn run(self, file_system: FileSystem) -> Made<Run> {
        let template = self.template()?;
        let disk = SimulatedDisk::over(&template.store, file_system);
        let world = World::open(&template, Arc::new(disk.clone()), self.seed(), Noting::Moments)?;
        let mut moments = Vec::new();
        if self == Self::Fresh {
            // Before there was a pool.
            let (books, content, sealed, closed) = Default::default();
            moments.push(Moment { position: 0, books, content, sealed, closed });
        }
        let mut world = world.on(&disk)?;
        match self.go(&mut world) {
            // Not every operation is possible in every pool; what a refusal leaves is cut short like anything else.
            Err(error) if error.kind() != Kind::Refused => return Err(error),
            _ => {}
        }
        moments.append(&mut world.moments);
        Ok(Run { template, log: disk.log(), moments, refused: world.refused })
    }
}

impl Run {
    /// The moments that a power cut at this instant may leave: the last one that was acknowledged, and the next one.
    pub(crate) fn allowed(&self, instant: usize) -> &[Moment] {
        let next =
            self.moments.iter().position(|moment| moment.position > instant).unwrap_or(self.moments.len());
        &self.moments[next.saturating_sub(1)..self.moments.len().min(next + 1)]
    }
}
