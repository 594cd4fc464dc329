//! A note in the header that says which layer of which pool an image is, put there without a moment at which a
//! power cut could leave half a header.
//!
//! The note is one more extension, so the backing name moves behind it, often across a sector:
//!
//! ```text
//! before  | fields | extensions | end |      name                |
//! after   | fields | extensions | note: head | data     | end | name |
//! ```
//!
//! 1. A copy of the name is written where it will be. The note is padded so that the copy clears the old name.
//! 2. The offset of the name, eight bytes in the first sector, is turned to the copy.
//! 3. The data of the note and the new end marker are written, behind the old end marker, where nobody reads.
//! 4. The old end marker, eight bytes that lie in one sector, becomes the head of the note.
//!
//! Each step is synced before the next one, and after each of them the header is whole.

use super::error::Result;
use super::notes::room_for_notes;
use super::open::Image;
use crate::format::{Extension, Header, LayerIdentity, LayerNotes};
use crate::units::{ByteCount, GuestOffset, HostOffset};
use std::ops::Range;

/// The bytes of the field that says where the backing name is (qcow2 specification, header).
const NAME_OFFSET: Range<usize> = 8..16;

/// The size of an extension's head, and of the end marker.
const HEAD: usize = 8;

impl Image {
    /// Writes into the header which layer of which pool the image is. Durable when it returns.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`](super::Error::ReadOnly); [`Error::Format`](super::Error::Format) when the header has no
    /// room for it; [`Error::Storage`](super::Error::Storage). The header says then what it said before.
    pub fn stamp(&self, identity: LayerIdentity) -> Result<()> {
        self.stamp_with(&|_| identity.encode())
    }

    /// As [`Image::stamp`], with what the image knows of the catalogue, as far as the header has room.
    ///
    /// # Errors
    ///
    /// As [`Image::stamp`].
    pub fn stamp_noted(&self, identity: LayerIdentity, notes: &LayerNotes) -> Result<()> {
        self.stamp_with(&|header| {
            // The name is copied behind the note, which is made as long as the name for that.
            let name = header.backing.as_ref().map_or(0, |backing| backing.name.len());
            notes.encode(&identity, room_for_notes(header).saturating_sub(name))
        })
    }

    fn stamp_with(&self, payload: &dyn Fn(&Header) -> Vec<u8>) -> Result<()> {
        self.admit_write(GuestOffset::ZERO, ByteCount::ZERO)?;
        let mut state = self.state.write();
        let mut unstamped = state.header.clone();
        unstamped.extensions.retain(|extension| extension.kind != Extension::OURS);
        let stamped = self.stamped(&unstamped, payload(&unstamped));
        let malformed = |source| self.malformed(source);
        let (old, new) = (unstamped.encode().map_err(malformed)?, stamped.encode().map_err(malformed)?);
        let name = stamped.backing.as_ref().map_or(0, |backing| backing.name.len());
        let end_marker = old.len() - name - HEAD;
        if unstamped == state.header && self.is_on_disk(&old)? {
            if name > 0 {
                self.put_durably(&new, new.len() - name..new.len())?;
                self.put_durably(&new, NAME_OFFSET)?;
            }
            self.put_durably(&new, end_marker + HEAD..new.len() - name)?;
            self.put_durably(&new, end_marker..end_marker + HEAD)?;
        } else {
            // A note of before is exchanged for one of the same length, or the header is laid out in a way of its own.
            self.put_durably(&new, 0..new.len())?;
        }
        state.header = stamped;
        Ok(())
    }

    /// The header with the note, which is long enough for the name behind it to clear the name as it lies now.
    fn stamped(&self, unstamped: &Header, mut data: Vec<u8>) -> Header {
        let name = unstamped.backing.as_ref().map_or(0, |backing| backing.name.len());
        data.resize(data.len().max(name).next_multiple_of(HEAD), 0);
        let mut stamped = unstamped.clone();
        stamped.extensions.push(Extension { kind: Extension::OURS, data });
        stamped
    }

    /// Whether the file begins with these bytes.
    fn is_on_disk(&self, bytes: &[u8]) -> Result<bool> {
        let mut found = vec![0; bytes.len()];
        self.blob.read_at(HostOffset::ZERO, &mut found)?;
        Ok(found == bytes)
    }

    fn put_durably(&self, header: &[u8], range: Range<usize>) -> Result<()> {
        self.blob.write_at(HostOffset::ZERO + ByteCount::of(range.start), &header[range])?;
        self.blob.sync()?;
        Ok(())
    }
}
