//! What a header refuses, and that what it accepts is written back.

use super::super::{Detail, Malformed, Rule};
use super::*;

/// The place of a field in the bytes, for tests that break it.
#[derive(Clone, Copy)]
struct Field(usize, usize);

const BACKING_FILE_OFFSET: Field = Field(8, 8);
const BACKING_FILE_SIZE: Field = Field(16, 4);
const CLUSTER_BITS: Field = Field(20, 4);
const SIZE: Field = Field(24, 8);
const AUTOCLEAR_FEATURES: Field = Field(88, 8);
const CRYPT_METHOD: Field = Field(32, 4);
const L1_SIZE: Field = Field(36, 4);
const L1_TABLE_OFFSET: Field = Field(40, 8);
const REFCOUNT_TABLE_OFFSET: Field = Field(48, 8);
const REFCOUNT_TABLE_CLUSTERS: Field = Field(56, 4);
const NB_SNAPSHOTS: Field = Field(60, 4);
const SNAPSHOTS_OFFSET: Field = Field(64, 8);
const INCOMPATIBLE_FEATURES: Field = Field(72, 8);
const REFCOUNT_ORDER: Field = Field(96, 4);
const HEADER_LENGTH: Field = Field(100, 4);
const COMPRESSION_TYPE: Field = Field(104, 1);

fn geometry() -> Geometry {
    Geometry::new(16, 4, L2Width::Standard).expect("the numbers are lawful")
}

/// A header with tables, a backing file and an extension of each kind that any header may have.
fn header(version: Version) -> Header {
    let mut header = Header {
        l1_table: HostOffset::new(0x30000),
        refcount_table: HostOffset::new(0x10000),
        refcount_table_clusters: 1,
        snapshot_count: 2,
        snapshot_table: HostOffset::new(0x50000),
        extensions: vec![Extension { kind: 0x1234_5678, data: vec![1, 2, 3] }],
        ..Header::new(version, geometry(), ByteCount::gib(1))
    };
    let format = Some("qcow2".to_owned());
    header.set_backing(Some(Backing { name: "base.qcow2".to_owned(), format }));
    header.set_identity(&LayerIdentity { pool: [1; 16], volume: [2; 16], layer: [3; 16] });
    header
}

fn bytes(version: Version) -> Vec<u8> {
    header(version).encode().expect("the header is lawful")
}

/// The bytes of a version 3 header in a cluster of their own, with `value` in `field`.
fn with(field: Field, value: u64) -> Vec<u8> {
    let mut bytes = bytes(Version::V3);
    let Field(at, length) = field;
    bytes[at..at + length].copy_from_slice(&value.to_be_bytes()[8 - length..]);
    bytes.resize(65_536, 0);
    bytes
}

fn refused(bytes: &[u8]) -> Malformed {
    match Header::parse(bytes) {
        Err(Error::Malformed(wrong)) => wrong,
        other => panic!("{other:?}"),
    }
}

fn unwritable(header: &Header) -> Malformed {
    match header.encode() {
        Err(Error::Malformed(wrong)) => wrong,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_header_is_read_as_it_was_written() -> Result<(), Error> {
    let [v2, v3] = [Version::V2, Version::V3].map(header);
    let zstd =
        Header { incompatible: Incompatible::COMPRESSION_TYPE, compression: Compression::Zstd, ..v3.clone() };
    let short = Header { compression_field: CompressionField::Absent, ..v3.clone() };
    let padded = Header {
        compression_field: CompressionField::Present { padding: [1, 2, 3, 4, 5, 6, 7] },
        ..v3.clone()
    };
    let longer = Header { extra: vec![0xee; 24], ..v3.clone() };
    let flagged = Header {
        incompatible: Incompatible::DIRTY.with(Incompatible::CORRUPT).with(Incompatible::DATA_FILE),
        compatible: Compatible::from_bits(u64::MAX),
        autoclear: Autoclear::from_bits(u64::MAX).without(Autoclear::BITMAPS),
        ..v3.clone()
    };
    let odd = Header { size: ByteCount::new((1 << 30) - 511), ..v3.clone() };
    let unbased = Header { backing: None, ..v3.clone() };
    for header in [v2, v3, zstd, short, padded, longer, flagged, odd, unbased] {
        let mut bytes = header.encode()?;
        assert_eq!(Header::parse(&bytes)?, header);
        bytes.resize(65_536 + 100, 0);
        assert_eq!(Header::parse(&bytes)?, header, "what follows changes nothing");
    }
    Ok(())
}

#[test]
fn a_header_cut_at_any_length_is_refused() {
    for version in [Version::V2, Version::V3] {
        let bytes = bytes(version);
        for length in 0..bytes.len() {
            assert_eq!(refused(&bytes[..length]).field, "length", "{length} of {}", bytes.len());
        }
    }
}

#[test]
fn every_flipped_bit_is_refused_or_written_back_with_the_same_meaning() -> Result<(), Error> {
    for golden in [bytes(Version::V2), bytes(Version::V3)] {
        for bit in 0..golden.len() * 8 {
            let mut bytes = golden.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok(header) = Header::parse(&bytes) else { continue };
            assert_eq!(Header::parse(&header.encode()?)?, header, "bit {bit}");
        }
    }
    Ok(())
}

#[test]
fn every_byte_of_every_value_is_read_without_a_panic() {
    let golden = bytes(Version::V3);
    for at in 0..golden.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = golden.clone();
            bytes[at] = value;
            let Ok(header) = Header::parse(&bytes) else { continue };
            assert!(header.encode().is_ok(), "byte {at} as {value}");
        }
    }
}

#[test]
fn each_field_has_its_range() {
    let l1 = "l1_table_offset";
    let table = "refcount_table_offset";
    let snapshots = "snapshots_offset";
    for (field, value, name, rule) in [
        (BACKING_FILE_OFFSET, 104, "backing_file_offset", Rule::Between(112, 65_536)),
        (BACKING_FILE_OFFSET, 65_537, "backing_file_offset", Rule::Between(112, 65_536)),
        (BACKING_FILE_OFFSET, u64::MAX, "backing_file_offset", Rule::Between(112, 65_536)),
        (BACKING_FILE_OFFSET, 65_530, "backing_file_size", Rule::AtMost(6)),
        (BACKING_FILE_SIZE, 1024, "backing_file_size", Rule::AtMost(1023)),
        (CLUSTER_BITS, 22, "cluster_bits", Rule::Between(9, 21)),
        (SIZE, (2 << 29) + 1, "l1_size", Rule::AtLeast(3)),
        (SIZE, u64::MAX, "size", Rule::AtMost(1 << 51)),
        (L1_SIZE, 1, "l1_size", Rule::AtLeast(2)),
        (L1_SIZE, 4_194_305, "l1_size", Rule::AtMost(4_194_304)),
        (L1_TABLE_OFFSET, 0x30200, l1, Rule::ClusterAligned),
        (L1_TABLE_OFFSET, 1 << 63, l1, Rule::InsideFileOffsets),
        (L1_TABLE_OFFSET, u64::MAX - 0xffff, l1, Rule::InsideFileOffsets),
        (REFCOUNT_TABLE_OFFSET, 0x10001, table, Rule::ClusterAligned),
        (REFCOUNT_TABLE_OFFSET, 0x7fff_ffff_ffff_0000, table, Rule::InsideFileOffsets),
        (REFCOUNT_TABLE_CLUSTERS, 0, "refcount_table_clusters", Rule::Between(1, 128)),
        (REFCOUNT_TABLE_CLUSTERS, 129, "refcount_table_clusters", Rule::Between(1, 128)),
        (NB_SNAPSHOTS, 65_537, "nb_snapshots", Rule::AtMost(65_536)),
        (SNAPSHOTS_OFFSET, 0x50008, snapshots, Rule::ClusterAligned),
        (SNAPSHOTS_OFFSET, 1 << 63, snapshots, Rule::InsideFileOffsets),
        (REFCOUNT_ORDER, 7, "refcount_order", Rule::AtMost(6)),
        (HEADER_LENGTH, 72, "header_length", Rule::Between(104, 65_536)),
        (HEADER_LENGTH, 65_544, "header_length", Rule::Between(104, 65_536)),
        (HEADER_LENGTH, 108, "header_length", Rule::MultipleOf(8)),
        (CRYPT_METHOD, 2, "crypt_method", Rule::Needs("the crypto extension")),
        (COMPRESSION_TYPE, 1, "incompatible_features", Rule::AgreesWith("compression_type")),
        (INCOMPATIBLE_FEATURES, 8, "incompatible_features", Rule::AgreesWith("compression_type")),
        (AUTOCLEAR_FEATURES, 2, "autoclear_features", Rule::Needs("an external data file")),
    ] {
        let wrong = refused(&with(field, value));
        assert_eq!((wrong.field, wrong.rule), (name, rule), "{value:#x}: {wrong}");
    }
}

#[test]
fn a_table_ends_where_a_file_may() {
    for (place, size, at, length, lawful) in [
        (L1_TABLE_OFFSET, L1_SIZE, 1, 8191, true),
        (L1_TABLE_OFFSET, L1_SIZE, 1, 8192, false),
        (REFCOUNT_TABLE_OFFSET, REFCOUNT_TABLE_CLUSTERS, 3, 2, true),
        (REFCOUNT_TABLE_OFFSET, REFCOUNT_TABLE_CLUSTERS, 2, 2, false),
        // Entries of 40 bytes and more.
        (SNAPSHOTS_OFFSET, NB_SNAPSHOTS, 1, 1638, true),
        (SNAPSHOTS_OFFSET, NB_SNAPSHOTS, 1, 1639, false),
    ] {
        let mut bytes = with(place, (1 << 63) - (at << 16));
        bytes[size.0..size.0 + 4].copy_from_slice(&u32::to_be_bytes(length));
        match Header::parse(&bytes) {
            Ok(_) => assert!(lawful, "{length} at {}", place.0),
            Err(Error::Malformed(wrong)) => {
                assert!(!lawful && wrong.rule == Rule::InsideFileOffsets, "{length} at {}: {wrong}", place.0);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn the_largest_lawful_values_are_accepted() -> Result<(), Error> {
    for (field, value) in [
        (L1_SIZE, 4_194_304),
        (REFCOUNT_TABLE_CLUSTERS, 128),
        (NB_SNAPSHOTS, 65_536),
        (L1_TABLE_OFFSET, 0x7fff_ffff_ffff_0000),
        (CRYPT_METHOD, 1),
        (REFCOUNT_ORDER, 0),
        (SIZE, 2 << 29),
    ] {
        Header::parse(&with(field, value))?;
    }
    Ok(())
}

#[test]
fn what_is_not_known_is_not_supported() {
    for (field, value, feature, detail) in [
        (INCOMPATIBLE_FEATURES, 0x21, "incompatible feature", Detail::Bits(0x20)),
        (INCOMPATIBLE_FEATURES, 1 << 63, "incompatible feature", Detail::Bits(1 << 63)),
        (CRYPT_METHOD, 3, "encryption method", Detail::Number(3)),
        (COMPRESSION_TYPE, 2, "compression type", Detail::Number(2)),
        (Field(4, 4), 4, "qcow2 version", Detail::Number(4)),
    ] {
        let Err(Error::Unsupported(unknown)) = Header::parse(&with(field, value)) else {
            panic!("{feature} {value}")
        };
        assert_eq!((unknown.feature, unknown.detail), (feature, detail));
    }
}

#[test]
fn an_unknown_feature_is_named_before_anything_that_it_may_change() {
    let mut bytes = with(INCOMPATIBLE_FEATURES, 0x20);
    bytes[96..104].fill(0xff);
    bytes[16..20].fill(0xff);
    let Err(Error::Unsupported(unknown)) = Header::parse(&bytes) else { panic!() };
    assert_eq!(unknown.detail, Detail::Bits(0x20));
}

#[test]
fn extended_l2_entries_need_clusters_of_16_kib() {
    let mut bytes = with(INCOMPATIBLE_FEATURES, 16);
    bytes[20..24].copy_from_slice(&[0, 0, 0, 13]);
    assert_eq!(refused(&bytes).rule, Rule::Between(14, 21));
}

#[test]
fn a_backing_name_is_text() {
    let at = bytes(Version::V3).len() - "base.qcow2".len();
    for (byte, value) in [(4, 0), (0, 0x1f), (9, 0x7f), (2, 0xff)] {
        let mut bytes = bytes(Version::V3);
        bytes[at + byte] = value;
        let wrong = refused(&bytes);
        assert_eq!((wrong.field, wrong.found, wrong.rule), ("backing name", byte as u64, Rule::Text));
    }
    let mut header = header(Version::V3);
    header.set_backing(Some(Backing { name: "a\0b".to_owned(), format: None }));
    assert_eq!(unwritable(&header).rule, Rule::Text);
    header.set_backing(Some(Backing { name: String::new(), format: None }));
    assert_eq!(unwritable(&header).rule, Rule::Between(1, 1023));
}

#[test]
fn a_backing_format_is_short_text() {
    let mut header = header(Version::V3);
    let name = "base".to_owned();
    header.set_backing(Some(Backing { name: name.clone(), format: Some("a".repeat(16)) }));
    assert_eq!(unwritable(&header).rule, Rule::AtMost(15));
    header.set_backing(Some(Backing { name: name.clone(), format: Some("qcow2\n".to_owned()) }));
    assert_eq!(unwritable(&header).rule, Rule::Text);
    header.set_backing(Some(Backing { name, format: Some("a".repeat(15)) }));
    assert_eq!(Header::parse(&header.encode().expect("lawful")), Ok(header));
}

#[test]
fn the_backing_and_its_format_extension_change_together() -> Result<(), Error> {
    let mut header = header(Version::V3);
    assert_eq!(header.extensions[0].kind, Extension::BACKING_FORMAT);
    let raw = Backing { name: "other.raw".to_owned(), format: Some("raw".to_owned()) };
    header.set_backing(Some(raw.clone()));
    assert_eq!(header.extensions[0], Extension { kind: Extension::BACKING_FORMAT, data: b"raw".to_vec() });
    assert_eq!(Header::parse(&header.encode()?)?.backing, Some(raw));

    header.backing = Some(Backing { name: "other.raw".to_owned(), format: Some("qcow2".to_owned()) });
    assert_eq!(unwritable(&header).rule, Rule::AgreesWith("the backing format extension"));

    header.set_backing(Some(Backing { name: "other".to_owned(), format: None }));
    assert_eq!(header.extension(Extension::BACKING_FORMAT), None);
    header.set_backing(None);
    let bytes = header.encode()?;
    assert_eq!(bytes[8..20], [0; 12]);
    assert_eq!(Header::parse(&bytes)?.backing, None);
    Ok(())
}

#[test]
fn an_empty_backing_name_or_format_is_none() -> Result<(), Error> {
    assert_eq!(Header::parse(&with(BACKING_FILE_SIZE, 0))?.backing, None);
    let mut header = header(Version::V3);
    header.set_backing(Some(Backing { name: "base".to_owned(), format: None }));
    header.set_extension(Extension { kind: Extension::BACKING_FORMAT, data: Vec::new() });
    let backing = Header::parse(&header.encode()?)?.backing;
    assert_eq!(backing, Some(Backing { name: "base".to_owned(), format: None }));
    Ok(())
}

#[test]
fn a_header_fills_its_cluster_to_the_last_byte_and_no_further() -> Result<(), Error> {
    let small = Geometry::new(9, 4, L2Width::Standard)?;
    let mut header = Header {
        refcount_table_clusters: 1,
        refcount_table: HostOffset::new(512),
        l1_table: HostOffset::new(1024),
        ..Header::new(Version::V3, small, ByteCount::mib(1))
    };
    header.set_backing(Some(Backing { name: "n".repeat(512 - 112 - 8), format: None }));
    let bytes = header.encode()?;
    assert_eq!(bytes.len(), 512);
    assert_eq!(Header::parse(&bytes)?, header);
    header.set_backing(Some(Backing { name: "n".repeat(512 - 112 - 7), format: None }));
    let wrong = unwritable(&header);
    assert_eq!((wrong.found, wrong.rule), (513, Rule::InsideCluster0));
    Ok(())
}

#[test]
fn the_longest_backing_name_has_1023_bytes() -> Result<(), Error> {
    let mut header = header(Version::V2);
    header.set_backing(Some(Backing { name: "n".repeat(1023), format: None }));
    assert_eq!(Header::parse(&header.encode()?)?, header);
    header.set_backing(Some(Backing { name: "n".repeat(1024), format: None }));
    assert_eq!(unwritable(&header).rule, Rule::Between(1, 1023));
    Ok(())
}

#[test]
fn a_version_2_header_has_nothing_of_version_3() -> Result<(), Error> {
    let v2 = header(Version::V2);
    let narrow = Geometry::new(16, 3, L2Width::Standard)?;
    let extended = Geometry::new(16, 4, L2Width::Extended)?;
    for (header, field) in [
        (Header { incompatible: Incompatible::DIRTY, ..v2.clone() }, "feature bits"),
        (Header { compatible: Compatible::LAZY_REFCOUNTS, ..v2.clone() }, "feature bits"),
        (Header { autoclear: Autoclear::BITMAPS, ..v2.clone() }, "feature bits"),
        // The same bit in two sets.
        (
            Header {
                incompatible: Incompatible::DIRTY,
                compatible: Compatible::LAZY_REFCOUNTS,
                ..v2.clone()
            },
            "feature bits",
        ),
        (
            Header { incompatible: Incompatible::DIRTY, autoclear: Autoclear::BITMAPS, ..v2.clone() },
            "feature bits",
        ),
        (Header { geometry: extended, ..v2.clone() }, "L2 entry size"),
        (Header { geometry: narrow, ..v2.clone() }, "refcount_order"),
        (
            Header { compression_field: CompressionField::Present { padding: [0; 7] }, ..v2.clone() },
            "header_length",
        ),
        (Header { extra: vec![0; 8], ..v2 }, "header_length"),
    ] {
        let wrong = unwritable(&header);
        assert_eq!((wrong.field, wrong.rule), (field, Rule::Needs("version 3")));
    }
    Ok(())
}

#[test]
fn fields_that_disagree_are_not_written() -> Result<(), Error> {
    let v3 = header(Version::V3);
    let extended = Geometry::new(16, 4, L2Width::Extended)?;
    let disagreements = [
        (
            Header { geometry: extended, l1_entries: 4, ..v3.clone() },
            Rule::AgreesWith("the width of L2 entries"),
        ),
        (Header { compression: Compression::Zstd, ..v3.clone() }, Rule::AgreesWith("compression_type")),
        (
            Header {
                compression: Compression::Zstd,
                incompatible: Incompatible::COMPRESSION_TYPE,
                compression_field: CompressionField::Absent,
                ..v3.clone()
            },
            Rule::Needs("compression_type"),
        ),
        (
            Header { extra: vec![0; 8], compression_field: CompressionField::Absent, ..v3.clone() },
            Rule::Needs("compression_type"),
        ),
        (Header { extra: vec![0; 7], ..v3.clone() }, Rule::MultipleOf(8)),
        (Header { extensions: [&v3.extensions[..], &v3.extensions].concat(), ..v3.clone() }, Rule::Once),
        (Header { encryption: Encryption::Luks, ..v3.clone() }, Rule::Needs("the crypto extension")),
        (Header { autoclear: Autoclear::BITMAPS, ..with_bitmaps(&v3, 23) }, Rule::Exactly(24)),
        (Header { refcount_table_clusters: 0, ..v3 }, Rule::Between(1, 128)),
    ];
    for (header, rule) in disagreements {
        assert_eq!(unwritable(&header).rule, rule);
    }
    let unknown = Header { incompatible: Incompatible::from_bits(0x20), ..header(Version::V3) };
    let Err(Error::Unsupported(unknown)) = unknown.encode() else { panic!() };
    assert_eq!(unknown.detail, Detail::Bits(0x20));
    Ok(())
}

fn with_bitmaps(header: &Header, length: usize) -> Header {
    let mut header = header.clone();
    header.set_extension(Extension { kind: Extension::BITMAPS, data: vec![0; length] });
    header
}

#[test]
fn bitmaps_that_do_not_agree_with_the_data_are_not_looked_at() -> Result<(), Error> {
    let stale = with_bitmaps(&header(Version::V3), 24);
    let read = Header::parse(&stale.encode()?)?;
    assert_eq!(read.bitmaps()?, None);
    assert_eq!(read, stale);
    Ok(())
}

#[test]
fn the_crypto_extension_goes_with_luks_and_nothing_else() -> Result<(), Error> {
    let mut header = header(Version::V3);
    let crypto = CryptoExtension { at: HostOffset::new(0x40000), length: ByteCount::mib(2) };
    header.set_extension(crypto.encode());
    assert_eq!(unwritable(&header).rule, Rule::Needs("LUKS encryption"));
    header.encryption = Encryption::Luks;
    let read = Header::parse(&header.encode()?)?;
    assert_eq!(read.crypto()?, Some(crypto));
    Ok(())
}

#[test]
fn the_identity_is_one_extension_however_often_it_is_set() -> Result<(), Error> {
    let mut header = header(Version::V3);
    let identity = LayerIdentity { pool: [7; 16], volume: [8; 16], layer: [9; 16] };
    header.set_identity(&identity);
    let read = Header::parse(&header.encode()?)?;
    assert_eq!(read.identity()?, Some(identity));
    let ours = read.extensions.iter().filter(|extension| extension.kind == Extension::OURS);
    assert_eq!(ours.count(), 1);
    Ok(())
}

#[test]
fn a_new_header_still_lacks_its_tables() -> Result<(), Error> {
    let mut header = Header::new(Version::V3, geometry(), ByteCount::gib(1));
    assert_eq!(header.l1_entries, 2);
    assert_eq!(unwritable(&header).field, "refcount_table_clusters");
    header.refcount_table_clusters = 1;
    assert_eq!(Header::parse(&header.encode()?)?, header);
    let huge = Header::new(Version::V3, geometry(), ByteCount::new(u64::MAX));
    assert_eq!(unwritable(&huge).field, "l1_size");
    Ok(())
}
