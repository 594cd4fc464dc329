//! What differs between two snapshots of a volume, wherever they are in its trees.

use super::error::Result;
use super::operation::Operation;
use super::pool::{Engine, Pool};
use super::readers::Claim;
use super::snapshot::Content;
use super::uuid_arg::{UuidArg, parse_optional};
use crate::catalog::{LayerRecord, Reader};
use crate::chain::{self, Change, Exactness};
use crate::plan::refusal::Refusal;
use crate::units::GuestOffset;
use std::iter::FusedIterator;
use std::sync::Arc;
use uuid::Uuid;

/// How two snapshots are compared. The default is the whole disk, by the tables.
#[doc = include_str!("examples/differing.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiffOptions {
    /// Only what lies at this address of the disk or after it.
    pub start: GuestOffset,
    /// How closely they are looked at: by the tables, or by the content, which is read and compared.
    pub exactness: Exactness,
}

/// The stretches in which two snapshots differ, in order. `Send`; reads the tables as it goes.
///
/// Two side by side are apart or of different kinds. What is [`ChangeKind::Data`](crate::chain::ChangeKind::Data)
/// is to be read from the newer snapshot; what is [`ChangeKind::Zero`](crate::chain::ChangeKind::Zero) reads as
/// zeros there, or lies past its end. With [`Exactness::Content`] every 512 bytes that are reported differ, and
/// every 512 bytes that differ are reported; without, what was written with the bytes that it had before is
/// reported, too.
///
/// Each item may be an error ([`Error::Image`](super::Error::Image)); nothing comes after it.
#[doc = include_str!("examples/differing.md")]
#[derive(Debug)]
#[must_use = "nothing is compared before it is iterated"]
pub struct Diff {
    changes: chain::Diff,
    /// Keeps the pool owned, and the layers as they are, while the content is read.
    _claims: Vec<Arc<Claim>>,
}

impl Iterator for Diff {
    type Item = Result<Change>;

    fn next(&mut self) -> Option<Result<Change>> {
        self.changes.next().map(|change| change.map_err(Into::into))
    }
}

impl FusedIterator for Diff {}

impl Engine {
    /// What must be changed to get from the content of the snapshot `from` to that of `to`, both of one volume: the
    /// one may be older or newer than the other, or on another branch. Without a `from`, what `to` has data for.
    ///
    /// Put onto the bytes of `from`, cut or lengthened with zeros to the size of `to`, the changes give `to`. Finding
    /// them costs by what was written since the two parted, not by the size of the disk. Nothing is changed, and the
    /// volume may be written meanwhile.
    ///
    /// ```
    /// # use snapgroup::{ByteCount, CreateVolume, Engine, Options};
    /// use snapgroup::{CreateSnapshot, DiffOptions, Exactness};
    ///
    /// # fn main() -> snapgroup::Result<()> {
    /// # let engine = Engine::in_memory(Options::default())?;
    /// # let volume = engine.create_volume(&CreateVolume::new("data", ByteCount::gib(1)))?;
    /// # let disk = engine.open_volume(volume.uuid)?;
    /// let monday = engine.create_snapshot(&CreateSnapshot::new(volume.uuid, "monday"))?;
    /// disk.write_at(1 << 20, b"new")?;
    /// let tuesday = engine.create_snapshot(&CreateSnapshot::new(volume.uuid, "tuesday"))?;
    ///
    /// let options = DiffOptions { exactness: Exactness::Content, ..DiffOptions::default() };
    /// let changes: Vec<_> = engine.diff(Some(monday.uuid.into()), tuesday.uuid, &options)?.collect::<Result<_, _>>()?;
    /// assert_eq!(changes.len(), 1);
    /// assert_eq!((changes[0].at.as_u64(), changes[0].length), (1 << 20, ByteCount::new(512)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// SYS.1003 when one of them is not there; SYS.1007 when they are of different volumes; SYS.1006 when a file of
    /// their chains is missing or not what the catalogue says.
    pub fn diff(&self, from: Option<UuidArg>, to: impl Into<UuidArg>, options: &DiffOptions) -> Result<Diff> {
        self.during(Operation::Diff, || self.diff_untold(from, to, options))
    }

    fn diff_untold(
        &self,
        from: Option<UuidArg>,
        to: impl Into<UuidArg>,
        options: &DiffOptions,
    ) -> Result<Diff> {
        let (from, to) = (parse_optional(from.as_ref())?, to.into().parse()?);
        let _layout = self.pool.layout.read();
        self.pool.begin_diff(&self.pool.read()?, from, to, options)
    }
}

impl Pool {
    /// Begins to compare two snapshots. The caller holds the layout for reading.
    pub(super) fn begin_diff(
        self: &Arc<Self>,
        reader: &Reader,
        from: Option<Uuid>,
        to: Uuid,
        options: &DiffOptions,
    ) -> Result<Diff> {
        let (start, exactness) = (options.start, options.exactness);
        let to = self.open_content(reader, to)?;
        let mut claims = vec![Arc::clone(&to.claim)];
        let changes = match from {
            None => chain::Diff::allocated(&to.chain, start, exactness),
            Some(from) => {
                let from = self.open_content(reader, from)?;
                let shared = shared_layers(&from, &to)?;
                claims.push(Arc::clone(&from.claim));
                chain::Diff::between(&from.chain, &to.chain, shared, start, exactness)
            }
        };
        Ok(Diff { changes, _claims: claims })
    }
}

/// How many layers, the lowest ones, two snapshots of one volume have in common.
pub(super) fn shared_layers(from: &Content, to: &Content) -> Result<usize> {
    if from.snapshot.volume != to.snapshot.volume {
        let (from, to) = (&from.snapshot, &to.snapshot);
        return Err(Refusal::NotOfOneVolume { one: from.uuid, other: to.uuid }.into());
    }
    let lowest_first = |layers: &[LayerRecord]| layers.iter().rev().map(|layer| layer.id).collect::<Vec<_>>();
    let (from, to) = (lowest_first(&from.layers), lowest_first(&to.layers));
    Ok(from.iter().zip(&to).take_while(|(from, to)| from == to).count())
}
