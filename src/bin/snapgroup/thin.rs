//! `snapgroup group thin` and `snapgroup plan thin`.

use crate::arguments::Thin as Arguments;
use crate::output::{Failure, Outcome, Output, table};
use crate::{find, group, plan};
use serde_json::{Value, json};
use snapgroup::{Among, Engine, Figures, Retention, Thin, ThinPlan, When};

/// Says which groups would stay, and why, and what the deletion of the others would do.
pub(crate) fn plan(engine: &Engine, arguments: &Arguments, output: &Output) -> Outcome {
    let plan = engine.plan_retention(&wish(engine, arguments)?)?;
    let possible = plan.deletion.as_ref().is_none_or(snapgroup::DeletePlan::is_possible);
    let figures = plan.deletion.as_ref().map(|deletion| deletion.figures.clone()).unwrap_or_default();
    output.print(&plan_json(&plan, possible, &figures), || {
        let mut text = groups(&plan);
        if let Some(deletion) = &plan.deletion {
            text += "\n";
            text += &output.deleted(&deletion.results, "would be deleted");
            text += &format!("{}\n", deletion.figures);
        }
        text
    });
    if possible { Ok(()) } else { Err(Failure::Refused) }
}

/// Runs the very plan that it shows.
pub(crate) fn run(engine: &Engine, arguments: &Arguments, output: &Output) -> Outcome {
    let plan = engine.plan_retention(&wish(engine, arguments)?)?;
    if !output.is_json() {
        output.write(&(groups(&plan) + "\n"));
    }
    group::show_deleted(&engine.run(&plan)?, output)
}

fn wish(engine: &Engine, arguments: &Arguments) -> Outcome<Thin> {
    let keep = &arguments.keep;
    let among = match (&arguments.only_tagged, arguments.only_automatic) {
        (Some(tag), _) => Among::Tagged(tag.clone()),
        (None, true) => Among::Automatic,
        (None, false) => Among::All,
    };
    let retention = Retention {
        last: keep.keep_last.unwrap_or_default(),
        hourly: keep.keep_hourly.unwrap_or_default(),
        daily: keep.keep_daily.unwrap_or_default(),
        weekly: keep.keep_weekly.unwrap_or_default(),
        monthly: keep.keep_monthly.unwrap_or_default(),
        tagged: keep.keep_tagged.clone(),
        among,
    };
    Ok(Thin {
        direction: group::direction(arguments.direction),
        reclaim: if arguments.later { When::Later } else { When::Now },
        ..Thin::new(find::machine(engine, &arguments.vm)?, retention)
    })
}

fn groups(plan: &ThinPlan) -> String {
    let rows = plan.groups.iter().map(|group| {
        let kept = group.kept_by.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let verdict = if kept.is_empty() { "goes".to_owned() } else { format!("stays: {kept}") };
        vec![group.name.clone(), group.uuid.simple().to_string(), group.created.to_string(), verdict]
    });
    table(&["GROUP", "UUID", "TAKEN", "VERDICT"], rows.collect())
}

fn plan_json(plan: &ThinPlan, possible: bool, figures: &Figures) -> Value {
    let groups = plan.groups.iter().map(|group| {
        json!({
            "uuid": group.uuid.simple().to_string(),
            "name": group.name,
            "createDate": group.created,
            "keptBy": group.kept_by.iter().map(|reason| reason.as_str()).collect::<Vec<_>>(),
        })
    });
    let results = plan.deletion.as_ref().map_or_else(|| json!([]), |deletion| json!(deletion.results));
    let mut value = plan::figures_json(figures, possible, results);
    value["groups"] = groups.collect();
    value
}
