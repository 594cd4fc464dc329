//! The two phases, by hand.

use crate::site::{Outcome, Place, Site, held_by};
use crate::vmm::{Vmm, file_of};
use snapgroup::{
    AdoptVolume, Consistency, CreateGroup, CreateSnapshot, CreateVolume, DeleteSnapshots, Error, HookError,
    Kind, LayerFormat, OpenPrepared, Options, Refusal, Running, Switch, UpdateGroup,
};
use std::collections::BTreeMap;

fn out(error: HookError) -> Box<dyn std::error::Error> {
    error
}

#[test]
fn a_group_holds_what_was_written_before_the_switch_and_nothing_after_it() -> Outcome {
    for place in Place::both()? {
        let mut site = Site::new(&place)?;
        let mut groups = Vec::new();
        for name in ["one", "two", "three"] {
            let before = site.vmm.write()?;
            let prepared = site.engine.prepare_group(&site.group(name))?;
            // Between the phases the process still writes to the heads.
            let last = site.vmm.write()?;
            assert_eq!(last, before + 1);
            site.vmm.switch(prepared.disks()).map_err(out)?;
            site.vmm.write()?;
            let uuid = prepared.uuid();
            let taken = prepared.commit(Consistency::Application)?.inventory;
            assert_eq!((taken.uuid, taken.consistency), (uuid, Some(Consistency::Application)));
            assert_eq!(taken.snapshot_count, 3);
            groups.push((uuid, last));
            site.assert_agreed()?;
        }
        for (group, last) in &groups {
            assert_eq!(site.held_by(*group)?, vec![*last; 3]);
        }
        let parents: Vec<_> = groups.iter().map(|(group, _)| *group).collect();
        assert_eq!(site.engine.group(parents[2])?.parent_group_uuid, Some(parents[1]));

        let now = site.vmm.read()?;
        site.vmm.flush()?;
        let Site { engine, machine, disks, vmm, .. } = site;
        drop(vmm);
        engine.set_running(machine, Running::Here)?;
        let found = engine.check()?;
        assert!(found.is_clean(), "{found:#?}");
        for (disk, now) in disks.iter().zip(now) {
            let mut bytes = [0; 8];
            engine.open_volume(*disk)?.read_at(0, &mut bytes)?;
            assert_eq!(u64::from_be_bytes(bytes), now);
        }
    }
    Ok(())
}

#[test]
fn what_is_prepared_tells_the_other_process_what_to_open() -> Outcome {
    for place in Place::both()? {
        let site = Site::new(&place)?;
        let heads = site.heads()?;
        let request = CreateGroup { except: vec![site.disks[1].into()], ..site.group("g") };
        let prepared = site.engine.prepare_group(&request)?;
        let told: Vec<_> = prepared.disks().iter().map(|disk| (disk.volume_uuid, disk.device_id)).collect();
        assert_eq!(told, [(site.disks[0], 0), (site.disks[2], 2)]);
        let left_out: Vec<_> = prepared.left_out().iter().map(|volume| volume.volume_uuid).collect();
        assert_eq!(left_out, [site.disks[1]]);
        let pending = site.engine.prepared_groups()?;
        assert_eq!(pending.len(), 1);
        assert_eq!((pending[0].uuid, pending[0].name.as_str()), (prepared.uuid(), "g"));
        let picture = place.picture()?;
        for (disk, head) in prepared.disks().iter().zip([&heads[0], &heads[2]]) {
            assert_eq!(disk.chain.len(), 2);
            assert_eq!(file_of(&disk.chain[1].path), head);
            assert_eq!(
                (&disk.overlay.filename, disk.overlay.driver),
                (&disk.chain[0].path, LayerFormat::Qcow2)
            );
            assert_eq!(disk.overlay.backing, None);
            assert!(pending[0].overlays.contains(&disk.chain[0].path));
            assert!(picture.contains_key(file_of(&disk.chain[0].path)));
            if let Place::Disk(directory) = &place {
                assert!(std::path::Path::new(&disk.chain[0].path).is_absolute());
                assert!(std::path::Path::new(&disk.chain[0].path).starts_with(directory.path()));
            }
        }
        site.assert_books_hold()?;
    }
    Ok(())
}

#[test]
fn an_aborted_group_and_a_dropped_one_leave_nothing_behind() -> Outcome {
    for place in Place::both()? {
        let mut site = Site::new(&place)?;
        site.vmm.write()?;
        site.vmm.flush()?;
        let before = place.picture()?;
        site.engine.prepare_group(&site.group("aborted"))?.abort()?;
        assert!(place.picture()? == before, "an aborted group has left or changed a file");
        drop(site.engine.prepare_group(&site.group("dropped"))?);
        assert!(place.picture()? == before, "a dropped group has left or changed a file");
        assert_eq!(site.engine.prepared_groups()?, []);
        assert!(site.engine.group_tree(site.machine)?.is_empty());
        site.assert_agreed()?;
    }
    Ok(())
}

#[test]
fn while_a_group_is_prepared_its_disks_are_read_and_nothing_else() -> Outcome {
    for place in Place::both()? {
        let mut site = Site::new(&place)?;
        let last = site.vmm.write()?;
        let first = site.engine.prepare_group(&site.group("first"))?;
        site.vmm.switch(first.disks()).map_err(out)?;
        let first = first.commit(Consistency::Crash)?.inventory;
        let loose =
            site.engine.create_volume(&CreateVolume::new("loose", snapgroup::ByteCount::mib(1)))?.uuid;

        let prepared = site.engine.prepare_group(&site.group("second"))?;
        let (engine, machine, group) = (&site.engine, site.machine, prepared.uuid());
        let being = |error: &Error| matches!(error, Error::Refused(Refusal::BeingPrepared { machine: of, group: by }) if (*of, *by) == (machine, group));
        let again = CreateGroup { resource_uuid: Some(group.into()), ..site.group("second") };
        let generation = engine.generation();
        let calls: Vec<(&str, Result<(), Error>)> = vec![
            ("prepare", engine.prepare_group(&site.group("third")).map(drop)),
            ("prepare it again", engine.prepare_group(&again).map(drop)),
            ("resume", engine.resume_group(group).map(drop)),
            ("set running", engine.set_running(machine, Running::Here).map(drop)),
            ("attach", engine.attach_volume(loose, machine, None).map(drop)),
        ];
        for (what, answer) in calls {
            let Err(error) = answer else { panic!("{what} was done") };
            assert!(being(&error), "{what}: {error}");
            assert_eq!(error.kind(), Kind::Refused);
        }
        let elsewhere: Vec<(&str, Result<(), Error>)> = vec![
            ("group", engine.create_group(&site.group("here")).map(drop)),
            ("snapshot", engine.create_snapshot(&CreateSnapshot::new(site.disks[0], "s")).map(drop)),
            ("open", engine.open_volume(site.disks[0]).map(drop)),
            ("delete machine", engine.delete_machine(machine)),
        ];
        for (what, answer) in elsewhere {
            let Err(Error::Refused(Refusal::RunsElsewhere { .. })) = answer else {
                panic!("{what}: {answer:?}")
            };
        }
        let member = first.volume_snapshot_refs[0].volume_snapshot_uuid;
        let deleted = engine.delete_snapshots(&DeleteSnapshots::one(member))?;
        assert!(!deleted.is_success());
        let error =
            deleted.results[0].error.as_ref().and_then(|error| error.cause.as_ref()).expect("a cause");
        assert!(error.details.as_ref().is_some_and(|text| text.contains("is being prepared")), "{error:?}");
        let overlay = file_of(&prepared.disks()[0].chain[0].path).to_owned();
        let adopted = engine.adopt_volume(&AdoptVolume::new(overlay, LayerFormat::Qcow2, "stolen"));
        let Err(Error::NotAdoptable { .. }) = adopted else { panic!("{adopted:?}") };
        assert_eq!(engine.generation(), generation, "something was changed");
        assert!(engine.repair(&snapgroup::RepairOptions::default())?.is_whole());

        assert_eq!(site.held_by(first.uuid)?, vec![last; 3]);
        engine.update_group(first.uuid, &UpdateGroup { name: Some("renamed".into()), description: None })?;
        site.vmm.switch(prepared.disks()).map_err(out)?;
        prepared.commit(Consistency::Crash)?;
        assert!(site.engine.delete_snapshots(&DeleteSnapshots::one(member))?.is_success());
        site.assert_agreed()?;
    }
    Ok(())
}

#[test]
fn a_crash_aborts_a_group_unless_it_is_said_that_the_disks_were_switched() -> Outcome {
    for place in Place::both()? {
        let mut site = Site::new(&place)?;
        site.vmm.write()?;
        let before = place.picture()?;
        let prepared = site.engine.prepare_group(&site.group("aborted"))?;
        let overlays: Vec<String> =
            prepared.disks().iter().map(|disk| file_of(&disk.chain[0].path).to_owned()).collect();
        prepared.leave();
        let Site { engine, machine, mut vmm, .. } = site;
        engine.close()?;

        let engine = place.open(OpenPrepared::Abort)?;
        let mut removed = engine.recovered().removed.clone();
        removed.sort();
        let mut sorted = overlays.clone();
        sorted.sort();
        assert_eq!((removed, engine.recovered().prepared.len()), (sorted, 0));
        assert_eq!(engine.prepared_groups()?, []);
        assert!(place.picture()? == before);

        let prepared = engine.prepare_group(&CreateGroup::of_machine(machine, "kept"))?;
        let (uuid, disks) = (prepared.uuid(), prepared.disks().to_vec());
        prepared.leave();
        engine.close()?;
        // The other process outlives this one, and has switched.
        let last = vmm.write()?;
        vmm.switch(&disks).map_err(out)?;

        let engine = place.open(OpenPrepared::Keep)?;
        assert_eq!(
            (&engine.recovered().prepared[..], &engine.recovered().removed[..]),
            (&[uuid][..], &[][..])
        );
        let resumed = engine.resume_group(uuid)?;
        assert_eq!(resumed.disks(), disks);
        assert_eq!(resumed.commit(Consistency::Crash)?.inventory.uuid, uuid);
        assert_eq!(held_by(&engine, uuid)?, vec![last; 3]);
        let heads: Vec<_> = disks.iter().map(|disk| file_of(&disk.chain[0].path).to_owned()).collect();
        assert_eq!(vmm.heads(), heads);
        assert_eq!(engine.verify_catalogue()?, Vec::<String>::new());
        assert_eq!(engine.prepared_groups()?, []);
    }
    Ok(())
}

#[test]
fn an_overlay_that_was_written_to_outlives_every_abort_that_does_not_say_otherwise() -> Outcome {
    for place in Place::both()? {
        let mut site = Site::new(&place)?;
        site.vmm.write()?;
        let prepared = site.engine.prepare_group(&site.group("g"))?;
        let uuid = prepared.uuid();
        site.vmm.switch(prepared.disks()).map_err(out)?;
        let written = site.vmm.write()?;
        site.vmm.flush()?;
        drop(prepared);
        assert_eq!(site.engine.prepared_groups()?.len(), 1, "it was dropped, and an overlay is written to");
        let before = place.picture()?;

        let Site { engine, machine, vmm, .. } = site;
        let on_disk = matches!(place, Place::Disk(_));
        let refused = engine.resume_group(uuid)?.abort();
        match refused {
            Err(Error::HeadInUse { .. }) if on_disk => {}
            Err(Error::Refused(Refusal::OverlayWritten { group, .. })) if !on_disk => assert_eq!(group, uuid),
            other => panic!("{other:?}"),
        }
        drop(vmm);
        let Err(Error::Refused(Refusal::OverlayWritten { .. })) = engine.resume_group(uuid)?.abort() else {
            panic!("what a guest wrote was thrown away");
        };
        engine.close()?;
        // Not even the opening that aborts takes it away.
        let engine = place.open(OpenPrepared::Abort)?;
        assert_eq!((&engine.recovered().prepared[..], engine.recovered().removed.len()), (&[uuid][..], 0));
        assert!(place.picture()? == before);
        engine.resume_group(uuid)?.commit(Consistency::Crash)?;
        let vmm = Vmm::start(&engine, place.store()?, machine)?;
        assert_eq!(vmm.read()?, vec![written; 3]);
        assert_eq!(held_by(&engine, uuid)?, vec![written - 1; 3]);
    }
    Ok(())
}

#[test]
fn what_a_guest_wrote_is_thrown_away_when_that_is_said() -> Outcome {
    for place in Place::both()? {
        let mut site = Site::new(&place)?;
        let kept = site.vmm.write()?;
        site.vmm.flush()?;
        let before = place.picture()?;
        let prepared = site.engine.prepare_group(&site.group("g"))?;
        let uuid = prepared.uuid();
        site.vmm.switch(prepared.disks()).map_err(out)?;
        site.vmm.write()?;
        let Site { engine, machine, vmm, .. } = site;
        if let Place::Disk(_) = place {
            let Err(Error::HeadInUse { .. }) = prepared.abort_and_discard() else {
                panic!("an overlay was removed under the process that has it open");
            };
        } else {
            prepared.leave();
        }
        drop(vmm);
        engine.resume_group(uuid)?.abort_and_discard()?;
        assert!(place.picture()?.keys().eq(before.keys()));
        assert_eq!(engine.prepared_groups()?, []);
        let vmm = Vmm::start(&engine, place.store()?, machine)?;
        assert_eq!(vmm.read()?, vec![kept; 3]);
    }
    Ok(())
}

#[test]
fn a_commit_that_fails_keeps_the_overlays_and_can_be_made_again() -> Outcome {
    let [place, _] = Place::both()?;
    let mut site = Site::new(&place)?;
    site.vmm.write()?;
    let prepared = site.engine.prepare_group(&site.group("g"))?;
    let (uuid, overlay) = (prepared.uuid(), file_of(&prepared.disks()[1].chain[0].path).to_owned());
    site.vmm.switch(prepared.disks()).map_err(out)?;
    let store = place.store()?;
    let name = snapgroup::storage::BlobName::parse(&overlay)?;
    let bytes: BTreeMap<String, Vec<u8>> = place.picture()?;
    store.remove(&name)?;
    let Err(Error::LayerMissing { blob, .. }) = prepared.commit(Consistency::Crash) else {
        panic!("a group was published without an overlay");
    };
    assert_eq!(blob, overlay);
    assert!(site.engine.group_tree(site.machine)?.is_empty());

    // Another file in its place is none either.
    let blob = store.create(&name)?;
    let other = bytes.iter().find(|(name, _)| **name != overlay).expect("other files");
    blob.write_at(snapgroup::units::HostOffset::ZERO, other.1)?;
    let Err(Error::LayerDisagrees { .. }) = site.engine.resume_group(uuid)?.commit(Consistency::Crash) else {
        panic!("a group was published with another file");
    };
    store.remove(&name)?;
    store.create(&name)?.write_at(snapgroup::units::HostOffset::ZERO, &bytes[&overlay])?;
    site.engine.resume_group(uuid)?.commit(Consistency::Crash)?;
    assert_eq!(site.engine.verify_catalogue()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn only_a_machine_that_runs_elsewhere_is_prepared_and_never_in_full() -> Outcome {
    let [place, _] = Place::both()?;
    let site = Site::new(&place)?;
    let full = site.engine.prepare_group(&site.group("copied").in_full());
    // A disk with nothing below its head is not copied.
    full?.abort()?;
    let Site { engine, machine, mut vmm, .. } = site;
    let prepared = engine.prepare_group(&CreateGroup::of_machine(machine, "first"))?;
    vmm.switch(prepared.disks()).map_err(out)?;
    let request = CreateGroup {
        resource_uuid: Some(prepared.uuid().into()),
        ..CreateGroup::of_machine(machine, "first")
    };
    let uuid = prepared.commit(Consistency::Crash)?.inventory.uuid;
    let full = engine.prepare_group(&CreateGroup::of_machine(machine, "copied").in_full());
    let Err(Error::Refused(Refusal::RunsElsewhere { .. })) = full else { panic!("{full:?}") };
    let there = engine.prepare_group(&request);
    let Err(Error::Refused(Refusal::GroupThere { uuid: found })) = there else { panic!("{there:?}") };
    assert_eq!(found, uuid);
    let other = engine.prepare_group(&CreateGroup { name: "other".into(), ..request });
    let Err(Error::Refused(Refusal::OtherWish { .. })) = other else { panic!("{other:?}") };

    drop(vmm);
    engine.set_running(machine, Running::Here)?;
    let here = engine.prepare_group(&CreateGroup::of_machine(machine, "here"));
    let Err(Error::Refused(Refusal::RunsHere { .. })) = here else { panic!("{here:?}") };
    Ok(())
}

#[test]
fn a_chain_that_is_full_is_not_made_longer_under_a_running_machine() -> Outcome {
    let [place, _] = Place::both()?;
    let site = Site::new(&place)?;
    let Site { engine, machine, mut vmm, .. } = site;
    engine.close()?;
    let options = Options { chain_max: 2, ..Options::default() };
    let engine = snapgroup::Engine::open_on(place.store()?, options)?;
    let prepared = engine.prepare_group(&CreateGroup::of_machine(machine, "fits"))?;
    vmm.switch(prepared.disks()).map_err(out)?;
    prepared.commit(Consistency::Crash)?;
    let before = place.picture()?;
    let full = engine.prepare_group(&CreateGroup::of_machine(machine, "does not fit"));
    let Err(Error::Refused(Refusal::ChainTooLong { length: 3, cap: 2, .. })) = full else {
        panic!("{full:?}")
    };
    assert!(place.picture()? == before);
    Ok(())
}
