//! `snapgroup group` and `snapgroup plan`.

use crate::arguments::{
    CreateGroup as Create, DeleteGroup as Delete, Group, HowToDelete, Plan, RevertGroup as Revert, Towards,
};
use crate::output::{Failure, Outcome, Output, bytes, chain_of, table};
use crate::volume::draw_picture;
use crate::{find, reclaim};
use serde_json::json;
use snapgroup::inventory::{AvailabilityInventory, GroupInventory};
use snapgroup::query::{GroupField, Query, Test, Value};
use snapgroup::{
    CreateGroup, DeleteGroup, DeleteMode, DeleteScope, Deleted, Direction, Engine, Figures, Match, Members,
    Present, RevertGroup, Reverted, SnapshotMode, UpdateGroup, When,
};

pub(crate) fn run(engine: &Engine, command: &Group, output: &Output) -> Outcome {
    match command {
        Group::Create(create) => {
            let created = engine.create_group(&wish(engine, create)?)?;
            for left in &created.inventory.volumes_left_out {
                eprintln!("left out: {}", left.name);
            }
            output.inventory(&created.inventory, || members(&created.inventory));
        }
        Group::List { vm } => {
            let mut query = Query::all();
            if let Some(vm) = vm {
                let uuid = find::machine(engine, vm)?;
                query = query.with(GroupField::MachineUuid, Test::Equal(Value::from(uuid)));
            }
            let page = engine.query_groups(&query)?;
            output.inventories(&page.items, || {
                let rows = page.items.iter().map(|group| {
                    let gone =
                        group.volume_snapshot_refs.iter().filter(|member| member.snapshot_deleted).count();
                    let all = group.volume_snapshot_refs.len();
                    vec![
                        group.name.clone(),
                        group.uuid.simple().to_string(),
                        format!("{} of {all}", all - gone),
                        group.create_date.to_string(),
                    ]
                });
                table(&["NAME", "UUID", "SNAPSHOTS", "TAKEN"], rows.collect())
            });
        }
        Group::Show { group } => {
            let uuid = find::group(engine, group)?;
            let shown = engine.group(uuid)?;
            let available = engine.check_availability([uuid])?;
            output.inventory(&shown, || members(&shown) + &availability(&available));
        }
        Group::Update { group, name, description } => {
            let update = UpdateGroup { name: name.clone(), description: description.clone() };
            let shown = engine.update_group(find::group(engine, group)?, &update)?;
            output.inventory(&shown, || members(&shown));
        }
        Group::Delete(delete) => {
            show_deleted(&engine.delete_group(&deletion(engine, delete)?)?, output)?;
        }
        Group::Ungroup { group } => {
            engine.ungroup(find::group(engine, group)?)?;
            output.done(&json!({}), &format!("{group} is no group any more; its snapshots stay"));
        }
        Group::Revert(revert) => show_reverted(&engine.revert_group(&reversion(engine, revert)?)?, output)?,
        Group::Tree { vm, draw } => {
            draw_picture(&engine.picture_of_groups(find::machine(engine, vm)?)?, draw)
        }
    }
    Ok(())
}

/// What a command would do.
pub(crate) fn plan(engine: &Engine, command: &Plan, output: &Output) -> Outcome {
    let (results, figures, possible) = match command {
        Plan::Create(create) => {
            let plan = engine.plan_create(&wish(engine, create)?)?;
            let rows = plan.members.iter().map(|member| {
                vec![member.name.clone(), output.verdict("would be taken", member.refused.as_ref())]
            });
            let mut text = table(&["SNAPSHOT", "RESULT"], rows.collect());
            if let Some(refused) = &plan.refused {
                text += &format!("refused: {}\n", chain_of(refused));
            }
            (text, plan.figures.clone(), plan.is_possible())
        }
        Plan::Delete(delete) => {
            let plan = engine.plan_delete(&deletion(engine, delete)?)?;
            (output.deleted(&plan.results), plan.figures.clone(), plan.is_possible())
        }
        Plan::Revert(revert) => {
            let plan = engine.plan_revert(&reversion(engine, revert)?)?;
            let possible = plan.results.iter().all(|line| line.success);
            (output.reverted(&plan.results), plan.figures.clone(), possible)
        }
    };
    output.print(&figures_json(&figures, possible), || results + "\n" + &figures_text(&figures));
    if possible { Ok(()) } else { Err(Failure::Partly) }
}

fn figures_json(figures: &Figures, possible: bool) -> serde_json::Value {
    let chains = figures.chains.iter().map(|chain| {
        json!({ "volumeUuid": chain.volume_uuid.simple().to_string(), "before": chain.before, "after": chain.after })
    });
    json!({
        "possible": possible,
        "bytesPulled": figures.bytes_pulled,
        "bytesCommitted": figures.bytes_committed,
        "bytesFlattened": figures.bytes_flattened,
        "bytesPunched": figures.bytes_punched,
        "bytesRemoved": figures.bytes_removed,
        "bytesExtraPeak": figures.bytes_extra_peak,
        "filesMade": figures.files_made,
        "filesWritten": figures.files_written,
        "filesRemoved": figures.files_removed,
        "chains": chains.collect::<Vec<_>>(),
    })
}

fn figures_text(figures: &Figures) -> String {
    let mut text = format!(
        "copied up {}, copied down {}, copied whole {}, freed {}, at most {} more than now on the way\n",
        bytes(figures.bytes_pulled),
        bytes(figures.bytes_committed),
        bytes(figures.bytes_flattened),
        bytes(figures.bytes_freed()),
        bytes(figures.bytes_extra_peak)
    );
    for (what, files) in [
        ("made", &figures.files_made),
        ("written", &figures.files_written),
        ("removed", &figures.files_removed),
    ] {
        for file in files {
            text += &format!("{what:>8}  {file}\n");
        }
    }
    for chain in &figures.chains {
        text +=
            &format!("chain of {}: {} -> {} layers\n", chain.volume_uuid.simple(), chain.before, chain.after);
    }
    text
}

fn wish(engine: &Engine, create: &Create) -> Outcome<CreateGroup> {
    let mut request = CreateGroup::of_machine(find::machine(engine, &create.vm)?, &create.name);
    request.description.clone_from(&create.description);
    request.user_tags.clone_from(&create.tag);
    request.mode = mode(create.full);
    for volume in &create.except {
        request.except.push(find::volume(engine, volume)?.into());
    }
    Ok(request)
}

fn deletion(engine: &Engine, delete: &Delete) -> Outcome<DeleteGroup> {
    let how = How::of(&delete.how);
    Ok(DeleteGroup {
        mode: how.mode,
        scope: how.scope,
        members: how.members,
        direction: how.direction,
        reclaim: how.reclaim,
        ..DeleteGroup::new(find::group(engine, &delete.group)?)
    })
}

fn reversion(engine: &Engine, revert: &Revert) -> Outcome<RevertGroup> {
    let disks = if revert.matching { Match::Matching } else { Match::Strict };
    let present = if revert.keep { Present::Kept } else { Present::GivenUp };
    Ok(RevertGroup { disks, present, ..RevertGroup::new(find::group(engine, &revert.group)?) })
}

/// How a snapshot is taken.
pub(crate) const fn mode(full: bool) -> SnapshotMode {
    if full { SnapshotMode::Full } else { SnapshotMode::Incremental }
}

/// How something is deleted, in the words of the library.
pub(crate) struct How {
    pub(crate) mode: DeleteMode,
    pub(crate) scope: DeleteScope,
    pub(crate) members: Members,
    pub(crate) direction: Direction,
    pub(crate) reclaim: When,
}

impl How {
    pub(crate) fn of(how: &HowToDelete) -> Self {
        Self {
            mode: if how.enforcing { DeleteMode::Enforcing } else { DeleteMode::Permissive },
            scope: if how.chain { DeleteScope::Chain } else { DeleteScope::Single },
            members: if how.per_member { Members::EachOnItsOwn } else { Members::AllOrNone },
            direction: direction(how.direction),
            reclaim: if how.later { When::Later } else { When::Now },
        }
    }
}

pub(crate) const fn direction(towards: Towards) -> Direction {
    match towards {
        Towards::Auto => Direction::Auto,
        Towards::Pull => Direction::Pull,
        Towards::Commit => Direction::Commit,
    }
}

fn members(group: &GroupInventory) -> String {
    let title = format!("{}  {}  {}\n", group.name, group.uuid.simple(), group.create_date);
    let rows = group.volume_snapshot_refs.iter().map(|member| {
        let state = if member.snapshot_deleted { "deleted" } else { "there" };
        vec![
            member.device_id.to_string(),
            member.volume_name.clone(),
            member.volume_snapshot_name.clone(),
            member.volume_snapshot_uuid.simple().to_string(),
            state.to_owned(),
        ]
    });
    title + &table(&["DEVICE", "VOLUME", "SNAPSHOT", "UUID", "STATE"], rows.collect())
}

fn availability(answers: &[AvailabilityInventory]) -> String {
    answers
        .iter()
        .map(|answer| match answer.available {
            true => "the machine can go back to it\n".to_owned(),
            false => format!("the machine cannot go back to it as a whole:\n{}\n", answer.reason),
        })
        .collect()
}

/// Prints what a deletion has come to.
pub(crate) fn show_deleted(deleted: &Deleted, output: &Output) -> Outcome {
    output.print(&json!({ "results": deleted.results, "owed": reclaim::owed_json(&deleted.owed) }), || {
        let mut text = output.deleted(&deleted.results);
        let freed = deleted.reclaimed.bytes_freed();
        text += &format!("freed {}, copied {}\n", bytes(freed), bytes(deleted.reclaimed.bytes_copied()));
        if !deleted.owed.is_empty() {
            text += "still owed:\n";
            text += &reclaim::owed_text(&deleted.owed);
        }
        text
    });
    if deleted.is_success() { Ok(()) } else { Err(Failure::Partly) }
}

/// Prints what a revert has come to.
pub(crate) fn show_reverted(reverted: &Reverted, output: &Output) -> Outcome {
    output.print(
        &json!({ "results": reverted.results, "keptGroup": reverted.kept_group, "kept": reverted.kept }),
        || {
            let mut text = output.reverted(&reverted.results);
            if let Some(group) = &reverted.kept_group {
                text += &format!("what was is kept as group {}\n", group.name);
            }
            for snapshot in reverted.kept.iter().filter(|_| reverted.kept_group.is_none()) {
                text += &format!("what was is kept as snapshot {}\n", snapshot.name);
            }
            text
        },
    );
    if reverted.results.iter().all(|line| line.success) { Ok(()) } else { Err(Failure::Partly) }
}
