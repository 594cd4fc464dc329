//! `snapgroup check` and what mends.

use crate::output::{Failure, Outcome, Output};
use serde_json::json;
use snapgroup::Engine;

pub(crate) fn check(engine: &Engine, output: &Output) -> Outcome {
    let check = engine.check()?;
    let layers = check.layers.iter().map(|layer| {
        let report = layer.report.as_ref().map(ToString::to_string);
        json!({ "file": layer.file, "report": report, "error": layer.error })
    });
    let value = json!({
        "clean": check.is_clean(),
        "sound": check.is_sound(),
        "layersChecked": check.layers_checked,
        "violations": check.violations,
        "layers": layers.collect::<Vec<_>>(),
        "missing": check.missing,
        "unnamed": check.unnamed,
    });
    output.print(&value, || {
        let mut text = String::new();
        for violation in &check.violations {
            text += &format!("catalogue: {violation}\n");
        }
        for layer in &check.layers {
            let found = layer.report.as_ref().map(ToString::to_string).or_else(|| layer.error.clone());
            text += &format!("{}: {}\n", layer.file, found.unwrap_or_default());
        }
        for file in &check.missing {
            text += &format!("{file}: missing\n");
        }
        for file in &check.unnamed {
            text += &format!("{file}: no record names it\n");
        }
        let verdict = if check.is_clean() {
            "clean"
        } else if check.is_sound() {
            "sound: some clusters are lost, no content is"
        } else {
            "not sound"
        };
        text + &format!("{} layers checked: {verdict}\n", check.layers_checked)
    });
    if check.is_clean() { Ok(()) } else { Err(Failure::Found) }
}
