//! What files say of each other, against what is there: none is read through, written to or called a snapshot because
//! another one says so.

use super::support::{
    CATALOGUE, Outcome, World, content_of_snapshot, content_of_volume, copy, extension, files,
    lose_and_rebuild, name, open, options, tell, world,
};
use snapgroup::storage::{Access, MemoryStore, Store};
use snapgroup::units::HostOffset;
use snapgroup::{
    AdoptVolume, BaseImage, ByteCount, ChainLayer, CreatePool, CreateSnapshot, CreateVolume, DeleteSnapshots,
    Direction, Engine, LayerFormat, LayerState, Options, Present, Proof, RebuildOptions, Rebuilt,
    ReclaimOptions, RevertVolume, Uuid,
};
use std::sync::Arc;

fn why<'a>(rebuilt: &'a Rebuilt, file: &str) -> &'a str {
    let left = rebuilt.files_left.iter().find(|left| left.file == file);
    left.map_or("it is not left", |left| left.why.as_str())
}

fn head(rebuilt: &Rebuilt, volume: Uuid) -> Option<&str> {
    rebuilt.volumes.iter().find(|known| known.uuid == volume).map(|known| known.head.as_str())
}

fn lost(rebuilt: &Rebuilt) -> Vec<Uuid> {
    rebuilt.volumes_lost.iter().map(|volume| volume.uuid).collect()
}

fn holder(rebuilt: &Rebuilt, snapshot: Uuid) -> Option<&str> {
    rebuilt.snapshots.iter().find(|known| known.uuid == snapshot).map(|known| known.file.as_str())
}

/// A pool, its two disks, two snapshots of the first one, the younger one last, and the layers of that disk.
type Layered = (MemoryStore, [Uuid; 2], Uuid, Uuid, Vec<ChainLayer>);

/// A world whose first disk has three layers: the lowest with the group's member, one with a snapshot, the head.
fn three_layers(seed: u64) -> Outcome<Layered> {
    let World { store, engine, volumes, group, .. } = world(seed)?;
    let first = engine.group(group)?.volume_snapshot_refs[0].volume_snapshot_uuid;
    let second = engine.create_snapshot(&CreateSnapshot::new(volumes[0], "second"))?.uuid;
    let disk = engine.open_volume(volumes[0])?;
    disk.write_at(0, b"latest")?;
    disk.flush()?;
    drop(disk);
    let chain = engine.chain(volumes[0])?;
    engine.close()?;
    assert_eq!(chain.len(), 3);
    Ok((store, volumes, first, second, chain))
}

#[test]
fn a_head_that_has_not_arrived_is_over_and_claims_nothing() -> Outcome {
    for part in ["its end is missing", "its refcounts are missing"] {
        let World { store, engine, volumes, .. } = world(50)?;
        let later = engine.create_snapshot(&CreateSnapshot::new(volumes[0], "later"))?.uuid;
        let chain = engine.chain(volumes[0])?;
        engine.close()?;
        let blob = store.open(&name(&chain[0].file), Access::Write)?;
        match part {
            "its end is missing" => blob.set_length(ByteCount::new(66_000))?,
            _ => blob.write_at(HostOffset::new(1 << 16), &[0; 2 << 16])?,
        }
        let rebuilt = lose_and_rebuild(&store)?;
        assert_eq!(head(&rebuilt, volumes[0]), Some(chain[1].file.as_str()), "{part}: {rebuilt:?}");
        assert!(why(&rebuilt, &chain[0].file).contains("it was still being made"), "{part}: {rebuilt:?}");
        assert_eq!(holder(&rebuilt, later), None, "the disk would write to a snapshot");
        assert_eq!(content_of_volume(&open(&store)?, volumes[0])?[..6], *b"after!");
    }
    Ok(())
}

#[test]
fn a_layer_that_has_taken_the_place_of_those_above_ends_them_and_what_they_hold() -> Outcome {
    let (store, volumes, first, second, chain) = three_layers(51)?;
    tell(&store, &chain[2].file, |notes| (notes.floor, notes.changed) = (10_000, 10_000))?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert_eq!(why(&rebuilt, &chain[1].file), "the layer below has taken its place");
    assert_eq!(why(&rebuilt, &chain[0].file), "another layer has taken the place of one below it");
    assert_eq!(head(&rebuilt, volumes[0]), Some(chain[2].file.as_str()), "{rebuilt:?}");
    for snapshot in [first, second] {
        assert_eq!(holder(&rebuilt, snapshot), None, "{rebuilt:?}");
    }
    assert_eq!(content_of_volume(&open(&store)?, volumes[0])?[..6], *b"before");
    Ok(())
}

#[test]
fn files_that_read_through_each_other_in_a_circle_are_no_disk() -> Outcome {
    let (store, volumes, _, second, chain) = three_layers(52)?;
    // The lower two name each other.
    let blob = store.open(&name(&chain[1].file), Access::Write)?;
    let mut field = [0; 8];
    blob.read_at(HostOffset::new(8), &mut field)?;
    // A name of the same length as that of the file below.
    blob.write_at(HostOffset::new(u64::from_be_bytes(field)), chain[1].file.as_bytes())?;
    let (_, payload) = extension(&store, &chain[1].file)?;
    let own = snapgroup::format::LayerIdentity::parse(&payload)?.layer;
    tell(&store, &chain[1].file, |notes| notes.parent = Some(own))?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert_eq!((lost(&rebuilt), holder(&rebuilt, second)), (vec![volumes[0]], None), "{rebuilt:?}");
    Ok(())
}

#[test]
fn a_snapshot_whose_layer_cannot_be_read_with_all_below_it_does_not_come_back() -> Outcome {
    let World { store, engine, volumes, group, .. } = world(53)?;
    let disk = volumes[0];
    let first = engine.group(group)?.volume_snapshot_refs[0].volume_snapshot_uuid;
    let second = engine.create_snapshot(&CreateSnapshot::new(disk, "second"))?.uuid;
    engine.open_volume(disk)?.write_at(0, b"aside!")?;
    let middle = engine.chain(disk)?[1].file.clone();
    let aside = engine.revert_volume(&RevertVolume { present: Present::Kept, ..RevertVolume::to(first) })?;
    let aside = aside.kept.first().ok_or("the present is kept")?.uuid;
    engine.close()?;
    store.remove(&name(&middle))?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert_eq!(head(&rebuilt, disk).map(|_| ()), Some(()), "{rebuilt:?}");
    for snapshot in [second, aside] {
        assert_eq!(holder(&rebuilt, snapshot), None, "{rebuilt:?}");
        assert!(rebuilt.snapshots_lost.iter().any(|lost| lost.uuid == snapshot), "{rebuilt:?}");
    }
    assert_eq!(content_of_snapshot(&open(&store)?, first)?[..6], *b"before");
    Ok(())
}

#[test]
fn of_two_files_that_say_where_a_snapshot_is_the_younger_one_is_believed() -> Outcome {
    let (store, _, _, second, chain) = three_layers(54)?;
    // The older one says of the lowest layer what the head says of the one between.
    tell(&store, &chain[1].file, |notes| notes.claims[0].snapshot = *second.as_bytes())?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert_eq!(holder(&rebuilt, second), Some(chain[1].file.as_str()), "{rebuilt:?}");
    assert_eq!(content_of_snapshot(&open(&store)?, second)?[..6], *b"after!");
    Ok(())
}

#[test]
fn a_layer_that_cannot_say_whether_it_was_changed_is_a_snapshot_without_a_name() -> Outcome {
    let (store, volumes, first, second, chain) = three_layers(55)?;
    let (at, _) = extension(&store, &chain[1].file)?;
    store.open(&name(&chain[1].file), Access::Write)?.write_at(at + ByteCount::new(79), &[0xff])?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert_eq!(holder(&rebuilt, second), None, "{rebuilt:?}");
    let nameless = rebuilt.snapshots.iter().find(|snapshot| snapshot.file == chain[1].file);
    let nameless = nameless.ok_or("nothing keeps the content from being merged away")?;
    assert_eq!(nameless.proof, Proof::Absent);
    // Its notes said what the lowest layer holds, and are gone.
    assert_eq!(holder(&rebuilt, first), None);
    let engine = open(&store)?;
    engine.reclaim(&ReclaimOptions::default())?.finish()?;
    assert_eq!(content_of_snapshot(&engine, nameless.uuid)?[..6], *b"after!");
    assert_eq!(content_of_volume(&engine, volumes[0])?[..6], *b"latest");
    Ok(())
}

#[test]
fn no_disk_writes_to_the_layer_of_a_snapshot() -> Outcome {
    let World { store, engine, volumes, group, .. } = world(56)?;
    let disk = volumes[0];
    let first = engine.group(group)?.volume_snapshot_refs[0].volume_snapshot_uuid;
    let aside = engine.revert_volume(&RevertVolume { present: Present::Kept, ..RevertVolume::to(first) })?;
    let aside = aside.kept.first().ok_or("the present is kept")?.uuid;
    let later = engine.create_snapshot(&CreateSnapshot::new(disk, "later"))?.uuid;
    let clone = engine.create_volume(&CreateVolume::of_snapshot("clone", later))?.uuid;
    let chain = engine.chain(disk)?;
    engine.close()?;
    // The head is lost; what the layer below it knows of, and nothing reads through, is a snapshot.
    store.remove(&name(&chain[0].file))?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert_eq!(lost(&rebuilt), [disk], "{rebuilt:?}");
    assert!(head(&rebuilt, clone).is_some());
    assert!(rebuilt.snapshots_lost.iter().any(|lost| lost.uuid == aside), "{rebuilt:?}");
    Ok(())
}

#[test]
fn what_a_call_has_left_that_went_no_further_is_told_of_and_is_no_snapshot() -> Outcome {
    let World { store, engine, volumes, group, .. } = world(57)?;
    let disk = volumes[0];
    let first = engine.group(group)?.volume_snapshot_refs[0].volume_snapshot_uuid;
    engine.close()?;
    // A copy of the pool goes on elsewhere, and two of its files get lost back here.
    let elsewhere = store.fork();
    let engine = open(&elsewhere)?;
    engine.revert_volume(&RevertVolume::to(first))?;
    let pristine = engine.chain(disk)?[0].file.clone();
    let engine_only = engine.create_snapshot(&CreateSnapshot::new(disk, "elsewhere"))?.uuid;
    let open_disk = engine.open_volume(disk)?;
    open_disk.write_at(0, b"other!")?;
    open_disk.flush()?;
    drop(open_disk);
    let unwhole = engine.chain(disk)?[0].file.clone();
    engine.close()?;
    let engine = open(&store)?;
    for name in ["one", "two", "three", "four"] {
        engine.create_snapshot(&CreateSnapshot::new(disk, name))?;
    }
    let chain = engine.chain(disk)?;
    engine.close()?;
    copy(&elsewhere, &unwhole, &store, &unwhole)?;
    let rebuilt = lose_and_rebuild(&store.fork())?;
    assert_eq!(head(&rebuilt, disk), Some(chain[0].file.as_str()), "{rebuilt:?}");
    assert!(why(&rebuilt, &unwhole).contains("is not there"), "{rebuilt:?}");
    assert_eq!((rebuilt.snapshots.len(), holder(&rebuilt, engine_only)), (6, None), "{rebuilt:?}");
    store.remove(&name(&unwhole))?;
    copy(&elsewhere, &pristine, &store, &pristine)?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert_eq!(head(&rebuilt, disk), Some(chain[0].file.as_str()), "{rebuilt:?}");
    assert_eq!(why(&rebuilt, &pristine), "no disk and no snapshot that is there reads it", "{rebuilt:?}");
    assert_eq!(rebuilt.snapshots.len(), 6, "{rebuilt:?}");
    Ok(())
}

#[test]
fn a_header_that_names_nothing_below_is_not_read_alone() -> Outcome {
    let (store, volumes, _, _, chain) = three_layers(58)?;
    // Where the name lies, and how long it is (qcow2 specification, header, bytes 8-19).
    store.open(&name(&chain[0].file), Access::Write)?.write_at(HostOffset::new(8), &[0; 12])?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert_eq!(lost(&rebuilt), [volumes[0]]);
    assert!(why(&rebuilt, &chain[0].file).contains("its header names no file"), "{rebuilt:?}");
    Ok(())
}

#[test]
fn a_header_that_names_a_file_below_and_was_made_above_nothing_does_not_read_it() -> Outcome {
    let (store, volumes, _, _, chain) = three_layers(59)?;
    tell(&store, &chain[0].file, |notes| notes.parent = None)?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert_eq!(lost(&rebuilt), [volumes[0]]);
    assert!(why(&rebuilt, &chain[0].file).contains("it was made above nothing"), "{rebuilt:?}");
    Ok(())
}

#[test]
fn a_header_that_gives_the_file_below_another_format_does_not_read_it() -> Outcome {
    let (store, volumes, _, _, chain) = three_layers(60)?;
    let blob = store.open(&name(&chain[0].file), Access::Write)?;
    let mut header = vec![0; 4096];
    blob.read_at(HostOffset::ZERO, &mut header)?;
    // The extension with the format of the backing file.
    let kind = [0xe2, 0x79, 0x2a, 0xca];
    let at = header.windows(4).position(|word| word == kind).ok_or("it names a format")? as u64;
    blob.write_at(HostOffset::new(at + 4), b"\0\0\0\x03raw\0\0\0\0\0")?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert_eq!(lost(&rebuilt), [volumes[0]]);
    assert!(why(&rebuilt, &chain[0].file).contains("has another format than it has"), "{rebuilt:?}");
    Ok(())
}

#[test]
fn a_head_that_was_renamed_is_told_of_and_the_disk_is_the_file_below() -> Outcome {
    let (store, volumes, _, _, chain) = three_layers(61)?;
    copy(&store, &chain[0].file, &store, "renamed.qcow2")?;
    store.remove(&name(&chain[0].file))?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert_eq!(head(&rebuilt, volumes[0]), Some(chain[1].file.as_str()), "{rebuilt:?}");
    assert!(why(&rebuilt, "renamed.qcow2").contains("it is a copy, or was renamed"), "{rebuilt:?}");
    Ok(())
}

#[test]
fn of_two_adopted_heads_that_are_the_same_layer_neither_is_written_to() -> Outcome {
    let store = MemoryStore::new();
    let image = snapgroup::image::NewImage::of_size(ByteCount::mib(1)).layout("disk.qcow2")?;
    image.write(&*store.create(&name("disk.qcow2"))?)?;
    let here = Options { create: CreatePool::Here, ..options(62) };
    let engine = Engine::open_on(Arc::new(store.clone()), here)?;
    engine.adopt_volume(&AdoptVolume::new("disk.qcow2", LayerFormat::Qcow2, "disk"))?;
    engine.close()?;
    copy(&store, "disk.qcow2", &store, "copy.qcow2")?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert_eq!(rebuilt.volumes, []);
    for file in ["disk.qcow2", "copy.qcow2"] {
        assert!(why(&rebuilt, file).contains("it is not the only file"), "{rebuilt:?}");
    }
    Ok(())
}

#[test]
fn a_copy_of_a_file_whose_notes_are_damaged_is_a_copy_all_the_same() -> Outcome {
    let (store, volumes, _, _, chain) = three_layers(71)?;
    let (at, _) = extension(&store, &chain[0].file)?;
    store.open(&name(&chain[0].file), Access::Write)?.write_at(at + ByteCount::new(79), &[0xff])?;
    copy(&store, &chain[0].file, &store, "a-copy.qcow2")?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert_eq!(head(&rebuilt, volumes[0]), Some(chain[0].file.as_str()), "{rebuilt:?}");
    assert!(why(&rebuilt, "a-copy.qcow2").contains("it is not the only file"), "{rebuilt:?}");
    Ok(())
}

#[test]
fn a_head_that_was_written_to_and_cannot_be_read_is_not_replaced_by_the_file_below() -> Outcome {
    let (store, volumes, _, _, chain) = three_layers(72)?;
    // Where the L1 table lies (qcow2 specification, header, bytes 40-47).
    let far = 1_u64 << 50;
    store.open(&name(&chain[0].file), Access::Write)?.write_at(HostOffset::new(40), &far.to_be_bytes())?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert_eq!(lost(&rebuilt), [volumes[0]], "the disk shows what it held before: {rebuilt:?}");
    assert_eq!(rebuilt.volumes_lost[0].head.as_deref(), Some(chain[0].file.as_str()));
    Ok(())
}

#[test]
fn a_file_of_another_pool_in_the_place_of_a_base_is_not_read_through() -> Outcome {
    let World { store: other, engine, volumes, .. } = world(63)?;
    let stranger = engine.chain(volumes[0])?[1].file.clone();
    engine.close()?;
    let World { store, engine, .. } = world(64)?;
    let image = snapgroup::image::NewImage::of_size(ByteCount::mib(1)).layout("golden.qcow2")?;
    image.write(&*store.create(&name("golden.qcow2"))?)?;
    let base = BaseImage { file: "golden.qcow2".into(), format: LayerFormat::Qcow2 };
    let wish = CreateVolume { base: Some(base), size: None, ..CreateVolume::new("above", ByteCount::mib(1)) };
    let volume = engine.create_volume(&wish)?.uuid;
    let pool = engine.uuid();
    engine.close()?;
    store.remove(&name("golden.qcow2"))?;
    copy(&other, &stranger, &store, "golden.qcow2")?;
    store.remove(&name(CATALOGUE))?;
    let request = RebuildOptions { pool: Some(pool.into()) };
    let rebuilt = Engine::rebuild_on(&store, &options(900), &request)?;
    assert_eq!(lost(&rebuilt), [volume], "{rebuilt:?}");
    assert!(why(&rebuilt, "golden.qcow2").contains("it is of pool"), "{rebuilt:?}");
    Ok(())
}

#[test]
fn a_header_of_ours_that_cannot_be_read_is_told_of() -> Outcome {
    let (store, volumes, _, _, chain) = three_layers(65)?;
    store.open(&name(&chain[0].file), Access::Write)?.write_at(HostOffset::ZERO, &[0xa5; 512])?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert!(why(&rebuilt, &chain[0].file).contains("its header cannot be read"), "{rebuilt:?}");
    assert_eq!(head(&rebuilt, volumes[0]), Some(chain[1].file.as_str()));
    Ok(())
}

#[test]
fn a_base_comes_back_as_what_nobody_writes_to_and_a_layer_without_a_snapshot_as_one_that_may_be_merged()
-> Outcome {
    let store = MemoryStore::new();
    let golden = store.create(&name("golden.raw"))?;
    golden.write_at(HostOffset::ZERO, &[7; 1 << 20])?;
    let here = Options { create: CreatePool::Here, ..options(66) };
    let engine = Engine::open_on(Arc::new(store.clone()), here)?;
    let base = BaseImage { file: "golden.raw".into(), format: LayerFormat::Raw };
    let wish = CreateVolume { base: Some(base), size: None, ..CreateVolume::new("above", ByteCount::mib(1)) };
    let volume = engine.create_volume(&wish)?.uuid;
    engine.open_volume(volume)?.write_at(0, &[1; 300_000])?;
    let gone = engine.create_snapshot(&CreateSnapshot::new(volume, "gone"))?.uuid;
    engine.open_volume(volume)?.write_at(0, &[2; 200_000])?;
    let chain = engine.chain(volume)?;
    engine.close()?;
    // As if it had been deleted when the head was made.
    tell(&store, &chain[1].file, |notes| notes.changed = 10_000)?;
    let before = files(&store)?;
    let rebuilt = lose_and_rebuild(&store)?;
    assert_eq!(holder(&rebuilt, gone), None, "{rebuilt:?}");
    let engine = open(&store)?;
    let states: Vec<_> = engine.chain(volume)?.into_iter().map(|layer| layer.state).collect();
    assert_eq!(states, [LayerState::Head, LayerState::Retired, LayerState::Frozen]);
    engine.reclaim(&ReclaimOptions::towards(Direction::Pull))?.finish()?;
    assert_eq!(engine.chain(volume)?.len(), 2);
    assert!(files(&store)?["golden.raw"] == before["golden.raw"]);
    let shown = content_of_volume(&engine, volume)?;
    assert!(shown[..200_000] == [2; 200_000] && shown[200_000..300_000] == [1; 100_000]);
    assert!(shown[300_000..].iter().all(|byte| *byte == 7));
    Ok(())
}

#[test]
fn an_adopted_head_is_still_known_as_adopted_when_the_catalogue_is_lost_again() -> Outcome {
    let store = MemoryStore::new();
    let image = snapgroup::image::NewImage::of_size(ByteCount::mib(1)).layout("disk.qcow2")?;
    image.write(&*store.create(&name("disk.qcow2"))?)?;
    let here = Options { create: CreatePool::Here, ..options(67) };
    let engine = Engine::open_on(Arc::new(store.clone()), here)?;
    let volume = engine.adopt_volume(&AdoptVolume::new("disk.qcow2", LayerFormat::Qcow2, "disk"))?.uuid;
    engine.close()?;
    for round in 0..3 {
        let rebuilt = lose_and_rebuild(&store)?;
        assert_eq!(head(&rebuilt, volume), Some("disk.qcow2"), "{rebuilt:?}");
        let engine = open(&store)?;
        let gone = engine.create_snapshot(&CreateSnapshot::new(volume, "gone"))?.uuid;
        engine.open_volume(volume)?.write_at(0, &[round; 4])?;
        // The merge writes into the header of the adopted file what it is.
        let direction = Direction::Commit;
        assert!(
            engine
                .delete_snapshots(&DeleteSnapshots { direction, ..DeleteSnapshots::one(gone) })?
                .is_success()
        );
        assert_eq!(content_of_volume(&engine, volume)?[..4], [round; 4]);
        engine.close()?;
    }
    Ok(())
}

#[test]
fn a_place_that_two_disks_say_is_theirs_goes_to_one_of_them_and_the_other_is_told() -> Outcome {
    for is_root in [true, false] {
        let World { store, engine, machine, volumes, .. } = world(68)?;
        let old = volumes[usize::from(!is_root)];
        let wish = CreateVolume::new("new", ByteCount::mib(1));
        let new = engine.create_volume(&if is_root { wish.as_root() } else { wish })?.uuid;
        let place = if is_root { None } else { engine.volume(old)?.device_id };
        engine.detach_volume(old, machine)?;
        engine.attach_volume(new, machine, place)?;
        engine.create_snapshot(&CreateSnapshot::new(new, "of the new one"))?;
        engine.close()?;
        let rebuilt = lose_and_rebuild(&store)?;
        let told: Vec<_> = rebuilt.volumes.iter().filter_map(|known| known.detached.as_deref()).collect();
        let expected =
            if is_root { "the machine has another root volume" } else { "another volume has its device id" };
        assert_eq!(told, [expected], "{rebuilt:?}");
        assert_eq!(rebuilt.volumes.iter().filter(|known| known.machine == Some(machine)).count(), 2);
        assert!(open(&store)?.check()?.is_clean());
    }
    Ok(())
}

#[test]
fn a_group_whose_members_do_not_agree_is_none() -> Outcome {
    type Change = fn(&mut snapgroup::format::SnapshotClaim);
    let changes: [Change; 3] =
        [|claim| claim.ordinal = 0, |claim| claim.machine = [9; 16], |claim| claim.members = 3];
    for change in changes {
        let World { store, engine, volumes, group, .. } = world(69)?;
        let heads: Vec<String> = volumes
            .iter()
            .map(|volume| Ok(engine.chain(*volume)?[0].file.clone()))
            .collect::<Outcome<_>>()?;
        engine.close()?;
        // The second member is the one whose place is 1.
        for file in heads {
            tell(&store, &file, |notes| {
                notes.claims.iter_mut().filter(|claim| claim.ordinal == 1).for_each(change);
            })?;
        }
        let rebuilt = lose_and_rebuild(&store)?;
        assert!(rebuilt.groups.is_empty(), "{rebuilt:?}");
        let [incomplete] = &rebuilt.groups_incomplete[..] else { panic!("{rebuilt:?}") };
        assert_eq!((incomplete.uuid, incomplete.found.len()), (group, 2));
        assert!(open(&store)?.check()?.is_clean());
    }
    Ok(())
}

#[test]
fn layers_that_are_made_after_a_rebuild_are_younger_than_all_before() -> Outcome {
    let (store, volumes, first, _, chain) = three_layers(70)?;
    // What a call has left that went no further, and is older than the head.
    let elsewhere = store.fork();
    let engine = open(&elsewhere)?;
    engine.revert_volume(&RevertVolume::to(first))?;
    let leaf = engine.chain(volumes[0])?[0].file.clone();
    engine.close()?;
    copy(&elsewhere, &leaf, &store, &leaf)?;
    tell(&store, &leaf, |notes| notes.number = 1000)?;
    tell(&store, &chain[0].file, |notes| notes.number = 2000)?;
    assert_eq!(head(&lose_and_rebuild(&store)?, volumes[0]), Some(chain[0].file.as_str()));
    let engine = Engine::open_on(Arc::new(store.clone()), options(902))?;
    engine.revert_volume(&RevertVolume::to(first))?;
    engine.open_volume(volumes[0])?.write_at(0, b"newest")?;
    let made = engine.chain(volumes[0])?[0].file.clone();
    engine.close()?;
    assert_eq!(head(&lose_and_rebuild(&store)?, volumes[0]), Some(made.as_str()));
    assert_eq!(content_of_volume(&open(&store)?, volumes[0])?[..6], *b"newest");
    Ok(())
}
