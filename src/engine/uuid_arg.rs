//! A uuid as callers give it: already parsed, or as text that is parsed at the door.

use crate::plan::refusal::Refusal;
use crate::plan::text;
use uuid::Uuid;

/// A uuid in a request: a [`Uuid`], or text of 32 hex digits with or without dashes.
///
/// Text that is no uuid is refused by the call that it is given to, with SYS.1007.
#[doc = include_str!("examples/snapshots.md")]
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(from = "String")]
pub struct UuidArg(Given);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Given {
    Uuid(Uuid),
    Text(String),
}

impl UuidArg {
    /// The uuid, or why it is none.
    pub(super) fn parse(&self) -> Result<Uuid, Refusal> {
        match &self.0 {
            Given::Uuid(uuid) if !uuid.is_nil() => Ok(*uuid),
            Given::Uuid(uuid) => text::uuid(&uuid.simple().to_string()),
            Given::Text(given) => text::uuid(given.trim()),
        }
    }
}

/// As [`UuidArg::parse`], for one that may be left out.
pub(super) fn parse_optional(arg: Option<&UuidArg>) -> Result<Option<Uuid>, Refusal> {
    arg.map(UuidArg::parse).transpose()
}

impl From<Uuid> for UuidArg {
    fn from(uuid: Uuid) -> Self {
        Self(Given::Uuid(uuid))
    }
}

impl From<&Uuid> for UuidArg {
    fn from(uuid: &Uuid) -> Self {
        Self(Given::Uuid(*uuid))
    }
}

impl From<&str> for UuidArg {
    fn from(text: &str) -> Self {
        Self(Given::Text(text.to_owned()))
    }
}

impl From<String> for UuidArg {
    fn from(text: String) -> Self {
        Self(Given::Text(text))
    }
}

impl From<&UuidArg> for UuidArg {
    fn from(arg: &UuidArg) -> Self {
        arg.clone()
    }
}
