//! `snapgroup group`.

use crate::arguments::{
    CreateGroup as Create, DeleteGroup as Delete, Group, HowToDelete, RevertGroup as Revert, Towards,
};
use crate::output::{Failure, Outcome, Output, bytes, table};
use crate::volume::draw_picture;
use crate::{find, group_content, live, reclaim, thin};
use serde_json::json;
use snapgroup::inventory::{AvailabilityInventory, GroupInventory};
use snapgroup::query::{GroupField, Query, Test, Value};
use snapgroup::{
    Among, CreateGroup, DeleteGroup, DeleteMode, DeleteScope, Deleted, Direction, Engine, Match, Members,
    Present, RevertGroup, Reverted, SnapshotMode, UpdateGroup, Uuid, When,
};

pub(crate) fn run(engine: &Engine, command: &Group, output: &Output) -> Outcome {
    match command {
        Group::Create(create) => {
            let created = live::create(engine, create, &wish(engine, create)?)?;
            show_created(&created, output);
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
        Group::Update { group, texts } => {
            let update = UpdateGroup { name: texts.name.clone(), description: texts.description.clone() };
            let shown = engine.update_group(find::group(engine, group)?, &update)?;
            output.inventory(&shown, || members(&shown));
        }
        Group::Hold { group, name } => {
            let held = each_member(engine, group, |snapshot| engine.hold(snapshot, name).map(drop))?;
            output.done(&json!({ "held": held }), &format!("{held} snapshots are held by {name}"));
        }
        Group::Release { group, name } => {
            let released = each_member(engine, group, |snapshot| engine.release(snapshot, name).map(drop))?;
            output.done(
                &json!({ "released": released }),
                &format!("{name} has let go of {released} snapshots"),
            );
        }
        Group::Thin(arguments) => thin::run(engine, arguments, output)?,
        Group::Prepare(create) => live::prepare(engine, &wish(engine, create)?, output)?,
        Group::Prepared => live::list(engine, output)?,
        Group::Commit { group, consistency } => {
            show_created(&live::commit(engine, group, *consistency)?, output);
        }
        Group::Abort { group, discard } => live::abort(engine, group, *discard, output)?,
        Group::Delete(delete) => {
            show_deleted(&engine.delete_group(&deletion(engine, delete)?)?, output)?;
        }
        Group::Ungroup { group } => {
            engine.ungroup(find::group(engine, group)?)?;
            output.done(&json!({}), &format!("{group} is no group any more; its snapshots stay"));
        }
        Group::Revert(revert) => show_reverted(&engine.revert_group(&reversion(engine, revert)?)?, output)?,
        Group::Diff(diff) => group_content::diff(engine, diff, output)?,
        Group::Export(export) => group_content::export(engine, export, output)?,
        Group::Tree { vm, draw } => {
            let vm = find::machine(engine, vm)?;
            draw_picture(&engine.picture_of_groups(vm)?, draw, &engine.group_tree(vm)?, output);
        }
    }
    Ok(())
}

/// Calls something for each member that is there; answers how many there are.
fn each_member(engine: &Engine, group: &str, call: impl Fn(Uuid) -> snapgroup::Result<()>) -> Outcome<usize> {
    let group = engine.group(find::group(engine, group)?)?;
    let living: Vec<_> =
        group.volume_snapshot_refs.iter().filter(|member| !member.snapshot_deleted).collect();
    for member in &living {
        call(member.volume_snapshot_uuid)?;
    }
    Ok(living.len())
}

/// Shows a group that was taken.
fn show_created(group: &GroupInventory, output: &Output) {
    for left in &group.volumes_left_out {
        eprintln!("left out: {}", left.name);
    }
    output.inventory(group, || members(group));
}

pub(crate) fn wish(engine: &Engine, create: &Create) -> Outcome<CreateGroup> {
    let mut request = CreateGroup::of_machine(find::machine(engine, &create.vm)?, &create.name);
    request.description.clone_from(&create.description);
    request.user_tags.clone_from(&create.tag);
    request.system_tags.extend(create.automatic.then(|| Among::AUTOMATIC.to_owned()));
    request.mode = mode(create.full);
    for volume in &create.except {
        request.except.push(find::volume(engine, volume)?.into());
    }
    Ok(request)
}

pub(crate) fn deletion(engine: &Engine, delete: &Delete) -> Outcome<DeleteGroup> {
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

pub(crate) fn reversion(engine: &Engine, revert: &Revert) -> Outcome<RevertGroup> {
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
        let mut text = output.deleted(&deleted.results, "deleted");
        let freed = deleted.reclaimed.bytes_freed();
        text += &format!("freed {}, copied {}\n", bytes(freed), bytes(deleted.reclaimed.bytes_copied()));
        if !deleted.owed.is_empty() {
            text += "still owed:\n";
            text += &reclaim::owed_text(&deleted.owed);
        }
        text
    });
    match (deleted.is_success(), deleted.results.iter().any(|line| line.success)) {
        (true, _) => Ok(()),
        // One refuses, and with it all the others.
        (false, false) if deleted.owed.is_empty() => Err(Failure::Refused),
        (false, _) => Err(Failure::Partly),
    }
}

/// Prints what a revert has come to.
pub(crate) fn show_reverted(reverted: &Reverted, output: &Output) -> Outcome {
    output.print(
        &json!({ "results": reverted.results, "keptGroup": reverted.kept_group, "kept": reverted.kept }),
        || {
            let mut text = output.reverted(&reverted.results, "reverted");
            if let Some(group) = &reverted.kept_group {
                text += &format!("what was is kept as group {}\n", group.name);
            }
            for snapshot in reverted.kept.iter().filter(|_| reverted.kept_group.is_none()) {
                text += &format!("what was is kept as snapshot {}\n", snapshot.name);
            }
            text
        },
    );
    let done = reverted.results.iter().filter(|line| line.success).count();
    match done {
        0 if !reverted.results.is_empty() => Err(Failure::Refused),
        _ if done < reverted.results.len() => Err(Failure::Partly),
        _ => Ok(()),
    }
}
