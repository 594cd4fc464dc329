//! Deleting snapshots: who refuses, what goes, what the books say afterwards.
//!
//! Deleting is bookkeeping alone. What becomes of the bytes is decided afterwards, layer by layer.

use super::books::{Books, Fresh};
use super::reclaim::Direction;
use super::refusal::Refusal;
use crate::catalog::{LayerId, LayerState, Running, SnapshotId, SnapshotRecord};
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// What happens when a member refuses to be deleted.
#[doc = include_str!("../engine/examples/how_to_delete.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeleteMode {
    /// Every member is checked first; when one refuses, nothing is deleted.
    #[default]
    Permissive,
    /// Refusals are overruled: every member leaves the books, and what its bytes still owe is listed.
    Enforcing,
}

impl DeleteMode {
    /// The mode as it is written in a request.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Permissive => "Permissive",
            Self::Enforcing => "Enforcing",
        }
    }
}

impl fmt::Display for DeleteMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DeleteMode {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        match text.trim() {
            "Permissive" => Ok(Self::Permissive),
            "Enforcing" => Ok(Self::Enforcing),
            other => Err(Refusal::BadValue {
                what: format!("delete mode {other:?}"),
                rule: "Permissive or Enforcing",
            }),
        }
    }
}

/// What goes with a snapshot.
#[doc = include_str!("../engine/examples/how_to_delete.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeleteScope {
    /// The snapshot alone; its children live on.
    #[default]
    Single,
    /// The snapshot and everything that descends from it. A disk that hangs from one of these keeps its data.
    Chain,
}

impl FromStr for DeleteScope {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        match text.trim() {
            "single" | "Single" | "auto" => Ok(Self::Single),
            "chain" | "Chain" => Ok(Self::Chain),
            other => Err(Refusal::BadValue { what: format!("scope {other:?}"), rule: "single or chain" }),
        }
    }
}

/// Whether a refusing member keeps the others.
#[doc = include_str!("../engine/examples/how_to_delete.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Members {
    /// All are deleted, or none.
    #[default]
    AllOrNone,
    /// The willing ones are deleted, the others stay.
    EachOnItsOwn,
}

/// How a deletion goes about it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    pub(crate) mode: DeleteMode,
    pub(crate) scope: DeleteScope,
    pub(crate) members: Members,
    pub(crate) direction: Direction,
}

/// One line of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Absent when it is gone already.
    pub(crate) snapshot: Option<SnapshotId>,
    pub(crate) snapshot_uuid: Uuid,
    /// Absent when nobody knows whose it was.
    pub(crate) volume_uuid: Option<Uuid>,
}

/// What becomes of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    AlreadyDeleted,
    Deleted,
    /// It, or something that goes with it, refuses.
    Refused(Cause),
    /// It would go, were it not for another one.
    Spared {
        because_of: Uuid,
    },
}

/// Why a snapshot refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Books(Refusal),
    /// Its file, as the caller has found.
    Disk(SnapshotId),
}

/// What a deletion comes to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    /// One for each target, in their order.
    pub(crate) outcomes: Vec<Outcome>,
    /// Everything that leaves the books.
    pub(crate) gone: Vec<SnapshotRecord>,
    /// The retired layers whose bytes are to be looked at, the uppermost first.
    pub(crate) retired: Vec<LayerId>,
}

/// Deletes the targets in the books, as far as nothing stands against it. `obstructed` are the snapshots whose files
/// cannot be relied on.
pub(crate) fn delete(
    books: &mut Books,
    targets: &[Target],
    manner: Manner,
    obstructed: &HashSet<SnapshotId>,
    fresh: &Fresh<'_>,
) -> Verdict {
    let refusals: Vec<Option<Cause>> = targets
        .iter()
        .map(|target| match (manner.mode, target.snapshot) {
            (DeleteMode::Permissive, Some(id)) => refusal(books, id, manner, obstructed),
            _ => None,
        })
        .collect();
    let first = targets.iter().zip(&refusals).find(|(_, refusal)| refusal.is_some());
    let because_of = first.map(|(target, _)| target.snapshot_uuid);
    let is_off = because_of.filter(|_| manner.members == Members::AllOrNone);

    let mut verdict = Verdict::default();
    for (target, refusal) in targets.iter().zip(refusals) {
        verdict.outcomes.push(match (target.snapshot, refusal, is_off) {
            (None, _, _) => Outcome::AlreadyDeleted,
            (Some(_), Some(cause), _) => Outcome::Refused(cause),
            (Some(_), None, Some(because_of)) => Outcome::Spared { because_of },
            (Some(id), None, None) => {
                verdict.gone.extend(take_out(books, id, manner.scope, fresh));
                Outcome::Deleted
            }
        });
    }
    verdict.retired = retired(books, verdict.gone.iter().map(|snapshot| snapshot.layer));
    verdict
}

/// What goes with a snapshot: itself, or itself and its descendants.
pub(crate) fn goes_with(books: &Books, id: SnapshotId, scope: DeleteScope) -> Vec<SnapshotId> {
    match scope {
        DeleteScope::Single => vec![id],
        DeleteScope::Chain => books.with_descendants(id),
    }
}

fn take_out(books: &mut Books, id: SnapshotId, scope: DeleteScope, fresh: &Fresh<'_>) -> Vec<SnapshotRecord> {
    let mut gone = Vec::new();
    // The descendants first: then a branch goes leaf by leaf, and no tree is split on the way.
    for id in goes_with(books, id, scope).into_iter().rev() {
        // It may have gone with another target.
        if let Some(snapshot) = books.snapshot(id).cloned() {
            books.delete_snapshot(id, fresh);
            gone.push(snapshot);
        }
    }
    gone
}

/// Why a snapshot, or what goes with it, refuses.
fn refusal(books: &Books, id: SnapshotId, manner: Manner, obstructed: &HashSet<SnapshotId>) -> Option<Cause> {
    goes_with(books, id, manner.scope).into_iter().find_map(|id| {
        let snapshot = books.snapshot(id)?;
        if let Err(refusal) = willing(books, snapshot, manner.direction) {
            return Some(Cause::Books(refusal));
        }
        obstructed.contains(&id).then_some(Cause::Disk(id))
    })
}

fn willing(books: &Books, snapshot: &SnapshotRecord, direction: Direction) -> Result<(), Refusal> {
    if !snapshot.holds.is_empty() {
        return Err(Refusal::Held { snapshot: snapshot.uuid, holds: snapshot.holds.clone() });
    }
    if books.clone_above(snapshot).is_some() {
        return Err(Refusal::Cloned { snapshot: snapshot.uuid });
    }
    if direction == Direction::Commit {
        let attachments = books.volume(snapshot.volume).map(|volume| volume.attachments.as_slice());
        for attachment in attachments.unwrap_or_default() {
            let machine = books.machine(attachment.machine);
            if let Some(machine) = machine.filter(|machine| machine.running == Running::Elsewhere) {
                let refused = "a commit would write below its head";
                return Err(Refusal::RunsElsewhere { uuid: machine.uuid, refused });
            }
        }
    }
    Ok(())
}

/// The retired layers among these and below them, down to the first one that is needed for itself. The uppermost
/// first: what is copied up goes past the retired ones below in one step, and not through each of them.
pub(crate) fn retired(books: &Books, tops: impl Iterator<Item = LayerId>) -> Vec<LayerId> {
    let mut met = BTreeSet::new();
    let mut found = Vec::new();
    for top in tops {
        let mut next = Some(top);
        while let Some(layer) = next.and_then(|id| books.layer(id)) {
            if layer.state != LayerState::Retired || !met.insert(layer.id) {
                break;
            }
            found.push(layer.id);
            next = layer.parent;
        }
    }
    found.sort_by_cached_key(|id| Reverse(books.depth(*id)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_scopes_are_read_as_they_are_written_and_nothing_else_is() {
        for (mode, text) in [(DeleteMode::Permissive, "Permissive"), (DeleteMode::Enforcing, "Enforcing")] {
            assert_eq!((mode.to_string().as_str(), format!(" {text}\n").parse()), (text, Ok(mode)));
        }
        for text in ["single", "Single", "auto"] {
            assert_eq!(text.parse(), Ok(DeleteScope::Single));
        }
        for text in ["chain", "Chain"] {
            assert_eq!(text.parse(), Ok(DeleteScope::Chain));
        }
        for text in ["", "permissive", "Permissive Enforcing", "both"] {
            assert!(matches!(text.parse::<DeleteMode>(), Err(Refusal::BadValue { .. })), "{text}");
            assert!(matches!(text.parse::<DeleteScope>(), Err(Refusal::BadValue { .. })), "{text}");
        }
    }
}
