//! What an image holds beside its disk, as QEMU's tools name it: internal snapshots and persistent bitmaps.
//!
//! Both are kept when the image is written. What an internal snapshot shares with the disk is copied before it is
//! changed. A persistent bitmap says which parts of the disk were written since some moment; nobody can be told
//! less than that, but more is lawful: the first write to an image lets every bitmap that follows writes say that
//! everything was written. One that does not follow writes stays as it is, and so does one that was left in use.

use super::error::{Error, Result};
use super::open::{Image, State};
use crate::format::{Autoclear, BitmapEntry, BitmapTableEntry, Geometry, Header, SnapshotEntry, Version};
use crate::storage::{Blob, read_zero_extended};
use crate::units::{ByteCount, HostOffset};
use std::sync::atomic::Ordering;

/// How much of a snapshot table is read at a time: more than the longest entry takes.
const SNAPSHOT_TABLE_READ: ByteCount = ByteCount::kib(256);
const _: () = assert!(SnapshotEntry::LENGTH_MAX < 256 << 10);

/// An internal snapshot of an image.
///
/// An example is at [`Image`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InternalSnapshot {
    /// The id that its maker gave it, unique in the image. What is no text is replaced.
    pub id: String,
    /// Its name. What is no text is replaced.
    pub name: String,
    /// When it was made, in seconds since 1970.
    pub date_seconds: u32,
    /// The nanoseconds beyond.
    pub date_nanos: u32,
    /// The size of the state of the machine that is stored with it; zero for none.
    pub vm_state_size: ByteCount,
    /// The size of the disk then, when the snapshot says it: that of the image, when not.
    pub disk_size: Option<ByteCount>,
}

/// A persistent bitmap of an image.
///
/// An example is at [`Image`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PersistentBitmap {
    /// Its name, unique in the image. What is no text is replaced.
    pub name: String,
    /// How much of the disk one bit stands for.
    pub granularity: ByteCount,
    /// Whether it follows the writes to the disk.
    pub follows_writes: bool,
    /// Whether it was left in use by whoever changed it last: then nobody knows what it should say.
    pub is_in_use: bool,
}

impl Image {
    /// The internal snapshots of the image, in the order of their table.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] when the table breaks a rule; [`Error::Storage`].
    pub fn internal_snapshots(&self) -> Result<Vec<InternalSnapshot>> {
        let state = self.state.read();
        let entries = read_snapshots(&*self.blob, &state.header, state.end, &self.name)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let shown = |entry: SnapshotEntry| InternalSnapshot {
            id: text(&entry.id),
            name: text(&entry.name),
            date_seconds: entry.date_seconds,
            date_nanos: entry.date_nanos,
            vm_state_size: entry.vm_state_size(),
            disk_size: entry.disk_size(),
        };
        Ok(entries.into_iter().map(shown).collect())
    }

    /// The persistent bitmaps of the image, in the order of their directory; none when the header says that they do
    /// not agree with the disk.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] when the directory breaks a rule; [`Error::Storage`].
    pub fn persistent_bitmaps(&self) -> Result<Vec<PersistentBitmap>> {
        let state = self.state.read();
        let entries = read_bitmaps(&*self.blob, &state.header, state.end, &self.name)?;
        let shown = |entry: BitmapEntry| PersistentBitmap {
            name: String::from_utf8_lossy(&entry.name).into_owned(),
            granularity: ByteCount::new(1 << entry.granularity_bits),
            follows_writes: entry.flags.is_auto(),
            is_in_use: entry.flags.is_in_use(),
        };
        Ok(entries.into_iter().map(shown).collect())
    }

    /// Clears what a writer must clear before it changes anything: the autoclear bits that it does not know (qcow2
    /// specification, header, bytes 88-95), and that of the bitmaps, when they cannot be read.
    pub(super) fn clear_autoclear(&self) -> Result<()> {
        let mut state = self.state.write();
        let bitmaps = read_bitmaps(&*self.blob, &state.header, state.end, &self.name);
        let kept = match &bitmaps {
            Ok(bitmaps) if !bitmaps.is_empty() => Autoclear::BITMAPS,
            Ok(_) | Err(Error::Format { .. } | Error::OutsideFile { .. }) => Autoclear::NONE,
            Err(_) => return bitmaps.map(drop),
        };
        let follows = bitmaps.iter().flatten().any(follows_writes);
        self.bitmaps_follow.store(follows, Ordering::Release);
        if state.header.autoclear == kept {
            return Ok(());
        }
        state.header.autoclear = kept;
        self.rewrite_header(&state)?;
        self.blob.sync()?;
        Ok(())
    }

    /// Lets each bitmap that follows writes say that everything was written, and makes that durable: nothing of the
    /// disk has changed yet. What is half done says more than the bitmap did, which is as lawful.
    pub(super) fn fill_bitmaps(&self) -> Result<()> {
        let mut state = self.state.write();
        if !self.bitmaps_follow.load(Ordering::Acquire) {
            return Ok(());
        }
        self.refuse_when_frozen()?;
        let bitmaps = read_bitmaps(&*self.blob, &state.header, state.end, &self.name)?;
        let mut given_up = Vec::new();
        for bitmap in bitmaps.iter().filter(|bitmap| follows_writes(bitmap)) {
            let bytes = self.read_words(&state, bitmap.table, u64::from(bitmap.table_entries))?;
            for raw in bytes {
                let entry =
                    BitmapTableEntry::decode(raw, self.geometry).map_err(|wrong| self.malformed(wrong))?;
                if let BitmapTableEntry::Data { at } = entry {
                    given_up.push(at);
                }
            }
            let ones = BitmapTableEntry::Ones.encode().to_be_bytes();
            self.blob.write_at(bitmap.table, &ones.repeat(table_length(bitmap)))?;
        }
        self.blob.sync()?;
        self.bitmaps_follow.store(false, Ordering::Release);
        for at in given_up {
            self.free_later(&mut state, at);
        }
        Ok(())
    }

    fn read_words(&self, state: &State, at: HostOffset, count: u64) -> Result<Vec<u64>> {
        let mut bytes = vec![0; ByteCount::new(count * 8).as_usize()];
        read_zero_extended(&*self.blob, state.end.as_length(), at, &mut bytes)?;
        let word = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("eight bytes"));
        Ok(bytes.chunks_exact(8).map(word).collect())
    }

    /// The largest disk that the image may become: its L1 table has a limit, its bitmaps have no room for a larger
    /// one, and a version 2 image with internal snapshots stays as it is, since they do not say how large they are.
    ///
    /// # Errors
    ///
    /// As [`Image::persistent_bitmaps`].
    pub fn size_max(&self) -> Result<ByteCount> {
        let state = self.state.read();
        if state.header.version == Version::V2 && state.header.snapshot_count > 0 {
            return Ok(self.size());
        }
        let bitmaps = read_bitmaps(&*self.blob, &state.header, state.end, &self.name)?;
        let covered = |bitmap: &BitmapEntry| covered(bitmap, self.geometry);
        let room = bitmaps.iter().map(covered).min().unwrap_or(ByteCount::new(u64::MAX));
        Ok(room.max(self.size()).min(self.geometry.size_max()))
    }
}

/// Whether a bitmap is to say what is written. One that was left in use says nothing that anyone relies on.
fn follows_writes(bitmap: &BitmapEntry) -> bool {
    bitmap.flags.is_auto() && !bitmap.flags.is_in_use()
}

fn table_length(bitmap: &BitmapEntry) -> usize {
    ByteCount::new(u64::from(bitmap.table_entries)).as_usize()
}

/// How much of a disk the table of a bitmap has entries for.
fn covered(bitmap: &BitmapEntry, geometry: Geometry) -> ByteCount {
    let bits = u64::from(bitmap.table_entries).saturating_mul(geometry.cluster_size().as_u64() * 8);
    ByteCount::new(bits.saturating_mul(1 << bitmap.granularity_bits))
}

/// Refuses a table of internal snapshots that breaks a rule, as QEMU does when it opens an image. Where the header says
/// that there are none, nothing is read.
pub(super) fn admit_snapshots(blob: &dyn Blob, header: &Header, end: HostOffset, name: &str) -> Result<()> {
    walk_snapshots(blob, header, end, name, drop)
}

/// Reads the table of internal snapshots, no more of the file than it needs.
fn read_snapshots(
    blob: &dyn Blob,
    header: &Header,
    end: HostOffset,
    name: &str,
) -> Result<Vec<SnapshotEntry>> {
    let mut entries = Vec::new();
    walk_snapshots(blob, header, end, name, |entry| entries.push(entry))?;
    Ok(entries)
}

/// Reads the entries of the table of internal snapshots one after the other, a piece of it at a time.
fn walk_snapshots(
    blob: &dyn Blob,
    header: &Header,
    end: HostOffset,
    name: &str,
    mut each: impl FnMut(SnapshotEntry),
) -> Result<()> {
    let malformed = |source| Error::Format { image: name.to_owned(), source };
    let (mut at, mut piece, mut used) = (header.snapshot_table, Vec::new(), 0);
    for _ in 0..header.snapshot_count {
        // The longest entry fits into a piece.
        let left = end.checked_since(at).unwrap_or_default().min(SNAPSHOT_TABLE_READ).as_usize();
        if piece.len() - used < left.min(SnapshotEntry::LENGTH_MAX) {
            (piece, used) = (vec![0; left], 0);
            blob.read_at(at, &mut piece)?;
        }
        let rest = &piece[used..];
        let size = SnapshotEntry::size_of(rest).map_err(malformed)?;
        let entry = SnapshotEntry::parse(rest, header.version).map_err(malformed)?;
        let begin = at.checked_since(header.snapshot_table).unwrap_or_default();
        SnapshotEntry::check_table_size(begin + size).map_err(malformed)?;
        each(entry);
        let next = size.as_usize().next_multiple_of(8);
        used = (used + next).min(piece.len());
        at = at.checked_add(ByteCount::of(next)).ok_or_else(|| Error::OutsideFile {
            image: name.to_owned(),
            structure: "snapshot table",
            at,
            end,
        })?;
    }
    Ok(())
}

/// Reads the directory of the bitmaps for which the header vouches, all of whose tables lie in the file.
fn read_bitmaps(blob: &dyn Blob, header: &Header, end: HostOffset, name: &str) -> Result<Vec<BitmapEntry>> {
    let malformed = |source| Error::Format { image: name.to_owned(), source };
    let Some(extension) = header.bitmaps().map_err(malformed)? else { return Ok(Vec::new()) };
    let inside = |structure, at: HostOffset, length: ByteCount| match at.checked_add(length) {
        Some(reach) if reach <= end => Ok(()),
        _ => Err(Error::OutsideFile { image: name.to_owned(), structure, at, end }),
    };
    inside("bitmap directory", extension.directory, extension.directory_size)?;
    let mut bytes = vec![0; extension.directory_size.as_usize()];
    blob.read_at(extension.directory, &mut bytes)?;
    let bitmaps = extension.parse_directory(&bytes, header.geometry).map_err(malformed)?;
    for bitmap in &bitmaps {
        inside("bitmap table", bitmap.table, ByteCount::of(table_length(bitmap) * 8))?;
    }
    Ok(bitmaps)
}
