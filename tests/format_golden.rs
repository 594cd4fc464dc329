//! The bytes of images made by `qemu-img` 10.0.2 are read as what was asked for, and written back the same.
//!
//! `tests/fixtures/format/` holds the begin of each first cluster (1,024 bytes, or all 512), whose rest is
//! zero, and of some images the begin of other tables.

use snapgroup::format::{
    Autoclear, Backing, BitmapEntry, BitmapFlags, BitmapsExtension, Compatible, CompressedExtent,
    Compression, CompressionField, Copied, CryptoExtension, Encryption, Error, Extension, HEADER_PROBE,
    Header, Incompatible, L1Entry, L2Entry, L2Width, RawHeader, SnapshotEntry, Subclusters, Version,
    encode_directory, encode_snapshots, parse_directory, parse_snapshots, refcount,
};
use snapgroup::units::{ByteCount, HostOffset};

type TestResult = Result<(), Error>;

/// The bytes of a fixture.
macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("fixtures/format/", $name, ".bin")).as_slice()
    };
}

/// Reads the header of `begin`, and checks that it is written back byte for byte, with zeros behind it.
fn golden(begin: &[u8]) -> Result<Header, Error> {
    let probe = &begin[..HEADER_PROBE.min(begin.len())];
    let cluster_size = RawHeader::parse(probe)?.cluster_size().as_usize();
    let mut cluster0 = begin.to_vec();
    cluster0.resize(cluster_size, 0);
    let header = Header::parse(&cluster0)?;
    assert_eq!(header.geometry.cluster_size().as_usize(), cluster_size);

    let mut written = header.encode()?;
    assert_eq!(written, begin[..written.len()]);
    assert_eq!(Header::parse(&written)?, header);
    written.resize(cluster_size, 0);
    assert_eq!(written, cluster0, "nothing of the cluster is lost");
    Ok(header)
}

/// The header of an image of 1 GiB with 64 KiB clusters, but for its extensions.
fn expected(header: &Header) -> Header {
    Header {
        l1_table: HostOffset::new(0x30000),
        refcount_table: HostOffset::new(0x10000),
        refcount_table_clusters: 1,
        extensions: header.extensions.clone(),
        ..Header::new(header.version, header.geometry, ByteCount::gib(1))
    }
}

fn kinds(header: &Header) -> Vec<u32> {
    header.extensions.iter().map(|extension| extension.kind).collect()
}

fn words(bytes: &[u8]) -> Vec<u64> {
    let words =
        bytes.chunks_exact(8).map(|word| word.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)));
    words.collect()
}

#[test]
fn a_default_image_is_version_3_with_64_kib_clusters() -> TestResult {
    let header = golden(fixture!("default-v3.header"))?;
    assert_eq!(header, expected(&header));
    assert_eq!(header.version, Version::V3);
    assert_eq!(header.geometry.cluster_bits(), 16);
    assert_eq!(header.geometry.refcount_bits(), 16);
    assert_eq!(header.geometry.l2_width(), L2Width::Standard);
    assert_eq!(header.l1_entries, 2);
    assert_eq!(header.compression_field, CompressionField::Present { padding: [0; 7] });
    assert_eq!(kinds(&header), [Extension::FEATURE_NAMES]);
    assert_eq!(header.extensions[0].data.len(), 8 * 48);
    Ok(())
}

#[test]
fn an_image_of_compat_0_10_is_version_2() -> TestResult {
    let header = golden(fixture!("v2.header"))?;
    assert_eq!(header, expected(&header));
    assert_eq!(header.version, Version::V2);
    assert_eq!(header.compression_field, CompressionField::Absent);
    assert_eq!(kinds(&header), [0_u32; 0]);
    Ok(())
}

#[test]
fn the_smallest_clusters_have_512_bytes() -> TestResult {
    let header = golden(fixture!("clusters-512.header"))?;
    assert_eq!(header.geometry.cluster_size(), ByteCount::new(512));
    assert_eq!(header.size, ByteCount::mib(64));
    assert_eq!(header.l1_entries, 2048);
    assert_eq!(header.geometry.l1_entries_for(header.size), 2048);
    assert_eq!(header.l1_table, HostOffset::new(0x600));
    assert_eq!(kinds(&header), [0_u32; 0], "the names do not fit");
    Ok(())
}

#[test]
fn the_largest_clusters_have_2_mib() -> TestResult {
    let header = golden(fixture!("clusters-2m.header"))?;
    assert_eq!(header.geometry.cluster_size(), ByteCount::mib(2));
    assert_eq!(header.l1_entries, 1);
    assert_eq!(header.l1_table, HostOffset::new(0x60_0000));
    Ok(())
}

#[test]
fn refcounts_have_1_to_64_bits() -> TestResult {
    for (begin, block, bits) in [
        (fixture!("refcount-1.header"), fixture!("refcount-1.refcount-block"), 1),
        (fixture!("refcount-64.header"), fixture!("refcount-64.refcount-block"), 64),
    ] {
        let header = golden(begin)?;
        assert_eq!(header, expected(&header));
        assert_eq!(header.geometry.refcount_bits(), bits);
        let order = header.geometry.refcount_order();
        let counts: Vec<_> = (0..8).map(|index| refcount::get(block, order, index)).collect();
        assert_eq!(counts, [1, 1, 1, 1, 0, 0, 0, 0], "header, refcount table and block, L1 table");
        let mut written = vec![0; block.len()];
        for index in 0..4 {
            refcount::set(&mut written, order, index, 1);
        }
        assert_eq!(written, block);
    }
    Ok(())
}

#[test]
fn extended_l2_entries_are_a_feature_and_a_width() -> TestResult {
    let header = golden(fixture!("extended-l2.header"))?;
    assert_eq!(header, expected(&header));
    assert_eq!(header.incompatible, Incompatible::EXTENDED_L2);
    assert_eq!(header.geometry.l2_width(), L2Width::Extended);
    assert_eq!(header.geometry.subcluster_size(), ByteCount::kib(2));
    assert_eq!(header.l1_entries, 4);
    Ok(())
}

#[test]
fn zstd_is_a_feature_and_a_type() -> TestResult {
    let header = golden(fixture!("zstd.header"))?;
    assert_eq!(header.incompatible, Incompatible::COMPRESSION_TYPE);
    assert_eq!(header.compression, Compression::Zstd);
    Ok(())
}

#[test]
fn lazy_refcounts_are_a_compatible_feature() -> TestResult {
    let header = golden(fixture!("lazy-refcounts.header"))?;
    assert_eq!(header.compatible, Compatible::LAZY_REFCOUNTS);
    assert!(!header.incompatible.is_dirty());
    Ok(())
}

#[test]
fn a_backing_name_comes_with_its_format() -> TestResult {
    let base = Backing { name: "base.qcow2".to_owned(), format: Some("qcow2".to_owned()) };
    for (begin, version) in [
        (fixture!("backing.header"), Version::V3),
        (fixture!("v2-backing.header"), Version::V2),
        (fixture!("small-backing.header"), Version::V3),
    ] {
        let header = golden(begin)?;
        assert_eq!(header.version, version);
        assert_eq!(header.backing, Some(base.clone()));
        assert_eq!(kinds(&header)[0], Extension::BACKING_FORMAT);
    }
    Ok(())
}

#[test]
fn the_backing_is_set_as_qemu_sets_it() -> TestResult {
    for (plain, backed) in [
        (fixture!("default-v3.header"), fixture!("backing.header")),
        (fixture!("v2.header"), fixture!("v2-backing.header")),
    ] {
        let mut header = golden(plain)?;
        let format = Some("qcow2".to_owned());
        header.set_backing(Some(Backing { name: "base.qcow2".to_owned(), format }));
        let written = header.encode()?;
        assert_eq!(written, backed[..written.len()]);
        header.set_backing(None);
        let written = header.encode()?;
        assert_eq!(written, plain[..written.len()]);
    }
    Ok(())
}

#[test]
fn an_external_data_file_is_read_and_named() -> TestResult {
    let header = golden(fixture!("data-file.header"))?;
    assert_eq!(header.incompatible, Incompatible::DATA_FILE);
    assert_eq!(header.autoclear, Autoclear::RAW_DATA_FILE);
    let name = header.extension(Extension::DATA_FILE).map(|extension| extension.data.as_slice());
    assert_eq!(name, Some(b"data.raw".as_slice()));
    Ok(())
}

#[test]
fn a_luks_image_says_where_its_luks_header_lies() -> TestResult {
    let header = golden(fixture!("luks.header"))?;
    assert_eq!(header.encryption, Encryption::Luks);
    let crypto = CryptoExtension { at: HostOffset::new(0x40000), length: ByteCount::new(0x1f_9000) };
    assert_eq!(header.crypto()?, Some(crypto));
    assert_eq!(header.extension(Extension::CRYPTO), Some(&crypto.encode()));
    Ok(())
}

#[test]
fn bitmaps_are_listed_in_their_directory() -> TestResult {
    let header = golden(fixture!("bitmaps.header"))?;
    assert_eq!(header.autoclear, Autoclear::BITMAPS);
    let expected = BitmapsExtension {
        count: 2,
        directory_size: ByteCount::new(64),
        directory: HostOffset::new(0x80000),
    };
    assert_eq!(header.bitmaps()?, Some(expected));
    assert_eq!(header.extension(Extension::BITMAPS), Some(&expected.encode()));

    let directory = fixture!("bitmaps.directory");
    let bitmaps = parse_directory(directory, 2, header.geometry)?;
    let daily = BitmapEntry {
        table: HostOffset::new(0x60000),
        table_entries: 1,
        flags: BitmapFlags::AUTO,
        granularity_bits: 16,
        name: b"daily".to_vec(),
        extra: Vec::new(),
    };
    let weekly = BitmapEntry {
        table: HostOffset::new(0x70000),
        flags: BitmapFlags::default(),
        granularity_bits: 12,
        name: b"weekly".to_vec(),
        ..daily.clone()
    };
    assert_eq!(bitmaps, [daily, weekly]);
    assert_eq!(encode_directory(&bitmaps, header.geometry)?, directory);
    Ok(())
}

#[test]
fn internal_snapshots_are_listed_in_their_table() -> TestResult {
    let header = golden(fixture!("snapshots.header"))?;
    assert_eq!(header.snapshot_count, 2);
    let table = fixture!("snapshots.table");
    let (snapshots, size) = parse_snapshots(table, header.snapshot_count, header.version)?;
    assert_eq!(size, ByteCount::of(table.len()));
    assert_eq!(encode_snapshots(&snapshots, header.version)?, table);

    let [first, second] = &snapshots[..] else { panic!("{snapshots:?}") };
    let text = |snapshot: &SnapshotEntry| (snapshot.id.clone(), snapshot.name.clone());
    assert_eq!(text(first), (b"1".to_vec(), b"first".to_vec()));
    assert_eq!(text(second), (b"2".to_vec(), b"second one".to_vec()));
    assert_eq!([first.l1_table, second.l1_table], [0x60000, 0x80000].map(HostOffset::new));
    for snapshot in [first, second] {
        assert_eq!(snapshot.l1_entries, 1);
        assert_eq!(snapshot.vm_state_size(), ByteCount::ZERO);
        assert_eq!(snapshot.disk_size(), Some(ByteCount::mib(16)));
        assert_eq!(snapshot.icount(), Some(0));
        snapshot.check_l1(header.geometry)?;
    }
    Ok(())
}

#[test]
fn a_standard_mapping_has_every_kind_of_cluster() -> TestResult {
    let Header { geometry, version, .. } = golden(fixture!("mapping.header"))?;
    let l1 = words(fixture!("mapping.l1"));
    let entry = L1Entry::decode(l1[0], geometry)?;
    assert_eq!(entry, L1Entry::Table { at: HostOffset::new(0x40000), copied: Copied::Yes });
    assert_eq!(entry.encode(), l1[0]);

    // Written, zeroed, written compressed twice, written and then zeroed, untouched.
    let extent = |at| {
        L2Entry::Compressed(CompressedExtent {
            at: HostOffset::new(at),
            length: ByteCount::new(512 - at % 512),
        })
    };
    let allocation = Some(HostOffset::new(0x70000));
    let expected = [
        L2Entry::Data { at: HostOffset::new(0x50000), copied: Copied::Yes },
        L2Entry::Zero { allocation: None, copied: Copied::No },
        extent(0x60000),
        extent(0x6004f),
        L2Entry::Zero { allocation, copied: Copied::Yes },
        L2Entry::Absent,
        L2Entry::Absent,
        L2Entry::Absent,
    ];
    for (raw, expected) in words(fixture!("mapping.l2")).into_iter().zip(expected) {
        let entry = L2Entry::decode(raw, 0, geometry, version)?;
        assert_eq!(entry, expected, "{raw:#x}");
        assert_eq!(entry.encode(geometry), (raw, 0));
    }

    let block = fixture!("mapping.refcount-block");
    let order = geometry.refcount_order();
    let counts: Vec<_> = (0..9).map(|index| refcount::get(block, order, index)).collect();
    assert_eq!(counts, [1, 1, 1, 1, 1, 1, 2, 1, 0], "two compressed clusters share one host cluster");
    Ok(())
}

#[test]
fn an_extended_mapping_has_its_subclusters() -> TestResult {
    let Header { geometry, version, .. } = golden(fixture!("mapping-extended.header"))?;
    // 4 KiB written, 8 KiB zeroed, 64 KiB written, untouched.
    let subclusters = |at: Option<u64>, copied, allocated, zero| {
        L2Entry::Subclusters(Subclusters { at: at.map(HostOffset::new), copied, allocated, zero })
    };
    let expected = [
        subclusters(Some(0x50000), Copied::Yes, 0b11, 0),
        subclusters(None, Copied::No, 0, 0b1111),
        subclusters(Some(0x60000), Copied::Yes, u32::MAX, 0),
        L2Entry::Absent,
    ];
    let l2 = words(fixture!("mapping-extended.l2"));
    for (pair, expected) in l2.chunks_exact(2).zip(expected) {
        let entry = L2Entry::decode(pair[0], pair[1], geometry, version)?;
        assert_eq!(entry, expected, "{pair:#x?}");
        assert_eq!(entry.encode(geometry), (pair[0], pair[1]));
    }
    Ok(())
}

#[test]
fn a_flipped_bit_of_any_header_is_refused_or_written_back_with_the_same_meaning() -> TestResult {
    for begin in [
        fixture!("backing.header"),
        fixture!("bitmaps.header"),
        fixture!("clusters-512.header"),
        fixture!("data-file.header"),
        fixture!("luks.header"),
        fixture!("v2-backing.header"),
        fixture!("zstd.header"),
    ] {
        for bit in 0..begin.len() * 8 {
            let mut bytes = begin.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok(header) = Header::parse(&bytes) else { continue };
            let Ok(written) = header.encode() else { panic!("bit {bit} is read but not written") };
            assert_eq!(Header::parse(&written)?, header, "bit {bit}");
        }
    }
    Ok(())
}
