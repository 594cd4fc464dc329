//! All phases in one call: every answer of the guest and of the process that runs it.

use crate::site::{Guest, Outcome, Place, Site};
use crate::vmm::{Comes, Sight};
use snapgroup::{
    Consistency, CreateGroup, Error, IfNotFrozen, Kind, LiveOptions, NoQuiesce, Switch, Uuid, WritesTo,
};
use std::panic::{AssertUnwindSafe, catch_unwind};

fn options() -> LiveOptions {
    LiveOptions::default()
}

#[test]
fn the_group_says_what_the_guest_is_known_to_have_done() -> Outcome {
    for place in Place::both()? {
        let mut site = Site::new(&place)?;
        for answer in [Consistency::Crash, Consistency::FileSystem, Consistency::Application] {
            let last = site.vmm.write()?;
            let mut guest = Guest::willing(answer);
            let request = site.group("g");
            let taken = site.engine.create_group_live(&request, &mut guest, &mut site.vmm, &options())?;
            let group = taken.created.inventory;
            assert!(
                taken.freeze_error.is_none() && taken.thaw_error.is_none() && taken.switch_error.is_none()
            );
            assert_eq!((guest.asked(), group.consistency), ((1, 1), Some(answer)));
            assert_eq!(site.engine.group(group.uuid)?.consistency, Some(answer), "it is in the books");
            assert_eq!(site.held_by(group.uuid)?, vec![last; 3]);
            site.assert_agreed()?;
        }
        let taken =
            site.engine.create_group_live(&site.group("n"), &mut NoQuiesce, &mut site.vmm, &options())?;
        assert_eq!(taken.created.inventory.consistency, Some(Consistency::Crash));

        // A guest that had gone on by itself was not still.
        let mut guest = Guest { thaws: None, ..Guest::willing(Consistency::Application) };
        let taken = site.engine.create_group_live(&site.group("t"), &mut guest, &mut site.vmm, &options())?;
        assert_eq!(taken.created.inventory.consistency, Some(Consistency::Crash));
        assert!(taken.thaw_error.is_some());
        assert_eq!(guest.asked(), (1, 1));
        site.assert_agreed()?;
    }
    Ok(())
}

#[test]
fn a_guest_that_does_not_settle_is_thawed_and_no_group_is_taken_unless_it_is_wanted_anyway() -> Outcome {
    for place in Place::both()? {
        let mut site = Site::new(&place)?;
        site.vmm.write()?;
        site.vmm.flush()?;
        let before = place.picture()?;
        let mut guest = Guest { answers: None, ..Guest::willing(Consistency::Crash) };
        let answer = site.engine.create_group_live(&site.group("g"), &mut guest, &mut site.vmm, &options());
        let Err(error @ Error::NotFrozen { .. }) = answer else { panic!("{answer:?}") };
        assert_eq!((error.kind(), error.code().as_str()), (Kind::Refused, "SYS.1006"));
        assert_eq!((guest.asked(), site.vmm.switched), ((1, 1), 0));
        assert!(place.picture()? == before);
        site.assert_agreed()?;

        let anyway = LiveOptions { if_not_frozen: IfNotFrozen::TakeAnyway, ..options() };
        let taken = site.engine.create_group_live(&site.group("g"), &mut guest, &mut site.vmm, &anyway)?;
        assert_eq!(taken.created.inventory.consistency, Some(Consistency::Crash));
        assert!(taken.freeze_error.is_some());
        assert_eq!(guest.asked(), (2, 2));
        site.assert_agreed()?;
    }
    Ok(())
}

#[test]
fn disks_that_were_not_switched_leave_nothing_whatever_was_answered() -> Outcome {
    for place in Place::both()? {
        for comes in [Comes::Refused, Comes::Nothing] {
            let place = match &place {
                Place::Memory(_) => Place::Memory(snapgroup::storage::MemoryStore::new()),
                Place::Disk(_) => Place::Disk(tempfile::TempDir::new()?),
            };
            let mut site = Site::new(&place)?;
            site.vmm.write()?;
            site.vmm.flush()?;
            let before = place.picture()?;
            site.vmm.comes = comes;
            let mut guest = Guest::willing(Consistency::Application);
            let answer =
                site.engine.create_group_live(&site.group("g"), &mut guest, &mut site.vmm, &options());
            let Err(error @ Error::NotSwitched { .. }) = answer else { panic!("{answer:?}") };
            assert_eq!((error.kind(), guest.asked()), (Kind::Refused, (1, 1)));
            assert!(place.picture()? == before);
            assert_eq!(site.engine.prepared_groups()?, []);
            site.assert_agreed()?;
        }
    }
    Ok(())
}

#[test]
fn disks_that_were_all_switched_are_a_group_whatever_was_answered() -> Outcome {
    for place in Place::both()? {
        let mut site = Site::new(&place)?;
        let last = site.vmm.write()?;
        site.vmm.comes = Comes::WholeWithAnError;
        let mut guest = Guest::willing(Consistency::FileSystem);
        let taken = site.engine.create_group_live(&site.group("g"), &mut guest, &mut site.vmm, &options())?;
        assert!(taken.switch_error.is_some());
        assert_eq!(taken.created.inventory.consistency, Some(Consistency::FileSystem));
        assert_eq!(site.held_by(taken.created.inventory.uuid)?, vec![last; 3]);
        site.assert_agreed()?;
    }
    Ok(())
}

/// The uuid of the group that stays prepared, and what was seen of its disks.
fn unknown<T: std::fmt::Debug>(answer: Result<T, Error>) -> (Uuid, Vec<WritesTo>) {
    match answer {
        Err(Error::SwitchUnknown { group, seen, .. }) => (group, seen),
        other => panic!("{other:?}"),
    }
}

#[test]
fn disks_of_which_some_were_switched_are_left_to_the_caller() -> Outcome {
    for place in Place::both()? {
        let mut site = Site::new(&place)?;
        let last = site.vmm.write()?;
        site.vmm.comes = Comes::HalfWay;
        let mut guest = Guest::willing(Consistency::FileSystem);
        let answer = site.engine.create_group_live(&site.group("g"), &mut guest, &mut site.vmm, &options());
        let (group, seen) = unknown(answer);
        assert_eq!(seen, [WritesTo::Overlay, WritesTo::Head, WritesTo::Head]);
        assert_eq!(guest.asked(), (1, 1));
        // The guest goes on, on files that are all there.
        site.vmm.write()?;
        let resumed = site.engine.resume_group(group)?;
        site.vmm.comes = Comes::Whole;
        site.vmm.switch(&resumed.disks()[1..]).map_err(|error| -> Box<dyn std::error::Error> { error })?;
        resumed.commit(Consistency::Crash)?;
        assert_eq!(
            site.held_by(group)?,
            [last, last + 1, last + 1],
            "not of one moment, and nobody said it was"
        );
        site.assert_agreed()?;
    }
    Ok(())
}

#[test]
fn disks_that_have_written_to_overlays_and_were_put_back_keep_them() -> Outcome {
    let [place, _] = Place::both()?;
    let mut site = Site::new(&place)?;
    let kept = site.vmm.write()?;
    site.vmm.comes = Comes::ThereAndBack;
    let answer = site.engine.create_group_live(&site.group("g"), &mut NoQuiesce, &mut site.vmm, &options());
    let (group, seen) = unknown(answer);
    assert_eq!(seen, [WritesTo::Head; 3]);
    assert_eq!(site.vmm.read()?, vec![kept; 3]);
    site.engine.resume_group(group)?.abort_and_discard()?;
    site.assert_agreed()
}

#[test]
fn a_process_that_does_not_answer_leaves_the_group_prepared() -> Outcome {
    for place in Place::both()? {
        let mut site = Site::new(&place)?;
        let last = site.vmm.write()?;
        site.vmm.sight = Sight::Blind;
        let mut guest = Guest::willing(Consistency::FileSystem);
        let answer = site.engine.create_group_live(&site.group("g"), &mut guest, &mut site.vmm, &options());
        let (group, seen) = unknown(answer);
        assert_eq!((seen, guest.asked()), (vec![], (1, 1)));
        assert!(site.engine.group_tree(site.machine)?.is_empty());
        site.engine.resume_group(group)?.commit(Consistency::Crash)?;
        assert_eq!(site.held_by(group)?, vec![last; 3]);
        site.assert_agreed()?;
    }
    Ok(())
}

#[test]
fn a_switch_that_panics_thaws_the_guest_and_leaves_the_group_prepared() -> Outcome {
    let [place, _] = Place::both()?;
    let mut site = Site::new(&place)?;
    site.vmm.write()?;
    site.vmm.comes = Comes::Panic;
    let mut guest = Guest::willing(Consistency::FileSystem);
    let request = site.group("g");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        site.engine.create_group_live(&request, &mut guest, &mut site.vmm, &options())
    }));
    assert!(panicked.is_err());
    assert_eq!(guest.asked(), (1, 1));
    let pending = site.engine.prepared_groups()?;
    site.engine.resume_group(pending[0].uuid)?.abort()?;
    site.assert_agreed()
}

#[test]
fn a_repeated_request_answers_the_group_that_is_there_and_calls_no_hook() -> Outcome {
    for place in Place::both()? {
        let mut site = Site::new(&place)?;
        site.vmm.write()?;
        let uuid = Uuid::from_u128(0xfeed);
        let request = CreateGroup { resource_uuid: Some(uuid.into()), ..site.group("g") };
        let mut guest = Guest::willing(Consistency::Application);
        let taken = site.engine.create_group_live(&request, &mut guest, &mut site.vmm, &options())?;
        assert!(!taken.created.repeated);
        let again = site.engine.create_group_live(&request, &mut guest, &mut site.vmm, &options())?;
        assert!(again.created.repeated);
        assert_eq!(again.created.inventory.uuid, uuid);
        assert_eq!((guest.asked(), site.vmm.switched), ((1, 1), 1));
        site.assert_agreed()?;
    }
    Ok(())
}
