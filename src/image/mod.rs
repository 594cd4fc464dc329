//! One qcow2 file on a blob.
