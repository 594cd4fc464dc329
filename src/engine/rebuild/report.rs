//! What was made anew, and what could not be.

use super::super::uuid_arg::UuidArg;
use uuid::Uuid;

/// How a catalogue is made anew.
#[doc = include_str!("../examples/rebuilding.md")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RebuildOptions {
    /// The pool whose files are meant. Needed when files of several are in the directory.
    pub pool: Option<UuidArg>,
}

/// What was made anew, and what could not be.
#[doc = include_str!("../examples/rebuilding.md")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "what is lost is said here, and in no error"]
pub struct Rebuilt {
    /// The pool.
    pub pool: Uuid,
    /// The file in which the catalogue of before is kept, if there was one.
    pub catalogue_kept: Option<String>,
    /// The machines that files know of.
    pub machines: Vec<Uuid>,
    /// The volumes that are there again.
    pub volumes: Vec<RebuiltVolume>,
    /// The volumes that files know of and that are not there again.
    pub volumes_lost: Vec<LostVolume>,
    /// The snapshots that are there again, deleted ones perhaps among them.
    pub snapshots: Vec<RebuiltSnapshot>,
    /// The snapshots that files know of and that are not there again.
    pub snapshots_lost: Vec<LostSnapshot>,
    /// The groups of which every member is there.
    pub groups: Vec<Uuid>,
    /// The groups that are not there again, since members are missing. The members that are there are snapshots of
    /// their own now.
    pub groups_incomplete: Vec<IncompleteGroup>,
    /// The machines, volumes, snapshots and groups whose name no file tells: theirs are made of their uuid.
    pub unnamed: Vec<Uuid>,
    /// The files that are known by the name in the header above them and by nothing else: nobody can tell whether they
    /// are still the same ones.
    pub by_name_alone: Vec<String>,
    /// The files that are in no chain now, and why. They stay where they are.
    pub files_left: Vec<LeftFile>,
}

impl Rebuilt {
    /// Whether everything that the files know of is there again. What no file knows of is missing all the same; see
    /// [`Engine::rebuild`](super::super::Engine::rebuild).
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.volumes_lost.is_empty()
            && self.snapshots_lost.is_empty()
            && self.groups_incomplete.is_empty()
            && self.files_left.is_empty()
            && self.snapshots.iter().all(|snapshot| snapshot.proof == Proof::Claimed)
    }

    pub(super) fn leave(&mut self, file: impl ToString, why: impl ToString) {
        self.files_left.push(LeftFile { file: file.to_string(), why: why.to_string() });
    }

    pub(super) fn lose_snapshot(&mut self, uuid: Uuid, why: impl ToString) {
        self.snapshots_lost.push(LostSnapshot { uuid, why: why.to_string() });
    }
}

/// A volume that is there again.
#[doc = include_str!("../examples/rebuilding.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RebuiltVolume {
    /// Its uuid.
    pub uuid: Uuid,
    /// Its name.
    pub name: String,
    /// The file that it writes to.
    pub head: String,
    /// The machine that it is attached to again.
    pub machine: Option<Uuid>,
    /// Why it is not attached to the machine that it was in.
    pub detached: Option<String>,
}

/// A volume that is not there again.
#[doc = include_str!("../examples/rebuilding.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostVolume {
    /// Its uuid.
    pub uuid: Uuid,
    /// The file that it wrote to, when that is known.
    pub head: Option<String>,
    /// Why.
    pub why: String,
}

/// A snapshot that is there again. Whether it had been deleted no file tells.
#[doc = include_str!("../examples/rebuilding.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RebuiltSnapshot {
    /// Its uuid.
    pub uuid: Uuid,
    /// Its name.
    pub name: String,
    /// Its volume.
    pub volume: Uuid,
    /// The file that holds it.
    pub file: String,
    /// Whether its uuid is the one that it was taken with.
    pub proof: Proof,
}

/// How it is known which snapshot a content is.
#[doc = include_str!("../examples/sealing.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proof {
    /// A file says so, and the content was not changed since.
    Claimed,
    /// Nothing tells: it may be a snapshot, and is one under a new uuid, so that nothing of it is merged away.
    Absent,
}

/// A snapshot that is not there again.
#[doc = include_str!("../examples/rebuilding.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostSnapshot {
    /// Its uuid.
    pub uuid: Uuid,
    /// Why.
    pub why: String,
}

/// A group that is not whole.
#[doc = include_str!("../examples/rebuilding.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IncompleteGroup {
    /// Its uuid.
    pub uuid: Uuid,
    /// Its name; empty when no file tells.
    pub name: String,
    /// How many members it had.
    pub members: u32,
    /// The members that are there.
    pub found: Vec<Uuid>,
}

/// A file that is in no chain.
#[doc = include_str!("../examples/checking.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftFile {
    /// Its name.
    pub file: String,
    /// Why.
    pub why: String,
}
