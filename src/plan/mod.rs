//! Decisions: a view and a wish in, a plan or a refusal out. No store, no clock, no randomness.
//!
//! Everything that a plan needs from outside - the moment, fresh uuids, what was found on disk - comes in with
//! the wish. So the same view and the same wish give the same plan, and a plan can be made without being run.

pub(crate) mod adopt;
pub(crate) mod books;
pub(crate) mod delete;
pub(crate) mod freeze;
pub(crate) mod full;
pub(crate) mod group;
pub(crate) mod live;
pub(crate) mod machine;
pub(crate) mod quota;
pub(crate) mod reclaim;
pub(crate) mod refusal;
pub(crate) mod retention;
pub(crate) mod revert;
pub(crate) mod text;
pub(crate) mod volume;

use crate::catalog::{Edit, LayerRecord};

/// What shall be done: files that are made, then records that are published in one commit.
#[derive(Clone, Debug, Default)]
#[must_use = "a plan changes nothing until it is performed"]
pub(crate) struct Plan {
    /// New overlays and empty images: files that no record names yet, so that they can be undone.
    pub(crate) files: Vec<NewFile>,
    /// What is published.
    pub(crate) edits: Vec<Edit>,
}

/// An image file to be made: a pure function of its record, and of what the books say around it.
#[derive(Clone, Debug)]
pub(crate) struct NewFile {
    pub(crate) layer: LayerRecord,
    pub(crate) backing_format: Option<crate::catalog::LayerFormat>,
    pub(crate) volume_uuid: uuid::Uuid,
}
