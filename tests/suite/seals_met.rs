//! Seals that meet other sealings, merges and files that are not theirs, and a store that cannot tell when a file was
//! changed.

use crate::plain::PlainStore;
use crate::support::{
    Home, Made, Outcome, SIZE, assert_sound, file_of, fill, on_every_store, read_snapshot, volume,
};
use snapgroup::image::{Image, Limits};
use snapgroup::storage::{Access, BlobName, FileSystem, MemoryStore, SimulatedDisk, Store};
use snapgroup::units::{GuestOffset, HostOffset};
use snapgroup::{
    BaseImage, ByteCount, CreateSnapshot, CreateVolume, DeleteSnapshots, Direction, Engine, LayerFormat,
    Options, SealOptions, Step, Uuid, Verdict, VerifyDepth, VerifyOf, VolumeKind,
};
use std::sync::Arc;

on_every_store! {
    of_two_sealings_at_once_each_layer_is_sealed_once
    a_sealing_that_was_overtaken_does_not_stop_the_one_that_overtook_it
    a_sealing_whose_layer_is_written_to_ends_at_its_next_step
    a_cluster_that_covers_what_shows_through_from_below_is_found
    a_base_that_has_grown_is_found
    a_seal_with_something_behind_it_is_none
    a_file_under_the_name_of_a_seal_that_is_none_is_left_alone
}

const CLUSTER: u64 = 4096;

/// A volume with `count` snapshots, each with clusters of its own.
fn with_snapshots(engine: &Engine, count: u8) -> Made<Vec<Uuid>> {
    let disk = engine.create_volume(&volume("disk", VolumeKind::Data))?.uuid;
    let mut snapshots = Vec::new();
    for index in 1..=count {
        fill(&engine.open_volume(disk)?, u64::from(index) * 16 * CLUSTER, 40_000, index)?;
        snapshots.push(engine.create_snapshot(&CreateSnapshot::new(disk, format!("s{index}")))?.uuid);
    }
    Ok(snapshots)
}

fn layer_of(engine: &Engine, snapshot: Uuid) -> Made<String> {
    Ok(file_of(&engine.snapshot(snapshot)?.primary_storage_install_path))
}

fn verdict(engine: &Engine, file: &str) -> Made<Verdict> {
    let found = engine.verify(&VerifyOf::Pool, VerifyDepth::Content)?.layers;
    let layer = found.into_iter().find(|layer| layer.file == file).ok_or("it is verified")?;
    Ok(layer.verdict)
}

fn seals(home: &Home) -> Made<Vec<String>> {
    Ok(home.picture()?.into_keys().filter(|name| name.starts_with("seal-")).collect())
}

/// Another name for a seal of the same layer: `seal-LAYER-SEAL.sums`.
fn another(seal: &str) -> String {
    let (of_layer, of_seal) = seal.split_at("seal--".len() + 32);
    format!("{of_layer}{}{}", "f".repeat(32), &of_seal[32..])
}

fn of_two_sealings_at_once_each_layer_is_sealed_once(home: &Home) -> Outcome {
    let engine = home.open()?;
    with_snapshots(&engine, 3)?;
    let (one, other) = (engine.seal(&SealOptions::default())?, engine.seal(&SealOptions::default())?);
    assert_eq!((one.finish()?.layers, other.finish()?.layers), (3, 0));
    let made = seals(home)?;
    assert_eq!(made.len(), 3);
    assert_sound(&engine)?;
    // Nobody is at it any more: a further file is nobody's.
    let stray = another(&made[0]);
    home.put(&stray, &home.bytes(&made[0])?)?;
    assert_eq!(engine.check()?.unnamed, [stray]);
    Ok(())
}

fn a_sealing_that_was_overtaken_does_not_stop_the_one_that_overtook_it(home: &Home) -> Outcome {
    let engine = home.open()?;
    with_snapshots(&engine, 1)?;
    let (mut one, mut other) = (engine.seal(&SealOptions::default())?, engine.seal(&SealOptions::default())?);
    for sealing in [&mut one, &mut other] {
        assert_eq!(sealing.step(ByteCount::new(1))?, Step::More);
    }
    drop(one);
    let sealed = other.finish()?;
    assert_eq!((sealed.layers, &sealed.failed[..]), (1, &[][..]));
    assert_sound(&engine)
}

fn a_sealing_whose_layer_is_written_to_ends_at_its_next_step(home: &Home) -> Outcome {
    let engine = home.open()?;
    let snapshots = with_snapshots(&engine, 2)?;
    let file = layer_of(&engine, snapshots[0])?;
    let mut sealing = engine.seal(&SealOptions::default())?;
    assert_eq!(sealing.step(ByteCount::new(1))?, Step::More);
    let direction = Direction::Commit;
    assert!(
        engine
            .delete_snapshots(&DeleteSnapshots { direction, ..DeleteSnapshots::one(snapshots[0]) })?
            .is_success()
    );
    let before = sealing.sealed().bytes_read;
    let step = sealing.step(ByteCount::new(1))?;
    assert!(
        sealing.sealed().failed.iter().any(|failed| failed.file == file),
        "{step:?} {:?}",
        sealing.sealed()
    );
    assert!(sealing.sealed().bytes_read - before <= ByteCount::new(2 * CLUSTER));
    Ok(())
}

fn a_cluster_that_covers_what_shows_through_from_below_is_found(home: &Home) -> Outcome {
    let engine = home.open()?;
    let snapshots = with_snapshots(&engine, 2)?;
    assert!(engine.seal(&SealOptions::default())?.finish()?.failed.is_empty());
    let file = layer_of(&engine, snapshots[1])?;
    let at = 20 * CLUSTER;
    let mut below = vec![0; 4096];
    engine.open_snapshot(snapshots[1])?.read_at(at, &mut below)?;
    assert!(below.iter().all(|byte| *byte == 1), "it shows through");
    let blob = home.touch()?.open(&BlobName::parse(&file)?, Access::Write)?;
    let image = Image::open(blob, &file, Access::Write, Limits::default())?;
    image.write(GuestOffset::new(at), &[9; 4096], None)?;
    image.flush()?;
    let ranges = std::iter::once(at..at + CLUSTER).collect();
    assert_eq!(verdict(&engine, &file)?, Verdict::Differs { bytes: ByteCount::new(CLUSTER), ranges });
    Ok(())
}

fn a_base_that_has_grown_is_found(home: &Home) -> Outcome {
    home.put("base.raw", &[5; 131_072])?;
    let engine = home.open()?;
    let base = BaseImage { file: "base.raw".into(), format: LayerFormat::Raw };
    engine.create_volume(&CreateVolume { base: Some(base), size: None, ..volume("v", VolumeKind::Data) })?;
    assert!(engine.seal(&SealOptions::default())?.finish()?.failed.is_empty());
    assert_eq!(verdict(&engine, "base.raw")?, Verdict::Intact);
    // By a hole, which reads as zeros as what is behind the end does.
    home.cut("base.raw", 196_608)?;
    let found = verdict(&engine, "base.raw")?;
    assert!(matches!(found, Verdict::Differs { .. } | Verdict::Unusable { .. }), "{found:?}");
    Ok(())
}

fn a_seal_with_something_behind_it_is_none(home: &Home) -> Outcome {
    let engine = home.open()?;
    let snapshots = with_snapshots(&engine, 1)?;
    assert!(engine.seal(&SealOptions::default())?.finish()?.failed.is_empty());
    let seal = seals(home)?.remove(0);
    home.patch(&seal, home.bytes(&seal)?.len() as u64, &[0; 16])?;
    let Verdict::SealLost { .. } = verdict(&engine, &layer_of(&engine, snapshots[0])?)? else {
        panic!("it is not what was written")
    };
    Ok(())
}

fn a_file_under_the_name_of_a_seal_that_is_none_is_left_alone(home: &Home) -> Outcome {
    let engine = home.open()?;
    with_snapshots(&engine, 1)?;
    assert!(engine.seal(&SealOptions::default())?.finish()?.failed.is_empty());
    engine.close()?;
    let seal = seals(home)?.remove(0);
    let stray = another(&seal);
    let mut whole = home.bytes(&seal)?;
    // Longer than what a crash leaves of a header.
    whole.resize(4096, 0xa5);
    let changed = |at: usize, byte: u8, is_summed: bool| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        let sum = crc32fast::hash(&bytes[..60]).to_be_bytes();
        if is_summed {
            bytes[60..64].copy_from_slice(&sum);
        }
        bytes
    };
    // Another magic, a newer version, another pool, another layer, a header that is damaged.
    for (at, is_summed) in [(0, true), (11, true), (20, true), (40, true), (50, false)] {
        home.put(&stray, &changed(at, 0x77, is_summed))?;
        let engine = home.open()?;
        assert_eq!(engine.recovered().left_alone, std::slice::from_ref(&stray), "byte {at}");
        engine.close()?;
        assert!(home.bytes(&stray)?.len() == 4096, "byte {at}");
    }
    // One that was given up is removed.
    home.put(&stray, &whole)?;
    let engine = home.open()?;
    assert_eq!(engine.recovered().removed, [stray]);
    assert_sound(&engine)
}

#[test]
fn what_is_sealed_and_was_never_written_to_is_there_after_a_power_cut() -> Outcome {
    let disk = SimulatedDisk::new(FileSystem::Strict);
    let engine = Engine::open_on(Arc::new(disk.clone()), Options::default())?;
    let uuid = engine.create_volume(&CreateVolume::new("disk", SIZE))?.uuid;
    let empty = engine.create_snapshot(&CreateSnapshot::new(uuid, "empty"))?.uuid;
    assert_eq!(engine.seal(&SealOptions::default())?.finish()?.layers, 1);
    let left = disk.log().cut(disk.position()).durable().store();
    let engine = Engine::open_on(Arc::new(left), Options::default())?;
    assert!(read_snapshot(&engine, empty)?.iter().all(|byte| *byte == 0));
    assert!(engine.check()?.is_sound() && engine.recovered().unfinished.is_empty());
    assert!(engine.verify(&VerifyOf::Pool, VerifyDepth::Content)?.is_proved());
    Ok(())
}

#[test]
fn a_seal_says_whose_it_is_before_anything_else_is_in_it() -> Outcome {
    let disk = SimulatedDisk::new(FileSystem::Strict);
    let engine = Engine::open_on(Arc::new(disk.clone()), Options::default())?;
    with_snapshots(&engine, 1)?;
    let mut sealing = engine.seal(&SealOptions::default())?;
    assert_eq!(sealing.step(ByteCount::new(1))?, Step::More);
    disk.sync_names()?;
    let left = disk.log().cut(disk.position()).durable().store();
    let name = left.list()?.into_iter().find(|name| name.as_str().starts_with("seal-"));
    let blob = left.open(&name.ok_or("its name is durable")?, Access::Read)?;
    let mut start = [0; 8];
    blob.read_at(HostOffset::ZERO, &mut start)?;
    assert_eq!(&start, b"SNAPSEAL");
    Ok(())
}

#[test]
fn without_stamps_everything_is_a_suspect_and_a_merge_still_voids_the_seal_that_is_being_made() -> Outcome {
    let store = MemoryStore::new();
    let engine = Engine::open_on(Arc::new(PlainStore(store.clone())), Options::default())?;
    // Each writes over all that the one before holds: a merge changes no length.
    let disk = engine.create_volume(&volume("disk", VolumeKind::Data))?.uuid;
    let mut snapshots = Vec::new();
    for byte in 1..=3 {
        fill(&engine.open_volume(disk)?, 0, 40_960, byte)?;
        snapshots.push(engine.create_snapshot(&CreateSnapshot::new(disk, format!("s{byte}")))?.uuid);
    }
    let file = layer_of(&engine, snapshots[0])?;
    let mut sealing = engine.seal(&SealOptions::default())?;
    assert_eq!(sealing.step(ByteCount::new(1))?, Step::More);
    let direction = Direction::Commit;
    assert!(
        engine
            .delete_snapshots(&DeleteSnapshots { direction, ..DeleteSnapshots::one(snapshots[0]) })?
            .is_success()
    );
    let sealed = sealing.finish()?;
    assert!(sealed.failed.iter().any(|failed| failed.file == file), "{sealed:?}");
    assert!(engine.verify(&VerifyOf::Pool, VerifyDepth::Content)?.is_good());
    assert!(engine.seal(&SealOptions::default())?.finish()?.failed.is_empty());
    assert!(engine.verify(&VerifyOf::Pool, VerifyDepth::Suspects)?.is_proved());
    // A changed byte is found where nothing is suspicious from outside.
    let last = layer_of(&engine, snapshots[2])?;
    let blob = store.open(&BlobName::parse(&last)?, Access::Write)?;
    let mut bytes = vec![0; blob.length()?.as_usize()];
    blob.read_at(HostOffset::ZERO, &mut bytes)?;
    let at = bytes.windows(512).position(|window| window == [3; 512]).ok_or("it holds its data")?;
    blob.write_at(HostOffset::new(at as u64), &[0xee])?;
    assert!(!engine.verify(&VerifyOf::Pool, VerifyDepth::Suspects)?.is_good());
    Ok(())
}
