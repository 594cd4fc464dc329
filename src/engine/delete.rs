//! The words in which a deletion is asked for. Deleting itself is not there yet; a group can be ungrouped.

use super::uuid_arg::UuidArg;
use crate::plan::refusal::Refusal;
use std::fmt;
use std::str::FromStr;

/// What happens when a member refuses to be deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeleteMode {
    /// Every member is checked first; when one refuses, nothing is deleted.
    #[default]
    Permissive,
    /// Refusals are overruled: every member leaves the books, and what its bytes still owe is listed.
    Enforcing,
}

impl DeleteMode {
    /// The mode as it is written in a request.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Permissive => "Permissive",
            Self::Enforcing => "Enforcing",
        }
    }
}

impl fmt::Display for DeleteMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DeleteMode {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        match text.trim() {
            "Permissive" => Ok(Self::Permissive),
            "Enforcing" => Ok(Self::Enforcing),
            other => Err(Refusal::BadValue {
                what: format!("delete mode {other:?}"),
                rule: "Permissive or Enforcing",
            }),
        }
    }
}

/// What goes with a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeleteScope {
    /// The snapshot alone; its children live on.
    #[default]
    Single,
    /// The snapshot and everything that descends from it.
    Chain,
}

/// Whether a refusing member keeps the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Members {
    /// All are deleted, or none.
    #[default]
    AllOrNone,
    /// The willing ones are deleted, the others stay.
    EachOnItsOwn,
}

/// The deletion of a group with its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteGroup {
    /// The group.
    pub uuid: UuidArg,
    /// What happens when a member refuses.
    pub mode: DeleteMode,
    /// What goes with each member.
    pub scope: DeleteScope,
    /// Whether a refusing member keeps the others.
    pub members: Members,
}

impl DeleteGroup {
    /// A deletion with this crate's defaults: all or none, the members alone.
    #[must_use]
    pub fn new(uuid: impl Into<UuidArg>) -> Self {
        Self {
            uuid: uuid.into(),
            mode: DeleteMode::default(),
            scope: DeleteScope::default(),
            members: Members::default(),
        }
    }

    /// A deletion with the defaults of the API that this crate carries over: each member on its own, with
    /// everything that descends from it.
    #[must_use]
    pub fn as_the_api_does(uuid: impl Into<UuidArg>) -> Self {
        Self { scope: DeleteScope::Chain, members: Members::EachOnItsOwn, ..Self::new(uuid) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::refusal::Code;

    #[test]
    fn a_mode_that_is_none_is_an_invalid_argument_that_names_the_modes() {
        assert_eq!("Enforcing".parse(), Ok(DeleteMode::Enforcing));
        let Err(refusal) = "enforce".parse::<DeleteMode>() else { panic!("it was taken") };
        assert_eq!(refusal.code(), Code::InvalidArgument);
        assert_eq!(
            refusal.to_string(),
            r#"delete mode "enforce" is not a valid value: Permissive or Enforcing"#
        );
    }
}
