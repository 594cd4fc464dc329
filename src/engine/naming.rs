//! Which file a name stands for that a caller or a header gives: one of the pool's directory, or one of a base directory
//! that was declared. No other one is opened.

use super::adopt::not_adoptable;
use super::error::{Error, Result};
use crate::catalog::LayerFormat;
use crate::image::Facts;
use crate::storage::{BlobName, Store};

/// A file and its format, as an owner or a header names it.
pub(super) type Named = (BlobName, LayerFormat);

/// The file that a caller names: by its name in the pool's directory, or by its path.
pub(super) fn said(store: &dyn Store, file: &str) -> Result<BlobName> {
    let refused = |rule: String| Error::NotAdoptable { blob: file.to_owned(), rule };
    if file.starts_with('/') {
        let rule = "it is neither in the pool's directory nor in a declared base directory";
        return store.name_of(file).ok_or_else(|| refused(rule.to_owned()));
    }
    BlobName::parse(file).map_err(|error| refused(error.to_string()))
}

/// The file below an image, by the label in its header, with its format.
pub(super) fn backing_of(store: &dyn Store, name: &BlobName, facts: &Facts) -> Result<Option<Named>> {
    let Some(label) = &facts.backing_label else { return Ok(None) };
    let format = match facts.backing_format.as_deref() {
        Some("qcow2") => LayerFormat::Qcow2,
        Some("raw") => LayerFormat::Raw,
        Some(other) => {
            return Err(not_adoptable(name, format!("its backing file {label:?} has the format {other:?}")));
        }
        None => {
            let rule = format!("it gives no format for its backing file {label:?}, and none is guessed");
            return Err(not_adoptable(name, rule));
        }
    };
    match labelled(store, name, label) {
        Some(below) => Ok(Some((below, format))),
        None => Err(not_adoptable(name, outside("backing file", label))),
    }
}

/// The file that a label in the header of an image names, as QEMU finds it: from the directory of the image on.
pub(super) fn labelled(store: &dyn Store, image: &BlobName, label: &str) -> Option<BlobName> {
    let plain = label.strip_prefix("./").unwrap_or(label);
    // What has a colon before the first slash is a protocol to QEMU, not a file.
    let is_protocol = label.split('/').next().is_some_and(|first| first.contains(':'));
    if is_protocol {
        return None;
    }
    if let (false, Ok(own)) = (image.is_in_base(), BlobName::parse(plain)) {
        return Some(own);
    }
    if label.starts_with('/') {
        return store.name_of(label);
    }
    let image = store.location(image);
    let (folder, _) = image.rsplit_once('/')?;
    store.name_of(&format!("{folder}/{plain}"))
}

/// The rule that a label breaks which names anything else.
pub(super) fn outside(what: &str, label: &str) -> String {
    format!(
        "its {what} {label:?} is not the name of a file in the pool's directory or in a declared base directory"
    )
}

/// The rule that a file breaks which is not there.
pub(super) fn absent(name: &BlobName) -> &'static str {
    if name.is_in_base() {
        "it is not in a declared base directory"
    } else {
        "it is not in the pool's directory"
    }
}
