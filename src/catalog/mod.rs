//! What exists: records, their tables, edits and views. Never opens an image.
