//! Big-endian numbers in a slice of bytes whose length nobody vouches for.

use super::error::{Error, Malformed, Rule};

/// A record's bytes, read by position. A read past the end is an error that names the record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    structure: &'static str,
    bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// Takes `bytes` as the record called `structure`.
    pub(super) const fn new(structure: &'static str, bytes: &'a [u8]) -> Self {
        Self { structure, bytes }
    }

    /// `length` bytes from `at` on.
    pub(super) fn slice(self, at: usize, length: usize) -> Result<&'a [u8], Error> {
        let end = at.saturating_add(length);
        self.bytes.get(at..end).ok_or_else(|| self.too_short(end))
    }

    /// The byte at `at`.
    pub(super) fn u8(self, at: usize) -> Result<u8, Error> {
        self.array::<1>(at).map(|[byte]| byte)
    }

    /// The 16-bit number at `at`.
    pub(super) fn u16(self, at: usize) -> Result<u16, Error> {
        self.array(at).map(u16::from_be_bytes)
    }

    /// The 32-bit number at `at`.
    pub(super) fn u32(self, at: usize) -> Result<u32, Error> {
        self.array(at).map(u32::from_be_bytes)
    }

    /// The 64-bit number at `at`.
    pub(super) fn u64(self, at: usize) -> Result<u64, Error> {
        self.array(at).map(u64::from_be_bytes)
    }

    /// `N` bytes from `at` on.
    pub(super) fn array<const N: usize>(self, at: usize) -> Result<[u8; N], Error> {
        let end = at.saturating_add(N);
        self.slice(at, N)?.try_into().map_err(|_| self.too_short(end))
    }

    /// The error of a record that should reach to `end`.
    fn too_short(self, end: usize) -> Error {
        Error::Malformed(Malformed {
            structure: self.structure,
            field: "length",
            found: self.bytes.len() as u64,
            rule: Rule::AtLeast(end as u64),
        })
    }
}

/// Appends zeros up to the next multiple of eight bytes.
pub(super) fn pad_to_8(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(8), 0);
}
