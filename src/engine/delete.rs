//! Deleting snapshots and groups: a change of the books in one commit, then the bytes.

use super::error::{Error, Result};
use super::operation::Operation;
use super::pool::{Engine, Pool};
use super::reclaim::{Owed, Reclaimed};
use super::uuid_arg::UuidArg;
use crate::catalog::{GroupId, Reader, SnapshotId, SnapshotRecord, VolumeId};
use crate::inventory::{DeleteResult, ErrorCode};
use crate::plan::Plan;
use crate::plan::books::{Books, Fresh};
use crate::plan::delete::{
    Cause, DeleteMode, DeleteScope, Manner, Members, Outcome, Target, Verdict, delete, goes_with,
};
use crate::plan::reclaim::Direction;
use crate::plan::refusal::{Code, Refusal};
use crate::storage::Access;
use std::collections::{BTreeSet, HashMap, HashSet};
use uuid::Uuid;

/// When the bytes are dealt with that a deletion leaves.
#[doc = include_str!("examples/how_to_delete.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum When {
    /// Before the call returns.
    #[default]
    Now,
    /// By [`Engine::reclaim`], whenever that is called. The files of layers that nothing reads any more are removed
    /// then, too, or when the pool is opened the next time.
    Later,
}

/// The deletion of a group with its members.
///
/// ```
/// use snapgroup::{DeleteGroup, DeleteMode, Direction, When};
///
/// // Out of the books whoever refuses; what its bytes still owe is listed, and dealt with at night.
/// let wish = DeleteGroup {
///     mode: DeleteMode::Enforcing,
///     direction: Direction::Pull,
///     reclaim: When::Later,
///     ..DeleteGroup::new("4b13e23059033e2dbfac63b5b16eba11")
/// };
/// # assert_ne!(wish, DeleteGroup::as_the_api_does("4b13e23059033e2dbfac63b5b16eba11"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteGroup {
    /// The group.
    pub uuid: UuidArg,
    /// What happens when a member refuses.
    pub mode: DeleteMode,
    /// What goes with each member.
    pub scope: DeleteScope,
    /// Whether a refusing member keeps the others.
    pub members: Members,
    /// Which way bytes go.
    pub direction: Direction,
    /// When they go.
    pub reclaim: When,
}

impl DeleteGroup {
    /// A deletion with this crate's defaults: all or none, the members alone, bytes at once.
    #[must_use]
    pub fn new(uuid: impl Into<UuidArg>) -> Self {
        Self {
            uuid: uuid.into(),
            mode: DeleteMode::default(),
            scope: DeleteScope::default(),
            members: Members::default(),
            direction: Direction::default(),
            reclaim: When::default(),
        }
    }

    /// A deletion with the defaults of the API that this crate carries over: each member on its own, with
    /// everything that descends from it.
    #[must_use]
    pub fn as_the_api_does(uuid: impl Into<UuidArg>) -> Self {
        Self { scope: DeleteScope::Chain, members: Members::EachOnItsOwn, ..Self::new(uuid) }
    }
}

/// The deletion of snapshots, of one volume or of several. Those that no person asked for
/// ([`Among::AUTOMATIC`](super::Among::AUTOMATIC)) are kept and deleted as any others.
///
/// ```
/// use snapgroup::{DeleteScope, DeleteSnapshots, Uuid};
///
/// # let snapshot = Uuid::nil();
/// // The snapshot alone, which is the default; or with everything that descends from it.
/// let alone = DeleteSnapshots::one(snapshot);
/// let branch = DeleteSnapshots { scope: DeleteScope::Chain, ..alone };
/// let several = DeleteSnapshots::all([snapshot, Uuid::from_u128(7)]); // all of them, or none
/// assert_eq!(branch.scope, DeleteSnapshots::as_the_api_does([snapshot]).scope);
/// # drop(several);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteSnapshots {
    /// The snapshots.
    pub uuids: Vec<UuidArg>,
    /// What happens when one refuses.
    pub mode: DeleteMode,
    /// What goes with each.
    pub scope: DeleteScope,
    /// Whether a refusing one keeps the others.
    pub members: Members,
    /// Which way bytes go.
    pub direction: Direction,
    /// When they go.
    pub reclaim: When,
}

impl DeleteSnapshots {
    /// The deletion of one snapshot with this crate's defaults: it alone, bytes at once.
    #[must_use]
    pub fn one(uuid: impl Into<UuidArg>) -> Self {
        Self::all([uuid.into()])
    }

    /// The deletion of several with this crate's defaults: all or none, each alone, bytes at once.
    #[must_use]
    pub fn all<I>(uuids: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<UuidArg>,
    {
        Self {
            uuids: uuids.into_iter().map(Into::into).collect(),
            mode: DeleteMode::default(),
            scope: DeleteScope::default(),
            members: Members::default(),
            direction: Direction::default(),
            reclaim: When::default(),
        }
    }

    /// A deletion with the defaults of the API that this crate carries over: each on its own, with everything that
    /// descends from it.
    #[must_use]
    pub fn as_the_api_does<I>(uuids: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<UuidArg>,
    {
        Self { scope: DeleteScope::Chain, members: Members::EachOnItsOwn, ..Self::all(uuids) }
    }
}

/// What a deletion has come to.
#[doc = include_str!("examples/how_to_delete.md")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a member that refuses is said here, and in no error"]
pub struct Deleted {
    /// One line for every member, in the order of the group or of the request.
    pub results: Vec<DeleteResult>,
    /// The groups of which no member is left; they are gone, too.
    pub groups_removed: Vec<Uuid>,
    /// What was done with the bytes before the call returned.
    pub reclaimed: Reclaimed,
    /// What is still to be done with the bytes of the snapshots that are gone, and why it is not.
    pub owed: Vec<Owed>,
}

impl Deleted {
    /// Whether every line is a success.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.results.iter().all(|line| line.success)
    }
}

/// What shall be deleted: a group, or snapshots.
#[doc = include_str!("examples/deleting.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    what: What,
    mode: DeleteMode,
    scope: DeleteScope,
    members: Members,
    direction: Direction,
    pub(super) reclaim: When,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Group(UuidArg),
    Snapshots(Vec<UuidArg>),
}

impl From<&DeleteGroup> for Deletion {
    fn from(request: &DeleteGroup) -> Self {
        Self {
            what: What::Group(request.uuid.clone()),
            mode: request.mode,
            scope: request.scope,
            members: request.members,
            direction: request.direction,
            reclaim: request.reclaim,
        }
    }
}

impl From<&DeleteSnapshots> for Deletion {
    fn from(request: &DeleteSnapshots) -> Self {
        Self {
            what: What::Snapshots(request.uuids.clone()),
            mode: request.mode,
            scope: request.scope,
            members: request.members,
            direction: request.direction,
            reclaim: request.reclaim,
        }
    }
}

/// A deletion as it would be: the books afterwards, and what stands against it.
pub(super) struct Considered {
    pub(super) books: Books,
    pub(super) targets: Vec<Target>,
    /// What goes with each target, itself included.
    going: Vec<Vec<SnapshotId>>,
    pub(super) verdict: Verdict,
    pub(super) obstacles: HashMap<SnapshotId, ErrorCode>,
}

impl Engine {
    /// Deletes a group with its members, in one commit. Durable when it returns.
    ///
    /// The answer has one line for every member. When a member refuses (see [`DeleteMode`] and [`Members`]) that is
    /// in the lines, too, and not an error: a permissive deletion says no success exactly of what is still there. An
    /// enforcing one also says so of what is gone and whose bytes could not be dealt with. A group that is not there
    /// is a success without lines. Volumes that are detached, or deleted, make no difference.
    ///
    /// What refuses: a hold; a volume that was made on the snapshot; a file that is missing, not what the catalogue
    /// says, or written by another process, and, when its bytes are dealt with at once, one whose tables are broken;
    /// for [`Direction::Commit`] a machine that runs in another process. Work under way on its volume does not: a step of
    /// a reclaim, a copy for a full snapshot, a seal end first, and a [`Reclaim`](super::Reclaim) between two steps goes
    /// on with what is left.
    ///
    /// # Errors
    ///
    /// SYS.1007 for a malformed uuid; [`Error::Catalog`], [`Error::Storage`], [`Error::OutcomeUnknown`];
    /// [`Error::NotReclaimed`] when the deletion took place and a sync has failed after it.
    #[doc = include_str!("examples/deleting.md")]
    pub fn delete_group(&self, request: &DeleteGroup) -> Result<Deleted> {
        self.during(Operation::DeleteGroup, || self.delete_group_untold(request))
    }

    fn delete_group_untold(&self, request: &DeleteGroup) -> Result<Deleted> {
        self.delete(&request.into(), None)
    }

    /// Deletes snapshots, in one commit, as [`Engine::delete_group`] does. A snapshot that is not there is a
    /// success.
    ///
    /// # Errors
    ///
    /// As [`Engine::delete_group`]; SYS.1007 for an empty list.
    #[doc = include_str!("examples/snapshots.md")]
    pub fn delete_snapshots(&self, request: &DeleteSnapshots) -> Result<Deleted> {
        self.during(Operation::DeleteSnapshots, || self.delete_snapshots_untold(request))
    }

    fn delete_snapshots_untold(&self, request: &DeleteSnapshots) -> Result<Deleted> {
        self.delete(&request.into(), None)
    }

    /// Deletes; refuses when the catalogue is not at the generation `expected`.
    pub(super) fn delete(&self, request: &Deletion, expected: Option<u64>) -> Result<Deleted> {
        let pool = &self.pool;
        let (held, reader, snapshots) = pool.lock_found(|reader| request.find(reader))?;
        pool.admit_change()?;
        refuse_stale(&reader, expected)?;
        let considered = pool.consider(&reader, request, &snapshots)?;
        let edits = considered.books.edits();
        if !edits.is_empty() {
            pool.perform_at(&Plan { edits, ..Plan::default() }, expected)?;
        }
        drop(held);
        let mut deleted = Deleted {
            results: considered.lines(),
            groups_removed: considered.books.groups_removed().map(|group| group.uuid).collect(),
            ..Deleted::default()
        };
        if request.reclaim == When::Now && !considered.verdict.gone.is_empty() {
            let (reclaimed, owed) = self.reclaim_after(&considered.verdict.retired, request.direction)?;
            if request.mode == DeleteMode::Enforcing {
                considered.note_owed(&mut deleted.results, &owed);
            }
            (deleted.reclaimed, deleted.owed) = (reclaimed, owed);
        }
        Ok(deleted)
    }
}

impl Deletion {
    /// The way bytes go.
    pub(super) fn direction(&self) -> Direction {
        self.direction
    }

    /// The lines of the request, with what must be locked for them.
    pub(super) fn find(&self, reader: &Reader) -> Result<(Vec<super::locks::Key>, Vec<Target>)> {
        let targets = match &self.what {
            What::Group(uuid) => match reader.group_by_uuid(uuid.parse()?)? {
                None => Vec::new(),
                Some(group) => reader
                    .refs_of(group.id)?
                    .into_iter()
                    .map(|member| Target {
                        snapshot: (!member.snapshot_deleted).then_some(member.snapshot),
                        snapshot_uuid: member.snapshot_uuid,
                        volume_uuid: Some(member.volume_uuid),
                    })
                    .collect(),
            },
            What::Snapshots(uuids) if uuids.is_empty() => {
                return Err(Refusal::Empty { field: "list of snapshots" }.into());
            }
            What::Snapshots(uuids) => {
                let mut targets: Vec<Target> = Vec::new();
                for uuid in uuids {
                    let target = target(reader, uuid.parse()?)?;
                    if !targets.contains(&target) {
                        targets.push(target);
                    }
                }
                targets
            }
        };
        let (volumes, groups) = self.concerned(reader, &targets)?;
        Ok((Pool::keys_around(reader, volumes, groups)?, targets))
    }

    /// The volumes and the groups of everything that would go.
    fn concerned(&self, reader: &Reader, targets: &[Target]) -> Result<(Vec<VolumeId>, Vec<GroupId>)> {
        let (mut volumes, mut groups) = (BTreeSet::new(), BTreeSet::new());
        let mut met: HashSet<SnapshotId> = HashSet::new();
        let mut open: Vec<SnapshotId> = targets.iter().filter_map(|target| target.snapshot).collect();
        while let Some(id) = open.pop() {
            if !met.insert(id) {
                continue;
            }
            let snapshot = reader.need_snapshot(id)?;
            volumes.insert(snapshot.volume);
            groups.extend(snapshot.group);
            if self.scope == DeleteScope::Chain {
                for child in reader.children_of_snapshot(id)? {
                    open.push(child?.id);
                }
            }
        }
        Ok((volumes.into_iter().collect(), groups.into_iter().collect()))
    }
}

/// Refuses when the catalogue is not at the generation `expected`.
pub(super) fn refuse_stale(reader: &Reader, expected: Option<u64>) -> Result<()> {
    let now = reader.generation();
    match expected {
        Some(planned) if planned != now => Err(Refusal::Stale { planned, now }.into()),
        _ => Ok(()),
    }
}

/// The line of one snapshot.
fn target(reader: &Reader, uuid: Uuid) -> Result<Target> {
    if let Some(snapshot) = reader.snapshot_by_uuid(uuid)? {
        let volume_uuid = Some(snapshot.volume_uuid);
        return Ok(Target { snapshot: Some(snapshot.id), snapshot_uuid: uuid, volume_uuid });
    }
    // Its group may remember whose it was.
    let member = reader.refs_of_gone_snapshot(uuid)?.into_iter().next();
    Ok(Target { snapshot: None, snapshot_uuid: uuid, volume_uuid: member.map(|member| member.volume_uuid) })
}

impl Pool {
    /// Works a deletion out, and changes nothing. The caller holds the locks that [`Deletion::find`] names.
    pub(super) fn consider(
        &self,
        reader: &Reader,
        request: &Deletion,
        targets: &[Target],
    ) -> Result<Considered> {
        self.consider_with(reader, request, targets, &[])
    }

    /// As [`Pool::consider`], with more volumes in the books.
    pub(super) fn consider_with(
        &self,
        reader: &Reader,
        request: &Deletion,
        targets: &[Target],
        also: &[VolumeId],
    ) -> Result<Considered> {
        let (mut volumes, groups) = request.concerned(reader, targets)?;
        volumes.extend(also);
        volumes.sort_unstable();
        volumes.dedup();
        let mut books = Books::open(reader.holdings(&volumes, &groups)?);
        let prepared = self.prepared_volumes(reader, &volumes)?;
        let mut obstacles = HashMap::new();
        let mut going = Vec::with_capacity(targets.len());
        for target in targets {
            let with = target.snapshot.map(|id| goes_with(&books, id, request.scope)).unwrap_or_default();
            for id in &with {
                let Some(snapshot) = books.snapshot(*id) else { continue };
                let ready = match prepared.get(&snapshot.volume) {
                    Some(refusal) => Err(refusal.clone().into()),
                    None => self.check_snapshot_file(reader, snapshot, request.reclaim),
                };
                if let Err(error) = ready {
                    obstacles.insert(*id, error.to_error_code());
                }
            }
            going.push(with);
        }
        let manner = Manner {
            mode: request.mode,
            scope: request.scope,
            members: request.members,
            direction: request.direction,
        };
        let ids = self.catalog.ids();
        let mint = || self.source.mint();
        let fresh = Fresh { ids: &ids, mint: &mint, at: self.source.now() };
        let obstructed: HashSet<SnapshotId> = obstacles.keys().copied().collect();
        let verdict = delete(&mut books, targets, manner, &obstructed, &fresh);
        Ok(Considered { books, targets: targets.to_vec(), going, verdict, obstacles })
    }

    /// Refuses unless the file of a snapshot is there, is what the catalogue says, and is written by nobody. When its
    /// bytes are dealt with at once, its tables must be sound, too.
    fn check_snapshot_file(&self, reader: &Reader, snapshot: &SnapshotRecord, reclaim: When) -> Result<()> {
        let record = reader.need_layer(snapshot.layer)?;
        let below = record.parent.map(|parent| reader.need_layer(parent)).transpose()?;
        let layer = self.open_layer_anew(snapshot.volume_uuid, &record, below.as_ref(), Access::Read)?;
        if reclaim == When::Now {
            layer.extents().map_err(|source| self.unusable(&record, source))?;
        }
        Ok(())
    }
}

impl Considered {
    /// The lines of the answer.
    pub(super) fn lines(&self) -> Vec<DeleteResult> {
        let lines = self.targets.iter().zip(&self.going).zip(&self.verdict.outcomes);
        lines.map(|((target, going), outcome)| self.line(target, going, outcome)).collect()
    }

    fn line(&self, target: &Target, going: &[SnapshotId], outcome: &Outcome) -> DeleteResult {
        let (snapshot, volume) = (target.snapshot_uuid, target.volume_uuid);
        match outcome {
            Outcome::AlreadyDeleted => DeleteResult::already_deleted(snapshot, volume),
            Outcome::Deleted => {
                // It has left the books. What its file is like, or that of one that went with it, is said all the same.
                let obstacle = going.iter().find_map(|id| self.obstacles.get(id));
                DeleteResult::new(snapshot, volume, obstacle.cloned().map(not_deleted).map_or(Ok(()), Err))
            }
            Outcome::Refused(cause) => {
                let cause = match cause {
                    Cause::Books(refusal) => Error::from(refusal.clone()).to_error_code(),
                    Cause::Disk(id) => self.obstacles[id].clone(),
                };
                DeleteResult::new(snapshot, volume, Err(not_deleted(cause)))
            }
            Outcome::Spared { because_of } => {
                let cause = Refusal::Spared { snapshot, because_of: *because_of };
                DeleteResult::new(snapshot, volume, Err(not_deleted(Error::from(cause).to_error_code())))
            }
        }
    }

    /// Says in the lines of snapshots that are gone what could not be done with their bytes, or with those of what
    /// went with them.
    pub(super) fn note_owed(&self, lines: &mut [DeleteResult], owed: &[Owed]) {
        for (line, going) in lines.iter_mut().zip(&self.going).filter(|(line, _)| line.success) {
            let gone = self.verdict.gone.iter().filter(|snapshot| going.contains(&snapshot.id));
            let failed = gone.filter_map(|snapshot| self.books.layer(snapshot.layer)).find_map(|layer| {
                owed.iter().find(|owed| owed.file == layer.blob.as_str()).and_then(|owed| owed.error.clone())
            });
            if let Some(error) = failed {
                (line.success, line.error) = (false, Some(not_deleted(error)));
            }
        }
    }
}

/// SYS.1004 with what led to it inside.
fn not_deleted(cause: ErrorCode) -> ErrorCode {
    let code = Code::DeleteResource;
    let details = cause.details.clone().unwrap_or_else(|| cause.description.clone());
    ErrorCode::new(code.as_str(), code.description()).with_details(details).with_cause(cause)
}
