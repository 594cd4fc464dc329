//! Headers made to do harm: each field out of its range is refused by its name, with its value and its limit.

use crate::support::{CLUSTER, Outcome, doors, patched, small};
use snapgroup::format::{self, Detail, Rule, Unsupported};
use snapgroup::image;

/// Where the fields are.
const VERSION: u64 = 4;
const BACKING_OFFSET: u64 = 8;
const BACKING_SIZE: u64 = 16;
const CLUSTER_BITS: u64 = 20;
const SIZE: u64 = 24;
const CRYPT: u64 = 32;
const L1_SIZE: u64 = 36;
const L1_OFFSET: u64 = 40;
const TABLE_OFFSET: u64 = 48;
const TABLE_CLUSTERS: u64 = 56;
const SNAPSHOTS: u64 = 60;
const SNAPSHOTS_OFFSET: u64 = 64;
const INCOMPATIBLE: u64 = 72;
const COMPATIBLE: u64 = 80;
const AUTOCLEAR: u64 = 88;
const REFCOUNT_ORDER: u64 = 96;
const HEADER_LENGTH: u64 = 100;

/// 080
#[test]
fn a_field_out_of_its_range_is_refused_with_its_name_its_value_and_its_limit() -> Outcome {
    let far = (1_u64 << 63) - CLUSTER;
    let size_max = 4_194_304 * (512 * CLUSTER);
    for (at, value, field, found, rule) in [
        (0, &b"QFI\xfa"[..], "magic", 0x5146_49fa, Rule::Magic),
        (CLUSTER_BITS, &0_u32.to_be_bytes(), "cluster_bits", 0, Rule::Between(9, 21)),
        (CLUSTER_BITS, &8_u32.to_be_bytes(), "cluster_bits", 8, Rule::Between(9, 21)),
        (CLUSTER_BITS, &31_u32.to_be_bytes(), "cluster_bits", 31, Rule::Between(9, 21)),
        (CLUSTER_BITS, &63_u32.to_be_bytes(), "cluster_bits", 63, Rule::Between(9, 21)),
        (CLUSTER_BITS, &[0xff; 4], "cluster_bits", 0xffff_ffff, Rule::Between(9, 21)),
        (REFCOUNT_ORDER, &7_u32.to_be_bytes(), "refcount_order", 7, Rule::AtMost(6)),
        (REFCOUNT_ORDER, &[0xff; 4], "refcount_order", 0xffff_ffff, Rule::AtMost(6)),
        (HEADER_LENGTH, &72_u32.to_be_bytes(), "header_length", 72, Rule::Between(104, CLUSTER)),
        (HEADER_LENGTH, &4104_u32.to_be_bytes(), "header_length", 4104, Rule::Between(104, CLUSTER)),
        (HEADER_LENGTH, &[0xff; 4], "header_length", 0xffff_ffff, Rule::Between(104, CLUSTER)),
        (L1_SIZE, &4_194_305_u32.to_be_bytes(), "l1_size", 4_194_305, Rule::AtMost(4_194_304)),
        (L1_SIZE, &[0xff; 4], "l1_size", 0xffff_ffff, Rule::AtMost(4_194_304)),
        (L1_SIZE, &1_u32.to_be_bytes(), "l1_size", 1, Rule::AtLeast(2)),
        (L1_OFFSET, &(3 * CLUSTER + 1).to_be_bytes(), "l1_table_offset", 12_289, Rule::ClusterAligned),
        (L1_OFFSET, &(1_u64 << 63).to_be_bytes(), "l1_table_offset", 1 << 63, Rule::InsideFileOffsets),
        (TABLE_OFFSET, &0x1200_u64.to_be_bytes(), "refcount_table_offset", 0x1200, Rule::ClusterAligned),
        (TABLE_OFFSET, &far.to_be_bytes(), "refcount_table_offset", far, Rule::InsideFileOffsets),
        (TABLE_CLUSTERS, &0_u32.to_be_bytes(), "refcount_table_clusters", 0, Rule::Between(1, 2048)),
        (TABLE_CLUSTERS, &2049_u32.to_be_bytes(), "refcount_table_clusters", 2049, Rule::Between(1, 2048)),
        (TABLE_CLUSTERS, &[0xff; 4], "refcount_table_clusters", 0xffff_ffff, Rule::Between(1, 2048)),
        (SNAPSHOTS, &65_537_u32.to_be_bytes(), "nb_snapshots", 65_537, Rule::AtMost(65_536)),
        (SNAPSHOTS_OFFSET, &0x1001_u64.to_be_bytes(), "snapshots_offset", 0x1001, Rule::ClusterAligned),
        (SIZE, &(1_u64 << 63).to_be_bytes(), "size", 1 << 63, Rule::AtMost(size_max)),
        (SIZE, &[0xff; 8], "size", u64::MAX, Rule::AtMost(size_max)),
        (BACKING_OFFSET, &5000_u64.to_be_bytes(), "backing_file_offset", 5000, Rule::Between(112, CLUSTER)),
        (BACKING_OFFSET, &[0xff; 8], "backing_file_offset", u64::MAX, Rule::Between(112, CLUSTER)),
    ] {
        let what = format!("{field} {found:#x}");
        doors(&what, &patched(&[(at, value)])?)?.all_malformed(&what, field, found, rule);
    }
    Ok(())
}

/// 080
#[test]
fn a_backing_name_is_no_longer_than_1023_bytes_and_lies_in_the_first_cluster() -> Outcome {
    let at = 200_u64.to_be_bytes();
    for (size, rule) in [(1024, Rule::AtMost(1023)), (u32::MAX, Rule::AtMost(1023))] {
        let what = format!("backing name of {size}");
        let bytes = patched(&[(BACKING_OFFSET, &at), (BACKING_SIZE, &size.to_be_bytes())])?;
        doors(&what, &bytes)?.all_malformed(&what, "backing_file_size", u64::from(size), rule);
    }
    let at = (CLUSTER - 10).to_be_bytes();
    let bytes = patched(&[(BACKING_OFFSET, &at), (BACKING_SIZE, &11_u32.to_be_bytes())])?;
    doors("past the end", &bytes)?.all_malformed("past", "backing_file_size", 11, Rule::AtMost(10));
    Ok(())
}

#[test]
fn a_file_that_ends_inside_of_its_header_is_refused() -> Outcome {
    let good = small()?;
    for length in [0, 3, 50, 71, 103] {
        let what = format!("{length} bytes");
        let doors = doors(&what, &good[..length])?;
        for error in [doors.opened.as_ref().err(), doors.checked.as_ref().err()] {
            let Some(image::Error::Format { .. }) = error else { panic!("{what}: {error:?}") };
        }
        doors.no_pool_takes_it(&what);
    }
    Ok(())
}

/// 036, 061, 287
#[test]
fn what_is_not_known_is_refused_by_its_bits_or_its_number() -> Outcome {
    let unknown = |feature, detail| Unsupported { feature, detail };
    for (at, value, expected) in [
        (VERSION, &1_u32.to_be_bytes()[..], unknown("qcow2 version", Detail::Number(1))),
        (VERSION, &4_u32.to_be_bytes(), unknown("qcow2 version", Detail::Number(4))),
        (INCOMPATIBLE, &(1_u64 << 5).to_be_bytes(), unknown("incompatible feature", Detail::Bits(1 << 5))),
        (INCOMPATIBLE, &(1_u64 << 63).to_be_bytes(), unknown("incompatible feature", Detail::Bits(1 << 63))),
        (CRYPT, &3_u32.to_be_bytes(), unknown("encryption method", Detail::Number(3))),
    ] {
        let what = format!("{expected:?}");
        let doors = doors(&what, &patched(&[(at, value)])?)?;
        for error in [doors.opened.as_ref().err(), doors.checked.as_ref().err(), doors.report.as_ref().err()]
        {
            let Some(image::Error::Format { source: format::Error::Unsupported(found), .. }) = error else {
                panic!("{what}: {error:?}")
            };
            assert_eq!(*found, expected);
        }
        doors.no_pool_takes_it(&what);
    }
    Ok(())
}

/// 244
#[test]
fn data_in_an_external_file_is_never_read_and_no_pool_takes_what_names_a_file_of_the_host() -> Outcome {
    let extension = [&0x4441_5441_u32.to_be_bytes()[..], &11_u32.to_be_bytes(), b"/etc/passwd"].concat();
    let bytes = patched(&[(INCOMPATIBLE, &4_u64.to_be_bytes()), (112, &extension)])?;
    let doors = doors("data file", &bytes)?;
    let Some(Err(image::Error::Unsupported { feature, .. })) = &doors.read else {
        panic!("{:?}", doors.read)
    };
    assert!(feature.contains("external file"), "{feature}");
    doors.no_pool_takes_it("data file");
    Ok(())
}

#[test]
fn a_corrupt_or_dirty_image_is_read_and_not_written() -> Outcome {
    for (bit, word) in [(1_u64, "dirty"), (2, "corrupt")] {
        let doors = doors(word, &patched(&[(INCOMPATIBLE, &bit.to_be_bytes())])?)?;
        let Some(Ok(read)) = &doors.read else { panic!("{word}: {:?}", doors.opened) };
        assert!(read[..8192].iter().all(|byte| *byte == 1));
        let Err(image::Error::Unsupported { feature, refused: "writing", .. }) = &doors.checked else {
            panic!("{word}: {:?}", doors.checked)
        };
        assert!(feature.contains(word), "{feature}");
        assert!(doors.adopted.is_err(), "{word}");
    }
    Ok(())
}

/// 036
#[test]
fn unknown_compatible_bits_stay_and_unknown_autoclear_bits_go_with_the_first_writer() -> Outcome {
    let bits = (1_u64 << 40).to_be_bytes();
    let doors = doors("bits", &patched(&[(COMPATIBLE, &bits), (AUTOCLEAR, &bits)])?)?;
    doors.all_take_it("bits");
    let (read, written) = (doors.opened?.header(), doors.checked?.header());
    assert_eq!((read.compatible.bits(), read.autoclear.bits()), (1 << 40, 1 << 40));
    assert_eq!((written.compatible.bits(), written.autoclear.bits()), (1 << 40, 0));
    Ok(())
}

#[test]
fn a_disk_that_ends_inside_of_a_sector_is_taken() -> Outcome {
    let bytes = patched(&[(SIZE, &(8192_u64 + 100).to_be_bytes())])?;
    let doors = doors("odd size", &bytes)?;
    doors.all_take_it("odd size");
    let Some(Ok(read)) = &doors.read else { panic!("{:?}", doors.read) };
    assert!(read.len() == 8292 && read[8192..].iter().all(|byte| *byte == 0));
    Ok(())
}

/// 080
#[test]
fn an_extension_that_reaches_past_the_first_cluster_is_refused() -> Outcome {
    for length in [CLUSTER, u64::from(u32::MAX)] {
        let extension = [0x1234_5678_u32.to_be_bytes(), u32::try_from(length)?.to_be_bytes()].concat();
        let what = format!("extension of {length}");
        let doors = doors(&what, &patched(&[(112, &extension)])?)?;
        doors.all_malformed(&what, "length", length, Rule::AtMost(CLUSTER - 120));
    }
    Ok(())
}

#[test]
fn a_header_filled_with_extensions_is_refused_at_the_257th() -> Outcome {
    let extension = [0x1234_5678_u32.to_be_bytes(), 0_u32.to_be_bytes()].concat();
    let filled = extension.repeat(usize::try_from(CLUSTER - 112)? / 8);
    let doors = doors("extensions", &patched(&[(112, &filled)])?)?;
    doors.all_malformed("extensions", "count", 257, Rule::AtMost(256));
    Ok(())
}
