//! Sealed layers, to be carried elsewhere and back: what a layer holds, each byte of it compared with the seal.
//!
//! What is carried are the bytes of the seal, and the data of the layer: its grains of data, one after the other, in the
//! order of the disk, as the seal lists them. Nothing of the file's format goes along.

use super::super::error::{Error, Result};
use super::super::pool::{Engine, Pool};
use super::super::readers::Claim;
use super::super::uuid_arg::UuidArg;
use super::content::Alone;
use super::file::SealReader;
use super::{Renew, Sealing};
use crate::catalog::{LayerRecord, Seal};
use crate::plan::refusal::Refusal;
use crate::storage::{self, Access, BlobName, MemoryStore, Store};
use crate::units::{ByteCount, HostOffset};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use uuid::Uuid;

/// Which seal of a layer: two seals of one layer with the same id say the same. It is written `CHECKSUM-LENGTH`, as
/// `0ab3f00d-1048`: the CRC-32 of the seal's bytes in hex, and how many there are.
#[doc = include_str!("../examples/carrying.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SealId {
    checksum: u32,
    length: ByteCount,
}

impl SealId {
    /// How many bytes the seal has.
    #[must_use]
    pub const fn length(self) -> ByteCount {
        self.length
    }
}

impl fmt::Display for SealId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.checksum, self.length.as_u64())
    }
}

/// A text that is not the id of a seal.
#[doc = include_str!("../examples/carrying.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a seal: eight hex digits, a dash, a number")]
#[non_exhaustive]
pub struct NotASealId;

impl FromStr for SealId {
    type Err = NotASealId;

    fn from_str(text: &str) -> std::result::Result<Self, NotASealId> {
        let (checksum, length) = text.split_once('-').ok_or(NotASealId)?;
        let checksum = u32::from_str_radix(checksum, 16).map_err(|_| NotASealId)?;
        let id = Self { checksum, length: ByteCount::new(length.parse().map_err(|_| NotASealId)?) };
        // One way to write it: it becomes part of names.
        if id.to_string() == text { Ok(id) } else { Err(NotASealId) }
    }
}

/// What a seal says of its layer.
#[doc = include_str!("../examples/carrying.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SealContents {
    /// The pool that made it.
    pub pool: Uuid,
    /// The layer.
    pub layer: Uuid,
    /// The size of the layer's disk.
    pub size: ByteCount,
    /// How many bytes one checksum is of; the last grain ends with the disk.
    pub grain: ByteCount,
    /// What the layer holds, in the order of the disk. What no stretch names it does not hold: there the layer below
    /// shows through.
    pub stretches: Vec<Stretch>,
}

/// Grains that hold the same kind of thing.
#[doc = include_str!("../examples/carrying.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stretch {
    /// Zeros.
    Zeros {
        /// The first grain.
        first: u64,
        /// How many there are.
        count: u64,
    },
    /// Data.
    Data {
        /// The first grain.
        first: u64,
        /// The CRC-32 of each.
        sums: Vec<u32>,
    },
}

/// Bytes that are not the seal that they should be.
#[doc = include_str!("../examples/carrying.md")]
#[derive(Debug, thiserror::Error)]
#[error("these bytes are not the seal {expected}")]
#[non_exhaustive]
pub struct NotTheSeal {
    /// Which one they should be.
    pub expected: SealId,
}

impl SealContents {
    /// Reads the bytes of a seal, to the last one.
    ///
    /// # Errors
    ///
    /// [`NotTheSeal`] when they are not what was written once, or break a rule of the format.
    pub fn parse(bytes: &[u8], expected: SealId) -> std::result::Result<Self, NotTheSeal> {
        Self::read(bytes, expected).ok_or(NotTheSeal { expected })
    }

    fn read(bytes: &[u8], expected: SealId) -> Option<Self> {
        if ByteCount::of(bytes.len()) != expected.length {
            return None;
        }
        let blob = MemoryStore::new().create(&BlobName::parse("seal").ok()?).ok()?;
        blob.write_at(HostOffset::ZERO, bytes).ok()?;
        let mut reader = SealReader::open(blob, expected.length, expected.checksum).ok()?;
        let header = reader.header;
        let (grain, size) = (header.grain, header.size);
        if !(512..=2 << 20).contains(&grain.as_u64()) {
            return None;
        }
        let grains = size.as_u64().div_ceil(grain.as_u64());
        let (mut stretches, mut end) = (Vec::new(), 0_u64);
        while let Some((first, stretch)) = reader.stretch() {
            let after = first.checked_add(stretch.grains())?;
            if first < end || after > grains {
                return None;
            }
            end = after;
            stretches.push(stretch);
            reader.advance().ok()?;
        }
        Some(Self { pool: header.pool, layer: header.layer, size, grain, stretches })
    }

    /// The bytes of the disk that a stretch is of: where they begin, and how many there are.
    #[must_use]
    pub fn range(&self, stretch: &Stretch) -> (u64, ByteCount) {
        let start = self.offset(stretch.first());
        (start, ByteCount::new(self.offset(stretch.first() + stretch.grains()) - start))
    }

    /// How many bytes of data the layer holds.
    #[must_use]
    pub fn data(&self) -> ByteCount {
        let data = self.stretches.iter().filter(|stretch| matches!(stretch, Stretch::Data { .. }));
        data.map(|stretch| self.range(stretch).1).sum()
    }

    /// Whether these are the bytes of grains of a stretch of data, from the grain `from` of it on, up to the end of the
    /// bytes: whole grains, at least one.
    #[must_use]
    pub fn is_content_of(&self, stretch: &Stretch, from: u64, bytes: &[u8]) -> bool {
        let Stretch::Data { first, sums } = stretch else { return false };
        let Some(sums) = usize::try_from(from).ok().and_then(|from| sums.get(from..)) else { return false };
        let grains = bytes.chunks(self.grain.as_usize());
        let count = grains.len() as u64;
        let length = self.offset(first + from + count) - self.offset(first + from);
        (1..=sums.len() as u64).contains(&count)
            && bytes.len() as u64 == length
            && grains.zip(sums).all(|(bytes, sum)| crc32fast::hash(bytes) == *sum)
    }

    fn offset(&self, grain: u64) -> u64 {
        grain.saturating_mul(self.grain.as_u64()).min(self.size.as_u64())
    }
}

impl Stretch {
    /// The first grain.
    #[must_use]
    pub const fn first(&self) -> u64 {
        match self {
            Self::Zeros { first, .. } | Self::Data { first, .. } => *first,
        }
    }

    /// How many grains there are.
    #[must_use]
    pub const fn grains(&self) -> u64 {
        match self {
            Self::Zeros { count, .. } => *count,
            Self::Data { sums, .. } => sums.len() as u64,
        }
    }
}

/// A frozen layer that is sealed, open for reading what it holds itself. The pool keeps what it reads.
#[doc = include_str!("../examples/carrying.md")]
#[derive(Debug)]
pub struct SealedLayer {
    pool: Arc<Pool>,
    record: LayerRecord,
    seal: Seal,
    _claim: Arc<Claim>,
}

impl SealedLayer {
    /// The uuid of the layer.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.record.uuid
    }

    /// The name of its file in the pool.
    #[must_use]
    pub fn file(&self) -> &str {
        self.record.blob.as_str()
    }

    /// The size of its disk.
    #[must_use]
    pub fn size(&self) -> ByteCount {
        self.record.size
    }

    /// Which seal it has.
    #[must_use]
    pub fn seal(&self) -> SealId {
        SealId { checksum: self.seal.checksum, length: self.seal.length }
    }

    /// The bytes of its seal. They take up four bytes for each cluster of data in the layer.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotSealed`] when the layer was written to since, and its seal is gone: ask for the layers anew. Else
    /// what keeps the file from being read.
    pub fn seal_bytes(&self) -> Result<Vec<u8>> {
        let read = || -> storage::Result<Vec<u8>> {
            let blob = self.pool.store().open(&self.seal.blob, Access::Read)?;
            let mut bytes = vec![0; blob.length()?.as_usize()];
            blob.read_at(HostOffset::ZERO, &mut bytes)?;
            Ok(bytes)
        };
        let read = read();
        self.refuse_changed()?;
        Ok(read?)
    }

    /// Begins to read its data.
    ///
    /// # Errors
    ///
    /// As [`SealedLayer::seal_bytes`], and [`Error::LayerDisagrees`] when the seal is not what was written.
    pub fn reader(&self) -> Result<SealedData<'_>> {
        let contents = SealContents::parse(&self.seal_bytes()?, self.seal());
        let contents = contents.map_err(|error| self.disagrees("seal", self.seal(), &error))?;
        let _layout = self.pool.layout.read();
        let layer = self.pool.open_to_look(&self.pool.read()?, &self.record)?;
        Ok(SealedData { of: self, contents, alone: Alone::new(layer), next: 0, grain: 0 })
    }

    /// Refuses when the layer has another seal by now, or none.
    fn refuse_changed(&self) -> Result<()> {
        let now = self.pool.read()?.layer(self.record.id)?;
        if now.is_some_and(|now| now.seal.as_ref() == Some(&self.seal)) {
            return Ok(());
        }
        Err(Refusal::NotSealed { file: self.file().to_owned() }.into())
    }

    fn disagrees(&self, what: &'static str, expected: impl fmt::Display, found: impl fmt::Display) -> Error {
        Error::LayerDisagrees {
            volume: self
                .pool
                .read()
                .ok()
                .and_then(|reader| reader.volume(self.record.volume).ok()?)
                .map_or(Uuid::nil(), |volume| volume.uuid),
            blob: self.file().to_owned(),
            what,
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }
}

/// The data of a sealed layer, being read.
#[doc = include_str!("../examples/carrying.md")]
#[derive(Debug)]
pub struct SealedData<'a> {
    of: &'a SealedLayer,
    contents: SealContents,
    alone: Alone,
    /// The stretch that comes next, and the first of its grains that was not read.
    next: usize,
    grain: u64,
}

impl SealedData<'_> {
    /// What the seal says of the layer.
    #[must_use]
    pub fn contents(&self) -> &SealContents {
        &self.contents
    }

    /// Reads on: at least `least` bytes, unless there are fewer left, and not much more. Empty at the end.
    ///
    /// # Errors
    ///
    /// [`Error::LayerDisagrees`] when the layer does not hold what it held when it was sealed;
    /// [`Refusal::NotSealed`] when the pool has written to it since: ask for the layers anew.
    pub fn read(&mut self, least: ByteCount) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while ByteCount::of(bytes.len()) < least {
            let Some(stretch) = self.contents.stretches.get(self.next) else { break };
            let Stretch::Data { first, sums } = stretch else {
                self.next += 1;
                continue;
            };
            let from = self.grain.max(*first);
            let end = first + sums.len() as u64;
            if from == end {
                self.next += 1;
                continue;
            }
            let read = self.alone.read_grains(from, end, &mut bytes);
            let read = read.map_err(Error::Image).and_then(|(to, found)| {
                let place = ByteCount::new(from - first).as_usize();
                match found.iter().zip(&sums[place..]).position(|(found, sealed)| found != sealed) {
                    None => Ok(to),
                    Some(at) => {
                        let sealed = format!("{:08x}", sums[place + at]);
                        Err(self.of.disagrees("content", sealed, format!("{:08x}", found[at])))
                    }
                }
            });
            // What the pool itself has written to meanwhile says nothing of the layer.
            self.grain = match read {
                Ok(to) => to,
                Err(error) => {
                    self.of.refuse_changed()?;
                    return Err(error);
                }
            };
        }
        Ok(bytes)
    }
}

impl Engine {
    /// The layers that a snapshot reads through, the lowest first, each with its seal: to be carried elsewhere. Those that
    /// have none are sealed first.
    ///
    /// # Errors
    ///
    /// As [`Engine::open_snapshot`]; [`Refusal::NotSealed`] when a layer could not be sealed.
    #[doc = include_str!("../examples/carrying.md")]
    pub fn sealed_layers(&self, snapshot: impl Into<UuidArg>) -> Result<Vec<SealedLayer>> {
        let pool = &self.pool;
        let uuid = snapshot.into().parse()?;
        let chain = || -> Result<_> {
            let reader = pool.read()?;
            let found = reader.snapshot_by_uuid(uuid)?;
            let snapshot = found.ok_or(Refusal::NotFound { what: "snapshot", uuid })?;
            Ok(reader.chain(snapshot.layer)?)
        };
        let bare = chain()?.into_iter().filter(|layer| layer.seal.is_none()).map(|layer| layer.id);
        let bare: Vec<_> = bare.collect();
        if !bare.is_empty() {
            // What could not be sealed is refused below, where it is met.
            drop(Sealing::of(self, bare, Renew::Missing).finish()?);
        }
        let _layout = pool.layout.read();
        let chain = chain()?;
        let claim = Claim::to(pool, &chain);
        let sealed = chain.into_iter().rev().map(|record| {
            let seal = record.seal.clone();
            let seal = seal.ok_or_else(|| Refusal::NotSealed { file: record.blob.to_string() })?;
            Ok(SealedLayer { pool: Arc::clone(pool), record, seal, _claim: Arc::clone(&claim) })
        });
        sealed.collect()
    }
}
