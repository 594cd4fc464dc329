//! Plans: what a call would do, worked out by what does it, and run only as long as nothing else has happened.

use super::delete::{Deleted, Deletion};
use super::error::Result;
use super::generation::Generation;
use super::group::{CreateGroup, CreatedGroup, LeftOutVolume};
use super::operation::Operation;
use super::pool::Engine;
use super::reclaim::Figures;
use super::revert::{Reversion, Reverted};
use crate::inventory::{DeleteResult, ErrorCode, RevertResult};
use crate::plan::full::SnapshotMode;
use uuid::Uuid;

/// An answer that holds at one generation of the catalogue.
pub(super) struct Foretold<T> {
    pub(super) generation: Generation,
    pub(super) answer: T,
}

/// What a deletion would do. Run it with [`Engine::run`].
#[doc = include_str!("examples/deleting.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a plan does nothing before it is run"]
pub struct DeletePlan {
    /// The generation of the catalogue that it was made at.
    pub generation: Generation,
    /// The lines that the call would answer: who would go, who refuses and why.
    pub results: Vec<DeleteResult>,
    /// The groups of which no member would be left.
    pub groups_removed: Vec<Uuid>,
    /// What would be done to files, when the bytes are dealt with at once.
    pub figures: Figures,
    request: Deletion,
}

/// What a revert would do. Run it with [`Engine::run`].
#[doc = include_str!("examples/reverting.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a plan does nothing before it is run"]
pub struct RevertPlan {
    /// The generation of the catalogue that it was made at.
    pub generation: Generation,
    /// The lines that the call would answer, with the changes of virtual sizes.
    pub results: Vec<RevertResult>,
    /// What would be done to files.
    pub figures: Figures,
    request: Reversion,
}

/// What taking a group would do. Run it with [`Engine::run`].
///
/// Where a chain is full and retired layers of it can be merged ([`ChainFull::Merge`](super::ChainFull::Merge)), that is in
/// the plan: in [`CreatePlan::figures`], with the chains as they get shorter and longer again.
#[doc = include_str!("examples/planning.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a plan does nothing before it is run"]
pub struct CreatePlan {
    /// The generation of the catalogue that it was made at.
    pub generation: Generation,
    /// The members, by device id.
    pub members: Vec<PlannedMember>,
    /// The volumes of the machine that would not be in the group.
    pub left_out: Vec<LeftOutVolume>,
    /// What stands against the group as a whole, such as the quota.
    pub refused: Option<ErrorCode>,
    /// What would be done to files.
    pub figures: Figures,
    /// Whether room is made first.
    pub(super) makes_room: bool,
    pub(super) request: CreateGroup,
}

/// A member of a group that is not taken yet.
#[doc = include_str!("examples/planning.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedMember {
    /// Its volume.
    pub volume_uuid: Uuid,
    /// The name that its snapshot would have.
    pub name: String,
    /// Whether it would be copied.
    pub mode: SnapshotMode,
    /// Why this disk refuses.
    pub refused: Option<ErrorCode>,
}

impl DeletePlan {
    /// Whether nothing refuses.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        self.results.iter().all(|line| line.success)
    }
}

impl CreatePlan {
    /// Whether nothing refuses.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        self.refused.is_none() && self.members.iter().all(|member| member.refused.is_none())
    }

    /// Whether another plan is one of the same disks, by the same ways.
    pub(super) fn is_of_the_same(&self, other: &Self) -> bool {
        let members = |plan: &Self| {
            let of_one = |member: &PlannedMember| (member.volume_uuid, member.name.clone(), member.mode);
            plan.members.iter().map(of_one).collect::<Vec<_>>()
        };
        members(self) == members(other) && self.left_out == other.left_out
    }
}

pub(super) mod sealed {
    /// Only the plans of this crate are plans.
    pub trait Sealed {}
    impl Sealed for super::DeletePlan {}
    impl Sealed for super::RevertPlan {}
    impl Sealed for super::CreatePlan {}
}

/// A plan that can be run.
#[doc = include_str!("examples/deleting.md")]
pub trait Planned: sealed::Sealed {
    /// What running it answers.
    type Answer;

    /// Runs it on the pool that it was made on.
    #[doc(hidden)]
    fn run_on(&self, engine: &Engine) -> Result<Self::Answer>;
}

impl Planned for DeletePlan {
    type Answer = Deleted;

    fn run_on(&self, engine: &Engine) -> Result<Deleted> {
        engine.delete(&self.request, Some(self.generation.0))
    }
}

impl Planned for RevertPlan {
    type Answer = Reverted;

    fn run_on(&self, engine: &Engine) -> Result<Reverted> {
        engine.go_back(&self.request, Some(self.generation.0))
    }
}

impl Planned for CreatePlan {
    type Answer = CreatedGroup;

    fn run_on(&self, engine: &Engine) -> Result<CreatedGroup> {
        engine.create_planned_group(self)
    }
}

impl Engine {
    /// What a deletion would do: of a group ([`DeleteGroup`](super::DeleteGroup)) or of snapshots
    /// ([`DeleteSnapshots`](super::DeleteSnapshots)). Nothing is changed. The figures are exact as long as no guest
    /// writes meanwhile and no handle reads a deleted snapshot; they say what is done when the bytes are dealt with at
    /// once.
    ///
    /// The tables are looked at, no data is read: a line that fails only in the work on the bytes (a disk that is full,
    /// a sector that cannot be read, a compressed cluster that does not decode, a file that another process opens
    /// meanwhile) is a success here. Such layers are in [`Deleted::owed`] afterwards.
    ///
    /// # Errors
    ///
    /// As the call itself, but for what stands in its lines.
    #[doc = include_str!("examples/deleting.md")]
    pub fn plan_delete(&self, request: impl Into<Deletion>) -> Result<DeletePlan> {
        self.during(Operation::Plan, || self.plan_delete_untold(request))
    }

    fn plan_delete_untold(&self, request: impl Into<Deletion>) -> Result<DeletePlan> {
        let pool = &self.pool;
        let request = request.into();
        let (_held, reader, targets) = pool.lock_found(|reader| request.find(reader))?;
        let considered = pool.consider(&reader, &request, &targets)?;
        let direction = request.direction();
        // A deletion that is refused does nothing at all.
        let figures = match considered.verdict.gone.as_slice() {
            [] => Figures::default(),
            _ => pool.foretell(&reader, &considered.books, &considered.verdict.retired, direction)?,
        };
        Ok(DeletePlan {
            generation: Generation(reader.generation()),
            results: considered.lines(),
            groups_removed: considered.books.groups_removed().map(|group| group.uuid).collect(),
            figures,
            request,
        })
    }

    /// What a revert would do: of a machine ([`RevertGroup`](super::RevertGroup)) or of a volume
    /// ([`RevertVolume`](super::RevertVolume)). Nothing is changed. The figures are exact as those of
    /// [`Engine::plan_delete`] are; they say what is done when the old heads are removed at once. A request whose uuid an
    /// earlier call has used is planned as if it were new; running it answers what that call has done.
    ///
    /// # Errors
    ///
    /// As the call itself: what refuses refuses here, too.
    #[doc = include_str!("examples/reverting.md")]
    pub fn plan_revert(&self, request: impl Into<Reversion>) -> Result<RevertPlan> {
        self.during(Operation::Plan, || self.plan_revert_untold(request))
    }

    fn plan_revert_untold(&self, request: impl Into<Reversion>) -> Result<RevertPlan> {
        let request = request.into();
        let Foretold { generation, answer: (results, figures) } = self.foretell_revert(&request)?;
        Ok(RevertPlan { generation, results, figures, request })
    }

    /// What taking a group would do, and each disk that refuses. Nothing is changed, but open disks are flushed. The
    /// figures are exact but for [`Figures::bytes_flattened`](super::Figures), which is the most that is copied.
    /// Running a plan in which room is made does that first, and refuses ([`Refusal::Stale`](super::Refusal::Stale)) when
    /// the group would be another one afterwards; what was merged stays merged.
    ///
    /// # Errors
    ///
    /// As [`Engine::create_group`] for what is wrong with the request itself.
    #[doc = include_str!("examples/planning.md")]
    pub fn plan_create(&self, request: &CreateGroup) -> Result<CreatePlan> {
        self.during(Operation::Plan, || self.plan_create_untold(request))
    }

    fn plan_create_untold(&self, request: &CreateGroup) -> Result<CreatePlan> {
        self.foretell_group(request)
    }

    /// Runs a plan.
    ///
    /// # Errors
    ///
    /// SYS.1006 ([`Refusal::Stale`](super::Refusal::Stale)) when anything in the pool has changed since the plan was
    /// made: nothing is done then. Otherwise as the call itself.
    #[doc = include_str!("examples/planning.md")]
    pub fn run<P: Planned>(&self, plan: &P) -> Result<P::Answer> {
        self.during(Operation::RunPlan, || self.run_untold(plan))
    }

    fn run_untold<P: Planned>(&self, plan: &P) -> Result<P::Answer> {
        plan.run_on(self)
    }
}
