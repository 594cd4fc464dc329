//! `snapgroup seal` and `snapgroup verify`.

use crate::arguments::{Seal, Verify};
use crate::output::{Failure, Outcome, Output, bytes, counted, table};
use crate::{find, progress};
use serde_json::{Value, json};
use snapgroup::inventory::ErrorCode;
use snapgroup::{Engine, LayerVerdict, Renew, SealOptions, Verdict, VerifyDepth, VerifyOf};

pub(crate) fn seal(engine: &Engine, arguments: &Seal, output: &Output) -> Outcome {
    let mut options = SealOptions::default();
    if let Some(volume) = &arguments.volume {
        options.volume = Some(find::volume(engine, volume)?.into());
    }
    if arguments.renew {
        options.renew = Renew::All;
    }
    let mut sealing = engine.seal(&options)?;
    let ended = progress::run(|| {
        let state = sealing.step(progress::STEP)?;
        let progress = sealing.progress();
        Ok((progress.read, progress.total, state))
    });
    let interrupted = matches!(ended, Err(Failure::Interrupted));
    if !interrupted {
        ended?;
    }
    let done = sealing.sealed();
    let failed = done.failed.iter().map(|failed| json!({ "file": failed.file, "error": failed.error }));
    let value = json!({
        "layers": done.layers,
        "bytesRead": done.bytes_read,
        "failed": failed.collect::<Vec<_>>(),
        "interrupted": interrupted,
    });
    output.print(&value, || {
        let mut text = format!("{} sealed, {} read\n", counted(done.layers, "layer"), bytes(done.bytes_read));
        for failed in &done.failed {
            let why = failed
                .error
                .as_ref()
                .map_or_else(|| "it was written to meanwhile".to_owned(), ErrorCode::on_one_line);
            text += &format!("{}: not sealed: {why}\n", failed.file);
        }
        if interrupted {
            text += "interrupted: `snapgroup seal` goes on from here\n";
        }
        text
    });
    if interrupted {
        return Err(Failure::Stopped);
    }
    if done.failed.is_empty() { Ok(()) } else { Err(Failure::Partly) }
}

pub(crate) fn verify(engine: &Engine, arguments: &Verify, output: &Output) -> Outcome {
    let of = match (&arguments.group, &arguments.snapshot) {
        (Some(group), _) => VerifyOf::Group(find::group(engine, group)?.into()),
        (None, Some(snapshot)) => VerifyOf::Snapshot(find::snapshot(engine, snapshot)?.into()),
        (None, None) => VerifyOf::Pool,
    };
    let depth = if arguments.content { VerifyDepth::Content } else { VerifyDepth::Suspects };
    let found = engine.verify(&of, depth)?;
    let value = json!({
        "good": found.is_good(),
        "proved": found.is_proved(),
        "bytesRead": found.bytes_read,
        "layers": found.layers.iter().map(layer_json).collect::<Vec<_>>(),
    });
    output.print(&value, || {
        let rows = found.layers.iter().map(|layer| vec![layer.file.clone(), said_of(&layer.verdict)]);
        let text = table(&["FILE", "VERDICT"], rows.collect());
        text + &format!(
            "{} verified, {} read\n",
            counted(found.layers.len() as u64, "layer"),
            bytes(found.bytes_read)
        )
    });
    if found.is_good() { Ok(()) } else { Err(Failure::Found) }
}

fn layer_json(layer: &LayerVerdict) -> Value {
    let differs = match &layer.verdict {
        Verdict::Differs { ranges, .. } => {
            Some(ranges.iter().map(|range| [range.start, range.end]).collect())
        }
        _ => None::<Vec<_>>,
    };
    json!({
        "file": layer.file,
        "layerUuid": layer.layer_uuid.simple().to_string(),
        "touched": !layer.touched.is_empty(),
        "verdict": said_of(&layer.verdict),
        "differs": differs,
    })
}

fn said_of(verdict: &Verdict) -> String {
    match verdict {
        Verdict::NeverSealed => "never sealed".to_owned(),
        Verdict::Intact => "intact".to_owned(),
        Verdict::Differs { bytes: count, .. } => format!("{} differ", bytes(*count)),
        Verdict::SealLost { error } => format!("its seal is lost: {error}"),
        Verdict::Unusable { error } => format!("cannot be used: {}", error.on_one_line()),
        _ => "touched".to_owned(),
    }
}
