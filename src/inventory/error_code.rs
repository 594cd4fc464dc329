//! What went wrong, in the API's shape.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// An error as the API shows it: a stable code, its fixed description, the details of this case, and its cause.
#[doc = include_str!("../engine/examples/errors.md")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ErrorCode {
    /// The code, such as `SYS.1006`.
    pub code: String,
    /// What the code stands for: always the same text for the same code.
    pub description: String,
    /// What happened this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
    /// Reserved by the API; absent in what this crate answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elaboration: Option<String>,
    /// Values that belong to the error, by name. Reserved by the API; absent in what this crate answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opaque: Option<BTreeMap<String, String>>,
    /// What led to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Box<ErrorCode>>,
}

impl ErrorCode {
    /// An error without details and cause.
    #[must_use]
    pub fn new(code: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            description: description.into(),
            details: None,
            elaboration: None,
            opaque: None,
            cause: None,
        }
    }

    /// The same error with details.
    #[must_use]
    pub fn with_details(self, details: impl Into<String>) -> Self {
        Self { details: Some(details.into()), ..self }
    }

    /// The same error with what led to it.
    #[must_use]
    pub fn with_cause(self, cause: Self) -> Self {
        Self { cause: Some(Box::new(cause)), ..self }
    }

    /// The error at the bottom: the last cause, or the error itself when it has none.
    ///
    /// ```
    /// use snapgroup::inventory::ErrorCode;
    ///
    /// let held = ErrorCode::new("VOLUME_SNAPSHOT.1002", "batch delete error");
    /// let error = ErrorCode::new("SYS.1004", "failed to delete a resource").with_cause(held.clone());
    /// assert_eq!(error.root(), &held);
    /// ```
    #[must_use]
    pub fn root(&self) -> &Self {
        let mut error = self;
        while let Some(cause) = &error.cause {
            error = cause;
        }
        error
    }

    /// The details with everything that led to them, and the code, on one line. What a cause repeats is said once.
    ///
    /// ```
    /// use snapgroup::inventory::ErrorCode;
    ///
    /// let full = ErrorCode::new("SYS.1009", "input or output failed").with_details("no space is left");
    /// let error = ErrorCode::new("SYS.1009", "input or output failed").with_details("writing x failed").with_cause(full);
    /// assert_eq!(error.on_one_line(), "writing x failed: no space is left (SYS.1009)");
    /// ```
    #[must_use]
    pub fn on_one_line(&self) -> String {
        let mut said = self.details.clone().unwrap_or_else(|| self.description.clone());
        let mut cause = self.cause.as_deref();
        while let Some(deeper) = cause {
            if let Some(details) = deeper.details.as_ref().filter(|details| !said.ends_with(*details)) {
                said = format!("{said}: {details}");
            }
            cause = deeper.cause.as_deref();
        }
        format!("{said} ({})", self.code)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.description)?;
        match &self.details {
            Some(details) => write!(f, ": {details}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ErrorCode {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    #[test]
    fn an_error_shows_itself_and_hands_on_its_cause() {
        let cause = ErrorCode::new("VOLUME_SNAPSHOT.1002", "batch delete error");
        let error =
            ErrorCode::new("SYS.1004", "delete error").with_details("held by a clone").with_cause(cause);
        assert_eq!(error.to_string(), "SYS.1004: delete error: held by a clone");
        let source = error.source().map(ToString::to_string);
        assert_eq!(source.as_deref(), Some("VOLUME_SNAPSHOT.1002: batch delete error"));
    }

    #[test]
    fn a_cause_that_says_the_same_is_said_once() {
        let error = |details: &str| {
            ErrorCode::new("SYS.1006", "it cannot be done now").with_details(details.to_owned())
        };
        let refused = error("the file x is missing").with_cause(error("the file x is missing"));
        assert_eq!(refused.on_one_line(), "the file x is missing (SYS.1006)");
        let failed = error("writing x failed").with_cause(error("no space"));
        assert_eq!(failed.on_one_line(), "writing x failed: no space (SYS.1006)");
    }

    #[test]
    fn reserved_fields_that_are_null_are_read_as_absent() -> Result<(), serde_json::Error> {
        let json =
            r#"{"code":"SYS.1000","description":"internal","elaboration":null,"opaque":null,"cause":null}"#;
        assert_eq!(serde_json::from_str::<ErrorCode>(json)?, ErrorCode::new("SYS.1000", "internal"));
        Ok(())
    }
}
