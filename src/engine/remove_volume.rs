//! Deleting a volume with all its snapshots.

use super::delete::{Considered, DeleteSnapshots, Deleted, Deletion, When};
use super::error::{Error, Result};
use super::operation::Operation;
use super::pool::{Engine, Pool};
use super::uuid_arg::UuidArg;
use super::volume::holders;
use crate::catalog::{LayerId, Running};
use crate::plan::Plan;
use crate::plan::delete::{DeleteMode, Outcome, retired};
use crate::plan::reclaim::Direction;
use crate::plan::refusal::Refusal;
use crate::storage::{Access, Store};

/// The deletion of a volume with all its snapshots.
#[doc = include_str!("examples/volumes.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteVolume {
    /// The volume.
    pub uuid: UuidArg,
    /// What happens when a snapshot of it refuses.
    pub mode: DeleteMode,
    /// When the bytes are dealt with.
    pub reclaim: When,
}

impl DeleteVolume {
    /// A deletion that a snapshot can refuse, bytes at once.
    #[must_use]
    pub fn new(uuid: impl Into<UuidArg>) -> Self {
        Self { uuid: uuid.into(), mode: DeleteMode::default(), reclaim: When::default() }
    }
}

impl Engine {
    /// Deletes a volume, attached or not, with all its snapshots, in one commit; its groups say that these members
    /// are gone. One line for each snapshot; when one refuses, nothing is deleted and the volume stays
    /// ([`Deleted::is_success`]). With [`DeleteMode::Enforcing`] clones of it go on reading what they need, and a line
    /// also says so of a snapshot that is gone and whose bytes could not be dealt with. A volume that is not there is a
    /// success without lines. Durable when it returns.
    ///
    /// # Errors
    ///
    /// SYS.1007 for a malformed uuid; SYS.1006 when the volume is open, when its machine runs in another process, or
    /// when another process writes to its head.
    #[doc = include_str!("examples/volumes.md")]
    pub fn delete_volume(&self, request: &DeleteVolume) -> Result<Deleted> {
        self.during(Operation::DeleteVolume, || self.delete_volume_untold(request))
    }

    fn delete_volume_untold(&self, request: &DeleteVolume) -> Result<Deleted> {
        let pool = &self.pool;
        let uuid = request.uuid.parse()?;
        let (held, reader, found) = pool.lock_found(|reader| {
            let Some(volume) = reader.volume_by_uuid(uuid)? else { return Ok((Vec::new(), None)) };
            let snapshots = reader.snapshots_of(volume.id)?.into_vec()?;
            let groups: Vec<_> = snapshots.iter().filter_map(|snapshot| snapshot.group).collect();
            Ok((Pool::keys_around(reader, [volume.id], groups)?, Some((volume, snapshots))))
        })?;
        let Some((volume, snapshots)) = found else { return Ok(Deleted::default()) };
        pool.admit_change()?;
        for machine in holders(&reader, &volume)? {
            if machine.running == Running::Elsewhere {
                let refused = "its disks cannot be deleted";
                return Err(Refusal::RunsElsewhere { uuid: machine.uuid, refused }.into());
            }
        }
        if pool.open_volumes.has(volume.id) {
            return Err(Refusal::VolumeOpen { uuid }.into());
        }
        let head = reader.need_layer(volume.head)?;
        if let Ok(blob) = pool.store().open(&head.blob, Access::Read)
            && let Some(holder) = blob.writer_elsewhere()?
        {
            return Err(Error::HeadInUse { volume: uuid, blob: head.blob.to_string(), holder });
        }
        // A layer that stays is made anew from its record and from that of its volume.
        let others = reader.layers_of(volume.id)?.into_vec()?.into_iter().filter(|layer| layer.id != head.id);
        pool.settle_files(&others.collect::<Vec<_>>())?;
        let all = DeleteSnapshots::all(snapshots.iter().map(|snapshot| snapshot.uuid));
        let wish = DeleteSnapshots { mode: request.mode, reclaim: request.reclaim, ..all };
        let deletion = Deletion::from(&wish);
        let targets = if snapshots.is_empty() { Vec::new() } else { deletion.find(&reader)?.1 };
        let mut considered: Considered = pool.consider_with(&reader, &deletion, &targets, &[volume.id])?;
        let mut deleted = Deleted { results: considered.lines(), ..Deleted::default() };
        if considered.verdict.outcomes.iter().any(|outcome| *outcome != Outcome::Deleted) {
            return Ok(deleted);
        }
        considered.books.remove_volume(volume.id);
        let edits = considered.books.edits();
        pool.perform(&Plan { edits, ..Plan::default() })?;
        drop(held);
        deleted.groups_removed = considered.books.groups_removed().map(|group| group.uuid).collect();
        if request.reclaim == When::Now {
            let layers: Vec<LayerId> = snapshots.iter().map(|snapshot| snapshot.layer).collect();
            let tops = layers.into_iter().chain(head.parent);
            let retired = retired(&considered.books, tops);
            let (reclaimed, owed) = self.reclaim_after(&retired, Direction::Auto)?;
            if request.mode == DeleteMode::Enforcing {
                considered.note_owed(&mut deleted.results, &owed);
            }
            (deleted.reclaimed, deleted.owed) = (reclaimed, owed);
        }
        Ok(deleted)
    }
}
