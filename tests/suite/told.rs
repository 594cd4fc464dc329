//! Plans and reports as a person reads them, and errors as a program tells them apart.

use crate::support::{Home, Outcome, make_machine};
use snapgroup::storage::{Access, BlobName, MemoryStore, Store};
use snapgroup::units::HostOffset;
use snapgroup::{
    AdoptRule, AdoptVolume, CatalogueFault, CreateGroup, DeleteGroup, DeleteSnapshots, Engine, Error,
    LayerFormat, Options, Retention, RevertGroup, Thin,
};
use std::sync::Arc;

#[test]
fn a_plan_of_a_deletion_names_who_goes_and_who_refuses_before_the_figures() -> Outcome {
    let home = Home::memory();
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    engine.open_volume(vm.root())?.write_at(0, &[1; 65_536])?;
    let group = engine.create_group(&CreateGroup::of_machine(vm.uuid, "first"))?.inventory;
    let snapshot = group.volume_snapshot_refs[0].volume_snapshot_uuid;

    let told = engine.plan_delete(&DeleteGroup::new(group.uuid))?.to_string();
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines[0], format!("snapshot {}: would be deleted", snapshot.simple()));
    assert_eq!(lines[1], format!("group {}: no member would be left", group.uuid.simple()));
    assert!(lines[2].starts_with("copied up 0 B, copied down 0 B, copied whole 0 B, freed "), "{told}");
    assert_eq!(lines.last(), Some(&&*format!("chain of {}: 2 -> 1 layers", vm.root().simple())));
    assert!(lines.iter().any(|line| line.starts_with(" written  ")), "{told}");
    assert!(lines.iter().any(|line| line.starts_with(" removed  ")), "{told}");
    assert!(!told.ends_with('\n'));

    engine.hold(snapshot, "audit")?;
    let told = engine.plan_delete(&DeleteSnapshots::one(snapshot))?.to_string();
    let refused = format!("snapshot {}: refused: ", snapshot.simple());
    assert!(told.starts_with(&refused) && told.contains("audit"), "{told}");
    Ok(())
}

#[test]
fn plans_of_groups_reverts_and_retentions_are_told_line_by_line() -> Outcome {
    let home = Home::memory();
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let wish = CreateGroup::of_machine(vm.uuid, "first");
    let plan = engine.plan_create(&wish)?;
    let told = plan.to_string();
    let expected = format!("snapshot {}: would be taken\ncopied up 0 B", plan.members[0].name);
    assert!(told.starts_with(&expected) && told.contains("\n    made  1 new file\n"), "{told}");
    let group = engine.run(&plan)?.inventory;

    let told = engine.plan_revert(&RevertGroup::new(group.uuid))?.to_string();
    let expected = format!("volume {}: would be reverted\ncopied up 0 B", vm.root().simple());
    assert!(told.starts_with(&expected), "{told}");

    engine.create_group(&CreateGroup::of_machine(vm.uuid, "second"))?;
    let keep = |last| Thin::new(vm.uuid, Retention { last, ..Retention::default() });
    let told = engine.plan_retention(&keep(1))?.to_string();
    let lines: Vec<_> = told.lines().collect();
    assert!(lines[0].starts_with("group first of ") && lines[0].ends_with(": goes"), "{told}");
    assert!(lines[1].starts_with("group second of ") && lines[1].contains(": stays: "), "{told}");
    assert!(lines[2].starts_with("snapshot "), "{told}");
    let told = engine.plan_retention(&keep(2))?.to_string();
    assert_eq!(told.lines().count(), 2, "{told}");
    Ok(())
}

#[test]
fn a_check_tells_what_is_wrong_and_sums_up() -> Outcome {
    let home = Home::memory();
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    assert_eq!(engine.check()?.to_string(), "1 layer checked: clean");
    let file = engine.chain(vm.root())?[0].file.clone();
    engine.close()?;
    home.remove(&file)?;
    let told = home.open()?.check()?.to_string();
    assert!(
        told.starts_with(&format!("{file}: missing\n")) && told.ends_with(" checked: not sound"),
        "{told}"
    );
    Ok(())
}

#[test]
fn the_rule_that_a_file_breaks_is_told_apart_by_its_variant() -> Outcome {
    let home = Home::memory();
    home.put("image.raw", b"QFI\xfb")?;
    let engine = home.open()?;
    let broken = |file: &str, format| match engine.adopt_volume(&AdoptVolume::new(file, format, "disk")) {
        Err(Error::NotAdoptable { rule, .. }) => Ok(rule),
        other => Err(format!("{file}: {other:?}")),
    };
    assert_eq!(broken("absent", LayerFormat::Raw)?, AdoptRule::Absent);
    assert_eq!(broken("/absent", LayerFormat::Raw)?, AdoptRule::OutOfReach);
    assert_eq!(broken("snapgroup.redb", LayerFormat::Raw)?, AdoptRule::Catalogue);
    let AdoptRule::Name(_) = broken("a/b", LayerFormat::Raw)? else { panic!("a path was taken for a name") };
    let AdoptRule::Unusable(_) = broken("image.raw", LayerFormat::Qcow2)? else {
        panic!("four bytes are an image")
    };
    assert_ne!(broken("a/b", LayerFormat::Raw)?, broken("a/c", LayerFormat::Raw)?);

    let vm = make_machine(&engine, 1)?;
    let head = engine.chain(vm.root())?[0].file.clone();
    assert_eq!(broken(&head, LayerFormat::Qcow2)?, AdoptRule::Head);
    assert_eq!(broken(&head, LayerFormat::Raw)?, AdoptRule::KnownAs { format: LayerFormat::Qcow2 });
    Ok(())
}

#[test]
fn what_is_wrong_with_a_catalogue_is_told_apart() -> Outcome {
    let fault = |spoil: &dyn Fn(&mut Vec<u8>)| -> Result<CatalogueFault, Box<dyn std::error::Error>> {
        let store = MemoryStore::new();
        Engine::open_on(Arc::new(store.clone()), Options::default())?.close()?;
        let blob = store.open(&BlobName::parse("snapgroup.redb")?, Access::Write)?;
        let mut bytes = vec![0; blob.length()?.as_usize()];
        blob.read_at(HostOffset::ZERO, &mut bytes)?;
        spoil(&mut bytes);
        blob.write_at(HostOffset::ZERO, &bytes)?;
        match Engine::open_on(Arc::new(store), Options::default()) {
            Err(Error::Catalog(error)) => Ok(error.fault()),
            other => Err(format!("{other:?}").into()),
        }
    };
    assert_eq!(fault(&|bytes| bytes[0] ^= 1)?, CatalogueFault::Foreign);
    assert_eq!(fault(&|bytes| bytes[4096..].fill(0xff))?, CatalogueFault::Damaged);
    Ok(())
}
