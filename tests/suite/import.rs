//! Imports: a file of anybody's is copied into a new volume.

use crate::support::{
    Dice, Home, Made, Outcome, SIZE, assert_sound, fill, make_machine, on_every_store, read_snapshot,
    read_volume, told,
};
use snapgroup::storage::{Access, Blob, BlobName, MemoryStore, Store};
use snapgroup::units::HostOffset;
use snapgroup::{
    ByteCount, CreateSnapshot, DeleteMode, DeleteSnapshots, Engine, Export, ExportBase, ImportFrom,
    ImportVolume, LayerFormat, Step, Uuid,
};
use std::sync::Arc;

on_every_store! {
    what_was_exported_is_imported_again
    an_increment_is_imported_above_a_snapshot_of_its_base
    an_import_that_is_given_up_leaves_nothing
    a_crash_in_an_import_leaves_nothing
    what_is_not_to_be_relied_on_is_refused
    a_base_is_kept_while_an_import_reads_it
    an_import_takes_place_once_for_one_uuid
}

/// A volume with two snapshots, and exports of both in a store of their own: flat, and the second above the first.
fn exported(engine: &Engine) -> Made<(Uuid, [Vec<u8>; 2], Arc<MemoryStore>)> {
    let vm = make_machine(engine, 1)?;
    let store = Arc::new(MemoryStore::new());
    let blob = |name: &str| -> Made<Arc<dyn Blob>> { Ok(store.create(&BlobName::parse(name)?)?) };
    let mut dice = Dice::new(9);
    let mut taken = Vec::new();
    for name in ["monday", "tuesday"] {
        let disk = engine.open_volume(vm.root())?;
        for _ in 0..4 {
            let at = dice.roll(900_000);
            fill(&disk, at, 1 + usize::try_from(dice.roll(50_000))?, dice.byte())?;
        }
        disk.discard(dice.roll(500_000), 70_000)?;
        taken.push(engine.create_snapshot(&CreateSnapshot::new(vm.root(), name))?.uuid);
    }
    engine.export(taken[0], &Export::qcow2(), blob("monday.qcow2")?)?;
    engine.export(taken[1], &Export::qcow2().compressed(), blob("flat.qcow2")?)?;
    engine.export(taken[1], &Export::raw(), blob("flat.raw")?)?;
    let base =
        ExportBase { snapshot: taken[0].into(), label: "monday.qcow2".into(), format: LayerFormat::Qcow2 };
    engine.export(taken[1], &Export::above(base), blob("tuesday.qcow2")?)?;
    Ok((taken[0], [read_snapshot(engine, taken[0])?, read_snapshot(engine, taken[1])?], store))
}

fn wish(store: &Arc<MemoryStore>, file: &str) -> ImportVolume {
    let format = if file.ends_with(".raw") { LayerFormat::Raw } else { LayerFormat::Qcow2 };
    ImportVolume::new(ImportFrom::Store(Arc::clone(store) as Arc<dyn Store>, file.into()), format, file)
}

fn what_was_exported_is_imported_again(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (_, [_, tuesday], store) = exported(&engine)?;
    for file in ["flat.qcow2", "flat.raw", "tuesday.qcow2"] {
        let volume = engine.import(&wish(&store, file))?;
        assert!(read_volume(&engine, volume.uuid)? == tuesday, "{file}");
        assert_eq!(engine.chain(volume.uuid)?.len(), 1);
        fill(&engine.open_volume(volume.uuid)?, 0, 100, 1)?;
        engine.create_snapshot(&CreateSnapshot::new(volume.uuid, "s"))?;
    }
    // The same from the pool's own directory.
    let blob = store.open(&BlobName::parse("flat.raw")?, Access::Read)?;
    let mut bytes = vec![0; SIZE.as_usize()];
    blob.read_at(HostOffset::ZERO, &mut bytes)?;
    home.put("mine.raw", &bytes)?;
    let from = ImportFrom::Pool("mine.raw".into());
    let volume = engine.import(&ImportVolume::new(from, LayerFormat::Raw, "mine"))?;
    assert!(read_volume(&engine, volume.uuid)? == tuesday);
    assert_sound(&engine)
}

fn an_increment_is_imported_above_a_snapshot_of_its_base(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (_, [monday, tuesday], store) = exported(&engine)?;
    let base = engine.import(&wish(&store, "monday.qcow2"))?;
    let taken = engine.create_snapshot(&CreateSnapshot::new(base.uuid, "monday"))?;
    assert!(read_snapshot(&engine, taken.uuid)? == monday);
    let above = engine.import(&wish(&store, "tuesday.qcow2").above(taken.uuid))?;
    assert!(read_volume(&engine, above.uuid)? == tuesday);
    assert_eq!(engine.chain(above.uuid)?.len(), 2);
    let error = home.refusal(&engine, || engine.import(&wish(&store, "flat.qcow2").above(taken.uuid)))?;
    assert!(told(&error).2.contains("no base"), "{error}");
    assert_sound(&engine)
}

fn an_import_that_is_given_up_leaves_nothing(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (_, _, store) = exported(&engine)?;
    let before: Vec<String> = home.picture()?.into_keys().collect();
    let mut importer = engine.importer(&wish(&store, "flat.qcow2"))?;
    assert_eq!(importer.step(ByteCount::new(1))?, Step::More);
    assert!(importer.written() > ByteCount::ZERO && importer.written() < importer.total());
    assert_eq!(home.picture()?.len(), before.len() + 1);
    assert_sound(&engine)?;
    drop(importer);
    assert_eq!(home.picture()?.into_keys().collect::<Vec<_>>(), before);
    assert_eq!(engine.query_volumes(&snapgroup::query::Query::all())?.total, 1);
    assert_sound(&engine)
}

fn a_crash_in_an_import_leaves_nothing(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (_, _, store) = exported(&engine)?;
    let before: Vec<String> = home.picture()?.into_keys().collect();
    let mut importer = engine.importer(&wish(&store, "flat.qcow2"))?;
    assert_eq!(importer.step(ByteCount::new(1))?, Step::More);
    if home.is_in_memory() {
        let home = home.fork();
        let engine = home.open()?;
        assert_eq!(engine.recovered().reclaimed.len(), 1);
        assert_eq!(home.picture()?.into_keys().collect::<Vec<_>>(), before);
        assert_sound(&engine)?;
    }
    Ok(())
}

fn what_is_not_to_be_relied_on_is_refused(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (_, _, store) = exported(&engine)?;
    let mut bytes = vec![0; 65_536 * 4];
    let flat = store.open(&BlobName::parse("monday.qcow2")?, Access::Write)?;
    flat.read_at(HostOffset::ZERO, &mut bytes)?;
    let small = ImportVolume { size_max: ByteCount::kib(512), ..wish(&store, "tuesday.qcow2") };
    let own = ImportFrom::Pool(
        engine.chain(engine.query_volumes(&snapgroup::query::Query::all())?.items[0].uuid)?[0].file.clone(),
    );
    for (wish, rule) in [
        (wish(&store, "absent.raw"), "absent.raw"),
        (wish(&store, "../x.raw"), "component"),
        (small, "at most"),
        (ImportVolume::new(own, LayerFormat::Qcow2, "own"), "of this pool already"),
        (ImportVolume { format: LayerFormat::Qcow2, ..wish(&store, "flat.raw") }, "magic"),
    ] {
        let error = home.refusal(&engine, || engine.import(&wish))?;
        assert_eq!(told(&error).0, "SYS.1006", "{error}");
        assert!(told(&error).2.contains(rule), "{error}");
    }
    // Its refcounts are gone: what is in use would be given out again.
    flat.write_at(HostOffset::new(2 * 65_536), &[0; 4096])?;
    let error = home.refusal(&engine, || engine.import(&wish(&store, "tuesday.qcow2")))?;
    assert!(told(&error).2.contains("its check found"), "{error}");
    let taken = ImportVolume {
        resource_uuid: Some(engine.query_volumes(&snapgroup::query::Query::all())?.items[0].uuid.into()),
        ..wish(&store, "flat.raw")
    };
    let error = home.refusal(&engine, || engine.import(&taken))?;
    assert_eq!(told(&error).0, "SYS.1002");
    Ok(())
}

fn a_base_is_kept_while_an_import_reads_it(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (monday, [_, tuesday], store) = exported(&engine)?;
    let mut importer = engine.importer(&wish(&store, "tuesday.qcow2").above(monday))?;
    assert!(!engine.delete_snapshots(&DeleteSnapshots::one(monday))?.is_success());
    let by_force = DeleteSnapshots { mode: DeleteMode::Enforcing, ..DeleteSnapshots::one(monday) };
    let deleted = engine.delete_snapshots(&by_force)?;
    assert_eq!(deleted.owed.len(), 1, "its bytes stay as they are: {deleted:?}");
    while importer.step(ByteCount::new(5000))? == Step::More {}
    let volume = importer.finish()?;
    assert!(read_volume(&engine, volume.uuid)? == tuesday);
    engine.reclaim(&snapgroup::ReclaimOptions::default())?.finish()?;
    assert!(read_volume(&engine, volume.uuid)? == tuesday);
    assert_sound(&engine)
}

fn an_import_takes_place_once_for_one_uuid(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (_, _, store) = exported(&engine)?;
    let wish = ImportVolume { resource_uuid: Some(Uuid::from_u128(78).into()), ..wish(&store, "flat.raw") };
    let volume = engine.import(&wish)?;
    fill(&engine.open_volume(volume.uuid)?, 0, 100, 1)?;
    let generation = engine.generation();
    assert_eq!(engine.import(&wish)?.uuid, volume.uuid);
    assert_eq!(engine.generation(), generation);
    assert_eq!(read_volume(&engine, volume.uuid)?[..100], [1; 100], "what was written since is there");
    let other = ImportVolume { description: Some("another".into()), ..wish };
    let error = home.refusal(&engine, || engine.import(&other))?;
    assert_eq!(told(&error).0, "SYS.1002");
    assert_sound(&engine)
}
