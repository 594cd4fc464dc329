//! What comes back, what does not, and what is told of it.

use super::support::{
    CATALOGUE, Outcome, World, bytes_of, content_of_snapshot, content_of_volume, lose_and_rebuild, name,
    open, options, rebuild, world,
};
use snapgroup::inventory::GroupInventory;
use snapgroup::storage::{Access, BlobName, MemoryStore, Store};
use snapgroup::units::HostOffset;
use snapgroup::{
    AdoptVolume, ByteCount, CreateGroup, CreatePool, CreateSnapshot, CreateVolume, DeleteMode,
    DeleteSnapshots, Direction, Engine, Error, ImportFrom, ImportVolume, LayerFormat, LowerLayers, Options,
    Present, Proof, RebuildOptions, Refusal, RevertGroup, RevertVolume, Step, UpdateSnapshot, When,
};
use std::collections::BTreeSet;
use std::sync::Arc;

#[test]
fn names_places_and_groups_come_back_as_the_files_were_told() -> Outcome {
    let World { store, engine, machine, volumes, group } = world(1)?;
    let before = engine.group(group)?;
    engine.close()?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert!(
        rebuilt.is_whole() && rebuilt.unnamed.is_empty() && rebuilt.by_name_alone.is_empty(),
        "{rebuilt:?}"
    );
    assert_eq!((rebuilt.groups, rebuilt.machines), (vec![group], vec![machine]));
    let engine = open(&store)?;
    assert!(engine.check()?.is_clean());
    let after = engine.group(group)?;
    assert_eq!((&after.name, after.snapshot_count), (&before.name, before.snapshot_count));
    let members = |group: &GroupInventory| {
        let refs = group.volume_snapshot_refs.iter();
        refs.map(|member| (member.volume_snapshot_uuid, member.volume_uuid, member.device_id))
            .collect::<Vec<_>>()
    };
    assert_eq!(members(&after), members(&before));
    for (volume, name) in volumes.into_iter().zip(["system", "data"]) {
        assert_eq!(engine.volume(volume)?.name, name);
        assert_eq!(content_of_volume(&engine, volume)?[..6], *b"after!");
    }
    assert_eq!(engine.machine(machine)?.name, "web-1");
    for member in &after.volume_snapshot_refs {
        let snapshot = engine.snapshot(member.volume_snapshot_uuid)?;
        assert_eq!(snapshot.name, member.volume_snapshot_name);
        assert_eq!(content_of_snapshot(&engine, snapshot.uuid)?[..6], *b"before");
    }
    assert!(engine.check_availability([group])?[0].available);
    engine.revert_group(&RevertGroup::new(group))?;
    assert_eq!(content_of_volume(&engine, volumes[0])?[..6], *b"before");
    Ok(())
}

#[test]
fn what_came_back_is_marked_and_a_deleted_snapshot_whose_bytes_are_there_comes_back_with_it() -> Outcome {
    let World { store, engine, volumes, .. } = world(2)?;
    let gone = engine.create_snapshot(&CreateSnapshot::new(volumes[0], "gone"))?.uuid;
    assert!(
        engine
            .delete_snapshots(&DeleteSnapshots { reclaim: When::Later, ..DeleteSnapshots::all([gone]) })?
            .is_success()
    );
    engine.close()?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert!(rebuilt.snapshots.iter().any(|snapshot| snapshot.uuid == gone));
    let engine = open(&store)?;
    let tagged = snapgroup::query::Query::all()
        .with(snapgroup::query::SnapshotField::SystemTag, snapgroup::query::Test::Equal("Rebuilt".into()));
    assert_eq!(engine.query_snapshots(&tagged)?.total, 3);
    assert_eq!(content_of_snapshot(&engine, gone)?[..6], *b"after!");
    Ok(())
}

#[test]
fn a_deleted_snapshot_whose_layer_was_changed_since_does_not_come_back_as_itself() -> Outcome {
    for direction in [Direction::Auto, Direction::Pull, Direction::Commit] {
        let store = MemoryStore::new();
        let engine = Engine::open_on(Arc::new(store.clone()), options(3))?;
        let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(1)))?.uuid;
        engine.open_volume(volume)?.write_at(0, &[1; 300_000])?;
        let first = engine.create_snapshot(&CreateSnapshot::new(volume, "first"))?.uuid;
        engine.open_volume(volume)?.write_at(0, &[2; 300_000])?;
        let clone = engine.create_volume(&CreateVolume::of_snapshot("clone", first))?.uuid;
        engine.open_volume(clone)?.write_at(0, &[3; 200_000])?;
        let mode = DeleteMode::Enforcing;
        assert!(
            engine
                .delete_snapshots(&DeleteSnapshots { mode, direction, ..DeleteSnapshots::all([first]) })?
                .is_success()
        );
        engine.close()?;
        let rebuilt = lose_and_rebuild(&store)?;
        assert!(rebuilt.snapshots.is_empty(), "{direction}: {rebuilt:?}");
        let engine = open(&store)?;
        assert!(content_of_volume(&engine, volume)?[..300_000] == [2; 300_000]);
        assert!(content_of_volume(&engine, clone)?[..200_000] == [3; 200_000]);
        assert!(engine.check()?.is_clean());
    }
    Ok(())
}

#[test]
fn a_group_that_lost_a_member_is_reported_and_its_other_members_are_snapshots() -> Outcome {
    let World { store, engine, volumes, group, .. } = world(4)?;
    let members = engine.group(group)?.volume_snapshot_refs;
    assert!(engine.delete_snapshots(&DeleteSnapshots::all([members[1].volume_snapshot_uuid]))?.is_success());
    engine.close()?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert!(rebuilt.groups.is_empty() && !rebuilt.is_whole());
    let [incomplete] = &rebuilt.groups_incomplete[..] else { panic!("{rebuilt:?}") };
    assert_eq!((incomplete.uuid, incomplete.members), (group, 2));
    assert_eq!(incomplete.found, [members[0].volume_snapshot_uuid]);
    let engine = open(&store)?;
    assert_eq!(engine.snapshot(members[0].volume_snapshot_uuid)?.group_uuid, None);
    assert_eq!(content_of_volume(&engine, volumes[1])?[..6], *b"after!");
    Ok(())
}

#[test]
fn what_no_file_knows_does_not_come_back() -> Outcome {
    let World { store, engine, volumes, group, .. } = world(5)?;
    let member = engine.group(group)?.volume_snapshot_refs[0].volume_snapshot_uuid;
    let update =
        UpdateSnapshot { description: Some("kept in the catalogue alone".into()), ..Default::default() };
    engine.update_snapshot(member, &update)?;
    engine.hold(member, "backup")?;
    let fresh = engine.create_volume(&CreateVolume::new("fresh", ByteCount::mib(1)))?.uuid;
    engine.attach_volume(fresh, engine.volume(volumes[0])?.vm_instance_uuid.ok_or("attached")?, None)?;
    engine.close()?;
    let rebuilt = lose_and_rebuild(&store)?;
    let known = rebuilt.volumes.iter().find(|volume| volume.uuid == fresh).ok_or("it has a file")?;
    assert_eq!((known.name.as_str(), known.machine), ("fresh", None));
    let engine = open(&store)?;
    let snapshot = engine.snapshot(member)?;
    assert!(snapshot.description.is_none() && snapshot.holds.is_empty());
    Ok(())
}

#[test]
fn a_snapshot_off_the_chain_is_known_to_the_head_that_left_it() -> Outcome {
    let World { store, engine, volumes, group, .. } = world(6)?;
    let disk = volumes[0];
    let mut off_chain = Vec::new();
    let first = engine.group(group)?.volume_snapshot_refs[0].volume_snapshot_uuid;
    for byte in 1..4_u8 {
        engine.open_volume(disk)?.write_at(0, &[byte; 6])?;
        off_chain.push((engine.create_snapshot(&CreateSnapshot::new(disk, "aside"))?.uuid, byte));
        let present = if byte == 2 { Present::Kept } else { Present::GivenUp };
        let reverted = engine.revert_volume(&RevertVolume { present, ..RevertVolume::to(first) })?;
        off_chain.extend(reverted.kept.iter().map(|kept| (kept.uuid, byte)));
    }
    // The last of the files that tell of them goes, and a merge takes over what it knew.
    let later = engine.create_snapshot(&CreateSnapshot::new(disk, "later"))?.uuid;
    engine.open_volume(disk)?.write_at(0, b"latest")?;
    for direction in [Direction::Pull, Direction::Commit] {
        let wish = DeleteSnapshots { direction, ..DeleteSnapshots::all([later]) };
        assert!(engine.delete_snapshots(&wish)?.is_success());
    }
    engine.close()?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert!(rebuilt.is_whole(), "{rebuilt:?}");
    let engine = open(&store)?;
    assert_eq!(off_chain.len(), 4);
    for (snapshot, byte) in off_chain {
        assert_eq!(content_of_snapshot(&engine, snapshot)?[..6], [byte; 6]);
    }
    assert_eq!(content_of_volume(&engine, disk)?[..6], *b"latest");
    Ok(())
}

#[test]
fn a_lost_catalogue_can_be_lost_again() -> Outcome {
    let World { store, engine, volumes, group, machine } = world(7)?;
    engine.close()?;
    for round in 0..3_u8 {
        assert!(lose_and_rebuild(&store)?.is_whole());
        let engine = Engine::open_on(Arc::new(store.clone()), options(910 + u64::from(round)))?;
        let wish = CreateGroup::of_machine(machine, format!("round {round}"));
        engine.create_group(&wish)?;
        engine.open_volume(volumes[0])?.write_at(0, &[round; 6])?;
        engine.revert_volume(&RevertVolume::to(
            engine.group(group)?.volume_snapshot_refs[0].volume_snapshot_uuid,
        ))?;
        engine.open_volume(volumes[0])?.write_at(0, &[round + 100; 6])?;
        engine.close()?;
    }
    let rebuilt = lose_and_rebuild(&store)?;
    assert_eq!((rebuilt.groups.len(), rebuilt.is_whole()), (4, true), "{rebuilt:?}");
    let engine = open(&store)?;
    assert_eq!(content_of_volume(&engine, volumes[0])?[..6], [102; 6]);
    Ok(())
}

#[test]
fn an_adopted_chain_comes_back_and_files_without_ids_are_told_of() -> Outcome {
    let store = MemoryStore::new();
    let golden = store.create(&name("golden.raw"))?;
    golden.write_at(HostOffset::ZERO, b"installed")?;
    golden.set_length(ByteCount::mib(1))?;
    let options = Options { create: CreatePool::Here, ..options(8) };
    let engine = Engine::open_on(Arc::new(store.clone()), options)?;
    let lower = LowerLayers::Snapshots;
    let wish = AdoptVolume { lower, ..AdoptVolume::new("golden.raw", LayerFormat::Raw, "system") };
    let volume = engine.adopt_volume(&wish)?.uuid;
    engine.open_volume(volume)?.write_at(0, b"in use...")?;
    engine.close()?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert!(rebuilt.is_whole());
    assert_eq!(rebuilt.by_name_alone, ["golden.raw"]);
    let [snapshot] = &rebuilt.snapshots[..] else { panic!("{rebuilt:?}") };
    assert_eq!(snapshot.file, "golden.raw");
    let engine = open(&store)?;
    assert!(engine.check()?.is_clean());
    assert_eq!(content_of_volume(&engine, volume)?[..9], *b"in use...");
    assert_eq!(content_of_snapshot(&engine, snapshot.uuid)?[..9], *b"installed");
    Ok(())
}

#[test]
fn an_adopted_image_knows_whose_head_it_is() -> Outcome {
    // An image of another pool's, without ids, as a tool would have made it.
    let store = MemoryStore::new();
    let layout = snapgroup::image::NewImage::of_size(ByteCount::mib(1)).layout("disk.qcow2")?;
    layout.write(&*store.create(&name("disk.qcow2"))?)?;
    let pool_options = Options { create: CreatePool::Here, ..options(9) };
    let engine = Engine::open_on(Arc::new(store.clone()), pool_options)?;
    let volume = engine.adopt_volume(&AdoptVolume::new("disk.qcow2", LayerFormat::Qcow2, "taken"))?.uuid;
    engine.open_volume(volume)?.write_at(0, b"mine")?;
    let snapshot = engine.create_snapshot(&CreateSnapshot::new(volume, "first"))?.uuid;
    engine.close()?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert!(rebuilt.is_whole() && rebuilt.by_name_alone.is_empty(), "{rebuilt:?}");
    let engine = open(&store)?;
    assert!(engine.check()?.is_clean());
    assert_eq!(engine.volume(volume)?.name, "taken");
    assert_eq!(content_of_snapshot(&engine, snapshot)?[..4], *b"mine");
    Ok(())
}

#[test]
fn a_file_that_was_being_filled_is_no_disk() -> Outcome {
    let World { store, engine, .. } = world(10)?;
    let source = MemoryStore::new();
    source.create(&name("foreign.raw"))?.write_at(HostOffset::ZERO, &[7; 3_000_000])?;
    let from = ImportFrom::Store(Arc::new(source), "foreign.raw".into());
    let mut importer = engine.importer(&ImportVolume::new(from, LayerFormat::Raw, "copy"))?;
    assert_eq!(importer.step(ByteCount::kib(64))?, Step::More);
    // As a kill would leave it.
    let killed = store.fork();
    let whole = importer.finish()?.uuid;
    let rebuilt = lose_and_rebuild(&killed)?;
    let [left] = &rebuilt.files_left[..] else { panic!("{rebuilt:?}") };
    assert_eq!((left.why.as_str(), rebuilt.volumes.len()), ("it was still being filled", 2));
    engine.close()?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert!(rebuilt.is_whole() && rebuilt.volumes.iter().any(|volume| volume.uuid == whole), "{rebuilt:?}");
    Ok(())
}

#[test]
fn a_catalogue_that_can_be_opened_stays() -> Outcome {
    let World { store, engine, .. } = world(11)?;
    engine.close()?;
    let before = bytes_of(&store, &name(CATALOGUE))?;
    let refused = Engine::rebuild_on(&store, &options(900), &RebuildOptions::default());
    let Err(Error::Refused(Refusal::CatalogueThere { .. })) = refused else { panic!("{refused:?}") };
    assert!(bytes_of(&store, &name(CATALOGUE))? == before);
    Ok(())
}

#[test]
fn a_pool_that_is_open_is_left_alone() -> Outcome {
    let World { store, engine, .. } = world(12)?;
    store.remove(&name(CATALOGUE))?;
    let refused = Engine::rebuild_on(&store, &options(900), &RebuildOptions::default());
    let Err(Error::Storage(snapgroup::storage::Error::Locked { .. })) = refused else {
        panic!("{refused:?}")
    };
    drop(engine);
    Ok(())
}

#[test]
fn a_damaged_catalogue_is_kept_beside_the_new_one() -> Outcome {
    for (from, length) in [(0, 4096), (0, 10), (4096, 60_000)] {
        let World { store, engine, volumes, .. } = world(13)?;
        engine.close()?;
        store.open(&name(CATALOGUE), Access::Write)?.write_at(HostOffset::new(from), &vec![0xa5; length])?;
        let damaged = bytes_of(&store, &name(CATALOGUE))?;
        let rebuilt = rebuild(&store)?;
        let kept = rebuilt.catalogue_kept.ok_or("the catalogue of before is gone")?;
        assert!(bytes_of(&store, &name(&kept))? == damaged);
        let engine = open(&store)?;
        assert_eq!(engine.uuid(), rebuilt.pool);
        assert!(engine.check()?.is_clean());
        assert_eq!(content_of_volume(&engine, volumes[1])?[..6], *b"after!");
    }
    Ok(())
}

#[test]
fn an_empty_pool_that_was_made_over_the_files_is_no_obstacle() -> Outcome {
    let World { store, engine, group, .. } = world(14)?;
    let pool = engine.uuid();
    engine.close()?;
    store.remove(&name(CATALOGUE))?;
    let here = Options { create: CreatePool::Here, ..options(15) };
    Engine::open_on(Arc::new(store.clone()), here)?.close()?;
    let rebuilt = rebuild(&store)?;
    assert_eq!((rebuilt.pool, rebuilt.groups), (pool, vec![group]));
    assert!(rebuilt.catalogue_kept.is_some());
    Ok(())
}

#[test]
fn where_no_file_says_whose_it_is_nothing_is_made() -> Outcome {
    let store = MemoryStore::new();
    store.create(&name("notes.txt"))?.write_at(HostOffset::ZERO, b"hello")?;
    let refused = Engine::rebuild_on(&store, &options(900), &RebuildOptions::default());
    let Err(Error::Refused(Refusal::NothingToRebuild)) = refused else { panic!("{refused:?}") };
    assert_eq!(store.list()?, [BlobName::parse("notes.txt")?]);
    Ok(())
}

#[test]
fn what_has_no_room_for_claims_is_there_without_a_name() -> Outcome {
    let store = MemoryStore::new();
    let engine = Engine::open_on(Arc::new(store.clone()), options(16))?;
    let wish = CreateVolume { cluster_bits: Some(9), ..CreateVolume::new("tiny", ByteCount::kib(64)) };
    let volume = engine.create_volume(&wish)?.uuid;
    let first = engine.create_snapshot(&CreateSnapshot::new(volume, "first"))?.uuid;
    for byte in 1..4_u8 {
        engine.open_volume(volume)?.write_at(0, &[byte; 4])?;
        engine.revert_volume(&RevertVolume { present: Present::Kept, ..RevertVolume::to(first) })?;
    }
    engine.close()?;
    let rebuilt = lose_and_rebuild(&store)?;
    let nameless = rebuilt.snapshots.iter().filter(|snapshot| snapshot.proof == Proof::Absent);
    let nameless: Vec<_> = nameless.map(|snapshot| snapshot.uuid).collect();
    assert_eq!((nameless.len(), rebuilt.snapshots.len(), rebuilt.is_whole()), (3, 4, false), "{rebuilt:?}");
    let engine = open(&store)?;
    let mut bytes = nameless.iter().map(|uuid| content_of_snapshot(&engine, *uuid));
    for byte in 1..4_u8 {
        assert_eq!(bytes.next().ok_or("three")??[..4], [byte; 4]);
    }
    Ok(())
}

#[test]
fn of_adopted_files_the_deeper_ones_are_known_by_name_alone_and_a_snapshot_of_one_does_not_come_back()
-> Outcome {
    let store = MemoryStore::new();
    let names = ["deep.qcow2", "base.qcow2", "disk.qcow2"];
    for (depth, file) in names.into_iter().enumerate() {
        let backing = depth.checked_sub(1).map(|below| snapgroup::image::BackingLabel {
            name: names[below].to_owned(),
            format: "qcow2".to_owned(),
        });
        let image =
            snapgroup::image::NewImage { backing, ..snapgroup::image::NewImage::of_size(ByteCount::mib(1)) };
        image.layout(file)?.write(&*store.create(&name(file))?)?;
        let blob = store.open(&name(file), Access::Write)?;
        let image =
            snapgroup::image::Image::open(blob, file, Access::Write, snapgroup::image::Limits::default())?;
        let at = snapgroup::units::GuestOffset::new(65_536 * depth as u64);
        image.write(at, file.as_bytes(), None)?;
        image.flush()?;
    }
    let here = Options { create: CreatePool::Here, ..options(17) };
    let engine = Engine::open_on(Arc::new(store.clone()), here)?;
    let lower = LowerLayers::Snapshots;
    let wish = AdoptVolume { lower, ..AdoptVolume::new("disk.qcow2", LayerFormat::Qcow2, "system") };
    let volume = engine.adopt_volume(&wish)?.uuid;
    let before = engine.query_snapshots(&snapgroup::query::Query::all())?.items;
    assert_eq!(before.len(), 2);
    engine.close()?;
    let rebuilt = lose_and_rebuild(&store)?;
    let by_name: BTreeSet<&str> = rebuilt.by_name_alone.iter().map(String::as_str).collect();
    assert_eq!(by_name, BTreeSet::from(["deep.qcow2", "base.qcow2"]));
    // The one directly below is known to the head above it.
    let [snapshot] = &rebuilt.snapshots[..] else { panic!("{rebuilt:?}") };
    assert_eq!((snapshot.file.as_str(), snapshot.proof), ("base.qcow2", Proof::Claimed));
    assert!(before.iter().any(|known| known.uuid == snapshot.uuid));
    let engine = open(&store)?;
    assert!(engine.check()?.is_clean());
    let shown = content_of_snapshot(&engine, snapshot.uuid)?;
    assert_eq!((&shown[..10], &shown[65_536..65_546]), (&b"deep.qcow2"[..], &b"base.qcow2"[..]));
    assert_eq!(content_of_volume(&engine, volume)?[131_072..131_082], *b"disk.qcow2");
    Ok(())
}
