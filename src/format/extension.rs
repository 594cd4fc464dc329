//! Header extensions: typed records between the fixed fields and the backing name, kept byte for byte.
//!
//! ```text
//! bytes 0-3  type, 0 ends the list
//! bytes 4-7  length of the data
//! bytes 8-   the data, padded with zeros to a multiple of 8 bytes
//! ```
//! (qcow2 specification, header extensions.)

use super::Geometry;
use super::bytes::{Record, pad_to_8};
use super::error::{Error, Malformed, Rule, require};
use crate::units::{ByteCount, HostOffset};

/// A header extension as it was found.
#[doc = include_str!("examples/extensions.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The type. Never zero, which ends the list.
    pub kind: u32,
    /// The data without its padding.
    pub data: Vec<u8>,
}

const END: u32 = 0;
const HEAD: usize = 8;

impl Extension {
    /// The format of the backing file, as text.
    pub const BACKING_FORMAT: u32 = 0xe279_2aca;
    /// The names of feature bits, 48 bytes each, for messages.
    pub const FEATURE_NAMES: u32 = 0x6803_f857;
    /// Where the directory of persistent bitmaps lies: [`BitmapsExtension`].
    pub const BITMAPS: u32 = 0x2385_2875;
    /// Where the LUKS header lies: [`CryptoExtension`].
    pub const CRYPTO: u32 = 0x0537_be77;
    /// The name of the external data file, as text.
    pub const DATA_FILE: u32 = 0x4441_5441;
    /// What we write about a layer, "SNAP": [`LayerIdentity`](super::LayerIdentity).
    pub const OURS: u32 = 0x534e_4150;

    /// The largest number of extensions in a header. QEMU has no limit; a chain of empty ones costs it time.
    pub const COUNT_MAX: usize = 256;

    /// Those that appear once at most. Of others nobody knows (qcow2 specification, header extensions).
    const ONCE: [u32; 6] =
        [Self::BACKING_FORMAT, Self::FEATURE_NAMES, Self::BITMAPS, Self::CRYPTO, Self::DATA_FILE, Self::OURS];
}

/// Reads the list in `area`, from the end of the fixed fields to the backing name or to the end of what
/// is there. It ends with its end marker, or with the area.
pub(super) fn parse_list(area: &[u8]) -> Result<Vec<Extension>, Error> {
    let mut extensions = Vec::new();
    let mut rest = area;
    while !rest.is_empty() {
        let record = Record::new("header extension", rest);
        let [kind, length] = [record.u32(0)?, record.u32(4)?];
        let available = (rest.len() - HEAD) as u64;
        let fits = u64::from(length) <= available;
        require(fits, "header extension", "length", u64::from(length), Rule::AtMost(available))?;
        if kind == END {
            return Ok(extensions);
        }
        let length = ByteCount::new(u64::from(length)).as_usize();
        extensions.push(Extension { kind, data: record.slice(HEAD, length)?.to_vec() });
        check_count(&extensions)?;
        rest = rest.get(HEAD + length.next_multiple_of(8)..).unwrap_or_default();
    }
    Ok(extensions)
}

/// Appends the list and its end marker to `bytes`.
pub(super) fn encode_list(extensions: &[Extension], bytes: &mut Vec<u8>) {
    for extension in extensions {
        let length = u32::try_from(extension.data.len()).unwrap_or(u32::MAX);
        bytes.extend(extension.kind.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(&extension.data);
        pad_to_8(bytes);
    }
    bytes.extend([0; HEAD]);
}

/// Checks that the list can be read back as it is.
pub(super) fn check_list(extensions: &[Extension]) -> Result<(), Error> {
    check_count(extensions)?;
    for (index, extension) in extensions.iter().enumerate() {
        let kind = extension.kind;
        require(kind != END, "header extension", "type", u64::from(kind), Rule::AtLeast(1))?;
        let earlier = extensions.iter().take(index);
        let repeated = Extension::ONCE.contains(&kind) && earlier.into_iter().any(|other| other.kind == kind);
        if repeated {
            let found = u64::from(kind);
            let field = "type";
            return Err(Malformed { structure: "header extension", field, found, rule: Rule::Once }.into());
        }
    }
    Ok(())
}

fn check_count(extensions: &[Extension]) -> Result<(), Error> {
    let count = extensions.len();
    let limit = Rule::AtMost(Extension::COUNT_MAX as u64);
    require(count <= Extension::COUNT_MAX, "header extension", "count", count as u64, limit)
}

/// Where the directory of persistent bitmaps lies.
///
/// It counts only while the autoclear feature "bitmaps" is set (qcow2 specification, bitmaps extension).
///
/// An example is at [`Extension`].
///
/// Another example is at [`BitmapEntry`](crate::format::BitmapEntry).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitmapsExtension {
    /// The number of bitmaps, 1 to 65,535.
    pub count: u32,
    /// The size of the directory, at most 1,024 bytes for each of 65,535 bitmaps (QEMU enforces).
    pub directory_size: ByteCount,
    /// Where the directory begins, aligned to a cluster and past the header.
    pub directory: HostOffset,
}

impl BitmapsExtension {
    /// The size of the data in bytes.
    pub const SIZE: usize = 24;

    const COUNT_MAX: u32 = 65_535;
    const DIRECTORY_SIZE_MAX: u64 = 1024 * 65_535;

    /// Reads the data of an extension of the kind [`Extension::BITMAPS`].
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] names the field that is out of its range.
    pub fn parse(data: &[u8], geometry: Geometry) -> Result<Self, Error> {
        let record = Record::new("bitmaps extension", data);
        let wrong = |holds, field, found, rule| require(holds, "bitmaps extension", field, found, rule);
        wrong(data.len() == Self::SIZE, "length", data.len() as u64, Rule::Exactly(Self::SIZE as u64))?;
        let [count, reserved] = [record.u32(0)?, record.u32(4)?];
        let [size, at] = [record.u64(8)?, record.u64(16)?];
        let counts = 1..=Self::COUNT_MAX;
        let rule = Rule::Between(1, u64::from(Self::COUNT_MAX));
        wrong(counts.contains(&count), "nb_bitmaps", u64::from(count), rule)?;
        wrong(reserved == 0, "reserved", u64::from(reserved), Rule::ReservedBitsZero)?;
        let rule = Rule::AtMost(Self::DIRECTORY_SIZE_MAX);
        wrong(size <= Self::DIRECTORY_SIZE_MAX, "bitmap_directory_size", size, rule)?;
        check_place("bitmaps extension", "bitmap_directory_offset", at, size, geometry)?;
        Ok(Self { count, directory_size: ByteCount::new(size), directory: HostOffset::new(at) })
    }

    /// The extension as it is stored.
    #[must_use]
    pub fn encode(self) -> Extension {
        let mut data = Vec::with_capacity(Self::SIZE);
        data.extend(self.count.to_be_bytes());
        data.extend([0; 4]);
        data.extend(self.directory_size.as_u64().to_be_bytes());
        data.extend(self.directory.as_u64().to_be_bytes());
        Extension { kind: Extension::BITMAPS, data }
    }
}

/// Where the LUKS header lies in the image (qcow2 specification, full disk encryption header pointer).
///
/// An example is at [`Extension`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CryptoExtension {
    /// Where it begins, aligned to a cluster and past the image's own header.
    pub at: HostOffset,
    /// Its size.
    pub length: ByteCount,
}

impl CryptoExtension {
    /// The size of the data in bytes.
    pub const SIZE: usize = 16;

    /// Reads the data of an extension of the kind [`Extension::CRYPTO`].
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] names the field that is out of its range.
    pub fn parse(data: &[u8], geometry: Geometry) -> Result<Self, Error> {
        let record = Record::new("crypto extension", data);
        let [at, length] = [record.u64(0)?, record.u64(8)?];
        let rule = Rule::Exactly(Self::SIZE as u64);
        require(data.len() == Self::SIZE, "crypto extension", "length", data.len() as u64, rule)?;
        check_place("crypto extension", "offset", at, length, geometry)?;
        Ok(Self { at: HostOffset::new(at), length: ByteCount::new(length) })
    }

    /// The extension as it is stored.
    #[must_use]
    pub fn encode(self) -> Extension {
        let mut data = Vec::with_capacity(Self::SIZE);
        data.extend(self.at.as_u64().to_be_bytes());
        data.extend(self.length.as_u64().to_be_bytes());
        Extension { kind: Extension::CRYPTO, data }
    }
}

/// Checks that `length` bytes at `at` begin with a cluster, past cluster 0, and end where a file may.
fn check_place(
    structure: &'static str,
    field: &'static str,
    at: u64,
    length: u64,
    geometry: Geometry,
) -> Result<(), Error> {
    let first = geometry.cluster_size().as_u64();
    let aligned = geometry.is_cluster_aligned(HostOffset::new(at));
    require(aligned, structure, field, at, Rule::ClusterAligned)?;
    require(at >= first, structure, field, at, Rule::AtLeast(first))?;
    let inside = at.checked_add(length).is_some_and(|end| end < 1 << 63);
    require(inside, structure, field, at, Rule::InsideFileOffsets)
}

#[cfg(test)]
mod tests {
    use super::super::L2Width;
    use super::*;

    fn geometry() -> Geometry {
        Geometry::new(16, 4, L2Width::Standard).expect("the numbers are lawful")
    }

    fn golden() -> (Vec<Extension>, Vec<u8>) {
        let extensions = vec![
            Extension { kind: Extension::BACKING_FORMAT, data: b"qcow2".to_vec() },
            Extension { kind: 0x1234_5678, data: Vec::new() },
            Extension { kind: 0x1234_5678, data: vec![0xee; 8] },
        ];
        let mut bytes = b"\xe2\x79\x2a\xca\0\0\0\x05qcow2\0\0\0".to_vec();
        bytes.extend(b"\x12\x34\x56\x78\0\0\0\0");
        bytes.extend(b"\x12\x34\x56\x78\0\0\0\x08\xee\xee\xee\xee\xee\xee\xee\xee");
        bytes.extend([0; 8]);
        (extensions, bytes)
    }

    #[test]
    fn a_list_has_these_bytes() -> Result<(), Error> {
        let (extensions, golden) = golden();
        let mut bytes = Vec::new();
        encode_list(&extensions, &mut bytes);
        assert_eq!(bytes, golden);
        assert_eq!(parse_list(&golden)?, extensions);
        check_list(&extensions)
    }

    #[test]
    fn a_list_ends_at_its_marker_or_with_its_area() -> Result<(), Error> {
        let (extensions, mut bytes) = golden();
        bytes.extend([0xff; 20]);
        assert_eq!(parse_list(&bytes)?, extensions);
        bytes.truncate(bytes.len() - 28);
        assert_eq!(parse_list(&bytes)?, extensions);
        assert_eq!(parse_list(&[])?, []);
        Ok(())
    }

    #[test]
    fn a_list_cut_at_any_length_is_refused_or_shorter() {
        let (extensions, bytes) = golden();
        for length in 0..bytes.len() {
            match parse_list(&bytes[..length]) {
                Ok(found) => assert!(extensions.starts_with(&found), "{length}: {found:?}"),
                Err(Error::Malformed(wrong)) => assert_eq!(wrong.structure, "header extension"),
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn a_length_past_the_area_is_refused() {
        let (_, mut bytes) = golden();
        bytes[4] = 0xff;
        let Err(Error::Malformed(wrong)) = parse_list(&bytes) else { panic!() };
        assert_eq!((wrong.found, wrong.rule), (0xff00_0005, Rule::AtMost(bytes.len() as u64 - 8)));
    }

    #[test]
    fn the_257th_extension_is_refused() -> Result<(), Error> {
        let mut extensions = vec![Extension { kind: 7, data: Vec::new() }; 256];
        let mut bytes = Vec::new();
        encode_list(&extensions, &mut bytes);
        assert_eq!(parse_list(&bytes)?, extensions);
        extensions.push(Extension { kind: 7, data: Vec::new() });
        let mut bytes = Vec::new();
        encode_list(&extensions, &mut bytes);
        for refused in [parse_list(&bytes).map(drop), check_list(&extensions)] {
            let Err(Error::Malformed(wrong)) = refused else { panic!() };
            assert_eq!((wrong.field, wrong.found, wrong.rule), ("count", 257, Rule::AtMost(256)));
        }
        Ok(())
    }

    #[test]
    fn what_appears_once_does_not_appear_twice() {
        for kind in Extension::ONCE {
            let Err(Error::Malformed(wrong)) = check_list(&vec![Extension { kind, data: vec![] }; 2]) else {
                panic!("{kind:#x} appears twice")
            };
            assert_eq!((wrong.found, wrong.rule), (u64::from(kind), Rule::Once));
        }
    }

    #[test]
    fn the_end_marker_is_not_an_extension() {
        let Err(Error::Malformed(wrong)) = check_list(&[Extension { kind: 0, data: vec![] }]) else {
            panic!()
        };
        assert_eq!((wrong.field, wrong.rule), ("type", Rule::AtLeast(1)));
    }

    #[test]
    fn the_bitmaps_extension_has_these_bytes() -> Result<(), Error> {
        let bitmaps = BitmapsExtension {
            count: 2,
            directory_size: ByteCount::new(80),
            directory: HostOffset::new(0x90000),
        };
        let golden = [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 80, 0, 0, 0, 0, 0, 9, 0, 0];
        assert_eq!(bitmaps.encode().data, golden);
        assert_eq!(BitmapsExtension::parse(&golden, geometry())?, bitmaps);
        for bit in 0..golden.len() * 8 {
            let mut bytes = golden;
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok(read) = BitmapsExtension::parse(&bytes, geometry()) else { continue };
            assert_eq!(read.encode().data, bytes);
        }
        for length in (0..24).chain([25]) {
            let bytes: Vec<u8> = golden.into_iter().chain([0]).take(length).collect();
            let Err(Error::Malformed(wrong)) = BitmapsExtension::parse(&bytes, geometry()) else { panic!() };
            assert_eq!((wrong.field, wrong.rule), ("length", Rule::Exactly(24)));
        }
        Ok(())
    }

    #[test]
    fn each_field_of_the_bitmaps_extension_has_its_range() {
        let golden = [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 80, 0, 0, 0, 0, 0, 9, 0, 0];
        for (at, value, field, rule) in [
            (1, 1, "nb_bitmaps", Rule::Between(1, 65_535)),
            (3, 0, "nb_bitmaps", Rule::Between(1, 65_535)),
            (7, 1, "reserved", Rule::ReservedBitsZero),
            (12, 4, "bitmap_directory_size", Rule::AtMost(1024 * 65_535)),
            (23, 1, "bitmap_directory_offset", Rule::ClusterAligned),
            (21, 0, "bitmap_directory_offset", Rule::AtLeast(65_536)),
            (16, 0x80, "bitmap_directory_offset", Rule::InsideFileOffsets),
        ] {
            let mut bytes = golden;
            bytes[at] = value;
            let Err(Error::Malformed(wrong)) = BitmapsExtension::parse(&bytes, geometry()) else {
                panic!("{field} {rule}")
            };
            assert_eq!((wrong.field, wrong.rule), (field, rule));
        }
    }

    #[test]
    fn what_an_extension_points_to_lies_between_cluster_0_and_the_end_of_all_files() -> Result<(), Error> {
        let [first, last] = [HostOffset::new(0x10000), HostOffset::new((1 << 63) - 0x10000)];
        let refused = |parsed: Result<(), Error>| match parsed {
            Err(Error::Malformed(wrong)) => (wrong.field, wrong.rule),
            other => panic!("{other:?}"),
        };
        let largest =
            BitmapsExtension { count: 1, directory_size: ByteCount::new(1024 * 65_535), directory: first };
        assert_eq!(BitmapsExtension::parse(&largest.encode().data, geometry())?, largest);
        for (at, length, lawful) in [
            (first, 0xffff, true),
            (last, 0xffff, true),
            (last, 0x10000, false),
            (HostOffset::ZERO, 1, false),
            (HostOffset::new(0x10001), 1, false),
        ] {
            let length = ByteCount::new(length);
            let bitmaps = BitmapsExtension { count: 1, directory_size: length, directory: at };
            let bitmaps = BitmapsExtension::parse(&bitmaps.encode().data, geometry());
            let crypto = CryptoExtension::parse(&CryptoExtension { at, length }.encode().data, geometry());
            assert_eq!([bitmaps.is_ok(), crypto.is_ok()], [lawful; 2], "{at:?} {length}");
        }
        let long = CryptoExtension { at: first, length: ByteCount::new(1) }.encode().data;
        let long = CryptoExtension::parse(&[long, vec![0]].concat(), geometry());
        assert_eq!(refused(long.map(drop)), ("length", Rule::Exactly(16)));
        Ok(())
    }

    #[test]
    fn the_crypto_extension_has_these_bytes() -> Result<(), Error> {
        let crypto = CryptoExtension { at: HostOffset::new(0x40000), length: ByteCount::new(0x1f8000) };
        let golden = [0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0x1f, 0x80, 0];
        assert_eq!(crypto.encode().data, golden);
        assert_eq!(CryptoExtension::parse(&golden, geometry())?, crypto);
        for bit in 0..golden.len() * 8 {
            let mut bytes = golden;
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok(read) = CryptoExtension::parse(&bytes, geometry()) else { continue };
            assert_eq!(read.encode().data, bytes);
        }
        for length in 0..16 {
            let Err(Error::Malformed(wrong)) = CryptoExtension::parse(&golden[..length], geometry()) else {
                panic!()
            };
            assert_eq!(wrong.field, "length");
        }
        Ok(())
    }
}
