//! The books: the same on every store, from one seed and one clock.

use crate::support::{Home, Machine, Made, Outcome, fill, make_machine, take, volume};
use snapgroup::query::Query;
use snapgroup::{ByteCount, CreateGroup, CreateSnapshot, UpdateGroup, VolumeKind};

/// Runs one program and shows everything that is there afterwards, install paths cut down to the file.
fn program(home: &Home) -> Made<String> {
    let engine = home.open()?;
    let vm = make_machine(&engine, 4)?;
    let other = make_machine(&engine, 1)?;
    for round in 0..4u8 {
        fill(&engine.open_volume(vm.disks[usize::from(round)])?, 0, 5000, round + 1)?;
        take(&engine, &vm, &format!("g{round}"))?;
    }
    let wish = CreateGroup { except: vec![vm.disks[2].into()], ..vm.group("but one") };
    let group = engine.create_group(&wish)?.inventory;
    let name = UpdateGroup { name: Some("all but one".into()), description: Some("d".into()) };
    engine.update_group(group.uuid, &name)?;
    engine.create_snapshot(&CreateSnapshot {
        volume_uuid: Some(other.root().into()),
        name: "alone".into(),
        user_tags: vec!["t".into()],
        ..CreateSnapshot::default()
    })?;
    engine.resize_volume(other.root(), ByteCount::mib(3))?;
    engine.detach_volume(vm.disks[3], vm.uuid)?;
    let loose = engine.create_volume(&volume("loose", VolumeKind::Data))?;
    engine.attach_volume(loose.uuid, other.uuid, Some(17))?;
    let uuids: Vec<_> = engine.query_groups(&Query::all())?.items.iter().map(|group| group.uuid).collect();
    engine.ungroup(uuids[1])?;
    engine.delete_machine(other.uuid)?;
    engine.close()?;

    let engine = home.open()?;
    let uuids: Vec<_> = engine.query_groups(&Query::all())?.items.iter().map(|group| group.uuid).collect();
    let shown = [
        serde_json::to_string_pretty(&engine.query_machines(&Query::all())?.items)?,
        serde_json::to_string_pretty(&engine.query_volumes(&Query::all())?.items)?,
        serde_json::to_string_pretty(&engine.query_snapshots(&Query::all())?.items)?,
        serde_json::to_string_pretty(&engine.query_trees(&Query::all())?.items)?,
        serde_json::to_string_pretty(&engine.query_groups(&Query::all())?.items)?,
        serde_json::to_string_pretty(&engine.group_tree(vm.uuid)?)?,
        serde_json::to_string_pretty(&engine.check_availability(&uuids)?)?,
    ]
    .join("\n");
    let Machine { disks, .. } = vm;
    let path = engine.volume(disks[0])?.install_path;
    let file = crate::support::file_of(&path);
    Ok(shown.replace(path.trim_end_matches(&file), ""))
}

#[test]
fn one_program_keeps_the_same_books_on_every_store() -> Outcome {
    let in_memory = program(&Home::memory())?;
    let on_disk = program(&Home::disk()?)?;
    let simulated = program(&Home::simulated())?;
    // What a file takes up is the business of the file system.
    let plain = |text: &str| {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("\"size\""));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    assert_eq!(plain(&in_memory), plain(&on_disk));
    assert_eq!(in_memory, simulated);
    assert!(in_memory.contains("all but one") && in_memory.contains("layer-"));
    Ok(())
}

#[test]
fn the_same_program_twice_leaves_the_same_bytes() -> Outcome {
    let (one, other) = (Home::memory(), Home::memory());
    program(&one)?;
    program(&other)?;
    assert!(one.picture()? == other.picture()?);
    Ok(())
}
