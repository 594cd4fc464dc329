//! Operations as spans of `tracing`, for the host's subscriber; nothing at all without the feature.
//!
//! Every span and event has the target `snapgroup`. A span is at the level `INFO` and has the fields `run`, and once it has
//! ended `outcome` and, of an error, `code`. In it stand events: at `DEBUG` the progress of work that may take long (`work`, `done`
//! and `total` in bytes) and every record that a commit has changed (`what`, `uuid`, `how`), and one for the error that has
//! ended it: at `DEBUG` what was refused, at `ERROR` what is corrupt or has failed.

#[cfg(not(feature = "tracing"))]
pub(super) use absent::*;
#[cfg(feature = "tracing")]
pub(super) use present::*;

#[cfg(feature = "tracing")]
mod present {
    use super::super::error::{Error, Kind};
    use super::super::events::{BookChange, Work};
    use super::super::operation::Outcome;
    use crate::units::ByteCount;

    /// A span with a name that is known when this is compiled.
    macro_rules! span {
        ($name:literal, $run:expr) => {
            $crate::engine::spans::Span(::tracing::info_span!(
                target: "snapgroup",
                $name,
                run = %$run,
                outcome = ::tracing::field::Empty,
                code = ::tracing::field::Empty,
            ))
        };
    }
    pub(in super::super) use span;

    /// The span of one run of an operation.
    #[derive(Debug)]
    pub(in super::super) struct Span(pub(in super::super) tracing::Span);

    impl Span {
        pub(in super::super) fn within<T>(&self, work: impl FnOnce() -> T) -> T {
            self.0.in_scope(work)
        }

        /// Notes the error that ends it.
        pub(in super::super) fn failed(&self, error: &Error) {
            let whole = error.to_error_code();
            let cause = whole.cause.as_ref().and_then(|cause| cause.details.as_deref());
            self.0.in_scope(|| match error.kind() {
                Kind::Refused => tracing::debug!(target: "snapgroup", %error, cause, "refused"),
                Kind::Corrupt => tracing::error!(target: "snapgroup", %error, cause, "corrupt"),
                Kind::Failed => tracing::error!(target: "snapgroup", %error, cause, "failed"),
            });
        }

        /// Notes how it ended.
        pub(in super::super) fn ended(&self, outcome: Outcome) {
            let shown = match outcome {
                Outcome::Done => "done",
                Outcome::GivenUp => "given up",
                Outcome::Failed { kind: Kind::Refused, .. } => "refused",
                Outcome::Failed { kind: Kind::Corrupt, .. } => "corrupt",
                Outcome::Failed { kind: Kind::Failed, .. } => "failed",
            };
            self.0.record("outcome", shown);
            if let Outcome::Failed { code, .. } = outcome {
                self.0.record("code", code.as_str());
            }
        }
    }

    /// Whether somebody takes the events of changes and of progress.
    pub(in super::super) fn is_listened_to() -> bool {
        tracing::enabled!(target: "snapgroup", tracing::Level::DEBUG)
    }

    pub(in super::super) fn changed(change: &BookChange) {
        let BookChange { what, uuid, how } = change;
        tracing::debug!(target: "snapgroup", ?what, uuid = %uuid.simple(), ?how, "changed");
    }

    pub(in super::super) fn progress(work: Work, done: ByteCount, total: ByteCount) {
        let (done, total) = (done.as_u64(), total.as_u64());
        tracing::debug!(target: "snapgroup", ?work, done, total, "progress");
    }
}

#[cfg(not(feature = "tracing"))]
mod absent {
    use super::super::error::Error;
    use super::super::events::{BookChange, Work};
    use super::super::operation::Outcome;
    use crate::units::ByteCount;

    macro_rules! span {
        ($name:literal, $run:expr) => {{
            let _ = $run;
            $crate::engine::spans::Span
        }};
    }
    pub(in super::super) use span;

    #[derive(Debug)]
    pub(in super::super) struct Span;

    impl Span {
        pub(in super::super) fn within<T>(&self, work: impl FnOnce() -> T) -> T {
            work()
        }

        pub(in super::super) fn failed(&self, _: &Error) {}

        pub(in super::super) fn ended(&self, _: Outcome) {}
    }

    pub(in super::super) const fn is_listened_to() -> bool {
        false
    }

    pub(in super::super) const fn changed(_: &BookChange) {}

    pub(in super::super) const fn progress(_: Work, _: ByteCount, _: ByteCount) {}
}
