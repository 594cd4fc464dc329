//! What differs between snapshots, and snapshots in files of their own.

use crate::support::{Dice, Home, Outcome, assert_sound, fill, make_machine, on_every_store, read_snapshot};
use snapgroup::storage::{Blob, BlobName, MemoryStore, Store};
use snapgroup::units::{GuestOffset, HostOffset};
use snapgroup::{
    ChangeKind, CreateSnapshot, DeleteSnapshots, DiffOptions, Exactness, Export, ExportBase, LayerFormat,
    RevertVolume, Uuid,
};
use std::sync::Arc;

on_every_store! {
    a_diff_leads_from_any_snapshot_to_any_other
    a_diff_can_begin_anywhere_and_with_nothing
    an_export_is_what_the_snapshot_shows
    snapshots_of_two_volumes_have_no_diff
}

fn a_diff_leads_from_any_snapshot_to_any_other(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let mut dice = Dice::new(5);
    let mut taken: Vec<Uuid> = Vec::new();
    for round in 0..7_u8 {
        let disk = engine.open_volume(vm.root())?;
        for _ in 0..3 {
            let at = dice.roll(900_000);
            fill(&disk, at, 1 + usize::try_from(dice.roll(90_000))?, dice.byte())?;
            disk.write_zeroes(dice.roll(900_000), 1 + dice.roll(90_000))?;
        }
        drop(disk);
        taken.push(engine.create_snapshot(&CreateSnapshot::new(vm.root(), format!("s{round}")))?.uuid);
        if round == 3 {
            engine.revert_volume(&RevertVolume::to(taken[1]))?;
        }
    }
    assert!(engine.delete_snapshots(&DeleteSnapshots::one(taken.remove(2)))?.is_success());
    for from in &taken {
        for to in &taken {
            for exactness in [Exactness::Tables, Exactness::Content] {
                let exact = exactness == Exactness::Content;
                let (before, after) = (read_snapshot(&engine, *from)?, read_snapshot(&engine, *to)?);
                let mut made = before.clone();
                made.resize(after.len(), 0);
                for change in engine.diff(
                    Some((*from).into()),
                    *to,
                    &DiffOptions { exactness, ..DiffOptions::default() },
                )? {
                    let change = change?;
                    let at = usize::try_from(change.at.as_u64())?;
                    let range = at..(at + change.length.as_usize()).min(made.len());
                    match change.kind {
                        ChangeKind::Data => made[range.clone()].copy_from_slice(&after[range.clone()]),
                        _ => made[range.clone()].fill(0),
                    }
                    assert!(!exact || before[range.clone()] != after[range], "nothing has changed there");
                }
                assert!(made == after, "{from} to {to}, exact {exact}");
            }
        }
    }
    assert_sound(&engine)
}

fn a_diff_can_begin_anywhere_and_with_nothing(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let mut taken: Vec<Uuid> = Vec::new();
    for round in 0..3_u8 {
        let disk = engine.open_volume(vm.root())?;
        for place in 0..3_u64 {
            fill(&disk, place * 250_000 + u64::from(round) * 70_000, 60_000, round + 1)?;
        }
        taken.push(engine.create_snapshot(&CreateSnapshot::new(vm.root(), format!("s{round}")))?.uuid);
    }
    let after = read_snapshot(&engine, taken[2])?;
    for from in [None, Some(taken[0]), Some(taken[1])] {
        let before = from.map_or_else(|| Ok(vec![0; after.len()]), |from| read_snapshot(&engine, from))?;
        for start in [0, 1, 70_001, 131_072, 700_000, after.len() - 1, after.len()] {
            for exactness in [Exactness::Tables, Exactness::Content] {
                let exact = exactness == Exactness::Content;
                let mut made = before.clone();
                let options = DiffOptions { start: GuestOffset::new(start as u64), exactness };
                for change in engine.diff(from.map(Into::into), taken[2], &options)? {
                    let change = change?;
                    let at = usize::try_from(change.at.as_u64())?;
                    assert!(at >= start, "{at} lies before {start}");
                    let range = at..at + change.length.as_usize();
                    match change.kind {
                        ChangeKind::Data => made[range.clone()].copy_from_slice(&after[range]),
                        _ => made[range].fill(0),
                    }
                }
                assert!(made[..start] == before[..start]);
                assert!(made[start..] == after[start..], "{from:?}, from {start} on, exact {exact}");
            }
        }
    }
    assert_sound(&engine)
}

fn blob(store: &MemoryStore, name: &str) -> Result<Arc<dyn Blob>, Box<dyn std::error::Error>> {
    Ok(store.create(&BlobName::parse(name)?)?)
}

fn an_export_is_what_the_snapshot_shows(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    fill(&engine.open_volume(vm.root())?, 100_000, 200_000, 7)?;
    let monday = engine.create_snapshot(&CreateSnapshot::new(vm.root(), "monday"))?.uuid;
    fill(&engine.open_volume(vm.root())?, 250_000, 10, 8)?;
    let tuesday = engine.create_snapshot(&CreateSnapshot::new(vm.root(), "tuesday"))?.uuid;
    let content = read_snapshot(&engine, tuesday)?;
    let store = MemoryStore::new();
    let raw = blob(&store, "raw")?;
    engine.export(tuesday, &Export::raw(), Arc::clone(&raw))?;
    let mut bytes = vec![0; content.len()];
    raw.read_at(HostOffset::ZERO, &mut bytes)?;
    assert!(bytes == content);
    engine.export(monday, &Export::qcow2(), blob(&store, "monday.qcow2")?)?;
    let base =
        ExportBase { snapshot: monday.into(), label: "monday.qcow2".into(), format: LayerFormat::Qcow2 };
    engine.export(tuesday, &Export::above(base).compressed(), blob(&store, "tuesday.qcow2")?)?;
    // The exported images are adopted into a pool of their own and read there.
    let options = snapgroup::Options { create: snapgroup::CreatePool::Here, ..snapgroup::Options::default() };
    let other = snapgroup::Engine::open_on(Arc::new(store), options)?;
    let adopted =
        other.adopt_volume(&snapgroup::AdoptVolume::new("tuesday.qcow2", LayerFormat::Qcow2, "copy"))?;
    let mut bytes = vec![0; content.len()];
    other.open_volume(adopted.uuid)?.read_at(0, &mut bytes)?;
    assert!(bytes == content);
    Ok(())
}

fn snapshots_of_two_volumes_have_no_diff(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let one = engine.create_snapshot(&CreateSnapshot::new(vm.disks[0], "one"))?.uuid;
    let two = engine.create_snapshot(&CreateSnapshot::new(vm.disks[1], "two"))?.uuid;
    let error = home.refusal(&engine, || engine.diff(Some(one.into()), two, &DiffOptions::default()))?;
    assert_eq!(error.code().as_str(), "SYS.1007");
    Ok(())
}
