//! A revert that is asked for again: what was kept tells what was done.

use super::error::Result;
use super::pool::{Pool, kind_of};
use super::revert::{Reversion, Reverted, What, line_of};
use super::uuid_arg::UuidArg;
use crate::catalog::{Entity, Reader, RefRecord};
use crate::inventory::RevertResult;
use crate::plan::refusal::Refusal;
use crate::units::ByteCount;
use uuid::Uuid;

impl Reversion {
    /// What a repeat with the same uuid has done before.
    pub(super) fn repeated(&self, pool: &Pool) -> Result<Option<Reverted>> {
        let Some(uuid) = self.resource_uuid()? else { return Ok(None) };
        let reader = pool.read()?;
        let Some(there) = reader.resolve(uuid)? else { return Ok(None) };
        let mut reverted = Reverted { repeated: true, ..Reverted::default() };
        let wish = match (&self.0, there) {
            (What::Group(request), Entity::Group(id)) => {
                let kept = reader.need_group(id)?;
                let members = reader.refs_of(id)?;
                reverted.kept_group = Some(pool.show_group(&reader, &kept, &members)?);
                reverted.results = lines_of_group(&reader, &request.uuid, &members)?;
                kept.wish
            }
            (What::Volume(request), Entity::Snapshot(id)) => {
                let kept = reader.need_snapshot(id)?;
                reverted.kept.push(pool.show_snapshot(&reader, &kept)?);
                let to = request.snapshot.parse()?;
                let after = reader.snapshot_by_uuid(to)?.map(|to| to.size_virtual);
                reverted.results.push(line_of_repeat(to, kept.volume_uuid, Some(kept.size_virtual), after));
                kept.wish
            }
            (_, other) => return Err(Refusal::UuidTaken { uuid, by: kind_of(other) }.into()),
        };
        if wish != self.mark()? {
            return Err(Refusal::OtherWish { uuid, by: kind_of(there) }.into());
        }
        Ok(Some(reverted))
    }
}

/// The lines of a revert to a group that kept the present state as these members.
fn lines_of_group(reader: &Reader, to: &UuidArg, kept: &[RefRecord]) -> Result<Vec<RevertResult>> {
    let Some(group) = reader.group_by_uuid(to.parse()?)? else { return Ok(Vec::new()) };
    let (mut lines, mut refused) = (Vec::new(), Vec::new());
    for member in reader.refs_of(group.id)? {
        let after = reader.snapshot(member.snapshot)?;
        match kept.iter().find(|kept| kept.volume == member.volume) {
            Some(kept) => {
                let before = reader.snapshot(kept.snapshot)?.map(|kept| kept.size_virtual);
                let after = after.map(|after| after.size_virtual);
                lines.push(line_of_repeat(member.snapshot_uuid, member.volume_uuid, before, after));
            }
            None if after.is_none() => {
                let error = Refusal::NotFound { what: "snapshot", uuid: member.snapshot_uuid };
                refused.push(line_of(&member, error.into()));
            }
            None => {
                let error = Refusal::NotAttached { uuid: member.volume_uuid };
                refused.push(line_of(&member, error.into()));
            }
        }
    }
    lines.extend(refused);
    Ok(lines)
}

/// The line of a disk that went back in an earlier call, with the change of its size when both are known.
fn line_of_repeat(
    snapshot: Uuid,
    volume: Uuid,
    before: Option<ByteCount>,
    after: Option<ByteCount>,
) -> RevertResult {
    let (before, after) = before.zip(after).unwrap_or_default();
    RevertResult::reverted(snapshot, volume, before, after)
}
