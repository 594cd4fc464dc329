//! The shapes that callers are shown.
