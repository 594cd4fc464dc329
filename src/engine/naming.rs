//! Which file a name stands for that a caller or a header gives: one of the pool's directory, or one of a base directory
//! that was declared. No other one is opened.

use super::adopt::not_adoptable;
use super::adopt_rule::AdoptRule;
use super::error::{Error, Result};
use crate::catalog::LayerFormat;
use crate::image::Facts;
use crate::storage::{BlobName, Store};

/// A file and its format, as an owner or a header names it.
pub(super) type Named = (BlobName, LayerFormat);

/// The file that a caller names: by its name in the pool's directory, or by its path.
pub(super) fn said(store: &dyn Store, file: &str) -> Result<BlobName> {
    let refused = |rule| Error::NotAdoptable { blob: file.to_owned(), rule };
    if file.starts_with('/') {
        return store.name_of(file).ok_or_else(|| refused(AdoptRule::OutOfReach));
    }
    BlobName::parse(file).map_err(|error| refused(AdoptRule::Name(error)))
}

/// The file below an image, by the label in its header, with its format.
pub(super) fn backing_of(store: &dyn Store, name: &BlobName, facts: &Facts) -> Result<Option<Named>> {
    let Some(label) = &facts.backing_label else { return Ok(None) };
    let format = match facts.backing_format.as_deref() {
        Some("qcow2") => LayerFormat::Qcow2,
        Some("raw") => LayerFormat::Raw,
        Some(other) => {
            let (label, format) = (label.clone(), other.to_owned());
            return Err(not_adoptable(name, AdoptRule::BackingFormat { label, format }));
        }
        None => return Err(not_adoptable(name, AdoptRule::NoBackingFormat { label: label.clone() })),
    };
    match labelled(store, name, label) {
        Some(below) => Ok(Some((below, format))),
        None => Err(not_adoptable(name, AdoptRule::BackingOutOfReach { label: label.clone() })),
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

/// The rule that a file breaks which is not there.
pub(super) fn absent(name: &BlobName) -> AdoptRule {
    if name.is_in_base() { AdoptRule::AbsentInBase } else { AdoptRule::Absent }
}
