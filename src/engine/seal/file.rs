//! The file that holds the checksums of one layer, its seal.
//!
//! All numbers are big-endian. The header, of which the last four bytes are the CRC-32 of what is before them:
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 8 | `SNAPSEAL` |
//! | 8 | 4 | the version, 1 |
//! | 12 | 4 | the grain, in bytes: the cluster size of a qcow2 layer, 64 KiB for a raw one |
//! | 16 | 16 | the uuid of the pool |
//! | 32 | 16 | the uuid of the layer |
//! | 48 | 8 | the size of the layer's disk in bytes |
//! | 56 | 4 | zero |
//! | 60 | 4 | the CRC-32 of the header |
//!
//! Stretches follow, in the order of the disk and without overlap: the first grain (8 bytes), how many there are (4),
//! and what they are (4). After a stretch of data (1) come as many CRC-32s of 4 bytes, one of the content of each
//! grain; the last grain ends with the disk. A stretch of zeros (2) has none. What no stretch names is absent from the
//! layer. A stretch of no grains ends the file.
//!
//! The length and the CRC-32 of the whole file are in the layer's record.

use super::carry::Stretch;
use crate::storage::{self, Blob};
use crate::units::{ByteCount, HostOffset};
use std::sync::Arc;
use uuid::Uuid;

/// The first bytes.
const MAGIC: &[u8; 8] = b"SNAPSEAL";
/// The version that is written and read.
const VERSION: u32 = 1;
/// How long the header is.
const HEADER: usize = 64;
/// How long the beginning of a stretch is.
const STRETCH: usize = 16;
/// How many checksums one stretch has at most.
const SUMS_MAX: usize = 8192;
/// How much is written or read at a time.
const BATCH: usize = 64 << 10;

/// What a stretch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Absent,
    Zeros,
    Data,
}

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct SealHeader {
    pub(in super::super) pool: Uuid,
    pub(in super::super) layer: Uuid,
    pub(in super::super) grain: ByteCount,
    pub(in super::super) size: ByteCount,
}

/// Why a seal cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("its file is not what was written")]
    Damaged,
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl SealHeader {
    fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_be_bytes());
        let grain = u32::try_from(self.grain.as_u64()).expect("a cluster has at most 2^21 bytes");
        bytes[12..16].copy_from_slice(&grain.to_be_bytes());
        bytes[16..32].copy_from_slice(self.pool.as_bytes());
        bytes[32..48].copy_from_slice(self.layer.as_bytes());
        bytes[48..56].copy_from_slice(&self.size.as_u64().to_be_bytes());
        let sum = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8; HEADER]) -> Option<Self> {
        let is_ours = bytes.starts_with(MAGIC)
            && number(&bytes[8..12]) == u64::from(VERSION)
            && number(&bytes[60..]) == u64::from(crc32fast::hash(&bytes[..60]));
        let grain = number(&bytes[12..16]);
        let uuid = |at: usize| Uuid::from_slice(&bytes[at..at + 16]).expect("sixteen bytes");
        (is_ours && grain.is_power_of_two()).then(|| Self {
            pool: uuid(16),
            layer: uuid(32),
            grain: ByteCount::new(grain),
            size: ByteCount::new(number(&bytes[48..56])),
        })
    }

    /// Reads the header of a file, when it has one.
    pub(in super::super) fn of(blob: &dyn Blob) -> storage::Result<Option<Self>> {
        if blob.length()? < ByteCount::of(HEADER) {
            return Ok(None);
        }
        let mut bytes = [0; HEADER];
        blob.read_at(HostOffset::ZERO, &mut bytes)?;
        Ok(Self::decode(&bytes))
    }
}

/// A big-endian number of at most eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Whether a file is the beginning of a seal of which nothing but a part of the header was ever written.
pub(in super::super) fn is_torn_header(blob: &dyn Blob) -> storage::Result<bool> {
    let length = blob.length()?;
    if length >= ByteCount::of(HEADER) {
        return Ok(false);
    }
    let mut bytes = vec![0; length.as_usize()];
    blob.read_at(HostOffset::ZERO, &mut bytes)?;
    Ok(MAGIC.iter().zip(&bytes).all(|(magic, byte)| magic == byte) || bytes.iter().all(|byte| *byte == 0))
}

/// A seal that is being written.
#[derive(Debug)]
pub(super) struct SealWriter {
    blob: Arc<dyn Blob>,
    pending: Vec<u8>,
    written: ByteCount,
    sum: crc32fast::Hasher,
    /// The stretch of data that is being gathered: its first grain and its checksums.
    sums: (u64, Vec<u32>),
}

impl SealWriter {
    /// Writes the header into an empty file, durably: whose a file is, it tells from its first long write on.
    pub(super) fn begin(blob: Arc<dyn Blob>, header: &SealHeader) -> storage::Result<Self> {
        let mut writer = Self {
            blob,
            pending: header.encode().to_vec(),
            written: ByteCount::ZERO,
            sum: crc32fast::Hasher::new(),
            sums: (0, Vec::new()),
        };
        writer.write_out()?;
        writer.blob.sync()?;
        Ok(writer)
    }

    /// Adds the checksum of one grain, behind all before.
    pub(super) fn put_data(&mut self, grain: u64, sum: u32) -> storage::Result<()> {
        let (first, sums) = &mut self.sums;
        if sums.len() == SUMS_MAX || *first + sums.len() as u64 != grain {
            self.end_data()?;
            self.sums.0 = grain;
        }
        self.sums.1.push(sum);
        Ok(())
    }

    /// Adds a stretch of zeros, behind all before.
    pub(super) fn put_zeros(&mut self, first: u64, count: u64) -> storage::Result<()> {
        self.end_data()?;
        let (mut at, end) = (first, first + count);
        while at < end {
            let count = u32::try_from(end - at).unwrap_or(u32::MAX);
            self.put_stretch(at, count, 2)?;
            at += u64::from(count);
        }
        Ok(())
    }

    /// Ends the file durably; answers its length and the CRC-32 of all of it.
    pub(super) fn end(mut self) -> storage::Result<(ByteCount, u32)> {
        self.end_data()?;
        self.put_stretch(0, 0, 0)?;
        self.write_out()?;
        self.blob.sync()?;
        Ok((self.written, self.sum.finalize()))
    }

    fn end_data(&mut self) -> storage::Result<()> {
        let (first, sums) = (self.sums.0, std::mem::take(&mut self.sums.1));
        if sums.is_empty() {
            return Ok(());
        }
        self.put_stretch(first, u32::try_from(sums.len()).expect("at most 8192"), 1)?;
        self.pending.extend(sums.into_iter().flat_map(u32::to_be_bytes));
        Ok(())
    }

    fn put_stretch(&mut self, first: u64, count: u32, kind: u32) -> storage::Result<()> {
        if self.pending.len() >= BATCH {
            self.write_out()?;
        }
        self.pending.extend(first.to_be_bytes());
        self.pending.extend(count.to_be_bytes());
        self.pending.extend(kind.to_be_bytes());
        Ok(())
    }

    fn write_out(&mut self) -> storage::Result<()> {
        self.blob.write_at(HostOffset::end_of(self.written), &self.pending)?;
        self.sum.update(&self.pending);
        self.written += ByteCount::of(self.pending.len());
        self.pending.clear();
        Ok(())
    }
}

/// A seal that is being read, stretch by stretch.
#[derive(Debug)]
pub(super) struct SealReader {
    blob: Arc<dyn Blob>,
    pub(super) header: SealHeader,
    at: HostOffset,
    end: HostOffset,
    first: u64,
    count: u64,
    content: Content,
    sums: Vec<u8>,
}

impl SealReader {
    /// Takes in a seal; refuses one that is not, to the last byte, what was written: so long, with this checksum.
    pub(super) fn open(blob: Arc<dyn Blob>, length: ByteCount, checksum: u32) -> Result<Self, Unusable> {
        if blob.length()? != length {
            return Err(Unusable::Damaged);
        }
        let mut sum = crc32fast::Hasher::new();
        let mut batch = vec![0; BATCH];
        let mut at = HostOffset::ZERO;
        let end = HostOffset::end_of(length);
        while at < end {
            let piece = &mut batch[..(end - at).min(ByteCount::of(BATCH)).as_usize()];
            blob.read_at(at, piece)?;
            sum.update(piece);
            at += ByteCount::of(piece.len());
        }
        let header = SealHeader::of(&*blob)?.filter(|_| sum.finalize() == checksum);
        let header = header.ok_or(Unusable::Damaged)?;
        let at = HostOffset::new(HEADER as u64);
        let mut reader =
            Self { blob, header, at, end, first: 0, count: 0, content: Content::Absent, sums: Vec::new() };
        reader.advance()?;
        Ok(reader)
    }

    /// What the grain `at` is, and up to which grain it goes on alike. The caller asks in rising order.
    pub(super) fn at(&mut self, at: u64) -> Result<(Content, u64), Unusable> {
        while self.count > 0 && at >= self.first + self.count {
            self.advance()?;
        }
        Ok(match self.count {
            0 => (Content::Absent, u64::MAX),
            _ if at < self.first => (Content::Absent, self.first),
            count => (self.content, self.first + count),
        })
    }

    /// The checksum of a grain of the stretch that was asked for last, which is data.
    pub(super) fn sum(&self, grain: u64) -> u32 {
        let place = ByteCount::new((grain - self.first) * 4).as_usize();
        u32::from_be_bytes(self.sums[place..place + 4].try_into().expect("four bytes"))
    }

    /// The stretch that was taken in last, with its first grain; `None` at the end.
    pub(super) fn stretch(&self) -> Option<(u64, Stretch)> {
        let first = self.first;
        (self.count > 0).then(|| match self.content {
            Content::Data => {
                let sums = self.sums.as_chunks().0.iter().map(|sum| u32::from_be_bytes(*sum)).collect();
                (first, Stretch::Data { first, sums })
            }
            _ => (first, Stretch::Zeros { first, count: self.count }),
        })
    }

    /// Takes in the next stretch.
    pub(super) fn advance(&mut self) -> Result<(), Unusable> {
        let mut stretch = [0; STRETCH];
        self.take(&mut stretch)?;
        self.first = number(&stretch[..8]);
        self.count = number(&stretch[8..12]);
        self.content = if number(&stretch[12..]) == 1 { Content::Data } else { Content::Zeros };
        let sums = match self.content {
            Content::Data if self.count > SUMS_MAX as u64 => return Err(Unusable::Damaged),
            Content::Data => ByteCount::new(self.count * 4).as_usize(),
            _ => 0,
        };
        let mut bytes = std::mem::take(&mut self.sums);
        bytes.resize(sums, 0);
        self.take(&mut bytes)?;
        self.sums = bytes;
        Ok(())
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<(), Unusable> {
        let length = ByteCount::of(bytes.len());
        if self.end - self.at < length {
            return Err(Unusable::Damaged);
        }
        self.blob.read_at(self.at, bytes)?;
        self.at += length;
        Ok(())
    }
}
