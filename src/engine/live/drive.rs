//! A live group from end to end: prepare, freeze, switch, thaw, commit, and the way back from each.
//!
//! | what fails | what is done |
//! |---|---|
//! | prepare | nothing is there |
//! | freeze | thaw; abort, or go on with a crash-consistent group, as the caller says |
//! | switch, and every disk writes to its head | thaw, abort |
//! | the same, and an overlay was written to or is still open | thaw; the group stays prepared, and the error says so |
//! | switch, and every disk writes to its overlay | thaw, commit: it was done |
//! | switch, and disks differ, or it cannot be told | thaw; the group stays prepared, and the error says so |
//! | thaw | commit, crash-consistent |
//! | commit | the group stays prepared |

use super::super::error::{Error, Kind, Result};
use super::super::group::{CreateGroup, CreatedGroup};
use super::super::operation::Operation;
use super::super::pool::Engine;
use super::super::uuid_arg::parse_optional;
use super::{HookError, PreparedGroup, Quiesce, Switch, WritesTo};
use crate::catalog::Entity;
use crate::inventory::Consistency;
use std::time::Duration;

/// Whether a group is taken of a guest that did not settle.
#[doc = include_str!("../examples/live.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum IfNotFrozen {
    /// It is aborted.
    #[default]
    Abort,
    /// It is taken, and is crash-consistent.
    TakeAnyway,
}

/// How a live group is taken.
///
/// ```
/// use snapgroup::{IfNotFrozen, LiveOptions};
/// use std::time::Duration;
///
/// // A guest without an agent that answers is snapshotted all the same, as a power cut would leave it.
/// let options = LiveOptions {
///     freeze_within: Duration::from_secs(3),
///     if_not_frozen: IfNotFrozen::TakeAnyway,
///     ..LiveOptions::default()
/// };
/// # assert_ne!(options, LiveOptions::default());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveOptions {
    /// How long the guest may take to settle. Default 10 s, after which a Windows guest goes on by itself.
    pub freeze_within: Duration,
    /// How long it may take to be told to go on. Default 10 s.
    pub thaw_within: Duration,
    /// Whether a group is taken of a guest that did not settle. Default: it is aborted.
    pub if_not_frozen: IfNotFrozen,
}

impl Default for LiveOptions {
    fn default() -> Self {
        let within = Duration::from_secs(10);
        Self { freeze_within: within, thaw_within: within, if_not_frozen: IfNotFrozen::default() }
    }
}

/// A live group that was taken.
#[doc = include_str!("../examples/live.md")]
#[derive(Debug)]
#[non_exhaustive]
pub struct CreatedLive {
    /// The group; its consistency is what the guest is known to have done.
    pub created: CreatedGroup,
    /// Why the guest did not settle.
    pub freeze_error: Option<HookError>,
    /// Why the guest was not told to go on, or had gone on before.
    pub thaw_error: Option<HookError>,
    /// What the switch said although every disk was switched.
    pub switch_error: Option<HookError>,
}

impl CreatedLive {
    fn of(created: CreatedGroup) -> Self {
        Self { created, freeze_error: None, thaw_error: None, switch_error: None }
    }
}

impl Engine {
    /// Takes a group of a machine that another process runs: makes the overlays, lets the guest settle, lets the process
    /// switch, lets the guest go on, and publishes. `thaw` is called after every `freeze`, whatever happens in between,
    /// a panic of the switch included. Durable when it returns.
    ///
    /// The same `resource_uuid` with the same wish answers the group that is there, and calls no hook.
    ///
    /// # Errors
    ///
    /// As [`Engine::prepare_group`]. [`Error::NotFrozen`] and [`Error::NotSwitched`]: nothing has changed.
    /// [`Error::SwitchUnknown`]: the group stays prepared; find out where the disks write to, then
    /// [`Engine::resume_group`] and commit or abort. The errors of [`PreparedGroup::commit`]: the disks are switched, and
    /// the group stays prepared; resume it and commit again.
    #[doc = include_str!("../examples/live.md")]
    pub fn create_group_live(
        &self,
        request: &CreateGroup,
        quiesce: &mut dyn Quiesce,
        switch: &mut dyn Switch,
        options: &LiveOptions,
    ) -> Result<CreatedLive> {
        self.during(Operation::CreateGroupLive, || {
            self.create_group_live_untold(request, quiesce, switch, options)
        })
    }

    fn create_group_live_untold(
        &self,
        request: &CreateGroup,
        quiesce: &mut dyn Quiesce,
        switch: &mut dyn Switch,
        options: &LiveOptions,
    ) -> Result<CreatedLive> {
        if let Some(there) = self.group_there(request)? {
            return Ok(CreatedLive::of(there));
        }
        switch.reach().map_err(|source| Error::NotSwitched { source })?;
        let prepared = self.prepare_group(request)?;
        let mut guest = Guest::freeze(quiesce, options);
        let (mut consistency, freeze_error) = match guest.frozen.take() {
            Some(Ok(consistency)) => (consistency, None),
            Some(Err(source)) if options.if_not_frozen == IfNotFrozen::Abort => {
                drop(guest);
                prepared.abort()?;
                return Err(Error::NotFrozen { source });
            }
            Some(Err(source)) => (Consistency::Crash, Some(source)),
            None => (Consistency::Crash, None),
        };
        let switched = prepared.switch(switch);
        let thaw_error = guest.thaw().err();
        if thaw_error.is_some() {
            consistency = Consistency::Crash;
        }
        let (prepared, switch_error) = switched?;
        let created = prepared.commit(consistency)?;
        Ok(CreatedLive { freeze_error, thaw_error, switch_error, ..CreatedLive::of(created) })
    }

    /// The group that the same request has taken before.
    fn group_there(&self, request: &CreateGroup) -> Result<Option<CreatedGroup>> {
        let pool = &self.pool;
        let Some(uuid) = parse_optional(request.resource_uuid.as_ref())? else { return Ok(None) };
        let Some(Entity::Group(_)) = pool.claim(Some(uuid))?.1 else { return Ok(None) };
        // It is there, so nothing is taken.
        self.create_group(request).map(Some)
    }
}

impl PreparedGroup {
    /// Lets the disks be switched, and looks what has come of it. While that is not known, dropping the group leaves it
    /// prepared.
    fn switch(mut self, switch: &mut dyn Switch) -> Result<(Self, Option<HookError>)> {
        self.at_drop = super::AtDrop::Leave;
        let answer = switch.switch(&self.disks);
        let seen = switch.look(&self.disks);
        let group = self.record.group;
        let all = |seen: &[WritesTo], wanted| {
            seen.len() == self.disks.len() && seen.iter().all(|found| *found == wanted)
        };
        match (answer, seen) {
            (answer, Ok(seen)) if all(&seen, WritesTo::Overlay) => Ok((self, answer.err())),
            (answer, Ok(seen)) if all(&seen, WritesTo::Head) => {
                let source = answer.err().unwrap_or_else(|| "every disk still writes to its head".into());
                match self.abort() {
                    Ok(()) => Err(Error::NotSwitched { source }),
                    // Some disk has written to its overlay before it went back: what it wrote there is its guest's.
                    Err(error) if error.kind() == Kind::Refused => {
                        Err(Error::SwitchUnknown { group, seen, source })
                    }
                    Err(error) => Err(error),
                }
            }
            (answer, Ok(seen)) => {
                let differ = || "not every disk writes to its overlay".into();
                Err(Error::SwitchUnknown { group, seen, source: answer.err().unwrap_or_else(differ) })
            }
            (answer, Err(looked)) => {
                Err(Error::SwitchUnknown { group, seen: Vec::new(), source: answer.err().unwrap_or(looked) })
            }
        }
    }
}

/// A guest that was asked to settle: it is told to go on once, when this is dropped at the latest.
#[derive(Debug)]
struct Guest<'a> {
    quiesce: &'a mut dyn Quiesce,
    within: Duration,
    frozen: Option<std::result::Result<Consistency, HookError>>,
    is_thawed: bool,
}

impl<'a> Guest<'a> {
    fn freeze(quiesce: &'a mut dyn Quiesce, options: &LiveOptions) -> Self {
        // Thawed even when `freeze` panics.
        let mut guest = Self { quiesce, within: options.thaw_within, frozen: None, is_thawed: false };
        guest.frozen = Some(guest.quiesce.freeze(options.freeze_within));
        guest
    }

    fn thaw(mut self) -> std::result::Result<(), HookError> {
        self.is_thawed = true;
        self.quiesce.thaw(self.within)
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        if !self.is_thawed {
            // The error that led here is what the caller is told.
            drop(self.quiesce.thaw(self.within));
        }
    }
}
