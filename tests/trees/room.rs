//! Room that is made in full chains before a group is taken: in every small tree and forest of which one snapshot was
//! deleted and its bytes were left, with one layer too many and with two, and what the plan said of it.

use crate::pool::{Grown, Outcome, compare, files_hold, growth, open_on, peak_holds, room};
use crate::watched::Watched;
use crate::{every_forest, shapes, trees_max};
use snapgroup::{
    ByteCount, ChainCap, CreateGroup, CreateMachine, DeleteScope, DeleteSnapshots, Engine, Error, Kind,
    Refusal, UpdateVolume, Uuid, When,
};
use std::sync::Arc;

#[derive(Default)]
struct Ran {
    possible: usize,
    refused: usize,
    merged: usize,
}

/// Attaches the disk to a machine, and caps its chain so that there is room when `too_many` layers are gone.
fn fill(engine: &Engine, disk: Uuid, too_many: usize) -> Result<CreateGroup, Box<dyn std::error::Error>> {
    let machine = engine.create_machine(&CreateMachine::new("vm"))?.uuid;
    engine.attach_volume(disk, machine, None)?;
    let length = engine.chain(disk)?.len() + 1 - too_many;
    let capped =
        UpdateVolume { chain_max: Some(ChainCap::Layers(length.try_into()?)), ..UpdateVolume::default() };
    engine.update_volume(disk, &capped)?;
    Ok(CreateGroup::of_machine(machine, "g"))
}

fn take(base: &Grown, gone: usize, too_many: usize, ran: &mut Ran) -> Outcome {
    let mut grown = base.fork();
    let store = Watched::of(&grown.store)?;
    let engine = open_on(store)?;
    let later =
        DeleteSnapshots { reclaim: When::Later, ..DeleteSnapshots::one(grown.model.taken[&gone].uuid) };
    assert!(engine.delete_snapshots(&later)?.is_success());
    grown.model.delete(&[gone], DeleteScope::Single);
    let wish = fill(&engine, grown.model.volume, too_many)?;
    engine.close()?;
    // Whoever opens a pool removes what nothing reads.
    open_on(Arc::new(grown.store.clone()))?.close()?;

    let (before, room, watched) = (grown.files()?, room(&grown.store)?, Watched::of(&grown.store)?);
    let engine = open_on(watched.clone())?;
    let plan = engine.plan_create(&wish)?;
    for change in &plan.figures.chains {
        assert_eq!(change.before, engine.chain(change.volume_uuid)?.len());
    }
    ran.merged += usize::from(!plan.figures.files_removed.is_empty());
    match engine.run(&plan) {
        Ok(created) => {
            assert!(plan.is_possible());
            ran.possible += 1;
            grown.model.take(created.inventory.volume_snapshot_refs[0].volume_snapshot_uuid);
        }
        Err(Error::Refused(Refusal::ChainTooLong { .. })) => {
            assert!(!plan.is_possible());
            ran.refused += 1;
        }
        Err(error) => return Err(error.into()),
    }
    peak_holds(&plan.figures, watched.most()? - room);
    let after = grown.files()?;
    if plan.is_possible() {
        let gone = files_hold(&plan.figures, &before, &after);
        let removed = gone.iter().fold(ByteCount::ZERO, |sum, name| sum + before[*name].allocated());
        assert_eq!(plan.figures.bytes_removed, removed);
        // What goes up twice is copied twice, and stays once.
        let (pulled, growth) = (plan.figures.bytes_pulled.as_u64().into(), growth(&before, &after, &gone));
        assert!(growth == pulled || growth < pulled && gone.len() > 1, "{growth} of {pulled}");
        for change in &plan.figures.chains {
            assert_eq!(change.after, engine.chain(change.volume_uuid)?.len());
        }
    }
    let again = engine.run(&plan).expect_err("the catalogue has moved on");
    assert_eq!(again.kind(), Kind::Refused);
    compare(&engine, &grown, None)?;
    Ok(engine.close()?)
}

fn every_room(base: &Grown, ran: &mut Ran) -> Outcome {
    for gone in base.model.taken.keys().copied() {
        for too_many in 0..3 {
            if too_many <= base.model.taken.len() {
                let done = take(base, gone, too_many, ran);
                done.map_err(|error| format!("without {gone}, {too_many} too many: {error}"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn room_is_made_in_any_tree_and_any_forest_as_foretold() -> Outcome {
    let (mut ran, mut met) = (Ran::default(), shapes::Shapes::default());
    for count in 1..=trees_max().min(4) {
        shapes::every_tree_with_a_head(count, &mut |base| match met.are_new(&base.model) {
            true => every_room(base, &mut ran),
            false => Ok(()),
        })?;
    }
    for count in 1..trees_max().min(5) {
        every_forest(count, &mut |base| every_room(base, &mut ran))?;
    }
    let Ran { possible, refused, merged } = ran;
    println!("{possible} groups, {merged} of them after a merge, and {refused} refused, in trees of up to 4");
    assert!(possible > 0 && refused > 0 && merged > 0);
    Ok(())
}
