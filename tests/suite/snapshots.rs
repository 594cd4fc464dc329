//! Snapshots of one volume.

use crate::support::{
    Home, Outcome, SIZE, assert_sound, fill, make_machine, on_every_store, read_snapshot, volume,
};
use snapgroup::{CreateSnapshot, Engine, Error, Kind, Uuid, VolumeKind};

on_every_store! {
    a_loose_volume_can_be_snapshotted
    a_repeat_answers_the_snapshot_that_is_there
    a_snapshot_without_a_volume_is_refused
    a_chain_of_sixty_four_reads_right_at_every_depth
    a_read_past_the_end_of_a_snapshot_is_refused
}

fn wish(volume: Uuid, name: &str) -> CreateSnapshot {
    CreateSnapshot { volume_uuid: Some(volume.into()), name: name.into(), ..CreateSnapshot::default() }
}

fn a_loose_volume_can_be_snapshotted(home: &Home) -> Outcome {
    let engine = home.open()?;
    let loose = engine.create_volume(&volume("loose", VolumeKind::Data))?.uuid;
    let wish = CreateSnapshot {
        description: Some("d".into()),
        user_tags: vec!["a".into(), "a".into()],
        ..wish(loose, "s")
    };
    let snapshot = engine.create_snapshot(&wish)?;
    assert_eq!((snapshot.name.as_str(), snapshot.description.as_deref()), ("s", Some("d")));
    assert_eq!((snapshot.distance, snapshot.parent_uuid, snapshot.group_uuid), (1, None, None));
    assert_eq!(snapshot.user_tags, ["a"]);
    assert_eq!(snapshot.virtual_size, Some(SIZE));
    assert!(snapshot.latest);
    assert_sound(&engine)
}

fn a_repeat_answers_the_snapshot_that_is_there(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let wish = CreateSnapshot { resource_uuid: Some(Uuid::from_u128(8).into()), ..wish(vm.root(), "s") };
    let snapshot = engine.create_snapshot(&wish)?;
    let generation = engine.generation();
    assert_eq!(engine.create_snapshot(&wish)?, snapshot);
    assert_eq!((engine.generation(), engine.chain(vm.root())?.len()), (generation, 2));
    drop(engine);
    let engine = home.open()?;
    assert_eq!(engine.create_snapshot(&wish)?, snapshot);
    let other = CreateSnapshot { name: "t".into(), ..wish };
    let error = home.refusal(&engine, || engine.create_snapshot(&other))?;
    assert_eq!(error.code().as_str(), "SYS.1002");
    Ok(())
}

fn a_snapshot_without_a_volume_is_refused(home: &Home) -> Outcome {
    let engine = home.open()?;
    let wish = CreateSnapshot { volume_uuid: None, name: "s".into(), ..CreateSnapshot::default() };
    let error = home.refusal(&engine, || engine.create_snapshot(&wish))?;
    assert_eq!((error.code().as_str(), error.kind()), ("SYS.1007", Kind::Refused));
    Ok(())
}

fn a_chain_of_sixty_four_reads_right_at_every_depth(home: &Home) -> Outcome {
    let engine = home.open()?;
    let disk = engine.create_volume(&volume("v", VolumeKind::Data))?.uuid;
    let mut model = vec![0; SIZE.as_usize()];
    let mut kept = Vec::new();
    for depth in 1..64u8 {
        let at = usize::from(depth) * 9000;
        fill(&engine.open_volume(disk)?, at as u64, 20_000, depth)?;
        model[at..at + 20_000].fill(depth);
        kept.push((engine.create_snapshot(&wish(disk, "s"))?.uuid, model.clone()));
    }
    let check = |engine: &Engine| -> Outcome {
        for (depth, (snapshot, content)) in kept.iter().enumerate() {
            assert!(read_snapshot(engine, *snapshot)? == *content, "depth {depth}");
        }
        Ok(())
    };
    check(&engine)?;
    let error = home.refusal(&engine, || engine.create_snapshot(&wish(disk, "one too many")))?;
    assert_eq!(error.code().as_str(), "SYS.1006");
    engine.close()?;
    let engine = home.open()?;
    check(&engine)?;
    assert_sound(&engine)
}

fn a_read_past_the_end_of_a_snapshot_is_refused(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let snapshot = engine.create_snapshot(&wish(vm.root(), "s"))?.uuid;
    let content = engine.open_snapshot(snapshot)?;
    for at in [SIZE.as_u64(), SIZE.as_u64() - 3, u64::MAX] {
        let answer = content.read_at(at, &mut [0; 4]);
        let Err(error @ Error::Image(_)) = answer else { panic!("{answer:?}") };
        assert_eq!((error.code().as_str(), error.kind()), ("SYS.1007", Kind::Refused));
    }
    Ok(())
}
