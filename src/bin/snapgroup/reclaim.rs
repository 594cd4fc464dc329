//! `snapgroup reclaim` and `snapgroup owed`.

use crate::arguments::Reclaim;
use crate::output::{Failure, Outcome, Output, bytes, table};
use crate::{find, group, progress};
use serde_json::{Value, json};
use snapgroup::inventory::ErrorCode;
use snapgroup::{Engine, Owed, ReclaimOptions};

pub(crate) fn run(engine: &Engine, arguments: &Reclaim, output: &Output) -> Outcome {
    let mut options = ReclaimOptions::towards(group::direction(arguments.direction));
    if let Some(volume) = &arguments.volume {
        options.volume = Some(find::volume(engine, volume)?.into());
    }
    let mut reclaim = engine.reclaim(&options)?;
    let ended = progress::run(|| {
        let state = reclaim.step(progress::STEP)?;
        let progress = reclaim.progress();
        Ok((progress.copied, progress.total, state))
    });
    let interrupted = matches!(ended, Err(Failure::Interrupted));
    if !interrupted {
        ended?;
    }
    let done = reclaim.reclaimed();
    let owed = reclaim.owed();
    let value = json!({
        "bytesPulled": done.bytes_pulled,
        "bytesCommitted": done.bytes_committed,
        "bytesPunched": done.bytes_punched,
        "bytesRemoved": done.bytes_removed,
        "owed": owed_json(owed),
        "interrupted": interrupted,
    });
    output.print(&value, || {
        let mut text =
            format!("freed {}, copied {}\n", bytes(done.bytes_freed()), bytes(done.bytes_copied()));
        if !owed.is_empty() {
            text += "still owed:\n";
            text += &owed_text(owed);
        }
        if interrupted {
            text += "interrupted: `snapgroup reclaim` goes on from here\n";
        }
        text
    });
    if interrupted {
        return Err(Failure::Stopped);
    }
    if owed.is_empty() { Ok(()) } else { Err(Failure::Partly) }
}

pub(crate) fn owed(engine: &Engine, output: &Output) -> Outcome {
    let owed = engine.owed()?;
    output.print(&json!({ "owed": owed_json(&owed) }), || match owed.is_empty() {
        true => "nothing is owed".to_owned(),
        false => owed_text(&owed),
    });
    Ok(())
}

pub(crate) fn owed_json(owed: &[Owed]) -> Value {
    let rows = owed.iter().map(|owed| {
        json!({
            "file": owed.file,
            "volumeUuid": owed.volume_uuid.map(|uuid| uuid.simple().to_string()),
            "allocated": owed.allocated,
            "neededBy": owed.needed_by,
            "reason": owed.reason.to_string(),
            "error": owed.error,
        })
    });
    rows.collect()
}

pub(crate) fn owed_text(owed: &[Owed]) -> String {
    let rows = owed.iter().map(|owed| {
        let reason = owed.error.as_ref().map_or_else(|| owed.reason.to_string(), ErrorCode::on_one_line);
        vec![owed.file.clone(), owed.allocated.map_or_else(|| "-".to_owned(), bytes), reason]
    });
    table(&["FILE", "TAKES UP", "BECAUSE"], rows.collect())
}
