//! `snapgroup plan`.

use crate::arguments::Plan;
use crate::output::{Failure, Outcome, Output, table};
use crate::{group, snapshot, thin};
use serde_json::{Value, json};
use snapgroup::inventory::ErrorCode;
use snapgroup::{DeletePlan, Engine, Figures, RevertPlan, Uuid};

/// What a command would do.
pub(crate) fn run(engine: &Engine, command: &Plan, output: &Output) -> Outcome {
    let foretold = match command {
        Plan::Create(create) => {
            let plan = engine.plan_create(&group::wish(engine, create)?)?;
            let rows = plan.members.iter().map(|member| {
                vec![member.name.clone(), output.verdict("would be taken", member.refused.as_ref())]
            });
            let mut text = table(&["SNAPSHOT", "RESULT"], rows.collect());
            if let Some(refused) = &plan.refused {
                text += &format!("refused: {}\n", refused.on_one_line());
            }
            let lines = plan.members.iter().map(|member| {
                json!({ "name": member.name, "volumeUuid": hex(&member.volume_uuid), "error": member.refused })
            });
            Foretold {
                error: plan.refused.clone(),
                results: json!(lines.collect::<Vec<_>>()),
                text,
                possible: plan.is_possible(),
                figures: plan.figures,
            }
        }
        Plan::Delete(delete) => deletion(engine.plan_delete(&group::deletion(engine, delete)?)?, output),
        Plan::DeleteSnapshots { snapshots, how } => {
            deletion(engine.plan_delete(&snapshot::deletion(engine, snapshots, how)?)?, output)
        }
        Plan::Revert(revert) => reversion(engine.plan_revert(&group::reversion(engine, revert)?)?, output),
        Plan::RevertSnapshot { snapshot, keep } => {
            reversion(engine.plan_revert(&snapshot::reversion(engine, snapshot, *keep)?)?, output)
        }
        Plan::Thin(arguments) => return thin::plan(engine, arguments, output),
    };
    let mut value = figures_json(&foretold.figures, foretold.possible, foretold.results);
    if let Some(error) = foretold.error {
        value["error"] = json!(error);
    }
    output.print(&value, || format!("{}\n{}\n", foretold.text, foretold.figures));
    if foretold.possible { Ok(()) } else { Err(Failure::Refused) }
}

/// What a command would answer, and do.
struct Foretold {
    /// What refuses as a whole.
    error: Option<ErrorCode>,
    results: Value,
    text: String,
    figures: Figures,
    possible: bool,
}

fn deletion(plan: DeletePlan, output: &Output) -> Foretold {
    Foretold {
        error: None,
        results: json!(plan.results),
        text: output.deleted(&plan.results, "would be deleted"),
        possible: plan.is_possible(),
        figures: plan.figures,
    }
}

fn reversion(plan: RevertPlan, output: &Output) -> Foretold {
    Foretold {
        error: None,
        results: json!(plan.results),
        text: output.reverted(&plan.results, "would be reverted"),
        possible: plan.results.iter().all(|line| line.success),
        figures: plan.figures,
    }
}

fn hex(uuid: &Uuid) -> String {
    uuid.simple().to_string()
}

pub(crate) fn figures_json(figures: &Figures, possible: bool, results: Value) -> Value {
    let chains = figures.chains.iter().map(|chain| {
        json!({ "volumeUuid": hex(&chain.volume_uuid), "before": chain.before, "after": chain.after })
    });
    json!({
        "possible": possible,
        "results": results,
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
