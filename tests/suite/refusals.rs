//! Refusals: every bad request has its code, its kind and its text, and changes nothing in the books or on disk.

use crate::support::{
    Home, Machine, Made, Outcome, SIZE, fill, head_of, make_disk, make_machine, on_every_store, read,
    read_volume, take, told, volume,
};
use snapgroup::image::NewImage;
use snapgroup::{
    ByteCount, Code, CreateGroup, CreateMachine, CreateSnapshot, CreateVolume, Engine, Error, GroupOf, Kind,
    Refusal, Running, Sharing, UpdateGroup, Uuid, VolumeKind,
};

on_every_store! {
    what_is_not_there_is_not_found
    a_group_is_asked_for_by_a_root_volume_that_is_attached
    names_are_not_empty_and_at_most_255_characters_long
    a_description_is_at_most_2048_characters_long
    a_joined_name_is_at_most_255_characters_long
    what_is_no_uuid_is_refused_by_every_call
    a_taken_uuid_is_refused_by_every_call_that_makes_something
    a_malformed_tag_is_refused
    an_excepted_volume_must_be_of_the_machine
    a_machine_without_disks_has_no_group
    the_checks_come_in_the_order_that_is_promised
    a_head_that_is_missing_is_named
    a_head_that_was_replaced_by_another_file_is_noticed
    a_head_that_was_replaced_while_it_is_open_is_noticed
    an_overlay_that_names_another_backing_file_is_refused
    a_layer_that_was_cut_short_or_overwritten_is_refused
    one_bad_disk_of_many_leaves_all_of_them_writable
    a_lower_layer_that_is_missing_is_named
    a_chain_at_its_cap_is_not_made_longer
    a_quota_counts_all_members_at_once
    a_machine_that_runs_elsewhere_is_left_alone
    a_disk_that_is_open_here_is_not_handed_to_a_process_elsewhere
    a_pool_that_is_open_is_not_opened_again
    garbage_in_the_place_of_the_catalogue_is_refused
    a_mark_beside_a_catalogue_that_was_used_does_no_harm
}

const MISSING: Uuid = Uuid::from_u128(0xdead);
const MISSING_TEXT: &str = "0000000000000000000000000000dead";

/// A call and the answer that is expected of it.
type Case<'a> = (&'a str, Box<dyn FnOnce() -> Result<(), Error> + 'a>);

fn case<'a, T>(what: &'a str, call: impl FnOnce() -> Result<T, Error> + 'a) -> Case<'a> {
    (what, Box::new(move || call().map(drop)))
}

fn snapshot_of(volume: Uuid) -> CreateSnapshot {
    CreateSnapshot { volume_uuid: Some(volume.into()), name: "s".into(), ..CreateSnapshot::default() }
}

fn what_is_not_there_is_not_found(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let group = take(&engine, &vm, "g")?;
    let by_root = CreateGroup::new(GroupOf::RootVolume(MISSING.into()), "g");
    let by_machine = CreateGroup::new(GroupOf::Machine(MISSING.into()), "g");
    let name = UpdateGroup { name: Some("n".into()), description: None };
    let cases = vec![
        case("volume", || engine.create_group(&by_root)),
        case("machine", || engine.create_group(&by_machine)),
        case("group", || engine.update_group(MISSING, &name)),
        case("group", || engine.check_availability([group.uuid, MISSING])),
        case("machine", || engine.group_tree(MISSING)),
        case("volume", || engine.open_volume(MISSING)),
        case("snapshot", || engine.open_snapshot(MISSING)),
        // A group is no snapshot, and a machine is no volume.
        case("snapshot", || engine.open_snapshot(vm.root()).map(drop).map_err(|_| not_found("snapshot"))),
        case("volume", || engine.attach_volume(MISSING, vm.uuid, None)),
        case("machine", || engine.attach_volume(vm.root(), MISSING, None)),
        case("volume", || engine.detach_volume(MISSING, vm.uuid)),
        case("machine", || engine.detach_volume(vm.root(), MISSING)),
        case("volume", || engine.resize_volume(MISSING, SIZE)),
        case("machine", || engine.set_running(MISSING, Running::Elsewhere)),
        case("volume", || engine.create_snapshot(&snapshot_of(MISSING))),
        case("volume", || engine.chain(MISSING)),
        case("volume", || engine.volume(MISSING)),
        case("machine", || engine.machine(MISSING)),
        case("snapshot", || engine.snapshot(MISSING)),
        case("group", || engine.group(MISSING)),
    ];
    for (what, call) in cases {
        let error = home.refusal(&engine, call)?;
        assert_eq!(
            told(&error),
            ("SYS.1003", Kind::Refused, format!("no {what} has the uuid {MISSING_TEXT}"))
        );
    }
    let wrong_kind = engine.open_snapshot(vm.root());
    let Err(Error::Refused(Refusal::NotFound { what: "snapshot", .. })) = wrong_kind else {
        panic!("a volume was opened as a snapshot: {wrong_kind:?}")
    };
    Ok(())
}

fn not_found(what: &'static str) -> Error {
    Refusal::NotFound { what, uuid: MISSING }.into()
}

fn a_group_is_asked_for_by_a_root_volume_that_is_attached(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let by = |disk: Uuid| CreateGroup::new(GroupOf::RootVolume(disk.into()), "g");
    let error = home.refusal(&engine, || engine.create_group(&by(vm.disks[1])))?;
    let text =
        format!("volume {} is a Data volume, a group is asked for by the root volume", vm.disks[1].simple());
    assert_eq!(told(&error), ("SYS.1007", Kind::Refused, text));

    engine.detach_volume(vm.root(), vm.uuid)?;
    let error = home.refusal(&engine, || engine.create_group(&by(vm.root())))?;
    let text = format!("volume {} is attached to no machine", vm.root().simple());
    assert_eq!(told(&error), ("SYS.1007", Kind::Refused, text));
    Ok(())
}

fn names_are_not_empty_and_at_most_255_characters_long(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let group = take(&engine, &vm, "g")?;
    let too_long = "ü".repeat(256);
    for (name, text) in [
        ("", "the name is empty".to_owned()),
        (" \t\n", "the name is empty".to_owned()),
        (&too_long, "the name is 256 characters long, at most 255 are allowed".to_owned()),
    ] {
        let machine = CreateMachine { name: name.into(), ..CreateMachine::default() };
        let update = UpdateGroup { name: Some(name.into()), description: None };
        let snapshot = CreateSnapshot { name: name.into(), ..snapshot_of(vm.root()) };
        let adopted = snapgroup::AdoptVolume { name: name.into(), ..snapgroup::AdoptVolume::default() };
        let cases = vec![
            case("group", || engine.create_group(&vm.group(name))),
            case("update", || engine.update_group(group.uuid, &update)),
            case("machine", || engine.create_machine(&machine)),
            case("volume", || engine.create_volume(&volume(name, VolumeKind::Data))),
            case("snapshot", || engine.create_snapshot(&snapshot)),
            case("adopt", || engine.adopt_volume(&adopted)),
        ];
        for (what, call) in cases {
            let error = home.refusal(&engine, call)?;
            assert_eq!(told(&error), ("SYS.1007", Kind::Refused, text.clone()), "{what}");
        }
    }
    let longest = "ü".repeat(255);
    engine.create_machine(&crate::support::machine(&longest))?;
    assert_eq!(engine.create_volume(&volume(&longest, VolumeKind::Data))?.name, longest);
    let update = UpdateGroup { name: Some(longest.clone()), description: None };
    assert_eq!(engine.update_group(group.uuid, &update)?.name, longest);
    Ok(())
}

fn a_description_is_at_most_2048_characters_long(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let group = take(&engine, &vm, "g")?;
    let long = || Some("é".repeat(2049));
    let update = UpdateGroup { name: None, description: long() };
    let machine = CreateMachine { description: long(), ..crate::support::machine("m") };
    let disk = CreateVolume { description: long(), ..volume("v", VolumeKind::Data) };
    let snapshot = CreateSnapshot { description: long(), ..snapshot_of(vm.root()) };
    let again = CreateGroup { description: long(), ..vm.group("h") };
    let cases = vec![
        case("group", || engine.create_group(&again)),
        case("update", || engine.update_group(group.uuid, &update)),
        case("machine", || engine.create_machine(&machine)),
        case("volume", || engine.create_volume(&disk)),
        case("snapshot", || engine.create_snapshot(&snapshot)),
    ];
    for (what, call) in cases {
        let error = home.refusal(&engine, call)?;
        let text = "the description is 2049 characters long, at most 2048 are allowed".to_owned();
        assert_eq!(told(&error), ("SYS.1007", Kind::Refused, text), "{what}");
    }
    let longest = CreateGroup { description: Some("é".repeat(2048)), ..vm.group("h") };
    assert_eq!(engine.create_group(&longest)?.inventory.description, longest.description);
    Ok(())
}

fn a_joined_name_is_at_most_255_characters_long(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    make_disk(&engine, vm.uuid, &volume(&"ü".repeat(200), VolumeKind::Data))?;
    let error = home.refusal(&engine, || engine.create_group(&vm.group(&"x".repeat(55))))?;
    let text = format!(
        "the snapshot of volume {:?} would have a name of 256 characters (<group>-<volume>), at most 255 are allowed",
        "ü".repeat(200)
    );
    assert_eq!(told(&error), ("SYS.1007", Kind::Refused, text));
    let longest = take(&engine, &vm, &"x".repeat(54))?;
    assert_eq!(longest.volume_snapshot_refs[1].volume_snapshot_name.chars().count(), 255);
    Ok(())
}

fn what_is_no_uuid_is_refused_by_every_call(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    for bad in [
        "",
        "x",
        "0000000000000000000000000000dea",
        "{0000000000000000000000000000dead}",
        "00000000000000000000000000000000",
        "ééééééééééééééé1",
        "urn:uuid:00000000-0000-0000-0000-00000000dead",
    ] {
        let by_root = CreateGroup::new(GroupOf::RootVolume(bad.into()), "g");
        let with_uuid = CreateGroup { resource_uuid: Some(bad.into()), ..vm.group("g") };
        let excepting = CreateGroup { except: vec![bad.into()], ..vm.group("g") };
        let machine = CreateMachine { resource_uuid: Some(bad.into()), ..crate::support::machine("m") };
        let disk = CreateVolume { resource_uuid: Some(bad.into()), ..volume("v", VolumeKind::Data) };
        let snapshot = CreateSnapshot { resource_uuid: Some(bad.into()), ..snapshot_of(vm.root()) };
        let cases = vec![
            case("group", || engine.create_group(&by_root)),
            case("group uuid", || engine.create_group(&with_uuid)),
            case("except", || engine.create_group(&excepting)),
            case("machine", || engine.create_machine(&machine)),
            case("volume", || engine.create_volume(&disk)),
            case("snapshot", || engine.create_snapshot(&snapshot)),
            case("attach", || engine.attach_volume(bad, vm.uuid, None)),
            case("attach to", || engine.attach_volume(vm.root(), bad, None)),
            case("open", || engine.open_volume(bad)),
            case("open snapshot", || engine.open_snapshot(bad)),
            case("availability", || engine.check_availability([bad])),
            case("tree", || engine.group_tree(bad)),
            case("ungroup", || engine.ungroup(bad)),
            case("delete", || engine.delete_machine(bad)),
        ];
        for (what, call) in cases {
            let error = home.refusal(&engine, call)?;
            let text = format!("{bad:?} is not a uuid: 32 hex digits, with or without dashes, not all zero");
            assert_eq!(told(&error), ("SYS.1007", Kind::Refused, text), "{what}");
        }
    }
    Ok(())
}

fn a_taken_uuid_is_refused_by_every_call_that_makes_something(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let group = take(&engine, &vm, "g")?;
    let member = group.volume_snapshot_refs[0].volume_snapshot_uuid;
    let tree = engine.snapshot(member)?.tree_uuid;
    let taken = [
        (vm.uuid, "machine"),
        (vm.root(), "volume"),
        (member, "snapshot"),
        (tree, "tree"),
        (group.uuid, "group"),
    ];
    for (uuid, by) in taken {
        let resource_uuid = || Some(uuid.into());
        let again = CreateGroup { resource_uuid: resource_uuid(), ..vm.group("h") };
        let machine = CreateMachine { resource_uuid: resource_uuid(), ..crate::support::machine("m") };
        let disk = CreateVolume { resource_uuid: resource_uuid(), ..volume("v", VolumeKind::Data) };
        let snapshot = CreateSnapshot { resource_uuid: resource_uuid(), ..snapshot_of(vm.root()) };
        let cases = vec![
            case("group", || engine.create_group(&again)),
            case("machine", || engine.create_machine(&machine)),
            case("volume", || engine.create_volume(&disk)),
            case("snapshot", || engine.create_snapshot(&snapshot)),
        ];
        for (what, call) in cases {
            let error = home.refusal(&engine, call)?;
            assert_eq!(
                (error.code(), error.kind()),
                (Code::CreateResource, Kind::Refused),
                "{what}: {error}"
            );
            let text = if what == by {
                let uuid = uuid.simple();
                format!(
                    "the {by} {uuid} was made by another request: the same resource uuid with another wish"
                )
            } else {
                format!("the uuid {} is taken by a {by}", uuid.simple())
            };
            assert_eq!(error.to_string(), text, "{what}");
        }
    }
    Ok(())
}

fn a_malformed_tag_is_refused(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    for bad in ["", "  ", "a\nb", "a\0b", &"x".repeat(2049)] {
        let list = || vec!["good".to_owned(), bad.to_owned()];
        let wishes = [
            CreateGroup { user_tags: list(), ..vm.group("g") },
            CreateGroup { system_tags: list(), ..vm.group("g") },
            CreateGroup { tag_uuids: vec![bad.to_owned()], ..vm.group("g") },
        ];
        for wish in &wishes {
            let error = home.refusal(&engine, || engine.create_group(wish))?;
            let Error::Refused(Refusal::MalformedTag { .. }) = error else { panic!("{error:?}") };
            assert_eq!(error.code().as_str(), "SYS.1007");
        }
        let wish = CreateSnapshot { user_tags: list(), ..snapshot_of(vm.root()) };
        let error = home.refusal(&engine, || engine.create_snapshot(&wish))?;
        let Error::Refused(Refusal::MalformedTag { .. }) = error else { panic!("{error:?}") };
    }
    Ok(())
}

fn an_excepted_volume_must_be_of_the_machine(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let other = make_machine(&engine, 1)?;
    let wish = CreateGroup { except: vec![other.root().into()], ..vm.group("g") };
    let error = home.refusal(&engine, || engine.create_group(&wish))?;
    let text = format!("volume {} is not attached to machine {}", other.root().simple(), vm.uuid.simple());
    assert_eq!(told(&error), ("SYS.1007", Kind::Refused, text));
    Ok(())
}

fn a_machine_without_disks_has_no_group(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = engine.create_machine(&crate::support::machine("vm"))?.uuid;
    let wish = CreateGroup::new(GroupOf::Machine(vm.into()), "g");
    let error = home.refusal(&engine, || engine.create_group(&wish))?;
    let text = format!("machine {} has no disk that a group could hold", vm.simple());
    assert_eq!(told(&error), ("SYS.1006", Kind::Refused, text.clone()));
    let shared = CreateVolume { sharing: Sharing::Shareable, ..volume("quorum", VolumeKind::Data) };
    make_disk(&engine, vm, &shared)?;
    let error = home.refusal(&engine, || engine.create_group(&wish))?;
    assert_eq!(told(&error), ("SYS.1006", Kind::Refused, text));
    Ok(())
}

/// Each request breaks one rule less than the one before: the earlier rule is named.
fn the_checks_come_in_the_order_that_is_promised(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    drop(engine);
    let engine = home.open_with(|options| {
        options.chain_max = 1;
        options.snapshots_max = Some(0);
    })?;
    let file = head_of(&engine, vm.root())?;
    let bytes = home.bytes(&file)?;
    home.remove(&file)?;
    let worst = CreateGroup {
        name: String::new(),
        resource_uuid: Some(vm.uuid.into()),
        ..CreateGroup::new(GroupOf::RootVolume(MISSING.into()), "")
    };
    let mut wish = worst;
    let next = |wish: &CreateGroup| home.refusal(&engine, || engine.create_group(wish));
    assert_eq!(next(&wish)?.code(), Code::NotFound);
    wish.of = GroupOf::RootVolume(vm.disks[1].into());
    let Error::Refused(Refusal::NotRoot { .. }) = next(&wish)? else {
        panic!("the type of the volume is second")
    };
    wish.of = GroupOf::RootVolume(vm.root().into());
    let Error::Refused(Refusal::Empty { .. }) = next(&wish)? else { panic!("the name is third") };
    wish.name = "g".into();
    let Error::Refused(Refusal::UuidTaken { .. }) = next(&wish)? else { panic!("the uuid is fourth") };
    wish.resource_uuid = None;
    let Error::LayerMissing { .. } = next(&wish)? else { panic!("the heads are fifth") };
    home.put(&file, &bytes)?;
    let Error::Refused(Refusal::ChainTooLong { .. }) = next(&wish)? else { panic!("the chain is sixth") };
    drop(engine);
    let engine = home.open_with(|options| options.snapshots_max = Some(1))?;
    let error = home.refusal(&engine, || engine.create_group(&wish))?;
    let Error::Refused(Refusal::Quota { held: 0, adding: 2, quota: 1 }) = error else { panic!("{error:?}") };
    Ok(())
}

fn a_head_that_is_missing_is_named(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 3)?;
    take(&engine, &vm, "g")?;
    let file = head_of(&engine, vm.disks[2])?;
    for with_handle in [false, true] {
        let handle = if with_handle { Some(engine.open_volume(vm.disks[2])?) } else { None };
        let bytes = home.bytes(&file)?;
        home.remove(&file)?;
        let text = format!("the file {file} of volume {} is missing", vm.disks[2].simple());
        let error = home.refusal(&engine, || engine.create_group(&vm.group("h")))?;
        assert_eq!(told(&error), ("SYS.1006", Kind::Corrupt, text.clone()));
        let error = home.refusal(&engine, || engine.create_snapshot(&snapshot_of(vm.disks[2])))?;
        assert_eq!(told(&error), ("SYS.1006", Kind::Corrupt, text.clone()));
        assert_eq!(engine.check()?.missing, std::slice::from_ref(&file));
        drop(handle);
        home.put(&file, &bytes)?;
    }
    take(&engine, &vm, "whole again")?;
    Ok(())
}

fn disagreement(error: &Error) -> &'static str {
    let Error::LayerDisagrees { what, .. } = error else { panic!("{error:?}") };
    assert_eq!((error.code().as_str(), error.kind()), ("SYS.1006", Kind::Corrupt));
    what
}

fn a_head_that_was_replaced_by_another_file_is_noticed(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let file = head_of(&engine, vm.root())?;
    let bytes = home.bytes(&file)?;
    let fresh = NewImage { cluster_bits: 12, ..NewImage::of_size(SIZE) };
    home.put(&file, &crate::adoption::bytes_of(&fresh)?)?;
    let error = home.refusal(&engine, || engine.create_group(&vm.group("g")))?;
    assert_eq!(disagreement(&error), "layer id");
    home.put(&file, &home.bytes(&head_of(&engine, vm.disks[1])?)?)?;
    for call in [
        case("group", || engine.create_group(&vm.group("g"))),
        case("open", || engine.open_volume(vm.root())),
        case("resize", || engine.resize_volume(vm.root(), ByteCount::mib(2))),
    ] {
        let error = home.refusal(&engine, call.1)?;
        assert_eq!(disagreement(&error), "layer id");
    }
    let larger = NewImage { cluster_bits: 12, ..NewImage::of_size(ByteCount::mib(2)) };
    home.put(&file, &crate::adoption::bytes_of(&larger)?)?;
    let other_clusters = NewImage::of_size(SIZE);
    home.refusal(&engine, || engine.create_group(&vm.group("g")))?;
    home.put(&file, &crate::adoption::bytes_of(&other_clusters)?)?;
    let error = home.refusal(&engine, || engine.create_group(&vm.group("g")))?;
    assert_eq!(disagreement(&error), "cluster size");
    home.put(&file, &bytes)?;
    take(&engine, &vm, "g")?;
    Ok(())
}

fn a_head_that_was_replaced_while_it_is_open_is_noticed(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let disk = engine.open_volume(vm.root())?;
    let file = head_of(&engine, vm.root())?;
    // The same bytes, but another file: what is written to the open one would be lost.
    home.put(&file, &home.bytes(&file)?)?;
    for call in [
        case("group", || engine.create_group(&vm.group("g"))),
        case("snapshot", || engine.create_snapshot(&snapshot_of(vm.root()))),
    ] {
        let error = home.refusal(&engine, call.1)?;
        assert_eq!(disagreement(&error), "identity");
    }
    fill(&disk, 0, 512, 1)?;
    assert_eq!(read(&disk, 0, 512)?, [1; 512]);
    Ok(())
}

fn an_overlay_that_names_another_backing_file_is_refused(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let group = take(&engine, &vm, "g")?;
    let file = head_of(&engine, vm.root())?;
    let bytes = home.bytes(&file)?;
    let at = u64::from_be_bytes(bytes[8..16].try_into()?);
    home.patch(&file, at, b"l4yer")?;
    let error = home.refusal(&engine, || engine.create_group(&vm.group("h")))?;
    assert_eq!(disagreement(&error), "backing file");
    assert!(error.to_string().contains("l4yer"), "{error}");
    home.put(&file, &bytes)?;
    // No backing file at all.
    home.patch(&file, 8, &[0; 12])?;
    home.refusal(&engine, || engine.open_volume(vm.root()))?;
    assert_eq!(engine.check()?.layers.len(), 1);
    home.put(&file, &bytes)?;
    // Another format in the extension: qcow2 becomes raw2, which is none.
    let format = bytes.windows(5).position(|found| found == b"qcow2").ok_or("no format is written")?;
    home.patch(&file, format as u64, b"qcow1")?;
    let error = home.refusal(&engine, || engine.open_volume(vm.root()))?;
    assert_eq!(disagreement(&error), "backing format");
    home.put(&file, &bytes)?;
    engine.open_volume(vm.root())?;
    engine.open_snapshot(group.volume_snapshot_refs[0].volume_snapshot_uuid)?;
    Ok(())
}

fn a_layer_that_was_cut_short_or_overwritten_is_refused(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    fill(&engine.open_volume(vm.root())?, 0, 100_000, 1)?;
    let group = take(&engine, &vm, "g")?;
    engine.close()?;
    let engine = home.open()?;
    let snapshot = group.volume_snapshot_refs[0].volume_snapshot_uuid;
    let lower = crate::support::file_of(&engine.snapshot(snapshot)?.primary_storage_install_path);
    for file in [head_of(&engine, vm.root())?, lower] {
        let bytes = home.bytes(&file)?;
        for damage in 0..4 {
            match damage {
                0 => home.cut(&file, 0)?,
                1 => home.cut(&file, 60)?,
                2 => home.patch(&file, 0, b"GARBAGE!")?,
                // The L1 table lies past the end.
                _ => home.patch(&file, 40, &(1u64 << 40).to_be_bytes())?,
            }
            let error = home.refusal(&engine, || engine.create_group(&vm.group("h")))?;
            let Error::Layer { volume, blob, .. } = &error else {
                panic!("damage {damage} of {file}: {error:?}")
            };
            assert_eq!((*volume, blob), (vm.root(), &file));
            assert_eq!((error.code().as_str(), error.kind()), ("SYS.1006", Kind::Corrupt), "{damage}");
            assert!(error.to_error_code().cause.is_some());
            assert_eq!(engine.check()?.layers[0].file, file);
            home.put(&file, &bytes)?;
        }
    }
    assert!(read_volume(&engine, vm.root())?[..100_000].iter().all(|byte| *byte == 1));
    Ok(())
}

fn one_bad_disk_of_many_leaves_all_of_them_writable(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 4)?;
    let handles =
        vm.disks[..3].iter().map(|disk| engine.open_volume(*disk)).collect::<Result<Vec<_>, _>>()?;
    home.remove(&head_of(&engine, vm.disks[3])?)?;
    home.refusal(&engine, || engine.create_group(&vm.group("g")))?;
    for handle in &handles {
        fill(handle, 0, 5000, 9)?;
        handle.flush()?;
        assert_eq!(read(handle, 0, 5000)?, [9; 5000]);
    }
    let but_one = CreateGroup { except: vec![vm.disks[3].into()], ..vm.group("g") };
    assert_eq!(engine.create_group(&but_one)?.inventory.snapshot_count, 3);
    Ok(())
}

fn a_lower_layer_that_is_missing_is_named(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let first = take(&engine, &vm, "first")?;
    take(&engine, &vm, "second")?;
    let snapshot = first.volume_snapshot_refs[0].volume_snapshot_uuid;
    let file = crate::support::file_of(&engine.snapshot(snapshot)?.primary_storage_install_path);
    home.remove(&file)?;
    let text = format!("the file {file} of volume {} is missing", vm.root().simple());
    for call in [
        case("group", || engine.create_group(&vm.group("g"))),
        case("open", || engine.open_volume(vm.root())),
        case("snapshot", || engine.open_snapshot(snapshot)),
    ] {
        let error = home.refusal(&engine, call.1)?;
        assert_eq!(told(&error), ("SYS.1006", Kind::Corrupt, text.clone()), "{}", call.0);
    }
    Ok(())
}

fn a_chain_at_its_cap_is_not_made_longer(home: &Home) -> Outcome {
    let engine = home.open_with(|options| options.chain_max = 3)?;
    let vm = make_machine(&engine, 2)?;
    engine.create_snapshot(&snapshot_of(vm.disks[1]))?;
    take(&engine, &vm, "g")?;
    let text = |name: &str| format!("the chain of volume {name:?} would be 4 layers long, 3 are allowed");
    let error = home.refusal(&engine, || engine.create_group(&vm.group("h")))?;
    assert_eq!(told(&error), ("SYS.1006", Kind::Refused, text("data-1")));
    let error = home.refusal(&engine, || engine.create_snapshot(&snapshot_of(vm.disks[1])))?;
    assert_eq!(told(&error), ("SYS.1006", Kind::Refused, text("data-1")));
    engine.create_snapshot(&snapshot_of(vm.root()))?;
    assert_eq!(engine.chain(vm.root())?.len(), 3);
    Ok(())
}

fn a_quota_counts_all_members_at_once(home: &Home) -> Outcome {
    let engine = home.open_with(|options| options.snapshots_max = Some(5))?;
    let vm = make_machine(&engine, 3)?;
    take(&engine, &vm, "g")?;
    let error = home.refusal(&engine, || engine.create_group(&vm.group("h")))?;
    let text = "3 snapshots are held and 3 would be added, the quota is 5".to_owned();
    assert_eq!(told(&error), ("ID.1003", Kind::Refused, text));
    engine.create_snapshot(&snapshot_of(vm.root()))?;
    engine.create_snapshot(&snapshot_of(vm.root()))?;
    let error = home.refusal(&engine, || engine.create_snapshot(&snapshot_of(vm.root())))?;
    assert_eq!(error.code(), Code::Quota);
    Ok(())
}

fn a_machine_that_runs_elsewhere_is_left_alone(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let group = take(&engine, &vm, "g")?;
    engine.set_running(vm.uuid, Running::Elsewhere)?;
    let cases = vec![
        case("its disks must be switched by the process that runs it", || {
            engine.create_group(&vm.group("h"))
        }),
        case("its disks must be switched by the process that runs it", || {
            engine.create_snapshot(&snapshot_of(vm.root()))
        }),
        case("its disks cannot be opened here", || engine.open_volume(vm.root())),
        case("its disks cannot be resized", || engine.resize_volume(vm.root(), ByteCount::mib(9))),
        case("no volume can be detached", || engine.detach_volume(vm.disks[1], vm.uuid)),
        case("it cannot be deleted", || engine.delete_machine(vm.uuid)),
    ];
    for (what, call) in cases {
        let error = home.refusal(&engine, call)?;
        let text = format!("machine {} runs in another process: {what}", vm.uuid.simple());
        assert_eq!(told(&error), ("SYS.1006", Kind::Refused, text));
    }
    // Books and snapshots stay open to all.
    engine.open_snapshot(group.volume_snapshot_refs[0].volume_snapshot_uuid)?;
    engine.update_group(group.uuid, &UpdateGroup { name: Some("n".into()), description: None })?;
    engine.set_running(vm.uuid, Running::Here)?;
    take(&engine, &vm, "h")?;
    Ok(())
}

fn a_disk_that_is_open_here_is_not_handed_to_a_process_elsewhere(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let text =
        |disk: Uuid| format!("volume {} is open in this process: close its handles first", disk.simple());
    let handle = engine.open_volume(vm.disks[1])?;
    let copy = handle.clone();
    drop(handle);
    let error = home.refusal(&engine, || engine.set_running(vm.uuid, Running::Elsewhere))?;
    assert_eq!(told(&error), ("SYS.1006", Kind::Refused, text(vm.disks[1])));
    drop(copy);
    engine.set_running(vm.uuid, Running::Elsewhere)?;

    let loose = engine.create_volume(&volume("loose", VolumeKind::Data))?.uuid;
    let handle = engine.open_volume(loose)?;
    let error = home.refusal(&engine, || engine.attach_volume(loose, vm.uuid, None))?;
    assert_eq!(told(&error), ("SYS.1006", Kind::Refused, text(loose)));
    drop(handle);
    engine.attach_volume(loose, vm.uuid, None)?;
    Ok(())
}

fn a_pool_that_is_open_is_not_opened_again(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let again = home.open_with(|_| {});
    let Err(error @ Error::Storage(snapgroup::storage::Error::Locked { .. })) = again else {
        panic!("{again:?}")
    };
    assert_eq!((error.code().as_str(), error.kind()), ("SYS.1006", Kind::Refused));
    // Handles keep it open when the engine is gone.
    let disk = engine.open_volume(vm.root())?;
    let Err(Error::Refused(Refusal::StillOpen { holders: 1 })) = engine.close() else {
        panic!("it was closed")
    };
    let again = home.open_with(|_| {});
    let Err(Error::Storage(snapgroup::storage::Error::Locked { .. })) = again else { panic!("{again:?}") };
    drop(disk);
    let engine = home.open()?;
    let snapshot = engine.create_snapshot(&snapshot_of(vm.root()))?;
    let content = engine.open_snapshot(snapshot.uuid)?;
    let clone = engine.clone();
    let Err(Error::Refused(Refusal::StillOpen { holders: 2 })) = engine.close() else {
        panic!("it was closed")
    };
    drop(content);
    clone.close()?;
    home.open()?.close()?;
    Ok(())
}

fn garbage_in_the_place_of_the_catalogue_is_refused(home: &Home) -> Outcome {
    let garbage: Vec<u8> = (0..20_000u32).map(|n| n.to_be_bytes()[3] ^ 0x5a).collect();
    home.put("snapgroup.redb", &garbage)?;
    let opened = home.open_with(|_| {});
    let Err(error) = opened else { panic!("it was taken for a pool") };
    assert_eq!(error.kind(), Kind::Corrupt, "{error:?}");
    home.remove("snapgroup.redb")?;
    home.open()?;
    Ok(())
}

fn a_mark_beside_a_catalogue_that_was_used_does_no_harm(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    engine.close()?;
    // The mark of a catalogue that is being made; whoever put it there, this one was acknowledged.
    home.put("snapgroup.redb.new", &[])?;
    let engine = home.open()?;
    assert_eq!(engine.machine(vm.uuid)?.uuid, vm.uuid);
    engine.close()?;
    let Err(_) = home.bytes("snapgroup.redb.new") else { panic!("the mark is still there") };
    Ok(())
}

/// A pool with one machine of one disk, closed.
#[cfg(target_os = "linux")]
fn closed_pool(home: &Home) -> Made<Machine> {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    engine.close()?;
    Ok(vm)
}

/// What only a directory can be, and what only another process can do.
#[cfg(target_os = "linux")]
mod on_disk {
    use super::{case, closed_pool, snapshot_of};
    use crate::support::{Home, Outcome, fill, make_machine, take, told};
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;
    use snapgroup::storage;
    use snapgroup::{CreatePool, Engine, Error, Kind, Options};
    use std::fs::{self, File};
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    /// Tells a child which pool to open.
    const CHILD: &str = "SNAPGROUP_TEST_POOL";

    fn options(create: CreatePool) -> Options {
        Options { create, ..Options::default() }
    }

    #[test]
    fn a_pool_that_another_process_has_open_is_refused_until_that_process_is_gone() -> Outcome {
        if let Some(path) = std::env::var_os(CHILD) {
            let _engine = Engine::open(path, Options::default())?;
            let mut out = std::io::stdout();
            writeln!(out, "\nopen")?;
            out.flush()?;
            // Until the parent kills this process, or goes away.
            std::io::stdin().lines().for_each(drop);
            return Ok(());
        }
        let home = Home::disk()?;
        closed_pool(&home)?;
        let test = "a_pool_that_another_process_has_open_is_refused_until_that_process_is_gone";
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--exact", &format!("refusals::on_disk::{test}"), "--nocapture"])
            .env(CHILD, home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("piped")?).lines();
        let open = lines.by_ref().map_while(Result::ok).any(|line| line == "open");
        assert!(open, "the child could not open the pool");
        let second = Engine::open(home.path(), Options::default());
        let Err(error @ Error::Storage(storage::Error::Locked { .. })) = second else { panic!("{second:?}") };
        let path = home.path().display();
        let text = format!("{path} is in use by another owner (process {})", child.id());
        assert_eq!(told(&error), ("SYS.1006", Kind::Refused, text));
        child.kill()?;
        child.wait()?;
        Engine::open(home.path(), Options::default())?.close()?;
        Ok(())
    }

    #[test]
    fn a_directory_with_other_files_is_no_pool_and_gets_no_file() -> Outcome {
        let home = Home::disk()?;
        fs::write(home.path().join("notes.txt"), "mine")?;
        let names = || fs::read_dir(home.path()).map(Iterator::count);
        let opened = Engine::open(home.path(), options(CreatePool::IfEmpty));
        let Err(error @ Error::NotAPool { .. }) = opened else { panic!("{opened:?}") };
        assert_eq!((error.code().as_str(), error.kind()), ("SYS.1003", Kind::Refused));
        let opened = Engine::open(home.path(), options(CreatePool::Never));
        let Err(error @ Error::NoPool { .. }) = opened else { panic!("{opened:?}") };
        assert_eq!((error.code().as_str(), error.kind()), ("SYS.1003", Kind::Refused));
        assert_eq!(names()?, 1, "something was left behind");
        Engine::open(home.path(), options(CreatePool::Here))?.close()?;
        Engine::open(home.path(), options(CreatePool::IfEmpty))?.close()?;
        Engine::open(home.path(), options(CreatePool::Never))?.close()?;
        assert_eq!(fs::read(home.path().join("notes.txt"))?, b"mine");
        Ok(())
    }

    #[test]
    fn what_is_not_there_is_not_made_when_it_must_not_be() -> Outcome {
        let home = Home::disk()?;
        let path = home.path().join("pool");
        let opened = Engine::open(&path, options(CreatePool::Never));
        let Err(Error::NoPool { location }) = opened else { panic!("{opened:?}") };
        assert_eq!(location, path.display().to_string());
        assert!(!path.exists());
        Engine::open(&path, options(CreatePool::IfEmpty))?.close()?;
        Engine::open(&path, options(CreatePool::Never))?.close()?;
        Ok(())
    }

    #[test]
    fn a_path_that_is_a_file_is_left_as_it_is() -> Outcome {
        let home = Home::disk()?;
        let path = home.path().join("file");
        fs::write(&path, "mine")?;
        for create in [CreatePool::IfEmpty, CreatePool::Here, CreatePool::Never] {
            let opened = Engine::open(&path, options(create));
            assert!(opened.is_err(), "{opened:?}");
        }
        assert_eq!(fs::read(&path)?, b"mine");
        Ok(())
    }

    #[test]
    fn a_catalogue_of_a_newer_version_is_left_as_it_is() -> Outcome {
        let home = Home::disk()?;
        closed_pool(&home)?;
        let file = home.path().join("snapgroup.redb");
        {
            let database = redb::Database::open(&file)?;
            let transaction = database.begin_write()?;
            let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
            transaction.open_table(meta)?.insert("format", &7u64.to_be_bytes()[..])?;
            transaction.commit()?;
        }
        let before = fs::read(&file)?;
        let opened = Engine::open(home.path(), Options::default());
        let Err(error @ Error::NewerVersion { found: 7, supported: 1 }) = opened else {
            panic!("{opened:?}")
        };
        let text = "the catalogue has format 7, this version reads up to 1".to_owned();
        assert_eq!(told(&error), ("SYS.1006", Kind::Refused, text));
        assert!(fs::read(&file)? == before, "it was written to");
        Ok(())
    }

    #[test]
    fn a_head_that_is_written_elsewhere_is_refused_by_every_call_that_would_write_it() -> Outcome {
        let home = Home::disk()?;
        let engine = home.open()?;
        let vm = make_machine(&engine, 2)?;
        let path = engine.volume(vm.disks[1])?.install_path;
        let name = crate::support::file_of(&path);
        let qemu = File::options().read(true).write(true).open(&path)?;
        let lock = |kind: i32| -> Outcome {
            let range = libc::flock {
                l_type: i16::try_from(kind)?,
                l_whence: i16::try_from(libc::SEEK_SET)?,
                l_start: 101,
                l_len: 1,
                l_pid: 0,
            };
            fcntl(&qemu, FcntlArg::F_OFD_SETLK(&range))?;
            Ok(())
        };
        for with_handle in [false, true] {
            let handle = if with_handle { Some(engine.open_volume(vm.disks[1])?) } else { None };
            lock(libc::F_RDLCK)?;
            let mut calls = vec![
                case("group", || engine.create_group(&vm.group("g"))),
                case("snapshot", || engine.create_snapshot(&snapshot_of(vm.disks[1]))),
            ];
            if !with_handle {
                calls.push(case("open", || engine.open_volume(vm.disks[1])));
                calls
                    .push(case("resize", || engine.resize_volume(vm.disks[1], snapgroup::ByteCount::mib(4))));
            }
            for (what, call) in calls {
                let error = home.refusal(&engine, call)?;
                // Who it is cannot be asserted: a program that another test starts has the file open, too, until it
                // runs.
                let Error::HeadInUse { volume, blob, .. } = &error else { panic!("{what}: {error:?}") };
                assert_eq!((*volume, blob), (vm.disks[1], &name));
                assert_eq!((error.code().as_str(), error.kind()), ("SYS.1006", Kind::Refused));
            }
            lock(libc::F_UNLCK)?;
            drop(handle);
        }
        fill(&engine.open_volume(vm.disks[1])?, 0, 512, 1)?;
        take(&engine, &vm, "g")?;
        Ok(())
    }
}

/// The names of the calls, so that a slow compiler says which one it was.
#[test]
fn an_error_has_the_shape_of_the_platform_with_its_cause() -> Outcome {
    let home = Home::memory();
    let engine: Engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    home.patch(&head_of(&engine, vm.root())?, 0, b"x")?;
    let error = home.refusal(&engine, || engine.open_volume(vm.root()))?;
    let shown = serde_json::to_value(error.to_error_code())?;
    assert_eq!(shown["code"], "SYS.1006");
    assert_eq!(shown["description"], "the operation cannot be done now");
    assert_eq!(shown["details"], error.to_string());
    assert!(shown["cause"]["details"].as_str().is_some_and(|text| text.contains("layer-")), "{shown}");
    Ok(())
}
