//! Refcounts on their own: where runs, blocks and tables come to lie, and what is told of them.

use super::*;
use crate::format::L2Width;
use crate::storage::{BlobName, MemoryStore, Store};
use std::sync::Arc;

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

const FAR: HostOffset = HostOffset::new(1 << 60);

fn cluster(number: u64) -> HostCluster {
    HostCluster::new(number)
}

fn count(number: u64) -> ClusterCount {
    ClusterCount::new(number)
}

/// An image of clusters of 512 bytes: 256 refcounts in a block, 64 entries in a cluster of the table.
fn small(table: usize) -> (Arc<dyn Blob>, Refcounts) {
    with(Geometry::new(9, 4, L2Width::Standard).expect("lawful"), table)
}

/// An image of clusters of 2 MiB and refcounts of 64 bits: 2^17 entries of the table count all that 2^56 bytes hold.
fn vast(table: usize) -> (Arc<dyn Blob>, Refcounts) {
    with(Geometry::new(21, 6, L2Width::Standard).expect("lawful"), table)
}

fn with(geometry: Geometry, table: usize) -> (Arc<dyn Blob>, Refcounts) {
    let blob = MemoryStore::new().create(&BlobName::parse("image").expect("a name")).expect("in memory");
    let at = geometry.host_offset(cluster(1));
    (blob, Refcounts::new(geometry, "image", at, vec![0; table]))
}

#[test]
fn a_table_grows_behind_all_that_it_counts() -> Outcome {
    let (blob, mut refcounts) = small(64);
    let grown = refcounts.grow(&*blob)?;
    let first = 64 * 256;
    assert_eq!((grown.at, grown.clusters), (HostOffset::new((first + 1) * 512), 2));
    assert_eq!(grown.old, (cluster(1), count(1)));
    let mut block = [0xee; 512];
    blob.read_at(HostOffset::new(first * 512), &mut block)?;
    assert!(refcount::are(&block, 4, &[1, 1, 1, 0]), "the block, and two clusters of the table");
    let mut table = [0xee; 1024];
    blob.read_at(grown.at, &mut table)?;
    let entries: Vec<u64> = table
        .chunks_exact(8)
        .map(|entry| u64::from_be_bytes(entry.try_into().expect("eight bytes")))
        .collect();
    let named: Vec<usize> = (0..entries.len()).filter(|index| entries[*index] != 0).collect();
    assert_eq!((entries.len(), named, entries[64]), (128, vec![64], first * 512));
    assert_eq!(refcounts.grow(&*blob)?.old, (cluster(first + 1), count(2)));
    Ok(())
}

#[test]
fn a_table_takes_8_mib_at_most() -> Outcome {
    let (blob, mut refcounts) = small(1 << 19);
    assert_eq!(refcounts.grow(&*blob)?.clusters, 16_384);
    let refused = refcounts.grow(&*blob);
    let Err(Error::Full { .. }) = refused else { panic!("{refused:?}") };
    Ok(())
}

#[test]
fn no_cluster_lies_past_2_to_the_56() -> Outcome {
    let end = 1 << 35;
    let (blob, mut refcounts) = vast((1 << 17) + 1);
    refcounts.cursor = cluster(end - 1);
    assert_eq!(refcounts.allocate(&*blob, FAR, count(1))?, Some((cluster(end - 1), count(1))));
    let refused = refcounts.allocate(&*blob, FAR, count(1));
    let Err(Error::Full { .. }) = refused else { panic!("{refused:?}") };
    // Behind all blocks, and in a block that no lawful table names.
    for hostile in [false, true] {
        if hostile {
            refcounts.insert_fresh_block(1 << 17, cluster(end));
        }
        let refused = refcounts.allocate_exactly(&*blob, FAR, count(1));
        let Err(Error::Full { .. }) = refused else { panic!("{refused:?}") };
    }
    Ok(())
}

#[test]
fn a_run_lies_in_the_blocks_that_are_there_or_behind_new_ones() -> Outcome {
    let (blob, mut refcounts) = small(64);
    refcounts.insert_fresh_block(62, cluster(62 * 256));
    refcounts.cursor = cluster(62 * 256 + 10);
    assert_eq!(refcounts.allocate_exactly(&*blob, FAR, count(246))?, Some(cluster(62 * 256 + 10)));
    // The block counts no more than these: one more block counts itself and 255 others.
    assert_eq!(refcounts.allocate_exactly(&*blob, FAR, count(256))?, None);
    assert_eq!(refcounts.allocate_exactly(&*blob, FAR, count(255))?, Some(cluster(63 * 256 + 1)));
    assert_eq!(refcounts.allocate_exactly(&*blob, FAR, count(1))?, None);
    for (clusters, blocks) in [(1, 1), (255, 1), (256, 2), (510, 2), (511, 3)] {
        assert_eq!(blocks_covering(clusters, 256), blocks, "{clusters}");
    }
    Ok(())
}

#[test]
fn what_is_released_is_told_in_runs_of_what_is_free_now() -> Outcome {
    let (blob, mut refcounts) = small(64);
    refcounts.insert_fresh_block(0, cluster(0));
    assert_eq!(refcounts.allocate(&*blob, FAR, count(20))?, Some((cluster(1), count(20))));
    assert_eq!(refcounts.cursor, cluster(21));
    assert!(refcounts.share(&*blob, FAR, cluster(8))?);
    assert!(!refcounts.share(&*blob, FAR, cluster(30))?, "nothing uses it");
    assert!(!refcounts.share(&*blob, FAR, cluster(1 << 20))?, "nothing counts it");
    assert_eq!(refcounts.release(&*blob, FAR, cluster(11), count(1))?, [(cluster(11), count(1))]);
    // 8 is used by another one still, and 11 is free before.
    let freed = refcounts.release(&*blob, FAR, cluster(6), count(8))?;
    let runs = [(cluster(6), count(2)), (cluster(9), count(2)), (cluster(12), count(2))];
    assert_eq!(freed, runs);
    assert_eq!(refcounts.cursor, cluster(6));
    assert_eq!(refcounts.allocate(&*blob, FAR, count(9))?, Some((cluster(6), count(2))));
    Ok(())
}

#[test]
fn blocks_are_clean_when_they_and_their_entries_are_written() -> Outcome {
    let (blob, mut refcounts) = small(128);
    assert!(refcounts.is_clean());
    for index in 0..65 {
        refcounts.insert_fresh_block(index, cluster(index as u64 * 256));
    }
    assert!(!refcounts.is_clean());
    assert!(refcounts.write_blocks(&*blob)?);
    refcounts.mark_blocks_written();
    assert!(!refcounts.write_blocks(&*blob)?);
    assert!(!refcounts.is_clean(), "the table does not name them yet");
    refcounts.drop_clean();
    assert_eq!(refcounts.blocks.len(), 65, "they cannot be read again");
    assert!(refcounts.write_table(&*blob)?);
    refcounts.mark_table_written();
    assert!(refcounts.is_clean());
    assert!(!refcounts.write_table(&*blob)?);
    let mut entry = [0; 8];
    blob.read_at(HostOffset::new(512 + 64 * 8), &mut entry)?;
    assert_eq!(u64::from_be_bytes(entry), 64 * 256 * 512);
    // One that is dirty again stays, and so does all where there are few.
    refcounts.raise(cluster(3));
    assert!(!refcounts.is_clean());
    refcounts.drop_clean();
    assert_eq!(refcounts.blocks.len(), 1);
    refcounts.mark_blocks_written();
    for index in 65..128 {
        refcounts.insert_fresh_block(index, cluster(index as u64 * 256));
    }
    refcounts.mark_blocks_written();
    refcounts.mark_table_written();
    refcounts.drop_clean();
    assert_eq!(refcounts.blocks.len(), 64);
    Ok(())
}

#[test]
fn a_block_lies_inside_the_file() -> Outcome {
    let (blob, mut refcounts) = small(64);
    refcounts.table[0] = 1024;
    blob.set_length(ByteCount::new(1536))?;
    let refused = refcounts.share(&*blob, HostOffset::new(1024), cluster(3));
    let Err(Error::OutsideFile { structure: "refcount block", .. }) = refused else { panic!("{refused:?}") };
    assert!(!refcounts.share(&*blob, HostOffset::new(1536), cluster(3))?);
    Ok(())
}
