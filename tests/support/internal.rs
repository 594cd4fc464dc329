//! An internal snapshot, put into an image and read back, as QEMU does it.

use snapgroup::format::{
    Copied, L1Entry, L2Entry, RefcountTableEntry, SnapshotEntry, encode_snapshots, refcount,
};
use snapgroup::image::Image;
use snapgroup::storage::{Blob, BlobName, MemoryStore, Store};
use snapgroup::units::{ByteCount, ClusterCount, HostCluster, HostOffset};
use std::error::Error as StdError;
use std::sync::Arc;

type Outcome<T = ()> = Result<T, Box<dyn StdError>>;

fn words(blob: &dyn Blob, at: HostOffset, count: usize) -> Outcome<Vec<u64>> {
    let mut bytes = vec![0; count * 8];
    let inside = blob.length()?.as_usize().saturating_sub(at.as_length().as_usize()).min(bytes.len());
    blob.read_at(at, &mut bytes[..inside])?;
    Ok(bytes.chunks(8).map(|word| u64::from_be_bytes(word.try_into().expect("eight"))).collect())
}

fn put_words(blob: &dyn Blob, at: HostOffset, words: &[u64]) -> Outcome {
    Ok(blob.write_at(at, &words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>())?)
}

/// Shares everything that the disk has with a new snapshot, the only one. The image is not open.
pub(crate) fn add(blob: &dyn Blob) -> Outcome {
    let mut header = Image::header_of(blob, "x")?;
    let geometry = header.geometry;
    let refer = |cluster: HostCluster| -> Outcome {
        let at = header.refcount_table + ByteCount::of(geometry.refcount_table_index(cluster) * 8);
        let raw = words(blob, at, 1)?[0];
        let RefcountTableEntry::Block { at } = RefcountTableEntry::decode(raw, geometry)? else {
            return Err("no block counts the cluster".into());
        };
        let per_cluster = geometry.cluster_size().as_usize() / 8;
        let mut block: Vec<u8> =
            words(blob, at, per_cluster)?.iter().flat_map(|word| word.to_be_bytes()).collect();
        let (order, index) = (geometry.refcount_order(), geometry.refcount_block_index(cluster) as u64);
        let count = refcount::get(&block, order, index);
        refcount::set(&mut block, order, index, count + 1);
        Ok(blob.write_at(at, &block)?)
    };
    let mut l1 = words(blob, header.l1_table, usize::try_from(header.l1_entries)?)?;
    for raw in &mut l1 {
        let L1Entry::Table { at, .. } = L1Entry::decode(*raw, geometry)? else { continue };
        *raw = L1Entry::Table { at, copied: Copied::No }.encode();
        refer(geometry.host_cluster(at))?;
        let width = geometry.l2_entry_size() / 8;
        let mut table = words(blob, at, geometry.cluster_size().as_usize() / 8)?;
        for entry in table.chunks_mut(width) {
            let bitmap = entry.get(1).copied().unwrap_or(0);
            match L2Entry::decode(entry[0], bitmap, geometry, header.version)? {
                L2Entry::Compressed(extent) => {
                    extent.host_clusters(geometry).try_for_each(&refer)?;
                }
                other => {
                    let there = other.subclusters(geometry).expect("not compressed");
                    if let Some(at) = there.at {
                        refer(geometry.host_cluster(at))?;
                        entry[0] &= !(1 << 63);
                    }
                }
            }
        }
        put_words(blob, at, &table)?;
    }
    put_words(blob, header.l1_table, &l1)?;
    let copy = HostCluster::ZERO + geometry.clusters_for(blob.length()?);
    let clusters = geometry.clusters_for(ByteCount::of(l1.len() * 8));
    put_words(blob, geometry.host_offset(copy), &l1)?;
    let table = copy + clusters;
    let entry = SnapshotEntry {
        l1_table: geometry.host_offset(copy),
        l1_entries: header.l1_entries,
        id: b"1".to_vec(),
        name: b"kept".to_vec(),
        date_seconds: 1,
        date_nanos: 0,
        vm_clock_nanos: 0,
        vm_state_size_32: 0,
        extra: [[0; 8], header.size.as_u64().to_be_bytes()].concat(),
    };
    blob.write_at(geometry.host_offset(table), &encode_snapshots(&[entry], header.version)?)?;
    for index in 0..=clusters.as_u64() {
        refer(copy + ClusterCount::new(index))?;
    }
    header.snapshot_count = 1;
    header.snapshot_table = geometry.host_offset(table);
    blob.write_at(HostOffset::ZERO, &header.encode()?)?;
    Ok(())
}

/// A copy of an image whose disk is what its only internal snapshot holds.
pub(crate) fn gone_back(blob: &dyn Blob) -> Outcome<Arc<dyn Blob>> {
    let mut bytes = vec![0; blob.length()?.as_usize()];
    blob.read_at(HostOffset::ZERO, &mut bytes)?;
    let copy = MemoryStore::new().create(&BlobName::parse("copy")?)?;
    copy.write_at(HostOffset::ZERO, &bytes)?;
    let mut header = Image::header_of(&*copy, "x")?;
    let at = header.snapshot_table.as_length().as_usize();
    let entry = SnapshotEntry::parse(&bytes[at..], header.version)?;
    header.l1_table = entry.l1_table;
    header.l1_entries = entry.l1_entries;
    header.size = entry.disk_size().ok_or("it says how large it is")?;
    header.snapshot_count = 0;
    copy.write_at(HostOffset::ZERO, &header.encode()?)?;
    Ok(copy)
}
