//! What a pool is asked to do, from its beginning to its end: the one place where operations begin and end, for whoever
//! listens and for the spans of the feature `tracing`.
//!
//! A call that is done when it returns is an operation from its beginning to its return. Work in steps
//! ([`Reclaim`](super::Reclaim), [`Exporter`](super::Exporter), [`Importer`](super::Importer),
//! [`Sealing`](super::Sealing)) is one from the call that begins it to its last step, or until it is dropped. One operation
//! may be part of another one: a deletion reclaims.

use super::error::{Kind, Result};
use super::events::{Event, Listener};
use super::pool::Engine;
use super::spans::Span;
use crate::chain::Step;
use crate::plan::refusal::Code;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Makes [`Operation`] from a list of its variants, their names, and what each is.
macro_rules! operations {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What a pool is asked to do: every call that changes something, and every one that reads more than the books. What
        /// only looks up records is none, nor is reading and writing guest data.
        #[doc = include_str!("examples/events.md")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Operation {
            $($(#[$doc])* $variant,)*
        }

        impl Operation {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name: that of the call, and of its span.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The span of one run of it.
            pub(super) fn span(self, run: RunId) -> Span {
                match self {
                    $(Self::$variant => super::spans::span!($name, run),)*
                }
            }
        }
    };
}

operations! {
    /// [`Engine::open`], and the other calls that open a pool: its recovery is part of it.
    Open = "open",
    /// [`Engine::close`].
    Close = "close",
    /// [`Engine::rebuild`].
    Rebuild = "rebuild",
    /// [`Engine::create_machine`].
    CreateMachine = "create_machine",
    /// [`Engine::delete_machine`].
    DeleteMachine = "delete_machine",
    /// [`Engine::set_running`].
    SetRunning = "set_running",
    /// [`Engine::create_volume`].
    CreateVolume = "create_volume",
    /// [`Engine::adopt_volume`].
    AdoptVolume = "adopt_volume",
    /// [`Engine::validate_chain`].
    ValidateChain = "validate_chain",
    /// [`Engine::attach_volume`].
    AttachVolume = "attach_volume",
    /// [`Engine::detach_volume`].
    DetachVolume = "detach_volume",
    /// [`Engine::resize_volume`].
    ResizeVolume = "resize_volume",
    /// [`Engine::update_volume`].
    UpdateVolume = "update_volume",
    /// [`Engine::delete_volume`].
    DeleteVolume = "delete_volume",
    /// [`Engine::open_volume`].
    OpenVolume = "open_volume",
    /// [`Engine::create_snapshot`].
    CreateSnapshot = "create_snapshot",
    /// [`Engine::update_snapshot`], [`Engine::hold`] and [`Engine::release`].
    UpdateSnapshot = "update_snapshot",
    /// [`Engine::open_snapshot`].
    OpenSnapshot = "open_snapshot",
    /// [`Engine::delete_snapshots`].
    DeleteSnapshots = "delete_snapshots",
    /// [`Engine::create_group`].
    CreateGroup = "create_group",
    /// [`Engine::create_group_live`].
    CreateGroupLive = "create_group_live",
    /// [`Engine::prepare_group`].
    PrepareGroup = "prepare_group",
    /// [`PreparedGroup::commit`](super::PreparedGroup::commit).
    CommitGroup = "commit_group",
    /// [`PreparedGroup::abort`](super::PreparedGroup::abort).
    AbortGroup = "abort_group",
    /// [`Engine::update_group`].
    UpdateGroup = "update_group",
    /// [`Engine::ungroup`].
    Ungroup = "ungroup",
    /// [`Engine::delete_group`].
    DeleteGroup = "delete_group",
    /// [`Engine::revert_group`].
    RevertGroup = "revert_group",
    /// [`Engine::revert_volume`].
    RevertVolume = "revert_volume",
    /// [`Engine::plan_create`], and the other calls that plan.
    Plan = "plan",
    /// [`Engine::run`]: the operation that was planned is part of it.
    RunPlan = "run_plan",
    /// [`Engine::check_availability_deep`].
    CheckAvailability = "check_availability",
    /// [`Engine::reclaim`], up to its last step.
    Reclaim = "reclaim",
    /// [`Engine::space_of`].
    Space = "space",
    /// [`Engine::diff`], as far as finding the first change needs.
    Diff = "diff",
    /// [`Engine::export`], up to its last step.
    Export = "export",
    /// [`Engine::import`], up to its last step.
    Import = "import",
    /// [`Engine::seal`], up to its last step.
    Seal = "seal",
    /// [`Engine::verify`].
    Verify = "verify",
    /// [`Engine::check`] and [`Engine::verify_catalogue`].
    Check = "check",
    /// [`Engine::repair`].
    Repair = "repair",
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which run of an operation: no two in one process are the same.
#[doc = include_str!("examples/events.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(u64);

impl RunId {
    fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How an operation ended.
#[doc = include_str!("examples/events.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It was done.
    Done,
    /// Work in steps was dropped before its last step, or a call has panicked.
    GivenUp,
    /// It has failed.
    Failed {
        /// What can be done about it.
        kind: Kind,
        /// The code of the error.
        code: Code,
    },
}

/// An operation that has begun. Its clones are the same one; it ends once, with the last of them at the latest.
#[derive(Clone, Debug)]
pub(super) struct Running(Arc<Run>);

#[derive(Debug)]
struct Run {
    listener: Listener,
    operation: Operation,
    id: RunId,
    span: Span,
    has_ended: AtomicBool,
}

impl Running {
    /// Begins an operation.
    pub(super) fn begin(listener: &Listener, operation: Operation) -> Self {
        let (id, listener) = (RunId::next(), listener.clone());
        let span = operation.span(id);
        span.within(|| listener.tell(|| Event::Began { operation, run: id }));
        Self(Arc::new(Run { listener, operation, id, span, has_ended: AtomicBool::new(false) }))
    }

    /// Does a part of it. An error is its end.
    pub(super) fn within<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let done = self.0.span.within(work);
        if let Err(error) = &done
            && !self.0.has_ended.load(Ordering::Relaxed)
        {
            self.0.span.failed(error);
            self.end(Outcome::Failed { kind: error.kind(), code: error.code() });
        }
        done
    }

    /// Does a step of it. The last one is its end.
    pub(super) fn step(&self, work: impl FnOnce() -> Result<Step>) -> Result<Step> {
        let step = self.within(work)?;
        if step == Step::Done {
            self.end(Outcome::Done);
        }
        Ok(step)
    }

    /// Ends it; what it is told later does not count.
    pub(super) fn end(&self, outcome: Outcome) {
        self.0.end(outcome);
    }
}

impl Run {
    fn end(&self, outcome: Outcome) {
        if self.has_ended.swap(true, Ordering::Relaxed) {
            return;
        }
        self.span.ended(outcome);
        let (operation, run) = (self.operation, self.id);
        self.span.within(|| self.listener.tell(|| Event::Ended { operation, run, outcome }));
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.end(Outcome::GivenUp);
    }
}

/// Does an operation as a whole.
pub(super) fn during<T>(
    listener: &Listener,
    operation: Operation,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let running = Running::begin(listener, operation);
    let done = running.within(work)?;
    running.end(Outcome::Done);
    Ok(done)
}

impl Engine {
    /// Does an operation as a whole. What waits to be settled is settled once that is much, also when the operation has
    /// failed: some make layers first.
    pub(super) fn during<T>(&self, operation: Operation, work: impl FnOnce() -> Result<T>) -> Result<T> {
        during(&self.pool.options.listener, operation, || {
            let done = work();
            self.pool.settle_backlog();
            done
        })
    }
}
