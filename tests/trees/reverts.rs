//! Every way back in every small tree: to each snapshot, with the present state kept and without, and what the plan said
//! of it.

use crate::pool::{Files, Grown, Outcome, compare, figures_hold, open_on, peak_holds, room};
use crate::watched::Watched;
use crate::{every_forest, shapes, trees_max};
use snapgroup::{Present, RevertVolume};

/// Goes back in a copy of a pool, and compares everything.
fn go_back(base: &Grown, before: &Files, to: usize, present: Present) -> Outcome {
    let mut grown = base.fork();
    let (room, watched) = (room(&grown.store)?, Watched::of(&grown.store)?);
    let engine = open_on(watched.clone())?;
    let wish = RevertVolume { present, ..RevertVolume::to(grown.model.taken[&to].uuid) };
    let plan = engine.plan_revert(&wish)?;
    for change in &plan.figures.chains {
        assert_eq!(change.before, engine.chain(change.volume_uuid)?.len());
    }
    let reverted = engine.run(&plan)?;
    assert_eq!((&plan.results, &reverted.owed), (&reverted.results, &Vec::new()));
    peak_holds(&plan.figures, watched.most()? - room);
    if present == Present::Kept {
        grown.model.take(reverted.kept[0].uuid);
    }
    grown.model.revert(to);
    compare(&engine, &grown, None)?;
    figures_hold(&engine, &plan.figures, &reverted.reclaimed, before, &grown.files()?)?;
    Ok(engine.close()?)
}

fn every_way_back(base: &Grown, ran: &mut usize) -> Outcome {
    let before = base.files()?;
    for to in base.model.taken.keys().copied() {
        for present in [Present::GivenUp, Present::Kept] {
            let done = go_back(base, &before, to, present);
            done.map_err(|error| format!("to {to}, {present:?}: {error}"))?;
            *ran += 1;
        }
    }
    Ok(())
}

#[test]
fn any_tree_and_any_forest_goes_back_to_any_snapshot_as_foretold() -> Outcome {
    let (mut ran, mut met) = (0, shapes::Shapes::default());
    for count in 1..=trees_max().min(5) {
        shapes::every_tree_with_a_head(count, &mut |base| match met.are_new(&base.model) {
            true => every_way_back(base, &mut ran),
            false => Ok(()),
        })?;
    }
    for count in 1..trees_max().min(5) {
        every_forest(count, &mut |base| every_way_back(base, &mut ran))?;
    }
    println!("{ran} reverts in trees and forests of up to 5");
    Ok(())
}
