//! The catalogue that is there before, and where the counting goes on in the new one.

use super::support::{
    CATALOGUE, Outcome, World, bytes_of, content_of_volume, lose_and_rebuild, name, open, options, rebuild,
    tell, world,
};
use snapgroup::storage::{Access, Store};
use snapgroup::units::HostOffset;
use snapgroup::{ByteCount, CreatePool, CreateVolume, Engine, Error, Options, RebuildOptions};
use std::collections::BTreeSet;
use tempfile::TempDir;

#[test]
fn a_catalogue_that_is_only_too_new_stays() -> Outcome {
    let directory = TempDir::new()?;
    let here = Options { create: CreatePool::Here, ..options(40) };
    let engine = Engine::open(directory.path(), here)?;
    engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?;
    engine.close()?;
    let file = directory.path().join(CATALOGUE);
    {
        let database = redb::Database::open(&file)?;
        let transaction = database.begin_write()?;
        let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
        transaction.open_table(meta)?.insert("format", &7_u64.to_be_bytes()[..])?;
        transaction.commit()?;
    }
    let before = std::fs::read(&file)?;
    let refused = Engine::rebuild(directory.path(), &options(41), &RebuildOptions::default());
    let Err(Error::NewerVersion { found: 7, .. }) = refused else { panic!("{refused:?}") };
    assert!(std::fs::read(&file)? == before);
    Ok(())
}

#[test]
fn an_empty_catalogue_is_not_kept() -> Outcome {
    let World { store, engine, .. } = world(42)?;
    engine.close()?;
    store.open(&name(CATALOGUE), Access::Write)?.set_length(ByteCount::ZERO)?;
    let names: BTreeSet<_> = store.list()?.into_iter().collect();
    assert_eq!(rebuild(&store)?.catalogue_kept, None);
    assert_eq!(store.list()?.into_iter().collect::<BTreeSet<_>>(), names);
    Ok(())
}

#[test]
fn each_catalogue_that_was_damaged_is_kept() -> Outcome {
    let World { store, engine, .. } = world(43)?;
    engine.close()?;
    let mut kept = Vec::new();
    for byte in 1..4 {
        let blob = store.open(&name(CATALOGUE), Access::Write)?;
        blob.write_at(HostOffset::ZERO, &[byte; 4096])?;
        let damaged = bytes_of(&store, &name(CATALOGUE))?;
        kept.push((rebuild(&store)?.catalogue_kept.ok_or("it is kept")?, damaged));
    }
    for (file, bytes) in kept {
        assert!(bytes_of(&store, &name(&file))? == bytes, "{file} was written over");
    }
    Ok(())
}

#[test]
fn the_mark_of_a_pool_that_was_being_made_does_not_cost_what_was_rebuilt() -> Outcome {
    let World { store, engine, volumes, .. } = world(44)?;
    engine.close()?;
    store.create(&name("snapgroup.redb.new"))?;
    assert!(lose_and_rebuild(&store)?.is_whole());
    assert_eq!(content_of_volume(&open(&store)?, volumes[1])?[..6], *b"after!");
    Ok(())
}

#[test]
fn counting_goes_on_above_all_that_any_file_has_heard_of() -> Outcome {
    type Change = fn(&mut snapgroup::format::LayerNotes);
    let changes: [Change; 3] =
        [|notes| notes.floor = 10_000, |notes| notes.changed = 10_000, |notes| notes.written = 10_000];
    for change in changes {
        let World { store, engine, volumes, .. } = world(45)?;
        let file = engine.chain(volumes[0])?[0].file.clone();
        engine.close()?;
        tell(&store, &file, change)?;
        assert!(lose_and_rebuild(&store)?.is_whole());
        let generation = open(&store)?.generation().as_u64();
        assert!((10_001..20_000).contains(&generation), "{generation}");
    }
    // A file that is being filled has heard of nothing.
    let World { store, engine, volumes, .. } = world(46)?;
    let file = engine.chain(volumes[0])?[0].file.clone();
    engine.close()?;
    tell(&store, &file, |notes| notes.changed = snapgroup::format::LayerNotes::BEING_FILLED)?;
    assert!(!lose_and_rebuild(&store)?.is_whole(), "a file that is being filled is no layer");
    let generation = open(&store)?.generation().as_u64();
    assert!(generation < 10_000, "{generation}");
    Ok(())
}
