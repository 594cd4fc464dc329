//! Compressed clusters made to do harm: what comes out is one cluster or an error, and takes one cluster of memory.

use crate::support::{Doors, MEMORY_MAX, Outcome, doors, written};
use flate2::{Compress, Compression, FlushCompress};
use snapgroup::format;
use snapgroup::image::{Error, NewImage};
use snapgroup::units::ByteCount;

const CLUSTER: u64 = 65_536;
const DATA: u64 = 5 * CLUSTER;
const L2: u64 = 4 * CLUSTER;

/// A deflate stream, with or without the header that it must not have.
fn deflated(content: &[u8], with_header: bool) -> Outcome<Vec<u8>> {
    let mut stream = Vec::with_capacity(content.len() / 2 + 1024);
    Compress::new(Compression::best(), with_header).compress_vec(
        content,
        &mut stream,
        FlushCompress::Finish,
    )?;
    Ok(stream)
}

/// The entry of a compressed cluster: where it begins, and in how many sectors of 512 bytes.
fn entry(at: u64, sectors: u64) -> u64 {
    1 << 62 | (sectors - 1) << 54 | at
}

/// An image of two clusters of which the first is said to be compressed, in the place where it was.
fn carried(what: &str, stream: &[u8], entry: u64) -> Outcome<Doors> {
    let new = NewImage::of_size(ByteCount::mib(4));
    let mut bytes = written(&new, &vec![1; 2 * 65_536])?;
    let data = usize::try_from(DATA)?;
    bytes[data..data + 65_536].fill(0);
    bytes[data..data + stream.len()].copy_from_slice(stream);
    let table = usize::try_from(L2)?;
    bytes[table..table + 8].copy_from_slice(&entry.to_be_bytes());
    doors(what, &bytes)
}

#[test]
fn a_cluster_that_is_whole_is_read() -> Outcome {
    let stream = deflated(&vec![1; 65_536], false)?;
    carried("whole", &stream, entry(DATA, 1))?.all_take_it("whole");
    Ok(())
}

#[test]
fn a_stream_of_60_mb_gives_one_cluster_and_takes_the_memory_of_one() -> Outcome {
    let stream = deflated(&vec![1; 60_000_000], false)?;
    assert!((stream.len() as u64) < CLUSTER, "{}", stream.len());
    carried("bomb", &stream, entry(DATA, 128))?.all_take_it("bomb");
    Ok(())
}

#[test]
fn a_stream_that_does_not_hold_a_cluster_is_an_error() -> Outcome {
    let noise: Vec<u8> =
        (0..65_536_u32).map(|index| u8::try_from(index * index % 251).unwrap_or(0)).collect();
    let whole = deflated(&noise, false)?;
    for (what, stream, sectors) in [
        ("short", deflated(&[1; 65_535], false)?, 128),
        ("empty", deflated(&[], false)?, 1),
        ("zeros", vec![0; 512], 1),
        ("garbage", vec![0xff; 512], 1),
        ("truncated", whole[..512].to_vec(), 1),
        ("with a zlib header", deflated(&vec![1; 65_536], true)?, 128),
    ] {
        let doors = carried(what, &stream, entry(DATA, sectors))?;
        let Some(Err(Error::Format { source: format::Error::Malformed(wrong), .. })) = &doors.read else {
            panic!("{what}: {:?}", doors.read)
        };
        assert_eq!(
            (wrong.field, wrong.rule),
            ("decoded length", format::Rule::WholeCluster(CLUSTER)),
            "{what}"
        );
        assert!(doors.imported.is_err(), "{what}: it was imported");
    }
    Ok(())
}

/// 214, 220
#[test]
fn the_most_sectors_there_can_be_may_reach_into_the_end_of_the_file_and_not_past_it() -> Outcome {
    let stream = deflated(&vec![1; 65_536], false)?;
    // 256 sectors from here on are this cluster and the one behind it, the last one of the file.
    let doors = carried("most", &stream, entry(DATA, 256))?;
    let Some(Ok(read)) = &doors.read else { panic!("{:?}", doors.read) };
    assert!(read[..131_072].iter().all(|byte| *byte == 1));
    // It touches a cluster of plain data, which is another's.
    doors.only_looked_at("most");
    for far in [7 * CLUSTER, 1 << 40, (1 << 54) - 512] {
        let what = format!("{far:#x}");
        let doors = carried(&what, &stream, entry(far, 256))?;
        let Some(Err(Error::OutsideFile { structure: "compressed cluster", .. })) = &doors.read else {
            panic!("{what}: {:?}", doors.read)
        };
        doors.only_looked_at(&what);
    }
    Ok(())
}

#[test]
fn a_stream_that_lies_on_a_table_is_not_even_decoded() -> Outcome {
    for table in 1..5 {
        let what = format!("cluster {table}");
        for at in [table * CLUSTER, table * CLUSTER + 100, table * CLUSTER - 100] {
            let doors = carried(&what, &[], entry(at, 4))?;
            let Some(Err(Error::OnTables { .. } | Error::Format { .. })) = &doors.read else {
                panic!("{what}: {:?}", doors.read)
            };
            doors.only_looked_at(&what);
        }
    }
    Ok(())
}

const _: () = assert!(60_000_000 < MEMORY_MAX, "the bomb alone would not be noticed");
