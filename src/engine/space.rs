//! Who holds which bytes: what would be given back if some snapshots were not there.

use super::delete::{DeleteGroup, DeleteSnapshots, Deletion};
use super::error::Result;
use super::operation::Operation;
use super::pool::Engine;
use super::uuid_arg::UuidArg;
use crate::catalog::{Holdings, Reader};
use crate::plan::books::Books;
use crate::plan::delete::DeleteMode;
use crate::plan::refusal::Refusal;
use crate::units::ByteCount;

/// Whose bytes are asked for.
#[doc = include_str!("examples/space.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpaceOf {
    /// What only this snapshot holds.
    Snapshot(UuidArg),
    /// What only the members of this group hold, together.
    Group(UuidArg),
    /// What only these snapshots hold, together: also what several of them share and nobody else. Not the sum of what
    /// each holds alone.
    Snapshots(Vec<UuidArg>),
}

/// The bytes that only some snapshots hold: those that deleting them, and nothing else, gives back.
#[doc = include_str!("examples/space.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Space {
    /// Bytes of clusters that would be freed inside of files.
    pub bytes_punched: ByteCount,
    /// Bytes that the files take up that would be removed.
    pub bytes_removed: ByteCount,
}

impl Space {
    /// All of them.
    #[must_use]
    pub fn bytes(&self) -> ByteCount {
        self.bytes_punched + self.bytes_removed
    }
}

impl Engine {
    /// The bytes that only some snapshots hold. Worked out from the tables of the files, as
    /// [`Engine::plan_delete`] does it, and exact as long as no guest writes meanwhile: a deletion of these alone, with
    /// its bytes dealt with at once, gives back as much. Nothing refuses here: a hold makes no difference, and what a
    /// clone reads is held by it, too. What earlier deletions still owe in layers right below these is dealt with along
    /// with them, and counts; files that only wait to be removed do not.
    ///
    /// ```
    /// # use snapgroup::{ByteCount, CreateVolume, Engine, Options};
    /// use snapgroup::{CreateSnapshot, SpaceOf};
    ///
    /// # fn main() -> snapgroup::Result<()> {
    /// # let engine = Engine::in_memory(Options::default())?;
    /// # let volume = engine.create_volume(&CreateVolume::new("data", ByteCount::gib(1)))?;
    /// # let disk = engine.open_volume(volume.uuid)?;
    /// disk.write_at(0, &[1; 131_072])?;
    /// let monday = engine.create_snapshot(&CreateSnapshot::new(volume.uuid, "monday"))?;
    /// disk.write_at(0, &[2; 65_536])?;
    ///
    /// // The second cluster of 64 KiB is still read by the disk.
    /// let space = engine.space_of(&SpaceOf::Snapshot(monday.uuid.into()))?;
    /// assert_eq!(space.bytes(), ByteCount::kib(64));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// SYS.1007 for a malformed uuid and for an empty list; SYS.1003 for a group or a snapshot that is not there.
    pub fn space_of(&self, of: &SpaceOf) -> Result<Space> {
        self.during(Operation::Space, || self.space_of_untold(of))
    }

    fn space_of_untold(&self, of: &SpaceOf) -> Result<Space> {
        let pool = &self.pool;
        let request = of.deletion();
        let (_held, reader, targets) = pool.lock_found(|reader| {
            of.refuse_absent(reader)?;
            request.find(reader)
        })?;
        let considered = pool.consider(&reader, &request, &targets)?;
        let (books, retired) = (&considered.books, &considered.verdict.retired);
        let with = pool.foretell(&reader, books, retired, request.direction())?;
        // Files that only wait to be removed are held by nobody.
        let without = pool.foretell(&reader, &Books::open(Holdings::default()), &[], request.direction())?;
        Ok(Space {
            bytes_punched: with.bytes_punched,
            bytes_removed: with.bytes_removed.saturating_sub(without.bytes_removed),
        })
    }
}

impl SpaceOf {
    /// The deletion whose effect is asked for: nobody refuses it.
    fn deletion(&self) -> Deletion {
        let snapshots = |uuids: Vec<UuidArg>| {
            Deletion::from(&DeleteSnapshots { mode: DeleteMode::Enforcing, ..DeleteSnapshots::all(uuids) })
        };
        match self {
            Self::Snapshot(uuid) => snapshots(vec![uuid.clone()]),
            Self::Snapshots(uuids) => snapshots(uuids.clone()),
            Self::Group(uuid) => {
                Deletion::from(&DeleteGroup { mode: DeleteMode::Enforcing, ..DeleteGroup::new(uuid.clone()) })
            }
        }
    }

    /// A deletion of what is not there is a success; a question about it is not.
    fn refuse_absent(&self, reader: &Reader) -> Result<()> {
        let there = |uuid: &UuidArg| -> Result<()> {
            let uuid = uuid.parse()?;
            match reader.snapshot_by_uuid(uuid)? {
                Some(_) => Ok(()),
                None => Err(Refusal::NotFound { what: "snapshot", uuid }.into()),
            }
        };
        match self {
            Self::Snapshot(uuid) => there(uuid),
            Self::Snapshots(uuids) => uuids.iter().try_for_each(there),
            Self::Group(uuid) => {
                let uuid = uuid.parse()?;
                match reader.group_by_uuid(uuid)? {
                    Some(_) => Ok(()),
                    None => Err(Refusal::NotFound { what: "group", uuid }.into()),
                }
            }
        }
    }
}
