//! Repair of one image: what is mended, what is left alone, and what a power cut in the middle leaves.

#![expect(clippy::print_stdout, reason = "a failing test shows which seed and which shape it was")]

#[path = "support/dice.rs"]
mod dice;
#[path = "support/power.rs"]
#[expect(dead_code, reason = "other tests look at the writes of the header")]
mod power;

use dice::Dice;
use power::PowerCutBlob;
use snapgroup::format::{Header, refcount};
use snapgroup::image::{self, CheckReport, Image, Limits, Mend, NewImage, RepairMode, Space, Version};
use snapgroup::storage::{Access, Blob};
use snapgroup::units::{ByteCount, GuestOffset, HostCluster, HostOffset};
use std::error::Error as StdError;

type Outcome<T = ()> = Result<T, Box<dyn StdError>>;

const SIZE: usize = 300_000;

/// Every version, cluster size and width of refcounts.
fn shapes() -> Vec<NewImage> {
    let size = ByteCount::of(SIZE);
    let mut shapes = Vec::new();
    for cluster_bits in [9, 12, 16, 21] {
        shapes.push(NewImage { version: Version::V2, cluster_bits, ..NewImage::of_size(size) });
        for refcount_order in 0..=6 {
            shapes.push(NewImage { cluster_bits, refcount_order, ..NewImage::of_size(size) });
        }
    }
    shapes
}

/// An image that was written, in a blob that keeps its log.
fn written(new: &NewImage) -> Outcome<(PowerCutBlob, Vec<u8>)> {
    let blob = PowerCutBlob::default();
    new.layout("x")?.write(&*blob)?;
    let image = Image::open(blob.blob(), "x", Access::Write, Limits::default())?;
    for (at, length, byte) in [(1000, 50_000, 1), (120_000, 70_000, 2), (299_000, 900, 3)] {
        image.write(GuestOffset::new(at), &vec![byte; length], None)?;
    }
    image.flush()?;
    image.zero(GuestOffset::new(10_000), ByteCount::new(5000), Space::Keep, None)?;
    image.flush()?;
    drop(image);
    let content = content(&bytes(&*blob)?)?;
    Ok((blob, content))
}

fn bytes(blob: &dyn Blob) -> Outcome<Vec<u8>> {
    let mut bytes = vec![0; blob.length()?.as_usize()];
    blob.read_at(HostOffset::ZERO, &mut bytes)?;
    Ok(bytes)
}

fn holding(bytes: &[u8]) -> Outcome<PowerCutBlob> {
    let blob = PowerCutBlob::default();
    blob.write_at(HostOffset::ZERO, bytes)?;
    blob.sync()?;
    Ok(blob)
}

/// What the guest reads.
fn content(bytes: &[u8]) -> Outcome<Vec<u8>> {
    let image = Image::open(holding(bytes)?.blob(), "x", Access::Read, Limits::default())?;
    let (mut found, mut holes) = (vec![0xee; SIZE], Vec::new());
    image.read(GuestOffset::ZERO, &mut found, &mut holes)?;
    holes.into_iter().for_each(|hole| found[hole].fill(0));
    Ok(found)
}

fn header(blob: &dyn Blob) -> Outcome<Header> {
    Ok(Image::header_of(blob, "x")?)
}

fn u64_at(blob: &dyn Blob, at: u64) -> Outcome<u64> {
    let mut bytes = [0; 8];
    blob.read_at(HostOffset::new(at), &mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}

fn put(blob: &dyn Blob, at: u64, value: u64) -> Outcome {
    blob.write_at(HostOffset::new(at), &value.to_be_bytes())?;
    blob.sync()?;
    Ok(())
}

/// Sets one refcount in its block.
fn set_refcount(blob: &dyn Blob, cluster: HostCluster, value: u64) -> Outcome {
    let header = header(blob)?;
    let geometry = header.geometry;
    let entry = header.refcount_table.as_u64() + 8 * geometry.refcount_table_index(cluster) as u64;
    let at = u64_at(blob, entry)?;
    let length = geometry.cluster_size().as_u64().min(blob.length()?.as_u64() - at);
    let mut block = vec![0; usize::try_from(length)?];
    blob.read_at(HostOffset::new(at), &mut block)?;
    refcount::set(
        &mut block,
        geometry.refcount_order(),
        geometry.refcount_block_index(cluster) as u64,
        value,
    );
    blob.write_at(HostOffset::new(at), &block)?;
    blob.sync()?;
    Ok(())
}

/// The first L2 table, and the first cluster of data that it names, with the place of its entry.
fn first_data(blob: &dyn Blob) -> Outcome<(u64, u64, u64)> {
    let header = header(blob)?;
    let table = u64_at(blob, header.l1_table.as_u64())? & 0x00ff_ffff_ffff_fe00;
    for index in 0..header.geometry.l2_entries() {
        let entry = u64_at(blob, table + index * 8)?;
        if entry & 0x00ff_ffff_ffff_fe00 != 0 {
            return Ok((table, table + index * 8, entry & 0x00ff_ffff_ffff_fe00));
        }
    }
    Err("no data".into())
}

fn cluster_of(blob: &dyn Blob, at: u64) -> Outcome<HostCluster> {
    Ok(header(blob)?.geometry.host_cluster(HostOffset::new(at)))
}

/// A cluster behind the last one that its block can count.
fn unused(blob: &dyn Blob) -> Outcome<Option<HostCluster>> {
    let geometry = header(blob)?.geometry;
    let behind = geometry.clusters_for(blob.length()?).as_u64();
    let covered = behind % geometry.refcount_block_entries() != 0;
    Ok(covered.then(|| HostCluster::new(behind)))
}

fn repair(blob: &dyn Blob) -> Outcome<(Vec<Mend>, CheckReport)> {
    let before = bytes(blob)?;
    let plan = image::repair(blob, "x", RepairMode::Plan)?;
    assert_eq!(bytes(blob)?, before, "a plan has written");
    let done = image::repair(blob, "x", RepairMode::Perform)?;
    assert_eq!(plan.mends, done.mends, "what was foretold is not what was done");
    assert_eq!(plan.before, done.before);
    Ok((done.mends, done.after.unwrap_or(done.before)))
}

fn assert_repaired(blob: &dyn Blob, expected: &[u8]) -> Outcome<Vec<Mend>> {
    let (mends, after) = repair(blob)?;
    assert!(after.is_clean(), "{after}");
    assert_eq!(after, image::check(blob, "x")?, "the repair's last word is not what a check finds");
    assert!(content(&bytes(blob)?)? == expected, "the guest reads differently");
    let once = bytes(blob)?;
    assert_eq!(image::repair(blob, "x", RepairMode::Perform)?.mends, []);
    assert_eq!(bytes(blob)?, once, "a second repair has written");
    Ok(mends)
}

// ---- What is mended -----------------------------------------------------------------------------------------

#[test]
fn an_image_in_order_is_not_written_to() -> Outcome {
    for new in shapes() {
        let (blob, expected) = written(&new)?;
        assert_eq!(assert_repaired(&*blob, &expected)?, [], "{new:?}");
    }
    Ok(())
}

#[test]
fn leaked_clusters_are_free_again() -> Outcome {
    for new in shapes() {
        let (blob, expected) = written(&new)?;
        let Some(leaked) = unused(&*blob)? else { continue };
        set_refcount(&*blob, leaked, 1)?;
        assert_eq!(assert_repaired(&*blob, &expected)?, [Mend::Leaks { clusters: 1 }], "{new:?}");
    }
    Ok(())
}

#[test]
fn a_refcount_that_is_too_low_is_raised_before_anything_takes_the_cluster() -> Outcome {
    for new in shapes() {
        let (blob, expected) = written(&new)?;
        let (_, _, data) = first_data(&*blob)?;
        set_refcount(&*blob, cluster_of(&*blob, data)?, 0)?;
        let mends = assert_repaired(&*blob, &expected)?;
        assert_eq!(mends, [Mend::RefcountsTooLow { clusters: 1 }], "{new:?}");
    }
    Ok(())
}

#[test]
fn a_refcount_that_is_too_high_is_lowered_to_the_references() -> Outcome {
    for new in shapes().into_iter().filter(|new| new.refcount_order > 1) {
        let (blob, expected) = written(&new)?;
        let (_, _, data) = first_data(&*blob)?;
        set_refcount(&*blob, cluster_of(&*blob, data)?, 3)?;
        assert_eq!(assert_repaired(&*blob, &expected)?, [Mend::Leaks { clusters: 1 }], "{new:?}");
    }
    Ok(())
}

#[test]
fn wrong_marks_are_put_right_in_both_levels() -> Outcome {
    for new in shapes() {
        let (blob, expected) = written(&new)?;
        let (_, entry, _) = first_data(&*blob)?;
        let l1 = header(&*blob)?.l1_table.as_u64();
        for at in [entry, l1] {
            put(&*blob, at, u64_at(&*blob, at)? & !(1 << 63))?;
        }
        assert_eq!(assert_repaired(&*blob, &expected)?, [Mend::Marks { entries: 2 }], "{new:?}");
    }
    Ok(())
}

#[test]
fn a_dirty_image_gets_new_refcounts_when_the_old_ones_are_wrong_and_keeps_them_when_not() -> Outcome {
    for new in shapes().into_iter().filter(|new| new.version == Version::V3) {
        let (blob, expected) = written(&new)?;
        put(&*blob, 72, 1)?;
        assert_eq!(assert_repaired(&*blob, &expected)?, [Mend::DirtyCleared], "{new:?}");
        put(&*blob, 72, 1)?;
        let (table, _, data) = first_data(&*blob)?;
        let before = header(&*blob)?.refcount_table;
        for at in [table, data] {
            set_refcount(&*blob, cluster_of(&*blob, at)?, 0)?;
        }
        let mends = assert_repaired(&*blob, &expected)?;
        let wanted = [Mend::RefcountsRebuilt, Mend::RefcountsTooLow { clusters: 2 }, Mend::DirtyCleared];
        assert_eq!(mends, wanted, "{new:?}");
        assert_ne!(header(&*blob)?.refcount_table, before, "the stale refcounts were written over");
    }
    Ok(())
}

/// Each way to lose the refcounts.
fn lose_refcounts(blob: &dyn Blob, way: usize) -> Outcome {
    let header = header(blob)?;
    let table = header.refcount_table.as_u64();
    let block = u64_at(blob, table)?;
    match way {
        // No block at all.
        0 => put(blob, table, 0),
        // A block far outside of the file.
        1 => put(blob, table, 1 << 50),
        // A block that is not aligned.
        2 => put(blob, table, block + 0x100),
        // A block on the L1 table.
        3 => put(blob, table, header.l1_table.as_u64()),
        // A block on data.
        4 => put(blob, table, first_data(blob)?.2),
        // The table itself on the header.
        5 => put(blob, table, 0),
        // The table outside of the file.
        6 => put(blob, 48, 1 << 40),
        // The block on the table.
        _ => put(blob, table, table),
    }
}

#[test]
fn refcounts_that_are_lost_are_made_anew_and_the_guest_reads_the_same() -> Outcome {
    for new in shapes() {
        for way in 0..8 {
            let (blob, expected) = written(&new)?;
            lose_refcounts(&*blob, way)?;
            let mends =
                assert_repaired(&*blob, &expected).map_err(|error| format!("{new:?} {way}: {error}"))?;
            assert!(mends.contains(&Mend::RefcountsRebuilt), "{new:?} {way}: {mends:?}");
            // What was repaired can be written.
            let image = Image::open(blob.blob(), "x", Access::Write, Limits::default())?;
            image.write(GuestOffset::new(60_000), &[9; 50_000], None)?;
            image.flush()?;
            let report = image.check()?;
            assert!(report.is_clean(), "{new:?} {way}: {report}");
        }
    }
    Ok(())
}

#[test]
fn the_corrupt_mark_goes_when_a_full_check_is_clean_and_stays_when_not() -> Outcome {
    let (blob, expected) = written(&NewImage::of_size(ByteCount::of(SIZE)))?;
    put(&*blob, 72, 2)?;
    lose_refcounts(&*blob, 1)?;
    assert!(assert_repaired(&*blob, &expected)?.contains(&Mend::CorruptCleared));

    put(&*blob, 72, 2)?;
    let (_, entry, _) = first_data(&*blob)?;
    put(&*blob, entry, 1 << 50 | 1 << 63)?;
    let (mends, after) = repair(&*blob)?;
    assert!(mends.is_empty() && after.marked_corrupt && after.beyond_repair > 0, "{mends:?} {after}");
    Ok(())
}

#[test]
fn autoclear_bits_that_nobody_knows_are_cleared_by_a_repair_that_writes() -> Outcome {
    let (blob, expected) = written(&NewImage::of_size(ByteCount::of(SIZE)))?;
    put(&*blob, 88, 1 << 63)?;
    assert_eq!(assert_repaired(&*blob, &expected)?, []);
    assert_eq!(u64_at(&*blob, 88)?, 1 << 63, "nothing was repaired, and yet something written");
    set_refcount(&*blob, unused(&*blob)?.expect("room in the block"), 1)?;
    assert_repaired(&*blob, &expected)?;
    assert_eq!(u64_at(&*blob, 88)?, 0);
    Ok(())
}

// ---- What is left alone --------------------------------------------------------------------------------------

#[test]
fn what_cannot_be_repaired_without_guessing_is_reported_and_not_a_byte_is_written() -> Outcome {
    for new in shapes() {
        for way in 0..7 {
            let (blob, _) = written(&new)?;
            let (table, entry, data) = first_data(&*blob)?;
            let l1 = header(&*blob)?.l1_table.as_u64();
            // A leak beside it, which alone would be mended.
            if let Some(leaked) = unused(&*blob)? {
                set_refcount(&*blob, leaked, 1)?;
            }
            let copied = 1 << 63;
            match way {
                // Data outside of the file, and data where no cluster begins.
                0 => put(&*blob, entry, 1 << 50 | copied)?,
                1 => put(&*blob, entry, data | 0x100 | copied)?,
                // Data on the header's tables: the L1 table, its own table.
                2 => put(&*blob, entry, l1 | copied)?,
                3 => put(&*blob, entry, table | copied)?,
                // A table outside of the file, on the L1 table.
                4 => put(&*blob, l1, 1 << 50 | copied)?,
                5 => put(&*blob, l1, l1 | copied)?,
                // Two addresses of the guest with one cluster between them.
                _ => {
                    let last = table + (header(&*blob)?.geometry.l2_entries() - 1) * 8;
                    if last == entry {
                        continue;
                    }
                    put(&*blob, last, data | copied)?;
                }
            }
            let before = bytes(&*blob)?;
            let (mends, report) = repair(&*blob)?;
            assert_eq!(mends, [], "{new:?} {way}");
            assert!(report.beyond_repair > 0 && !report.is_sound(), "{new:?} {way}: {report}");
            assert_eq!(bytes(&*blob)?, before, "{new:?} {way}: it was written to");
        }
    }
    Ok(())
}

// ---- Power cuts ----------------------------------------------------------------------------------------------

#[test]
fn whatever_a_power_cut_leaves_of_a_repair_the_guest_reads_the_same_and_a_repair_finishes_it() -> Outcome {
    cut_repairs([0, 4])
}

#[test]
fn whatever_a_power_cut_leaves_of_a_repair_of_other_refcounts_is_finished_as_well() -> Outcome {
    cut_repairs([1, 6])
}

/// Cuts the power in every repair of small images, with refcounts of these widths.
fn cut_repairs(refcount_orders: [u32; 2]) -> Outcome {
    // An image is cut short many thousands of times.
    let is_meant = |new: &NewImage| new.cluster_bits == 9 && refcount_orders.contains(&new.refcount_order);
    for (seed, new) in (1..).zip(shapes().into_iter().filter(is_meant)) {
        for way in 0..12 {
            println!("seed {seed}, {new:?}, way {way}");
            let (damaged, expected) = written(&new)?;
            match way {
                0..=7 => lose_refcounts(&*damaged, way)?,
                8 => {
                    if let Some(leaked) = unused(&*damaged)? {
                        set_refcount(&*damaged, leaked, 1)?;
                    }
                }
                9 => {
                    let (table, _, data) = first_data(&*damaged)?;
                    for at in [table, data] {
                        set_refcount(&*damaged, cluster_of(&*damaged, at)?, 0)?;
                    }
                }
                10 => {
                    let (_, entry, _) = first_data(&*damaged)?;
                    put(&*damaged, entry, u64_at(&*damaged, entry)? & !(1 << 63))?;
                }
                _ if new.version == Version::V3 => {
                    put(&*damaged, 72, 3)?;
                    lose_refcounts(&*damaged, 0)?;
                }
                _ => continue,
            }
            let blob = holding(&bytes(&*damaged)?)?;
            let begin = blob.position();
            image::repair(&*blob, "x", RepairMode::Perform)?;
            let mut dice = Dice::of(seed);
            let points: Vec<usize> =
                (begin..=blob.position()).flat_map(|point| [point, point, point]).collect();
            let log = blob.log();
            for (point, left) in power::cuts(&log, &points, &mut dice) {
                let cut = holding(&left)?;
                let report = image::check(&*cut, "x")?;
                assert_eq!(report.beyond_repair, 0, "a cut at {point} did harm: {report}");
                assert_repaired(&*cut, &expected).map_err(|error| format!("cut at {point}: {error}"))?;
            }
        }
    }
    Ok(())
}
