//! The notes in the header of a layer: put in, renewed with a header that is exchanged, and the one mark that is
//! changed in place.
//!
//! The mark says when the content was last changed by a merge. It is eight bytes that lie in one sector, so it is there
//! or not, and the rest of the header does not move.

use super::error::{Error, Result};
use super::open::Image;
use crate::format::{Extension, HEADER_PROBE, Header, LayerIdentity, LayerNotes, RawHeader};
use crate::storage::{Blob, read_zero_extended};
use crate::units::{ByteCount, GuestOffset, HostOffset};

/// The largest part of the first cluster that the notes take: QEMU adds extensions of its own when it rewrites a header.
const SHARE: usize = 4;
/// In clusters up to this size there is no room for both.
const SMALL_CLUSTER: usize = 2048;
/// The size of an extension's head, and what extensions are aligned to.
const HEAD: usize = 8;

impl Image {
    /// What the image knows of the catalogue.
    #[must_use]
    pub fn notes(&self) -> Option<LayerNotes> {
        let state = self.state.read();
        let ours = state.header.extension(Extension::OURS)?;
        LayerNotes::parse(&ours.data)
    }

    /// Says in the notes that the content changes in this generation of the catalogue: what was written of it before
    /// does not hold any more. An image without notes stays as it is. Durable when it returns.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`]; [`Error::Format`] when the file begins with no header; [`Error::Storage`].
    pub fn note_change(&self, generation: u64) -> Result<()> {
        self.admit_write(GuestOffset::ZERO, ByteCount::ZERO)?;
        let mut state = self.state.write();
        let Some(ours) = state.header.extension(Extension::OURS) else { return Ok(()) };
        let mut data = ours.data.clone();
        let Some(at) = payload_in(&*self.blob, &self.name)?.filter(|_| LayerNotes::parse(&data).is_some())
        else {
            return Ok(());
        };
        let mark = generation.to_be_bytes();
        let place = LayerNotes::CHANGED_AT;
        self.blob.write_at(at + ByteCount::of(place), &mark)?;
        self.blob.sync()?;
        data[place..place + mark.len()].copy_from_slice(&mark);
        state.header.set_extension(Extension { kind: Extension::OURS, data });
        Ok(())
    }
}

/// How many bytes our extension may take in a header that has everything else already.
pub(super) fn room_for_notes(header: &Header) -> usize {
    let mut others = header.clone();
    others.extensions.retain(|extension| extension.kind != Extension::OURS);
    let cluster = header.geometry.cluster_size().as_usize();
    let taken = others.encode().map_or(cluster, |bytes| bytes.len());
    // The head of the extension, and whole words.
    let free = cluster.saturating_sub(taken + HEAD) / HEAD * HEAD;
    if cluster > SMALL_CLUSTER { free.min(cluster / SHARE) } else { free }
}

/// Puts ids and notes into a header, in place of what it had, as far as there is room.
pub(super) fn note(header: &mut Header, identity: &LayerIdentity, notes: &LayerNotes) {
    let data = notes.encode(identity, room_for_notes(header));
    header.set_extension(Extension { kind: Extension::OURS, data });
}

/// Exchanges the notes of a header that has ids. What it says of its own content stays, and what only ever grows never
/// shrinks.
pub(super) fn renew_notes(header: &mut Header, notes: &LayerNotes) {
    let Some(ours) = header.extension(Extension::OURS) else { return };
    let Ok(identity) = LayerIdentity::parse(&ours.data) else { return };
    let before = LayerNotes::parse(&ours.data).unwrap_or_default();
    let renewed = LayerNotes {
        changed: before.changed,
        number: notes.number.max(before.number),
        floor: notes.floor.max(before.floor),
        ..notes.clone()
    };
    note(header, &identity, &renewed);
}

/// Where in the file the payload of our extension begins: other writers put it anywhere in the list.
fn payload_in(blob: &dyn Blob, name: &str) -> Result<Option<HostOffset>> {
    let malformed = |source| Error::Format { image: name.to_owned(), source };
    let length = blob.length()?;
    let mut probe = vec![0; HEADER_PROBE];
    read_zero_extended(blob, length, HostOffset::ZERO, &mut probe)?;
    let raw = RawHeader::parse(&probe).map_err(malformed)?;
    let mut cluster = vec![0; raw.cluster_size().as_usize()];
    read_zero_extended(blob, length, HostOffset::ZERO, &mut cluster)?;
    let mut at = usize::try_from(raw.header_length).unwrap_or(usize::MAX);
    loop {
        let head = cluster.get(at..).and_then(|list| list.first_chunk::<HEAD>());
        let Some([a, b, c, d, e, f, g, h]) = head.copied() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes([e, f, g, h])).unwrap_or(usize::MAX);
        match u32::from_be_bytes([a, b, c, d]) {
            0 => return Ok(None),
            Extension::OURS => return Ok(Some(HostOffset::ZERO + ByteCount::of(at + HEAD))),
            _ => at = at.saturating_add(HEAD).saturating_add(length.saturating_add(HEAD - 1) / HEAD * HEAD),
        }
    }
}
