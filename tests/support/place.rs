//! Where pools lie that are made and thrown away by the thousand.

use tempfile::TempDir;

/// One of so many lies where temporary files lie.
const ORDINARY: u64 = 20;

/// A directory in memory where there is such a file system: its calls are those of any other one, and its syncs cost
/// nothing. One in [`ORDINARY`] seeds has its directory among other temporary files, and all have where there is none.
pub(crate) fn directory(seed: u64) -> TempDir {
    let in_memory = match seed.is_multiple_of(ORDINARY) {
        true => None,
        false => TempDir::new_in("/dev/shm").ok(),
    };
    in_memory.map_or_else(TempDir::new, Ok).expect("a directory")
}
