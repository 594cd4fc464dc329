//! Files that are not what they seem: copies, files of other pools, and files that are missing.

use super::support::{
    CATALOGUE, Outcome, World, content_of_snapshot, content_of_volume, copy, files, lose_and_rebuild, name,
    open, options, rebuild, world,
};
use snapgroup::storage::{Access, MemoryStore, Store};
use snapgroup::units::HostOffset;
use snapgroup::{
    AdoptVolume, ByteCount, CreatePool, CreateSnapshot, Engine, Error, LayerFormat, Options, RebuildOptions,
    Rebuilt, Refusal,
};
use std::collections::BTreeSet;
use std::sync::Arc;

fn left(rebuilt: &Rebuilt) -> BTreeSet<&str> {
    rebuilt.files_left.iter().map(|left| left.file.as_str()).collect()
}

#[test]
fn files_of_two_pools_are_never_mixed() -> Outcome {
    let World { store, engine, .. } = world(20)?;
    let pool = engine.uuid();
    engine.close()?;
    let World { store: other, engine, .. } = world(21)?;
    engine.close()?;
    for file in other.list()?.iter().filter(|file| file.as_str() != CATALOGUE) {
        copy(&other, file.as_str(), &store, file.as_str())?;
    }
    store.remove(&name(CATALOGUE))?;
    let refused = Engine::rebuild_on(&store, &options(900), &RebuildOptions::default());
    let Err(Error::Refused(Refusal::SeveralPools { pools })) = refused else { panic!("{refused:?}") };
    assert!(pools.len() == 2 && pools.contains(&pool));
    let request = RebuildOptions { pool: Some(pool.into()) };
    let rebuilt = Engine::rebuild_on(&store, &options(900), &request)?;
    assert_eq!((rebuilt.pool, rebuilt.volumes.len()), (pool, 2));
    let others = files(&other)?;
    assert_eq!(left(&rebuilt), others.keys().map(String::as_str).collect());
    let engine = open(&store)?;
    assert!(engine.check()?.is_sound());
    for (file, bytes) in others {
        assert!(files(&store)?[&file] == bytes, "{file} of another pool was touched");
    }
    Ok(())
}

#[test]
fn foreign_images_and_texts_are_nobody_here() -> Outcome {
    let World { store, engine, .. } = world(22)?;
    engine.close()?;
    let image = snapgroup::image::NewImage::of_size(ByteCount::mib(1)).layout("foreign.qcow2")?;
    image.write(&*store.create(&name("foreign.qcow2"))?)?;
    store.create(&name("notes.txt"))?.write_at(HostOffset::ZERO, b"QFI\xfb but no image")?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert!(rebuilt.is_whole(), "{rebuilt:?}");
    assert!(open(&store)?.check()?.is_clean());
    Ok(())
}

#[test]
fn a_copy_under_another_name_is_a_copy() -> Outcome {
    let World { store, engine, volumes, .. } = world(23)?;
    let chain = engine.chain(volumes[0])?;
    engine.close()?;
    for (place, layer) in chain.iter().enumerate() {
        copy(&store, &layer.file, &store, &format!("backup-{place}.qcow2"))?;
    }
    let rebuilt = lose_and_rebuild(&store)?;
    assert_eq!(left(&rebuilt), BTreeSet::from(["backup-0.qcow2", "backup-1.qcow2"]));
    assert_eq!(rebuilt.volumes.len(), 2);
    let engine = open(&store)?;
    assert!(engine.check()?.is_clean());
    assert_eq!(engine.chain(volumes[0])?[0].file, chain[0].file);
    Ok(())
}

#[test]
fn of_two_adopted_files_that_are_the_same_layer_neither_is_believed() -> Outcome {
    let store = MemoryStore::new();
    let image = snapgroup::image::NewImage::of_size(ByteCount::mib(1)).layout("disk.qcow2")?;
    image.write(&*store.create(&name("disk.qcow2"))?)?;
    let here = Options { create: CreatePool::Here, ..options(24) };
    let engine = Engine::open_on(Arc::new(store.clone()), here)?;
    let volume = engine.adopt_volume(&AdoptVolume::new("disk.qcow2", LayerFormat::Qcow2, "disk"))?.uuid;
    let first = engine.create_snapshot(&CreateSnapshot::new(volume, "first"))?.uuid;
    engine.close()?;
    copy(&store, "disk.qcow2", &store, "copy.qcow2")?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert!(left(&rebuilt).is_superset(&BTreeSet::from(["disk.qcow2", "copy.qcow2"])), "{rebuilt:?}");
    assert_eq!((rebuilt.volumes.len(), rebuilt.volumes_lost[0].uuid), (0, volume));
    assert_eq!(rebuilt.snapshots_lost.iter().map(|lost| lost.uuid).collect::<Vec<_>>(), [first]);
    // Once the copy is gone, the same call tells everything.
    store.remove(&name("copy.qcow2"))?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert!(rebuilt.is_whole(), "{rebuilt:?}");
    Ok(())
}

#[test]
fn a_chain_with_a_file_missing_is_told_of_kept_and_whole_again_when_the_file_is_back() -> Outcome {
    let World { store, engine, volumes, group, .. } = world(25)?;
    let later = engine.create_snapshot(&CreateSnapshot::new(volumes[0], "later"))?.uuid;
    let chain = engine.chain(volumes[0])?;
    engine.close()?;
    let safe = MemoryStore::new();
    copy(&store, &chain[1].file, &safe, &chain[1].file)?;
    store.remove(&name(&chain[1].file))?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert_eq!(left(&rebuilt), BTreeSet::from([chain[0].file.as_str(), chain[2].file.as_str()]));
    assert_eq!(rebuilt.volumes.iter().map(|volume| volume.uuid).collect::<Vec<_>>(), [volumes[1]]);
    assert_eq!(rebuilt.volumes_lost[0].head.as_ref(), Some(&chain[0].file));
    assert_eq!(rebuilt.snapshots_lost.iter().map(|lost| lost.uuid).collect::<Vec<_>>(), [later]);
    assert!(rebuilt.groups.is_empty());
    let before = files(&store)?;
    // The head was never written to, and looks like what a call has left that went no further.
    let engine = open(&store)?;
    assert_eq!(engine.recovered().removed, Vec::<String>::new());
    let repaired = engine.repair(&snapgroup::RepairOptions::perform())?;
    assert!(repaired.removed.is_empty() && repaired.layers.is_empty(), "{repaired:?}");
    engine.close()?;
    assert!(files(&store)? == before, "what was left out of the catalogue was touched");

    copy(&safe, &chain[1].file, &store, &chain[1].file)?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert!(rebuilt.is_whole(), "{rebuilt:?}");
    assert_eq!(rebuilt.groups, [group]);
    let engine = open(&store)?;
    assert_eq!(content_of_snapshot(&engine, later)?[..6], *b"after!");
    Ok(())
}

#[test]
fn a_file_exchanged_for_another_layer_is_not_read_through() -> Outcome {
    let World { store, engine, volumes, .. } = world(26)?;
    let chain = engine.chain(volumes[0])?;
    let other = engine.chain(volumes[1])?;
    engine.close()?;
    // Under the right name lies a file that says it is another layer.
    store.remove(&name(&chain[1].file))?;
    copy(&store, &other[1].file, &store, &chain[1].file)?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert_eq!(rebuilt.volumes.iter().map(|volume| volume.uuid).collect::<Vec<_>>(), [volumes[1]]);
    assert!(left(&rebuilt).contains(chain[1].file.as_str()));
    assert_eq!(content_of_volume(&open(&store)?, volumes[1])?[..6], *b"after!");
    Ok(())
}

#[test]
fn a_file_without_ids_in_the_place_of_a_layer_is_not_read_through() -> Outcome {
    let World { store, engine, volumes, .. } = world(27)?;
    let chain = engine.chain(volumes[0])?;
    engine.close()?;
    store.remove(&name(&chain[1].file))?;
    let image = snapgroup::image::NewImage::of_size(chain[1].size).layout(&chain[1].file)?;
    image.write(&*store.create(&name(&chain[1].file))?)?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert_eq!(rebuilt.volumes_lost.iter().map(|volume| volume.uuid).collect::<Vec<_>>(), [volumes[0]]);
    Ok(())
}

#[test]
fn a_header_that_names_another_file_than_it_was_made_above_is_not_followed() -> Outcome {
    let World { store, engine, volumes, .. } = world(28)?;
    let (chain, other) = (engine.chain(volumes[0])?, engine.chain(volumes[1])?);
    engine.close()?;
    // The name in the header, exchanged for one of the same length.
    let blob = store.open(&name(&chain[0].file), Access::Write)?;
    let mut field = [0; 8];
    blob.read_at(HostOffset::new(8), &mut field)?;
    blob.write_at(HostOffset::new(u64::from_be_bytes(field)), other[1].file.as_bytes())?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert_eq!(rebuilt.volumes_lost.iter().map(|volume| volume.uuid).collect::<Vec<_>>(), [volumes[0]]);
    let why = &rebuilt.files_left.iter().find(|left| left.file == chain[0].file).ok_or("it is left")?.why;
    assert!(why.contains("it was made above layer"), "{why}");
    Ok(())
}

#[test]
fn a_damaged_note_is_no_note() -> Outcome {
    let World { store, engine, volumes, .. } = world(29)?;
    let chain = engine.chain(volumes[0])?;
    engine.close()?;
    store.remove(&name(CATALOGUE))?;
    let head = store.open(&name(&chain[0].file), Access::Write)?;
    let mut bytes = vec![0; 4096];
    head.read_at(HostOffset::ZERO, &mut bytes)?;
    let ours = bytes.windows(4).position(|word| word == b"SNAP").ok_or("it has our extension")?;
    // The number of the layer, behind the head of the extension.
    head.write_at(HostOffset::new((ours + 8 + 79) as u64), &[0xff])?;
    let rebuilt = rebuild(&store)?;
    // The label is all that leads to the layer below, and nothing says that it holds a snapshot.
    assert_eq!(rebuilt.by_name_alone, [chain[1].file.as_str()]);
    let nameless: Vec<_> =
        rebuilt.snapshots.iter().filter(|snapshot| snapshot.file == chain[1].file).collect();
    assert_eq!(nameless.len(), 1);
    let engine = open(&store)?;
    assert_eq!(content_of_snapshot(&engine, nameless[0].uuid)?[..6], *b"before");
    assert_eq!(content_of_volume(&engine, volumes[0])?[..6], *b"after!");
    Ok(())
}
