//! The door: plain calls in, inventories out.
