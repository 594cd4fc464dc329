//! A read-only map of an open file, copied out of and never lent: the one file of this crate with `unsafe`.
//!
//! Why copies: a `&[u8]` promises that its bytes do not change, and bytes of a map change whenever anybody writes
//! to the file. A copy into the caller's buffer makes no such promise. What is copied is validated after the copy,
//! never in the map.

#![expect(unsafe_code, reason = "a map can only be read through pointers; each use carries its proof")]

use crate::units::{ByteCount, HostOffset};
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::io;
use std::ptr;

/// A read-only map of the first bytes of a file.
pub(super) struct Mapped {
    map: MmapRaw,
}

impl Mapped {
    /// Maps the first `length` bytes of `file`, which must be there and must not be zero.
    ///
    /// # Errors
    ///
    /// Whatever the system says, and `InvalidInput` for a length of zero or one past the address space.
    pub(super) fn map(file: &File, length: ByteCount) -> io::Result<Self> {
        let length = usize::try_from(length.as_u64()).map_err(|_| io::ErrorKind::InvalidInput)?;
        if length == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let map = MmapOptions::new().len(length).map_raw_read_only(file)?;
        Ok(Self { map })
    }

    /// Fills `buffer` with the bytes from `at` on, or does nothing and answers `false` when they reach past the
    /// map.
    ///
    /// The caller sees to it that the file has not become shorter than the range: the process would be killed.
    pub(super) fn read_at(&self, at: HostOffset, buffer: &mut [u8]) -> bool {
        let Ok(start) = usize::try_from(at.as_u64()) else { return false };
        let within = start.checked_add(buffer.len()).is_some_and(|end| end <= self.map.len());
        if !within {
            return false;
        }
        // SAFETY:
        // * Source in bounds: `start + buffer.len() <= map.len()` was checked just above without overflow, and
        //   `map` keeps exactly `map.len()` bytes mapped for reading, as one allocation, as long as `self` lives.
        //   So the pointer arithmetic stays inside it and each byte is readable.
        // * Target: an exclusive slice, so it is writable and cannot overlap the map, which is never written
        //   through by this process (it is mapped for reading only) and never lent as a slice.
        // * Any byte is a valid `u8`, and bytes have no alignment.
        // * Change under the copy: only frozen files are mapped, which nobody writes to. Should somebody do so
        //   nevertheless, it is the kernel that stores, through no reference of this process; the copy then holds
        //   old or new bytes, and the caller treats them as hostile input in any case.
        // * Truncation: not a matter of memory safety; the kernel ends the process. Within this store it is
        //   ruled out by `bound`, outside of it `MapFrozen::Yes` says so.
        unsafe {
            ptr::copy_nonoverlapping(self.map.as_ptr().add(start), buffer.as_mut_ptr(), buffer.len());
        }
        true
    }
}

impl std::fmt::Debug for Mapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mapped").field("length", &self.map.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn every_range_within_the_map_is_copied_and_every_other_one_is_refused() -> io::Result<()> {
        let bytes: Vec<u8> = (0..=255).cycle().take(4096 + 7).collect();
        let mut file = tempfile::tempfile()?;
        file.write_all(&bytes)?;
        let mapped = Mapped::map(&file, ByteCount::of(bytes.len()))?;
        for start in [0, 1, 4095, 4096, bytes.len() - 1, bytes.len()] {
            for length in [0, 1, 7, 4096, bytes.len(), bytes.len() + 1] {
                let mut buffer = vec![0xEE; length];
                let copied = mapped.read_at(HostOffset::new(start as u64), &mut buffer);
                let expected = bytes.get(start..start + length);
                assert_eq!(copied.then_some(&buffer[..]), expected, "{start} + {length}");
                assert!(copied || buffer.iter().all(|byte| *byte == 0xEE), "{start} + {length}");
            }
        }
        for start in [u64::MAX, u64::MAX - 3, i64::MAX as u64] {
            assert!(!mapped.read_at(HostOffset::new(start), &mut [0; 4]));
        }
        Ok(())
    }

    #[test]
    fn nothing_is_no_map() -> io::Result<()> {
        let file = tempfile::tempfile()?;
        let Err(error) = Mapped::map(&file, ByteCount::ZERO) else { panic!("nothing was mapped") };
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        Ok(())
    }
}
