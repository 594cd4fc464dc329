//! How far work has come that goes from layer to layer: in the bytes that their files take up.

use super::error::Result;
use super::events::Work;
use super::pool::Pool;
use crate::storage::{Access, BlobName, Store};
use crate::units::ByteCount;
use std::cell::Cell;

/// Work on many layers, of which somebody may be told.
pub(super) struct Round<'a> {
    pool: &'a Pool,
    work: Work,
    /// Nothing when nobody listens.
    counted: Option<Counted>,
}

struct Counted {
    /// The files that were passed.
    passed: ByteCount,
    total: ByteCount,
    /// What was told last: it never goes back.
    told: Cell<ByteCount>,
}

impl<'a> Round<'a> {
    /// Begins. `files` are those that will be passed; they are asked for only when somebody listens.
    pub(super) fn begin(
        pool: &'a Pool,
        work: Work,
        files: impl FnOnce() -> Result<Vec<BlobName>>,
    ) -> Result<Self> {
        let mut round = Self::untold(pool, work);
        if pool.is_listened_to() {
            let total = files()?.iter().map(|file| round.size(file)).sum();
            round.counted = Some(Counted { passed: ByteCount::ZERO, total, told: Cell::default() });
        }
        Ok(round)
    }

    /// Work that nobody is told of.
    pub(super) fn untold(pool: &'a Pool, work: Work) -> Self {
        Self { pool, work, counted: None }
    }

    /// Tells that some bytes of the next file are done.
    pub(super) fn within(&self, bytes: ByteCount) {
        if let Some(counted) = &self.counted {
            self.tell(counted, counted.passed + bytes);
        }
    }

    /// A file is done.
    pub(super) fn passed(&mut self, file: &BlobName) {
        if let Some(mut counted) = self.counted.take() {
            counted.passed += self.size(file);
            self.tell(&counted, counted.passed);
            self.counted = Some(counted);
        }
    }

    /// All of it is done, whatever became of the files meanwhile.
    pub(super) fn end(self) {
        if let Some(counted) = &self.counted {
            self.tell(counted, counted.total);
        }
    }

    /// A file may have grown since it was counted, and may have been read more than once.
    fn tell(&self, counted: &Counted, done: ByteCount) {
        let done = done.max(counted.told.get()).min(counted.total);
        counted.told.set(done);
        self.pool.tell_progress(self.work, done, counted.total);
    }

    /// What a file takes up; nothing when it cannot be asked.
    fn size(&self, file: &BlobName) -> ByteCount {
        let blob = self.pool.store().open(file, Access::Read);
        blob.and_then(|blob| blob.allocated()).unwrap_or_default()
    }
}
