//! Volumes: made, attached, resized, opened.

use crate::support::{
    Dice, Home, Outcome, SIZE, assert_sound, fill, head_of, machine, make_machine, on_every_store, read,
    read_snapshot, read_volume, take, told, volume,
};
use snapgroup::{
    AdoptVolume, ByteCount, Code, CreateSnapshot, CreateVolume, Error, Kind, LayerFormat, Refusal, Sharing,
    Uuid, Volume, VolumeKind,
};

on_every_store! {
    a_volume_of_every_cluster_size_reads_zeros_and_keeps_what_is_written
    a_cluster_size_that_no_image_has_is_refused_before_a_file_is_there
    a_size_that_no_disk_has_is_refused_before_a_file_is_there
    a_volume_without_a_byte_can_be_made_and_grown
    a_shareable_root_and_a_shareable_memory_are_refused
    what_no_volume_can_be_is_refused_of_a_clone_and_of_an_adopted_file_as_well
    attaching_and_detaching_change_the_date_of_a_volume
    a_repeat_answers_the_volume_that_is_there
    a_device_id_is_the_lowest_free_one_unless_it_is_given
    a_device_id_that_is_taken_or_absurd_is_refused
    a_machine_has_one_root
    an_exclusive_volume_is_attached_once
    a_shareable_volume_is_attached_to_many_machines_once_each
    detaching_what_is_not_attached_is_refused
    a_larger_disk_keeps_its_content_and_reads_zeros_past_it
    snapshots_keep_their_size_when_a_disk_grows
    what_was_hidden_by_a_short_layer_stays_hidden_when_the_disk_grows
    a_disk_is_not_made_smaller
    an_absurd_new_size_is_an_invalid_argument
    resizing_under_open_handles_is_seen_by_all_of_them
    many_handles_are_one_disk
    the_last_handle_flushes
    a_request_past_the_end_is_refused_and_changes_nothing
}

fn a_volume_of_every_cluster_size_reads_zeros_and_keeps_what_is_written(home: &Home) -> Outcome {
    let engine = home.open()?;
    let mut made = Vec::new();
    for bits in 9..=21 {
        let wish = CreateVolume { cluster_bits: Some(bits), ..volume("v", VolumeKind::Data) };
        let disk = engine.create_volume(&wish)?;
        assert_eq!((disk.size, disk.vm_instance_uuid, disk.device_id), (SIZE, None, None));
        let handle = engine.open_volume(disk.uuid)?;
        assert!(read(&handle, 0, SIZE.as_usize())?.iter().all(|byte| *byte == 0));
        fill(&handle, 1000, 70_000, bits)?;
        made.push((disk.uuid, bits));
    }
    engine.close()?;
    let engine = home.open()?;
    for (disk, bits) in made {
        let content = read_volume(&engine, disk)?;
        assert!(content[1000..71_000].iter().all(|byte| *byte == bits));
        assert!(content[..1000].iter().chain(&content[71_000..]).all(|byte| *byte == 0));
    }
    assert_sound(&engine)
}

fn a_cluster_size_that_no_image_has_is_refused_before_a_file_is_there(home: &Home) -> Outcome {
    let engine = home.open()?;
    for bits in [0, 1, 8, 22, 31, 32, 63, 64, 255] {
        let wish = CreateVolume { cluster_bits: Some(bits), ..volume("v", VolumeKind::Data) };
        let error = home.refusal(&engine, || engine.create_volume(&wish))?;
        let Error::Refused(Refusal::ImpossibleImage { cluster_bits, .. }) = &error else {
            panic!("{error:?}")
        };
        assert_eq!((*cluster_bits, error.code(), error.kind()), (bits, Code::InvalidArgument, Kind::Refused));
    }
    Ok(())
}

fn a_size_that_no_disk_has_is_refused_before_a_file_is_there(home: &Home) -> Outcome {
    let engine = home.open()?;
    let sized = |size, bits| CreateVolume { size, cluster_bits: Some(bits), ..volume("v", VolumeKind::Data) };
    for size in [1, 511, 513, u64::MAX] {
        let wish = sized(Some(ByteCount::new(size)), 16);
        let error = home.refusal(&engine, || engine.create_volume(&wish))?;
        let Error::Refused(Refusal::BadValue { .. }) = &error else { panic!("{error:?}") };
        assert_eq!(error.code().as_str(), "SYS.1007");
    }
    for (size, bits) in [(1 << 62, 16), (u64::MAX - 511, 21), (1 << 40, 9)] {
        let wish = sized(Some(ByteCount::new(size)), bits);
        let error = home.refusal(&engine, || engine.create_volume(&wish))?;
        let Error::Refused(Refusal::ImpossibleImage { .. }) = &error else { panic!("{error:?}") };
        assert_eq!(error.code().as_str(), "SYS.1007");
    }
    let error = home.refusal(&engine, || engine.create_volume(&sized(None, 16)))?;
    assert_eq!(
        told(&error),
        ("SYS.1007", Kind::Refused, "a volume that is above no other file needs a size".to_owned())
    );
    let huge = engine.create_volume(&sized(Some(ByteCount::tib(64)), 21))?;
    let handle = engine.open_volume(huge.uuid)?;
    fill(&handle, ByteCount::tib(64).as_u64() - 512, 512, 3)?;
    assert_eq!(read(&handle, ByteCount::tib(64).as_u64() - 512, 512)?, [3; 512]);
    Ok(())
}

fn a_volume_without_a_byte_can_be_made_and_grown(home: &Home) -> Outcome {
    let engine = home.open()?;
    let wish = CreateVolume { size: Some(ByteCount::ZERO), ..volume("v", VolumeKind::Data) };
    let disk = engine.create_volume(&wish)?.uuid;
    assert!(read_volume(&engine, disk)?.is_empty());
    engine.create_snapshot(&CreateSnapshot {
        volume_uuid: Some(disk.into()),
        name: "s".into(),
        ..CreateSnapshot::default()
    })?;
    engine.resize_volume(disk, ByteCount::new(512))?;
    fill(&engine.open_volume(disk)?, 0, 512, 1)?;
    assert_eq!(read_volume(&engine, disk)?, [1; 512]);
    assert_sound(&engine)
}

fn a_shareable_root_and_a_shareable_memory_are_refused(home: &Home) -> Outcome {
    let engine = home.open()?;
    let wish = CreateVolume { sharing: Sharing::Shareable, ..volume("v", VolumeKind::Root) };
    let error = home.refusal(&engine, || engine.create_volume(&wish))?;
    assert_eq!(told(&error), ("SYS.1007", Kind::Refused, "a root volume cannot be shareable".to_owned()));
    let wish = CreateVolume { sharing: Sharing::Shareable, ..volume("v", VolumeKind::Memory) };
    let error = home.refusal(&engine, || engine.create_volume(&wish))?;
    assert_eq!(told(&error), ("SYS.1007", Kind::Refused, "a memory volume cannot be shareable".to_owned()));
    Ok(())
}

fn what_no_volume_can_be_is_refused_of_a_clone_and_of_an_adopted_file_as_well(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let snapshot = engine.create_snapshot(&CreateSnapshot::new(vm.root(), "s"))?.uuid;
    let wish = CreateVolume {
        sharing: Sharing::Shareable,
        size: None,
        snapshot: Some(snapshot.into()),
        ..volume("clone", VolumeKind::Root)
    };
    let error = home.refusal(&engine, || engine.create_volume(&wish))?;
    assert_eq!(told(&error), ("SYS.1007", Kind::Refused, "a root volume cannot be shareable".to_owned()));
    home.put("disk.raw", &[7; 512])?;
    let wish = AdoptVolume { chain_max: Some(0), ..AdoptVolume::new("disk.raw", LayerFormat::Raw, "disk") };
    let error = home.refusal(&engine, || engine.adopt_volume(&wish))?;
    assert!(matches!(error, Error::Refused(Refusal::BadValue { .. })), "{error}");
    Ok(())
}

fn attaching_and_detaching_change_the_date_of_a_volume(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = engine.create_machine(&crate::support::machine("vm"))?.uuid;
    let made = engine.create_volume(&volume("v", VolumeKind::Data))?;
    let attached = engine.attach_volume(made.uuid, vm, None)?;
    let detached = engine.detach_volume(made.uuid, vm)?;
    assert!(made.last_op_date < attached.last_op_date && attached.last_op_date < detached.last_op_date);
    assert_eq!(engine.volume(made.uuid)?, detached);
    Ok(())
}

fn a_repeat_answers_the_volume_that_is_there(home: &Home) -> Outcome {
    let engine = home.open()?;
    let wish =
        CreateVolume { resource_uuid: Some(Uuid::from_u128(4).into()), ..volume("v", VolumeKind::Data) };
    let disk = engine.create_volume(&wish)?;
    let before = (home.picture()?, engine.generation());
    assert_eq!(engine.create_volume(&wish)?, disk);
    assert!(before == (home.picture()?, engine.generation()));
    for other in [
        CreateVolume { name: "w".into(), ..wish.clone() },
        CreateVolume { description: Some("d".into()), ..wish.clone() },
        CreateVolume { kind: VolumeKind::Root, ..wish.clone() },
        CreateVolume { sharing: Sharing::Shareable, ..wish.clone() },
        CreateVolume { size: Some(ByteCount::mib(2)), ..wish.clone() },
    ] {
        let error = home.refusal(&engine, || engine.create_volume(&other))?;
        let Error::Refused(Refusal::OtherWish { by: "volume", .. }) = error else { panic!("{error:?}") };
    }
    drop(engine);
    assert_eq!(home.open()?.create_volume(&wish)?, disk);
    Ok(())
}

fn a_device_id_is_the_lowest_free_one_unless_it_is_given(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 4)?;
    let ids = |engine: &snapgroup::Engine| -> Result<Vec<_>, Error> {
        Ok(engine.machine(vm.uuid)?.all_volumes.into_iter().map(|disk| (disk.device_id, disk.uuid)).collect())
    };
    let all: Vec<_> = (0..).map(Some).zip(vm.disks.iter().copied()).collect();
    assert_eq!(ids(&engine)?, all);
    engine.detach_volume(vm.disks[2], vm.uuid)?;
    engine.detach_volume(vm.disks[1], vm.uuid)?;
    assert_eq!(engine.volume(vm.disks[1])?.device_id, None);
    assert_eq!(engine.attach_volume(vm.disks[2], vm.uuid, None)?.device_id, Some(1));
    assert_eq!(engine.attach_volume(vm.disks[1], vm.uuid, Some(65_535))?.device_id, Some(65_535));
    let expected: Vec<_> = [Some(0), Some(1), Some(3), Some(65_535)]
        .into_iter()
        .zip([vm.disks[0], vm.disks[2], vm.disks[3], vm.disks[1]])
        .collect();
    assert_eq!(ids(&engine)?, expected);
    drop(engine);
    let engine = home.open()?;
    assert_eq!(ids(&engine)?, expected);
    assert_sound(&engine)
}

fn a_device_id_that_is_taken_or_absurd_is_refused(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let loose = engine.create_volume(&volume("v", VolumeKind::Data))?.uuid;
    let error = home.refusal(&engine, || engine.attach_volume(loose, vm.uuid, Some(1)))?;
    let text =
        format!("device id 1 of machine {} is taken by volume {}", vm.uuid.simple(), vm.disks[1].simple());
    assert_eq!(told(&error), ("SYS.1006", Kind::Refused, text));
    for id in [65_536, u32::MAX] {
        let error = home.refusal(&engine, || engine.attach_volume(loose, vm.uuid, Some(id)))?;
        let text = format!("device id {id} is not a valid value: below 65536");
        assert_eq!(told(&error), ("SYS.1007", Kind::Refused, text));
    }
    Ok(())
}

fn a_machine_has_one_root(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let second = engine.create_volume(&volume("second", VolumeKind::Root))?.uuid;
    let error = home.refusal(&engine, || engine.attach_volume(second, vm.uuid, None))?;
    let text = format!("machine {} has a root volume already: {}", vm.uuid.simple(), vm.root().simple());
    assert_eq!(told(&error), ("SYS.1006", Kind::Refused, text));
    engine.detach_volume(vm.root(), vm.uuid)?;
    engine.attach_volume(second, vm.uuid, None)?;
    assert_eq!(engine.machine(vm.uuid)?.root_volume_uuid, Some(second));
    Ok(())
}

fn an_exclusive_volume_is_attached_once(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    let other = engine.create_machine(&machine("other"))?.uuid;
    for target in [vm.uuid, other] {
        let error = home.refusal(&engine, || engine.attach_volume(vm.disks[1], target, None))?;
        let text =
            format!("volume {} is attached to machine {} already", vm.disks[1].simple(), vm.uuid.simple());
        assert_eq!(told(&error), ("SYS.1006", Kind::Refused, text));
    }
    Ok(())
}

fn a_shareable_volume_is_attached_to_many_machines_once_each(home: &Home) -> Outcome {
    let engine = home.open()?;
    let machines =
        ["a", "b", "c"].map(|name| engine.create_machine(&machine(name)).map(|machine| machine.uuid));
    let [a, b, c] = machines;
    let (a, b, c) = (a?, b?, c?);
    let wish = CreateVolume { sharing: Sharing::Shareable, ..volume("quorum", VolumeKind::Data) };
    let shared = engine.create_volume(&wish)?;
    assert!(shared.is_shareable);
    let shared = shared.uuid;
    engine.attach_volume(shared, a, Some(5))?;
    let attached = engine.attach_volume(shared, b, None)?;
    let places: Vec<_> =
        attached.attachments.iter().map(|place| (place.vm_instance_uuid, place.device_id)).collect();
    assert_eq!(places, [(a, 5), (b, 0)]);
    let error = home.refusal(&engine, || engine.attach_volume(shared, b, None))?;
    let text = format!("volume {} is attached to machine {} already", shared.simple(), b.simple());
    assert_eq!(told(&error), ("SYS.1006", Kind::Refused, text));
    engine.attach_volume(shared, c, None)?;
    engine.detach_volume(shared, a)?;
    assert_eq!(engine.volume(shared)?.vm_instance_uuid, Some(b));
    assert_eq!(engine.machine(c)?.all_volumes.len(), 1);
    assert_sound(&engine)
}

fn detaching_what_is_not_attached_is_refused(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let other = make_machine(&engine, 1)?;
    let error = home.refusal(&engine, || engine.detach_volume(vm.root(), other.uuid))?;
    let text = format!("volume {} is not attached to machine {}", vm.root().simple(), other.uuid.simple());
    assert_eq!(told(&error), ("SYS.1007", Kind::Refused, text));
    Ok(())
}

fn a_larger_disk_keeps_its_content_and_reads_zeros_past_it(home: &Home) -> Outcome {
    let engine = home.open()?;
    for bits in [9, 12, 16, 21] {
        let odd = ByteCount::new(100_352);
        let wish =
            CreateVolume { size: Some(odd), cluster_bits: Some(bits), ..volume("v", VolumeKind::Data) };
        let disk = engine.create_volume(&wish)?.uuid;
        fill(&engine.open_volume(disk)?, 0, odd.as_usize(), 7)?;
        let mut size = odd;
        for step in [512, 4096, 300_032, 40_000_512] {
            size += ByteCount::new(step);
            assert_eq!(engine.resize_volume(disk, size)?.size, size);
            let handle = engine.open_volume(disk)?;
            assert_eq!(handle.size(), size);
            assert!(read(&handle, 0, odd.as_usize())?.iter().all(|byte| *byte == 7));
            let past = (size - odd).as_usize();
            assert!(read(&handle, odd.as_u64(), past)?.iter().all(|byte| *byte == 0));
        }
        // The same size again is no change, but no error either.
        assert_eq!(engine.resize_volume(disk, size)?.size, size);
    }
    assert_sound(&engine)
}

fn snapshots_keep_their_size_when_a_disk_grows(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    fill(&engine.open_volume(vm.root())?, 0, SIZE.as_usize(), 1)?;
    let small = take(&engine, &vm, "small")?.volume_snapshot_refs[0].volume_snapshot_uuid;
    engine.resize_volume(vm.root(), ByteCount::mib(3))?;
    fill(&engine.open_volume(vm.root())?, SIZE.as_u64(), SIZE.as_usize(), 2)?;
    let large = take(&engine, &vm, "large")?.volume_snapshot_refs[0].volume_snapshot_uuid;
    assert_eq!(engine.snapshot(small)?.virtual_size, Some(SIZE));
    assert_eq!(engine.snapshot(large)?.virtual_size, Some(ByteCount::mib(3)));
    assert!(read_snapshot(&engine, small)? == vec![1; SIZE.as_usize()]);
    let content = read_snapshot(&engine, large)?;
    let mebibyte = SIZE.as_usize();
    assert!(content[..mebibyte].iter().all(|byte| *byte == 1));
    assert!(content[mebibyte..2 * mebibyte].iter().all(|byte| *byte == 2));
    assert!(content[2 * mebibyte..].iter().all(|byte| *byte == 0));
    assert_sound(&engine)
}

fn what_was_hidden_by_a_short_layer_stays_hidden_when_the_disk_grows(home: &Home) -> Outcome {
    // A base full of data, an overlay that shows the first part of it, and growth in steps, with snapshots between.
    home.put("base.raw", &[9; 400_384])?;
    let engine = home.open()?;
    let base = Some(snapgroup::BaseImage { file: "base.raw".into(), format: snapgroup::LayerFormat::Raw });
    for bits in [9, 12, 16] {
        let start = ByteCount::new(50_176);
        let wish = CreateVolume {
            size: Some(start),
            cluster_bits: Some(bits),
            base: base.clone(),
            ..volume("v", VolumeKind::Data)
        };
        let disk = engine.create_volume(&wish)?.uuid;
        let mut size = start;
        for step in [512, 30_208, 200_192, 300_032] {
            engine.create_snapshot(&CreateSnapshot {
                volume_uuid: Some(disk.into()),
                name: "s".into(),
                ..CreateSnapshot::default()
            })?;
            size += ByteCount::new(step);
            engine.resize_volume(disk, size)?;
            let content = read_volume(&engine, disk)?;
            assert!(content[..50_176].iter().all(|byte| *byte == 9));
            assert!(content[50_176..].iter().all(|byte| *byte == 0), "bits {bits}, size {size}");
        }
    }
    assert_sound(&engine)
}

fn a_disk_is_not_made_smaller(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let smaller = SIZE - ByteCount::new(512);
    let error = home.refusal(&engine, || engine.resize_volume(vm.root(), smaller))?;
    let Error::Refused(Refusal::Shrink { size, wanted, .. }) = &error else { panic!("{error:?}") };
    assert_eq!((*size, *wanted, error.code().as_str()), (SIZE, smaller, "SYS.1007"));
    let error = home.refusal(&engine, || engine.resize_volume(vm.root(), SIZE + ByteCount::new(1)))?;
    let Error::Refused(Refusal::BadValue { .. }) = error else { panic!("{error:?}") };
    Ok(())
}

fn an_absurd_new_size_is_an_invalid_argument(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    for with_handle in [false, true] {
        let handle = if with_handle { Some(engine.open_volume(vm.root())?) } else { None };
        for size in [u64::MAX - 511, 1 << 62, 1 << 50] {
            let error = home.refusal(&engine, || engine.resize_volume(vm.root(), ByteCount::new(size)))?;
            assert_eq!((error.code().as_str(), error.kind()), ("SYS.1007", Kind::Refused), "{error:?}");
        }
        drop(handle);
    }
    Ok(())
}

fn resizing_under_open_handles_is_seen_by_all_of_them(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let handle = engine.open_volume(vm.root())?;
    let copy = handle.clone();
    fill(&handle, 0, 512, 1)?;
    engine.resize_volume(vm.root(), ByteCount::mib(2))?;
    assert_eq!((handle.size(), copy.size()), (ByteCount::mib(2), ByteCount::mib(2)));
    fill(&copy, SIZE.as_u64(), 512, 2)?;
    assert_eq!(read(&handle, SIZE.as_u64(), 512)?, [2; 512]);
    assert_eq!(read(&copy, 0, 512)?, [1; 512]);
    Ok(())
}

fn many_handles_are_one_disk(home: &Home) -> Outcome {
    const fn is_shared_between_threads<T: Send + Sync + Clone + 'static>() {}
    is_shared_between_threads::<Volume>();
    is_shared_between_threads::<snapgroup::Snapshot>();
    is_shared_between_threads::<snapgroup::Engine>();
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let handles = (0..8).map(|_| engine.open_volume(vm.root())).collect::<Result<Vec<_>, _>>()?;
    std::thread::scope(|scope| -> Outcome {
        let threads: Vec<_> = (0u8..)
            .zip(&handles)
            .map(|(number, handle)| {
                scope.spawn(move || {
                    let mut dice = Dice::new(u64::from(number));
                    for _ in 0..50 {
                        // Each in its own 512 bytes of every cluster.
                        let at = dice.roll(256) * 4096 + u64::from(number) * 512;
                        handle.write_at(at, &[number + 1; 512])?;
                        let mut back = [0; 512];
                        handle.read_at(at, &mut back)?;
                        assert_eq!(back, [number + 1; 512]);
                    }
                    Ok::<(), Error>(())
                })
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| "a thread has panicked")??;
        }
        Ok(())
    })?;
    let content = read(&handles[0], 0, SIZE.as_usize())?;
    for handle in &handles[1..] {
        assert!(read(handle, 0, SIZE.as_usize())? == content);
    }
    for (index, sector) in content.chunks(512).enumerate() {
        let number = u8::try_from(index % 8)? + 1;
        assert!(sector.iter().all(|byte| *byte == sector[0] && [0, number].contains(byte)));
    }
    drop(handles);
    assert_sound(&engine)
}

fn the_last_handle_flushes(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let handle = engine.open_volume(vm.root())?;
    let copy = handle.clone();
    fill(&handle, 0, 100_000, 4)?;
    let file = head_of(&engine, vm.root())?;
    drop(handle);
    fill(&copy, 100_000, 1000, 5)?;
    drop(copy);
    // Read by somebody else: the file alone tells.
    let file = home.bytes(&file)?;
    let other = Home::memory();
    other.put("copy.qcow2", &file)?;
    let other = other.open()?;
    let adopted = other.adopt_volume(&snapgroup::AdoptVolume {
        file: "copy.qcow2".into(),
        name: "copy".into(),
        ..snapgroup::AdoptVolume::default()
    })?;
    let content = read_volume(&other, adopted.uuid)?;
    assert!(content[..100_000].iter().all(|byte| *byte == 4));
    assert!(content[100_000..101_000].iter().all(|byte| *byte == 5));
    Ok(())
}

fn a_request_past_the_end_is_refused_and_changes_nothing(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let disk = engine.open_volume(vm.root())?;
    fill(&disk, 0, SIZE.as_usize(), 1)?;
    disk.flush()?;
    let end = SIZE.as_u64();
    for (at, length) in
        [(end, 1), (end - 1, 2), (u64::MAX, 1), (u64::MAX - 1, 100), (0, 2 * end), (1, u64::MAX)]
    {
        let calls = [
            disk.write_zeroes(at, length),
            disk.discard(at, length),
            disk.write_at(at, &vec![9; usize::try_from(length.min(3 * end))?]),
            disk.read_at(at, &mut vec![9; usize::try_from(length.min(3 * end))?]),
        ];
        for answer in calls {
            let Err(error) = answer else { panic!("{length} at {at} were taken") };
            assert_eq!((error.code().as_str(), error.kind()), ("SYS.1007", Kind::Refused), "{error:?}");
        }
    }
    disk.write_at(end, &[])?;
    assert!(read(&disk, 0, SIZE.as_usize())?.iter().all(|byte| *byte == 1));
    Ok(())
}
