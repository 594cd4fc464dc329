//! Another backing name in the header of an image, without a moment at which a crash could cost the header.
//!
//! A header may reach across sectors, so a power cut in the write of a new one can leave a mixture. Therefore the
//! bytes of the new one exist first, as a [`HeaderDraft`], and the caller keeps them somewhere durable:
//!
//! 1. [`Image::draft_backing`] works out the new header; an error here has changed nothing.
//! 2. The caller makes the draft's bytes durable, as a note of what it is about to do.
//! 3. [`Image::put_header`] flushes the image, writes the new header and syncs.
//! 4. The caller drops its note. After a crash before that, [`write_header`] does 3 again from the note.
//!
//! Between these steps a guest's writes may move the tables of the image, and with them the header. What moves lies
//! in the fixed fields, the first 112 bytes, and so in the first sector, which is there as a whole or not at all.
//! So these fields are never taken from a draft where the file or the open image can tell them.

use super::error::{Error, Result};
use super::layout::BackingLabel;
use super::notes::renew_notes;
use super::open::{Image, State};
use crate::format::{Backing, HEADER_PROBE, Header, LayerNotes, RawHeader};
use crate::storage::Blob;
use crate::units::{ByteCount, GuestOffset, HostOffset};
use std::sync::atomic::Ordering;

/// A header that is about to be written.
#[doc = include_str!("examples/headers.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderDraft {
    backing: Option<Backing>,
    /// What the image knows of the catalogue then; as before when absent.
    notes: Option<LayerNotes>,
    bytes: Vec<u8>,
}

impl HeaderDraft {
    /// The bytes that the file will begin with, up to where the header before it ended if that was longer.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Image {
    /// The header as it is, but for what the image is based on: another file, or none. Nothing is written.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] when the name is no lawful one, or does not fit into the first cluster with all that the
    /// header holds; [`Error::Storage`].
    pub fn draft_backing(&self, backing: Option<BackingLabel>) -> Result<HeaderDraft> {
        self.draft(backing, None)
    }

    /// As [`Image::draft_backing`], with other notes. An image that has no ids gets none.
    ///
    /// # Errors
    ///
    /// As [`Image::draft_backing`].
    pub fn draft_noted(&self, backing: Option<BackingLabel>, notes: LayerNotes) -> Result<HeaderDraft> {
        self.draft(backing, Some(notes))
    }

    fn draft(&self, backing: Option<BackingLabel>, notes: Option<LayerNotes>) -> Result<HeaderDraft> {
        let backing = backing.map(|label| Backing { name: label.name, format: Some(label.format) });
        let mut draft = HeaderDraft { backing, notes, bytes: Vec::new() };
        draft.bytes = self.encode_backed(&self.state.read(), &draft)?.1;
        Ok(draft)
    }

    /// Puts a draft in the place of the header, which changes what the image is based on and nothing else. What was
    /// written to the image before is flushed first: the new header may show what the old one hid. Durable when it
    /// returns.
    ///
    /// Where tables of the image have moved since the draft was made, the header names them as they are now.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`]; those of [`Image::flush`]; [`Error::Storage`]. When the write of the header itself has
    /// failed, nothing more is written to the image ([`Error::Failed`]) before it was repaired with [`write_header`]
    /// and opened again.
    pub fn put_header(&self, draft: &HeaderDraft) -> Result<()> {
        self.admit_write(GuestOffset::ZERO, ByteCount::ZERO)?;
        let _alone = self.growing.lock();
        let mut state = self.state.write();
        self.refuse_when_frozen()?;
        self.flush_state(&mut state)?;
        let (header, bytes) = self.encode_backed(&state, draft)?;
        let written = self.blob.write_at(HostOffset::ZERO, &bytes).and_then(|()| self.blob.sync());
        if written.is_err() {
            self.failed.store(true, Ordering::Release);
        }
        written?;
        state.header = header;
        Ok(())
    }

    /// The present header with another backing file, and its bytes, which cover all of the present one.
    fn encode_backed(&self, state: &State, draft: &HeaderDraft) -> Result<(Header, Vec<u8>)> {
        let mut header = state.header.clone();
        header.set_backing(draft.backing.clone());
        if let Some(notes) = &draft.notes {
            renew_notes(&mut header, notes);
        }
        let mut bytes = header.encode().map_err(|source| self.malformed(source))?;
        let present = state.header.encode().map_err(|source| self.malformed(source))?.len();
        let covered = present.max(self.name_end_on_disk()?).min(header.geometry.cluster_size().as_usize());
        bytes.resize(bytes.len().max(covered), 0);
        Ok((header, bytes))
    }

    /// Where the backing name ends in the file: other writers put it anywhere in the first cluster.
    fn name_end_on_disk(&self) -> Result<usize> {
        let Some(raw) = raw_header(&*self.blob)? else { return Ok(0) };
        let end = raw.backing_file_offset.saturating_add(u64::from(raw.backing_file_size));
        Ok(usize::try_from(end).unwrap_or(usize::MAX))
    }
}

/// Writes the bytes of a [`HeaderDraft`] into a file whose header may be half the old one and half the new, or
/// wholly either. For files that are not open as images: what an open one has in memory is not changed. Durable
/// when it returns; doing it again changes nothing.
///
/// The size of the disk and the places of the tables are kept as the file has them, which may be newer than the
/// draft; where it does not begin as a header at all, they are taken from the draft, too.
///
/// An example is at [`HeaderDraft`].
///
/// # Errors
///
/// [`Error::Format`] when the bytes are no header, or not one for an image like this one; nothing was written then.
/// [`Error::Storage`].
pub fn write_header(blob: &dyn Blob, name: &str, bytes: &[u8]) -> Result<()> {
    let malformed = |source| Error::Format { image: name.to_owned(), source };
    let mut header = Header::parse(bytes).map_err(malformed)?;
    if let Some(found) = raw_header(blob)? {
        let draft = RawHeader::parse(bytes).map_err(malformed)?;
        let shape = |raw: &RawHeader| (raw.version, raw.cluster_bits, raw.refcount_order);
        if shape(&found) != shape(&draft) {
            return Err(Error::OtherImage { image: name.to_owned() });
        }
        header.size = ByteCount::new(found.size);
        header.l1_entries = found.l1_size;
        header.l1_table = HostOffset::new(found.l1_table_offset);
        header.refcount_table = HostOffset::new(found.refcount_table_offset);
        header.refcount_table_clusters = found.refcount_table_clusters;
    }
    let mut whole = header.encode().map_err(malformed)?;
    whole.resize(whole.len().max(bytes.len()), 0);
    blob.write_at(HostOffset::ZERO, &whole)?;
    blob.sync()?;
    Ok(())
}

/// The fixed fields of the header in a file, if it begins with some.
fn raw_header(blob: &dyn Blob) -> Result<Option<RawHeader>> {
    let mut probe = vec![0; blob.length()?.min(ByteCount::of(HEADER_PROBE)).as_usize()];
    blob.read_at(HostOffset::ZERO, &mut probe)?;
    Ok(RawHeader::parse(&probe).ok())
}
