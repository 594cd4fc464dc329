//! Every small tree of snapshots, and every deletion in it.
//!
//! A volume gets every history of up to four snapshots that taking and going back can make: each snapshot after the
//! first on any that is there. The head is put on each of them in turn. Then each snapshot is deleted, in each mode,
//! scope and direction, from a copy of the pool. Enforcing deletions are made while the disk is open, permissive ones
//! while it is not. Afterwards everything that is left must be read as a byte model says, the books must say what a
//! model of the books says, and files, figures and plan must agree to the byte.
//!
//! Forests are made of trees whose root was deleted: there the head may be on no snapshot at all, and layers lie
//! below it that no snapshot names.
//!
//! `SNAPGROUP_TREES=n` makes the trees larger, up to `n` snapshots, of which those that differ in shape are walked: of six there are ninety-five with a head, which takes
//! a minute in a release build. `SNAPGROUP_ORDERS=n` walks those of up to `n` in every order of creation: of six that
//! takes minutes. The last line of each test says how many deletions there were.

mod model;
mod pool;
mod reverts;
mod room;
mod shapes;
mod watched;

use model::Number;
use pool::{Files, Grown, Made, Outcome, compare, foretold, open_on, peak_holds, retired, room};
use snapgroup::{DeleteMode, DeleteScope, DeleteSnapshots, Direction, Members};
use watched::Watched;

const MODES: [DeleteMode; 2] = [DeleteMode::Permissive, DeleteMode::Enforcing];
const SCOPES: [DeleteScope; 2] = [DeleteScope::Single, DeleteScope::Chain];
const DIRECTIONS: [Direction; 3] = [Direction::Auto, Direction::Pull, Direction::Commit];

/// A number that whoever runs the tests may give.
fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The most snapshots in a tree.
fn trees_max() -> usize {
    number("SNAPGROUP_TREES", 4)
}

/// The most snapshots in a tree that is walked in every order of creation; the others are walked once for each shape.
fn orders_max() -> usize {
    number("SNAPGROUP_ORDERS", 4)
}

/// Every deletion of one, or of several at once.
#[derive(Clone, Debug)]
struct Wish {
    wanted: Vec<Number>,
    held: Option<Number>,
    mode: DeleteMode,
    scope: DeleteScope,
    direction: Direction,
    members: Members,
}

/// Deletes from a copy of a pool, and compares everything.
fn run(base: &Grown, before: &Files, wish: &Wish) -> Outcome {
    let mut grown = base.fork();
    let (room, watched) = (room(&grown.store)?, Watched::of(&grown.store)?);
    let engine = open_on(watched.clone())?;
    let uuids = wish.wanted.iter().map(|number| grown.model.taken[number].uuid);
    let request = DeleteSnapshots {
        mode: wish.mode,
        scope: wish.scope,
        direction: wish.direction,
        members: wish.members,
        ..DeleteSnapshots::all(uuids)
    };
    if let Some(held) = wish.held {
        engine.hold(grown.model.taken[&held].uuid, "somebody")?;
    }
    let disk = match wish.mode {
        DeleteMode::Enforcing => Some(engine.open_volume(grown.model.volume)?),
        _ => None,
    };
    let plan = engine.plan_delete(&request)?;
    for change in &plan.figures.chains {
        assert_eq!(change.before, engine.chain(change.volume_uuid)?.len());
    }
    let deleted = engine.run(&plan)?;
    peak_holds(&plan.figures, watched.most()? - room);

    let willing = willing(&grown, wish);
    let lines: Vec<bool> = deleted.results.iter().map(|line| line.success).collect();
    assert_eq!(lines, willing, "who was deleted");
    let going: Vec<Number> =
        wish.wanted.iter().zip(willing).filter(|(_, willing)| *willing).map(|(number, _)| *number).collect();
    let left = match going[..] {
        [one] if wish.scope == DeleteScope::Single => retired(&grown.model, one, wish.direction),
        _ => None,
    };
    grown.model.delete(&going, wish.scope);
    compare(&engine, &grown, disk.as_ref())?;
    drop(disk);
    let after = grown.files()?;
    foretold(&engine, &plan, &deleted, before, &after)?;
    if let (Some(left), true) = (left, base_is_plain(base)) {
        assert_eq!(after.len(), grown.model.taken.len() + 1 + left, "the files");
    }
    if wish.held.is_some_and(|held| grown.model.taken.contains_key(&held)) {
        let uuid = grown.model.taken[&wish.held.expect("just looked at")].uuid;
        assert_eq!(engine.snapshot(uuid)?.holds, ["somebody"]);
    }
    Ok(engine.close()?)
}

/// Whether no layer was retired before.
fn base_is_plain(base: &Grown) -> bool {
    base.model.taken.len() == base.model.count
}

/// Which of the wanted go: a hold keeps whatever it is on, and all others when it is all or none.
fn willing(grown: &Grown, wish: &Wish) -> Vec<bool> {
    let refuses = |number: &Number| {
        let held = wish.held.filter(|_| wish.mode == DeleteMode::Permissive);
        held.is_some_and(|held| grown.model.going(*number, wish.scope).contains(&held))
    };
    let refusing: Vec<bool> = wish.wanted.iter().map(refuses).collect();
    let is_off = wish.members == Members::AllOrNone && refusing.contains(&true);
    refusing.into_iter().map(|refuses| !refuses && !is_off).collect()
}

/// Runs every deletion of one snapshot.
fn every_deletion_of_one(base: &Grown, ran: &mut usize) -> Outcome {
    let before = base.files()?;
    for number in base.model.taken.keys().copied() {
        for (mode, scope, direction) in manners() {
            let members = Members::default();
            let wish = Wish { wanted: vec![number], held: None, mode, scope, direction, members };
            count_up(ran, base, &before, &wish)?;
        }
    }
    Ok(())
}

fn manners() -> impl Iterator<Item = (DeleteMode, DeleteScope, Direction)> {
    MODES.into_iter().flat_map(|mode| {
        SCOPES
            .into_iter()
            .flat_map(move |scope| DIRECTIONS.into_iter().map(move |direction| (mode, scope, direction)))
    })
}

/// Says which case it was when one fails.
struct Case<'a>(&'a Grown, &'a Wish);

impl Drop for Case<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let parents = self.0.model.taken.iter().map(|(number, taken)| (*number, taken.parent));
            eprintln!(
                "in {:?} with the head on {:?}: {:?}",
                parents.collect::<Vec<_>>(),
                self.0.model.head,
                self.1
            );
        }
    }
}

fn count_up(ran: &mut usize, base: &Grown, before: &Files, wish: &Wish) -> Outcome {
    let case = Case(base, wish);
    run(base, before, wish).expect("every call succeeds");
    drop(case);
    *ran += 1;
    Ok(())
}

#[test]
fn any_snapshot_of_any_tree_can_be_deleted_in_any_way() -> Outcome {
    let (mut ran, mut met) = (0, shapes::Shapes::default());
    for count in 1..=trees_max() {
        shapes::every_tree_with_a_head(count, &mut |base| {
            if count <= orders_max() || met.are_new(&base.model) {
                every_deletion_of_one(base, &mut ran)?;
            }
            Ok(())
        })?;
    }
    println!("{ran} deletions of one snapshot in trees of up to {}", trees_max());
    Ok(())
}

/// Visits the forests that a tree becomes when its root is deleted, once each, and those that grow on from a head
/// that was on that root.
fn every_forest(count: usize, visit: &mut dyn FnMut(&Grown) -> Made<()>) -> Made<()> {
    let mut met = shapes::Shapes::default();
    shapes::every_tree_with_a_head(count + 1, &mut |tree| {
        if !met.are_new(&tree.model) {
            return Ok(());
        }
        let forest = tree.without(0)?;
        visit(&forest)?;
        if forest.model.head.is_none() {
            visit(&forest.with_snapshot_on(None)?.written_on(Some(count + 1))?)?;
        }
        Ok(())
    })
}

#[test]
fn any_snapshot_of_any_forest_can_be_deleted_in_any_way() -> Outcome {
    let mut ran = 0;
    for count in 1..trees_max() {
        every_forest(count, &mut |base| every_deletion_of_one(base, &mut ran))?;
    }
    println!("{ran} deletions of one snapshot in forests of up to {}", trees_max() - 1);
    Ok(())
}

/// Every two of a tree, in both orders.
fn pairs(base: &Grown) -> Vec<Vec<Number>> {
    let numbers: Vec<Number> = base.model.taken.keys().copied().collect();
    let pairs = numbers.iter().flat_map(|one| numbers.iter().map(move |other| vec![*one, *other]));
    pairs.filter(|pair| pair[0] != pair[1]).collect()
}

#[test]
fn any_two_snapshots_of_any_tree_of_four_can_be_deleted_at_once() -> Outcome {
    let (mut ran, mut met) = (0, shapes::Shapes::default());
    for count in 2..=4 {
        shapes::every_tree_with_a_head(count, &mut |base| {
            if !met.are_new(&base.model) {
                return Ok(());
            }
            let before = base.files()?;
            for wanted in pairs(base) {
                for (mode, scope, direction) in manners() {
                    let members = Members::default();
                    let wish = Wish { wanted: wanted.clone(), held: None, mode, scope, direction, members };
                    count_up(&mut ran, base, &before, &wish)?;
                }
            }
            Ok(())
        })?;
    }
    println!("{ran} deletions of two snapshots in trees of up to 4");
    Ok(())
}

/// What makes a difference beside a hold.
fn refusable() -> impl Iterator<Item = (DeleteMode, DeleteScope, Members)> {
    let ways = [
        (DeleteMode::Permissive, Members::AllOrNone),
        (DeleteMode::Permissive, Members::EachOnItsOwn),
        (DeleteMode::Enforcing, Members::AllOrNone),
    ];
    ways.into_iter().flat_map(|(mode, members)| SCOPES.into_iter().map(move |scope| (mode, scope, members)))
}

#[test]
fn a_hold_anywhere_keeps_what_it_must_and_nothing_else() -> Outcome {
    let (mut ran, mut met) = (0, shapes::Shapes::default());
    for count in 1..=4 {
        shapes::every_tree_with_a_head(count, &mut |base| {
            if !met.are_new(&base.model) {
                return Ok(());
            }
            let before = base.files()?;
            let ones = base.model.taken.keys().map(|number| vec![*number]);
            for wanted in ones.chain(pairs(base).into_iter().filter(|pair| pair[0] < pair[1])) {
                for held in base.model.taken.keys().copied() {
                    for (mode, scope, members) in refusable() {
                        let (wanted, held, direction) = (wanted.clone(), Some(held), Direction::Auto);
                        let wish = Wish { wanted, held, mode, scope, direction, members };
                        count_up(&mut ran, base, &before, &wish)?;
                    }
                }
            }
            Ok(())
        })?;
    }
    println!("{ran} deletions beside a hold in trees of up to 4");
    Ok(())
}
