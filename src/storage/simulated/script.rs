//! Which call is counted, recorded and failed. Calls no store.

use super::super::{BlobName, Operation};
use crate::units::{ByteCount, HostOffset};
use std::collections::BTreeMap;
use std::io;

/// A call that will fail.
#[doc = include_str!("../examples/faults.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which call.
    pub at: At,
    /// How it fails.
    pub kind: FaultKind,
    /// That call only, or it and every later one that `at` counts.
    pub times: Times,
}

impl Fault {
    /// Fails one call.
    #[must_use]
    pub const fn once(at: At, kind: FaultKind) -> Self {
        Self { at, kind, times: Times::Once }
    }

    /// Fails a call and every later one that `at` counts.
    #[must_use]
    pub const fn for_ever(at: At, kind: FaultKind) -> Self {
        Self { at, kind, times: Times::ForEver }
    }
}

/// Which call a fault hits, counted from 1 and from the moment the fault is set. 0 hits none.
///
/// An example is at [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The n-th call of all.
    Call(u64),
    /// The n-th call of one operation.
    CallOf(Operation, u64),
}

/// How often a fault hits.
///
/// An example is at [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// The one call.
    Once,
    /// The call and every later one that is counted.
    ForEver,
}

/// How a call fails. But for [`FaultKind::ShortWrite`] and [`FaultKind::ShortRead`] the store below is not called.
///
/// Whatever the kind, a failed [`Operation::Sync`] or [`Operation::SyncNames`] is an
/// [`Error::SyncFailed`](super::super::Error::SyncFailed) and any other failed call an
/// [`Error::Io`](super::super::Error::Io).
///
/// An example is at [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// An error of this kind.
    Io(io::ErrorKind),
    /// An error of this number of the system.
    Os(i32),
    /// What a lost write looks like when it is synced: [`FaultKind::EIO`].
    SyncFailed,
    /// A write does this much of its work, at most all of it, otherwise up to the last multiple of eight bytes of the blob
    /// before, as every store promises ([B11](crate::storage)); and then finds the disk full. A call that is no write only
    /// fails.
    ShortWrite(ByteCount),
    /// A read fills this much of the buffer, at most all of it, and then finds the disk broken. A call that is no
    /// read only fails.
    ShortRead(ByteCount),
}

impl FaultKind {
    /// The disk is full.
    pub const ENOSPC: Self = Self::Os(28);
    /// The disk is broken.
    pub const EIO: Self = Self::Os(5);
    /// A signal came in between.
    pub const EINTR: Self = Self::Os(4);

    /// What the system says.
    pub(super) fn source(self) -> io::Error {
        match self {
            Self::Io(kind) => kind.into(),
            Self::Os(number) => io::Error::from_raw_os_error(number),
            Self::SyncFailed | Self::ShortRead(_) => Self::EIO.source(),
            Self::ShortWrite(_) => Self::ENOSPC.source(),
        }
    }
}

/// A call that was made.
///
/// An example is at [`Fault`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// The call.
    pub operation: Operation,
    /// The blob; `None` for a call on the store as a whole.
    pub name: Option<BlobName>,
    /// Where it began; zero for a call without a range.
    pub at: HostOffset,
    /// How much it was about, or the length that was set; zero for a call without one.
    pub length: ByteCount,
}

impl Call {
    /// A call on the store as a whole.
    pub(super) fn of_store(operation: Operation) -> Self {
        Self { operation, name: None, at: HostOffset::ZERO, length: ByteCount::ZERO }
    }

    /// A call on a blob or with its name.
    pub(super) fn of_blob(operation: Operation, name: &BlobName) -> Self {
        Self { name: Some(name.clone()), ..Self::of_store(operation) }
    }
}

/// How often each operation was called.
///
/// An example is at [`Fault`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    counts: BTreeMap<Operation, u64>,
}

impl Counts {
    /// The calls of one operation.
    #[must_use]
    pub fn of(&self, operation: Operation) -> u64 {
        self.counts.get(&operation).copied().unwrap_or(0)
    }

    /// The calls of all operations.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}

/// What was called so far, and what will fail.
#[derive(Debug, Default)]
pub(super) struct Script {
    counts: Counts,
    faults: Vec<Armed>,
    /// `None` when nothing is recorded.
    calls: Option<Vec<Call>>,
}

/// A fault, and how many of its calls were made.
#[derive(Debug)]
struct Armed {
    fault: Fault,
    seen: u64,
}

/// What a fault makes of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The call is not the one, or not yet.
    Pass,
    /// The call fails.
    Fail,
}

impl Script {
    /// Sets a fault.
    pub(super) fn fail(&mut self, fault: Fault) {
        self.faults.push(Armed { fault, seen: 0 });
    }

    /// Takes back every fault.
    pub(super) fn heal(&mut self) {
        self.faults.clear();
    }

    /// The counts so far.
    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Records from here on.
    pub(super) fn record(&mut self) {
        self.calls.get_or_insert_default();
    }

    /// The calls recorded so far; recording goes on.
    pub(super) fn take_calls(&mut self) -> Vec<Call> {
        self.calls.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Counts and records a call, and answers how it fails, if it does.
    pub(super) fn enter(&mut self, call: Call) -> Option<FaultKind> {
        let operation = call.operation;
        *self.counts.counts.entry(operation).or_insert(0) += 1;
        if let Some(calls) = &mut self.calls {
            calls.push(call);
        }
        // Every fault sees every call, also when an earlier one has decided: each counts on its own.
        let mut decided = None;
        self.faults.retain_mut(|armed| {
            let verdict = armed.judge(operation);
            if verdict == Verdict::Fail {
                decided.get_or_insert(armed.fault.kind);
            }
            verdict == Verdict::Pass || armed.fault.times == Times::ForEver
        });
        decided
    }
}

impl Armed {
    /// Counts a call and says whether it fails.
    fn judge(&mut self, operation: Operation) -> Verdict {
        let nth = match self.fault.at {
            At::Call(nth) => nth,
            At::CallOf(only, nth) if only == operation => nth,
            At::CallOf(..) => return Verdict::Pass,
        };
        self.seen += 1;
        let hit = match self.fault.times {
            Times::Once => self.seen == nth,
            Times::ForEver => nth > 0 && self.seen >= nth,
        };
        if hit { Verdict::Fail } else { Verdict::Pass }
    }
}
