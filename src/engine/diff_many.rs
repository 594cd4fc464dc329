//! What differs between many pairs of snapshots, looked for side by side: all disks of a machine between two groups.

use super::abreast::try_abreast;
use super::diff::{Diff, DiffOptions};
use super::error::Result;
use super::operation::Operation;
use super::pool::Engine;
use super::uuid_arg::{UuidArg, parse_optional};
use crate::chain::Change;
use crate::sync::Mutex;

/// Two snapshots of one volume that are compared.
#[doc = include_str!("examples/side_by_side.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiffPair {
    /// The one that the changes lead from; none for an empty disk.
    pub from: Option<UuidArg>,
    /// The one that they lead to.
    pub to: UuidArg,
}

impl DiffPair {
    /// What has changed from one snapshot to another one.
    #[must_use]
    pub fn between(from: impl Into<UuidArg>, to: impl Into<UuidArg>) -> Self {
        Self { from: Some(from.into()), to: to.into() }
    }

    /// What a snapshot has data for.
    #[must_use]
    pub fn allocated(of: impl Into<UuidArg>) -> Self {
        Self { from: None, to: of.into() }
    }
}

impl Engine {
    /// What differs between the snapshots of each pair, as [`Engine::diff`] finds it, several pairs side by side
    /// ([`Options::threads`](super::Options::threads)). All pairs are of one moment of the books.
    ///
    /// `each` is called with the index of the pair and a change of it: those of one pair in their order, one after the
    /// other; those of several pairs from several threads at a time. It must not wait for another one. Nothing is kept
    /// of what it was told.
    ///
    /// ```
    /// # use snapgroup::{ByteCount, CreateVolume, Engine, Options};
    /// use snapgroup::{CreateSnapshot, DiffOptions, DiffPair};
    /// use std::sync::Mutex;
    ///
    /// # fn main() -> snapgroup::Result<()> {
    /// # let engine = Engine::in_memory(Options::default())?;
    /// # let volume = engine.create_volume(&CreateVolume::new("data", ByteCount::gib(1)))?;
    /// # let disk = engine.open_volume(volume.uuid)?;
    /// let monday = engine.create_snapshot(&CreateSnapshot::new(volume.uuid, "monday"))?;
    /// disk.write_at(1 << 20, b"new")?;
    /// let tuesday = engine.create_snapshot(&CreateSnapshot::new(volume.uuid, "tuesday"))?;
    ///
    /// let found = Mutex::new(Vec::new());
    /// let pairs = [DiffPair::between(monday.uuid, tuesday.uuid), DiffPair::between(tuesday.uuid, monday.uuid)];
    /// engine.diff_many(&pairs, &DiffOptions::default(), |pair, change| {
    ///     found.lock().expect("nobody has panicked").push((pair, change.length));
    /// })?;
    /// assert_eq!(found.into_inner().expect("nobody has panicked").len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Engine::diff`] and its items, of the first pair that has one. Nothing was told when it is one of [`Engine::diff`];
    /// when it is one of an item, what was told until then is true, and the pairs after that one end early.
    pub fn diff_many(
        &self,
        pairs: &[DiffPair],
        options: &DiffOptions,
        each: impl Fn(usize, Change) + Sync,
    ) -> Result<()> {
        self.during(Operation::Diff, || self.diff_many_untold(pairs, options, each))
    }

    fn diff_many_untold(
        &self,
        pairs: &[DiffPair],
        options: &DiffOptions,
        each: impl Fn(usize, Change) + Sync,
    ) -> Result<()> {
        let diffs = self.begin_diffs(pairs, options)?;
        try_abreast(self.pool.options.abreast(), &diffs, |diff, place| {
            for change in &mut *diff.lock() {
                let change = change?;
                if place.is_in_vain() {
                    break;
                }
                each(place.index, change);
            }
            Ok(())
        })?;
        Ok(())
    }

    fn begin_diffs(&self, pairs: &[DiffPair], options: &DiffOptions) -> Result<Vec<Mutex<Diff>>> {
        let pool = &self.pool;
        let _layout = pool.layout.read();
        let reader = pool.read()?;
        let begin = |pair: &DiffPair| {
            let (from, to) = (parse_optional(pair.from.as_ref())?, pair.to.parse()?);
            Ok(Mutex::new(pool.begin_diff(&reader, from, to, options)?))
        };
        pairs.iter().map(begin).collect()
    }
}
