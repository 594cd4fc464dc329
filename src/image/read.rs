//! Reading: what this image has goes into the buffer, what it lacks is handed back.

use super::error::Result;
use super::map::Mapping;
use super::open::Image;
use crate::storage::read_zero_extended;
use crate::units::{ByteCount, GuestOffset};
use std::ops::Range;

impl Image {
    /// Fills `buffer` with the bytes from `at` on, as far as this image defines them.
    ///
    /// What it does not define is left untouched and added to `holes` as ranges of the buffer, in order, none
    /// of them empty; the layer below has the say there.
    ///
    /// # Errors
    ///
    /// [`Error::PastEndOfDisk`](super::Error::PastEndOfDisk); broken tables; data that lies past the end of the
    /// file; compressed clusters that do not hold a cluster ([`Error::Format`](super::Error::Format)); data that is encrypted or in an external
    /// file ([`Error::Unsupported`](super::Error::Unsupported)); [`Error::Storage`](super::Error::Storage). The buffer may then hold anything.
    pub fn read(&self, at: GuestOffset, buffer: &mut [u8], holes: &mut Vec<Range<usize>>) -> Result<()> {
        self.admit(at, ByteCount::of(buffer.len()))?;
        let mut done = 0;
        while done < buffer.len() {
            let here = at + ByteCount::of(done);
            // The lock is held while the bytes are read: no cluster is given to somebody else meanwhile.
            let state = self.state_for(here)?;
            let run = self.run(&state, here, ByteCount::of(buffer.len() - done))?;
            let length = run.length.as_usize();
            if !matches!(run.mapping, Mapping::Absent | Mapping::Zero) {
                self.refuse_unreadable(&state)?;
            }
            let piece = &mut buffer[done..done + length];
            match run.mapping {
                Mapping::Absent => add_hole(holes, done..done + length),
                Mapping::Zero => piece.fill(0),
                Mapping::Data { at } => read_zero_extended(&*self.blob, state.end.as_length(), at, piece)?,
                Mapping::Compressed(extent) => {
                    let inside = self.geometry.offset_in_cluster(here);
                    self.read_compressed(&state, extent, inside, piece)?;
                }
            }
            done += length;
        }
        Ok(())
    }
}

/// Adds a hole behind the others, as one with the last when they touch.
fn add_hole(holes: &mut Vec<Range<usize>>, hole: Range<usize>) {
    match holes.last_mut() {
        Some(last) if last.end == hole.start => last.end = hole.end,
        _ => holes.push(hole),
    }
}
