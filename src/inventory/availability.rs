//! Whether a machine can be reverted to a group, and every reason why not.

use super::wire::uuid_simple;
use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

/// A thing by its uuid and its name.
///
/// An example is at [`GroupInventory`](crate::inventory::GroupInventory).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The uuid.
    #[serde(with = "uuid_simple")]
    pub uuid: Uuid,
    /// The name.
    pub name: String,
}

/// Whether a group is available.
#[doc = include_str!("../engine/examples/groups.md")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct AvailabilityInventory {
    /// The group.
    #[serde(with = "uuid_simple")]
    pub uuid: Uuid,
    /// Whether the machine can be reverted to it as a whole.
    pub available: bool,
    /// The reasons as text, one in each line; empty when the group is available.
    pub reason: String,
    /// The same reasons as values, in the same order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<UnavailableReason>,
}

/// Why a group is not available. In JSON an object whose `kind` names the variant.
#[doc = include_str!("../engine/examples/groups.md")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind")]
#[non_exhaustive]
pub enum UnavailableReason {
    /// Members were deleted.
    MembersDeleted {
        /// Those members.
        snapshots: Vec<Named>,
    },
    /// The volumes of members are no longer attached to the machine.
    VolumesDetached {
        /// Those volumes.
        volumes: Vec<Named>,
    },
    /// Volumes were attached to the machine since.
    VolumesAttachedSince {
        /// Those volumes.
        volumes: Vec<Named>,
    },
    /// A deep check found a member's file missing, or not what the catalogue says.
    FilesDamaged {
        /// Those members.
        snapshots: Vec<Named>,
    },
}

impl AvailabilityInventory {
    /// The availability of the group `uuid`, which is given when there is no reason against it.
    #[must_use]
    pub fn new(uuid: Uuid, reasons: Vec<UnavailableReason>) -> Self {
        let lines: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        Self { uuid, available: reasons.is_empty(), reason: lines.join("\n"), reasons }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[uuid:{}, name:{}]", self.uuid.as_simple(), self.name)
    }
}

impl fmt::Display for UnavailableReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MembersDeleted { snapshots } => write!(
                f,
                "snapshot(s) {} in the group has been deleted, can only revert one by one.",
                listed(snapshots)
            ),
            Self::VolumesDetached { volumes } => write!(
                f,
                "volume(s) {} is no longer attached, can only revert one by one. \
                 If you need to group revert, please re-attach it.",
                listed(volumes)
            ),
            Self::VolumesAttachedSince { volumes } => write!(
                f,
                "new volume(s) {} attached after snapshot point, can only revert one by one. \
                 If you need to group revert, please detach it.",
                listed(volumes)
            ),
            Self::FilesDamaged { snapshots } => write!(
                f,
                "the file(s) of snapshot(s) {} are missing or damaged; check the pool.",
                listed(snapshots)
            ),
        }
    }
}

/// The things one after the other, as the API lists them.
fn listed(things: &[Named]) -> String {
    let things: Vec<String> = things.iter().map(ToString::to_string).collect();
    things.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(digit: u128, name: &str) -> Named {
        Named { uuid: Uuid::from_u128(digit), name: name.to_owned() }
    }

    #[test]
    fn a_group_without_a_reason_is_available_and_says_nothing() -> Result<(), serde_json::Error> {
        let answer = AvailabilityInventory::new(Uuid::from_u128(1), vec![]);
        let json = r#"{"uuid":"00000000000000000000000000000001","available":true,"reason":""}"#;
        assert_eq!(serde_json::to_string(&answer)?, json);
        assert_eq!(serde_json::from_str::<AvailabilityInventory>(json)?, answer);
        Ok(())
    }

    #[test]
    fn every_reason_has_a_line_and_a_value() -> Result<(), serde_json::Error> {
        let answer = AvailabilityInventory::new(
            Uuid::from_u128(1),
            vec![
                UnavailableReason::MembersDeleted { snapshots: vec![named(2, "a"), named(3, "b")] },
                UnavailableReason::VolumesDetached { volumes: vec![named(4, "c")] },
                UnavailableReason::VolumesAttachedSince { volumes: vec![named(5, "d")] },
            ],
        );
        assert!(!answer.available);
        let lines: Vec<&str> = answer.reason.split('\n').collect();
        let [deleted, detached, attached] = lines[..] else { panic!("{lines:?}") };
        assert_eq!(
            deleted,
            "snapshot(s) [uuid:00000000000000000000000000000002, name:a], \
             [uuid:00000000000000000000000000000003, name:b] in the group has been deleted, \
             can only revert one by one."
        );
        assert!(detached.ends_with("please re-attach it."), "{detached}");
        assert!(attached.ends_with("please detach it."), "{attached}");
        let json = serde_json::to_value(&answer)?;
        assert_eq!(json["reasons"][1]["kind"], "VolumesDetached");
        assert_eq!(serde_json::from_value::<AvailabilityInventory>(json)?, answer);
        Ok(())
    }
}
