//! A header of ours of which a sector never arrived.

use super::bytes::Record;
use super::extension::Extension;
use super::identity::LayerIdentity;
use crate::units::ByteCount;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
const BACKING_OFFSET: usize = 8;
const BACKING_SIZE: usize = 16;
const HEADER_LENGTH: usize = 100;
const EXTENSION_HEAD: usize = 8;

impl LayerIdentity {
    /// The most bytes of a file that [`LayerIdentity::in_torn_header`] can look at to any effect.
    pub const TORN_HEADER_MAX: ByteCount = ByteCount::kib(4);

    /// Which layer a file is that begins with `start`, when its first sector is that of a header of ours and one of the
    /// others that the header needs is all zeros. `None` for a header that is whole, and for anything else.
    #[must_use]
    pub fn in_torn_header(start: &[u8]) -> Option<Self> {
        let first = Record::new("torn header", start.get(..SECTOR)?);
        let mut at = first.u32(HEADER_LENGTH).ok()? as usize;
        let (length, identity) = loop {
            let (kind, length) = (first.u32(at).ok()?, first.u32(at + 4).ok()? as usize);
            let data = at.checked_add(EXTENSION_HEAD)?;
            match kind {
                0 => return None,
                Extension::OURS => {
                    let data = first.slice(data, length.min(SECTOR.checked_sub(data)?)).ok()?;
                    break (at + EXTENSION_HEAD + length, Self::parse(data).ok()?);
                }
                _ => at = data.checked_add(length.checked_next_multiple_of(8)?)?,
            }
        };
        let backing = usize::try_from(first.u64(BACKING_OFFSET).ok()?).ok()?;
        let end = length.max(backing.checked_add(first.u32(BACKING_SIZE).ok()? as usize)?);
        let mut others = start.get(SECTOR..end)?.chunks(SECTOR);
        others.any(|sector| sector.iter().all(|byte| *byte == 0)).then_some(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: LayerIdentity = LayerIdentity { pool: [1; 16], volume: [2; 16], layer: [3; 16] };

    /// A header whose extension of ours has a tail of so many bytes, and a backing name behind it.
    fn header(tail: usize) -> Vec<u8> {
        let data = [IDENTITY.encode(), vec![0xaa; tail]].concat();
        let mut bytes = vec![0; 104];
        bytes[HEADER_LENGTH + 3] = 104;
        bytes.extend(Extension::OURS.to_be_bytes());
        bytes.extend(u32::try_from(data.len()).expect("short").to_be_bytes());
        bytes.extend(&data);
        bytes.resize(bytes.len().next_multiple_of(8) + 8, 0);
        let backing = bytes.len();
        bytes.extend([b'b'; 40]);
        bytes[BACKING_OFFSET + 6..BACKING_OFFSET + 8]
            .copy_from_slice(&u16::try_from(backing).expect("near").to_be_bytes());
        bytes[BACKING_SIZE + 3] = 40;
        bytes.resize(4096, 0);
        bytes
    }

    #[test]
    fn a_header_is_torn_when_a_later_sector_is_gone() {
        let whole = header(1300);
        assert_eq!(LayerIdentity::in_torn_header(&whole), None);
        for sector in 1..3 {
            let mut torn = whole.clone();
            torn[sector * SECTOR..(sector + 1) * SECTOR].fill(0);
            assert_eq!(LayerIdentity::in_torn_header(&torn), Some(IDENTITY), "sector {sector}");
        }
        // Beyond it there is nothing to miss.
        let mut torn = whole;
        torn[..SECTOR].fill(0);
        assert_eq!(LayerIdentity::in_torn_header(&torn), None);
    }

    #[test]
    fn a_header_reaches_to_the_last_byte_of_what_is_ours() {
        // 8 bytes of it lie in the third sector, and there is no backing name.
        let mut bytes = header(2 * SECTOR + 8 - 104 - EXTENSION_HEAD - IDENTITY.encode().len());
        bytes[BACKING_OFFSET..BACKING_SIZE + 4].fill(0);
        bytes[2 * SECTOR + 8..].fill(0);
        assert_eq!(LayerIdentity::in_torn_header(&bytes), None);
        bytes[2 * SECTOR..].fill(0);
        assert_eq!(LayerIdentity::in_torn_header(&bytes), Some(IDENTITY));
    }

    #[test]
    fn what_stands_behind_the_end_of_the_extensions_is_not_read() {
        let mut torn = header(1300);
        torn[SECTOR..2 * SECTOR].fill(0);
        assert_eq!(LayerIdentity::in_torn_header(&torn), Some(IDENTITY));
        torn.splice(104..104, [0; EXTENSION_HEAD]);
        torn[SECTOR..2 * SECTOR].fill(0);
        assert_eq!(LayerIdentity::in_torn_header(&torn), None);
    }

    #[test]
    fn a_header_of_one_sector_is_never_torn() {
        assert_eq!(LayerIdentity::in_torn_header(&header(100)), None);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for byte in [0, 1, 0x7f, 0xff] {
            for length in [0, 100, 511, 512, 4096] {
                assert_eq!(LayerIdentity::in_torn_header(&vec![byte; length]), None);
            }
        }
        for at in 0..SECTOR {
            let mut bytes = header(1300);
            bytes[at] = 0xff;
            let _ = LayerIdentity::in_torn_header(&bytes);
        }
    }
}
