//! Thinning out the groups of a machine, by a plan that can be read before it runs.

use super::delete::{DeleteSnapshots, Deleted, When};
use super::error::Result;
use super::generation::Generation;
use super::operation::Operation;
use super::plans::{DeletePlan, Planned};
use super::pool::Engine;
use super::uuid_arg::UuidArg;
use crate::inventory::Date;
use crate::plan::reclaim::Direction;
use crate::plan::refusal::Refusal;
use crate::plan::retention::{Aged, KeptBy, Retention};
use uuid::Uuid;

/// The groups of a machine that shall go.
///
/// ```
/// use snapgroup::{ByteCount, CreateGroup, CreateMachine, CreateVolume, Engine, Options, Retention, Thin};
///
/// # fn main() -> snapgroup::Result<()> {
/// # let engine = Engine::in_memory(Options::default())?;
/// # let machine = engine.create_machine(&CreateMachine::new("web-1"))?.uuid;
/// # let volume = engine.create_volume(&CreateVolume::new("system", ByteCount::mib(64)))?.uuid;
/// # engine.attach_volume(volume, machine, None)?;
/// for name in ["monday", "tuesday", "wednesday"] {
///     engine.create_group(&CreateGroup::of_machine(machine, name))?;
/// }
/// let plan = engine.plan_retention(&Thin::new(machine, Retention { last: 2, ..Retention::default() }))?;
/// assert!(plan.groups[0].kept_by.is_empty()); // monday would go
/// assert!(engine.run(&plan)?.is_success());
/// assert_eq!(engine.group_tree(machine)?.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thin {
    /// The machine.
    pub machine: UuidArg,
    /// What is kept.
    pub keep: Retention,
    /// Which way the bytes of what goes go.
    pub direction: Direction,
    /// When they go.
    pub reclaim: When,
}

impl Thin {
    /// Thins out the groups of a machine to what is kept, bytes at once.
    #[must_use]
    pub fn new(machine: impl Into<UuidArg>, keep: Retention) -> Self {
        Self { machine: machine.into(), keep, direction: Direction::default(), reclaim: When::default() }
    }
}

/// What a retention would keep, and what would go. Run it with [`Engine::run`]: everything goes in one commit, or
/// nothing does.
#[doc = include_str!("examples/retention.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a plan does nothing before it is run"]
pub struct ThinPlan {
    /// Every group of the machine, in the order in which they were taken.
    pub groups: Vec<ThinnedGroup>,
    /// The deletion of the members of those that would go; absent when all are kept.
    pub deletion: Option<DeletePlan>,
    /// The generation of the catalogue that it was made at.
    pub generation: Generation,
}

/// A group, and why it would stay.
#[doc = include_str!("examples/retention.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThinnedGroup {
    /// The group.
    pub uuid: Uuid,
    /// Its name.
    pub name: String,
    /// When it was taken.
    pub created: Date,
    /// Why it would stay; without a reason it would go.
    pub kept_by: Vec<KeptBy>,
}

impl ThinPlan {
    /// The groups that would go.
    pub fn going(&self) -> impl Iterator<Item = &ThinnedGroup> {
        self.groups.iter().filter(|group| group.kept_by.is_empty())
    }
}

impl super::plans::sealed::Sealed for ThinPlan {}

impl Planned for ThinPlan {
    type Answer = Deleted;

    fn run_on(&self, engine: &Engine) -> Result<Deleted> {
        match &self.deletion {
            Some(deletion) => deletion.run_on(engine),
            None if engine.generation() != self.generation => {
                Err(Refusal::Stale { planned: self.generation.0, now: engine.generation().0 }.into())
            }
            None => Ok(Deleted::default()),
        }
    }
}

impl Engine {
    /// What would be kept of a machine's groups, and what would go. Nothing is changed, no clock is read: see
    /// [`Retention`] for what a period is. Groups of which a member is held are kept.
    ///
    /// ```
    /// # use snapgroup::{ByteCount, Clock, CreateGroup, CreateMachine, CreateVolume, Engine, Options};
    /// use snapgroup::{Retention, Thin};
    ///
    /// # fn main() -> snapgroup::Result<()> {
    /// # let engine = Engine::in_memory(Options::default())?;
    /// # let machine = engine.create_machine(&CreateMachine::new("web-1"))?.uuid;
    /// # let volume = engine.create_volume(&CreateVolume::new("data", ByteCount::gib(1)))?;
    /// # engine.attach_volume(volume.uuid, machine, None)?;
    /// for name in ["one", "two", "three"] {
    ///     engine.create_group(&CreateGroup::of_machine(machine, name))?;
    /// }
    /// let keep = Retention { last: 2, ..Retention::default() };
    /// let plan = engine.plan_retention(&Thin::new(machine, keep))?;
    /// assert_eq!(plan.going().map(|group| group.name.as_str()).collect::<Vec<_>>(), ["one"]);
    ///
    /// assert!(engine.run(&plan)?.is_success());
    /// assert_eq!(engine.query_groups(&snapgroup::query::Query::all())?.total, 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// SYS.1007 for a malformed uuid; SYS.1003 for a machine that is not there.
    pub fn plan_retention(&self, wish: &Thin) -> Result<ThinPlan> {
        self.during(Operation::Plan, || self.plan_retention_untold(wish))
    }

    fn plan_retention_untold(&self, wish: &Thin) -> Result<ThinPlan> {
        loop {
            let plan = self.thin(wish)?;
            let deletion = plan.deletion.as_ref();
            // Both were read at one generation, or it is done again.
            if deletion.is_none_or(|deletion| deletion.generation == plan.generation) {
                return Ok(plan);
            }
        }
    }

    fn thin(&self, wish: &Thin) -> Result<ThinPlan> {
        let pool = &self.pool;
        let reader = pool.read()?;
        let machine = self.machine_record(&reader, wish.machine.parse()?)?;
        let (mut found, mut members) = (Vec::new(), Vec::new());
        for group in reader.groups_of(machine.id)? {
            let group = group?;
            let mut living = Vec::new();
            for member in reader.refs_of(group.id)? {
                living.extend(reader.snapshot(member.snapshot)?);
            }
            found.push((group, living));
        }
        // Numbers are given in the order of creation; clocks go back now and then.
        found.sort_by_key(|(group, _)| group.id);
        let aged: Vec<Aged> = found
            .iter()
            .map(|(group, living)| Aged {
                taken: group.created.0,
                tags: [group.tags.user_tags.as_slice(), &group.tags.system_tags].concat(),
                is_held: living.iter().any(|snapshot| !snapshot.holds.is_empty()),
            })
            .collect();
        let mut groups = Vec::new();
        for ((group, living), reasons) in found.into_iter().zip(wish.keep.reasons(&aged)) {
            if reasons.is_empty() {
                members.extend(living.iter().map(|snapshot| snapshot.uuid));
            }
            groups.push(ThinnedGroup {
                uuid: group.uuid,
                name: group.name,
                created: group.created.into(),
                kept_by: reasons.into_iter().collect(),
            });
        }
        let generation = Generation(reader.generation());
        let deletion = match members.as_slice() {
            [] => None,
            _ => Some(self.plan_delete(&DeleteSnapshots {
                direction: wish.direction,
                reclaim: wish.reclaim,
                ..DeleteSnapshots::all(members)
            })?),
        };
        Ok(ThinPlan { groups, deletion, generation })
    }
}
