//! What a call answers: its result or an error, in the API's envelopes.

use super::wire::{uuid_optional, whole_optional};
use super::{ErrorCode, GroupInventory};
use crate::units::ByteCount;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What became of one member in a deletion.
///
/// Another example is at [`InventoryAnswer`].
#[doc = include_str!("../engine/examples/how_to_delete.md")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DeleteResult {
    /// The snapshot. Always present in what this crate answers.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "uuid_optional")]
    pub snapshot_uuid: Option<Uuid>,
    /// Its volume. Absent when the snapshot was gone before and nothing remembers whose it was.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "uuid_optional")]
    pub volume_uuid: Option<Uuid>,
    /// Whether it is gone and nothing went wrong. True exactly when there is no error.
    pub success: bool,
    /// Why it was not deleted; of an enforcing deletion also what could not be done with its bytes although it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorCode>,
    /// Whether it had been deleted before the call.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub already_deleted: bool,
}

impl DeleteResult {
    /// The line of a snapshot: a success, unless there is an error.
    #[must_use]
    pub fn new(
        snapshot_uuid: Uuid,
        volume_uuid: impl Into<Option<Uuid>>,
        outcome: Result<(), ErrorCode>,
    ) -> Self {
        Self {
            snapshot_uuid: Some(snapshot_uuid),
            volume_uuid: volume_uuid.into(),
            success: outcome.is_ok(),
            error: outcome.err(),
            already_deleted: false,
        }
    }

    /// The line of a snapshot that was gone before the call: a success.
    #[must_use]
    pub fn already_deleted(snapshot_uuid: Uuid, volume_uuid: impl Into<Option<Uuid>>) -> Self {
        Self { already_deleted: true, ..Self::new(snapshot_uuid, volume_uuid, Ok(())) }
    }
}

/// What became of one member in a revert.
///
/// Another example is at [`InventoryAnswer`].
#[doc = include_str!("../engine/examples/reverting.md")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RevertResult {
    /// The snapshot that the volume went back to. Always present in what this crate answers.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "uuid_optional")]
    pub snapshot_uuid: Option<Uuid>,
    /// The volume. Always present in what this crate answers.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "uuid_optional")]
    pub volume_uuid: Option<Uuid>,
    /// Whether it went back. True exactly when there is no error.
    pub success: bool,
    /// Why it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorCode>,
    /// The virtual size before the revert; present only when the revert changed it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole_optional")]
    pub virtual_size_before: Option<ByteCount>,
    /// The virtual size after the revert; present only when the revert changed it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole_optional")]
    pub virtual_size: Option<ByteCount>,
}

impl RevertResult {
    /// The line of a volume that went back to a snapshot, its virtual size with it.
    #[must_use]
    pub fn reverted(snapshot_uuid: Uuid, volume_uuid: Uuid, before: ByteCount, after: ByteCount) -> Self {
        let changed = before != after;
        Self {
            snapshot_uuid: Some(snapshot_uuid),
            volume_uuid: Some(volume_uuid),
            success: true,
            error: None,
            virtual_size_before: changed.then_some(before),
            virtual_size: changed.then_some(after),
        }
    }

    /// The line of a volume that did not go back.
    #[must_use]
    pub fn refused(snapshot_uuid: Uuid, volume_uuid: Uuid, error: ErrorCode) -> Self {
        Self {
            snapshot_uuid: Some(snapshot_uuid),
            volume_uuid: Some(volume_uuid),
            success: false,
            error: Some(error),
            virtual_size_before: None,
            virtual_size: None,
        }
    }
}

/// The answer to a call that shows one thing: `{"inventory": ...}` or `{"error": ...}`.
#[doc = include_str!("examples/answers.md")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "InventoryWire<T>", into = "InventoryWire<T>")]
#[serde(bound(serialize = "T: Clone + Serialize", deserialize = "T: Deserialize<'de>"))]
pub struct InventoryAnswer<T>(pub Result<T, ErrorCode>);

/// The answer to a query: `{"inventories": [...]}` or `{"error": ...}`.
///
/// An example is at [`InventoryAnswer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "InventoriesWire<T>", into = "InventoriesWire<T>")]
#[serde(bound(serialize = "T: Clone + Serialize", deserialize = "T: Deserialize<'de>"))]
pub struct InventoriesAnswer<T>(pub Result<Vec<T>, ErrorCode>);

/// The answer to a call with a line for each member: `{"results": [...]}` or `{"error": ...}`.
///
/// An example is at [`InventoryAnswer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ResultsWire<T>", into = "ResultsWire<T>")]
#[serde(bound(serialize = "T: Clone + Serialize", deserialize = "T: Deserialize<'de>"))]
pub struct ResultsAnswer<T>(pub Result<Vec<T>, ErrorCode>);

/// The answer to a call that makes or changes a group.
///
/// An example is at [`InventoryAnswer`].
pub type GroupAnswer = InventoryAnswer<GroupInventory>;

/// The answer to a call that deletes a group.
///
/// An example is at [`InventoryAnswer`].
pub type DeleteAnswer = ResultsAnswer<DeleteResult>;

/// Writes the fields of one envelope: either `error` or the other one is there, and what has both or neither
/// is no answer.
macro_rules! envelope_wire {
    ($answer:ident, $wire:ident, $field:ident: $content:ty) => {
        #[derive(Serialize, Deserialize)]
        struct $wire<T> {
            #[serde(default = "absent", skip_serializing_if = "Option::is_none")]
            error: Option<ErrorCode>,
            #[serde(default = "absent", skip_serializing_if = "Option::is_none")]
            $field: Option<$content>,
        }

        impl<T> From<$answer<T>> for $wire<T> {
            fn from(answer: $answer<T>) -> Self {
                match answer.0 {
                    Ok(content) => Self { error: None, $field: Some(content) },
                    Err(error) => Self { error: Some(error), $field: None },
                }
            }
        }

        impl<T> TryFrom<$wire<T>> for $answer<T> {
            type Error = &'static str;

            fn try_from(wire: $wire<T>) -> Result<Self, &'static str> {
                match (wire.$field, wire.error) {
                    (Some(content), None) => Ok(Self(Ok(content))),
                    (None, Some(error)) => Ok(Self(Err(error))),
                    (Some(_), Some(_)) => {
                        Err(concat!("an answer has either `error` or `", stringify!($field), "`, not both"))
                    }
                    (None, None) => {
                        Err(concat!("an answer has `error` or `", stringify!($field), "`, not neither"))
                    }
                }
            }
        }
    };
}

envelope_wire!(InventoryAnswer, InventoryWire, inventory: T);
envelope_wire!(InventoriesAnswer, InventoriesWire, inventories: Vec<T>);
envelope_wire!(ResultsAnswer, ResultsWire, results: Vec<T>);

/// `Option::default` without asking for a default of what is absent.
fn absent<T>() -> Option<T> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_result_or_an_error() -> Result<(), serde_json::Error> {
        let none: DeleteAnswer = ResultsAnswer(Ok(vec![]));
        assert_eq!(serde_json::to_string(&none)?, r#"{"results":[]}"#);
        assert_eq!(serde_json::from_str::<DeleteAnswer>(r#"{"results":[],"error":null}"#)?, none);
        let refused: DeleteAnswer = ResultsAnswer(Err(ErrorCode::new("SYS.1007", "invalid argument")));
        let json = r#"{"error":{"code":"SYS.1007","description":"invalid argument"}}"#;
        assert_eq!(serde_json::to_string(&refused)?, json);
        assert_eq!(serde_json::from_str::<DeleteAnswer>(json)?, refused);
        for wrong in ["{}", r#"{"results":[],"error":{"code":"SYS.1000","description":"internal"}}"#] {
            let Err(_) = serde_json::from_str::<DeleteAnswer>(wrong) else { panic!("{wrong} was read") };
        }
        Ok(())
    }

    #[test]
    fn a_line_succeeds_exactly_without_an_error() {
        let (snapshot, volume) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert!(DeleteResult::new(snapshot, volume, Ok(())).success);
        assert!(DeleteResult::already_deleted(snapshot, volume).success);
        let error = ErrorCode::new("SYS.1004", "delete error");
        let refused = DeleteResult::new(snapshot, volume, Err(error.clone()));
        assert_eq!((refused.success, refused.error), (false, Some(error)));
    }

    #[test]
    fn a_revert_tells_the_size_only_when_it_changed() {
        let (snapshot, volume) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let same = RevertResult::reverted(snapshot, volume, ByteCount::gib(1), ByteCount::gib(1));
        assert_eq!((same.virtual_size_before, same.virtual_size), (None, None));
        let grown = RevertResult::reverted(snapshot, volume, ByteCount::gib(2), ByteCount::gib(1));
        assert_eq!(grown.virtual_size_before, Some(ByteCount::gib(2)));
        assert_eq!(grown.virtual_size, Some(ByteCount::gib(1)));
    }
}
