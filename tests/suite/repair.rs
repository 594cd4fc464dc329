//! Repair of a pool: layers, heads and frozen ones, and files that are nobody's.

use crate::support::{Home, Made, Outcome, on_every_store};
use snapgroup::format::refcount;
use snapgroup::image::{Image, Mend};
use snapgroup::storage::{Access, Blob, BlobName, Store};
use snapgroup::units::{HostCluster, HostOffset};
use snapgroup::{
    ByteCount, CreateSnapshot, CreateVolume, Engine, ImportFrom, ImportVolume, LayerFormat, RepairOptions,
    Repaired, Step, Uuid,
};
use std::collections::BTreeSet;
use std::sync::Arc;

on_every_store! {
    a_repair_mends_heads_and_frozen_layers_and_changes_no_content
    a_plan_tells_what_a_repair_does_and_writes_nothing
    a_head_that_is_open_is_left_and_told
    files_that_no_record_names_are_removed_when_nobody_has_written_to_them
    what_cannot_be_mended_is_left_with_its_reason
    a_layer_that_is_being_filled_is_left_alone
}

/// A volume with a snapshot, different data in both.
fn disk(engine: &Engine) -> Made<(Uuid, Uuid)> {
    let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?.uuid;
    engine.open_volume(volume)?.write_at(0, &[1; 200_000])?;
    let snapshot = engine.create_snapshot(&CreateSnapshot::new(volume, "first"))?.uuid;
    engine.open_volume(volume)?.write_at(0, &[2; 100_000])?;
    Ok((volume, snapshot))
}

fn contents(engine: &Engine, volume: Uuid, snapshot: Uuid) -> Made<[Vec<u8>; 2]> {
    let (mut now, mut then) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    engine.open_volume(volume)?.read_at(0, &mut now)?;
    engine.open_snapshot(snapshot)?.read_at(0, &mut then)?;
    Ok([now, then])
}

fn open(store: &dyn Store, file: &str) -> Made<Arc<dyn Blob>> {
    Ok(store.open(&BlobName::parse(file)?, Access::Write)?)
}

fn bytes(blob: &dyn Blob) -> Made<Vec<u8>> {
    let mut bytes = vec![0; blob.length()?.as_usize()];
    blob.read_at(HostOffset::ZERO, &mut bytes)?;
    Ok(bytes)
}

/// Counts a cluster as used that nothing uses.
fn leak(blob: &dyn Blob) -> Outcome {
    let header = Image::header_of(blob, "x")?;
    let mut entry = [0; 8];
    blob.read_at(header.refcount_table, &mut entry)?;
    let at = HostOffset::new(u64::from_be_bytes(entry));
    let mut block = vec![0; 8192];
    blob.read_at(at, &mut block)?;
    refcount::set(&mut block, 4, HostCluster::new(3000).as_u64(), 1);
    blob.write_at(at, &block)?;
    Ok(())
}

/// Takes all refcounts away.
fn lose_refcounts(blob: &dyn Blob) -> Outcome {
    let header = Image::header_of(blob, "x")?;
    blob.write_at(header.refcount_table, &[0; 8])?;
    Ok(())
}

fn a_repair_mends_heads_and_frozen_layers_and_changes_no_content(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (volume, snapshot) = disk(&engine)?;
    let before = contents(&engine, volume, snapshot)?;
    let chain = engine.chain(volume)?;
    engine.close()?;
    leak(&*open(&*home.touch()?, &chain[0].file)?)?;
    lose_refcounts(&*open(&*home.touch()?, &chain[1].file)?)?;

    let engine = home.open()?;
    assert_eq!(engine.check()?.layers.len(), 2);
    let repaired = engine.repair(&RepairOptions::perform())?;
    assert!(repaired.is_whole(), "{repaired:?}");
    let mends = |file: &str| {
        let layer = repaired.layers.iter().find(|layer| layer.file == file);
        layer.map(|layer| layer.repair.mends.clone()).unwrap_or_default()
    };
    assert_eq!(mends(&chain[0].file), [Mend::Leaks { clusters: 1 }]);
    assert!(mends(&chain[1].file).contains(&Mend::RefcountsRebuilt));
    assert!(engine.check()?.is_clean());
    assert!(contents(&engine, volume, snapshot)? == before);
    assert_eq!(engine.repair(&RepairOptions::perform())?, Repaired::default());
    Ok(())
}

fn a_plan_tells_what_a_repair_does_and_writes_nothing(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (volume, _) = disk(&engine)?;
    let chain = engine.chain(volume)?;
    engine.close()?;
    let blob = open(&*home.touch()?, &chain[1].file)?;
    leak(&*blob)?;
    let damaged = bytes(&*blob)?;
    let engine = home.open()?;
    let plan = engine.repair(&RepairOptions::default())?;
    assert!(bytes(&*blob)? == damaged, "a plan has written");
    let done = engine.repair(&RepairOptions::perform())?;
    assert_eq!(plan.layers[0].repair.mends, done.layers[0].repair.mends);
    assert!(plan.is_whole() && done.is_whole() && engine.check()?.is_clean());
    Ok(())
}

fn a_head_that_is_open_is_left_and_told(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (volume, _) = disk(&engine)?;
    let chain = engine.chain(volume)?;
    engine.close()?;
    leak(&*open(&*home.touch()?, &chain[0].file)?)?;
    let engine = home.open()?;
    let handle = engine.open_volume(volume)?;
    let repaired = engine.repair(&RepairOptions::perform())?;
    assert_eq!(repaired.left.len(), 1, "{repaired:?}");
    assert_eq!(repaired.left[0].file.as_ref(), Some(&chain[0].file));
    assert_eq!(repaired.layers[0].repair.mends, []);
    drop(handle);
    assert!(engine.repair(&RepairOptions::perform())?.is_whole());
    Ok(())
}

fn files_that_no_record_names_are_removed_when_nobody_has_written_to_them(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (volume, _) = disk(&engine)?;
    let fresh = engine.create_volume(&CreateVolume::new("fresh", ByteCount::mib(1)))?.uuid;
    let (written, pristine) = (engine.chain(volume)?, engine.chain(fresh)?);
    let store = home.store()?;
    let copy = |file: &str, digit: &str| -> Made<String> {
        let name = format!("layer-{}.qcow2", digit.repeat(32));
        let bytes = bytes(&*open(&*store, file)?)?;
        store.create(&BlobName::parse(&name)?)?.write_at(HostOffset::ZERO, &bytes)?;
        Ok(name)
    };
    let (of_written, of_pristine) = (copy(&written[0].file, "a")?, copy(&pristine[0].file, "b")?);
    let plan = engine.repair(&RepairOptions::default())?;
    assert_eq!(plan.removed, std::slice::from_ref(&of_pristine));
    let repaired = engine.repair(&RepairOptions::perform())?;
    assert_eq!(repaired.removed, std::slice::from_ref(&of_pristine));
    assert_eq!(repaired.left[0].file.as_ref(), Some(&of_written));
    let names: Vec<String> = store.list()?.iter().map(ToString::to_string).collect();
    assert!(names.contains(&of_written) && !names.contains(&of_pristine));
    Ok(())
}

fn what_cannot_be_mended_is_left_with_its_reason(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (volume, _) = disk(&engine)?;
    let chain = engine.chain(volume)?;
    engine.close()?;
    let blob = open(&*home.touch()?, &chain[1].file)?;
    let header = Image::header_of(&*blob, "x")?;
    blob.write_at(header.l1_table, &(1_u64 << 50 | 1 << 63).to_be_bytes())?;
    let damaged = bytes(&*blob)?;
    let engine = home.open()?;
    let repaired = engine.repair(&RepairOptions::perform())?;
    assert_eq!(repaired.left.len(), 1, "{repaired:?}");
    assert_eq!(repaired.left[0].file.as_ref(), Some(&chain[1].file));
    assert!(bytes(&*blob)? == damaged, "it was written to");
    assert!(!engine.check()?.is_sound());
    Ok(())
}

fn a_layer_that_is_being_filled_is_left_alone(home: &Home) -> Outcome {
    let engine = home.open()?;
    let store = home.store()?;
    let raw = BlobName::parse("disk.raw")?;
    store.create(&raw)?.write_at(HostOffset::ZERO, &[7; 1 << 20])?;
    let before: BTreeSet<BlobName> = store.list()?.into_iter().collect();
    let from = ImportFrom::Pool(raw.to_string());
    let mut importer = engine.importer(&ImportVolume::new(from, LayerFormat::Raw, "disk"))?;
    assert_eq!(importer.step(ByteCount::kib(64))?, Step::More);
    let file = store.list()?.into_iter().find(|name| !before.contains(name)).ok_or("no file is filled")?;
    leak(&*open(&*store, file.as_str())?)?;
    assert_eq!(engine.repair(&RepairOptions::perform())?, Repaired::default());
    let volume = importer.finish()?.uuid;
    let mut content = vec![0; 1 << 20];
    engine.open_volume(volume)?.read_at(0, &mut content)?;
    assert!(content == [7; 1 << 20]);
    Ok(())
}
