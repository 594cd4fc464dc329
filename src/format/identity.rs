//! What we write about a layer into its own file: the payload of our header extension.
//!
//! ```text
//! byte  0      version, 1
//! bytes 1-7    zero
//! bytes 8-23   pool
//! bytes 24-39  volume
//! bytes 40-55  layer
//! bytes 56-    notes, where there is room (`notes`), and later additions; a reader of the ids ignores them
//! ```
//! The catalogue decides what a layer is. This lets a file that was lost from it be told apart from a
//! stranger's.

use super::bytes::Record;
use super::error::{Detail, Error, Rule, Unsupported, require};

const VERSION: u8 = 1;
const RESERVED: usize = 1;
const POOL: usize = 8;
const VOLUME: usize = 24;
const LAYER: usize = 40;
const END: usize = 56;
const _: () = assert!(POOL + 16 == VOLUME && VOLUME + 16 == LAYER && LAYER + 16 == END);

/// Whose layer a file is. The ids are uuids in their big-endian form.
///
/// An example is at [`Header`](crate::format::Header).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerIdentity {
    /// The pool that made the file.
    pub pool: [u8; 16],
    /// The volume that the layer belonged to when the file was made.
    pub volume: [u8; 16],
    /// The layer.
    pub layer: [u8; 16],
}

impl LayerIdentity {
    /// The payload as it is stored, 56 bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; END];
        bytes[0] = VERSION;
        bytes[POOL..VOLUME].copy_from_slice(&self.pool);
        bytes[VOLUME..LAYER].copy_from_slice(&self.volume);
        bytes[LAYER..END].copy_from_slice(&self.layer);
        bytes
    }

    /// Reads a payload. What comes after the ids is a later addition and ignored.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for another version; [`Error::Malformed`] when the payload is short or its
    /// reserved bytes are not zero.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let record = Record::new("layer identity", bytes);
        let version = record.u8(0)?;
        if version != VERSION {
            let detail = Detail::Number(u64::from(version));
            return Err(Unsupported { feature: "layer identity version", detail }.into());
        }
        let reserved = record.slice(RESERVED, POOL - RESERVED)?;
        let found = reserved.iter().fold(0, |value, &byte| value << 8 | u64::from(byte));
        require(found == 0, "layer identity", "reserved bytes", found, Rule::ReservedBitsZero)?;
        Ok(Self { pool: record.array(POOL)?, volume: record.array(VOLUME)?, layer: record.array(LAYER)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: LayerIdentity = LayerIdentity { pool: [0x11; 16], volume: [0x22; 16], layer: [0x33; 16] };

    #[test]
    fn the_payload_has_these_bytes() -> Result<(), Error> {
        let mut golden = vec![1, 0, 0, 0, 0, 0, 0, 0];
        golden.extend([0x11; 16]);
        golden.extend([0x22; 16]);
        golden.extend([0x33; 16]);
        assert_eq!(IDENTITY.encode(), golden);
        assert_eq!(LayerIdentity::parse(&golden)?, IDENTITY);
        Ok(())
    }

    #[test]
    fn a_longer_payload_of_the_same_version_is_read_by_its_first_bytes() -> Result<(), Error> {
        let mut longer = IDENTITY.encode();
        longer.extend([0xff; 40]);
        assert_eq!(LayerIdentity::parse(&longer)?, IDENTITY);
        Ok(())
    }

    #[test]
    fn every_shorter_payload_is_refused() {
        let golden = IDENTITY.encode();
        for length in 0..golden.len() {
            let Err(Error::Malformed(wrong)) = LayerIdentity::parse(&golden[..length]) else {
                panic!("{length} bytes are enough")
            };
            assert_eq!((wrong.field, wrong.found), ("length", length as u64));
        }
    }

    #[test]
    fn every_flipped_bit_is_refused_or_changes_an_id() {
        let golden = IDENTITY.encode();
        for bit in 0..golden.len() * 8 {
            let mut bytes = golden.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match LayerIdentity::parse(&bytes) {
                Ok(identity) => {
                    assert!(bit >= 64 && identity != IDENTITY, "bit {bit}");
                    assert_eq!(identity.encode(), bytes);
                }
                Err(Error::Unsupported(unknown)) => {
                    assert!(bit < 8, "bit {bit}");
                    assert_eq!(unknown.feature, "layer identity version");
                }
                Err(Error::Malformed(wrong)) => {
                    assert!((8..64).contains(&bit), "bit {bit}");
                    assert_eq!(wrong.rule, Rule::ReservedBitsZero);
                }
            }
        }
    }
}
