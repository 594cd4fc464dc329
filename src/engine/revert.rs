//! Going back to a snapshot or to a group: new overlays on old layers, all disks in one commit.

use super::delete::{When, refuse_stale};
use super::error::{Error, Result};
use super::generation::Generation;
use super::handles::Volume;
use super::locks::Key;
use super::operation::Operation;
use super::plans::Foretold;
use super::pool::{Engine, Pool};
use super::reclaim::{Figures, Owed, Reclaimed};
use super::uuid_arg::{UuidArg, parse_optional};
use crate::catalog::{
    GroupId, GroupRecord, LayerId, MachineId, Reader, RefRecord, Running, SnapshotRecord, VolumeId,
    VolumeRecord, WishMark,
};
use crate::inventory::{Date, GroupInventory, RevertResult, SnapshotInventory};
use crate::plan::books::{Books, Fresh};
use crate::plan::delete::retired;
use crate::plan::quota::Amount;
use crate::plan::reclaim::Direction;
use crate::plan::refusal::Refusal;
use crate::plan::revert::{Keep, Member, revert};
use crate::plan::{Plan, text};
use crate::storage::{Access, Store};
use crate::units::ByteCount;
use uuid::Uuid;

/// What becomes of the disks that a group cannot bring back.
#[doc = include_str!("examples/reverting.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Match {
    /// The group must be available: it has every disk that the machine has, and the machine every disk of it.
    #[default]
    Strict,
    /// The disks go back that the machine has and whose snapshots are there; the others stay as they are.
    Matching,
}

/// What becomes of the present state of what goes back.
#[doc = include_str!("examples/reverting.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Present {
    /// It is given up: what was written since the last snapshot is gone.
    #[default]
    GivenUp,
    /// It is kept first, and the revert can be undone.
    Kept,
}

/// A machine that goes back to a group.
#[doc = include_str!("examples/reverting.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevertGroup {
    /// The group.
    pub uuid: UuidArg,
    /// What becomes of the disks that it cannot bring back.
    pub disks: Match,
    /// What becomes of the present state. It is kept as a group, `revert-vm-point-<machine>-<moment>`: going back to that
    /// one undoes the revert.
    pub present: Present,
    /// The uuid of that group; a fresh one when absent. The same uuid with the same wish answers the group that is
    /// there, and nothing goes back again. Only where something is kept.
    pub resource_uuid: Option<UuidArg>,
    /// When the files of the old heads are removed.
    pub reclaim: When,
}

impl RevertGroup {
    /// A revert of all disks or none that keeps nothing of the present state.
    #[must_use]
    pub fn new(group: impl Into<UuidArg>) -> Self {
        Self {
            uuid: group.into(),
            disks: Match::default(),
            present: Present::default(),
            resource_uuid: None,
            reclaim: When::default(),
        }
    }

    /// The same revert, with the present state kept as a group.
    #[must_use]
    pub fn keeping(self) -> Self {
        Self { present: Present::Kept, ..self }
    }
}

/// A volume that goes back to a snapshot.
#[doc = include_str!("examples/reverting.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevertVolume {
    /// The snapshot.
    pub snapshot: UuidArg,
    /// What becomes of the present state. It is kept as a snapshot, `revert-volume-point-<volume>-<moment>`.
    pub present: Present,
    /// The uuid of that snapshot; a fresh one when absent. The same uuid with the same wish answers the snapshot that
    /// is there, and nothing goes back again. Only where something is kept.
    pub resource_uuid: Option<UuidArg>,
    /// When the file of the old head is removed.
    pub reclaim: When,
}

impl RevertVolume {
    /// A revert that keeps nothing of the present state.
    #[must_use]
    pub fn to(snapshot: impl Into<UuidArg>) -> Self {
        Self {
            snapshot: snapshot.into(),
            present: Present::default(),
            resource_uuid: None,
            reclaim: When::default(),
        }
    }

    /// The same revert, with the present state kept as a snapshot.
    #[must_use]
    pub fn keeping(self) -> Self {
        Self { present: Present::Kept, ..self }
    }
}

/// What a revert has come to. It may be ignored: one that is asked for all disks takes all of them back, or is an error.
#[doc = include_str!("examples/reverting.md")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reverted {
    /// One line for every disk, with the change of its virtual size if there is one. When an earlier call had done it
    /// ([`Reverted::repeated`]) these are its lines, as far as the books still know: the disks that went back are those
    /// that were kept; of one whose target was deleted since, the change of size is not told, and of one that did not
    /// go back the reason is that of now. No lines when the group is gone since.
    pub results: Vec<RevertResult>,
    /// The group that the present state was kept as.
    pub kept_group: Option<GroupInventory>,
    /// The snapshots that the present state was kept as.
    pub kept: Vec<SnapshotInventory>,
    /// What was done with the bytes of the old heads before the call returned.
    pub reclaimed: Reclaimed,
    /// What is still to be done with them.
    pub owed: Vec<Owed>,
    /// Whether an earlier call with the same uuid had done it.
    pub repeated: bool,
}

/// What shall go back: a machine to a group, or a volume to a snapshot.
#[doc = include_str!("examples/reverting.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reversion(pub(super) What);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Group(RevertGroup),
    Volume(RevertVolume),
}

impl From<&RevertGroup> for Reversion {
    fn from(request: &RevertGroup) -> Self {
        Self(What::Group(request.clone()))
    }
}

impl From<&RevertVolume> for Reversion {
    fn from(request: &RevertVolume) -> Self {
        Self(What::Volume(request.clone()))
    }
}

/// The records that a revert is about, read under its locks.
struct Wanted {
    group: Option<(GroupRecord, Vec<RefRecord>)>,
    disks: Vec<(VolumeRecord, SnapshotRecord)>,
    refused: Vec<RevertResult>,
}

impl Engine {
    /// Brings the disks of a machine back to a group, all of them in one commit. Each gets a new empty overlay on
    /// its member's layer; snapshots that were taken since stay, as a branch; the virtual sizes go back, too. No
    /// disk may be open in this process. Durable when it returns.
    ///
    /// # Errors
    ///
    /// SYS.1003 when there is no such group; SYS.1006 when it is not available, with every reason
    /// ([`Engine::check_availability`]), when the machine runs in another process, when a disk is open, and when a
    /// file is missing, not what the catalogue says, or written by another process; SYS.1002 for a uuid that is
    /// taken, SYS.1007 for one where nothing is kept; ID.1003 for the quota. Nothing has changed then.
    #[doc = include_str!("examples/reverting.md")]
    pub fn revert_group(&self, request: &RevertGroup) -> Result<Reverted> {
        self.during(Operation::RevertGroup, || self.revert_group_untold(request))
    }

    fn revert_group_untold(&self, request: &RevertGroup) -> Result<Reverted> {
        self.go_back(&request.into(), None)
    }

    /// Brings one volume back to a snapshot, as [`Engine::revert_group`] does.
    ///
    /// # Errors
    ///
    /// As [`Engine::revert_group`]; SYS.1006 when the volume of the snapshot is gone.
    #[doc = include_str!("examples/reverting.md")]
    pub fn revert_volume(&self, request: &RevertVolume) -> Result<Reverted> {
        self.during(Operation::RevertVolume, || self.revert_volume_untold(request))
    }

    fn revert_volume_untold(&self, request: &RevertVolume) -> Result<Reverted> {
        self.go_back(&request.into(), None)
    }

    /// Goes back; refuses when the catalogue is not at the generation `expected`.
    pub(super) fn go_back(&self, request: &Reversion, expected: Option<u64>) -> Result<Reverted> {
        let pool = &self.pool;
        if let Some(there) = request.repeated(pool)? {
            return Ok(there);
        }
        let (held, reader, wanted) = pool.lock_found(|reader| request.find(pool, reader))?;
        pool.admit_change()?;
        refuse_stale(&reader, expected)?;
        let (plan, outcome) = pool.consider_revert(&reader, request, wanted)?;
        pool.perform_at(&plan, expected)?;
        drop(held);
        let reader = pool.read()?;
        let mut reverted = Reverted { results: outcome.results, ..Reverted::default() };
        if let Some(group) = &outcome.kept_group {
            reverted.kept_group = Some(pool.show_group(&reader, group, &reader.refs_of(group.id)?)?);
        }
        for snapshot in &outcome.kept {
            reverted.kept.push(pool.show_snapshot(&reader, snapshot)?);
        }
        if request.reclaim() == When::Now {
            (reverted.reclaimed, reverted.owed) = self.reclaim_after(&outcome.retired, Direction::Auto)?;
        }
        Ok(reverted)
    }

    /// What a revert would do.
    pub(super) fn foretell_revert(
        &self,
        request: &Reversion,
    ) -> Result<Foretold<(Vec<RevertResult>, Figures)>> {
        let pool = &self.pool;
        let (_held, reader, wanted) = pool.lock_found(|reader| request.find(pool, reader))?;
        let (plan, outcome) = pool.consider_revert(&reader, request, wanted)?;
        let mut figures = pool.foretell(&reader, &outcome.books, &outcome.retired, Direction::Auto)?;
        figures.files_made = plan.files.len();
        for file in &plan.files {
            let volume = file.layer.volume;
            let Some(before) = reader.volume(volume)? else { continue };
            if figures.chains.iter().any(|change| change.volume_uuid == before.uuid) {
                // What becomes of the layers below is told with it.
                continue;
            }
            let after = file.layer.parent.map_or(Ok(Vec::new()), |parent| reader.chain(parent))?.len() + 1;
            figures.chains.push(super::ChainChange {
                volume_uuid: before.uuid,
                before: reader.chain(before.head)?.len(),
                after,
            });
        }
        Ok(Foretold { generation: Generation(reader.generation()), answer: (outcome.results, figures) })
    }
}

/// What a revert comes to.
struct Outcome {
    results: Vec<RevertResult>,
    kept_group: Option<GroupRecord>,
    kept: Vec<SnapshotRecord>,
    retired: Vec<LayerId>,
    books: Books,
}

impl Reversion {
    fn present(&self) -> Present {
        match &self.0 {
            What::Group(request) => request.present,
            What::Volume(request) => request.present,
        }
    }

    fn reclaim(&self) -> When {
        match &self.0 {
            What::Group(request) => request.reclaim,
            What::Volume(request) => request.reclaim,
        }
    }

    pub(super) fn resource_uuid(&self) -> Result<Option<Uuid>> {
        let uuid = match &self.0 {
            What::Group(request) => &request.resource_uuid,
            What::Volume(request) => &request.resource_uuid,
        };
        let uuid = parse_optional(uuid.as_ref())?;
        if uuid.is_some() && self.present() == Present::GivenUp {
            let what = "a resource uuid of a revert".to_owned();
            return Err(Refusal::BadValue { what, rule: "the present state must be kept" }.into());
        }
        Ok(uuid)
    }

    /// The check value of the wish, which what is kept carries.
    pub(super) fn mark(&self) -> Result<WishMark> {
        let (of, disks) = match &self.0 {
            What::Group(request) => (&request.uuid, format!("{:?}", request.disks)),
            What::Volume(request) => (&request.snapshot, String::new()),
        };
        Ok(text::wish_mark(&["revert", &of.parse()?.simple().to_string(), &disks]))
    }

    /// What goes back, and what must be locked for it.
    fn find(&self, pool: &Pool, reader: &Reader) -> Result<(Vec<Key>, Wanted)> {
        self.resource_uuid()?;
        match &self.0 {
            What::Group(request) => {
                let group = pool.group(reader, request.uuid.parse()?)?;
                let refs = reader.refs_of(group.id)?;
                let attached = reader.volumes_of(group.machine)?.into_vec()?;
                let volumes = attached.iter().map(|volume| volume.id);
                let keys = Pool::keys_around(reader, volumes, [group.id])?;
                let (disks, refused) = matching(reader, &refs, &attached)?;
                Ok((keys, Wanted { group: Some((group, refs)), disks, refused }))
            }
            What::Volume(request) => {
                let uuid = request.snapshot.parse()?;
                let found = reader.snapshot_by_uuid(uuid)?;
                let snapshot = found.ok_or(Refusal::NotFound { what: "snapshot", uuid })?;
                let gone = Refusal::VolumeGone { snapshot: uuid, volume: snapshot.volume_uuid };
                let volume = reader.volume(snapshot.volume)?.ok_or(gone)?;
                let keys = Pool::keys_around(reader, [volume.id], snapshot.group)?;
                Ok((keys, Wanted { group: None, disks: vec![(volume, snapshot)], refused: Vec::new() }))
            }
        }
    }
}

/// The disks that can go back, and a line for each that cannot.
#[expect(clippy::type_complexity, reason = "two lists of what belongs together")]
fn matching(
    reader: &Reader,
    refs: &[RefRecord],
    attached: &[VolumeRecord],
) -> Result<(Vec<(VolumeRecord, SnapshotRecord)>, Vec<RevertResult>)> {
    let (mut disks, mut refused) = (Vec::new(), Vec::new());
    for member in refs {
        let volume = attached.iter().find(|volume| volume.id == member.volume);
        let snapshot = reader.snapshot(member.snapshot)?;
        match (volume, snapshot) {
            (Some(volume), Some(snapshot)) => disks.push((volume.clone(), snapshot)),
            (_, None) => {
                let error = Refusal::NotFound { what: "snapshot", uuid: member.snapshot_uuid };
                refused.push(line_of(member, error.into()));
            }
            (None, _) => {
                let error = Refusal::NotAttached { uuid: member.volume_uuid };
                refused.push(line_of(member, error.into()));
            }
        }
    }
    Ok((disks, refused))
}

pub(super) fn line_of(member: &RefRecord, error: Error) -> RevertResult {
    RevertResult::refused(member.snapshot_uuid, member.volume_uuid, error.to_error_code())
}

impl Pool {
    /// Works a revert out, and changes nothing.
    fn consider_revert(
        self: &std::sync::Arc<Self>,
        reader: &Reader,
        request: &Reversion,
        wanted: Wanted,
    ) -> Result<(Plan, Outcome)> {
        if let (What::Group(request), Some((group, _))) = (&request.0, &wanted.group) {
            let availability = self.availability(reader, group)?;
            if request.disks == Match::Strict && !availability.available {
                return Err(Refusal::NotAvailable { group: group.uuid, reasons: availability.reason }.into());
            }
            if wanted.disks.is_empty() {
                return Err(Refusal::NoDisks { uuid: group.machine_uuid }.into());
            }
        }
        let mut members = Vec::with_capacity(wanted.disks.len());
        for (volume, target) in &wanted.disks {
            members.push(self.ready_to_go_back(reader, volume, target)?);
        }
        if request.present() == Present::Kept {
            for (volume, _) in &wanted.disks {
                // What a crash has left to be done to the head is done, and it is there and what the books say.
                Volume::open(self, volume)?.check_head(&reader.chain(volume.head)?)?;
            }
            let amounts = members.iter().map(|member| Amount { snapshots: 1, bytes: member.head_allocated });
            self.check_quota(reader, amounts.sum())?;
        }
        let at = self.source.now();
        let keep = self.keep_of(reader, request, &wanted, Date::from(at))?;
        if let (What::Volume(_), Some(uuid)) = (&request.0, request.resource_uuid()?) {
            members.iter_mut().for_each(|member| member.minted.snapshot = uuid);
        }
        let volumes: Vec<VolumeId> = wanted.disks.iter().map(|(volume, _)| volume.id).collect();
        let groups: Vec<GroupId> = wanted.group.iter().map(|(group, _)| group.id).collect();
        let mut books = Books::open(reader.holdings(&volumes, &groups)?);
        let ids = self.catalog.ids();
        let mint = || self.source.mint();
        let fresh = Fresh { ids: &ids, mint: &mint, at };
        let current: Option<(MachineId, GroupId)> =
            wanted.group.as_ref().map(|(group, _)| (group.machine, group.id));
        let heads = wanted.disks.iter().map(|(volume, _)| volume.head);
        let below: Vec<LayerId> = heads
            .map(|head| Ok(reader.need_layer(head)?.parent))
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect();
        let (files, kept_group, kept) =
            revert(&mut books, &members, keep.as_ref(), current, self.options.cluster_bits, &fresh);
        let mut results: Vec<RevertResult> = wanted
            .disks
            .iter()
            .map(|(volume, target)| {
                RevertResult::reverted(target.uuid, volume.uuid, volume.size, target.size_virtual)
            })
            .collect();
        results.extend(wanted.refused);
        let plan = Plan { files, edits: books.edits() };
        let retired = retired(&books, below.into_iter());
        Ok((plan, Outcome { results, kept_group, kept, retired, books }))
    }

    /// Refuses a disk that cannot go back now.
    fn ready_to_go_back(
        &self,
        reader: &Reader,
        volume: &VolumeRecord,
        target: &SnapshotRecord,
    ) -> Result<Member> {
        for attachment in &volume.attachments {
            let machine = reader.need_machine(attachment.machine)?;
            if machine.running == Running::Elsewhere {
                let refused = "its disks cannot go back";
                return Err(Refusal::RunsElsewhere { uuid: machine.uuid, refused }.into());
            }
        }
        if self.open_volumes.has(volume.id) {
            return Err(Refusal::VolumeOpen { uuid: volume.uuid }.into());
        }
        let chain = reader.chain(target.layer)?;
        self.open_chain(volume.uuid, &chain, Access::Read)?;
        let head = reader.need_layer(volume.head)?;
        let head_allocated = match self.store().open(&head.blob, Access::Read) {
            Ok(blob) => match blob.writer_elsewhere()? {
                Some(holder) => {
                    let blob = head.blob.to_string();
                    return Err(Error::HeadInUse { volume: volume.uuid, blob, holder });
                }
                None => blob.allocated()?,
            },
            // A head that is lost is one more reason to go back.
            Err(_) => ByteCount::ZERO,
        };
        Ok(Member {
            volume: volume.id,
            target: target.clone(),
            layer: chain.into_iter().next().expect("a chain has a layer"),
            minted: self.mint_member(),
            head_allocated,
        })
    }

    /// What the present state is kept as.
    fn keep_of(
        &self,
        reader: &Reader,
        request: &Reversion,
        wanted: &Wanted,
        at: Date,
    ) -> Result<Option<Keep>> {
        if request.present() == Present::GivenUp {
            return Ok(None);
        }
        let wish = request.mark()?;
        let Some((group, _)) = &wanted.group else {
            let (volume, _) = &wanted.disks[0];
            let name = format!("revert-volume-point-{}-{}", volume.uuid.simple(), at.digits());
            return Ok(Some(Keep { name, wish, group: None, left_out: Vec::new() }));
        };
        let uuid = request.resource_uuid()?.unwrap_or_else(|| self.source.mint());
        let name = format!("revert-vm-point-{}-{}", group.machine_uuid.simple(), at.digits());
        let mut left_out = Vec::new();
        for volume in reader.volumes_of(group.machine)? {
            let volume = volume?;
            if !wanted.disks.iter().any(|(member, _)| member.id == volume.id) {
                left_out.push(volume.uuid);
            }
        }
        Ok(Some(Keep { name, wish, group: Some((uuid, group.machine)), left_out }))
    }
}
