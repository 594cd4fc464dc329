//! Seals: what somebody else has done to a file is found, what this pool has done to it never is.

use crate::support::{
    Home, Made, Outcome, SIZE, assert_sound, fill, make_machine, on_every_store, read_snapshot, take, volume,
};
use snapgroup::image::{Image, Limits, Space};
use snapgroup::inventory::UnavailableReason;
use snapgroup::storage::{Access, BlobName};
use snapgroup::units::GuestOffset;
use snapgroup::{
    BaseImage, ByteCount, CreateSnapshot, CreateVolume, DeleteSnapshots, DeleteVolume, Direction, Engine,
    LayerFormat, LayerState, ReclaimOptions, Renew, SealOptions, SealWhen, Step, Touch, Uuid, Verdict,
    Verification, VerifyDepth, VerifyOf, VolumeKind, When,
};

on_every_store! {
    what_was_never_sealed_is_neither_intact_nor_different
    what_nobody_touched_is_intact_and_nothing_is_read_to_say_so
    a_changed_byte_is_found_in_its_cluster
    a_cluster_that_became_zeros_is_found_and_zeros_that_became_a_hole_are_not
    a_file_that_was_cut_short_is_found_by_its_length
    a_file_that_is_gone_cannot_be_used
    a_copy_under_the_same_name_is_another_file_with_the_same_content
    whatever_the_direction_a_merge_is_never_taken_for_damage
    a_seal_goes_with_its_layer_and_with_a_base_that_leaves_the_books
    a_raw_base_is_sealed_grain_by_grain
    checksums_that_are_damaged_or_gone_prove_nothing_and_accuse_nobody
    a_sealing_goes_on_where_it_stopped_layer_by_layer
    a_merge_between_two_steps_voids_the_seal_that_is_being_made
    what_is_written_to_a_file_while_it_is_sealed_leaves_it_unsealed
    a_seal_is_made_anew_on_request
    damage_makes_a_group_unavailable_to_those_who_look_deep
    a_pool_that_seals_what_it_freezes_needs_no_call
    what_is_asked_for_is_what_is_verified
}

const CLUSTER: u64 = 4096;

fn seal(engine: &Engine) -> Made<u64> {
    let sealed = engine.seal(&SealOptions::default())?.finish()?;
    assert!(sealed.failed.is_empty(), "{sealed:?}");
    Ok(sealed.layers)
}

fn verify(engine: &Engine, depth: VerifyDepth) -> Made<Verification> {
    Ok(engine.verify(&VerifyOf::Pool, depth)?)
}

/// The verdicts of all layers, read.
fn verdicts(engine: &Engine) -> Made<Vec<Verdict>> {
    Ok(verify(engine, VerifyDepth::Content)?.layers.into_iter().map(|layer| layer.verdict).collect())
}

/// A volume with `count` snapshots, each of which has clusters of its own and shares one; and their uuids.
fn with_snapshots(engine: &Engine, count: u8) -> Made<(Uuid, Vec<Uuid>)> {
    let disk = engine.create_volume(&volume("disk", VolumeKind::Data))?.uuid;
    let mut snapshots = Vec::new();
    for index in 1..=count {
        let open = engine.open_volume(disk)?;
        fill(&open, u64::from(index) * 16 * CLUSTER, 40_000, index)?;
        fill(&open, 0, 5000, index)?;
        open.write_zeroes(200 * CLUSTER, 4 * CLUSTER)?;
        drop(open);
        snapshots.push(engine.create_snapshot(&CreateSnapshot::new(disk, format!("s{index}")))?.uuid);
    }
    Ok((disk, snapshots))
}

/// The file that a snapshot names.
fn file_of(engine: &Engine, snapshot: Uuid) -> Made<String> {
    Ok(crate::support::file_of(&engine.snapshot(snapshot)?.primary_storage_install_path))
}

/// Where a file holds a byte many times over.
fn place_of(home: &Home, file: &str, byte: u8) -> Made<u64> {
    let found = home.bytes(file)?.windows(512).position(|window| window.iter().all(|found| *found == byte));
    Ok(found.ok_or("the file does not hold it")? as u64)
}

/// Overwrites bytes behind the pool's back, at a moment that the store can tell from the one before.
fn tamper(home: &Home, file: &str, at: u64, bytes: &[u8]) -> Outcome {
    let blob = home.store()?.open(&BlobName::parse(file)?, Access::Read)?;
    let before = blob.stamp()?.ok_or("the store gives no stamp")?;
    while blob.stamp()? == Some(before) {
        home.patch(file, at, bytes)?;
    }
    Ok(())
}

fn what_was_never_sealed_is_neither_intact_nor_different(home: &Home) -> Outcome {
    let engine = home.open()?;
    with_snapshots(&engine, 2)?;
    for depth in [VerifyDepth::Looks, VerifyDepth::Suspects, VerifyDepth::Content] {
        let found = verify(&engine, depth)?;
        assert_eq!(found.layers.len(), 2);
        assert!(found.layers.iter().all(|layer| layer.verdict == Verdict::NeverSealed), "{found:?}");
        assert_eq!((found.is_good(), found.is_proved(), found.bytes_read), (true, false, ByteCount::ZERO));
    }
    Ok(())
}

fn what_nobody_touched_is_intact_and_nothing_is_read_to_say_so(home: &Home) -> Outcome {
    let engine = home.open()?;
    with_snapshots(&engine, 3)?;
    assert_eq!(seal(&engine)?, 3);
    assert_sound(&engine)?;
    for depth in [VerifyDepth::Looks, VerifyDepth::Suspects, VerifyDepth::Content] {
        let found = verify(&engine, depth)?;
        assert!(found.is_proved(), "{found:?}");
        assert!(found.layers.iter().all(|layer| layer.touched.is_empty()), "{found:?}");
        assert_eq!(found.bytes_read.is_zero(), depth != VerifyDepth::Content);
    }
    // Nothing is left to do, and what is sealed stays sealed over a closing.
    assert_eq!(seal(&engine)?, 0);
    engine.close()?;
    let engine = home.open()?;
    assert_eq!(engine.recovered(), &Default::default());
    assert!(verify(&engine, VerifyDepth::Content)?.is_proved());
    Ok(())
}

fn a_changed_byte_is_found_in_its_cluster(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (_, snapshots) = with_snapshots(&engine, 3)?;
    seal(&engine)?;
    let file = file_of(&engine, snapshots[1])?;
    // The first place is the shared cluster at 0, or the own ones from 32 clusters on.
    tamper(home, &file, place_of(home, &file, 2)? + 7, &[0xee])?;
    let looks = verify(&engine, VerifyDepth::Looks)?;
    let named: Vec<_> = looks.layers.iter().filter(|layer| layer.verdict != Verdict::Intact).collect();
    let [touched] = &named[..] else { panic!("{looks:?}") };
    assert_eq!((&touched.file, &touched.touched[..]), (&file, &[Touch::Changed][..]));
    assert_eq!(touched.verdict, Verdict::Touched);
    for depth in [VerifyDepth::Suspects, VerifyDepth::Content] {
        let found = verify(&engine, depth)?;
        assert!(!found.is_good());
        let different: Vec<_> =
            found.layers.iter().filter(|layer| layer.verdict != Verdict::Intact).collect();
        let [layer] = &different[..] else { panic!("{found:?}") };
        let Verdict::Differs { bytes, ranges } = &layer.verdict else { panic!("{layer:?}") };
        assert_eq!((&layer.file, bytes.as_u64(), ranges.len()), (&file, CLUSTER, 1));
        let at = ranges[0].start;
        assert_eq!(ranges[0].end, at + CLUSTER);
        let mut content = vec![0; 4096];
        engine.open_snapshot(snapshots[1])?.read_at(at, &mut content)?;
        assert!(content.contains(&0xee), "the stretch is not where the byte is");
    }
    Ok(())
}

fn a_cluster_that_became_zeros_is_found_and_zeros_that_became_a_hole_are_not(home: &Home) -> Outcome {
    let engine = home.open()?;
    let disk = engine.create_volume(&volume("disk", VolumeKind::Data))?.uuid;
    let open = engine.open_volume(disk)?;
    fill(&open, 0, 8192, 1)?;
    // Written, and zeros all the same.
    fill(&open, 16_384, 8192, 0)?;
    drop(open);
    let snapshot = engine.create_snapshot(&CreateSnapshot::new(disk, "s"))?.uuid;
    seal(&engine)?;
    let file = file_of(&engine, snapshot)?;
    let zero = |at| -> Outcome {
        let blob = home.touch()?.open(&BlobName::parse(&file)?, Access::Write)?;
        let image = Image::open(blob, &file, Access::Write, Limits::default())?;
        image.zero(GuestOffset::new(at), ByteCount::new(CLUSTER), Space::Free, None)?;
        Ok(image.flush()?)
    };
    zero(16_384)?;
    assert_eq!(verdicts(&engine)?, [Verdict::Intact], "the guest sees the same");
    zero(4096)?;
    let differs = |at: u64| Verdict::Differs {
        bytes: ByteCount::new(CLUSTER),
        ranges: std::iter::once(at..at + CLUSTER).collect(),
    };
    assert_eq!(verdicts(&engine)?, [differs(4096)]);
    // What was absent is there now.
    let blob = home.touch()?.open(&BlobName::parse(&file)?, Access::Write)?;
    let image = Image::open(blob, &file, Access::Write, Limits::default())?;
    image.write(GuestOffset::new(4096), &[1; 4096], None)?;
    image.write(GuestOffset::new(65_536), &[1; 4096], None)?;
    image.flush()?;
    assert_eq!(verdicts(&engine)?, [differs(65_536)]);
    Ok(())
}

fn a_file_that_was_cut_short_is_found_by_its_length(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (_, snapshots) = with_snapshots(&engine, 1)?;
    seal(&engine)?;
    let file = file_of(&engine, snapshots[0])?;
    let length = home.bytes(&file)?.len() as u64;
    home.cut(&file, length - 20_000)?;
    let found = verify(&engine, VerifyDepth::Looks)?.layers.remove(0);
    let cut = Touch::Length { sealed: ByteCount::new(length), found: ByteCount::new(length - 20_000) };
    assert!(found.touched.contains(&cut), "{found:?}");
    assert!(!verify(&engine, VerifyDepth::Suspects)?.is_good());
    Ok(())
}

fn a_file_that_is_gone_cannot_be_used(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (_, snapshots) = with_snapshots(&engine, 2)?;
    seal(&engine)?;
    home.remove(&file_of(&engine, snapshots[0])?)?;
    let found = verify(&engine, VerifyDepth::Looks)?;
    let Verdict::Unusable { .. } = &found.layers[0].verdict else { panic!("{found:?}") };
    assert_eq!(found.layers[1].verdict, Verdict::Intact);
    Ok(())
}

fn a_copy_under_the_same_name_is_another_file_with_the_same_content(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (_, snapshots) = with_snapshots(&engine, 1)?;
    seal(&engine)?;
    let file = file_of(&engine, snapshots[0])?;
    let bytes = home.bytes(&file)?;
    home.put(&file, &bytes)?;
    let found = verify(&engine, VerifyDepth::Looks)?.layers.remove(0);
    // A file system may give the number of the old file to the new one; then it was changed since.
    assert!(matches!(found.touched[..], [Touch::Replaced | Touch::Changed]), "{found:?}");
    assert!(!home.is_in_memory() || found.touched == [Touch::Replaced], "{found:?}");
    assert_eq!(found.verdict, Verdict::Touched);
    assert!(verify(&engine, VerifyDepth::Suspects)?.is_proved());
    Ok(())
}

fn whatever_the_direction_a_merge_is_never_taken_for_damage(home: &Home) -> Outcome {
    for direction in [Direction::Auto, Direction::Pull, Direction::Commit] {
        for when in [When::Now, When::Later] {
            let engine = home.open()?;
            let (disk, snapshots) = with_snapshots(&engine, 5)?;
            let contents: Vec<_> =
                snapshots.iter().map(|uuid| read_snapshot(&engine, *uuid)).collect::<Made<_>>()?;
            seal(&engine)?;
            assert!(
                engine
                    .delete_snapshots(&DeleteSnapshots {
                        direction,
                        reclaim: when,
                        ..DeleteSnapshots::all([snapshots[1], snapshots[4]])
                    })?
                    .is_success()
            );
            let mut reclaim = engine.reclaim(&ReclaimOptions::towards(direction))?;
            loop {
                let step = reclaim.step(ByteCount::new(CLUSTER))?;
                let found = verify(&engine, VerifyDepth::Content)?;
                assert!(found.is_good(), "{direction:?}, {when:?}: {found:?}");
                let untouched = found.layers.iter().all(|layer| layer.touched.is_empty());
                assert!(untouched, "{direction:?}, {when:?}: {found:?}");
                assert_sound(&engine)?;
                if step == Step::Done {
                    break;
                }
            }
            drop(reclaim);
            let found = verify(&engine, VerifyDepth::Content)?;
            assert!(!found.is_proved(), "{direction:?}: a layer that was written to is still sealed");
            assert!(found.layers.iter().any(|layer| layer.verdict == Verdict::Intact), "{direction:?}");
            seal(&engine)?;
            assert!(verify(&engine, VerifyDepth::Content)?.is_proved());
            for place in [0, 2, 3] {
                assert!(read_snapshot(&engine, snapshots[place])? == contents[place]);
            }
            assert_sound(&engine)?;
            engine.close()?;
            let engine = home.open()?;
            let mut recovered = engine.recovered().clone();
            recovered.owed.clear();
            assert_eq!(recovered, Default::default(), "{direction:?}, {when:?}");
            assert!(engine.delete_volume(&DeleteVolume::new(disk))?.is_success());
            let files: Vec<String> = home.picture()?.into_keys().collect();
            assert_eq!(files, ["snapgroup.redb"], "{direction:?}, {when:?}");
        }
    }
    Ok(())
}

fn a_seal_goes_with_its_layer_and_with_a_base_that_leaves_the_books(home: &Home) -> Outcome {
    home.put("base.raw", &[5; 100_000])?;
    let engine = home.open()?;
    let base = BaseImage { file: "base.raw".into(), format: LayerFormat::Raw };
    let wish = CreateVolume { base: Some(base), size: None, ..volume("clone", VolumeKind::Data) };
    let disk = engine.create_volume(&wish)?.uuid;
    engine.create_snapshot(&CreateSnapshot::new(disk, "s"))?;
    assert_eq!(seal(&engine)?, 2);
    assert_eq!(home.picture()?.keys().filter(|name| name.starts_with("seal-")).count(), 2);
    assert!(engine.delete_volume(&DeleteVolume::new(disk))?.is_success());
    let files: Vec<String> = home.picture()?.into_keys().collect();
    assert_eq!(files, ["base.raw", "snapgroup.redb"]);
    Ok(())
}

fn a_raw_base_is_sealed_grain_by_grain(home: &Home) -> Outcome {
    let mut bytes = vec![0; 300_000];
    bytes[..70_000].fill(3);
    bytes[200_000..].fill(4);
    home.put("base.raw", &bytes)?;
    let engine = home.open()?;
    let base = BaseImage { file: "base.raw".into(), format: LayerFormat::Raw };
    let wish = CreateVolume { base: Some(base), size: None, ..volume("clone", VolumeKind::Data) };
    engine.create_volume(&wish)?;
    assert_eq!(seal(&engine)?, 1);
    assert!(verify(&engine, VerifyDepth::Content)?.is_proved());
    let differs = |range: std::ops::Range<u64>| Verdict::Differs {
        bytes: ByteCount::new(range.end - range.start),
        ranges: vec![range],
    };
    // In the hole; the grain is 64 KiB.
    tamper(home, "base.raw", 150_000, &[9])?;
    assert_eq!(verdicts(&engine)?, [differs(131_072..196_608)]);
    tamper(home, "base.raw", 150_000, &[0])?;
    assert_eq!(verdicts(&engine)?, [Verdict::Intact]);
    // The last grain ends with the disk, which is rounded up to 512.
    tamper(home, "base.raw", 299_999, &[9])?;
    assert_eq!(verdicts(&engine)?, [differs(262_144..300_032)]);
    Ok(())
}

fn checksums_that_are_damaged_or_gone_prove_nothing_and_accuse_nobody(home: &Home) -> Outcome {
    let engine = home.open()?;
    with_snapshots(&engine, 1)?;
    seal(&engine)?;
    let seals = || -> Made<Vec<String>> {
        Ok(home.picture()?.into_keys().filter(|name| name.starts_with("seal-")).collect())
    };
    let name = seals()?.remove(0);
    let length = home.bytes(&name)?.len() as u64;
    for at in [0, 20, 63, 64, 70, 90, length - 1] {
        let was = home.bytes(&name)?[usize::try_from(at)?];
        home.patch(&name, at, &[was ^ 1])?;
        let found = verdicts(&engine)?;
        let [Verdict::SealLost { .. }] = &found[..] else { panic!("byte {at}: {found:?}") };
        home.patch(&name, at, &[was])?;
        assert_eq!(verdicts(&engine)?, [Verdict::Intact]);
    }
    home.remove(&name)?;
    let found = verdicts(&engine)?;
    let [Verdict::SealLost { .. }] = &found[..] else { panic!("{found:?}") };
    let check = engine.check()?;
    assert_eq!((&check.seals_missing[..], check.is_sound(), check.is_clean()), (&[name][..], true, false));
    let renewed = engine.seal(&SealOptions { renew: Renew::All, ..SealOptions::default() })?.finish()?;
    assert_eq!(renewed.layers, 1);
    assert_eq!(verdicts(&engine)?, [Verdict::Intact]);
    assert_sound(&engine)
}

fn a_sealing_goes_on_where_it_stopped_layer_by_layer(home: &Home) -> Outcome {
    let engine = home.open()?;
    with_snapshots(&engine, 3)?;
    let mut sealing = engine.seal(&SealOptions::default())?;
    let mut steps = 0;
    while sealing.sealed().layers < 2 {
        assert_eq!(sealing.step(ByteCount::new(1))?, Step::More);
        assert!(sealing.progress().read <= sealing.progress().total);
        steps += 1;
        assert_sound(&engine)?;
    }
    assert!(steps > 2, "{steps} steps: a budget of nothing is no budget");
    assert_eq!(sealing.step(ByteCount::new(1))?, Step::More, "the third one is under way");
    drop(sealing);
    // Its file went with it.
    assert_eq!(home.picture()?.keys().filter(|name| name.starts_with("seal-")).count(), 2);
    let sealed = engine.seal(&SealOptions::default())?.finish()?;
    assert_eq!(sealed.layers, 1);
    assert!(verify(&engine, VerifyDepth::Content)?.is_proved());
    assert_sound(&engine)
}

fn a_merge_between_two_steps_voids_the_seal_that_is_being_made(home: &Home) -> Outcome {
    for direction in [Direction::Pull, Direction::Commit] {
        let engine = home.open()?;
        let (disk, snapshots) = with_snapshots(&engine, 3)?;
        // The layer that is written to: the one above when pulling up, the one below when committing down.
        let written = if direction == Direction::Pull { snapshots[1] } else { snapshots[0] };
        let file = file_of(&engine, written)?;
        let mut sealing = engine.seal(&SealOptions::default())?;
        let skipped = if direction == Direction::Pull { 1 } else { 0 };
        while sealing.sealed().layers < skipped {
            assert_eq!(sealing.step(ByteCount::new(1))?, Step::More);
        }
        assert_eq!(sealing.step(ByteCount::new(1))?, Step::More);
        assert!(
            engine
                .delete_snapshots(&DeleteSnapshots { direction, ..DeleteSnapshots::one(snapshots[0]) })?
                .is_success()
        );
        let sealed = sealing.finish()?;
        assert!(sealed.failed.iter().any(|failed| failed.file == file), "{direction:?}: {sealed:?}");
        assert!(verify(&engine, VerifyDepth::Content)?.is_good());
        assert_sound(&engine)?;
        seal(&engine)?;
        assert!(verify(&engine, VerifyDepth::Content)?.is_proved());
        assert!(engine.delete_volume(&DeleteVolume::new(disk))?.is_success());
    }
    Ok(())
}

fn what_is_written_to_a_file_while_it_is_sealed_leaves_it_unsealed(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (_, snapshots) = with_snapshots(&engine, 1)?;
    let file = file_of(&engine, snapshots[0])?;
    let mut sealing = engine.seal(&SealOptions::default())?;
    assert_eq!(sealing.step(ByteCount::new(1))?, Step::More);
    tamper(home, &file, place_of(home, &file, 1)?, &[0xee])?;
    let sealed = sealing.finish()?;
    assert_eq!(sealed.layers, 0);
    let [failed] = &sealed.failed[..] else { panic!("{sealed:?}") };
    assert_eq!((&failed.file, &failed.error), (&file, &None));
    assert_eq!(verdicts(&engine)?, [Verdict::NeverSealed]);
    assert_sound(&engine)
}

fn a_seal_is_made_anew_on_request(home: &Home) -> Outcome {
    let engine = home.open()?;
    let (_, snapshots) = with_snapshots(&engine, 2)?;
    seal(&engine)?;
    let file = file_of(&engine, snapshots[0])?;
    tamper(home, &file, place_of(home, &file, 1)?, &[0xee])?;
    assert_eq!(seal(&engine)?, 0);
    assert!(!verify(&engine, VerifyDepth::Content)?.is_good(), "a seal was made anew without a request");
    let options = SealOptions { renew: Renew::All, ..SealOptions::default() };
    assert_eq!(engine.seal(&options)?.finish()?.layers, 2);
    assert!(verify(&engine, VerifyDepth::Looks)?.is_proved());
    assert_eq!(home.picture()?.keys().filter(|name| name.starts_with("seal-")).count(), 2);
    assert_sound(&engine)
}

fn damage_makes_a_group_unavailable_to_those_who_look_deep(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    for disk in &vm.disks {
        fill(&engine.open_volume(*disk)?, 0, 20_000, 1)?;
    }
    let group = take(&engine, &vm, "g")?;
    seal(&engine)?;
    let deep = |depth| engine.check_availability_deep([group.uuid], depth);
    assert!(deep(VerifyDepth::Content)?[0].available);
    let member = &group.volume_snapshot_refs[1];
    let file = crate::support::file_of(&member.volume_snapshot_install_path);
    tamper(home, &file, place_of(home, &file, 1)?, &[0xee])?;
    assert!(engine.check_availability([group.uuid])?[0].available);
    for depth in [VerifyDepth::Looks, VerifyDepth::Suspects, VerifyDepth::Content] {
        let answer = deep(depth)?.remove(0);
        let [UnavailableReason::FilesDamaged { snapshots }] = &answer.reasons[..] else {
            panic!("{answer:?}")
        };
        assert_eq!(snapshots.len(), 1);
        assert_eq!(snapshots[0].uuid, member.volume_snapshot_uuid);
        assert!(!answer.available && !answer.reason.is_empty());
    }
    // Without a seal, a file that is not there is a reason all the same.
    let other = crate::support::file_of(&group.volume_snapshot_refs[0].volume_snapshot_install_path);
    home.remove(&other)?;
    let answer = deep(VerifyDepth::Looks)?.remove(0);
    let [UnavailableReason::FilesDamaged { snapshots }] = &answer.reasons[..] else { panic!("{answer:?}") };
    assert_eq!(snapshots.len(), 2);
    Ok(())
}

fn a_pool_that_seals_what_it_freezes_needs_no_call(home: &Home) -> Outcome {
    let engine = home.open_with(|options| options.seal = SealWhen::WhenFrozen)?;
    let vm = make_machine(&engine, 2)?;
    fill(&engine.open_volume(vm.root())?, 0, 20_000, 1)?;
    take(&engine, &vm, "g")?;
    engine.create_snapshot(&CreateSnapshot::new(vm.root(), "s"))?;
    let found = verify(&engine, VerifyDepth::Content)?;
    assert_eq!((found.layers.len(), found.is_proved()), (3, true), "{found:?}");
    assert_eq!(seal(&engine)?, 0);
    assert_sound(&engine)
}

fn what_is_asked_for_is_what_is_verified(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let first = take(&engine, &vm, "first")?;
    let second = take(&engine, &vm, "second")?;
    let (other, _) = with_snapshots(&engine, 1)?;
    let count = |of| -> Made<usize> { Ok(engine.verify(&of, VerifyDepth::Looks)?.layers.len()) };
    assert_eq!(count(VerifyOf::Pool)?, 5);
    assert_eq!(count(VerifyOf::Group(first.uuid.into()))?, 2);
    assert_eq!(count(VerifyOf::Group(second.uuid.into()))?, 4);
    let member = second.volume_snapshot_refs[0].volume_snapshot_uuid;
    assert_eq!(count(VerifyOf::Snapshot(member.into()))?, 2);
    assert!(engine.verify(&VerifyOf::Group(member.into()), VerifyDepth::Looks).is_err());
    assert!(engine.verify(&VerifyOf::Snapshot("no uuid".into()), VerifyDepth::Looks).is_err());
    // Only what one volume reads through is sealed.
    let options = SealOptions { volume: Some(other.into()), ..SealOptions::default() };
    assert_eq!(engine.seal(&options)?.finish()?.layers, 1);
    let heads = engine.chain(other)?;
    assert_eq!(heads[0].state, LayerState::Head);
    assert_eq!(engine.volume(other)?.size, SIZE);
    Ok(())
}
