//! What a file shows, by QEMU.

use crate::qemu::Qemu;
use std::error::Error;
use std::path::Path;

/// Sees that QEMU reads exactly these bytes of an image and everything below it. It may be open here.
pub(crate) fn assert_shows(directory: &Path, file: &str, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let qemu = Qemu::in_directory(directory);
    let expected = directory.join("shown.raw");
    std::fs::write(&expected, bytes)?;
    let said = qemu.img(&["compare", "-U", "-f", "qcow2", "-F", "raw", file, "shown.raw"]);
    // Of two sizes QEMU only warns, when the rest of the larger one is zeros.
    assert_eq!(said, "Images are identical.\n", "{file}");
    std::fs::remove_file(expected)?;
    Ok(())
}
